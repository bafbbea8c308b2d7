/* format/checkpoint.h: checkpoints that are not files. Not for other rooms. */
#ifndef ASSAY_FORMAT_CHECKPOINT_H
#define ASSAY_FORMAT_CHECKPOINT_H

#include "format/format.h"

/* A checkpoint of one safetensors file that lies in memory, which must outlive it. `where` names it in
 * errors. */
assay_status assay_checkpoint_open_memory(assay_checkpoint **out, const uint8_t *data, size_t size,
                                          const char *where, assay_err *err);

#endif
