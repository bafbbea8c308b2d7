/* score.c: log-probabilities of given tokens on the native engine.
 *
 * Only rows from-1 ... n_ids-2 have their logits computed, and the last id is never fed. A log-probability is
 * the logit minus the log of the sum of exponentials in double, in order of id: a function of its row alone. */
#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "model/sample.h"
#include "runtime/native_impl.h"

typedef struct scoring {
    const assay_score_req *req;
    assay_score_res *res;
    assay_logits_fn fn;
    void *fn_ctx;
    assay_done_fn on_done;
    void *done_ctx;
    size_t n_vocab;
    int n_threads;
    assay_row *rows; /* of the call in work */
} scoring;

/* is_greedy is gathered in order afterwards; until then `next` tells whether the target is the arg max. */
static void score_range(void *ctx, size_t begin, size_t end, int thread) {
    scoring *c = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        assay_row *row = &c->rows[i];
        const assay_score_req *q = &c->req[row->tag];
        int32_t target = q->ids[row->position + 1];
        double lse = assay_log_sum_exp(row->logits, c->n_vocab);
        c->res[row->tag].logprobs[row->position + 1 - q->from] = (double)row->logits[target] - lse;
        row->next = assay_argmax(row->logits, c->n_vocab) == target;
    }
}

static assay_status on_rows(void *ctx, assay_row *rows, size_t n, assay_err *err) {
    scoring *c = ctx;
    c->rows = rows;
    assay_parallel_range(c->n_threads, n, 4, score_range, c);
    for (size_t i = 0; i < n; i++) {
        const assay_score_req *q = &c->req[rows[i].tag];
        assay_score_res *res = &c->res[rows[i].tag];
        if (!isfinite(res->logprobs[rows[i].position + 1 - q->from]))
            return assay_fail(err, ASSAY_EINPUT,
                              "request %zu: the model's logits at position %zu are not finite", rows[i].tag,
                              rows[i].position);
        res->is_greedy = res->is_greedy && rows[i].next;
        rows[i].next = -1;
        if (c->fn)
            ASSAY_TRY(c->fn(c->fn_ctx, rows[i].tag, rows[i].position + 1, rows[i].logits, c->n_vocab, err));
    }
    return ASSAY_OK;
}

static assay_status on_job_done(void *ctx, size_t job, double seconds_prompt, double seconds_output,
                                assay_err *err) {
    scoring *c = ctx;
    assay_score_res *res = &c->res[job];
    size_t n = c->req[job].n_ids - c->req[job].from;
    (void)seconds_prompt;
    (void)seconds_output;
    res->sum = 0;
    for (size_t i = 0; i < n; i++) res->sum += res->logprobs[i];
    return c->on_done ? c->on_done(c->done_ctx, job, err) : ASSAY_OK;
}

assay_status assay_native_score(assay_runtime *r, assay_score_res *res, const assay_score_req *req, size_t n,
                                assay_logits_fn fn, void *fn_ctx, assay_done_fn on_done, void *done_ctx,
                                assay_err *err) {
    assay_status s = ASSAY_OK;
    assay_native *native = (assay_native *)r;
    scoring c = {.req = req,
                 .res = res,
                 .fn = fn,
                 .fn_ctx = fn_ctx,
                 .on_done = on_done,
                 .done_ctx = done_ctx,
                 .n_vocab = r->n_vocab,
                 .n_threads = native->n_threads};
    assay_engine_client client = {.ctx = &c, .in_order = fn != NULL, .rows = on_rows, .done = on_job_done};
    assay_job *jobs = assay_mallocn(n, sizeof *jobs);
    if (!jobs) return assay_nomem(err);
    for (size_t i = 0; i < n; i++) {
        const assay_score_req *q = &req[i];
        jobs[i] = (assay_job){.ids = q->ids,
                              .n_ids = q->n_ids - 1,
                              .first_row = q->from - 1,
                              .max_len = q->n_ids - 1,
                              .tag = i};
        res[i].is_greedy = true;
        res[i].logprobs = assay_mallocn(q->n_ids - q->from, sizeof *res[i].logprobs);
        if (!res[i].logprobs) {
            s = assay_nomem(err);
            goto out;
        }
    }
    s = assay_engine_run(native->engine, jobs, n, &client, err);
out:
    assay_free(jobs);
    return s;
}
