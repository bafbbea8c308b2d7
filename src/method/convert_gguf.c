/* convert_gguf.c: what a GGUF file needs besides tensors: the model's settings (format/gguf.h makes them of config.json), its name and
 * licence, and the tokenizer with its chat template as keys tokenizer.ggml.*. Without a tokenizer that llama.cpp has, no GGUF: a file that
 * loads nowhere is no conversion. */
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "method/convert_impl.h"
#include "text/text.h"

struct assay_gguf_extra { /* lives as long as the writer */
    assay_str values;
    uint64_t n;
    char *name;
};

void convert_gguf_free(struct assay_gguf_extra *e) {
    if (!e) return;
    assay_str_free(&e->values);
    assay_free(e->name);
    assay_free(e);
}

static void put_text(struct assay_gguf_extra *e, const char *key, assay_token_text t) {
    if (!t.s) return;
    assay_gguf_put_string(&e->values, key, t.s, t.n);
    e->n++;
}

static void put_texts(struct assay_gguf_extra *e, const char *key, const assay_token_text *t, size_t n) {
    if (!t || !n) return;
    assay_gguf_put_array(&e->values, key, ASSAY_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) assay_gguf_put_text(&e->values, t[i].s, t[i].n);
    e->n++;
}

static void put_array(struct assay_gguf_extra *e, const char *key, assay_gguf_type type, const void *data, size_t size, size_t n) {
    if (!data || !n) return;
    assay_gguf_put_array(&e->values, key, type, n);
    for (size_t i = 0; i < n; i++) assay_gguf_put_element(&e->values, type, (const char *)data + i * size);
    e->n++;
}

static void put_id(struct assay_gguf_extra *e, const char *key, int32_t id) {
    if (id < 0) return;
    assay_gguf_put_int(&e->values, key, ASSAY_GGUF_U32, id);
    e->n++;
}

static void put_flag(struct assay_gguf_extra *e, const char *key, assay_flag f) {
    if (f == ASSAY_FLAG_ABSENT) return;
    assay_gguf_put_int(&e->values, key, ASSAY_GGUF_BOOL, f == ASSAY_FLAG_TRUE);
    e->n++;
}

static void put_vocab(struct assay_gguf_extra *e, const assay_gguf_vocab *v) {
    put_text(e, "tokenizer.ggml.model", v->model);
    put_text(e, "tokenizer.ggml.pre", v->pre);
    put_texts(e, "tokenizer.ggml.tokens", v->tokens, v->n_tokens);
    put_array(e, "tokenizer.ggml.scores", ASSAY_GGUF_F32, v->scores, sizeof *v->scores, v->n_tokens);
    put_array(e, "tokenizer.ggml.token_type", ASSAY_GGUF_I32, v->types, sizeof *v->types, v->n_tokens);
    put_texts(e, "tokenizer.ggml.merges", v->merges, v->n_merges);
    put_id(e, "tokenizer.ggml.bos_token_id", v->bos);
    put_id(e, "tokenizer.ggml.eos_token_id", v->eos);
    put_id(e, "tokenizer.ggml.unknown_token_id", v->unk);
    put_id(e, "tokenizer.ggml.seperator_token_id", v->sep);
    put_id(e, "tokenizer.ggml.padding_token_id", v->pad);
    put_flag(e, "tokenizer.ggml.add_bos_token", v->add_bos);
    put_flag(e, "tokenizer.ggml.add_eos_token", v->add_eos);
    put_flag(e, "tokenizer.ggml.add_space_prefix", v->add_space_prefix);
    put_flag(e, "tokenizer.ggml.remove_extra_whitespaces", v->remove_extra_whitespaces);
    put_array(e, "tokenizer.ggml.precompiled_charsmap", ASSAY_GGUF_U8, v->charsmap, 1, v->n_charsmap);
    put_text(e, "tokenizer.chat_template", v->chat_template);
}

static assay_status put_tokenizer(struct assay_gguf_extra *e, const convert_run *r, assay_err *err) {
    assay_tokenizer *tok = NULL;
    assay_template *tmpl = NULL;
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    assay_err why = {0};
    int64_t n_vocab = json_integer_value(json_object_get(r->config, "vocab_size"));
    assay_status s;
    ASSAY_GO(assay_tokenizer_open(&tok, r->model, err));
    s = assay_template_open(&tmpl, r->model, &why);
    if (s != ASSAY_OK && s != ASSAY_ENOTFOUND) {
        assay_fail(err, s, "%s", why.message);
        goto out;
    }
    ASSAY_GO(assay_tokenizer_to_gguf(&v, tok, tmpl, n_vocab > 0 ? (size_t)n_vocab : 0, err));
    put_vocab(e, &v);
    s = assay_str_status(&e->values, err);
out:
    assay_gguf_vocab_free(&v);
    assay_template_close(tmpl);
    assay_tokenizer_close(tok);
    return s;
}

/* A GGUF's own keys of the tokenizer travel as they are. */
static assay_status take_tokenizer(struct assay_gguf_extra *e, const convert_run *r, assay_err *err) {
    char *path = NULL;
    assay_gguf *g = NULL;
    assay_status s;
    ASSAY_GO(assay_gguf_find_file(&path, r->model, err));
    ASSAY_GO(assay_gguf_open(&g, path, err));
    for (size_t i = 0; i < assay_gguf_n_values(g); i++) {
        const assay_gguf_value *v = assay_gguf_value_at(g, i);
        if (strncmp(v->key, "tokenizer.", 10) != 0) continue;
        assay_gguf_put_value(&e->values, v);
        e->n++;
    }
    s = assay_str_status(&e->values, err);
out:
    assay_gguf_close(g);
    assay_free(path);
    return s;
}

/* The folder's name, as llama.cpp's converter has it. */
static char *name_of(const char *model) {
    size_t n = strlen(model);
    while (n > 1 && model[n - 1] == '/') n--;
    char *path = assay_strndup(model, n), *name = path ? assay_strdup(assay_path_base(path)) : NULL;
    assay_free(path);
    return name;
}

assay_status convert_set_gguf(convert_run *r, assay_err *err) {
    struct assay_gguf_extra *e = assay_calloc(1, sizeof *e);
    r->gguf = e;
    if (!e || !(e->name = name_of(r->model))) return assay_nomem(err);
    ASSAY_TRY(assay_checkpoint_is_gguf(r->source) ? take_tokenizer(e, r, err) : put_tokenizer(e, r, err));
    assay_gguf_target t = {.config = r->config, .name = e->name, .file_type = -1, .values = e->values.s, .n_value_bytes = e->values.len,
                           .n_values = e->n};
    return assay_ckpt_writer_set_gguf(r->writer, &t, err);
}
