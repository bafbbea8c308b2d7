/* precision/block_impl.h: what the files of the block types share. Not for other rooms. */
#ifndef ASSAY_PRECISION_BLOCK_IMPL_H
#define ASSAY_PRECISION_BLOCK_IMPL_H

#include "num/narrow.h"
#include "precision/block.h"

/* Little-endian words at any address. */
static inline uint32_t assay_load16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}
static inline uint32_t assay_load32(const uint8_t *p) {
    return assay_load16(p) | assay_load16(p + 2) << 16;
}
static inline void assay_store16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void assay_store32(uint8_t *p, uint32_t v) {
    assay_store16(p, v);
    assay_store16(p + 2, v >> 16);
}
static inline float assay_load_half(const uint8_t *p) {
    return assay_widen_f16((uint16_t)assay_load16(p));
}

/* IQ1_M: the float16 pattern that stands in the top four bits of the four words at offset 48, lowest four
 * first. */
static inline uint32_t assay_iq1_m_scale(const uint8_t *block) {
    return (uint32_t)(block[49] >> 4) | (block[51] & 0xf0u) | (block[53] & 0xf0u) << 4 |
           (block[55] & 0xf0u) << 8;
}

/* The parts of matrix.c and decode.c for this kind: m is of kind BLOCK. */
void assay_block_decode_row(float *restrict out, const assay_matrix *m, int64_t row);
double assay_block_bits(const assay_matrix *m);
assay_status assay_block_check(const assay_matrix *m, const char *name, assay_err *err);

#endif
