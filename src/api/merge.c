/* merge.c: an adapter folded into its base, and how much of the base it changed. */
#include "method/merge.h"
#include "api/doc.h"

static json_t *json_of(const assay_merge_result *r, const char *model, const char *adapter, const char *out_dir) {
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:b, s:s, s:s}", "schema", "assay.merge/1", "model", model, "adapter",
                     adapter, "out", out_dir, "tensors", (int)r->n_tensors, "merged", (int)r->n_merged, "replaced", (int)r->n_replaced,
                     "output_bytes", (double)r->output_bytes, "change", r->change, "reused", r->reused, "base_sha256", r->base_hash,
                     "adapter_sha256", r->adapter_hash);
}

assay_status assay_merge_adapter(assay_doc **out, const char *model, const char *adapter, const char *out_dir,
                                 const assay_merge_request *o, assay_err *err) {
    static const assay_merge_request none;
    if (!o) o = &none;
    const assay_merge_opts opts = {
        .shard_bytes = o->shard_bytes, .overwrite = o->overwrite, .n_threads = o->threads, .progress = o->progress};
    assay_merge_result r;
    assay_str text = {0};
    char size[24];
    *out = NULL;
    ASSAY_TRY(assay_merge(&r, model, adapter, out_dir, &opts, err));
    if (r.reused)
        assay_str_printf(&text, "'%s' already held exactly this: nothing was done\n", out_dir);
    else
        assay_str_printf(&text,
                         "%s: %s\n  %zu of %zu tensors merged%s, which changed them by %.3g %% (Frobenius)\n", out_dir,
                         assay_show_bytes(size, sizeof size, (double)r.output_bytes), r.n_merged, r.n_tensors,
                         r.n_replaced ? ", some replaced" : "", 100 * r.change);
    return assay_doc_make(out, &text, json_of(&r, model, adapter, out_dir), 0, err);
}
