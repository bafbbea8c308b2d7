/* fold_layer.h: a decoder layer made on the spot with calibration inputs, for the tests of AWQ and
 * SmoothQuant: grouped-query attention (four query heads, two value heads), biases on q, k, v, and a few
 * input channels much larger than the others. */
#ifndef TESTS_METHOD_FOLD_LAYER_H
#define TESTS_METHOD_FOLD_LAYER_H

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "method/fold.h"
#include "method/layer.h"
#include "num/convert.h"

enum { FL_HIDDEN = 128, FL_KV = 64, FL_FFN = 256, FL_HEAD = 32, FL_ITEMS = 7, FL_SEQS = 24, FL_LEN = 48 };

typedef struct fold_layer {
    assay_config config;
    assay_tensor tensor[FL_ITEMS];
    assay_choice choice[FL_ITEMS];
    int32_t lengths[FL_SEQS];
    float *x;
    assay_layer layer;
} fold_layer;

static inline void fl_must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

static inline assay_choice fl_choice(const char *recipe) {
    assay_recipe *r;
    assay_err err = {0};
    assay_tensor_spec spec = {.name = "m", .is_linear = true};
    assay_choice c;
    fl_must(assay_recipe_from_string(&r, recipe, &err), &err);
    fl_must(assay_recipe_choose(&c, r, &spec, &err), &err);
    assay_recipe_free(r);
    return c;
}

static inline void fl_vector(assay_layer *l, assay_tensor_role role, int64_t n, double mean, double spread,
                             assay_dtype t, assay_rng *rng) {
    l->vector_n[role] = n;
    l->vector[role] = assay_mallocn((size_t)n, sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(mean + spread * assay_rng_normal(rng)), *at = &l->vector[role][i];
        uint8_t stored[4];
        assay_from_f32(stored, t, &v, 1);
        assay_to_f32(at, stored, t, 1);
    }
}

static inline void fl_config(fold_layer *f, assay_dtype dtype) {
    static const char text[] = "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", "
                               "\"hidden_size\": 128, \"intermediate_size\": 256, "
                               "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
                               "\"num_key_value_heads\": 2, \"vocab_size\": 50, \"rms_norm_eps\": 1e-06, "
                               "\"rope_theta\": 10000.0, \"max_position_embeddings\": 64, "
                               "\"tie_word_embeddings\": false, \"hidden_act\": \"silu\", "
                               "\"torch_dtype\": \"float32\"}";
    assay_err err = {0};
    json_t *json = NULL;
    fl_must(assay_json_parse(&json, text, strlen(text), "config", &err), &err);
    fl_must(assay_config_parse(&f->config, json, NULL, "config", &err), &err);
    json_decref(json);
    f->config.dtype = dtype;
}

/* All matrices get the recipe's choice. */
static inline void fl_open(fold_layer *f, const char *recipe, assay_dtype dtype, int n_threads) {
    static const struct {
        assay_tensor_role role;
        int rows, cols;
        const char *name;
    } m[FL_ITEMS] = {{ASSAY_ROLE_Q, FL_HIDDEN, FL_HIDDEN, "q"},    {ASSAY_ROLE_K, FL_KV, FL_HIDDEN, "k"},
                     {ASSAY_ROLE_V, FL_KV, FL_HIDDEN, "v"},        {ASSAY_ROLE_O, FL_HIDDEN, FL_HIDDEN, "o"},
                     {ASSAY_ROLE_GATE, FL_FFN, FL_HIDDEN, "gate"}, {ASSAY_ROLE_UP, FL_FFN, FL_HIDDEN, "up"},
                     {ASSAY_ROLE_DOWN, FL_HIDDEN, FL_FFN, "down"}};
    assay_rng rng;
    assay_err err = {0};
    memset(f, 0, sizeof *f);
    fl_config(f, dtype);
    assay_rng_init(&rng, 11);
    f->layer = (assay_layer){.config = &f->config,
                             .n_threads = n_threads,
                             .n_items = FL_ITEMS,
                             .n_seqs = FL_SEQS,
                             .lengths = f->lengths};
    f->layer.items = assay_calloc(FL_ITEMS, sizeof *f->layer.items);
    for (int i = 0; i < FL_ITEMS; i++) {
        size_t n = (size_t)(m[i].rows * m[i].cols);
        float *w = assay_mallocn(n, sizeof *w);
        void *data = assay_mallocn(n, assay_dtype_size(dtype));
        for (size_t k = 0; k < n; k++)
            w[k] = (float)(assay_rng_normal(&rng) / sqrt((double)m[i].cols));
        assay_from_f32(data, dtype, w, n);
        assay_free(w);
        f->tensor[i] = (assay_tensor){.name = m[i].name,
                                      .dtype = dtype,
                                      .n_dims = 2,
                                      .dims = {m[i].rows, m[i].cols},
                                      .data = data,
                                      .n_bytes = n * assay_dtype_size(dtype)};
        f->choice[i] = fl_choice(recipe);
        f->layer.items[i] = (assay_item){
            .weight = &f->tensor[i], .choice = &f->choice[i], .role = m[i].role, .model_dtype = dtype};
    }
    fl_vector(&f->layer, ASSAY_ROLE_ATTN_NORM, FL_HIDDEN, 1, 0.3, dtype, &rng);
    fl_vector(&f->layer, ASSAY_ROLE_MLP_NORM, FL_HIDDEN, 1, 0.3, dtype, &rng);
    fl_vector(&f->layer, ASSAY_ROLE_Q_BIAS, FL_HIDDEN, 0, 0.1, dtype, &rng);
    fl_vector(&f->layer, ASSAY_ROLE_K_BIAS, FL_KV, 0, 0.1, dtype, &rng);
    fl_vector(&f->layer, ASSAY_ROLE_V_BIAS, FL_KV, 0, 0.1, dtype, &rng);
    for (int i = 5; i < FL_HIDDEN; i += 40) {
        f->layer.vector[ASSAY_ROLE_ATTN_NORM][i] = 24;
        f->layer.vector[ASSAY_ROLE_MLP_NORM][i] = 16;
    }
    for (int i = 0; i < FL_SEQS; i++)
        f->layer.n_tokens += (size_t)(f->lengths[i] = FL_LEN);
    f->x = assay_mallocn(f->layer.n_tokens * FL_HIDDEN, sizeof *f->x);
    for (size_t i = 0; i < f->layer.n_tokens * FL_HIDDEN; i++)
        f->x[i] = (float)assay_rng_normal(&rng);
    f->layer.x = f->x;
    fl_must(assay_bench_open(&f->layer.bench, &f->config, n_threads, &err), &err);
}

static inline void fl_close(fold_layer *f) {
    assay_layer_bench *bench = f->layer.bench;
    assay_layer_deinit(&f->layer);
    assay_bench_close(bench);
    for (int i = 0; i < FL_ITEMS; i++)
        assay_free((void *)(uintptr_t)f->tensor[i].data);
    assay_free(f->x);
    assay_config_deinit(&f->config);
}

static inline assay_item *fl_item(fold_layer *f, assay_tensor_role role) {
    return assay_layer_item(&f->layer, role);
}

/* Caller frees. */
static inline float *fl_output(fold_layer *f) {
    assay_err err = {0};
    float *y = assay_mallocn(f->layer.n_tokens * FL_HIDDEN, sizeof *y);
    fl_must(assay_layer_output(&f->layer, y, f->x, f->lengths, FL_SEQS, &err), &err);
    return y;
}

/* |a - b| / |b - x|: relative to what the layer adds to the residual stream. */
static inline double fl_distance(const fold_layer *f, const float *a, const float *b) {
    double e = 0, n = 0;
    for (size_t i = 0; i < f->layer.n_tokens * FL_HIDDEN; i++) {
        e += pow((double)a[i] - (double)b[i], 2);
        n += pow((double)b[i] - (double)f->x[i], 2);
    }
    return sqrt(e / n);
}

/* Encodes every matrix by its method, in the order of items. */
static inline void fl_quantize(fold_layer *f) {
    assay_err err = {0};
    for (int i = 0; i < FL_ITEMS; i++) {
        assay_item *item = &f->layer.items[i];
        unsigned role = ASSAY_ROLE_BIT(assay_role_input(item->role));
        if (item->choice->activations == ASSAY_ACTIVATIONS_STATIC)
            fl_must(assay_layer_collect(&f->layer, role, ASSAY_COLLECT_STATS, &err), &err);
        fl_must(assay_method_get(item->choice->method)->quantize(&f->layer, &item, 1, &err), &err);
        assay_item_touch(&f->layer, item);
    }
}

/* The output's error that a recipe leaves. */
static inline double fl_error(const char *recipe, assay_status (*prepare)(assay_layer *, assay_err *)) {
    fold_layer f;
    assay_err err = {0};
    fl_open(&f, recipe, ASSAY_DTYPE_F32, 2);
    float *before = fl_output(&f);
    if (prepare) fl_must(prepare(&f.layer, &err), &err);
    fl_quantize(&f);
    float *after = fl_output(&f);
    double e = fl_distance(&f, after, before);
    assay_free(before);
    assay_free(after);
    fl_close(&f);
    return e;
}

#endif
