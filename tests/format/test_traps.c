/* test_traps.c: every trap is seen where it was laid and nowhere else; which runtime is told what of which storage. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "format/convention.h"
#include "format/gguf.h"
#include "format/runtimes.h"
#include "format/support.h"
#include "format/traps.h"
#include "precision/block.h"

typedef struct laid {
    char *dir;
    assay_checkpoint *c;
    json_t *config;
    assay_trap traps[ASSAY_TRAP_COUNT];
} laid;

static void matrix(assay_matrix *m, int bits, int64_t group, int zero) {
    *m = (assay_matrix){.precision = (assay_precision)(ASSAY_PRECISION_INT2 + bits - 2), .rows = 32, .cols = 64, .group_size = group,
                        .scale_dtype = ASSAY_DTYPE_F16, .act_bits = 16};
    assert_int_equal(assay_matrix_alloc(m, zero >= 0, NULL), ASSAY_OK);
    for (int64_t i = 0; i < 32 * 64; i++) m->codes[i] = (uint8_t)((i * 7 + i / 64) % (1 << bits));
    for (int64_t i = 0; i < m->n_scales; i++) m->scales[i] = 0.0078125f;
    for (int64_t i = 0; zero >= 0 && i < m->n_scales; i++) m->zeros[i] = (uint8_t)(i % 3 == 0 ? zero : zero + 1);
}

static laid lay(assay_convention c, const char *const *names, const assay_matrix *m, size_t n, const char *config) {
    laid l = {.dir = scratch_make()};
    assay_ckpt_writer *w;
    assay_err err = {0};
    assert_int_equal(assay_ckpt_writer_open(&w, l.dir, 0, NULL), ASSAY_OK);
    for (size_t i = 0; i < n; i++)
        if (assay_ckpt_writer_put_matrix(w, c, names[i], &m[i], ASSAY_DTYPE_BF16, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&l.c, l.dir, NULL), ASSAY_OK);
    l.config = json_loads(config, 0, NULL);
    assert_non_null(l.config);
    if (assay_traps_find(l.traps, l.c, l.config, l.dir, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return l;
}

static void pick_up(laid *l) {
    assay_checkpoint_close(l->c);
    json_decref(l->config);
    scratch_remove(l->dir);
}

static void expect_only(const laid *l, int trap, const char *where) {
    for (int i = 0; i < ASSAY_TRAP_COUNT; i++) {
        if ((l->traps[i].n > 0) != (i == trap)) fail_msg("%s: %zu", assay_trap_name((assay_trap_id)i), l->traps[i].n);
        if (i == trap) assert_string_equal(l->traps[i].where, where);
    }
}

#define X_PROJ "model.layers.0.x.weight"
#define GPTQ(MORE) "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32" MORE "}}"

static void gptq_traps_are_seen(void **state) {
    (void)state;
    static const struct {
        assay_convention written;
        int zero; /* the least; -1: none */
        bool order;
        const char *config;
        int trap;
    } cases[] = {
        {ASSAY_CONVENTION_GPTQ, -1, false, GPTQ(",\"sym\":true,\"desc_act\":false"), -1},
        {ASSAY_CONVENTION_GPTQ, 7, false, GPTQ(",\"sym\":false,\"desc_act\":false"), -1},
        {ASSAY_CONVENTION_GPTQ_V2, -1, false, GPTQ(",\"checkpoint_format\":\"gptq\",\"sym\":false"), ASSAY_TRAP_VERSION_CLAIM},
        {ASSAY_CONVENTION_GPTQ, -1, false, GPTQ(",\"checkpoint_format\":\"gptq_v2\",\"sym\":false"), ASSAY_TRAP_VERSION_CLAIM},
        {ASSAY_CONVENTION_GPTQ, 7, false, GPTQ(",\"sym\":true"), ASSAY_TRAP_SYM_CLAIM},
        {ASSAY_CONVENTION_GPTQ, -1, true, GPTQ(",\"desc_act\":false"), ASSAY_TRAP_ORDER_UNSAID},
        {ASSAY_CONVENTION_GPTQ, -1, true, GPTQ(",\"desc_act\":true"), -1},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_matrix m;
        const char *name = X_PROJ;
        matrix(&m, 4, 32, cases[i].zero);
        if (cases[i].order) {
            m.g_idx = assay_mallocn(64, sizeof *m.g_idx);
            for (int k = 0; k < 64; k++) m.g_idx[k] = k % 2;
        }
        laid l = lay(cases[i].written, &name, &m, 1, cases[i].config);
        expect_only(&l, cases[i].trap, X_PROJ);
        pick_up(&l);
        assay_matrix_deinit(&m);
    }
}

/* The file that GPTQModel packed with one zero point of 0 in each matrix. */
static void wrapped_zero_points_are_seen(void **state) {
    (void)state;
    assay_checkpoint *c;
    assay_trap traps[ASSAY_TRAP_COUNT];
    json_t *config;
    assert_int_equal(assay_checkpoint_open(&c, "tests/format/golden/gptq-int4-wrap", NULL), ASSAY_OK);
    assert_int_equal(assay_json_load(&config, "tests/format/golden/gptq-int4-wrap/config.json", NULL), ASSAY_OK);
    assert_int_equal(assay_traps_find(traps, c, config, NULL, NULL), ASSAY_OK);
    assert_int_equal(traps[ASSAY_TRAP_ZERO_WRAP].n, 7);
    assert_int_equal(traps[ASSAY_TRAP_VERSION_CLAIM].n, 0);
    json_decref(config);
    assay_checkpoint_close(c);
}

static void other_traps_are_seen(void **state) {
    (void)state;
    static const char ct[] = "{\"tie_word_embeddings\":true,\"dtype\":\"bfloat16\",\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
                             "\"config_groups\":{\"g\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,\"group_size\":32,\"strategy\":\"group\"}}}}}";
    const char *head = "lm_head.weight", *x = X_PROJ;
    assay_matrix m;
    matrix(&m, 4, 32, -1);
    laid l = lay(ASSAY_CONVENTION_CT, &head, &m, 1, ct);
    expect_only(&l, ASSAY_TRAP_TIED_HEAD, "lm_head.weight");
    pick_up(&l);
    m.scales[3] = 0;
    l = lay(ASSAY_CONVENTION_CT, &x, &m, 1, ct);
    expect_only(&l, ASSAY_TRAP_SCALE_ZERO, X_PROJ);
    pick_up(&l);
    m.scales[3] = 1.0009765625f; /* 11 bits */
    l = lay(ASSAY_CONVENTION_CT, &x, &m, 1, ct);
    expect_only(&l, ASSAY_TRAP_SCALE_TYPE, X_PROJ);
    pick_up(&l);
    assay_matrix_deinit(&m);
}

static void fused_matrices_are_compared(void **state) {
    (void)state;
    static const char fp8[] = "{\"quantization_config\":{\"quant_method\":\"fp8\",\"activation_scheme\":\"dynamic\"}}";
    const char *names[] = {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"};
    assay_matrix m[2];
    for (int i = 0; i < 2; i++) {
        m[i] = (assay_matrix){.precision = ASSAY_PRECISION_FP8_E4M3, .rows = 8, .cols = 16, .row_block = 8, .act_bits = 8};
        assert_int_equal(assay_matrix_alloc(&m[i], false, NULL), ASSAY_OK);
        memset(m[i].codes, 0x38, 8 * 16);
        m[i].scales[0] = 0.5f;
    }
    laid l = lay(ASSAY_CONVENTION_FP8, names, m, 2, fp8);
    expect_only(&l, -1, "");
    pick_up(&l);
    m[1].scales[0] = 0.25f;
    l = lay(ASSAY_CONVENTION_FP8, names, m, 2, fp8);
    expect_only(&l, ASSAY_TRAP_FUSED_SCALE, names[1]);
    pick_up(&l);
    assay_matrix_deinit(&m[0]);
    assay_matrix_deinit(&m[1]);
}

/* What is a trap in one file is the purpose of another: the mixes of llama.cpp, which computes q, k and v one by one. */
static void types_may_differ_in_a_mix(void **state) {
    (void)state;
    static const char *const names[] = {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"};
    json_t *config = json_loads("{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_size\": 64, \"head_dim\": 8,"
                                "\"intermediate_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 4,"
                                "\"vocab_size\": 11, \"rms_norm_eps\": 1e-6}", 0, NULL);
    assay_gguf_target target = {.config = config, .name = "a mix", .file_type = -1};
    char *dir = scratch_make(), *file, why[160];
    assay_ckpt_writer *w;
    assay_checkpoint *c;
    assay_trap traps[ASSAY_TRAP_COUNT];
    assay_err err = {0};
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    if (assay_ckpt_writer_set_gguf(w, &target, &err) != ASSAY_OK) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) {
        assay_matrix integers, blocks;
        matrix(&integers, i ? 8 : 4, 32, -1);
        assert_true(assay_block_from_int(&blocks, &integers, i ? ASSAY_PRECISION_Q8_0 : ASSAY_PRECISION_Q4_0, why));
        if (assay_ckpt_writer_put_matrix(w, ASSAY_CONVENTION_GGUF, names[i], &blocks, ASSAY_DTYPE_F16, &err) != ASSAY_OK) fail_msg("%s", err.message);
        assay_matrix_deinit(&blocks);
        assay_matrix_deinit(&integers);
    }
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    json_decref(config);
    assert_int_equal(assay_checkpoint_open(&c, dir, NULL), ASSAY_OK);
    assert_int_equal(assay_gguf_find_file(&file, dir, NULL), ASSAY_OK);
    assert_int_equal(assay_gguf_config(&config, file, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_find(c, names[0])->block, ASSAY_PRECISION_Q4_0);
    assert_int_equal(assay_checkpoint_find(c, names[1])->block, ASSAY_PRECISION_Q8_0);
    assert_int_equal(assay_traps_find(traps, c, config, dir, &err), ASSAY_OK);
    for (int i = 0; i < ASSAY_TRAP_COUNT; i++)
        if (traps[i].n) fail_msg("%s is told", assay_trap_name((assay_trap_id)i));
    json_decref(config);
    assay_free(file);
    assay_checkpoint_close(c);
    scratch_remove(dir);
}

static void rules_say_what_their_sources_say(void **state) {
    (void)state;
    static const struct {
        const char *runtime, *storage;
        assay_support how;
    } cases[] = {
        {"vLLM", "gptq int4 g128 sym plain a16", ASSAY_SUPPORT_NATIVE},
        {"vLLM", "gptq int4 g128 asym plain a16", ASSAY_SUPPORT_NO},
        {"vLLM", "gptq_v2 int3 g128 sym plain a16", ASSAY_SUPPORT_NO},
        {"vLLM", "compressed-tensors int3 g128 sym plain a16", ASSAY_SUPPORT_NATIVE},
        {"vLLM", "compressed-tensors int3 g128 sym order a16", ASSAY_SUPPORT_NO},
        {"vLLM", "compressed-tensors int8 channel asym plain a8", ASSAY_SUPPORT_NO},
        {"vLLM", "compressed-tensors int8 g128 sym plain a8", ASSAY_SUPPORT_UNKNOWN},
        {"vLLM", "hqq int4 g64 real plain a16", ASSAY_SUPPORT_NO},
        {"llama.cpp", "gptq int4 g128 sym plain a16", ASSAY_SUPPORT_NO},
        {"llama.cpp", "gguf q4_k - - plain a16", ASSAY_SUPPORT_NATIVE},
        {"transformers", "gguf q4_k - - plain a16", ASSAY_SUPPORT_DECODES},
        {"TGI", "compressed-tensors int8 channel sym plain a8", ASSAY_SUPPORT_NATIVE},
        {"TGI", "gptq_v2 int4 g128 sym plain a16", ASSAY_SUPPORT_NATIVE},
        {"TGI", "gptq_v2 int4 g128 asym plain a16", ASSAY_SUPPORT_NO},
        {"TGI", "bnb nf4 g64 - plain a16", ASSAY_SUPPORT_NO},
        {"TensorRT-LLM", "awq int4 g128 asym plain a16", ASSAY_SUPPORT_NO},
        {"TensorRT-LLM", "fp8 fp8_e4m3 block128 - plain a8", ASSAY_SUPPORT_NATIVE},
        {"TensorRT-LLM", "fp8 fp8_e4m3 tensor - plain a8s", ASSAY_SUPPORT_UNKNOWN},
        {"TensorRT-LLM", "compressed-tensors nvfp4 g16 - plain a16", ASSAY_SUPPORT_NO},
        {"Ollama and kin", "gguf q4_k - - plain a16", ASSAY_SUPPORT_NATIVE},
        {"Ollama and kin", "gguf iq2_xs - - plain a16", ASSAY_SUPPORT_NO},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_runtime_rule r = assay_runtime_rule_for(cases[i].runtime, cases[i].storage);
        if (r.how != cases[i].how) fail_msg("%s, %s: %s", cases[i].runtime, cases[i].storage, assay_support_word(r.how));
        assert_int_equal(r.source == NULL, r.how == ASSAY_SUPPORT_UNKNOWN);
        if (r.source) assert_non_null(assay_runtime_source_find(r.source));
    }
    size_t n = 0;
    while (assay_runtime_name(n)) n++;
    assert_int_equal(n, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gptq_traps_are_seen),
        cmocka_unit_test(wrapped_zero_points_are_seen),
        cmocka_unit_test(other_traps_are_seen),
        cmocka_unit_test(fused_matrices_are_compared),
        cmocka_unit_test(types_may_differ_in_a_mix),
        cmocka_unit_test(rules_say_what_their_sources_say),
    };
    return cmocka_run_group_tests_name("traps", tests, NULL, NULL);
}
