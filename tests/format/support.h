/* support.h: scratch folders and files for the tests of the format room. */
#ifndef TESTS_FORMAT_SUPPORT_H
#define TESTS_FORMAT_SUPPORT_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "precision/precision.h"

/* Codes, scales, zero points and order of both. */
static inline void expect_equal(const assay_matrix *a, const assay_matrix *b) {
    assert_int_equal(a->precision, b->precision);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, b->cols);
    assert_int_equal(a->group_size, b->group_size);
    assert_int_equal(a->n_scales, b->n_scales);
    assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols));
    assert_memory_equal(a->scales, b->scales, (size_t)a->n_scales * 4);
    assert_int_equal(a->zeros != NULL, b->zeros != NULL);
    if (a->zeros) assert_memory_equal(a->zeros, b->zeros, (size_t)a->n_scales);
    assert_int_equal(a->g_idx != NULL, b->g_idx != NULL);
    if (a->g_idx) assert_memory_equal(a->g_idx, b->g_idx, (size_t)a->cols * 4);
}

/* A fresh folder below $TMPDIR; scratch_remove deletes it with what is in it. */
static inline char *scratch_make(void) {
    const char *top = getenv("TMPDIR");
    char path[256];
    snprintf(path, sizeof path, "%s/assay-format-XXXXXX", top ? top : "/tmp");
    assert_non_null(mkdtemp(path));
    return assay_strdup(path);
}

static inline void scratch_remove(char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(dir);
    assay_free(dir);
}

static inline void write_bytes(const char *dir, const char *name, const void *data, size_t n) {
    char *path = assay_path_join(dir, name);
    assert_int_equal(assay_write_file(path, data, n, NULL), ASSAY_OK);
    assay_free(path);
}

/* A safetensors file from its JSON and n_data bytes counting up. */
static inline void write_tensors(const char *dir, const char *name, const char *json, size_t n_data) {
    assay_str b = {0};
    uint64_t n = strlen(json);
    assay_str_putn(&b, &n, 8);
    assay_str_put(&b, json);
    for (size_t i = 0; i < n_data; i++) assay_str_putc(&b, (char)i);
    write_bytes(dir, name, b.s, b.len);
    assay_str_free(&b);
}

static inline void expect_error(assay_status s, assay_status want, const assay_err *err, const char *part) {
    if (s != want) fail_msg("status %d where %d is expected: %s", s, want, err->message);
    if (!strstr(err->message, part)) fail_msg("'%s' does not say '%s'", err->message, part);
    assert_null(strchr(err->message, '\n'));
}

#endif
