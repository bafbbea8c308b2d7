/* progress.c: reporting and stopping. */
#include "base/progress.h"

#include <stddef.h>

assay_status assay_progress_report(const assay_progress *p, const char *phase, double done, double total,
                                   const char *unit, assay_err *err) {
    if (!p || !p->fn || p->fn(p->ctx, phase, done, total, unit) == 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINTR,
                      "interrupted while %s; what was finished is kept, run it again to go on", phase);
}
