/* experts.c: a mixture of experts (Shazeer et al. 2017; Fedus et al. 2021): a router chooses a few of many small feed-forward blocks
 * for each token and weighs what they give.
 *
 *   p = softmax(h Wr), float32; of all experts, or of the groups with the largest p, the n_active largest
 *   y = sum over the chosen, by number, of p' * expert(h)     p' = p, or p divided by their sum, times expert_scale
 *   y += shared(h), or sigmoid(h Ws) * shared(h)
 *
 * Experts are walked in order, each over the rows that chose it: a row's sum has one order whatever the batch, and each product is
 * row-wise, so that nothing depends on who else is in the batch. Of equal p the lower number is taken. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "model/pass.h"

assay_status assay_routing_open(assay_routing *r, const assay_config *c, size_t max_rows, assay_err *err) {
    size_t picks = max_rows * (size_t)c->n_active;
    r->logits = assay_mallocn(max_rows * (size_t)c->n_experts, sizeof *r->logits);
    r->chosen = assay_mallocn(picks, sizeof *r->chosen);
    r->weights = assay_mallocn(picks, sizeof *r->weights);
    r->rows = assay_mallocn(picks, sizeof *r->rows);
    r->row_weights = assay_mallocn(ASSAY_MAX(picks, max_rows), sizeof *r->row_weights);
    r->first = assay_mallocn((size_t)c->n_experts + 1, sizeof *r->first);
    r->all = assay_mallocn(max_rows, sizeof *r->all);
    if (!r->logits || !r->chosen || !r->weights || !r->rows || !r->row_weights || !r->first || !r->all) return assay_nomem(err);
    for (size_t i = 0; i < max_rows; i++) r->all[i] = (int32_t)i;
    return ASSAY_OK;
}

void assay_routing_close(assay_routing *r) {
    assay_free(r->logits);
    assay_free(r->chosen);
    assay_free(r->weights);
    assay_free(r->rows);
    assay_free(r->row_weights);
    assay_free(r->first);
    assay_free(r->all);
    *r = (assay_routing){0};
}

/* --- choosing --- */

/* In place. */
static void softmax(float *x, size_t n) {
    float top = x[0], sum = 0;
    for (size_t i = 1; i < n; i++) top = fmaxf(top, x[i]);
    for (size_t i = 0; i < n; i++) sum += x[i] = (float)exp((double)(x[i] - top));
    for (size_t i = 0; i < n; i++) x[i] /= sum;
}

#define TAKEN -1.0f /* in the place of a probability */

/* The index of the largest of x[0, n), the lowest of equals; what was taken before does not count. NaN counts as nothing: a row of
 * them has some experts all the same, and logits that say what happened. */
static size_t largest(const float *x, size_t n) {
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (x[i] != TAKEN && (best == n || x[i] > x[best] || isnan(x[best]))) best = i;
    return best;
}

/* All but the best groups lose their probabilities. */
static void keep_groups(float *p, const assay_config *c) {
    size_t n = (size_t)c->n_groups, size = (size_t)(c->n_experts / c->n_groups);
    float top[ASSAY_MOST_GROUPS]; /* of each group */
    for (size_t g = 0; g < n; g++) {
        top[g] = p[g * size];
        for (size_t i = 1; i < size; i++) top[g] = fmaxf(top[g], p[g * size + i]);
    }
    for (int64_t k = 0; k < c->n_active_groups; k++) top[largest(top, n)] = TAKEN;
    for (size_t g = 0; g < n; g++)
        if (top[g] != TAKEN) memset(p + g * size, 0, size * sizeof *p);
}

static void choose(int32_t *chosen, float *weights, float *p, const assay_config *c) {
    float sum = 0;
    softmax(p, (size_t)c->n_experts);
    if (c->n_groups) keep_groups(p, c);
    for (int64_t k = 0; k < c->n_active; k++) {
        size_t e = largest(p, (size_t)c->n_experts);
        chosen[k] = (int32_t)e;
        sum += weights[k] = p[e];
        p[e] = TAKEN;
    }
    for (int64_t k = 0; k < c->n_active; k++) {
        if (c->normalize_experts) weights[k] /= sum;
        weights[k] *= (float)c->expert_scale;
    }
}

/* Rows by expert: a counting sort, so that an expert's rows ascend. */
static void sort_rows(assay_routing *r, const assay_config *c, size_t n_rows) {
    size_t n_active = (size_t)c->n_active, n = (size_t)c->n_experts;
    memset(r->first, 0, (n + 1) * sizeof *r->first);
    for (size_t i = 0; i < n_rows * n_active; i++) r->first[r->chosen[i] + 1]++;
    for (size_t e = 0; e < n; e++) r->first[e + 1] += r->first[e];
    for (size_t i = 0; i < n_rows * n_active; i++) {
        size_t at = r->first[r->chosen[i]]++;
        r->rows[at] = (int32_t)(i / n_active);
        r->row_weights[at] = r->weights[i];
    }
    memmove(r->first + 1, r->first, n * sizeof *r->first); /* each had become the next one's */
    r->first[0] = 0;
}

/* --- computing --- */

/* Three matrices of a feed-forward block. */
typedef struct mlp {
    assay_weight *gate, *up, *down;
    assay_tensor_role down_role;
    int expert;
    size_t size;
} mlp;

/* y = down(fn(gate x) * up x) */
static assay_status run_mlp(assay_pass *p, const mlp *m, assay_buf *y, const assay_buf *x, size_t n_rows, assay_err *err) {
    assay_buf *gate = p->buf[ASSAY_BUF_GATE];
    const assay_projection both[] = {{m->gate, NULL, gate}, {m->up, NULL, p->buf[ASSAY_BUF_UP]}};
    assay_pass_project(p, both, 2, x, n_rows);
    assay_op_gate(p->backend, gate, gate, p->buf[ASSAY_BUF_UP], n_rows * m->size, (assay_gate_fn)p->config->act);
    ASSAY_TRY(assay_pass_tap(p, m->down_role, m->expert, gate, n_rows, m->size, err));
    if (!p->stopped) assay_op_linear(p->backend, y, m->down, NULL, gate, n_rows);
    return ASSAY_OK;
}

static assay_status run_experts(assay_pass *p, const assay_block *block, const assay_buf *x, assay_err *err) {
    const assay_config *c = p->config;
    const assay_routing *r = &p->routing;
    size_t hidden = (size_t)c->hidden_size;
    assay_buf *picked = p->buf[ASSAY_BUF_PICKED];
    for (int64_t e = 0; e < c->n_experts; e++) {
        const int32_t *rows = r->rows + r->first[e];
        size_t n = r->first[e + 1] - r->first[e];
        const mlp m = {block->expert[0][e], block->expert[1][e], block->expert[2][e], ASSAY_ROLE_EXPERT_DOWN, (int)e, (size_t)c->expert_size};
        if (n == 0) continue;
        assay_op_gather_rows(p->backend, picked, x, rows, n, hidden);
        ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_EXPERT_GATE, (int)e, picked, n, hidden, err));
        ASSAY_TRY(run_mlp(p, &m, picked, picked, n, err));
        assay_op_scatter_add(p->backend, p->buf[ASSAY_BUF_MIXED], picked, rows, r->row_weights + r->first[e], n, hidden);
    }
    return ASSAY_OK;
}

static assay_status run_shared(assay_pass *p, const assay_block *block, const assay_buf *x, size_t n_rows, assay_err *err) {
    const assay_config *c = p->config;
    size_t hidden = (size_t)c->hidden_size;
    assay_buf *y = p->buf[ASSAY_BUF_PICKED];
    float *weights = p->routing.row_weights;
    const mlp m = {block->matrix[ASSAY_ROLE_SHARED_GATE], block->matrix[ASSAY_ROLE_SHARED_UP], block->matrix[ASSAY_ROLE_SHARED_DOWN],
                   ASSAY_ROLE_SHARED_DOWN, -1, (size_t)c->shared_size};
    ASSAY_TRY(run_mlp(p, &m, y, x, n_rows, err));
    if (p->stopped) return ASSAY_OK;
    if (!block->matrix[ASSAY_ROLE_SHARED_ROUTER]) {
        assay_op_add(p->backend, p->buf[ASSAY_BUF_MIXED], y, n_rows * hidden);
        return ASSAY_OK;
    }
    assay_op_linear(p->backend, p->buf[ASSAY_BUF_ROUTE], block->matrix[ASSAY_ROLE_SHARED_ROUTER], NULL, x, n_rows);
    assay_buf_read(p->backend, weights, p->buf[ASSAY_BUF_ROUTE], 0, n_rows * sizeof *weights);
    for (size_t i = 0; i < n_rows; i++) weights[i] = (float)(1 / (1 + exp(-(double)weights[i])));
    assay_op_scatter_add(p->backend, p->buf[ASSAY_BUF_MIXED], y, p->routing.all, weights, n_rows, hidden);
    return ASSAY_OK;
}

assay_status assay_pass_experts(assay_pass *p, const assay_block *block, const assay_buf *x, size_t n_rows, assay_err *err) {
    const assay_config *c = p->config;
    assay_routing *r = &p->routing;
    size_t n = (size_t)c->n_experts, n_active = (size_t)c->n_active;
    assay_op_linear(p->backend, p->buf[ASSAY_BUF_ROUTE], block->matrix[ASSAY_ROLE_ROUTER], NULL, x, n_rows);
    assay_buf_read(p->backend, r->logits, p->buf[ASSAY_BUF_ROUTE], 0, n_rows * n * sizeof *r->logits);
    for (size_t i = 0; i < n_rows; i++) choose(r->chosen + i * n_active, r->weights + i * n_active, r->logits + i * n, c);
    sort_rows(r, c, n_rows);
    assay_op_clear(p->backend, p->buf[ASSAY_BUF_MIXED], n_rows * (size_t)c->hidden_size);
    ASSAY_TRY(run_experts(p, block, x, err));
    return c->shared_size ? run_shared(p, block, x, n_rows, err) : ASSAY_OK;
}
