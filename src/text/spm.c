/* spm.c: a tokenizer from SentencePiece's pieces, whether they came from tokenizer.model or from GGUF.
 *
 *   type           in the model                             as an added token
 *   normal         merges (BPE) or may be chosen (Unigram)
 *   unused         merges, but is taken apart again; never chosen
 *   user-defined   one symbol, before everything else       instead, in GGUF
 *   control                                                 special
 *   unknown        stands for characters without a token    special, in GGUF
 *   byte           <0xHH>, of such a character's bytes
 *
 * llama.cpp cuts user-defined tokens out of the raw text, SentencePiece finds them while it normalizes; hence
 * the two columns. */
#include "text/spm.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include "base/utf8.h"
#include "text/tokenizer.h"

assay_status assay_spm_add(assay_tokenizer *t, const assay_added_token *a, assay_err *err) {
    if (assay_vocab_find(&t->added_ids, a->content, a->n) >= 0) return ASSAY_OK;
    if (t->n_added == t->cap_added)
        ASSAY_TRY(assay_grow(&t->added, &t->cap_added, t->n_added + 1, sizeof *t->added, err));
    assay_added_token *own = &t->added[t->n_added];
    *own = *a;
    own->content = assay_strndup(a->content, a->n);
    if (!own->content) return assay_nomem(err);
    t->n_added++;
    ASSAY_TRY(assay_vocab_add(&t->added_ids, a->content, a->n, a->id, err));
    return assay_trie_put(&t->raw, a->content, a->n, (int32_t)t->n_added - 1, err);
}

static assay_status add_piece(assay_tokenizer *t, int32_t id, bool special, assay_err *err) {
    const assay_token_text *p = &t->pieces.by_id[id];
    assay_added_token a = {
        .content = (char *)(uintptr_t)p->s, .n = p->n, .id = id, .special = special}; /* copied there */
    return assay_spm_add(t, &a, err);
}

static assay_status copy_pieces(assay_tokenizer *t, const assay_spm_pieces *p, const char *where,
                                assay_err *err) {
    if (p->n == 0 || p->n > ASSAY_VOCAB_MAX_ID)
        return assay_fail(err, ASSAY_EINPUT, "%s: a vocabulary of %zu tokens", where, p->n);
    t->scores = assay_calloc(p->n, sizeof *t->scores);
    t->types = assay_calloc(p->n, 1);
    if (!t->scores || !t->types) return assay_nomem(err);
    ASSAY_TRY(assay_vocab_reserve(&t->pieces, p->n, err));
    for (size_t i = 0; i < p->n; i++) {
        const assay_token_text *k = &p->tokens[i];
        size_t bad;
        bool cut;
        if (k->n == 0 || assay_utf8_valid(&bad, &cut, k->s, k->n) != k->n)
            return assay_fail(err, ASSAY_EINPUT, "%s: token %zu is %s", where, i,
                              k->n ? "not valid UTF-8" : "empty");
        t->scores[i] = p->scores ? p->scores[i] : 0;
        t->types[i] = (uint8_t)(p->types ? p->types[i] : ASSAY_TOKEN_NORMAL);
        if (!isfinite(t->scores[i]) || (p->types && (p->types[i] < 0 || p->types[i] > ASSAY_TOKEN_BYTE)))
            return assay_fail(err, ASSAY_EINPUT, "%s: token %zu has a broken score or type", where, i);
        if (assay_vocab_add(&t->pieces, k->s, k->n, (int64_t)i, err) != ASSAY_OK)
            return assay_err_prefix(err, "%s", where);
    }
    return ASSAY_OK;
}

/* Added tokens, the unknown token, the bytes, and the trie of user-defined symbols. */
static assay_status sort_out(assay_tokenizer *t, const assay_spm_pieces *p, int32_t byte_id[256],
                             assay_err *err) {
    ASSAY_TRY(assay_vocab_find_bytes(byte_id, &t->pieces, err));
    for (int b = 0; b < 256; b++)
        if (byte_id[b] >= 0 && t->types[byte_id[b]] != ASSAY_TOKEN_BYTE) byte_id[b] = -1;
    for (size_t i = 0; i < p->n; i++) {
        int32_t id = (int32_t)i;
        const assay_token_text *k = &t->pieces.by_id[i];
        switch (t->types[i]) {
        case ASSAY_TOKEN_UNKNOWN:
            if (t->unk < 0) t->unk = id;
            if (p->unk_is_added) ASSAY_TRY(add_piece(t, id, true, err));
            break;
        case ASSAY_TOKEN_CONTROL:
            ASSAY_TRY(add_piece(t, id, true, err));
            break;
        case ASSAY_TOKEN_USER_DEFINED:
            if (p->user_is_added)
                ASSAY_TRY(add_piece(t, id, false, err));
            else
                ASSAY_TRY(assay_trie_put(&t->user, k->s, k->n, id, err));
            break;
        default:
            break;
        }
    }
    return ASSAY_OK;
}

static assay_status build_bpe(assay_tokenizer *t, const assay_spm_pieces *p, assay_err *err) {
    assay_bpe *b = &t->bpe;
    ASSAY_TRY(assay_vocab_reserve(&b->vocab, p->n, err));
    for (size_t i = 0; i < p->n; i++) {
        bool unused = t->types[i] == ASSAY_TOKEN_UNUSED;
        if (t->types[i] != ASSAY_TOKEN_NORMAL && !unused) continue;
        if (unused && !b->unused && !(b->unused = assay_calloc(p->n, 1))) return assay_nomem(err);
        if (unused) b->unused[i] = 1;
        ASSAY_TRY(assay_vocab_add(&b->vocab, t->pieces.by_id[i].s, t->pieces.by_id[i].n, (int64_t)i, err));
    }
    b->n_known = (int32_t)p->n;
    b->byte_fallback = p->byte_fallback;
    ASSAY_TRY(assay_bpe_from_pieces(b, t->scores, err));
    ASSAY_TRY(sort_out(t, p, b->byte_id, err));
    b->unk = t->unk;
    if (t->user.n) b->user = &t->user;
    ASSAY_TRY(assay_bpe_index_joins(b, err));
    for (size_t i = 0; i < p->n; i++)
        if (t->types[i] == ASSAY_TOKEN_USER_DEFINED)
            assay_bpe_join(b, t->pieces.by_id[i].s, t->pieces.by_id[i].n);
    return ASSAY_OK;
}

/* A user-defined symbol scores so that it beats whatever else could stand there. SentencePiece starts its
 * search for the greatest score at FLT_MIN, a number above zero, which is what this is therefore nearly
 * always. */
static assay_status build_unigram(assay_tokenizer *t, const assay_spm_pieces *p, assay_err *err) {
    assay_unigram *u = &t->unigram;
    float least = FLT_MAX, most = FLT_MIN;
    t->kind = ASSAY_MODEL_UNIGRAM;
    u->single = true;
    u->byte_fallback = p->byte_fallback;
    u->scores = assay_calloc(p->n, sizeof *u->scores);
    if (!u->scores) return assay_nomem(err);
    ASSAY_TRY(sort_out(t, p, u->byte_id, err));
    for (size_t i = 0; i < p->n; i++) {
        if (t->types[i] != ASSAY_TOKEN_NORMAL) continue;
        least = ASSAY_MIN(least, t->scores[i]);
        most = ASSAY_MAX(most, t->scores[i]);
    }
    for (size_t i = 0; i < p->n; i++) {
        bool user = t->types[i] == ASSAY_TOKEN_USER_DEFINED && !p->user_is_added;
        const assay_token_text *k = &t->pieces.by_id[i];
        u->scores[i] = user ? (double)((float)k->n * most) - 0.1 : (double)t->scores[i];
        if (user || t->types[i] == ASSAY_TOKEN_NORMAL)
            ASSAY_TRY(assay_trie_put(&u->trie, k->s, k->n, (int32_t)i, err));
    }
    u->unk = t->unk;
    u->unk_score = (double)(least - 10.0f);
    return ASSAY_OK;
}

#define ALL_SPACES (1 << 20) /* more than a text begins with */

/* Spaces again, bytes to characters, and the dummy prefix away; with it every space at the beginning when
 * they were trimmed. */
static assay_status build_decoders(assay_tokenizer *t, const char *where, assay_err *err) {
    bool front = !t->spm.suffix && (t->spm.prefix || t->spm.trim), back = t->spm.suffix && t->spm.prefix;
    json_t *j =
        json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}, {s:s, s:s, s:i, s:i}]}", "type", "Sequence",
                  "decoders", "type", "Replace", "pattern", "String", "\xE2\x96\x81", "content", " ", "type",
                  "ByteFallback", "type", "Fuse", "type", "Strip", "content", " ", "start",
                  !front        ? 0
                  : t->spm.trim ? ALL_SPACES
                                : 1,
                  "stop", back ? 1 : 0);
    if (!j) return assay_nomem(err);
    assay_status s = assay_steps_parse(&t->decoders, ASSAY_STEP_DECODER, j, "decoder", where, err);
    json_decref(j);
    return s;
}

assay_status assay_spm_build(assay_tokenizer *t, const assay_spm_pieces *p, const char *where,
                             assay_err *err) {
    t->is_spm = true;
    t->vocab = &t->pieces;
    ASSAY_TRY(copy_pieces(t, p, where, err));
    ASSAY_TRY(p->unigram ? build_unigram(t, p, err) : build_bpe(t, p, err));
    return build_decoders(t, where, err);
}
