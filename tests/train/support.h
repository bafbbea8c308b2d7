/* support.h: what the tests of this room share: the tiny checkpoints of tests/golden/tiny as plain float32 arrays, and one decoder
 * layer written naively in double, straight from the formulas: the reference of values and, by central differences, of gradients. */
#ifndef TESTS_TRAIN_SUPPORT_H
#define TESTS_TRAIN_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "model/arch.h"
#include "model/model.h"
#include "train/layer.h"

static const char *const tiny_names[] = {"llama31", "mistral", "qwen2", "qwen3", "llama-bias"};

static inline void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* All tensors of a checkpoint by layer and role; layer n_layers is outside. */
typedef struct tiny {
    char dir[200];
    assay_config config;
    assay_checkpoint *checkpoint;
    float *w[8][ASSAY_ROLE_COUNT];
    size_t n[8][ASSAY_ROLE_COUNT]; /* elements */
} tiny;

static inline assay_status tiny_take(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    tiny *t = ctx;
    size_t layer = spec->layer < 0 ? (size_t)t->config.n_layers : (size_t)spec->layer, n = (size_t)(spec->rows * spec->cols);
    float *w = assay_mallocn(n, sizeof *w);
    assay_matrix m = {0};
    t->w[layer][role] = w;
    t->n[layer][role] = n;
    if (spec->is_vector) return assay_checkpoint_vector(w, t->checkpoint, spec->name, spec->rows, err);
    ASSAY_TRY(assay_checkpoint_matrix(&m, t->checkpoint, NULL, spec->name, spec->rows, spec->cols, ASSAY_DTYPE_F32, err));
    assay_matrix_decode_rows(w, &m, 0, spec->rows);
    assay_matrix_deinit(&m);
    return ASSAY_OK;
}

static inline void tiny_open(tiny *t, const char *name) {
    assay_err err = {0};
    memset(t, 0, sizeof *t);
    snprintf(t->dir, sizeof t->dir, "tests/golden/tiny/%s", name);
    must(assay_config_open(&t->config, t->dir, &err), &err);
    must(assay_checkpoint_open(&t->checkpoint, t->dir, &err), &err);
    must(assay_config_each_role(&t->config, tiny_take, t, &err), &err);
}

static inline void tiny_close(tiny *t) {
    for (size_t l = 0; l < 8; l++)
        for (int r = 0; r < ASSAY_ROLE_COUNT; r++) assay_free(t->w[l][r]);
    assay_checkpoint_close(t->checkpoint);
    assay_config_deinit(&t->config);
}

static inline assay_params tiny_params(const tiny *t, size_t layer) {
    assay_params p = {{0}};
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) p.w[r] = t->w[layer][r];
    return p;
}

static inline void fill_normal(float *x, size_t n, double sd, uint64_t seed) {
    assay_rng rng;
    assay_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) x[i] = (float)(sd * assay_rng_normal(&rng));
}

/* --- one layer in double --- */

typedef struct ref_layer {
    const assay_config *config;
    int64_t layer;
    double *w[ASSAY_ROLE_COUNT];
    size_t n[ASSAY_ROLE_COUNT];
} ref_layer;

static inline void ref_open(ref_layer *r, const tiny *t, int64_t layer) {
    *r = (ref_layer){.config = &t->config, .layer = layer};
    for (int i = 0; i < ASSAY_ROLE_COUNT; i++) {
        if (!t->w[layer][i]) continue;
        r->n[i] = t->n[layer][i];
        r->w[i] = assay_mallocn(r->n[i], sizeof(double));
        for (size_t k = 0; k < r->n[i]; k++) r->w[i][k] = (double)t->w[layer][i][k];
    }
}
static inline void ref_close(ref_layer *r) {
    for (int i = 0; i < ASSAY_ROLE_COUNT; i++) assay_free(r->w[i]);
}

static inline void ref_norm(double *y, const double *x, const double *w, int64_t n, double eps) {
    double ss = 0;
    for (int64_t i = 0; i < n; i++) ss += x[i] * x[i];
    for (int64_t i = 0; i < n; i++) y[i] = x[i] / sqrt(ss / (double)n + eps) * w[i];
}
static inline void ref_linear(double *y, const double *x, const double *w, const double *b, int64_t rows, int64_t out, int64_t in) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0;
            for (int64_t i = 0; i < in; i++) sum += x[r * in + i] * w[o * in + i];
            y[r * out + o] = sum;
        }
}
static inline double *doubles(int64_t n) {
    return assay_calloc((size_t)n, sizeof(double));
}
static inline void ref_place(double *x, const double *norm, const assay_config *c, int64_t rows, int64_t heads) {
    float inv_freq[128];
    int64_t d = c->head_dim, half = d / 2;
    assay_rope_frequencies(inv_freq, c);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++) {
            double *v = x + (r * heads + h) * d;
            if (norm) ref_norm(v, v, norm, d, c->rms_norm_eps);
            for (int64_t i = 0; i < half; i++) {
                double angle = (double)r * (double)inv_freq[i], a = v[i], b = v[i + half];
                v[i] = a * cos(angle) - b * sin(angle);
                v[i + half] = b * cos(angle) + a * sin(angle);
            }
        }
}
static inline void ref_attention(double *y, const double *q, const double *k, const double *v, const assay_config *c, int64_t rows,
                                 int64_t window) {
    int64_t d = c->head_dim, share = c->n_heads / c->n_kv_heads, qw = c->n_heads * d, kw = c->n_kv_heads * d;
    double *p = doubles(rows);
    for (int64_t h = 0; h < c->n_heads; h++)
        for (int64_t i = 0; i < rows; i++) {
            int64_t from = window && i + 1 > window ? i + 1 - window : 0;
            double sum = 0;
            for (int64_t j = from; j <= i; j++) {
                double s = 0;
                for (int64_t e = 0; e < d; e++) s += q[i * qw + h * d + e] * k[j * kw + h / share * d + e];
                sum += p[j] = exp(s / sqrt((double)d));
            }
            for (int64_t e = 0; e < d; e++) {
                double a = 0;
                for (int64_t j = from; j <= i; j++) a += p[j] * v[j * kw + h / share * d + e];
                y[i * qw + h * d + e] = a / sum;
            }
        }
    assay_free(p);
}

/* y = layer(x) for one sequence. */
static inline void ref_forward(double *y, const ref_layer *r, const double *x, int64_t rows) {
    const assay_config *c = r->config;
    int64_t hid = c->hidden_size, ffn = c->intermediate_size, qw = c->n_heads * c->head_dim, kw = c->n_kv_heads * c->head_dim;
    double *h = doubles(rows * hid), *q = doubles(rows * qw), *k = doubles(rows * kw), *v = doubles(rows * kw),
           *a = doubles(rows * qw), *g = doubles(rows * ffn), *u = doubles(rows * ffn), *x2 = doubles(rows * hid);
    for (int64_t i = 0; i < rows; i++) ref_norm(h + i * hid, x + i * hid, r->w[ASSAY_ROLE_ATTN_NORM], hid, c->rms_norm_eps);
    ref_linear(q, h, r->w[ASSAY_ROLE_Q], r->w[ASSAY_ROLE_Q_BIAS], rows, qw, hid);
    ref_linear(k, h, r->w[ASSAY_ROLE_K], r->w[ASSAY_ROLE_K_BIAS], rows, kw, hid);
    ref_linear(v, h, r->w[ASSAY_ROLE_V], r->w[ASSAY_ROLE_V_BIAS], rows, kw, hid);
    ref_place(q, r->w[ASSAY_ROLE_Q_NORM], c, rows, c->n_heads);
    ref_place(k, r->w[ASSAY_ROLE_K_NORM], c, rows, c->n_kv_heads);
    ref_attention(a, q, k, v, c, rows, assay_config_window(c, r->layer));
    ref_linear(x2, a, r->w[ASSAY_ROLE_O], r->w[ASSAY_ROLE_O_BIAS], rows, hid, qw);
    for (int64_t i = 0; i < rows * hid; i++) x2[i] += x[i];
    for (int64_t i = 0; i < rows; i++) ref_norm(h + i * hid, x2 + i * hid, r->w[ASSAY_ROLE_MLP_NORM], hid, c->rms_norm_eps);
    ref_linear(g, h, r->w[ASSAY_ROLE_GATE], r->w[ASSAY_ROLE_GATE_BIAS], rows, ffn, hid);
    ref_linear(u, h, r->w[ASSAY_ROLE_UP], r->w[ASSAY_ROLE_UP_BIAS], rows, ffn, hid);
    for (int64_t i = 0; i < rows * ffn; i++) g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    ref_linear(y, g, r->w[ASSAY_ROLE_DOWN], r->w[ASSAY_ROLE_DOWN_BIAS], rows, hid, ffn);
    for (int64_t i = 0; i < rows * hid; i++) y[i] += x2[i];
    double *all[] = {h, q, k, v, a, g, u, x2};
    for (size_t i = 0; i < ASSAY_LEN(all); i++) assay_free(all[i]);
}

#endif
