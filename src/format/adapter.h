/* format/adapter.h: PEFT adapters on disk: adapter_config.json and adapter_model.safetensors, as peft's save_pretrained leaves them. */
#ifndef ASSAY_FORMAT_ADAPTER_H
#define ASSAY_FORMAT_ADAPTER_H

#include "format/format.h"

typedef struct assay_adapter assay_adapter;

/* What is added to one matrix W of the base, which is [out][in] (an embedding: [in = vocabulary][out = hidden size]):
 * W + scale * B A, B A being transposed for an embedding. A is `down` [rank][in], B is `up` [out][rank]. DoRA: the rows of that sum are then
 * brought to the lengths that `magnitude` [out] says. */
typedef struct assay_lora {
    const char *module; /* "model.layers.0.self_attn.q_proj" */
    const assay_tensor *down, *up, *magnitude;
    int64_t rank, in, out;
    double scale; /* lora_alpha / rank, or / sqrt(rank) with use_rslora, patterns applied */
    bool is_embedding;
    bool transposed; /* fan_in_fan_out: the base keeps W as [in][out] (GPT-2's Conv1D) */
} assay_lora;

/* DIR with both files. EINPUT names file, key or tensor; EUNSUPPORTED what peft knows and this does not: other types than LORA,
 * adapters that begin at a changed base (pissa, olora, loftq, corda), lora_bias, target_parameters, trainable token rows. */
assay_status assay_adapter_open(assay_adapter **out, const char *dir, assay_err *err);
/* From text and a safetensors file in memory, which must outlive it: fuzzing. */
assay_status assay_adapter_parse(assay_adapter **out, const char *config, size_t n_config, const uint8_t *weights, size_t n_weights,
                                 assay_err *err);
void assay_adapter_close(assay_adapter *a); /* NULL is fine */

size_t assay_adapter_n_loras(const assay_adapter *a);
const assay_lora *assay_adapter_lora(const assay_adapter *a, size_t i);                 /* sorted by module */
const assay_lora *assay_adapter_find(const assay_adapter *a, const char *weight_name);  /* "X.weight"; NULL when it changes nothing there */
/* Tensors that stand whole in the adapter (modules_to_save, trained biases), under the base's names. */
size_t assay_adapter_n_whole(const assay_adapter *a);
const char *assay_adapter_whole_name(const assay_adapter *a, size_t i);
const assay_tensor *assay_adapter_whole(const assay_adapter *a, const char *name); /* NULL: the base's own */
/* SHA-256 over configuration and tensors. */
assay_status assay_adapter_hash(char hex[65], const assay_adapter *a, assay_err *err);

/* Rows [row, row+n) of the base's tensor, decoded in w [n][columns] as it lies there, become those of the merged one, in float32.
 * The products are taken in the order of rank. ENOMEM; EINPUT when w's shape is not the lora's or an element of it is no number. */
assay_status assay_lora_merge_rows(float *w, const assay_lora *l, int64_t row, int64_t n, int64_t columns, assay_err *err);

#endif
