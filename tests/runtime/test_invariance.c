/* The must of DESIGN section 6: a sequence's log-probabilities are bit-identical whatever the batch it ran
 * in, the thread count, the prompt's chunking, and whether a prefix came from the cache; and so are generated
 * tokens. On the demo model, as it is and in every stored precision that the runtime executes (made here with
 * precision's encoders, written and read back by format); on tiny models with experts, latents, windows and rotations that depend on the
 * length; and on a GGUF file of quantized blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "format/gguf.h"
#include "model/golden.h"
#include "num/convert.h"
#include "precision/block.h"
#include "precision/grid.h"
#include "runtime/native.h"

static const char demo_dir[] = "models/demo";

static assay_runtime *open_opts(const char *path, assay_native_opts o) {
    assay_err err = {0};
    assay_runtime *r = NULL;
    o.no_tokenizer = true;
    must(assay_native_open(&r, path, &o, &err), &err);
    return r;
}
static assay_runtime *open_with(const char *dir, int batch, int threads, int chunk, bool no_cache) {
    return open_opts(dir, (assay_native_opts){
                              .n_threads = threads, .max_batch = batch, .prefill_chunk = chunk, .no_prefix_cache = no_cache});
}

/* --- what is asked: contexts that share beginnings of many lengths, each with several continuations, and
 * some long ones --- */

enum { REQUESTS = 36, LONGEST = 300 };
static int32_t ids[REQUESTS][LONGEST];
static assay_score_req score[REQUESTS];
static assay_generate_req generate[REQUESTS];

/* Lengths go up from `first` by `step`; a few are `longest`. */
static void make_requests(size_t first, size_t step, size_t longest, uint32_t vocab) {
    assay_rng rng;
    int32_t text[LONGEST];
    assay_rng_init(&rng, 11);
    for (size_t i = 0; i < REQUESTS; i++) {
        if (i % 4 == 0) /* four in a row share a context; every third context begins as the one before did */
            for (size_t k = i % 12 == 0 ? 0 : 20; k < LONGEST; k++)
                text[k] = k == 0 ? 0 : 4 + (int32_t)assay_rng_below(&rng, vocab - 4);
        size_t n = i % 11 == 5 ? longest : first + i / 4 * step, shared = n - 3 - i % 3;
        memcpy(ids[i], text, n * sizeof *text);
        for (size_t k = shared; k < n; k++)
            ids[i][k] = 4 + (int32_t)assay_rng_below(&rng, vocab - 4);
        score[i] = (assay_score_req){ids[i], n, i % 5 == 0 ? 1 : shared};
        generate[i] = (assay_generate_req){.ids = ids[i],
                                           .n_ids = shared,
                                           .max_tokens = 3 + (int)(i % 9),
                                           .top_p = 0.9,
                                           .seed = i,
                                           .temperature = i % 2 ? 0.8 : 0,
                                           .ignore_eos = true};
    }
}

typedef struct answers {
    assay_score_res score[REQUESTS];
    assay_generate_res generate[REQUESTS];
} answers;

static void ask(answers *a, assay_runtime *r, bool also_generate) {
    assay_err err = {0};
    memset(a, 0, sizeof *a);
    must(assay_runtime_score(r, a->score, score, REQUESTS, NULL, NULL, NULL, NULL, &err), &err);
    if (also_generate)
        must(assay_runtime_generate(r, a->generate, generate, REQUESTS, NULL, NULL, &err), &err);
}

static void forget(answers *a) {
    for (size_t i = 0; i < REQUESTS; i++) {
        assay_score_res_deinit(&a->score[i]);
        assay_generate_res_deinit(&a->generate[i]);
    }
}

static void check_same(const answers *a, const answers *b, const char *what) {
    for (size_t i = 0; i < REQUESTS; i++) {
        size_t n = (score[i].n_ids - score[i].from) * sizeof(double);
        if (memcmp(a->score[i].logprobs, b->score[i].logprobs, n) != 0)
            fail_msg("%s: log-probabilities of request %zu differ", what, i);
        if (memcmp(&a->score[i].sum, &b->score[i].sum, sizeof(double)) != 0 ||
            a->score[i].is_greedy != b->score[i].is_greedy)
            fail_msg("%s: sum of request %zu differs", what, i);
        const assay_generate_res *x = &a->generate[i], *y = &b->generate[i];
        if (x->n_ids != y->n_ids || (x->n_ids && memcmp(x->ids, y->ids, x->n_ids * sizeof *x->ids) != 0) ||
            x->stop != y->stop)
            fail_msg("%s: generation of request %zu differs", what, i);
    }
}

static void the_whole_grid(void **state) {
    (void)state;
    static const int batches[] = {1, 7, 32}, chunks[] = {512, 13};
    answers first, other;
    bool have_first = false;
    for (size_t b = 0; b < 3; b++)
        for (int threads = 1; threads <= 2; threads++)
            for (size_t c = 0; c < 2; c++)
                for (int cache = 0; cache < 2; cache++) {
                    char what[100];
                    snprintf(what, sizeof what, "batch %d, threads %d, chunk %d, prefix cache %s", batches[b],
                             threads, chunks[c], cache ? "on" : "off");
                    assay_runtime *r = open_with(demo_dir, batches[b], threads, chunks[c], !cache);
                    ask(have_first ? &other : &first, r, true);
                    if (have_first) {
                        check_same(&first, &other, what);
                        forget(&other);
                    }
                    have_first = true;
                    assay_runtime_close(r);
                }
    forget(&first);
}

/* Asked twice, the second time with everything in the cache: baseline against baseline flips nothing. */
static void asked_again(void **state) {
    (void)state;
    answers a, b;
    assay_runtime *r = open_with(demo_dir, 0, 2, 0, false);
    ask(&a, r, true);
    ask(&b, r, true);
    check_same(&a, &b, "asked again");
    forget(&a);
    forget(&b);
    assay_runtime_close(r);
}

/* A KV budget that holds hardly more than one sequence: evictions and waiting change nothing. */
static void little_memory(void **state) {
    (void)state;
    answers a, b;
    assay_runtime *ample = open_with(demo_dir, 0, 2, 0, false);
    /* 9 pages of 64 positions, 4 layers, keys and values of 4 heads of 32 in bf16 */
    assay_runtime *r = open_opts(demo_dir, (assay_native_opts){.n_threads = 2, .kv_bytes = 9 * 64 * 4 * 2 * 4 * 32 * 2});
    ask(&a, ample, true);
    ask(&b, r, true);
    check_same(&a, &b, "9 pages");
    forget(&a);
    forget(&b);
    assay_runtime_close(r);
    assay_runtime_close(ample);
}

/* --- variants --- */

typedef struct variant {
    const char *name;
    assay_precision precision;
    int bits;
    int64_t group;
    bool asymmetric, row_wise, double_quant;
    assay_convention convention;
    const char *quantization; /* quantization_config */
} variant;

#define CT(bits, strategy, group, symmetric)                                                                 \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"quantization_status\": "   \
    "\"compressed\", "                                                                                       \
    "\"ignore\": [\"lm_head\"], \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": "  \
    "{\"num_bits\": " #bits ", \"type\": \"int\", \"symmetric\": " #symmetric ", \"strategy\": \"" strategy  \
    "\", \"group_size\": " #group "}}}}"
#define BNB4(type, nested)                                                                                   \
    "{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, \"load_in_8bit\": false, "                 \
    "\"bnb_4bit_quant_type\": \"" type "\", \"bnb_4bit_use_double_quant\": " #nested                         \
    ", \"bnb_4bit_compute_dtype\": \"bfloat16\", \"bnb_4bit_quant_storage\": \"uint8\"}"

static const variant variants[] = {
    {"int8 per channel", ASSAY_PRECISION_INT8, 8, 0, false, false, false, ASSAY_CONVENTION_CT,
     CT(8, "channel", null, true)},
    {"int8 group 128", ASSAY_PRECISION_INT8, 8, 128, false, false, false, ASSAY_CONVENTION_CT,
     CT(8, "group", 128, true)},
    {"int4 group 128", ASSAY_PRECISION_INT4, 4, 128, false, false, false, ASSAY_CONVENTION_CT,
     CT(4, "group", 128, true)},
    {"int4 group 32 asymmetric", ASSAY_PRECISION_INT4, 4, 32, true, false, false, ASSAY_CONVENTION_CT,
     CT(4, "group", 32, false)},
    {"int3 group 128", ASSAY_PRECISION_INT3, 3, 128, false, false, false, ASSAY_CONVENTION_CT,
     CT(3, "group", 128, true)},
    {"int2 group 64", ASSAY_PRECISION_INT2, 2, 64, false, false, false, ASSAY_CONVENTION_CT,
     CT(2, "group", 64, true)},
    {"nf4, double quantization", ASSAY_PRECISION_NF4, 4, 64, false, false, true, ASSAY_CONVENTION_BNB,
     BNB4("nf4", true)},
    {"fp4", ASSAY_PRECISION_FP4, 4, 64, false, false, false, ASSAY_CONVENTION_BNB, BNB4("fp4", false)},
    {"llm_int8", ASSAY_PRECISION_INT8, 8, 0, false, true, false, ASSAY_CONVENTION_BNB,
     "{\"quant_method\": \"bitsandbytes\", \"load_in_8bit\": true, \"load_in_4bit\": false, "
     "\"llm_int8_threshold\": 6.0}"},
    {"fp8 with activations by token", ASSAY_PRECISION_FP8_E4M3, 8, 0, false, false, false, ASSAY_CONVENTION_CT,
     "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\", \"quantization_status\": \"compressed\", "
     "\"ignore\": [\"lm_head\"], \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {\"num_bits\": 8, "
     "\"type\": \"float\", \"symmetric\": true, \"strategy\": \"channel\"}, \"input_activations\": {\"num_bits\": 8, \"type\": "
     "\"float\", \"symmetric\": true, \"dynamic\": true, \"strategy\": \"token\"}}}}"},
};

static void encode(assay_matrix *m, const variant *v, const assay_tensor *t) {
    assay_err err = {0};
    float *w = assay_mallocn((size_t)assay_tensor_n_elements(t), sizeof *w);
    assert_true(assay_to_f32(w, t->data, t->dtype, (size_t)assay_tensor_n_elements(t)));
    assay_int_opts o = {.bits = v->bits,
                        .group_size = v->group,
                        .asymmetric = v->asymmetric,
                        .rule = v->row_wise ? ASSAY_SCALE_ABSMAX : ASSAY_SCALE_CT,
                        .scale_dtype = v->row_wise ? ASSAY_DTYPE_F32 : ASSAY_DTYPE_BF16};
    const assay_grid_spec grid = {.precision = v->precision, .group_size = v->group, .scale_dtype = ASSAY_DTYPE_BF16};
    if (assay_precision_get_kind(v->precision) == ASSAY_KIND_FLOAT)
        must(assay_encode_float(m, w, t->dims[0], t->dims[1], &grid, &err), &err);
    else if (assay_precision_get_kind(v->precision) == ASSAY_KIND_CODEBOOK)
        must(assay_encode_codebook(m, w, t->dims[0], t->dims[1], v->precision, v->group, v->double_quant,
                                   &err),
             &err);
    else
        must(assay_encode_int(m, w, t->dims[0], t->dims[1], &o, &err), &err);
    if (v->row_wise) m->outlier_threshold = 6.0;
    assay_free(w);
}

static void write_variant(const char *dir, const variant *v) {
    assay_err err = {0};
    assay_checkpoint *c = NULL;
    assay_ckpt_writer *w = NULL;
    json_t *config = NULL, *q = NULL;
    char path[300];
    must(assay_checkpoint_open(&c, demo_dir, &err), &err);
    must(assay_ckpt_writer_open(&w, dir, 0, &err), &err);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        const assay_tensor *t = assay_checkpoint_get(c, i);
        assay_matrix m = {0};
        if (!strstr(t->name, "_proj.weight")) {
            must(assay_ckpt_writer_put(w, t->name, t->dtype, t->n_dims, t->dims, t->data, &err), &err);
            continue;
        }
        encode(&m, v, t);
        must(assay_ckpt_writer_put_matrix(w, v->convention, t->name, &m, ASSAY_DTYPE_BF16, &err), &err);
        assay_matrix_deinit(&m);
    }
    must(assay_ckpt_writer_commit(w, &err), &err);
    snprintf(path, sizeof path, "%s/config.json", demo_dir);
    must(assay_json_load(&config, path, &err), &err);
    must(assay_json_parse(&q, v->quantization, strlen(v->quantization), v->name, &err), &err);
    json_object_set_new(config, "quantization_config", q);
    snprintf(path, sizeof path, "%s/config.json", dir);
    must(assay_json_save(path, config, 1, &err), &err);
    json_decref(config);
    assay_checkpoint_close(c);
}

static void check_variant(const variant *v) {
    char dir[] = "/tmp/assay-test-XXXXXX";
    answers a, b;
    assert_non_null(mkdtemp(dir));
    write_variant(dir, v);
    assay_runtime *alone = open_with(dir, 1, 1, 512, true), *together = open_with(dir, 32, 2, 13, false);
    ask(&a, alone, false);
    ask(&b, together, false);
    check_same(&a, &b, v->name);
    json_t *manifest = assay_runtime_manifest(alone);
    assert_non_null(
        json_object_get(json_object_get(manifest, "precisions"), assay_precision_name(v->precision)));
    /* seven matrices in four layers, all in one mode */
    const json_t *modes = json_object_get(manifest, "matrices_by_compute_mode");
    assert_int_equal(json_object_size(modes), 1);
    assert_int_equal(json_integer_value(json_object_iter_value(json_object_iter((json_t *)(uintptr_t)modes))), 28);
    if (v->precision == ASSAY_PRECISION_FP8_E4M3) assert_non_null(json_object_get(modes, "fp8"));
    json_decref(manifest);
    forget(&a);
    forget(&b);
    assay_runtime_close(alone);
    assay_runtime_close(together);
    golden_remove(dir);
}

/* --- quantized caches --- */

/* Long enough for three quantized pages, ends and forks on both sides of pages' edges. A query sees its own
 * page alone unquantized, wherever chunks end, whatever was forked from where. */
static void quantized_caches(void **state) {
    (void)state;
    static const struct {
        int batch, threads, chunk;
        bool no_cache;
        size_t kv_bytes;
    } ways[] = {
        {1, 1, 512, true, 0}, {32, 2, 512, false, 0},      {7, 2, 13, false, 0}, {32, 1, 64, false, 0},
        {3, 2, 65, true, 0},  {32, 2, 512, false, 950000}, /* three raw pages and few others */
    };
    make_requests(58, 9, LONGEST, 2048);
    answers plain, first, other;
    assay_runtime *r = open_with(demo_dir, 32, 2, 512, false);
    ask(&plain, r, true);
    assay_runtime_close(r);
    for (assay_kv_kind kv = ASSAY_KV_KIND_INT8; kv < ASSAY_KV_KINDS; kv++) {
        for (size_t w = 0; w < ASSAY_LEN(ways); w++) {
            char what[100];
            snprintf(what, sizeof what, "kv %s, way %zu", assay_kv_kind_word(kv), w);
            r = open_opts(demo_dir, (assay_native_opts){.n_threads = ways[w].threads,
                                                        .max_batch = ways[w].batch,
                                                        .prefill_chunk = ways[w].chunk,
                                                        .no_prefix_cache = ways[w].no_cache,
                                                        .kv = kv,
                                                        .kv_bytes = ways[w].kv_bytes});
            ask(w ? &other : &first, r, true);
            if (w) check_same(&first, &other, what);
            if (w) forget(&other);
            if (w == 1) { /* and again, from what the cache kept */
                ask(&other, r, true);
                check_same(&first, &other, "asked again");
                forget(&other);
            }
            assay_runtime_close(r);
        }
        /* A request within one page is untouched; longer ones change, by little. */
        double most = 0;
        for (size_t i = 0; i < REQUESTS; i++) {
            double change =
                (first.score[i].sum - plain.score[i].sum) / (double)(score[i].n_ids - score[i].from);
            if (score[i].n_ids <= ASSAY_KV_PAGE)
                assert_true(change == 0);
            else
                most = change * change > most * most ? change : most;
        }
        assert_true(most != 0 && most * most < 0.3 * 0.3);
        forget(&first);
    }
    forget(&plain);
    make_requests(26, 3, 150, 2048);
}

static void every_precision(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(variants); i++)
        check_variant(&variants[i]);
}

/* --- other architectures --- */

/* A model asked in several ways with caches of two kinds. */
static void check_ways(const char *path, const char *what, assay_act_mode act) {
    static const assay_native_opts ways[] = {
        {.max_batch = 1, .n_threads = 1, .prefill_chunk = 512, .no_prefix_cache = true},
        {.max_batch = 32, .n_threads = 2, .prefill_chunk = 13},
        {.max_batch = 7, .n_threads = 2, .prefill_chunk = 64},
    };
    static const assay_kv_kind kinds[] = {ASSAY_KV_KIND_AUTO, ASSAY_KV_KIND_INT8};
    answers first, other;
    for (size_t k = 0; k < ASSAY_LEN(kinds); k++)
        for (size_t w = 0; w < ASSAY_LEN(ways); w++) {
            char how[160];
            assay_native_opts o = ways[w];
            o.activations = act;
            o.kv = kinds[k];
            assay_runtime *r = open_opts(path, o);
            ask(w ? &other : &first, r, true);
            snprintf(how, sizeof how, "%s, kv %s, way %zu", what, assay_kv_kind_word(kinds[k]), w);
            if (w) check_same(&first, &other, how);
            if (w) forget(&other);
            assay_runtime_close(r);
            if (w + 1 == ASSAY_LEN(ways)) forget(&first);
        }
}

/* Their weights are functions of the tensors' names (model/golden.h). Texts are longer than windows and pages, some grow into long ones
 * while they are continued. */
static void other_architectures(void **state) {
    static const char *const names[] = {"mixtral", "qwen2_moe", "deepseek_v2", "deepseek_v2-groups", "gemma3", "gpt_neox", "phi3-longrope"};
    (void)state;
    make_requests(26, 3, 150, 96);
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        golden g;
        golden_open(&g, names[i]);
        golden_checkpoint(g.dir, json_object_get(g.j, "config"), false);
        check_ways(g.dir, names[i], ASSAY_ACT_AUTO);
        golden_close(&g);
    }
    make_requests(26, 3, 150, 2048);
}

/* A text that becomes a long one while it is continued goes on as transformers' Phi-3 does: from its beginning, alone or beside others. */
static void grows_into_a_long_text(void **state) {
    (void)state;
    golden g;
    golden_open(&g, "phi3-longrope-again");
    golden_checkpoint(g.dir, json_object_get(g.j, "config"), false);
    for (int batch = 1; batch <= 3; batch += 2) {
        assay_err err = {0};
        assay_native_opts o = {.activations = ASSAY_ACT_F32, .n_threads = 1, .max_batch = batch, .prefill_chunk = 7};
        assay_runtime *r = open_opts(g.dir, o);
        assay_generate_req req[3];
        assay_generate_res res[3] = {{0}};
        for (size_t i = 0; i < 3; i++) /* the others begin as it does */
            req[i] = (assay_generate_req){.ids = g.ids, .n_ids = g.n - i, .max_tokens = (int)g.n_greedy, .top_p = 1, .ignore_eos = true};
        must(assay_runtime_generate(r, res, req, 3, NULL, NULL, &err), &err);
        assert_int_equal(res[0].n_ids, g.n_greedy);
        assert_memory_equal(res[0].ids, g.greedy, g.n_greedy * sizeof *g.greedy);
        for (size_t i = 0; i < 3; i++) assay_generate_res_deinit(&res[i]);
        assay_runtime_close(r);
    }
    golden_close(&g);
}

/* --- GGUF --- */

static const char gguf_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 256, \"intermediate_size\": 512, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 96, "
    "\"max_position_embeddings\": 256, \"torch_dtype\": \"float32\"}";

/* Blocks of every way that the backend has: repacked with and without minima, in 4 and 8 bits; decoded where they lie. */
static assay_precision block_type(const assay_tensor_spec *spec) {
    static const assay_precision types[] = {ASSAY_PRECISION_Q4_K, ASSAY_PRECISION_Q8_0, ASSAY_PRECISION_IQ2_S, ASSAY_PRECISION_Q6_K,
                                            ASSAY_PRECISION_IQ4_XS, ASSAY_PRECISION_Q5_1, ASSAY_PRECISION_Q2_K};
    return types[golden_hash(spec->name) % ASSAY_LEN(types)];
}

static assay_status put_blocks(void *ctx, const assay_tensor_spec *spec, assay_err *err) {
    if (spec->is_vector) return golden_put(ctx, spec, err);
    assay_matrix m = {0};
    size_t n = (size_t)(spec->rows * spec->cols);
    float *w = assay_mallocn(n, sizeof *w), even[512];
    for (size_t i = 0; i < n; i++) w[i] = (float)golden_element(golden_hash(spec->name), i) * 0.1f;
    for (size_t i = 0; i < ASSAY_LEN(even); i++) even[i] = 1; /* IQ2 wants an importance */
    assay_status s = assay_encode_block(&m, w, spec->rows, spec->cols, block_type(spec), even, err);
    if (s == ASSAY_OK) s = assay_ckpt_writer_put_matrix(ctx, ASSAY_CONVENTION_GGUF, spec->name, &m, ASSAY_DTYPE_F32, err);
    assay_matrix_deinit(&m);
    assay_free(w);
    return s;
}

static void gguf_blocks(void **state) {
    (void)state;
    char dir[] = "/tmp/assay-test-XXXXXX", path[100];
    assay_err err = {0};
    assay_config c;
    assay_ckpt_writer *w = NULL;
    json_t *config = json_loads(gguf_config, 0, NULL);
    const assay_gguf_target target = {.config = config, .file_type = -1};
    assert_non_null(mkdtemp(dir));
    must(assay_config_parse(&c, config, NULL, "config", &err), &err);
    must(assay_ckpt_writer_open(&w, dir, 0, &err), &err);
    must(assay_ckpt_writer_set_gguf(w, &target, &err), &err);
    must(assay_config_each_tensor(&c, put_blocks, w, &err), &err);
    must(assay_ckpt_writer_commit(w, &err), &err);
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    make_requests(26, 3, 150, 96);
    check_ways(path, "gguf", ASSAY_ACT_AUTO);
    check_ways(path, "gguf in bf16", ASSAY_ACT_BF16);
    make_requests(26, 3, 150, 2048);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
    assay_config_deinit(&c);
    json_decref(config);
}

static int set_up(void **state) {
    (void)state;
    make_requests(26, 3, 150, 2048);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_grid),  cmocka_unit_test(asked_again),
        cmocka_unit_test(little_memory),   cmocka_unit_test(quantized_caches),
        cmocka_unit_test(every_precision),  cmocka_unit_test(other_architectures),
        cmocka_unit_test(grows_into_a_long_text), cmocka_unit_test(gguf_blocks),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
