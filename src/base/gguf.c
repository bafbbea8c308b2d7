/* gguf.c: the GGUF container, read from a mapping and written piece by piece (ggml's docs/gguf.md is the specification).
 *
 * Everything is one walk along the header: a cursor that never passes the file's end hands out integers, strings and the bytes of
 * arrays. Counts of the header are taken as a claim: vectors grow with what has been read, and whatever is counted takes at least a few
 * bytes of the file (an entry of metadata 13, a tensor 24, a string 8), so that memory stays within a small multiple of the file's
 * size. Keys and names are sorted once, for look-ups and to find duplicates. */
#include "base/gguf.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

static const size_t SIZES[ASSAY_GGUF_TYPES] = {[ASSAY_GGUF_U8] = 1,  [ASSAY_GGUF_I8] = 1,  [ASSAY_GGUF_U16] = 2,
                                               [ASSAY_GGUF_I16] = 2, [ASSAY_GGUF_U32] = 4, [ASSAY_GGUF_I32] = 4,
                                               [ASSAY_GGUF_F32] = 4, [ASSAY_GGUF_BOOL] = 1, [ASSAY_GGUF_U64] = 8,
                                               [ASSAY_GGUF_I64] = 8, [ASSAY_GGUF_F64] = 8};

/* `pub` comes first: a value that was handed out is its slot. */
typedef struct value_slot {
    assay_gguf_value pub;
    uint64_t *places; /* array of strings: where each one's length stands in pub.data; NULL until asked */
} value_slot;

typedef struct name_ref {
    const char *name;
    size_t index;
} name_ref;

struct assay_gguf {
    assay_map map;
    bool mapped;
    const uint8_t *data;
    size_t size;
    uint32_t version;
    uint64_t alignment, data_start;
    value_slot *values;
    size_t n_values, cap_values;
    assay_gguf_tensor *tensors;
    size_t n_tensors, cap_tensors;
    name_ref *by_key; /* values in the order of their keys */
    assay_arena names;
};

typedef struct cursor {
    assay_gguf *g;
    size_t at;
    const char *where;
    assay_err *err;
} cursor;

/* --- reading: the cursor --- */

static assay_status cut_short(const cursor *c, const char *what) {
    return assay_fail(c->err, ASSAY_EINPUT, "%s: the file ends at byte %zu in %s", c->where, c->g->size, what);
}

/* n bytes, or EINPUT. */
static assay_status take(const uint8_t **out, cursor *c, uint64_t n, const char *what) {
    *out = NULL;
    if (n > c->g->size - c->at) return cut_short(c, what);
    *out = c->g->data + c->at;
    c->at += (size_t)n;
    return ASSAY_OK;
}

static uint64_t load(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static assay_status take_u32(uint32_t *out, cursor *c, const char *what) {
    const uint8_t *p;
    ASSAY_TRY(take(&p, c, 4, what));
    *out = (uint32_t)load(p, 4);
    return ASSAY_OK;
}

static assay_status take_u64(uint64_t *out, cursor *c, const char *what) {
    const uint8_t *p;
    ASSAY_TRY(take(&p, c, 8, what));
    *out = load(p, 8);
    return ASSAY_OK;
}

/* A key or a tensor's name, as a C string of the arena. */
static assay_status take_name(const char **out, cursor *c, const char *what) {
    uint64_t n;
    const uint8_t *p;
    ASSAY_TRY(take_u64(&n, c, what));
    if (n == 0 || n > 65535)
        return assay_fail(c->err, ASSAY_EINPUT, "%s: %s at byte %zu has a length of %llu", c->where, what, c->at - 8,
                          (unsigned long long)n);
    ASSAY_TRY(take(&p, c, n, what));
    if (memchr(p, 0, (size_t)n))
        return assay_fail(c->err, ASSAY_EINPUT, "%s: %s at byte %zu holds a zero byte", c->where, what, c->at - (size_t)n);
    *out = assay_arena_strndup(&c->g->names, (const char *)p, (size_t)n);
    return *out ? ASSAY_OK : assay_nomem(c->err);
}

/* --- reading: metadata --- */

static assay_status skip_strings(cursor *c, uint64_t n, const char *key) {
    const uint8_t *p;
    uint64_t length;
    for (uint64_t i = 0; i < n; i++) {
        ASSAY_TRY(take_u64(&length, c, key));
        ASSAY_TRY(take(&p, c, length, key));
    }
    return ASSAY_OK;
}

static assay_status check_type(const cursor *c, uint32_t type, const char *key, bool in_array) {
    if (type >= ASSAY_GGUF_TYPES)
        return assay_fail(c->err, ASSAY_EINPUT, "%s: key %.80s is of type %u, which GGUF has not", c->where, key, type);
    if (in_array && type == ASSAY_GGUF_ARRAY)
        return assay_fail(c->err, ASSAY_EUNSUPPORTED, "%s: key %.80s is an array of arrays", c->where, key);
    return ASSAY_OK;
}

static assay_status read_value(cursor *c) {
    assay_gguf *g = c->g;
    uint32_t type, element;
    const uint8_t *p;
    ASSAY_TRY(assay_grow(&g->values, &g->cap_values, g->n_values + 1, sizeof *g->values, c->err));
    assay_gguf_value v = {.n = 1};
    ASSAY_TRY(take_name(&v.key, c, "a key"));
    ASSAY_TRY(take_u32(&type, c, v.key));
    ASSAY_TRY(check_type(c, type, v.key, false));
    element = type;
    if (type == ASSAY_GGUF_ARRAY) {
        ASSAY_TRY(take_u32(&element, c, v.key));
        ASSAY_TRY(check_type(c, element, v.key, true));
        ASSAY_TRY(take_u64(&v.n, c, v.key));
    }
    v.type = (assay_gguf_type)type;
    v.element = (assay_gguf_type)element;
    v.data = g->data + c->at;
    if (element == ASSAY_GGUF_STRING) {
        ASSAY_TRY(skip_strings(c, v.n, v.key));
    } else {
        if (v.n > g->size / SIZES[element]) return cut_short(c, v.key);
        ASSAY_TRY(take(&p, c, v.n * SIZES[element], v.key));
    }
    v.n_bytes = (size_t)(g->data + c->at - v.data);
    g->values[g->n_values++] = (value_slot){.pub = v};
    return ASSAY_OK;
}

/* --- reading: tensors --- */

static assay_status read_tensor(cursor *c) {
    assay_gguf *g = c->g;
    uint32_t n_dims;
    size_t elements = 1;
    ASSAY_TRY(assay_grow(&g->tensors, &g->cap_tensors, g->n_tensors + 1, sizeof *g->tensors, c->err));
    assay_gguf_tensor t = {.dims = {1, 1, 1, 1}};
    ASSAY_TRY(take_name(&t.name, c, "a tensor's name"));
    ASSAY_TRY(take_u32(&n_dims, c, t.name));
    if (n_dims < 1 || n_dims > 4)
        return assay_fail(c->err, ASSAY_EINPUT, "%s: tensor %.80s has %u dimensions", c->where, t.name, n_dims);
    t.n_dims = (int)n_dims;
    for (int i = 0; i < t.n_dims; i++) {
        uint64_t d;
        ASSAY_TRY(take_u64(&d, c, t.name));
        if (d == 0 || d > INT64_MAX / 64 || !assay_mul_size(&elements, elements, (size_t)d) || elements > INT64_MAX / 64)
            return assay_fail(c->err, ASSAY_EINPUT, "%s: tensor %.80s has an impossible shape", c->where, t.name);
        t.dims[i] = (int64_t)d;
    }
    ASSAY_TRY(take_u32(&t.ggml_type, c, t.name));
    ASSAY_TRY(take_u64(&t.offset, c, t.name));
    g->tensors[g->n_tensors++] = t;
    return ASSAY_OK;
}

/* Offsets count from the data's start, which is known only now. */
static assay_status place_tensors(cursor *c) {
    assay_gguf *g = c->g;
    g->data_start = (c->at + g->alignment - 1) / g->alignment * g->alignment;
    if (g->n_tensors && g->data_start > g->size) return cut_short(c, "the padding before its tensors");
    for (size_t i = 0; i < g->n_tensors; i++) {
        assay_gguf_tensor *t = &g->tensors[i];
        if (t->offset % g->alignment)
            return assay_fail(c->err, ASSAY_EINPUT, "%s: tensor %.80s is at byte %llu, no multiple of the alignment %llu", c->where,
                              t->name, (unsigned long long)t->offset, (unsigned long long)g->alignment);
        if (t->offset > g->size - g->data_start)
            return assay_fail(c->err, ASSAY_EINPUT, "%s: tensor %.80s begins beyond the file's end: it is cut short or damaged",
                              c->where, t->name);
        t->offset += g->data_start;
    }
    return ASSAY_OK;
}

/* --- reading: the whole --- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const name_ref *)a)->name, ((const name_ref *)b)->name);
}

/* Sorts n names; EINPUT for one that is there twice. */
static assay_status sort_names(const cursor *c, name_ref *refs, size_t n, const char *what) {
    qsort(refs, n, sizeof *refs, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(refs[i].name, refs[i - 1].name) == 0)
            return assay_fail(c->err, ASSAY_EINPUT, "%s: %s %.80s is there twice", c->where, what, refs[i].name);
    return ASSAY_OK;
}

static assay_status index_names(cursor *c) {
    assay_gguf *g = c->g;
    g->by_key = assay_mallocn(g->n_values + 1, sizeof *g->by_key);
    if (!g->by_key) return assay_nomem(c->err);
    for (size_t i = 0; i < g->n_values; i++) g->by_key[i] = (name_ref){g->values[i].pub.key, i};
    ASSAY_TRY(sort_names(c, g->by_key, g->n_values, "key"));
    name_ref *tensors = assay_mallocn(g->n_tensors + 1, sizeof *tensors);
    if (!tensors) return assay_nomem(c->err);
    for (size_t i = 0; i < g->n_tensors; i++) tensors[i] = (name_ref){g->tensors[i].name, i};
    assay_status s = sort_names(c, tensors, g->n_tensors, "tensor");
    assay_free(tensors);
    return s;
}

static assay_status read_alignment(cursor *c) {
    const assay_gguf_value *v = assay_gguf_find(c->g, "general.alignment");
    int64_t a = 32;
    if (v && (!assay_gguf_int(&a, c->g, v, 0) || a < 1 || a > 1 << 20 || (a & (a - 1))))
        return assay_fail(c->err, ASSAY_EINPUT, "%s: general.alignment is no power of two up to a mebibyte", c->where);
    c->g->alignment = (uint64_t)a;
    return ASSAY_OK;
}

static assay_status read_header(cursor *c) {
    const uint8_t *magic;
    uint64_t n_tensors, n_values;
    if (c->g->size < 4 || memcmp(c->g->data, "GGUF", 4) != 0)
        return assay_fail(c->err, ASSAY_EINPUT, "%s: this is no GGUF file: it does not begin with its four letters", c->where);
    ASSAY_TRY(take(&magic, c, 4, "its head"));
    ASSAY_TRY(take_u32(&c->g->version, c, "its head"));
    uint32_t version = c->g->version;
    if (version != 0 && (version & 0xffff) == 0)
        return assay_fail(c->err, ASSAY_EUNSUPPORTED, "%s: a big-endian GGUF file; convert it with gguf_convert_endian first", c->where);
    if (version != 2 && version != 3)
        return assay_fail(c->err, ASSAY_EUNSUPPORTED, "%s: GGUF version %u; versions 2 and 3 are read", c->where, version);
    ASSAY_TRY(take_u64(&n_tensors, c, "its head"));
    ASSAY_TRY(take_u64(&n_values, c, "its head"));
    for (uint64_t i = 0; i < n_values; i++) ASSAY_TRY(read_value(c));
    for (uint64_t i = 0; i < n_tensors; i++) ASSAY_TRY(read_tensor(c));
    ASSAY_TRY(index_names(c));
    ASSAY_TRY(read_alignment(c));
    return place_tensors(c);
}

static assay_status parse(assay_gguf **out, assay_gguf *g, const char *where, assay_err *err) {
    cursor c = {.g = g, .where = where, .err = err};
    assay_status s = read_header(&c);
    if (s == ASSAY_OK)
        *out = g;
    else
        assay_gguf_close(g);
    return s;
}

assay_status assay_gguf_parse(assay_gguf **out, const uint8_t *data, size_t n, const char *where, assay_err *err) {
    *out = NULL;
    assay_gguf *g = assay_calloc(1, sizeof *g);
    if (!g) return assay_nomem(err);
    g->data = data;
    g->size = n;
    return parse(out, g, where, err);
}

assay_status assay_gguf_open(assay_gguf **out, const char *path, assay_err *err) {
    *out = NULL;
    assay_gguf *g = assay_calloc(1, sizeof *g);
    if (!g) return assay_nomem(err);
    assay_status s = assay_map_open(&g->map, path, err);
    if (s != ASSAY_OK) {
        assay_free(g);
        return s;
    }
    g->mapped = true;
    g->data = g->map.data;
    g->size = g->map.size;
    return parse(out, g, path, err);
}

void assay_gguf_close(assay_gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n_values; i++) assay_free(g->values[i].places);
    assay_free(g->values);
    assay_free(g->tensors);
    assay_free(g->by_key);
    assay_arena_free(&g->names);
    if (g->mapped) assay_map_close(&g->map);
    assay_free(g);
}

/* --- finding a file --- */

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Blobs of Ollama's store have no ending: the first letters tell. */
static bool is_gguf_file(const char *path) {
    char magic[4];
    if (ends_with(path, ".gguf")) return true;
    FILE *f = fopen(path, "rb");
    bool found = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (f) fclose(f);
    return found;
}

/* A model's file: not the later parts of a split, not the projector of an image encoder beside it. */
static bool is_model_name(const char *name) {
    size_t n = strlen(name);
    if (!ends_with(name, ".gguf") || name[0] == '.' || strncmp(name, "mmproj", 6) == 0) return false;
    bool part = n > 20 && strncmp(name + n - 20, "-", 1) == 0 && strncmp(name + n - 14, "-of-", 4) == 0;
    return !part || strncmp(name + n - 19, "00001", 5) == 0;
}

static assay_status find_in_dir(char **out, const char *dir, assay_err *err) {
    assay_status s = ASSAY_OK;
    char *found = NULL;
    DIR *d = opendir(dir);
    if (!d) return assay_fail(err, ASSAY_ENOTFOUND, "cannot read the folder %s", dir);
    bool plain = false;
    for (struct dirent *e; s == ASSAY_OK && (e = readdir(d)) != NULL;) {
        plain |= ends_with(e->d_name, ".safetensors");
        if (!is_model_name(e->d_name)) continue;
        if (found)
            s = assay_fail(err, ASSAY_EINPUT, "%s holds several models, %s and %s: name one of them", dir, found, e->d_name);
        else if (!(found = assay_strdup(e->d_name)))
            s = assay_nomem(err);
    }
    closedir(d);
    if (plain || (s == ASSAY_OK && !found)) s = assay_fail(err, ASSAY_ENOTFOUND, "%s holds no .gguf file to read", dir);
    if (s == ASSAY_OK && !(*out = assay_path_join(dir, found))) s = assay_nomem(err);
    assay_free(found);
    return s;
}

assay_status assay_gguf_find_file(char **out, const char *path, assay_err *err) {
    *out = NULL;
    if (!assay_path_exists(path)) return assay_fail(err, ASSAY_ENOTFOUND, "there is no %s", path);
    if (assay_path_is_dir(path)) return find_in_dir(out, path, err);
    if (!is_gguf_file(path)) return assay_fail(err, ASSAY_ENOTFOUND, "%s is no GGUF file", path);
    *out = assay_strdup(path);
    return *out ? ASSAY_OK : assay_nomem(err);
}

/* --- asking --- */

size_t assay_gguf_n_values(const assay_gguf *g) {
    return g->n_values;
}
const assay_gguf_value *assay_gguf_value_at(const assay_gguf *g, size_t i) {
    return i < g->n_values ? &g->values[i].pub : NULL;
}
size_t assay_gguf_n_tensors(const assay_gguf *g) {
    return g->n_tensors;
}
const assay_gguf_tensor *assay_gguf_tensor_at(const assay_gguf *g, size_t i) {
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}
const uint8_t *assay_gguf_data(const assay_gguf *g, size_t *n) {
    *n = g->size;
    return g->data;
}

const assay_gguf_value *assay_gguf_find(const assay_gguf *g, const char *key) {
    name_ref wanted = {key, 0};
    const name_ref *found = g->n_values ? bsearch(&wanted, g->by_key, g->n_values, sizeof wanted, by_name) : NULL;
    return found ? &g->values[found->index].pub : NULL;
}

/* Where element i of numbers stands; NULL when there is none. */
static const uint8_t *element_at(const assay_gguf_value *v, uint64_t i) {
    return v && i < v->n && SIZES[v->element] ? v->data + i * SIZES[v->element] : NULL;
}

bool assay_gguf_int(int64_t *out, const assay_gguf *g, const assay_gguf_value *v, uint64_t i) {
    const uint8_t *p = element_at(v, i);
    (void)g;
    if (!p || v->element == ASSAY_GGUF_F32 || v->element == ASSAY_GGUF_F64) return false;
    size_t n = SIZES[v->element];
    uint64_t u = load(p, n);
    bool is_signed = v->element == ASSAY_GGUF_I8 || v->element == ASSAY_GGUF_I16 || v->element == ASSAY_GGUF_I32;
    if (is_signed && u >> (8 * n - 1)) u |= ~0ull << (8 * n);
    if (v->element == ASSAY_GGUF_U64 && u > INT64_MAX) return false;
    if (v->element == ASSAY_GGUF_BOOL) u = u != 0;
    *out = (int64_t)u;
    return true;
}

bool assay_gguf_float(double *out, const assay_gguf *g, const assay_gguf_value *v, uint64_t i) {
    int64_t whole;
    const uint8_t *p = element_at(v, i);
    if (assay_gguf_int(&whole, g, v, i)) {
        *out = (double)whole;
        return true;
    }
    if (!p || v->element == ASSAY_GGUF_U64) return false;
    if (v->element == ASSAY_GGUF_F64) {
        uint64_t bits = load(p, 8);
        memcpy(out, &bits, 8);
    } else {
        uint32_t bits = (uint32_t)load(p, 4);
        float f;
        memcpy(&f, &bits, 4);
        *out = (double)f;
    }
    return true;
}

/* The index of an array of strings. */
static const uint64_t *places_of(value_slot *slot) {
    if (slot->places) return slot->places;
    uint64_t *places = assay_mallocn((size_t)slot->pub.n + 1, sizeof *places), at = 0;
    for (uint64_t i = 0; places && i < slot->pub.n; i++) {
        places[i] = at;
        at += 8 + load(slot->pub.data + at, 8);
    }
    return slot->places = places;
}

bool assay_gguf_string(const char **out, size_t *n, const assay_gguf *g, const assay_gguf_value *v, uint64_t i) {
    (void)g;
    if (!v || v->element != ASSAY_GGUF_STRING || i >= v->n) return false;
    const uint64_t *places = i ? places_of((value_slot *)(uintptr_t)v) : NULL;
    if (i && !places) return false;
    const uint8_t *p = v->data + (i ? places[i] : 0);
    *n = (size_t)load(p, 8);
    *out = (const char *)p + 8;
    return true;
}

/* --- writing --- */

static void put_int(assay_str *out, uint64_t v, size_t n) {
    char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(v >> (8 * i));
    assay_str_putn(out, bytes, n);
}

void assay_gguf_put_text(assay_str *out, const char *v, size_t n) {
    put_int(out, n, 8);
    assay_str_putn(out, v, n);
}

static void put_key(assay_str *out, const char *key, assay_gguf_type type) {
    assay_gguf_put_text(out, key, strlen(key));
    put_int(out, (uint64_t)type, 4);
}

void assay_gguf_put_head(assay_str *out, uint64_t n_tensors, uint64_t n_values) {
    assay_str_put(out, "GGUF");
    put_int(out, 3, 4);
    put_int(out, n_tensors, 8);
    put_int(out, n_values, 8);
}

void assay_gguf_put_int(assay_str *out, const char *key, assay_gguf_type type, int64_t v) {
    put_key(out, key, type);
    put_int(out, (uint64_t)v, SIZES[type]);
}

void assay_gguf_put_float(assay_str *out, const char *key, double v) {
    float f = (float)v;
    put_key(out, key, ASSAY_GGUF_F32);
    assay_gguf_put_element(out, ASSAY_GGUF_F32, &f);
}

void assay_gguf_put_string(assay_str *out, const char *key, const char *v, size_t n) {
    put_key(out, key, ASSAY_GGUF_STRING);
    assay_gguf_put_text(out, v, n);
}

void assay_gguf_put_array(assay_str *out, const char *key, assay_gguf_type element, uint64_t n) {
    put_key(out, key, ASSAY_GGUF_ARRAY);
    put_int(out, (uint64_t)element, 4);
    put_int(out, n, 8);
}

void assay_gguf_put_element(assay_str *out, assay_gguf_type element, const void *value) {
    size_t n = SIZES[element];
    uint64_t v = 0;
    if (n == 1) v = *(const uint8_t *)value;
    if (n == 2) v = *(const uint16_t *)value;
    if (n == 4) {
        uint32_t u; /* of a float, too */
        memcpy(&u, value, 4);
        v = u;
    }
    if (n == 8) memcpy(&v, value, 8);
    put_int(out, v, n);
}

void assay_gguf_put_value(assay_str *out, const assay_gguf_value *v) {
    put_key(out, v->key, v->type);
    if (v->type == ASSAY_GGUF_ARRAY) {
        put_int(out, (uint64_t)v->element, 4);
        put_int(out, v->n, 8);
    }
    assay_str_putn(out, v->data, v->n_bytes);
}

void assay_gguf_put_tensor(assay_str *out, const char *name, int n_dims, const int64_t *dims, uint32_t ggml_type, uint64_t offset) {
    assay_gguf_put_text(out, name, strlen(name));
    put_int(out, (uint64_t)n_dims, 4);
    for (int i = 0; i < n_dims; i++) put_int(out, (uint64_t)dims[i], 8);
    put_int(out, ggml_type, 4);
    put_int(out, offset, 8);
}
