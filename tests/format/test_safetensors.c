/* test_safetensors.c: reading safetensors files and shards: what is read, and that every lie in a file is
 * one clear error. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "format/format.h"
#include "format/safetensors.h"
#include "num/convert.h"
#include "format/support.h"

static char *dir;

static int make_dir(void **state) {
    (void)state;
    dir = scratch_make();
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    scratch_remove(dir);
    return 0;
}

static void a_file_is_read_in_its_order(void **state) {
    (void)state;
    assay_checkpoint *c = NULL;
    float v[2];
    write_tensors(
        dir, "model.safetensors",
        "{\"__metadata__\":{\"format\":\"pt\"},\"b.weight\":{\"dtype\":\"I8\",\"shape\":[2,3],\"data_offsets\":[8,14]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[8,8]},\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[14,15]}}   ",
        15);
    assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_n_tensors(c), 4);
    assert_int_equal(assay_checkpoint_n_bytes(c), 15);
    assert_string_equal(assay_checkpoint_get(c, 0)->name, "a");
    assert_string_equal(assay_checkpoint_get(c, 1)->name, "none");
    const assay_tensor *b = assay_checkpoint_find(c, "b.weight");
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(((const uint8_t *)b->data)[0], 8);
    assert_null(assay_checkpoint_find(c, "b"));
    assert_null(assay_checkpoint_get(c, 4));
    assert_int_equal(assay_checkpoint_find(c, "scalar")->n_dims, 0);
    assert_int_equal(assay_checkpoint_vector(v, c, "a", 2, NULL), ASSAY_OK);
    assay_checkpoint_release(c, b);
    assert_int_equal(((const uint8_t *)b->data)[5], 13); /* released pages come back */
    assay_checkpoint_close(c);
    assay_checkpoint_close(NULL);
}

typedef struct lie {
    const char *json;
    size_t n_data;
    assay_status status;
    const char *says;
} lie;

static const lie LIES[] = {
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, ASSAY_EINPUT,
     "tensor a lies at bytes 0 to 8, but the file holds 7"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, ASSAY_EINPUT,
     "the last 1 bytes belong to no tensor"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, ASSAY_EINPUT,
     "not what its shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, ASSAY_EINPUT,
     "tensor a lies at bytes 8 to 0"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, ASSAY_EINPUT,
     "not a natural number"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,8]}}", 8, ASSAY_EINPUT,
     "not a natural number"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4611686018427387904],\"data_offsets\":[0,8]}}",
     8, ASSAY_EINPUT, "not what its shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, ASSAY_EINPUT,
     "not what its shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
     ASSAY_EUNSUPPORTED, "9 dimensions"},
    {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, ASSAY_EUNSUPPORTED,
     "type F6_E2M3"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, ASSAY_EINPUT, "tensor a has no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, ASSAY_EINPUT, "tensor a has no shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, ASSAY_EINPUT, "tensor a has no data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,\"8\"]}}", 8, ASSAY_EINPUT,
     "tensor a has no data_offsets"},
    {"{\"a\":7}", 0, ASSAY_EINPUT, "tensor a has no dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
     6, ASSAY_EINPUT, "tensors a and b overlap at byte 2"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}",
     10, ASSAY_EINPUT, "bytes 4 to 6 of the data, before tensor b"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
     0, ASSAY_EINPUT, "duplicate"},
    {"{\"__metadata__\":[]}", 0, ASSAY_EINPUT, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"step\":3}}", 0, ASSAY_EINPUT, "a value that is not a string: step"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}", 1, ASSAY_EINPUT, "line 1"},
    {"{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ASSAY_EINPUT,
     "unable to decode byte 0xff"},
    {"[1,2]", 0, ASSAY_EINPUT, "does not start with '{'"},
};

static void every_lie_in_a_header_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(LIES); i++) {
        assay_checkpoint *c = NULL;
        assay_err err = {0};
        write_tensors(dir, "model.safetensors", LIES[i].json, LIES[i].n_data);
        assay_status s = assay_checkpoint_open(&c, dir, &err);
        expect_error(s, LIES[i].status, &err, LIES[i].says);
        expect_error(s, LIES[i].status, &err, "model.safetensors");
        assert_null(c);
    }
}

static void truncation_at_every_byte_is_an_error(void **state) {
    (void)state;
    const char json[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    size_t n = 8 + strlen(json) + 8;
    uint8_t whole[128];
    uint64_t length = strlen(json);
    memcpy(whole, &length, 8);
    memcpy(whole + 8, json, strlen(json));
    memset(whole + 8 + strlen(json), 1, 8);
    for (size_t cut = 0; cut < n; cut++) {
        assay_safetensors f;
        uint8_t *exact = assay_malloc(cut); /* so that a sanitizer sees a read past the end */
        memcpy(exact, whole, cut);
        assert_int_equal(assay_safetensors_parse(&f, exact, cut, "cut", NULL), ASSAY_EINPUT);
        assay_free(exact);
    }
    assay_safetensors f;
    assert_int_equal(assay_safetensors_parse(&f, whole, n, "whole", NULL), ASSAY_OK);
    assay_safetensors_free(&f);
}

static void header_sizes_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        uint64_t size;
        const char *says;
    } cases[] = {{UINT64_MAX, "not a safetensors file"},
                 {100000001, "not a safetensors file"},
                 {99999999, "truncated"},
                 {0, "does not start"},
                 {1, "does not start"}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        uint8_t bytes[12] = {0};
        assay_safetensors f;
        assay_err err = {0};
        memcpy(bytes, &cases[i].size, 8);
        memcpy(bytes + 8, "{}  ", 4);
        expect_error(assay_safetensors_parse(&f, bytes, sizeof bytes, "x.safetensors", &err), ASSAY_EINPUT,
                     &err, cases[i].says);
    }
}

static void missing_files_say_what_was_looked_for(void **state) {
    (void)state;
    assay_checkpoint *c;
    assay_err err = {0};
    char *sub = assay_path_join(dir, "nothing");
    expect_error(assay_checkpoint_open(&c, sub, &err), ASSAY_ENOTFOUND, &err, "there is no checkpoint at");
    assay_mkdirs(sub, NULL);
    err = (assay_err){0};
    expect_error(assay_checkpoint_open(&c, sub, &err), ASSAY_ENOTFOUND, &err,
                 "neither model.safetensors nor");
    write_bytes(sub, "pytorch_model.bin", "x", 1);
    err = (assay_err){0};
    expect_error(assay_checkpoint_open(&c, sub, &err), ASSAY_EUNSUPPORTED, &err, "convert it to safetensors");
    scratch_remove(sub);
}

static const char ONE[] = "{\"%s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";

static void write_shard(const char *file, const char *tensor) {
    assay_str b = {0};
    assay_str_printf(&b, ONE, tensor);
    write_tensors(dir, file, b.s, 4);
    assay_str_free(&b);
}

static void shards_are_one_checkpoint(void **state) {
    (void)state;
    assay_checkpoint *c = NULL;
    assay_err err = {0};
    const char index[] = "{\"weight_map\":{\"x\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\"}}";
    write_bytes(dir, "model.safetensors.index.json", index, strlen(index));
    write_shard("m-1.safetensors", "x");
    expect_error(assay_checkpoint_open(&c, dir, &err), ASSAY_ENOTFOUND, &err,
                 "shard named by model.safetensors.index.json is missing");
    expect_error(ASSAY_ENOTFOUND, ASSAY_ENOTFOUND, &err, "m-2.safetensors");
    write_shard("m-2.safetensors", "y");
    err = (assay_err){0};
    assert_int_equal(assay_checkpoint_open(&c, dir, &err), ASSAY_OK);
    assert_int_equal(assay_checkpoint_n_tensors(c), 2);
    assert_non_null(assay_checkpoint_find(c, "y"));
    assay_checkpoint_close(c);
    write_shard("m-2.safetensors", "z");
    expect_error(assay_checkpoint_open(&c, dir, &err), ASSAY_EINPUT, &err,
                 "tensor y is not in m-2.safetensors");
    write_shard("m-2.safetensors", "x");
    err = (assay_err){0};
    expect_error(assay_checkpoint_open(&c, dir, &err), ASSAY_EINPUT, &err,
                 "tensor x is in another shard too");
    static const char *const bad[] = {"{\"weight_map\":{\"x\":\"../secret\"}}", "{\"weight_map\":{\"x\":7}}",
                                      "{\"weight_map\":{\"x\":\"/etc/passwd\"}}"};
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        write_bytes(dir, "model.safetensors.index.json", bad[i], strlen(bad[i]));
        err = (assay_err){0};
        expect_error(assay_checkpoint_open(&c, dir, &err), ASSAY_EINPUT, &err, "no file name");
    }
    write_bytes(dir, "model.safetensors.index.json", "{}", 2);
    err = (assay_err){0};
    expect_error(assay_checkpoint_open(&c, dir, &err), ASSAY_EINPUT, &err, "no weight_map");
}

static void wrong_tensors_are_named_with_their_shape(void **state) {
    (void)state;
    assay_checkpoint *c;
    assay_matrix m;
    float v[4];
    write_tensors(
        dir, "model.safetensors",
        "{\"m.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},\"i\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[12,16]},"
        "\"q.weight\":{\"dtype\":\"I8\",\"shape\":[2,2],\"data_offsets\":[16,20]}} ",
        20); /* the space aligns it */
    assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_matrix(&m, c, NULL, "m.weight", 2, 0, ASSAY_DTYPE_BF16, NULL),
                     ASSAY_OK);
    assert_ptr_equal(m.data, assay_checkpoint_find(c, "m.weight")->data);
    assert_int_equal(m.act_dtype, ASSAY_DTYPE_BF16);
    assay_matrix_deinit(&m);
    static const struct {
        const char *name;
        int64_t rows, cols;
        assay_status status;
        const char *says;
    } cases[] = {
        {"m.weight", 3, 2, ASSAY_EINPUT, "tensor m.weight is 2 x 3 where 3 x 2 is expected"},
        {"n.weight", 3, 2, ASSAY_ENOTFOUND, "no tensor n.weight"},
        {"q.weight", 2, 2, ASSAY_EINPUT, "of type I8 and nothing says how"},
        {"i", 2, 2, ASSAY_EUSAGE, "does not end in .weight"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_status s = assay_checkpoint_matrix(&m, c, NULL, cases[i].name, cases[i].rows, cases[i].cols,
                                                 ASSAY_DTYPE_F32, &err);
        expect_error(s, cases[i].status, &err, cases[i].says);
    }
    assay_err err = {0};
    expect_error(assay_checkpoint_vector(v, c, "m.weight", 4, &err), ASSAY_EINPUT, &err,
                 "one of 4 is expected");
    err = (assay_err){0};
    expect_error(assay_checkpoint_vector(v, c, "i", 1, &err), ASSAY_EINPUT, &err, "type I32 where floats");
    err = (assay_err){0};
    expect_error(assay_checkpoint_vector(v, c, "norm", 1, &err), ASSAY_ENOTFOUND, &err, "no tensor norm");
    assay_checkpoint_close(c);
}

static void nan_in_a_vector_is_named(void **state) {
    (void)state;
    assay_checkpoint *c;
    float v[8];
    assay_err err = {0};
    char bytes[8 + 70 + 16];
    const char json[] = "{\"norm\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    uint64_t n = strlen(json);
    uint32_t nan = 0x7fc00000;
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, json, n);
    memcpy(bytes + 8 + n + 8, &nan, 4);
    write_bytes(dir, "one.safetensors", bytes, 8 + n + 16);
    char *path = assay_path_join(dir, "one.safetensors");
    assert_int_equal(assay_checkpoint_open(&c, path, NULL), ASSAY_OK);
    expect_error(assay_checkpoint_vector(v, c, "norm", 4, &err), ASSAY_EINPUT, &err,
                 "tensor norm holds NaN or infinity at element 2");
    assay_checkpoint_close(c);
    assay_free(path);
}

/* Unaligned elements cannot be borrowed; they are copied, with the same values. */
static void unaligned_weights_are_copied(void **state) {
    (void)state;
    assay_checkpoint *c;
    assay_matrix m;
    float row[3];
    write_tensors(
        dir, "model.safetensors",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"m.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[1,13]}}",
        13);
    for (int pad = 0; pad < 2; pad++) {
        assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
        assert_int_equal(assay_checkpoint_matrix(&m, c, NULL, "m.weight", 2, 3, ASSAY_DTYPE_BF16, NULL),
                         ASSAY_OK);
        assert_int_equal((uintptr_t)m.data % 2, 0);
        assay_matrix_decode_rows(row, &m, 1, 1);
        assert_true(row[0] == assay_bf16_to_f32(0x0807));
        assay_matrix_deinit(&m);
        assay_checkpoint_close(c);
        write_tensors(
            dir, "model.safetensors",
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"m.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[1,13]}} ",
            13);
    }
}

static void the_hash_sees_names_shapes_and_bytes_but_not_the_layout(void **state) {
    (void)state;
    static const char *const same[] = {
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
        "{\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}, \"a\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]}}",
    };
    static const char *const other[] = {
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4,1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[2,2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
        "{\"c\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
    };
    char first[65], hex[65];
    assay_checkpoint *c;
    write_bytes(dir, "config.json", "{}", 2);
    for (size_t i = 0; i < ASSAY_LEN(same) + ASSAY_LEN(other) + 1; i++) {
        bool is_same = i < ASSAY_LEN(same), is_other = i < ASSAY_LEN(same) + ASSAY_LEN(other);
        write_tensors(dir, "model.safetensors",
                      is_same    ? same[i]
                      : is_other ? other[i - ASSAY_LEN(same)]
                                 : same[0],
                      4);
        if (!is_other) write_bytes(dir, "config.json", "{ }", 3);
        assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
        assert_int_equal(assay_checkpoint_hash(i == 0 ? first : hex, c, NULL), ASSAY_OK);
        assay_checkpoint_close(c);
        if (i == 0) continue;
        if (is_same)
            assert_string_equal(hex, first);
        else
            assert_string_not_equal(hex, first);
    }
}

static void running_out_of_memory_is_reported(void **state) {
    (void)state;
    assay_checkpoint *c;
    write_shard("model.safetensors", "x");
    for (long n = 0;; n++) {
        assay_err err = {0};
        assay_mem_fail_after(n);
        assay_status s = assay_checkpoint_open(&c, dir, &err);
        assay_mem_fail_after(-1);
        if (s == ASSAY_OK) break;
        assert_int_equal(s, ASSAY_ENOMEM);
        assert_true(n < 100);
    }
    assay_checkpoint_close(c);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_read_in_its_order),
        TEST(every_lie_in_a_header_is_named),
        TEST(truncation_at_every_byte_is_an_error),
        TEST(header_sizes_that_lie_are_refused),
        TEST(missing_files_say_what_was_looked_for),
        TEST(shards_are_one_checkpoint),
        TEST(wrong_tensors_are_named_with_their_shape),
        TEST(nan_in_a_vector_is_named),
        TEST(unaligned_weights_are_copied),
        TEST(the_hash_sees_names_shapes_and_bytes_but_not_the_layout),
        TEST(running_out_of_memory_is_reported),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
