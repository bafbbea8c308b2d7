/* Hadamard rotations: the matrices are orthogonal with entries +-1/sqrt(n), the transpose undoes them, and the orders that models have
 * are found. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "linalg/hadamard.h"
#include "linalg/paley.h"

static void test_blocks(void **state) {
    (void)state;
    static const size_t cases[][2] = {
        {1, 1},         {2, 2},         {64, 64},       {8192, 8192},   {768, 768} /* 12 * 64 */, {14336, 14336} /* 28 * 512 */,
        {28672, 28672}, {5632, 5632} /* 44 * 128 */,    {11008, 11008} /* 344 = 7^3 + 1, times 32 */,
        {13824, 13824} /* 108 * 128 */, {18944, 18944} /* 148 * 128 */, {29568, 29568} /* 924 * 32 */,
        {4864, 4864},   {8960, 8960},   {27648, 27648}, {172, 4} /* Williamson's, not Paley's: too rare to carry */,
        {3, 1},         {6, 2},         {0, 1},         {7 * 12, 84},   {100, 100},   {36, 36},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++)
        if (assay_hadamard_block(cases[i][0]) != cases[i][1])
            fail_msg("%zu: %zu, not %zu", cases[i][0], assay_hadamard_block(cases[i][0]), cases[i][1]);
}

/* Rows of H and of H^T: entries +-1, each other's transpose, H H^T = order * I. */
static void check_paley(size_t order) {
    static assay_paley p;
    assert_true(assay_paley_exists(order));
    assert_true(assay_paley_init(&p, order));
    float *h = assay_calloc(order * order, sizeof *h), *column = assay_calloc(order, sizeof *h);
    assert_non_null(h);
    assert_non_null(column);
    for (size_t i = 0; i < order; i++) assay_paley_row(h + i * order, &p, i, false);
    for (size_t i = 0; i < order; i++) {
        assay_paley_row(column, &p, i, true);
        for (size_t j = 0; j < order; j++) {
            assert_true(h[i * order + j] == 1 || h[i * order + j] == -1);
            assert_true(column[j] == h[j * order + i]);
            float dot = 0;
            for (size_t k = 0; k < order; k++) dot += h[i * order + k] * h[j * order + k];
            if (dot != (i == j ? (float)order : 0)) fail_msg("order %zu: rows %zu and %zu", order, i, j);
        }
    }
    assay_free(h);
    assay_free(column);
}

/* All orders that the two constructions give up to 128; then fields of 3^5, 7^3, 13^2 and 19^2 elements and a large prime one. */
static void test_paley(void **state) {
    (void)state;
    static const size_t orders[] = {4,  8,  12, 20,  24,  28,  32,  36,  44,  48,  52,  60,  68, 72,
                                    76, 80, 84, 100, 104, 108, 124, 128, 244, 344, 340, 724, 924};
    size_t next = 0;
    for (size_t order = 0; order <= 128; order++) {
        bool listed = order == orders[next];
        if (assay_paley_exists(order) != listed) fail_msg("order %zu", order);
        next += listed;
    }
    for (size_t i = 0; i < ASSAY_LEN(orders); i++) check_paley(orders[i]);
    static assay_paley p;
    static const size_t none[] = {0, 1, 2, 6, 92, 172, ASSAY_PALEY_MAX + 4};
    for (size_t i = 0; i < ASSAY_LEN(none); i++) assert_false(assay_paley_init(&p, none[i]));
}

static void check_rows(size_t n, size_t block) {
    enum { ROWS = 3 };
    assay_rng r;
    assay_rng_init(&r, n);
    float *x = assay_calloc(ROWS * n, sizeof *x), *y = assay_calloc(ROWS * n, sizeof *x), *scratch = assay_calloc(n, sizeof *x);
    assert_true(x && y && scratch);
    for (size_t i = 0; i < ROWS * n; i++) y[i] = x[i] = (float)assay_rng_normal(&r);
    assay_hadamard_rows(y, ROWS, n, block, false, (block & (block - 1)) == 0 ? NULL : scratch);
    /* norms of each block are kept, values are not */
    double changed = 0;
    for (size_t b = 0; b < ROWS * n; b += block) {
        double before = 0, after = 0;
        for (size_t i = b; i < b + block; i++) {
            before += (double)x[i] * (double)x[i];
            after += (double)y[i] * (double)y[i];
            changed += fabs((double)x[i] - (double)y[i]);
        }
        assert_float_equal(after, before, 1e-5 * before);
    }
    if (block > 1) assert_true(changed > 0.1);
    /* a row alone gives the same bits */
    float *alone = assay_calloc(n, sizeof *x);
    assert_non_null(alone);
    memcpy(alone, x + n, n * sizeof *x);
    assay_hadamard_rows(alone, 1, n, block, false, scratch);
    assert_memory_equal(alone, y + n, n * sizeof *x);
    assay_hadamard_rows(y, ROWS, n, block, true, scratch);
    for (size_t i = 0; i < ROWS * n; i++)
        if (!(fabsf(x[i] - y[i]) < 2e-5f)) fail_msg("n %zu: element %zu comes back as %g, was %g", n, i, (double)y[i], (double)x[i]);
    assay_free(x);
    assay_free(y);
    assay_free(scratch);
    assay_free(alone);
}

static void test_rows(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 4, 8, 16, 64, 128, 12, 20, 24, 28, 36, 48, 172, 344, 768, 5632, 8192, 11008, 14336, 28672};
    for (size_t i = 0; i < ASSAY_LEN(sizes); i++) check_rows(sizes[i], assay_hadamard_block(sizes[i]));
    check_rows(256, 64);
    check_rows(96, 12);
}

/* The fast transform is the matrix: unit vectors give its columns, here rows of the transpose. */
static void test_matrix(void **state) {
    (void)state;
    enum { N = 24 };
    float h[N * N] = {0}, t[N * N] = {0}, scratch[N];
    for (size_t i = 0; i < N; i++) h[i * N + i] = t[i * N + i] = 1;
    assay_hadamard_rows(h, N, N, N, false, scratch);
    assay_hadamard_rows(t, N, N, N, true, scratch);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            assert_float_equal(fabs((double)h[i * N + j]), 1 / sqrt(N), 1e-6);
            assert_float_equal(h[i * N + j], t[j * N + i], 1e-6);
        }
}

static void test_signs(void **state) {
    (void)state;
    enum { N = 10000 };
    static float a[N], b[N];
    double sum = 0;
    size_t differ = 0;
    assay_hadamard_signs(a, N, 7);
    assay_hadamard_signs(b, N, 8);
    for (size_t i = 0; i < N; i++) {
        assert_true(a[i] == 1 || a[i] == -1);
        sum += (double)a[i];
        differ += a[i] != b[i];
    }
    assert_true(fabs(sum) < 400);
    assert_true(differ > N / 2 - 250 && differ < N / 2 + 250);
    assay_hadamard_signs(b, 100, 7); /* a prefix of the longer one */
    assert_memory_equal(a, b, 100 * sizeof *a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks), cmocka_unit_test(test_paley), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_matrix), cmocka_unit_test(test_signs),
    };
    return cmocka_run_group_tests_name("hadamard", tests, NULL, NULL);
}
