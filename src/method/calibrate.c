/* calibrate.c: the model's tokenizer and template, and the data, to sequences. */
#include "method/calibrate.h"
#include "base/mem.h"
#include "model/config.h"

/* The tokenizer may be missing when the data has ids of its own; calib.c says so when it is needed. */
static assay_status open_text(assay_tokenizer **tok, assay_template **tmpl, const char *dir, assay_err *err) {
    assay_err why = {0};
    assay_status s = assay_tokenizer_open(tok, dir, &why);
    if (s != ASSAY_OK && s != ASSAY_ENOTFOUND) return assay_fail(err, s, "%s", why.message);
    s = assay_template_open(tmpl, dir, &why);
    return s == ASSAY_OK || s == ASSAY_ENOTFOUND ? ASSAY_OK : assay_fail(err, s, "%s", why.message); /* a base model has none */
}

assay_status assay_calibrator_open(assay_calibrator *out, const char *model_dir, const assay_calib_spec *spec, assay_err *err) {
    assay_config config = {0};
    assay_tokenizer *tok = NULL;
    assay_template *tmpl = NULL;
    assay_status s;
    *out = (assay_calibrator){0};
    ASSAY_GO(assay_config_open(&config, model_dir, err));
    ASSAY_GO(open_text(&tok, &tmpl, model_dir, err));
    assay_calib_model m = {.tokenizer = tok,
                           .tmpl = tmpl,
                           .n_vocab = (size_t)config.vocab_size,
                           .context = (size_t)config.max_position_embeddings,
                           .max_cols = (size_t)ASSAY_MAX(config.hidden_size, config.intermediate_size)};
    ASSAY_GO(assay_calib_load(&out->calib, spec->data, &spec->opts, &m, err));
    out->manifest = assay_calib_to_json(&out->calib);
    if (!out->manifest) s = assay_nomem(err);
    out->sequences = (assay_calibration){.ids = out->calib.ids,
                                         .first = out->calib.first,
                                         .n_seqs = out->calib.n_samples,
                                         .hash = out->calib.ids_hash,
                                         .manifest = out->manifest};
out:
    assay_template_close(tmpl);
    assay_tokenizer_close(tok);
    assay_config_deinit(&config);
    if (s != ASSAY_OK) assay_calibrator_close(out);
    return s;
}

void assay_calibrator_close(assay_calibrator *c) {
    assay_calib_deinit(&c->calib);
    json_decref(c->manifest);
    *c = (assay_calibrator){0};
}
