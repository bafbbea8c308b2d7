/* spm_config.c: what the JSON files beside a tokenizer.model add: tokens, their flags, the names of bos and
 * eos, whether they stand around a text.
 *
 * tokenizer_config.json  added_tokens_decoder {id: {content, lstrip, ...}}, add_bos_token, add_eos_token,
 * legacy, add_prefix_space, bos_token, eos_token, unk_token, pad_token added_tokens.json      {content: id}
 * special_tokens_map.json  the names again, and additional_special_tokens */
#include <stdlib.h>
#include <string.h>
#include "text/spm_model.h"

/* Classes whose ids are not the file's. */
static const char *const shifted[] = {"XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer",
                                      "MBart50Tokenizer",    "NllbTokenizer",      "XGLMTokenizer",
                                      "BarthezTokenizer",    "BartphoTokenizer",   "PegasusTokenizer",
                                      "PLBartTokenizer",     "M2M100Tokenizer"};

static assay_status check_class(const json_t *config, const char *where, assay_err *err) {
    const json_t *v = json_object_get(config, "tokenizer_class");
    const char *name = json_is_string(v) ? json_string_value(v) : "";
    size_t n = strlen(name);
    if (n > 4 && strcmp(name + n - 4, "Fast") == 0) n -= 4;
    for (size_t i = 0; i < ASSAY_LEN(shifted); i++)
        if (strlen(shifted[i]) == n && memcmp(shifted[i], name, n) == 0)
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "%s: the ids of %s are not those of its file: tokenizer.json is needed", where,
                              shifted[i]);
    return ASSAY_OK;
}

assay_status assay_spm_parse_added(assay_added_token *a, const json_t *content, const json_t *flags,
                                   const char *where, assay_err *err) {
    a->content = (char *)(uintptr_t)json_string_value(content);
    a->n = json_string_length(content);
    if (!json_is_string(content) || a->n == 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: an added token needs a content", where);
    ASSAY_TRY(assay_json_get_bool(&a->single_word, flags, "single_word", where, err));
    ASSAY_TRY(assay_json_get_bool(&a->lstrip, flags, "lstrip", where, err));
    ASSAY_TRY(assay_json_get_bool(&a->rstrip, flags, "rstrip", where, err));
    return assay_json_get_bool(&a->special, flags, "special", where, err);
}

static assay_status add_token(assay_tokenizer *t, const json_t *content, int64_t id, const json_t *flags,
                              const char *where, assay_err *err) {
    assay_added_token a = {.id = (int32_t)id};
    ASSAY_TRY(assay_spm_parse_added(&a, content, flags, where, err));
    size_t n = a.n;
    if (id < 0 || id > ASSAY_VOCAB_MAX_ID)
        return assay_fail(err, ASSAY_EINPUT, "%s: added token '%.60s' needs an id", where, a.content);
    int32_t known = assay_vocab_find(&t->pieces, a.content, n);
    if (known >= 0 ? known != id : (size_t)id < t->pieces.n_ids)
        return assay_fail(err, ASSAY_EINPUT, "%s: added token '%.60s' has the id %lld of another", where,
                          a.content, (long long)id);
    int32_t have = assay_vocab_find(&t->added_ids, a.content, n);
    for (size_t i = 0; have >= 0 && i < t->n_added;
         i++) { /* a control piece: the file knows its flags better */
        assay_added_token *own = &t->added[i];
        if (own->id != have) continue;
        own->single_word = a.single_word, own->lstrip = a.lstrip, own->rstrip = a.rstrip;
    }
    return assay_spm_add(t, &a, err);
}

static assay_status read_decoder(assay_tokenizer *t, const json_t *list, const char *where, assay_err *err) {
    json_t *o = (json_t *)(uintptr_t)list; /* jansson's iteration is not const */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        char *end;
        long long id = strtoll(key, &end, 10);
        const json_t *v = json_object_iter_value(it);
        if (end == key || *end)
            return assay_fail(err, ASSAY_EINPUT, "%s: added_tokens_decoder['%.40s'] is no id", where, key);
        ASSAY_TRY(add_token(t, json_object_get(v, "content"), id, v, where, err));
    }
    return ASSAY_OK;
}

static assay_status read_added(assay_tokenizer *t, const json_t *list, const char *where, assay_err *err) {
    json_t *o = (json_t *)(uintptr_t)list;
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const json_t *id = json_object_iter_value(it);
        json_t *content = json_stringn(json_object_iter_key(it), json_object_iter_key_len(it));
        if (!content) return assay_nomem(err);
        assay_status s =
            add_token(t, content, json_is_integer(id) ? json_integer_value(id) : -1, NULL, where, err);
        json_decref(content);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}

static const json_t *text_of(const json_t *v) {
    return json_is_object(v) ? json_object_get(v, "content") : v;
}

static int32_t find_any(const assay_tokenizer *t, const char *s, size_t n) {
    int32_t id = assay_vocab_find(&t->added_ids, s, n);
    return id >= 0 ? id : assay_vocab_find(&t->pieces, s, n);
}

/* A token named special is one: found in the text, left out when decoding. An unknown name is left alone. */
static assay_status make_special(assay_tokenizer *t, int32_t *id, const json_t *v, assay_err *err) {
    const json_t *text = text_of(v);
    if (!json_is_string(text) || json_string_length(text) == 0) return ASSAY_OK;
    assay_added_token a = {.content = (char *)(uintptr_t)json_string_value(text),
                           .n = json_string_length(text),
                           .special = true};
    a.id = find_any(t, a.content, a.n);
    if (a.id < 0) return ASSAY_OK;
    if (id) *id = a.id;
    ASSAY_TRY(assay_spm_add(t, &a, err));
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].id == a.id) t->added[i].special = true;
    return ASSAY_OK;
}

static assay_status read_names(assay_tokenizer *t, const json_t *j, assay_err *err) {
    struct {
        const char *key;
        int32_t *id;
    } names[] = {{"bos_token", &t->bos}, {"eos_token", &t->eos}, {"unk_token", NULL}, {"pad_token", &t->pad},
                 {"sep_token", NULL},    {"cls_token", NULL},    {"mask_token", NULL}};
    for (size_t i = 0; i < ASSAY_LEN(names); i++)
        ASSAY_TRY(make_special(t, names[i].id, json_object_get(j, names[i].key), err));
    const json_t *more = json_object_get(j, "additional_special_tokens");
    for (size_t i = 0; i < json_array_size(more); i++)
        ASSAY_TRY(make_special(t, NULL, json_array_get(more, i), err));
    return ASSAY_OK;
}

assay_status assay_spm_config_read(assay_tokenizer *t, const assay_spm_config *c, const char *where,
                                   assay_err *err) {
    bool legacy = true;
    ASSAY_TRY(check_class(c->config, where, err));
    ASSAY_TRY(read_decoder(t, json_object_get(c->config, "added_tokens_decoder"), where, err));
    ASSAY_TRY(read_added(t, c->added, where, err));
    ASSAY_TRY(read_names(t, c->named, err));
    ASSAY_TRY(read_names(t, c->config, err));
    ASSAY_TRY(assay_json_get_bool(&t->add_bos, c->config, "add_bos_token", where, err));
    ASSAY_TRY(assay_json_get_bool(&t->add_eos, c->config, "add_eos_token", where, err));
    ASSAY_TRY(assay_json_get_bool(&legacy, c->config, "legacy", where, err));
    ASSAY_TRY(assay_json_get_bool(&t->spm.prefix, c->config, "add_prefix_space", where, err));
    t->spm.prefix_first = !legacy;
    return ASSAY_OK;
}
