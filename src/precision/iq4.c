/* iq4.c: encoders of IQ4_NL and IQ4_XS: four bits that index a table of sixteen values, finer near zero
 * (ggml-quants.c: quantize_row_iq4_nl_impl, with the fifteen scales that llama-quantize tries, with
 * importance or without).
 *
 * IQ4_XS rounds eight groups' scales to six bits each and chooses the codes again for those; a lone IQ4_NL
 * block stores its scale as float16 but chooses the codes for the unrounded one. */
#include <math.h>
#include <string.h>

#include "precision/block_encode.h"
#include "precision/block_search.h"
#include "precision/iq_points.h"

enum { N = 32, VALUES = 16, REACH = 7, RUNGS = 2 * REACH + 1, PADDED = 16 };

/* Halfway between neighbours; values nearer to the upper one, or right between, take it. All are exact. */
static inline float threshold(int i) {
    return 0.5f * (float)(assay_iq4_values[i - 1] + assay_iq4_values[i]);
}

/* The nearest values for PADDED numbers: every threshold passed adds its step. */
static inline void snap(float *restrict value, const float *restrict x) {
    for (int k = 0; k < PADDED; k++) value[k] = (float)assay_iq4_values[0];
    for (int i = 1; i < VALUES; i++) {
        float limit = threshold(i), step = (float)(assay_iq4_values[i] - assay_iq4_values[i - 1]);
        for (int k = 0; k < PADDED; k++) value[k] += x[k] >= limit ? step : 0;
    }
}

static void choose_codes(uint8_t *restrict codes, const float *restrict w, float inverse) {
    int n[N] = {0};
    for (int i = 1; i < VALUES; i++) {
        float limit = threshold(i);
        for (int k = 0; k < N; k++) n[k] += inverse * w[k] >= limit;
    }
    for (int k = 0; k < N; k++) codes[k] = (uint8_t)n[k];
}

static float search(const float *w, const float *weight) {
    float largest = 0, inverse[PADDED], swq[PADDED] = {0}, sqq[PADDED] = {0};
    for (int i = 0; i < N; i++) largest = fabsf(w[i]) > fabsf(largest) ? w[i] : largest;
    if (fabsf(largest) < ASSAY_SEARCH_TINY) return 0;
    /* The last of the sixteen lanes is the one that goes first. */
    for (int r = 0; r < RUNGS; r++) inverse[r] = (float)(r - REACH + assay_iq4_values[0]) / largest;
    inverse[RUNGS] = 1 / (-largest / (float)assay_iq4_values[0]);
    for (int i = 0; i < N; i++) {
        float x[PADDED], q[PADDED];
        for (int k = 0; k < PADDED; k++) x[k] = inverse[k] * w[i];
        snap(q, x);
        for (int k = 0; k < PADDED; k++) {
            float vq = weight[i] * q[k];
            swq[k] += vq * w[i];
            sqq[k] += vq * q[k];
        }
    }
    float scale = sqq[RUNGS] > 0 ? swq[RUNGS] / sqq[RUNGS] : 0, best = scale * swq[RUNGS];
    for (int k = 0; k < RUNGS; k++) {
        if (!(sqq[k] > 0) || !(swq[k] * swq[k] > best * sqq[k])) continue;
        scale = swq[k] / sqq[k];
        best = scale * swq[k];
    }
    return scale;
}

/* One group's scale; mean is of squares over the block. */
static float search_group(const float *w, const float *importance, float mean) {
    float weight[N];
    if (importance)
        assay_temper(weight, importance, w, N, mean);
    else
        for (int i = 0; i < N; i++) weight[i] = w[i] * w[i];
    return search(w, weight);
}

void assay_encode_IQ4_NL(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    for (int64_t c = 0; c < cols; c += N, out += 18) {
        uint8_t codes[N];
        float mean = assay_sum_squares(w + c, N) * (2.0f / N);
        float scale = search_group(w + c, importance ? importance + c : NULL, mean);
        choose_codes(codes, w + c, scale != 0 ? 1 / scale : 0);
        assay_store_half(out, scale);
        assay_join_nibbles(out + 2, codes, N / 2);
    }
}

void assay_encode_IQ4_XS(uint8_t *out, const float *w, int64_t cols, const float *importance) {
    enum { GROUPS = ASSAY_BLOCK_MAX / N };
    for (int64_t c = 0; c < cols; c += ASSAY_BLOCK_MAX, out += 136) {
        uint8_t codes[N];
        float scales[GROUPS], largest = 0,
                              mean = assay_sum_squares(w + c, ASSAY_BLOCK_MAX) * (2.0f / ASSAY_BLOCK_MAX);
        for (int g = 0; g < GROUPS; g++) {
            scales[g] = search_group(w + c + N * g, importance ? importance + c + N * g : NULL, mean);
            largest = fabsf(scales[g]) > fabsf(largest) ? scales[g] : largest;
        }
        float d = -largest / 32, inverse = d != 0 ? 1 / d : 0;
        uint32_t high = 0;
        assay_store_half(out, d);
        memset(out + 4, 0, 4);
        for (int g = 0; g < GROUPS; g++) {
            int level = assay_nearest_within(inverse * scales[g], -32, 31);
            float scale = d * (float)level;
            choose_codes(codes, w + c + N * g, scale != 0 ? 1 / scale : 0);
            assay_join_nibbles(out + 8 + N / 2 * g, codes, N / 2);
            out[4 + g / 2] = (uint8_t)(out[4 + g / 2] | ((level + 32) & 15) << 4 * (g & 1));
            high |= (uint32_t)(level + 32) >> 4 << 2 * g;
        }
        assay_store16(out + 2, high);
    }
}
