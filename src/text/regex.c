/* regex.c: a narrow, bounded front of PCRE2. Does not use the JIT: patterns here run on short answers and names, where compiling
 * costs more than it saves, and the interpreter's step limit is what makes the bound exact. */
#include "text/regex.h"

#include <stdint.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/mem.h"

#define MAX_PATTERN 4096
#define MAX_STEPS 10000000u
#define MAX_DEPTH 100000u
#define MAX_HEAP_KIB 65536u

struct assay_regex {
    pcre2_code *code;
    pcre2_match_context *limits;
    uint32_t n_groups;
    char *pattern;  /* for messages */
};

assay_status assay_regex_new(assay_regex **out, const char *pattern, size_t n, assay_err *err) {
    *out = NULL;
    if (n > MAX_PATTERN) return assay_fail(err, ASSAY_EINPUT, "a pattern of %zu bytes, at most %d are accepted", n, MAX_PATTERN);
    assay_regex *re = assay_calloc(1, sizeof *re);
    if (!re) return assay_nomem(err);
    int code;
    PCRE2_SIZE at;
    re->pattern = assay_strndup(pattern, n);
    re->limits = pcre2_match_context_create(NULL);
    if (!re->pattern || !re->limits) {
        assay_regex_free(re);
        return assay_nomem(err);
    }
    pcre2_set_match_limit(re->limits, MAX_STEPS);
    pcre2_set_depth_limit(re->limits, MAX_DEPTH);
    pcre2_set_heap_limit(re->limits, MAX_HEAP_KIB);
    re->code = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &at,
                             NULL);
    if (!re->code) {
        char text[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        assay_status s = assay_fail(err, ASSAY_EINPUT, "bad pattern '%.200s' at offset %zu: %s", re->pattern, (size_t)at, text);
        assay_regex_free(re);
        return s;
    }
    pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->n_groups);
    *out = re;
    return ASSAY_OK;
}

void assay_regex_free(assay_regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    pcre2_match_context_free(re->limits);
    assay_free(re->pattern);
    assay_free(re);
}

/* The group that stands for the match: see assay_regex_match. \K in a lookahead can put a start after its end: then it is empty. */
static void pick_group(assay_regex_match *m, const PCRE2_SIZE *v, uint32_t n_groups) {
    m->begin = v[0];
    m->end = v[1] > v[0] ? v[1] : v[0];
    m->group_begin = m->begin;
    m->group_end = m->end;
    bool have = false;
    for (uint32_t g = 1; g <= n_groups; g++) {
        if (v[2 * g] == PCRE2_UNSET || v[2 * g + 1] < v[2 * g]) continue;
        bool empty = v[2 * g] == v[2 * g + 1];
        if (have && empty) continue;
        m->group_begin = v[2 * g];
        m->group_end = v[2 * g + 1];
        have = true;
        if (!empty) return;
    }
}

static assay_status match_at(assay_regex_match *m, const assay_regex *re, pcre2_match_data *md, const char *text, size_t n, size_t start,
                             uint32_t flags, assay_err *err) {
    *m = (assay_regex_match){0};
    if (start > n) return ASSAY_OK;
    int rc = pcre2_match(re->code, (PCRE2_SPTR)(text ? text : ""), n, start, flags, md, re->limits);
    if (rc == PCRE2_ERROR_NOMATCH) return ASSAY_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return assay_nomem(err);
    if (rc < 0) {
        char why[160] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return assay_fail(err, ASSAY_EINPUT, "pattern '%.200s' cannot be searched for here: %s", re->pattern, why);
    }
    m->found = true;
    pick_group(m, pcre2_get_ovector_pointer(md), re->n_groups);
    return ASSAY_OK;
}

/* The match after m. An empty match is followed by one that is not empty at the same place, or else by one further on. */
static assay_status match_next(assay_regex_match *m, const assay_regex *re, pcre2_match_data *md, const char *text, size_t n, assay_err *err) {
    size_t at = m->end;
    if (m->end == m->begin) {
        ASSAY_TRY(match_at(m, re, md, text, n, at, PCRE2_NOTEMPTY_ATSTART | PCRE2_ANCHORED, err));
        if (m->found) return ASSAY_OK;
        at++;
        while (at < n && ((unsigned char)text[at] & 0xc0) == 0x80) at++;
    }
    ASSAY_TRY(match_at(m, re, md, text, n, at, 0, err));
    if (m->found && m->begin < at) m->found = false; /* never go back, whatever a pattern says */
    return ASSAY_OK;
}

assay_status assay_regex_find(assay_regex_match *out, const assay_regex *re, const char *text, size_t n, size_t start, assay_err *err) {
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(re->code, NULL);
    if (!md) return assay_nomem(err);
    assay_status s = match_at(out, re, md, text, n, start, 0, err);
    pcre2_match_data_free(md);
    return s;
}

assay_status assay_regex_search(bool *hit, const assay_regex *re, const char *text, size_t n, assay_err *err) {
    assay_regex_match m;
    *hit = false;
    ASSAY_TRY(assay_regex_find(&m, re, text, n, 0, err));
    *hit = m.found;
    return ASSAY_OK;
}

assay_status assay_regex_find_last(assay_regex_match *out, const assay_regex *re, const char *text, size_t n, assay_err *err) {
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(re->code, NULL);
    if (!md) return assay_nomem(err);
    assay_regex_match m;
    *out = (assay_regex_match){0};
    assay_status s = match_at(&m, re, md, text, n, 0, 0, err);
    while (s == ASSAY_OK && m.found) {
        *out = m;
        s = match_next(&m, re, md, text, n, err);
    }
    pcre2_match_data_free(md);
    return s;
}

assay_status assay_regex_remove(assay_str *out, const assay_regex *re, const char *text, size_t n, assay_err *err) {
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(re->code, NULL);
    if (!md) return assay_nomem(err);
    assay_regex_match m;
    size_t kept = 0;
    assay_status s = match_at(&m, re, md, text, n, 0, 0, err);
    while (s == ASSAY_OK && m.found) {
        if (m.begin >= kept) assay_str_putn(out, text + kept, m.begin - kept);
        kept = ASSAY_MAX(kept, m.end);
        s = match_next(&m, re, md, text, n, err);
    }
    assay_str_putn(out, text + kept, n - kept);
    pcre2_match_data_free(md);
    return s == ASSAY_OK ? assay_str_status(out, err) : s;
}
