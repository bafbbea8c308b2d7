/* model/layer.h: one decoder layer run on its own over calibration sequences, for the methods that quantize layer by layer. The
 * arithmetic is the forward pass's own (pass.c): what a method measures is what the runtime will compute. Not thread-safe. */
#ifndef ASSAY_MODEL_LAYER_H
#define ASSAY_MODEL_LAYER_H

#include "model/weights.h"

/* Called with the input rows of matrices: role is the one whose inputs they are (assay_role_input), expert its number or -1. In the order of
 * the pass: Q, KV_B, Q_B, O, GATE, DOWN, and where there are experts EXPERT_GATE and EXPERT_DOWN of each expert that has rows, SHARED_DOWN.
 * x [n_rows][cols] on the host, valid during the call. Rows come in the order of the sequences, in pieces; an expert sees its own alone. */
typedef assay_status (*assay_tap_fn)(void *ctx, assay_tensor_role role, int expert, const float *x, size_t n_rows, size_t cols, assay_err *err);

#define ASSAY_TAP(role) (UINT64_C(1) << (role))
typedef struct assay_taps {
    assay_tap_fn fn;
    void *ctx;
    uint64_t roles;          /* ASSAY_TAP of each role wanted */
    assay_tensor_role until; /* the run ends after this role's tap and x stays as it was; ASSAY_ROLE_COUNT: runs through. Experts' roles
                                do not end a run */
} assay_taps;

/* The first role that shares the inputs of a matrix: K, V, QKV, KV_A, Q_A -> Q; UP, GATE_UP, SHARED_GATE, SHARED_UP and the routers -> GATE;
 * EXPERT_UP -> EXPERT_GATE. */
assay_tensor_role assay_role_input(assay_tensor_role role);

/* --- outside the layers --- */

/* y = norm(x) as the architecture's norms are: rows of n. bias NULL where there is none. y may be x. */
void assay_norm_run(assay_backend *b, const assay_config *c, assay_buf *y, const assay_buf *x, const assay_buf *weight,
                    const assay_buf *bias, size_t n_rows, size_t n);
/* The residual stream's beginning: row i for id ids[i] at position pos[i], with embeddings scaled and positions added as the architecture
 * has it. outside: the weights' last block. aside: room for as much again, used where positions are learned; may be NULL elsewhere. */
void assay_embed_run(assay_backend *b, const assay_config *c, const assay_block *outside, assay_buf *x, assay_buf *aside, const int32_t *ids,
                     const int32_t *pos, size_t n_rows);
/* Its end: logits [n_rows][vocab] of rows of x, by way of their norm in h (NULL: x is normed already). */
void assay_head_run(assay_backend *b, const assay_config *c, const assay_weights *w, assay_buf *logits, assay_buf *h, const assay_buf *x,
                    size_t n_rows);

/* --- one layer --- */

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
