/* test_convert.c: from one convention to the next and back: codes, scales and zero points are bit for bit what they were, whatever the way;
 * what a target cannot hold is refused with the matrix's name and the reason. No file of another program is needed: those are read and
 * written bit for bit in test_conventions.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/rng.h"
#include "format/convert.h"
#include "format/convention.h"
#include "format/support.h"
#include "num/convert.h"

typedef enum zeros { MIDDLE, ANY, EVEN } zeros; /* zero points: none, 1 to the top, multiples of 4 (so that Q4_1 has their minima) */

/* Random codes, scales of few bits, as float16 and bfloat16 both have them. */
static void make(assay_matrix *m, int bits, int64_t rows, int64_t cols, int64_t group, zeros z) {
    assay_rng rng;
    *m = (assay_matrix){.precision = (assay_precision)(ASSAY_PRECISION_INT2 + bits - 2),
                        .rows = rows,
                        .cols = cols,
                        .group_size = group,
                        .scale_dtype = ASSAY_DTYPE_F16,
                        .act_bits = 16,
                        .act_dtype = ASSAY_DTYPE_BF16};
    assay_rng_init(&rng, (uint64_t)(bits * 1000 + group));
    assert_int_equal(assay_matrix_alloc(m, z != MIDDLE, NULL), ASSAY_OK);
    for (int64_t i = 0; i < rows * cols; i++) m->codes[i] = (uint8_t)(assay_rng_next(&rng) >> 40 & ((1u << bits) - 1));
    for (int64_t i = 0; i < m->n_scales; i++) {
        m->scales[i] = (float)(64 + assay_rng_next(&rng) % 64) / 16384;
        if (z != MIDDLE) m->zeros[i] = (uint8_t)(z == EVEN ? 4 * (1 + i % 3) : 1 + (unsigned)i % ((1u << bits) - 1));
    }
}

static void copy(assay_matrix *out, const assay_matrix *m) {
    *out = *m;
    assert_int_equal(assay_matrix_alloc(out, m->zeros != NULL, NULL), ASSAY_OK);
    memcpy(out->codes, m->codes, (size_t)(m->rows * m->cols));
    memcpy(out->scales, m->scales, (size_t)m->n_scales * 4);
    if (m->zeros) memcpy(out->zeros, m->zeros, (size_t)m->n_scales);
    if (m->g_idx) {
        out->g_idx = assay_mallocn((size_t)m->cols, sizeof *out->g_idx);
        memcpy(out->g_idx, m->g_idx, (size_t)m->cols * sizeof *out->g_idx);
    }
}

/* Writes m as the target has it and reads it back, by the configuration that goes with it. */
static void through_file(assay_matrix *m, const assay_convert_target *t) {
    char *dir = scratch_make();
    assay_ckpt_writer *w;
    assay_checkpoint *c;
    json_t *quant = NULL;
    assay_err err = {0};
    assay_quant_entry e = assay_convert_entry("model.layers.0.x.weight", m, t);
    if (assay_quant_config_build(&quant, t->convention, &e, 1, t->model_dtype, &err) != ASSAY_OK) fail_msg("%s", err.message);
    if (assay_convert_apply("model.layers.0.x.weight", m, t, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    if (assay_ckpt_writer_put_matrix(w, t->convention, "model.layers.0.x.weight", m, t->model_dtype, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    assay_matrix_deinit(m);
    assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
    if (assay_checkpoint_matrix(m, c, quant, "model.layers.0.x.weight", 0, 0, ASSAY_DTYPE_BF16, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assay_checkpoint_close(c);
    json_decref(quant);
    scratch_remove(dir);
}

/* Blocks need no file here: what GGUF does with them is in its own tests. */
static void through_blocks(assay_matrix *m, assay_precision block) {
    assay_convert_target to = {.convention = ASSAY_CONVENTION_GGUF, .block = block}, back = {.convention = ASSAY_CONVENTION_CT, .model_dtype = ASSAY_DTYPE_F16};
    assay_err err = {0};
    if (assay_convert_apply("x.weight", m, &to, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(m->precision, block);
    assert_null(m->codes);
    if (assay_convert_apply("x.weight", m, &back, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

static void loops_end_where_they_began(void **state) {
    (void)state;
    enum { GPTQ = ASSAY_CONVENTION_GPTQ, V2 = ASSAY_CONVENTION_GPTQ_V2, CT = ASSAY_CONVENTION_CT, AWQ = ASSAY_CONVENTION_AWQ, HQQ = ASSAY_CONVENTION_HQQ,
           BNB = ASSAY_CONVENTION_BNB, BLOCKS = -1, END = -2 };
    static const struct {
        int bits;
        int64_t group;
        zeros z;
        assay_precision block;
        int way[8];
    } cases[] = {
        {4, 32, MIDDLE, ASSAY_PRECISION_Q4_0, {GPTQ, CT, AWQ, BLOCKS, V2, HQQ, END}},
        {4, 32, EVEN, ASSAY_PRECISION_Q4_1, {AWQ, GPTQ, BLOCKS, CT, V2, AWQ, END}},
        {8, 32, MIDDLE, ASSAY_PRECISION_Q8_0, {GPTQ, BLOCKS, CT, V2, END}},
        {5, 32, MIDDLE, ASSAY_PRECISION_Q5_0, {CT, BLOCKS, HQQ, END}},
        {4, 64, ANY, 0, {CT, AWQ, GPTQ, V2, CT, END}},
        {4, 0, MIDDLE, 0, {GPTQ, AWQ, CT, END}},
        {3, 32, ANY, 0, {V2, CT, GPTQ, END}},
        {2, 64, ANY, 0, {GPTQ, CT, V2, END}},
        {8, 0, MIDDLE, 0, {GPTQ, CT, BNB, V2, END}},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_matrix first, m;
        make(&first, cases[i].bits, 64, 128, cases[i].group, cases[i].z);
        if (cases[i].bits == 8) /* bitsandbytes stores 127 times as much */
            for (int64_t k = 0; k < first.n_scales; k++) first.scales[k] = (float)(1 << k % 5) / 64;
        copy(&m, &first);
        for (const int *step = cases[i].way; *step != END; step++) {
            assay_convert_target t = {.convention = (assay_convention)*step, .model_dtype = ASSAY_DTYPE_BF16};
            if (*step == BLOCKS)
                through_blocks(&m, cases[i].block);
            else if (*step == HQQ) { /* writes all zero points as real numbers: a way in, none out */
                assert_int_equal(assay_convert_check("x.weight", &m, &t, NULL), ASSAY_OK);
            } else {
                through_file(&m, &t);
            }
        }
        expect_equal(&m, &first);
        assay_matrix_deinit(&m);
        assay_matrix_deinit(&first);
    }
}

/* Four bits with any zero points: q - zero is between -15 and 15. */
static void zero_points_that_q4_1_lacks_go_into_q5_0(void **state) {
    (void)state;
    assay_matrix m, blocks;
    float a[128], b[128];
    make(&m, 4, 8, 128, 64, ANY);
    for (int64_t i = 0; i < m.n_scales; i++) m.scales[i] = 1.0009765625f / (float)(64 << i % 4); /* 11 bits: times 3 is no float16 */
    copy(&blocks, &m);
    assay_convert_target t = {.convention = ASSAY_CONVENTION_GGUF};
    assert_int_equal(assay_convert_apply("x.weight", &blocks, &t, NULL), ASSAY_OK);
    assert_int_equal(blocks.precision, ASSAY_PRECISION_Q5_0);
    for (int64_t r = 0; r < m.rows; r++) {
        assay_matrix_decode_rows(a, &m, r, 1);
        assay_matrix_decode_rows(b, &blocks, r, 1);
        assert_memory_equal(a, b, sizeof a);
    }
    assay_matrix_deinit(&blocks);
    assay_matrix_deinit(&m);
}

static void groups_are_cut_and_joined_where_that_is_exact(void **state) {
    (void)state;
    assay_matrix m, first;
    assay_err err = {0};
    make(&first, 4, 32, 256, 128, ANY);
    copy(&m, &first);
    assay_convert_target cut = {.convention = ASSAY_CONVENTION_GPTQ_V2, .group_size = 32, .model_dtype = ASSAY_DTYPE_F16}, join = cut;
    join.group_size = 128;
    through_file(&m, &cut);
    assert_int_equal(m.group_size, 32);
    assert_int_equal(m.n_scales, 4 * first.n_scales);
    through_file(&m, &join);
    expect_equal(&m, &first);
    join.group_size = 256;
    expect_error(assay_convert_check("x.weight", &m, &join, &err), ASSAY_EUNSUPPORTED, &err,
                 "x.weight has groups of 128 with different scales: they cannot be joined to groups of 256");
    err = (assay_err){0};
    cut.group_size = 48;
    expect_error(assay_convert_check("x.weight", &m, &cut, &err), ASSAY_EUNSUPPORTED, &err, "groups of 48 are neither parts nor wholes");
    assay_matrix_deinit(&m);
    assay_matrix_deinit(&first);
}

static void scales_change_their_type_where_every_one_survives(void **state) {
    (void)state;
    assay_matrix m;
    make(&m, 4, 32, 64, 32, MIDDLE);
    assay_convert_target t = {.convention = ASSAY_CONVENTION_CT, .model_dtype = ASSAY_DTYPE_BF16};
    assert_int_equal(assay_convert_apply("x.weight", &m, &t, NULL), ASSAY_OK);
    assert_int_equal(m.scale_dtype, ASSAY_DTYPE_BF16);
    m.scales[1] = 1.0009765625f; /* float16 has it, bfloat16 has not */
    m.scale_dtype = ASSAY_DTYPE_F16;
    assert_int_equal(assay_convert_apply("x.weight", &m, &t, NULL), ASSAY_OK);
    assert_int_equal(m.scale_dtype, ASSAY_DTYPE_F16);
    assay_matrix_deinit(&m);
}

static void what_does_not_fit_is_refused_with_name_and_reason(void **state) {
    (void)state;
    static const struct {
        assay_convention c;
        assay_precision block;
        int bits;
        int64_t group;
        const char *change, *says;
    } cases[] = {
        {ASSAY_CONVENTION_AWQ, 0, 8, 32, "", "x has codes of 8 bits: awq has 4"},
        {ASSAY_CONVENTION_AWQ, 0, 4, 32, "order", "x has an activation order (g_idx): awq has none"},
        {ASSAY_CONVENTION_GPTQ, 0, 6, 32, "", "x has codes of 6 bits"},
        {ASSAY_CONVENTION_GPTQ, 0, 4, 32, "scale", "x has the scale 0.100000001, which is no float16"},
        {ASSAY_CONVENTION_BNB, 0, 4, 32, "", "x: bitsandbytes holds nf4, fp4 and row-wise symmetric int8, not int4"},
        {ASSAY_CONVENTION_FP8, 0, 4, 32, "", "the convention fp8 holds fp8_e4m3 and fp8_e5m2, not int4"},
        {ASSAY_CONVENTION_HQQ, 0, 4, 32, "order", "not int4 in activation order"},
        {ASSAY_CONVENTION_GGUF, 0, 4, 32, "order", "x.weight is int4, and it has an activation order (g_idx): gguf does not hold it"},
        {ASSAY_CONVENTION_GGUF, 0, 4, 32, "scale", "its scales are no float16 values: q4_0 does not hold it"},
        {ASSAY_CONVENTION_GGUF, 0, 4, 16, "", "x.weight has groups of 16 with different scales: they cannot be joined to groups of 32"},
        {ASSAY_CONVENTION_GGUF, 0, 4, 32, "real", "its zero points are real numbers"},
        {ASSAY_CONVENTION_GGUF, ASSAY_PRECISION_Q4_0, 8, 32, "", "has no room for: q4_0 does not hold it"},
        {ASSAY_CONVENTION_GGUF, ASSAY_PRECISION_Q4_K, 4, 32, "", "has no room for: q4_k does not hold it"},
        {ASSAY_CONVENTION_HF, 0, 4, 32, "", "a plain checkpoint cannot hold a matrix in int4"},
        {ASSAY_CONVENTION_CT, 0, 4, 32, "real", "compressed-tensors has no real zero points"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_matrix m;
        assay_err err = {0};
        assay_convert_target t = {.convention = cases[i].c, .block = cases[i].block, .model_dtype = ASSAY_DTYPE_BF16};
        make(&m, cases[i].bits, 32, 128, cases[i].group, MIDDLE);
        if (strcmp(cases[i].change, "scale") == 0) m.scales[5] = 0.1f;
        if (strcmp(cases[i].change, "real") == 0) m.real_zeros = assay_calloc((size_t)m.n_scales, sizeof *m.real_zeros);
        if (strcmp(cases[i].change, "order") == 0) {
            m.g_idx = assay_mallocn(128, sizeof *m.g_idx);
            for (int k = 0; k < 128; k++) m.g_idx[k] = k % 4;
        }
        expect_error(assay_convert_check("x.weight", &m, &t, &err), ASSAY_EUNSUPPORTED, &err, cases[i].says);
        assay_matrix_deinit(&m);
    }
}

static void modes_are_those_of_the_new_home_and_said(void **state) {
    (void)state;
    assay_matrix m;
    assay_convert_target gptq = {.convention = ASSAY_CONVENTION_GPTQ}, ct = {.convention = ASSAY_CONVENTION_CT}, bnb = {.convention = ASSAY_CONVENTION_BNB};
    make(&m, 8, 32, 64, 0, MIDDLE);
    assert_null(assay_convert_note(&m, &gptq));
    assert_string_equal(assay_convert_note(&m, &bnb), "16-bit activations become 8-bit ones");
    m.act_bits = 8;
    assert_null(assay_convert_note(&m, &ct));
    assert_string_equal(assay_convert_note(&m, &gptq), "8-bit activations become 16-bit ones");
    m.outlier_threshold = 6;
    assert_non_null(assay_convert_note(&m, &ct));
    assay_quant_entry e = assay_convert_entry("x.weight", &m, &ct);
    assert_int_equal(e.act_bits, 16);
    assay_matrix_deinit(&m);
}

/* What is found out without reading a code is what reading them all finds. */
static void outlines_are_matrices_without_codes(void **state) {
    (void)state;
    static const char *const models[] = {"gptq-int4-asym", "gptq-order", "awq-gemm", "ct-int3-asym", "ct-w8a8-static", "bnb-nf4-nested", "bnb-int8",
                                         "fp8-block", "hqq-int4", "ct-nvfp4"};
    for (size_t i = 0; i < ASSAY_LEN(models); i++) {
        char path[100];
        json_t *config;
        assay_checkpoint *c;
        assay_matrix a, b;
        size_t n_parts = 0;
        snprintf(path, sizeof path, "tests/format/golden/%s", models[i]);
        assert_int_equal(assay_checkpoint_open(&c, path, NULL), ASSAY_OK);
        snprintf(path, sizeof path, "tests/format/golden/%s/config.json", models[i]);
        assert_int_equal(assay_json_load(&config, path, NULL), ASSAY_OK);
        const json_t *quant = json_object_get(config, "quantization_config");
        const char *name = "model.layers.0.mlp.up_proj.weight";
        assert_int_equal(assay_checkpoint_matrix(&a, c, quant, name, 0, 0, ASSAY_DTYPE_BF16, NULL), ASSAY_OK);
        assert_int_equal(assay_checkpoint_outline(&b, c, quant, name, ASSAY_DTYPE_BF16, NULL), ASSAY_OK);
        assert_int_equal(a.precision, b.precision);
        assert_int_equal(a.n_scales, b.n_scales);
        assert_memory_equal(a.scales, b.scales, (size_t)a.n_scales * 4);
        assert_int_equal(a.zeros != NULL, b.zeros != NULL);
        assert_int_equal(a.act_bits, b.act_bits);
        assert_true(a.input_scale == b.input_scale);
        for (size_t k = 0; k < assay_checkpoint_n_tensors(c); k++) {
            char module[200];
            const char *t = assay_checkpoint_get(c, k)->name;
            if (strncmp(t, "model.layers.0.mlp.up_proj.", 27) != 0) continue;
            if (!assay_checkpoint_part_of(module, sizeof module, c, quant, t)) fail_msg("%s: %s is a part of nothing", models[i], t);
            assert_string_equal(module, "model.layers.0.mlp.up_proj");
            n_parts++;
        }
        assert_true(n_parts >= 2);
        assay_matrix_deinit(&a);
        assay_matrix_deinit(&b);
        json_decref(config);
        assay_checkpoint_close(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_end_where_they_began),
        cmocka_unit_test(zero_points_that_q4_1_lacks_go_into_q5_0),
        cmocka_unit_test(groups_are_cut_and_joined_where_that_is_exact),
        cmocka_unit_test(scales_change_their_type_where_every_one_survives),
        cmocka_unit_test(what_does_not_fit_is_refused_with_name_and_reason),
        cmocka_unit_test(modes_are_those_of_the_new_home_and_said),
        cmocka_unit_test(outlines_are_matrices_without_codes),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
