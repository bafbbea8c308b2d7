/* fold.c: which matrices share scales, and moving the scales. See fold.h. */
#include "method/fold.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"

/* The places of a decoder layer. */
static const struct place {
    assay_tensor_role input;
    assay_tensor_role before, fused; /* the matrix whose rows make the input, or one whose last rows do; ROLE_COUNT: a norm, none */
    assay_tensor_role vector, bias;  /* the norm and its bias; of a matrix the bias */
} places[] = {
    {ASSAY_ROLE_Q, ASSAY_ROLE_COUNT, ASSAY_ROLE_COUNT, ASSAY_ROLE_ATTN_NORM, ASSAY_ROLE_ATTN_NORM_BIAS},
    {ASSAY_ROLE_KV_B, ASSAY_ROLE_COUNT, ASSAY_ROLE_COUNT, ASSAY_ROLE_KV_A_NORM, ASSAY_ROLE_COUNT},
    {ASSAY_ROLE_Q_B, ASSAY_ROLE_COUNT, ASSAY_ROLE_COUNT, ASSAY_ROLE_Q_A_NORM, ASSAY_ROLE_COUNT},
    {ASSAY_ROLE_O, ASSAY_ROLE_V, ASSAY_ROLE_COUNT, ASSAY_ROLE_V_BIAS, ASSAY_ROLE_COUNT},
    {ASSAY_ROLE_GATE, ASSAY_ROLE_COUNT, ASSAY_ROLE_COUNT, ASSAY_ROLE_MLP_NORM, ASSAY_ROLE_MLP_NORM_BIAS},
    {ASSAY_ROLE_DOWN, ASSAY_ROLE_UP, ASSAY_ROLE_GATE_UP, ASSAY_ROLE_UP_BIAS, ASSAY_ROLE_COUNT},
    {ASSAY_ROLE_SHARED_DOWN, ASSAY_ROLE_SHARED_UP, ASSAY_ROLE_COUNT, ASSAY_ROLE_COUNT, ASSAY_ROLE_COUNT},
};

static bool is_encoded(const assay_item *item) {
    return item && item->choice->method != ASSAY_METHOD_NONE;
}

/* Does something besides the given matrices read the norm's output? Experts and their router read what a shared expert reads; a parallel
 * block without a norm of its own reads attention's. */
static bool is_shared_norm(const assay_layer *layer, assay_tensor_role norm) {
    if (norm == ASSAY_ROLE_ATTN_NORM) return layer->config->parallel_residual && !layer->vector[ASSAY_ROLE_MLP_NORM];
    for (size_t i = 0; norm == ASSAY_ROLE_MLP_NORM && i < layer->n_items; i++)
        if (assay_role_is_expert(layer->items[i].role)) return true;
    return false;
}

/* The matrices of that input, if all of them are to have codes. */
static bool find_matrices(assay_fold *f) {
    for (size_t i = 0; i < f->layer->n_items; i++) {
        assay_item *item = &f->layer->items[i];
        if (assay_role_input(item->role) != f->input) continue;
        if (!is_encoded(item) || f->n_into == ASSAY_LEN(f->into)) return false;
        f->into[f->n_into++] = item;
    }
    return f->n_into > 0;
}

static float *vector_of(const assay_fold *f) {
    return f->vector < ASSAY_ROLE_COUNT ? f->layer->vector[f->vector] : NULL;
}

const char *assay_fold_open(assay_fold *out, assay_layer *layer, assay_tensor_role input) {
    const struct place *p = NULL;
    *out = (assay_fold){.layer = layer, .input = input};
    for (size_t i = 0; i < ASSAY_LEN(places); i++)
        if (places[i].input == input) p = &places[i];
    if (!p) return "nothing is known of its input";
    if (!find_matrices(out)) return "a matrix of the same input stays as it is";
    out->cols = out->n_scales = out->into[0]->weight->dims[1];
    out->vector = p->vector;
    if (p->before == ASSAY_ROLE_COUNT) {
        if (p->bias < ASSAY_ROLE_COUNT && layer->vector[p->bias]) return "the norm before it has a bias";
        if (is_shared_norm(layer, p->vector)) return "others read the norm before it too";
        return layer->vector[p->vector] ? NULL : "no norm stands before it";
    }
    out->before = assay_layer_item(layer, p->before);
    if (!out->before && p->fused < ASSAY_ROLE_COUNT) out->before = assay_layer_item(layer, p->fused);
    if (!is_encoded(out->before)) return "the matrix before it stays as it is";
    if (out->before->role == p->fused) {
        out->before_row = out->before->weight->dims[0] - out->cols;
        return NULL;
    }
    out->n_scales = out->before->weight->dims[0];
    return out->cols % out->n_scales ? "its heads do not match those of the values" : NULL;
}

/* Column of the output projection -> row of v: query heads [h * shared, (h + 1) * shared) read value head h.
 */
int64_t assay_fold_index(const assay_fold *f, int64_t col) {
    int64_t shared = f->cols / f->n_scales, d = f->layer->config->head_dim;
    if (shared == 1) return col;
    return col / d / shared * d + col % d;
}

void assay_fold_mean(float *out, const assay_fold *f, const float *x) {
    float part = (float)f->n_scales / (float)f->cols;
    memset(out, 0, (size_t)f->n_scales * sizeof *out);
    for (int64_t c = 0; c < f->cols; c++)
        out[assay_fold_index(f, c)] += x[c] * part;
}

void assay_fold_max(float *out, const assay_fold *f, const float *x) {
    memset(out, 0, (size_t)f->n_scales * sizeof *out);
    for (int64_t c = 0; c < f->cols; c++) {
        float *o = &out[assay_fold_index(f, c)];
        *o = ASSAY_MAX(*o, x[c]);
    }
}

/* --- columns of the weights --- */

typedef struct columns {
    const assay_item *item;
    int64_t rows, cols, group;
    float **scratch; /* per thread [group] */
    double *mean;    /* [cols] sums over rows */
    float *most;     /* [cols] */
} columns;

static void columns_task(void *ctx, size_t task, int thread) {
    columns *j = ctx;
    int64_t first = (int64_t)task * j->group, n = ASSAY_MIN(j->group, j->cols - first);
    float *w = j->scratch[thread];
    for (int64_t r = 0; r < j->rows; r++) {
        float top = 0;
        assay_item_read(w, j->item, r * j->cols + first, n);
        for (int64_t c = 0; c < n; c++) {
            w[c] = fabsf(w[c]);
            top = ASSAY_MAX(top, w[c]);
        }
        for (int64_t c = 0; c < n; c++) {
            j->mean[first + c] += (double)(w[c] / (top + 1e-6f));
            j->most[first + c] = ASSAY_MAX(j->most[first + c], w[c]);
        }
    }
}

static assay_status add_columns(columns *j, const assay_item *item, int n_threads, assay_err *err) {
    assay_status s = ASSAY_OK;
    j->item = item;
    j->rows = item->weight->dims[0];
    j->group = assay_item_group(item);
    n_threads = ASSAY_MAX(n_threads, 1);
    j->scratch = assay_calloc((size_t)n_threads, sizeof *j->scratch);
    if (!j->scratch) return assay_nomem(err);
    for (int t = 0; s == ASSAY_OK && t < n_threads; t++)
        if (!(j->scratch[t] = assay_mallocn((size_t)j->group, sizeof(float)))) s = assay_nomem(err);
    if (s == ASSAY_OK) assay_parallel(n_threads, (size_t)assay_item_n_groups(item), columns_task, j);
    for (int t = 0; t < n_threads; t++)
        assay_free(j->scratch[t]);
    assay_free(j->scratch);
    return s;
}

assay_status assay_fold_columns(float *mean, float *most, const assay_fold *f, assay_err *err) {
    size_t n = (size_t)f->cols;
    columns j = {
        .cols = f->cols, .mean = assay_calloc(n, sizeof *j.mean), .most = assay_calloc(n, sizeof *j.most)};
    assay_status s = j.mean && j.most ? ASSAY_OK : assay_nomem(err);
    double rows = 0;
    for (size_t i = 0; s == ASSAY_OK && i < f->n_into; i++) {
        rows += (double)f->into[i]->weight->dims[0];
        s = add_columns(&j, f->into[i], f->layer->n_threads, err);
    }
    for (size_t c = 0; s == ASSAY_OK && c < n; c++) {
        if (mean) mean[c] = (float)(j.mean[c] / rows);
        if (most) most[c] = j.most[c];
    }
    assay_free(j.mean);
    assay_free(j.most);
    return s;
}

/* --- folding --- */

/* What the norm of a channel becomes; as it is stored, which may be its distance from one. */
static float divided(float norm, float s, const assay_fold *f) {
    assay_dtype dtype = f->into[0]->model_dtype;
    float offset = assay_config_vector_offset(f->layer->config, f->vector), v = norm / s - offset;
    uint8_t stored[8];
    assay_from_f32(stored, dtype, &v, 1);
    assay_to_f32(&v, stored, dtype, 1);
    return v + offset;
}

void assay_fold_exact(float *s, const assay_fold *f) {
    const float *norm = f->before ? NULL : vector_of(f);
    for (int64_t i = 0; i < f->n_scales; i++) {
        if (!isfinite(s[i]) || s[i] <= 0) s[i] = 1;
        if (!norm) continue;
        float v = divided(norm[i], s[i], f);
        s[i] = v != 0 && isfinite(v) ? norm[i] / v : 1;
    }
}

static void divide_rows(const assay_fold *f, const float *s) {
    assay_item *item = f->before;
    int64_t cols = item->weight->dims[1], groups = assay_item_n_groups(item);
    for (int64_t i = 0; i < f->n_scales; i++) {
        int64_t r = f->before_row + i;
        for (int64_t c = 0; c < cols; c++)
            item->w[r * cols + c] /= s[i];
        for (int64_t g = 0; item->clip && g < groups; g++)
            item->clip[r * groups + g] /= s[i];
    }
}

/* k: a scale per column. */
static void multiply_columns(assay_item *item, const float *k) {
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            item->w[r * cols + c] *= k[c];
}

static void divide_inputs(const assay_fold *f, const float *k) {
    assay_inputs *in = &f->layer->inputs[f->input];
    size_t n = (size_t)in->cols;
    for (size_t t = 0; in->sample && t < in->n_sample; t++)
        for (size_t c = 0; c < n; c++)
            in->sample[t * n + c] /= k[c];
    for (size_t i = 0; in->gram && i < n; i++)
        for (size_t c = 0; c < n; c++)
            in->gram[i * n + c] /= k[i] * k[c];
    for (size_t c = 0; c < n; c++) {
        if (in->absmax) in->absmax[c] /= k[c];
        if (in->absmean) in->absmean[c] /= k[c];
    }
}

assay_status assay_fold_apply(const assay_fold *f, const float *s, assay_err *err) {
    assay_layer *layer = f->layer;
    float *v = vector_of(f);
    for (size_t i = 0; i < f->n_into; i++)
        ASSAY_TRY(assay_item_own(f->into[i], err));
    if (f->before) ASSAY_TRY(assay_item_own(f->before, err));
    float *k = assay_mallocn((size_t)f->cols, sizeof *k);
    if (!k) return assay_nomem(err);
    for (int64_t c = 0; c < f->cols; c++)
        k[c] = s[assay_fold_index(f, c)];
    for (size_t i = 0; i < f->n_into; i++) {
        multiply_columns(f->into[i], k);
        assay_item_touch(layer, f->into[i]);
    }
    divide_inputs(f, k);
    assay_free(k);
    if (f->before) {
        divide_rows(f, s);
        assay_item_touch(layer, f->before);
    }
    for (int64_t i = 0; v && i < f->n_scales; i++)
        v[i] = f->before ? v[i] / s[i] : divided(v[i], s[i], f);
    if (v) layer->vector_changed[f->vector] = true;
    return ASSAY_OK;
}

void assay_item_note(assay_item *item, const char *fmt, ...) {
    size_t used = strlen(item->chosen), room = sizeof item->chosen - used;
    const char *comma = used ? ", " : "";
    va_list args;
    char text[sizeof item->chosen];
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n + strlen(comma) >= room) return;
    snprintf(item->chosen + used, room, "%s%s", comma, text);
}
