/* codebook.c: NF4 and FP4 (Dettmers et al. 2023, QLoRA), as bitsandbytes has them: blocks of consecutive
 * elements of the flattened matrix, each scaled by its largest magnitude, each element the nearest of 16
 * values. Double quantization stores the block scales as 8-bit codes in blocks of 256; codes are chosen
 * before it, from the exact scales, as in the original.
 *
 * The two methods differ in their table alone. */
#include "method/methods.h"

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION))
        c->precision = c->method == ASSAY_METHOD_NF4 ? ASSAY_PRECISION_NF4 : ASSAY_PRECISION_FP4;
    if (!(set & ASSAY_OPT_GROUP_SIZE)) c->group_size = 64;
}

static const char *check(const assay_choice *c) {
    assay_precision own = c->method == ASSAY_METHOD_NF4 ? ASSAY_PRECISION_NF4 : ASSAY_PRECISION_FP4;
    if (c->precision != own) return "precision can only be the method's own";
    if (c->group_size < 32 || c->group_size > 4096 || (c->group_size & (c->group_size - 1)))
        return "group_size must be a power of two from 32 to 4096";
    return NULL;
}

static assay_status encode(assay_matrix *out, const assay_item *item, const float *w, int64_t rows,
                           int64_t cols, assay_err *err) {
    return assay_encode_codebook(out, w, rows, cols, item->choice->precision, item->choice->group_size, false,
                                 err);
}

static int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        assay_item *item = items[i];
        int64_t block = item->choice->group_size;
        /* Blocks run across rows: a task must begin where a block does. */
        ASSAY_TRY(assay_encode_blocks(item, block / gcd(item->weight->dims[1], block), encode,
                                      layer->n_threads, err));
        if (item->choice->double_quant) ASSAY_TRY(assay_matrix_nest(&item->out, err));
        item->out.act_bits = 16;
        item->out.act_dtype = item->model_dtype;
    }
    return ASSAY_OK;
}

#define CODEBOOK_METHOD                                                                                      \
    {                                                                                                        \
        .options = ASSAY_OPT_PRECISION | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_DOUBLE_QUANT,                      \
        .complete = complete, .check = check, .quantize = quantize       \
    }
const assay_method assay_method_nf4 = CODEBOOK_METHOD;
const assay_method assay_method_fp4 = CODEBOOK_METHOD;
