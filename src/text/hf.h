/* text/hf.h: a tokenizer as the files that Hugging Face's libraries load: tokenizer.json and tokenizer_config.json. */
#ifndef ASSAY_TEXT_HF_H
#define ASSAY_TEXT_HF_H

#include "text/text.h"

/* Both files of a tokenizer that was opened from anything, as new references; without a template chat_template is all zero.
 * EUNSUPPORTED names what tokenizer.json cannot say: SentencePiece's white space as a suffix or not escaped, its user-defined symbols, a
 * prefix for the first text alone. */
assay_status assay_tokenizer_to_hf(json_t **tokenizer, json_t **config, const assay_tokenizer *t, assay_token_text chat_template,
                                   assay_err *err);

/* Writes DIR/tokenizer.json, DIR/tokenizer_config.json and, where more than one token ends an answer, DIR/generation_config.json for the
 * GGUF file that `path` is or holds. ENOTFOUND when there is no such file, or no tokenizer in it; EUNSUPPORTED when it is none that is
 * read here; then nothing is written. */
assay_status assay_gguf_write_hf(const char *dir, const char *path, assay_err *err);

#endif
