/* assay/status.h: the one list of statuses and the error that a caller passes in.
 *
 * Every fallible function returns an assay_status and can fill an assay_err. The library never prints, exits
 * or aborts. Message style: one line, lower case, no full stop; what was wrong with which file, byte, key or
 * tensor, and what to do. What does not appear in include/assay is not API. */
#ifndef ASSAY_STATUS_H
#define ASSAY_STATUS_H

#if defined(__GNUC__)
#define ASSAY_API          __attribute__((visibility("default")))
#define ASSAY_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define ASSAY_MUST_CHECK   __attribute__((warn_unused_result))
#else
#define ASSAY_API
#define ASSAY_PRINTF(f, a)
#define ASSAY_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum assay_status {
    ASSAY_OK = 0,
    ASSAY_EUSAGE = -1,
    ASSAY_EINPUT = -2,
    ASSAY_ENOTFOUND = -3,
    ASSAY_EUNSUPPORTED = -4,
    ASSAY_ENOMEM = -5,
    ASSAY_ENOSPC = -6,
    ASSAY_EIO = -7,
    ASSAY_EINTR = -8,
    ASSAY_EMISMATCH = -9,
    ASSAY_EINTERNAL = -10
} assay_status;

/* Where an error's text goes. Zero-initialise; the first failure fills it, later ones in the same unwinding
 * keep it. */
typedef struct assay_err {
    assay_status code;
    char message[480]; /* one line, NUL-terminated, cut with "..." when longer */
} assay_err;

/* "bad input" and so on; never NULL. */
ASSAY_API const char *assay_status_name(assay_status s);
/* The process exit code that stands for a status: 0 2 3 4 5 70 130. */
ASSAY_API int assay_status_exit_code(assay_status s);

#ifdef __cplusplus
}
#endif
#endif
