/* gptq.c: GPTQ (Frantar et al. 2022): codes that lose least on the layer's own inputs, |X (W - Q)^T|, instead of least in weight.
 *
 *   H = X^T X from calibration, damped: H + p mean(diag H) I. p grows by 0.01 (as GPTQModel's does) until H is positive definite
 *   F of H's reverse Cholesky factor (linalg), once for all matrices that share an input
 *   columns are rounded in order with the errors so far fed back (feedback.c)
 *
 * act_order says which columns come first. Those with large H_ii lose most and have the most columns left to make up for them:
 *   none    as they stand; a group's parameters follow the weights as they are when its turn comes
 *   static  by descending H_ii; parameters are fitted to the original weights before, so codes and groups stay in place
 *   group   by descending H_ii; groups are runs of that order, which files say by g_idx and few kernels serve fast
 *   gar     whole groups by their largest H_ii, columns by descending H_ii within each (group-aware reordering, Gafni et al. 2025):
 *           everything stays in place and parameters still follow the weights
 *
 * Defaults: static, as llm-compressor has it, and p = 0.2; the original's 0.01 in the columns' own order trusts a short calibration too
 * much, and so does GPTQModel's 0.05 where the text is another. KL of models/demo at 4 bits, calibrated on 92 chats, by damping:
 *           0.05              0.2               1                 rtn
 *   prose / WikiText-2 / TinyStories
 *           .0004 .058 .057   .0004 .041 .036   .0005 .033 .029   .0010 .041 .038
 * At 3 bits 0.2 and 1 were better than 0.05 on all three. Two and three bits search the clipping. Held-out KL of models/demo in groups of 128, calibrated on 128 short
 * chats, measured on other text; one draw of chats, so small differences mean little:
 *           rtn     none .01  none .05  gar .05  static .01  static .05   with mse: none .01  gar .05  static .05
 *   int4    .0047   .0054     .0036     .0038    .0049       .0031                  .0052     -        .0045
 *   int3    .0383   .0358     .0356     .0215    .0230       .0229                  .0227     .0178    .0163
 *
 * Columns that no input ever reached (H_ii = 0) tell nothing: they are rounded to nearest and take and give no feedback. The original sets
 * them to zero, which loses as little on the calibration data and everything where such a channel does fire.
 *
 * Experts that saw few tokens: H has few directions and the damping is the rest. More of it than usual was tried (in proportion to columns
 * per token, its root, its square) and gained nothing: with 4 tokens for 128 channels the KL on other text was half of rounding's either
 * way. An expert that saw none is rounded to nearest; both are told (assay_quantize_warning).
 *
 * Any precision with a grid: integers of 2 to 8 bits, NF4, FP4, FP8, MXFP4, NVFP4. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "method/feedback.h"
#include "method/fold.h"

#define DAMP_STEP 0.01

/* --- options --- */

static bool is_fp8(const assay_choice *c) {
    return c->precision == ASSAY_PRECISION_FP8_E4M3 || c->precision == ASSAY_PRECISION_FP8_E5M2;
}

/* Integers whose ends cost more steps than they are worth. */
static bool is_narrow(const assay_choice *c) {
    return assay_precision_get_kind(c->precision) == ASSAY_KIND_INT && assay_precision_bits(c->precision) <= 3;
}

static int64_t own_group_size(const assay_choice *c) {
    switch (c->precision) {
    case ASSAY_PRECISION_MXFP4: return 32;
    case ASSAY_PRECISION_NVFP4: return 16;
    case ASSAY_PRECISION_NF4:
    case ASSAY_PRECISION_FP4: return 64;
    case ASSAY_PRECISION_INT8: return 0;
    default: return is_fp8(c) ? 0 : 128;
    }
}

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT4;
    if (!(set & ASSAY_OPT_GROUP_SIZE)) c->group_size = own_group_size(c);
    if (!(set & ASSAY_OPT_DAMP_PERCENT)) c->damp_percent = 0.2;
    if (!(set & ASSAY_OPT_ACT_ORDER)) c->act_order = ASSAY_ACT_ORDER_STATIC;
    if (!(set & ASSAY_OPT_MSE)) c->mse = is_narrow(c);
    if (!(set & ASSAY_OPT_TRUE_SEQUENTIAL)) c->true_sequential = true;
    if (!(set & ASSAY_OPT_ALPHA) && c->smooth) c->alpha = 0.5;
    if (!(set & ASSAY_OPT_ACTIVATIONS) && is_fp8(c)) c->activations = ASSAY_ACTIVATIONS_DYNAMIC;
}

static const char *check_group_size(const assay_choice *c) {
    if (c->group_size < 0 || c->group_size > (1 << 20)) return "group_size must be 'channel' or from 1 to 1048576";
    switch (assay_precision_get_kind(c->precision)) {
    case ASSAY_KIND_CODEBOOK:
        return c->group_size < 32 || c->group_size > 4096 || (c->group_size & (c->group_size - 1))
                   ? "group_size must be a power of two from 32 to 4096"
                   : NULL;
    case ASSAY_KIND_FLOAT: return c->group_size != own_group_size(c) ? "this precision has a group size of its own" : NULL;
    default: return NULL;
    }
}

static const char *check(const assay_choice *c) {
    assay_precision_kind kind = assay_precision_get_kind(c->precision);
    const char *wrong = kind == ASSAY_KIND_DENSE ? "precision must be one with codes" : check_group_size(c);
    if (wrong) return wrong;
    if (c->asymmetric && kind != ASSAY_KIND_INT) return "only integers can be asymmetric";
    if (c->double_quant && kind != ASSAY_KIND_CODEBOOK) return "double_quant is for nf4 and fp4";
    if (c->scale != ASSAY_SCALE_CHANNEL && !is_fp8(c)) return "scale is for fp8";
    if (c->activations != ASSAY_ACTIVATIONS_16BIT && !is_fp8(c) &&
        (c->precision != ASSAY_PRECISION_INT8 || c->group_size || c->asymmetric))
        return "activations in 8 bits need fp8, or int8 that is symmetric and has one scale per row";
    if (c->act_order == ASSAY_ACT_ORDER_GROUP && kind != ASSAY_KIND_INT) return "act_order group is for integers";
    if (c->act_order == ASSAY_ACT_ORDER_GROUP && c->awq_clip)
        return "awq_clip is for groups that stay in place, act_order group moves them";
    return NULL;
}

/* --- the Hessian --- */

/* What rounding needs of an input's H, for all matrices that ask for it in the same way. */
typedef struct hessian {
    const assay_inputs *in; /* NULL: not made */
    assay_act_order act_order;
    size_t unit; /* columns that stay together in the order: the group size for gar, else 1 */
    double asked, damp; /* percent of the mean diagonal: asked for, and used */
    size_t n_dead;
    float *f;       /* [cols][cols] */
    double *weight; /* [cols] */
    int32_t *order; /* [cols], or NULL */
} hessian;

static void hessian_free(hessian *h) {
    assay_free_aligned(h->f);
    assay_free(h->weight);
    assay_free(h->order);
    *h = (hessian){0};
}

typedef struct place {
    float unit_importance, importance;
    int32_t column, unit;
} place;

static int by_importance(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->unit_importance != y->unit_importance) return x->unit_importance > y->unit_importance ? -1 : 1;
    if (x->unit != y->unit) return x->unit < y->unit ? -1 : 1;
    if (x->importance != y->importance) return x->importance > y->importance ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

static void rank_columns(place *p, const hessian *h) {
    size_t n = (size_t)h->in->cols;
    for (size_t first = 0; first < n; first += h->unit) {
        size_t end = ASSAY_MIN(first + h->unit, n);
        float most = 0;
        for (size_t i = first; i < end; i++) most = fmaxf(most, h->in->gram[i * n + i]);
        for (size_t i = first; i < end; i++) p[i] = (place){most, h->in->gram[i * n + i], (int32_t)i, (int32_t)(first / h->unit)};
    }
    qsort(p, n, sizeof *p, by_importance);
}

static assay_status order_columns(hessian *h, assay_err *err) {
    size_t n = (size_t)h->in->cols;
    if (h->act_order == ASSAY_ACT_ORDER_NONE) return ASSAY_OK;
    place *p = assay_mallocn(n, sizeof *p);
    h->order = assay_mallocn(n, sizeof *h->order);
    if (p && h->order) {
        rank_columns(p, h);
        for (size_t i = 0; i < n; i++) h->order[i] = p[i].column;
    }
    assay_free(p);
    return p && h->order ? ASSAY_OK : assay_nomem(err);
}

/* H's row at each position. */
static void copy_rows(void *ctx, size_t begin, size_t end, int thread) {
    const hessian *h = ctx;
    size_t n = (size_t)h->in->cols;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *from = h->in->gram + (h->order ? (size_t)h->order[i] : i) * n;
        for (size_t j = i; j < n; j++) h->f[i * n + j] = from[h->order ? (size_t)h->order[j] : j];
    }
}

/* Mean of the diagonal over columns that saw anything; 1 when none did. */
static assay_status mean_diagonal(double *mean, hessian *h, assay_err *err) {
    size_t n = (size_t)h->in->cols;
    double sum = 0;
    *mean = 1;
    for (size_t i = 0; i < n; i++) {
        double d = (double)h->in->gram[i * n + i];
        if (!isfinite(d)) return assay_fail(err, ASSAY_EINPUT, "gptq: calibration inputs hold NaN or infinity (input channel %zu)", i);
        h->n_dead += d == 0;
        sum += d;
    }
    if (sum > 0) *mean = sum / (double)(n - h->n_dead);
    return ASSAY_OK;
}

static void set_diagonal(hessian *h, double mean) {
    size_t n = (size_t)h->in->cols;
    for (size_t i = 0; i < n; i++) {
        size_t c = h->order ? (size_t)h->order[i] : i;
        double d = (double)h->in->gram[c * n + c];
        h->f[i * n + i] = (float)((d == 0 ? mean : d) + h->damp * mean);
    }
}

static size_t unit_of(const assay_choice *c) {
    return c->act_order == ASSAY_ACT_ORDER_GAR && c->group_size ? (size_t)c->group_size : 1;
}

static bool serves(const hessian *h, const assay_inputs *in, const assay_choice *c) {
    return h->in == in && h->act_order == c->act_order && h->unit == unit_of(c) && h->asked == c->damp_percent;
}

/* Is the user still waiting? */
static assay_status look(void *layer, assay_err *err) {
    return assay_layer_tick(layer, 0, err);
}

static assay_status hessian_make(hessian *h, const assay_layer *layer, const assay_inputs *in, const assay_choice *c, assay_err *err) {
    int n_threads = layer->n_threads;
    const assay_linalg_watch watch = {look, (void *)(uintptr_t)layer};
    size_t n = (size_t)in->cols;
    double mean;
    bool definite = false;
    *h = (hessian){.in = in, .act_order = c->act_order, .unit = unit_of(c), .asked = c->damp_percent, .damp = c->damp_percent};
    h->f = n <= SIZE_MAX / sizeof(float) / n ? assay_malloc_aligned(n * n * sizeof(float)) : NULL;
    h->weight = assay_mallocn(n, sizeof *h->weight);
    if (!h->f || !h->weight) return assay_nomem(err);
    ASSAY_TRY(mean_diagonal(&mean, h, err));
    ASSAY_TRY(order_columns(h, err));
    assay_parallel_range(n_threads, n, 16, copy_rows, h);
    for (;; h->damp += DAMP_STEP) {
        set_diagonal(h, mean);
        ASSAY_TRY(assay_feedback_factor_watched(h->f, h->weight, n, &definite, n_threads, &watch, err));
        if (definite) return ASSAY_OK;
        /* 1 more on every diagonal element than rounding errors of float32 sums could take away */
        if (h->damp > 1) return assay_fail(err, ASSAY_EINPUT, "gptq: the inputs' second moments are no such matrix at any damping");
    }
}

/* --- the method --- */

static assay_status quantize_item(const assay_layer *layer, assay_item *item, hessian *h, assay_err *err) {
    int n_threads = layer->n_threads;
    const assay_choice *c = item->choice;
    const assay_inputs *in = item->in && item->in->gram && item->in->n_tokens ? item->in : NULL;
    assay_feedback none = {0};
    double loss;
    if (!in) { /* outside the layers nothing is known of the inputs */
        ASSAY_TRY(assay_feedback_round(item, &none, &loss, n_threads, err));
        assay_item_note(item, "\"calibrated\": false");
        return ASSAY_OK;
    }
    if (!serves(h, in, c)) {
        hessian_free(h);
        ASSAY_TRY(hessian_make(h, layer, in, c, err));
    }
    assay_feedback f = {.f = h->f, .weight = h->weight, .order = h->order, .contiguous = c->act_order == ASSAY_ACT_ORDER_GAR};
    ASSAY_TRY(assay_feedback_round(item, &f, &loss, n_threads, err));
    assay_item_note(item, "\"damp_percent\": %g, \"dead_columns\": %zu, \"gptq_loss\": %.6g", h->damp, h->n_dead,
             loss / (double)in->n_tokens);
    return ASSAY_OK;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    hessian h = {0};
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_GO(assay_item_begin(layer, items, i, n_items, err));
        ASSAY_GO(quantize_item(layer, items[i], &h, err));
    }
out:
    hessian_free(&h);
    return s;
}

const assay_method assay_method_gptq = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_FORMAT | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_MSE | ASSAY_OPT_DOUBLE_QUANT |
               ASSAY_OPT_SCALE | ASSAY_OPT_ACTIVATIONS | ASSAY_OPT_DAMP_PERCENT | ASSAY_OPT_ACT_ORDER | ASSAY_OPT_TRUE_SEQUENTIAL |
               ASSAY_OPT_AWQ_SCALE | ASSAY_OPT_AWQ_CLIP | ASSAY_OPT_DUO_SCALING | ASSAY_OPT_SMOOTH | ASSAY_OPT_ALPHA |
               ASSAY_OPT_ALPHA_SEARCH,
    .needs = ASSAY_COLLECT_GRAM,
    .complete = complete,
    .check = check,
    .check_shape = assay_choice_check_groups,
    .quantize = quantize,
};
