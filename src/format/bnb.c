/* bnb.c: the bitsandbytes convention (bitsandbytes 0.50: functional.py QuantState.as_dict, nn/modules.py,
 * as transformers saves it).
 *
 * 4 bits, for module X of shape [o, i]:
 *   X.weight                               U8 [ceil(o*i/2), 1]   two codes a byte of the flattened matrix, the
 *                                                                first in the high nibble
 *   X.weight.absmax                        F32 [blocks], or U8 [blocks] when the scales are quantized again
 *   X.weight.quant_map                     F32 [16]              the table, by code
 *   X.weight.nested_absmax                 F32 [ceil(blocks/256)]
 *   X.weight.nested_quant_map              F32 [256]
 *   X.weight.quant_state.bitsandbytes__nf4 (or __fp4)   U8: JSON {"quant_type", "blocksize", "dtype", "shape",
 *                                              "nested_blocksize", "nested_dtype", "nested_offset"}
 * X.weight may have another type of the same bytes (bnb_4bit_quant_storage).
 *
 * 8 bits:
 *   X.weight I8 [o, i]    X.SCB F32 [o] (the row's absmax)    X.weight_format U8 [], 0 = row major
 *   w = code * SCB / 127. A matrix has scale = SCB / 127 in float32, from which SCB comes back exactly when it
 *   is a float16 value, as bitsandbytes' own always are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"
#include "num/convert.h"
#include "precision/nested.h"

static const char *const STATE[] = {".weight.quant_state.bitsandbytes__nf4",
                                    ".weight.quant_state.bitsandbytes__fp4"};
static const assay_precision STATE_PRECISION[] = {ASSAY_PRECISION_NF4, ASSAY_PRECISION_FP4};

static const assay_tensor *find_state(const assay_want *w, assay_precision *p) {
    for (size_t i = 0; i < ASSAY_LEN(STATE); i++) {
        const assay_tensor *t = assay_want_find(w, STATE[i]);
        *p = STATE_PRECISION[i];
        if (t) return t;
    }
    return NULL;
}

bool assay_bnb_has(const assay_want *w) {
    assay_precision p;
    return find_state(w, &p) || assay_want_find(w, ".SCB");
}

/* --- reading 4 bits --- */

typedef struct quant_state {
    int64_t rows, cols, block, nested_block;
    double offset;
} quant_state;

static assay_status read_state(quant_state *q, const assay_tensor *t, assay_err *err) {
    json_t *j = NULL;
    assay_status s;
    *q = (quant_state){.block = 64, .nested_block = 256, .offset = NAN};
    ASSAY_GO(assay_json_parse(&j, t->data, t->n_bytes, t->name, err));
    const json_t *shape = json_object_get(j, "shape");
    if (json_array_size(shape) != 2 || !json_is_integer(json_array_get(shape, 0)) ||
        !json_is_integer(json_array_get(shape, 1))) {
        s = assay_fail(err, ASSAY_EINPUT, "%s: its shape is not that of a matrix", t->name);
        goto out;
    }
    q->rows = json_integer_value(json_array_get(shape, 0));
    q->cols = json_integer_value(json_array_get(shape, 1));
    ASSAY_GO(assay_json_get_int(&q->block, j, "blocksize", t->name, err));
    ASSAY_GO(assay_json_get_int(&q->nested_block, j, "nested_blocksize", t->name, err));
    ASSAY_GO(assay_json_get_double(&q->offset, j, "nested_offset", t->name, err));
    if (q->block < 1 || q->block > 1 << 20 || q->nested_block < 1 || q->nested_block > 1 << 20)
        s = assay_fail(err, ASSAY_EINPUT, "%s: blocks of %lld and %lld are impossible", t->name,
                       (long long)q->block, (long long)q->nested_block);
out:
    json_decref(j);
    return s;
}

/* compute dtype of a 4-bit matrix: what transformers takes from the configuration, float32 when it is
 * silent. */
static assay_status compute_dtype(assay_dtype *out, const json_t *config, assay_err *err) {
    const char *name = "float32";
    ASSAY_TRY(assay_json_get_str(&name, config, "bnb_4bit_compute_dtype", "quantization_config", err));
    if (strcmp(name, "float32") == 0)
        *out = ASSAY_DTYPE_F32;
    else if (strcmp(name, "bfloat16") == 0)
        *out = ASSAY_DTYPE_BF16;
    else if (strcmp(name, "float16") == 0)
        *out = ASSAY_DTYPE_F16;
    else
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "quantization_config: bnb_4bit_compute_dtype '%s' is not supported", name);
    return ASSAY_OK;
}

static assay_status read_table(const assay_want *w, assay_precision p, assay_err *err) {
    const assay_tensor *t;
    ASSAY_TRY(assay_want_get(&t, w, ".weight.quant_map", err));
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_F32, 16, err));
    const float *table = assay_precision_table(p);
    for (int i = 0; i < 16; i++) {
        float v;
        memcpy(&v, (const char *)t->data + 4 * i, 4);
        if (v != table[i])
            return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s has %g for code %d where %s has %g",
                              t->name, (double)v, i, assay_precision_name(p), (double)table[i]);
    }
    return ASSAY_OK;
}

static assay_status read_nested(assay_matrix *m, const assay_want *w, const assay_tensor *codes,
                                const quant_state *q, assay_err *err) {
    const assay_tensor *absmax, *map;
    int64_t blocks = (m->n_scales + q->nested_block - 1) / q->nested_block;
    ASSAY_TRY(assay_want_tensor(codes, ASSAY_DTYPE_U8, m->n_scales, err));
    ASSAY_TRY(assay_want_get(&absmax, w, ".weight.nested_absmax", err));
    ASSAY_TRY(assay_want_tensor(absmax, ASSAY_DTYPE_F32, blocks, err));
    ASSAY_TRY(assay_want_get(&map, w, ".weight.nested_quant_map", err));
    ASSAY_TRY(assay_want_tensor(map, ASSAY_DTYPE_F32, 256, err));
    m->nested = assay_nested_new(m->n_scales, (int)q->nested_block);
    if (!m->nested) return assay_nomem(err);
    memcpy(m->nested->codes, codes->data, codes->n_bytes);
    memcpy(m->nested->absmax, absmax->data, absmax->n_bytes);
    memcpy(m->nested->map, map->data, map->n_bytes);
    m->nested->offset = (float)q->offset;
    assay_nested_decode(m->scales, m->nested, m->n_scales);
    return ASSAY_OK;
}

static assay_status read_codes(assay_matrix *m, const assay_tensor *t, assay_err *err) {
    size_t n = (size_t)(m->rows * m->cols), bytes = (n + 1) / 2, unit = assay_dtype_size(t->dtype);
    if (t->n_bytes != (bytes + unit - 1) / unit * unit)
        return assay_fail(err, ASSAY_EINPUT,
                          "tensor %s has %zu bytes where %lld x %lld codes of 4 bits take %zu", t->name,
                          t->n_bytes, (long long)m->rows, (long long)m->cols, bytes);
    const uint8_t *p = t->data;
    for (size_t i = 0; i < n / 2; i++) {
        m->codes[2 * i] = p[i] >> 4;
        m->codes[2 * i + 1] = p[i] & 15;
    }
    if (n % 2) m->codes[n - 1] = p[n / 2] >> 4;
    return ASSAY_OK;
}

static assay_status get_4bit(assay_matrix *m, const assay_want *w, const assay_tensor *state,
                             assay_precision p, assay_err *err) {
    const assay_tensor *codes, *absmax;
    quant_state q;
    ASSAY_TRY(read_state(&q, state, err));
    ASSAY_TRY(assay_want_shape(w, q.rows, q.cols, err));
    ASSAY_TRY(read_table(w, p, err));
    ASSAY_TRY(assay_want_get(&codes, w, ".weight", err));
    ASSAY_TRY(assay_want_get(&absmax, w, ".weight.absmax", err));
    /* Before allocating for the shape that the JSON claims: does the tensor have as many bytes? */
    int64_t n;
    if (__builtin_mul_overflow(q.rows, q.cols, &n) || (uint64_t)n / 2 > codes->n_bytes)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is too short for %lld x %lld codes", codes->name,
                          (long long)q.rows, (long long)q.cols);
    *m = (assay_matrix){.precision = p,
                        .rows = q.rows,
                        .cols = q.cols,
                        .group_size = q.block,
                        .scale_dtype = ASSAY_DTYPE_F32,
                        .act_bits = 16};
    ASSAY_TRY(compute_dtype(&m->act_dtype, w->config, err));
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    if (!w->outline) ASSAY_TRY(read_codes(m, codes, err));
    if (absmax->dtype == ASSAY_DTYPE_U8) return read_nested(m, w, absmax, &q, err);
    ASSAY_TRY(assay_want_tensor(absmax, ASSAY_DTYPE_F32, m->n_scales, err));
    memcpy(m->scales, absmax->data, absmax->n_bytes);
    return ASSAY_OK;
}

/* --- reading 8 bits --- */

static assay_status get_8bit(assay_matrix *m, const assay_want *w, const assay_tensor *scb, assay_err *err) {
    const assay_tensor *t, *format = assay_want_find(w, ".weight_format");
    double threshold = 6.0;
    ASSAY_TRY(assay_want_get(&t, w, ".weight", err));
    if (t->n_dims != 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %d dimensions where 2 are expected", t->name,
                          t->n_dims);
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I8, -1, err));
    ASSAY_TRY(assay_want_shape(w, t->dims[0], t->dims[1], err));
    ASSAY_TRY(assay_want_tensor(scb, ASSAY_DTYPE_F32, t->dims[0], err));
    if (format && (format->n_bytes != 1 || *(const uint8_t *)format->data != 0))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s: only the row-major layout (0) is supported",
                          format->name);
    ASSAY_TRY(assay_json_get_double(&threshold, w->config, "llm_int8_threshold", "quantization_config", err));
    *m = (assay_matrix){.precision = ASSAY_PRECISION_INT8,
                        .rows = t->dims[0],
                        .cols = t->dims[1],
                        .scale_dtype = ASSAY_DTYPE_F32,
                        .act_bits = 8,
                        .act_dtype = ASSAY_DTYPE_F16,
                        .outlier_threshold = threshold};
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    const uint8_t *p = t->data;
    for (size_t i = 0; i < t->n_bytes && !w->outline; i++) m->codes[i] = p[i] ^ 0x80;
    memcpy(m->scales, scb->data, scb->n_bytes);
    for (int64_t r = 0; r < m->rows; r++) m->scales[r] /= 127.0f;
    return ASSAY_OK;
}

assay_status assay_bnb_get(assay_matrix *out, const assay_want *w, assay_err *err) {
    assay_precision p;
    const assay_tensor *state = find_state(w, &p);
    return state ? get_4bit(out, w, state, p, err) : get_8bit(out, w, assay_want_find(w, ".SCB"), err);
}

/* --- writing --- */

static const char *torch_name(assay_dtype t) {
    return t == ASSAY_DTYPE_BF16 ? "bfloat16" : t == ASSAY_DTYPE_F16 ? "float16" : "float32";
}

/* The shortest decimal that reads back as v, as Python writes it. */
static void put_python_float(assay_str *b, double v) {
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    assay_str_put(b, text);
    if (!strpbrk(text, ".e")) assay_str_put(b, ".0");
}

/* The bytes that json.dumps makes of QuantState's dictionary. */
static assay_status put_state(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                              assay_dtype model_dtype, assay_err *err) {
    assay_str b = {0};
    bool nf4 = m->precision == ASSAY_PRECISION_NF4;
    assay_str_printf(
        &b, "{\"quant_type\": \"%s\", \"blocksize\": %lld, \"dtype\": \"%s\", \"shape\": [%lld, %lld]",
        nf4 ? "nf4" : "fp4", (long long)m->group_size, torch_name(model_dtype), (long long)m->rows,
        (long long)m->cols);
    if (m->nested) {
        assay_str_printf(&b, ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", \"nested_offset\": ",
                         m->nested->block);
        put_python_float(&b, (double)m->nested->offset);
    }
    assay_str_putc(&b, '}');
    assay_status s = assay_str_status(&b, err);
    if (s == ASSAY_OK)
        s = assay_put_part(w, module, STATE[nf4 ? 0 : 1], ASSAY_DTYPE_U8, 1, (int64_t[]){(int64_t)b.len}, b.s,
                           err);
    assay_str_free(&b);
    return s;
}

static assay_status put_scales(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                               assay_err *err) {
    const assay_nested *q = m->nested;
    if (!q)
        return assay_put_part(w, module, ".weight.absmax", ASSAY_DTYPE_F32, 1, &m->n_scales, m->scales, err);
    int64_t blocks = (m->n_scales + q->block - 1) / q->block;
    ASSAY_TRY(assay_put_part(w, module, ".weight.absmax", ASSAY_DTYPE_U8, 1, &m->n_scales, q->codes, err));
    ASSAY_TRY(
        assay_put_part(w, module, ".weight.nested_absmax", ASSAY_DTYPE_F32, 1, &blocks, q->absmax, err));
    return assay_put_part(w, module, ".weight.nested_quant_map", ASSAY_DTYPE_F32, 1, (int64_t[]){256}, q->map,
                          err);
}

static uint8_t *pack_nibbles(const assay_matrix *m, size_t *n_bytes, bool planning) {
    size_t n = (size_t)(m->rows * m->cols);
    *n_bytes = (n + 1) / 2;
    uint8_t *out = assay_malloc(*n_bytes);
    if (!out || planning) return out;
    for (size_t i = 0; i < n / 2; i++) out[i] = (uint8_t)(m->codes[2 * i] << 4 | m->codes[2 * i + 1]);
    /* an odd end is filled up with the code of zero, as bitsandbytes pads */
    if (n % 2) out[n / 2] = (uint8_t)(m->codes[n - 1] << 4 | (m->precision == ASSAY_PRECISION_NF4 ? 7 : 0));
    return out;
}

static assay_status put_4bit(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                             assay_dtype model_dtype, assay_err *err) {
    size_t n_bytes;
    uint8_t *packed = pack_nibbles(m, &n_bytes, assay_ckpt_writer_is_planning(w));
    if (!packed) return assay_nomem(err);
    assay_status s = assay_put_part(w, module, ".weight", ASSAY_DTYPE_U8, 2, (int64_t[]){(int64_t)n_bytes, 1},
                                    packed, err);
    assay_free(packed);
    if (s == ASSAY_OK) s = put_scales(w, module, m, err);
    if (s == ASSAY_OK)
        s = assay_put_part(w, module, ".weight.quant_map", ASSAY_DTYPE_F32, 1, (int64_t[]){16},
                           assay_precision_table(m->precision), err);
    return s == ASSAY_OK ? put_state(w, module, m, model_dtype, err) : s;
}

/* The SCB whose 127th part is this scale: a float16 value if one does, as for every matrix of
 * bitsandbytes' making. */
static bool scb_of(float *scb, float scale) {
    float c = scale * 127.0f;
    const float candidates[] = {assay_f16_to_f32(assay_f32_to_f16(c)), c, nextafterf(c, 0),
                                nextafterf(c, INFINITY)};
    for (size_t i = 0; i < ASSAY_LEN(candidates); i++) {
        *scb = candidates[i];
        if (*scb / 127.0f == scale) return true;
    }
    return false;
}

static assay_status put_8bit(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                             assay_err *err) {
    assay_status s = ASSAY_OK;
    float *scb = assay_mallocn((size_t)m->rows, sizeof *scb);
    int8_t *codes = assay_signed_codes(m->codes, assay_ckpt_writer_is_planning(w) ? 0 : m->rows * m->cols, 8);
    if (!scb || !codes) s = assay_nomem(err);
    for (int64_t r = 0; s == ASSAY_OK && r < m->rows; r++) scb_of(&scb[r], m->scales[r]);
    if (s == ASSAY_OK)
        s = assay_put_part(w, module, ".weight", ASSAY_DTYPE_I8, 2, (int64_t[]){m->rows, m->cols}, codes,
                           err);
    if (s == ASSAY_OK) s = assay_put_part(w, module, ".SCB", ASSAY_DTYPE_F32, 1, &m->rows, scb, err);
    if (s == ASSAY_OK) s = assay_put_part(w, module, ".weight_format", ASSAY_DTYPE_U8, 0, &m->rows, "", err);
    assay_free(codes);
    assay_free(scb);
    return s;
}

assay_status assay_bnb_check(const char *module, const assay_matrix *m, assay_err *err) {
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_CODEBOOK) {
        if (m->group_size >= 32 && m->group_size <= 4096 && !(m->group_size & (m->group_size - 1))) return ASSAY_OK;
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: bitsandbytes has blocks of 32, 64, ... 4096, not %lld", module,
                          (long long)m->group_size);
    }
    if (m->precision != ASSAY_PRECISION_INT8 || m->zeros || m->real_zeros || assay_matrix_n_groups(m) != 1 ||
        m->input_scale != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: bitsandbytes holds nf4, fp4 and row-wise symmetric int8, not %s%s", module,
                          assay_precision_name(m->precision),
                          m->zeros || m->real_zeros      ? " with zero points"
                          : assay_matrix_n_groups(m) > 1 ? " in groups"
                          : m->input_scale > 0           ? " with a static input scale"
                                                         : "");
    float scb;
    for (int64_t r = 0; r < m->n_scales; r++)
        if (!scb_of(&scb, m->scales[r]))
            return assay_fail(
                err, ASSAY_EUNSUPPORTED,
                "%s: bitsandbytes cannot hold the scale %.9g of row %lld exactly: it stores 127 times as much",
                module, (double)m->scales[r], (long long)r);
    return ASSAY_OK;
}

assay_status assay_bnb_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                           assay_dtype model_dtype, assay_err *err) {
    ASSAY_TRY(assay_bnb_check(module, m, err));
    return assay_precision_get_kind(m->precision) == ASSAY_KIND_CODEBOOK ? put_4bit(w, module, m, model_dtype, err)
                                                                         : put_8bit(w, module, m, err);
}
