/* test_base.c: the base room. Hash and generator against published vectors; files that appear whole or not at
 * all; the error rules; what the number formatting promises. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/thread.h"

static char dir[] = "/tmp/assay-base-XXXXXX";

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static void the_first_error_wins_and_is_one_line(void **state) {
    (void)state;
    assay_err e = {0};
    assert_int_equal(assay_fail(&e, ASSAY_EINPUT, "cannot read '%s'\nsecond line", "x"), ASSAY_EINPUT);
    assert_int_equal(assay_fail(&e, ASSAY_EIO, "close failed"), ASSAY_EIO);
    assert_int_equal(e.code, ASSAY_EINPUT);
    assert_string_equal(e.message, "cannot read 'x' second line");
    assay_err_prefix(&e, "model %d", 3);
    assert_string_equal(e.message, "model 3: cannot read 'x' second line");
    char longer[1000];
    memset(longer, 'a', sizeof longer);
    longer[999] = 0;
    assay_err cut = {0};
    assay_fail(&cut, ASSAY_EINPUT, "%s", longer);
    assert_int_equal(strlen(cut.message), sizeof cut.message - 1);
    assert_string_equal(cut.message + strlen(cut.message) - 3, "...");
    assert_int_equal(assay_fail(NULL, ASSAY_EIO, "nobody listens"), ASSAY_EIO);
}

static void exit_codes_are_the_documented_ones(void **state) {
    (void)state;
    assert_int_equal(assay_status_exit_code(ASSAY_OK), 0);
    assert_int_equal(assay_status_exit_code(ASSAY_EUSAGE), 2);
    assert_int_equal(assay_status_exit_code(ASSAY_EINPUT), 3);
    assert_int_equal(assay_status_exit_code(ASSAY_ENOTFOUND), 3);
    assert_int_equal(assay_status_exit_code(ASSAY_EUNSUPPORTED), 4);
    assert_int_equal(assay_status_exit_code(ASSAY_ENOMEM), 5);
    assert_int_equal(assay_status_exit_code(ASSAY_ENOSPC), 5);
    assert_int_equal(assay_status_exit_code(ASSAY_EINTR), 130);
}

static void sha256_matches_fips_180(void **state) {
    (void)state;
    char hex[ASSAY_HASH_HEX];
    assay_hash_bytes(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assay_hasher *h;
    assert_int_equal(assay_hasher_new(&h, NULL), ASSAY_OK);
    assay_hasher_put(h, "a", 1);
    assay_hasher_put(h, "bc", 2);
    assay_hasher_finish(h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    /* fields cannot run together */
    char ab_c[ASSAY_HASH_HEX], a_bc[ASSAY_HASH_HEX];
    assay_hasher_new(&h, NULL);
    assay_hasher_put_str(h, "ab");
    assay_hasher_put_str(h, "c");
    assay_hasher_finish(h, ab_c);
    assay_hasher_new(&h, NULL);
    assay_hasher_put_str(h, "a");
    assay_hasher_put_str(h, "bc");
    assay_hasher_finish(h, a_bc);
    assert_string_not_equal(ab_c, a_bc);
}

static void rng_matches_the_reference_generator(void **state) {
    (void)state;
    assay_rng r = {
        {1, 2, 3, 4}}; /* first outputs of Blackman and Vigna's xoshiro256starstar.c from this state */
    assert_true(assay_rng_next(&r) == 11520u);
    assert_true(assay_rng_next(&r) == 0u);
    assert_true(assay_rng_next(&r) == 1509978240u);
    assert_true(assay_rng_next(&r) == 1215971899390074240u);
    assay_rng_init(&r, 0);
    double sum = 0, square = 0;
    unsigned counts[5] = {0};
    for (int i = 0; i < 100000; i++) {
        double x = assay_rng_normal(&r);
        sum += x;
        square += x * x;
        counts[assay_rng_below(&r, 5)]++;
    }
    assert_true(sum / 1e5 > -0.02 && sum / 1e5 < 0.02);
    assert_true(square / 1e5 > 0.97 && square / 1e5 < 1.03);
    for (int i = 0; i < 5; i++)
        assert_true(counts[i] > 19300 && counts[i] < 20700);
}

static void an_aborted_write_leaves_the_old_file(void **state) {
    (void)state;
    char *path = assay_path_join(dir, "f");
    assert_int_equal(assay_write_file(path, "old", 3, NULL), ASSAY_OK);
    assay_writer *w;
    assert_int_equal(assay_writer_open(&w, path, NULL), ASSAY_OK);
    assert_int_equal(assay_writer_put(w, "new", 3, NULL), ASSAY_OK);
    assay_writer_abort(w);
    char *text;
    size_t n;
    assert_int_equal(assay_read_file(&text, &n, path, 0, NULL), ASSAY_OK);
    assert_string_equal(text, "old");
    assay_free(text);
    assay_free(path);
}

static void a_full_disk_is_enospc_and_keeps_the_old_file(void **state) {
    (void)state;
    char *path = assay_path_join(dir, "full");
    assert_int_equal(assay_write_file(path, "old", 3, NULL), ASSAY_OK);
    struct rlimit was, small = {65536, 65536};
    getrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, SIG_IGN); /* then write() fails with EFBIG, which stands for the full disk here */
    small.rlim_max = was.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    size_t n = (size_t)1 << 20;
    char *big = assay_calloc(n, 1);
    assay_err e = {0};
    assay_status s = assay_write_file(path, big, n, &e);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(s, ASSAY_ENOSPC);
    assert_non_null(strstr(e.message, path));
    assay_free(big);
    char *text;
    assert_int_equal(assay_read_file(&text, &n, path, 0, NULL), ASSAY_OK);
    assert_string_equal(text, "old");
    assay_free(text);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "test -z \"$(ls %s | grep tmp)\"", dir);
    assert_int_equal(system(cmd), 0);
    assay_free(path);
}

/* What a kill leaves of a write is known by its name; nothing else is touched. */
static void leftovers_of_killed_writes_are_removed(void **state) {
    (void)state;
    char folder[] = "/tmp/assay-left-XXXXXX";
    static const struct {
        const char *name;
        bool stays;
    } FILES[] = {{"report.html.tmp.4711", false}, {"report.html", true}, {"a.tmp.x1", true}, {"b.tmp.", true}, {"c.tmp", true}};
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < ASSAY_LEN(FILES); i++) {
        char *path = assay_path_join(folder, FILES[i].name);
        assert_int_equal(assay_write_file(path, "x", 1, NULL), ASSAY_OK);
        assay_free(path);
    }
    assay_remove_leftovers(folder);
    for (size_t i = 0; i < ASSAY_LEN(FILES); i++) {
        char *path = assay_path_join(folder, FILES[i].name);
        assert_int_equal(assay_path_exists(path), FILES[i].stays);
        unlink(path);
        assay_free(path);
    }
    rmdir(folder);
    assay_remove_leftovers(folder); /* no folder, no harm */
}

static void missing_files_and_folders_are_named(void **state) {
    (void)state;
    assay_err e = {0};
    assay_map m;
    assert_int_equal(assay_map_open(&m, "/no/such/file", &e), ASSAY_ENOTFOUND);
    assert_string_equal(e.message, "cannot open '/no/such/file': No such file or directory");
    e = (assay_err){0};
    assert_int_equal(assay_map_open(&m, dir, &e), ASSAY_EINPUT);
    char *deep = assay_path_join(dir, "a/b/c");
    assert_int_equal(assay_mkdirs(deep, NULL), ASSAY_OK);
    assert_true(assay_path_is_dir(deep));
    assay_free(deep);
}

static void json_errors_have_line_and_column(void **state) {
    (void)state;
    assay_err e = {0};
    json_t *j;
    assert_int_equal(assay_json_parse(&j, "{\"a\": 1,\n \"a\": 2}", 17, "config.json", &e), ASSAY_EINPUT);
    assert_non_null(strstr(e.message, "config.json: line 2"));
    assert_non_null(strstr(e.message, "duplicate"));
    assert_int_equal(assay_json_parse(&j, "{\"n\": 3, \"s\": \"x\", \"z\": null}", 29, "t", NULL), ASSAY_OK);
    int64_t n = 7, z = 9;
    e = (assay_err){0};
    assert_int_equal(assay_json_get_int(&n, j, "n", "t", &e), ASSAY_OK);
    assert_int_equal(assay_json_get_int(&z, j, "z", "t", &e), ASSAY_OK);
    assert_int_equal(n, 3);
    assert_int_equal(z, 9);
    assert_int_equal(assay_json_get_int(&n, j, "s", "t", &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "t: key 's' must be an integer");
    assay_str b = {0};
    assert_int_equal(assay_json_dump(&b, j, 0, true, NULL), ASSAY_OK);
    assert_string_equal(b.s, "{\"n\":3,\"s\":\"x\",\"z\":null}");
    assay_str_free(&b);
    json_decref(j);
}

static assay_status count_line(void *ctx, json_t *v, size_t line, assay_err *err) {
    (void)err;
    size_t *sum = ctx;
    *sum += line * (size_t)json_integer_value(v);
    return ASSAY_OK;
}

static void jsonl_skips_blank_lines_and_names_bad_ones(void **state) {
    (void)state;
    char *path = assay_path_join(dir, "x.jsonl");
    assay_write_file(path, "10\n\n 20\r\n", 9, NULL);
    size_t sum = 0;
    assert_int_equal(assay_jsonl_each(path, count_line, &sum, NULL), ASSAY_OK);
    assert_int_equal(sum, 1 * 10 + 3 * 20);
    assay_write_file(path, "1\n{\n", 4, NULL);
    assay_err e = {0};
    assert_int_equal(assay_jsonl_each(path, count_line, &sum, &e), ASSAY_EINPUT);
    assert_non_null(strstr(e.message, "x.jsonl:2:"));
    assay_free(path);
}

static void strings_survive_a_failed_allocation(void **state) {
    (void)state;
    for (long k = 0; k < 3; k++) {
        assay_str b = {0};
        assay_mem_fail_after(k);
        for (int i = 0; i < 100; i++)
            assay_str_printf(&b, "%d,", i);
        assay_mem_fail_after(-1);
        assert_int_equal(assay_str_status(&b, NULL), ASSAY_ENOMEM);
        assert_null(assay_str_take(&b));
    }
}

static void sizes_times_and_suggestions_read_well(void **state) {
    (void)state;
    char buf[32];
    assert_string_equal(assay_format_bytes(buf, sizeof buf, 17), "17 B");
    assert_string_equal(assay_format_bytes(buf, sizeof buf, 1536), "1.5 KiB");
    assert_string_equal(assay_format_bytes(buf, sizeof buf, 34.36e9), "32.0 GiB");
    assert_string_equal(assay_format_seconds(buf, sizeof buf, 3.21), "3.2 s");
    assert_string_equal(assay_format_seconds(buf, sizeof buf, 65), "1 min 05 s");
    assert_string_equal(assay_format_seconds(buf, sizeof buf, 7380), "2 h 03 min");
    static const char *const words[] = {"margin", "slice_margin", "confidence"};
    assert_string_equal(assay_nearest("margn", words, 3), "margin");
    assert_null(assay_nearest("zebra", words, 3));
}

static void mark(void *ctx, size_t task, int thread) {
    (void)thread;
    ((unsigned char *)ctx)[task]++;
}

static void mark_range(void *ctx, size_t begin, size_t end, int thread) {
    for (size_t i = begin; i < end; i++)
        mark(ctx, i, thread);
}

static void every_task_runs_exactly_once(void **state) {
    (void)state;
    enum { N = 1003 };
    for (int threads = 1; threads <= 4; threads++) {
        unsigned char a[N] = {0}, b[N] = {0};
        assay_parallel(threads, N, mark, a);
        assay_parallel_range(threads, N, 16, mark_range, b);
        for (int i = 0; i < N; i++)
            assert_true(a[i] == 1 && b[i] == 1);
    }
}

static void note_thread(void *ctx, size_t task, int thread) {
    (void)task;
    if (thread) *(_Atomic int *)ctx = 1;
    usleep(100);
}

static void the_limit_holds_for_every_job(void **state) {
    (void)state;
    _Atomic int others = 0;
    assay_threads_limit(1);
    assert_int_equal(assay_n_cores(), 1);
    assay_parallel(4, 64, note_thread, &others);
    assert_int_equal(others, 0);
    assay_threads_limit(0);
    for (int i = 0; i < 100 && !others; i++) assay_parallel(4, 64, note_thread, &others);
    assert_int_equal(others, 1);
}

/* A child has none of the threads, asleep or not, and makes its own. */
static void a_forked_child_has_a_pool_of_its_own(void **state) {
    enum { N = 64, JOBS = 200 };
    (void)state;
    unsigned char a[N];
    memset(a, 0, sizeof a);
    assay_parallel(4, N, mark, a);
    usleep(20000); /* the workers go to sleep */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        for (int k = 0; k < JOBS; k++) {
            assay_parallel(4, N, mark, a);
            if (k % 20 == 0) usleep(2000); /* the child's, too */
        }
        _exit(a[0] == JOBS + 1 && a[N - 1] == JOBS + 1 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int stop_at_half(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)ctx, (void)phase, (void)unit;
    return done * 2 >= total;
}

static void progress_can_stop_the_work(void **state) {
    (void)state;
    assay_progress p = {stop_at_half, NULL};
    assay_err e = {0};
    assert_int_equal(assay_progress_report(NULL, "scoring", 1, 1, "items", &e), ASSAY_OK);
    assert_int_equal(assay_progress_report(&p, "scoring", 1, 4, "items", &e), ASSAY_OK);
    assert_int_equal(assay_progress_report(&p, "scoring", 2, 4, "items", &e), ASSAY_EINTR);
    assert_int_equal(e.code, ASSAY_EINTR);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_wins_and_is_one_line),
        cmocka_unit_test(exit_codes_are_the_documented_ones),
        cmocka_unit_test(sha256_matches_fips_180),
        cmocka_unit_test(rng_matches_the_reference_generator),
        cmocka_unit_test(an_aborted_write_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_is_enospc_and_keeps_the_old_file),
        cmocka_unit_test(leftovers_of_killed_writes_are_removed),
        cmocka_unit_test(missing_files_and_folders_are_named),
        cmocka_unit_test(json_errors_have_line_and_column),
        cmocka_unit_test(jsonl_skips_blank_lines_and_names_bad_ones),
        cmocka_unit_test(strings_survive_a_failed_allocation),
        cmocka_unit_test(sizes_times_and_suggestions_read_well),
        cmocka_unit_test(every_task_runs_exactly_once),
        cmocka_unit_test(the_limit_holds_for_every_job),
        cmocka_unit_test(a_forked_child_has_a_pool_of_its_own),
        cmocka_unit_test(progress_can_stop_the_work),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
