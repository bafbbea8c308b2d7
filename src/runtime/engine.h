/* runtime/engine.h: runs many token sequences through one model together. Private to the room.
 *
 * A job is a sequence of known tokens, some of whose logits its client wants, and which may then be continued
 * token by token. The engine decides what is computed together (continuous batching, chunked prompts, shared
 * prefixes); the client sees rows of logits and says what follows. What a row holds never depends on those
 * decisions. */
#ifndef ASSAY_RUNTIME_ENGINE_H
#define ASSAY_RUNTIME_ENGINE_H

#include <stdbool.h>
#include "model/model.h"
#include "runtime/prefix.h"

typedef struct assay_job {
    const int32_t *ids; /* [n_ids] borrowed for the run */
    size_t n_ids;       /* >= 1 */
    size_t first_row;   /* logits are wanted of positions [first_row, n_ids) and of every token fed later */
    size_t max_len;     /* most positions it may come to occupy, >= n_ids, <= the cache's */
    size_t tag;         /* the client's own number for it */
} assay_job;

typedef struct assay_row {
    size_t tag;          /* of the job */
    size_t position;
    const float *logits; /* after this position; borrowed for the call */
    int32_t next;        /* set by the client at the last known position: what to feed next, -1 = job done */
} assay_row;

typedef struct assay_engine_client {
    void *ctx;
    bool in_order; /* rows come in order of job, then position (else only of position within a job) */
    assay_status (*rows)(void *ctx, assay_row *rows, size_t n, assay_err *err);
    /* Seconds are of the steps that the job took part in, shared by its tokens in them. */
    assay_status (*done)(void *ctx, size_t tag, double seconds_prompt, double seconds_output, assay_err *err);
} assay_engine_client;

typedef struct assay_engine assay_engine;

/* model and kv are borrowed. The model's max_rows is at least max_batch + chunk. */
assay_status assay_engine_open(assay_engine **out, assay_model *model, assay_kv *kv, size_t max_batch,
                               size_t chunk, bool prefix_cache, assay_err *err);
void assay_engine_close(assay_engine *e); /* NULL is fine */
/* Runs all jobs. On failure (the client's or its own) everything in work is dropped. */
assay_status assay_engine_run(assay_engine *e, const assay_job *jobs, size_t n,
                              const assay_engine_client *client, assay_err *err);

/* Totals since opening: tokens computed, and tokens taken from shared prefixes instead. */
void assay_engine_counts(const assay_engine *e, size_t *computed, size_t *shared);

#endif
