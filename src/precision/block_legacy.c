/* block_legacy.c: encoders of ggml's blocks of 32 (Q4_0 to Q8_0) and of its ternary types (ggml-quants.c: quantize_row_*_ref, and
 * the _impl functions for importance).
 *
 * Without importance the largest weight (or the range) sets the scale and codes are rounded to it. With importance the scale is
 * searched for (block_search.h); Q8_0 and the ternary types do not look at it.
 *
 * Where the inverse of a tiny scale overflows, every quotient is infinite or NaN, and x86 makes zero of it when it is cut to a byte;
 * so the integer part is taken as zero here. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "precision/block_encode.h"
#include "precision/block_search.h"

enum { N = 32 };

/* 1 / x, and whether quotients are numbers at all. */
static float invert(bool *usable, float x) {
    float inverse = x != 0 ? 1 / x : 0;
    *usable = fabsf(inverse) <= FLT_MAX;
    return inverse;
}

/* --- with one scale --- */

static void find_range(float *lo, float *hi, const float *restrict w) {
    enum { LANES = 8 };
    float a[LANES], b[LANES];
    for (int k = 0; k < LANES; k++) a[k] = b[k] = w[k];
    for (int i = LANES; i < N; i += LANES)
        for (int k = 0; k < LANES; k++) {
            a[k] = w[i + k] < a[k] ? w[i + k] : a[k];
            b[k] = w[i + k] > b[k] ? w[i + k] : b[k];
        }
    *lo = a[0];
    *hi = b[0];
    for (int k = 1; k < LANES; k++) {
        *lo = a[k] < *lo ? a[k] : *lo;
        *hi = b[k] > *hi ? b[k] : *hi;
    }
}

/* The first of the weights that equals x, for its sign when it is zero. */
static float find_first(const float *w, float x) {
    int i = 0;
    while (w[i] != x) i++;
    return w[i];
}

/* The weight of largest magnitude, the first of equals, with its sign. */
static float find_largest(const float *w) {
    float lo, hi;
    find_range(&lo, &hi, w);
    if (hi > -lo) return hi;
    if (hi < -lo) return lo;
    for (int i = 0; hi != 0; i++)
        if (fabsf(w[i]) == hi) return w[i];
    return 0;
}

static void round_symmetric(uint8_t *restrict codes, float *scale, const float *restrict w, int levels) {
    bool usable;
    *scale = find_largest(w) / (float)-levels;
    float inverse = invert(&usable, *scale), half = (float)levels + 0.5f;
    int top = 2 * levels - 1;
    memset(codes, 0, N);
    if (!usable) return;
    for (int i = 0; i < N; i++) {
        int q = (int)(w[i] * inverse + half);
        codes[i] = (uint8_t)(q < top ? q : top);
    }
}

/* --- with scale and minimum --- */

static void round_range(uint8_t *restrict codes, float *scale, float *low, const float *restrict w, int top) {
    float lo, hi;
    bool usable;
    find_range(&lo, &hi, w);
    if (lo == 0) lo = find_first(w, 0);
    *scale = (hi - lo) / (float)top;
    *low = lo;
    float inverse = invert(&usable, *scale);
    memset(codes, 0, N);
    if (!usable) return;
    for (int i = 0; i < N; i++) {
        int q = (int)((w[i] - lo) * inverse + 0.5f);
        codes[i] = (uint8_t)(q < top ? q : top);
    }
}

/* --- layouts --- */

static uint32_t fifth_bits(const uint8_t *codes) {
    uint32_t bits = 0;
    for (int i = 0; i < N; i++) bits |= (uint32_t)(codes[i] >> 4 & 1) << i;
    return bits;
}

int assay_join_block32(uint8_t *out, const uint8_t *codes, bool five, bool shifted, float scale, float low) {
    int at = 2;
    assay_store_half(out, scale);
    if (shifted) {
        assay_store_half(out + at, low);
        at += 2;
    }
    if (five) {
        assay_store32(out + at, fifth_bits(codes));
        at += 4;
    }
    assay_join_nibbles(out + at, codes, N / 2);
    return at + N / 2;
}

/* --- four types in one --- */

typedef struct kind {
    bool five, shifted; /* five bits instead of four; with a minimum */
} kind;

/* The scale searched for; returns low, 0 without minimum. */
static float search(uint8_t *codes, float *scale, kind k, const float *w, const float *weight) {
    static const assay_ladder LADDER = {-0.9f, 0.05f, 37, false};
    int levels = k.five ? 16 : 8;
    float min = 0;
    *scale = k.shifted ? assay_search_shifted(codes, &min, w, weight, N, 2 * levels - 1, &LADDER)
                       : assay_search_symmetric(codes, w, weight, N, levels);
    return -min;
}

static void encode(uint8_t *out, kind k, const float *w, int64_t cols, const float *importance) {
    float mean = importance ? assay_sum_squares(w, cols) / (float)cols : 0;
    int levels = k.five ? 16 : 8;
    for (int64_t c = 0; c < cols; c += N) {
        uint8_t codes[N];
        float scale, low = 0, weight[N];
        if (importance) {
            assay_temper(weight, importance + c, w + c, N, mean);
            low = search(codes, &scale, k, w + c, weight);
        } else if (k.shifted) {
            round_range(codes, &scale, &low, w + c, 2 * levels - 1);
        } else {
            round_symmetric(codes, &scale, w + c, levels);
        }
        out += assay_join_block32(out, codes, k.five, k.shifted, scale, low);
    }
}

void assay_encode_Q4_0(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    encode(out, (kind){false, false}, w, cols, importance);
}

void assay_encode_Q4_1(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    encode(out, (kind){false, true}, w, cols, importance);
}

void assay_encode_Q5_0(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    encode(out, (kind){true, false}, w, cols, importance);
}

void assay_encode_Q5_1(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    encode(out, (kind){true, true}, w, cols, importance);
}

/* --- scale by the largest magnitude, halves away from zero --- */

static float find_magnitude(const float *w, int n) {
    uint32_t best = 0;
    for (int i = 0; i < n; i += N)
        for (int k = i; k < i + N; k++) {
            uint32_t a = assay_float_bits(w[k]) & 0x7fffffffu;
            best = a > best ? a : best;
        }
    return assay_float_of_bits(best);
}

/* q = w / scale for n weights, a multiple of 32. */
static void round_away(int8_t *restrict q, const float *restrict w, int n, float scale) {
    bool usable;
    float inverse = invert(&usable, scale);
    memset(q, 0, (size_t)n);
    for (int i = 0; usable && i < n; i += N)
        for (int k = i; k < i + N; k++) {
            float x = w[k] * inverse;
            int whole = (int)x;
            float rest = x - (float)whole; /* exact */
            q[k] = (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
        }
}

void assay_encode_Q8_0(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    (void)importance;
    for (int64_t c = 0; c < cols; c += N, out += 2 + N) {
        float scale = find_magnitude(w + c, N) / 127;
        assay_store_half(out, scale);
        round_away((int8_t *)out + 2, w + c, N, scale);
    }
}

/* n trits of each of `count` bytes, first one highest, as a fraction of 256 rounded up. */
static void join_trits(uint8_t *out, const int8_t *q, int count, int n) {
    for (int j = 0; j < count; j++) {
        int v = 0;
        for (int k = 0; k < 5; k++) v = v * 3 + (k < n ? q[k * count + j] + 1 : 0);
        out[j] = (uint8_t)((v * 256 + 242) / 243);
    }
}

void assay_encode_TQ1_0(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    (void)importance;
    for (int64_t c = 0; c < cols; c += ASSAY_BLOCK_MAX, out += 54) {
        int8_t q[ASSAY_BLOCK_MAX];
        float scale = find_magnitude(w + c, ASSAY_BLOCK_MAX);
        round_away(q, w + c, ASSAY_BLOCK_MAX, scale);
        join_trits(out, q, 32, 5);
        join_trits(out + 32, q + 160, 16, 5);
        join_trits(out + 48, q + 240, 4, 4);
        assay_store_half(out + 52, scale);
    }
}

void assay_encode_TQ2_0(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    (void)importance;
    for (int64_t c = 0; c < cols; c += ASSAY_BLOCK_MAX, out += 66) {
        int8_t q[ASSAY_BLOCK_MAX];
        uint8_t codes[ASSAY_BLOCK_MAX];
        float scale = find_magnitude(w + c, ASSAY_BLOCK_MAX);
        round_away(q, w + c, ASSAY_BLOCK_MAX, scale);
        for (int i = 0; i < ASSAY_BLOCK_MAX; i++) codes[i] = (uint8_t)(q[i] + 1);
        assay_join_pairs(out, codes);
        assay_store_half(out + 64, scale);
    }
}
