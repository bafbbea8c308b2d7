/* test_quantize.c: the whole path on a small checkpoint: what is written reads back as what was encoded, with
 * the losses told. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "method/pipeline.h"
#include "method/tiny.h"

static char *model;

static int make_model(void **state) {
    (void)state;
    assay_err err = {0};
    model = tiny_dir();
    if (model && tiny_make(model, UINT64_MAX, &err) == ASSAY_OK) return 0;
    print_error("%s\n", err.message);
    return -1;
}

static int remove_model(void **state) {
    (void)state;
    tiny_remove(model);
    assay_free(model);
    return 0;
}

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* Encodes one tensor of the source by the method itself. */
static void encode(assay_matrix *out, const assay_tensor *t, const assay_choice *c) {
    assay_item item = {.weight = t, .choice = c, .model_dtype = ASSAY_DTYPE_BF16}, *items = &item;
    assay_layer layer = {.index = -1, .items = &item, .n_items = 1, .n_threads = 1};
    assert_int_equal(assay_method_get(c->method)->quantize(&layer, &items, 1, NULL), ASSAY_OK);
    *out = item.out;
}

static bool linear(const char *name) {
    return strstr(name, "_proj") != NULL;
}

typedef struct checked {
    const assay_recipe *r;
    const assay_checkpoint *a, *b;
    const json_t *q;
    const assay_loss *losses;
    size_t n_losses, seen;
} checked;

/* One tensor of the source against the output: equal when copied; when quantized the codes and scales of a
 * fresh encoding, and the loss. */
static void check_tensor(checked *k, const assay_tensor *t) {
    assay_tensor_spec spec = {
        .is_linear = linear(t->name), .is_vector = t->n_dims == 1, .rows = t->dims[0], .cols = t->dims[1]};
    snprintf(spec.name, sizeof spec.name, "%s", t->name);
    assay_choice c;
    assay_err err = {0};
    must(assay_recipe_choose(&c, k->r, &spec, &err), &err);
    if (c.method == ASSAY_METHOD_NONE) {
        const assay_tensor *u = assay_checkpoint_find(k->b, t->name);
        assert_non_null(u);
        assert_int_equal(u->dtype, t->dtype);
        assert_int_equal(u->n_bytes, t->n_bytes);
        assert_memory_equal(u->data, t->data, t->n_bytes);
        return;
    }
    assay_matrix want, got;
    encode(&want, t, &c);
    must(assay_checkpoint_matrix(&got, k->b, k->q, t->name, t->dims[0], t->dims[1], ASSAY_DTYPE_BF16, &err),
         &err);
    assert_int_equal(got.precision, want.precision);
    assert_memory_equal(got.codes, want.codes, (size_t)(want.rows * want.cols));
    assert_int_equal(got.n_scales, want.n_scales);
    assert_memory_equal(got.scales, want.scales, (size_t)want.n_scales * sizeof(float));
    assert_int_equal(!got.zeros, !want.zeros);
    if (want.zeros) assert_memory_equal(got.zeros, want.zeros, (size_t)want.n_scales);
    assert_int_equal(got.act_bits, want.act_bits);
    assert_true(got.outlier_threshold == want.outlier_threshold);
    double e2 = 0, w2 = 0, top = 0;
    float *row = assay_mallocn((size_t)(2 * got.cols), sizeof *row), *back = row + got.cols;
    for (int64_t i = 0; i < got.rows; i++) {
        assay_to_f32(row, (const uint16_t *)t->data + i * got.cols, ASSAY_DTYPE_BF16, (size_t)got.cols);
        assay_matrix_decode_rows(back, &got, i, 1);
        for (int64_t x = 0; x < got.cols; x++) {
            double e = (double)row[x] - (double)back[x];
            e2 += e * e;
            w2 += (double)row[x] * (double)row[x];
            top = fmax(top, fabs(e));
        }
    }
    assay_free(row);
    const assay_loss *l = NULL;
    for (size_t i = 0; i < k->n_losses; i++)
        if (!strcmp(k->losses[i].name, t->name)) l = &k->losses[i];
    assert_non_null(l);
    assert_float_equal(l->weight_error / sqrt(e2 / w2), 1, 1e-6);
    assert_float_equal(l->weight_norm / sqrt(w2), 1, 1e-9);
    assert_float_equal(l->max_error / top, 1, 1e-6);
    assert_true(l->output_error < 0);
    assert_true(l->bits_per_weight == assay_matrix_bits(&want, NULL, NULL) / (double)(want.rows * want.cols));
    assert_int_equal(l->layer, linear(t->name) ? t->name[strlen("model.layers.")] - '0' : -1);
    assert_int_equal(l->choice.precision, c.precision);
    assay_matrix_deinit(&want);
    assay_matrix_deinit(&got);
    k->seen++;
}

static void check_output(const char *recipe, const char *out, const assay_quantize_result *res) {
    assay_err err = {0};
    assay_recipe *r;
    assay_checkpoint *a, *b;
    assay_config config;
    assay_loss *losses;
    size_t n;
    must(assay_recipe_from_string(&r, recipe, &err), &err);
    must(assay_checkpoint_open(&a, model, &err), &err);
    must(assay_checkpoint_open(&b, out, &err), &err);
    must(assay_config_open(&config, out, &err), &err);
    must(assay_losses_load(&losses, &n, out, &err), &err);
    assert_non_null(config.quantization_config);
    checked k = {.r = r, .a = a, .b = b, .q = config.quantization_config, .losses = losses, .n_losses = n};
    for (size_t i = 0; i < assay_checkpoint_n_tensors(a); i++)
        check_tensor(&k, assay_checkpoint_get(a, i));
    assert_int_equal(k.seen, res->n_matrices);
    assert_int_equal(n, res->n_matrices);
    for (size_t i = 1; i < res->n_worst; i++)
        assert_true(res->worst[i - 1].weight_error >= res->worst[i].weight_error);
    assay_free(losses);
    assay_config_deinit(&config);
    assay_checkpoint_close(a);
    assay_checkpoint_close(b);
    assay_recipe_free(r);
}

static void written_files_read_back_as_encoded(void **state) {
    (void)state;
    static const char *const recipes[] = {
        "rtn",
        "rtn,int4g32,symmetric=false",
        "rtn,int3g32,mse",
        "rtn,int2,group_size=channel",
        "llm_int8",
        "llm_int8,threshold=0,skip=layers\\.1\\.",
        "nf4,double_quant",
        "fp4,group_size=128",
        "rtn,int8;match=mlp\\.,precision=int4g32,symmetric=false;match=v_proj,none",
        "rtn,int4g32;match=lm_head,precision=int6g64;match=embed_tokens,precision=int8,group_size=channel",
    };
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        char *out = tiny_dir();
        assay_quantize_result res;
        assay_err err = {0};
        must(tiny_quantize(&res, model, out, recipes[i], NULL, &err), &err);
        check_output(recipes[i], out, &res);
        tiny_remove(out);
        assay_free(out);
    }
}

static json_t *load_json(const char *dir, const char *name) {
    char *path = assay_path_join(dir, name);
    json_t *j = NULL;
    assay_err err = {0};
    must(assay_json_load(&j, path, &err), &err);
    assay_free(path);
    return j;
}

static bool exists(const char *dir, const char *name) {
    char *path = assay_path_join(dir, name);
    bool yes = assay_path_exists(path);
    assay_free(path);
    return yes;
}

static void the_manifest_and_the_files_that_travel(void **state) {
    (void)state;
    char *out = tiny_dir(), hash[65];
    assay_quantize_result res;
    assay_err err = {0};
    must(tiny_quantize(&res, model, out, "nf4,double_quant", NULL, &err), &err);
    assert_true(exists(out, "tokenizer.json") && exists(out, "generation_config.json") &&
                exists(out, "LICENSE.txt"));
    assert_false(exists(out, "notes.txt") || exists(out, ".partial-data") || exists(out, ".assay-key") ||
                 exists(out, ".assay-losses.jsonl"));
    json_t *m = load_json(out, "assay.json");
    assay_checkpoint *c;
    must(assay_checkpoint_open(&c, model, &err), &err);
    must(assay_checkpoint_hash(hash, c, &err), &err);
    assay_checkpoint_close(c);
    assert_string_equal(json_string_value(json_object_get(json_object_get(m, "source"), "sha256")), hash);
    assert_string_equal(json_string_value(json_object_get(m, "recipe_sha256")), res.recipe_hash);
    assert_string_equal(json_string_value(json_object_get(m, "convention")),
                        assay_convention_name(ASSAY_CONVENTION_BNB));
    assert_true(json_is_true(json_object_get(json_object_get(m, "recipe"), "double_quant")));
    assert_true(json_real_value(json_object_get(m, "bits_per_quantized_weight")) >
                    4.127 && /* and the tables, on small matrices */
                json_real_value(json_object_get(m, "bits_per_quantized_weight")) < 4.4);
    json_decref(m);
    json_t *config = load_json(out, "config.json"), *q = json_object_get(config, "quantization_config");
    assert_int_equal(json_integer_value(json_object_get(config, "vocab_size")), TINY_VOCAB);
    assert_string_equal(json_string_value(json_object_get(q, "bnb_4bit_quant_type")), "nf4");
    assert_true(json_is_true(json_object_get(q, "bnb_4bit_use_double_quant")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(q, "llm_int8_skip_modules"), 0)),
                        "lm_head");
    json_decref(config);
    assert_true(res.peak_rss > 0 && res.seconds > 0 && res.output_bytes < res.input_bytes);
    tiny_remove(out);
    assay_free(out);
}

static void mixed_precisions_become_config_groups(void **state) {
    (void)state;
    char *out = tiny_dir();
    assay_quantize_result res;
    assay_err err = {0};
    must(tiny_quantize(&res, model, out,
                       "rtn,int8;match=mlp\\.,precision=int4g32;match=0\\.self_attn\\.k,none", NULL, &err),
         &err);
    json_t *config = load_json(out, "config.json"), *q = json_object_get(config, "quantization_config");
    json_t *groups = json_object_get(q, "config_groups");
    assert_int_equal(json_object_size(groups), 2);
    /* a pattern for each kind of layer; the k_proj that is left differs from its kind and is named in full */
    assert_int_equal(json_array_size(json_object_get(json_object_get(groups, "group_0"), "targets")), 4);
    assert_int_equal(json_array_size(json_object_get(json_object_get(groups, "group_1"), "targets")), 3);
    json_t *ignore = json_object_get(q, "ignore");
    assert_int_equal(json_array_size(ignore), 2);
    assert_string_equal(json_string_value(json_array_get(ignore, 0)), "model.layers.0.self_attn.k_proj");
    json_decref(config);
    tiny_remove(out);
    assay_free(out);
}

static void threads_do_not_show(void **state) {
    (void)state;
    static const char *const recipes[] = {"rtn,int3g32,symmetric=false,mse", "nf4,double_quant", "llm_int8"};
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        char first[65], hex[65];
        double error = 0;
        for (int threads = 1; threads <= 3; threads++) {
            char *out = tiny_dir();
            assay_quantize_opts o = {.n_threads = threads, .shard_bytes = 400000};
            assay_quantize_result res;
            assay_err err = {0};
            must(tiny_quantize(&res, model, out, recipes[i], &o, &err), &err);
            assert_true(exists(out, "model.safetensors.index.json"));
            tiny_digest(hex, out);
            if (threads == 1) {
                memcpy(first, hex, sizeof first);
                error = res.weight_error;
            }
            assert_string_equal(hex, first);
            assert_true(res.weight_error == error);
            tiny_remove(out);
            assay_free(out);
        }
    }
}

static void refuse(const char *from, const char *recipe, const assay_quantize_opts *o, assay_status code,
                   const char *message) {
    char *out = tiny_dir();
    assay_quantize_result res;
    assay_err err = {0};
    assert_int_equal(tiny_quantize(&res, from, out, recipe, o, &err), code);
    if (!strstr(err.message, message)) fail_msg("%s\n gave: %s\n not: %s", recipe, err.message, message);
    assert_false(exists(out, "model.safetensors"));
    tiny_remove(out);
    assay_free(out);
}

static void what_no_convention_holds_is_refused(void **state) {
    (void)state;
    refuse(model, "nf4;match=mlp,rtn,int8", NULL, ASSAY_EUNSUPPORTED, "no convention holds both");
    refuse(model, "nf4;match=mlp,fp4", NULL, ASSAY_EUNSUPPORTED, "bitsandbytes and hqq have one choice");
    refuse(model, "llm_int8;match=mlp,threshold=3", NULL, ASSAY_EUNSUPPORTED, "no convention holds both");
    refuse(model, "nf4;match=embed_tokens,double_quant=false", NULL, ASSAY_EUNSUPPORTED,
           "'model.embed_tokens.weight' cannot be nf4");
    refuse(model, "rtn,int4", NULL, ASSAY_EINPUT,
           "the group size does not divide its columns"); /* 1056 by 128 */
    refuse(model, "none", NULL, ASSAY_EINPUT, "the recipe quantizes nothing");
}

static void bad_sources_are_refused(void **state) {
    (void)state;
    assay_err err = {0};
    assay_quantize_result res;
    char *bad = tiny_dir(), *out = tiny_dir();
    must(tiny_make(bad, 5 * TINY_HIDDEN + 9, &err), &err);
    refuse(bad, "rtn", NULL, ASSAY_EINPUT,
           "tensor 'model.layers.1.self_attn.k_proj.weight': NaN or infinity at row 5, column 9");
    refuse(bad, "rtn;match=k_proj,none", NULL, ASSAY_EINPUT,
           "k_proj.weight': NaN or infinity at row 5, column 9"); /* copied, looked at all the same */
    must(tiny_quantize(&res, model, out, "rtn", NULL, &err), &err);
    refuse(out, "rtn", NULL, ASSAY_EUNSUPPORTED, "quantized already");
    assert_int_equal(tiny_quantize(&res, model, model, "rtn", NULL, &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "is the model's own"));
    tiny_text(bad, "config.json", "{\"architectures\": [\"SomethingElse\"], \"model_type\": \"other\"}",
              NULL);
    refuse(bad, "rtn", NULL, ASSAY_EUNSUPPORTED, "");
    refuse("/nonexistent", "rtn", NULL, ASSAY_ENOTFOUND, "");
    tiny_remove(bad);
    tiny_remove(out);
    assay_free(bad);
    assay_free(out);
}

static int losses_seen;
static void count_loss(void *ctx, const assay_loss *l) {
    (void)l;
    ++*(int *)ctx;
}

static void the_same_call_again_does_nothing(void **state) {
    (void)state;
    char *out = tiny_dir(), a[65], b[65];
    assay_quantize_opts o = {.on_loss = count_loss, .on_loss_ctx = &losses_seen};
    assay_quantize_result first, again;
    assay_err err = {0};
    must(tiny_quantize(&first, model, out, "rtn,int4g32", &o, &err), &err);
    assert_int_equal(losses_seen, TINY_MATRICES);
    tiny_digest(a, out);
    must(tiny_quantize(&again, model, out, "rtn,int4g32", &o, &err), &err);
    tiny_digest(b, out);
    assert_string_equal(a, b);
    assert_true(again.reused && !first.reused);
    assert_int_equal(losses_seen, 2 * TINY_MATRICES);
    assert_true(again.weight_error == first.weight_error);
    assert_int_equal(again.output_bytes, first.output_bytes);
    assert_int_equal(again.n_worst, first.n_worst);
    /* Another recipe into the same place is refused, unless asked for. */
    assert_int_equal(tiny_quantize(&again, model, out, "rtn,int8", NULL, &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "another recipe or model"));
    err = (assay_err){0};
    o = (assay_quantize_opts){.overwrite = true, .shard_bytes = 400000};
    must(tiny_quantize(&again, model, out, "rtn,int8", &o, &err), &err);
    check_output("rtn,int8", out, &again);
    o.shard_bytes = 0; /* and from shards back to one file */
    must(tiny_quantize(&again, model, out, "llm_int8", &o, &err), &err);
    check_output("llm_int8", out, &again);
    assert_false(exists(out, "model.safetensors.index.json"));
    tiny_remove(out);
    assay_free(out);
}

static void a_dry_run_tells_sizes_and_touches_nothing(void **state) {
    (void)state;
    static const char *const recipes[] = {"rtn,int4g32", "nf4,double_quant", "llm_int8",
                                          "rtn,int3g32,symmetric=false"};
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        assay_quantize_opts o = {.dry_run = true};
        assay_quantize_result dry, real;
        assay_err err = {0};
        char *out = tiny_dir();
        must(tiny_quantize(&dry, model, NULL, recipes[i], &o, &err), &err);
        must(tiny_quantize(&real, model, out, recipes[i], NULL, &err), &err);
        assert_int_equal(dry.n_matrices, TINY_MATRICES);
        assert_true(dry.seconds > 0 && dry.memory_bytes > 0 && dry.peak_rss == 0);
        assert_true(dry.bits_per_weight == real.bits_per_weight &&
                    dry.bits_per_quantized == real.bits_per_quantized);
        assert_float_equal((double)dry.output_bytes / (double)real.output_bytes, 1, 0.003);
        tiny_remove(out);
        assay_free(out);
    }
}

/* The demo model, real weights: sizes and losses of plain rounding, the more bits the less lost. */
static void demo_model_loses_less_with_more_bits(void **state) {
    (void)state;
    if (!assay_path_exists("models/demo/config.json")) {
        print_message("# models/demo is not there\n");
        skip();
    }
    static const char *const recipes[] = {"rtn,int2g128", "rtn,int3g128", "rtn,int4g128",
                                          "nf4",          "rtn,int6g128", "rtn,int8"};
    double before = 1e9;
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        char *out = tiny_dir();
        assay_quantize_result res;
        assay_err err = {0};
        must(tiny_quantize(&res, "models/demo", out, recipes[i], NULL, &err), &err);
        assert_int_equal(res.n_matrices, 28);
        assert_true(res.weight_error < before);
        before = res.weight_error;
        tiny_remove(out);
        assay_free(out);
    }
    assert_true(before < 0.01);
}

/* The one scale that a matrix of a layer has for all of it: NVFP4's global one, FP8's per tensor. */
static float scale_of(const assay_checkpoint *c, const assay_config *config, int layer, const char *matrix) {
    char name[128];
    assay_matrix m;
    assay_err err = {0};
    assay_checkpoint *source;
    snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, matrix);
    must(assay_checkpoint_open(&source, model, &err), &err);
    const int64_t *dims = assay_checkpoint_find(source, name)->dims;
    must(assay_checkpoint_matrix(&m, c, config->quantization_config, name, dims[0], dims[1], ASSAY_DTYPE_BF16, &err), &err);
    float scale = m.precision == ASSAY_PRECISION_NVFP4 ? m.global_scale : m.scales[0];
    assay_matrix_deinit(&m);
    assay_checkpoint_close(source);
    return scale;
}

/* Runtimes stack q, k and v, and gate and up; rotated weights too. */
static void stacked_matrices_share_their_scale(void **state) {
    (void)state;
    static const char *const recipes[] = {"rtn,nvfp4", "rtn,nvfp4,rotate", "fp8,scale=tensor", "fp8,scale=tensor,rotate"};
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        char *out = tiny_dir();
        assay_quantize_result res;
        assay_checkpoint *c;
        assay_config config;
        assay_err err = {0};
        must(tiny_quantize(&res, model, out, recipes[i], NULL, &err), &err);
        must(assay_checkpoint_open(&c, out, &err), &err);
        must(assay_config_open(&config, out, &err), &err);
        for (int l = 0; l < TINY_LAYERS; l++) {
            float q = scale_of(c, &config, l, "self_attn.q_proj"), gate = scale_of(c, &config, l, "mlp.gate_proj");
            assert_true(scale_of(c, &config, l, "self_attn.k_proj") == q);
            assert_true(scale_of(c, &config, l, "self_attn.v_proj") == q);
            assert_true(scale_of(c, &config, l, "mlp.up_proj") == gate);
            assert_true(scale_of(c, &config, l, "mlp.down_proj") != gate); /* as they would be if each had its own */
        }
        assay_config_deinit(&config);
        assay_checkpoint_close(c);
        tiny_remove(out);
        assay_free(out);
    }
}

static void what_a_method_chose_is_kept_even_when_it_is_no_json(void **state) {
    (void)state;
    static const struct {
        const char *chosen, *json;
    } cases[] = {{"\"damp\": 0.5", "{\"damp\":0.5}"}, {"\"loss\": inf", "{\"text\":\"\\\"loss\\\": inf\"}"}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        char *dir = tiny_dir();
        assay_loss l = {.name = "w", .layer = 1, .rows = 2, .cols = 3, .choice = {.method = ASSAY_METHOD_GPTQ}}, *back;
        assay_losses one = {.v = &l, .n = 1};
        assay_str text = {0}, again = {0};
        assay_err err = {0};
        size_t n;
        snprintf(l.chosen, sizeof l.chosen, "%s", cases[i].chosen);
        must(assay_loss_print(&text, &l, &err), &err);
        if (!strstr(assay_str_c(&text), cases[i].json)) fail_msg("%s", assay_str_c(&text));
        must(assay_losses_save(dir, &one, &err), &err);
        must(assay_losses_load(&back, &n, dir, &err), &err);
        assert_int_equal(n, 1);
        must(assay_loss_print(&again, back, &err), &err); /* a resumed run writes the same */
        assert_string_equal(assay_str_c(&again), assay_str_c(&text));
        assay_free(back);
        assay_str_free(&text);
        assay_str_free(&again);
        tiny_remove(dir);
        assay_free(dir);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_files_read_back_as_encoded),
        cmocka_unit_test(the_manifest_and_the_files_that_travel),
        cmocka_unit_test(stacked_matrices_share_their_scale),
        cmocka_unit_test(what_a_method_chose_is_kept_even_when_it_is_no_json),
        cmocka_unit_test(mixed_precisions_become_config_groups),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(what_no_convention_holds_is_refused),
        cmocka_unit_test(bad_sources_are_refused),
        cmocka_unit_test(the_same_call_again_does_nothing),
        cmocka_unit_test(a_dry_run_tells_sizes_and_touches_nothing),
        cmocka_unit_test(demo_model_loses_less_with_more_bits),
    };
    return cmocka_run_group_tests_name("quantize", tests, make_model, remove_model);
}
