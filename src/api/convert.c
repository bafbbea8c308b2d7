/* convert.c: a checkpoint in another format, and what that changed: nothing, or by how much. */
#include "api/doc.h"
#include "method/convert.h"

static json_t *json_of(const assay_convert_result *r, const char *model, const char *out_dir) {
    bool exact = r->n_rounded == 0 && r->n_changed == 0;
    return json_pack("{s:s, s:s, s:s?, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:s, s:I, s:I, s:f, s:I, s:b}", "schema",
                     "assay.convert/1", "model", model, "out", out_dir, "from", assay_convention_name(r->from), "to",
                     assay_convention_name(r->to), "exact", exact, "tensors", (json_int_t)r->n_tensors, "copied", (json_int_t)r->n_copied,
                     "carried", (json_int_t)r->n_carried, "decoded", (json_int_t)r->n_decoded, "rounded", (json_int_t)r->n_rounded,
                     "weight_error", r->error, "weights_changed", (json_int_t)r->n_changed, "note", r->note, "input_bytes",
                     (json_int_t)r->input_bytes, "output_bytes", (json_int_t)r->output_bytes, "seconds", r->seconds, "peak_rss",
                     (json_int_t)r->peak_rss, "reused", r->reused);
}

static void put_loss(assay_str *t, const assay_convert_result *r) {
    if (r->n_decoded && r->n_changed == 0)
        assay_str_printf(t, "  %zu matrices decoded, exactly: every weight is a value of the new type\n", r->n_decoded);
    else if (r->n_decoded)
        assay_str_printf(t, "  %zu matrices decoded; rounding to the new type changed %lld weights, by %.3g %% in all (Frobenius)\n", r->n_decoded,
                         (long long)r->n_changed, 100 * r->error);
    if (r->n_rounded)
        assay_str_printf(t, "  %zu matrices ROUNDED ANEW: not the model that was given; weights changed by %.3g %% (Frobenius): score it before use\n",
                         r->n_rounded, 100 * r->error);
}

static void put_text(assay_str *t, const assay_convert_result *r, const char *out_dir, bool dry_run) {
    char size[24], seconds[24], rate[24], peak[24];
    if (r->reused) {
        assay_str_printf(t, "'%s' already held exactly this: nothing was done\n", out_dir);
    } else if (dry_run) {
        assay_str_printf(t, "%s to %s: %s\n", assay_convention_name(r->from), assay_convention_name(r->to),
                         r->n_rounded ? "not exact" : r->n_decoded ? "decodes" : "exact");
    } else {
        double bytes = (double)(r->input_bytes + r->output_bytes) / 2;
        assay_str_printf(t, "%s: %s from %s to %s, in %s (%s/s), peak memory %s\n", out_dir,
                         assay_show_bytes(size, sizeof size, (double)r->output_bytes), assay_convention_name(r->from),
                         assay_convention_name(r->to), assay_show_seconds(seconds, sizeof seconds, r->seconds),
                         assay_show_bytes(rate, sizeof rate, r->seconds > 0 ? bytes / r->seconds : 0),
                         assay_show_bytes(peak, sizeof peak, (double)r->peak_rss));
    }
    if (r->n_carried) assay_str_printf(t, "  %zu matrices carried over: every code and scale is what it was\n", r->n_carried);
    put_loss(t, r);
    assay_str_printf(t, "  %zu plain tensors%s\n", r->n_copied, r->to == ASSAY_CONVENTION_GGUF ? "" : " copied");
    if (r->note[0]) assay_str_printf(t, "  note: %s\n", r->note);
}

assay_status assay_convert_model(assay_doc **out, const char *model, const char *out_dir, const assay_convert_request *o, assay_err *err) {
    const assay_convert_opts opts = {.to = o->to,
                                     .dtype = o->dtype,
                                     .group_size = o->group_size,
                                     .requantize = o->requantize,
                                     .overwrite = o->overwrite,
                                     .dry_run = o->dry_run,
                                     .shard_bytes = o->shard_bytes,
                                     .n_threads = o->threads,
                                     .on_notice = o->on_notice,
                                     .notice_ctx = o->notice_ctx,
                                     .progress = o->progress};
    assay_convert_result r;
    assay_str text = {0};
    *out = NULL;
    ASSAY_TRY(assay_convert(&r, model, out_dir, &opts, err));
    put_text(&text, &r, out_dir, o->dry_run);
    return assay_doc_make(out, &text, json_of(&r, model, o->dry_run ? NULL : out_dir), 0, err);
}
