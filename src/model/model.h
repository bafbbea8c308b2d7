/* model/model.h: a checkpoint opened on a backend, and its forward pass. Not thread-safe: one caller at a
 * time. */
#ifndef ASSAY_MODEL_H
#define ASSAY_MODEL_H

#include "model/kv.h"
#include "model/weights.h"

typedef struct assay_model assay_model;

typedef struct assay_model_opts { /* all-zero = defaults */
    assay_act_mode activations;   /* AUTO = the format's home */
    size_t max_rows;              /* tokens in one forward call; 0 = 544 */
    const char *adapter;          /* a LoRA adapter's folder, borrowed for the call; NULL = none */
} assay_model_opts;

/* Opens DIR (config.json and safetensors) on b, which is borrowed and must outlive the model. */
assay_status assay_model_open(assay_model **out, assay_backend *b, const char *dir, const assay_model_opts *o,
                              assay_err *err);
void assay_model_close(assay_model *m); /* NULL is fine */

/* All borrowed until close. */
const assay_config *assay_model_config(const assay_model *m);
const assay_weights *assay_model_weights(const assay_model *m);
const assay_checkpoint *assay_model_checkpoint(const assay_model *m);
size_t assay_model_max_rows(const assay_model *m);
/* float32 when everything is computed in float32, else the checkpoint's own 16-bit type. */
assay_kv_type assay_model_kv_type(const assay_model *m);

/* The rows of one forward call: token ids[i] at position pos[i] of the sequence with page table pages[i].
 * Rows of one sequence stand together in order of position; its earlier positions are in the cache, and its
 * pages reach past the last one (assay_seq_extend). */
typedef struct assay_batch {
    size_t n; /* <= max_rows */
    const int32_t *ids;
    const int32_t *pos;
    const int32_t *const *pages;
    const bool *is_long; /* rows of texts that assay_config_is_long says so of; NULL = none. The same for all rows of a sequence */
    size_t n_out;       /* rows whose logits are wanted: */
    const int32_t *out; /* their indices, ascending */
} assay_batch;

/* Stores keys and values of all rows in kv, and leaves the hidden states of the wanted rows for
 * assay_model_logits. A row's result does not depend on what else is in the batch. The caller has checked ids
 * (< vocab_size) and positions. */
void assay_model_forward(assay_model *m, assay_kv *kv, const assay_batch *batch);

/* Logits of wanted rows [first, first + n) of the last forward call, n <= assay_model_logit_rows:
 * [n][vocab_size] on the host, valid until the next call. */
const float *assay_model_logits(assay_model *m, size_t first, size_t n);
size_t assay_model_logit_rows(const assay_model *m);

#endif
