/* num/dtype.h: element types and tensor views. */
#ifndef ASSAY_NUM_DTYPE_H
#define ASSAY_NUM_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum assay_dtype {
#define X(name, bytes, st) ASSAY_DTYPE_##name,
#include "num/dtypes.def"
#undef X
    ASSAY_DTYPE_COUNT
} assay_dtype;

size_t assay_dtype_size(assay_dtype t);              /* bytes per element */
const char *assay_dtype_name(assay_dtype t);         /* "BF16", the safetensors spelling */
bool assay_dtype_parse(assay_dtype *out, const char *name, size_t n);
bool assay_dtype_is_float(assay_dtype t);

#define ASSAY_MAX_DIMS 8

/* A borrowed, contiguous, row-major tensor. data need not be aligned to its element. */
typedef struct assay_tensor {
    const char *name;             /* borrowed from whoever owns data */
    assay_dtype dtype;
    int n_dims;
    int64_t dims[ASSAY_MAX_DIMS]; /* outermost first; [out, in] for a linear layer's weight */
    const void *data;
    size_t n_bytes;
} assay_tensor;

int64_t assay_tensor_n_elements(const assay_tensor *t); /* -1 when a dimension is negative or the product overflows */

#endif
