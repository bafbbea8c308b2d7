/* precision/nested.h: double quantization of block scales, for the encoder and for the format that stores
 * it. */
#ifndef ASSAY_PRECISION_NESTED_H
#define ASSAY_PRECISION_NESTED_H

#include "precision/precision.h"

/* bitsandbytes' signed 8-bit dynamic map, ascending, 256 values. */
extern const float assay_dynamic_map[256];

/* An object for n scales in blocks of `block`, its arrays uninitialised; owned by the caller. NULL when
 * out of memory. */
assay_nested *assay_nested_new(int64_t n, int block);
void assay_nested_free(assay_nested *q); /* NULL and half-built are fine */
/* Quantizes n scales (n >= 1) into q, whose map is set to the dynamic map: bit-identical to bitsandbytes
 * on CPU. */
void assay_nested_encode(assay_nested *q, const float *scales, int64_t n);
/* scales[k] = map[codes[k]] * absmax[k / block] + offset, each operation rounded to float32. */
void assay_nested_decode(float *scales, const assay_nested *q, int64_t n);

#endif
