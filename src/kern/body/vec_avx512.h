/* kern/body/vec_avx512.h: the vocabulary on AVX-512 (F, BW, DQ, VL); with the file's flags also VNNI's dot4
 * and BF16's pair product. */
#ifndef ASSAY_KERN_VEC_AVX512_H
#define ASSAY_KERN_VEC_AVX512_H

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile this file with the flags that mk/config.mk gives its name"
#endif
#include <immintrin.h>
#include "kern/body/vec.h"

typedef __m512 v16;
typedef __m512i v16i;
typedef unsigned vec_u32 __attribute__((vector_size(64)));
typedef unsigned short vec_u16 __attribute__((vector_size(64)));

/* Tiles of the products, in registers: 32 of them. */
#define TILE_M 6
#define TILE_N 4
#define SCALED_M 3
#define GEMV_N 4
#define GRID_N 2
#define ITILE_M 8
#define ITILE_B 3
#define ATT_Q 6

VEC_FN v16 v16_zero(void) { return _mm512_setzero_ps(); }
VEC_FN v16 v16_set1(float f) { return _mm512_set1_ps(f); }
VEC_FN v16 v16_load(const void *p) { return _mm512_loadu_ps(p); }
VEC_FN void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
VEC_FN v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
VEC_FN v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
VEC_FN v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
VEC_FN v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
VEC_FN v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
VEC_FN v16 v16_if_lt(v16 a, v16 b, v16 yes, v16 no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
VEC_FN v16 v16_if_nan(v16 a, v16 yes, v16 no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), no, yes);
}
VEC_FN v16i v16_bits(v16 v) { return _mm512_castps_si512(v); }
VEC_FN v16 v16_of_bits(v16i v) { return _mm512_castsi512_ps(v); }

VEC_FN v16i v16i_load(const void *p) { return _mm512_loadu_si512(p); }
VEC_FN void v16i_store(void *p, v16i v) { _mm512_storeu_si512(p, v); }
VEC_FN v16i v16i_set1(int x) { return _mm512_set1_epi32(x); }
VEC_FN v16i v16i_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
VEC_FN v16i v16i_sub(v16i a, v16i b) { return _mm512_sub_epi32(a, b); }
VEC_FN v16i v16i_mul(v16i a, v16i b) { return _mm512_mullo_epi32(a, b); }
VEC_FN v16i v16i_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
VEC_FN v16i v16i_or(v16i a, v16i b) { return _mm512_or_si512(a, b); }
VEC_FN v16i v16i_xor(v16i a, v16i b) { return _mm512_xor_si512(a, b); }
VEC_FN v16i v16i_max(v16i a, v16i b) { return _mm512_max_epi32(a, b); }
VEC_FN v16i v16i_srl(v16i a, int n) { return (v16i)((vec_u32)a >> (unsigned)n); }
VEC_FN v16i v16i_sll(v16i a, int n) { return (v16i)((vec_u32)a << (unsigned)n); }
VEC_FN v16i v16i_sra(v16i a, int n) { return _mm512_srai_epi32(a, (unsigned)n); }
VEC_FN v16i v16i_srlv(v16i a, v16i n) { return _mm512_srlv_epi32(a, n); }
VEC_FN v16i v16i_u8(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(p)); }
VEC_FN v16i v16i_s8(const void *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(p)); }
VEC_FN v16i v16i_u16(const void *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(p)); }
VEC_FN void v16i_store_u16(void *p, v16i v) { _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(v)); }
VEC_FN void v16i_store_i8(void *p, v16i v) { _mm_storeu_si128(p, _mm512_cvtsepi32_epi8(v)); }
VEC_FN v16 v16_of_int(v16i v) { return _mm512_cvtepi32_ps(v); }
VEC_FN v16i v16i_round(v16 v) { return _mm512_cvtps_epi32(v); }

VEC_FN v16 v16_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
VEC_FN v16 v16_f16(uint16_t h) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)h)); }
VEC_FN v16 v16_round_f16(v16 v) { return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
VEC_FN v16 v16_halves(v16 a, v16 b) { return _mm512_mask_blend_ps(0xff00, a, b); }
VEC_FN v16 v16_lookup(v16 t, v16i i) { return _mm512_permutexvar_ps(i, t); }
VEC_FN v16 v16_lookup2(v16 t, v16 u, v16i i) {
    return _mm512_mask_permutexvar_ps(_mm512_permutexvar_ps(i, t), 0xff00, i, u);
}

VEC_FN float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
VEC_FN void v16_sum4(float *out, v16 a, v16 b, v16 c, v16 d) {
    v16 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)); /* 8 apart */
    v16 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    v16 s = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
                          _mm512_shuffle_f32x4(ab, cd, 0xdd)); /* 4 apart: one row each */
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xee));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x55));
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, s)));
}

VEC_FN v16 v16_pow2(v16 v) {
    return v16_of_bits(_mm512_add_epi32(_mm512_slli_epi32(v16_bits(v), 23), _mm512_set1_epi32(0x3f800000)));
}

typedef __m512i v64;
VEC_FN __m256i vec_points4(const uint64_t *t, const uint32_t at[4]) {
    return _mm256_set_epi64x((long long)t[at[3]], (long long)t[at[2]], (long long)t[at[1]], (long long)t[at[0]]);
}
VEC_FN v64 v64_points(const uint64_t *t, const uint32_t at[8]) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(vec_points4(t, at)), vec_points4(t, at + 4), 1);
}
VEC_FN v64 v64_set1(char x) { return _mm512_set1_epi8(x); }
VEC_FN v64 v64_add(v64 a, v64 b) { return _mm512_add_epi8(a, b); }
VEC_FN v64 v64_minus_if(v64 v, uint64_t m) { return _mm512_mask_sub_epi8(v, m, _mm512_setzero_si512(), v); }
VEC_FN void v64_store(void *p, v64 v) { _mm512_storeu_si512(p, v); }

#if defined(__AVX512VNNI__)
typedef __m512i vx;
VEC_FN vx vx_bcast4(const int8_t *p) {
    int x;
    memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}
/* Not the intrinsic: gcc 12 copies the sums of a whole tile between registers and stack around it, at half
 * the speed. */
VEC_FN v16i v16i_dot4(v16i acc, v16i w, vx x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
}
#else
typedef struct vx {
    __m512i even, odd;
} vx; /* bytes 0,2 and 1,3 of each lane as 16-bit numbers */
VEC_FN vx vx_bcast4(const int8_t *p) {
    int x;
    memcpy(&x, p, 4);
    __m512i v = _mm512_set1_epi32(x);
    return (vx){_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}
/* VPMADDUBSW would saturate: widen and use VPMADDWD, which cannot. */
VEC_FN v16i v16i_dot4(v16i acc, v16i w, vx x) {
    __m512i e = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(255)), x.even);
    __m512i o = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), x.odd);
    return _mm512_add_epi32(acc, _mm512_add_epi32(e, o));
}
#endif

#include "kern/body/f8.h"
#include "kern/body/q8.h"
#if defined(__AVX512BF16__)
typedef __m512bh vb;
typedef __m512i vb_block; /* the 64 bytes of a Q4 block */
typedef __m512i vb_table; /* 16 bf16 values, twice: VPERMW takes five bits of the index and the fifth is the
                             next nibble's */
VEC_FN vb vb_zero(void) { return (vb)_mm512_setzero_si512(); }
VEC_FN vb vb_load(const void *p) { return (vb)_mm512_loadu_si512(p); }
VEC_FN void vb_store(void *p, vb v) { _mm512_storeu_si512(p, (__m512i)v); }
VEC_FN v16 vb_dot(v16 acc, vb x, vb w) { return _mm512_dpbf16_ps(acc, x, w); }
VEC_FN vb_block vb_block_load(const void *p) { return _mm512_loadu_si512(p); }
VEC_FN vb_table vb_table_of(v16 t) { return (__m512i)_mm512_cvtne2ps_pbh(t, t); }
VEC_FN vb vb_q4(vb_block w, int q, vb_table t) {
    return (vb)_mm512_permutexvar_epi16((__m512i)((vec_u16)w >> (unsigned short)(4 * q)), t);
}
VEC_FN vb_table vb_table_at(const uint16_t *t) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)t));
}
/* Two tables, the second for the upper half of the lanes: there the fifth bit of an index is set. */
typedef __m512i vb_table2;
VEC_FN vb_table2 vb_table2_at(const uint16_t *t, const uint16_t *u) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)t)),
                              _mm256_loadu_si256((const __m256i *)u), 1);
}
VEC_FN vb_table2 vb_table2_of(v16 t, v16 u) { return (__m512i)_mm512_cvtne2ps_pbh(u, t); }
VEC_FN vb vb_q4_two(vb_block w, int q, vb_table2 t) {
    __m512i half = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    __m512i i = (__m512i)((vec_u16)w >> (unsigned short)(4 * q));
    i = _mm512_ternarylogic_epi32(i, _mm512_set1_epi16(15), half, 0xea); /* i & 15 | half */
    return (vb)_mm512_permutexvar_epi16(i, t);
}
VEC_FN vb vb_of_f32(v16 first, v16 second) { return _mm512_cvtne2ps_pbh(second, first); }

/* The low and the high bytes of the bf16 values of the 128 positive 8-bit floats, for VPERMI2B. */
typedef struct vb_f8 {
    __m512i low[2], high[2];
} vb_f8;
VEC_FN vb_f8 vb_f8_of(assay_form form) {
    uint8_t low[128], high[128];
    for (int i = 0; i < 8; i++) {
        v16i code = _mm512_add_epi32(_mm512_set1_epi32(16 * i),
                                     _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
        v16i bits = v16_bits(v16_mul(f8_lanes(code, 0, form), v16_set1(f8_factor(form))));
        _mm_storeu_si128((__m128i *)(low + 16 * i), _mm512_cvtepi32_epi8(v16i_srl(bits, 16)));
        _mm_storeu_si128((__m128i *)(high + 16 * i), _mm512_cvtepi32_epi8(v16i_srl(bits, 24)));
    }
    return (vb_f8){{v16i_load(low), v16i_load(low + 64)}, {v16i_load(high), v16i_load(high + 64)}};
}
/* The values of a block of 64 codes. */
VEC_FN void vb_f8_two(vb out[2], const uint8_t *p, const vb_f8 *t) {
    __m512i d = _mm512_loadu_si512(p), l = _mm512_permutex2var_epi8(t->low[0], d, t->low[1]),
            h = _mm512_permutex2var_epi8(t->high[0], d, t->high[1]);
    h = _mm512_ternarylogic_epi32(h, d, _mm512_set1_epi8((char)0x80), 0xf8); /* h | d & 0x80 */
    out[0] = (vb)_mm512_ternarylogic_epi32(_mm512_slli_epi16(h, 8), l, _mm512_set1_epi16(0xff), 0xf8);
    out[1] = (vb)_mm512_ternarylogic_epi32(_mm512_srli_epi16(l, 8), h, _mm512_set1_epi16((short)0xff00),
                                           0xf8);
}
VEC_FN vb vb_f8_scaled(const uint8_t *p, int q, assay_form form, v16 scale) {
    return vb_of_f32(v16_mul(f8_lanes(v16i_u16(p), 8 * q, form), scale),
                     v16_mul(f8_lanes(v16i_u16(p + 32), 8 * q, form), scale));
}
VEC_FN vb vb_q8(const uint8_t *p, int bytes, v16 zero, const v16 scale[2]) {
    return vb_of_f32(q8_lanes(v16_of_int(q8_load(p, bytes)), bytes, zero, scale[0]),
                     q8_lanes(v16_of_int(q8_load(p + 16, bytes)), bytes, zero, scale[bytes == BYTES_SIGNED16]));
}
#else
#include "kern/body/pairs.h"
#endif

#endif
