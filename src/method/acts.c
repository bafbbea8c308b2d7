/* acts.c: hidden states in mapped files (acts.h). */
#include "method/acts.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

static char *place(const char *dir, char kind, int layer) {
    char name[40];
    snprintf(name, sizeof name, ".partial-%c-%04d", kind, layer);
    return assay_path_join(dir, name);
}

bool assay_acts_exist(const char *dir, char kind, int layer) {
    char *path = place(dir, kind, layer);
    bool yes = path && assay_path_exists(path);
    assay_free(path);
    return yes;
}

void assay_acts_remove(const char *dir, char kind, int layer) {
    char *path = place(dir, kind, layer);
    if (path) unlink(path);
    assay_free(path);
}

static assay_status map(assay_acts *a, const char *path, int fd, int prot, assay_err *err) {
    void *p = mmap(NULL, a->n_bytes, prot, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return assay_fail_errno(err, errno, "cannot map '%s'", path);
    a->v = p;
    return ASSAY_OK;
}

assay_status assay_acts_open(assay_acts *out, const char *dir, char kind, int layer, size_t n_floats, assay_err *err) {
    struct stat st;
    assay_status s = ASSAY_OK;
    int fd = -1;
    *out = (assay_acts){.n_bytes = n_floats * sizeof(float), .path = place(dir, kind, layer)};
    if (!out->path) return assay_nomem(err);
    fd = open(out->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        s = assay_fail_errno(err, errno, "cannot read '%s'", out->path);
    else if ((size_t)st.st_size != out->n_bytes)
        s = assay_fail(err, ASSAY_EINPUT, "'%s' has %lld bytes instead of %zu: remove it and start again", out->path,
                       (long long)st.st_size, out->n_bytes);
    else
        s = map(out, out->path, fd, PROT_READ, err);
    if (fd >= 0) close(fd);
    if (s != ASSAY_OK) assay_acts_close(out);
    return s;
}

/* Blocks are taken from the disk at once: a full one is an error here and no signal later. */
static assay_status reserve(const assay_acts *a, int fd, assay_err *err) {
    int e = posix_fallocate(fd, 0, (off_t)a->n_bytes);
    if (e == 0) return ASSAY_OK;
    char size[32];
    return assay_fail_errno(err, e, "cannot keep %s of activations in '%s'", assay_format_bytes(size, sizeof size, (double)a->n_bytes),
                            a->tmp);
}

assay_status assay_acts_create(assay_acts *out, const char *dir, char kind, int layer, size_t n_floats, assay_err *err) {
    assay_str tmp = {0};
    *out = (assay_acts){.n_bytes = n_floats * sizeof(float), .path = place(dir, kind, layer)};
    if (!out->path) return assay_nomem(err);
    assay_str_printf(&tmp, "%s.tmp.%ld", out->path, (long)getpid());
    assay_status s = assay_str_status(&tmp, err);
    out->tmp = tmp.s;
    int fd = s == ASSAY_OK ? open(out->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (s == ASSAY_OK && fd < 0) s = assay_fail_errno(err, errno, "cannot write '%s'", out->tmp);
    if (s == ASSAY_OK) s = reserve(out, fd, err);
    if (s == ASSAY_OK) s = map(out, out->tmp, fd, PROT_READ | PROT_WRITE, err);
    if (fd >= 0) close(fd);
    if (s != ASSAY_OK) assay_acts_close(out);
    return s;
}

assay_status assay_acts_commit(assay_acts *a, assay_err *err) {
    if (msync(a->v, a->n_bytes, MS_SYNC)) return assay_fail_errno(err, errno, "cannot write '%s'", a->tmp);
    if (rename(a->tmp, a->path)) return assay_fail_errno(err, errno, "cannot write '%s'", a->path);
    assay_free(a->tmp);
    a->tmp = NULL;
    return ASSAY_OK;
}

void assay_acts_release(const assay_acts *a) {
    if (a->v) madvise(a->v, a->n_bytes, MADV_DONTNEED); /* shared: what was written stays in the file */
}

void assay_acts_close(assay_acts *a) {
    if (a->v) munmap(a->v, a->n_bytes);
    if (a->tmp) unlink(a->tmp);
    assay_free(a->tmp);
    assay_free(a->path);
    *a = (assay_acts){0};
}
