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

bool assay_char_is_nonspacing(int32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_MN;
}

static bool is_new(int32_t cp) {
    static const struct {
        int32_t lo, hi;
    } ranges[] = {
#define NEW(lo, hi) {lo, hi},
#include "text/unicode_new.def"
    };
    size_t lo = 0, hi = ASSAY_LEN(ranges);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ranges[mid].hi < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < ASSAY_LEN(ranges) && cp >= ranges[lo].lo;
}

bool assay_char_is_accent(int32_t cp) {
    bool was = cp == 0x1CF2 || cp == 0x1CF3; /* a mark until Unicode 12 */
    return was || (assay_char_is_mark(cp) && !is_new(cp));
}

bool assay_char_is_other(int32_t cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO;
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

void assay_char_put_lower(assay_str *b, int32_t cp) {
    if (cp < 0x80) {
        assay_str_putc(b, (char)(cp >= 'A' && cp <= 'Z' ? cp + 32 : cp));
    } else if (cp == 0x130) { /* the one unconditional multi-character lower case */
        assay_str_put(b, "i\xCC\x87");
    } else {
        assay_utf8_put(b, utf8proc_tolower(cp));
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

void assay_text_put_lower(assay_str *b, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        assay_char_put_lower(b, assay_utf8_next(&len, s + i, n - i));
}

void assay_text_put_upper(assay_str *b, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        assay_char_put_upper(b, assay_utf8_next(&len, s + i, n - i));
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
    /* The two-step interface, so that the memory is ours: decompose to code points, then compose and encode
     * in place. */
    utf8proc_option_t o = (utf8proc_option_t)options[form];
    utf8proc_ssize_t want = utf8proc_decompose((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, NULL, 0, o);
    if (want < 0) return assay_fail(err, ASSAY_EINPUT, "cannot normalize text: %s", utf8proc_errmsg(want));
    utf8proc_int32_t *buf =
        assay_mallocn((size_t)want + 1, sizeof *buf); /* reencode wants one byte more for its NUL */
    if (!buf) return assay_nomem(err);
    utf8proc_ssize_t got = utf8proc_decompose((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, buf, want, o);
    if (got >= 0) got = utf8proc_reencode(buf, got, o);
    if (got >= 0) assay_str_putn(b, buf, (size_t)got);
    assay_free(buf);
    if (got < 0) return assay_fail(err, ASSAY_EINPUT, "cannot normalize text: %s", utf8proc_errmsg(got));
    return ASSAY_OK;
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
