/* json.c: loading, dumping and typed access on top of jansson. Does not hide json_t: it is a good interface
 * already. */
#include "base/json.h"

#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

assay_status assay_json_parse(json_t **out, const char *text, size_t n, const char *where, assay_err *err) {
    json_error_t e;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (*out) return ASSAY_OK;
    if (json_error_code(&e) == json_error_out_of_memory) return assay_nomem(err);
    return assay_fail(err, ASSAY_EINPUT, "%s: line %d column %d: %s", where, e.line, e.column, e.text);
}

assay_status assay_json_load(json_t **out, const char *path, assay_err *err) {
    *out = NULL;
    char *text;
    size_t n;
    ASSAY_TRY(assay_read_file(&text, &n, path, 0, err));
    assay_status s = assay_json_parse(out, text, n, path, err);
    assay_free(text);
    return s;
}

static int dump_piece(const char *buffer, size_t size, void *ctx) {
    assay_str *b = ctx;
    assay_str_putn(b, buffer, size);
    return b->failed ? -1 : 0;
}

assay_status assay_json_dump(assay_str *b, const json_t *j, int indent, bool sorted, assay_err *err) {
    size_t flags = JSON_ENCODE_ANY | (sorted ? JSON_SORT_KEYS : 0) | JSON_REAL_PRECISION(17);
    flags |= indent ? JSON_INDENT(indent) : JSON_COMPACT;
    if (json_dump_callback(j, dump_piece, b, flags))
        return assay_fail(err, ASSAY_ENOMEM, "cannot write JSON: out of memory");
    return assay_str_status(b, err);
}

assay_status assay_json_save(const char *path, const json_t *j, int indent, assay_err *err) {
    assay_str b = {0};
    assay_status s = assay_json_dump(&b, j, indent, false, err);
    assay_str_putc(&b, '\n');
    if (s == ASSAY_OK) s = assay_str_status(&b, err);
    if (s == ASSAY_OK) s = assay_write_file(path, b.s, b.len, err);
    assay_str_free(&b);
    return s;
}

static const json_t *lookup(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return v && !json_is_null(v) ? v : NULL;
}

static assay_status wrong_type(const char *where, const char *key, const char *want, assay_err *err) {
    return assay_fail(err, ASSAY_EINPUT, "%s: key '%s' must be %s", where, key, want);
}

assay_status assay_json_get_int(int64_t *out, const json_t *obj, const char *key, const char *where,
                                assay_err *err) {
    const json_t *v = lookup(obj, key);
    if (!v) return ASSAY_OK;
    if (!json_is_integer(v)) return wrong_type(where, key, "an integer", err);
    *out = json_integer_value(v);
    return ASSAY_OK;
}

assay_status assay_json_get_double(double *out, const json_t *obj, const char *key, const char *where,
                                   assay_err *err) {
    const json_t *v = lookup(obj, key);
    if (!v) return ASSAY_OK;
    if (!json_is_number(v)) return wrong_type(where, key, "a number", err);
    *out = json_number_value(v);
    return ASSAY_OK;
}

assay_status assay_json_get_bool(bool *out, const json_t *obj, const char *key, const char *where,
                                 assay_err *err) {
    const json_t *v = lookup(obj, key);
    if (!v) return ASSAY_OK;
    if (!json_is_boolean(v)) return wrong_type(where, key, "true or false", err);
    *out = json_is_true(v);
    return ASSAY_OK;
}

assay_status assay_json_get_str(const char **out, const json_t *obj, const char *key, const char *where,
                                assay_err *err) {
    const json_t *v = lookup(obj, key);
    if (!v) return ASSAY_OK;
    if (!json_is_string(v)) return wrong_type(where, key, "a string", err);
    if (strlen(json_string_value(v)) != json_string_length(v))
        return wrong_type(where, key, "a string without NUL bytes", err);
    *out = json_string_value(v);
    return ASSAY_OK;
}

json_t *assay_json_text(const char *text) {
    if (!text) return json_null();
    json_t *j = json_string(text);
    if (j) return j;
    assay_str b = {0};
    assay_utf8_put_lossy(&b, text, strlen(text));
    if (!b.failed) j = json_string(assay_str_c(&b));
    assay_str_free(&b);
    return j;
}

static assay_status one_line(const char *line, size_t n, size_t number, const char *path, assay_jsonl_fn fn,
                             void *ctx, assay_err *err) {
    json_error_t e;
    json_t *v = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!v) {
        if (json_error_code(&e) == json_error_out_of_memory) return assay_nomem(err);
        return assay_fail(err, ASSAY_EINPUT, "%s:%zu: column %d: %s", path, number, e.column, e.text);
    }
    assay_status s = fn(ctx, v, number, err);
    json_decref(v);
    return s;
}

static bool is_blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') return false;
    return true;
}

assay_status assay_jsonl_each(const char *path, assay_jsonl_fn fn, void *ctx, assay_err *err) {
    assay_map m;
    ASSAY_TRY(assay_map_open(&m, path, err));
    assay_status s = ASSAY_OK;
    const char *p = (const char *)m.data, *end = p + m.size;
    for (size_t number = 1; s == ASSAY_OK && p && p < end; number++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
        if (!is_blank(p, n)) s = one_line(p, n, number, path, fn, ctx, err);
        p += n + 1;
    }
    assay_map_close(&m);
    return s;
}
