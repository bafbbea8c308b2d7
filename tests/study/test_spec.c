/* Study files: what a good one gives, and that every mistake is one line with its place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "study/spec.h"

#define HEAD "study: s\nmodel: ../m\nsuite: s.yaml\n"
#define ONE "variants:\n  - {name: a, method: rtn, precision: int4, group_size: 64}\n"

static assay_status parse(assay_study_spec **out, const char *text, assay_err *err) {
    return assay_study_spec_parse(out, text, strlen(text), "s.yaml", "dir", err);
}

static void a_study_is_read_with_its_defaults(void **state) {
    (void)state;
    assay_err err = {0};
    assay_study_spec *s = NULL;
    if (parse(&s, HEAD ONE, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_string_equal(s->name, "s");
    assert_string_equal(s->model, "dir/../m"); /* relative to the file */
    assert_string_equal(s->suite, "dir/s.yaml");
    assert_string_equal(s->baseline.name, "baseline");
    assert_int_equal(s->n_variants, 1);
    assert_string_equal(s->variants[0].name, "a");
    assert_non_null(s->variants[0].recipe);
    assert_true(s->rerun);
    assert_int_equal(s->n_devices, 0);
    assert_int_equal(s->prefer, ASSAY_PREFER_SIZE);
    assay_study_spec_free(s);
}

static void a_study_may_say_everything(void **state) {
    (void)state;
    static const char text[] = "study: all\nmodel: /abs/m\nsuite: s.yaml\nbaseline: {name: bf16, activations: f32, kv: f16}\nrerun: {batch: 3}\n"
        "variants:\n  - {name: a, recipe: 'rtn,int4,group_size=64', activations: int8}\n  - {name: b, path: made, kv: fp8}\n"
        "  - {name: kv4, kv: int4}\n  - {name: both, method: nf4, kv: int8}\n  - {name: line, recipe: nf4, kv: int4}\n"
        "  - {name: c, method: rtn, precision: int8, override: [{match: 'mlp\\.', precision: int4, group_size: 128}]}\n"
        "policy: {margin: 3 pt, required: [math]}\nserving: {context: 4096, concurrency: 4, prompt: 100, output: 50, kv: int8, runtime: vllm}\n"
        "devices: [l4, h100-sxm]\n";
    assay_err err = {0};
    assay_study_spec *s = NULL;
    if (parse(&s, text, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_string_equal(s->model, "/abs/m");
    assert_int_equal(s->baseline.activations, ASSAY_ACT_F32);
    assert_int_equal(s->rerun_batch, 3);
    assert_int_equal(s->variants[0].activations, ASSAY_ACT_INT8);
    assert_int_equal(s->baseline.kv, ASSAY_KV_KIND_F16);
    assert_int_equal(s->variants[0].kv, ASSAY_KV_KIND_AUTO);
    assert_string_equal(s->variants[1].path, "dir/made");
    assert_null(s->variants[1].recipe);
    assert_int_equal(s->variants[1].kv, ASSAY_KV_KIND_FP8);
    assert_string_equal(s->variants[2].path, s->model); /* the model itself, with another cache */
    assert_int_equal(s->variants[2].kv, ASSAY_KV_KIND_INT4);
    assert_non_null(s->variants[3].recipe);
    assert_int_equal(s->variants[3].kv, ASSAY_KV_KIND_INT8);
    assert_non_null(s->variants[4].recipe);
    assert_true(s->policy.margin > 0.0299 && s->policy.margin < 0.0301);
    assert_int_equal(s->serving.context, 4096);
    assert_int_equal(s->n_devices, 2);
    assert_string_equal(s->devices[1]->id, "h100-sxm");
    assay_study_spec_free(s);
}

static void importance_comes_from_a_file_or_the_calibration_or_nowhere(void **state) {
    (void)state;
    static const char variants[] = "variants:\n  - {name: own, method: gguf, imatrix: im/x.gguf}\n  - {name: line, recipe: 'gguf,q4_k_m', imatrix: calibration}\n"
                                   "  - {name: plain, method: gguf, precision: q6_k, imatrix: none}\n  - {name: left, method: gguf}\n";
    char text[600];
    snprintf(text, sizeof text, HEAD "calibration: {data: c.txt}\n%s", variants);
    assay_err err = {0};
    assay_study_spec *s = NULL;
    if (parse(&s, text, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_string_equal(s->variants[0].imatrix, "dir/im/x.gguf"); /* relative to the study's file */
    static const bool calibrates[] = {false, true, false, true};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(assay_variant_calibrates(&s->variants[i]), calibrates[i]);
        if (i) assert_null(s->variants[i].imatrix);
    }
    assay_study_spec_free(s);
}

static void mistakes_are_named_with_their_place(void **state) {
    (void)state;
    static const struct { const char *text, *want; assay_status code; } cases[] = {
        {"", "s.yaml: the file is empty", ASSAY_EINPUT},
        {"study: s\n  bad: [\n", "s.yaml:2: ", ASSAY_EINPUT},
        {HEAD "varients: []\n", "s.yaml:4: unknown key 'varients' in a study, did you mean 'variants'?", ASSAY_EINPUT},
        {"model: m\nsuite: s\n" ONE, "key 'study' is missing", ASSAY_EINPUT},
        {"study: s\nsuite: s\n" ONE, "key 'model' is missing", ASSAY_EINPUT},
        {"study: s\nmodel: m\n" ONE, "key 'suite' is missing", ASSAY_EINPUT},
        {HEAD, "variants must be a list", ASSAY_EINPUT},
        {HEAD "variants: []\n", "s.yaml:4: the study has no variants", ASSAY_EINPUT},
        {HEAD "variants: [{method: rtn, precision: int8}]\n", "s.yaml:4: key 'name' is missing", ASSAY_EINPUT},
        {HEAD "variants: [{name: a/b, method: rtn, precision: int8}]\n", "'a/b' is no name", ASSAY_EINPUT},
        {HEAD ONE "  - {name: a, method: nf4}\n", "s.yaml:6: the name 'a' is given twice", ASSAY_EINPUT},
        {HEAD "baseline: {name: a}\n" ONE, "the name 'a' is given twice", ASSAY_EINPUT},
        {HEAD "variants:\n  - name: a\n    method: rtn\n    precision: int4\n    group_sise: 64\n",
         "s.yaml:8: unknown key 'group_sise' in recipe, did you mean 'group_size'?", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: magic}]\n", "s.yaml:4: ", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, path: x, method: rtn}]\n", "s.yaml:4: unknown key 'method' in a variant with a path", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, recipe: 'rtn,int8', mse: true}]\n", "s.yaml:4: 'mse' belongs into the line of `recipe`", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, recipe: 'rtn,int9'}]\n", "s.yaml:4: ", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: nf4, kv: int5}]\n", "s.yaml:4: kv must be one of auto, f32, bf16, f16, int8, fp8, int4", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: rtn, precision: int8, activations: int7}]\n", "s.yaml:4: activations must be", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, endpoint: 'http://x'}]\n", "s.yaml:4: endpoint variants are not in this build", ASSAY_EUNSUPPORTED},
        {HEAD "calibration: {samples: 4}\n" ONE, "data", ASSAY_EINPUT},
        {HEAD ONE "policy: {margn: 2 pt}\n", "s.yaml:6: ", ASSAY_EINPUT},
        {HEAD ONE "policy: {margin: much}\n", "s.yaml:6: ", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, path: x, imatrix: i.gguf}]\n", "s.yaml:4: 'imatrix' is for variants that are made; this one has a path", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, path: x, recipe: nf4}]\n", "'recipe' is for variants that are made", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, path: x, target_bpw: 4}]\n", "'target_bpw' is for variants that are made", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: nf4, imatrix: i.gguf}]\n", "s.yaml:4: imatrix is for method gguf", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, recipe: 'rtn,int8', imatrix: none}]\n", "s.yaml:4: imatrix is for method gguf", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: gguf, imatrix: calibration}]\n", "s.yaml:4: imatrix: calibration needs", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: gguf, imatrix: [x]}]\n", "s.yaml:4: imatrix", ASSAY_EINPUT},
        {HEAD "variants: [{name: a, method: gguf, imatrix: }]\n", "s.yaml:4: imatrix must be a file, calibration or none", ASSAY_EINPUT},
        {HEAD ONE "devices: [h100-smx]\n", "s.yaml:6: ", ASSAY_EINPUT},
        {HEAD ONE "serving: {contxt: 1}\n", "s.yaml:6: unknown key 'contxt' in serving, did you mean 'context'?", ASSAY_EINPUT},
        {HEAD ONE "serving: {context: -1}\n", "s.yaml:6: context must be from 1", ASSAY_EINPUT},
        {HEAD ONE "rerun: maybe\n", "s.yaml:6: rerun must be true or false", ASSAY_EINPUT},
        {HEAD ONE "research: maybe\n", "s.yaml:6: research must be exclude or allow, not 'maybe'", ASSAY_EINPUT},
        {HEAD ONE "prefer: cost\n", "s.yaml:6: prefer: cost needs devices and prices", ASSAY_EINPUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_err err = {0};
        assay_study_spec *s = NULL;
        assay_status got = parse(&s, cases[i].text, &err);
        if (got != cases[i].code || !strstr(err.message, cases[i].want))
            fail_msg("case %zu: status %d, '%s' does not contain '%s'", i, got, err.message, cases[i].want);
        assert_null(s);
    }
}

/* What the store keeps of a study is its file as JSON; reading that back gives the same study. */
static void the_source_survives_json(void **state) {
    (void)state;
    static const char text[] = HEAD "variants:\n  - {name: '8', method: rtn, precision: int8, override: [{match: 'mlp\\.\"x', precision: int4}]}\n"
                                    "policy: {margin: 2 pt, confidence: 0.9, waivers: [{slice: math/a, who: w, why: y, expires: 2027-01-31}]}\n";
    assay_err err = {0};
    assay_study_spec *a = NULL, *b = NULL;
    assay_str dump = {0};
    if (parse(&a, text, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_json_dump(&dump, a->source, 1, false, &err), ASSAY_OK);
    if (assay_study_spec_parse(&b, dump.s, dump.len, "again", "dir", &err) != ASSAY_OK) fail_msg("%s", err.message);
    char ha[65], hb[65];
    assert_int_equal(assay_recipe_hash(ha, a->variants[0].recipe, &err), ASSAY_OK);
    assert_int_equal(assay_recipe_hash(hb, b->variants[0].recipe, &err), ASSAY_OK);
    assert_string_equal(ha, hb);
    json_t *pa = assay_policy_to_json(&a->policy), *pb = assay_policy_to_json(&b->policy);
    assert_true(json_equal(pa, pb));
    json_decref(pa);
    json_decref(pb);
    assay_str_free(&dump);
    assay_study_spec_free(a);
    assay_study_spec_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_study_is_read_with_its_defaults), cmocka_unit_test(a_study_may_say_everything),
        cmocka_unit_test(importance_comes_from_a_file_or_the_calibration_or_nowhere),
        cmocka_unit_test(mistakes_are_named_with_their_place), cmocka_unit_test(the_source_survives_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
