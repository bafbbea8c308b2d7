/* tensors.c: the tensors that a config calls for, expanded from the TENSOR rows of architectures.def in
 * checkpoint order. */
#include <stdio.h>
#include <string.h>
#include "model/arch.h"

typedef enum tensor_dim { DIM_ONE, DIM_HIDDEN, DIM_FFN, DIM_VOCAB, DIM_Q, DIM_KV, DIM_HEAD } tensor_dim;
typedef enum tensor_when {
    WHEN_ALWAYS,
    WHEN_QKV_BIAS,
    WHEN_OUT_BIAS,
    WHEN_MLP_BIAS,
    WHEN_QK_NORM,
    WHEN_UNTIED
} tensor_when;

typedef struct tensor_row {
    assay_arch_layout layout;
    assay_tensor_role role;
    const char *pattern;
    tensor_dim rows, cols;
    tensor_when when;
} tensor_row;

static const tensor_row table[] = {
#define TENSOR(LAYOUT, ROLE, pattern, ROWS, COLS, WHEN)                                                      \
    {ASSAY_LAYOUT_##LAYOUT, ASSAY_ROLE_##ROLE, pattern, DIM_##ROWS, DIM_##COLS, WHEN_##WHEN},
#include "model/architectures.def"
#undef TENSOR
};

static int64_t size_of(const assay_config *c, tensor_dim d) {
    switch (d) {
    case DIM_HIDDEN: return c->hidden_size;
    case DIM_FFN: return c->intermediate_size;
    case DIM_VOCAB: return c->vocab_size;
    case DIM_Q: return c->n_heads * c->head_dim;
    case DIM_KV: return c->n_kv_heads * c->head_dim;
    case DIM_HEAD: return c->head_dim;
    case DIM_ONE: break;
    }
    return 1;
}

static bool is_wanted(const assay_config *c, tensor_when w) {
    switch (w) {
    case WHEN_QKV_BIAS: return c->attention_bias;
    case WHEN_OUT_BIAS: return c->attention_out_bias;
    case WHEN_MLP_BIAS: return c->mlp_bias;
    case WHEN_QK_NORM: return c->arch->qk_norm;
    case WHEN_UNTIED: return !c->tie_word_embeddings;
    case WHEN_ALWAYS: break;
    }
    return true;
}

static void fill(assay_tensor_spec *spec, const assay_config *c, const tensor_row *row, int layer) {
    const char *hash = strchr(row->pattern, '#');
    memset(spec, 0, sizeof *spec);
    if (hash)
        snprintf(spec->name, sizeof spec->name, "%.*s%d%s", (int)(hash - row->pattern), row->pattern, layer,
                 hash + 1);
    else
        snprintf(spec->name, sizeof spec->name, "%s", row->pattern);
    spec->layer = layer;
    spec->rows = size_of(c, row->rows);
    spec->cols = size_of(c, row->cols);
    spec->is_vector = row->cols == DIM_ONE;
    spec->is_embedding = row->role == ASSAY_ROLE_EMBED;
    spec->is_head = row->role == ASSAY_ROLE_HEAD;
    spec->is_linear = layer >= 0 && !spec->is_vector;
}

assay_status assay_config_each_role(const assay_config *c, assay_role_fn fn, void *ctx, assay_err *err) {
    assay_tensor_spec spec;
    for (size_t i = 0; i < ASSAY_LEN(table);) {
        size_t end = i + 1;
        bool layered = strchr(table[i].pattern, '#') != NULL;
        while (layered && end < ASSAY_LEN(table) && strchr(table[end].pattern, '#')) end++;
        int64_t n = layered ? c->n_layers : 1;
        for (int64_t layer = 0; layer < n; layer++)
            for (size_t k = i; k < end; k++) {
                if (table[k].layout != c->arch->layout || !is_wanted(c, table[k].when)) continue;
                fill(&spec, c, &table[k], layered ? (int)layer : -1);
                ASSAY_TRY(fn(ctx, table[k].role, &spec, err));
            }
        i = end;
    }
    return ASSAY_OK;
}

typedef struct plain_ctx {
    assay_tensor_spec_fn fn;
    void *ctx;
} plain_ctx;

static assay_status without_role(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    plain_ctx *p = ctx;
    (void)role;
    return p->fn(p->ctx, spec, err);
}

assay_status assay_config_each_tensor(const assay_config *c, assay_tensor_spec_fn fn, void *ctx,
                                      assay_err *err) {
    plain_ctx p = {fn, ctx};
    return assay_config_each_role(c, without_role, &p, err);
}
