/* gguf_write.c: a tokenizer as GGUF's metadata.
 *
 * What llama.cpp runs is less than what tokenizer.json can say, so each kind is recognized, and what differs
 * is refused with its name:
 *
 *   byte-level BPE    "gpt2": merges as they are; the pre-tokenizer must be a row of pre.def; no normalizer
 * but NFC, which llama.cpp leaves out (as its own converter does) SentencePiece     "llama" or "t5": pieces,
 * scores and types as they are BPE of a          "llama": the scores are the negated ranks of the merges,
 * which must be those that SentencePiece would derive SentencePiece     from the vocabulary: every pair of
 * halves of a token, together Unigram           "t5": scores as they are, the character map of Precompiled
 *
 * Ids without a token, up to the rows of the embedding, become unused "[PADn]". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "text/jinja.h"
#include "text/pre.h"
#include "text/tokenizer.h"

#define META "\xE2\x96\x81"

typedef struct writer {
    const assay_tokenizer *t;
    assay_arena a;
    size_t n;
    assay_token_text *tokens;
    float *scores;
    int32_t *types;
    assay_gguf_vocab v;
} writer;

static assay_status put_text(assay_token_text *out, writer *w, const char *s, size_t n, assay_err *err) {
    char *copy = assay_arena_strndup(&w->a, s, n);
    if (!copy) return assay_nomem(err);
    *out = (assay_token_text){copy, (uint32_t)n};
    return ASSAY_OK;
}

static assay_status put_name(assay_token_text *out, writer *w, const char *name, assay_err *err) {
    return put_text(out, w, name, strlen(name), err);
}

/* ---- tokens and types ---- */

static int32_t plain_type(const assay_tokenizer *t, int32_t id) {
    bool bytes = t->kind == ASSAY_MODEL_UNIGRAM ? t->unigram.byte_fallback : t->bpe.byte_fallback;
    int32_t unk = t->kind == ASSAY_MODEL_UNIGRAM ? t->unigram.unk : t->bpe.unk;
    const int32_t *byte_id = t->kind == ASSAY_MODEL_UNIGRAM ? t->unigram.byte_id : t->bpe.byte_id;
    if (id == unk) return ASSAY_TOKEN_UNKNOWN;
    for (int b = 0; bytes && b < 256; b++)
        if (byte_id[b] == id) return ASSAY_TOKEN_BYTE;
    return ASSAY_TOKEN_NORMAL;
}

/* llama.cpp looks for user-defined tokens in the raw text, where spaces are spaces. */
static assay_status put_user(assay_token_text *out, writer *w, assay_token_text k, bool meta,
                             assay_err *err) {
    assay_str s = {0};
    for (uint32_t i = 0; i < k.n;) {
        bool space = meta && k.n - i >= 3 && memcmp(k.s + i, META, 3) == 0;
        assay_str_putc(&s, space ? ' ' : k.s[i]);
        i += space ? 3 : 1;
    }
    assay_status st = assay_str_status(&s, err);
    if (st == ASSAY_OK) st = put_text(out, w, assay_str_c(&s), s.len, err);
    assay_str_free(&s);
    return st;
}

static assay_status put_tokens(writer *w, bool meta, assay_err *err) {
    const assay_tokenizer *t = w->t;
    int32_t *types = w->types;
    for (size_t i = 0; i < w->n; i++) {
        int32_t id = (int32_t)i;
        if (i >= t->n_tokens || !t->tokens[i].content.s) {
            char name[32];
            types[i] = ASSAY_TOKEN_UNUSED;
            ASSAY_TRY(
                put_text(&w->tokens[i], w, name, (size_t)snprintf(name, sizeof name, "[PAD%zu]", i), err));
            continue;
        }
        types[i] = t->types && i < t->pieces.n_ids ? t->types[i] : ASSAY_TOKEN_NORMAL;
        if (!t->types) types[i] = plain_type(t, id);
        ASSAY_TRY(put_text(&w->tokens[i], w, t->tokens[i].content.s, t->tokens[i].content.n, err));
    }
    for (size_t i = 0; i < t->n_added; i++) {
        int32_t *type = &types[t->added[i].id];
        if (*type == ASSAY_TOKEN_NORMAL)
            *type = t->added[i].special ? ASSAY_TOKEN_CONTROL : ASSAY_TOKEN_USER_DEFINED;
    }
    for (size_t i = 0; i < w->n && i < t->n_tokens; i++)
        if (types[i] == ASSAY_TOKEN_USER_DEFINED)
            ASSAY_TRY(put_user(&w->tokens[i], w, t->tokens[i].content, meta, err));
    return ASSAY_OK;
}

/* ---- byte-level BPE ---- */

/* Merges that share a rank as transformers orders them: by the ids of their halves. */
static int by_rank(const void *a, const void *b) {
    const assay_merge *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

/* The merges in their order; freed by the caller. */
static assay_status sorted_merges(assay_merge **out, size_t *n, const assay_merges *m, assay_err *err) {
    size_t count = 0;
    assay_merge *v = assay_mallocn(m->n_slots ? m->n_slots : 1, sizeof *v);
    if (!v) return assay_nomem(err);
    for (size_t i = 0; i < m->n_slots; i++)
        if (m->slots[i].key != UINT64_MAX) v[count++] = m->slots[i];
    qsort(v, count, sizeof *v, by_rank);
    *out = v;
    *n = count;
    return ASSAY_OK;
}

static assay_status put_merges(writer *w, assay_err *err) {
    const assay_vocab *vocab = &w->t->bpe.vocab;
    assay_merge *v = NULL;
    assay_str both = {0};
    size_t n;
    ASSAY_TRY(sorted_merges(&v, &n, &w->t->bpe.merges, err));
    assay_status s = ASSAY_OK;
    assay_token_text *texts = assay_arena_alloc(&w->a, (n ? n : 1) * sizeof *texts);
    if (!texts) s = assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < n; i++) {
        const assay_token_text *left = &vocab->by_id[v[i].key >> 32],
                               *right = &vocab->by_id[(uint32_t)v[i].key];
        assay_str_clear(&both);
        assay_str_putn(&both, left->s, left->n);
        assay_str_putc(&both, ' ');
        assay_str_putn(&both, right->s, right->n);
        s = assay_str_status(&both, err);
        if (s == ASSAY_OK) s = put_text(&texts[i], w, both.s, both.len, err);
    }
    w->v.merges = texts;
    w->v.n_merges = n;
    assay_str_free(&both);
    assay_free(v);
    return s;
}

static assay_status refuse(const char *what, const char *type, assay_err *err) {
    return assay_fail(err, ASSAY_EUNSUPPORTED, "llama.cpp has no such tokenizer: %s%s%s%s", what,
                      type ? " '" : "", type ? type : "", type ? "'" : "");
}

static assay_status write_byte_level(writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    for (size_t i = 0; i < t->normalizers.n; i++)
        if (strcmp(t->normalizers.v[i].ops->type, "NFC") != 0)
            return refuse("normalizer", t->normalizers.v[i].ops->type, err);
    if (t->bpe.prefix || t->bpe.suffix) return refuse("a BPE with affixes", NULL, err);
    const assay_pre *pre = assay_pre_recognize(&t->pre_tokenizers, t->bpe.ignore_merges);
    if (!pre) pre = assay_pre_recognize(&t->pre_tokenizers, !t->bpe.ignore_merges);
    if (!pre) {
        for (size_t i = 0; i < t->pre_tokenizers.n; i++)
            if (t->pre_tokenizers.v[i].source)
                return assay_fail(
                    err, ASSAY_EUNSUPPORTED,
                    "llama.cpp has no such tokenizer: no pre-tokenizer with the pattern '%.200s'",
                    t->pre_tokenizers.v[i].source);
        return refuse("pre_tokenizer", t->pre_tokenizers.n ? t->pre_tokenizers.v[0].ops->type : NULL, err);
    }
    if (assay_pre_whole_words(pre) != t->bpe.ignore_merges)
        return refuse(t->bpe.ignore_merges ? "ignore_merges with this pre-tokenizer"
                                           : "merges within whole words with this pre-tokenizer",
                      NULL, err);
    w->v.pre = assay_pre_name(pre);
    ASSAY_TRY(put_name(&w->v.model, w, "gpt2", err));
    ASSAY_TRY(put_tokens(w, false, err));
    return put_merges(w, err);
}

/* ---- scores ---- */

static assay_status need_scores(writer *w, assay_err *err) {
    w->scores = assay_arena_alloc(&w->a, w->n * sizeof *w->scores);
    if (!w->scores) return assay_nomem(err);
    w->v.scores = w->scores;
    return ASSAY_OK;
}

static assay_status write_pieces(writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    bool unigram = t->kind == ASSAY_MODEL_UNIGRAM;
    if (t->spm.suffix) return refuse("white space as a suffix", NULL, err);
    if (t->spm.keep_spaces) return refuse("spaces that are not escaped", NULL, err);
    if (!unigram && (t->spm.map.blob || t->spm.trim))
        return refuse("a SentencePiece BPE with a normalizer", NULL, err);
    ASSAY_TRY(need_scores(w, err));
    ASSAY_TRY(put_name(&w->v.model, w, unigram ? "t5" : "llama", err));
    if (!unigram) ASSAY_TRY(put_name(&w->v.pre, w, "default", err));
    ASSAY_TRY(put_tokens(w, true, err));
    memcpy(w->scores, t->scores, t->pieces.n_ids * sizeof *w->scores);
    w->v.add_space_prefix = t->spm.prefix ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE;
    if (unigram) {
        w->v.remove_extra_whitespaces = t->spm.trim ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE;
        w->v.n_charsmap = t->spm.map.n_blob;
        w->v.charsmap = t->spm.map.blob;
    }
    return ASSAY_OK;
}

/* How many ways there are to cut this token into two tokens. */
static size_t count_halves(const assay_vocab *v, const assay_token_text *k) {
    size_t n = 0;
    for (size_t i = 0, len; i < k->n; i += len) {
        if (i && assay_vocab_find(v, k->s, i) >= 0 && assay_vocab_find(v, k->s + i, k->n - i) >= 0) n++;
        assay_utf8_next(&len, k->s + i, k->n - i);
    }
    return n;
}

/* Scores that make SentencePiece's order of merging this one: the merges of a token stand together and are
 * all there are. */
static assay_status score_merges(writer *w, const assay_merge *v, size_t n, assay_err *err) {
    const assay_vocab *vocab = &w->t->bpe.vocab;
    float rank = 0;
    for (size_t i = 0, next; i < n; i = next) {
        const assay_token_text *k = &vocab->by_id[v[i].id];
        for (next = i + 1; next < n && v[next].id == v[i].id;)
            next++;
        if (w->scores[v[i].id] != 0 || next - i != count_halves(vocab, k))
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "llama.cpp has no such tokenizer: the merges of '%.40s' are not those of a "
                              "SentencePiece model",
                              k->s);
        w->scores[v[i].id] = -(rank += 1);
    }
    for (size_t i = 0; i < vocab->n_ids; i++) {
        if (w->types[i] != ASSAY_TOKEN_NORMAL || w->scores[i] != 0 || !vocab->by_id[i].s) continue;
        if (count_halves(vocab, &vocab->by_id[i]))
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "llama.cpp has no such tokenizer: '%.40s' is never merged", vocab->by_id[i].s);
        w->scores[i] = -(rank + 1);
    }
    return ASSAY_OK;
}

static bool is_type(const assay_step *s, const char *type) {
    return strcmp(s->ops->type, type) == 0;
}

/* Prepend and Replace, or Metaspace, as SentencePiece's conversions have them. */
static assay_status meta_prefix(assay_flag *prefix, const assay_tokenizer *t, assay_err *err) {
    bool replaces = false;
    *prefix = ASSAY_FLAG_FALSE;
    for (size_t i = 0; i < t->normalizers.n; i++) {
        const assay_step *s = &t->normalizers.v[i];
        if (is_type(s, "Prepend") && strcmp(s->text, META) == 0)
            *prefix = ASSAY_FLAG_TRUE;
        else if (is_type(s, "Replace") && s->literal && strcmp(s->source, " ") == 0 &&
                 strcmp(s->text, META) == 0)
            replaces = true;
        else
            return refuse("normalizer", s->ops->type, err);
    }
    for (size_t i = 0; i < t->pre_tokenizers.n; i++) {
        const assay_step *s = &t->pre_tokenizers.v[i];
        if (is_type(s, "Split") && s->literal && strcmp(s->source, " ") == 0 && replaces)
            continue; /* there is none left */
        if (!is_type(s, "Metaspace") || s->split || strcmp(s->text, META) != 0)
            return refuse("pre_tokenizer", s->ops->type, err);
        replaces = true;
        if (s->prepend != ASSAY_PREPEND_NEVER) *prefix = ASSAY_FLAG_TRUE;
    }
    return replaces ? ASSAY_OK : refuse("a BPE without byte level and without " META, NULL, err);
}

static assay_status write_merged_pieces(writer *w, assay_err *err) {
    assay_merge *v = NULL;
    size_t n;
    if (!w->t->bpe.byte_fallback || w->t->bpe.prefix || w->t->bpe.suffix)
        return refuse("a BPE that is neither byte-level nor SentencePiece's", NULL, err);
    ASSAY_TRY(meta_prefix(&w->v.add_space_prefix, w->t, err));
    ASSAY_TRY(need_scores(w, err));
    ASSAY_TRY(put_name(&w->v.model, w, "llama", err));
    ASSAY_TRY(put_name(&w->v.pre, w, "default", err));
    ASSAY_TRY(put_tokens(w, true, err));
    ASSAY_TRY(sorted_merges(&v, &n, &w->t->bpe.merges, err));
    assay_status s = score_merges(w, v, n, err);
    assay_free(v);
    return s;
}

static assay_status write_unigram(writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    for (size_t i = 0; i < t->normalizers.n; i++) {
        const assay_step *s = &t->normalizers.v[i];
        if (is_type(s, "Precompiled")) {
            w->v.charsmap = s->map.blob;
            w->v.n_charsmap = s->map.n_blob;
        } else if (is_type(s, "Replace") && !s->literal && strcmp(s->source, " {2,}") == 0) {
            w->v.remove_extra_whitespaces = ASSAY_FLAG_TRUE;
        } else if (!is_type(s, "Strip") || s->left) {
            return refuse("normalizer", s->ops->type, err);
        }
    }
    for (size_t i = 0; i < t->pre_tokenizers.n; i++) {
        const assay_step *s = &t->pre_tokenizers.v[i];
        if (is_type(s, "WhitespaceSplit")) continue;
        if (!is_type(s, "Metaspace") || strcmp(s->text, META) != 0)
            return refuse("pre_tokenizer", s->ops->type, err);
        w->v.add_space_prefix = s->prepend == ASSAY_PREPEND_NEVER ? ASSAY_FLAG_FALSE : ASSAY_FLAG_TRUE;
    }
    ASSAY_TRY(need_scores(w, err));
    ASSAY_TRY(put_name(&w->v.model, w, "t5", err));
    ASSAY_TRY(put_tokens(w, true, err));
    for (size_t i = 0; i < t->unigram.vocab.n_ids; i++)
        w->scores[i] = (float)t->unigram.scores[i];
    return ASSAY_OK;
}

/* ---- what stands around a text ---- */

static assay_status put_ends(writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    if (t->before.n > 1 || t->after.n > 1)
        return refuse("more than one token before or after a text", NULL, err);
    w->v.bos = t->before.n ? t->before.v[0] : t->bos;
    w->v.eos = t->after.n ? t->after.v[0] : t->eos;
    w->v.add_bos = t->before.n ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE;
    w->v.add_eos = t->after.n ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE;
    w->v.unk = t->kind == ASSAY_MODEL_UNIGRAM ? t->unigram.unk : t->bpe.unk >= 0 ? t->bpe.unk : t->unk;
    w->v.pad = t->pad;
    return ASSAY_OK;
}

static bool is_byte_level(const assay_step_list *list) {
    return list->n && is_type(&list->v[list->n - 1], "ByteLevel");
}

static assay_status write_all(writer *w, const assay_template *tmpl, assay_err *err) {
    const assay_tokenizer *t = w->t;
    w->tokens = assay_arena_alloc(&w->a, w->n * sizeof *w->tokens);
    w->types = assay_arena_alloc(&w->a, w->n * sizeof *w->types);
    if (!w->tokens || !w->types) return assay_nomem(err);
    w->v.tokens = w->tokens;
    w->v.types = w->types;
    w->v.n_tokens = w->n;
    ASSAY_TRY(put_ends(w, err));
    if (t->is_spm)
        ASSAY_TRY(write_pieces(w, err));
    else if (t->kind == ASSAY_MODEL_UNIGRAM)
        ASSAY_TRY(write_unigram(w, err));
    else
        ASSAY_TRY(is_byte_level(&t->decoders) ? write_byte_level(w, err) : write_merged_pieces(w, err));
    if (w->v.n_charsmap) { /* the tokenizer may be closed before this is used */
        char *copy = assay_arena_strndup(&w->a, w->v.charsmap, w->v.n_charsmap);
        if (!copy) return assay_nomem(err);
        w->v.charsmap = copy;
    }
    return tmpl ? put_text(&w->v.chat_template, w, tmpl->source, tmpl->n_source, err) : ASSAY_OK;
}

assay_status assay_tokenizer_to_gguf(assay_gguf_vocab *out, const assay_tokenizer *t,
                                     const assay_template *tmpl, size_t n_vocab, assay_err *err) {
    writer w = {.t = t, .n = ASSAY_MAX(t->n_tokens, n_vocab), .v = ASSAY_GGUF_VOCAB_INIT};
    if (w.n == 0 || w.n > ASSAY_VOCAB_MAX_ID)
        return assay_fail(err, ASSAY_EINPUT, "a vocabulary of %zu tokens", w.n);
    assay_status s = write_all(&w, tmpl, err);
    if (s != ASSAY_OK) {
        assay_arena_free(&w.a);
        return s;
    }
    *out = w.v;
    out->memory = w.a.head;
    return ASSAY_OK;
}

void assay_gguf_vocab_free(assay_gguf_vocab *v) {
    if (!v) return;
    assay_arena a = {v->memory};
    assay_arena_free(&a);
    *v = (assay_gguf_vocab)ASSAY_GGUF_VOCAB_INIT;
}
