/* encode.c: text to ids.
 *
 *   bytes ─► valid UTF-8 ─► cut at raw added tokens ─► normalize each gap
 *         ─► cut at normalized added tokens ─► pre-tokenize ─► BPE or Unigram
 *
 * All working memory is local to the call, so one tokenizer serves many threads. A call keeps the ids of the
 * short pre-tokens it has seen (text repeats itself); the cache is direct-mapped and made for texts that are
 * long enough to earn it. */
#include <string.h>
#include "base/mem.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#define CACHE_SLOTS 8192
#define CACHE_KEY   24 /* longest pre-token kept, bytes */
#define CACHE_IDS   6
#define CACHE_MIN   4096 /* shortest text for which it is made, bytes */

typedef struct cache_slot {
    char key[CACHE_KEY];
    uint8_t n_key, n_ids; /* n_key 0: empty */
    int32_t ids[CACHE_IDS];
} cache_slot;

typedef struct encoder {
    const assay_tokenizer *t;
    bool parse_special;
    assay_piece_list pieces;
    assay_str norm;
    assay_ids ids;
    assay_bpe_scratch scratch;
    assay_unigram_scratch lattice;
    cache_slot *cache; /* NULL: none */
} encoder;

/* One gap between raw added tokens: normalized, cut at the other added tokens. */
static assay_status add_gap(encoder *e, const char *s, size_t n, bool first, assay_err *err) {
    const assay_tokenizer *t = e->t;
    assay_str_clear(&e->norm);
    if (t->is_spm)
        assay_spm_normalize(&e->norm, &t->spm, &t->user, s, n, first);
    else
        ASSAY_TRY(assay_steps_normalize(&e->norm, &t->normalizers, s, n, err));
    ASSAY_TRY(assay_str_status(&e->norm, err));
    const char *text = assay_str_c(&e->norm);
    size_t len = e->norm.len, base = e->pieces.text.len;
    assay_added_walk w = {0};
    assay_str_putn(&e->pieces.text, text, len);
    ASSAY_TRY(assay_str_status(&e->pieces.text, err));
    for (int32_t k; (k = assay_added_next(&w, &t->matched, t->added, text, len, e->parse_special)) >= 0;) {
        if (w.floor < w.begin)
            ASSAY_TRY(assay_pieces_put(&e->pieces, base + w.floor, base + w.begin, -1, first && w.floor == 0, err));
        if (w.begin < w.end)
            ASSAY_TRY(assay_pieces_put(&e->pieces, base + w.begin, base + w.end, t->added[k].id, first && w.begin == 0, err));
    }
    return assay_pieces_put(&e->pieces, base + w.floor, base + len, -1, first && w.floor == 0, err);
}

static assay_status cut(encoder *e, const char *s, size_t n, assay_err *err) {
    const assay_tokenizer *t = e->t;
    assay_added_walk w = {0};
    for (int32_t k; (k = assay_added_next(&w, &t->raw, t->added, s, n, e->parse_special)) >= 0;) {
        if (w.floor < w.begin) ASSAY_TRY(add_gap(e, s + w.floor, w.begin - w.floor, w.floor == 0, err));
        if (w.begin < w.end) ASSAY_TRY(assay_pieces_put(&e->pieces, 0, 0, t->added[k].id, w.begin == 0, err));
    }
    return w.floor < n ? add_gap(e, s + w.floor, n - w.floor, w.floor == 0, err) : ASSAY_OK;
}

static cache_slot *cache_find(encoder *e, const char *s, size_t n, bool *hit) {
    uint64_t h = n * 0x9E3779B97F4A7C15u;
    uint64_t w;
    for (size_t i = 0; i < n; i += 8) {
        w = 0;
        memcpy(&w, s + i, ASSAY_MIN(n - i, sizeof w));
        h = (h ^ w) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    cache_slot *c = &e->cache[h & (CACHE_SLOTS - 1)];
    *hit = c->n_key == n && memcmp(c->key, s, n) == 0;
    return c;
}

static assay_status encode_fresh(encoder *e, const char *s, size_t n, assay_err *err) {
    return e->t->kind == ASSAY_MODEL_UNIGRAM
               ? assay_unigram_encode(&e->ids, &e->t->unigram, &e->lattice, s, n, err)
               : assay_bpe_encode(&e->ids, &e->t->bpe, &e->scratch, s, n, err);
}

static assay_status encode_piece(encoder *e, const char *s, size_t n, assay_err *err) {
    if (!e->cache || n > CACHE_KEY) return encode_fresh(e, s, n, err);
    bool hit;
    cache_slot *c = cache_find(e, s, n, &hit);
    if (hit) {
        for (size_t i = 0; i < c->n_ids; i++)
            ASSAY_TRY(assay_ids_put(&e->ids, c->ids[i], err));
        return ASSAY_OK;
    }
    size_t before = e->ids.n;
    ASSAY_TRY(encode_fresh(e, s, n, err));
    size_t made = e->ids.n - before;
    if (made > CACHE_IDS) return ASSAY_OK;
    memcpy(c->key, s, n);
    c->n_key = (uint8_t)n;
    c->n_ids = (uint8_t)made;
    if (made) memcpy(c->ids, e->ids.v + before, made * sizeof *c->ids);
    return ASSAY_OK;
}

/* A piece that is a whole text, because nothing splits it beforehand: word by word where that is the same. */
static assay_status encode_whole(encoder *e, const char *s, size_t n, assay_err *err) {
    size_t begin = 0;
    int32_t left = -1;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t right = assay_utf8_next(&len, s + i, n - i);
        if (assay_bpe_breaks(&e->t->bpe, left, right)) {
            ASSAY_TRY(encode_piece(e, s + begin, i - begin, err));
            begin = i;
        }
        left = right;
    }
    return encode_piece(e, s + begin, n - begin, err);
}

static assay_status encode_text(encoder *e, const char *s, size_t n, bool add_special, assay_err *err) {
    const assay_tokenizer *t = e->t;
    ASSAY_TRY(cut(e, s, n, err));
    ASSAY_TRY(assay_steps_split(&e->pieces, &t->pre_tokenizers, err));
    if (n >= CACHE_MIN) {
        e->cache = assay_calloc(CACHE_SLOTS, sizeof *e->cache);
        if (!e->cache) return assay_nomem(err);
    }
    for (size_t i = 0; add_special && i < t->before.n; i++)
        ASSAY_TRY(assay_ids_put(&e->ids, t->before.v[i], err));
    for (size_t i = 0; i < e->pieces.n; i++) {
        const assay_piece *p = &e->pieces.v[i];
        const char *text = p->id < 0 ? e->pieces.text.s + p->begin : NULL;
        if (p->id >= 0)
            ASSAY_TRY(assay_ids_put(&e->ids, p->id, err));
        else if (t->bpe.joins)
            ASSAY_TRY(encode_whole(e, text, p->end - p->begin, err));
        else
            ASSAY_TRY(encode_piece(e, text, p->end - p->begin, err));
    }
    for (size_t i = 0; add_special && i < t->after.n; i++)
        ASSAY_TRY(assay_ids_put(&e->ids, t->after.v[i], err));
    return ASSAY_OK;
}

assay_status assay_tokenizer_encode(int32_t **ids, size_t *n_ids, const assay_tokenizer *t, const char *text,
                                    size_t n, bool add_special, bool parse_special, assay_err *err) {
    encoder e = {.t = t, .parse_special = parse_special};
    assay_str fixed = {0};
    assay_status s = ASSAY_OK;
    size_t bad;
    bool cut_off;
    if (n && assay_utf8_valid(&bad, &cut_off, text, n) != n) {
        assay_utf8_put_lossy(&fixed, text, n);
        ASSAY_GO(assay_str_status(&fixed, err));
        text = fixed.s;
        n = fixed.len;
    }
    ASSAY_GO(encode_text(&e, n ? text : "", n, add_special, err));
    if (!e.ids.v) { /* callers free a pointer, not a maybe */
        e.ids.v = assay_malloc(sizeof *e.ids.v);
        if (!e.ids.v) {
            s = assay_nomem(err);
            goto out;
        }
    }
    *ids = e.ids.v;
    *n_ids = e.ids.n;
    e.ids.v = NULL;
out:
    assay_free(e.ids.v);
    assay_free(e.cache);
    assay_str_free(&e.norm);
    assay_str_free(&fixed);
    assay_pieces_free(&e.pieces);
    assay_bpe_scratch_free(&e.scratch);
    assay_unigram_scratch_free(&e.lattice);
    return s;
}
