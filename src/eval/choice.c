/* choice.c: multiple choice by log-likelihood, as lm-eval defines acc and acc_norm (lm_eval/api/model.py: _encode_pair and
 * loglikelihood; api/task.py: process_results; EleutherAI, 0.4.13.dev0).
 *
 *   context       the rendered prompt; continuation = delimiter + choice. The delimiter is the suite's (" "), and "" behind a chat template
 *   trailing      white space at the context's end moves to the continuation
 *   split         whole = enc(context + continuation), c = enc(context), scored = whole[len(c):]; not enc(continuation)
 *   empty context the prefix id (BOS, else EOS) stands for it, and the continuation is encoded without special tokens; if it begins
 *                 with the prefix id, that is the context
 *   window        the last (context length + 1) ids of both together, of which the last is only scored
 *   acc           the first choice with the largest sum LL is the gold one
 *   acc_norm      the same with LL / code points of the choice (without the delimiter)
 *
 * Score is acc or acc_norm as option `score` says; aux is the other. Log-probabilities are summed in double (lm-eval takes the
 * model's dtype), so near-ties can fall otherwise than there. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "eval/evaluator.h"
#include "eval/pair.h"
#include "eval/suite.h"
#include "text/unicode.h"

static const assay_option options[] = {
    {.name = "score", .kind = ASSAY_OPTION_WORD, .words = "acc acc_norm", .help = "which of the two is the score; the other is aux"},
};

static assay_status choice_check(assay_item *item, const void *state, assay_err *err) {
    (void)state;
    if (item->extract) return assay_fail(err, ASSAY_EINPUT, "choice compares log-likelihoods: it takes no 'extract'");
    if (item->n_choices < 2) return assay_fail(err, ASSAY_EINPUT, "key 'choices' needs at least two choices");
    if (item->reference || item->n_answers != 1) return assay_fail(err, ASSAY_EINPUT, "key 'answer' must be one of the choices");
    size_t hits = 0;
    for (size_t i = 0; i < item->n_choices; i++) {
        if (!*item->choices[i]) return assay_fail(err, ASSAY_EINPUT, "choice %zu is empty", i + 1);
        if (strcmp(item->choices[i], item->answers[0])) continue;
        item->gold = i;
        hits++;
    }
    if (hits == 1) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, hits ? "the answer '%s' stands more than once among the choices"
                                              : "the answer '%s' is not one of the choices", item->answers[0]);
}

static assay_status choice_plan(assay_unit *u, const void *state, const assay_eval_env *env, const char *context, assay_err *err) {
    (void)state;
    const assay_item *item = u->item;
    const char *delimiter = env->suite->chat ? "" : env->suite->delimiter;
    for (size_t i = 0; i < item->n_choices && !u->problem; i++) {
        assay_str continuation = {0};
        assay_str_put(&continuation, delimiter);
        assay_str_put(&continuation, item->choices[i]);
        assay_status s = assay_str_status(&continuation, err);
        if (s == ASSAY_OK) s = assay_pair_plan(u, env, context, assay_str_c(&continuation), err);
        assay_str_free(&continuation);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}

/* The first index with the largest value: numpy's argmax. */
static size_t first_max(const double *v, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static assay_status choice_judge(assay_record *r, const void *state, const assay_unit *u, const assay_score_res *res, void *seen, assay_err *err) {
    const json_t *o = state;
    const assay_item *item = u->item;
    size_t n = item->n_choices;
    (void)seen;
    double *ll = assay_mallocn(2 * n, sizeof *ll), *norm = ll + n;
    json_t *sums = json_array(), *greedy = json_array();
    assay_str out = {0};
    assay_status s = ASSAY_OK;
    if (!ll || !sums || !greedy) ASSAY_GO(assay_nomem(err));
    for (size_t i = 0; i < n; i++) {
        ll[i] = res[i].sum;
        norm[i] = res[i].sum / (double)assay_utf8_count(item->choices[i], strlen(item->choices[i]));
        json_array_append_new(sums, json_real(ll[i]));
        json_array_append_new(greedy, json_boolean(res[i].is_greedy));
    }
    size_t by_sum = first_max(ll, n), by_norm = first_max(norm, n);
    bool wants_norm = json_is_true(o);
    double acc = by_sum == item->gold, acc_norm = by_norm == item->gold;
    r->score = wants_norm ? acc_norm : acc;
    r->aux = wants_norm ? acc : acc_norm;
    r->answer = assay_strdup(item->choices[wants_norm ? by_norm : by_sum]);
    json_t *all = json_pack("{s:O, s:O}", "ll", sums, "greedy", greedy);
    s = all && r->answer ? assay_json_dump(&out, all, 0, false, err) : assay_nomem(err);
    json_decref(all);
    if (s == ASSAY_OK) r->output = assay_str_take(&out);
out:
    json_decref(sums);
    json_decref(greedy);
    assay_str_free(&out);
    assay_free(ll);
    return s;
}

/* The state is the option itself: whether acc_norm is the score. */
static assay_status choice_open(void **state, const json_t *o, assay_err *err) {
    const char *word = json_string_value(json_object_get(o, "score"));
    (void)err;
    *state = json_boolean(word && !strcmp(word, "acc_norm"));
    return ASSAY_OK;
}

static void choice_close(void *state) {
    json_decref(state);
}

const assay_evaluator assay_evaluator_choice = {
    .name = "choice",
    .version = 1,
    .needs = ASSAY_CAN_SCORE,
    .binary = true,
    .needs_answer = true,
    .needs_choices = true,
    .options = options,
    .n_options = ASSAY_LEN(options),
    .open = choice_open,
    .close = choice_close,
    .check = choice_check,
    .plan = choice_plan,
    .judge = choice_judge,
};
