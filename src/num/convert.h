/* num/convert.h: scalar formats. All roundings are to nearest, ties to even; NaN stays NaN; sources as named.
 *   f16   IEEE 754 binary16; overflow to infinity
 *   bf16  the upper half of a binary32
 *   e4m3  OCP OFP8 E4M3 (no infinity, S.1111.111 is NaN, max 448): encode saturates finite values to 448
 *   e5m2  OCP OFP8 E5M2 (IEEE-like, max 57344): encode saturates finite values
 *   e8m0  OCP MX scales, powers of two from 2^-127 to 2^127, 255 is NaN: encode takes the power not above (no rounding) */
#ifndef ASSAY_NUM_CONVERT_H
#define ASSAY_NUM_CONVERT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "num/dtype.h"

float assay_f16_to_f32(uint16_t h);
uint16_t assay_f32_to_f16(float f);
static inline float assay_bf16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t assay_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u); /* NaN, made quiet */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
float assay_e4m3_to_f32(uint8_t v);
uint8_t assay_f32_to_e4m3(float f);
float assay_e5m2_to_f32(uint8_t v);
uint8_t assay_f32_to_e5m2(float f);
float assay_e8m0_to_f32(uint8_t v);

/* n elements of a float type (F64 F32 F16 BF16 F8_*), unaligned src, to floats; and back. Other types:
 * false. */
bool assay_to_f32(float *dst, const void *src, assay_dtype src_type, size_t n);
bool assay_from_f32(void *dst, assay_dtype dst_type, const float *src, size_t n);
/* Elements [first, first + n) of a tensor of floats in its own order, whatever the file's. False for blocks, joined tensors and types
 * that are no floats. */
bool assay_tensor_read(float *out, const assay_tensor *t, int64_t first, int64_t n);
/* Index of the first NaN or infinity among n elements of a float type, or -1. */
int64_t assay_find_nonfinite(const void *src, assay_dtype type, size_t n);

#endif
