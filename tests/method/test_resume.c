/* test_resume.c: work that is killed, interrupted, or runs out of disk goes on where it was and ends in the
 * same bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "method/tiny.h"

static char *model;
static const char *const recipes[] = {"rtn,int8;match=mlp\\.,precision=int4g32,symmetric=false",
                                      "nf4,double_quant"};
static char undisturbed[2][65];

static const assay_quantize_opts one_thread = {.n_threads = 1, .shard_bytes = 300000};

static int make_model(void **state) {
    (void)state;
    assay_err err = {0};
    model = tiny_dir();
    if (!model || tiny_make(model, UINT64_MAX, &err) != ASSAY_OK) return -1;
    for (int i = 0; i < 2; i++) {
        char *out = tiny_dir();
        assay_quantize_result res;
        if (tiny_quantize(&res, model, out, recipes[i], &one_thread, &err) != ASSAY_OK) return -1;
        tiny_digest(undisturbed[i], out);
        tiny_remove(out);
        assay_free(out);
    }
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    tiny_remove(model);
    assay_free(model);
    return 0;
}

/* Killed after `matrices` matrices, or (0) when all are done and nothing is committed. */
static void run_killed(const char *out, const char *recipe, int matrices) {
    tiny_run_killed(model, out, recipe, &one_thread, matrices, 1);
}

static bool has_model(const char *out) {
    char *path = assay_path_join(out, "model.safetensors.index.json");
    bool yes = assay_path_exists(path);
    assay_free(path);
    return yes;
}

static void killed_after_any_matrix_it_goes_on(void **state) {
    (void)state;
    static const int after[] = {1, 2, 7, 8, 13, 14, 0};
    for (size_t r = 0; r < 2; r++)
        for (size_t k = 0; k < ASSAY_LEN(after); k++) {
            char *out = tiny_dir(), hex[65];
            assay_quantize_opts o = one_thread;
            assay_quantize_result res;
            assay_err err = {0};
            run_killed(out, recipes[r], after[k]);
            assert_false(has_model(out));
            o.n_threads = 2; /* goes on with other threads than it began with */
            if (tiny_quantize(&res, model, out, recipes[r], &o, &err) != ASSAY_OK)
                fail_msg("%s", err.message);
            tiny_digest(hex, out);
            assert_string_equal(hex, undisturbed[r]);
            assert_int_equal(res.n_resumed, after[k] ? after[k] : TINY_MATRICES);
            assert_int_equal(res.n_matrices, TINY_MATRICES);
            assay_loss *l;
            size_t n;
            assert_int_equal(assay_losses_load(&l, &n, out, NULL), ASSAY_OK);
            assert_int_equal(n, TINY_MATRICES);
            assay_free(l);
            tiny_remove(out);
            assay_free(out);
        }
}

/* Killed from outside wherever it happens to be, commit included, again and again until one run comes
 * through. */
static void killed_at_any_moment_it_ends_in_the_same_bytes(void **state) {
    (void)state;
    char *out = tiny_dir(), hex[65];
    tiny_run_until_through(model, out, recipes[0], &one_thread, 500, 1.1);
    tiny_digest(hex, out);
    assert_string_equal(hex, undisturbed[0]);
    tiny_remove(out);
    assay_free(out);
}

static void another_recipe_does_not_take_over_the_spool(void **state) {
    (void)state;
    char *out = tiny_dir(), hex[65];
    assay_quantize_result res;
    assay_err err = {0};
    run_killed(out, recipes[0], 5);
    if (tiny_quantize(&res, model, out, recipes[1], &one_thread, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    assert_int_equal(res.n_resumed, 0);
    tiny_digest(hex, out);
    assert_string_equal(hex, undisturbed[1]);
    tiny_remove(out);
    assay_free(out);
}

static int stop_half_way(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)ctx;
    (void)phase;
    (void)unit;
    return done > total / 2;
}

static void an_interrupted_run_goes_on(void **state) {
    (void)state;
    char *out = tiny_dir(), hex[65];
    assay_progress p = {.fn = stop_half_way};
    assay_quantize_opts o = one_thread;
    assay_quantize_result res;
    assay_err err = {0};
    o.progress = &p;
    assert_int_equal(tiny_quantize(&res, model, out, recipes[0], &o, &err), ASSAY_EINTR);
    assert_false(has_model(out));
    o.progress = NULL;
    err = (assay_err){0};
    if (tiny_quantize(&res, model, out, recipes[0], &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_true(res.n_resumed > 3 && res.n_resumed < TINY_MATRICES);
    tiny_digest(hex, out);
    assert_string_equal(hex, undisturbed[0]);
    tiny_remove(out);
    assay_free(out);
}

/* --- a full disk: a small tmpfs, in a mount namespace of a child --- */

static int fill_disk(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)phase;
    (void)unit;
    if (done < total / 3) return 0;
    char *path = assay_path_join(ctx, "filler");
    static char zeros[65536];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assay_free(path);
    while (write(fd, zeros, sizeof zeros) > 0) {
    }
    while (write(fd, zeros, 1024) > 0) {
    }
    close(fd);
    return 0;
}

enum { CHILD_OK, CHILD_NO_MOUNT = 77 };

static int full_disk_child(const char *out) {
    char hex[65];
    assay_progress p = {.fn = fill_disk, .ctx = (void *)(uintptr_t)out};
    assay_quantize_opts o = one_thread;
    assay_quantize_result res;
    assay_err err = {0};
    if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS)) return CHILD_NO_MOUNT;
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    /* Too small from the start: said before anything is done. */
    if (mount("tmpfs", out, "tmpfs", 0, "size=256k")) return CHILD_NO_MOUNT;
    if (tiny_quantize(&res, model, out, recipes[0], &o, &err) != ASSAY_ENOSPC) return 2;
    if (!strstr(err.message, "free, spool and output need")) return 3;
    umount(out);
    /* Filled by another while at work. */
    if (mount("tmpfs", out, "tmpfs", 0, "size=4m")) return CHILD_NO_MOUNT;
    o.progress = &p;
    err = (assay_err){0};
    if (tiny_quantize(&res, model, out, recipes[0], &o, &err) != ASSAY_ENOSPC) return 4;
    if (!strstr(err.message, "No space left") || has_model(out)) return 5;
    char *filler = assay_path_join(out, "filler");
    unlink(filler);
    assay_free(filler);
    o.progress = NULL;
    err = (assay_err){0};
    if (tiny_quantize(&res, model, out, recipes[0], &o, &err) != ASSAY_OK) return 6;
    if (res.n_resumed == 0) return 7; /* what was finished is kept */
    tiny_digest(hex, out);
    return strcmp(hex, undisturbed[0]) ? 8 : CHILD_OK;
}

static void a_full_disk_is_an_error_and_loses_nothing(void **state) {
    (void)state;
    char *out = tiny_dir();
    int status;
    pid_t pid = fork();
    if (!pid) _exit(full_disk_child(out));
    waitpid(pid, &status, 0);
    tiny_remove(out);
    assay_free(out);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_NO_MOUNT) {
        print_message("# a tmpfs cannot be mounted here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), CHILD_OK);
}

static void two_writers_are_kept_apart(void **state) {
    (void)state;
    char *out = tiny_dir();
    int to_parent[2], to_child[2], status;
    char c;
    assert_int_equal(pipe(to_parent), 0);
    assert_int_equal(pipe(to_child), 0);
    pid_t pid = fork();
    if (!pid) { /* holds the lock that a running process holds, and waits */
        char *path = assay_path_join(out, ".assay-key");
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        assay_free(path);
        if (fd < 0 || flock(fd, LOCK_EX) || write(to_parent[1], "x", 1) != 1 || read(to_child[0], &c, 1) != 1)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(read(to_parent[0], &c, 1), 1);
    assay_quantize_result res;
    assay_err err = {0};
    assert_int_equal(tiny_quantize(&res, model, out, recipes[0], &one_thread, &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "another process is writing"));
    assert_int_equal(write(to_child[1], "x", 1), 1);
    waitpid(pid, &status, 0);
    for (int i = 0; i < 2; i++) {
        close(to_parent[i]);
        close(to_child[i]);
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    err = (assay_err){0};
    if (tiny_quantize(&res, model, out, recipes[0], &one_thread, &err) != ASSAY_OK)
        fail_msg("%s", err.message);
    tiny_remove(out);
    assay_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_after_any_matrix_it_goes_on),
        cmocka_unit_test(killed_at_any_moment_it_ends_in_the_same_bytes),
        cmocka_unit_test(another_recipe_does_not_take_over_the_spool),
        cmocka_unit_test(an_interrupted_run_goes_on),
        cmocka_unit_test(a_full_disk_is_an_error_and_loses_nothing),
        cmocka_unit_test(two_writers_are_kept_apart),
    };
    return cmocka_run_group_tests_name("resume", tests, make_model, remove_model);
}
