/* text/text.h: bytes <-> token ids, and chat templates. Tokenizers follow Hugging Face's tokenizer.json exactly; templates are the
 * Jinja subset that real models use. Everything here is immutable after opening and safe to share between threads. */
#ifndef ASSAY_TEXT_H
#define ASSAY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"

typedef struct assay_tokenizer assay_tokenizer;

/* Reads DIR/tokenizer.json (and DIR/tokenizer_config.json for bos/eos names, when there). ENOTFOUND, EINPUT, EUNSUPPORTED name
 * file and key. */
assay_status assay_tokenizer_open(assay_tokenizer **out, const char *dir, assay_err *err);
/* From the JSON's text alone (fuzzing, tests). config may be NULL. */
assay_status assay_tokenizer_parse(assay_tokenizer **out, const char *json, size_t n, const char *config, size_t n_config,
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
const char *assay_tokenizer_hash(const assay_tokenizer *t);             /* SHA-256 hex of tokenizer.json's bytes; borrowed */

/* --- chat templates --- */
typedef struct assay_template assay_template;
/* Parses; EINPUT with line of the template, EUNSUPPORTED naming the construct. */
assay_status assay_template_parse(assay_template **out, const char *text, size_t n, assay_err *err);
/* From DIR/chat_template.jinja or tokenizer_config.json's chat_template (a string, or a list with name "default").
 * ENOTFOUND when the model has none. */
assay_status assay_template_open(assay_template **out, const char *dir, assay_err *err);
void assay_template_close(assay_template *t);
const char *assay_template_hash(const assay_template *t);               /* SHA-256 hex of its text; borrowed */
/* Renders with messages (JSON array of {role, content, ...}), tools (array or NULL), add_generation_prompt, and the extra
 * variables of `vars` (JSON object or NULL; bos_token and eos_token are set by the tokenizer when t is given). An integer "$now" among
 * them, seconds since the epoch, is what strftime_now tells, in UTC, instead of the clock's local time. raise_exception in
 * the template is EINPUT with its message. Appends to out. Bounded in time and output (64 MiB). */
assay_status assay_template_render(assay_str *out, const assay_template *t, const assay_tokenizer *tok, const json_t *messages,
                                   const json_t *tools, bool add_generation_prompt, const json_t *vars, assay_err *err);

#endif
