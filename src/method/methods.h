/* method/methods.h: what a quantization method is to the pipeline. Inside the room only.
 *
 * A method gets matrices of one decoder layer, stage by stage (q, k, v; o; gate, up; down), with what calibration
 * says about their inputs, and leaves an encoded matrix in each. Inputs are collected with the matrices of earlier
 * stages already encoded. Before the first stage transforms may change the layer's weights and norms in a way that
 * leaves its outputs alone. What was lost is measured afterwards, the same way for every method (loss.c). */
#ifndef ASSAY_METHOD_METHODS_H
#define ASSAY_METHOD_METHODS_H

#include <stdatomic.h>
#include <stddef.h>
#include "base/progress.h"
#include "base/status.h"
#include "format/format.h"
#include "method/method.h"
#include "model/layer.h"
#include "num/dtype.h"
#include "precision/grid.h"

/* Options of a recipe, as bits: which a mapping gave, which a method takes. */
enum assay_option_index {
    ASSAY_OPT_INDEX_METHOD,
    ASSAY_OPT_INDEX_PRECISION,
    ASSAY_OPT_INDEX_GROUP_SIZE,
#define X(ID, key, TYPE, field, limit, words) ASSAY_OPT_INDEX_##ID,
#include "method/options.def"
#undef X
    ASSAY_OPT_COUNT
};
enum {
    ASSAY_OPT_METHOD = 1u << ASSAY_OPT_INDEX_METHOD,
    ASSAY_OPT_PRECISION = 1u << ASSAY_OPT_INDEX_PRECISION,
    ASSAY_OPT_GROUP_SIZE = 1u << ASSAY_OPT_INDEX_GROUP_SIZE,
#define X(ID, key, TYPE, field, limit, words) ASSAY_OPT_##ID = 1u << ASSAY_OPT_INDEX_##ID,
#include "method/options.def"
#undef X
};

/* What is known about the inputs of a matrix from calibration. Matrices that take the same input share it. */
typedef struct assay_inputs {
    int64_t cols;
    size_t n_tokens;           /* seen */
    float *gram;               /* [cols][cols] sum over tokens of x x^T (not divided), or NULL */
    float *sample;             /* [n_sample][cols] rows spread evenly over the tokens, or NULL */
    size_t n_sample;
    float *absmax, *absmean;   /* [cols] over all tokens, or NULL */
    double *sums;              /* layer.c's while it collects */
} assay_inputs;

/* What to collect, and what a method needs for quantize: bits. */
enum {
    ASSAY_COLLECT_GRAM = 1,
    ASSAY_COLLECT_SAMPLE = 2,
    ASSAY_COLLECT_STATS = 4, /* absmax, absmean */
    ASSAY_NEED_LAYER = 8,    /* methods only: quantize is called once for all its matrices of a decoder layer, not stage by stage */
    ASSAY_NEED_REFERENCE = 16 /* methods only: layer->y_ref */
};
/* What a method can use. */
enum { ASSAY_WANT_IMPORTANCE = 1 /* item->importance */ };
#define ASSAY_SAMPLE_ROWS 512

/* One matrix of a layer. */
typedef struct assay_item {
    const assay_tensor *weight; /* [rows, cols], mapped: as the checkpoint has it. Take values through assay_item_read */
    const assay_choice *choice;
    assay_tensor_role role;  /* of a decoder layer's matrix; ASSAY_ROLE_COUNT outside */
    int expert;              /* of experts' roles */
    assay_dtype model_dtype; /* scales are stored in it where the convention does so */
    float *w;                /* [rows][cols] where a transform changed it (assay_item_own), else NULL */
    const assay_inputs *in;  /* NULL without calibration */
    float *importance;       /* weights of the columns' squared errors [cols]; NULL = none. Owned */
    float *clip;             /* AWQ's clipping: largest magnitude kept, per row and group [rows][n_groups]; NULL = none. Owned */
    float fused_absmax;      /* NVFP4, FP8 per tensor: the largest magnitude of the matrices that runtimes fuse with this one, itself
                                included; 0 = of this one alone (fuse.c) */
    char chosen[192];        /* parameters the method chose, as the inside of a JSON object: "\"damp_percent\": 0.02"; "" = none */
    void *state;             /* the method's own while it runs */
    struct assay_ticker *ticker; /* assay_item_begin's: told while the matrix is in work; NULL: silent, never stopped */
    double from, to;             /* its part of what the ticker tells */
    assay_matrix out;        /* filled by the method; the pipeline deinits it */
    struct assay_weight *uploaded; /* layer.c's: as the forward pass runs it now */
    void *dense;                   /* and w in the model's type, which the backend may borrow */
} assay_item;

/* How far a run is while it is within a layer, which can take minutes: what is done is base + size * (from + share * (to - from)). */
typedef struct assay_ticker {
    const assay_progress *progress;
    const char *phase, *unit;
    double base, size, total; /* before the layer, of the layer, of the run */
    double from, to;          /* the part of the layer in work, of 1 */
    double share;             /* of that part that is done */
} assay_ticker;

/* One decoder layer in work; index -1: one matrix outside the layers, no calibration. */
typedef struct assay_layer {
    const assay_config *config;
    int index;
    int n_threads;
    assay_item *items; /* all matrices of the layer in the order of roles, also those that stay as they are (choice method none) */
    size_t n_items;
    float *vector[ASSAY_ROLE_COUNT];     /* norms and biases, float32, NULL where there is none; transforms change them in place */
    int64_t vector_n[ASSAY_ROLE_COUNT];
    bool vector_changed[ASSAY_ROLE_COUNT];
    /* Calibration; n_seqs 0 = none. x: inputs of the layer [n_tokens][hidden], as the quantized (or, when asked for, the original) layers
     * before it give them; y_ref: what comes out of the original layer behind the original ones, where a method needs it. Files that
     * may be larger than memory: whoever reads them gives the pages back (assay_layer_release). */
    const float *x, *y_ref;
    const struct assay_acts *x_file, *y_file; /* what they are mapped from; NULL: plain memory */
    const int32_t *lengths; /* [n_seqs] */
    size_t n_seqs, n_tokens;
    assay_inputs inputs[ASSAY_ROLE_COUNT]; /* per input role (model/layer.h): Q, O, GATE, DOWN, ... */
    assay_inputs *expert_inputs;           /* of an expert's role: those of experts [first_expert, first_expert + n_experts), which the
                                              driver sets before it collects */
    int first_expert, n_experts;
    struct assay_layer_bench *bench;       /* layer.c's: backend, runner, the uploaded block */
    assay_ticker *ticker;                  /* NULL: silent, never stopped */
} assay_layer;

typedef struct assay_method {
    unsigned options; /* ASSAY_OPT_* that it takes, besides METHOD */
    unsigned needs;   /* ASSAY_COLLECT_* and ASSAY_NEED_*; any bit: no run without calibration */
    unsigned implied; /* ASSAY_OPT_* that the method's name says already: not repeated in its description */
    unsigned wants;   /* ASSAY_WANT_*: used when it is there */
    bool is_gguf;     /* its matrices lie in a GGUF file, and embedding and head are treated too */
    bool real_zeros;  /* its zero points are real numbers: HQQ's convention */
    /* Fills what was not given (bits of `set`); may derive one option from another. */
    void (*complete)(assay_choice *c, unsigned set);
    /* What is wrong with a completed choice, in words that follow "method NAME: "; NULL when nothing. */
    const char *(*check)(const assay_choice *c);
    /* What is wrong with a matrix of that shape; NULL when nothing. NULL pointer: any shape will do. */
    const char *(*check_shape)(const assay_choice *c, int64_t rows, int64_t cols);
    /* Encodes the items' matrices: those of one stage (q, k, v; o; gate, up; down) that this method treats, or with ASSAY_NEED_LAYER all
     * of the layer's, or a single matrix outside the layers. NULL for `none`: the pipeline copies the tensor. */
    assay_status (*quantize)(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err);
} assay_method;

/* --- transforms: run once per decoder layer before its first stage when any choice in it asks for them; they change items' weights and
 * the layer's vectors so that the unquantized layer computes the same --- */
assay_status assay_awq_prepare(assay_layer *layer, assay_err *err);    /* choice.awq_scale, awq_clip: awq.c */
assay_status assay_smooth_prepare(assay_layer *layer, assay_err *err); /* choice.smooth: smoothquant.c */

/* --- layer.c: what methods may ask of the layer in work --- */

/* item->w becomes the item's own float32 copy (as it is now); changes to it take effect in later calls after assay_item_touch. */
assay_status assay_item_own(assay_item *item, assay_err *err);
void assay_item_touch(assay_layer *layer, assay_item *item);
/* The item of that role, or NULL. */
assay_item *assay_layer_item(assay_layer *layer, assay_tensor_role role);
/* Runs the layer over all calibration sequences as it is now (items already encoded run encoded, in their compute mode; the others as
 * their present weights rounded to the model's dtype) and collects `what` (ASSAY_COLLECT_*) for the input roles in `roles` (bits 1 <<
 * role) into layer->inputs, replacing what was there. */
assay_status assay_layer_collect(assay_layer *layer, uint64_t roles, unsigned what, assay_err *err);
/* What takes more than seconds calls this now and then, from the thread that was called: tells how far the work is (share of 1 of the
 * part in hand; less than was told before: as before) and returns EINTR when it shall stop. Collecting and running the layer do so after
 * each piece of rows. */
assay_status assay_layer_tick(const assay_layer *layer, double share, assay_err *err);
/* Matrix i of n is next: tells so, and that the pulse of work on it is to be told too. */
assay_status assay_item_begin(const assay_layer *layer, assay_item *const *items, size_t i, size_t n_items, assay_err *err);
/* Frees what was collected for these roles. */
void assay_layer_forget(assay_layer *layer, uint64_t roles);
/* The layer's outputs y [n_tokens][hidden] as it is now, for the sequences [first, first + n) alone whose inputs are x (from layer->x
 * or the caller's own). */
assay_status assay_layer_output(assay_layer *layer, float *y, const float *x, const int32_t *lengths, size_t n_seqs, assay_err *err);

/* Runs the layer as it is over all calibration sequences while taps look on; its outputs go to y (NULL: not wanted). */
assay_status assay_layer_watch(assay_layer *layer, float *y, const assay_taps *taps, assay_err *err);

/* Takes the pages of x and y_ref that were read off the process; they are read again where they are wanted. */
void assay_layer_release(const assay_layer *layer);

/* --- pulse.c: work on one matrix in several threads that tells how far it is and can be stopped --- */

typedef struct assay_pulse {
    const assay_item *item;
    double units; /* of work in all */
    atomic_size_t done;
    atomic_bool stopped;
    assay_err err; /* why */
} assay_pulse;
void assay_pulse_open(assay_pulse *p, const assay_item *item, size_t units);
/* So many units more are done. From any thread; the calling one, thread 0, tells. False: the work is to end now. */
bool assay_pulse_beat(assay_pulse *p, size_t units, int thread);
/* OK, or when it was stopped EINTR. */
assay_status assay_pulse_status(const assay_pulse *p, assay_err *err);

/* Has a method left its matrix? */
static inline bool assay_item_is_encoded(const assay_item *item) {
    return item->out.codes || item->out.data;
}

/* Is the matrix's input role. */
#define ASSAY_ROLE_BIT(role) ASSAY_TAP(role)

/* --- choice.c --- */
/* The grid that a choice stands for; global_scale is filled in by who knows the matrix. */
assay_grid_spec assay_choice_grid(const assay_choice *c, assay_dtype model_dtype);
/* What is wrong with the format that a choice asks for; NULL when nothing. */
const char *assay_choice_check_format(const assay_choice *c);
/* A method's check_shape where groups are runs of columns: they must divide a row. */
const char *assay_choice_check_groups(const assay_choice *c, int64_t rows, int64_t cols);
/* The convention that a choice is written in. */
assay_convention assay_choice_convention(const assay_choice *c);
/* Sets act_bits, act_dtype, act_group, input_scale of an encoded matrix as the choice wants them; the static scale from item->in. */
void assay_item_set_activations(assay_item *item);

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
/* EINPUT naming tensor, row and column of a NaN or infinity in rows [row, row + n) as the checkpoint has them. */
assay_status assay_tensor_check_finite(const assay_tensor *t, int64_t row, int64_t n, assay_err *err);
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
