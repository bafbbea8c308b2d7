/* encode_codebook.c: NF4 and FP4 in blocks of the flattened matrix, with the arithmetic of bitsandbytes
 * 0.50's quantize_4bit on CPU (backends/default/ops.py), bit for bit:
 *
 *   whole block   v = w * (1 / max(absmax, 1e-38)), the scale stored is absmax itself
 *   last, short   v = w / max(absmax, 1e-38), the scale stored is that maximum
 *   code          the number of midpoints between neighbouring table values (in float32) that are below v, so
 *                 a tie goes to the smaller value; for FP4 that rank is turned into bitsandbytes' bit pattern.
 *                 Between its two zeros FP4 has a midpoint of 0, so that tiny positive values become "negative
 *                 zero", code 8.
 *
 * Ranks are counted by 15 comparisons over 16 elements at a time, which vectorizes; there is no search. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/encode.h"
#include "precision/nested.h"

enum { PIECE = 16, N_BOUNDS = 15 };

typedef struct codebook {
    float bounds[N_BOUNDS];
    uint8_t pattern[16]; /* rank -> code */
} codebook;

/* FP4's bit patterns by ascending value; equal values (the two zeros) in ascending order of pattern, as
 * torch.argsort has them. */
static const uint8_t FP4_ORDER[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

static void codebook_init(codebook *b, assay_precision p) {
    const float *table = assay_precision_table(p);
    for (int i = 0; i < 16; i++) b->pattern[i] = p == ASSAY_PRECISION_FP4 ? FP4_ORDER[i] : (uint8_t)i;
    for (int i = 0; i < N_BOUNDS; i++) b->bounds[i] = (table[b->pattern[i]] + table[b->pattern[i + 1]]) / 2;
}

static inline void encode_piece(uint8_t *restrict codes, const float *restrict v,
                                const codebook *restrict b) {
    int32_t rank[PIECE] = {0};
    for (int k = 0; k < N_BOUNDS; k++)
        for (int i = 0; i < PIECE; i++) rank[i] += v[i] > b->bounds[k];
    for (int i = 0; i < PIECE; i++) codes[i] = b->pattern[rank[i]];
}

/* n <= PIECE scaled values. */
static void encode_tail(uint8_t *codes, const float *v, size_t n, const codebook *b) {
    float padded[PIECE] = {0};
    uint8_t out[PIECE];
    memcpy(padded, v, n * sizeof *v);
    encode_piece(out, padded, b);
    memcpy(codes, out, n);
}

static void encode_block(uint8_t *codes, float *scale, const float *w, size_t n, bool whole,
                         const codebook *b) {
    const float floor = 1e-38f;
    float absmax = assay_absmax(w, n), v[PIECE];
    float divisor = absmax < floor ? floor : absmax, inverse = 1.0f / divisor;
    *scale = whole ? absmax : divisor;
    size_t i = 0;
    for (; whole && i + PIECE <= n; i += PIECE) {
        for (int k = 0; k < PIECE; k++) v[k] = w[i + (size_t)k] * inverse;
        encode_piece(codes + i, v, b);
    }
    while (i < n) {
        size_t piece = ASSAY_MIN((size_t)PIECE, n - i);
        for (size_t k = 0; k < piece; k++) v[k] = whole ? w[i + k] * inverse : w[i + k] / divisor;
        encode_tail(codes + i, v, piece, b);
        i += piece;
    }
}

assay_status assay_matrix_nest(assay_matrix *m, assay_err *err) {
    m->nested = assay_nested_new(m->n_scales, 256);
    if (!m->nested) return assay_nomem(err);
    assay_nested_encode(m->nested, m->scales, m->n_scales);
    assay_nested_decode(m->scales, m->nested, m->n_scales);
    return ASSAY_OK;
}

assay_status assay_encode_codebook(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                                   assay_precision p, int64_t block, bool double_quant, assay_err *err) {
    codebook book;
    assay_status s;
    memset(out, 0, sizeof *out);
    if (assay_precision_get_kind(p) != ASSAY_KIND_CODEBOOK)
        return assay_fail(err, ASSAY_EUSAGE, "%s is not a codebook precision", assay_precision_name(p));
    if (block < 1)
        return assay_fail(err, ASSAY_EUSAGE, "a block of %lld elements is impossible", (long long)block);
    ASSAY_TRY(assay_check_finite(w, rows, cols, err));
    *out = (assay_matrix){.precision = p,
                          .rows = rows,
                          .cols = cols,
                          .group_size = block,
                          .scale_dtype = ASSAY_DTYPE_F32,
                          .act_bits = 16,
                          .act_dtype = ASSAY_DTYPE_BF16};
    ASSAY_TRY(assay_matrix_alloc(out, false, err));
    codebook_init(&book, p);
    int64_t n = rows * cols;
    for (int64_t k = 0; k < out->n_scales; k++) {
        int64_t begin = k * block, len = ASSAY_MIN(block, n - begin);
        encode_block(out->codes + begin, out->scales + k, w + begin, (size_t)len, len == block, &book);
    }
    s = double_quant ? assay_matrix_nest(out, err) : ASSAY_OK;
    if (s != ASSAY_OK) assay_matrix_deinit(out);
    return s;
}
