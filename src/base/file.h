/* base/file.h: mapped input, whole-file reads, and output that appears complete or not at all.
 * Paths are borrowed C strings. A file given as "-" is not special here. */
#ifndef ASSAY_BASE_FILE_H
#define ASSAY_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* A read-only mapping. data is NULL when size is 0. */
typedef struct assay_map {
    const uint8_t *data;
    size_t size;
} assay_map;
assay_status assay_map_open(assay_map *out, const char *path, assay_err *err); /* ENOTFOUND, EIO */
void assay_map_close(assay_map *m);
/* Tells the kernel that a range will be read soon. */
void assay_map_willneed(const assay_map *m, size_t offset, size_t size);
/* Tells the kernel that a range is no longer needed (keeps streaming memory flat). */
void assay_map_dontneed(const assay_map *m, size_t offset, size_t size);

/* The whole file, NUL-terminated (not counted in *size), owned by the caller. Refuses more than max bytes (0:
 * 1 GiB). */
assay_status assay_read_file(char **data, size_t *size, const char *path, size_t max, assay_err *err);
/* Writes beside path and renames over it. */
assay_status assay_write_file(const char *path, const void *data, size_t size, assay_err *err);

/* Buffered output to "PATH.tmp.PID", fsynced and renamed to PATH by commit; abort (or close without commit)
 * removes it. */
typedef struct assay_writer assay_writer;
assay_status assay_writer_open(assay_writer **out, const char *path, assay_err *err);
assay_status assay_writer_put(assay_writer *w, const void *data, size_t size, assay_err *err);
assay_status assay_writer_commit(assay_writer *w, assay_err *err); /* frees w in any case */
void assay_writer_abort(assay_writer *w);                          /* NULL is fine */

/* Whether a file's name is that of a write that was cut off, NAME.tmp.PID. */
bool assay_is_leftover(const char *name);
/* Removes such files from a folder that nobody else is writing to. Best effort. */
void assay_remove_leftovers(const char *dir);
bool assay_path_exists(const char *path);
bool assay_path_is_dir(const char *path);
int64_t assay_file_size(const char *path);                   /* -1 when it cannot be read */
assay_status assay_mkdirs(const char *path, assay_err *err); /* like mkdir -p */
/* dir + "/" + name, or name alone when it is absolute; "~/" expands. Owned by the caller; NULL when out of
 * memory. */
char *assay_path_join(const char *dir, const char *name);
char *assay_path_dir(const char *path);        /* dirname; owned by the caller */
const char *assay_path_base(const char *path); /* after the last '/'; borrowed */

#endif
