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
#include <string.h>

#include "format/convention.h"

enum { MAX_PATTERN = 1000, MAX_BRACES = 4 };

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

/* False when the pattern uses what POSIX lacks. */
static bool translate(assay_str *b, const char *p) {
    bool in_class = false;
    int braces = 0;
    assay_str_put(b, "^(");
    for (; *p; p++) {
        if (*p == '\\') {
            if (!put_escape(b, *++p, in_class)) return false;
        } else if (in_class) {
            in_class = *p != ']';
            assay_str_putc(b, *p);
        } else if (*p == '[') {
            in_class = true;
            assay_str_putc(b, *p);
        } else if (p[0] == '(' && p[1] == '?') {
            if (p[2] != ':') return false;
            assay_str_putc(b, '(');
            p += 2;
        } else if (*p == '?' && b->len > 2 && strchr("*+?}", b->s[b->len - 1]) && p[-1] != '\\' &&
                   (b->len < 2 || b->s[b->len - 2] != '\\')) {
            continue; /* laziness */
        } else if (*p == '{') {
            if (++braces > MAX_BRACES || strspn(p + 1, "0123456789") > 2)
                return false; /* repetition is what makes regcomp slow */
            assay_str_putc(b, *p);
        } else {
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
