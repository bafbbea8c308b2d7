/* Weights of ggml's block types: every type computes what the matrix of its decoded values does, bit for bit, in
 * every float mode, whatever the number of rows, the thread count or the instruction set; and looks rows up as the
 * type's definition decodes them.
 *
 *   test_blocks --bench [threads [mode]]   instead prints times of one matrix beside those of the same in bf16, with bf16
 *                                          activations (1, the default) or float32 (0); and how its file's bytes and those
 *                                          that the kernel streams compare with what the machine reads */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/backend.h"
#include "backend/help.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kern/limits.h"
#include "num/convert.h"
#include "precision/block.h"

#define FIRST ASSAY_PRECISION_Q4_0
#define LAST  ASSAY_PRECISION_TQ2_0

static bool is_moderate(const assay_matrix *block) {
    float v[ASSAY_BLOCK_MAX];
    bool moderate = true;
    assay_matrix_decode_rows(v, block, 0, 1);
    for (int64_t i = 0; i < block->cols; i++)
        if (!(fabsf(v[i]) < 1000)) moderate = false; /* and NaN */
    return moderate;
}
/* Random bytes are valid blocks; drawn again until their values are such that sums stay finite in every mode. Scales
 * have either sign. */
static assay_matrix random_blocks(assay_precision p, int64_t rows, int64_t cols, uint64_t seed) {
    const assay_block_info *info = assay_block_get(p);
    size_t row_bytes = assay_block_row_bytes(p, cols), size = (size_t)rows * row_bytes;
    uint8_t *data = assay_malloc(size);
    assay_rng r;
    assay_rng_init(&r, seed);
    for (size_t at = 0; at < size; at += (size_t)info->bytes) {
        assay_matrix one = {.precision = p, .rows = 1, .cols = info->elements, .data = data + at};
        do
            for (int i = 0; i < info->bytes; i++)
                data[at + (size_t)i] = (uint8_t)assay_rng_next(&r);
        while (!is_moderate(&one));
    }
    return (assay_matrix){
        .precision = p, .rows = rows, .cols = cols, .data = data, .owns_data = true, .act_bits = 16};
}

/* Columns in whole blocks: one, and an odd number. */
static int64_t columns_of(assay_precision p, int64_t blocks) { return blocks * assay_block_get(p)->elements; }

static void multiply(float *y, assay_backend *b, const assay_weight *w, const assay_buf *bias, const float *x, size_t rows,
                     size_t k, size_t n) {
    assay_buf *xb = buf_of(b, x, rows * k), *yb = buf_of(b, NULL, rows * n);
    assay_op_linear(b, yb, w, bias, xb, rows);
    assay_buf_read(b, y, yb, 0, rows * n * 4);
    assay_buf_free(b, xb), assay_buf_free(b, yb);
}

/* Products of m and of `dense`, its values, on every row count. */
static void compare(assay_backend *b, const assay_matrix *m, const assay_matrix *dense, assay_act_mode mode) {
    static const size_t batches[] = {1, 2, 7};
    size_t k = (size_t)m->cols, n = (size_t)m->rows;
    assay_rng r;
    assay_rng_init(&r, 8);
    assay_weight *w[2] = {NULL, NULL};
    float *x = normals(&r, 7 * k, 1), *bias = normals(&r, n, 1), *y[2] = {malloc(7 * n * 4), malloc(7 * n * 4)};
    assay_buf *bias_buf = buf_of(b, bias, n);
    assert_int_equal(assay_weight_new(&w[0], b, m, mode, NULL), ASSAY_OK);
    assert_int_equal(assay_weight_new(&w[1], b, dense, mode, NULL), ASSAY_OK);
    assert_int_equal(assay_weight_mode(w[0]), mode);
    for (size_t i = 0; i < ASSAY_LEN(batches); i++) {
        for (int t = 0; t < 2; t++)
            multiply(y[t], b, w[t], bias_buf, x, batches[i], k, n);
        if (memcmp(y[0], y[1], batches[i] * n * 4) != 0)
            fail_msg("%s %zu x %zu mode %d on %zu rows differs from its dense matrix (%s)",
                     assay_precision_name(m->precision), n, k, (int)mode, batches[i], assay_backend_describe(b));
    }
    assay_buf_free(b, bias_buf);
    assay_weight_free(b, w[0]), assay_weight_free(b, w[1]);
    free(x), free(bias), free(y[0]), free(y[1]);
}

static void check_type(assay_backend *b, assay_precision p, int64_t rows, int64_t blocks) {
    static const int32_t ids[] = {2, 0, 1, 2};
    assay_matrix m = random_blocks(p, rows, columns_of(p, blocks), (uint64_t)p * 100 + (uint64_t)blocks);
    float *values = malloc((size_t)(m.rows * m.cols) * 4);
    assay_matrix_decode_rows(values, &m, 0, m.rows);
    assay_matrix dense = {.precision = ASSAY_PRECISION_F32, .rows = m.rows, .cols = m.cols, .data = values};
    for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_F16; mode++) {
        compare(b, &m, &dense, mode);
        check_embed(b, &m, mode, ids, ASSAY_LEN(ids));
    }
    free(values);
    assay_matrix_deinit(&m);
}

static void test_blocks_equal_their_dense_matrix(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        assay_backend *b = open_cpu(threads, NULL);
        for (assay_precision p = FIRST; p <= LAST; p++) {
            check_type(b, p, 3, 1);
            check_type(b, p, 29, 5);
            if (threads == 3) check_type(b, p, 410, p % 2 ? 7 : 6); /* worth threads */
        }
        assay_backend_close(b);
    }
}

static void test_instruction_sets(void **state) {
    (void)state;
    static const char *const sets[] = {"ref", "avx2", "avx512", "neon"};
    for (size_t i = 0; i < ASSAY_LEN(sets); i++) {
        assay_backend *b = NULL;
        assay_cpu_opts o = {.n_threads = 1, .isa = sets[i]};
        if (assay_backend_open_cpu(&b, &o, NULL) != ASSAY_OK) continue; /* this CPU has it not */
        for (assay_precision p = FIRST; p <= LAST; p++)
            check_type(b, p, 9, 3);
        assay_backend_close(b);
    }
}

/* Blocks that a matrix owns go with it; those of a mapping are borrowed. */
static void test_ownership(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    for (assay_precision p = FIRST; p <= LAST; p++) {
        assay_matrix m = random_blocks(p, 5, columns_of(p, 2), 7);
        size_t k = (size_t)m.cols;
        assay_weight *w = NULL;
        float *want = malloc(k * 4), *got = malloc(k * 4);
        assay_buf *y = buf_of(b, NULL, k);
        assay_matrix_decode_rows(want, &m, 3, 1);
        for (int fail = 0; fail < 6; fail++) {
            assay_mem_fail_after(fail);
            assay_status s = assay_weight_new(&w, b, &m, ASSAY_ACT_BF16, NULL);
            assay_mem_fail_after(-1);
            assert_true(s == ASSAY_OK || (s == ASSAY_ENOMEM && !w));
            assay_weight_free(b, w);
        }
        assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_BF16, NULL), ASSAY_OK);
        memset((void *)m.data, 0xee, (size_t)m.rows * assay_block_row_bytes(p, m.cols));
        assay_matrix_deinit(&m);
        assay_op_embed(b, y, w, (const int32_t[]){3}, 1);
        assay_buf_read(b, got, y, 0, k * 4);
        assert_memory_equal(got, want, k * 4);
        assay_weight_free(b, w);
        assay_buf_free(b, y);
        free(want), free(got);
    }
    assay_backend_close(b);
}

/* What a weight costs in memory: bits of a code, a float32 scale and minimum of a block, and a byte for each where the
 * block has groups; the rarest types cost nothing but the file. */
static void test_bytes(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    for (assay_precision p = FIRST; p <= LAST; p++) {
        const assay_block_info *info = assay_block_get(p);
        assay_matrix m = random_blocks(p, 8, 1024, 1);
        assay_weight *w = NULL;
        bool kept = strncmp(info->name, "iq1", 3) == 0 || strncmp(info->name, "iq2", 3) == 0;
        bool wide = p == ASSAY_PRECISION_Q6_K || assay_precision_bits(p) == 5 || assay_precision_bits(p) == 8;
        double bits = kept ? 8.0 * info->bytes / info->elements
                           : (wide ? 8 : 4) + (info->has_mins ? 2 : 1) * (32.0 / info->elements + (info->group < info->elements ? 8.0 / info->group : 0));
        assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_BF16, NULL), ASSAY_OK);
        if ((double)assay_weight_n_bytes(w) != bits / 8 * 8 * 1024)
            fail_msg("%s takes %zu bytes, %.4f bits were expected", info->name, assay_weight_n_bytes(w), bits);
        assay_weight_free(b, w);
        assay_matrix_deinit(&m);
    }
    assay_backend_close(b);
}

static void test_refusals(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    assay_matrix m = random_blocks(ASSAY_PRECISION_Q4_K, 3, 256, 1);
    for (assay_act_mode mode = ASSAY_ACT_INT8; mode <= ASSAY_ACT_FP8; mode++) {
        assay_weight *w = NULL;
        assay_err err = {0};
        assert_int_equal(assay_weight_new(&w, b, &m, mode, &err), ASSAY_EUNSUPPORTED);
        assert_non_null(strstr(err.message, "q4_k"));
    }
    assay_matrix part = {.precision = m.precision, .rows = 3, .cols = 200, .data = m.data};
    assay_weight *w = NULL;
    assert_int_equal(assay_weight_new(&w, b, &part, ASSAY_ACT_F32, NULL), ASSAY_EINPUT);
    assert_null(w);
    assay_matrix_deinit(&m);
    assay_backend_close(b);
}

/* --- bench --- */

enum { ROUNDS = 40, BENCH_ROWS = 14336, BENCH_COLS = 4096, BATCH = 64 };

/* Bytes below 64: whatever is a scale is a moderate number, and every table is looked up at random. */
static assay_matrix bench_blocks(assay_precision p) {
    size_t size = BENCH_ROWS * assay_block_row_bytes(p, BENCH_COLS);
    uint8_t *data = assay_malloc(size);
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24 & 63);
    return (assay_matrix){.precision = p, .rows = BENCH_ROWS, .cols = BENCH_COLS, .owns_data = true, .data = data};
}

static double once(assay_backend *b, assay_buf *y, const assay_weight *w, const assay_buf *x, size_t rows) {
    double t = assay_now();
    assay_op_linear(b, y, w, NULL, x, rows);
    return assay_now() - t;
}

/* Best times in turns with bf16's, since a busy machine's speed changes from second to second. */
static void bench_type(assay_backend *b, assay_precision p, assay_act_mode mode, double gbs, const assay_weight *bf16, const assay_buf *x, assay_buf *y) {
    double best[2][2] = {{1e9, 1e9}, {1e9, 1e9}}, start = assay_now();
    assay_matrix m = bench_blocks(p);
    assay_weight *w = NULL;
    start = assay_now();
    if (assay_weight_new(&w, b, &m, mode, NULL) != ASSAY_OK) return;
    double load = assay_now() - start;
    for (int round = 0; round < ROUNDS; round++)
        for (int many = 0; many < (round < 3 ? 2 : 1); many++) {
            size_t rows = many ? BATCH : 1;
            best[many][0] = fmin(best[many][0], once(b, y, bf16, x, rows));
            best[many][1] = fmin(best[many][1], once(b, y, w, x, rows));
        }
    double weights = (double)BENCH_ROWS * BENCH_COLS, seconds = best[0][1],
           file = (double)BENCH_ROWS * (double)assay_block_row_bytes(p, BENCH_COLS);
    printf("%-8s %5.2f bits  load %5.2f ns/weight  1 row %6.2f ms, bf16 %6.2f, %5.2f x, %3.0f %% of read (file's bytes: %3.0f %%)  "
           "%d rows %6.1f ms, bf16 %6.1f, %4.2f x\n",
           assay_precision_name(p), 8 * (double)assay_weight_n_bytes(w) / weights, load * 1e9 / weights, seconds * 1e3,
           best[0][0] * 1e3, best[0][0] / seconds, (double)assay_weight_n_bytes(w) / seconds * 1e-7 / gbs, file / seconds * 1e-7 / gbs,
           BATCH, best[1][1] * 1e3, best[1][0] * 1e3, best[1][0] / best[1][1]);
    assay_weight_free(b, w);
    assay_matrix_deinit(&m);
}

static int run_bench(int threads, assay_act_mode mode) {
    assay_limits limits;
    if (assay_limits_measure(&limits, threads, NULL) != ASSAY_OK) return 1;
    assay_backend *b = open_cpu(threads, NULL);
    size_t size = (size_t)BENCH_ROWS * BENCH_COLS * 2;
    float *ones = calloc(BATCH * BENCH_COLS, 4);
    assay_matrix dense = {.precision = ASSAY_PRECISION_BF16, .rows = BENCH_ROWS, .cols = BENCH_COLS, .data = memset(assay_malloc_aligned(size), 1, size)};
    assay_weight *bf16 = NULL;
    assay_buf *x = buf_of(b, ones, BATCH * BENCH_COLS), *y = buf_of(b, NULL, BATCH * BENCH_ROWS);
    printf("%s, %d x %d, %s activations, reads %.1f GB/s\n", assay_backend_describe(b), BENCH_ROWS, BENCH_COLS, mode == ASSAY_ACT_F32 ? "float32" : "bf16", limits.read_gbs);
    if (assay_weight_new(&bf16, b, &dense, mode, NULL) != ASSAY_OK) return 1;
    for (assay_precision p = FIRST; p <= LAST; p++)
        bench_type(b, p, mode, limits.read_gbs, bf16, x, y);
    assay_weight_free(b, bf16);
    assay_buf_free(b, x), assay_buf_free(b, y);
    assay_free_aligned((void *)dense.data);
    free(ones);
    assay_backend_close(b);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return run_bench(argc > 2 ? (int)strtol(argv[2], NULL, 10) : 1,
                         argc > 3 && strcmp(argv[3], "0") == 0 ? ASSAY_ACT_F32 : ASSAY_ACT_BF16);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_equal_their_dense_matrix),
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_ownership),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("cpu backend on ggml's blocks", tests, NULL, NULL);
}
