/* test_gptq.c: the GPTQ and AWQ conventions beyond the golden files (which test_conventions.c reads and writes back): packing against its
 * definition bit by bit, the two versions' zero points, what cannot be held, the configurations. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/rng.h"
#include "format/convention.h"
#include "format/format.h"
#include "format/pack.h"
#include "format/quant_config.h"
#include "format/support.h"

/* A matrix with random codes, scales of a few float16 values, and zero points. */
static void make(assay_matrix *m, int bits, int64_t rows, int64_t cols, int64_t group, bool asymmetric) {
    *m = (assay_matrix){.precision = (assay_precision)(ASSAY_PRECISION_INT2 + bits - 2),
                        .rows = rows,
                        .cols = cols,
                        .group_size = group,
                        .scale_dtype = ASSAY_DTYPE_F16,
                        .act_bits = 16};
    assay_rng rng;
    assay_rng_init(&rng, (uint64_t)(bits + rows + cols));
    assert_int_equal(assay_matrix_alloc(m, asymmetric, NULL), ASSAY_OK);
    for (int64_t i = 0; i < rows * cols; i++) m->codes[i] = (uint8_t)(assay_rng_next(&rng) >> 40 & ((1u << bits) - 1));
    for (int64_t i = 0; i < m->n_scales; i++) {
        m->scales[i] = (float)(1 + i % 50) / 1024;
        if (asymmetric) m->zeros[i] = (uint8_t)(1 + (unsigned)i % ((1u << bits) - 1));
    }
}

static uint32_t word_at(const assay_tensor *t, int64_t i) {
    uint32_t w;
    memcpy(&w, (const char *)t->data + 4 * i, 4);
    return w;
}

/* Bit `at` of the stream whose words are `stride` apart from word `first`. */
static int stream_bit(const assay_tensor *t, int64_t first, int64_t stride, int64_t at) {
    return (int)(word_at(t, first + at / 32 * stride) >> at % 32 & 1);
}

typedef struct written {
    char *dir;
    assay_checkpoint *c;
} written;

static written write_one(assay_convention c, const assay_matrix *m) {
    written w = {.dir = scratch_make()};
    assay_ckpt_writer *out;
    assay_err err = {0};
    assert_int_equal(assay_ckpt_writer_open(&out, w.dir, 0, NULL), ASSAY_OK);
    if (assay_ckpt_writer_put_matrix(out, c, "x.weight", m, ASSAY_DTYPE_BF16, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_ckpt_writer_commit(out, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&w.c, w.dir, NULL), ASSAY_OK);
    return w;
}

static void written_free(written *w) {
    assay_checkpoint_close(w->c);
    scratch_remove(w->dir);
}

static void read_back(const assay_matrix *m, const written *w, const char *quant) {
    assay_matrix back;
    assay_err err = {0};
    json_t *j = json_loads(quant, 0, NULL);
    if (assay_checkpoint_matrix(&back, w->c, j, "x.weight", m->rows, m->cols, ASSAY_DTYPE_F16, &err) != ASSAY_OK) fail_msg("%s", err.message);
    expect_equal(&back, m);
    assay_matrix_deinit(&back);
    json_decref(j);
}

static void every_bit_is_where_gptq_has_it(void **state) {
    (void)state;
    static const int widths[] = {2, 3, 4, 8};
    for (size_t k = 0; k < ASSAY_LEN(widths); k++) {
        int b = widths[k];
        for (int v2 = 0; v2 < 2; v2++) {
            assay_matrix m;
            char quant[200];
            make(&m, b, 96, 160, 32, true);
            written w = write_one(v2 ? ASSAY_CONVENTION_GPTQ_V2 : ASSAY_CONVENTION_GPTQ, &m);
            const assay_tensor *q = assay_checkpoint_find(w.c, "x.qweight"), *z = assay_checkpoint_find(w.c, "x.qzeros");
            for (int64_t r = 0; r < m.rows; r++)
                for (int64_t c = 0; c < m.cols; c++)
                    for (int i = 0; i < b; i++)
                        assert_int_equal(stream_bit(q, r, m.rows, c * b + i), m.codes[r * m.cols + c] >> i & 1);
            for (int64_t g = 0; g < 5; g++)
                for (int64_t r = 0; r < m.rows; r++)
                    for (int i = 0; i < b; i++)
                        assert_int_equal(stream_bit(z, g * m.rows * b / 32, 1, r * b + i), (m.zeros[r * 5 + g] - !v2) >> i & 1);
            snprintf(quant, sizeof quant, "{\"quant_method\":\"gptq\",\"bits\":%d,\"group_size\":32,\"checkpoint_format\":\"%s\"}", b,
                     v2 ? "gptq_v2" : "gptq");
            read_back(&m, &w, quant);
            written_free(&w);
            assay_matrix_deinit(&m);
        }
    }
}

static void every_nibble_is_where_awq_has_it(void **state) {
    (void)state;
    static const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    static const int64_t shapes[][3] = {{8, 24, 8}, {136, 72, 24}, {264, 200, 40}, {16, 11, 0}};
    for (size_t k = 0; k < ASSAY_LEN(shapes); k++) {
        assay_matrix m;
        char quant[100];
        make(&m, 4, shapes[k][0], shapes[k][1], shapes[k][2], true);
        written w = write_one(ASSAY_CONVENTION_AWQ, &m);
        const assay_tensor *q = assay_checkpoint_find(w.c, "x.qweight"), *z = assay_checkpoint_find(w.c, "x.qzeros");
        int64_t groups = assay_matrix_n_groups(&m);
        for (int64_t r = 0; r < m.rows; r++) {
            for (int64_t c = 0; c < m.cols; c++)
                for (int i = 0; i < 8; i++)
                    if (order[i] == r % 8) assert_int_equal(word_at(q, c * (m.rows / 8) + r / 8) >> (4 * i) & 15, m.codes[r * m.cols + c]);
            for (int64_t g = 0; g < groups; g++)
                for (int i = 0; i < 8; i++)
                    if (order[i] == r % 8) assert_int_equal(word_at(z, g * (m.rows / 8) + r / 8) >> (4 * i) & 15, m.zeros[r * groups + g]);
        }
        snprintf(quant, sizeof quant, "{\"quant_method\":\"awq\",\"group_size\":%d}", shapes[k][2] ? (int)shapes[k][2] : -1);
        read_back(&m, &w, quant);
        written_free(&w);
        assay_matrix_deinit(&m);
    }
}

static void count_call(void *ctx) {
    ++*(int *)ctx;
}

/* All lines by pieces, and back at once; whatever is done meanwhile is done once a piece. */
static void pack_all(uint32_t *words, const assay_packing *p, const uint8_t *codes) {
    int64_t shape[2], piece = assay_packing_piece(p, 1 << 16);
    size_t n = (size_t)(p->rows * p->cols);
    uint8_t *back = assay_malloc(n);
    int called = 0, pieces = 0;
    assay_packing_shape(shape, p);
    for (int64_t at = 0; at < shape[0]; at += piece, pieces++)
        assay_pack_lines(words + at * shape[1], p, codes, at, ASSAY_MIN(piece, shape[0] - at), count_call, &called);
    assert_true(pieces > 1);
    assert_int_equal(called, pieces);
    memset(back, 0xee, n);
    assay_unpack_lines(back, p, words);
    assert_memory_equal(back, codes, n);
    assay_free(back);
}

static uint8_t *some_codes(size_t n, int bits) {
    uint8_t *codes = assay_malloc(n);
    for (size_t i = 0; i < n; i++) codes[i] = (uint8_t)((i * 2654435761u >> 13) & ((1u << bits) - 1));
    return codes;
}

/* Large enough for all threads and several tiles, and odd ones; the definition is that of one stream per row. */
static void packing_across_is_packing_of_rows_turned(void **state) {
    (void)state;
    enum { ROWS = 544, COLS = 1056 };
    for (int b = 2; b <= 8; b++) {
        size_t words = COLS / 32 * (size_t)b;
        uint8_t *codes = some_codes(ROWS * COLS, b);
        uint32_t *rows = assay_malloc(ROWS * words * 4), *across = assay_malloc(ROWS * words * 4), *one = assay_malloc(words * 4);
        pack_all(rows, &(assay_packing){ASSAY_PACKING_ROWS, b, ROWS, COLS}, codes);
        pack_all(across, &(assay_packing){ASSAY_PACKING_ACROSS, b, ROWS, COLS}, codes);
        for (size_t r = 0; r < ROWS; r++) {
            assay_pack(one, 1, codes + r * COLS, 1, COLS, b);
            assert_memory_equal(rows + r * words, one, words * 4);
            for (size_t k = 0; k < words; k++) assert_int_equal(across[k * ROWS + r], one[k]);
        }
        assay_free(codes);
        assay_free(rows);
        assay_free(across);
        assay_free(one);
    }
}

static void turned_words_hold_eight_rows(void **state) {
    (void)state;
    static const int row_of[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    static const struct {
        int64_t rows, cols;
    } shapes[] = {{552, 1056}, {128, 2051}, {8, 70000}};
    for (size_t k = 0; k < ASSAY_LEN(shapes); k++) {
        int64_t rows = shapes[k].rows, cols = shapes[k].cols;
        uint8_t *codes = some_codes((size_t)(rows * cols), 4);
        uint32_t *words = assay_malloc((size_t)(rows * cols / 2));
        pack_all(words, &(assay_packing){ASSAY_PACKING_TURNED, 4, rows, cols}, codes);
        for (int64_t c = 0; c < cols; c++)
            for (int64_t r = 0; r < rows / 8; r++)
                for (int i = 0; i < 8; i++)
                    if ((words[c * (rows / 8) + r] >> (4 * i) & 15) != codes[(8 * r + row_of[i]) * cols + c])
                        fail_msg("row %d, column %d", (int)(8 * r + row_of[i]), (int)c);
        assay_free(codes);
        assay_free(words);
    }
}

static void symmetric_matrices_have_the_middle_as_zero_point(void **state) {
    (void)state;
    assay_matrix m;
    make(&m, 4, 32, 64, 32, false);
    written w = write_one(ASSAY_CONVENTION_GPTQ, &m);
    assert_int_equal(word_at(assay_checkpoint_find(w.c, "x.qzeros"), 3), 0x77777777);
    read_back(&m, &w, "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32}");
    written_free(&w);
    w = write_one(ASSAY_CONVENTION_GPTQ_V2, &m);
    assert_int_equal(word_at(assay_checkpoint_find(w.c, "x.qzeros"), 3), 0x88888888);
    written_free(&w);
    w = write_one(ASSAY_CONVENTION_AWQ, &m);
    assert_int_equal(word_at(assay_checkpoint_find(w.c, "x.qzeros"), 3), 0x88888888);
    read_back(&m, &w, "{\"quant_method\":\"awq\",\"group_size\":32}");
    written_free(&w);
    assay_matrix_deinit(&m);
}

static void an_activation_order_is_kept_and_a_trivial_one_dropped(void **state) {
    (void)state;
    assay_matrix m;
    make(&m, 4, 32, 64, 32, true);
    m.g_idx = assay_mallocn(64, sizeof *m.g_idx);
    for (int i = 0; i < 64; i++) m.g_idx[i] = i % 2;
    written w = write_one(ASSAY_CONVENTION_GPTQ_V2, &m);
    read_back(&m, &w, "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"checkpoint_format\":\"gptq_v2\"}");
    written_free(&w);
    for (int i = 0; i < 64; i++) m.g_idx[i] = i / 32;
    w = write_one(ASSAY_CONVENTION_GPTQ_V2, &m);
    assay_free(m.g_idx);
    m.g_idx = NULL;
    read_back(&m, &w, "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"checkpoint_format\":\"gptq_v2\"}");
    written_free(&w);
    assay_matrix_deinit(&m);
}

static void what_cannot_be_held_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        assay_convention c;
        int bits;
        int64_t rows, cols, group;
        const char *change, *says;
    } cases[] = {
        {ASSAY_CONVENTION_GPTQ, 4, 32, 64, 32, "zero", "x has a zero point of 0 (row 1, group 1): gptq's version 1"},
        {ASSAY_CONVENTION_GPTQ_V2, 4, 32, 64, 32, "scale", "x has the scale 0.100000001, which is no float16"},
        {ASSAY_CONVENTION_GPTQ_V2, 4, 32, 64, 32, "act", "x has 8-bit activations"},
        {ASSAY_CONVENTION_GPTQ_V2, 5, 32, 64, 32, "", "x has codes of 5 bits: gptq has 2, 3, 4 and 8"},
        {ASSAY_CONVENTION_GPTQ_V2, 4, 32, 48, 16, "", "x is 32 x 48: gptq packs inputs and outputs by 32"},
        {ASSAY_CONVENTION_GPTQ_V2, 4, 40, 64, 16, "", "x is 40 x 64: gptq packs"},
        {ASSAY_CONVENTION_AWQ, 3, 32, 64, 32, "", "x has codes of 3 bits: awq has 4"},
        {ASSAY_CONVENTION_AWQ, 4, 30, 64, 32, "", "x has 30 outputs: awq packs them by 8"},
        {ASSAY_CONVENTION_AWQ, 4, 32, 64, 48, "", "x has groups of 48: awq wants them to divide the 64 inputs"},
        {ASSAY_CONVENTION_AWQ, 4, 32, 64, 32, "order", "x has an activation order (g_idx): awq has none"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_matrix m;
        assay_ckpt_writer *w;
        assay_err err = {0};
        char *dir = scratch_make();
        const char *change = cases[i].change;
        make(&m, cases[i].bits, cases[i].rows, cases[i].cols, cases[i].group, true);
        if (strcmp(change, "zero") == 0) m.zeros[3] = 0;
        if (strcmp(change, "scale") == 0) m.scales[3] = 0.1f;
        if (strcmp(change, "act") == 0) m.act_bits = 8;
        if (strcmp(change, "order") == 0) {
            m.g_idx = assay_mallocn(64, sizeof *m.g_idx);
            for (int k = 0; k < 64; k++) m.g_idx[k] = k % 2;
        }
        assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
        expect_error(assay_ckpt_writer_put_matrix(w, cases[i].c, "x.weight", &m, ASSAY_DTYPE_BF16, &err), ASSAY_EUNSUPPORTED, &err,
                     cases[i].says);
        assay_ckpt_writer_close(w);
        assay_matrix_deinit(&m);
        scratch_remove(dir);
    }
}

static void configurations_are_followed(void **state) {
    (void)state;
    assay_matrix m;
    make(&m, 8, 32, 64, 0, false);
    written w = write_one(ASSAY_CONVENTION_GPTQ, &m);
    /* other settings for the module, by the first pattern that matches */
    read_back(&m, &w, "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,"
                      "\"dynamic\":{\"-:y.*\":{},\"+:x\":{\"bits\":8,\"group_size\":-1},\"x.*\":{\"bits\":2}}}");
    static const struct {
        const char *quant, *says;
    } cases[] = {
        {"{\"quant_method\":\"gptq\",\"bits\":5}", "x has 5 bits: gptq has 2, 3, 4 and 8"},
        {"{\"quant_method\":\"gptq\",\"bits\":8,\"checkpoint_format\":\"marlin\"}", "checkpoint_format 'marlin' is not supported"},
        {"{\"quant_method\":\"gptq\",\"bits\":8,\"pack_dtype\":\"int16\"}", "pack_dtype 'int16' is not supported"},
        {"{\"quant_method\":\"awq\",\"version\":\"gemv\"}", "awq of version 'gemv' is not supported"},
        {"{\"quant_method\":\"awq\",\"bits\":8}", "awq has 4 bits, not 8"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_matrix back;
        assay_err err = {0};
        json_t *j = json_loads(cases[i].quant, 0, NULL);
        expect_error(assay_checkpoint_matrix(&back, w.c, j, "x.weight", 0, 0, ASSAY_DTYPE_F16, &err), ASSAY_EUNSUPPORTED, &err, cases[i].says);
        json_decref(j);
    }
    written_free(&w);
    assay_matrix_deinit(&m);
}

static void expect_json(const json_t *j, const char *want) {
    char *text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, want);
    free(text);
}

static void the_configuration_says_what_was_written(void **state) {
    (void)state;
    assay_quant_entry e[] = {
        {.weight_name = "model.layers.0.q.weight", .precision = ASSAY_PRECISION_INT4, .group_size = 128, .act_bits = 16},
        {.weight_name = "model.layers.0.down.weight", .precision = ASSAY_PRECISION_INT8, .act_bits = 16},
        {.weight_name = "model.layers.1.q.weight", .precision = ASSAY_PRECISION_INT4, .group_size = 128, .act_bits = 16},
        {.weight_name = "model.layers.1.down.weight", .precision = ASSAY_PRECISION_BF16},
        {.weight_name = "lm_head.weight", .precision = ASSAY_PRECISION_BF16},
    };
    json_t *j;
    assert_int_equal(assay_quant_config_build(&j, ASSAY_CONVENTION_GPTQ, e, 5, ASSAY_DTYPE_BF16, NULL), ASSAY_OK);
    expect_json(json_object_get(j, "bits"), "4");
    expect_json(json_object_get(j, "group_size"), "128");
    expect_json(json_object_get(j, "sym"), "true");
    expect_json(json_object_get(j, "desc_act"), "false");
    expect_json(json_object_get(j, "lm_head"), "false");
    expect_json(json_object_get(j, "checkpoint_format"), "\"gptq\"");
    expect_json(json_object_get(j, "dynamic"), "{\"+:^model\\\\.layers\\\\.0\\\\.down$\":{\"bits\":8,\"group_size\":-1},"
                                               "\"-:^model\\\\.layers\\\\.1\\\\.down$\":{}}");
    json_decref(j);
    e[2].asymmetric = e[2].ordered = true;
    assert_int_equal(assay_quant_config_build(&j, ASSAY_CONVENTION_GPTQ_V2, e, 5, ASSAY_DTYPE_BF16, NULL), ASSAY_OK);
    expect_json(json_object_get(j, "sym"), "false");
    expect_json(json_object_get(j, "desc_act"), "true");
    expect_json(json_object_get(j, "checkpoint_format"), "\"gptq_v2\"");
    json_decref(j);
    assay_err err = {0};
    expect_error(assay_quant_config_build(&j, ASSAY_CONVENTION_AWQ, e, 5, ASSAY_DTYPE_BF16, &err), ASSAY_EUNSUPPORTED, &err,
                 "model.layers.0.down.weight is int8 in groups of 0");
    e[1] = e[3];
    e[2].asymmetric = e[2].ordered = false;
    assert_int_equal(assay_quant_config_build(&j, ASSAY_CONVENTION_AWQ, e, 5, ASSAY_DTYPE_BF16, NULL), ASSAY_OK);
    expect_json(j, "{\"quant_method\":\"awq\",\"zero_point\":true,\"group_size\":128,\"bits\":4,\"version\":\"gemm\","
                   "\"modules_to_not_convert\":[\"model.layers.1.down\",\"model.layers.1.down\",\"lm_head\"]}");
    json_decref(j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bit_is_where_gptq_has_it),
        cmocka_unit_test(every_nibble_is_where_awq_has_it),
        cmocka_unit_test(packing_across_is_packing_of_rows_turned),
        cmocka_unit_test(turned_words_hold_eight_rows),
        cmocka_unit_test(symmetric_matrices_have_the_middle_as_zero_point),
        cmocka_unit_test(an_activation_order_is_kept_and_a_trivial_one_dropped),
        cmocka_unit_test(what_cannot_be_held_is_refused_by_name),
        cmocka_unit_test(configurations_are_followed),
        cmocka_unit_test(the_configuration_says_what_was_written),
    };
    return cmocka_run_group_tests_name("gptq and awq", tests, NULL, NULL);
}
