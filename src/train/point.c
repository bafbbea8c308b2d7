/* point.c: see point.h. Loops over sixteen lanes are written with a constant bound, so that compilers vectorise them without special
 * flags; where exponentials are the cost, functions are compiled for several instruction sets and picked when the program is loaded:
 * without contraction all of them give the same bits. The exponential is Cephes' (Moshier 1992): 2^n times a polynomial on |r| <= ln 2 / 2. */
#include "train/point.h"

#include <math.h>
#include <string.h>
#include "base/status.h"
#include "base/thread.h"

#define GRAIN 8192 /* elements that are worth a task */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ASSAY_SANITIZED)
#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_CPU
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE void exp_lanes(float *y, const float *x) {
    float z[ASSAY_LANES], r[ASSAY_LANES];
    uint32_t bits[ASSAY_LANES];
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    for (int i = 0; i < ASSAY_LANES; i++) {
        float v = x[i] < -87.0f ? -87.0f : x[i];
        v = v > 88.0f ? 88.0f : v;
        z[i] = v * 1.44269504088896341f + magic;
        float n = z[i] - magic;
        r[i] = (v - n * 0.693359375f) - n * -2.12194440e-4f;
    }
    memcpy(bits, z, sizeof bits);
    for (int i = 0; i < ASSAY_LANES; i++) bits[i] = (bits[i] + 127u) << 23; /* the magic's own bits are shifted out */
    memcpy(z, bits, sizeof bits);
    for (int i = 0; i < ASSAY_LANES; i++) {
        float v = r[i], p = 1.9875691500e-4f;
        p = p * v + 1.3981999507e-3f;
        p = p * v + 8.3334519073e-3f;
        p = p * v + 4.1665795894e-2f;
        p = p * v + 1.6666665459e-1f;
        p = p * v + 5.0000001201e-1f;
        y[i] = (p * (v * v) + v + 1.0f) * z[i];
    }
}

EVERY_CPU void assay_exp(float *y, const float *x, float scale, float shift, size_t n) {
    for (size_t i = 0; i < n; i += ASSAY_LANES) {
        float v[ASSAY_LANES];
        for (size_t k = 0; k < ASSAY_LANES; k++) v[k] = x[i + k] * scale - shift;
        exp_lanes(y + i, v);
    }
}

typedef struct job {
    float *y, *y2, *inv;
    const float *a, *b, *c, *base;
    const int32_t *pos;
    size_t n, n_rows, n_heads, half;
    float eps, sign;
    assay_gate_fn fn;
} job;

static size_t row_grain(size_t n) {
    return ASSAY_MAX((size_t)1, GRAIN / ASSAY_MAX(n, (size_t)1));
}

/* Sum of a[i] * b[i] in sixteen lanes. */
static float dot(const float *a, const float *b, size_t n) {
    float lane[ASSAY_LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + ASSAY_LANES <= n; i += ASSAY_LANES)
        for (int j = 0; j < ASSAY_LANES; j++) lane[j] += a[i + (size_t)j] * b[i + (size_t)j];
    for (int j = 0; i < n; i++, j++) lane[j] += a[i] * b[i];
    for (int j = 0; j < ASSAY_LANES; j++) sum += lane[j];
    return sum;
}

/* --- norms --- */

static float inverse_rms(const float *x, size_t n, float eps) {
    return 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
}

static void norm_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const float *x = j->a + r * j->n;
        float inv = inverse_rms(x, j->n, j->eps);
        for (size_t i = 0; i < j->n; i++) j->y[r * j->n + i] = x[i] * inv * j->b[i];
    }
}
void assay_norm_forward(float *y, const float *x, const float *w, size_t n_rows, size_t n, float eps, int n_threads) {
    job j = {.y = y, .a = x, .b = w, .n = n, .eps = eps};
    assay_parallel_range(n_threads, n_rows, row_grain(n), norm_rows, &j);
}

static void norm_inverses(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++) j->inv[r] = inverse_rms(j->b + r * j->n, j->n, j->eps);
}
static void norm_weight_columns(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = 0; r < j->n_rows; r++) {
        const float *dy = j->a + r * j->n, *x = j->b + r * j->n;
        for (size_t i = begin; i < end; i++) j->y2[i] += dy[i] * x[i] * j->inv[r];
    }
}
/* With g = dy * w: dx = inv * (g - x * inv^2 * mean(g * x)). */
static void norm_back_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const float *dy = j->a + r * j->n, *x = j->b + r * j->n;
        float *dx = j->y + r * j->n, inv = j->inv[r], lane[ASSAY_LANES] = {0}, sum = 0;
        for (size_t i = 0; i < j->n; i++) lane[i % ASSAY_LANES] += dy[i] * j->c[i] * x[i];
        for (int i = 0; i < ASSAY_LANES; i++) sum += lane[i];
        float back = sum / (float)j->n * inv * inv;
        for (size_t i = 0; i < j->n; i++) {
            float g = inv * (dy[i] * j->c[i] - x[i] * back);
            dx[i] = j->base ? j->base[r * j->n + i] + g : g;
        }
    }
}
void assay_norm_backward(float *dx, float *dw, const float *base, const float *dy, const float *x, const float *w, float *inv,
                         size_t n_rows, size_t n, float eps, int n_threads) {
    job j = {.y = dx, .y2 = dw, .inv = inv, .a = dy, .b = x, .c = w, .base = base, .n = n, .n_rows = n_rows, .eps = eps};
    assay_parallel_range(n_threads, n_rows, row_grain(n), norm_inverses, &j);
    if (dw) assay_parallel_range(n_threads, n, 64, norm_weight_columns, &j);
    if (dx) assay_parallel_range(n_threads, n_rows, row_grain(n), norm_back_rows, &j);
}

/* --- gates --- */

/* value and slope of the gate function */
INLINE void silu_lanes(float *f, float *slope, const float *g) {
    float e[ASSAY_LANES];
    for (int i = 0; i < ASSAY_LANES; i++) e[i] = -g[i];
    exp_lanes(e, e);
    for (int i = 0; i < ASSAY_LANES; i++) {
        float s = 1.0f / (1.0f + e[i]);
        f[i] = g[i] * s;
        slope[i] = s + f[i] * (1.0f - s);
    }
}
/* tanh form: g * sigmoid(2u), u = sqrt(2/pi) (g + 0.044715 g^3) */
INLINE void gelu_tanh_lanes(float *f, float *slope, const float *g) {
    const float k = 1.5957691216057308f, c = 0.044715f;
    float e[ASSAY_LANES];
    for (int i = 0; i < ASSAY_LANES; i++) e[i] = -k * (g[i] + c * g[i] * g[i] * g[i]);
    exp_lanes(e, e);
    for (int i = 0; i < ASSAY_LANES; i++) {
        float s = 1.0f / (1.0f + e[i]);
        f[i] = g[i] * s;
        slope[i] = s + f[i] * (1.0f - s) * k * (1.0f + 3.0f * c * g[i] * g[i]);
    }
}
INLINE void gelu_lanes(float *f, float *slope, const float *g) {
    float density[ASSAY_LANES];
    for (int i = 0; i < ASSAY_LANES; i++) density[i] = -0.5f * g[i] * g[i];
    exp_lanes(density, density);
    for (int i = 0; i < ASSAY_LANES; i++) {
        float s = 0.5f * erfcf(-0.70710678118654752f * g[i]);
        f[i] = g[i] * s;
        slope[i] = s + g[i] * density[i] * 0.39894228040143268f;
    }
}

INLINE void gate_lanes(float *f, float *slope, const float *g, assay_gate_fn fn) {
    if (fn == ASSAY_GATE_SILU)
        silu_lanes(f, slope, g);
    else if (fn == ASSAY_GATE_GELU_TANH)
        gelu_tanh_lanes(f, slope, g);
    else
        gelu_lanes(f, slope, g);
}

/* The last lanes of a range may be too few: they go through copies. */
INLINE size_t take_lanes(float *out, const float *x, size_t begin, size_t end) {
    size_t n = ASSAY_MIN((size_t)ASSAY_LANES, end - begin);
    if (n == ASSAY_LANES)
        for (int k = 0; k < ASSAY_LANES; k++) out[k] = x[begin + (size_t)k];
    else
        for (size_t k = 0; k < n; k++) out[k] = x[begin + k];
    return n;
}
INLINE void give_lanes(float *y, const float *x, size_t n) {
    if (n == ASSAY_LANES)
        memcpy(y, x, ASSAY_LANES * sizeof *y);
    else
        memcpy(y, x, n * sizeof *y);
}

EVERY_CPU static void gate_range(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    float g[ASSAY_LANES] = {0}, u[ASSAY_LANES] = {0}, f[ASSAY_LANES], slope[ASSAY_LANES];
    for (size_t i = begin; i < end; i += ASSAY_LANES) {
        size_t n = take_lanes(g, j->a, i, end);
        take_lanes(u, j->b, i, end);
        gate_lanes(f, slope, g, j->fn);
        for (int k = 0; k < ASSAY_LANES; k++) f[k] *= u[k];
        give_lanes(j->y + i, f, n);
    }
}
void assay_gate_forward(float *y, const float *gate, const float *up, size_t n, assay_gate_fn fn, int n_threads) {
    job j = {.y = y, .a = gate, .b = up, .fn = fn};
    assay_parallel_range(n_threads, n, GRAIN, gate_range, &j);
}

EVERY_CPU static void gate_back_range(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    float g[ASSAY_LANES] = {0}, u[ASSAY_LANES] = {0}, dy[ASSAY_LANES] = {0}, f[ASSAY_LANES], slope[ASSAY_LANES];
    for (size_t i = begin; i < end; i += ASSAY_LANES) {
        size_t n = take_lanes(g, j->a, i, end);
        take_lanes(u, j->b, i, end);
        take_lanes(dy, j->c, i, end);
        gate_lanes(f, slope, g, j->fn);
        for (int k = 0; k < ASSAY_LANES; k++) {
            slope[k] *= dy[k] * u[k];
            f[k] *= dy[k];
        }
        give_lanes(j->y + i, slope, n);
        give_lanes(j->y2 + i, f, n);
    }
}
void assay_gate_backward(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, size_t n, assay_gate_fn fn,
                         int n_threads) {
    job j = {.y = d_gate, .y2 = d_up, .a = gate, .b = up, .c = dy, .fn = fn};
    assay_parallel_range(n_threads, n, GRAIN, gate_back_range, &j);
}

/* --- rotations --- */

static void turn_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    size_t half = j->half, width = j->n_heads * 2 * half;
    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const float *cosine = j->a + (size_t)j->pos[r] * 2 * half, *sine = cosine + half;
        for (size_t h = 0; h < j->n_heads; h++) {
            float *a = j->y + r * width + h * 2 * half, *b = a + half;
            for (size_t i = 0; i < half; i++) {
                float s = j->sign * sine[i], av = a[i], bv = b[i];
                a[i] = av * cosine[i] - bv * s;
                b[i] = bv * cosine[i] + av * s;
            }
        }
    }
}
void assay_turn(float *x, const float *angles, const int32_t *pos, size_t n_rows, size_t n_heads, size_t half, int direction,
                int n_threads) {
    job j = {.y = x, .a = angles, .pos = pos, .n_heads = n_heads, .half = half, .sign = (float)direction};
    assay_parallel_range(n_threads, n_rows, row_grain(n_heads * 2 * half), turn_rows, &j);
}

/* --- scores --- */

EVERY_CPU void assay_score_gradient(float *dp, const float *p, float mean, float scale, size_t n) {
    for (size_t i = 0; i < n; i += ASSAY_LANES)
        for (int k = 0; k < ASSAY_LANES; k++) {
            size_t at = i + (size_t)k;
            dp[at] = p[at] * (dp[at] - mean) * scale;
        }
}

/* --- sums --- */

static void bias_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++)
        for (size_t i = 0; i < j->n; i++) j->y[r * j->n + i] += j->a[i];
}
void assay_bias_add(float *x, const float *bias, size_t n_rows, size_t n, int n_threads) {
    job j = {.y = x, .a = bias, .n = n};
    if (bias) assay_parallel_range(n_threads, n_rows, row_grain(n), bias_rows, &j);
}

static void bias_columns(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = 0; r < j->n_rows; r++)
        for (size_t i = begin; i < end; i++) j->y[i] += j->a[r * j->n + i];
}
void assay_bias_sum(float *sum, const float *x, size_t n_rows, size_t n, int n_threads) {
    job j = {.y = sum, .a = x, .n = n, .n_rows = n_rows};
    if (sum) assay_parallel_range(n_threads, n, 64, bias_columns, &j);
}

static void sum_range(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++) j->y[i] = j->a[i] + j->b[i];
}
void assay_sum(float *y, const float *a, const float *b, size_t n, int n_threads) {
    job j = {.y = y, .a = a, .b = b};
    assay_parallel_range(n_threads, n, GRAIN, sum_range, &j);
}
