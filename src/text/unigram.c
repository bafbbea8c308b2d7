/* unigram.c: segmentation by a unigram language model (Kudo 2018): Viterbi over the byte positions of the
 * text, the tokens that begin at a position found in a trie. A character that no token covers alone costs ten
 * more than the worst token and is unknown; neighbouring unknowns are one.
 *
 * Two programs define the result, and differ in the last bit: Hugging Face's tokenizers sums the scores in
 * double, SentencePiece in float, so that in a long text two paths can become equal, and the first one found
 * stays. Either is followed, which is why a text is never cut. */
#include "text/unigram.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include "base/str.h"
#include "text/unicode.h"

#define UNKNOWN_PENALTY 10.0

typedef struct assay_unigram_node { /* the best path that ends at a position */
    double score;
    int32_t id;
    uint32_t length; /* of its last token; 0: none ends here yet */
} assay_unigram_node;

/* ---- reading ---- */

static assay_status parse_vocab(assay_unigram *u, const json_t *vocab, const char *where, assay_err *err) {
    size_t n = json_array_size(vocab);
    if (!json_is_array(vocab) || n == 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: model.vocab must be a list of [token, score]", where);
    ASSAY_TRY(assay_vocab_reserve(&u->vocab, n, err));
    u->scores = assay_calloc(n, sizeof *u->scores);
    if (!u->scores) return assay_nomem(err);
    double least = DBL_MAX;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(vocab, i), *token = json_array_get(pair, 0),
                     *score = json_array_get(pair, 1);
        double v = json_number_value(score);
        if (!json_is_string(token) || !json_is_number(score) || !isfinite(v) || fabs(v) > FLT_MAX)
            return assay_fail(err, ASSAY_EINPUT, "%s: model.vocab[%zu] must be [token, score]", where, i);
        size_t len = json_string_length(token);
        if (assay_vocab_add(&u->vocab, json_string_value(token), len, (int64_t)i, err) != ASSAY_OK)
            return assay_err_prefix(err, "%s", where);
        ASSAY_TRY(assay_trie_put(&u->trie, json_string_value(token), len,
                                 assay_vocab_find(&u->vocab, json_string_value(token), len), err));
        u->scores[i] = v;
        if (v < least) least = v;
    }
    u->unk_score = least - UNKNOWN_PENALTY;
    return ASSAY_OK;
}

assay_status assay_unigram_parse(assay_unigram *u, const json_t *model, const char *where, assay_err *err) {
    int64_t unk = -1;
    ASSAY_TRY(parse_vocab(u, json_object_get(model, "vocab"), where, err));
    if (!json_is_null(json_object_get(model, "unk_id")))
        ASSAY_TRY(assay_json_get_int(&unk, model, "unk_id", where, err));
    ASSAY_TRY(assay_json_get_bool(&u->byte_fallback, model, "byte_fallback", where, err));
    if (unk < -1 || unk >= (int64_t)u->vocab.n_ids)
        return assay_fail(err, ASSAY_EINPUT, "%s: model.unk_id %lld is not in the vocabulary", where,
                          (long long)unk);
    u->unk = (int32_t)unk;
    return assay_vocab_find_bytes(u->byte_id, &u->vocab, err);
}

void assay_unigram_free(assay_unigram *u) {
    assay_vocab_free(&u->vocab);
    assay_trie_free(&u->trie);
    assay_free(u->scores);
    memset(u, 0, sizeof *u);
}

void assay_unigram_scratch_free(assay_unigram_scratch *w) {
    assay_free(w->nodes);
    assay_free(w->path.v);
    memset(w, 0, sizeof *w);
}

/* ---- encoding ---- */

static void offer(const assay_unigram *u, assay_unigram_node *to, double score, size_t length, int32_t id) {
    if (u->single)
        score =
            (double)(float)score; /* the sum of two floats is exact in double: this rounds as float does */
    if (to->length && !(score > to->score)) return;
    *to = (assay_unigram_node){score, id, (uint32_t)length};
}

/* Every token that begins at `at`, and the unknown when none is as long as the character there. */
static void extend(const assay_unigram *u, assay_unigram_node *nodes, const char *s, size_t n, size_t at,
                   size_t char_len) {
    double so_far = nodes[at].score;
    bool single = false;
    uint32_t node = 0;
    for (size_t i = at; i < n && (node = assay_trie_child(&u->trie, node, (unsigned char)s[i])) != 0; i++) {
        int32_t id = u->trie.nodes[node].token;
        if (id < 0) continue;
        size_t length = i + 1 - at;
        offer(u, &nodes[i + 1], u->scores[id] + so_far, length, id);
        single = single || length == char_len;
    }
    if (!single) offer(u, &nodes[at + char_len], u->unk_score + so_far, char_len, u->unk);
}

static bool put_bytes(assay_ids *ids, const assay_unigram *u, const char *s, size_t n, assay_status *st,
                      assay_err *err) {
    for (size_t i = 0; i < n; i++)
        if (u->byte_id[(unsigned char)s[i]] < 0) return false;
    for (size_t i = 0; i < n && *st == ASSAY_OK; i++)
        *st = assay_ids_put(ids, u->byte_id[(unsigned char)s[i]], err);
    return true;
}

/* A run of unknown characters: a token after all, its bytes, or the unknown token. */
static assay_status put_unknown(assay_ids *ids, const assay_unigram *u, const char *s, size_t n,
                                assay_err *err) {
    assay_status st = ASSAY_OK;
    int32_t id = u->single ? -1 : assay_vocab_find(&u->vocab, s, n);
    if (id >= 0) return assay_ids_put(ids, id, err);
    if (u->byte_fallback && put_bytes(ids, u, s, n, &st, err)) return st;
    return assay_ids_put(ids, u->unk, err);
}

assay_status assay_unigram_encode(assay_ids *ids, const assay_unigram *u, assay_unigram_scratch *w,
                                  const char *s, size_t n, assay_err *err) {
    if (n >= UINT32_MAX)
        return assay_fail(err, ASSAY_EINPUT, "a text of %zu bytes is too long to tokenize", n);
    if (n + 1 > w->cap_nodes) ASSAY_TRY(assay_grow(&w->nodes, &w->cap_nodes, n + 1, sizeof *w->nodes, err));
    memset(w->nodes, 0, (n + 1) * sizeof *w->nodes);
    for (size_t at = 0, len; at < n; at += len) {
        assay_utf8_next(&len, s + at, n - at);
        extend(u, w->nodes, s, n, at, len);
    }
    w->path.n = 0; /* lengths of the tokens, last first */
    for (size_t at = n; at > 0; at -= w->nodes[at].length) {
        if (w->nodes[at].id < 0)
            return assay_fail(err, ASSAY_EINPUT,
                              "a character of the text has no token, and the tokenizer has no unknown token");
        ASSAY_TRY(assay_ids_put(&w->path, (int32_t)w->nodes[at].length, err));
    }
    size_t begin = 0, at = 0;
    for (size_t k = w->path.n; k-- > 0;) {
        size_t next = at + (size_t)w->path.v[k];
        int32_t id = w->nodes[next].id;
        if (id != u->unk) {
            if (begin < at) ASSAY_TRY(put_unknown(ids, u, s + begin, at - begin, err));
            ASSAY_TRY(assay_ids_put(ids, id, err));
            begin = next;
        }
        at = next;
    }
    return begin < n ? put_unknown(ids, u, s + begin, n - begin, err) : ASSAY_OK;
}
