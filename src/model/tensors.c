/* tensors.c: the tensors that a config calls for, expanded from the TENSOR rows of architectures.def in
 * checkpoint order. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "model/arch.h"

typedef enum tensor_dim {
    DIM_ONE,
    DIM_UNIT, /* one as well, of a matrix */
    DIM_HIDDEN,
    DIM_FFN,
    DIM_FFN2,
    DIM_VOCAB,
    DIM_POSITIONS,
    DIM_Q,
    DIM_KV,
    DIM_QKV,
    DIM_V,
    DIM_HEAD,
    DIM_EXPERTS,
    DIM_EXPERT,
    DIM_SHARED,
    DIM_KV_RANK,
    DIM_KV_LATENT,
    DIM_KV_EXPAND,
    DIM_Q_RANK
} tensor_dim;
typedef enum tensor_when {
    WHEN_ALWAYS,
    WHEN_QKV_BIAS,
    WHEN_OUT_BIAS,
    WHEN_MLP_BIAS,
    WHEN_QK_NORM,
    WHEN_UNTIED,
    WHEN_DENSE,
    WHEN_EXPERTS,
    WHEN_SHARED,
    WHEN_Q_RANK,
    WHEN_NO_Q_RANK
} tensor_when;

typedef struct tensor_row {
    int layouts;
    assay_tensor_role role;
    const char *pattern;
    tensor_dim rows, cols;
    tensor_when when;
    bool transposed;
} tensor_row;

/* The layouts as the table names them. */
enum {
    LLAMA = ASSAY_LAYOUT_LLAMA,
    GEMMA = ASSAY_LAYOUT_GEMMA,
    OLMO2 = ASSAY_LAYOUT_OLMO2,
    PHI3 = ASSAY_LAYOUT_PHI3,
    STARCODER2 = ASSAY_LAYOUT_STARCODER2,
    NEOX = ASSAY_LAYOUT_NEOX,
    GPT2 = ASSAY_LAYOUT_GPT2,
    MIXTRAL = ASSAY_LAYOUT_MIXTRAL,
    QWEN_MOE = ASSAY_LAYOUT_QWEN_MOE,
    DEEPSEEK2 = ASSAY_LAYOUT_DEEPSEEK2
};

static const tensor_row table[] = {
#define ROW(LAYOUTS, ROLE, pattern, ROWS, COLS, WHEN, transposed)                                            \
    {LAYOUTS, ASSAY_ROLE_##ROLE, pattern, DIM_##ROWS, DIM_##COLS, WHEN_##WHEN, transposed},
#define TENSOR(LAYOUTS, ROLE, pattern, ROWS, COLS, WHEN) ROW(LAYOUTS, ROLE, pattern, ROWS, COLS, WHEN, false)
#define TRANSPOSED(LAYOUTS, ROLE, pattern, ROWS, COLS, WHEN) ROW(LAYOUTS, ROLE, pattern, ROWS, COLS, WHEN, true)
#include "model/architectures.def"
#undef TRANSPOSED
#undef TENSOR
#undef ROW
};

static int64_t size_of(const assay_config *c, tensor_dim d) {
    int64_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    switch (d) {
    case DIM_HIDDEN: return c->hidden_size;
    case DIM_FFN: return c->intermediate_size;
    case DIM_FFN2: return 2 * c->intermediate_size;
    case DIM_VOCAB: return c->vocab_size;
    case DIM_POSITIONS: return c->max_position_embeddings;
    case DIM_Q: return q;
    case DIM_KV: return kv;
    case DIM_QKV: return q + 2 * kv;
    case DIM_V: return c->n_heads * c->v_head_dim;
    case DIM_HEAD: return c->head_dim;
    case DIM_EXPERTS: return c->n_experts;
    case DIM_EXPERT: return c->expert_size;
    case DIM_SHARED: return c->shared_size;
    case DIM_KV_RANK: return c->kv_rank;
    case DIM_KV_LATENT: return c->kv_rank + c->rotary_dim;
    case DIM_KV_EXPAND: return c->n_heads * (c->nope_dim + c->v_head_dim);
    case DIM_Q_RANK: return c->q_rank;
    case DIM_UNIT:
    case DIM_ONE: break;
    }
    return 1;
}

static bool is_wanted(const assay_config *c, tensor_when w, int layer) {
    bool experts = layer >= 0 && (c->layer[layer] & ASSAY_LAYER_EXPERTS);
    switch (w) {
    case WHEN_QKV_BIAS: return c->attention_bias;
    case WHEN_OUT_BIAS: return c->attention_out_bias;
    case WHEN_MLP_BIAS: return c->mlp_bias && !experts;
    case WHEN_QK_NORM: return c->arch->qk_norm != ASSAY_QK_NORM_NONE;
    case WHEN_UNTIED: return !c->tie_word_embeddings;
    case WHEN_DENSE: return !experts;
    case WHEN_EXPERTS: return experts;
    case WHEN_SHARED: return experts && c->shared_size > 0;
    case WHEN_Q_RANK: return c->q_rank > 0;
    case WHEN_NO_Q_RANK: return c->q_rank == 0;
    case WHEN_ALWAYS: break;
    }
    return true;
}

static const char *prefix_of(const assay_config *c) {
    return c->arch->prefix ? c->arch->prefix : "model.";
}

/* pattern with the layer's number for '#' and the expert's for '@', without the prefix that a base model's checkpoint lacks. */
static void put_name(char *out, size_t size, const assay_config *c, const char *pattern, int layer, int expert) {
    const char *prefix = prefix_of(c);
    size_t n = 0;
    if (c->bare_names && strncmp(pattern, prefix, strlen(prefix)) == 0) pattern += strlen(prefix);
    for (; *pattern && n + 12 < size; pattern++)
        if (*pattern == '#' || *pattern == '@')
            n += (size_t)snprintf(out + n, size - n, "%d", *pattern == '#' ? layer : expert);
        else
            out[n++] = *pattern;
    out[n] = 0;
}

static void fill(assay_tensor_spec *spec, const assay_config *c, const tensor_row *row, int layer, int expert) {
    memset(spec, 0, sizeof *spec);
    put_name(spec->name, sizeof spec->name, c, row->pattern, layer, expert);
    spec->layer = layer;
    spec->expert = expert;
    spec->rows = size_of(c, row->rows);
    spec->cols = size_of(c, row->cols);
    spec->is_vector = row->cols == DIM_ONE;
    spec->is_embedding = row->role == ASSAY_ROLE_EMBED;
    spec->is_head = row->role == ASSAY_ROLE_HEAD;
    spec->is_router = row->role == ASSAY_ROLE_ROUTER || row->role == ASSAY_ROLE_SHARED_ROUTER;
    spec->is_linear = layer >= 0 && !spec->is_vector && !spec->is_router;
    spec->is_transposed = row->transposed;
}

/* The last of the rows from i on that follow each other and have `mark` in their names, plus one; i when row i has not. */
static size_t run_of(size_t i, size_t end, char mark) {
    while (i < end && strchr(table[i].pattern, mark)) i++;
    return i;
}

/* What is walked, for whom. */
typedef struct walk {
    const assay_config *c;
    assay_role_fn fn;
    void *ctx;
} walk;

static assay_status visit(const walk *w, const tensor_row *row, int layer, int expert, assay_err *err) {
    assay_tensor_spec spec;
    if (!(row->layouts & (int)w->c->arch->layout) || !is_wanted(w->c, row->when, layer)) return ASSAY_OK;
    fill(&spec, w->c, row, layer, expert);
    return w->fn(w->ctx, row->role, &spec, err);
}

/* Rows [i, end) of one layer. */
static assay_status walk_layer(const walk *w, size_t i, size_t end, int layer, assay_err *err) {
    while (i < end) {
        size_t experts = run_of(i, end, '@');
        for (int e = 0; e < w->c->n_experts && experts > i; e++)
            for (size_t k = i; k < experts; k++) ASSAY_TRY(visit(w, &table[k], layer, e, err));
        if (experts == i) ASSAY_TRY(visit(w, &table[i], layer, -1, err));
        i = experts > i ? experts : i + 1;
    }
    return ASSAY_OK;
}

assay_status assay_config_each_role(const assay_config *c, assay_role_fn fn, void *ctx, assay_err *err) {
    const walk w = {c, fn, ctx};
    for (size_t i = 0; i < ASSAY_LEN(table);) {
        size_t end = run_of(i, ASSAY_LEN(table), '#');
        for (int layer = 0; layer < c->n_layers && end > i; layer++) ASSAY_TRY(walk_layer(&w, i, end, layer, err));
        if (end == i) ASSAY_TRY(visit(&w, &table[i], -1, -1, err));
        i = end > i ? end : i + 1;
    }
    return ASSAY_OK;
}

void assay_config_match(assay_config *c, const assay_checkpoint *checkpoint) {
    const char *prefix = prefix_of(c);
    size_t n = assay_checkpoint_n_tensors(checkpoint);
    c->bare_names = n > 0;
    for (size_t i = 0; i < n && c->bare_names; i++)
        c->bare_names = strncmp(assay_checkpoint_get(checkpoint, i)->name, prefix, strlen(prefix)) != 0;
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
