/* linalg/pack.h: copying operands into the layout that kern's products read: rows contiguous along the inner dimension, padded with
 * zeros to a multiple of 32 elements. Inside the room only. */
#ifndef ASSAY_LINALG_PACK_H
#define ASSAY_LINALG_PACK_H

#include <stddef.h>
#include "kern/kern.h"

/* k elements padded. */
static inline size_t assay_pack_up(size_t k) {
    return (k + ASSAY_KERN_CHUNK - 1) / ASSAY_KERN_CHUNK * ASSAY_KERN_CHUNK;
}
/* Distance of packed rows of k elements: a line more than a power of two, whose multiples would meet in a few sets of the cache. */
static inline size_t assay_pack_ld(size_t k) {
    return assay_pack_up(k) + ASSAY_KERN_CHUNK;
}
/* dst[rows][ld] <- src[rows][lds], k elements a row; zeros up to a multiple of 32. */
void assay_pack_rows(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k);
/* dst[rows][ld] <- the transpose of src[k][lds], of which `rows` columns are taken; nothing past k is written. */
void assay_transpose(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k);
/* dst[rows][ld] <- the transpose of src[k][lds], likewise, and zeros as above. */
void assay_pack_columns(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k);

#endif
