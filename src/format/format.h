/* format/format.h: checkpoints on disk. safetensors (single file, or shards with an index), mapped and never copied whole, and the
 * quantization conventions on top of it. Reading is bounds-checked before anything is allocated or touched; writing streams tensor
 * by tensor. */
#ifndef ASSAY_FORMAT_H
#define ASSAY_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/json.h"
#include "base/status.h"
#include "num/dtype.h"
#include "precision/precision.h"

/* --- reading --- */
typedef struct assay_checkpoint assay_checkpoint;

/* DIR/model.safetensors.index.json with its shards, or DIR/model.safetensors, or a path to one .safetensors file; FILE.gguf or a folder
 * with one (of a split the first): its tensors have the names, dimensions and order of Hugging Face's, see assay_tensor for what differs
 * in their bytes. Errors name file, tensor and byte. Every tensor's range is checked against its file: no overlap, no hole (GGUF: but
 * for padding), dims*size == bytes. */
assay_status assay_checkpoint_open(assay_checkpoint **out, const char *path, assay_err *err);
/* ENOTFOUND when nothing is there, EINPUT for a file that is neither GGUF nor a configuration (.json): a model is named by its folder or its GGUF file. */
assay_status assay_checkpoint_check_path(const char *model, assay_err *err);
void assay_checkpoint_close(assay_checkpoint *c);
bool assay_checkpoint_is_gguf(const assay_checkpoint *c);
size_t assay_checkpoint_n_tensors(const assay_checkpoint *c);
const assay_tensor *assay_checkpoint_get(const assay_checkpoint *c, size_t i);            /* in file order; borrowed */
const assay_tensor *assay_checkpoint_find(const assay_checkpoint *c, const char *name);   /* NULL when absent */
uint64_t assay_checkpoint_n_bytes(const assay_checkpoint *c);                             /* of all tensors */
/* SHA-256 over config.json's and every tensor's name, dtype, dims and bytes (names sorted): the identity of a checkpoint. Reads it all
 * once; cached beside nothing: callers that ask twice keep it. */
assay_status assay_checkpoint_hash(char hex[65], const assay_checkpoint *c, assay_err *err);
/* Pages of this tensor will be needed soon: they are read ahead, while something else is worked on. */
void assay_checkpoint_prefetch(const assay_checkpoint *c, const assay_tensor *t);
/* Pages of this tensor are not needed for now (streaming). */
void assay_checkpoint_release(const assay_checkpoint *c, const assay_tensor *t);

/* --- conventions: what `X.weight` means given the checkpoint's quantization_config (NULL for an unquantized checkpoint) --- */
typedef enum assay_convention {
    ASSAY_CONVENTION_HF,        /* plain tensors */
    ASSAY_CONVENTION_BNB,       /* bitsandbytes 4-bit and 8-bit */
    ASSAY_CONVENTION_CT,        /* compressed-tensors: integers, FP8, NVFP4, MXFP4, mixed config groups */
    ASSAY_CONVENTION_FP8,       /* quant_method "fp8" of vLLM and transformers */
    ASSAY_CONVENTION_HQQ,       /* quant_method "hqq": integers with real zero points */
    ASSAY_CONVENTION_GPTQ,      /* quant_method "gptq", checkpoint_format gptq (version 1) */
    ASSAY_CONVENTION_AWQ,       /* quant_method "awq", version gemm */
    ASSAY_CONVENTION_GGUF,      /* a GGUF file: ggml's blocks under the names that Hugging Face has */
    ASSAY_CONVENTION_GPTQ_V2,   /* GPTQ with checkpoint_format gptq_v2: ASSAY_CONVENTION_GPTQ is version 1 */
    ASSAY_CONVENTION_COUNT
} assay_convention;
const char *assay_convention_name(assay_convention c);
assay_status assay_convention_detect(assay_convention *out, const json_t *quantization_config, assay_err *err);

/* Fills *out with the matrix called weight_name ("...q_proj.weight", expected [rows, cols]; 0 = any) in its stored precision.
 * Dense tensors are borrowed from the mapping (valid until close). The home's compute mode is set (act_bits, act_dtype, input_scale,
 * act_group, outlier_threshold). ENOTFOUND and EINPUT name the tensor and shapes. dense_act is act_dtype for unquantized matrices. */
assay_status assay_checkpoint_matrix(assay_matrix *out, const assay_checkpoint *c, const json_t *quantization_config,
                                     const char *weight_name, int64_t rows, int64_t cols, assay_dtype dense_act, assay_err *err);
/* The same but for the codes, which are allocated and not filled (BLOCK and DENSE: borrowed as ever): what a matrix is, without reading
 * it. Unchecked. */
assay_status assay_checkpoint_outline(assay_matrix *out, const assay_checkpoint *c, const json_t *quantization_config,
                                      const char *weight_name, assay_dtype dense_act, assay_err *err);
/* Whether a tensor is a part of a quantized matrix; then module gets that matrix's name without ".weight". */
bool assay_checkpoint_part_of(char *module, size_t size, const assay_checkpoint *c, const json_t *quantization_config, const char *tensor);
/* EUNSUPPORTED naming the matrix and what stands against it unless the convention can hold a quantized matrix as it is. Codes are not
 * looked at. */
assay_status assay_convention_check(assay_convention c, const char *weight_name, const assay_matrix *m, assay_err *err);
/* A 1-D tensor of n elements as float32 into out. */
assay_status assay_checkpoint_vector(float *out, const assay_checkpoint *c, const char *name, int64_t n, assay_err *err);

/* --- writing --- */
/* A safetensors file (or shards of at most shard_bytes, 0 = 5 GB, with an index) written one tensor at a time in any order; tensor
 * bytes are spooled to DIR/.partial-*, the header is written when everything is known. Nothing appears under its name before commit. */
typedef struct assay_ckpt_writer assay_ckpt_writer;
assay_status assay_ckpt_writer_open(assay_ckpt_writer **out, const char *dir, uint64_t shard_bytes, assay_err *err);
assay_status assay_ckpt_writer_put(assay_ckpt_writer *w, const char *name, assay_dtype dtype, int n_dims, const int64_t *dims,
                                   const void *data, assay_err *err);
/* Puts a tensor of an open checkpoint, piece by piece, so that memory stays small whatever its size. NaN or infinity in it is
 * EINPUT naming tensor, row and column. */
assay_status assay_ckpt_writer_copy(assay_ckpt_writer *w, const assay_checkpoint *c, const assay_tensor *t, assay_err *err);
/* The tensors that an encoded matrix becomes in a convention. weight_name ends in ".weight". */
assay_status assay_ckpt_writer_put_matrix(assay_ckpt_writer *w, assay_convention c, const char *weight_name, const assay_matrix *m,
                                          assay_dtype model_dtype, assay_err *err);
/* Resuming: what a killed run had finished is kept in the spool; true when `name` is already there whole. */
bool assay_ckpt_writer_has(const assay_ckpt_writer *w, const char *name);
/* Makes what was put so far survive a kill (fsync of spool and its journal). */
assay_status assay_ckpt_writer_sync(assay_ckpt_writer *w, assay_err *err);
assay_status assay_ckpt_writer_commit(assay_ckpt_writer *w, assay_err *err);  /* frees w in any case */
void assay_ckpt_writer_close(assay_ckpt_writer *w);                           /* keeps the spool for a later resume; NULL is fine */

#endif
