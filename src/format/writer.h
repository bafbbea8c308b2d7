/* format/writer.h: the writer's inside, for the conventions, which put several tensors as one whole. Not
 * for other rooms. */
#ifndef ASSAY_FORMAT_WRITER_H
#define ASSAY_FORMAT_WRITER_H

#include "format/format.h"

/* Appends a tensor to the spool as part of the record being made. The name is copied. */
assay_status assay_ckpt_writer_add(assay_ckpt_writer *w, const char *name, assay_dtype dtype, int n_dims,
                                   const int64_t *dims, const void *data, assay_err *err);
/* Makes what was added since the last record permanent under one name: all of it or, after a kill,
 * nothing. */
assay_status assay_ckpt_writer_record(assay_ckpt_writer *w, const char *name, assay_err *err);
/* Forgets what was added since the last record. */
void assay_ckpt_writer_drop(assay_ckpt_writer *w);

#endif
