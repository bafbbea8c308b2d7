/* perplexity.c: two definitions of perplexity, each a mean of negative log-likelihoods per token, never mixed.
 *
 * perplexity_llamacpp (llama.cpp, tools/perplexity): the text is tokenized as one, cut into chunks of `context` tokens (a rest is left
 *   out), each chunk's first token replaced by BOS where the tokenizer adds one; with first = context/2 the tokens first+1 .. context-1 are
 *   scored, so that each has at least half a window before it. PPL = exp(sum nll / count). One record per chunk; score its mean nll,
 *   weight its count: exp of the weighted mean of scores is llama.cpp's figure.
 * perplexity_rolling (lm-eval, loglikelihood_rolling): every token of every document, in disjoint windows (windows.h). One record per
 *   document; `output` has what the word and byte figures need:
 *     token ppl  exp(sum nll / sum tokens)    word ppl  exp(sum nll / sum words)    byte ppl  exp(sum nll / sum bytes)
 *     bits per byte  sum nll / sum bytes / ln 2
 *   words are len(re.split(r"\s+", text)), empty strings at both ends counted, bytes those of UTF-8. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "eval/evaluator.h"
#include "eval/suite.h"
#include "eval/windows.h"
#include "text/unicode.h"

static const assay_option chunk_options[] = {
    {.name = "context", .kind = ASSAY_OPTION_INT, .number = 512, .lo = 4, .hi = 1 << 20, .help = "tokens per chunk"},
};
static const assay_option rolling_options[] = {
    {.name = "context", .kind = ASSAY_OPTION_INT, .number = 0, .lo = 0, .hi = 1 << 20, .help = "tokens per window; 0: the model's context"},
};

/* The state of both is the option `context`. */
static assay_status window_open(void **state, const json_t *o, assay_err *err) {
    (void)err;
    *state = json_incref(json_object_get(o, "context"));
    return ASSAY_OK;
}

static void window_close(void *state) {
    json_decref(state);
}

/* Sums over the unit's requests; the record's score, weight and outcome follow. */
static double sum_nll(const assay_unit *u, const assay_score_res *res) {
    double nll = 0;
    for (size_t i = 0; i < u->n_requests; i++) nll -= res[i].sum;
    return nll;
}

static assay_status fill(assay_record *r, const assay_unit *u, double nll, json_t *detail, assay_err *err) {
    assay_str out = {0};
    size_t n = assay_unit_n_scored(u);
    r->score = nll / (double)n;
    r->weight = (double)n;
    if (!isfinite(nll)) {
        r->outcome = ASSAY_OUTCOME_ERROR;
        r->score = 0;
        r->detail = assay_strdup("the model's probabilities are not finite");
        json_decref(detail);
        return r->detail ? ASSAY_OK : assay_nomem(err);
    }
    assay_status s = detail ? assay_json_dump(&out, detail, 0, false, err) : assay_nomem(err);
    json_decref(detail);
    if (s == ASSAY_OK) r->output = assay_str_take(&out);
    assay_str_free(&out);
    return s;
}

/* --- llama.cpp --- */

static assay_status add_chunk(const assay_language *l, const assay_eval_env *env, size_t index, int32_t *ids, size_t n, assay_unit_fn fn,
                              void *ctx, assay_err *err) {
    assay_unit u;
    assay_status s = assay_unit_of_text(&u, l, index, 0, l->n, err);
    if (env->adds_bos) ids[0] = env->prefix;
    if (s == ASSAY_OK) s = assay_unit_add(&u, ids, n, n / 2 + 1, err);
    if (s == ASSAY_OK) s = fn(ctx, &u, err);
    assay_unit_deinit(&u);
    return s;
}

static assay_status chunks_expand(const assay_language *l, const void *state, const assay_eval_env *env, assay_unit_fn fn, void *ctx,
                                  assay_err *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0, width = (size_t)json_integer_value(state);
    assay_status s = ASSAY_OK;
    if (width > env->context)
        return assay_fail(err, ASSAY_EINPUT, "perplexity_llamacpp: chunks of %zu tokens do not fit the model's context of %zu, set `context`",
                          width, env->context);
    ASSAY_GO(assay_tokenizer_encode(&ids, &n_ids, env->tokenizer, l->text, l->n, true, true, err));
    if (n_ids < 2 * width) {
        s = assay_fail(err, ASSAY_EINPUT, "perplexity_llamacpp: '%s' has %zu tokens, and %zu are needed (two chunks): set a smaller `context`", l->file, n_ids, 2 * width);
        goto out;
    }
    for (size_t i = 0; (i + 1) * width <= n_ids; i++) ASSAY_GO(add_chunk(l, env, i, ids + i * width, width, fn, ctx, err));
out:
    assay_free(ids);
    return s;
}

/* sum of squares: llama.cpp's standard error needs it (E[x^2] - E[x]^2). */
static assay_status chunks_judge(assay_record *r, const void *state, const assay_unit *u, const assay_score_res *res, void *seen, assay_err *err) {
    (void)state;
    (void)seen;
    size_t n = assay_unit_n_scored(u);
    double squares = 0, nll = sum_nll(u, res);
    for (size_t i = 0; i < n; i++) squares += res[0].logprobs[i] * res[0].logprobs[i];
    return fill(r, u, nll, json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t)n, "nll", nll, "nll2", squares), err);
}

const assay_evaluator assay_evaluator_perplexity_llamacpp = {
    .name = "perplexity_llamacpp",
    .version = 1,
    .needs = ASSAY_CAN_SCORE,
    .options = chunk_options,
    .n_options = ASSAY_LEN(chunk_options),
    .open = window_open,
    .close = window_close,
    .expand = chunks_expand,
    .judge = chunks_judge,
};

/* --- lm-eval --- */

static assay_status rolling_expand(const assay_language *l, const void *state, const assay_eval_env *env, assay_unit_fn fn, void *ctx,
                                   assay_err *err) {
    return assay_windows_expand(l, env, json_integer_value(state), fn, ctx, err);
}

static size_t count_words(const char *s, size_t n) {
    size_t words = 1;
    bool space = false;
    for (size_t at = 0, k; at < n; at += k) {
        int32_t c = assay_utf8_next(&k, s + at, n - at);
        bool here = assay_char_is_space(c) || (c >= 0x1c && c <= 0x1f);
        words += here && !space;
        space = here;
    }
    return words;
}

static assay_status rolling_judge(assay_record *r, const void *state, const assay_unit *u, const assay_score_res *res, void *seen, assay_err *err) {
    (void)state;
    (void)seen;
    double nll = sum_nll(u, res);
    size_t bytes = u->end - u->begin, words = count_words(u->language->text + u->begin, bytes);
    return fill(r, u, nll, json_pack("{s:I, s:I, s:I, s:f}", "tokens", (json_int_t)assay_unit_n_scored(u), "words", (json_int_t)words, "bytes",
                                     (json_int_t)bytes, "nll", nll), err);
}

const assay_evaluator assay_evaluator_perplexity_rolling = {
    .name = "perplexity_rolling",
    .version = 1,
    .needs = ASSAY_CAN_SCORE,
    .options = rolling_options,
    .n_options = ASSAY_LEN(rolling_options),
    .open = window_open,
    .close = window_close,
    .expand = rolling_expand,
    .judge = rolling_judge,
};
