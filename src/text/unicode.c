/* unicode.c: character classes, case and normalization. Classes come from utf8proc's tables; where those lack
 * a property (White_Space, Alphabetic) the few exceptions are listed here. It does no locale-dependent or
 * context-dependent casing (final sigma). Walking and repairing UTF-8 is base/utf8.h's. */
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>
#include "base/mem.h"

static utf8proc_category_t category(int32_t cp) {
    return utf8proc_category(cp);
}

bool assay_char_is_space(int32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    if (cp == 0x85) return true;
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

bool assay_char_is_numeric(int32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool assay_char_is_punct(int32_t cp) {
    if (cp < 0x80)
        return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
               (cp >= '{' && cp <= '~');
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool assay_char_is_mark(int32_t cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

typedef struct range {
    int32_t lo, hi;
} range;

/* Ranges in order. */
static bool is_in(const range *v, size_t n, int32_t cp) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (v[mid].hi < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && cp >= v[lo].lo;
}

static bool is_new(int32_t cp) {
    static const range ranges[] = {
#define NEW(lo, hi) {lo, hi},
#include "text/unicode_new.def"
    };
    return is_in(ranges, ASSAY_LEN(ranges), cp);
}

bool assay_char_is_bert_mark(int32_t cp) {
    static const range not_marks[] = {
#define NOT_MARK(lo, hi) {lo, hi},
#define NOT_OTHER(lo, hi)
#include "text/unicode_bert.def"
#undef NOT_MARK
#undef NOT_OTHER
    };
    if (cp == 0x1734) return true; /* until Unicode 14 */
    return category(cp) == UTF8PROC_CATEGORY_MN && !is_in(not_marks, ASSAY_LEN(not_marks), cp);
}

bool assay_char_is_accent(int32_t cp) {
    bool was = cp == 0x1CF2 || cp == 0x1CF3; /* a mark until Unicode 12 */
    return was || (assay_char_is_mark(cp) && !is_new(cp));
}

bool assay_char_is_bert_other(int32_t cp) {
    static const range not_others[] = {
#define NOT_MARK(lo, hi)
#define NOT_OTHER(lo, hi) {lo, hi},
#include "text/unicode_bert.def"
    };
    utf8proc_category_t c = category(cp);
    return (c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO) &&
           !is_in(not_others, ASSAY_LEN(not_others), cp);
}

size_t assay_grapheme_next(const char *s, size_t n) {
    utf8proc_int32_t state = 0;
    size_t at, len;
    int32_t left = assay_utf8_next(&at, s, n);
    while (at < n) {
        int32_t right = assay_utf8_next(&len, s + at, n - at);
        if (utf8proc_grapheme_break_stateful(left, right, &state)) break;
        at += len;
        left = right;
    }
    return at;
}

bool assay_char_is_alpha(int32_t cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool assay_char_is_word(int32_t cp) {
    utf8proc_category_t c = category(cp);
    if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) return true;
    if (c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME) return true;
    if (c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC) return true;
    if (cp == 0x200C || cp == 0x200D) return true; /* Join_Control */
    /* Other_Alphabetic outside M: circled, parenthesized, squared and negative letters */
    return (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
           (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

bool assay_char_is_upper(int32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_LU;
}
bool assay_char_is_lower(int32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_LL;
}

bool assay_char_is_printable(int32_t cp) {
    if (cp < 0x80) return cp >= 0x20 && cp < 0x7F;
    utf8proc_category_t c = category(cp);
    return !(c == UTF8PROC_CATEGORY_CN || c >= UTF8PROC_CATEGORY_ZS); /* Cn, and Zs Zl Zp Cc Cf Cs Co */
}

/* Capitals of Unicode 16 and 17, which the originals know already. */
static int32_t newest_lower(int32_t cp) {
    static const int32_t pairs[][2] = {{0x1C89, 0x1C8A}, {0xA7CB, 0x0264}, {0xA7CC, 0xA7CD}, {0xA7CE, 0xA7CF},
                                       {0xA7D2, 0xA7D3}, {0xA7D4, 0xA7D5}, {0xA7DA, 0xA7DB}, {0xA7DC, 0x019B}};
    if (cp >= 0x10D50 && cp <= 0x10D65) return cp + 0x20; /* Garay */
    if (cp >= 0x16EA0 && cp <= 0x16EB8) return cp + 0x1B; /* Beria Erfe */
    for (size_t i = 0; i < ASSAY_LEN(pairs); i++)
        if (pairs[i][0] == cp) return pairs[i][1];
    return utf8proc_tolower(cp);
}

void assay_char_put_lower(assay_str *b, int32_t cp) {
    if (cp < 0x80) {
        assay_str_putc(b, (char)(cp >= 'A' && cp <= 'Z' ? cp + 32 : cp));
    } else if (cp == 0x130) { /* the one unconditional multi-character lower case */
        assay_str_put(b, "i\xCC\x87");
    } else {
        assay_utf8_put(b, newest_lower(cp));
    }
}

void assay_char_put_upper(assay_str *b, int32_t cp) {
    static const struct {
        int32_t cp;
        const char *upper;
    } special[] = {{0xDF, "SS"},    {0x149, "\xCA\xBCN"}, {0x1F0, "J\xCC\x8C"}, {0x587, "\xD4\xB5\xD5\x92"},
                   {0xFB00, "FF"},  {0xFB01, "FI"},       {0xFB02, "FL"},       {0xFB03, "FFI"},
                   {0xFB04, "FFL"}, {0xFB05, "ST"},       {0xFB06, "ST"}};
    if (cp < 0x80) {
        assay_str_putc(b, (char)(cp >= 'a' && cp <= 'z' ? cp - 32 : cp));
        return;
    }
    for (size_t i = 0; i < ASSAY_LEN(special); i++) {
        if (special[i].cp == cp) {
            assay_str_put(b, special[i].upper);
            return;
        }
    }
    assay_utf8_put(b, utf8proc_toupper(cp));
}

void assay_char_put_title(assay_str *b, int32_t cp) {
    assay_str upper = {0};
    size_t len;
    assay_char_put_upper(&upper, cp);
    bool many = assay_utf8_count(assay_str_c(&upper), upper.len) > 1;
    if (many && cp == 0x149) { /* an apostrophe, and the letter */
        assay_str_putn(b, upper.s, upper.len);
    } else if (many) {
        int32_t first = assay_utf8_next(&len, upper.s, upper.len);
        assay_utf8_put(b, first);
        assay_text_put_lower(b, upper.s + len, upper.len - len);
    } else {
        assay_utf8_put(b, utf8proc_totitle(cp));
    }
    b->failed = b->failed || upper.failed;
    assay_str_free(&upper);
}

void assay_text_put_lower(assay_str *b, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        assay_char_put_lower(b, assay_utf8_next(&len, s + i, n - i));
}

void assay_text_put_upper(assay_str *b, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        assay_char_put_upper(b, assay_utf8_next(&len, s + i, n - i));
}

/* ---- normalization ---- */

typedef struct points { /* code points; owned */
    int32_t *v;
    size_t n, cap;
} points;

#define MAX_DECOMPOSED 32 /* code points that one becomes; the most is 18 */

static assay_status decompose(points *p, const char *s, size_t n, utf8proc_option_t o, assay_err *err) {
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        /* one more than needed in all: reencode wants a byte for its NUL */
        if (p->cap - p->n <= MAX_DECOMPOSED)
            ASSAY_TRY(assay_grow(&p->v, &p->cap, p->n + MAX_DECOMPOSED + 1, sizeof *p->v, err));
        utf8proc_ssize_t got = utf8proc_decompose_char(cp, p->v + p->n, MAX_DECOMPOSED, o, NULL);
        if (got < 0) return assay_fail(err, ASSAY_EINPUT, "cannot normalize text: %s", utf8proc_errmsg(got));
        p->n += (size_t)ASSAY_MIN(got, MAX_DECOMPOSED);
    }
    return ASSAY_OK;
}

static uint8_t combining_class(int32_t cp) {
    return (uint8_t)utf8proc_get_property(cp)->combining_class;
}

/* Sorts a run of marks by their classes, equal ones as they stood, in linear time; utf8proc's own sort takes the square, and a text may be
 * nothing but marks. */
static assay_status order_run(int32_t *v, size_t n, assay_err *err) {
    size_t at[257] = {0};
    if (n < 2) return ASSAY_OK;
    int32_t *copy = assay_mallocn(n, sizeof *copy);
    if (!copy) return assay_nomem(err);
    memcpy(copy, v, n * sizeof *v);
    for (size_t i = 0; i < n; i++) at[combining_class(copy[i]) + 1]++;
    for (size_t c = 1; c < 257; c++) at[c] += at[c - 1];
    for (size_t i = 0; i < n; i++) v[at[combining_class(copy[i])]++] = copy[i];
    assay_free(copy);
    return ASSAY_OK;
}

static assay_status order(points *p, assay_err *err) {
    for (size_t i = 0, end; i < p->n; i = end + 1) {
        bool sorted = true;
        uint8_t before = 0, class;
        for (end = i; end < p->n && (class = combining_class(p->v[end])) != 0; end++) {
            sorted = sorted && class >= before;
            before = class;
        }
        if (!sorted) ASSAY_TRY(order_run(p->v + i, end - i, err));
    }
    return ASSAY_OK;
}

/* The normalization by utf8proc's tables, which are newer. */
static assay_status normalize_known(assay_str *b, assay_norm_form form, const char *s, size_t n,
                                    assay_err *err) {
    static const int options[] = {
        [ASSAY_NORM_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [ASSAY_NORM_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [ASSAY_NORM_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [ASSAY_NORM_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    size_t i = 0;
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    if (i == n) { /* ASCII is its own normal form in all four */
        assay_str_putn(b, s, n);
        return ASSAY_OK;
    }
    utf8proc_option_t o = (utf8proc_option_t)options[form];
    points p = {0};
    utf8proc_ssize_t got = 0;
    assay_status st = decompose(&p, s, n, o, err);
    if (st == ASSAY_OK) st = order(&p, err);
    if (st == ASSAY_OK && (got = utf8proc_reencode(p.v, (utf8proc_ssize_t)p.n, o)) < 0) /* composes, then encodes in place */
        st = assay_fail(err, ASSAY_EINPUT, "cannot normalize text: %s", utf8proc_errmsg(got));
    if (st == ASSAY_OK) assay_str_putn(b, p.v, (size_t)got);
    assay_free(p.v);
    return st;
}

/* A character that Unicode 9 has not is a starter without a decomposition: the text falls apart there. */
assay_status assay_text_normalize(assay_str *b, assay_norm_form form, const char *s, size_t n,
                                  assay_err *err) {
    size_t from = 0;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = (unsigned char)s[i] < 0x80 ? (len = 1, s[i]) : assay_utf8_next(&len, s + i, n - i);
        if (cp < 0x07FD || !is_new(cp)) continue;
        ASSAY_TRY(normalize_known(b, form, s + from, i - from, err));
        assay_str_putn(b, s + i, len);
        from = i + len;
    }
    return normalize_known(b, form, s + from, n - from, err);
}
