/* pair.c: the split of a context and its continuation into ids; choice.c states the rules and their source. */
#include "eval/pair.h"

#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "eval/suite.h"
#include "text/unicode.h"

/* str.isspace: White_Space and the four separators U+001C to U+001F. */
static bool python_space(int32_t c) {
    return assay_char_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

size_t assay_pair_rstrip(const char *s, size_t n) {
    size_t k;
    while (n && python_space(assay_utf8_prev(&k, s, n))) n -= k;
    return n;
}

assay_status assay_prompt_encode(int32_t **ids, size_t *n_ids, const assay_eval_env *env, const char *text, size_t n, assay_err *err) {
    size_t k = env->prefix_text ? strlen(env->prefix_text) : 0;
    bool has_prefix = k && n >= k && !memcmp(text, env->prefix_text, k);
    return assay_tokenizer_encode(ids, n_ids, env->tokenizer, text, n, !env->suite->chat && !has_prefix, true, err);
}

/* Keeps the last context + 1 ids. `scored` of them, at the end, are scored. */
static assay_status add_window(assay_unit *u, const assay_eval_env *env, const int32_t *ids, size_t n, size_t scored, assay_err *err) {
    size_t keep = ASSAY_MIN(n, env->context + 1);
    if (!scored) return assay_unit_refuse(u, err, "a continuation adds no tokens to its context");
    if (scored >= keep)
        return assay_unit_refuse(u, err, "a continuation of %zu tokens leaves no room for its context (%zu)", scored, env->context);
    return assay_unit_add(u, ids + (n - keep), keep, keep - scored, err);
}

static assay_status plan_without_context(assay_unit *u, const assay_eval_env *env, const char *continuation, assay_err *err) {
    int32_t *ids = NULL, *all = NULL;
    size_t n = 0;
    assay_status s = ASSAY_OK;
    if (env->prefix < 0) return assay_unit_refuse(u, err, "an empty context needs a tokenizer with a BOS or EOS token");
    ASSAY_GO(assay_tokenizer_encode(&ids, &n, env->tokenizer, continuation, strlen(continuation), false, true, err));
    all = assay_mallocn(n + 1, sizeof *all);
    if (!all) ASSAY_GO(assay_nomem(err));
    all[0] = env->prefix;
    size_t have = n && ids[0] == env->prefix ? 1 : 0; /* the continuation brings the prefix itself */
    if (n) memcpy(all + 1 - have, ids, n * sizeof *ids);
    s = add_window(u, env, all, n + 1 - have, n - have, err);
out:
    assay_free(ids);
    assay_free(all);
    return s;
}

assay_status assay_pair_plan(assay_unit *u, const assay_eval_env *env, const char *context, const char *continuation, assay_err *err) {
    if (!*context) return plan_without_context(u, env, continuation, err);
    int32_t *whole = NULL, *head = NULL;
    size_t n_whole = 0, n_head = 0, n = assay_pair_rstrip(context, strlen(context));
    assay_str both = {0};
    assay_status s = ASSAY_OK;
    assay_str_put(&both, context);
    assay_str_put(&both, continuation);
    ASSAY_GO(assay_str_status(&both, err));
    ASSAY_GO(assay_prompt_encode(&whole, &n_whole, env, both.s, both.len, err));
    ASSAY_GO(assay_prompt_encode(&head, &n_head, env, context, n, err));
    if (!n_head) s = assay_unit_refuse(u, err, "the context has no tokens");
    else s = add_window(u, env, whole, n_whole, n_whole > n_head ? n_whole - n_head : 0, err);
out:
    assay_free(whole);
    assay_free(head);
    assay_str_free(&both);
    return s;
}
