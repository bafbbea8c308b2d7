/* clock.c: monotonic time for durations, UTC dates for manifests. */
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double assay_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

char *assay_date_iso(char *buf, size_t n) {
    time_t now = time(NULL);
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    if (fixed && *fixed) now = (time_t)strtoll(fixed, NULL, 10);
    struct tm tm;
    if (!gmtime_r(&now, &tm) || !strftime(buf, n, "%Y-%m-%dT%H:%M:%SZ", &tm)) snprintf(buf, n, "unknown");
    return buf;
}
