/* block_legacy.c: encoders of ggml's blocks of 32 (Q4_0 to Q8_0) and of its ternary types (ggml-quants.c:
 * quantize_row_*_ref, and the _impl functions for importance).
 *
 * Without importance the largest weight (or the range) sets the scale and codes are rounded to it. With
 * importance the scale is searched for (block_search.h); Q8_0 and the ternary types do not look at it.
 *
 * Where the inverse of a tiny scale overflows, every quotient is infinite or NaN, and x86 makes zero of it
 * when it is cut to a byte; so the integer part is taken as zero here. */
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

/* codes = the whole part of (w - lo) * inverse + half, which is at most 2^bits: the largest weight's may
 * be one too many. */
static inline void cut(uint8_t *restrict codes, const float *restrict w, float lo, bool usable, float inverse,
                       float half, int bits) {
    if (!usable) {
        memset(codes, 0, N);
        return;
    }
    for (int i = 0; i < N; i++) {
        int q = (int)((w[i] - lo) * inverse + half);
        codes[i] = (uint8_t)(q - (q >> bits));
    }
}

/* --- with one scale --- */

static inline float least(float a, float b) {
    return a < b ? a : b;
}

/* Four lanes go down the 32 weights, a chain for each end. */
static inline void find_range(float *lo, float *hi, const float *restrict w) {
    float a[4], b[4];
    for (int k = 0; k < 4; k++) a[k] = b[k] = w[k];
#pragma GCC unroll 7
    for (int i = 4; i < N; i += 4) {
        for (int k = 0; k < 4; k++) a[k] = w[i + k] < a[k] ? w[i + k] : a[k];
        for (int k = 0; k < 4; k++) b[k] = w[i + k] > b[k] ? w[i + k] : b[k];
    }
    *lo = least(least(a[0], a[1]), least(a[2], a[3]));
    *hi = -least(least(-b[0], -b[1]), least(-b[2], -b[3]));
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
    /* Picked without a branch, which would be mispredicted every other time. */
    if (hi != -lo)
        return assay_float_of_bits(assay_pick(hi > -lo, assay_float_bits(hi), assay_float_bits(lo)));
    for (int i = 0; hi != 0; i++)
        if (fabsf(w[i]) == hi) return w[i];
    return 0;
}

static inline void round_symmetric(uint8_t *restrict codes, float *scale, const float *restrict w, int bits) {
    int levels = 1 << (bits - 1);
    bool usable;
    *scale = find_largest(w) / (float)-levels;
    float inverse = invert(&usable, *scale);
    cut(codes, w, 0, usable, inverse, (float)levels + 0.5f, bits);
}

/* --- with scale and minimum --- */

static inline void round_range(uint8_t *restrict codes, float *scale, float *low, const float *restrict w,
                               int bits) {
    float lo, hi;
    bool usable;
    find_range(&lo, &hi, w);
    if (lo == 0) lo = find_first(w, 0);
    *scale = (hi - lo) / (float)((1 << bits) - 1);
    *low = lo;
    float inverse = invert(&usable, *scale);
    cut(codes, w, lo, usable, inverse, 0.5f, bits);
}

/* --- layouts --- */

/* Bit 4 of each code, first one lowest: eight at a time, the multiplication brings them together in the
 * top byte. */
static uint32_t fifth_bits(const uint8_t *codes) {
    uint32_t bits = 0;
    for (int i = 0; i < N; i += 8) {
        uint64_t v;
        memcpy(&v, codes + i, 8);
        v = (v >> 4 & 0x0101010101010101u) * 0x0102040810204080u;
        bits |= (uint32_t)(v >> 56) << i;
    }
    return bits;
}

int assay_join_codes32(uint8_t *out, const uint8_t *codes, bool five) {
    int at = 0;
    if (five) {
        assay_store32(out, fifth_bits(codes));
        at = 4;
    }
    assay_join_nibbles(out + at, codes, N / 2);
    return at + N / 2;
}

int assay_join_block32(uint8_t *out, const uint8_t *codes, bool five, bool shifted, float scale, float low) {
    int at = 2;
    assay_store_half(out, scale);
    if (shifted) {
        assay_store_half(out + at, low);
        at += 2;
    }
    return at + assay_join_codes32(out + at, codes, five);
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

static inline void encode(uint8_t *out, kind k, const float *w, int64_t cols, const float *importance) {
    float mean = importance ? assay_sum_squares(w, cols) / (float)cols : 0;
    int bits = k.five ? 5 : 4;
    for (int64_t c = 0; c < cols; c += N) {
        uint8_t codes[N];
        float scale, low = 0, weight[N];
        if (importance) {
            assay_temper(weight, importance + c, w + c, N, mean);
            low = search(codes, &scale, k, w + c, weight);
        } else if (k.shifted) {
            round_range(codes, &scale, &low, w + c, bits);
        } else {
            round_symmetric(codes, &scale, w + c, bits);
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
