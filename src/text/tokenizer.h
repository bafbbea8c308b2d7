/* text/tokenizer.h: what a tokenizer holds; shared by tokenizer.c (reading), encode.c and detok.c. */
#ifndef ASSAY_TEXT_TOKENIZER_H
#define ASSAY_TEXT_TOKENIZER_H

#include "base/hash.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decode.h"
#include "text/steps.h"
#include "text/text.h"

typedef struct assay_token_info {
    assay_token_text content; /* as in the file; borrowed from the vocabulary or the added tokens */
    assay_token_text
        decode; /* what the decoders get: the content, normalized for an added token that is matched so */
    bool special;
} assay_token_info;

struct assay_tokenizer {
    assay_bpe bpe;
    assay_step_list normalizers, pre_tokenizers, decoders;
    assay_added_token *added; /* owned */
    size_t n_added;
    char **normalized;        /* n_added: the normalized content where it differs, else NULL; owned */
    assay_vocab added_ids;    /* contents of the added tokens to ids */
    assay_trie raw, matched;  /* found in the raw text; found in the normalized text */
    assay_token_info *tokens; /* by id */
    size_t n_tokens;          /* highest id + 1 */
    assay_ids before, after;  /* what the post-processor puts around a sequence */
    int32_t bos, eos;
    char hash[ASSAY_HASH_HEX];
};

/* Reads "post_processor" into t->before and t->after. */
assay_status assay_postprocess_parse(assay_tokenizer *t, const json_t *j, const char *where, assay_err *err);

#endif
