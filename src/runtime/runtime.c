/* runtime.c: what all runtimes share: refusing what one cannot do, checking requests, and handing them on.
 *
 * Checks stand here and not in the implementations, so that a bad request has one message whatever executes
 * the model, and so that no implementation has to trust its caller. Scheduling, batching and the arithmetic
 * are the implementation's. */
#include "runtime/runtime.h"

#include <string.h>
#include "base/mem.h"
#include "runtime/runtime_impl.h"

const char *assay_stop_name(assay_stop s) {
    static const char *const names[] = {"eos", "stop", "length", "context", "error"};
    return (unsigned)s < ASSAY_LEN(names) ? names[s] : "error";
}

void assay_score_res_deinit(assay_score_res *r) {
    if (!r) return;
    assay_free(r->logprobs);
    memset(r, 0, sizeof *r);
}

void assay_generate_res_deinit(assay_generate_res *r) {
    if (!r) return;
    assay_free(r->ids);
    assay_free(r->text);
    memset(r, 0, sizeof *r);
}

static assay_status check_ids(const assay_runtime *r, size_t req, const int32_t *ids, size_t n,
                              assay_err *err) {
    for (size_t i = 0; i < n && r->n_vocab; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= r->n_vocab)
            return assay_fail(err, ASSAY_EINPUT,
                              "request %zu: token id %d at position %zu is outside the vocabulary of %zu",
                              req, (int)ids[i], i, r->n_vocab);
    return ASSAY_OK;
}

static assay_status check_score(const assay_runtime *r, size_t i, const assay_score_req *q, assay_err *err) {
    if (!q->ids || q->from < 1 || q->from >= q->n_ids)
        return assay_fail(err, ASSAY_EINPUT,
                          "request %zu: nothing to score: from %zu of %zu ids (the first id has no context)",
                          i, q->from, q->n_ids);
    if (q->n_ids - 1 > r->context)
        return assay_fail(err, ASSAY_EINPUT, "request %zu: %zu tokens do not fit the model's context of %zu",
                          i, q->n_ids - 1, r->context);
    return check_ids(r, i, q->ids, q->n_ids, err);
}

assay_status assay_runtime_score(assay_runtime *r, assay_score_res *res, const assay_score_req *req, size_t n,
                                 assay_logits_fn fn, void *fn_ctx, assay_done_fn on_done, void *done_ctx,
                                 assay_err *err) {
    if (n) memset(res, 0, n * sizeof *res);
    if (!(r->caps & ASSAY_CAN_SCORE))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "this runtime cannot score given tokens (no log-probabilities of the prompt)");
    if (fn && !(r->caps & ASSAY_CAN_LOGITS))
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "this runtime cannot give whole distributions, only log-probabilities of given tokens");
    for (size_t i = 0; i < n; i++) ASSAY_TRY(check_score(r, i, &req[i], err));
    return n ? r->ops->score(r, res, req, n, fn, fn_ctx, on_done, done_ctx, err) : ASSAY_OK;
}

static assay_status check_generate(const assay_runtime *r, size_t i, const assay_generate_req *q,
                                   assay_err *err) {
    if (!q->ids || !q->n_ids) return assay_fail(err, ASSAY_EINPUT, "request %zu: the prompt is empty", i);
    if (q->n_ids > r->context)
        return assay_fail(err, ASSAY_EINPUT,
                          "request %zu: a prompt of %zu tokens does not fit the model's context of %zu", i,
                          q->n_ids, r->context);
    if (q->max_tokens < 0) return assay_fail(err, ASSAY_EINPUT, "request %zu: max_tokens is negative", i);
    if (!(q->temperature >= 0) || q->top_k < 0 || !(q->top_p > 0 && q->top_p <= 1))
        return assay_fail(err, ASSAY_EINPUT,
                          "request %zu: sampling needs temperature >= 0, top_k >= 0 and 0 < top_p <= 1", i);
    for (int k = 0; k < q->n_stop; k++)
        if (!q->stop[k] || !*q->stop[k])
            return assay_fail(err, ASSAY_EINPUT, "request %zu: stop string %d is empty", i, k);
    return check_ids(r, i, q->ids, q->n_ids, err);
}

assay_status assay_runtime_generate(assay_runtime *r, assay_generate_res *res, const assay_generate_req *req,
                                    size_t n, assay_done_fn on_done, void *done_ctx, assay_err *err) {
    if (n) memset(res, 0, n * sizeof *res);
    if (!(r->caps & ASSAY_CAN_GENERATE))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "this runtime cannot generate text");
    for (size_t i = 0; i < n; i++) ASSAY_TRY(check_generate(r, i, &req[i], err));
    return n ? r->ops->generate(r, res, req, n, on_done, done_ctx, err) : ASSAY_OK;
}

unsigned assay_runtime_caps(const assay_runtime *r) {
    return r->caps;
}

size_t assay_runtime_context(const assay_runtime *r) {
    return r->context;
}

size_t assay_runtime_n_vocab(const assay_runtime *r) {
    return r->n_vocab;
}

const assay_tokenizer *assay_runtime_tokenizer(const assay_runtime *r) {
    return r->tokenizer;
}

const assay_template *assay_runtime_template(const assay_runtime *r) {
    return r->tmpl;
}

json_t *assay_runtime_manifest(const assay_runtime *r) {
    return r->ops->manifest(r);
}

void assay_runtime_close(assay_runtime *r) {
    if (r) r->ops->close(r);
}
