/* method/recode.h: a matrix decoded and rounded to nearest anew, in pieces of rows: what a conversion does when no code fits and it was
 * told to go on. Inside the room only. */
#ifndef ASSAY_METHOD_RECODE_H
#define ASSAY_METHOD_RECODE_H

#include "precision/grid.h"

typedef struct assay_recode_loss {
    double error2, weight2; /* sums of squares: what was lost, of what */
    int64_t n_changed;      /* weights that are not what they were */
} assay_recode_loss;

/* m decoded and encoded by `spec` (BLOCK: its precision alone counts; FP8's row_block and group_size are natural, not 0 and "all rows").
 * Adds to *loss. Errors name the matrix. out's compute mode is 16-bit activations. */
assay_status assay_recode(assay_matrix *out, assay_recode_loss *loss, const char *name, const assay_matrix *m, const assay_grid_spec *spec,
                          int n_threads, assay_err *err);
/* What that will make, without its data: for planning the writer's files. m may be an outline; the same errors of shape. */
assay_status assay_recode_sketch(assay_matrix *out, const char *name, const assay_matrix *m, const assay_grid_spec *spec, assay_err *err);
/* m decoded to elements of a dtype (F32, F16, BF16): out [rows][cols]. Values beyond F16's range are EINPUT. */
assay_status assay_decode_to(void *out, assay_recode_loss *loss, const char *name, const assay_matrix *m, assay_dtype dtype, int n_threads,
                             assay_err *err);

#endif
