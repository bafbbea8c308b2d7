/* method/rotate.h: Hadamard rotations fused into the weights before anything is quantized (QuaRot, Ashkboos et al. 2024, section 4). Inside
 * the room only.
 *
 *   embedding, o, down   write the residual stream:  W <- Q^T W (out side), biases too
 *   q, k, v, gate, up, head  read it: W <- W diag(norm) Q (in side); the norms become ones
 *   v, o                 per head: v's out side and o's in side by a Hadamard matrix of head_dim
 *   down                 with `online`: its in side by Sylvester's matrices of the largest power of two that divides intermediate_size;
 *                        the runtime does the other half, told by compressed-tensors' transform_config, which knows those alone
 *
 * Q is a Hadamard matrix with random signs (linalg/hadamard.h). A tied head is untied, since embedding and head change differently. */
#ifndef ASSAY_METHOD_ROTATE_H
#define ASSAY_METHOD_ROTATE_H

#include "base/json.h"
#include "method/methods.h"

typedef struct assay_rotator assay_rotator;

/* Order of the matrices on the down projection's input. */
int64_t assay_rotation_down_block(const assay_config *config);
/* compressed-tensors' transform_config for the online rotation: new reference, NULL when out of memory. */
json_t *assay_rotation_transform_config(const assay_config *config);

/* Reads the norms of the source; borrows config. */
assay_status assay_rotator_open(assay_rotator **out, const assay_config *config, const assay_checkpoint *source, assay_rotation rotation,
                                assay_err *err);
void assay_rotator_close(assay_rotator *r); /* NULL is fine */
/* Changes a tensor of the model in place: w [rows][cols], float32; cols 1 for vectors. Roles that no rotation touches stay. */
assay_status assay_rotator_apply(const assay_rotator *r, float *w, assay_tensor_role role, int layer, int64_t rows, int64_t cols,
                                 int n_threads, assay_err *err);

#endif
