/* eval/windows.h: a document as lm-eval's disjoint rolling windows (utils.get_rolling_token_windows with context_len 1, then
 * make_disjoint_window): every token is predicted once.
 *
 *   first   input: prefix, t0 .. t(m-2)             predicts t0 .. t(m-1), m = min(tokens, length)
 *   next    input: the `length` tokens before its last predicted one; predicts the next min(left, length)
 *
 * so that a short last window still has a full context. The tokens are the tokenizer's own encoding of the document, BOS included
 * where it adds one (lm-eval then predicts that BOS behind the prefix, and so does this). */
#ifndef ASSAY_EVAL_WINDOWS_H
#define ASSAY_EVAL_WINDOWS_H

#include "eval/evaluator.h"

/* Adds the windows of text[0..n) to u as score requests. length 0 or more than the model's context: the context. */
assay_status assay_windows_plan(assay_unit *u, const assay_eval_env *env, const char *text, size_t n, int64_t length, assay_err *err);
/* Calls fn with one unit per document of l, planned so. */
assay_status assay_windows_expand(const struct assay_language *l, const assay_eval_env *env, int64_t length, assay_unit_fn fn, void *ctx,
                                  assay_err *err);
/* Tokens that the unit's requests score. */
size_t assay_unit_n_scored(const assay_unit *u);
/* Starts a unit for bytes [begin, end) of l, named "NAME/0007". */
assay_status assay_unit_of_text(assay_unit *u, const struct assay_language *l, size_t index, size_t begin, size_t end, assay_err *err);

#endif
