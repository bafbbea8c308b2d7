/* model/arch.h: rows of architectures.def, for the rooms that run models (config.h is for everybody else). */
#ifndef ASSAY_MODEL_ARCH_H
#define ASSAY_MODEL_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include "backend/backend.h"
#include "model/config.h"

/* What a tensor is to the forward pass. */
typedef enum assay_tensor_role {
    ASSAY_ROLE_EMBED,
    ASSAY_ROLE_ATTN_NORM,
    ASSAY_ROLE_Q,
    ASSAY_ROLE_Q_BIAS,
    ASSAY_ROLE_K,
    ASSAY_ROLE_K_BIAS,
    ASSAY_ROLE_V,
    ASSAY_ROLE_V_BIAS,
    ASSAY_ROLE_Q_NORM,
    ASSAY_ROLE_K_NORM,
    ASSAY_ROLE_O,
    ASSAY_ROLE_O_BIAS,
    ASSAY_ROLE_MLP_NORM,
    ASSAY_ROLE_GATE,
    ASSAY_ROLE_GATE_BIAS,
    ASSAY_ROLE_UP,
    ASSAY_ROLE_UP_BIAS,
    ASSAY_ROLE_DOWN,
    ASSAY_ROLE_DOWN_BIAS,
    ASSAY_ROLE_FINAL_NORM,
    ASSAY_ROLE_HEAD,
    ASSAY_ROLE_COUNT
} assay_tensor_role;

typedef enum assay_arch_bias { ASSAY_BIAS_NONE, ASSAY_BIAS_ALWAYS, ASSAY_BIAS_CONFIG } assay_arch_bias;
typedef enum assay_arch_window {
    ASSAY_WINDOW_NONE,
    ASSAY_WINDOW_ALL,
    ASSAY_WINDOW_FROM_LAYER
} assay_arch_window;
typedef enum assay_arch_layout { ASSAY_LAYOUT_LLAMA } assay_arch_layout;

struct assay_arch {
    const char *class_name;   /* config.json: architectures[0] */
    const char *model_type;   /* config.json: model_type */
    assay_arch_layout layout; /* which TENSOR rows */
    assay_arch_bias qkv_bias, out_bias, mlp_bias;
    bool qk_norm;
    assay_arch_window window;
    int64_t default_window;        /* sliding_window when the key is absent */
    int64_t default_window_layers; /* max_window_layers when the key is absent */
    int64_t default_head_dim;      /* 0 = hidden_size / num_attention_heads */
    const char *act_name;          /* hidden_act */
    assay_gate_fn gate;
};

/* As assay_config_each_tensor, with the role of each tensor. */
typedef assay_status (*assay_role_fn)(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec,
                                      assay_err *err);
assay_status assay_config_each_role(const assay_config *c, assay_role_fn fn, void *ctx, assay_err *err);

/* Window of a layer in positions, 0 = all. */
int assay_config_window(const assay_config *c, int64_t layer);

/* inv_freq[head_dim / 2], float32, with the config's scaling: rope.c. */
void assay_rope_frequencies(float *inv_freq, const assay_config *c);

#endif
