/* Reading suites: what a good file gives, and that every kind of mistake is one line with its place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "eval/suite.h"

#define HEAD "suite: s\nversion: 1\nitems: [items.jsonl]\n"
#define ITEM(id, rest) "{\"id\": \"" id "\", \"dimension\": \"math\", \"slice\": \"add\", \"prompt\": \"1+1=\", " rest "}\n"
#define GOOD(id) ITEM(id, "\"answer\": \"2\", \"evaluator\": \"exact\"")

static assay_status parse(assay_suite **out, const char *yaml, const char *items, assay_err *err) {
    return assay_suite_parse(out, yaml, strlen(yaml), items, strlen(items), "s.yaml", err);
}

static assay_suite *must_parse(const char *yaml, const char *items) {
    assay_err err = {0};
    assay_suite *s = NULL;
    if (parse(&s, yaml, items, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return s;
}

static void a_suite_is_read_with_its_defaults(void **state) {
    (void)state;
    assay_suite *s = must_parse(HEAD, GOOD("a") "\n" GOOD("b"));
    assert_string_equal(s->name, "s");
    assert_string_equal(s->version, "1");
    assert_int_equal(s->n_items, 2);
    assert_false(s->chat);
    assert_string_equal(s->delimiter, " ");
    assert_int_equal(s->max_tokens, 256);
    assert_int_equal(s->n_dimensions, 1);
    assert_string_equal(s->items[1].id, "b");
    assert_string_equal(s->items[1].answers[0], "2");
    assert_string_equal(s->evaluators[s->items[0].evaluator].def->name, "exact");
    assay_suite_free(s);
}

static void the_limit_keeps_the_first_items_of_each_slice(void **state) {
    (void)state;
    assay_suite *s = must_parse(HEAD "limit: 1\n", GOOD("a") GOOD("b")
        "{\"id\": \"c\", \"dimension\": \"math\", \"slice\": \"sub\", \"prompt\": \"p\", \"answer\": 3, \"evaluator\": \"exact\"}\n");
    assert_int_equal(s->n_items, 2);
    assert_string_equal(s->items[0].id, "a");
    assert_string_equal(s->items[1].id, "c");
    assert_string_equal(s->items[1].answers[0], "3");
    assay_suite_free(s);
}

/* The identity follows what changes a score, and nothing else. */
static void the_hash_is_of_what_matters(void **state) {
    (void)state;
    static const struct { const char *yaml, *items; bool same; } cases[] = {
        {"version: 1\nsuite: s\nitems: items.jsonl\nmax_tokens: 256 # the default\n", GOOD("a"), true},
        {HEAD, ITEM("a", "\"evaluator\": \"exact\", \"answer\": \"2\", \"meta\": {\"source\": \"mine\"}"), true},
        {HEAD "evaluators: {exact: {ignore_case: false}}\n", GOOD("a"), true},
        {HEAD "evaluators: {exact: {ignore_case: true}}\n", GOOD("a"), false},
        {HEAD "max_tokens: 255\n", GOOD("a"), false},
        {HEAD "stop: [x]\n", GOOD("a"), false},
        {HEAD "chat: true\n", GOOD("a"), false},
        {HEAD, GOOD("b"), false},
        {HEAD, GOOD("a") GOOD("b"), false},
        {HEAD, ITEM("a", "\"answer\": \"3\", \"evaluator\": \"exact\""), false},
        {"suite: s\nversion: 2\nitems: [items.jsonl]\n", GOOD("a"), false},
    };
    assay_suite *first = must_parse(HEAD, GOOD("a"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_suite *s = must_parse(cases[i].yaml, cases[i].items);
        if (!strcmp(s->hash, first->hash) != cases[i].same) fail_msg("case %zu: the hash %s", i, cases[i].same ? "changed" : "did not change");
        assay_suite_free(s);
    }
    assay_suite_free(first);
}

static void mistakes_are_named_with_their_place(void **state) {
    (void)state;
    static const struct { const char *yaml, *items, *want; } cases[] = {
        {"", GOOD("a"), "s.yaml: the file is empty"},
        {"suite: [\n", GOOD("a"), "s.yaml:2: "},
        {"- x\n", GOOD("a"), "s.yaml:1: a suite must be a mapping"},
        {HEAD "itms: x\n", GOOD("a"), "s.yaml:4: unknown key 'itms' in a suite, did you mean 'items'?"},
        {"suite: s\nitems: [items.jsonl]\n", GOOD("a"), "no version"},
        {"suite: s\nversion: 1\n", "", "s.yaml:1: the suite is empty"},
        {HEAD, "", "items.jsonl: the file has no lines"},
        {HEAD "max_tokens: many\n", GOOD("a"), "s.yaml:4: max_tokens must be a whole number"},
        {HEAD "evaluators: {exakt: {}}\n", GOOD("a"), "s.yaml:4: unknown evaluator 'exakt', did you mean 'exact'?"},
        {HEAD "evaluators:\n  exact:\n    ignore_cas: true\n", GOOD("a"), "s.yaml:6: unknown key 'ignore_cas' in the options of exact, did you mean 'ignore_case'?"},
        {HEAD "evaluators: {exact: {take: middle}}\n", GOOD("a"), "s.yaml:4: take must be one of: first last"},
        {HEAD "evaluators: {exact: {ignore: ['(']}}\n", GOOD("a"), "s.yaml:4: bad pattern '('"},
        {HEAD "dimensions: [math, cod]\n", GOOD("a"), "dimension 'cod' has no items"},
        {HEAD "dimensions: [code]\n", GOOD("a"), "items.jsonl:1: dimension 'math' is not one that the suite lists"},
        {HEAD "dimensions: [math]\nslices: {math: [sub]}\n", GOOD("a"), "items.jsonl:1: slice 'add' is not one"},
        {HEAD "few_shot: {count: 2}\n", GOOD("a"), "s.yaml:4: few_shot needs file and count"},
        {HEAD "language: {prose: {file: p.txt, evaluators: [exact]}}\n", GOOD("a"), "s.yaml:4: exact works on items"},
        {HEAD "language: {prose: {file: p.txt, evaluators: [kll]}}\n", GOOD("a"), "s.yaml:4: unknown evaluator 'kll'"},
        {HEAD "language: {prose: {file: p.txt}}\n", GOOD("a"), "s.yaml:4: evaluators must be a list"},
        {HEAD, GOOD("a") GOOD("b") GOOD("a"), "items.jsonl:3: the id 'a' is taken"},
        {HEAD, GOOD("a") "{\"id\": \n", "items.jsonl:2: column"},
        {HEAD, GOOD("a") "7\n", "items.jsonl:2: a line must be a JSON object"},
        {HEAD, ITEM("a", "\"anwser\": \"2\", \"evaluator\": \"exact\""), "items.jsonl:1: unknown key 'anwser', did you mean 'answer'?"},
        {HEAD, ITEM("a", "\"evaluator\": \"exact\""), "items.jsonl:1: key 'answer' is missing"},
        {HEAD, ITEM("a", "\"answer\": \"2\""), "items.jsonl:1: key 'evaluator' is missing"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"evaluator\": \"exat\""), "items.jsonl:1: unknown evaluator 'exat'"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"evaluator\": \"exact\", \"extract\": \"(\""), "items.jsonl:1: bad pattern '('"},
        {HEAD, ITEM("a", "\"answer\": true, \"evaluator\": \"exact\""), "items.jsonl:1: key 'answer' must be a string"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"evaluator\": \"choice\""), "items.jsonl:1: key 'choices' is missing"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"choices\": [\"1\", \"3\"], \"evaluator\": \"choice\""), "the answer '2' is not one of the choices"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"choices\": [\"2\", \"2\"], \"evaluator\": \"choice\""), "stands more than once"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"choices\": [\"2\"], \"evaluator\": \"choice\""), "at least two choices"},
        {HEAD, ITEM("a", "\"answer\": \"{\", \"evaluator\": \"json_call\""), "the answer is not JSON"},
        {HEAD, ITEM("a", "\"answer\": \"{}\", \"evaluator\": \"json_call\""), "the answer is not a call"},
        {HEAD, ITEM("a", "\"evaluator\": \"kl\""), "kl works on running text"},
        {HEAD, ITEM("a", "\"answer\": \"2\", \"evaluator\": \"exact\", \"messages\": []"), "one of 'prompt' and 'messages'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_err err = {0};
        assay_suite *s = NULL;
        assert_int_equal(parse(&s, cases[i].yaml, cases[i].items, &err), ASSAY_EINPUT);
        assert_null(s);
        if (!strstr(err.message, cases[i].want)) fail_msg("case %zu: '%s' does not contain '%s'", i, err.message, cases[i].want);
    }
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    assay_err err = {0};
    assay_suite *s = NULL;
    assert_int_equal(assay_suite_load(&s, "/nonexistent/suite.yaml", &err), ASSAY_ENOTFOUND);
    assert_non_null(strstr(err.message, "/nonexistent/suite.yaml"));
}

static void text_is_split_at_blank_lines(void **state) {
    (void)state;
    static const char yaml[] = "suite: s\nversion: 1\nlanguage: {prose: {file: p.txt, limit: 2, evaluators: [perplexity_rolling]}}\n";
    assay_suite *s = must_parse(yaml, "\none\nstill one\n\n  \ntwo\n\nthree");
    const assay_language *l = &s->languages[0];
    assert_int_equal(l->n_docs, 2);
    assert_memory_equal(l->text + l->docs[0], "one\nstill one", 13);
    assert_int_equal(l->docs[1] - l->docs[0], 13);
    assert_memory_equal(l->text + l->docs[2], "two", 3);
    assert_int_equal(l->n, l->docs[3]);
    assay_suite_free(s);
}

/* Whatever allocation fails, the answer is a status and nothing leaks (the leak is seen under ASan). */
static void out_of_memory_is_a_status(void **state) {
    (void)state;
    static const char yaml[] = HEAD "chat: {system: hi}\nevaluators: {exact: {ignore: [x]}}\n";
    for (long n = 0; n < 400; n++) {
        assay_err err = {0};
        assay_suite *s = NULL;
        assay_mem_fail_after(n);
        assay_status st = parse(&s, yaml, GOOD("a") ITEM("b", "\"answer\": {\"name\": \"f\", \"arguments\": {}}, \"evaluator\": \"json_call\""), &err);
        assay_mem_fail_after(-1);
        assert_true(st == ASSAY_OK || st == ASSAY_ENOMEM);
        assay_suite_free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_suite_is_read_with_its_defaults), cmocka_unit_test(the_limit_keeps_the_first_items_of_each_slice),
        cmocka_unit_test(the_hash_is_of_what_matters),       cmocka_unit_test(mistakes_are_named_with_their_place),
        cmocka_unit_test(a_missing_file_is_named),           cmocka_unit_test(text_is_split_at_blank_lines),
        cmocka_unit_test(out_of_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
