/* tables.c: the lists of devices, sources, runtimes and KV storages, and how to find a row of them. */
#include <math.h>
#include <string.h>
#include "base/str.h"
#include "plan/plan.h"

#define GB 1e9

/* devices.def holds gigabytes and tera-operations; the table holds bytes and operations per second. */
#define FIG(value, source) value, source
#define UNKNOWN            NAN, NULL
#define X(...)             DEVICE(__VA_ARGS__)
#define DEVICE(id, name, kind, mv, ms, bv, bs, fv, fs, iv, is, ev, es)                                       \
    {id, name, kind, {(mv)*GB, ms}, {(bv)*GB, bs}, {(fv)*1e12, fs}, {(iv)*1e12, is}, {(ev)*1e12, es}},
static const assay_device device_table[] = {
#include "plan/devices.def"
};
#undef DEVICE
#undef X

#define X(code, title, url, date, grade) {code, title, url, date, grade},
static const assay_source source_table[] = {
#include "plan/sources.def"
};
#undef X

#define X(id, share, mib, block, chunk, bytes, logits, frees, source)                                        \
    {id, share, (double)(mib)*1048576.0, block, chunk, bytes, (logits) != 0, (frees) != 0, source},
static const assay_runtime_profile runtime_table[] = {
#include "plan/runtimes.def"
};
#undef X

typedef struct kv_row {
    const char *name, *runtime;
    int bits, scale_bytes, block, key_bytes, page_bytes, recent;
} kv_row;
#define KV_PAGE 64
#define X(NAME, name, runtime, bits, scale_bytes, block, key_bytes, page_bytes, recent, note)                \
    {name, runtime, bits, scale_bytes, block, key_bytes, page_bytes, recent},
static const kv_row kv_table[ASSAY_KV_FORMAT_COUNT] = {
#include "plan/kv.def"
};
#undef X

const assay_device *assay_devices(size_t *n) {
    *n = ASSAY_LEN(device_table);
    return device_table;
}

const assay_source *assay_sources(size_t *n) {
    *n = ASSAY_LEN(source_table);
    return source_table;
}

const assay_runtime_profile *assay_runtime_profiles(size_t *n) {
    *n = ASSAY_LEN(runtime_table);
    return runtime_table;
}

assay_status assay_device_find(const assay_device **out, const char *id, assay_err *err) {
    const char *ids[ASSAY_LEN(device_table)];
    for (size_t i = 0; i < ASSAY_LEN(device_table); i++) {
        ids[i] = device_table[i].id;
        if (strcmp(ids[i], id) == 0) {
            *out = &device_table[i];
            return ASSAY_OK;
        }
    }
    const char *near = assay_nearest(id, ids, ASSAY_LEN(ids));
    if (near) return assay_fail(err, ASSAY_ENOTFOUND, "unknown device '%s', did you mean '%s'", id, near);
    return assay_fail(err, ASSAY_ENOTFOUND,
                      "unknown device '%s'; `assay plan --devices` lists the %zu known ones", id,
                      ASSAY_LEN(device_table));
}

const assay_source *assay_source_find(const char *code) {
    for (size_t i = 0; code && i < ASSAY_LEN(source_table); i++)
        if (strcmp(source_table[i].code, code) == 0) return &source_table[i];
    return NULL;
}

assay_status assay_runtime_profile_find(const assay_runtime_profile **out, const char *id, assay_err *err) {
    assay_str names = {0};
    for (size_t i = 0; i < ASSAY_LEN(runtime_table); i++) {
        if (strcmp(runtime_table[i].id, id) == 0) {
            *out = &runtime_table[i];
            assay_str_free(&names);
            return ASSAY_OK;
        }
        assay_str_printf(&names, "%s%s", i ? ", " : "", runtime_table[i].id);
    }
    assay_status s =
        assay_fail(err, ASSAY_ENOTFOUND, "unknown runtime '%s'; known are %s", id, assay_str_c(&names));
    assay_str_free(&names);
    return s;
}

const char *assay_kv_name(assay_kv_format k) {
    return (unsigned)k < ASSAY_KV_FORMAT_COUNT ? kv_table[k].name : "?";
}

bool assay_kv_parse(assay_kv_format *out, const char *name) {
    for (int i = 0; i < ASSAY_KV_FORMAT_COUNT; i++) {
        if (!kv_table[i].runtime && strcmp(kv_table[i].name, name) == 0) {
            *out = (assay_kv_format)i;
            return true;
        }
    }
    return false;
}

assay_kv_format assay_kv_of_runtime(assay_kv_format k, const char *runtime) {
    for (int i = 0; runtime && i < ASSAY_KV_FORMAT_COUNT; i++)
        if (kv_table[i].runtime && !strcmp(kv_table[i].runtime, runtime) &&
            !strcmp(kv_table[i].name, assay_kv_name(k)))
            return (assay_kv_format)i;
    return k;
}

static const kv_row *row_of(assay_kv_format k) {
    return &kv_table[(unsigned)k < ASSAY_KV_FORMAT_COUNT ? k : 0];
}

double assay_kv_token_layer_bytes(const assay_config *c, assay_kv_format k) {
    const kv_row *row = row_of(k);
    const assay_kv_shape shape = assay_config_kv_shape(c);
    double d = (double)shape.dim;
    double blocks = row->block ? ceil(d / row->block) : 1.0;
    double codes = ceil(d * row->bits / 8.0), values = codes + blocks * row->scale_bytes;
    double keys = row->key_bytes < 0 ? values : codes + d * row->key_bytes / KV_PAGE;
    double page = (double)row->page_bytes / KV_PAGE;
    return (double)shape.heads * (keys + page + (shape.shared ? 0 : values + page));
}

double assay_kv_sequence_bytes(const assay_config *c, assay_kv_format k, int64_t context, int64_t block,
                               int64_t chunk) {
    if (context <= 0) return 0.0;
    const kv_row *row = row_of(k);
    const assay_kv_shape shape = assay_config_kv_shape(c);
    if (block < 1) block = 1;
    if (row->recent) block = ASSAY_MAX(block, KV_PAGE); /* whole pages are quantized */
    if (chunk < 1) chunk = 1;
    double tokens = 0.0,
           recent = (shape.shared ? 2.0 : 4.0) * shape.heads * shape.dim * row->recent * (double)c->n_layers;
    for (int64_t layer = 0; layer < c->n_layers; layer++) {
        int64_t held = context;
        /* the last chunk's queries still need the window before its first token */
        if (assay_config_window(c, layer)) held = ASSAY_MIN(context, c->sliding_window - 1 + chunk);
        tokens += (double)((held + block - 1) / block * block);
    }
    return tokens * assay_kv_token_layer_bytes(c, k) + recent;
}
