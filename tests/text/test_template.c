/* test_template.c: chat templates render as transformers renders them (golden/templates.json, made by
 * make_golden.py with the versions it names), and what is refused is refused by name and line. */
#include "text/golden.h"

static json_t *golden;

static assay_status render(assay_str *out, const char *text, size_t n, const json_t *messages,
                           const json_t *tools, bool gen, const json_t *vars, assay_err *err) {
    assay_template *t = NULL;
    assay_status s = assay_template_parse(&t, text, n, err);
    if (s == ASSAY_OK) s = assay_template_render(out, t, NULL, messages, tools, gen, vars, err);
    assay_template_close(t);
    return s;
}

/* Every construct in a line or two, and errors where the original raises one. */
static void test_snippets(void **state) {
    (void)state;
    const json_t *context = json_object_get(golden, "context"), *list = json_object_get(golden, "snippets");
    json_t *none = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i), *source = json_object_get(c, "template"),
                     *want = json_object_get(c, "expected");
        assay_str out = {0};
        assay_err err = {0};
        assay_status s = render(&out, json_string_value(source), json_string_length(source), none, NULL,
                                false, context, &err);
        if (want && s != ASSAY_OK) fail_msg("%s\n  in: %s", err.message, json_string_value(source));
        if (!want && s != ASSAY_EINPUT)
            fail_msg("expected an error (%s) but got %d [%s] in: %s", golden_str(c, "error"), s,
                     assay_str_c(&out), json_string_value(source));
        if (want) golden_same_text(json_string_value(source), assay_str_c(&out), out.len, want);
        assay_str_free(&out);
    }
    json_decref(none);
    assert_true(json_array_size(list) > 100);
}

/* The template of a family: its own text, or what the model's folder has. Owned by the caller; NULL when it
 * is not there. */
static char *family_template(const json_t *family) {
    const char *own = golden_str(family, "own"), *shared = golden_str(family, "shared"),
               *text = golden_str(family, "template");
    if (text) return assay_strdup(text);
    char *path = own ? assay_path_join(own, "tokenizer_config.json") : golden_shared(shared);
    if (!path || !assay_path_exists(path)) {
        assay_free(path);
        return NULL;
    }
    json_t *j = golden_load(path);
    char *copy = assay_strdup(golden_str(j, "chat_template"));
    json_decref(j);
    assay_free(path);
    return copy;
}

static void test_family(void **state) {
    const json_t *family = *state, *cases = json_object_get(family, "cases");
    char *text = family_template(family);
    if (!text) {
        print_message("%s is not there\n", golden_str(family, "shared"));
        skip();
    }
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "expected"),
                     *tools = json_object_get(c, "tools");
        assay_str out = {0};
        assay_err err = {0};
        char what[64];
        snprintf(what, sizeof what, "%s, conversation %zu", golden_str(family, "name"), i);
        assay_status s = render(&out, text, strlen(text), json_object_get(c, "messages"), tools,
                                json_is_true(json_object_get(c, "add_generation_prompt")),
                                json_object_get(c, "vars"), &err);
        if (want && s != ASSAY_OK) fail_msg("%s: %s", what, err.message);
        if (!want) assert_int_equal(s, ASSAY_EINPUT);
        if (want) golden_same_text(what, assay_str_c(&out), out.len, want);
        assay_str_free(&out);
    }
    assay_free(text);
}

/* What Jinja has and we do not is named, with its line. */
static void test_unsupported(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"\n\n{% include 'x' %}", "chat template line 3: the tag 'include' is not supported"},
        {"{% extends 'x' %}", "chat template line 1: the tag 'extends' is not supported"},
        {"a\n{{ x|urlencode }}", "chat template line 2: the filter 'urlencode' is not supported"},
        {"{% if true %}{{ x|urlencode }}{% endif %}", "chat template line 1: 'urlencode' is not supported"},
        {"{{ x is escaped }}", "chat template line 1: the test 'escaped' is not supported"},
        {"{% for i in x recursive %}{% endfor %}", "chat template line 1: recursive loops are not supported"},
        {"\n{{ 'x'.encode() }}", "chat template line 2: the method 'encode' of a str is not supported"},
        {"{{ '{:>5}'.format(1) }}", "chat template line 1: format specifications are not supported"},
        {"{{ lipsum() }}", "chat template line 1: 'lipsum' is not supported"},
    };
    json_t *none = json_array();
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_str out = {0};
        assay_err err = {0};
        assert_int_equal(render(&out, cases[i].text, strlen(cases[i].text), none, NULL, false, NULL, &err),
                         ASSAY_EUNSUPPORTED);
        assert_string_equal(err.message, cases[i].message);
        assay_str_free(&out);
    }
    json_decref(none);
}

/* A hostile template ends with an error, not with the machine. */
static void test_limits(void **state) {
    (void)state;
    static const char *const cases[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x "
        "%}{% endfor %}",
        "{% set ns = namespace(x=[0]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ 'x' * 9223372036854775 }}",
        "{{ 9223372036854775807 + 1 }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ "
        "ns.x|tojson }}",
        "{{ 'a'.ljust(99999999999) }}",
    };
    json_t *none = json_array();
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_str out = {0};
        assay_err err = {0};
        assert_int_equal(render(&out, cases[i], strlen(cases[i]), none, NULL, false, NULL, &err),
                         ASSAY_EINPUT);
        assert_non_null(strstr(err.message, "chat template line 1"));
        assert_int_equal(out.len, 0);
        assay_str_free(&out);
    }
    char deep[4000];
    memset(deep, '(', sizeof deep);
    memcpy(deep, "{{", 2);
    assay_err err = {0};
    assay_str out = {0};
    assert_int_equal(render(&out, deep, sizeof deep, none, NULL, false, NULL, &err), ASSAY_EINPUT);
    json_decref(none);
}

/* Opening from a model's folder, bos and eos from its tokenizer, and what raise_exception says. */
static void test_open(void **state) {
    (void)state;
    assay_err err = {0};
    assay_template *t = NULL;
    assay_tokenizer *tok = NULL;
    assay_str out = {0};
    if (!assay_path_exists("models/demo/tokenizer.json")) skip();
    assert_int_equal(assay_template_open(&t, "models/demo", &err), ASSAY_OK);
    assert_int_equal(strlen(assay_template_hash(t)), 64);
    assert_int_equal(assay_tokenizer_open(&tok, "models/demo", &err), ASSAY_OK);
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "What is 2 + 2?");
    assert_int_equal(assay_template_render(&out, t, tok, messages, NULL, true, NULL, &err), ASSAY_OK);
    assert_string_equal(assay_str_c(&out), "<|begin|><|user|>What is 2 + 2?<|end|><|assistant|>");
    json_decref(messages);
    assay_str_free(&out);
    assay_template_close(t);
    assay_tokenizer_close(tok);
    t = NULL;
    assert_int_equal(assay_template_open(&t, "tests/text", &err), ASSAY_ENOTFOUND);
    assert_null(t);
    err = (assay_err){0};
    messages = json_array();
    const char *raises = "\n{{ raise_exception('no: ' ~ messages|length) }}";
    assert_int_equal(render(&out, raises, strlen(raises), messages, NULL, false, NULL, &err), ASSAY_EINPUT);
    assert_string_equal(err.message, "chat template line 2: no: 0");
    json_decref(messages);
}

/* SOURCE_DATE_EPOCH and the caller fix the date that a template sees. */
static void test_date(void **state) {
    (void)state;
    assay_err err = {0};
    assay_str out = {0};
    json_t *none = json_array();
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    assert_int_equal(render(&out, "{{ strftime_now('%d %b %Y') }}", 30, none, NULL, false, NULL, &err),
                     ASSAY_OK);
    assert_string_equal(assay_str_c(&out), "14 Nov 2023");
    json_t *vars = json_pack("{s:i}", "$now", 86400); /* the caller's comes first */
    assay_str_clear(&out);
    assert_int_equal(render(&out, "{{ strftime_now('%d %b %Y') }}", 30, none, NULL, false, vars, &err),
                     ASSAY_OK);
    assert_string_equal(assay_str_c(&out), "02 Jan 1970");
    unsetenv("SOURCE_DATE_EPOCH");
    assay_str_free(&out);
    json_decref(vars);
    json_decref(none);
}

int main(void) {
    golden = golden_load("tests/text/golden/templates.json");
    struct CMUnitTest tests[32] = {
        cmocka_unit_test(test_snippets), cmocka_unit_test(test_unsupported), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_open),     cmocka_unit_test(test_date),
    };
    size_t n = 5;
    const json_t *families = json_object_get(golden, "families");
    char names[24][64];
    for (size_t i = 0; i < json_array_size(families) && i < 24; i++) {
        json_t *f = json_array_get(families, i);
        snprintf(names[i], sizeof names[i], "test_family %s", golden_str(f, "name"));
        tests[n++] = (struct CMUnitTest){.name = names[i], .test_func = test_family, .initial_state = f};
    }
    int failed = _cmocka_run_group_tests("text/template", tests, n, NULL, NULL);
    json_decref(golden);
    return failed;
}
