/* method/rounding.h: a matrix whose roundings and ranges are learned: AutoRound's parameters, what they quantize to, and one step of
 * sign descent. Inside the room only.
 *
 * A group of weights w with extremes lo <= 0 <= hi has two factors in [0, 1]; each weight has an offset v in [-1/2, 1/2]:
 *
 *   grid   the precision's own, of the range [lo * low, hi * high], its parameters rounded as the format stores them
 *   value  of w + v * step rounded to that grid; step is the grid's distance at w
 *
 * Learning may begin at codes that are not the nearest ones (another method's, chosen with regard to each other). Then lo and hi span those
 * codes' grids, and the nearest point to w that rounds to its code stands for w, a little inside: v = 0 gives the codes, v within its
 * bounds one code up or down.
 *
 * Symmetric integers take the original's range: scale = +-extreme / 2^(b-1) with the sign that makes the larger extreme the code that has
 * no counterpart, so that it is hit exactly; a negative scale is as good as a positive one to whoever multiplies by it. */
#ifndef ASSAY_METHOD_ROUNDING_H
#define ASSAY_METHOD_ROUNDING_H

#include "method/methods.h"

typedef struct assay_rounding {
    assay_item *item; /* borrowed */
    assay_grid_spec spec;
    int64_t rows, cols, group, n_groups; /* group: columns per scale; n_groups: per row */
    float *value; /* [rows][cols] what the matrix is now */
    float *grad;  /* [rows][cols] gradient of value, given to a step; NULL when it is not to be learned */
    float *v;     /* [rows][cols], in steps */
    float *base;  /* [rows][cols] what stands for the weights; NULL: they themselves */
    float *lo, *hi, *low, *high; /* [rows][n_groups] */
    assay_grid *grid, *best_grid; /* [rows][n_groups] */
    assay_grid *start_grid;       /* [rows][n_groups], with base: of factors 1 */
    uint8_t *codes, *best_codes;  /* [rows][cols] */
    float *scratch;               /* per thread */
    int n_threads;
} assay_rounding;

/* Plain rounding to nearest, as the encoders do; with `learn`, memory and extremes for steps (item->clip bounds the range where it is
 * set). EINPUT for NaN and infinity, with tensor, row and column. */
assay_status assay_rounding_open(assay_rounding *r, assay_item *item, bool learn, int n_threads, assay_err *err);
void assay_rounding_close(assay_rounding *r); /* all-zero and half-built are fine */

/* Begins at the codes and parameters of an encoded matrix of the item's choice (without g_idx) instead. */
assay_status assay_rounding_start_at(assay_rounding *r, const assay_matrix *m, assay_err *err);
/* Quantizes with the parameters as they are. */
void assay_rounding_apply(assay_rounding *r);
/* Moves every parameter by lr against the sign of its gradient (straight through the rounding), then applies. */
void assay_rounding_step(assay_rounding *r, float lr);
/* Remembers codes and grids as they are now. */
void assay_rounding_keep(assay_rounding *r);
/* Makes the remembered codes and grids current and the current ones remembered. */
void assay_rounding_swap(assay_rounding *r);
/* Makes item->out of the current codes and grids. */
assay_status assay_rounding_finish(assay_rounding *r, assay_err *err);

#endif
