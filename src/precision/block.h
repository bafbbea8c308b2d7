/* precision/block.h: ggml's block types (llama.cpp's quantized tensors) as precisions of kind BLOCK.
 *
 * A BLOCK matrix keeps its rows as the file has them: `data` points to rows * (cols / elements) blocks, row after row, borrowed
 * from a mapping or owned (owns_data); codes, scales and zeros are NULL. cols is a multiple of the block's elements. What the
 * bytes mean is said once, by expanding a block into signed codes with a scale (and a minimum) per group:
 *
 *     w[i] = q[i] * scales[i / group] - mins[i / group]        float32, two roundings, the product first
 *
 * which gives bit for bit what ggml's dequantize_row_* gives (mins is absent, not zero, where the type has none). IQ types' grids
 * and signs become codes (|q| <= 127); IQ1_S and IQ1_M have codes in eighths, so that grid +- 1/8 is an integer. */
#ifndef ASSAY_PRECISION_BLOCK_H
#define ASSAY_PRECISION_BLOCK_H

#include "precision/precision.h"

enum { ASSAY_BLOCK_MAX = 256, ASSAY_BLOCK_MAX_GROUPS = 16 }; /* elements and groups of the largest block */

typedef struct assay_block_info {
    const char *name;
    int ggml_type;
    int elements, bytes;
    int group;
    bool has_mins;
    bool needs_importance; /* cannot be encoded without: IQ2_XXS, IQ2_XS, IQ1_S, IQ1_M, as in llama.cpp */
} assay_block_info;

/* NULL for a precision of another kind. */
const assay_block_info *assay_block_get(assay_precision p);
/* The precision of a tensor of that type in a GGUF file; false when it is no block type known here. */
bool assay_block_of_ggml(assay_precision *out, int ggml_type);
/* Bytes of a row; 0 unless cols is a multiple of the block's elements. */
size_t assay_block_row_bytes(assay_precision p, int64_t cols);

/* Where the scales and minima of a block come from: a group's are these small integers times the block's two numbers, float32 products
 * that are exact where those are finite, because they have 11 bits. (A type with one group has 1 for it.) */
typedef struct assay_block_parts {
    float scale, min;
    int8_t scales[ASSAY_BLOCK_MAX_GROUPS], mins[ASSAY_BLOCK_MAX_GROUPS];
} assay_block_parts;
/* q [elements]; of parts what the type has is filled. Any bytes are valid input. */
void assay_block_take_apart(int8_t *q, assay_block_parts *parts, assay_precision p, const void *block);

/* q [elements], scales and mins [elements / group]; mins is left alone where the type has none. Any bytes are valid input:
 * indices are masked to their tables, scales may come out infinite or NaN. */
void assay_block_expand(int8_t *q, float *scales, float *mins, assay_precision p, const void *block);

/* The points of an IQ1 or IQ2 type's grid, by index, as eight codes each, the first at the lowest address: before signs (IQ2), before the
 * eighth more or less (IQ1). What kernels look up. Made when first asked for;
 * thread-safe; NULL for other types. */
const uint64_t *assay_block_points(assay_precision p);

/* Quantizes w [rows][cols] as llama.cpp does (ggml-quants.c): without importance the reference row functions, bit for bit; with
 * importance [cols] (an importance matrix: weights of the columns' squared errors, not negative) its weighted search, bit for bit
 * too. importance may be NULL.
 *   EUSAGE  cols is no multiple of the block, or a needed importance is absent
 *   EINPUT  naming row and column: a NaN, an infinity, a weight beyond 2^28, a scale that float16 does not hold
 * Where llama-quantize's bytes (ggml_quantize_chunk) and the row function's differ, for IQ4_NL, the former are made. IQ3_S behind a
 * group of zeros is right, which ggml's is not. out->data is owned. Rows are independent: callers split them among threads. */
assay_status assay_encode_block(assay_matrix *out, const float *w, int64_t rows, int64_t cols, assay_precision p,
                                const float *importance, assay_err *err);

/* Between BLOCK and INT without touching a code, for conversions. `why` gets what stands against it, in words that follow a tensor's
 * name ("has a group size of 16, q4_0 has 32"); static text or inside why.
 * to_int: Q4_0, Q5_0, Q8_0 (and Q4_1, Q5_1 where every minimum is a multiple of its scale) as an INT matrix of group size 32 that decodes
 * to the same values. from_int: the inverse, when group size, zero points and scales fit the type exactly (scales are float16 there).
 * It also takes narrower codes, and groups of any multiple of 32 (each block gets its group's scale): other bytes, the same values.
 * true when it can be; then *out is owned by the caller. Out of memory: false with why saying so. */
bool assay_block_to_int(assay_matrix *out, const assay_matrix *m, char why[160]);
bool assay_block_from_int(assay_matrix *out, const assay_matrix *m, assay_precision p, char why[160]);

#endif
