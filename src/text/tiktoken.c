/* tiktoken.c: the tokenizer.model that Meta's Llama 3 comes with: tiktoken's form, one token a line,
 *
 *   base64 of the token's bytes | ' ' | rank | '\n'
 *
 * A token's rank is its id. Any two neighbours whose concatenation is a token merge, the lowest rank first, then the leftmost: all such
 * pairs are found beforehand and share their token's rank. A word that is a token is not merged.
 *
 * The file has neither the pattern nor the special tokens; they are Meta's published ones (llama_models, tokenizer.py): the pattern
 * stands in pre.def, 256 special tokens follow the ranks. Llama 3.1 named some of those that 3 kept in reserve, under the same list of
 * ranks: the names are those of 3.1 when config.json or params.json beside the file scales the rotary embedding, as all later ones do;
 * tokenizer_config.json's added_tokens_decoder has the last word. Other models' lists (Llama 4, Qwen, Kimi) have other patterns; with
 * another number of ranks than Llama 3's the file is refused. */
#include "text/tiktoken.h"

#include <stdio.h>
#include <string.h>
#include "base/utf8.h"
#include "text/base64.h"
#include "text/pre.h"

#define LLAMA3_RANKS 128000
#define MAX_TOKEN    256 /* bytes; Llama 3's longest has 128. All its halves are looked up */

/* The special tokens in the order of their ids; NULL: the next of <|reserved_special_token_N|>, as are those to the end. */
#define N_SPECIAL 256
static const char *const LLAMA_3[] = {"<|begin_of_text|>",   "<|end_of_text|>",   NULL, NULL, NULL, NULL,
                                      "<|start_header_id|>", "<|end_header_id|>", NULL, "<|eot_id|>"};
static const char *const LLAMA_3_1[] = {"<|begin_of_text|>",   "<|end_of_text|>",   NULL,        NULL,        "<|finetune_right_pad_id|>", NULL,
                                        "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"};

bool assay_tiktoken_is(const void *data, size_t n) {
    const char *s = data;
    size_t i = 0;
    while (i < n && i < ASSAY_BASE64_SIZE(MAX_TOKEN) && s[i] > ' ' && s[i] < 0x7F) i++;
    return i > 0 && i + 1 < n && s[i] == ' ' && s[i + 1] >= '0' && s[i + 1] <= '9';
}

/* ---- the list ---- */

typedef struct list {
    assay_tokenizer *t;
    const char *where;
    size_t line; /* from 1 */
    assay_str text;
} list;

static assay_status broken(const list *l, const char *what, assay_err *err) {
    return assay_fail(err, ASSAY_EINPUT, "%s: line %zu %s", l->where, l->line, what);
}

static bool parse_rank(int64_t *rank, const char *s, size_t n) {
    *rank = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || *rank > ASSAY_VOCAB_MAX_ID) return false;
        *rank = *rank * 10 + (s[i] - '0');
    }
    return n > 0;
}

static assay_status add_line(list *l, const char *s, size_t n, assay_err *err) {
    assay_vocab *v = &l->t->bpe.vocab;
    unsigned char bytes[ASSAY_BASE64_ROOM(ASSAY_BASE64_SIZE(MAX_TOKEN))];
    const char *gap = memchr(s, ' ', n);
    size_t n_token = gap ? (size_t)(gap - s) : n, n_bytes;
    int64_t rank;
    if (!gap || !parse_rank(&rank, gap + 1, n - n_token - 1)) return broken(l, "is no token with a rank", err);
    if (n_token > ASSAY_BASE64_SIZE(MAX_TOKEN)) return broken(l, "has a token that is too long", err);
    if (!assay_base64_decode(bytes, &n_bytes, s, n_token) || n_bytes == 0) return broken(l, "is not base64", err);
    assay_str_clear(&l->text);
    for (size_t i = 0; i < n_bytes; i++) assay_utf8_put(&l->text, assay_byte_to_char(bytes[i]));
    ASSAY_TRY(assay_str_status(&l->text, err));
    if (assay_vocab_find(v, l->text.s, l->text.len) >= 0) return broken(l, "has a token that was there before", err);
    if ((size_t)rank < v->n_ids && v->by_id[rank].s) return broken(l, "has a rank that was there before", err);
    return assay_vocab_add(v, l->text.s, l->text.len, rank, err);
}

static assay_status read_lines(list *l, const char *s, size_t n, assay_err *err) {
    for (const char *end = s + n, *next; s < end; s = next) {
        const char *eol = memchr(s, '\n', (size_t)(end - s));
        next = eol ? eol + 1 : end;
        if (!eol) eol = end;
        l->line++;
        if (eol > s && eol[-1] == '\r') eol--;
        if (eol > s) ASSAY_TRY(add_line(l, s, (size_t)(eol - s), err));
    }
    return ASSAY_OK;
}

/* Every rank up to the last has its token. */
static assay_status check_list(const list *l, bool must_be_llama3, assay_err *err) {
    const assay_vocab *v = &l->t->bpe.vocab;
    if (v->n_keys != v->n_ids)
        return assay_fail(err, ASSAY_EINPUT, "%s: the highest of %zu ranks is %zu", l->where, v->n_keys, v->n_ids ? v->n_ids - 1 : 0);
    if (must_be_llama3 && v->n_ids != LLAMA3_RANKS)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s is a list of %zu ranks for tiktoken, without pattern and special tokens: only Llama 3's, of %d, is known; use "
                          "the model's tokenizer.json",
                          l->where, v->n_ids, LLAMA3_RANKS);
    return ASSAY_OK;
}

/* Every byte is a token, so that any text can be encoded. */
static assay_status check_bytes(const assay_bpe *b, const char *where, assay_err *err) {
    for (int byte = 0; byte < 256; byte++)
        if (b->direct[assay_byte_to_char((unsigned char)byte)] < 0)
            return assay_fail(err, ASSAY_EINPUT, "%s: the byte 0x%02X has no rank", where, (unsigned)byte);
    return ASSAY_OK;
}

/* ---- special tokens ---- */

static bool is_scaled(const json_t *config, const json_t *params) {
    const json_t *scaling = json_object_get(config, "rope_scaling");
    return json_is_object(scaling) || json_is_true(json_object_get(params, "use_scaled_rope"));
}

static assay_status add_specials(assay_tokenizer *t, const assay_spm_config *c, const char *where, assay_err *err) {
    bool later = is_scaled(c->model, c->params);
    const char *const *names = later ? LLAMA_3_1 : LLAMA_3;
    size_t n_names = later ? ASSAY_LEN(LLAMA_3_1) : ASSAY_LEN(LLAMA_3), first = t->bpe.vocab.n_ids;
    const json_t *decoder = json_object_get(c->config, "added_tokens_decoder");
    int reserved = 0;
    for (size_t i = 0; i < N_SPECIAL; i++) {
        char own[40], key[24];
        const char *name = i < n_names ? names[i] : NULL;
        if (!name) snprintf(own, sizeof own, "<|reserved_special_token_%d|>", reserved++);
        snprintf(key, sizeof key, "%zu", first + i);
        const json_t *given = json_object_get(decoder, key);
        assay_added_token a = {.content = name ? (char *)(uintptr_t)name : own, .id = (int32_t)(first + i), .special = true}; /* copied */
        a.n = strlen(a.content);
        if (given) ASSAY_TRY(assay_spm_parse_added(&a, json_object_get(given, "content"), given, where, err));
        if (assay_vocab_find(&t->added_ids, a.content, a.n) >= 0)
            return assay_fail(err, ASSAY_EINPUT, "%s: added token '%.60s' is there twice", where, a.content);
        ASSAY_TRY(assay_spm_add(t, &a, err));
    }
    return ASSAY_OK;
}

static assay_status read_config(assay_tokenizer *t, const json_t *config, const char *where, assay_err *err) {
    int32_t bos = assay_tokenizer_named(t, config, "bos_token"), eos = assay_tokenizer_named(t, config, "eos_token");
    t->bos = bos >= 0 ? bos : (int32_t)t->bpe.vocab.n_ids;
    t->eos = eos >= 0 ? eos : (int32_t)t->bpe.vocab.n_ids + 1;
    t->pad = assay_tokenizer_named(t, config, "pad_token");
    t->add_bos = true;
    ASSAY_TRY(assay_json_get_bool(&t->add_bos, config, "add_bos_token", where, err));
    return assay_json_get_bool(&t->add_eos, config, "add_eos_token", where, err);
}

assay_status assay_tiktoken_read(assay_tokenizer *t, const void *data, size_t n, const assay_spm_config *c, const char *where, assay_err *err) {
    list l = {.t = t, .where = where};
    assay_status s = read_lines(&l, data, n, err);
    if (s == ASSAY_OK) s = check_list(&l, c->whole, err);
    assay_str_free(&l.text);
    ASSAY_TRY(s);
    t->vocab = &t->bpe.vocab;
    ASSAY_TRY(assay_bpe_from_ranks(&t->bpe, err));
    ASSAY_TRY(check_bytes(&t->bpe, where, err));
    ASSAY_TRY(assay_tokenizer_byte_level(t, assay_pre_find((assay_token_text){"llama-bpe", 9}), err));
    ASSAY_TRY(add_specials(t, c, where, err));
    ASSAY_TRY(read_config(t, c->config, where, err));
    ASSAY_TRY(assay_tokenizer_index(t, err));
    return assay_tokenizer_wrap(t, err);
}
