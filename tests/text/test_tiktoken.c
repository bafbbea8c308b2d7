/* test_tiktoken.c: Llama 3's tokenizer.model in tiktoken's form. The ids are those of tiktoken 0.12.0 with Meta's pattern and special tokens:
 * of a small list made here, and of Meta's own file where ASSAY_SHARED has it. */
#include "text/golden.h"

/* ---- help ---- */

static void put_line(assay_str *list, const char *bytes, size_t n, int rank) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)bytes;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        for (size_t k = 0; k < 4; k++) assay_str_putc(list, i + k > n ? '=' : digits[v >> (18 - 6 * k) & 63]);
    }
    assay_str_printf(list, " %d\n", rank);
}

/* The 256 bytes and ten tokens. */
static assay_str small_list(void) {
    static const char *const tokens[] = {"he", "ll", "aa", "aaa", " h", "hell", "\xC3\xA9", "12", "hello", "\x9F\x99"};
    assay_str list = {0};
    for (int b = 0; b < 256; b++) put_line(&list, &(char){(char)b}, 1, b);
    for (int i = 0; i < (int)ASSAY_LEN(tokens); i++) put_line(&list, tokens[i], strlen(tokens[i]), 256 + i);
    return list;
}

static void same(const assay_tokenizer *t, const char *text, const int32_t *want, size_t n_want) {
    assay_err err = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    assay_str back = {0};
    assert_int_equal(assay_tokenizer_encode(&ids, &n, t, text, strlen(text), true, true, &err), ASSAY_OK);
    assert_int_equal(n, n_want + 1);
    assert_int_equal(ids[0], assay_tokenizer_bos(t));
    for (size_t i = 0; i < n_want; i++)
        if (ids[i + 1] != want[i]) fail_msg("[%s]: id %zu is %d, not %d", text, i, ids[i + 1], want[i]);
    assert_int_equal(assay_tokenizer_decode(&back, t, ids, n, true, &err), ASSAY_OK);
    if (!strchr(text, '<')) assert_string_equal(assay_str_c(&back), text);
    assay_free(ids);
    assay_str_free(&back);
}
#define SAME(t, text, ...) same(t, text, (const int32_t[]){__VA_ARGS__}, ASSAY_LEN(((const int32_t[]){__VA_ARGS__})))

static assay_tokenizer *parse(const assay_str *list, const char *config) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (assay_tokenizer_parse_model(&t, list->s, list->len, config, config ? strlen(config) : 0, "list", &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    return t;
}

/* ---- tests ---- */

/* "aaaaa" is aa+aaa: of equal ranks the leftmost merges first. */
static void test_small(void **state) {
    (void)state;
    assay_str list = small_list();
    assay_tokenizer *t = parse(&list, NULL);
    assert_int_equal(assay_tokenizer_n_vocab(t), 266 + 256);
    SAME(t, "hello hell", 264, 32, 261);
    SAME(t, "aaaaa aaaa", 258, 259, 32, 258, 258);
    SAME(t, "\xC3\xA9" "1234\xF0\x9F\x99\x82", 262, 263, 51, 52, 240, 265, 130);
    SAME(t, "a<|eot_id|>he", 97, 275, 256);
    assert_true(assay_tokenizer_is_special(t, 275));
    assert_string_equal(assay_tokenizer_token(t, 267), "<|end_of_text|>");
    assert_string_equal(assay_tokenizer_token(t, 270), "<|reserved_special_token_2|>");
    assert_string_equal(assay_tokenizer_token(t, 274), "<|reserved_special_token_4|>");
    assert_string_equal(assay_tokenizer_token(t, 521), "<|reserved_special_token_250|>");
    assert_int_equal(assay_tokenizer_eos(t), 267);
    assay_tokenizer_close(t);
    assay_str_free(&list);
}

static void test_config(void **state) {
    (void)state;
    assay_str list = small_list();
    assay_tokenizer *t = parse(&list, "{\"added_tokens_decoder\":{\"270\":{\"content\":\"<pad>\",\"special\":true},\"271\":{\"content\":\"<x>\","
                                      "\"special\":false,\"rstrip\":true}},\"pad_token\":\"<pad>\",\"eos_token\":\"<|eot_id|>\"}");
    assert_string_equal(assay_tokenizer_token(t, 270), "<pad>");
    assert_false(assay_tokenizer_is_special(t, 271));
    assert_int_equal(assay_tokenizer_eos(t), 275);
    SAME(t, "<x>  he", 271, 256);
    assay_tokenizer_close(t);
    assay_str_free(&list);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {{"YQ== 0 1\n", "list: line 267 is no token with a rank"},
                 {"YQ==\n", "list: line 267 is no token with a rank"},
                 {"YQ== 99999999999999999999\n", "list: line 267 is no token with a rank"},
                 {"Y!== 266\n", "list: line 267 is not base64"},
                 {"Y 266\n", "list: line 267 is not base64"},
                 {"==== 266\n", "list: line 267 is not base64"},
                 {"YQ== 266\n", "list: line 267 has a token that was there before"},
                 {"\r\n\nYWI= 3\n", "list: line 269 has a rank that was there before"},
                 {"YWI= 300\n", "list: the highest of 267 ranks is 300"},
                 {"YWI= 5000000\n", "token 'ab' has the id 5000000, which is out of range"}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        assay_str list = small_list();
        assay_str_put(&list, cases[i].line);
        assert_int_equal(assay_tokenizer_parse_model(&t, list.s, list.len, NULL, 0, "list", &err), ASSAY_EINPUT);
        assert_string_equal(err.message, cases[i].message);
        assay_str_free(&list);
    }
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    assert_int_equal(assay_tokenizer_parse_model(&t, "YQ== 0\n", 7, NULL, 0, "list", &err), ASSAY_EINPUT);
    assert_string_equal(err.message, "list: the byte 0x00 has no rank");
    assay_str list = small_list();
    assay_str_put(&list, "QUFB");
    for (int i = 0; i < 90; i++) assay_str_put(&list, "QUFB");
    assay_str_put(&list, " 266\n");
    err = (assay_err){0};
    assert_int_equal(assay_tokenizer_parse_model(&t, list.s, list.len, NULL, 0, "list", &err), ASSAY_EINPUT);
    assert_string_equal(err.message, "list: line 267 has a token that is too long");
    assay_str_free(&list);
}

static void write_file(const char *dir, const char *name, const char *text, size_t n) {
    assay_err err = {0};
    char *path = assay_path_join(dir, name);
    assert_int_equal(assay_write_file(path, text, n, &err), ASSAY_OK);
    assay_free(path);
}

/* Another model's list would be read with the wrong pattern. */
static void test_other_lists(void **state) {
    (void)state;
    char dir[] = "/tmp/assay-tiktoken-XXXXXX", command[80];
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    assay_str list = small_list();
    assert_non_null(mkdtemp(dir));
    write_file(dir, "tokenizer.model", list.s, list.len);
    assert_int_equal(assay_tokenizer_open(&t, dir, &err), ASSAY_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "tokenizer.model is a list of 266 ranks for tiktoken, without pattern and special tokens: only Llama "
                                        "3's, of 128000, is known; use the model's tokenizer.json"));
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    assay_str_free(&list);
}

/* Meta's file, and the names that 3.1 gave to reserved tokens. */
static void test_llama3(void **state) {
    (void)state;
    char *path = golden_shared("tokenizers/llama-3/tokenizer.model"), *data = NULL;
    char dir[] = "/tmp/assay-tiktoken-XXXXXX", command[80];
    assay_err err = {0};
    size_t n = 0;
    if (!path) skip();
    assert_int_equal(assay_read_file(&data, &n, path, 0, &err), ASSAY_OK);
    assert_non_null(mkdtemp(dir));
    write_file(dir, "tokenizer.model", data, n);
    for (int later = 0; later < 2; later++) {
        assay_tokenizer *t = NULL;
        if (later) write_file(dir, "params.json", "{\"use_scaled_rope\": true}", 25);
        if (assay_tokenizer_open(&t, dir, &err) != ASSAY_OK) fail_msg("%s", err.message);
        assert_int_equal(assay_tokenizer_n_vocab(t), 128256);
        SAME(t, "Hello, world! 12345 na\xC3\xAFve \xE4\xB8\xAD\xE6\x96\x87\xE5\xAD\x97\xE7\xAC\xA6 \xF0\x9F\x99\x82\n\n  if (x) {\t}", 9906, 11,
             1917, 0, 220, 4513, 1774, 95980, 588, 73958, 17161, 49491, 40124, 220, 422, 320, 87, 8, 314, 197, 92);
        SAME(t, "<|eot_id|> \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80 don't", 128009, 85410, 100556, 101102,
             44747, 1541, 956);
        assert_string_equal(assay_tokenizer_token(t, 128008), later ? "<|eom_id|>" : "<|reserved_special_token_4|>");
        assert_string_equal(assay_tokenizer_token(t, 128255), later ? "<|reserved_special_token_247|>" : "<|reserved_special_token_250|>");
        assay_tokenizer_close(t);
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    assay_free(data);
    assay_free(path);
}

static void test_out_of_memory(void **state) {
    (void)state;
    assay_str list = small_list();
    bool done = false;
    long k = 0;
    for (; !done; k += 1 + k / 16) {
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        assay_mem_fail_after(k);
        assay_status s = assay_tokenizer_parse_model(&t, list.s, list.len, "{}", 2, "list", &err);
        assay_mem_fail_after(-1);
        done = s == ASSAY_OK;
        if (!done && s != ASSAY_ENOMEM) fail_msg("%ld: %s", k, err.message);
        assay_tokenizer_close(t);
    }
    assert_true(k > 30);
    assay_str_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),       cmocka_unit_test(test_config), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_other_lists), cmocka_unit_test(test_llama3), cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("text/tiktoken", tests, NULL, NULL);
}
