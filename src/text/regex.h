/* text/regex.h: PCRE2 patterns from files (answer extraction, tensor names), bounded so that no pattern and no text can hang a run.
 *
 * UTF and Unicode properties are on; text that is not valid UTF-8 is searched too, its ill-formed parts matching nothing. A search
 * that exceeds the limits on steps (10 million), backtracking memory or depth is EINPUT naming the pattern. Compiled patterns are
 * immutable and may be shared between threads. */
#ifndef ASSAY_TEXT_REGEX_H
#define ASSAY_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"
#include "base/str.h"

typedef struct assay_regex assay_regex;

/* EINPUT says what is wrong with the pattern and at which offset. Patterns of more than 4096 bytes are refused. */
assay_status assay_regex_new(assay_regex **out, const char *pattern, size_t n, assay_err *err);
void assay_regex_free(assay_regex *re); /* NULL is fine */

/* Whether the pattern matches anywhere in text. */
assay_status assay_regex_search(bool *hit, const assay_regex *re, const char *text, size_t n, assay_err *err);

typedef struct assay_regex_match {
    bool found;
    size_t begin, end;              /* of the whole match */
    size_t group_begin, group_end;  /* of the first group that took part and is not empty; else the first that took part; without
                                       groups the whole match */
} assay_regex_match;
/* The first match that begins at `start` or later. */
assay_status assay_regex_find(assay_regex_match *out, const assay_regex *re, const char *text, size_t n, size_t start, assay_err *err);
/* The last of all non-overlapping matches from the left. */
assay_status assay_regex_find_last(assay_regex_match *out, const assay_regex *re, const char *text, size_t n, assay_err *err);
/* Appends text with every match left out. */
assay_status assay_regex_remove(assay_str *out, const assay_regex *re, const char *text, size_t n, assay_err *err);

#endif
