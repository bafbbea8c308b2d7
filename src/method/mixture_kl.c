/* mixture_kl.c: the sensitivity of each unit at each candidate as what it is: the divergence of the model's next-token distributions when
 * that unit alone is rounded.
 *
 * The hidden states before every layer are kept for the tokens looked at, so a run begins at the unit's layer. With L layers that halves
 * the work: units * candidates * (L / 2) layers in all. Everything in the model's own compute mode, a rounded unit in its format's. */
#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "method/mixture_impl.h"
#include "model/model.h"
#include "model/sample.h"
#include "train/layer.h"

#define DEFAULT_TOKENS   2048
#define MEMORY           ((size_t)512 << 20) /* of hidden states and distributions: bounds the tokens */
#define CAUTIOUS_FLOPS   5e10
#define AFFORDABLE       600.0 /* seconds */

typedef struct meter {
    assay_mixture *m;
    const assay_mixture_opts *o;
    int n_threads;
    assay_backend *backend;
    assay_model *model;
    assay_layer_runner *runner;
    assay_mixture_tokens tokens;
    float **x;          /* [n_layers + 1] hidden states before each layer, [n][hidden]; the last before the final norm */
    float *work;        /* [n][hidden] */
    float *lp;          /* [n][vocab] log-softmaxes of the original */
    assay_buf *h, *normed, *logits;
    float *host;        /* [rows][vocab] */
    size_t rows;        /* of logits at once */
    double *row_kl;     /* [n] */
} meter;

/* --- tokens --- */

assay_status assay_mixture_take_tokens(assay_mixture_tokens *out, const assay_calibration *cal, size_t max, assay_err *err) {
    *out = (assay_mixture_tokens){.ids = assay_mallocn(max, sizeof *out->ids), .lengths = assay_mallocn(cal->n_seqs + 1, sizeof(int32_t))};
    if (!out->ids || !out->lengths) {
        assay_mixture_tokens_deinit(out);
        return assay_nomem(err);
    }
    for (size_t i = 0; i < cal->n_seqs; i++) {
        size_t n = cal->first[i + 1] - cal->first[i];
        if (out->n + n > max) {
            if (out->n) break;
            n = max;
        }
        for (size_t k = 0; k < n; k++)
            out->ids[out->n + k] = cal->ids[cal->first[i] + k];
        out->lengths[out->n_seqs++] = (int32_t)n;
        out->n += n;
    }
    return ASSAY_OK;
}

void assay_mixture_tokens_deinit(assay_mixture_tokens *t) {
    assay_free(t->ids);
    assay_free(t->lengths);
    *t = (assay_mixture_tokens){0};
}

static double params_per_token(const assay_config *c) {
    double hidden = (double)c->hidden_size, q = (double)(c->n_heads * c->head_dim), kv = (double)(c->n_kv_heads * c->head_dim);
    return (double)c->n_layers * (hidden * (2 * q + 2 * kv) + 3 * hidden * (double)c->intermediate_size);
}

assay_sensitivity assay_mixture_pick(const assay_mixture *m, const assay_config *config, const assay_mixture_opts *o) {
    double tokens = (double)(o->max_tokens ? o->max_tokens : DEFAULT_TOKENS);
    double head = (double)config->hidden_size * (double)config->vocab_size;
    double flops = (double)m->n_units * (double)m->n_candidates * tokens * (params_per_token(config) + 2 * head);
    bool exact = flops / CAUTIOUS_FLOPS <= AFFORDABLE || assay_tape_check(config, NULL) != ASSAY_OK;
    return exact ? ASSAY_SENSITIVITY_KL : ASSAY_SENSITIVITY_FISHER;
}

static size_t tokens_that_fit(const assay_config *c, const assay_mixture_opts *o) {
    size_t per_token = sizeof(float) * ((size_t)(c->n_layers + 3) * (size_t)c->hidden_size + (size_t)c->vocab_size);
    size_t want = o->max_tokens ? o->max_tokens : DEFAULT_TOKENS;
    return ASSAY_MAX((size_t)16, ASSAY_MIN(want, MEMORY / per_token));
}

/* --- opening --- */

static assay_status allocate(meter *t, const assay_config *c, assay_err *err) {
    size_t n = t->tokens.n, hidden = (size_t)c->hidden_size, vocab = (size_t)c->vocab_size;
    t->rows = ASSAY_MIN(n, (size_t)128);
    t->x = assay_calloc((size_t)c->n_layers + 1, sizeof *t->x);
    if (!t->x) return assay_nomem(err);
    for (int64_t l = 0; l <= c->n_layers; l++)
        if (!(t->x[l] = assay_mallocn(n * hidden, sizeof(float)))) return assay_nomem(err);
    t->work = assay_mallocn(n * hidden, sizeof(float));
    t->lp = assay_mallocn(n * vocab, sizeof(float));
    t->host = assay_mallocn(t->rows * vocab, sizeof(float));
    t->row_kl = assay_mallocn(n, sizeof *t->row_kl);
    if (!t->work || !t->lp || !t->host || !t->row_kl) return assay_nomem(err);
    ASSAY_TRY(assay_buf_new(&t->h, t->backend, t->rows * hidden * sizeof(float), err));
    ASSAY_TRY(assay_buf_new(&t->normed, t->backend, t->rows * hidden * sizeof(float), err));
    return assay_buf_new(&t->logits, t->backend, t->rows * vocab * sizeof(float), err);
}

static assay_status open_meter(meter *t, const char *model_dir, const assay_calibration *cal, assay_err *err) {
    assay_cpu_opts cpu = {.n_threads = t->n_threads};
    assay_model_opts none = {0};
    ASSAY_TRY(assay_backend_open_cpu(&t->backend, &cpu, err));
    ASSAY_TRY(assay_model_open(&t->model, t->backend, model_dir, &none, err));
    const assay_config *c = assay_model_config(t->model);
    ASSAY_TRY(assay_layer_runner_open(&t->runner, t->backend, c, 0, assay_model_kv_type(t->model), err));
    ASSAY_TRY(assay_mixture_take_tokens(&t->tokens, cal, tokens_that_fit(c, t->o), err));
    return allocate(t, c, err);
}

static void close_meter(meter *t) {
    if (t->h) assay_buf_free(t->backend, t->h);
    if (t->normed) assay_buf_free(t->backend, t->normed);
    if (t->logits) assay_buf_free(t->backend, t->logits);
    for (int64_t l = 0; t->x && l <= assay_model_config(t->model)->n_layers; l++)
        assay_free(t->x[l]);
    assay_free(t->x);
    assay_free(t->work);
    assay_free(t->lp);
    assay_free(t->host);
    assay_free(t->row_kl);
    assay_mixture_tokens_deinit(&t->tokens);
    assay_layer_runner_close(t->runner);
    assay_model_close(t->model);
    if (t->backend) assay_backend_close(t->backend);
}

/* --- running --- */

/* Rows of logits, [first, first + n) of the hidden states x, to the host. */
static void run_head(meter *t, const float *x, size_t first, size_t n) {
    const assay_config *c = assay_model_config(t->model);
    const assay_weights *w = assay_model_weights(t->model);
    size_t hidden = (size_t)c->hidden_size;
    assay_buf_write(t->backend, t->h, 0, x + first * hidden, n * hidden * sizeof(float));
    assay_head_run(t->backend, c, w, t->logits, t->normed, t->h, n);
    assay_buf_read(t->backend, t->host, t->logits, 0, n * (size_t)c->vocab_size * sizeof(float));
}

/* A piece of rows that all threads share. */
typedef struct piece {
    meter *t;
    size_t first;
    bool keep; /* the original's: into lp; else compared with it */
} piece;

static void one_row(void *ctx, size_t task, int thread) {
    piece *p = ctx;
    size_t vocab = (size_t)assay_model_config(p->t->model)->vocab_size, row = p->first + task;
    float *logits = p->t->host + task * vocab, *lp = p->t->lp + row * vocab;
    (void)thread;
    assay_log_softmax(p->keep ? lp : logits, logits, vocab);
    p->t->row_kl[row] = p->keep ? 0 : assay_kl(lp, logits, vocab);
}

/* Mean divergence of the distributions that hidden states x lead to; or those kept as the original's. */
static double compare(meter *t, const float *x, bool keep) {
    double sum = 0;
    for (size_t first = 0; first < t->tokens.n; first += t->rows) {
        piece p = {t, first, keep};
        size_t n = ASSAY_MIN(t->rows, t->tokens.n - first);
        run_head(t, x, first, n);
        assay_parallel(t->n_threads, n, one_row, &p);
    }
    for (size_t i = 0; i < t->tokens.n; i++)
        sum += t->row_kl[i];
    return sum / (double)t->tokens.n;
}

static assay_status run_layer(meter *t, int64_t layer, const assay_block *block, float *y, const float *x, assay_err *err) {
    return assay_layer_run(t->runner, block, layer, y, x, t->tokens.lengths, t->tokens.n_seqs, NULL, err);
}

static assay_status run_original(meter *t, assay_err *err) {
    const assay_config *c = assay_model_config(t->model);
    const assay_weights *w = assay_model_weights(t->model);
    size_t hidden = (size_t)c->hidden_size;
    for (size_t i = 0; i < t->tokens.n; i += t->rows) {
        size_t n = ASSAY_MIN(t->rows, t->tokens.n - i);
        assay_embed_run(t->backend, c, &w->blocks[c->n_layers], t->h, NULL, t->tokens.ids + i, NULL, n);
        assay_buf_read(t->backend, t->x[0] + i * hidden, t->h, 0, n * hidden * sizeof(float));
    }
    for (int64_t l = 0; l < c->n_layers; l++)
        ASSAY_TRY(run_layer(t, l, &w->blocks[l], t->x[l + 1], t->x[l], err));
    compare(t, t->x[c->n_layers], true);
    return ASSAY_OK;
}

/* --- candidates --- */

assay_status assay_mixture_round(assay_matrix *out, const assay_tensor *t, const assay_choice *c, assay_dtype model_dtype, int n_threads,
                                 assay_err *err) {
    assay_choice rtn = {.method = ASSAY_METHOD_RTN, .precision = c->precision, .group_size = c->group_size, .asymmetric = c->asymmetric,
                        .mse = assay_precision_get_kind(c->precision) == ASSAY_KIND_INT};
    assay_item item = {.weight = t, .choice = &rtn, .role = ASSAY_ROLE_COUNT, .model_dtype = model_dtype}, *items = &item;
    assay_layer layer = {.index = -1, .items = &item, .n_items = 1, .n_threads = n_threads};
    assay_status s = assay_method_get(ASSAY_METHOD_RTN)->quantize(&layer, &items, 1, err);
    if (s == ASSAY_OK)
        *out = item.out;
    else
        assay_matrix_deinit(&item.out);
    return s;
}

/* One unit's matrices at one candidate, put into a copy of its layer's block. */
typedef struct swap {
    meter *t;
    const assay_mixture_unit *unit;
    const assay_choice *choice;
    assay_block block;
    assay_weight *made[ASSAY_ROLE_COUNT];
} swap;

static assay_status swap_role(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    swap *s = ctx;
    const assay_config *c = assay_model_config(s->t->model);
    if (spec->layer != s->unit->layer || spec->is_vector || assay_role_input(role) != s->unit->input) return ASSAY_OK;
    const assay_tensor *t = assay_checkpoint_find(assay_model_checkpoint(s->t->model), spec->name);
    assay_matrix m = {0};
    assay_status st;
    ASSAY_TRY(assay_mixture_round(&m, t, s->choice, c->dtype, s->t->n_threads, err));
    st = assay_weight_new(&s->made[role], s->t->backend, &m, ASSAY_ACT_AUTO, err);
    assay_matrix_deinit(&m);
    s->block.matrix[role] = s->made[role];
    return st;
}

static assay_status measure_one(meter *t, assay_mixture_unit *u, size_t candidate, assay_err *err) {
    const assay_config *c = assay_model_config(t->model);
    const assay_weights *w = assay_model_weights(t->model);
    swap s = {.t = t, .unit = u, .choice = &t->m->candidates[candidate], .block = w->blocks[u->layer]};
    assay_status st;
    u->kl[candidate] = 0;
    if (s.choice->method == ASSAY_METHOD_NONE) return ASSAY_OK;
    st = assay_config_each_role(c, swap_role, &s, err);
    const float *x = t->x[u->layer];
    for (int64_t l = u->layer; l < c->n_layers && st == ASSAY_OK; l++) {
        st = run_layer(t, l, l == u->layer ? &s.block : &w->blocks[l], t->work, x, err);
        x = t->work;
    }
    if (st == ASSAY_OK) u->kl[candidate] = ASSAY_MAX(0.0, compare(t, x, false));
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        if (s.made[r]) assay_weight_free(t->backend, s.made[r]);
    return st;
}

assay_status assay_mixture_measure_kl(assay_mixture *m, const char *model_dir, const assay_calibration *cal, const assay_mixture_opts *o,
                                      assay_err *err) {
    meter t = {.m = m, .o = o, .n_threads = o->n_threads > 0 ? o->n_threads : assay_n_cores()};
    double done = 0, all = (double)m->n_units * (double)m->n_candidates;
    assay_status s;
    ASSAY_GO(open_meter(&t, model_dir, cal, err));
    ASSAY_GO(run_original(&t, err));
    m->n_tokens = t.tokens.n;
    for (size_t i = 0; i < m->n_units; i++)
        for (size_t c = 0; c < m->n_candidates; c++, done++) {
            ASSAY_GO(assay_progress_report(o->progress, "measuring sensitivities", done, all, "runs", err));
            if (m->units[i].kl[c] >= 0) ASSAY_GO(measure_one(&t, &m->units[i], c, err));
        }
    s = assay_progress_report(o->progress, "measuring sensitivities", all, all, "runs", err);
out:
    close_meter(&t);
    return s;
}
