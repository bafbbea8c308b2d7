/* method/awq.h: AWQ's clipping search, for awq.c. Inside the room only. */
#ifndef ASSAY_METHOD_AWQ_H
#define ASSAY_METHOD_AWQ_H

#include "method/methods.h"

/* item->clip: per row and group the range whose rounding changes the group's part of the output least, on
 * what was collected of the inputs (a Gram matrix or a sample). Leaves it NULL where a row's groups have no
 * scales of their own. Notes the mean of the ranges. */
assay_status assay_awq_clip(assay_item *item, int n_threads, assay_err *err);

#endif
