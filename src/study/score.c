/* score.c: runtime + suite -> scorecard. The store commits records in small batches, so a kill loses at most the last half second. */
#include "study/score.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

typedef struct sink {
    assay_store *store;
    int64_t card, n_new;
    assay_id_set done;
} sink;

static bool is_done(void *ctx, const char *item_id) {
    const sink *k = ctx;
    return assay_id_set_has(&k->done, item_id);
}

static assay_status put_record(void *ctx, int64_t position, const assay_record *r, assay_err *err) {
    sink *k = ctx;
    k->n_new++;
    return assay_scorecard_put(k->store, k->card, position, r, err);
}

bool study_suite_has_kl(const assay_suite *s) {
    for (size_t i = 0; i < s->n_languages; i++)
        for (size_t k = 0; k < s->languages[i].n_evaluators; k++)
            if (!strcmp(s->evaluators[s->languages[i].evaluators[k]].def->name, "kl")) return true;
    return false;
}

/* A number without its manifest is not stored: this says how every record came about. New reference. */
static json_t *make_manifest(const study_score_job *job, const assay_runtime *rt) {
    char date[32];
    json_t *runtime = assay_runtime_manifest(rt), *suite = assay_suite_manifest(job->suite);
    json_t *j = runtime && suite ? json_pack("{s:s, s:s, s:s, s:O, s:O, s:O?, s:s?}", "program", "assay " ASSAY_VERSION, "build", ASSAY_BUILD_FLAGS, "date",
                                             assay_date_iso(date, sizeof date), "runtime", runtime, "suite", suite, "recipe",
                                             (json_t *)(uintptr_t)job->recipe, "kl", job->kl_name)
                                 : NULL;
    json_decref(runtime);
    json_decref(suite);
    return j;
}

static assay_status set_manifest(const study_score_job *job, int64_t card, const assay_runtime *rt, assay_err *err) {
    assay_str text = {0};
    json_t *m = make_manifest(job, rt);
    assay_status s = m ? assay_json_dump(&text, m, 0, false, err) : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_scorecard_set_manifest(job->store, card, assay_str_c(&text), err);
    json_decref(m);
    assay_str_free(&text);
    return s;
}

static assay_status evaluate(sink *k, const study_score_job *job, assay_evaluation *e, assay_err *err) {
    assay_evaluation_calls calls = {.done = is_done, .record = put_record, .ctx = k, .progress = job->progress, .phase = job->phase};
    assay_err second = {0};
    assay_status s = assay_evaluation_run(e, &calls, err);
    assay_status flushed = assay_store_flush(k->store, s == ASSAY_OK ? err : &second);
    return s == ASSAY_OK ? flushed : s;
}

assay_status study_score_run(int64_t *id, int64_t *n_new, const study_score_job *job, assay_err *err) {
    sink k = {.store = job->store};
    assay_runtime *rt = NULL;
    assay_evaluation *e = NULL;
    assay_scorecard_desc d = job->desc;
    bool complete = false;
    assay_status s;
    bool writes = d.role == ASSAY_ROLE_BASELINE;
    assay_evaluation_opts o = {.kl_dir = job->kl_dir, .kl_write = writes};
    *n_new = 0;
    ASSAY_GO(assay_native_open(&rt, job->dir, &job->runtime, err));
    ASSAY_GO(assay_evaluation_new(&e, job->suite, rt, &o, err));
    d.model_path = job->dir;
    d.suite = job->suite->name;
    d.suite_hash = job->suite->hash;
    d.template_hash = assay_evaluation_template_hash(e);
    d.n_items = assay_evaluation_n_items(e);
    ASSAY_GO(assay_scorecard_begin(&k.card, &complete, &k.done, job->store, &d, err));
    *id = k.card;
    if (!complete) ASSAY_GO(set_manifest(job, k.card, rt, err));
    if (!complete || assay_evaluation_unfinished(e)) s = evaluate(&k, job, e, err);
    if (s == ASSAY_OK && !complete) s = assay_scorecard_finish(job->store, k.card, err);
    *n_new = k.n_new;
out:
    assay_id_set_deinit(&k.done);
    assay_evaluation_free(e);
    assay_runtime_close(rt);
    return s;
}
