/* utf8.c: UTF-8 walking and repair.
 *
 * Walking (next, prev) trusts its input; read does not. Repair follows the "maximal subpart" practice
 * (Unicode 15, section 3.9), which is what Rust's from_utf8_lossy and Python's errors="replace" do. */
#include "base/utf8.h"

#include <string.h>

int32_t assay_utf8_next(size_t *len, const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80 || n < 2) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xE0 || n < 3) {
        *len = 2;
        return (p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (p[0] < 0xF0 || n < 4) {
        *len = 3;
        return (p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    }
    *len = 4;
    return (p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

int32_t assay_utf8_prev(size_t *len, const char *s, size_t at) {
    size_t i = at - 1;
    while (i > 0 && at - i < 4 && ((unsigned char)s[i] & 0xC0) == 0x80)
        i--;
    size_t unused;
    *len = at - i;
    return assay_utf8_next(&unused, s + i, at - i);
}

void assay_utf8_put(assay_str *b, int32_t cp) {
    char c[4];
    size_t n;
    if (cp < 0x80) {
        c[0] = (char)cp;
        n = 1;
    } else if (cp < 0x800) {
        c[0] = (char)(0xC0 | cp >> 6);
        c[1] = (char)(0x80 | (cp & 0x3F));
        n = 2;
    } else if (cp < 0x10000) {
        c[0] = (char)(0xE0 | cp >> 12);
        c[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        c[2] = (char)(0x80 | (cp & 0x3F));
        n = 3;
    } else {
        c[0] = (char)(0xF0 | cp >> 18);
        c[1] = (char)(0x80 | (cp >> 12 & 0x3F));
        c[2] = (char)(0x80 | (cp >> 6 & 0x3F));
        c[3] = (char)(0x80 | (cp & 0x3F));
        n = 4;
    }
    assay_str_putn(b, c, n);
}

size_t assay_utf8_count(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

size_t assay_utf8_offset(const char *s, size_t n, size_t index) {
    size_t i = 0;
    while (i < n) {
        if (((unsigned char)s[i] & 0xC0) != 0x80 && index-- == 0) return i;
        i++;
    }
    return n;
}

/* One sequence at p: its length when well formed (0 when not); then *bad is the maximal subpart and *cut its
 * hope. */
static size_t sequence(size_t *bad, bool *cut, const unsigned char *p, size_t n) {
    unsigned char lo = 0x80, hi = 0xBF;
    size_t need;
    *bad = 0;
    *cut = false;
    if (p[0] < 0x80) return 1;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        need = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        need = 3;
        if (p[0] == 0xE0) lo = 0xA0; /* overlong */
        if (p[0] == 0xED) hi = 0x9F; /* surrogates */
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        need = 4;
        if (p[0] == 0xF0) lo = 0x90;
        if (p[0] == 0xF4) hi = 0x8F; /* above U+10FFFF */
    } else {
        *bad = 1;
        return 0;
    }
    size_t i = 1;
    for (; i < need && i < n; i++) {
        if (p[i] < lo || p[i] > hi) break;
        lo = 0x80;
        hi = 0xBF;
    }
    if (i == need) return need;
    *bad = i;
    *cut = i == n;
    return 0;
}

size_t assay_utf8_valid(size_t *bad, bool *cut, const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;
    *bad = 0;
    *cut = false;
    while (i < n) {
        while (i + 8 <= n) { /* eight ASCII bytes at a time */
            uint64_t w;
            memcpy(&w, p + i, 8);
            if (w & 0x8080808080808080u) break;
            i += 8;
        }
        if (i == n) break;
        size_t len = sequence(bad, cut, p + i, n - i);
        if (!len) return i;
        i += len;
    }
    return i;
}

void assay_utf8_put_lossy(assay_str *b, const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t bad;
        bool cut;
        size_t good = assay_utf8_valid(&bad, &cut, s + i, n - i);
        assay_str_putn(b, s + i, good);
        if (bad) assay_utf8_put(b, 0xFFFD);
        i += good + bad;
    }
}

size_t assay_utf8_read(uint32_t *cp, const char *s, size_t n) {
    size_t bad, len;
    bool cut;
    *cp = 0xFFFD;
    if (!sequence(&bad, &cut, (const unsigned char *)s, n)) return bad;
    *cp = (uint32_t)assay_utf8_next(&len, s, n);
    return len;
}
