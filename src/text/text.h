/* text/text.h: bytes <-> token ids, and chat templates. Tokenizers follow Hugging Face's tokenizer.json, SentencePiece's
 * tokenizer.model or GGUF's metadata exactly; templates are the Jinja subset that real models use. Everything here is immutable
 * after opening and safe to share between threads. */
#ifndef ASSAY_TEXT_H
#define ASSAY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"

typedef struct assay_tokenizer assay_tokenizer;

/* A string that need not end in a NUL. */
typedef struct assay_token_text {
    const char *s; /* NULL: there is none */
    uint32_t n;
} assay_token_text;

/* Reads DIR/tokenizer.json; without one DIR/tokenizer.model (SentencePiece's protobuf, or Llama 3's list for tiktoken), with the added tokens of
 * tokenizer_config.json, added_tokens.json and special_tokens_map.json; or the metadata of a GGUF file, which dir names or which
 * alone lies in it. bos and eos are named by tokenizer_config.json or
 * special_tokens_map.json, when there. ENOTFOUND, EINPUT, EUNSUPPORTED name file and key. */
assay_status assay_tokenizer_open(assay_tokenizer **out, const char *dir, assay_err *err);
/* From the JSON's text alone (fuzzing, tests). config may be NULL. */
assay_status assay_tokenizer_parse(assay_tokenizer **out, const char *json, size_t n, const char *config, size_t n_config,
                                   const char *name, assay_err *err);
/* From the bytes of a tokenizer.model, and tokenizer_config.json's text (NULL: none). A list for tiktoken may have any number of ranks
 * here, and counts as Llama 3's. */
assay_status assay_tokenizer_parse_model(assay_tokenizer **out, const void *model, size_t n, const char *config, size_t n_config,
                                         const char *name, assay_err *err);
void assay_tokenizer_close(assay_tokenizer *t);

/* ids of text; *ids is owned by the caller (assay_free). add_special applies the post-processor (BOS...); special tokens written
 * out in the text are recognised when parse_special. Any bytes are accepted; invalid UTF-8 is replaced as the original's
 * callers would (U+FFFD) . */
assay_status assay_tokenizer_encode(int32_t **ids, size_t *n_ids, const assay_tokenizer *t, const char *text, size_t n,
                                    bool add_special, bool parse_special, assay_err *err);
/* Appends the text of ids to out. skip_special leaves special tokens out. Ids out of range: EINPUT. */
assay_status assay_tokenizer_decode(assay_str *out, const assay_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, assay_err *err);

/* Streaming: push one id at a time, get the text that became certain (whole UTF-8 characters only); finish flushes. */
typedef struct assay_detok assay_detok;
assay_status assay_detok_new(assay_detok **out, const assay_tokenizer *t, bool skip_special, assay_err *err);
assay_status assay_detok_push(assay_detok *d, assay_str *out, int32_t id, assay_err *err);
assay_status assay_detok_finish(assay_detok *d, assay_str *out, assay_err *err);
void assay_detok_free(assay_detok *d);

int32_t assay_tokenizer_n_vocab(const assay_tokenizer *t);              /* highest id + 1, added tokens included */
int32_t assay_tokenizer_bos(const assay_tokenizer *t);                  /* -1 when there is none */
int32_t assay_tokenizer_eos(const assay_tokenizer *t);
int32_t assay_tokenizer_find(const assay_tokenizer *t, const char *token);  /* id of a token's text, or -1 */
const char *assay_tokenizer_token(const assay_tokenizer *t, int32_t id);    /* as in the vocabulary (byte-level alphabet); NULL out of range */
bool assay_tokenizer_is_special(const assay_tokenizer *t, int32_t id);
const char *assay_tokenizer_hash(const assay_tokenizer *t);             /* SHA-256 hex of tokenizer.json's or tokenizer.model's bytes; borrowed */

/* --- a tokenizer as GGUF's metadata holds it --- */
typedef struct assay_template assay_template;

typedef enum assay_token_type { /* the values of tokenizer.ggml.token_type and of SentencePiece */
    ASSAY_TOKEN_NORMAL = 1,
    ASSAY_TOKEN_UNKNOWN = 2,
    ASSAY_TOKEN_CONTROL = 3,
    ASSAY_TOKEN_USER_DEFINED = 4,
    ASSAY_TOKEN_UNUSED = 5,
    ASSAY_TOKEN_BYTE = 6
} assay_token_type;

typedef enum assay_flag { ASSAY_FLAG_ABSENT, ASSAY_FLAG_FALSE, ASSAY_FLAG_TRUE } assay_flag;

/* One member per key "tokenizer.ggml.NAME" (and "tokenizer.chat_template"); absent keys are NULL, 0 or ASSAY_FLAG_ABSENT, absent ids -1
 * (start from ASSAY_GGUF_VOCAB_INIT). Pointers are borrowed, except in what assay_tokenizer_to_gguf made: there `memory` owns them. */
typedef struct assay_gguf_vocab {
    assay_token_text model; /* "gpt2" (byte-level BPE), "llama" (SentencePiece BPE), "t5" (Unigram) */
    assay_token_text pre;   /* the pre-tokenizer's name, for "gpt2" */
    const assay_token_text *tokens;
    size_t n_tokens;
    const float *scores;         /* n_tokens, or NULL */
    const int32_t *types;        /* token_type: n_tokens of assay_token_type, or NULL: all normal */
    const assay_token_text *merges; /* "left right" */
    size_t n_merges;
    int32_t bos, eos, unk, sep, pad; /* bos_token_id, eos_token_id, unknown_token_id, seperator_token_id, padding_token_id */
    assay_flag add_bos, add_eos;     /* add_bos_token, add_eos_token */
    assay_flag add_space_prefix, remove_extra_whitespaces;
    const void *charsmap; /* precompiled_charsmap */
    size_t n_charsmap;
    assay_token_text chat_template; /* tokenizer.chat_template */
    struct assay_arena_block *memory;
} assay_gguf_vocab;
#define ASSAY_GGUF_VOCAB_INIT {.bos = -1, .eos = -1, .unk = -1, .sep = -1, .pad = -1}

/* From a GGUF's metadata; v need not outlive the call. EUNSUPPORTED names an unknown model or pre-tokenizer, EINPUT what is missing
 * or broken. The chat template is not read here: assay_template_parse takes it. */
assay_status assay_tokenizer_from_gguf(assay_tokenizer **out, const assay_gguf_vocab *v, assay_err *err);
/* The reverse, for writing a GGUF. Ids without a token up to n_vocab (the embedding's rows; 0: no more than there are) become unused
 * "[PADn]". tmpl may be NULL. EUNSUPPORTED when llama.cpp has no such tokenizer: a pre-tokenizer without a name, a normalizer
 * that it does not run. */
assay_status assay_tokenizer_to_gguf(assay_gguf_vocab *out, const assay_tokenizer *t, const assay_template *tmpl, size_t n_vocab,
                                     assay_err *err);
void assay_gguf_vocab_free(assay_gguf_vocab *v); /* what assay_tokenizer_to_gguf made; NULL and all-zero are fine */

/* --- chat templates --- */
/* Parses; EINPUT with line of the template, EUNSUPPORTED naming the construct. */
assay_status assay_template_parse(assay_template **out, const char *text, size_t n, assay_err *err);
/* From DIR/chat_template.jinja or tokenizer_config.json's chat_template (a string, or a list with name "default"), or a GGUF file's
 * metadata.
 * ENOTFOUND when the model has none. */
assay_status assay_template_open(assay_template **out, const char *dir, assay_err *err);
void assay_template_close(assay_template *t);
const char *assay_template_hash(const assay_template *t);               /* SHA-256 hex of its text; borrowed */
const char *assay_template_text(const assay_template *t);               /* as it was given; borrowed */
/* Renders with messages (JSON array of {role, content, ...}), tools (array or NULL), add_generation_prompt, and the extra
 * variables of `vars` (JSON object or NULL; bos_token and eos_token are set by the tokenizer when t is given). An integer "$now" among
 * them, seconds since the epoch, is what strftime_now tells, in UTC, instead of the clock's local time. raise_exception in
 * the template is EINPUT with its message. Appends to out. Bounded in time and output (64 MiB). */
assay_status assay_template_render(assay_str *out, const assay_template *t, const assay_tokenizer *tok, const json_t *messages,
                                   const json_t *tools, bool add_generation_prompt, const json_t *vars, assay_err *err);

#endif
