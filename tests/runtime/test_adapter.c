/* LoRA adapters beside a model, against peft (tests/golden/peft/make.py: peft 0.21.2), on bases of any precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "model/golden.h"
#include "runtime/native.h"

/* A golden, and what this runtime gives for its ids. */
typedef struct trial {
    json_t *golden;
    int32_t *ids;
    size_t n;
    char base[128], adapter[128];
} trial;

static void trial_open(trial *t, const char *name) {
    char path[160];
    assay_err err = {0};
    snprintf(t->adapter, sizeof t->adapter, "tests/golden/peft/%s", name);
    snprintf(path, sizeof path, "%s/golden.json", t->adapter);
    must(assay_json_load(&t->golden, path, &err), &err);
    snprintf(t->base, sizeof t->base, "tests/golden/tiny/%s", json_string_value(json_object_get(t->golden, "base")));
    const json_t *ids = json_object_get(t->golden, "ids");
    t->n = json_array_size(ids);
    t->ids = assay_mallocn(t->n, sizeof *t->ids);
    for (size_t i = 0; i < t->n; i++) t->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
}

static void trial_close(trial *t) {
    json_decref(t->golden);
    assay_free(t->ids);
}

/* Log-probabilities of ids 1.. */
static double *score(const trial *t, const assay_native_opts *given, const char *adapter) {
    assay_native_opts o = *given;
    assay_runtime *r = NULL;
    assay_err err = {0};
    assay_score_res res;
    assay_score_req req = {t->ids, t->n, 1};
    o.no_tokenizer = true;
    o.adapter = adapter;
    must(assay_native_open(&r, t->base, &o, &err), &err);
    must(assay_runtime_score(r, &res, &req, 1, NULL, NULL, NULL, NULL, &err), &err);
    assay_runtime_close(r);
    return res.logprobs;
}

static void gives_what_peft_gives(void **state) {
    static const char *const names[] = {"lora", "whole"};
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        trial t;
        trial_open(&t, names[i]);
        assay_native_opts o = {.activations = ASSAY_ACT_F32, .n_threads = 1};
        double *with = score(&t, &o, t.adapter), *without = score(&t, &o, NULL), moved = 0;
        const json_t *want = json_object_get(t.golden, "beside");
        assert_int_equal(json_array_size(want), t.n - 1);
        for (size_t k = 0; k + 1 < t.n; k++) {
            double w = json_number_value(json_array_get(want, k));
            if (fabs(with[k] - w) > 2e-4) fail_msg("%s: token %zu has %.6f, peft %.6f", names[i], k, with[k], w);
            moved = fmax(moved, fabs(with[k] - without[k]));
        }
        assert_true(moved > 0.1); /* or the adapter was not looked at */
        assay_free(with), assay_free(without);
        trial_close(&t);
    }
}

static void does_not_depend_on_the_schedule(void **state) {
    (void)state;
    trial t;
    trial_open(&t, "lora");
    static const assay_native_opts ways[] = {{.n_threads = 1},
                                             {.n_threads = 2, .prefill_chunk = 7, .max_batch = 3},
                                             {.n_threads = 2, .prefill_chunk = 1, .no_prefix_cache = true}};
    double *first = score(&t, &ways[0], t.adapter);
    for (size_t i = 1; i < ASSAY_LEN(ways); i++) {
        double *again = score(&t, &ways[i], t.adapter);
        assert_memory_equal(first, again, (t.n - 1) * sizeof *first);
        assay_free(again);
    }
    assay_free(first);
    trial_close(&t);
}

/* Refusals: what cannot be done beside a weight, another model's adapter, no adapter at all. */
static void refuses_by_name(void **state) {
    static const struct {
        const char *base, *adapter;
        assay_status want;
        const char *says;
    } bad[] = {{"tests/golden/tiny/qwen3", "tests/golden/peft/dora", ASSAY_EUNSUPPORTED, "merge it"},
               {"tests/golden/tiny/qwen3", "tests/golden/peft/lora", ASSAY_EINPUT, "made for another"},
               {"tests/golden/tiny/qwen3", "tests/golden/peft/whole", ASSAY_EINPUT, "made for another"},
               {"tests/golden/tiny/qwen3", "tests/golden/tiny/qwen3", ASSAY_ENOTFOUND, "adapter_config.json"}};
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_err err = {0};
        assay_runtime *r = NULL;
        assay_native_opts o = {.no_tokenizer = true, .n_threads = 1, .adapter = bad[i].adapter};
        assert_int_equal(assay_native_open(&r, bad[i].base, &o, &err), bad[i].want);
        assert_null(r);
        if (!strstr(err.message, bad[i].says)) fail_msg("'%s' does not say '%s'", err.message, bad[i].says);
    }
}

/* An adapter of one or two matrices [3, in], [out, 3] of a module, or of a whole tensor: in a folder of its own. */
static void write_adapter(const char *dir, const char *const *names, const int64_t (*dims)[2], size_t n) {
    static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 3}";
    static float zeros[48 * 48 * 3];
    char from[200], to[200];
    assay_err err = {0};
    assay_ckpt_writer *w = NULL;
    must(assay_ckpt_writer_open(&w, dir, 0, &err), &err);
    for (size_t i = 0; i < n; i++) must(assay_ckpt_writer_put(w, names[i], ASSAY_DTYPE_F32, 2, dims[i], zeros, &err), &err);
    must(assay_ckpt_writer_commit(w, &err), &err);
    snprintf(from, sizeof from, "%s/model.safetensors", dir);
    snprintf(to, sizeof to, "%s/adapter_model.safetensors", dir);
    assert_int_equal(rename(from, to), 0);
    snprintf(to, sizeof to, "%s/adapter_config.json", dir);
    must(assay_write_file(to, config, sizeof config - 1, &err), &err);
}

/* What is multiplied head by head, and what files have transposed (square, so that the shape does not tell). */
static void refuses_what_is_not_one_product(void **state) {
    (void)state;
    static const struct {
        const char *model;
        const char *names[2];
        int64_t dims[2][2];
        size_t n;
        const char *says;
    } bad[] = {{"deepseek_v2",
                {"base_model.model.model.layers.0.self_attn.kv_b_proj.lora_A.weight", "base_model.model.model.layers.0.self_attn.kv_b_proj.lora_B.weight"},
                {{3, 16}, {88, 3}},
                2,
                "latents' keys and values of model.layers.0.self_attn.kv_b_proj"},
               {"gpt2", {"base_model.model.transformer.h.0.attn.c_proj.weight"}, {{48, 48}}, 1, "transposed"}};
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        golden g;
        char dir[] = "/tmp/assay-adapter-XXXXXX", path[100];
        assay_err err = {0};
        assay_runtime *r = NULL;
        golden_open(&g, bad[i].model);
        golden_checkpoint(g.dir, json_object_get(g.j, "config"), false);
        assert_non_null(mkdtemp(dir));
        write_adapter(dir, bad[i].names, bad[i].dims, bad[i].n);
        assay_native_opts o = {.no_tokenizer = true, .n_threads = 1, .adapter = dir};
        assert_int_equal(assay_native_open(&r, g.dir, &o, &err), ASSAY_EUNSUPPORTED);
        if (!strstr(err.message, bad[i].says) || !strstr(err.message, "merge it")) fail_msg("'%s' does not say '%s'", err.message, bad[i].says);
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir), unlink(path);
        snprintf(path, sizeof path, "%s/adapter_config.json", dir), unlink(path);
        assert_int_equal(rmdir(dir), 0);
        golden_close(&g);
    }
}

static void stands_in_the_manifest(void **state) {
    (void)state;
    assay_runtime *r = NULL;
    assay_err err = {0};
    assay_native_opts o = {.no_tokenizer = true, .n_threads = 1, .adapter = "tests/golden/peft/lora"};
    must(assay_native_open(&r, "tests/golden/tiny/mistral", &o, &err), &err);
    json_t *j = assay_runtime_manifest(r);
    const json_t *adapter = json_object_get(j, "adapter");
    assert_int_equal(strlen(json_string_value(json_object_get(adapter, "sha256"))), 64);
    assert_int_equal(json_integer_value(json_object_get(adapter, "matrices")), 14);
    json_decref(j);
    assay_runtime_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_what_peft_gives),
        cmocka_unit_test(does_not_depend_on_the_schedule),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(refuses_what_is_not_one_product),
        cmocka_unit_test(stands_in_the_manifest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
