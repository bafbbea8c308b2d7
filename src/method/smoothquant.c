/* smoothquant.c: SmoothQuant (Xiao et al. 2022): weights in 8 bits per row and activations in 8 bits, after
 * outliers of the inputs have been moved into the weights:
 *
 *   s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), at least 1e-5     (smooth.py)
 *
 * folded into the norms before q, k, v and before gate, up, as the original does. alpha_search tries alpha =
 * 0, 0.05, ... 1 for each place on its own, beginning with no scaling at all, with weights and activations
 * rounded (fold_trial.c), and then also o and down, which are scaled only where that helps.
 *
 * As a transform (smooth: true) it serves other methods with 8-bit activations. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "method/fold.h"

/* --- the method --- */

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT8;
    c->group_size = 0;
    if (!(set & ASSAY_OPT_SMOOTH)) c->smooth = true;
    if (!(set & ASSAY_OPT_ALPHA)) c->alpha = 0.5;
    if (!(set & ASSAY_OPT_ACTIVATIONS)) c->activations = ASSAY_ACTIVATIONS_DYNAMIC;
}

static const char *check(const assay_choice *c) {
    if (c->precision != ASSAY_PRECISION_INT8) return "precision must be int8";
    return c->activations == ASSAY_ACTIVATIONS_16BIT
               ? "activations must be dynamic or static: with 16 bits it is rtn"
               : NULL;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        ASSAY_TRY(assay_fold_encode(items[i], NULL, NULL, layer->n_threads, err));
    }
    return ASSAY_OK;
}

const assay_method assay_method_smoothquant = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_SMOOTH | ASSAY_OPT_ALPHA | ASSAY_OPT_ALPHA_SEARCH |
               ASSAY_OPT_ACTIVATIONS,
    .needs = ASSAY_COLLECT_SAMPLE,
    .implied = ASSAY_OPT_SMOOTH,
    .complete = complete,
    .check = check,
    .quantize = quantize,
};

/* --- the transform --- */

enum { N_ALPHAS = 21 };

typedef struct smoother {
    const assay_fold *fold;
    float *x, *w;    /* [n_scales] largest |x|, |w| */
    float *s, *best; /* [n_scales] */
} smoother;

static assay_status open_smoother(smoother *h, const assay_fold *f, assay_err *err) {
    size_t n = (size_t)f->n_scales;
    *h = (smoother){.fold = f};
    h->x = assay_mallocn(n, sizeof *h->x);
    h->w = assay_mallocn(n, sizeof *h->w);
    h->s = assay_mallocn(n, sizeof *h->s);
    h->best = assay_mallocn(n, sizeof *h->best);
    float *most = assay_mallocn((size_t)f->cols, sizeof *most);
    assay_status s = h->x && h->w && h->s && h->best && most ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_fold_columns(NULL, most, f, err);
    if (s == ASSAY_OK) {
        assay_fold_max(h->x, f, f->layer->inputs[f->input].absmax);
        assay_fold_max(h->w, f, most);
    }
    assay_free(most);
    return s;
}

static void close_smoother(smoother *h) {
    assay_free(h->x);
    assay_free(h->w);
    assay_free(h->s);
    assay_free(h->best);
}

static void form_scales(smoother *h, double alpha) {
    for (int64_t i = 0; i < h->fold->n_scales; i++) {
        double x = fmax((double)h->x[i], 1e-5), w = fmax((double)h->w[i], 1e-5);
        h->s[i] = fmaxf((float)(pow(x, alpha) / pow(w, 1 - alpha)), 1e-5f);
    }
    assay_fold_exact(h->s, h->fold);
}

/* *alpha: the best, negative when no scaling is; its scales in h->best. */
static assay_status search(double *alpha, smoother *h, assay_err *err) {
    size_t n = (size_t)h->fold->n_scales;
    assay_fold_tokens tokens = {0};
    assay_fold_trial trial = {0};
    assay_status s;
    double least, e;
    *alpha = -1;
    ASSAY_GO(assay_fold_tokens_open(&tokens, h->fold->layer, err));
    ASSAY_GO(assay_fold_trial_open(&trial, h->fold, &tokens, err));
    for (size_t i = 0; i < n; i++)
        h->best[i] = 1;
    ASSAY_GO(assay_fold_trial_error(&least, &trial, h->best, err));
    for (int i = 0; i < N_ALPHAS; i++) {
        form_scales(h, (double)i / (N_ALPHAS - 1));
        ASSAY_GO(assay_fold_trial_error(&e, &trial, h->s, err));
        if (!(e < least)) continue;
        least = e;
        *alpha = (double)i / (N_ALPHAS - 1);
        memcpy(h->best, h->s, n * sizeof *h->s);
    }
out:
    assay_fold_trial_close(&trial);
    assay_fold_tokens_close(&tokens);
    return s;
}

static assay_status smooth(const assay_fold *f, double alpha, bool searched, assay_err *err) {
    smoother h;
    assay_status s;
    ASSAY_GO(open_smoother(&h, f, err));
    form_scales(&h, alpha);
    if (searched) ASSAY_GO(search(&alpha, &h, err));
    for (size_t i = 0; i < f->n_into; i++)
        if (alpha >= 0)
            assay_item_note(f->into[i], "\"smooth_alpha\": %.2f", alpha);
        else
            assay_item_note(f->into[i], "\"smooth_alpha\": null");
    if (alpha >= 0) s = assay_fold_apply(f, searched ? h.best : h.s, err);
out:
    close_smoother(&h);
    return s;
}

/* The first choice of that input's matrices that wants it. */
static const assay_choice *wish(const assay_layer *layer, assay_tensor_role input) {
    for (size_t i = 0; i < layer->n_items; i++) {
        const assay_choice *c = layer->items[i].choice;
        if (assay_role_input(layer->items[i].role) == input && c->method != ASSAY_METHOD_NONE && c->smooth)
            return c;
    }
    return NULL;
}

assay_status assay_smooth_prepare(assay_layer *layer, assay_err *err) {
    static const assay_tensor_role inputs[] = {ASSAY_ROLE_Q, ASSAY_ROLE_KV_B, ASSAY_ROLE_Q_B, ASSAY_ROLE_O, ASSAY_ROLE_GATE, ASSAY_ROLE_DOWN,
                                               ASSAY_ROLE_SHARED_DOWN};
    for (size_t i = 0; i < ASSAY_LEN(inputs); i++) {
        const assay_choice *c = wish(layer, inputs[i]);
        assay_fold f;
        const char *why_not = c ? assay_fold_open(&f, layer, inputs[i]) : NULL;
        if (!c || (!why_not && f.before && !c->alpha_search)) continue;
        for (size_t k = 0; why_not && k < layer->n_items; k++)
            if (assay_role_input(layer->items[k].role) == inputs[i])
                assay_item_note(&layer->items[k], "\"unsmoothed\": \"%s\"", why_not);
        if (why_not) continue;
        ASSAY_TRY(assay_layer_collect(layer, ASSAY_ROLE_BIT(inputs[i]),
                                      ASSAY_COLLECT_SAMPLE | ASSAY_COLLECT_STATS, err));
        ASSAY_TRY(smooth(&f, c->alpha, c->alpha_search, err));
        assay_layer_forget(layer, ASSAY_ROLE_BIT(inputs[i]));
    }
    return ASSAY_OK;
}
