/* model/pass.h: one decoder layer over rows of activations: the part of the forward pass that forward.c (a whole model) and layer.c
 * (one layer at a time, for methods) share. Inside the room only. */
#ifndef ASSAY_MODEL_PASS_H
#define ASSAY_MODEL_PASS_H

#include "model/kv.h"
#include "model/layer.h"
#include "model/weights.h"

/* Activations, one row per token. */
typedef enum assay_scratch {
    ASSAY_BUF_X,
    ASSAY_BUF_X_OUT,
    ASSAY_BUF_H,
    ASSAY_BUF_H_OUT,
    ASSAY_BUF_Q,
    ASSAY_BUF_K,
    ASSAY_BUF_V,
    ASSAY_BUF_A,
    ASSAY_BUF_GATE,
    ASSAY_BUF_UP,
    ASSAY_BUF_FUSED,  /* what a fused projection gives, before it is taken apart */
    ASSAY_BUF_LATENT, /* of latent attention: what the low-rank projections give, normed */
    ASSAY_BUF_ASIDE,  /* parallel blocks: what attention adds */
    ASSAY_BUF_ROUTE,  /* experts: the router's logits */
    ASSAY_BUF_PICKED, /* the rows of one expert; what it gives for them */
    ASSAY_BUF_MIXED,  /* the sum over experts */
    ASSAY_BUF_LAYER_COUNT
} assay_scratch;

/* Which rows go to which experts: experts.c. */
typedef struct assay_routing {
    float *logits;   /* [max_rows][n_experts] */
    int32_t *chosen; /* [max_rows][n_active] */
    float *weights;  /* the same */
    int32_t *rows;   /* [max_rows * n_active] by expert, then ascending */
    float *row_weights;
    size_t *first;   /* [n_experts + 1] into rows */
    int32_t *all;    /* [max_rows] 0, 1, 2, ... */
} assay_routing;

typedef struct assay_pass {
    assay_backend *backend;     /* borrowed */
    const assay_config *config; /* borrowed */
    size_t max_rows;
    assay_rope_source rope[2];   /* of layers that see all, of layers that slide */
    float *inv_freq[2][2];       /* [rotary_dim / 2] of these, of usual and of long texts (rope.c, THE LENGTH) */
    assay_turning turning[2][2];
    assay_buf *buf[ASSAY_BUF_LAYER_COUNT];
    int32_t *out_pos; /* [max_rows] positions, page tables and kinds of the wanted rows */
    const int32_t **out_pages;
    bool *out_long;
    assay_routing routing;
    const assay_taps *taps; /* NULL = nobody looks at the inputs of the matrices */
    float *tapped;          /* host copy for the taps: [max_rows][widest input]; NULL without */
    bool stopped;           /* a tap was the last one wanted */
} assay_pass;

/* The rows that an operation works on: all of a batch, or the wanted ones. */
typedef struct assay_row_set {
    size_t n;
    const int32_t *pos;
    const int32_t *const *pages;
    const bool *is_long; /* as assay_batch has it */
    assay_buf *x, *h;
} assay_row_set;

assay_status assay_pass_open(assay_pass *p, assay_backend *b, const assay_config *c, size_t max_rows, assay_err *err);
void assay_pass_close(assay_pass *p); /* all-zero and half-built are fine */

/* Decoder layer `layer` with the tensors of block; its keys and values are layer kv_layer of kv. wanted: n_out rows whose results are
 * wanted (indices out, ascending) or NULL for all: r shrinks to them once keys and values are stored. Errors come from taps alone. */
typedef struct assay_wanted {
    size_t n;
    const int32_t *rows;
} assay_wanted;
assay_status assay_pass_layer(assay_pass *p, const assay_block *block, assay_kv *kv, int64_t layer, int64_t kv_layer, assay_row_set *r,
                              const assay_wanted *wanted, assay_err *err);

/* --- between pass.c and experts.c --- */

typedef struct assay_projection {
    assay_weight *w;
    assay_buf *bias, *y;
} assay_projection;
/* Several matrices times one input. */
void assay_pass_project(assay_pass *p, const assay_projection *proj, int n_proj, const assay_buf *x, size_t n_rows);
/* expert: -1 but for experts' roles. */
assay_status assay_pass_tap(assay_pass *p, assay_tensor_role role, int expert, const assay_buf *x, size_t n_rows, size_t cols,
                            assay_err *err);
assay_status assay_routing_open(assay_routing *r, const assay_config *c, size_t max_rows, assay_err *err);
void assay_routing_close(assay_routing *r);
/* The mixture over n_rows rows of x, left in ASSAY_BUF_MIXED. */
assay_status assay_pass_experts(assay_pass *p, const assay_block *block, const assay_buf *x, size_t n_rows, assay_err *err);

#endif
