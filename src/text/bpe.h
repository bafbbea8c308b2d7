/* text/bpe.h: the BPE model of tokenizer.json: a pre-token's text to ids. */
#ifndef ASSAY_TEXT_BPE_H
#define ASSAY_TEXT_BPE_H

#include "base/json.h"
#include "text/added.h"
#include "text/ids.h"
#include "text/vocab.h"

#define ASSAY_BPE_DIRECT 0x3000 /* code points whose one-character token is found by index */

typedef struct assay_bpe {
    assay_vocab vocab;
    assay_merges merges;
    int32_t direct[ASSAY_BPE_DIRECT]; /* id of the one-character token, or -1 */
    int32_t byte_id[256];             /* id of "<0xHH>", or -1 */
    int32_t unk;                      /* id of unk_token, or -1 */
    char *prefix, *suffix;            /* continuing_subword_prefix, end_of_word_suffix; NULL when empty */
    bool byte_fallback, fuse_unk, ignore_merges;
    /* SentencePiece's way: no affixes, unknown neighbours are one, and */
    bool pieces;
    int32_t n_known;        /* ids from here on are characters without a token, which may still merge */
    const assay_trie *user; /* strings that are one symbol each and never merge; borrowed, NULL: none */
    uint8_t *unused;        /* by id: may be merged to, but not put out; NULL: no such token. Owned */
    uint64_t *joins; /* a bit per hash of two characters that are neighbours in some token; NULL: not built */
} assay_bpe;

/* From the "model" object. `where` names the file in errors. */
assay_status assay_bpe_parse(assay_bpe *b, const json_t *model, const char *where, assay_err *err);
/* Of GGUF's metadata: b->vocab holds every token; a merge is "left right". */
assay_status assay_bpe_from_merges(assay_bpe *b, const assay_token_text *merges, size_t n_merges,
                                   const char *where, assay_err *err);
/* Of SentencePiece's pieces: b->vocab holds those that merge, scores their scores by id, b->n_known
 * says how many tokens there are. Adds the characters that have no token, and
 * finds the merges: any two neighbours whose concatenation is a piece, the best score first. */
assay_status assay_bpe_from_pieces(assay_bpe *b, const float *scores, assay_err *err);
/* Of tiktoken's ranks: b->vocab holds every token, its rank is its id; the merges as above, the lowest rank first. */
assay_status assay_bpe_from_ranks(assay_bpe *b, assay_err *err);
void assay_bpe_free(assay_bpe *b);

/* For models without a pre-tokenizer, where a whole text is one word: finds out which neighbours can end up
 * in one token. */
assay_status assay_bpe_index_joins(assay_bpe *b, assay_err *err);
void assay_bpe_join(assay_bpe *b, const char *s,
                    size_t n); /* the text is never cut inside this string either */
/* True when no merge can cross from character left to character right, so that a text may be cut between
 * them without changing its ids. Joins must have been built. */
bool assay_bpe_breaks(const assay_bpe *b, int32_t left, int32_t right);

/* Working memory of one encode call; all-zero is empty. */
typedef struct assay_bpe_scratch {
    struct assay_symbol *symbols;
    size_t cap_symbols;
    uint64_t *heap; /* rank << 32 | position */
    size_t n_heap, cap_heap;
    int32_t (*halves)[2]; /* by id of an unused token: what it was merged from last (the right one plus 1);
                             NULL until needed */
} assay_bpe_scratch;
void assay_bpe_scratch_free(assay_bpe_scratch *w);

/* Appends the ids of one pre-token (valid UTF-8, n >= 1). */
assay_status assay_bpe_encode(assay_ids *ids, const assay_bpe *b, assay_bpe_scratch *w, const char *s,
                              size_t n, assay_err *err);

#endif
