/* fp8.c: weights in 8-bit floats (Micikevicius et al. 2022), E4M3 or E5M2, rounded to nearest with
 * compressed-tensors' scales: one per output channel, one for the tensor, or one per block of 128 x 128;
 * inputs multiplied in the same float, scaled per token (per 128 columns of a token with blocks), by one
 * scale from calibration, or kept in 16 bits. Its presets are
 *
 *   FP8           scale tensor, activations static        FP8_DYNAMIC   scale channel, activations dynamic
 * (the default here) FP8_BLOCK     scale block, activations dynamic
 *
 * Eight-bit floats lose little; what they lose is mostly in the inputs, whose outliers `smooth` can move into
 * the weights. */
#include "method/floats.h"

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_FP8_E4M3;
    if (!(set & ASSAY_OPT_ACTIVATIONS)) c->activations = ASSAY_ACTIVATIONS_DYNAMIC;
    if (!(set & ASSAY_OPT_ALPHA)) c->alpha = 0.5;
    c->group_size = 0;
}

static const char *check(const assay_choice *c) {
    if (c->precision != ASSAY_PRECISION_FP8_E4M3 && c->precision != ASSAY_PRECISION_FP8_E5M2)
        return "precision must be fp8_e4m3 or fp8_e5m2";
    if (c->scale == ASSAY_SCALE_BLOCK && c->activations == ASSAY_ACTIVATIONS_STATIC)
        return "with scale block the activations are dynamic or 16bit: runtimes have no static scales for "
               "blocks";
    if (c->scale == ASSAY_SCALE_TENSOR && c->mse) return "mse needs scale channel or block";
    return NULL;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        bool unseen = !items[i]->in && (layer->index >= 0 || items[i]->role == ASSAY_ROLE_HEAD);
        if (unseen && items[i]->choice->activations == ASSAY_ACTIVATIONS_STATIC)
            return assay_fail(
                err, ASSAY_EUSAGE,
                "%s: static activations need its calibration inputs, and there are none: take dynamic ones",
                items[i]->weight->name);
        ASSAY_TRY(assay_floats_encode(items[i], layer->n_threads, err));
    }
    return ASSAY_OK;
}

const assay_method assay_method_fp8 = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_MSE | ASSAY_OPT_SCALE | ASSAY_OPT_ACTIVATIONS |
               ASSAY_OPT_SMOOTH | ASSAY_OPT_ALPHA | ASSAY_OPT_ALPHA_SEARCH,
    .complete = complete,
    .check = check,
    .quantize = quantize,
};
