/* test_layouts.c: every method on every way in which a decoder can be laid out: fused projections, parallel blocks, latent attention,
 * experts, norms in other places. Small random models; what a method gives is run and compared with the model in full precision. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "method/layouts.h"
#include "method/mixture.h"

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* --- the models --- */

enum { MIXTRAL = 6, UNSEEN = 2 }; /* a layout's number; an expert's */

#define SIZES "\"hidden_size\": 128, \"intermediate_size\": 160, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
static const struct layout {
    const char *name, *config;
    const char *no_gradients; /* what has no backward pass; NULL: all has */
    bool sparse_gguf;         /* some layers have no experts, which GGUF cannot say */
} layouts[] = {
    {"qwen3", LAYOUT_CONFIG(SIZES "\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"head_dim\": 32, "
                                  "\"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": true"), NULL, false},
    {"phi3", LAYOUT_CONFIG(SIZES "\"architectures\": [\"Phi3ForCausalLM\"], \"model_type\": \"phi3\", \"sliding_window\": 16, "
                                 "\"original_max_position_embeddings\": 64, \"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": false"),
     NULL, false},
    {"gpt_neox", LAYOUT_CONFIG("\"hidden_size\": 128, \"intermediate_size\": 160, \"num_attention_heads\": 4, "
                               "\"architectures\": [\"GPTNeoXForCausalLM\"], \"model_type\": \"gpt_neox\", \"hidden_act\": \"gelu\", "
                               "\"rotary_pct\": 0.25, \"use_parallel_residual\": true, \"layer_norm_eps\": 1e-5, "
                               "\"torch_dtype\": \"float16\", \"tie_word_embeddings\": false"),
     "its norms or its projections", false},
    {"gemma2", LAYOUT_CONFIG(SIZES "\"architectures\": [\"Gemma2ForCausalLM\"], \"model_type\": \"gemma2\", \"head_dim\": 32, "
                                   "\"query_pre_attn_scalar\": 24, \"sliding_window\": 9, \"attn_logit_softcapping\": 8.0, "
                                   "\"final_logit_softcapping\": 6.0, \"torch_dtype\": \"bfloat16\""),
     "its norms or its projections", false},
    {"olmo2", LAYOUT_CONFIG(SIZES "\"architectures\": [\"Olmo2ForCausalLM\"], \"model_type\": \"olmo2\", "
                                  "\"torch_dtype\": \"float32\", \"tie_word_embeddings\": false"),
     "its norms or its projections", false},
    {"starcoder2", LAYOUT_CONFIG(SIZES "\"architectures\": [\"Starcoder2ForCausalLM\"], \"model_type\": \"starcoder2\", "
                                       "\"use_bias\": true, \"sliding_window\": 12, \"torch_dtype\": \"bfloat16\""),
     "its norms or its projections", false},
    {"mixtral", LAYOUT_CONFIG(SIZES "\"architectures\": [\"MixtralForCausalLM\"], \"model_type\": \"mixtral\", "
                                    "\"num_experts_per_tok\": 2, \"num_local_experts\": 4, \"rope_theta\": 1000000.0, \"torch_dtype\": \"bfloat16\""),
     "mixtures of experts", false},
    {"qwen2_moe", LAYOUT_CONFIG(SIZES "\"architectures\": [\"Qwen2MoeForCausalLM\"], \"model_type\": \"qwen2_moe\", \"mlp_only_layers\": [1], "
                                      "\"moe_intermediate_size\": 64, \"num_experts\": 5, \"num_experts_per_tok\": 2, \"decoder_sparse_step\": 1, "
                                      "\"shared_expert_intermediate_size\": 96, \"norm_topk_prob\": false, \"torch_dtype\": \"bfloat16\""),
     "mixtures of experts", true},
    {"deepseek_v2", LAYOUT_CONFIG("\"hidden_size\": 128, \"intermediate_size\": 160, \"num_attention_heads\": 4, \"num_key_value_heads\": 4, "
                                  "\"architectures\": [\"DeepseekV2ForCausalLM\"], \"model_type\": \"deepseek_v2\", "
                                  "\"first_k_dense_replace\": 1, \"kv_lora_rank\": 32, \"q_lora_rank\": 64, \"qk_nope_head_dim\": 24, "
                                  "\"qk_rope_head_dim\": 8, \"v_head_dim\": 16, \"moe_intermediate_size\": 32, \"n_routed_experts\": 6, "
                                  "\"n_shared_experts\": 2, \"num_experts_per_tok\": 2, \"topk_method\": \"greedy\", "
                                  "\"routed_scaling_factor\": 1.0, \"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": false"),
     "mixtures of experts", false},
};

static char *model_dir[ASSAY_LEN(layouts)];
static float *full[ASSAY_LEN(layouts)]; /* logits in full precision */
static int32_t ids[LAYOUT_TOKENS];
static size_t first[LAYOUT_SEQS + 1];
static assay_calibration calibration = {.ids = ids, .first = first, .n_seqs = LAYOUT_SEQS, .hash = "some tokens"};

static int make_models(void **state) {
    assay_err err = {0};
    (void)state;
    assay_rng rng;
    assay_rng_init(&rng, 3);
    for (size_t i = 0; i < LAYOUT_TOKENS; i++) ids[i] = (int32_t)assay_rng_below(&rng, LAYOUT_VOCAB);
    for (size_t i = 0; i < LAYOUT_SEQS; i++) first[i + 1] = first[i] + LAYOUT_LENGTH;
    for (size_t i = 0; i < ASSAY_LEN(layouts); i++) {
        model_dir[i] = tiny_dir();
        full[i] = assay_mallocn(LAYOUT_TOKENS * LAYOUT_VOCAB, sizeof(float));
        if (layout_make(model_dir[i], layouts[i].config, -1, &err) == ASSAY_OK && layout_logits(full[i], model_dir[i], ids, &err) == ASSAY_OK)
            continue;
        print_error("%s: %s\n", layouts[i].name, err.message);
        return -1;
    }
    return 0;
}

static int remove_models(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(layouts); i++) {
        tiny_remove(model_dir[i]);
        assay_free(model_dir[i]);
        assay_free(full[i]);
    }
    return 0;
}

/* --- each method --- */

enum { RTN, RTN_ASYMMETRIC, GPTQ, AWQ };
/* KL as a share of what rounding to nearest in four bits loses of the same model, at most. */
static const struct {
    const char *recipe;
    double most;
} recipes[] = {
    [RTN] = {"rtn,int4g32", 1},
    [RTN_ASYMMETRIC] = {"rtn,int4g32,symmetric=false", 1.5},
    [GPTQ] = {"gptq,int4g32", 0.4},
    [AWQ] = {"awq,int4g32", 0.8},
    {"rtn,int8", 0.06},
    {"awq,int8,group_size=channel,awq_clip=false", 0.06}, /* what is left are its foldings */
    {"hqq,int4,group_size=32", 1.1},
    {"nf4", 1.5},
    {"fp8", 0.4},
    {"fp8,activations=static", 0.4},
    {"smoothquant", 0.1},
    {"llm_int8", 0.1},
    {"gguf,q4_k_m", 0.9},
    {"gguf,q8_0", 0.1},
    {"gguf,iq4_nl", 1.6},
};

static bool is_gguf(const char *recipe) {
    return !strncmp(recipe, "gguf", 4);
}

static void quantize(assay_quantize_result *res, const char *out, size_t layout, const char *recipe, int n_threads) {
    assay_quantize_opts o = {.n_threads = n_threads, .calibration = &calibration};
    assay_err err = {0};
    if (tiny_quantize(res, model_dir[layout], out, recipe, &o, &err) != ASSAY_OK)
        fail_msg("%s of %s: %s", recipe, layouts[layout].name, err.message);
}

/* Of the variant in `out`, run as its format is run at home. */
static double divergence(size_t layout, const char *out, const char *recipe) {
    float *logits = assay_mallocn(LAYOUT_TOKENS * LAYOUT_VOCAB, sizeof *logits);
    assay_err err = {0};
    if (layout_logits(logits, out, ids, &err) != ASSAY_OK) fail_msg("%s of %s: %s", recipe, layouts[layout].name, err.message);
    double kl = layout_kl(full[layout], logits);
    assay_free(logits);
    return kl;
}

/* Root of the mean square of the matrices' relative errors on their calibration inputs; every matrix of the layers has been looked at. */
static double output_error(const char *out, size_t n_matrices) {
    assay_loss *l;
    size_t n;
    double sum = 0;
    assay_err err = {0};
    must(assay_losses_load(&l, &n, out, &err), &err);
    assert_int_equal(n, n_matrices);
    for (size_t i = 0; i < n; i++) {
        assert_true(l[i].output_error >= 0);
        sum += l[i].output_error * l[i].output_error;
    }
    assay_free(l);
    return sqrt(sum / (double)n);
}

static void same_bytes_from_three_threads(size_t layout, const char *out, const char *recipe) {
    char *again = tiny_dir(), a[65], b[65];
    assay_quantize_result res;
    quantize(&res, again, layout, recipe, 3);
    tiny_digest(a, out);
    tiny_digest(b, again);
    if (strcmp(a, b)) fail_msg("%s of %s: other bytes from three threads", recipe, layouts[layout].name);
    tiny_remove(again);
    assay_free(again);
}

static void every_method_quantizes(size_t layout) {
    double rtn = 0, error[AWQ + 1];
    for (size_t r = 0; r < ASSAY_LEN(recipes); r++) {
        const char *recipe = recipes[r].recipe;
        assay_quantize_result res;
        if (is_gguf(recipe) && layouts[layout].sparse_gguf) continue;
        char *out = tiny_dir();
        quantize(&res, out, layout, recipe, 1);
        double kl = divergence(layout, out, recipe);
        if (r == RTN) rtn = kl;
        if (r <= AWQ) error[r] = output_error(out, res.n_matrices);
        print_message("# %-12s %-28s KL %.5f, %5.1f %% of rounding's\n", layouts[layout].name, recipe, kl, 100 * kl / rtn);
        if (!(kl > 0 && kl <= recipes[r].most * rtn))
            fail_msg("%s of %s: KL %g, that of rounding is %g", recipe, layouts[layout].name, kl, rtn);
        same_bytes_from_three_threads(layout, out, recipe);
        tiny_remove(out);
        assay_free(out);
    }
    print_message("# %-12s relative errors of outputs: rtn %.4f, gptq %.4f; asymmetric: rtn %.4f, awq %.4f\n", layouts[layout].name, error[RTN],
                  error[GPTQ], error[RTN_ASYMMETRIC], error[AWQ]);
    assert_true(rtn > 1e-4 && rtn < 0.5);
    assert_true(error[GPTQ] < 0.6 * error[RTN]);
    assert_true(error[AWQ] < 0.92 * error[RTN_ASYMMETRIC]);
}

/* One test for each, so that a failure says which. */
#define LAYOUT_TEST(i, name)                                                                                                           \
    static void name(void **state) {                                                                                                   \
        (void)state;                                                                                                                   \
        every_method_quantizes(i);                                                                                                     \
    }
LAYOUT_TEST(0, norms_per_head)
LAYOUT_TEST(1, fused_projections)
LAYOUT_TEST(2, parallel_blocks_with_biases)
LAYOUT_TEST(3, norms_stored_as_distance_from_one_and_soft_caps)
LAYOUT_TEST(4, norms_behind_the_blocks)
LAYOUT_TEST(5, layer_norms_and_nothing_gated)
LAYOUT_TEST(6, experts)
LAYOUT_TEST(7, shared_experts_and_a_dense_layer)
LAYOUT_TEST(8, latent_attention)

static const assay_loss *loss_of(const assay_loss *l, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(l[i].name, name)) return &l[i];
    fail_msg("no loss of %s", name);
    return NULL;
}

/* What of AWQ reaches which matrix: scales where a norm or a matrix before it can take them, else clipping alone. */
static void awq_scales_fused_latent_and_shared_matrices_and_clips_experts(void **state) {
    (void)state;
    static const struct {
        size_t layout;
        const char *matrix, *chosen;
    } cases[] = {
        {1, "model.layers.1.self_attn.qkv_proj.weight", "awq_ratio"},
        {1, "model.layers.1.mlp.gate_up_proj.weight", "awq_ratio"},
        {1, "model.layers.1.mlp.down_proj.weight", "awq_ratio"},
        {2, "gpt_neox.layers.0.attention.query_key_value.weight", "the norm before it has a bias"},
        {MIXTRAL, "model.layers.1.block_sparse_moe.experts.3.w1.weight", "awq_clip"},
        {MIXTRAL, "model.layers.1.block_sparse_moe.experts.3.w2.weight", "awq_clip"},
        {7, "model.layers.0.mlp.shared_expert.gate_proj.weight", "a matrix of the same input stays as it is"},
        {7, "model.layers.0.mlp.shared_expert.down_proj.weight", "awq_ratio"},
        {8, "model.layers.1.self_attn.q_a_proj.weight", "awq_ratio"},
        {8, "model.layers.1.self_attn.kv_a_proj_with_mqa.weight", "awq_ratio"},
        {8, "model.layers.1.self_attn.q_b_proj.weight", "awq_ratio"},
        {8, "model.layers.1.self_attn.kv_b_proj.weight", "awq_ratio"},
    };
    for (size_t i = 0, n = 0; i < ASSAY_LEN(cases); i += n) {
        char *out = tiny_dir();
        assay_quantize_result res;
        assay_loss *l;
        size_t n_losses;
        assay_err err = {0};
        quantize(&res, out, cases[i].layout, "awq,int4g32", 1);
        must(assay_losses_load(&l, &n_losses, out, &err), &err);
        for (n = 0; i + n < ASSAY_LEN(cases) && cases[i + n].layout == cases[i].layout; n++) {
            const char *chosen = loss_of(l, n_losses, cases[i + n].matrix)->chosen;
            if (!strstr(chosen, cases[i + n].chosen)) fail_msg("%s: '%s' does not say '%s'", cases[i + n].matrix, chosen, cases[i + n].chosen);
        }
        assay_free(l);
        tiny_remove(out);
        assay_free(out);
    }
}

/* --- experts that see little --- */

/* Mixtral with an expert that the router never takes. */
static char *starving_model(void) {
    char *dir = tiny_dir();
    assay_err err = {0};
    must(layout_make(dir, layouts[MIXTRAL].config, UNSEEN, &err), &err);
    return dir;
}

static void check_records(const char *out, const assay_quantize_result *res) {
    assay_loss *l;
    size_t n;
    int64_t sent = 0;
    assay_err err = {0};
    must(assay_losses_load(&l, &n, out, &err), &err);
    for (int e = 0; e < 4; e++) {
        char name[160];
        snprintf(name, sizeof name, "model.layers.1.block_sparse_moe.experts.%d.w2.weight", e);
        const assay_loss *k = loss_of(l, n, name);
        assert_int_equal(k->expert, e);
        assert_true(e == UNSEEN ? k->tokens == 0 && k->output_error < 0 : k->tokens > 0 && k->output_error > 0);
        sent += k->tokens;
    }
    assert_int_equal(sent, 2 * LAYOUT_TOKENS); /* to two experts each */
    assert_int_equal(loss_of(l, n, "model.layers.1.self_attn.q_proj.weight")->tokens, -1);
    assert_int_equal(res->n_experts, 8);
    assert_int_equal(res->n_unseen, 2);
    assert_true(res->n_starved >= 2 && res->least_tokens == 0);
    assay_free(l);
}

static void experts_that_saw_too_little_are_told_and_kept_in_the_manifest(void **state) {
    (void)state;
    char *dir = starving_model(), *out = tiny_dir(), *path = assay_path_join(out, "assay.json"), text[480], again[480];
    assay_quantize_opts o = {.n_threads = 1, .calibration = &calibration};
    assay_quantize_result res;
    assay_err err = {0};
    json_t *j, *kept;
    tiny_run_killed(dir, out, "gptq,int4g32", &o, 20, 0); /* what was done before a kill counts too */
    must(tiny_quantize(&res, dir, out, "gptq,int4g32", &o, &err), &err);
    assert_true(res.n_resumed > 0);
    check_records(out, &res);
    assert_true(assay_quantize_warning(text, sizeof text, &res));
    assert_non_null(strstr(text, "of 8 experts saw fewer calibration tokens than their inputs have channels (the least 0: 'model.layers.0."));
    assert_non_null(strstr(text, "2 saw none and were rounded without): give more calibration text"));
    must(assay_json_load(&j, path, &err), &err);
    kept = json_object_get(j, "experts");
    assert_int_equal(json_integer_value(json_object_get(kept, "calibrated")), 8);
    assert_int_equal(json_integer_value(json_object_get(kept, "unseen")), 2);
    json_decref(j);
    must(tiny_quantize(&res, dir, out, "gptq,int4g32", &o, &err), &err);
    assert_true(res.reused && assay_quantize_warning(again, sizeof again, &res));
    assert_string_equal(again, text);
    o.overwrite = true; /* a method that looks at no inputs has nothing to warn of */
    must(tiny_quantize(&res, dir, out, "rtn,int4g32", &o, &err), &err);
    assert_false(assay_quantize_warning(text, sizeof text, &res));
    tiny_remove(out);
    tiny_remove(dir);
    assay_free(path);
    assay_free(out);
    assay_free(dir);
}

/* A static scale from no inputs would cut off or lose everything that comes: it is as wide as the other experts' together. */
static void an_expert_that_saw_nothing_takes_the_ranges_of_the_others(void **state) {
    (void)state;
    char *dir = starving_model(), *out = tiny_dir();
    assay_quantize_opts o = {.n_threads = 1, .calibration = &calibration};
    assay_quantize_result res;
    assay_checkpoint *c;
    assay_config config;
    assay_err err = {0};
    float most = 0, unseen = 0;
    must(tiny_quantize(&res, dir, out, "fp8,activations=static", &o, &err), &err);
    must(assay_checkpoint_open(&c, out, &err), &err);
    must(assay_config_open(&config, out, &err), &err);
    for (int e = 0; e < 4; e++) {
        char name[160];
        assay_matrix m;
        snprintf(name, sizeof name, "model.layers.0.block_sparse_moe.experts.%d.w1.weight", e);
        must(assay_checkpoint_matrix(&m, c, config.quantization_config, name, 160, 128, ASSAY_DTYPE_BF16, &err), &err);
        if (e == UNSEEN)
            unseen = m.input_scale;
        else
            most = fmaxf(most, m.input_scale);
        assay_matrix_deinit(&m);
    }
    assert_true(unseen > 0 && unseen == most);
    assay_config_deinit(&config);
    assay_checkpoint_close(c);
    tiny_remove(out);
    tiny_remove(dir);
    assay_free(out);
    assay_free(dir);
}

/* --- refusals --- */

static int told_twice(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)phase;
    (void)total;
    (void)unit;
    *(bool *)ctx = *(bool *)ctx || done > 0;
    return 0;
}

/* Before anything has been worked on or written. */
static void refuses(size_t layout, const char *recipe, const char *first_part, const char *second_part) {
    char *out = tiny_dir(), path[300];
    bool worked = false;
    assay_progress p = {told_twice, &worked};
    assay_quantize_opts o = {.n_threads = 1, .calibration = &calibration, .progress = &p};
    assay_quantize_result res;
    assay_err err = {0};
    assay_status s = tiny_quantize(&res, model_dir[layout], out, recipe, &o, &err);
    if (s != ASSAY_EUNSUPPORTED || !strstr(err.message, first_part) || !strstr(err.message, second_part))
        fail_msg("%s of %s: status %d, '%s'", recipe, layouts[layout].name, s, err.message);
    snprintf(path, sizeof path, "%s/assay.json", out);
    assert_false(worked || assay_path_exists(path));
    tiny_remove(out);
    assay_free(out);
}

static void what_cannot_be_done_is_said_before_the_work(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(layouts); i++) {
        const struct layout *l = &layouts[i];
        if (i) refuses(i, "rtn,int4g32,rotate", "rotations", "quantize without");
        if (!l->no_gradients) continue;
        refuses(i, "autoround,int4g32", "method autoround: ", l->no_gradients);
        refuses(i, "rtn,int4g32;match=q_proj|qkv|kv_a|query,autoround", "method autoround: ", l->no_gradients);
        if (l->sparse_gguf) refuses(i, "gguf,q8_0", "layer 1", "has no experts");
    }
}

static void where_gradients_are_known_they_learn(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(layouts); i++) {
        static const char *const learned[] = {"autoround,int4g32,start=rtn,iters=0", "autoround,int4g32,start=rtn,iters=40,batch_size=4"};
        double error[2];
        if (layouts[i].no_gradients) continue;
        for (int k = 0; k < 2; k++) {
            char *out = tiny_dir();
            assay_quantize_result res;
            quantize(&res, out, i, learned[k], 1);
            error[k] = divergence(i, out, learned[k]);
            tiny_remove(out);
            assay_free(out);
        }
        print_message("# %-12s autoround: KL %.5f, from %.5f\n", layouts[i].name, error[1], error[0]);
        assert_true(error[1] < 0.8 * error[0]);
    }
}

/* --- mixtures --- */

static assay_status mix(assay_mixture *m, size_t layout, assay_sensitivity how, assay_err *err) {
    assay_mixture_opts o = {.target_bpw = 6, .precisions = "int4g32 int8g32", .sensitivity = how, .n_threads = 1};
    assay_recipe *r;
    must(assay_recipe_from_string(&r, "rtn,int4g32", err), err);
    assay_status s = assay_mixture_make(m, model_dir[layout], r, &calibration, &o, err);
    assay_recipe_free(r);
    return s;
}

static void mixtures_are_measured_without_gradients_where_there_are_none(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(layouts); i++) {
        bool experts = layouts[i].no_gradients && !strcmp(layouts[i].no_gradients, "mixtures of experts");
        assay_mixture m;
        assay_err err = {0};
        if (layouts[i].no_gradients) {
            assert_int_equal(mix(&m, i, ASSAY_SENSITIVITY_FISHER, &err), ASSAY_EUNSUPPORTED);
            assert_non_null(strstr(err.message, experts ? "do not measure experts" : "fisher"));
        }
        if (experts) continue;
        if (!layouts[i].no_gradients) {
            must(mix(&m, i, ASSAY_SENSITIVITY_FISHER, &err), &err);
            assay_mixture_deinit(&m);
        }
        must(mix(&m, i, ASSAY_SENSITIVITY_AUTO, &err), &err);
        double most = 0;
        for (size_t u = 0; u < m.n_units; u++) {
            most = fmax(most, m.units[u].kl[0]);
            assert_true(m.units[u].kl[1] <= m.units[u].kl[0]);
        }
        assert_true(most > 0 && m.n_units <= 8 && m.used_bits <= m.budget_bits);
        assay_mixture_deinit(&m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_per_head),
        cmocka_unit_test(fused_projections),
        cmocka_unit_test(parallel_blocks_with_biases),
        cmocka_unit_test(norms_stored_as_distance_from_one_and_soft_caps),
        cmocka_unit_test(norms_behind_the_blocks),
        cmocka_unit_test(layer_norms_and_nothing_gated),
        cmocka_unit_test(experts),
        cmocka_unit_test(shared_experts_and_a_dense_layer),
        cmocka_unit_test(latent_attention),
        cmocka_unit_test(awq_scales_fused_latent_and_shared_matrices_and_clips_experts),
        cmocka_unit_test(experts_that_saw_too_little_are_told_and_kept_in_the_manifest),
        cmocka_unit_test(an_expert_that_saw_nothing_takes_the_ranges_of_the_others),
        cmocka_unit_test(what_cannot_be_done_is_said_before_the_work),
        cmocka_unit_test(where_gradients_are_known_they_learn),
        cmocka_unit_test(mixtures_are_measured_without_gradients_where_there_are_none),
    };
    return cmocka_run_group_tests_name("layouts", tests, make_models, remove_models);
}
