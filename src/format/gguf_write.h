/* format/gguf_write.h: a GGUF file in the making, for writer.c and commit.c. Not for other rooms.
 *
 * The spool holds tensors as the file will have them: names are Hugging Face's (so that what is asked and told stays the same for
 * callers), bytes, types and dimensions are GGUF's, and each says which tensor of the file it is or belongs to (assay_spooled.to). */
#ifndef ASSAY_FORMAT_GGUF_WRITE_H
#define ASSAY_FORMAT_GGUF_WRITE_H

#include "format/gguf.h"
#include "format/gguf_impl.h"
#include "format/layout.h"
#include "format/writer_impl.h"

typedef struct assay_gguf_output {
    const assay_gguf_arch *arch;
    json_t *config; /* with the architecture's defaults for what it does not say */
    char *base;     /* file name without ".gguf" */
    char *name, *license;
    int file_type;
    assay_str values; /* encoded metadata of the caller */
    uint64_t n_values;
    int64_t n_heads, n_kv_heads;
} assay_gguf_output;

void assay_gguf_output_free(assay_gguf_output *o); /* NULL is fine */

/* A tensor of Hugging Face's name, dimensions and order (blocks or plain elements, data whole): what becomes of it in the file goes to
 * the spool. Nothing for what GGUF leaves out (a tied head, buffers). EUNSUPPORTED for a name that it has not. */
assay_status assay_gguf_add(assay_ckpt_writer *w, const assay_tensor *t, assay_err *err);
/* assay_ckpt_writer_copy where either side is a GGUF. */
assay_status assay_gguf_copy(assay_ckpt_writer *w, const assay_checkpoint *c, const assay_tensor *t, assay_err *err);
/* Adds the tensors that come from the configuration: factors of rotary frequencies. */
assay_status assay_gguf_finish(assay_ckpt_writer *w, assay_err *err);

/* As assay_layout_init: experts of a stack side by side, then by llama.cpp's order: outside the layers, layer by layer. */
assay_status assay_gguf_layout(assay_layout *l, const assay_spooled *tensors, size_t n, uint64_t shard_bytes, assay_err *err);
assay_status assay_gguf_name_shards(assay_layout *l, const assay_gguf_output *o, assay_err *err);
/* A shard's header, filled up to the alignment. */
assay_status assay_gguf_put_header(assay_str *out, const assay_ckpt_writer *w, const assay_layout *l, size_t shard, assay_err *err);
/* The architecture's metadata (gguf_meta.c): appended, counted. */
assay_status assay_gguf_put_config(assay_str *out, uint64_t *n, const assay_gguf_output *o, assay_err *err);
/* Factors of rotary frequencies as a tensor of the file: name in *name, or *name NULL; `which` counts from 0. */
assay_status assay_gguf_factors(const char **name, float factors[512], int64_t *n, const assay_gguf_output *o, int which, assay_err *err);

#endif
