/* records.c: what a quantized checkpoint says about itself beside its weights.
 *
 *   layers.jsonl  {"name": ..., "layer": 0, "rows": 256, "cols": 768, "choice": {...}, "weight_norm": 9.1,
 *                  "weight_error": 0.0051, "max_error": 0.0123, "output_error": null,
 *                  "bits_per_weight": 4.127, "seconds": 0.01}; an expert's also "expert": 3, and "tokens": 512, the calibration's
 *                  tokens that it saw
 *   assay.json    the manifest
 *   config.json and the files that travel unchanged */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "method/pipeline.h"

/* --- losses --- */

assay_status assay_losses_put(assay_losses *l, const assay_loss *loss, assay_err *err) {
    ASSAY_TRY(assay_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v, err));
    l->v[l->n++] = *loss;
    return ASSAY_OK;
}

const assay_loss *assay_losses_find(const assay_losses *l, const char *name) {
    for (size_t i = l->n; i-- > 0;)
        if (!strcmp(l->v[i].name, name)) return &l->v[i];
    return NULL;
}

void assay_losses_deinit(assay_losses *l) {
    assay_free(l->v);
    *l = (assay_losses){0};
}

static json_t *real_or_null(double x) {
    return isfinite(x) && x >= 0 ? json_real(x) : json_null();
}

/* "\"alpha\": 0.5" -> {"alpha": 0.5}. What is no JSON, as an infinite loss, stays readable as {"text": ...}. NULL without memory. */
static json_t *chosen_to_json(const char *chosen) {
    char text[224];
    snprintf(text, sizeof text, "{%s}", chosen);
    json_t *j = json_loads(text, 0, NULL);
    return j ? j : json_pack("{s:s}", "text", chosen);
}

static void chosen_from_json(char *out, size_t size, const json_t *j) {
    assay_str text = {0};
    assay_err ignored;
    out[0] = 0;
    if (json_is_object(j) && assay_json_dump(&text, j, 0, false, &ignored) == ASSAY_OK && text.len > 2 && text.len - 2 < size) {
        memcpy(out, text.s + 1, text.len - 2);
        out[text.len - 2] = 0;
    }
    assay_str_free(&text);
}

assay_status assay_loss_print(assay_str *out, const assay_loss *l, assay_err *err) {
    json_t *j = json_pack("{s:s, s:i, s:I, s:I, s:o, s:f, s:o, s:o, s:o, s:f, s:f}", "name", l->name, "layer",
                          l->layer, "rows", (json_int_t)l->rows, "cols", (json_int_t)l->cols, "choice",
                          assay_choice_to_json(&l->choice), "weight_norm", l->weight_norm, "weight_error",
                          real_or_null(l->weight_error), "max_error", real_or_null(l->max_error),
                          "output_error", real_or_null(l->output_error), "bits_per_weight",
                          l->bits_per_weight, "seconds", l->seconds);
    if (!j) return assay_nomem(err);
    bool failed = l->expert >= 0 && json_object_set_new(j, "expert", json_integer(l->expert));
    failed = failed || (l->tokens >= 0 && json_object_set_new(j, "tokens", json_integer((json_int_t)l->tokens)));
    failed = failed || (l->chosen[0] && json_object_set_new(j, "chosen", chosen_to_json(l->chosen)));
    if (failed) {
        json_decref(j);
        return assay_nomem(err);
    }
    assay_status s = assay_json_dump(out, j, 0, false, err);
    assay_str_putc(out, '\n');
    json_decref(j);
    return s == ASSAY_OK ? assay_str_status(out, err) : s;
}

static assay_status parse_loss(assay_loss *l, const json_t *j, const char *where, assay_err *err) {
    const char *name = NULL;
    int64_t layer = -1, expert = -1;
    *l = (assay_loss){.weight_error = INFINITY, .max_error = INFINITY, .output_error = -1, .tokens = -1};
    ASSAY_TRY(assay_json_get_str(&name, j, "name", where, err));
    ASSAY_TRY(assay_json_get_int(&layer, j, "layer", where, err));
    ASSAY_TRY(assay_json_get_int(&l->rows, j, "rows", where, err));
    ASSAY_TRY(assay_json_get_int(&l->cols, j, "cols", where, err));
    ASSAY_TRY(assay_json_get_double(&l->weight_norm, j, "weight_norm", where, err));
    ASSAY_TRY(assay_json_get_double(&l->weight_error, j, "weight_error", where, err));
    ASSAY_TRY(assay_json_get_double(&l->max_error, j, "max_error", where, err));
    ASSAY_TRY(assay_json_get_double(&l->output_error, j, "output_error", where, err));
    ASSAY_TRY(assay_json_get_double(&l->bits_per_weight, j, "bits_per_weight", where, err));
    ASSAY_TRY(assay_json_get_double(&l->seconds, j, "seconds", where, err));
    ASSAY_TRY(assay_json_get_int(&expert, j, "expert", where, err));
    ASSAY_TRY(assay_json_get_int(&l->tokens, j, "tokens", where, err));
    ASSAY_TRY(assay_choice_from_json(&l->choice, json_object_get(j, "choice"), where, err));
    if (!name || strlen(name) >= sizeof l->name || layer < -1 || layer > 1 << 20 || expert < -1 || expert > 1 << 20)
        return assay_fail(err, ASSAY_EINPUT, "%s: not a record of a matrix's loss", where);
    chosen_from_json(l->chosen, sizeof l->chosen, json_object_get(j, "chosen"));
    memcpy(l->name, name, strlen(name) + 1);
    l->layer = (int)layer;
    l->expert = (int)expert;
    return ASSAY_OK;
}

typedef struct reader {
    assay_losses *out;
    const char *path;
} reader;

static assay_status read_line(void *ctx, json_t *value, size_t line, assay_err *err) {
    (void)line;
    reader *r = ctx;
    assay_loss l;
    ASSAY_TRY(parse_loss(&l, value, r->path, err));
    return assay_losses_put(r->out, &l, err);
}

assay_status assay_losses_read(assay_losses *out, const char *path, bool partial, assay_err *err) {
    reader r = {out, path};
    *out = (assay_losses){0};
    if (partial && !assay_path_exists(path)) return ASSAY_OK;
    assay_err why = {0};
    assay_status s = assay_jsonl_each(path, read_line, &r, &why);
    if (s == ASSAY_OK || (partial && s == ASSAY_EINPUT)) return ASSAY_OK;
    assay_losses_deinit(out);
    return assay_fail(err, s, "%s", why.message);
}

assay_status assay_losses_load(assay_loss **losses, size_t *n, const char *out_dir, assay_err *err) {
    assay_losses l;
    char *path = assay_path_join(out_dir, "layers.jsonl");
    assay_status s = path ? assay_losses_read(&l, path, false, err) : assay_nomem(err);
    assay_free(path);
    *losses = s == ASSAY_OK ? l.v : NULL;
    *n = s == ASSAY_OK ? l.n : 0;
    return s;
}

static assay_status write_text(const char *dir, const char *name, const assay_str *text, assay_err *err) {
    char *path = assay_path_join(dir, name);
    assay_status s = path ? assay_write_file(path, assay_str_c(text), text->len, err) : assay_nomem(err);
    assay_free(path);
    return s;
}

assay_status assay_losses_save(const char *dir, const assay_losses *l, assay_err *err) {
    assay_str b = {0};
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < l->n && s == ASSAY_OK; i++)
        s = assay_loss_print(&b, &l->v[i], err);
    if (s == ASSAY_OK) s = write_text(dir, "layers.jsonl", &b, err);
    assay_str_free(&b);
    return s;
}

/* --- files that go along --- */

static assay_status write_config(const char *out_dir, const json_t *config, const assay_steps *p, assay_err *err) {
    char *to = assay_path_join(out_dir, "config.json");
    json_t *copy = json_copy((json_t *)config), *quantization = NULL;
    assay_status s = to && copy ? assay_quantization_config(&quantization, p, err) : assay_nomem(err);
    if (s == ASSAY_OK && quantization && json_object_set_new(copy, "quantization_config", quantization)) s = assay_nomem(err);
    if (s == ASSAY_OK) s = assay_json_save(to, copy, 2, err);
    json_decref(copy);
    assay_free(to);
    return s;
}

assay_status assay_sidecars_write(char note[300], const assay_outdir *out, const char *model_dir, const json_t *config, const assay_steps *p,
                                  assay_err *err) {
    if (p->convention != ASSAY_CONVENTION_GGUF) ASSAY_TRY(write_config(out->dir, config, p, err)); /* a GGUF file says all itself */
    char *dir = assay_path_is_dir(model_dir) ? assay_strdup(model_dir) : assay_path_dir(model_dir);
    assay_status s = dir ? assay_outdir_copy_sidecars(out, dir, err) : assay_nomem(err);
    if (s == ASSAY_OK && p->convention != ASSAY_CONVENTION_GGUF) s = assay_outdir_unpack_tokenizer(note, out, model_dir, err);
    assay_free(dir);
    return s;
}

/* --- the manifest --- */

assay_status assay_manifest_write(const assay_outdir *out, const char *model_dir, const assay_recipe *r,
                                  const assay_quantize_result *res, const json_t *calibration, const assay_imatrix_info *imatrix,
                                  assay_err *err) {
    json_t *j = json_pack(
        "{s:{s:s, s:s}, s:s, s:o, s:s, s:f, s:f, s:f, s:I, s:I, s:I}", "source", "path", model_dir, "sha256", res->source_hash,
        "recipe_sha256", res->recipe_hash, "recipe", assay_recipe_to_json(r), "convention", assay_convention_name(res->convention),
        "bits_per_weight", res->bits_per_weight, "bits_per_quantized_weight", res->bits_per_quantized, "weight_error",
        isfinite(res->weight_error) ? res->weight_error : DBL_MAX, "tensors", (json_int_t)res->n_tensors, "matrices",
        (json_int_t)res->n_matrices, "input_bytes", (json_int_t)res->input_bytes);
    json_t *experts = NULL;
    bool failed = calibration && j && json_object_set(j, "calibration", (json_t *)calibration);
    if (res->n_starved)
        experts = json_pack("{s:I, s:I, s:I, s:I, s:s}", "calibrated", (json_int_t)res->n_experts, "starved", (json_int_t)res->n_starved, "unseen",
                            (json_int_t)res->n_unseen, "least_tokens", (json_int_t)res->least_tokens, "least", res->least_expert);
    if (imatrix && j)
        failed = failed || json_object_set_new(j, "imatrix", json_pack("{s:s, s:s, s:I}", "sha256", imatrix->hash, "dataset", imatrix->dataset,
                                                                       "entries", (json_int_t)imatrix->n_entries));
    failed = failed || (res->n_starved && j && json_object_set_new(j, "experts", experts));
    if (failed) {
        json_decref(j);
        j = NULL;
    }
    return assay_outdir_put_manifest(out, j, err);
}

void assay_manifest_loss(double *out, const char *dir) {
    json_t *j = assay_outdir_get_manifest(dir);
    assay_err ignored;
    assay_json_get_double(out, j, "weight_error", "assay.json", &ignored);
    json_decref(j);
}
