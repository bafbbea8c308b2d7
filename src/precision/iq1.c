/* iq1.c: encoders of IQ1_S and IQ1_M: w ~ scale (t +- 1/8), t in {-1, 0, 1}, vectors of eight t from a
 * grid of 2,048 (ggml-quants.c: quantize_row_iq1_s_impl, quantize_row_iq1_m_impl). Layouts are in
 * block_expand.c.
 *
 * With three values the best assignment keeps the weights' order: sorted, the first i get the lowest
 * value, those from j on the highest. All pairs i <= j are tried, by running sums, with both shifts
 * (IQ1_M: one for each half of its sixteen weights). Then vectors go to points of the grid. The sort is
 * stable, because equal weights may weigh differently. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "precision/block_encode.h"
#include "precision/block_search.h"
#include "precision/iq_lattice.h"

enum { K = ASSAY_BLOCK_MAX, MAX_GROUP = 32 };

/* The values of the levels, shifted up (0) and down (1). */
static const float VALUES[2][3] = {{-0.875f, 0.125f, 1.125f}, {-1.125f, -0.125f, 0.875f}};

/* How a group was split. */
typedef struct split {
    uint8_t order[MAX_GROUP]; /* places of the weights, ascending */
    int first, second;        /* -1: nothing was found */
    int shifts;               /* IQ1_S: 0 up, 1 down; IQ1_M: bit 1 for the first half, bit 0 for the second */
    float scale;
} split;

static void sort(uint8_t *order, const float *w, int n) {
    for (int i = 0; i < n; i++) {
        int j = i;
        for (; j > 0 && w[order[j - 1]] > w[i]; j--) order[j] = order[j - 1];
        order[j] = (uint8_t)i;
    }
}

/* Takes one candidate if it is better than the best so far. */
static inline void consider(split *s, float *best, float swq, float sqq, int first, int second, int shifts) {
    if (!(sqq > 0) || !(swq * swq > *best * sqq)) return;
    s->scale = swq / sqq;
    *best = s->scale * swq;
    s->first = first;
    s->second = second;
    s->shifts = shifts;
}

/* --- the splits --- */

enum { S_SIZE = 32, S_PADDED = 36 };

/* For a fixed first boundary: sums for every second one. */
static inline void sum_splits(float *restrict swq, float *restrict sqq, const float *restrict x,
                              const float *restrict v, int first, const float *restrict q) {
    float x0 = (x[first] - x[0]) * q[0], v0 = (v[first] - v[0]) * q[0] * q[0];
    for (int j = 0; j < S_PADDED; j++) {
        swq[j] = x0 + (x[j] - x[first]) * q[1] + (x[S_SIZE] - x[j]) * q[2];
        sqq[j] = v0 + (v[j] - v[first]) * q[1] * q[1] + (v[S_SIZE] - v[j]) * q[2] * q[2];
    }
}

static void split_s(split *s, const float *w, const float *weight) {
    float x[S_PADDED] = {0}, v[S_PADDED] = {0}, swq[2][S_PADDED], sqq[2][S_PADDED], best = -FLT_MAX;
    sort(s->order, w, S_SIZE);
    s->first = -1;
    for (int j = 0; j < S_SIZE; j++) {
        int i = s->order[j];
        x[j + 1] = x[j] + weight[i] * w[i];
        v[j + 1] = v[j] + weight[i];
    }
    for (int i = 0; i <= S_SIZE; i++) {
        for (int k = 0; k < 2; k++) sum_splits(swq[k], sqq[k], x, v, i, VALUES[k]);
        for (int j = i; j <= S_SIZE; j++)
            for (int k = 0; k < 2; k++) consider(s, &best, swq[k][j], sqq[k][j], i, j, k);
    }
}

enum { M_SIZE = 16, M_PADDED = 20 };

/* For a fixed first boundary and one half of the group: sums for every second boundary, with both shifts.
 * From the whole half's sums at the highest value, what lies before each boundary is taken off:
 * neighbouring values differ by one. */
static inline void sum_half(float (*restrict swq)[M_PADDED], float (*restrict sqq)[M_PADDED],
                            const float *restrict x, const float *restrict v, int first) {
    for (int k = 0; k < 2; k++) {
        const float *q = VALUES[k];
        float low = q[0] * q[0] - q[1] * q[1], high = q[1] * q[1] - q[2] * q[2];
        float x2 = x[M_SIZE] * q[2], v2 = v[M_SIZE] * q[2] * q[2] + v[first] * low;
        for (int j = 0; j < M_PADDED; j++) {
            swq[k][j] = x2 - (x[first] + x[j]);
            sqq[k][j] = v2 + v[j] * high;
        }
    }
}

static void split_m(split *s, const float *w, const float *weight) {
    float x[2][M_PADDED] = {{0}}, v[2][M_PADDED] = {{0}}, best = -FLT_MAX;
    float swq[2][2][M_PADDED], sqq[2][2][M_PADDED]; /* of each half, with each shift */
    sort(s->order, w, M_SIZE);
    s->first = -1;
    for (int j = 0; j < M_SIZE; j++) {
        int i = s->order[j], half = i >= M_SIZE / 2;
        x[half][j + 1] = x[half][j] + weight[i] * w[i];
        v[half][j + 1] = v[half][j] + weight[i];
        x[1 - half][j + 1] = x[1 - half][j];
        v[1 - half][j + 1] = v[1 - half][j];
    }
    for (int i = 0; i <= M_SIZE; i++) {
        for (int h = 0; h < 2; h++) sum_half(swq[h], sqq[h], x[h], v[h], i);
        for (int j = i; j <= M_SIZE; j++)
            for (int k = 0; k < 4; k++)
                consider(s, &best, swq[0][k >> 1][j] + swq[1][k & 1][j], sqq[0][k >> 1][j] + sqq[1][k & 1][j],
                         i, j, k);
    }
}

/* --- a group --- */

typedef struct group {
    uint16_t at[MAX_GROUP / 8]; /* points */
    int shifts;
    float scale;
} group;

typedef struct kind {
    int size;
    float tiny;
    void (*split)(split *s, const float *w, const float *weight);
    int all_shifts; /* what turns every shift over */
} kind;
static const kind IQ1_S = {S_SIZE, 1e-12f, split_s, 1}, IQ1_M = {M_SIZE, 1e-7f, split_m, 3};

/* The shift of vector k of a group: IQ1_S has one for all, IQ1_M bit 1 for the first and bit 0 for the
 * second. */
static inline const float *values_of(const kind *k, int shifts, int vector) {
    return VALUES[k->all_shifts == 1 ? shifts : shifts >> (1 - vector) & 1];
}

/* Levels by the split, with a positive scale. */
static void assign(uint8_t *levels, split *s, const kind *k) {
    for (int j = 0; j < k->size; j++) levels[s->order[j]] = (uint8_t)((j >= s->first) + (j >= s->second));
    if (!(s->scale < 0)) return;
    for (int j = 0; j < k->size; j++) levels[j] = (uint8_t)(2 - levels[j]);
    s->scale = -s->scale;
    s->shifts ^= k->all_shifts;
}

/* False: it counts as zero and has point 0, shift 0. */
static bool encode_group(group *g, const kind *k, const assay_lattice *grid, const float *w,
                         const float *weight) {
    float largest = 0, swq = 0, sqq = 0;
    uint8_t levels[MAX_GROUP];
    bool all_on_grid = true;
    split s;
    memset(g, 0, sizeof *g);
    for (int i = 0; i < k->size; i++) largest = fabsf(w[i]) > largest ? fabsf(w[i]) : largest;
    if (largest < k->tiny) return false;
    k->split(&s, w, weight);
    if (s.first < 0) return false;
    assign(levels, &s, k);
    g->shifts = s.shifts;
    g->scale = s.scale;
    for (int v = 0; v < k->size / 8; v++) {
        bool on_grid;
        g->at[v] = (uint16_t)assay_lattice_find(levels + 8 * v, &on_grid, grid, w + 8 * v, weight + 8 * v,
                                                s.scale, values_of(k, s.shifts, v));
        all_on_grid &= on_grid;
    }
    if (all_on_grid) return true;
    for (int i = 0; i < k->size; i++) {
        float q = values_of(k, s.shifts, i / 8)[grid->levels[g->at[i / 8]][i & 7]];
        swq += weight[i] * q * w[i];
        sqq += weight[i] * q * q;
    }
    if (swq > 0 && sqq > 0) g->scale = swq / sqq;
    return true;
}

/* The scales' steps: 1, 3 ... 15 fifteenths of the largest. */
static int round_scale(float scale, float inverse) {
    return assay_nearest_within(0.5f * (inverse * scale - 1), 0, 7);
}

static float mean_square(const float *w) {
    return 2 * assay_sum_squares(w, K) / K;
}

/* All groups of a block; returns the largest scale. */
static float encode_groups(group *g, const kind *k, const assay_lattice *grid, const float *w,
                           const float *importance, float mean) {
    float weight[MAX_GROUP], largest = 0;
    for (int i = 0; i < K; i += k->size, g++) {
        assay_temper(weight, importance + i, w + i, k->size, mean);
        encode_group(g, k, grid, w + i, weight);
        largest = g->scale > largest ? g->scale : largest;
    }
    return largest;
}

void assay_encode_IQ1_S(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    const assay_lattice *grid = assay_lattice_made(ASSAY_PRECISION_IQ1_S);
    enum { N = K / S_SIZE };
    for (int64_t c = 0; c < cols; c += K, out += 50) {
        group g[N];
        float largest = encode_groups(g, &IQ1_S, grid, w + c, importance + c, mean_square(w + c));
        memset(out, 0, 50);
        float d = largest / 15, inverse = 1 / d;
        assay_store_half(out, d * 1.125f); /* found by trial */
        for (int i = 0; i < N; i++) {
            uint32_t word = 0;
            for (int v = 0; v < 4; v++) {
                out[2 + 4 * i + v] = (uint8_t)g[i].at[v];
                word |= (uint32_t)g[i].at[v] >> 8 << 3 * v;
            }
            if (largest > 0) word |= (uint32_t)(round_scale(g[i].scale, inverse) | g[i].shifts << 3) << 12;
            assay_store16(out + 34 + 2 * i, word);
        }
    }
}

/* IQ1_M: the scale that suits the whole block best, given everything else. */
static float solve_scale(const group *g, const int *levels, const assay_lattice *grid, const float *w,
                         const float *importance, float mean, float d) {
    float swq = 0, sqq = 0, weight[M_SIZE];
    for (int i = 0; i < K / M_SIZE; i++, w += M_SIZE, importance += M_SIZE) {
        assay_temper(weight, importance, w, M_SIZE, mean);
        for (int j = 0; j < M_SIZE; j++) {
            float q = values_of(&IQ1_M, g[i].shifts, j / 8)[grid->levels[g[i].at[j / 8]][j & 7]] *
                      (float)(2 * levels[i] + 1);
            swq += weight[j] * q * w[j];
            sqq += weight[j] * q * q;
        }
    }
    return sqq > 0 ? swq / sqq : d;
}

void assay_encode_IQ1_M(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    const assay_lattice *grid = assay_lattice_made(ASSAY_PRECISION_IQ1_M);
    enum { N = K / M_SIZE };
    for (int64_t c = 0; c < cols; c += K, out += 56) {
        group g[N];
        int levels[N];
        float mean = mean_square(w + c), largest = encode_groups(g, &IQ1_M, grid, w + c, importance + c, mean);
        memset(out, 0, 56);
        for (int i = 0; i < N; i++)
            for (int v = 0; v < 2; v++) {
                out[2 * i + v] = (uint8_t)g[i].at[v];
                out[32 + i] = (uint8_t)(out[32 + i] | g[i].at[v] >> 8 << 4 * v);
            }
        if (!(largest > 0)) continue;
        float d = largest / 15, inverse = 1 / d;
        uint32_t words[4] = {0};
        for (int i = 0; i < N; i++) {
            levels[i] = round_scale(g[i].scale, inverse);
            words[i / 4] |= (uint32_t)levels[i] << 3 * (i & 3);
            out[32 + i] = (uint8_t)(out[32 + i] | (g[i].shifts >> 1) << 3 | (g[i].shifts & 1) << 7);
        }
        d = solve_scale(g, levels, grid, w + c, importance + c, mean, d);
        uint32_t half = assay_f32_to_f16(d * 1.1125f); /* found by trial */
        for (int k = 0; k < 4; k++) assay_store16(out + 48 + 2 * k, words[k] | (half >> 4 * k & 15) << 12);
    }
}
