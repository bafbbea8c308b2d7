/* method/layer.h: opening and closing a layer in work, for the pipeline; what methods ask of one is in methods.h. Inside the room only. */
#ifndef ASSAY_METHOD_LAYER_H
#define ASSAY_METHOD_LAYER_H

#include "method/methods.h"

typedef struct assay_layer_bench assay_layer_bench;

/* A CPU backend and a runner for layers of config (borrowed). */
assay_status assay_bench_open(assay_layer_bench **out, const assay_config *config, int n_threads, assay_err *err);
void assay_bench_close(assay_layer_bench *b); /* NULL is fine */
/* Frees items, vectors, encoded matrices and what was collected. All-zero is fine. */
void assay_layer_deinit(assay_layer *layer);

#endif
