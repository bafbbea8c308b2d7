/* decode.c: what the codes of a matrix mean. This is the definition that kernels and formats are held
 * against, written to be read; the runtime's kernels never call it.
 *
 *   INT       (code - zero) * scale: the difference is exact, the product is rounded once to float32
 *   CODEBOOK  table[code] * scale, rounded once
 *   DENSE     the element, widened exactly */
#include "num/convert.h"
#include "precision/precision.h"

static void decode_int_row(float *out, const assay_matrix *m, int64_t row) {
    int64_t n_groups = assay_matrix_n_groups(m), group = m->group_size > 0 ? m->group_size : m->cols;
    int middle = 1 << (assay_precision_bits(m->precision) - 1);
    const uint8_t *codes = m->codes + row * m->cols;
    for (int64_t g = 0; g < n_groups; g++) {
        float scale = m->scales[row * n_groups + g];
        int zero = m->zeros ? m->zeros[row * n_groups + g] : middle;
        int64_t end = ASSAY_MIN((g + 1) * group, m->cols);
        for (int64_t c = g * group; c < end; c++) out[c] = (float)(codes[c] - zero) * scale;
    }
}

static void decode_codebook(float *out, const assay_matrix *m, int64_t begin, int64_t end) {
    const float *table = assay_precision_table(m->precision);
    for (int64_t i = begin; i < end;) {
        float scale = m->scales[i / m->group_size];
        int64_t stop = ASSAY_MIN((i / m->group_size + 1) * m->group_size, end);
        for (; i < stop; i++) out[i - begin] = table[m->codes[i] & 15] * scale;
    }
}

void assay_matrix_decode_rows(float *out, const assay_matrix *m, int64_t row, int64_t n) {
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_INT:
        for (int64_t r = 0; r < n; r++) decode_int_row(out + r * m->cols, m, row + r);
        break;
    case ASSAY_KIND_CODEBOOK: decode_codebook(out, m, row * m->cols, (row + n) * m->cols); break;
    case ASSAY_KIND_DENSE: {
        assay_dtype t = m->precision == ASSAY_PRECISION_F32   ? ASSAY_DTYPE_F32
                        : m->precision == ASSAY_PRECISION_F16 ? ASSAY_DTYPE_F16
                                                              : ASSAY_DTYPE_BF16;
        size_t offset = (size_t)row * (size_t)m->cols * assay_dtype_size(t);
        assay_to_f32(out, (const char *)m->data + offset, t, (size_t)n * (size_t)m->cols);
        break;
    }
    }
}
