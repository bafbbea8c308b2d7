/* precision/precision.h: the encoded matrix: what every method produces, every format stores and every kernel consumes.
 *
 * The canonical form holds one code per byte, row-major [rows = out][cols = in], whatever the code width: formats pack it
 * in their own order, kernels repack it at load. Sizes are reported for the packed form (assay_matrix_bits).
 *
 *   INT       w[r][c] = (codes[r*cols+c] - zero) * scale, scale and zero of group g = c / group_size of row r:
 *             scales[r*n_groups + g], zeros[r*n_groups + g]. group_size 0 means the whole row (n_groups 1); the last group
 *             of a row may be short. Codes are unsigned: a symmetric b-bit matrix has every zero = 2^(b-1) and zeros == NULL.
 *   CODEBOOK  block k = flat index / group_size over the flattened matrix (a block may cross rows, as bitsandbytes has it);
 *             w = table[code] * scales[k]. With double quantization scales[k] is the exact value that the nested form
 *             decodes to, and `nested` holds that form.
 *             HQQ's zero points are real numbers: they stand in `real_zeros` and `zeros` is NULL. With g_idx (activation
 *             order by group) column c belongs to group g_idx[c] instead of c / group_size.
 *   FLOAT     small floats with scales: w = value(code) * scales[(r / row_block) * n_groups + g]; the code is the float's bit
 *             pattern (e4m3, e5m2, or e2m1 in the low four bits: sign, two exponent bits, one mantissa bit). row_block rows
 *             share their scales (0 or 1: each row has its own; rows or more: one for all).
 *             MXFP4: group_size 32, scales are powers of two (E8M0). NVFP4: group_size 16, scales are E4M3 values and
 *             the matrix has one more: w = value(code) * (scales[..] / global_scale), compressed-tensors' divisor.
 *   DENSE     data points to rows*cols elements of f32, f16 or bf16.
 *   BLOCK     data points to ggml's blocks, rows in order (block.h).
 *
 * Ownership: owns_data covers data; owns_codes covers codes, scales, zeros, real_zeros, g_idx and nested. assay_matrix_deinit frees what is
 * owned. Views borrow. */
#ifndef ASSAY_PRECISION_H
#define ASSAY_PRECISION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "num/dtype.h"

typedef enum assay_precision {
#define X(NAME, name, bits, kind) ASSAY_PRECISION_##NAME,
#include "precision/precisions.def"
#undef X
    ASSAY_PRECISION_COUNT
} assay_precision;

typedef enum assay_precision_kind { ASSAY_KIND_DENSE, ASSAY_KIND_INT, ASSAY_KIND_CODEBOOK, ASSAY_KIND_FLOAT, ASSAY_KIND_BLOCK } assay_precision_kind;

const char *assay_precision_name(assay_precision p);
int assay_precision_bits(assay_precision p);               /* of one code */
assay_precision_kind assay_precision_get_kind(assay_precision p);
bool assay_precision_parse(assay_precision *out, const char *name);
/* F32, F16 or BF16 for elements of that type; BF16 for any other type. */
assay_precision assay_precision_of_dtype(assay_dtype t);
/* The values of all codes of a CODEBOOK or FLOAT precision (16 or 256 floats; NaN where a pattern is one), or NULL. */
const float *assay_precision_table(assay_precision p);

/* Double quantization of block scales (Dettmers et al. 2023, QLoRA; bitsandbytes functional.py):
 * scale[k] = map[codes[k]] * absmax[k / block] + offset, computed in float32. */
typedef struct assay_nested {
    uint8_t *codes;      /* [n_scales] */
    float *absmax;       /* [ceil(n_scales / block)] */
    float offset;
    int block;           /* 256 */
    float map[256];      /* the dynamic map */
} assay_nested;

typedef struct assay_matrix {
    assay_precision precision;
    int64_t rows;            /* out features */
    int64_t cols;            /* in features */
    int64_t group_size;      /* INT: columns per scale, 0 = whole row; CODEBOOK: elements per block */
    const void *data;        /* DENSE: elements; BLOCK: blocks */
    uint8_t *codes;          /* INT, CODEBOOK: [rows*cols], one per byte */
    float *scales;           /* [n_scales]; already rounded to scale_dtype */
    uint8_t *zeros;          /* INT asymmetric: [n_scales], else NULL */
    float *real_zeros;       /* INT with real zero points (HQQ): [n_scales], else NULL */
    int32_t *g_idx;          /* INT with activation order by group: [cols], the group of each column, else NULL */
    int64_t row_block;       /* FLOAT: rows that share scales; 0 or 1 = each row its own */
    float global_scale;      /* NVFP4: divisor of all scales; 0 = none */
    int64_t n_scales;
    assay_dtype scale_dtype; /* how the format stores the scales: F32, F16, BF16, F8_E8M0 (MXFP4) or F8_E4M3 (NVFP4) */
    assay_nested *nested;    /* CODEBOOK with double quantization, else NULL */
    double outlier_threshold;/* LLM.int8(): columns of the input with a larger magnitude are computed in 16 bits; 0 = none */
    int act_bits;            /* activation width that the format's home computes with: 8 (LLM.int8(), W8A8, FP8) or 16. 8 means int8 for
                                INT matrices and the matrix's own small float for FP8 ones */
    float input_scale;       /* act_bits 8: the static scale of the input, x ~ q * input_scale; 0 = dynamic, per token */
    int64_t act_group;       /* act_bits 8, dynamic: columns of the input per scale (FP8 blocks: 128); 0 = the whole token */
    assay_dtype act_dtype;   /* for 16: BF16, F16 (or F32 for an unquantized f32 model) */
    bool owns_data, owns_codes;
} assay_matrix;

/* Groups per row (INT) ; total number of scales. */
int64_t assay_matrix_n_groups(const assay_matrix *m);
/* Allocates codes, scales (and zeros when asym) for a matrix whose precision, rows, cols and group_size are set. */
assay_status assay_matrix_alloc(assay_matrix *m, bool asymmetric, assay_err *err);
void assay_matrix_deinit(assay_matrix *m); /* all-zero and half-built are fine */
/* Decodes rows [row, row+n) into out [n][cols], float32: the definition of what the codes mean. */
void assay_matrix_decode_rows(float *out, const assay_matrix *m, int64_t row, int64_t n);
/* Exact stored size in bits: codes, and everything else (scales, zeros, nested, maps). Either pointer may be NULL. */
double assay_matrix_bits(const assay_matrix *m, double *code_bits, double *scale_bits);
/* Checks that codes are in range, scales finite, sizes consistent: EINPUT naming what is wrong. */
assay_status assay_matrix_check(const assay_matrix *m, const char *name, assay_err *err);

/* --- encoders: nearest code for given scales, the arithmetic of each original --- */

typedef enum assay_scale_rule {
    ASSAY_SCALE_CT,      /* compressed-tensors: sym absmax/((2^b-1)/2), codes [-2^(b-1), 2^(b-1)-1]; asym (max-min)/(2^b-1) with min<=0<=max */
    ASSAY_SCALE_ABSMAX   /* row-wise absmax/127 of LLM.int8(): w is cast to f16 as bitsandbytes does, code = round(w * (127/absmax)) */
} assay_scale_rule;

typedef struct assay_int_opts {
    int bits;                 /* 2..8 */
    int64_t group_size;       /* 0 = whole row */
    bool asymmetric;
    assay_scale_rule rule;
    assay_dtype scale_dtype;  /* F32 (default), F16, BF16: the dtype that the scale's arithmetic is done in (the model's) */
    bool mse;                 /* search the clipping that minimises sum |err|^2.4 (llm-compressor's memoryless MSE observer's grid) */
    /* For mse on a matrix encoded in parts: the search stops for all groups of a matrix together, so a part is encoded with all
     * ASSAY_CLIP_STEPS and its bits are or-ed into *clip_union; if assay_clip_stop(union) is less, the parts are encoded again with that. */
    int clip_steps;           /* steps looked at; 0 = as the groups of this call want */
    uint32_t *clip_union;     /* NULL = not wanted */
} assay_int_opts;

enum { ASSAY_CLIP_STEPS = 20 };
/* Steps that are looked at when `improved` says at which any group of the matrix improved: all up to five in a row without. */
int assay_clip_stop(uint32_t improved);

/* w: [rows, cols] float32. Fills *out (caller deinits). NaN or infinity in w is EINPUT naming row and column. */
assay_status assay_encode_int(assay_matrix *out, const float *w, int64_t rows, int64_t cols, const assay_int_opts *o, assay_err *err);
/* NF4 / FP4 in blocks of the flattened matrix; bit-identical to bitsandbytes' quantize_4bit. */
assay_status assay_encode_codebook(assay_matrix *out, const float *w, int64_t rows, int64_t cols, assay_precision p,
                                   int64_t block, bool double_quant, assay_err *err);
/* The second half of double quantization, for callers that encoded a matrix in parts: m is a CODEBOOK matrix
 * with plain scales; fills m->nested from them and replaces the scales by what it decodes to. */
assay_status assay_matrix_nest(assay_matrix *m, assay_err *err);

#endif
