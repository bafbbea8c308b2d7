/* charsmap.c: SentencePiece's precompiled character map (normalizer_spec.precompiled_charsmap).
 *
 *   u32 size of the trie | trie: size / 4 units of u32 | texts: NUL-terminated replacements
 *
 * The trie is a double array in the layout of darts-clone. A unit is
 *
 *   bit 31: it holds a value (the offset of a replacement in the texts) in bits 0..30
 *   else    bits 0..7 label, bit 8 has a leaf, bit 9 the offset is in units of 256, bits 10.. offset
 *
 * and the child of unit i by byte c is i ^ offset(i) ^ c, which is right if its label is c; its leaf is at
 * child ^ offset(child). Every index comes from the file and is checked before use; a rule that would break
 * UTF-8 counts as none. */
#include "text/charsmap.h"

#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/base64.h"

#define MAX_TEXT 256 /* bytes of a replacement; the longest of NFKC has 33 */

static uint32_t read_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Takes the blob over, also when it fails. */
static assay_status adopt(assay_charsmap *out, uint8_t *blob, size_t n, const char *where, assay_err *err) {
    *out = (assay_charsmap){.blob = blob, .n_blob = n};
    size_t trie = n > 4 ? read_u32(blob) : 0;
    if (n <= 4 || trie % 4 || trie < 4 || trie > n - 4)
        return assay_fail(err, ASSAY_EINPUT, "%s: precompiled_charsmap: a trie of %zu bytes in %zu bytes",
                          where, trie, n);
    out->units = blob + 4;
    out->n_units = trie / 4;
    out->texts = (const char *)blob + 4 + trie;
    out->n_texts = n - 4 - trie;
    return ASSAY_OK;
}

assay_status assay_charsmap_new(assay_charsmap *out, const void *data, size_t n, const char *where,
                                assay_err *err) {
    *out = (assay_charsmap){0};
    if (n == 0) return ASSAY_OK;
    uint8_t *blob = assay_malloc(n);
    if (!blob) return assay_nomem(err);
    memcpy(blob, data, n);
    return adopt(out, blob, n, where, err);
}

assay_status assay_charsmap_decode(assay_charsmap *out, const char *base64, size_t n, const char *where,
                                   assay_err *err) {
    *out = (assay_charsmap){0};
    size_t len;
    if (n == 0) return ASSAY_OK;
    uint8_t *blob = assay_malloc(ASSAY_BASE64_ROOM(n));
    if (!blob) return assay_nomem(err);
    if (!assay_base64_decode(blob, &len, base64, n)) {
        assay_free(blob);
        return assay_fail(err, ASSAY_EINPUT, "%s: precompiled_charsmap is not base64 at character %zu", where,
                          len);
    }
    return adopt(out, blob, len, where, err);
}

void assay_charsmap_free(assay_charsmap *m) {
    assay_free(m->blob);
    memset(m, 0, sizeof *m);
}

static size_t unit_offset(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
}

bool assay_charsmap_find(size_t *len, const char **to, size_t *n_to, const assay_charsmap *m, const char *s,
                         size_t n, bool shortest) {
    if (!m->blob) return false;
    uint32_t unit = read_u32(m->units);
    size_t at = unit_offset(unit), value = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        at ^= c;
        if (c == 0 || at >= m->n_units) break;
        unit = read_u32(m->units + at * 4);
        if ((unit & 0x800000FFu) != c) break;
        at ^= unit_offset(unit);
        if (!(unit & 0x100)) continue;
        if (at >= m->n_units) break;
        value = read_u32(m->units + at * 4) & 0x7FFFFFFF;
        *len = i + 1;
        if (shortest) break;
    }
    if (value >= m->n_texts || (*len < n && ((unsigned char)s[*len] & 0xC0) == 0x80)) return false;
    *to = m->texts + value;
    size_t most = ASSAY_MIN(m->n_texts - value, MAX_TEXT), bad;
    bool cut;
    const char *end = memchr(*to, 0, most);
    *n_to = end ? (size_t)(end - *to) : most;
    return assay_utf8_valid(&bad, &cut, *to, *n_to) == *n_to;
}
