/* eval/eval.h: a suite on a runtime, item by item, into records. Prints nothing, stores nothing: whoever calls gets each record as
 * it is made and says which are there already, so a run can be killed and gone on with at any item.
 *
 * A record depends on the suite, the model and the runtime's arithmetic alone: not on the order, the batch or what was done before.
 * Records come in the order in which items finish; `position` is the item's place in the suite. */
#ifndef ASSAY_EVAL_H
#define ASSAY_EVAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/progress.h"
#include "base/status.h"
#include "eval/suite.h"
#include "runtime/runtime.h"
#include "store/record.h"

typedef struct assay_evaluation assay_evaluation;

/* All-zero is the default. Strings are borrowed until close. */
typedef struct assay_evaluation_opts {
    const char *kl_dir;        /* the baseline's distributions (kl.c); NULL: a suite with kl is EUSAGE */
    bool kl_write;             /* the runtime is the baseline: write them */
    int batch;                 /* requests handed to the runtime at once; 0 = 128 */
} assay_evaluation_opts;

/* Renders and tokenizes everything. The suite and the runtime are borrowed until close. EUNSUPPORTED: an evaluator needs what the
 * runtime cannot do (it is named), or the model has no chat template. An item that does not fit the model becomes a record with
 * outcome error. */
assay_status assay_evaluation_new(assay_evaluation **out, const assay_suite *suite, assay_runtime *rt, const assay_evaluation_opts *o, assay_err *err);
void assay_evaluation_free(assay_evaluation *e); /* NULL is fine */

int64_t assay_evaluation_n_items(const assay_evaluation *e);         /* records of a full run */
const char *assay_evaluation_template_hash(const assay_evaluation *e); /* NULL when no chat template is used */

typedef struct assay_evaluation_calls {
    bool (*done)(void *ctx, const char *item_id);          /* has a record already; NULL: none has */
    /* The record is borrowed for the call. */
    assay_status (*record)(void *ctx, int64_t position, const assay_record *r, assay_err *err);
    void *ctx;
    const assay_progress *progress;
    const char *phase;                                     /* for the progress: "scoring nf4"; NULL: "scoring" */
} assay_evaluation_calls;

/* Runs what is not done. EINTR when the progress said stop: every finished record was handed over. */
assay_status assay_evaluation_run(assay_evaluation *e, const assay_evaluation_calls *c, assay_err *err);
/* Whether something besides records is to be made although all records are there (the baseline's distributions were removed, say). */
bool assay_evaluation_unfinished(const assay_evaluation *e);

#endif
