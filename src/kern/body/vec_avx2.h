/* kern/body/vec_avx2.h: the vocabulary on AVX2 + FMA + F16C: two 8-lane halves stand for the sixteen lanes.
 */
#ifndef ASSAY_KERN_VEC_AVX2_H
#define ASSAY_KERN_VEC_AVX2_H

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with the flags that mk/config.mk gives its name"
#endif
#include <immintrin.h>
#include "kern/body/vec.h"

typedef struct v16 {
    __m256 a, b;
} v16;
typedef struct v16i {
    __m256i a, b;
} v16i;
typedef unsigned vec_u32 __attribute__((vector_size(32)));

#define TILE_M 3
#define TILE_N 2
#define SCALED_M 1
#define GEMV_N 4
#define GRID_N 2
#define ITILE_M 2
#define ITILE_B 2
#define ATT_Q 1

#define V16_2(f, x, y) ((v16){f((x).a, (y).a), f((x).b, (y).b)})
#define V16I_2(f, x, y) ((v16i){f((x).a, (y).a), f((x).b, (y).b)})

VEC_FN v16 v16_zero(void) { return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
VEC_FN v16 v16_set1(float f) { return (v16){_mm256_set1_ps(f), _mm256_set1_ps(f)}; }
VEC_FN v16 v16_load(const void *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps((const float *)((const char *)p + 32))};
}
VEC_FN void v16_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
VEC_FN v16 v16_add(v16 a, v16 b) { return V16_2(_mm256_add_ps, a, b); }
VEC_FN v16 v16_sub(v16 a, v16 b) { return V16_2(_mm256_sub_ps, a, b); }
VEC_FN v16 v16_mul(v16 a, v16 b) { return V16_2(_mm256_mul_ps, a, b); }
VEC_FN v16 v16_div(v16 a, v16 b) { return V16_2(_mm256_div_ps, a, b); }
VEC_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
VEC_FN v16 v16_if_lt(v16 a, v16 b, v16 yes, v16 no) {
    return (v16){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ))};
}
VEC_FN v16 v16_if_nan(v16 a, v16 yes, v16 no) {
    return (v16){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(a.a, a.a, _CMP_UNORD_Q)),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(a.b, a.b, _CMP_UNORD_Q))};
}
VEC_FN v16i v16_bits(v16 v) { return (v16i){_mm256_castps_si256(v.a), _mm256_castps_si256(v.b)}; }
VEC_FN v16 v16_of_bits(v16i v) { return (v16){_mm256_castsi256_ps(v.a), _mm256_castsi256_ps(v.b)}; }

VEC_FN v16i v16i_load(const void *p) {
    return (v16i){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)((const char *)p + 32))};
}
VEC_FN void v16i_store(void *p, v16i v) {
    _mm256_storeu_si256(p, v.a);
    _mm256_storeu_si256((__m256i *)((char *)p + 32), v.b);
}
VEC_FN v16i v16i_set1(int x) { return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
VEC_FN v16i v16i_add(v16i a, v16i b) { return V16I_2(_mm256_add_epi32, a, b); }
VEC_FN v16i v16i_sub(v16i a, v16i b) { return V16I_2(_mm256_sub_epi32, a, b); }
VEC_FN v16i v16i_mul(v16i a, v16i b) { return V16I_2(_mm256_mullo_epi32, a, b); }
VEC_FN v16i v16i_and(v16i a, v16i b) { return V16I_2(_mm256_and_si256, a, b); }
VEC_FN v16i v16i_or(v16i a, v16i b) { return V16I_2(_mm256_or_si256, a, b); }
VEC_FN v16i v16i_xor(v16i a, v16i b) { return V16I_2(_mm256_xor_si256, a, b); }
VEC_FN v16i v16i_max(v16i a, v16i b) { return V16I_2(_mm256_max_epi32, a, b); }
VEC_FN v16i v16i_srl(v16i x, int n) {
    return (v16i){(__m256i)((vec_u32)x.a >> (unsigned)n), (__m256i)((vec_u32)x.b >> (unsigned)n)};
}
VEC_FN v16i v16i_sll(v16i x, int n) {
    return (v16i){(__m256i)((vec_u32)x.a << (unsigned)n), (__m256i)((vec_u32)x.b << (unsigned)n)};
}
VEC_FN v16i v16i_sra(v16i x, int n) { return (v16i){_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)}; }
VEC_FN v16i v16i_srlv(v16i a, v16i n) { return V16I_2(_mm256_srlv_epi32, a, n); }
VEC_FN v16i v16i_u8(const void *p) {
    __m128i v = _mm_loadu_si128(p);
    return (v16i){_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
}
VEC_FN v16i v16i_s8(const void *p) {
    __m128i v = _mm_loadu_si128(p);
    return (v16i){_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))};
}
VEC_FN v16i v16i_u16(const void *p) {
    return (v16i){_mm256_cvtepu16_epi32(_mm_loadu_si128(p)),
                  _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1))};
}
VEC_FN void v16i_store_u16(void *p, v16i v) {
    _mm256_storeu_si256(p, _mm256_permute4x64_epi64(_mm256_packus_epi32(v.a, v.b), 0xd8));
}
VEC_FN void v16i_store_i8(void *p, v16i v) {
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
    _mm_storeu_si128(p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
VEC_FN v16 v16_of_int(v16i v) { return (v16){_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
VEC_FN v16i v16i_round(v16 v) { return (v16i){_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }

VEC_FN v16 v16_load_f16(const void *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))};
}
VEC_FN v16 v16_f16(uint16_t h) {
    __m256 v = _mm256_cvtph_ps(_mm_set1_epi16((short)h));
    return (v16){v, v};
}
VEC_FN v16 v16_round_f16(v16 v) {
    return (v16){_mm256_cvtph_ps(_mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT)),
                 _mm256_cvtph_ps(_mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT))};
}
/* Two tables of eight; bit 3 of the index, moved to the sign, chooses. */
VEC_FN __m256 vec_lookup8(v16 t, __m256i i) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.a, i), _mm256_permutevar8x32_ps(t.b, i),
                            _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}
VEC_FN v16 v16_halves(v16 a, v16 b) { return (v16){a.a, b.b}; }
VEC_FN v16 v16_lookup(v16 t, v16i i) { return (v16){vec_lookup8(t, i.a), vec_lookup8(t, i.b)}; }
VEC_FN v16 v16_lookup2(v16 t, v16 u, v16i i) { return (v16){vec_lookup8(t, i.a), vec_lookup8(u, i.b)}; }

VEC_FN float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(v.a, v.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
VEC_FN void v16_sum4(float *out, v16 a, v16 b, v16 c, v16 d) {
    out[0] = v16_sum(a);
    out[1] = v16_sum(b);
    out[2] = v16_sum(c);
    out[3] = v16_sum(d);
}
VEC_FN v16 v16_pow2(v16 v) { return v16_of_bits(v16i_add(v16i_sll(v16_bits(v), 23), v16i_set1(0x3f800000))); }

typedef struct v64 {
    __m256i a, b;
} v64;
VEC_FN __m256i vec_points4(const uint64_t *t, const uint32_t at[4]) {
    return _mm256_set_epi64x((long long)t[at[3]], (long long)t[at[2]], (long long)t[at[1]], (long long)t[at[0]]);
}
VEC_FN v64 v64_points(const uint64_t *t, const uint32_t at[8]) {
    return (v64){vec_points4(t, at), vec_points4(t, at + 4)};
}
VEC_FN v64 v64_set1(char x) { return (v64){_mm256_set1_epi8(x), _mm256_set1_epi8(x)}; }
VEC_FN v64 v64_add(v64 a, v64 b) { return (v64){_mm256_add_epi8(a.a, b.a), _mm256_add_epi8(a.b, b.b)}; }
/* Each byte of the mask eight times, and of those eight a bit each. */
VEC_FN __m256i vec_minus_if(__m256i v, uint32_t m) {
    __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u),
            bytes = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0),
            bits = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)m), bytes), bit),
            mask = _mm256_cmpeq_epi8(bits, bit);
    return _mm256_sub_epi8(_mm256_xor_si256(v, mask), mask);
}
VEC_FN v64 v64_minus_if(v64 v, uint64_t m) {
    return (v64){vec_minus_if(v.a, (uint32_t)m), vec_minus_if(v.b, (uint32_t)(m >> 32))};
}
VEC_FN void v64_store(void *p, v64 v) {
    _mm256_storeu_si256(p, v.a);
    _mm256_storeu_si256((__m256i *)p + 1, v.b);
}

typedef struct vx {
    __m256i even, odd;
} vx; /* bytes 0,2 and 1,3 of each lane as 16-bit numbers */
VEC_FN vx vx_bcast4(const int8_t *p) {
    int x;
    memcpy(&x, p, 4);
    __m256i v = _mm256_set1_epi32(x);
    return (vx){_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}
/* VPMADDUBSW would saturate: widen and use VPMADDWD, which cannot. */
VEC_FN __m256i vec_dot4(__m256i acc, __m256i w, vx x) {
    __m256i e = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)), x.even);
    __m256i o = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), x.odd);
    return _mm256_add_epi32(acc, _mm256_add_epi32(e, o));
}
VEC_FN v16i v16i_dot4(v16i acc, v16i w, vx x) {
    return (v16i){vec_dot4(acc.a, w.a, x), vec_dot4(acc.b, w.b, x)};
}

#include "kern/body/f8.h"
#include "kern/body/q8.h"
#include "kern/body/pairs.h"

#endif
