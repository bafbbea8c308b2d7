/* test_imatrix.c: importance matrices in both of llama.cpp's kinds of files: what they weigh, what is written, files that lie. That
 * llama.cpp's programs make the same of ours is held by tools/interop_ggml.py. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "format/imatrix.h"

static const float SUMS[] = {3, 6, 9, 12, 5, 10, 15, 20, 1, 1, 1, 1}, COUNTS[] = {3, 5, 0};

/* A dense matrix of 4 columns and 3 tokens, and a stack of three experts of which the last saw nothing. */
static char *save(void) {
    assay_imatrix_entry e[] = {{.name = "blk.1.ffn_up_exps.weight", .cols = 4, .n_matrices = 3, .sums = SUMS, .counts = COUNTS},
                               {.name = "blk.0.attn_q.weight", .cols = 4, .n_matrices = 1, .sums = SUMS, .counts = COUNTS}};
    static char path[] = "/tmp/assay-imatrix-XXXXXX";
    assay_err err = {0};
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    if (assay_imatrix_save(path, e, 2, "prose.txt", 7, 512, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return path;
}

/* The older kind: two calls, values are means times two. */
static void put_legacy(assay_str *b, bool with_end) {
    static const int32_t numbers[] = {2, 4};
    static const float values[] = {2, 4, 6, 8};
    int32_t one = 1, length = 19, chunks = 9;
    assay_str_putn(b, &one, 4);
    assay_str_putn(b, &length, 4);
    assay_str_put(b, "blk.0.attn_q.weight");
    assay_str_putn(b, numbers, sizeof numbers);
    assay_str_putn(b, values, sizeof values);
    if (!with_end) return;
    length = 8;
    assay_str_putn(b, &chunks, 4);
    assay_str_putn(b, &length, 4);
    assay_str_put(b, "wiki.raw");
}

static void expect_weights(const assay_imatrix *im, const char *name, int64_t expert, const float *want) {
    float got[4];
    assay_err err = {0};
    if (assay_imatrix_weights(got, im, name, 4, expert, 3, &err) != ASSAY_OK) fail_msg("%s: %s", name, err.message);
    assert_memory_equal(got, want, sizeof got);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    assay_imatrix *im;
    assay_imatrix_info info;
    char *path = save();
    assert_int_equal(assay_imatrix_open(&im, path, NULL), ASSAY_OK);
    assay_imatrix_describe(&info, im);
    assert_int_equal(info.n_entries, 2);
    assert_false(info.is_legacy);
    assert_int_equal(info.n_chunks, 7);
    assert_string_equal(info.dataset, "prose.txt");
    assert_string_equal(assay_imatrix_name_at(im, 0), "blk.0.attn_q.weight");
    expect_weights(im, "blk.0.attn_q.weight", -1, (float[]){1, 2, 3, 4});
    expect_weights(im, "blk.1.ffn_up_exps.weight", 0, (float[]){1, 2, 3, 4});
    expect_weights(im, "blk.1.ffn_up_exps.weight", 1, (float[]){1, 2, 3, 4});
    expect_weights(im, "blk.1.ffn_up_exps.weight", 2, (float[]){1, 1, 1, 1});
    assay_imatrix_close(im);
    remove(path);
}

static void the_older_kind_is_read_with_and_without_its_end(void **state) {
    (void)state;
    for (int end = 0; end < 2; end++) {
        assay_str b = {0};
        assay_imatrix *im;
        assay_imatrix_info info;
        put_legacy(&b, end);
        assert_int_equal(assay_imatrix_parse(&im, (const uint8_t *)b.s, b.len, "old", NULL), ASSAY_OK);
        assay_imatrix_describe(&info, im);
        assert_true(info.is_legacy);
        assert_int_equal(info.n_chunks, end ? 9 : 0);
        assert_string_equal(info.dataset, end ? "wiki.raw" : "");
        expect_weights(im, "blk.0.attn_q.weight", -1, (float[]){1, 2, 3, 4});
        assay_imatrix_close(im);
        assay_str_free(&b);
    }
}

static void refuses(const assay_imatrix *im, const char *name, int64_t cols, int64_t expert, assay_status want, const char *why) {
    float out[64];
    assay_err err = {0};
    assert_int_equal(assay_imatrix_weights(out, im, name, cols, expert, 3, &err), want);
    assert_non_null(strstr(err.message, why));
}

static void another_models_entries_are_refused(void **state) {
    (void)state;
    assay_imatrix *im;
    char *path = save();
    assert_int_equal(assay_imatrix_open(&im, path, NULL), ASSAY_OK);
    refuses(im, "blk.2.attn_q.weight", 4, -1, ASSAY_ENOTFOUND, "no entry 'blk.2.attn_q.weight'");
    refuses(im, "blk.0.attn_q.weight", 5, -1, ASSAY_EINPUT, "it is another model's");
    refuses(im, "blk.0.attn_q.weight", 4, 1, ASSAY_EINPUT, "12 columns of all experts");
    refuses(im, "blk.1.ffn_up_exps.weight", 4, -1, ASSAY_EINPUT, "12 values");
    assay_imatrix_close(im);
    remove(path);
}

static void what_is_no_weight_is_refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -1};
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_str b = {0};
        assay_imatrix *im;
        put_legacy(&b, false);
        memcpy(b.s + b.len - 8, &bad[i], 4);
        assert_int_equal(assay_imatrix_parse(&im, (const uint8_t *)b.s, b.len, "old", NULL), ASSAY_OK);
        refuses(im, "blk.0.attn_q.weight", 4, -1, ASSAY_EINPUT, "no weight for column 2 of 'blk.0.attn_q.weight'");
        assay_imatrix_close(im);
        assay_str_free(&b);
    }
}

/* Every beginning of a file is refused, or is a whole older one whose end is not there. */
static void cut_files_are_refused(void **state) {
    (void)state;
    assay_str old = {0};
    char *data, *path = save();
    size_t n;
    put_legacy(&old, true);
    assert_int_equal(assay_read_file(&data, &n, path, 0, NULL), ASSAY_OK);
    for (size_t cut = 0; cut < n; cut++) {
        assay_imatrix *im = NULL;
        assay_err err = {0};
        uint8_t *part = assay_malloc(cut + 1); /* so that a sanitizer sees what lies behind */
        memcpy(part, data, cut);
        assay_status s = assay_imatrix_parse(&im, part, cut, "cut", &err);
        if (s == ASSAY_OK && cut + 32 < n) fail_msg("%zu of %zu bytes are taken", cut, n);
        assert_true(s == ASSAY_OK || strstr(err.message, "cut"));
        assay_imatrix_close(im);
        assay_free(part);
    }
    for (size_t cut = 0; cut < 51; cut++) {
        assay_imatrix *im = NULL;
        assert_int_equal(assay_imatrix_parse(&im, (const uint8_t *)old.s, cut, "cut", NULL), ASSAY_EINPUT);
    }
    assay_free(data);
    assay_str_free(&old);
    remove(path);
}

static void a_model_is_no_importance_matrix(void **state) {
    (void)state;
    assay_imatrix *im;
    assay_err err = {0};
    static const char model[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\14\0\0\0\0\0\0\0general.type\10\0\0\0\5\0\0\0\0\0\0\0model";
    assert_int_equal(assay_imatrix_parse(&im, (const uint8_t *)model, sizeof model - 1, "m.gguf", &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "a GGUF file of type 'model', no importance matrix"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_older_kind_is_read_with_and_without_its_end),
        cmocka_unit_test(another_models_entries_are_refused),
        cmocka_unit_test(what_is_no_weight_is_refused),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(a_model_is_no_importance_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
