/* test_convert.c: whole checkpoints from one convention to another: what the files say, what is refused before anything is written, loops
 * through folders, and runs that are killed and go on to the same bytes. The sources are checkpoints that the originals wrote
 * (tests/format/golden). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "method/convert.h"

#define GOLDEN "tests/format/golden/"

static char top[200];

static int make_top(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(top, sizeof top, "%s/assay-convert-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(top) ? 0 : -1;
}

static void remove_folder(const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            char path[700];
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            if (assay_path_is_dir(path)) remove_folder(path);
            unlink(path);
        }
    if (d) closedir(d);
    rmdir(dir);
}

static int remove_top(void **state) {
    (void)state;
    remove_folder(top);
    return 0;
}

static char *place(const char *name) {
    static char paths[4][300];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", top, name);
    return p;
}

static assay_convert_result convert(const char *model, const char *out, const char *to) {
    assay_convert_opts o = {.to = to};
    assay_convert_result r;
    assay_err err = {0};
    if (assay_convert(&r, model, out, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return r;
}

static void expect_same_file(const char *a, const char *b, const char *name) {
    char *x = assay_path_join(a, name), *y = assay_path_join(b, name), *p, *q;
    size_t n, m;
    assert_int_equal(assay_read_file(&p, &n, x, 0, NULL), ASSAY_OK);
    assert_int_equal(assay_read_file(&q, &m, y, 0, NULL), ASSAY_OK);
    if (n != m || memcmp(p, q, n) != 0) fail_msg("%s and %s differ", x, y);
    assay_free(x);
    assay_free(y);
    assay_free(p);
    assay_free(q);
}

/* Every tensor of a is in b with the same bytes. */
static void expect_same_tensors(const char *a, const char *b) {
    assay_checkpoint *x, *y;
    assert_int_equal(assay_checkpoint_open(&x, a, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_open(&y, b, NULL), ASSAY_OK);
    assert_int_equal(assay_checkpoint_n_tensors(x), assay_checkpoint_n_tensors(y));
    for (size_t i = 0; i < assay_checkpoint_n_tensors(x); i++) {
        const assay_tensor *s = assay_checkpoint_get(x, i), *t = assay_checkpoint_find(y, s->name);
        if (!t || s->dtype != t->dtype || s->n_bytes != t->n_bytes || memcmp(s->data, t->data, s->n_bytes) != 0) fail_msg("%s differs", s->name);
    }
    assay_checkpoint_close(x);
    assay_checkpoint_close(y);
}

static json_t *quantization_config(const char *dir) {
    char *path = assay_path_join(dir, "config.json");
    json_t *j;
    assert_int_equal(assay_json_load(&j, path, NULL), ASSAY_OK);
    json_t *q = json_incref(json_object_get(j, "quantization_config"));
    json_decref(j);
    assay_free(path);
    return q;
}

static void loops_through_folders_give_the_originals_bytes(void **state) {
    (void)state;
    static const struct {
        const char *model, *to[5], *back;
    } cases[] = {{"gptq-int4", {"compressed-tensors", "awq", "gptq_v2"}, "gptq"},
                 {"gptq-int4-asym", {"ct", "gptq_v2"}, "gptq"},
                 {"gptq-int3-v2", {"compressed-tensors"}, "gptq_v2"},
                 {"gptq-int2", {"gptq_v2", "ct"}, "gptq"},
                 {"gptq-order", {"ct"}, "gptq_v2"},
                 {"awq-gemm", {"gptq_v2", "compressed-tensors"}, "awq"},
                 {"awq-sym", {"gptq", "ct"}, "awq"},
                 {"gptq-int8-row", {"ct"}, "gptq"}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        char from[300], out[300];
        snprintf(from, sizeof from, GOLDEN "%s", cases[i].model);
        for (size_t k = 0; cases[i].to[k]; k++) {
            snprintf(out, sizeof out, "%s/loop-%zu-%zu", top, i, k);
            assay_convert_result r = convert(from, out, cases[i].to[k]);
            assert_int_equal(r.n_carried, 7);
            assert_true(r.error == 0 && r.n_changed == 0);
            snprintf(from, sizeof from, "%s", out);
        }
        snprintf(out, sizeof out, "%s/loop-%zu-back", top, i);
        convert(from, out, cases[i].back);
        snprintf(from, sizeof from, GOLDEN "%s", cases[i].model);
        expect_same_tensors(from, out);
    }
}

static void configurations_go_with_the_tensors(void **state) {
    (void)state;
    convert(GOLDEN "gptq-order", place("order-ct"), "compressed-tensors");
    json_t *q = quantization_config(place("order-ct"));
    const json_t *group = json_object_get(json_object_get(q, "config_groups"), "group_0"), *w = json_object_get(group, "weights");
    assert_string_equal(json_string_value(json_object_get(q, "format")), "pack-quantized");
    assert_int_equal(json_integer_value(json_object_get(w, "group_size")), 16);
    assert_string_equal(json_string_value(json_object_get(w, "actorder")), "group");
    json_decref(q);
    convert(place("order-ct"), place("order-gptq"), "gptq_v2");
    q = quantization_config(place("order-gptq"));
    assert_true(json_is_true(json_object_get(q, "desc_act")));
    assert_true(json_is_false(json_object_get(q, "sym")));
    assert_string_equal(json_string_value(json_object_get(q, "checkpoint_format")), "gptq_v2");
    json_decref(q);
    assert_true(assay_path_exists(place("order-gptq/quantize_config.json")));
    convert(GOLDEN "awq-gemm", place("plain"), "hf");
    q = quantization_config(place("plain"));
    assert_null(q);
}

static void a_refusal_comes_before_anything_is_written(void **state) {
    (void)state;
    static const struct {
        const char *model, *to, *says, *targets;
    } cases[] = {
        {"gptq-order", "awq", "has an activation order (g_idx): awq has none", "Exact targets: compressed-tensors"},
        {"gptq-int4-wrap", "gptq", "has a zero point of 0 (row 3, group 1)", "gptq_v2"},
        {"gptq-int3-v2", "awq", "has codes of 3 bits: awq has 4", "compressed-tensors"},
        {"bnb-nf4-nested", "gptq", "is nf4: gptq holds integers", "none but its own"},
        {"ct-fp8-channel", "fp8", "one scale for a tensor or a block", "none but its own"},
        {"ct-w8a8-static", "hqq", "", ""},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        char from[300];
        assay_convert_opts o = {.to = cases[i].to};
        assay_convert_result r;
        assay_err err = {0};
        snprintf(from, sizeof from, GOLDEN "%s", cases[i].model);
        assay_status s = assay_convert(&r, from, place("refused"), &o, &err);
        if (!*cases[i].says) { /* what is computed changes, the weights do not: done and said */
            assert_int_equal(s, ASSAY_OK);
            assert_string_equal(r.note, "8-bit activations become 16-bit ones");
            continue;
        }
        assert_int_equal(s, ASSAY_EUNSUPPORTED);
        if (!strstr(err.message, cases[i].says) || !strstr(err.message, cases[i].targets)) fail_msg("%s", err.message);
        assert_false(assay_path_exists(place("refused")));
    }
}

static void requantizing_insists_and_tells_the_loss(void **state) {
    (void)state;
    assay_convert_opts o = {.to = "awq", .requantize = true, .group_size = 16};
    assay_convert_result r;
    assay_err err = {0};
    if (assay_convert(&r, GOLDEN "gptq-int3-v2", place("requantized"), &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(r.n_rounded, 7);
    assert_true(r.error > 0 && r.error < 0.2 && r.n_changed > 0);
    convert(place("requantized"), place("requantized-ct"), "ct");
}

static void decoding_says_whether_it_is_exact(void **state) {
    (void)state;
    assay_convert_opts o = {.to = "hf", .dtype = "f32"};
    assay_convert_result r;
    assert_int_equal(assay_convert(&r, GOLDEN "gptq-int4", place("f32"), &o, NULL), ASSAY_OK);
    assert_int_equal(r.n_decoded, 7);
    assert_true(r.n_changed == 0 && r.error == 0);
    o.dtype = "bf16";
    assert_int_equal(assay_convert(&r, GOLDEN "gptq-int4", place("bf16"), &o, NULL), ASSAY_OK);
    assert_true(r.n_changed > 0 && r.error > 0 && r.error < 0.004);
}

/* --- kills --- */

typedef struct killer {
    int steps; /* until it strikes; -1: never */
    bool dies; /* the process ends, else the run is stopped */
} killer;

static int strike(void *ctx, const char *phase, double done, double total, const char *unit) {
    killer *k = ctx;
    (void)phase, (void)done, (void)total, (void)unit;
    if (k->steps-- != 0) return 0;
    if (k->dies) _exit(9);
    return 1;
}

/* GGUF wants a whole model, with a tokenizer. */
static const char *source_for(const char *to) {
    return strcmp(to, "gguf") == 0 ? "models/demo" : GOLDEN "gptq-int3-v2";
}

static assay_status run_with(killer *k, const char *out, const char *to) {
    assay_progress p = {.fn = strike, .ctx = k};
    assay_convert_opts o = {.to = to, .progress = &p, .requantize = true, .group_size = strstr(to, "awq") ? 16 : 0};
    assay_convert_result r;
    return assay_convert(&r, source_for(to), out, &o, NULL);
}

static void killed_runs_go_on_to_the_same_bytes(void **state) {
    (void)state;
    static const char *const targets[] = {"ct", "awq", "hf", "gguf"};
    for (size_t i = 0; i < ASSAY_LEN(targets); i++) {
        killer never = {.steps = -1};
        char whole[300], broken[300];
        snprintf(whole, sizeof whole, "%s/whole-%zu", top, i);
        assert_int_equal(run_with(&never, whole, targets[i]), ASSAY_OK);
        for (int dies = 0; dies < 2; dies++) {
            snprintf(broken, sizeof broken, "%s/broken-%zu-%d", top, i, dies);
            for (int step = 1; step < 7; step += 2) {
                killer k = {.steps = step, .dies = dies};
                if (!dies) {
                    assert_int_equal(run_with(&k, broken, targets[i]), ASSAY_EINTR);
                    continue;
                }
                int status;
                pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0) _exit(run_with(&k, broken, targets[i]) == ASSAY_OK ? 0 : 1);
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
            }
            never.steps = -1;
            assert_int_equal(run_with(&never, broken, targets[i]), ASSAY_OK);
            bool gguf = strcmp(targets[i], "gguf") == 0;
            expect_same_file(whole, broken, gguf ? "model.gguf" : "model.safetensors");
            if (!gguf) expect_same_file(whole, broken, "config.json");
        }
    }
}

static void repeating_a_finished_run_does_nothing(void **state) {
    (void)state;
    convert(GOLDEN "gptq-int4", place("again"), "ct");
    assert_true(convert(GOLDEN "gptq-int4", place("again"), "ct").reused);
    assay_convert_opts o = {.to = "awq"};
    assay_convert_result r;
    assay_err err = {0};
    assert_int_equal(assay_convert(&r, GOLDEN "gptq-int4", place("again"), &o, &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "already holds"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_through_folders_give_the_originals_bytes),
        cmocka_unit_test(configurations_go_with_the_tensors),
        cmocka_unit_test(a_refusal_comes_before_anything_is_written),
        cmocka_unit_test(requantizing_insists_and_tells_the_loss),
        cmocka_unit_test(decoding_says_whether_it_is_exact),
        cmocka_unit_test(killed_runs_go_on_to_the_same_bytes),
        cmocka_unit_test(repeating_a_finished_run_does_nothing),
    };
    return cmocka_run_group_tests_name("convert", tests, make_top, remove_top);
}
