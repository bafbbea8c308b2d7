/* format/writer_impl.h: the writer's state, for writer.c (putting) and commit.c. */
#ifndef ASSAY_FORMAT_WRITER_IMPL_H
#define ASSAY_FORMAT_WRITER_IMPL_H

#include "base/str.h"
#include "format/layout.h"
#include "format/names.h"
#include "format/writer.h"

struct assay_ckpt_writer {
    char *dir, *data_path, *journal_path;
    int data, journal; /* file descriptors, -1 when closed */
    uint64_t shard_bytes;
    assay_spooled *tensors;
    size_t n_tensors, cap_tensors;
    size_t n_recorded;  /* tensors that records cover; the rest is being added */
    uint64_t end;       /* of the spool: recorded bytes */
    uint64_t added_end; /* with those of the record being made */
    uint64_t journal_end;
    uint64_t moved;    /* bytes of the layout that are in the shards alone; then nothing can be added */
    bool placing;      /* the shards are whole, their names are what is left */
    assay_names names; /* of tensors and of records */
    assay_arena arena; /* their text */
    struct assay_gguf_output *gguf; /* NULL: safetensors */
    struct assay_plan *plan;        /* NULL: none (writer_plan.h) */
    bool planned;      /* the data is in the shards, at its places; the spool is a hole */
};

/* Appends a tensor to the spool as it is: name, type or block, dimensions and bytes of `t`; `to` and `part` as in assay_spooled. */
assay_status assay_spool_add(assay_ckpt_writer *w, const assay_tensor *t, const char *to, int64_t part, assay_err *err);
/* The same by pieces: a place for the tensor (t->data is not looked at), which takes *bytes; n bytes at an offset of it; that was all. While
 * the writer is planning the first only notes it and the others are not called. */
assay_status assay_spool_begin(size_t *bytes, assay_ckpt_writer *w, const assay_tensor *t, const char *to, int64_t part, assay_err *err);
assay_status assay_spool_fill(assay_ckpt_writer *w, const char *name, const void *data, size_t n, size_t offset, assay_err *err);
assay_status assay_spool_end(assay_ckpt_writer *w, size_t bytes, assay_err *err);
void assay_ckpt_writer_free(assay_ckpt_writer *w);
/* Where a shard stands before it has its name; owned by the caller. */
char *assay_shard_path(const assay_ckpt_writer *w, size_t i);
/* A shard's header: the bytes before its tensors' places. */
assay_status assay_shard_header(assay_str *out, const assay_ckpt_writer *w, const assay_layout *l, size_t index, assay_err *err);
/* Which tensor goes where in files of the writer's kind and shard size; tensors are borrowed. */
assay_status assay_shards_lay_out(assay_layout *out, const assay_ckpt_writer *w, const assay_spooled *tensors, size_t n, assay_err *err);
/* All n bytes at that place of a file. */
assay_status assay_spool_write(int fd, const void *data, size_t n, uint64_t at, const char *path,
                               assay_err *err);
/* Appends a line to the journal; takes the reference, NULL being out of memory. */
assay_status assay_journal_append(assay_ckpt_writer *w, json_t *line, assay_err *err);

#endif
