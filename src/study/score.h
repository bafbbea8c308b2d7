/* study/score.h: one suite on one model into one scorecard: what a study does for each variant, and `assay eval` once. */
#ifndef ASSAY_STUDY_SCORE_H
#define ASSAY_STUDY_SCORE_H

#include "base/progress.h"
#include "eval/eval.h"
#include "runtime/native.h"
#include "store/store.h"

typedef struct study_score_job {
    assay_store *store;
    const assay_suite *suite;
    const char *dir;                  /* the checkpoint */
    assay_native_opts runtime;
    assay_scorecard_desc desc;        /* key, study, variant, role, model_hash; the rest is filled in */
    const char *kl_dir;               /* NULL: the suite has no kl */
    const char *kl_name;              /* noted in the manifest, for later variants; NULL: none */
    const json_t *recipe;             /* for the manifest; NULL: none */
    const assay_progress *progress;   /* in items of this scorecard */
    const char *phase;
} study_score_job;

/* Goes on with the scorecard where it was; a complete one costs opening the model. *id: the scorecard; *n_new: records made now. After a
 * failure everything finished is in the store. */
assay_status study_score_run(int64_t *id, int64_t *n_new, const study_score_job *job, assay_err *err);
/* Whether the suite compares distributions. */
bool study_suite_has_kl(const assay_suite *s);

#endif
