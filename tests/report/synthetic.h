/* synthetic.h: a study that never ran, for looking at reports: eight variants of an 8-billion-parameter
 * model, or twenty-two, on five dimensions, perplexity and KL. Numbers come from a seeded generator and
 * normal approximations; they are plausible, not true. Some texts are hostile on purpose: markup, quotes,
 * invalid UTF-8, control and direction characters. */
#ifndef TESTS_REPORT_SYNTHETIC_H
#define TESTS_REPORT_SYNTHETIC_H

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/rng.h"
#include "report/report.h"

#define N_VARIANTS    8
#define MOST_VARIANTS 22
#define N_SLICES      16
#define N_ROWS        (N_SLICES + 5 + 2)
#define N_LAYERS      32
#define MOST_FLIPS    60

typedef struct synthetic_spec {
    const char *name, *recipe, *storage;
    double harm; /* chance that a right answer becomes wrong */
    double kl;   /* mean KL */
    bool mixture;
    const char *kv;
} synthetic_spec;

typedef struct synthetic {
    assay_report report;
    assay_report_variant variants[MOST_VARIANTS];
    assay_gate gates[MOST_VARIANTS];
    assay_gate_row rows[MOST_VARIANTS][N_ROWS];
    assay_gate_flip flips[MOST_VARIANTS][MOST_FLIPS];
    char texts[MOST_VARIANTS][MOST_FLIPS][2][160];
    char ids[MOST_FLIPS][24];
    assay_layer_loss losses[MOST_VARIANTS][N_LAYERS * 7];
    char tensors[N_LAYERS * 7][64];
    assay_plan plans[MOST_VARIANTS];
    assay_storage storages[MOST_VARIANTS];
    assay_config config;
    assay_prices *prices;
    const synthetic_spec *specs;
    int n;
    assay_policy policy;
    json_t *manifest;
    const assay_device *devices[4];
    const char *reasons[4], *next[2];
} synthetic;

static const synthetic_spec synthetic_specs[N_VARIANTS] = {
    {"bf16", "the checkpoint as it is", "bf16", 0, 0, false, NULL},
    {"llm_int8", "LLM.int8(), row-wise absmax, outliers above 6.0 in 16 bits", "llm_int8", 0.0005, 0.0004,
     false, NULL},
    {"int8", "round to nearest, 8 bits in groups of 128", "int8g128", 0.0005, 0.0003, false, NULL},
    {"mixed", "MLP in 4 bits, attention in 8", "int5g128", 0.002, 0.006, true, NULL},
    {"nf4", "NF4 in blocks of 64, double quantization", "nf4dq", 0.004, 0.014, false, NULL},
    {"int4", "round to nearest, 4 bits in groups of 128, asymmetric", "int4g128a", 0.006, 0.021, false, NULL},
    {"int3", "round to nearest, 3 bits in groups of 128", "int3g128a", 0.034, 0.16, false, NULL},
    {"int2", "round to nearest, 2 bits in groups of 128", "int2g128a", 0.72, 3.4, false, NULL},
};

/* What a study of every method looks like: sizes close to each other, KL over four decades, long names. */
static const synthetic_spec synthetic_many[MOST_VARIANTS] = {
    {"bf16", "the checkpoint as it is", "bf16", 0, 0, false, NULL},
    {"bf16-kv8", "the checkpoint as it is, int8 KV cache", "bf16", 0.0004, 0.0011, false, "int8"},
    {"llm_int8", "LLM.int8(), row-wise absmax, outliers above 6.0 in 16 bits", "llm_int8", 0.0005, 0.0004,
     false, NULL},
    {"smoothquant", "SmoothQuant, alpha 0.5, 8 bits per channel", "int8", 0.0006, 0.0012, false, NULL},
    {"fp8", "E4M3 per channel, dynamic per token", "fp8_e4m3", 0.0006, 0.0016, false, NULL},
    {"int8", "round to nearest, 8 bits in groups of 128", "int8g128", 0.0005, 0.0003, false, NULL},
    {"int6", "round to nearest, 6 bits in groups of 128", "int6g128", 0.0008, 0.0014, false, NULL},
    {"int5", "round to nearest, 5 bits in groups of 128", "int5g128", 0.002, 0.006, false, NULL},
    {"mix5.0", "mixture of 5 bits, GPTQ", "int5g128a", 0.001, 0.0031, true, NULL},
    {"nf4", "NF4 in blocks of 64, double quantization", "nf4dq", 0.004, 0.014, false, NULL},
    {"fp4", "FP4 in blocks of 64", "fp4", 0.007, 0.024, false, NULL},
    {"mxfp4", "MXFP4", "mxfp4", 0.007, 0.031, false, NULL},
    {"nvfp4-gptq", "NVFP4, GPTQ", "nvfp4", 0.003, 0.011, false, NULL},
    {"int4-rtn-g128", "round to nearest, 4 bits in groups of 128, asymmetric", "int4g128a", 0.006, 0.021,
     false, NULL},
    {"int4-gptq-g128", "GPTQ, static order", "int4g128a", 0.003, 0.012, false, NULL},
    {"int4-awq-g128", "AWQ, scales and clip", "int4g128a", 0.003, 0.0127, false, NULL},
    {"int4-autoround", "AutoRound, 200 iterations", "int4g128a", 0.0028, 0.0109, false, NULL},
    {"int4-hqq-g64", "HQQ", "int4g64a", 0.004, 0.016, false, NULL},
    {"int4-gptq-kv4", "GPTQ, static order, int4 KV cache", "int4g128a", 0.004, 0.019, false, "int4"},
    {"mix4.25", "mixture of 4.25 bits, GPTQ", "int4g128", 0.0026, 0.0098, true, NULL},
    {"int3-autoround", "AutoRound, 200 iterations", "int3g128a", 0.012, 0.055, false, NULL},
    {"int2-gptq-g32", "GPTQ, 2 bits in groups of 32", "int2g32a", 0.3, 0.9, false, NULL},
};

static const struct {
    const char *dimension, *slice;
    double right;
} synthetic_slices[N_SLICES] = {
    {"math", "add2", 1.0},         {"math", "add3", 0.95},       {"math", "sub2", 0.83},
    {"math", "word", 0.97},        {"code", "assign", 0.8},      {"code", "loop", 1.0},
    {"code", "branch", 0.97},      {"code", "reverse", 1.0},     {"structured", "flat", 1.0},
    {"structured", "nested", 1.0}, {"structured", "typed", 1.0}, {"recall", "4 keys", 1.0},
    {"recall", "8 keys", 0.97},    {"recall", "24 keys", 0.85},  {"knowledge", "common", 1.0},
    {"knowledge", "rare", 0.99},
};

static assay_gate_limit synthetic_limit(double value, double limit) {
    return (assay_gate_limit){.value = value,
                              .lower = value,
                              .upper = value,
                              .limit = limit,
                              .verdict = isnan(limit)     ? ASSAY_VERDICT_INFO
                                         : value <= limit ? ASSAY_VERDICT_PASS
                                                          : ASSAY_VERDICT_FAIL};
}

static void synthetic_judge(assay_gate_row *r) {
    if (isnan(r->margin))
        r->verdict = ASSAY_VERDICT_INFO, r->reason = "reported, not judged";
    else if (r->lower > -r->margin)
        r->verdict = ASSAY_VERDICT_PASS, r->reason = "lower bound above the margin";
    else if (r->upper < -r->margin)
        r->verdict = ASSAY_VERDICT_FAIL, r->reason = "upper bound below the margin";
    else
        r->verdict = ASSAY_VERDICT_INCONCLUSIVE, r->reason = "the interval holds the margin: too few items",
        r->items_needed = 3.0 * (double)r->n;
}

static void synthetic_row(assay_gate_row *r, const char *dimension, const char *slice, size_t n, size_t right,
                          size_t worse, size_t better, double margin) {
    double d = ((double)better - (double)worse) / (double)n, f = (double)(better + worse) / (double)n;
    double se = sqrt(fmax(f - d * d, 0.35 / (double)n) / (double)n);
    *r = (assay_gate_row){.dimension = dimension,
                          .slice = slice,
                          .metric = ASSAY_METRIC_ACCURACY,
                          .n = n,
                          .n_paired = n,
                          .n_clusters = n};
    r->baseline = (double)right / (double)n;
    r->variant = r->baseline + d;
    r->diff = d;
    r->lower = fmax(d - 1.645 * se, -1);
    r->upper = fmin(d + 1.645 * se, 1);
    r->level = 0.9;
    r->interval = "tango";
    r->right_wrong = worse;
    r->wrong_right = better;
    r->flip_rate = f;
    r->p = 0.5 * erfc(-d / se / sqrt(2));
    r->p_holm = fmin(1, r->p * N_ROWS);
    r->alarm = r->p_holm < 0.05;
    r->q_bh = r->p_holm;
    r->margin = margin;
    r->mde = 2.486 * sqrt(fmax(f, 0.005) / (double)n);
    r->items_needed = NAN;
    r->length = synthetic_limit(1 + f * 0.6, 1.1);
    r->truncated = synthetic_limit(f * 0.05, 0.02);
    r->invalid = synthetic_limit(f * 0.02, NAN);
    r->errors = synthetic_limit(0, 0);
    r->base_tokens = 14.2;
    r->cand_tokens = 14.2 * r->length.value;
    r->aa_flip_rate = 0;
    synthetic_judge(r);
}

static void synthetic_mean_row(assay_gate_row *r, assay_metric m, const char *dimension, double baseline,
                               double loss, double margin) {
    synthetic_row(r, dimension, NULL, 400, 400, 0, 0, margin);
    r->metric = m;
    r->baseline = baseline;
    r->variant = m == ASSAY_METRIC_PERPLEXITY ? baseline * exp(loss) : loss;
    r->diff = -loss;
    r->lower = -loss * 1.08 - 0.0005;
    r->upper = -loss * 0.92 + 0.0005;
    r->flip_rate = NAN;
    r->length = synthetic_limit(NAN, NAN);
    r->mde = 0.001;
    synthetic_judge(r);
}

/* Outputs that try to break out of every medium. */
static void synthetic_text(char *base, char *cand, size_t n, int k) {
    static const char *const pairs[][2] = {
        {"32 + 39 = 71. The answer is 71.", "32 + 39 = 61. The answer is 61."},
        {"{\"name\": \"transfer\", \"arguments\": {\"amount\": 250, \"currency\": \"EUR\"}}",
         "{\"name\": \"transfer\", \"arguments\": {\"amount\": \"250\", \"currency\": \"EUR\"}}"},
        {"def f(xs):\n    total = 0\n    for x in xs:\n        total += x\n    return total\n",
         "def f(xs):\n    total = 1\n    for x in xs:\n        total += x\n    return total\n"},
        {"The key of 'harbour' is 4711.",
         "The key of 'harbour' is 4771, I think, and the key of 'lantern' is 4711."},
        {"<script>alert('base')</script> & \"quotes\"",
         "<script>alert('cand')</script> </pre></body> <img src=x onerror=alert(1)>"},
        {"na\xc3\xafve \xff\xfe bytes and \x1b[31mescapes\x1b[0m", "na\xc3\xafve \xc3 bytes \xe2\x80\xae"
                                                                   "txt.exe"},
        {"", "\n\nSure! Here is the answer:"},
        {"Paris", "Paris, the capital of France, which lies on the Seine and has been"},
        {"7 \xc3\x97 8 = 56 \xe2\x9c\x93", "7 \xc3\x97 8 = 54 \xe2\x9c\x93"},
    };
    const char *const *p = pairs[k % (int)ASSAY_LEN(pairs)];
    snprintf(base, n, "%s", p[0]);
    snprintf(cand, n, "%s", p[1]);
}

static void synthetic_gate(synthetic *s, int v, assay_rng *rng) {
    assay_gate *g = &s->gates[v];
    const synthetic_spec *spec = &s->specs[v];
    *g = (assay_gate){.baseline = "bf16",
                      .variant = spec->name,
                      .baseline_id = 1,
                      .variant_id = v + 1,
                      .rerun_id = 99,
                      .suite = "suites/demo.yaml",
                      .suite_hash = "5d41402abc4b2a76b9719d911017c592",
                      .date = "2026-11-21",
                      .rows = s->rows[v],
                      .n_rows = 0,
                      .items_needed = NAN,
                      .flips = s->flips[v],
                      .policy = &s->policy};
    for (int i = 0; i < N_SLICES;) {
        int first = i;
        size_t sum_right = 0, sum_worse = 0, sum_better = 0, dim = g->n_rows++;
        for (; i < N_SLICES && synthetic_slices[i].dimension == synthetic_slices[first].dimension; i++) {
            size_t n = 200, right = (size_t)(200 * synthetic_slices[i].right), worse = 0, better = 0;
            for (size_t k = 0; k < n; k++) {
                double u = assay_rng_double(rng);
                if (k < right)
                    worse += u < spec->harm * (1 + 3 * (1 - synthetic_slices[i].right));
                else
                    better += u < spec->harm * 3 && spec->harm < 0.5;
            }
            synthetic_row(&s->rows[v][g->n_rows++], synthetic_slices[i].dimension, synthetic_slices[i].slice,
                          n, right, worse, better, 0.04);
            sum_right += right, sum_worse += worse, sum_better += better;
        }
        synthetic_row(&s->rows[v][dim], synthetic_slices[first].dimension, NULL, (size_t)(i - first) * 200,
                      sum_right, sum_worse, sum_better, 0.02);
        g->n_flips_to_wrong += sum_worse;
        g->n_flips_to_right += sum_better;
    }
    synthetic_mean_row(&s->rows[v][g->n_rows++], ASSAY_METRIC_PERPLEXITY, "prose", 6.24, spec->kl * 0.9,
                       log(1.05));
    synthetic_mean_row(&s->rows[v][g->n_rows++], ASSAY_METRIC_KL, "divergence", 0, spec->kl, NAN);
    g->n_items = 3200;
    g->n_changed = g->n_flips_to_wrong * 3 + g->n_flips_to_right * 2;
    for (size_t i = 0; i < g->n_rows; i++) {
        assay_verdict w = g->rows[i].verdict;
        g->n_pass += w == ASSAY_VERDICT_PASS;
        g->n_fail += w == ASSAY_VERDICT_FAIL;
        g->n_inconclusive += w == ASSAY_VERDICT_INCONCLUSIVE;
        g->n_info += w == ASSAY_VERDICT_INFO;
        g->n_alarm += g->rows[i].alarm;
    }
    g->verdict = g->n_fail           ? ASSAY_VERDICT_FAIL
                 : g->n_inconclusive ? ASSAY_VERDICT_INCONCLUSIVE
                                     : ASSAY_VERDICT_PASS;
    g->reason = g->n_fail           ? "at least one row is surely worse than its margin"
                : g->n_inconclusive ? "not every row could be settled with these items"
                                    : "every row is surely no worse than its margin";
    g->n_flips = ASSAY_MIN(g->n_flips_to_wrong + g->n_flips_to_right, MOST_FLIPS);
    for (size_t k = 0; k < g->n_flips; k++) {
        int slice = (int)(k * 5 % N_SLICES);
        bool to_wrong = k % 7 != 6;
        char *base = s->texts[v][k][0], *cand = s->texts[v][k][1];
        synthetic_text(base, cand, sizeof s->texts[v][k][0], (int)k);
        snprintf(s->ids[k], sizeof s->ids[k], "item-%03zu", k * 37 % 1000);
        s->flips[v][k] = (assay_gate_flip){.item_id = s->ids[k],
                                           .dimension = synthetic_slices[slice].dimension,
                                           .slice = synthetic_slices[slice].slice,
                                           .to_wrong = to_wrong,
                                           .base_output = base,
                                           .cand_output = cand,
                                           .base_ids = "[5, 6, 7, 8]",
                                           .cand_ids = "[5, 6, 9]",
                                           .base_answer = k % 3 ? NULL : "71",
                                           .cand_answer = k % 3 ? NULL : "6<1>",
                                           .cand_detail = k % 5 ? NULL : "value_error: arguments.amount"};
    }
}

static void synthetic_losses(synthetic *s, int v) {
    static const char *const roles[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                        "gate_proj", "up_proj", "down_proj"};
    double base = 0.55 * sqrt(s->specs[v].kl);
    for (int i = 0; v && i < N_LAYERS * 7; i++) {
        int layer = i / 7, role = i % 7;
        const char *in = role < 4 ? "self_attn" : "mlp";
        snprintf(s->tensors[i], sizeof s->tensors[i], "model.layers.%d.%s.%s.weight", layer, in, roles[role]);
        double e = base * (1 + 0.5 * sin(role * 1.7 + 0.3) + 0.7 * exp(-layer / 4.0) +
                           0.4 * (layer == 31) * (role == 6));
        s->losses[v][i] = (assay_layer_loss){.tensor = s->tensors[i],
                                             .layer = layer,
                                             .role = roles[role],
                                             .precision = s->specs[v].storage,
                                             .bits = 4.13,
                                             .method = "rtn",
                                             .weight_error = e,
                                             .output_error = e * 0.8,
                                             .seconds = 0.2};
    }
    s->variants[v].losses = s->losses[v];
    s->variants[v].n_losses = v ? N_LAYERS * 7 : 0;
}

static assay_status synthetic_plan(synthetic *s, int v, assay_err *err) {
    assay_plan_opts o = {.serving = {.context = 8192, .concurrency = 16, .prompt = 1500, .output = 300},
                         .devices = s->devices,
                         .n_devices = 4,
                         .prices = s->prices};
    ASSAY_TRY(assay_storage_parse(&s->storages[v], s->specs[v].storage, err));
    ASSAY_TRY(assay_plan_make(&s->plans[v], &s->config, assay_storage_uniform, &s->storages[v], &o, err));
    s->variants[v].plan = &s->plans[v];
    s->variants[v].size_bytes = s->plans[v].sizes.total;
    s->variants[v].raw_bpw = s->plans[v].sizes.raw_bpw;
    s->variants[v].effective_bpw = s->plans[v].sizes.effective_bpw;
    s->variants[v].quantized_bpw = s->plans[v].sizes.linear_bpw;
    if (assay_precision_get_kind(s->storages[v].precision) != ASSAY_KIND_DENSE)
        s->variants[v].code_bits = assay_precision_bits(s->storages[v].precision);
    return ASSAY_OK;
}

static assay_status synthetic_make_of(synthetic *s, const synthetic_spec *specs, int n, assay_err *err) {
    static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","
                                 "\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":32,"
                                 "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"vocab_size\":128256,"
                                 "\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-05,"
                                 "\"rope_theta\":500000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":"
                                 "false,\"torch_dtype\":\"bfloat16\"}";
    static const char prices[] =
        "prices:\n  - {device: h100-sxm, per_hour: 2.95, date: 2026-05-20, source: an article}\n";
    static const char manifest[] =
        "{\"program\": \"assay 0.1.0\", \"build\": \"cc -O2\", \"machine\": {\"cpu\": \"<b>8 cores</b>\", "
        "\"threads\": 2, \"kernels\": \"avx512\"},"
        "\"suite\": {\"hash\": \"5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592\", "
        "\"items\": 3200}, \"seed\": 1, \"date\": \"2026-11-21T08:00:00Z\"}";
    static const char *const devices[4] = {"rtx-4090", "l4", "h100-sxm", "m4-max"};
    assay_rng rng;
    json_t *j = NULL;
    memset(s, 0, sizeof *s);
    s->specs = specs;
    s->n = n;
    assay_rng_init(&rng, 7);
    assay_policy_init(&s->policy);
    s->policy.max_output_length_ratio = 1.1;
    ASSAY_TRY(assay_json_parse(&j, config, strlen(config), "config", err));
    assay_status st = assay_config_parse(&s->config, j, NULL, "config", err);
    json_decref(j);
    ASSAY_TRY(st);
    ASSAY_TRY(assay_json_parse(&s->manifest, manifest, strlen(manifest), "manifest", err));
    ASSAY_TRY(assay_prices_parse(&s->prices, prices, strlen(prices), "prices", err));
    for (int i = 0; i < 4; i++)
        ASSAY_TRY(assay_device_find(&s->devices[i], devices[i], err));
    for (int v = 0; v < n; v++) {
        const synthetic_spec *spec = &specs[v];
        s->variants[v] = (assay_report_variant){.name = spec->name,
                                                .recipe = spec->recipe,
                                                .is_baseline = v == 0,
                                                .mixture = spec->mixture,
                                                .kv = spec->kv,
                                                .prefill_rate = NAN,
                                                .decode_rate = NAN,
                                                .manifest = s->manifest};
        ASSAY_TRY(synthetic_plan(s, v, err));
        if (!v) continue;
        synthetic_gate(s, v, &rng);
        synthetic_losses(s, v);
        s->variants[v].gate = &s->gates[v];
        double k = spec->kl;
        s->variants[v].kl = (assay_report_kl){.n = 24000,
                                              .unit = "token",
                                              .mean = k,
                                              .p50 = k * 0.3,
                                              .p90 = k * 2.4,
                                              .p95 = k * 4,
                                              .p99 = k * 9,
                                              .max = k * 40,
                                              .top1 = 1 - fmin(0.9, k * 1.8)};
    }
    s->reasons[0] = "nf4 is the smallest variant that passes: every dimension and slice is surely no worse "
                    "than its margin.";
    s->reasons[1] = "int4 is close: two slices could not be settled with 200 items each.";
    s->reasons[2] = "int3 and int2 fail; int2 loses more than half of its answers.";
    s->next[0] = "Score 400 more items of code/assign to settle int4, which would be 2 % smaller.";
    s->report = (assay_report){
        .title = "support-bot <8B>",
        .model = "models/Llama-3.1-8B-Instruct",
        .suite = "suites/demo.yaml",
        .date = "2026-11-21T08:00:00Z",
        .version = "0.1.0",
        .command = "assay study examples/demo.yaml",
        .variants = s->variants,
        .n_variants = (size_t)n,
        .decision = {.chosen = "nf4",
                     .verdict = ASSAY_VERDICT_PASS,
                     .headline = "Ship nf4: 5.0 bits per weight, no dimension loses more than 2 points.",
                     .reasons = s->reasons,
                     .n_reasons = 3,
                     .next = s->next,
                     .n_next = 1},
        .policy = &s->policy,
        .manifest = s->manifest};
    return ASSAY_OK;
}

static assay_status synthetic_make(synthetic *s, assay_err *err) {
    return synthetic_make_of(s, synthetic_specs, N_VARIANTS, err);
}

/* As many variants as a study of all methods has; the smallest one is taken to be chosen, though it is
 * research. */
static assay_status synthetic_make_many(synthetic *s, assay_err *err) {
    ASSAY_TRY(synthetic_make_of(s, synthetic_many, MOST_VARIANTS, err));
    s->report.decision = (assay_report_decision){.chosen = "int3-autoround",
                                                 .verdict = ASSAY_VERDICT_PASS,
                                                 .headline = "Ship int3-autoround: 4.8 bits per weight."};
    return ASSAY_OK;
}

static void synthetic_free(synthetic *s) {
    for (int v = 0; v < s->n; v++)
        assay_plan_deinit(&s->plans[v]);
    assay_config_deinit(&s->config);
    assay_prices_free(s->prices);
    assay_policy_deinit(&s->policy);
    json_decref(s->manifest);
}

#endif
