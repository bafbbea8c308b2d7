/* writer_plan.c: see writer_plan.h. The journal says {"planned": shard_bytes}; records go on as with a spool, whose file stays as long as
 * the data would be but has no blocks (a hole), so that reading the journal is the same. The final files stand beside their places under the
 * names that a commit gives them:
 *
 *   DIR/.partial-shard-00001   header (written last) | tensors, each at its place */
#include "format/writer_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "format/gguf_write.h"
#include "format/writer_impl.h"

typedef struct assay_plan {
    bool noting;
    assay_spooled *tensors;
    size_t n, cap;
    assay_arena arena;
    assay_layout layout;
    assay_names names; /* -> place in the layout's order */
    uint64_t *at;      /* in its shard's file */
    size_t *shard;
    int *fds;          /* of shards, -1 = closed */
} assay_plan;

void assay_plan_free(assay_plan *p) {
    if (!p) return;
    for (size_t i = 0; p->fds && i < p->layout.n_shards; i++)
        if (p->fds[i] >= 0) close(p->fds[i]);
    assay_free(p->fds);
    assay_free(p->at);
    assay_free(p->shard);
    assay_names_free(&p->names);
    assay_layout_free(&p->layout);
    assay_free(p->tensors);
    assay_arena_free(&p->arena);
    assay_free(p);
}

bool assay_ckpt_writer_is_planning(const assay_ckpt_writer *w) {
    return w->plan && w->plan->noting;
}

assay_status assay_ckpt_writer_plan_begin(bool *planning, assay_ckpt_writer *w, assay_err *err) {
    *planning = !w->placing && !w->moved && (w->planned || w->n_recorded == 0);
    if (!*planning) return ASSAY_OK;
    w->plan = assay_calloc(1, sizeof *w->plan);
    if (!w->plan) return assay_nomem(err);
    w->plan->noting = true;
    return ASSAY_OK;
}

static assay_status copy_text(const char **out, assay_plan *p, const char *text, assay_err *err) {
    *out = text ? assay_arena_strndup(&p->arena, text, strlen(text)) : NULL;
    return text && !*out ? assay_nomem(err) : ASSAY_OK;
}

assay_status assay_plan_note(assay_ckpt_writer *w, const assay_spooled *t, assay_err *err) {
    assay_plan *p = w->plan;
    assay_spooled copy = *t;
    bool fresh;
    ASSAY_TRY(copy_text(&copy.tensor.name, p, t->tensor.name, err));
    ASSAY_TRY(copy_text(&copy.to, p, t->to, err));
    ASSAY_TRY(assay_names_add(&p->names, copy.tensor.name, 0, &fresh, err));
    if (!fresh) return assay_fail(err, ASSAY_EINPUT, "tensor %s is written twice", copy.tensor.name);
    ASSAY_TRY(assay_grow(&p->tensors, &p->cap, p->n + 1, sizeof *p->tensors, err));
    p->tensors[p->n++] = copy;
    return ASSAY_OK;
}

/* The places of a shard's tensors, and its file. */
static assay_status open_shard(assay_ckpt_writer *w, size_t index, assay_err *err) {
    assay_plan *p = w->plan;
    const assay_shard *shard = &p->layout.shards[index];
    assay_str header = {0};
    char *path = assay_shard_path(w, index);
    bool fresh;
    assay_status s = path ? assay_shard_header(&header, w, &p->layout, index, err) : assay_nomem(err);
    if (s == ASSAY_OK) assay_layout_places(p->at, &p->layout, index, header.len);
    for (size_t i = shard->first; s == ASSAY_OK && i < shard->first + shard->n; i++) {
        p->shard[i] = index;
        s = assay_names_add(&p->names, p->layout.order[i]->tensor.name, i, &fresh, err);
    }
    if (s == ASSAY_OK && (p->fds[index] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0)
        s = assay_fail_errno(err, errno, "cannot open %s", path);
    assay_str_free(&header);
    assay_free(path);
    return s;
}

assay_status assay_ckpt_writer_plan_end(assay_ckpt_writer *w, assay_err *err) {
    assay_plan *p = w->plan;
    if (!p) return ASSAY_OK;
    if (w->gguf) ASSAY_TRY(assay_gguf_finish(w, err));
    p->noting = false;
    assay_names_free(&p->names); /* of the order of putting; those of the layout follow */
    p->names = (assay_names){0};
    ASSAY_TRY(assay_shards_lay_out(&p->layout, w, p->tensors, p->n, err));
    p->at = assay_mallocn(p->n + 1, sizeof *p->at);
    p->shard = assay_mallocn(p->n + 1, sizeof *p->shard);
    p->fds = assay_mallocn(p->layout.n_shards + 1, sizeof *p->fds);
    if (!p->at || !p->shard || !p->fds) return assay_nomem(err);
    for (size_t i = 0; i < p->layout.n_shards; i++) p->fds[i] = -1;
    for (size_t i = 0; i < p->layout.n_shards; i++) ASSAY_TRY(open_shard(w, i, err));
    if (w->planned) return ASSAY_OK;
    w->planned = true;
    return assay_journal_append(w, json_pack("{s:I}", "planned", (json_int_t)w->shard_bytes), err);
}

assay_status assay_plan_check(const assay_ckpt_writer *w, const assay_spooled *t, assay_err *err) {
    const assay_plan *p = w->plan;
    size_t i = assay_names_find(&p->names, t->tensor.name);
    const assay_tensor *planned = i < p->n ? &p->layout.order[i]->tensor : NULL;
    if (planned && planned->dtype == t->tensor.dtype && planned->block == t->tensor.block && planned->n_bytes == t->tensor.n_bytes)
        return ASSAY_OK;
    return assay_fail(err, ASSAY_EINTERNAL, "tensor %s is not what was planned", t->tensor.name);
}

assay_status assay_plan_write(assay_ckpt_writer *w, const char *name, const void *data, size_t n, size_t offset, assay_err *err) {
    const assay_plan *p = w->plan;
    size_t i = assay_names_find(&p->names, name);
    if (i == SIZE_MAX || offset + n > p->layout.order[i]->tensor.n_bytes)
        return assay_fail(err, ASSAY_EINTERNAL, "tensor %s is not what was planned", name);
    return assay_spool_write(p->fds[p->shard[i]], data, n, p->at[i] + offset, w->dir, err);
}

assay_status assay_plan_sync(const assay_ckpt_writer *w, assay_err *err) {
    for (size_t i = 0; w->plan && i < w->plan->layout.n_shards; i++)
        if (fdatasync(w->plan->fds[i]) != 0) return assay_fail_errno(err, errno, "cannot write the files in %s", w->dir);
    return ASSAY_OK;
}

static assay_status finish_shard(const assay_ckpt_writer *w, size_t index, assay_err *err) {
    const assay_plan *p = w->plan;
    assay_str header = {0};
    assay_status s = assay_shard_header(&header, w, &p->layout, index, err);
    uint64_t size = assay_layout_places(NULL, &p->layout, index, header.len);
    if (s == ASSAY_OK) s = assay_spool_write(p->fds[index], header.s, header.len, 0, w->dir, err);
    if (s == ASSAY_OK && (ftruncate(p->fds[index], (off_t)size) != 0 || fsync(p->fds[index]) != 0))
        s = assay_fail_errno(err, errno, "cannot write the files in %s", w->dir);
    assay_str_free(&header);
    return s;
}

assay_status assay_plan_finish(assay_ckpt_writer *w, assay_err *err) {
    const assay_plan *p = w->plan;
    if (!p) return assay_fail(err, ASSAY_EINTERNAL, "%s was begun with a plan and is committed without one", w->dir);
    for (size_t i = 0; i < p->n; i++)
        if (assay_names_find(&w->names, p->tensors[i].tensor.name) >= w->n_recorded)
            return assay_fail(err, ASSAY_EINTERNAL, "tensor %s was planned and not written", p->tensors[i].tensor.name);
    for (size_t i = 0; i < p->layout.n_shards; i++) ASSAY_TRY(finish_shard(w, i, err));
    return ASSAY_OK;
}
