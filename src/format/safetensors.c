/* safetensors.c: the file format of huggingface/safetensors.
 *
 *     0        8            8+N                              size
 *     | N: u64 | JSON, N B  | tensor bytes, one after the other |
 *
 * The JSON is an object: name -> {"dtype", "shape", "data_offsets": [begin, end)} with offsets from 8+N,
 * and optionally "__metadata__": an object of strings. As the original does, holes and overlaps are
 * refused: sorted by offset, the tensors cover the data exactly. Nothing is allocated or touched before
 * its size was checked; the data itself is not read here. */
#include "format/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { MAX_HEADER = 100000000 }; /* the original's limit */

void assay_safetensors_free(assay_safetensors *f) {
    if (!f) return;
    assay_free(f->tensors);
    assay_arena_free(&f->names);
    memset(f, 0, sizeof *f);
}

static uint64_t read_u64(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static assay_status check_metadata(const json_t *j, const char *where, assay_err *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(j)) return assay_fail(err, ASSAY_EINPUT, "%s: __metadata__ is not an object", where);
    json_object_foreach((json_t *)j, key, value) {
        if (!json_is_string(value))
            return assay_fail(err, ASSAY_EINPUT, "%s: __metadata__ has a value that is not a string: %s",
                              where, key);
    }
    return ASSAY_OK;
}

static assay_status read_shape(assay_tensor *t, const json_t *shape, const char *where, assay_err *err) {
    if (!json_is_array(shape))
        return assay_fail(err, ASSAY_EINPUT, "%s: tensor %s has no shape", where, t->name);
    if (json_array_size(shape) > ASSAY_MAX_DIMS)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: tensor %s has %zu dimensions; at most %d are read",
                          where, t->name, json_array_size(shape), ASSAY_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return assay_fail(err, ASSAY_EINPUT, "%s: tensor %s has a dimension that is not a natural number",
                              where, t->name);
        t->dims[i] = json_integer_value(d);
    }
    return ASSAY_OK;
}

static bool read_offset(uint64_t *out, const json_t *j) {
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    *out = (uint64_t)json_integer_value(j);
    return true;
}

/* One entry of the header; n_data is the number of bytes after it. */
static assay_status read_entry(assay_tensor *t, const json_t *j, const uint8_t *data, uint64_t n_data,
                               const char *where, assay_err *err) {
    const json_t *dtype = json_object_get(j, "dtype"), *offsets = json_object_get(j, "data_offsets");
    uint64_t begin, end;
    size_t need;
    if (!json_is_object(j) || !json_is_string(dtype))
        return assay_fail(err, ASSAY_EINPUT, "%s: tensor %s has no dtype", where, t->name);
    if (!assay_dtype_parse(&t->dtype, json_string_value(dtype), json_string_length(dtype)))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: tensor %s is of type %s, which is not known here",
                          where, t->name, json_string_value(dtype));
    ASSAY_TRY(read_shape(t, json_object_get(j, "shape"), where, err));
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !read_offset(&begin, json_array_get(offsets, 0)) || !read_offset(&end, json_array_get(offsets, 1)))
        return assay_fail(err, ASSAY_EINPUT, "%s: tensor %s has no data_offsets [begin, end]", where,
                          t->name);
    if (begin > end || end > n_data)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: tensor %s lies at bytes %llu to %llu, but the file holds %llu bytes of data",
                          where, t->name, (unsigned long long)begin, (unsigned long long)end,
                          (unsigned long long)n_data);
    int64_t n = assay_tensor_n_elements(t);
    if (n < 0 || !assay_mul_size(&need, (size_t)n, assay_dtype_size(t->dtype)) || need != end - begin)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: tensor %s has %llu bytes, which is not what its shape and type %s take", where,
                          t->name, (unsigned long long)(end - begin), assay_dtype_name(t->dtype));
    t->data = data + begin;
    t->n_bytes = need;
    return ASSAY_OK;
}

static int by_position(const void *a, const void *b) {
    const assay_tensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    if (x->n_bytes != y->n_bytes)
        return x->n_bytes < y->n_bytes ? -1 : 1; /* empty tensors before what starts at the same place */
    return strcmp(x->name, y->name);
}

static assay_status check_cover(const assay_safetensors *f, const uint8_t *data, uint64_t n_data,
                                const char *where, assay_err *err) {
    const uint8_t *at = data;
    for (size_t i = 0; i < f->n; i++) {
        const assay_tensor *t = &f->tensors[i];
        const uint8_t *begin = t->data;
        if (begin < at)
            return assay_fail(err, ASSAY_EINPUT, "%s: tensors %s and %s overlap at byte %llu of the data",
                              where, f->tensors[i - 1].name, t->name, (unsigned long long)(begin - data));
        if (begin > at)
            return assay_fail(err, ASSAY_EINPUT,
                              "%s: bytes %llu to %llu of the data, before tensor %s, belong to no tensor",
                              where, (unsigned long long)(at - data), (unsigned long long)(begin - data),
                              t->name);
        at = begin + t->n_bytes;
    }
    if (at == data + n_data) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "%s: the last %llu bytes belong to no tensor", where,
                      (unsigned long long)(n_data - (uint64_t)(at - data)));
}

static assay_status read_entries(assay_safetensors *f, const json_t *header, const uint8_t *data,
                                 uint64_t n_data, const char *where, assay_err *err) {
    const char *name;
    json_t *value;
    size_t n = json_object_size(header);
    f->tensors = assay_calloc(n ? n : 1, sizeof *f->tensors);
    if (!f->tensors) return assay_nomem(err);
    json_object_foreach((json_t *)header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            ASSAY_TRY(check_metadata(value, where, err));
            continue;
        }
        assay_tensor *t = &f->tensors[f->n];
        t->name = assay_arena_strndup(&f->names, name, strlen(name));
        if (!t->name) return assay_nomem(err);
        ASSAY_TRY(read_entry(t, value, data, n_data, where, err));
        f->n++;
    }
    qsort(f->tensors, f->n, sizeof *f->tensors, by_position);
    return check_cover(f, data, n_data, where, err);
}

assay_status assay_safetensors_parse(assay_safetensors *out, const uint8_t *data, size_t size,
                                     const char *where, assay_err *err) {
    json_t *header = NULL;
    assay_status s;
    memset(out, 0, sizeof *out);
    if (size < 8)
        return assay_fail(err, ASSAY_EINPUT, "%s: %zu bytes are too few for a safetensors file", where, size);
    uint64_t n = read_u64(data);
    if (n > MAX_HEADER)
        return assay_fail(err, ASSAY_EINPUT, "%s: a header of %llu bytes: this is not a safetensors file",
                          where, (unsigned long long)n);
    if (n > size - 8)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: the header has %llu bytes but the file only %zu: it is truncated", where,
                          (unsigned long long)n, size);
    if (n < 2 || data[8] != '{')
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: the header does not start with '{': this is not a safetensors file", where);
    ASSAY_GO(assay_json_parse(&header, (const char *)data + 8, (size_t)n, where, err));
    if (!json_is_object(header)) {
        s = assay_fail(err, ASSAY_EINPUT, "%s: the header is not an object", where);
        goto out;
    }
    s = read_entries(out, header, data + 8 + n, size - 8 - n, where, err);
out:
    json_decref(header);
    if (s != ASSAY_OK) assay_safetensors_free(out);
    return s;
}

static json_t *entry_json(const assay_tensor *t, uint64_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++) json_array_append_new(shape, json_integer(t->dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", assay_dtype_name(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + t->n_bytes));
}

assay_status assay_safetensors_put_header(assay_str *out, const assay_tensor *const *tensors, size_t n,
                                          assay_err *err) {
    assay_str text = {0};
    uint8_t length[8];
    uint64_t at = 0;
    assay_status s;
    json_t *header = json_object();
    bool ok = header && json_object_set_new(header, "__metadata__", json_pack("{s:s}", "format", "pt")) == 0;
    for (size_t i = 0; ok && i < n; i++) {
        ok = json_object_set_new(header, tensors[i]->name, entry_json(tensors[i], at)) == 0;
        at += tensors[i]->n_bytes;
    }
    if (!ok) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(assay_json_dump(&text, header, 0, false, err));
    assay_str_fill(&text, ' ', (8 - text.len % 8) % 8); /* tensor bytes start at a multiple of 8 */
    ASSAY_GO(assay_str_status(&text, err));
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)text.len >> (8 * i));
    assay_str_putn(out, length, 8);
    assay_str_putn(out, text.s, text.len);
    s = assay_str_status(out, err);
out:
    json_decref(header);
    assay_str_free(&text);
    return s;
}
