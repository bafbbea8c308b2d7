/* writer.c: writing a checkpoint one tensor at a time, so that a kill, a full disk or a power cut loses
 * nothing that was finished and never leaves half a file under its name.
 *
 * Tensor bytes go to a spool in the output folder; a journal says what is in it. Commit (commit.c) lays the
 * tensors out in an order that does not depend on the order of putting, and moves them to the final files.
 *
 *   DIR/.partial-data         bytes of tensors, in the order of putting; while commit runs, holes where they have
 *                             been moved away
 *   DIR/.partial-shard-00001  ... the final files beside their places, while commit runs
 *   DIR/.partial-journal      one JSON object a line:
 *        {"boot": "..."}                      a session began (the machine's boot id)
 *        {"name": N, "tensors": [{"name", "dtype", "dims", "at", "bytes"}, ...]}
 *                                             a record: these tensors are in the spool, whole; for GGUF also "to" and
 *                                             "part" (assay_spooled), and "block" when the bytes are blocks
 *        {"sync": bytes}                      the spool up to there, the journal up to here, had reached the disk
 *        {"moved": bytes, "shard_bytes": S}   so much of the layout in shards of S is in the shards, on the disk
 *        {"placing": S}                       all of it is; what is left is renaming
 *        {"planned": S}                       the data is in the shards from the beginning (writer_plan.c), the spool is a hole
 *
 * A record's line is appended by one write after its data was written. A killed process leaves what it
 * wrote in the page cache, so every whole line counts. After a reboot in between (another boot id) only
 * the lines before the last sync, moved or placing do. A torn last line, and data beyond the last record, are cut
 * off when the spool is opened again. A lock on the journal keeps a second writer out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "format/gguf_write.h"
#include "format/passage.h"
#include "format/writer_impl.h"
#include "format/writer_plan.h"

static const char JOURNAL[] = ".partial-journal", DATA[] = ".partial-data";

void assay_ckpt_writer_free(assay_ckpt_writer *w) {
    if (w->data >= 0) close(w->data);
    if (w->journal >= 0) close(w->journal);
    assay_plan_free(w->plan);
    assay_free(w->dir);
    assay_free(w->data_path);
    assay_free(w->journal_path);
    assay_free(w->tensors);
    assay_names_free(&w->names);
    assay_arena_free(&w->arena);
    assay_gguf_output_free(w->gguf);
    assay_free(w);
}

void assay_ckpt_writer_close(assay_ckpt_writer *w) {
    if (!w) return;
    assay_ckpt_writer_drop(w);
    assay_ckpt_writer_free(w);
}

assay_status assay_spool_write(int fd, const void *data, size_t n, uint64_t at, const char *path,
                               assay_err *err) {
    enum { PIECE = 1 << 18 }; /* what stays in a core's cache: measured two to four times as fast as pieces of 8 MiB */
    const char *p = data;
    while (n > 0) {
        ssize_t done = pwrite(fd, p, ASSAY_MIN(n, (size_t)PIECE), (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return assay_fail_errno(err, errno, "cannot write %s", path);
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return ASSAY_OK;
}

/* Gives back what a failed write took. If that fails too, the next open does it. */
static void cut_off(int fd, uint64_t end) {
    if (ftruncate(fd, (off_t)end) != 0) return;
}

static assay_status append_journal(assay_ckpt_writer *w, const json_t *line, assay_err *err) {
    assay_str text = {0};
    assay_status s;
    ASSAY_GO(assay_json_dump(&text, line, 0, false, err));
    assay_str_putc(&text, '\n');
    ASSAY_GO(assay_str_status(&text, err));
    s = assay_spool_write(w->journal, text.s, text.len, w->journal_end, w->journal_path, err);
    if (s == ASSAY_OK)
        w->journal_end += text.len;
    else
        cut_off(w->journal, w->journal_end);
out:
    assay_str_free(&text);
    return s;
}

assay_status assay_journal_append(assay_ckpt_writer *w, json_t *line, assay_err *err) {
    if (!line) return assay_nomem(err);
    assay_status s = append_journal(w, line, err);
    json_decref(line);
    return s;
}

/* --- reading a spool that was left --- */

static void boot_id(char out[64]) {
    out[0] = 0;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!f) return;
    if (!fgets(out, 64, f)) out[0] = 0;
    out[strcspn(out, "\n")] = 0;
    fclose(f);
}

static assay_status add_spooled(assay_ckpt_writer *w, const assay_spooled *p, assay_err *err) {
    bool fresh;
    const char *name = p->tensor.name;
    ASSAY_TRY(assay_grow(&w->tensors, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensors, err));
    char *copy = assay_arena_strndup(&w->arena, name, strlen(name));
    char *to = p->to ? assay_arena_strndup(&w->arena, p->to, strlen(p->to)) : NULL;
    if (!copy || (p->to && !to)) return assay_nomem(err);
    ASSAY_TRY(assay_names_add(&w->names, copy, w->n_tensors, &fresh, err));
    if (!fresh) return assay_fail(err, ASSAY_EINPUT, "tensor %s is written twice", name);
    w->tensors[w->n_tensors] = *p;
    w->tensors[w->n_tensors].tensor.name = copy;
    w->tensors[w->n_tensors].tensor.data = NULL;
    w->tensors[w->n_tensors].to = to;
    w->n_tensors++;
    return ASSAY_OK;
}

/* Bytes that a tensor of that type and shape takes; false when there is no such size. */
static bool bytes_of(size_t *out, const assay_tensor *t) {
    assay_gguf_storage s;
    int64_t n = assay_tensor_n_elements(t);
    if (n < 0) return false;
    if (!t->block) return assay_mul_size(out, (size_t)n, assay_dtype_size(t->dtype));
    if (!assay_gguf_block_of(&s, t->block) || t->n_dims < 1 || t->dims[t->n_dims - 1] % s.elements) return false;
    return assay_mul_size(out, (size_t)(n / s.elements), (size_t)s.bytes);
}

static bool parse_spooled(assay_spooled *p, const json_t *j) {
    assay_tensor *t = &p->tensor;
    const json_t *dims = json_object_get(j, "dims");
    const char *name = json_string_value(json_object_get(j, "name")),
               *dtype = json_string_value(json_object_get(j, "dtype"));
    const char *block = json_string_value(json_object_get(j, "block"));
    const json_t *part = json_object_get(j, "part");
    assay_precision precision;
    size_t need;
    *p = (assay_spooled){.to = json_string_value(json_object_get(j, "to")), .part = part ? json_integer_value(part) : -1};
    *t = (assay_tensor){.name = name, .n_dims = (int)json_array_size(dims)};
    if (block && !assay_precision_parse(&precision, block)) return false;
    t->block = block ? (int)precision : 0;
    if (!name || !dtype || !json_is_array(dims) || json_array_size(dims) > ASSAY_MAX_DIMS) return false;
    if (!assay_dtype_parse(&t->dtype, dtype, strlen(dtype))) return false;
    for (int i = 0; i < t->n_dims; i++) t->dims[i] = json_integer_value(json_array_get(dims, (size_t)i));
    p->at = (uint64_t)json_integer_value(json_object_get(j, "at"));
    t->n_bytes = (size_t)json_integer_value(json_object_get(j, "bytes"));
    return bytes_of(&need, t) && need == t->n_bytes;
}

/* Takes over one record; *whole is false when it is not one, or its data is not all there. */
static assay_status take_record(assay_ckpt_writer *w, bool *whole, const json_t *line, uint64_t data_size,
                                assay_err *err) {
    const json_t *list = json_object_get(line, "tensors"), *item;
    const char *name = json_string_value(json_object_get(line, "name"));
    uint64_t end = w->end;
    assay_spooled p;
    size_t i;
    bool fresh;
    *whole = false;
    if (!name || !json_is_array(list)) return ASSAY_OK;
    json_array_foreach(list, i, item) {
        if (!parse_spooled(&p, item) || p.at != end || p.tensor.n_bytes > data_size ||
            p.at > data_size - p.tensor.n_bytes)
            return ASSAY_OK;
        if (assay_names_find(&w->names, p.tensor.name) != SIZE_MAX) return ASSAY_OK;
        end += p.tensor.n_bytes;
    }
    json_array_foreach(list, i, item) {
        if (parse_spooled(&p, item)) ASSAY_TRY(add_spooled(w, &p, err));
    }
    w->end = w->added_end = end;
    w->n_recorded = w->n_tensors;
    *whole = true;
    char *copy = assay_arena_strndup(&w->arena, name, strlen(name));
    if (!copy) return assay_nomem(err);
    return assay_names_add(&w->names, copy, SIZE_MAX - 1, &fresh, err);
}

/* Where a commit that was begun stands. */
static void take_progress(assay_ckpt_writer *w, const json_t *line) {
    const json_t *moved = json_object_get(line, "moved"), *placing = json_object_get(line, "placing"),
                 *planned = json_object_get(line, "planned");
    if (planned) {
        w->planned = true;
        w->shard_bytes = (uint64_t)json_integer_value(planned);
    }
    if (moved) {
        w->moved = (uint64_t)json_integer_value(moved);
        w->shard_bytes = (uint64_t)json_integer_value(json_object_get(line, "shard_bytes"));
    }
    if (placing) {
        w->placing = true;
        w->shard_bytes = (uint64_t)json_integer_value(placing);
    }
}

/* Length of the journal that can be trusted: up to the last sync when the machine was restarted since,
 * else all whole lines. */
static size_t trusted_length(const char *text, size_t n, const char *boot) {
    size_t synced = 0, at = 0;
    bool same_boot = false;
    while (at < n) {
        const char *eol = memchr(text + at, '\n', n - at);
        if (!eol) break;
        size_t len = (size_t)(eol - (text + at));
        json_t *line = json_loadb(text + at, len, JSON_REJECT_DUPLICATES, NULL);
        const char *id = json_string_value(json_object_get(line, "boot"));
        if (id) same_boot = *boot && strcmp(id, boot) == 0;
        bool is_sync = json_is_integer(json_object_get(line, "sync")) || json_object_get(line, "moved") ||
                       json_object_get(line, "placing");
        json_decref(line);
        at += len + 1;
        if (is_sync || same_boot) synced = at;
    }
    return synced;
}

static assay_status read_journal(assay_ckpt_writer *w, const char *boot, assay_err *err) {
    char *text = NULL;
    size_t n = 0, at = 0;
    struct stat st;
    assay_status s = ASSAY_OK;
    if (fstat(w->data, &st) != 0) return assay_fail_errno(err, errno, "cannot read %s", w->data_path);
    ASSAY_GO(assay_read_file(&text, &n, w->journal_path, 0, err));
    n = trusted_length(text, n, boot);
    while (at < n) {
        size_t len = (size_t)((char *)memchr(text + at, '\n', n - at) - (text + at));
        json_t *line = json_loadb(text + at, len, JSON_REJECT_DUPLICATES, NULL);
        bool whole = line && !json_object_get(line, "tensors");
        s = line && !whole ? take_record(w, &whole, line, (uint64_t)st.st_size, err) : ASSAY_OK;
        if (line && s == ASSAY_OK) take_progress(w, line);
        json_decref(line);
        if (s != ASSAY_OK || !whole) break;
        at += len + 1;
    }
    w->journal_end = at;
out:
    assay_free(text);
    return s;
}

/* Files of a commit that was killed before anything depended on them. */
static void remove_leftovers(const assay_ckpt_writer *w) {
    DIR *d = opendir(w->dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        bool temporary = strncmp(e->d_name, "model", 5) == 0 && strstr(e->d_name, ".safetensors") &&
                         strstr(e->d_name, ".tmp.");
        bool shard = w->moved == 0 && !w->placing && !w->planned && strncmp(e->d_name, ".partial-shard-", 15) == 0;
        if (temporary || shard) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

static assay_status open_spool(assay_ckpt_writer *w, assay_err *err) {
    char boot[64];
    w->journal = open(w->journal_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->journal < 0) return assay_fail_errno(err, errno, "cannot create %s", w->journal_path);
    if (flock(w->journal, LOCK_EX | LOCK_NB) != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s is being written by another process", w->dir);
    w->data = open(w->data_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->data < 0) return assay_fail_errno(err, errno, "cannot create %s", w->data_path);
    boot_id(boot);
    ASSAY_TRY(read_journal(w, boot, err));
    remove_leftovers(w);
    if (ftruncate(w->journal, (off_t)w->journal_end) != 0 || ftruncate(w->data, (off_t)w->end) != 0)
        return assay_fail_errno(err, errno, "cannot cut %s to what is whole", w->data_path);
    return assay_journal_append(w, json_pack("{s:s}", "boot", boot), err);
}

assay_status assay_ckpt_writer_open(assay_ckpt_writer **out, const char *dir, uint64_t shard_bytes,
                                    assay_err *err) {
    *out = NULL;
    ASSAY_TRY(assay_mkdirs(dir, err));
    assay_ckpt_writer *w = assay_calloc(1, sizeof *w);
    if (!w) return assay_nomem(err);
    w->data = w->journal = -1;
    w->shard_bytes = shard_bytes ? shard_bytes : 5000000000u;
    w->dir = assay_strdup(dir);
    w->data_path = assay_path_join(dir, DATA);
    w->journal_path = assay_path_join(dir, JOURNAL);
    assay_status s = w->dir && w->data_path && w->journal_path ? open_spool(w, err) : assay_nomem(err);
    if (s == ASSAY_OK)
        *out = w;
    else
        assay_ckpt_writer_free(w);
    return s;
}

/* --- putting --- */

void assay_ckpt_writer_drop(assay_ckpt_writer *w) {
    if (w->n_tensors == w->n_recorded) return;
    for (size_t i = w->n_recorded; i < w->n_tensors; i++)
        assay_names_remove(&w->names, w->tensors[i].tensor.name);
    w->n_tensors = w->n_recorded;
    w->added_end = w->end;
    cut_off(w->data, w->end);
}

assay_status assay_spool_begin(size_t *bytes, assay_ckpt_writer *w, const assay_tensor *t, const char *to, int64_t part, assay_err *err) {
    assay_spooled p = {.tensor = *t, .at = w->added_end, .to = to, .part = part};
    if (t->n_dims < 0 || t->n_dims > ASSAY_MAX_DIMS)
        return assay_fail(err, ASSAY_EUSAGE, "tensor %s has %d dimensions", t->name, t->n_dims);
    if (!bytes_of(bytes, t)) return assay_fail(err, ASSAY_EUSAGE, "tensor %s has an impossible shape", t->name);
    if (w->moved || w->placing)
        return assay_fail(err, ASSAY_EUSAGE,
                          "%s: its checkpoint was complete and is being written out: commit it, or remove its .partial-* "
                          "files to begin again",
                          w->dir);
    if (strcmp(t->name, "__metadata__") == 0)
        return assay_fail(err, ASSAY_EUSAGE, "a tensor cannot be called __metadata__");
    p.tensor.n_bytes = *bytes;
    if (assay_ckpt_writer_is_planning(w)) return assay_plan_note(w, &p, err);
    if (w->plan) ASSAY_TRY(assay_plan_check(w, &p, err));
    return add_spooled(w, &p, err);
}

assay_status assay_spool_fill(assay_ckpt_writer *w, const char *name, const void *data, size_t n, size_t offset, assay_err *err) {
    return w->plan ? assay_plan_write(w, name, data, n, offset, err)
                   : assay_spool_write(w->data, data, n, w->added_end + offset, w->data_path, err);
}

assay_status assay_spool_end(assay_ckpt_writer *w, size_t bytes, assay_err *err) {
    w->added_end += bytes;
    if (w->plan && ftruncate(w->data, (off_t)w->added_end) != 0) return assay_fail_errno(err, errno, "cannot write %s", w->data_path);
    return ASSAY_OK;
}

assay_status assay_spool_add(assay_ckpt_writer *w, const assay_tensor *t, const char *to, int64_t part, assay_err *err) {
    size_t bytes;
    ASSAY_TRY(assay_spool_begin(&bytes, w, t, to, part, err));
    if (assay_ckpt_writer_is_planning(w)) return ASSAY_OK;
    assay_status s = assay_spool_fill(w, t->name, t->data, bytes, 0, err);
    return s == ASSAY_OK ? assay_spool_end(w, bytes, err) : s;
}

assay_status assay_ckpt_writer_add(assay_ckpt_writer *w, const char *name, assay_dtype dtype, int n_dims,
                                   const int64_t *dims, const void *data, assay_err *err) {
    assay_tensor t = {.name = name, .dtype = dtype, .n_dims = n_dims, .data = data};
    if (n_dims >= 0 && n_dims <= ASSAY_MAX_DIMS) memcpy(t.dims, dims, (size_t)n_dims * sizeof *dims);
    return w->gguf ? assay_gguf_add(w, &t, err) : assay_spool_add(w, &t, NULL, -1, err);
}

static json_t *record_json(const assay_ckpt_writer *w, const char *name) {
    json_t *list = json_array();
    for (size_t i = w->n_recorded; i < w->n_tensors; i++) {
        const assay_spooled *p = &w->tensors[i];
        json_t *dims = json_array();
        for (int k = 0; k < p->tensor.n_dims; k++)
            json_array_append_new(dims, json_integer(p->tensor.dims[k]));
        json_t *line = json_pack("{s:s, s:s, s:o, s:I, s:I}", "name", p->tensor.name, "dtype",
                                 assay_dtype_name(p->tensor.dtype), "dims", dims, "at", (json_int_t)p->at,
                                 "bytes", (json_int_t)p->tensor.n_bytes);
        const char *block = p->tensor.block ? assay_precision_name((assay_precision)p->tensor.block) : NULL;
        if (p->to) json_object_update_new(line, json_pack("{s:s, s:I}", "to", p->to, "part", (json_int_t)p->part));
        if (block) json_object_set_new(line, "block", json_string(block));
        json_array_append_new(list, line);
    }
    return json_pack("{s:s, s:o}", "name", name, "tensors", list);
}

assay_status assay_ckpt_writer_record(assay_ckpt_writer *w, const char *name, assay_err *err) {
    bool fresh;
    if (assay_ckpt_writer_is_planning(w)) return ASSAY_OK;
    char *copy = assay_arena_strndup(&w->arena, name, strlen(name));
    if (!copy) return assay_nomem(err);
    ASSAY_TRY(assay_journal_append(w, record_json(w, name), err));
    w->n_recorded = w->n_tensors;
    w->end = w->added_end;
    return assay_names_add(&w->names, copy, SIZE_MAX - 1, &fresh, err);
}

assay_status assay_ckpt_writer_put(assay_ckpt_writer *w, const char *name, assay_dtype dtype, int n_dims,
                                   const int64_t *dims, const void *data, assay_err *err) {
    assay_status s = assay_ckpt_writer_add(w, name, dtype, n_dims, dims, data, err);
    if (s == ASSAY_OK) s = assay_ckpt_writer_record(w, name, err);
    if (s != ASSAY_OK) assay_ckpt_writer_drop(w);
    return s;
}

assay_status assay_ckpt_writer_copy(assay_ckpt_writer *w, const assay_checkpoint *c, const assay_tensor *t, assay_err *err) {
    assay_passage p;
    if (w->gguf || t->block || t->order != ASSAY_ORDER_PLAIN) return assay_gguf_copy(w, c, t, err);
    assay_passage_init(&p, t);
    p.c = c;
    assay_status s = assay_passage_write(w, &p, NULL, -1, err);
    if (s == ASSAY_OK) s = assay_ckpt_writer_record(w, t->name, err);
    if (s != ASSAY_OK) assay_ckpt_writer_drop(w);
    return s;
}

bool assay_ckpt_writer_has(const assay_ckpt_writer *w, const char *name) {
    size_t i = assay_names_find(&w->names, name);
    return i == SIZE_MAX - 1 || i < w->n_recorded;
}

assay_status assay_ckpt_writer_sync(assay_ckpt_writer *w, assay_err *err) {
    if (w->plan) ASSAY_TRY(assay_plan_sync(w, err));
    if (fdatasync(w->data) != 0) return assay_fail_errno(err, errno, "cannot write %s", w->data_path);
    ASSAY_TRY(assay_journal_append(w, json_pack("{s:I}", "sync", (json_int_t)w->end), err));
    if (fdatasync(w->journal) != 0) return assay_fail_errno(err, errno, "cannot write %s", w->journal_path);
    return ASSAY_OK;
}
