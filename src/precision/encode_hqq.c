/* encode_hqq.c: half-quadratic quantization (Badri and Shaji 2023), with the arithmetic of hqq 0.2.8 on CPU
 * (core/quantize.py Quantizer.quantize, core/optimize.py optimize_weights_proximal_legacy) and the settings
 * of hqq_base_quant_config: axis 1, p = 0.7, beta = 10, at most 20 iterations; kappa is not used by this
 * solver.
 *
 *   start    s = (2^b - 1) / (max - min), 1 where the range is below 1e-4, at most 2e4      z = -min s,
 * rounded for 4 bits step     q = clamp(round(w s + z))      r = (q - z) / s e = shrink(w - r) = sign(x)
 * max(0, |x| - |x|^(p-1) / beta) z = mean over the group of q - (w - e) s stop     after the first step at
 * which the mean of |w - r| over the matrix is not below all before; that step's z stays finish   q from the
 * last z; the scale stored is 1 / s
 *
 * shrink(x) is 0 for |x| below 0.17, that is for nearly every weight of a language model; only beyond is a
 * power computed, correctly rounded, where torch's may be off by an ulp. Means over a group are summed in
 * torch's order (sum.c). The mean over the matrix is summed in double, torch's in float32 and in an order
 * that depends on its threads: where two iterations' errors are equal to seven digits the original may stop
 * one iteration earlier or later. Tests say how often codes differ.
 *
 * In m->scales stands s while the matrix is in work, and 1 / s when it is finished. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "num/narrow.h"
#include "precision/encode.h"
#include "precision/hqq.h"

enum { LANES = 16, CHUNK = 512 };

#define ROUNDER         12582912.0f
#define NORM            0.7
#define BETA            10.0
#define SHRINKS_TO_ZERO 0.17f /* |x|^1.3 < 1 / beta */

assay_status assay_hqq_new(assay_matrix *out, int64_t rows, int64_t cols, const assay_hqq_opts *o,
                           assay_err *err) {
    memset(out, 0, sizeof *out);
    if (o->bits < 2 || o->bits > 8)
        return assay_fail(err, ASSAY_EUSAGE, "%d bits: integer codes have 2 to 8", o->bits);
    assay_grid_spec s = {.precision = (assay_precision)(ASSAY_PRECISION_INT2 + o->bits - 2),
                         .group_size = o->group_size,
                         .scale_dtype = o->scale_dtype};
    ASSAY_TRY(assay_grid_matrix_new(out, &s, rows, cols, err));
    out->real_zeros = assay_mallocn((size_t)out->n_scales, sizeof *out->real_zeros);
    if (out->real_zeros) return ASSAY_OK;
    assay_matrix_deinit(out);
    return assay_nomem(err);
}

/* One group: n values, where its parameters stand, the largest code. */
typedef struct group {
    const float *w;
    int64_t n;
    float *scale, *zero;
    uint8_t *codes;
    float top;
    int bits;
} group;

static double each_group(assay_matrix *m, const float *w, int64_t row, int64_t n,
                         double (*fn)(const group *)) {
    int64_t n_groups = assay_matrix_n_groups(m), width = m->group_size > 0 ? m->group_size : m->cols;
    int bits = assay_precision_bits(m->precision);
    double sum = 0;
    for (int64_t r = 0; r < n; r++)
        for (int64_t g = 0; g < n_groups; g++) {
            int64_t at = (row + r) * n_groups + g, col = g * width;
            sum += fn(&(group){.w = w + r * m->cols + col,
                               .n = ASSAY_MIN(width, m->cols - col),
                               .scale = m->scales + at,
                               .zero = m->real_zeros + at,
                               .codes = m->codes + (row + r) * m->cols + col,
                               .top = (float)((1 << bits) - 1),
                               .bits = bits});
        }
    return sum;
}

static double start_group(const group *g) {
    float lo, hi;
    assay_extremes(&lo, &hi, g->w, (size_t)g->n);
    float range = hi - lo,
          scale = 1.0f / range * g->top; /* torch divides a number by a tensor as reciprocal and product */
    if (fabsf(range) <= 1e-4f) scale = 1.0f;
    scale = ASSAY_MIN(scale, 2e4f);
    float zero = -lo * scale;
    *g->scale = scale;
    *g->zero = g->bits == 4 ? rintf(zero) : zero;
    return 0;
}

/* codes = clamp(round(w * scale + zero)) as floats, product = w * scale. */
static inline void round_piece(float *restrict q, float *restrict product, const float *restrict w,
                               float scale, float zero, float top) {
    for (int k = 0; k < LANES; k++) {
        float p = w[k] * scale, x = p + zero;
        product[k] = p;
        x = x < 0 ? 0 : x;
        x = x > top ? top : x;
        q[k] = (x + ROUNDER) - ROUNDER;
    }
}

/* terms[k] = q - (w - e) * scale of sixteen values; adds |w - r| to error. */
static inline void step_piece(float *restrict terms, float *restrict error, const float *restrict w,
                              const group *g) {
    float q[LANES], product[LANES], x[LANES], scale = *g->scale, zero = *g->zero;
    uint32_t far = 0;
    round_piece(q, product, w, scale, zero, g->top);
    for (int k = 0; k < LANES; k++) {
        x[k] = w[k] - (q[k] - zero) / scale;
        error[k] += fabsf(x[k]);
        terms[k] = q[k] - product[k];
    }
    for (int k = 0; k < LANES; k++) far |= assay_float_bits(fabsf(x[k])) > assay_float_bits(SHRINKS_TO_ZERO);
    for (int k = 0; k < LANES && far; k++) {
        float a = fabsf(x[k]);
        if (a < SHRINKS_TO_ZERO) continue;
        float e = a - (float)(1.0 / BETA) * (float)pow((double)a, (double)(float)(NORM - 1));
        if (e > 0) terms[k] = q[k] - (w[k] - copysignf(e, x[k])) * scale;
    }
}

static double step_group(const group *g) {
    assay_sum sum;
    double error = 0;
    float mean = 0;
    assay_sum_init(&sum, g->n);
    for (int64_t at = 0; at < g->n; at += CHUNK) {
        float terms[CHUNK], lanes[LANES] = {0};
        int64_t n = ASSAY_MIN(CHUNK, g->n - at), i = 0, whole = n / ASSAY_SUM_WIDTH * ASSAY_SUM_WIDTH;
        for (; i + LANES <= n; i += LANES) step_piece(terms + i, lanes, g->w + at + i, g);
        if (i < n) {
            float rest[LANES], off[LANES] = {0}, values[LANES] = {0};
            memcpy(values, g->w + at + i, (size_t)(n - i) * sizeof *values);
            step_piece(rest, off, values, g);
            memcpy(terms + i, rest, (size_t)(n - i) * sizeof *rest);
            for (int64_t k = 0; i + k < n; k++) lanes[k] += off[k];
        }
        for (int k = 0; k < LANES; k++) error += (double)lanes[k];
        assay_sum_add(&sum, terms, whole);
        if (at + n == g->n) mean = assay_sum_finish(&sum, terms + whole, n - whole) / (float)g->n;
    }
    *g->zero = mean;
    return error;
}

static double finish_group(const group *g) {
    float scale = *g->scale, zero = *g->zero, q[LANES], unwanted[LANES], rest[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= g->n; i += LANES) {
        round_piece(q, unwanted, g->w + i, scale, zero, g->top);
        for (int k = 0; k < LANES; k++) g->codes[i + k] = (uint8_t)(int)q[k];
    }
    memcpy(rest, g->w + i, (size_t)(g->n - i) * sizeof *rest);
    round_piece(q, unwanted, rest, scale, zero, g->top);
    for (int64_t k = 0; i + k < g->n; k++) g->codes[i + k] = (uint8_t)(int)q[k];
    *g->scale = 1.0f / scale;
    return 0;
}

void assay_hqq_start(assay_matrix *m, const float *w, int64_t row, int64_t n) {
    each_group(m, w, row, n, start_group);
}

double assay_hqq_step(assay_matrix *m, const float *w, int64_t row, int64_t n) {
    return each_group(m, w, row, n, step_group);
}

void assay_hqq_finish(assay_matrix *m, const float *w, int64_t row, int64_t n) {
    int64_t n_groups = assay_matrix_n_groups(m);
    each_group(m, w, row, n, finish_group);
    for (int64_t i = row * n_groups; i < (row + n) * n_groups; i++) {
        m->scales[i] = assay_round_to(m->scales[i], m->scale_dtype);
        m->real_zeros[i] = assay_round_to(m->real_zeros[i], m->scale_dtype);
    }
}

bool assay_hqq_goes_on(assay_hqq_progress *p, const assay_matrix *m, double sum) {
    float mean = (float)(sum / ((double)m->rows * (double)m->cols));
    bool better = p->iteration++ == 0 || mean < p->best;
    if (better) p->best = mean;
    return better && p->iteration < ASSAY_HQQ_ITERATIONS;
}

assay_status assay_encode_hqq(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                              const assay_hqq_opts *o, assay_err *err) {
    assay_hqq_progress p = {0};
    memset(out, 0, sizeof *out);
    ASSAY_TRY(assay_check_finite(w, rows, cols, err));
    ASSAY_TRY(assay_hqq_new(out, rows, cols, o, err));
    assay_hqq_start(out, w, 0, rows);
    while (assay_hqq_goes_on(&p, out, assay_hqq_step(out, w, 0, rows))) continue;
    assay_hqq_finish(out, w, 0, rows);
    return ASSAY_OK;
}
