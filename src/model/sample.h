/* model/sample.h: choosing the next token from logits. */
#ifndef ASSAY_MODEL_SAMPLE_H
#define ASSAY_MODEL_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include "base/rng.h"
#include "base/status.h"

/* The lowest id with the largest logit; -1 when the largest is not finite (NaN logits, or none). */
int32_t assay_argmax(const float *logits, size_t n);

/* log(sum(exp(logits))) in double: max + log of the sum in order of id. */
double assay_log_sum_exp(const float *logits, size_t n);

/* out[i] = log of softmax(logits)[i], computed in double and rounded to float32; out may be logits. */
void assay_log_softmax(float *out, const float *logits, size_t n);
/* KL(p || q) in nats from log-probabilities, summed in double in order of id; 0 for equal arrays, infinite where q rules out what p
 * does not. */
double assay_kl(const float *log_p, const float *log_q, size_t n);

typedef struct assay_sample_opts {
    double temperature; /* 0 = greedy */
    int top_k;          /* 0 = off */
    double top_p;       /* 1 (or 0) = off */
} assay_sample_opts;

/* Memory for candidates, reused from token to token; all-zero is empty. */
typedef struct assay_sampler {
    struct assay_candidate *list;
    size_t cap;
} assay_sampler;

/* Draws one id: temperature, then top-k, then top-p (the smallest set of most likely ids whose probabilities
 * reach it), as transformers orders them. Takes exactly one number from rng per token, none when greedy, so
 * that a request's draws depend on its seed and logits alone. EINPUT when the logits are not finite. */
assay_status assay_sample(int32_t *id, assay_sampler *s, const float *logits, size_t n,
                          const assay_sample_opts *o, assay_rng *rng, assay_err *err);
void assay_sampler_deinit(assay_sampler *s);

#endif
