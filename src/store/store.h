/* store/store.h: what was measured and decided, in one SQLite file. The only room that knows SQLite.
 *
 *   scorecards   one variant on one suite: identity, manifest, state; found by `key`, a hash of what makes it
 *   records      one row per item of a scorecard (store/record.h), written in batches
 *   studies      which scorecards a study uses, under which variant name and in which role
 *   steps        the study's cache: what ran, its result, its cost
 *   losses       what each quantized matrix lost
 *   documents    verdicts and decisions as JSON; append-only, the latest counts
 *
 * Durability. Records are committed in batches: at flush_records, or with the first record that arrives
 * flush_seconds after the last commit. A kill loses only those that wait; everything else commits at once.
 * The journal is a WAL where the file system supports it, with synchronous=FULL. A full disk is ASSAY_ENOSPC;
 * what was committed before stays readable.
 *
 * A store is used by one thread at a time; several processes may have the same file open (writers wait for
 * each other). `const char *` in parameters is borrowed for the call. Structures that are filled own their
 * strings: call their deinit. */
#ifndef ASSAY_STORE_STORE_H
#define ASSAY_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/record.h"

typedef struct assay_store assay_store;

/* All-zero is the default. */
typedef struct assay_store_opts {
    bool read_only;         /* ENOTFOUND when there is no file; nothing is migrated or written */
    int busy_ms;            /* how long to wait for another writer; 0 = 30,000 */
    int flush_records;      /* records per transaction; 0 = 64 */
    double flush_seconds;   /* a record later than this after the last commit commits; 0 = 0.5 */
    int64_t max_pages;      /* largest file in 4 KiB pages; 0 = none (tests force a full disk with it) */
} assay_store_opts;

/* Opens or creates (with its folder). A file of a newer schema is EUNSUPPORTED, one that is no store EINPUT. */
assay_status assay_store_open(assay_store **out, const char *path, const assay_store_opts *o, assay_err *err);
/* Commits waiting records: call it before close and look at the status; close alone commits too but cannot
 * report. */
assay_status assay_store_flush(assay_store *s, assay_err *err);
void assay_store_close(assay_store *s); /* NULL is fine */
/* SQLite's integrity_check, the foreign keys and the scorecards' own counts; EIO says what is broken. */
assay_status assay_store_check(assay_store *s, assay_err *err);

/* --- scorecards --- */

/* rerun: the baseline again (A/A) */
typedef enum assay_role { ASSAY_ROLE_BASELINE, ASSAY_ROLE_VARIANT, ASSAY_ROLE_RERUN } assay_role;
const char *assay_role_name(assay_role r); /* "baseline" "variant" "rerun" */

typedef struct assay_scorecard_desc {
    /* hash of variant, model, suite, evaluators, runtime mode, template: two equal keys are one scorecard */
    const char *key;
    const char *study;          /* NULL outside a study (`assay eval`) */
    const char *variant;
    assay_role role;
    const char *model_path;
    const char *model_hash;
    const char *suite;
    const char *suite_hash;
    const char *template_hash;  /* of the chat template used; NULL = none */
    int64_t n_items;            /* items of the suite: what finish expects to find */
    const char *manifest;       /* JSON text; NULL = {} (assay_scorecard_set_manifest completes it) */
} assay_scorecard_desc;

typedef struct assay_scorecard {
    int64_t id;
    assay_scorecard_desc d;     /* strings owned by arena */
    bool complete;
    int64_t n_records;
    const char *created;        /* ISO 8601 */
    const char *finished;       /* NULL while running */
    assay_arena arena;
} assay_scorecard;
void assay_scorecard_deinit(assay_scorecard *c);

/* A sorted set of item ids. */
typedef struct assay_id_set {
    char **ids;
    size_t n;
    assay_arena arena;
} assay_id_set;
bool assay_id_set_has(const assay_id_set *s, const char *id);
void assay_id_set_deinit(assay_id_set *s);

/* Opens the scorecard with d->key, making it when there is none, and links it to d->study. *id is its number;
 * *done (may be NULL) gets the ids of the items already recorded: those are not to be scored again. A
 * complete scorecard is a hit: *complete is set. */
assay_status assay_scorecard_begin(int64_t *id, bool *complete, assay_id_set *done, assay_store *s,
                                   const assay_scorecard_desc *d, assay_err *err);
/* Queues one record; position is the item's place in the suite. The record is copied. EINPUT when the item
 * has one already. */
assay_status assay_scorecard_put(assay_store *s, int64_t id, int64_t position, const assay_record *r,
                                 assay_err *err);
assay_status assay_scorecard_set_manifest(assay_store *s, int64_t id, const char *manifest_json,
                                          assay_err *err);
/* Commits and marks complete. EINTERNAL when not exactly n_items records are there. */
assay_status assay_scorecard_finish(assay_store *s, int64_t id, assay_err *err);
/* Removes the records whose outcome is `error`, so that a resumed run tries those items again; *n (may be
 * NULL) says how many. */
assay_status assay_scorecard_forget_errors(int64_t *n, assay_store *s, int64_t id, assay_err *err);

/* ENOTFOUND */
assay_status assay_scorecard_get(assay_scorecard *out, assay_store *s, int64_t id, assay_err *err);
/* ENOTFOUND */
assay_status assay_scorecard_by_key(assay_scorecard *out, assay_store *s, const char *key, assay_err *err);
/* The study's newest scorecard for that variant, complete or not. ENOTFOUND names what there is. */
assay_status assay_scorecard_latest(assay_scorecard *out, assay_store *s, const char *study,
                                    const char *variant, assay_err *err);
/* The newest scorecard that any study or evaluation calls so, reruns left out. */
assay_status assay_scorecard_named(assay_scorecard *out, assay_store *s, const char *variant, assay_err *err);
/* The study's newest scorecard in that role. */
assay_status assay_scorecard_in_role(assay_scorecard *out, assay_store *s, const char *study,
                                     assay_role role, assay_err *err);
/* Every scorecard of a study (or all, study NULL), oldest first; c is borrowed for the call. */
typedef assay_status (*assay_scorecard_fn)(void *ctx, const assay_scorecard *c, assay_err *err);
assay_status assay_scorecard_each(assay_store *s, const char *study, assay_scorecard_fn fn, void *ctx,
                                  assay_err *err);

/* Records in the order of their positions. The record is borrowed for the call. fn must not write to the
 * store. */
typedef assay_status (*assay_record_fn)(void *ctx, int64_t position, const assay_record *r, assay_err *err);
assay_status assay_record_each(assay_store *s, int64_t id, assay_record_fn fn, void *ctx, assay_err *err);
/* All of them at once, in order; the caller frees with assay_records_free. */
assay_status assay_record_load(assay_record **out, size_t *n, assay_store *s, int64_t id, assay_err *err);
void assay_records_free(assay_record *r, size_t n);

/* One record as a JSON object with every field of record.h under its name (NaN is null); new reference, NULL
 * when out of memory. */
json_t *assay_record_to_json(const assay_record *r);
/* The way back. EINPUT names `where` and the key. */
assay_status assay_record_from_json(assay_record *out, const json_t *j, const char *where, assay_err *err);
/* One JSON line per record, beside and renamed (`assay report --records FILE`). */
assay_status assay_record_export(assay_store *s, int64_t id, const char *path, assay_err *err);

/* --- studies --- */

typedef struct assay_study_row {
    const char *name;           /* borrowed for the call */
    const char *last;           /* newest date of anything in it */
    int64_t n_scorecards, n_steps;
} assay_study_row;
typedef assay_status (*assay_study_fn)(void *ctx, const assay_study_row *r, assay_err *err);
/* newest first */
assay_status assay_study_each(assay_store *s, assay_study_fn fn, void *ctx, assay_err *err);

/* --- steps --- */

typedef enum assay_step_state { ASSAY_STEP_RUNNING, ASSAY_STEP_DONE, ASSAY_STEP_FAILED } assay_step_state;

typedef struct assay_step {
    const char *key;            /* hash of everything that goes into the step */
    const char *study;
    const char *kind;           /* "quantize" "eval" "gate" ... the study's words */
    const char *name;           /* "nf4" */
    assay_step_state state;
    json_t *result;             /* owned; NULL until done */
    const char *message;        /* why it failed, else NULL */
    double seconds;             /* of work, summed over resumed runs */
    const char *created, *finished;
    assay_arena arena;
} assay_step;
void assay_step_deinit(assay_step *st);

/* *found is false and *out empty when no such step was begun. */
assay_status assay_step_find(assay_step *out, bool *found, assay_store *s, const char *key, assay_err *err);
/* Makes it or sets it back to running. */
assay_status assay_step_begin(assay_store *s, const char *key, const char *study, const char *kind,
                              const char *name, assay_err *err);
/* result is borrowed and may be NULL. seconds are added to those of earlier attempts. */
assay_status assay_step_finish(assay_store *s, const char *key, const json_t *result, double seconds,
                               assay_err *err);
assay_status assay_step_fail(assay_store *s, const char *key, const char *message, double seconds,
                             assay_err *err);
typedef assay_status (*assay_step_fn)(void *ctx, const assay_step *st, assay_err *err);
/* The study's steps in the order they were begun; study and kind may be NULL (any). */
assay_status assay_step_each(assay_store *s, const char *study, const char *kind, assay_step_fn fn,
                             void *ctx, assay_err *err);

/* --- what each matrix lost --- */

typedef struct assay_layer_loss {
    const char *tensor;         /* "model.layers.3.self_attn.q_proj.weight" */
    int layer;                  /* -1 outside the decoder layers */
    const char *role;           /* "q_proj" */
    const char *precision;      /* "int4" */
    double bits;                /* effective bits per weight */
    const char *method;         /* "rtn" */
    double weight_error;        /* relative: ||W - W'|| / ||W|| */
    double output_error;        /* relative, on calibration inputs; NaN without */
    const char *params;         /* JSON text; NULL = {} */
    double seconds;
} assay_layer_loss;
/* Replaces the losses of that step (a resumed step may give them all again), in one transaction. */
assay_status assay_loss_put(assay_store *s, const char *step_key, const assay_layer_loss *l, size_t n,
                            assay_err *err);
typedef assay_status (*assay_loss_fn)(void *ctx, const assay_layer_loss *l, assay_err *err);
/* as put */
assay_status assay_loss_each(assay_store *s, const char *step_key, assay_loss_fn fn, void *ctx,
                             assay_err *err);

/* --- verdicts and decisions --- */

typedef struct assay_document {
    int64_t id;
    const char *kind;           /* "verdict" "decision" "plan" "policy" */
    const char *study;          /* NULL outside a study */
    const char *name;           /* variant for a verdict, NULL for a decision */
    int64_t baseline, variant;  /* scorecards compared; 0 = none */
    const char *created;        /* set by put */
    json_t *body;               /* owned by a filled document, borrowed by put */
    assay_arena arena;
} assay_document;
void assay_document_deinit(assay_document *d);
/* Appends; *id may be NULL. Documents are never changed or removed. */
assay_status assay_document_put(int64_t *id, assay_store *s, const assay_document *d, assay_err *err);
/* The newest of that kind, study and name (name NULL: without one). *found is false when there is none. */
assay_status assay_document_latest(assay_document *out, bool *found, assay_store *s, const char *kind,
                                   const char *study,
                                   const char *name, assay_err *err);

#endif
