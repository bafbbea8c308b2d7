/* block_search.c: the scale searches of ggml's encoders (ggml-quants.c: make_qx_quants,
 * make_qkx2/3_quants, make_qp_quants, make_q3_quants), to the bit. See block_search.h for the idea.
 *
 * Loops over LANES have constant trip counts and local accumulators, so that gcc vectorizes them at -O2. */
#include "precision/block_search.h"

#include <math.h>

enum { LANES = 4, LOWEST = -0x400000 /* no lower bound: what assay_nearest gives at least */ };

float assay_sum_squares(const float *w, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += w[i] * w[i];
    return sum;
}

void assay_temper(float *restrict weight, const float *restrict importance, const float *restrict w, int n,
                  float mean) {
    for (int i = 0; i < n; i += 8)
        for (int k = i; k < i + 8; k++) weight[k] = importance[k] * sqrtf(mean + w[k] * w[k]);
}

/* The weight of largest magnitude, the first of equals, with its sign. */
static float find_largest(float *magnitude, const float *w, int n) {
    float largest = 0, best = 0;
    for (int i = 0; i < n; i++) {
        float a = fabsf(w[i]);
        if (a > best) {
            best = a;
            largest = w[i];
        }
    }
    *magnitude = best;
    return largest;
}

static void clear(uint8_t *codes, int n) {
    for (int i = 0; i < n; i++) codes[i] = 0;
}

/* --- symmetric --- */

/* For LANES scales: sum of weight w q and weight q^2 over the group. */
static inline void sum_symmetric(float *restrict swq, float *restrict sqq, const float *restrict inverse,
                                 const float *restrict w, const float *restrict weight, int n, int levels) {
    float a[LANES] = {0}, b[LANES] = {0}, s[LANES];
    for (int k = 0; k < LANES; k++) s[k] = inverse[k];
    for (int i = 0; i < n; i++) {
        float x = w[i], v = weight[i], vx = v * x;
        for (int k = 0; k < LANES; k++) {
            float q = (float)assay_nearest_within(s[k] * x, -levels, levels - 1);
            a[k] += vx * q;
            b[k] += v * q * q;
        }
    }
    for (int k = 0; k < LANES; k++) swq[k] = a[k];
    for (int k = 0; k < LANES; k++) sqq[k] = b[k];
}

float assay_search_symmetric(uint8_t *codes, const float *w, const float *weight, int n, int levels) {
    /* The middle rung comes first and is taken as it is; the others lie a tenth of a level apart on either
     * side of it. */
    enum { REACH = 9, RUNGS = 2 * REACH + 1, PADDED = (RUNGS + LANES - 1) / LANES * LANES };
    float magnitude, largest = find_largest(&magnitude, w, n);
    float own[ASSAY_SEARCH_MAX], inverse[PADDED], swq[PADDED], sqq[PADDED];
    if (magnitude < ASSAY_SEARCH_TINY) {
        clear(codes, n);
        return 0;
    }
    if (!weight) {
        for (int i = 0; i < n; i++) own[i] = w[i] * w[i];
        weight = own;
    }
    inverse[0] = -(float)levels / largest;
    for (int r = -REACH, t = 1; r <= REACH; r++)
        if (r != 0) inverse[t++] = -((float)levels + 0.1f * (float)r) / largest;
    for (int t = RUNGS; t < PADDED; t++) inverse[t] = 0;
    for (int t = 0; t < PADDED; t += LANES)
        sum_symmetric(swq + t, sqq + t, inverse + t, w, weight, n, levels);
    float scale = sqq[0] != 0 ? swq[0] / sqq[0] : 0, best = scale * swq[0];
    int chosen = 0;
    for (int t = 1; t < RUNGS; t++) {
        if (!(sqq[t] > 0) || !(swq[t] * swq[t] > best * sqq[t])) continue;
        scale = swq[t] / sqq[t];
        best = scale * swq[t];
        chosen = t;
    }
    for (int i = 0; i < n; i++)
        codes[i] = (uint8_t)(levels + assay_nearest_within(inverse[chosen] * w[i], -levels, levels - 1));
    return scale;
}

/* --- shifted --- */

typedef struct shifted {
    const float *w, *weight;
    int n, top;
    bool absolute;
    float low, sum, sum_w; /* smallest weight or 0, then the best minimum; sums of weight and weight w */
} shifted;

/* What LANES rungs came to. */
typedef struct rungs {
    float scale[LANES], min[LANES], error[LANES];
    float q[ASSAY_SEARCH_MAX][LANES];
} rungs;

static inline void sum_errors(float *restrict error, const shifted *s, const float *restrict scale,
                              const float *restrict min, const float (*restrict q)[LANES]) {
    float e[LANES] = {0}, a[LANES], b[LANES];
    for (int k = 0; k < LANES; k++) a[k] = scale[k];
    for (int k = 0; k < LANES; k++) b[k] = min[k];
    for (int i = 0; i < s->n; i++) {
        float x = s->w[i], v = s->weight[i];
        if (s->absolute) {
            for (int k = 0; k < LANES; k++) e[k] += v * fabsf(a[k] * q[i][k] + b[k] - x);
        } else {
            for (int k = 0; k < LANES; k++) {
                float d = a[k] * q[i][k] + b[k] - x;
                e[k] += v * (d * d);
            }
        }
    }
    for (int k = 0; k < LANES; k++) error[k] = e[k];
}

/* Codes for LANES scales, and the scale and minimum that fit them best (weighted least squares; no minimum
 * above 0). */
static void try_shifted(rungs *restrict r, const shifted *s, const float *restrict inverse) {
    float sq[LANES] = {0}, sqq[LANES] = {0}, swq[LANES] = {0}, a[LANES];
    for (int k = 0; k < LANES; k++) a[k] = inverse[k];
    for (int i = 0; i < s->n; i++) {
        float x = s->w[i], v = s->weight[i], rise = x - s->low;
        for (int k = 0; k < LANES; k++) {
            float q = (float)assay_nearest_within(a[k] * rise, 0, s->top), vq = v * q;
            r->q[i][k] = q;
            sq[k] += vq;
            sqq[k] += vq * q;
            swq[k] += vq * x;
        }
    }
    for (int k = 0; k < LANES; k++) {
        float det = s->sum * sqq[k] - sq[k] * sq[k];
        r->scale[k] = (s->sum * swq[k] - s->sum_w * sq[k]) / det;
        r->min[k] = (sqq[k] * s->sum_w - sq[k] * swq[k]) / det;
        if (r->min[k] > 0) {
            r->min[k] = 0;
            r->scale[k] = swq[k] / sqq[k];
        }
        if (!(det > 0)) r->scale[k] = NAN; /* makes its error NaN, which is below nothing */
    }
    sum_errors(r->error, s, r->scale, r->min, r->q);
}

float assay_search_shifted(uint8_t *codes, float *min, const float *w, const float *weight, int n, int top,
                           const assay_ladder *ladder) {
    shifted s = {w, weight, n, top, ladder->absolute, w[0], weight[0], weight[0] * w[0]};
    float high = w[0];
    for (int i = 1; i < n; i++) {
        s.low = w[i] < s.low ? w[i] : s.low;
        high = w[i] > high ? w[i] : high;
        s.sum += weight[i];
        s.sum_w += weight[i] * w[i];
    }
    if (s.low > 0) s.low = 0;
    if (high <= s.low) {
        clear(codes, n);
        *min = -s.low;
        return 0;
    }

    /* The plain range first; its scale is the inverse of the inverse. */
    float inverse = (float)top / (high - s.low), scale = 1 / inverse, best = 0;
    for (int i = 0; i < n; i++) {
        codes[i] = (uint8_t)assay_nearest_within(inverse * (w[i] - s.low), 0, top);
        float d = scale * (float)codes[i] + s.low - w[i];
        best += weight[i] * (ladder->absolute ? fabsf(d) : d * d);
    }
    /* A rung that is better moves the minimum from which the next ones measure: those tried beside it are
     * tried again. */
    rungs r;
    for (int t = 0; t < ladder->rungs;) {
        float rung[LANES];
        for (int k = 0; k < LANES; k++)
            rung[k] = (ladder->start + ladder->step * (float)(t + k) + (float)top) / (high - s.low);
        try_shifted(&r, &s, rung);
        int end = t + LANES, k = 0;
        for (; t < end && t < ladder->rungs && !(r.error[k] < best); k++) t++;
        if (t == end || t == ladder->rungs) continue;
        t++;
        best = r.error[k];
        scale = r.scale[k];
        s.low = r.min[k];
        for (int i = 0; i < n; i++) codes[i] = (uint8_t)r.q[i][k];
    }
    *min = -s.low;
    return scale;
}

/* --- positive --- */

/* Where the search for codes one by one stands: q = code + offset in [lo, hi]; sums of weight w q and
 * weight q^2. */
typedef struct stand {
    int offset, lo, hi;
    float swq, sqq;
} stand;

/* Changes codes one by one, each to what its weight would want if the others stood, as long as that raises
 * swq^2 / sqq; at most five rounds. `last`: the only code that is not zero is let be. */
static float refine(uint8_t *codes, const float *w, const float *weight, int n, stand s, bool last) {
    for (int round = 0; round < 5; round++) {
        bool changed = false;
        for (int i = 0; i < n; i++) {
            int old = codes[i] + s.offset;
            float v = weight[i], vw = v * w[i], a = s.swq - vw * (float)old,
                  b = s.sqq - v * (float)old * (float)old;
            if (!(a > 0) || (last && !(b > 0))) continue;
            int q = assay_nearest_within(w[i] * b / a, s.lo, s.hi);
            if (q == old) continue;
            a += vw * (float)q;
            b += v * (float)q * (float)q;
            if (!(b > 0) || !(a * a * s.sqq > s.swq * s.swq * b)) continue;
            codes[i] = (uint8_t)(q - s.offset);
            s.swq = a;
            s.sqq = b;
            changed = true;
        }
        if (!changed) break;
    }
    return s.sqq > 0 ? s.swq / s.sqq : 0;
}

/* Weighted squared errors of LANES scales. */
static inline void sum_positive_errors(float *restrict error, const float *restrict inverse,
                                       const float *restrict w, const float *restrict weight, int n,
                                       int top) {
    float e[LANES] = {0}, a[LANES], scale[LANES];
    for (int k = 0; k < LANES; k++) a[k] = inverse[k];
    for (int k = 0; k < LANES; k++) scale[k] = 1 / a[k];
    for (int i = 0; i < n; i++) {
        float x = w[i], v = weight[i];
        for (int k = 0; k < LANES; k++) {
            int32_t l = assay_nearest(a[k] * x);
            float d = x - scale[k] * (float)(l < top ? l : top);
            e[k] += v * d * d;
        }
    }
    for (int k = 0; k < LANES; k++) error[k] = e[k];
}

float assay_search_positive(uint8_t *codes, const float *w, const float *weight, int n, int top) {
    enum { REACH = 4, RUNGS = 2 * REACH };
    float largest = 0, best = 0;
    for (int i = 0; i < n; i++) largest = w[i] > largest ? w[i] : largest;
    if (largest < ASSAY_SEARCH_TINY) {
        clear(codes, n);
        return 0;
    }
    float inverse = (float)top / largest, scale = 1 / inverse, rung[RUNGS], error[RUNGS];
    for (int i = 0; i < n; i++) {
        float d = w[i] - scale * (float)(uint8_t)assay_nearest(inverse * w[i]);
        best += weight[i] * d * d;
    }
    for (int t = 0; t < RUNGS; t++)
        rung[t] = (0.1f * (float)(t < REACH ? t - REACH : t - REACH + 1) + (float)top) / largest;
    for (int t = 0; t < RUNGS; t += LANES) sum_positive_errors(error + t, rung + t, w, weight, n, top);
    for (int t = 0; t < RUNGS; t++) {
        if (!(error[t] < best)) continue;
        best = error[t];
        inverse = rung[t];
    }
    stand s = {.lo = LOWEST, .hi = top};
    for (int i = 0; i < n; i++) {
        int q = assay_nearest_within(inverse * w[i], s.lo, s.hi);
        codes[i] = (uint8_t)q;
        s.swq += weight[i] * w[i] * (float)q;
        s.sqq += weight[i] * (float)q * (float)q;
    }
    return refine(codes, w, weight, n, s, true);
}

/* --- stepwise --- */

float assay_search_stepwise(uint8_t *codes, const float *w, int n, int levels) {
    float magnitude, largest = find_largest(&magnitude, w, n), weight[ASSAY_SEARCH_MAX];
    if (magnitude < ASSAY_SEARCH_TINY) {
        clear(codes, n);
        return 0;
    }
    float inverse = -(float)levels / largest;
    stand s = {.offset = -levels, .lo = -levels, .hi = levels - 1};
    for (int i = 0; i < n; i++) {
        int q = assay_nearest_within(inverse * w[i], s.lo, s.hi);
        codes[i] = (uint8_t)(q - s.offset);
        weight[i] = w[i] * w[i];
        s.swq += weight[i] * w[i] * (float)q;
        s.sqq += weight[i] * (float)q * (float)q;
    }
    return refine(codes, w, weight, n, s, false);
}
