/* fold_trial.c: how much a scaling would lose, measured as AWQ does: with the matrices that share the input quantized and everything else
 * as it is, at the output of the block they stand in.
 *
 *   q, k, v    a few sequences run through norm / s, the encoded matrices and attention; |(a' - a) Wo^T|^2
 *   gate, up   the same up to the product of gate and up;                                |(p' - p) Wdown^T|^2
 *   o, down    their own output on the sample;                                           |Q(x / s) Q(W s)^T - x W^T|^2
 *
 * The runs use the forward pass's own arithmetic with the matrices encoded, so activations in eight bits need nothing further. The sums
 * are kept per block of rows and added in order: the same for any number of threads. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "method/fold.h"
#include "num/convert.h"

/* --- products --- */

typedef struct product {
    const assay_item *item; /* W: the encoded matrix where there is one */
    const float *x;         /* [n][cols] */
    size_t n;
    int64_t rows, cols, block_rows;
    float *y;             /* [n][rows]: where x W^T goes; NULL: */
    const float *minus;   /* [n][rows] is compared with it; NULL: with 0 */
    float **scratch;      /* per thread: rows of W, outputs */
    double *sums;         /* per task */
    assay_status *status; /* per task */
} product;

static void product_task(void *ctx, size_t task, int thread) {
    product *p = ctx;
    int64_t row = (int64_t)task * p->block_rows, m = ASSAY_MIN(p->block_rows, p->rows - row);
    size_t cols = (size_t)p->cols;
    float *w = p->scratch[thread], *y = w + p->block_rows * p->cols;
    if (p->item->out.codes)
        assay_matrix_decode_rows(w, &p->item->out, row, m);
    else
        assay_item_read(w, p->item, row * p->cols, m * p->cols);
    p->status[task] = assay_gemm(y, (size_t)m, p->x, cols, false, w, cols, true, p->n, (size_t)m, cols, false, 1, NULL);
    for (size_t t = 0; p->status[task] == ASSAY_OK && t < p->n; t++) {
        size_t at = t * (size_t)p->rows + (size_t)row;
        for (int64_t k = 0; k < m; k++) {
            double d = (double)y[t * (size_t)m + (size_t)k] - (p->minus ? (double)p->minus[at + (size_t)k] : 0);
            p->sums[task] += d * d;
        }
        if (p->y) memcpy(p->y + at, y + t * (size_t)m, (size_t)m * sizeof *y);
    }
}

/* *sum = |x W^T - minus|^2. */
static assay_status run_product(double *sum, product *p, int n_threads, assay_err *err) {
    p->rows = p->item->weight->dims[0];
    p->cols = p->item->weight->dims[1];
    p->block_rows = ASSAY_MIN(assay_block_rows(p->cols, 1), p->rows);
    size_t n_tasks = (size_t)((p->rows + p->block_rows - 1) / p->block_rows);
    assay_status s = ASSAY_OK;
    n_threads = ASSAY_MAX(n_threads, 1);
    p->scratch = assay_calloc((size_t)n_threads, sizeof *p->scratch);
    p->sums = assay_calloc(n_tasks, sizeof *p->sums);
    p->status = assay_calloc(n_tasks, sizeof *p->status);
    if (!p->scratch || !p->sums || !p->status) s = assay_nomem(err);
    for (int t = 0; s == ASSAY_OK && t < n_threads; t++)
        if (!(p->scratch[t] = assay_mallocn((size_t)p->block_rows * ((size_t)p->cols + p->n), sizeof(float)))) s = assay_nomem(err);
    if (s == ASSAY_OK) assay_parallel(n_threads, n_tasks, product_task, p);
    *sum = 0;
    for (size_t t = 0; s == ASSAY_OK && t < n_tasks; t++) {
        if (p->status[t] != ASSAY_OK) s = assay_nomem(err); /* nothing else fails there */
        *sum += p->sums[t];
    }
    for (int t = 0; p->scratch && t < n_threads; t++)
        assay_free(p->scratch[t]);
    assay_free(p->scratch);
    assay_free(p->sums);
    assay_free(p->status);
    return s;
}

/* --- norms: runs over a few sequences --- */

enum { TRIAL_TOKENS = 1024 };

/* The beginnings of sequences spread evenly over the calibration data. */
static assay_status choose_tokens(assay_fold_trial *t, assay_err *err) {
    const assay_layer *layer = t->fold->layer;
    size_t hidden = (size_t)layer->config->hidden_size, first = 0, picked = 0;
    t->n_seqs = ASSAY_MIN(layer->n_seqs, (size_t)ASSAY_TRIAL_SEQS);
    t->x = assay_mallocn(TRIAL_TOKENS * hidden, sizeof *t->x);
    if (!t->x) return assay_nomem(err);
    for (size_t i = 0; i < layer->n_seqs; first += (size_t)layer->lengths[i++]) {
        if (picked >= t->n_seqs || i != picked * layer->n_seqs / t->n_seqs) continue;
        size_t n = ASSAY_MIN((size_t)layer->lengths[i], TRIAL_TOKENS / t->n_seqs);
        memcpy(t->x + t->n_tokens * hidden, layer->x + first * hidden, n * hidden * sizeof *t->x);
        t->lengths[picked++] = (int32_t)n;
        t->n_tokens += n;
    }
    return ASSAY_OK;
}

/* The inputs of the next stage, for these tokens. */
static assay_status collect_next(assay_fold_trial *t, assay_err *err) {
    assay_layer *layer = t->fold->layer, was = *layer;
    layer->x = t->x;
    layer->lengths = t->lengths;
    layer->n_seqs = t->n_seqs;
    layer->n_tokens = t->n_tokens;
    assay_status s = assay_layer_collect(layer, ASSAY_ROLE_BIT(t->next->role), ASSAY_COLLECT_SAMPLE, err);
    layer->x = was.x;
    layer->lengths = was.lengths;
    layer->n_seqs = was.n_seqs;
    layer->n_tokens = was.n_tokens;
    return s;
}

static assay_status open_norm(assay_fold_trial *t, assay_err *err) {
    const assay_fold *f = t->fold;
    assay_layer *layer = f->layer;
    t->next = assay_layer_item(layer, f->input == ASSAY_ROLE_Q ? ASSAY_ROLE_O : ASSAY_ROLE_DOWN);
    if (!t->next) return assay_fail(err, ASSAY_EUNSUPPORTED, "layer %d: no matrix follows the scaled ones", layer->index);
    t->norm = assay_mallocn((size_t)f->n_scales, sizeof *t->norm);
    if (!t->norm) return assay_nomem(err);
    memcpy(t->norm, layer->vector[f->vector], (size_t)f->n_scales * sizeof *t->norm);
    ASSAY_TRY(choose_tokens(t, err));
    ASSAY_TRY(collect_next(t, err));
    assay_inputs *in = &layer->inputs[t->next->role];
    t->n = in->n_sample;
    t->width = (size_t)in->cols;
    t->reference = in->sample;
    in->sample = NULL; /* ours now */
    assay_layer_forget(layer, ASSAY_ROLE_BIT(t->next->role));
    return ASSAY_OK;
}

static assay_status error_of_norm(double *out, assay_fold_trial *t, const float *s, assay_err *err) {
    const assay_fold *f = t->fold;
    assay_layer *layer = f->layer;
    float *norm = layer->vector[f->vector];
    for (int64_t i = 0; i < f->n_scales; i++)
        norm[i] = t->norm[i] / s[i];
    assay_status status = collect_next(t, err);
    memcpy(norm, t->norm, (size_t)f->n_scales * sizeof *norm);
    if (status != ASSAY_OK) return status;
    float *x = layer->inputs[t->next->role].sample;
    for (size_t i = 0; i < t->n * t->width; i++)
        x[i] -= t->reference[i];
    status = run_product(out, &(product){.item = t->next, .x = x, .n = t->n}, layer->n_threads, err);
    assay_layer_forget(layer, ASSAY_ROLE_BIT(t->next->role));
    return status;
}

/* --- matrices: their own output --- */

static assay_status open_matrix(assay_fold_trial *t, assay_err *err) {
    const assay_item *item = t->fold->into[0];
    const assay_inputs *in = item->in;
    double sum;
    if (!in || !in->sample) return assay_fail(err, ASSAY_EUSAGE, "tensor '%s': its inputs were not collected", item->weight->name);
    t->n = in->n_sample;
    t->width = (size_t)item->weight->dims[0];
    t->reference = assay_mallocn(t->n * t->width, sizeof *t->reference);
    if (!t->reference) return assay_nomem(err);
    return run_product(&sum, &(product){.item = item, .x = in->sample, .n = t->n, .y = t->reference}, t->fold->layer->n_threads, err);
}

static float nearest_activation(float x, float scale, const assay_matrix *m) {
    if (m->precision == ASSAY_PRECISION_FP8_E4M3) return assay_e4m3_to_f32(assay_f32_to_e4m3(x / scale)) * scale;
    if (m->precision == ASSAY_PRECISION_FP8_E5M2) return assay_e5m2_to_f32(assay_f32_to_e5m2(x / scale)) * scale;
    return fminf(fmaxf(rintf(x / scale), -128), 127) * scale;
}

/* Activations as the matrix' kernel takes them: in eight bits with a scale per token or group, or a static one. */
static void round_activations(float *x, size_t n, size_t cols, const assay_matrix *m) {
    float top = m->precision == ASSAY_PRECISION_FP8_E4M3 ? 448.0f : m->precision == ASSAY_PRECISION_FP8_E5M2 ? 57344.0f : 127.0f;
    size_t group = m->act_group ? (size_t)m->act_group : cols;
    if (m->act_bits != 8) return;
    for (size_t t = 0; t < n; t++)
        for (size_t first = 0; first < cols; first += group) {
            float *v = x + t * cols + first, most = 0;
            size_t k = ASSAY_MIN(group, cols - first);
            for (size_t i = 0; i < k; i++)
                most = fmaxf(most, fabsf(v[i]));
            float scale = m->input_scale > 0 ? m->input_scale : most / top;
            for (size_t i = 0; i < k && scale > 0; i++)
                v[i] = nearest_activation(v[i], scale, m);
        }
}

static assay_status error_of_matrix(double *out, assay_fold_trial *t, assay_err *err) {
    const assay_item *item = t->fold->into[0];
    size_t cols = (size_t)t->fold->cols;
    float *x = assay_mallocn(t->n * cols, sizeof *x);
    if (!x) return assay_nomem(err);
    for (size_t i = 0; i < t->n * cols; i++)
        x[i] = item->in->sample[i] / t->col_scale[i % cols];
    round_activations(x, t->n, cols, &item->out);
    product p = {.item = item, .x = x, .n = t->n, .minus = t->reference};
    assay_status s = run_product(out, &p, t->fold->layer->n_threads, err);
    assay_free(x);
    return s;
}

/* --- both --- */

assay_status assay_fold_trial_open(assay_fold_trial *t, const assay_fold *f, assay_err *err) {
    const assay_inputs *in = &f->layer->inputs[f->input];
    *t = (assay_fold_trial){.fold = f};
    t->col_scale = assay_mallocn((size_t)f->cols, sizeof *t->col_scale);
    if (!t->col_scale) return assay_nomem(err);
    if (in->absmax) {
        t->absmax = assay_mallocn((size_t)f->cols, sizeof *t->absmax);
        if (!t->absmax) return assay_nomem(err);
        memcpy(t->absmax, in->absmax, (size_t)f->cols * sizeof *t->absmax);
    }
    return f->before ? open_matrix(t, err) : open_norm(t, err);
}

/* The largest inputs are what a static scale is made of: as they would be. */
static void scale_absmax(assay_fold_trial *t, bool back) {
    float *absmax = t->fold->layer->inputs[t->fold->input].absmax;
    for (int64_t c = 0; t->absmax && c < t->fold->cols; c++)
        absmax[c] = back ? t->absmax[c] : t->absmax[c] / t->col_scale[c];
}

assay_status assay_fold_trial_error(double *out, assay_fold_trial *t, const float *s, assay_err *err) {
    const assay_fold *f = t->fold;
    assay_status status = ASSAY_OK;
    for (int64_t c = 0; c < f->cols; c++)
        t->col_scale[c] = s[assay_fold_index(f, c)];
    scale_absmax(t, false);
    for (size_t i = 0; status == ASSAY_OK && i < f->n_into; i++) {
        status = assay_fold_encode(f->into[i], t->col_scale, NULL, f->layer->n_threads, err);
        assay_item_touch(f->layer, f->into[i]);
    }
    if (status == ASSAY_OK) status = f->before ? error_of_matrix(out, t, err) : error_of_norm(out, t, s, err);
    for (size_t i = 0; i < f->n_into; i++) {
        assay_item_touch(f->layer, f->into[i]);
        assay_matrix_deinit(&f->into[i]->out);
        f->into[i]->out = (assay_matrix){0};
    }
    scale_absmax(t, true);
    return status;
}

void assay_fold_trial_close(assay_fold_trial *t) {
    assay_free(t->reference);
    assay_free(t->col_scale);
    assay_free(t->absmax);
    assay_free(t->norm);
    assay_free(t->x);
    *t = (assay_fold_trial){0};
}
