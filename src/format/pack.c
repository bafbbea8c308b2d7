/* pack.c: codes to bit streams and back. Written for machines that store words little-endian, as the files
 * do. */
#include "format/pack.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed words are stored as the machine has them");

size_t assay_packed_words(size_t n, int bits) {
    return (n * (size_t)bits + 31) / 32;
}

void assay_pack(uint32_t *dst, size_t stride, const uint8_t *codes, size_t code_stride, size_t n, int bits) {
    uint64_t pending = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        pending |= (uint64_t)codes[i * code_stride] << have;
        have += bits;
        if (have < 32) continue;
        *dst = (uint32_t)pending;
        dst += stride;
        pending >>= 32;
        have -= 32;
    }
    if (have) *dst = (uint32_t)pending;
}

void assay_unpack(uint8_t *codes, size_t code_stride, const void *src, size_t stride, size_t n, int bits) {
    const unsigned char *p = src;
    uint64_t pending = 0;
    int have = 0;
    uint8_t mask = (uint8_t)((1u << bits) - 1);
    for (size_t i = 0; i < n; i++) {
        if (have < bits) {
            uint32_t word;
            memcpy(&word, p, 4);
            p += 4 * stride;
            pending |= (uint64_t)word << have;
            have += 32;
        }
        codes[i * code_stride] = (uint8_t)pending & mask;
        pending >>= bits;
        have -= bits;
    }
}
