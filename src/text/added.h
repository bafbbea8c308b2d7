/* text/added.h: the added tokens of tokenizer.json, and finding them in a text. */
#ifndef ASSAY_TEXT_ADDED_H
#define ASSAY_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

typedef struct assay_added_token {
    char *content; /* owned */
    size_t n;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} assay_added_token;

/* A byte trie over the contents: a node's children are a sibling list. Node 0 is the root. */
typedef struct assay_trie {
    struct assay_trie_node {
        uint32_t child, sibling; /* 0: none */
        int32_t token;           /* index of the added token that ends here, or -1 */
        unsigned char byte;
    } * nodes;
    size_t n, cap;
    uint32_t first[256]; /* the root's children by byte */
} assay_trie;

assay_status assay_trie_put(assay_trie *t, const char *s, size_t n, int32_t token, assay_err *err);
void assay_trie_free(assay_trie *t);
uint32_t assay_trie_child(const assay_trie *t, uint32_t node, unsigned char byte); /* 0: none */
/* The longest string of the trie that s begins with: its token and *len, or -1. */
int32_t assay_trie_longest(size_t *len, const assay_trie *t, const char *s, size_t n);

/* A walk through a text from one added token to the next; all-zero is its beginning. */
typedef struct assay_added_walk {
    size_t floor;      /* behind the previous token and the white space it took: text from here to `begin` is no token's */
    size_t begin, end; /* the token, with the white space that lstrip and rstrip take; nothing when begin >= end */
    size_t at;         /* where the search goes on */
    size_t space_begin, space_end; /* the white space that was looked through last */
} assay_added_walk;

/* The next added token of s: its index in tokens, or -1; then the text from walk->floor on is no token's. Specials are passed over unless
 * parse_special. */
int32_t assay_added_next(assay_added_walk *walk, const assay_trie *t, const assay_added_token *tokens, const char *s, size_t n,
                         bool parse_special);

#endif
