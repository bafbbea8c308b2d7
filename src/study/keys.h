/* study/keys.h: the keys of steps: SHA-256 of everything that goes into one. Two equal keys are one result, so whatever can change a
 * result must be in its key, and nothing else may be: a renamed variant or another folder must find what is done.
 *
 *   quantize  QUANTIZE_VERSION, checkpoint, recipe, what it is calibrated or weighed with, a mixture's target and candidates
 *   score     SCORE_VERSION, checkpoint, tokenizer and template files, suite (items, evaluators with versions and options, prompts),
 *             compute mode, KV cache, instruction set, longest sequence (the KV budget may bound it); kl: the baseline's identity; a rerun: its batch
 *
 * Raise a version when a change of the program changes what that step produces from the same input. */
#ifndef ASSAY_STUDY_KEYS_H
#define ASSAY_STUDY_KEYS_H

#include "base/hash.h"
#include "base/status.h"
#include "method/recipe.h"
#include "runtime/native.h"

#define STUDY_QUANTIZE_VERSION 1
#define STUDY_SCORE_VERSION 2

/* What a model answers with, apart from the suite. */
typedef struct study_identity {
    char checkpoint[ASSAY_HASH_HEX];
    char text[ASSAY_HASH_HEX];        /* tokenizer, template and generation files */
    const char *activations;          /* "auto" "int8" ... */
    const char *kv;                   /* "bf16" "int4" ...: how keys and values are kept; never "auto" */
    const char *isa;                  /* "avx2" */
    int64_t context;                  /* longest sequence: the model's, the caller's, or what the KV budget holds */
} study_identity;

assay_status study_checkpoint_hash(char hex[ASSAY_HASH_HEX], const char *dir, assay_err *err);
/* Fills the identity of the model in dir as opened with o, its text files as they are in text_dir. checkpoint: its hash when known,
 * NULL: computed (reads it all). */
assay_status study_identify(study_identity *out, const char *text_dir, const char *dir, const char *checkpoint, const assay_native_opts *o, assay_err *err);
/* calibration: hash of the ids, or of the importance matrix' file, that it is made with, NULL = none; mixture: what it is to come to ("4.25 int3g128 ..."), NULL = none. */
assay_status study_quantize_key(char hex[ASSAY_HASH_HEX], const char *checkpoint, const assay_recipe *r, const char *calibration,
                                const char *mixture, assay_err *err);
/* baseline: NULL when the suite has no kl. rerun_batch 0: no rerun. */
assay_status study_score_key(char hex[ASSAY_HASH_HEX], const study_identity *model, const char *suite_hash, const study_identity *baseline,
                             int rerun_batch, assay_err *err);
/* Names the folder of the baseline's distributions. */
assay_status study_identity_hash(char hex[ASSAY_HASH_HEX], const study_identity *i, assay_err *err);

#endif
