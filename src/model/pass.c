/* pass.c: one decoder layer: attention and feed-forward block with their norms, written once against backend.h.
 *
 *   h = norm(x);  q, k, v = h W + b, together or apart, or by way of latents
 *   q, k norms, rotation by position;  k, v -> cache;  a = attention(q, cache)
 *   x += s norm(a Wo)
 *   x += s norm(mlp(norm(x)))        mlp: down(fn(gate h) * up h), down(fn(up h)), or a mixture of experts (experts.c)
 *
 * What an architecture does not have is not in its block, and then not computed: nearly all differences between architectures are
 * weights that are there or not. Parallel blocks add what attention gave together with the MLP's, which starts from the same x.
 *
 * LATENT ATTENTION (DeepSeek-V2) is run absorbed: the cache has the latents, not the keys and values that heads make of them. A position
 * is [turning part | latent], the same for all heads and both key and value; a head's query is [turning part | W_k^T q], W_k being its
 * rows of kv_b that make keys, so that the scores are those of q and W_k latent; and what attention gives for the latents is made values
 * by its other rows. Turning parts have halves together instead of interleaved, which scores do not see.
 *
 * Whoever wants to see what goes into the matrices (calibration) gives taps: they are called between the operations with a copy of the
 * input rows, and can end the run early. Without taps nothing is copied and nothing can fail. */
#include "model/pass.h"
#include <string.h>
#include "base/mem.h"

/* Of the norms of latents, whatever rms_norm_eps is (transformers' DeepseekV2Attention). */
#define LATENT_EPS 1e-6f

/* Floats per row of each buffer; 0 where the architecture does not use it. */
static void buffer_widths(size_t width[ASSAY_BUF_LAYER_COUNT], const assay_config *c) {
    const assay_kv_shape s = assay_config_kv_shape(c);
    size_t hidden = (size_t)c->hidden_size, q = (size_t)c->n_heads * (size_t)s.dim, kv = (size_t)s.heads * (size_t)s.dim;
    size_t ffn = (size_t)ASSAY_MAX(c->intermediate_size, ASSAY_MAX(c->expert_size, c->shared_size));
    size_t heads = (size_t)(c->n_heads * ASSAY_MAX(c->head_dim, c->v_head_dim)); /* latent: projected queries; what goes into O */
    size_t fused = ASSAY_MAX(ASSAY_MAX(q + 2 * kv, 2 * ffn), heads);
    const size_t widths[ASSAY_BUF_LAYER_COUNT] = {[ASSAY_BUF_X] = hidden,
                                                  [ASSAY_BUF_X_OUT] = hidden,
                                                  [ASSAY_BUF_H] = hidden,
                                                  [ASSAY_BUF_H_OUT] = hidden,
                                                  [ASSAY_BUF_Q] = q,
                                                  [ASSAY_BUF_K] = kv,
                                                  [ASSAY_BUF_V] = s.shared ? 0 : kv,
                                                  [ASSAY_BUF_A] = q,
                                                  [ASSAY_BUF_GATE] = ffn,
                                                  [ASSAY_BUF_UP] = ffn,
                                                  [ASSAY_BUF_FUSED] = fused,
                                                  [ASSAY_BUF_LATENT] = (size_t)ASSAY_MAX(c->kv_rank, c->q_rank),
                                                  [ASSAY_BUF_ASIDE] = c->parallel_residual ? hidden : 0,
                                                  [ASSAY_BUF_ROUTE] = (size_t)c->n_experts,
                                                  [ASSAY_BUF_PICKED] = c->n_experts ? hidden : 0,
                                                  [ASSAY_BUF_MIXED] = c->n_experts ? hidden : 0};
    memcpy(width, widths, sizeof widths);
}

/* The rotations of layers that see all and of those that slide, of usual and of long texts. */
static assay_status open_turnings(assay_pass *p, const assay_config *c, assay_err *err) {
    for (int i = 0; i < 2; i++) {
        p->rope[i] = (assay_rope_source){c, i ? &c->rope_local : &c->rope};
        for (int is_long = 0; is_long < 2; is_long++) {
            float *f = assay_mallocn((size_t)c->rotary_dim / 2, sizeof *f);
            if (!f) return assay_nomem(err);
            p->inv_freq[i][is_long] = f;
            p->turning[i][is_long] = assay_rope_rotation(f, &p->rope[i], is_long);
        }
    }
    return ASSAY_OK;
}

assay_status assay_pass_open(assay_pass *p, assay_backend *b, const assay_config *c, size_t max_rows, assay_err *err) {
    size_t width[ASSAY_BUF_LAYER_COUNT];
    *p = (assay_pass){.backend = b, .config = c, .max_rows = max_rows};
    buffer_widths(width, c);
    for (int i = 0; i < ASSAY_BUF_LAYER_COUNT; i++) {
        size_t n;
        if (!assay_mul_size(&n, max_rows, width[i] * sizeof(float))) return assay_nomem(err);
        ASSAY_TRY(assay_buf_new(&p->buf[i], b, n, err));
    }
    ASSAY_TRY(open_turnings(p, c, err));
    p->out_pos = assay_mallocn(max_rows, sizeof *p->out_pos);
    p->out_pages = assay_mallocn(max_rows, sizeof *p->out_pages);
    p->out_long = assay_mallocn(max_rows, sizeof *p->out_long);
    if (!p->out_pos || !p->out_pages || !p->out_long) return assay_nomem(err);
    return c->n_experts ? assay_routing_open(&p->routing, c, max_rows, err) : ASSAY_OK;
}

void assay_pass_close(assay_pass *p) {
    for (int i = 0; i < ASSAY_BUF_LAYER_COUNT; i++)
        if (p->buf[i]) assay_buf_free(p->backend, p->buf[i]);
    for (int i = 0; i < 4; i++) assay_free(p->inv_freq[i / 2][i % 2]);
    assay_free(p->out_pos);
    assay_free(p->out_pages);
    assay_free(p->out_long);
    assay_free(p->tapped);
    assay_routing_close(&p->routing);
    *p = (assay_pass){0};
}

void assay_norm_run(assay_backend *b, const assay_config *c, assay_buf *y, const assay_buf *x, const assay_buf *weight,
                    const assay_buf *bias, size_t n_rows, size_t n) {
    if (c->arch->norm == ASSAY_NORM_LAYER)
        assay_op_layernorm(b, y, x, weight, bias, n_rows, n, (float)c->rms_norm_eps);
    else
        assay_op_rmsnorm(b, y, x, weight, n_rows, n, (float)c->rms_norm_eps);
}

assay_status assay_pass_tap(assay_pass *p, assay_tensor_role role, int expert, const assay_buf *x, size_t n_rows, size_t cols,
                            assay_err *err) {
    const assay_taps *t = p->taps;
    if (!t) return ASSAY_OK;
    if (t->roles & ASSAY_TAP(role)) {
        assay_buf_read(p->backend, p->tapped, x, 0, n_rows * cols * sizeof(float));
        ASSAY_TRY(t->fn(t->ctx, role, expert, p->tapped, n_rows, cols, err));
    }
    p->stopped = t->until == role && expert < 0;
    return ASSAY_OK;
}

/* Neighbours of equal mode share the rounding of the input; a mixed recipe may break the row. */
void assay_pass_project(assay_pass *p, const assay_projection *proj, int n_proj, const assay_buf *x, size_t n_rows) {
    assay_buf *y[3], *bias[3];
    assay_weight *w[3];
    for (int i = 0, n = 0; i < n_proj; i++) {
        w[n] = proj[i].w;
        y[n] = proj[i].y;
        bias[n] = proj[i].bias;
        n++;
        if (i + 1 < n_proj && assay_weight_mode(proj[i + 1].w) == assay_weight_mode(w[n - 1])) continue;
        assay_op_linear_multi(p->backend, y, w, bias, n, x, n_rows);
        n = 0;
    }
}

/* By position, neighbours whose texts turn alike together. turning: of usual texts, of long ones. */
static void rotate(assay_pass *p, assay_buf *x, const assay_row_set *r, const assay_turning turning[2], size_t n_heads, size_t head_dim) {
    for (size_t first = 0, end; first < r->n; first = end) {
        bool is_long = r->is_long && r->is_long[first];
        for (end = first + 1; end < r->n && (r->is_long && r->is_long[end]) == is_long;) end++;
        assay_op_rotate(p->backend, x, r->pos, first, end - first, (int)n_heads, (int)head_dim, &turning[is_long]);
    }
}

/* Norm of the heads where there is one, each on its own or all together, then rotation by position. */
static void place(assay_pass *p, assay_buf *x, const assay_buf *norm, const assay_row_set *r, int64_t layer, int64_t n_heads) {
    const assay_config *c = p->config;
    bool whole = c->arch->qk_norm == ASSAY_QK_NORM_WHOLE;
    if (norm)
        assay_op_rmsnorm(p->backend, x, x, norm, whole ? r->n : r->n * (size_t)n_heads,
                         (size_t)(whole ? n_heads * c->head_dim : c->head_dim), (float)c->rms_norm_eps);
    if (c->rope.kind == ASSAY_ROPE_NONE || (c->layer[layer] & ASSAY_LAYER_NO_ROPE)) return;
    rotate(p, x, r, p->turning[(c->layer[layer] & ASSAY_LAYER_SLIDES) != 0], (size_t)n_heads, (size_t)c->head_dim);
}

/* --- queries, keys and values --- */

/* q, k and v out of one projection's rows. */
static void take_apart(assay_pass *p, size_t n_rows) {
    const assay_config *c = p->config;
    size_t head = (size_t)c->head_dim, q = (size_t)c->n_heads * head, kv = (size_t)c->n_kv_heads * head;
    size_t group = (size_t)(c->n_heads / c->n_kv_heads) * head, row = q + 2 * kv;
    bool by_head = c->arch->heads_fused;
    const struct {
        assay_scratch y;
        size_t width, first, heads_first, heads_width;
    } parts[] = {{ASSAY_BUF_Q, q, 0, 0, group}, {ASSAY_BUF_K, kv, q, group, head}, {ASSAY_BUF_V, kv, q + kv, group + head, head}};
    for (size_t i = 0; i < ASSAY_LEN(parts); i++) {
        size_t width = by_head ? parts[i].heads_width : parts[i].width;
        assay_span to = {parts[i].width, 0, width, 1}, from = {row, by_head ? parts[i].heads_first : parts[i].first, group + 2 * head, 1};
        assay_op_copy(p->backend, p->buf[parts[i].y], to, p->buf[ASSAY_BUF_FUSED], from, n_rows, by_head ? (size_t)c->n_kv_heads : 1, width);
    }
}

/* The turning part of n_heads heads from `from` on, whose pairs are neighbours, to the beginning of heads in halves. */
static void copy_turning(assay_pass *p, assay_buf *dst, assay_span to, const assay_buf *src, assay_span from, size_t n_rows, size_t n_heads) {
    size_t half = (size_t)p->config->rotary_dim / 2;
    from.step = 2;
    assay_op_copy(p->backend, dst, to, src, from, n_rows, n_heads, half);
    from.first++;
    to.first += half;
    assay_op_copy(p->backend, dst, to, src, from, n_rows, n_heads, half);
}

/* What latent attention's cache holds of the rows of h. */
static assay_status latent_kv(assay_pass *p, const assay_block *block, const assay_row_set *r, const assay_buf *h, assay_err *err) {
    const assay_config *c = p->config;
    assay_backend *b = p->backend;
    size_t rank = (size_t)c->kv_rank, turn = (size_t)c->rotary_dim, all = rank + turn;
    assay_buf *raw = p->buf[ASSAY_BUF_FUSED], *latent = p->buf[ASSAY_BUF_LATENT], *k = p->buf[ASSAY_BUF_K];
    assay_op_linear(b, raw, block->matrix[ASSAY_ROLE_KV_A], NULL, h, r->n);
    copy_turning(p, k, (assay_span){all, 0, 0, 1}, raw, (assay_span){all, rank, 0, 1}, r->n, 1);
    rotate(p, k, r, p->turning[0], 1, all);
    assay_op_copy(b, latent, (assay_span){rank, 0, 0, 1}, raw, (assay_span){all, 0, 0, 1}, r->n, 1, rank);
    assay_op_rmsnorm(b, latent, latent, block->vector[ASSAY_ROLE_KV_A_NORM], r->n, rank, LATENT_EPS);
    ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_KV_B, -1, latent, r->n, rank, err));
    assay_op_copy(b, k, (assay_span){all, turn, 0, 1}, latent, (assay_span){rank, 0, 0, 1}, r->n, 1, rank);
    return ASSAY_OK;
}

/* And its queries. */
static assay_status latent_q(assay_pass *p, const assay_block *block, const assay_row_set *r, const assay_buf *h, assay_err *err) {
    const assay_config *c = p->config;
    assay_backend *b = p->backend;
    assay_buf *raw = p->buf[ASSAY_BUF_FUSED], *q = p->buf[ASSAY_BUF_Q], *low = p->buf[ASSAY_BUF_LATENT];
    size_t head = (size_t)c->head_dim, turn = (size_t)c->rotary_dim, nope = (size_t)c->nope_dim, n_heads = (size_t)c->n_heads,
           all = turn + (size_t)c->kv_rank;
    if (c->q_rank) {
        assay_op_linear(b, low, block->matrix[ASSAY_ROLE_Q_A], NULL, h, r->n);
        assay_op_rmsnorm(b, low, low, block->vector[ASSAY_ROLE_Q_A_NORM], r->n, (size_t)c->q_rank, LATENT_EPS);
        ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_Q_B, -1, low, r->n, (size_t)c->q_rank, err));
        if (p->stopped) return ASSAY_OK;
    }
    assay_op_linear(b, raw, block->matrix[c->q_rank ? ASSAY_ROLE_Q_B : ASSAY_ROLE_Q], NULL, c->q_rank ? low : h, r->n);
    const assay_span heads = {n_heads * head, 0, head, 1}, last = {n_heads * head, nope, head, 1};
    const assay_head_rows keys = {n_heads, nope + (size_t)c->v_head_dim, 0, nope, true};
    copy_turning(p, q, (assay_span){n_heads * all, 0, all, 1}, raw, last, r->n, n_heads);
    rotate(p, q, r, p->turning[0], n_heads, all);
    assay_op_linear_heads(b, q, (assay_span){n_heads * all, turn, all, 1}, block->matrix[ASSAY_ROLE_KV_B], &keys, raw, heads, r->n);
    return ASSAY_OK;
}

/* The heads' values of what attention gave for the latents. */
static void latent_values(assay_pass *p, const assay_block *block, assay_buf *y, const assay_buf *a, size_t n_rows) {
    const assay_config *c = p->config;
    size_t turn = (size_t)c->rotary_dim, all = turn + (size_t)c->kv_rank, value = (size_t)c->v_head_dim, nope = (size_t)c->nope_dim,
           n_heads = (size_t)c->n_heads;
    const assay_head_rows values = {n_heads, nope + value, nope, value, false};
    assay_op_linear_heads(p->backend, y, (assay_span){n_heads * value, 0, value, 1}, block->matrix[ASSAY_ROLE_KV_B], &values, a,
                          (assay_span){n_heads * all, turn, all, 1}, n_rows);
}

/* What a call of query_key_value is for; fused projections give all at any rate. */
typedef enum part { PART_KV, PART_Q, PART_ALL } part;

static assay_projection of(assay_pass *p, const assay_block *block, assay_tensor_role matrix, assay_tensor_role bias, assay_scratch y) {
    return (assay_projection){block->matrix[matrix], block->vector[bias], p->buf[y]};
}

static assay_status query_key_value(assay_pass *p, const assay_block *block, part which, const assay_row_set *r, const assay_buf *h,
                                    int64_t layer, assay_err *err) {
    const assay_config *c = p->config;
    if (c->kv_rank) {
        if (which != PART_Q) ASSAY_TRY(latent_kv(p, block, r, h, err));
        return which == PART_KV || p->stopped ? ASSAY_OK : latent_q(p, block, r, h, err);
    }
    const assay_projection qkv[] = {of(p, block, ASSAY_ROLE_Q, ASSAY_ROLE_Q_BIAS, ASSAY_BUF_Q),
                                    of(p, block, ASSAY_ROLE_K, ASSAY_ROLE_K_BIAS, ASSAY_BUF_K),
                                    of(p, block, ASSAY_ROLE_V, ASSAY_ROLE_V_BIAS, ASSAY_BUF_V)};
    if (block->matrix[ASSAY_ROLE_QKV]) {
        assay_op_linear(p->backend, p->buf[ASSAY_BUF_FUSED], block->matrix[ASSAY_ROLE_QKV], block->vector[ASSAY_ROLE_QKV_BIAS], h, r->n);
        take_apart(p, r->n);
    } else {
        assay_pass_project(p, which == PART_KV ? qkv + 1 : qkv, which == PART_ALL ? 3 : which == PART_KV ? 2 : 1, h, r->n);
    }
    if (which != PART_Q) place(p, p->buf[ASSAY_BUF_K], block->vector[ASSAY_ROLE_K_NORM], r, layer, c->n_kv_heads);
    if (which != PART_KV) place(p, p->buf[ASSAY_BUF_Q], block->vector[ASSAY_ROLE_Q_NORM], r, layer, c->n_heads);
    return ASSAY_OK;
}

/* --- the blocks --- */

/* The rows that a block starts from: normed into h, or x itself where no norm stands before it. */
static assay_buf *begin_block(assay_pass *p, const assay_block *block, const assay_row_set *r, assay_tensor_role norm, assay_tensor_role bias) {
    if (!block->vector[norm]) return r->x;
    assay_norm_run(p->backend, p->config, r->h, r->x, block->vector[norm], block->vector[bias], r->n, (size_t)p->config->hidden_size);
    return r->h;
}

/* x += s norm(y); y may be h. */
static void end_block(assay_pass *p, const assay_block *block, const assay_row_set *r, assay_buf *y, assay_tensor_role norm) {
    const assay_config *c = p->config;
    size_t n = r->n * (size_t)c->hidden_size;
    if (block->vector[norm])
        assay_norm_run(p->backend, c, y, y, block->vector[norm], NULL, r->n, (size_t)c->hidden_size);
    if (c->residual_scale != 1) assay_op_scale(p->backend, y, n, (float)c->residual_scale);
    assay_op_add(p->backend, r->x, y, n);
}

/* Copies the wanted rows of x and h beside; from here on r is those. */
static void keep_wanted(assay_pass *p, assay_row_set *r, const assay_wanted *wanted) {
    size_t hidden = (size_t)p->config->hidden_size;
    assay_op_gather_rows(p->backend, p->buf[ASSAY_BUF_X_OUT], r->x, wanted->rows, wanted->n, hidden);
    assay_op_gather_rows(p->backend, p->buf[ASSAY_BUF_H_OUT], r->h, wanted->rows, wanted->n, hidden);
    for (size_t i = 0; i < wanted->n; i++) {
        p->out_pos[i] = r->pos[wanted->rows[i]];
        p->out_pages[i] = r->pages[wanted->rows[i]];
        p->out_long[i] = r->is_long && r->is_long[wanted->rows[i]];
    }
    *r = (assay_row_set){wanted->n, p->out_pos, p->out_pages, p->out_long, p->buf[ASSAY_BUF_X_OUT], p->buf[ASSAY_BUF_H_OUT]};
}

/* What attention adds to x: added, or with parallel blocks left in ASIDE. r shrinks to the wanted rows. */
static assay_status attend(assay_pass *p, const assay_block *block, assay_kv *kv, int64_t layer, int64_t kv_layer, assay_row_set *r,
                           const assay_wanted *wanted, assay_err *err) {
    const assay_config *c = p->config;
    assay_backend *b = p->backend;
    const assay_kv_layer cache = assay_kv_get_layer(kv, kv_layer);
    const assay_kv_shape shape = assay_config_kv_shape(c);
    assay_buf *a = p->buf[ASSAY_BUF_A], *h = begin_block(p, block, r, ASSAY_ROLE_ATTN_NORM, ASSAY_ROLE_ATTN_NORM_BIAS);

    ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_Q, -1, h, r->n, (size_t)c->hidden_size, err));
    if (p->stopped) return ASSAY_OK;
    ASSAY_TRY(query_key_value(p, block, wanted ? PART_KV : PART_ALL, r, h, layer, err));
    if (p->stopped) return ASSAY_OK;
    assay_op_kv_store(b, &cache, p->buf[ASSAY_BUF_K], shape.shared ? NULL : p->buf[ASSAY_BUF_V], r->pages, r->pos, r->n, shape.heads,
                      shape.dim);
    if (wanted) {
        bool normed = h == r->h;
        keep_wanted(p, r, wanted);
        if (r->n == 0) return ASSAY_OK;
        h = normed ? r->h : r->x;
        ASSAY_TRY(query_key_value(p, block, PART_Q, r, h, layer, err));
    }
    assay_op_attention(b, a, p->buf[ASSAY_BUF_Q], &cache, r->pages, r->pos, r->n, (int)c->n_heads, shape.heads, shape.dim,
                       (float)c->attention_scale, assay_config_window(c, layer), (float)c->attention_soft_cap);
    if (c->kv_rank) {
        latent_values(p, block, p->buf[ASSAY_BUF_FUSED], a, r->n);
        a = p->buf[ASSAY_BUF_FUSED];
    }
    ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_O, -1, a, r->n, (size_t)(c->n_heads * c->v_head_dim), err));
    if (p->stopped) return ASSAY_OK;
    assay_buf *y = c->parallel_residual ? p->buf[ASSAY_BUF_ASIDE] : r->h;
    assay_op_linear(b, y, block->matrix[ASSAY_ROLE_O], block->vector[ASSAY_ROLE_O_BIAS], a, r->n);
    if (!c->parallel_residual) end_block(p, block, r, y, ASSAY_ROLE_POST_ATTN_NORM);
    return ASSAY_OK;
}

/* The gated activations of the rows of h in GATE. */
static void gate_up(assay_pass *p, const assay_block *block, const assay_buf *h, size_t n_rows) {
    const assay_config *c = p->config;
    assay_backend *b = p->backend;
    size_t ffn = (size_t)c->intermediate_size;
    assay_buf *gate = p->buf[ASSAY_BUF_GATE], *up = p->buf[ASSAY_BUF_UP], *fused = p->buf[ASSAY_BUF_FUSED];
    const assay_projection both[] = {of(p, block, ASSAY_ROLE_GATE, ASSAY_ROLE_GATE_BIAS, ASSAY_BUF_GATE),
                                     of(p, block, ASSAY_ROLE_UP, ASSAY_ROLE_UP_BIAS, ASSAY_BUF_UP)};
    if (block->matrix[ASSAY_ROLE_GATE_UP]) {
        const assay_span to = {ffn, 0, 0, 1};
        assay_op_linear(b, fused, block->matrix[ASSAY_ROLE_GATE_UP], NULL, h, n_rows);
        assay_op_copy(b, gate, to, fused, (assay_span){2 * ffn, 0, 0, 1}, n_rows, 1, ffn);
        assay_op_copy(b, up, to, fused, (assay_span){2 * ffn, ffn, 0, 1}, n_rows, 1, ffn);
    } else {
        assay_pass_project(p, both, c->arch->ungated ? 1 : 2, h, n_rows);
    }
    assay_op_gate(b, gate, gate, c->arch->ungated ? NULL : up, n_rows * ffn, (assay_gate_fn)c->act);
    if (c->down_hadamard) assay_op_hadamard(b, gate, n_rows, ffn, (size_t)c->down_hadamard);
}

/* x += mlp(norm(x)), and what attention left aside. */
static assay_status feed_forward(assay_pass *p, const assay_block *block, int64_t layer, const assay_row_set *r, assay_err *err) {
    const assay_config *c = p->config;
    assay_buf *h = begin_block(p, block, r, ASSAY_ROLE_MLP_NORM, ASSAY_ROLE_MLP_NORM_BIAS), *y = r->h;
    ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_GATE, -1, h, r->n, (size_t)c->hidden_size, err));
    if (p->stopped) return ASSAY_OK;
    if (c->layer[layer] & ASSAY_LAYER_EXPERTS) {
        ASSAY_TRY(assay_pass_experts(p, block, h, r->n, err));
        y = p->buf[ASSAY_BUF_MIXED];
    } else {
        gate_up(p, block, h, r->n);
        ASSAY_TRY(assay_pass_tap(p, ASSAY_ROLE_DOWN, -1, p->buf[ASSAY_BUF_GATE], r->n, (size_t)c->intermediate_size, err));
        if (!p->stopped)
            assay_op_linear(p->backend, y, block->matrix[ASSAY_ROLE_DOWN], block->vector[ASSAY_ROLE_DOWN_BIAS], p->buf[ASSAY_BUF_GATE], r->n);
    }
    if (p->stopped) return ASSAY_OK;
    if (c->parallel_residual) end_block(p, block, r, p->buf[ASSAY_BUF_ASIDE], ASSAY_ROLE_POST_ATTN_NORM);
    end_block(p, block, r, y, ASSAY_ROLE_POST_MLP_NORM);
    return ASSAY_OK;
}

assay_status assay_pass_layer(assay_pass *p, const assay_block *block, assay_kv *kv, int64_t layer, int64_t kv_layer, assay_row_set *r,
                              const assay_wanted *wanted, assay_err *err) {
    p->stopped = false;
    ASSAY_TRY(attend(p, block, kv, layer, kv_layer, r, wanted, err));
    if (p->stopped || r->n == 0) return ASSAY_OK;
    return feed_forward(p, block, layer, r, err);
}
