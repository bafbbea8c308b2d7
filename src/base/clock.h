/* base/clock.h: time. */
#ifndef ASSAY_BASE_CLOCK_H
#define ASSAY_BASE_CLOCK_H

#include <stddef.h>

double assay_now(void); /* monotonic seconds */
char *
assay_date_iso(char *buf,
               size_t n); /* "2026-11-21T08:00:00Z" (SOURCE_DATE_EPOCH honoured); returns buf, n >= 21 */

#endif
