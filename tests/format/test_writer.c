/* test_writer.c: writing checkpoints: shards, order, resuming after SIGKILL at many points, torn journals,
 * a reboot, a full disk, kills inside the commit. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include "base/json.h"
#include "base/rng.h"
#include "format/format.h"
#include "format/support.h"

enum { N_TENSORS = 40, N_ROWS = 257, N_COLS = 64 };

static char *dir;

static int make_dir(void **state) {
    (void)state;
    dir = scratch_make();
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    scratch_remove(dir);
    return 0;
}

static void name_of(char name[40], int i) {
    snprintf(name, 40, "layers.%d.w", i);
}

static void fill(uint8_t *data, int i) {
    for (int k = 0; k < N_ROWS * N_COLS; k++) data[k] = (uint8_t)(k * 31 + k / 255 + i * 7);
}

static assay_status put_one(assay_ckpt_writer *w, int i, assay_err *err) {
    uint8_t data[N_ROWS * N_COLS];
    char name[40];
    name_of(name, i);
    fill(data, i);
    /* types of different widths, so that the file's order is not that of putting */
    assay_dtype type = i % 3 == 0 ? ASSAY_DTYPE_U8 : i % 3 == 1 ? ASSAY_DTYPE_BF16 : ASSAY_DTYPE_F32;
    int64_t dims[2] = {N_ROWS, N_COLS / (int64_t)assay_dtype_size(type)};
    return assay_ckpt_writer_put(w, name, type, 2, dims, data, err);
}

/* Everything a run does, going on from what is there. */
static assay_status whole_run(const char *where, uint64_t shard_bytes, assay_err *err) {
    assay_ckpt_writer *w;
    ASSAY_TRY(assay_ckpt_writer_open(&w, where, shard_bytes, err));
    for (int i = 0; i < N_TENSORS; i++) {
        char name[40];
        name_of(name, i);
        if (assay_ckpt_writer_has(w, name)) continue;
        assay_status s = put_one(w, i, err);
        if (s == ASSAY_OK && i % 8 == 7) s = assay_ckpt_writer_sync(w, err);
        if (s != ASSAY_OK) {
            assay_ckpt_writer_close(w);
            return s;
        }
    }
    return assay_ckpt_writer_commit(w, err);
}

static void expect_whole(const char *where) {
    assay_checkpoint *c;
    assay_err err = {0};
    uint8_t want[N_ROWS * N_COLS];
    if (assay_checkpoint_open(&c, where, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_checkpoint_n_tensors(c), N_TENSORS);
    for (int i = 0; i < N_TENSORS; i++) {
        char name[40];
        name_of(name, i);
        const assay_tensor *t = assay_checkpoint_find(c, name);
        assert_non_null(t);
        fill(want, i);
        assert_int_equal(t->n_bytes, sizeof want);
        assert_memory_equal(t->data, want, sizeof want);
        assert_int_equal((uintptr_t)t->data % assay_dtype_size(t->dtype), 0);
    }
    assay_checkpoint_close(c);
}

/* Files of a folder, sorted and joined by spaces. */
static int visible(const struct dirent *e) {
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static void expect_files(const char *where, const char *names) {
    struct dirent **list;
    assay_str b = {0};
    int n = scandir(where, &list, visible, alphasort);
    for (int i = 0; i < n; i++) {
        assay_str_printf(&b, "%s%s", i ? " " : "", list[i]->d_name);
        free(list[i]);
    }
    free(list);
    assert_string_equal(assay_str_c(&b), names);
    assay_str_free(&b);
}

static char *read_all(const char *where, const char *name, size_t *n) {
    char *path = assay_path_join(where, name), *data;
    assert_int_equal(assay_read_file(&data, n, path, 0, NULL), ASSAY_OK);
    assay_free(path);
    return data;
}

static void expect_same_file(const char *a, const char *b, const char *name) {
    size_t n, m;
    char *x = read_all(a, name, &n), *y = read_all(b, name, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    assay_free(x);
    assay_free(y);
}

static void one_file_appears_at_commit(void **state) {
    (void)state;
    assay_ckpt_writer *w;
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    for (int i = N_TENSORS - 1; i >= 0; i--) assert_int_equal(put_one(w, i, NULL), ASSAY_OK);
    expect_files(dir, ".partial-data .partial-journal");
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    expect_files(dir, "model.safetensors");
    expect_whole(dir);
    /* put in the other order: the same bytes */
    char *other = scratch_make();
    assert_int_equal(whole_run(other, 0, NULL), ASSAY_OK);
    expect_same_file(dir, other, "model.safetensors");
    scratch_remove(other);
}

static void shards_have_an_index_and_keep_the_size(void **state) {
    (void)state;
    uint64_t limit = 5 * N_ROWS * N_COLS + 100;
    assert_int_equal(whole_run(dir, limit, NULL), ASSAY_OK);
    expect_files(
        dir,
        "model-00001-of-00008.safetensors model-00002-of-00008.safetensors model-00003-of-00008.safetensors "
        "model-00004-of-00008.safetensors model-00005-of-00008.safetensors model-00006-of-00008.safetensors "
        "model-00007-of-00008.safetensors model-00008-of-00008.safetensors model.safetensors.index.json");
    expect_whole(dir);
    size_t n;
    char *index = read_all(dir, "model.safetensors.index.json", &n);
    assert_non_null(
        strstr(index, "\"layers.2.w\": \"model-00001-of-00008.safetensors\"")); /* 2 before 10: by number */
    assert_non_null(strstr(index, "\"total_size\": 657920"));
    assay_free(index);
    /* a single file written over it is not hidden by the old index */
    assert_int_equal(whole_run(dir, 0, NULL), ASSAY_OK);
    assert_false(assay_path_exists("model.safetensors.index.json"));
    expect_whole(dir);
    assert_int_equal(whole_run(dir, 1, NULL), ASSAY_OK); /* every tensor larger than a shard */
    expect_whole(dir);
}

static void names_are_put_once(void **state) {
    (void)state;
    assay_ckpt_writer *w, *second;
    assay_err err = {0};
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    assert_int_equal(put_one(w, 3, NULL), ASSAY_OK);
    expect_error(put_one(w, 3, &err), ASSAY_EINPUT, &err, "tensor layers.3.w is written twice");
    assert_true(assay_ckpt_writer_has(w, "layers.3.w"));
    err = (assay_err){0};
    expect_error(assay_ckpt_writer_open(&second, dir, 0, &err), ASSAY_EINPUT, &err,
                 "is being written by another process");
    err = (assay_err){0};
    int64_t bad = -1;
    expect_error(assay_ckpt_writer_put(w, "x", ASSAY_DTYPE_U8, 1, &bad, "", &err), ASSAY_EUSAGE, &err,
                 "impossible shape");
    assay_ckpt_writer_close(w);
    assay_ckpt_writer_close(NULL);
}

/* A child that works; killed after `microseconds` unless it was done before. True when it was done. */
static bool run_and_kill(const char *where, uint64_t shard_bytes, long microseconds) {
    pid_t child = fork();
    if (child == 0) _exit(whole_run(where, shard_bytes, NULL) == ASSAY_OK ? 0 : 1);
    nanosleep(&(struct timespec){.tv_sec = 0, .tv_nsec = microseconds * 1000}, NULL);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    return WIFEXITED(status);
}

/* What the writer says is there is in the spool, whole; what it does not say is put again. */
static void kills_at_any_time_change_nothing(void **state) {
    (void)state;
    char *undisturbed = scratch_make();
    assay_rng rng;
    int kills = 0;
    assert_int_equal(whole_run(undisturbed, 0, NULL), ASSAY_OK);
    assay_rng_init(&rng, 20);
    for (int round = 0; round < 6; round++) {
        long most = 2000; /* microseconds; grows so that every round ends however slow the machine is */
        while (!run_and_kill(dir, 0, 200 + (long)assay_rng_below(&rng, (uint64_t)most))) {
            most += most / 8;
            kills++;
            char *final = assay_path_join(dir, "model.safetensors");
            if (assay_path_exists(final))
                expect_same_file(dir, undisturbed,
                                 "model.safetensors"); /* never half a file under its name */
            assay_free(final);
        }
        expect_same_file(dir, undisturbed, "model.safetensors");
        char *final = assay_path_join(dir, "model.safetensors");
        unlink(final);
        assay_free(final);
        expect_files(dir, "");
    }
    print_message("# %d kills\n", kills);
    assert_true(kills > 0);
    scratch_remove(undisturbed);
}

/* --- moving from the spool to the shards: with small shards a step is small, too --- */

enum { TENSOR_BYTES = N_ROWS * N_COLS, SMALL_SHARDS = 10 * TENSOR_BYTES };
static const char *const SHARDS[] = {"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                                     "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                                     "model.safetensors.index.json"};

static bool has_part(const char *where, const char *part) {
    DIR *d = opendir(where);
    bool found = false;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) found = found || strstr(e->d_name, part);
    if (d) closedir(d);
    return found;
}

static void a_commit_that_is_killed_goes_on(void **state) {
    (void)state;
    char *undisturbed = scratch_make();
    assay_rng rng;
    int inside = 0, kills = 0;
    assert_int_equal(whole_run(undisturbed, SMALL_SHARDS, NULL), ASSAY_OK);
    assay_rng_init(&rng, 21);
    for (int round = 0; round < 3; round++) {
        long most = 20000;
        while (!run_and_kill(dir, SMALL_SHARDS, 200 + (long)assay_rng_below(&rng, (uint64_t)most))) {
            most += most / 8;
            kills++;
            inside += has_part(dir, ".partial-shard-");
        }
        for (size_t i = 0; i < ASSAY_LEN(SHARDS); i++) {
            expect_same_file(dir, undisturbed, SHARDS[i]);
            char *path = assay_path_join(dir, SHARDS[i]);
            unlink(path);
            assay_free(path);
        }
        expect_files(dir, "");
    }
    print_message("# %d kills, %d of them inside a commit\n", kills, inside);
    assert_true(inside > 0);
    scratch_remove(undisturbed);
}

/* A commit that failed in the middle: out of memory for the k-th line of the journal. */
static void break_a_commit(void) {
    for (long n = 0;; n++) {
        assay_ckpt_writer *w;
        assert_true(n < 5000);
        assert_int_equal(assay_ckpt_writer_open(&w, dir, SMALL_SHARDS, NULL), ASSAY_OK);
        for (int i = 0; i < N_TENSORS; i++) {
            char name[40];
            name_of(name, i);
            if (!assay_ckpt_writer_has(w, name)) assert_int_equal(put_one(w, i, NULL), ASSAY_OK);
        }
        assay_mem_fail_after(n);
        assay_status s = assay_ckpt_writer_commit(w, NULL);
        assay_mem_fail_after(-1);
        assert_int_equal(s, ASSAY_ENOMEM);
        if (has_part(dir, ".partial-shard-00001")) return;
    }
}

static void half_a_commit_takes_no_more_tensors(void **state) {
    (void)state;
    assay_ckpt_writer *w;
    assay_err err = {0};
    break_a_commit();
    expect_files(dir, ".partial-data .partial-journal .partial-shard-00001");
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK); /* the journal's shards go on */
    assert_true(assay_ckpt_writer_has(w, "layers.0.w"));
    expect_error(put_one(w, N_TENSORS, &err), ASSAY_EUSAGE, &err, "is being written out: commit it, or remove");
    assert_int_equal(assay_ckpt_writer_commit(w, NULL), ASSAY_OK);
    expect_whole(dir);
    assert_true(has_part(dir, "model-00004-of-00004.safetensors"));
}

static void a_commit_goes_on_after_a_reboot(void **state) {
    (void)state;
    size_t n;
    break_a_commit();
    char *journal = read_all(dir, ".partial-journal", &n), *p = journal;
    while ((p = strstr(p, "{\"boot\":\"")) != NULL) p[9] = 'x', p++;
    write_bytes(dir, ".partial-journal", journal, n);
    assay_free(journal);
    assert_int_equal(whole_run(dir, SMALL_SHARDS, NULL), ASSAY_OK);
    expect_whole(dir);
}

static void a_shard_that_was_lost_is_missed(void **state) {
    (void)state;
    assay_err err = {0};
    break_a_commit();
    char *path = assay_path_join(dir, ".partial-shard-00001");
    assert_int_equal(truncate(path, 100), 0);
    assay_free(path);
    expect_error(whole_run(dir, SMALL_SHARDS, &err), ASSAY_EINPUT, &err,
                 ".partial-shard-00001 has lost what had been written to it");
}

/* Exactly after the k-th tensor. */
static void a_kill_after_each_tensor_keeps_it(void **state) {
    (void)state;
    for (int k = 0; k < N_TENSORS; k += 3) {
        pid_t child = fork();
        if (child == 0) {
            assay_ckpt_writer *w;
            if (assay_ckpt_writer_open(&w, dir, 0, NULL) != ASSAY_OK) _exit(1);
            for (int i = 0; i <= k; i++) {
                char name[40];
                name_of(name, i);
                if (!assay_ckpt_writer_has(w, name) && put_one(w, i, NULL) != ASSAY_OK) _exit(1);
            }
            raise(SIGKILL);
        }
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        assay_ckpt_writer *w;
        assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
        for (int i = 0; i < N_TENSORS; i++) {
            char name[40];
            name_of(name, i);
            assert_int_equal(assay_ckpt_writer_has(w, name), i <= k);
        }
        assay_ckpt_writer_close(w);
    }
    assert_int_equal(whole_run(dir, 0, NULL), ASSAY_OK);
    expect_whole(dir);
}

static void edit(const char *name, size_t keep, const char *append) {
    char *path = assay_path_join(dir, name);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    if (keep) assert_int_equal(ftruncate(fd, (off_t)keep), 0);
    lseek(fd, 0, SEEK_END);
    assert_int_equal(write(fd, append, strlen(append)), (ssize_t)strlen(append));
    close(fd);
    assay_free(path);
}

static int count_there(void) {
    assay_ckpt_writer *w;
    int n = 0;
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    for (int i = 0; i < N_TENSORS; i++) {
        char name[40];
        name_of(name, i);
        n += assay_ckpt_writer_has(w, name);
    }
    assay_ckpt_writer_close(w);
    return n;
}

static void put_some(int from, int to, bool sync) {
    assay_ckpt_writer *w;
    assert_int_equal(assay_ckpt_writer_open(&w, dir, 0, NULL), ASSAY_OK);
    for (int i = from; i < to; i++) assert_int_equal(put_one(w, i, NULL), ASSAY_OK);
    if (sync) assert_int_equal(assay_ckpt_writer_sync(w, NULL), ASSAY_OK);
    assay_ckpt_writer_close(w);
}

static void what_is_torn_is_cut_off(void **state) {
    (void)state;
    put_some(0, 5, false);
    edit(".partial-journal", 0, "{\"name\":\"layers.5.w\",\"tensors\":[{\"name\":\"lay"); /* a torn line */
    assert_int_equal(count_there(), 5);
    edit(".partial-journal", 0, "garbage\n");
    assert_int_equal(count_there(), 5);
    edit(".partial-data", 0, "bytes of a tensor whose record was never written");
    assert_int_equal(count_there(), 5);
    edit(".partial-data", 3 * N_ROWS * N_COLS + 17, ""); /* records without their data */
    assert_int_equal(count_there(), 3);
    edit(
        ".partial-journal", 0,
        "{\"name\":\"evil\",\"tensors\":[{\"name\":\"evil\",\"dtype\":\"U8\",\"dims\":[1000000000],\"at\":49344,\"bytes\":1000000000}]}\n");
    assert_int_equal(count_there(), 3);
    assert_int_equal(whole_run(dir, 0, NULL), ASSAY_OK);
    expect_whole(dir);
}

static void after_a_reboot_only_what_was_synced_counts(void **state) {
    (void)state;
    put_some(0, 4, true);
    put_some(4, 9, false);
    assert_int_equal(count_there(), 9);
    size_t n;
    char *journal = read_all(dir, ".partial-journal", &n), *p = journal;
    while ((p = strstr(p, "{\"boot\":\"")) != NULL) p[9] = 'x', p++; /* another boot's */
    write_bytes(dir, ".partial-journal", journal, n);
    assay_free(journal);
    assert_int_equal(count_there(), 4);
    assert_int_equal(whole_run(dir, 0, NULL), ASSAY_OK);
    expect_whole(dir);
}

/* --- a full disk --- */

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            fprintf(stderr, "# line %d: %s\n", __LINE__, #cond);                                             \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

/* Fills what the folder can hold, sees that nothing is lost, and finishes when there is room again. For a
 * child process. */
static void fill_the_disk(void (*make_room)(void)) {
    assay_ckpt_writer *w;
    assay_err err = {0};
    char name[40];
    int i = 0;
    CHECK(assay_ckpt_writer_open(&w, dir, 0, NULL) == ASSAY_OK);
    while (i < N_TENSORS && put_one(w, i, &err) == ASSAY_OK) i++;
    CHECK(i > 2 && i < N_TENSORS);
    CHECK(err.code == ASSAY_ENOSPC && strstr(err.message, ".partial-data"));
    name_of(name, i);
    CHECK(!assay_ckpt_writer_has(w, name));
    CHECK(put_one(w, i, NULL) == ASSAY_ENOSPC); /* the name is free, the disk still full */
    assay_ckpt_writer_close(w);
    err = (assay_err){0};
    CHECK(assay_ckpt_writer_open(&w, dir, 0, NULL) == ASSAY_OK);
    name_of(name, i - 1);
    CHECK(assay_ckpt_writer_has(w, name));
    CHECK(assay_ckpt_writer_commit(w, &err) == ASSAY_ENOSPC); /* no room for the result beside the spool */
    char *final = assay_path_join(dir, "model.safetensors");
    CHECK(!assay_path_exists(final));
    make_room();
    CHECK(whole_run(dir, 0, NULL) == ASSAY_OK);
    CHECK(assay_path_exists(final));
    assay_free(final);
}

static void grow_tmpfs(void) {
    CHECK(mount("none", dir, NULL, MS_REMOUNT, "size=8m") == 0);
}

static int run_child(void (*fn)(void)) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        fn();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void on_tmpfs(void) {
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(77);
    if (mount("none", dir, "tmpfs", 0, "size=256k") != 0) _exit(77);
    fill_the_disk(grow_tmpfs);
    assay_checkpoint *c;
    CHECK(assay_checkpoint_open(&c, dir, NULL) == ASSAY_OK && assay_checkpoint_n_tensors(c) == N_TENSORS);
    assay_checkpoint_close(c);
}

/* 24 tensors of 300 kB in 8.5 MB: room for the checkpoint, a step, and a page or two at the ends of each tensor. */
static void on_a_tight_tmpfs(void) {
    enum { N = 24, BYTES = 300000 };
    assay_ckpt_writer *w;
    assay_checkpoint *c;
    assay_err err = {0};
    char name[40];
    int64_t n = BYTES;
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(77);
    if (mount("none", dir, "tmpfs", 0, "size=8500k") != 0) _exit(77);
    uint8_t *data = assay_calloc(1, BYTES);
    CHECK(assay_ckpt_writer_open(&w, dir, 2000000, &err) == ASSAY_OK);
    for (int i = 0; i < N; i++) {
        name_of(name, (i * 7) % N);
        data[0] = (uint8_t)((i * 7) % N);
        CHECK(assay_ckpt_writer_put(w, name, ASSAY_DTYPE_U8, 1, &n, data, &err) == ASSAY_OK);
    }
    assay_free(data);
    CHECK(assay_ckpt_writer_commit(w, &err) == ASSAY_OK);
    CHECK(assay_checkpoint_open(&c, dir, &err) == ASSAY_OK);
    for (int i = 0; i < N; i++) {
        name_of(name, i);
        CHECK(*(const uint8_t *)assay_checkpoint_find(c, name)->data == i);
    }
    assay_checkpoint_close(c);
}

static void a_checkpoint_needs_little_more_than_its_own_room(void **state) {
    (void)state;
    int code = run_child(on_a_tight_tmpfs);
    if (code == 77) skip();
    assert_int_equal(code, 0);
}

static void a_full_disk_loses_nothing(void **state) {
    (void)state;
    int code = run_child(on_tmpfs);
    if (code == 77) skip(); /* no mounts here: a_file_size_limit_loses_nothing is what is left */
    assert_int_equal(code, 0);
}

static void lift_limit(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* The result is a little larger than the spool: with this limit the spool holds eleven tensors and the
 * result does not. */
static void under_a_limit(void) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 11 * N_ROWS * N_COLS + 10;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    fill_the_disk(lift_limit);
}

static void a_file_size_limit_loses_nothing(void **state) {
    (void)state;
    assert_int_equal(run_child(under_a_limit), 0);
    expect_whole(dir);
}

static void running_out_of_memory_loses_nothing(void **state) {
    (void)state;
    long n = 0;
    for (;; n++) {
        assay_err err = {0};
        assay_mem_fail_after(n);
        assay_status s = whole_run(dir, 100000, &err);
        assay_mem_fail_after(-1);
        if (s == ASSAY_OK) break;
        assert_int_equal(s, ASSAY_ENOMEM);
        assert_true(n < 5000);
    }
    assert_true(n > 3);
    expect_whole(dir);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(one_file_appears_at_commit),
        TEST(shards_have_an_index_and_keep_the_size),
        TEST(names_are_put_once),
        TEST(kills_at_any_time_change_nothing),
        TEST(a_commit_that_is_killed_goes_on),
        TEST(half_a_commit_takes_no_more_tensors),
        TEST(a_commit_goes_on_after_a_reboot),
        TEST(a_shard_that_was_lost_is_missed),
        TEST(a_kill_after_each_tensor_keeps_it),
        TEST(what_is_torn_is_cut_off),
        TEST(after_a_reboot_only_what_was_synced_counts),
        TEST(a_full_disk_loses_nothing),
        TEST(a_checkpoint_needs_little_more_than_its_own_room),
        TEST(a_file_size_limit_loses_nothing),
        TEST(running_out_of_memory_loses_nothing),
    };
    return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
