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

/* --- matrices: codes [rows][cols], one a byte, and the words of a file, which lie in lines --- */

typedef enum assay_packing_layout {
    ASSAY_PACKING_ROWS,   /* line r is the stream of row r: [rows][words of cols] (compressed-tensors) */
    ASSAY_PACKING_ACROSS, /* line k is word k of every row's stream: [words of cols][rows]; cols by 32 (GPTQ) */
    ASSAY_PACKING_TURNED  /* line c is column c, its rows by eights in a word, from the low end the 1st, 3rd, 5th, 7th, 2nd, 4th, 6th and
                             8th: [cols][rows / 8]; 4 bits, rows by 8 (AWQ) */
} assay_packing_layout;

typedef struct assay_packing {
    assay_packing_layout layout;
    int bits;
    int64_t rows, cols;
} assay_packing;

/* The shape of the packed matrix in lines and words. */
void assay_packing_shape(int64_t shape[2], const assay_packing *p);
/* Lines of about `bytes` together that can be packed at once: a multiple of it is where pieces may begin. */
int64_t assay_packing_piece(const assay_packing *p, size_t bytes);
/* Lines [first, first + n) into dst, with all cores; meanwhile one of them calls also(ctx), unless it is NULL. first is a multiple of a
 * piece, n is one or the rest. */
void assay_pack_lines(uint32_t *dst, const assay_packing *p, const uint8_t *codes, int64_t first, int64_t n, void (*also)(void *ctx),
                      void *ctx);
/* All lines back, with all cores; src need not be aligned. */
void assay_unpack_lines(uint8_t *codes, const assay_packing *p, const void *src);

#endif
