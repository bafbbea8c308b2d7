/* kern/body/pairs.h: bf16 pair products for instruction sets that have none: the even and the odd elements of
 * 32 bf16 values as float32 lanes, multiplied by two fmas in VDPBF16PS' order. Included by a vocabulary after
 * v16, v16i, f8.h and q8.h. */
typedef struct vb {
    v16 even, odd;
} vb;
typedef v16i vb_block;
typedef v16 vb_table; /* 16 values that bf16 holds exactly */

VEC_FN v16 v16_round_bf16(v16 v) {
    v16i u = v16_bits(v);
    v16i lsb = v16i_and(v16i_srl(u, 16), v16i_set1(1));
    v16 r = v16_of_bits(v16i_and(v16i_add(v16i_add(u, v16i_set1(0x7fff)), lsb), v16i_set1((int)0xffff0000)));
    v16 quiet = v16_of_bits(v16i_and(v16i_or(u, v16i_set1(0x400000)), v16i_set1((int)0xffff0000)));
    return v16_if_nan(v, quiet, r);
}
VEC_FN vb vb_zero(void) { return (vb){v16_zero(), v16_zero()}; }
VEC_FN vb vb_of_words(v16i w) {
    return (vb){v16_of_bits(v16i_sll(w, 16)), v16_of_bits(v16i_and(w, v16i_set1((int)0xffff0000)))};
}
VEC_FN vb vb_load(const void *p) { return vb_of_words(v16i_load(p)); }
VEC_FN void vb_store(void *p, vb v) {
    v16i_store(p, v16i_or(v16i_srl(v16_bits(v.even), 16), v16_bits(v.odd)));
}
VEC_FN v16 vb_dot(v16 acc, vb x, vb w) { return v16_fma(x.even, w.even, v16_fma(x.odd, w.odd, acc)); }
VEC_FN vb_block vb_block_load(const void *p) { return v16i_load(p); }
VEC_FN vb_table vb_table_of(v16 t) { return v16_round_bf16(t); }
VEC_FN vb vb_q4(vb_block w, int q, vb_table t) {
    return (vb){v16_lookup(t, v16i_srl(w, 4 * q)), v16_lookup(t, v16i_srl(w, 16 + 4 * q))};
}
/* 32 bytes; scale[1] is that of the second sixteen in groups of 16. */
VEC_FN vb vb_q8(const uint8_t *p, int bytes, v16 zero, const v16 scale[2]) {
    v16i w = v16i_u16(p), e = v16i_and(w, v16i_set1(255)), o = v16i_srl(w, 8);
    v16 s = scale[0];
    if (bytes >= BYTES_SIGNED) e = v16i_sra(v16i_sll(w, 24), 24), o = v16i_sra(v16i_sll(w, 16), 24);
    if (bytes == BYTES_SIGNED16) s = v16_halves(s, scale[1]);
    return (vb){v16_round_bf16(q8_lanes(v16_of_int(e), bytes, zero, s)),
                v16_round_bf16(q8_lanes(v16_of_int(o), bytes, zero, s))};
}
VEC_FN vb_table vb_table_at(const uint16_t *t) { return v16_of_bits(v16i_sll(v16i_u16(t), 16)); }
/* Two tables, the second for the upper half of the lanes. */
typedef struct vb_table2 {
    v16 t, u;
} vb_table2;
VEC_FN vb_table2 vb_table2_at(const uint16_t *t, const uint16_t *u) {
    return (vb_table2){vb_table_at(t), vb_table_at(u)};
}
VEC_FN vb_table2 vb_table2_of(v16 t, v16 u) { return (vb_table2){vb_table_of(t), vb_table_of(u)}; }
VEC_FN vb vb_q4_two(vb_block w, int q, vb_table2 t) {
    return (vb){v16_lookup2(t.t, t.u, v16i_srl(w, 4 * q)), v16_lookup2(t.t, t.u, v16i_srl(w, 16 + 4 * q))};
}
typedef assay_form vb_f8;
VEC_FN vb_f8 vb_f8_of(assay_form form) { return form; }
VEC_FN vb vb_f8_lanes(const uint8_t *p, int q, assay_form form, v16 scale) {
    v16i w = v16i_load(p);
    return (vb){v16_mul(f8_lanes(w, 8 * q, form), scale), v16_mul(f8_lanes(w, 16 + 8 * q, form), scale)};
}
/* The values of a block of 64 codes. */
VEC_FN void vb_f8_two(vb out[2], const uint8_t *p, const vb_f8 *form) {
    out[0] = vb_f8_lanes(p, 0, *form, v16_set1(f8_factor(*form)));
    out[1] = vb_f8_lanes(p, 1, *form, v16_set1(f8_factor(*form)));
}
VEC_FN vb vb_f8_scaled(const uint8_t *p, int q, assay_form form, v16 scale) {
    vb v = vb_f8_lanes(p, q, form, scale);
    return (vb){v16_round_bf16(v.even), v16_round_bf16(v.odd)};
}
/* From 32 floats in memory order. */
VEC_FN vb vb_of_f32(v16 first, v16 second) {
    uint16_t t[32];
    v16i_store_u16(t, v16i_srl(v16_bits(v16_round_bf16(first)), 16));
    v16i_store_u16(t + 16, v16i_srl(v16_bits(v16_round_bf16(second)), 16));
    return vb_load(t);
}
