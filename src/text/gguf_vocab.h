/* text/gguf_vocab.h: a vocabulary (text.h) out of a GGUF file's metadata and into it. */
#ifndef ASSAY_TEXT_GGUF_VOCAB_H
#define ASSAY_TEXT_GGUF_VOCAB_H

#include "base/gguf.h"
#include "text/text.h"

/* What the keys tokenizer.* say; texts are borrowed from g, lists are freed by assay_gguf_vocab_free. EINPUT names a list of another
 * type or length than the tokens. A file without a tokenizer is ENOTFOUND. */
assay_status assay_gguf_vocab_read(assay_gguf_vocab *out, const assay_gguf *g, assay_err *err);
/* Appends v as metadata; *n is increased by the number of values. */
void assay_gguf_vocab_put(assay_str *out, uint64_t *n, const assay_gguf_vocab *v);

/* The metadata that carry a model's tokenizer and chat template into a GGUF file, from what assay_tokenizer_open and assay_template_open
 * would open at `path`: another GGUF file's as they are, else the tokenizer's through assay_tokenizer_to_gguf (n_vocab as there). A model
 * without a chat template has none in the file. */
assay_status assay_gguf_vocab_carry(assay_str *out, uint64_t *n, const char *path, size_t n_vocab, assay_err *err);

#endif
