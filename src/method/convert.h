/* method/convert.h: a whole checkpoint from one convention to another, tensor by tensor from disk to disk, without touching a code where
 * the target can hold it (format/convert.h). */
#ifndef ASSAY_METHOD_CONVERT_H
#define ASSAY_METHOD_CONVERT_H

#include "base/progress.h"
#include "format/convert.h"

typedef struct assay_convert_opts {
    const char *to;      /* CONVENTION or CONVENTION:TYPE: "gptq", "awq", "gguf:q4_0", "bnb:nf4", "hf"; "ct" is compressed-tensors */
    const char *dtype;   /* hf: f32, f16, bf16; NULL = the model's */
    int64_t group_size;  /* integers: 0 = as they are (what is rounded anew: the target's usual one) */
    bool requantize;     /* matrices that do not fit are decoded and rounded to nearest, to TYPE or the target's usual one */
    bool overwrite;
    bool dry_run;        /* only say whether it is exact */
    uint64_t shard_bytes; /* 0 = 5 GB */
    int n_threads;        /* 0 = all cores */
    void (*on_notice)(void *ctx, const char *text); /* what should be read before the files appear; NULL = none */
    void *notice_ctx;
    const assay_progress *progress;
} assay_convert_opts;

typedef struct assay_convert_result {
    assay_convention from, to;
    size_t n_tensors;   /* of the source */
    size_t n_copied;    /* plain tensors */
    size_t n_carried;   /* matrices whose codes are what they were */
    size_t n_decoded;   /* to plain tensors */
    size_t n_rounded;   /* rounded anew */
    double error;       /* of decoded and rounded ones: |after - before| / |before|, Frobenius */
    int64_t n_changed;  /* weights that a rounding changed */
    char note[160];     /* what changes in what is computed; "" = nothing */
    uint64_t input_bytes, output_bytes;
    double seconds;
    size_t peak_rss;
    bool reused;        /* the folder held this very result */
} assay_convert_result;

/* Writes the checkpoint MODEL (a folder, or a GGUF file) into OUT_DIR. One matrix is in memory at a time; a killed call goes on where it was
 * when it is repeated, and ends in the same bytes. EUNSUPPORTED names the first matrix that does not fit, why, and the targets that hold
 * every one of them as it is; nothing is written then. out_dir may be NULL for a dry run. */
assay_status assay_convert(assay_convert_result *out, const char *model, const char *out_dir, const assay_convert_opts *o, assay_err *err);

#endif
