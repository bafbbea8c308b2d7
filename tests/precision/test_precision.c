/* test_precision.c: encoders against the originals' own results (golden/precision.json, made by
 * golden/make_precision.py with the versions it names), decoding against the definition, sizes, and every
 * refusal. */
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
#include "precision/grid.h"
#include "precision/nested.h"
#include "precision/golden.h"

static int load_golden(void **state) {
    (void)state;
    const char *path = getenv("ASSAY_GOLDEN_PRECISION"); /* a file with everything listed helps to find a difference */
    return golden_load(path ? path : "tests/precision/golden/precision.json");
}

/* Fails naming what differs and where, when listed; a hash says only that it does. */
static void expect_bytes(const char *what, const json_t *expected, const void *got, size_t n, size_t size) {
    const char *hex = json_string_value(expected);
    assert_non_null(hex);
    if (strncmp(hex, "sha256:", 7) == 0) {
        char digest[ASSAY_HASH_HEX];
        assay_hash_bytes(digest, got, n * size);
        if (strcmp(digest, hex + 7) != 0) fail_msg("%s: the hash of %zu values differs", what, n);
        return;
    }
    if (strlen(hex) != 2 * n * size)
        fail_msg("%s: %zu bytes expected, %zu got", what, strlen(hex) / 2, n * size);
    uint8_t *want = assay_malloc(n * size + 1);
    unhex(want, hex);
    for (size_t i = 0; i < n; i++) {
        if (memcmp(want + i * size, (const uint8_t *)got + i * size, size) == 0) continue;
        uint32_t a = 0, b = 0;
        memcpy(&a, want + i * size, size);
        memcpy(&b, (const uint8_t *)got + i * size, size);
        fail_msg("%s[%zu]: expected %08x, got %08x", what, i, a, b);
    }
    assay_free(want);
}

typedef struct input {
    float *w;
    int64_t rows, cols;
    assay_dtype dtype;
} input;

static input load_input(const char *name) {
    const json_t *j = json_object_get(json_object_get(golden, "inputs"), name);
    input in = {.rows = json_integer_value(json_object_get(j, "rows")),
                .cols = json_integer_value(json_object_get(j, "cols"))};
    const char *dtype = json_string_value(json_object_get(j, "dtype"));
    assert_true(assay_dtype_parse(&in.dtype, dtype, strlen(dtype)));
    size_t n = (size_t)(in.rows * in.cols);
    in.w = assay_malloc(n * 4);
    const json_t *values = json_object_get(j, "values");
    if (values)
        unhex(in.w, json_string_value(values));
    else
        fill_lcg(in.w, n, (uint32_t)json_integer_value(json_object_get(j, "seed")),
                 (float)json_number_value(json_object_get(j, "amplitude")));
    char *narrow = assay_malloc(n * 4);
    assay_from_f32(narrow, in.dtype, in.w, n);
    assay_to_f32(in.w, narrow, in.dtype, n);
    assay_free(narrow);
    return in;
}

/* Calls fn for every golden case of an encoder; a failed assertion is preceded by the case's name. */
typedef void (*case_fn)(const char *label, const json_t *c, const input *in);

static void each_case(const char *encoder, bool mse, case_fn fn) {
    size_t i, n = 0;
    json_t *c;
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        if (strcmp(json_string_value(json_object_get(c, "encoder")), encoder) != 0) continue;
        if (json_is_true(json_object_get(c, "mse")) != mse) continue;
        input in = load_input(json_string_value(json_object_get(c, "input")));
        assay_str label = {0};
        assay_str_printf(&label, "case %zu on %s", i, json_string_value(json_object_get(c, "input")));
        fn(assay_str_c(&label), c, &in);
        assay_str_free(&label);
        assay_free(in.w);
        n++;
    }
    assert_true(n > 0);
}

static void expect_part(const char *label, const json_t *c, const char *key, const void *got, int64_t n,
                        size_t size) {
    assay_str what = {0};
    assay_str_printf(&what, "%s: %s", label, key);
    expect_bytes(assay_str_c(&what), json_object_get(c, key), got, (size_t)n, size);
    assay_str_free(&what);
}

static void expect_decoded(const char *label, const json_t *c, const assay_matrix *m) {
    float *all = assay_mallocn((size_t)(m->rows * m->cols), 4), *row = assay_mallocn((size_t)m->cols, 4);
    assay_matrix_decode_rows(all, m, 0, m->rows);
    expect_part(label, c, "decoded", all, m->rows * m->cols, 4);
    for (int64_t r = 0; r < m->rows; r++) {
        assay_matrix_decode_rows(row, m, r, 1);
        assert_memory_equal(row, all + r * m->cols, (size_t)m->cols * 4);
    }
    assay_free(all);
    assay_free(row);
}

static void check_codebook(const char *label, const json_t *c, const input *in) {
    assay_matrix m;
    assay_precision p;
    bool nested = json_is_true(json_object_get(c, "nested"));
    assert_true(assay_precision_parse(&p, json_string_value(json_object_get(c, "kind"))));
    assert_int_equal(assay_encode_codebook(&m, in->w, in->rows, in->cols, p,
                                           json_integer_value(json_object_get(c, "block")), nested, NULL),
                     ASSAY_OK);
    assert_int_equal(assay_matrix_check(&m, label, NULL), ASSAY_OK);
    expect_part(label, c, "codes", m.codes, in->rows * in->cols, 1);
    if (nested) {
        expect_part(label, c, "offset", &m.nested->offset, 1, 4);
        expect_part(label, c, "nested_absmax", m.nested->absmax, (m.n_scales + 255) / 256, 4);
        expect_part(label, c, "nested_codes", m.nested->codes, m.n_scales, 1);
    }
    expect_part(label, c, "scales", m.scales, m.n_scales, 4);
    expect_decoded(label, c, &m);
    assay_matrix_deinit(&m);
}

static void codebooks_equal_bitsandbytes(void **state) {
    (void)state;
    each_case("codebook", false, check_codebook);
}

static assay_int_opts opts_of(const json_t *c, const input *in) {
    return (assay_int_opts){.bits = (int)json_integer_value(json_object_get(c, "bits")),
                            .group_size = json_integer_value(json_object_get(c, "group")),
                            .asymmetric = json_is_false(json_object_get(c, "symmetric")),
                            .scale_dtype = in->dtype,
                            .mse = json_is_true(json_object_get(c, "mse"))};
}

static void check_int(const char *label, const json_t *c, const input *in) {
    assay_matrix m;
    assay_int_opts o = opts_of(c, in);
    assert_int_equal(assay_encode_int(&m, in->w, in->rows, in->cols, &o, NULL), ASSAY_OK);
    assert_int_equal(assay_matrix_check(&m, label, NULL), ASSAY_OK);
    expect_part(label, c, "scales", m.scales, m.n_scales, 4);
    if (o.asymmetric)
        expect_part(label, c, "zeros", m.zeros, m.n_scales, 1);
    else
        assert_null(m.zeros);
    expect_part(label, c, "codes", m.codes, in->rows * in->cols, 1);
    assay_matrix_deinit(&m);
}

static void integers_equal_compressed_tensors(void **state) {
    (void)state;
    each_case("int", false, check_int);
}

static void clipped_integers_equal_llm_compressor(void **state) {
    (void)state;
    each_case("int", true, check_int);
}

static void check_absmax(const char *label, const json_t *c, const input *in) {
    assay_matrix m;
    float scb[1024];
    assay_int_opts o = {.bits = 8, .rule = ASSAY_SCALE_ABSMAX};
    assert_int_equal(assay_encode_int(&m, in->w, in->rows, in->cols, &o, NULL), ASSAY_OK);
    assert_int_equal(m.act_bits, 8);
    expect_part(label, c, "codes", m.codes, in->rows * in->cols, 1);
    /* scales hold SCB / 127; as SCB is a float16 it comes back exactly */
    for (int64_t r = 0; r < in->rows; r++) scb[r] = assay_f16_to_f32(assay_f32_to_f16(m.scales[r] * 127.0f));
    expect_part(label, c, "scb", scb, in->rows, 4);
    assay_matrix_deinit(&m);
}

static void int8_rows_equal_bitsandbytes(void **state) {
    (void)state;
    each_case("absmax", false, check_absmax);
}

static assay_grid_spec float_spec(const json_t *c, const input *in) {
    const char *kind = json_string_value(json_object_get(c, "kind"));
    return (assay_grid_spec){.precision = strcmp(kind, "fp8") == 0     ? ASSAY_PRECISION_FP8_E4M3
                                          : strcmp(kind, "e5m2") == 0  ? ASSAY_PRECISION_FP8_E5M2
                                          : strcmp(kind, "mxfp4") == 0 ? ASSAY_PRECISION_MXFP4
                                                                       : ASSAY_PRECISION_NVFP4,
                             .group_size = json_integer_value(json_object_get(c, "group")),
                             .row_block = json_integer_value(json_object_get(c, "row_block")),
                             .scale_dtype = in->dtype};
}

static void check_float(const char *label, const json_t *c, const input *in) {
    assay_matrix m;
    assay_grid_spec s = float_spec(c, in);
    assert_int_equal(assay_encode_float(&m, in->w, in->rows, in->cols, &s, NULL), ASSAY_OK);
    assert_int_equal(assay_matrix_check(&m, label, NULL), ASSAY_OK);
    expect_part(label, c, "scales", m.scales, m.n_scales, 4);
    if (m.precision == ASSAY_PRECISION_NVFP4) expect_part(label, c, "global", &m.global_scale, 1, 4);
    expect_part(label, c, "codes", m.codes, in->rows * in->cols, 1);
    assay_matrix_deinit(&m);
}

static void small_floats_equal_compressed_tensors(void **state) {
    (void)state;
    each_case("float", false, check_float);
}

static void tables_equal_bitsandbytes(void **state) {
    (void)state;
    expect_bytes("dynamic map", json_object_get(golden, "dynamic_map"), assay_dynamic_map, 256, 4);
    const json_t *tables = json_object_get(golden, "tables");
    expect_bytes("nf4", json_object_get(tables, "nf4"), assay_precision_table(ASSAY_PRECISION_NF4), 16, 4);
    expect_bytes("fp4", json_object_get(tables, "fp4"), assay_precision_table(ASSAY_PRECISION_FP4), 16, 4);
    assert_null(assay_precision_table(ASSAY_PRECISION_INT4));
}

/* A last group that is short has its own scale; every code is the nearest step. */
static void short_groups_and_error_bound(void **state) {
    (void)state;
    enum { ROWS = 3, COLS = 70 };
    float w[ROWS * COLS], back[ROWS * COLS];
    fill_lcg(w, ROWS * COLS, 99, 1.0f);
    for (int bits = 2; bits <= 8; bits++) {
        for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
            assay_matrix m;
            assay_int_opts o = {.bits = bits, .group_size = 32, .asymmetric = asymmetric};
            assert_int_equal(assay_encode_int(&m, w, ROWS, COLS, &o, NULL), ASSAY_OK);
            assert_int_equal(m.n_scales, ROWS * 3);
            assay_matrix_decode_rows(back, &m, 0, ROWS);
            for (int i = 0; i < ROWS * COLS; i++) {
                double step = m.scales[i / COLS * 3 + i % COLS / 32];
                assert_true(fabs((double)back[i] - (double)w[i]) <= 0.5001 * step);
            }
            assay_matrix_deinit(&m);
        }
    }
}

static void sizes_are_exact(void **state) {
    (void)state;
    double codes, scales;
    assay_matrix m = {.precision = ASSAY_PRECISION_INT4,
                      .rows = 64,
                      .cols = 256,
                      .group_size = 128,
                      .scale_dtype = ASSAY_DTYPE_BF16};
    assert_int_equal(assay_matrix_alloc(&m, true, NULL), ASSAY_OK);
    assert_true(assay_matrix_bits(&m, &codes, &scales) == 64 * 256 * 4 + 64 * 2 * (16 + 4));
    assert_true(codes == 64 * 256 * 4 && scales == 64 * 2 * 20);
    assay_matrix_deinit(&m);
    float *w = assay_calloc(64 * 512, 4);
    assert_int_equal(assay_encode_codebook(&m, w, 64, 512, ASSAY_PRECISION_NF4, 64, true, NULL), ASSAY_OK);
    assert_true(assay_matrix_bits(&m, NULL, &scales) == 64 * 512 * 4 + scales);
    assert_true(scales == 512 + 512 * 8 + 2 * 32 + 256 * 32 + 32);
    assay_matrix_deinit(&m);
    assay_free(w);
    m = (assay_matrix){.precision = ASSAY_PRECISION_BF16, .rows = 3, .cols = 5};
    assert_true(assay_matrix_bits(&m, NULL, NULL) == 3 * 5 * 16);
}

static void dense_rows_decode(void **state) {
    (void)state;
    const uint16_t bf16[6] = {0x3f80, 0x4000, 0x4040, 0xbf80, 0x0000, 0x7f7f};
    float out[3];
    assay_matrix m = {.precision = ASSAY_PRECISION_BF16, .rows = 2, .cols = 3, .data = bf16};
    assay_matrix_decode_rows(out, &m, 1, 1);
    assert_true(out[0] == -1.0f && out[1] == 0.0f && out[2] > 3e38f);
}

static void expect_error(assay_status s, assay_status want, const assay_err *err, const char *part) {
    assert_int_equal(s, want);
    if (!strstr(err->message, part)) fail_msg("'%s' does not say '%s'", err->message, part);
    assert_null(strchr(err->message, '\n'));
}

static void bad_weights_are_named(void **state) {
    (void)state;
    float w[8 * 100] = {0};
    assay_matrix m;
    assay_int_opts o = {.bits = 4};
    assay_err err = {0};
    w[7 * 100 + 42] = NAN;
    expect_error(assay_encode_int(&m, w, 8, 100, &o, &err), ASSAY_EINPUT, &err, "row 7 column 42 is NaN");
    assay_matrix_deinit(&m);
    err = (assay_err){0};
    w[3] = -INFINITY;
    expect_error(assay_encode_codebook(&m, w, 8, 100, ASSAY_PRECISION_FP4, 64, true, &err), ASSAY_EINPUT,
                 &err, "row 0 column 3 is infinite");
    err = (assay_err){0};
    w[3] = 70000.0f;
    w[742] = 0;
    o = (assay_int_opts){.bits = 8, .rule = ASSAY_SCALE_ABSMAX};
    expect_error(assay_encode_int(&m, w, 8, 100, &o, &err), ASSAY_EINPUT, &err,
                 "row 0 column 3 does not fit float16");
    err = (assay_err){0};
    o = (assay_int_opts){.bits = 2, .scale_dtype = ASSAY_DTYPE_F16};
    w[3] = 3e38f;
    expect_error(assay_encode_int(&m, w, 8, 100, &o, &err), ASSAY_EINPUT, &err, "overflows F16");
}

static void bad_options_are_usage_errors(void **state) {
    (void)state;
    float w[4] = {1, 2, 3, 4};
    static const assay_int_opts bad[] = {
        {.bits = 1},
        {.bits = 9},
        {.bits = 0},
        {.bits = 4, .group_size = -1},
        {.bits = 4, .scale_dtype = ASSAY_DTYPE_I8},
        {.bits = 8, .rule = ASSAY_SCALE_ABSMAX, .asymmetric = true},
        {.bits = 8, .rule = ASSAY_SCALE_ABSMAX, .mse = true},
    };
    assay_matrix m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(assay_encode_int(&m, w, 2, 2, &bad[i], NULL), ASSAY_EUSAGE);
    assert_int_equal(assay_encode_codebook(&m, w, 2, 2, ASSAY_PRECISION_INT4, 64, false, NULL), ASSAY_EUSAGE);
    assert_int_equal(assay_encode_codebook(&m, w, 2, 2, ASSAY_PRECISION_NF4, 0, false, NULL), ASSAY_EUSAGE);
    assert_int_equal(assay_encode_codebook(&m, w, 0, 2, ASSAY_PRECISION_NF4, 64, false, NULL), ASSAY_EINPUT);
    m = (assay_matrix){.precision = ASSAY_PRECISION_INT4, .rows = INT64_MAX / 2, .cols = 8, .group_size = 1};
    assert_int_equal(assay_matrix_alloc(&m, false, NULL), ASSAY_EINPUT);
}

static void check_finds_what_is_wrong(void **state) {
    (void)state;
    float w[2 * 128] = {1, 2, 3};
    assay_matrix m;
    assay_int_opts o = {.bits = 4, .group_size = 64, .asymmetric = true};
    assert_int_equal(assay_encode_int(&m, w, 2, 128, &o, NULL), ASSAY_OK);
    assay_err err = {0};
    m.codes[200] = 16;
    expect_error(assay_matrix_check(&m, "q_proj", &err), ASSAY_EINPUT, &err,
                 "q_proj: code 16 at row 1 column 72");
    m.codes[200] = 0;
    m.zeros[3] = 99;
    err = (assay_err){0};
    expect_error(assay_matrix_check(&m, "q_proj", &err), ASSAY_EINPUT, &err, "zero point 99 of group 3");
    m.zeros[3] = 0;
    m.scales[1] = NAN;
    err = (assay_err){0};
    expect_error(assay_matrix_check(&m, "q_proj", &err), ASSAY_EINPUT, &err, "scale 1 of 4");
    m.scales[1] = 1;
    m.group_size = 32;
    err = (assay_err){0};
    expect_error(assay_matrix_check(&m, "q_proj", &err), ASSAY_EINPUT, &err, "do not fit");
    assay_matrix_deinit(&m);
    assay_matrix_deinit(&m);
}

static void running_out_of_memory_is_reported(void **state) {
    (void)state;
    float w[256] = {0};
    assay_matrix m;
    assay_int_opts o = {.bits = 4, .group_size = 64, .asymmetric = true, .mse = true},
                   absmax = {.bits = 8, .rule = ASSAY_SCALE_ABSMAX};
    for (int n = 0, failed = 1; failed; n++) {
        failed = 0;
        assay_mem_fail_after(n);
        failed |= assay_encode_int(&m, w, 2, 128, &o, NULL) == ASSAY_ENOMEM;
        assay_matrix_deinit(&m);
        assay_mem_fail_after(n);
        failed |= assay_encode_int(&m, w, 2, 128, &absmax, NULL) == ASSAY_ENOMEM;
        assay_matrix_deinit(&m);
        assay_mem_fail_after(n);
        failed |= assay_encode_codebook(&m, w, 2, 128, ASSAY_PRECISION_NF4, 64, true, NULL) == ASSAY_ENOMEM;
        assay_matrix_deinit(&m);
        assert_true(n < 50);
    }
    assay_mem_fail_after(-1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_equal_bitsandbytes),
        cmocka_unit_test(codebooks_equal_bitsandbytes),
        cmocka_unit_test(integers_equal_compressed_tensors),
        cmocka_unit_test(clipped_integers_equal_llm_compressor),
        cmocka_unit_test(int8_rows_equal_bitsandbytes),
        cmocka_unit_test(small_floats_equal_compressed_tensors),
        cmocka_unit_test(short_groups_and_error_bound),
        cmocka_unit_test(sizes_are_exact),
        cmocka_unit_test(dense_rows_decode),
        cmocka_unit_test(bad_weights_are_named),
        cmocka_unit_test(bad_options_are_usage_errors),
        cmocka_unit_test(check_finds_what_is_wrong),
        cmocka_unit_test(running_out_of_memory_is_reported),
    };
    return cmocka_run_group_tests_name("precision", tests, load_golden, free_golden);
}
