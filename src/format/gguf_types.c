/* gguf_types.c: ggml's numbers of tensor types (ggml.h) against element types and precisions. */
#include "format/gguf_impl.h"
#include "precision/block.h"

static const struct {
    uint32_t ggml_type;
    assay_dtype dtype;
} PLAIN[] = {{0, ASSAY_DTYPE_F32}, {1, ASSAY_DTYPE_F16},  {30, ASSAY_DTYPE_BF16}, {24, ASSAY_DTYPE_I8},
             {25, ASSAY_DTYPE_I16}, {26, ASSAY_DTYPE_I32}, {27, ASSAY_DTYPE_I64},  {28, ASSAY_DTYPE_F64}};

/* The two that are FLOAT precisions here. Bytes of a block: its scales, then two codes a byte.
 *   MXFP4  32 weights: 1 of E8M0, 16 of codes, element j in the low half of byte j, j + 16 in the high one
 *   NVFP4  64 weights: 4 of E4M3 without sign, 4 x 8 of codes, each 16 weights as MXFP4's 32 */
static const struct {
    uint32_t ggml_type;
    int block, elements, bytes;
} FLOATS[] = {{39, ASSAY_PRECISION_MXFP4, 32, 17}, {40, ASSAY_PRECISION_NVFP4, 64, 36}};

bool assay_gguf_block_of(assay_gguf_storage *out, int block) {
    const assay_block_info *info = assay_block_get((assay_precision)block);
    if (info) {
        *out = (assay_gguf_storage){ASSAY_DTYPE_U8, block, info->elements, info->bytes};
        return true;
    }
    for (size_t i = 0; i < ASSAY_LEN(FLOATS); i++)
        if (FLOATS[i].block == block) {
            *out = (assay_gguf_storage){ASSAY_DTYPE_U8, block, FLOATS[i].elements, FLOATS[i].bytes};
            return true;
        }
    return false;
}

bool assay_gguf_storage_of(assay_gguf_storage *out, uint32_t ggml_type) {
    assay_precision p;
    for (size_t i = 0; i < ASSAY_LEN(PLAIN); i++)
        if (PLAIN[i].ggml_type == ggml_type) {
            *out = (assay_gguf_storage){PLAIN[i].dtype, 0, 1, (int)assay_dtype_size(PLAIN[i].dtype)};
            return true;
        }
    for (size_t i = 0; i < ASSAY_LEN(FLOATS); i++)
        if (FLOATS[i].ggml_type == ggml_type) return assay_gguf_block_of(out, FLOATS[i].block);
    return ggml_type < 1024 && assay_block_of_ggml(&p, (int)ggml_type) && assay_gguf_block_of(out, (int)p);
}

bool assay_gguf_type_of(uint32_t *out, assay_dtype dtype, int block) {
    const assay_block_info *info = block ? assay_block_get((assay_precision)block) : NULL;
    if (info) *out = (uint32_t)info->ggml_type;
    if (info) return true;
    for (size_t i = 0; block && i < ASSAY_LEN(FLOATS); i++)
        if (FLOATS[i].block == block) {
            *out = FLOATS[i].ggml_type;
            return true;
        }
    for (size_t i = 0; !block && i < ASSAY_LEN(PLAIN); i++)
        if (PLAIN[i].dtype == dtype) {
            *out = PLAIN[i].ggml_type;
            return true;
        }
    return false;
}

size_t assay_gguf_row_bytes(const assay_gguf_storage *s, int64_t cols) {
    return cols % s->elements ? 0 : (size_t)(cols / s->elements) * (size_t)s->bytes;
}
