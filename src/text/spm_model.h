/* text/spm_model.h: SentencePiece's tokenizer.model. */
#ifndef ASSAY_TEXT_SPM_MODEL_H
#define ASSAY_TEXT_SPM_MODEL_H

#include "text/tokenizer.h"

/* The JSON files beside a tokenizer.model; NULL where there is none. */
typedef struct assay_spm_config {
    const json_t *config; /* tokenizer_config.json */
    const json_t *added;  /* added_tokens.json: content -> id */
    const json_t *named;  /* special_tokens_map.json */
} assay_spm_config;

/* Fills the empty t from the file's bytes. */
assay_status assay_spm_model_read(assay_tokenizer *t, const void *data, size_t n, const assay_spm_config *c,
                                  const char *where, assay_err *err);
/* The added tokens, bos and eos that the JSON files name; after the pieces. */
assay_status assay_spm_config_read(assay_tokenizer *t, const assay_spm_config *c, const char *where,
                                   assay_err *err);

#endif
