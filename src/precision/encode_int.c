/* encode_int.c: round to nearest on integer grids, group by group: parameters from grid.c
 * (compressed-tensors' or LLM.int8()'s), the clipping search from clip.c, codes from round.c.
 *
 * Scale and zero point are computed in the model's dtype (scale_dtype), every operation rounded to it, and so
 * are the quotient w / scale and its sum with the zero point, as compressed-tensors does on the CPU (its
 * Triton kernel divides in float32: there 0.7 % of a bfloat16 model's int4 codes are another, near the
 * middle of two steps). The clipping search compares float32 errors of float32 quotients. LLM.int8() casts
 * weights to float16 whatever they were: they must fit.
 *
 * Codes are stored unsigned, q + 2^(b-1). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/encode.h"

enum { PIECE = 16 };

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

assay_status assay_check_scales(const assay_matrix *m, assay_err *err) {
    int64_t at = assay_find_nonfinite(m->scales, ASSAY_DTYPE_F32, (size_t)m->n_scales);
    if (at < 0) return ASSAY_OK;
    int64_t row = at / assay_matrix_n_groups(m) * ASSAY_MAX(m->row_block, 1);
    return assay_fail(err, ASSAY_EINPUT, "weights of row %lld are so large that their scale overflows %s",
                      (long long)row, assay_dtype_name(m->scale_dtype));
}

typedef struct job {
    assay_matrix *m;
    const float *w;
    const assay_grid_spec *spec;
    uint32_t *improved; /* per group, NULL without search */
    uint32_t any;       /* union of all groups' */
    int n_steps;
} job;

/* Calls fn for every group of the matrix in order: its index, its weights. */
typedef void (*group_fn)(job *j, int64_t index, const float *w, size_t n);

static void each_group(job *j, group_fn fn) {
    const assay_matrix *m = j->m;
    int64_t n_groups = assay_matrix_n_groups(m), group = m->group_size > 0 ? m->group_size : m->cols;
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t g = 0; g < n_groups; g++)
            fn(j, r * n_groups + g, j->w + r * m->cols + g * group,
               (size_t)ASSAY_MIN(group, m->cols - g * group));
}

static void search_group(job *j, int64_t index, const float *w, size_t n) {
    float lo, hi;
    assay_extremes(&lo, &hi, w, n);
    j->improved[index] = assay_clip_improvements(j->spec, w, n, lo, hi);
    j->any |= j->improved[index];
}

static void encode_group(job *j, int64_t index, const float *w, size_t n) {
    assay_grid grid;
    float lo, hi;
    assay_extremes(&lo, &hi, w, n);
    if (j->improved) {
        uint32_t steps = j->improved[index] & ((1u << j->n_steps) - 1);
        assay_clip_extremes(&lo, &hi, steps ? 31 - __builtin_clz(steps) : 0, j->spec->scale_dtype);
    }
    assay_grid_from_range(&grid, j->spec, lo, hi);
    assay_matrix_set_grid(j->m, index, &grid);
    assay_grid_round(j->m->codes + (w - j->w), NULL, j->spec, &grid, w, n);
}

static assay_status search(job *j, const assay_int_opts *o, assay_err *err) {
    j->improved = assay_calloc((size_t)j->m->n_scales, sizeof *j->improved);
    if (!j->improved) return assay_nomem(err);
    each_group(j, search_group);
    j->n_steps = o->clip_steps ? o->clip_steps : assay_clip_stop(j->any);
    if (o->clip_union) *o->clip_union |= j->any;
    return ASSAY_OK;
}

/* bitsandbytes casts to float16 before it quantizes. */
static assay_status check_half(const float *w, int64_t rows, int64_t cols, assay_err *err) {
    for (int64_t r = 0; r < rows; r++) {
        const float *row = w + r * cols;
        if (isfinite(assay_round_to(assay_absmax(row, (size_t)cols), ASSAY_DTYPE_F16))) continue;
        int64_t c = 0;
        while (isfinite(assay_round_to(row[c], ASSAY_DTYPE_F16))) c++;
        return assay_fail(
            err, ASSAY_EINPUT,
            "weight %g at row %lld column %lld does not fit float16, in which LLM.int8() takes it",
            (double)row[c], (long long)r, (long long)c);
    }
    return ASSAY_OK;
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
    if (o.rule == ASSAY_SCALE_ABSMAX) ASSAY_TRY(check_half(w, rows, cols, err));
    assay_grid_spec spec = {.precision = (assay_precision)(ASSAY_PRECISION_INT2 + o.bits - 2),
                            .group_size = o.group_size,
                            .asymmetric = o.asymmetric,
                            .rule = o.rule,
                            .scale_dtype = o.scale_dtype};
    job j = {.m = out, .w = w, .spec = &spec};
    ASSAY_GO(assay_grid_matrix_new(out, &spec, rows, cols, err));
    if (o.mse) ASSAY_GO(search(&j, &o, err));
    spec.quotient = o.scale_dtype;
    each_group(&j, encode_group);
    s = assay_check_scales(out, err);
out:
    assay_free(j.improved);
    if (s != ASSAY_OK) assay_matrix_deinit(out);
    return s;
}
