/* text/tiktoken.h: Llama 3's tokenizer.model, which is tiktoken's list of tokens and ranks. */
#ifndef ASSAY_TEXT_TIKTOKEN_H
#define ASSAY_TEXT_TIKTOKEN_H

#include "text/spm_model.h"

/* Does this look like such a list (a base64 string, a space, a number)? */
bool assay_tiktoken_is(const void *data, size_t n);
/* Fills the empty t from the file's bytes. */
assay_status assay_tiktoken_read(assay_tokenizer *t, const void *data, size_t n, const assay_spm_config *c, const char *where, assay_err *err);

#endif
