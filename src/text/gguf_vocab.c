/* gguf_vocab.c: the keys tokenizer.* of GGUF's metadata (gguf-py, constants.py) and the struct that stands for them, both ways. What the
 * values mean is gguf_read.c's and gguf_write.c's business. */
#include "text/gguf_vocab.h"

#include <string.h>

#include "base/mem.h"

/* The scalar members, by the names that llama.cpp gave the keys ("seperator" included). */
typedef struct id_key {
    const char *key;
    size_t at;
} id_key;
static const id_key IDS[] = {{"tokenizer.ggml.bos_token_id", offsetof(assay_gguf_vocab, bos)},
                             {"tokenizer.ggml.eos_token_id", offsetof(assay_gguf_vocab, eos)},
                             {"tokenizer.ggml.unknown_token_id", offsetof(assay_gguf_vocab, unk)},
                             {"tokenizer.ggml.seperator_token_id", offsetof(assay_gguf_vocab, sep)},
                             {"tokenizer.ggml.padding_token_id", offsetof(assay_gguf_vocab, pad)}};
static const id_key FLAGS[] = {{"tokenizer.ggml.add_bos_token", offsetof(assay_gguf_vocab, add_bos)},
                               {"tokenizer.ggml.add_eos_token", offsetof(assay_gguf_vocab, add_eos)},
                               {"tokenizer.ggml.add_space_prefix", offsetof(assay_gguf_vocab, add_space_prefix)},
                               {"tokenizer.ggml.remove_extra_whitespaces", offsetof(assay_gguf_vocab, remove_extra_whitespaces)}};

/* --- reading --- */

typedef struct reader {
    assay_gguf_vocab *v;
    const assay_gguf *g;
    assay_arena a;
    assay_err *err;
} reader;

static void read_text(assay_token_text *out, const reader *r, const char *key) {
    const char *s;
    size_t n;
    if (assay_gguf_string(&s, &n, r->g, assay_gguf_find(r->g, key), 0) && n <= UINT32_MAX) *out = (assay_token_text){s, (uint32_t)n};
}

static assay_status read_texts(const assay_token_text **out, size_t *n, reader *r, const char *key) {
    const assay_gguf_value *v = assay_gguf_find(r->g, key);
    if (!v) return ASSAY_OK;
    if (v->type != ASSAY_GGUF_ARRAY || v->element != ASSAY_GGUF_STRING)
        return assay_fail(r->err, ASSAY_EINPUT, "%s is no list of texts", key);
    assay_token_text *list = assay_arena_alloc(&r->a, ((size_t)v->n + 1) * sizeof *list);
    if (!list) return assay_nomem(r->err);
    for (uint64_t i = 0; i < v->n; i++) {
        const char *s;
        size_t length;
        if (!assay_gguf_string(&s, &length, r->g, v, i)) return assay_nomem(r->err);
        if (length > UINT32_MAX) return assay_fail(r->err, ASSAY_EINPUT, "%s[%llu] has %zu bytes", key, (unsigned long long)i, length);
        list[i] = (assay_token_text){s, (uint32_t)length};
    }
    *out = list;
    *n = (size_t)v->n;
    return ASSAY_OK;
}

/* A list of as many numbers as there are tokens, or none. */
static assay_status find_numbers(const assay_gguf_value **out, const reader *r, const char *key) {
    const assay_gguf_value *v = *out = assay_gguf_find(r->g, key);
    if (!v || (v->type == ASSAY_GGUF_ARRAY && v->element != ASSAY_GGUF_STRING && v->n == r->v->n_tokens)) return ASSAY_OK;
    return assay_fail(r->err, ASSAY_EINPUT, "%s is no list of %zu numbers, one per token", key, r->v->n_tokens);
}

static assay_status read_numbers(reader *r) {
    const assay_gguf_value *scores, *types;
    size_t n = r->v->n_tokens;
    ASSAY_TRY(find_numbers(&scores, r, "tokenizer.ggml.scores"));
    ASSAY_TRY(find_numbers(&types, r, "tokenizer.ggml.token_type"));
    float *f = scores ? assay_arena_alloc(&r->a, (n + 1) * sizeof *f) : NULL;
    int32_t *t = types ? assay_arena_alloc(&r->a, (n + 1) * sizeof *t) : NULL;
    if ((scores && !f) || (types && !t)) return assay_nomem(r->err);
    for (size_t i = 0; i < n; i++) {
        double score;
        int64_t type;
        if (f && assay_gguf_float(&score, r->g, scores, i)) f[i] = (float)score;
        if (t && assay_gguf_int(&type, r->g, types, i)) t[i] = type > 0 && type < 7 ? (int32_t)type : ASSAY_TOKEN_NORMAL;
    }
    r->v->scores = f;
    r->v->types = t;
    return ASSAY_OK;
}

static assay_status read_all(reader *r) {
    int64_t i;
    read_text(&r->v->model, r, "tokenizer.ggml.model");
    if (!r->v->model.s) return assay_fail(r->err, ASSAY_ENOTFOUND, "there is no tokenizer.ggml.model");
    read_text(&r->v->pre, r, "tokenizer.ggml.pre");
    read_text(&r->v->chat_template, r, "tokenizer.chat_template");
    ASSAY_TRY(read_texts(&r->v->tokens, &r->v->n_tokens, r, "tokenizer.ggml.tokens"));
    ASSAY_TRY(read_texts(&r->v->merges, &r->v->n_merges, r, "tokenizer.ggml.merges"));
    ASSAY_TRY(read_numbers(r));
    for (size_t k = 0; k < ASSAY_LEN(IDS); k++)
        if (assay_gguf_int(&i, r->g, assay_gguf_find(r->g, IDS[k].key), 0) && i >= 0 && i <= INT32_MAX)
            *(int32_t *)((char *)r->v + IDS[k].at) = (int32_t)i;
    for (size_t k = 0; k < ASSAY_LEN(FLAGS); k++)
        if (assay_gguf_int(&i, r->g, assay_gguf_find(r->g, FLAGS[k].key), 0))
            *(assay_flag *)((char *)r->v + FLAGS[k].at) = i ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE;
    const assay_gguf_value *map = assay_gguf_find(r->g, "tokenizer.ggml.precompiled_charsmap");
    if (map && map->type == ASSAY_GGUF_ARRAY && (map->element == ASSAY_GGUF_U8 || map->element == ASSAY_GGUF_I8)) {
        r->v->charsmap = map->data;
        r->v->n_charsmap = map->n_bytes;
    }
    return ASSAY_OK;
}

assay_status assay_gguf_vocab_read(assay_gguf_vocab *out, const assay_gguf *g, assay_err *err) {
    *out = (assay_gguf_vocab)ASSAY_GGUF_VOCAB_INIT;
    reader r = {.v = out, .g = g, .err = err};
    assay_status s = read_all(&r);
    out->memory = r.a.head;
    if (s != ASSAY_OK) assay_gguf_vocab_free(out);
    return s;
}

/* --- writing --- */

static void put_text(assay_str *out, uint64_t *n, const char *key, assay_token_text t) {
    if (!t.s) return;
    assay_gguf_put_string(out, key, t.s, t.n);
    ++*n;
}

static void put_texts(assay_str *out, uint64_t *n, const char *key, const assay_token_text *list, size_t count) {
    if (!list || !count) return;
    assay_gguf_put_array(out, key, ASSAY_GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) assay_gguf_put_text(out, list[i].s ? list[i].s : "", list[i].n);
    ++*n;
}

static void put_numbers(assay_str *out, uint64_t *n, const char *key, assay_gguf_type type, const void *list, size_t count) {
    if (!list || !count) return;
    assay_gguf_put_array(out, key, type, count);
    for (size_t i = 0; i < count; i++)
        assay_gguf_put_element(out, type, (const char *)list + (type == ASSAY_GGUF_U8 ? 1 : 4) * i);
    ++*n;
}

void assay_gguf_vocab_put(assay_str *out, uint64_t *n, const assay_gguf_vocab *v) {
    put_text(out, n, "tokenizer.ggml.model", v->model);
    put_text(out, n, "tokenizer.ggml.pre", v->pre);
    put_texts(out, n, "tokenizer.ggml.tokens", v->tokens, v->n_tokens);
    put_numbers(out, n, "tokenizer.ggml.scores", ASSAY_GGUF_F32, v->scores, v->n_tokens);
    put_numbers(out, n, "tokenizer.ggml.token_type", ASSAY_GGUF_I32, v->types, v->n_tokens);
    put_texts(out, n, "tokenizer.ggml.merges", v->merges, v->n_merges);
    put_numbers(out, n, "tokenizer.ggml.precompiled_charsmap", ASSAY_GGUF_U8, v->charsmap, v->n_charsmap);
    for (size_t k = 0; k < ASSAY_LEN(IDS); k++) {
        int32_t id = *(const int32_t *)((const char *)v + IDS[k].at);
        if (id < 0) continue;
        assay_gguf_put_int(out, IDS[k].key, ASSAY_GGUF_U32, id);
        ++*n;
    }
    for (size_t k = 0; k < ASSAY_LEN(FLAGS); k++) {
        assay_flag f = *(const assay_flag *)((const char *)v + FLAGS[k].at);
        if (f == ASSAY_FLAG_ABSENT) continue;
        assay_gguf_put_int(out, FLAGS[k].key, ASSAY_GGUF_BOOL, f == ASSAY_FLAG_TRUE);
        ++*n;
    }
    put_text(out, n, "tokenizer.chat_template", v->chat_template);
}

/* --- carrying over --- */

static assay_status copy_values(assay_str *out, uint64_t *n, const char *file, assay_err *err) {
    assay_gguf *g;
    ASSAY_TRY(assay_gguf_open(&g, file, err));
    for (size_t i = 0; i < assay_gguf_n_values(g); i++) {
        const assay_gguf_value *v = assay_gguf_value_at(g, i);
        if (strncmp(v->key, "tokenizer.", 10) != 0) continue;
        assay_gguf_put_value(out, v);
        ++*n;
    }
    assay_gguf_close(g);
    return assay_str_status(out, err);
}

static assay_status put_tokenizer(assay_str *out, uint64_t *n, const char *path, size_t n_vocab, assay_err *err) {
    assay_tokenizer *t = NULL;
    assay_template *tmpl = NULL;
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    assay_err none = {0};
    assay_status s;
    ASSAY_GO(assay_tokenizer_open(&t, path, err));
    s = assay_template_open(&tmpl, path, &none);
    if (s != ASSAY_OK && s != ASSAY_ENOTFOUND) {
        assay_fail(err, s, "%s", none.message);
        goto out;
    }
    ASSAY_GO(assay_tokenizer_to_gguf(&v, t, tmpl, n_vocab, err));
    assay_gguf_vocab_put(out, n, &v);
    s = assay_str_status(out, err);
out:
    assay_gguf_vocab_free(&v);
    assay_template_close(tmpl);
    assay_tokenizer_close(t);
    return s;
}

assay_status assay_gguf_vocab_carry(assay_str *out, uint64_t *n, const char *path, size_t n_vocab, assay_err *err) {
    char *file = NULL;
    assay_status s = assay_gguf_find_file(&file, path, NULL);
    s = s == ASSAY_OK ? copy_values(out, n, file, err) : put_tokenizer(out, n, path, n_vocab, err);
    assay_free(file);
    return s;
}
