/* AutoRound: plain rounding where there is nothing to learn, the learned parameters' moves and bounds, the layer's error on its
 * calibration inputs, the optimum of a problem small enough to search, and that threads change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "method/layer.h"
#include "method/methods.h"
#include "method/rounding.h"
#include "num/convert.h"
#include "train/layer.h"

extern const assay_method assay_method_autoround;

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* --- a decoder layer made up on the spot --- */

enum { MAX_ITEMS = 7, MAX_SEQS = 12 };

typedef struct bench {
    assay_config config;
    assay_tensor tensor[MAX_ITEMS];
    assay_item item[MAX_ITEMS];
    assay_choice choice[MAX_ITEMS];
    assay_layer layer;
    int32_t lengths[MAX_SEQS];
    float *x, *x_ref, *y_ref;
} bench;

#define CONFIG                                                                                                                      \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": %d, \"intermediate_size\": %d, "        \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": %d, \"vocab_size\": 50, "       \
    "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"max_position_embeddings\": 64, \"tie_word_embeddings\": false, "            \
    "\"hidden_act\": \"silu\", \"attention_bias\": false, \"mlp_bias\": false, \"torch_dtype\": \"bfloat16\"}"

static void random_bf16(assay_tensor *t, const char *name, int64_t rows, int64_t cols, assay_rng *rng) {
    size_t n = (size_t)(rows * cols);
    uint16_t *data = assay_mallocn(n, sizeof *data);
    for (size_t i = 0; i < n; i++) data[i] = assay_f32_to_bf16((float)(assay_rng_normal(rng) / sqrt((double)cols)));
    *t = (assay_tensor){
        .name = name, .dtype = ASSAY_DTYPE_BF16, .n_dims = 2, .dims = {rows, cols}, .data = data, .n_bytes = 2 * n};
}

/* y = the layer with its matrices as they are now: encoded or not. */
static void run_layer(float *y, const bench *b, const float *x) {
    assay_err err = {0};
    assay_tape *tape = NULL;
    assay_params p = {{0}};
    float *w[MAX_ITEMS];
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) p.w[r] = b->layer.vector[r];
    for (int i = 0; i < MAX_ITEMS; i++) {
        int64_t rows = b->tensor[i].dims[0], elements = rows * b->tensor[i].dims[1];
        w[i] = assay_mallocn((size_t)elements, sizeof(float));
        assay_item_read(w[i], &b->item[i], 0, elements);
        if (b->item[i].out.codes) assay_matrix_decode_rows(w[i], &b->item[i].out, 0, rows);
        p.w[b->item[i].role] = w[i];
    }
    must(assay_tape_open(&tape, &b->config, 1, &err), &err);
    must(assay_tape_forward(y, tape, 0, &p, x, b->lengths, b->layer.n_seqs, &err), &err);
    assay_tape_close(tape);
    for (int i = 0; i < MAX_ITEMS; i++) assay_free(w[i]);
}

/* choice is what all matrices of the layer get. Inputs of the quantized path differ a little from the original ones, and tokens are
 * correlated over channels as real ones are. */
static void bench_open(bench *b, int hidden, int ffn, const assay_choice *choice, int n_threads) {
    static const assay_tensor_role roles[] = {ASSAY_ROLE_Q,    ASSAY_ROLE_K,  ASSAY_ROLE_V,   ASSAY_ROLE_O,
                                              ASSAY_ROLE_GATE, ASSAY_ROLE_UP, ASSAY_ROLE_DOWN};
    char text[1024];
    assay_err err = {0};
    assay_rng rng;
    json_t *json = NULL;
    memset(b, 0, sizeof *b);
    snprintf(text, sizeof text, CONFIG, hidden, ffn, hidden / 4);
    must(assay_json_parse(&json, text, strlen(text), "config", &err), &err);
    must(assay_config_parse(&b->config, json, NULL, "config", &err), &err);
    json_decref(json);
    assay_rng_init(&rng, 5);
    int kv = hidden / 2;
    const int shape[MAX_ITEMS][2] = {{hidden, hidden}, {kv, hidden},  {kv, hidden}, {hidden, hidden},
                                     {ffn, hidden},    {ffn, hidden}, {hidden, ffn}};
    for (int i = 0; i < MAX_ITEMS; i++) {
        random_bf16(&b->tensor[i], "model.layers.0.some.weight", shape[i][0], shape[i][1], &rng);
        b->choice[i] = *choice;
        b->item[i] = (assay_item){.weight = &b->tensor[i], .choice = &b->choice[i], .role = roles[i], .model_dtype = ASSAY_DTYPE_BF16};
    }
    b->layer = (assay_layer){.config = &b->config, .n_threads = n_threads, .items = b->item, .n_items = MAX_ITEMS};
    b->layer.lengths = b->lengths;
    b->layer.n_seqs = MAX_SEQS;
    for (int i = 0; i < MAX_SEQS; i++) b->layer.n_tokens += (size_t)(b->lengths[i] = 9 + 5 * (i % 4));
    size_t n = b->layer.n_tokens * (size_t)hidden;
    b->x = assay_mallocn(n, sizeof *b->x);
    b->x_ref = assay_mallocn(n, sizeof *b->x_ref);
    for (size_t i = 0; i < n; i++) {
        double common = i % (size_t)hidden ? (double)b->x_ref[i - 1] : 0;
        b->x_ref[i] = (float)(0.7 * common + assay_rng_normal(&rng));
        b->x[i] = b->x_ref[i] + (float)(0.02 * assay_rng_normal(&rng));
    }
    b->layer.x = b->x;
    for (int r = ASSAY_ROLE_ATTN_NORM; r <= ASSAY_ROLE_MLP_NORM; r += ASSAY_ROLE_MLP_NORM - ASSAY_ROLE_ATTN_NORM) {
        b->layer.vector[r] = assay_mallocn((size_t)hidden, sizeof(float));
        b->layer.vector_n[r] = hidden;
        for (int i = 0; i < hidden; i++) b->layer.vector[r][i] = (float)(1 + 0.2 * assay_rng_normal(&rng));
    }
    b->y_ref = assay_mallocn(n, sizeof *b->y_ref);
    run_layer(b->y_ref, b, b->x_ref);
    b->layer.y_ref = b->y_ref;
    must(assay_bench_open(&b->layer.bench, &b->config, n_threads, &err), &err);
}

static void bench_close(bench *b) {
    for (int i = 0; i < MAX_ITEMS; i++) {
        assay_item_touch(&b->layer, &b->item[i]);
        assay_free((void *)(uintptr_t)b->tensor[i].data);
        assay_free(b->item[i].clip);
        assay_matrix_deinit(&b->item[i].out);
    }
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) assay_free(b->layer.vector[r]);
    assay_free(b->x);
    assay_free(b->x_ref);
    assay_free(b->y_ref);
    assay_bench_close(b->layer.bench);
    assay_config_deinit(&b->config);
}

static void bench_run(bench *b) {
    assay_err err = {0};
    assay_item *items[MAX_ITEMS];
    size_t n = 0;
    for (int i = 0; i < MAX_ITEMS; i++) {
        assay_matrix_deinit(&b->item[i].out);
        b->item[i].out = (assay_matrix){0};
        b->item[i].chosen[0] = 0;
        if (b->choice[i].method != ASSAY_METHOD_NONE) items[n++] = &b->item[i];
    }
    must(assay_method_autoround.quantize(&b->layer, items, n, &err), &err);
    for (size_t i = 0; i < n; i++) must(assay_matrix_check(&items[i]->out, "out", &err), &err);
}

/* |layer_now(x) - y_ref|^2 over all sequences. */
static double layer_error(const bench *b) {
    size_t n = b->layer.n_tokens * (size_t)b->config.hidden_size;
    float *y = assay_mallocn(n, sizeof *y);
    double error = 0;
    run_layer(y, b, b->x);
    for (size_t i = 0; i < n; i++) error += ((double)y[i] - (double)b->y_ref[i]) * ((double)y[i] - (double)b->y_ref[i]);
    assay_free(y);
    return error;
}

typedef struct variant {
    assay_precision precision;
    int64_t group;
    bool asymmetric;
    double gain; /* error of the layer, at most this share of plain rounding's */
} variant;

static const variant variants[] = {
    {ASSAY_PRECISION_INT4, 32, false, 0.6}, {ASSAY_PRECISION_INT4, 0, true, 0.7},   {ASSAY_PRECISION_INT2, 16, true, 0.5},
    {ASSAY_PRECISION_INT3, 32, false, 0.5}, {ASSAY_PRECISION_INT8, 0, false, 1.0},  {ASSAY_PRECISION_MXFP4, 32, false, 0.75},
    {ASSAY_PRECISION_NVFP4, 16, false, 0.7}, {ASSAY_PRECISION_NF4, 32, false, 0.7},
};

static assay_choice choice_of(const variant *v, int64_t iters) {
    return (assay_choice){.method = ASSAY_METHOD_AUTOROUND,
                          .precision = v->precision,
                          .group_size = v->group,
                          .asymmetric = v->asymmetric,
                          .iters = iters,
                          .batch_size = 4};
}

/* --- nothing to learn --- */

/* The same grids, each weight at the nearest value: with quotients in float32, as the learned roundings start from; rtn's own are
 * rounded to the model's type. */
static void round_in_float(assay_matrix *m, const assay_grid_spec *spec, const float *w) {
    int64_t n_groups = assay_matrix_n_groups(m), group = m->group_size > 0 ? m->group_size : m->cols;
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t g = 0; g < n_groups; g++) {
            int64_t i = r * n_groups + g, at = r * m->cols + g * group;
            float middle = (float)(1 << (assay_precision_bits(m->precision) - 1));
            assay_grid grid = {.scale = m->scales[i], .stored = m->scales[i], .zero = m->zeros ? (float)m->zeros[i] : middle};
            assay_grid_round(m->codes + at, NULL, spec, &grid, w + at, (size_t)ASSAY_MIN(group, m->cols - g * group));
        }
}

static void encode_plainly(assay_matrix *out, const bench *b, int i) {
    const assay_choice *c = &b->choice[i];
    assay_err err = {0};
    int64_t rows = b->tensor[i].dims[0], cols = b->tensor[i].dims[1];
    float *w = assay_mallocn((size_t)(rows * cols), sizeof *w);
    assay_item_read(w, &b->item[i], 0, rows * cols);
    assay_grid_spec spec = assay_choice_grid(c, ASSAY_DTYPE_BF16);
    assay_int_opts o = {.bits = assay_precision_bits(c->precision),
                        .group_size = c->group_size,
                        .asymmetric = c->asymmetric,
                        .scale_dtype = ASSAY_DTYPE_BF16};
    switch (assay_precision_get_kind(c->precision)) {
    case ASSAY_KIND_INT:
        must(assay_encode_int(out, w, rows, cols, &o, &err), &err);
        round_in_float(out, &spec, w);
        break;
    case ASSAY_KIND_FLOAT: must(assay_encode_float(out, w, rows, cols, &spec, &err), &err); break;
    default: must(assay_encode_codebook(out, w, rows, cols, c->precision, c->group_size, false, &err), &err); break;
    }
    assay_free(w);
}

static void without_iterations_it_is_rtn(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(variants); k++) {
        bench b;
        assay_choice c = choice_of(&variants[k], 0);
        bench_open(&b, 64, 96, &c, 2);
        bench_run(&b);
        for (int i = 0; i < MAX_ITEMS; i++) {
            assay_matrix plain = {0}, *out = &b.item[i].out;
            encode_plainly(&plain, &b, i);
            assert_memory_equal(out->codes, plain.codes, (size_t)(plain.rows * plain.cols));
            assert_int_equal(out->n_scales, plain.n_scales);
            assert_memory_equal(out->scales, plain.scales, (size_t)plain.n_scales * sizeof(float));
            assert_int_equal(out->zeros != NULL, plain.zeros != NULL);
            if (plain.zeros) assert_memory_equal(out->zeros, plain.zeros, (size_t)plain.n_scales);
            assert_true(out->global_scale == plain.global_scale);
            assay_matrix_deinit(&plain);
        }
        bench_close(&b);
    }
}

/* --- what is learned --- */

static void the_layer_comes_nearer_its_original(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(variants); k++) {
        bench b;
        assay_choice c = choice_of(&variants[k], 0);
        bench_open(&b, 64, 96, &c, 2);
        bench_run(&b);
        double plain = layer_error(&b);
        for (int i = 0; i < MAX_ITEMS; i++) b.choice[i].iters = 60;
        bench_run(&b);
        double learned = layer_error(&b);
        print_message("# %s g%d%s: %.3f of rtn's error, %s\n", assay_precision_name(variants[k].precision), (int)variants[k].group,
                      variants[k].asymmetric ? " asym" : "", learned / plain, b.item[0].chosen);
        assert_true(learned <= variants[k].gain * plain * (1 + 1e-5));
        bench_close(&b);
    }
}

/* Two iterations with a learning rate that ruins everything: plain rounding is what remains. (A float32 model, so that the method
 * measures as exactly as this test does.) */
static void never_worse_than_rtn(void **state) {
    (void)state;
    bench b;
    assay_choice c = choice_of(&variants[4], 0);
    bench_open(&b, 64, 96, &c, 1);
    b.config.dtype = ASSAY_DTYPE_F32;
    bench_run(&b);
    double plain = layer_error(&b);
    for (int i = 0; i < MAX_ITEMS; i++) {
        b.choice[i].iters = 2;
        b.choice[i].lr = 1;
    }
    bench_run(&b);
    assert_true(layer_error(&b) <= plain * (1 + 1e-5));
    bench_close(&b);
}

/* --- from GPTQ's codes --- */

/* Of the elements, how many codes differ, and by how many at most. */
static size_t differing(int *most, const assay_matrix *a, const assay_matrix *b) {
    size_t n = 0;
    *most = 0;
    for (int64_t i = 0; i < a->rows * a->cols; i++) {
        int d = abs(a->codes[i] - b->codes[i]);
        n += d != 0;
        *most = d > *most ? d : *most;
    }
    return n;
}

static void starts_at_the_given_codes(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(variants); k++) {
        bench b;
        assay_err err = {0};
        assay_rounding r;
        int most;
        assay_choice c = choice_of(&variants[k], 0);
        c.start = ASSAY_START_GPTQ;
        c.damp_percent = 0.01;
        bench_open(&b, 64, 96, &c, 2);
        bench_run(&b);
        assay_matrix plain = {0}, *gptq = &b.item[6].out, back = {0};
        encode_plainly(&plain, &b, 6);
        assert_true(differing(&most, gptq, &plain) > 0);
        must(assay_rounding_open(&r, &b.item[6], true, 2, &err), &err);
        must(assay_rounding_start_at(&r, gptq, &err), &err);
        assay_rounding_apply(&r);
        assay_matrix_decode_rows(b.y_ref, gptq, 0, r.rows); /* room enough; values, since a zero has two codes in some */
        for (int64_t i = 0; i < r.rows * r.cols; i++) assert_true(r.value[i] == b.y_ref[i]);
        for (int64_t i = 0; i < r.rows * r.n_groups; i++) assert_true(r.grid[i].stored == gptq->scales[i]);
        /* as far as offsets go, a code moves to the next one: by one where codes are in the order of their values */
        for (int64_t i = 0; i < r.rows * r.cols; i++) r.v[i] = i % 2 ? 0.5f : -0.5f;
        assay_rounding_apply(&r);
        back = *gptq;
        back.codes = r.codes;
        assert_true(differing(&most, gptq, &back) > 0);
        if (assay_precision_get_kind(c.precision) == ASSAY_KIND_INT) assert_int_equal(most, 1);
        assay_rounding_close(&r);
        assay_matrix_deinit(&plain);
        bench_close(&b);
    }
}

static void never_worse_than_its_start(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(variants); k++) {
        bench b;
        assay_choice c = choice_of(&variants[k], 0);
        c.start = ASSAY_START_GPTQ;
        c.damp_percent = 1;
        bench_open(&b, 64, 96, &c, 2);
        b.config.dtype = ASSAY_DTYPE_F32;
        bench_run(&b);
        double start = layer_error(&b);
        for (int i = 0; i < MAX_ITEMS; i++) b.choice[i].iters = 30;
        bench_run(&b);
        double learned = layer_error(&b);
        print_message("# %s: %.3f of the start's error, %s\n", assay_precision_name(variants[k].precision), learned / start, b.item[0].chosen);
        assert_true(learned <= start * (1 + 1e-5));
        if (k == 0) assert_true(learned < 0.95 * start);
        bench_close(&b);
    }
}

/* --- others --- */

/* Matrices that the recipe leaves alone, or that another method has encoded, stay as they are and take part in the layer. */
static void others_take_part_as_they_are(void **state) {
    (void)state;
    bench b;
    assay_choice c = choice_of(&variants[0], 40);
    bench_open(&b, 64, 96, &c, 1);
    for (int i = 1; i < MAX_ITEMS; i++) b.choice[i].method = ASSAY_METHOD_NONE;
    bench_run(&b);
    assert_non_null(b.item[0].out.codes);
    assert_null(b.item[1].out.codes);
    double learned = layer_error(&b);
    b.choice[0].iters = 0;
    bench_run(&b);
    assert_true(learned < layer_error(&b));
    bench_close(&b);
}

static void same_codes(const bench *a, const bench *b, bool equal) {
    bool same = true;
    for (int i = 0; i < MAX_ITEMS; i++) {
        const assay_matrix *m = &a->item[i].out, *n = &b->item[i].out;
        same = same && !memcmp(m->codes, n->codes, (size_t)(m->rows * m->cols)) &&
               !memcmp(m->scales, n->scales, (size_t)m->n_scales * sizeof(float));
    }
    assert_int_equal(same, equal);
}

static void threads_do_not_matter_but_the_seed_does(void **state) {
    (void)state;
    static const size_t some[] = {1, 6};
    for (size_t k = 0; k < 2 * ASSAY_LEN(some); k++) {
        bench one, other;
        assay_choice c = choice_of(&variants[some[k / 2]], 20);
        c.start = k % 2 ? ASSAY_START_GPTQ : ASSAY_START_RTN;
        c.damp_percent = k % 2 ? 0.5 : 0;
        bench_open(&one, 64, 96, &c, 1);
        bench_run(&one);
        for (int n_threads = 2; n_threads <= 3; n_threads++) {
            bench_open(&other, 64, 96, &c, n_threads);
            bench_run(&other);
            same_codes(&one, &other, true);
            bench_close(&other);
        }
        c.seed = 1;
        bench_open(&other, 64, 96, &c, 2);
        bench_run(&other);
        same_codes(&one, &other, false);
        bench_close(&other);
        bench_close(&one);
    }
}

/* --- the parameters themselves --- */

static void offsets_move_against_the_gradient_within_bounds(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(variants); k++) {
        bench b;
        assay_err err = {0};
        assay_rounding r;
        assay_choice c = choice_of(&variants[k], 1);
        bench_open(&b, 64, 96, &c, 1);
        must(assay_rounding_open(&r, &b.item[0], true, 2, &err), &err);
        assay_rounding_apply(&r);
        size_t n = (size_t)(r.rows * r.cols), moved = 0;
        for (size_t i = 0; i < n; i++) r.grad[i] = i % 3 == 0 ? 1.0f : i % 3 == 1 ? -1.0f : 0.0f;
        assay_rounding_step(&r, 0.25f);
        for (size_t i = 0; i < n; i++) {
            float expected = i % 3 == 0 ? -0.25f : i % 3 == 1 ? 0.25f : 0.0f;
            assert_true(r.v[i] == expected || r.v[i] == 0); /* 0: its code was at the end of the range */
            moved += r.v[i] != 0;
        }
        assert_true(moved > n / 2);
        for (int step = 0; step < 8; step++) assay_rounding_step(&r, 0.3f);
        for (size_t i = 0; i < n; i++) assert_true(fabsf(r.v[i]) <= 0.5f);
        for (int64_t i = 0; i < r.rows * r.n_groups; i++)
            assert_true(r.low[i] >= 0 && r.low[i] <= 1 && r.high[i] >= 0 && r.high[i] <= 1);
        assay_rounding_close(&r);
        bench_close(&b);
    }
}

/* The range's gradient through the rounding is that of the values themselves where no code changes: grids move, codes stay. */
static void ranges_move_downhill(void **state) {
    (void)state;
    static const variant wide[] = {{ASSAY_PRECISION_INT8, 32, true, 0}, {ASSAY_PRECISION_INT8, 32, false, 0}};
    for (size_t k = 0; k < ASSAY_LEN(wide); k++) {
        bench b;
        assay_err err = {0};
        assay_rounding r;
        assay_choice c = choice_of(&wide[k], 1);
        bench_open(&b, 64, 96, &c, 1);
        b.item[0].model_dtype = ASSAY_DTYPE_F32; /* else a scale moves in leaps of bf16 */
        must(assay_rounding_open(&r, &b.item[0], true, 1, &err), &err);
        assay_rounding_apply(&r);
        /* error = sum of value^2: every group's range wants to shrink once it cuts its largest weights off */
        for (int64_t i = 0; i < r.rows * r.n_groups; i++) r.low[i] = r.high[i] = 0.8f;
        assay_rounding_apply(&r);
        size_t n = (size_t)(r.rows * r.cols);
        double before = 0, after = 0;
        for (size_t i = 0; i < n; i++) {
            before += (double)r.value[i] * (double)r.value[i];
            r.grad[i] = 2 * r.value[i];
        }
        assay_rounding_step(&r, 0.02f);
        memset(r.v, 0, n * sizeof *r.v); /* the ranges' share alone */
        assay_rounding_apply(&r);
        for (size_t i = 0; i < n; i++) after += (double)r.value[i] * (double)r.value[i];
        assert_true(after < before);
        assay_rounding_close(&r);
        bench_close(&b);
    }
}

static void a_clip_bounds_the_range(void **state) {
    (void)state;
    bench b;
    assay_err err = {0};
    assay_rounding r;
    assay_choice c = choice_of(&variants[1], 1);
    bench_open(&b, 64, 96, &c, 1);
    b.item[0].clip = assay_mallocn(64, sizeof(float));
    for (int i = 0; i < 64; i++) b.item[0].clip[i] = 0.05f;
    must(assay_rounding_open(&r, &b.item[0], true, 1, &err), &err);
    assay_rounding_apply(&r);
    for (int64_t i = 0; i < r.rows * r.cols; i++) assert_true(fabsf(r.value[i]) < 0.06f);
    assay_rounding_close(&r);
    bench_close(&b);
}

/* --- against the optimum --- */

enum { TINY = 4, CODES = 8, SCALES = 60 };

/* Least |G^1/2 (q s - w)|^2 for one row of four weights over all codes of int3 and many scales of either sign. */
static double best_row(const double *w, double gram[TINY][TINY], double absmax) {
    double best = 1e300;
    for (int s = 0; s < 2 * SCALES; s++) {
        double scale = absmax / 4 * (1 - 0.01 * (s / 2)) * (s % 2 ? 1 : -1);
        for (int code = 0; code < CODES * CODES * CODES * CODES; code++) {
            double d[TINY], e = 0;
            for (int i = 0, rest = code; i < TINY; i++, rest /= CODES) d[i] = (rest % CODES - 4) * scale - w[i];
            for (int i = 0; i < TINY; i++)
                for (int j = 0; j < TINY; j++) e += d[i] * gram[i][j] * d[j];
            best = e < best ? e : best;
        }
    }
    return best;
}

/* Only the down projection is learned: a row of it makes one output, so rows have optima of their own. The layer has four hidden
 * columns and four inner ones, and the inner ones are strongly correlated, which is where rounding to nearest is poor. */
static void comes_near_the_exhaustive_optimum(void **state) {
    (void)state;
    bench b;
    assay_err err = {0};
    variant v = {ASSAY_PRECISION_INT3, 0, false, 0};
    assay_choice c = choice_of(&v, 0);
    bench_open(&b, 8, TINY, &c, 1);
    memcpy(b.x, b.x_ref, b.layer.n_tokens * 8 * sizeof(float));
    for (int i = 0; i < MAX_ITEMS - 1; i++) b.choice[i].method = ASSAY_METHOD_NONE;
    bench_run(&b);
    double plain = layer_error(&b), learned = 1e300;
    for (int64_t seed = 0; seed < 3; seed++) {
        b.choice[MAX_ITEMS - 1].iters = 400;
        b.choice[MAX_ITEMS - 1].batch_size = MAX_SEQS;
        b.choice[MAX_ITEMS - 1].seed = seed;
        bench_run(&b);
        learned = fmin(learned, layer_error(&b));
    }
    /* the inner activations: outputs of a layer whose down projection picks one inner column at a time */
    double gram[TINY][TINY] = {{0}}, best = 0;
    size_t n = b.layer.n_tokens;
    float w[MAX_ITEMS][64], down[8 * TINY], *y = assay_mallocn(n * 8, sizeof *y), *x2 = assay_mallocn(n * 8, sizeof *x2);
    assay_params p = {{0}};
    assay_tape *tape = NULL;
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) p.w[r] = b.layer.vector[r];
    for (int i = 0; i < MAX_ITEMS; i++) {
        assay_item_read(w[i], &b.item[i], 0, b.tensor[i].dims[0] * b.tensor[i].dims[1]);
        p.w[b.item[i].role] = w[i];
    }
    p.w[ASSAY_ROLE_DOWN] = down;
    must(assay_tape_open(&tape, &b.config, 1, &err), &err);
    memset(down, 0, sizeof down);
    must(assay_tape_forward(x2, tape, 0, &p, b.x, b.lengths, b.layer.n_seqs, &err), &err);
    for (int i = 0; i < TINY; i++) down[i * TINY + i] = 1;
    must(assay_tape_forward(y, tape, 0, &p, b.x, b.lengths, b.layer.n_seqs, &err), &err);
    for (size_t t = 0; t < n; t++)
        for (int i = 0; i < TINY; i++)
            for (int j = 0; j < TINY; j++)
                gram[i][j] += (double)(y[t * 8 + (size_t)i] - x2[t * 8 + (size_t)i]) * (double)(y[t * 8 + (size_t)j] - x2[t * 8 + (size_t)j]);
    for (int row = 0; row < 8; row++) {
        double d[TINY], absmax = 0;
        for (int i = 0; i < TINY; i++) absmax = fmax(absmax, fabs(d[i] = (double)w[MAX_ITEMS - 1][row * TINY + i]));
        best += best_row(d, gram, absmax);
    }
    print_message("# exhaustive %.4g, learned %.4g, rtn %.4g\n", best, learned, plain);
    assert_true(best <= learned * 1.001); /* else the search is no optimum */
    assert_true(learned < 2 * best && learned < 0.5 * plain);
    assay_tape_close(tape);
    assay_free(y);
    assay_free(x2);
    bench_close(&b);
}

/* --- errors --- */

static void damaged_weights_are_named(void **state) {
    (void)state;
    bench b;
    assay_err err = {0};
    assay_choice c = choice_of(&variants[0], 4);
    bench_open(&b, 64, 96, &c, 1);
    ((uint16_t *)(uintptr_t)b.tensor[3].data)[2 * 64 + 7] = 0x7fc0;
    assay_item *items[MAX_ITEMS];
    for (int i = 0; i < MAX_ITEMS; i++) items[i] = &b.item[i];
    assert_int_equal(assay_method_autoround.quantize(&b.layer, items, MAX_ITEMS, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "row 2, column 7"));
    bench_close(&b);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    assay_status s = ASSAY_ENOMEM;
    for (long n = 0; s != ASSAY_OK; n += 5) {
        bench b;
        assay_err err = {0};
        assay_choice c = choice_of(&variants[1], 1);
        c.start = ASSAY_START_GPTQ;
        bench_open(&b, 64, 96, &c, 1);
        assay_item *items[MAX_ITEMS];
        for (int i = 0; i < MAX_ITEMS; i++) items[i] = &b.item[i];
        assay_mem_fail_after(n);
        s = assay_method_autoround.quantize(&b.layer, items, MAX_ITEMS, &err);
        assay_mem_fail_after(-1);
        assert_true(s == ASSAY_OK || s == ASSAY_ENOMEM);
        bench_close(&b);
    }
}

static void options_are_checked(void **state) {
    (void)state;
    assay_choice c = {.method = ASSAY_METHOD_AUTOROUND};
    assay_method_autoround.complete(&c, 0);
    assert_int_equal(c.precision, ASSAY_PRECISION_INT4);
    assert_int_equal(c.group_size, 128);
    assert_int_equal(c.start, ASSAY_START_GPTQ);
    assert_int_equal(c.iters, 75);
    assert_int_equal(c.batch_size, 4);
    assert_true(c.damp_percent == 1);
    assert_null(assay_method_autoround.check(&c));
    c.start = ASSAY_START_RTN; /* asked for: the original's settings */
    assay_method_autoround.complete(&c, ASSAY_OPT_START);
    assert_int_equal(c.iters, 200);
    assert_int_equal(c.batch_size, 8);
    assert_true(c.damp_percent == 0);
    c.damp_percent = 0.1;
    assert_non_null(assay_method_autoround.check(&c));
    c.iters = 0; /* nothing to be learned: rtn, as the original */
    assay_method_autoround.complete(&c, ASSAY_OPT_ITERS);
    assert_int_equal(c.start, ASSAY_START_RTN);
    assay_method_autoround.complete(&c, 0);
    assert_non_null(assay_method_autoround.check_shape(&c, 10, 100));
    c.precision = ASSAY_PRECISION_FP8_E4M3;
    assert_non_null(assay_method_autoround.check(&c));
    c.precision = ASSAY_PRECISION_NVFP4;
    assay_method_autoround.complete(&c, ASSAY_OPT_PRECISION);
    assert_int_equal(c.group_size, 16);
    assert_null(assay_method_autoround.check(&c));
    c.asymmetric = true;
    assert_non_null(assay_method_autoround.check(&c));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_iterations_it_is_rtn),
        cmocka_unit_test(the_layer_comes_nearer_its_original),
        cmocka_unit_test(never_worse_than_rtn),
        cmocka_unit_test(starts_at_the_given_codes),
        cmocka_unit_test(never_worse_than_its_start),
        cmocka_unit_test(others_take_part_as_they_are),
        cmocka_unit_test(threads_do_not_matter_but_the_seed_does),
        cmocka_unit_test(offsets_move_against_the_gradient_within_bounds),
        cmocka_unit_test(ranges_move_downhill),
        cmocka_unit_test(a_clip_bounds_the_range),
        cmocka_unit_test(comes_near_the_exhaustive_optimum),
        cmocka_unit_test(damaged_weights_are_named),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests_name("method/autoround", tests, NULL, NULL);
}
