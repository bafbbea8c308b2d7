/* model/weights.h: a checkpoint's tensors bound to the roles of its architecture and uploaded to a backend. */
#ifndef ASSAY_MODEL_WEIGHTS_H
#define ASSAY_MODEL_WEIGHTS_H

#include "backend/backend.h"
#include "base/str.h"
#include "format/format.h"
#include "model/arch.h"

/* The tensors of one decoder layer, or of what stands outside the layers; NULL where the architecture has
 * none. */
typedef struct assay_block {
    assay_weight *matrix[ASSAY_ROLE_COUNT];
    assay_buf *vector[ASSAY_ROLE_COUNT]; /* with the offset that config.h's arithmetic wants (assay_config_vector_offset) */
    assay_weight **expert[ASSAY_EXPERT_PARTS]; /* [n_experts] gate, up, down; NULL in a layer without experts */
} assay_block;
/* Where the weight of a role stands in its block; expert is -1 but for experts' roles. */
static inline assay_weight **assay_block_slot(assay_block *b, assay_tensor_role role, int expert) {
    return assay_role_is_expert(role) ? &b->expert[role - ASSAY_ROLE_EXPERT_GATE][expert] : &b->matrix[role];
}
/* Arrays for the experts of n_experts; freed by assay_block_free_experts (the weights are not). */
assay_status assay_block_alloc_experts(assay_block *b, int64_t n_experts, assay_err *err);
void assay_block_free_experts(assay_block *b);

typedef struct assay_weights {
    assay_backend *backend; /* borrowed */
    assay_block *blocks;    /* [n_layers + 1]; the last one is outside the layers */
    int64_t n_layers, n_experts;
    assay_weight *head; /* the output matrix; the embedding's own weight when tied: borrowed from blocks */
    int64_t n_elements[ASSAY_PRECISION_COUNT]; /* matrix elements per stored precision */
    int64_t n_mode[ASSAY_ACT_MODES];           /* decoder matrices per compute mode in effect */
    double bits;                               /* stored size of all matrices and vectors */
    char adapter_hash[65];                     /* "" without an adapter */
    size_t n_adapted;                          /* matrices with a low-rank part */
    void **kept;                               /* numbers of an adapter and matrices set upright, which the backend may borrow [n_kept] */
    size_t n_kept, cap_kept;
    size_t n_unused;                           /* tensors of the checkpoint that nothing asked for */
    assay_str unused;                          /* their names, comma-separated, the first 16 */
} assay_weights;

/* Binds and uploads everything; c must outlive the weights (dense matrices stay in its mapping). Missing
 * tensors (ENOTFOUND), wrong shapes and NaN or infinite elements (EINPUT) are named with tensor and index.
 * adapter: the folder of a LoRA adapter to add, or NULL.
 * act: AUTO = each matrix's home; INT8 concerns the matrices stored as integers, others keep their home's
 * mode. */
assay_status assay_weights_open(assay_weights *out, assay_backend *b, const assay_config *config,
                                const assay_checkpoint *c, assay_act_mode act, const char *adapter, assay_err *err);
void assay_weights_close(assay_weights *w); /* all-zero and half-built are fine */

#endif
