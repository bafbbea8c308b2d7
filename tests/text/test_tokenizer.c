/* test_tokenizer.c: ids, decoded text and streaming against Hugging Face's tokenizers (golden/tokenizers.json
 * and steps.json, made by make_golden.py with the versions it names). Tokenizers that are not ours to ship
 * are read from ASSAY_SHARED, else skipped. */
#include "text/golden.h"
#include "base/rng.h"

static json_t *golden, *steps;

/* ---- help ---- */

static void digest(char hex[17], const int32_t *ids, size_t n) {
    char full[ASSAY_HASH_HEX];
    assay_hash_bytes(full, ids, n * sizeof *ids);
    memcpy(hex, full, 16);
    hex[16] = '\0';
}

/* Compares with a list of ids or with their digest. */
static void same_ids(const char *what, const char *text, const int32_t *ids, size_t n, const json_t *want) {
    bool same = true;
    if (json_is_array(want)) {
        same = json_array_size(want) == n;
        for (size_t i = 0; same && i < n; i++)
            same = json_integer_value(json_array_get(want, i)) == ids[i];
    } else {
        char hex[17];
        digest(hex, ids, n);
        same = strcmp(hex, json_string_value(want)) == 0;
    }
    if (same) return;
    print_error("%s: [%s] gives", what, text);
    for (size_t i = 0; i < n && i < 40; i++)
        print_error(" %d", ids[i]);
    print_error("\n  wanted");
    for (size_t i = 0; i < json_array_size(want) && i < 40; i++)
        print_error(" %d", (int)json_integer_value(json_array_get(want, i)));
    fail_msg("%s: ids differ", what);
}

static int32_t *encode(size_t *n, const assay_tokenizer *t, const char *text, size_t len, bool add_special,
                       bool parse_special) {
    int32_t *ids = NULL;
    assay_err err = {0};
    if (assay_tokenizer_encode(&ids, n, t, text, len, add_special, parse_special, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    return ids;
}

/* Pushes ids one by one: the text is the whole's, for every prefix the pieces so far and the rest make its
 * text, and every piece is valid UTF-8. */
static void check_streaming(const assay_tokenizer *t, const int32_t *ids, size_t n, bool every_prefix) {
    assay_err err = {0};
    for (size_t prefix = every_prefix ? 0 : n; prefix <= n; prefix++) {
        assay_str streamed = {0}, whole = {0}, piece = {0};
        assay_detok *d = NULL;
        assert_int_equal(assay_detok_new(&d, t, false, &err), ASSAY_OK);
        for (size_t i = 0; i < prefix; i++) {
            assay_str_clear(&piece);
            assert_int_equal(assay_detok_push(d, &piece, ids[i], &err), ASSAY_OK);
            if (piece.len) {
                json_t *utf8 = json_stringn(piece.s, piece.len); /* NULL unless valid UTF-8 */
                assert_non_null(utf8);
                json_decref(utf8);
            }
            assay_str_putn(&streamed, assay_str_c(&piece), piece.len);
        }
        assert_int_equal(assay_detok_finish(d, &streamed, &err), ASSAY_OK);
        assert_int_equal(assay_tokenizer_decode(&whole, t, ids, prefix, false, &err), ASSAY_OK);
        assert_int_equal(streamed.len, whole.len);
        assert_memory_equal(assay_str_c(&streamed), assay_str_c(&whole), whole.len);
        assay_detok_free(d);
        assay_str_free(&streamed);
        assay_str_free(&whole);
        assay_str_free(&piece);
    }
}

static void check_text(const assay_tokenizer *t, const char *what, const int32_t *ids, size_t n,
                       const json_t *want) {
    assay_err err = {0};
    assay_str text = {0};
    assert_int_equal(assay_tokenizer_decode(&text, t, ids, n, false, &err), ASSAY_OK);
    golden_same_text(what, assay_str_c(&text), text.len, want);
    assay_str_free(&text);
}

/* ---- whole tokenizers ---- */

/* Vocabulary and merges from vocab.json and merges.txt, the rest from the golden file. NULL when the files
 * are not there. */
static assay_tokenizer *assemble(const json_t *set, assay_err *err) {
    char *vocab = golden_shared(golden_str(set, "vocab")), *merges = golden_shared(golden_str(set, "merges")),
         *lines = NULL;
    assay_tokenizer *t = NULL;
    size_t size = 0;
    if (vocab && merges && assay_read_file(&lines, &size, merges, 0, err) == ASSAY_OK) {
        json_t *j = json_deep_copy(json_object_get(set, "shell")), *model = json_object_get(j, "model"),
               *list = json_array();
        for (char *p = lines, *end; p < lines + size; p = end + 1) {
            end = memchr(p, '\n', (size_t)(lines + size - p));
            if (!end) end = lines + size;
            if (end > p && strncmp(p, "#version", 8) != 0 && memchr(p, ' ', (size_t)(end - p)))
                json_array_append_new(list, json_stringn(p, (size_t)(end - p)));
        }
        json_object_set_new(model, "vocab", golden_load(vocab));
        json_object_set_new(model, "merges", list);
        char *text = json_dumps(j, JSON_COMPACT);
        assay_tokenizer_parse(&t, text, strlen(text), NULL, 0, "assembled", err);
        free(text);
        json_decref(j);
    }
    assay_free(lines);
    assay_free(vocab);
    assay_free(merges);
    return t;
}

static assay_tokenizer *open_set(const json_t *set, assay_err *err) {
    assay_tokenizer *t = NULL;
    const char *own = golden_str(set, "own");
    if (golden_str(set, "vocab")) return assemble(set, err);
    char *dir = own ? assay_strdup(own) : golden_shared(golden_str(set, "shared"));
    if (dir && assay_path_exists(dir)) assay_tokenizer_open(&t, dir, err);
    assay_free(dir);
    return t;
}

static void test_set(void **state) {
    const json_t *set = *state, *cases = json_object_get(set, "cases"),
                 *texts = json_object_get(golden, "texts");
    const char *name = golden_str(set, "name");
    assay_err err = {0};
    assay_tokenizer *t = open_set(set, &err);
    if (err.code) fail_msg("%s: %s", name, err.message);
    if (!t) {
        print_message("%s is not there\n", name);
        skip();
    }
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *text = json_array_get(texts, i),
                     *decoded = json_object_get(c, "decoded");
        const char *s = json_string_value(text);
        size_t len = json_string_length(text), n;
        int32_t *ids = encode(&n, t, s, len, true, true);
        same_ids(name, s, ids, n, json_object_get(c, "ids"));
        assay_free(ids);
        ids = encode(&n, t, s, len, false, false);
        same_ids(name, s, ids, n, json_object_get(c, "plain"));
        assay_free(ids);
        ids = encode(&n, t, s, len, false, true);
        same_ids(name, s, ids, n, json_object_get(c, "bare"));
        check_text(t, name, ids, n, decoded ? decoded : text);
        check_streaming(t, ids, n, n < 60);
        assay_free(ids);
    }
    assay_tokenizer_close(t);
}

/* The demo model's and stories260K's own goldens, made by other programs. */
static void check_foreign(const char *path, const char *dir, bool add_special) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (!path || !dir) skip();
    json_t *j = golden_load(path), *cases = json_object_get(j, "cases");
    if (assay_tokenizer_open(&t, dir, &err) != ASSAY_OK) fail_msg("%s", err.message);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        size_t n;
        int32_t *ids = encode(&n, t, golden_str(c, "text"), json_string_length(json_object_get(c, "text")),
                              add_special, true);
        same_ids(path, golden_str(c, "text"), ids, n, json_object_get(c, "ids"));
        assay_free(ids);
    }
    assert_true(json_array_size(cases) > 0);
    json_decref(j);
    assay_tokenizer_close(t);
}
static void test_demo_golden(void **state) {
    (void)state;
    char *path = golden_shared("demo/golden.json");
    check_foreign(path, assay_path_exists("models/demo/tokenizer.json") ? "models/demo" : NULL, false);
    assay_free(path);
}
static void test_stories_golden(void **state) {
    (void)state;
    char *path = golden_shared("models/stories260K/hf/golden.json"),
         *dir = golden_shared("models/stories260K/hf");
    check_foreign(path, dir, true);
    assay_free(path);
    assay_free(dir);
}

/* ---- each normalizer, pre-tokenizer, decoder, post-processor, and the flags of added tokens ---- */

/* The shared model and added tokens, with what the set changes. */
static assay_tokenizer *open_steps(const json_t *set, assay_err *err) {
    json_t *j = json_deep_copy(json_object_get(set, "tokenizer")),
           *model = json_deep_copy(json_object_get(steps, "model"));
    assay_tokenizer *t = NULL;
    json_object_update(model, json_object_get(j, "model"));
    json_object_set_new(j, "model", model);
    if (!json_object_get(j, "added_tokens"))
        json_object_set(j, "added_tokens", json_object_get(steps, "added_tokens"));
    char *text = json_dumps(j, JSON_COMPACT);
    assay_tokenizer_parse(&t, text, strlen(text), NULL, 0, golden_str(set, "name"), err);
    free(text);
    json_decref(j);
    return t;
}

static void test_steps(void **state) {
    (void)state;
    const json_t *texts = json_object_get(steps, "texts"), *sets = json_object_get(steps, "sets");
    for (size_t k = 0; k < json_array_size(sets); k++) {
        const json_t *set = json_array_get(sets, k), *cases = json_object_get(set, "cases");
        const char *name = golden_str(set, "name");
        assay_err err = {0};
        assay_tokenizer *t = open_steps(set, &err);
        if (!t) fail_msg("%s: %s", name, err.message);
        for (size_t i = 0; i < json_array_size(cases); i++) {
            const json_t *c = json_array_get(cases, i), *text = json_array_get(texts, i),
                         *decoded = json_object_get(c, "decoded");
            size_t n;
            int32_t *ids = encode(&n, t, json_string_value(text), json_string_length(text), true, true);
            same_ids(name, json_string_value(text), ids, n, json_object_get(c, "ids"));
            if (decoded) check_text(t, name, ids, n, decoded);
            check_streaming(t, ids, n, true);
            assay_free(ids);
        }
        assay_tokenizer_close(t);
    }
    assert_true(json_array_size(sets) > 50);
}

/* ---- properties ---- */

static size_t random_text(char *buf, size_t cap, assay_rng *r) {
    assay_str b = {0};
    size_t n = (size_t)assay_rng_below(r, 200);
    for (size_t i = 0; i < n; i++) {
        static const uint32_t tops[] = {0x80, 0x80, 0x80, 0x800, 0x10000, 0x110000};
        uint32_t cp = (uint32_t)assay_rng_below(r, tops[assay_rng_below(r, 6)]);
        if (cp == 0 || (cp >= 0xD800 && cp < 0xE000)) cp = ' ';
        char c[4];
        size_t len = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
        for (size_t k = len; k-- > 1; cp >>= 6)
            c[k] = (char)(0x80 | (cp & 0x3F));
        c[0] = (char)(lead[len] | cp);
        assay_str_putn(&b, c, len);
    }
    n = b.len < cap ? b.len : cap;
    memcpy(buf, assay_str_c(&b), n);
    assay_str_free(&b);
    return n;
}

/* A byte-level tokenizer loses nothing; streaming agrees with the whole also on ids that no text gives. */
static void test_round_trip(void **state) {
    (void)state;
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (!assay_path_exists("models/demo/tokenizer.json")) skip();
    assert_int_equal(assay_tokenizer_open(&t, "models/demo", &err), ASSAY_OK);
    assay_rng r;
    assay_rng_init(&r, 7);
    for (int i = 0; i < 2000; i++) {
        char text[800];
        size_t n = random_text(text, sizeof text, &r), n_ids;
        int32_t *ids = encode(&n_ids, t, text, n, false, false), random_ids[40];
        assay_str back = {0};
        assert_int_equal(assay_tokenizer_decode(&back, t, ids, n_ids, false, &err), ASSAY_OK);
        assert_int_equal(back.len, n);
        assert_memory_equal(assay_str_c(&back), text, n);
        assay_str_free(&back);
        assay_free(ids);
        for (size_t k = 0; k < 40; k++)
            random_ids[k] = (int32_t)assay_rng_below(&r, (uint64_t)assay_tokenizer_n_vocab(t));
        check_streaming(t, random_ids, 40, i < 50);
    }
    assay_tokenizer_close(t);
}

/* Invalid UTF-8 becomes U+FFFD, one for each maximal subpart, as Python's errors="replace" does. */
static void test_invalid_utf8(void **state) {
    (void)state;
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    assay_str back = {0};
    size_t n;
    if (!assay_path_exists("models/demo/tokenizer.json")) skip();
    assert_int_equal(assay_tokenizer_open(&t, "models/demo", &err), ASSAY_OK);
    const char text[] = "a\xFF\xE4\xBD\x62\xED\xA0\x80\xF0\x9F\x99";
    int32_t *ids = encode(&n, t, text, sizeof text - 1, false, true);
    assert_int_equal(assay_tokenizer_decode(&back, t, ids, n, false, &err), ASSAY_OK);
#define FFFD "\xEF\xBF\xBD"
    assert_string_equal(assay_str_c(&back), "a" FFFD FFFD "b" FFFD FFFD FFFD FFFD);
    assay_str_free(&back);
    assay_free(ids);
    assay_tokenizer_close(t);
}

/* A word of a megabyte takes no quadratic time: this ends at once or not within the life of the test. */
static void test_long_word(void **state) {
    (void)state;
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    size_t n, len = 1 << 20;
    if (!assay_path_exists("models/demo/tokenizer.json")) skip();
    assert_int_equal(assay_tokenizer_open(&t, "models/demo", &err), ASSAY_OK);
    char *text = assay_malloc(len);
    for (size_t i = 0; i < len; i++)
        text[i] = "theandingst"[i % 11];
    int32_t *ids = encode(&n, t, text, len, false, true);
    assay_str back = {0};
    assert_int_equal(assay_tokenizer_decode(&back, t, ids, n, false, &err), ASSAY_OK);
    assert_int_equal(back.len, len);
    assert_memory_equal(back.s, text, len);
    assay_str_free(&back);
    assay_free(ids);
    assay_free(text);
    assay_tokenizer_close(t);
}

/* ---- texts that want to take the square of their length ---- */

static assay_tokenizer *parse(const char *json) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (assay_tokenizer_parse(&t, json, strlen(json), NULL, 0, "t", &err) != ASSAY_OK) fail_msg("%s", err.message);
    return t;
}

/* Two kinds of marks in turn: those below stand before those above in the normal form, and the first above joins the letter. */
static void test_many_marks(void **state) {
    (void)state;
    enum { PAIRS = 200000 };
    assay_tokenizer *t = parse("{\"normalizer\":{\"type\":\"NFC\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\u00e9\":0,\"\\u0316\":1,"
                               "\"\\u0301\":2},\"merges\":[]}}");
    assay_str text = {0};
    assay_str_putc(&text, 'e');
    for (int i = 0; i < PAIRS; i++) assay_str_put(&text, "\xCC\x81\xCC\x96");
    size_t n;
    int32_t *ids = encode(&n, t, text.s, text.len, false, true);
    assert_int_equal(n, 2 * PAIRS);
    assert_int_equal(ids[0], 0);
    for (size_t i = 1; i < n; i++)
        if (ids[i] != (i <= PAIRS ? 1 : 2)) fail_msg("id %zu is %d", i, ids[i]);
    assay_free(ids);
    assay_str_free(&text);
    assay_tokenizer_close(t);
}

/* Thousands, counted from the end of a run; the pattern as it stands looks to that end from every digit. */
static void test_many_digits(void **state) {
    (void)state;
    enum { DIGITS = 1000001 };
    assay_tokenizer *t = parse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\d{1,3}(?=(?:\\\\d{3})*\\\\b)\"},"
                               "\"behavior\":\"Isolated\",\"invert\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"1\":0,\"11\":1,"
                               "\"111\":2},\"merges\":[\"1 1\",\"11 1\"]}}");
    char *text = assay_malloc(DIGITS);
    memset(text, '1', DIGITS);
    size_t n;
    int32_t *ids = encode(&n, t, text, DIGITS, false, true);
    assert_int_equal(n, DIGITS / 3 + 1);
    assert_int_equal(ids[0], 1); /* 1,000,001 is 2 more than a multiple of 3 */
    for (size_t i = 1; i < n; i++)
        if (ids[i] != 2) fail_msg("id %zu is %d", i, ids[i]);
    assay_free(ids);
    assay_free(text);
    assay_tokenizer_close(t);
}

/* A run of white space is walked through to its end and back, in more steps than PCRE2 allows unasked. */
static void test_much_space(void **state) {
    (void)state;
    enum { SPACES = 12000000 };
    assay_tokenizer *t = parse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
                               "\"behavior\":\"Removed\",\"invert\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}");
    char *text = assay_malloc(SPACES + 1);
    memset(text, ' ', SPACES);
    text[SPACES] = 'a';
    size_t n;
    int32_t *ids = encode(&n, t, text, SPACES + 1, false, true);
    assert_int_equal(n, 1);
    assay_free(ids);
    assay_free(text);
    assay_tokenizer_close(t);
}

/* White space that one token's rstrip took may hold others: with lstrip nothing is left of them, without they stand again and the text goes
 * on behind them. The ids are those of tokenizers 0.23.3. */
static void test_tokens_of_space(void **state) {
    (void)state;
    static const char shell[] = "{\"added_tokens\":[{\"id\":3,\"content\":\"<r>\",\"rstrip\":true,\"normalized\":false},"
                                "{\"id\":4,\"content\":\"\\n\",\"normalized\":false,\"lstrip\":%s,\"rstrip\":%s}],"
                                "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\" \":1,\"b\":2},\"merges\":[]}}";
    static const struct {
        const char *lstrip, *rstrip, *text;
        int32_t ids[12];
        size_t n;
    } cases[] = {{"false", "false", "<r> \n b", {3, 4, 1, 2}, 4},
                 {"false", "false", "<r>\n\n b", {3, 4, 4, 1, 2}, 5},
                 {"false", "false", "a \n \n b", {0, 1, 4, 1, 4, 1, 2}, 7},
                 {"false", "false", "<r> \n<r> \na", {3, 4, 3, 4, 0}, 5},
                 {"true", "false", "a \n \n b", {0, 4, 4, 1, 2}, 5},
                 {"true", "false", "<r> \n<r> \na", {3, 3, 0}, 3},
                 {"false", "true", "<r> \n b", {3, 4, 2}, 3},
                 {"false", "true", "<r>\n\n b", {3, 4, 4, 2}, 4},
                 {"false", "true", "a \n \n b", {0, 1, 4, 4, 2}, 5},
                 {"false", "true", "<r> \n<r> \na", {3, 4, 3, 4, 0}, 5},
                 {"true", "true", "<r> \n b", {3, 2}, 2},
                 {"true", "true", "<r>\n\n b", {3, 2}, 2},
                 {"true", "true", "a \n \n b", {0, 4, 2}, 3},
                 {"true", "true", "<r> \n<r> \na", {3, 3, 0}, 3}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        char json[600];
        snprintf(json, sizeof json, shell, cases[i].lstrip, cases[i].rstrip);
        assay_tokenizer *t = parse(json);
        size_t n;
        int32_t *ids = encode(&n, t, cases[i].text, strlen(cases[i].text), false, true);
        if (n != cases[i].n || memcmp(ids, cases[i].ids, n * sizeof *ids) != 0) fail_msg("case %zu: other ids, %zu", i, n);
        assay_free(ids);
        assay_tokenizer_close(t);
    }
    /* a run of a million such tokens is looked through once */
    char json[600], *text = assay_malloc(1 << 20);
    memset(text, '\n', 1 << 20);
    snprintf(json, sizeof json, shell, "true", "true");
    assay_tokenizer *t = parse(json);
    size_t n;
    int32_t *ids = encode(&n, t, text, 1 << 20, false, true);
    assert_int_equal(n, 1);
    assay_free(ids);
    assay_free(text);
    assay_tokenizer_close(t);
}

/* ---- questions and errors ---- */

static void test_questions(void **state) {
    (void)state;
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    assay_str text = {0};
    if (!assay_path_exists("models/demo/tokenizer.json")) skip();
    assert_int_equal(assay_tokenizer_open(&t, "models/demo", &err), ASSAY_OK);
    assert_int_equal(assay_tokenizer_n_vocab(t), 2048);
    assert_int_equal(assay_tokenizer_bos(t), 0);
    assert_int_equal(assay_tokenizer_eos(t), 1);
    assert_int_equal(assay_tokenizer_find(t, "<|user|>"), 2);
    assert_int_equal(assay_tokenizer_find(t, "no such token"), -1);
    assert_string_equal(assay_tokenizer_token(t, 4), "<|system|>");
    assert_null(assay_tokenizer_token(t, 2048));
    assert_null(assay_tokenizer_token(t, -1));
    assert_true(assay_tokenizer_is_special(t, 0));
    assert_false(assay_tokenizer_is_special(t, 100));
    assert_int_equal(strlen(assay_tokenizer_hash(t)), 64);
    const int32_t ids[] = {0, 2, 325, 1}, bad[] = {2048};
    assert_int_equal(assay_tokenizer_decode(&text, t, ids, 4, true, &err), ASSAY_OK);
    assert_null(strstr(assay_str_c(&text), "<|"));
    assert_int_equal(assay_tokenizer_decode(&text, t, bad, 1, true, &err), ASSAY_EINPUT);
    assert_string_equal(err.message, "token id 2048 is not in the vocabulary of 2048");
    assay_str_free(&text);
    assay_tokenizer_close(t);
}

static void test_refusals(void **state) {
    (void)state;
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
    static const struct {
        const char *json;
        assay_status status;
        const char *message;
    } cases[] = {
        {"{\"model\":{\"type\":\"WordPiece\"}}", ASSAY_EUNSUPPORTED,
         "t: model.type 'WordPiece' is not supported, only BPE and Unigram are"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", ASSAY_EINPUT, "t: model.vocab must be a list of [token, score]"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", ASSAY_EINPUT, "t: model.vocab[0] must be [token, score]"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", ASSAY_EINPUT,
         "t: model.unk_id 1 is not in the vocabulary"},
        {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1}}", ASSAY_EUNSUPPORTED,
         "t: model.dropout is not supported, set it to null"},
        {"[]", ASSAY_EINPUT, "t: a tokenizer must be an object"},
        {"{}", ASSAY_EINPUT, "t: 'model' must be an object"},
        {"{\"version\":\"2.0\"," MODEL "}", ASSAY_EUNSUPPORTED, "t: version '2.0' is not supported"},
        {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", ASSAY_EINPUT,
         "t: token 'a' has the id -1, which is out of range"},
        {"{\"model\":{\"vocab\":{\"a\":99999999},\"merges\":[]}}", ASSAY_EINPUT,
         "t: token 'a' has the id 99999999, which is out of range"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", ASSAY_EINPUT,
         "t: model.merges[0] ('a' 'b') is not in the vocabulary"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", ASSAY_EINPUT,
         "t: model.merges[0] must be a pair of tokens"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"<unk>\"}}", ASSAY_EINPUT,
         "t: model.unk_token '<unk>' is not in the vocabulary"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Other\"}}", ASSAY_EUNSUPPORTED,
         "t: normalizer of type 'Other' is not supported"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"?\"}}", ASSAY_EINPUT,
         "normalizer 'Precompiled': t: precompiled_charsmap is not base64 at character 0"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", ASSAY_EUNSUPPORTED,
         "t: pre_tokenizer of type 'UnicodeScripts' is not supported"},
        {"{" MODEL ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"CTC\"}]}}",
         ASSAY_EUNSUPPORTED, "t: decoder of type 'CTC' is not supported"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"Other\"}}", ASSAY_EUNSUPPORTED,
         "t: post_processor of type 'Other' is not supported here"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"}}}", ASSAY_EINPUT,
         NULL},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?~a)\"}}}",
         ASSAY_EUNSUPPORTED,
         "pre_tokenizer 'Split': pattern '(?~a)': an absent, conditional or callout group is not supported"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":7,\"content\":\"x\"}]}", ASSAY_EUNSUPPORTED,
         "t: added token 'x' has the id 7 where 3 is expected"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_tokenizer *t = NULL;
        assay_status s = assay_tokenizer_parse(&t, cases[i].json, strlen(cases[i].json), NULL, 0, "t", &err);
        if (s != cases[i].status) fail_msg("%s: %s", cases[i].json, err.message);
        assert_null(t);
        if (cases[i].message) assert_string_equal(err.message, cases[i].message);
    }
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    assert_int_equal(assay_tokenizer_open(&t, "tests/text", &err), ASSAY_ENOTFOUND);
    assert_non_null(strstr(err.message, "tests/text/tokenizer.json"));
}

/* Every allocation may fail; the answer is ENOMEM and nothing leaks (ASan watches). */
static void test_out_of_memory(void **state) {
    (void)state;
    long n = 0;
    for (bool done = false; !done; n++) {
        assay_err err = {0};
        assay_str text = {0};
        int32_t *ids = NULL;
        size_t n_ids = 0;
        assay_tokenizer *t = NULL;
        const char json[] = "{" MODEL ",\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":"
                                      "\"Metaspace\"},\"decoder\":{\"type\":\"Metaspace\"},"
                            "\"added_tokens\":[{\"id\":3,\"content\":\"[X]\",\"special\":true}]}";
        assay_mem_fail_after(n);
        assay_status s = assay_tokenizer_parse(&t, json, sizeof json - 1, NULL, 0, "t", &err);
        if (s == ASSAY_OK)
            s = assay_tokenizer_encode(&ids, &n_ids, t, "ab \xC3\xA9 [X] b", 11, true, true, &err);
        if (s == ASSAY_OK) s = assay_tokenizer_decode(&text, t, ids, n_ids, true, &err);
        assay_mem_fail_after(-1);
        done = s == ASSAY_OK;
        if (!done) assert_int_equal(s, ASSAY_ENOMEM);
        assay_free(ids);
        assay_str_free(&text);
        assay_tokenizer_close(t);
        assert_true(n < 500);
    }
    assert_true(n > 30);
}

int main(void) {
    golden = golden_load("tests/text/golden/tokenizers.json");
    steps = golden_load("tests/text/golden/steps.json");
    struct CMUnitTest tests[40] = {
        cmocka_unit_test(test_steps),          cmocka_unit_test(test_demo_golden),
        cmocka_unit_test(test_stories_golden), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_invalid_utf8),   cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_many_marks),     cmocka_unit_test(test_many_digits),
        cmocka_unit_test(test_tokens_of_space), cmocka_unit_test(test_much_space),
        cmocka_unit_test(test_questions),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_out_of_memory),
    };
    size_t n = 13; /* of the tests above */
    const json_t *sets = json_object_get(golden, "sets");
    char names[24][64];
    for (size_t i = 0; i < json_array_size(sets) && i < 24; i++) {
        json_t *s = json_array_get(sets, i);
        snprintf(names[i], sizeof names[i], "test_set %s", golden_str(s, "name"));
        tests[n++] = (struct CMUnitTest){.name = names[i], .test_func = test_set, .initial_state = s};
    }
    int failed = _cmocka_run_group_tests("text/tokenizer", tests, n, NULL, NULL);
    json_decref(golden);
    json_decref(steps);
    return failed;
}
