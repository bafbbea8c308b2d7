/* model/adapt.h: an adapter bound to a model's weights as they are uploaded. For weights.c. */
#ifndef ASSAY_MODEL_ADAPT_H
#define ASSAY_MODEL_ADAPT_H

#include "format/adapter.h"
#include "model/config.h"
#include "model/weights.h"

/* All-zero: no adapter, and the functions do nothing. */
typedef struct assay_adapt {
    assay_adapter *file;
    size_t n_loras, n_whole; /* that found their place */
} assay_adapt;

/* dir NULL: none. */
assay_status assay_adapt_open(assay_adapt *out, const char *dir, assay_err *err);
void assay_adapt_close(assay_adapt *a);
/* Adds to w what the adapter has for the spec's matrix. Numbers are kept in `weights`. EUNSUPPORTED for DoRA, embeddings and latent
 * attention's kv_b (merge those), EINPUT for another shape. */
assay_status assay_adapt_matrix(assay_adapt *a, assay_weights *weights, assay_weight *w, assay_tensor_role role, const assay_tensor_spec *spec,
                                assay_err *err);
/* The adapter's own tensor in the place of the checkpoint's, or NULL. */
const assay_tensor *assay_adapt_whole(assay_adapt *a, const char *name);
/* That tensor as the spec's matrix, computed with in `act`, kept in `weights`; or as a vector of n floats. EINPUT for another shape,
 * EUNSUPPORTED for a matrix that files have transposed. */
assay_status assay_adapt_dense(assay_matrix *out, assay_weights *weights, const assay_tensor *t, const assay_tensor_spec *spec, assay_dtype act,
                               assay_err *err);
assay_status assay_adapt_vector(float *out, const assay_tensor *t, int64_t n, assay_err *err);
/* After everything is bound: EINPUT naming a module that found no place, which says that the adapter is another model's. */
assay_status assay_adapt_finish(const assay_adapt *a, assay_weights *weights, assay_err *err);

#endif
