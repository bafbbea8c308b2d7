/* method/floats.h: rounding to nearest in small floats, for the methods that do just that. Inside the room
 * only. */
#ifndef ASSAY_METHOD_FLOATS_H
#define ASSAY_METHOD_FLOATS_H

#include "method/methods.h"

/* item->out: FP8, MXFP4 or NVFP4 as the choice says, activations as it wants them. The result does not depend
 * on n_threads. */
assay_status assay_floats_encode(assay_item *item, int n_threads, assay_err *err);

#endif
