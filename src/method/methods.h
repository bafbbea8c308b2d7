/* method/methods.h: what a quantization method is to the pipeline. Inside the room only.
 *
 * A method gets the matrices of one decoder layer (one matrix at a time when they do not concern each other)
 * as they lie in the mapped checkpoint, with calibration inputs where the caller had some, and leaves an
 * encoded matrix in each. What was lost is measured afterwards, the same way for every method (loss.c). */
#ifndef ASSAY_METHOD_METHODS_H
#define ASSAY_METHOD_METHODS_H

#include <stddef.h>
#include "base/status.h"
#include "format/format.h"
#include "method/method.h"
#include "num/dtype.h"

/* Options of a recipe, as bits: which a mapping gave, which a method takes. */
enum {
    ASSAY_OPT_METHOD = 1,
    ASSAY_OPT_PRECISION = 2,
    ASSAY_OPT_GROUP_SIZE = 4,
    ASSAY_OPT_SYMMETRIC = 8,
    ASSAY_OPT_MSE = 16,
    ASSAY_OPT_DOUBLE_QUANT = 32,
    ASSAY_OPT_THRESHOLD = 64
};

/* One matrix of a layer. */
typedef struct assay_item {
    const assay_tensor *weight; /* [rows, cols], mapped */
    const assay_choice *choice;
    assay_dtype model_dtype; /* scales are stored in it where the convention does so */
    const float *inputs;     /* calibration inputs [n_inputs][cols], or NULL */
    size_t n_inputs;
    void *state;      /* the method's own while it runs */
    assay_matrix out; /* filled by the method; the pipeline deinits it */
} assay_item;

typedef struct assay_layer {
    int index; /* decoder layer, -1 outside */
    assay_item *items;
    size_t n_items;
    int n_threads;
} assay_layer;

typedef struct assay_method {
    unsigned options; /* ASSAY_OPT_* that it takes, besides METHOD */
    /* Fills what was not given (bits of `set`); may derive one option from another. */
    void (*complete)(assay_choice *c, unsigned set);
    /* What is wrong with a completed choice, in words that follow "method NAME: "; NULL when nothing. */
    const char *(*check)(const assay_choice *c);
    /* What is wrong with a matrix of that shape; NULL when nothing. NULL pointer: any shape will do. */
    const char *(*check_shape)(const assay_choice *c, int64_t rows, int64_t cols);
    assay_convention convention;
    /* Encodes every item's matrix. NULL for `none`: the pipeline copies the tensor. */
    assay_status (*quantize)(assay_layer *layer, assay_err *err);
} assay_method;

const assay_method *assay_method_get(assay_method_id m);

/* --- blocks.c: methods that treat rows on their own --- */

/* Encodes rows [0, rows) of w into *out: a block of consecutive rows of the item's matrix. */
typedef assay_status (*assay_block_fn)(assay_matrix *out, const assay_item *item, const float *w,
                                       int64_t rows, int64_t cols, assay_err *err);
/* Fills item->out by running fn over blocks of rows in n_threads. A block begins at a multiple of row_unit
 * rows. The result does not depend on the blocks. The first matrix block's precision, group size and kind of
 * zeros hold for the whole. NaN or infinity in the weight: EINPUT with tensor, row and column. */
assay_status assay_encode_blocks(assay_item *item, int64_t row_unit, assay_block_fn fn, int n_threads,
                                 assay_err *err);
/* n elements of the item's weight from element `first` on, as float32. */
void assay_item_read(float *out, const assay_item *item, int64_t first, int64_t n);
/* Rows that a task of blocks.c and loss.c takes: a fixed function of the shape. */
int64_t assay_block_rows(int64_t cols, int64_t row_unit);

/* --- loss.c --- */

typedef struct assay_loss_sums {
    double error2, weight2;     /* sums of squares of w - w' and of w */
    double output2, reference2; /* of the outputs' difference and of the outputs; 0 without inputs */
    double max_error;
} assay_loss_sums;
/* Compares item->out with the weight it came from. */
assay_status assay_loss_measure(assay_loss_sums *out, const assay_item *item, int n_threads, assay_err *err);
/* sqrt(error2 / reference2); 0 when both are 0. */
double assay_relative_error(double error2, double reference2);

#endif
