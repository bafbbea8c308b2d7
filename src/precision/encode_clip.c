/* encode_clip.c: the clipping search of llm-compressor's memoryless MSE observer (observers/mse_quant.py:
 * maxshrink 0.20, grid 100, patience 5, norm 2.4). Twenty grids, each 1 % narrower than the one before,
 * are tried per group; the one with the least sum of |error|^2.4 wins, the wider one when equal. The
 * original stops when five steps in a row improved no group of the whole matrix; since a group's own
 * history does not depend on the others, each group is searched alone and remembers in a bit mask at which
 * steps it improved, and the common stop is found from the union of the masks.
 *
 * The errors are float32 (the original's are in the model's dtype, where bfloat16 sums hide most
 * differences). */
#include "num/convert.h"
#include "precision/encode.h"

enum { PATIENCE = 5 };

void assay_clip_extremes(float *lo, float *hi, int step, assay_dtype dtype) {
    float pair[2] = {*lo, *hi}, shrink = (float)(1.0 - step / 100.0);
    for (int i = 0; i < 2; i++) {
        uint16_t narrow;
        pair[i] *= shrink;
        if (dtype != ASSAY_DTYPE_F32) {
            assay_from_f32(&narrow, dtype, &pair[i], 1);
            assay_to_f32(&pair[i], &narrow, dtype, 1);
        }
    }
    *lo = pair[0];
    *hi = pair[1];
}

uint32_t assay_clip_improvements(const float *w, size_t n, float lo, float hi, const assay_int_opts *o) {
    uint32_t improved = 0;
    double best = 3.402823466e38; /* FLT_MAX, where the original starts */
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        assay_int_grid g;
        float a = lo, b = hi;
        assay_clip_extremes(&a, &b, i, o->scale_dtype);
        assay_int_grid_init(&g, a, b, o);
        double e = assay_int_grid_error(&g, w, n);
        if (e < best) {
            best = e;
            improved |= 1u << i;
        }
    }
    return improved;
}

int assay_clip_stop(uint32_t improved) {
    int idle = 0;
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        idle = improved >> i & 1 ? 0 : idle + 1;
        if (idle >= PATIENCE) return i + 1;
    }
    return ASSAY_CLIP_STEPS;
}
