/* grid.c: from the range of a group to its parameters, with the arithmetic of the originals.
 *
 * compressed-tensors 0.20 (quantization/utils/helpers.py calculate_qparams, generate_gparam; mxfp_utils.py),
 * lo <= 0 <= hi, every operation rounded to the model's dtype: INT symmetric   scale = absmax / ((2^b - 1) /
 * 2) INT asymmetric  scale = (hi - lo) / (2^b - 1)         zero = round(clamp(-2^(b-1) - lo / scale)) as a
 * signed code FP8             scale = absmax / 448; E5M2, which it lacks, the same with 57344 MXFP4 exponent
 * of absmax + a quarter of its power of two, less 2: 1.75 * 2^e counts as 2^(e+1) NVFP4           scale =
 * e4m3(global * (absmax / 6)), the product in float32; global = 1 / absmax of the matrix * 2688 a scale of 0
 * becomes the epsilon of the type it is stored in bitsandbytes 0.50: INT of LLM.int8()   absmax of the values
 * in float16, / 127 CODEBOOK            absmax, in a short block no less than 1e-38 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "num/convert.h"
#include "precision/encode.h"

float assay_round_to(float f, assay_dtype t) {
    if (t == ASSAY_DTYPE_BF16) return assay_bf16_to_f32(assay_f32_to_bf16(f));
    if (t == ASSAY_DTYPE_F16) return assay_f16_to_f32(assay_f32_to_f16(f));
    return f;
}

static float epsilon_of(assay_dtype t) {
    return t == ASSAY_DTYPE_BF16 ? 0x1p-7f : t == ASSAY_DTYPE_F16 ? 0x1p-10f : FLT_EPSILON;
}

static float clampf(float x, float lo, float hi) {
    return x < lo ? lo : x > hi ? hi : x; /* NaN stays NaN */
}

float assay_float_largest(assay_precision p) {
    return p == ASSAY_PRECISION_FP8_E4M3 ? 448.0f : p == ASSAY_PRECISION_FP8_E5M2 ? 57344.0f : 6.0f;
}

float assay_grid_spec_global(const assay_grid_spec *s, float absmax) {
    assay_dtype t = s->scale_dtype;
    if (s->precision != ASSAY_PRECISION_NVFP4) return 0;
    float tiny = t == ASSAY_DTYPE_F16 ? 0x1p-14f : FLT_MIN;
    float inverse = assay_round_to(1.0f / fmaxf(assay_round_to(absmax, t), tiny), t);
    float global = assay_round_to(inverse * (448.0f * 6.0f), t);
    return isfinite(global) ? global : 1.0f;
}

/* The biased exponent that MXFP4 stores: 255 when the range is too large for any. */
static int mx_exponent(float absmax, assay_dtype t) {
    float power;
    uint32_t u;
    if (t == ASSAY_DTYPE_F16) {
        power = assay_f16_to_f32((uint16_t)((assay_f32_to_f16(absmax) + (1u << 8)) & 0xfc00u));
        memcpy(&u, &power, 4);
        if (power < 0x1p-14f) u = 0; /* subnormal to it: log2(0) */
    } else {
        memcpy(&u, &absmax, 4);
        u += 1u << 21;
    }
    int e = (int)(u >> 23);
    return e == 255 ? 255 : ASSAY_MAX(e - 2, 0);
}

static void mxfp4_grid(assay_grid *g, float absmax, assay_dtype t) {
    int e = mx_exponent(absmax, t);
    g->stored = e == 255 ? INFINITY : assay_round_to(assay_e8m0_to_f32((uint8_t)e), t);
    if (g->stored == 0) g->stored = 1;
    g->scale = g->stored;
}

static void nvfp4_grid(assay_grid *g, const assay_grid_spec *s, float absmax) {
    float scale = assay_round_to(absmax / 6.0f, s->scale_dtype);
    if (s->global_scale != 0) scale *= s->global_scale;
    g->stored = assay_e4m3_to_f32(assay_f32_to_e4m3(ASSAY_MIN(scale, 448.0f)));
    if (g->stored == 0) g->stored = 0.125f;
    g->scale = s->global_scale != 0 ? g->stored / s->global_scale : g->stored;
}

static void int_grid(assay_grid *g, const assay_grid_spec *s, float lo, float hi) {
    assay_dtype t = s->scale_dtype;
    int bits = assay_precision_bits(s->precision);
    float range = (float)((1 << bits) - 1), middle = (float)(1 << (bits - 1)), zero = 0;
    if (s->asymmetric) {
        g->scale = assay_round_to(assay_round_to(hi - lo, t) / range, t);
        zero = assay_round_to(-middle - assay_round_to(lo / g->scale, t), t);
        zero = clampf(zero, -middle, middle - 1);
        zero = isnan(zero) ? 0 : rintf(zero); /* 0/0 of an all-zero group: the cast to int8 gives 0 */
    } else {
        g->scale = assay_round_to(ASSAY_MAX(-lo, hi) / (range / 2), t);
    }
    if (g->scale == 0) g->scale = epsilon_of(t);
    g->zero = zero + middle;
    g->stored = g->scale;
}

static void absmax_grid(assay_grid *g, const assay_grid_spec *s, float absmax) {
    int middle = 1 << (assay_precision_bits(s->precision) - 1);
    g->scale = g->stored = assay_round_to(absmax, ASSAY_DTYPE_F16) / (float)(middle - 1);
    g->zero = (float)middle;
}

void assay_grid_from_range(assay_grid *g, const assay_grid_spec *s, float lo, float hi) {
    assay_dtype t = s->scale_dtype;
    *g = (assay_grid){0};
    lo = ASSAY_MIN(lo, 0.0f);
    hi = ASSAY_MAX(hi, 0.0f);
    if (s->rule == ASSAY_SCALE_ABSMAX && assay_precision_get_kind(s->precision) == ASSAY_KIND_INT) {
        absmax_grid(g, s, ASSAY_MAX(-lo, hi));
        return;
    }
    if (assay_precision_get_kind(s->precision) == ASSAY_KIND_CODEBOOK) {
        g->scale = g->stored = ASSAY_MAX(-lo, hi);
        return;
    }
    lo = assay_round_to(lo, t);
    hi = assay_round_to(hi, t);
    float absmax = ASSAY_MAX(-lo, hi);
    switch (s->precision) {
    case ASSAY_PRECISION_FP8_E4M3:
    case ASSAY_PRECISION_FP8_E5M2:
        g->scale = assay_round_to(absmax / assay_float_largest(s->precision), t);
        if (g->scale == 0) g->scale = epsilon_of(t);
        g->stored = g->scale;
        break;
    case ASSAY_PRECISION_MXFP4: mxfp4_grid(g, absmax, t); break;
    case ASSAY_PRECISION_NVFP4: nvfp4_grid(g, s, absmax); break;
    default: int_grid(g, s, lo, hi); break;
    }
}

assay_dtype assay_grid_stored_dtype(const assay_grid_spec *s) {
    if (s->precision == ASSAY_PRECISION_MXFP4) return ASSAY_DTYPE_F8_E8M0;
    if (s->precision == ASSAY_PRECISION_NVFP4) return ASSAY_DTYPE_F8_E4M3;
    if (assay_precision_get_kind(s->precision) == ASSAY_KIND_CODEBOOK) return ASSAY_DTYPE_F32;
    return s->scale_dtype == ASSAY_DTYPE_F64 ? ASSAY_DTYPE_F32 : s->scale_dtype; /* all-zero options */
}

/* What is wrong with a spec, or NULL. */
static const char *complaint(const assay_grid_spec *s) {
    assay_precision_kind kind = assay_precision_get_kind(s->precision);
    if (kind == ASSAY_KIND_DENSE) return "has no codes";
    if (s->group_size < 0 || s->row_block < 0) return "cannot have negative groups";
    if (kind == ASSAY_KIND_CODEBOOK && s->group_size < 1) return "needs a group size";
    if (s->precision == ASSAY_PRECISION_MXFP4 && s->group_size != 32) return "has groups of 32";
    if (s->precision == ASSAY_PRECISION_NVFP4 && s->group_size != 16) return "has groups of 16";
    if (s->row_block > 1 && s->precision != ASSAY_PRECISION_FP8_E4M3 &&
        s->precision != ASSAY_PRECISION_FP8_E5M2)
        return "has scales of its own for each row";
    if (s->asymmetric && kind != ASSAY_KIND_INT) return "has no zero points";
    return NULL;
}

assay_status assay_grid_matrix_new(assay_matrix *out, const assay_grid_spec *s, int64_t rows, int64_t cols,
                                   assay_err *err) {
    memset(out, 0, sizeof *out);
    const char *wrong = complaint(s);
    if (wrong) return assay_fail(err, ASSAY_EUSAGE, "%s %s", assay_precision_name(s->precision), wrong);
    bool absmax = s->rule == ASSAY_SCALE_ABSMAX && assay_precision_get_kind(s->precision) == ASSAY_KIND_INT;
    *out = (assay_matrix){.precision = s->precision,
                          .rows = rows,
                          .cols = cols,
                          .group_size = s->group_size,
                          .row_block = s->row_block,
                          .global_scale = s->precision == ASSAY_PRECISION_NVFP4 ? s->global_scale : 0,
                          .scale_dtype = assay_grid_stored_dtype(s),
                          .act_bits = absmax ? 8 : 16,
                          .act_dtype = absmax                               ? ASSAY_DTYPE_F16
                                       : s->scale_dtype == ASSAY_DTYPE_F16  ? ASSAY_DTYPE_F16
                                       : s->scale_dtype == ASSAY_DTYPE_BF16 ? ASSAY_DTYPE_BF16
                                                                            : ASSAY_DTYPE_F32};
    return assay_matrix_alloc(out, s->asymmetric, err);
}
