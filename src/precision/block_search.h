/* precision/block_search.h: how ggml's encoders choose a group's scale. Not for other rooms.
 *
 * Every search tries a ladder of scales and keeps the best by weighted squared error. Sums are taken in
 * the order of the weights, in float32, because which rung wins hangs on their last bits; what runs side
 * by side is the rungs (LANES of them), which do not depend on each other. */
#ifndef ASSAY_PRECISION_BLOCK_SEARCH_H
#define ASSAY_PRECISION_BLOCK_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "num/narrow.h"

enum { ASSAY_SEARCH_MAX = 32 };  /* weights of the largest group */
#define ASSAY_SEARCH_TINY 1e-15f /* a group with no larger weight counts as zero */

/* The integer nearest to x, ties to even, for |x| < 2^22, by the adder's own rounding. For other x a
 * certain integer too: infinities give -2^22 and NaN 0, which the clamps that follow make a code of. */
static inline int32_t assay_nearest(float x) {
    return (int32_t)(assay_float_bits(x + 12582912.0f) & 0x7fffffu) - 0x400000;
}
static inline int32_t assay_nearest_within(float x, int32_t lo, int32_t hi) {
    int32_t l = assay_nearest(x);
    l = l < hi ? l : hi;
    return l > lo ? l : lo;
}

/* w ~ scale * (code - levels), codes in [0, 2 levels): 19 scales around -levels / (the weight of largest
 * magnitude). `weight` NULL stands for the squares of w. Returns the scale; its sign is the opposite of
 * that weight's, more often than not. */
float assay_search_symmetric(uint8_t *codes, const float *w, const float *weight, int n, int levels);

typedef struct assay_ladder {
    float start, step; /* rung t divides the range by start + step * t + top */
    int rungs;
    bool absolute; /* sum of |error| instead of its square */
} assay_ladder;
/* w ~ scale * code - min, codes in [0, top], min >= 0; scale and minimum are solved for at every rung. */
float assay_search_shifted(uint8_t *codes, float *min, const float *w, const float *weight, int n, int top,
                           const assay_ladder *ladder);

/* w ~ scale * code for non-negative w, codes in [0, top]: nine scales, then codes are changed one by one
 * while that helps. */
float assay_search_positive(uint8_t *codes, const float *w, const float *weight, int n, int top);

/* w ~ scale * (code - levels), codes in [0, 2 levels): the first scale's codes changed one by one while
 * that helps. */
float assay_search_stepwise(uint8_t *codes, const float *w, int n, int levels);

/* Sum of squares in order. */
float assay_sum_squares(const float *w, int64_t n);
/* weight[i] = importance[i] * sqrt(mean + w[i]^2): an importance matrix's weights, tempered by the
 * weights' own size. */
void assay_temper(float *weight, const float *importance, const float *w, int n, float mean);

#endif
