/* method/merge.h: a LoRA adapter folded into its base: one checkpoint again, which everything can load and quantize. */
#ifndef ASSAY_METHOD_MERGE_H
#define ASSAY_METHOD_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/progress.h"
#include "base/status.h"

typedef struct assay_merge_opts { /* all-zero = defaults */
    uint64_t shard_bytes;         /* 0 = 5 GB */
    bool overwrite;
    int n_threads;                /* 0 = all cores */
    const assay_progress *progress;
} assay_merge_opts;

typedef struct assay_merge_result {
    size_t n_tensors, n_merged, n_replaced;
    uint64_t output_bytes;
    double change; /* |merged - base| / |base| over the merged matrices, Frobenius */
    char base_hash[65], adapter_hash[65];
    bool reused; /* the folder held this very result */
} assay_merge_result;

/* Writes MODEL_DIR with ADAPTER_DIR merged into OUT_DIR, tensor by tensor, in the base's own types: W + scale * B A in float32, rounded once
 * (peft 0.21, tuners/lora/layer.py, merge with float32 adapters). One matrix is in memory at a time; a killed call goes on where it was
 * when it is repeated. EUNSUPPORTED for a quantized base; EINPUT when the adapter names a matrix that the base lacks or has in another
 * shape: then it is another model's. */
assay_status assay_merge(assay_merge_result *out, const char *model_dir, const char *adapter_dir, const char *out_dir,
                         const assay_merge_opts *o, assay_err *err);

#endif
