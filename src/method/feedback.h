/* method/feedback.h: rounding with feedback: columns are rounded one after the other, and what rounding did to the earlier ones is made
 * up for by those still to come. The core of GPTQ; knows nothing of calibration. Inside the room only. */
#ifndef ASSAY_METHOD_FEEDBACK_H
#define ASSAY_METHOD_FEEDBACK_H

#include "method/methods.h"

/* Which columns make up for which errors. Positions are places in the order of rounding. */
typedef struct assay_feedback {
    const float *f;       /* [cols][cols] as assay_feedback_factor leaves it: position i is rounded at w_i + sum_{j<i} (w_j - q_j) f[i][j];
                             NULL: no feedback, each column is rounded where it lies */
    const double *weight; /* [cols] of the squared error at each position; NULL with f */
    const int32_t *order; /* [cols] the column at each position; NULL: ascending */
    bool contiguous;      /* all columns of a group stand together in the order */
} assay_feedback;

/* Fills item->out: codes and parameters of item's weight on the grid of its choice. Parameters of a group are fitted when its first column
 * comes, to the group's weights with the feedback so far; or to the original weights, before anything is rounded, where groups are not
 * together in the order, where rows share parameters and where scales are quantized themselves. With act_order group, groups
 * are those of the order and item->out has g_idx. item->clip bounds the ranges.
 * *loss = sum of weight[i] * (target - value)^2 over all elements: tr(E H E^T). Rows are independent; the result does not depend on
 * n_threads. EINPUT for NaN and infinity in the weight, with tensor, row and column; ENOMEM. */
assay_status assay_feedback_round(assay_item *item, const assay_feedback *f, double *loss, int n_threads, assay_err *err);

#endif
