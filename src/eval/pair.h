/* eval/pair.h: (context, continuation) -> ids and where scoring begins, as lm-eval's _encode_pair has it. See choice.c. */
#ifndef ASSAY_EVAL_PAIR_H
#define ASSAY_EVAL_PAIR_H

#include "eval/evaluator.h"

/* Adds the request for log p(continuation | context) to u; a pair that cannot be scored refuses the unit instead. Behind a chat
 * template (env->suite->chat) the text holds its special tokens already; otherwise the tokenizer adds its own. */
assay_status assay_pair_plan(assay_unit *u, const assay_eval_env *env, const char *context, const char *continuation, assay_err *err);

/* Bytes of s without the white space (as Python's str.rstrip sees it) at its end. */
size_t assay_pair_rstrip(const char *s, size_t n);

/* Encodes as lm-eval's tok_encode: special tokens that the text spells out are recognised, and without a chat template the tokenizer
 * adds its own, unless the text begins with the prefix token already. */
assay_status assay_prompt_encode(int32_t **ids, size_t *n_ids, const assay_eval_env *env, const char *text, size_t n, assay_err *err);

#endif
