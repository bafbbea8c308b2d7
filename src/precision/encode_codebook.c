/* encode_codebook.c: NF4 and FP4 in blocks of the flattened matrix, with the arithmetic of bitsandbytes
 * 0.50's quantize_4bit on CPU (backends/default/ops.py), bit for bit:
 *
 *   whole block   v = w * (1 / max(absmax, 1e-38)), the scale stored is absmax itself
 *   last, short   v = w / max(absmax, 1e-38), the scale stored is that maximum
 *   code          the number of midpoints between neighbouring table values (in float32) that are below v, so
 *                 a tie goes to the smaller value; for FP4 that rank is turned into bitsandbytes' bit
 * pattern. Between its two zeros FP4 has a midpoint of 0, so that tiny positive values become "negative
 *                 zero", code 8.
 *
 * The arithmetic itself is in clip.c (assay_grid_fit) and round.c. */
#include <string.h>

#include "base/mem.h"
#include "precision/encode.h"
#include "precision/nested.h"

assay_status assay_matrix_nest(assay_matrix *m, assay_err *err) {
    m->nested = assay_nested_new(m->n_scales, 256);
    if (!m->nested) return assay_nomem(err);
    assay_nested_encode(m->nested, m->scales, m->n_scales);
    assay_nested_decode(m->scales, m->nested, m->n_scales);
    return ASSAY_OK;
}

assay_status assay_encode_codebook(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                                   assay_precision p, int64_t block, bool double_quant, assay_err *err) {
    assay_status s;
    memset(out, 0, sizeof *out);
    if (assay_precision_get_kind(p) != ASSAY_KIND_CODEBOOK)
        return assay_fail(err, ASSAY_EUSAGE, "%s is not a codebook precision", assay_precision_name(p));
    if (block < 1)
        return assay_fail(err, ASSAY_EUSAGE, "a block of %lld elements is impossible", (long long)block);
    ASSAY_TRY(assay_check_finite(w, rows, cols, err));
    assay_grid_spec spec = {.precision = p, .group_size = block, .scale_dtype = ASSAY_DTYPE_F32};
    ASSAY_TRY(assay_grid_matrix_new(out, &spec, rows, cols, err));
    out->act_dtype = ASSAY_DTYPE_BF16;
    int64_t n = rows * cols;
    for (int64_t k = 0; k < out->n_scales; k++) {
        int64_t begin = k * block, len = ASSAY_MIN(block, n - begin);
        assay_grid g;
        assay_grid_fit(&g, &spec, w + begin, (size_t)len, NULL);
        assay_matrix_set_grid(out, k, &g);
        assay_grid_round(out->codes + begin, NULL, &spec, &g, w + begin, (size_t)len);
    }
    s = double_quant ? assay_matrix_nest(out, err) : ASSAY_OK;
    if (s != ASSAY_OK) assay_matrix_deinit(out);
    return s;
}
