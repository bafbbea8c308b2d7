/* test_conventions.c: the bitsandbytes and compressed-tensors conventions, on checkpoints that
 * transformers and those packages saved (golden/NAME, made by golden/make_format.py with the versions that
 * golden/expected.json names): codes, scales, zero points and decoded weights are what they say, what is
 * written from a matrix that was read has the original's bytes, and what does not fit is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/hash.h"
#include "format/convention.h"
#include "format/format.h"
#include "format/pack.h"
#include "format/quant_config.h"
#include "num/convert.h"
#include "format/support.h"

static json_t *expected; /* model -> module -> what it holds */

static int load_expected(void **state) {
    (void)state;
    static const char *const files[] = {"expected.json", "expected_hqq.json", "expected_order.json",
                                        "expected_gptq.json"};
    expected = json_object();
    for (size_t i = 0; i < ASSAY_LEN(files); i++) {
        char path[100];
        json_t *j;
        snprintf(path, sizeof path, "tests/format/golden/%s", files[i]);
        if (assay_json_load(&j, path, NULL) != ASSAY_OK) return -1;
        json_object_update(expected, json_object_get(j, "models"));
        json_decref(j);
    }
    return 0;
}

static int free_expected(void **state) {
    (void)state;
    json_decref(expected);
    return 0;
}

typedef struct golden {
    char dir[100];
    assay_checkpoint *c;
    json_t *config, *quant;
} golden;

static golden open_golden(const char *name) {
    golden g;
    char path[140];
    snprintf(g.dir, sizeof g.dir, "tests/format/golden/%s", name);
    snprintf(path, sizeof path, "%s/config.json", g.dir);
    assert_int_equal(assay_json_load(&g.config, path, NULL), ASSAY_OK);
    g.quant = json_object_get(g.config, "quantization_config");
    assert_int_equal(assay_checkpoint_open(&g.c, g.dir, NULL), ASSAY_OK);
    return g;
}

static void close_golden(golden *g) {
    assay_checkpoint_close(g->c);
    json_decref(g->config);
}

static void expect_hash(const char *model, const char *module, const json_t *e, const char *key,
                        const void *data, size_t n) {
    char hex[ASSAY_HASH_HEX];
    const char *want = json_string_value(json_object_get(e, key));
    if (!want) fail_msg("%s %s: nothing is expected of %s", model, module, key);
    assay_hash_bytes(hex, data, n);
    if (strcmp(hex, want) != 0) fail_msg("%s %s: %s differ", model, module, key);
}

static void read_matrix(assay_matrix *m, const golden *g, const char *module) {
    char name[200];
    assay_err err = {0};
    snprintf(name, sizeof name, "%s.weight", module);
    if (assay_checkpoint_matrix(m, g->c, g->quant, name, 0, 0, ASSAY_DTYPE_BF16, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
}

static void check_float_and_activations(const assay_matrix *m, const json_t *e) {
    const char *precision = json_string_value(json_object_get(e, "precision"));
    if (precision) {
        assert_string_equal(assay_precision_name(m->precision), precision);
        assert_int_equal(m->group_size, json_integer_value(json_object_get(e, "group")));
        assert_int_equal(m->row_block, json_integer_value(json_object_get(e, "row_block")));
        assert_true(m->global_scale == (float)json_real_value(json_object_get(e, "global")));
    }
    if (!json_object_get(e, "act_bits")) return;
    assert_int_equal(m->act_bits, json_integer_value(json_object_get(e, "act_bits")));
    assert_int_equal(m->act_group, json_integer_value(json_object_get(e, "act_group")));
    assert_true(m->input_scale == (float)json_real_value(json_object_get(e, "input_scale")));
}

static void check_module(const char *model, const golden *g, const char *module, const json_t *e) {
    assay_matrix m;
    read_matrix(&m, g, module);
    size_t n = (size_t)(m.rows * m.cols);
    expect_hash(model, module, e, "codes", m.codes, n);
    expect_hash(model, module, e, "scales", m.scales, (size_t)m.n_scales * 4);
    if (json_object_get(e, "bits")) {
        assert_int_equal(assay_precision_bits(m.precision), json_integer_value(json_object_get(e, "bits")));
        assert_int_equal(m.group_size, json_integer_value(json_object_get(e, "group")));
    }
    if (json_object_get(e, "zeros"))
        expect_hash(model, module, e, "zeros", m.zeros, (size_t)m.n_scales);
    else
        assert_null(m.zeros);
    if (json_object_get(e, "real_zeros"))
        expect_hash(model, module, e, "real_zeros", m.real_zeros, (size_t)m.n_scales * 4);
    else
        assert_null(m.real_zeros);
    if (json_object_get(e, "g_idx"))
        expect_hash(model, module, e, "g_idx", m.g_idx, (size_t)m.cols * 4);
    else
        assert_null(m.g_idx);
    check_float_and_activations(&m, e);
    float *w = assay_mallocn(n, sizeof *w);
    assay_matrix_decode_rows(w, &m, 0, m.rows);
    expect_hash(model, module, e, "weights", w, n * 4);
    assay_free(w);
    assay_matrix_deinit(&m);
}

static void originals_are_read_exactly(void **state) {
    (void)state;
    const char *model, *module;
    json_t *modules, *e;
    json_object_foreach(expected, model, modules) {
        golden g = open_golden(model);
        assert_int_equal(json_object_size(modules), 7);
        json_object_foreach(modules, module, e) check_module(model, &g, module, e);
        close_golden(&g);
    }
}

/* Every tensor of `module` in b is in a with the same type, shape and bytes. */
static void expect_same_tensors(const char *model, const assay_checkpoint *a, const assay_checkpoint *b,
                                const char *module) {
    size_t n = strlen(module), count = 0;
    for (size_t i = 0; i < assay_checkpoint_n_tensors(b); i++) {
        const assay_tensor *t = assay_checkpoint_get(b, i);
        if (strncmp(t->name, module, n) != 0 || t->name[n] != '.') continue;
        const assay_tensor *o = assay_checkpoint_find(a, t->name);
        if (!o) fail_msg("%s: %s is missing", model, t->name);
        if (o->dtype != t->dtype || o->n_dims != t->n_dims || memcmp(o->dims, t->dims, sizeof o->dims) != 0 ||
            o->n_bytes != t->n_bytes)
            fail_msg("%s: %s has another type or shape", model, t->name);
        if (memcmp(o->data, t->data, t->n_bytes) != 0) fail_msg("%s: the bytes of %s differ", model, t->name);
        count++;
    }
    assert_true(count > 0);
}

static void what_was_read_is_written_with_the_same_bytes(void **state) {
    (void)state;
    const char *model, *module;
    json_t *modules, *e;
    json_object_foreach(expected, model, modules) {
        if (strcmp(model, "bnb-nf4-bf16-storage") == 0 || strcmp(model, "hqq-view") == 0)
            continue; /* are written as U8, the default */
        if (strstr(model, "-wrap")) continue; /* never written: see below */
        golden g = open_golden(model);
        char *dir = scratch_make(), name[200];
        assay_ckpt_writer *w;
        assay_checkpoint *again;
        assay_convention convention;
        assay_dtype dtype = ASSAY_DTYPE_BF16; /* matters to bitsandbytes only */
        assert_int_equal(assay_convention_detect(&convention, g.quant, NULL), ASSAY_OK);
        assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
        json_object_foreach(modules, module, e) {
            assay_matrix m;
            assay_err err = {0};
            read_matrix(&m, &g, module);
            snprintf(name, sizeof name, "%s.weight", module);
            assert_false(assay_ckpt_writer_has(w, name));
            if (assay_ckpt_writer_put_matrix(w, convention, name, &m, dtype, &err) != ASSAY_OK)
                fail_msg("%s", err.message);
            assert_true(assay_ckpt_writer_has(w, name));
            assay_matrix_deinit(&m);
        }
        assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
        assert_int_equal(assay_checkpoint_open(&again, dir, NULL), ASSAY_OK);
        json_object_foreach(modules, module, e) expect_same_tensors(model, again, g.c, module);
        assay_checkpoint_close(again);
        scratch_remove(dir);
        close_golden(&g);
    }
}

static void compute_modes_are_those_of_the_formats_home(void **state) {
    (void)state;
    static const struct {
        const char *model, *module;
        int act_bits;
        assay_dtype act_dtype;
        double threshold;
    } cases[] = {
        {"bnb-nf4-nested", "model.layers.0.mlp.up_proj", 16, ASSAY_DTYPE_BF16, 0},
        {"bnb-nf4-bf16-storage", "model.layers.0.mlp.up_proj", 16, ASSAY_DTYPE_F32,
         0}, /* no compute dtype given: float32 */
        {"bnb-int8", "model.layers.0.mlp.up_proj", 8, ASSAY_DTYPE_F16, 6.0},
        {"ct-int4-group", "model.layers.0.mlp.up_proj", 16, ASSAY_DTYPE_BF16, 0},
        {"ct-w8a8", "model.layers.0.mlp.up_proj", 8, ASSAY_DTYPE_BF16, 0},
        {"ct-mixed", "model.layers.0.mlp.up_proj", 8, ASSAY_DTYPE_BF16, 0},
        {"ct-mixed", "model.layers.0.mlp.down_proj", 16, ASSAY_DTYPE_BF16, 0},
        {"ct-mixed", "lm_head", 16, ASSAY_DTYPE_BF16, 0},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        golden g = open_golden(cases[i].model);
        assay_matrix m;
        read_matrix(&m, &g, cases[i].module);
        assert_int_equal(m.act_bits, cases[i].act_bits);
        assert_int_equal(m.act_dtype, cases[i].act_dtype);
        assert_true(m.outlier_threshold == cases[i].threshold);
        assay_matrix_deinit(&m);
        close_golden(&g);
    }
}

/* Odd shapes that models never have, all conventions: written, read back, equal bit for bit. */
static void round_trip(assay_convention c, const assay_matrix *m, const char *quant_json) {
    char *dir = scratch_make();
    assay_ckpt_writer *w;
    assay_checkpoint *again;
    assay_matrix back;
    assay_err err = {0};
    json_t *quant = json_loads(quant_json, 0, NULL);
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    if (assay_ckpt_writer_put_matrix(w, c, "x.weight", m, ASSAY_DTYPE_BF16, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&again, dir, NULL), ASSAY_OK);
    if (assay_checkpoint_matrix(&back, again, quant, "x.weight", m->rows, m->cols, ASSAY_DTYPE_BF16, &err) !=
        ASSAY_OK)
        fail_msg("%s", err.message);
    assert_int_equal(back.precision, m->precision);
    assert_int_equal(back.n_scales, m->n_scales);
    assert_memory_equal(back.codes, m->codes, (size_t)(m->rows * m->cols));
    assert_memory_equal(back.scales, m->scales, (size_t)m->n_scales * 4);
    if (m->zeros)
        assert_memory_equal(back.zeros, m->zeros, (size_t)m->n_scales);
    else
        assert_null(back.zeros);
    if (m->nested) assert_memory_equal(back.nested->codes, m->nested->codes, (size_t)m->n_scales);
    assay_matrix_deinit(&back);
    assay_checkpoint_close(again);
    json_decref(quant);
    scratch_remove(dir);
}

static void fill(float *w, size_t n, uint32_t x) {
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        w[i] = (float)((int32_t)x >> 8) * 0x1p-23f * 0.1f;
    }
}

static void every_width_and_shape_round_trips(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 0},   {3, 33, 0},  {33, 31, 0},
                                        {5, 96, 32}, {40, 24, 8}, {7, 130, 13}};
    float w[40 * 130];
    char quant[400];
    assay_matrix m;
    fill(w, ASSAY_LEN(w), 5);
    for (size_t i = 0; i < ASSAY_LEN(shapes); i++) {
        int64_t rows = shapes[i][0], cols = shapes[i][1], group = shapes[i][2];
        for (int bits = 2; bits <= 8; bits++) {
            for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
                assay_int_opts o = {.bits = bits,
                                    .group_size = group,
                                    .asymmetric = asymmetric,
                                    .scale_dtype = ASSAY_DTYPE_BF16};
                assert_int_equal(assay_encode_int(&m, w, rows, cols, &o, NULL), ASSAY_OK);
                snprintf(
                    quant, sizeof quant,
                    "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":%d,"
                    "\"type\":\"int\",\"symmetric\":%s,\"strategy\":\"%s\",\"group_size\":%d}}}}",
                    bits, asymmetric ? "false" : "true", group ? "group" : "channel",
                    group ? (int)group : -1);
                round_trip(ASSAY_CONVENTION_CT, &m, quant);
                assay_matrix_deinit(&m);
            }
        }
        for (int nested = 0; nested < 2; nested++) {
            assert_int_equal(assay_encode_codebook(&m, w, rows, cols,
                                                   nested ? ASSAY_PRECISION_NF4 : ASSAY_PRECISION_FP4, 64,
                                                   nested, NULL),
                             ASSAY_OK);
            round_trip(ASSAY_CONVENTION_BNB, &m, "{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}");
            assay_matrix_deinit(&m);
        }
        assay_int_opts o = {.bits = 8, .rule = ASSAY_SCALE_ABSMAX};
        assert_int_equal(assay_encode_int(&m, w, rows, cols, &o, NULL), ASSAY_OK);
        round_trip(ASSAY_CONVENTION_BNB, &m, "{\"load_in_8bit\":true}");
        assay_matrix_deinit(&m);
    }
}

static void packing_straddles_words(void **state) {
    (void)state;
    uint8_t codes[40], back[40];
    uint32_t words[10] = {0};
    for (int i = 0; i < 40; i++) codes[i] = (uint8_t)(i % 8);
    assay_pack(words, 1, codes, 1, 40, 3);
    assert_int_equal(assay_packed_words(40, 3), 4);
    assert_int_equal(words[0],
                     0x88fac688u | 0); /* 0,1,...,7 are 0xfac688 in 24 bits; then 0,1 and the low bits of 2 */
    assay_unpack(back, 1, words, 1, 40, 3);
    assert_memory_equal(back, codes, 40);
}

static void what_a_convention_cannot_hold_is_refused_by_name(void **state) {
    (void)state;
    char *dir = scratch_make();
    float w[4 * 96];
    assay_ckpt_writer *out;
    assay_matrix m;
    fill(w, ASSAY_LEN(w), 9);
    assert_int_equal(assay_ckpt_writer_open(&out, dir, 0, NULL), ASSAY_OK);
    static const struct {
        assay_convention c;
        assay_int_opts o; /* bits 0: nf4 in blocks of group_size */
        double threshold;
        const char *says;
    } cases[] = {
        {ASSAY_CONVENTION_BNB,
         {.bits = 4, .group_size = 32},
         0,
         "x: bitsandbytes holds nf4, fp4 and row-wise symmetric int8, not int4"},
        {ASSAY_CONVENTION_BNB, {.bits = 8, .asymmetric = true}, 0, "int8 with zero points"},
        {ASSAY_CONVENTION_BNB, {.bits = 8, .group_size = 32}, 0, "int8 in groups"},
        {ASSAY_CONVENTION_BNB, {.group_size = 48}, 0, "blocks of 32, 64, ... 4096, not 48"},
        {ASSAY_CONVENTION_CT, {.group_size = 64}, 0, "compressed-tensors holds integers and small floats"},
        {ASSAY_CONVENTION_CT, {.bits = 4, .group_size = 64}, 0, "groups of 64 to divide the 96 columns"},
        {ASSAY_CONVENTION_CT, {.bits = 8}, 6.0, "no outlier columns"},
        {ASSAY_CONVENTION_HF, {.bits = 8}, 0, "a plain checkpoint cannot hold a matrix in int8"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        if (cases[i].o.bits)
            assert_int_equal(assay_encode_int(&m, w, 4, 96, &cases[i].o, NULL), ASSAY_OK);
        else
            assert_int_equal(
                assay_encode_codebook(&m, w, 4, 96, ASSAY_PRECISION_NF4, cases[i].o.group_size, false, NULL),
                ASSAY_OK);
        m.outlier_threshold = cases[i].threshold;
        expect_error(assay_ckpt_writer_put_matrix(out, cases[i].c, "x.weight", &m, ASSAY_DTYPE_BF16, &err),
                     ASSAY_EUNSUPPORTED, &err, cases[i].says);
        assert_false(assay_ckpt_writer_has(out, "x.weight"));
        assay_matrix_deinit(&m);
    }
    /* after all refusals the name is still free, and nothing of them is left in the file */
    assay_int_opts o = {.bits = 3, .group_size = 96};
    assert_int_equal(assay_encode_int(&m, w, 4, 96, &o, NULL), ASSAY_OK);
    assert_int_equal(
        assay_ckpt_writer_put_matrix(out, ASSAY_CONVENTION_CT, "x.weight", &m, ASSAY_DTYPE_BF16, NULL),
        ASSAY_OK);
    assay_matrix_deinit(&m);
    assay_checkpoint *c;
    assert_int_equal(assay_ckpt_writer_commit(out, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_n_tensors(c), 3);
    assay_checkpoint_close(c);
    scratch_remove(dir);
}

static void conventions_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *json;
        assay_status status;
        assay_convention c;
        const char *says;
    } cases[] = {
        {"null", ASSAY_OK, ASSAY_CONVENTION_HF, ""},
        {"{\"quant_method\":\"bitsandbytes\"}", ASSAY_OK, ASSAY_CONVENTION_BNB, ""},
        {"{\"load_in_8bit\":true}", ASSAY_OK, ASSAY_CONVENTION_BNB, ""},
        {"{\"quant_method\":\"compressed-tensors\"}", ASSAY_OK, ASSAY_CONVENTION_CT, ""},
        {"{\"quant_method\":\"fp8\"}", ASSAY_OK, ASSAY_CONVENTION_FP8, ""},
        {"{\"quant_method\":\"hqq\"}", ASSAY_OK, ASSAY_CONVENTION_HQQ, ""},
        {"{\"quant_method\":\"gptq\"}", ASSAY_OK, ASSAY_CONVENTION_GPTQ, ""},
        {"{\"quant_method\":\"gptq\",\"checkpoint_format\":\"gptq_v2\"}", ASSAY_OK, ASSAY_CONVENTION_GPTQ_V2, ""},
        {"{\"quant_method\":\"awq\"}", ASSAY_OK, ASSAY_CONVENTION_AWQ, ""},
        {"{\"quant_method\":\"quip\"}", ASSAY_EUNSUPPORTED, 0, "quant_method 'quip' is not supported"},
        {"{\"bits\":4}", ASSAY_EINPUT, 0, "names no quant_method"},
        {"[]", ASSAY_EINPUT, 0, "not an object"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        json_t *j = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        assay_convention c;
        assay_err err = {0};
        expect_error(assay_convention_detect(&c, j, &err), cases[i].status, &err, cases[i].says);
        if (cases[i].status == ASSAY_OK) assert_int_equal(c, cases[i].c);
        json_decref(j);
    }
    assay_convention c;
    assert_int_equal(assay_convention_detect(&c, NULL, NULL), ASSAY_OK);
    assert_string_equal(assay_convention_name(c), "hf");
}

static void targets_match_as_python_matches_them(void **state) {
    (void)state;
    static const struct {
        const char *target, *module;
        int match; /* -1: refused */
    } cases[] = {
        {"Linear", "model.layers.0.mlp.up_proj", 1},
        {"Linear", "model.embed_tokens", 0},
        {"Embedding", "model.embed_tokens", 1},
        {"lm_head", "lm_head", 1},
        {"model.layers.1", "model.layers.1.mlp", 0},
        {"re:.*up_proj", "model.layers.0.mlp.up_proj", 1},
        {"re:up_proj", "model.layers.0.mlp.up_proj", 0},
        {"re:model", "model.layers.0", 1},
        {"re:.*\\.up$", "a.up_proj", 0},
        {"re:.*\\.up$", "a.up", 1},
        {"re:.*\\.up$", "axup", 0},
        {"re:model\\.layers\\.\\d+\\.mlp", "model.layers.12.mlp.x", 1},
        {"re:model\\.layers\\.\\d\\.mlp", "model.layers.12.mlp", 0},
        {"re:a|b", "bc", 1},
        {"re:a|b", "cb", 0},
        {"re:.*(?:gate|up)_proj$", "x.gate_proj", 1},
        {"re:.*?x+?y", "axxy", 1},
        {"re:layers\\.[0-3]\\.", "layers.4.", 0},
        {"re:layers\\.[\\d]{1,2}\\.", "layers.44.", 1},
        {"re:[\\w.]+proj\\Z", "a.b_proj", 1},
        {"re:(?!lm_head).*", "x", -1},
        {"re:a\\b", "a", -1},
        {"re:(", "a", -1},
        {"re:a{99}{99}{99}{99}{99}", "a", -1},
        {"re:a\\", "a", -1},
        {"re:.*++", "a", -1}, /* Python calls it a multiple repeat, too */
        {"re:a???", "a", -1},
        {"re:((((((((a+)+)+)+)+)+)+)+)+", "a", -1}, /* would be copied 2^8 times */
        {"re:(a{99}){99}", "a", -1},
        {"re:a{2}?b", "aab", 1},
        {"re:a{1,3}b", "aaab", 1},
        {"re:a{1,3}b", "aaaab", 0},
        {"re:a+?b", "aab", 1},
        {"re:(?:gate|up)+b", "gateupb", 1},
        {"re:[+?]+b", "+?b", 1},
        {"re:a\\+?b", "a+b", 1},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        bool match = false;
        assay_status s = assay_ct_match(&match, cases[i].target, cases[i].module, NULL);
        if (s != (cases[i].match < 0 ? ASSAY_EUNSUPPORTED : ASSAY_OK) ||
            (s == ASSAY_OK && match != cases[i].match))
            fail_msg("%s on %s: status %d, match %d", cases[i].target, cases[i].module, s, match);
    }
}

static const char GROUP[] =
    "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"targets\":[\"Linear\"],%s}}}";

static void configurations_that_cannot_be_followed_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *part;
        assay_status status;
        const char *says;
    } cases[] = {
        {"\"weights\":{\"num_bits\":8,\"type\":\"complex\"}", ASSAY_EINPUT, "m has weights of neither type"},
        {"\"weights\":{\"num_bits\":6,\"type\":\"float\",\"group_size\":32}", ASSAY_EUNSUPPORTED,
         "the 6-bit float in groups of m"},
        {"\"weights\":{\"num_bits\":4,\"type\":\"float\",\"group_size\":64}", ASSAY_EUNSUPPORTED, "the 4-bit float in groups"},
        {"\"weights\":{\"num_bits\":8,\"type\":\"float\",\"symmetric\":false}", ASSAY_EUNSUPPORTED,
         "the 8-bit float with zero points"},
        {"\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\"}", ASSAY_EINPUT, "has no block_structure"},
        {"\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\",\"block_structure\":[0,128]}", ASSAY_EINPUT,
         "blocks of 0 x 128"},
        {"\"weights\":{\"num_bits\":4,\"strategy\":\"tensor_group\",\"group_size\":16}", ASSAY_EUNSUPPORTED,
         "strategy 'tensor_group' of m"},
        {"\"weights\":{\"num_bits\":1}", ASSAY_EUNSUPPORTED, "m has 1 bits"},
        {"\"weights\":{\"num_bits\":\"4\"}", ASSAY_EINPUT, "key 'num_bits' must be an integer"},
        {"\"weights\":{\"num_bits\":4,\"strategy\":\"block\"}", ASSAY_EUNSUPPORTED, "strategy 'block' of m"},
        {"\"weights\":{\"num_bits\":4,\"strategy\":\"group\"}", ASSAY_EINPUT, "groups of 0 columns"},
        {"\"weights\":null", ASSAY_EINPUT, "its config group has no weights"},
        {"\"weights\":{\"num_bits\":8},\"input_activations\":{\"num_bits\":8,\"type\":\"int\",\"dynamic\":true,\"strategy\":\"tensor\"}",
         ASSAY_EUNSUPPORTED, "the activations of m"},
        {"\"weights\":{\"num_bits\":4},\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"dynamic\":true,\"strategy\":\"token\"}",
         ASSAY_EUNSUPPORTED, "the activations of m"},
        {"\"weights\":{\"num_bits\":8},\"input_activations\":{\"num_bits\":8,\"symmetric\":false,\"dynamic\":true,\"strategy\":\"token\"}",
         ASSAY_EUNSUPPORTED, "the activations of m"},
        {"\"weights\":{\"num_bits\":8},\"output_activations\":{\"num_bits\":8}", ASSAY_EUNSUPPORTED,
         "quantized outputs"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        char text[600];
        assay_ct_scheme scheme;
        assay_err err = {0};
        snprintf(text, sizeof text, GROUP, cases[i].part);
        json_t *j = json_loads(text, 0, NULL);
        assert_non_null(j);
        expect_error(assay_ct_scheme_find(&scheme, j, "m", &err), cases[i].status, &err, cases[i].says);
        json_decref(j);
    }
    assay_ct_scheme scheme;
    assay_err err = {0};
    json_t *j = json_loads("{\"config_groups\":{\"g\":{\"targets\":[\"re:x.*\"],\"weights\":{}}}}", 0, NULL);
    expect_error(assay_ct_scheme_find(&scheme, j, "m", &err), ASSAY_EINPUT, &err,
                 "m is quantized but no config group names it");
    json_decref(j);
}

/* Damage to the golden files' tensors, by replacing one of them. */
static void damaged_tensors_are_named(void **state) {
    (void)state;
    static const struct {
        const char *model, *tensor; /* of model.layers.0.mlp.up_proj */
        assay_dtype dtype;
        int64_t n; /* elements instead, -1: left out */
        assay_status status;
        const char *says;
    } cases[] = {
        {"bnb-nf4-nested", ".weight.absmax", ASSAY_DTYPE_U8, 31, ASSAY_EINPUT,
         "up_proj.weight.absmax has 31 elements of type U8 where 32"},
        {"bnb-nf4-nested", ".weight.nested_absmax", ASSAY_DTYPE_F32, -1, ASSAY_ENOTFOUND,
         "no tensor model.layers.0.mlp.up_proj.weight.nested_absmax"},
        {"bnb-nf4-nested", ".weight.nested_quant_map", ASSAY_DTYPE_F32, 16, ASSAY_EINPUT,
         "nested_quant_map has 16 elements"},
        {"bnb-nf4-nested", ".weight.quant_map", ASSAY_DTYPE_F32, 16, ASSAY_EUNSUPPORTED,
         "for code 0 where nf4 has -1"},
        {"bnb-nf4-nested", ".weight", ASSAY_DTYPE_U8, 7, ASSAY_EINPUT, "too short for 64 x 32"},
        {"bnb-nf4-nested", ".weight.quant_state.bitsandbytes__nf4", ASSAY_DTYPE_U8, 4, ASSAY_EINPUT,
         "quant_state.bitsandbytes__nf4"},
        {"bnb-int8", ".SCB", ASSAY_DTYPE_F32, 63, ASSAY_EINPUT, "SCB has 63 elements"},
        {"bnb-int8", ".weight", ASSAY_DTYPE_I8, -1, ASSAY_ENOTFOUND,
         "no tensor model.layers.0.mlp.up_proj.weight"},
        {"ct-int4-group", ".weight_scale", ASSAY_DTYPE_BF16, 5, ASSAY_EINPUT,
         "weight_scale has 5 scales where the matrix has 128 groups"},
        {"ct-int4-group", ".weight_scale", ASSAY_DTYPE_I32, 128, ASSAY_EUNSUPPORTED,
         "scales of integers are F32, F16 or BF16"},
        {"ct-int4-group", ".weight_packed", ASSAY_DTYPE_I32, 12, ASSAY_EINPUT,
         "does not hold 64 x 32 codes of 4 bits"},
        {"ct-int4-group", ".weight_shape", ASSAY_DTYPE_I64, -1, ASSAY_ENOTFOUND, "weight_shape"},
        {"ct-int3-asym", ".weight_zero_point", ASSAY_DTYPE_I32, 3, ASSAY_EINPUT,
         "weight_zero_point has 3 elements of type I32 where 6"},
        {"ct-int3-asym", ".weight_zero_point", ASSAY_DTYPE_I32, -1, ASSAY_ENOTFOUND, "weight_zero_point"},
        {"ct-w8a8-static", ".input_scale", ASSAY_DTYPE_BF16, -1, ASSAY_ENOTFOUND, "no tensor model.layers.0.mlp.up_proj.input_scale"},
        {"ct-w8a8-static", ".input_scale", ASSAY_DTYPE_BF16, 1, ASSAY_EINPUT, "input_scale holds 0, which is no scale"},
        {"ct-order", ".weight_g_idx", ASSAY_DTYPE_I32, 31, ASSAY_EINPUT, "weight_g_idx has 31 elements"},
        {"ct-order", ".weight_g_idx", ASSAY_DTYPE_I32, 32, ASSAY_EUNSUPPORTED, "weight_g_idx gives group 0 more than its 8 columns"},
        {"ct-fp8-channel", ".weight_scale", ASSAY_DTYPE_F16, 63, ASSAY_EINPUT, "has 63 scales where the matrix has 64 groups"},
        {"ct-fp8-channel", ".weight", ASSAY_DTYPE_F8_E5M2, 2048, ASSAY_EINPUT, "has 1 dimensions where 2"},
        {"ct-fp8-block", ".weight_scale", ASSAY_DTYPE_I32, 6, ASSAY_EUNSUPPORTED, "of type I32, which scales are not"},
        {"ct-nvfp4", ".weight_global_scale", ASSAY_DTYPE_F32, 1, ASSAY_EINPUT, "weight_global_scale holds 0"},
        {"ct-nvfp4", ".weight_global_scale", ASSAY_DTYPE_F32, -1, ASSAY_ENOTFOUND, "weight_global_scale"},
        {"ct-nvfp4", ".weight_scale", ASSAY_DTYPE_U8, 128, ASSAY_EUNSUPPORTED, "where the scales of nvfp4 are F8_E4M3"},
        {"ct-mxfp4", ".weight_scale", ASSAY_DTYPE_BF16, 64, ASSAY_EUNSUPPORTED, "where the scales of mxfp4 are U8"},
        {"ct-mxfp4", ".weight_packed", ASSAY_DTYPE_U8, 1024, ASSAY_EINPUT, "is not a matrix of packed codes"},
        {"fp8-block", ".weight_scale_inv", ASSAY_DTYPE_F32, 8, ASSAY_EINPUT, "8 x 1, which is neither one scale, one a row nor one a block of 16 x 16"},
        {"fp8-static", ".input_scale", ASSAY_DTYPE_F32, -1, ASSAY_ENOTFOUND, "no tensor model.layers.0.mlp.up_proj.activation_scale"},
        {"gptq-int4", ".qzeros", ASSAY_DTYPE_I32, -1, ASSAY_ENOTFOUND, "no tensor model.layers.0.mlp.up_proj.qzeros"},
        {"gptq-int4", ".qzeros", ASSAY_DTYPE_I32, 15, ASSAY_EINPUT, "qzeros has 15 elements of type I32 where 16"},
        {"gptq-int4", ".scales", ASSAY_DTYPE_F16, 127, ASSAY_EINPUT, "scales has 127 scales where the matrix has 128 groups"},
        {"gptq-int4", ".scales", ASSAY_DTYPE_U8, 128, ASSAY_EUNSUPPORTED, "scales of integers are F32, F16 or BF16"},
        {"gptq-int4", ".qweight", ASSAY_DTYPE_I32, 64, ASSAY_EINPUT, "qweight is not a matrix of columns of 32 codes in 4 words"},
        {"gptq-int4", ".g_idx", ASSAY_DTYPE_I32, 31, ASSAY_EINPUT, "g_idx has 31 elements"},
        {"gptq-order", ".g_idx", ASSAY_DTYPE_I32, 32, ASSAY_EUNSUPPORTED, "g_idx gives group 0 more than its 16 columns"},
        {"awq-gemm", ".qzeros", ASSAY_DTYPE_I32, -1, ASSAY_ENOTFOUND, "no tensor model.layers.0.mlp.up_proj.qzeros"},
        {"awq-gemm", ".qzeros", ASSAY_DTYPE_I32, 15, ASSAY_EINPUT, "qzeros has 15 elements of type I32 where 16"},
        {"awq-gemm", ".qweight", ASSAY_DTYPE_I32, 64, ASSAY_EINPUT, "qweight is not a matrix of packed codes"},
        {"awq-gemm", ".scales", ASSAY_DTYPE_F16, 1, ASSAY_EINPUT, "scales has 1 scales where the matrix has 128 groups"},
        {"hqq-int4", ".zero", ASSAY_DTYPE_BF16, -1, ASSAY_ENOTFOUND, "no tensor model.layers.0.mlp.up_proj.zero"},
        {"hqq-int4", ".scale", ASSAY_DTYPE_BF16, 127, ASSAY_EINPUT, "has 127 scales where the matrix has 128 groups"},
        {"hqq-int4", ".W_q", ASSAY_DTYPE_U8, 1023, ASSAY_EINPUT, "has 1023 bytes, which do not hold 64 x 32 codes of 4 bits"},
        {"hqq-int4", ".nbits", ASSAY_DTYPE_I32, 1, ASSAY_EUNSUPPORTED, "nbits is 0: 2, 3, 4, 5, 6 and 8"},
        {"hqq-int4", ".nbits", ASSAY_DTYPE_I32, 2, ASSAY_EINPUT, "nbits has 2 elements"},
        {"hqq-int4", ".axis", ASSAY_DTYPE_I32, 1, ASSAY_EUNSUPPORTED, "groups down the columns (axis 0)"},
        {"hqq-int4", ".group_size", ASSAY_DTYPE_I32, 1, ASSAY_EUNSUPPORTED, "groups of 0, which do not divide its 32 columns"},
        {"hqq-int4", ".shape", ASSAY_DTYPE_I64, 2, ASSAY_EINPUT, "is 0 x 0 where 64 x 32 is expected"},
    };
    static const char module[] = "model.layers.0.mlp.up_proj";
    char zeros[4096] = {0};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        golden g = open_golden(cases[i].model);
        char *dir = scratch_make(), name[120];
        assay_ckpt_writer *w;
        assay_matrix m;
        assay_err err = {0};
        snprintf(name, sizeof name, "%s%s", module, cases[i].tensor);
        assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
        for (size_t k = 0; k < assay_checkpoint_n_tensors(g.c); k++) {
            const assay_tensor *t = assay_checkpoint_get(g.c, k);
            bool hit = strcmp(t->name, name) == 0;
            if (hit && cases[i].n < 0) continue;
            if (hit)
                assert_int_equal(assay_ckpt_writer_put(w, name, cases[i].dtype, 1, &cases[i].n, zeros, NULL),
                                 ASSAY_OK);
            else
                assert_int_equal(
                    assay_ckpt_writer_put(w, t->name, t->dtype, t->n_dims, t->dims, t->data, NULL), ASSAY_OK);
        }
        assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
        assay_checkpoint *c;
        assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
        snprintf(name, sizeof name, "%s.weight", module);
        expect_error(assay_checkpoint_matrix(&m, c, g.quant, name, 64, 32, ASSAY_DTYPE_BF16, &err),
                     cases[i].status, &err, cases[i].says);
        assay_checkpoint_close(c);
        scratch_remove(dir);
        close_golden(&g);
    }
}

static void nan_codes_are_named(void **state) {
    (void)state;
    char *dir = scratch_make();
    assay_ckpt_writer *w;
    assay_checkpoint *c;
    assay_matrix m;
    assay_err err = {0};
    uint8_t codes[2 * 3] = {0x38, 0, 0x7e, 0, 0x7f, 0};
    float scale = 1;
    json_t *config = json_loads("{\"quant_method\":\"fp8\",\"activation_scheme\":\"dynamic\"}", 0, NULL);
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    assay_ckpt_writer_put(w, "x.weight", ASSAY_DTYPE_F8_E4M3, 2, (int64_t[]){2, 3}, codes, NULL);
    assay_ckpt_writer_put(w, "x.weight_scale", ASSAY_DTYPE_F32, 0, (int64_t[]){0}, &scale, NULL);
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
    expect_error(assay_checkpoint_matrix(&m, c, config, "x.weight", 2, 3, ASSAY_DTYPE_BF16, &err), ASSAY_EINPUT, &err,
                 "tensor x.weight holds NaN or infinity at row 1, column 1");
    assay_checkpoint_close(c);
    json_decref(config);
    scratch_remove(dir);
}

/* --- quantization_config --- */

static char *build(assay_convention c, const assay_quant_entry *e, size_t n) {
    json_t *j = NULL;
    assay_err err = {0};
    assay_str b = {0};
    if (assay_quant_config_build(&j, c, e, n, ASSAY_DTYPE_BF16, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_int_equal(assay_json_dump(&b, j, 0, false, NULL), ASSAY_OK);
    json_decref(j);
    return assay_str_take(&b);
}

static void expect_part(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("'%s' is not in %s", part, text);
}

static void one_way_of_storing_targets_linear(void **state) {
    (void)state;
    const assay_quant_entry e[] = {
        {.weight_name = "model.layers.0.a.weight",
         .precision = ASSAY_PRECISION_INT4,
         .group_size = 128,
         .act_bits = 16},
        {.weight_name = "model.layers.0.b.weight", .precision = ASSAY_PRECISION_BF16}};
    char *text = build(ASSAY_CONVENTION_CT, e, 2);
    expect_part(text, "\"format\":\"pack-quantized\",\"quantization_status\":\"compressed\"");
    expect_part(text, "\"ignore\":[\"model.layers.0.b\",\"lm_head\"]");
    expect_part(
        text,
        "\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":true,\"group_size\":128,\"strategy\":\"group\"");
    expect_part(text, "\"input_activations\":null");
    assay_free(text);
}

static void several_ways_are_told_apart_by_patterns_and_names(void **state) {
    (void)state;
    const assay_quant_entry e[] = {
        {.weight_name = "model.layers.0.q.weight",
         .precision = ASSAY_PRECISION_INT4,
         .group_size = 64,
         .act_bits = 16},
        {.weight_name = "model.layers.0.down.weight", .precision = ASSAY_PRECISION_INT8, .act_bits = 8},
        {.weight_name = "model.layers.1.q.weight",
         .precision = ASSAY_PRECISION_INT4,
         .group_size = 64,
         .act_bits = 16},
        {.weight_name = "model.layers.1.down.weight",
         .precision = ASSAY_PRECISION_INT3,
         .asymmetric = true,
         .act_bits = 16},
        {.weight_name = "lm_head.weight", .precision = ASSAY_PRECISION_INT8, .act_bits = 8},
    };
    char *text = build(ASSAY_CONVENTION_CT, e, 5);
    expect_part(text, "\"format\":\"mixed-precision\"");
    expect_part(text, "\"ignore\":[]");
    expect_part(text, "\"group_0\":{\"targets\":[\"re:^model\\\\.layers\\\\.\\\\d+\\\\.q$\"]");
    expect_part(text, "\"group_1\":{\"targets\":[\"model.layers.0.down\",\"re:^lm_head$\"]");
    expect_part(text, "\"group_2\":{\"targets\":[\"model.layers.1.down\"]");
    expect_part(text, "\"format\":\"int-quantized\"");
    /* and what is built is found again by the reader */
    json_t *j = json_loads(text, 0, NULL);
    for (size_t i = 0; i < 5; i++) {
        char module[60];
        assay_ct_scheme s;
        snprintf(module, sizeof module, "%.*s", (int)strlen(e[i].weight_name) - 7, e[i].weight_name);
        assert_int_equal(assay_ct_scheme_find(&s, j, module, NULL), ASSAY_OK);
        assert_int_equal(s.bits, assay_precision_bits(e[i].precision));
        assert_int_equal(s.group_size, e[i].group_size);
        assert_int_equal(s.symmetric, !e[i].asymmetric);
        assert_int_equal(s.act_bits, e[i].act_bits);
    }
    json_decref(j);
    assay_free(text);
}

static void bitsandbytes_has_one_setting(void **state) {
    (void)state;
    assay_quant_entry e[] = {{.weight_name = "a.weight",
                              .precision = ASSAY_PRECISION_NF4,
                              .group_size = 64,
                              .nested = true,
                              .act_bits = 16},
                             {.weight_name = "b.weight",
                              .precision = ASSAY_PRECISION_NF4,
                              .group_size = 64,
                              .nested = true,
                              .act_bits = 16},
                             {.weight_name = "c.weight", .precision = ASSAY_PRECISION_BF16}};
    json_t *j;
    char *text = build(ASSAY_CONVENTION_BNB, e, 3);
    expect_part(text, "\"quant_method\":\"bitsandbytes\"");
    expect_part(text, "\"load_in_4bit\":true,\"load_in_8bit\":false");
    expect_part(text, "\"llm_int8_skip_modules\":[\"c\",\"lm_head\"]");
    expect_part(
        text,
        "\"bnb_4bit_quant_type\":\"nf4\",\"bnb_4bit_use_double_quant\":true,\"bnb_4bit_compute_dtype\":\"bfloat16\"");
    assay_free(text);
    assay_err err = {0};
    e[1].precision = ASSAY_PRECISION_FP4;
    expect_error(assay_quant_config_build(&j, ASSAY_CONVENTION_BNB, e, 3, ASSAY_DTYPE_BF16, &err),
                 ASSAY_EUNSUPPORTED, &err, "a.weight is nf4 and b.weight is fp4");
    err = (assay_err){0};
    expect_error(assay_quant_config_build(&j, ASSAY_CONVENTION_CT, e, 3, ASSAY_DTYPE_BF16, &err),
                 ASSAY_EUNSUPPORTED, &err, "compressed-tensors holds integers and small floats");
    e[0].precision = e[1].precision = ASSAY_PRECISION_BF16;
    assert_int_equal(assay_quant_config_build(&j, ASSAY_CONVENTION_HF, e, 3, ASSAY_DTYPE_BF16, NULL),
                     ASSAY_OK);
    assert_null(j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(originals_are_read_exactly),
        cmocka_unit_test(what_was_read_is_written_with_the_same_bytes),
        cmocka_unit_test(compute_modes_are_those_of_the_formats_home),
        cmocka_unit_test(every_width_and_shape_round_trips),
        cmocka_unit_test(packing_straddles_words),
        cmocka_unit_test(what_a_convention_cannot_hold_is_refused_by_name),
        cmocka_unit_test(conventions_are_told_apart),
        cmocka_unit_test(targets_match_as_python_matches_them),
        cmocka_unit_test(configurations_that_cannot_be_followed_are_refused),
        cmocka_unit_test(damaged_tensors_are_named),
        cmocka_unit_test(nan_codes_are_named),
        cmocka_unit_test(one_way_of_storing_targets_linear),
        cmocka_unit_test(several_ways_are_told_apart_by_patterns_and_names),
        cmocka_unit_test(bitsandbytes_has_one_setting),
    };
    return cmocka_run_group_tests_name("conventions", tests, load_expected, free_expected);
}
