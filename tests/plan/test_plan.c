/* Deployment math against figures worked by hand from public configurations.
 *
 * The configurations are those of meta-llama/Llama-3.1-8B and -70B (public facts: layers, widths, heads,
 * vocabulary) and of mistralai/Mistral-7B-v0.1 (sliding window). Every expected figure is derived in a
 * comment. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "plan/plan.h"

#define GIB 1073741824.0

static const char *config_text(char *buf, size_t n, int hidden, int inter, int layers, int heads, int kv,
                               const char *more) {
    snprintf(buf, n,
             "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":%d,"
             "\"intermediate_size\":%d,"
             "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"vocab_size\":"
             "128256,"
             "\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-05,\"rope_theta\":500000.0,\"hidden_"
             "act\":\"silu\","
             "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\"%s}",
             hidden, inter, layers, heads, kv, more);
    return buf;
}

static void parse(assay_config *c, const char *text) {
    json_t *j = NULL;
    assay_err err = {0};
    assert_int_equal(assay_json_parse(&j, text, strlen(text), "test", &err), ASSAY_OK);
    if (assay_config_parse(c, j, NULL, "test", &err) != ASSAY_OK) fail_msg("%s", err.message);
    json_decref(j);
}

static void llama(assay_config *c, int size) {
    char buf[1024];
    if (size == 8)
        parse(c, config_text(buf, sizeof buf, 4096, 14336, 32, 32, 8, ""));
    else
        parse(c, config_text(buf, sizeof buf, 8192, 28672, 80, 64, 8, ""));
}

static assay_storage storage(const char *name) {
    assay_storage s;
    assay_err err = {0};
    if (assay_storage_parse(&s, name, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return s;
}

/* --- sizes --- */

static void storage_names_round_trip(void **state) {
    (void)state;
    static const char *const names[] = {
        "f32",      "f16",      "bf16", "int8",  "int8g128", "int4g128", "int4g128a", "int4g32",
        "int3g64a", "int2g128", "nf4",  "nf4dq", "fp4",      "fp4b128",  "nf4b256dq", "llm_int8"};
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        char buf[32];
        assay_storage s = storage(names[i]);
        assert_string_equal(assay_storage_name(buf, sizeof buf, &s), names[i]);
    }
    static const char *const bad[] = {"",          "int",   "int4g", "int4g0", "int4gx",
                                      "int4g128b", "bf16x", "nf4x",  "int44",  "int4g99999999"};
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_storage s;
        assay_err err = {0};
        if (assay_storage_parse(&s, bad[i], &err) != ASSAY_EINPUT) fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(err.message, "unknown storage"));
    }
}

/* Bits per weight of one matrix: b + (scale + zero) / group. Figures of EVAL: 4.156, 4.125, 4.5; NF4 4.5,
 * doubly quantized 4.127. */
static void bits_per_weight_of_a_matrix(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double bpw;
    } want[] = {
        {"int4g128a", 4.15625},
        {"int4g128", 4.125},
        {"int4g32", 4.5},
        {"int8g128", 8.125},
        {"nf4", 4.5},
        {"nf4dq", 4 + 8.0 / 64 + 32.0 / (64 * 256)},
        {"bf16", 16},
        {"f32", 32},
        {"llm_int8", 8 + 32.0 / 4096},
        {"int8", 8 + 16.0 / 4096},
    };
    for (size_t i = 0; i < ASSAY_LEN(want); i++) {
        double c, sc, z;
        assay_storage s = storage(want[i].name);
        assay_storage_bytes(&c, &sc, &z, &s, 4096, 4096);
        assert_float_equal((c + sc + z) * 8 / (4096.0 * 4096.0), want[i].bpw, 1e-9);
    }
    /* a short last group has a scale of its own: 130 columns in groups of 128 make two per row */
    double c, sc, z;
    assay_storage s = storage("int4g128a");
    assay_storage_bytes(&c, &sc, &z, &s, 3, 130);
    assert_float_equal(c, 195, 0);
    assert_float_equal(sc, 3 * 2 * 2, 0);
    assert_float_equal(z, 3, 0);
    /* blocks of the flattened matrix cross rows: 3 * 130 = 390 elements are 7 blocks of 64 */
    s = storage("nf4");
    assay_storage_bytes(&c, &sc, &z, &s, 3, 130);
    assert_float_equal(sc, 7 * 4, 0);
}

static const assay_size_line *line_of(const assay_sizes *z, assay_part part) {
    for (int i = 0; i < z->n_lines; i++)
        if (z->lines[i].part == part) return &z->lines[i];
    fail_msg("no line for %s", assay_part_name(part));
    return NULL;
}

/* Llama 3.1 70B at 4 bits, line by line.
 *   a calculator says             70e9 * 4 / 8                       = 35,000,000,000 B = 32.60 GiB
 *   its parameters                80 * (2*8192*8192 + 2*1024*8192 + 3*28672*8192) = 68,451,041,280 in the
 * decoder's matrices
 *                                 + 2 * 128256*8192 = 2,101,346,304 in embedding and head + 161 * 8192 in
 * norms = 70,553,706,496 all of them at 4 bits         35,276,853,248 B = 32.85 GiB codes of the decoder's
 * 68,451,041,280 / 2 = 34,225,520,640 B              = 31.88 GiB scales, one f16 per 128       68,451,041,280
 * / 128 * 2 = 1,069,547,520 B         =  1.00 GiB embedding, head in bf16       2 * 2,101,346,304 =
 * 4,202,692,608 B                =  3.91 GiB norms in bf16                 2 * 1,318,912 B =  0.00 GiB
 *   shapes, 16 B per matrix       560 * 16 B
 *   total                         39,500,407,552 B                                   = 36.79 GiB */
static void llama_70b_at_4_bits_line_by_line(void **state) {
    (void)state;
    assay_config c;
    assay_sizes z;
    assay_err err = {0};
    llama(&c, 70);
    assay_storage s = storage("int4g128");
    assert_int_equal(assay_sizes_compute(&z, &c, assay_storage_uniform, &s, &err), ASSAY_OK);
    assert_float_equal(z.nominal_params, 70e9, 0);
    assert_int_equal(z.raw_bits, 4);
    assert_float_equal(z.raw_nominal, 35e9, 0);
    assert_float_equal(round(z.raw_nominal / GIB * 10) / 10, 32.6, 1e-9);
    assert_int_equal(z.params, 70553706496);
    assert_float_equal(z.raw_all, 35276853248.0, 0);

    const assay_size_line *m = line_of(&z, ASSAY_PART_LINEAR);
    assert_int_equal(m->tensors, 560);
    assert_int_equal(m->params, 68451041280);
    assert_float_equal(m->codes, 34225520640.0, 0);
    assert_float_equal(m->scales, 1069547520.0, 0);
    assert_float_equal(m->zeros, 0, 0);
    assert_float_equal(m->meta, 560 * 16, 0);
    assert_float_equal(line_of(&z, ASSAY_PART_EMBEDDING)->codes, 2101346304.0, 0);
    assert_float_equal(line_of(&z, ASSAY_PART_HEAD)->codes, 2101346304.0, 0);
    assert_int_equal(line_of(&z, ASSAY_PART_VECTORS)->params, 161 * 8192);
    double total = 34225520640.0 + 1069547520.0 + 4202692608.0 + 2.0 * 161 * 8192 + 560 * 16;
    assert_float_equal(z.total, total, 0);
    assert_float_equal(z.total / GIB, 36.79, 0.005);
    assert_float_equal(z.effective_bpw, total * 8 / 70553706496.0, 1e-12);
    assert_float_equal(z.linear_bpw, 4.125, 1e-4);
    /* one decode step multiplies with every decoder matrix and the head, and reads all but the embedding */
    assert_float_equal(z.macs_per_token, 68451041280.0 + 128256.0 * 8192, 0);
    assert_float_equal(z.read_per_token, total - 560 * 16 - 2101346304.0, 0);
    assay_config_deinit(&c);
}

static void tied_heads_count_once_and_are_read_all_the_same(void **state) {
    (void)state;
    char buf[1024];
    assay_config c;
    assay_sizes z;
    assay_err err = {0};
    config_text(buf, sizeof buf, 64, 128, 2, 4, 2, "");
    char *tie = strstr(buf, "\"tie_word_embeddings\":false");
    memcpy(tie, "\"tie_word_embeddings\":true ", 27);
    parse(&c, buf);
    assert_int_equal(assay_sizes_compute(&z, &c, NULL, NULL, &err), ASSAY_OK);
    int64_t layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64;
    assert_int_equal(z.params, 128256 * 64 + 2 * layer + 5 * 64);
    assert_float_equal(z.total, 2.0 * (double)z.params, 0);
    assert_float_equal(z.read_per_token, z.total, 0);
    assert_float_equal(z.effective_bpw, 16, 1e-12);
    assay_config_deinit(&c);
}

/* A recipe by name: the MLP at 4 bits, attention at 8. */
static assay_status mixed(void *ctx, assay_storage *out, const assay_tensor_spec *t, assay_err *err) {
    (void)ctx;
    if (!t->is_linear) return ASSAY_OK;
    return assay_storage_parse(out, strstr(t->name, "mlp") ? "int4g128" : "int8", err);
}

static void a_mixed_recipe_has_a_line_per_storage(void **state) {
    (void)state;
    assay_config c;
    assay_sizes z;
    assay_err err = {0};
    llama(&c, 8);
    assert_int_equal(assay_sizes_compute(&z, &c, mixed, NULL, &err), ASSAY_OK);
    assert_int_equal(z.n_lines, 5);
    double attention = 32.0 * (2.0 * 4096 * 4096 + 2.0 * 1024 * 4096), mlp = 32.0 * 3 * 14336 * 4096;
    double codes = 0;
    for (int i = 0; i < z.n_lines; i++)
        if (z.lines[i].part == ASSAY_PART_LINEAR) codes += z.lines[i].codes;
    assert_float_equal(codes, attention + mlp / 2, 0);
    assay_config_deinit(&c);
}

/* --- KV cache --- */

/* Llama 3.1 8B: 32 layers * 8 heads * 128 * 2 (K, V) * 2 B = 131,072 B per token; 8192 tokens are 1 GiB
 * exactly. */
static void kv_of_llama_8b_is_one_gib_at_8192(void **state) {
    (void)state;
    assay_config c;
    llama(&c, 8);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_F16) * 32, 131072, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 8192, 1, 1), GIB, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 8192, 16, 8192), GIB, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 8191, 16, 1), GIB,
                       0); /* rounded up to a block */
    /* 8 bits: half, plus 2 * 8 heads * 4 B of scales per token and layer; q8_0 8.5 bits, q4_0 4.5 bits,
     * nvfp4 4.5 bits */
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_FP8), 2 * 8 * 128, 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_INT8), 2 * 8 * (128 + 4), 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_Q8_0), 2 * 8 * 128 * 8.5 / 8, 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_Q4_0), 2 * 8 * 128 * 4.5 / 8, 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_INT4), 2 * 8 * (64 + 4), 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_NVFP4), 2 * 8 * (64 + 8), 0);
    assay_config_deinit(&c);
    assay_kv_format k;
    for (int i = 0; i < ASSAY_KV_FORMAT_NATIVE_FP8; i++) {
        assert_true(assay_kv_parse(&k, assay_kv_name((assay_kv_format)i)));
        assert_int_equal(k, i);
    }
    assert_false(assay_kv_parse(&k, "f12"));
}

/* This engine's own layouts, to the byte as its cache has them (tests/model/test_kv.c): 4.5 and 8.5 bits, 8 and 4 bytes per 64 tokens
 * and head; beside them the page of 64 tokens that is not quantized yet. */
static void the_engine_keeps_keys_and_values_its_own_way(void **state) {
    (void)state;
    assay_config c;
    llama(&c, 8);
    static const struct { const char *name; double bits; } cases[] = {{"int4", 4.5}, {"int8", 8.5}, {"fp8", 8 + 32.0 / (64 * 128)}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_kv_format k, own;
        assert_true(assay_kv_parse(&k, cases[i].name));
        own = assay_kv_of_runtime(k, "native");
        assert_int_not_equal(own, k);
        assert_string_equal(assay_kv_name(own), cases[i].name);
        assert_int_equal(assay_kv_of_runtime(k, "vllm"), k);
        assert_int_equal(assay_kv_of_runtime(k, NULL), k);
        double token = 2 * 8 * 128 * cases[i].bits / 8, raw = 64 * 131072;
        assert_float_equal(assay_kv_token_layer_bytes(&c, own), token, 0);
        assert_float_equal(assay_kv_sequence_bytes(&c, own, 8192, 1, 1), 32 * 8192 * token + raw, 0);
        assert_float_equal(assay_kv_sequence_bytes(&c, own, 8129, 1, 1), 32 * 8192 * token + raw, 0); /* whole pages */
    }
    assert_int_equal(assay_kv_of_runtime(ASSAY_KV_FORMAT_BF16, "native"), ASSAY_KV_FORMAT_BF16);
    assay_plan_opts o = {.kv = ASSAY_KV_FORMAT_INT4, .runtime = "native", .serving = {.context = 8192}};
    assay_plan p;
    assert_int_equal(assay_plan_make(&p, &c, NULL, NULL, &o, NULL), ASSAY_OK);
    assert_float_equal(p.kv_per_token, 131072 * 4.5 / 16, 0);
    assert_float_equal(p.fits[0].kv * p.fits[0].n_parallel, 32 * 8192 * 2 * 8 * 128 * 4.5 / 8 + 64 * 131072, 1);
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
}

static void the_shared_llama_8b_config_gives_the_same(void **state) {
    (void)state;
    const char *shared = getenv("ASSAY_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/tokenizers/configs/llama-3.1-8b.config.json",
             shared ? shared : "../shared");
    if (!assay_path_exists(path)) {
        print_message("no %s\n", path);
        skip();
    }
    assay_config c;
    assay_sizes z;
    assay_err err = {0};
    assert_int_equal(assay_config_open(&c, path, &err), ASSAY_OK);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 8192, 1, 1), GIB, 0);
    assert_int_equal(assay_sizes_compute(&z, &c, NULL, NULL, &err), ASSAY_OK);
    assert_int_equal(z.params, 8030261248); /* the model card's 8.03 B */
    assay_config_deinit(&c);
}

/* A window of 4096 keeps W - 1 + chunk tokens per layer; Qwen2's first layers do not slide. */
static void sliding_windows_bound_the_cache_layer_by_layer(void **state) {
    (void)state;
    assay_config c;
    llama(&c, 8);
    c.sliding_window = 4096;
    memset(c.layer, ASSAY_LAYER_SLIDES, 32);
    double layer = assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_F16);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 2048, 1, 1), 32 * 2048 * layer, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 100000, 1, 1), 32 * 4096 * layer, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 100000, 1, 512),
                       32 * (4095 + 512) * layer, 0);
    memset(c.layer, 0, 28);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 10000, 1, 1),
                       (28 * 10000 + 4 * 4096) * layer, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 0, 1, 1), 0, 0);
    assay_config_deinit(&c);
}

/* --- devices and prices --- */

static void every_figure_of_a_device_has_a_source(void **state) {
    (void)state;
    size_t n;
    const assay_device *d = assay_devices(&n);
    assert_true(n >= 30);
    for (size_t i = 0; i < n; i++) {
        const assay_figure *f[] = {&d[i].memory, &d[i].bandwidth, &d[i].f16, &d[i].int8, &d[i].fp8};
        for (size_t k = 0; k < ASSAY_LEN(f); k++) {
            if (isnan(f[k]->value)) {
                assert_null(f[k]->source);
                continue;
            }
            assert_true(f[k]->value > 0);
            if (!assay_source_find(f[k]->source)) fail_msg("%s: no source '%s'", d[i].id, f[k]->source);
        }
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(d[i].id, d[k].id);
        /* plausible orders of magnitude: a wrong unit would be off by 1000 */
        if (!isnan(d[i].memory.value)) assert_in_range((uint64_t)(d[i].memory.value / 1e9), 8, 1024);
        assert_in_range((uint64_t)(d[i].bandwidth.value / 1e9), 50, 20000);
        if (!isnan(d[i].f16.value) && !isnan(d[i].int8.value)) assert_true(d[i].int8.value > d[i].f16.value);
    }
    size_t n_sources;
    const assay_source *s = assay_sources(&n_sources);
    for (size_t i = 0; i < n_sources; i++)
        assert_true(strlen(s[i].title) > 0 && strlen(s[i].date) >= 7);
    size_t n_runtimes;
    const assay_runtime_profile *r = assay_runtime_profiles(&n_runtimes);
    for (size_t i = 0; i < n_runtimes; i++)
        assert_non_null(assay_source_find(r[i].source));
}

static void an_unknown_device_is_named_with_the_nearest(void **state) {
    (void)state;
    const assay_device *d;
    assay_err err = {0};
    assert_int_equal(assay_device_find(&d, "h100-sxm", &err), ASSAY_OK);
    assert_float_equal(d->memory.value, 80e9, 0);
    assert_int_equal(assay_device_find(&d, "h100-sxn", &err), ASSAY_ENOTFOUND);
    assert_string_equal(err.message, "unknown device 'h100-sxn', did you mean 'h100-sxm'");
    const assay_runtime_profile *r;
    memset(&err, 0, sizeof err);
    assert_int_equal(assay_runtime_profile_find(&r, "vlm", &err), ASSAY_ENOTFOUND);
    assert_non_null(strstr(err.message, "known are native, vllm"));
}

static assay_status prices(assay_prices **p, const char *text, assay_err *err) {
    memset(err, 0, sizeof *err);
    return assay_prices_parse(p, text, strlen(text), "prices.yaml", err);
}

static void a_price_needs_its_date(void **state) {
    (void)state;
    assay_prices *p;
    assay_err err;
    assert_int_equal(prices(&p,
                            "prices:\n  - {device: l4, per_hour: 0.8, date: 2026-05-20, source: x}\n"
                            "  - {device: l4, per_hour: 0.7, date: 2026-06, region: eu, tier: spot}\n"
                            "  - {device: l4, per_hour: 0.9, date: 2025-12-31, currency: EUR}\n",
                            &err),
                     ASSAY_OK);
    const assay_price *l4 = assay_prices_find(p, "l4");
    assert_float_equal(l4->per_hour, 0.7, 0); /* the latest */
    assert_string_equal(l4->date, "2026-06");
    assert_string_equal(l4->currency, "USD");
    assert_string_equal(l4->region, "eu");
    assert_null(assay_prices_find(p, "t4"));
    assert_null(assay_prices_find(NULL, "t4"));
    assay_prices_free(p);

    static const struct {
        const char *text, *says;
    } bad[] = {
        {"prices:\n  - {device: l4, per_hour: 0.8}\n", "prices.yaml:2: price of l4 has no date"},
        {"prices:\n  - {device: l4, per_hour: 0.8, date: ''}\n", "no date"},
        {"prices:\n  - {device: l4, per_hour: 0.8, date: yesterday}\n", "'yesterday' is no date"},
        {"prices:\n  - {device: l4, per_hour: 0.8, date: 2026-13-01}\n", "is no date"},
        {"prices:\n  - {device: l4, per_hour: 0.8, date: 2026-01-32}\n", "is no date"},
        {"prices:\n  - {device: l4, date: 2026-01-01}\n", "needs per_hour"},
        {"prices:\n  - {per_hour: 1, date: 2026-01-01}\n", "needs a device"},
        {"prices:\n  - {device: l4, per_hour: -1, date: 2026-01-01}\n", "per_hour"},
        {"prices:\n  - {device: l4, per_hour: 1, date: 2026-01-01, regoin: eu}\n", "regoin"},
        {"costs: []\n", "costs"},
        {"[]\n", "prices.yaml"},
    };
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assert_int_equal(prices(&p, bad[i].text, &err), ASSAY_EINPUT);
        if (!strstr(err.message, bad[i].says)) fail_msg("'%s' does not say '%s'", err.message, bad[i].says);
        assert_null(p);
    }
}

static void the_example_price_file_loads(void **state) {
    (void)state;
    assay_prices *p;
    assay_err err = {0};
    if (assay_prices_load(&p, "examples/prices.yaml", &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_non_null(assay_prices_find(p, "h100-sxm"));
    assay_prices_free(p);
}

/* --- plans --- */

static void plan_on(assay_plan *p, const assay_config *c, const char *store, const char *device,
                    assay_plan_opts o) {
    static assay_storage s;
    static const assay_device *d[1];
    assay_err err = {0};
    s = storage(store);
    assert_int_equal(assay_device_find(&d[0], device, &err), ASSAY_OK);
    o.devices = d;
    o.n_devices = 1;
    if (assay_plan_make(p, c, assay_storage_uniform, &s, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(p->n_fits, 1);
}

/* DeepSeek-V2-Lite: 512 + 64 numbers of a token and layer, key and value at once, whole on each device. */
static void latents_are_counted_once(void **state) {
    (void)state;
    assay_config c;
    llama(&c, 8);
    c.kv_rank = 512;
    c.rotary_dim = 64;
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_F16), 576 * 2, 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_FP8), 576, 0);
    assert_float_equal(assay_kv_token_layer_bytes(&c, assay_kv_of_runtime(ASSAY_KV_FORMAT_FP8, "native")), 576 + 4.0 / 64, 0);
    assert_float_equal(assay_kv_sequence_bytes(&c, assay_kv_of_runtime(ASSAY_KV_FORMAT_FP8, "native"), 640, 1, 1),
                       32 * (640 * (576 + 4.0 / 64) + 64 * 576 * 2), 0);
    assay_config_deinit(&c);
}

/* This engine gives no page back before its sequence ends; vLLM does. */
static void who_frees_what_windows_leave(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    llama(&c, 8);
    c.sliding_window = 1024;
    memset(c.layer, ASSAY_LAYER_SLIDES, 32);
    double layer = assay_kv_token_layer_bytes(&c, ASSAY_KV_FORMAT_F16);
    plan_on(&p, &c, "int4g128", "rtx-4090", (assay_plan_opts){.serving = {.context = 65536}});
    assert_float_equal(p.fits[0].kv * p.fits[0].n_parallel, 32 * 9216 * layer, 16 * 32 * layer); /* 1023 + 8192, whole blocks */
    assay_plan_deinit(&p);
    plan_on(&p, &c, "int4g128", "rtx-4090", (assay_plan_opts){.runtime = "native", .serving = {.context = 65536}});
    assert_float_equal(p.fits[0].kv, 32 * 65536 * layer, 0);
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
}

/* Llama 3.1 8B in bf16 under vLLM on an L4, 4 sequences of 8192:
 *   budget       24e9 * 0.9 = 21.6e9
 *   weights      16,060,522,496
 *   KV           4 GiB
 *   activations  8192 tokens * 2 B * (2 * 4096 + 3 * 14336) + logits of 4 * 128256 * 4 B
 *   overhead     1 GiB
 * makes 22.3e9 B: it does not fit one, and fits two. */
static void memory_adds_up(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    llama(&c, 8);
    plan_on(&p, &c, "bf16", "l4",
            (assay_plan_opts){.serving = {.context = 8192, .concurrency = 4}, .max_parallel = 1});
    const assay_fit *f = &p.fits[0];
    double act = 8192.0 * 2 * (2 * 4096 + 3 * 14336) + 4.0 * 4 * 128256;
    assert_string_equal(f->runtime->id, "vllm");
    assert_float_equal(f->budget, 21.6e9, 1);
    assert_float_equal(f->weights, 16060522496.0, 0);
    assert_float_equal(f->kv, 4 * GIB, 0);
    assert_float_equal(f->activations, act, 0);
    assert_float_equal(f->overhead, GIB, 0);
    assert_float_equal(f->left, 21.6e9 - 16060522496.0 - 4 * GIB - act - GIB, 1);
    assert_false(f->fits);
    assert_true(f->left < 0);
    assert_true(isnan(f->ttft) && isnan(f->tpot) && isnan(f->output_rate));
    assay_plan_deinit(&p);

    plan_on(&p, &c, "bf16", "l4", (assay_plan_opts){.serving = {.context = 8192, .concurrency = 4}});
    f = &p.fits[0];
    assert_true(f->fits);
    assert_int_equal(f->n_parallel, 2);
    double vectors = 2.0 * 65 * 4096; /* norms are not split */
    assert_float_equal(f->weights, (16060522496.0 - vectors) / 2 + vectors, 0);
    assert_float_equal(f->kv, 2 * GIB, 0);
    assert_float_equal(assay_plan_memory_at(&p, f, 8192, 4),
                       f->weights + f->kv + f->activations + f->overhead, 1);
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
}

/* What the plan calls the largest must fit, and one more must not. */
static void the_largest_context_and_concurrency_are_the_largest(void **state) {
    (void)state;
    static const char *const devices[] = {"l4", "rtx-4090", "h100-sxm", "m4-max"};
    static const char *const stores[] = {"bf16", "int4g128", "nf4dq"};
    assay_config c;
    llama(&c, 8);
    for (size_t i = 0; i < ASSAY_LEN(devices); i++) {
        for (size_t k = 0; k < ASSAY_LEN(stores); k++) {
            assay_plan p;
            plan_on(&p, &c, stores[k], devices[i],
                    (assay_plan_opts){.serving = {.context = 4096, .concurrency = 2}});
            const assay_fit *f = &p.fits[0];
            assert_true(f->fits);
            assert_true(f->max_context >= 4096 && f->max_concurrency >= 2);
            assert_true(assay_plan_memory_at(&p, f, f->max_context, 2) <= f->budget);
            if (f->max_context < 131072)
                assert_true(assay_plan_memory_at(&p, f, f->max_context + 1, 2) > f->budget);
            assert_true(assay_plan_memory_at(&p, f, 4096, f->max_concurrency) <= f->budget);
            assert_true(assay_plan_memory_at(&p, f, 4096, f->max_concurrency + 1) > f->budget);
            assay_plan_deinit(&p);
        }
    }
    assay_config_deinit(&c);
}

static void seventy_billion_need_several_small_devices(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    llama(&c, 70);
    plan_on(&p, &c, "int4g128", "rtx-4090", (assay_plan_opts){.serving = {.context = 8192}});
    assert_true(p.fits[0].fits);
    assert_int_equal(p.fits[0].n_parallel, 4);
    assay_plan_deinit(&p);
    plan_on(&p, &c, "int4g128", "h100-sxm", (assay_plan_opts){.serving = {.context = 8192}});
    assert_int_equal(p.fits[0].n_parallel, 1);
    assay_plan_deinit(&p);
    plan_on(&p, &c, "bf16", "m1", (assay_plan_opts){.serving = {.context = 8192}}); /* one Mac is one Mac */
    assert_false(p.fits[0].fits);
    assert_int_equal(p.fits[0].n_parallel, 1);
    assert_int_equal(p.fits[0].max_context, 0);
    assay_plan_deinit(&p);
    /* eight KV heads on sixteen devices: each holds one, none holds a half */
    plan_on(&p, &c, "f32", "rtx-4090",
            (assay_plan_opts){.serving = {.context = 8192, .concurrency = 8}, .max_parallel = 16});
    assert_int_equal(p.fits[0].n_parallel, 16);
    assert_float_equal(p.fits[0].kv, 8 * assay_kv_sequence_bytes(&c, ASSAY_KV_FORMAT_F16, 8192, 16, 8192) / 8,
                       1);
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
}

/* Decode of one sequence on an H100 in bf16 is bound by bandwidth: (weights - embedding + KV) / (3350e9 *
 * 0.7) + launch. */
static void decode_is_the_bytes_over_the_bandwidth(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    llama(&c, 8);
    plan_on(
        &p, &c, "bf16", "h100-sxm",
        (assay_plan_opts){.serving = {.context = 2048, .prompt = 1000, .output = 200}, .launch_seconds = -1});
    const assay_fit *f = &p.fits[0];
    double read = 16060522496.0 - 2.0 * 128256 * 4096, kv = 131072.0 * 1104; /* 1100 tokens in blocks of 16 */
    assert_int_equal(f->tpot_bound, ASSAY_BOUND_BANDWIDTH);
    assert_float_equal(f->tpot, (read + kv) / (3350e9 * 0.7), 1e-9);
    /* prefill: 2 operations per multiply-add, the head for one token, and the causal triangle of attention */
    double macs = (8030261248.0 - 2.0 * 128256 * 4096 - 65.0 * 4096) * 1000 + 128256.0 * 4096 +
                  2.0 * 4096 * 32 * (1000.0 * 1001 / 2);
    assert_int_equal(f->ttft_bound, ASSAY_BOUND_COMPUTE);
    assert_float_equal(f->ttft, 2 * macs / (989.4e12 * 0.5), 1e-9);
    assay_plan_deinit(&p);

    /* many sequences of a short context: compute takes over */
    plan_on(&p, &c, "bf16", "h100-sxm",
            (assay_plan_opts){.serving = {.context = 64, .prompt = 32, .output = 32, .concurrency = 2048}});
    assert_int_equal(p.fits[0].tpot_bound, ASSAY_BOUND_COMPUTE);
    assay_plan_deinit(&p);

    /* weight-only 4 bits read less and compute at the 16-bit peak: same prefill, faster decode; 8-bit
     * activations use the int8 peak */
    assay_plan q, w8;
    assay_plan_opts o = {.serving = {.context = 2048, .prompt = 1000, .output = 200}, .launch_seconds = -1};
    plan_on(&p, &c, "bf16", "h100-sxm", o);
    plan_on(&q, &c, "int4g128", "h100-sxm", o);
    plan_on(&w8, &c, "llm_int8", "h100-sxm", o);
    assert_float_equal(p.fits[0].ttft, q.fits[0].ttft, 1e-12);
    assert_true(q.fits[0].tpot < p.fits[0].tpot * 0.4);
    assert_true(w8.fits[0].ttft < p.fits[0].ttft * 0.6);
    assay_plan_deinit(&p);
    assay_plan_deinit(&q);
    assay_plan_deinit(&w8);
    assay_config_deinit(&c);
}

static void what_is_unknown_stays_unknown(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    llama(&c, 8);
    plan_on(&p, &c, "int4g128", "m2-max", (assay_plan_opts){0}); /* compute rate unknown */
    assert_true(p.fits[0].fits);
    assert_true(isnan(p.fits[0].ttft));
    assert_int_equal(p.fits[0].tpot_bound, ASSAY_BOUND_UNKNOWN);
    assert_true(p.fits[0].tpot > 0);
    assert_true(isnan(p.fits[0].output_rate));
    assay_plan_deinit(&p);
    plan_on(&p, &c, "int4g128", "epyc-9004", (assay_plan_opts){0}); /* memory unknown */
    assert_false(p.fits[0].fits);
    assert_true(isnan(p.fits[0].budget) && isnan(p.fits[0].left));
    assert_true(p.fits[0].tpot > 0);
    assert_true(p.fits[0].weights > 0);
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
}

/* cost = price / 3600 / (rate * utilisation) * 1e6 */
static void cost_follows_from_price_rate_and_utilisation(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    assay_prices *pr;
    assay_err err;
    assert_int_equal(prices(&pr, "prices:\n  - {device: h100-sxm, per_hour: 3.6, date: 2026-05-20}\n", &err),
                     ASSAY_OK);
    llama(&c, 8);
    plan_on(&p, &c, "bf16", "h100-sxm",
            (assay_plan_opts){.prices = pr, .serving = {.prompt = 900, .output = 100, .concurrency = 8}});
    const assay_fit *f = &p.fits[0];
    assert_float_equal(f->output_rate, 100 / (f->ttft + 100 * f->tpot / 8), 1e-6);
    assert_float_equal(f->cost_output, 0.001 / (f->output_rate * 0.5) * 1e6, 1e-9);
    assert_float_equal(f->cost_total, f->cost_output / 10, 1e-9);
    assert_string_equal(f->price->date, "2026-05-20");
    assay_plan_deinit(&p);
    plan_on(&p, &c, "bf16", "a100-80gb", (assay_plan_opts){.prices = pr});
    assert_null(p.fits[0].price);
    assert_true(isnan(p.fits[0].cost_output));
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
    assay_prices_free(pr);
}

static void contradictions_are_refused(void **state) {
    (void)state;
    static const struct {
        assay_plan_opts o;
        const char *says;
    } bad[] = {
        {{.serving = {.context = 200000}}, "beyond the model's 131072 positions"},
        {{.serving = {.context = 1000, .prompt = 900, .output = 200}}, "do not fit into context"},
        {{.serving = {.context = 1000, .prompt = 1000}}, "do not fit into context"},
        {{.serving = {.concurrency = -1}}, "cannot be negative"},
        {{.eta_memory = 1.5}, "eta_memory is 1.5"},
        {{.eta_compute = -0.1}, "eta_compute"},
        {{.runtime = "vlm"}, "unknown runtime"},
        {{.max_parallel = -2}, "max_parallel"},
    };
    assay_config c;
    llama(&c, 8);
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_plan p;
        assay_err err = {0};
        assay_status s = assay_plan_make(&p, &c, NULL, NULL, &bad[i].o, &err);
        assert_int_not_equal(s, ASSAY_OK);
        if (!strstr(err.message, bad[i].says)) fail_msg("'%s' does not say '%s'", err.message, bad[i].says);
        assay_plan_deinit(&p);
    }
    assay_config_deinit(&c);
}

static void the_whole_table_plans_and_becomes_json(void **state) {
    (void)state;
    assay_config c;
    assay_plan p;
    assay_err err = {0};
    llama(&c, 70);
    assay_storage s = storage("nf4dq");
    assert_int_equal(assay_plan_make(&p, &c, assay_storage_uniform, &s, NULL, &err), ASSAY_OK);
    size_t n;
    assay_devices(&n);
    assert_int_equal(p.n_fits, n);
    json_t *j = NULL;
    assert_int_equal(assay_plan_to_json(&j, &p, &err), ASSAY_OK);
    assert_string_equal(json_string_value(json_object_get(j, "schema")), "assay.plan/1");
    assert_int_equal(json_array_size(json_object_get(j, "devices")), n);
    const json_t *sources = json_object_get(j, "sources");
    size_t i;
    json_t *d;
    json_array_foreach(json_object_get(j, "devices"), i, d) {
        const char *code = json_string_value(json_object_get(json_object_get(d, "bandwidth"), "source"));
        assert_non_null(json_object_get(sources, code));
    }
    json_decref(j);
    assay_plan_deinit(&p);
    assay_config_deinit(&c);
}

static void out_of_memory_is_a_status(void **state) {
    (void)state;
    assay_config c;
    llama(&c, 8);
    for (long i = 0;; i++) {
        assay_plan p;
        assay_prices *pr = NULL;
        assay_err err = {0};
        assay_mem_fail_after(i);
        const char *text = "prices:\n  - {device: l4, per_hour: 0.8, date: 2026-05-20}\n";
        assay_status s = assay_prices_parse(&pr, text, strlen(text), "p", &err);
        if (s == ASSAY_OK)
            s = assay_plan_make(&p, &c, NULL, NULL, &(assay_plan_opts){.prices = pr}, &err);
        else
            memset(&p, 0, sizeof p);
        assay_mem_fail_after(-1);
        assay_plan_deinit(&p);
        assay_prices_free(pr);
        if (s == ASSAY_OK) {
            assert_true(i > 0);
            break;
        }
        assert_int_equal(s, ASSAY_ENOMEM);
        assert_true(i < 10000);
    }
    assay_config_deinit(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storage_names_round_trip),
        cmocka_unit_test(bits_per_weight_of_a_matrix),
        cmocka_unit_test(llama_70b_at_4_bits_line_by_line),
        cmocka_unit_test(tied_heads_count_once_and_are_read_all_the_same),
        cmocka_unit_test(a_mixed_recipe_has_a_line_per_storage),
        cmocka_unit_test(kv_of_llama_8b_is_one_gib_at_8192),
        cmocka_unit_test(the_engine_keeps_keys_and_values_its_own_way),
        cmocka_unit_test(the_shared_llama_8b_config_gives_the_same),
        cmocka_unit_test(latents_are_counted_once),
        cmocka_unit_test(who_frees_what_windows_leave),
        cmocka_unit_test(sliding_windows_bound_the_cache_layer_by_layer),
        cmocka_unit_test(every_figure_of_a_device_has_a_source),
        cmocka_unit_test(an_unknown_device_is_named_with_the_nearest),
        cmocka_unit_test(a_price_needs_its_date),
        cmocka_unit_test(the_example_price_file_loads),
        cmocka_unit_test(memory_adds_up),
        cmocka_unit_test(the_largest_context_and_concurrency_are_the_largest),
        cmocka_unit_test(seventy_billion_need_several_small_devices),
        cmocka_unit_test(decode_is_the_bytes_over_the_bandwidth),
        cmocka_unit_test(what_is_unknown_stays_unknown),
        cmocka_unit_test(cost_follows_from_price_rate_and_utilisation),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(the_whole_table_plans_and_becomes_json),
        cmocka_unit_test(out_of_memory_is_a_status),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
