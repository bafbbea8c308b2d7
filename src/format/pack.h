/* format/pack.h: dense little-endian bit streams in 32-bit words, LSB first: code i is at bits [i*b,
 * (i+1)*b). Not for other rooms. */
#ifndef ASSAY_FORMAT_PACK_H
#define ASSAY_FORMAT_PACK_H

#include <stddef.h>
#include <stdint.h>

/* Words that n codes of b bits take. */
size_t assay_packed_words(size_t n, int bits);
/* dst [assay_packed_words(n, bits)]; stride is the distance between successive words; the last word is
 * filled up with zeros. */
void assay_pack(uint32_t *dst, size_t stride, const uint8_t *codes, size_t code_stride, size_t n, int bits);
/* src need not be aligned. */
void assay_unpack(uint8_t *codes, size_t code_stride, const void *src, size_t stride, size_t n, int bits);

#endif
