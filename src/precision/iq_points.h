/* precision/iq_points.h: the grids of the IQ types (iq_points.def), what their levels are worth, and
 * signs. Not for other rooms.
 *
 * A grid's vector is put together from a small table of what one byte (or six bits) of levels is worth, so
 * that all grids together take 9 KiB and stay in the first cache. Bytes of a vector are in the order of
 * the weights, lowest address first. */
#ifndef ASSAY_PRECISION_IQ_POINTS_H
#define ASSAY_PRECISION_IQ_POINTS_H

#include <stdint.h>
#include <string.h>

#define P(NAME, dims, bits, count, ...) extern const uint16_t assay_points_##NAME[count];
#include "precision/iq_points.def"
#undef P

extern const uint8_t assay_levels_iq2[256][4];    /* four levels of two bits */
extern const int8_t assay_levels_iq1[256][4];     /* likewise, in eighths: -8, 0, 8 */
extern const uint8_t assay_levels_iq3_xxs[64][2]; /* two levels of three bits */
extern const uint8_t assay_levels_iq3_s[64][2];

extern const int8_t assay_iq4_values[16]; /* IQ4_NL's and IQ4_XS's codes */

/* Seven sign bits and the eighth that makes their number even. */
static inline uint32_t assay_even_signs(uint32_t seven) {
    uint32_t x = seven ^ seven >> 4;
    x ^= x >> 2;
    x ^= x >> 1;
    return seven | (x & 1) << 7;
}

/* The negative of those of eight bytes whose bit is set; the bytes are 1 to 127, so nothing borrows from
 * its neighbour. */
static inline void assay_apply_signs(int8_t *q, uint64_t magnitudes, uint32_t signs) {
    const uint64_t ones = 0x0101010101010101u, low = 0x7f7f7f7f7f7f7f7fu;
    uint64_t bits = ones * (signs & 255) & 0x8040201008040201u; /* byte i keeps bit i */
    uint64_t negative = (((bits & low) + low) | bits) >> 7 & ones;
    uint64_t v = (magnitudes ^ negative * 255) + negative;
    memcpy(q, &v, 8);
}

#endif
