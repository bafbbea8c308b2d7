/* choice, both perplexities and KL against figures computed by hand from the fake runtime's probabilities (fake_runtime.h). */
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
#include "eval/eval.h"
#include "eval/fake_runtime.h"

typedef struct taken {
    assay_record r[64];  /* shallow copies of what tests look at; strings duplicated */
    size_t n;
} taken;

static assay_status take(void *ctx, int64_t position, const assay_record *r, assay_err *err) {
    taken *t = ctx;
    (void)position;
    (void)err;
    assay_record *c = &t->r[t->n++];
    *c = (assay_record){.score = r->score, .aux = r->aux, .weight = r->weight, .outcome = r->outcome};
    c->item_id = assay_strdup(r->item_id);
    c->output = r->output ? assay_strdup(r->output) : NULL;
    c->answer = r->answer ? assay_strdup(r->answer) : NULL;
    c->detail = r->detail ? assay_strdup(r->detail) : NULL;
    return ASSAY_OK;
}

static void drop(taken *t) {
    for (size_t i = 0; i < t->n; i++) assay_record_deinit(&t->r[i]);
    t->n = 0;
}

static void evaluate(taken *t, fake_runtime *f, const char *yaml, const char *items, const assay_evaluation_opts *o) {
    assay_err err = {0};
    assay_suite *s = NULL;
    assay_evaluation *e = NULL;
    t->n = 0;
    if (assay_suite_parse(&s, yaml, strlen(yaml), items, strlen(items), "s", &err) != ASSAY_OK) fail_msg("%s", err.message);
    if (assay_evaluation_new(&e, s, &f->base, o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assay_evaluation_calls c = {.record = take, .ctx = t};
    if (assay_evaluation_run(e, &c, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(t->n, assay_evaluation_n_items(e));
    assay_evaluation_free(e);
    assay_suite_free(s);
}

static int32_t id_of(const fake_runtime *f, const char *token) {
    int32_t id = assay_tokenizer_find(f->tokenizer, token);
    assert_true(id >= 0);
    return id;
}

/* --- choice --- */

#define CHOICE(prompt, choices, answer) "{\"id\": \"q\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"" prompt "\", \"choices\": " choices ", \"answer\": \"" answer "\", \"evaluator\": \"choice\"}\n"
#define SUITE "suite: s\nversion: 1\nitems: [i]\n"

static void ll_is_over_the_tokens_behind_the_context(void **state) {
    (void)state;
    taken t;
    fake_runtime *f = fake_open(false, 512, NULL);
    evaluate(&t, f, SUITE, CHOICE("r?", "[\"Kolo\", \"x\"]", "x"), NULL);
    /* whole = "r?" + " Kolo" -> r ? [space Ko] [lo]; the context "r?" has two tokens. */
    int32_t q = id_of(f, "?"), sk = id_of(f, "\xc4\xa0Ko"), lo = id_of(f, "lo"), space = id_of(f, "\xc4\xa0"), x = id_of(f, "x");
    double kolo = fake_logprob(q, sk) + fake_logprob(sk, lo), ex = fake_logprob(q, space) + fake_logprob(space, x);
    json_t *j = json_loads(t.r[0].output, 0, NULL);
    assert_true(json_number_value(json_array_get(json_object_get(j, "ll"), 0)) == kolo);
    assert_true(json_number_value(json_array_get(json_object_get(j, "ll"), 1)) == ex);
    assert_true(t.r[0].score == (ex > kolo));
    assert_true(t.r[0].aux == (ex / 1 > kolo / 4)); /* by code points of the choice, without the delimiter */
    json_decref(j);
    drop(&t);
    assay_runtime_close(&f->base);
}

static void trailing_space_moves_to_the_continuation(void **state) {
    (void)state;
    taken a, b;
    fake_runtime *f = fake_open(false, 512, NULL);
    evaluate(&a, f, SUITE "delimiter: ''\n", CHOICE("r? ", "[\"Kolo\", \"x\"]", "x"), NULL);
    evaluate(&b, f, SUITE, CHOICE("r?", "[\"Kolo\", \"x\"]", "x"), NULL);
    assert_string_equal(a.r[0].output, b.r[0].output); /* [space Ko] is one token either way */
    drop(&a);
    drop(&b);
    assay_runtime_close(&f->base);
}

static void the_delimiter_is_empty_behind_a_chat_template(void **state) {
    (void)state;
    taken t;
    fake_runtime *f = fake_open(false, 512, "{{ messages[0]['content'] }}:");
    evaluate(&t, f, SUITE "chat: true\n", CHOICE("r", "[\"Kolo\", \"x\"]", "x"), NULL);
    int32_t colon = id_of(f, ":"), ko = id_of(f, "Ko"), lo = id_of(f, "lo"), x = id_of(f, "x");
    json_t *j = json_loads(t.r[0].output, 0, NULL);
    assert_true(json_number_value(json_array_get(json_object_get(j, "ll"), 0)) == fake_logprob(colon, ko) + fake_logprob(ko, lo));
    assert_true(json_number_value(json_array_get(json_object_get(j, "ll"), 1)) == fake_logprob(colon, x));
    json_decref(j);
    drop(&t);
    assay_runtime_close(&f->base);
}

static void an_empty_context_is_the_prefix_token(void **state) {
    (void)state;
    taken t;
    fake_runtime *f = fake_open(false, 512, NULL);
    evaluate(&t, f, SUITE "delimiter: ''\n", CHOICE("", "[\"x\", \"xy\"]", "x"), NULL);
    int32_t x = id_of(f, "x"), y = id_of(f, "y");
    json_t *j = json_loads(t.r[0].output, 0, NULL);
    assert_true(json_number_value(json_array_get(json_object_get(j, "ll"), 0)) == fake_logprob(0, x));
    assert_true(json_number_value(json_array_get(json_object_get(j, "ll"), 1)) == fake_logprob(0, x) + fake_logprob(x, y));
    json_decref(j);
    drop(&t);
    assay_runtime_close(&f->base);
}

static void ties_go_to_the_first_choice_and_the_option_swaps_score_and_aux(void **state) {
    (void)state;
    taken a, b;
    fake_runtime *f = fake_open(false, 512, NULL);
    /* With ids 7 apart the fake's probabilities agree: "!" and "(" after anything, by construction of the vocabulary. */
    int32_t first = id_of(f, "!"), second = id_of(f, "(");
    assert_int_equal((second - first) % 7, 0);
    evaluate(&a, f, SUITE "delimiter: ''\n", CHOICE("r", "[\"!\", \"(\"]", "!"), NULL);
    assert_true(a.r[0].score == 1);
    drop(&a);
    evaluate(&a, f, SUITE "delimiter: ''\n", CHOICE("r", "[\"(\", \"!\"]", "!"), NULL);
    assert_true(a.r[0].score == 0);
    drop(&a);
    evaluate(&a, f, SUITE, CHOICE("r?", "[\"Kolo\", \"xyz\"]", "xyz"), NULL);
    evaluate(&b, f, SUITE "evaluators: {choice: {score: acc_norm}}\n", CHOICE("r?", "[\"Kolo\", \"xyz\"]", "xyz"), NULL);
    assert_true(a.r[0].score == b.r[0].aux && a.r[0].aux == b.r[0].score);
    drop(&a);
    drop(&b);
    assay_runtime_close(&f->base);
}

static void a_long_context_loses_its_beginning(void **state) {
    (void)state;
    taken a, b;
    fake_runtime *wide = fake_open(false, 512, NULL), *narrow = fake_open(false, 4, NULL);
    evaluate(&a, wide, SUITE "delimiter: ''\n", CHOICE("abcdefgh", "[\"xy\", \"zz\"]", "xy"), NULL);
    evaluate(&b, narrow, SUITE "delimiter: ''\n", CHOICE("abcdefgh", "[\"xy\", \"zz\"]", "xy"), NULL);
    assert_string_equal(a.r[0].output, b.r[0].output); /* the fake looks one token back, and that much is kept */
    drop(&a);
    drop(&b);
    evaluate(&b, narrow, SUITE "delimiter: ''\n", CHOICE("a", "[\"wvxyz\", \"zz\"]", "zz"), NULL);
    assert_int_equal(b.r[0].outcome, ASSAY_OUTCOME_ERROR);
    assert_non_null(strstr(b.r[0].detail, "leaves no room"));
    drop(&b);
    assay_runtime_close(&wide->base);
    assay_runtime_close(&narrow->base);
}

/* --- perplexity --- */

#define TEXT(evaluators, more) "suite: s\nversion: 1\nlanguage: {prose: {file: p, split: none, evaluators: [" evaluators "]}}\n" more

/* 20 tokens, chunks of 8: two chunks; per chunk tokens 5, 6, 7 are scored (first = 4). */
static void llamacpp_scores_the_second_half_of_each_chunk(void **state) {
    (void)state;
    static const char text[] = "abcdefghijklmnopqrst";
    for (int bos = 0; bos < 2; bos++) {
        taken t;
        fake_runtime *f = fake_open(bos, 512, NULL);
        evaluate(&t, f, TEXT("perplexity_llamacpp", "evaluators: {perplexity_llamacpp: {context: 8}}\n"), text, NULL);
        assert_int_equal(t.n, 2);
        for (size_t c = 0; c < 2; c++) {
            double nll = 0;
            for (size_t i = 5; i < 8; i++) {
                size_t at = c * 8 + i - (size_t)bos; /* with BOS the text is one token further on */
                nll -= fake_logprob(id_of(f, (char[]){text[at - 1], 0}), id_of(f, (char[]){text[at], 0}));
            }
            assert_true(fabs(t.r[c].score - nll / 3) < 1e-12);
            assert_true(t.r[c].weight == 3);
        }
        drop(&t);
        assay_runtime_close(&f->base);
    }
}

static void llamacpp_refuses_a_text_of_less_than_two_chunks(void **state) {
    (void)state;
    assay_err err = {0};
    assay_suite *s = NULL;
    assay_evaluation *e = NULL;
    fake_runtime *f = fake_open(false, 512, NULL);
    static const char yaml[] = TEXT("perplexity_llamacpp", "evaluators: {perplexity_llamacpp: {context: 8}}\n");
    assert_int_equal(assay_suite_parse(&s, yaml, strlen(yaml), "abcdefghijklmno", 15, "s", &err), ASSAY_OK);
    assert_int_equal(assay_evaluation_new(&e, s, &f->base, NULL, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "15 tokens, and 16 are needed"));
    assay_suite_free(s);
    assay_runtime_close(&f->base);
}

/* Every token once, behind <s> in the first window and behind the token before it later; words and bytes of the text. */
static void rolling_predicts_every_token_once(void **state) {
    (void)state;
    static const char text[] = "abc de\nf"; /* 8 tokens, 3 words */
    for (size_t context = 3; context < 12; context++) {
        taken t;
        fake_runtime *f = fake_open(false, context, NULL);
        evaluate(&t, f, TEXT("perplexity_rolling", ""), text, NULL);
        const char *tokens[] = {"a", "b", "c", "\xc4\xa0", "d", "e", "\xc4\x8a", "f"};
        double nll = 0;
        for (size_t i = 0; i < 8; i++) nll -= fake_logprob(i ? id_of(f, tokens[i - 1]) : 0, id_of(f, tokens[i]));
        assert_true(fabs(t.r[0].score - nll / 8) < 1e-12);
        assert_true(t.r[0].weight == 8);
        json_t *j = json_loads(t.r[0].output, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(j, "words")), 3);
        assert_int_equal(json_integer_value(json_object_get(j, "bytes")), 8);
        json_decref(j);
        drop(&t);
        assay_runtime_close(&f->base);
    }
}

/* --- KL --- */

static char kl_dir[] = "/tmp/assay-test-kl-XXXXXX";

static void remove_kl_dir(void) {
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", kl_dir);
    if (system(command)) fail();
}

static void kl_of_the_baseline_with_itself_is_zero_and_of_another_as_computed(void **state) {
    (void)state;
    static const char yaml[] = "suite: s\nversion: 1\nlanguage: {prose: {file: p, evaluators: [kl]}}\n", text[] = "abc\n\nde";
    taken t;
    assert_non_null(mkdtemp(kl_dir));
    fake_runtime *f = fake_open(false, 512, NULL);
    evaluate(&t, f, yaml, text, &(assay_evaluation_opts){.kl_dir = kl_dir, .kl_write = true});
    for (size_t i = 0; i < 2; i++) assert_true(t.r[i].score == 0 && t.r[i].aux == 1);
    drop(&t);
    /* again as a variant, from the files */
    evaluate(&t, f, yaml, text, &(assay_evaluation_opts){.kl_dir = kl_dir});
    for (size_t i = 0; i < 2; i++) assert_true(t.r[i].score == 0 && t.r[i].aux == 1);
    assert_true(t.r[0].weight == 3 && t.r[1].weight == 2);
    drop(&t);
    /* a flatter peak: p has e^3 against V-1 ones, q has e^1 */
    double v = (double)f->base.n_vocab, zp = exp(3) + v - 1, zq = exp(1) + v - 1;
    double want = exp(3) / zp * (3 - log(zp) - 1 + log(zq)) + (v - 1) / zp * (-log(zp) + log(zq));
    f->peak = 1;
    evaluate(&t, f, yaml, text, &(assay_evaluation_opts){.kl_dir = kl_dir});
    assert_true(fabs(t.r[0].score - want) < 1e-6);
    assert_true(t.r[0].aux == 1);
    drop(&t);
    /* the peak elsewhere: no token agrees */
    f->shift = 1;
    evaluate(&t, f, yaml, text, &(assay_evaluation_opts){.kl_dir = kl_dir});
    assert_true(t.r[0].aux == 0 && t.r[0].score > want);
    drop(&t);
    assay_runtime_close(&f->base);
    remove_kl_dir();
}

static void missing_distributions_are_named_and_made_again(void **state) {
    (void)state;
    static const char yaml[] = "suite: s\nversion: 1\nlanguage: {prose: {file: p, evaluators: [kl]}}\n", text[] = "abc\n\nde";
    assay_err err = {0};
    assay_suite *s = NULL;
    assay_evaluation *e = NULL;
    taken t = {.n = 0};
    memcpy(kl_dir + strlen(kl_dir) - 6, "XXXXXX", 6);
    assert_non_null(mkdtemp(kl_dir));
    fake_runtime *f = fake_open(false, 512, NULL);
    assert_int_equal(assay_suite_parse(&s, yaml, strlen(yaml), text, strlen(text), "s", &err), ASSAY_OK);
    assert_int_equal(assay_evaluation_new(&e, s, &f->base, NULL, &err), ASSAY_EUSAGE); /* no baseline at all */
    err = (assay_err){0};
    assert_int_equal(assay_evaluation_new(&e, s, &f->base, &(assay_evaluation_opts){.kl_dir = kl_dir}, &err), ASSAY_OK);
    assay_evaluation_calls c = {.record = take, .ctx = &t};
    assert_int_equal(assay_evaluation_run(e, &c, &err), ASSAY_ENOTFOUND);
    assert_non_null(strstr(err.message, "the baseline's distributions are missing"));
    assay_evaluation_free(e);
    err = (assay_err){0};
    assert_int_equal(assay_evaluation_new(&e, s, &f->base, &(assay_evaluation_opts){.kl_dir = kl_dir, .kl_write = true}, &err), ASSAY_OK);
    assert_true(assay_evaluation_unfinished(e));
    assert_int_equal(assay_evaluation_run(e, &c, &err), ASSAY_OK);
    assert_int_equal(t.n, 2);
    assert_false(assay_evaluation_unfinished(e));
    assay_evaluation_free(e);
    drop(&t);
    assay_suite_free(s);
    assay_runtime_close(&f->base);
    remove_kl_dir();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ll_is_over_the_tokens_behind_the_context), cmocka_unit_test(trailing_space_moves_to_the_continuation),
        cmocka_unit_test(the_delimiter_is_empty_behind_a_chat_template), cmocka_unit_test(an_empty_context_is_the_prefix_token),
        cmocka_unit_test(ties_go_to_the_first_choice_and_the_option_swaps_score_and_aux), cmocka_unit_test(a_long_context_loses_its_beginning),
        cmocka_unit_test(llamacpp_scores_the_second_half_of_each_chunk), cmocka_unit_test(llamacpp_refuses_a_text_of_less_than_two_chunks),
        cmocka_unit_test(rolling_predicts_every_token_once), cmocka_unit_test(kl_of_the_baseline_with_itself_is_zero_and_of_another_as_computed),
        cmocka_unit_test(missing_distributions_are_named_and_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
