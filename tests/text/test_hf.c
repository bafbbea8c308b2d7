/* test_hf.c: the tokenizer.json and tokenizer_config.json that are made of a GGUF file's vocabulary. Small ones are here in full; their ids
 * are what tokenizers 0.23.3 made of these very files. Larger ones must give the same ids when they are read again, and the same fields
 * when they are written as GGUF again. */
#include <unistd.h>
#include "base/gguf.h"
#include "text/golden.h"
#include "text/gguf_vocab.h"
#include "text/hf.h"

/* ---- help ---- */

#define TEXT(s) {(s), sizeof(s) - 1}
#define META    "\xE2\x96\x81"

static assay_tokenizer *from_vocab(const assay_gguf_vocab *v) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (assay_tokenizer_from_gguf(&t, v, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return t;
}

static void to_hf(json_t **tokenizer, json_t **config, const assay_tokenizer *t, assay_token_text chat_template) {
    assay_err err = {0};
    if (assay_tokenizer_to_hf(tokenizer, config, t, chat_template, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

static assay_tokenizer *from_hf(const json_t *tokenizer, const json_t *config) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    char *a = json_dumps(tokenizer, JSON_COMPACT), *b = json_dumps(config, JSON_COMPACT);
    if (assay_tokenizer_parse(&t, a, strlen(a), b, strlen(b), "written", &err) != ASSAY_OK) fail_msg("%s", err.message);
    free(a);
    free(b);
    return t;
}

/* What t becomes as files. */
static assay_tokenizer *again(const assay_tokenizer *t) {
    json_t *tokenizer, *config;
    to_hf(&tokenizer, &config, t, (assay_token_text){0});
    assay_tokenizer *back = from_hf(tokenizer, config);
    json_decref(tokenizer);
    json_decref(config);
    return back;
}

static void same_json(const json_t *got, const char *want_text) {
    json_error_t e;
    json_t *want = json_loads(want_text, 0, &e);
    if (!want) fail_msg("the expectation is no JSON: %s at %d", e.text, e.position);
    if (!json_equal(got, want)) {
        char *a = json_dumps(got, JSON_COMPACT), *b = json_dumps(want, JSON_COMPACT);
        fail_msg("got  %s\nwant %s", a, b);
    }
    json_decref(want);
}

static void same_ids(const assay_tokenizer *t, const char *text, const int32_t *want, size_t n_want) {
    assay_err err = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(assay_tokenizer_encode(&ids, &n, t, text, strlen(text), true, true, &err), ASSAY_OK);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
    assay_free(ids);
}

static void same_tokenizers(const char *name, const assay_tokenizer *a, const assay_tokenizer *b, const json_t *texts) {
    assay_err err = {0};
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i);
        int32_t *x = NULL, *y = NULL;
        size_t n_x = 0, n_y = 0;
        assert_int_equal(assay_tokenizer_encode(&x, &n_x, a, json_string_value(text), json_string_length(text), true, true, &err), ASSAY_OK);
        assert_int_equal(assay_tokenizer_encode(&y, &n_y, b, json_string_value(text), json_string_length(text), true, true, &err), ASSAY_OK);
        if (n_x != n_y || memcmp(x, y, n_x * sizeof *x) != 0) fail_msg("%s: other ids for [%s]", name, json_string_value(text));
        assay_free(x);
        assay_free(y);
    }
    assert_int_equal(assay_tokenizer_bos(a), assay_tokenizer_bos(b));
    assert_int_equal(assay_tokenizer_eos(a), assay_tokenizer_eos(b));
}

/* ---- small ones in full ---- */

/* Control and user-defined tokens at the end are added tokens alone; the embedding's padding is gone. */
static void test_byte_level(void **state) {
    (void)state;
    static const assay_token_text tokens[] = {TEXT("a"),  TEXT("b"),        TEXT("\xC4\xA0"), TEXT("<s>"),  TEXT("ab"),
                                              TEXT("\xC4\xA0" "ab"), TEXT("<|end|>"), TEXT("foo"), TEXT("[PAD8]"), TEXT("[PAD9]")};
    static const int32_t types[] = {1, 1, 1, 3, 1, 1, 3, 4, 5, 5};
    static const assay_token_text merges[] = {TEXT("a b"), TEXT("\xC4\xA0 ab")};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    v.model = (assay_token_text)TEXT("gpt2");
    v.pre = (assay_token_text)TEXT("starcoder");
    v.tokens = tokens, v.n_tokens = ASSAY_LEN(tokens), v.types = types;
    v.merges = merges, v.n_merges = ASSAY_LEN(merges);
    v.bos = 3, v.eos = 6, v.add_bos = ASSAY_FLAG_TRUE;
    assay_tokenizer *t = from_vocab(&v);
    json_t *tokenizer, *config;
    to_hf(&tokenizer, &config, t, (assay_token_text)TEXT("{{ messages }}"));
    same_json(tokenizer,
              "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["
              "{\"id\":3,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},"
              "{\"id\":6,\"content\":\"<|end|>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},"
              "{\"id\":7,\"content\":\"foo\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false}],"
              "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
              "{\"type\":\"Digits\",\"individual_digits\":true},"
              "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}]},"
              "\"post_processor\":{\"type\":\"TemplateProcessing\","
              "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
              "\"pair\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
              "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":1}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
              "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[3],\"tokens\":[\"<s>\"]}}},"
              "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
              "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
              "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
              "\"vocab\":{\"a\":0,\"b\":1,\"\xC4\xA0\":2,\"<s>\":3,\"ab\":4,\"\xC4\xA0" "ab\":5},\"merges\":[\"a b\",\"\xC4\xA0 ab\"]}}");
    json_object_del(config, "added_tokens_decoder");
    same_json(config, "{\"add_bos_token\":true,\"add_eos_token\":false,\"bos_token\":\"<s>\",\"chat_template\":\"{{ messages }}\","
                      "\"clean_up_tokenization_spaces\":false,\"eos_token\":\"<|end|>\",\"tokenizer_class\":\"PreTrainedTokenizerFast\"}");
    assay_tokenizer *back = from_hf(tokenizer, config);
    static const int32_t want[] = {3, 4, 5, 6, 7, 0, 2, 2, 1};
    same_ids(t, "ab ab<|end|>fooa  b", want, ASSAY_LEN(want));
    same_ids(back, "ab ab<|end|>fooa  b", want, ASSAY_LEN(want));
    assay_tokenizer_close(t);
    assay_tokenizer_close(back);
    json_decref(tokenizer);
    json_decref(config);
}

/* Scores become merges: the best first, of equal ones those with the longer left half. */
static void test_pieces(void **state) {
    (void)state;
    static const assay_token_text tokens[] = {TEXT("<unk>"), TEXT("<s>"), TEXT("</s>"), TEXT("<0x21>"), TEXT(META),  TEXT("a"),
                                              TEXT("b"),     TEXT("ab"),  TEXT(META "a"), TEXT(META "ab"), TEXT("b" META)};
    static const int32_t types[] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 5};
    static const float scores[] = {0, 0, 0, 0, -5, -6, -7, -2, -3, -1, -4};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    v.model = (assay_token_text)TEXT("llama");
    v.tokens = tokens, v.n_tokens = ASSAY_LEN(tokens), v.types = types, v.scores = scores;
    assay_tokenizer *t = from_vocab(&v);
    json_t *tokenizer, *config;
    to_hf(&tokenizer, &config, t, (assay_token_text){0});
    same_json(json_object_get(tokenizer, "model"),
              "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<unk>\",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
              "\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false,\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"<0x21>\":3,"
              "\"" META "\":4,\"a\":5,\"b\":6,\"ab\":7,\"" META "a\":8,\"" META "ab\":9,\"b" META "\":10},"
              "\"merges\":[\"" META "a b\",\"" META " ab\",\"a b\",\"" META " a\"]}");
    same_json(json_object_get(tokenizer, "normalizer"),
              "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" META "\"},"
              "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" META "\"}]}");
    same_json(json_object_get(tokenizer, "decoder"),
              "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" META "\"},\"content\":\" \"},"
              "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}");
    assert_true(json_is_null(json_object_get(tokenizer, "pre_tokenizer")));
    assay_tokenizer *back = from_hf(tokenizer, config);
    static const int32_t want[] = {1, 9, 4, 9, 3, 0, 2, 9};
    same_ids(t, "ab  ab!xy</s>ab", want, ASSAY_LEN(want));
    same_ids(back, "ab  ab!xy</s>ab", want, ASSAY_LEN(want));
    assay_tokenizer_close(t);
    assay_tokenizer_close(back);
    json_decref(tokenizer);
    json_decref(config);
}

/* SentencePiece's trimming as replacements; words apart, because no token crosses them. */
static void test_unigram(void **state) {
    (void)state;
    static const assay_token_text tokens[] = {TEXT("<pad>"), TEXT("</s>"), TEXT("<unk>"), TEXT(META), TEXT("a"), TEXT(META "a"), TEXT("<x>")};
    static const int32_t types[] = {3, 3, 2, 1, 1, 1, 4};
    static const float scores[] = {0, 0, 0, -2, -3, -3.5f, 0};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    v.model = (assay_token_text)TEXT("t5");
    v.tokens = tokens, v.n_tokens = ASSAY_LEN(tokens), v.types = types, v.scores = scores;
    v.add_space_prefix = v.remove_extra_whitespaces = ASSAY_FLAG_TRUE;
    assay_tokenizer *t = from_vocab(&v);
    json_t *tokenizer, *config;
    to_hf(&tokenizer, &config, t, (assay_token_text){0});
    same_json(json_object_get(tokenizer, "model"),
              "{\"type\":\"Unigram\",\"unk_id\":2,\"byte_fallback\":false,\"vocab\":[[\"<pad>\",0.0],[\"</s>\",0.0],[\"<unk>\",0.0],"
              "[\"" META "\",-2.0],[\"a\",-3.0],[\"" META "a\",-3.5]]}");
    same_json(json_object_get(tokenizer, "normalizer"),
              "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +| +\\\\z\"},\"content\":\"\"},"
              "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},{\"type\":\"Prepend\",\"prepend\":\"" META "\"},"
              "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" META "\"}]}");
    same_json(json_object_get(tokenizer, "pre_tokenizer"),
              "{\"type\":\"Metaspace\",\"replacement\":\"" META "\",\"prepend_scheme\":\"never\",\"split\":true}");
    assay_tokenizer *back = from_hf(tokenizer, config);
    static const int32_t want[] = {5, 5, 3, 2, 6, 5, 1};
    same_ids(t, "  a   a zz <x>  a ", want, ASSAY_LEN(want));
    same_ids(back, "  a   a zz <x>  a ", want, ASSAY_LEN(want));
    assay_tokenizer_close(t);
    assay_tokenizer_close(back);
    json_decref(tokenizer);
    json_decref(config);
}

/* Two ids with one text: the second keeps its place under another name, so that what follows keeps its id. */
static void test_twice_the_same(void **state) {
    (void)state;
    static const assay_token_text tokens[] = {TEXT("a"), TEXT("a"), TEXT("b"), TEXT("<e>")};
    static const int32_t types[] = {1, 1, 1, 3};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    v.model = (assay_token_text)TEXT("gpt2");
    v.pre = (assay_token_text)TEXT("gpt-2");
    v.tokens = tokens, v.n_tokens = ASSAY_LEN(tokens), v.types = types;
    assay_tokenizer *t = from_vocab(&v);
    json_t *tokenizer, *config;
    to_hf(&tokenizer, &config, t, (assay_token_text){0});
    same_json(json_object_get(json_object_get(tokenizer, "model"), "vocab"), "{\"a\":0,\"[PAD1]\":1,\"b\":2,\"<e>\":3}");
    assay_tokenizer *back = from_hf(tokenizer, config);
    same_ids(back, "ab<e>", (int32_t[]){0, 2, 3}, 3);
    assay_tokenizer_close(t);
    assay_tokenizer_close(back);
    json_decref(tokenizer);
    json_decref(config);
}

/* ---- larger ones, there and back ---- */

static void check_round_trip(const char *name, const assay_tokenizer *t, const json_t *texts) {
    assay_err err = {0};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT, w = ASSAY_GGUF_VOCAB_INIT;
    if (assay_tokenizer_to_gguf(&v, t, NULL, 0, &err) != ASSAY_OK) fail_msg("%s: %s", name, err.message);
    assay_tokenizer *read = from_vocab(&v), *back = again(read);
    same_tokenizers(name, read, back, texts);
    if (assay_tokenizer_to_gguf(&w, back, NULL, 0, &err) != ASSAY_OK) fail_msg("%s: %s", name, err.message);
    assert_int_equal(v.n_tokens, w.n_tokens);
    assert_int_equal(v.n_merges, w.n_merges);
    assert_memory_equal(v.types, w.types, v.n_tokens * sizeof *v.types);
    for (size_t i = 0; i < v.n_tokens; i++) {
        assert_int_equal(v.tokens[i].n, w.tokens[i].n);
        assert_memory_equal(v.tokens[i].s, w.tokens[i].s, v.tokens[i].n);
    }
    for (size_t i = 0; i < v.n_merges; i++) {
        assert_int_equal(v.merges[i].n, w.merges[i].n);
        assert_memory_equal(v.merges[i].s, w.merges[i].s, v.merges[i].n);
    }
    assay_gguf_vocab_free(&v);
    assay_gguf_vocab_free(&w);
    assay_tokenizer_close(read);
    assay_tokenizer_close(back);
}

static void test_round_trip(void **state) {
    (void)state;
    json_t *golden = golden_load("tests/text/golden/pieces.json");
    const json_t *texts = json_object_get(golden, "texts");
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (assay_path_exists("models/demo/tokenizer.json")) {
        assert_int_equal(assay_tokenizer_open(&t, "models/demo", &err), ASSAY_OK);
        check_round_trip("demo", t, texts);
        assay_tokenizer_close(t);
    }
    static const char *const shared[] = {"tokenizers/smollm2", "models/stories260K/hf"};
    for (size_t i = 0; i < ASSAY_LEN(shared); i++) {
        char *path = golden_shared(shared[i]);
        if (!path) continue;
        if (assay_tokenizer_open(&t, path, &err) != ASSAY_OK) fail_msg("%s", err.message);
        check_round_trip(shared[i], t, texts);
        assay_tokenizer_close(t);
        assay_free(path);
    }
    json_decref(golden);
}

/* llama.cpp's vocabularies: the files give the same ids. */
static void test_vocabularies(void **state) {
    (void)state;
    static const char *const names[] = {"deepseek-llm", "falcon", "llama-spm", "phi-3", "starcoder"};
    json_t *golden = golden_load("tests/text/golden/pieces.json");
    size_t seen = 0;
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        char name[100];
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        snprintf(name, sizeof name, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf", names[i]);
        char *path = golden_shared(name);
        if (!path) continue;
        if (assay_tokenizer_open(&t, path, &err) != ASSAY_OK) fail_msg("%s: %s", names[i], err.message);
        assay_tokenizer *back = again(t);
        same_tokenizers(names[i], t, back, json_object_get(golden, "texts"));
        assay_tokenizer_close(t);
        assay_tokenizer_close(back);
        assay_free(path);
        seen++;
    }
    json_decref(golden);
    if (!seen) skip();
}

/* ---- files ---- */

static void put_gguf(const char *path, const assay_gguf_vocab *v) {
    assay_err err = {0};
    assay_str values = {0}, file = {0};
    uint64_t n = 4;
    assay_gguf_put_string(&values, "general.architecture", "toy", 3);
    assay_gguf_put_int(&values, "toy.context_length", ASSAY_GGUF_U32, 512);
    assay_gguf_put_int(&values, "tokenizer.ggml.eot_token_id", ASSAY_GGUF_U32, 2);
    assay_gguf_put_int(&values, "tokenizer.ggml.eom_token_id", ASSAY_GGUF_U32, 1);
    if (v) assay_gguf_vocab_put(&values, &n, v);
    assay_gguf_put_head(&file, 0, n);
    assay_str_putn(&file, values.s, values.len);
    assert_int_equal(assay_write_file(path, file.s, file.len, &err), ASSAY_OK);
    assay_str_free(&values);
    assay_str_free(&file);
}

static json_t *load(const char *dir, const char *name) {
    char *path = assay_path_join(dir, name);
    json_t *j = golden_load(path);
    assay_free(path);
    return j;
}

static void test_files(void **state) {
    (void)state;
    static const assay_token_text tokens[] = {TEXT("a"), TEXT("<e>"), TEXT("<t>")};
    static const int32_t types[] = {1, 3, 3};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    assay_err err = {0};
    char dir[] = "/tmp/assay-hf-XXXXXX", out[64], path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    assert_int_equal(assay_mkdirs(out, &err), ASSAY_OK);
    put_gguf(path, NULL);
    assert_int_equal(assay_gguf_write_hf(out, path, &err), ASSAY_ENOTFOUND);
    v.model = (assay_token_text)TEXT("gpt2");
    v.pre = (assay_token_text)TEXT("nobody knows");
    v.tokens = tokens, v.n_tokens = ASSAY_LEN(tokens), v.types = types, v.eos = 1;
    v.chat_template = (assay_token_text)TEXT("{% broken");
    put_gguf(path, &v);
    err = (assay_err){0};
    assert_int_equal(assay_gguf_write_hf(out, path, &err), ASSAY_EUNSUPPORTED);
    if (!strstr(err.message, "m.gguf: tokenizer.ggml.pre: the pre-tokenizer 'nobody knows' is not known")) fail_msg("%s", err.message);
    v.pre = (assay_token_text)TEXT("gpt-2");
    put_gguf(path, &v);
    err = (assay_err){0};
    if (assay_gguf_write_hf(out, dir, &err) != ASSAY_OK) fail_msg("%s", err.message); /* the one file of the folder */
    json_t *config = load(out, "tokenizer_config.json"), *generation = load(out, "generation_config.json");
    assert_string_equal(golden_str(config, "chat_template"), "{% broken"); /* carried, not judged */
    assert_int_equal(json_integer_value(json_object_get(config, "model_max_length")), 512);
    same_json(generation, "{\"eos_token_id\":[1,2]}");
    assay_tokenizer *t = NULL;
    if (assay_tokenizer_open(&t, out, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_tokenizer_eos(t), 1);
    assay_tokenizer_close(t);
    json_decref(config);
    json_decref(generation);
    snprintf(out, sizeof out, "rm -rf %s", dir);
    assert_int_equal(system(out), 0);
}

static void test_out_of_memory(void **state) {
    (void)state;
    static const assay_token_text tokens[] = {TEXT("<unk>"), TEXT("<s>"), TEXT("</s>"), TEXT(META), TEXT("a"), TEXT(META "a")};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1};
    static const float scores[] = {0, 0, 0, -1, -2, -3};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    v.model = (assay_token_text)TEXT("llama");
    v.tokens = tokens, v.n_tokens = ASSAY_LEN(tokens), v.types = types, v.scores = scores;
    assay_tokenizer *t = from_vocab(&v);
    bool done = false;
    long k = 0;
    for (; !done; k++) {
        assay_err err = {0};
        json_t *tokenizer = NULL, *config = NULL;
        assay_mem_fail_after(k);
        assay_status s = assay_tokenizer_to_hf(&tokenizer, &config, t, (assay_token_text)TEXT("x"), &err);
        assay_mem_fail_after(-1);
        done = s == ASSAY_OK;
        if (!done) {
            assert_int_equal(s, ASSAY_ENOMEM);
            assert_null(tokenizer);
            assert_null(config);
        }
        json_decref(tokenizer);
        json_decref(config);
    }
    assert_true(k > 3);
    assay_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level), cmocka_unit_test(test_pieces),     cmocka_unit_test(test_unigram),
        cmocka_unit_test(test_twice_the_same), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("text/hf", tests, NULL, NULL);
}
