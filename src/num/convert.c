/* convert.c: scalar floats narrower than 32 bits, one at a time and in bulk. The arithmetic is in narrow.h.
 *
 * Bulk loops run over pieces of PIECE elements with a constant trip count, which is what lets gcc
 * vectorize them at -O2. */
#include "num/convert.h"
#include "num/narrow.h"

enum { PIECE = 64 };

float assay_f16_to_f32(uint16_t h) {
    return assay_widen_f16(h);
}
uint16_t assay_f32_to_f16(float f) {
    return assay_narrow_f16(f);
}
float assay_e4m3_to_f32(uint8_t v) {
    return assay_widen_e4m3(v);
}
uint8_t assay_f32_to_e4m3(float f) {
    return assay_narrow_e4m3(f);
}
float assay_e5m2_to_f32(uint8_t v) {
    return assay_widen_e5m2(v);
}
uint8_t assay_f32_to_e5m2(float f) {
    return assay_narrow_e5m2(f);
}
float assay_e8m0_to_f32(uint8_t v) {
    return assay_widen_e8m0(v);
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
BULK(f16, uint16_t, assay_widen_f16, assay_narrow_f16)
BULK(bf16, uint16_t, assay_bf16_to_f32, assay_f32_to_bf16)
BULK(e4m3, uint8_t, assay_widen_e4m3, assay_narrow_e4m3)
BULK(e5m2, uint8_t, assay_widen_e5m2, assay_narrow_e5m2)
BULK(e8m0, uint8_t, assay_widen_e8m0, assay_narrow_e8m0)

bool assay_to_f32(float *dst, const void *src, assay_dtype src_type, size_t n) {
    switch (src_type) {
    case ASSAY_DTYPE_F64: read_f64(dst, src, n); return true;
    case ASSAY_DTYPE_F32: read_f32(dst, src, n); return true;
    case ASSAY_DTYPE_F16: read_f16(dst, src, n); return true;
    case ASSAY_DTYPE_BF16: read_bf16(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E4M3: read_e4m3(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E5M2: read_e5m2(dst, src, n); return true;
    case ASSAY_DTYPE_F8_E8M0: read_e8m0(dst, src, n); return true;
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
    case ASSAY_DTYPE_F8_E8M0: write_e8m0(dst, src, n); return true;
    default: return false;
    }
}

/* An element is NaN or infinite when all its exponent bits are set (e4m3: all bits but the sign; e8m0: all
 * bits). */
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
SCAN(e8m0, uint8_t, 0xffu)

int64_t assay_find_nonfinite(const void *src, assay_dtype type, size_t n) {
    switch (type) {
    case ASSAY_DTYPE_F64: return scan_f64(src, n);
    case ASSAY_DTYPE_F32: return scan_f32(src, n);
    case ASSAY_DTYPE_F16: return scan_f16(src, n);
    case ASSAY_DTYPE_BF16: return scan_bf16(src, n);
    case ASSAY_DTYPE_F8_E4M3: return scan_e4m3(src, n);
    case ASSAY_DTYPE_F8_E5M2: return scan_e5m2(src, n);
    case ASSAY_DTYPE_F8_E8M0: return scan_e8m0(src, n);
    default: return -1;
    }
}

bool assay_tensor_read(float *out, const assay_tensor *t, int64_t first, int64_t n) {
    size_t size = assay_dtype_size(t->dtype);
    const uint8_t *data = t->data;
    if (t->block || !data || !assay_dtype_is_float(t->dtype)) return false;
    if (t->order == ASSAY_ORDER_PLAIN) return assay_to_f32(out, data + (size_t)first * size, t->dtype, (size_t)n);
    int64_t cols = t->n_dims > 1 ? t->dims[1] : 1;
    while (n > 0) {
        bool turned = t->order == ASSAY_ORDER_TURNED;
        int64_t row = first / cols, col = first % cols, left = n < cols - col ? n : cols - col, k = turned ? 1 : left;
        int64_t at = turned ? col * t->dims[0] + row : assay_tensor_file_row(t, row) * cols + col;
        assay_to_f32(out, data + (size_t)at * size, t->dtype, (size_t)k);
        out += k;
        first += k;
        n -= k;
    }
    return true;
}
