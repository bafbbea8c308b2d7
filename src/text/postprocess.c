/* postprocess.c: "post_processor": which ids stand before and after a single sequence.
 *
 * ByteLevel only moves offsets, which this project does not keep. Pairs of sequences are not encoded here, so
 * "pair" is not read. In a Sequence each processor wraps what the previous ones made. */
#include <string.h>
#include "base/mem.h"
#include "text/tokenizer.h"

#define MAX_NESTING 32

static assay_status put_id(assay_ids *ids, const assay_tokenizer *t, const json_t *id, const char *where,
                           assay_err *err) {
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    if (v < 0 || (size_t)v >= t->n_tokens)
        return assay_fail(err, ASSAY_EINPUT, "%s: post_processor names an id that is no token", where);
    return assay_ids_put(ids, (int32_t)v, err);
}

/* before = new + before, after = after + new. */
static assay_status wrap(assay_tokenizer *t, assay_ids *before, const assay_ids *after, assay_err *err) {
    for (size_t i = 0; i < t->before.n; i++)
        ASSAY_TRY(assay_ids_put(before, t->before.v[i], err));
    assay_ids old = t->before;
    t->before = *before;
    *before = old;
    for (size_t i = 0; i < after->n; i++)
        ASSAY_TRY(assay_ids_put(&t->after, after->v[i], err));
    return ASSAY_OK;
}

/* "single": a list of {"SpecialToken": {"id": name}} and one {"Sequence": {"id": "A"}}. */
static assay_status parse_template(assay_tokenizer *t, const json_t *j, const char *where, assay_err *err) {
    assay_ids before = {0}, after = {0};
    assay_status s = ASSAY_OK;
    const json_t *single = json_object_get(j, "single"), *specials = json_object_get(j, "special_tokens");
    int sequences = 0;
    if (!json_is_array(single))
        return assay_fail(err, ASSAY_EINPUT, "%s: post_processor.single must be an array", where);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        if (json_is_object(json_object_get(piece, "Sequence"))) {
            sequences++;
            continue;
        }
        const json_t *name = json_object_get(special, "id");
        const json_t *ids = json_is_string(name)
                                ? json_object_get(json_object_get(specials, json_string_value(name)), "ids")
                                : NULL;
        if (!json_is_array(ids)) {
            s = assay_fail(err, ASSAY_EINPUT, "%s: post_processor.single[%zu] names no special token", where,
                           i);
            goto out;
        }
        for (size_t k = 0; k < json_array_size(ids); k++)
            ASSAY_GO(put_id(sequences ? &after : &before, t, json_array_get(ids, k), where, err));
    }
    if (sequences != 1) {
        s = assay_fail(err, ASSAY_EUNSUPPORTED,
                       "%s: a post_processor that repeats or drops its sequence is not supported", where);
        goto out;
    }
    s = wrap(t, &before, &after, err);
out:
    assay_free(before.v);
    assay_free(after.v);
    return s;
}

/* {"cls": [token, id], "sep": [token, id]} of BERT and RoBERTa: cls A sep. */
static assay_status parse_cls_sep(assay_tokenizer *t, const json_t *j, const char *where, assay_err *err) {
    assay_ids before = {0}, after = {0};
    assay_status s;
    ASSAY_GO(put_id(&before, t, json_array_get(json_object_get(j, "cls"), 1), where, err));
    ASSAY_GO(put_id(&after, t, json_array_get(json_object_get(j, "sep"), 1), where, err));
    s = wrap(t, &before, &after, err);
out:
    assay_free(before.v);
    assay_free(after.v);
    return s;
}

static assay_status parse_nested(assay_tokenizer *t, const json_t *j, const char *where, int depth,
                                 assay_err *err) {
    if (!j || json_is_null(j)) return ASSAY_OK;
    const char *type = NULL;
    if (json_is_object(j)) ASSAY_TRY(assay_json_get_str(&type, j, "type", where, err));
    if (!type)
        return assay_fail(err, ASSAY_EINPUT, "%s: post_processor must be an object with a type", where);
    if (strcmp(type, "TemplateProcessing") == 0) return parse_template(t, j, where, err);
    if (strcmp(type, "ByteLevel") == 0) return ASSAY_OK;
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0)
        return parse_cls_sep(t, j, where, err);
    if (strcmp(type, "Sequence") != 0 || depth > MAX_NESTING)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: post_processor of type '%.60s' is not supported here",
                          where, type);
    const json_t *list = json_object_get(j, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
        ASSAY_TRY(parse_nested(t, json_array_get(list, i), where, depth + 1, err));
    return ASSAY_OK;
}

assay_status assay_postprocess_parse(assay_tokenizer *t, const json_t *j, const char *where, assay_err *err) {
    return parse_nested(t, j, where, 0, err);
}
