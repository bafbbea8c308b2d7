/* kern/body/q8.h: values of codes of a byte (Q8, S8), sixteen at a time. Included by a vocabulary after v16 and v16i;
 * `bytes`, a constant, is what vec.h lists. */
VEC_FN v16i q8_load(const uint8_t *p, int bytes) { return bytes >= BYTES_SIGNED ? v16i_s8(p) : v16i_u8(p); }
/* (code - zero) * scale, or code * scale + zero where that is as exact. */
VEC_FN v16 q8_lanes(v16 code, int bytes, v16 zero, v16 scale) {
    return bytes == BYTES_ZEROS                           ? v16_mul(v16_sub(code, zero), scale)
           : bytes == BYTES_PLAIN || bytes == BYTES_OFFSETS ? v16_fma(code, scale, zero)
                                                            : v16_mul(code, scale);
}
