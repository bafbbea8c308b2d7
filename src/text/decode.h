/* text/decode.h: tokens to text, as a chain of stages that hold back only what is not yet certain. */
#ifndef ASSAY_TEXT_DECODE_H
#define ASSAY_TEXT_DECODE_H

#include "text/steps.h"

typedef struct assay_chain assay_chain;

/* One chain decodes one sequence. `decoders` is borrowed. No decoders: tokens are joined with spaces. */
assay_status assay_chain_new(assay_chain **out, const assay_step_list *decoders, assay_err *err);
/* One token's string; text that became certain is appended to out. */
assay_status assay_chain_token(assay_chain *c, assay_str *out, const char *s, size_t n, assay_err *err);
/* The end of the sequence: what was held back. The chain is spent then. */
assay_status assay_chain_finish(assay_chain *c, assay_str *out, assay_err *err);
void assay_chain_free(assay_chain *c);

#endif
