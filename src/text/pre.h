/* text/pre.h: pre-tokenizers by the name that GGUF gives them. */
#ifndef ASSAY_TEXT_PRE_H
#define ASSAY_TEXT_PRE_H

#include "text/steps.h"
#include "text/text.h"

typedef struct assay_pre assay_pre; /* a row of pre.def */

/* By name; NULL when there is none. No name is "default", as in llama.cpp. */
const assay_pre *assay_pre_find(assay_token_text name);
/* The first row with exactly these steps; NULL when there is none. */
const assay_pre *assay_pre_recognize(const assay_step_list *steps, bool whole_words);

/* The name to write; borrowed, not NUL-terminated. */
assay_token_text assay_pre_name(const assay_pre *p);
bool assay_pre_whole_words(const assay_pre *p);
bool assay_pre_adds_bos(const assay_pre *p);
/* Appends its steps. */
assay_status assay_pre_steps(assay_step_list *out, const assay_pre *p, assay_err *err);

#endif
