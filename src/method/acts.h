/* method/acts.h: hidden states between decoder layers, on disk. Inside the room only.
 *
 * DIR/.partial-x-000k holds float32 [n_tokens][hidden]: what goes into layer k. It is written beside its place and renamed when whole, so
 * a run that was killed finds the inputs of the layer that it was in. Mapped shared: the page cache keeps what memory allows, the disk
 * the rest; assay_acts_release takes the pages off the process. */
#ifndef ASSAY_METHOD_ACTS_H
#define ASSAY_METHOD_ACTS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

typedef struct assay_acts {
    float *v; /* NULL = none */
    size_t n_bytes;
    char *tmp, *path; /* tmp: not committed yet */
} assay_acts;

/* kind 'x' (inputs of the quantized path) or 'r' (of the reference). */
bool assay_acts_exist(const char *dir, char kind, int layer);
assay_status assay_acts_open(assay_acts *out, const char *dir, char kind, int layer, size_t n_floats, assay_err *err);
assay_status assay_acts_create(assay_acts *out, const char *dir, char kind, int layer, size_t n_floats, assay_err *err);
/* Gives a created one its name. */
assay_status assay_acts_commit(assay_acts *a, assay_err *err);
void assay_acts_release(const assay_acts *a);
void assay_acts_close(assay_acts *a); /* all-zero is fine; an uncommitted one is removed */
void assay_acts_remove(const char *dir, char kind, int layer);

#endif
