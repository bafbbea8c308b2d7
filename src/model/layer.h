/* model/layer.h: one decoder layer run on its own over calibration sequences, for the methods that quantize layer by layer. The
 * arithmetic is the forward pass's own (pass.c): what a method measures is what the runtime will compute. Not thread-safe. */
#ifndef ASSAY_MODEL_LAYER_H
#define ASSAY_MODEL_LAYER_H

#include "model/weights.h"

/* Called with the input rows of matrices: role is the first one that takes them, ASSAY_ROLE_Q (k and v too), ASSAY_ROLE_O,
 * ASSAY_ROLE_GATE (up too) or ASSAY_ROLE_DOWN. x [n_rows][cols] on the host, valid during the call. Rows come in the order of the
 * sequences, in pieces. */
typedef assay_status (*assay_tap_fn)(void *ctx, assay_tensor_role role, const float *x, size_t n_rows, size_t cols, assay_err *err);

typedef struct assay_taps {
    assay_tap_fn fn;
    void *ctx;
    unsigned roles;          /* bit (1 << role) of each role wanted */
    assay_tensor_role until; /* the run ends after this role's tap and x stays as it was; ASSAY_ROLE_COUNT: runs through */
} assay_taps;

/* The first role that shares the inputs of a matrix: K and V -> Q, UP -> GATE. */
assay_tensor_role assay_role_input(assay_tensor_role role);

typedef struct assay_layer_runner assay_layer_runner;

/* For layers of c on b; both borrowed. max_rows: tokens in one call of the operations, 0 = 512. kv: how keys and values are kept. */
assay_status assay_layer_runner_open(assay_layer_runner **out, assay_backend *b, const assay_config *c, size_t max_rows,
                                     assay_kv_type kv, assay_err *err);
void assay_layer_runner_close(assay_layer_runner *r); /* NULL is fine */

/* Layer `layer` with the tensors of block over n_seqs sequences of lengths[i] tokens that lie one after another in x
 * [sum of lengths][hidden]; the outputs go to y (may be x; NULL: not wanted). taps may be NULL. */
assay_status assay_layer_run(assay_layer_runner *r, const assay_block *block, int64_t layer, float *y, const float *x,
                             const int32_t *lengths, size_t n_seqs, const assay_taps *taps, assay_err *err);

#endif
