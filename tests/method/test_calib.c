/* test_calib.c: calibration data: what becomes of texts, chats, items and ready ids; what is drawn; what is said about it.
 *
 * Golden ids are of transformers 5.23.0 with the demo model's tokenizer and chat template. */
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
#include "base/mem.h"
#include "base/str.h"
#include "method/calib.h"
#include "method/calibrate.h"

#define DEMO "models/demo"

/* The demo model's tokenizer and template, 512 tokens of context. */
static assay_calib_model demo;

static int open_demo(void **state) {
    (void)state;
    assay_tokenizer *t = NULL;
    assay_template *m = NULL;
    assay_err err = {0};
    if (assay_tokenizer_open(&t, DEMO, &err) != ASSAY_OK || assay_template_open(&m, DEMO, &err) != ASSAY_OK) return -1;
    demo = (assay_calib_model){.tokenizer = t, .tmpl = m, .n_vocab = 2048, .context = 512, .max_cols = 768};
    return 0;
}

static int close_demo(void **state) {
    (void)state;
    assay_tokenizer_close((assay_tokenizer *)demo.tokenizer);
    assay_template_close((assay_template *)demo.tmpl);
    return 0;
}

static assay_calib parse(const char *data, bool lines, assay_calib_opts o) {
    assay_calib c;
    assay_err err = {0};
    if (assay_calib_parse(&c, data, strlen(data), "data", lines, &o, &demo, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return c;
}

static void assert_ids(const assay_calib *c, size_t sample, const int32_t *want, size_t n) {
    assert_true(sample < c->n_samples);
    assert_int_equal(c->first[sample + 1] - c->first[sample], n);
    assert_memory_equal(c->ids + c->first[sample], want, n * sizeof *want);
}

static bool warns(const assay_calib *c, const char *part) {
    for (size_t i = 0; i < c->n_warnings; i++)
        if (strstr(c->warnings[i], part)) return true;
    return false;
}

static const int32_t chat_ids[] = {0, 2, 325, 301, 37, 59, 60, 327, 37, 62, 58, 68, 1, 3, 54, 59, 55, 1};
static const int32_t question_ids[] = {0, 2, 325, 301, 37, 59, 60, 327, 37, 62, 58, 68, 1, 3};
static const int32_t joined_ids[] = {0, 325, 301, 37, 59, 60, 327, 37, 62, 58, 1416, 54, 59, 55};
static const int32_t friends_ids[] = {0, 1730, 304, 1004, 551, 838, 51};
#define CHAT "{\"messages\": [{\"role\": \"user\", \"content\": \"What is 67 + 95?\"}, {\"role\": \"assistant\", \"content\": \"162\"}]}\n"
#define FRIENDS "Ada and Tia were friends."
#define DOCUMENTS .pack = ASSAY_CALIB_PACK_DOCUMENTS

static void a_chat_goes_through_the_template_unless_told_not_to(void **state) {
    (void)state;
    assay_calib c = parse(CHAT, true, (assay_calib_opts){DOCUMENTS});
    assert_ids(&c, 0, chat_ids, ASSAY_LEN(chat_ids));
    assert_int_equal(c.n_templated, 1);
    assert_string_equal(c.template_hash, assay_template_hash(demo.tmpl));
    assay_calib_deinit(&c);
    c = parse(CHAT, true, (assay_calib_opts){DOCUMENTS, .tmpl = ASSAY_CALIB_TEMPLATE_NO});
    assert_ids(&c, 0, joined_ids, ASSAY_LEN(joined_ids));
    assert_int_equal(c.n_templated, 0);
    assert_string_equal(c.template_hash, "");
    assay_calib_deinit(&c);
}

static void text_is_plain_unless_the_template_is_asked_for(void **state) {
    (void)state;
    static const char *const both[] = {FRIENDS, "{\"text\": \"" FRIENDS "\"}"};
    for (int lines = 0; lines < 2; lines++) {
        assay_calib c = parse(both[lines], lines, (assay_calib_opts){DOCUMENTS});
        assert_ids(&c, 0, friends_ids, ASSAY_LEN(friends_ids));
        assay_calib_deinit(&c);
        c = parse(both[lines], lines, (assay_calib_opts){DOCUMENTS, .tmpl = ASSAY_CALIB_TEMPLATE_YES});
        assert_int_equal(c.n_templated, 1);
        assert_int_equal(c.ids[1], 2); /* <|user|> */
        assay_calib_deinit(&c);
    }
}

static void an_item_is_a_question_and_its_answer(void **state) {
    (void)state;
    static const char *const same[] = {
        "{\"id\": \"a\", \"dimension\": \"math\", \"prompt\": \"What is 67 + 95?\", \"answer\": \"162\", \"evaluator\": \"exact\"}",
        "{\"prompt\": \"What is 67 + 95?\", \"answer\": [162, 161]}",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"What is 67 + 95?\"}], \"answer\": 162}",
    };
    for (size_t i = 0; i < ASSAY_LEN(same); i++) {
        assay_calib c = parse(same[i], true, (assay_calib_opts){DOCUMENTS});
        assert_ids(&c, 0, chat_ids, ASSAY_LEN(chat_ids));
        assay_calib_deinit(&c);
    }
    assay_calib c = parse("{\"prompt\": \"What is 67 + 95?\"}", true, (assay_calib_opts){DOCUMENTS});
    assert_ids(&c, 0, question_ids, ASSAY_LEN(question_ids)); /* no answer: up to where the model would speak */
    assay_calib_deinit(&c);
    assay_calib_model base = demo;
    base.tmpl = NULL; /* a base model: prompt and answer, one under the other */
    assay_calib_opts o = {DOCUMENTS};
    assert_int_equal(assay_calib_parse(&c, same[0], strlen(same[0]), "data", true, &o, &base, NULL), ASSAY_OK);
    assert_ids(&c, 0, joined_ids, ASSAY_LEN(joined_ids));
    assay_calib_deinit(&c);
}

static void windows_are_cut_from_the_documents_one_behind_the_other(void **state) {
    (void)state;
    /* Two equal documents of 7 tokens: whatever their order, the stream is the same 14. */
    assay_calib c = parse("{\"text\": \"" FRIENDS "\"}\n\n{\"text\": \"" FRIENDS "\"}\n", true, (assay_calib_opts){.length = 4});
    assert_int_equal(c.n_samples, 3); /* the last two tokens are left over */
    assert_int_equal(c.n_tokens, 12);
    for (size_t i = 0; i < 12; i++) assert_int_equal(c.ids[i], friends_ids[i % 7]);
    assert_int_equal(c.opts.pack, ASSAY_CALIB_PACK_WINDOWS);
    assert_int_equal(c.n_documents, 2);
    assert_int_equal(c.n_documents_used, 2);
    assert_int_equal(c.n_distinct, 7);
    assert_true(warns(&c, "3 samples instead of 128: data has no more"));
    assert_true(warns(&c, "12 tokens are fewer than the 768 columns"));
    assert_true(warns(&c, "1 of 2 documents repeats another"));
    assay_calib_deinit(&c);
}

static void less_than_a_window_is_one_short_sequence(void **state) {
    (void)state;
    assay_calib c = parse(FRIENDS, false, (assay_calib_opts){0});
    assert_int_equal(c.opts.length, 512); /* the model's context, less than 2048 */
    assert_ids(&c, 0, friends_ids, ASSAY_LEN(friends_ids));
    assert_true(warns(&c, "the only sample has 7 tokens instead of 512"));
    assay_calib_deinit(&c);
}

static void documents_are_cut_and_keep_the_files_order(void **state) {
    (void)state;
    const char *text = "first paragraph\nof two lines\n \n\nsecond\n\nthird one\n";
    assay_calib all = parse(text, false, (assay_calib_opts){DOCUMENTS, .split_blank = true});
    assert_int_equal(all.n_samples, 3);
    for (uint64_t seed = 0; seed < 8; seed++) {
        assay_calib two = parse(text, false, (assay_calib_opts){DOCUMENTS, .split_blank = true, .samples = 2, .length = 3, .seed = seed});
        assert_int_equal(two.n_samples, 2);
        size_t at = 0; /* each is the head of a document behind the last one's */
        for (size_t i = 0; i < 2; i++, at++) {
            size_t n = two.first[i + 1] - two.first[i];
            assert_true(n <= 3);
            while (at < 3 && memcmp(two.ids + two.first[i], all.ids + all.first[at], n * sizeof(int32_t))) at++;
            assert_true(at < 3);
        }
        assay_calib_deinit(&two);
    }
    assay_calib_deinit(&all);
}

static void ready_ids_are_taken_as_they_are(void **state) {
    (void)state;
    const char *text = "{\"ids\": [5, 6, 7]}\n{\"ids\": [8, 9, 10, 11]}\n";
    static const int32_t first[] = {5, 6, 7}, second[] = {8, 9, 10, 11}, packed[] = {5, 6, 7, 8, 9, 10, 11};
    assay_calib c = parse(text, true, (assay_calib_opts){.samples = 2});
    assert_ids(&c, 0, first, 3);
    assert_ids(&c, 1, second, 4);
    assert_int_equal(c.opts.pack, ASSAY_CALIB_PACK_DOCUMENTS);
    assay_calib_deinit(&c);
    c = parse(text, true, (assay_calib_opts){.samples = 2, .length = 3});
    assert_ids(&c, 1, second, 3);
    assert_true(warns(&c, "1 sequence of ids was cut to 3 tokens"));
    assay_calib_deinit(&c);
    c = parse(text, true, (assay_calib_opts){.samples = 1, .length = 7, .pack = ASSAY_CALIB_PACK_WINDOWS, .seed = 2});
    assert_int_equal(c.n_tokens, 7); /* in one order or the other */
    assert_true(!memcmp(c.ids, packed, sizeof packed) || (!memcmp(c.ids, second, sizeof second) && !memcmp(c.ids + 4, first, sizeof first)));
    assay_calib_deinit(&c);
}

/* A text of n numbered lines, each another. */
static char *numbered(size_t n) {
    assay_str b = {0};
    for (size_t i = 0; i < n; i++) assay_str_printf(&b, "line %zu of a long text that is cut into many stretches\n", i);
    return assay_str_take(&b);
}

static void the_seed_draws_and_nothing_else_does(void **state) {
    (void)state;
    char *text = numbered(3000);
    assay_calib a = parse(text, false, (assay_calib_opts){.samples = 16, .length = 32, .seed = 1});
    assay_calib b = parse(text, false, (assay_calib_opts){.samples = 16, .length = 32, .seed = 1});
    assay_calib other = parse(text, false, (assay_calib_opts){.samples = 16, .length = 32, .seed = 2});
    assert_int_equal(a.n_samples, 16);
    assert_int_equal(a.n_tokens, 16 * 32);
    assert_string_equal(a.ids_hash, b.ids_hash);
    assert_string_not_equal(a.ids_hash, other.ids_hash);
    assert_string_equal(a.data_hash, other.data_hash);
    assert_int_equal(a.n_warnings, 1); /* fewer tokens than columns */
    /* Only as much was read as is needed, and not from one place. */
    assert_true(a.n_documents_used >= 2 && a.n_documents_used < a.n_documents / 4);
    assay_calib_deinit(&a);
    assay_calib_deinit(&b);
    assay_calib_deinit(&other);
    assay_free(text);
}

/* One long document gives windows from all over it. */
static void windows_of_one_document_are_drawn(void **state) {
    (void)state;
    assay_str b = {0};
    assay_str_put(&b, "{\"ids\": [");
    for (int i = 0; i < 2000; i++) assay_str_printf(&b, "%s%d", i ? "," : "", i);
    assay_str_put(&b, "]}");
    size_t low = 0, high = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        assay_calib c = parse(assay_str_c(&b), true, (assay_calib_opts){.samples = 5, .length = 10, .pack = ASSAY_CALIB_PACK_WINDOWS, .seed = seed});
        assert_int_equal(c.n_samples, 5);
        for (size_t i = 0; i < 5; i++) {
            int32_t at = c.ids[c.first[i]];
            assert_int_equal(at % 10, 0);
            if (i) assert_true(at > c.ids[c.first[i - 1]]);
            low += at < 1000;
            high += at >= 1000;
        }
        assay_calib_deinit(&c);
    }
    assert_true(low > 25 && high > 25); /* of 100; 50 expected, standard deviation 5 */
    assay_str_free(&b);
}

static void running_text_without_line_ends_is_cut_between_characters(void **state) {
    (void)state;
    assay_str b = {0};
    for (int i = 0; i < 4000; i++) assay_str_put(&b, "\xe2\x82\xac" "a"); /* euro signs */
    assay_calib c = parse(assay_str_c(&b), false, (assay_calib_opts){.samples = 1000, .length = 8});
    assay_str text = {0};
    assert_true(c.n_documents > 10);
    assert_int_equal(assay_tokenizer_decode(&text, demo.tokenizer, c.ids, c.n_tokens, true, NULL), ASSAY_OK);
    assert_null(strstr(assay_str_c(&text), "\xef\xbf\xbd")); /* nothing was torn */
    assay_str_free(&text);
    assay_calib_deinit(&c);
    assay_str_free(&b);
}

static void bad_input_is_told_in_one_line(void **state) {
    (void)state;
    static const struct {
        const char *data;
        bool lines;
        assay_calib_opts opts;
        assay_status code;
        const char *part;
    } cases[] = {
        {"", false, {0}, ASSAY_EINPUT, "data: holds no text to calibrate with"},
        {" \n\n", true, {0}, ASSAY_EINPUT, "data: holds no text to calibrate with"},
        {"{\"text\": \"a\"\n", true, {0}, ASSAY_EINPUT, "data:1: not JSON: line 1 column"},
        {"\n\n[1]\n", true, {0}, ASSAY_EINPUT, "data:3: a line must be an object with one of 'text', 'messages', 'prompt' and 'ids'"},
        {"{\"text\": \"a\", \"prompt\": \"b\"}", true, {0}, ASSAY_EINPUT, "data:1: a line must be"},
        {"{\"conversations\": []}", true, {0}, ASSAY_EINPUT, "data:1: a line must be"},
        {"{\"text\": 5}", true, {0}, ASSAY_EINPUT, "data:1: 'text' must be a string"},
        {"{\"prompt\": [5]}", true, {0}, ASSAY_EINPUT, "data:1: 'prompt' must be a string"},
        {"{\"messages\": 5}", true, {0}, ASSAY_EINPUT, "data:1: 'messages' must be a list"},
        {"{\"messages\": []}", true, {0}, ASSAY_EINPUT, "data:1: 'messages' must be a list"},
        {"{\"messages\": [{\"content\": \"a\"}]}", true, {0}, ASSAY_EINPUT, "data:1: message 1 needs the string 'role'"},
        {"{\"messages\": [{\"role\": \"user\"}]}", true, {.tmpl = ASSAY_CALIB_TEMPLATE_NO}, ASSAY_EINPUT, "data:1: message 1 has no text"},
        {"{\"ids\": 5}", true, {0}, ASSAY_EINPUT, "data:1: 'ids' must be a list"},
        {"{\"ids\": [1, \"2\"]}", true, {0}, ASSAY_EINPUT, "data:1: element 2 of 'ids' is no token id"},
        {"{\"ids\": [1, 2048]}", true, {0}, ASSAY_EINPUT, "data:1: token id 2048 is not in the model's vocabulary of 2048"},
        {"{\"ids\": [1, 2]}\n{\"text\": \"a\"}", true, {0}, ASSAY_EINPUT, "data:2: lines of 'ids' cannot stand among others"},
        {"a", false, {.length = 513}, ASSAY_EUSAGE, "longer than the model's context of 512"},
        {"a", false, {.length = 1}, ASSAY_EUSAGE, "2 to 1048576 tokens"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_calib c;
        assay_err err = {0};
        assay_status s = assay_calib_parse(&c, cases[i].data, strlen(cases[i].data), "data", cases[i].lines, &cases[i].opts, &demo, &err);
        if (s != cases[i].code || !strstr(err.message, cases[i].part)) fail_msg("case %zu: %s", i, err.message);
        assay_calib_deinit(&c); /* half-built is fine */
    }
}

static void what_the_model_lacks_is_told(void **state) {
    (void)state;
    assay_calib c;
    assay_calib_model base = demo, bare = {.n_vocab = 100};
    assay_calib_opts yes = {.tmpl = ASSAY_CALIB_TEMPLATE_YES};
    assay_err err = {0};
    base.tmpl = NULL;
    assert_int_equal(assay_calib_parse(&c, CHAT, strlen(CHAT), "data", true, NULL, &base, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "data:1: 'messages' need a chat template, and the model has none: template=no"));
    err = (assay_err){0};
    assert_int_equal(assay_calib_parse(&c, "a", 1, "data", false, &yes, &base, &err), ASSAY_EUSAGE);
    err = (assay_err){0};
    assert_int_equal(assay_calib_parse(&c, "a", 1, "data", false, NULL, &bare, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "needs the model's tokenizer"));
    assert_int_equal(assay_calib_parse(&c, "{\"ids\": [1, 99]}", 16, "data", true, NULL, &bare, NULL), ASSAY_OK);
    assert_int_equal(c.opts.length, 2048);
    assay_calib_deinit(&c);
    err = (assay_err){0};
    assert_int_equal(assay_calib_load(&c, "/no/such/file", NULL, &demo, &err), ASSAY_ENOTFOUND);
}

/* 23,649 tokens in 512 documents: tokenizers 0.23.3, chats through the template. */
static void the_demos_own_data(void **state) {
    (void)state;
    assay_calib c;
    assay_calib_opts o = {DOCUMENTS, .samples = 512};
    assert_int_equal(assay_calib_load(&c, DEMO "/calibration.jsonl", &o, &demo, NULL), ASSAY_OK);
    assert_int_equal(c.n_samples, 512);
    assert_int_equal(c.n_tokens, 23649);
    assert_int_equal(c.length, 232);
    assert_int_equal(c.n_templated, 475);
    char want[ASSAY_HASH_HEX];
    assert_int_equal(assay_hash_file(want, DEMO "/calibration.jsonl", NULL), ASSAY_OK);
    assert_string_equal(c.data_hash, want);
    assay_calib_deinit(&c);
    o = (assay_calib_opts){.samples = 32, .length = 128};
    assert_int_equal(assay_calib_load(&c, DEMO "/items.jsonl", &o, &demo, NULL), ASSAY_OK);
    assert_int_equal(c.n_samples, 32);
    assert_int_equal(c.n_documents, 3200);
    assay_calib_deinit(&c);
}

static void the_manifest_says_what_it_was(void **state) {
    (void)state;
    assay_calib c = parse(CHAT, true, (assay_calib_opts){.samples = 1, .length = 9, .seed = 3});
    json_t *j = assay_calib_to_json(&c), *k;
    assert_non_null(j);
    k = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:[s]}", "data", "data", "data_sha256",
                  c.data_hash, "ids_sha256", c.ids_hash, "template_sha256", c.template_hash, "samples", 1, "samples_asked", 1, "length", 9, "tokens",
                  9, "documents", 1, "documents_used", 1, "documents_templated", 1, "distinct_tokens", (int)c.n_distinct, "vocabulary", 2048, "seed",
                  3, "template", "auto", "pack", "windows", "split", "none", "warnings",
                  "9 tokens are fewer than the 768 columns of the widest matrix: what they say of its inputs is incomplete");
    assert_true(json_equal(j, k));
    json_decref(j);
    json_decref(k);
    assay_calib_deinit(&c);
}

/* --- what is asked for --- */

static assay_calib_spec spec_yaml(const char *text, assay_err *err) {
    assay_yaml_doc *d;
    assay_calib_spec s = {0};
    if (assay_yaml_parse(&d, text, strlen(text), "s.yaml", err) != ASSAY_OK) return s;
    assay_calib_spec_from_yaml(&s, d, assay_yaml_root(d), err);
    assay_yaml_free(d);
    return s;
}

static void yaml_and_one_line_ask_alike(void **state) {
    (void)state;
    assay_err err = {0};
    assay_calib_spec a = spec_yaml("{data: logs/it's.jsonl, samples: 64, length: 512, seed: 7, template: yes, pack: documents, split: blank}", &err), b;
    assert_int_equal(err.code, ASSAY_OK);
    assert_int_equal(
        assay_calib_spec_from_string(&b, "logs/it's.jsonl,samples=64,length=512,seed=7,template=yes,pack=documents,split=blank", &err), ASSAY_OK);
    assert_string_equal(b.data, "logs/it's.jsonl");
    assert_int_equal(b.opts.samples, 64);
    assert_int_equal(b.opts.length, 512);
    assert_int_equal(b.opts.seed, 7);
    assert_int_equal(b.opts.tmpl, ASSAY_CALIB_TEMPLATE_YES);
    assert_int_equal(b.opts.pack, ASSAY_CALIB_PACK_DOCUMENTS);
    assert_true(b.opts.split_blank);
    json_t *j = assay_calib_spec_to_json(&a), *k = assay_calib_spec_to_json(&b);
    assert_true(j && json_equal(j, k));
    json_decref(j);
    json_decref(k);
    assay_calib_spec_deinit(&a);
    assay_calib_spec_deinit(&b);
    assert_int_equal(assay_calib_spec_from_string(&b, "plain.txt", &err), ASSAY_OK); /* all defaults */
    static const assay_calib_opts defaults;
    assert_memory_equal(&b.opts, &defaults, sizeof defaults);
    assay_calib_spec_deinit(&b);
}

static void wrong_options_are_told(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{samples: 4}", "calibration needs data"},
        {"{data: a, sample: 4}", "'samples'"},
        {"{data: a, samples: 0}", "samples must be from 1"},
        {"{data: a, length: 1}", "length must be from 2"},
        {"{data: a, template: maybe}", "template must be auto, yes or no, not 'maybe'"},
        {"{data: a, pack: true}", "pack must be auto, windows or documents, not 'true'"},
        {"{data: a, split: line}", "split must be none or blank, not 'line'"},
        {"[a]", "a mapping of calibration options"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err = {0};
        assay_calib_spec s = spec_yaml(cases[i][0], &err);
        if (err.code != ASSAY_EINPUT || !strstr(err.message, cases[i][1]) || strncmp(err.message, "s.yaml:1", 8) != 0) fail_msg("%zu: %s", i, err.message);
        assay_calib_spec_deinit(&s);
    }
    static const char *const lines[] = {"", "a,samples", "a,samples=", "a,seed=-1", "a,Samples=3", "a,samples={}", "a,nonsense=1", "a,data=b"};
    for (size_t i = 0; i < ASSAY_LEN(lines); i++) {
        assay_calib_spec s;
        assay_err err = {0};
        if (assay_calib_spec_from_string(&s, lines[i], &err) != ASSAY_EINPUT) fail_msg("'%s' was taken", lines[i]);
        assert_non_null(strstr(err.message, "calibration"));
        assay_calib_spec_deinit(&s);
    }
}

/* A model without a chat template takes plain text; one whose template cannot be read is told, not taken for such a model. */
static void a_broken_template_is_no_missing_one(void **state) {
    (void)state;
    static const struct {
        const char *template; /* NULL: none */
        assay_status status;
    } cases[] = {{NULL, ASSAY_OK}, {"{{ messages", ASSAY_EINPUT}};
    static const char *const parts[] = {"config.json", "tokenizer.json"};
    char *home = realpath("models/demo", NULL);
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        char dir[] = "/tmp/assay-calib-XXXXXX", *linked[ASSAY_LEN(parts)], *template = NULL;
        assay_calib_spec spec = {0};
        assay_calibrator c;
        assay_err err = {0};
        assert_non_null(mkdtemp(dir));
        for (size_t k = 0; k < ASSAY_LEN(parts); k++) {
            char *from = assay_path_join(home, parts[k]);
            linked[k] = assay_path_join(dir, parts[k]);
            assert_int_equal(symlink(from, linked[k]), 0);
            assay_free(from);
        }
        template = assay_path_join(dir, "chat_template.jinja");
        if (cases[i].template)
            assert_int_equal(assay_write_file(template, cases[i].template, strlen(cases[i].template), &err), ASSAY_OK);
        assert_int_equal(assay_calib_spec_from_string(&spec, "models/demo/prose.txt,samples=2,length=16", &err), ASSAY_OK);
        assert_int_equal(assay_calibrator_open(&c, dir, &spec, &err), cases[i].status);
        if (cases[i].template) assert_non_null(strstr(err.message, "chat_template.jinja"));
        assay_calibrator_close(&c);
        assay_calib_spec_deinit(&spec);
        unlink(template);
        assay_free(template);
        for (size_t k = 0; k < ASSAY_LEN(parts); k++) {
            unlink(linked[k]);
            assay_free(linked[k]);
        }
        rmdir(dir);
    }
    free(home);
}

static void running_out_of_memory_is_a_status(void **state) {
    (void)state;
    const char *text = CHAT "{\"text\": \"" FRIENDS "\"}\n";
    for (long n = 0; n < 2000; n++) {
        assay_calib c;
        assay_err err = {0};
        assay_calib_opts o = {DOCUMENTS};
        assay_mem_fail_after(n);
        assay_status s = assay_calib_parse(&c, text, strlen(text), "data", true, &o, &demo, &err);
        assay_mem_fail_after(-1);
        if (s != ASSAY_OK && s != ASSAY_ENOMEM) fail_msg("allocation %ld: %s", n, err.message);
        assay_calib_deinit(&c);
        if (s == ASSAY_OK) return; /* that many were not needed */
    }
    fail_msg("2000 allocations");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_goes_through_the_template_unless_told_not_to),
        cmocka_unit_test(text_is_plain_unless_the_template_is_asked_for),
        cmocka_unit_test(an_item_is_a_question_and_its_answer),
        cmocka_unit_test(windows_are_cut_from_the_documents_one_behind_the_other),
        cmocka_unit_test(less_than_a_window_is_one_short_sequence),
        cmocka_unit_test(documents_are_cut_and_keep_the_files_order),
        cmocka_unit_test(ready_ids_are_taken_as_they_are),
        cmocka_unit_test(the_seed_draws_and_nothing_else_does),
        cmocka_unit_test(windows_of_one_document_are_drawn),
        cmocka_unit_test(running_text_without_line_ends_is_cut_between_characters),
        cmocka_unit_test(bad_input_is_told_in_one_line),
        cmocka_unit_test(what_the_model_lacks_is_told),
        cmocka_unit_test(the_demos_own_data),
        cmocka_unit_test(the_manifest_says_what_it_was),
        cmocka_unit_test(yaml_and_one_line_ask_alike),
        cmocka_unit_test(wrong_options_are_told),
        cmocka_unit_test(a_broken_template_is_no_missing_one),
        cmocka_unit_test(running_out_of_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
