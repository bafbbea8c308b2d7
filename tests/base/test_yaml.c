/* test_yaml.c: trees with lines, typed reading, and complaints that say file, line and what was meant. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/yaml.h"

static assay_yaml_doc *parse(const char *text, assay_err *e) {
    assay_yaml_doc *d = NULL;
    assay_yaml_parse(&d, text, strlen(text), "s.yaml", e);
    return d;
}

static void a_study_reads_as_written(void **state) {
    (void)state;
    assay_err e = {0};
    assay_yaml_doc *d = parse("study: bot\nvariants:\n  - {name: a, bits: 4}\n  - name: \"0\"\n    ratio: "
                              "1.5\npolicy: {margin: 2 pt}\nno: ~\n",
                              &e);
    assert_non_null(d);
    const assay_yaml *root = assay_yaml_root(d), *v = assay_yaml_find(root, "variants");
    assert_int_equal(v->kind, ASSAY_YAML_SEQ);
    assert_int_equal(v->n, 2);
    assert_int_equal(v->items[1]->line, 4);
    int64_t bits = 0;
    double ratio = 0;
    const char *name = NULL;
    assert_int_equal(assay_yaml_get_int(&bits, d, v->items[0], "bits", 2, 8, &e), ASSAY_OK);
    assert_int_equal(assay_yaml_get_double(&ratio, d, v->items[1], "ratio", 0, 10, &e), ASSAY_OK);
    assert_int_equal(assay_yaml_get_str(&name, d, v->items[1], "name", &e), ASSAY_OK);
    assert_int_equal(bits, 4);
    assert_true(ratio == 1.5);
    assert_string_equal(name, "0");
    json_t *j = assay_yaml_to_json(root);
    assay_str b = {0};
    assay_json_dump(&b, j, 0, false, NULL);
    assert_string_equal(
        b.s, "{\"study\":\"bot\",\"variants\":[{\"name\":\"a\",\"bits\":4},{\"name\":\"0\",\"ratio\":1.5}],"
             "\"policy\":{\"margin\":\"2 pt\"},\"no\":null}");
    assay_str_free(&b);
    json_decref(j);
    assay_yaml_free(d);
}

static void unknown_keys_get_a_suggestion_and_a_line(void **state) {
    (void)state;
    assay_err e = {0};
    assay_yaml_doc *d = parse("margin: 2\n\nconfidnce: 0.9\n", &e);
    static const char *const known[] = {"margin", "confidence"};
    assay_yaml_find(assay_yaml_root(d), "margin");
    assert_int_equal(assay_yaml_check_unknown(d, assay_yaml_root(d), "policy", known, 2, &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "s.yaml:3: unknown key 'confidnce' in policy, did you mean 'confidence'?");
    assay_yaml_free(d);
}

static void refusals_name_the_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a: [1, 2\nb: 3\n", "s.yaml:"},
        {"a: 1\nb: &x 2\nc: *x\n", "s.yaml:3: aliases are not accepted"},
        {"a: 1\nb: 2\na: 3\n", "s.yaml:3: key 'a' is given twice"},
        {"a: 1\n---\nb: 2\n", "s.yaml:3: more than one document"},
        {"? [1]\n: 2\n", "s.yaml:1: a key must be a plain word"},
        {"# nothing\n", "s.yaml: the file is empty"},
        {"a:\t1\n\tb: 2", "s.yaml:"},
        {"a: \xff\xfe\n", "s.yaml:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assay_err e = {0};
        assert_null(parse(cases[i].text, &e));
        assert_int_equal(e.code, ASSAY_EINPUT);
        if (strncmp(e.message, cases[i].want, strlen(cases[i].want)))
            fail_msg("case %zu said: %s", i, e.message);
    }
}

static void wrong_types_and_ranges_are_told(void **state) {
    (void)state;
    assay_err e = {0};
    assay_yaml_doc *d = parse("bits: four\nratio: 7\nflag: yes\nlist: [1]\n", &e);
    const assay_yaml *root = assay_yaml_root(d);
    int64_t i = 0;
    double f = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(assay_yaml_get_int(&i, d, root, "bits", 2, 8, &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "s.yaml:1: bits must be a whole number, not 'four'");
    e = (assay_err){0};
    assert_int_equal(assay_yaml_get_double(&f, d, root, "ratio", 0, 1, &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "s.yaml:2: ratio must be from 0 to 1, not 7");
    e = (assay_err){0};
    assert_int_equal(assay_yaml_get_bool(&b, d, root, "flag", &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "s.yaml:3: flag must be true or false, not 'yes'");
    e = (assay_err){0};
    assert_int_equal(assay_yaml_get_str(&s, d, root, "list", &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "s.yaml:4: list must be a single value, not a list");
    assay_yaml_free(d);
}

static void deep_nesting_is_refused_not_overflowed(void **state) {
    (void)state;
    char text[4001];
    memset(text, '[', 4000);
    text[4000] = 0;
    assay_err e = {0};
    assert_null(parse(text, &e));
    assert_non_null(strstr(e.message, "nested too deep"));
}

static void each_failed_allocation_is_enomem(void **state) {
    (void)state;
    const char *text = "a: {b: [1, 2, {c: d}]}\n";
    for (long k = 0; k < 200; k++) {
        assay_err e = {0};
        assay_mem_fail_after(k);
        assay_yaml_doc *d = parse(text, &e);
        assay_mem_fail_after(-1);
        if (d) {
            assert_true(k > 3); /* it did fail for the first few */
            assay_yaml_free(d);
            return;
        }
        assert_int_equal(e.code, ASSAY_ENOMEM);
    }
    fail();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_study_reads_as_written),
        cmocka_unit_test(unknown_keys_get_a_suggestion_and_a_line),
        cmocka_unit_test(refusals_name_the_line),
        cmocka_unit_test(wrong_types_and_ranges_are_told),
        cmocka_unit_test(deep_nesting_is_refused_not_overflowed),
        cmocka_unit_test(each_failed_allocation_is_enomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
