/* base64.c: see base64.h. Bits that padding should leave at zero are not looked at. */
#include "text/base64.h"

#include <stdint.h>

static int digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

void assay_base64_put(assay_str *out, const void *data, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=', i + 2 < n ? digits[v & 63] : '='};
        assay_str_putn(out, four, 4);
    }
}

bool assay_base64_decode(unsigned char *out, size_t *n_out, const char *s, size_t n) {
    uint32_t bits = 0;
    size_t len = 0, all = n;
    while (n && all - n < 2 && s[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        int d = digit(s[i]);
        if (d < 0) {
            *n_out = i;
            return false;
        }
        bits = bits << 6 | (uint32_t)d;
        if (i % 4) out[len++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    *n_out = n % 4 == 1 ? all : len;
    return n % 4 != 1;
}
