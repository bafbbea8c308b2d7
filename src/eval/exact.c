/* exact.c: the answer is right when it equals the reference after both went through the same normalization.
 *
 * The answer is what the item's `extract` pattern finds in the output (its first group), or the whole output. Normalization follows
 * lm-eval's exact_match: patterns to ignore are removed in their order, then case, punctuation and space are evened out. With
 * `numbers` two answers that are numbers are compared as numbers ("1,000" is "1000.0", "$5" is "5"). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "eval/evaluator.h"
#include "eval/suite.h"
#include "text/unicode.h"

static const assay_option options[] = {
    {.name = "take", .kind = ASSAY_OPTION_WORD, .words = "first last", .help = "which match of `extract` is the answer"},
    {.name = "strip", .kind = ASSAY_OPTION_BOOL, .number = 1, .help = "leave out white space at both ends"},
    {.name = "ignore", .kind = ASSAY_OPTION_PATTERNS, .help = "patterns whose matches are left out of both sides"},
    {.name = "ignore_case", .kind = ASSAY_OPTION_BOOL, .help = "compare in lower case"},
    {.name = "ignore_punctuation", .kind = ASSAY_OPTION_BOOL, .help = "leave out punctuation"},
    {.name = "collapse_space", .kind = ASSAY_OPTION_BOOL, .help = "any run of white space is one space"},
    {.name = "numbers", .kind = ASSAY_OPTION_BOOL, .help = "compare numbers by value"},
};

typedef struct exact_state {
    bool last, strip, ignore_case, ignore_punctuation, collapse_space, numbers;
    assay_regex **ignore;
    size_t n_ignore;
} exact_state;

static void exact_close(void *state) {
    exact_state *st = state;
    if (!st) return;
    for (size_t i = 0; i < st->n_ignore; i++) assay_regex_free(st->ignore[i]);
    assay_free(st->ignore);
    assay_free(st);
}

static bool flag(const json_t *options_json, const char *name) {
    return json_is_true(json_object_get(options_json, name));
}

static assay_status exact_open(void **state, const json_t *o, assay_err *err) {
    exact_state *st = assay_calloc(1, sizeof *st);
    const json_t *ignore = json_object_get(o, "ignore");
    assay_status s = ASSAY_OK;
    if (!st) return assay_nomem(err);
    st->last = !strcmp(json_string_value(json_object_get(o, "take")), "last");
    st->strip = flag(o, "strip");
    st->ignore_case = flag(o, "ignore_case");
    st->ignore_punctuation = flag(o, "ignore_punctuation");
    st->collapse_space = flag(o, "collapse_space");
    st->numbers = flag(o, "numbers");
    st->ignore = assay_calloc(json_array_size(ignore) + 1, sizeof *st->ignore);
    if (!st->ignore) s = assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < json_array_size(ignore); i++) {
        const json_t *p = json_array_get(ignore, i);
        s = assay_regex_new(&st->ignore[i], json_string_value(p), json_string_length(p), err);
        if (s == ASSAY_OK) st->n_ignore++;
    }
    if (s == ASSAY_OK) *state = st;
    else exact_close(st);
    return s;
}

/* --- normalization --- */

static void put_without_punctuation(assay_str *out, const char *s, size_t n) {
    for (size_t at = 0, k; at < n; at += k) {
        int32_t c = assay_utf8_next(&k, s + at, n - at);
        if (!assay_char_is_punct(c)) assay_str_putn(out, s + at, k);
    }
}

static void put_collapsed(assay_str *out, const char *s, size_t n) {
    bool space = false;
    for (size_t at = 0, k; at < n; at += k) {
        int32_t c = assay_utf8_next(&k, s + at, n - at);
        bool is_space = assay_char_is_space(c);
        if (!is_space) assay_str_putn(out, s + at, k);
        else if (!space) assay_str_putc(out, ' ');
        space = is_space;
    }
}

static void put_stripped(assay_str *out, const char *s, size_t n) {
    size_t begin = 0, k;
    while (begin < n && assay_char_is_space(assay_utf8_next(&k, s + begin, n - begin))) begin += k;
    while (n > begin && assay_char_is_space(assay_utf8_prev(&k, s, n))) n -= k;
    assay_str_putn(out, s + begin, n - begin);
}

/* Hands *text through a step that appends to an empty string. */
typedef void (*step_fn)(assay_str *out, const char *s, size_t n);
static void apply(assay_str *text, step_fn fn) {
    assay_str next = {0};
    fn(&next, assay_str_c(text), text->len);
    next.failed |= text->failed;
    assay_str_free(text);
    *text = next;
}

static assay_status normalize(assay_str *out, const exact_state *st, const char *text, size_t n, assay_err *err) {
    assay_utf8_put_lossy(out, text, n);
    for (size_t i = 0; i < st->n_ignore; i++) {
        assay_str next = {0};
        assay_status s = assay_regex_remove(&next, st->ignore[i], assay_str_c(out), out->len, err);
        assay_str_free(out);
        *out = next;
        if (s != ASSAY_OK) return s;
    }
    if (st->ignore_case) apply(out, assay_text_put_lower);
    if (st->ignore_punctuation) apply(out, put_without_punctuation);
    if (st->collapse_space) apply(out, put_collapsed);
    if (st->strip) apply(out, put_stripped);
    return assay_str_status(out, err);
}

/* A decimal number with an optional currency sign and thousands separators, and nothing else. */
static bool parse_number(double *out, const char *s) {
    char digits[64];
    size_t n = 0;
    const char *p = s + strspn(s, " $");
    for (; *p && n + 1 < sizeof digits; p++)
        if (*p != ',') digits[n++] = *p;
    digits[n] = 0;
    if (*p || !n || strspn(digits, "+-.0123456789eE") != n) return false;
    char *end;
    *out = strtod(digits, &end);
    return end == digits + n && isfinite(*out);
}

static bool same(const exact_state *st, const char *a, const char *b) {
    double x, y;
    if (!strcmp(a, b)) return true;
    return st->numbers && parse_number(&x, a) && parse_number(&y, b) && x == y;
}

/* --- grading --- */

static assay_status exact_check(assay_item *item, const void *state, assay_err *err) {
    (void)state;
    if (item->reference) return assay_fail(err, ASSAY_EINPUT, "key 'answer' must be a string for exact");
    return ASSAY_OK;
}

static assay_status find_answer(assay_str *out, bool *found, const exact_state *st, const assay_item *item, const char *output, assay_err *err) {
    size_t n = strlen(output);
    assay_regex_match m = {.found = true, .group_end = n};
    if (item->extract_re)
        ASSAY_TRY(st->last ? assay_regex_find_last(&m, item->extract_re, output, n, err)
                           : assay_regex_find(&m, item->extract_re, output, n, 0, err));
    *found = m.found;
    return m.found ? normalize(out, st, output + m.group_begin, m.group_end - m.group_begin, err) : ASSAY_OK;
}

static assay_status exact_grade(assay_record *r, const void *state, const assay_item *item, const char *output, assay_err *err) {
    const exact_state *st = state;
    assay_str got = {0}, want = {0};
    bool found = false;
    r->score = 0;
    assay_status s = find_answer(&got, &found, st, item, output, err);
    if (s == ASSAY_OK && !found) {
        r->outcome = ASSAY_OUTCOME_INVALID;
        r->detail = assay_strdup("no match for extract");
        if (!r->detail) s = assay_nomem(err);
    }
    for (size_t i = 0; s == ASSAY_OK && found && i < item->n_answers && r->score == 0; i++) {
        assay_str_free(&want);
        s = normalize(&want, st, item->answers[i], strlen(item->answers[i]), err);
        if (s == ASSAY_OK && same(st, assay_str_c(&got), assay_str_c(&want))) r->score = 1;
    }
    if (s == ASSAY_OK && found) {
        r->answer = assay_strdup(assay_str_c(&got));
        if (!r->answer) s = assay_nomem(err);
    }
    assay_str_free(&got);
    assay_str_free(&want);
    return s;
}

const assay_evaluator assay_evaluator_exact = {
    .name = "exact",
    .version = 1,
    .needs = ASSAY_CAN_GENERATE,
    .binary = true,
    .needs_answer = true,
    .options = options,
    .n_options = ASSAY_LEN(options),
    .open = exact_open,
    .close = exact_close,
    .check = exact_check,
    .grade = exact_grade,
};
