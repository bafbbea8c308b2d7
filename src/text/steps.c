/* steps.c: reading the "normalizer", "pre_tokenizer" and "decoder" objects into flat lists of steps. */
#include "text/steps.h"

#include <string.h>
#include "base/mem.h"
#include "text/unicode.h"

#define MAX_NESTING 32

static const struct {
    const assay_step_ops *table;
    const char *children; /* the key under which a Sequence keeps its members */
} kinds[] = {
    [ASSAY_STEP_NORMALIZER] = {assay_normalizers, "normalizers"},
    [ASSAY_STEP_PRE_TOKENIZER] = {assay_pre_tokenizers, "pretokenizers"},
    [ASSAY_STEP_DECODER] = {assay_decoders, "decoders"},
};

static assay_status parse_nested(assay_step_list *list, assay_step_kind kind, const json_t *j,
                                 const char *key, const char *where, int depth, assay_err *err) {
    if (!j || json_is_null(j)) return ASSAY_OK;
    if (depth > MAX_NESTING)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: %s is nested more than %d deep", where, key,
                          MAX_NESTING);
    const char *type = NULL;
    if (json_is_object(j)) ASSAY_TRY(assay_json_get_str(&type, j, "type", where, err));
    if (!type) return assay_fail(err, ASSAY_EINPUT, "%s: %s must be an object with a type", where, key);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *children = json_object_get(j, kinds[kind].children);
        if (!json_is_array(children))
            return assay_fail(err, ASSAY_EINPUT, "%s: %s.%s must be an array", where, key,
                              kinds[kind].children);
        for (size_t i = 0; i < json_array_size(children); i++) {
            const json_t *c = json_array_get(children, i);
            if (json_is_null(c))
                return assay_fail(err, ASSAY_EINPUT, "%s: %s.%s[%zu] is null", where, key,
                                  kinds[kind].children, i);
            ASSAY_TRY(parse_nested(list, kind, c, key, where, depth + 1, err));
        }
        return ASSAY_OK;
    }
    const assay_step_ops *ops = kinds[kind].table;
    while (ops->type && strcmp(ops->type, type) != 0)
        ops++;
    if (!ops->type)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: %s of type '%.60s' is not supported", where, key,
                          type);
    if (list->n == list->cap) ASSAY_TRY(assay_grow(&list->v, &list->cap, list->n + 1, sizeof *list->v, err));
    assay_step *step = &list->v[list->n++];
    *step = (assay_step){.ops = ops, .json = json_incref((json_t *)(uintptr_t)j)};
    if (ops->parse(step, j, where, err) != ASSAY_OK) return assay_err_prefix(err, "%s '%s'", key, type);
    return ASSAY_OK;
}

assay_status assay_steps_parse(assay_step_list *list, assay_step_kind kind, const json_t *j, const char *key,
                               const char *where, assay_err *err) {
    return parse_nested(list, kind, j, key, where, 0, err);
}

void assay_steps_free(assay_step_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        json_decref(list->v[i].json);
        assay_free(list->v[i].text);
        assay_pattern_free(list->v[i].pattern);
        assay_free(list->v[i].source);
        assay_charsmap_free(&list->v[i].map);
    }
    assay_free(list->v);
    memset(list, 0, sizeof *list);
}

assay_status assay_step_parse_none(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    (void)step, (void)j, (void)where, (void)err;
    return ASSAY_OK;
}

assay_status assay_step_parse_text(assay_step *step, const json_t *j, const char *key, const char *standard,
                                   const char *where, assay_err *err) {
    const json_t *v = json_object_get(j, key);
    if (v && !json_is_string(v))
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' must be a string", where, key);
    if (!v && !standard) return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is missing", where, key);
    step->n_text = v ? json_string_length(v) : strlen(standard);
    step->text = assay_strndup(v ? json_string_value(v) : standard, step->n_text);
    return step->text ? ASSAY_OK : assay_nomem(err);
}

/* {"pattern": {"String": "x"}} or {"Regex": "x"} */
assay_status assay_step_parse_pattern(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    const json_t *p = json_object_get(j, "pattern"), *literal = json_object_get(p, "String"),
                 *regex = json_object_get(p, "Regex");
    const json_t *v = literal ? literal : regex;
    if (!json_is_string(v))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'pattern' must hold a String or a Regex", where);
    step->literal = literal != NULL;
    step->source = assay_strndup(json_string_value(v), json_string_length(v));
    if (!step->source) return assay_nomem(err);
    return assay_pattern_compile(&step->pattern, step->source, json_string_length(v), step->literal, err);
}

assay_status assay_step_parse_replace(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    ASSAY_TRY(assay_step_parse_text(step, j, "content", NULL, where, err));
    return assay_step_parse_pattern(step, j, where, err);
}

/* Both spellings: prepend_scheme, and add_prefix_space of older files. */
assay_status assay_step_parse_metaspace(assay_step *step, const json_t *j, const char *where,
                                        assay_err *err) {
    static const char *const schemes[] = {"always", "first", "never"};
    bool add = true;
    const char *scheme = NULL;
    step->split = true;
    ASSAY_TRY(assay_step_parse_text(step, j, "replacement", "\xE2\x96\x81", where, err));
    ASSAY_TRY(assay_json_get_bool(&step->split, j, "split", where, err));
    ASSAY_TRY(assay_json_get_bool(&add, j, "add_prefix_space", where, err));
    ASSAY_TRY(assay_json_get_str(&scheme, j, "prepend_scheme", where, err));
    if (step->n_text == 0 || assay_utf8_count(step->text, step->n_text) != 1)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'replacement' must be one character", where);
    step->prepend = add ? ASSAY_PREPEND_ALWAYS : ASSAY_PREPEND_NEVER;
    if (!scheme) return ASSAY_OK;
    for (size_t i = 0; i < ASSAY_LEN(schemes); i++) {
        if (strcmp(scheme, schemes[i]) != 0) continue;
        if (!add && i != ASSAY_PREPEND_NEVER)
            return assay_fail(err, ASSAY_EINPUT, "%s: add_prefix_space and prepend_scheme disagree", where);
        step->prepend = (assay_prepend)i;
        return ASSAY_OK;
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: prepend_scheme '%.40s' is not supported", where, scheme);
}

assay_status assay_step_replace(assay_str *out, const assay_step *step, const char *s, size_t n,
                                assay_err *err) {
    assay_spans spans = {0};
    assay_status st = assay_pattern_find(&spans, step->pattern, s, n, err);
    for (size_t i = 0; st == ASSAY_OK && i < spans.n; i++) {
        if (spans.v[i].match)
            assay_str_putn(out, step->text, step->n_text);
        else
            assay_str_putn(out, s + spans.v[i].begin, spans.v[i].end - spans.v[i].begin);
    }
    assay_spans_free(&spans);
    return st;
}

/* Bytes that are printable in Latin-1 stand for themselves; the others take U+0100 upwards, in order. */
static bool stands_for_itself(int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

int32_t assay_byte_to_char(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    return byte == 0xAD ? 0x143 : 0x121 + (byte - 0x7F);
}

int assay_char_to_byte(int32_t cp) {
    if (cp < 0x100) return stands_for_itself(cp) ? cp : -1;
    if (cp <= 0x120) return cp - 0x100;
    if (cp <= 0x142) return cp - 0x121 + 0x7F;
    return cp == 0x143 ? 0xAD : -1;
}
