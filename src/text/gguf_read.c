/* gguf_read.c: a tokenizer from GGUF's metadata, with the defaults that llama.cpp (llama-vocab.cpp) gives
 * absent keys.
 *
 *   "gpt2"    byte-level BPE: tokens, merges, the pre-tokenizer by name (pre.def)
 *   "llama"   SentencePiece BPE: tokens, scores; spaces as U+2581, no other normalization
 *   "t5"      Unigram: tokens, scores, the character map
 *
 * Control tokens become special added tokens, user-defined ones other added tokens; both are found in the raw
 * text. WordPiece
 * ("bert"), RWKV and PLaMo vocabularies are EUNSUPPORTED. */
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

#define WHERE "tokenizer.ggml"

static bool is(assay_token_text t, const char *name) {
    return t.s && t.n == strlen(name) && memcmp(t.s, name, t.n) == 0;
}

static bool flag(assay_flag f, bool absent) {
    return f == ASSAY_FLAG_ABSENT ? absent : f == ASSAY_FLAG_TRUE;
}

/* An id that the file gives, if it is one; else the default. */
static int32_t id_or(int32_t id, int32_t absent, const assay_gguf_vocab *v) {
    if (id < 0 || (size_t)id >= v->n_tokens) id = absent;
    return id >= 0 && (size_t)id < v->n_tokens ? id : -1;
}

static assay_status read_bpe(assay_tokenizer *t, const assay_gguf_vocab *v, assay_err *err) {
    const assay_pre *pre = assay_pre_find(v->pre);
    if (!pre)
        return assay_fail(err, ASSAY_EUNSUPPORTED, WHERE ".pre: the pre-tokenizer '%.*s' is not known",
                          (int)ASSAY_MIN(v->pre.n, 40u), v->pre.s ? v->pre.s : "");
    assay_vocab *vocab = &t->bpe.vocab;
    ASSAY_TRY(assay_vocab_reserve(vocab, v->n_tokens, err));
    for (size_t i = 0; i < v->n_tokens; i++) {
        size_t bad;
        bool cut;
        if (v->tokens[i].n == 0 ||
            assay_utf8_valid(&bad, &cut, v->tokens[i].s, v->tokens[i].n) != v->tokens[i].n)
            return assay_fail(err, ASSAY_EINPUT, WHERE ".tokens[%zu] is %s", i,
                              v->tokens[i].n ? "not valid UTF-8" : "empty");
        ASSAY_TRY(assay_vocab_add(vocab, v->tokens[i].s, v->tokens[i].n, (int64_t)i, err));
    }
    t->vocab = vocab;
    ASSAY_TRY(assay_bpe_from_merges(&t->bpe, v->merges, v->n_merges, WHERE, err));
    ASSAY_TRY(assay_tokenizer_byte_level(t, pre, err));
    for (size_t i = 0; v->types && i < v->n_tokens; i++) {
        bool special = v->types[i] == ASSAY_TOKEN_CONTROL || v->types[i] == ASSAY_TOKEN_UNKNOWN;
        if (!special && v->types[i] != ASSAY_TOKEN_USER_DEFINED) continue;
        const assay_token_text *k = &vocab->by_id[i];
        assay_added_token a = {.content = (char *)(uintptr_t)k->s,
                               .n = k->n,
                               .id = (int32_t)i,
                               .special = special}; /* copied there */
        ASSAY_TRY(assay_spm_add(t, &a, err));
    }
    t->add_bos = assay_pre_adds_bos(pre);
    t->bos = id_or(v->bos, -1, v);
    t->eos = id_or(v->eos, -1, v);
    t->unk = id_or(v->unk, -1, v);
    return ASSAY_OK;
}

static assay_status read_pieces(assay_tokenizer *t, const assay_gguf_vocab *v, bool unigram, assay_err *err) {
    assay_spm_pieces p = {.tokens = v->tokens,
                          .scores = v->scores,
                          .types = v->types,
                          .n = v->n_tokens,
                          .unigram = unigram,
                          .user_is_added = true,
                          .unk_is_added = true};
    for (size_t i = 0; v->types && i < v->n_tokens && !p.byte_fallback; i++)
        p.byte_fallback = v->types[i] == ASSAY_TOKEN_BYTE;
    if (!v->scores) return assay_fail(err, ASSAY_EINPUT, WHERE ".scores is missing");
    t->bos = id_or(v->bos, unigram ? -1 : 1, v);
    t->eos = id_or(v->eos, unigram ? 1 : 2, v);
    t->unk = id_or(v->unk, unigram ? 2 : 0, v);
    t->add_bos = !unigram;
    t->add_eos = unigram;
    t->spm.prefix = flag(v->add_space_prefix, !unigram);
    if (unigram) {
        t->spm.trim = flag(v->remove_extra_whitespaces, false);
        ASSAY_TRY(assay_charsmap_new(&t->spm.map, v->charsmap, v->n_charsmap, WHERE, err));
    }
    return assay_spm_build(t, &p, WHERE, err);
}

/* What stands for the file's hash: everything that decides about ids. */
static assay_status hash_vocab(assay_tokenizer *t, const assay_gguf_vocab *v, assay_err *err) {
    assay_hasher *h = NULL;
    const uint32_t numbers[] = {(uint32_t)v->n_tokens,
                                (uint32_t)v->n_merges,
                                (uint32_t)v->bos,
                                (uint32_t)v->eos,
                                (uint32_t)v->unk,
                                v->add_bos,
                                v->add_eos,
                                v->add_space_prefix,
                                v->remove_extra_whitespaces};
    const assay_token_text *lists[] = {&v->model, &v->pre, v->tokens, v->merges};
    const size_t counts[] = {1, 1, v->n_tokens, v->n_merges};
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put(h, numbers, sizeof numbers);
    for (size_t k = 0; k < ASSAY_LEN(lists); k++) {
        for (size_t i = 0; i < counts[k]; i++) {
            assay_hasher_put(h, &lists[k][i].n, sizeof lists[k][i].n);
            if (lists[k][i].n) assay_hasher_put(h, lists[k][i].s, lists[k][i].n);
        }
    }
    if (v->scores) assay_hasher_put(h, v->scores, v->n_tokens * sizeof *v->scores);
    if (v->types) assay_hasher_put(h, v->types, v->n_tokens * sizeof *v->types);
    if (v->n_charsmap) assay_hasher_put(h, v->charsmap, v->n_charsmap);
    assay_hasher_finish(h, t->hash);
    return ASSAY_OK;
}

static assay_status read_all(assay_tokenizer *t, const assay_gguf_vocab *v, assay_err *err) {
    if (v->n_tokens == 0 || v->n_tokens > ASSAY_VOCAB_MAX_ID || v->n_merges > ASSAY_VOCAB_MAX_ID)
        return assay_fail(err, ASSAY_EINPUT, WHERE ": a vocabulary of %zu tokens and %zu merges", v->n_tokens,
                          v->n_merges);
    if (is(v->model, "gpt2"))
        ASSAY_TRY(read_bpe(t, v, err));
    else if (is(v->model, "llama") || is(v->model, "t5"))
        ASSAY_TRY(read_pieces(t, v, is(v->model, "t5"), err));
    else
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          WHERE ".model: a tokenizer of kind '%.*s' is not supported",
                          (int)ASSAY_MIN(v->model.n, 40u), v->model.s ? v->model.s : "");
    t->pad = id_or(v->pad, -1, v);
    t->add_bos = flag(v->add_bos, t->add_bos);
    t->add_eos = flag(v->add_eos, t->add_eos);
    ASSAY_TRY(assay_tokenizer_index(t, err));
    return assay_tokenizer_wrap(t, err);
}

assay_status assay_tokenizer_from_gguf(assay_tokenizer **out, const assay_gguf_vocab *v, assay_err *err) {
    assay_tokenizer *t = assay_calloc(1, sizeof *t);
    if (!t) return assay_nomem(err);
    t->bos = t->eos = t->unk = t->pad = -1;
    assay_status s = hash_vocab(t, v, err);
    if (s == ASSAY_OK) s = read_all(t, v, err);
    if (s == ASSAY_OK)
        *out = t;
    else
        assay_tokenizer_close(t);
    return s;
}
