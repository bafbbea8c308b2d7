/* encode_float.c: FP8, MXFP4 and NVFP4, with the arithmetic of compressed-tensors 0.20 (grid.c, round.c), bit
 * for bit. As for integers the quotient w / scale of FP8 is rounded to the model's type, as it is on the CPU (the
 * Triton kernel's is a float32 one). MXFP4 divides by powers of two and NVFP4 by float32 scales: there both are
 * the same.
 *
 *             columns of a group
 *             +--------+--------+----+   each block has one scale: FP8 per row (row_block 1, group_size 0),
 *   row_block |        |        |    |   per matrix (row_block = rows), or square (128, 128);
 *             +--------+--------+----+   MXFP4 (1, 32), NVFP4 (1, 16).
 *             |        |        |    |   The last block of either direction may be short; compressed-tensors
 *             +--------+--------+----+   pads it with zeros, which changes nothing.
 *
 * FP8 E5M2 has no original: it follows the rules of E4M3 with its own largest value. */
#include <string.h>

#include "base/mem.h"
#include "precision/encode.h"

static void encode_block(assay_matrix *m, const assay_grid_spec *s, const float *w, int64_t row,
                         int64_t col) {
    int64_t n_rows = ASSAY_MIN(ASSAY_MAX(m->row_block, 1), m->rows - row);
    int64_t n = ASSAY_MIN(m->group_size > 0 ? m->group_size : m->cols, m->cols - col);
    int64_t first = row * m->cols + col;
    assay_grid_spec rounding = *s;
    assay_grid g;
    rounding.quotient = s->scale_dtype; /* the clipping search has float32 quotients */
    assay_grid_fit_rows(&g, s, w + first, n_rows, m->cols, (size_t)n);
    assay_matrix_set_grid(m, assay_matrix_scale_index(m, row, col), &g);
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t at = first + r * m->cols;
        assay_grid_round(m->codes + at, NULL, &rounding, &g, w + at, (size_t)n);
    }
}

assay_status assay_encode_float(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                                const assay_grid_spec *spec, assay_err *err) {
    assay_grid_spec s = *spec;
    memset(out, 0, sizeof *out);
    if (assay_precision_get_kind(s.precision) != ASSAY_KIND_FLOAT)
        return assay_fail(err, ASSAY_EUSAGE, "%s is not a small float", assay_precision_name(s.precision));
    ASSAY_TRY(assay_check_finite(w, rows, cols, err));
    if (s.global_scale == 0)
        s.global_scale = assay_grid_spec_global(&s, assay_absmax(w, (size_t)(rows * cols)));
    ASSAY_TRY(assay_grid_matrix_new(out, &s, rows, cols, err));
    int64_t height = ASSAY_MAX(out->row_block, 1), width = out->group_size > 0 ? out->group_size : cols;
    for (int64_t r = 0; r < rows; r += height)
        for (int64_t c = 0; c < cols; c += width) encode_block(out, &s, w, r, c);
    assay_status status = assay_check_scales(out, err);
    if (status != ASSAY_OK) assay_matrix_deinit(out);
    return status;
}
