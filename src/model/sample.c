/* sample.c: greedy choice and temperature / top-k / nucleus sampling (Holtzman et al. 2020).
 *
 * Candidates are ordered by (logit descending, id ascending), a total order, so equal logits cannot make a
 * result depend on how a sort is implemented. Only ids that can be in the nucleus are sorted: one whose
 * probability is below (1 - top_p) / n cannot be, since all such together weigh less than 1 - top_p. */
#include "model/sample.h"
#include <math.h>
#include <stdlib.h>
#include "base/mem.h"

typedef struct assay_candidate {
    float logit;
    int32_t id;
    double p;
} candidate;

/* NaN is never larger; -infinity when n is 0. */
static float largest(const float *logits, size_t n) {
    enum { LANES = 16 };
    float lane[LANES], best = -INFINITY;
    size_t i = 0;
    for (size_t j = 0; j < LANES; j++) lane[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
    for (size_t j = 0; j < LANES; j++) best = lane[j] > best ? lane[j] : best;
    for (; i < n; i++) best = logits[i] > best ? logits[i] : best;
    return best;
}

int32_t assay_argmax(const float *logits, size_t n) {
    float best = largest(logits, n);
    int32_t id = 0;
    if (!isfinite(best)) return -1;
    while (logits[id] != best) id++;
    return id;
}

double assay_log_sum_exp(const float *logits, size_t n) {
    double max = (double)largest(logits, n), sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    return max + log(sum);
}

void assay_log_softmax(float *out, const float *logits, size_t n) {
    double shift = assay_log_sum_exp(logits, n);
    for (size_t i = 0; i < n; i++) out[i] = (float)((double)logits[i] - shift);
}

double assay_kl(const float *log_p, const float *log_q, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (log_p[i] > -INFINITY) sum += exp((double)log_p[i]) * ((double)log_p[i] - (double)log_q[i]);
    return sum;
}

static int by_logit(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static void sift_down(candidate *heap, size_t n, size_t i) {
    for (;;) {
        size_t worst = i, l = 2 * i + 1, r = l + 1; /* the root is the last in order */
        if (l < n && by_logit(&heap[l], &heap[worst]) > 0) worst = l;
        if (r < n && by_logit(&heap[r], &heap[worst]) > 0) worst = r;
        if (worst == i) return;
        candidate t = heap[i];
        heap[i] = heap[worst];
        heap[worst] = t;
        i = worst;
    }
}

/* Keeps the first k of n in order; the result is unsorted. */
static size_t keep_top(candidate *list, size_t n, size_t k) {
    if (k >= n) return n;
    for (size_t i = k; i-- > 0;) sift_down(list, k, i);
    for (size_t i = k; i < n; i++) {
        if (by_logit(&list[i], &list[0]) >= 0) continue;
        list[0] = list[i];
        sift_down(list, k, 0);
    }
    return k;
}

/* The nucleus: list[0..result) sorted. Probabilities are of the whole list and need not sum to 1: total does. */
static size_t keep_nucleus(candidate *list, size_t n, double top_p, double total) {
    double cut = (1 - top_p) * total / (double)n, sum = 0;
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].p >= cut) list[m++] = list[i];
    qsort(list, m, sizeof *list, by_logit);
    for (size_t i = 0; i < m; i++) {
        sum += list[i].p;
        if (sum >= top_p * total) return i + 1;
    }
    return m;
}

static double weigh(candidate *list, size_t n, float max, double temperature) {
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        list[i].p = exp(((double)list[i].logit - (double)max) / temperature);
        total += list[i].p;
    }
    return total;
}

assay_status assay_sample(int32_t *id, assay_sampler *s, const float *logits, size_t n,
                          const assay_sample_opts *o, assay_rng *rng, assay_err *err) {
    *id = assay_argmax(logits, n);
    if (*id < 0) return assay_fail(err, ASSAY_EINPUT, "the model's logits are not finite");
    if (o->temperature <= 0) return ASSAY_OK;
    ASSAY_TRY(assay_grow(&s->list, &s->cap, n, sizeof *s->list, err));
    candidate *list = s->list;
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(logits[i])) list[m++] = (candidate){logits[i], (int32_t)i, 0};
    if (o->top_k > 0) m = keep_top(list, m, (size_t)o->top_k);
    if (o->top_k > 0) qsort(list, m, sizeof *list, by_logit);
    double total = weigh(list, m, logits[*id], o->temperature);
    if (o->top_p > 0 && o->top_p < 1) {
        m = keep_nucleus(list, m, o->top_p, total);
        total = 0;
        for (size_t i = 0; i < m; i++) total += list[i].p;
    }
    double u = assay_rng_double(rng) * total, sum = 0;
    *id = list[m - 1].id;
    for (size_t i = 0; i < m; i++) {
        sum += list[i].p;
        if (u >= sum) continue;
        *id = list[i].id;
        break;
    }
    return ASSAY_OK;
}

void assay_sampler_deinit(assay_sampler *s) {
    assay_free(s->list);
    s->list = NULL;
    s->cap = 0;
}
