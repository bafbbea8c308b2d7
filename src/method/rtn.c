/* rtn.c: round to nearest, 2 to 8 bits, a scale per row or per group of columns, symmetric or with a zero
 * point, or the 4-bit floats MXFP4 and NVFP4; optionally with the clipping that loses least. Scales and code
 * ranges are compressed-tensors' (precision/precision.h, ASSAY_SCALE_CT); scales are rounded to the type they
 * are stored in before codes are chosen, so what is stored is what was optimised.
 *
 * Weight only: the activations stay in 16 bits. Groups never straddle: group_size must divide the columns, as
 * compressed-tensors demands. */
#include "method/floats.h"

static bool is_float(const assay_choice *c) {
    return c->precision == ASSAY_PRECISION_MXFP4 || c->precision == ASSAY_PRECISION_NVFP4;
}

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT8;
    if (set & ASSAY_OPT_GROUP_SIZE) return;
    /* Eight bits hold a whole row well; below that every serious recipe has groups, and 128 is the common
     * size. */
    c->group_size = c->precision == ASSAY_PRECISION_INT8    ? 0
                    : c->precision == ASSAY_PRECISION_MXFP4 ? 32
                    : c->precision == ASSAY_PRECISION_NVFP4 ? 16
                                                            : 128;
}

static const char *check(const assay_choice *c) {
    if (!is_float(c) && assay_precision_get_kind(c->precision) != ASSAY_KIND_INT)
        return "precision must be int2 to int8, mxfp4 or nvfp4";
    if (c->group_size < 0 || c->group_size > (1 << 20))
        return "group_size must be 'channel' or from 1 to 1048576";
    if (is_float(c) && c->group_size != (c->precision == ASSAY_PRECISION_MXFP4 ? 32 : 16))
        return "mxfp4 has groups of 32 columns, nvfp4 of 16";
    if (is_float(c) && c->asymmetric) return "mxfp4 and nvfp4 are symmetric";
    return NULL;
}

/* The clipping search stops for all groups of a matrix together: the state of one round over its blocks. */
typedef struct search {
    int steps;
    uint32_t improved; /* by any block so far */
} search;

static assay_status encode(assay_matrix *out, const assay_item *item, const float *w, int64_t rows,
                           int64_t cols, assay_err *err) {
    const assay_choice *c = item->choice;
    assay_int_opts o = {.bits = assay_precision_bits(c->precision),
                        .group_size = c->group_size,
                        .asymmetric = c->asymmetric,
                        .rule = ASSAY_SCALE_CT,
                        .scale_dtype = assay_choice_grid(c, item->model_dtype).scale_dtype,
                        .mse = c->mse};
    search *state = item->state;
    uint32_t improved = 0;
    if (c->mse) {
        o.clip_steps = state->steps;
        o.clip_union = &improved;
    }
    assay_status s = assay_encode_int(out, w, rows, cols, &o, err);
    if (c->mse) __atomic_fetch_or(&state->improved, improved, __ATOMIC_RELAXED); /* same in any order */
    return s;
}

/* All steps first; nearly always some group of a matrix improves late, and then that was the answer already.
 */
static assay_status encode_matrix(assay_item *item, int n_threads, assay_err *err) {
    search state = {.steps = ASSAY_CLIP_STEPS};
    item->state = &state;
    assay_status s = assay_encode_blocks(item, 1, encode, n_threads, err);
    if (s == ASSAY_OK && item->choice->mse) {
        state.steps = assay_clip_stop(state.improved);
        if (state.steps < ASSAY_CLIP_STEPS) {
            assay_matrix_deinit(&item->out);
            s = assay_encode_blocks(item, 1, encode, n_threads, err);
        }
    }
    item->state = NULL;
    return s;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        if (is_float(items[i]->choice))
            ASSAY_TRY(assay_floats_encode(items[i], layer->n_threads, err));
        else
            ASSAY_TRY(encode_matrix(items[i], layer->n_threads, err));
        assay_item_set_activations(items[i]);
    }
    return ASSAY_OK;
}

const assay_method assay_method_rtn = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_FORMAT | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_MSE,
    .complete = complete,
    .check = check,
    .check_shape = assay_choice_check_groups,
    .quantize = quantize,
};
