/* status.c: names and exit codes of the statuses (status.def), and how errors are filled.
 *
 * The first failure wins: while a call unwinds, later failures (a close that fails because the disk is full,
 * say) must not hide the cause. Callers that know more (which file, which tensor) put it in front with
 * assay_err_prefix. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define X(name, value, exit_code, text)                                                                      \
    _Static_assert(ASSAY_##name == (value), "status.h and status.def disagree");
#include "base/status.def"
#undef X

const char *assay_status_name(assay_status s) {
    switch (s) {
#define X(name, value, exit_code, text)                                                                      \
    case ASSAY_##name:                                                                                       \
        return text;
#include "base/status.def"
#undef X
    }
    return "unknown status";
}

int assay_status_exit_code(assay_status s) {
    switch (s) {
#define X(name, value, exit_code, text)                                                                      \
    case ASSAY_##name:                                                                                       \
        return exit_code;
#include "base/status.def"
#undef X
    }
    return 70;
}

/* One line whatever was put in: control characters become spaces, a cut is shown as "...". */
static void tidy(char *text, size_t size, int wanted) {
    if (wanted >= (int)size) memcpy(text + size - 4, "...", 4);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = ' ';
}

static void fill(assay_err *err, assay_status code, const char *fmt, va_list ap) {
    if (!err || err->code != ASSAY_OK) return;
    err->code = code;
    int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    tidy(err->message, sizeof err->message, n);
}

assay_status assay_fail(assay_err *err, assay_status code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, fmt, ap);
    va_end(ap);
    return code;
}

static assay_status status_of_errno(int e) {
    switch (e) {
    case ENOENT:
    case ENOTDIR:
        return ASSAY_ENOTFOUND;
    case EISDIR: /* a folder where a file is expected */
    case ELOOP:
    case ENAMETOOLONG:
        return ASSAY_EINPUT;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ASSAY_ENOSPC;
    case ENOMEM:
        return ASSAY_ENOMEM;
    default:
        return ASSAY_EIO;
    }
}

assay_status assay_fail_errno(assay_err *err, int errno_value, const char *fmt, ...) {
    assay_status code = status_of_errno(errno_value);
    if (!err || err->code != ASSAY_OK) return code;
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, fmt, ap);
    va_end(ap);
    char reason[128];
    const char *r = strerror_r(errno_value, reason, sizeof reason); /* the GNU one, which returns the text */
    size_t used = strlen(err->message);
    int n = snprintf(err->message + used, sizeof err->message - used, ": %s", r);
    tidy(err->message, sizeof err->message, (int)used + n);
    return code;
}

assay_status assay_err_prefix(assay_err *err, const char *fmt, ...) {
    if (!err) return ASSAY_EINTERNAL;
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->message) {
        int m = snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", old);
        tidy(err->message, sizeof err->message, n + m);
    }
    return err->code;
}
