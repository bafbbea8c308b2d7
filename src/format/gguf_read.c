/* gguf_read.c: the tensors of a GGUF model, which may lie in several files, as the ones that Hugging Face's checkpoint would have.
 *
 *   file                                        here
 *   blk.3.ffn_down.weight [4096, 1024]          model.layers.3.mlp.down_proj.weight [1024, 4096]: names from gguf_tensors.def,
 *                                               dimensions outermost first, the bytes where they lie
 *   blk.3.ffn_up_exps.weight [2048, 768, 64]    64 tensors, model.layers.3.mlp.experts.0.up_proj.weight [768, 2048], ...
 *   blk.3.attn_k.weight                         the same with the order of its rows told (assay_order)
 *   blk.3.attn_k_b.weight, attn_v_b.weight      one, in two places (ASSAY_ORDER_JOINED)
 *   vectors of another form (permuted biases,   copies
 *   norms with one added)
 *   rope_freqs.weight and its kin               none: they are configuration (gguf_config.c)
 *   names that no table has                     as they are
 *
 * A tensor must lie in its file, whole, and share no byte with another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "format/gguf_impl.h"
#include "num/convert.h"

/* --- the files --- */

void assay_gguf_set_close(assay_gguf_set *s) {
    for (size_t i = 0; i < s->n; i++) {
        assay_gguf_close(s->parts[i]);
        assay_free(s->paths[i]);
    }
    assay_free(s->parts);
    assay_free(s->paths);
    memset(s, 0, sizeof *s);
}

static assay_status make_room(assay_gguf_set *s, size_t n, assay_err *err) {
    s->parts = assay_calloc(n, sizeof(*s->parts));
    s->paths = assay_calloc(n, sizeof(*s->paths));
    return s->parts && s->paths ? ASSAY_OK : assay_nomem(err);
}

static assay_status add_part(assay_gguf_set *s, const char *path, assay_err *err) {
    char *copy = assay_strdup(path);
    if (!copy) return assay_nomem(err);
    s->paths[s->n] = copy;
    s->n++;
    return assay_gguf_open(&s->parts[s->n - 1], path, err);
}

/* The path of another part: "x-00001-of-00003.gguf" -> "x-00002-of-00003.gguf"; NULL when it is not so named, or out of memory. */
static char *part_path(const char *first, int64_t i, int64_t n) {
    char tail[48];
    size_t length = strlen(first), k;
    snprintf(tail, sizeof tail, "-00001-of-%05lld.gguf", (long long)n);
    k = strlen(tail);
    if (length < k || strcmp(first + length - k, tail) != 0) return NULL;
    assay_str b = {0};
    assay_str_putn(&b, first, length - k);
    assay_str_printf(&b, "-%05lld-of-%05lld.gguf", (long long)i + 1, (long long)n);
    return assay_str_take(&b);
}

static assay_status check_part(const assay_gguf_set *s, int64_t i, int64_t n, assay_err *err) {
    int64_t no, count;
    const assay_gguf *g = s->parts[i];
    if (assay_gguf_int(&no, g, assay_gguf_find(g, "split.no"), 0) && no == i &&
        assay_gguf_int(&count, g, assay_gguf_find(g, "split.count"), 0) && count == n)
        return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "%s: it does not say that it is part %lld of %lld", s->paths[i], (long long)i + 1,
                      (long long)n);
}

static assay_status open_others(assay_gguf_set *s, const char *path, int64_t n, assay_err *err) {
    int64_t expected;
    size_t total = 0;
    for (int64_t i = 1; i < n; i++) {
        char *other = part_path(path, i, n);
        if (!other)
            return assay_fail(err, ASSAY_EINPUT, "%s is the first of %lld files and is not named NAME-00001-of-%05lld.gguf", path,
                              (long long)n, (long long)n);
        assay_status status = add_part(s, other, err);
        assay_free(other);
        ASSAY_TRY(status);
        ASSAY_TRY(check_part(s, i, n, err));
    }
    for (size_t i = 0; i < s->n; i++) total += assay_gguf_n_tensors(s->parts[i]);
    const assay_gguf_value *v = assay_gguf_find(s->parts[0], "split.tensors.count");
    if (assay_gguf_int(&expected, s->parts[0], v, 0) && (expected < 0 || (size_t)expected != total))
        return assay_fail(err, ASSAY_EINPUT, "%s: its parts hold %zu tensors where split.tensors.count says %lld", path, total,
                          (long long)expected);
    return ASSAY_OK;
}

static assay_status open_parts(assay_gguf_set *s, const char *path, assay_err *err) {
    int64_t n = 1, no = 0;
    assay_gguf *first = NULL;
    ASSAY_TRY(assay_gguf_open(&first, path, err));
    const assay_gguf_value *count = assay_gguf_find(first, "split.count");
    if (count && (!assay_gguf_int(&n, first, count, 0) || n < 1 || n > 65535)) n = -1;
    assay_gguf_int(&no, first, assay_gguf_find(first, "split.no"), 0);
    assay_gguf_close(first);
    if (n < 0) return assay_fail(err, ASSAY_EINPUT, "%s: split.count is no number of files", path);
    if (no != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s is part %lld of %lld: name the first one", path, (long long)no + 1, (long long)n);
    ASSAY_TRY(make_room(s, (size_t)n, err));
    ASSAY_TRY(add_part(s, path, err));
    ASSAY_TRY(open_others(s, path, n, err));
    s->arch = assay_gguf_arch_of_file(s->parts[0]);
    return ASSAY_OK;
}

assay_status assay_gguf_set_open(assay_gguf_set *out, const char *path, assay_err *err) {
    memset(out, 0, sizeof *out);
    assay_status s = open_parts(out, path, err);
    if (s != ASSAY_OK) assay_gguf_set_close(out);
    return s;
}

assay_status assay_gguf_set_parse(assay_gguf_set *out, const uint8_t *data, size_t n, const char *where, assay_err *err) {
    memset(out, 0, sizeof *out);
    assay_status s = make_room(out, 1, err);
    if (s == ASSAY_OK && !(out->paths[0] = assay_strdup(where))) s = assay_nomem(err);
    out->n = s == ASSAY_OK;
    if (s == ASSAY_OK) s = assay_gguf_parse(&out->parts[0], data, n, where, err);
    if (s == ASSAY_OK)
        out->arch = assay_gguf_arch_of_file(out->parts[0]);
    else
        assay_gguf_set_close(out);
    return s;
}

/* --- the tensors --- */

/* LEAST_EXPERT: bytes; with less a small file could ask for very many tensors. */
enum { MAX_LAYERS = 1024, MAX_EXPERTS = 4096, LEAST_EXPERT = 64 };

typedef struct span {
    uint64_t begin, end;
    const char *name;
} span;

typedef struct reader {
    assay_gguf_tensors *out;
    const assay_gguf_set *set;
    size_t part;
    const char *path;
    int64_t n_heads, n_kv_heads;
    assay_err *err;
} reader;

static assay_status add(const reader *r, const char *name, const assay_tensor *t) {
    assay_gguf_tensors *o = r->out;
    ASSAY_TRY(assay_grow(&o->v, &o->cap, o->n + 1, sizeof *o->v, r->err));
    ASSAY_TRY(assay_grow(&o->part, &o->cap_part, o->n + 1, sizeof *o->part, r->err));
    o->v[o->n] = *t;
    o->v[o->n].name = assay_arena_strndup(&o->arena, name, strlen(name));
    if (!o->v[o->n].name) return assay_nomem(r->err);
    o->part[o->n++] = r->part;
    return ASSAY_OK;
}

static assay_status bad(const reader *r, const assay_gguf_tensor *f, const char *why) {
    return assay_fail(r->err, ASSAY_EINPUT, "%s: tensor %s %s", r->path, f->name, why);
}

/* The tensor as the file has it, its dimensions outermost first. */
static assay_status describe(assay_tensor *t, const reader *r, const assay_gguf_tensor *f, const uint8_t *data, uint64_t size) {
    assay_gguf_storage s;
    size_t bytes;
    if (!assay_gguf_storage_of(&s, f->ggml_type))
        return assay_fail(r->err, ASSAY_EUNSUPPORTED, "%s: tensor %s is of ggml's type %u, which is not known here", r->path, f->name,
                          f->ggml_type);
    bytes = assay_gguf_row_bytes(&s, f->dims[0]);
    if (!bytes) return bad(r, f, "has rows that are no multiple of its blocks");
    *t = (assay_tensor){.name = f->name, .dtype = s.dtype, .block = s.block, .n_dims = f->n_dims, .data = data + f->offset};
    for (int i = 0; i < f->n_dims; i++) {
        t->dims[f->n_dims - 1 - i] = f->dims[i];
        if (i > 0 && !assay_mul_size(&bytes, bytes, (size_t)f->dims[i])) return bad(r, f, "has an impossible shape");
    }
    t->n_bytes = bytes;
    if (bytes > size - f->offset) return bad(r, f, "ends beyond the file's end: it is cut short or damaged");
    return ASSAY_OK;
}

/* A vector in another form: a copy in the order and with the values that the name's owner has. */
static assay_status copy_vector(const reader *r, assay_tensor *t, float shift) {
    size_t n = (size_t)t->dims[0];
    float *v = assay_arena_alloc(&r->out->arena, n * sizeof *v);
    if (!v) return assay_nomem(r->err);
    if (!assay_tensor_read(v, t, 0, (int64_t)n))
        return assay_fail(r->err, ASSAY_EINPUT, "%s: tensor %s holds no floats", r->path, t->name);
    for (size_t i = 0; i < n; i++) v[i] += shift;
    t->data = v;
    t->dtype = ASSAY_DTYPE_F32;
    t->n_bytes = n * sizeof *v;
    t->order = ASSAY_ORDER_PLAIN;
    return ASSAY_OK;
}

static assay_status set_order(const reader *r, assay_tensor *t, assay_order order, int64_t n_heads, int64_t unit) {
    if (n_heads < 1 || t->n_dims > 2 || t->dims[0] % n_heads || t->dims[0] / n_heads % unit)
        return assay_fail(r->err, ASSAY_EINPUT, "%s: tensor %s has %lld rows, which are not those of %lld heads", r->path, t->name,
                          (long long)t->dims[0], (long long)n_heads);
    t->order = order;
    t->n_heads = n_heads;
    return t->n_dims == 1 ? copy_vector(r, t, 0) : ASSAY_OK;
}

/* One of the two parts of DeepSeek's kv_b_proj; when both are there, the whole is added. */
static assay_status add_joint(const reader *r, const char *name, const assay_tensor *t, bool keys) {
    assay_gguf_tensors *o = r->out;
    size_t i = 0;
    while (i < o->n_joints && strcmp(o->joints[i].name, name) != 0) i++;
    if (i == o->n_joints) {
        if (i == MAX_LAYERS) return assay_fail(r->err, ASSAY_EINPUT, "%s: more than %d layers", r->path, MAX_LAYERS);
        ASSAY_TRY(assay_grow(&o->joints, &o->cap_joints, i + 1, sizeof *o->joints, r->err));
        o->joints[i] = (assay_gguf_joint){.name = assay_arena_strndup(&o->arena, name, strlen(name))};
        if (!o->joints[i].name) return assay_nomem(r->err);
        o->n_joints++;
    }
    assay_gguf_joint *j = &o->joints[i];
    if (t->n_dims != 3) return assay_fail(r->err, ASSAY_EINPUT, "%s: tensor %s has not three dimensions", r->path, t->name);
    *(keys ? &j->keys : &j->values) = *t;
    const assay_tensor *k = &j->keys, *v = &j->values;
    if (!k->data || !v->data) return ASSAY_OK;
    int64_t rows;
    if (k->dims[0] != v->dims[0] || k->dims[1] != v->dims[2] || k->dims[2] > INT64_MAX / 2 || v->dims[1] > INT64_MAX / 2 ||
        __builtin_mul_overflow(k->dims[0], k->dims[2] + v->dims[1], &rows))
        return assay_fail(r->err, ASSAY_EINPUT, "%s: tensor %s does not fit its other half", r->path, t->name);
    assay_tensor whole = {.dtype = ASSAY_DTYPE_F32, .n_dims = 2, .dims = {rows, k->dims[1]}, .order = ASSAY_ORDER_JOINED,
                          .n_bytes = k->n_bytes + v->n_bytes};
    return add(r, name, &whole);
}

static assay_status add_stack(const reader *r, const char *pattern, const assay_tensor *t) {
    const char *at = strchr(pattern, '@');
    assay_tensor one = *t;
    int64_t n = t->n_dims == 3 || t->n_dims == 1 ? t->dims[0] : 1; /* one expert's stack may have lost its third dimension */
    if (t->n_dims > 3 || n > MAX_EXPERTS || (t->n_dims == 1 && t->block) || t->n_bytes / (size_t)n < LEAST_EXPERT)
        return assay_fail(r->err, ASSAY_EINPUT, "%s: tensor %s is no stack of experts", r->path, t->name);
    if (t->n_dims == 3) {
        one.n_dims = 2;
        one.dims[0] = t->dims[1];
        one.dims[1] = t->dims[2];
    } else if (t->n_dims == 1) {
        one.dims[0] = 1;
    }
    one.n_bytes = t->n_bytes / (size_t)n;
    for (int64_t i = 0; i < n; i++) {
        char name[192];
        snprintf(name, sizeof name, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)i, at + 1);
        one.data = (const uint8_t *)t->data + (size_t)i * one.n_bytes;
        ASSAY_TRY(add(r, name, &one));
    }
    return ASSAY_OK;
}

static bool is_configuration(const char *name) {
    static const char *const NAMES[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
    const char *base = name;
    if (strncmp(name, "blk.", 4) == 0 && strchr(name + 4, '.')) base = strchr(name + 4, '.') + 1;
    for (size_t i = 0; i < ASSAY_LEN(NAMES); i++)
        if (strcmp(base, NAMES[i]) == 0) return true;
    return false;
}

static assay_status place_tensor(const reader *r, assay_tensor *t) {
    assay_gguf_name name;
    if (is_configuration(t->name)) return ASSAY_OK;
    if (!r->set->arch || !assay_gguf_name_to_hf(&name, r->set->arch, t->name)) return add(r, t->name, t);
    if (name.is_stack) return add_stack(r, name.text, t);
    switch (name.form) {
    case ASSAY_GGUF_KEYS:
    case ASSAY_GGUF_VALUES: return add_joint(r, name.text, t, name.form == ASSAY_GGUF_KEYS);
    case ASSAY_GGUF_QUERY: ASSAY_TRY(set_order(r, t, ASSAY_ORDER_PAIRS, r->n_heads, 2)); break;
    case ASSAY_GGUF_KEY: ASSAY_TRY(set_order(r, t, ASSAY_ORDER_PAIRS, r->n_kv_heads, 2)); break;
    case ASSAY_GGUF_QKV: ASSAY_TRY(set_order(r, t, ASSAY_ORDER_PARTS, r->n_heads, 3)); break;
    case ASSAY_GGUF_NORM:
        if (t->n_dims == 1) ASSAY_TRY(copy_vector(r, t, -1));
        break;
    case ASSAY_GGUF_TURNED:
        if (t->n_dims != 2) break;
        t->order = ASSAY_ORDER_TURNED;
        int64_t rows = t->dims[0];
        t->dims[0] = t->dims[1];
        t->dims[1] = rows;
        break;
    case ASSAY_GGUF_ROW:
        if (t->n_dims == 1) t->dims[1] = t->dims[0], t->dims[0] = 1, t->n_dims = 2;
        break;
    case ASSAY_GGUF_WIDE:
    case ASSAY_GGUF_AS_IS: break;
    }
    return add(r, name.text, t);
}

static int by_begin(const void *a, const void *b) {
    const span *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* No two tensors of a file share a byte, and all lie in it. */
static assay_status check_places(const reader *r, const assay_gguf *g) {
    size_t n = assay_gguf_n_tensors(g), size;
    const uint8_t *data = assay_gguf_data(g, &size);
    assay_status s = ASSAY_OK;
    span *spans = assay_mallocn(n + 1, sizeof *spans);
    if (!spans) return assay_nomem(r->err);
    for (size_t i = 0; i < n; i++) {
        const assay_gguf_tensor *f = assay_gguf_tensor_at(g, i);
        assay_tensor t;
        ASSAY_GO(describe(&t, r, f, data, size));
        spans[i] = (span){f->offset, f->offset + t.n_bytes, f->name};
    }
    qsort(spans, n, sizeof *spans, by_begin);
    for (size_t i = 1; i < n; i++)
        if (spans[i].begin < spans[i - 1].end) {
            s = assay_fail(r->err, ASSAY_EINPUT, "%s: tensors %s and %s overlap", r->path, spans[i - 1].name, spans[i].name);
            goto out;
        }
out:
    assay_free(spans);
    return s;
}

static assay_status read_part(const reader *r) {
    const assay_gguf *g = r->set->parts[r->part];
    size_t size;
    const uint8_t *data = assay_gguf_data(g, &size);
    ASSAY_TRY(check_places(r, g));
    for (size_t i = 0; i < assay_gguf_n_tensors(g); i++) {
        assay_tensor t;
        ASSAY_TRY(describe(&t, r, assay_gguf_tensor_at(g, i), data, size));
        ASSAY_TRY(place_tensor(r, &t));
    }
    return ASSAY_OK;
}

static assay_status check_joints(const assay_gguf_tensors *t, const reader *r) {
    for (size_t i = 0; i < t->n_joints; i++)
        if (!t->joints[i].keys.data || !t->joints[i].values.data)
            return assay_fail(r->err, ASSAY_EINPUT, "%s: of tensor %s one half is missing", r->path, t->joints[i].name);
    return ASSAY_OK;
}

assay_status assay_gguf_tensors_read(assay_gguf_tensors *out, const assay_gguf_set *set, assay_err *err) {
    assay_status s = ASSAY_OK;
    reader r = {.out = out, .set = set, .err = err};
    memset(out, 0, sizeof *out);
    if (set->arch) {
        if (!assay_gguf_arch_int(&r.n_heads, set->parts[0], set->arch, "attention.head_count")) r.n_heads = 0;
        if (!assay_gguf_arch_int(&r.n_kv_heads, set->parts[0], set->arch, "attention.head_count_kv")) r.n_kv_heads = r.n_heads;
    }
    for (r.part = 0; s == ASSAY_OK && r.part < set->n; r.part++) {
        r.path = set->paths[r.part];
        s = read_part(&r);
    }
    if (s == ASSAY_OK) s = check_joints(out, &r);
    if (s != ASSAY_OK) assay_gguf_tensors_free(out);
    return s;
}

void assay_gguf_tensors_free(assay_gguf_tensors *t) {
    assay_free(t->v);
    assay_free(t->part);
    assay_free(t->joints);
    assay_arena_free(&t->arena);
    memset(t, 0, sizeof *t);
}
