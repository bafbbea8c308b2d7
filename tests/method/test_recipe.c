/* test_recipe.c: reading recipes from YAML and from one line, their defaults, overrides and errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "method/recipe.h"

static assay_recipe *yaml(const char *text, assay_err *err) {
    assay_yaml_doc *d;
    assay_recipe *r = NULL;
    if (assay_yaml_parse(&d, text, strlen(text), "r.yaml", err) != ASSAY_OK) return NULL;
    assay_recipe_from_yaml(&r, d, assay_yaml_root(d), NULL, 0, err);
    assay_yaml_free(d);
    return r;
}

static assay_choice choose(const assay_recipe *r, const char *name, bool linear) {
    assay_tensor_spec spec = {.is_linear = linear, .rows = 4, .cols = 4};
    assay_choice c;
    snprintf(spec.name, sizeof spec.name, "%s", name);
    assert_int_equal(assay_recipe_choose(&c, r, &spec, NULL), ASSAY_OK);
    return c;
}

#define UP "model.layers.3.mlp.up_proj.weight"
#define Q  "model.layers.3.self_attn.q_proj.weight"

static void defaults_follow_from_method_and_precision(void **state) {
    (void)state;
    static const struct {
        const char *text;
        assay_choice want;
    } cases[] = {
        {"method: rtn", {.method = ASSAY_METHOD_RTN, .precision = ASSAY_PRECISION_INT8}},
        {"{method: rtn, precision: int4}",
         {.method = ASSAY_METHOD_RTN, .precision = ASSAY_PRECISION_INT4, .group_size = 128}},
        {"{method: rtn, precision: int4g32}",
         {.method = ASSAY_METHOD_RTN, .precision = ASSAY_PRECISION_INT4, .group_size = 32}},
        {"{method: rtn, precision: int3, group_size: channel, symmetric: false, mse: true}",
         {.method = ASSAY_METHOD_RTN, .precision = ASSAY_PRECISION_INT3, .asymmetric = true, .mse = true}},
        {"{method: rtn, precision: int2, group_size: -1}",
         {.method = ASSAY_METHOD_RTN, .precision = ASSAY_PRECISION_INT2}},
        {"method: llm_int8",
         {.method = ASSAY_METHOD_LLM_INT8, .precision = ASSAY_PRECISION_INT8, .threshold = 6.0}},
        {"{method: llm_int8, threshold: 0}",
         {.method = ASSAY_METHOD_LLM_INT8, .precision = ASSAY_PRECISION_INT8, .threshold = 0}},
        {"{method: nf4, double_quant: true}",
         {.method = ASSAY_METHOD_NF4,
          .precision = ASSAY_PRECISION_NF4,
          .group_size = 64,
          .double_quant = true}},
        {"{method: fp4, group_size: 128}",
         {.method = ASSAY_METHOD_FP4, .precision = ASSAY_PRECISION_FP4, .group_size = 128}},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_recipe *r = yaml(cases[i].text, &err);
        if (!r) fail_msg("%s: %s", cases[i].text, err.message);
        assay_choice c = choose(r, UP, true), w = cases[i].want;
        assert_int_equal(c.method, w.method);
        assert_int_equal(c.precision, w.precision);
        assert_int_equal(c.group_size, w.group_size);
        assert_int_equal(c.asymmetric, w.asymmetric);
        assert_int_equal(c.mse, w.mse);
        assert_int_equal(c.double_quant, w.double_quant);
        assert_true(c.threshold == w.threshold);
        assay_recipe_free(r);
    }
}

static void overrides_inherit_and_the_last_wins(void **state) {
    (void)state;
    assay_recipe *r = yaml("method: rtn\n"
                           "precision: int8\n"
                           "override:\n"
                           "  - {match: 'mlp\\.', precision: int4}\n"
                           "  - {match: 'layers\\.3\\..*up_proj', symmetric: false}\n"
                           "  - {match: 'k_proj', method: none}\n",
                           NULL);
    assert_non_null(r);
    assay_choice c = choose(r, "model.layers.2.mlp.up_proj.weight", true);
    assert_int_equal(c.precision, ASSAY_PRECISION_INT4);
    assert_int_equal(c.group_size, 128); /* int4's default, since int8's was not given */
    assert_false(c.asymmetric);
    c = choose(r, UP,
               true); /* the later override lies over the model's options, not over the earlier override */
    assert_int_equal(c.precision, ASSAY_PRECISION_INT8);
    assert_true(c.asymmetric);
    assert_int_equal(choose(r, Q, true).precision, ASSAY_PRECISION_INT8);
    assert_int_equal(choose(r, "model.layers.3.self_attn.k_proj.weight", true).method, ASSAY_METHOD_NONE);
    assay_recipe_free(r);
}

static void another_method_in_an_override_starts_from_its_own_defaults(void **state) {
    (void)state;
    assay_recipe *r =
        yaml("{method: rtn, precision: int4g32, mse: true, override: [{match: up, method: nf4}]}", NULL);
    assert_non_null(r);
    assay_choice c = choose(r, UP, true);
    assert_int_equal(c.method, ASSAY_METHOD_NF4);
    assert_int_equal(c.group_size, 64);
    assert_false(c.mse);
    assay_recipe_free(r);
}

static void only_decoder_matrices_unless_matched_by_name(void **state) {
    (void)state;
    assay_recipe *r =
        yaml("{method: rtn, override: [{match: '^lm_head', precision: int6}], skip: ['\\.0\\.']}", NULL);
    assert_non_null(r);
    assert_int_equal(choose(r, "model.embed_tokens.weight", false).method, ASSAY_METHOD_NONE);
    assert_int_equal(choose(r, "lm_head.weight", false).precision, ASSAY_PRECISION_INT6);
    assert_int_equal(choose(r, "model.layers.0.mlp.up_proj.weight", true).method, ASSAY_METHOD_NONE);
    assert_int_equal(choose(r, UP, true).method, ASSAY_METHOD_RTN);
    assay_tensor_spec norm = {.name = "lm_head.norm.weight", .is_vector = true};
    assay_choice c;
    assert_int_equal(assay_recipe_choose(&c, r, &norm, NULL), ASSAY_OK);
    assert_int_equal(c.method, ASSAY_METHOD_NONE); /* a vector, whatever matches */
    assay_recipe_free(r);
}

static void skip_beats_override(void **state) {
    (void)state;
    assay_recipe *r =
        yaml("{method: rtn, skip: [up_proj], override: [{match: up_proj, precision: int4}]}", NULL);
    assert_int_equal(choose(r, UP, true).method, ASSAY_METHOD_NONE);
    assay_recipe_free(r);
}

static void one_line_means_the_same_as_yaml(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"rtn", "method: rtn"},
        {"rtn,int4g128,symmetric=false,mse",
         "{method: rtn, precision: int4, group_size: 128, symmetric: false, mse: true}"},
        {"method=rtn,precision=int8;match=mlp\\.,precision=int4,group_size=128",
         "{method: rtn, precision: int8, override: [{match: 'mlp\\.', precision: int4, group_size: 128}]}"},
        {"nf4,double_quant", "{method: nf4, double_quant: true}"},
        {"q4_k_m", "{method: gguf, precision: q4_k_m}"},
        {"gguf,Q4_K_M", "{method: gguf, precision: q4_k_m}"},
        {"method=gguf,q8_0", "{method: gguf, precision: q8_0}"},
        {"Q8_0;match=mlp,q6_k", "{method: gguf, precision: q8_0, override: [{match: mlp, precision: q6_k}]}"},
        {"llm_int8,threshold=5.5,skip=layers\\.0\\.",
         "{method: llm_int8, threshold: 5.5, skip: ['layers\\.0\\.']}"},
        {"rtn;match=it's,int4;match=b,none",
         "{method: rtn, override: [{match: \"it's\", precision: int4}, {match: b, method: none}]}"},
    };
    for (size_t i = 0; i < ASSAY_LEN(pairs); i++) {
        assay_err err = {0};
        assay_recipe *a = NULL, *b = yaml(pairs[i][1], &err);
        char x[65], y[65];
        if (assay_recipe_from_string(&a, pairs[i][0], &err) != ASSAY_OK || !b)
            fail_msg("%s: %s", pairs[i][0], err.message);
        assert_int_equal(assay_recipe_hash(x, a, NULL), ASSAY_OK);
        assert_int_equal(assay_recipe_hash(y, b, NULL), ASSAY_OK);
        assert_string_equal(x, y);
        assay_recipe_free(a);
        assay_recipe_free(b);
    }
}

static void canonical_json_writes_every_option_out(void **state) {
    (void)state;
    assay_recipe *r = yaml("{method: rtn, override: [{match: mlp, precision: int4}], skip: [k_proj]}", NULL);
    assay_str b = {0};
    json_t *j = assay_recipe_to_json(r);
    assert_int_equal(assay_json_dump(&b, j, 0, true, NULL), ASSAY_OK);
    assert_string_equal(
        b.s,
        "{\"format\":\"auto\",\"group_size\":0,\"method\":\"rtn\",\"mse\":false,\"override\":[{\"format\":\"auto\",\"group_size\":128,\"match\":"
        "\"mlp\","
        "\"method\":\"rtn\",\"mse\":false,\"precision\":\"int4\",\"symmetric\":true}],\"precision\":\"int8\","
        "\"skip\":[\"k_proj\"],\"symmetric\":true}");
    json_decref(j);
    assay_str_clear(&b);
    assay_recipe_describe(&b, r);
    assert_string_equal(b.s, "rtn int8 + 1 override - 1 skip");
    assay_str_free(&b);
    assay_recipe_free(r);
}

/* Each broken recipe gives one line that names place and cause. */
static void errors_name_line_and_cause(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"precision: int4", "r.yaml:1: a recipe needs a method"},
        {"method: rnt", "r.yaml:1: unknown method 'rnt', did you mean 'rtn'?"},
        {"method: awesome-quantizer", "known are rtn llm_int8 nf4 fp4"},
        {"method: rtn\nprecison: int4",
         "r.yaml:2: unknown key 'precison' in recipe, did you mean 'precision'?"},
        {"method: rtn\noverride:\n  - {match: x, group: 64}", "r.yaml:3: unknown key 'group' in override"},
        {"method: rtn\noverride:\n  - {precision: int4}", "r.yaml:3: an override needs a pattern"},
        {"method: rtn\noverride: {match: x}", "override must be a list, not a mapping"},
        {"method: rtn\noverride:\n  - {match: '(', precision: int4}", "r.yaml:3: bad pattern '('"},
        {"method: rtn\nskip: ['[']", "r.yaml:2: bad pattern '['"},
        {"{method: rtn, precision: int9}", "unknown precision 'int9'"},
        {"{method: rtn, precision: nf4}", "method rtn: precision must be int2 to int8"},
        {"{method: rtn, group_size: wide}",
         "group_size must be a number of columns or 'channel', not 'wide'"},
        {"{method: rtn, threshold: 6}", "threshold does nothing for method rtn"},
        {"{method: nf4, group_size: 100}", "method nf4: group_size must be a power of two"},
        {"{method: nf4, precision: fp4}", "method nf4: precision can only be the method's own"},
        {"{method: llm_int8, precision: int4}", "method llm_int8: precision can only be int8"},
        {"{method: llm_int8, threshold: -1}", "threshold must be from 0"},
        {"{method: rtn, mse: maybe}", "mse must be true or false, not 'maybe'"},
        {"[rtn]", "a recipe must be a mapping, not a list"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_recipe *r = yaml(cases[i][0], &err);
        if (r) fail_msg("accepted: %s", cases[i][0]);
        assert_int_equal(err.code, ASSAY_EINPUT);
        if (!strstr(err.message, cases[i][1]))
            fail_msg("%s\n   gave: %s\n wanted: %s", cases[i][0], err.message, cases[i][1]);
    }
}

static void one_line_errors(void **state) {
    (void)state;
    static const char *const cases[] = {"",
                                        ",",
                                        "rtn,",
                                        "rtn;",
                                        "rtn;;",
                                        "rtn,precision=in{t}",
                                        "rtn,Precision=int4",
                                        "rtn,int4g0",
                                        "rtn,=4",
                                        "rtn;match=",
                                        "bogus",
                                        "rtn,nonsense"};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_recipe *r = NULL;
        if (assay_recipe_from_string(&r, cases[i], &err) != ASSAY_EINPUT)
            fail_msg("'%s' was not refused", cases[i]);
        assert_null(r);
        assert_true(err.message[0]);
    }
}

static void a_study_reads_its_own_keys_beside(void **state) {
    (void)state;
    static const char *const also[] = {"name"};
    const char *text = "{name: mixed, method: nf4, nome: x}";
    assay_yaml_doc *d;
    assay_err err = {0};
    assay_recipe *r;
    assert_int_equal(assay_yaml_parse(&d, text, strlen(text), "s.yaml", &err), ASSAY_OK);
    assert_int_equal(assay_recipe_from_yaml(&r, d, assay_yaml_root(d), also, 1, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "unknown key 'nome' in recipe, did you mean 'name'?"));
    assay_yaml_free(d);
    assert_int_equal(assay_yaml_parse(&d, text, 26, "s.yaml", NULL), ASSAY_EINPUT); /* cut in the middle */
    text = "{name: mixed, method: nf4}";
    assert_int_equal(assay_yaml_parse(&d, text, strlen(text), "s.yaml", NULL), ASSAY_OK);
    assert_int_equal(assay_recipe_from_yaml(&r, d, assay_yaml_root(d), also, 1, NULL), ASSAY_OK);
    assay_recipe_free(r);
    assay_yaml_free(d);
}

static void sizes_from_the_shape_alone(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        double per_weight; /* bits, of a 4096 x 4096 matrix */
    } cases[] = {
        {"rtn", 8 + 16.0 / 4096},
        {"rtn,int4g128", 4 + 16.0 / 128},
        {"rtn,int4g128,symmetric=false", 4 + (16.0 + 4) / 128},
        {"llm_int8", 8 + 32.0 / 4096},
        {"none", 16},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_recipe *r;
        assert_int_equal(assay_recipe_from_string(&r, cases[i].recipe, NULL), ASSAY_OK);
        assay_choice c = choose(r, UP, true);
        double codes, scales, all = assay_choice_bits(&c, 4096, 4096, ASSAY_DTYPE_BF16, &codes, &scales);
        assert_true(all == codes + scales);
        if (all / 4096 / 4096 != cases[i].per_weight)
            fail_msg("%s: %.9g bits per weight", cases[i].recipe, all / 4096 / 4096);
        assay_recipe_free(r);
    }
    assay_recipe *r; /* QLoRA: 0.127 bits per weight for the scales with double quantization */
    assert_int_equal(assay_recipe_from_string(&r, "nf4,double_quant", NULL), ASSAY_OK);
    assay_choice c = choose(r, UP, true);
    double scales;
    assay_choice_bits(&c, 4096, 4096, ASSAY_DTYPE_BF16, NULL, &scales);
    assert_float_equal(scales / 4096 / 4096, 8.0 / 64 + 32.0 / 64 / 256, 0.001);
    assay_recipe_free(r);
}

static void running_out_of_memory_is_reported(void **state) {
    (void)state;
    assay_recipe *r = NULL;
    long n = 0;
    for (;; n++) {
        assay_err err = {0};
        assay_mem_fail_after(n);
        assay_status s = assay_recipe_from_string(&r, "rtn,int8;match=mlp,int4;match=x,none", &err);
        assay_mem_fail_after(-1);
        if (s == ASSAY_OK) break;
        assert_int_equal(s, ASSAY_ENOMEM);
        assert_null(r);
    }
    assert_true(n > 5);
    assay_recipe_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_follow_from_method_and_precision),
        cmocka_unit_test(overrides_inherit_and_the_last_wins),
        cmocka_unit_test(another_method_in_an_override_starts_from_its_own_defaults),
        cmocka_unit_test(only_decoder_matrices_unless_matched_by_name),
        cmocka_unit_test(skip_beats_override),
        cmocka_unit_test(one_line_means_the_same_as_yaml),
        cmocka_unit_test(canonical_json_writes_every_option_out),
        cmocka_unit_test(errors_name_line_and_cause),
        cmocka_unit_test(one_line_errors),
        cmocka_unit_test(a_study_reads_its_own_keys_beside),
        cmocka_unit_test(sizes_from_the_shape_alone),
        cmocka_unit_test(running_out_of_memory_is_reported),
    };
    return cmocka_run_group_tests_name("recipe", tests, NULL, NULL);
}
