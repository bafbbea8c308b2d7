/* tokenizer.c: opens a tokenizer.json (and the names of bos and eos in tokenizer_config.json), or a
 * tokenizer.model (spm_model.c, tiktoken.c), and answers questions about tokens.
 *
 * Follows Hugging Face's tokenizers 0.23. "truncation" and "padding" are settings for batches and are
 * ignored. An added token's id must be the one that the original would assign, else the file is refused.
 * Reading is strict: an unknown type is EUNSUPPORTED, never skipped, because a tokenizer that is nearly right
 * gives silently wrong scores. */
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "text/tiktoken.h"

/* ---- added tokens ---- */

static assay_status parse_added_one(assay_tokenizer *t, const json_t *j, size_t i, int64_t *next_id,
                                    const char *where, assay_err *err) {
    assay_added_token *a = &t->added[i];
    const char *content = NULL;
    int64_t id = -1;
    ASSAY_TRY(assay_json_get_str(&content, j, "content", where, err));
    ASSAY_TRY(assay_json_get_int(&id, j, "id", where, err));
    if (!content || !*content || id < 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: added_tokens[%zu] needs an id and a content", where, i);
    ASSAY_TRY(assay_json_get_bool(&a->single_word, j, "single_word", where, err));
    ASSAY_TRY(assay_json_get_bool(&a->lstrip, j, "lstrip", where, err));
    ASSAY_TRY(assay_json_get_bool(&a->rstrip, j, "rstrip", where, err));
    a->normalized = true;
    ASSAY_TRY(assay_json_get_bool(&a->special, j, "special", where, err));
    a->normalized = !a->special;
    ASSAY_TRY(assay_json_get_bool(&a->normalized, j, "normalized", where, err));
    a->n = json_string_length(json_object_get(j, "content"));
    a->content = assay_strndup(content, a->n);
    if (!a->content) return assay_nomem(err);
    int64_t expected = assay_vocab_find(t->vocab, content, a->n);
    if (expected < 0) expected = assay_vocab_find(&t->added_ids, content, a->n);
    if (expected < 0) expected = (*next_id)++;
    if (id != expected)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: added token '%.60s' has the id %lld where %lld is expected", where, content,
                          (long long)id, (long long)expected);
    a->id = (int32_t)id;
    return assay_vocab_add(&t->added_ids, content, a->n, id, err);
}

static assay_status index_added(assay_tokenizer *t, size_t i, assay_err *err) {
    const assay_added_token *a = &t->added[i];
    if (!a->normalized) return assay_trie_put(&t->raw, a->content, a->n, (int32_t)i, err);
    assay_str s = {0};
    assay_status st = assay_steps_normalize(&s, &t->normalizers, a->content, a->n, err);
    if (st == ASSAY_OK) st = assay_str_status(&s, err);
    if (st == ASSAY_OK && s.len) st = assay_trie_put(&t->matched, s.s, s.len, (int32_t)i, err);
    if (st == ASSAY_OK && (s.len != a->n || memcmp(assay_str_c(&s), a->content, a->n) != 0)) {
        t->normalized[i] = assay_strndup(assay_str_c(&s), s.len);
        if (!t->normalized[i]) st = assay_nomem(err);
    }
    assay_str_free(&s);
    return st;
}

static assay_status parse_added(assay_tokenizer *t, const json_t *list, const char *where, assay_err *err) {
    if (!list || json_is_null(list)) return ASSAY_OK;
    if (!json_is_array(list))
        return assay_fail(err, ASSAY_EINPUT, "%s: added_tokens must be an array", where);
    size_t n = json_array_size(list);
    t->added = assay_calloc(n ? n : 1, sizeof *t->added);
    t->normalized = assay_calloc(n ? n : 1, sizeof *t->normalized);
    if (!t->added || !t->normalized) return assay_nomem(err);
    t->n_added = n;
    int64_t next_id = (int64_t)t->vocab->n_keys;
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, i);
        if (!json_is_object(j))
            return assay_fail(err, ASSAY_EINPUT, "%s: added_tokens[%zu] must be an object", where, i);
        ASSAY_TRY(parse_added_one(t, j, i, &next_id, where, err));
        ASSAY_TRY(index_added(t, i, err));
    }
    return ASSAY_OK;
}

assay_status assay_tokenizer_index(assay_tokenizer *t, assay_err *err) {
    t->n_tokens = ASSAY_MAX(t->vocab->n_ids, t->added_ids.n_ids);
    t->tokens = assay_calloc(t->n_tokens ? t->n_tokens : 1, sizeof *t->tokens);
    if (!t->tokens) return assay_nomem(err);
    for (size_t i = 0; i < t->vocab->n_ids; i++)
        t->tokens[i].content = t->tokens[i].decode = t->vocab->by_id[i];
    for (size_t i = 0; i < t->n_added; i++) {
        const assay_added_token *a = &t->added[i];
        assay_token_info *k = &t->tokens[a->id];
        k->content = k->decode = (assay_token_text){a->content, (uint32_t)a->n};
        if (t->normalized && t->normalized[i])
            k->decode = (assay_token_text){t->normalized[i], (uint32_t)strlen(t->normalized[i])};
        k->special = a->special;
    }
    return ASSAY_OK;
}

assay_status assay_tokenizer_wrap(assay_tokenizer *t, assay_err *err) {
    if (t->add_bos && t->bos >= 0) ASSAY_TRY(assay_ids_put(&t->before, t->bos, err));
    if (t->add_eos && t->eos >= 0) ASSAY_TRY(assay_ids_put(&t->after, t->eos, err));
    return ASSAY_OK;
}

assay_status assay_tokenizer_byte_level(assay_tokenizer *t, const assay_pre *pre, assay_err *err) {
    json_t *j = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1);
    if (!j) return assay_nomem(err);
    assay_status s = assay_steps_parse(&t->decoders, ASSAY_STEP_DECODER, j, "decoder", "decoder", err);
    json_decref(j);
    t->bpe.ignore_merges = assay_pre_whole_words(pre);
    return s == ASSAY_OK ? assay_pre_steps(&t->pre_tokenizers, pre, err) : s;
}

/* ---- tokenizer_config.json ---- */

int32_t assay_tokenizer_named(const assay_tokenizer *t, const json_t *config, const char *key) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? assay_tokenizer_find(t, json_string_value(v)) : -1;
}

static assay_status parse_config(assay_tokenizer *t, const char *text, size_t n, const char *name,
                                 assay_err *err) {
    json_t *j = NULL;
    if (!text) return ASSAY_OK;
    ASSAY_TRY(assay_json_parse(&j, text, n, name, err));
    t->bos = assay_tokenizer_named(t, j, "bos_token");
    t->eos = assay_tokenizer_named(t, j, "eos_token");
    t->pad = assay_tokenizer_named(t, j, "pad_token");
    t->unk = assay_tokenizer_named(t, j, "unk_token");
    json_decref(j);
    return ASSAY_OK;
}

/* ---- opening ---- */

static assay_tokenizer *new_tokenizer(const void *data, size_t n) {
    assay_tokenizer *t = assay_calloc(1, sizeof *t);
    if (!t) return NULL;
    t->bos = t->eos = t->unk = t->pad = -1;
    assay_hash_bytes(t->hash, data, n);
    return t;
}

/* Files from before "type" was written are BPE when they have merges. */
static assay_status parse_model(assay_tokenizer *t, const json_t *model, const char *where, assay_err *err) {
    const char *type = json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "BPE";
    if (!json_is_object(model)) return assay_fail(err, ASSAY_EINPUT, "%s: 'model' must be an object", where);
    ASSAY_TRY(assay_json_get_str(&type, model, "type", where, err));
    if (strcmp(type, "Unigram") == 0) {
        t->kind = ASSAY_MODEL_UNIGRAM;
        t->vocab = &t->unigram.vocab;
        return assay_unigram_parse(&t->unigram, model, where, err);
    }
    t->vocab = &t->bpe.vocab;
    return assay_bpe_parse(&t->bpe, model, where, err);
}

static assay_status parse_all(assay_tokenizer *t, const json_t *j, const char *where, assay_err *err) {
    if (!json_is_object(j)) return assay_fail(err, ASSAY_EINPUT, "%s: a tokenizer must be an object", where);
    const char *version = "1.0";
    ASSAY_TRY(assay_json_get_str(&version, j, "version", where, err));
    if (strcmp(version, "1.0") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: version '%.20s' is not supported", where, version);
    ASSAY_TRY(parse_model(t, json_object_get(j, "model"), where, err));
    ASSAY_TRY(assay_steps_parse(&t->normalizers, ASSAY_STEP_NORMALIZER, json_object_get(j, "normalizer"),
                                "normalizer", where, err));
    ASSAY_TRY(assay_steps_parse(&t->pre_tokenizers, ASSAY_STEP_PRE_TOKENIZER,
                                json_object_get(j, "pre_tokenizer"), "pre_tokenizer", where, err));
    ASSAY_TRY(assay_steps_parse(&t->decoders, ASSAY_STEP_DECODER, json_object_get(j, "decoder"), "decoder",
                                where, err));
    if (t->pre_tokenizers.n == 0 && t->kind == ASSAY_MODEL_BPE)
        ASSAY_TRY(assay_bpe_index_joins(&t->bpe, err));
    ASSAY_TRY(parse_added(t, json_object_get(j, "added_tokens"), where, err));
    ASSAY_TRY(assay_tokenizer_index(t, err));
    return assay_postprocess_parse(t, json_object_get(j, "post_processor"), where, err);
}

assay_status assay_tokenizer_parse(assay_tokenizer **out, const char *json, size_t n, const char *config,
                                   size_t n_config, const char *name, assay_err *err) {
    json_t *j = NULL;
    assay_tokenizer *t = new_tokenizer(json, n);
    if (!t) return assay_nomem(err);
    assay_status s;
    ASSAY_GO(assay_json_parse(&j, json, n, name, err));
    ASSAY_GO(parse_all(t, j, name, err));
    ASSAY_GO(parse_config(t, config, n_config, "tokenizer_config.json", err));
    *out = t;
    t = NULL;
out:
    json_decref(j);
    assay_tokenizer_close(t);
    return s;
}

static assay_status read_model(assay_tokenizer **out, const void *data, size_t n, const assay_spm_config *c,
                               const char *name, assay_err *err) {
    assay_tokenizer *t = new_tokenizer(data, n);
    if (!t) return assay_nomem(err);
    assay_status s = assay_tiktoken_is(data, n) ? assay_tiktoken_read(t, data, n, c, name, err)
                                                : assay_spm_model_read(t, data, n, c, name, err);
    if (s == ASSAY_OK)
        *out = t;
    else
        assay_tokenizer_close(t);
    return s;
}

assay_status assay_tokenizer_parse_model(assay_tokenizer **out, const void *model, size_t n,
                                         const char *config, size_t n_config, const char *name,
                                         assay_err *err) {
    json_t *j = NULL;
    if (config) ASSAY_TRY(assay_json_parse(&j, config, n_config, "tokenizer_config.json", err));
    assay_status s = read_model(out, model, n, &(assay_spm_config){.config = j}, name, err);
    json_decref(j);
    return s;
}

/* DIR/name's JSON, or NULL when there is no such file. */
static assay_status load_optional(json_t **out, const char *dir, const char *name, assay_err *err) {
    char *path = assay_path_join(dir, name);
    if (!path) return assay_nomem(err);
    assay_status s = assay_path_exists(path) ? assay_json_load(out, path, err) : ASSAY_OK;
    assay_free(path);
    return s;
}

static assay_status open_model(assay_tokenizer **out, const char *dir, const char *path, assay_err *err) {
    assay_map model = {0};
    json_t *config = NULL, *added = NULL, *named = NULL, *model_config = NULL, *params = NULL;
    assay_status s;
    ASSAY_GO(assay_map_open(&model, path, err));
    ASSAY_GO(load_optional(&config, dir, "tokenizer_config.json", err));
    ASSAY_GO(load_optional(&added, dir, "added_tokens.json", err));
    ASSAY_GO(load_optional(&named, dir, "special_tokens_map.json", err));
    ASSAY_GO(load_optional(&model_config, dir, "config.json", err));
    ASSAY_GO(load_optional(&params, dir, "params.json", err));
    s = read_model(out, model.data, model.size, &(assay_spm_config){config, added, named, model_config, params, true}, path, err);
out:
    json_decref(config);
    json_decref(added);
    json_decref(named);
    json_decref(model_config);
    json_decref(params);
    assay_map_close(&model);
    return s;
}

static assay_status open_json(assay_tokenizer **out, const char *path, const char *config_path,
                              assay_err *err) {
    assay_map json = {0}, config = {0};
    assay_status s;
    ASSAY_GO(assay_map_open(&json, path, err));
    if (assay_path_exists(config_path)) ASSAY_GO(assay_map_open(&config, config_path, err));
    s = assay_tokenizer_parse(out, (const char *)json.data, json.size, (const char *)config.data, config.size,
                              path, err);
out:
    assay_map_close(&json);
    assay_map_close(&config);
    return s;
}

static assay_status open_gguf(assay_tokenizer **out, const char *file, assay_err *err) {
    assay_gguf *g = NULL;
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    assay_status s;
    ASSAY_GO(assay_gguf_open(&g, file, err));
    ASSAY_GO(assay_gguf_vocab_read(&v, g, err));
    s = assay_tokenizer_from_gguf(out, &v, err);
    if (s != ASSAY_OK) assay_err_prefix(err, "%s", file);
out:
    assay_gguf_vocab_free(&v);
    assay_gguf_close(g);
    return s;
}

static assay_status open_folder(assay_tokenizer **out, const char *dir, assay_err *err) {
    char *path = assay_path_join(dir, "tokenizer.json"),
         *config = assay_path_join(dir, "tokenizer_config.json"),
         *model = assay_path_join(dir, "tokenizer.model");
    assay_status s;
    if (!path || !config || !model)
        s = assay_nomem(err);
    else if (!assay_path_exists(path) && assay_path_exists(model))
        s = open_model(out, dir, model, err);
    else
        s = open_json(out, path, config, err);
    assay_free(path);
    assay_free(config);
    assay_free(model);
    return s;
}

assay_status assay_tokenizer_open(assay_tokenizer **out, const char *path, assay_err *err) {
    char *file = NULL, *own = assay_path_join(path, "tokenizer.json");
    assay_err other = {0};
    if (!own) return assay_nomem(err);
    assay_status s = assay_path_exists(own) ? ASSAY_ENOTFOUND : assay_gguf_find_file(&file, path, &other);
    assay_free(own);
    if (s == ASSAY_ENOTFOUND)
        s = open_folder(out, path, err);
    else if (s == ASSAY_OK)
        s = open_gguf(out, file, err);
    else
        assay_fail(err, s, "%s", other.message);
    assay_free(file);
    return s;
}

void assay_tokenizer_close(assay_tokenizer *t) {
    if (!t) return;
    assay_bpe_free(&t->bpe);
    assay_unigram_free(&t->unigram);
    assay_vocab_free(&t->pieces);
    assay_free(t->scores);
    assay_free(t->types);
    assay_trie_free(&t->user);
    assay_charsmap_free(&t->spm.map);
    assay_steps_free(&t->normalizers);
    assay_steps_free(&t->pre_tokenizers);
    assay_steps_free(&t->decoders);
    for (size_t i = 0; i < t->n_added; i++) {
        assay_free(t->added[i].content);
        if (t->normalized) assay_free(t->normalized[i]);
    }
    assay_free(t->added);
    assay_free(t->normalized);
    assay_vocab_free(&t->added_ids);
    assay_trie_free(&t->raw);
    assay_trie_free(&t->matched);
    assay_free(t->tokens);
    assay_free(t->before.v);
    assay_free(t->after.v);
    assay_free(t);
}

/* ---- questions ---- */

int32_t assay_tokenizer_n_vocab(const assay_tokenizer *t) {
    return (int32_t)t->n_tokens;
}
int32_t assay_tokenizer_bos(const assay_tokenizer *t) {
    return t->bos;
}
int32_t assay_tokenizer_eos(const assay_tokenizer *t) {
    return t->eos;
}
const char *assay_tokenizer_hash(const assay_tokenizer *t) {
    return t->hash;
}

int32_t assay_tokenizer_find(const assay_tokenizer *t, const char *token) {
    size_t n = strlen(token);
    int32_t id = assay_vocab_find(&t->added_ids, token, n);
    return id >= 0 ? id : assay_vocab_find(t->vocab, token, n);
}

const char *assay_tokenizer_token(const assay_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n_tokens ? t->tokens[id].content.s : NULL;
}

bool assay_tokenizer_is_special(const assay_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n_tokens && t->tokens[id].special;
}
