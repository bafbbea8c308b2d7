/* bpe.c: byte pair encoding (Sennrich et al. 2016) as Hugging Face's tokenizers runs it.
 *
 * A pre-token becomes one symbol per character (or per byte "<0xHH>" when byte_fallback is on and the
 * character unknown), a doubly linked list in an array. A heap holds the mergeable neighbours by (rank,
 * position); the least is merged until none is left: O(n log n) on a word of any length. An entry is stale,
 * and skipped, when the pair at its position has another rank by now.
 *
 * Dropout is refused: it belongs to training. */
#include "text/bpe.h"

#include <string.h>
#include "base/str.h"
#include "text/unicode.h"

typedef struct assay_symbol {
    int32_t id;         /* -1: merged into its left neighbour */
    int32_t prev, next; /* -1 at the ends */
    uint32_t rank;      /* of the merge with next; NO_RANK */
    int32_t merged;     /* what that merge gives */
} assay_symbol;
#define NO_RANK UINT32_MAX

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

static assay_status parse_merges(assay_bpe *b, const json_t *merges, const char *where, assay_err *err) {
    if (!json_is_array(merges))
        return assay_fail(err, ASSAY_EINPUT, "%s: model.merges must be an array", where);
    assay_status s = ASSAY_OK;
    assay_str both = {0};
    size_t skip = b->prefix ? strlen(b->prefix) : 0;
    ASSAY_GO(assay_merges_reserve(&b->merges, json_array_size(merges), err));
    uint32_t rank = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *m = json_array_get(merges, i);
        if (json_is_string(m) && strncmp(json_string_value(m), "#version", 8) == 0) continue;
        const char *half[2];
        size_t n[2];
        ASSAY_GO(merge_halves(half, n, m, i, where, err));
        int32_t left = assay_vocab_find(&b->vocab, half[0], n[0]),
                right = assay_vocab_find(&b->vocab, half[1], n[1]);
        assay_str_clear(&both);
        assay_str_putn(&both, half[0], n[0]);
        if (n[1] >= skip) assay_str_putn(&both, half[1] + skip, n[1] - skip);
        ASSAY_GO(assay_str_status(&both, err));
        int32_t id = assay_vocab_find(&b->vocab, assay_str_c(&both), both.len);
        if (left < 0 || right < 0 || id < 0 || n[1] < skip) {
            s = assay_fail(err, ASSAY_EINPUT,
                           "%s: model.merges[%zu] ('%.40s' '%.40s') is not in the vocabulary", where, i,
                           half[0], json_is_array(m) ? half[1] : "");
            goto out;
        }
        assay_merges_put(&b->merges, left, right, rank++, id);
    }
out:
    assay_str_free(&both);
    return s;
}

static assay_status parse_options(assay_bpe *b, const json_t *model, const char *where, assay_err *err) {
    const char *type = "BPE", *prefix = NULL, *suffix = NULL;
    double dropout = 0;
    ASSAY_TRY(assay_json_get_str(&type, model, "type", where, err));
    if (strcmp(type, "BPE") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: model.type '%.40s' is not supported, only BPE is",
                          where, type);
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

/* What encoding looks up for every character. */
static assay_status index_characters(assay_bpe *b, const json_t *model, const char *where, assay_err *err) {
    assay_str c = {0};
    for (int32_t cp = 0; cp < ASSAY_BPE_DIRECT && !c.failed; cp++) {
        assay_str_clear(&c);
        assay_utf8_put(&c, cp);
        b->direct[cp] = assay_vocab_find(&b->vocab, assay_str_c(&c), c.len);
    }
    for (int k = 0; k < 256 && !c.failed; k++) {
        assay_str_clear(&c);
        assay_str_printf(&c, "<0x%02X>", k);
        b->byte_id[k] = assay_vocab_find(&b->vocab, assay_str_c(&c), c.len);
    }
    assay_status s = assay_str_status(&c, err);
    assay_str_free(&c);
    if (s != ASSAY_OK) return s;
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
    return index_characters(b, model, where, err);
}

/* ---- where a text may be cut ---- */

#define JOIN_BITS (1u << 20)

static uint32_t join_hash(int32_t left, int32_t right) {
    return ((uint32_t)left * 0x9E3779B1u ^ (uint32_t)right * 0x85EBCA6Bu) >> 12;
}

/* A merge across two characters makes a token in which they are neighbours. What affixes, whole-word lookup
 * and unknown characters do depends on more than two neighbours; then nothing is cut. */
assay_status assay_bpe_index_joins(assay_bpe *b, assay_err *err) {
    if (b->prefix || b->suffix || b->ignore_merges) return ASSAY_OK;
    b->joins = assay_calloc(JOIN_BITS / 64, sizeof *b->joins);
    if (!b->joins) return assay_nomem(err);
    for (size_t k = 0; k < b->vocab.n_keys; k++) {
        const char *s = b->vocab.keys[k].s;
        int32_t left = -1;
        for (size_t i = 0, len; i < b->vocab.keys[k].n; i += len) {
            int32_t right = assay_utf8_next(&len, s + i, b->vocab.keys[k].n - i);
            uint32_t h = join_hash(left, right);
            if (left >= 0) b->joins[h / 64] |= (uint64_t)1 << h % 64;
            left = right;
        }
    }
    return ASSAY_OK;
}

bool assay_bpe_breaks(const assay_bpe *b, int32_t left, int32_t right) {
    if (left < 0 || left >= ASSAY_BPE_DIRECT || right >= ASSAY_BPE_DIRECT) return false;
    if (b->direct[left] < 0 || b->direct[right] < 0) return false;
    uint32_t h = join_hash(left, right);
    return !(b->joins[h / 64] >> h % 64 & 1);
}

void assay_bpe_free(assay_bpe *b) {
    assay_free(b->joins);
    assay_vocab_free(&b->vocab);
    assay_merges_free(&b->merges);
    assay_free(b->prefix);
    assay_free(b->suffix);
}

/* ---- encoding ---- */

assay_status assay_ids_put(assay_ids *ids, int32_t id, assay_err *err) {
    if (ids->n == ids->cap) ASSAY_TRY(assay_grow(&ids->v, &ids->cap, ids->n + 1, sizeof *ids->v, err));
    ids->v[ids->n++] = id;
    return ASSAY_OK;
}

void assay_bpe_scratch_free(assay_bpe_scratch *w) {
    assay_free(w->symbols);
    assay_free(w->heap);
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
        if (s->id < 0 || s->rank != (uint32_t)(e >> 32)) continue;
        assay_symbol *right = &w->symbols[s->next];
        s->id = s->merged;
        s->next = right->next;
        right->id = -1;
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
    size_t count;
    ASSAY_TRY(to_symbols(&count, b, w, s, n, err));
    if (count > 1) merge_all(b, w, count);
    for (int32_t i = count ? 0 : -1; i >= 0; i = w->symbols[i].next)
        ASSAY_TRY(assay_ids_put(ids, w->symbols[i].id, err));
    return ASSAY_OK;
}
