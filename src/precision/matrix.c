/* matrix.c: the encoded matrix as an object: names, tables, allocation, validity, exact size.
 *
 * What a code means is in decode.c; how codes are chosen is in encode_int.c and encode_codebook.c. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/nested.h"
#include "precision/precision.h"

typedef struct precision_info {
    const char *name;
    int bits;
    assay_precision_kind kind;
} precision_info;

static const precision_info INFO[ASSAY_PRECISION_COUNT] = {
#define X(NAME, name, bits, kind) {name, bits, ASSAY_KIND_##kind},
#include "precision/precisions.def"
#undef X
};

/* NormalFloat (Dettmers et al. 2023): 16 quantiles of N(0,1) scaled to [-1, 1] with an exact zero;
 * bitsandbytes' values. */
static const float NF4_TABLE[16] = {-1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f};

/* Sign, two exponent bits, one fraction bit, in bitsandbytes' order of bit patterns; divided by the
 * largest, 12, in float32. */
static const float FP4_TABLE[16] = {
    0.0f / 12, 0.0625f / 12,  8.0f / 12,  12.0f / 12,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    0.0f / 12, -0.0625f / 12, -8.0f / 12, -12.0f / 12, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12};

const char *assay_precision_name(assay_precision p) {
    return (unsigned)p < ASSAY_PRECISION_COUNT ? INFO[p].name : "?";
}

int assay_precision_bits(assay_precision p) {
    return (unsigned)p < ASSAY_PRECISION_COUNT ? INFO[p].bits : 0;
}

assay_precision_kind assay_precision_get_kind(assay_precision p) {
    return (unsigned)p < ASSAY_PRECISION_COUNT ? INFO[p].kind : ASSAY_KIND_DENSE;
}

bool assay_precision_parse(assay_precision *out, const char *name) {
    for (int i = 0; i < ASSAY_PRECISION_COUNT; i++) {
        if (strcmp(INFO[i].name, name) == 0) {
            *out = (assay_precision)i;
            return true;
        }
    }
    return false;
}

const float *assay_precision_table(assay_precision p) {
    return p == ASSAY_PRECISION_NF4 ? NF4_TABLE : p == ASSAY_PRECISION_FP4 ? FP4_TABLE : NULL;
}

int64_t assay_matrix_n_groups(const assay_matrix *m) {
    return m->group_size > 0 ? (m->cols + m->group_size - 1) / m->group_size : 1;
}

/* Scales that a matrix of this shape and group size has; -1 when it would overflow or the shape is
 * impossible. */
static int64_t count_scales(const assay_matrix *m) {
    int64_t n, elements;
    if (m->rows < 1 || m->cols < 1 || m->group_size < 0) return -1;
    if (__builtin_mul_overflow(m->rows, m->cols, &elements) || elements > INT64_MAX / 4) return -1;
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_CODEBOOK)
        return m->group_size < 1 ? -1 : elements / m->group_size + (elements % m->group_size != 0);
    if (__builtin_mul_overflow(m->rows, assay_matrix_n_groups(m), &n)) return -1;
    return n;
}

assay_status assay_matrix_alloc(assay_matrix *m, bool asymmetric, assay_err *err) {
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_DENSE)
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
    case ASSAY_KIND_INT:
        scales = (double)m->n_scales * 8 * (double)assay_dtype_size(m->scale_dtype);
        if (m->zeros) scales += (double)m->n_scales * assay_precision_bits(m->precision);
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

assay_status assay_matrix_check(const assay_matrix *m, const char *name, assay_err *err) {
    if ((unsigned)m->precision >= ASSAY_PRECISION_COUNT)
        return assay_fail(err, ASSAY_EINPUT, "%s: unknown precision", name);
    int64_t n_scales = count_scales(m);
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_DENSE) return check_dense(m, name, err);
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
    at = m->zeros ? find_wide_code(m->zeros, n_scales, bits) : -1;
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: zero point %d of group %lld does not fit %d bits", name,
                          m->zeros[at], (long long)at, bits);
    return m->nested ? check_nested(m, name, err) : ASSAY_OK;
}
