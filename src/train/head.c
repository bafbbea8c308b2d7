/* head.c: see head.h. The gradient of either loss with respect to the logits is softmax(logits) minus the target's distribution: one
 * id's, or the reference's softmax. Pieces are a fixed number of rows that follows from the vocabulary alone. */
#include "train/head.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "train/point.h"

#define PIECE_BYTES ((size_t)32 << 20) /* of logits; at least MIN_ROWS */
#define MIN_ROWS    32
#define MAX_ROWS    1024

typedef struct job {
    const assay_head *head;
    float *logits, *reference; /* [rows][ld]; reference NULL for ids */
    const int32_t *ids;
    double *row_loss; /* [rows] */
    size_t ld;
    float scale;
    bool gradient;
} job;

/* x[0, n) becomes exp(x - top), lanes past n are zero; returns log sum exp. x has room for whole lanes. */
static double exponentials(float *x, size_t n, size_t ld) {
    float top = x[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    for (size_t i = n; i < ld; i++) x[i] = top - 200.0f;
    assay_exp(x, x, 1.0f, top, ld);
    for (size_t i = 0; i < ld; i += ASSAY_LANES) {
        float part = 0;
        for (size_t l = i; l < ASSAY_MIN(i + ASSAY_LANES, n); l++) part += x[l];
        sum += (double)part;
    }
    return (double)top + log(sum);
}

/* Cross entropy of one row; its logits become their gradient. */
static double entropy_row(const job *j, float *x, int32_t id) {
    size_t n = j->head->vocab;
    if (id < 0) {
        memset(x, 0, n * sizeof *x);
        return 0;
    }
    double chosen = (double)x[id], top = (double)x[0];
    for (size_t i = 1; i < n; i++) top = (double)x[i] > top ? (double)x[i] : top;
    double log_sum = exponentials(x, n, j->ld);
    float by = (float)exp(top - log_sum) * j->scale; /* 1 / sum */
    for (size_t i = 0; j->gradient && i < n; i++) x[i] *= by;
    x[id] -= j->scale;
    return log_sum - chosen;
}

/* sum p (log p - log q) of one row, p the reference's; log ratios are taken of the logits before they are exponentials. */
static double divergence_row(const job *j, float *x, float *ref) {
    size_t n = j->head->vocab;
    double cross = 0, top_p = (double)ref[0], top_q = (double)x[0], sum_p = 0, sum_q = 0;
    for (size_t i = 1; i < n; i++) {
        top_p = (double)ref[i] > top_p ? (double)ref[i] : top_p;
        top_q = (double)x[i] > top_q ? (double)x[i] : top_q;
    }
    for (size_t i = 0; i < j->ld; i += ASSAY_LANES) {
        float p[ASSAY_LANES], q[ASSAY_LANES], gap[ASSAY_LANES];
        size_t m = i < n ? ASSAY_MIN((size_t)ASSAY_LANES, n - i) : 0;
        for (size_t l = 0; l < ASSAY_LANES; l++) {
            p[l] = l < m ? ref[i + l] - (float)top_p : -87.0f;
            q[l] = l < m ? x[i + l] - (float)top_q : -87.0f;
            gap[l] = p[l] - q[l];
        }
        assay_exp(ref + i, p, 1.0f, 0.0f, ASSAY_LANES);
        assay_exp(x + i, q, 1.0f, 0.0f, ASSAY_LANES);
        for (size_t l = 0; l < m; l++) {
            sum_p += (double)ref[i + l];
            sum_q += (double)x[i + l];
            cross += (double)ref[i + l] * (double)gap[l];
        }
    }
    float by_p = (float)(1.0 / sum_p) * j->scale, by_q = (float)(1.0 / sum_q) * j->scale;
    for (size_t i = 0; j->gradient && i < n; i++) x[i] = x[i] * by_q - ref[i] * by_p;
    return cross / sum_p - log(sum_p) + log(sum_q);
}

static void loss_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++)
        j->row_loss[r] = j->ids ? entropy_row(j, j->logits + r * j->ld, j->ids[r])
                                : divergence_row(j, j->logits + r * j->ld, j->reference + r * j->ld);
}

typedef struct memory {
    float *logits, *reference, *h, *dh, *inv;
    double *row_loss;
    size_t rows, ld;
} memory;

static void memory_free(memory *m) {
    assay_free_aligned(m->logits);
    assay_free_aligned(m->reference);
    assay_free(m->h);
    assay_free(m->dh);
    assay_free(m->inv);
    assay_free(m->row_loss);
}

static assay_status memory_new(memory *m, const assay_head *head, const assay_target *target, size_t n, assay_err *err) {
    size_t width = ASSAY_MAX(head->hidden, target->reference_head ? target->reference_head->hidden : 0), bytes;
    m->ld = (head->vocab + ASSAY_LANES - 1) / ASSAY_LANES * ASSAY_LANES;
    m->rows = PIECE_BYTES / (m->ld * sizeof(float));
    m->rows = ASSAY_MIN(ASSAY_MIN(ASSAY_MAX(m->rows, (size_t)MIN_ROWS), (size_t)MAX_ROWS), ASSAY_MAX(n, (size_t)1));
    if (!assay_mul_size(&bytes, m->rows, m->ld * sizeof(float))) return assay_nomem(err);
    m->logits = assay_malloc_aligned(bytes);
    m->reference = target->reference ? assay_malloc_aligned(bytes) : NULL;
    m->h = assay_mallocn(m->rows, width * sizeof *m->h);
    m->dh = assay_mallocn(m->rows, head->hidden * sizeof *m->dh);
    m->inv = assay_mallocn(m->rows, sizeof *m->inv);
    m->row_loss = assay_mallocn(m->rows, sizeof *m->row_loss);
    bool ok = m->logits && (m->reference || !target->reference) && m->h && m->dh && m->inv && m->row_loss;
    return ok ? ASSAY_OK : assay_nomem(err);
}

assay_status assay_head_logits(float *logits, size_t ld, float *h, const assay_head *head, const float *x, size_t n, int n_threads,
                               assay_err *err) {
    assay_norm_forward(h, x, head->norm, n, head->hidden, head->eps, n_threads);
    return assay_gemm(logits, ld, h, head->hidden, false, head->w, head->hidden, true, n, head->vocab, head->hidden, false, n_threads,
                      err);
}

/* From the gradient of the logits in m to dx of the same rows. */
static assay_status piece_back(float *dx, memory *m, const assay_head_grads *g, const assay_head *head, const float *x, size_t n,
                               int n_threads, assay_err *err) {
    if (g && g->w)
        ASSAY_TRY(assay_gemm(g->w, head->hidden, m->logits, m->ld, true, m->h, head->hidden, false, head->vocab, head->hidden, n, true,
                             n_threads, err));
    ASSAY_TRY(assay_gemm(m->dh, head->hidden, m->logits, m->ld, false, head->w, head->hidden, false, n, head->hidden, head->vocab,
                         false, n_threads, err));
    assay_norm_backward(dx, g ? g->norm : NULL, NULL, m->dh, x, head->norm, m->inv, n, head->hidden, head->eps, n_threads);
    return ASSAY_OK;
}

static assay_status check_target(const assay_head *head, const assay_target *t, size_t n, assay_err *err) {
    if (!t->ids == !t->reference) return assay_fail(err, ASSAY_EINTERNAL, "a loss takes either ids or reference states");
    if (t->reference_head && t->reference_head->vocab != head->vocab)
        return assay_fail(err, ASSAY_EINPUT, "the reference has %zu tokens, the model %zu", t->reference_head->vocab, head->vocab);
    for (size_t i = 0; t->ids && i < n; i++)
        if (t->ids[i] >= 0 && (size_t)t->ids[i] >= head->vocab)
            return assay_fail(err, ASSAY_EINPUT, "token %zu of the targets is %d, the vocabulary has %zu", i, (int)t->ids[i],
                              head->vocab);
    return ASSAY_OK;
}

assay_status assay_head_loss(double *loss, float *dx, const assay_head_grads *g, const assay_head *head, const assay_target *target,
                             const float *x, size_t n, double scale, int n_threads, assay_err *err) {
    const assay_head *other = target->reference_head ? target->reference_head : head;
    memory m = {0};
    assay_status s = ASSAY_OK;
    *loss = 0;
    if (n_threads <= 0) n_threads = assay_n_cores();
    ASSAY_GO(check_target(head, target, n, err));
    ASSAY_GO(memory_new(&m, head, target, n, err));
    for (size_t at = 0; at < n; at += m.rows) {
        size_t rows = ASSAY_MIN(m.rows, n - at);
        const float *piece = x + at * head->hidden;
        job j = {.head = head, .logits = m.logits, .reference = m.reference, .row_loss = m.row_loss, .ld = m.ld};
        j.ids = target->ids ? target->ids + at : NULL;
        j.scale = (float)scale;
        j.gradient = dx != NULL;
        if (target->reference)
            ASSAY_GO(assay_head_logits(m.reference, m.ld, m.h, other, target->reference + at * other->hidden, rows, n_threads, err));
        ASSAY_GO(assay_head_logits(m.logits, m.ld, m.h, head, piece, rows, n_threads, err));
        assay_parallel_range(n_threads, rows, 1, loss_rows, &j);
        for (size_t r = 0; r < rows; r++) *loss += m.row_loss[r];
        if (dx) ASSAY_GO(piece_back(dx + at * head->hidden, &m, g, head, piece, rows, n_threads, err));
    }
out:
    memory_free(&m);
    return s;
}
