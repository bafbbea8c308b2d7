/* format/checkpoint.h: checkpoints that are not files. Not for other rooms. */
#ifndef ASSAY_FORMAT_CHECKPOINT_H
#define ASSAY_FORMAT_CHECKPOINT_H

#include "format/format.h"

/* A checkpoint of one safetensors file that lies in memory, which must outlive it. `where` names it in
 * errors. */
assay_status assay_checkpoint_open_memory(assay_checkpoint **out, const uint8_t *data, size_t size,
                                          const char *where, assay_err *err);

/* The same of one GGUF file. */
assay_status assay_checkpoint_open_gguf_memory(assay_checkpoint **out, const uint8_t *data, size_t size, const char *where,
                                               assay_err *err);
/* The files of a GGUF checkpoint; NULL for another. */
const struct assay_gguf_set *assay_checkpoint_gguf(const assay_checkpoint *c);
/* The two halves of a tensor whose order is ASSAY_ORDER_JOINED, or NULL. */
const struct assay_gguf_joint *assay_checkpoint_joint(const assay_checkpoint *c, const char *name);

#endif
