/* record.c: what can be done with a record without a store: free it, copy it, turn it into JSON and back.
 * The fields are listed once, in record_fields.def. */
#include "store/record.h"

#include <math.h>
#include <string.h>
#include "store/record_private.h"
#include "store/store.h"

static const char *const outcome_names[] = {"ok", "truncated", "invalid", "refused", "error"};

const char *assay_outcome_name(assay_outcome o) {
    return (size_t)o < ASSAY_LEN(outcome_names) ? outcome_names[o] : "?";
}

void assay_record_deinit(assay_record *r) {
    if (!r) return;
#define DROP_STR(f) assay_free(r->f);
#define DROP_I64(f)
#define DROP_INT(f)
#define DROP_F64(f)
#define DROP_BOOL(f)
#define DROP_OUTCOME(f)
#define X(TYPE, f) DROP_##TYPE(f)
#include "store/record_fields.def"
#undef X
    memset(r, 0, sizeof *r);
}

static bool copy_str(char **out, const char *s) {
    *out = s ? assay_strdup(s) : NULL;
    return *out || !s;
}

assay_status record_copy(assay_record *out, const assay_record *r, assay_err *err) {
    bool ok = true;
    memset(out, 0, sizeof *out);
#define COPY_STR(f) ok = copy_str(&out->f, r->f) && ok;
#define COPY_VALUE(f) out->f = r->f;
#define COPY_I64(f) COPY_VALUE(f)
#define COPY_INT(f) COPY_VALUE(f)
#define COPY_F64(f) COPY_VALUE(f)
#define COPY_BOOL(f) COPY_VALUE(f)
#define COPY_OUTCOME(f) COPY_VALUE(f)
#define X(TYPE, f) COPY_##TYPE(f)
#include "store/record_fields.def"
#undef X
    if (ok) return ASSAY_OK;
    assay_record_deinit(out);
    return assay_nomem(err);
}

/* --- JSON --- */

static json_t *json_number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *assay_record_to_json(const assay_record *r) {
    json_t *j = json_object();
    if (!j) return NULL;
    int bad = 0;
#define JSON_STR(f) assay_json_text(r->f)
#define JSON_I64(f) json_integer(r->f)
#define JSON_INT(f) json_integer(r->f)
#define JSON_F64(f) json_number(r->f)
#define JSON_BOOL(f) json_boolean(r->f)
#define JSON_OUTCOME(f) json_string(assay_outcome_name(r->f))
#define X(TYPE, f) bad |= json_object_set_new(j, #f, JSON_##TYPE(f));
#include "store/record_fields.def"
#undef X
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

static assay_status read_str(char **out, const json_t *j, const char *key, const char *where,
                             assay_err *err) {
    const char *v = NULL;
    ASSAY_TRY(assay_json_get_str(&v, j, key, where, err));
    return copy_str(out, v) ? ASSAY_OK : assay_nomem(err);
}

static assay_status read_int(int *out, const json_t *j, const char *key, const char *where, assay_err *err) {
    int64_t v = *out;
    ASSAY_TRY(assay_json_get_int(&v, j, key, where, err));
    if (v < INT32_MIN || v > INT32_MAX)
        return assay_fail(err, ASSAY_EINPUT, "%s: %s is out of range", where, key);
    *out = (int)v;
    return ASSAY_OK;
}

static assay_status read_outcome(assay_outcome *out, const json_t *j, const char *key, const char *where,
                                 assay_err *err) {
    const char *v = NULL;
    ASSAY_TRY(assay_json_get_str(&v, j, key, where, err));
    if (!v) return ASSAY_OK;
    for (size_t i = 0; i < ASSAY_LEN(outcome_names); i++) {
        if (strcmp(v, outcome_names[i]) == 0) {
            *out = (assay_outcome)i;
            return ASSAY_OK;
        }
    }
    return assay_fail(err, ASSAY_EINPUT, "%s: unknown outcome '%.40s'", where, v);
}

assay_status assay_record_from_json(assay_record *out, const json_t *j, const char *where, assay_err *err) {
    assay_status s = ASSAY_OK;
    memset(out, 0, sizeof *out);
    out->score = out->aux = NAN;
    out->weight = 1;
    if (!json_is_object(j)) return assay_fail(err, ASSAY_EINPUT, "%s: a record must be an object", where);
#define READ_STR(f) ASSAY_GO(read_str(&out->f, j, #f, where, err));
#define READ_I64(f) ASSAY_GO(assay_json_get_int(&out->f, j, #f, where, err));
#define READ_INT(f) ASSAY_GO(read_int(&out->f, j, #f, where, err));
#define READ_F64(f) ASSAY_GO(assay_json_get_double(&out->f, j, #f, where, err));
#define READ_BOOL(f) ASSAY_GO(assay_json_get_bool(&out->f, j, #f, where, err));
#define READ_OUTCOME(f) ASSAY_GO(read_outcome(&out->f, j, #f, where, err));
#define X(TYPE, f) READ_##TYPE(f)
#include "store/record_fields.def"
#undef X
    if (!out->item_id) s = assay_fail(err, ASSAY_EINPUT, "%s: a record without item_id", where);
out:
    if (s != ASSAY_OK) assay_record_deinit(out);
    return s;
}
