/* layer.c: a decoder layer over calibration sequences, in pieces of at most max_rows tokens. Short sequences share a piece, a long one
 * takes several; the cache holds one layer's keys and values of the sequences in work. Which tokens share a piece never shows in a
 * result (backend.h, INVARIANCE). */
#include "model/layer.h"
#include <string.h>
#include "base/mem.h"
#include "model/pass.h"

#define DEFAULT_ROWS 512

struct assay_layer_runner {
    assay_pass pass;
    assay_config one; /* the model's, with a single layer: what the cache holds */
    assay_kv *kv;
    size_t max_rows;
    assay_seq *seqs; /* [max_rows] of the piece in work */
    int32_t *pos;
    const int32_t **pages;
    bool *is_long;
};

assay_tensor_role assay_role_input(assay_tensor_role role) {
    switch (role) {
    case ASSAY_ROLE_K:
    case ASSAY_ROLE_V:
    case ASSAY_ROLE_QKV:
    case ASSAY_ROLE_KV_A:
    case ASSAY_ROLE_Q_A: return ASSAY_ROLE_Q;
    case ASSAY_ROLE_UP:
    case ASSAY_ROLE_GATE_UP:
    case ASSAY_ROLE_SHARED_GATE:
    case ASSAY_ROLE_SHARED_UP:
    case ASSAY_ROLE_ROUTER:
    case ASSAY_ROLE_SHARED_ROUTER: return ASSAY_ROLE_GATE;
    case ASSAY_ROLE_EXPERT_UP: return ASSAY_ROLE_EXPERT_GATE;
    default: return role;
    }
}

void assay_embed_run(assay_backend *b, const assay_config *c, const assay_block *outside, assay_buf *x, assay_buf *aside, const int32_t *ids,
                     const int32_t *pos, size_t n_rows) {
    size_t n = n_rows * (size_t)c->hidden_size;
    assay_op_embed(b, x, outside->matrix[ASSAY_ROLE_EMBED], ids, n_rows);
    if (c->embedding_scale != 1) assay_op_scale(b, x, n, (float)c->embedding_scale);
    if (!outside->matrix[ASSAY_ROLE_POSITIONS]) return;
    assay_op_embed(b, aside, outside->matrix[ASSAY_ROLE_POSITIONS], pos, n_rows);
    assay_op_add(b, x, aside, n);
}

void assay_head_run(assay_backend *b, const assay_config *c, const assay_weights *w, assay_buf *logits, assay_buf *h, const assay_buf *x,
                    size_t n_rows) {
    const assay_block *outside = &w->blocks[w->n_layers];
    size_t n = n_rows * (size_t)c->vocab_size;
    if (h)
        assay_norm_run(b, c, h, x, outside->vector[ASSAY_ROLE_FINAL_NORM], outside->vector[ASSAY_ROLE_FINAL_NORM_BIAS], n_rows,
                       (size_t)c->hidden_size);
    assay_op_linear(b, logits, w->head, NULL, h ? h : x, n_rows);
    if (c->logit_scale != 1) assay_op_scale(b, logits, n, (float)c->logit_scale);
    if (c->logit_soft_cap > 0) assay_op_soft_cap(b, logits, n, (float)c->logit_soft_cap);
}

/* A sequence of the model's whole context and, for many short ones, as much again a few times over. */
static size_t cache_bytes(const assay_config *one, assay_kv_type type, size_t max_rows) {
    size_t pages = (size_t)one->max_position_embeddings / ASSAY_KV_PAGE + 2 + max_rows;
    return assay_kv_plain_page(one, type) * pages;
}

assay_status assay_layer_runner_open(assay_layer_runner **out, assay_backend *b, const assay_config *c, size_t max_rows,
                                     assay_kv_type kv, assay_err *err) {
    *out = NULL;
    assay_status s;
    assay_layer_runner *r = assay_calloc(1, sizeof *r);
    if (!r) return assay_nomem(err);
    r->max_rows = max_rows ? max_rows : DEFAULT_ROWS;
    r->one = *c;
    r->one.n_layers = 1;
    ASSAY_GO(assay_pass_open(&r->pass, b, c, r->max_rows, err));
    ASSAY_GO(assay_kv_open(&r->kv, b, &r->one, kv, cache_bytes(&r->one, kv, r->max_rows), err));
    r->seqs = assay_calloc(r->max_rows, sizeof *r->seqs);
    r->pos = assay_mallocn(r->max_rows, sizeof *r->pos);
    r->pages = assay_mallocn(r->max_rows, sizeof *r->pages);
    r->is_long = assay_mallocn(r->max_rows, sizeof *r->is_long);
    const int64_t widths[] = {c->hidden_size, c->intermediate_size, c->n_heads * c->v_head_dim, c->expert_size, c->shared_size, c->kv_rank,
                              c->q_rank};
    int64_t widest = 0;
    for (size_t i = 0; i < ASSAY_LEN(widths); i++) widest = ASSAY_MAX(widest, widths[i]);
    r->pass.tapped = assay_mallocn(r->max_rows, (size_t)widest * sizeof(float));
    if (!r->seqs || !r->pos || !r->pages || !r->is_long || !r->pass.tapped) s = assay_nomem(err);
out:
    if (s == ASSAY_OK)
        *out = r;
    else
        assay_layer_runner_close(r);
    return s;
}

static void release_all(assay_layer_runner *r, size_t n) {
    for (size_t i = 0; i < n; i++)
        assay_seq_release(r->kv, &r->seqs[i]);
}

void assay_layer_runner_close(assay_layer_runner *r) {
    if (!r) return;
    assay_kv_close(r->kv);
    assay_pass_close(&r->pass);
    assay_free(r->seqs);
    assay_free(r->pos);
    assay_free(r->pages);
    assay_free(r->is_long);
    assay_free(r);
}

/* What a run works on. */
typedef struct walk {
    const assay_block *block;
    int64_t layer;
    float *y;
    const float *x;
} walk;

/* Runs the n_rows rows that pos, pages and is_long describe; they begin at row `first` of the whole. */
static assay_status run_rows(assay_layer_runner *r, const walk *w, size_t first, size_t n_rows, assay_err *err) {
    assay_pass *p = &r->pass;
    size_t hidden = (size_t)r->one.hidden_size;
    assay_row_set rows = {n_rows, r->pos, r->pages, r->is_long, p->buf[ASSAY_BUF_X], p->buf[ASSAY_BUF_H]};
    assay_buf_write(p->backend, rows.x, 0, w->x + first * hidden, n_rows * hidden * sizeof(float));
    ASSAY_TRY(assay_pass_layer(p, w->block, r->kv, w->layer, 0, &rows, NULL, err));
    if (w->y && !p->stopped) assay_buf_read(p->backend, w->y + first * hidden, rows.x, 0, n_rows * hidden * sizeof(float));
    return ASSAY_OK;
}

/* One long sequence, piece after piece. */
static assay_status run_long(assay_layer_runner *r, const walk *w, size_t first, size_t n, assay_err *err) {
    assay_status s;
    ASSAY_GO(assay_seq_extend(r->kv, &r->seqs[0], n, err));
    for (size_t done = 0; done < n;) {
        size_t m = ASSAY_MIN(n - done, r->max_rows);
        for (size_t i = 0; i < m; i++) {
            r->pos[i] = (int32_t)(done + i);
            r->pages[i] = r->seqs[0].pages;
            r->is_long[i] = assay_config_is_long(&r->one, n);
        }
        ASSAY_GO(run_rows(r, w, first + done, m, err));
        done += m;
        r->seqs[0].n = done;
    }
out:
    release_all(r, 1);
    return s;
}

/* As many whole sequences as one piece takes; *n_taken of them. */
static assay_status run_short(assay_layer_runner *r, const walk *w, size_t first, const int32_t *lengths, size_t n_seqs, size_t *n_taken,
                              assay_err *err) {
    assay_status s = ASSAY_OK;
    size_t rows = 0, k = 0;
    for (; k < n_seqs && rows + (size_t)lengths[k] <= r->max_rows && k < r->max_rows; k++) {
        ASSAY_GO(assay_seq_extend(r->kv, &r->seqs[k], (size_t)lengths[k], err));
        for (int32_t i = 0; i < lengths[k]; i++, rows++) {
            r->pos[rows] = i;
            r->pages[rows] = r->seqs[k].pages;
            r->is_long[rows] = assay_config_is_long(&r->one, (size_t)lengths[k]);
        }
    }
    s = run_rows(r, w, first, rows, err);
    *n_taken = k;
out:
    release_all(r, ASSAY_MIN(k + 1, r->max_rows));
    return s;
}

assay_status assay_layer_run(assay_layer_runner *r, const assay_block *block, int64_t layer, float *y, const float *x,
                             const int32_t *lengths, size_t n_seqs, const assay_taps *taps, assay_err *err) {
    walk w = {block, layer, y, x};
    assay_status s = ASSAY_OK;
    size_t first = 0;
    r->pass.taps = taps;
    for (size_t i = 0; i < n_seqs && s == ASSAY_OK;) {
        size_t taken = 1, n = (size_t)lengths[i];
        s = n > r->max_rows ? run_long(r, &w, first, n, err) : run_short(r, &w, first, lengths + i, n_seqs - i, &taken, err);
        for (size_t k = 0; k < taken; k++)
            first += (size_t)lengths[i + k];
        i += taken;
    }
    r->pass.taps = NULL;
    return s;
}
