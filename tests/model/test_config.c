/* config.json against the architecture table: what is read, what is completed, what is refused and in which
 * words. Rope frequencies: float32 values of transformers 5.23.0,
 * LlamaRotaryEmbedding(LlamaConfig(...)).inv_freq. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/str.h"
#include "model/arch.h"

static assay_status parse(assay_config *c, const char *config, const char *generation, assay_err *err) {
    json_t *j = NULL, *g = NULL;
    memset(err, 0, sizeof *err);
    assert_int_equal(assay_json_parse(&j, config, strlen(config), "test", NULL), ASSAY_OK);
    if (generation)
        assert_int_equal(assay_json_parse(&g, generation, strlen(generation), "test", NULL), ASSAY_OK);
    assay_status s = assay_config_parse(c, j, generation ? g : NULL, "config.json", err);
    json_decref(j);
    json_decref(g);
    return s;
}

#define SIZES                                                                                                \
    "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, " \
    "\"vocab_size\": 100, \"max_position_embeddings\": 128"
#define LLAMA "\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", " SIZES
#define LATENT                                                                                               \
    "\"architectures\": [\"DeepseekV2ForCausalLM\"], \"kv_lora_rank\": 16, \"qk_nope_head_dim\": 12, "          \
    "\"qk_rope_head_dim\": 8, \"v_head_dim\": 10, \"n_routed_experts\": 6, \"moe_intermediate_size\": 24, "      \
    SIZES

static void completes_what_is_absent(void **state) {
    (void)state;
    assay_config c;
    assay_err err;
    assert_int_equal(parse(&c, "{" LLAMA "}", NULL, &err), ASSAY_OK);
    assert_string_equal(c.architecture, "LlamaForCausalLM");
    assert_string_equal(c.model_type, "llama");
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.sliding_window, 0);
    assert_false(c.tie_word_embeddings);
    assert_false(c.attention_bias);
    assert_int_equal(c.rope.kind, ASSAY_ROPE_DEFAULT);
    assert_true(c.rope.theta == 10000.0 && c.rms_norm_eps == 1e-6);
    assert_int_equal(c.dtype, ASSAY_DTYPE_F32);
    assert_int_equal(c.bos_token_id, -1);
    assert_int_equal(c.n_eos, 0);
    assert_null(c.quantization_config);
    assay_config_deinit(&c);
}

static void reads_both_files(void **state) {
    (void)state;
    assay_config c;
    assay_err err;
    assert_int_equal(
        parse(
            &c,
            "{" LLAMA
            ", \"num_key_value_heads\": 2, \"head_dim\": 32, \"attention_bias\": true, \"mlp_bias\": true, "
            "\"torch_dtype\": \"bfloat16\", \"bos_token_id\": 1, \"eos_token_id\": [7, 9], \"tie_word_embeddings\": true, "
            "\"rms_norm_eps\": 1e-5, \"rope_theta\": 500000, \"quantization_config\": {\"quant_method\": \"x\"}}",
            "{\"eos_token_id\": [9, 11]}", &err),
        ASSAY_OK);
    assert_int_equal(c.n_kv_heads, 2);
    assert_int_equal(c.head_dim, 32);
    assert_true(c.attention_bias && c.attention_out_bias && c.mlp_bias && c.tie_word_embeddings);
    assert_int_equal(c.dtype, ASSAY_DTYPE_BF16);
    assert_int_equal(c.bos_token_id, 1);
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos_token_ids[0], 7);
    assert_int_equal(c.eos_token_ids[2], 11);
    assert_true(c.rope.theta == 500000.0);
    assert_string_equal(json_string_value(json_object_get(c.quantization_config, "quant_method")), "x");
    assay_config_deinit(&c);
}

/* Who has which biases and windows is the table's business. */
static void architectures_differ_by_row(void **state) {
    (void)state;
    static const struct {
        const char *json;
        bool qkv, out, mlp, norm;
        int64_t window0, window1, head;
    } rows[] = {
        {"{\"model_type\": \"llama\", " SIZES "}", false, false, false, false, 0, 0, 16},
        {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": 32, \"head_dim\": 24, " SIZES "}",
         false, false, false, false, 32, 32, 24},
        {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": null, " SIZES "}", false, false,
         false, false, 0, 0, 16},
        {"{\"architectures\": [\"MistralForCausalLM\"], " SIZES "}", false, false, false, false, 4096, 4096,
         16},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"sliding_window\": 32, " SIZES "}", true, false, false,
         false, 0, 0, 16},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true, \"sliding_window\": 32, \"max_window_layers\": 1, "
         "\"layer_types\": [\"full_attention\", \"sliding_attention\"], " SIZES "}",
         true, false, false, false, 0, 32, 16},
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], " SIZES "}", false, false, false, true, 0, 0, 128},
    };
    for (size_t i = 0; i < ASSAY_LEN(rows); i++) {
        assay_config c;
        assay_err err;
        assert_int_equal(parse(&c, rows[i].json, NULL, &err), ASSAY_OK);
        assert_int_equal(c.attention_bias, rows[i].qkv);
        assert_int_equal(c.attention_out_bias, rows[i].out);
        assert_int_equal(c.mlp_bias, rows[i].mlp);
        assert_int_equal(c.arch->qk_norm, rows[i].norm);
        assert_int_equal(assay_config_window(&c, 0), rows[i].window0);
        assert_int_equal(assay_config_window(&c, 1), rows[i].window1);
        assert_int_equal(c.head_dim, rows[i].head);
        assay_config_deinit(&c);
    }
}

/* Gemma 2 9B: sqrt(3584) is 59.87, and 59.75 in the type of its checkpoint. */
static void embeddings_are_scaled_in_their_type(void **state) {
    (void)state;
    static const struct {
        const char *type;
        double scale;
    } types[] = {{"float32", 59.866518188383}, {"float16", 59.875}, {"bfloat16", 59.75}};
    for (size_t i = 0; i < ASSAY_LEN(types); i++) {
        assay_config c;
        assay_err err;
        char json[400];
        snprintf(json, sizeof json,
                 "{\"model_type\": \"gemma2\", \"dtype\": \"%s\", \"hidden_size\": 3584, \"intermediate_size\": 96, "
                 "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 100, \"max_position_embeddings\": 128}",
                 types[i].type);
        assert_int_equal(parse(&c, json, NULL, &err), ASSAY_OK);
        assert_float_equal(c.embedding_scale, types[i].scale, 1e-5);
        assay_config_scale_embedding(&c, ASSAY_DTYPE_F32);
        assert_float_equal(c.embedding_scale, types[0].scale, 1e-5);
        assay_config_deinit(&c);
    }
}

/* Keys that change results without changing a tensor's shape have the defaults of transformers' own configurations. */
static void absent_keys_mean_what_transformers_means(void **state) {
    (void)state;
    assay_config c;
    assay_err err;
    assert_int_equal(parse(&c, "{" LATENT ", \"num_experts_per_tok\": 2}", NULL, &err), ASSAY_OK);
    assert_int_equal(c.shared_size, 2 * 24);
    assert_int_equal(c.layer[0], ASSAY_LAYER_EXPERTS);
    assert_false(c.normalize_experts);
    assay_config_deinit(&c);
    assert_int_equal(parse(&c,
                           "{\"model_type\": \"phi3\", \"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1,1,1,1,1,1,1,1], "
                           "\"long_factor\": [2,2,2,2,2,2,2,2]}, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, "
                           "\"num_attention_heads\": 4, \"vocab_size\": 100, \"max_position_embeddings\": 131072}",
                           NULL, &err),
                     ASSAY_OK);
    assert_int_equal(c.rope.original_max_position, 4096);
    assert_false(assay_config_is_long(&c, 4096));
    assert_true(assay_config_is_long(&c, 4097));
    assert_float_equal(c.rope.scale, 1.1902380714, 1e-9); /* sqrt(1 + log 32 / log 4096) */
    assay_config_deinit(&c);
}

static void refuses_by_name(void **state) {
    (void)state;
    static const struct {
        const char *json;
        assay_status status;
        const char *says;
    } bad[] = {
        {"[]", ASSAY_EINPUT, "config.json: not a JSON object"},
        {"{}", ASSAY_EINPUT, "missing key 'architectures'"},
        {"{\"architectures\": \"Llama\"}", ASSAY_EINPUT, "'architectures' is not a list of strings"},
        {"{\"architectures\": [\"FooForCausalLM\"], " SIZES "}", ASSAY_EUNSUPPORTED,
         "unknown architecture 'FooForCausalLM'; known: LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, Qwen2ForCausalLM"},
        {"{\"model_type\": \"llama\", \"hidden_size\": 64}", ASSAY_EINPUT, "missing key 'intermediate_size'"},
        {"{\"model_type\": \"llama\", \"hidden_size\": \"64\"}", ASSAY_EINPUT, "'hidden_size'"},
        {"{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 9, \"num_hidden_layers\": 99999}",
         ASSAY_EINPUT, "'num_hidden_layers' is 99999, outside [1, 1024]"},
        {"{\"model_type\": \"llama\", \"hidden_size\": -1}", ASSAY_EINPUT, "'hidden_size' is -1"},
        {"{" LLAMA ", \"num_key_value_heads\": 3}", ASSAY_EINPUT,
         "'num_attention_heads' 4 is not a multiple of 'num_key_value_heads' 3"},
        {"{" LLAMA ", \"head_dim\": 15}", ASSAY_EINPUT, "head size 15 is odd"},
        {"{" LLAMA ", \"hidden_act\": \"relu\"}", ASSAY_EUNSUPPORTED, "'hidden_act' is 'relu'"},
        {"{" LLAMA ", \"partial_rotary_factor\": 0.5}", ASSAY_EUNSUPPORTED, "'partial_rotary_factor' 0.5"},
        {"{" LLAMA ", \"torch_dtype\": \"int8\"}", ASSAY_EUNSUPPORTED, "'torch_dtype' is 'int8'"},
        {"{" LLAMA ", \"eos_token_id\": 100}", ASSAY_EINPUT,
         "'eos_token_id' 100 is outside the vocabulary of 100"},
        {"{" LLAMA ", \"eos_token_id\": \"</s>\"}", ASSAY_EINPUT, "'eos_token_id' is neither"},
        {"{" LLAMA ", \"rms_norm_eps\": 2}", ASSAY_EINPUT, "'rms_norm_eps' is 2"},
        {"{" LLAMA ", \"rope_scaling\": {\"type\": \"spiral\", \"factor\": 4}}", ASSAY_EUNSUPPORTED,
         "rope type 'spiral' is not supported; known: default, linear, dynamic, yarn, longrope, llama3"},
        {"{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}}", ASSAY_EINPUT,
         "rope_scaling: rope type 'linear' without 'factor'"},
        {"{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}", ASSAY_EINPUT,
         "without 'low_freq_factor'"},
        {"{" LLAMA ", \"rope_scaling\": 3}", ASSAY_EINPUT, "'rope_scaling' is not an object"},
        {"{" LLAMA ", \"rope_parameters\": {\"full_attention\": {}}}", ASSAY_EUNSUPPORTED, "no 'rope_type'"},
        {"{" LLAMA ", \"layer_types\": [\"full_attention\"]}", ASSAY_EINPUT,
         "'layer_types' is not a list of 2"},
        {"{" LLAMA ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}", ASSAY_EUNSUPPORTED,
         "layer 1 where the other keys mean 'full_attention'"},
        {"{" LLAMA ", \"quantization_config\": []}", ASSAY_EINPUT, "'quantization_config' is not an object"},
        {"{" LATENT ", \"scoring_func\": \"sigmoid\"}", ASSAY_EUNSUPPORTED, "'scoring_func' is set to something else than softmax"},
        {"{" LATENT ", \"moe_layer_freq\": 2}", ASSAY_EUNSUPPORTED, "'moe_layer_freq' is set to something else than 1"},
        {"{" LATENT ", \"norm_topk_prob\": true}", ASSAY_EUNSUPPORTED, "'norm_topk_prob' is set, which"},
        {"{" LATENT ", \"num_experts_per_tok\": 2, \"topk_method\": \"noaux_tc\"}", ASSAY_EUNSUPPORTED, "'topk_method' is 'noaux_tc'"},
        {"{" LATENT ", \"num_key_value_heads\": 2}", ASSAY_EINPUT, "'num_key_value_heads' is 2"},
        {"{" LATENT ", \"num_experts_per_tok\": 7}", ASSAY_EINPUT, "'num_experts_per_tok' is 7, outside [1, 6]"},
    };
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_config c;
        assay_err err;
        assay_status s = parse(&c, bad[i].json, NULL, &err);
        if (s != bad[i].status || !strstr(err.message, bad[i].says))
            fail_msg("%s gave %d \"%s\"", bad[i].json, (int)s, err.message);
        assay_config_deinit(&c);
    }
}

static void check_rope(const char *json, const double *golden, int64_t n) {
    assay_config c;
    assay_err err;
    float f[64];
    assert_int_equal(parse(&c, json, NULL, &err), ASSAY_OK);
    assert_int_equal(c.head_dim, 2 * n);
    assay_rope_frequencies(f, &c);
    for (int64_t i = 0; i < n; i++)
        if ((double)f[i] != golden[i])
            fail_msg("inv_freq[%d] is %a, transformers has %a", (int)i, (double)f[i], golden[i]);
    assay_config_deinit(&c);
}

static void rope_frequencies_are_those_of_transformers(void **state) {
    (void)state;
    static const double llama31[] = {0x1p+0,         0x1.8d276p-3,  0x1.341190p-5,  0x1.ddee9ep-8,
                                     0x1.132ba4p-11, 0x1.1f91fp-15, 0x1.be2188p-18, 0x1.5a0f4ep-20};
    static const double llama32[] = {0x1p+0,         0x1.53c38cp-1,  0x1.c2ef78p-2,  0x1.2b3dc6p-2,
                                     0x1.8d276p-3,   0x1.078d4p-3,   0x1.5dc95ap-4,  0x1.d03ccep-5,
                                     0x1.34119p-5,   0x1.98de92p-6,  0x1.0f5386p-6,  0x1.681adap-7,
                                     0x1.ddee9ep-8,  0x1.3d2804p-8,  0x1.a4ee4p-9,   0x1.524f36p-10,
                                     0x1.c26c4p-12,  0x1.9731eep-14, 0x1.46831ap-16, 0x1.b15902p-17,
                                     0x1.1f91fp-17,  0x1.7da9e8p-18, 0x1.fa8b86p-19, 0x1.5024d6p-19,
                                     0x1.be2188p-20, 0x1.280d96p-20, 0x1.88ec2p-21,  0x1.04be68p-21,
                                     0x1.5a0f4ep-22, 0x1.cb4a9ap-23, 0x1.30c94ep-23, 0x1.94836p-24};
    static const double linear[] = {0x1p-2,        0x1.43d136p-4, 0x1.99999ap-6,  0x1.030dc6p-7,
                                    0x1.47ae14p-9, 0x1.9e7c7p-11, 0x1.0624dep-12, 0x1.4b96cp-14};
    check_rope(
        "{" LLAMA
        ", \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}",
        llama31, 8);
    check_rope(
        "{" LLAMA
        ", \"head_dim\": 64, \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"llama3\", \"factor\": 32.0, "
        "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}",
        llama32, 32);
    check_rope("{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}}", linear, 8);
}

static assay_status collect(void *ctx, const assay_tensor_spec *t, assay_err *err) {
    (void)err;
    assay_str_printf(ctx, "%s %lldx%lld%s%s%s%s\n", t->name, (long long)t->rows, (long long)t->cols,
                     t->is_vector ? " vector" : "", t->is_linear ? " linear" : "",
                     t->is_embedding ? " embedding" : "", t->is_head ? " head" : "");
    return ASSAY_OK;
}

static void lists_every_tensor_in_checkpoint_order(void **state) {
    (void)state;
    assay_config c;
    assay_err err;
    assay_str b = {0};
    assert_int_equal(
        parse(
            &c,
            "{\"architectures\": [\"Qwen2ForCausalLM\"], \"num_key_value_heads\": 2, \"head_dim\": 8, \"hidden_size\": 64, "
            "\"intermediate_size\": 96, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"vocab_size\": 100, "
            "\"max_position_embeddings\": 128}",
            NULL, &err),
        ASSAY_OK);
    assert_int_equal(assay_config_each_tensor(&c, collect, &b, &err), ASSAY_OK);
    assert_string_equal(assay_str_c(&b), "model.embed_tokens.weight 100x64 embedding\n"
                                         "model.layers.0.input_layernorm.weight 64x1 vector\n"
                                         "model.layers.0.self_attn.q_proj.weight 32x64 linear\n"
                                         "model.layers.0.self_attn.q_proj.bias 32x1 vector\n"
                                         "model.layers.0.self_attn.k_proj.weight 16x64 linear\n"
                                         "model.layers.0.self_attn.k_proj.bias 16x1 vector\n"
                                         "model.layers.0.self_attn.v_proj.weight 16x64 linear\n"
                                         "model.layers.0.self_attn.v_proj.bias 16x1 vector\n"
                                         "model.layers.0.self_attn.o_proj.weight 64x32 linear\n"
                                         "model.layers.0.post_attention_layernorm.weight 64x1 vector\n"
                                         "model.layers.0.mlp.gate_proj.weight 96x64 linear\n"
                                         "model.layers.0.mlp.up_proj.weight 96x64 linear\n"
                                         "model.layers.0.mlp.down_proj.weight 64x96 linear\n"
                                         "model.norm.weight 64x1 vector\n"
                                         "lm_head.weight 100x64 head\n");
    assay_str_free(&b);
    assay_config_deinit(&c);
}

static void missing_file_is_named(void **state) {
    (void)state;
    assay_config c;
    assay_err err = {0};
    assert_int_equal(assay_config_open(&c, "/nonexistent/config.json", &err), ASSAY_ENOTFOUND);
    assert_non_null(strstr(err.message, "/nonexistent/config.json"));
    assay_config_deinit(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completes_what_is_absent),
        cmocka_unit_test(reads_both_files),
        cmocka_unit_test(architectures_differ_by_row),
        cmocka_unit_test(embeddings_are_scaled_in_their_type),
        cmocka_unit_test(absent_keys_mean_what_transformers_means),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(rope_frequencies_are_those_of_transformers),
        cmocka_unit_test(lists_every_tensor_in_checkpoint_order),
        cmocka_unit_test(missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
