/* linalg: products, Gram matrices and the feedback factorization against plain double loops, at odd shapes and for 1, 2 and 3 threads,
 * which must agree to the bit. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "linalg/linalg.h"
#include "num/convert.h"

static float *floats(size_t n) {
    float *p = assay_calloc(n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}
static float *random_floats(size_t n, uint64_t seed) {
    assay_rng r;
    assay_rng_init(&r, seed);
    float *p = floats(n);
    for (size_t i = 0; i < n; i++) p[i] = (float)assay_rng_normal(&r);
    return p;
}
static float *copy(const float *p, size_t n) { return memcpy(floats(n), p, n * sizeof *p); }

/* --- products --- */

/* bf16: what is multiplied are the operands rounded to bf16; the products themselves are exact. */
static double operand(float x, bool bf16) { return (double)(bf16 ? assay_bf16_to_f32(assay_f32_to_bf16(x)) : x); }

static void check_gemm(size_t m, size_t n, size_t k, bool ta, bool tb, bool beta, bool bf16) {
    size_t pad = 3, lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad, ldc = n + pad;
    float *a = random_floats((ta ? k : m) * lda, 1), *b = random_floats((tb ? n : k) * ldb, 2), *c0 = random_floats(m * ldc, 3);
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        float *c = copy(c0, m * ldc);
        assay_status (*gemm)(float *, size_t, const float *, size_t, bool, const float *, size_t, bool, size_t, size_t, size_t, bool,
                             int, assay_err *) = bf16 ? assay_gemm_bf16 : assay_gemm;
        assert_int_equal(gemm(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, beta, threads, NULL), ASSAY_OK);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) {
                double want = beta ? (double)c0[i * ldc + j] : 0, size = fabs(want);
                for (size_t p = 0; p < k; p++) {
                    double t = operand(ta ? a[p * lda + i] : a[i * lda + p], bf16) *
                               operand(tb ? b[j * ldb + p] : b[p * ldb + j], bf16);
                    want += t;
                    size += fabs(t);
                }
                double got = (double)c[i * ldc + j];
                if (!(fabs(got - want) <= 4e-7 * size)) fail_msg("%zu %zu %zu: (%zu, %zu) is %g, not %g", m, n, k, i, j, got, want);
            }
            /* between the rows nothing is written */
            for (size_t j = n; j < ldc; j++) assert_true(c[i * ldc + j] == c0[i * ldc + j]);
        }
        if (first) assert_memory_equal(first, c, m * ldc * sizeof *c);
        if (first) assay_free(c);
        else first = c;
    }
    assay_free(first);
    assay_free(a);
    assay_free(b);
    assay_free(c0);
}

static void test_gemm(void **state) {
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {17, 33, 64}, {193, 257, 65}, {64, 128, 520}, {5, 300, 1025}, {200, 7, 1}};
    for (size_t s = 0; s < ASSAY_LEN(shapes); s++)
        for (int o = 0; o < 16; o++) check_gemm(shapes[s][0], shapes[s][1], shapes[s][2], o & 1, o & 2, o & 4, o & 8);
}

static void test_gemm_empty(void **state) {
    (void)state;
    float c[4] = {1, 2, 3, 4}, x = 0;
    assert_int_equal(assay_gemm(c, 2, &x, 1, false, &x, 1, false, 2, 2, 0, true, 1, NULL), ASSAY_OK);
    assert_true(c[0] == 1 && c[3] == 4);
    assert_int_equal(assay_gemm(c, 2, &x, 1, false, &x, 1, false, 2, 2, 0, false, 1, NULL), ASSAY_OK);
    assert_true(c[0] == 0 && c[3] == 0);
    assert_int_equal(assay_gemm(c, 2, &x, 1, false, &x, 1, false, 0, 2, 3, false, 1, NULL), ASSAY_OK);
}

/* --- Gram matrices --- */

static void check_gram(size_t n, size_t cols, bool bf16) {
    float *x = random_floats(n * cols, 4), *first = NULL;
    double *want = assay_calloc(cols * cols, sizeof *want), *size = assay_calloc(cols * cols, sizeof *size);
    assert_non_null(want);
    assert_non_null(size);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j < cols; j++) {
                double a = (double)x[t * cols + i], b = (double)x[t * cols + j];
                if (bf16) {
                    a = (double)assay_bf16_to_f32(assay_f32_to_bf16((float)a));
                    b = (double)assay_bf16_to_f32(assay_f32_to_bf16((float)b));
                }
                want[i * cols + j] += 2 * a * b;
                size[i * cols + j] += 2 * fabs(a * b);
            }
    for (int threads = 1; threads <= 3; threads++) {
        float *h = floats(cols * cols);
        for (int call = 0; call < 2; call++) /* adds to what is there */
            assert_int_equal(assay_gram_add(h, x, n, cols, bf16, threads, NULL), ASSAY_OK);
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j < cols; j++) {
                size_t e = i * cols + j;
                if (!(fabs((double)h[e] - want[e]) <= 4e-7 * size[e])) fail_msg("%zu x %zu: (%zu, %zu)", n, cols, i, j);
                assert_true(h[e] == h[j * cols + i]);
            }
        if (first) assert_memory_equal(first, h, cols * cols * sizeof *h);
        if (first) assay_free(h);
        else first = h;
    }
    assay_free(first);
    assay_free(x);
    assay_free(want);
    assay_free(size);
}

static void test_gram(void **state) {
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {7, 5}, {100, 33}, {513, 70}, {1100, 40}, {40, 300}, {33, 513}};
    for (size_t s = 0; s < ASSAY_LEN(shapes); s++)
        for (int bf16 = 0; bf16 < 2; bf16++) check_gram(shapes[s][0], shapes[s][1], bf16);
}

/* --- the factorization --- */

/* X^T X of 2n random rows with strong common directions, so that columns depend on each other. */
static float *definite_matrix(size_t n) {
    float *x = random_floats(2 * n * n, 5), *h = floats(n * n);
    for (size_t t = 0; t < 2 * n; t++)
        for (size_t i = 1; i < n; i++) x[t * n + i] += 0.7f * x[t * n + i - 1];
    assert_int_equal(assay_gram_add(h, x, 2 * n, n, false, 1, NULL), ASSAY_OK);
    assay_free(x);
    return h;
}

/* The definition, in double: with R = F' diag^(1/2), F' = F + I, R R^T is H. */
static void check_factor(size_t n) {
    float *h = definite_matrix(n), *first = NULL;
    double *diag = assay_calloc(n, sizeof *diag);
    assert_non_null(diag);
    for (int threads = 1; threads <= 3; threads++) {
        float *f = copy(h, n * n);
        bool definite = false;
        assert_int_equal(assay_feedback_factor(f, diag, n, &definite, threads, NULL), ASSAY_OK);
        assert_true(definite);
        if (first) {
            assert_memory_equal(first, f, n * n * sizeof *f);
            assay_free(f);
            continue;
        }
        first = f;
        for (size_t i = 0; i < n; i++) {
            assert_true(f[i * n + i] == 0);
            for (size_t j = i; j < n; j++) {
                double sum = 0;
                for (size_t k = j; k < n; k++)
                    sum += (i == k ? 1 : (double)f[i * n + k]) * (j == k ? 1 : (double)f[j * n + k]) * diag[k];
                double size = sqrt((double)h[i * n + i] * (double)h[j * n + j]);
                if (!(fabs(sum - (double)h[i * n + j]) <= 1e-6 * size)) fail_msg("n %zu: (%zu, %zu): %g", n, i, j, sum);
                assert_true(f[i * n + j] == f[j * n + i]);
            }
        }
    }
    assay_free(first);
    assay_free(h);
    assay_free(diag);
}

static void test_factor(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 31, 255, 256, 257, 400, 530};
    for (size_t s = 0; s < ASSAY_LEN(sizes); s++) check_factor(sizes[s]);
}

/* Two columns, by hand: H = [a b; b c]. Given the first column's error d1, the second's best value is off by -b/c d1. */
static void test_factor_two(void **state) {
    (void)state;
    float h[4] = {5, 2, 2, 4};
    double diag[2];
    bool definite;
    assert_int_equal(assay_feedback_factor(h, diag, 2, &definite, 1, NULL), ASSAY_OK);
    assert_true(definite);
    assert_true(h[0] == 0 && h[3] == 0 && h[1] == 0.5f && h[2] == 0.5f);
    assert_float_equal(diag[1], 4, 1e-12);
    assert_float_equal(diag[0], 5 - 2 * 2 / 4.0, 1e-12);
}

static void test_not_definite(void **state) {
    (void)state;
    enum { N = 300 };
    double diag[N];
    for (int kind = 0; kind < 4; kind++)
        for (int threads = 1; threads <= 2; threads++) {
            float *h = definite_matrix(N);
            bool definite = true;
            size_t at = kind == 3 ? 3 : 270;
            if (kind == 0) h[at * N + at] = -1;
            if (kind == 1) h[at * N + at] = NAN;
            if (kind == 2 || kind == 3) /* a column twice: exactly singular */
                for (size_t i = 0; i < N; i++) h[at * N + i] = h[i * N + at] = i == at ? h[10 * N + 10] : h[10 * N + i];
            float *before = copy(h, N * N); /* damping is added to it and tried again */
            assert_int_equal(assay_feedback_factor(h, diag, N, &definite, threads, NULL), ASSAY_OK);
            assert_false(definite);
            assert_memory_equal(h, before, N * N * sizeof *h);
            assay_free(before);
            assay_free(h);
        }
    float zero[4] = {0};
    bool definite = true;
    assert_int_equal(assay_feedback_factor(zero, diag, 2, &definite, 1, NULL), ASSAY_OK);
    assert_false(definite);
}

static void test_out_of_memory(void **state) {
    (void)state;
    enum { N = 20 };
    float *h = definite_matrix(N), *x = random_floats(N * N, 6), *c = floats(N * N);
    double diag[N];
    bool definite;
    for (long n = 0; n < 5; n++) {
        assay_mem_fail_after(n);
        assert_int_equal(assay_feedback_factor(h, diag, N, &definite, 1, NULL), ASSAY_ENOMEM);
    }
    for (long n = 0; n < 2; n++) {
        assay_mem_fail_after(n);
        assert_int_equal(assay_gram_add(h, x, N, N, true, 1, NULL), ASSAY_ENOMEM);
    }
    assay_mem_fail_after(0);
    assert_int_equal(assay_gemm(c, N, x, N, true, x, N, false, N, N, N, true, 1, NULL), ASSAY_ENOMEM);
    assay_mem_fail_after(-1);
    assay_free(h);
    assay_free(x);
    assay_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),       cmocka_unit_test(test_gemm_empty), cmocka_unit_test(test_gram),
        cmocka_unit_test(test_factor),     cmocka_unit_test(test_factor_two), cmocka_unit_test(test_not_definite),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("linalg", tests, NULL, NULL);
}
