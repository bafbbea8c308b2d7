/* text/spm_model.h: SentencePiece's tokenizer.model, and the JSON files beside a tokenizer.model of any kind. */
#ifndef ASSAY_TEXT_SPM_MODEL_H
#define ASSAY_TEXT_SPM_MODEL_H

#include "text/tokenizer.h"

/* The JSON files beside a tokenizer.model; NULL where there is none. */
typedef struct assay_spm_config {
    const json_t *config; /* tokenizer_config.json */
    const json_t *added;  /* added_tokens.json: content -> id */
    const json_t *named;  /* special_tokens_map.json */
    const json_t *model;  /* config.json */
    const json_t *params; /* params.json, as Meta has it */
    bool whole;           /* a model's own file: a tiktoken list must be Llama 3's */
} assay_spm_config;

/* Fills the empty t from the file's bytes. */
assay_status assay_spm_model_read(assay_tokenizer *t, const void *data, size_t n, const assay_spm_config *c,
                                  const char *where, assay_err *err);
/* Reads content and flags of an added token; the content is borrowed from the JSON. */
assay_status assay_spm_parse_added(assay_added_token *a, const json_t *content, const json_t *flags, const char *where, assay_err *err);
/* The added tokens, bos and eos that the JSON files name; after the pieces. */
assay_status assay_spm_config_read(assay_tokenizer *t, const assay_spm_config *c, const char *where,
                                   assay_err *err);

#endif
