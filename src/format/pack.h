/* format/pack.h: codes as bit streams. Not for other rooms.
 *
 * Dense little-endian bit streams in 32-bit words, LSB first: code i is at bits [i*b, (i+1)*b). So 8 codes are b bytes whatever b is, and
 * 32 codes are b words. */
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

/* Rows of codes [rows][cols], each a stream of its own of assay_packed_words(cols, bits) words: with all cores. */
void assay_pack_codes(uint32_t *dst, const uint8_t *codes, int64_t rows, int64_t cols, int bits);
void assay_unpack_rows(uint8_t *codes, const void *src, int64_t rows, int64_t cols, int bits);

/* The same codes with the words across: word k of the stream of row r is at dst[k * rows + r] (GPTQ's layout). cols is a multiple of
 * 32; with all cores. */
void assay_pack_across(uint32_t *dst, const uint8_t *codes, int64_t rows, int64_t cols, int bits);
void assay_unpack_across(uint8_t *codes, const void *src, int64_t rows, int64_t cols, int bits);

#endif
