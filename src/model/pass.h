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
    ASSAY_BUF_LAYER_COUNT
} assay_scratch;

typedef struct assay_pass {
    assay_backend *backend;     /* borrowed */
    const assay_config *config; /* borrowed */
    size_t max_rows;
    float *inv_freq; /* [head_dim / 2] */
    assay_buf *buf[ASSAY_BUF_LAYER_COUNT];
    int32_t *out_pos; /* [max_rows] positions and page tables of the wanted rows */
    const int32_t **out_pages;
    const assay_taps *taps; /* NULL = nobody looks at the inputs of the matrices */
    float *tapped;          /* host copy for the taps: [max_rows][widest input]; NULL without */
    bool stopped;           /* a tap was the last one wanted */
} assay_pass;

/* The rows that an operation works on: all of a batch, or the wanted ones. */
typedef struct assay_row_set {
    size_t n;
    const int32_t *pos;
    const int32_t *const *pages;
    assay_buf *x, *h;
} assay_row_set;

assay_status assay_pass_open(assay_pass *p, assay_backend *b, const assay_config *c, size_t max_rows, assay_err *err);
void assay_pass_close(assay_pass *p); /* all-zero and half-built are fine */

void assay_pass_norm(assay_pass *p, assay_buf *y, const assay_buf *x, const assay_buf *weight, size_t n_rows);
/* Decoder layer `layer` with the tensors of block; its keys and values are layer kv_layer of kv. wanted: n_out rows whose results are
 * wanted (indices out, ascending) or NULL for all: r shrinks to them once keys and values are stored. Errors come from taps alone. */
typedef struct assay_wanted {
    size_t n;
    const int32_t *rows;
} assay_wanted;
assay_status assay_pass_layer(assay_pass *p, const assay_block *block, assay_kv *kv, int64_t layer, int64_t kv_layer, assay_row_set *r,
                              const assay_wanted *wanted, assay_err *err);

#endif
