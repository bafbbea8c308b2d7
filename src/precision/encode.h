/* precision/encode.h: what the encoders share. Not for other rooms. */
#ifndef ASSAY_PRECISION_ENCODE_H
#define ASSAY_PRECISION_ENCODE_H

#include "precision/grid.h"

/* EINPUT naming row and column of the first NaN or infinity in w [rows, cols]; also when the shape is
 * impossible. */
assay_status assay_check_finite(const float *w, int64_t rows, int64_t cols, assay_err *err);
/* EINPUT naming the row of the first scale that is NaN or infinite. */
assay_status assay_check_scales(const assay_matrix *m, assay_err *err);

/* bitsandbytes divides by no less than this. */
#define ASSAY_CODEBOOK_FLOOR 1e-38f
/* The largest value of a FLOAT precision: 448, 57344 or 6. */
float assay_float_largest(assay_precision p);
/* x rounded to F16 or BF16; as it is for any other type. */
float assay_round_to(float x, assay_dtype t);

/* --- sum.c: torch.sum over contiguous float32 on one thread, bit for bit --- */

enum { ASSAY_SUM_WIDTH = 32, ASSAY_SUM_LEVELS = 4 };
typedef struct assay_sum {
    float level[ASSAY_SUM_LEVELS][ASSAY_SUM_WIDTH];
    int64_t n_rows; /* of ASSAY_SUM_WIDTH numbers, in all and so far */
    int64_t done;
    int power;
} assay_sum;
void assay_sum_init(assay_sum *s, int64_t n);
/* The next n numbers, a multiple of ASSAY_SUM_WIDTH. */
void assay_sum_add(assay_sum *s, const float *x, int64_t n);
/* The sum with the last n < ASSAY_SUM_WIDTH numbers. */
float assay_sum_finish(assay_sum *s, const float *x, int64_t n);
float assay_sum_like_torch(const float *x, int64_t n);

/* --- clip.c --- */

/* assay_grid_fit for a block of rows of n values each, `stride` apart. */
void assay_grid_fit_rows(assay_grid *out, const assay_grid_spec *s, const float *w, int64_t n_rows,
                         int64_t stride, size_t n);

/* The extremes of shrink step i of the clipping search: (1 - i/100) of the group's own, rounded to the
 * scale's dtype. */
void assay_clip_extremes(float *lo, float *hi, int step, assay_dtype dtype);
/* Sum of weight[i] * |decode(encode(w)) - w|^2.4 over n values; weight NULL = 1. */
double assay_grid_error(const assay_grid_spec *s, const assay_grid *g, const float *w, size_t n,
                        const float *weight);
/* For one group of an INT precision with the rule of compressed-tensors: bit i of the result is set when step
 * i lowered the error of all before it. */
uint32_t assay_clip_improvements(const assay_grid_spec *s, const float *w, size_t n, float lo, float hi);

#endif
