/* train/head.h: the loss at the model's end (final norm and output matrix) and its gradient, in pieces of rows: [rows][vocab] never
 * exists as a whole. */
#ifndef ASSAY_TRAIN_HEAD_H
#define ASSAY_TRAIN_HEAD_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* What stands after the last decoder layer: logits = (x / rms(x) * norm) w^T. Borrowed. */
typedef struct assay_head {
    const float *norm; /* [hidden] */
    const float *w;    /* [vocab][hidden] */
    size_t hidden, vocab;
    float eps;
} assay_head;

/* What the logits are held against: one of the two. */
typedef struct assay_target {
    const int32_t *ids;               /* [n] next tokens: cross entropy; a negative id leaves its row out */
    const float *reference;           /* [n][hidden] last hidden states of the reference model: KL(reference || this) */
    const assay_head *reference_head; /* its head; NULL = the same as this one */
} assay_target;

/* Where gradients are added; NULL = not wanted. */
typedef struct assay_head_grads {
    float *norm; /* [hidden] */
    float *w;    /* [vocab][hidden] */
} assay_head_grads;

/* logits [n][ld] (ld >= vocab; only the first vocab of a row are written) of hidden states x [n][hidden]; h [n][hidden] takes the
 * normalized states. Bit-identical for any n_threads. */
assay_status assay_head_logits(float *logits, size_t ld, float *h, const assay_head *head, const float *x, size_t n, int n_threads,
                               assay_err *err);

/* *loss = the sum over rows in nats (accumulated in double) for hidden states x [n][hidden]; dx [n][hidden] = scale * gradient of that
 * sum (may be x; NULL = not wanted, nor is anything in g then; g may be NULL). Bit-identical for any n_threads (0 = all cores).
 * EINPUT when an id is not below vocab. */
assay_status assay_head_loss(double *loss, float *dx, const assay_head_grads *g, const assay_head *head, const assay_target *target,
                             const float *x, size_t n, double scale, int n_threads, assay_err *err);

#endif
