/* precision/encode.h: what the encoders share. Not for other rooms. */
#ifndef ASSAY_PRECISION_ENCODE_H
#define ASSAY_PRECISION_ENCODE_H

#include "precision/precision.h"

/* EINPUT naming row and column of the first NaN or infinity in w [rows, cols]; also when the shape is
 * impossible. */
assay_status assay_check_finite(const float *w, int64_t rows, int64_t cols, assay_err *err);
/* Largest magnitude of n floats, and their extremes; n >= 1, none of them NaN. */
float assay_absmax(const float *w, size_t n);
void assay_extremes(float *lo, float *hi, const float *w, size_t n);

/* One integer grid: scale and zero point of a group with the codes' range, all as compressed-tensors has
 * them (signed codes). */
typedef struct assay_int_grid {
    float scale, zero;
    float q_min, q_max;
} assay_int_grid;

/* calculate_qparams of compressed-tensors for one group's extremes, with every operation rounded to
 * `dtype`. */
void assay_int_grid_init(assay_int_grid *g, float lo, float hi, const assay_int_opts *o);
/* Sum of |decode(encode(w)) - w|^2.4 over n values. */
double assay_int_grid_error(const assay_int_grid *g, const float *w, size_t n);

/* The extremes of shrink step i of the clipping search: (1 - i/100) of the group's own, rounded to the
 * scale's dtype. */
void assay_clip_extremes(float *lo, float *hi, int step, assay_dtype dtype);
/* For one group: bit i of the result is set when step i lowered the error of all before it. */
uint32_t assay_clip_improvements(const float *w, size_t n, float lo, float hi, const assay_int_opts *o);

#endif
