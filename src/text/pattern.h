/* text/pattern.h: the regular expressions and literal strings of tokenizer.json, matched with PCRE2 (included
 * in pattern.c alone).
 *
 * Patterns are written for Oniguruma; assay_pattern_compile rewrites what PCRE2 would read differently (see
 * pattern_onig.c). A pattern is immutable and shared between threads; the scratch belongs to one call. */
#ifndef ASSAY_TEXT_PATTERN_H
#define ASSAY_TEXT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"
#include "base/str.h"

typedef struct assay_pattern assay_pattern;

/* A part of a text: [begin, end), and whether the pattern matched it. */
typedef struct assay_span {
    size_t begin, end;
    bool match;
} assay_span;

typedef struct assay_spans {
    assay_span *v; /* owned */
    size_t n, cap;
} assay_spans;

/* literal: re is a plain string. EUNSUPPORTED names a construct without an equivalent, EINPUT a broken
 * expression. */
assay_status assay_pattern_compile(assay_pattern **out, const char *re, size_t n, bool literal,
                                   assay_err *err);
void assay_pattern_free(assay_pattern *p);

/* The spans that cover text (valid UTF-8) from left to right, matches and the gaps between them; out is
 * cleared first. An empty text is one empty span without a match. EINPUT when the pattern needs more steps
 * than PCRE2 allows. */
assay_status assay_pattern_find(assay_spans *out, const assay_pattern *p, const char *text, size_t n,
                                assay_err *err);
void assay_spans_free(assay_spans *s);
assay_status assay_spans_put(assay_spans *s, size_t begin, size_t end, bool match, assay_err *err);

/* Oniguruma syntax to PCRE2 syntax; appends to out. */
assay_status assay_pattern_translate(assay_str *out, const char *re, size_t n, assay_err *err);

#endif
