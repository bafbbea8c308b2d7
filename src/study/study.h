/* study/study.h: model x recipes x suite x policy x devices in one file, run to a decision and a report.
 *
 * The result of each step is kept under a key, the hash of everything that goes into it (keys.h); a step whose key is in the store is
 * not run again, and one that was killed goes on at the item or matrix it was in. docs/studies.md describes the file and
 *
 *   OUT/assay.db              every record, scorecard, loss, verdict and decision (store/store.h)
 *   OUT/variants/NAME/        the checkpoints made (method/method.h)
 *   OUT/cache/kl-HASH/        the baseline's distributions
 *   OUT/report.html .md .json what was found
 *   OUT/.lock                 held while a run works here */
#ifndef ASSAY_STUDY_H
#define ASSAY_STUDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/status.h"
#include "report/report.h"
#include "runtime/native.h"
#include "store/store.h"
#include "study/spec.h"

/* --- a whole study --- */

typedef struct assay_study_exec {      /* all-zero is the default; strings are borrowed */
    const char *out_dir;               /* NULL: out/NAME */
    int64_t limit;                     /* items per slice instead of the suite's; 0 = the suite's */
    assay_native_opts runtime;         /* threads, isa, batch; activations other than AUTO replace those of every variant */
    bool dry_run;                      /* list the steps and whether they are done; nothing is made, not even OUT */
    const char *command;               /* as typed, for the report; NULL = none */
    const char *who;                   /* who decides; NULL = the login name */
    const assay_progress *progress;
} assay_study_exec;

typedef struct assay_study_step {
    const char *kind;                  /* "quantize" "score" "gate" "decide" */
    const char *name;                  /* "nf4" */
    char key[ASSAY_HASH_HEX];          /* "" when it cannot be known yet (a dry run whose variant is not made) */
    bool was_done;                     /* found in the store */
    double seconds;                    /* of work in this run */
    int64_t items;                     /* score: records made in this run */
} assay_study_step;

typedef struct assay_study_result assay_study_result;

/* Runs FILE. A study that ends with "none passes" is ASSAY_OK: the report's decision says so. After EINTR, ENOSPC or a kill the same
 * call goes on. EUSAGE: another run works on OUT. */
assay_status assay_study_run(assay_study_result **out, const char *file, const assay_study_exec *o, assay_err *err);
/* The report of a study that a store holds (finished or not), without running anything; study NULL: the newest. Plans need nothing but
 * the store. ENOTFOUND when there is none. */
assay_status assay_study_recall(assay_study_result **out, const char *store_path, const char *study, assay_err *err);
void assay_study_result_free(assay_study_result *r);

const assay_report *assay_study_report(const assay_study_result *r);               /* borrowed; NULL after a dry run */
const assay_study_step *assay_study_steps(const assay_study_result *r, size_t *n); /* in the order they were taken */
const char *assay_study_out_dir(const assay_study_result *r);
const char *assay_study_name(const assay_study_result *r);
/* 0 a variant was chosen, 1 none passes, 6 inconclusive. */
int assay_study_exit_code(const assay_study_result *r);
/* Paths of the report files, NULL when they were not written (recall, dry run). */
const char *assay_study_html_path(const assay_study_result *r);

/* --- single steps --- */

typedef struct assay_score_opts {
    const char *suite;                 /* file */
    const char *store;                 /* SQLite file; the distributions of a baseline lie beside it: STORE.kl-HASH/ */
    const char *name;                  /* of the variant in the store; NULL = the folder's name, with "+ADAPTER" and "-kv-int4" behind it when they are set */
    const char *baseline;              /* name in the store of the baseline for kl; NULL: this is the baseline */
    const char *study;                 /* to link it with; NULL = none */
    int64_t limit;
    assay_native_opts runtime;
    const assay_progress *progress;
} assay_score_opts;

/* A suite on a model, into a scorecard of the store (id). Goes on with one that was begun; a complete one is only looked up. */
assay_status assay_study_score(int64_t *id, const char *model, const assay_score_opts *o, assay_err *err);

/* The totals of a scorecard: {"schema": "assay.scorecard/1", variant, suite, manifest, dimensions: [{dimension, evaluator, n, score,
 * aux, perplexity..., outcomes, slices: [...]}]}. New reference. */
assay_status assay_study_scorecard_json(json_t **out, assay_store *s, int64_t id, assay_err *err);
/* The same as a table. */
assay_status assay_study_scorecard_text(assay_str *out, assay_store *s, int64_t id, const assay_term *term, assay_err *err);

#endif
