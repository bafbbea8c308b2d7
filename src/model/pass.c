/* pass.c: one decoder layer: attention and feed-forward block with their norms, written once against backend.h.
 *
 * Whoever wants to see what goes into the matrices (calibration) gives taps: they are called between the operations with a copy of the
 * input rows, and can end the run early. Without taps nothing is copied and nothing can fail. */
#include "model/pass.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"

assay_status assay_pass_open(assay_pass *p, assay_backend *b, const assay_config *c, size_t max_rows, assay_err *err) {
    size_t hidden = (size_t)c->hidden_size, ffn = (size_t)c->intermediate_size;
    size_t q = (size_t)(c->n_heads * c->head_dim), kv = (size_t)(c->n_kv_heads * c->head_dim);
    const size_t width[ASSAY_BUF_LAYER_COUNT] = {
        [ASSAY_BUF_X] = hidden, [ASSAY_BUF_X_OUT] = hidden, [ASSAY_BUF_H] = hidden, [ASSAY_BUF_H_OUT] = hidden, [ASSAY_BUF_Q] = q,
        [ASSAY_BUF_K] = kv,     [ASSAY_BUF_V] = kv,         [ASSAY_BUF_A] = q,      [ASSAY_BUF_GATE] = ffn,     [ASSAY_BUF_UP] = ffn};
    *p = (assay_pass){.backend = b, .config = c, .max_rows = max_rows};
    for (int i = 0; i < ASSAY_BUF_LAYER_COUNT; i++) {
        size_t n;
        if (!assay_mul_size(&n, max_rows, width[i] * sizeof(float))) return assay_nomem(err);
        ASSAY_TRY(assay_buf_new(&p->buf[i], b, n, err));
    }
    p->inv_freq = assay_mallocn((size_t)c->head_dim / 2, sizeof *p->inv_freq);
    p->out_pos = assay_mallocn(max_rows, sizeof *p->out_pos);
    p->out_pages = assay_mallocn(max_rows, sizeof *p->out_pages);
    if (!p->inv_freq || !p->out_pos || !p->out_pages) return assay_nomem(err);
    assay_rope_frequencies(p->inv_freq, c);
    return ASSAY_OK;
}

void assay_pass_close(assay_pass *p) {
    for (int i = 0; i < ASSAY_BUF_LAYER_COUNT; i++)
        if (p->buf[i]) assay_buf_free(p->backend, p->buf[i]);
    assay_free(p->inv_freq);
    assay_free(p->out_pos);
    assay_free(p->out_pages);
    assay_free(p->tapped);
    *p = (assay_pass){0};
}

void assay_pass_norm(assay_pass *p, assay_buf *y, const assay_buf *x, const assay_buf *weight, size_t n_rows) {
    assay_op_rmsnorm(p->backend, y, x, weight, n_rows, (size_t)p->config->hidden_size, (float)p->config->rms_norm_eps);
}

static assay_status tap(assay_pass *p, assay_tensor_role role, const assay_buf *x, size_t n_rows, size_t cols, assay_err *err) {
    const assay_taps *t = p->taps;
    if (!t) return ASSAY_OK;
    if (t->roles & (1u << role)) {
        assay_buf_read(p->backend, p->tapped, x, 0, n_rows * cols * sizeof(float));
        ASSAY_TRY(t->fn(t->ctx, role, p->tapped, n_rows, cols, err));
    }
    p->stopped = t->until == role;
    return ASSAY_OK;
}

typedef struct projection {
    assay_tensor_role matrix, bias;
    assay_scratch y;
} projection;

/* Several matrices times one input. Neighbours of equal mode share the rounding of the input; a mixed recipe
 * may break the row. */
static void project(assay_pass *p, const assay_block *block, const projection *proj, int n_proj, const assay_buf *x, size_t n_rows) {
    assay_buf *y[3], *bias[3];
    assay_weight *w[3];
    for (int i = 0, n = 0; i < n_proj; i++) {
        w[n] = block->matrix[proj[i].matrix];
        y[n] = p->buf[proj[i].y];
        bias[n] = block->vector[proj[i].bias];
        n++;
        if (i + 1 < n_proj && assay_weight_mode(block->matrix[proj[i + 1].matrix]) == assay_weight_mode(w[n - 1])) continue;
        assay_op_linear_multi(p->backend, y, w, bias, n, x, n_rows);
        n = 0;
    }
}

/* Norm per head where there is one, then rotation by position. */
static void place(assay_pass *p, assay_buf *x, const assay_buf *head_norm, const assay_row_set *r, int64_t n_heads) {
    const assay_config *c = p->config;
    if (head_norm)
        assay_op_rmsnorm(p->backend, x, x, head_norm, r->n * (size_t)n_heads, (size_t)c->head_dim, (float)c->rms_norm_eps);
    assay_op_rope(p->backend, x, r->pos, r->n, (int)n_heads, (int)c->head_dim, (int)c->head_dim / 2, p->inv_freq, 1.0f);
}

/* Copies the wanted rows of x and h beside; from here on r is those. */
static void keep_wanted(assay_pass *p, assay_row_set *r, const assay_wanted *wanted) {
    size_t hidden = (size_t)p->config->hidden_size;
    assay_op_gather_rows(p->backend, p->buf[ASSAY_BUF_X_OUT], r->x, wanted->rows, wanted->n, hidden);
    assay_op_gather_rows(p->backend, p->buf[ASSAY_BUF_H_OUT], r->h, wanted->rows, wanted->n, hidden);
    for (size_t i = 0; i < wanted->n; i++) {
        p->out_pos[i] = r->pos[wanted->rows[i]];
        p->out_pages[i] = r->pages[wanted->rows[i]];
    }
    *r = (assay_row_set){wanted->n, p->out_pos, p->out_pages, p->buf[ASSAY_BUF_X_OUT], p->buf[ASSAY_BUF_H_OUT]};
}

/* x += attention(...) Wo. r shrinks to the wanted rows. */
static assay_status attend(assay_pass *p, const assay_block *block, assay_kv *kv, int64_t layer, int64_t kv_layer, assay_row_set *r,
                           const assay_wanted *wanted, assay_err *err) {
    static const projection qkv[] = {{ASSAY_ROLE_Q, ASSAY_ROLE_Q_BIAS, ASSAY_BUF_Q},
                                     {ASSAY_ROLE_K, ASSAY_ROLE_K_BIAS, ASSAY_BUF_K},
                                     {ASSAY_ROLE_V, ASSAY_ROLE_V_BIAS, ASSAY_BUF_V}};
    const assay_config *c = p->config;
    assay_buf *q = p->buf[ASSAY_BUF_Q], *k = p->buf[ASSAY_BUF_K], *v = p->buf[ASSAY_BUF_V];
    const assay_kv_layer cache = assay_kv_get_layer(kv, kv_layer);
    int n_heads = (int)c->n_heads, n_kv = (int)c->n_kv_heads, head = (int)c->head_dim;

    assay_pass_norm(p, r->h, r->x, block->vector[ASSAY_ROLE_ATTN_NORM], r->n);
    ASSAY_TRY(tap(p, ASSAY_ROLE_Q, r->h, r->n, (size_t)c->hidden_size, err));
    if (p->stopped) return ASSAY_OK;
    project(p, block, wanted ? qkv + 1 : qkv, wanted ? 2 : 3, r->h, r->n);
    place(p, k, block->vector[ASSAY_ROLE_K_NORM], r, n_kv);
    assay_op_kv_store(p->backend, &cache, k, v, r->pages, r->pos, r->n, n_kv, head);
    if (wanted) {
        keep_wanted(p, r, wanted);
        if (r->n == 0) return ASSAY_OK;
        project(p, block, qkv, 1, r->h, r->n);
    }
    place(p, q, block->vector[ASSAY_ROLE_Q_NORM], r, n_heads);
    assay_op_attention(p->backend, p->buf[ASSAY_BUF_A], q, &cache, r->pages, r->pos, r->n, n_heads, n_kv, head,
                       (float)(1.0 / sqrt((double)head)), assay_config_window(c, layer), 0);
    ASSAY_TRY(tap(p, ASSAY_ROLE_O, p->buf[ASSAY_BUF_A], r->n, (size_t)(c->n_heads * c->head_dim), err));
    if (p->stopped) return ASSAY_OK;
    assay_op_linear(p->backend, r->h, block->matrix[ASSAY_ROLE_O], block->vector[ASSAY_ROLE_O_BIAS], p->buf[ASSAY_BUF_A], r->n);
    assay_op_add(p->backend, r->x, r->h, r->n * (size_t)c->hidden_size);
    return ASSAY_OK;
}

/* x += (fn(h Wg) * h Wu) Wd */
static assay_status feed_forward(assay_pass *p, const assay_block *block, const assay_row_set *r, assay_err *err) {
    static const projection gate_up[] = {{ASSAY_ROLE_GATE, ASSAY_ROLE_GATE_BIAS, ASSAY_BUF_GATE},
                                         {ASSAY_ROLE_UP, ASSAY_ROLE_UP_BIAS, ASSAY_BUF_UP}};
    const assay_config *c = p->config;
    assay_buf *gate = p->buf[ASSAY_BUF_GATE];
    assay_pass_norm(p, r->h, r->x, block->vector[ASSAY_ROLE_MLP_NORM], r->n);
    ASSAY_TRY(tap(p, ASSAY_ROLE_GATE, r->h, r->n, (size_t)c->hidden_size, err));
    if (p->stopped) return ASSAY_OK;
    project(p, block, gate_up, 2, r->h, r->n);
    assay_op_gate(p->backend, gate, gate, p->buf[ASSAY_BUF_UP], r->n * (size_t)c->intermediate_size, c->arch->gate);
    if (c->down_hadamard)
        assay_op_hadamard(p->backend, gate, r->n, (size_t)c->intermediate_size, (size_t)c->down_hadamard);
    ASSAY_TRY(tap(p, ASSAY_ROLE_DOWN, gate, r->n, (size_t)c->intermediate_size, err));
    if (p->stopped) return ASSAY_OK;
    assay_op_linear(p->backend, r->h, block->matrix[ASSAY_ROLE_DOWN], block->vector[ASSAY_ROLE_DOWN_BIAS], gate, r->n);
    assay_op_add(p->backend, r->x, r->h, r->n * (size_t)c->hidden_size);
    return ASSAY_OK;
}

assay_status assay_pass_layer(assay_pass *p, const assay_block *block, assay_kv *kv, int64_t layer, int64_t kv_layer, assay_row_set *r,
                              const assay_wanted *wanted, assay_err *err) {
    p->stopped = false;
    ASSAY_TRY(attend(p, block, kv, layer, kv_layer, r, wanted, err));
    if (p->stopped || r->n == 0) return ASSAY_OK;
    return feed_forward(p, block, r, err);
}
