/* store/record.h: the record of one item: plain data, no SQLite. eval fills it, store keeps it, gate compares it.
 * Strings are owned by the record (assay_record_deinit); NULL stands for "none". */
#ifndef ASSAY_STORE_RECORD_H
#define ASSAY_STORE_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

typedef enum assay_outcome {   /* what happened to the item, apart from its score */
    ASSAY_OUTCOME_OK,          /* answered and scored */
    ASSAY_OUTCOME_TRUNCATED,   /* the answer hit max_tokens or the context; scored as it stands */
    ASSAY_OUTCOME_INVALID,     /* answered, but nothing could be extracted or parsed; score 0 */
    ASSAY_OUTCOME_REFUSED,     /* the model declined (evaluators that can tell) */
    ASSAY_OUTCOME_ERROR        /* the runtime failed; no score */
} assay_outcome;

typedef struct assay_record {
    char *item_id;
    char *dimension;
    char *slice;
    char *cluster;             /* items of one cluster are not independent; NULL = the item is its own cluster */
    char *evaluator;           /* "exact" */
    int evaluator_version;
    char *item_hash;           /* SHA-256 hex of the item's canonical JSON */
    char *prompt_hash;         /* of the rendered prompt's bytes */
    char *ids_hash;            /* of the token ids scored or prompted */
    char *output;              /* text generated, or JSON of log-likelihoods for choices */
    char *output_ids;          /* JSON array of generated ids, or NULL */
    char *answer;              /* what was extracted and compared */
    char *detail;              /* evaluator's remark: "value_error: arguments.amount" */
    bool binary;               /* score is 0 or 1: right or wrong */
    double score;              /* the evaluator's score; means are over this */
    double aux;                /* second score where the evaluator has one (acc_norm beside acc), else NaN */
    double weight;             /* tokens for perplexity-like means, else 1 */
    assay_outcome outcome;
    char *stop;                /* assay_stop_name */
    int64_t n_prompt, n_output;/* tokens */
    double seconds;
} assay_record;

void assay_record_deinit(assay_record *r);
const char *assay_outcome_name(assay_outcome o);

#endif
