/* result.c: a study's result as an object: its end, its accessors. */
#include <string.h>
#include "study/study_impl.h"

assay_status study_result_new(assay_study_result **out, const char *name, const char *out_dir, assay_err *err) {
    assay_study_result *r = assay_calloc(1, sizeof *r);
    *out = r;
    if (!r) return assay_nomem(err);
    assay_policy_init(&r->policy);
    r->name = assay_strdup(name);
    r->out_dir = assay_strdup(out_dir);
    if (r->name && r->out_dir) return ASSAY_OK;
    assay_study_result_free(r);
    *out = NULL;
    return assay_nomem(err);
}

const char *study_keep(assay_study_result *r, const char *text) {
    return text ? assay_arena_strndup(&r->arena, text, strlen(text)) : NULL;
}

assay_status study_note_step(assay_study_result *r, const char *kind, const char *name, const char *key, bool was_done, double seconds,
                             int64_t items, assay_err *err) {
    ASSAY_TRY(assay_grow(&r->steps, &r->cap_steps, r->n_steps + 1, sizeof *r->steps, err));
    assay_study_step *st = &r->steps[r->n_steps];
    *st = (assay_study_step){.kind = kind, .name = study_keep(r, name), .was_done = was_done, .seconds = seconds, .items = items};
    if (!st->name) return assay_nomem(err);
    if (key) memcpy(st->key, key, sizeof st->key);
    r->n_steps++;
    return ASSAY_OK;
}

void assay_study_result_free(assay_study_result *r) {
    if (!r) return;
    for (size_t i = 0; i < r->n; i++) {
        if (r->gates) assay_gate_free(r->gates[i]);
        if (r->plans) assay_plan_deinit(&r->plans[i]);
        if (r->losses) assay_free(r->losses[i]);
        if (r->manifests) json_decref(r->manifests[i]);
    }
    assay_policy_deinit(&r->policy);
    assay_config_deinit(&r->config);
    assay_prices_free(r->prices);
    json_decref(r->body);
    json_decref(r->decision);
    assay_arena_free(&r->arena);
    assay_free(r->steps);
    assay_free(r->name);
    assay_free(r->out_dir);
    assay_free(r->html);
    assay_free(r);
}

const assay_report *assay_study_report(const assay_study_result *r) {
    return r->has_report ? &r->report : NULL;
}

const assay_study_step *assay_study_steps(const assay_study_result *r, size_t *n) {
    *n = r->n_steps;
    return r->steps;
}

const char *assay_study_out_dir(const assay_study_result *r) {
    return r->out_dir;
}

const char *assay_study_name(const assay_study_result *r) {
    return r->name;
}

const char *assay_study_html_path(const assay_study_result *r) {
    return r->html;
}

int assay_study_exit_code(const assay_study_result *r) {
    if (!r->has_report || r->report.decision.chosen) return 0;
    return r->report.decision.verdict == ASSAY_VERDICT_INCONCLUSIVE ? 6 : 1;
}
