/* test_round_trips.c: every kind of matrix in every convention that can hold it: written, its configuration
 * built, read back through both, equal in all fields. What a convention cannot hold or say is refused by
 * name, in the tensors as in the configuration. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "format/format.h"
#include "format/quant_config.h"
#include "num/convert.h"
#include "precision/grid.h"
#include "format/support.h"

enum { ROWS = 40, COLS = 96 };
static float weights[ROWS * COLS];

static void fill(void) {
    uint32_t x = 11;
    for (size_t i = 0; i < ASSAY_LEN(weights); i++) {
        x = x * 1664525u + 1013904223u;
        weights[i] = (float)((int32_t)x >> 8) * 0x1p-23f * 0.1f;
    }
}

/* A matrix and the entry that tells of it. */
typedef struct sample {
    assay_matrix m;
    assay_quant_entry e;
} sample;

static sample make_float(assay_precision p, int64_t rows, int64_t cols, int64_t row_block, int64_t group,
                         assay_dtype scale_dtype) {
    sample s = {.e = {.weight_name = "x.weight", .precision = p, .group_size = group, .act_bits = 16}};
    assay_grid_spec spec = {
        .precision = p, .group_size = group, .row_block = row_block, .scale_dtype = scale_dtype};
    assay_err err = {0};
    fill();
    spec.global_scale = assay_grid_spec_global(&spec, 0.1f);
    if (assay_encode_float(&s.m, weights, rows, cols, &spec, &err) != ASSAY_OK) fail_msg("%s", err.message);
    s.e.row_block = s.m.row_block;
    s.m.act_bits = 16;
    s.m.act_dtype = ASSAY_DTYPE_BF16;
    return s;
}

static sample make_int(int bits, int64_t rows, int64_t cols, int64_t group, bool asymmetric) {
    sample s = {.e = {.weight_name = "x.weight",
                      .precision = (assay_precision)(ASSAY_PRECISION_INT2 + bits - 2),
                      .group_size = group,
                      .asymmetric = asymmetric,
                      .act_bits = 16}};
    assay_int_opts o = {
        .bits = bits, .group_size = group, .asymmetric = asymmetric, .scale_dtype = ASSAY_DTYPE_BF16};
    fill();
    assert_int_equal(assay_encode_int(&s.m, weights, rows, cols, &o, NULL), ASSAY_OK);
    s.m.act_bits = 16;
    s.m.act_dtype = ASSAY_DTYPE_BF16;
    return s;
}

static void dynamic_activations(sample *s, int64_t group) {
    s->m.act_bits = s->e.act_bits = 8;
    s->m.act_group = s->e.act_group = group;
}

static void static_activations(sample *s, float scale) {
    s->m.act_bits = s->e.act_bits = 8;
    s->m.input_scale = scale;
    s->e.static_input = true;
}

/* Zero points in quarters, which the scales' type holds. */
static void real_zeros(sample *s) {
    assay_matrix *m = &s->m;
    m->real_zeros = assay_mallocn((size_t)m->n_scales, sizeof *m->real_zeros);
    for (int64_t i = 0; i < m->n_scales; i++)
        m->real_zeros[i] = (float)(i % 13) * 0.25f;
    assay_free(m->zeros);
    m->zeros = NULL;
    s->e.real_zeros = true;
    s->e.asymmetric = false;
}

/* Columns dealt to the groups in turn. */
static void order_columns(sample *s) {
    assay_matrix *m = &s->m;
    int64_t groups = assay_matrix_n_groups(m);
    m->g_idx = assay_mallocn((size_t)m->cols, sizeof *m->g_idx);
    for (int64_t c = 0; c < m->cols; c++)
        m->g_idx[c] = (int32_t)((c + 1) % groups);
    s->e.ordered = true;
}

static void expect_same_array(const void *a, const void *b, size_t n) {
    assert_int_equal(a != NULL, b != NULL);
    if (a) assert_memory_equal(a, b, n);
}

static void expect_same(const assay_matrix *a, const assay_matrix *b) {
    assert_int_equal(a->precision, b->precision);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, b->cols);
    assert_int_equal(a->n_scales, b->n_scales);
    assert_int_equal(a->act_bits, b->act_bits);
    assert_int_equal(a->act_group, b->act_group);
    assert_true(a->input_scale == b->input_scale && a->global_scale == b->global_scale);
    assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols));
    assert_memory_equal(a->scales, b->scales, (size_t)a->n_scales * 4);
    expect_same_array(a->zeros, b->zeros, (size_t)a->n_scales);
    expect_same_array(a->real_zeros, b->real_zeros, (size_t)a->n_scales * 4);
    expect_same_array(a->g_idx, b->g_idx, (size_t)a->cols * 4);
    float *x = assay_mallocn((size_t)(a->rows * a->cols), 4),
          *y = assay_mallocn((size_t)(a->rows * a->cols), 4);
    assay_matrix_decode_rows(x, a, 0, a->rows);
    assay_matrix_decode_rows(y, b, 0, b->rows);
    assert_memory_equal(x, y, (size_t)(a->rows * a->cols) * 4);
    assay_free(x);
    assay_free(y);
}

static void round_trip(assay_convention c, sample s) {
    char *dir = scratch_make();
    assay_ckpt_writer *w;
    assay_checkpoint *again;
    assay_matrix back;
    assay_err err = {0};
    json_t *config = NULL;
    assay_convention detected;
    if (assay_quant_config_build(&config, c, &s.e, 1, ASSAY_DTYPE_BF16, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_int_equal(assay_convention_detect(&detected, config, NULL), ASSAY_OK);
    assert_int_equal(detected, c);
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    if (assay_ckpt_writer_put_matrix(w, c, "x.weight", &s.m, ASSAY_DTYPE_BF16, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&again, dir, NULL), ASSAY_OK);
    if (assay_checkpoint_matrix(&back, again, config, "x.weight", s.m.rows, s.m.cols, ASSAY_DTYPE_BF16,
                                &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    expect_same(&s.m, &back);
    assay_matrix_deinit(&back);
    assay_matrix_deinit(&s.m);
    assay_checkpoint_close(again);
    json_decref(config);
    scratch_remove(dir);
}

static const assay_dtype BF16 = ASSAY_DTYPE_BF16, F32 = ASSAY_DTYPE_F32;

static void fp8_in_compressed_tensors(void **state) {
    (void)state;
    static const int64_t sharing[][4] = {/* rows, columns, rows and columns of a block */
                                         {40, 33, 40, 0},  {1, 1, 0, 0},      {40, 33, 0, 0},
                                         {40, 96, 16, 32}, {7, 90, 128, 128}, {33, 95, 8, 24}};
    for (size_t i = 0; i < ASSAY_LEN(sharing); i++) {
        const int64_t *k = sharing[i];
        sample weight_only = make_float(ASSAY_PRECISION_FP8_E4M3, k[0], k[1], k[2], k[3], i % 2 ? BF16 : F32);
        round_trip(ASSAY_CONVENTION_CT, weight_only);
        sample dynamic = make_float(ASSAY_PRECISION_FP8_E4M3, k[0], k[1], k[2], k[3], BF16);
        dynamic_activations(&dynamic, k[3]);
        round_trip(ASSAY_CONVENTION_CT, dynamic);
    }
    sample fixed = make_float(ASSAY_PRECISION_FP8_E4M3, 40, 33, 40, 0, BF16);
    static_activations(&fixed, 0.0157f); /* no bfloat16: kept in float32 */
    round_trip(ASSAY_CONVENTION_CT, fixed);
}

static void fp8_in_its_own_convention(void **state) {
    (void)state;
    sample s = make_float(ASSAY_PRECISION_FP8_E4M3, 40, 96, 16, 32, F32);
    dynamic_activations(&s, 32);
    round_trip(ASSAY_CONVENTION_FP8, s);
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 40, 33, 40, 0, F32);
    static_activations(&s, 0.0157f);
    round_trip(ASSAY_CONVENTION_FP8, s);
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 40, 33, 40, 0, F32);
    round_trip(ASSAY_CONVENTION_FP8, s); /* 16-bit activations */
    for (int i = 0; i < 3; i++) {
        s = make_float(ASSAY_PRECISION_FP8_E5M2, 40, 96, i == 0 ? 40 : i == 1 ? 0 : 16, i == 2 ? 32 : 0, F32);
        round_trip(ASSAY_CONVENTION_FP8, s);
        s = make_float(ASSAY_PRECISION_FP8_E5M2, 40, 96, i == 0 ? 40 : i == 1 ? 0 : 16, i == 2 ? 32 : 0, F32);
        dynamic_activations(&s, i == 2 ? 32 : 0);
        round_trip(ASSAY_CONVENTION_FP8, s);
    }
}

static void four_bit_floats(void **state) {
    (void)state;
    for (int64_t rows = 1; rows <= 3; rows++) {
        round_trip(ASSAY_CONVENTION_CT, make_float(ASSAY_PRECISION_MXFP4, rows, 32 * rows, 0, 32, BF16));
        round_trip(ASSAY_CONVENTION_CT, make_float(ASSAY_PRECISION_NVFP4, rows, 16 * rows, 0, 16, BF16));
    }
}

static void integers_with_activations_and_order(void **state) {
    (void)state;
    for (int bits = 2; bits <= 8; bits++) {
        sample s = make_int(bits, 7, 32, 8, bits % 2);
        dynamic_activations(&s, 0);
        round_trip(ASSAY_CONVENTION_CT, s);
        s = make_int(bits, 5, 33, 0, false);
        static_activations(&s, 0.25f);
        round_trip(ASSAY_CONVENTION_CT, s);
        s = make_int(bits, 5, 32, 8, bits % 2);
        order_columns(&s);
        round_trip(ASSAY_CONVENTION_CT, s);
    }
}

static void real_zero_points_in_hqq(void **state) {
    (void)state;
    static const int bits[] = {2, 3, 4, 5, 6, 8};
    for (size_t i = 0; i < ASSAY_LEN(bits); i++) {
        static const int64_t shapes[][3] = {{4, 1, 0}, {8, 33, 0}, {12, 96, 8}, {4, 91, 13}, {36, 40, 40}};
        for (size_t k = 0; k < ASSAY_LEN(shapes); k++) {
            sample s = make_int(bits[i], shapes[k][0], shapes[k][1], shapes[k][2], true);
            real_zeros(&s);
            round_trip(ASSAY_CONVENTION_HQQ, s);
        }
    }
}

static void whole_zero_points_become_real_ones_in_hqq(void **state) {
    (void)state;
    for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
        sample s = make_int(4, 8, 32, 8, asymmetric);
        char *dir = scratch_make();
        assay_ckpt_writer *w;
        assay_checkpoint *again;
        assay_matrix back;
        json_t *config;
        assert_int_equal(assay_quant_config_build(&config, ASSAY_CONVENTION_HQQ, &s.e, 1, BF16, NULL),
                         ASSAY_OK);
        assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
        assert_int_equal(assay_ckpt_writer_put_matrix(w, ASSAY_CONVENTION_HQQ, "x.weight", &s.m, BF16, NULL),
                         ASSAY_OK);
        assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
        assert_int_equal(assay_checkpoint_open(&again, dir, NULL), ASSAY_OK);
        assert_int_equal(assay_checkpoint_matrix(&back, again, config, "x.weight", 8, 32, BF16, NULL),
                         ASSAY_OK);
        for (int64_t i = 0; i < back.n_scales; i++)
            assert_true(back.real_zeros[i] == (asymmetric ? (float)s.m.zeros[i] : 8.0f));
        assay_matrix_deinit(&back);
        assay_matrix_deinit(&s.m);
        assay_checkpoint_close(again);
        json_decref(config);
        scratch_remove(dir);
    }
}

/* --- refusals --- */

static void expect_refusal(assay_convention c, sample s, const char *says) {
    char *dir = scratch_make();
    assay_ckpt_writer *w;
    assay_err err = {0};
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    expect_error(assay_ckpt_writer_put_matrix(w, c, "x.weight", &s.m, BF16, &err), ASSAY_EUNSUPPORTED, &err,
                 says);
    assert_false(assay_ckpt_writer_has(w, "x.weight"));
    assay_ckpt_writer_close(w);
    assay_matrix_deinit(&s.m);
    scratch_remove(dir);
}

static void what_cannot_be_held_is_refused(void **state) {
    (void)state;
    sample s = make_float(ASSAY_PRECISION_FP8_E5M2, 4, 32, 0, 0, F32);
    expect_refusal(ASSAY_CONVENTION_CT, s, "8-bit float is e4m3: use the convention fp8");
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 4, 32, 0, 8, F32);
    expect_refusal(ASSAY_CONVENTION_CT, s, "for a tensor, a row or a block, not for groups of a row");
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 4, 32, 2, 0, F32);
    expect_refusal(ASSAY_CONVENTION_CT, s, "not for several rows");
    s = make_float(ASSAY_PRECISION_NVFP4, 2, 40, 0, 16, BF16);
    expect_refusal(ASSAY_CONVENTION_CT, s,
                   "nvfp4 has groups of 16 in each row of a multiple of as many columns");
    s = make_float(ASSAY_PRECISION_MXFP4, 2, 32, 0, 32, BF16);
    s.m.scales[1] = 0.75f;
    expect_refusal(ASSAY_CONVENTION_CT, s, "x: the scale 0.75 (number 1) is not a power of two");
    s = make_float(ASSAY_PRECISION_MXFP4, 2, 32, 0, 32, BF16);
    s.m.act_bits = 8;
    expect_refusal(ASSAY_CONVENTION_CT, s, "mxfp4 with 8-bit activations is not written");
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 4, 32, 0, 0, F32);
    expect_refusal(ASSAY_CONVENTION_FP8, s,
                   "one scale for a tensor or a block; use compressed-tensors for rows");
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 4, 32, 4, 0, F32);
    dynamic_activations(&s, 16);
    expect_refusal(ASSAY_CONVENTION_FP8, s, "activations as wide as weight blocks, not per 16 columns");
    s = make_float(ASSAY_PRECISION_FP8_E4M3, 4, 32, 2, 16, F32);
    static_activations(&s, 1);
    expect_refusal(ASSAY_CONVENTION_FP8, s, "static activations only with one scale");
    expect_refusal(ASSAY_CONVENTION_FP8, make_int(4, 4, 32, 8, false),
                   "holds fp8_e4m3 and fp8_e5m2, not int4");
    expect_refusal(ASSAY_CONVENTION_HF, make_int(4, 4, 32, 8, false), "a plain checkpoint cannot hold");
    expect_refusal(ASSAY_CONVENTION_HQQ, make_float(ASSAY_PRECISION_MXFP4, 2, 32, 0, 32, BF16), "not mxfp4");
    expect_refusal(ASSAY_CONVENTION_HQQ, make_int(7, 4, 32, 8, false), "not int7");
    expect_refusal(ASSAY_CONVENTION_HQQ, make_int(4, 3, 32, 0, false),
                   "hqq packs 2 of its 3 groups together");
    s = make_int(4, 4, 32, 8, true);
    real_zeros(&s);
    expect_refusal(ASSAY_CONVENTION_CT, s, "no real zero points");
    s = make_int(4, 4, 32, 8, true);
    real_zeros(&s);
    s.m.real_zeros[3] = 1.0f / 3;
    expect_refusal(ASSAY_CONVENTION_HQQ, s,
                   "x: the zero point 0.333333343 (number 3) is not a value of BF16");
    s = make_int(4, 4, 32, 8, false);
    order_columns(&s);
    s.m.act_bits = 8;
    expect_refusal(ASSAY_CONVENTION_CT, s, "activation order together with 8-bit activations");
    s = make_int(4, 4, 32, 8, false);
    order_columns(&s);
    s.m.g_idx[0] = 0;
    s.m.g_idx[1] = 0;
    expect_refusal(ASSAY_CONVENTION_CT, s, "gives group 0 more than its 8 columns");
    s = make_int(8, 4, 32, 0, false);
    dynamic_activations(&s, 16);
    expect_refusal(ASSAY_CONVENTION_CT, s, "integer activations in groups");
}

/* --- configurations --- */

static void expect_config(assay_convention c, const assay_quant_entry *e, size_t n, const char *part) {
    json_t *j = NULL;
    assay_err err = {0};
    assay_str b = {0};
    if (assay_quant_config_build(&j, c, e, n, BF16, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_json_dump(&b, j, 0, false, NULL), ASSAY_OK);
    if (!strstr(b.s, part)) fail_msg("'%s' is not in %s", part, b.s);
    assay_str_free(&b);
    json_decref(j);
}

static void configurations_say_what_the_originals_say(void **state) {
    (void)state;
    assay_quant_entry fp8 = {.weight_name = "model.layers.0.a.weight",
                             .precision = ASSAY_PRECISION_FP8_E4M3,
                             .act_bits = 8,
                             .row_block = 64};
    expect_config(ASSAY_CONVENTION_CT, &fp8, 1, "\"strategy\":\"tensor\"");
    expect_config(ASSAY_CONVENTION_CT, &fp8, 1, "\"format\":\"float-quantized\"");
    expect_config(
        ASSAY_CONVENTION_FP8, &fp8, 1,
        "{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"weight_block_size\":null,\"modules_to_not_convert\":"
        "[\"lm_head\"],\"activation_scheme\":\"dynamic\"}");
    fp8.act_bits = 16;
    expect_config(ASSAY_CONVENTION_CT, &fp8, 1, "\"format\":\"naive-quantized\"");
    expect_config(ASSAY_CONVENTION_FP8, &fp8, 1, "\"dequantize\":true");
    fp8 = (assay_quant_entry){.weight_name = "model.layers.0.a.weight",
                              .precision = ASSAY_PRECISION_FP8_E4M3,
                              .act_bits = 8,
                              .row_block = 128,
                              .group_size = 128,
                              .act_group = 128};
    expect_config(ASSAY_CONVENTION_CT, &fp8, 1,
                  "\"group_size\":null,\"strategy\":\"block\",\"block_structure\":[128,128]");
    expect_config(
        ASSAY_CONVENTION_CT, &fp8, 1,
        "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"symmetric\":true,\"group_size\":128,"
        "\"strategy\":\"group\"");
    expect_config(ASSAY_CONVENTION_FP8, &fp8, 1, "\"weight_block_size\":[128,128]");
    const assay_quant_entry mixed[] = {{.weight_name = "model.layers.0.q.weight",
                                        .precision = ASSAY_PRECISION_NVFP4,
                                        .group_size = 16,
                                        .act_bits = 16},
                                       {.weight_name = "model.layers.0.k.weight",
                                        .precision = ASSAY_PRECISION_MXFP4,
                                        .group_size = 32,
                                        .act_bits = 16},
                                       {.weight_name = "model.layers.0.v.weight",
                                        .precision = ASSAY_PRECISION_INT8,
                                        .act_bits = 8,
                                        .static_input = true},
                                       {.weight_name = "model.layers.0.o.weight",
                                        .precision = ASSAY_PRECISION_INT4,
                                        .group_size = 32,
                                        .act_bits = 16,
                                        .ordered = true},
                                       {.weight_name = "lm_head.weight", .precision = ASSAY_PRECISION_BF16}};
    static const char *const parts[] = {"\"format\":\"mixed-precision\"",
                                        "\"strategy\":\"tensor_group\"",
                                        "\"scale_dtype\":\"torch.float8_e4m3fn\"",
                                        "\"format\":\"nvfp4-pack-quantized\"",
                                        "\"scale_dtype\":\"torch.uint8\"",
                                        "\"format\":\"mxfp4-pack-quantized\"",
                                        "\"strategy\":\"tensor\",\"block_structure\":null,\"dynamic\":false",
                                        "\"actorder\":\"group\"",
                                        "\"ignore\":[\"lm_head\"]"};
    for (size_t i = 0; i < ASSAY_LEN(parts); i++)
        expect_config(ASSAY_CONVENTION_CT, mixed, ASSAY_LEN(mixed), parts[i]);
    const assay_quant_entry hqq[] = {
        {.weight_name = "model.layers.0.mlp.up_proj.weight",
         .precision = ASSAY_PRECISION_INT4,
         .group_size = 64,
         .real_zeros = true},
        {.weight_name = "model.layers.0.mlp.down_proj.weight", .precision = ASSAY_PRECISION_BF16}};
    expect_config(
        ASSAY_CONVENTION_HQQ, hqq, 2,
        "{\"quant_method\":\"hqq\",\"quant_config\":{\"weight_quant_params\":{\"nbits\":4,\"channel_wise\":"
        "true,"
        "\"group_size\":64,\"optimize\":true,\"round_zero\":true,\"axis\":1,\"view_as_float\":false},"
        "\"scale_quant_params\":null,\"zero_quant_params\":null,\"offload_meta\":false},"
        "\"skip_modules\":[\"mlp.down_proj\",\"lm_head\"]}");
}

static void what_cannot_be_said_is_refused(void **state) {
    (void)state;
    static const struct {
        assay_convention c;
        assay_quant_entry e;
        const char *says;
    } cases[] = {
        {ASSAY_CONVENTION_CT, {.precision = ASSAY_PRECISION_FP8_E5M2}, "the convention fp8 holds e5m2"},
        {ASSAY_CONVENTION_CT, {.precision = ASSAY_PRECISION_INT4, .real_zeros = true}, "no real zero points"},
        {ASSAY_CONVENTION_CT,
         {.precision = ASSAY_PRECISION_FP8_E4M3, .group_size = 8},
         "a tensor, a row or a block"},
        {ASSAY_CONVENTION_CT,
         {.precision = ASSAY_PRECISION_INT8, .act_bits = 8, .act_group = 8},
         "activations in groups"},
        {ASSAY_CONVENTION_CT,
         {.precision = ASSAY_PRECISION_NVFP4, .group_size = 16, .act_bits = 8},
         "16-bit activations"},
        {ASSAY_CONVENTION_FP8, {.precision = ASSAY_PRECISION_INT8}, "holds fp8_e4m3 and fp8_e5m2, not int8"},
        {ASSAY_CONVENTION_HQQ, {.precision = ASSAY_PRECISION_NF4}, "hqq holds integers"},
        {ASSAY_CONVENTION_HQQ,
         {.precision = ASSAY_PRECISION_INT4, .act_bits = 8},
         "hqq holds integers with 16-bit"},
        {ASSAY_CONVENTION_BNB,
         {.precision = ASSAY_PRECISION_FP8_E4M3},
         "bitsandbytes holds nf4, fp4 and int8"},
    };
    json_t *j;
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_quant_entry e = cases[i].e;
        assay_err err = {0};
        e.weight_name = "m.weight";
        expect_error(assay_quant_config_build(&j, cases[i].c, &e, 1, BF16, &err), ASSAY_EUNSUPPORTED, &err,
                     cases[i].says);
        assert_null(j);
    }
    const assay_quant_entry apart[] = {
        {.weight_name = "model.layers.0.mlp.up_proj.weight", .precision = ASSAY_PRECISION_INT4},
        {.weight_name = "model.layers.1.mlp.up_proj.weight", .precision = ASSAY_PRECISION_BF16}};
    assay_err err = {0};
    expect_error(assay_quant_config_build(&j, ASSAY_CONVENTION_HQQ, apart, 2, BF16, &err), ASSAY_EUNSUPPORTED,
                 &err,
                 "hqq treats mlp.up_proj of all layers alike, but model.layers.1.mlp.up_proj.weight differs");
}

static void cache_and_rotations_are_carried(void **state) {
    (void)state;
    assay_quant_entry e = {
        .weight_name = "m.weight", .precision = ASSAY_PRECISION_INT4, .group_size = 32, .act_bits = 16};
    json_t *kv = assay_quant_kv_scheme(8, true, false), *j;
    json_t *rotate = json_loads("{\"config_groups\":{\"R4\":{\"type\":\"hadamard\",\"apply\":[{\"targets\":"
                                "[\"re:.*down_proj$\"],\"location\":\"input\"}]}}}",
                                0, NULL);
    assay_quant_extras x = {.kv_cache_scheme = kv, .transform_config = rotate};
    assert_int_equal(assay_quant_config_build_with(&j, ASSAY_CONVENTION_CT, &e, 1, BF16, &x, NULL), ASSAY_OK);
    assert_true(json_equal(json_object_get(j, "kv_cache_scheme"), kv));
    assert_string_equal(json_string_value(json_object_get(kv, "type")), "float");
    assert_true(json_equal(json_object_get(j, "transform_config"), rotate));
    json_decref(j);
    assay_err err = {0};
    expect_error(assay_quant_config_build_with(&j, ASSAY_CONVENTION_HQQ, &e, 1, BF16, &x, &err),
                 ASSAY_EUNSUPPORTED, &err, "the convention hqq cannot say how activations are rotated");
    err = (assay_err){0};
    x.transform_config = NULL;
    expect_error(assay_quant_config_build_with(&j, ASSAY_CONVENTION_FP8, &e, 1, BF16, &x, &err),
                 ASSAY_EUNSUPPORTED, &err, "cannot say how the key and value cache is quantized");
    /* the cache alone */
    e.precision = ASSAY_PRECISION_BF16;
    assert_int_equal(assay_quant_config_build_with(&j, ASSAY_CONVENTION_CT, &e, 1, BF16, &x, NULL), ASSAY_OK);
    assert_string_equal(json_string_value(json_object_get(j, "format")), "dense");
    json_decref(j);
    json_decref(kv);
    json_decref(rotate);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp8_in_compressed_tensors),
        cmocka_unit_test(fp8_in_its_own_convention),
        cmocka_unit_test(four_bit_floats),
        cmocka_unit_test(integers_with_activations_and_order),
        cmocka_unit_test(real_zero_points_in_hqq),
        cmocka_unit_test(whole_zero_points_become_real_ones_in_hqq),
        cmocka_unit_test(what_cannot_be_held_is_refused),
        cmocka_unit_test(configurations_say_what_the_originals_say),
        cmocka_unit_test(what_cannot_be_said_is_refused),
        cmocka_unit_test(cache_and_rotations_are_carried),
    };
    return cmocka_run_group_tests_name("round trips", tests, NULL, NULL);
}
