/* model/config.h: what config.json says, checked and completed through the architecture table. Needs no weights. */
#ifndef ASSAY_MODEL_CONFIG_H
#define ASSAY_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "num/dtype.h"

#define ASSAY_MOST_LAYERS       1024
#define ASSAY_MOST_GROUPS       256 /* of experts */
#define ASSAY_ROPE_MOST_FACTORS 256 /* pairs of a head with factors of their own (longrope) */

/* How the frequencies of rotary positions are scaled; NONE: there is no rotation. The words are kinds in rope.c. */
typedef enum assay_rope_kind {
    ASSAY_ROPE_NONE,
    ASSAY_ROPE_DEFAULT,
    ASSAY_ROPE_LINEAR,
    ASSAY_ROPE_DYNAMIC,
    ASSAY_ROPE_YARN,
    ASSAY_ROPE_LONGROPE,
    ASSAY_ROPE_LLAMA3
} assay_rope_kind;

typedef struct assay_rope {
    assay_rope_kind kind;
    double theta;
    double factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    bool truncate;                            /* yarn: the ramp's ends are whole numbers */
    int64_t original_max_position;            /* llama3, yarn, longrope; dynamic: where it begins to scale */
    double scale;                             /* of cos and sin (yarn, longrope), 1 otherwise */
} assay_rope;

/* What is particular about one layer. */
enum {
    ASSAY_LAYER_SLIDES = 1,   /* its attention has the sliding window */
    ASSAY_LAYER_NO_ROPE = 2,  /* it knows no positions (NoPE) */
    ASSAY_LAYER_EXPERTS = 4   /* its feed-forward block is a mixture of experts */
};

/* Architectures are rows of model/architectures.def; a config points at its row. */
typedef struct assay_arch assay_arch;

typedef struct assay_config {
    const assay_arch *arch;
    char model_type[48];          /* "llama", "mistral", "qwen2" */
    char architecture[64];        /* "LlamaForCausalLM" */
    int64_t hidden_size;
    int64_t intermediate_size;    /* of the dense feed-forward blocks */
    int64_t n_layers;             /* num_hidden_layers */
    int64_t n_heads;              /* num_attention_heads */
    int64_t n_kv_heads;           /* num_key_value_heads, n_heads when absent; n_heads with latent attention */
    int64_t head_dim;             /* of queries and keys; hidden_size / n_heads when absent */
    int64_t v_head_dim;           /* of values: head_dim but for latent attention */
    int64_t rotary_dim;           /* the part of a head that turns: head_dim but for partial rotation */
    int64_t vocab_size;
    int64_t max_position_embeddings;
    int64_t sliding_window;       /* of the layers that slide; 0 = none does */
    uint8_t layer[ASSAY_MOST_LAYERS]; /* ASSAY_LAYER_* */
    bool tie_word_embeddings;
    bool attention_bias, attention_out_bias, mlp_bias;
    bool parallel_residual;       /* x += attention(norm(x)) + mlp(norm'(x)) */
    bool bare_names;              /* the checkpoint's names lack the architecture's prefix: assay_config_match */
    int act;                      /* an assay_gate_fn (backend.h) */
    double rms_norm_eps;          /* of norms of any kind */
    assay_rope rope;
    assay_rope rope_local;        /* of the layers that slide: as rope but for Gemma 3 */
    float rope_factors[2][ASSAY_ROPE_MOST_FACTORS]; /* longrope: short, long */
    double embedding_scale;       /* of embeddings, 1 usually; in `dtype` where it is Gemma's (assay_config_scale_embedding) */
    double attention_scale;       /* of scores, 1 / sqrt(head_dim) usually */
    double residual_scale;        /* of what attention and MLP add, 1 usually */
    double logit_scale;           /* of logits, 1 usually */
    double attention_soft_cap, logit_soft_cap; /* 0 = none */
    /* mixture of experts; n_experts 0 = none */
    int64_t n_experts, n_active;  /* experts of a layer, and per token */
    int64_t expert_size;          /* intermediate size of one */
    int64_t shared_size;          /* of what all tokens go through besides; 0 = nothing */
    int64_t n_groups, n_active_groups; /* experts are taken from the best groups alone; 0 = no groups */
    bool normalize_experts;       /* the weights of the chosen add up to 1 */
    double expert_scale;          /* of these weights, 1 usually */
    /* latent attention (DeepSeek); kv_rank 0 = none */
    int64_t kv_rank, q_rank;      /* of keys and values, of queries (0 = no low rank) */
    int64_t nope_dim;             /* the part of a head that does not turn: rotary_dim more make head_dim */
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

/* What a KV cache holds of a position in a layer: keys and values of `heads` heads, `dim` numbers each; or numbers that are both, read by
 * all heads (latent attention: the keys' turning part and the latent). */
typedef struct assay_kv_shape {
    int heads, dim;
    bool shared; /* keys are values */
} assay_kv_shape;
assay_kv_shape assay_config_kv_shape(const assay_config *c);

/* Where embeddings are scaled by sqrt(hidden_size), it is rounded to the type that is computed in: 59.87 is 59.75 for a Gemma in bfloat16, as
 * transformers and vLLM have it. Parsing does it for `dtype`. */
void assay_config_scale_embedding(assay_config *c, assay_dtype type);

/* Window of a layer in positions, 0 = all. */
int assay_config_window(const assay_config *c, int64_t layer);
/* Whether a text of n tokens is one that turns by longrope's long factors, at all of its positions. */
bool assay_config_is_long(const assay_config *c, size_t n);
/* The share of the experts' weights that a token meets: 1 without experts. */
double assay_config_active_share(const assay_config *c);

/* One linear or embedding matrix, or norm vector, that the architecture calls for: for plans, size sums and weight binding. */
typedef struct assay_tensor_spec {
    char name[160];               /* "model.layers.3.self_attn.q_proj.weight" */
    int layer;                    /* -1 outside the decoder layers */
    int expert;                   /* -1: of no expert */
    int64_t rows, cols;           /* cols 1 and is_vector for norms and biases */
    bool is_vector;
    bool is_linear;               /* a decoder-layer matrix that methods quantize by default */
    bool is_embedding, is_head;
    bool is_router;               /* chooses experts: a Linear that stays as it is */
    bool is_transposed;           /* the file has it [cols, rows] (GPT-2's Conv1D) */
} assay_tensor_spec;
/* Calls fn for every tensor of the model in checkpoint order. A tied head is not listed. */
typedef assay_status (*assay_tensor_spec_fn)(void *ctx, const assay_tensor_spec *spec, assay_err *err);
assay_status assay_config_each_tensor(const assay_config *c, assay_tensor_spec_fn fn, void *ctx, assay_err *err);

#endif
