/* runtime/native_impl.h: the native runtime's object, shared by native.c, score.c and generate.c. */
#ifndef ASSAY_RUNTIME_NATIVE_IMPL_H
#define ASSAY_RUNTIME_NATIVE_IMPL_H

#include "runtime/engine.h"
#include "runtime/native.h"
#include "runtime/runtime_impl.h"

typedef struct assay_native {
    struct assay_runtime base; /* first: runtime_impl.h */
    assay_backend *backend;
    assay_model *model;
    assay_kv *kv;
    assay_engine *engine;
    assay_tokenizer *tokenizer; /* NULL: ids only */
    assay_template *tmpl;       /* NULL: the model has none */
    assay_native_opts opts;     /* completed */
    assay_kv_kind kv_kind;      /* AUTO resolved */
    int n_threads;
    char *dir;
    char hash[65]; /* of the checkpoint; empty until the first manifest */
} assay_native;

assay_status assay_native_score(assay_runtime *r, assay_score_res *res, const assay_score_req *req, size_t n,
                                assay_logits_fn fn, void *fn_ctx, assay_done_fn on_done, void *done_ctx,
                                assay_err *err);
assay_status assay_native_generate(assay_runtime *r, assay_generate_res *res, const assay_generate_req *req,
                                   size_t n, assay_done_fn on_done, void *done_ctx, assay_err *err);

#endif
