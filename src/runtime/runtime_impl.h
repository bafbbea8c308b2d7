/* runtime/runtime_impl.h: what a runtime has to supply. For implementations (native.c, endpoint.c) and tests'
 * fakes alone; users include runtime.h.
 *
 * An implementation embeds `struct assay_runtime` as its first member, fills it in its open function, and
 * gets its own object back by a cast. runtime.c does what is the same for all: it refuses calls beyond
 * `caps`, checks every request, and zeroes the results, so that an operation below finds
 *   - n >= 1 requests; ids within [0, n_vocab) where n_vocab > 0
 *   - score: 1 <= from < n_ids <= context + 1 (the last id is only scored, never fed)
 *   - generate: 1 <= n_ids <= context, max_tokens >= 0, temperature >= 0, 0 < top_p <= 1, n_stop stop
 *     strings, none empty
 *   - res[0..n) all zero; after a failure they stay the caller's to deinit, filled or not. */
#ifndef ASSAY_RUNTIME_IMPL_H
#define ASSAY_RUNTIME_IMPL_H

#include "runtime/runtime.h"

typedef struct assay_runtime_ops {
    /* fn is NULL unless caps has ASSAY_CAN_LOGITS. The other parameters: assay_runtime_score and
     * assay_runtime_generate. */
    assay_status (*score)(assay_runtime *r, assay_score_res *res, const assay_score_req *req, size_t n,
                          assay_logits_fn fn, void *fn_ctx, assay_done_fn on_done, void *done_ctx,
                          assay_err *err);
    assay_status (*generate)(assay_runtime *r, assay_generate_res *res, const assay_generate_req *req,
                             size_t n, assay_done_fn on_done, void *done_ctx, assay_err *err);
    json_t *(*manifest)(const assay_runtime *r); /* new reference; NULL when out of memory */
    void (*close)(assay_runtime *r);             /* frees everything, r included */
} assay_runtime_ops;

struct assay_runtime {
    const assay_runtime_ops *ops;
    unsigned caps;
    size_t context;
    size_t n_vocab;                   /* 0: not known, ids are not checked */
    const assay_tokenizer *tokenizer; /* NULL: none */
    const assay_template *tmpl;       /* NULL: none */
};

#endif
