/* added.c: leftmost-longest search for added tokens, with the original's rules on what surrounds a match:
 *   single_word  a match that touches a word character is dropped (and the search goes on behind it)
 *   lstrip       white space before the match belongs to it, but not what an earlier match took
 *   rstrip       white space after the match belongs to it
 * The search goes on behind the match itself, so that white space which rstrip took may hold further tokens: one with lstrip then has
 * nothing left and vanishes, one without stands again, and the text goes on behind it. */
#include "text/added.h"

#include <string.h>
#include "text/unicode.h"

static assay_status new_node(uint32_t *out, assay_trie *t, unsigned char byte, assay_err *err) {
    if (t->n == t->cap) ASSAY_TRY(assay_grow(&t->nodes, &t->cap, t->n + 1, sizeof *t->nodes, err));
    t->nodes[t->n] = (struct assay_trie_node){.token = -1, .byte = byte};
    *out = (uint32_t)t->n++;
    return ASSAY_OK;
}

uint32_t assay_trie_child(const assay_trie *t, uint32_t node, unsigned char byte) {
    if (node == 0) return t->first[byte];
    uint32_t c = t->nodes[node].child;
    while (c && t->nodes[c].byte != byte)
        c = t->nodes[c].sibling;
    return c;
}

assay_status assay_trie_put(assay_trie *t, const char *s, size_t n, int32_t token, assay_err *err) {
    uint32_t node = 0, c;
    if (t->n == 0) ASSAY_TRY(new_node(&c, t, 0, err));
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)s[i];
        c = assay_trie_child(t, node, byte);
        if (!c) {
            ASSAY_TRY(new_node(&c, t, byte, err));
            if (node == 0) {
                t->first[byte] = c;
            } else {
                t->nodes[c].sibling = t->nodes[node].child;
                t->nodes[node].child = c;
            }
        }
        node = c;
    }
    if (node) t->nodes[node].token = token;
    return ASSAY_OK;
}

void assay_trie_free(assay_trie *t) {
    assay_free(t->nodes);
    memset(t, 0, sizeof *t);
}

int32_t assay_trie_longest(size_t *len, const assay_trie *t, const char *s, size_t n) {
    int32_t found = -1;
    if (t->n == 0) return -1;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = assay_trie_child(t, node, (unsigned char)s[i]);
        if (!node) break;
        if (t->nodes[node].token >= 0) {
            found = t->nodes[node].token;
            *len = i + 1;
        }
    }
    return found;
}

static bool touches_word(const char *s, size_t n, size_t begin, size_t end) {
    size_t len;
    if (begin > 0 && assay_char_is_word(assay_utf8_prev(&len, s, begin))) return true;
    return end < n && assay_char_is_word(assay_utf8_next(&len, s + end, n - end));
}

/* White space that runs up to b, down to `least`. */
static size_t space_before(const char *s, size_t b, size_t least) {
    size_t step;
    while (b > least && assay_char_is_space(assay_utf8_prev(&step, s, b))) b -= step;
    return ASSAY_MAX(b, least);
}

/* White space from e on. A run is looked through once, however many tokens begin in it. */
static size_t space_after(assay_added_walk *walk, const char *s, size_t n, size_t e) {
    size_t step;
    if (e > walk->space_begin && e < walk->space_end) return walk->space_end;
    walk->space_begin = e;
    while (e < n && assay_char_is_space(assay_utf8_next(&step, s + e, n - e))) e += step;
    return walk->space_end = e;
}

int32_t assay_added_next(assay_added_walk *walk, const assay_trie *t, const assay_added_token *tokens, const char *s, size_t n,
                         bool parse_special) {
    walk->floor = walk->end;
    while (t->n && walk->at < n) {
        size_t len = 0, b = walk->at;
        int32_t k = t->first[(unsigned char)s[b]] ? assay_trie_longest(&len, t, s + b, n - b) : -1;
        if (k < 0) {
            walk->at++;
            continue;
        }
        const assay_added_token *a = &tokens[k];
        walk->at = b + len;
        if (a->special && !parse_special) continue;
        if (a->single_word && touches_word(s, n, b, b + len)) continue;
        walk->begin = a->lstrip ? space_before(s, b, walk->floor) : b;
        walk->end = a->rstrip ? space_after(walk, s, n, b + len) : b + len;
        return k;
    }
    return -1;
}
