/* base/str.h: a growing byte string, always NUL-terminated once something was appended. All-zero is the empty
 * string. Appending is sticky on failure: after an allocation failed, `failed` is set and further appends do
 * nothing, so a caller checks once at the end (assay_str_status). */
#ifndef ASSAY_BASE_STR_H
#define ASSAY_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

typedef struct assay_str {
    char *s; /* owned; NULL while empty: use assay_str_c for a C string */
    size_t len;
    size_t cap;
    bool failed;
} assay_str;

void assay_str_put(assay_str *b, const char *s); /* a C string */
void assay_str_putn(assay_str *b, const void *p, size_t n);
void assay_str_putc(assay_str *b, char c);
void assay_str_fill(assay_str *b, char c, size_t n); /* n times c */
void assay_str_printf(assay_str *b, const char *fmt, ...) ASSAY_PRINTF(2, 3);
void assay_str_vprintf(assay_str *b, const char *fmt, va_list ap);
const char *assay_str_c(const assay_str *b); /* never NULL; borrowed */
char *assay_str_take(assay_str *b);          /* owned by the caller, b is empty again; NULL if failed */
void assay_str_clear(assay_str *b);          /* length 0, keeps the memory */
void assay_str_free(assay_str *b);
assay_status assay_str_status(const assay_str *b, assay_err *err);

/* "1.5 GiB", "312 KiB", "17 B" into buf (at least 24 bytes); returns buf. */
char *assay_format_bytes(char *buf, size_t n, double bytes);
/* "3.2 s", "1 min 05 s", "2 h 03 min" into buf; returns buf. */
char *assay_format_seconds(char *buf, size_t n, double seconds);
/* The list's entry nearest to `word` by edit distance, if near enough to be a typing error; else NULL.
 * Borrowed. */
const char *assay_nearest(const char *word, const char *const *list, size_t n);

#endif
