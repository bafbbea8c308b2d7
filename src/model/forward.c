/* forward.c: the forward pass of a decoder (Vaswani et al. 2017; Touvron et al. 2023), written once against backend.h.
 *
 *   x = embed(id)            residual stream, float32 throughout: scaled, with positions added, as the architecture has it
 *   per layer                pass.c
 *   logits = norm(x) Whead   scaled, capped
 *
 * In the last one only the wanted rows go on after keys and values are stored: nobody looks at the others
 * again. Which rows share a call never shows in a row's result: every operation is row-wise (backend.h,
 * INVARIANCE), and what is done here besides calling them is copying rows. Memory is allocated at open; a
 * call allocates nothing. */
#include "base/mem.h"
#include "model/model.h"
#include "model/pass.h"

#define DEFAULT_MAX_ROWS 544
#define LOGIT_BYTES ((size_t)16 << 20) /* bound on the logits held at once, but 8 to 128 rows */

struct assay_model {
    assay_backend *backend; /* borrowed */
    assay_checkpoint *checkpoint;
    assay_config config;
    assay_weights weights;
    assay_act_mode act;
    size_t max_rows, logit_rows;
    assay_pass pass;
    assay_buf *logits_buf; /* [logit_rows][vocab] */
    float *logits;         /* its copy on the host */
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
    return assay_kv_own_type(&m->config, m->act);
}

static assay_status allocate(assay_model *m, assay_err *err) {
    size_t n, vocab = (size_t)m->config.vocab_size;
    m->logit_rows = LOGIT_BYTES / (vocab * sizeof(float));
    m->logit_rows = ASSAY_MIN(ASSAY_MIN(ASSAY_MAX(m->logit_rows, (size_t)8), (size_t)128), m->max_rows);
    if (!assay_mul_size(&n, m->logit_rows, vocab * sizeof(float))) return assay_nomem(err);
    ASSAY_TRY(assay_buf_new(&m->logits_buf, m->backend, n, err));
    if (!(m->logits = assay_malloc(n))) return assay_nomem(err);
    return assay_pass_open(&m->pass, m->backend, &m->config, m->max_rows, err);
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
    if (m->act == ASSAY_ACT_F32) assay_config_scale_embedding(&m->config, ASSAY_DTYPE_F32);
    ASSAY_GO(assay_checkpoint_open(&m->checkpoint, dir, err));
    assay_config_match(&m->config, m->checkpoint);
    s = assay_weights_open(&m->weights, b, &m->config, m->checkpoint, m->act, o ? o->adapter : NULL, err);
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
    if (m->logits_buf) assay_buf_free(m->backend, m->logits_buf);
    assay_free(m->logits);
    assay_pass_close(&m->pass);
    assay_weights_close(&m->weights);
    assay_config_deinit(&m->config);
    assay_checkpoint_close(m->checkpoint);
    assay_free(m);
}

void assay_model_forward(assay_model *m, assay_kv *kv, const assay_batch *batch) {
    const assay_block *outside = &m->weights.blocks[m->config.n_layers];
    const assay_wanted wanted = {batch->n_out, batch->out};
    assay_pass *p = &m->pass;
    assay_row_set r = {batch->n, batch->pos, batch->pages, batch->is_long, p->buf[ASSAY_BUF_X], p->buf[ASSAY_BUF_H]};
    if (batch->n == 0) return;
    assay_embed_run(m->backend, &m->config, outside, r.x, r.h, batch->ids, batch->pos, batch->n);
    for (int64_t layer = 0; layer < m->config.n_layers; layer++) {
        bool narrow = layer + 1 == m->config.n_layers && batch->n_out < batch->n;
        assay_err none; /* only taps fail */
        (void)assay_pass_layer(p, &m->weights.blocks[layer], kv, layer, layer, &r, narrow ? &wanted : NULL, &none);
        if (r.n == 0) return;
    }
    assay_norm_run(m->backend, &m->config, p->buf[ASSAY_BUF_H_OUT], r.x, outside->vector[ASSAY_ROLE_FINAL_NORM],
                   outside->vector[ASSAY_ROLE_FINAL_NORM_BIAS], r.n, (size_t)m->config.hidden_size);
}

const float *assay_model_logits(assay_model *m, size_t first, size_t n) {
    size_t hidden = (size_t)m->config.hidden_size, vocab = (size_t)m->config.vocab_size;
    assay_pass *p = &m->pass;
    const assay_buf *h = p->buf[ASSAY_BUF_H_OUT];
    if (first > 0) { /* the product takes its rows from the front */
        for (size_t i = 0; i < n; i++)
            p->out_pos[i] = (int32_t)(first + i);
        assay_op_gather_rows(m->backend, p->buf[ASSAY_BUF_X], h, p->out_pos, n, hidden);
        h = p->buf[ASSAY_BUF_X];
    }
    assay_head_run(m->backend, &m->config, &m->weights, m->logits_buf, NULL, h, n);
    assay_buf_read(m->backend, m->logits, m->logits_buf, 0, n * vocab * sizeof(float));
    return m->logits;
}
