/* forward.c: the forward pass of a pre-norm decoder (Touvron et al. 2023), written once against backend.h.
 *
 *   x = embed(id)                                        residual stream, float32 throughout
 *   per layer:  h = norm(x)                              [rows][hidden]
 *               q, k, v = h W + b, norm per head where the architecture has it, rotated by position
 *               k, v -> cache;  a = attention(q, cache)
 *               x += a Wo
 *               h = norm(x);  x += (fn(h Wg) * h Wu) Wd
 *   logits = norm(x) Whead
 *
 * In the last layer only the wanted rows go on after keys and values are stored: nobody looks at the others
 * again. Which rows share a call never shows in a row's result: every operation is row-wise (backend.h,
 * INVARIANCE), and what is done here besides calling them is copying rows. Memory is allocated at open; a
 * call allocates nothing. */
#include <math.h>
#include "base/mem.h"
#include "model/model.h"

#define DEFAULT_MAX_ROWS 544
#define LOGIT_BYTES ((size_t)16 << 20) /* bound on the logits held at once, but 8 to 128 rows */

/* Activations, one row per token. */
typedef enum scratch_id {
    BUF_X,
    BUF_X_OUT,
    BUF_H,
    BUF_H_OUT,
    BUF_Q,
    BUF_K,
    BUF_V,
    BUF_A,
    BUF_GATE,
    BUF_UP,
    BUF_LOGITS,
    BUF_COUNT
} scratch_id;

struct assay_model {
    assay_backend *backend; /* borrowed */
    assay_checkpoint *checkpoint;
    assay_config config;
    assay_weights weights;
    assay_act_mode act;
    size_t max_rows, logit_rows;
    float *inv_freq;  /* [head_dim / 2] */
    float *logits;    /* [logit_rows][vocab] */
    int32_t *out_pos; /* [max_rows] positions and page tables of the wanted rows */
    const int32_t **out_pages;
    assay_buf *buf[BUF_COUNT];
};

const assay_config *assay_model_config(const assay_model *m) {
    return &m->config;
}
const assay_weights *assay_model_weights(const assay_model *m) {
    return &m->weights;
}
const assay_checkpoint *assay_model_checkpoint(const assay_model *m) {
    return m->checkpoint;
}
size_t assay_model_max_rows(const assay_model *m) {
    return m->max_rows;
}
size_t assay_model_logit_rows(const assay_model *m) {
    return m->logit_rows;
}

assay_kv_type assay_model_kv_type(const assay_model *m) {
    if (m->act == ASSAY_ACT_F32 || m->config.dtype == ASSAY_DTYPE_F32) return ASSAY_KV_F32;
    return m->config.dtype == ASSAY_DTYPE_F16 ? ASSAY_KV_F16 : ASSAY_KV_BF16;
}

static assay_status allocate(assay_model *m, assay_err *err) {
    const assay_config *c = &m->config;
    size_t hidden = (size_t)c->hidden_size, ffn = (size_t)c->intermediate_size, vocab = (size_t)c->vocab_size;
    size_t q = (size_t)(c->n_heads * c->head_dim), kv = (size_t)(c->n_kv_heads * c->head_dim);
    const size_t width[BUF_COUNT] = {
        [BUF_X] = hidden, [BUF_X_OUT] = hidden, [BUF_H] = hidden,    [BUF_H_OUT] = hidden,
        [BUF_Q] = q,      [BUF_K] = kv,         [BUF_V] = kv,        [BUF_A] = q,
        [BUF_GATE] = ffn, [BUF_UP] = ffn,       [BUF_LOGITS] = vocab};
    m->logit_rows = LOGIT_BYTES / (vocab * sizeof(float));
    m->logit_rows = ASSAY_MIN(ASSAY_MIN(ASSAY_MAX(m->logit_rows, (size_t)8), (size_t)128), m->max_rows);
    for (int i = 0; i < BUF_COUNT; i++) {
        size_t n, rows = i == BUF_LOGITS ? m->logit_rows : m->max_rows;
        if (!assay_mul_size(&n, rows, width[i] * sizeof(float))) return assay_nomem(err);
        ASSAY_TRY(assay_buf_new(&m->buf[i], m->backend, n, err));
    }
    m->inv_freq = assay_mallocn((size_t)c->head_dim / 2, sizeof *m->inv_freq);
    m->logits = assay_mallocn(m->logit_rows, vocab * sizeof *m->logits);
    m->out_pos = assay_mallocn(m->max_rows, sizeof *m->out_pos);
    m->out_pages = assay_mallocn(m->max_rows, sizeof *m->out_pages);
    if (!m->inv_freq || !m->logits || !m->out_pos || !m->out_pages) return assay_nomem(err);
    assay_rope_frequencies(m->inv_freq, c);
    return ASSAY_OK;
}

assay_status assay_model_open(assay_model **out, assay_backend *b, const char *dir, const assay_model_opts *o,
                              assay_err *err) {
    assay_status s;
    *out = NULL;
    assay_model *m = assay_calloc(1, sizeof *m);
    if (!m) return assay_nomem(err);
    m->backend = b;
    m->act = o ? o->activations : ASSAY_ACT_AUTO;
    m->max_rows = o && o->max_rows ? o->max_rows : DEFAULT_MAX_ROWS;
    ASSAY_GO(assay_config_open(&m->config, dir, err));
    ASSAY_GO(assay_checkpoint_open(&m->checkpoint, dir, err));
    s = assay_weights_open(&m->weights, b, &m->config, m->checkpoint, m->act, err);
    if (s != ASSAY_OK) {
        assay_err_prefix(err, "%s", dir);
        goto out;
    }
    s = allocate(m, err);
out:
    if (s == ASSAY_OK)
        *out = m;
    else
        assay_model_close(m);
    return s;
}

void assay_model_close(assay_model *m) {
    if (!m) return;
    for (int i = 0; i < BUF_COUNT; i++)
        if (m->buf[i]) assay_buf_free(m->backend, m->buf[i]);
    assay_free(m->inv_freq);
    assay_free(m->logits);
    assay_free(m->out_pos);
    assay_free(m->out_pages);
    assay_weights_close(&m->weights);
    assay_config_deinit(&m->config);
    assay_checkpoint_close(m->checkpoint);
    assay_free(m);
}

/* The rows that an operation works on: all of a batch, or the wanted ones. */
typedef struct row_set {
    size_t n;
    const int32_t *pos;
    const int32_t *const *pages;
    assay_buf *x, *h;
} row_set;

static void norm(assay_model *m, assay_buf *y, const assay_buf *x, const assay_buf *weight, size_t n) {
    assay_op_rmsnorm(m->backend, y, x, weight, n, (size_t)m->config.hidden_size,
                     (float)m->config.rms_norm_eps);
}

typedef struct projection {
    assay_tensor_role matrix, bias;
    scratch_id y;
} projection;

/* Several matrices times one input. Neighbours of equal mode share the rounding of the input; a mixed recipe
 * may break the row. */
static void project(assay_model *m, const assay_block *block, const projection *p, int n_p,
                    const assay_buf *x, size_t n_rows) {
    assay_buf *y[3], *bias[3];
    assay_weight *w[3];
    for (int i = 0, n = 0; i < n_p; i++) {
        w[n] = block->matrix[p[i].matrix];
        y[n] = m->buf[p[i].y];
        bias[n] = block->vector[p[i].bias];
        n++;
        if (i + 1 < n_p && assay_weight_mode(block->matrix[p[i + 1].matrix]) == assay_weight_mode(w[n - 1]))
            continue;
        assay_op_linear_multi(m->backend, y, w, bias, n, x, n_rows);
        n = 0;
    }
}

/* Norm per head where there is one, then rotation by position. */
static void place(assay_model *m, assay_buf *x, const assay_buf *head_norm, const row_set *r,
                  int64_t n_heads) {
    const assay_config *c = &m->config;
    if (head_norm)
        assay_op_rmsnorm(m->backend, x, x, head_norm, r->n * (size_t)n_heads, (size_t)c->head_dim,
                         (float)c->rms_norm_eps);
    assay_op_rope(m->backend, x, r->pos, r->n, (int)n_heads, (int)c->head_dim, (int)c->head_dim / 2,
                  m->inv_freq, 1.0f);
}

/* Copies the wanted rows of x and h beside; from here on r is those. */
static void keep_wanted(assay_model *m, row_set *r, const assay_batch *b) {
    size_t hidden = (size_t)m->config.hidden_size;
    assay_op_gather_rows(m->backend, m->buf[BUF_X_OUT], r->x, b->out, b->n_out, hidden);
    assay_op_gather_rows(m->backend, m->buf[BUF_H_OUT], r->h, b->out, b->n_out, hidden);
    for (size_t i = 0; i < b->n_out; i++) {
        m->out_pos[i] = b->pos[b->out[i]];
        m->out_pages[i] = b->pages[b->out[i]];
    }
    *r = (row_set){b->n_out, m->out_pos, m->out_pages, m->buf[BUF_X_OUT], m->buf[BUF_H_OUT]};
}

/* x += attention(...) Wo. In the last layer r shrinks to the wanted rows. */
static void attend(assay_model *m, assay_kv *kv, int64_t layer, row_set *r, const assay_batch *b) {
    static const projection qkv[] = {{ASSAY_ROLE_Q, ASSAY_ROLE_Q_BIAS, BUF_Q},
                                     {ASSAY_ROLE_K, ASSAY_ROLE_K_BIAS, BUF_K},
                                     {ASSAY_ROLE_V, ASSAY_ROLE_V_BIAS, BUF_V}};
    const assay_config *c = &m->config;
    const assay_block *block = &m->weights.blocks[layer];
    assay_buf *q = m->buf[BUF_Q], *k = m->buf[BUF_K], *v = m->buf[BUF_V], *keys = assay_kv_keys(kv, layer),
              *values = assay_kv_values(kv, layer);
    int n_heads = (int)c->n_heads, n_kv = (int)c->n_kv_heads, head = (int)c->head_dim;
    bool narrow = layer + 1 == c->n_layers && b->n_out < b->n;

    norm(m, r->h, r->x, block->vector[ASSAY_ROLE_ATTN_NORM], r->n);
    project(m, block, narrow ? qkv + 1 : qkv, narrow ? 2 : 3, r->h, r->n);
    place(m, k, block->vector[ASSAY_ROLE_K_NORM], r, n_kv);
    assay_op_kv_store(m->backend, keys, values, assay_kv_get_type(kv), k, v, r->pages, r->pos, r->n, n_kv,
                      head);
    if (narrow) {
        keep_wanted(m, r, b);
        if (r->n == 0) return;
        project(m, block, qkv, 1, r->h, r->n);
    }
    place(m, q, block->vector[ASSAY_ROLE_Q_NORM], r, n_heads);
    assay_op_attention(m->backend, m->buf[BUF_A], q, keys, values, assay_kv_get_type(kv), r->pages, r->pos,
                       r->n, n_heads, n_kv, head, (float)(1.0 / sqrt((double)head)),
                       assay_config_window(c, layer), 0);
    assay_op_linear(m->backend, r->h, block->matrix[ASSAY_ROLE_O], block->vector[ASSAY_ROLE_O_BIAS],
                    m->buf[BUF_A], r->n);
    assay_op_add(m->backend, r->x, r->h, r->n * (size_t)c->hidden_size);
}

/* x += (fn(h Wg) * h Wu) Wd */
static void feed_forward(assay_model *m, int64_t layer, const row_set *r) {
    static const projection gate_up[] = {{ASSAY_ROLE_GATE, ASSAY_ROLE_GATE_BIAS, BUF_GATE},
                                         {ASSAY_ROLE_UP, ASSAY_ROLE_UP_BIAS, BUF_UP}};
    const assay_config *c = &m->config;
    const assay_block *block = &m->weights.blocks[layer];
    norm(m, r->h, r->x, block->vector[ASSAY_ROLE_MLP_NORM], r->n);
    project(m, block, gate_up, 2, r->h, r->n);
    assay_op_gate(m->backend, m->buf[BUF_GATE], m->buf[BUF_GATE], m->buf[BUF_UP],
                  r->n * (size_t)c->intermediate_size, c->arch->gate);
    assay_op_linear(m->backend, r->h, block->matrix[ASSAY_ROLE_DOWN], block->vector[ASSAY_ROLE_DOWN_BIAS],
                    m->buf[BUF_GATE], r->n);
    assay_op_add(m->backend, r->x, r->h, r->n * (size_t)c->hidden_size);
}

void assay_model_forward(assay_model *m, assay_kv *kv, const assay_batch *batch) {
    const assay_block *outside = &m->weights.blocks[m->config.n_layers];
    row_set r = {batch->n, batch->pos, batch->pages, m->buf[BUF_X], m->buf[BUF_H]};
    if (batch->n == 0) return;
    assay_op_embed(m->backend, r.x, outside->matrix[ASSAY_ROLE_EMBED], batch->ids, batch->n);
    for (int64_t layer = 0; layer < m->config.n_layers; layer++) {
        attend(m, kv, layer, &r, batch);
        if (r.n == 0) return;
        feed_forward(m, layer, &r);
    }
    norm(m, m->buf[BUF_H_OUT], r.x, outside->vector[ASSAY_ROLE_FINAL_NORM], r.n);
}

const float *assay_model_logits(assay_model *m, size_t first, size_t n) {
    size_t hidden = (size_t)m->config.hidden_size, vocab = (size_t)m->config.vocab_size;
    const assay_buf *h = m->buf[BUF_H_OUT];
    if (first > 0) { /* the product takes its rows from the front */
        for (size_t i = 0; i < n; i++) m->out_pos[i] = (int32_t)(first + i);
        assay_op_gather_rows(m->backend, m->buf[BUF_X], h, m->out_pos, n, hidden);
        h = m->buf[BUF_X];
    }
    assay_op_linear(m->backend, m->buf[BUF_LOGITS], m->weights.head, NULL, h, n);
    assay_buf_read(m->backend, m->logits, m->buf[BUF_LOGITS], 0, n * vocab * sizeof(float));
    return m->logits;
}
