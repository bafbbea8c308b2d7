/* kern/body/grid.h: codes of ggml's IQ1 and IQ2 blocks, 64 columns at a time, and their scales. The layouts are those
 * drawn in precision/block_expand.c, whose meaning ref takes; here eight indices are looked up as eight codes each, and
 * signs, or IQ1's eighth more or less, are applied to all 64 at once. The loops over them are in dot_packed.h.
 *
 * Every scale is d (2 s + 1) / 8: d has 11 bits and 2 s + 1 at most 5, so that float32 rounds nowhere. */
#ifndef ASSAY_KERN_GRID_H
#define ASSAY_KERN_GRID_H

#define GRID_BLOCK 256 /* columns */

VEC_FN uint32_t grid_half(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
VEC_FN v16i grid_all(const uint8_t *p) { /* a word in all lanes */
    int v;
    memcpy(&v, p, 4);
    return v16i_set1(v);
}
/* The first word in lanes 0 to 7, the second in the others. */
VEC_FN v16i grid_two(const uint8_t *p) {
    return v16_bits(v16_halves(v16_of_bits(grid_all(p)), v16_of_bits(grid_all(p + 4))));
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

/* --- a block taken apart --- */

typedef struct grid_block {
    _Alignas(64) uint32_t at[32]; /* indices (IQ2_XXS: none, they are bytes of their own) */
    float scales[16];
    uint64_t mask[4]; /* a bit for each column: IQ2's signs, IQ1's columns of an eighth less */
} grid_block;

/* What to shift the lanes by. */
static const uint32_t GRID_NIBBLES[16] = {0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28},
                      GRID_PAIRS[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30},
                      GRID_THREES[16] = {0, 3, 6, 9, 16, 19, 22, 25, 0, 3, 6, 9, 16, 19, 22, 25},
                      GRID_QUARTERS[16] = {0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9};
/* Lanes to take. */
static const uint32_t GRID_ODD[16] = {1, 3, 5, 7, 9, 11, 13, 15}, /* and anything */
    GRID_EACH[2][16] = {{8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 11},
                        {12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15}};

VEC_FN v16i grid_take(v16i v, const uint32_t lanes[16]) {
    return v16_bits(v16_lookup(v16_of_bits(v), v16i_load(lanes)));
}
VEC_FN v16i grid_field(v16i v, const uint32_t by[16], int mask) {
    return v16i_and(v16i_srlv(v, v16i_load(by)), v16i_set1(mask));
}
/* Signs of eight elements from seven bits, in each byte: the eighth makes their number even. */
VEC_FN v16i grid_even(v16i sevens) {
    v16i x = v16i_xor(sevens, v16i_and(v16i_srl(sevens, 4), v16i_set1(0x07070707)));
    x = v16i_xor(x, v16i_srl(x, 2));
    x = v16i_xor(x, v16i_srl(x, 1));
    return v16i_or(sevens, v16i_sll(v16i_and(x, v16i_set1(0x01010101)), 7));
}

/* Each gives s of the groups, in the lanes that grid_scale_at names. */
VEC_FN v16i grid_open_iq1_s(grid_block *o, const uint8_t *b) {
    v16i w = v16i_u16(b + 18); /* the eight words at 34 in lanes 8 to 15 */
    VEC_UNROLL for (int h = 0; h < 2; h++) {
        v16i high = grid_field(v16i_sll(grid_take(w, GRID_EACH[h]), 8), GRID_QUARTERS, 0x700);
        v16i_store(o->at + 16 * h, v16i_or(v16i_u8(b + 2 + 16 * h), high));
    }
    uint32_t less[16];
    v16i_store(less, v16i_sra(v16i_sll(w, 16), 31));
    memcpy(o->mask, less + 8, sizeof o->mask);
    return v16i_and(v16i_srl(w, 12), v16i_set1(7));
}
VEC_FN v16i grid_open_iq1_m(grid_block *o, const uint8_t *b) {
    VEC_UNROLL for (int h = 0; h < 2; h++) {
        v16i n = grid_field(grid_two(b + 32 + 8 * h), GRID_NIBBLES, 15);
        v16i high = v16i_sll(v16i_and(n, v16i_set1(7)), 8);
        v16i_store(o->at + 16 * h, v16i_or(v16i_u8(b + 16 * h), high));
        v16i_store_i8((uint8_t *)o->mask + 16 * h, v16i_sra(v16i_sll(n, 28), 31));
    }
    return grid_field(grid_two(b + 48), GRID_THREES, 7);
}
VEC_FN v16i grid_open_iq2_xxs(grid_block *o, const uint8_t *b) {
    v16i w = v16i_load(b + 2), sevens = v16i_and(w, v16i_set1(0x7f)); /* signs and scales in odd lanes */
    VEC_UNROLL for (int k = 1; k < 4; k++)
        sevens = v16i_or(sevens, v16i_and(v16i_sll(w, k), v16i_set1(0x7f << 8 * k)));
    uint32_t signs[16];
    v16i_store(signs, grid_take(grid_even(sevens), GRID_ODD));
    memcpy(o->mask, signs, sizeof o->mask);
    return v16i_srl(w, 28);
}
VEC_FN v16i grid_open_iq2_xs(grid_block *o, const uint8_t *b) {
    VEC_UNROLL for (int h = 0; h < 2; h++)
        v16i_store(o->at + 16 * h, v16i_and(v16i_u16(b + 2 + 32 * h), v16i_set1(511)));
    v16i signs = grid_even(v16i_and(v16i_srl(v16i_load(b + 2), 9), v16i_set1(0x007f007f)));
    v16i_store_u16(o->mask, v16i_and(v16i_or(signs, v16i_srl(signs, 8)), v16i_set1(0xffff)));
    return grid_field(grid_two(b + 66), GRID_NIBBLES, 15);
}
VEC_FN v16i grid_open_iq2_s(grid_block *o, const uint8_t *b) {
    VEC_UNROLL for (int h = 0; h < 2; h++) {
        v16i high = v16i_sll(grid_field(grid_all(b + 66 + 4 * h), GRID_PAIRS, 3), 8);
        v16i_store(o->at + 16 * h, v16i_or(v16i_u8(b + 2 + 16 * h), high));
    }
    memcpy(o->mask, b + 34, sizeof o->mask);
    return grid_field(grid_two(b + 74), GRID_NIBBLES, 15);
}
VEC_FN size_t grid_scale_at(size_t g, assay_form form) {
    return form == ASSAY_FORM_IQ1_S ? 8 + g : form == ASSAY_FORM_IQ2_XXS ? 2 * g + 1 : g;
}

/* form is a constant, here and below. */
VEC_FN void grid_open(grid_block *o, const uint8_t *b, assay_form form) {
    v16i s = form == ASSAY_FORM_IQ1_S    ? grid_open_iq1_s(o, b)
             : form == ASSAY_FORM_IQ1_M   ? grid_open_iq1_m(o, b)
             : form == ASSAY_FORM_IQ2_XXS ? grid_open_iq2_xxs(o, b)
             : form == ASSAY_FORM_IQ2_XS  ? grid_open_iq2_xs(o, b)
                                          : grid_open_iq2_s(o, b);
    uint32_t d = grid_half(b);
    if (form == ASSAY_FORM_IQ1_M) /* in the top four bits of four words */
        d = grid_half(b + 48) >> 12 | (grid_half(b + 50) >> 8 & 0xf0) | (grid_half(b + 52) >> 4 & 0xf00) |
            (grid_half(b + 54) & 0xf000);
    v16i odd = v16i_add(v16i_sll(s, 1), v16i_set1(1));
    v16_store(o->scales, v16_mul(v16_of_int(odd), v16_mul(v16_f16((uint16_t)d), v16_set1(0.125f))));
}

/* Codes of columns 64 step and on of a block. */
VEC_FN v64 grid_codes(const grid_block *o, const uint8_t *b, size_t step, const uint64_t *points, assay_form form) {
    uint32_t at[8];
    VEC_UNROLL for (size_t k = 0; k < 8; k++)
        at[k] = form == ASSAY_FORM_IQ2_XXS ? b[2 + 16 * step + k + k / 4 * 4] : o->at[8 * step + k];
    v64 v = v64_points(points, at);
    if (form >= ASSAY_FORM_IQ2_XXS) return v64_minus_if(v, o->mask[step]);
    return v64_add(v, v64_minus_if(v64_set1(1), o->mask[step]));
}

#endif
