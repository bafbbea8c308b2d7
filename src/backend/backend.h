/* backend/backend.h: operations on opaque buffers and weights behind one table. The forward pass (model/) is written once
 * against this; kernels live below it. cpu.c is the one backend of this build; cuda/ adds another behind the same table.
 *
 * INVARIANCE (a must): every operation computes an output element from its inputs in an order fixed by shapes alone, never by
 * n_rows, the thread count, or where in a batch the row stands. A row's result is bit-identical whatever else is computed with it.
 *
 * Shapes: activations are row-major float32 [n_rows][n]; a row is one token. Buffers belong to the backend that made them. */
#ifndef ASSAY_BACKEND_H
#define ASSAY_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "precision/precision.h"

typedef struct assay_backend assay_backend;
typedef struct assay_buf assay_buf;       /* device memory for activations and KV cache */
typedef struct assay_weight assay_weight; /* a matrix or vector, repacked for the backend's kernels */

/* How a linear layer treats its input (the compute mode; "Faithful arithmetic", DESIGN section 6). */
typedef enum assay_act_mode {
    ASSAY_ACT_AUTO, /* what the matrix's home does: act_bits and act_dtype of the assay_matrix */
    ASSAY_ACT_F32,  /* inputs as they are */
    ASSAY_ACT_BF16, /* inputs rounded to bf16; products exact, float32 accumulation */
    ASSAY_ACT_F16,  /* inputs rounded to f16 */
    ASSAY_ACT_INT8, /* inputs absmax-quantized per token to int8 (or by the matrix's input_scale); outliers over its threshold apart, in 16 bits */
    ASSAY_ACT_FP8   /* inputs quantized to the matrix's own 8-bit float, per token, per act_group columns of a token, or by input_scale */
} assay_act_mode;
#define ASSAY_ACT_MODES (ASSAY_ACT_FP8 + 1)

typedef enum assay_kv_type { ASSAY_KV_F32, ASSAY_KV_BF16, ASSAY_KV_F16 } assay_kv_type;

/* How a KV cache keeps the pages that are complete. */
typedef enum assay_kv_pack {
    ASSAY_KV_PACK_NONE, /* like all others */
    ASSAY_KV_PACK_INT8, /* 8-bit codes with a scale and an offset: of the keys per channel of a page, of the values per token and 64 channels */
    ASSAY_KV_PACK_FP8,  /* e4m3 with a scale per page and head, one of the keys and one of the values */
    ASSAY_KV_PACK_INT4  /* as INT8, 4-bit codes */
} assay_kv_pack;

typedef enum assay_gate_fn { ASSAY_GATE_SILU, ASSAY_GATE_GELU_TANH, ASSAY_GATE_GELU } assay_gate_fn;

typedef struct assay_cpu_opts {
    int n_threads;       /* 0 = all cores */
    const char *isa;     /* "ref" "avx2" "avx512" "neon", or NULL = best (ASSAY_CPU in the environment caps it) */
} assay_cpu_opts;

assay_status assay_backend_open_cpu(assay_backend **out, const assay_cpu_opts *o, assay_err *err);
void assay_backend_close(assay_backend *b);
/* "cpu avx512 (vnni bf16), 2 threads": for manifests. Borrowed until close. */
const char *assay_backend_describe(const assay_backend *b);
int assay_backend_n_threads(const assay_backend *b);

/* Buffers: n_bytes, 64-byte aligned, zeroed. read/write copy between host and device, offsets in bytes. */
assay_status assay_buf_new(assay_buf **out, assay_backend *b, size_t n_bytes, assay_err *err);
void assay_buf_free(assay_backend *b, assay_buf *buf);
void assay_buf_write(assay_backend *b, assay_buf *buf, size_t offset, const void *src, size_t n);
void assay_buf_read(assay_backend *b, void *dst, const assay_buf *buf, size_t offset, size_t n);

/* Repacks m for mode (AUTO resolved from m). The backend may keep borrowing DENSE and BLOCK data that m
 * does not own (it must outlive the weight, a mapped file does); all else is copied, so m may be deinited after. EUNSUPPORTED when no kernel runs that precision in that mode. */
assay_status assay_weight_new(assay_weight **out, assay_backend *b, const assay_matrix *m, assay_act_mode mode, assay_err *err);
void assay_weight_free(assay_backend *b, assay_weight *w);
/* From now on linear operations give W x + up (down x): down [rank][cols], up [rows][rank], dense, computed in their own act_dtype, data
 * copied or borrowed as assay_weight_new says. Freed with w. EINPUT when shapes do not fit, EUSAGE when w has such a part. Looking rows
 * up (embed) does not see it. */
assay_status assay_weight_add_lowrank(assay_backend *b, assay_weight *w, const assay_matrix *down, const assay_matrix *up, assay_err *err);
/* Bytes read when the whole weight is streamed once (decode), and the mode in effect. */
size_t assay_weight_n_bytes(const assay_weight *w);
assay_act_mode assay_weight_mode(const assay_weight *w);

/* --- operations. y and x never alias unless said. offsets are in rows of the respective buffer --- */

/* y[n_rows][w.rows] = x[n_rows][w.cols] * w^T (+ bias, a float32 buffer of w.rows, or NULL) */
void assay_op_linear(assay_backend *b, assay_buf *y, const assay_weight *w, const assay_buf *bias, const assay_buf *x, size_t n_rows);
/* Same x against several weights of equal cols and mode (q,k,v or gate,up): the input is rounded or quantized once. */
void assay_op_linear_multi(assay_backend *b, assay_buf *const *y, assay_weight *const *w, assay_buf *const *bias, int n_w,
                           const assay_buf *x, size_t n_rows);
/* y[i] = decoded row ids[i] of w (embedding), float32. ids are host memory, checked by the caller. */
void assay_op_embed(assay_backend *b, assay_buf *y, const assay_weight *w, const int32_t *ids, size_t n_rows);
/* y = x / sqrt(mean(x^2) + eps) * weight per row of n; in place allowed (y == x). */
void assay_op_rmsnorm(assay_backend *b, assay_buf *y, const assay_buf *x, const assay_buf *weight, size_t n_rows, size_t n, float eps);
/* y = (x - mean(x)) / sqrt(mean((x - mean)^2) + eps) * weight + bias per row of n; bias may be NULL, y may be x. */
void assay_op_layernorm(assay_backend *b, assay_buf *y, const assay_buf *x, const assay_buf *weight, const assay_buf *bias, size_t n_rows,
                        size_t n, float eps);
/* x *= s; x = cap * tanh(x / cap); x = 0: over n floats */
void assay_op_scale(assay_backend *b, assay_buf *x, size_t n, float s);
void assay_op_soft_cap(assay_backend *b, assay_buf *x, size_t n, float cap);
void assay_op_clear(assay_backend *b, assay_buf *x, size_t n);
/* x += y, elementwise over n floats */
void assay_op_add(assay_backend *b, assay_buf *x, const assay_buf *y, size_t n);
/* y = fn(gate) * up, elementwise over n floats; y may be gate; up NULL: y = fn(gate) */
void assay_op_gate(assay_backend *b, assay_buf *y, const assay_buf *gate, const assay_buf *up, size_t n, assay_gate_fn fn);
/* How positions turn pairs: by position * inv_freq[i], cos and sin times scale (attention factor, 1 usually). Positions from `near` on
 * (0 = none) have frequencies of their own, which far() gives: a function of the position alone, evaluated once for each. */
typedef struct assay_turning {
    const float *inv_freq; /* host [half] */
    int half;
    float scale;
    int32_t near;
    void (*far)(float *inv_freq, const void *ctx, int32_t pos);
    const void *ctx;
    uint64_t tag; /* equal for equal far frequencies: tables of angles are kept by it */
} assay_turning;
/* Rotates the first 2*half of each head of rows [first, first + n_rows) of x [][n_heads][head_dim] by position pos[row] (host), Hugging
 * Face's half-split convention: (x[i], x[i+half]). cos and sin are evaluated in double from pos*inv_freq(float) and rounded to float
 * once. */
void assay_op_rotate(assay_backend *b, assay_buf *x, const int32_t *pos, size_t first, size_t n_rows, int n_heads, int head_dim,
                     const assay_turning *r);
static inline void assay_op_rope(assay_backend *b, assay_buf *x, const int32_t *pos, size_t n_rows, int n_heads, int head_dim, int half,
                                 const float *inv_freq, float scale) {
    assay_turning r = {.inv_freq = inv_freq, .half = half, .scale = scale};
    assay_op_rotate(b, x, pos, 0, n_rows, n_heads, head_dim, &r);
}

/* Paged KV cache of one layer: pages of ASSAY_KV_PAGE positions that start at multiples of it. Within a page, keys are
 * [n_kv_heads][head_dim][PAGE] (transposed: scores have a lane per key) and values [n_kv_heads][PAGE][head_dim], head_dim rounded up
 * to 16; pages are copied whole and read by no one else. Page p of a layer lies at p * page bytes in the layer's buffer.
 *
 * With packing a page that is complete exists in a second form, made once from its own `type` values and nothing else. A query sees the
 * page of its own position in `type` and all earlier ones packed, so what it sees of key j is a function of the two positions alone. A
 * packed page is [n_kv_heads] tiles (kern.h) of keys, and as many of values.
 *
 * Where the values are the keys (latent attention) v and packed_v are NULL, and pages of values are made from those of the keys as they
 * are walked.
 *
 * A page table has ASSAY_KV_ENTRY numbers for each page of a sequence: without packing the page's; with it the packed page's, then that
 * of the page in `type` (needed until the page is complete and no row of the present call lies in it). */
#define ASSAY_KV_PAGE 64
#define ASSAY_KV_ENTRY(pack) ((pack) == ASSAY_KV_PACK_NONE ? 1 : 2)
#define ASSAY_KV_MOST_DIM 1024 /* of a head whose pages are packed */
typedef struct assay_kv_layer {
    assay_buf *k, *v;
    assay_kv_type type;
    assay_kv_pack pack;
    assay_buf *packed_k, *packed_v; /* unless NONE */
} assay_kv_layer;
size_t assay_kv_page_bytes(assay_kv_type type, int n_kv_heads, int head_dim); /* keys or values of one page */
void assay_kv_packed_bytes(size_t *keys, size_t *values, assay_kv_pack pack, int n_kv_heads, int head_dim); /* of one page */
/* Stores rows of k and v ([n_rows][n_kv_heads*head_dim]; v NULL where the cache's is) at pos[row] of the sequence whose page table is
 * pages[row] (host), and packs each page whose last position is among them. */
void assay_op_kv_store(assay_backend *b, const assay_kv_layer *cache, const assay_buf *k, const assay_buf *v, const int32_t *const *pages,
                       const int32_t *pos, size_t n_rows, int n_kv_heads, int head_dim);
/* Causal attention: row r attends to positions [max(0, pos[r]+1-window), pos[r]] of its sequence (window 0 = all).
 * y, q: [n_rows][n_heads*head_dim]; scores scaled by `scale`; soft_cap 0 = none. Keys are walked in pages. Rows of one sequence
 * that follow each other may be tiled; the result of a row never depends on it. */
void assay_op_attention(assay_backend *b, assay_buf *y, const assay_buf *q, const assay_kv_layer *cache, const int32_t *const *pages,
                        const int32_t *pos, size_t n_rows, int n_heads, int n_kv_heads, int head_dim, float scale, int window,
                        float soft_cap);
/* Each row of x [n_rows][n] times the orthonormal, symmetric-or-not Hadamard matrix of order n as linalg/hadamard.h defines it (n split
 * into blocks of `block`, which divides n and is at most 65536 unless a power of two): x <- x * H. In place. */
void assay_op_hadamard(assay_backend *b, assay_buf *x, size_t n_rows, size_t n, size_t block);
/* Columns of the rows of a buffer, in blocks: element i of block k of row r stands at r*row + first + k*block + i*step (floats). */
typedef struct assay_span {
    size_t row, first, block, step;
} assay_span;
/* Copies n_blocks blocks of `width` elements per row: takes fused projections apart, puts heads together. src.block 0 repeats a block. */
void assay_op_copy(assay_backend *b, assay_buf *dst, assay_span to, const assay_buf *src, assay_span from, size_t n_rows, size_t n_blocks,
                   size_t width);
/* A matrix w whose rows come in blocks of per_head, one for each head; W: rows [first, first + n) of head h's block.
 *   y[r][h] = W x[r][h]     heads of w.cols give heads of n
 *   y[r][h] = W^T x[r][h]   transposed: heads of n give heads of w.cols
 * Weights as embed decodes them and inputs as they are, whatever w's mode; a low-rank part is not seen. Spans say where a head's elements
 * stand, step 1; n and w.cols are at most ASSAY_KV_MOST_DIM. */
typedef struct assay_head_rows {
    size_t n_heads, per_head, first, n;
    bool transposed;
} assay_head_rows;
void assay_op_linear_heads(assay_backend *b, assay_buf *y, assay_span to, const assay_weight *w, const assay_head_rows *rows,
                           const assay_buf *x, assay_span from, size_t n_rows);
/* x row rows[i] += weights[i] * y row i, n floats each; rows (host) are all different. */
void assay_op_scatter_add(assay_backend *b, assay_buf *x, const assay_buf *y, const int32_t *rows, const float *weights, size_t n_rows,
                          size_t n);
/* dst row i = src row rows[i] (host indices), n floats each: picks the rows whose logits are wanted. */
void assay_op_gather_rows(assay_backend *b, assay_buf *dst, const assay_buf *src, const int32_t *rows, size_t n_rows, size_t n);

#endif
