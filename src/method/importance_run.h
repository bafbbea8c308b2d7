/* method/importance_run.h: a model's importance matrix into a file that llama.cpp reads (format/imatrix.h). */
#ifndef ASSAY_METHOD_IMPORTANCE_RUN_H
#define ASSAY_METHOD_IMPORTANCE_RUN_H

#include "base/progress.h"
#include "method/method.h"

typedef struct assay_importance_opts {
    const char *dataset; /* its name, kept in the file; NULL = "" */
    int n_threads;       /* 0 = all cores */
    const assay_progress *progress;
} assay_importance_opts;

typedef struct assay_importance_result {
    size_t n_entries, n_tokens;
    size_t n_idle;  /* experts that saw no token: they will weigh all columns alike */
    double seconds;
} assay_importance_result;

/* Runs the model, as it is, over the calibration sequences, one decoder layer in memory at a time, and writes FILE. Meanwhile FILE.work holds the
 * activations; a killed call goes on there at the layer that it was in. One entry per matrix of the decoder layers that GGUF can have in
 * blocks, none for embedding and head. EUNSUPPORTED: an architecture that has no GGUF form. */
assay_status assay_importance_run(assay_importance_result *out, const char *model_dir, const char *file, const assay_calibration *c,
                                  const assay_importance_opts *o, assay_err *err);

#endif
