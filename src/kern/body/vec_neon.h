/* kern/body/vec_neon.h: the vocabulary on AArch64's base vector set: four quarters stand for the sixteen
 * lanes. */
#ifndef ASSAY_KERN_VEC_NEON_H
#define ASSAY_KERN_VEC_NEON_H

#if !defined(__aarch64__)
#error "this vocabulary is for aarch64"
#endif
#include <arm_neon.h>
#include "kern/body/vec.h"

typedef struct v16 {
    float32x4_t q[4];
} v16;
typedef struct v16i {
    uint32x4_t q[4];
} v16i;

#define TILE_M 2
#define TILE_N 2
#define SCALED_M 1
#define GEMV_N 4
#define GRID_N 2
#define ITILE_M 2
#define ITILE_B 1
#define ATT_Q 1

/* The four quarters written out, i being 0 to 3 in expr. */
#define V16_QUARTER(n, expr)                                                                                 \
    {                                                                                                        \
        enum { i = n };                                                                                      \
        r.q[i] = (expr);                                                                                     \
    }
/* clang-format off */
#define V16_EACH(T, expr)                                                                                    \
    T r;                                                                                                     \
    V16_QUARTER(0, expr) V16_QUARTER(1, expr) V16_QUARTER(2, expr) V16_QUARTER(3, expr)                      \
    return r
/* clang-format on */

VEC_FN v16 v16_set1(float f) { V16_EACH(v16, vdupq_n_f32(f)); }
VEC_FN v16 v16_zero(void) { return v16_set1(0); }
VEC_FN v16 v16_load(const void *p) {
    V16_EACH(v16, vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p + 16 * i)));
}
VEC_FN void v16_store(float *p, v16 v) {
    VEC_UNROLL for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.q[i]);
}
VEC_FN v16 v16_add(v16 a, v16 b) { V16_EACH(v16, vaddq_f32(a.q[i], b.q[i])); }
VEC_FN v16 v16_sub(v16 a, v16 b) { V16_EACH(v16, vsubq_f32(a.q[i], b.q[i])); }
VEC_FN v16 v16_mul(v16 a, v16 b) { V16_EACH(v16, vmulq_f32(a.q[i], b.q[i])); }
VEC_FN v16 v16_div(v16 a, v16 b) { V16_EACH(v16, vdivq_f32(a.q[i], b.q[i])); }
VEC_FN v16 v16_fma(v16 a, v16 b, v16 c) { V16_EACH(v16, vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
VEC_FN v16 v16_if_lt(v16 a, v16 b, v16 yes, v16 no) {
    V16_EACH(v16, vbslq_f32(vcltq_f32(a.q[i], b.q[i]), yes.q[i], no.q[i]));
}
VEC_FN v16 v16_if_nan(v16 a, v16 yes, v16 no) {
    V16_EACH(v16, vbslq_f32(vceqq_f32(a.q[i], a.q[i]), no.q[i], yes.q[i]));
}
VEC_FN v16i v16_bits(v16 v) { V16_EACH(v16i, vreinterpretq_u32_f32(v.q[i])); }
VEC_FN v16 v16_of_bits(v16i v) { V16_EACH(v16, vreinterpretq_f32_u32(v.q[i])); }

VEC_FN v16i v16i_load(const void *p) {
    V16_EACH(v16i, vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)p + 16 * i)));
}
VEC_FN void v16i_store(void *p, v16i v) {
    VEC_UNROLL for (int i = 0; i < 4; i++) vst1q_u8((uint8_t *)p + 16 * i, vreinterpretq_u8_u32(v.q[i]));
}
VEC_FN v16i v16i_set1(int x) { V16_EACH(v16i, vdupq_n_u32((uint32_t)x)); }
VEC_FN v16i v16i_add(v16i a, v16i b) { V16_EACH(v16i, vaddq_u32(a.q[i], b.q[i])); }
VEC_FN v16i v16i_sub(v16i a, v16i b) { V16_EACH(v16i, vsubq_u32(a.q[i], b.q[i])); }
VEC_FN v16i v16i_mul(v16i a, v16i b) { V16_EACH(v16i, vmulq_u32(a.q[i], b.q[i])); }
VEC_FN v16i v16i_and(v16i a, v16i b) { V16_EACH(v16i, vandq_u32(a.q[i], b.q[i])); }
VEC_FN v16i v16i_or(v16i a, v16i b) { V16_EACH(v16i, vorrq_u32(a.q[i], b.q[i])); }
VEC_FN v16i v16i_xor(v16i a, v16i b) { V16_EACH(v16i, veorq_u32(a.q[i], b.q[i])); }
VEC_FN v16i v16i_max(v16i a, v16i b) {
    V16_EACH(v16i,
             vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a.q[i]), vreinterpretq_s32_u32(b.q[i]))));
}
VEC_FN v16i v16i_srl(v16i a, int n) { V16_EACH(v16i, a.q[i] >> (uint32_t)n); }
VEC_FN v16i v16i_sll(v16i a, int n) { V16_EACH(v16i, a.q[i] << (uint32_t)n); }
VEC_FN v16i v16i_sra(v16i a, int n) {
    V16_EACH(v16i, vreinterpretq_u32_s32(vshlq_s32(vreinterpretq_s32_u32(a.q[i]), vdupq_n_s32(-n))));
}
VEC_FN v16i v16i_srlv(v16i a, v16i n) {
    V16_EACH(v16i, vshlq_u32(a.q[i], vnegq_s32(vreinterpretq_s32_u32(n.q[i]))));
}
VEC_FN v16i v16i_u16(const void *p) {
    V16_EACH(v16i, vmovl_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)p + 8 * i))));
}
VEC_FN v16i v16i_u8(const void *p) {
    uint8x16_t b = vld1q_u8(p);
    uint16x8_t lo = vmovl_u8(vget_low_u8(b)), hi = vmovl_high_u8(b);
    return (v16i){
        {vmovl_u16(vget_low_u16(lo)), vmovl_high_u16(lo), vmovl_u16(vget_low_u16(hi)), vmovl_high_u16(hi)}};
}
VEC_FN v16i v16i_s8(const void *p) {
    int8x16_t b = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_high_s8(b);
    return (v16i){{vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(lo))), vreinterpretq_u32_s32(vmovl_high_s16(lo)),
                   vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(hi))), vreinterpretq_u32_s32(vmovl_high_s16(hi))}};
}
VEC_FN void v16i_store_u16(void *p, v16i v) {
    VEC_UNROLL for (int i = 0; i < 4; i++)
        vst1_u8((uint8_t *)p + 8 * i, vreinterpret_u8_u16(vmovn_u32(v.q[i])));
}
VEC_FN void v16i_store_i8(void *p, v16i v) {
    int16x8_t lo =
        vcombine_s16(vqmovn_s32(vreinterpretq_s32_u32(v.q[0])), vqmovn_s32(vreinterpretq_s32_u32(v.q[1])));
    int16x8_t hi =
        vcombine_s16(vqmovn_s32(vreinterpretq_s32_u32(v.q[2])), vqmovn_s32(vreinterpretq_s32_u32(v.q[3])));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(lo), vqmovn_s16(hi)));
}
VEC_FN v16 v16_of_int(v16i v) { V16_EACH(v16, vcvtq_f32_s32(vreinterpretq_s32_u32(v.q[i]))); }
VEC_FN v16i v16i_round(v16 v) { V16_EACH(v16i, vreinterpretq_u32_s32(vcvtnq_s32_f32(v.q[i]))); }

VEC_FN v16 v16_load_f16(const void *p) {
    V16_EACH(v16, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)p + 8 * i))));
}
VEC_FN v16 v16_f16(uint16_t h) { V16_EACH(v16, vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)))); }
VEC_FN v16 v16_round_f16(v16 v) { V16_EACH(v16, vcvt_f32_f16(vcvt_f16_f32(v.q[i]))); }
/* The table is 64 bytes: four times the index, plus 0..3, picks a float's bytes. */
VEC_FN v16 v16_lookup(v16 t, v16i x) {
    uint8x16x4_t tab = {{vreinterpretq_u8_f32(t.q[0]), vreinterpretq_u8_f32(t.q[1]),
                         vreinterpretq_u8_f32(t.q[2]), vreinterpretq_u8_f32(t.q[3])}};
    uint32x4_t m = vdupq_n_u32(15), f = vdupq_n_u32(0x04040404), o = vdupq_n_u32(0x03020100);
    V16_EACH(v16, vreinterpretq_f32_u8(
                      vqtbl4q_u8(tab, vreinterpretq_u8_u32(vmlaq_u32(o, vandq_u32(x.q[i], m), f)))));
}
VEC_FN v16 v16_halves(v16 a, v16 b) { return (v16){{a.q[0], a.q[1], b.q[2], b.q[3]}}; }
VEC_FN v16 v16_lookup2(v16 t, v16 u, v16i x) { return v16_halves(v16_lookup(t, x), v16_lookup(u, x)); }

VEC_FN float v16_sum(v16 v) {
    float32x4_t a = vaddq_f32(vaddq_f32(v.q[0], v.q[2]), vaddq_f32(v.q[1], v.q[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
VEC_FN void v16_sum4(float *out, v16 a, v16 b, v16 c, v16 d) {
    out[0] = v16_sum(a);
    out[1] = v16_sum(b);
    out[2] = v16_sum(c);
    out[3] = v16_sum(d);
}
VEC_FN v16 v16_pow2(v16 v) { return v16_of_bits(v16i_add(v16i_sll(v16_bits(v), 23), v16i_set1(0x3f800000))); }

typedef struct v64 {
    uint8x16_t q[4];
} v64;
VEC_FN v64 v64_points(const uint64_t *t, const uint32_t at[8]) {
    V16_EACH(v64, vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(t[at[2 * i]]), vcreate_u64(t[at[2 * i + 1]]))));
}
VEC_FN v64 v64_set1(char x) { V16_EACH(v64, vdupq_n_u8((uint8_t)x)); }
VEC_FN v64 v64_add(v64 a, v64 b) { V16_EACH(v64, vaddq_u8(a.q[i], b.q[i])); }
VEC_FN uint8x16_t vec_minus_if(uint8x16_t v, uint32_t m) {
    uint8x8_t bit = vcreate_u8(0x8040201008040201u);
    uint8x16_t mask = vtstq_u8(vcombine_u8(vdup_n_u8((uint8_t)m), vdup_n_u8((uint8_t)(m >> 8))), vcombine_u8(bit, bit));
    return vsubq_u8(veorq_u8(v, mask), mask);
}
VEC_FN v64 v64_minus_if(v64 v, uint64_t m) { V16_EACH(v64, vec_minus_if(v.q[i], (uint32_t)(m >> 16 * i))); }
VEC_FN void v64_store(void *p, v64 v) {
    VEC_UNROLL for (int i = 0; i < 4; i++) vst1q_u8((uint8_t *)p + 16 * i, v.q[i]);
}

typedef int8x16_t vx;
VEC_FN vx vx_bcast4(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
}
VEC_FN uint32x4_t vec_dot4(uint32x4_t acc, uint32x4_t w, vx x) {
    uint8x16_t b = vreinterpretq_u8_u32(w);
    int16x8_t wl = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(b))),
              wh = vreinterpretq_s16_u16(vmovl_high_u8(b));
    int16x8_t xs = vmovl_s8(vget_low_s8(x)); /* x repeats, so both halves are the same */
    int32x4_t p = vpaddq_s32(vmull_s16(vget_low_s16(wl), vget_low_s16(xs)), vmull_high_s16(wl, xs));
    int32x4_t q = vpaddq_s32(vmull_s16(vget_low_s16(wh), vget_low_s16(xs)), vmull_high_s16(wh, xs));
    return vaddq_u32(acc, vreinterpretq_u32_s32(vpaddq_s32(p, q)));
}
VEC_FN v16i v16i_dot4(v16i acc, v16i w, vx x) { V16_EACH(v16i, vec_dot4(acc.q[i], w.q[i], x)); }

#include "kern/body/f8.h"
#include "kern/body/q8.h"
#include "kern/body/pairs.h"

#endif
