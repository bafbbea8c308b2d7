/* test_gguf.c: checkpoints through a GGUF file and back. Every architecture's tensors come back under their names, with their
 * dimensions and values, whatever GGUF does to rows, norms, experts and transposed matrices on the way; config.json comes back from the
 * metadata; block matrices keep every byte; files that lie are refused. That llama.cpp reads the same in these files is held by
 * tools/interop_gguf.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include "format/checkpoint.h"
#include "format/gguf.h"
#include "format/gguf_impl.h"
#include "format/writer_plan.h"
#include "num/convert.h"
#include "precision/block.h"
#include "support.h"

/* --- models made up for the purpose --- */

typedef struct spec {
    const char *name; /* '#' is a layer of two, '@' an expert of three */
    int64_t rows, cols; /* cols 0: a vector */
} spec;

typedef struct model {
    const char *config;
    spec tensors[24];
} model;

/* Sizes that tell rows from columns and heads from halves: hidden 16, 4 heads of 4 (2 of them for keys), feed-forward 24, 11 tokens. */
#define LLAMA_SIZES                                                                                                                \
    "\"hidden_size\": 16, \"intermediate_size\": 24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "                       \
    "\"num_key_value_heads\": 2, \"vocab_size\": 11, \"max_position_embeddings\": 64, \"torch_dtype\": \"float16\", "
#define ATTENTION                                                                                                                  \
    {"model.layers.#.self_attn.q_proj.weight", 16, 16}, {"model.layers.#.self_attn.k_proj.weight", 8, 16},                         \
        {"model.layers.#.self_attn.v_proj.weight", 8, 16}, {"model.layers.#.self_attn.o_proj.weight", 16, 16}
#define MLP                                                                                                                        \
    {"model.layers.#.mlp.gate_proj.weight", 24, 16}, {"model.layers.#.mlp.up_proj.weight", 24, 16},                                \
        {"model.layers.#.mlp.down_proj.weight", 16, 24}
#define NORMS {"model.layers.#.input_layernorm.weight", 16, 0}, {"model.layers.#.post_attention_layernorm.weight", 16, 0}
#define ENDS  {"model.embed_tokens.weight", 11, 16}, {"model.norm.weight", 16, 0}

static const model MODELS[] = {
    {"{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", " LLAMA_SIZES
     "\"rms_norm_eps\": 1e-5, \"rope_theta\": 500000.0, \"tie_word_embeddings\": false, \"attention_bias\": true, \"mlp_bias\": false,"
     "\"bos_token_id\": 1, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0,"
     "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 4096}}",
     {ENDS, NORMS, ATTENTION, MLP, {"lm_head.weight", 11, 16}, {"model.layers.#.self_attn.q_proj.bias", 16, 0},
      {"model.layers.#.self_attn.k_proj.bias", 8, 0}}},
    {"{\"architectures\": [\"MixtralForCausalLM\"], \"model_type\": \"mixtral\", " LLAMA_SIZES
     "\"num_local_experts\": 3, \"num_experts_per_tok\": 2, \"tie_word_embeddings\": false, \"rope_theta\": 1000000.0}",
     {ENDS, NORMS, ATTENTION, {"lm_head.weight", 11, 16}, {"model.layers.#.block_sparse_moe.gate.weight", 3, 16},
      {"model.layers.#.block_sparse_moe.experts.@.w1.weight", 24, 16}, {"model.layers.#.block_sparse_moe.experts.@.w2.weight", 16, 24},
      {"model.layers.#.block_sparse_moe.experts.@.w3.weight", 24, 16}}},
    {"{\"architectures\": [\"Qwen2MoeForCausalLM\"], \"model_type\": \"qwen2_moe\", " LLAMA_SIZES
     "\"num_experts\": 3, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 8, \"shared_expert_intermediate_size\": 12,"
     "\"tie_word_embeddings\": true, \"rope_theta\": 1000000.0}",
     {ENDS, NORMS, ATTENTION, {"model.layers.#.self_attn.q_proj.bias", 16, 0}, {"model.layers.#.mlp.gate.weight", 3, 16},
      {"model.layers.#.mlp.experts.@.gate_proj.weight", 8, 16}, {"model.layers.#.mlp.experts.@.up_proj.weight", 8, 16},
      {"model.layers.#.mlp.experts.@.down_proj.weight", 16, 8}, {"model.layers.#.mlp.shared_expert_gate.weight", 1, 16},
      {"model.layers.#.mlp.shared_expert.up_proj.weight", 12, 16}, {"model.layers.#.mlp.shared_expert.gate_proj.weight", 12, 16},
      {"model.layers.#.mlp.shared_expert.down_proj.weight", 16, 12}}},
    {"{\"architectures\": [\"Gemma2ForCausalLM\"], \"model_type\": \"gemma2\", " LLAMA_SIZES
     "\"head_dim\": 4, \"query_pre_attn_scalar\": 4, \"sliding_window\": 8, \"attn_logit_softcapping\": 50.0,"
     "\"final_logit_softcapping\": 30.0, \"hidden_activation\": \"gelu_pytorch_tanh\", \"tie_word_embeddings\": true, \"rope_theta\": 10000.0}",
     {ENDS, NORMS, ATTENTION, MLP, {"model.layers.#.pre_feedforward_layernorm.weight", 16, 0},
      {"model.layers.#.post_feedforward_layernorm.weight", 16, 0}}},
    {"{\"architectures\": [\"Gemma3ForCausalLM\"], \"model_type\": \"gemma3_text\", " LLAMA_SIZES
     "\"head_dim\": 4, \"sliding_window\": 8, \"rope_theta\": 1000000.0, \"rope_local_base_freq\": 10000.0, \"tie_word_embeddings\": true,"
     "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}}",
     {ENDS, NORMS, ATTENTION, MLP, {"model.layers.#.self_attn.q_norm.weight", 4, 0}, {"model.layers.#.self_attn.k_norm.weight", 4, 0},
      {"model.layers.#.pre_feedforward_layernorm.weight", 16, 0}, {"model.layers.#.post_feedforward_layernorm.weight", 16, 0}}},
    {"{\"architectures\": [\"Phi3ForCausalLM\"], \"model_type\": \"phi3\", " LLAMA_SIZES
     "\"original_max_position_embeddings\": 32, \"sliding_window\": null, \"tie_word_embeddings\": false, \"rope_theta\": 10000.0,"
     "\"rope_scaling\": {\"rope_type\": \"longrope\", \"long_factor\": [1.5, 2.25], \"short_factor\": [1.0, 1.125]}}",
     {ENDS, NORMS, {"lm_head.weight", 11, 16}, {"model.layers.#.self_attn.qkv_proj.weight", 32, 16},
      {"model.layers.#.self_attn.o_proj.weight", 16, 16}, {"model.layers.#.mlp.gate_up_proj.weight", 48, 16},
      {"model.layers.#.mlp.down_proj.weight", 16, 24}}},
    {"{\"architectures\": [\"Olmo2ForCausalLM\"], \"model_type\": \"olmo2\", " LLAMA_SIZES
     "\"tie_word_embeddings\": false, \"rope_theta\": 500000.0}",
     {ENDS, ATTENTION, MLP, {"lm_head.weight", 11, 16}, {"model.layers.#.post_attention_layernorm.weight", 16, 0},
      {"model.layers.#.post_feedforward_layernorm.weight", 16, 0}, {"model.layers.#.self_attn.q_norm.weight", 16, 0},
      {"model.layers.#.self_attn.k_norm.weight", 8, 0}}},
    {"{\"architectures\": [\"GraniteForCausalLM\"], \"model_type\": \"granite\", " LLAMA_SIZES
     "\"attention_multiplier\": 0.0625, \"embedding_multiplier\": 12.0, \"residual_multiplier\": 0.22, \"logits_scaling\": 8.0,"
     "\"tie_word_embeddings\": true, \"rope_theta\": 10000.0}",
     {ENDS, NORMS, ATTENTION, MLP}},
    {"{\"architectures\": [\"SmolLM3ForCausalLM\"], \"model_type\": \"smollm3\", " LLAMA_SIZES
     "\"tie_word_embeddings\": true, \"rope_theta\": 5000000.0, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2.0,"
     "\"original_max_position_embeddings\": 32, \"beta_fast\": 32.0}}",
     {ENDS, NORMS, ATTENTION, MLP}},
    {"{\"architectures\": [\"Starcoder2ForCausalLM\"], \"model_type\": \"starcoder2\", " LLAMA_SIZES
     "\"norm_epsilon\": 1e-5, \"tie_word_embeddings\": true, \"rope_theta\": 100000.0}",
     {ENDS, NORMS, ATTENTION, {"model.norm.bias", 16, 0}, {"model.layers.#.input_layernorm.bias", 16, 0},
      {"model.layers.#.self_attn.q_proj.bias", 16, 0}, {"model.layers.#.mlp.c_fc.weight", 24, 16}, {"model.layers.#.mlp.c_fc.bias", 24, 0},
      {"model.layers.#.mlp.c_proj.weight", 16, 24}}},
    {"{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"n_embd\": 16, \"n_layer\": 2, \"n_head\": 4,"
     "\"n_positions\": 64, \"n_inner\": 24, \"vocab_size\": 11, \"layer_norm_epsilon\": 1e-5, \"torch_dtype\": \"float16\", \"tie_word_embeddings\": true}",
     {{"transformer.wte.weight", 11, 16}, {"transformer.wpe.weight", 64, 16}, {"transformer.ln_f.weight", 16, 0},
      {"transformer.h.#.attn.c_attn.weight", 16, 48}, {"transformer.h.#.attn.c_attn.bias", 48, 0}, {"transformer.h.#.mlp.c_fc.weight", 16, 24},
      {"transformer.h.#.mlp.c_proj.weight", 24, 16}, {"transformer.h.#.ln_1.bias", 16, 0}}},
    {"{\"architectures\": [\"GPTNeoXForCausalLM\"], \"model_type\": \"gpt_neox\", \"hidden_size\": 16,"
     "\"intermediate_size\": 24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 11,"
     "\"max_position_embeddings\": 64, \"torch_dtype\": \"float16\","
     "\"rotary_pct\": 0.5, \"rotary_emb_base\": 10000.0, \"use_parallel_residual\": false, \"layer_norm_eps\": 1e-5, \"tie_word_embeddings\": false}",
     {{"gpt_neox.embed_in.weight", 11, 16}, {"embed_out.weight", 11, 16}, {"gpt_neox.final_layer_norm.bias", 16, 0},
      {"gpt_neox.layers.#.attention.query_key_value.weight", 48, 16}, {"gpt_neox.layers.#.attention.query_key_value.bias", 48, 0},
      {"gpt_neox.layers.#.mlp.dense_4h_to_h.weight", 16, 24}}},
    {"{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"model_type\": \"deepseek_v2\", \"hidden_size\": 16, \"intermediate_size\": 24,"
     "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"vocab_size\": 11, \"max_position_embeddings\": 64,"
     "\"torch_dtype\": \"float16\", \"kv_lora_rank\": 6, \"q_lora_rank\": null, \"qk_nope_head_dim\": 8, \"qk_rope_head_dim\": 4, \"v_head_dim\": 5,"
     "\"n_routed_experts\": 3, \"n_shared_experts\": 2, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 8, \"first_k_dense_replace\": 0,"
     "\"routed_scaling_factor\": 1.0, \"tie_word_embeddings\": false, \"rope_theta\": 10000.0, \"rope_scaling\": {\"rope_type\": \"yarn\","
     "\"factor\": 40.0, \"original_max_position_embeddings\": 32, \"mscale\": 0.707, \"mscale_all_dim\": 0.707}}",
     {ENDS, NORMS, {"lm_head.weight", 11, 16}, {"model.layers.#.self_attn.q_proj.weight", 48, 16},
      {"model.layers.#.self_attn.kv_a_proj_with_mqa.weight", 10, 16}, {"model.layers.#.self_attn.kv_a_layernorm.weight", 6, 0},
      {"model.layers.#.self_attn.kv_b_proj.weight", 52, 6}, {"model.layers.#.self_attn.o_proj.weight", 16, 20},
      {"model.layers.#.mlp.gate.weight", 3, 16}, {"model.layers.#.mlp.experts.@.gate_proj.weight", 8, 16},
      {"model.layers.#.mlp.experts.@.down_proj.weight", 16, 8}, {"model.layers.#.mlp.shared_experts.up_proj.weight", 16, 16}}},
};

/* Calls fn for every tensor of a model, its numbers filled in. */
typedef void (*tensor_fn)(void *ctx, const char *name, const spec *s);
static void each_tensor(const model *m, tensor_fn fn, void *ctx) {
    for (const spec *s = m->tensors; s->name; s++) {
        int layers = strchr(s->name, '#') ? 2 : 1, experts = strchr(s->name, '@') ? 3 : 1;
        for (int l = 0; l < layers; l++)
            for (int e = 0; e < experts; e++) {
                char name[128];
                size_t n = 0;
                for (const char *c = s->name; *c; c++) name[n++] = *c == '#' ? (char)('0' + l) : *c == '@' ? (char)('0' + e) : *c;
                name[n] = 0;
                fn(ctx, name, s);
            }
    }
}

/* Element i of a tensor: distinct, exact in float16 and after adding and subtracting one. */
static float element(const char *name, int64_t i) {
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return (float)((int64_t)((h >> 8) % 100) * 8 + i % 1009) / 1024.0f;
}

static uint16_t *fill(const char *name, int64_t n) {
    uint16_t *v = assay_mallocn((size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = assay_f32_to_f16(element(name, i));
    return v;
}

static int64_t count(const spec *s) {
    return s->rows * (s->cols ? s->cols : 1);
}

static void put_one(void *ctx, const char *name, const spec *s) {
    assay_err err = {0};
    uint16_t *v = fill(name, count(s));
    if (!assay_ckpt_writer_has(ctx, name) &&
        assay_ckpt_writer_put(ctx, name, ASSAY_DTYPE_F16, s->cols ? 2 : 1, (int64_t[]){s->rows, s->cols}, v, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_true(assay_ckpt_writer_has(ctx, name));
    assay_free(v);
}

static assay_ckpt_writer *open_writer(const char *dir, uint64_t shard_bytes, const json_t *config) {
    assay_ckpt_writer *w;
    assay_err err = {0};
    assay_gguf_target t = {.config = config, .name = "made up", .license = "mit", .file_type = -1};
    assert_int_equal(assay_ckpt_writer_open(&w, dir, shard_bytes, &err), ASSAY_OK);
    if (assay_ckpt_writer_set_gguf(w, &t, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return w;
}

static void commit(assay_ckpt_writer *w) {
    assay_err err = {0};
    if (assay_ckpt_writer_commit(w, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

static assay_checkpoint *open_checkpoint(const char *path) {
    assay_checkpoint *c;
    assay_err err = {0};
    if (assay_checkpoint_open(&c, path, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return c;
}

static void compare_one(void *ctx, const char *name, const spec *s) {
    const assay_tensor *t = assay_checkpoint_find(ctx, name);
    int64_t n = count(s);
    float *v = assay_mallocn((size_t)n, sizeof *v);
    if (!t) fail_msg("%s has not come back", name);
    assert_int_equal(t->n_dims, s->cols ? 2 : 1);
    assert_int_equal(t->dims[0], s->rows);
    if (s->cols) assert_int_equal(t->dims[1], s->cols);
    if (t->order == ASSAY_ORDER_JOINED)
        assert_false(assay_tensor_read(v, t, 0, n));
    else {
        assert_true(assay_tensor_read(v, t, 0, n));
        for (int64_t i = 0; i < n; i++)
            if (v[i] != assay_f16_to_f32(assay_f32_to_f16(element(name, i)))) fail_msg("%s: element %lld is %g", name, (long long)i, (double)v[i]);
    }
    if (s->cols) {
        assay_matrix m;
        assay_err err = {0};
        if (assay_checkpoint_matrix(&m, ctx, NULL, name, s->rows, s->cols, ASSAY_DTYPE_F16, &err) != ASSAY_OK) fail_msg("%s", err.message);
        assay_matrix_decode_rows(v, &m, 0, m.rows);
        for (int64_t i = 0; i < n; i++)
            if (v[i] != assay_f16_to_f32(assay_f32_to_f16(element(name, i)))) fail_msg("%s: as a matrix element %lld is %g", name, (long long)i, (double)v[i]);
        assay_matrix_deinit(&m);
    } else {
        assert_int_equal(assay_checkpoint_vector(v, ctx, name, n, NULL), ASSAY_OK);
        assert_true(v[n - 1] == assay_f16_to_f32(assay_f32_to_f16(element(name, n - 1))));
    }
    assay_free(v);
}

static bool same_number(const json_t *a, const json_t *b) {
    return fabs(json_number_value(a) - json_number_value(b)) <= 1e-7 * fabs(json_number_value(a));
}

/* Everything that `want` says, `got` says too. */
static void compare_json(const json_t *want, const json_t *got, const char *at) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)want, key, value) {
        const json_t *other = json_object_get(got, key);
        bool same = json_is_number(value) ? json_is_number(other) && same_number(value, other)
                    : json_is_null(value) ? !other || json_is_null(other)
                                          : json_equal(value, (json_t *)(uintptr_t)other);
        if (json_is_object(value) && json_is_object(other))
            compare_json(value, other, key);
        else if (!same && strcmp(key, "bos_token_id") != 0)
            fail_msg("%s%s has not come back: %s", at, key, other ? json_dumps(other, JSON_ENCODE_ANY) : "absent");
    }
}

static char *gguf_path(const char *dir, const char *name) {
    return assay_path_join(dir, name);
}

static void every_architecture_comes_back(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(MODELS); i++) {
        char *dir = scratch_make(), *path = gguf_path(dir, "model.gguf");
        json_t *config = json_loads(MODELS[i].config, 0, NULL), *back = NULL;
        assay_err err = {0};
        assert_non_null(config);
        assay_ckpt_writer *w = open_writer(dir, 0, config);
        each_tensor(&MODELS[i], put_one, w);
        commit(w);
        assay_checkpoint *c = open_checkpoint(i % 2 ? dir : path);
        assert_true(assay_checkpoint_is_gguf(c));
        each_tensor(&MODELS[i], compare_one, c);
        assay_checkpoint_close(c);
        if (assay_gguf_config(&back, path, &err) != ASSAY_OK) fail_msg("%s", err.message);
        compare_json(config, back, "");
        json_decref(back);
        json_decref(config);
        assay_free(path);
        scratch_remove(dir);
    }
}

/* A config.json that leaves its rotary base out means its class's; the file, in which nothing means 10000, says it. */
static void a_rotary_base_that_is_not_said_is_told(void **state) {
    (void)state;
    static const struct {
        const char *class_name;
        double theta;
    } CASES[] = {{"MixtralForCausalLM", 1e6}, {"SmolLM3ForCausalLM", 2e6}, {"Gemma3ForCausalLM", 1e6}, {"LlamaForCausalLM", 1e4}};
    for (size_t i = 0; i < ASSAY_LEN(CASES); i++) {
        char text[1024], *dir = scratch_make(), *path = gguf_path(dir, "model.gguf");
        json_t *back = NULL;
        snprintf(text, sizeof text, "{\"architectures\": [\"%s\"], " LLAMA_SIZES "\"num_local_experts\": 3, \"num_experts_per_tok\": 2}", CASES[i].class_name);
        json_t *config = json_loads(text, 0, NULL);
        assay_ckpt_writer *w = open_writer(dir, 0, config);
        put_one(w, "model.norm.weight", &MODELS[0].tensors[1]);
        commit(w);
        assert_int_equal(assay_gguf_config(&back, path, NULL), ASSAY_OK);
        assert_true(json_number_value(json_object_get(back, "rope_theta")) == CASES[i].theta);
        json_decref(back);
        json_decref(config);
        assay_free(path);
        scratch_remove(dir);
    }
}

static void splits_and_kills_change_nothing(void **state) {
    (void)state;
    const model *m = &MODELS[2];
    json_t *config = json_loads(m->config, 0, NULL);
    char *one = scratch_make(), *many = scratch_make(), hash[2][65];
    assay_ckpt_writer *w = open_writer(one, 0, config);
    put_one(w, "model.norm.weight", &m->tensors[1]);
    assay_ckpt_writer_close(w); /* a kill */
    w = open_writer(one, 0, config);
    assert_true(assay_ckpt_writer_has(w, "model.norm.weight"));
    each_tensor(m, put_one, w);
    commit(w);
    w = open_writer(many, 3000, config);
    each_tensor(m, put_one, w);
    commit(w);
    assay_checkpoint *c = open_checkpoint(many);
    each_tensor(m, compare_one, c);
    assert_int_equal(assay_checkpoint_hash(hash[0], c, NULL), ASSAY_OK);
    assay_checkpoint_close(c);
    c = open_checkpoint(one);
    each_tensor(m, compare_one, c);
    assert_int_equal(assay_checkpoint_hash(hash[1], c, NULL), ASSAY_OK);
    assay_checkpoint_close(c);
    assert_string_not_equal(hash[0], hash[1]); /* the metadata says split.* */
    json_t *back = NULL;
    char *first = NULL, *second;
    assert_int_equal(assay_gguf_find_file(&first, many, NULL), ASSAY_OK);
    assert_int_equal(assay_gguf_config(&back, first, NULL), ASSAY_OK);
    compare_json(config, back, "");
    /* a part alone, a part missing */
    assay_err err = {0};
    second = assay_strdup(first);
    memcpy(strstr(second, "00001-of"), "00002", 5);
    expect_error(assay_checkpoint_open(&c, second, &err), ASSAY_EINPUT, &err, "name the first one");
    unlink(second);
    memset(&err, 0, sizeof err);
    assert_int_equal(assay_checkpoint_open(&c, first, &err), ASSAY_ENOTFOUND);
    assay_free(first);
    assay_free(second);
    json_decref(back);
    json_decref(config);
    scratch_remove(one);
    scratch_remove(many);
}

/* --- each byte written once --- */

/* Notes a tensor: its data is not looked at. */
static void note_one(void *ctx, const char *name, const spec *s) {
    assay_err err = {0};
    if (assay_ckpt_writer_put(ctx, name, ASSAY_DTYPE_F16, s->cols ? 2 : 1, (int64_t[]){s->rows, s->cols}, NULL, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_true(assay_ckpt_writer_is_planning(ctx));
}

static assay_ckpt_writer *open_planned(const char *dir, const json_t *config, const model *m, uint64_t shard_bytes) {
    assay_ckpt_writer *w = open_writer(dir, shard_bytes, config);
    bool planning;
    assert_int_equal(assay_ckpt_writer_plan_begin(&planning, w, NULL), ASSAY_OK);
    assert_true(planning);
    each_tensor(m, note_one, w);
    assert_int_equal(assay_ckpt_writer_plan_end(w, NULL), ASSAY_OK);
    return w;
}

static void expect_same_bytes(const char *a, const char *b, const char *name) {
    char *path[2] = {assay_path_join(a, name), assay_path_join(b, name)}, *text[2] = {NULL, NULL};
    size_t n[2];
    for (int i = 0; i < 2; i++) assert_int_equal(assay_read_file(&text[i], &n[i], path[i], 0, NULL), ASSAY_OK);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(text[0], text[1], n[0]);
    for (int i = 0; i < 2; i++) {
        assay_free(path[i]);
        assay_free(text[i]);
    }
}

/* Matrices of several pieces, some with their rows in pairs, embeddings with more rows than one piece holds, a norm. */
static const model LARGE = {
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 1024, \"intermediate_size\": 24,"
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 8, \"num_key_value_heads\": 6, \"vocab_size\": 1601, \"torch_dtype\": \"float16\","
    "\"max_position_embeddings\": 64, \"tie_word_embeddings\": true}",
    {{"model.embed_tokens.weight", 1601, 1024}, {"model.norm.weight", 1024, 0}, {"model.layers.#.self_attn.q_proj.weight", 1024, 1024},
     {"model.layers.#.self_attn.k_proj.weight", 768, 1024}, {"model.layers.#.input_layernorm.weight", 1024, 0}}};

/* A plan gives the file that the spool gives, whatever killed it on the way. */
static void planned_files_are_the_same(void **state) {
    (void)state;
    for (size_t i = 0; i <= ASSAY_LEN(MODELS); i++) {
        const model *m = i < ASSAY_LEN(MODELS) ? &MODELS[i] : &LARGE;
        json_t *config = json_loads(m->config, 0, NULL);
        char *spooled = scratch_make(), *planned = scratch_make();
        assay_ckpt_writer *w = open_writer(spooled, 0, config);
        each_tensor(m, put_one, w);
        commit(w);
        w = open_planned(planned, config, m, 0);
        const char *first = m->tensors[0].name; /* outside the layers in every model */
        put_one(w, first, &m->tensors[0]);
        assay_ckpt_writer_close(w); /* a kill */
        w = open_planned(planned, config, m, 0);
        assert_true(assay_ckpt_writer_has(w, first));
        each_tensor(m, put_one, w);
        commit(w);
        expect_same_bytes(spooled, planned, "model.gguf");
        assay_checkpoint *c = open_checkpoint(planned);
        each_tensor(m, compare_one, c);
        assay_checkpoint_close(c);
        json_decref(config);
        scratch_remove(spooled);
        scratch_remove(planned);
    }
}

/* From file to file, rows that lie in pairs are taken apart and paired again; into a plain checkpoint they come in order. */
static void copies_go_by_pieces(void **state) {
    (void)state;
    json_t *config = json_loads(LARGE.config, 0, NULL);
    char *from = scratch_make(), *to = scratch_make(), *plain = scratch_make();
    assay_ckpt_writer *w = open_writer(from, 0, config);
    each_tensor(&LARGE, put_one, w);
    commit(w);
    assay_checkpoint *c = open_checkpoint(from);
    assay_ckpt_writer *same = open_writer(to, 0, config), *hf;
    assert_int_equal(assay_ckpt_writer_open(&hf, plain, 0, NULL), ASSAY_OK);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        assert_int_equal(assay_ckpt_writer_copy(same, c, assay_checkpoint_get(c, i), NULL), ASSAY_OK);
        assert_int_equal(assay_ckpt_writer_copy(hf, c, assay_checkpoint_get(c, i), NULL), ASSAY_OK);
    }
    commit(same);
    commit(hf);
    assay_checkpoint_close(c);
    c = open_checkpoint(plain);
    each_tensor(&LARGE, compare_one, c);
    assay_checkpoint_close(c);
    c = open_checkpoint(to);
    each_tensor(&LARGE, compare_one, c);
    assay_checkpoint_close(c);
    json_decref(config);
    scratch_remove(from);
    scratch_remove(to);
    scratch_remove(plain);
}

/* What is put must be what was noted. */
static void a_plan_is_kept(void **state) {
    (void)state;
    json_t *config = json_loads(MODELS[0].config, 0, NULL);
    char *dir = scratch_make();
    const spec *norm = &MODELS[0].tensors[1];
    assay_err err = {0};
    assay_ckpt_writer *w = open_planned(dir, config, &MODELS[0], 0);
    int64_t dims[] = {norm->rows - 1};
    uint16_t *v = fill(norm->name, norm->rows);
    expect_error(assay_ckpt_writer_put(w, norm->name, ASSAY_DTYPE_F16, 1, dims, v, &err), ASSAY_EINTERNAL, &err, "is not what was planned");
    put_one(w, norm->name, norm);
    memset(&err, 0, sizeof err);
    expect_error(assay_ckpt_writer_commit(w, &err), ASSAY_EINTERNAL, &err, "was planned and not written");
    assay_free(v);
    json_decref(config);
    scratch_remove(dir);
}

/* --- quantized matrices --- */

static const char QUANT_CONFIG[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 256, \"intermediate_size\": 256,"
    "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 4, \"max_position_embeddings\": 64}";
static const char Q_NAME[] = "model.layers.0.self_attn.q_proj.weight", UP_NAME[] = "model.layers.0.mlp.up_proj.weight";

static void put_matrix(assay_ckpt_writer *w, const char *name, const assay_matrix *m) {
    assay_err err = {0};
    if (assay_ckpt_writer_put_matrix(w, ASSAY_CONVENTION_GGUF, name, m, ASSAY_DTYPE_BF16, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

static float *random_weights(int64_t n) {
    float *w = assay_mallocn((size_t)n, sizeof *w);
    uint32_t s = 7;
    for (int64_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        w[i] = ((float)(s >> 8) / 8388608.0f - 1) * 0.2f;
    }
    return w;
}

/* Writes a matrix as queries (whose rows GGUF orders otherwise) and as an up projection, reads both. */
static void round_trip(const assay_matrix *m, assay_matrix *queries, assay_matrix *up, assay_checkpoint **c, char **dir) {
    json_t *config = json_loads(QUANT_CONFIG, 0, NULL);
    assay_err err = {0};
    *dir = scratch_make();
    assay_ckpt_writer *w = open_writer(*dir, 0, config);
    put_matrix(w, Q_NAME, m);
    put_matrix(w, UP_NAME, m);
    commit(w);
    *c = open_checkpoint(*dir);
    json_decref(config);
    if (assay_checkpoint_matrix(queries, *c, NULL, Q_NAME, m->rows, m->cols, ASSAY_DTYPE_F32, &err) != ASSAY_OK) fail_msg("%s", err.message);
    if (assay_checkpoint_matrix(up, *c, NULL, UP_NAME, m->rows, m->cols, ASSAY_DTYPE_F32, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

static void blocks_keep_every_byte(void **state) {
    (void)state;
    static const assay_precision ALL[] = {ASSAY_PRECISION_Q4_0, ASSAY_PRECISION_Q5_1, ASSAY_PRECISION_Q8_0, ASSAY_PRECISION_Q3_K, ASSAY_PRECISION_Q6_K,
                                          ASSAY_PRECISION_IQ4_XS, ASSAY_PRECISION_IQ1_M, ASSAY_PRECISION_TQ2_0};
    for (size_t i = 0; i < ASSAY_LEN(ALL); i++) {
        size_t n = assay_block_row_bytes(ALL[i], 256) * 256;
        uint8_t *bytes = assay_calloc(n, 1); /* zero scales: any codes are finite */
        for (size_t k = 0; k < n; k++) bytes[k] = (uint8_t)(k % 251 & 0x3b);
        assay_matrix m = {.precision = ALL[i], .rows = 256, .cols = 256, .data = bytes, .act_bits = 16}, queries, up;
        assay_checkpoint *c;
        char *dir;
        round_trip(&m, &queries, &up, &c, &dir);
        assert_int_equal(queries.precision, ALL[i]);
        assert_memory_equal(queries.data, bytes, n);
        assert_memory_equal(up.data, bytes, n);
        const assay_tensor *t = assay_checkpoint_find(c, Q_NAME);
        assert_int_equal(t->block, ALL[i]);
        assert_int_equal(t->order, ASSAY_ORDER_PAIRS);
        assert_memory_not_equal(t->data, bytes, n);
        assert_false(up.owns_data);
        assay_matrix_deinit(&queries);
        assay_matrix_deinit(&up);
        assay_checkpoint_close(c);
        scratch_remove(dir);
        assay_free(bytes);
    }
}

static void expect_same_values(const assay_matrix *a, const assay_matrix *b) {
    float *x = assay_mallocn((size_t)a->cols, 4), *y = assay_mallocn((size_t)a->cols, 4);
    for (int64_t r = 0; r < a->rows; r++) {
        assay_matrix_decode_rows(x, a, r, 1);
        assay_matrix_decode_rows(y, b, r, 1);
        assert_memory_equal(x, y, (size_t)a->cols * 4);
    }
    assay_free(x);
    assay_free(y);
}

/* Four-bit floats: scales and codes of a made-up matrix. */
static void four_bit_floats_come_back(void **state) {
    (void)state;
    for (int nv = 0; nv < 2; nv++) {
        assay_matrix m = {.precision = nv ? ASSAY_PRECISION_NVFP4 : ASSAY_PRECISION_MXFP4, .rows = 256, .cols = 256, .group_size = nv ? 16 : 32,
                          .scale_dtype = nv ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_F8_E8M0, .global_scale = nv ? 3.0f : 0, .act_bits = 16}, queries, up;
        assay_checkpoint *c;
        char *dir;
        assert_int_equal(assay_matrix_alloc(&m, false, NULL), ASSAY_OK);
        for (int64_t i = 0; i < m.rows * m.cols; i++) m.codes[i] = (uint8_t)(i * 7 % 16);
        for (int64_t i = 0; i < m.n_scales; i++) m.scales[i] = nv ? assay_e4m3_to_f32((uint8_t)(i % 126 + 1)) : ldexpf(1, (int)(i % 40) - 20);
        round_trip(&m, &queries, &up, &c, &dir);
        assert_int_equal(up.precision, m.precision);
        assert_memory_equal(up.codes, m.codes, 256 * 256);
        assert_memory_equal(queries.scales, m.scales, (size_t)m.n_scales * 4);
        expect_same_values(&m, &queries);
        expect_same_values(&m, &up);
        assay_matrix_deinit(&m);
        assay_matrix_deinit(&queries);
        assay_matrix_deinit(&up);
        assay_checkpoint_close(c);
        scratch_remove(dir);
    }
}

/* Integers whose scales are float16 become blocks that decode to the same; others say why not. */
static void integers_become_blocks(void **state) {
    (void)state;
    float *w = random_weights(256 * 256);
    assay_int_opts o = {.bits = 4, .group_size = 32, .scale_dtype = ASSAY_DTYPE_F16};
    assay_matrix m, queries, up;
    assay_checkpoint *c;
    char *dir;
    assert_int_equal(assay_encode_int(&m, w, 256, 256, &o, NULL), ASSAY_OK);
    char why[160];
    assay_matrix probe = {0};
    if (!assay_block_from_int(&probe, &m, ASSAY_PRECISION_Q4_0, why)) fail_msg("%s", why);
    assay_matrix_deinit(&probe);
    round_trip(&m, &queries, &up, &c, &dir);
    assert_int_equal(up.precision, ASSAY_PRECISION_Q4_0);
    expect_same_values(&m, &up);
    expect_same_values(&m, &queries);
    assay_matrix_deinit(&queries);
    assay_matrix_deinit(&up);
    assay_checkpoint_close(c);
    scratch_remove(dir);
    assay_matrix_deinit(&m);
    o.group_size = 128;
    assert_int_equal(assay_encode_int(&m, w, 256, 256, &o, NULL), ASSAY_OK);
    json_t *config = json_loads(QUANT_CONFIG, 0, NULL);
    dir = scratch_make();
    assay_ckpt_writer *writer = open_writer(dir, 0, config);
    assay_err err = {0};
    expect_error(assay_ckpt_writer_put_matrix(writer, ASSAY_CONVENTION_GGUF, UP_NAME, &m, ASSAY_DTYPE_BF16, &err), ASSAY_EUNSUPPORTED, &err, "group size");
    assay_ckpt_writer_close(writer);
    json_decref(config);
    scratch_remove(dir);
    assay_matrix_deinit(&m);
    assay_free(w);
}

/* --- what is refused --- */

static void refuse_config(assay_ckpt_writer *w, const char *config, const char *why) {
    assay_err err = {0};
    assay_gguf_target t = {.config = json_loads(config, 0, NULL), .file_type = -1};
    expect_error(assay_ckpt_writer_set_gguf(w, &t, &err), ASSAY_EUNSUPPORTED, &err, why);
    json_decref((json_t *)(uintptr_t)t.config);
}

static void what_gguf_cannot_hold_is_refused(void **state) {
    (void)state;
    json_t *config = json_loads(MODELS[0].config, 0, NULL);
    char *dir = scratch_make();
    float v[16] = {0};
    assay_err err = {0};
    assay_ckpt_writer *w = open_writer(dir, 0, config);
    expect_error(assay_ckpt_writer_put(w, "model.vision_tower.weight", ASSAY_DTYPE_F32, 1, (int64_t[]){16}, v, &err), ASSAY_EUNSUPPORTED, &err,
                 "no tensor for it");
    memset(&err, 0, sizeof err);
    expect_error(assay_ckpt_writer_put(w, "model.layers.0.self_attn.q_proj.weight", ASSAY_DTYPE_F32, 2, (int64_t[]){2, 8}, v, &err), ASSAY_EINPUT, &err,
                 "heads");
    memset(&err, 0, sizeof err);
    assert_int_equal(assay_ckpt_writer_put(w, "model.layers.0.self_attn.rotary_emb.inv_freq", ASSAY_DTYPE_F32, 1, (int64_t[]){2}, v, &err), ASSAY_OK);
    refuse_config(w, "{\"architectures\": [\"MambaForCausalLM\"]}", "MambaForCausalLM");
    refuse_config(w, "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"mlp_only_layers\": [1]}", "mlp_only_layers");
    refuse_config(w, "{\"architectures\": [\"Qwen2MoeForCausalLM\"], \"decoder_sparse_step\": 2}", "decoder_sparse_step");
    assay_ckpt_writer_close(w);
    json_decref(config);
    scratch_remove(dir);
}

static void missing_experts_are_told(void **state) {
    (void)state;
    json_t *config = json_loads(MODELS[1].config, 0, NULL);
    char *dir = scratch_make();
    assay_err err = {0};
    assay_ckpt_writer *w = open_writer(dir, 0, config);
    spec s = {"", 24, 16};
    put_one(w, "model.layers.0.block_sparse_moe.experts.0.w1.weight", &s);
    put_one(w, "model.layers.0.block_sparse_moe.experts.2.w1.weight", &s);
    expect_error(assay_ckpt_writer_commit(w, &err), ASSAY_EINPUT, &err, "number 1 is missing");
    json_decref(config);
    scratch_remove(dir);
}

/* A file of two float32 vectors: the second's offset and the type are the callers'. */
static assay_status open_lie(uint64_t offset, uint32_t type, int64_t n, assay_err *err) {
    assay_str b = {0};
    assay_checkpoint *c = NULL;
    int64_t dims[] = {n};
    assay_gguf_put_head(&b, 2, 1);
    assay_gguf_put_string(&b, "general.architecture", "llama", 5);
    assay_gguf_put_tensor(&b, "output_norm.weight", 1, (int64_t[]){16}, 0, 0);
    assay_gguf_put_tensor(&b, "blk.0.attn_norm.weight", 1, dims, type, offset);
    assay_str_fill(&b, 0, 256 - b.len % 32);
    assay_status s = assay_checkpoint_open_gguf_memory(&c, (const uint8_t *)b.s, b.len, "lie", err);
    if (s == ASSAY_OK) assay_checkpoint_close(c);
    assay_str_free(&b);
    return s;
}

static void lying_files_are_refused(void **state) {
    (void)state;
    assay_err err = {0};
    assert_int_equal(open_lie(64, 0, 16, &err), ASSAY_OK);
    expect_error(open_lie(32, 0, 16, &err), ASSAY_EINPUT, &err, "overlap");
    memset(&err, 0, sizeof err);
    expect_error(open_lie(64, 0, 1 << 20, &err), ASSAY_EINPUT, &err, "cut short");
    memset(&err, 0, sizeof err);
    expect_error(open_lie(64, 99, 16, &err), ASSAY_EUNSUPPORTED, &err, "type 99");
    memset(&err, 0, sizeof err);
    expect_error(open_lie(64, 2, 16, &err), ASSAY_EINPUT, &err, "no multiple of its blocks");
}

/* Small files must not ask for very many tensors, nor be taken for what they cannot mean. */
static void impossible_models_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *arch, *key;
        double value;
        int64_t experts, width; /* 0: none */
        const char *says;
    } cases[] = {
        {"llama", "llama.rope.freq_base", HUGE_VAL, 0, 0, "llama.rope.freq_base is no number"},
        {"llama", "llama.rope.scaling.factor", NAN, 0, 0, "llama.rope.scaling.factor is no number"},
        {"llama", "llama.attention.layer_norm_rms_epsilon", NAN, 0, 0, "epsilon is no number"},
        {"qwen3moe", "qwen3moe.rope.freq_base", 1e6, 64, 1, "is no stack of experts"},
        {"qwen3moe", "qwen3moe.rope.freq_base", 1e6, 5000, 16, "is no stack of experts"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_str b = {0};
        assay_gguf_set set = {0};
        assay_gguf_tensors tensors = {0};
        assay_err err = {0};
        json_t *config = NULL;
        int64_t n = cases[i].experts ? cases[i].experts : 1, width = cases[i].experts ? cases[i].width : 16;
        assay_gguf_put_head(&b, 1, 2);
        assay_gguf_put_string(&b, "general.architecture", cases[i].arch, strlen(cases[i].arch));
        assay_gguf_put_float(&b, cases[i].key, cases[i].value);
        assay_gguf_put_tensor(&b, cases[i].experts ? "blk.0.ffn_up_exps.weight" : "token_embd.weight", 3, (int64_t[]){width, 1, n}, 0, 0);
        assay_str_fill(&b, 0, (32 - b.len % 32) + (size_t)(width * n) * 4);
        assert_int_equal(assay_gguf_set_parse(&set, (const uint8_t *)b.s, b.len, "impossible", &err), ASSAY_OK);
        assay_status s = cases[i].experts ? assay_gguf_tensors_read(&tensors, &set, &err) : assay_gguf_set_config(&config, &set, &err);
        expect_error(s, ASSAY_EINPUT, &err, cases[i].says);
        json_decref(config);
        assay_gguf_tensors_free(&tensors);
        assay_gguf_set_close(&set);
        assay_str_free(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_comes_back),  cmocka_unit_test(splits_and_kills_change_nothing),
        cmocka_unit_test(planned_files_are_the_same),     cmocka_unit_test(copies_go_by_pieces),
        cmocka_unit_test(a_plan_is_kept),                 cmocka_unit_test(a_rotary_base_that_is_not_said_is_told),
        cmocka_unit_test(blocks_keep_every_byte),         cmocka_unit_test(four_bit_floats_come_back),
        cmocka_unit_test(integers_become_blocks),         cmocka_unit_test(what_gguf_cannot_hold_is_refused),
        cmocka_unit_test(missing_experts_are_told),       cmocka_unit_test(lying_files_are_refused),
        cmocka_unit_test(impossible_models_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
