/* test_policy.c: what a policy may say, what each mistake is told, and that writing and reading it changes
 * nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "gate/policy.h"

static assay_status parse(assay_policy *p, const char *yaml, assay_err *e) {
    assay_yaml_doc *d = NULL;
    assay_status s = assay_yaml_parse(&d, yaml, strlen(yaml), "study.yaml", e);
    if (s == ASSAY_OK) s = assay_policy_from_yaml(p, d, assay_yaml_find(assay_yaml_root(d), "policy"), e);
    else
        memset(p, 0, sizeof *p);
    assay_yaml_free(d);
    return s;
}

static const char full[] =
    "policy:\n"
    "  margin: 2 pt\n"
    "  slice_margin: 4pp\n"
    "  confidence: 0.99\n"
    "  power: 0.9\n"
    "  alarm_alpha: 0.01\n"
    "  interval: newcombe\n"
    "  required: [structured, math]\n"
    "  max_output_length_ratio: 1.1\n"
    "  max_truncated_rate: 2 %\n"
    "  max_invalid_rate: 0.01\n"
    "  max_error_rate: 1 pt\n"
    "  perplexity_margin: 5 %\n"
    "  kl_margin: 0.02\n"
    "  agreement_margin: 5 pt\n"
    "  bootstrap_replicates: 500\n"
    "  seed: 7\n"
    "  dimensions:\n"
    "    math: {margin: 1 pt, slice_margin: 3 pt, slices: {add3: 6 pt}}\n"
    "    recall: 0.03\n"
    "  waivers:\n"
    "    - {slice: recall/24 keys, who: a.person, why: \"long context, fixed in 2.1\", expires: 2026-12-31}\n"
    "    - {dimension: code, who: b, why: c}\n";

static void everything_is_read(void **state) {
    (void)state;
    assay_policy p;
    assay_err e = {0};
    if (parse(&p, full, &e) != ASSAY_OK) fail_msg("%s", e.message);
    assert_true(p.margin == 0.02 && p.slice_margin == 0.04 && p.confidence == 0.99 && p.power == 0.9 &&
                p.alarm_alpha == 0.01);
    assert_int_equal(p.interval, ASSAY_INTERVAL_NEWCOMBE);
    assert_int_equal(p.n_required, 2);
    assert_string_equal(p.required[1], "math");
    assert_true(p.max_output_length_ratio == 1.1 && p.max_truncated_rate == 0.02 &&
                p.max_invalid_rate == 0.01 && p.max_error_rate == 0.01);
    assert_true(p.perplexity_margin == 0.05 && p.kl_margin == 0.02 && p.agreement_margin == 0.05);
    assert_true(p.bootstrap_replicates == 500 && p.seed == 7);
    assert_int_equal(p.n_rules, 4);
    assert_string_equal(p.rules[2].slice, "add3");
    assert_true(p.rules[2].margin == 0.06 && p.rules[3].margin == 0.03 && !p.rules[3].for_slices);
    assert_int_equal(p.n_waivers, 2);
    assert_string_equal(p.waivers[0].dimension, "recall");
    assert_string_equal(p.waivers[0].slice, "24 keys");
    assert_string_equal(p.waivers[0].why, "long context, fixed in 2.1");
    assert_null(p.waivers[1].slice);
    assert_null(p.waivers[1].expires);
    assay_policy_deinit(&p);
}

static void nothing_is_the_default(void **state) {
    (void)state;
    assay_policy p;
    assay_err e = {0};
    assert_int_equal(parse(&p, "study: x\n", &e), ASSAY_OK);
    assert_true(p.margin == 0.02 && p.slice_margin == 0.04 && p.confidence == 0.95 && p.power == 0.8 &&
                p.alarm_alpha == 0.05);
    assert_true(isnan(p.max_output_length_ratio) && isnan(p.kl_margin) && p.max_error_rate == 0);
    assay_policy_deinit(&p);
    assert_int_equal(assay_policy_from_json(&p, NULL, "x", &e), ASSAY_OK);
    assert_true(p.margin == 0.02);
    assay_policy_deinit(&p);
}

static void json_and_back(void **state) {
    (void)state;
    const char *const texts[] = {full, "study: x\n"};
    for (size_t i = 0; i < 2; i++) {
        assay_policy p, q;
        assay_err e = {0};
        assert_int_equal(parse(&p, texts[i], &e), ASSAY_OK);
        json_t *j = assay_policy_to_json(&p);
        assert_non_null(j);
        if (assay_policy_from_json(&q, j, "policy", &e) != ASSAY_OK) fail_msg("%s", e.message);
        json_t *k = assay_policy_to_json(&q);
        assert_true(json_equal(j, k));
        json_decref(j);
        json_decref(k);
        assay_policy_deinit(&p);
        assay_policy_deinit(&q);
    }
}

static void mistakes_are_told_with_their_line(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"policy:\n  margn: 2 pt\n", "study.yaml:2: unknown key 'margn' in policy, did you mean 'margin'?"},
        {"policy:\n  power: 0.8\n  margin: 2 %\n",
         "study.yaml:3: margin: '2 %' could be relative: write points, like '2 pt'"},
        {"policy:\n  margin: two\n",
         "study.yaml:2: margin must be points like '2 pt', or a fraction, not 'two'"},
        {"policy:\n  margin: 2\n",
         "study.yaml:2: margin must be from 1e-06 to 1, not 2: for points write 'pt' after it"},
        {"policy:\n  margin: 0\n", "study.yaml:2: margin must be from 1e-06 to 1, not 0"},
        {"policy:\n  confidence: 95 %\n", "study.yaml:2: confidence must be a number, not '95 %'"},
        {"policy:\n  confidence: 0.2\n", "study.yaml:2: confidence must be from 0.5 to 0.99999, not 0.2"},
        {"policy:\n  margin: nan\n", "study.yaml:2: margin must be points"},
        {"policy:\n  margin: [2]\n", "study.yaml:2: margin must be a single value, not a list"},
        {"policy:\n  interval: wald\n",
         "study.yaml:2: interval must be auto, tango, newcombe, t or bootstrap, not 'wald'"},
        {"policy:\n  required: math\n", "study.yaml:2: required must be a list, not a single value"},
        {"policy:\n  dimensions:\n    math: {slice_margn: 2 pt}\n",
         "study.yaml:3: unknown key 'slice_margn' in math"},
        {"policy:\n  waivers:\n    - {slice: math/add2, who: x}\n",
         "study.yaml:3: a waiver must say who gave it and why"},
        {"policy:\n  waivers:\n    - {slice: add2, who: x, why: y}\n",
         "a waiver's slice is written DIMENSION/SLICE, not 'add2'"},
        {"policy:\n  waivers:\n    - {who: x, why: y}\n", "a waiver names either"},
        {"policy:\n  waivers:\n    - {slice: a/b, dimension: a, who: x, why: y}\n", "a waiver names either"},
        {"policy:\n  waivers:\n    - {slice: a/b, who: x, why: y, expires: soon}\n",
         "expires must be a date like 2026-12-31, not 'soon'"},
        {"policy:\n  waivers:\n    - {slice: a/b, who: x, why: y, expires: 2026-13-01}\n",
         "expires must be a date"},
        {"policy:\n  required: [math]\n  waivers:\n    - {slice: math/b, who: x, why: y}\n",
         "study.yaml:4: dimension 'math' is required and cannot be waived"},
        {"policy: [1]\n", "study.yaml:1: policy must be a mapping, not a list"},
        {"policy:\n  bootstrap_replicates: 5\n", "bootstrap_replicates must be from 100 to 1000000, not 5"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_policy p;
        assay_err e = {0};
        if (parse(&p, cases[i][0], &e) != ASSAY_EINPUT) fail_msg("case %zu was taken: %s", i, cases[i][0]);
        if (!strstr(e.message, cases[i][1])) fail_msg("'%s' lacks '%s'", e.message, cases[i][1]);
        assay_policy_deinit(&p); /* harmless after a failure */
    }
    assay_policy p;
    assay_err e = {0};
    json_t *j = json_pack("{s:f}", "margn", 0.1);
    assert_int_equal(assay_policy_from_json(&p, j, "stored policy", &e), ASSAY_EINPUT);
    assert_non_null(strstr(e.message, "stored policy"));
    json_decref(j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_read),
        cmocka_unit_test(nothing_is_the_default),
        cmocka_unit_test(json_and_back),
        cmocka_unit_test(mistakes_are_told_with_their_line),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
