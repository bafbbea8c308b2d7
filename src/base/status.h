/* base/status.h: filling and forwarding errors inside the library. The public half is assay/status.h. */
#ifndef ASSAY_BASE_STATUS_H
#define ASSAY_BASE_STATUS_H

#include "assay/status.h"

/* Fills err (may be NULL) unless it already holds a failure, and returns code. */
assay_status assay_fail(assay_err *err, assay_status code, const char *fmt, ...) ASSAY_PRINTF(3, 4);
/* As assay_fail for a failed system call: appends strerror(errno_value) and picks ENOTFOUND, ENOSPC, ENOMEM
 * or EIO from it. */
assay_status assay_fail_errno(assay_err *err, int errno_value, const char *fmt, ...) ASSAY_PRINTF(3, 4);
/* Puts "prefix: " before the message that err holds; for callers that know the file or tensor. Returns err's
 * code. */
assay_status assay_err_prefix(assay_err *err, const char *fmt, ...) ASSAY_PRINTF(2, 3);

/* Forwards a failure. Use it only where nothing has to be freed; otherwise `if ((s = f()) != ASSAY_OK) goto
 * out;`. */
#define ASSAY_TRY(expr)                                                                                      \
    do {                                                                                                     \
        assay_status assay_try_ = (expr);                                                                    \
        if (assay_try_ != ASSAY_OK) return assay_try_;                                                       \
    } while (0)
/* Forwards a failure to the cleanup label `out`; the function's status variable is `s`. */
#define ASSAY_GO(expr)                                                                                       \
    do {                                                                                                     \
        s = (expr);                                                                                          \
        if (s != ASSAY_OK) goto out;                                                                         \
    } while (0)

#define ASSAY_LEN(a)    (sizeof(a) / sizeof((a)[0]))
#define ASSAY_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ASSAY_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
