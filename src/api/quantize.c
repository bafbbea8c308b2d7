/* quantize.c: one recipe on one checkpoint, and an account of what each matrix lost. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "api/doc.h"
#include "api/fit.h"
#include "base/file.h"
#include "base/mem.h"
#include "method/calibrate.h"
#include "method/method.h"
#include "method/mixture.h"
#include "report/report.h"
#include "report/table.h"

/* The caller's words for what is about to be written. */
typedef struct reviewer {
    const assay_quantize_request *o;
} reviewer;

static void review(void *ctx, const assay_quantize_result *r) {
    const assay_quantize_request *o = ((reviewer *)ctx)->o;
    char text[480];
    if (o->on_notice && assay_quantize_warning(text, sizeof text, r)) o->on_notice(o->notice_ctx, text);
    if (o->on_notice && r->note[0]) o->on_notice(o->notice_ctx, r->note);
    if (!r->research || !o->on_notice) return;
    const assay_loss *w = r->n_worst ? &r->worst[0] : NULL;
    int n = snprintf(text, sizeof text, "research: fewer than 4 bits; weight error %.2f %% over all", 100 * r->weight_error);
    if (w && n > 0 && (size_t)n < sizeof text)
        n += snprintf(text + n, sizeof text - (size_t)n, ", worst %.2f %%%s in %s",
                      100 * (w->output_error >= 0 ? w->output_error : w->weight_error), w->output_error >= 0 ? " of the output" : "", w->name);
    o->on_notice(o->notice_ctx, text);
}

static assay_status open_recipe(assay_recipe **r, const char *line, const char *file, assay_err *err) {
    if (line && file) return assay_fail(err, ASSAY_EUSAGE, "give a recipe or a recipe file, not both");
    if (!line && !file)
        return assay_fail(err, ASSAY_EUSAGE,
                          "no recipe: say for example --recipe rtn,int8 or --recipe nf4,double_quant");
    if (file) return assay_recipe_load(r, file, err);
    assay_status s = assay_recipe_from_string(r, line, err);
    if (s != ASSAY_EINPUT) return s;
    if (err) err->code = ASSAY_EUSAGE; /* it was typed, not read from a file */
    return ASSAY_EUSAGE;
}

static json_t *json_of_loss(const assay_loss *l) {
    assay_str what = {0};
    assay_choice_describe(&what, &l->choice);
    json_t *j = json_pack("{s:s, s:s, s:f, s:f, s:o, s:f}", "name", l->name, "choice", assay_str_c(&what),
                          "weight_error", l->weight_error, "max_error", l->max_error, "output_error",
                          l->output_error >= 0 ? json_real(l->output_error) : json_null(), "bits_per_weight",
                          l->bits_per_weight);
    assay_str_free(&what);
    return j;
}

static json_t *json_of_result(const assay_quantize_result *r, const char *model, const char *out_dir,
                              bool dry_run) {
    json_t *worst = json_array();
    for (size_t i = 0; worst && i < r->n_worst; i++)
        if (json_array_append_new(worst, json_of_loss(&r->worst[i]))) {
            json_decref(worst);
            worst = NULL;
        }
    if (!worst) return NULL;
    return json_pack("{s:s, s:s, s:s?, s:b, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:b, s:f, s:f, s:f, "
                     "s:s, s:s, s:o}",
                     "schema", "assay.quantize/1", "model", model, "out", out_dir, "dry_run", dry_run,
                     "convention", assay_convention_name(r->convention), "input_bytes",
                     (double)r->input_bytes, "output_bytes", (double)r->output_bytes, "memory_bytes",
                     (double)r->memory_bytes, "peak_rss_bytes", (double)r->peak_rss, "seconds", r->seconds,
                     "input_bytes_per_second", r->bytes_per_second, "matrices", (json_int_t)r->n_matrices,
                     "resumed", (json_int_t)r->n_resumed, "reused", r->reused, "bits_per_weight",
                     r->bits_per_weight, "bits_per_quantized_weight", r->bits_per_quantized, "weight_error",
                     r->weight_error, "source_sha256", r->source_hash, "recipe_sha256", r->recipe_hash,
                     "worst", worst);
}

static assay_status put_worst(assay_str *text, const assay_quantize_result *r, size_t want,
                              const assay_term *term, assay_err *err) {
    assay_report_loss rows[ASSAY_N_WORST];
    assay_str as[ASSAY_N_WORST] = {{0}};
    size_t n = ASSAY_MIN(r->n_worst, want);
    for (size_t i = 0; i < n; i++) {
        const assay_loss *l = &r->worst[i];
        assay_choice_describe(&as[i], &l->choice);
        rows[i] = (assay_report_loss){.matrix = l->name,
                                      .as = assay_str_c(&as[i]),
                                      .weight_error = l->weight_error,
                                      .max_error = l->max_error,
                                      .output_error = l->output_error >= 0 ? l->output_error : NAN,
                                      .bits = l->bits_per_weight};
    }
    assay_str_put(text, "\nmatrices that lost most:\n");
    assay_status s = assay_report_losses_text(text, rows, n, term, err);
    for (size_t i = 0; i < n; i++)
        assay_str_free(&as[i]);
    return s;
}

/* --- mixtures --- */

static bool wants_mixture(const assay_quantize_request *o) {
    return o->target_bpw > 0 || o->target_gb > 0 || o->fit;
}

/* *recipe becomes the mixture's; cache: OUT_DIR/mixture.json, or NULL. bytes: the checkpoint's budget, 0 = none. */
static assay_status mix(assay_mixture *m, assay_recipe **recipe, const char *model, const assay_quantize_request *o,
                        const assay_calibration *calibration, const char *cache, double bytes, assay_err *err) {
    assay_mixture_opts opts = {.target_bpw = o->target_bpw,
                               .target_bytes = (uint64_t)bytes,
                               .precisions = o->mix,
                               .n_threads = o->threads,
                               .cache = cache,
                               .progress = o->progress};
    assay_recipe *base = *recipe;
    if (o->sensitivity && !assay_sensitivity_parse(&opts.sensitivity, o->sensitivity))
        return assay_fail(err, ASSAY_EUSAGE, "unknown sensitivity '%s': auto, kl or fisher", o->sensitivity);
    ASSAY_TRY(assay_mixture_make(m, model, base, calibration, &opts, err));
    assay_status s = assay_mixture_recipe(recipe, m, base, err);
    if (s == ASSAY_OK)
        assay_recipe_free(base);
    else
        *recipe = base;
    return s;
}

static const assay_column unit_columns[] = {{.head = "matrices", .shrink = true, .least = 24}, {.head = "as"},
                                            {.head = "bits/weight", .right = true},            {.head = "KL, nats", .right = true},
                                            {.head = "one step less", .right = true, .optional = true},
                                            {.head = "one step more", .right = true, .optional = true}};

/* The candidate next to a unit's own by bits, to the given side; -1 when there is none. */
static int neighbour(const assay_mixture *m, const assay_mixture_unit *u, bool more) {
    int best = -1;
    for (size_t c = 0; c < m->n_candidates; c++) {
        if (u->kl[c] < 0 || (more ? u->bits[c] <= u->bits[u->chosen] : u->bits[c] >= u->bits[u->chosen])) continue;
        if (best < 0 || (more ? u->bits[c] < u->bits[best] : u->bits[c] > u->bits[best])) best = (int)c;
    }
    return best;
}

static void put_neighbour(assay_table *t, const assay_mixture *m, const assay_mixture_unit *u, bool more) {
    int c = neighbour(m, u, more);
    if (c < 0)
        assay_table_cell(t, ASSAY_TONE_DIM, "-");
    else
        assay_table_cell(t, ASSAY_TONE_NONE, "%s %+.2g", m->labels[c], u->kl[c] - u->kl[u->chosen]);
}

static assay_status put_mixture(assay_str *text, const assay_mixture *m, const assay_term *term, assay_err *err) {
    assay_table t;
    assay_str_printf(text, "\nmixture: %.3f of %.3f bits per weight, the units' own divergences add up to %.5f nats (%s, %zu tokens)\n",
                     m->used_bits / m->elements, m->budget_bits / m->elements, m->predicted_kl,
                     assay_sensitivity_name(m->sensitivity), m->n_tokens);
    assay_table_init(&t, unit_columns, ASSAY_LEN(unit_columns));
    for (size_t i = 0; i < m->n_units; i++) {
        const assay_mixture_unit *u = &m->units[i];
        if (u->n_matrices > 1)
            assay_table_cell(&t, ASSAY_TONE_NONE, "%s + %d", u->name, u->n_matrices - 1);
        else
            assay_table_cell(&t, ASSAY_TONE_NONE, "%s", u->name);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", m->labels[u->chosen]);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%.3f", u->bits[u->chosen] / u->elements);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%.2e", u->kl[u->chosen]);
        put_neighbour(&t, m, u, false);
        put_neighbour(&t, m, u, true);
    }
    assay_status s = assay_table_text(text, &t, term, err);
    assay_table_free(&t);
    return s;
}

static assay_status save_mixture(const char *path, const assay_mixture *m, assay_err *err) {
    json_t *j = assay_mixture_to_json(m);
    assay_status s = j ? assay_json_save(path, j, 1, err) : assay_nomem(err);
    json_decref(j);
    return s;
}

static void put_calibration(assay_str *t, const assay_calib *c, size_t n_dead) {
    if (!c->n_samples) return;
    assay_str_printf(t, "calibration    %zu sequences, %zu tokens from '%s'", c->n_samples, c->n_tokens, c->path);
    if (c->n_templated) assay_str_printf(t, ", %zu through the chat template", c->n_templated);
    assay_str_putc(t, '\n');
    if (n_dead) assay_str_printf(t, "  warning      %zu input channels never fired: what they lose is not seen\n", n_dead);
    for (size_t i = 0; i < c->n_warnings; i++)
        assay_str_printf(t, "  warning      %s\n", c->warnings[i]);
}

static void put_summary(assay_str *t, const assay_recipe *recipe, const assay_quantize_result *r,
                        const char *out_dir, bool dry_run) {
    char a[32], b[32], c[32], d[32];
    assay_str_printf(t, "recipe         ");
    assay_recipe_describe(t, recipe);
    assay_str_printf(t, ", %s convention\n", assay_convention_name(r->convention));
    assay_str_printf(
        t, "size           %s -> %s (%.1f %%), %.3f bits per weight, %.3f in the %zu quantized matrices\n",
        assay_format_bytes(a, sizeof a, (double)r->input_bytes),
        assay_format_bytes(b, sizeof b, (double)r->output_bytes),
        r->input_bytes ? 100.0 * (double)r->output_bytes / (double)r->input_bytes : 0, r->bits_per_weight,
        r->bits_per_quantized, r->n_matrices);
    if (r->research) assay_str_put(t, "research       some matrices have fewer than 4 bits: look at the loss before you use them\n");
    if (dry_run) {
        assay_str_printf(t, "would take     about %s, working memory %s", assay_format_seconds(c, sizeof c, r->seconds),
                         assay_format_bytes(d, sizeof d, (double)r->memory_bytes));
        if (r->activation_bytes)
            assay_str_printf(t, ", %s of activations beside the output", assay_format_bytes(a, sizeof a, (double)r->activation_bytes));
        assay_str_put(t, "; nothing was written\n");
        return;
    }
    assay_str_printf(t, "weight error   %.3f %% over all quantized matrices\n", 100 * r->weight_error);
    if (r->reused)
        assay_str_printf(t, "took           nothing: '%s' already held exactly this\n", out_dir);
    else
        assay_str_printf(t, "took           %s at %.0f MB/s of input, peak memory %s%s\n",
                         assay_format_seconds(c, sizeof c, r->seconds), r->bytes_per_second / 1e6,
                         assay_format_bytes(d, sizeof d, (double)r->peak_rss),
                         r->n_resumed ? ", going on where an earlier run stopped" : "");
    assay_str_printf(t, "written to     %s\n", out_dir);
}

assay_status assay_quantize_model(assay_doc **out, const char *model, const char *out_dir,
                                  const assay_quantize_request *o, assay_err *err) {
    *out = NULL;
    assay_recipe *recipe = NULL;
    assay_calib_spec spec = {0};
    assay_calibrator calibrator = {0};
    assay_mixture mixture = {0};
    char *explained = NULL;
    json_t *j = NULL;
    assay_quantize_result r = {0};
    assay_str text = {0};
    assay_term term = assay_term_of_view(&o->view);
    reviewer reviewing = {o};
    assay_quantize_opts opts = {.n_threads = o->threads,
                                .progress = o->progress,
                                .dry_run = o->dry_run,
                                .overwrite = o->overwrite,
                                .shard_bytes = o->shard_bytes,
                                .original_inputs = o->original_inputs,
                                .imatrix = o->imatrix,
                                .before_commit = review,
                                .before_commit_ctx = &reviewing};
    assay_status s;
    double bytes = o->target_gb * 1e9;
    ASSAY_GO(open_recipe(&recipe, o->recipe, o->recipe_file, err));
    if (o->fit && (o->target_bpw > 0 || o->target_gb > 0)) {
        s = assay_fail(err, ASSAY_EUSAGE, "a device to fit is a budget already: leave the other target out");
        goto out;
    }
    if (o->fit) ASSAY_GO(assay_fit_bytes(&bytes, &text, model, o, err));
    if (o->calibration) {
        ASSAY_GO(assay_calib_spec_from_string(&spec, o->calibration, err));
        ASSAY_GO(assay_calibrator_open(&calibrator, model, &spec, err));
        opts.calibration = &calibrator.sequences;
    }
    if (out_dir && !o->dry_run) {
        ASSAY_GO(assay_mkdirs(out_dir, err));
        if (!(explained = assay_path_join(out_dir, "mixture.json"))) ASSAY_GO(assay_nomem(err));
    }
    if (wants_mixture(o)) ASSAY_GO(mix(&mixture, &recipe, model, o, opts.calibration, explained, bytes, err));
    ASSAY_GO(assay_quantize(&r, model, out_dir, recipe, &opts, err));
    if (explained && wants_mixture(o)) ASSAY_GO(save_mixture(explained, &mixture, err));
    if (explained && !wants_mixture(o)) remove(explained);
    put_summary(&text, recipe, &r, out_dir, o->dry_run);
    put_calibration(&text, &calibrator.calib, r.n_dead);
    if (r.n_worst)
        ASSAY_GO(put_worst(&text, &r, o->worst > 0 ? (size_t)o->worst : ASSAY_N_WORST, &term, err));
    if (mixture.n_units) ASSAY_GO(put_mixture(&text, &mixture, &term, err));
    j = json_of_result(&r, model, out_dir, o->dry_run);
    if (j && mixture.n_units) json_object_set_new(j, "mixture", assay_mixture_to_json(&mixture));
    if (j && calibrator.manifest) json_object_set(j, "calibration", calibrator.manifest);
    s = assay_doc_make(out, &text, j, 0, err);
out:
    assay_recipe_free(recipe);
    assay_calibrator_close(&calibrator);
    assay_mixture_deinit(&mixture);
    assay_free(explained);
    assay_calib_spec_deinit(&spec);
    assay_str_free(&text);
    return s;
}
