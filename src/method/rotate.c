/* rotate.c: Hadamard rotations fused into the weights (rotate.h).
 *
 * With Q = diag(signs) H the residual stream h becomes h Q. RMSNorm without its weight commutes with Q (it only divides by a length), so
 * the norm's weight moves into the matrices behind it first. All that is done to a tensor is then one of two things: its rows, or its
 * columns, times an orthonormal matrix, in blocks where the size has no Hadamard matrix of its own (linalg/hadamard.h).
 *
 *   rows     w <- (w * scale * signs) H     reading side        columns  the same on W^T      writing side
 *
 * Not done: rotations learned from data (SpinQuant), and rotation of queries and keys after their positions, which would serve the KV
 * cache alone. */
#include "method/rotate.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/hadamard.h"

struct assay_rotator {
    const assay_config *config;
    bool online;
    size_t hidden_block, head_block, ffn_block;
    float *signs;     /* [hidden] */
    float *norms;     /* [2 * n_layers + 1][hidden]: attention and mlp norms of the layers, the last norm */
};

int64_t assay_rotation_down_block(const assay_config *config) {
    return config->intermediate_size & -config->intermediate_size;
}

json_t *assay_rotation_transform_config(const assay_config *config) {
    static const char target[] = "re:.*down_proj$";
    return json_pack("{s:{s:{s:s, s:I, s:[{s:[s], s:s, s:b}, {s:[s], s:s, s:b}]}}}", "config_groups", "R4", "type", "hadamard", "head_dim",
                     (json_int_t)assay_rotation_down_block(config), "apply", "targets", target, "location", "input", "inverse", 0,
                     "targets", target, "location", "weight_input", "inverse", 1);
}

/* --- opening --- */

typedef struct norm_reader {
    assay_rotator *r;
    const assay_checkpoint *source;
} norm_reader;

static float *norm_of(const assay_rotator *r, assay_tensor_role role, int layer) {
    size_t hidden = (size_t)r->config->hidden_size;
    switch (role) {
    case ASSAY_ROLE_ATTN_NORM: return r->norms + 2 * (size_t)layer * hidden;
    case ASSAY_ROLE_MLP_NORM: return r->norms + (2 * (size_t)layer + 1) * hidden;
    case ASSAY_ROLE_FINAL_NORM: return r->norms + 2 * (size_t)r->config->n_layers * hidden;
    default: return NULL;
    }
}

static assay_status read_norm(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    norm_reader *n = ctx;
    float *to = norm_of(n->r, role, spec->layer);
    return to ? assay_checkpoint_vector(to, n->source, spec->name, spec->rows, err) : ASSAY_OK;
}

assay_status assay_rotator_open(assay_rotator **out, const assay_config *config, const assay_checkpoint *source, assay_rotation rotation,
                                assay_err *err) {
    size_t hidden = (size_t)config->hidden_size;
    assay_status s = ASSAY_OK;
    *out = NULL;
    if (config->arch->layout != ASSAY_LAYOUT_LLAMA) /* other norms or projections, which stand between the rotations or are not turned here */
        return assay_fail(err, ASSAY_EUNSUPPORTED, "rotations are known for Llama's norms and projections alone, not for %s's: quantize without",
                          config->architecture);
    assay_rotator *r = assay_calloc(1, sizeof *r);
    if (!r) return assay_nomem(err);
    r->config = config;
    r->online = rotation.online;
    r->hidden_block = assay_hadamard_block(hidden);
    r->head_block = assay_hadamard_block((size_t)config->head_dim);
    r->ffn_block = (size_t)assay_rotation_down_block(config);
    r->signs = assay_mallocn(hidden, sizeof *r->signs);
    r->norms = assay_mallocn(2 * (size_t)config->n_layers + 1, hidden * sizeof *r->norms);
    norm_reader n = {r, source};
    if (!r->signs || !r->norms)
        s = assay_nomem(err);
    else {
        assay_hadamard_signs(r->signs, hidden, rotation.seed);
        s = assay_config_each_role(config, read_norm, &n, err);
    }
    if (s == ASSAY_OK)
        *out = r;
    else
        assay_rotator_close(r);
    return s;
}

void assay_rotator_close(assay_rotator *r) {
    if (!r) return;
    assay_free(r->signs);
    assay_free(r->norms);
    assay_free(r);
}

/* --- rows and columns --- */

/* A matrix and what its rows, or columns, are multiplied with. */
typedef struct turn {
    float *w;
    size_t rows, cols;
    size_t block;
    const float *scale, *signs; /* per element of a row (column), or NULL */
    float **scratch;            /* per thread */
} turn;

static void scale_row(float *x, const turn *t, size_t n) {
    for (size_t i = 0; t->scale && i < n; i++)
        x[i] *= t->scale[i];
    for (size_t i = 0; t->signs && i < n; i++)
        x[i] *= t->signs[i];
}

static void turn_rows(void *ctx, size_t begin, size_t end, int thread) {
    turn *t = ctx;
    for (size_t r = begin; r < end; r++) {
        scale_row(t->w + r * t->cols, t, t->cols);
        assay_hadamard_rows(t->w + r * t->cols, 1, t->cols, t->block, false, t->scratch[thread]);
    }
}

#define TILE 16 /* columns turned at once: a cache line */

static void turn_cols(void *ctx, size_t begin, size_t end, int thread) {
    turn *t = ctx;
    float *tile = t->scratch[thread], *scratch = tile + TILE * t->rows;
    for (size_t c = begin; c < end; c += TILE) {
        size_t n = ASSAY_MIN((size_t)TILE, end - c);
        for (size_t r = 0; r < t->rows; r++)
            for (size_t i = 0; i < n; i++)
                tile[i * t->rows + r] = t->w[r * t->cols + c + i];
        for (size_t i = 0; i < n; i++) {
            scale_row(tile + i * t->rows, t, t->rows);
            assay_hadamard_rows(tile + i * t->rows, 1, t->rows, t->block, false, scratch);
        }
        for (size_t r = 0; r < t->rows; r++)
            for (size_t i = 0; i < n; i++)
                t->w[r * t->cols + c + i] = tile[i * t->rows + r];
    }
}

static assay_status run_turn(turn *t, bool columns, int n_threads, assay_err *err) {
    size_t n = columns ? (TILE + 1) * t->rows : t->cols;
    assay_status s = ASSAY_OK;
    t->scratch = assay_calloc((size_t)n_threads, sizeof *t->scratch);
    if (!t->scratch) return assay_nomem(err);
    for (int k = 0; k < n_threads && s == ASSAY_OK; k++)
        if (!(t->scratch[k] = assay_mallocn(n, sizeof(float)))) s = assay_nomem(err);
    if (s == ASSAY_OK) {
        if (columns)
            assay_parallel_range(n_threads, t->cols, TILE, turn_cols, t);
        else
            assay_parallel_range(n_threads, t->rows, 1, turn_rows, t);
    }
    for (int k = 0; k < n_threads; k++)
        assay_free(t->scratch[k]);
    assay_free(t->scratch);
    return s;
}

/* --- roles --- */

/* W diag(norm) Q */
static assay_status read_stream(const assay_rotator *r, float *w, const float *norm, int64_t rows, int64_t cols, int n_threads,
                                assay_err *err) {
    turn t = {.w = w, .rows = (size_t)rows, .cols = (size_t)cols, .block = r->hidden_block, .scale = norm, .signs = r->signs};
    return run_turn(&t, false, n_threads, err);
}

/* Q^T W; a vector is a matrix of one column. */
static assay_status write_stream(const assay_rotator *r, float *w, int64_t rows, int64_t cols, int n_threads, assay_err *err) {
    turn t = {.w = w, .rows = (size_t)rows, .cols = (size_t)cols, .block = r->hidden_block, .signs = r->signs};
    return run_turn(&t, true, n_threads, err);
}

/* The heads' own matrix on the rows' or the columns' side. */
static assay_status turn_heads(const assay_rotator *r, float *w, int64_t rows, int64_t cols, bool columns, int n_threads, assay_err *err) {
    turn t = {.w = w, .rows = (size_t)rows, .cols = (size_t)cols, .block = r->head_block};
    return run_turn(&t, columns, n_threads, err);
}

static assay_status apply_down(const assay_rotator *r, float *w, int64_t rows, int64_t cols, int n_threads, assay_err *err) {
    turn t = {.w = w, .rows = (size_t)rows, .cols = (size_t)cols, .block = r->ffn_block};
    if (r->online) ASSAY_TRY(run_turn(&t, false, n_threads, err));
    return write_stream(r, w, rows, cols, n_threads, err);
}

assay_status assay_rotator_apply(const assay_rotator *r, float *w, assay_tensor_role role, int layer, int64_t rows, int64_t cols,
                                 int n_threads, assay_err *err) {
    switch (role) {
    case ASSAY_ROLE_EMBED: return read_stream(r, w, NULL, rows, cols, n_threads, err);
    case ASSAY_ROLE_HEAD: return read_stream(r, w, norm_of(r, ASSAY_ROLE_FINAL_NORM, -1), rows, cols, n_threads, err);
    case ASSAY_ROLE_Q:
    case ASSAY_ROLE_K: return read_stream(r, w, norm_of(r, ASSAY_ROLE_ATTN_NORM, layer), rows, cols, n_threads, err);
    case ASSAY_ROLE_V:
        ASSAY_TRY(read_stream(r, w, norm_of(r, ASSAY_ROLE_ATTN_NORM, layer), rows, cols, n_threads, err));
        return turn_heads(r, w, rows, cols, true, n_threads, err);
    case ASSAY_ROLE_V_BIAS: return turn_heads(r, w, rows, 1, true, n_threads, err);
    case ASSAY_ROLE_O:
        ASSAY_TRY(turn_heads(r, w, rows, cols, false, n_threads, err));
        return write_stream(r, w, rows, cols, n_threads, err);
    case ASSAY_ROLE_GATE:
    case ASSAY_ROLE_UP: return read_stream(r, w, norm_of(r, ASSAY_ROLE_MLP_NORM, layer), rows, cols, n_threads, err);
    case ASSAY_ROLE_DOWN: return apply_down(r, w, rows, cols, n_threads, err);
    case ASSAY_ROLE_O_BIAS:
    case ASSAY_ROLE_DOWN_BIAS: return write_stream(r, w, rows, 1, n_threads, err);
    case ASSAY_ROLE_ATTN_NORM:
    case ASSAY_ROLE_MLP_NORM:
    case ASSAY_ROLE_FINAL_NORM:
        for (int64_t i = 0; i < rows; i++)
            w[i] = 1.0f;
        return ASSAY_OK;
    default: return ASSAY_OK;
    }
}
