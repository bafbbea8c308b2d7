/* attention.c: attention by blocks of queries (Dao et al. 2022, FlashAttention, section 3.1 and appendix B): a block's scores against
 * all keys that it sees are made, used and forgotten, in the forward pass and again in the backward pass.
 *
 *   S = scale q k^T     P = exp(S - log_sum)     a = P v
 *   dv += P^T da        dP = da v^T              dS = scale P (dP - sum_d da a)       dq = dS k      dk += dS^T q
 *
 * A task is one sequence and one key head with the query heads that share it: dk and dv have one owner, and blocks go in order, so
 * nothing depends on the threads. Memory: two [QUERIES][keys] squares per thread. */
#include "train/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include "base/thread.h"
#include "linalg/linalg.h"
#include "train/point.h"

#define QUERIES 128

typedef struct job {
    const assay_attention *t;
    float *a, *log_sum, *dq, *dk, *dv; /* forward: a and log_sum are written */
    const float *a_in, *log_in, *da;
    float *scratch;
    size_t per_thread, max_length;
    float scale;
    _Atomic int status;
} job;

/* One block of queries of one head. */
typedef struct block {
    size_t row, first, n; /* row of the sequence's first token; queries [first, first + n) of it */
    size_t lo, n_keys;    /* keys [lo, lo + n_keys) of it */
    size_t ld;            /* of p and dp */
    size_t q_width, kv_width;
    const float *q, *k, *v;
} block;

/* Keys that a block of queries can see, rounded up to whole vectors. */
static size_t square_width(const assay_attention *t, size_t max_length) {
    size_t n = t->window ? ASSAY_MIN(max_length, t->window + QUERIES) : max_length;
    return (n + ASSAY_LANES - 1) / ASSAY_LANES * ASSAY_LANES;
}

static size_t thread_floats(const assay_attention *t, size_t max_length) {
    return 2 * QUERIES * square_width(t, max_length);
}

size_t assay_attention_scratch(const assay_attention *t, size_t max_length) {
    return (size_t)t->n_threads * thread_floats(t, max_length);
}

static block block_at(const job *j, size_t row, size_t first, size_t length, size_t head) {
    const assay_attention *t = j->t;
    size_t kv = head / (t->n_heads / t->n_kv_heads);
    block b = {.row = row, .first = first, .n = ASSAY_MIN((size_t)QUERIES, length - first)};
    b.lo = t->window && first + 1 > t->window ? first + 1 - t->window : 0;
    b.n_keys = first + b.n - b.lo;
    b.ld = square_width(t, j->max_length);
    b.q_width = t->n_heads * t->head_dim;
    b.kv_width = t->n_kv_heads * t->head_dim;
    b.q = t->q + (row + first) * b.q_width + head * t->head_dim;
    b.k = t->k + (row + b.lo) * b.kv_width + kv * t->head_dim;
    b.v = t->v + (row + b.lo) * b.kv_width + kv * t->head_dim;
    return b;
}

/* Columns [*from, *to) of row i of the block's square are seen. */
static void seen(size_t *from, size_t *to, const assay_attention *t, const block *b, size_t i) {
    size_t at = b->first + i, oldest = t->window && at + 1 > t->window ? at + 1 - t->window : 0;
    *from = oldest - b->lo;
    *to = at + 1 - b->lo;
}

/* p[0, ld) = exp(scale * p - top) for the seen columns, 0 elsewhere. */
static void exponentials(float *p, size_t ld, size_t from, size_t to, float scale, float top) {
    size_t begin = from / ASSAY_LANES * ASSAY_LANES, end = (to + ASSAY_LANES - 1) / ASSAY_LANES * ASSAY_LANES;
    for (size_t k = begin; k < from; k++) p[k] = 0;
    for (size_t k = to; k < end; k++) p[k] = 0;
    assay_exp(p + begin, p + begin, scale, top, end - begin);
    memset(p, 0, from * sizeof *p);
    memset(p + to, 0, (ld - to) * sizeof *p);
}

/* Softmax of one row of scores; returns the logarithm of the denominator. */
static float softmax_row(float *p, size_t ld, size_t from, size_t to, float scale) {
    float top = p[from], lane[ASSAY_LANES] = {0}, sum = 0;
    for (size_t k = from + 1; k < to; k++) top = p[k] > top ? p[k] : top;
    top *= scale;
    exponentials(p, ld, from, to, scale, top);
    for (size_t k = from / ASSAY_LANES * ASSAY_LANES; k < to; k += ASSAY_LANES)
        for (int l = 0; l < ASSAY_LANES; l++) lane[l] += p[k + (size_t)l];
    for (int l = 0; l < ASSAY_LANES; l++) sum += lane[l];
    float inverse = 1.0f / sum;
    for (size_t k = from; k < to; k++) p[k] *= inverse;
    return top + logf(sum);
}

static assay_status scores(float *p, const block *b, size_t head_dim, assay_err *err) {
    return assay_gemm(p, b->ld, b->q, b->q_width, false, b->k, b->kv_width, true, b->n, b->n_keys, head_dim, false, 1, err);
}

static assay_status forward_block(job *j, const block *b, size_t head, float *p, assay_err *err) {
    const assay_attention *t = j->t;
    ASSAY_TRY(scores(p, b, t->head_dim, err));
    for (size_t i = 0; i < b->n; i++) {
        size_t from, to;
        seen(&from, &to, t, b, i);
        j->log_sum[(b->row + b->first + i) * t->n_heads + head] = softmax_row(p + i * b->ld, b->ld, from, to, j->scale);
    }
    float *a = j->a + (b->row + b->first) * b->q_width + head * t->head_dim;
    return assay_gemm(a, b->q_width, p, b->ld, false, b->v, b->kv_width, false, b->n, t->head_dim, b->n_keys, false, 1, err);
}

static assay_status backward_block(job *j, const block *b, size_t head, float *p, float *dp, assay_err *err) {
    const assay_attention *t = j->t;
    size_t kv = head / (t->n_heads / t->n_kv_heads), d = t->head_dim, at = (b->row + b->first) * b->q_width + head * d;
    const float *da = j->da + at, *a = j->a_in + at;
    float *dk = j->dk + (b->row + b->lo) * b->kv_width + kv * d, *dv = j->dv + (b->row + b->lo) * b->kv_width + kv * d;
    ASSAY_TRY(scores(p, b, d, err));
    for (size_t i = 0; i < b->n; i++) {
        size_t from, to;
        seen(&from, &to, t, b, i);
        exponentials(p + i * b->ld, b->ld, from, to, j->scale, j->log_in[(b->row + b->first + i) * t->n_heads + head]);
    }
    ASSAY_TRY(assay_gemm(dv, b->kv_width, p, b->ld, true, da, b->q_width, false, b->n_keys, d, b->n, true, 1, err));
    ASSAY_TRY(assay_gemm(dp, b->ld, da, b->q_width, false, b->v, b->kv_width, true, b->n, b->n_keys, d, false, 1, err));
    for (size_t i = 0; i < b->n; i++) {
        float *row = dp + i * b->ld, *prob = p + i * b->ld, mean = 0;
        for (size_t k = 0; k < d; k++) mean += da[i * b->q_width + k] * a[i * b->q_width + k];
        for (size_t k = b->n_keys; k < b->ld; k++) row[k] = 0; /* prob is 0 there */
        assay_score_gradient(row, prob, mean, j->scale, b->ld);
    }
    ASSAY_TRY(assay_gemm(j->dq + at, b->q_width, dp, b->ld, false, b->k, b->kv_width, false, b->n, d, b->n_keys, false, 1, err));
    return assay_gemm(dk, b->kv_width, dp, b->ld, true, b->q, b->q_width, false, b->n_keys, d, b->n, true, 1, err);
}

static assay_status run_task(job *j, size_t task, int thread, assay_err *err) {
    const assay_attention *t = j->t;
    size_t seq = task / t->n_kv_heads, kv = task % t->n_kv_heads, share = t->n_heads / t->n_kv_heads, row = 0;
    float *p = j->scratch + (size_t)thread * j->per_thread, *dp = p + j->per_thread / 2;
    for (size_t i = 0; i < seq; i++) row += (size_t)t->lengths[i];
    size_t length = (size_t)t->lengths[seq];
    for (size_t i = 0; j->da && i < length; i++) {
        size_t at = (row + i) * t->n_kv_heads * t->head_dim + kv * t->head_dim;
        memset(j->dk + at, 0, t->head_dim * sizeof *j->dk);
        memset(j->dv + at, 0, t->head_dim * sizeof *j->dv);
    }
    for (size_t head = kv * share; head < (kv + 1) * share; head++)
        for (size_t first = 0; first < length; first += QUERIES) {
            block b = block_at(j, row, first, length, head);
            if (j->da)
                ASSAY_TRY(backward_block(j, &b, head, p, dp, err));
            else
                ASSAY_TRY(forward_block(j, &b, head, p, err));
        }
    return ASSAY_OK;
}

static void task_fn(void *ctx, size_t task, int thread) {
    job *j = ctx;
    assay_err err = {0};
    assay_status s = run_task(j, task, thread, &err);
    if (s != ASSAY_OK) atomic_store(&j->status, (int)s);
}

static assay_status run(job *j, const assay_attention *t, float *scratch, size_t max_length, assay_err *err) {
    j->t = t;
    j->scratch = scratch;
    j->max_length = max_length;
    j->per_thread = thread_floats(t, max_length);
    j->scale = (float)(1.0 / sqrt((double)t->head_dim));
    assay_parallel(t->n_threads, t->n_seqs * t->n_kv_heads, task_fn, j);
    int s = atomic_load(&j->status);
    return s == ASSAY_OK ? ASSAY_OK : assay_fail(err, (assay_status)s, "attention: a product of a block failed");
}

assay_status assay_attention_forward(float *a, float *log_sum, const assay_attention *t, float *scratch, size_t max_length,
                                     assay_err *err) {
    job j = {.a = a, .log_sum = log_sum};
    return run(&j, t, scratch, max_length, err);
}

assay_status assay_attention_backward(float *dq, float *dk, float *dv, const assay_attention *t, const float *a, const float *log_sum,
                                      const float *da, float *scratch, size_t max_length, assay_err *err) {
    job j = {.dq = dq, .dk = dk, .dv = dv, .a_in = a, .log_in = log_sum, .da = da};
    return run(&j, t, scratch, max_length, err);
}
