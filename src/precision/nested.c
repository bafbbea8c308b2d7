/* nested.c: double quantization of block scales (Dettmers et al. 2023, QLoRA), with the arithmetic of
 * bitsandbytes 0.50 on CPU: functional.py quantize_4bit(compress_statistics=True), csrc/cpu_ops.cpp
 * quantize_cpu.
 *
 *   offset   = mean(scales)                      torch's float32 sum, see sum.c
 *   d[k]     = scales[k] - offset
 *   absmax[b]= max |d| over block b of 256
 *   code[k]  = nearest entry of the dynamic map to d[k] / absmax[b], found by way of 65,536 equal bins of
 *              [-1, 1], so that a value near the middle of two entries can go to the farther one, as it does
 * there
 *
 * torch splits sums of more than 32,768 elements over its threads, so its own offset changes in the last
 * bits with the number of threads; this is the one-threaded value. */
#include "precision/nested.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "precision/encode.h"

const float assay_dynamic_map[256] = {
#include "precision/dynamic_map.def"
};

enum { N_BINS = 65536 };

assay_nested *assay_nested_new(int64_t n, int block) {
    assay_nested *q = assay_calloc(1, sizeof *q);
    if (!q) return NULL;
    q->block = block;
    q->codes = assay_malloc((size_t)n);
    q->absmax = assay_mallocn((size_t)((n + block - 1) / block), sizeof *q->absmax);
    if (q->codes && q->absmax) return q;
    assay_nested_free(q);
    return NULL;
}

void assay_nested_free(assay_nested *q) {
    if (!q) return;
    assay_free(q->codes);
    assay_free(q->absmax);
    assay_free(q);
}

/* The map's entry for each bin: the lowest whose midpoint to the next is not below the bin's value. */
static void fill_bins(uint8_t bins[N_BINS], const float map[256]) {
    int code = 0;
    for (int i = 0; i < N_BINS; i++) {
        float value = -1.0f + 2.0f * (float)i / (float)(N_BINS - 1);
        while (code < 255 && 0.5f * (map[code] + map[code + 1]) < value) code++;
        bins[i] = (uint8_t)code;
    }
}

static void encode_block(uint8_t *codes, float *absmax, const float *scales, float offset, int64_t n,
                         const uint8_t *bins) {
    float top = 0;
    for (int64_t k = 0; k < n; k++) top = fmaxf(top, fabsf(scales[k] - offset));
    *absmax = top;
    if (top == 0.0f) {
        memset(codes, 0, (size_t)n); /* sic: entry 0 times an absmax of 0 */
        return;
    }
    float inverse = 1.0f / top;
    for (int64_t k = 0; k < n; k++) {
        float v = (scales[k] - offset) * inverse;
        v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
        codes[k] = bins[(uint16_t)((v + 1.0f) * 0.5f * (float)(N_BINS - 1) + 0.5f)];
    }
}

void assay_nested_encode(assay_nested *q, const float *scales, int64_t n) {
    uint8_t bins[N_BINS];
    memcpy(q->map, assay_dynamic_map, sizeof q->map);
    fill_bins(bins, q->map);
    q->offset = assay_sum_like_torch(scales, n) / (float)n;
    for (int64_t k = 0; k < n; k += q->block)
        encode_block(q->codes + k, q->absmax + k / q->block, scales + k, q->offset,
                     ASSAY_MIN(q->block, n - k), bins);
}

void assay_nested_decode(float *scales, const assay_nested *q, int64_t n) {
    for (int64_t k = 0; k < n; k++) scales[k] = q->map[q->codes[k]] * q->absmax[k / q->block] + q->offset;
}
