/* model/config.h: what config.json says, checked and completed through the architecture table. Needs no weights. */
#ifndef ASSAY_MODEL_CONFIG_H
#define ASSAY_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "num/dtype.h"

typedef enum assay_rope_kind { ASSAY_ROPE_NONE, ASSAY_ROPE_DEFAULT, ASSAY_ROPE_LINEAR, ASSAY_ROPE_LLAMA3 } assay_rope_kind;

/* Architectures are rows of model/architectures.def; a config points at its row. */
typedef struct assay_arch assay_arch;

typedef struct assay_config {
    const assay_arch *arch;
    char model_type[48];          /* "llama", "mistral", "qwen2" */
    char architecture[64];        /* "LlamaForCausalLM" */
    int64_t hidden_size;
    int64_t intermediate_size;
    int64_t n_layers;             /* num_hidden_layers */
    int64_t n_heads;              /* num_attention_heads */
    int64_t n_kv_heads;           /* num_key_value_heads, n_heads when absent */
    int64_t head_dim;             /* hidden_size / n_heads when absent */
    int64_t vocab_size;
    int64_t max_position_embeddings;
    int64_t sliding_window;       /* 0 = none */
    int64_t first_sliding_layer;  /* Qwen2's max_window_layers: layers from here slide; 0 = all */
    bool tie_word_embeddings;
    bool attention_bias, attention_out_bias, mlp_bias;
    double rms_norm_eps;
    double rope_theta;
    assay_rope_kind rope_kind;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    int64_t rope_original_max_position;
    assay_dtype dtype;            /* torch_dtype / dtype of the checkpoint: BF16, F16 or F32 */
    int32_t bos_token_id;         /* -1 = none */
    int32_t eos_token_ids[8];     /* config.json and generation_config.json together */
    int n_eos;
    json_t *quantization_config;  /* owned; NULL for an unquantized checkpoint */
    int64_t down_hadamard;        /* the down projections' inputs are multiplied by Hadamard blocks of this order first; 0 = no */
} assay_config;

/* Reads DIR/config.json and, when there, DIR/generation_config.json. EUNSUPPORTED names an unknown architecture and lists the known;
 * EINPUT names the key. All sizes are bounded (layers <= 1024, vocab <= 4 Mi, ...). */
assay_status assay_config_open(assay_config *out, const char *dir, assay_err *err);
/* A path to a config.json alone, or to a directory. */
assay_status assay_config_parse(assay_config *out, const json_t *config, const json_t *generation, const char *where, assay_err *err);
void assay_config_deinit(assay_config *c);

/* One linear or embedding matrix, or norm vector, that the architecture calls for: for plans, size sums and weight binding. */
typedef struct assay_tensor_spec {
    char name[160];               /* "model.layers.3.self_attn.q_proj.weight" */
    int layer;                    /* -1 outside the decoder layers */
    int64_t rows, cols;           /* cols 1 and is_vector for norms and biases */
    bool is_vector;
    bool is_linear;               /* a decoder-layer matrix that methods quantize by default */
    bool is_embedding, is_head;
} assay_tensor_spec;
/* Calls fn for every tensor of the model in checkpoint order. A tied head is not listed. */
typedef assay_status (*assay_tensor_spec_fn)(void *ctx, const assay_tensor_spec *spec, assay_err *err);
assay_status assay_config_each_tensor(const assay_config *c, assay_tensor_spec_fn fn, void *ctx, assay_err *err);

#endif
