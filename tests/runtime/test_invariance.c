/* The must of DESIGN section 6: a sequence's log-probabilities are bit-identical whatever the batch it ran
 * in, the thread count, the prompt's chunking, and whether a prefix came from the cache; and so are generated
 * tokens. On the demo model, as it is and in every stored precision that the runtime executes (made here with
 * precision's encoders, written and read back by format). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "format/format.h"
#include "num/convert.h"
#include "runtime/native.h"

static const char demo_dir[] = "models/demo";

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

static assay_runtime *open_kv(const char *dir, int batch, int threads, int chunk, bool no_cache,
                              assay_kv_kind kv, size_t kv_bytes) {
    assay_err err = {0};
    assay_runtime *r = NULL;
    assay_native_opts o = {.n_threads = threads,
                           .max_batch = batch,
                           .prefill_chunk = chunk,
                           .no_prefix_cache = no_cache,
                           .kv = kv,
                           .kv_bytes = kv_bytes};
    must(assay_native_open(&r, dir, &o, &err), &err);
    return r;
}
static assay_runtime *open_with(const char *dir, int batch, int threads, int chunk, bool no_cache) {
    return open_kv(dir, batch, threads, chunk, no_cache, ASSAY_KV_KIND_AUTO, 0);
}

/* --- what is asked: contexts that share beginnings of many lengths, each with several continuations, and
 * some long ones --- */

enum { REQUESTS = 36, LONGEST = 300 };
static int32_t ids[REQUESTS][LONGEST];
static assay_score_req score[REQUESTS];
static assay_generate_req generate[REQUESTS];

/* Lengths go up from `first` by `step`; a few are `longest`. */
static void make_requests(size_t first, size_t step, size_t longest) {
    assay_rng rng;
    int32_t text[LONGEST];
    assay_rng_init(&rng, 11);
    for (size_t i = 0; i < REQUESTS; i++) {
        if (i % 4 == 0) /* four in a row share a context; every third context begins as the one before did */
            for (size_t k = i % 12 == 0 ? 0 : 20; k < LONGEST; k++)
                text[k] = k == 0 ? 0 : 4 + (int32_t)assay_rng_below(&rng, 2044);
        size_t n = i % 11 == 5 ? longest : first + i / 4 * step, shared = n - 3 - i % 3;
        memcpy(ids[i], text, n * sizeof *text);
        for (size_t k = shared; k < n; k++)
            ids[i][k] = 4 + (int32_t)assay_rng_below(&rng, 2044);
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
    assay_err err = {0};
    answers a, b;
    assay_runtime *r = NULL, *ample = open_with(demo_dir, 0, 2, 0, false);
    /* 9 pages of 64 positions, 4 layers, keys and values of 4 heads of 32 in bf16 */
    assay_native_opts o = {.n_threads = 2, .kv_bytes = 9 * 64 * 4 * 2 * 4 * 32 * 2};
    must(assay_native_open(&r, demo_dir, &o, &err), &err);
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
    if (assay_precision_get_kind(v->precision) == ASSAY_KIND_CODEBOOK)
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

static void copy_file(const char *to_dir, const char *name) {
    char from[300], to[300], *data = NULL;
    size_t n;
    assay_err err = {0};
    snprintf(from, sizeof from, "%s/%s", demo_dir, name);
    snprintf(to, sizeof to, "%s/%s", to_dir, name);
    must(assay_read_file(&data, &n, from, 0, &err), &err);
    must(assay_write_file(to, data, n, &err), &err);
    assay_free(data);
}

static void check_variant(const variant *v) {
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "config.json",
                                        "model.safetensors"};
    char dir[] = "/tmp/assay-test-XXXXXX", path[300];
    answers a, b;
    assert_non_null(mkdtemp(dir));
    copy_file(dir, files[0]);
    copy_file(dir, files[1]);
    write_variant(dir, v);
    assay_runtime *alone = open_with(dir, 1, 1, 512, true), *together = open_with(dir, 32, 2, 13, false);
    ask(&a, alone, false);
    ask(&b, together, false);
    check_same(&a, &b, v->name);
    json_t *manifest = assay_runtime_manifest(alone);
    assert_non_null(
        json_object_get(json_object_get(manifest, "precisions"), assay_precision_name(v->precision)));
    json_decref(manifest);
    forget(&a);
    forget(&b);
    assay_runtime_close(alone);
    assay_runtime_close(together);
    for (size_t i = 0; i < ASSAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
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
    make_requests(58, 9, LONGEST);
    answers plain, first, other;
    assay_runtime *r = open_with(demo_dir, 32, 2, 512, false);
    ask(&plain, r, true);
    assay_runtime_close(r);
    for (assay_kv_kind kv = ASSAY_KV_KIND_INT8; kv < ASSAY_KV_KINDS; kv++) {
        for (size_t w = 0; w < ASSAY_LEN(ways); w++) {
            char what[100];
            snprintf(what, sizeof what, "kv %s, way %zu", assay_kv_kind_word(kv), w);
            r = open_kv(demo_dir, ways[w].batch, ways[w].threads, ways[w].chunk, ways[w].no_cache, kv,
                        ways[w].kv_bytes);
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
    make_requests(26, 3, 150);
}

static void every_precision(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(variants); i++)
        check_variant(&variants[i]);
}

static int set_up(void **state) {
    (void)state;
    make_requests(26, 3, 150);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_grid),  cmocka_unit_test(asked_again),
        cmocka_unit_test(little_memory),   cmocka_unit_test(quantized_caches),
        cmocka_unit_test(every_precision),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
