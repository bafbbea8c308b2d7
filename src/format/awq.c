/* awq.c: the AWQ convention, version GEMM (AutoAWQ 0.2.9: modules/linear/gemm.py, utils/packing_utils.py). For module X of shape
 * [o, i] in groups of k columns; four bits; everything lies [in][out]:
 *
 *   X.qweight  I32 [i, o/8]     word c of input n has the codes of the outputs 8c .. 8c+7, in nibbles from the low end:
 *                               8c+0, 8c+2, 8c+4, 8c+6, 8c+1, 8c+3, 8c+5, 8c+7
 *   X.qzeros   I32 [i/k, o/8]   zero points in the same order, as they are
 *   X.scales   F16 [i/k, o]     w = (q - zero) * scale
 *
 * Other versions (gemv, gemv_fast, marlin, exllama) lie otherwise and are refused. AutoAWQ computes in float16. */
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "format/convention.h"

bool assay_awq_has(const assay_want *w) {
    return assay_want_find(w, ".qweight") != NULL;
}

/* --- packing: outputs along words, so 8 inputs of 8 outputs are turned like a chess board --- */

/* The output of each nibble, and the nibble of each output. */
static const int OUTPUT_OF[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static uint64_t spread_nibbles(uint32_t word) {
    uint64_t x = word;
    x = (x & 0x000000000000ffff) | (x & 0x00000000ffff0000) << 16;
    x = (x & 0x000000ff000000ff) | (x & 0x0000ff000000ff00) << 8;
    return (x & 0x000f000f000f000f) | (x & 0x00f000f000f000f0) << 4;
}

static uint32_t gather_nibbles(uint64_t x) {
    x = (x & 0x000f000f000f000f) | (x & 0x0f000f000f000f00) >> 4;
    x = (x & 0x000000ff000000ff) | (x & 0x00ff000000ff0000) >> 8;
    return (uint32_t)((x & 0x000000000000ffff) | (x & 0x0000ffff00000000) >> 16);
}

/* Byte j of word i becomes byte i of word j: pairs of words 1, 2 and 4 apart trade the bytes that lie as far apart. */
static inline __attribute__((always_inline)) void trade(uint64_t x[8], int d, uint64_t low) {
    for (int k = 0; k < 4; k++) {
        int i = (k & ~(d - 1)) * 2 + (k & (d - 1)), shift = 8 * d;
        uint64_t a = x[i], b = x[i + d];
        x[i] = (a & low) | (b & low) << shift;
        x[i + d] = (a >> shift & low) | (b & ~low);
    }
}

static inline __attribute__((always_inline)) void transpose(uint64_t x[8]) {
    trade(x, 1, 0x00ff00ff00ff00ff);
    trade(x, 2, 0x0000ffff0000ffff);
    trade(x, 4, 0x00000000ffffffff);
}

typedef struct job {
    uint8_t *codes; /* [out][in] */
    uint8_t *words; /* [in][out / 8] */
    int64_t in, out;
} job;

enum { TILE = 128 /* outputs: a cache line of words */ };

/* Inputs [k, k + n) of the outputs of word c, n up to 8. */
static inline __attribute__((always_inline)) void unpack_square(const job *j, int64_t c, int64_t k, int64_t n) {
    uint64_t x[8] = {0};
    for (int64_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, j->words + ((k + i) * (j->out / 8) + c) * 4, 4);
        x[i] = spread_nibbles(word);
    }
    transpose(x);
    for (int i = 0; i < 8; i++)
        memcpy(j->codes + (8 * c + OUTPUT_OF[i]) * j->in + k, &x[i], (size_t)n);
}

static inline __attribute__((always_inline)) void pack_square(const job *j, int64_t c, int64_t k, int64_t n) {
    uint64_t x[8] = {0};
    for (int i = 0; i < 8; i++)
        memcpy(&x[i], j->codes + (8 * c + OUTPUT_OF[i]) * j->in + k, (size_t)n);
    transpose(x);
    for (int64_t i = 0; i < n; i++) {
        uint32_t word = gather_nibbles(x[i]);
        memcpy(j->words + ((k + i) * (j->out / 8) + c) * 4, &word, 4);
    }
}

typedef void square_fn(const job *j, int64_t c, int64_t k, int64_t n);

static inline __attribute__((always_inline)) void walk(const job *j, size_t begin, size_t end, square_fn *square) {
    int64_t whole = j->in / 8 * 8;
    for (int64_t k0 = 0; k0 < whole; k0 += 64)
        for (int64_t c = (int64_t)begin / 8; c < (int64_t)end / 8; c++)
            for (int64_t k = k0; k < ASSAY_MIN(k0 + 64, whole); k += 8) square(j, c, k, 8);
    for (int64_t c = (int64_t)begin / 8; whole < j->in && c < (int64_t)end / 8; c++) square(j, c, whole, j->in - whole);
}

static void unpack_range(void *ctx, size_t begin, size_t end, int thread) {
    (void)thread;
    for (size_t at = begin; at < end; at += TILE) walk(ctx, at, ASSAY_MIN(at + TILE, end), unpack_square);
}

static void pack_range(void *ctx, size_t begin, size_t end, int thread) {
    (void)thread;
    for (size_t at = begin; at < end; at += TILE) walk(ctx, at, ASSAY_MIN(at + TILE, end), pack_square);
}

static void for_outputs(job j, assay_range_fn fn) {
    assay_parallel_range(j.in * j.out > 1 << 18 ? assay_n_cores() : 1, (size_t)j.out, TILE, fn, &j);
}

static void unpack(uint8_t *codes, const void *words, int64_t in, int64_t out) {
    for_outputs((job){codes, (uint8_t *)(uintptr_t)words, in, out}, unpack_range);
}

static void pack(uint32_t *words, const uint8_t *codes, int64_t in, int64_t out) {
    for_outputs((job){(uint8_t *)(uintptr_t)codes, (uint8_t *)words, in, out}, pack_range);
}

/* --- reading --- */

static assay_status read_scheme(int64_t *group_size, bool *zero_point, const assay_want *w, assay_err *err) {
    const char *version = "gemm";
    int64_t bits = 4;
    *zero_point = true;
    *group_size = 128;
    ASSAY_TRY(assay_json_get_str(&version, w->config, "version", "quantization_config", err));
    ASSAY_TRY(assay_json_get_bool(zero_point, w->config, "zero_point", "quantization_config", err));
    /* AutoAWQ's own file says w_bit and q_group_size. */
    ASSAY_TRY(assay_json_get_int(&bits, w->config, "w_bit", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(&bits, w->config, "bits", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(group_size, w->config, "q_group_size", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(group_size, w->config, "group_size", "quantization_config", err));
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: awq of version '%.40s' is not supported: gemm is", version);
    if (bits != 4) return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: awq has 4 bits, not %lld", (long long)bits);
    return ASSAY_OK;
}

assay_status assay_awq_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *codes, *scales, *zeros = assay_want_find(w, ".qzeros");
    int64_t group;
    bool zero_point;
    ASSAY_TRY(read_scheme(&group, &zero_point, w, err));
    ASSAY_TRY(assay_want_get(&codes, w, ".qweight", err));
    ASSAY_TRY(assay_want_get(&scales, w, ".scales", err));
    if (!zeros && zero_point) return assay_want_get(&zeros, w, ".qzeros", err);
    ASSAY_TRY(assay_want_tensor(codes, ASSAY_DTYPE_I32, -1, err));
    if (codes->n_dims != 2 || codes->dims[1] > INT32_MAX)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is not a matrix of packed codes", codes->name);
    *m = (assay_matrix){.precision = ASSAY_PRECISION_INT4,
                        .rows = codes->dims[1] * 8,
                        .cols = codes->dims[0],
                        .scale_dtype = assay_scale_dtype(scales),
                        .act_bits = 16,
                        .act_dtype = ASSAY_DTYPE_F16};
    ASSAY_TRY(assay_want_shape(w, m->rows, m->cols, err));
    m->group_size = group > 0 && group <= m->cols ? group : 0;
    if (m->group_size && m->cols % m->group_size != 0)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %lld inputs, which groups of %lld do not divide", codes->name,
                          (long long)m->cols, (long long)group);
    ASSAY_TRY(assay_matrix_alloc(m, zeros != NULL, err));
    ASSAY_TRY(assay_want_scales_across(m, scales, err));
    if (zeros) {
        ASSAY_TRY(assay_want_tensor(zeros, ASSAY_DTYPE_I32, m->n_scales / 8, err));
        unpack(m->zeros, zeros->data, assay_matrix_n_groups(m), m->rows);
        assay_matrix_drop_plain_zeros(m);
    }
    if (!w->outline) unpack(m->codes, codes->data, m->cols, m->rows);
    return ASSAY_OK;
}

/* --- writing --- */

assay_status assay_awq_check(const char *module, const assay_matrix *m, assay_err *err) {
    int64_t k = m->group_size ? m->group_size : m->cols;
    ASSAY_TRY(assay_check_plain_int(module, m, "awq", err));
    if (m->precision != ASSAY_PRECISION_INT4)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has codes of %d bits: awq has 4", module, assay_precision_bits(m->precision));
    if (m->g_idx) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has an activation order (g_idx): awq has none", module);
    if (m->cols % k != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has groups of %lld: awq wants them to divide the %lld inputs", module, (long long)k,
                          (long long)m->cols);
    if (m->rows % 8 != 0) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %lld outputs: awq packs them by 8", module, (long long)m->rows);
    return ASSAY_OK;
}

static assay_status put_zeros(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    int64_t groups = assay_matrix_n_groups(m);
    uint32_t *packed = assay_mallocn((size_t)(m->n_scales / 8), sizeof *packed);
    if (!packed) return assay_nomem(err);
    if (assay_ckpt_writer_is_planning(w))
        ;
    else if (m->zeros)
        pack(packed, m->zeros, groups, m->rows);
    else
        memset(packed, 0x88, (size_t)(m->n_scales / 8) * sizeof *packed);
    assay_status s = assay_put_part(w, module, ".qzeros", ASSAY_DTYPE_I32, 2, (int64_t[]){groups, m->rows / 8}, packed, err);
    assay_free(packed);
    return s;
}

assay_status assay_awq_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_dtype model_dtype, assay_err *err) {
    (void)model_dtype;
    ASSAY_TRY(assay_awq_check(module, m, err));
    uint32_t *packed = assay_mallocn((size_t)m->cols, (size_t)m->rows / 2);
    if (!packed) return assay_nomem(err);
    if (!assay_ckpt_writer_is_planning(w)) pack(packed, m->codes, m->cols, m->rows);
    assay_status s = assay_put_part(w, module, ".qweight", ASSAY_DTYPE_I32, 2, (int64_t[]){m->cols, m->rows / 8}, packed, err);
    assay_free(packed);
    if (s == ASSAY_OK) s = put_zeros(w, module, m, err);
    return s == ASSAY_OK ? assay_put_scales_across(w, module, m, err) : s;
}
