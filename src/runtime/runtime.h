/* runtime/runtime.h: the one interface that evaluation sees. native.c runs a checkpoint with this project's engine;
 * endpoint.c (a later issue) talks to a server. A runtime says what it can do; asking for more is EUNSUPPORTED, never a silent default. */
#ifndef ASSAY_RUNTIME_H
#define ASSAY_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "base/progress.h"
#include "text/text.h"

typedef struct assay_runtime assay_runtime;

enum { /* capabilities */
    ASSAY_CAN_GENERATE = 1,
    ASSAY_CAN_SCORE = 2,       /* log-probabilities of given ids */
    ASSAY_CAN_LOGITS = 4       /* the whole distribution */
};

typedef enum assay_stop {
    ASSAY_STOP_EOS,            /* an end-of-sequence id */
    ASSAY_STOP_STRING,         /* one of the stop strings */
    ASSAY_STOP_LENGTH,         /* max_tokens reached: a truncation */
    ASSAY_STOP_CONTEXT,        /* the model's context is full: a truncation */
    ASSAY_STOP_ERROR
} assay_stop;
const char *assay_stop_name(assay_stop s); /* "eos" "stop" "length" "context" "error" */

/* Score ids[from..n_ids): log p(ids[i] | ids[0..i)). from >= 1. Requests that share a prefix should stand next to each other. */
typedef struct assay_score_req {
    const int32_t *ids;
    size_t n_ids;
    size_t from;
} assay_score_req;
typedef struct assay_score_res {
    double sum;                /* of the log-probabilities, natural log, accumulated in double */
    double *logprobs;          /* [n_ids - from], owned: assay_score_res_deinit */
    bool is_greedy;            /* every scored id is the arg max of its distribution (lowest id on ties) */
} assay_score_res;
void assay_score_res_deinit(assay_score_res *r);

/* Called once for each scored position in order of request, then position (the index in ids of the id that is scored); logits are the
 * distribution that predicts it, raw, before softmax, borrowed for the call. */
typedef assay_status (*assay_logits_fn)(void *ctx, size_t req, size_t position, const float *logits, size_t n_vocab, assay_err *err);

typedef struct assay_generate_req {
    const int32_t *ids;        /* prompt */
    size_t n_ids;
    int max_tokens;
    double temperature;        /* 0 = greedy */
    double top_p;              /* 1 = off */
    int top_k;                 /* 0 = off */
    uint64_t seed;             /* sampling only */
    const char *const *stop;   /* stop strings, n_stop of them; not part of the returned text */
    int n_stop;
    bool ignore_eos;           /* benches */
    /* Called with each new piece of text (whole UTF-8 characters); may be NULL. Non-zero return stops this request. */
    int (*on_text)(void *ctx, const char *text, size_t n);
    void *on_text_ctx;
} assay_generate_req;
typedef struct assay_generate_res {
    int32_t *ids;              /* generated ids, without the final end-of-sequence id; owned */
    size_t n_ids;
    char *text;                /* decoded, special tokens left out; owned */
    assay_stop stop;
    double seconds_prompt, seconds_output; /* of the batch it ran in, shared evenly over its tokens */
} assay_generate_res;
void assay_generate_res_deinit(assay_generate_res *r);

/* n requests at once; results in the order of requests whatever the scheduling. on_done (may be NULL) is called as each
 * finishes, so that a caller can record it; a non-OK return stops the batch and is forwarded. res[i] stays the caller's. */
typedef assay_status (*assay_done_fn)(void *ctx, size_t req, assay_err *err);
assay_status assay_runtime_score(assay_runtime *r, assay_score_res *res, const assay_score_req *req, size_t n, assay_logits_fn fn,
                                 void *fn_ctx, assay_done_fn on_done, void *done_ctx, assay_err *err);
assay_status assay_runtime_generate(assay_runtime *r, assay_generate_res *res, const assay_generate_req *req, size_t n,
                                    assay_done_fn on_done, void *done_ctx, assay_err *err);

unsigned assay_runtime_caps(const assay_runtime *r);
size_t assay_runtime_context(const assay_runtime *r);            /* longest sequence */
size_t assay_runtime_n_vocab(const assay_runtime *r);
const assay_tokenizer *assay_runtime_tokenizer(const assay_runtime *r);  /* borrowed; NULL for an endpoint without one */
const assay_template *assay_runtime_template(const assay_runtime *r);    /* borrowed; NULL when the model has none */
/* Manifest part: model path and hash, precision summary, compute mode, kernels, threads, batch, KV type. New reference. */
json_t *assay_runtime_manifest(const assay_runtime *r);
void assay_runtime_close(assay_runtime *r);

#endif
