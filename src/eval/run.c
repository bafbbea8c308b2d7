/* run.c: units to the runtime in batches, results to records.
 *
 * Units go in the order of the suite, those that generate and those that are scored apart, `batch` at a time: wide enough for a runtime
 * to fill its own batches, and short enough that what waits stays small. A record is made as the last of its requests finishes,
 * whatever the others of the batch still do: a kill loses what was in work, and a stop is noticed between items. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/eval_impl.h"

typedef struct run {
    assay_evaluation *e;
    const assay_evaluation_calls *calls;
    size_t *todo;            /* indices of units */
    bool *known;             /* of todo: the record is there, something else is missing */
    size_t n_todo, n_done;   /* n_done: of all units */
} run;

static const assay_evaluator_use *use_of(const run *r, const assay_unit *u) {
    return &r->e->suite->evaluators[u->evaluator];
}

/* --- records --- */

static assay_status copy(char **out, const char *text, assay_err *err) {
    if (!text || *out) return ASSAY_OK;
    *out = assay_strdup(text);
    return *out ? ASSAY_OK : assay_nomem(err);
}

static assay_status start_record(assay_record *rec, const run *r, const assay_unit *u, assay_err *err) {
    const assay_evaluator *def = use_of(r, u)->def;
    memset(rec, 0, sizeof *rec);
    rec->binary = def->binary;
    rec->aux = NAN;
    rec->weight = 1;
    rec->outcome = ASSAY_OUTCOME_OK;
    rec->evaluator_version = def->version;
    for (size_t i = 0; i < u->n_requests; i++) rec->n_prompt += (int64_t)u->requests[i].n_ids;
    ASSAY_TRY(copy(&rec->item_id, u->id, err));
    ASSAY_TRY(copy(&rec->dimension, u->item ? u->item->dimension : def->name, err));
    ASSAY_TRY(copy(&rec->slice, u->item ? u->item->slice : u->language->name, err));
    ASSAY_TRY(copy(&rec->cluster, u->item ? u->item->cluster : NULL, err));
    ASSAY_TRY(copy(&rec->evaluator, def->name, err));
    ASSAY_TRY(copy(&rec->item_hash, u->item_hash, err));
    ASSAY_TRY(copy(&rec->prompt_hash, u->prompt_hash, err));
    return copy(&rec->ids_hash, u->ids_hash, err);
}

static assay_status deliver(run *r, size_t unit, const assay_record *rec, bool known, assay_err *err) {
    if (!known) ASSAY_TRY(r->calls->record(r->calls->ctx, (int64_t)unit, rec, err));
    r->n_done++;
    return assay_progress_report(r->calls->progress, r->calls->phase ? r->calls->phase : "scoring", (double)r->n_done,
                                 (double)r->e->n_units, "items", err);
}

static assay_status deliver_problem(run *r, size_t unit, assay_err *err) {
    const assay_unit *u = &r->e->units[unit];
    assay_record rec;
    assay_status s = start_record(&rec, r, u, err);
    if (s == ASSAY_OK) {
        rec.outcome = ASSAY_OUTCOME_ERROR;
        rec.n_prompt = 0;
        s = copy(&rec.detail, u->problem, err);
    }
    if (s == ASSAY_OK) s = deliver(r, unit, &rec, false, err);
    assay_record_deinit(&rec);
    return s;
}

/* --- generation --- */

typedef struct generation {
    run *r;
    const size_t *units;
    assay_generate_res *res;
} generation;

static assay_status put_ids(char **out, const int32_t *ids, size_t n, assay_err *err) {
    assay_str b = {0};
    assay_str_putc(&b, '[');
    for (size_t i = 0; i < n; i++) assay_str_printf(&b, "%s%d", i ? "," : "", (int)ids[i]);
    assay_str_putc(&b, ']');
    *out = assay_str_take(&b);
    return *out ? ASSAY_OK : assay_nomem(err);
}

static assay_status grade(assay_record *rec, const run *r, const assay_unit *u, const assay_generate_res *g, assay_err *err) {
    const assay_evaluator_use *use = use_of(r, u);
    const char *text = g->text ? g->text : "";
    rec->n_output = (int64_t)g->n_ids;
    rec->seconds = g->seconds_prompt + g->seconds_output;
    ASSAY_TRY(copy(&rec->stop, assay_stop_name(g->stop), err));
    ASSAY_TRY(copy(&rec->output, text, err));
    ASSAY_TRY(put_ids(&rec->output_ids, g->ids, g->n_ids, err));
    if (g->stop == ASSAY_STOP_ERROR) {
        rec->outcome = ASSAY_OUTCOME_ERROR;
        return copy(&rec->detail, "the runtime failed on this request", err);
    }
    ASSAY_TRY(use->def->grade(rec, use->state, u->item, text, err));
    bool cut = g->stop == ASSAY_STOP_LENGTH || g->stop == ASSAY_STOP_CONTEXT;
    if (cut) rec->outcome = ASSAY_OUTCOME_TRUNCATED; /* the cause of an answer that is missing, too */
    return ASSAY_OK;
}

static assay_status on_generated(void *ctx, size_t req, assay_err *err) {
    generation *g = ctx;
    size_t unit = g->units[req];
    assay_record rec;
    assay_status s = start_record(&rec, g->r, &g->r->e->units[unit], err);
    if (s == ASSAY_OK) s = grade(&rec, g->r, &g->r->e->units[unit], &g->res[req], err);
    if (s == ASSAY_OK) s = deliver(g->r, unit, &rec, false, err);
    assay_record_deinit(&rec);
    assay_generate_res_deinit(&g->res[req]);
    return s;
}

static assay_status generate_batch(run *r, const size_t *units, size_t n, assay_err *err) {
    const assay_suite *suite = r->e->suite;
    assay_generate_req *req = assay_calloc(n, sizeof *req);
    assay_generate_res *res = assay_calloc(n, sizeof *res);
    assay_status s = req && res ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < n; i++) {
        const assay_unit *u = &r->e->units[units[i]];
        req[i] = (assay_generate_req){.ids = u->requests[0].ids, .n_ids = u->requests[0].n_ids, .max_tokens = (int)u->max_tokens,
                                      .top_p = 1, .stop = suite->stop, .n_stop = (int)suite->n_stop};
    }
    generation g = {r, units, res};
    if (s == ASSAY_OK) s = assay_runtime_generate(r->e->rt, res, req, n, on_generated, &g, err);
    for (size_t i = 0; res && i < n; i++) assay_generate_res_deinit(&res[i]);
    assay_free(req);
    assay_free(res);
    return s;
}

/* --- scoring --- */

typedef struct scoring {
    run *r;
    const size_t *units;
    const bool *known;
    assay_score_res *res;    /* [requests] */
    void **seen;             /* [n] states of evaluators that see distributions */
    size_t *first, *left;    /* [n] a unit's first request, and those of them that are not finished */
    size_t *unit_of;         /* [requests] */
    double since;            /* when the last record was made */
} scoring;

static assay_status on_logits(void *ctx, size_t req, size_t position, const float *logits, size_t n_vocab, assay_err *err) {
    scoring *sc = ctx;
    size_t i = sc->unit_of[req];
    const assay_unit *u = &sc->r->e->units[sc->units[i]];
    const assay_evaluator *def = use_of(sc->r, u)->def;
    (void)position;
    if (!sc->seen[i]) ASSAY_TRY(def->see_begin(&sc->seen[i], u, &sc->r->e->env, err));
    return def->see(sc->seen[i], logits, n_vocab, err);
}

static assay_status judge_unit(run *r, size_t unit, const assay_score_res *res, void *seen, double seconds, bool known, assay_err *err) {
    const assay_unit *u = &r->e->units[unit];
    const assay_evaluator_use *use = use_of(r, u);
    assay_record rec;
    assay_status s = start_record(&rec, r, u, err);
    rec.seconds = seconds;
    if (s == ASSAY_OK) s = use->def->judge(&rec, use->state, u, res, seen, err);
    if (s == ASSAY_OK) s = deliver(r, unit, &rec, known, err);
    assay_record_deinit(&rec);
    return s;
}

static void drop_unit(scoring *sc, size_t i, const assay_unit *u) {
    const assay_evaluator *def = use_of(sc->r, u)->def;
    for (size_t k = 0; k < u->n_requests; k++) assay_score_res_deinit(&sc->res[sc->first[i] + k]);
    if (def->see_end) def->see_end(sc->seen[i]);
    sc->seen[i] = NULL;
}

static assay_status on_scored(void *ctx, size_t req, assay_err *err) {
    scoring *sc = ctx;
    size_t i = sc->unit_of[req];
    if (--sc->left[i]) return ASSAY_OK;
    double now = assay_now();
    ASSAY_TRY(judge_unit(sc->r, sc->units[i], sc->res + sc->first[i], sc->seen[i], now - sc->since, sc->known[i], err));
    sc->since = now;
    drop_unit(sc, i, &sc->r->e->units[sc->units[i]]);
    return ASSAY_OK;
}

/* Lays the units' requests one behind the other. */
static void lay_out(scoring *sc, assay_score_req *req, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const assay_unit *u = &sc->r->e->units[sc->units[i]];
        sc->first[i] = at;
        sc->left[i] = u->n_requests;
        for (size_t k = 0; k < u->n_requests; k++, at++) {
            req[at] = (assay_score_req){u->requests[k].ids, u->requests[k].n_ids, u->requests[k].from};
            sc->unit_of[at] = i;
        }
    }
}

/* n units of one evaluator, so that all of them want distributions or none does. */
static assay_status score_batch(run *r, const size_t *units, const bool *known, size_t n, assay_err *err) {
    const assay_evaluator *def = use_of(r, &r->e->units[units[0]])->def;
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += r->e->units[units[i]].n_requests;
    assay_score_req *req = assay_calloc(total, sizeof *req);
    scoring sc = {.r = r, .units = units, .known = known, .res = assay_calloc(total, sizeof *sc.res),
                  .seen = assay_calloc(n, sizeof *sc.seen), .first = assay_calloc(n, sizeof *sc.first),
                  .left = assay_calloc(n, sizeof *sc.left), .unit_of = assay_calloc(total, sizeof *sc.unit_of), .since = assay_now()};
    bool whole = req && sc.res && sc.seen && sc.first && sc.left && sc.unit_of;
    assay_status s = whole ? ASSAY_OK : assay_nomem(err);
    if (whole) {
        lay_out(&sc, req, n);
        s = assay_runtime_score(r->e->rt, sc.res, req, total, def->see ? on_logits : NULL, &sc, on_scored, &sc, err);
    }
    for (size_t i = 0; whole && i < n; i++) drop_unit(&sc, i, &r->e->units[units[i]]);
    assay_free(req);
    assay_free(sc.res);
    assay_free(sc.seen);
    assay_free(sc.first);
    assay_free(sc.left);
    assay_free(sc.unit_of);
    return s;
}

/* --- the whole --- */

/* Units to do; those that cannot be run are delivered as errors at once. */
static assay_status collect(run *r, assay_err *err) {
    assay_evaluation *e = r->e;
    r->todo = assay_mallocn(e->n_units + 1, sizeof *r->todo);
    r->known = assay_calloc(e->n_units + 1, sizeof *r->known);
    if (!r->todo || !r->known) return assay_nomem(err);
    for (size_t i = 0; i < e->n_units; i++) {
        const assay_unit *u = &e->units[i];
        const assay_evaluator *def = use_of(r, u)->def;
        bool done = r->calls->done && r->calls->done(r->calls->ctx, u->id);
        if (done && !(def->unfinished && def->unfinished(u, &e->env))) {
            r->n_done++;
        } else if (u->problem) {
            ASSAY_TRY(deliver_problem(r, i, err));
        } else {
            r->known[r->n_todo] = done;
            r->todo[r->n_todo++] = i;
        }
    }
    return ASSAY_OK;
}

/* Distributions of whole batches wait in the runtime for their order: smaller batches there. */
static size_t batch_size(const run *r, const assay_evaluator *def) {
    size_t n = (size_t)r->e->batch;
    return def->see ? ASSAY_MAX(n / 8, (size_t)1) : n;
}

assay_status assay_evaluation_run(assay_evaluation *e, const assay_evaluation_calls *c, assay_err *err) {
    run r = {.e = e, .calls = c};
    assay_status s = collect(&r, err);
    for (size_t i = 0, n; s == ASSAY_OK && i < r.n_todo; i += n) {
        size_t kind = e->units[r.todo[i]].evaluator;
        const assay_evaluator *def = e->suite->evaluators[kind].def;
        size_t most = batch_size(&r, def);
        for (n = 1; n < most && i + n < r.n_todo; n++) {
            const assay_unit *u = &e->units[r.todo[i + n]];
            bool together = def->grade ? use_of(&r, u)->def->grade != NULL : u->evaluator == kind;
            if (!together) break;
        }
        s = def->grade ? generate_batch(&r, r.todo + i, n, err) : score_batch(&r, r.todo + i, r.known + i, n, err);
    }
    assay_free(r.todo);
    assay_free(r.known);
    return s;
}
