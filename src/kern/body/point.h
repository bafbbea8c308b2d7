/* kern/body/point.h: elementwise work and the norm. Tails go through a zero-padded copy, so there is one loop
 * per operation. */
#ifndef ASSAY_KERN_POINT_H
#define ASSAY_KERN_POINT_H

#include "kern/body/math.h"

/* Up to 16 floats, zero-padded. */
VEC_FN v16 load_part(const float *p, size_t n) {
    if (n >= 16) return v16_load(p);
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v16_load(t);
}
VEC_FN void store_part(float *p, v16 v, size_t n) {
    if (n >= 16) {
        v16_store(p, v);
        return;
    }
    float t[16];
    v16_store(t, v);
    memcpy(p, t, n * sizeof *t);
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps) {
    v16 s = v16_zero();
    for (size_t i = 0; i < n; i += 16) {
        v16 v = load_part(x + i, n - i);
        s = v16_fma(v, v, s);
    }
    v16 r = v16_set1(1.0f / sqrtf(v16_sum(s) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16)
        store_part(y + i, v16_mul(v16_mul(load_part(x + i, n - i), r), load_part(w + i, n - i)), n - i);
}
static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n, float eps) {
    v16 sum = v16_zero(), s = v16_zero(), one = v16_set1(1.0f);
    for (size_t i = 0; i < n; i += 16)
        sum = v16_fma(load_part(x + i, n - i), one, sum);
    v16 mean = v16_set1(v16_sum(sum) / (float)n);
    for (size_t i = 0; i < n; i += 16) {
        float t[16] = {0}; /* what is past n must not count as -mean */
        store_part(t, v16_sub(load_part(x + i, n - i), mean), n - i);
        v16 v = v16_load(t);
        s = v16_fma(v, v, s);
    }
    v16 r = v16_set1(1.0f / sqrtf(v16_sum(s) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        v16 v = v16_mul(v16_mul(v16_sub(load_part(x + i, n - i), mean), r), load_part(w + i, n - i));
        store_part(y + i, b ? v16_add(v, load_part(b + i, n - i)) : v, n - i);
    }
}
static void soft_cap(float *x, size_t n, float cap) {
    v16 c = v16_set1(cap);
    for (size_t i = 0; i < n; i += 16)
        store_part(x + i, v16_mul(v16_tanh(v16_div(load_part(x + i, n - i), c)), c), n - i);
}
static void add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i += 16)
        store_part(x + i, v16_add(load_part(x + i, n - i), load_part(y + i, n - i)), n - i);
}
/* The other factor of a gate, or 1 where there is none. */
VEC_FN v16 up_part(const float *u, size_t i, size_t n) { return u ? load_part(u + i, n - i) : v16_set1(1.0f); }
static void gate_silu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += 16)
        store_part(y + i, v16_mul(v16_silu(load_part(g + i, n - i)), up_part(u, i, n)), n - i);
}
static void gate_gelu_tanh(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += 16)
        store_part(y + i, v16_mul(v16_gelu_tanh(load_part(g + i, n - i)), up_part(u, i, n)), n - i);
}
static void gate_gelu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += 16)
        store_part(y + i, v16_mul(v16_gelu(load_part(g + i, n - i)), up_part(u, i, n)), n - i);
}
/* Products and sums rounded one by one, as the eager float32 original does. */
static void rope(float *a, float *b, const float *cos, const float *sin, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        v16 av = load_part(a + i, n - i), bv = load_part(b + i, n - i);
        v16 c = load_part(cos + i, n - i), s = load_part(sin + i, n - i);
        store_part(a + i, v16_sub(v16_mul(av, c), v16_mul(bv, s)), n - i);
        store_part(b + i, v16_add(v16_mul(bv, c), v16_mul(av, s)), n - i);
    }
}
VEC_FN v16i bf16_words(v16 v) {
    v16i u = v16_bits(v);
    v16i r = v16i_srl(v16i_add(v16i_add(u, v16i_set1(0x7fff)), v16i_and(v16i_srl(u, 16), v16i_set1(1))), 16);
    v16i quiet = v16i_or(v16i_srl(u, 16), v16i_set1(0x40));
    return v16_bits(v16_if_nan(v, v16_of_bits(quiet), v16_of_bits(r)));
}
static void to_bf16(uint16_t *out, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16i_store_u16(out + i, bf16_words(v16_load(x + i)));
    if (i < n) {
        uint16_t t[16];
        v16i_store_u16(t, bf16_words(load_part(x + i, n - i)));
        memcpy(out + i, t, (n - i) * sizeof *t);
    }
}
static void round_f16(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) store_part(out + i, v16_round_f16(load_part(x + i, n - i)), n - i);
}

static inline void set_point(assay_kern *k) {
    k->rmsnorm = rmsnorm;
    k->layernorm = layernorm;
    k->soft_cap = soft_cap;
    k->add = add;
    k->gate[ASSAY_KERN_SILU] = gate_silu;
    k->gate[ASSAY_KERN_GELU_TANH] = gate_gelu_tanh;
    k->gate[ASSAY_KERN_GELU] = gate_gelu;
    k->rope = rope;
    k->to_bf16 = to_bf16;
    k->round_f16 = round_f16;
}

#endif
