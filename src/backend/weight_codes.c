/* backend/weight_codes.c: codes packed for the float modes and for FP8, with their scales and zeros by row
 * and group.
 *
 * MXFP4's and NVFP4's scales come in few values, powers of two and E4M3 numbers: there each scale stays one
 * byte, and a table holds what it makes of the sixteen codes. Block scales (128x128 and whole matrices) are
 * repeated for each row.
 *
 * FP8: the scale changes where that of the weight or that of the input does, every `group` columns. */
#include <math.h>
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"

#define F8_SCALE_LIMIT 128.0f /* what the kernels take (kern.h) */

/* --- codes --- */

/* Column c of a packed row. */
static inline uint8_t code_at(const pack_job *j, const uint8_t *row, size_t c) {
    return row[j->w->columns ? j->w->columns[c] : c];
}
/* The codes of a row and where they go, the room behind the last zeroed. */
static inline uint8_t *begin_row(const uint8_t **codes, const pack_job *j, size_t row) {
    uint8_t *out = j->out + row * j->w->rows.stride;
    *codes = j->m->codes + row * j->w->k;
    return memset(out, 0, j->w->rows.stride);
}
static void pack_q4(void *ctx, size_t row, int thread) {
    pack_job *j = ctx;
    const uint8_t *c;
    uint8_t *out = begin_row(&c, j, row);
    (void)thread;
    for (size_t i = 0; i < j->w->k; i++) {
        size_t in = i % ASSAY_KERN_BLOCK, word = in % 32, nibble = in / 32;
        out[i / ASSAY_KERN_BLOCK * 64 + 2 * word + nibble / 2] |=
            (uint8_t)((code_at(j, c, i) & 15) << (nibble % 2 * 4));
    }
}
static void pack_q8(void *ctx, size_t row, int thread) {
    pack_job *j = ctx;
    const uint8_t *c;
    uint8_t *out = begin_row(&c, j, row);
    (void)thread;
    for (size_t i = 0; i < j->w->k; i++)
        out[i] = code_at(j, c, i);
}
static void pack_f8(void *ctx, size_t row, int thread) {
    pack_job *j = ctx;
    const uint8_t *c;
    uint8_t *out = begin_row(&c, j, row);
    (void)thread;
    for (size_t i = 0; i < j->w->k; i++) {
        size_t in = i % ASSAY_KERN_BLOCK8;
        out[i - in + 2 * (in % 32) + in / 32] = code_at(j, c, i);
    }
}

static assay_form form_of(const assay_matrix *m) {
    switch (m->precision) {
    case ASSAY_PRECISION_FP8_E4M3:
        return ASSAY_FORM_E4M3;
    case ASSAY_PRECISION_FP8_E5M2:
        return ASSAY_FORM_E5M2;
    default:
        return assay_precision_bits(m->precision) <= 4 ? ASSAY_FORM_Q4 : ASSAY_FORM_Q8;
    }
}

/* Allocates and packs rows in w->rows.form. */
static assay_status pack_rows(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err) {
    pack_job j = {.m = m, .w = w};
    assay_rows *r = &w->rows;
    size_t size;
    r->stride = r->form == ASSAY_FORM_Q4 ? backend_up(w->k, ASSAY_KERN_BLOCK) / 2 : backend_up(w->k, 64);
    if (!assay_mul_size(&size, w->n_out, r->stride)) return assay_nomem(err);
    ASSAY_TRY(backend_own((void **)&j.out, w, size, err));
    assay_parallel(b->n_threads, w->n_out,
                   r->form == ASSAY_FORM_Q4   ? pack_q4
                   : r->form == ASSAY_FORM_Q8 ? pack_q8
                                              : pack_f8,
                   &j);
    r->data = j.out;
    w->n_bytes += size;
    return ASSAY_OK;
}

/* --- scales --- */

/* Index of the scale of column group g of a row. */
static size_t scale_index(const assay_matrix *m, size_t row, size_t g, size_t n_groups) {
    size_t block = m->row_block > 1 ? (size_t)m->row_block : 1;
    return row / block * n_groups + g;
}
static float scale_at(const assay_matrix *m, size_t i) {
    return m->global_scale != 0 ? m->scales[i] / m->global_scale : m->scales[i];
}

/* Scales of each row for groups of r->group columns, which divides the matrix's `group`. */
static assay_status copy_scales(assay_weight *w, const assay_matrix *m, size_t group, assay_err *err) {
    assay_rows *r = &w->rows;
    size_t from = w->k ? (w->k + group - 1) / group : 1, size, bytes;
    float *scales;
    if (!assay_mul_size(&size, w->n_out, r->n_groups) || !assay_mul_size(&bytes, size, sizeof *scales))
        return assay_nomem(err);
    ASSAY_TRY(backend_own((void **)&scales, w, bytes, err));
    for (size_t row = 0; row < w->n_out; row++)
        for (size_t g = 0; g < r->n_groups; g++)
            scales[row * r->n_groups + g] =
                scale_at(m, scale_index(m, row, ASSAY_MIN(g * r->group / group, from - 1), from));
    r->scales = scales;
    w->n_bytes += bytes;
    return ASSAY_OK;
}

/* INT: zeros by row and group, as integers or real numbers. */
static assay_status copy_zeros(assay_weight *w, const assay_matrix *m, assay_err *err) {
    assay_rows *r = &w->rows;
    size_t n = w->n_out * r->n_groups;
    if (m->real_zeros) {
        float *zeros;
        ASSAY_TRY(backend_own((void **)&zeros, w, n * sizeof *zeros, err));
        r->real_zeros = memcpy(zeros, m->real_zeros, n * sizeof *zeros);
        w->n_bytes += n * sizeof *zeros;
    } else if (m->zeros) {
        uint8_t *zeros;
        ASSAY_TRY(backend_own((void **)&zeros, w, n, err));
        r->zeros = memcpy(zeros, m->zeros, n);
        w->n_bytes += n;
    }
    return ASSAY_OK;
}

/* The byte that holds a scale, and what a byte stands for. */
static float coded_scale(uint8_t code, assay_dtype type) {
    return type == ASSAY_DTYPE_F8_E8M0 ? ldexpf(1, code - 127) : assay_e4m3_to_f32(code);
}
static uint8_t scale_code(float scale, assay_dtype type) {
    int exponent;
    if (type != ASSAY_DTYPE_F8_E8M0) return assay_f32_to_e4m3(scale);
    frexpf(scale, &exponent);
    return (uint8_t)ASSAY_MIN(ASSAY_MAX(exponent + 126, 0), 254);
}

/* Scales as codes, where the matrix's are such numbers: *coded. */
static assay_status code_scales(bool *coded, assay_weight *w, const assay_matrix *m, assay_err *err) {
    assay_rows *r = &w->rows;
    const float *values = assay_precision_table(m->precision);
    uint8_t *codes;
    assay_tables *t;
    *coded = false;
    if (m->scale_dtype != ASSAY_DTYPE_F8_E8M0 && m->scale_dtype != ASSAY_DTYPE_F8_E4M3) return ASSAY_OK;
    for (int64_t i = 0; i < m->n_scales; i++) /* NaN is none of them */
        if (!(coded_scale(scale_code(m->scales[i], m->scale_dtype), m->scale_dtype) == m->scales[i]))
            return ASSAY_OK;
    ASSAY_TRY(backend_own((void **)&codes, w, w->n_out * r->n_groups, err));
    ASSAY_TRY(backend_own((void **)&t, w, sizeof *t, err));
    for (size_t row = 0; row < w->n_out; row++)
        for (size_t g = 0; g < r->n_groups; g++)
            codes[row * r->n_groups + g] =
                scale_code(m->scales[scale_index(m, row, g, r->n_groups)], m->scale_dtype);
    for (int s = 0; s < 256; s++) {
        float scale = coded_scale((uint8_t)s, m->scale_dtype);
        if (m->global_scale != 0) scale = scale / m->global_scale;
        for (int i = 0; i < 16; i++) {
            t->f32[s][i] = values[i] * scale;
            t->bf16[s][i] = assay_f32_to_bf16(t->f32[s][i]);
        }
    }
    r->scale_codes = codes;
    r->tables = t;
    w->n_bytes += w->n_out * r->n_groups;
    *coded = true;
    return ASSAY_OK;
}

/* --- float modes --- */

static bool walkable(const assay_rows *r, size_t k, bool coded) {
    if (r->group == 0) return false;
    if (coded) return r->group == 16 || r->group == 32 || (k <= 32 && r->group >= k);
    if (r->group >= k) return true;
    return r->form != ASSAY_FORM_Q4 ? r->group % 32 == 0
                                    : r->group == 32 || r->group == 64 || r->group % ASSAY_KERN_BLOCK == 0;
}

/* Whether the kernels of 8-bit floats hold the codes, and for the float modes the scales; at: the first code
 * that is no number, or SIZE_MAX. */
static bool numbers(size_t *at, const assay_matrix *m) {
    uint8_t most = m->precision == ASSAY_PRECISION_FP8_E4M3 ? 126 : 123;
    size_t n = (size_t)(m->rows * m->cols);
    *at = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        if ((m->codes[i] & 127) > most) {
            *at = i;
            return false;
        }
    for (int64_t i = 0; i < m->n_scales; i++)
        if (!(fabsf(scale_at(m, (size_t)i)) < F8_SCALE_LIMIT)) return false;
    return true;
}

assay_status backend_pack_codes(bool *packed, assay_backend *b, assay_weight *w, const assay_matrix *m,
                                assay_err *err) {
    assay_rows *r = &w->rows;
    const float *table = assay_precision_table(m->precision);
    bool zeros = m->zeros || m->real_zeros, coded = false;
    float zero = (float)(1 << (assay_precision_bits(m->precision) - 1));
    size_t bad;
    *packed = false;
    r->form = form_of(m);
    r->group = backend_group_columns(m);
    if (r->group == 0) return ASSAY_OK;
    r->n_groups = w->k ? (w->k + r->group - 1) / r->group : 1;
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_FLOAT && r->form == ASSAY_FORM_Q4 &&
        walkable(r, w->k, true))
        ASSAY_TRY(code_scales(&coded, w, m, err));
    if (!coded && !walkable(r, w->k, false)) return ASSAY_OK;
    if (r->form > ASSAY_FORM_Q8 && !numbers(&bad, m)) return ASSAY_OK;
    if (!coded) ASSAY_TRY(copy_scales(w, m, r->group, err));
    ASSAY_TRY(copy_zeros(w, m, err));
    ASSAY_TRY(pack_rows(b, w, m, err));
    r->zero = zero;
    for (int i = 0; i < 16; i++)
        r->values[i] = table ? table[i] : (float)i - (zeros ? 0 : zero);
    r->round_f16 = w->mode == ASSAY_ACT_F16;
    *packed = true;
    return ASSAY_OK;
}

/* --- FP8 --- */

static size_t common_divisor(size_t a, size_t b) {
    while (b) {
        size_t t = a % b;
        a = b, b = t;
    }
    return a;
}

assay_status backend_pack_fp8(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err) {
    assay_rows *r = &w->rows;
    size_t group = backend_group_columns(m), k = ASSAY_MAX(w->k, (size_t)1), bad;
    r->form = form_of(m);
    if (r->form != ASSAY_FORM_E4M3 && r->form != ASSAY_FORM_E5M2)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "no kernel computes %s with fp8 activations, use bf16, f16 or f32 activations",
                          assay_precision_name(m->precision));
    if (!numbers(&bad, m) && bad != SIZE_MAX)
        return assay_fail(err, ASSAY_EINPUT,
                          "row %zu column %zu of an %s matrix holds a code that is no number", bad / k,
                          bad % k, assay_precision_name(m->precision));
    w->fixed_scale = m->input_scale;
    w->act_group =
        m->act_group > 0 && (size_t)m->act_group < k && m->input_scale == 0 ? (size_t)m->act_group : k;
    r->group = group >= k && w->act_group >= k ? k
               : group >= k                    ? w->act_group
               : w->act_group >= k             ? group
                                               : common_divisor(group, w->act_group);
    if (r->group < k && r->group % ASSAY_KERN_CHUNK != 0)
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "fp8 activations need scales for multiples of %d columns; this matrix has them for %zu and "
            "its input for %zu",
            ASSAY_KERN_CHUNK, ASSAY_MAX(group, (size_t)1), w->act_group);
    r->n_groups = (k + r->group - 1) / r->group;
    ASSAY_TRY(copy_scales(w, m, ASSAY_MAX(group, (size_t)1), err));
    return pack_rows(b, w, m, err);
}
