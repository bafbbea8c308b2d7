/* text/tokenizer.h: what a tokenizer holds; shared by tokenizer.c (reading), encode.c and detok.c. */
#ifndef ASSAY_TEXT_TOKENIZER_H
#define ASSAY_TEXT_TOKENIZER_H

#include "base/hash.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decode.h"
#include "text/pre.h"
#include "text/spm.h"
#include "text/steps.h"
#include "text/text.h"
#include "text/unigram.h"

typedef struct assay_token_info {
    assay_token_text content; /* as in the file; borrowed from the vocabulary or the added tokens */
    assay_token_text
        decode; /* what the decoders get: the content, normalized for an added token that is matched so */
    bool special;
} assay_token_info;

typedef enum assay_model_kind { ASSAY_MODEL_BPE, ASSAY_MODEL_UNIGRAM } assay_model_kind;

struct assay_tokenizer {
    assay_model_kind kind;
    assay_bpe bpe;            /* kind BPE */
    assay_unigram unigram;    /* kind UNIGRAM */
    assay_vocab pieces;       /* every token, where they came as SentencePiece's pieces */
    float *scores;            /* by id, with `pieces`; owned */
    uint8_t *types;           /* by id, of assay_token_type, with `pieces`; owned */
    assay_trie user;          /* SentencePiece's user-defined symbols, by id */
    const assay_vocab *vocab; /* the model's tokens: one of the above */
    bool is_spm;              /* texts are normalized by spm, not by normalizers */
    assay_spm_rules spm;
    assay_step_list normalizers, pre_tokenizers, decoders;
    assay_added_token *added; /* owned */
    size_t n_added, cap_added;
    char **normalized;       /* NULL, or n_added: the normalized content where it differs, else NULL; owned */
    assay_vocab added_ids;   /* contents of the added tokens to ids */
    assay_trie raw, matched; /* found in the raw text; found in the normalized text */
    assay_token_info *tokens; /* by id */
    size_t n_tokens;          /* highest id + 1 */
    assay_ids before, after;  /* what the post-processor puts around a sequence */
    int32_t bos, eos, unk, pad;
    bool add_bos, add_eos; /* as GGUF's keys say it: before and after begin and end with these */
    char hash[ASSAY_HASH_HEX];
};

/* Fills t->tokens from the vocabulary and the added tokens. */
assay_status assay_tokenizer_index(assay_tokenizer *t, assay_err *err);
/* before = bos, after = eos, as add_bos and add_eos say. */
assay_status assay_tokenizer_wrap(assay_tokenizer *t, assay_err *err);
/* The pre-tokenizer and the decoder of a byte-level BPE. */
assay_status assay_tokenizer_byte_level(assay_tokenizer *t, const assay_pre *pre, assay_err *err);
/* The id that a key like "bos_token" of tokenizer_config.json names (a text, or an object with a content), or -1. */
int32_t assay_tokenizer_named(const assay_tokenizer *t, const json_t *config, const char *key);
/* Reads "post_processor" into t->before and t->after. */
assay_status assay_postprocess_parse(assay_tokenizer *t, const json_t *j, const char *where, assay_err *err);

#endif
