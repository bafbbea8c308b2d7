/* api/fit.h: how large a checkpoint may be so that a device serves it. */
#ifndef ASSAY_API_FIT_H
#define ASSAY_API_FIT_H

#include "assay/assay.h"
#include "base/status.h"
#include "base/str.h"

/* Bytes of weights that are left on one device (o->fit) beside cache, activations and the runtime's own memory at o->context and
 * o->concurrency (0: the plan's defaults), less one part in a hundred for what files are larger than predicted. `account` gets one line
 * of what was counted. EINPUT when nothing is left, or when the model fits as it is. */
assay_status assay_fit_bytes(double *out, assay_str *account, const char *model, const assay_quantize_request *o, assay_err *err);

#endif
