/* test_pieces.c: SentencePiece's models and GGUF's vocabularies. Small models are in golden/pieces.json with
 * what sentencepiece and tokenizers make of the texts (make_golden_pieces.py); those that are not ours to
 * ship, and llama.cpp's own test vectors, are read from ASSAY_SHARED, else skipped. */
#include <math.h>
#include "text/golden.h"

static json_t *golden;

/* ---- help ---- */

static size_t base64(uint8_t *out, const char *s) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0; s[i] && s[i] != '='; i++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, s[i]) - digits);
        if (i % 4) out[n++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return n;
}

static assay_tokenizer *from_model(const json_t *set, const char *config) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    const char *text = golden_str(set, "model");
    uint8_t *data = assay_malloc(strlen(text));
    size_t n = base64(data, text);
    if (assay_tokenizer_parse_model(&t, data, n, config, config ? strlen(config) : 0, golden_str(set, "name"),
                                    &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assay_free(data);
    return t;
}

/* The same tokenizer through GGUF's fields. NULL when llama.cpp has no such tokenizer. */
static assay_tokenizer *rewritten(const assay_tokenizer *t, assay_err *err) {
    assay_gguf_vocab v;
    assay_tokenizer *again = NULL;
    if (assay_tokenizer_to_gguf(&v, t, NULL, 0, err) != ASSAY_OK) return NULL;
    if (assay_tokenizer_from_gguf(&again, &v, err) != ASSAY_OK) fail_msg("%s", err->message);
    assay_gguf_vocab_free(&v);
    return again;
}

static bool same_ids(const int32_t *ids, size_t n, const json_t *want) {
    if (json_is_string(want)) {
        char hash[ASSAY_HASH_HEX];
        assay_hash_bytes(hash, ids, n * sizeof *ids);
        return strncmp(hash, json_string_value(want), 16) == 0;
    }
    if (json_array_size(want) != n) return false;
    for (size_t i = 0; i < n; i++)
        if (json_integer_value(json_array_get(want, i)) != ids[i]) return false;
    return true;
}

static void check_cases(const assay_tokenizer *t, const char *name, const json_t *cases, bool special) {
    const json_t *texts = json_object_get(golden, "texts");
    assay_err err = {0};
    assert_int_equal(json_array_size(cases), json_array_size(texts));
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *text = json_array_get(texts, i),
                     *decoded = json_object_get(c, "decoded");
        int32_t *ids = NULL;
        size_t n = 0;
        if (assay_tokenizer_encode(&ids, &n, t, json_string_value(text), json_string_length(text), special,
                                   special, &err) != ASSAY_OK)
            fail_msg("%s: %s", name, err.message);
        if (!same_ids(ids, n, json_object_get(c, "ids"))) {
            for (size_t k = 0; k < n; k++)
                print_error(" %d(%s)", ids[k], assay_tokenizer_token(t, ids[k]));
            fail_msg("%s: ids of [%s] differ", name, json_string_value(text));
        }
        if (decoded) {
            assay_str out = {0};
            assert_int_equal(assay_tokenizer_decode(&out, t, ids, n, false, &err), ASSAY_OK);
            golden_same_text(name, assay_str_c(&out), out.len, decoded);
            assay_str_free(&out);
        }
        assay_free(ids);
    }
}

/* ---- tokenizer.model ---- */

static void test_models(void **state) {
    (void)state;
    const json_t *sets = json_object_get(golden, "sets");
    for (size_t i = 0; i < json_array_size(sets); i++) {
        const json_t *set = json_array_get(sets, i);
        assay_tokenizer *t = from_model(set, NULL);
        check_cases(t, golden_str(set, "name"), json_object_get(set, "cases"), false);
        assay_tokenizer_close(t);
    }
    assert_true(json_array_size(sets) >= 8);
}

/* Llama's and Mistral's own files. */
static void test_shared_models(void **state) {
    (void)state;
    const json_t *sets = json_object_get(golden, "shared");
    size_t seen = 0;
    for (size_t i = 0; i < json_array_size(sets); i++) {
        const json_t *set = json_array_get(sets, i);
        char *path = golden_shared(golden_str(set, "path")), *data = NULL;
        size_t n = 0;
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        if (path && assay_path_exists(path)) {
            assert_int_equal(assay_read_file(&data, &n, path, 0, &err), ASSAY_OK);
            if (assay_tokenizer_parse_model(&t, data, n, NULL, 0, path, &err) != ASSAY_OK)
                fail_msg("%s", err.message);
            check_cases(t, path, json_object_get(set, "cases"), false);
            seen++;
        }
        assay_tokenizer_close(t);
        assay_free(data);
        assay_free(path);
    }
    if (!seen) skip();
}

static const json_t *find_set(const char *name) {
    const json_t *sets = json_object_get(golden, "sets");
    for (size_t i = 0; i < json_array_size(sets); i++)
        if (strcmp(golden_str(json_array_get(sets, i), "name"), name) == 0) return json_array_get(sets, i);
    fail_msg("no set %s", name);
    return NULL;
}

static void same_list(const assay_tokenizer *t, const char *text, bool special, const int32_t *want,
                      size_t n_want) {
    assay_err err = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(assay_tokenizer_encode(&ids, &n, t, text, strlen(text), special, special, &err),
                     ASSAY_OK);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
    assay_free(ids);
}

/* What tokenizer_config.json adds: tokens behind the pieces, BOS and EOS around the text, no prefix after a
 * special token. */
static void test_config(void **state) {
    (void)state;
    assay_tokenizer *plain = from_model(find_set("bpe"), NULL);
    int32_t x = assay_tokenizer_find(plain, "\xE2\x96\x81"), n = assay_tokenizer_n_vocab(plain),
            one = assay_tokenizer_find(plain, "1");
    assert_true(x > 0 && one > 0);
    assert_int_equal(assay_tokenizer_bos(plain), 1);
    assert_int_equal(assay_tokenizer_eos(plain), 2);
    assert_true(assay_tokenizer_is_special(plain, 1));
    same_list(plain, "1", true, (int32_t[]){1, x, one}, 3);
    same_list(plain, "1</s>1", true, (int32_t[]){1, x, one, 2, x, one}, 6);
    assay_tokenizer_close(plain);

    char config[400];
    snprintf(config, sizeof config,
             "{\"added_tokens_decoder\":{\"%d\":{\"content\":\"<|end|>\",\"special\":true,\"rstrip\":true},"
             "\"2\":{\"content\":\"</s>\",\"special\":true}},"
             "\"add_bos_token\":false,\"add_eos_token\":true,\"eos_token\":\"<|end|>\",\"legacy\":false,"
             "\"tokenizer_class\":\"LlamaTokenizer\"}",
             n);
    assay_tokenizer *t = from_model(find_set("bpe"), config);
    assert_int_equal(assay_tokenizer_n_vocab(t), n + 1);
    assert_int_equal(assay_tokenizer_eos(t), n);
    same_list(t, "1<|end|> 1", true, (int32_t[]){x, one, n, one, n}, 5);
    same_list(t, "1", false, (int32_t[]){x, one}, 2);
    assay_tokenizer_close(t);
}

/* ---- tokenizer.json of kind Unigram, with SentencePiece's character map ---- */

static void test_unigram_json(void **state) {
    (void)state;
    const json_t *sets = json_object_get(golden, "unigrams");
    for (size_t i = 0; i < json_array_size(sets); i++) {
        const json_t *set = json_array_get(sets, i);
        char *text = json_dumps(json_object_get(set, "tokenizer"), JSON_COMPACT);
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        if (assay_tokenizer_parse(&t, text, strlen(text), NULL, 0, golden_str(set, "name"), &err) != ASSAY_OK)
            fail_msg("%s", err.message);
        check_cases(t, golden_str(set, "name"), json_object_get(set, "cases"), true);
        free(text);
        assay_tokenizer_close(t);
    }
    assert_true(json_array_size(sets) >= 3);
}

/* ---- GGUF ---- */

/* Where llama.cpp has the same tokenizer it stays the same through the fields; else the refusal says why. */
static void test_rewritten_models(void **state) {
    (void)state;
    static const struct {
        const char *name, *refusal;
    } expected[] = {{"bpe", NULL},
                    {"bpe unused", NULL},
                    {"bpe rules", "llama.cpp has no such tokenizer: a SentencePiece BPE with a normalizer"},
                    {"unigram", NULL},
                    {"unigram bytes", NULL},
                    {"unigram suffix", "llama.cpp has no such tokenizer: white space as a suffix"}};
    for (size_t i = 0; i < ASSAY_LEN(expected); i++) {
        const json_t *set = find_set(expected[i].name);
        assay_err err = {0};
        assay_tokenizer *t = from_model(set, NULL), *again = rewritten(t, &err);
        if (expected[i].refusal) {
            assert_null(again);
            assert_int_equal(err.code, ASSAY_EUNSUPPORTED);
            assert_string_equal(err.message, expected[i].refusal);
        } else {
            if (!again) fail_msg("%s: %s", expected[i].name, err.message);
            assert_int_equal(assay_tokenizer_bos(again), assay_tokenizer_bos(t));
            check_cases(again, expected[i].name, json_object_get(set, "cases"), false);
        }
        assay_tokenizer_close(again);
        assay_tokenizer_close(t);
    }
}

/* The demo's byte-level BPE: every field, the gap up to the embedding's rows, and the template. */
static void test_written_fields(void **state) {
    (void)state;
    assay_err err = {0};
    assay_tokenizer *t = NULL, *again = NULL;
    assay_template *tmpl = NULL;
    assay_gguf_vocab v;
    if (!assay_path_exists("models/demo/tokenizer.json")) skip();
    assert_int_equal(assay_tokenizer_open(&t, "models/demo", &err), ASSAY_OK);
    assert_int_equal(assay_template_parse(&tmpl, "a\r\nb", 4, &err), ASSAY_OK);
    size_t n = (size_t)assay_tokenizer_n_vocab(t);
    if (assay_tokenizer_to_gguf(&v, t, tmpl, n + 3, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assay_template_close(tmpl);
    assert_memory_equal(v.model.s, "gpt2", 4);
    assert_int_equal(v.n_tokens, n + 3);
    assert_int_equal(v.bos, assay_tokenizer_bos(t));
    assert_int_equal(v.types[v.bos], ASSAY_TOKEN_CONTROL);
    assert_int_equal(v.types[n + 2], ASSAY_TOKEN_UNUSED);
    assert_true(v.tokens[n + 2].n == strlen("[PAD2050]") &&
                memcmp(v.tokens[n + 2].s, "[PAD2050]", v.tokens[n + 2].n) == 0);
    assert_int_equal(v.chat_template.n, 4);
    assert_memory_equal(v.chat_template.s, "a\r\nb", 4);
    assert_int_equal(assay_tokenizer_from_gguf(&again, &v, &err), ASSAY_OK);
    const json_t *texts = json_object_get(golden, "texts");
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const char *s = json_string_value(json_array_get(texts, i));
        int32_t *a = NULL, *b = NULL;
        size_t n_a = 0, n_b = 0;
        assert_int_equal(assay_tokenizer_encode(&a, &n_a, t, s, strlen(s), true, true, &err), ASSAY_OK);
        assert_int_equal(assay_tokenizer_encode(&b, &n_b, again, s, strlen(s), true, true, &err), ASSAY_OK);
        assert_int_equal(n_a, n_b);
        assert_memory_equal(a, b, n_a * sizeof *a);
        assay_free(a);
        assay_free(b);
    }
    assay_gguf_vocab_free(&v);
    assay_tokenizer_close(t);
    assay_tokenizer_close(again);
}

#define SEPARATOR "\n__ggml_vocab_test__\n"

/* The next text of an .inp file. */
static size_t next_input(const char **at, const char *end) {
    const char *s = *at, *hit = memmem(s, (size_t)(end - s), SEPARATOR, strlen(SEPARATOR));
    size_t n = hit ? (size_t)(hit - s) : (size_t)(end - s);
    *at = hit ? hit + strlen(SEPARATOR) : end + 1;
    return n;
}

static void check_vectors(const assay_tokenizer *t, const char *name, const char *in, size_t n_in,
                          const char *out) {
    assay_err err = {0};
    size_t count = 0;
    for (const char *at = in; at <= in + n_in; count++) {
        const char *text = at;
        size_t n = next_input(&at, in + n_in), n_ids = 0, k = 0;
        int32_t *ids = NULL;
        assert_int_equal(assay_tokenizer_encode(&ids, &n_ids, t, text, n, false, false, &err), ASSAY_OK);
        for (; *out && *out != '\n'; k++) {
            char *end;
            long want = strtol(out, &end, 10);
            if (k >= n_ids || ids[k] != want)
                fail_msg("%s: id %zu of [%.*s] is not %ld", name, k, (int)n, text, want);
            out = end;
            while (*out == ' ')
                out++;
        }
        if (*out) out++;
        assert_int_equal(k, n_ids);
        assay_free(ids);
    }
    assert_true(count > 40);
}

/* llama.cpp's vocabularies with its own ids of 47 texts; and through the fields and back. */
static void test_vocabularies(void **state) {
    (void)state;
    static const char *const names[] = {"deepseek-coder", "deepseek-llm", "falcon",
                                        "gpt-2",          "llama-spm",    "mpt",
                                        "phi-3",          "refact",       "starcoder"};
    size_t seen = 0;
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        char name[100], *in = NULL, *out = NULL;
        size_t n_in = 0, n_out = 0;
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        snprintf(name, sizeof name, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf", names[i]);
        char *path = golden_shared(name);
        if (path && assay_path_exists(path)) {
            char files[2][400];
            snprintf(files[0], sizeof files[0], "%s.inp", path);
            snprintf(files[1], sizeof files[1], "%s.out", path);
            assert_int_equal(assay_read_file(&in, &n_in, files[0], 0, &err), ASSAY_OK);
            assert_int_equal(assay_read_file(&out, &n_out, files[1], 0, &err), ASSAY_OK);
            if (assay_tokenizer_open(&t, path, &err) != ASSAY_OK) fail_msg("%s: %s", names[i], err.message);
            check_vectors(t, names[i], in, n_in, out);
            assay_tokenizer *again = rewritten(t, &err);
            if (!again) fail_msg("%s: %s", names[i], err.message);
            check_vectors(again, names[i], in, n_in, out);
            assay_tokenizer_close(again);
            seen++;
        }
        assay_tokenizer_close(t);
        assay_free(in);
        assay_free(out);
        assay_free(path);
    }
    if (!seen) skip();
}

#define TEXT(s)                                                                                              \
    { s, sizeof s - 1 }

/* Every name of llama.cpp that we know, and the name that stands for the same steps when it is written again.
 */
static void test_pre_tokenizers(void **state) {
    (void)state;
    static const struct {
        const char *name, *written;
    } names[] = {{"gpt-2", "gpt-2"},
                 {"phi-2", "gpt-2"},
                 {"mpt", "gpt-2"},
                 {"olmo", "gpt-2"},
                 {"jais", "gpt-2"},
                 {"llama-bpe", "llama-bpe"},
                 {"llama3", "llama-bpe"},
                 {"pixtral", "llama-bpe"},
                 {"smaug-bpe", "smaug-bpe"},
                 {"dbrx", "smaug-bpe"},
                 {"glm4", "smaug-bpe"},
                 {"qwen2", "qwen2"},
                 {"stablelm2", "qwen2"},
                 {"qwen35", "qwen35"},
                 {"starcoder", "starcoder"},
                 {"refact", "starcoder"},
                 {"command-r", "starcoder"},
                 {"smollm", "starcoder"},
                 {"falcon", "falcon"},
                 {"deepseek-llm", "deepseek-llm"},
                 {"deepseek-coder", "deepseek-coder"},
                 {"deepseek-v3", "deepseek-v3"},
                 {"tekken", "tekken"},
                 {"gpt-4o", "gpt-4o"},
                 {"llama4", "gpt-4o"},
                 {"bloom", "bloom"},
                 {"viking", "viking"},
                 {"bailingmoe", "bailingmoe"},
                 {"seed-coder", "seed-coder"},
                 {"exaone-moe", "exaone-moe"},
                 {"jais-2", "jais-2"},
                 {"tiny_aya", "tiny_aya"},
                 {"minicpm5", "minicpm5"},
                 {"default", "default"},
                 {"", "default"}};
    const assay_token_text tokens[] = {TEXT("a"), TEXT("b"), TEXT("ab"), TEXT("<s>")},
                           merges[] = {TEXT("a b")};
    const int32_t types[] = {1, 1, 1, 3};
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT, again;
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        v.model = (assay_token_text)TEXT("gpt2");
        v.pre = (assay_token_text){names[i].name, (uint32_t)strlen(names[i].name)};
        v.tokens = tokens;
        v.types = types;
        v.n_tokens = 4;
        v.merges = merges;
        v.n_merges = 1;
        v.bos = 3;
        if (assay_tokenizer_from_gguf(&t, &v, &err) != ASSAY_OK)
            fail_msg("%s: %s", names[i].name, err.message);
        if (assay_tokenizer_to_gguf(&again, t, NULL, 0, &err) != ASSAY_OK)
            fail_msg("%s: %s", names[i].name, err.message);
        assert_int_equal(again.pre.n, strlen(names[i].written));
        assert_memory_equal(again.pre.s, names[i].written, again.pre.n);
        assert_int_equal(again.n_merges, 1);
        assert_memory_equal(again.merges[0].s, "a b", 3);
        bool adds = strcmp(names[i].written, "llama-bpe") == 0 || strcmp(names[i].written, "tekken") == 0;
        assert_int_equal(again.add_bos, adds ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE);
        assay_gguf_vocab_free(&again);
        assay_tokenizer_close(t);
    }
}

/* ---- refusals ---- */

static void refused(const assay_gguf_vocab *v, assay_status status, const char *message) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    assert_int_equal(assay_tokenizer_from_gguf(&t, v, &err), status);
    assert_null(t);
    assert_string_equal(err.message, message);
}

static void test_refusals(void **state) {
    (void)state;
    const assay_token_text tokens[] = {TEXT("a"), TEXT("b"), TEXT("ab")}, good[] = {TEXT("a b")},
                           bad[] = {TEXT("a c")}, one[] = {TEXT("ab")};
    const float scores[] = {0, -1, (float)INFINITY};
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    v.tokens = tokens;
    v.n_tokens = 3;
    refused(&v, ASSAY_EUNSUPPORTED, "tokenizer.ggml.model: a tokenizer of kind '' is not supported");
    v.model = (assay_token_text)TEXT("bert");
    refused(&v, ASSAY_EUNSUPPORTED, "tokenizer.ggml.model: a tokenizer of kind 'bert' is not supported");
    v.model = (assay_token_text)TEXT("gpt2");
    v.pre = (assay_token_text)TEXT("nonesuch");
    refused(&v, ASSAY_EUNSUPPORTED, "tokenizer.ggml.pre: the pre-tokenizer 'nonesuch' is not known");
    v.pre = (assay_token_text)TEXT("pixtral");
    v.merges = bad;
    v.n_merges = 1;
    refused(&v, ASSAY_EINPUT, "tokenizer.ggml: model.merges[0] ('a' 'c') is not in the vocabulary");
    v.merges = one;
    refused(&v, ASSAY_EINPUT, "tokenizer.ggml: model.merges[0] must be a pair of tokens");
    v.merges = good;
    v.model = (assay_token_text)TEXT("llama");
    refused(&v, ASSAY_EINPUT, "tokenizer.ggml.scores is missing");
    v.scores = scores;
    refused(&v, ASSAY_EINPUT, "tokenizer.ggml: token 2 has a broken score or type");
    v.n_tokens = 0;
    refused(&v, ASSAY_EINPUT, "tokenizer.ggml: a vocabulary of 0 tokens and 1 merges");
}

static void test_broken_models(void **state) {
    (void)state;
    static const struct {
        const char *data, *config, *message;
        size_t n;
        assay_status status;
    } cases[] = {
        {"\x0A\x7F", NULL, "m: not a SentencePiece model: broken at byte 2 of 2", 2, ASSAY_EINPUT},
        {"\x0A\x03\x0A\x01"
         "a",
         NULL, "m: no piece is the unknown one", 5, ASSAY_EINPUT},
        {"\x0A\x03\x0A\x01\xFF", NULL, "m: token 0 is not valid UTF-8", 5, ASSAY_EINPUT},
        {"\x12\x02\x18\x03", NULL,
         "m: a SentencePiece model of type word is not supported, only BPE and Unigram are", 4,
         ASSAY_EUNSUPPORTED},
        {"\x1A\x06\x12\x04\xFF\xFF\xFF\x7F", NULL, "m: precompiled_charsmap: a trie of 0 bytes in 4 bytes", 8,
         ASSAY_EINPUT},
        {"", NULL, "m: a vocabulary of 0 tokens", 0, ASSAY_EINPUT},
        {"\x0A\x05\x0A\x01"
         "a\x18\x02",
         "{\"tokenizer_class\":\"CamembertTokenizerFast\"}",
         "m: the ids of CamembertTokenizer are not those of its file: tokenizer.json is needed", 7,
         ASSAY_EUNSUPPORTED},
        {"\x0A\x05\x0A\x01"
         "a\x18\x02",
         "{\"added_tokens_decoder\":{\"0\":{\"content\":\"b\"}}}",
         "m: added token 'b' has the id 0 of another", 7, ASSAY_EINPUT},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        const char *config = cases[i].config;
        assert_int_equal(assay_tokenizer_parse_model(&t, cases[i].data, cases[i].n, config,
                                                     config ? strlen(config) : 0, "m", &err),
                         cases[i].status);
        assert_null(t);
        assert_string_equal(err.message, cases[i].message);
    }
}

/* A file cut off anywhere is refused or is a smaller model, and never read beyond its end (ASan watches). */
static void test_truncated(void **state) {
    (void)state;
    const char *text = golden_str(find_set("bpe user"), "model");
    uint8_t *data = assay_malloc(strlen(text));
    size_t n = base64(data, text);
    for (size_t len = 0; len < n; len += 1 + len / 40) {
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        uint8_t *copy = assay_malloc(len);
        memcpy(copy, data, len);
        assay_tokenizer_parse_model(&t, copy, len, NULL, 0, "m", &err);
        assay_tokenizer_close(t);
        assay_free(copy);
    }
    assay_free(data);
}

static void test_out_of_memory(void **state) {
    (void)state;
    const char *text = golden_str(find_set("unigram"), "model");
    uint8_t *data = assay_malloc(strlen(text));
    size_t n = base64(data, text);
    long k = 0;
    for (bool done = false; !done; k += 1 + k / 16) {
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        assay_gguf_vocab v = {0};
        int32_t *ids = NULL;
        size_t n_ids = 0;
        assay_mem_fail_after(k);
        assay_status s = assay_tokenizer_parse_model(&t, data, n, NULL, 0, "m", &err);
        if (s == ASSAY_OK) s = assay_tokenizer_encode(&ids, &n_ids, t, "ab \xC3\xA9 x", 7, true, true, &err);
        if (s == ASSAY_OK) s = assay_tokenizer_to_gguf(&v, t, NULL, 0, &err);
        assay_mem_fail_after(-1);
        done = s == ASSAY_OK;
        if (!done) assert_int_equal(s, ASSAY_ENOMEM);
        assay_free(ids);
        assay_gguf_vocab_free(&v);
        assay_tokenizer_close(t);
    }
    assert_true(k > 50);
    assay_free(data);
}

int main(void) {
    golden = golden_load("tests/text/golden/pieces.json");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),           cmocka_unit_test(test_shared_models),
        cmocka_unit_test(test_config),           cmocka_unit_test(test_unigram_json),
        cmocka_unit_test(test_rewritten_models), cmocka_unit_test(test_written_fields),
        cmocka_unit_test(test_vocabularies),     cmocka_unit_test(test_pre_tokenizers),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_broken_models),
        cmocka_unit_test(test_truncated),        cmocka_unit_test(test_out_of_memory),
    };
    int failed = cmocka_run_group_tests_name("text/pieces", tests, NULL, NULL);
    json_decref(golden);
    return failed;
}
