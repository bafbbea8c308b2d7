/* block_k.c: encoders of ggml's K types, super-blocks of 256 (ggml-quants.c: quantize_row_q*_K_ref without
 * importance, _impl with it). Layouts are in block_expand.c.
 *
 * Each group's scale (and minimum) is searched for by itself; then the super-block's scales are rounded to
 * a few bits, by the largest of them or, with importance, by a search weighted by the groups' summed
 * weights; at last the codes are chosen again for the scales as they are stored. Groups whose stored scale
 * is zero keep the codes of the search. */
#include <math.h>
#include <string.h>

#include "precision/block_encode.h"
#include "precision/block_search.h"

enum { K = ASSAY_BLOCK_MAX, GROUPS = ASSAY_BLOCK_MAX_GROUPS };

/* --- with minima: Q2_K, Q4_K, Q5_K --- */

typedef struct shifted_kind {
    int size, top, scale_top;
    assay_ladder ladder; /* without importance */
    float mean_factor;   /* with importance: times the mean square */
} shifted_kind;

static const shifted_kind Q2 = {16, 3, 15, {-0.5f, 0.1f, 16, true}, 1};
static const shifted_kind Q4 = {32, 15, 63, {-1.0f, 0.1f, 21, false}, 2};
static const shifted_kind Q5 = {32, 31, 63, {-0.5f, 0.1f, 16, false}, 2};

typedef struct shifted {
    uint8_t codes[K];
    uint8_t scales[GROUPS], mins[GROUPS]; /* of scale_top levels */
    float d, m;                           /* their scales, before they are rounded to float16 */
} shifted;

/* Q2_K: by magnitude. Q4_K and Q5_K: by magnitude and the group's root mean square. */
static void weigh(float *weight, const shifted_kind *k, const float *w) {
    float level = k->ladder.absolute ? 0 : sqrtf(assay_sum_squares(w, k->size) / (float)k->size);
    for (int i = 0; i < k->size; i++) weight[i] = level + fabsf(w[i]);
}

/* v >= 0 to levels of a float16 number that makes the largest the top one; returns that number. */
static float round_scales(uint8_t *levels, const float *v, int n, int top) {
    float largest = 0;
    for (int g = 0; g < n; g++) largest = v[g] > largest ? v[g] : largest;
    float inverse = largest > 0 ? (float)top / largest : 0;
    for (int g = 0; g < n; g++) {
        uint8_t l = (uint8_t)assay_nearest(inverse * v[g]);
        levels[g] = (uint8_t)(l < top ? l : top);
    }
    return largest / (float)top;
}

static void search_shifted(shifted *s, const shifted_kind *k, const float *w, const float *importance) {
    static const assay_ladder FINE = {-0.9f, 0.05f, 37, false};
    float scales[GROUPS], mins[GROUPS], sums[GROUPS] = {0}, weight[ASSAY_SEARCH_MAX];
    float mean = importance ? k->mean_factor * assay_sum_squares(w, K) / K : 0;
    int n = K / k->size;
    for (int g = 0; g < n; g++) {
        int at = g * k->size;
        if (importance) {
            assay_temper(weight, importance + at, w + at, k->size, mean);
            for (int i = 0; i < k->size; i++) sums[g] += weight[i];
        } else {
            weigh(weight, k, w + at);
        }
        scales[g] = assay_search_shifted(s->codes + at, &mins[g], w + at, weight, k->size, k->top,
                                         importance ? &FINE : &k->ladder);
    }
    if (importance) {
        s->d = assay_search_positive(s->scales, scales, sums, n, k->scale_top);
        s->m = assay_search_positive(s->mins, mins, sums, n, k->scale_top);
    } else {
        s->d = round_scales(s->scales, scales, n, k->scale_top);
        s->m = round_scales(s->mins, mins, n, k->scale_top);
    }
}

/* The codes for the scales as stored. */
static void choose_shifted(shifted *s, const shifted_kind *k, const float *w) {
    float d = assay_f16_to_f32(assay_f32_to_f16(s->d)), m = assay_f16_to_f32(assay_f32_to_f16(s->m));
    for (int g = 0; g < K / k->size; g++) {
        float scale = d * (float)s->scales[g], min = m * (float)s->mins[g];
        if (scale == 0) continue;
        for (int i = g * k->size; i < (g + 1) * k->size; i++)
            s->codes[i] = (uint8_t)assay_nearest_within((w[i] + min) / scale, 0, k->top);
    }
}

/* See unpack_six in block_expand.c. */
static void pack_six(uint8_t *out, const uint8_t *scales, const uint8_t *mins) {
    for (int g = 0; g < 4; g++) {
        out[g] = (uint8_t)(scales[g] | scales[g + 4] >> 4 << 6);
        out[g + 4] = (uint8_t)(mins[g] | mins[g + 4] >> 4 << 6);
        out[g + 8] = (uint8_t)((scales[g + 4] & 15) | (mins[g + 4] & 15) << 4);
    }
}

void assay_encode_Q2_K(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += K, out += 84) {
        shifted s;
        search_shifted(&s, &Q2, w + c, importance ? importance + c : NULL);
        choose_shifted(&s, &Q2, w + c);
        for (int g = 0; g < GROUPS; g++) out[g] = (uint8_t)(s.scales[g] | s.mins[g] << 4);
        assay_join_pairs(out + 16, s.codes);
        assay_store_half(out + 80, s.d);
        assay_store_half(out + 82, s.m);
    }
}

/* d, m and the scales, which Q4_K and Q5_K begin with. */
static void put_head(uint8_t *out, shifted *s, const shifted_kind *k, const float *w,
                     const float *importance) {
    search_shifted(s, k, w, importance);
    choose_shifted(s, k, w);
    assay_store_half(out, s->d);
    assay_store_half(out + 2, s->m);
    pack_six(out + 4, s->scales, s->mins);
}

void assay_encode_Q4_K(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += K, out += 144) {
        shifted s;
        put_head(out, &s, &Q4, w + c, importance ? importance + c : NULL);
        for (int q = 0; q < 4; q++) assay_join_nibbles(out + 16 + 32 * q, s.codes + 64 * q, 32);
    }
}

/* Bit k of byte l is bit `bit` of code 32 k + l. */
static void join_bit_planes(uint8_t *restrict out, const uint8_t *restrict codes, int bit) {
    memset(out, 0, K / 8);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++) out[l] = (uint8_t)(out[l] | (codes[32 * k + l] >> bit & 1) << k);
}

void assay_encode_Q5_K(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += K, out += 176) {
        shifted s;
        put_head(out, &s, &Q5, w + c, importance ? importance + c : NULL);
        join_bit_planes(out + 16, s.codes, 4);
        for (int q = 0; q < 4; q++) assay_join_nibbles(out + 48 + 32 * q, s.codes + 64 * q, 32);
    }
}

/* --- without: Q3_K, Q6_K --- */

/* The codes of the group for the scale as stored. */
static void choose_symmetric(uint8_t *codes, const float *w, float scale, int levels) {
    if (scale == 0) return;
    for (int i = 0; i < 16; i++)
        codes[i] = (uint8_t)(levels + assay_nearest_within(w[i] / scale, -levels, levels - 1));
}

/* The one of largest magnitude, the first of equals. */
static float find_largest_scale(const float *scales) {
    float largest = 0;
    for (int g = 0; g < GROUPS; g++) largest = fabsf(scales[g]) > fabsf(largest) ? scales[g] : largest;
    return largest;
}

/* Q3_K's groups: levels [GROUPS] are the scales in units of the returned one, plus 32. */
static float search_q3(uint8_t *codes, uint8_t *levels, const float *w, const float *importance) {
    float scales[GROUPS], sums[GROUPS] = {0}, weight[16];
    float mean = importance ? 2 * assay_sum_squares(w, K) / K : 0;
    for (int g = 0; g < GROUPS; g++) {
        if (!importance) {
            scales[g] = assay_search_stepwise(codes + 16 * g, w + 16 * g, 16, 4);
            continue;
        }
        assay_temper(weight, importance + 16 * g, w + 16 * g, 16, mean);
        for (int i = 0; i < 16; i++) sums[g] += weight[i];
        scales[g] = assay_search_symmetric(codes + 16 * g, w + 16 * g, weight, 16, 4);
    }
    if (importance) return assay_search_symmetric(levels, scales, sums, GROUPS, 32);
    float largest = find_largest_scale(scales), inverse = -32 / largest;
    memset(levels, 0, GROUPS);
    if (largest == 0) return 0;
    for (int g = 0; g < GROUPS; g++) {
        int8_t l = (int8_t)assay_nearest(inverse * scales[g]);
        levels[g] = (uint8_t)((l < -32 ? -32 : l > 31 ? 31 : l) + 32);
    }
    return 1 / inverse;
}

void assay_encode_Q3_K(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += K, out += 110) {
        uint8_t codes[K], levels[GROUPS], *packed = out + 96;
        assay_store_half(out + 108, search_q3(codes, levels, w + c, importance ? importance + c : NULL));
        memset(packed, 0, 12);
        for (int g = 0; g < GROUPS; g++) {
            packed[g & 7] = (uint8_t)(packed[g & 7] | (levels[g] & 15) << (g & 8 ? 4 : 0));
            packed[8 + (g & 3)] = (uint8_t)(packed[8 + (g & 3)] | levels[g] >> 4 << (g >> 2) * 2);
            choose_symmetric(codes + 16 * g, w + c + 16 * g,
                             assay_load_half(out + 108) * (float)(levels[g] - 32), 4);
        }
        join_bit_planes(out, codes, 2);
        assay_join_pairs(out + 32, codes);
    }
}

/* 128 codes of six bits: see block_expand.c. */
static void join_six(uint8_t *restrict low, uint8_t *restrict high, const uint8_t *restrict codes) {
    for (int l = 0; l < 32; l++) {
        low[l] = (uint8_t)((codes[l] & 15) | codes[l + 64] << 4);
        low[l + 32] = (uint8_t)((codes[l + 32] & 15) | codes[l + 96] << 4);
        high[l] = (uint8_t)(codes[l] >> 4 | codes[l + 32] >> 4 << 2 | codes[l + 64] >> 4 << 4 |
                            codes[l + 96] >> 4 << 6);
    }
}

void assay_encode_Q6_K(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += K, out += 210) {
        uint8_t codes[K];
        float scales[GROUPS];
        for (int g = 0; g < GROUPS; g++)
            scales[g] = assay_search_symmetric(codes + 16 * g, w + c + 16 * g,
                                               importance ? importance + c + 16 * g : NULL, 16, 32);
        float largest = find_largest_scale(scales), inverse = -128 / largest;
        if (fabsf(largest) < ASSAY_SEARCH_TINY) {
            memset(out, 0, 210);
            continue;
        }
        assay_store_half(out + 208, 1 / inverse);
        for (int g = 0; g < GROUPS; g++) {
            int l = assay_nearest(inverse * scales[g]);
            int8_t level = (int8_t)(l < 127 ? l : 127);
            out[192 + g] = (uint8_t)level;
            choose_symmetric(codes + 16 * g, w + c + 16 * g, assay_load_half(out + 208) * (float)level, 32);
        }
        for (int half = 0; half < 2; half++)
            join_six(out + 64 * half, out + 128 + 32 * half, codes + 128 * half);
    }
}
