/* precision/block_encode.h: the encoders of ggml's block types, one per type. Not for other rooms. */
#ifndef ASSAY_PRECISION_BLOCK_ENCODE_H
#define ASSAY_PRECISION_BLOCK_ENCODE_H

#include "num/convert.h"
#include "precision/block_impl.h"

/* One row: cols is a multiple of the block's elements, w finite, importance [cols] finite and not negative
 * or NULL; the grids of the IQ types must have been made (iq_lattice.h). */
#define B(NAME, name, bits, type, elements, bytes, group, mins)                                              \
    void assay_encode_##NAME(uint8_t *out, const float *w, int64_t cols, const float *importance);
#include "precision/blocks.def"
#undef B

static inline void assay_store_half(uint8_t *p, float x) {
    assay_store16(p, assay_f32_to_f16(x));
}

/* n bytes of two codes each: the i-th and the (i + n)-th of 2 n. */
static inline void assay_join_nibbles(uint8_t *restrict out, const uint8_t *restrict codes, int n) {
    for (int i = 0; i < n; i++) out[i] = (uint8_t)((codes[i] & 15) | codes[i + n] << 4);
}

/* 64 bytes of four codes of two bits each, as Q2_K has them. */
static inline void assay_join_pairs(uint8_t *restrict out, const uint8_t *restrict codes) {
    for (int half = 0; half < 2; half++, out += 32, codes += 128)
        for (int l = 0; l < 32; l++)
            out[l] = (uint8_t)((codes[l] & 3) | (codes[l + 32] & 3) << 2 | (codes[l + 64] & 3) << 4 |
                               codes[l + 96] << 6);
}

/* The 32 codes of a block of 4 or five bits; returns their bytes. */
int assay_join_codes32(uint8_t *out, const uint8_t *codes, bool five);
/* A block of Q4_0, Q5_0 (five), Q4_1, Q5_1 (shifted); returns its bytes. */
int assay_join_block32(uint8_t *out, const uint8_t *codes, bool five, bool shifted, float scale, float low);

#endif
