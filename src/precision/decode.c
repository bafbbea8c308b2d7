/* decode.c: what the codes of a matrix mean. This is the definition that kernels and formats are held
 * against, written to be read; kernels decode by themselves.
 *
 *   INT       (code - zero) * scale: the difference is exact unless the zero point is a real number, the
 *             product is rounded once to float32
 *   CODEBOOK  table[code] * scale, rounded once
 *   FLOAT     table[code] * scale, and for NVFP4 table[code] * (scale / global_scale), each operation rounded
 *   DENSE     the element, widened exactly
 *   BLOCK     code * scale - minimum, each operation rounded (block.h) */
#include "num/convert.h"
#include "precision/block_impl.h"
#include "precision/grid.h"

/* Columns [begin, end), all of the group whose parameters stand at `index`. */
static void decode_int(float *out, const assay_matrix *m, const uint8_t *codes, int64_t index, int64_t begin,
                       int64_t end) {
    float scale = m->scales[index];
    if (m->real_zeros) {
        float zero = m->real_zeros[index];
        for (int64_t c = begin; c < end; c++) out[c] = ((float)codes[c] - zero) * scale;
        return;
    }
    int zero = m->zeros ? m->zeros[index] : 1 << (assay_precision_bits(m->precision) - 1);
    for (int64_t c = begin; c < end; c++) out[c] = (float)(codes[c] - zero) * scale;
}

static void decode_int_row(float *out, const assay_matrix *m, int64_t row) {
    int64_t group = m->g_idx ? 1 : m->group_size > 0 ? m->group_size : m->cols;
    const uint8_t *codes = m->codes + row * m->cols;
    for (int64_t c = 0; c < m->cols; c += group)
        decode_int(out, m, codes, assay_matrix_scale_index(m, row, c), c, ASSAY_MIN(c + group, m->cols));
}

static void decode_float_row(float *out, const assay_matrix *m, int64_t row) {
    const float *table = assay_precision_table(m->precision);
    int64_t group = m->group_size > 0 ? m->group_size : m->cols;
    int mask = (1 << assay_precision_bits(m->precision)) - 1;
    const uint8_t *codes = m->codes + row * m->cols;
    for (int64_t c = 0; c < m->cols;) {
        float scale = m->scales[assay_matrix_scale_index(m, row, c)];
        if (m->global_scale != 0) scale /= m->global_scale;
        for (int64_t end = ASSAY_MIN(c + group, m->cols); c < end; c++)
            out[c] = table[codes[c] & mask] * scale;
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
    case ASSAY_KIND_FLOAT:
        for (int64_t r = 0; r < n; r++) decode_float_row(out + r * m->cols, m, row + r);
        break;
    case ASSAY_KIND_BLOCK:
        for (int64_t r = 0; r < n; r++) assay_block_decode_row(out + r * m->cols, m, row + r);
        break;
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
