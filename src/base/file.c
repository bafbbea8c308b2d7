/* file.c: mapped input, whole reads, atomic output.
 *
 * Output goes to PATH.tmp.PID in the same folder, is fsynced, then renamed over PATH, and the folder is
 * fsynced: a reader sees the old file or the new one, and a full disk or a kill leaves at worst a stray
 * temporary. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"

assay_status assay_map_open(assay_map *out, const char *path, assay_err *err) {
    *out = (assay_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return assay_fail_errno(err, errno, "cannot open '%s'", path);
    assay_status s = ASSAY_OK;
    struct stat st;
    if (fstat(fd, &st)) {
        s = assay_fail_errno(err, errno, "cannot read '%s'", path);
    } else if (!S_ISREG(st.st_mode)) {
        s = assay_fail(err, ASSAY_EINPUT, "'%s' is not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = assay_fail_errno(err, errno, "cannot map '%s'", path);
        else
            *out = (assay_map){p, (size_t)st.st_size};
    }
    close(fd);
    return s;
}

void assay_map_close(assay_map *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (assay_map){0};
}

void assay_map_willneed(const assay_map *m, size_t offset, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!m->data || offset >= m->size) return;
    size_t a = offset / page * page, end = size > m->size - offset ? m->size : offset + size;
    madvise((void *)(uintptr_t)(m->data + a), end - a, MADV_WILLNEED);
}

/* Only pages that lie wholly inside the range: a neighbour may share the edge pages. */
void assay_map_dontneed(const assay_map *m, size_t offset, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!m->data || offset >= m->size) return;
    size_t end = size > m->size - offset ? m->size : offset + size;
    size_t a = (offset + page - 1) / page * page, b = end != m->size ? end / page * page : end;
    if (a < b) madvise((void *)(uintptr_t)(m->data + a), b - a, MADV_DONTNEED);
}

assay_status assay_read_file(char **data, size_t *size, const char *path, size_t max, assay_err *err) {
    *data = NULL;
    *size = 0;
    if (!max) max = (size_t)1 << 30;
    FILE *f = fopen(path, "rbe");
    if (!f) return assay_fail_errno(err, errno, "cannot open '%s'", path);
    assay_status s = ASSAY_OK;
    char *buf = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        s = assay_grow(&buf, &cap, n + 65536 + 1, 1, err);
        if (s != ASSAY_OK) break;
        size_t got = fread(buf + n, 1, cap - n - 1, f);
        n += got;
        if (n > max)
            s = assay_fail(err, ASSAY_EINPUT, "'%s' is larger than the %zu bytes allowed", path, max);
        if (s != ASSAY_OK || !got) break;
    }
    if (s == ASSAY_OK && ferror(f)) s = assay_fail_errno(err, errno, "cannot read '%s'", path);
    fclose(f);
    if (s != ASSAY_OK) {
        assay_free(buf);
        return s;
    }
    buf[n] = 0;
    *data = buf;
    *size = n;
    return ASSAY_OK;
}

#define WRITER_BUFFER ((size_t)256 * 1024)

struct assay_writer {
    int fd;
    char *path, *temporary;
    size_t used;
    char buffer[WRITER_BUFFER];
};

void assay_writer_abort(assay_writer *w) {
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temporary);
    }
    assay_free(w->path);
    assay_free(w->temporary);
    assay_free(w);
}

assay_status assay_writer_open(assay_writer **out, const char *path, assay_err *err) {
    *out = NULL;
    assay_writer *w = assay_malloc(sizeof *w);
    if (!w) return assay_nomem(err);
    w->fd = -1;
    w->used = 0;
    size_t n = strlen(path) + 32;
    w->path = assay_strdup(path);
    w->temporary = assay_malloc(n);
    assay_status s = ASSAY_OK;
    if (!w->path || !w->temporary) {
        s = assay_nomem(err);
    } else {
        snprintf(w->temporary, n, "%s.tmp.%ld", path, (long)getpid());
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (w->fd < 0) s = assay_fail_errno(err, errno, "cannot write '%s'", path);
    }
    if (s != ASSAY_OK)
        assay_writer_abort(w);
    else
        *out = w;
    return s;
}

static assay_status write_all(assay_writer *w, const char *p, size_t n, assay_err *err) {
    while (n) {
        ssize_t k = write(w->fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return assay_fail_errno(err, errno, "cannot write '%s'", w->path);
        p += k;
        n -= (size_t)k;
    }
    return ASSAY_OK;
}

static assay_status flush(assay_writer *w, assay_err *err) {
    size_t n = w->used;
    w->used = 0;
    return write_all(w, w->buffer, n, err);
}

assay_status assay_writer_put(assay_writer *w, const void *data, size_t size, assay_err *err) {
    if (size > WRITER_BUFFER - w->used) ASSAY_TRY(flush(w, err));
    if (size > WRITER_BUFFER) return write_all(w, data, size, err);
    if (size) memcpy(w->buffer + w->used, data, size);
    w->used += size;
    return ASSAY_OK;
}

static void sync_folder_of(const char *path) {
    char *dir = assay_path_dir(path);
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)!fsync(fd); /* some file systems cannot; the rename itself has been done */
        close(fd);
    }
    assay_free(dir);
}

assay_status assay_writer_commit(assay_writer *w, assay_err *err) {
    assay_status s = flush(w, err);
    if (s == ASSAY_OK && fsync(w->fd) && errno != EINVAL && errno != EROFS)
        s = assay_fail_errno(err, errno, "cannot write '%s'", w->path);
    if (s == ASSAY_OK) {
        int fd = w->fd;
        w->fd = -1;
        if (close(fd))
            s = assay_fail_errno(err, errno, "cannot write '%s'", w->path);
        else if (rename(w->temporary, w->path))
            s = assay_fail_errno(err, errno, "cannot write '%s'", w->path);
        if (s != ASSAY_OK)
            unlink(w->temporary);
        else
            sync_folder_of(w->path);
    }
    assay_writer_abort(w);
    return s;
}

assay_status assay_write_file(const char *path, const void *data, size_t size, assay_err *err) {
    assay_writer *w;
    ASSAY_TRY(assay_writer_open(&w, path, err));
    assay_status s = assay_writer_put(w, data, size, err);
    if (s == ASSAY_OK) return assay_writer_commit(w, err);
    assay_writer_abort(w);
    return s;
}

bool assay_is_leftover(const char *name) {
    const char *tail = strstr(name, ".tmp.");
    return tail && tail[5] && strspn(tail + 5, "0123456789") == strlen(tail + 5);
}

void assay_remove_leftovers(const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (assay_is_leftover(e->d_name)) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
}

bool assay_path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool assay_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t assay_file_size(const char *path) {
    struct stat st;
    return stat(path, &st) ? -1 : (int64_t)st.st_size;
}

assay_status assay_mkdirs(const char *path, assay_err *err) {
    char *p = assay_strdup(path);
    if (!p) return assay_nomem(err);
    assay_status s = ASSAY_OK;
    for (char *q = p + 1; s == ASSAY_OK; q++) {
        if (*q && *q != '/') continue;
        char c = *q;
        *q = 0;
        if (mkdir(p, 0777) && errno != EEXIST) s = assay_fail_errno(err, errno, "cannot make folder '%s'", p);
        *q = c;
        if (!c) break;
    }
    if (s == ASSAY_OK && !assay_path_is_dir(path))
        s = assay_fail(err, ASSAY_EIO, "'%s' is in the way: not a folder", path);
    assay_free(p);
    return s;
}

char *assay_path_join(const char *dir, const char *name) {
    const char *home = getenv("HOME");
    const char *head = dir, *sep = "/";
    if (name[0] == '/')
        head = sep = "";
    else if (name[0] == '~' && name[1] == '/' && home) {
        head = home;
        name += 2;
    }
    size_t n = strlen(head);
    if (n && head[n - 1] == '/') sep = "";
    size_t size = n + strlen(name) + 2;
    char *p = assay_malloc(size);
    if (p) snprintf(p, size, "%s%s%s", head, sep, name);
    return p;
}

char *assay_path_dir(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return assay_strdup(".");
    return slash == path ? assay_strdup("/") : assay_strndup(path, (size_t)(slash - path));
}

const char *assay_path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
