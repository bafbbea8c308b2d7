/* test_grid.c: the grid of a group, as methods see it, is the encoder's own: fitting and rounding by hand
 * gives the encoder's codes for every precision; what a grid says a value becomes is what the matrix decodes
 * to; the search finds the least error. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "num/convert.h"
#include "num/narrow.h"
#include "precision/grid.h"

enum { ROWS = 37, COLS = 192 };

/* Normal weights with a heavy tail, in the model's type. */
static void fill(float *w, size_t n, uint32_t seed, assay_dtype t) {
    uint32_t x = seed;
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            x = x * 1664525u + 1013904223u;
            sum += (float)((int32_t)(x >> 8) - 8388608) * 0x1p-23f;
        }
        w[i] = sum * 0.03f * (x % 97 == 0 ? 8.0f : 1.0f);
        if (t == ASSAY_DTYPE_BF16) w[i] = assay_bf16_to_f32(assay_f32_to_bf16(w[i]));
        if (t == ASSAY_DTYPE_F16) w[i] = assay_f16_to_f32(assay_f32_to_f16(w[i]));
    }
}

static const assay_grid_spec SPECS[] = {
    {.precision = ASSAY_PRECISION_INT2, .group_size = 32, .scale_dtype = ASSAY_DTYPE_BF16},
    {.precision = ASSAY_PRECISION_INT3, .group_size = 64, .asymmetric = true, .scale_dtype = ASSAY_DTYPE_F16},
    {.precision = ASSAY_PRECISION_INT4, .group_size = 64, .scale_dtype = ASSAY_DTYPE_BF16},
    {.precision = ASSAY_PRECISION_INT4, .group_size = 20, .asymmetric = true, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_INT8, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_INT8, .asymmetric = true, .scale_dtype = ASSAY_DTYPE_BF16},
    {.precision = ASSAY_PRECISION_INT8, .rule = ASSAY_SCALE_ABSMAX, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_NF4, .group_size = 64, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_FP4, .group_size = 64, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_NF4, .group_size = 4096, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_FP8_E4M3, .scale_dtype = ASSAY_DTYPE_BF16},
    {.precision = ASSAY_PRECISION_FP8_E4M3,
     .group_size = 50,
     .row_block = 16,
     .scale_dtype = ASSAY_DTYPE_F16},
    {.precision = ASSAY_PRECISION_FP8_E5M2, .row_block = ROWS, .scale_dtype = ASSAY_DTYPE_F32},
    {.precision = ASSAY_PRECISION_MXFP4, .group_size = 32, .scale_dtype = ASSAY_DTYPE_BF16},
    {.precision = ASSAY_PRECISION_NVFP4, .group_size = 16, .scale_dtype = ASSAY_DTYPE_BF16},
};
#define EACH_SPEC(s) for (const assay_grid_spec *s = SPECS; s < SPECS + sizeof SPECS / sizeof *SPECS; s++)

static void encode(assay_matrix *m, const float *w, const assay_grid_spec *s) {
    assay_status status = ASSAY_OK;
    assay_int_opts o = {.bits = assay_precision_bits(s->precision),
                        .group_size = s->group_size,
                        .asymmetric = s->asymmetric,
                        .rule = s->rule,
                        .scale_dtype = s->scale_dtype};
    switch (assay_precision_get_kind(s->precision)) {
    case ASSAY_KIND_INT: status = assay_encode_int(m, w, ROWS, COLS, &o, NULL); break;
    case ASSAY_KIND_CODEBOOK:
        status = assay_encode_codebook(m, w, ROWS, COLS, s->precision, s->group_size, false, NULL);
        break;
    default: status = assay_encode_float(m, w, ROWS, COLS, s, NULL); break;
    }
    assert_int_equal(status, ASSAY_OK);
}

/* Every value on its own, by the index of its scale: the slowest way there is. */
static void rounding_by_hand_gives_the_encoders_codes(void **state) {
    (void)state;
    float *w = assay_mallocn(ROWS * COLS, 4), *back = assay_mallocn(ROWS * COLS, 4);
    EACH_SPEC(s) {
        assay_matrix m, mine;
        fill(w, ROWS * COLS, 5, s->scale_dtype);
        encode(&m, w, s);
        assay_grid_spec spec = *s;
        spec.global_scale = m.global_scale;
        spec.quotient = s->scale_dtype; /* as the encoders divide */
        assert_int_equal(assay_grid_matrix_new(&mine, &spec, ROWS, COLS, NULL), ASSAY_OK);
        assert_int_equal(mine.n_scales, m.n_scales);
        assert_int_equal(mine.scale_dtype, m.scale_dtype);
        assay_matrix_decode_rows(back, &m, 0, ROWS);
        bool table = assay_precision_get_kind(s->precision) == ASSAY_KIND_CODEBOOK;
        for (int64_t i = 0; i < ROWS * COLS; i++) {
            int64_t at = assay_matrix_scale_index(&m, i / COLS, i % COLS);
            /* a codebook's short last block divides: rounding one value is rounding a short block, so it can
             * differ at ties only */
            assay_grid g = {.stored = m.scales[at],
                            .zero = m.zeros ? m.zeros[at] : 1 << (assay_precision_bits(s->precision) - 1)};
            g.scale = m.global_scale != 0 ? g.stored / m.global_scale : g.stored;
            if (assay_precision_get_kind(s->precision) != ASSAY_KIND_INT) g.zero = 0;
            float value, each;
            uint8_t code, code_each;
            spec.group_size = table ? 1 : s->group_size;
            assay_grid_round(&code, &value, &spec, &g, w + i, 1);
            assay_grid_round_each(&code_each, &each, &spec, &g.scale, m.zeros ? &g.zero : NULL, w + i, 1);
            assert_int_equal(code, m.codes[i]);
            assert_int_equal(code_each, code);
            assert_true(value == back[i] && each == value);
            assay_matrix_set_grid(&mine, at, &g);
            mine.codes[i] = code;
        }
        assert_memory_equal(mine.codes, m.codes, ROWS * COLS);
        assert_memory_equal(mine.scales, m.scales, (size_t)m.n_scales * 4);
        if (m.zeros) assert_memory_equal(mine.zeros, m.zeros, (size_t)m.n_scales);
        assay_matrix_deinit(&m);
        assay_matrix_deinit(&mine);
    }
    assay_free(w);
    assay_free(back);
}

/* Fit and round of a first group equal the encoder's, at every length that pieces of sixteen make special. */
static void fit_and_round_work_at_any_length(void **state) {
    (void)state;
    float w[80], values[80], each[80], scale[80], zero[80];
    uint8_t codes[80], codes_each[80];
    EACH_SPEC(s) {
        assay_grid_spec spec = *s;
        for (size_t n = 1; n <= 80; n++) {
            assay_grid g;
            spec.group_size = (int64_t)n;
            fill(w, n, (uint32_t)n, s->scale_dtype);
            spec.global_scale = assay_grid_spec_global(&spec, 0.25f);
            assay_grid_fit(&g, &spec, w, n, NULL);
            for (size_t i = 0; i < n; i++) {
                scale[i] = g.scale;
                zero[i] = g.zero;
            }
            memset(codes, 0xee, sizeof codes);
            assay_grid_round(codes, values, &spec, &g, w, n);
            assay_grid_round_each(codes_each, each, &spec, scale, zero, w, n);
            assert_memory_equal(codes, codes_each, n);
            assert_memory_equal(values, each, n * 4);
            if (n < 80) assert_int_equal(codes[n], 0xee);
            assay_grid_round(codes_each, NULL, &spec, &g, w, n);
            assert_memory_equal(codes, codes_each, n);
            assay_grid_round(NULL, each, &spec, &g, w, n);
            assert_memory_equal(values, each, n * 4);
        }
    }
}

/* What is decoded is itself on the grid. */
static void rounding_twice_changes_nothing(void **state) {
    (void)state;
    float w[64], once[64], twice[64];
    EACH_SPEC(s) {
        assay_grid g;
        assay_grid_spec spec = *s;
        spec.global_scale = assay_grid_spec_global(&spec, 0.5f);
        fill(w, 64, 77, s->scale_dtype);
        assay_grid_fit(&g, &spec, w, 64, NULL);
        assay_grid_round(NULL, once, &spec, &g, w, 64);
        if (s->rule == ASSAY_SCALE_ABSMAX) continue; /* casts its input to float16, where the grid is not */
        assay_grid_round(NULL, twice, &spec, &g, once, 64);
        for (int i = 0; i < 64; i++) assert_true(once[i] == twice[i]);
    }
}

static double error_of(const assay_grid_spec *s, const assay_grid *g, const float *w, const float *weight) {
    float v[64];
    double e = 0;
    assay_grid_round(NULL, v, s, g, w, 64);
    for (int i = 0; i < 64; i++)
        e += (weight ? (double)weight[i] : 1) * pow(fabs((double)v[i] - (double)w[i]), 2.4);
    return e;
}

/* The search's choice is the best of the twenty ranges, and weights count. */
static void search_finds_the_least_error(void **state) {
    (void)state;
    float w[64], weight[64];
    for (int i = 0; i < 64; i++) weight[i] = i < 8 ? 100.0f : 0.01f;
    EACH_SPEC(s) {
        if (s->rule == ASSAY_SCALE_ABSMAX) continue;
        for (uint32_t seed = 1; seed < 20; seed++) {
            assay_grid_spec spec = *s;
            assay_grid g, other;
            fill(w, 64, seed * 1000, s->scale_dtype);
            spec.mse = true;
            spec.group_size = 64;
            spec.global_scale = assay_grid_spec_global(&spec, 1.0f);
            for (int weighted = 0; weighted < 2; weighted++) {
                const float *k = weighted ? weight : NULL;
                assay_grid_fit(&g, &spec, w, 64, k);
                double mine = error_of(&spec, &g, w, k);
                float lo = 0, hi = 0;
                for (int i = 0; i < 64; i++) {
                    lo = fminf(lo, w[i]);
                    hi = fmaxf(hi, w[i]);
                }
                for (int step = 0; step < ASSAY_CLIP_STEPS; step++) {
                    float p = (float)(1.0 - step / 100.0);
                    assay_grid_from_range(&other, &spec, lo * p, hi * p);
                    assert_true(mine <= error_of(&spec, &other, w, k) * 1.0001);
                }
            }
        }
    }
}

static void nvfp4_global_scale_fills_the_range(void **state) {
    (void)state;
    assay_grid_spec mx = {.precision = ASSAY_PRECISION_MXFP4,
                          .group_size = 32,
                          .scale_dtype = ASSAY_DTYPE_F32},
                    s = {
                        .precision = ASSAY_PRECISION_NVFP4, .group_size = 16, .scale_dtype = ASSAY_DTYPE_F32};
    assert_true(assay_grid_spec_global(&s, 2688.0f) == 1.0f);
    assert_true(assay_grid_spec_global(&s, 0) == 1.0f);
    assert_true(assay_grid_spec_global(&mx, 3) == 0);
    s.global_scale = assay_grid_spec_global(&s, 0.7f);
    assay_grid g;
    assay_grid_from_range(&g, &s, -0.7f, 0.1f);
    assert_true(g.stored == 448.0f && fabsf(g.scale * 6 - 0.7f) < 1e-6f);
}

/* Values beyond the grid saturate, however far. */
static void far_values_saturate(void **state) {
    (void)state;
    const float far[4] = {3e38f, -3e38f, 70000.0f, -70000.0f};
    float v[4];
    EACH_SPEC(s) {
        assay_grid_spec spec = *s;
        assay_grid g;
        spec.global_scale = assay_grid_spec_global(&spec, 1.0f);
        assay_grid_from_range(&g, &spec, -1.0f, 1.0f);
        assay_grid_round(NULL, v, &spec, &g, far, 4);
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(v[i]) > 0.2f && fabsf(v[i]) < 1.6f && (v[i] > 0) == (far[i] > 0));
    }
}

static void impossible_specs_are_usage_errors(void **state) {
    (void)state;
    float w[64] = {1};
    static const assay_grid_spec bad[] = {
        {.precision = ASSAY_PRECISION_BF16},
        {.precision = ASSAY_PRECISION_NF4},
        {.precision = ASSAY_PRECISION_MXFP4, .group_size = 16},
        {.precision = ASSAY_PRECISION_NVFP4, .group_size = 32},
        {.precision = ASSAY_PRECISION_MXFP4, .group_size = 32, .row_block = 2},
        {.precision = ASSAY_PRECISION_FP8_E4M3, .asymmetric = true},
        {.precision = ASSAY_PRECISION_FP8_E4M3, .row_block = -1},
        {.precision = ASSAY_PRECISION_INT4, .group_size = -5},
    };
    assay_matrix m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assay_err err = {0};
        assert_int_equal(assay_grid_matrix_new(&m, &bad[i], 4, 16, &err), ASSAY_EUSAGE);
        assert_true(strlen(err.message) > 0);
    }
    assert_int_equal(
        assay_encode_float(&m, w, 4, 16, &(assay_grid_spec){.precision = ASSAY_PRECISION_INT4}, NULL),
        ASSAY_EUSAGE);
    w[5] = NAN;
    assay_err err = {0};
    assert_int_equal(
        assay_encode_float(&m, w, 4, 16, &(assay_grid_spec){.precision = ASSAY_PRECISION_FP8_E4M3}, &err),
        ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "row 0 column 5 is NaN"));
    for (int i = 0; i < 64; i++) w[i] = 3.4e38f;
    err = (assay_err){0};
    assert_int_equal(
        assay_encode_float(&m, w, 2, 32,
                           &(assay_grid_spec){.precision = ASSAY_PRECISION_MXFP4, .group_size = 32}, &err),
        ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "overflows F8_E8M0"));
}

/* Real zero points and the order of columns: what they mean, what they cost, what is refused. */
static void real_zeros_and_column_groups(void **state) {
    (void)state;
    float out[8], zeros[4] = {1.5f, -0.25f, 3, 0}, scales[4] = {2, 4, 8, 16};
    uint8_t codes[16] = {0, 1, 2, 3, 0, 1, 2, 3, 3, 2, 1, 0, 3, 2, 1, 0};
    int32_t g_idx[8] = {1, 0, 0, 1, 1, 1, 0, 0};
    assay_matrix m = {.precision = ASSAY_PRECISION_INT2,
                      .rows = 2,
                      .cols = 8,
                      .group_size = 4,
                      .codes = codes,
                      .scales = scales,
                      .n_scales = 4,
                      .scale_dtype = ASSAY_DTYPE_F16};
    assert_true(assay_matrix_bits(&m, NULL, NULL) == 16 * 2 + 4 * 16);
    m.real_zeros = zeros;
    assay_matrix_decode_rows(out, &m, 0, 1);
    assert_true(out[0] == -3 && out[3] == 3 && out[4] == 1 && out[7] == 13);
    assert_true(assay_matrix_bits(&m, NULL, NULL) == 16 * 2 + 4 * 32);
    m.g_idx = g_idx;
    assert_int_equal(assay_matrix_check(&m, "k_proj", NULL), ASSAY_OK);
    assay_matrix_decode_rows(out, &m, 1, 1);
    assert_true(out[0] == (3 - 0) * 16 && out[1] == (2 - 3) * 8 && out[7] == (0 - 3) * 8);
    assert_int_equal(assay_matrix_scale_index(&m, 1, 0), 3);
    assert_true(assay_matrix_bits(&m, NULL, NULL) == 16 * 2 + 4 * 32 + 8 * 32);
    assay_err err = {0};
    g_idx[6] = 2;
    assert_int_equal(assay_matrix_check(&m, "k_proj", &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "k_proj: column 6 is in group 2 of 2"));
    g_idx[6] = 0;
    zeros[2] = INFINITY;
    err = (assay_err){0};
    assert_int_equal(assay_matrix_check(&m, "k_proj", &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "zero point of group 2"));
}

static void small_floats_are_sized_and_checked(void **state) {
    (void)state;
    double scales;
    float w[64 * 96];
    assay_matrix m;
    fill(w, 64 * 96, 3, ASSAY_DTYPE_BF16);
    assay_grid_spec s = {
        .precision = ASSAY_PRECISION_NVFP4, .group_size = 16, .scale_dtype = ASSAY_DTYPE_BF16};
    assert_int_equal(assay_encode_float(&m, w, 64, 96, &s, NULL), ASSAY_OK);
    assert_true(assay_matrix_bits(&m, NULL, &scales) == 64 * 96 * 4 + scales && scales == 64 * 6 * 8 + 32);
    m.global_scale = NAN;
    assert_int_equal(assay_matrix_check(&m, "x", NULL), ASSAY_EINPUT);
    assay_matrix_deinit(&m);
    s = (assay_grid_spec){.precision = ASSAY_PRECISION_FP8_E4M3,
                          .group_size = 64,
                          .row_block = 40,
                          .scale_dtype = ASSAY_DTYPE_BF16};
    assert_int_equal(assay_encode_float(&m, w, 64, 96, &s, NULL), ASSAY_OK);
    assert_int_equal(m.n_scales, 2 * 2);
    assert_true(assay_matrix_bits(&m, NULL, NULL) == 64 * 96 * 8 + 4 * 16);
    assay_err err = {0};
    m.codes[97] = 0xff;
    assert_int_equal(assay_matrix_check(&m, "up_proj", &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "up_proj: code 255 at row 1 column 1 is NaN"));
    assay_matrix_deinit(&m);
}

static void tables_hold_every_pattern(void **state) {
    (void)state;
    const float *e4m3 = assay_precision_table(ASSAY_PRECISION_FP8_E4M3),
                *e5m2 = assay_precision_table(ASSAY_PRECISION_FP8_E5M2),
                *e2m1 = assay_precision_table(ASSAY_PRECISION_NVFP4);
    for (int v = 0; v < 256; v++) {
        float a = assay_e4m3_to_f32((uint8_t)v), b = assay_e5m2_to_f32((uint8_t)v),
              c = assay_widen_e2m1((uint8_t)(v & 15));
        assert_true(isnan(a) ? isnan(e4m3[v]) : memcmp(&a, e4m3 + v, 4) == 0);
        assert_true(isnan(b) ? isnan(e5m2[v]) : memcmp(&b, e5m2 + v, 4) == 0);
        assert_memory_equal(&c, e2m1 + (v & 15), 4);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_hold_every_pattern),
        cmocka_unit_test(rounding_by_hand_gives_the_encoders_codes),
        cmocka_unit_test(fit_and_round_work_at_any_length),
        cmocka_unit_test(rounding_twice_changes_nothing),
        cmocka_unit_test(search_finds_the_least_error),
        cmocka_unit_test(nvfp4_global_scale_fills_the_range),
        cmocka_unit_test(far_values_saturate),
        cmocka_unit_test(impossible_specs_are_usage_errors),
        cmocka_unit_test(real_zeros_and_column_groups),
        cmocka_unit_test(small_floats_are_sized_and_checked),
    };
    return cmocka_run_group_tests_name("grid", tests, NULL, NULL);
}
