/* precision/hqq.h: half-quadratic quantization (encode_hqq.c): integer codes with real zero points, found
 * without data.
 *
 * The solver goes over the whole matrix once per iteration and stops when its mean error no longer falls, so
 * a matrix in work has three phases; within each, blocks of rows may be treated in any order by any thread:
 *
 *   start    scales and zero points of each group from its extremes
 *   step     one iteration of some rows; gives the sum of |w - w'| before it. assay_hqq_goes_on with all
 * rows' sums says whether another follows finish   codes; scales and zero points as they are stored */
#ifndef ASSAY_PRECISION_HQQ_H
#define ASSAY_PRECISION_HQQ_H

#include "precision/precision.h"

typedef struct assay_hqq_opts {
    int bits;           /* 2..8 */
    int64_t group_size; /* 0 = whole row */
    assay_dtype
        scale_dtype; /* F32 (default), F16, BF16: what scales and zero points are rounded to in the end */
} assay_hqq_opts;

/* Allocates *out (caller deinits): INT of that width with real_zeros. */
assay_status assay_hqq_new(assay_matrix *out, int64_t rows, int64_t cols, const assay_hqq_opts *o,
                           assay_err *err);

/* w: rows [row, row + n) of the matrix, finite. */
void assay_hqq_start(assay_matrix *m, const float *w, int64_t row, int64_t n);
double assay_hqq_step(assay_matrix *m, const float *w, int64_t row, int64_t n);
void assay_hqq_finish(assay_matrix *m, const float *w, int64_t row, int64_t n);

#define ASSAY_HQQ_ITERATIONS 20 /* at most */

typedef struct assay_hqq_progress {
    int iteration; /* done so far */
    float best;    /* mean error */
} assay_hqq_progress;
/* After an iteration of all rows, whose sums the caller added in a fixed order. All-zero progress to begin
 * with. */
bool assay_hqq_goes_on(assay_hqq_progress *p, const assay_matrix *m, double sum);

/* All of it on one thread. w [rows, cols] float32; NaN or infinity is EINPUT naming row and column. */
assay_status assay_encode_hqq(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                              const assay_hqq_opts *o, assay_err *err);

#endif
