/* hf_write.c: a tokenizer as tokenizer.json and tokenizer_config.json.
 *
 *   byte-level BPE     vocabulary and merges as they are; the steps as they were read
 *   SentencePiece BPE  as transformers converts it: merges by falling score, U+2581 by normalizers, the whole text one word
 *   Unigram            scores as they are; SentencePiece's rules as normalizers, words split off where no token crosses them
 *
 * Added tokens at the end of the ids stand in added_tokens alone, as in the files that models come with; the unused "[PADn]" behind them,
 * which fill an embedding's rows in GGUF, are left out. Merges of characters without a token, and of unused tokens, have no equal there
 * and are left out too. In a Unigram tokenizer.json every token may be chosen, so that one like "<0x41>" in a text is that byte. */
#include "text/hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "text/base64.h"
#include "text/tokenizer.h"

#define META "\xE2\x96\x81"

typedef struct writer {
    const assay_tokenizer *t;
    const assay_added_token **added; /* by id, each id once */
    size_t n_added;
    size_t n_model; /* ids below this one are the model's */
} writer;

/* Takes v over. */
static assay_status set_new(json_t *o, const char *key, json_t *v, assay_err *err) {
    return v && json_object_set_new(o, key, v) == 0 ? ASSAY_OK : assay_nomem(err);
}
static assay_status append_new(json_t *list, json_t *v, assay_err *err) {
    return v && json_array_append_new(list, v) == 0 ? ASSAY_OK : assay_nomem(err);
}

static json_t *text_json(assay_token_text k) {
    return json_stringn(k.s, k.n);
}

/* ---- which token stands where ---- */

static int by_id(const void *a, const void *b) {
    const assay_added_token *x = *(const assay_added_token *const *)a, *y = *(const assay_added_token *const *)b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static assay_status sort_added(writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    w->added = assay_mallocn(t->n_added ? t->n_added : 1, sizeof *w->added);
    if (!w->added) return assay_nomem(err);
    for (size_t i = 0; i < t->n_added; i++) w->added[i] = &t->added[i];
    if (t->n_added) qsort(w->added, t->n_added, sizeof *w->added, by_id);
    for (size_t i = 0; i < t->n_added; i++)
        if (!w->n_added || w->added[w->n_added - 1]->id != w->added[i]->id) w->added[w->n_added++] = w->added[i];
    return ASSAY_OK;
}

/* An unused "[PADn]" of its own id. */
static bool is_pad(const assay_tokenizer *t, size_t id) {
    char name[32];
    assay_token_text k = t->tokens[id].content;
    return k.n == (size_t)snprintf(name, sizeof name, "[PAD%zu]", id) && memcmp(k.s, name, k.n) == 0;
}

/* Ids whose text finds another id, or that have none, would be lost in tokenizer.json's object, and move the added tokens. */
static bool is_dense(const assay_vocab *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (i >= v->n_ids || !v->by_id[i].s || assay_vocab_find(v, v->by_id[i].s, v->by_id[i].n) != (int32_t)i) return false;
    return true;
}

static void find_model_end(writer *w) {
    const assay_tokenizer *t = w->t;
    size_t n = t->n_tokens, k = w->n_added;
    while (n > 0 && (!k || w->added[k - 1]->id != (int32_t)n - 1) && t->tokens[n - 1].content.s && is_pad(t, n - 1)) n--;
    size_t end = n;
    while (n > 0 && k > 0 && w->added[k - 1]->id == (int32_t)n - 1) n--, k--;
    w->n_model = is_dense(t->vocab, n) ? n : ASSAY_MIN(end, t->vocab->n_ids);
}

/* The text of a token of the model: a text that another id has already is "[PADn]", so that every id keeps its place. */
static assay_token_text model_text(char name[32], const writer *w, size_t id) {
    const assay_vocab *v = w->t->vocab;
    assay_token_text k = v->by_id[id];
    if (!k.s || assay_vocab_find(v, k.s, k.n) == (int32_t)id) return k;
    return (assay_token_text){name, (uint32_t)snprintf(name, 32, "[PAD%zu]", id)};
}

/* ---- the model ---- */

static assay_status put_vocab(json_t *model, const writer *w, assay_err *err) {
    json_t *vocab = json_object();
    char name[32];
    for (size_t i = 0; vocab && i < w->n_model; i++) {
        assay_token_text k = model_text(name, w, i);
        if (k.s && json_object_setn_new(vocab, k.s, k.n, json_integer((json_int_t)i)) != 0) {
            json_decref(vocab);
            return assay_nomem(err);
        }
    }
    return set_new(model, "vocab", vocab, err);
}

typedef struct ranked_merge {
    uint32_t rank;
    int32_t left, right;
    uint32_t n_left, n_right; /* characters; 0 where ids alone decide */
} ranked_merge;

/* Equal ranks as transformers' conversions order them: of SentencePiece's pieces longer halves first; then as the vocabulary stands. */
static int by_rank(const void *a, const void *b) {
    const ranked_merge *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->n_left != y->n_left) return x->n_left > y->n_left ? -1 : 1;
    if (x->n_right != y->n_right) return x->n_right > y->n_right ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static bool has_place(const writer *w, int32_t id) {
    return (size_t)id < w->n_model && !(w->t->bpe.unused && w->t->bpe.unused[id]);
}

static assay_status list_merges(ranked_merge **out, size_t *n, const writer *w, assay_err *err) {
    const assay_bpe *b = &w->t->bpe;
    ranked_merge *v = assay_mallocn(b->merges.n_slots ? b->merges.n_slots : 1, sizeof *v);
    size_t count = 0;
    if (!v) return assay_nomem(err);
    for (size_t i = 0; i < b->merges.n_slots; i++) {
        const assay_merge *m = &b->merges.slots[i];
        int32_t left = (int32_t)(m->key >> 32), right = (int32_t)(uint32_t)m->key;
        if (m->key == UINT64_MAX || !has_place(w, left) || !has_place(w, right) || !has_place(w, m->id)) continue;
        const assay_token_text *l = &b->vocab.by_id[left], *r = &b->vocab.by_id[right];
        v[count++] = (ranked_merge){m->rank, left, right, b->pieces ? (uint32_t)assay_utf8_count(l->s, l->n) : 0,
                                    b->pieces ? (uint32_t)assay_utf8_count(r->s, r->n) : 0};
    }
    qsort(v, count, sizeof *v, by_rank);
    *out = v;
    *n = count;
    return ASSAY_OK;
}

/* "left right", which every version reads; where a half has a space itself, a pair. */
static json_t *merge_json(assay_str *both, const assay_token_text *l, const assay_token_text *r) {
    if (memchr(l->s, ' ', l->n) || memchr(r->s, ' ', r->n)) return json_pack("[s%, s%]", l->s, (size_t)l->n, r->s, (size_t)r->n);
    assay_str_clear(both);
    assay_str_putn(both, l->s, l->n);
    assay_str_putc(both, ' ');
    assay_str_putn(both, r->s, r->n);
    return both->failed ? NULL : json_stringn_nocheck(both->s, both->len);
}

static assay_status put_merges(json_t *model, const writer *w, assay_err *err) {
    ranked_merge *v = NULL;
    assay_str both = {0};
    size_t n = 0;
    const assay_vocab *vocab = &w->t->bpe.vocab;
    json_t *list = json_array();
    assay_status s = list ? list_merges(&v, &n, w, err) : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < n; i++)
        s = append_new(list, merge_json(&both, &vocab->by_id[v[i].left], &vocab->by_id[v[i].right]), err);
    assay_str_free(&both);
    assay_free(v);
    if (s != ASSAY_OK) {
        json_decref(list);
        return s;
    }
    return set_new(model, "merges", list, err);
}

static assay_status put_bpe(json_t *model, const writer *w, assay_err *err) {
    const assay_bpe *b = &w->t->bpe;
    json_t *head = json_pack("{s:s, s:n, s:o, s:s?, s:s?, s:b, s:b, s:b}", "type", "BPE", "dropout", "unk_token",
                             b->unk >= 0 ? text_json(w->t->tokens[b->unk].content) : json_null(), "continuing_subword_prefix",
                             b->prefix, "end_of_word_suffix", b->suffix, "fuse_unk", b->fuse_unk || b->pieces, "byte_fallback",
                             b->byte_fallback, "ignore_merges", b->ignore_merges);
    int bad = head ? json_object_update(model, head) : -1;
    json_decref(head);
    if (bad) return assay_nomem(err);
    ASSAY_TRY(put_vocab(model, w, err));
    return put_merges(model, w, err);
}

static assay_status put_unigram(json_t *model, const writer *w, assay_err *err) {
    const assay_unigram *u = &w->t->unigram;
    json_t *vocab = json_array();
    char name[32];
    ASSAY_TRY(set_new(model, "type", json_string("Unigram"), err));
    ASSAY_TRY(set_new(model, "unk_id", u->unk >= 0 ? json_integer(u->unk) : json_null(), err));
    ASSAY_TRY(set_new(model, "byte_fallback", json_boolean(u->byte_fallback), err));
    ASSAY_TRY(set_new(model, "vocab", vocab, err));
    for (size_t i = 0; i < w->n_model; i++) {
        assay_token_text k = model_text(name, w, i);
        ASSAY_TRY(append_new(vocab, json_pack("[s%, f]", k.s ? k.s : "", (size_t)k.n, u->scores[i]), err));
    }
    return ASSAY_OK;
}

/* ---- steps ---- */

static assay_status put_sequence(json_t *o, const char *key, const char *members, json_t *list, assay_err *err) {
    size_t n = json_array_size(list);
    json_t *v = n == 0   ? json_null()
                : n == 1 ? json_incref(json_array_get(list, 0))
                         : json_pack("{s:s, s:O}", "type", "Sequence", members, list);
    return set_new(o, key, v, err);
}

static assay_status put_steps(json_t *o, const char *key, const char *members, const assay_step_list *steps, assay_err *err) {
    json_t *list = json_array();
    assay_status s = list ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < steps->n; i++) s = append_new(list, json_incref(steps->v[i].json), err);
    if (s == ASSAY_OK) s = put_sequence(o, key, members, list, err);
    json_decref(list);
    return s;
}

static json_t *replace_json(const char *kind, const char *pattern, const char *content) {
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, pattern, "content", content);
}

static assay_status put_charsmap(json_t *list, const assay_charsmap *map, assay_err *err) {
    assay_str text = {0};
    if (!map->blob) return ASSAY_OK;
    assay_base64_put(&text, map->blob, map->n_blob);
    assay_status s = assay_str_status(&text, err);
    if (s == ASSAY_OK)
        s = append_new(list, json_pack("{s:s, s:s}", "type", "Precompiled", "precompiled_charsmap", assay_str_c(&text)), err);
    assay_str_free(&text);
    return s;
}

/* What SentencePiece does before its model, in its order. */
static assay_status put_spm_normalizer(json_t *o, const assay_spm_rules *r, assay_err *err) {
    json_t *list = json_array();
    assay_status s = list ? ASSAY_OK : assay_nomem(err);
    ASSAY_GO(s);
    ASSAY_GO(put_charsmap(list, &r->map, err));
    if (r->trim) {
        ASSAY_GO(append_new(list, replace_json("Regex", "\\A +| +\\z", ""), err));
        ASSAY_GO(append_new(list, replace_json("Regex", " {2,}", " "), err));
    }
    if (r->prefix) ASSAY_GO(append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", META), err));
    ASSAY_GO(append_new(list, replace_json("String", " ", META), err));
    s = put_sequence(o, "normalizer", "normalizers", list, err);
out:
    json_decref(list);
    return s;
}

/* True when no token of the model goes on behind a space, so that words are independent. */
static bool words_are_apart(const writer *w) {
    const assay_tokenizer *t = w->t;
    for (size_t i = 0; i < w->n_model; i++) {
        const assay_token_text *k = &t->pieces.by_id[i];
        if (t->types[i] == ASSAY_TOKEN_NORMAL && k->n > 3 && memmem(k->s + 1, k->n - 1, META, 3)) return false;
    }
    return true;
}

static assay_status put_all_steps(json_t *o, const writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    if (!t->is_spm) {
        ASSAY_TRY(put_steps(o, "normalizer", "normalizers", &t->normalizers, err));
        ASSAY_TRY(put_steps(o, "pre_tokenizer", "pretokenizers", &t->pre_tokenizers, err));
    } else {
        bool split = t->kind == ASSAY_MODEL_UNIGRAM && words_are_apart(w);
        ASSAY_TRY(put_spm_normalizer(o, &t->spm, err));
        ASSAY_TRY(set_new(o, "pre_tokenizer",
                          split ? json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", META, "prepend_scheme", "never",
                                            "split", 1)
                                : json_null(),
                          err));
    }
    return put_steps(o, "decoder", "decoders", &t->decoders, err);
}

/* ---- added tokens and what stands around a text ---- */

static json_t *flags_json(const assay_added_token *a) {
    return json_pack("{s:s%, s:b, s:b, s:b, s:b, s:b}", "content", a->content, a->n, "single_word", a->single_word, "lstrip", a->lstrip,
                     "rstrip", a->rstrip, "normalized", a->normalized, "special", a->special);
}

static assay_status put_added(json_t *o, const writer *w, assay_err *err) {
    json_t *list = json_array();
    ASSAY_TRY(set_new(o, "added_tokens", list, err));
    for (size_t i = 0; i < w->n_added; i++) {
        json_t *head = json_pack("{s:i}", "id", (int)w->added[i]->id), *flags = flags_json(w->added[i]);
        int bad = head && flags ? json_object_update(head, flags) : -1;
        json_decref(flags);
        if (bad) {
            json_decref(head);
            return assay_nomem(err);
        }
        ASSAY_TRY(append_new(list, head, err));
    }
    return ASSAY_OK;
}

/* The tokens of ids as members of a template, and in the table of its special tokens. */
static assay_status put_specials(json_t *single, json_t *pair, json_t *table, const assay_tokenizer *t, const assay_ids *ids, int type,
                                 assay_err *err) {
    for (size_t i = 0; i < ids->n; i++) {
        json_t *name = text_json(t->tokens[ids->v[i]].content);
        json_t *piece = json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", name, "type_id", type);
        json_t *entry = json_pack("{s:O, s:[i], s:[O]}", "id", name, "ids", (int)ids->v[i], "tokens", name);
        assay_status s = !name || !piece || !entry || (single && json_array_append(single, piece)) || json_array_append(pair, piece) ||
                                 json_object_setn(table, json_string_value(name), json_string_length(name), entry)
                             ? assay_nomem(err)
                             : ASSAY_OK;
        json_decref(name);
        json_decref(piece);
        json_decref(entry);
        ASSAY_TRY(s);
    }
    return ASSAY_OK;
}

static json_t *sequence_json(const char *id, int type) {
    return json_pack("{s:{s:s, s:i}}", "Sequence", "id", id, "type_id", type);
}

static assay_status put_template(json_t *o, const assay_tokenizer *t, assay_err *err) {
    json_t *single = json_array(), *pair = json_array(), *table = json_object();
    assay_status s = single && pair && table ? ASSAY_OK : assay_nomem(err);
    ASSAY_GO(s);
    ASSAY_GO(put_specials(single, pair, table, t, &t->before, 0, err));
    ASSAY_GO(append_new(single, sequence_json("A", 0), err));
    ASSAY_GO(append_new(pair, sequence_json("A", 0), err));
    ASSAY_GO(put_specials(single, pair, table, t, &t->after, 0, err));
    ASSAY_GO(put_specials(NULL, pair, table, t, &t->before, 1, err));
    ASSAY_GO(append_new(pair, sequence_json("B", 1), err));
    ASSAY_GO(put_specials(NULL, pair, table, t, &t->after, 1, err));
    s = set_new(o, "post_processor",
                json_pack("{s:s, s:O, s:O, s:O}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", table),
                err);
out:
    json_decref(single);
    json_decref(pair);
    json_decref(table);
    return s;
}

/* ---- both files ---- */

static assay_status refuse(const char *what, assay_err *err) {
    return assay_fail(err, ASSAY_EUNSUPPORTED, "tokenizer.json cannot say %s", what);
}

static assay_status check(const assay_tokenizer *t, assay_err *err) {
    if (!t->is_spm) return ASSAY_OK;
    if (t->spm.suffix) return refuse("white space as a suffix", err);
    if (t->spm.keep_spaces) return refuse("spaces that are not escaped", err);
    if (t->spm.prefix && t->spm.prefix_first) return refuse("a prefix for the first text alone", err);
    if (t->user.n) return refuse("user-defined symbols of SentencePiece", err);
    return ASSAY_OK;
}

static assay_status write_tokenizer(json_t **out, const writer *w, assay_err *err) {
    const assay_tokenizer *t = w->t;
    json_t *model = json_object();
    json_t *o = json_pack("{s:s, s:n, s:n}", "version", "1.0", "truncation", "padding");
    assay_status s = o && model ? ASSAY_OK : assay_nomem(err);
    ASSAY_GO(s);
    ASSAY_GO(put_added(o, w, err));
    ASSAY_GO(put_all_steps(o, w, err));
    if (t->before.n || t->after.n)
        ASSAY_GO(put_template(o, t, err));
    else
        ASSAY_GO(set_new(o, "post_processor", json_null(), err));
    ASSAY_GO(t->kind == ASSAY_MODEL_UNIGRAM ? put_unigram(model, w, err) : put_bpe(model, w, err));
    ASSAY_GO(set_new(o, "model", json_incref(model), err));
    *out = o;
    o = NULL;
out:
    json_decref(model);
    json_decref(o);
    return s;
}

static assay_status put_name(json_t *o, const char *key, const assay_tokenizer *t, int32_t id, assay_err *err) {
    if (id < 0 || (size_t)id >= t->n_tokens || !t->tokens[id].content.s) return ASSAY_OK;
    return set_new(o, key, text_json(t->tokens[id].content), err);
}

/* Leaves every decision to tokenizer.json: the class is the one that adds nothing of its own. */
static assay_status write_config(json_t **out, const writer *w, assay_token_text chat_template, assay_err *err) {
    const assay_tokenizer *t = w->t;
    json_t *decoder = json_object();
    json_t *o = json_pack("{s:b, s:b}", "add_bos_token", t->before.n > 0, "add_eos_token", t->after.n > 0);
    char id[16];
    assay_status s = o && decoder ? ASSAY_OK : assay_nomem(err);
    ASSAY_GO(s);
    for (size_t i = 0; i < w->n_added; i++) {
        snprintf(id, sizeof id, "%d", (int)w->added[i]->id);
        ASSAY_GO(set_new(decoder, id, flags_json(w->added[i]), err));
    }
    ASSAY_GO(set_new(o, "added_tokens_decoder", json_incref(decoder), err));
    ASSAY_GO(put_name(o, "bos_token", t, t->bos, err));
    if (chat_template.s) ASSAY_GO(set_new(o, "chat_template", json_stringn(chat_template.s, chat_template.n), err));
    ASSAY_GO(set_new(o, "clean_up_tokenization_spaces", json_false(), err));
    ASSAY_GO(put_name(o, "eos_token", t, t->eos, err));
    ASSAY_GO(put_name(o, "pad_token", t, t->pad, err));
    ASSAY_GO(put_name(o, "unk_token", t, t->unk, err));
    ASSAY_GO(set_new(o, "tokenizer_class", json_string("PreTrainedTokenizerFast"), err));
    *out = o;
    o = NULL;
out:
    json_decref(decoder);
    json_decref(o);
    return s;
}

assay_status assay_tokenizer_to_hf(json_t **tokenizer, json_t **config, const assay_tokenizer *t, assay_token_text chat_template,
                                   assay_err *err) {
    writer w = {.t = t};
    json_t *first = NULL;
    assay_status s;
    ASSAY_GO(check(t, err));
    ASSAY_GO(sort_added(&w, err));
    find_model_end(&w);
    ASSAY_GO(write_tokenizer(&first, &w, err));
    ASSAY_GO(write_config(config, &w, chat_template, err));
    *tokenizer = first;
    first = NULL;
out:
    json_decref(first);
    assay_free(w.added);
    return s;
}
