/* text/charsmap.h: SentencePiece's precompiled character map: a trie of byte strings and what each becomes.
 */
#ifndef ASSAY_TEXT_CHARSMAP_H
#define ASSAY_TEXT_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct assay_charsmap {
    uint8_t *blob; /* owned; NULL: no map, nothing is replaced */
    size_t n_blob;
    const uint8_t *units; /* of the trie, 4 bytes each, little-endian; in the blob */
    size_t n_units;
    const char *texts; /* replacements, each ended by a NUL; in the blob */
    size_t n_texts;
} assay_charsmap;

/* From the bytes of a precompiled_charsmap, which are copied; no bytes give no map. EINPUT for a broken one.
 */
assay_status assay_charsmap_new(assay_charsmap *out, const void *data, size_t n, const char *where,
                                assay_err *err);
/* From base64, as tokenizer.json holds it. */
assay_status assay_charsmap_decode(assay_charsmap *out, const char *base64, size_t n, const char *where,
                                   assay_err *err);
void assay_charsmap_free(assay_charsmap *m);

/* The rule for the longest (or the shortest) prefix of s that has one: true, its length in *len, the
 * replacement in *to, *n_to (borrowed). */
bool assay_charsmap_find(size_t *len, const char **to, size_t *n_to, const assay_charsmap *m, const char *s,
                         size_t n, bool shortest);

#endif
