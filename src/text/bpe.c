/* bpe.c: byte pair encoding (Sennrich et al. 2016) as Hugging Face's tokenizers runs it.
 *
 * A pre-token becomes one symbol per character (or per byte "<0xHH>" when byte_fallback is on and the
 * character unknown), a doubly linked list in an array. A heap holds the mergeable neighbours by (rank,
 * position); the least is merged until none is left: O(n log n) on a word of any length. An entry is stale,
 * and skipped, when the pair at its position has another rank by now.
 *
 * SentencePiece (bpe_model.cc) merges by the score of what comes out, whichever two neighbours it is made of.
 * From the pieces all such pairs are found beforehand, ranked by score with equal scores sharing a rank, and
 * the same heap gives its order: the best score, then the leftmost.
 *
 * Dropout is refused: it belongs to training. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "text/unicode.h"

typedef struct assay_symbol {
    int32_t id;         /* MERGED: into its left neighbour; UNKNOWN: a character that no token has */
    int32_t prev, next; /* -1 at the ends */
    uint32_t rank;      /* of the merge with next; NO_RANK */
    int32_t merged;     /* what that merge gives */
} assay_symbol;
#define NO_RANK UINT32_MAX
#define MERGED  (-1)
#define UNKNOWN (-2)

/* ---- reading ---- */

static assay_status parse_vocab(assay_bpe *b, const json_t *vocab, const char *where, assay_err *err) {
    if (!json_is_object(vocab))
        return assay_fail(err, ASSAY_EINPUT, "%s: model.vocab must be an object", where);
    ASSAY_TRY(assay_vocab_reserve(&b->vocab, json_object_size(vocab), err));
    json_t *o = (json_t *)(uintptr_t)vocab; /* jansson's iteration is not const */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *value = json_object_iter_value(it);
        if (!json_is_integer(value))
            return assay_fail(err, ASSAY_EINPUT, "%s: model.vocab['%.60s'] must be an integer", where, key);
        assay_status s =
            assay_vocab_add(&b->vocab, key, json_object_iter_key_len(it), json_integer_value(value), err);
        if (s != ASSAY_OK) return assay_err_prefix(err, "%s", where);
    }
    return ASSAY_OK;
}

/* What encoding looks up for every character. */
static assay_status index_characters(assay_bpe *b, assay_err *err) {
    assay_str c = {0};
    for (int32_t cp = 0; cp < ASSAY_BPE_DIRECT && !c.failed; cp++) {
        assay_str_clear(&c);
        assay_utf8_put(&c, cp);
        b->direct[cp] = assay_vocab_find(&b->vocab, assay_str_c(&c), c.len);
    }
    assay_status s = assay_str_status(&c, err);
    assay_str_free(&c);
    return s == ASSAY_OK ? assay_vocab_find_bytes(b->byte_id, &b->vocab, err) : s;
}

/* The two halves of a merge: ["a", "b"], or "a b" in older files. */
static assay_status merge_halves(const char *half[2], size_t n[2], const json_t *m, size_t i,
                                 const char *where, assay_err *err) {
    if (json_is_array(m) && json_array_size(m) == 2 && json_is_string(json_array_get(m, 0)) &&
        json_is_string(json_array_get(m, 1))) {
        for (size_t k = 0; k < 2; k++) {
            half[k] = json_string_value(json_array_get(m, k));
            n[k] = json_string_length(json_array_get(m, k));
        }
        return ASSAY_OK;
    }
    if (json_is_string(m)) {
        const char *t = json_string_value(m);
        size_t len = json_string_length(m);
        const char *gap = memchr(t, ' ', len);
        if (gap && !memchr(gap + 1, ' ', len - (size_t)(gap + 1 - t))) {
            half[0] = t;
            n[0] = (size_t)(gap - t);
            half[1] = gap + 1;
            n[1] = len - n[0] - 1;
            return ASSAY_OK;
        }
    }
    return assay_fail(err, ASSAY_EINPUT, "%s: model.merges[%zu] must be a pair of tokens", where, i);
}

/* One merge; `both` is scratch. */
static assay_status add_merge(assay_bpe *b, assay_str *both, const char *const half[2], const size_t n[2],
                              uint32_t rank, size_t i, const char *where, assay_err *err) {
    size_t skip = b->prefix ? strlen(b->prefix) : 0;
    int32_t left = assay_vocab_find(&b->vocab, half[0], n[0]),
            right = assay_vocab_find(&b->vocab, half[1], n[1]);
    assay_str_clear(both);
    assay_str_putn(both, half[0], n[0]);
    if (n[1] >= skip) assay_str_putn(both, half[1] + skip, n[1] - skip);
    ASSAY_TRY(assay_str_status(both, err));
    int32_t id = assay_vocab_find(&b->vocab, assay_str_c(both), both->len);
    if (left < 0 || right < 0 || id < 0 || n[1] < skip)
        return assay_fail(err, ASSAY_EINPUT, "%s: model.merges[%zu] ('%.*s' '%.*s') is not in the vocabulary",
                          where, i, (int)ASSAY_MIN(n[0], 40), half[0], (int)ASSAY_MIN(n[1], 40), half[1]);
    assay_merges_put(&b->merges, left, right, rank, id);
    return ASSAY_OK;
}

static assay_status parse_merges(assay_bpe *b, const json_t *merges, const char *where, assay_err *err) {
    if (!json_is_array(merges))
        return assay_fail(err, ASSAY_EINPUT, "%s: model.merges must be an array", where);
    assay_status s = ASSAY_OK;
    assay_str both = {0};
    ASSAY_GO(assay_merges_reserve(&b->merges, json_array_size(merges), err));
    uint32_t rank = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *m = json_array_get(merges, i);
        if (json_is_string(m) && strncmp(json_string_value(m), "#version", 8) == 0) continue;
        const char *half[2];
        size_t n[2];
        ASSAY_GO(merge_halves(half, n, m, i, where, err));
        ASSAY_GO(add_merge(b, &both, half, n, rank++, i, where, err));
    }
out:
    assay_str_free(&both);
    return s;
}

assay_status assay_bpe_from_merges(assay_bpe *b, const assay_token_text *merges, size_t n_merges,
                                   const char *where, assay_err *err) {
    assay_status s;
    assay_str both = {0};
    b->n_known = INT32_MAX;
    b->unk = -1;
    ASSAY_GO(assay_merges_reserve(&b->merges, n_merges, err));
    for (size_t i = 0; i < n_merges; i++) {
        const assay_token_text *m = &merges[i];
        const char *gap = m->n > 2 ? memchr(m->s + 1, ' ', m->n - 2) : NULL;
        if (!gap) {
            s = assay_fail(err, ASSAY_EINPUT, "%s: model.merges[%zu] must be a pair of tokens", where, i);
            goto out;
        }
        const char *half[2] = {m->s, gap + 1};
        size_t n[2] = {(size_t)(gap - m->s), m->n - (size_t)(gap - m->s) - 1};
        ASSAY_GO(add_merge(b, &both, half, n, (uint32_t)i, i, where, err));
    }
    s = index_characters(b, err);
out:
    assay_str_free(&both);
    return s;
}

static assay_status parse_options(assay_bpe *b, const json_t *model, const char *where, assay_err *err) {
    const char *type = "BPE", *prefix = NULL, *suffix = NULL;
    double dropout = 0;
    ASSAY_TRY(assay_json_get_str(&type, model, "type", where, err));
    if (strcmp(type, "BPE") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: model.type '%.40s' is not supported, only BPE and Unigram are", where, type);
    ASSAY_TRY(assay_json_get_double(&dropout, model, "dropout", where, err));
    if (dropout != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: model.dropout is not supported, set it to null",
                          where);
    ASSAY_TRY(assay_json_get_bool(&b->byte_fallback, model, "byte_fallback", where, err));
    ASSAY_TRY(assay_json_get_bool(&b->fuse_unk, model, "fuse_unk", where, err));
    ASSAY_TRY(assay_json_get_bool(&b->ignore_merges, model, "ignore_merges", where, err));
    ASSAY_TRY(assay_json_get_str(&prefix, model, "continuing_subword_prefix", where, err));
    ASSAY_TRY(assay_json_get_str(&suffix, model, "end_of_word_suffix", where, err));
    if (prefix && *prefix && !(b->prefix = assay_strdup(prefix))) return assay_nomem(err);
    if (suffix && *suffix && !(b->suffix = assay_strdup(suffix))) return assay_nomem(err);
    return ASSAY_OK;
}

static assay_status find_unknown(assay_bpe *b, const json_t *model, const char *where, assay_err *err) {
    const char *unk = NULL;
    ASSAY_TRY(assay_json_get_str(&unk, model, "unk_token", where, err));
    b->unk = unk ? assay_vocab_find(&b->vocab, unk, strlen(unk)) : -1;
    if (unk && b->unk < 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: model.unk_token '%.60s' is not in the vocabulary", where,
                          unk);
    return ASSAY_OK;
}

assay_status assay_bpe_parse(assay_bpe *b, const json_t *model, const char *where, assay_err *err) {
    if (!json_is_object(model)) return assay_fail(err, ASSAY_EINPUT, "%s: 'model' must be an object", where);
    ASSAY_TRY(parse_options(b, model, where, err));
    ASSAY_TRY(parse_vocab(b, json_object_get(model, "vocab"), where, err));
    ASSAY_TRY(parse_merges(b, json_object_get(model, "merges"), where, err));
    ASSAY_TRY(index_characters(b, err));
    b->n_known = INT32_MAX;
    return find_unknown(b, model, where, err);
}

/* ---- SentencePiece's pieces ---- */

#define MAX_PIECE 512 /* bytes of a piece that merges; a longer one would take too long to take apart */

static assay_status add_characters(assay_bpe *b, assay_err *err) {
    size_t n = b->vocab.n_keys;
    int64_t next = b->n_known;
    for (size_t k = 0; k < n; k++) {
        const struct assay_vocab_key key = b->vocab.keys[k]; /* a copy: adding moves the keys */
        for (size_t i = 0, len; i < key.n; i += len) {
            assay_utf8_next(&len, key.s + i, key.n - i);
            if (assay_vocab_find(&b->vocab, key.s + i, len) < 0)
                ASSAY_TRY(assay_vocab_add(&b->vocab, key.s + i, len, next++, err));
        }
    }
    return ASSAY_OK;
}

static int by_score(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;
}

/* The number of different scores above this one. */
static uint32_t rank_of(const float *sorted, size_t n, float score) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (sorted[mid] > score)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (uint32_t)lo;
}

typedef struct found_merges {
    struct found_merge {
        int32_t left, right, id;
    } * v;
    size_t n, cap;
} found_merges;

/* All ways to make this token of two. */
static assay_status find_halves(found_merges *f, const assay_bpe *b, const struct assay_vocab_key *key,
                                assay_err *err) {
    for (size_t i = 0, len; i < key->n; i += len) {
        int32_t left = i ? assay_vocab_find(&b->vocab, key->s, i) : -1;
        int32_t right = left >= 0 ? assay_vocab_find(&b->vocab, key->s + i, key->n - i) : -1;
        assay_utf8_next(&len, key->s + i, key->n - i);
        if (right < 0) continue;
        if (f->n == f->cap) ASSAY_TRY(assay_grow(&f->v, &f->cap, f->n + 1, sizeof *f->v, err));
        f->v[f->n++] = (struct found_merge){left, right, key->id};
    }
    return ASSAY_OK;
}

assay_status assay_bpe_from_pieces(assay_bpe *b, const float *scores, assay_err *err) {
    size_t n_keys = b->vocab.n_keys;
    found_merges found = {0};
    float *sorted = assay_calloc(n_keys ? n_keys : 1, sizeof *sorted);
    assay_status s = ASSAY_OK;
    if (!sorted) return assay_nomem(err);
    b->pieces = true;
    for (size_t k = 0; k < n_keys; k++)
        sorted[k] = scores[b->vocab.keys[k].id];
    qsort(sorted, n_keys, sizeof *sorted, by_score);
    ASSAY_GO(add_characters(b, err));
    for (size_t k = 0; k < n_keys; k++)
        if (b->vocab.keys[k].n <= MAX_PIECE) ASSAY_GO(find_halves(&found, b, &b->vocab.keys[k], err));
    ASSAY_GO(assay_merges_reserve(&b->merges, found.n, err));
    for (size_t k = 0; k < found.n; k++)
        assay_merges_put(&b->merges, found.v[k].left, found.v[k].right,
                         rank_of(sorted, n_keys, scores[found.v[k].id]), found.v[k].id);
    s = index_characters(b, err);
out:
    assay_free(sorted);
    assay_free(found.v);
    return s;
}

assay_status assay_bpe_from_ranks(assay_bpe *b, assay_err *err) {
    found_merges found = {0};
    assay_status s = ASSAY_OK;
    b->n_known = INT32_MAX;
    b->unk = -1;
    for (size_t k = 0; k < b->vocab.n_keys; k++)
        ASSAY_GO(find_halves(&found, b, &b->vocab.keys[k], err));
    ASSAY_GO(assay_merges_reserve(&b->merges, found.n, err));
    for (size_t k = 0; k < found.n; k++)
        assay_merges_put(&b->merges, found.v[k].left, found.v[k].right, (uint32_t)found.v[k].id, found.v[k].id);
    s = index_characters(b, err);
out:
    assay_free(found.v);
    return s;
}

/* ---- where a text may be cut ---- */

#define JOIN_BITS (1u << 20)

static uint32_t join_hash(int32_t left, int32_t right) {
    return ((uint32_t)left * 0x9E3779B1u ^ (uint32_t)right * 0x85EBCA6Bu) >> 12;
}

/* A merge across two characters makes a token in which they are neighbours. What affixes, whole-word lookup,
 * unused tokens and unknown characters do depends on more than two neighbours; then nothing is cut. */
assay_status assay_bpe_index_joins(assay_bpe *b, assay_err *err) {
    if (b->prefix || b->suffix || b->ignore_merges || b->unused) return ASSAY_OK;
    b->joins = assay_calloc(JOIN_BITS / 64, sizeof *b->joins);
    if (!b->joins) return assay_nomem(err);
    for (size_t k = 0; k < b->vocab.n_keys; k++)
        assay_bpe_join(b, b->vocab.keys[k].s, b->vocab.keys[k].n);
    return ASSAY_OK;
}

void assay_bpe_join(assay_bpe *b, const char *s, size_t n) {
    int32_t left = -1;
    for (size_t i = 0, len; b->joins && i < n; i += len) {
        int32_t right = assay_utf8_next(&len, s + i, n - i);
        uint32_t h = join_hash(left, right);
        if (left >= 0) b->joins[h / 64] |= (uint64_t)1 << h % 64;
        left = right;
    }
}

static bool is_known(const assay_bpe *b, int32_t cp) {
    return cp < ASSAY_BPE_DIRECT && b->direct[cp] >= 0 && b->direct[cp] < b->n_known;
}

bool assay_bpe_breaks(const assay_bpe *b, int32_t left, int32_t right) {
    if (left < 0 || !is_known(b, left) || !is_known(b, right)) return false;
    uint32_t h = join_hash(left, right);
    return !(b->joins[h / 64] >> h % 64 & 1);
}

void assay_bpe_free(assay_bpe *b) {
    assay_free(b->joins);
    assay_free(b->unused);
    assay_vocab_free(&b->vocab);
    assay_merges_free(&b->merges);
    assay_free(b->prefix);
    assay_free(b->suffix);
}

/* ---- encoding ---- */

void assay_bpe_scratch_free(assay_bpe_scratch *w) {
    assay_free(w->symbols);
    assay_free(w->heap);
    assay_free(w->halves);
    memset(w, 0, sizeof *w);
}

static void heap_push(assay_bpe_scratch *w, uint64_t e) {
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > e; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static uint64_t heap_pop(assay_bpe_scratch *w) {
    uint64_t top = w->heap[0], e = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= e) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = e;
    return top;
}

/* Looks up the merge of the symbol at i with its right neighbour and queues it. */
static void consider(const assay_bpe *b, assay_bpe_scratch *w, int32_t i) {
    assay_symbol *s = &w->symbols[i];
    const assay_merge *m = s->next < 0 ? NULL : assay_merges_find(&b->merges, s->id, w->symbols[s->next].id);
    s->rank = m ? m->rank : NO_RANK;
    if (!m) return;
    s->merged = m->id;
    if (w->halves && b->unused[m->id]) {
        w->halves[m->id][0] = s->id;
        w->halves[m->id][1] = w->symbols[s->next].id + 1; /* 0: never merged */
    }
    heap_push(w, (uint64_t)m->rank << 32 | (uint32_t)i);
}

static void merge_all(const assay_bpe *b, assay_bpe_scratch *w, size_t n) {
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++)
        consider(b, w, (int32_t)i);
    while (w->n_heap) {
        uint64_t e = heap_pop(w);
        int32_t i = (int32_t)(uint32_t)e;
        assay_symbol *s = &w->symbols[i];
        if (s->id == MERGED || s->rank != (uint32_t)(e >> 32)) continue;
        assay_symbol *right = &w->symbols[s->next];
        s->id = s->merged;
        s->next = right->next;
        right->id = MERGED;
        if (s->next >= 0) w->symbols[s->next].prev = i;
        consider(b, w, i);
        if (s->prev >= 0) consider(b, w, s->prev);
    }
}

static void symbol_put(assay_bpe_scratch *w, size_t *n, int32_t id) {
    w->symbols[*n] =
        (assay_symbol){.id = id, .prev = (int32_t)*n - 1, .next = (int32_t)*n + 1, .rank = NO_RANK};
    ++*n;
}

/* The token of one character with its prefix or suffix, -1 when there is none. *dressed is what was looked
 * up, when that is not the bare character. */
static int32_t character_id(const assay_bpe *b, assay_str *dressed, int32_t cp, const char *s, size_t len,
                            bool first, bool last) {
    bool prefix = b->prefix && !first, suffix = b->suffix && last;
    if (!prefix && !suffix)
        return cp < ASSAY_BPE_DIRECT ? b->direct[cp] : assay_vocab_find(&b->vocab, s, len);
    assay_str_clear(dressed);
    if (prefix) assay_str_put(dressed, b->prefix);
    assay_str_putn(dressed, s, len);
    if (suffix) assay_str_put(dressed, b->suffix);
    return assay_vocab_find(&b->vocab, assay_str_c(dressed), dressed->len);
}

static bool all_bytes_known(const assay_bpe *b, const char *s, size_t n) {
    for (size_t k = 0; k < n; k++)
        if (b->byte_id[(unsigned char)s[k]] < 0) return false;
    return true;
}

/* Characters to symbols; the order in which a pending unknown token is written is the original's. */
static assay_status to_symbols(size_t *n_out, const assay_bpe *b, assay_bpe_scratch *w, const char *s,
                               size_t n, assay_err *err) {
    size_t count = 0;
    bool pending = false;
    assay_str dressed = {0};
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        int32_t id = character_id(b, &dressed, cp, s + i, len, i == 0, i + len == n);
        if (dressed.failed) break;
        if (id >= 0) {
            if (pending) symbol_put(w, &count, b->unk);
            pending = false;
            symbol_put(w, &count, id);
            continue;
        }
        bool is_dressed = (b->prefix && i > 0) || (b->suffix && i + len == n);
        const char *t = is_dressed ? assay_str_c(&dressed) : s + i;
        size_t n_t = is_dressed ? dressed.len : len;
        if (b->byte_fallback && all_bytes_known(b, t, n_t)) {
            for (size_t k = 0; k < n_t; k++)
                symbol_put(w, &count, b->byte_id[(unsigned char)t[k]]);
            continue;
        }
        if (b->unk < 0) continue; /* without an unknown token such a character vanishes */
        if (pending && !b->fuse_unk) symbol_put(w, &count, b->unk);
        pending = true;
    }
    if (pending) symbol_put(w, &count, b->unk);
    if (count) w->symbols[count - 1].next = -1;
    *n_out = count;
    assay_status st = assay_str_status(&dressed, err);
    assay_str_free(&dressed);
    return st;
}

/* The same for SentencePiece's pieces. */
static void pieces_to_symbols(size_t *n_out, const assay_bpe *b, assay_bpe_scratch *w, const char *s,
                              size_t n) {
    size_t count = 0;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        size_t longer;
        int32_t id = b->user ? assay_trie_longest(&longer, b->user, s + i, n - i) : -1;
        if (id >= 0)
            len = longer;
        else
            id = cp < ASSAY_BPE_DIRECT ? b->direct[cp] : assay_vocab_find(&b->vocab, s + i, len);
        if (id >= 0) {
            symbol_put(w, &count, id);
        } else if (b->byte_fallback && all_bytes_known(b, s + i, len)) {
            for (size_t k = 0; k < len; k++)
                symbol_put(w, &count, b->byte_id[(unsigned char)s[i + k]]);
        } else {
            symbol_put(w, &count, UNKNOWN);
        }
    }
    if (count) w->symbols[count - 1].next = -1;
    *n_out = count;
}

/* Appends a piece; an unused one is taken apart again as it was put together, a character without a token that may
 * be put out is its bytes or unknown. */
static assay_status put_piece(assay_ids *ids, const assay_bpe *b, const assay_bpe_scratch *w, int32_t id,
                              bool *after_unknown, assay_err *err) {
    bool unused = id >= 0 && id < b->n_known && b->unused && b->unused[id];
    if (unused && w->halves[id][1]) {
        ASSAY_TRY(put_piece(ids, b, w, w->halves[id][0], after_unknown, err));
        return put_piece(ids, b, w, w->halves[id][1] - 1, after_unknown, err);
    }
    if ((id >= b->n_known || unused) && b->byte_fallback) {
        const assay_token_text *c = &b->vocab.by_id[id];
        if (all_bytes_known(b, c->s, c->n)) {
            *after_unknown = false;
            for (size_t k = 0; k < c->n; k++)
                ASSAY_TRY(assay_ids_put(ids, b->byte_id[(unsigned char)c->s[k]], err));
            return ASSAY_OK;
        }
    }
    bool unknown = id == UNKNOWN || id >= b->n_known || unused;
    if (unknown && (*after_unknown || b->unk < 0)) return ASSAY_OK;
    *after_unknown = unknown;
    return assay_ids_put(ids, unknown ? b->unk : id, err);
}

assay_status assay_bpe_encode(assay_ids *ids, const assay_bpe *b, assay_bpe_scratch *w, const char *s,
                              size_t n, assay_err *err) {
    if (b->ignore_merges) {
        int32_t id = assay_vocab_find(&b->vocab, s, n);
        if (id >= 0) return assay_ids_put(ids, id, err);
    }
    /* A character gives at most as many symbols as it has bytes, dressed; every merge queues at most two
     * more. */
    size_t most = n, per = (b->prefix ? strlen(b->prefix) : 0);
    if (per && !assay_mul_size(&most, n, per + 1)) return assay_nomem(err);
    most += (b->suffix ? strlen(b->suffix) : 0) + 1;
    if (most > INT32_MAX / 4)
        return assay_fail(err, ASSAY_EINPUT, "a word of %zu bytes is too long to tokenize", n);
    if (most > w->cap_symbols)
        ASSAY_TRY(assay_grow(&w->symbols, &w->cap_symbols, most, sizeof *w->symbols, err));
    if (most * 3 > w->cap_heap) ASSAY_TRY(assay_grow(&w->heap, &w->cap_heap, most * 3, sizeof *w->heap, err));
    if (b->unused && !w->halves && !(w->halves = assay_calloc((size_t)b->n_known, sizeof *w->halves)))
        return assay_nomem(err);
    size_t count;
    if (b->pieces)
        pieces_to_symbols(&count, b, w, s, n);
    else
        ASSAY_TRY(to_symbols(&count, b, w, s, n, err));
    if (count > 1) merge_all(b, w, count);
    bool after_unknown = false;
    for (int32_t i = count ? 0 : -1; i >= 0; i = w->symbols[i].next) {
        if (b->pieces)
            ASSAY_TRY(put_piece(ids, b, w, w->symbols[i].id, &after_unknown, err));
        else
            ASSAY_TRY(assay_ids_put(ids, w->symbols[i].id, err));
    }
    return ASSAY_OK;
}
