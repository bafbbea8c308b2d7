/* llm_int8.c: LLM.int8() (Dettmers et al. 2022), as bitsandbytes has it: every row of the weight by its
 * largest magnitude, code = round(w * 127 / absmax), scale in float32. The other half of the method is at run
 * time: input columns with a magnitude of `threshold` or more are multiplied in 16 bits with the decoded
 * weight, the rest in int8 per token. The threshold is therefore part of the checkpoint (llm_int8_threshold,
 * default 6.0) and changes no code. */
#include "method/methods.h"

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT8;
    if (!(set & ASSAY_OPT_THRESHOLD)) c->threshold = 6.0;
}

static const char *check(const assay_choice *c) {
    if (c->precision != ASSAY_PRECISION_INT8) return "precision can only be int8";
    return NULL;
}

static assay_status encode(assay_matrix *out, const assay_item *item, const float *w, int64_t rows,
                           int64_t cols, assay_err *err) {
    (void)item;
    assay_int_opts o = {.bits = 8, .rule = ASSAY_SCALE_ABSMAX, .scale_dtype = ASSAY_DTYPE_F32};
    return assay_encode_int(out, w, rows, cols, &o, err);
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        assay_item *item = items[i];
        ASSAY_TRY(assay_encode_blocks(item, 1, encode, layer->n_threads, err));
        item->out.act_bits = 8;
        item->out.act_dtype = ASSAY_DTYPE_F16;
        item->out.outlier_threshold = item->choice->threshold;
    }
    return ASSAY_OK;
}

const assay_method assay_method_llm_int8 = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_THRESHOLD,
    .complete = complete,
    .check = check,
    .quantize = quantize,
};
