/* test_layered.c: decoder layers quantized as wholes with calibration inputs: killed and resumed, with any number of threads, rotated. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "backend/backend.h"
#include "method/tiny.h"
#include "model/model.h"

static char *model;
static int32_t ids[24 * 40];
static size_t first[25];
static assay_calibration calibration = {.ids = ids, .first = first, .n_seqs = 24, .hash = "some tokens"};

/* Everything that a layered run does: factors, searches, learned roundings, rotations, references, several methods in one layer. */
static const char *const recipes[] = {
    "gptq,int4g32",
    "awq,int3g32",
    "gptq,int4g32,true_sequential=false,act_order=static,awq_scale",
    "smoothquant",
    "gptq,int4g32,rotate,rotate_online",
    "autoround,int4g32,iters=3,batch_size=4",
    "autoround,int4g32,start=rtn,iters=3,batch_size=4",
    "rtn,int8;match=mlp\\.,method=gptq,precision=int4g32;match=o_proj,method=fp8",
};
#define N_RECIPES ASSAY_LEN(recipes)

static int make_model(void **state) {
    (void)state;
    assay_err err = {0};
    tiny_tokens(ids, ASSAY_LEN(ids), 3);
    for (size_t i = 0; i < 24; i++)
        first[i + 1] = first[i] + 17 + i; /* all lengths differ */
    model = tiny_dir();
    return model && tiny_make(model, UINT64_MAX, &err) == ASSAY_OK ? 0 : -1;
}

static int remove_model(void **state) {
    (void)state;
    tiny_remove(model);
    assay_free(model);
    return 0;
}

static assay_quantize_opts options(int n_threads) {
    return (assay_quantize_opts){.n_threads = n_threads, .calibration = &calibration};
}

static void quantize(assay_quantize_result *res, char digest[65], const char *recipe, const char *out, int n_threads) {
    assay_quantize_opts o = options(n_threads);
    assay_err err = {0};
    if (tiny_quantize(res, model, out, recipe, &o, &err) != ASSAY_OK) fail_msg("%s: %s", recipe, err.message);
    tiny_digest(digest, out);
}

static void any_thread_count_gives_the_same_bytes_and_so_does_going_on_after_a_kill(void **state) {
    (void)state;
    static const struct {
        int matrices;
        double share;
    } kills[] = {{1, 0}, {9, 0}, {0, 0.55}};
    for (size_t r = 0; r < N_RECIPES; r++) {
        assay_quantize_result res;
        char *out = tiny_dir(), want[65], got[65];
        quantize(&res, want, recipes[r], out, 1);
        tiny_remove(out);
        assay_free(out);
        for (size_t k = 0; k < ASSAY_LEN(kills); k++) {
            out = tiny_dir();
            assay_quantize_opts o = options(1);
            tiny_run_killed(model, out, recipes[r], &o, kills[k].matrices, kills[k].share);
            quantize(&res, got, recipes[r], out, k ? 3 : 2);
            if (strcmp(got, want)) fail_msg("%s: other bytes after kill %zu", recipes[r], k);
            assert_int_equal(res.n_matrices, TINY_MATRICES);
            if (kills[k].matrices > 7) assert_true(res.n_resumed >= 7); /* the first layer was whole */
            tiny_remove(out);
            assay_free(out);
        }
    }
}

/* Killed from outside wherever it happens to be, in the middle of a layer too, until one run comes through. */
static void killed_at_any_moment_it_ends_in_the_same_bytes(void **state) {
    (void)state;
    assay_quantize_result res;
    char *whole = tiny_dir(), *out = tiny_dir(), want[65], got[65];
    assay_quantize_opts o = options(1);
    quantize(&res, want, recipes[0], whole, 1);
    tiny_run_until_through(model, out, recipes[0], &o, 2000, 1.2);
    tiny_digest(got, out);
    assert_string_equal(got, want);
    tiny_remove(whole);
    tiny_remove(out);
    assay_free(whole);
    assay_free(out);
}

/* Asks to stop at the call of that number and counts all; done never falls. */
typedef struct stopper {
    int stop_at, calls;
    double done;
} stopper;

static int stop(void *ctx, const char *phase, double done, double total, const char *unit) {
    stopper *s = ctx;
    (void)phase;
    (void)unit;
    if (done < s->done || done > total) s->calls = -1000000;
    s->done = done;
    return ++s->calls == s->stop_at;
}

static int calls_with(assay_quantize_opts o, const char *recipe, const char *out, int stop_at, assay_status want) {
    stopper s = {.stop_at = stop_at};
    assay_progress p = {.fn = stop, .ctx = &s};
    assay_quantize_result res;
    assay_err err = {0};
    o.progress = &p;
    o.dry_run = !out;
    assay_status got = tiny_quantize(&res, model, out, recipe, &o, &err);
    if (got != want) fail_msg("%s stopped at %d: status %d, %s", recipe, stop_at, got, err.message);
    assert_true(s.calls > 0);
    return s.calls;
}

static int calls_of(const char *recipe, const char *out, int stop_at, assay_status want) {
    return calls_with(options(1), recipe, out, stop_at, want);
}

/* Ctrl-C within a layer: nothing more is told or done, and going on ends in the same bytes. */
static void interrupted_within_a_layer_it_stops_and_goes_on(void **state) {
    (void)state;
    for (size_t r = 0; r < N_RECIPES; r++) {
        assay_quantize_result res;
        char *out = tiny_dir(), want[65], got[65];
        int all = calls_of(recipes[r], out, 0, ASSAY_OK), outside = 6; /* beginning, embedding, two layers, norm, head */
        tiny_digest(want, out);
        tiny_remove(out);
        assay_free(out);
        assert_true(all >= outside + TINY_LAYERS * 8);
        for (int at = all / 3; at < all; at += all / 2) { /* in the first layer and in the second */
            out = tiny_dir();
            assert_int_equal(calls_of(recipes[r], out, at, ASSAY_EINTR), at);
            quantize(&res, got, recipes[r], out, 2);
            if (strcmp(got, want)) fail_msg("%s: other bytes after an interrupt at %d", recipes[r], at);
            tiny_remove(out);
            assay_free(out);
        }
    }
}

/* Within one matrix, with calibration and without: after each block of its rows or columns. */
static void interrupted_within_a_matrix_it_stops_and_goes_on(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        bool calibrated;
        int least; /* calls in all; 22 are of tensors */
    } cases[] = {{"hqq,int4,group_size=32", false, 22 + 14 * 4}, {"rtn,int3g32,mse", false, 22 + 6 * 3}, {"nf4", false, 22 + 6 * 3},
                 {"gptq,int4g32", true, 150}};
    for (size_t r = 0; r < ASSAY_LEN(cases); r++)
        for (int threads = 1; threads <= 2; threads++) {
            assay_quantize_opts o = options(threads);
            if (!cases[r].calibrated) o.calibration = NULL;
            char *out = tiny_dir(), want[65], got[65];
            int all = calls_with(o, cases[r].recipe, out, 0, ASSAY_OK);
            tiny_digest(want, out);
            tiny_remove(out);
            assay_free(out);
            if (threads == 1 && all < cases[r].least) fail_msg("%s: told only %d times", cases[r].recipe, all);
            for (int at = all / 8; at < all / threads; at += all / 2) { /* two threads share the blocks, one of them tells */
                out = tiny_dir();
                calls_with(o, cases[r].recipe, out, at, ASSAY_EINTR);
                calls_with(o, cases[r].recipe, out, 0, ASSAY_OK);
                tiny_digest(got, out);
                if (strcmp(got, want)) fail_msg("%s: other bytes after an interrupt at %d", cases[r].recipe, at);
                tiny_remove(out);
                assay_free(out);
            }
        }
}

static void an_estimate_can_be_interrupted(void **state) {
    (void)state;
    for (size_t r = 0; r < N_RECIPES; r++) {
        int all = calls_of(recipes[r], NULL, 0, ASSAY_OK);
        assert_true(all >= 12);
        for (int at = 1; at <= all; at += all / 2)
            assert_int_equal(calls_of(recipes[r], NULL, at, ASSAY_EINTR), at);
    }
}

static void calibration_alone_changes_no_code_of_a_method_that_needs_none(void **state) {
    (void)state;
    assay_quantize_result res;
    assay_quantize_opts plain = {.n_threads = 2};
    char *a = tiny_dir(), *b = tiny_dir(), with[65], without[65];
    quantize(&res, with, "rtn,int4g32", a, 2);
    assert_int_equal(tiny_quantize(&res, model, b, "rtn,int4g32", &plain, NULL), ASSAY_OK);
    tiny_digest(without, b);
    assert_string_equal(with, without);
    assay_loss *l;
    size_t n;
    assert_int_equal(assay_losses_load(&l, &n, a, NULL), ASSAY_OK);
    assert_int_equal(n, TINY_MATRICES);
    for (size_t i = 0; i < n; i++)
        assert_true(l[i].output_error > 0 && l[i].output_error < 1); /* which only calibration tells */
    assay_free(l);
    tiny_remove(a);
    tiny_remove(b);
    assay_free(a);
    assay_free(b);
}

static void a_method_that_needs_calibration_says_so_and_what_needs_none(void **state) {
    (void)state;
    assay_quantize_opts plain = {.n_threads = 1};
    assay_quantize_result res;
    char *out = tiny_dir();
    static const char *const needy[] = {"gptq,int4g32", "awq,int4g32", "autoround,int4g32", "smoothquant", "fp8,activations=static"};
    for (size_t i = 0; i < ASSAY_LEN(needy); i++) {
        assay_err err = {0};
        assert_int_equal(tiny_quantize(&res, model, out, needy[i], &plain, &err), ASSAY_EUSAGE);
        assert_non_null(strstr(err.message, "calibration data"));
        assert_non_null(strstr(err.message, "hqq"));
    }
    tiny_remove(out);
    assay_free(out);
}

static void ids_beyond_the_vocabulary_and_sequences_beyond_the_context_are_refused(void **state) {
    (void)state;
    static const int32_t wrong[] = {1, TINY_VOCAB};
    static const size_t two[] = {0, 2}, many[] = {0, 65};
    assay_calibration c = {.ids = wrong, .first = two, .n_seqs = 1, .hash = "x"};
    assay_quantize_opts o = {.n_threads = 1, .calibration = &c};
    assay_quantize_result res;
    char *out = tiny_dir();
    assert_int_equal(tiny_quantize(&res, model, out, "gptq,int4g32", &o, NULL), ASSAY_EINPUT);
    c = (assay_calibration){.ids = ids, .first = many, .n_seqs = 1, .hash = "x"}; /* the context is 64 */
    assert_int_equal(tiny_quantize(&res, model, out, "gptq,int4g32", &o, NULL), ASSAY_EINPUT);
    tiny_remove(out);
    assay_free(out);
}

static void a_dry_run_tells_time_memory_and_activations_and_touches_nothing(void **state) {
    (void)state;
    assay_quantize_opts o = options(2);
    assay_quantize_result res;
    o.dry_run = true;
    for (size_t r = 0; r < N_RECIPES; r++) {
        assay_err err = {0};
        if (tiny_quantize(&res, model, NULL, recipes[r], &o, &err) != ASSAY_OK) fail_msg("%s: %s", recipes[r], err.message);
        assert_true(res.seconds > 0 && res.output_bytes > 0 && res.memory_bytes > 0 && res.activation_bytes > 0);
    }
}

/* --- rotations --- */

/* Logits of a fixed sequence in float32, [40][vocab]. */
static void logits_of(float *out, const char *dir) {
    enum { N = 40 };
    assay_backend *b;
    assay_model *m;
    assay_kv *kv;
    assay_seq seq = {0};
    assay_err err = {0};
    assay_cpu_opts cpu = {.n_threads = 1};
    assay_model_opts f32 = {.activations = ASSAY_ACT_F32};
    int32_t pos[N], rows[N];
    const int32_t *pages[N];
    assert_int_equal(assay_backend_open_cpu(&b, &cpu, &err), ASSAY_OK);
    if (assay_model_open(&m, b, dir, &f32, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_kv_open(&kv, b, assay_model_config(m), ASSAY_KV_F32, 1 << 24, &err), ASSAY_OK);
    assert_int_equal(assay_seq_extend(kv, &seq, N, &err), ASSAY_OK);
    for (int32_t i = 0; i < N; i++) {
        pos[i] = rows[i] = i;
        pages[i] = seq.pages;
    }
    assay_batch batch = {.n = N, .ids = ids, .pos = pos, .pages = pages, .n_out = N, .out = rows};
    assay_model_forward(m, kv, &batch);
    for (size_t i = 0; i < N; i += assay_model_logit_rows(m)) {
        size_t n = ASSAY_MIN(assay_model_logit_rows(m), (size_t)N - i);
        memcpy(out + i * TINY_VOCAB, assay_model_logits(m, i, n), n * TINY_VOCAB * sizeof *out);
    }
    assay_seq_release(kv, &seq);
    assay_kv_close(kv);
    assay_model_close(m);
    assay_backend_close(b);
}

/* The model in float32, so that rotated weights are not rounded to 16 bits. */
static char *float_model(void) {
    char *dir = tiny_dir();
    assay_checkpoint *c;
    assay_ckpt_writer *w;
    assay_err err = {0};
    assert_int_equal(assay_checkpoint_open(&c, model, &err), ASSAY_OK);
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, &err), ASSAY_OK);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        const assay_tensor *t = assay_checkpoint_get(c, i);
        size_t n = (size_t)assay_tensor_n_elements(t);
        float *v = assay_mallocn(n, sizeof *v);
        assay_to_f32(v, t->data, t->dtype, n);
        if (strstr(t->name, "norm"))
            for (size_t k = 0; k < n; k++)
                v[k] = 0.5f + (float)(k % 7) / 5; /* norms that are not all ones */
        assert_int_equal(assay_ckpt_writer_put(w, t->name, ASSAY_DTYPE_F32, t->n_dims, t->dims, v, &err), ASSAY_OK);
        assay_free(v);
    }
    assert_int_equal(assay_ckpt_writer_commit(w, &err), ASSAY_OK);
    assay_checkpoint_close(c);
    assay_str text = {0};
    const char *config = TINY_CONFIG, *dtype = strstr(config, "\"bfloat16\"");
    assay_str_printf(&text, "%.*s\"float32\"}", (int)(dtype - config), config);
    assert_int_equal(tiny_text(dir, "config.json", assay_str_c(&text), &err), ASSAY_OK);
    assay_str_free(&text);
    return dir;
}

/* Nothing is quantized: what differs is the rotation and float32's rounding. */
static void a_rotation_leaves_the_logits_alone(void **state) {
    (void)state;
    char *dir = float_model(), *plain = tiny_dir(), *turned = tiny_dir();
    float *a = assay_mallocn(40 * TINY_VOCAB, sizeof *a), *b = assay_mallocn(40 * TINY_VOCAB, sizeof *b), top = 0;
    static const char *const rotated[] = {"none,rotate", "none,rotate,rotate_online,rotate_seed=5"};
    assay_quantize_result res;
    assay_err err = {0};
    logits_of(a, dir);
    for (size_t i = 0; i < 40 * TINY_VOCAB; i++)
        top = fmaxf(top, fabsf(a[i]));
    for (size_t r = 0; r < ASSAY_LEN(rotated); r++) {
        assay_quantize_opts o = {.n_threads = 2, .overwrite = true};
        if (tiny_quantize(&res, dir, turned, rotated[r], &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
        logits_of(b, turned);
        double worst = 0;
        for (size_t i = 0; i < 40 * TINY_VOCAB; i++)
            worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        assert_true(worst > 0 && worst < 1e-5 * (double)top);
    }
    tiny_remove(dir);
    tiny_remove(plain);
    tiny_remove(turned);
    assay_free(dir);
    assay_free(plain);
    assay_free(turned);
    assay_free(a);
    assay_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_thread_count_gives_the_same_bytes_and_so_does_going_on_after_a_kill),
        cmocka_unit_test(killed_at_any_moment_it_ends_in_the_same_bytes),
        cmocka_unit_test(interrupted_within_a_layer_it_stops_and_goes_on),
        cmocka_unit_test(interrupted_within_a_matrix_it_stops_and_goes_on),
        cmocka_unit_test(an_estimate_can_be_interrupted),
        cmocka_unit_test(calibration_alone_changes_no_code_of_a_method_that_needs_none),
        cmocka_unit_test(a_method_that_needs_calibration_says_so_and_what_needs_none),
        cmocka_unit_test(ids_beyond_the_vocabulary_and_sequences_beyond_the_context_are_refused),
        cmocka_unit_test(a_dry_run_tells_time_memory_and_activations_and_touches_nothing),
        cmocka_unit_test(a_rotation_leaves_the_logits_alone),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
