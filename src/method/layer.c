/* layer.c: a decoder layer in work: its matrices as they are now, run over the calibration sequences to see what goes into them.
 *
 * "As they are now": a matrix that has been encoded runs encoded, in its compute mode; one that a transform changed runs as its float32
 * copy rounded to the model's dtype; the others straight from the mapped checkpoint. What was uploaded to the backend is kept until the
 * item changes. Collection happens inside the forward pass's taps, so nothing larger than a piece of 512 tokens is in memory. */
#include "method/layer.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "linalg/linalg.h"
#include "method/acts.h"
#include "num/convert.h"

struct assay_layer_bench {
    assay_backend *backend;
    assay_layer_runner *runner;
    assay_block block;
};

/* --- the bench --- */

assay_status assay_bench_open(assay_layer_bench **out, const assay_config *config, int n_threads, assay_err *err) {
    assay_cpu_opts o = {.n_threads = n_threads};
    assay_kv_type kv = config->dtype == ASSAY_DTYPE_F32   ? ASSAY_KV_F32
                       : config->dtype == ASSAY_DTYPE_F16 ? ASSAY_KV_F16
                                                          : ASSAY_KV_BF16;
    assay_status s;
    *out = NULL;
    assay_layer_bench *b = assay_calloc(1, sizeof *b);
    if (!b) return assay_nomem(err);
    ASSAY_GO(assay_backend_open_cpu(&b->backend, &o, err));
    s = assay_layer_runner_open(&b->runner, b->backend, config, 0, kv, err);
out:
    if (s == ASSAY_OK)
        *out = b;
    else
        assay_bench_close(b);
    return s;
}

static void clear_block(assay_layer_bench *b) {
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        if (b->block.vector[r]) assay_buf_free(b->backend, b->block.vector[r]);
        b->block.vector[r] = NULL;
    }
    assay_block_free_experts(&b->block);
}

void assay_bench_close(assay_layer_bench *b) {
    if (!b) return;
    clear_block(b);
    assay_layer_runner_close(b->runner);
    if (b->backend) assay_backend_close(b->backend);
    assay_free(b);
}

/* --- items --- */

assay_item *assay_layer_item(assay_layer *layer, assay_tensor_role role) {
    for (size_t i = 0; i < layer->n_items; i++)
        if (layer->items[i].role == role) return &layer->items[i];
    return NULL;
}

void assay_item_touch(assay_layer *layer, assay_item *item) {
    if (item->uploaded) assay_weight_free(layer->bench->backend, item->uploaded);
    item->uploaded = NULL;
}

assay_status assay_item_own(assay_item *item, assay_err *err) {
    if (item->w) return ASSAY_OK;
    size_t n = (size_t)assay_tensor_n_elements(item->weight);
    float *w = assay_mallocn(n, sizeof *w);
    if (!w) return assay_nomem(err);
    assay_item_read(w, item, 0, (int64_t)n);
    item->w = w;
    return ASSAY_OK;
}

/* A copy of a weight whose rows its file has in another order. */
static assay_status arrange(assay_matrix *m, assay_item *item, assay_err *err) {
    const assay_tensor *t = item->weight;
    size_t size = assay_dtype_size(t->dtype);
    if (!item->dense && !(item->dense = assay_mallocn((size_t)(m->rows * m->cols), size))) return assay_nomem(err);
    float *row = assay_mallocn((size_t)m->cols, sizeof *row);
    if (!row) return assay_nomem(err);
    for (int64_t r = 0; r < m->rows; r++) {
        assay_tensor_read(row, t, r * m->cols, m->cols);
        assay_from_f32((uint8_t *)item->dense + (size_t)(r * m->cols) * size, t->dtype, row, (size_t)m->cols);
    }
    assay_free(row);
    m->data = item->dense;
    return ASSAY_OK;
}

static assay_status upload(assay_layer *layer, assay_item *item, assay_err *err) {
    assay_layer_bench *b = layer->bench;
    if (item->uploaded) return ASSAY_OK;
    if (assay_item_is_encoded(item)) return assay_weight_new(&item->uploaded, b->backend, &item->out, ASSAY_ACT_AUTO, err);
    size_t n = (size_t)(item->weight->dims[0] * item->weight->dims[1]);
    assay_matrix m = {.precision = assay_precision_of_dtype(item->weight->dtype),
                      .rows = item->weight->dims[0],
                      .cols = item->weight->dims[1],
                      .data = item->weight->data,
                      .act_bits = 16,
                      .act_dtype = item->model_dtype};
    if (!item->w && item->weight->order != ASSAY_ORDER_PLAIN) ASSAY_TRY(arrange(&m, item, err));
    if (item->w) {
        if (!item->dense && !(item->dense = assay_mallocn(n, assay_dtype_size(item->model_dtype)))) return assay_nomem(err);
        assay_from_f32(item->dense, item->model_dtype, item->w, n);
        m.precision = assay_precision_of_dtype(item->model_dtype);
        m.data = item->dense;
    }
    return assay_weight_new(&item->uploaded, b->backend, &m, ASSAY_ACT_AUTO, err);
}

static assay_status upload_all(assay_layer *layer, assay_err *err) {
    assay_layer_bench *b = layer->bench;
    memset(b->block.matrix, 0, sizeof b->block.matrix);
    for (size_t i = 0; i < layer->n_items; i++) {
        const assay_item *item = &layer->items[i];
        ASSAY_TRY(upload(layer, &layer->items[i], err));
        if (assay_role_is_expert(item->role) && !b->block.expert[0])
            ASSAY_TRY(assay_block_alloc_experts(&b->block, layer->config->n_experts, err));
        *assay_block_slot(&b->block, item->role, item->expert) = item->uploaded;
    }
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        size_t n = (size_t)layer->vector_n[r] * sizeof(float);
        if (!layer->vector[r]) continue;
        if (!b->block.vector[r]) ASSAY_TRY(assay_buf_new(&b->block.vector[r], b->backend, n, err));
        assay_buf_write(b->backend, b->block.vector[r], 0, layer->vector[r], n);
    }
    return ASSAY_OK;
}

void assay_layer_deinit(assay_layer *layer) {
    for (size_t i = 0; i < layer->n_items; i++) {
        assay_item *item = &layer->items[i];
        if (item->uploaded) assay_item_touch(layer, item);
        assay_matrix_deinit(&item->out);
        assay_free(item->w);
        assay_free(item->dense);
        assay_free(item->clip);
        assay_free(item->importance);
    }
    assay_layer_forget(layer, UINT64_MAX);
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        assay_free(layer->vector[r]);
    if (layer->bench) clear_block(layer->bench);
    assay_free(layer->items);
    *layer = (assay_layer){0};
}

/* --- collecting --- */

typedef struct collector {
    assay_layer *layer;
    unsigned what;
    assay_tensor_role last; /* of the roles, in the order of the pass */
} collector;

static void add_stats(assay_inputs *in, const float *x, size_t n) {
    size_t cols = (size_t)in->cols;
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < cols; c++) {
            float a = fabsf(x[r * cols + c]);
            in->absmax[c] = a > in->absmax[c] ? a : in->absmax[c];
            in->sums[c] += (double)a;
        }
}

/* Row t of all n_tokens is in the sample when the sample's index moves on there: evenly spread, the same whatever the pieces. */
static void add_sample(assay_inputs *in, const float *x, size_t n, size_t n_tokens) {
    size_t cols = (size_t)in->cols;
    for (size_t r = 0; r < n; r++) {
        size_t t = in->n_tokens + r;
        if (n_tokens > ASSAY_SAMPLE_ROWS && t * ASSAY_SAMPLE_ROWS / n_tokens == (t + 1) * ASSAY_SAMPLE_ROWS / n_tokens) continue;
        if (in->n_sample < ASSAY_SAMPLE_ROWS) memcpy(in->sample + in->n_sample++ * cols, x + r * cols, cols * sizeof *x);
    }
}

/* What is collected of a role, of an expert where it is one's; NULL when that expert is not looked at now. */
static assay_inputs *inputs_of(assay_layer *layer, assay_tensor_role role, int expert) {
    int e = expert - layer->first_expert;
    if (!assay_role_is_expert(role)) return &layer->inputs[role];
    return layer->expert_inputs && e >= 0 && e < layer->n_experts ? &layer->expert_inputs[e] : NULL;
}

static assay_status collect(void *ctx, assay_tensor_role role, int expert, const float *x, size_t n_rows, size_t cols, assay_err *err) {
    collector *c = ctx;
    assay_inputs *in = inputs_of(c->layer, role, expert);
    if (!in) return ASSAY_OK;
    bool bf16 = c->layer->config->dtype == ASSAY_DTYPE_BF16;
    if (c->what & ASSAY_COLLECT_GRAM) ASSAY_TRY(assay_gram_add(in->gram, x, n_rows, cols, bf16, c->layer->n_threads, err));
    if (c->what & ASSAY_COLLECT_STATS) add_stats(in, x, n_rows);
    if (c->what & ASSAY_COLLECT_SAMPLE) add_sample(in, x, n_rows, c->layer->n_tokens);
    in->n_tokens += n_rows;
    if (role != c->last || expert >= 0) return ASSAY_OK;
    return assay_layer_tick(c->layer, (double)in->n_tokens / (double)c->layer->n_tokens, err);
}

/* Columns of the matrices that take that input; 0 when the layer has none. */
static int64_t input_cols(const assay_layer *layer, int role) {
    for (size_t i = 0; i < layer->n_items; i++)
        if ((int)assay_role_input(layer->items[i].role) == role) return layer->items[i].weight->dims[1];
    return 0;
}

static assay_status prepare_one(collector *c, assay_inputs *in, int role, assay_err *err) {
    size_t cols = (size_t)input_cols(c->layer, role);
    in->cols = (int64_t)cols;
    if ((c->what & ASSAY_COLLECT_GRAM) && !(in->gram = assay_calloc(cols * cols, sizeof(float)))) return assay_nomem(err);
    if (c->what & ASSAY_COLLECT_SAMPLE) {
        in->sample = assay_mallocn(ASSAY_MIN(c->layer->n_tokens, (size_t)ASSAY_SAMPLE_ROWS) * cols, sizeof(float));
        if (!in->sample) return assay_nomem(err);
    }
    if (c->what & ASSAY_COLLECT_STATS) {
        in->absmax = assay_calloc(cols, sizeof(float));
        in->absmean = assay_calloc(cols, sizeof(float));
        in->sums = assay_calloc(cols, sizeof *in->sums);
        if (!in->absmax || !in->absmean || !in->sums) return assay_nomem(err);
    }
    return ASSAY_OK;
}

static assay_status prepare_inputs(collector *c, int role, assay_err *err) {
    assay_layer *layer = c->layer;
    assay_layer_forget(layer, ASSAY_ROLE_BIT(role));
    if (!assay_role_is_expert((assay_tensor_role)role)) return prepare_one(c, &layer->inputs[role], role, err);
    layer->expert_inputs = assay_calloc((size_t)layer->n_experts, sizeof *layer->expert_inputs);
    if (!layer->expert_inputs) return assay_nomem(err);
    for (int e = 0; e < layer->n_experts; e++) ASSAY_TRY(prepare_one(c, &layer->expert_inputs[e], role, err));
    return ASSAY_OK;
}

static void finish_inputs(assay_inputs *in) {
    for (int64_t k = 0; in->sums && k < in->cols; k++)
        in->absmean[k] = (float)(in->sums[k] / (double)ASSAY_MAX(in->n_tokens, (size_t)1));
    assay_free(in->sums);
    in->sums = NULL;
}

assay_status assay_layer_collect(assay_layer *layer, uint64_t roles, unsigned what, assay_err *err) {
    collector c = {.layer = layer, .what = what};
    assay_taps taps = {.fn = collect, .ctx = &c, .roles = roles, .until = ASSAY_ROLE_COUNT};
    assay_status s = ASSAY_OK;
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        if (!(roles & ASSAY_ROLE_BIT(r))) continue;
        ASSAY_GO(prepare_inputs(&c, r, err));
        taps.until = c.last = (assay_tensor_role)r; /* the last one, in the order of the pass */
    }
    ASSAY_GO(upload_all(layer, err));
    ASSAY_GO(assay_layer_run(layer->bench->runner, &layer->bench->block, layer->index, NULL, layer->x, layer->lengths, layer->n_seqs, &taps,
                             err));
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) finish_inputs(&layer->inputs[r]);
    for (int e = 0; layer->expert_inputs && e < layer->n_experts; e++) finish_inputs(&layer->expert_inputs[e]);
    for (size_t i = 0; i < layer->n_items; i++) {
        assay_tensor_role role = assay_role_input(layer->items[i].role);
        if (roles & ASSAY_ROLE_BIT(role)) layer->items[i].in = inputs_of(layer, role, layer->items[i].expert);
    }
out:
    assay_layer_release(layer);
    return s;
}

static void forget_one(assay_inputs *in) {
    assay_free(in->gram);
    assay_free(in->sample);
    assay_free(in->absmax);
    assay_free(in->absmean);
    assay_free(in->sums);
    *in = (assay_inputs){0};
}

void assay_layer_forget(assay_layer *layer, uint64_t roles) {
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        if (roles & ASSAY_ROLE_BIT(r)) forget_one(&layer->inputs[r]);
    if (roles & (ASSAY_ROLE_BIT(ASSAY_ROLE_EXPERT_GATE) | ASSAY_ROLE_BIT(ASSAY_ROLE_EXPERT_DOWN))) {
        for (int e = 0; layer->expert_inputs && e < layer->n_experts; e++) forget_one(&layer->expert_inputs[e]);
        assay_free(layer->expert_inputs);
        layer->expert_inputs = NULL;
    }
    for (size_t i = 0; i < layer->n_items; i++)
        if (roles & ASSAY_ROLE_BIT(assay_role_input(layer->items[i].role))) layer->items[i].in = NULL;
}

static assay_status tick_rows(void *ctx, assay_tensor_role role, int expert, const float *x, size_t n_rows, size_t cols, assay_err *err) {
    (void)role;
    (void)expert;
    (void)x;
    (void)n_rows;
    (void)cols;
    return assay_layer_tick(ctx, 0, err);
}

void assay_layer_release(const assay_layer *layer) {
    if (layer->x_file) assay_acts_release(layer->x_file);
    if (layer->y_file) assay_acts_release(layer->y_file);
}

assay_status assay_layer_output(assay_layer *layer, float *y, const float *x, const int32_t *lengths, size_t n_seqs, assay_err *err) {
    assay_taps taps = {.fn = tick_rows, .ctx = layer, .roles = ASSAY_ROLE_BIT(ASSAY_ROLE_Q), .until = ASSAY_ROLE_COUNT};
    ASSAY_TRY(upload_all(layer, err));
    return assay_layer_run(layer->bench->runner, &layer->bench->block, layer->index, y, x, lengths, n_seqs, layer->ticker ? &taps : NULL,
                           err);
}

assay_status assay_layer_watch(assay_layer *layer, float *y, const assay_taps *taps, assay_err *err) {
    ASSAY_TRY(upload_all(layer, err));
    return assay_layer_run(layer->bench->runner, &layer->bench->block, layer->index, y, layer->x, layer->lengths, layer->n_seqs, taps, err);
}
