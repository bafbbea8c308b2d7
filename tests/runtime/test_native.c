/* The native runtime's manners, on the demo model: stop strings, streaming, limits, order of results, sharing
 * of prefixes, refusals. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/str.h"
#include "runtime/native_impl.h"

static const char demo_dir[] = "models/demo";

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

static assay_runtime *open_demo(const assay_native_opts *o) {
    assay_err err = {0};
    assay_runtime *r = NULL;
    must(assay_native_open(&r, demo_dir, o, &err), &err);
    return r;
}

static int set_up(void **state) {
    *state = open_demo(NULL);
    return 0;
}

static int tear_down(void **state) {
    assay_runtime_close(*state);
    return 0;
}

/* "7 words and so on" through the chat template's tokens; the program's answer is known: 2, 4, 6. Prints 6 */
static const char loop_prompt[] =
    "<|begin|><|user|>Run this program.\nc = 0\nfor i in range(3):\n    c = c + 2\nprint(c)<|end|><|assistant|>";

static size_t encode(int32_t **ids, const assay_runtime *r, const char *text) {
    size_t n;
    assay_err err = {0};
    must(assay_tokenizer_encode(ids, &n, assay_runtime_tokenizer(r), text, strlen(text), false, true, &err),
         &err);
    return n;
}

static assay_generate_res run(assay_runtime *r, assay_generate_req q, const char *prompt) {
    assay_err err = {0};
    assay_generate_res res;
    int32_t *ids;
    q.n_ids = encode(&ids, r, prompt);
    q.ids = ids;
    q.top_p = q.top_p > 0 ? q.top_p : 1;
    must(assay_runtime_generate(r, &res, &q, 1, NULL, NULL, &err), &err);
    assay_free(ids);
    return res;
}

static void stops_for_its_reasons(void **state) {
    assay_runtime *r = *state;
    assay_generate_res res = run(r, (assay_generate_req){.max_tokens = 64}, loop_prompt);
    assert_string_equal(res.text, "2, 4, 6. Prints 6");
    assert_int_equal(res.stop, ASSAY_STOP_EOS);
    assert_true(res.seconds_prompt > 0 && res.seconds_output > 0);
    size_t n = res.n_ids;
    assay_generate_res_deinit(&res);

    res = run(r, (assay_generate_req){.max_tokens = 4}, loop_prompt);
    assert_int_equal(res.stop, ASSAY_STOP_LENGTH);
    assert_int_equal(res.n_ids, 4);
    assay_generate_res_deinit(&res);

    res = run(r, (assay_generate_req){.max_tokens = 0}, loop_prompt);
    assert_int_equal(res.stop, ASSAY_STOP_LENGTH);
    assert_string_equal(res.text, "");
    assay_generate_res_deinit(&res);

    res = run(r, (assay_generate_req){.max_tokens = 2000, .ignore_eos = true}, loop_prompt);
    assert_int_equal(res.stop, ASSAY_STOP_CONTEXT);
    assert_true(res.n_ids > n && res.n_ids < assay_runtime_context(r));
    assay_generate_res_deinit(&res);
}

/* Stop strings end inside tokens and reach over them; what stands before stays, the string itself goes. */
static void stop_strings_cut_the_text(void **state) {
    static const struct {
        const char *stop[2];
        const char *text;
    } cases[] = {
        {{"6. Pri", NULL}, "2, 4, "},
        {{"ints", "zzz"}, "2, 4, 6. Pr"},
        {{"Prints 6", "4,"}, "2, "},
        {{"2", NULL}, ""},
        {{"<|end|>", NULL}, "2, 4, 6. Prints 6"}, /* a special token has no text: matched by id */
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_generate_req q = {.max_tokens = 64,
                                .stop = cases[i].stop,
                                .n_stop = cases[i].stop[1] ? 2 : 1,
                                .ignore_eos = true};
        assay_generate_res res = run(*state, q, loop_prompt);
        assert_string_equal(res.text, cases[i].text);
        assert_int_equal(res.stop, ASSAY_STOP_STRING);
        assay_generate_res_deinit(&res);
    }
}

typedef struct stream {
    assay_str text;
    int calls, stop_after;
} stream;

static int take_text(void *ctx, const char *text, size_t n) {
    stream *s = ctx;
    assert_true(n > 0);
    assay_str_putn(&s->text, text, n);
    return ++s->calls == s->stop_after;
}

static void streaming_shows_no_part_of_a_stop_string(void **state) {
    const char *stop[] = {". Prints 7", ". Prints 6"};
    for (int n_stop = 0; n_stop <= 2; n_stop++) {
        stream s = {0};
        assay_generate_req q = {
            .max_tokens = 64, .stop = stop, .n_stop = n_stop, .on_text = take_text, .on_text_ctx = &s};
        assay_generate_res res = run(*state, q, loop_prompt);
        assert_string_equal(res.text, n_stop == 2 ? "2, 4, 6" : "2, 4, 6. Prints 6");
        assert_string_equal(assay_str_c(&s.text), res.text); /* what was shown is what is returned */
        assert_true(s.calls > 1);
        assay_str_free(&s.text);
        assay_generate_res_deinit(&res);
    }
    stream s = {.stop_after = 2};
    assay_generate_res res =
        run(*state, (assay_generate_req){.max_tokens = 64, .on_text = take_text, .on_text_ctx = &s},
            loop_prompt);
    assert_int_equal(s.calls, 2);
    assert_int_equal(res.stop, ASSAY_STOP_STRING);
    assert_string_equal(assay_str_c(&s.text), res.text);
    assay_str_free(&s.text);
    assay_generate_res_deinit(&res);
}

/* A model that ends its output in the middle of a character leaves a replacement character, not half a one. */
static void text_is_always_utf8(void **state) {
    assay_generate_res res =
        run(*state, (assay_generate_req){.max_tokens = 60, .temperature = 50, .seed = 5, .ignore_eos = true},
            loop_prompt);
    for (const unsigned char *p = (const unsigned char *)res.text; *p;) {
        int n = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : *p >= 0xc2 ? 2 : 0;
        assert_true(n > 0);
        for (int i = 1; i < n; i++) assert_int_equal(p[i] & 0xc0, 0x80);
        p += n;
    }
    assay_generate_res_deinit(&res);
}

static void seeds_decide_samples(void **state) {
    assay_generate_req q = {.max_tokens = 30, .temperature = 1.5, .seed = 1, .ignore_eos = true};
    assay_generate_res a = run(*state, q, loop_prompt), b = run(*state, q, loop_prompt);
    q.seed = 2;
    assay_generate_res c = run(*state, q, loop_prompt);
    assert_string_equal(a.text, b.text);
    assert_string_not_equal(a.text, c.text);
    assay_generate_res_deinit(&a);
    assay_generate_res_deinit(&b);
    assay_generate_res_deinit(&c);
}

/* --- scoring --- */

typedef struct seen {
    size_t n;
    size_t req[400], position[400];
    double logprob[400]; /* from the logits given */
    const assay_score_req *reqs;
    size_t stop_at;
} seen;

static assay_status see_logits(void *ctx, size_t req, size_t position, const float *logits, size_t n_vocab,
                               assay_err *err) {
    seen *s = ctx;
    double sum = 0;
    for (size_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i]);
    s->req[s->n] = req;
    s->position[s->n] = position;
    s->logprob[s->n] = (double)logits[s->reqs[req].ids[position]] - log(sum);
    if (++s->n == s->stop_at) return assay_fail(err, ASSAY_EINTR, "enough");
    return ASSAY_OK;
}

enum { N_REQS = 12 };

/* Requests over a common context of 70 tokens, as multiple choice has them. */
static void make_choices(int32_t ids[N_REQS][80], assay_score_req *req) {
    for (int i = 0; i < N_REQS; i++) {
        for (int k = 0; k < 80; k++) ids[i][k] = k < 70 ? 4 + k * 5 : 4 + (k * 31 + i * 7) % 2000;
        req[i] = (assay_score_req){ids[i], (size_t)(73 + i % 7), i == 3 ? 40 : 70};
    }
}

static void logits_come_in_order(void **state) {
    static int32_t ids[N_REQS][80];
    assay_score_req req[N_REQS];
    assay_score_res res[N_REQS];
    seen s = {.reqs = req};
    assay_err err = {0};
    size_t at = 0;
    make_choices(ids, req);
    must(assay_runtime_score(*state, res, req, N_REQS, see_logits, &s, NULL, NULL, &err), &err);
    for (size_t i = 0; i < N_REQS; i++) {
        double sum = 0;
        for (size_t p = req[i].from; p < req[i].n_ids; p++, at++) {
            assert_int_equal(s.req[at], i);
            assert_int_equal(s.position[at], p);
            assert_true(fabs(s.logprob[at] - res[i].logprobs[p - req[i].from]) < 1e-9);
            sum += res[i].logprobs[p - req[i].from];
        }
        assert_true(sum == res[i].sum);
        assay_score_res_deinit(&res[i]);
    }
    assert_int_equal(at, s.n);
}

static void a_callers_stop_is_forwarded(void **state) {
    static int32_t ids[N_REQS][80];
    assay_score_req req[N_REQS];
    assay_score_res res[N_REQS];
    seen s = {.reqs = req, .stop_at = 9};
    assay_err err = {0};
    make_choices(ids, req);
    assert_int_equal(assay_runtime_score(*state, res, req, N_REQS, see_logits, &s, NULL, NULL, &err),
                     ASSAY_EINTR);
    assert_int_equal(s.n, 9);
    for (int i = 0; i < N_REQS; i++) assay_score_res_deinit(&res[i]);
    s = (seen){.reqs = req}; /* and the runtime goes on as if nothing had been */
    memset(&err, 0, sizeof err);
    must(assay_runtime_score(*state, res, req, 2, see_logits, &s, NULL, NULL, &err), &err);
    for (int i = 0; i < 2; i++) assay_score_res_deinit(&res[i]);
}

/* The common context is computed once, though all requests arrive together. */
static void shared_contexts_are_computed_once(void **state) {
    static int32_t ids[N_REQS][80];
    assay_score_req req[N_REQS];
    assay_score_res res[N_REQS];
    assay_err err = {0};
    size_t computed, shared, total = 0;
    (void)state;
    make_choices(ids, req);
    assay_runtime *r = open_demo(&(assay_native_opts){0});
    must(assay_runtime_score(r, res, req, N_REQS, NULL, NULL, NULL, NULL, &err), &err);
    for (size_t i = 0; i < N_REQS; i++) {
        total += req[i].n_ids - 1;
        assay_score_res_deinit(&res[i]);
    }
    assay_engine_counts(((assay_native *)r)->engine, &computed, &shared);
    assert_int_equal(computed + shared, total);
    assert_true(shared >= 10 * 69); /* request 3 wants rows from 39 on and computes them */
    assay_runtime_close(r);
}

static void greedy_flag_and_values(void **state) {
    assay_runtime *r = *state;
    assay_err err = {0};
    assay_score_res res;
    int32_t *ids, whole[200];
    size_t n = encode(&ids, r, loop_prompt);
    assay_generate_res gen = run(r, (assay_generate_req){.max_tokens = 64}, loop_prompt);
    memcpy(whole, ids, n * sizeof *ids);
    memcpy(whole + n, gen.ids, gen.n_ids * sizeof *ids);
    assay_score_req q = {whole, n + gen.n_ids, n};
    must(assay_runtime_score(r, &res, &q, 1, NULL, NULL, NULL, NULL, &err), &err);
    assert_true(res.is_greedy);
    assert_true(res.sum < 0 && res.sum > -2);
    assay_score_res_deinit(&res);
    whole[n] = whole[n] == 50 ? 51 : 50;
    must(assay_runtime_score(r, &res, &q, 1, NULL, NULL, NULL, NULL, &err), &err);
    assert_false(res.is_greedy);
    assay_score_res_deinit(&res);
    assay_generate_res_deinit(&gen);
    assay_free(ids);
}

/* --- refusals --- */

static void refusals_are_clear(void **state) {
    assay_runtime *r = *state;
    static int32_t ids[600];
    assay_err err = {0};
    assay_generate_res g;
    assay_score_res s;
    assay_generate_req q = {.ids = ids, .n_ids = 513, .max_tokens = 1, .top_p = 1};
    assert_int_equal(assay_runtime_generate(r, &g, &q, 1, NULL, NULL, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "513 tokens does not fit the model's context of 512"));
    memset(&err, 0, sizeof err);
    assert_int_equal(assay_runtime_score(r, &s, &(assay_score_req){ids, 514, 1}, 1, NULL, NULL, NULL, NULL,
                                         &err),
                     ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "context of 512"));
    memset(&err, 0, sizeof err);
    ids[1] = 2048;
    assert_int_equal(assay_runtime_score(r, &s, &(assay_score_req){ids, 5, 1}, 1, NULL, NULL, NULL, NULL,
                                         &err),
                     ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "2048"));
    ids[1] = 0;
    static const struct {
        assay_native_opts o;
        const char *dir;
        assay_status status;
        const char *says;
    } bad[] = {
        {{.context = 4096}, demo_dir, ASSAY_EUSAGE, "max_position_embeddings of 512"},
        {{.max_batch = -1}, demo_dir, ASSAY_EUSAGE, "-1"},
        {{.kv_bytes = 1000}, demo_dir, ASSAY_EINPUT, "kv cache"},
        {{0}, "/nonexistent", ASSAY_ENOTFOUND, "/nonexistent"},
        {{0}, "tests/golden/tiny/llama31", ASSAY_ENOTFOUND, "tokenizer.json"},
    };
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_runtime *none = NULL;
        memset(&err, 0, sizeof err);
        assay_status got = assay_native_open(&none, bad[i].dir, &bad[i].o, &err);
        assert_null(none);
        if (got != bad[i].status || !strstr(err.message, bad[i].says))
            fail_msg("case %zu gave %d \"%s\"", i, (int)got, err.message);
    }
}

/* A sequence of exactly the context can be scored to its last id, and a full prompt generates nothing. */
static void the_context_is_usable_to_its_end(void **state) {
    static int32_t ids[513];
    assay_err err = {0};
    assay_score_res s;
    for (int i = 0; i < 513; i++) ids[i] = 4 + i;
    must(assay_runtime_score(*state, &s, &(assay_score_req){ids, 513, 512}, 1, NULL, NULL, NULL, NULL, &err),
         &err);
    assert_true(s.sum < 0);
    assay_score_res_deinit(&s);
    assay_generate_res g;
    assay_generate_req q = {.ids = ids, .n_ids = 512, .max_tokens = 5, .top_p = 1};
    must(assay_runtime_generate(*state, &g, &q, 1, NULL, NULL, &err), &err);
    assert_int_equal(g.stop, ASSAY_STOP_CONTEXT);
    assert_int_equal(g.n_ids, 0);
    assay_generate_res_deinit(&g);
}

/* A small KV budget shortens the context, and the manifest says so. */
static void a_small_budget_shortens_the_context(void **state) {
    (void)state;
    assay_runtime *r = open_demo(&(assay_native_opts){.kv_bytes = 3 * 64 * 4 * 2 * 4 * 32 * 2});
    assert_int_equal(assay_runtime_context(r), 192);
    json_t *j = assay_runtime_manifest(r);
    assert_int_equal(json_integer_value(json_object_get(j, "context")), 192);
    const json_t *kv = json_object_get(j, "kv");
    assert_string_equal(json_string_value(json_object_get(kv, "type")), "bf16");
    assert_true(json_number_value(json_object_get(kv, "bytes_per_token")) == 4 * 2 * 4 * 32 * 2); /* layers, k and v, heads, dims, bytes */
    assert_int_equal(strlen(json_string_value(json_object_get(j, "checkpoint"))), 64);
    assert_true(json_number_value(json_object_get(json_object_get(j, "precisions"), "bf16")) == 1.0);
    json_decref(j);
    assay_runtime_close(r);
}

/* Ids alone: a checkpoint without a tokenizer still scores and generates. */
static void works_without_a_tokenizer(void **state) {
    (void)state;
    assay_runtime *r = NULL;
    assay_err err = {0};
    assay_generate_res g;
    int32_t ids[4] = {1, 5, 6, 7};
    assay_native_opts o = {.no_tokenizer = true};
    must(assay_native_open(&r, "tests/golden/tiny/llama31", &o, &err), &err);
    assert_null(assay_runtime_tokenizer(r));
    assay_generate_req q = {.ids = ids, .n_ids = 4, .max_tokens = 5, .top_p = 1, .ignore_eos = true};
    must(assay_runtime_generate(r, &g, &q, 1, NULL, NULL, &err), &err);
    assert_int_equal(g.n_ids, 5);
    assert_string_equal(g.text, "");
    assay_generate_res_deinit(&g);
    assay_runtime_close(r);
}

/* Every allocation fails once: each time a clear status, nothing leaks (under ASan), and the next try goes
 * through. */
static void running_out_of_memory_is_a_status(void **state) {
    (void)state;
    int32_t ids[70] = {1, 5, 6, 7};
    assay_generate_req q = {
        .ids = ids, .n_ids = 70, .max_tokens = 5, .top_p = 0.9, .temperature = 1, .ignore_eos = true};
    assay_native_opts o = {.no_tokenizer = true, .n_threads = 1};
    assay_status s = ASSAY_ENOMEM;
    long n = 0;
    for (; s != ASSAY_OK; n++) {
        assay_err err = {0};
        assay_runtime *r = NULL;
        assay_generate_res g = {0};
        assay_mem_fail_after(n);
        s = assay_native_open(&r, "tests/golden/tiny/llama31", &o, &err);
        if (s == ASSAY_OK) s = assay_runtime_generate(r, &g, &q, 1, NULL, NULL, &err);
        assay_mem_fail_after(-1);
        if (s != ASSAY_OK && s != ASSAY_ENOMEM) fail_msg("allocation %ld: %d \"%s\"", n, (int)s, err.message);
        assay_generate_res_deinit(&g);
        assay_runtime_close(r);
    }
    assert_true(n > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_for_its_reasons),
        cmocka_unit_test(stop_strings_cut_the_text),
        cmocka_unit_test(streaming_shows_no_part_of_a_stop_string),
        cmocka_unit_test(text_is_always_utf8),
        cmocka_unit_test(seeds_decide_samples),
        cmocka_unit_test(logits_come_in_order),
        cmocka_unit_test(a_callers_stop_is_forwarded),
        cmocka_unit_test(shared_contexts_are_computed_once),
        cmocka_unit_test(greedy_flag_and_values),
        cmocka_unit_test(refusals_are_clear),
        cmocka_unit_test(the_context_is_usable_to_its_end),
        cmocka_unit_test(a_small_budget_shortens_the_context),
        cmocka_unit_test(works_without_a_tokenizer),
        cmocka_unit_test(running_out_of_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
