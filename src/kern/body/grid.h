/* kern/body/grid.h: codes of ggml's IQ1 and IQ2 blocks, 64 columns at a time, and their scales. The layouts are those
 * drawn in precision/block_expand.c, whose meaning ref takes; here eight indices are looked up as eight codes each, and
 * signs, or IQ1's eighth more or less, are applied to all 64 at once. The loops over them are in dot_packed.h.
 *
 * Every scale is d (2 s + 1) / 8: d has 11 bits and 2 s + 1 at most 5, so that float32 rounds nowhere. */
#ifndef ASSAY_KERN_GRID_H
#define ASSAY_KERN_GRID_H

#include "num/narrow.h"

#define GRID_BLOCK 256 /* columns */

VEC_FN uint32_t grid_word(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
VEC_FN uint64_t grid_words(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
VEC_FN bool grid_fine(assay_form form) { /* groups of 16, not 32 */
    return form == ASSAY_FORM_IQ1_M || form == ASSAY_FORM_IQ2_XS || form == ASSAY_FORM_IQ2_S;
}
VEC_FN size_t grid_bytes(assay_form form) {
    return form == ASSAY_FORM_IQ1_S    ? 50
         : form == ASSAY_FORM_IQ1_M    ? 56
         : form == ASSAY_FORM_IQ2_XXS  ? 66
         : form == ASSAY_FORM_IQ2_XS   ? 74
                                       : 82;
}

/* --- scales --- */

/* s of the groups in the order that takes fewest steps: grid_scale_at. */
VEC_FN void grid_small(uint64_t s[2], const uint8_t *b, assay_form form) {
    const uint64_t words = 0x0007000700070007u, nibbles = 0x0f0f0f0f0f0f0f0fu;
    if (form == ASSAY_FORM_IQ1_S) { /* bits 12 to 14 of eight words */
        s[0] = (grid_words(b + 34) >> 12 & words) | (grid_words(b + 42) >> 12 & words) << 8;
        s[1] = 0;
    } else if (form == ASSAY_FORM_IQ1_M) { /* four times three bits in each of four words */
        uint64_t w = grid_words(b + 48);
        s[0] = (w & words) | (w >> 3 & words) << 8;
        s[1] = (w >> 6 & words) | (w >> 9 & words) << 8;
    } else if (form == ASSAY_FORM_IQ2_XXS) { /* the top four bits of every other word of 32 */
        s[0] = s[1] = 0;
        VEC_UNROLL for (int g = 0; g < 8; g++) s[0] |= (uint64_t)(b[9 + 8 * g] >> 4) << 8 * g;
    } else { /* nibbles */
        uint64_t w = grid_words(b + (form == ASSAY_FORM_IQ2_XS ? 66 : 74));
        s[0] = w & nibbles;
        s[1] = w >> 4 & nibbles;
    }
}
VEC_FN size_t grid_scale_at(size_t g, assay_form form) {
    return form == ASSAY_FORM_IQ1_S    ? g % 4 * 2 + g / 4
         : form == ASSAY_FORM_IQ1_M    ? g % 4 / 2 * 8 + g / 4 * 2 + g % 2
         : form == ASSAY_FORM_IQ2_XXS  ? g
                                       : g % 2 * 8 + g / 2;
}
VEC_FN void grid_scales(float scales[16], const uint8_t *b, assay_form form) {
    uint64_t s[2];
    uint32_t d = grid_word(b);
    grid_small(s, b, form);
    if (form == ASSAY_FORM_IQ1_M) { /* in the top four bits of each word */
        uint64_t w = grid_words(b + 48);
        d = (uint32_t)((w >> 12 & 0xf) | (w >> 24 & 0xf0) | (w >> 36 & 0xf00) | (w >> 48 & 0xf000));
    }
    v16i odd = v16i_add(v16i_sll(v16i_u8(s), 1), v16i_set1(1));
    v16_store(scales, v16_mul(v16_of_int(odd), v16_set1(assay_widen_f16((uint16_t)d) * 0.125f)));
}

/* --- codes --- */

/* Signs of eight times eight elements from seven bits each: the eighth makes their number even. */
VEC_FN uint64_t grid_even(uint64_t sevens) {
    uint64_t x = sevens ^ (sevens >> 4 & 0x0707070707070707u);
    x ^= x >> 2;
    x ^= x >> 1;
    return sevens | (x & 0x0101010101010101u) << 7;
}
VEC_FN uint64_t grid_sevens(uint32_t w) { /* 28 bits to four bytes */
    return (w & 0x7f) | (w << 1 & 0x7f00) | (w << 2 & 0x7f0000) | (w << 3 & 0x7f000000);
}
/* Bytes 0, 2, 4, 6 side by side. */
VEC_FN uint64_t grid_even_bytes(uint64_t w) {
    w = (w | w >> 8) & 0x0000ffff0000ffffu;
    return (w | w >> 16) & 0xffffffffu;
}

VEC_FN v64 grid_iq2_xxs(const uint8_t *b, size_t step, const uint64_t *points) {
    const uint8_t *p = b + 2 + 16 * step;
    uint64_t w[2] = {grid_words(p), grid_words(p + 8)};
    uint32_t at[8];
    VEC_UNROLL for (int k = 0; k < 8; k++) at[k] = p[k + k / 4 * 4];
    uint64_t sevens = grid_sevens((uint32_t)(w[0] >> 32)) | grid_sevens((uint32_t)(w[1] >> 32)) << 32;
    return v64_minus_if(v64_points(points, at), grid_even(sevens));
}
VEC_FN v64 grid_iq2_xs(const uint8_t *b, size_t step, const uint64_t *points) {
    const uint8_t *p = b + 2 + 16 * step;
    const uint64_t mask = 0x007f007f007f007fu;
    uint32_t at[8];
    VEC_UNROLL for (int k = 0; k < 8; k++) at[k] = grid_word(p + 2 * k) & 511;
    uint64_t low = grid_even_bytes(grid_words(p) >> 9 & mask), high = grid_even_bytes(grid_words(p + 8) >> 9 & mask);
    return v64_minus_if(v64_points(points, at), grid_even(low | high << 32));
}
VEC_FN v64 grid_iq2_s(const uint8_t *b, size_t step, const uint64_t *points) {
    const uint8_t *p = b + 2 + 8 * step;
    uint32_t at[8], high = grid_word(b + 66 + 2 * step) << 8;
    VEC_UNROLL for (int k = 0; k < 8; k++) at[k] = p[k] | (high >> 2 * k & 0x300);
    return v64_minus_if(v64_points(points, at), grid_words(b + 34 + 8 * step));
}
/* One more or, where the bit is set, one less. */
VEC_FN v64 grid_shifted(v64 v, uint64_t less) { return v64_add(v, v64_minus_if(v64_set1(1), less)); }
VEC_FN v64 grid_iq1_s(const uint8_t *b, size_t step, const uint64_t *points) {
    const uint8_t *p = b + 2 + 8 * step;
    uint32_t at[8], w[2] = {grid_word(b + 34 + 4 * step), grid_word(b + 36 + 4 * step)};
    VEC_UNROLL for (int k = 0; k < 8; k++) at[k] = p[k] | (w[k / 4] << 8 >> k % 4 * 3 & 0x700);
    uint64_t less = (0 - (uint64_t)(w[0] >> 15)) >> 32 | (0 - (uint64_t)(w[1] >> 15)) << 32;
    return grid_shifted(v64_points(points, at), less);
}
VEC_FN v64 grid_iq1_m(const uint8_t *b, size_t step, const uint64_t *points) {
    const uint8_t *p = b + 8 * step;
    uint32_t at[8];
    uint64_t n = grid_word(b + 32 + 4 * step) | (uint64_t)grid_word(b + 34 + 4 * step) << 32;
    n = (n | n << 8) & 0x00ff00ff00ff00ffu;
    n = (n | n << 4) & 0x0f0f0f0f0f0f0f0fu; /* a nibble a byte */
    VEC_UNROLL for (int k = 0; k < 8; k++) at[k] = p[k] | ((uint32_t)(n >> 8 * k) & 7) << 8;
    return grid_shifted(v64_points(points, at), (n >> 3 & 0x0101010101010101u) * 255);
}

/* Columns 64 step and on; form is a constant. */
VEC_FN v64 grid_codes(const uint8_t *b, size_t step, const uint64_t *points, assay_form form) {
    return form == ASSAY_FORM_IQ1_S    ? grid_iq1_s(b, step, points)
         : form == ASSAY_FORM_IQ1_M    ? grid_iq1_m(b, step, points)
         : form == ASSAY_FORM_IQ2_XXS  ? grid_iq2_xxs(b, step, points)
         : form == ASSAY_FORM_IQ2_XS   ? grid_iq2_xs(b, step, points)
                                       : grid_iq2_s(b, step, points);
}

#endif
