/* convert.c: scalar floats narrower than 32 bits, one at a time and in bulk.
 *
 * The idea: every narrow format is a binary32 with a shorter exponent and fraction. Normal numbers are re-
 * biased by an integer addition that also rounds (add half an ulp minus one, plus the bit that decides
 * ties); subnormals are rounded by the adder itself, by adding the power of two whose ulp equals the
 * narrow format's smallest step. No path needs F16C or a table of 65,536 entries, none depends on the
 * denormal mode of the CPU, and all are free of branches that data decides, so that the bulk loops
 * vectorize with plain SSE2 or NEON.
 *
 *            sign exponent fraction  bias   largest
 *   f16        1     5       10       15     65504       infinities, NaN
 *   bf16       1     8        7      127     3.39e38     infinities, NaN
 *   e4m3       1     4        3        7       448       no infinity, NaN = S.1111.111
 *   e5m2       1     5        2       15     57344       infinities, NaN
 *
 * Bulk loops run over pieces of PIECE elements with a constant trip count, which is what lets gcc
 * vectorize them at -O2. */
#include "num/convert.h"

enum { PIECE = 64 };

static inline uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* yes or no, without a branch: gcc would turn a conditional expression into one and then not vectorize the loop. */
static inline uint32_t pick(uint32_t condition, uint32_t yes, uint32_t no) {
    uint32_t mask = 0u - condition;
    return (yes & mask) | (no & ~mask);
}

static inline float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t em = (uint32_t)(h & 0x7fffu) << 13; /* exponent and fraction at binary32's places */
    uint32_t normal = em + ((127u - 15u) << 23);
    uint32_t special = em + ((255u - 31u) << 23); /* infinity and NaN keep their fraction */
    uint32_t subnormal = bits_of(float_of(em | (113u << 23)) - float_of(113u << 23));
    uint32_t r = pick(em >= (31u << 23), special, normal);
    r = pick(em < (1u << 23), subnormal, r);
    return float_of(r | sign);
}

static inline uint16_t f32_to_f16(float f) {
    uint32_t b = bits_of(f), sign = (b >> 16) & 0x8000u, u = b & 0x7fffffffu;
    /* rounds up into infinity as it should */
    uint32_t normal = (u + ((15u - 127u) << 23) + 0xfffu + ((u >> 13) & 1u)) >> 13;
    uint32_t tiny = pick(u < 0x38800000u, u, 0); /* below 2^-14: steps of 2^-24 */
    uint32_t subnormal = bits_of(float_of(tiny) + 0.5f) - 0x3f000000u;
    uint32_t nan = 0x7e00u | ((u >> 13) & 0x1ffu);
    uint32_t r = pick(u < 0x38800000u, subnormal, normal);
    r = pick(u >= 0x47800000u, 0x7c00u, r);
    r = pick(u > 0x7f800000u, nan, r);
    return (uint16_t)(r | sign);
}

static inline float e4m3_to_f32(uint8_t v) {
    uint32_t sign = (uint32_t)(v & 0x80u) << 24;
    uint32_t em = (uint32_t)(v & 0x7fu) << 20;
    uint32_t normal = em + ((127u - 7u) << 23);
    uint32_t subnormal = bits_of(float_of(em | (121u << 23)) - float_of(121u << 23));
    uint32_t r = pick(em < (1u << 23), subnormal, normal);
    r = pick((v & 0x7fu) == 0x7fu, 0x7fc00000u, r);
    return float_of(r | sign);
}

static inline uint8_t f32_to_e4m3(float f) {
    uint32_t b = bits_of(f), sign = (b >> 24) & 0x80u, u = b & 0x7fffffffu;
    uint32_t normal = (u + ((7u - 127u) << 23) + 0x7ffffu + ((u >> 20) & 1u)) >> 20;
    uint32_t tiny = pick(u < 0x3c800000u, u, 0); /* below 2^-6: steps of 2^-9 */
    uint32_t subnormal = bits_of(float_of(tiny) + 16384.0f) - bits_of(16384.0f);
    uint32_t r = pick(u < 0x3c800000u, subnormal, normal);
    r = pick(u >= 0x43e00000u, 0x7eu, r); /* 448 and above saturate */
    r = pick(u >= 0x7f800000u, 0x7fu, r); /* infinity has no place here: NaN */
    return (uint8_t)(r | sign);
}

static inline uint8_t f32_to_e5m2(float f) {
    uint32_t b = bits_of(f), sign = (b >> 24) & 0x80u, u = b & 0x7fffffffu;
    uint32_t normal = (u + ((15u - 127u) << 23) + 0xfffffu + ((u >> 21) & 1u)) >> 21;
    uint32_t tiny = pick(u < 0x38800000u, u, 0); /* below 2^-14: steps of 2^-16 */
    uint32_t subnormal = bits_of(float_of(tiny) + 128.0f) - bits_of(128.0f);
    uint32_t r = pick(u < 0x38800000u, subnormal, normal);
    r = pick(u >= 0x47600000u, 0x7bu, r); /* 57344 and above saturate */
    r = pick(u == 0x7f800000u, 0x7cu, r);
    r = pick(u > 0x7f800000u, 0x7eu, r);
    return (uint8_t)(r | sign);
}

float assay_f16_to_f32(uint16_t h) {
    return f16_to_f32(h);
}
uint16_t assay_f32_to_f16(float f) {
    return f32_to_f16(f);
}
float assay_e4m3_to_f32(uint8_t v) {
    return e4m3_to_f32(v);
}
uint8_t assay_f32_to_e4m3(float f) {
    return f32_to_e4m3(f);
}
float assay_e5m2_to_f32(uint8_t v) {
    return f16_to_f32((uint16_t)(v << 8));
} /* e5m2 is the upper half of an f16 */
uint8_t assay_f32_to_e5m2(float f) {
    return f32_to_e5m2(f);
}

static inline float from_f64(double d) {
    return (float)d;
}
static inline double to_f64(float f) {
    return f;
}
static inline float from_f32(float f) {
    return f;
}
static inline float e5m2_to_f32(uint8_t v) {
    return f16_to_f32((uint16_t)(v << 8));
}

/* One bulk reader and one bulk writer per format: name, element type, widening and narrowing function.
 * Elements are moved with memcpy because a tensor in a mapped file need not be aligned. */
#define BULK(name, type, widen, narrow)                                                                      \
    static inline void read_##name##_n(float *restrict dst, const unsigned char *restrict src, size_t n) {   \
        for (size_t i = 0; i < n; i++) {                                                                     \
            type v;                                                                                          \
            memcpy(&v, src + i * sizeof v, sizeof v);                                                        \
            dst[i] = widen(v);                                                                               \
        }                                                                                                    \
    }                                                                                                        \
    static void read_##name(float *restrict dst, const unsigned char *restrict src, size_t n) {              \
        size_t i = 0;                                                                                        \
        for (; i + PIECE <= n; i += PIECE) read_##name##_n(dst + i, src + i * sizeof(type), PIECE);          \
        read_##name##_n(dst + i, src + i * sizeof(type), n - i);                                             \
    }                                                                                                        \
    static inline void write_##name##_n(unsigned char *restrict dst, const float *restrict src, size_t n) {  \
        for (size_t i = 0; i < n; i++) {                                                                     \
            type v = narrow(src[i]);                                                                         \
            memcpy(dst + i * sizeof v, &v, sizeof v);                                                        \
        }                                                                                                    \
    }                                                                                                        \
    static void write_##name(unsigned char *restrict dst, const float *restrict src, size_t n) {             \
        size_t i = 0;                                                                                        \
        for (; i + PIECE <= n; i += PIECE) write_##name##_n(dst + i * sizeof(type), src + i, PIECE);         \
        write_##name##_n(dst + i * sizeof(type), src + i, n - i);                                            \
    }

BULK(f64, double, from_f64, to_f64)
BULK(f32, float, from_f32, from_f32)
BULK(f16, uint16_t, f16_to_f32, f32_to_f16)
BULK(bf16, uint16_t, assay_bf16_to_f32, assay_f32_to_bf16)
BULK(e4m3, uint8_t, e4m3_to_f32, f32_to_e4m3)
BULK(e5m2, uint8_t, e5m2_to_f32, f32_to_e5m2)

bool assay_to_f32(float *dst, const void *src, assay_dtype src_type, size_t n) {
    switch (src_type) {
    case ASSAY_DTYPE_F64: read_f64(dst, src, n); return true;
    case ASSAY_DTYPE_F32: read_f32(dst, src, n); return true;
    case ASSAY_DTYPE_F16: read_f16(dst, src, n); return true;
    case ASSAY_DTYPE_BF16: read_bf16(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E4M3: read_e4m3(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E5M2: read_e5m2(dst, src, n); return true;
    default: return false;
    }
}

bool assay_from_f32(void *dst, assay_dtype dst_type, const float *src, size_t n) {
    switch (dst_type) {
    case ASSAY_DTYPE_F64: write_f64(dst, src, n); return true;
    case ASSAY_DTYPE_F32: write_f32(dst, src, n); return true;
    case ASSAY_DTYPE_F16: write_f16(dst, src, n); return true;
    case ASSAY_DTYPE_BF16: write_bf16(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E4M3: write_e4m3(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E5M2: write_e5m2(dst, src, n); return true;
    default: return false;
    }
}

/* An element is NaN or infinite when all its exponent bits are set (e4m3: all bits but the sign). */
#define SCAN(name, type, mask)                                                                               \
    static inline unsigned any_##name(const unsigned char *src, size_t n) {                                  \
        type bad = 0;                                                                                        \
        for (size_t i = 0; i < n; i++) {                                                                     \
            type v;                                                                                          \
            memcpy(&v, src + i * sizeof v, sizeof v);                                                        \
            bad |= (type)((v & (type)(mask)) == (type)(mask));                                               \
        }                                                                                                    \
        return (unsigned)bad;                                                                                \
    }                                                                                                        \
    static int64_t scan_##name(const unsigned char *src, size_t n) {                                         \
        size_t i = 0;                                                                                        \
        while (i + PIECE <= n && !any_##name(src + i * sizeof(type), PIECE)) i += PIECE;                     \
        for (; i < n; i++)                                                                                   \
            if (any_##name(src + i * sizeof(type), 1)) return (int64_t)i;                                    \
        return -1;                                                                                           \
    }

SCAN(f64, uint64_t, 0x7ff0000000000000u)
SCAN(f32, uint32_t, 0x7f800000u)
SCAN(f16, uint16_t, 0x7c00u)
SCAN(bf16, uint16_t, 0x7f80u)
SCAN(e4m3, uint8_t, 0x7fu)
SCAN(e5m2, uint8_t, 0x7cu)

int64_t assay_find_nonfinite(const void *src, assay_dtype type, size_t n) {
    switch (type) {
    case ASSAY_DTYPE_F64: return scan_f64(src, n);
    case ASSAY_DTYPE_F32: return scan_f32(src, n);
    case ASSAY_DTYPE_F16: return scan_f16(src, n);
    case ASSAY_DTYPE_BF16: return scan_bf16(src, n);
    case ASSAY_DTYPE_F8_E4M3: return scan_e4m3(src, n);
    case ASSAY_DTYPE_F8_E5M2: return scan_e5m2(src, n);
    default: return -1;
    }
}
