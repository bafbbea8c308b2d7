/* sum.c: torch's float32 sum (ATen/native/cpu/SumKernel.cpp) on one thread, for originals whose results
 * depend on its last bit.
 *
 * Eight lanes, whatever the CPU, four rows of them at a time; each such row of 32 is added into level 0, and
 * each time a level has taken 2^power of them it is poured into the next, which bounds the error like
 * pairwise summation. What is left of less than 32 is added to the lanes, then one by one. */
#include <string.h>

#include "base/status.h"
#include "precision/encode.h"

enum { LANES = 8, WIDTH = ASSAY_SUM_WIDTH, LEVELS = ASSAY_SUM_LEVELS };

static int ceil_log2(int64_t n) {
    int k = 0;
    while ((int64_t)1 << k < n) k++;
    return k;
}

void assay_sum_init(assay_sum *s, int64_t n) {
    memset(s->level, 0, sizeof s->level);
    s->n_rows = n / WIDTH;
    s->done = 0;
    s->power = ASSAY_MAX(4, ceil_log2(s->n_rows) / LEVELS);
}

static void pour(assay_sum *s) {
    int64_t mask = ((int64_t)1 << s->power) - 1;
    for (int level = 1; level < LEVELS; level++) {
        for (int k = 0; k < WIDTH; k++) {
            s->level[level][k] += s->level[level - 1][k];
            s->level[level - 1][k] = 0;
        }
        if (s->done & (mask << (level * s->power))) break;
    }
}

void assay_sum_add(assay_sum *s, const float *x, int64_t n) {
    int64_t mask = ((int64_t)1 << s->power) - 1;
    for (; n >= WIDTH; n -= WIDTH, x += WIDTH) {
        for (int k = 0; k < WIDTH; k++) s->level[0][k] += x[k];
        if ((++s->done & mask) == 0) pour(s);
    }
}

float assay_sum_finish(assay_sum *s, const float *x, int64_t n) {
    float sum = 0, *rows = s->level[0];
    for (int level = 1; level < LEVELS && s->done >> s->power; level++) /* else they are zero */
        for (int k = 0; k < WIDTH; k++) rows[k] += s->level[level][k];
    for (; n >= LANES; n -= LANES, x += LANES)
        for (int k = 0; k < LANES; k++) rows[k] += x[k];
    for (int r = 1; r < WIDTH / LANES; r++)
        for (int k = 0; k < LANES; k++) rows[k] += rows[r * LANES + k];
    for (int64_t i = 0; i < n; i++) sum += x[i];
    for (int k = 0; k < LANES; k++) sum += rows[k];
    return sum;
}

float assay_sum_like_torch(const float *x, int64_t n) {
    assay_sum s;
    int64_t whole = n / WIDTH * WIDTH;
    assay_sum_init(&s, n);
    assay_sum_add(&s, x, whole);
    return assay_sum_finish(&s, x + whole, n - whole);
}
