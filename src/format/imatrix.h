/* format/imatrix.h: llama.cpp's importance matrices: for each matrix of a model, per column of its input, the sum of squares over the
 * tokens seen and how many those were. Names are GGUF's ("blk.3.ffn_down.weight"); a stack of experts has a row of sums and a count each.
 *
 * Two kinds of files:
 *   GGUF    general.type "imatrix", imatrix.datasets, .chunk_count, .chunk_size; of each matrix two float32 tensors,
 *           NAME.in_sum2 [columns, matrices] and NAME.counts [1, matrices]
 *   legacy  i32 entries, entries x (i32 length, name, i32 calls, i32 values, f32 values[]), then maybe i32 chunks, i32 length, dataset;
 *           values are means times calls, and 1 for an expert that saw nothing */
#ifndef ASSAY_FORMAT_IMATRIX_H
#define ASSAY_FORMAT_IMATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/status.h"

typedef struct assay_imatrix assay_imatrix;

/* Either kind, told apart by its beginning. EINPUT says where it is wrong; a lying file costs no memory beyond its names. */
assay_status assay_imatrix_open(assay_imatrix **out, const char *path, assay_err *err);
/* From memory, which must outlive it. */
assay_status assay_imatrix_parse(assay_imatrix **out, const uint8_t *data, size_t n, const char *where, assay_err *err);
void assay_imatrix_close(assay_imatrix *im); /* NULL is fine */

typedef struct assay_imatrix_info {
    size_t n_entries;
    bool is_legacy;
    int64_t n_chunks;
    char dataset[256];          /* the last one's name, cut; "" = none told */
    char hash[ASSAY_HASH_HEX];  /* SHA-256 of the file */
} assay_imatrix_info;
void assay_imatrix_describe(assay_imatrix_info *out, const assay_imatrix *im);
const char *assay_imatrix_name_at(const assay_imatrix *im, size_t i); /* of entry i < n_entries; borrowed */

/* Mean squares of the columns [cols] of one matrix: expert of n_experts, or expert -1. An expert that saw no token weighs 1 everywhere, as
 * llama.cpp has it. ENOTFOUND: no such entry; EINPUT: it has another size, or a value that is no weight. */
assay_status assay_imatrix_weights(float *out, const assay_imatrix *im, const char *name, int64_t cols, int64_t expert, int64_t n_experts,
                                   assay_err *err);

/* --- writing --- */

typedef struct assay_imatrix_entry { /* borrowed */
    char name[160];
    int64_t cols, n_matrices;
    const float *sums;   /* [n_matrices][cols] */
    const float *counts; /* [n_matrices] */
} assay_imatrix_entry;

/* What the sums of one matrix weigh, by the rule above; in float32, as a reader of the file would compute it. */
void assay_imatrix_mean(float *out, const float *sums, float count, int64_t cols);

/* Writes the GGUF kind; entries are sorted by name. Nothing appears at path before it is whole. */
assay_status assay_imatrix_save(const char *path, assay_imatrix_entry *entries, size_t n, const char *dataset, int64_t n_chunks, int64_t chunk_size,
                                assay_err *err);

#endif
