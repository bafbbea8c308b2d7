/* text/unigram.h: the Unigram model: a text to the ids whose scores add up to the most. */
#ifndef ASSAY_TEXT_UNIGRAM_H
#define ASSAY_TEXT_UNIGRAM_H

#include "base/json.h"
#include "text/added.h"
#include "text/ids.h"
#include "text/vocab.h"

typedef struct assay_unigram {
    assay_vocab vocab;
    assay_trie trie;      /* every token that may be chosen, by id */
    double *scores;       /* by id; owned */
    double unk_score;     /* of a character without a token */
    int32_t unk;          /* or -1: then such a character is an error */
    int32_t byte_id[256]; /* id of "<0xHH>", or -1 */
    bool byte_fallback;
    bool single; /* sums in float, as SentencePiece; else in double, as Hugging Face's tokenizers */
} assay_unigram;

/* From the "model" object of tokenizer.json. */
assay_status assay_unigram_parse(assay_unigram *u, const json_t *model, const char *where, assay_err *err);
void assay_unigram_free(assay_unigram *u);

/* Working memory of one encode call; all-zero is empty. */
typedef struct assay_unigram_scratch {
    struct assay_unigram_node *nodes;
    size_t cap_nodes;
    assay_ids path;
} assay_unigram_scratch;
void assay_unigram_scratch_free(assay_unigram_scratch *w);

/* Appends the ids of s (valid UTF-8, n >= 1). EINPUT for a character without a token when there is no unknown
 * token. */
assay_status assay_unigram_encode(assay_ids *ids, const assay_unigram *u, assay_unigram_scratch *w,
                                  const char *s, size_t n, assay_err *err);

#endif
