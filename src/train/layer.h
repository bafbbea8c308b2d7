/* train/layer.h: the forward and backward pass of one decoder layer in float32, over plain arrays.
 *
 * The layer is Llama's and its near kin's among those that model/ runs (architectures.def): pre-norm, grouped-query attention with rotary
 * positions, gated MLP, projections separate or fused as Phi-3's; its weights are pointers that the caller may exchange between passes. A tape holds what a forward pass leaves for the backward pass of
 * the same layer: scores, norms and gated activations are made again instead of being kept.
 *
 * The backward pass of a whole model is this one, layers in reverse: keep each layer's input, then for the last layer down to the first
 * run assay_tape_forward on its input and assay_tape_backward, each dx being the next dy; head.h gives the first dy. One tape serves
 * all layers of a model. Large batches are run in pieces of whole sequences: gradients add up.
 *
 * Deterministic: results are bit-identical for any n_threads; pieces of a batch change roundings only. A tape has one user at a time. */
#ifndef ASSAY_TRAIN_LAYER_H
#define ASSAY_TRAIN_LAYER_H

#include "model/arch.h"

/* Tensors of a layer by role, float32 row-major, borrowed; NULL where the architecture has none. */
typedef struct assay_params {
    const float *w[ASSAY_ROLE_COUNT];
} assay_params;

/* Where gradients are added, by role; NULL = not wanted. */
typedef struct assay_grads {
    float *w[ASSAY_ROLE_COUNT];
} assay_grads;

typedef struct assay_tape assay_tape;

/* Is there a backward pass for the architecture? EUNSUPPORTED naming the part that has none. */
assay_status assay_tape_check(const assay_config *c, assay_err *err);
/* For layers of c, borrowed. n_threads 0 = all cores. EUNSUPPORTED for architectures with other parts than the above, naming one. */
assay_status assay_tape_open(assay_tape **out, const assay_config *c, int n_threads, assay_err *err);
/* From now on the products of weights, in both directions, are taken of operands rounded to bf16, as mixed-precision training does: at
 * about twice the speed, good to three digits. Sums, attention, norms and gates stay in float32. */
void assay_tape_use_bf16(assay_tape *t);
void assay_tape_close(assay_tape *t); /* NULL is fine */
/* Bytes that a tape takes for n_rows tokens in sequences of at most max_length: for choosing pieces. */
double assay_tape_bytes(const assay_config *c, size_t n_rows, size_t max_length, int n_threads);

/* y = layer(x) for n_seqs sequences of lengths[i] >= 1 tokens that begin at position 0 and lie one after another in x [rows][hidden].
 * y may be NULL (only the tape is wanted) but not x. EINTERNAL when a matrix or a norm is missing. */
assay_status assay_tape_forward(float *y, assay_tape *t, int64_t layer, const assay_params *w, const float *x, const int32_t *lengths,
                                size_t n_seqs, assay_err *err);
/* The gradients of sum(dy * y) after assay_tape_forward with the same x and w: added to g, and to dx [rows][hidden] as a whole
 * (overwritten; may be dy; NULL = not wanted). Only what they need is computed. The tape is used up. */
assay_status assay_tape_backward(float *dx, const assay_grads *g, assay_tape *t, const assay_params *w, const float *x, const float *dy,
                                 assay_err *err);

#endif
