/* base/progress.h: how long work reports and how it is interrupted. A NULL progress is silent and never
 * stops. */
#ifndef ASSAY_BASE_PROGRESS_H
#define ASSAY_BASE_PROGRESS_H

#include "assay/progress.h"
#include "base/status.h"

/* Reports; returns ASSAY_EINTR (with err filled) when the caller asked to stop, else ASSAY_OK. */
assay_status assay_progress_report(const assay_progress *p, const char *phase, double done, double total,
                                   const char *unit, assay_err *err);

#endif
