/* text/spm.h: what SentencePiece does to a text before its model, and building a tokenizer from its pieces.
 */
#ifndef ASSAY_TEXT_SPM_H
#define ASSAY_TEXT_SPM_H

#include "base/str.h"
#include "text/added.h"
#include "text/charsmap.h"
#include "text/text.h"

/* normalizer_spec. */
typedef struct assay_spm_rules {
    assay_charsmap map;
    bool prefix;       /* add_dummy_prefix: a space in front (behind, with suffix) */
    bool prefix_first; /* ... in front of the whole text alone, not after each added token */
    bool suffix;       /* treat_whitespace_as_suffix */
    bool trim;         /* remove_extra_whitespaces */
    bool keep_spaces;  /* not escape_whitespaces: ' ' stays instead of U+2581 */
} assay_spm_rules;

/* Appends s normalized. Strings of the trie `user` (the user-defined symbols) pass unchanged. `first`: s
 * begins the text. */
void assay_spm_normalize(assay_str *out, const assay_spm_rules *r, const assay_trie *user, const char *s,
                         size_t n, bool first);

/* The pieces of a model, from tokenizer.model or from GGUF. Everything is borrowed. */
typedef struct assay_spm_pieces {
    const assay_token_text *tokens;
    const float *scores;
    const int32_t *types; /* of assay_token_type; NULL: all normal */
    size_t n;
    bool unigram; /* else BPE */
    bool byte_fallback;
    bool user_is_added; /* user-defined symbols are added tokens (GGUF); else part of the model
                           (SentencePiece) */
    bool unk_is_added;  /* so is the unknown token */
} assay_spm_pieces;

struct assay_tokenizer;
/* Fills the model of t, its tokens by id and the decoders; control symbols become special added tokens.
 * t->spm must have been set. */
assay_status assay_spm_build(struct assay_tokenizer *t, const assay_spm_pieces *p, const char *where,
                             assay_err *err);
/* Makes a token that the pieces have, or a new one, an added token. */
assay_status assay_spm_add(struct assay_tokenizer *t, const assay_added_token *a, assay_err *err);

#endif
