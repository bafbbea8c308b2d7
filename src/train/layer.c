/* layer.c: see layer.h.
 *
 *   h  = norm(x)                    kept on the tape: q, k, v (rotated), before their head norms where there are some,
 *   q, k, v = h W + b                                 a and the logarithms of the softmaxes' sums, x2, gate, up
 *   a  = attention(q, k, v)         made again: h, the second norm's output, the gated activations, the scores
 *   x2 = x + a Wo
 *   y  = x2 + (fn(n Wg) * n Wu) Wd,  n = norm(x2)
 *
 * A weight is stored [out][in], so y = x W^T, dx = dy W and dW += dy^T x. */
#include "train/layer.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "train/attention.h"
#include "train/point.h"

typedef enum part {
    /* the tape */
    PART_Q,
    PART_K,
    PART_V,
    PART_Q_RAW, /* before the head norms */
    PART_K_RAW,
    PART_A,
    PART_LOG,
    PART_X2,
    PART_GATE,
    PART_UP,
    /* working memory */
    PART_H,
    PART_FFN, /* gated activations */
    PART_D_FFN,
    PART_DX2,
    PART_DA,
    PART_DQ,
    PART_DK,
    PART_DV,
    PART_INV, /* of norms */
    PART_COUNT
} part;

struct assay_tape {
    const assay_config *config; /* borrowed */
    size_t hidden, ffn, q, kv, head, n_heads, n_kv;
    float eps;
    int n_threads;
    bool bf16;
    float *inv_freq;             /* [head / 2] */
    float *angles;               /* [n_angles][head]: cosines, sines */
    size_t n_angles;
    int32_t *pos, *lengths;      /* [rows], [sequences] */
    size_t pos_cap, lengths_cap;
    float *part[PART_COUNT];
    size_t cap[PART_COUNT];      /* floats */
    float *scratch;
    size_t scratch_cap;
    size_t rows, n_seqs, max_length, window; /* of the last forward pass; rows 0: none */
};

static void part_widths(size_t width[PART_COUNT], const assay_config *c) {
    size_t hidden = (size_t)c->hidden_size, ffn = (size_t)c->intermediate_size, heads = (size_t)c->n_heads;
    size_t q = (size_t)(c->n_heads * c->head_dim), kv = (size_t)(c->n_kv_heads * c->head_dim);
    bool raw = c->arch->qk_norm;
    const size_t widths[PART_COUNT] = {
        [PART_Q] = q,          [PART_K] = kv,      [PART_V] = kv,         [PART_Q_RAW] = raw ? q : 0,
        [PART_A] = q,          [PART_LOG] = heads, [PART_X2] = hidden,    [PART_K_RAW] = raw ? kv : 0,
        [PART_GATE] = ffn,     [PART_UP] = ffn,    [PART_H] = hidden,     [PART_FFN] = ffn,
        [PART_D_FFN] = ffn,    [PART_DA] = q,      [PART_DX2] = hidden,   [PART_DQ] = q,
        [PART_DK] = kv,        [PART_DV] = kv,     [PART_INV] = heads};
    memcpy(width, widths, sizeof widths);
}

static assay_attention attention_of(const assay_tape *t) {
    return (assay_attention){.n_heads = t->n_heads,
                             .n_kv_heads = t->n_kv,
                             .head_dim = t->head,
                             .window = t->window,
                             .lengths = t->lengths,
                             .n_seqs = t->n_seqs,
                             .q = t->part[PART_Q],
                             .k = t->part[PART_K],
                             .v = t->part[PART_V],
                             .n_threads = t->n_threads};
}

double assay_tape_bytes(const assay_config *c, size_t n_rows, size_t max_length, int n_threads) {
    size_t width[PART_COUNT], sum = 0;
    int threads = n_threads > 0 ? n_threads : assay_n_cores();
    assay_attention t = {.head_dim = (size_t)c->head_dim, .n_threads = threads};
    part_widths(width, c);
    for (int i = 0; i < PART_COUNT; i++) sum += width[i];
    return sizeof(float) * ((double)n_rows * (double)sum + (double)max_length * (double)c->head_dim +
                            (double)assay_attention_scratch(&t, max_length));
}

/* What of the architecture the backward pass does not know; NULL when it knows all. */
static const char *unknown_part(const assay_config *c) {
    const assay_arch *a = c->arch;
    static const unsigned known = ASSAY_LAYOUT_LLAMA | ASSAY_LAYOUT_PHI3; /* a norm before each block, projections separate or fused */
    if (c->n_experts) return "mixtures of experts";
    if (c->kv_rank) return "latent attention";
    if (!(a->layout & known)) return "its norms or its projections";
    if (a->norm != ASSAY_NORM_RMS || a->ungated || c->parallel_residual) return "its norms or its blocks";
    if (c->residual_scale != 1 || c->attention_soft_cap > 0 || c->logit_soft_cap > 0 || c->logit_scale != 1 ||
        c->embedding_scale != 1)
        return "its multipliers or caps";
    if (fabs(c->attention_scale * sqrt((double)c->head_dim) - 1) > 1e-9) return "its scale of scores";
    if (c->rotary_dim != c->head_dim || c->rope.scale != 1 || c->rope.kind == ASSAY_ROPE_DYNAMIC || c->rope.kind == ASSAY_ROPE_LONGROPE)
        return "its rotary positions";
    for (int64_t l = 0; l < c->n_layers; l++)
        if (c->layer[l] & ASSAY_LAYER_NO_ROPE) return "layers without positions";
    return NULL;
}

assay_status assay_tape_check(const assay_config *c, assay_err *err) {
    const char *what = unknown_part(c);
    if (!what) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has no backward pass here (%s)", c->architecture, what);
}

assay_status assay_tape_open(assay_tape **out, const assay_config *c, int n_threads, assay_err *err) {
    *out = NULL;
    ASSAY_TRY(assay_tape_check(c, err));
    assay_tape *t = assay_calloc(1, sizeof *t);
    if (!t) return assay_nomem(err);
    t->config = c;
    t->hidden = (size_t)c->hidden_size;
    t->ffn = (size_t)c->intermediate_size;
    t->head = (size_t)c->head_dim;
    t->n_heads = (size_t)c->n_heads;
    t->n_kv = (size_t)c->n_kv_heads;
    t->q = t->n_heads * t->head;
    t->kv = t->n_kv * t->head;
    t->eps = (float)c->rms_norm_eps;
    t->n_threads = n_threads > 0 ? n_threads : assay_n_cores();
    t->inv_freq = assay_mallocn(t->head / 2, sizeof *t->inv_freq);
    if (!t->inv_freq) {
        assay_tape_close(t);
        return assay_nomem(err);
    }
    assay_rope_frequencies(t->inv_freq, c);
    *out = t;
    return ASSAY_OK;
}

void assay_tape_use_bf16(assay_tape *t) {
    t->bf16 = true;
}

void assay_tape_close(assay_tape *t) {
    if (!t) return;
    for (int i = 0; i < PART_COUNT; i++) assay_free_aligned(t->part[i]);
    assay_free_aligned(t->scratch);
    assay_free(t->inv_freq);
    assay_free(t->angles);
    assay_free(t->pos);
    assay_free(t->lengths);
    assay_free(t);
}

/* --- memory of a pass --- */

/* At least n * width floats; what was there is lost. */
static assay_status reserve(float **p, size_t *cap, size_t n, size_t width, assay_err *err) {
    size_t floats, bytes;
    if (!assay_mul_size(&floats, n, width) || !assay_mul_size(&bytes, floats, sizeof **p)) return assay_nomem(err);
    if (floats <= *cap) return ASSAY_OK;
    assay_free_aligned(*p);
    *cap = 0;
    *p = assay_malloc_aligned(bytes);
    if (!*p) return assay_nomem(err);
    *cap = floats;
    return ASSAY_OK;
}

/* Angles as the backend makes them: in double from the float frequency, rounded once. */
static assay_status reserve_angles(assay_tape *t, size_t n, assay_err *err) {
    size_t half = t->head / 2;
    if (n <= t->n_angles) return ASSAY_OK;
    float *angles = assay_reallocn(t->angles, n, t->head * sizeof *angles);
    if (!angles) return assay_nomem(err);
    t->angles = angles;
    for (; t->n_angles < n; t->n_angles++)
        for (size_t i = 0; i < half; i++) {
            double angle = (double)t->n_angles * (double)t->inv_freq[i];
            t->angles[t->n_angles * t->head + i] = (float)cos(angle);
            t->angles[t->n_angles * t->head + half + i] = (float)sin(angle);
        }
    return ASSAY_OK;
}

static assay_status begin(assay_tape *t, int64_t layer, const int32_t *lengths, size_t n_seqs, assay_err *err) {
    size_t width[PART_COUNT], rows = 0, longest = 0;
    for (size_t i = 0; i < n_seqs; i++) {
        if (lengths[i] < 1) return assay_fail(err, ASSAY_EINPUT, "sequence %zu of the batch has no tokens", i);
        rows += (size_t)lengths[i];
        longest = ASSAY_MAX(longest, (size_t)lengths[i]);
    }
    t->rows = 0;
    t->window = (size_t)assay_config_window(t->config, layer);
    part_widths(width, t->config);
    for (int i = 0; i < PART_COUNT; i++) ASSAY_TRY(reserve(&t->part[i], &t->cap[i], rows, width[i], err));
    ASSAY_TRY(assay_grow(&t->pos, &t->pos_cap, rows, sizeof *t->pos, err));
    ASSAY_TRY(assay_grow(&t->lengths, &t->lengths_cap, n_seqs, sizeof *t->lengths, err));
    ASSAY_TRY(reserve_angles(t, longest, err));
    for (size_t i = 0, row = 0; i < n_seqs; i++) {
        t->lengths[i] = lengths[i];
        for (int32_t p = 0; p < lengths[i]; p++) t->pos[row++] = p;
    }
    t->n_seqs = n_seqs;
    t->max_length = longest;
    assay_attention a = attention_of(t);
    ASSAY_TRY(reserve(&t->scratch, &t->scratch_cap, assay_attention_scratch(&a, longest), 1, err));
    t->rows = rows;
    return ASSAY_OK;
}

/* Fused projections are the separate ones, rows behind rows. */
static const struct {
    assay_tensor_role part, whole;
} FUSED[] = {{ASSAY_ROLE_Q, ASSAY_ROLE_QKV},
             {ASSAY_ROLE_K, ASSAY_ROLE_QKV},
             {ASSAY_ROLE_V, ASSAY_ROLE_QKV},
             {ASSAY_ROLE_GATE, ASSAY_ROLE_GATE_UP},
             {ASSAY_ROLE_UP, ASSAY_ROLE_GATE_UP}};

/* Where a part's weights begin in the whole. */
static size_t part_begin(const assay_tape *t, assay_tensor_role role) {
    size_t row = role == ASSAY_ROLE_K ? t->q : role == ASSAY_ROLE_V ? t->q + t->kv : role == ASSAY_ROLE_UP ? t->ffn : 0;
    return row * t->hidden;
}

static assay_params take_apart(const assay_tape *t, const assay_params *w) {
    assay_params p = *w;
    for (size_t i = 0; i < ASSAY_LEN(FUSED); i++)
        if (w->w[FUSED[i].whole]) p.w[FUSED[i].part] = w->w[FUSED[i].whole] + part_begin(t, FUSED[i].part);
    return p;
}

static assay_grads take_grads_apart(const assay_tape *t, const assay_grads *g) {
    assay_grads p = *g;
    for (size_t i = 0; i < ASSAY_LEN(FUSED); i++)
        if (g->w[FUSED[i].whole]) p.w[FUSED[i].part] = g->w[FUSED[i].whole] + part_begin(t, FUSED[i].part);
    return p;
}

static assay_status check_params(const assay_tape *t, const assay_params *w, assay_err *err) {
    static const assay_tensor_role needed[] = {ASSAY_ROLE_ATTN_NORM, ASSAY_ROLE_Q,    ASSAY_ROLE_K,  ASSAY_ROLE_V,   ASSAY_ROLE_O,
                                               ASSAY_ROLE_MLP_NORM,  ASSAY_ROLE_GATE, ASSAY_ROLE_UP, ASSAY_ROLE_DOWN};
    bool complete = !t->config->arch->qk_norm || (w->w[ASSAY_ROLE_Q_NORM] && w->w[ASSAY_ROLE_K_NORM]);
    for (size_t i = 0; i < ASSAY_LEN(needed); i++) complete = complete && w->w[needed[i]];
    return complete ? ASSAY_OK : assay_fail(err, ASSAY_EINTERNAL, "a decoder layer was given without one of its matrices or norms");
}

/* --- products --- */

typedef assay_status (*gemm_fn)(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb, bool tb, size_t m,
                                size_t n, size_t k, bool beta, int n_threads, assay_err *err);
static gemm_fn product(const assay_tape *t) {
    return t->bf16 ? assay_gemm_bf16 : assay_gemm;
}

/* y = x W^T + b; W [out][in] */
static assay_status project(const assay_tape *t, float *y, const float *x, const assay_params *w, assay_tensor_role role,
                            assay_tensor_role bias, size_t out, size_t in, assay_err *err) {
    ASSAY_TRY(product(t)(y, out, x, in, false, w->w[role], in, true, t->rows, out, in, false, t->n_threads, err));
    assay_bias_add(y, w->w[bias], t->rows, out, t->n_threads);
    return ASSAY_OK;
}

/* dW += dy^T x, db += the rows of dy, where wanted */
static assay_status weight_grads(const assay_tape *t, const assay_grads *g, const float *dy, const float *x, assay_tensor_role role,
                                 assay_tensor_role bias, size_t out, size_t in, assay_err *err) {
    assay_bias_sum(g->w[bias], dy, t->rows, out, t->n_threads);
    if (!g->w[role]) return ASSAY_OK;
    return product(t)(g->w[role], in, dy, out, true, x, in, false, out, in, t->rows, true, t->n_threads, err);
}

/* dx = (add ? dx : 0) + dy W */
static assay_status input_grad(const assay_tape *t, float *dx, const float *dy, const float *w, size_t out, size_t in, bool add,
                               assay_err *err) {
    return product(t)(dx, in, dy, out, false, w, in, false, t->rows, in, out, add, t->n_threads, err);
}

/* --- forward --- */

/* Head norms where there are some, then the rotation: x [rows][n_heads][head]. */
static void place(const assay_tape *t, float *x, const float *raw, const float *norm, size_t n_heads) {
    if (norm) assay_norm_forward(x, raw, norm, t->rows * n_heads, t->head, t->eps, t->n_threads);
    assay_turn(x, t->angles, t->pos, t->rows, n_heads, t->head / 2, 1, t->n_threads);
}

static assay_status attend(assay_tape *t, const assay_params *w, const float *x, assay_err *err) {
    float **p = t->part, *q_raw = t->config->arch->qk_norm ? p[PART_Q_RAW] : p[PART_Q];
    float *k_raw = t->config->arch->qk_norm ? p[PART_K_RAW] : p[PART_K];
    assay_norm_forward(p[PART_H], x, w->w[ASSAY_ROLE_ATTN_NORM], t->rows, t->hidden, t->eps, t->n_threads);
    ASSAY_TRY(project(t, q_raw, p[PART_H], w, ASSAY_ROLE_Q, ASSAY_ROLE_Q_BIAS, t->q, t->hidden, err));
    ASSAY_TRY(project(t, k_raw, p[PART_H], w, ASSAY_ROLE_K, ASSAY_ROLE_K_BIAS, t->kv, t->hidden, err));
    ASSAY_TRY(project(t, p[PART_V], p[PART_H], w, ASSAY_ROLE_V, ASSAY_ROLE_V_BIAS, t->kv, t->hidden, err));
    place(t, p[PART_Q], q_raw, w->w[ASSAY_ROLE_Q_NORM], t->n_heads);
    place(t, p[PART_K], k_raw, w->w[ASSAY_ROLE_K_NORM], t->n_kv);
    assay_attention a = attention_of(t);
    ASSAY_TRY(assay_attention_forward(p[PART_A], p[PART_LOG], &a, t->scratch, t->max_length, err));
    ASSAY_TRY(project(t, p[PART_X2], p[PART_A], w, ASSAY_ROLE_O, ASSAY_ROLE_O_BIAS, t->hidden, t->q, err));
    assay_sum(p[PART_X2], p[PART_X2], x, t->rows * t->hidden, t->n_threads);
    return ASSAY_OK;
}

static assay_status feed_forward(float *y, assay_tape *t, const assay_params *w, assay_err *err) {
    float **p = t->part;
    assay_norm_forward(p[PART_H], p[PART_X2], w->w[ASSAY_ROLE_MLP_NORM], t->rows, t->hidden, t->eps, t->n_threads);
    ASSAY_TRY(project(t, p[PART_GATE], p[PART_H], w, ASSAY_ROLE_GATE, ASSAY_ROLE_GATE_BIAS, t->ffn, t->hidden, err));
    ASSAY_TRY(project(t, p[PART_UP], p[PART_H], w, ASSAY_ROLE_UP, ASSAY_ROLE_UP_BIAS, t->ffn, t->hidden, err));
    if (!y) return ASSAY_OK;
    assay_gate_forward(p[PART_FFN], p[PART_GATE], p[PART_UP], t->rows * t->ffn, (assay_gate_fn)t->config->act, t->n_threads);
    ASSAY_TRY(project(t, y, p[PART_FFN], w, ASSAY_ROLE_DOWN, ASSAY_ROLE_DOWN_BIAS, t->hidden, t->ffn, err));
    assay_sum(y, y, p[PART_X2], t->rows * t->hidden, t->n_threads);
    return ASSAY_OK;
}

assay_status assay_tape_forward(float *y, assay_tape *t, int64_t layer, const assay_params *w, const float *x, const int32_t *lengths,
                                size_t n_seqs, assay_err *err) {
    assay_params p = take_apart(t, w);
    ASSAY_TRY(check_params(t, &p, err));
    ASSAY_TRY(begin(t, layer, lengths, n_seqs, err));
    ASSAY_TRY(attend(t, &p, x, err));
    return feed_forward(y, t, &p, err);
}

/* --- backward --- */

/* What of the layer has to be walked. */
typedef struct reach {
    bool input;     /* dx or the first norm's gradient */
    bool attention; /* anything before the scores */
    bool middle;    /* anything before x2 */
    bool norm;      /* anything before gate and up */
} reach;

static reach reach_of(const float *dx, const assay_grads *g) {
    static const assay_tensor_role before_scores[] = {ASSAY_ROLE_Q,      ASSAY_ROLE_Q_BIAS, ASSAY_ROLE_K,      ASSAY_ROLE_K_BIAS,
                                                      ASSAY_ROLE_V,      ASSAY_ROLE_V_BIAS, ASSAY_ROLE_Q_NORM, ASSAY_ROLE_K_NORM};
    reach r = {.input = dx || g->w[ASSAY_ROLE_ATTN_NORM]};
    r.attention = r.input;
    for (size_t i = 0; i < ASSAY_LEN(before_scores); i++) r.attention = r.attention || g->w[before_scores[i]];
    r.middle = r.attention || g->w[ASSAY_ROLE_O] || g->w[ASSAY_ROLE_O_BIAS];
    r.norm = r.middle || g->w[ASSAY_ROLE_MLP_NORM];
    return r;
}

/* From dy to the gradient of x2 in PART_DX2. */
static assay_status mlp_back(assay_tape *t, const assay_grads *g, const assay_params *w, const float *dy, const reach *r,
                             assay_err *err) {
    float **p = t->part, *d_gate = p[PART_FFN], *d_up = p[PART_D_FFN];
    size_t n = t->rows * t->ffn;
    if (g->w[ASSAY_ROLE_DOWN])
        assay_gate_forward(p[PART_FFN], p[PART_GATE], p[PART_UP], n, (assay_gate_fn)t->config->act, t->n_threads);
    ASSAY_TRY(weight_grads(t, g, dy, p[PART_FFN], ASSAY_ROLE_DOWN, ASSAY_ROLE_DOWN_BIAS, t->hidden, t->ffn, err));
    ASSAY_TRY(input_grad(t, p[PART_D_FFN], dy, w->w[ASSAY_ROLE_DOWN], t->hidden, t->ffn, false, err));
    assay_gate_backward(d_gate, d_up, p[PART_D_FFN], p[PART_GATE], p[PART_UP], n, (assay_gate_fn)t->config->act, t->n_threads);
    assay_norm_forward(p[PART_H], p[PART_X2], w->w[ASSAY_ROLE_MLP_NORM], t->rows, t->hidden, t->eps, t->n_threads);
    ASSAY_TRY(weight_grads(t, g, d_gate, p[PART_H], ASSAY_ROLE_GATE, ASSAY_ROLE_GATE_BIAS, t->ffn, t->hidden, err));
    ASSAY_TRY(weight_grads(t, g, d_up, p[PART_H], ASSAY_ROLE_UP, ASSAY_ROLE_UP_BIAS, t->ffn, t->hidden, err));
    if (!r->norm) return ASSAY_OK;
    ASSAY_TRY(input_grad(t, p[PART_H], d_gate, w->w[ASSAY_ROLE_GATE], t->ffn, t->hidden, false, err));
    ASSAY_TRY(input_grad(t, p[PART_H], d_up, w->w[ASSAY_ROLE_UP], t->ffn, t->hidden, true, err));
    assay_norm_backward(r->middle ? p[PART_DX2] : NULL, g->w[ASSAY_ROLE_MLP_NORM], dy, p[PART_H], p[PART_X2],
                        w->w[ASSAY_ROLE_MLP_NORM], p[PART_INV], t->rows, t->hidden, t->eps, t->n_threads);
    return ASSAY_OK;
}

/* Back through the rotation and the head norm, in place. */
static void place_back(assay_tape *t, float *dx, float *d_norm, const float *raw, const float *norm, size_t n_heads) {
    assay_turn(dx, t->angles, t->pos, t->rows, n_heads, t->head / 2, -1, t->n_threads);
    if (norm)
        assay_norm_backward(dx, d_norm, NULL, dx, raw, norm, t->part[PART_INV], t->rows * n_heads, t->head, t->eps, t->n_threads);
}

/* From the gradient of x2 to dx. */
static assay_status attention_back(float *dx, assay_tape *t, const assay_grads *g, const assay_params *w, const float *x,
                                   const reach *r, assay_err *err) {
    float **p = t->part;
    assay_attention a = attention_of(t);
    ASSAY_TRY(weight_grads(t, g, p[PART_DX2], p[PART_A], ASSAY_ROLE_O, ASSAY_ROLE_O_BIAS, t->hidden, t->q, err));
    if (!r->attention) return ASSAY_OK;
    ASSAY_TRY(input_grad(t, p[PART_DA], p[PART_DX2], w->w[ASSAY_ROLE_O], t->hidden, t->q, false, err));
    ASSAY_TRY(assay_attention_backward(p[PART_DQ], p[PART_DK], p[PART_DV], &a, p[PART_A], p[PART_LOG], p[PART_DA], t->scratch,
                                       t->max_length, err));
    place_back(t, p[PART_DQ], g->w[ASSAY_ROLE_Q_NORM], p[PART_Q_RAW], w->w[ASSAY_ROLE_Q_NORM], t->n_heads);
    place_back(t, p[PART_DK], g->w[ASSAY_ROLE_K_NORM], p[PART_K_RAW], w->w[ASSAY_ROLE_K_NORM], t->n_kv);
    assay_norm_forward(p[PART_H], x, w->w[ASSAY_ROLE_ATTN_NORM], t->rows, t->hidden, t->eps, t->n_threads);
    ASSAY_TRY(weight_grads(t, g, p[PART_DQ], p[PART_H], ASSAY_ROLE_Q, ASSAY_ROLE_Q_BIAS, t->q, t->hidden, err));
    ASSAY_TRY(weight_grads(t, g, p[PART_DK], p[PART_H], ASSAY_ROLE_K, ASSAY_ROLE_K_BIAS, t->kv, t->hidden, err));
    ASSAY_TRY(weight_grads(t, g, p[PART_DV], p[PART_H], ASSAY_ROLE_V, ASSAY_ROLE_V_BIAS, t->kv, t->hidden, err));
    if (!r->input) return ASSAY_OK;
    ASSAY_TRY(input_grad(t, p[PART_H], p[PART_DQ], w->w[ASSAY_ROLE_Q], t->q, t->hidden, false, err));
    ASSAY_TRY(input_grad(t, p[PART_H], p[PART_DK], w->w[ASSAY_ROLE_K], t->kv, t->hidden, true, err));
    ASSAY_TRY(input_grad(t, p[PART_H], p[PART_DV], w->w[ASSAY_ROLE_V], t->kv, t->hidden, true, err));
    assay_norm_backward(dx, g->w[ASSAY_ROLE_ATTN_NORM], p[PART_DX2], p[PART_H], x, w->w[ASSAY_ROLE_ATTN_NORM], p[PART_INV], t->rows,
                        t->hidden, t->eps, t->n_threads);
    return ASSAY_OK;
}

assay_status assay_tape_backward(float *dx, const assay_grads *g, assay_tape *t, const assay_params *w, const float *x, const float *dy,
                                 assay_err *err) {
    assay_params p = take_apart(t, w);
    assay_grads q = take_grads_apart(t, g);
    reach r = reach_of(dx, &q);
    if (t->rows == 0) return assay_fail(err, ASSAY_EINTERNAL, "a backward pass without a forward pass before it");
    assay_status s = mlp_back(t, &q, &p, dy, &r, err);
    if (s == ASSAY_OK && r.middle) s = attention_back(dx, t, &q, &p, x, &r, err);
    t->rows = 0;
    return s;
}
