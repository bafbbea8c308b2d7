/* commit.c: from the spool to the final files, with the disk space of one checkpoint and a step.
 *
 * The layout (layout.c) is walked in order. Tensor bytes are copied to the shards beside their places; after
 * each step the shard is synced, the journal says how far the walk has come, and only then is what was copied
 * cut out of the spool (a hole: its blocks are free, the places of the rest stay). A commit that was killed
 * goes on from the last step. Checkpoints smaller than a step are copied without all that and begun anew
 * after a kill.
 *
 *   spool  | a | b | c | d |        order of putting
 *   shards | c | a | d |            walk ->          moved = c + a: spool has holes for both
 *
 * When all shards are whole they are renamed to their names, the index last; a kill in between is told by the
 * journal, too. Where the file system has no holes the folder holds spool and result for that time. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "format/gguf_write.h"
#include "format/safetensors.h"
#include "format/writer_impl.h"
#include "format/writer_plan.h"

enum { PIECE = 1 << 23, STEP = 1 << 27 };

/* The walk along the layout. */
typedef struct walk {
    assay_ckpt_writer *w;
    const assay_layout *l;
    uint64_t at;  /* bytes of the layout copied */
    uint64_t cut; /* bytes of the layout whose place in the spool is free; at least w->moved */
    uint64_t step;
    uint64_t *places; /* [l->n] in its shard */
    uint8_t *buffer;
    size_t piece;
} walk;

/* --- files --- */

char *assay_shard_path(const assay_ckpt_writer *w, size_t i) {
    char name[40];
    snprintf(name, sizeof name, ".partial-shard-%05zu", i + 1);
    return assay_path_join(w->dir, name);
}

static void sync_folder(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!fsync(fd); /* some file systems cannot */
    close(fd);
}

static void remove_shards(const assay_ckpt_writer *w, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *path = assay_shard_path(w, i);
        if (path) unlink(path);
        assay_free(path);
    }
}

static uint64_t bytes_of(const assay_layout *l, const assay_shard *shard) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < shard->n; i++)
        bytes += l->order[shard->first + i]->tensor.n_bytes;
    return bytes;
}

/* --- moving --- */

/* Frees in the spool what lies between two places of the layout. */
static void punch(const walk *k, uint64_t from, uint64_t to) {
    uint64_t begin = 0;
    for (size_t i = 0; i < k->l->n && begin < to; i++) {
        const assay_spooled *p = k->l->order[i];
        uint64_t end = begin + p->tensor.n_bytes, a = ASSAY_MAX(begin, from), b = ASSAY_MIN(end, to);
        if (a < b && fallocate(k->w->data, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)(p->at + (a - begin)), (off_t)(b - a)) != 0)
            return; /* no holes here: the space comes free at the end */
        begin = end;
    }
}

/* What was copied is on the disk and the journal knows: it can go from the spool. */
static assay_status settle(walk *k, int fd, const char *path, assay_err *err) {
    assay_ckpt_writer *w = k->w;
    if (w->moved == 0) ASSAY_TRY(assay_ckpt_writer_sync(w, err));
    sync_folder(w->dir); /* the shard's name */
    if (fdatasync(fd) != 0) return assay_fail_errno(err, errno, "cannot write %s", path);
    ASSAY_TRY(assay_journal_append(
        w, json_pack("{s:I, s:I}", "moved", (json_int_t)k->at, "shard_bytes", (json_int_t)w->shard_bytes),
        err));
    if (fdatasync(w->journal) != 0) return assay_fail_errno(err, errno, "cannot write %s", w->journal_path);
    w->moved = k->at;
    punch(k, k->cut, k->at);
    k->cut = k->at;
    return ASSAY_OK;
}

static assay_status read_spool(walk *k, uint64_t at, size_t n, assay_err *err) {
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(k->w->data, k->buffer + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return assay_fail_errno(err, got ? errno : EIO, "cannot read %s", k->w->data_path);
        done += (size_t)got;
    }
    return ASSAY_OK;
}

/* Copies a tensor that begins at the walk's place to `to` in the shard, from where the last commit came to.
 */
static assay_status move_tensor(walk *k, const assay_spooled *p, int fd, uint64_t to, const char *path,
                                assay_err *err) {
    uint64_t done = k->at < k->w->moved ? ASSAY_MIN(k->w->moved - k->at, p->tensor.n_bytes) : 0;
    k->at += done;
    while (done < p->tensor.n_bytes) {
        size_t n = ASSAY_MIN(k->piece, p->tensor.n_bytes - done);
        ASSAY_TRY(read_spool(k, p->at + done, n, err));
        ASSAY_TRY(assay_spool_write(fd, k->buffer, n, to + done, path, err));
        done += n;
        k->at += n;
        if (k->at - k->cut >= k->step) ASSAY_TRY(settle(k, fd, path, err));
    }
    return ASSAY_OK;
}

/* A shard of which something has been moved must have it. */
static assay_status check_shard(int fd, uint64_t need, const char *path, assay_err *err) {
    struct stat st;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= need) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT,
                      "%s has lost what had been written to it: remove the .partial-* files to begin again",
                      path);
}

assay_status assay_shard_header(assay_str *out, const assay_ckpt_writer *w, const assay_layout *l, size_t index, assay_err *err) {
    const assay_shard *shard = &l->shards[index];
    if (w->gguf) return assay_gguf_put_header(out, w, l, index, err);
    const assay_tensor **list = assay_mallocn(shard->n + 1, sizeof *list);
    if (!list) return assay_nomem(err);
    for (size_t i = 0; i < shard->n; i++)
        list[i] = &l->order[shard->first + i]->tensor;
    assay_status s = assay_safetensors_put_header(out, list, shard->n, err);
    assay_free(list);
    return s;
}

assay_status assay_shards_lay_out(assay_layout *out, const assay_ckpt_writer *w, const assay_spooled *tensors, size_t n, assay_err *err) {
    if (!w->gguf) return assay_layout_init(out, tensors, n, w->shard_bytes, err);
    ASSAY_TRY(assay_gguf_layout(out, tensors, n, w->shard_bytes, err));
    return assay_gguf_name_shards(out, w->gguf, err);
}

static assay_status write_shard(walk *k, size_t index, assay_err *err) {
    const assay_shard *shard = &k->l->shards[index];
    assay_str header = {0};
    uint64_t bytes = bytes_of(k->l, shard),
             begun = k->w->moved > k->at ? ASSAY_MIN(k->w->moved - k->at, bytes) : 0;
    char *path = assay_shard_path(k->w, index);
    int fd = -1;
    assay_status s = path ? ASSAY_OK : assay_nomem(err);
    if (s != ASSAY_OK) goto out;
    ASSAY_GO(assay_shard_header(&header, k->w, k->l, index, err));
    fd = open(path, begun ? O_RDWR | O_CLOEXEC : O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        s = assay_fail_errno(err, errno, "cannot open %s", path);
        goto out;
    }
    if (begun) ASSAY_GO(check_shard(fd, header.len + begun, path, err));
    ASSAY_GO(assay_spool_write(fd, header.s, header.len, 0, path, err));
    uint64_t end = assay_layout_places(k->places, k->l, index, header.len);
    for (size_t i = shard->first; i < shard->first + shard->n; i++)
        ASSAY_GO(move_tensor(k, k->l->order[i], fd, k->places[i], path, err));
    if (ftruncate(fd, (off_t)end) != 0) {
        s = assay_fail_errno(err, errno, "cannot write %s", path);
        goto out;
    }
    if (fsync(fd) != 0) s = assay_fail_errno(err, errno, "cannot write %s", path);
out:
    if (fd >= 0 && close(fd) != 0 && s == ASSAY_OK) s = assay_fail_errno(err, errno, "cannot write %s", path);
    assay_str_free(&header);
    assay_free(path);
    return s;
}

static assay_status write_shards(assay_ckpt_writer *w, const assay_layout *l, assay_err *err) {
    walk k = {.w = w, .l = l, .cut = w->moved, .step = ASSAY_MIN((uint64_t)STEP, w->shard_bytes / 8 + 1)};
    assay_status s = ASSAY_OK;
    k.piece = (size_t)ASSAY_MIN((uint64_t)PIECE, ASSAY_MAX(k.step, 4096u));
    if (w->moved > w->end)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s says that more was moved than there is: remove the .partial-* files",
                          w->journal_path);
    k.buffer = assay_malloc(k.piece);
    k.places = assay_mallocn(l->n + 1, sizeof *k.places);
    if (!k.buffer || !k.places) s = assay_nomem(err);
    if (s == ASSAY_OK) punch(&k, 0, w->moved); /* a kill may have come between the journal's line and the hole */
    for (size_t i = 0; s == ASSAY_OK && i < l->n_shards; i++)
        s = write_shard(&k, i, err);
    assay_free(k.places);
    assay_free(k.buffer);
    return s;
}

/* --- placing --- */

static assay_status write_index(assay_writer *out, const assay_layout *l, assay_err *err) {
    assay_str text = {0};
    json_t *index = assay_layout_index(l);
    assay_status s = index ? assay_json_dump(&text, index, 2, false, err) : assay_nomem(err);
    assay_str_putc(&text, '\n');
    if (s == ASSAY_OK) s = assay_str_status(&text, err);
    if (s == ASSAY_OK) s = assay_writer_put(out, text.s, text.len, err);
    json_decref(index);
    assay_str_free(&text);
    return s;
}

static assay_status open_index(assay_writer **out, const assay_ckpt_writer *w, const assay_layout *l,
                               assay_err *err) {
    char *path = assay_path_join(w->dir, ASSAY_INDEX_NAME);
    assay_status s = path ? assay_writer_open(out, path, err) : assay_nomem(err);
    assay_free(path);
    return s == ASSAY_OK ? write_index(*out, l, err) : s;
}

/* An older checkpoint's index would be read instead of a new single file, or together with new shards; its
 * single file would be left over. */
static void remove_stale(const assay_ckpt_writer *w, const assay_layout *l) {
    char *index = assay_path_join(w->dir, ASSAY_INDEX_NAME),
         *single = assay_path_join(w->dir, ASSAY_SINGLE_NAME);
    if (index) unlink(index);
    if (single && l->n_shards > 1) unlink(single);
    assay_free(index);
    assay_free(single);
}

/* Renames a shard; one that has its name already was renamed before a kill. */
static assay_status place_shard(const assay_ckpt_writer *w, const assay_layout *l, size_t i, assay_err *err) {
    char *from = assay_shard_path(w, i), *to = assay_path_join(w->dir, l->shards[i].name);
    assay_status s = from && to ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK && rename(from, to) != 0 && !(w->placing && errno == ENOENT && assay_path_exists(to)))
        s = assay_fail_errno(err, errno, "cannot rename %s to %s", from, to);
    assay_free(from);
    assay_free(to);
    return s;
}

static assay_status place(assay_ckpt_writer *w, const assay_layout *l, assay_err *err) {
    assay_writer *index = NULL;
    assay_status s = ASSAY_OK;
    if (l->n_shards > 1 && !w->gguf) ASSAY_GO(open_index(&index, w, l, err));
    if ((w->moved || w->planned) && !w->placing) {
        ASSAY_GO(assay_journal_append(w, json_pack("{s:I}", "placing", (json_int_t)w->shard_bytes), err));
        ASSAY_GO(assay_ckpt_writer_sync(w, err));
        w->placing = true;
    }
    if (!w->gguf) remove_stale(w, l);
    for (size_t i = 0; i < l->n_shards; i++)
        ASSAY_GO(place_shard(w, l, i, err));
    sync_folder(w->dir);
    if (index) {
        s = assay_writer_commit(index, err);
        index = NULL;
    }
out:
    assay_writer_abort(index);
    return s;
}

assay_status assay_ckpt_writer_commit(assay_ckpt_writer *w, assay_err *err) {
    assay_layout l = {0};
    assay_status s;
    assay_ckpt_writer_drop(w);
    if (w->gguf) ASSAY_GO(assay_gguf_finish(w, err));
    ASSAY_GO(assay_shards_lay_out(&l, w, w->tensors, w->n_recorded, err));
    if (!w->placing) ASSAY_GO(w->planned ? assay_plan_finish(w, err) : write_shards(w, &l, err));
    ASSAY_GO(place(w, &l, err));
    unlink(w->journal_path);
    unlink(w->data_path);
out:
    if (s != ASSAY_OK && !w->moved && !w->placing && !w->planned) remove_shards(w, l.n_shards); /* the spool has it all */
    assay_layout_free(&l);
    assay_ckpt_writer_free(w);
    return s;
}
