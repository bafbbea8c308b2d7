/* study/study_impl.h: a study's result while it is put together (run.c, collect.c, decide.c), and the document that a store keeps of it.
 *
 * The document "study" holds what cannot be read off scorecards, so that a report can be made from the store alone:
 *   {"schema": "assay.study/1", "file", "model", "suite", "source": the YAML as JSON, "config": config.json, "policy", "baseline": NAME,
 *    "prefer", "command", "manifest": {...}, "rerun_key": KEY or null,
 *    "variants": [{"name", "recipe": canonical JSON or null, "describe", "size_bytes", "effective_bpw", "quantize_key", "score_key",
 *                  "problem", "own": the model itself, "kv": word or null}, ...]}            the baseline first */
#ifndef ASSAY_STUDY_IMPL_H
#define ASSAY_STUDY_IMPL_H

#include "base/mem.h"
#include "model/config.h"
#include "study/keys.h"
#include "study/study.h"

#define STUDY_SCHEMA "assay.study/1"

struct assay_study_result {
    char *name, *out_dir, *html;
    assay_study_step *steps;
    size_t n_steps, cap_steps;
    /* the report and what it borrows */
    bool has_report;
    assay_report report;
    assay_report_variant *variants;   /* [n] */
    assay_gate **gates;               /* [n], NULL for the baseline and where there is none */
    assay_plan *plans;                /* [n] */
    assay_layer_loss **losses;        /* [n] */
    json_t **manifests;               /* [n] */
    int64_t *cards;                   /* [n] scorecards, 0 where there is none */
    size_t n;
    int64_t rerun;                    /* scorecard of the rerun; 0: none */
    assay_policy policy;
    assay_config config;
    assay_prices *prices;
    const assay_device **devices;
    json_t *body;                     /* the document */
    json_t *decision;                 /* the document "decision" */
    assay_arena arena;
};

assay_status study_result_new(assay_study_result **out, const char *name, const char *out_dir, assay_err *err);
assay_status study_note_step(assay_study_result *r, const char *kind, const char *name, const char *key, bool was_done, double seconds,
                             int64_t items, assay_err *err);
/* Arena copy, NULL for NULL; *failed is set when out of memory. */
const char *study_keep(assay_study_result *r, const char *text);

/* Fills report, gates and plans from body (stolen) and the store: everything but the decision. A scorecard that is missing or
 * not complete makes that variant's `problem`. */
assay_status study_collect(assay_study_result *r, assay_store *s, json_t *body, assay_err *err);
/* Chooses, from what was collected: fills r->decision and the report's. */
assay_status study_decide(assay_study_result *r, const char *who, assay_err *err);
/* The report's decision from r->decision as stored. */
assay_status study_use_decision(assay_study_result *r, assay_err *err);

#endif
