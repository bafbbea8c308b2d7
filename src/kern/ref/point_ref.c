/* kern/ref/point_ref.c: the reference for elementwise work, the norm, and exp and tanh (the sources are named
 * in kern/body/math.h). */
#include "kern/ref/ref.h"

static float horner(const float *c, int n, float x) {
    float p = c[0];
    for (int i = 1; i < n; i++) p = fmaf(p, x, c[i]);
    return p;
}

float assay_ref_exp(float x) {
    static const float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                              4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    if (isnan(x)) return x;
    if (x < -87.33f) return 0;
    if (x > 88.3762f) return INFINITY;
    float n = fmaf(x, 1.44269504088896341f, 12582912.0f) - 12582912.0f;
    float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
    return ldexpf(fmaf(horner(c, 6, r), r * r, r) + 1.0f, (int)n);
}
float assay_ref_tanh(float x) {
    static const float c[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f,
                              -3.33332819422e-1f};
    float a = fabsf(x), z = x * x;
    if (a < 0.625f) return fmaf(horner(c, 5, z) * z, x, x);
    float big = 1.0f - 2.0f / (assay_ref_exp(a + a) + 1.0f);
    return x < 0 ? 0.0f - big : big;
}

static float silu(float g) { return g / (1.0f + assay_ref_exp(0.0f - g)); }
static float gelu_tanh(float g) {
    return g / (1.0f + assay_ref_exp(g * fmaf(g * g, -0.0713548162726f, -1.5957691216057308f)));
}
static float gelu(float g) {
    static const float c[] = {0.17087277f,  -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                              -0.18628806f, 0.09678418f,  0.37409196f, 1.00002368f,  -1.26551223f};
    float h = g * g, e = fmaf(g, g, 0.0f - h), t = 1.0f / fmaf(fabsf(g), 0.35355339059327376f, 1.0f);
    float tail = 0.5f * t * (assay_ref_exp(-0.5f * h) * assay_ref_exp(fmaf(-0.5f, e, horner(c, 10, t))));
    return g * (g < 0 ? tail : 1.0f - tail);
}
static void gate_silu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = silu(g[i]) * (u ? u[i] : 1.0f);
}
static void gate_gelu_tanh(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = gelu_tanh(g[i]) * (u ? u[i] : 1.0f);
}
static void gate_gelu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = gelu(g[i]) * (u ? u[i] : 1.0f);
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps) {
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    float r = 1.0f / sqrtf(ref_fold(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = x[i] * r * w[i];
}
static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n, float eps) {
    float sum[16] = {0}, lane[16] = {0};
    for (size_t i = 0; i < n; i++) sum[i % 16] = fmaf(x[i], 1.0f, sum[i % 16]);
    float mean = ref_fold(sum) / (float)n;
    for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(x[i] - mean, x[i] - mean, lane[i % 16]);
    float r = 1.0f / sqrtf(ref_fold(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * r * w[i];
        y[i] = b ? v + b[i] : v;
    }
}
static void soft_cap(float *x, size_t n, float cap) {
    for (size_t i = 0; i < n; i++) x[i] = assay_ref_tanh(x[i] / cap) * cap;
}
static void add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}
static void rope(float *a, float *b, const float *cos, const float *sin, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float av = a[i], bv = b[i];
        a[i] = av * cos[i] - bv * sin[i];
        b[i] = bv * cos[i] + av * sin[i];
    }
}
static void to_bf16(uint16_t *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = assay_f32_to_bf16(x[i]);
}
static void round_f16(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = assay_f16_to_f32(assay_f32_to_f16(x[i]));
}

void assay_kern_set_point_ref(assay_kern *k) {
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
