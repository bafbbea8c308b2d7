/* generate.c: continuing prompts on the native engine: choosing tokens, and knowing when to stop.
 *
 * Each request has its own generator and detokenizer, so that its output is a function of its prompt, options
 * and seed, whatever runs beside it. Tokens of a step are chosen in parallel and then accepted in order. */
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "model/sample.h"
#include "runtime/native_impl.h"
#include "runtime/stopper.h"

/* One request in work. */
typedef struct generation {
    assay_rng rng;
    assay_stopper stopper;
    size_t cap_ids; /* of the result's ids */
    bool started;
} generation;

typedef struct generating {
    const assay_native *native;
    const assay_generate_req *req;
    assay_generate_res *res;
    generation *work; /* [n] */
    assay_done_fn on_done;
    void *done_ctx;
    assay_sampler *samplers; /* [n_threads] */
    assay_row *rows;         /* of the call in work */
} generating;

static void choose_range(void *ctx, size_t begin, size_t end, int thread) {
    generating *g = ctx;
    for (size_t i = begin; i < end; i++) {
        assay_row *row = &g->rows[i];
        const assay_generate_req *q = &g->req[row->tag];
        assay_sample_opts o = {q->temperature, q->top_k, q->top_p};
        if (assay_sample(&row->next, &g->samplers[thread], row->logits, g->native->base.n_vocab, &o,
                         &g->work[row->tag].rng, NULL) != ASSAY_OK)
            row->next = -1;
    }
}

static bool is_eos(const assay_native *native, int32_t id) {
    const assay_config *c = assay_model_config(native->model);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_token_ids[i] == id) return true;
    return c->n_eos == 0 && native->tokenizer && assay_tokenizer_eos(native->tokenizer) == id;
}

static assay_status start(generating *g, size_t job, assay_err *err) {
    generation *w = &g->work[job];
    if (w->started) return ASSAY_OK;
    w->started = true;
    assay_rng_init(&w->rng, g->req[job].seed);
    return assay_stopper_init(&w->stopper, g->native->tokenizer, &g->req[job], err);
}

/* Takes a chosen token; *next is it, or -1 when the request is done, whose stop reason is then set. */
static assay_status accept(generating *g, size_t job, int32_t *next, assay_err *err) {
    const assay_generate_req *q = &g->req[job];
    assay_generate_res *res = &g->res[job];
    generation *w = &g->work[job];
    int32_t id = *next;
    *next = -1;
    if (!q->ignore_eos && is_eos(g->native, id)) {
        res->stop = ASSAY_STOP_EOS;
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_grow(&res->ids, &w->cap_ids, res->n_ids + 1, sizeof *res->ids, err));
    res->ids[res->n_ids++] = id;
    ASSAY_TRY(assay_stopper_push(&w->stopper, id, err));
    if (w->stopper.stopped)
        res->stop = ASSAY_STOP_STRING;
    else if (res->n_ids >= (size_t)q->max_tokens)
        res->stop = ASSAY_STOP_LENGTH;
    else if (q->n_ids + res->n_ids >= g->native->base.context)
        res->stop = ASSAY_STOP_CONTEXT;
    else
        *next = id;
    return ASSAY_OK;
}

static assay_status on_rows(void *ctx, assay_row *rows, size_t n, assay_err *err) {
    generating *g = ctx;
    g->rows = rows;
    for (size_t i = 0; i < n; i++) ASSAY_TRY(start(g, rows[i].tag, err));
    assay_parallel_range(g->native->n_threads, n, 1, choose_range, g);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].next < 0)
            return assay_fail(
                err, ASSAY_EINPUT,
                "request %zu: cannot choose a token: the model's logits at position %zu are not finite",
                rows[i].tag, rows[i].position);
        ASSAY_TRY(accept(g, rows[i].tag, &rows[i].next, err));
    }
    return ASSAY_OK;
}

static assay_status complete(generating *g, size_t job, assay_err *err) {
    generation *w = &g->work[job];
    assay_generate_res *res = &g->res[job];
    ASSAY_TRY(start(g, job, err));
    bool stopped = w->stopper.stopped;
    ASSAY_TRY(assay_stopper_finish(&w->stopper, err));
    if (w->stopper.stopped && !stopped) res->stop = ASSAY_STOP_STRING;
    res->text = w->stopper.text.len ? assay_str_take(&w->stopper.text) : assay_strdup("");
    if (!res->text) return assay_nomem(err);
    assay_stopper_deinit(&w->stopper);
    return g->on_done ? g->on_done(g->done_ctx, job, err) : ASSAY_OK;
}

static assay_status on_job_done(void *ctx, size_t job, double seconds_prompt, double seconds_output,
                                assay_err *err) {
    generating *g = ctx;
    g->res[job].seconds_prompt = seconds_prompt;
    g->res[job].seconds_output = seconds_output;
    return complete(g, job, err);
}

/* Requests that have no room for a single token are done at once; the others become jobs. */
static assay_status plan_jobs(generating *g, assay_job *jobs, size_t *n_jobs, size_t n, assay_err *err) {
    size_t context = g->native->base.context;
    *n_jobs = 0;
    for (size_t i = 0; i < n; i++) {
        const assay_generate_req *q = &g->req[i];
        size_t room = context - q->n_ids, wanted = ASSAY_MIN((size_t)q->max_tokens, room);
        if (wanted == 0) {
            g->res[i].stop = q->max_tokens == 0 ? ASSAY_STOP_LENGTH : ASSAY_STOP_CONTEXT;
            ASSAY_TRY(complete(g, i, err));
            continue;
        }
        jobs[(*n_jobs)++] = (assay_job){.ids = q->ids,
                                        .n_ids = q->n_ids,
                                        .first_row = q->n_ids - 1,
                                        .max_len = q->n_ids + wanted - 1,
                                        .tag = i};
    }
    return ASSAY_OK;
}

assay_status assay_native_generate(assay_runtime *r, assay_generate_res *res, const assay_generate_req *req,
                                   size_t n, assay_done_fn on_done, void *done_ctx, assay_err *err) {
    assay_status s;
    size_t n_jobs = 0;
    assay_native *native = (assay_native *)r;
    generating g = {.native = native, .req = req, .res = res, .on_done = on_done, .done_ctx = done_ctx};
    assay_engine_client client = {.ctx = &g, .rows = on_rows, .done = on_job_done};
    assay_job *jobs = assay_mallocn(n, sizeof *jobs);
    g.work = assay_calloc(n, sizeof *g.work);
    g.samplers = assay_calloc((size_t)native->n_threads, sizeof *g.samplers);
    if (!jobs || !g.work || !g.samplers) {
        s = assay_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++) res[i].stop = ASSAY_STOP_ERROR;
    ASSAY_GO(plan_jobs(&g, jobs, &n_jobs, n, err));
    if (n_jobs) s = assay_engine_run(native->engine, jobs, n_jobs, &client, err);
out:
    for (size_t i = 0; g.work && i < n; i++) assay_stopper_deinit(&g.work[i].stopper);
    for (int t = 0; g.samplers && t < native->n_threads; t++) assay_sampler_deinit(&g.samplers[t]);
    assay_free(g.work);
    assay_free(g.samplers);
    assay_free(jobs);
    return s;
}
