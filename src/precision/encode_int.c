/* encode_int.c: round to nearest on integer grids, with the arithmetic of two originals.
 *
 * compressed-tensors 0.20 (quantization/utils/helpers.py calculate_qparams, lifecycle/forward_helpers.py
 * _quantize), signed codes q:
 *   symmetric   scale = absmax / ((2^b - 1) / 2)                          zero = 0
 *   asymmetric  scale = (max - min) / (2^b - 1), min <= 0 <= max     zero = round(clamp(-2^(b-1) - min / scale))
 *   a scale of 0 becomes the dtype's epsilon;   q = round(clamp(w / scale + zero)), ties to even
 * Scale and zero point are computed in the model's dtype (scale_dtype), every operation rounded to it. The
 * quotient is a float32 one whatever the model's dtype, as in the original's Triton kernel; its CPU
 * fallback divides in bfloat16 for a bfloat16 model, which rounds twice, so its codes differ there near
 * the middle of two steps.
 *
 * LLM.int8() (bitsandbytes 0.50, Int8Params._quantize and int8_vectorwise_quant): w is cast to float16
 * whatever it was, then
 *   q = round(w * (1 / absmax * 127)), scale = absmax / 127
 *
 * Codes are stored unsigned, q + 2^(b-1). Optional clipping search: encode_clip.c. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/encode.h"

enum { PIECE = 16 };

/* After clamping to +-256, adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even,
 * without SSE4.1. */
#define ROUNDER 12582912.0f

assay_status assay_check_finite(const float *w, int64_t rows, int64_t cols, assay_err *err) {
    int64_t n;
    if (rows < 1 || cols < 1 || __builtin_mul_overflow(rows, cols, &n))
        return assay_fail(err, ASSAY_EINPUT, "a matrix of %lld x %lld cannot be encoded", (long long)rows,
                          (long long)cols);
    int64_t at = assay_find_nonfinite(w, ASSAY_DTYPE_F32, (size_t)n);
    if (at < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "weight at row %lld column %lld is %s", (long long)(at / cols),
                      (long long)(at % cols), isnan(w[at]) ? "NaN" : "infinite");
}

void assay_extremes(float *lo, float *hi, const float *w, size_t n) {
    float a[PIECE], b[PIECE];
    size_t i = 0;
    for (int k = 0; k < PIECE; k++) a[k] = b[k] = w[0];
    for (; i + PIECE <= n; i += PIECE) {
        for (int k = 0; k < PIECE; k++) {
            float x = w[i + (size_t)k];
            a[k] = x < a[k] ? x : a[k];
            b[k] = x > b[k] ? x : b[k];
        }
    }
    for (; i < n; i++) {
        a[0] = w[i] < a[0] ? w[i] : a[0];
        b[0] = w[i] > b[0] ? w[i] : b[0];
    }
    for (int k = 1; k < PIECE; k++) {
        a[0] = a[k] < a[0] ? a[k] : a[0];
        b[0] = b[k] > b[0] ? b[k] : b[0];
    }
    *lo = a[0];
    *hi = b[0];
}

float assay_absmax(const float *w, size_t n) {
    float lo, hi;
    assay_extremes(&lo, &hi, w, n);
    return fmaxf(fabsf(lo), fabsf(hi));
}

static float round_to(float f, assay_dtype t) {
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

void assay_int_grid_init(assay_int_grid *g, float lo, float hi, const assay_int_opts *o) {
    assay_dtype t = o->scale_dtype;
    float range = (float)((1 << o->bits) - 1);
    g->q_min = -(float)(1 << (o->bits - 1));
    g->q_max = -g->q_min - 1;
    g->zero = 0;
    lo = round_to(fminf(lo, 0), t);
    hi = round_to(fmaxf(hi, 0), t);
    if (o->asymmetric) {
        g->scale = round_to(round_to(hi - lo, t) / range, t);
        float zero = round_to(g->q_min - round_to(lo / g->scale, t), t);
        zero = clampf(zero, g->q_min, g->q_max);
        g->zero = isnan(zero) ? 0 : rintf(zero); /* 0/0 of an all-zero group: the cast to int8 gives 0 */
    } else {
        g->scale = round_to(fmaxf(-lo, hi) / (range / 2), t);
    }
    if (g->scale == 0) g->scale = epsilon_of(t);
}

/* Signed codes of a piece, as floats. */
static inline void quantize_piece(float *restrict q, const float *restrict w, const assay_int_grid *g,
                                  int n) {
    float scale = g->scale, zero = g->zero, lo = g->q_min, hi = g->q_max;
    for (int i = 0; i < n; i++) {
        float x = w[i] / scale + zero;
        x = x < lo ? lo : x;
        x = x > hi ? hi : x;
        q[i] = (x + ROUNDER) - ROUNDER;
    }
}

static void quantize_group(uint8_t *restrict codes, const float *restrict w, size_t n,
                           const assay_int_grid *g) {
    float q[PIECE];
    int offset = -(int)g->q_min;
    size_t i = 0;
    for (; i + PIECE <= n; i += PIECE) {
        quantize_piece(q, w + i, g, PIECE);
        for (int k = 0; k < PIECE; k++) codes[i + (size_t)k] = (uint8_t)((int)q[k] + offset);
    }
    quantize_piece(q, w + i, g, (int)(n - i));
    for (size_t k = 0; i + k < n; k++) codes[i + k] = (uint8_t)((int)q[k] + offset);
}

/* sum[k] += |e[k]|^2.4, as 2^(2.4 log2 |e|), good to about 1e-6: the norm of the clipping search, where
 * powf would cost more than all the rest. No float comparison stands in it, so that the loop vectorizes. */
static inline void add_powers(float *restrict sum, const float *restrict e, int n) {
    for (int k = 0; k < n; k++) {
        uint32_t u;
        float m, power_of_two;
        memcpy(&u, &e[k], 4);
        u &= 0x7fffffffu;
        int32_t exponent =
            (int32_t)(u - 0x3f3504f3u) >> 23; /* of the number scaled into [sqrt(1/2), sqrt(2)) */
        u -= (uint32_t)exponent << 23;
        memcpy(&m, &u, 4);
        float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
        float log2m = s * (2.8853901f + s2 * (0.96179669f + s2 * (0.57707802f + s2 * 0.41219859f)));
        float y = 2.4f * ((float)exponent + log2m), whole = (y + ROUNDER) - ROUNDER, f = y - whole;
        float p =
            1.0f + f * (0.69314718f +
                        f * (0.24022651f + f * (0.055504109f + f * (0.0096181291f + f * 0.0013333558f))));
        int32_t biased = (int32_t)whole + 127;
        biased = biased < 0 ? 0 : biased;
        biased = biased > 254 ? 254 : biased;
        u = (uint32_t)biased << 23;
        memcpy(&power_of_two, &u, 4);
        sum[k] += p * power_of_two;
    }
}

static inline void add_errors(float *restrict sum, const float *restrict w, const assay_int_grid *g, int n) {
    float q[PIECE], e[PIECE], scale = g->scale, zero = g->zero;
    quantize_piece(q, w, g, n);
    for (int k = 0; k < n; k++) e[k] = (q[k] - zero) * scale - w[k];
    add_powers(sum, e, n);
}

double assay_int_grid_error(const assay_int_grid *g, const float *w, size_t n) {
    float sum[PIECE] = {0};
    double total = 0;
    size_t i = 0;
    for (; i + PIECE <= n; i += PIECE) add_errors(sum, w + i, g, PIECE);
    add_errors(sum, w + i, g, (int)(n - i));
    for (int k = 0; k < PIECE; k++) total += sum[k];
    return total;
}

/* Calls fn for every group of the matrix in order: its index, its weights. */
typedef void (*group_fn)(void *ctx, int64_t index, const float *w, size_t n);

static void each_group(const assay_matrix *m, const float *w, group_fn fn, void *ctx) {
    int64_t n_groups = assay_matrix_n_groups(m), group = m->group_size > 0 ? m->group_size : m->cols;
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t g = 0; g < n_groups; g++)
            fn(ctx, r * n_groups + g, w + r * m->cols + g * group,
               (size_t)ASSAY_MIN(group, m->cols - g * group));
}

typedef struct ct_job {
    assay_matrix *m;
    const float *w;
    const assay_int_opts *o;
    uint32_t *improved; /* per group, NULL without search */
    uint32_t any;       /* union of all groups' */
    int n_steps;
} ct_job;

static void search_group(void *ctx, int64_t index, const float *w, size_t n) {
    ct_job *job = ctx;
    float lo, hi;
    assay_extremes(&lo, &hi, w, n);
    job->improved[index] = assay_clip_improvements(w, n, lo, hi, job->o);
    job->any |= job->improved[index];
}

static void encode_group_ct(void *ctx, int64_t index, const float *w, size_t n) {
    ct_job *job = ctx;
    assay_matrix *m = job->m;
    assay_int_grid grid;
    float lo, hi;
    assay_extremes(&lo, &hi, w, n);
    if (job->improved) {
        uint32_t steps = job->improved[index] & ((1u << job->n_steps) - 1);
        assay_clip_extremes(&lo, &hi, steps ? 31 - __builtin_clz(steps) : 0, job->o->scale_dtype);
    }
    assay_int_grid_init(&grid, lo, hi, job->o);
    m->scales[index] = grid.scale;
    if (m->zeros) m->zeros[index] = (uint8_t)((int)grid.zero - (int)grid.q_min);
    quantize_group(m->codes + (w - job->w), w, n, &grid);
}

static assay_status encode_ct(assay_matrix *m, const float *w, const assay_int_opts *o, assay_err *err) {
    ct_job job = {.m = m, .w = w, .o = o};
    if (o->mse) {
        job.improved = assay_calloc((size_t)m->n_scales, sizeof *job.improved);
        if (!job.improved) return assay_nomem(err);
        each_group(m, w, search_group, &job);
        job.n_steps = o->clip_steps ? o->clip_steps : assay_clip_stop(job.any);
        if (o->clip_union) *o->clip_union |= job.any;
    }
    each_group(m, w, encode_group_ct, &job);
    assay_free(job.improved);
    return ASSAY_OK;
}

typedef struct absmax_job {
    assay_matrix *m;
    const float *w; /* the f16 values */
    int bits;
} absmax_job;

static inline void round_scaled(uint8_t *restrict codes, const float *restrict w, float factor, int offset, int n) {
    for (int k = 0; k < n; k++) codes[k] = (uint8_t)((int)((w[k] * factor + ROUNDER) - ROUNDER) + offset);
}

static void encode_group_absmax(void *ctx, int64_t index, const float *w, size_t n) {
    absmax_job *job = ctx;
    float top = (float)((1 << (job->bits - 1)) - 1), absmax = assay_absmax(w, n);
    /* torch divides a number by a tensor as reciprocal and product */
    float factor = absmax > 0 ? 1.0f / absmax * top : 0;
    uint8_t *codes = job->m->codes + (w - job->w);
    int offset = 1 << (job->bits - 1);
    size_t i = 0;
    job->m->scales[index] = absmax / top;
    for (; i + PIECE <= n; i += PIECE) round_scaled(codes + i, w + i, factor, offset, PIECE);
    round_scaled(codes + i, w + i, factor, offset, (int)(n - i));
}

/* Row by row through a float16 copy, as bitsandbytes casts before it quantizes. */
static assay_status encode_absmax(assay_matrix *m, const float *w, const assay_int_opts *o, assay_err *err) {
    assay_status s = ASSAY_OK;
    size_t n = (size_t)m->cols;
    float *wide = assay_mallocn(n, sizeof *wide);
    uint16_t *half = assay_mallocn(n, sizeof *half);
    if (!wide || !half) s = assay_nomem(err);
    for (int64_t r = 0; r < m->rows && s == ASSAY_OK; r++) {
        assay_from_f32(half, ASSAY_DTYPE_F16, w + r * m->cols, n);
        assay_to_f32(wide, half, ASSAY_DTYPE_F16, n);
        int64_t at = assay_find_nonfinite(wide, ASSAY_DTYPE_F32, n);
        if (at >= 0) {
            s = assay_fail(
                err, ASSAY_EINPUT,
                "weight %g at row %lld column %lld does not fit float16, in which LLM.int8() takes it",
                (double)w[r * m->cols + at], (long long)r, (long long)at);
            break;
        }
        int64_t n_groups = assay_matrix_n_groups(m);
        assay_matrix row = *m;
        row.rows = 1;
        row.codes += r * m->cols;
        row.scales += r * n_groups;
        absmax_job job = {.m = &row, .w = wide, .bits = o->bits};
        each_group(&row, wide, encode_group_absmax, &job);
    }
    assay_free(wide);
    assay_free(half);
    return s;
}

static assay_status check_opts(assay_int_opts *o, assay_err *err) {
    if (o->scale_dtype == ASSAY_DTYPE_F64) o->scale_dtype = ASSAY_DTYPE_F32; /* all-zero options */
    if (o->bits < 2 || o->bits > 8)
        return assay_fail(err, ASSAY_EUSAGE, "%d bits: integer codes have 2 to 8", o->bits);
    if (o->group_size < 0)
        return assay_fail(err, ASSAY_EUSAGE, "a group of %lld columns is impossible",
                          (long long)o->group_size);
    if (o->scale_dtype != ASSAY_DTYPE_F32 && o->scale_dtype != ASSAY_DTYPE_F16 &&
        o->scale_dtype != ASSAY_DTYPE_BF16)
        return assay_fail(err, ASSAY_EUSAGE, "scales of type %s: use F32, F16 or BF16",
                          assay_dtype_name(o->scale_dtype));
    if (o->rule == ASSAY_SCALE_ABSMAX && (o->asymmetric || o->mse || o->scale_dtype != ASSAY_DTYPE_F32))
        return assay_fail(err, ASSAY_EUSAGE,
                          "the absmax rule of LLM.int8() is symmetric, unclipped and has F32 scales");
    return ASSAY_OK;
}

assay_status assay_encode_int(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                              const assay_int_opts *opts, assay_err *err) {
    assay_int_opts o = *opts;
    assay_status s;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(check_opts(&o, err));
    ASSAY_TRY(assay_check_finite(w, rows, cols, err));
    bool absmax = o.rule == ASSAY_SCALE_ABSMAX;
    *out = (assay_matrix){.precision = (assay_precision)(ASSAY_PRECISION_INT2 + o.bits - 2),
                          .rows = rows,
                          .cols = cols,
                          .group_size = o.group_size,
                          .scale_dtype = o.scale_dtype,
                          .act_bits = absmax ? 8 : 16,
                          .act_dtype = absmax ? ASSAY_DTYPE_F16 : o.scale_dtype};
    ASSAY_TRY(assay_matrix_alloc(out, o.asymmetric, err));
    s = absmax ? encode_absmax(out, w, &o, err) : encode_ct(out, w, &o, err);
    int64_t at =
        s == ASSAY_OK ? assay_find_nonfinite(out->scales, ASSAY_DTYPE_F32, (size_t)out->n_scales) : -1;
    if (at >= 0)
        s = assay_fail(err, ASSAY_EINPUT, "weights of row %lld are so large that their scale overflows %s",
                       (long long)(at / assay_matrix_n_groups(out)), assay_dtype_name(o.scale_dtype));
    if (s != ASSAY_OK) assay_matrix_deinit(out);
    return s;
}
