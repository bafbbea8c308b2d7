/* format/writer_impl.h: the writer's state, for writer.c (putting) and commit.c. */
#ifndef ASSAY_FORMAT_WRITER_IMPL_H
#define ASSAY_FORMAT_WRITER_IMPL_H

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
void assay_ckpt_writer_free(assay_ckpt_writer *w);
/* Where a shard stands before it has its name; owned by the caller. */
char *assay_shard_path(const assay_ckpt_writer *w, size_t i);
/* All n bytes at that place of a file. */
assay_status assay_spool_write(int fd, const void *data, size_t n, uint64_t at, const char *path,
                               assay_err *err);
/* Appends a line to the journal; takes the reference, NULL being out of memory. */
assay_status assay_journal_append(assay_ckpt_writer *w, json_t *line, assay_err *err);

#endif
