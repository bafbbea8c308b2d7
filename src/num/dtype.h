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

/* How a file has the elements of a tensor: not always in the order that its name's owner (Hugging Face's layout) gives them. */
typedef enum assay_order {
    ASSAY_ORDER_PLAIN,
    ASSAY_ORDER_PAIRS,  /* rows, of each head: 0, h/2, 1, h/2 + 1, ... (Llama's queries and keys in GGUF) */
    ASSAY_ORDER_PARTS,  /* rows: all heads' queries, all keys, all values, where the owner has the three head by head */
    ASSAY_ORDER_TURNED, /* transposed */
    ASSAY_ORDER_JOINED  /* it lies in two other tensors: data is NULL and assay_checkpoint_matrix alone can say what it is */
} assay_order;

/* A borrowed, contiguous, row-major tensor. data need not be aligned to its element. */
typedef struct assay_tensor {
    const char *name;             /* borrowed from whoever owns data */
    assay_dtype dtype;
    int n_dims;
    int64_t dims[ASSAY_MAX_DIMS]; /* outermost first; [out, in] for a linear layer's weight */
    const void *data;
    size_t n_bytes;
    int block;                    /* an assay_precision whose blocks data holds (dtype is U8 then); 0 = plain elements */
    assay_order order;
    int64_t n_heads;              /* PAIRS and PARTS: among which the rows are divided */
} assay_tensor;

/* The row of the file that is this row of the tensor; PLAIN, PAIRS and PARTS. A tensor of one dimension has rows of one element. */
int64_t assay_tensor_file_row(const assay_tensor *t, int64_t row);
int64_t assay_tensor_n_elements(const assay_tensor *t); /* -1 when a dimension is negative or the product overflows */

#endif
