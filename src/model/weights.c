/* weights.c: checkpoint tensors -> roles -> backend weights.
 *
 * The architecture's table says which tensors there must be; format/ says what bytes of a convention mean the
 * matrix of that name. Every matrix is scanned for NaN and infinity while it is read anyway for repacking:
 * one pass at memory speed, and the only place where a broken download or an overflowed merge can still be
 * told apart from a bad model. */
#include "model/weights.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "model/adapt.h"
#include "num/convert.h"

typedef struct binder {
    assay_weights *w;
    const assay_config *config;
    const assay_checkpoint *ckpt;
    assay_act_mode act;
    assay_adapt adapt;
    char (*modules)[sizeof((assay_tensor_spec *)0)
                        ->name]; /* "model.layers.0.self_attn.q_proj", for the unused list */
    size_t n_modules, cap_modules;
} binder;

static assay_dtype dense_type(assay_precision p) {
    return p == ASSAY_PRECISION_F16 ? ASSAY_DTYPE_F16 : p == ASSAY_PRECISION_BF16 ? ASSAY_DTYPE_BF16 : ASSAY_DTYPE_F32;
}

static assay_status check_dense(const assay_matrix *m, const char *name, assay_err *err) {
    int64_t at = assay_find_nonfinite(m->data, dense_type(m->precision), (size_t)(m->rows * m->cols));
    if (at < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT,
                      "tensor '%s' holds a NaN or infinity at [%lld, %lld]; the checkpoint is damaged", name,
                      (long long)(at / m->cols), (long long)(at % m->cols));
}

/* A matrix that the file has lying on its side (GPT-2's Conv1D), set upright in its own type; codes become float32. */
static assay_status set_upright(binder *b, assay_matrix *m, const assay_tensor_spec *spec, assay_err *err) {
    assay_matrix lying = {0};
    assay_weights *w = b->w;
    enum { AT_ONCE = 16 }; /* columns */
    float *columns = NULL, row[AT_ONCE];
    uint8_t *out = NULL;
    assay_status s;
    ASSAY_GO(assay_checkpoint_matrix(&lying, b->ckpt, b->config->quantization_config, spec->name, spec->cols,
                                     spec->rows, b->config->dtype, err));
    ASSAY_GO(assay_grow(&w->kept, &w->cap_kept, w->n_kept + 1, sizeof *w->kept, err));
    bool dense = assay_precision_get_kind(lying.precision) == ASSAY_KIND_DENSE;
    assay_dtype type = dense ? dense_type(lying.precision) : ASSAY_DTYPE_F32;
    size_t size = assay_dtype_size(type);
    columns = assay_mallocn(AT_ONCE * (size_t)spec->rows, sizeof *columns);
    out = assay_mallocn((size_t)spec->rows * (size_t)spec->cols, size);
    if (!columns || !out) {
        s = assay_nomem(err);
        goto out;
    }
    for (int64_t c = 0; c < spec->cols; c += AT_ONCE) {
        int64_t n = ASSAY_MIN((int64_t)AT_ONCE, spec->cols - c);
        assay_matrix_decode_rows(columns, &lying, c, n);
        for (int64_t r = 0; r < spec->rows; r++) {
            for (int64_t i = 0; i < n; i++) row[i] = columns[i * spec->rows + r];
            assay_from_f32(out + (size_t)(r * spec->cols + c) * size, type, row, (size_t)n);
        }
    }
    *m = (assay_matrix){.precision = dense ? lying.precision : ASSAY_PRECISION_F32,
                        .rows = spec->rows,
                        .cols = spec->cols,
                        .data = out,
                        .act_bits = lying.act_bits,
                        .act_dtype = lying.act_dtype};
    w->kept[w->n_kept++] = out;
    out = NULL;
out:
    assay_free(columns);
    assay_free(out);
    assay_matrix_deinit(&lying);
    return s;
}

/* Latent attention takes kv_b apart by heads and multiplies with its exact values: no mode, no low-rank part beside it. */
static assay_status bind_matrix(binder *b, assay_weight **out, assay_tensor_role role, const assay_tensor_spec *spec,
                                assay_err *err) {
    assay_status s;
    assay_matrix m = {0};
    const assay_tensor *own = assay_adapt_whole(&b->adapt, spec->name);
    if (own)
        ASSAY_GO(assay_adapt_dense(&m, b->w, own, spec, b->config->dtype, err));
    else if (spec->is_transposed)
        ASSAY_GO(set_upright(b, &m, spec, err));
    else
        ASSAY_GO(assay_checkpoint_matrix(&m, b->ckpt, b->config->quantization_config, spec->name, spec->rows,
                                         spec->cols, b->config->dtype, err));
    bool dense = assay_precision_get_kind(m.precision) == ASSAY_KIND_DENSE;
    ASSAY_GO(dense ? check_dense(&m, spec->name, err) : assay_matrix_check(&m, spec->name, err));
    bool keep_home = b->act == ASSAY_ACT_INT8 && assay_precision_get_kind(m.precision) != ASSAY_KIND_INT;
    s = assay_weight_new(out, b->w->backend, &m, role == ASSAY_ROLE_KV_B ? ASSAY_ACT_F32 : keep_home ? ASSAY_ACT_AUTO : b->act, err);
    if (s != ASSAY_OK) {
        assay_err_prefix(err, "tensor '%s'", spec->name);
        goto out;
    }
    ASSAY_GO(assay_adapt_matrix(&b->adapt, b->w, *out, role, spec, err));
    if (spec->is_linear) b->w->n_mode[assay_weight_mode(*out)]++;
    b->w->n_elements[m.precision] += m.rows * m.cols;
    b->w->bits += assay_matrix_bits(&m, NULL, NULL);
out:
    assay_matrix_deinit(&m);
    return s;
}

static assay_status bind_vector(binder *b, assay_buf **out, assay_tensor_role role, const assay_tensor_spec *spec,
                                assay_err *err) {
    assay_status s;
    size_t n = (size_t)spec->rows;
    float offset = assay_config_vector_offset(b->config, role);
    float *v = assay_mallocn(n, sizeof *v);
    if (!v) return assay_nomem(err);
    const assay_tensor *own = assay_adapt_whole(&b->adapt, spec->name);
    if (own)
        ASSAY_GO(assay_adapt_vector(v, own, spec->rows, err));
    else
        ASSAY_GO(assay_checkpoint_vector(v, b->ckpt, spec->name, spec->rows, err));
    for (size_t i = 0; i < n && offset != 0; i++)
        v[i] += offset;
    ASSAY_GO(assay_buf_new(out, b->w->backend, n * sizeof *v, err));
    assay_buf_write(b->w->backend, *out, 0, v, n * sizeof *v);
    const assay_tensor *t = assay_checkpoint_find(b->ckpt, spec->name);
    b->w->bits += t ? 8.0 * (double)t->n_bytes : 0;
out:
    assay_free(v);
    return s;
}

/* "X.weight" and "X.bias" belong to module X, as do the tensors that a quantized X is made of. */
static assay_status note_module(binder *b, const char *name, assay_err *err) {
    const char *dot = strrchr(name, '.');
    ASSAY_TRY(assay_grow(&b->modules, &b->cap_modules, b->n_modules + 1, sizeof *b->modules, err));
    snprintf(b->modules[b->n_modules++], sizeof *b->modules, "%.*s",
             (int)(dot ? dot - name : (ptrdiff_t)strlen(name)), name);
    return ASSAY_OK;
}

static assay_status bind(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    binder *b = ctx;
    assay_block *block = &b->w->blocks[spec->layer < 0 ? b->w->n_layers : spec->layer];
    ASSAY_TRY(note_module(b, spec->name, err));
    if (spec->is_vector) return bind_vector(b, &block->vector[role], role, spec, err);
    if (spec->expert >= 0 && !block->expert[0])
        ASSAY_TRY(assay_block_alloc_experts(block, b->config->n_experts, err));
    return bind_matrix(b, assay_block_slot(block, role, spec->expert), role, spec, err);
}

/* One allocation for the three parts. */
assay_status assay_block_alloc_experts(assay_block *b, int64_t n_experts, assay_err *err) {
    size_t n = (size_t)n_experts;
    b->expert[0] = assay_calloc(ASSAY_EXPERT_PARTS * n, sizeof *b->expert[0]);
    if (!b->expert[0]) return assay_nomem(err);
    for (size_t i = 1; i < ASSAY_EXPERT_PARTS; i++)
        b->expert[i] = b->expert[0] + i * n;
    return ASSAY_OK;
}

void assay_block_free_experts(assay_block *b) {
    assay_free(b->expert[0]);
    memset(b->expert, 0, sizeof b->expert);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(a, b);
}

/* Is some dotted prefix of name a module that was bound? */
static bool is_known(const binder *b, const char *name) {
    char prefix[sizeof *b->modules];
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t n = (size_t)(dot - name);
        if (n >= sizeof prefix) return false;
        memcpy(prefix, name, n);
        prefix[n] = 0;
        if (bsearch(prefix, b->modules, b->n_modules, sizeof *b->modules, compare_names)) return true;
    }
    return false;
}

static void list_unused(binder *b) {
    qsort(b->modules, b->n_modules, sizeof *b->modules, compare_names);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(b->ckpt); i++) {
        const char *name = assay_checkpoint_get(b->ckpt, i)->name;
        if (is_known(b, name)) continue;
        if (b->w->n_unused++ < 16)
            assay_str_printf(&b->w->unused, "%s%s", b->w->unused.len ? ", " : "", name);
    }
}

assay_status assay_weights_open(assay_weights *out, assay_backend *b, const assay_config *config,
                                const assay_checkpoint *c, assay_act_mode act, const char *adapter, assay_err *err) {
    assay_status s;
    binder bind_ctx = {.w = out, .config = config, .ckpt = c, .act = act};
    memset(out, 0, sizeof *out);
    out->backend = b;
    out->n_layers = config->n_layers;
    out->n_experts = config->n_experts;
    out->blocks = assay_calloc((size_t)config->n_layers + 1, sizeof *out->blocks);
    if (!out->blocks) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(assay_adapt_open(&bind_ctx.adapt, adapter, err));
    ASSAY_GO(assay_config_each_role(config, bind, &bind_ctx, err));
    ASSAY_GO(assay_adapt_finish(&bind_ctx.adapt, out, err));
    const assay_block *outside = &out->blocks[out->n_layers];
    out->head = outside->matrix[config->tie_word_embeddings ? ASSAY_ROLE_EMBED : ASSAY_ROLE_HEAD];
    list_unused(&bind_ctx);
    s = assay_str_status(&out->unused, err);
out:
    assay_adapt_close(&bind_ctx.adapt);
    assay_free(bind_ctx.modules);
    if (s != ASSAY_OK) assay_weights_close(out);
    return s;
}

void assay_weights_close(assay_weights *w) {
    if (!w) return;
    for (int64_t l = 0; w->blocks && l <= w->n_layers; l++) {
        assay_block *block = &w->blocks[l];
        for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
            if (block->matrix[r]) assay_weight_free(w->backend, block->matrix[r]);
            if (block->vector[r]) assay_buf_free(w->backend, block->vector[r]);
        }
        for (int64_t e = 0; block->expert[0] && e < ASSAY_EXPERT_PARTS * w->n_experts; e++)
            if (block->expert[0][e]) assay_weight_free(w->backend, block->expert[0][e]);
        assay_block_free_experts(block);
    }
    assay_free(w->blocks);
    for (size_t i = 0; i < w->n_kept; i++) assay_free(w->kept[i]);
    assay_free(w->kept);
    assay_str_free(&w->unused);
    memset(w, 0, sizeof *w);
}
