/* num/narrow.h: the scalar conversions of convert.h as inline functions, for loops that shall vectorize.
 * Other code uses convert.h.
 *
 * The idea: every narrow format is a binary32 with a shorter exponent and fraction. Normal numbers are re-
 * biased by an integer addition that also rounds (add half an ulp minus one, plus the bit that decides
 * ties); subnormals are rounded by the adder itself, by adding the power of two whose ulp equals the
 * narrow format's smallest step. No path needs F16C or a table of 65,536 entries, none depends on the
 * denormal mode of the CPU, and all are free of branches that data decides, so that loops over them
 * vectorize with plain SSE2 or NEON.
 *
 *            sign exponent fraction  bias   largest
 *   f16        1     5       10       15     65504       infinities, NaN
 *   e4m3       1     4        3        7       448       no infinity, NaN = S.1111.111
 *   e5m2       1     5        2       15     57344       infinities, NaN
 *   e2m1       1     2        1        1         6       neither
 *   e8m0       0     8        0      127     2^127       no zero, no sign, NaN = 255 */
#ifndef ASSAY_NUM_NARROW_H
#define ASSAY_NUM_NARROW_H

#include <stdint.h>
#include <string.h>

static inline uint32_t assay_float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float assay_float_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* yes or no, without a branch: gcc would turn a conditional expression into one and then not vectorize the
 * loop. */
static inline uint32_t assay_pick(uint32_t condition, uint32_t yes, uint32_t no) {
    uint32_t mask = 0u - condition;
    return (yes & mask) | (no & ~mask);
}

static inline float assay_widen_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t em = (uint32_t)(h & 0x7fffu) << 13; /* exponent and fraction at binary32's places */
    uint32_t normal = em + ((127u - 15u) << 23);
    uint32_t special = em + ((255u - 31u) << 23); /* infinity and NaN keep their fraction */
    uint32_t subnormal =
        assay_float_bits(assay_float_of_bits(em | (113u << 23)) - assay_float_of_bits(113u << 23));
    uint32_t r = assay_pick(em >= (31u << 23), special, normal);
    r = assay_pick(em < (1u << 23), subnormal, r);
    return assay_float_of_bits(r | sign);
}

static inline uint16_t assay_narrow_f16(float f) {
    uint32_t b = assay_float_bits(f), sign = (b >> 16) & 0x8000u, u = b & 0x7fffffffu;
    /* rounds up into infinity as it should */
    uint32_t normal = (u + ((15u - 127u) << 23) + 0xfffu + ((u >> 13) & 1u)) >> 13;
    uint32_t tiny = assay_pick(u < 0x38800000u, u, 0); /* below 2^-14: steps of 2^-24 */
    uint32_t subnormal = assay_float_bits(assay_float_of_bits(tiny) + 0.5f) - 0x3f000000u;
    uint32_t nan = 0x7e00u | ((u >> 13) & 0x1ffu);
    uint32_t r = assay_pick(u < 0x38800000u, subnormal, normal);
    r = assay_pick(u >= 0x47800000u, 0x7c00u, r);
    r = assay_pick(u > 0x7f800000u, nan, r);
    return (uint16_t)(r | sign);
}

static inline float assay_widen_e4m3(uint8_t v) {
    uint32_t sign = (uint32_t)(v & 0x80u) << 24;
    uint32_t em = (uint32_t)(v & 0x7fu) << 20;
    uint32_t normal = em + ((127u - 7u) << 23);
    uint32_t subnormal =
        assay_float_bits(assay_float_of_bits(em | (121u << 23)) - assay_float_of_bits(121u << 23));
    uint32_t r = assay_pick(em < (1u << 23), subnormal, normal);
    r = assay_pick((v & 0x7fu) == 0x7fu, 0x7fc00000u, r);
    return assay_float_of_bits(r | sign);
}

static inline uint8_t assay_narrow_e4m3(float f) {
    uint32_t b = assay_float_bits(f), sign = (b >> 24) & 0x80u, u = b & 0x7fffffffu;
    uint32_t normal = (u + ((7u - 127u) << 23) + 0x7ffffu + ((u >> 20) & 1u)) >> 20;
    uint32_t tiny = assay_pick(u < 0x3c800000u, u, 0); /* below 2^-6: steps of 2^-9 */
    uint32_t subnormal = assay_float_bits(assay_float_of_bits(tiny) + 16384.0f) - assay_float_bits(16384.0f);
    uint32_t r = assay_pick(u < 0x3c800000u, subnormal, normal);
    r = assay_pick(u >= 0x43e00000u, 0x7eu, r); /* 448 and above saturate */
    r = assay_pick(u >= 0x7f800000u, 0x7fu, r); /* infinity has no place here: NaN */
    return (uint8_t)(r | sign);
}

static inline uint8_t assay_narrow_e5m2(float f) {
    uint32_t b = assay_float_bits(f), sign = (b >> 24) & 0x80u, u = b & 0x7fffffffu;
    uint32_t normal = (u + ((15u - 127u) << 23) + 0xfffffu + ((u >> 21) & 1u)) >> 21;
    uint32_t tiny = assay_pick(u < 0x38800000u, u, 0); /* below 2^-14: steps of 2^-16 */
    uint32_t subnormal = assay_float_bits(assay_float_of_bits(tiny) + 128.0f) - assay_float_bits(128.0f);
    uint32_t r = assay_pick(u < 0x38800000u, subnormal, normal);
    r = assay_pick(u >= 0x47600000u, 0x7bu, r); /* 57344 and above saturate */
    r = assay_pick(u == 0x7f800000u, 0x7cu, r);
    r = assay_pick(u > 0x7f800000u, 0x7eu, r);
    return (uint8_t)(r | sign);
}

/* e5m2 is the upper half of an f16. */
static inline float assay_widen_e5m2(uint8_t v) {
    return assay_widen_f16((uint16_t)(v << 8));
}

/* The sign is that of a negative number that rounds to zero too; -0 itself has none (compressed-tensors'
 * sign()). */
static inline uint8_t assay_narrow_e2m1(float f) {
    uint32_t b = assay_float_bits(f), u = b & 0x7fffffffu;
    uint32_t sign = (b >> 28) & (0u - (uint32_t)(u != 0)) & 8u;
    uint32_t normal = (u + ((1u - 127u) << 23) + 0x1fffffu + ((u >> 22) & 1u)) >> 22;
    uint32_t tiny = assay_pick(u < 0x3f800000u, u, 0); /* below 1: steps of 1/2 */
    uint32_t subnormal = assay_float_bits(assay_float_of_bits(tiny) + 4194304.0f) - 0x4a800000u;
    uint32_t r = assay_pick(u < 0x3f800000u, subnormal, normal);
    r = assay_pick(u >= 0x40c00000u, 7u, r); /* 6 and above saturate, and so does NaN */
    return (uint8_t)(r | sign);
}

/* Of the low four bits. */
static inline float assay_widen_e2m1(uint8_t v) {
    uint32_t sign = (uint32_t)(v & 8u) << 28;
    uint32_t em = (uint32_t)(v & 7u) << 22;
    uint32_t normal = em + ((127u - 1u) << 23);
    uint32_t subnormal = assay_pick((v & 7u) == 1u, 0x3f000000u, 0);
    return assay_float_of_bits(assay_pick(em < (1u << 23), subnormal, normal) | sign);
}

static inline float assay_widen_e8m0(uint8_t v) {
    uint32_t normal = (uint32_t)v << 23;
    uint32_t r = assay_pick(v == 0, 0x00400000u, normal); /* 2^-127 is subnormal in binary32 */
    return assay_float_of_bits(assay_pick(v == 255, 0x7fc00000u, r));
}

/* The largest power of two not above f: as compressed-tensors stores scales, which are powers of two anyway.
 * Zero and negative numbers become 2^-127, the smallest; infinity and NaN become NaN. */
static inline uint8_t assay_narrow_e8m0(float f) {
    uint32_t b = assay_float_bits(f), u = b & 0x7fffffffu;
    uint32_t r = assay_pick(b >> 31, 0, u >> 23);
    return (uint8_t)assay_pick(u > 0x7f800000u, 255u, r);
}

#endif
