/* pattern.c: compiles with PCRE2 (JIT, UTF, UCP) and walks a text from match to match.
 *
 * The walk follows the original's: matches do not overlap, and an empty match right after a match is skipped.
 * Match data is made per call, so a pattern can serve many threads. When the JIT's stack is too small for a
 * text the match is repeated by PCRE2's interpreter, which uses the heap.
 *
 * One pattern in use (Cohere's and Tiny Aya's thousands) looks ahead to the end of a run of digits from each of them, which takes the
 * square of its length; it is known by its text, and a run is found once and cut up. */
#include "text/pattern.h"

#include <string.h>
#include "base/mem.h"
#include "text/unicode.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static const char THOUSANDS[] = "\\d{1,3}(?=(?:\\d{3})*\\b)";
static const char DIGITS[] = "\\d++(\\b)?"; /* a run, and whether it ends at a word's boundary */

struct assay_pattern {
    pcre2_code *code; /* NULL for a literal */
    bool thousands;   /* code is that of DIGITS */
    bool jit;
    char *literal;
    size_t n_literal;
};

static void *pcre_alloc(size_t n, void *ctx) {
    (void)ctx;
    return assay_malloc(n);
}
static void pcre_free(void *p, void *ctx) {
    (void)ctx;
    assay_free(p);
}

static assay_status compile_regex(assay_pattern *p, const char *re, size_t n, assay_err *err) {
    assay_status s = ASSAY_OK;
    assay_str t = {0};
    pcre2_general_context *gc = NULL;
    pcre2_compile_context *cc = NULL;
    ASSAY_GO(assay_pattern_translate(&t, re, n, err));
    ASSAY_GO(assay_str_status(&t, err));
    gc = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    cc = gc ? pcre2_compile_context_create(gc) : NULL;
    if (!cc) {
        s = assay_nomem(err);
        goto out;
    }
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    /* In Oniguruma ^ and $ are always line anchors. */
    p->code =
        pcre2_compile((PCRE2_SPTR)assay_str_c(&t), t.len,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, cc);
    if (!p->code) {
        if (code == PCRE2_ERROR_HEAP_FAILED) {
            s = assay_nomem(err);
            goto out;
        }
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        s = assay_fail(err, ASSAY_EINPUT, "pattern '%.120s': %s at byte %zu of its PCRE2 form", re,
                       (char *)why, (size_t)at);
        goto out;
    }
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
out:
    pcre2_compile_context_free(cc);
    pcre2_general_context_free(gc);
    assay_str_free(&t);
    return s;
}

assay_status assay_pattern_compile(assay_pattern **out, const char *re, size_t n, bool literal,
                                   assay_err *err) {
    assay_pattern *p = assay_calloc(1, sizeof *p);
    if (!p) return assay_nomem(err);
    assay_status s = ASSAY_OK;
    if (literal) {
        p->literal = assay_strndup(re, n);
        p->n_literal = n;
        if (!p->literal) s = assay_nomem(err);
    } else {
        p->thousands = n == sizeof THOUSANDS - 1 && memcmp(re, THOUSANDS, n) == 0;
        s = p->thousands ? compile_regex(p, DIGITS, sizeof DIGITS - 1, err) : compile_regex(p, re, n, err);
    }
    if (s != ASSAY_OK) {
        assay_pattern_free(p);
        return s;
    }
    *out = p;
    return ASSAY_OK;
}

void assay_pattern_free(assay_pattern *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    assay_free(p->literal);
    assay_free(p);
}

void assay_spans_free(assay_spans *s) {
    assay_free(s->v);
    memset(s, 0, sizeof *s);
}

assay_status assay_spans_put(assay_spans *s, size_t begin, size_t end, bool match, assay_err *err) {
    if (s->n == s->cap) ASSAY_TRY(assay_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v, err));
    s->v[s->n++] = (assay_span){begin, end, match};
    return ASSAY_OK;
}

static assay_status find_literal(assay_spans *out, const assay_pattern *p, const char *text, size_t n,
                                 assay_err *err) {
    size_t prev = 0;
    while (p->n_literal && prev < n) {
        const char *hit = memmem(text + prev, n - prev, p->literal, p->n_literal);
        if (!hit) break;
        size_t at = (size_t)(hit - text);
        if (at > prev) ASSAY_TRY(assay_spans_put(out, prev, at, false, err));
        ASSAY_TRY(assay_spans_put(out, at, at + p->n_literal, true, err));
        prev = at + p->n_literal;
    }
    return prev < n ? assay_spans_put(out, prev, n, false, err) : ASSAY_OK;
}

/* One match from `at` on: one more than the number of the last group that took part, 0 none, negative a PCRE2 error. */
static int match_from(const assay_pattern *p, pcre2_match_data *md, pcre2_match_context *limits, const char *text, size_t n,
                      size_t at) {
    int r = p->jit ? pcre2_jit_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, md, limits)
                   : pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, md, limits);
    if (r == PCRE2_ERROR_JIT_STACKLIMIT)
        r = pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, md, limits);
    if (r == PCRE2_ERROR_NOMATCH) return 0;
    return r;
}

/* The digits of text[b, e) in threes, counted from the end. */
static assay_status put_thousands(assay_spans *out, const char *text, size_t b, size_t e, assay_err *err) {
    size_t n = (assay_utf8_count(text + b, e - b) - 1) % 3 + 1;
    for (; b < e; n = 3) {
        size_t len = assay_utf8_offset(text + b, e - b, n);
        ASSAY_TRY(assay_spans_put(out, b, b + len, true, err));
        b += len;
    }
    return ASSAY_OK;
}

/* Steps that one match may take: a few per byte, because a run of white space is walked back to its beginning, and enough for short texts. */
static uint32_t max_steps(size_t n) {
    const size_t least = 10000000, per_byte = 16;
    return n > (UINT32_MAX - least) / per_byte ? UINT32_MAX : (uint32_t)(least + per_byte * n);
}

static assay_status find_regex(assay_spans *out, const assay_pattern *p, const char *text, size_t n,
                               assay_err *err) {
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(p->code, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (!md || !limits) {
        pcre2_match_data_free(md);
        pcre2_match_context_free(limits);
        return assay_nomem(err);
    }
    pcre2_set_match_limit(limits, max_steps(n));
    pcre2_set_depth_limit(limits, max_steps(n));
    const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(md);
    size_t prev = 0, at = 0, last_end = SIZE_MAX;
    assay_status s = ASSAY_OK;
    while (at <= n) {
        int r = match_from(p, md, limits, text, n, at);
        if (r == 0) break;
        if (r == PCRE2_ERROR_NOMEMORY) {
            s = assay_nomem(err);
            break;
        }
        if (r < 0) {
            s = assay_fail(err, ASSAY_EINPUT,
                           "a tokenizer pattern failed at byte %zu of the text (PCRE2 error %d)", at, r);
            break;
        }
        size_t b = ov[0], e = ov[1];
        if (p->thousands && r == 1) { /* the group took no part */
            at = e;
            continue;
        }
        if (b > e) b = e; /* \K inside a lookahead */
        if (b == e && e == last_end) {
            size_t len = 1;
            if (at < n) assay_utf8_next(&len, text + at, n - at);
            at += len;
            continue;
        }
        if (b < prev) b = prev;
        if (b > prev && (s = assay_spans_put(out, prev, b, false, err)) != ASSAY_OK) break;
        s = p->thousands ? put_thousands(out, text, b, e, err) : assay_spans_put(out, b, e, true, err);
        if (s != ASSAY_OK) break;
        prev = at = last_end = e;
    }
    pcre2_match_data_free(md);
    pcre2_match_context_free(limits);
    if (s != ASSAY_OK || prev >= n) return s;
    return assay_spans_put(out, prev, n, false, err);
}

assay_status assay_pattern_find(assay_spans *out, const assay_pattern *p, const char *text, size_t n,
                                assay_err *err) {
    out->n = 0;
    if (n == 0) return assay_spans_put(out, 0, 0, false, err);
    return p->code ? find_regex(out, p, text, n, err) : find_literal(out, p, text, n, err);
}
