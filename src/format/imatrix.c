/* imatrix.c: importance matrices read and written (imatrix.h). Values stay where they lie in the mapping, at any alignment, and are copied
 * a matrix at a time when they are asked for. */
#include "format/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/gguf.h"
#include "base/mem.h"

typedef struct entry {
    char *name;
    const uint8_t *sums, *counts; /* float32, unaligned; counts NULL: legacy, all of `calls` */
    int64_t n_sums, n_counts;
    int32_t calls;
} entry;

struct assay_imatrix {
    assay_map map;
    const uint8_t *data;
    size_t n_bytes;
    assay_gguf *gguf; /* NULL: legacy */
    entry *v;         /* sorted by name */
    size_t n, cap;
    const char *dataset;
    size_t n_dataset;
    int64_t n_chunks;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static entry *find(const assay_imatrix *im, const char *name) {
    entry key = {.name = (char *)(uintptr_t)name};
    return im->n ? bsearch(&key, im->v, im->n, sizeof key, by_name) : NULL;
}

static assay_status add(assay_imatrix *im, entry **out, const char *name, size_t n, assay_err *err) {
    ASSAY_TRY(assay_grow(&im->v, &im->cap, im->n + 1, sizeof *im->v, err));
    *out = &im->v[im->n];
    **out = (entry){.name = assay_strndup(name, n)};
    if (!(*out)->name) return assay_nomem(err);
    im->n++;
    return ASSAY_OK;
}

/* --- GGUF --- */

/* Length of the name without its ending, 0 when it has another. */
static size_t cut(const char *name, const char *ending) {
    size_t n = strlen(name), k = strlen(ending);
    return n > k && !strcmp(name + n - k, ending) ? n - k : 0;
}

static bool take_floats(const uint8_t **out, int64_t *n, const assay_imatrix *im, const assay_gguf_tensor *t) {
    uint64_t count = 1;
    for (int d = 0; d < t->n_dims; d++)
        if (t->dims[d] < 1 || __builtin_mul_overflow(count, (uint64_t)t->dims[d], &count)) return false;
    if (t->ggml_type != 0 || t->offset > im->n_bytes || count > (im->n_bytes - t->offset) / sizeof(float)) return false;
    *out = im->data + t->offset;
    *n = (int64_t)count;
    return true;
}

static assay_status read_sums(assay_imatrix *im, const char *where, assay_err *err) {
    for (size_t i = 0; i < assay_gguf_n_tensors(im->gguf); i++) {
        const assay_gguf_tensor *t = assay_gguf_tensor_at(im->gguf, i);
        size_t n = cut(t->name, ".in_sum2");
        entry *e;
        if (!n) continue;
        ASSAY_TRY(add(im, &e, t->name, n, err));
        if (!take_floats(&e->sums, &e->n_sums, im, t))
            return assay_fail(err, ASSAY_EINPUT, "%s: tensor '%s' is not float32 within the file", where, t->name);
    }
    if (im->n) qsort(im->v, im->n, sizeof *im->v, by_name);
    return ASSAY_OK;
}

static assay_status read_counts(assay_imatrix *im, const char *where, assay_err *err) {
    for (size_t i = 0; i < assay_gguf_n_tensors(im->gguf); i++) {
        const assay_gguf_tensor *t = assay_gguf_tensor_at(im->gguf, i);
        char name[160];
        size_t n = cut(t->name, ".counts");
        if (!n || n >= sizeof name) continue;
        memcpy(name, t->name, n);
        name[n] = 0;
        entry *e = find(im, name);
        if (e && !take_floats(&e->counts, &e->n_counts, im, t))
            return assay_fail(err, ASSAY_EINPUT, "%s: tensor '%s' is not float32 within the file", where, t->name);
    }
    for (size_t i = 0; i < im->n; i++)
        if (!im->v[i].counts || im->v[i].n_sums % im->v[i].n_counts)
            return assay_fail(err, ASSAY_EINPUT, "%s: '%s' has sums without the counts that belong to them", where, im->v[i].name);
    return ASSAY_OK;
}

static assay_status read_gguf(assay_imatrix *im, const char *where, assay_err *err) {
    const assay_gguf_value *sets = assay_gguf_find(im->gguf, "imatrix.datasets");
    const char *type = NULL;
    size_t n;
    if (assay_gguf_string(&type, &n, im->gguf, assay_gguf_find(im->gguf, "general.type"), 0) && (n != 7 || memcmp(type, "imatrix", 7) != 0))
        return assay_fail(err, ASSAY_EINPUT, "%s: a GGUF file of type '%.*s', no importance matrix", where, (int)ASSAY_MIN(n, (size_t)40), type);
    assay_gguf_int(&im->n_chunks, im->gguf, assay_gguf_find(im->gguf, "imatrix.chunk_count"), 0);
    if (sets && sets->n) assay_gguf_string(&im->dataset, &im->n_dataset, im->gguf, sets, sets->n - 1);
    ASSAY_TRY(read_sums(im, where, err));
    return read_counts(im, where, err);
}

/* --- legacy --- */

typedef struct cursor {
    const uint8_t *p, *end;
} cursor;

static bool take_i32(int32_t *out, cursor *c) {
    if (c->end - c->p < 4) return false;
    memcpy(out, c->p, 4);
    c->p += 4;
    return true;
}

static bool take_bytes(const uint8_t **out, cursor *c, int32_t n, size_t size) {
    if (n < 0 || (size_t)n > (size_t)(c->end - c->p) / size) return false;
    *out = c->p;
    c->p += (size_t)n * size;
    return true;
}

static assay_status read_legacy(assay_imatrix *im, const char *where, assay_err *err) {
    cursor c = {im->data, im->data + im->n_bytes};
    const uint8_t *text;
    int32_t n_entries = 0, length = 0, n_values = 0, chunks = 0;
    bool plausible = take_i32(&n_entries, &c) && n_entries >= 1 && (size_t)n_entries <= im->n_bytes / 16;
    for (int32_t i = 0; plausible && i < n_entries; i++) {
        entry *e;
        bool named = take_i32(&length, &c) && take_bytes(&text, &c, length, 1) && length >= 1 && !memchr(text, 0, (size_t)length);
        if (!named && i == 0) plausible = false;
        if (!plausible) break;
        if (!named) return assay_fail(err, ASSAY_EINPUT, "%s: entry %d has no name", where, i);
        ASSAY_TRY(add(im, &e, (const char *)text, (size_t)length, err));
        if (!take_i32(&e->calls, &c) || !take_i32(&n_values, &c) || n_values < 1 || !take_bytes(&e->sums, &c, n_values, sizeof(float)))
            return assay_fail(err, ASSAY_EINPUT, "%s: entry '%.80s' ends before its values do", where, e->name);
        e->n_sums = n_values;
    }
    if (!plausible) return assay_fail(err, ASSAY_EINPUT, "%s: no importance matrix: neither GGUF nor llama.cpp's older kind", where);
    if (take_i32(&chunks, &c)) im->n_chunks = chunks;
    if (take_i32(&length, &c) && take_bytes(&text, &c, length, 1)) {
        im->dataset = (const char *)text;
        im->n_dataset = (size_t)length;
    }
    if (im->n) qsort(im->v, im->n, sizeof *im->v, by_name);
    return ASSAY_OK;
}

/* --- opening --- */

static assay_status read_any(assay_imatrix *im, const char *where, assay_err *err) {
    bool is_gguf = im->n_bytes >= 4 && !memcmp(im->data, "GGUF", 4);
    if (is_gguf) ASSAY_TRY(assay_gguf_parse(&im->gguf, im->data, im->n_bytes, where, err));
    ASSAY_TRY(is_gguf ? read_gguf(im, where, err) : read_legacy(im, where, err));
    if (!im->n) return assay_fail(err, ASSAY_EINPUT, "%s: an importance matrix without entries", where);
    for (size_t i = 1; i < im->n; i++)
        if (!strcmp(im->v[i].name, im->v[i - 1].name)) return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is there twice", where, im->v[i].name);
    return ASSAY_OK;
}

assay_status assay_imatrix_parse(assay_imatrix **out, const uint8_t *data, size_t n, const char *where, assay_err *err) {
    *out = NULL;
    assay_imatrix *im = assay_calloc(1, sizeof *im);
    if (!im) return assay_nomem(err);
    im->data = data;
    im->n_bytes = n;
    assay_status s = read_any(im, where, err);
    if (s == ASSAY_OK)
        *out = im;
    else
        assay_imatrix_close(im);
    return s;
}

assay_status assay_imatrix_open(assay_imatrix **out, const char *path, assay_err *err) {
    assay_map map;
    *out = NULL;
    ASSAY_TRY(assay_map_open(&map, path, err));
    assay_status s = assay_imatrix_parse(out, map.data, map.size, path, err);
    if (s == ASSAY_OK)
        (*out)->map = map;
    else
        assay_map_close(&map);
    return s;
}

void assay_imatrix_close(assay_imatrix *im) {
    if (!im) return;
    for (size_t i = 0; i < im->n; i++) assay_free(im->v[i].name);
    assay_free(im->v);
    assay_gguf_close(im->gguf);
    if (im->map.data) assay_map_close(&im->map);
    assay_free(im);
}

void assay_imatrix_describe(assay_imatrix_info *out, const assay_imatrix *im) {
    *out = (assay_imatrix_info){.n_entries = im->n, .is_legacy = !im->gguf, .n_chunks = im->n_chunks};
    snprintf(out->dataset, sizeof out->dataset, "%.*s", (int)ASSAY_MIN(im->n_dataset, sizeof out->dataset - 1), im->dataset ? im->dataset : "");
    assay_hash_bytes(out->hash, im->data, im->n_bytes);
}

const char *assay_imatrix_name_at(const assay_imatrix *im, size_t i) {
    return im->v[i].name;
}

/* --- weights --- */

void assay_imatrix_mean(float *out, const float *sums, float count, int64_t cols) {
    for (int64_t c = 0; c < cols; c++) out[c] = count > 0 ? sums[c] / count : 1.0f;
}

static float number_at(const uint8_t *p, int64_t i) {
    float v;
    memcpy(&v, p + (size_t)i * sizeof v, sizeof v);
    return v;
}

/* By how much the sums from value `first` on are to be divided; 0: they saw nothing. Counts that are no numbers are refused with the values. */
static float count_at(const entry *e, int64_t first) {
    if (!e->counts) return e->calls > 0 ? (float)e->calls : 1.0f;
    return rintf(number_at(e->counts, first / (e->n_sums / e->n_counts)));
}

assay_status assay_imatrix_weights(float *out, const assay_imatrix *im, const char *name, int64_t cols, int64_t expert, int64_t n_experts,
                                   assay_err *err) {
    const entry *e = find(im, name);
    int64_t n = expert < 0 ? 1 : n_experts, first = expert < 0 ? 0 : expert * cols;
    if (!e) return assay_fail(err, ASSAY_ENOTFOUND, "the importance matrix has no entry '%s'", name);
    if (e->n_sums != cols * n || first + cols > e->n_sums || (e->counts && e->n_counts != 1 && e->n_counts != n))
        return assay_fail(err, ASSAY_EINPUT, "the importance matrix has %lld values for '%s', which has %lld columns%s: it is another model's",
                          (long long)e->n_sums, name, (long long)(cols * n), n > 1 ? " of all experts" : "");
    memcpy(out, e->sums + (size_t)first * sizeof *out, (size_t)cols * sizeof *out);
    assay_imatrix_mean(out, out, count_at(e, first), cols);
    for (int64_t c = 0; c < cols; c++)
        if (!isfinite(out[c]) || out[c] < 0)
            return assay_fail(err, ASSAY_EINPUT, "the importance matrix has no weight for column %lld of '%s'", (long long)c, name);
    return ASSAY_OK;
}

/* --- writing --- */

static int by_entry_name(const void *a, const void *b) {
    return strcmp(((const assay_imatrix_entry *)a)->name, ((const assay_imatrix_entry *)b)->name);
}

enum { ALIGNMENT = 32 };

static uint64_t padded(uint64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_entry(assay_str *out, const char *name, const char *ending, int64_t cols, int64_t n, uint64_t *at) {
    char whole[200];
    int64_t dims[2] = {cols, n};
    snprintf(whole, sizeof whole, "%s%s", name, ending);
    assay_gguf_put_tensor(out, whole, n > 1 ? 2 : 1, dims, 0, *at);
    *at += padded((uint64_t)(cols * n) * sizeof(float));
}

static void put_header(assay_str *out, const assay_imatrix_entry *v, size_t n, const char *dataset, int64_t n_chunks, int64_t chunk_size) {
    uint64_t at = 0;
    assay_gguf_put_head(out, 2 * n, 4);
    assay_gguf_put_string(out, "general.type", "imatrix", 7);
    assay_gguf_put_array(out, "imatrix.datasets", ASSAY_GGUF_STRING, 1);
    assay_gguf_put_text(out, dataset, strlen(dataset));
    assay_gguf_put_int(out, "imatrix.chunk_count", ASSAY_GGUF_U32, n_chunks);
    assay_gguf_put_int(out, "imatrix.chunk_size", ASSAY_GGUF_U32, chunk_size);
    for (size_t i = 0; i < n; i++) {
        put_entry(out, v[i].name, ".in_sum2", v[i].cols, v[i].n_matrices, &at);
        put_entry(out, v[i].name, ".counts", 1, v[i].n_matrices, &at);
    }
    assay_str_fill(out, 0, (size_t)(padded(out->len) - out->len));
}

static assay_status put_floats(assay_writer *w, const float *v, int64_t n, assay_err *err) {
    static const uint8_t zeros[ALIGNMENT];
    size_t bytes = (size_t)n * sizeof *v;
    ASSAY_TRY(assay_writer_put(w, v, bytes, err));
    return assay_writer_put(w, zeros, (size_t)padded(bytes) - bytes, err);
}

assay_status assay_imatrix_save(const char *path, assay_imatrix_entry *entries, size_t n, const char *dataset, int64_t n_chunks, int64_t chunk_size,
                                assay_err *err) {
    assay_str head = {0};
    assay_writer *w = NULL;
    assay_status s;
    if (n) qsort(entries, n, sizeof *entries, by_entry_name);
    put_header(&head, entries, n, dataset, n_chunks, chunk_size);
    ASSAY_GO(assay_str_status(&head, err));
    ASSAY_GO(assay_writer_open(&w, path, err));
    ASSAY_GO(assay_writer_put(w, head.s, head.len, err));
    for (size_t i = 0; i < n; i++) {
        ASSAY_GO(put_floats(w, entries[i].sums, entries[i].cols * entries[i].n_matrices, err));
        ASSAY_GO(put_floats(w, entries[i].counts, entries[i].n_matrices, err));
    }
    s = assay_writer_commit(w, err);
    w = NULL;
out:
    assay_writer_abort(w);
    assay_str_free(&head);
    return s;
}
