/* precision/grid.h: one group of weights and its grid: the step between "which values can be stored" and
 * "which of them are chosen".
 *
 * Methods that do not simply round (GPTQ, AWQ's clipping, AutoRound, mixtures) see every precision through
 * this: fit parameters to a group, round values to it, decode. Rounding for given parameters is exactly what
 * the encoders of precision.h do where the spec says the type of quotients that they have.
 *
 *   INT       value = (code - zero) * scale
 *   CODEBOOK  value = table[code] * scale      FLOAT  the same
 *
 * Everything is float32; a grid's parameters are already rounded to what the format stores, so what is
 * optimised is what is read. */
#ifndef ASSAY_PRECISION_GRID_H
#define ASSAY_PRECISION_GRID_H

#include "precision/precision.h"

typedef struct assay_grid_spec {
    assay_precision precision; /* any but DENSE */
    int64_t group_size;        /* columns (CODEBOOK: elements) per scale, 0 = a whole row */
    int64_t row_block;         /* FLOAT: as in assay_matrix */
    bool asymmetric;           /* INT */
    bool mse;              /* fit searches the clipping with the least error instead of taking the extremes */
    assay_scale_rule rule; /* INT */
    assay_dtype scale_dtype; /* as assay_int_opts: F32, F16, BF16: the model's type, in which scales are
                                computed and, but for MXFP4 and NVFP4, stored */
    assay_dtype quotient;    /* INT with compressed-tensors' rule and FP8: F16 or BF16 = w / scale (and the sum with
                                the zero point) are rounded to it before they become codes; else float32 */
    float global_scale;      /* NVFP4: of the matrix (assay_grid_spec_global) */
} assay_grid_spec;

typedef struct assay_grid {
    float scale;  /* the effective multiplier: for NVFP4 stored / global_scale, else = stored */
    float stored; /* what assay_matrix.scales holds */
    float zero;   /* INT: the zero point (2^(bits-1) when symmetric), else 0 */
} assay_grid;

/* Largest magnitude of n floats, and their extremes; n >= 1, none of them NaN. */
float assay_absmax(const float *w, size_t n);
void assay_extremes(float *lo, float *hi, const float *w, size_t n);

/* NVFP4: 448 * 6 / max|w| over the whole matrix (1 when that is 0), computed in the spec's scale_dtype as the
 * original does; 0 for every other precision. */
float assay_grid_spec_global(const assay_grid_spec *s, float absmax);
/* The type that a matrix of this spec stores its scales in. */
assay_dtype assay_grid_stored_dtype(const assay_grid_spec *s);

/* Parameters for a group whose values reach from lo to hi (symmetric grids take the larger magnitude): the
 * clipping of AWQ, AutoRound and of the search. The original's rounding of scale and zero. */
void assay_grid_from_range(assay_grid *out, const assay_grid_spec *s, float lo, float hi);
/* Parameters for n values, contiguous; with s->mse the range that minimises sum weight[i] * |err|^2.4 over
 * the same shrink steps as assay_encode_int (weight NULL = 1). */
void assay_grid_fit(assay_grid *out, const assay_grid_spec *s, const float *w, size_t n, const float *weight);

/* n values on one grid: codes and decoded values (either may be NULL; none may overlap w). Ties and
 * saturation as the original of the precision has them. CODEBOOK: n < group_size is the matrix' last, short
 * block, which bitsandbytes divides instead of multiplying by the reciprocal. */
void assay_grid_round(uint8_t *codes, float *values, const assay_grid_spec *s, const assay_grid *g,
                      const float *w, size_t n);
/* n values, each on its own grid (a column of n rows): scale[i], zero[i]; zero NULL = symmetric. */
void assay_grid_round_each(uint8_t *codes, float *values, const assay_grid_spec *s, const float *scale,
                           const float *zero, const float *w, size_t n);

/* An empty matrix of that spec (codes, scales, zeros allocated; scale_dtype, group_size, row_block,
 * global_scale set) to fill by hand; and the place of the scale of row r and column c in it. */
assay_status assay_grid_matrix_new(assay_matrix *out, const assay_grid_spec *s, int64_t rows, int64_t cols,
                                   assay_err *err);
int64_t assay_matrix_scale_index(const assay_matrix *m, int64_t row, int64_t col);
/* Stores a grid as the parameters at that index. */
void assay_matrix_set_grid(assay_matrix *m, int64_t index, const assay_grid *g);

/* FP8, MXFP4, NVFP4: rounds w [rows][cols] to nearest with scales by absmax; bit-identical to
 * compressed-tensors. mse: clipping search per group. row_block and group_size as in assay_matrix (both 0 for
 * FP8: one scale per row). */
assay_status assay_encode_float(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                                const assay_grid_spec *s, assay_err *err);

#endif
