/* The native runtime against other programs' figures.
 *   models/demo              tests/golden/demo.json: PyTorch 1.13, float32 arithmetic on the bf16 weights
 *   ../shared/.../stories260K   golden.json beside it: numpy, float64 arithmetic on the float32 weights
 *                               (skipped when absent)
 * Token ids, last logits (1e-4 of the largest), sums of log-probabilities, greedy continuations, and a prose
 * loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "runtime/native.h"

static const char demo_dir[] = "models/demo", demo_golden[] = "tests/golden/demo.json";

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

static assay_runtime *open_exact(const char *dir) {
    assay_err err = {0};
    assay_runtime *r = NULL;
    assay_native_opts o = {.activations = ASSAY_ACT_F32};
    must(assay_native_open(&r, dir, &o, &err), &err);
    return r;
}

static size_t get_ids(int32_t **out, const json_t *list) {
    size_t n = json_array_size(list);
    *out = assay_mallocn(n + 1, sizeof **out);
    for (size_t i = 0; i < n; i++) (*out)[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* The golden file's cases and what this runtime makes of them. */
typedef struct cases {
    json_t *golden, *list;
    size_t n;
    assay_score_req *score;
    assay_generate_req *generate;
    double worst; /* logit error relative to the largest logit */
} cases;

/* Logits after the prompt's last token: the last id is appended once more so that its distribution is scored. */
static assay_status take_last(void *ctx, size_t req, size_t position, const float *logits, size_t n_vocab,
                              assay_err *err) {
    cases *c = ctx;
    (void)err;
    if (position + 1 != c->score[req].n_ids) return ASSAY_OK;
    const json_t *golden = json_object_get(json_array_get(c->list, req), "last_logits");
    double worst = 0, largest = 0;
    assert_int_equal(json_array_size(golden), n_vocab);
    for (size_t i = 0; i < n_vocab; i++) {
        double g = json_number_value(json_array_get(golden, i));
        worst = fmax(worst, fabs((double)logits[i] - g));
        largest = fmax(largest, fabs(g));
    }
    c->worst = fmax(c->worst, worst / largest);
    return ASSAY_OK;
}

static void load_cases(cases *c, const char *path) {
    assay_err err = {0};
    memset(c, 0, sizeof *c);
    must(assay_json_load(&c->golden, path, &err), &err);
    c->list = json_object_get(c->golden, "cases");
    c->n = json_array_size(c->list);
    assert_true(c->n > 0);
    c->score = assay_calloc(c->n, sizeof *c->score);
    c->generate = assay_calloc(c->n, sizeof *c->generate);
    for (size_t i = 0; i < c->n; i++) {
        int32_t *ids;
        size_t n = get_ids(&ids, json_object_get(json_array_get(c->list, i), "ids"));
        ids[n] = ids[n - 1];
        c->score[i] = (assay_score_req){ids, n + 1, 1};
        c->generate[i] = (assay_generate_req){.ids = ids, .n_ids = n, .top_p = 1};
    }
}

static void free_cases(cases *c) {
    for (size_t i = 0; i < c->n; i++) assay_free((void *)(uintptr_t)c->score[i].ids);
    assay_free(c->score);
    assay_free(c->generate);
    json_decref(c->golden);
}

static void check_token_ids(const assay_runtime *r, const cases *c) {
    for (size_t i = 0; i < c->n; i++) {
        const char *text = json_string_value(json_object_get(json_array_get(c->list, i), "text"));
        int32_t *ids = NULL;
        size_t n = 0;
        assay_err err = {0};
        /* the demo's texts spell <|begin|> out; the stories' rely on the post-processor */
        bool spelled = strncmp(text, "<|", 2) == 0;
        must(assay_tokenizer_encode(&ids, &n, assay_runtime_tokenizer(r), text, strlen(text), !spelled, true,
                                    &err),
             &err);
        assert_int_equal(n, c->generate[i].n_ids);
        assert_memory_equal(ids, c->generate[i].ids, n * sizeof *ids);
        assay_free(ids);
    }
}

static void check_scores(assay_runtime *r, cases *c) {
    assay_err err = {0};
    assay_score_res *res = assay_calloc(c->n, sizeof *res);
    must(assay_runtime_score(r, res, c->score, c->n, take_last, c, NULL, NULL, &err), &err);
    print_message("# logits within %.2e of the largest\n", c->worst);
    assert_true(c->worst < 1e-4);
    for (size_t i = 0; i < c->n; i++) {
        double golden = json_number_value(json_object_get(json_array_get(c->list, i), "sum_logprob"));
        double got = res[i].sum - res[i].logprobs[c->score[i].n_ids - 2]; /* without the repeated last id */
        if (!(fabs(got - golden) < 2e-3))
            fail_msg("case %zu: sum of log-probabilities %.6f, golden %.6f", i, got, golden);
        assay_score_res_deinit(&res[i]);
    }
    assay_free(res);
}

/* The golden continuations end before end-of-sequence or at `limit` tokens. */
static void check_greedy(assay_runtime *r, cases *c, size_t limit) {
    assay_err err = {0};
    assay_generate_res *res = assay_calloc(c->n, sizeof *res);
    for (size_t i = 0; i < c->n; i++) c->generate[i].max_tokens = (int)limit;
    must(assay_runtime_generate(r, res, c->generate, c->n, NULL, NULL, &err), &err);
    for (size_t i = 0; i < c->n; i++) {
        const json_t *g = json_array_get(c->list, i);
        int32_t *ids;
        size_t n = get_ids(&ids, json_object_get(g, "greedy_ids"));
        assert_int_equal(res[i].n_ids, n);
        assert_memory_equal(res[i].ids, ids, n * sizeof *ids);
        assert_int_equal(res[i].stop, n < limit ? ASSAY_STOP_EOS : ASSAY_STOP_LENGTH);
        const char *text = json_string_value(json_object_get(g, "greedy_text"));
        /* the stories' golden text spells byte tokens out, "<0x0A>" */
        if (text && !strstr(text, "<0x") && strcmp(res[i].text, text) != 0)
            fail_msg("case %zu: text \"%s\", golden \"%s\"", i, res[i].text, text);
        assay_free(ids);
        assay_generate_res_deinit(&res[i]);
    }
    assay_free(res);
}

static void check_all(const char *dir, const char *golden, size_t limit) {
    cases c;
    assay_runtime *r = open_exact(dir);
    load_cases(&c, golden);
    check_token_ids(r, &c);
    check_scores(r, &c);
    check_greedy(r, &c, limit);
    free_cases(&c);
    assay_runtime_close(r);
}

static void demo_model(void **state) {
    (void)state;
    check_all(demo_dir, demo_golden, 64);
}

static const char *shared_path(char *out, size_t n, const char *name) {
    const char *shared = getenv("ASSAY_SHARED");
    snprintf(out, n, "%s/%s", shared && *shared ? shared : "../shared", name);
    if (!assay_path_exists(out)) {
        print_message("# SKIP %s is absent\n", out);
        skip();
    }
    return out;
}

static void stories_model(void **state) {
    (void)state;
    char dir[400], golden[400];
    shared_path(dir, sizeof dir, "models/stories260K/hf");
    check_all(dir, shared_path(golden, sizeof golden, "models/stories260K/hf/golden.json"), 40);
}

/* 4,096 predictions of running text in disjoint windows of 256 inputs. */
static void prose_loss(void **state) {
    (void)state;
    enum { WINDOW = 256, WINDOWS = 16 };
    char *text = NULL;
    size_t size, n;
    int32_t *ids = NULL;
    json_t *golden = NULL;
    assay_err err = {0};
    assay_score_req req[WINDOWS];
    assay_score_res res[WINDOWS];
    must(assay_read_file(&text, &size, "models/demo/prose.txt", 0, &err), &err);
    must(assay_json_load(&golden, demo_golden, &err), &err);
    assay_runtime *r = open_exact(demo_dir);
    must(assay_tokenizer_encode(&ids, &n, assay_runtime_tokenizer(r), text, size, true, false, &err), &err);
    assert_int_equal(ids[0], assay_tokenizer_bos(assay_runtime_tokenizer(r)));
    assert_true(n > WINDOW * WINDOWS);
    for (size_t w = 0; w < WINDOWS; w++) req[w] = (assay_score_req){ids + w * WINDOW, WINDOW + 1, 1};
    must(assay_runtime_score(r, res, req, WINDOWS, NULL, NULL, NULL, NULL, &err), &err);
    double nll = 0, expected = json_number_value(json_object_get(golden, "prose_nll"));
    for (size_t w = 0; w < WINDOWS; w++) {
        nll -= res[w].sum;
        assay_score_res_deinit(&res[w]);
    }
    print_message("# prose: %.9g, golden %.9g\n", nll, expected);
    assert_int_equal(json_integer_value(json_object_get(golden, "prose_predictions")), WINDOW * WINDOWS);
    assert_true(fabs(nll - expected) < 1e-5 * expected);
    assay_runtime_close(r);
    json_decref(golden);
    assay_free(ids);
    assay_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_model),
        cmocka_unit_test(prose_loss),
        cmocka_unit_test(stories_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
