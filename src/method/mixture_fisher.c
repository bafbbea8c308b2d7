/* mixture_fisher.c: sensitivities from one backward pass, for models where a run per unit and candidate is too much.
 *
 * For a small change D of the weights KL(p_W || p_W+D) is 1/2 D' F D per token, with the Fisher matrix F = E[g g'], g the gradient of the
 * log-probability of a token drawn from the model itself. Rounding errors of different weights are nearly uncorrelated and centred, so the
 * diagonal of F is what counts:  kl ~ 1/2 sum_i F_ii D_i^2  (as in Kim et al. 2023, SqueezeLLM, section 4.1, there with the data's own
 * tokens). g is summed over a short piece of text; tokens drawn from the model make the cross terms vanish in expectation.
 *
 * Forward through the layers once, keeping what goes into each; tokens are drawn at the head; then layer by layer backwards, one layer's
 * float32 weights, gradients and diagonal in memory. Short pieces: more samples of the same cost. */
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"
#include "method/mixture_impl.h"
#include "model/sample.h"
#include "num/convert.h"
#include "train/head.h"
#include "train/layer.h"

#define PIECE          64   /* tokens */
#define DEFAULT_TOKENS 4096
#define HEAD_ROWS      64
#define SEED           20231

typedef struct fisher {
    assay_mixture *m;
    const assay_mixture_opts *o;
    int n_threads;
    assay_config config;
    assay_checkpoint *ckpt;
    assay_mixture_tokens tokens;
    int32_t *lengths; /* [n_pieces] */
    size_t n_pieces;
    float **x;  /* [n_layers + 1] */
    float *dx;  /* [n][hidden]: the gradient on its way down */
    assay_tape *tape;
    /* of the layer in work, by role */
    float *w[ASSAY_ROLE_COUNT], *g[ASSAY_ROLE_COUNT], *diagonal[ASSAY_ROLE_COUNT];
    size_t n_w[ASSAY_ROLE_COUNT];
    const assay_tensor *tensor[ASSAY_ROLE_COUNT];
} fisher;

/* --- opening --- */

static assay_status cut_pieces(fisher *f, assay_err *err) {
    size_t most = f->tokens.n / PIECE + f->tokens.n_seqs + 1;
    if (!(f->lengths = assay_mallocn(most, sizeof *f->lengths))) return assay_nomem(err);
    for (size_t i = 0; i < f->tokens.n_seqs; i++)
        for (int32_t left = f->tokens.lengths[i]; left > 0; left -= PIECE)
            f->lengths[f->n_pieces++] = ASSAY_MIN(left, PIECE);
    return ASSAY_OK;
}

static assay_status open_fisher(fisher *f, const char *model_dir, const assay_calibration *cal, assay_err *err) {
    ASSAY_TRY(assay_config_open(&f->config, model_dir, err));
    ASSAY_TRY(assay_checkpoint_open(&f->ckpt, model_dir, err));
    ASSAY_TRY(assay_mixture_take_tokens(&f->tokens, cal, f->o->max_tokens ? f->o->max_tokens : DEFAULT_TOKENS, err));
    ASSAY_TRY(cut_pieces(f, err));
    ASSAY_TRY(assay_tape_open(&f->tape, &f->config, f->n_threads, err));
    size_t n = f->tokens.n * (size_t)f->config.hidden_size;
    f->x = assay_calloc((size_t)f->config.n_layers + 1, sizeof *f->x);
    f->dx = assay_mallocn(n, sizeof *f->dx);
    if (!f->x || !f->dx) return assay_nomem(err);
    for (int64_t l = 0; l <= f->config.n_layers; l++)
        if (!(f->x[l] = assay_mallocn(n, sizeof(float)))) return assay_nomem(err);
    return ASSAY_OK;
}

static void drop_layer(fisher *f) {
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        assay_free(f->w[r]);
        assay_free(f->g[r]);
        assay_free(f->diagonal[r]);
        f->w[r] = f->g[r] = f->diagonal[r] = NULL;
        f->tensor[r] = NULL;
    }
}

static void close_fisher(fisher *f) {
    drop_layer(f);
    for (int64_t l = 0; f->x && l <= f->config.n_layers; l++)
        assay_free(f->x[l]);
    assay_free(f->x);
    assay_free(f->dx);
    assay_free(f->lengths);
    assay_tape_close(f->tape);
    assay_mixture_tokens_deinit(&f->tokens);
    assay_checkpoint_close(f->ckpt);
    assay_config_deinit(&f->config);
}

/* --- weights --- */

static assay_status load_tensor(float **out, const fisher *f, const char *name, const assay_tensor **tensor, assay_err *err) {
    const assay_tensor *t = assay_checkpoint_find(f->ckpt, name);
    if (!t) return assay_fail(err, ASSAY_EINPUT, "the checkpoint has no tensor '%s', which config.json calls for", name);
    size_t n = (size_t)assay_tensor_n_elements(t);
    if (!(*out = assay_mallocn(n, sizeof **out))) return assay_nomem(err);
    if (!assay_tensor_read(*out, t, 0, (int64_t)n)) return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor '%s' is no float tensor", name);
    *tensor = t;
    return ASSAY_OK;
}

typedef struct loader {
    fisher *f;
    int layer;
    bool backward;
} loader;

static assay_status load_role(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    loader *l = ctx;
    fisher *f = l->f;
    if (spec->layer != l->layer) return ASSAY_OK;
    ASSAY_TRY(load_tensor(&f->w[role], f, spec->name, &f->tensor[role], err));
    f->n_w[role] = (size_t)(spec->rows * spec->cols);
    if (!l->backward || spec->is_vector) return ASSAY_OK;
    f->g[role] = assay_mallocn(f->n_w[role], sizeof(float));
    f->diagonal[role] = assay_calloc(f->n_w[role], sizeof(float));
    return f->g[role] && f->diagonal[role] ? ASSAY_OK : assay_nomem(err);
}

static assay_status load_layer(fisher *f, int layer, bool backward, assay_err *err) {
    loader l = {f, layer, backward};
    drop_layer(f);
    return assay_config_each_role(&f->config, load_role, &l, err);
}

static assay_params params_of(const fisher *f) {
    assay_params p = {{0}};
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        p.w[r] = f->w[r];
    return p;
}

/* --- forward --- */

static assay_status forward(fisher *f, assay_err *err) {
    size_t hidden = (size_t)f->config.hidden_size;
    ASSAY_TRY(load_layer(f, -1, false, err));
    for (size_t t = 0; t < f->tokens.n; t++)
        memcpy(f->x[0] + t * hidden, f->w[ASSAY_ROLE_EMBED] + (size_t)f->tokens.ids[t] * hidden, hidden * sizeof(float));
    for (int64_t l = 0; l < f->config.n_layers; l++) {
        ASSAY_TRY(assay_progress_report(f->o->progress, "running forward", (double)l, (double)f->config.n_layers, "layers", err));
        ASSAY_TRY(load_layer(f, (int)l, false, err));
        assay_params p = params_of(f);
        for (size_t i = 0, at = 0; i < f->n_pieces; at += (size_t)f->lengths[i++] * hidden)
            ASSAY_TRY(assay_tape_forward(f->x[l + 1] + at, f->tape, l, &p, f->x[l] + at, &f->lengths[i], 1, err));
    }
    return ASSAY_OK;
}

/* A token for each position from what the model gives there. */
static assay_status draw_tokens(int32_t *ids, const fisher *f, const assay_head *h, assay_err *err) {
    static const assay_sample_opts plain = {.temperature = 1};
    const float *last = f->x[f->config.n_layers];
    assay_sampler sampler = {0};
    assay_rng rng;
    assay_status s = ASSAY_OK;
    float *normed = assay_mallocn(HEAD_ROWS * h->hidden, sizeof *normed), *logits = assay_mallocn(HEAD_ROWS * h->vocab, sizeof *logits);
    if (!normed || !logits) s = assay_nomem(err);
    assay_rng_init(&rng, SEED);
    for (size_t i = 0; i < f->tokens.n && s == ASSAY_OK; i += HEAD_ROWS) {
        size_t n = ASSAY_MIN((size_t)HEAD_ROWS, f->tokens.n - i);
        s = assay_head_logits(logits, h->vocab, normed, h, last + i * h->hidden, n, f->n_threads, err);
        for (size_t r = 0; r < n && s == ASSAY_OK; r++)
            s = assay_sample(&ids[i + r], &sampler, logits + r * h->vocab, h->vocab, &plain, &rng, err);
    }
    assay_sampler_deinit(&sampler);
    assay_free(normed);
    assay_free(logits);
    return s;
}

/* Draws, and leaves the gradient of the log-probabilities of what was drawn in dx. */
static assay_status head(fisher *f, assay_err *err) {
    assay_tensor_role role = f->config.tie_word_embeddings ? ASSAY_ROLE_EMBED : ASSAY_ROLE_HEAD;
    double loss;
    ASSAY_TRY(load_layer(f, -1, false, err));
    int32_t *ids = assay_mallocn(f->tokens.n, sizeof *ids);
    if (!ids) return assay_nomem(err);
    assay_head h = {.norm = f->w[ASSAY_ROLE_FINAL_NORM],
                    .w = f->w[role],
                    .hidden = (size_t)f->config.hidden_size,
                    .vocab = (size_t)f->config.vocab_size,
                    .eps = (float)f->config.rms_norm_eps};
    assay_target target = {.ids = ids};
    assay_status s = draw_tokens(ids, f, &h, err);
    if (s == ASSAY_OK)
        s = assay_head_loss(&loss, f->dx, NULL, &h, &target, f->x[f->config.n_layers], f->tokens.n, 1.0, f->n_threads, err);
    assay_free(ids);
    return s;
}

/* --- backward --- */

typedef struct squares {
    float *diagonal;
    const float *g;
} squares;

static void add_squares(void *ctx, size_t begin, size_t end, int thread) {
    squares *q = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        q->diagonal[i] += q->g[i] * q->g[i];
}

static assay_status backward(fisher *f, int layer, assay_err *err) {
    size_t hidden = (size_t)f->config.hidden_size;
    ASSAY_TRY(load_layer(f, layer, true, err));
    assay_params p = params_of(f);
    assay_grads g = {{0}};
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        g.w[r] = f->g[r];
    for (size_t i = 0, at = 0; i < f->n_pieces; at += (size_t)f->lengths[i++] * hidden) {
        for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
            if (f->g[r]) memset(f->g[r], 0, f->n_w[r] * sizeof(float));
        ASSAY_TRY(assay_tape_forward(NULL, f->tape, layer, &p, f->x[layer] + at, &f->lengths[i], 1, err));
        ASSAY_TRY(assay_tape_backward(f->dx + at, &g, f->tape, &p, f->x[layer] + at, f->dx + at, err));
        for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
            if (f->g[r]) assay_parallel_range(f->n_threads, f->n_w[r], 4096, add_squares, &(squares){f->diagonal[r], f->g[r]});
    }
    return ASSAY_OK;
}

/* sum F_ii D_i^2 for one rounded matrix. */
static assay_status weigh(double *sum, const fisher *f, int role, const assay_matrix *q, assay_err *err) {
    size_t cols = (size_t)q->cols;
    float *row = assay_mallocn(cols, sizeof *row);
    if (!row) return assay_nomem(err);
    for (int64_t r = 0; r < q->rows; r++) {
        const float *w = f->w[role] + (size_t)r * cols, *d = f->diagonal[role] + (size_t)r * cols;
        assay_matrix_decode_rows(row, q, r, 1);
        for (size_t k = 0; k < cols; k++)
            *sum += (double)d[k] * (double)(row[k] - w[k]) * (double)(row[k] - w[k]);
    }
    assay_free(row);
    return ASSAY_OK;
}

static assay_status measure_unit(fisher *f, assay_mixture_unit *u, size_t candidate, assay_err *err) {
    const assay_choice *c = &f->m->candidates[candidate];
    double sum = 0;
    for (int r = 0; r < ASSAY_ROLE_COUNT && c->method != ASSAY_METHOD_NONE; r++) {
        assay_matrix q = {0};
        if (!f->diagonal[r] || assay_role_input((assay_tensor_role)r) != u->input) continue;
        ASSAY_TRY(assay_mixture_round(&q, f->tensor[r], c, f->config.dtype, f->n_threads, err));
        assay_status s = weigh(&sum, f, r, &q, err);
        assay_matrix_deinit(&q);
        ASSAY_TRY(s);
    }
    u->kl[candidate] = sum / 2 / (double)f->tokens.n;
    return ASSAY_OK;
}

assay_status assay_mixture_measure_fisher(assay_mixture *m, const char *model_dir, const assay_calibration *cal,
                                          const assay_mixture_opts *o, assay_err *err) {
    fisher f = {.m = m, .o = o, .n_threads = o->n_threads > 0 ? o->n_threads : assay_n_cores()};
    assay_status s;
    ASSAY_GO(open_fisher(&f, model_dir, cal, err));
    ASSAY_GO(forward(&f, err));
    ASSAY_GO(head(&f, err));
    m->n_tokens = f.tokens.n;
    for (int layer = (int)f.config.n_layers - 1; layer >= 0; layer--) {
        ASSAY_GO(assay_progress_report(o->progress, "measuring sensitivities", (double)(f.config.n_layers - 1 - layer),
                                       (double)f.config.n_layers, "layers", err));
        ASSAY_GO(backward(&f, layer, err));
        for (size_t i = 0; i < m->n_units; i++)
            for (size_t c = 0; m->units[i].layer == layer && c < m->n_candidates; c++)
                if (m->units[i].kl[c] >= 0) ASSAY_GO(measure_unit(&f, &m->units[i], c, err));
    }
out:
    close_fisher(&f);
    return s;
}
