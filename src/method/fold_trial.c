/* fold_trial.c: how much a scaling would lose, measured as AWQ does: with the matrices that share the input
 * quantized and everything else as it is, at the output of the block they stand in.
 *
 *   q, k, v    through norm / s, the encoded matrices and attention    |(a' - a) Wo^T|^2     (what makes them from latents likewise)
 *   gate, up   the same up to the product of gate and up               |(p' - p) Wdown^T|^2
 *   o, down    their own output                                        |Q(x / s) Q(W s)^T - x W^T|^2
 *
 * over the beginnings of a few calibration sequences, each token's part divided by the square of what the
 * layer makes of its hidden state: the norms that follow see errors relative to that, and the one or two
 * tokens with enormous states, which a plain sum would serve first, bear them best. The original sums plainly
 * over all calibration data.
 *
 * q, k and v are tried in the forward pass's own arithmetic with the matrices encoded, and so is everything
 * whose activations are in eight bits; the others by what changes alone (fold_delta.c), on some of their rows.
 * Of a matrix behind attention some rows are enough here, too. Sums are kept per block of rows and added in
 * order: the same for any number of threads. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "method/fold.h"
#include "num/convert.h"

/* --- products --- */

/* Rows of W in a task: enough that reading x once for them is worth it; and tasks, spread evenly, that a matrix
 * of more is known from where that is allowed. */
enum { ROWS_AT_ONCE = 128, TASKS_TRIED = 8 };

typedef struct product {
    const assay_item *item; /* W: the encoded matrix where there is one */
    const float *x;         /* [n][cols] */
    size_t n;
    bool some; /* a part of the rows will do */
    int64_t rows, cols, block_rows;
    size_t n_tasks, n_blocks;
    float *y;             /* [n][rows]: where x W^T goes; NULL: nowhere */
    const float *minus;   /* [n][rows] is compared with it; NULL: with 0 */
    const double *weight; /* [n] of a row's squares; NULL: 1 */
    float **scratch;      /* per thread: rows of W, outputs */
    double *sums;         /* per task */
    assay_status *status; /* per task */
} product;

static void product_task(void *ctx, size_t task, int thread) {
    product *p = ctx;
    int64_t row = (int64_t)(task * p->n_blocks / p->n_tasks) * p->block_rows;
    int64_t m = ASSAY_MIN(p->block_rows, p->rows - row);
    size_t cols = (size_t)p->cols;
    float *w = p->scratch[thread], *y = w + p->block_rows * p->cols;
    if (p->item->out.codes)
        assay_matrix_decode_rows(w, &p->item->out, row, m);
    else
        assay_item_read(w, p->item, row * p->cols, m * p->cols);
    p->status[task] =
        assay_gemm(y, (size_t)m, p->x, cols, false, w, cols, true, p->n, (size_t)m, cols, false, 1, NULL);
    for (size_t t = 0; p->status[task] == ASSAY_OK && t < p->n; t++) {
        size_t at = t * (size_t)p->rows + (size_t)row;
        double sum = 0;
        for (int64_t k = 0; k < m; k++) {
            double d =
                (double)y[t * (size_t)m + (size_t)k] - (p->minus ? (double)p->minus[at + (size_t)k] : 0);
            sum += d * d;
        }
        p->sums[task] += p->weight ? p->weight[t] * sum : sum;
        if (p->y) memcpy(p->y + at, y + t * (size_t)m, (size_t)m * sizeof *y);
    }
}

/* *sum = |x W^T - minus|^2 of the rows tried. */
static assay_status run_product(double *sum, product *p, int n_threads, assay_err *err) {
    p->rows = p->item->weight->dims[0];
    p->cols = p->item->weight->dims[1];
    p->block_rows = ASSAY_MIN(ROWS_AT_ONCE, p->rows);
    p->n_blocks = (size_t)((p->rows + p->block_rows - 1) / p->block_rows);
    size_t n_tasks = p->n_tasks = p->some ? ASSAY_MIN(p->n_blocks, (size_t)TASKS_TRIED) : p->n_blocks;
    assay_status s = ASSAY_OK;
    n_threads = ASSAY_MAX(n_threads, 1);
    p->scratch = assay_calloc((size_t)n_threads, sizeof *p->scratch);
    p->sums = assay_calloc(n_tasks, sizeof *p->sums);
    p->status = assay_calloc(n_tasks, sizeof *p->status);
    if (!p->scratch || !p->sums || !p->status) s = assay_nomem(err);
    for (int t = 0; s == ASSAY_OK && t < n_threads; t++)
        if (!(p->scratch[t] = assay_mallocn((size_t)p->block_rows * ((size_t)p->cols + p->n), sizeof(float))))
            s = assay_nomem(err);
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

/* --- the tokens tried --- */

/* All of them fit into a sample of inputs, so that its rows are theirs. */
enum { TRIAL_TOKENS = ASSAY_SAMPLE_ROWS, TRIAL_LENGTH = 128 };

static void set_inputs(assay_layer *layer, assay_tensor_role input, const assay_inputs *in) {
    layer->inputs[input] = *in;
    for (size_t i = 0; in->cols && i < layer->n_items; i++)
        if (assay_role_input(layer->items[i].role) == input) layer->items[i].in = &layer->inputs[input];
}

/* *sample [n][cols]: what goes into the matrices of that input now, for these tokens. What was collected of
 * it before stays. */
static assay_status take_sample(float **sample, size_t *cols, assay_fold_trial *t, assay_tensor_role input,
                                assay_err *err) {
    assay_layer *layer = t->fold->layer;
    assay_inputs was = layer->inputs[input];
    layer->inputs[input] = (assay_inputs){0};
    assay_excerpt_swap(&t->tokens->excerpt, layer);
    assay_status s = assay_layer_collect(layer, ASSAY_ROLE_BIT(input), ASSAY_COLLECT_SAMPLE, err);
    assay_excerpt_swap(&t->tokens->excerpt, layer);
    assay_inputs *in = &layer->inputs[input];
    *sample = in->sample;
    *cols = (size_t)in->cols;
    in->sample = NULL;
    assay_layer_forget(layer, ASSAY_ROLE_BIT(input));
    set_inputs(layer, input, &was);
    return s;
}

/* A token's part in the error: relative to what the layer leaves of it, as the norms after it see it. */
assay_status assay_fold_tokens_open(assay_fold_tokens *t, assay_layer *layer, assay_err *err) {
    size_t hidden = (size_t)layer->config->hidden_size;
    *t = (assay_fold_tokens){0};
    ASSAY_TRY(assay_excerpt_open(&t->excerpt, layer, TRIAL_TOKENS, TRIAL_LENGTH, err));
    const assay_excerpt *e = &t->excerpt;
    float *y = assay_mallocn(e->n_tokens * hidden, sizeof *y);
    t->weight = assay_mallocn(e->n_tokens, sizeof *t->weight);
    assay_status s = y && t->weight ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_layer_output(layer, y, e->x, e->lengths, e->n_seqs, err);
    for (size_t i = 0; s == ASSAY_OK && i < e->n_tokens; i++) {
        double sum = 1e-12;
        for (size_t k = 0; k < hidden; k++)
            sum += (double)y[i * hidden + k] * (double)y[i * hidden + k];
        t->weight[i] = 1 / sum;
    }
    assay_free(y);
    return s;
}

void assay_fold_tokens_close(assay_fold_tokens *t) {
    assay_excerpt_close(&t->excerpt);
    assay_free(t->weight);
    *t = (assay_fold_tokens){0};
}

/* --- norms --- */

static assay_status open_norm(assay_fold_trial *t, assay_err *err) {
    const assay_fold *f = t->fold;
    assay_layer *layer = f->layer;
    t->next = assay_layer_item(layer, f->input == ASSAY_ROLE_GATE ? ASSAY_ROLE_DOWN : ASSAY_ROLE_O);
    if (!t->next)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "layer %d: no matrix follows the scaled ones",
                          layer->index);
    t->norm = assay_mallocn((size_t)f->n_scales, sizeof *t->norm);
    if (!t->norm) return assay_nomem(err);
    memcpy(t->norm, layer->vector[f->vector], (size_t)f->n_scales * sizeof *t->norm);
    return take_sample(&t->reference, &t->width, t, t->next->role, err);
}

static assay_status error_of_norm(double *out, assay_fold_trial *t, const float *s, assay_err *err) {
    const assay_fold *f = t->fold;
    float *norm = f->layer->vector[f->vector], *x = NULL;
    size_t width;
    for (int64_t i = 0; i < f->n_scales; i++)
        norm[i] = t->norm[i] / s[i];
    assay_status status = take_sample(&x, &width, t, t->next->role, err);
    memcpy(norm, t->norm, (size_t)f->n_scales * sizeof *norm);
    for (size_t i = 0; status == ASSAY_OK && i < t->n * width; i++)
        x[i] -= t->reference[i];
    product p = {.item = t->next, .x = x, .n = t->n, .some = true, .weight = t->tokens->weight};
    if (status == ASSAY_OK) status = run_product(out, &p, f->layer->n_threads, err);
    assay_free(x);
    return status;
}

/* --- matrices: their own output --- */

static assay_status open_matrix(assay_fold_trial *t, assay_err *err) {
    const assay_fold *f = t->fold;
    double sum;
    t->width = (size_t)f->into[0]->weight->dims[0];
    t->reference = assay_mallocn(t->n * t->width, sizeof *t->reference);
    if (!t->reference) return assay_nomem(err);
    return run_product(&sum, &(product){.item = f->into[0], .x = t->inputs, .n = t->n, .y = t->reference},
                       f->layer->n_threads, err);
}

static float nearest_activation(float x, float scale, const assay_matrix *m) {
    if (m->precision == ASSAY_PRECISION_FP8_E4M3)
        return assay_e4m3_to_f32(assay_f32_to_e4m3(x / scale)) * scale;
    if (m->precision == ASSAY_PRECISION_FP8_E5M2)
        return assay_e5m2_to_f32(assay_f32_to_e5m2(x / scale)) * scale;
    return fminf(fmaxf(rintf(x / scale), -128), 127) * scale;
}

/* Activations as the matrix' kernel takes them: in eight bits with a scale per token or group, or a static
 * one. */
static void round_activations(float *x, size_t n, size_t cols, const assay_matrix *m) {
    float top = m->precision == ASSAY_PRECISION_FP8_E4M3   ? 448.0f
                : m->precision == ASSAY_PRECISION_FP8_E5M2 ? 57344.0f
                                                           : 127.0f;
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
        x[i] = t->inputs[i] / t->col_scale[i % cols];
    round_activations(x, t->n, cols, &item->out);
    product p = {.item = item, .x = x, .n = t->n, .minus = t->reference, .weight = t->tokens->weight};
    assay_status s = run_product(out, &p, t->fold->layer->n_threads, err);
    assay_free(x);
    return s;
}

/* --- both --- */

assay_status assay_fold_trial_open(assay_fold_trial *t, const assay_fold *f, assay_fold_tokens *tokens,
                                   assay_err *err) {
    const assay_inputs *in = &f->layer->inputs[f->input];
    bool delta = assay_fold_delta_can(f);
    size_t cols;
    *t = (assay_fold_trial){.fold = f, .tokens = tokens, .n = tokens->excerpt.n_tokens};
    t->col_scale = assay_mallocn((size_t)f->cols, sizeof *t->col_scale);
    if (!t->col_scale) return assay_nomem(err);
    if (in->absmax) {
        t->absmax = assay_mallocn((size_t)f->cols, sizeof *t->absmax);
        if (!t->absmax) return assay_nomem(err);
        memcpy(t->absmax, in->absmax, (size_t)f->cols * sizeof *t->absmax);
    }
    if (delta || f->before) ASSAY_TRY(take_sample(&t->inputs, &cols, t, f->input, err));
    if (delta) return assay_fold_delta_open(&t->delta, f, t->inputs, t->n, err);
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
    if (t->delta) return assay_fold_delta_error(out, t->delta, t->col_scale, t->tokens->weight, err);
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
    assay_free(t->inputs);
    assay_fold_delta_close(t->delta);
    *t = (assay_fold_trial){0};
}
