/* kern/body/att.h: attention over one page of keys. Scores have a lane per key (the page's keys are stored
 * transposed), outputs a lane per dimension: both are sums of broadcast times row vectors, in one ascending
 * chain per element. Packed pages are unpacked to float32 first and then walked by the same loop, so that a
 * quantized cache computes exactly as its decoded values would. */
#ifndef ASSAY_KERN_ATT_H
#define ASSAY_KERN_ATT_H

#include "kern/body/math.h"

VEC_FN v16 kv_load(const void *p, size_t i, assay_kern_kv type) {
    return type == ASSAY_KERN_KV_F32    ? v16_load((const char *)p + 4 * i)
           : type == ASSAY_KERN_KV_BF16 ? v16_of_bits(v16i_sll(v16i_u16((const char *)p + 2 * i), 16))
                                        : v16_load_f16((const char *)p + 2 * i);
}

/* Scores of one query -> weights p[64]; updates max and sum, returns what acc must be multiplied by. */
VEC_FN float att_softmax(float *p, v16 s[4], const assay_att *a, size_t i, size_t lo, size_t hi) {
    static const float iota[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    v16 none = v16_set1(-INFINITY), top = none;
    VEC_UNROLL for (int c = 0; c < 4; c++) {
        s[c] = v16_mul(s[c], v16_set1(a->scale));
        if (a->soft_cap > 0)
            s[c] = v16_mul(v16_tanh(v16_div(s[c], v16_set1(a->soft_cap))), v16_set1(a->soft_cap));
        if (hi - lo < ASSAY_KERN_PAGE) {
            v16 j = v16_add(v16_load(iota), v16_set1((float)(16 * c)));
            s[c] = v16_if_lt(j, v16_set1((float)lo), none, v16_if_lt(j, v16_set1((float)hi), s[c], none));
        }
        top = v16_if_lt(top, s[c], s[c], top);
    }
    float lane[16], m = a->max[i];
    v16_store(lane, top);
    VEC_UNROLL for (int c = 0; c < 16; c++) m = m < lane[c] ? lane[c] : m;
    v16_store(lane, v16_exp(v16_set1(a->max[i] - m)));
    v16 sum = v16_mul(v16_load(a->sum + 16 * i), v16_set1(lane[0]));
    VEC_UNROLL for (int c = 0; c < 4; c++) {
        v16 e = v16_exp(v16_sub(s[c], v16_set1(m)));
        v16_store(p + 16 * c, e);
        sum = v16_add(sum, e);
    }
    v16_store(a->sum + 16 * i, sum);
    a->max[i] = m;
    return lane[0];
}

/* acc columns [c, c + 16*nc) of nq queries */
VEC_FN void att_values(const assay_att *a, size_t q0, float p[][ASSAY_KERN_PAGE], const float *decay,
                       const void *v, size_t c, size_t lo, size_t hi, int nq, int nc, assay_kern_kv type) {
    v16 acc[ATT_Q][4];
    VEC_UNROLL for (int i = 0; i < nq; i++) VEC_UNROLL for (int n = 0; n < nc; n++) acc[i][n] =
        v16_mul(v16_load(a->acc + (q0 + (size_t)i) * a->head_pad + c + 16 * (size_t)n), v16_set1(decay[i]));
    for (size_t j = lo; j < hi; j++) {
        v16 vv[4];
        VEC_UNROLL for (int n = 0; n < nc; n++) vv[n] =
            kv_load(v, j * a->head_pad + c + 16 * (size_t)n, type);
        VEC_UNROLL for (int i = 0; i < nq; i++) {
            v16 w = v16_set1(p[i][j]);
            VEC_UNROLL for (int n = 0; n < nc; n++) acc[i][n] = v16_fma(w, vv[n], acc[i][n]);
        }
    }
    VEC_UNROLL for (int i = 0; i < nq; i++) VEC_UNROLL for (int n = 0; n < nc; n++)
        v16_store(a->acc + (q0 + (size_t)i) * a->head_pad + c + 16 * (size_t)n, acc[i][n]);
}

VEC_FN void att_tile(const assay_att *a, size_t q0, const void *k, const void *v, size_t lo, size_t hi,
                     int nq, assay_kern_kv type) {
    float p[ATT_Q][ASSAY_KERN_PAGE], decay[ATT_Q];
    v16 s[ATT_Q][4];
    VEC_UNROLL for (int i = 0; i < nq; i++) VEC_UNROLL for (int c = 0; c < 4; c++) s[i][c] = v16_zero();
    for (size_t d = 0; d < a->head_dim; d++) {
        v16 kv[4];
        VEC_UNROLL for (size_t c = 0; c < 4; c++) kv[c] = kv_load(k, d * ASSAY_KERN_PAGE + 16 * c, type);
        VEC_UNROLL for (int i = 0; i < nq; i++) {
            v16 q = v16_set1(a->q[(q0 + (size_t)i) * a->head_pad + d]);
            VEC_UNROLL for (int c = 0; c < 4; c++) s[i][c] = v16_fma(q, kv[c], s[i][c]);
        }
    }
    VEC_UNROLL for (int i = 0; i < nq; i++) decay[i] = att_softmax(p[i], s[i], a, q0 + (size_t)i, lo, hi);
    size_t c = 0;
    for (; c + 64 <= a->head_pad; c += 64)
        att_values(a, q0, p, decay, v, c, lo, hi, nq, 4, type);
    if (c + 32 <= a->head_pad) {
        att_values(a, q0, p, decay, v, c, lo, hi, nq, 2, type);
        c += 32;
    }
    if (c < a->head_pad) att_values(a, q0, p, decay, v, c, lo, hi, nq, 1, type);
}
VEC_FN void att_page(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                     size_t hi, assay_kern_kv type) {
    size_t i = first, end = first + n;
    for (; i + ATT_Q <= end; i += ATT_Q)
        att_tile(a, i, k, v, lo, hi, ATT_Q, type);
    if (ATT_Q > 4 && i + 4 <= end) {
        att_tile(a, i, k, v, lo, hi, ATT_Q > 4 ? 4 : 1, type);
        i += 4;
    }
    if (ATT_Q > 2 && i + 2 <= end) {
        att_tile(a, i, k, v, lo, hi, ATT_Q > 2 ? 2 : 1, type);
        i += 2;
    }
    for (; i < end; i++)
        att_tile(a, i, k, v, lo, hi, 1, type);
}
static void att_page_f32(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                         size_t hi) {
    att_page(a, first, n, k, v, lo, hi, ASSAY_KERN_KV_F32);
}
static void att_page_bf16(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                          size_t hi) {
    att_page(a, first, n, k, v, lo, hi, ASSAY_KERN_KV_BF16);
}
static void att_page_f16(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                         size_t hi) {
    att_page(a, first, n, k, v, lo, hi, ASSAY_KERN_KV_F16);
}
static void att_finish(float *out, const assay_att *a, size_t i) {
    v16 sum = v16_set1(v16_sum(v16_load(a->sum + 16 * i)));
    for (size_t c = 0; c < a->head_pad; c += 16) {
        float t[16];
        v16_store(t, v16_div(v16_load(a->acc + i * a->head_pad + c), sum));
        memcpy(out + c, t, ASSAY_MIN((size_t)16, a->head_dim - c) * sizeof *t);
    }
}

/* --- packed pages --- */

/* e4m3 bits in integer lanes -> value. A normal number's exponent and mantissa move into place with the bias
 * added; a subnormal is (1 + m/8) 2^-6 less 2^-6, so that no float32 subnormal comes up on the way. NaN codes
 * are not kept (the scale says it). */
VEC_FN v16 kv_e4m3(v16i code) {
    v16i low = v16i_and(code, v16i_set1(0x7f)), sign = v16i_sll(v16i_and(code, v16i_set1(0x80)), 24);
    v16 small = v16_sub(v16_of_bits(v16i_add(v16i_sll(low, 20), v16i_set1(121 << 23))), v16_set1(0.015625f)),
        normal = v16_of_bits(v16i_add(v16i_sll(low, 20), v16i_set1(120 << 23)));
    v16 value = v16_if_lt(v16_of_int(low), v16_set1(8), small, normal);
    return v16_of_bits(v16i_or(v16_bits(value), sign));
}

/* Columns [0, n) of a group, n at most 64; what is written past n stays within a multiple of 16. */
VEC_FN void kv_group(float *out, const uint8_t *codes, size_t n, v16 scale, v16 offset, assay_kern_pack f) {
    if (f == ASSAY_KERN_KV4)
        for (size_t c = 0; c < n; c += 32) {
            v16i w = v16i_u8(codes + c / 2);
            v16_store(out + c, v16_fma(v16_of_int(v16i_and(w, v16i_set1(15))), scale, offset));
            if (c + 16 < n) v16_store(out + c + 16, v16_fma(v16_of_int(v16i_srl(w, 4)), scale, offset));
        }
    else
        for (size_t c = 0; c < n; c += 16)
            v16_store(out + c, v16_fma(v16_of_int(v16i_u8(codes + c)), scale, offset));
}

VEC_FN void kv_unpack_int(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols,
                          assay_kern_pack f) {
    size_t stride = assay_kern_pack_stride(f, cols), groups = assay_kern_pack_groups(rows, cols), left = 0;
    const uint8_t *scales = tile + rows * stride, *offsets = scales + 2 * groups;
    float s[16], o[16];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += ASSAY_KERN_PACK_GROUP) {
            if (left == 0) { /* sixteen groups' numbers at a time */
                v16_store(s, v16_load_f16(scales));
                v16_store(o, v16_load_f16(offsets));
                scales += 32;
                offsets += 32;
                left = 16;
            }
            size_t n = ASSAY_MIN(cols - c, (size_t)ASSAY_KERN_PACK_GROUP);
            v16 scale = v16_set1(s[16 - left]), offset = v16_set1(o[16 - left]);
            const uint8_t *codes = tile + r * stride + (f == ASSAY_KERN_KV4 ? c / 2 : c);
            if (n == ASSAY_KERN_PACK_GROUP)
                kv_group(out + r * ld + c, codes, ASSAY_KERN_PACK_GROUP, scale, offset, f);
            else
                kv_group(out + r * ld + c, codes, n, scale, offset, f);
            left--;
        }
}
static void unpack_kv8(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols) {
    kv_unpack_int(out, ld, tile, rows, cols, ASSAY_KERN_KV8);
}
static void unpack_kv4(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols) {
    kv_unpack_int(out, ld, tile, rows, cols, ASSAY_KERN_KV4);
}
static void unpack_kve4m3(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols) {
    size_t stride = assay_kern_pack_stride(ASSAY_KERN_KVE4M3, cols);
    float s;
    memcpy(&s, tile + rows * stride, sizeof s);
    v16 scale = v16_set1(s);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += 16)
            v16_store(out + r * ld + c, v16_mul(kv_e4m3(v16i_u8(tile + r * stride + c)), scale));
}

static inline void set_att(assay_kern *k) {
    k->unpack_kv[ASSAY_KERN_KV8] = unpack_kv8;
    k->unpack_kv[ASSAY_KERN_KV4] = unpack_kv4;
    k->unpack_kv[ASSAY_KERN_KVE4M3] = unpack_kve4m3;
    k->att_page[ASSAY_KERN_KV_F32] = att_page_f32;
    k->att_page[ASSAY_KERN_KV_BF16] = att_page_bf16;
    k->att_page[ASSAY_KERN_KV_F16] = att_page_f16;
    k->att_finish = att_finish;
}

#endif
