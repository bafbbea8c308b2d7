/* spm_normalize.c: SentencePiece's normalizer (normalizer.cc): the character map, white space, the dummy
 * prefix.
 *
 * The longest rule of the map that fits is applied, again and again from left to right; user-defined symbols
 * are passed over. Spaces become U+2581. With `trim`, runs of spaces become one and the ends lose theirs,
 * judged on what the rules gave. */
#include <string.h>
#include "text/spm.h"
#include "text/unicode.h"

#define META "\xE2\x96\x81"

/* What the next *used bytes of s (n >= 1) become. */
static void next_chunk(const char **to, size_t *n_to, size_t *used, const assay_spm_rules *r,
                       const assay_trie *user, const char *s, size_t n) {
    *to = s;
    if (assay_trie_longest(used, user, s, n) >= 0) {
        *n_to = *used;
        return;
    }
    if (assay_charsmap_find(used, to, n_to, &r->map, s, n, false)) return;
    assay_utf8_next(used, s, n);
    *n_to = *used;
}

static bool ends_with(const assay_str *b, size_t from, const char *what, size_t n) {
    return b->len - from >= n && memcmp(b->s + b->len - n, what, n) == 0;
}

void assay_spm_normalize(assay_str *out, const assay_spm_rules *r, const assay_trie *user, const char *s,
                         size_t n, bool first) {
    const char *space = r->keep_spaces ? " " : META, *to;
    size_t n_to, used, i = 0, from = out->len, n_space = strlen(space);
    bool prefix = r->prefix && (first || !r->prefix_first), after_space = r->trim;
    while (r->trim && i < n) {
        next_chunk(&to, &n_to, &used, r, user, s + i, n - i);
        if (n_to != 1 || *to != ' ') break;
        i += used;
    }
    if (i == n) return;
    if (prefix && !r->suffix) assay_str_put(out, space);
    for (; i < n; i += used) {
        next_chunk(&to, &n_to, &used, r, user, s + i, n - i);
        while (after_space && n_to && *to == ' ')
            to++, n_to--;
        for (size_t k = 0; k < n_to; k++) {
            if (to[k] == ' ')
                assay_str_put(out, space);
            else
                assay_str_putc(out, to[k]);
        }
        if (n_to) after_space = to[n_to - 1] == ' ';
        if (!r->trim) after_space = false;
    }
    while (r->trim && !out->failed && ends_with(out, from, space, n_space))
        out->len -= n_space;
    if (prefix && r->suffix) assay_str_put(out, space);
}
