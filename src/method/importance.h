/* method/importance.h: how much the columns of a matrix weigh: the mean square of what flows into them (llama.cpp's importance matrix).
 * Inside the room only; importance_run.h computes a file of them. */
#ifndef ASSAY_METHOD_IMPORTANCE_H
#define ASSAY_METHOD_IMPORTANCE_H

#include "method/methods.h"

/* Of one input of a decoder layer, or of all experts' inputs of one role. */
typedef struct assay_squares {
    int64_t cols, n; /* n: experts, else 1; 0: the layer has no such input */
    double *sums;    /* [n][cols] of squares over the tokens */
    int64_t *counts; /* [n] tokens */
} assay_squares;

typedef struct assay_importance {
    assay_squares of[ASSAY_ROLE_COUNT]; /* by input role (model/layer.h) */
} assay_importance;

/* Runs the layer as it is over its calibration sequences, layer->x; its outputs go to y [n_tokens][hidden] (NULL: not wanted). */
assay_status assay_importance_measure(assay_importance *out, assay_layer *layer, float *y, assay_err *err);
void assay_importance_free(assay_importance *i); /* all-zero is fine */
/* Gives every item whose method uses them its weights, in float32 as a file would have carried them. */
assay_status assay_importance_give(const assay_importance *i, assay_layer *layer, assay_err *err);

/* As float32 numbers in a row, for the disk: per input role its counts [n] and sums [n][cols]. */
size_t assay_importance_n_floats(const assay_layer *layer);
void assay_importance_put(float *out, const assay_importance *i);
/* Where those of an item lie in such a row; a stack of experts' begins at expert 0. */
typedef struct assay_importance_view {
    int64_t cols, n;
    const float *counts, *sums;
} assay_importance_view;
assay_importance_view assay_importance_find(const float *row, const assay_layer *layer, assay_tensor_role role);

#endif
