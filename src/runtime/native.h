/* runtime/native.h: opens a checkpoint directory with the project's own engine. */
#ifndef ASSAY_RUNTIME_NATIVE_H
#define ASSAY_RUNTIME_NATIVE_H

#include "backend/backend.h"
#include "model/kv.h"
#include "runtime/runtime.h"

typedef struct assay_native_opts {   /* all-zero = defaults */
    int n_threads;             /* 0 = all cores */
    const char *isa;           /* cap; NULL = best */
    assay_act_mode activations;/* AUTO = the format's home */
    int max_batch;             /* sequences computed together; 0 = 32 */
    int prefill_chunk;         /* tokens per forward call; 0 = 512 */
    bool no_prefix_cache;      /* recompute shared prefixes (tests of invariance) */
    size_t context;            /* 0 = the model's max_position_embeddings */
    size_t kv_bytes;           /* bound on the KV cache; 0 = a quarter of memory. Shortens the context when it does not hold it */
    assay_kv_kind kv;          /* how keys and values are kept; AUTO = as the model computes */
    const char *adapter;       /* a LoRA adapter's folder (format/adapter.h), borrowed for the call; NULL = none */
    bool no_tokenizer;         /* token ids only: no text is returned, stop strings never match (benches, synthetic checkpoints) */
} assay_native_opts;

/* What a runtime opened with o on a model of this configuration comes to, without opening it: the longest sequence (shorter than the
 * model's when the KV budget does not hold it) and how keys and values are kept, AUTO resolved. NULL outputs are not wanted. */
assay_status assay_native_effective(size_t *context, assay_kv_kind *kv, const assay_config *c, const assay_native_opts *o, assay_err *err);

assay_status assay_native_open(assay_runtime **out, const char *dir, const assay_native_opts *o, assay_err *err);

#endif
