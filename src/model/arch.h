/* model/arch.h: rows of architectures.def, for the rooms that run models (config.h is for everybody else). */
#ifndef ASSAY_MODEL_ARCH_H
#define ASSAY_MODEL_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include "backend/backend.h"
#include "format/format.h"
#include "model/config.h"

/* What a tensor is to the forward pass. Those that take inputs of their own stand in the order of the pass (layer.h, taps). */
typedef enum assay_tensor_role {
    ASSAY_ROLE_EMBED,
    ASSAY_ROLE_ATTN_NORM,
    ASSAY_ROLE_Q,
    ASSAY_ROLE_Q_BIAS,
    ASSAY_ROLE_K,
    ASSAY_ROLE_K_BIAS,
    ASSAY_ROLE_V,
    ASSAY_ROLE_V_BIAS,
    ASSAY_ROLE_QKV, /* the three in one */
    ASSAY_ROLE_QKV_BIAS,
    ASSAY_ROLE_KV_A, /* latent attention: to the latents of keys and values, and the keys' turning part */
    ASSAY_ROLE_KV_A_NORM,
    ASSAY_ROLE_KV_B, /* from there */
    ASSAY_ROLE_Q_A,
    ASSAY_ROLE_Q_A_NORM,
    ASSAY_ROLE_Q_B,
    ASSAY_ROLE_Q_NORM,
    ASSAY_ROLE_K_NORM,
    ASSAY_ROLE_O,
    ASSAY_ROLE_O_BIAS,
    ASSAY_ROLE_MLP_NORM,
    ASSAY_ROLE_GATE, /* also what stands alone where nothing is gated */
    ASSAY_ROLE_GATE_BIAS,
    ASSAY_ROLE_UP,
    ASSAY_ROLE_UP_BIAS,
    ASSAY_ROLE_GATE_UP, /* the two in one */
    ASSAY_ROLE_DOWN,
    ASSAY_ROLE_DOWN_BIAS,
    ASSAY_ROLE_ROUTER,
    ASSAY_ROLE_EXPERT_GATE, /* one of these three per expert */
    ASSAY_ROLE_EXPERT_UP,
    ASSAY_ROLE_EXPERT_DOWN,
    ASSAY_ROLE_SHARED_GATE, /* what all tokens go through */
    ASSAY_ROLE_SHARED_UP,
    ASSAY_ROLE_SHARED_DOWN,
    ASSAY_ROLE_SHARED_ROUTER, /* its weight, one number per token */
    ASSAY_ROLE_FINAL_NORM,
    ASSAY_ROLE_HEAD,
    /* vectors of few architectures */
    ASSAY_ROLE_POSITIONS, /* learned position embeddings */
    ASSAY_ROLE_ATTN_NORM_BIAS,
    ASSAY_ROLE_MLP_NORM_BIAS,
    ASSAY_ROLE_FINAL_NORM_BIAS,
    ASSAY_ROLE_POST_ATTN_NORM, /* of what attention adds */
    ASSAY_ROLE_POST_MLP_NORM,
    ASSAY_ROLE_COUNT
} assay_tensor_role;
#define ASSAY_EXPERT_PARTS 3 /* EXPERT_GATE, EXPERT_UP, EXPERT_DOWN */
static inline bool assay_role_is_expert(assay_tensor_role r) {
    return r >= ASSAY_ROLE_EXPERT_GATE && r <= ASSAY_ROLE_EXPERT_DOWN;
}

typedef enum assay_arch_bias { ASSAY_BIAS_NONE, ASSAY_BIAS_ALWAYS, ASSAY_BIAS_CONFIG } assay_arch_bias;
typedef enum assay_arch_window {
    ASSAY_WINDOW_NONE,
    ASSAY_WINDOW_ALL,
    ASSAY_WINDOW_FROM_LAYER,
    ASSAY_WINDOW_SWITCHED,
    ASSAY_WINDOW_LISTED,
    ASSAY_WINDOW_EVERY
} assay_arch_window;
typedef enum assay_arch_norm { ASSAY_NORM_RMS, ASSAY_NORM_RMS_PLUS_ONE, ASSAY_NORM_LAYER } assay_arch_norm;
typedef enum assay_arch_qk_norm { ASSAY_QK_NORM_NONE, ASSAY_QK_NORM_HEAD, ASSAY_QK_NORM_WHOLE } assay_arch_qk_norm;
typedef enum assay_arch_experts { /* which layers have them */
    ASSAY_EXPERTS_NONE,
    ASSAY_EXPERTS_ALL,
    ASSAY_EXPERTS_SPARSE,
    ASSAY_EXPERTS_AFTER_FIRST
} assay_arch_experts;
typedef enum assay_arch_shared { ASSAY_SHARED_NONE, ASSAY_SHARED_SIZE, ASSAY_SHARED_COUNT } assay_arch_shared;
/* Sets of TENSOR rows: bits. */
typedef enum assay_arch_layout {
    ASSAY_LAYOUT_LLAMA = 1,
    ASSAY_LAYOUT_GEMMA = 2,
    ASSAY_LAYOUT_OLMO2 = 4,
    ASSAY_LAYOUT_PHI3 = 8,
    ASSAY_LAYOUT_STARCODER2 = 16,
    ASSAY_LAYOUT_NEOX = 32,
    ASSAY_LAYOUT_GPT2 = 64,
    ASSAY_LAYOUT_MIXTRAL = 128,
    ASSAY_LAYOUT_QWEN_MOE = 256,
    ASSAY_LAYOUT_DEEPSEEK2 = 512
} assay_arch_layout;

/* Columns: architectures.def. */
struct assay_arch {
    const char *class_name;
    const char *model_type;
    assay_arch_layout layout;
    const char *prefix;
    const char *const *aliases; /* pairs of a key's usual name and this architecture's, NULL at the end */
    const char *fixed_keys;     /* keys that may have one value alone: "key" or "key=value", separated by spaces */
    assay_arch_norm norm;
    const char *eps_key;
    double default_eps;
    assay_arch_bias qkv_bias, out_bias, mlp_bias;
    const char *attention_bias_key, *mlp_bias_key;
    bool default_bias;
    assay_arch_qk_norm qk_norm;
    assay_arch_window window;
    int64_t default_window;
    int64_t default_window_layers;
    int64_t default_window_every;
    int64_t default_head_dim;
    double default_theta, local_theta;
    double default_partial;
    int64_t default_original;
    int64_t rope_every, default_ffn;
    bool no_rope, default_tied, ungated, parallel, heads_fused, scaled_embedding, has_multipliers, latent;
    const char *act_key;
    const char *act_name;
    double default_score_scalar, default_attention_cap, default_logit_cap;
    assay_arch_experts experts;
    assay_arch_shared shared;
    int64_t default_shared;
    const char *expert_size_key;
    bool normalize_always;
};

/* As assay_config_each_tensor, with the role of each tensor. */
typedef assay_status (*assay_role_fn)(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec,
                                      assay_err *err);
assay_status assay_config_each_role(const assay_config *c, assay_role_fn fn, void *ctx, assay_err *err);

/* Checkpoints of a base model without its head's class have names without the prefix ("h.0.", not "transformer.h.0."): looks which
 * it is, and sets bare_names. */
void assay_config_match(assay_config *c, const assay_checkpoint *checkpoint);

/* What is added to a vector of that role before it is used: 1 for the weights of norms stored as their distance from one. */
float assay_config_vector_offset(const assay_config *c, assay_tensor_role role);

/* --- rope.c --- */

/* The kind called so in config.json; false when there is none. And all words, for messages. */
bool assay_rope_parse(assay_rope_kind *out, const char *word);
const char *assay_rope_word(assay_rope_kind k);
const char *assay_rope_words(void);
/* inv_freq[rotary_dim / 2], float32, with the config's scaling, near the beginning of a text. */
void assay_rope_frequencies(float *inv_freq, const assay_config *c);
/* The same of one of a config's ropes, of a text of n tokens (dynamic and longrope depend on it). */
void assay_rope_frequencies_at(float *inv_freq, const assay_config *c, const assay_rope *r, int64_t n);

/* A config's rotation in the form that operations take: source and inv_freq [rotary_dim / 2] (filled here) must outlive it. is_long: of
 * texts that assay_config_is_long says so of. */
typedef struct assay_rope_source {
    const assay_config *config;
    const assay_rope *rope;
} assay_rope_source;
assay_turning assay_rope_rotation(float *inv_freq, const assay_rope_source *source, bool is_long);

#endif
