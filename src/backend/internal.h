/* backend/internal.h: what the files of the CPU backend share. Not for other rooms.
 *
 * Operations return nothing and so may not allocate: everything they need is reserved when a weight is made
 * (scratch for its inputs and for decoded tiles) or when the backend is opened (attention). One backend
 * serves one calling thread at a time. */
#ifndef ASSAY_BACKEND_INTERNAL_H
#define ASSAY_BACKEND_INTERNAL_H

#include "backend/backend.h"
#include "kern/kern.h"

struct assay_buf {
    uint8_t *p; /* 64-byte aligned */
    size_t n;
    void *block; /* what was allocated */
};

/* A linear layer's inputs, as its weights want them, for up to `rows` rows at a time. */
typedef struct acts {
    uint8_t *data; /* bf16, padded float32 or int8 rows, 64-byte aligned */
    size_t size;
    int32_t *sums; /* int8: [rows][n_groups] */
    size_t n_sums;
    uint32_t *cols; /* int8 with outliers: [rows][cols] columns, ascending */
    float *values;  /* and their inputs rounded to f16 */
    size_t n_cols;
    float scale[256]; /* int8: per row */
    float *scales;    /* fp8: [rows][n_groups] */
    size_t n_scales;
    size_t n_outliers[256];
} acts;

/* cos and sin by position for one rotation. */
typedef struct rope_cache {
    assay_turning r; /* inv_freq is a copy */
    float *table;  /* [n][2][half]: cos then sin */
    uint8_t *have; /* [n] */
    size_t n;      /* positions */
} rope_cache;
#define ROPE_CACHES 4 /* a model has one or two rotations; the last is recomputed when more come */

struct assay_backend {
    assay_kern k;
    int n_threads;
    char describe[96];
    acts acts;
    uint8_t *tiles; /* [n_threads][tile_size]: decoded rows of a weight */
    size_t tile_size;
    float *att; /* [n_threads][ATT_FLOATS + ATT_TILES] */
    assay_buf *narrow, *wide; /* lowrank.c's scratch */
    rope_cache rope[ROPE_CACHES];
};

struct assay_weight {
    assay_act_mode mode; /* never AUTO */
    size_t n_out, k;
    assay_rows rows;   /* float modes, FP8 */
    assay_irows irows; /* INT8 */
    float threshold;   /* INT8: outliers from here, 0 = none */
    float fixed_scale; /* INT8, FP8: of all inputs; 0 = of each by its own size */
    size_t act_group;  /* FP8: columns of the input per scale, at most k */
    uint32_t *columns; /* [k]: packed column i is the matrix's columns[i]; NULL = as they stand */
    size_t n_bytes;
    assay_weight *down, *up; /* the low-rank part, or NULL */
    void *owned[8]; /* codes or converted elements, scales, zeros, columns; freed with the weight */
};

#define ACTS_ROWS 256 /* most rows of x at a time: what amortizes the decoding of a tile */
#define ACTS_BYTES ((size_t)16 << 20)
#define TILE_BYTES ((size_t)192 << 10)
#define TILE_ROWS 48 /* multiples of 12 divide into the kernels' tiles */
#define ATT_QUERIES 32
#define ATT_DIM 1024 /* head dimension for which ATT_QUERIES fit; fewer queries at once beyond it */
#define ATT_FLOATS ((size_t)ATT_QUERIES * (2 * ATT_DIM + 32))
#define ATT_TILES ((size_t)2 * ASSAY_KV_PAGE * ASSAY_KV_MOST_DIM) /* a packed page's keys and values as floats */
/* Multiply-adds that are not worth a region: some three microseconds of work. (Workers spin between the
 * operations of a forward pass, so a region costs one.) */
#define SERIAL_MACS 300000

/* Packing, row by row or block by block. */
typedef struct pack_job {
    const assay_matrix *m;
    assay_weight *w;
    uint8_t *out;
    float *rows;    /* dense: [threads][cols] */
    assay_dtype to; /* dense elements */
    float *scales, *real_zeros; /* int8 */
    uint8_t *zeros;
} pack_job;

/* An aligned block that w frees. ENOMEM. */
assay_status backend_own(void **out, assay_weight *w, size_t n_bytes, assay_err *err);
/* Columns per scale, or 0 when groups do not lie within rows. */
size_t backend_group_columns(const assay_matrix *m);
/* Codes for w's float mode; *packed is false, and nothing done, where kernels do not walk or hold them. */
assay_status backend_pack_codes(bool *packed, assay_backend *b, assay_weight *w, const assay_matrix *m,
                                assay_err *err);
assay_status backend_pack_fp8(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err);
/* regular: w->columns puts groups of equal size side by side, or no g_idx is there. */
assay_status backend_pack_int8(assay_backend *b, assay_weight *w, const assay_matrix *m, bool regular,
                               assay_err *err);

/* Packs m's blocks for the float modes; or keeps them as they are, borrowed, or copied where m owns them. */
assay_status backend_take_blocks(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err);

/* Row `row` of w with its columns in order, exact whatever the mode: out [k]. aside: room for 2 k, rounded up to whole chunks. */
void backend_decode_row(float *out, float *aside, const assay_backend *b, const assay_weight *w, size_t row);
/* y += the low-rank part of w on x, where it has one. */
void backend_add_lowrank(assay_backend *b, assay_buf *y, const assay_weight *w, const assay_buf *x, size_t n_rows);
/* Bytes of one prepared input row, and rows prepared at a time. */
size_t backend_acts_stride(const assay_weight *w);
size_t backend_acts_rows(size_t stride);
void backend_rope_free(rope_cache *c); /* all-zero is fine */
/* Grows the scratch so that operations on w need none. ENOMEM. */
assay_status backend_reserve(assay_backend *b, const assay_weight *w, assay_err *err);
/* One head's tiles of a packed page from its keys [head_dim][PAGE] and values [PAGE][head_dim up to 16] in type; v NULL: keys alone. */
void backend_pack_head(uint8_t *packed_k, uint8_t *packed_v, const uint8_t *k, const uint8_t *v, assay_kv_type type, assay_kv_pack pack,
                       size_t head_dim);
size_t backend_packed_head(assay_kv_pack pack, size_t head_dim, bool values); /* bytes of one tile */
assay_kern_pack backend_pack_form(assay_kv_pack pack);
/* Bytes of a prepared input or decoded weight of the float modes and FP8. */
static inline size_t backend_element(const assay_weight *w) {
    return w->mode == ASSAY_ACT_BF16 || w->mode == ASSAY_ACT_FP8 ? 2 : 4;
}
static inline size_t backend_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#endif
