/* Adapters merged into their base, against peft's merge_and_unload (tests/golden/peft/make.py: peft 0.21.2). */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "base/json.h"
#include "base/progress.h"
#include "method/merge.h"
#include "tiny.h"

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

static void put_path(char out[200], const char *adapter, const char *file) {
    snprintf(out, 200, "tests/golden/peft/%s%s%s", adapter, file ? "/" : "", file ? file : "");
}

static json_t *golden_of(const char *adapter, char base[200]) {
    char path[200];
    json_t *golden = NULL;
    assay_err err = {0};
    put_path(path, adapter, "golden.json");
    must(assay_json_load(&golden, path, &err), &err);
    snprintf(base, 200, "tests/golden/tiny/%s", json_string_value(json_object_get(golden, "base")));
    return golden;
}

static assay_checkpoint *open_ckpt(const char *path) {
    assay_checkpoint *c = NULL;
    assay_err err = {0};
    must(assay_checkpoint_open(&c, path, &err), &err);
    return c;
}

static void compare(const assay_tensor *got, const assay_tensor *want, bool exact) {
    size_t n = (size_t)assay_tensor_n_elements(want), off = 0;
    assert_int_equal(got->dtype, want->dtype);
    assert_int_equal(got->n_bytes, want->n_bytes);
    float *a = assay_mallocn(n, sizeof *a), *b = assay_mallocn(n, sizeof *b);
    assay_to_f32(a, got->data, got->dtype, n);
    assay_to_f32(b, want->data, want->dtype, n);
    for (size_t i = 0; i < n; i++) {
        double ulp = got->dtype == ASSAY_DTYPE_F32 ? 1e-6 : 0.0079;
        if (fabs((double)a[i] - (double)b[i]) > ulp * fmax(fabs((double)b[i]), 1e-3)) fail_msg("%s[%zu]: %g, peft has %g", got->name, i, (double)a[i], (double)b[i]);
        off += a[i] != b[i];
    }
    /* torch sums in another order: a 16-bit element may fall to the other side of a tie, not many do */
    assert_true(exact ? off == 0 : off <= n / 100 || got->dtype == ASSAY_DTYPE_F32);
    assay_free(a), assay_free(b);
}

static void merges_as_peft_does(void **state) {
    static const char *const names[] = {"lora", "dora", "whole"};
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        char base[200], adapter[200], merged[200];
        char *out = tiny_dir();
        json_t *golden = golden_of(names[i], base), *name;
        assay_merge_result res;
        assay_err err = {0};
        size_t k;
        put_path(adapter, names[i], NULL);
        put_path(merged, names[i], "merged.safetensors");
        must(assay_merge(&res, base, adapter, out, NULL, &err), &err);
        assert_true(res.n_merged > 0 && res.change > 0.001 && res.change < 10);
        assay_checkpoint *got = open_ckpt(out), *want = open_ckpt(merged), *from = open_ckpt(base);
        assert_int_equal(assay_checkpoint_n_tensors(got), assay_checkpoint_n_tensors(from));
        json_array_foreach(json_object_get(golden, "modules"), k, name) {
            char tensor[200];
            snprintf(tensor, sizeof tensor, "%s.weight", json_string_value(name));
            compare(assay_checkpoint_find(got, tensor), assay_checkpoint_find(want, tensor), !strcmp(json_string_value(name), "lm_head"));
        }
        const assay_tensor *a = assay_checkpoint_find(got, "model.embed_tokens.weight"), *b = assay_checkpoint_find(from, a->name);
        assert_memory_equal(a->data, b->data, b->n_bytes);
        assay_checkpoint_close(got), assay_checkpoint_close(want), assay_checkpoint_close(from);
        /* the same call again has nothing to do */
        must(assay_merge(&res, base, adapter, out, NULL, &err), &err);
        assert_true(res.reused);
        json_decref(golden);
        tiny_remove(out);
        assay_free(out);
    }
}

static int die_after(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)phase, (void)done, (void)total, (void)unit;
    if (--*(int *)ctx == 0) kill(getpid(), SIGKILL);
    return 0;
}

static void hash_result(char hex[65], const char *dir) {
    char *path = assay_path_join(dir, "model.safetensors");
    assert_int_equal(assay_hash_file(hex, path, NULL), ASSAY_OK);
    assay_free(path);
}

static void killed_it_goes_on_and_ends_in_the_same_bytes(void **state) {
    (void)state;
    const char *base = "tests/golden/tiny/mistral", *adapter = "tests/golden/peft/lora";
    char *whole = tiny_dir(), *cut = tiny_dir(), a[65], b[65];
    assay_merge_result res;
    assay_err err = {0};
    assay_merge_opts one = {.n_threads = 1}, three = {.n_threads = 3};
    must(assay_merge(&res, base, adapter, whole, &one, &err), &err);
    for (int after = 2; after < 14; after += 5) {
        int status = 0, left = after;
        pid_t pid = fork();
        if (pid == 0) {
            assay_progress p = {.fn = die_after, .ctx = &left};
            assay_merge_opts o = {.n_threads = 1, .progress = &p};
            (void)assay_merge(&res, base, adapter, cut, &o, &err);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
    }
    must(assay_merge(&res, base, adapter, cut, &three, &err), &err);
    assert_false(res.reused);
    hash_result(a, whole), hash_result(b, cut);
    assert_string_equal(a, b);
    tiny_remove(whole), tiny_remove(cut);
    assay_free(whole), assay_free(cut);
}

static void refuses_what_does_not_fit(void **state) {
    static const struct {
        const char *base, *adapter;
        assay_status want;
        const char *says;
    } bad[] = {{"tests/golden/tiny/qwen3", "tests/golden/peft/lora", ASSAY_EINPUT, "made for another"},
               {"tests/golden/tiny/qwen2", "tests/golden/peft/whole", ASSAY_EINPUT, "made for another"},
               {"tests/golden/tiny/qwen2", "tests/golden/tiny/qwen2", ASSAY_ENOTFOUND, "adapter_config.json"},
               {"tests/golden/tiny", "tests/golden/peft/lora", ASSAY_ENOTFOUND, "safetensors"}};
    (void)state;
    char *out = tiny_dir();
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_merge_result res;
        assay_err err = {0};
        assert_int_equal(assay_merge(&res, bad[i].base, bad[i].adapter, out, NULL, &err), bad[i].want);
        if (!strstr(err.message, bad[i].says)) fail_msg("'%s' does not say '%s'", err.message, bad[i].says);
    }
    tiny_remove(out);
    assay_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_as_peft_does),
        cmocka_unit_test(killed_it_goes_on_and_ends_in_the_same_bytes),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
