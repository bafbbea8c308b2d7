/* kern/body/dot.h: what the f32 and the bf16 class share: loading dense elements, the scaled values of a
 * group of codes, and the choice of a tile's height and of a block's groups as constants. */
#ifndef ASSAY_KERN_DOT_H
#define ASSAY_KERN_DOT_H

#include "kern/body/grid.h"

VEC_FN v16 dense_f32(const char *p, assay_form form, size_t i) {
    return form == ASSAY_FORM_F32 ? v16_load(p + 4 * i)
         : form == ASSAY_FORM_F16 ? v16_load_f16(p + 2 * i)
                                  : v16_of_bits(v16i_sll(v16i_u16(p + 2 * i), 16));
}
VEC_FN size_t form_size(assay_form form) { return form == ASSAY_FORM_F32 ? 4 : 2; }

/* Rows of x left over after whole tiles: a tile of exactly that height. */
#define TILE_CASES(CALL)                                                                                     \
    switch (mc) {                                                                                            \
    case 1: CALL(1); break;                                                                                  \
    case 2: CALL(TILE_M >= 2 ? 2 : 1); break;                                                                \
    case 3: CALL(TILE_M >= 3 ? 3 : 1); break;                                                                \
    case 4: CALL(TILE_M >= 4 ? 4 : 1); break;                                                                \
    case 5: CALL(TILE_M >= 5 ? 5 : 1); break;                                                                \
    default: CALL(TILE_M); break;                                                                            \
    }

/* Scales and offsets of a row's groups from group `first` on: the row's own, or what small integers and their
 * units make of 256 columns. */
typedef struct dot_scales {
    const float *scale, *offset;
    size_t first;
    float made[2][16];
} dot_scales;
/* nr rows as the groups of a row begin. */
VEC_FN void scales_begin(dot_scales *s, const assay_rows *w, size_t row, int nr) {
    VEC_UNROLL for (int r = 0; r < nr; r++) {
        size_t i = (row + (size_t)r) * w->n_groups;
        s[r].scale = w->small_scales ? s[r].made[0] : w->scales ? w->scales + i : NULL;
        s[r].offset = w->small_offsets ? s[r].made[1] : w->offsets ? w->offsets + i : NULL;
        s[r].first = 0;
    }
}
/* Makes those of columns c to c + 255, c a multiple of 256. */
VEC_FN void scales_make(dot_scales *s, const assay_rows *w, size_t row, int nr, size_t c) {
    VEC_UNROLL for (int r = 0; r < nr; r++) {
        size_t g = c / w->group, i = (row + (size_t)r) * w->n_groups + g,
               u = (row + (size_t)r) * (w->k / ASSAY_KERN_SUPER) + c / ASSAY_KERN_SUPER;
        v16 small = v16_of_int(v16i_s8(w->small_scales + i));
        v16_store(s[r].made[0], v16_mul(small, v16_set1(w->scale_units[u])));
        VEC_PREFETCH(w->small_scales + i + (size_t)nr * w->n_groups);
        s[r].first = g;
        if (!w->small_offsets) continue;
        small = v16_of_int(v16i_s8(w->small_offsets + i));
        v16_store(s[r].made[1], v16_mul(small, v16_set1(w->offset_units[u])));
        VEC_PREFETCH(w->small_offsets + i + (size_t)nr * w->n_groups);
    }
}

/* What Q4 has beside scales, a constant where groups are small: a test for each would cost as much as a group. */
enum { SCALES_ANY, SCALES_ALONE, SCALES_OFFSETS, SCALES_CODED };

/* The 16 values of group g of a row: (values - zero) * scale + offset, as decode_rows computes them. */
VEC_FN v16 q4_scaled(const assay_rows *w, const dot_scales *s, size_t row, size_t g, int scales) {
    v16 t = v16_load(w->values);
    size_t i = row * w->n_groups + g;
    if (scales == SCALES_ANY && w->zeros)
        t = v16_sub(t, v16_set1((float)w->zeros[i]));
    else if (scales == SCALES_ANY && w->real_zeros)
        t = v16_sub(t, v16_set1(w->real_zeros[i]));
    t = v16_mul(t, v16_set1(s->scale[g - s->first]));
    if (scales == SCALES_OFFSETS || (scales == SCALES_ANY && s->offset))
        t = v16_add(t, v16_set1(s->offset[g - s->first]));
    return t;
}
/* Asks for the scales of a block's groups. */
VEC_FN void q4_prefetch(const assay_rows *w, size_t row, size_t g, int gpb, int scales) {
    if (gpb < 4 || scales == SCALES_CODED || w->small_scales) return;
    VEC_PREFETCH(w->scales + row * w->n_groups + g);
    if (scales == SCALES_OFFSETS) VEC_PREFETCH(w->offsets + row * w->n_groups + g);
}
VEC_FN v16 q8_zero(const assay_rows *w, size_t row, size_t g) {
    size_t i = row * w->n_groups + g;
    return v16_set1(w->zeros ? (float)w->zeros[i] : w->real_zeros ? w->real_zeros[i] : w->zero);
}
/* Without zeros, zero is a power of two: zero * scale is exact, and one fma of the code, the scale and this
 * rounds as the difference times the scale does. */
VEC_FN v16 q8_offset(const assay_rows *w, size_t row, size_t g) {
    return v16_set1(-w->zero * w->scales[row * w->n_groups + g]);
}
/* What q8_lanes wants for group g; in groups of 16 also the next one's scale. A row may end with the first; x is
 * zero in the other half then. */
VEC_FN void q8_group(v16 *zero, v16 scale[2], const assay_rows *w, const dot_scales *s, size_t row, size_t g,
                     int nr, int bytes) {
    size_t i = g - s->first;
    if (bytes == BYTES_PLAIN) *zero = q8_offset(w, row, g);
    if (bytes == BYTES_ZEROS) *zero = q8_zero(w, row, g);
    if (bytes == BYTES_OFFSETS) *zero = v16_set1(s->offset[i]);
    scale[0] = v16_set1(s->scale[i]);
    if (bytes >= BYTES_SIGNED) VEC_PREFETCH(s->scale + i + (size_t)nr * w->n_groups);
    if (bytes == BYTES_OFFSETS) VEC_PREFETCH(s->offset + i + (size_t)nr * w->n_groups);
    if (bytes == BYTES_SIGNED16) scale[1] = v16_set1(s->scale[g + 1 < w->n_groups ? i + 1 : i]);
}

/* What the bytes are, as a constant. */
#define Q8_CASES(w, CALL)                                                                                    \
    if ((w)->form == ASSAY_FORM_S8 && (w)->n_groups > 1 && (w)->group == 16)                                 \
        CALL(BYTES_SIGNED16);                                                                                \
    else if ((w)->form == ASSAY_FORM_S8 && ((w)->offsets || (w)->small_offsets))                             \
        CALL(BYTES_OFFSETS);                                                                                 \
    else if ((w)->form == ASSAY_FORM_S8)                                                                     \
        CALL(BYTES_SIGNED);                                                                                  \
    else if ((w)->zeros || (w)->real_zeros)                                                                  \
        CALL(BYTES_ZEROS);                                                                                   \
    else                                                                                                     \
        CALL(BYTES_PLAIN)

/* Groups per block and what they have, as constants. */
#define Q4_CASES(w, CALL)                                                                                    \
    if ((w)->scale_codes && (w)->group == 16)                                                                \
        CALL(8, SCALES_CODED);                                                                               \
    else if ((w)->scale_codes)                                                                               \
        CALL(4, SCALES_CODED);                                                                               \
    else if ((w)->n_groups > 1 && (w)->group == 16 && ((w)->offsets || (w)->small_offsets))                  \
        CALL(8, SCALES_OFFSETS);                                                                             \
    else if ((w)->n_groups > 1 && (w)->group == 16)                                                          \
        CALL(8, SCALES_ALONE);                                                                               \
    else if ((w)->n_groups > 1 && (w)->group == 32 && ((w)->zeros || (w)->real_zeros))                       \
        CALL(4, SCALES_ANY);                                                                                 \
    else if ((w)->n_groups > 1 && (w)->group == 32 && ((w)->offsets || (w)->small_offsets))                  \
        CALL(4, SCALES_OFFSETS);                                                                             \
    else if ((w)->n_groups > 1 && (w)->group == 32)                                                          \
        CALL(4, SCALES_ALONE);                                                                               \
    else if ((w)->n_groups > 1 && (w)->group == 64)                                                          \
        CALL(2, SCALES_ANY);                                                                                 \
    else                                                                                                     \
        CALL(1, SCALES_ANY)

/* The scale of group g and the factor. Scales are below 2^7 (kern.h), so this is finite and the product with a
 * lane is the value's own rounding. */
VEC_FN v16 f8_scale(const assay_rows *w, size_t row, size_t g, assay_form form) {
    return v16_set1(w->scales[row * w->n_groups + g] * f8_factor(form));
}
/* Columns until the scale changes. */
VEC_FN size_t group_columns(const assay_rows *w) {
    return w->n_groups == 1 ? SIZE_MAX - SIZE_MAX % ASSAY_KERN_CHUNK : w->group;
}

#endif
