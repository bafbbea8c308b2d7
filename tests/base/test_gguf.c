/* test_gguf.c: the GGUF container: what is written is read back, and every byte of a header may lie. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/gguf.h"
#include "base/mem.h"

static void put_u(assay_str *b, uint64_t v, int n) {
    for (int i = 0; i < n; i++) assay_str_putc(b, (char)(v >> 8 * i));
}

/* Every type of value, three strings, two tensors of 32 and 8 bytes. */
static void build(assay_str *b) {
    int16_t i16 = -3;
    double f64 = 0.1;
    int64_t dims[] = {4, 2};
    assay_gguf_put_head(b, 2, 9);
    assay_gguf_put_string(b, "general.architecture", "llama", 5);
    assay_gguf_put_int(b, "a.u8", ASSAY_GGUF_U8, 200);
    assay_gguf_put_int(b, "a.i64", ASSAY_GGUF_I64, -5);
    assay_gguf_put_int(b, "a.bool", ASSAY_GGUF_BOOL, 1);
    assay_gguf_put_float(b, "a.f32", 0.5);
    assay_gguf_put_array(b, "a.f64s", ASSAY_GGUF_F64, 1);
    assay_gguf_put_element(b, ASSAY_GGUF_F64, &f64);
    assay_gguf_put_array(b, "a.i16s", ASSAY_GGUF_I16, 2);
    assay_gguf_put_element(b, ASSAY_GGUF_I16, &i16);
    i16 = 300;
    assay_gguf_put_element(b, ASSAY_GGUF_I16, &i16);
    assay_gguf_put_array(b, "a.words", ASSAY_GGUF_STRING, 3);
    assay_gguf_put_text(b, "one", 3);
    assay_gguf_put_text(b, "", 0);
    assay_gguf_put_text(b, "t\0w", 3);
    assay_gguf_put_int(b, "general.alignment", ASSAY_GGUF_U32, 64);
    assay_gguf_put_tensor(b, "x", 2, dims, 0, 0);
    assay_gguf_put_tensor(b, "y", 1, dims, 1, 64);
    assay_str_fill(b, 0, 63 - (b->len + 63) % 64);
    assay_str_fill(b, 1, 64);
    assay_str_fill(b, 2, 8);
}

static assay_status parse(assay_gguf **g, const assay_str *b, assay_err *err) {
    return assay_gguf_parse(g, (const uint8_t *)b->s, b->len, "test", err);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    assay_str b = {0};
    assay_gguf *g = NULL;
    assay_err err = {0};
    int64_t i;
    double f;
    const char *s;
    size_t n;
    build(&b);
    assert_int_equal(parse(&g, &b, &err), ASSAY_OK);
    assert_int_equal(assay_gguf_n_values(g), 9);
    assert_true(assay_gguf_int(&i, g, assay_gguf_find(g, "a.u8"), 0) && i == 200);
    assert_true(assay_gguf_int(&i, g, assay_gguf_find(g, "a.i64"), 0) && i == -5);
    assert_true(assay_gguf_int(&i, g, assay_gguf_find(g, "a.bool"), 0) && i == 1);
    assert_true(assay_gguf_float(&f, g, assay_gguf_find(g, "a.f32"), 0) && f == 0.5);
    assert_true(assay_gguf_float(&f, g, assay_gguf_find(g, "a.f64s"), 0) && f == 0.1);
    assert_true(assay_gguf_float(&f, g, assay_gguf_find(g, "a.i64"), 0) && f == -5);
    assert_true(assay_gguf_int(&i, g, assay_gguf_find(g, "a.i16s"), 0) && i == -3);
    assert_true(assay_gguf_int(&i, g, assay_gguf_find(g, "a.i16s"), 1) && i == 300);
    assert_false(assay_gguf_int(&i, g, assay_gguf_find(g, "a.i16s"), 2));
    assert_false(assay_gguf_int(&i, g, assay_gguf_find(g, "a.f32"), 0));
    assert_false(assay_gguf_int(&i, g, assay_gguf_find(g, "general.architecture"), 0));
    assert_null(assay_gguf_find(g, "a.missing"));
    assert_false(assay_gguf_int(&i, g, NULL, 0));
    const assay_gguf_value *words = assay_gguf_find(g, "a.words");
    assert_true(assay_gguf_string(&s, &n, g, words, 2) && n == 3 && memcmp(s, "t\0w", 3) == 0);
    assert_true(assay_gguf_string(&s, &n, g, words, 1) && n == 0);
    assert_true(assay_gguf_string(&s, &n, g, words, 0) && n == 3 && memcmp(s, "one", 3) == 0);
    assert_false(assay_gguf_string(&s, &n, g, words, 3));
    const assay_gguf_tensor *t = assay_gguf_tensor_at(g, 1);
    const uint8_t *data = assay_gguf_data(g, &n);
    assert_string_equal(t->name, "y");
    assert_int_equal(t->offset % 64, 0);
    assert_int_equal(data[t->offset], 2);
    assert_int_equal(assay_gguf_tensor_at(g, 0)->dims[1], 2);
    assert_int_equal(t->dims[1], 1);
    assert_null(assay_gguf_tensor_at(g, 2));
    assay_gguf_close(g);
    assay_str_free(&b);
}

/* A value of one file goes into another as it is. */
static void values_are_carried_over(void **state) {
    (void)state;
    assay_str b = {0}, copy = {0};
    assay_gguf *g = NULL, *again = NULL;
    build(&b);
    assert_int_equal(parse(&g, &b, NULL), ASSAY_OK);
    assay_gguf_put_head(&copy, 0, assay_gguf_n_values(g));
    for (size_t i = 0; i < assay_gguf_n_values(g); i++) assay_gguf_put_value(&copy, assay_gguf_value_at(g, i));
    assert_int_equal(parse(&again, &copy, NULL), ASSAY_OK);
    assert_memory_equal(copy.s + 24, b.s + 24, copy.len - 24);
    assay_gguf_close(g);
    assay_gguf_close(again);
    assay_str_free(&b);
    assay_str_free(&copy);
}

static void expect(const assay_str *b, assay_status want, const char *part) {
    assay_gguf *g = NULL;
    assay_err err = {0};
    assay_status s = parse(&g, b, &err);
    if (s != want) fail_msg("status %d where %d is expected: %s", s, want, err.message);
    assert_null(g);
    if (!strstr(err.message, part)) fail_msg("'%s' does not say '%s'", err.message, part);
}

static void head(assay_str *b, uint32_t version, uint64_t n_tensors, uint64_t n_values) {
    assay_str_clear(b);
    assay_str_put(b, "GGUF");
    put_u(b, version, 4);
    put_u(b, n_tensors, 8);
    put_u(b, n_values, 8);
}

static void lies_are_told(void **state) {
    (void)state;
    assay_str b = {0};
    int64_t dims[4] = {4, 1, 1, 1}, huge[2] = {INT64_MAX / 64, 64}, none[1] = {0};
    assay_str_put(&b, "GGML");
    expect(&b, ASSAY_EINPUT, "no GGUF file");
    head(&b, 1, 0, 0);
    expect(&b, ASSAY_EUNSUPPORTED, "version 1");
    head(&b, 0x03000000, 0, 0);
    expect(&b, ASSAY_EUNSUPPORTED, "big-endian");
    head(&b, 3, 0, UINT64_MAX);
    expect(&b, ASSAY_EINPUT, "ends at byte");
    head(&b, 3, UINT64_MAX, 0);
    expect(&b, ASSAY_EINPUT, "ends at byte");
    head(&b, 3, 0, 1);
    put_u(&b, UINT64_MAX, 8);
    expect(&b, ASSAY_EINPUT, "length of");
    head(&b, 3, 0, 1);
    assay_gguf_put_array(&b, "a", ASSAY_GGUF_U64, UINT64_MAX / 4);
    expect(&b, ASSAY_EINPUT, "ends at byte");
    head(&b, 3, 0, 1);
    assay_gguf_put_array(&b, "a", ASSAY_GGUF_STRING, UINT64_MAX);
    expect(&b, ASSAY_EINPUT, "ends at byte");
    head(&b, 3, 0, 1);
    assay_gguf_put_array(&b, "a", ASSAY_GGUF_ARRAY, 1);
    expect(&b, ASSAY_EUNSUPPORTED, "array of arrays");
    head(&b, 3, 0, 1);
    assay_gguf_put_text(&b, "a", 1);
    put_u(&b, 77, 4);
    expect(&b, ASSAY_EINPUT, "type 77");
    head(&b, 3, 0, 2);
    assay_gguf_put_int(&b, "a", ASSAY_GGUF_U8, 1);
    assay_gguf_put_int(&b, "a", ASSAY_GGUF_U16, 1);
    expect(&b, ASSAY_EINPUT, "key a is there twice");
    head(&b, 3, 0, 1);
    assay_gguf_put_int(&b, "general.alignment", ASSAY_GGUF_U32, 24);
    expect(&b, ASSAY_EINPUT, "general.alignment");
    head(&b, 3, 1, 0);
    assay_gguf_put_tensor(&b, "t", 2, huge, 0, 0);
    expect(&b, ASSAY_EINPUT, "impossible shape");
    head(&b, 3, 1, 0);
    assay_gguf_put_tensor(&b, "t", 1, none, 0, 0);
    expect(&b, ASSAY_EINPUT, "impossible shape");
    head(&b, 3, 1, 0);
    assay_gguf_put_tensor(&b, "t", 1, dims, 0, 1 << 20);
    assay_str_fill(&b, 0, 64);
    expect(&b, ASSAY_EINPUT, "beyond the file's end");
    head(&b, 3, 1, 0);
    assay_gguf_put_tensor(&b, "t", 1, dims, 0, 4);
    assay_str_fill(&b, 0, 64);
    expect(&b, ASSAY_EINPUT, "no multiple of the alignment");
    head(&b, 3, 2, 0);
    assay_gguf_put_tensor(&b, "t", 1, dims, 0, 0);
    assay_gguf_put_tensor(&b, "t", 1, dims, 0, 32);
    assay_str_fill(&b, 0, 128);
    expect(&b, ASSAY_EINPUT, "tensor t is there twice");
    assay_str_free(&b);
}

static void no_cut_file_is_taken(void **state) {
    (void)state;
    assay_str b = {0};
    build(&b);
    size_t header = b.len - 72 - 63;
    for (size_t n = 0; n < header; n++) {
        assay_gguf *g = NULL;
        assay_err err = {0};
        assert_int_equal(assay_gguf_parse(&g, (const uint8_t *)b.s, n, "cut", &err), ASSAY_EINPUT);
        assert_null(g);
    }
    assay_str_free(&b);
}

static void no_allocation_that_fails_is_overlooked(void **state) {
    (void)state;
    assay_str b = {0};
    build(&b);
    for (long k = 0;; k++) {
        assay_gguf *g = NULL;
        assay_err err = {0};
        assay_mem_fail_after(k);
        assay_status s = parse(&g, &b, &err);
        assay_mem_fail_after(-1);
        if (s == ASSAY_OK) {
            assay_gguf_close(g);
            assert_true(k > 3);
            break;
        }
        assert_int_equal(s, ASSAY_ENOMEM);
        assert_null(g);
    }
    assay_str_free(&b);
}

static void touch(const char *dir, const char *name, const char *text) {
    char *path = assay_path_join(dir, name);
    assert_int_equal(assay_write_file(path, text, strlen(text), NULL), ASSAY_OK);
    assay_free(path);
}

static void expect_found(const char *path, const char *base) {
    char *found = NULL;
    assert_int_equal(assay_gguf_find_file(&found, path, NULL), ASSAY_OK);
    assert_string_equal(assay_path_base(found), base);
    assay_free(found);
}

static void expect_not_found(const char *path, assay_status want) {
    char *found = NULL;
    assert_int_equal(assay_gguf_find_file(&found, path, NULL), want);
    assert_null(found);
}

static void the_file_of_a_model_is_found(void **state) {
    (void)state;
    char dir[] = "/tmp/assay-gguf-XXXXXX", cmd[64];
    assert_non_null(mkdtemp(dir));
    expect_not_found(dir, ASSAY_ENOTFOUND);
    expect_not_found("/nowhere/x.gguf", ASSAY_ENOTFOUND);
    touch(dir, "m-00001-of-00002.gguf", "GGUF");
    touch(dir, "m-00002-of-00002.gguf", "GGUF");
    touch(dir, "mmproj-m-f16.gguf", "GGUF");
    touch(dir, "blob", "GGUFxxxx");
    touch(dir, "README.md", "# GGUF");
    expect_found(dir, "m-00001-of-00002.gguf");
    char *blob = assay_path_join(dir, "blob"), *readme = assay_path_join(dir, "README.md");
    expect_found(blob, "blob");
    expect_not_found(readme, ASSAY_ENOTFOUND);
    touch(dir, "n.gguf", "GGUF");
    expect_not_found(dir, ASSAY_EINPUT);
    touch(dir, "model.safetensors", "");
    expect_not_found(dir, ASSAY_ENOTFOUND);
    assay_free(blob);
    assay_free(readme);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(values_are_carried_over),
        cmocka_unit_test(lies_are_told),
        cmocka_unit_test(no_cut_file_is_taken),
        cmocka_unit_test(no_allocation_that_fails_is_overlooked),
        cmocka_unit_test(the_file_of_a_model_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
