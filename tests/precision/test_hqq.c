/* test_hqq.c: half-quadratic quantization against hqq's own results (golden/hqq.json, made by
 * golden/make_hqq.py with the versions it names), and what makes it what it is: it stops at a fixed point,
 * loses no more than rounding in its own norm, and does not depend on how rows are handed out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "num/convert.h"
#include "precision/hqq.h"
#include "precision/golden.h"

static int load_golden(void **state) {
    (void)state;
    return golden_load("tests/precision/golden/hqq.json");
}

static float *load_input(const char *name, int64_t *rows, int64_t *cols) {
    const json_t *j = json_object_get(json_object_get(golden, "inputs"), name),
                 *values = json_object_get(j, "values");
    *rows = json_integer_value(json_object_get(j, "rows"));
    *cols = json_integer_value(json_object_get(j, "cols"));
    float *w = assay_mallocn((size_t)(*rows * *cols), sizeof *w);
    if (values)
        unhex(w, json_string_value(values));
    else
        fill_lcg(w, (size_t)(*rows * *cols), (uint32_t)json_integer_value(json_object_get(j, "seed")),
                 (float)json_number_value(json_object_get(j, "amplitude")));
    return w;
}

/* In units of the last place of `want`, at most `ulps`. */
static void expect_floats(const char *what, size_t case_no, const json_t *hex, const float *got, int64_t n,
                          float ulps) {
    float *want = assay_mallocn((size_t)n, sizeof *want);
    assert_int_equal((int64_t)strlen(json_string_value(hex)), n * 8);
    unhex(want, json_string_value(hex));
    for (int64_t i = 0; i < n; i++) {
        float ulp = nextafterf(fabsf(want[i]), INFINITY) - fabsf(want[i]);
        if (!(fabsf(got[i] - want[i]) <= ulps * ulp))
            fail_msg("case %zu: %s[%lld] is %.9g, expected %.9g", case_no, what, (long long)i, (double)got[i],
                     (double)want[i]);
    }
    assay_free(want);
}

static void codes_and_parameters_equal_hqq(void **state) {
    (void)state;
    size_t i;
    json_t *c;
    assert_true(json_array_size(json_object_get(golden, "cases")) > 60);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        int64_t rows, cols;
        char digest[ASSAY_HASH_HEX];
        const char *name = json_string_value(json_object_get(c, "input"));
        float *w = load_input(name, &rows, &cols), ulps = strcmp(name, "coarse") == 0 ? 4.0f : 0.0f;
        assay_matrix m;
        assay_hqq_opts o = {.bits = (int)json_integer_value(json_object_get(c, "bits")),
                            .group_size = json_integer_value(json_object_get(c, "group"))};
        assert_int_equal(assay_encode_hqq(&m, w, rows, cols, &o, NULL), ASSAY_OK);
        assert_int_equal(assay_matrix_check(&m, name, NULL), ASSAY_OK);
        assert_null(m.zeros);
        expect_floats("scale", i, json_object_get(c, "scales"), m.scales, m.n_scales, 0);
        expect_floats("zero", i, json_object_get(c, "zeros"), m.real_zeros, m.n_scales, ulps);
        assay_hash_bytes(digest, m.codes, (size_t)(rows * cols));
        if (strcmp(digest, json_string_value(json_object_get(c, "codes"))) != 0)
            fail_msg("case %zu on %s: codes differ", i, name);
        assay_matrix_deinit(&m);
        assay_free(w);
    }
}

enum { ROWS = 48, COLS = 256 };

static double error_norm(const assay_matrix *m, const float *w, double p) {
    float *back = assay_mallocn(ROWS * COLS, 4);
    double sum = 0;
    assay_matrix_decode_rows(back, m, 0, ROWS);
    for (int i = 0; i < ROWS * COLS; i++) sum += pow(fabs((double)back[i] - (double)w[i]), p);
    assay_free(back);
    return sum / (ROWS * COLS);
}

/* Sums of four uniforms: near enough to a normal distribution. (Where most weights are zero, as in cubes, an
 * integer zero point is hard to beat in a norm that counts small errors so much.) */
static void fill_bell(float *w, size_t n, uint32_t x, float amplitude) {
    for (size_t i = 0; i < n; i++) {
        w[i] = 0;
        for (int k = 0; k < 4; k++) {
            x = x * 1664525u + 1013904223u;
            w[i] += (float)((int32_t)(x >> 8) - 8388608) * 0x1p-23f * amplitude;
        }
    }
}

/* Against rounding on the plain asymmetric grid of the same range, in the norm of its objective, p = 0.7, and
 * in the one it watches. */
static void it_loses_no_more_than_rounding(void **state) {
    (void)state;
    float *w = assay_mallocn(ROWS * COLS, 4);
    for (uint32_t seed = 1; seed <= 5; seed++) {
        fill_bell(w, ROWS * COLS, seed, 0.1f);
        for (int bits = 2; bits <= 6; bits++) {
            assay_matrix m, rtn;
            assay_hqq_opts o = {.bits = bits, .group_size = 64};
            assay_int_opts plain = {.bits = bits, .group_size = 64, .asymmetric = true};
            assert_int_equal(assay_encode_hqq(&m, w, ROWS, COLS, &o, NULL), ASSAY_OK);
            assert_int_equal(assay_encode_int(&rtn, w, ROWS, COLS, &plain, NULL), ASSAY_OK);
            assert_true(error_norm(&m, w, 0.7) <= error_norm(&rtn, w, 0.7));
            assert_true(error_norm(&m, w, 1) <= error_norm(&rtn, w, 1));
            assay_matrix_deinit(&m);
            assay_matrix_deinit(&rtn);
        }
    }
    assay_free(w);
}

/* Runs the iterations by hand: the mean error falls until the last, and where the solver stopped before its
 * limit one more does not help. */
static void it_stops_at_a_fixed_point(void **state) {
    (void)state;
    float *w = assay_mallocn(ROWS * COLS, 4);
    fill_lcg(w, ROWS * COLS, 9, 0.1f);
    for (int bits = 2; bits <= 4; bits++) {
        assay_matrix m;
        assay_hqq_progress p = {0};
        double last = INFINITY, sum;
        assert_int_equal(
            assay_hqq_new(&m, ROWS, COLS, &(assay_hqq_opts){.bits = bits, .group_size = 128}, NULL),
            ASSAY_OK);
        assay_hqq_start(&m, w, 0, ROWS);
        while (assay_hqq_goes_on(&p, &m, sum = assay_hqq_step(&m, w, 0, ROWS))) {
            assert_true(sum < last);
            last = sum;
        }
        assert_true(p.iteration == 20 || (float)(sum / (ROWS * COLS)) >= (float)(last / (ROWS * COLS)));
        double more = assay_hqq_step(&m, w, 0, ROWS);
        assert_true(p.iteration == 20 || more > last * 0.999);
        assay_matrix_deinit(&m);
    }
    assay_free(w);
}

static void rows_may_be_handed_out_in_any_order(void **state) {
    (void)state;
    float *w = assay_mallocn(ROWS * COLS, 4);
    assay_matrix whole, m;
    assay_hqq_opts o = {.bits = 3, .group_size = 64, .scale_dtype = ASSAY_DTYPE_BF16};
    assay_hqq_progress p = {0};
    bool more = true;
    fill_lcg(w, ROWS * COLS, 31, 0.1f);
    assert_int_equal(assay_encode_hqq(&whole, w, ROWS, COLS, &o, NULL), ASSAY_OK);
    assert_int_equal(assay_hqq_new(&m, ROWS, COLS, &o, NULL), ASSAY_OK);
    for (int64_t r = ROWS - 7; r > -7; r -= 7) { /* backwards, seven at a time, the first block short */
        int64_t first = r < 0 ? 0 : r;
        assay_hqq_start(&m, w + first * COLS, first, r + 7 - first);
    }
    while (more) {
        double sums[7] = {0}, sum = 0;
        for (int b = 6; b >= 0; b--)
            sums[b] = assay_hqq_step(&m, w + b * 7 * COLS, b * 7, b == 6 ? ROWS - 42 : 7);
        for (int b = 0; b < 7; b++) sum += sums[b];
        more = assay_hqq_goes_on(&p, &m, sum);
    }
    for (int64_t r = 0; r < ROWS; r++) assay_hqq_finish(&m, w + r * COLS, r, 1);
    assert_memory_equal(m.codes, whole.codes, ROWS * COLS);
    assert_memory_equal(m.scales, whole.scales, (size_t)m.n_scales * 4);
    assert_memory_equal(m.real_zeros, whole.real_zeros, (size_t)m.n_scales * 4);
    for (int64_t i = 0; i < m.n_scales; i++) /* stored as the format will store them */
        assert_true(m.scales[i] == assay_bf16_to_f32(assay_f32_to_bf16(m.scales[i])) &&
                    m.real_zeros[i] == assay_bf16_to_f32(assay_f32_to_bf16(m.real_zeros[i])));
    assay_matrix_deinit(&whole);
    assay_matrix_deinit(&m);
    assay_free(w);
}

static void bad_input_is_refused(void **state) {
    (void)state;
    float w[64] = {0};
    assay_matrix m;
    assay_err err = {0};
    assert_int_equal(assay_encode_hqq(&m, w, 1, 64, &(assay_hqq_opts){.bits = 9}, &err), ASSAY_EUSAGE);
    assert_int_equal(assay_encode_hqq(&m, w, 1, 64, &(assay_hqq_opts){.bits = 4, .group_size = -1}, &err),
                     ASSAY_EUSAGE);
    w[63] = NAN;
    err = (assay_err){0};
    assert_int_equal(assay_encode_hqq(&m, w, 2, 32, &(assay_hqq_opts){.bits = 4}, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "row 1 column 31"));
    w[63] = 0;
    for (int n = 0, failed = 1; failed; n++) {
        assay_mem_fail_after(n);
        failed = assay_encode_hqq(&m, w, 2, 32, &(assay_hqq_opts){.bits = 4}, NULL) == ASSAY_ENOMEM;
        assay_mem_fail_after(-1);
        assay_matrix_deinit(&m);
        assert_true(n < 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_parameters_equal_hqq),
        cmocka_unit_test(it_loses_no_more_than_rounding),
        cmocka_unit_test(it_stops_at_a_fixed_point),
        cmocka_unit_test(rows_may_be_handed_out_in_any_order),
        cmocka_unit_test(bad_input_is_refused),
    };
    return cmocka_run_group_tests_name("hqq", tests, load_golden, free_golden);
}
