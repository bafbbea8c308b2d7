/* exact and json_call: what counts as right, and what is said of what is wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "eval/suite.h"

/* The record of one answer to one item. options: YAML of the evaluator's options. rest: the item's other keys. */
static void grade(assay_record *r, const char *evaluator, const char *options, const char *rest, const char *output) {
    assay_str yaml = {0}, item = {0};
    assay_err err = {0};
    assay_suite *s = NULL;
    assay_str_printf(&yaml, "suite: s\nversion: 1\nitems: [i]\nevaluators: {%s: %s}\n", evaluator, options);
    assay_str_printf(&item, "{\"id\": \"a\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"p\", \"evaluator\": \"%s\", %s}", evaluator, rest);
    if (assay_suite_parse(&s, yaml.s, yaml.len, item.s, item.len, "s", &err) != ASSAY_OK) fail_msg("%s", err.message);
    memset(r, 0, sizeof *r);
    const assay_evaluator_use *u = &s->evaluators[s->items[0].evaluator];
    assert_int_equal(u->def->grade(r, u->state, &s->items[0], output, &err), ASSAY_OK);
    assay_suite_free(s);
    assay_str_free(&yaml);
    assay_str_free(&item);
}

static void exact_compares_what_was_extracted_after_normalization(void **state) {
    (void)state;
    static const struct { const char *options, *rest, *output; double score; const char *answer; } cases[] = {
        {"{}", "\"answer\": \"71\"", "71", 1, "71"},
        {"{}", "\"answer\": \"71\"", " 71\n", 1, "71"},
        {"{strip: false}", "\"answer\": \"71\"", " 71", 0, " 71"},
        {"{}", "\"answer\": \"71\"", "711", 0, "711"},
        {"{}", "\"answer\": [\"71\", \"seventy-one\"]", "seventy-one", 1, "seventy-one"},
        {"{}", "\"answer\": \"30\", \"extract\": \"Prints (-?[0-9]+)\"", "21, 24, 27, 30. Prints 30", 1, "30"},
        {"{}", "\"answer\": \"30\", \"extract\": \"Prints (-?[0-9]+)\"", "Prints 3. Prints 30", 0, "3"},
        {"{take: last}", "\"answer\": \"30\", \"extract\": \"Prints (-?[0-9]+)\"", "Prints 3. Prints 30", 1, "30"},
        {"{}", "\"answer\": \"7\", \"extract\": \"[0-9]+\"", "it is 7", 1, "7"},
        {"{}", "\"answer\": \"b\", \"extract\": \"(a)?(b)?$\"", "xb", 1, "b"}, /* the first group that is not empty */
        {"{ignore_case: true}", "\"answer\": \"\xc3\x84rger\"", "\xc3\xa4RGER", 1, "\xc3\xa4rger"},
        {"{ignore_punctuation: true}", "\"answer\": \"dont\"", "don't!", 1, "dont"},
        {"{collapse_space: true}", "\"answer\": \"a b\"", "a \t\n b", 1, "a b"},
        {"{ignore: [',', '\\$', '(?s).*#### ', '\\.$']}", "\"answer\": \"#### 1,000\"", "so it is #### $1000.", 1, "1000"}, /* lm-eval's gsm8k */
        {"{numbers: true}", "\"answer\": \"1000\"", "$1,000.0", 1, "$1,000.0"},
        {"{numbers: false}", "\"answer\": \"1000\"", "1000.0", 0, "1000.0"},
        {"{numbers: true}", "\"answer\": \"1000\"", "1000 apples", 0, "1000 apples"},
        {"{}", "\"answer\": \"x\"", "\xff", 0, "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_record r;
        grade(&r, "exact", cases[i].options, cases[i].rest, cases[i].output);
        if (r.score != cases[i].score || strcmp(r.answer, cases[i].answer)) fail_msg("case %zu: %g '%s'", i, r.score, r.answer);
        assert_int_equal(r.outcome, ASSAY_OUTCOME_OK);
        assay_record_deinit(&r);
    }
}

static void an_answer_without_the_pattern_is_invalid(void **state) {
    (void)state;
    assay_record r;
    grade(&r, "exact", "{}", "\"answer\": \"30\", \"extract\": \"Prints ([0-9]+)\"", "thirty");
    assert_int_equal(r.outcome, ASSAY_OUTCOME_INVALID);
    assert_true(r.score == 0);
    assert_null(r.answer);
    assay_record_deinit(&r);
}

#define WANT "\"answer\": {\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true}}"
static void calls_are_compared_by_value(void **state) {
    (void)state;
    static const struct { const char *output; double score; const char *detail; } cases[] = {
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true}}", 1, NULL},
        {"{\"arguments\": {\"now\": true, \"tags\": [1, 2], \"to\": \"Uma\", \"amount\": 12.0}, \"name\": \"pay\"}", 1, NULL},
        {"Sure:\n```json\n{\"name\":\"pay\",\"parameters\":{\"amount\":12,\"to\":\"Uma\",\"tags\":[1,2],\"now\":true}}\n```", 1, NULL},
        {"{\"type\": \"function\", \"function\": {\"name\": \"pay\", \"arguments\": \"{\\\"amount\\\": 12, \\\"to\\\": \\\"Uma\\\", \\\"tags\\\": [1, 2], \\\"now\\\": true}\"}}", 1, NULL},
        {"{x} {\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true}} and more", 1, NULL},
        {"[{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true}}]", 1, NULL},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 13, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true}}", 0, "value_error:arguments.amount"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": \"12\", \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true}}", 0, "type_error:arguments.amount"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"uma\", \"tags\": [1, 2], \"now\": true}}", 0, "value_error:arguments.to"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [2, 1], \"now\": true}}", 0, "value_error:arguments.tags[0]"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": 1}}", 0, "type_error:arguments.now"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": false}}", 0, "value_error:arguments.now"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"tags\": [1, 2], \"now\": true}}", 0, "missing_error:arguments.to"},
        {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12, \"to\": \"Uma\", \"tags\": [1, 2], \"now\": true, \"x\": 1}}", 0, "unexpected_error:arguments.x"},
        {"{\"name\": \"play\", \"arguments\": {}}", 0, "name_error:play"},
        {"[{\"name\": \"pay\", \"arguments\": {}}, {\"name\": \"pay\", \"arguments\": {}}]", 0, "count_error:2 instead of 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_record r;
        grade(&r, "json_call", "{}", WANT, cases[i].output);
        const char *got = r.detail ? r.detail : "", *want = cases[i].detail ? cases[i].detail : "";
        if (r.score != cases[i].score || strcmp(got, want)) fail_msg("case %zu: %g '%s'", i, r.score, got);
        assert_int_equal(r.outcome, ASSAY_OUTCOME_OK);
        assay_record_deinit(&r);
    }
}

static void several_calls_are_a_set(void **state) {
    (void)state;
    assay_record r;
    grade(&r, "json_call", "{}", "\"answer\": [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
          "[{\"name\": \"g\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {\"x\": 1.0}}]");
    assert_true(r.score == 1);
    assay_record_deinit(&r);
    grade(&r, "json_call", "{}", "\"answer\": [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
          "[{\"name\": \"g\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {\"x\": 2}}]");
    assert_true(r.score == 0);
    assay_record_deinit(&r);
}

static void no_call_is_invalid(void **state) {
    (void)state;
    static const struct { const char *output, *detail; } cases[] = {
        {"", "no_call"}, {"I cannot do that.", "no_call"}, {"{\"name\": \"pay\", \"arguments\": {\"amount\": 12", "no_call:the JSON does not parse"},
        {"{\"name\": \"pay\"}", "no_call"}, {"[1, 2]", "no_call"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_record r;
        grade(&r, "json_call", "{}", WANT, cases[i].output);
        assert_int_equal(r.outcome, ASSAY_OUTCOME_INVALID);
        assert_string_equal(r.detail, cases[i].detail);
        assay_record_deinit(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_compares_what_was_extracted_after_normalization), cmocka_unit_test(an_answer_without_the_pattern_is_invalid),
        cmocka_unit_test(calls_are_compared_by_value), cmocka_unit_test(several_calls_are_a_set), cmocka_unit_test(no_call_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
