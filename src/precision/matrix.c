/* matrix.c: the encoded matrix as an object: allocation, validity, exact size.
 *
 * What a code means is in decode.c and tables.c; how codes are chosen is in grid.c and the encoders. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/block_impl.h"
#include "precision/grid.h"
#include "precision/nested.h"

int64_t assay_matrix_n_groups(const assay_matrix *m) {
    return m->group_size > 0 ? (m->cols + m->group_size - 1) / m->group_size : 1;
}

/* Scales that a matrix of this shape and group size has; -1 when it would overflow or the shape is
 * impossible. */
static int64_t count_scales(const assay_matrix *m) {
    int64_t n, elements;
    if (m->rows < 1 || m->cols < 1 || m->group_size < 0) return -1;
    if (__builtin_mul_overflow(m->rows, m->cols, &elements) || elements > INT64_MAX / 4) return -1;
    assay_precision_kind kind = assay_precision_get_kind(m->precision);
    if (kind == ASSAY_KIND_CODEBOOK)
        return m->group_size < 1 ? -1 : elements / m->group_size + (elements % m->group_size != 0);
    if (kind == ASSAY_KIND_FLOAT) {
        if (m->row_block < 0) return -1;
        int64_t block = ASSAY_MAX(m->row_block, 1);
        return (m->rows / block + (m->rows % block != 0)) * assay_matrix_n_groups(m); /* at most `elements` */
    }
    if (__builtin_mul_overflow(m->rows, assay_matrix_n_groups(m), &n)) return -1;
    return n;
}

assay_status assay_matrix_alloc(assay_matrix *m, bool asymmetric, assay_err *err) {
    assay_precision_kind kind = assay_precision_get_kind(m->precision);
    if (kind == ASSAY_KIND_DENSE || kind == ASSAY_KIND_BLOCK)
        return assay_fail(err, ASSAY_EINTERNAL, "a %s matrix has no codes to allocate",
                          assay_precision_name(m->precision));
    int64_t n_scales = count_scales(m);
    if (n_scales < 0)
        return assay_fail(err, ASSAY_EINPUT, "a %s matrix of %lld x %lld in groups of %lld is impossible",
                          assay_precision_name(m->precision), (long long)m->rows, (long long)m->cols,
                          (long long)m->group_size);
    m->n_scales = n_scales;
    m->owns_codes = true;
    m->zeros = NULL;
    m->nested = NULL;
    m->codes = assay_mallocn((size_t)m->rows, (size_t)m->cols);
    m->scales = assay_mallocn((size_t)n_scales, sizeof *m->scales);
    if (asymmetric) m->zeros = assay_malloc((size_t)n_scales);
    if (!m->codes || !m->scales || (asymmetric && !m->zeros)) {
        assay_matrix_deinit(m);
        return assay_nomem(err);
    }
    return ASSAY_OK;
}

void assay_matrix_deinit(assay_matrix *m) {
    if (!m) return;
    if (m->owns_codes) {
        assay_free(m->codes);
        assay_free(m->scales);
        assay_free(m->zeros);
        assay_free(m->real_zeros);
        assay_free(m->g_idx);
        assay_nested_free(m->nested);
    }
    if (m->owns_data) assay_free((void *)m->data);
    memset(m, 0, sizeof *m);
}

double assay_matrix_bits(const assay_matrix *m, double *code_bits, double *scale_bits) {
    double elements = (double)m->rows * (double)m->cols, scales = 0;
    double codes = elements * assay_precision_bits(m->precision);
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_DENSE: break;
    case ASSAY_KIND_BLOCK: scales = assay_block_bits(m) - codes; break;
    case ASSAY_KIND_INT:
        scales = (double)m->n_scales * 8 * (double)assay_dtype_size(m->scale_dtype);
        if (m->zeros) scales += (double)m->n_scales * assay_precision_bits(m->precision);
        if (m->real_zeros) scales *= 2; /* stored in the scales' type */
        if (m->g_idx) scales += (double)m->cols * 32;
        break;
    case ASSAY_KIND_FLOAT:
        scales = (double)m->n_scales * 8 * (double)assay_dtype_size(m->scale_dtype) +
                 (m->global_scale != 0 ? 32 : 0);
        break;
    case ASSAY_KIND_CODEBOOK:
        scales = 16 * 32; /* the table */
        if (m->nested) {
            int64_t blocks = (m->n_scales + m->nested->block - 1) / m->nested->block;
            scales += (double)m->n_scales * 8 + (double)blocks * 32 + 256 * 32 +
                      32; /* codes, absmax, map, offset */
        } else {
            scales += (double)m->n_scales * 32;
        }
        break;
    }
    if (code_bits) *code_bits = codes;
    if (scale_bits) *scale_bits = scales;
    return codes + scales;
}

/* Index of the first of n codes that does not fit `bits`, or -1. */
static int64_t find_wide_code(const uint8_t *codes, int64_t n, int bits) {
    enum { PIECE = 64 };
    if (bits >= 8) return -1;
    int64_t i = 0;
    for (; i + PIECE <= n; i += PIECE) {
        uint8_t any = 0;
        for (int k = 0; k < PIECE; k++) any |= codes[i + k];
        if (any >> bits) break;
    }
    for (; i < n; i++)
        if (codes[i] >> bits) return i;
    return -1;
}

static assay_status check_nested(const assay_matrix *m, const char *name, assay_err *err) {
    const assay_nested *q = m->nested;
    if (!q->codes || !q->absmax || q->block < 1)
        return assay_fail(err, ASSAY_EINPUT, "%s: the double quantization of its scales is incomplete", name);
    int64_t blocks = (m->n_scales + q->block - 1) / q->block;
    if (assay_find_nonfinite(q->absmax, ASSAY_DTYPE_F32, (size_t)blocks) >= 0 || !isfinite(q->offset) ||
        assay_find_nonfinite(q->map, ASSAY_DTYPE_F32, 256) >= 0)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: the double quantization of its scales holds NaN or infinity", name);
    return ASSAY_OK;
}

static assay_status check_dense(const assay_matrix *m, const char *name, assay_err *err) {
    if (m->data) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "%s: a %s matrix without elements", name,
                      assay_precision_name(m->precision));
}

/* What the precision alone demands of codes and parameters that have the right sizes. */
static assay_status check_int(const assay_matrix *m, const char *name, assay_err *err) {
    int64_t at = m->zeros ? find_wide_code(m->zeros, m->n_scales, assay_precision_bits(m->precision)) : -1;
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: zero point %d of group %lld does not fit %d bits", name,
                          m->zeros[at], (long long)at, assay_precision_bits(m->precision));
    if (m->zeros && m->real_zeros)
        return assay_fail(err, ASSAY_EINPUT, "%s: zero points both as codes and as real numbers", name);
    at = m->real_zeros ? assay_find_nonfinite(m->real_zeros, ASSAY_DTYPE_F32, (size_t)m->n_scales) : -1;
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: zero point of group %lld is NaN or infinite", name,
                          (long long)at);
    int64_t n_groups = assay_matrix_n_groups(m);
    for (int64_t c = 0; m->g_idx && c < m->cols; c++)
        if (m->g_idx[c] < 0 || m->g_idx[c] >= n_groups)
            return assay_fail(err, ASSAY_EINPUT, "%s: column %lld is in group %d of %lld", name, (long long)c,
                              (int)m->g_idx[c], (long long)n_groups);
    return ASSAY_OK;
}

static assay_status check_float(const assay_matrix *m, const char *name, assay_err *err) {
    assay_dtype t = m->precision == ASSAY_PRECISION_FP8_E4M3 ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_F8_E5M2;
    bool bytes = m->precision == ASSAY_PRECISION_FP8_E4M3 || m->precision == ASSAY_PRECISION_FP8_E5M2;
    int64_t at = bytes ? assay_find_nonfinite(m->codes, t, (size_t)(m->rows * m->cols)) : -1;
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: code %d at row %lld column %lld is NaN or infinite", name,
                          m->codes[at], (long long)(at / m->cols), (long long)(at % m->cols));
    if (!isfinite(m->global_scale) || m->global_scale < 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: a global scale of %g is impossible", name,
                          (double)m->global_scale);
    return ASSAY_OK;
}

assay_status assay_matrix_check(const assay_matrix *m, const char *name, assay_err *err) {
    if ((unsigned)m->precision >= ASSAY_PRECISION_COUNT)
        return assay_fail(err, ASSAY_EINPUT, "%s: unknown precision", name);
    int64_t n_scales = count_scales(m);
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_DENSE) return check_dense(m, name, err);
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_BLOCK) return assay_block_check(m, name, err);
    if (n_scales < 0 || n_scales != m->n_scales)
        return assay_fail(err, ASSAY_EINPUT, "%s: %lld scales do not fit %lld x %lld in groups of %lld", name,
                          (long long)m->n_scales, (long long)m->rows, (long long)m->cols,
                          (long long)m->group_size);
    if (!m->codes || !m->scales)
        return assay_fail(err, ASSAY_EINPUT, "%s: codes or scales are missing", name);
    int bits = assay_precision_bits(m->precision);
    int64_t at = find_wide_code(m->codes, m->rows * m->cols, bits);
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: code %d at row %lld column %lld does not fit %d bits", name,
                          m->codes[at], (long long)(at / m->cols), (long long)(at % m->cols), bits);
    at = assay_find_nonfinite(m->scales, ASSAY_DTYPE_F32, (size_t)n_scales);
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: scale %lld of %lld is NaN or infinite", name, (long long)at,
                          (long long)n_scales);
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_INT: return check_int(m, name, err);
    case ASSAY_KIND_FLOAT: return check_float(m, name, err);
    default: return m->nested ? check_nested(m, name, err) : ASSAY_OK;
    }
}

int64_t assay_matrix_scale_index(const assay_matrix *m, int64_t row, int64_t col) {
    int64_t n_groups = assay_matrix_n_groups(m);
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_CODEBOOK: return (row * m->cols + col) / m->group_size;
    case ASSAY_KIND_FLOAT: row /= ASSAY_MAX(m->row_block, 1); break;
    default: break;
    }
    return row * n_groups + (m->g_idx ? m->g_idx[col] : m->group_size > 0 ? col / m->group_size : 0);
}

void assay_matrix_set_grid(assay_matrix *m, int64_t index, const assay_grid *g) {
    m->scales[index] = g->stored;
    if (m->zeros) m->zeros[index] = (uint8_t)g->zero;
    if (m->real_zeros) m->real_zeros[index] = g->zero;
}
