/* train/attention.h: causal grouped-query attention over whole sequences, forward and backward. Inside the room only. */
#ifndef ASSAY_TRAIN_ATTENTION_H
#define ASSAY_TRAIN_ATTENTION_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Sequences of lengths[i] rows lie one after another. q, a: [rows][n_heads * head_dim]; k, v: [rows][n_kv_heads * head_dim]; query
 * head h reads key head h / (n_heads / n_kv_heads). Row i of a sequence sees rows (i - window, i], window 0: all up to i. */
typedef struct assay_attention {
    size_t n_heads, n_kv_heads, head_dim, window;
    const int32_t *lengths;
    size_t n_seqs;
    const float *q, *k, *v;
    int n_threads;
} assay_attention;

/* Floats of scratch for sequences of at most max_length, all threads together. */
size_t assay_attention_scratch(const assay_attention *t, size_t max_length);

/* a = softmax(q k^T / sqrt(head_dim)) v; log_sum [rows][n_heads] keeps the logarithm of each softmax's denominator, from which the
 * backward pass makes the probabilities again. */
assay_status assay_attention_forward(float *a, float *log_sum, const assay_attention *t, float *scratch, size_t max_length,
                                     assay_err *err);
/* dq, dk, dv are overwritten. da: gradient of a. */
assay_status assay_attention_backward(float *dq, float *dk, float *dv, const assay_attention *t, const float *a, const float *log_sum,
                                      const float *da, float *scratch, size_t max_length, assay_err *err);

#endif
