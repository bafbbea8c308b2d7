/* awq.c: activation-aware weight quantization (Lin et al. 2023): before rounding, columns that see large
 * inputs are made larger and the inputs smaller by the same factors, and ranges are drawn in where that loses
 * less.
 *
 * Scales. For each place of fold.h a grid of twenty ratios r = 0, 0.05, ... 0.95 in the originals' two forms,
 *
 *   s = mean|x|^r                            llm-awq, auto_scale.py
 *   s = mean|x|^r / (mean_w^(1-r) + 1e-4)    AutoAWQ's and llm-compressor's duo_scaling;
 *                                            mean_w: of |w| / the largest |w| of its group
 *
 * both divided by sqrt(max s * min s),
 *
 * and the one is taken whose rounding to nearest changes the block's output least (fold_trial.c); leaving the
 * weights alone is the first of them. The error is smooth in r: every second ratio is tried, then those beside
 * the best. The originals search one of the forms only; both cost twice the time and are never worse on the
 * tokens tried. With grouped-query attention, where the originals leave o alone,
 * the query heads that share a value head share its scales.
 *
 * Clipping: awq_clip.c; not for q and k, whose outputs meet in a product.
 *
 * The two searches serve other methods as well (awq_scale, awq_clip). This one then rounds to nearest within
 * the clipped ranges. */
#include "method/awq.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "method/fold.h"

/* --- the method --- */

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT4;
    if (!(set & ASSAY_OPT_GROUP_SIZE))
        c->group_size = c->precision == ASSAY_PRECISION_MXFP4   ? 32
                        : c->precision == ASSAY_PRECISION_NVFP4 ? 16
                                                                : 128;
    if (!(set & ASSAY_OPT_SYMMETRIC))
        c->asymmetric = assay_precision_get_kind(c->precision) == ASSAY_KIND_INT;
    if (!(set & ASSAY_OPT_AWQ_SCALE)) c->awq_scale = true;
    if (!(set & ASSAY_OPT_AWQ_CLIP)) c->awq_clip = true;
    if (!(set & ASSAY_OPT_DUO_SCALING)) c->duo_scaling = c->awq_scale;
}

static const char *check(const assay_choice *c) {
    bool mx = c->precision == ASSAY_PRECISION_MXFP4, nv = c->precision == ASSAY_PRECISION_NVFP4;
    if (assay_precision_get_kind(c->precision) != ASSAY_KIND_INT && !mx && !nv)
        return "precision must be int2 to int8, mxfp4 or nvfp4";
    if ((mx && c->group_size != 32) || (nv && c->group_size != 16))
        return "mxfp4 has groups of 32 columns, nvfp4 of 16";
    if ((mx || nv) && c->asymmetric) return "small floats have no zero points";
    if (c->group_size < 0 || c->group_size > (1 << 20))
        return "group_size must be 'channel' or from 1 to 1048576";
    return NULL;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        ASSAY_TRY(assay_fold_encode(items[i], NULL, items[i]->clip, layer->n_threads, err));
    }
    return ASSAY_OK;
}

const assay_method assay_method_awq = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_FORMAT | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_AWQ_SCALE |
               ASSAY_OPT_AWQ_CLIP | ASSAY_OPT_DUO_SCALING,
    .needs = ASSAY_COLLECT_SAMPLE,
    .implied = ASSAY_OPT_AWQ_SCALE,
    .complete = complete,
    .check = check,
    .check_shape = assay_choice_check_groups,
    .quantize = quantize,
};

/* --- scales --- */

enum { N_RATIOS = 20 };

typedef struct search {
    const assay_fold *fold;
    assay_fold_trial trial;
    float *x, *w;        /* [n_scales] mean |x|, mean_w */
    float *s, *best;     /* [n_scales] */
    double first, least; /* errors: of no scaling, of the best */
    double ratio;
    bool duo;
} search;

static void normalize(float *s, int64_t n) {
    float most = 0, least = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        most = fmaxf(most, s[i]);
        least = fminf(least, s[i]);
    }
    float middle = sqrtf(most * least);
    for (int64_t i = 0; i < n; i++)
        s[i] /= middle;
}

static void form_scales(search *h, double ratio, bool duo) {
    int64_t n = h->fold->n_scales;
    for (int64_t i = 0; i < n; i++) {
        double v = pow((double)h->x[i], ratio);
        if (duo) v /= pow((double)h->w[i], 1 - ratio) + 1e-4;
        h->s[i] = fmaxf((float)v, 1e-4f);
    }
    normalize(h->s, n);
    assay_fold_exact(h->s, h->fold);
}

static assay_status try_one(search *h, double ratio, bool duo, assay_err *err) {
    double e;
    form_scales(h, ratio, duo);
    ASSAY_TRY(assay_fold_trial_error(&e, &h->trial, h->s, err));
    if (!duo && ratio == 0) h->first = e;
    if ((duo || ratio > 0) && !(e < h->least)) return ASSAY_OK;
    h->least = e;
    h->ratio = ratio;
    h->duo = duo;
    memcpy(h->best, h->s, (size_t)h->fold->n_scales * sizeof *h->s);
    return ASSAY_OK;
}

static assay_status open_search(search *h, const assay_fold *f, assay_fold_tokens *tokens, assay_err *err) {
    size_t n = (size_t)f->n_scales;
    assay_status s;
    *h = (search){.fold = f};
    h->x = assay_mallocn(n, sizeof *h->x);
    h->w = assay_mallocn(n, sizeof *h->w);
    h->s = assay_mallocn(n, sizeof *h->s);
    h->best = assay_mallocn(n, sizeof *h->best);
    float *mean = assay_mallocn((size_t)f->cols, sizeof *mean);
    if (!h->x || !h->w || !h->s || !h->best || !mean) {
        s = assay_nomem(err);
        goto out;
    }
    assay_fold_mean(h->x, f, f->layer->inputs[f->input].absmean);
    ASSAY_GO(assay_fold_columns(mean, NULL, f, err));
    assay_fold_mean(h->w, f, mean);
    s = assay_fold_trial_open(&h->trial, f, tokens, err);
out:
    assay_free(mean);
    return s;
}

static void close_search(search *h) {
    assay_fold_trial_close(&h->trial);
    assay_free(h->x);
    assay_free(h->w);
    assay_free(h->s);
    assay_free(h->best);
}

/* Every second ratio of each form, then those beside the best. */
static assay_status try_all(search *h, bool both, assay_err *err) {
    for (int duo = 0; duo <= (both ? 1 : 0); duo++)
        for (int i = 0; i < N_RATIOS; i += 2)
            ASSAY_TRY(try_one(h, (double)i / N_RATIOS, duo, err));
    int best = (int)lrint(h->ratio * N_RATIOS);
    bool duo = h->duo;
    if (best > 0) ASSAY_TRY(try_one(h, (double)(best - 1) / N_RATIOS, duo, err));
    return try_one(h, (double)(best + 1) / N_RATIOS, duo, err);
}

static assay_status scale(const assay_fold *f, assay_fold_tokens *tokens, bool both, assay_err *err) {
    search h = {0};
    assay_status s;
    ASSAY_GO(open_search(&h, f, tokens, err));
    ASSAY_GO(try_all(&h, both, err));
    for (size_t i = 0; i < f->n_into; i++) {
        assay_item_note(f->into[i], "\"awq_ratio\": %.2f, \"awq_duo\": %s", h.ratio,
                        h.duo ? "true" : "false");
        assay_item_note(f->into[i], "\"awq_gain\": %.3f", h.first > 0 ? h.least / h.first : 1.0);
    }
    s = h.duo || h.ratio > 0 ? assay_fold_apply(f, h.best, err) : ASSAY_OK;
out:
    close_search(&h);
    return s;
}

/* --- a layer --- */

static const assay_tensor_role inputs[] = {ASSAY_ROLE_Q, ASSAY_ROLE_KV_B, ASSAY_ROLE_Q_B, ASSAY_ROLE_O, ASSAY_ROLE_GATE, ASSAY_ROLE_DOWN,
                                           ASSAY_ROLE_SHARED_DOWN};

/* What the choices of the matrices of an input ask for. */
typedef struct wishes {
    bool scale, duo, clip;
} wishes;

static wishes wishes_of(const assay_layer *layer, assay_tensor_role input) {
    wishes w = {0};
    for (size_t i = 0; i < layer->n_items; i++) {
        const assay_choice *c = layer->items[i].choice;
        if (assay_role_input(layer->items[i].role) != input || c->method == ASSAY_METHOD_NONE) continue;
        w.scale = w.scale || c->awq_scale;
        w.duo = w.duo || (c->awq_scale && c->duo_scaling);
        w.clip = w.clip || c->awq_clip;
    }
    return w;
}

static assay_status clip(assay_layer *layer, assay_tensor_role input, assay_err *err) {
    for (size_t i = 0; i < layer->n_items; i++) {
        assay_item *item = &layer->items[i];
        bool wanted = assay_role_input(item->role) == input && item->choice->method != ASSAY_METHOD_NONE &&
                      item->choice->awq_clip;
        if (wanted && item->role != ASSAY_ROLE_Q && item->role != ASSAY_ROLE_K)
            ASSAY_TRY(assay_awq_clip(item, layer->n_threads, err));
    }
    return ASSAY_OK;
}

static assay_status prepare(assay_layer *layer, assay_tensor_role input, assay_fold_tokens *tokens,
                            assay_err *err) {
    wishes w = wishes_of(layer, input);
    assay_fold f;
    const char *why_not = w.scale ? assay_fold_open(&f, layer, input) : NULL;
    if (w.scale && !why_not) ASSAY_TRY(scale(&f, tokens, w.duo, err));
    for (size_t i = 0; why_not && i < layer->n_items; i++)
        if (assay_role_input(layer->items[i].role) == input)
            assay_item_note(&layer->items[i], "\"awq_unscaled\": \"%s\"", why_not);
    if (w.clip) ASSAY_TRY(clip(layer, input, err));
    assay_layer_forget(layer, ASSAY_ROLE_BIT(input));
    return ASSAY_OK;
}

/* All inputs that are wanted, once: foldings scale what was collected along. */
static assay_status collect(assay_layer *layer, uint64_t roles, bool gram, assay_err *err) {
    unsigned what = ASSAY_COLLECT_SAMPLE | ASSAY_COLLECT_STATS;
    uint64_t wide = assay_excerpt_roles(layer, roles);
    if (roles & ~wide)
        ASSAY_TRY(assay_layer_collect(layer, roles & ~wide, what | (gram ? ASSAY_COLLECT_GRAM : 0), err));
    return wide ? assay_excerpt_collect(layer, wide, what, err) : ASSAY_OK;
}

assay_status assay_awq_prepare(assay_layer *layer, assay_err *err) {
    assay_fold_tokens tokens = {0};
    uint64_t roles = 0;
    bool any_scale = false, any_clip = false;
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < ASSAY_LEN(inputs); i++) {
        wishes w = wishes_of(layer, inputs[i]);
        if (w.scale || w.clip) roles |= ASSAY_ROLE_BIT(inputs[i]);
        any_scale = any_scale || w.scale;
        any_clip = any_clip || w.clip;
    }
    if (!roles) return ASSAY_OK;
    ASSAY_TRY(collect(layer, roles, any_clip, err));
    if (any_scale) ASSAY_GO(assay_fold_tokens_open(&tokens, layer, err));
    for (size_t i = 0; i < ASSAY_LEN(inputs) && s == ASSAY_OK; i++)
        s = prepare(layer, inputs[i], &tokens, err);
out:
    assay_fold_tokens_close(&tokens);
    return s;
}
