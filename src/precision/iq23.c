/* iq23.c: encoders of the IQ2 and IQ3 types: magnitudes from a grid, signs apart (ggml-quants.c:
 * quantize_row_iq2_xxs_impl, iq2_xs, iq2_s, iq3_xxs, iq3_s). Layouts are in block_expand.c.
 *
 * Of a group of 16 or 32 weights, a ladder of scales is tried; at each the magnitudes are rounded level by
 * level (a level l stands for 2 l + 1) and, where that is no point of the grid, moved to the best of the
 * points nearby. For the scale that won, vectors that were off the grid are looked up once more. Three of
 * the types store seven of eight signs: an odd number of minus signs is made even by flipping the weight
 * that it costs least.
 *
 * ggml's IQ3_S forgets to step over a group of zeros and writes those that follow 32 weights too early;
 * that is not repeated here.
 *
 * d is the largest scale over 31, times a factor found by trial that makes up for magnitudes being drawn
 * to the grid. */
#include <math.h>
#include <string.h>

#include "precision/block_encode.h"
#include "precision/block_search.h"
#include "precision/iq_lattice.h"

enum { K = ASSAY_BLOCK_MAX, MAX_GROUP = 32, MAX_VECTORS = 8 /* of a group */ };

/* Which vectors are looked up again for the final scale. */
typedef enum again { AGAIN_OFF_GRID, AGAIN_ALL_IF_ANY, AGAIN_ALWAYS } again;

typedef struct kind {
    assay_precision precision;
    int size, dims, levels; /* of a group, a vector; a level is below `levels` */
    int reach;              /* rungs on either side of the middle one */
    float step;
    bool even_signs;
    bool searched_first; /* the ladder's middle is the scale of assay_search_positive, not the largest weight */
    again again;
    float tiny;        /* a group with no larger weight counts as zero */
    float mean_factor; /* times the block's mean square, in the weighting by importance */
    float mean_share;  /* without importance: weight = w^2 + this times that */
    float factor;      /* of d */
} kind;

typedef struct group {
    float x[MAX_GROUP]; /* magnitudes (the cheapest may be negative) */
    float weight[MAX_GROUP], root[MAX_GROUP];
    uint8_t signs[MAX_GROUP / 8];
    uint8_t levels[MAX_GROUP];
    bool on_grid[MAX_VECTORS];
    float scale;
} group;

static const float VALUES[ASSAY_LATTICE_LEVELS] = {1, 3, 5, 7, 9, 11, 13, 15};

/* Splits eight weights into magnitudes and signs. */
static uint8_t split_signs(float *x, const float *w, const float *weight, bool even) {
    uint32_t signs = 0;
    int cheapest = 0;
    float least = weight[0] * w[0] * w[0];
    for (int i = 0; i < 8; i++) {
        bool minus = !(w[i] >= 0);
        x[i] = minus ? -w[i] : w[i];
        signs |= (uint32_t)minus << i;
    }
    if (!even || !(__builtin_popcount(signs) & 1)) return (uint8_t)signs;
    for (int i = 1; i < 8; i++) {
        float cost = weight[i] * w[i] * w[i];
        if (!(cost < least)) continue;
        least = cost;
        cheapest = i;
    }
    x[cheapest] = -x[cheapest];
    return (uint8_t)(signs ^ 1u << cheapest);
}

static void round_levels(uint8_t *restrict levels, const float *restrict x, float inverse, int n, int top) {
    for (int i = 0; i < n; i += 4)
        for (int k = i; k < i + 4; k++)
            levels[k] = (uint8_t)assay_nearest_within(0.5f * (inverse * x[k] - 1), 0, top);
}

static void sum_levels(float *swq, float *sqq, const group *g, const uint8_t *levels, int n) {
    float a = 0, b = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)(2 * levels[i] + 1), v = g->weight[i];
        a += v * g->x[i] * q;
        b += v * q * q;
    }
    *swq = a;
    *sqq = b;
}

/* Tries the ladder; range is what the middle rung maps to the top level. */
static void climb(group *g, const kind *k, const assay_lattice *grid, float range) {
    float best = 0;
    for (int r = -k->reach; r <= k->reach; r++) {
        uint8_t levels[MAX_GROUP];
        bool on_grid[MAX_VECTORS];
        float inverse = ((float)(2 * k->levels - 1) + (float)r * k->step) / range, scale = 1 / inverse, swq,
              sqq;
        round_levels(levels, g->x, inverse, k->size, k->levels - 1);
        for (int v = 0; v < k->size / k->dims; v++) {
            int at = v * k->dims;
            assay_lattice_find(levels + at, &on_grid[v], grid, g->x + at, g->root + at, scale, VALUES);
        }
        sum_levels(&swq, &sqq, g, levels, k->size);
        if (!(sqq > 0) || !(swq * swq > best * sqq)) continue;
        g->scale = swq / sqq;
        best = g->scale * swq;
        memcpy(g->levels, levels, sizeof levels);
        memcpy(g->on_grid, on_grid, sizeof on_grid);
    }
}

/* Vectors that the ladder's scale had moved, looked up for the scale that they gave. */
static void look_again(group *g, const kind *k, const assay_lattice *grid) {
    int n = k->size / k->dims;
    bool any = k->again == AGAIN_ALWAYS, ignored;
    for (int v = 0; v < n; v++) any |= !g->on_grid[v];
    if (!any || !(g->scale > 0)) return;
    for (int v = 0; v < n; v++) {
        int at = v * k->dims;
        if (k->again == AGAIN_OFF_GRID && g->on_grid[v]) continue;
        round_levels(g->levels + at, g->x + at, 1 / g->scale, k->dims, k->levels - 1);
        assay_lattice_find(g->levels + at, &ignored, grid, g->x + at, g->root + at, g->scale, VALUES);
    }
    float swq, sqq;
    sum_levels(&swq, &sqq, g, g->levels, k->size);
    if (sqq > 0) g->scale = swq / sqq;
}

/* Everything about a group but its place in the block. False: it counts as zero, nothing is stored of it. */
static bool encode_group(group *g, const kind *k, const assay_lattice *grid, const float *w,
                         const float *importance, float mean) {
    if (importance)
        assay_temper(g->weight, importance, w, k->size, mean);
    else
        for (int i = 0; i < k->size; i++) g->weight[i] = k->mean_share * mean + w[i] * w[i];
    for (int i = 0; i < k->size; i++) g->root[i] = sqrtf(g->weight[i]);
    for (int v = 0; v < k->size / 8; v++)
        g->signs[v] = split_signs(g->x + 8 * v, w + 8 * v, g->weight + 8 * v, k->even_signs);
    float largest = g->x[0];
    for (int i = 1; i < k->size; i++) largest = g->x[i] > largest ? g->x[i] : largest;
    memset(g->levels, 0, sizeof g->levels);
    g->scale = 0;
    if (largest < k->tiny || largest == 0) return false;
    float range = largest;
    g->scale = largest / (float)(2 * k->levels - 1);
    for (int v = 0; v < MAX_VECTORS; v++) g->on_grid[v] = k->again == AGAIN_OFF_GRID;
    if (k->searched_first) {
        g->scale = assay_search_positive(g->levels, g->x, g->weight, k->size, k->levels + 1);
        range = g->scale * (float)k->levels;
        if (range <= 0) {
            g->scale = 0;
            return false;
        }
    }
    climb(g, k, grid, range);
    look_again(g, k, grid);
    if (g->scale < 0) { /* cannot be, but for rounding: scales are stored without a sign */
        g->scale = -g->scale;
        for (int v = 0; v < k->size / 8; v++) g->signs[v] = (uint8_t)~g->signs[v];
    }
    return true;
}

/* The places of a group's points. (Where sums overflowed there may be none; 0 then, the scale will be
 * refused.) */
static void find_points(uint16_t *at, const group *g, const kind *k, const assay_lattice *grid) {
    uint32_t mask = (1u << grid->bits) - 1;
    for (int v = 0; v < k->size / k->dims; v++) {
        uint32_t packed = 0;
        for (int i = 0; i < k->dims; i++) packed |= (g->levels[v * k->dims + i] & mask) << grid->bits * i;
        at[v] = (uint16_t)(grid->at[packed] < 0 ? 0 : grid->at[packed]);
    }
}

/* What is stored of a block before it is packed. */
typedef struct block {
    uint16_t at[64]; /* points, vector by vector */
    uint8_t signs[K / 8];
    uint8_t scales[ASSAY_BLOCK_MAX_GROUPS];
    float d;
} block;

/* False when every scale is zero: d and scales are zero, and of the types with all signs the points and
 * signs still stand. */
static bool encode_block(block *b, const kind *k, const float *w, const float *importance) {
    const assay_lattice *grid = assay_lattice_made(k->precision);
    float scales[ASSAY_BLOCK_MAX_GROUPS], largest = 0, mean = k->mean_factor * assay_sum_squares(w, K) / K;
    int n = K / k->size;
    memset(b, 0, sizeof *b);
    for (int i = 0; i < n; i++) {
        group g;
        int from = i * k->size;
        bool stored = encode_group(&g, k, grid, w + from, importance ? importance + from : NULL, mean);
        scales[i] = g.scale;
        largest = g.scale > largest ? g.scale : largest;
        if (!stored) continue;
        find_points(b->at + from / k->dims, &g, k, grid);
        memcpy(b->signs + from / 8, g.signs, (size_t)k->size / 8);
    }
    if (largest == 0) return false;
    float d = largest / 31, inverse = 1 / d;
    b->d = d * k->factor;
    for (int i = 0; i < n; i++)
        b->scales[i] = (uint8_t)assay_nearest_within(0.5f * (inverse * scales[i] - 1), 0, 15);
    return true;
}

/* --- the types --- */

static const kind IQ2_XXS = {
    ASSAY_PRECISION_IQ2_XXS, 32, 8, 3, 6, 0.1f, true, true, AGAIN_ALWAYS, 1e-15f, 1, 0, 1};
static const kind IQ2_XS = {ASSAY_PRECISION_IQ2_XS, 16,     8, 3, 9, 0.1f, true, false,
                            AGAIN_OFF_GRID,         1e-15f, 1, 0, 1};
static const kind IQ2_S = {ASSAY_PRECISION_IQ2_S, 16,    8, 3,     9,      0.1f, false, false,
                           AGAIN_OFF_GRID,        1e-8f, 2, 0.25f, 0.9875f};
static const kind IQ3_XXS = {ASSAY_PRECISION_IQ3_XXS, 32,    4, 8, 15,     0.2f, true, false,
                             AGAIN_OFF_GRID,          1e-8f, 2, 0, 1.0125f};
static const kind IQ3_S = {ASSAY_PRECISION_IQ3_S, 32, 4, 8, 9,     0.2f, false, false,
                           AGAIN_ALL_IF_ANY,      0,  2, 0, 1.033f};

/* Four times seven signs and a scale. */
static uint32_t signs_and_scale(const uint8_t *signs, uint8_t scale) {
    uint32_t word = (uint32_t)scale << 28;
    for (int k = 0; k < 4; k++) word |= (uint32_t)(signs[k] & 127) << 7 * k;
    return word;
}

static const float *part(const float *importance, int64_t c) {
    return importance ? importance + c : NULL;
}

/* The types with seven of eight signs: those of 32 weights and their scale in a word. */
typedef struct word_layout {
    int bytes;
    int word_at, word_step; /* of each 32; indices are at 2, 8 bytes apart */
} word_layout;

static void encode_words(uint8_t *out, const kind *k, const word_layout *l, const float *w, int64_t cols,
                         const float *importance) {
    int n = 32 / k->dims;
    for (int64_t c = 0; c < cols; c += K, out += l->bytes) {
        block b;
        memset(out, 0, (size_t)l->bytes);
        if (!encode_block(&b, k, w + c, part(importance, c))) continue;
        assay_store_half(out, b.d);
        for (int g = 0; g < K / 32; g++) {
            for (int i = 0; i < n; i++) out[2 + 8 * g + i] = (uint8_t)b.at[n * g + i];
            assay_store32(out + l->word_at + l->word_step * g, signs_and_scale(b.signs + 4 * g, b.scales[g]));
        }
    }
}

void assay_encode_IQ2_XXS(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    static const word_layout L = {.bytes = 66, .word_at = 6, .word_step = 8};
    encode_words(out, &IQ2_XXS, &L, w, cols, importance);
}

void assay_encode_IQ3_XXS(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    static const word_layout L = {.bytes = 98, .word_at = 66, .word_step = 4};
    encode_words(out, &IQ3_XXS, &L, w, cols, importance);
}

/* Scales of four bits. */
static void pack_four(uint8_t *out, const uint8_t *scales, int n) {
    for (int i = 0; i < n; i += 2) out[i / 2] = (uint8_t)(scales[i] | scales[i + 1] << 4);
}

void assay_encode_IQ2_XS(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += K, out += 74) {
        block b;
        memset(out, 0, 74);
        if (!encode_block(&b, &IQ2_XS, w + c, part(importance, c))) continue;
        assay_store_half(out, b.d);
        for (int v = 0; v < 32; v++)
            assay_store16(out + 2 + 2 * v, b.at[v] | (uint32_t)(b.signs[v] & 127) << 9);
        pack_four(out + 66, b.scales, 16);
    }
}

/* The types with all signs: the indices' low bytes at 2, then each field on its own. */
typedef struct field_layout {
    int bytes;
    int high_at, high_bits; /* of each index, above its byte */
    int signs_at, scales_at;
} field_layout;

static void encode_fields(uint8_t *out, const kind *k, const field_layout *l, const float *w, int64_t cols,
                          const float *importance) {
    int per_byte = 8 / l->high_bits;
    for (int64_t c = 0; c < cols; c += K, out += l->bytes) {
        block b;
        encode_block(&b, k, w + c, part(importance, c));
        memset(out, 0, (size_t)l->bytes);
        assay_store_half(out, b.d);
        for (int v = 0; v < K / k->dims; v++) {
            uint8_t *high = out + l->high_at + v / per_byte;
            out[2 + v] = (uint8_t)b.at[v];
            *high = (uint8_t)(*high | b.at[v] >> 8 << l->high_bits * (v % per_byte));
        }
        memcpy(out + l->signs_at, b.signs, sizeof b.signs);
        pack_four(out + l->scales_at, b.scales, K / k->size);
    }
}

void assay_encode_IQ2_S(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    static const field_layout L = {.bytes = 82, .high_at = 66, .high_bits = 2, .signs_at = 34, .scales_at = 74};
    encode_fields(out, &IQ2_S, &L, w, cols, importance);
}

void assay_encode_IQ3_S(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    static const field_layout L = {.bytes = 110, .high_at = 66, .high_bits = 1, .signs_at = 74, .scales_at = 106};
    encode_fields(out, &IQ3_S, &L, w, cols, importance);
}
