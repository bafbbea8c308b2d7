/* imatrix.c: a model's importance matrix. */
#include "api/doc.h"
#include "method/calibrate.h"
#include "method/importance_run.h"

static json_t *json_of(const assay_importance_result *r, const char *model, const char *file) {
    return json_pack("{s:s, s:s, s:s, s:i, s:I, s:i, s:f}", "schema", "assay.imatrix/1", "model", model, "out", file, "entries", (int)r->n_entries,
                     "tokens", (json_int_t)r->n_tokens, "idle_experts", (int)r->n_idle, "seconds", r->seconds);
}

assay_status assay_imatrix_model(assay_doc **out, const char *model, const char *file, const assay_imatrix_request *o, assay_err *err) {
    assay_importance_result r;
    assay_calibrator calibrator = {0};
    assay_calib_spec spec = {0};
    assay_str text = {0};
    char took[32];
    assay_status s;
    *out = NULL;
    if (!o || !o->calibration) return assay_fail(err, ASSAY_EUSAGE, "no calibration data: --calibration FILE shows what flows through the model");
    ASSAY_GO(assay_calib_spec_from_string(&spec, o->calibration, err));
    ASSAY_GO(assay_calibrator_open(&calibrator, model, &spec, err));
    assay_importance_opts opts = {.dataset = calibrator.calib.path, .n_threads = o->threads, .progress = o->progress};
    ASSAY_GO(assay_importance_run(&r, model, file, &calibrator.sequences, &opts, err));
    assay_str_printf(&text, "%s: %zu matrices, %zu tokens from '%s', in %s\n", file, r.n_entries, r.n_tokens, calibrator.calib.path,
                     assay_format_seconds(took, sizeof took, r.seconds));
    if (r.n_idle) assay_str_printf(&text, "  warning      %zu expert matrices saw no token: their columns weigh alike\n", r.n_idle);
    for (size_t i = 0; i < calibrator.calib.n_warnings; i++) assay_str_printf(&text, "  warning      %s\n", calibrator.calib.warnings[i]);
    s = assay_doc_make(out, &text, json_of(&r, model, file), 0, err);
out:
    assay_calibrator_close(&calibrator);
    assay_calib_spec_deinit(&spec);
    assay_str_free(&text);
    return s;
}
