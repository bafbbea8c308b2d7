/* rtn.c: round to nearest, 2 to 8 bits, a scale per row or per group of columns, symmetric or with a zero point, optionally with the
 * clipping that loses least. Scales and code ranges are compressed-tensors' (precision/precision.h, ASSAY_SCALE_CT); scales are
 * rounded to the model's own 16-bit type before codes are chosen, so what is stored is what was optimised.
 *
 * Weight only: the activations stay in 16 bits. Groups never straddle: group_size must divide the columns, as compressed-tensors demands. */
#include "method/methods.h"

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT8;
    /* Eight bits hold a whole row well; below that every serious recipe has groups, and 128 is the common size. */
    if (!(set & ASSAY_OPT_GROUP_SIZE)) c->group_size = c->precision == ASSAY_PRECISION_INT8 ? 0 : 128;
}

static const char *check(const assay_choice *c) {
    if (assay_precision_get_kind(c->precision) != ASSAY_KIND_INT) return "precision must be int2 to int8";
    if (c->group_size < 0 || c->group_size > (1 << 20)) return "group_size must be 'channel' or from 1 to 1048576";
    return NULL;
}

static const char *check_shape(const assay_choice *c, int64_t rows, int64_t cols) {
    (void)rows;
    if (c->group_size && cols % c->group_size) return "the group size does not divide its columns";
    return NULL;
}

static assay_status encode(assay_matrix *out, const assay_item *item, const float *w, int64_t rows, int64_t cols, assay_err *err) {
    const assay_choice *c = item->choice;
    assay_int_opts o = {.bits = assay_precision_bits(c->precision),
                        .group_size = c->group_size,
                        .asymmetric = c->asymmetric,
                        .rule = ASSAY_SCALE_CT,
                        .scale_dtype = item->model_dtype,
                        .mse = c->mse};
    return assay_encode_int(out, w, rows, cols, &o, err);
}

static assay_status quantize(assay_layer *layer, assay_err *err) {
    for (size_t i = 0; i < layer->n_items; i++) {
        assay_item *item = &layer->items[i];
        ASSAY_TRY(assay_encode_blocks(item, 1, encode, layer->n_threads, err));
        item->out.act_bits = 16;
        item->out.act_dtype = item->model_dtype;
    }
    return ASSAY_OK;
}

const assay_method assay_method_rtn = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_MSE,
    .complete = complete,
    .check = check,
    .check_shape = check_shape,
    .convention = ASSAY_CONVENTION_CT,
    .quantize = quantize,
};
