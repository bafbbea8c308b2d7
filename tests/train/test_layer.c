/* The layer's forward and backward pass: against a naive layer in double and its central differences, against model/'s own layer, for
 * any number of threads, on the peculiarities that architectures have (grouped heads, biases, head norms, windows, scaled rotations). */
#include "support.h"
#include "model/layer.h"

enum { ROWS = 23 };

static double *to_doubles(const float *x, size_t n) {
    double *d = assay_mallocn(n, sizeof *d);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

static double rms(const float *x, size_t n) {
    double ss = 0;
    for (size_t i = 0; i < n; i++) ss += (double)x[i] * (double)x[i];
    return sqrt(ss / (double)n);
}

/* A layer of a tiny model with everything that a pass takes. Sequences of different lengths. */
typedef struct bench {
    tiny t;
    ref_layer ref;
    assay_tape *tape;
    assay_params params;
    int64_t layer;
    const int32_t *lengths;
    size_t n_seqs, rows, hidden;
    float *x, *y, *dy, *dx;
    float *grad[ASSAY_ROLE_COUNT];
} bench;

static void bench_open(bench *b, const char *name, int64_t layer, const int32_t *lengths, size_t n_seqs, int n_threads) {
    assay_err err = {0};
    memset(b, 0, sizeof *b);
    tiny_open(&b->t, name);
    ref_open(&b->ref, &b->t, layer);
    must(assay_tape_open(&b->tape, &b->t.config, n_threads, &err), &err);
    b->params = tiny_params(&b->t, (size_t)layer);
    b->layer = layer;
    b->lengths = lengths;
    b->n_seqs = n_seqs;
    b->hidden = (size_t)b->t.config.hidden_size;
    for (size_t i = 0; i < n_seqs; i++) b->rows += (size_t)lengths[i];
    size_t n = b->rows * b->hidden;
    b->x = assay_mallocn(n, sizeof(float));
    b->y = assay_mallocn(n, sizeof(float));
    b->dy = assay_mallocn(n, sizeof(float));
    b->dx = assay_mallocn(n, sizeof(float));
    fill_normal(b->x, n, 1.0, 11);
    fill_normal(b->dy, n, 1.0, 12);
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        if (b->t.w[layer][r]) b->grad[r] = assay_calloc(b->t.n[layer][r], sizeof(float));
}

static void bench_close(bench *b) {
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) assay_free(b->grad[r]);
    assay_free(b->x);
    assay_free(b->y);
    assay_free(b->dy);
    assay_free(b->dx);
    assay_tape_close(b->tape);
    ref_close(&b->ref);
    tiny_close(&b->t);
}

static void bench_run(bench *b) {
    assay_err err = {0};
    assay_grads g = {{0}};
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) g.w[r] = b->grad[r];
    must(assay_tape_forward(b->y, b->tape, b->layer, &b->params, b->x, b->lengths, b->n_seqs, &err), &err);
    must(assay_tape_backward(b->dx, &g, b->tape, &b->params, b->x, b->dy, &err), &err);
}

/* sum(dy * y) of the naive layer. */
static double ref_loss(const bench *b, const double *x) {
    double sum = 0, *y = doubles((int64_t)(b->rows * b->hidden));
    for (size_t i = 0, at = 0; i < b->n_seqs; at += (size_t)b->lengths[i++] * b->hidden)
        ref_forward(y + at, &b->ref, x + at, b->lengths[i]);
    for (size_t i = 0; i < b->rows * b->hidden; i++) sum += (double)b->dy[i] * y[i];
    assay_free(y);
    return sum;
}

static const int32_t two[] = {ROWS, 5};

static void forward_is_the_formula(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(tiny_names); k++)
        for (int64_t layer = 0; layer < 2; layer++) {
            bench b;
            bench_open(&b, tiny_names[k], layer, two, 2, 1);
            bench_run(&b);
            double *x = to_doubles(b.x, b.rows * b.hidden), *y = doubles((int64_t)(b.rows * b.hidden)), worst = 0;
            ref_forward(y, &b.ref, x, two[0]);
            ref_forward(y + two[0] * (int64_t)b.hidden, &b.ref, x + two[0] * (int64_t)b.hidden, two[1]);
            for (size_t i = 0; i < b.rows * b.hidden; i++) worst = fmax(worst, fabs(y[i] - (double)b.y[i]));
            double scale = rms(b.y, b.rows * b.hidden);
            if (!(worst < 1e-5 * scale)) fail_msg("%s layer %d: outputs differ by %g of %g", tiny_names[k], (int)layer, worst, scale);
            assay_free(x);
            assay_free(y);
            bench_close(&b);
        }
}

/* Central differences of `value` (in double) at a few of n places against the float gradient. */
static void check_places(bench *b, double *value, const float *grad, size_t n, double *x, const char *what) {
    assay_rng rng;
    assay_rng_init(&rng, n);
    double scale = rms(grad, n), step = 1e-5;
    for (int i = 0; i < 6; i++) {
        size_t at = (size_t)assay_rng_below(&rng, n);
        double was = value[at], up, down;
        value[at] = was + step;
        up = ref_loss(b, x);
        value[at] = was - step;
        down = ref_loss(b, x);
        value[at] = was;
        double expected = (up - down) / (2 * step);
        if (!(fabs(expected - (double)grad[at]) < 1e-4 * scale))
            fail_msg("%s: gradient at %zu is %g, by differences %g (rms %g)", what, at, (double)grad[at], expected, scale);
    }
}

static void check_gradients(const char *name, int64_t layer, const int32_t *lengths, size_t n_seqs) {
    bench b;
    char what[64];
    bench_open(&b, name, layer, lengths, n_seqs, 2);
    bench_run(&b);
    double *x = to_doubles(b.x, b.rows * b.hidden);
    snprintf(what, sizeof what, "%s x", name);
    check_places(&b, x, b.dx, b.rows * b.hidden, x, what);
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        if (b.grad[r]) {
            snprintf(what, sizeof what, "%s role %d", name, r);
            check_places(&b, b.ref.w[r], b.grad[r], b.ref.n[r], x, what);
        }
    assay_free(x);
    bench_close(&b);
}

static void gradients_are_the_differences(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(tiny_names); k++) check_gradients(tiny_names[k], 1, two, 2);
}

/* Sequences that take several blocks of queries, with and without a window, that are no multiples of anything. */
static void long_sequences_go_in_blocks(void **state) {
    (void)state;
    static const int32_t lengths[] = {307};
    check_gradients("qwen3", 0, lengths, 1);
    check_gradients("mistral", 0, lengths, 1);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    static const int32_t lengths[] = {131, 1, 40, 64};
    for (size_t k = 0; k < ASSAY_LEN(tiny_names); k++) {
        bench one, many;
        bench_open(&one, tiny_names[k], 0, lengths, 4, 1);
        bench_run(&one);
        for (int n_threads = 2; n_threads <= 5; n_threads += 3) {
            bench_open(&many, tiny_names[k], 0, lengths, 4, n_threads);
            bench_run(&many);
            assert_memory_equal(one.y, many.y, one.rows * one.hidden * sizeof(float));
            assert_memory_equal(one.dx, many.dx, one.rows * one.hidden * sizeof(float));
            for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
                if (one.grad[r]) assert_memory_equal(one.grad[r], many.grad[r], one.ref.n[r] * sizeof(float));
            bench_close(&many);
        }
        bench_close(&one);
    }
}

/* What is not asked for is not computed, and what is comes out the same; gradients add up over calls. */
static void only_what_is_asked_for(void **state) {
    (void)state;
    assay_err err = {0};
    bench all;
    bench_open(&all, "qwen3", 1, two, 2, 1);
    bench_run(&all);
    static const assay_tensor_role asked[] = {ASSAY_ROLE_DOWN, ASSAY_ROLE_UP, ASSAY_ROLE_MLP_NORM, ASSAY_ROLE_O, ASSAY_ROLE_K_NORM,
                                              ASSAY_ROLE_V, ASSAY_ROLE_ATTN_NORM};
    for (size_t i = 0; i < ASSAY_LEN(asked); i++) {
        assay_grads g = {{0}};
        size_t n = all.ref.n[asked[i]];
        float *sum = assay_calloc(n, sizeof *sum);
        g.w[asked[i]] = sum;
        must(assay_tape_forward(NULL, all.tape, all.layer, &all.params, all.x, all.lengths, all.n_seqs, &err), &err);
        must(assay_tape_backward(NULL, &g, all.tape, &all.params, all.x, all.dy, &err), &err);
        assert_memory_equal(sum, all.grad[asked[i]], n * sizeof *sum);
        must(assay_tape_forward(NULL, all.tape, all.layer, &all.params, all.x, all.lengths, all.n_seqs, &err), &err);
        must(assay_tape_backward(NULL, &g, all.tape, &all.params, all.x, all.dy, &err), &err);
        for (size_t k = 0; k < n; k++)
            assert_true(fabs((double)sum[k] - 2 * (double)all.grad[asked[i]][k]) <= 1e-5 * rms(all.grad[asked[i]], n));
        assay_free(sum);
    }
    bench_close(&all);
}

/* Products in bf16 are good to its eight bits, and as independent of threads. */
static void bf16_is_near(void **state) {
    (void)state;
    static const int32_t lengths[] = {131, 40};
    bench exact, one, many;
    bench_open(&exact, "qwen3", 0, lengths, 2, 1);
    bench_open(&one, "qwen3", 0, lengths, 2, 1);
    bench_open(&many, "qwen3", 0, lengths, 2, 3);
    assay_tape_use_bf16(one.tape);
    assay_tape_use_bf16(many.tape);
    bench_run(&exact);
    bench_run(&one);
    bench_run(&many);
    assert_memory_equal(one.dx, many.dx, one.rows * one.hidden * sizeof(float));
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        if (!exact.grad[r]) continue;
        double error = 0, n = (double)exact.ref.n[r];
        for (size_t i = 0; i < exact.ref.n[r]; i++) error += pow((double)one.grad[r][i] - (double)exact.grad[r][i], 2);
        error = sqrt(error / n) / rms(exact.grad[r], exact.ref.n[r]);
        if (!(error > 0 && error < 0.03)) fail_msg("role %d: gradient is off by %g", r, error);
        assert_memory_equal(one.grad[r], many.grad[r], exact.ref.n[r] * sizeof(float));
    }
    bench_close(&exact);
    bench_close(&one);
    bench_close(&many);
}

/* The runtime's own layer, in float32. */
static void agrees_with_the_runtime(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(tiny_names); k++) {
        assay_err err = {0};
        assay_backend *backend = NULL;
        assay_model *model = NULL;
        assay_layer_runner *runner = NULL;
        assay_cpu_opts cpu = {.n_threads = 1};
        assay_model_opts mo = {.activations = ASSAY_ACT_F32};
        bench b;
        bench_open(&b, tiny_names[k], 1, two, 2, 1);
        bench_run(&b);
        must(assay_backend_open_cpu(&backend, &cpu, &err), &err);
        must(assay_model_open(&model, backend, b.t.dir, &mo, &err), &err);
        must(assay_layer_runner_open(&runner, backend, &b.t.config, 0, ASSAY_KV_F32, &err), &err);
        float *y = assay_mallocn(b.rows * b.hidden, sizeof *y);
        must(assay_layer_run(runner, &assay_model_weights(model)->blocks[1], 1, y, b.x, two, 2, NULL, &err), &err);
        double worst = 0, scale = rms(y, b.rows * b.hidden);
        for (size_t i = 0; i < b.rows * b.hidden; i++) worst = fmax(worst, fabs((double)y[i] - (double)b.y[i]));
        if (!(worst < 1e-5 * scale)) fail_msg("%s: differs from the runtime by %g of %g", tiny_names[k], worst, scale);
        assay_free(y);
        assay_layer_runner_close(runner);
        assay_model_close(model);
        assay_backend_close(backend);
        bench_close(&b);
    }
}

static float *joined(const float *const *w, const size_t *n, size_t n_parts) {
    size_t all = 0, at = 0;
    for (size_t i = 0; i < n_parts; i++) all += n[i];
    float *out = assay_calloc(all, sizeof *out);
    for (size_t i = 0; i < n_parts; at += n[i++])
        if (w[i]) memcpy(out + at, w[i], n[i] * sizeof *out);
    return out;
}

/* The same bits in and out, whether q, k, v and gate, up are one matrix or several. */
static void fused_projections_are_the_separate_ones(void **state) {
    (void)state;
    static const int32_t lengths[] = {5, 9};
    static const assay_tensor_role parts[] = {ASSAY_ROLE_Q, ASSAY_ROLE_K, ASSAY_ROLE_V, ASSAY_ROLE_GATE, ASSAY_ROLE_UP};
    bench b;
    assay_err err = {0};
    const float *w[5], *g[5];
    size_t n[5];
    bench_open(&b, "mistral", 0, lengths, 2, 1);
    bench_run(&b);
    assay_params fused = b.params;
    assay_grads grads = {{0}};
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++)
        if (b.grad[r]) grads.w[r] = assay_calloc(b.t.n[0][r], sizeof(float));
    for (size_t i = 0; i < 5; i++) {
        w[i] = b.params.w[parts[i]];
        g[i] = b.grad[parts[i]];
        n[i] = b.t.n[0][parts[i]];
        fused.w[parts[i]] = NULL;
        assay_free(grads.w[parts[i]]);
        grads.w[parts[i]] = NULL;
    }
    float *qkv = joined(w, n, 3), *gate_up = joined(w + 3, n + 3, 2), *want_qkv = joined(g, n, 3), *want_gate_up = joined(g + 3, n + 3, 2);
    static const float *const nothing[3];
    fused.w[ASSAY_ROLE_QKV] = qkv;
    fused.w[ASSAY_ROLE_GATE_UP] = gate_up;
    grads.w[ASSAY_ROLE_QKV] = joined(nothing, n, 3);
    grads.w[ASSAY_ROLE_GATE_UP] = joined(nothing, n + 3, 2);
    size_t bytes = b.rows * b.hidden * sizeof(float);
    float *y = assay_malloc(bytes), *dx = assay_malloc(bytes);
    must(assay_tape_forward(y, b.tape, 0, &fused, b.x, lengths, 2, &err), &err);
    must(assay_tape_backward(dx, &grads, b.tape, &fused, b.x, b.dy, &err), &err);
    assert_memory_equal(y, b.y, bytes);
    assert_memory_equal(dx, b.dx, bytes);
    assert_memory_equal(grads.w[ASSAY_ROLE_QKV], want_qkv, (n[0] + n[1] + n[2]) * sizeof(float));
    assert_memory_equal(grads.w[ASSAY_ROLE_GATE_UP], want_gate_up, (n[3] + n[4]) * sizeof(float));
    assert_memory_equal(grads.w[ASSAY_ROLE_DOWN], b.grad[ASSAY_ROLE_DOWN], b.t.n[0][ASSAY_ROLE_DOWN] * sizeof(float));
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) assay_free(grads.w[r]);
    assay_free(qkv), assay_free(gate_up), assay_free(want_qkv), assay_free(want_gate_up);
    assay_free(y), assay_free(dx);
    bench_close(&b);
}

static void misuse_is_an_error(void **state) {
    (void)state;
    bench b;
    bench_open(&b, "llama31", 0, two, 2, 1);
    static const int32_t empty[] = {4, 0};
    assay_grads g = {{0}};
    assay_err err = {0};
    assert_int_equal(assay_tape_forward(b.y, b.tape, 0, &b.params, b.x, empty, 2, &err), ASSAY_EINPUT);
    err = (assay_err){0};
    assert_int_equal(assay_tape_backward(b.dx, &g, b.tape, &b.params, b.x, b.dy, &err), ASSAY_EINTERNAL);
    err = (assay_err){0};
    b.params.w[ASSAY_ROLE_UP] = NULL;
    assert_int_equal(assay_tape_forward(b.y, b.tape, 0, &b.params, b.x, two, 2, &err), ASSAY_EINTERNAL);
    bench_close(&b);
    for (long n = 0; n < 40; n++) { /* every allocation of a pass may fail */
        bench_open(&b, "qwen3", 0, two, 2, 1);
        err = (assay_err){0};
        assay_mem_fail_after(n);
        assay_status s = assay_tape_forward(b.y, b.tape, 0, &b.params, b.x, two, 2, &err);
        assay_mem_fail_after(-1);
        assert_true(s == ASSAY_OK || s == ASSAY_ENOMEM);
        bench_close(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_formula),      cmocka_unit_test(gradients_are_the_differences),
        cmocka_unit_test(long_sequences_go_in_blocks), cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(only_what_is_asked_for),      cmocka_unit_test(agrees_with_the_runtime),
        cmocka_unit_test(fused_projections_are_the_separate_ones),
        cmocka_unit_test(bf16_is_near),
        cmocka_unit_test(misuse_is_an_error),
    };
    return cmocka_run_group_tests_name("train/layer", tests, NULL, NULL);
}
