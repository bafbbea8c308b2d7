/* format/safetensors.h: one safetensors file in memory, and the header of one to be written. Not for other
 * rooms. */
#ifndef ASSAY_FORMAT_SAFETENSORS_H
#define ASSAY_FORMAT_SAFETENSORS_H

#include "base/mem.h"
#include "base/str.h"
#include "num/dtype.h"

typedef struct assay_safetensors {
    assay_tensor *tensors; /* in file order; data points into the buffer that was parsed */
    size_t n;
    assay_arena names;
} assay_safetensors;

/* Parses size bytes at data, which must outlive *out; `where` names them in errors. All-zero *out is freed
 * harmlessly. */
assay_status assay_safetensors_parse(assay_safetensors *out, const uint8_t *data, size_t size,
                                     const char *where, assay_err *err);
void assay_safetensors_free(assay_safetensors *f);

/* Appends length and JSON of a file that holds these tensors one after the other (their data is not looked
 * at). */
assay_status assay_safetensors_put_header(assay_str *out, const assay_tensor *const *tensors, size_t n,
                                          assay_err *err);

#endif
