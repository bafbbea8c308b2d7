/* clip.c: parameters that lose least: the clipping search of llm-compressor's memoryless MSE observer
 * (observers/mse_quant.py: maxshrink 0.20, grid 100, patience 5, norm 2.4). Twenty grids, each 1 % narrower
 * than the one before, are tried per group; the one with the least sum of |error|^2.4 wins, the wider one
 * when equal. The original stops when five steps in a row improved no group of the whole matrix; since a
 * group's own history does not depend on the others, each group is searched alone and remembers in a bit mask
 * at which steps it improved, and the common stop is found from the union of the masks.
 *
 * The errors are float32 (the original's are in the model's dtype, where bfloat16 sums hide most
 * differences).
 *
 * Speed. Which steps improve is all that is wanted, so twenty sums are first estimated with a bound on how
 * far each can be from the exact one (which is assay_grid_error), and exact sums are computed only where two
 * estimates are too close to tell. Results are those of exact sums throughout. The estimate: values that no
 * step clips have |x - round(x)| = f <= 1/2 in units of the scale, and there f^2.4 is f^2 times a polynomial,
 * without division, logarithm or clamping; the few others are computed exactly. */
#include <math.h>
#include <string.h>

#include "num/convert.h"
#include "precision/encode.h"

enum { PATIENCE = 5, LANES = 16, CHUNK = 512 };

#define ROUNDER 12582912.0f

void assay_clip_extremes(float *lo, float *hi, int step, assay_dtype dtype) {
    float shrink = (float)(1.0 - step / 100.0);
    *lo = assay_round_to(*lo * shrink, dtype);
    *hi = assay_round_to(*hi * shrink, dtype);
}

int assay_clip_stop(uint32_t improved) {
    int idle = 0;
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        idle = improved >> i & 1 ? 0 : idle + 1;
        if (idle >= PATIENCE) return i + 1;
    }
    return ASSAY_CLIP_STEPS;
}

/* power[k] = |e[k]|^2.4, as 2^(2.4 log2 |e|), good to about 1e-6: powf would cost more than all the rest. No
 * float comparison stands in it, so that the loop vectorizes. */
static inline void powers(float *restrict power, const float *restrict e, int n) {
    for (int k = 0; k < n; k++) {
        uint32_t u;
        float m, power_of_two;
        memcpy(&u, &e[k], 4);
        u &= 0x7fffffffu;
        int32_t exponent =
            (int32_t)(u - 0x3f3504f3u) >> 23; /* of the number scaled into [sqrt(1/2), sqrt(2)) */
        u -= (uint32_t)exponent << 23;
        memcpy(&m, &u, 4);
        float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
        float log2m = s * (2.8853901f + s2 * (0.96179669f + s2 * (0.57707802f + s2 * 0.41219859f)));
        float y = 2.4f * ((float)exponent + log2m), whole = (y + ROUNDER) - ROUNDER, f = y - whole;
        float p =
            1.0f + f * (0.69314718f +
                        f * (0.24022651f + f * (0.055504109f + f * (0.0096181291f + f * 0.0013333558f))));
        int32_t biased = (int32_t)whole + 127;
        biased = biased < 0 ? 0 : biased;
        biased = biased > 254 ? 254 : biased;
        u = (uint32_t)biased << 23;
        memcpy(&power_of_two, &u, 4);
        power[k] = p * power_of_two;
    }
}

static inline void add_powers(float *restrict sum, const float *restrict values, const float *restrict w,
                              const float *restrict weight, int n) {
    float e[LANES], p[LANES];
    for (int k = 0; k < n; k++) e[k] = values[k] - w[k];
    powers(p, e, n);
    if (weight)
        for (int k = 0; k < n; k++) p[k] *= weight[k];
    for (int k = 0; k < n; k++) sum[k] += p[k];
}

double assay_grid_error(const assay_grid_spec *s, const assay_grid *g, const float *w, size_t n,
                        const float *weight) {
    float sum[LANES] = {0}, values[CHUNK];
    double total = 0;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t m = ASSAY_MIN((size_t)CHUNK, n - at), i = 0;
        const float *x = w + at, *k = weight ? weight + at : NULL;
        assay_grid_round(NULL, values, s, g, x, m);
        for (; i + LANES <= m; i += LANES) add_powers(sum, values + i, x + i, k ? k + i : NULL, LANES);
        add_powers(sum, values + i, x + i, k ? k + i : NULL, (int)(m - i));
    }
    for (int k = 0; k < LANES; k++) total += sum[k];
    return total;
}

/* One step of the search. */
typedef struct step {
    assay_grid grid;
    double estimate, bound; /* of the sum of |error|^2.4 and how far it can be off */
    double exact;           /* < 0: not computed */
} step;

/* What the estimates need of all steps: x = w * inverse + zero, signed codes. */
typedef struct units {
    float scale[ASSAY_CLIP_STEPS], inverse[ASSAY_CLIP_STEPS], zero[ASSAY_CLIP_STEPS];
    float unit[ASSAY_CLIP_STEPS]; /* scale^2.4 */
} units;

/* Sums of f^2.4; f the distance to the nearest code in units of the scale.
 *
 * Inner values are those that no step clips: f <= 1/2, and each term is off by at most UNIT_ERROR and the
 * rounding of x. Here n of them, a multiple of LANES, on one step. */
#define UNIT_ERROR 2.5e-5
static float sum_inner(const float *restrict w, size_t n, float inverse, float zero) {
    float sum[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float x = w[i + (size_t)k] * inverse + zero, f = fabsf(x - ((x + ROUNDER) - ROUNDER));
            sum[k] += f * f *
                      (0.2034131f + f * (2.3865986f + f * (-5.2317885f + f * (7.6586936f + f * -4.613439f))));
        }
    }
    for (int half = LANES / 2; half; half /= 2)
        for (int k = 0; k < half; k++) sum[k] += sum[k + half];
    return sum[0];
}

/* Outer values are few: each on all steps at once. */
static void sum_outer(float *restrict sum, const float *restrict w, size_t n, const units *restrict u,
                      float middle) {
    for (size_t i = 0; i < n; i++) {
        float f[ASSAY_CLIP_STEPS], p[ASSAY_CLIP_STEPS], value = w[i], lo = -middle, hi = middle - 1;
        for (int k = 0; k < ASSAY_CLIP_STEPS; k++) {
            float x = value * u->inverse[k] + u->zero[k], q = x < lo ? lo : x;
            q = q > hi ? hi : q;
            f[k] = x - ((q + ROUNDER) - ROUNDER);
        }
        powers(p, f, ASSAY_CLIP_STEPS);
        for (int k = 0; k < ASSAY_CLIP_STEPS; k++) sum[k] += p[k];
    }
}

/* The range that no step clips by more than half a step of its grid. */
static void common_range(float *lo, float *hi, const step *steps, float middle) {
    *lo = -INFINITY;
    *hi = INFINITY;
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        const assay_grid *g = &steps[i].grid;
        float bottom = (-0.5f - g->zero) * g->scale, top = (2 * middle - 0.5f - g->zero) * g->scale;
        *lo = ASSAY_MAX(*lo, bottom);
        *hi = ASSAY_MIN(*hi, top);
    }
}

/* Splits n <= CHUNK values by the range; the inner ones padded to LANES with zeros, which every grid holds.
 */
static void split(float *inner, size_t *n_inner, float *outer, size_t *n_outer, const float *w, size_t n,
                  float lo, float hi) {
    size_t a = 0, b = 0;
    for (size_t i = 0; i < n; i++) { /* both are written, one is kept */
        inner[a] = outer[b] = w[i];
        bool in = w[i] >= lo && w[i] <= hi;
        a += in;
        b += !in;
    }
    while (a % LANES) inner[a++] = 0;
    *n_inner = a;
    *n_outer = b;
}

static void estimate(step *steps, const assay_grid_spec *s, const float *w, size_t n) {
    float inner[CHUNK + LANES], outer[CHUNK + 1], lo, hi;
    float middle = (float)(1 << (assay_precision_bits(s->precision) - 1));
    units u;
    size_t n_inner, n_outer;
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        u.scale[i] = steps[i].grid.scale;
        u.inverse[i] = 1.0f / steps[i].grid.scale;
        u.zero[i] = steps[i].grid.zero - middle;
    }
    powers(u.unit, u.scale, ASSAY_CLIP_STEPS);
    common_range(&lo, &hi, steps, middle);
    for (size_t at = 0; at < n; at += CHUNK) {
        float sum[ASSAY_CLIP_STEPS] = {0};
        split(inner, &n_inner, outer, &n_outer, w + at, ASSAY_MIN((size_t)CHUNK, n - at), lo, hi);
        sum_outer(sum, outer, n_outer, &u, middle);
        for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
            sum[i] += sum_inner(inner, n_inner, u.inverse[i], u.zero[i]);
            steps[i].estimate += (double)u.unit[i] * (double)sum[i];
        }
    }
    /* x is up to 2 middle and rounded three times here and twice there: its distance d to the exact one is
     * below 5e-7 middle. A term grows with it by less than d where f <= 1/2 and by less than 4.8 d of itself
     * elsewhere. Sums of up to CHUNK floats here and n / LANES there lose half an ulp at each addition;
     * powers() and the polynomial's own rounding are within 2e-5. */
    double d = 5e-7 * (double)middle, absolute = (double)n * (UNIT_ERROR + d);
    double relative = 1e-4 + 4.8 * d + 1.2e-7 * (double)(n / LANES + LANES);
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++)
        steps[i].bound = absolute * (double)u.unit[i] + relative * steps[i].estimate;
}

static double exact(step *p, const assay_grid_spec *s, const float *w, size_t n) {
    if (p->exact < 0) p->exact = assay_grid_error(s, &p->grid, w, n, NULL);
    return p->exact;
}

uint32_t assay_clip_improvements(const assay_grid_spec *s, const float *w, size_t n, float lo, float hi) {
    step steps[ASSAY_CLIP_STEPS] = {0};
    uint32_t improved = 0;
    bool ordinary = true; /* scales whose powers are far from the ends of float32 */
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        float a = lo, b = hi;
        assay_clip_extremes(&a, &b, i, s->scale_dtype);
        assay_grid_from_range(&steps[i].grid, s, a, b);
        float scale = steps[i].grid.scale;
        steps[i].exact = -1;
        ordinary = ordinary && scale > 1e-10f && scale < 1e10f;
    }
    if (ordinary) estimate(steps, s, w, n);
    step first = {.exact = 3.402823466e38}, *best = &first; /* FLT_MAX, where the original starts */
    first.estimate = first.exact;
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        step *p = &steps[i];
        double gap = best->estimate - p->estimate, unsure = p->bound + best->bound;
        bool better = ordinary && fabs(gap) > unsure ? gap > 0 : exact(p, s, w, n) < exact(best, s, w, n);
        if (!better) continue;
        improved |= 1u << i;
        best = p;
    }
    return improved;
}

/* A block of rows that share their parameters; rows lie `stride` apart. weight NULL or laid out like w. */
typedef struct patch {
    const float *w, *weight;
    int64_t n_rows, stride;
    size_t n;
} patch;

static double patch_error(const assay_grid_spec *s, const assay_grid *g, const patch *p) {
    double e = 0;
    for (int64_t r = 0; r < p->n_rows; r++)
        e += assay_grid_error(s, g, p->w + r * p->stride, p->n, p->weight ? p->weight + r * p->stride : NULL);
    return e;
}

/* The best of all steps by exact sums, for any precision and with weights. */
static int best_step(const assay_grid_spec *s, const patch *p, float lo, float hi) {
    int best = 0;
    double least = INFINITY;
    float tried = NAN;
    for (int i = 0; i < ASSAY_CLIP_STEPS; i++) {
        assay_grid g;
        float a = lo, b = hi;
        assay_clip_extremes(&a, &b, i, s->scale_dtype);
        assay_grid_from_range(&g, s, a, b);
        if (!s->asymmetric && g.scale == tried) continue; /* coarse scales: many steps are one grid */
        tried = g.scale;
        double e = patch_error(s, &g, p);
        if (!(e < least)) continue;
        least = e;
        best = i;
    }
    return best;
}

static void fit(assay_grid *out, const assay_grid_spec *s, const patch *p) {
    float lo, hi;
    assay_extremes(&lo, &hi, p->w, p->n);
    for (int64_t r = 1; r < p->n_rows; r++) {
        float a, b;
        assay_extremes(&a, &b, p->w + r * p->stride, p->n);
        lo = fminf(lo, a);
        hi = fmaxf(hi, b);
    }
    if (s->mse) {
        bool fast = !p->weight && p->n_rows == 1 &&
                    assay_precision_get_kind(s->precision) == ASSAY_KIND_INT && s->rule == ASSAY_SCALE_CT;
        uint32_t steps = fast ? assay_clip_improvements(s, p->w, p->n, lo, hi) : 0;
        int best = !fast ? best_step(s, p, lo, hi) : steps ? 31 - __builtin_clz(steps) : 0;
        assay_clip_extremes(&lo, &hi, best, s->scale_dtype);
    }
    assay_grid_from_range(out, s, lo, hi);
}

void assay_grid_fit_rows(assay_grid *out, const assay_grid_spec *s, const float *w, int64_t n_rows,
                         int64_t stride, size_t n) {
    fit(out, s, &(patch){.w = w, .n_rows = n_rows, .stride = stride, .n = n});
}

void assay_grid_fit(assay_grid *out, const assay_grid_spec *s, const float *w, size_t n,
                    const float *weight) {
    fit(out, s, &(patch){.w = w, .weight = weight, .n_rows = 1, .n = n});
    bool small = assay_precision_get_kind(s->precision) == ASSAY_KIND_CODEBOOK && n < (size_t)s->group_size;
    if (small) out->scale = out->stored = fmaxf(out->scale, ASSAY_CODEBOOK_FLOOR);
}
