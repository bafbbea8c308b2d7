/* kern/kern.h: CPU compute kernels: their contracts and the table that holds them.
 *
 * The table is filled with `ref` (plain scalar loops, kern/ref) and overlaid upwards: avx2, avx512, then
 * avx512's VNNI and BF16 forms where the CPU has them; neon on arm. It is filled once and then constant. A
 * set is files of that name in kern/x86 or kern/arm, written with the vector vocabulary of kern/body/vec_*.h
 * over the shared loops of kern/body.
 *
 * ORDER OF ACCUMULATION (a must: results may not depend on batch, threads or chunking). A sum over k has
 * sixteen lanes:
 *   f32 class    element k goes to lane k % 16 by one fma, k ascending
 *   bf16 class   pair (2i, 2i+1) goes to lane i % 16 by two fmas, the odd element first (as VDPBF16PS does)
 *   int8 class   sums within a group are exact integers; groups are scaled and added in order, one fma each
 *   fp8 class    bf16 pairs of 8-bit floats, whose products are exact; at the end of a group each lane is
 *                multiplied by the product of the group's two scales and added to the lane's total, one fma
 * k is walked in chunks of ASSAY_KERN_CHUNK, the last one padded with zeros; then lanes are folded 8, 4, 2, 1
 * apart. Every set keeps this order, so all sets agree bit for bit, with one exception: VDPBF16PS takes
 * subnormal inputs and results as zero (measured on Zen 4; documented by Intel), the other sets do not.
 *
 * VALUE OF A WEIGHT. A code's value is the float32 that assay_matrix_decode_rows gives; a class rounds it
 * once to its own type (bf16 class to bf16, f32 class to nothing, or to f16 where `round_f16`). So a
 * quantized weight computes exactly as the dense matrix that it decodes to, whatever the kernel: the one-row
 * kernels decode in registers, the many-row ones into a tile first. (The fp8 class alone multiplies the
 * codes' own values, which bf16 holds exactly, and scales sums.)
 *
 * Alignment: none needed unless said; padded rows of 64 bytes are fastest. No kernel allocates, and none
 * reads past what its contract names. Outputs never alias inputs unless said. NaN and infinity propagate. */
#ifndef ASSAY_KERN_H
#define ASSAY_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

#define ASSAY_KERN_CHUNK 32  /* columns per step of a float sum */
#define ASSAY_KERN_BLOCK 128 /* columns per 64-byte block of the Q4 form */
#define ASSAY_KERN_SUPER 256 /* columns of a unit of small scales */
#define ASSAY_KERN_BLOCK8 64 /* and of the byte forms E4M3 and E5M2 */
#define ASSAY_KERN_LANES 16
#define ASSAY_KERN_PAGE 64 /* keys per page of the attention kernels */

/* How the rows of a weight lie in memory. */
typedef enum assay_form {
    ASSAY_FORM_F32,
    ASSAY_FORM_F16,
    ASSAY_FORM_BF16,
    ASSAY_FORM_Q4, /* 64-byte blocks of 128 codes: nibble q of little-endian word j is column 32*q + j of the
                      block */
    ASSAY_FORM_Q8, /* one code per byte; row padded to a multiple of 32 bytes */
    ASSAY_FORM_S8, /* the same, codes signed: the value before scaling */
    ASSAY_FORM_E4M3, /* 64-byte blocks of 64 codes: byte q of little-endian word j is column 32*q + j of the
                        block; no code is a NaN */
    ASSAY_FORM_E5M2, /* the same; no code is a NaN or infinity */
    ASSAY_FORM_IQ1_S, /* ggml's blocks of 256 columns as a file has them (precision/block_expand.c); any bytes are
                         valid; whole blocks, at any address */
    ASSAY_FORM_IQ1_M,
    ASSAY_FORM_IQ2_XXS,
    ASSAY_FORM_IQ2_XS,
    ASSAY_FORM_IQ2_S,
    ASSAY_FORM_COUNT
} assay_form;

/* By the code of a scale: the values of the 16 codes scaled with it, and the same rounded to bf16. */
typedef struct assay_tables {
    float f32[256][16];
    uint16_t bf16[256][16];
} assay_tables;

/* Rows of a weight as the float kernels read them: code or value of it, less zero, times scale, plus offset, each
 * step rounded. Borrowed memory throughout. */
typedef struct assay_rows {
    assay_form form;
    const void *data; /* row r begins at data + r * stride; Q4, Q8 and S8 hold whole blocks and chunks
                         (padding: any codes) */
    size_t stride;    /* bytes */
    size_t k;         /* columns */
    size_t group;     /* Q4: 32, 64 or a multiple of 128, or 16 without zeros; bytes: a multiple of 32, or S8 without
                         offsets 16; k or more: one group a row */
    size_t n_groups;      /* ceil(k / group) */
    const float *scales;  /* Q4, bytes: [rows][n_groups]. E4M3, E5M2: magnitudes below 2^7; in unpack_bf16 NULL
                             leaves their codes unscaled */
    const uint8_t *zeros; /* [rows][n_groups], or NULL: `values` (Q4) and `zero` (Q8) hold for all groups */
    const float *real_zeros; /* zeros that are no integers, instead */
    const float *offsets; /* Q4, S8: [rows][n_groups], or NULL. In S8 products of codes and scales are exact in
                             float32 then: one fma rounds as both steps do */
    /* Q4 without zeros and S8, in groups of 16 or 32, k a multiple of 256: instead of scales and offsets small
     * integers that a unit of their 256 columns multiplies, exactly in float32. */
    const int8_t *small_scales, *small_offsets; /* [rows][n_groups], and 16 bytes more that can be read */
    const float *scale_units, *offset_units;    /* [rows][k / 256] */
    float values[16];        /* Q4: value of a code before scaling; with zeros it must be 0..15 and the zero is
                                subtracted */
    float zero;              /* Q8 without zeros: a power of two */
    const uint64_t *points;  /* IQ1, IQ2: assay_block_points; beside it they have `data`, `stride` and `k` alone */
    bool round_f16;          /* f32 class: round the scaled value to f16 */
    /* Q4 in groups of 16 or 32 whose scales have few values (E8M0, E4M3): codes of scales instead of scales,
     * with what each makes of the 16 codes. */
    const uint8_t *scale_codes; /* [rows][n_groups], or NULL */
    const assay_tables *tables;
} assay_rows;

/* Weights of the int8 class: 16 rows interleaved so that a 32-bit lane holds four columns of one row.
 *   w8: [block of 16 rows][group_pad/4 * n_groups][16 rows][4 columns]  one byte each
 *   w4: [block of 16 rows][group_pad/8 * n_groups][16 rows][4 bytes]    low nibbles columns 0..3, high 4..7
 * Each group is padded to group_pad (a multiple of 8) columns; codes there may be anything, since x is zero
 * there. */
typedef struct assay_irows {
    int bits;            /* 8 or 4 */
    const uint8_t *data; /* 64-byte aligned */
    size_t n_rows;       /* outputs; the last block may be short, its codes there are anything */
    size_t group;        /* columns per group */
    size_t group_pad;
    size_t n_groups;
    const float *scales;  /* [blocks][n_groups][16] */
    const uint8_t *zeros; /* the same shape, or NULL: */
    int zero;             /* ... this for all */
    const float *real_zeros; /* zeros that are no integers, instead of either, the same shape */
} assay_irows;

/* Rows of activations of the int8 class. x ~ q * scale. */
typedef struct assay_iacts {
    const int8_t *q; /* [m][stride]: groups at multiples of group_pad, zeros between */
    size_t stride;
    const int32_t *sums; /* [m][n_groups]: sum of q over the group */
    const float *scale;  /* [m] */
} assay_iacts;

/* Operands of the fp8 class: bf16 rows that hold 8-bit floats, with a scale per group of columns. */
typedef struct assay_scaled {
    const uint16_t *data; /* row r begins at data + r * ld */
    size_t ld;            /* elements */
    const float *scales;  /* [rows][n_groups] */
} assay_scaled;

typedef enum assay_kern_gate {
    ASSAY_KERN_SILU,
    ASSAY_KERN_GELU_TANH,
    ASSAY_KERN_GELU,
    ASSAY_KERN_GATES
} assay_kern_gate;
typedef enum assay_kern_kv {
    ASSAY_KERN_KV_F32,
    ASSAY_KERN_KV_BF16,
    ASSAY_KERN_KV_F16,
    ASSAY_KERN_KVS
} assay_kern_kv;

/* How a packed tile of a KV page holds its numbers: rows x cols, keys as [head_dim][64], values as [64][head_dim]. Codes first:
 *   KV8, KVE4M3  a byte per column, rows padded to multiples of 16
 *   KV4          16 bytes for 32 columns, low nibbles the first 16; rows padded to multiples of 32 columns
 * then, KV8 and KV4: float16 scales of all groups, then as many float16 offsets, a group being 64 columns of a row (the last of a row may
 * be short), groups row after row, their number padded to a multiple of 16; value = code * scale + offset.
 * KVE4M3: one float32 scale of the tile; value = e4m3 * scale. */
typedef enum assay_kern_pack {
    ASSAY_KERN_KV8,
    ASSAY_KERN_KV4,
    ASSAY_KERN_KVE4M3,
    ASSAY_KERN_PACKS
} assay_kern_pack;
#define ASSAY_KERN_PACK_GROUP 64
static inline size_t assay_kern_pack_stride(assay_kern_pack f, size_t cols) { /* bytes of the codes of a row */
    return f == ASSAY_KERN_KV4 ? (cols + 31) / 32 * 16 : (cols + 15) / 16 * 16;
}
static inline size_t assay_kern_pack_groups(size_t rows, size_t cols) { /* of KV8 and KV4, padded */
    return (rows * ((cols + ASSAY_KERN_PACK_GROUP - 1) / ASSAY_KERN_PACK_GROUP) + 15) / 16 * 16;
}
static inline size_t assay_kern_pack_bytes(assay_kern_pack f, size_t rows, size_t cols) {
    return rows * assay_kern_pack_stride(f, cols) + (f == ASSAY_KERN_KVE4M3 ? 4 : 4 * assay_kern_pack_groups(rows, cols));
}

/* State of n queries of attention. head_pad = head_dim rounded up to 16. */
typedef struct assay_att {
    size_t head_dim, head_pad;
    float scale, soft_cap; /* soft_cap 0 = none */
    float *q;              /* [n][head_pad] */
    float *acc;            /* [n][head_pad], zero at the start */
    float *max;            /* [n], -INFINITY at the start */
    float *sum;            /* [n][16], zero at the start */
} assay_att;

typedef struct assay_kern {
    const char *name;   /* "ref" "avx2" "avx512" "neon" */
    const char *extras; /* "", "vnni", "vnni bf16" */

    /* y[i][j] = sum_k x[i][k] * w[j][k] for m rows of x and n of w. ldx, ldw in elements; x rows are readable
     * and zero up to a multiple of 32 columns; w rows need not be. y: [m][ldy]. */
    void (*gemm_f32)(float *y, size_t ldy, const float *x, size_t ldx, const float *w, size_t ldw, size_t k,
                     size_t m, size_t n);
    void (*gemm_bf16)(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint16_t *w, size_t ldw,
                      size_t k, size_t m, size_t n);
    /* y[j] = sum_k x[k] * value(w[row + j][k]) for n rows; x as above. Bit-identical to gemm on the unpacked
     * rows. (bf16 of F32 and F16 rows exists in ref alone: nobody streams those.) */
    void (*gemv_f32[ASSAY_FORM_COUNT])(float *y, const assay_rows *w, size_t row, size_t n, const float *x);
    void (*gemv_bf16[ASSAY_FORM_COUNT])(float *y, const assay_rows *w, size_t row, size_t n,
                                        const uint16_t *x);
    /* Values of n rows; out rows are ld elements apart and written up to a multiple of 32 columns (zeros past
     * k). */
    void (*unpack_f32[ASSAY_FORM_COUNT])(float *out, size_t ld, const assay_rows *w, size_t row, size_t n);
    void (*unpack_bf16[ASSAY_FORM_COUNT])(uint16_t *out, size_t ld, const assay_rows *w, size_t row,
                                          size_t n);

    /* y[i][j] = sum_g (x.scales[i][g] * w.scales[j][g]) * sum_{k in g} x[i][k] * w[j][k], the fp8 class:
     * groups of `group` columns (a multiple of 32; k or more: one group) for m rows of x and n of w. Both are
     * readable and zero up to a multiple of 32 columns. */
    void (*gemm_scaled)(float *y, size_t ldy, const assay_scaled *x, const assay_scaled *w, size_t k,
                        size_t group, size_t m, size_t n);
    /* The same for one row of x and n rows of E4M3 or E5M2 (their own scales and groups). xs: [n_groups].
     * Other forms have none. */
    void (*gemv_scaled[ASSAY_FORM_COUNT])(float *y, const assay_rows *w, size_t row, size_t n,
                                          const uint16_t *x, const float *xs);
    /* n columns of x to E4M3 or E5M2 (form), as bf16 values in out: *scale = absmax / largest, or `fixed`
     * when that is not 0; q = nearest even of x / *scale, clamped to the largest: compressed-tensors'
     * arithmetic on float32 inputs, and vLLM's but for its floor under the scales of very small tokens.
     * absmax not finite, or x a NaN: q = 0 and *scale not finite. */
    void (*quant_f8)(uint16_t *out, float *scale, const float *x, size_t n, float fixed, assay_form form);

    /* y[i][16*block + j] = x.scale[i] * sum_g scales[g] * (float)(sum_k q[i][k] * (code[j][k] - zero[g])),
     * groups in order, for m rows and n_blocks blocks of 16 outputs from `block`; outputs past n_rows are not
     * written. Real zeros: scales[g] * fma(-zero[g], (float)sum_k q, (float)sum_k q*code). Group sums must fit
     * int32: a group of at most 65536 columns. y: [m][ldy], indexed by output from 0 (not from block). */
    void (*gemm_i8)(float *y, size_t ldy, const assay_irows *w, size_t block, size_t n_blocks,
                    const assay_iacts *x, size_t m);
    /* y[16*block + j] += sum_i x[i] * f16((code[j][cols[i]] - zero) * scale) for one row: the columns that
     * quant_i8 left out, i ascending in one chain of fmas from 0; x rounded to f16 by the caller. */
    void (*outliers_i8)(float *y, const assay_irows *w, size_t block, size_t n_blocks, const float *x,
                        const uint32_t *cols, size_t n);
    /* One row of x [k] to int8: absmax over entries with |x| < threshold (all when threshold is 0), q =
     * round(x * (127/absmax)) to nearest even, 0 for entries left out. Fills q [n_groups*group_pad], sums,
     * *scale = absmax/127. Not finite absmax: q = 0 and scale not finite. `group` columns per group. `fixed`
     * other than 0: *scale = fixed, q = clamp(round(x / fixed), -128, 127); x a NaN: q = 0 and scale NaN. */
    void (*quant_i8)(int8_t *q, int32_t *sums, float *scale, const float *x, size_t k, size_t group,
                     size_t group_pad, float threshold, float fixed);

    /* One page for queries [first, first+n): keys lo <= j < hi of k_page ([head_dim][64]: transposed) and
     * v_page ([64][head_pad]). s_j = soft_cap(scale * sum_d q[d] k[d][j]), d ascending in one chain; m' =
     * max(m, max s); sum lane j%16 and acc are multiplied by exp(m-m'), then gain exp(s_j - m') and exp(s_j -
     * m') * v[j], j ascending. */
    void (*att_page[ASSAY_KERN_KVS])(const assay_att *a, size_t first, size_t n, const void *k_page,
                                     const void *v_page, size_t lo, size_t hi);
    /* Values of a packed tile, float32: out rows are ld apart and written up to a multiple of 16 columns (past cols: anything). One
     * rounding per value, so that every set agrees. */
    void (*unpack_kv[ASSAY_KERN_PACKS])(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols);
    /* out[head_dim] = acc / (sum of the lanes) of query i */
    void (*att_finish)(float *out, const assay_att *a, size_t i);

    /* y = (x * (1/sqrt(mean(x^2) + eps))) * w; squares summed in the f32 class's order. y may be x. */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* y = ((x - mean(x)) * (1/sqrt(mean((x - mean(x))^2) + eps))) * w + b (b NULL: no addition), the square's mean in
     * a second walk; both sums in the f32 class's order. y may be x. */
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, size_t n, float eps);
    void (*soft_cap)(float *x, size_t n, float cap); /* x = tanh(x / cap) * cap */
    void (*add)(float *x, const float *y, size_t n); /* x += y */
    void (*gate[ASSAY_KERN_GATES])(float *y, const float *g, const float *u,
                                   size_t n); /* y = f(g) * u; y may be g; u NULL: y = f(g) */
    /* (a, b) = (a*cos - b*sin, b*cos + a*sin) over n pairs, in place */
    void (*rope)(float *a, float *b, const float *cos, const float *sin, size_t n);
    void (*to_bf16)(uint16_t *out, const float *x, size_t n); /* nearest even */
    void (*round_f16)(float *out, const float *x, size_t n);  /* to f16 and back; out may be x */

    /* Loops for kern/limits: `n` times 16 independent register-only operations; return flops (or int8
     * operations) done. */
    double (*peak_f32)(size_t n);
    double (*peak_bf16)(size_t n);
    double (*peak_i8)(size_t n);
    uint64_t (*read)(const void *p,
                     size_t n); /* a sum over n bytes (multiple of 512), as fast as memory gives them */
} assay_kern;

/* What this CPU has, and the best level for it: "ref", "avx2", "avx512" or "neon". */
typedef struct assay_cpu {
    bool avx2, avx512, vnni, bf16, neon;
} assay_cpu;
void assay_cpu_detect(assay_cpu *out);
const char *assay_cpu_best(void);

/* Fills the table for a level by name (NULL = best). ASSAY_CPU in the environment caps the level, and so does
 * `isa`. EUSAGE names an unknown level, EUNSUPPORTED one that this CPU or build lacks. */
assay_status assay_kern_init(assay_kern *out, const char *isa, assay_err *err);

#endif
