/* pattern_onig.c: rewrites an Oniguruma expression (the syntax of tokenizer.json) as a PCRE2 one with the
 * same meaning.
 *
 * What differs, and what becomes of it (both engines in Unicode mode):
 *   \s \S           White_Space; PCRE2 adds U+180E      -> \p{WSpace} \P{WSpace}
 *   \w \W \b \B     Alphabetic, M, Nd, Pc, and 6 of     -> a class, or lookarounds on it
 *                   Latin-1's numbers; PCRE2: L N _
 *   \h \H           hexadecimal digit; PCRE2: blank     -> a class
 *   \p{Han}         script; PCRE2: script extensions    -> \p{sc:Han}
 *   \p{Letter} ...  long and POSIX names                -> short names and classes (table below)
 *   [[:alpha:]]     Unicode properties                  -> the same table, but [:punct:] is P and S
 *   x{1,3}+         greedy repetition of a repetition   -> (?:x{1,3})+
 *   (?m)            dot matches newline                 -> (?s)
 *   [a&&b]          intersection                        -> (?:(?=[a])[b])
 *   [a[bc]]         union                               -> [abc]
 * The rest is passed through. Negated classes within classes, conditionals, absent groups, subexpression
 * calls and backreferences by level are refused by name, because nothing equal exists. */
#include <ctype.h>
#include <string.h>
#include "base/mem.h"
#include "text/pattern.h"

#define POSIX_WORD  "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD        POSIX_WORD "\\xb2\\xb3\\xb9\\xbc-\\xbe" /* so says its table for \w, outside of classes */
#define MAX_GROUPS  200
#define MAX_PATTERN 16384 /* bytes; the longest real one has about 600 */

typedef struct reader {
    const char *re;
    size_t n, i;
    assay_str *out;
    size_t atom;             /* where in out the last atom begins; SIZE_MAX when a quantifier cannot follow */
    size_t open[MAX_GROUPS]; /* where in out each open group begins */
    size_t n_open;
    assay_err *err;
} reader;

static assay_status unsupported(reader *r, const char *what) {
    return assay_fail(r->err, ASSAY_EUNSUPPORTED, "pattern '%.120s': %s is not supported", r->re, what);
}

/* Oniguruma's property names that PCRE2 spells differently; compared without case, spaces, '-' and '_'. */
static const struct {
    const char *name, *inside; /* what stands inside a class */
} properties[] = {
    {"letter", "\\p{L}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"mark", "\\p{M}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"punct", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"openpunctuation", "\\p{Ps}"},
    {"closepunctuation", "\\p{Pe}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"otherpunctuation", "\\p{Po}"},
    {"symbol", "\\p{S}"},
    {"mathsymbol", "\\p{Sm}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"spaceseparator", "\\p{Zs}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"other", "\\p{C}"},
    {"control", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"alpha", "\\p{Alphabetic}"},
    {"alphabetic", "\\p{Alphabetic}"},
    {"digit", "\\p{Nd}"},
    {"lower", "\\p{Lowercase}"},
    {"lowercase", "\\p{Lowercase}"},
    {"upper", "\\p{Uppercase}"},
    {"uppercase", "\\p{Uppercase}"},
    {"space", "\\p{WSpace}"},
    {"whitespace", "\\p{WSpace}"},
    {"word", WORD},
    {"ascii", "\\x00-\\x7f"},
    {"any", "\\x00-\\x{10ffff}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"xdigit", "0-9A-Fa-f"},
    {"emoji", "\\p{Emoji}"},
    {"cntrl", "\\p{Cc}"},
    {"blank", "\\p{Zs}\\t"},
};

static const char *property_inside(const char *name) {
    for (size_t p = 0; p < ASSAY_LEN(properties); p++)
        if (strcmp(properties[p].name, name) == 0) return properties[p].inside;
    return NULL;
}

/* Writes a property, given by what stands for it inside a class. */
static assay_status put_property(reader *r, const char *inside, bool negated, bool in_class) {
    bool one = inside[0] == '\\' && inside[1] == 'p' && strchr(inside, '}')[1] == '\0';
    if (one)
        assay_str_printf(r->out, "\\%c%s", negated ? 'P' : 'p', inside + 2);
    else if (!in_class)
        assay_str_printf(r->out, "[%s%s]", negated ? "^" : "", inside);
    else if (!negated)
        assay_str_put(r->out, inside);
    else
        return unsupported(r, "a negated compound property inside a class");
    return ASSAY_OK;
}

/* [:NAME:] inside a class; r->i is on the first colon. */
static assay_status posix_class(reader *r) {
    const char *begin = r->re + r->i + 1, *end = memmem(begin, r->n - r->i - 1, ":]", 2);
    char name[16];
    bool negated = begin < r->re + r->n && *begin == '^';
    if (negated) begin++;
    if (!end || end <= begin || (size_t)(end - begin) >= sizeof name)
        return unsupported(r, "a class inside a class");
    memcpy(name, begin, (size_t)(end - begin));
    name[end - begin] = '\0';
    const char *inside = strcmp(name, "punct") == 0  ? "\\p{P}\\p{S}"
                         : strcmp(name, "word") == 0 ? POSIX_WORD
                                                     : property_inside(name);
    if (!inside) return unsupported(r, "a POSIX class of that name");
    r->i = (size_t)(end - r->re) + 2;
    return put_property(r, inside, negated, true);
}

/* \p{NAME} at r->i (just after "\p" or "\P"). */
static assay_status property(reader *r, bool negated, bool in_class) {
    if (r->i >= r->n || r->re[r->i] != '{') return unsupported(r, "\\p without braces");
    char name[48];
    size_t k = 0, i = r->i + 1;
    if (i < r->n && r->re[i] == '^') {
        negated = !negated;
        i++;
    }
    size_t begin = i;
    for (; i < r->n && r->re[i] != '}'; i++) {
        char c = r->re[i];
        if (c == ' ' || c == '-' || c == '_') continue;
        if (!isalnum((unsigned char)c) && c != '=' && c != '&')
            return unsupported(r, "a property with such a name");
        if (k + 1 >= sizeof name) return unsupported(r, "a property with such a name");
        name[k++] = (char)tolower((unsigned char)c);
    }
    if (i >= r->n || k == 0) return unsupported(r, "an unfinished property");
    name[k] = '\0';
    r->i = i + 1;
    const char *inside = property_inside(name);
    if (inside) return put_property(r, inside, negated, in_class);
    /* One or two letters are a general category; anything else is the name of a script. */
    assay_str_printf(r->out, "\\%c{%s%.*s}", negated ? 'P' : 'p', k <= 2 ? "" : "sc:", (int)(i - begin),
                     r->re + begin);
    return ASSAY_OK;
}

/* The escape after a backslash at r->i - 1; r->i is on the letter. */
static assay_status escape(reader *r, bool in_class) {
    if (r->i >= r->n) return assay_fail(r->err, ASSAY_EINPUT, "pattern '%.120s' ends in a backslash", r->re);
    char c = r->re[r->i++];
    static const struct {
        char c;
        const char *outside, *inside; /* NULL: refused there */
    } table[] = {
        {'s', "\\p{WSpace}", "\\p{WSpace}"},
        {'S', "\\P{WSpace}", "\\P{WSpace}"},
        {'w', "[" WORD "]", POSIX_WORD},
        {'W', "[^" WORD "]", NULL},
        {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"},
        {'H', "[^0-9A-Fa-f]", NULL},
        {'b', "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))", "\\x08"},
        {'B', "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))", NULL},
    };
    for (size_t k = 0; k < ASSAY_LEN(table); k++) {
        if (table[k].c != c) continue;
        const char *to = in_class ? table[k].inside : table[k].outside;
        char what[32] = {'\\', c, ' ', 'i', 'n', ' ', 'a', ' ', 'c', 'l', 'a', 's', 's', 0};
        if (!to) return unsupported(r, what);
        assay_str_put(r->out, to);
        return ASSAY_OK;
    }
    if (c == 'p' || c == 'P') return property(r, c == 'P', in_class);
    if (c == 'g' || c == 'k' || c == 'y' || c == 'Y' || c == 'M' || c == 'C' || c == 'c') {
        char what[3] = {'\\', c, 0};
        return unsupported(r, what);
    }
    if (c == 'u') { /* \uHHHH */
        if (r->n - r->i < 4)
            return assay_fail(r->err, ASSAY_EINPUT, "pattern '%.120s': \\u wants four digits", r->re);
        assay_str_printf(r->out, "\\x{%.4s}", r->re + r->i);
        r->i += 4;
        return ASSAY_OK;
    }
    assay_str_putc(r->out, '\\');
    assay_str_putc(r->out, c);
    return ASSAY_OK;
}

/* A class from r->i, just after '['. Its intersections become lookaheads. */
static assay_status class(reader *r) {
    size_t begin = r->out->len;
    bool negated = r->i < r->n && r->re[r->i] == '^';
    if (negated) r->i++;
    assay_str_put(r->out, negated ? "[^" : "[");
    bool first = true;
    int inside = 0; /* open classes within this one */
    for (;; first = false) {
        if (r->i >= r->n)
            return assay_fail(r->err, ASSAY_EINPUT, "pattern '%.120s': a class is not closed", r->re);
        char c = r->re[r->i++];
        if (c == ']' && !first && inside-- == 0) break;
        if (c == ']' && !first) continue;
        if (c == '\\') {
            ASSAY_TRY(escape(r, true));
        } else if (c == '[' && r->i < r->n && r->re[r->i] == ':') {
            ASSAY_TRY(posix_class(r));
        } else if (c == '[') { /* a union: what it holds may as well stand here */
            if (r->i < r->n && (r->re[r->i] == '^' || r->re[r->i] == ']'))
                return unsupported(r, "such a class inside a class");
            inside++;
        } else if (c == '&' && r->i < r->n && r->re[r->i] == '&') {
            if (inside) return unsupported(r, "an intersection inside a class inside a class");
            if (negated) return unsupported(r, "an intersection in a negated class");
            r->i++;
            bool inner = r->i < r->n && r->re[r->i] == '[';
            if (inner) r->i++;
            if (r->out->failed) return assay_nomem(r->err);
            char *left = assay_strndup(r->out->s + begin, r->out->len - begin);
            if (!left) return assay_nomem(r->err);
            r->out->len = begin;
            assay_str_printf(r->out, "(?:(?=%s])", left);
            assay_free(left);
            ASSAY_TRY(class(r)); /* the right side, down to its own ']' */
            assay_str_putc(r->out, ')');
            if (inner && (r->i >= r->n || r->re[r->i++] != ']'))
                return unsupported(r, "more than one intersection");
            return ASSAY_OK;
        } else {
            assay_str_putc(r->out, c);
        }
    }
    assay_str_putc(r->out, ']');
    return ASSAY_OK;
}

/* What follows "(" at r->i: the group's kind. */
static assay_status group(reader *r) {
    if (r->n_open == MAX_GROUPS) return unsupported(r, "so deep a nesting of groups");
    r->open[r->n_open++] = r->out->len;
    assay_str_putc(r->out, '(');
    r->atom = SIZE_MAX;
    if (r->i >= r->n || r->re[r->i] != '?') return ASSAY_OK;
    assay_str_putc(r->out, '?');
    r->i++;
    if (r->i < r->n && (r->re[r->i] == '~' || r->re[r->i] == '(' || r->re[r->i] == '{'))
        return unsupported(r, "an absent, conditional or callout group");
    if (r->i < r->n && strchr("<=!>:P#", r->re[r->i])) {
        if (r->re[r->i] == '#') return unsupported(r, "a comment group");
        return ASSAY_OK; /* lookaround, atomic, named, plain: the same in both */
    }
    for (; r->i < r->n && r->re[r->i] != ':' && r->re[r->i] != ')'; r->i++) {
        char c = r->re[r->i];
        if (c != 'i' && c != 'm' && c != 'x' && c != '-') return unsupported(r, "a group with such options");
        assay_str_putc(r->out, c == 'm' ? 's' : c);
    }
    return ASSAY_OK;
}

/* A quantifier in braces at r->i (after '{'); false when these braces are literal. */
static bool interval(reader *r, size_t *end) {
    size_t i = r->i;
    bool digits = false;
    while (i < r->n && (isdigit((unsigned char)r->re[i]) || r->re[i] == ','))
        digits |= r->re[i++] != ',';
    *end = i + 1;
    return digits && i < r->n && r->re[i] == '}';
}

static assay_status braces(reader *r) {
    size_t end;
    if (!interval(r, &end)) {
        r->atom = r->out->len;
        assay_str_put(r->out, "\\{");
        return ASSAY_OK;
    }
    bool from_zero = r->re[r->i] == ',';
    assay_str_put(r->out, from_zero ? "{0" : "{"); /* {,n} is {0,n} */
    assay_str_putn(r->out, r->re + r->i, end - r->i);
    bool exact = !memchr(r->re + r->i, ',', end - r->i);
    r->i = end;
    if (r->atom == SIZE_MAX)
        return assay_fail(r->err, ASSAY_EINPUT, "pattern '%.120s': a repetition of nothing", r->re);
    bool plus = r->i < r->n && r->re[r->i] == '+';
    bool again = r->i < r->n && (r->re[r->i] == '*' || (exact && r->re[r->i] == '?'));
    if (plus || again) { /* a repetition of the repetition, not a possessive or lazy one */
        if (r->out->failed) return assay_nomem(r->err);
        char *x = assay_strndup(r->out->s + r->atom, r->out->len - r->atom);
        if (!x) return assay_nomem(r->err);
        r->out->len = r->atom;
        assay_str_printf(r->out, "(?:%s)", x);
        assay_free(x);
    }
    return ASSAY_OK;
}

assay_status assay_pattern_translate(assay_str *out, const char *re, size_t n, assay_err *err) {
    reader r = {.re = re, .n = n, .out = out, .atom = SIZE_MAX, .err = err};
    if (n > MAX_PATTERN) return unsupported(&r, "a pattern of that length");
    while (r.i < n) {
        char c = re[r.i++];
        size_t here = out->len;
        if (out->failed) return assay_nomem(err);
        switch (c) {
        case '\\':
            ASSAY_TRY(escape(&r, false));
            r.atom = here;
            break;
        case '[':
            ASSAY_TRY(class(&r));
            r.atom = here;
            break;
        case '(':
            ASSAY_TRY(group(&r));
            break;
        case ')':
            if (r.n_open == 0) return assay_fail(err, ASSAY_EINPUT, "pattern '%.120s': ')' without '('", re);
            r.atom = r.open[--r.n_open];
            assay_str_putc(out, c);
            break;
        case '{':
            ASSAY_TRY(braces(&r));
            break;
        case '|':
            r.atom = SIZE_MAX;
            assay_str_putc(out, c);
            break;
        case '*':
        case '+':
        case '?':
            assay_str_putc(out, c);
            break;
        default:
            r.atom = here;
            assay_str_putc(out, c);
            /* keep a multi-byte character together as one atom */
            while (r.i < n && ((unsigned char)re[r.i] & 0xC0) == 0x80)
                assay_str_putc(out, re[r.i++]);
        }
    }
    return ASSAY_OK;
}
