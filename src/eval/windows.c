/* windows.c: documents cut into windows; windows.h has the picture. */
#include "eval/windows.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "eval/suite.h"

size_t assay_unit_n_scored(const assay_unit *u) {
    size_t n = 0;
    for (size_t i = 0; i < u->n_requests; i++) n += u->requests[i].n_ids - u->requests[i].from;
    return n;
}

assay_status assay_unit_of_text(assay_unit *u, const assay_language *l, size_t index, size_t begin, size_t end, assay_err *err) {
    char id[160];
    snprintf(id, sizeof id, "%.120s/%04zu", l->name, index);
    *u = (assay_unit){.language = l, .begin = begin, .end = end, .id = assay_strdup(id)};
    return u->id ? ASSAY_OK : assay_nomem(err);
}

assay_status assay_windows_plan(assay_unit *u, const assay_eval_env *env, const char *text, size_t n, int64_t length, assay_err *err) {
    int32_t *ids = NULL, *first = NULL;
    size_t n_ids = 0, width = length > 0 && (size_t)length < env->context ? (size_t)length : env->context;
    assay_status s = ASSAY_OK;
    if (env->prefix < 0) return assay_unit_refuse(u, err, "rolling windows need a tokenizer with a BOS or EOS token");
    ASSAY_GO(assay_tokenizer_encode(&ids, &n_ids, env->tokenizer, text, n, true, true, err));
    if (!n_ids) {
        s = assay_unit_refuse(u, err, "the document has no tokens");
        goto out;
    }
    size_t done = ASSAY_MIN(n_ids, width);
    first = assay_mallocn(done + 1, sizeof *first);
    if (!first) ASSAY_GO(assay_nomem(err));
    first[0] = env->prefix;
    memcpy(first + 1, ids, done * sizeof *ids);
    ASSAY_GO(assay_unit_add(u, first, done + 1, 1, err));
    while (done < n_ids) {
        size_t predicted = ASSAY_MIN(n_ids - done, width), end = done + predicted;
        ASSAY_GO(assay_unit_add(u, ids + (end - width - 1), width + 1, width + 1 - predicted, err));
        done = end;
    }
out:
    assay_free(ids);
    assay_free(first);
    return s;
}

assay_status assay_windows_expand(const assay_language *l, const assay_eval_env *env, int64_t length, assay_unit_fn fn, void *ctx,
                                  assay_err *err) {
    for (size_t i = 0; i < l->n_docs; i++) {
        assay_unit u;
        size_t begin = l->docs[2 * i], end = l->docs[2 * i + 1];
        assay_status s = assay_unit_of_text(&u, l, i, begin, end, err);
        if (s == ASSAY_OK) s = assay_windows_plan(&u, env, l->text + begin, end - begin, length, err);
        if (s == ASSAY_OK) s = fn(ctx, &u, err);
        assay_unit_deinit(&u);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}
