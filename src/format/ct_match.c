/* ct_match.c: which modules a target of compressed-tensors names (utils/match.py): a module's full name, a
 * class ("Linear"), or "re:" and a Python pattern that must match from the name's start (re.match), not
 * necessarily to its end.
 *
 * The pattern is translated to a POSIX extended one and given to the C library: \d \w \s \. and (?:...)
 * are turned into what POSIX has, lazy quantifiers lose their '?', which changes what is captured but not
 * whether there is a match. What has no counterpart (look-around, back references, \b) is refused by name.
 * Of classes only Linear and Embedding are known, told apart by the name of the embedding. */
#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"

enum { MAX_PATTERN = 1000, MAX_COPIES = 200 };

static bool put_escape(assay_str *b, char c, bool in_class) {
    const char *set = c == 'd' ? "0-9" : c == 'w' ? "[:alnum:]_" : c == 's' ? "[:space:]" : NULL;
    if (set) {
        if (!in_class) assay_str_putc(b, '[');
        assay_str_put(b, set);
        if (!in_class) assay_str_putc(b, ']');
        return true;
    }
    if (c == 'Z' && !in_class) {
        assay_str_putc(b, '$');
        return true;
    }
    if (c == 0 || isalnum((unsigned char)c)) return false;
    if (in_class) {
        if (strchr("]^-\\", c)) return false;
        assay_str_putc(b, c);
    } else {
        assay_str_putc(b, '\\');
        assay_str_putc(b, c);
    }
    return true;
}

/* What was put last: a quantifier may not follow a quantifier, except for the '?' of laziness. */
typedef enum piece { ATOM, GROUP, QUANTIFIER, LAZY } piece;

typedef struct translation {
    assay_str *b;
    piece last;
    bool in_class;
    long copies; /* of one part that regcomp may make, which is what makes it slow and large */
} translation;

/* The most copies that "{2,3}" asks for; 0 when it is no such thing. */
static long copies_of(const char *p) {
    char *end;
    if (!isdigit((unsigned char)p[1])) return 0;
    long n = strtol(p + 1, &end, 10);
    if (*end == ',' && isdigit((unsigned char)end[1]))
        n = strtol(end + 1, &end, 10);
    else if (*end == ',')
        n++, end++;
    return *end == '}' && n < MAX_COPIES ? ASSAY_MAX(n, 1) : 0;
}

/* False for what is no quantifier here: a stacked one, or one copy too many. */
static bool put_quantifier(translation *t, const char *p) {
    if (*p == '?' && t->last == QUANTIFIER) {
        t->last = LAZY;
        return true;
    }
    if (t->last == QUANTIFIER || t->last == LAZY) return false;
    t->copies *= *p == '{' ? copies_of(p) : *p == '+' && t->last == GROUP ? 2 : 1;
    t->last = *p == '{' ? ATOM : QUANTIFIER;
    assay_str_putc(t->b, *p);
    return t->copies > 0 && t->copies < MAX_COPIES;
}

/* False when the pattern uses what POSIX lacks. */
static bool translate(assay_str *b, const char *p) {
    translation t = {.b = b, .copies = 1};
    assay_str_put(b, "^(");
    for (; *p; p++) {
        if (*p == '\\') {
            if (!put_escape(b, *++p, t.in_class)) return false;
            t.last = ATOM;
        } else if (!t.in_class && strchr("*+?{", *p)) {
            if (!put_quantifier(&t, p)) return false;
        } else if (!t.in_class && p[0] == '(' && p[1] == '?') {
            if (p[2] != ':') return false;
            assay_str_putc(b, '(');
            p += 2;
            t.last = ATOM;
        } else {
            t.last = t.in_class ? ATOM : *p == ')' ? GROUP : *p == '}' ? QUANTIFIER : ATOM;
            t.in_class = t.in_class ? *p != ']' : *p == '[';
            assay_str_putc(b, *p);
        }
    }
    assay_str_putc(b, ')');
    return true;
}

static assay_status match_pattern(bool *out, const char *pattern, const char *module, assay_err *err) {
    assay_str b = {0};
    regex_t re;
    assay_status s = ASSAY_OK;
    *out = false;
    if (strlen(pattern) > MAX_PATTERN || !translate(&b, pattern) || assay_str_status(&b, NULL) != ASSAY_OK ||
        regcomp(&re, b.s, REG_EXTENDED | REG_NOSUB) != 0) {
        s = assay_fail(err, ASSAY_EUNSUPPORTED,
                       "quantization_config: the pattern 're:%.200s' is more than is understood here",
                       pattern);
    } else {
        *out = regexec(&re, module, 0, NULL, 0) == 0;
        regfree(&re);
    }
    assay_str_free(&b);
    return s;
}

static bool is_embedding(const char *module) {
    const char *last = strrchr(module, '.');
    return strstr(last ? last : module, "embed") != NULL;
}

assay_status assay_ct_match(bool *out, const char *target, const char *module, assay_err *err) {
    if (strncmp(target, "re:", 3) == 0) return match_pattern(out, target + 3, module, err);
    *out = strcmp(target, module) == 0 || strcmp(target, is_embedding(module) ? "Embedding" : "Linear") == 0;
    return ASSAY_OK;
}
