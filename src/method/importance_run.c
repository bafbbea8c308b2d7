/* importance_run.c: see importance_run.h. A run of the pipeline that quantizes nothing: its steps are those of `gguf,q8_0`, each layer is
 * run once (layered.c), its sums lie in FILE.work beside the next layer's inputs, and at the end all sums become one file.
 *
 *   FILE.work/.assay-key        which model and tokens (outdir.c)
 *   FILE.work/.partial-x-k      inputs of layer k
 *   FILE.work/.partial-i-k      sums of layer k (importance.h)
 *
 * The sums of all layers are in memory when they are written: a few floats a column, megabytes for 8 B parameters. */
#include "method/importance_run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "format/gguf.h"
#include "format/imatrix.h"
#include "method/acts.h"
#include "method/importance.h"
#include "method/pipeline.h"

typedef struct gatherer {
    assay_run *run;
    assay_importance_result *res;
    assay_imatrix_entry *v;
    size_t n, cap;
    assay_acts *sums; /* per layer */
} gatherer;

static assay_status make_key(assay_run *r, assay_err *err) {
    assay_hasher *h;
    ASSAY_TRY(assay_checkpoint_hash(r->res->source_hash, r->source, err));
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "assay.imatrix " ASSAY_VERSION);
    assay_hasher_put_str(h, r->res->source_hash);
    assay_hasher_put_str(h, r->calibration->hash);
    assay_hasher_finish(h, r->out.key);
    return ASSAY_OK;
}

/* Inputs of the first layer. */
static assay_status begin(assay_run *r, assay_err *err) {
    assay_item e = {.role = ASSAY_ROLE_EMBED};
    if (assay_acts_exist(r->out_dir, 'i', 0)) return ASSAY_OK;
    for (size_t i = 0; i < r->steps.n; i++)
        if (r->steps.v[i].role == ASSAY_ROLE_EMBED) e.weight = r->steps.v[i].tensor;
    return assay_layered_begin(r, &e, err);
}

/* The steps [first, first + *n) of the next layer; false when there are no more. */
static bool next_layer(size_t *first, size_t *n, const assay_steps *p) {
    *first += *n;
    while (*first < p->n && p->v[*first].layer < 0) ++*first;
    for (*n = 0; *first + *n < p->n && p->v[*first + *n].layer == p->v[*first].layer; ++*n) {}
    return *first < p->n;
}

/* --- gathering --- */

static bool is_listed(const gatherer *g, const char *name) {
    for (size_t i = g->n; i-- > 0 && g->n - i < 8;) /* the experts of a stack follow each other */
        if (!strcmp(g->v[i].name, name)) return true;
    return false;
}

static assay_status add_entry(gatherer *g, const assay_layer *layer, const assay_step *s, const float *row, assay_err *err) {
    assay_gguf_place place;
    bool found = assay_gguf_place_of(&place, g->run->config_json, s->tensor->name);
    if (!found || place.is_plain || s->choice.method == ASSAY_METHOD_NONE || is_listed(g, place.name)) return ASSAY_OK;
    assay_importance_view v = assay_importance_find(row, layer, s->role);
    ASSAY_TRY(assay_grow(&g->v, &g->cap, g->n + 1, sizeof *g->v, err));
    assay_imatrix_entry *e = &g->v[g->n++];
    *e = (assay_imatrix_entry){.cols = v.cols, .n_matrices = v.n, .sums = v.sums, .counts = v.counts};
    snprintf(e->name, sizeof e->name, "%s", place.name);
    for (int64_t k = 0; k < v.n; k++) g->res->n_idle += v.counts[k] == 0;
    return ASSAY_OK;
}

/* What importance.c asks of a layer, without loading it. */
static assay_status outline(assay_layer *layer, const assay_run *r, size_t first, size_t n, assay_err *err) {
    *layer = (assay_layer){.config = &r->config, .index = r->steps.v[first].layer};
    if (!(layer->items = assay_calloc(n, sizeof *layer->items))) return assay_nomem(err);
    for (size_t i = first; i < first + n; i++) {
        const assay_step *s = &r->steps.v[i];
        if (s->tensor->n_dims > 1) layer->items[layer->n_items++] = (assay_item){.weight = s->tensor, .choice = &s->choice, .role = s->role, .expert = s->expert};
    }
    return ASSAY_OK;
}

static assay_status gather_layer(gatherer *g, size_t first, size_t n, assay_err *err) {
    assay_layer layer = {0};
    assay_acts *a = &g->sums[g->run->steps.v[first].layer];
    assay_status s;
    ASSAY_GO(outline(&layer, g->run, first, n, err));
    ASSAY_GO(assay_acts_open(a, g->run->out_dir, 'i', g->run->steps.v[first].layer, assay_importance_n_floats(&layer), err));
    for (size_t i = first; i < first + n && s == ASSAY_OK; i++)
        if (g->run->steps.v[i].tensor->n_dims > 1) s = add_entry(g, &layer, &g->run->steps.v[i], a->v, err);
out:
    assay_free(layer.items);
    return s;
}

static assay_status save(assay_run *r, const char *file, const char *dataset, assay_importance_result *res, assay_err *err) {
    gatherer g = {.run = r, .res = res};
    int64_t longest = 0;
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < r->calibration->n_seqs; i++) longest = ASSAY_MAX(longest, r->lengths[i]);
    if (!(g.sums = assay_calloc((size_t)r->config.n_layers, sizeof *g.sums))) return assay_nomem(err);
    for (size_t first = 0, n = 0; s == ASSAY_OK && next_layer(&first, &n, &r->steps);) s = gather_layer(&g, first, n, err);
    if (s == ASSAY_OK)
        s = assay_imatrix_save(file, g.v, g.n, dataset ? dataset : "", ((int64_t)r->n_tokens + longest - 1) / longest, longest, err);
    res->n_entries = g.n;
    res->n_tokens = r->n_tokens;
    for (int64_t i = 0; i < r->config.n_layers; i++) assay_acts_close(&g.sums[i]);
    assay_free(g.sums);
    assay_free(g.v);
    return s;
}

/* --- from beginning to end --- */

static assay_status work(assay_run *r, assay_err *err) {
    ASSAY_TRY(assay_outdir_init(&r->out, r->out_dir, r->model_dir, err));
    ASSAY_TRY(make_key(r, err));
    ASSAY_TRY(assay_outdir_begin(&r->out, err));
    ASSAY_TRY(assay_steps_estimate(r->res, &r->steps, r->n_threads, false, err));
    ASSAY_TRY(begin(r, err));
    for (size_t first = 0, n = 0; next_layer(&first, &n, &r->steps);)
        ASSAY_TRY(assay_layered_weigh(r, first, n, r->steps.v[first].layer, err));
    return ASSAY_OK;
}

assay_status assay_importance_run(assay_importance_result *out, const char *model_dir, const char *file, const assay_calibration *c,
                                  const assay_importance_opts *o, assay_err *err) {
    assay_quantize_opts opts = {.progress = o->progress, .calibration = c};
    assay_quantize_result res = {0};
    assay_recipe *recipe = NULL;
    assay_str dir = {0};
    double start = assay_now();
    assay_status s;
    *out = (assay_importance_result){0};
    assay_str_printf(&dir, "%s.work", file);
    assay_run r = {.model_dir = model_dir, .out_dir = assay_str_c(&dir), .o = &opts, .calibration = c, .res = &res, .out = {.lock = -1},
                   .n_threads = o->n_threads > 0 ? o->n_threads : assay_n_cores()};
    ASSAY_GO(assay_str_status(&dir, err));
    ASSAY_GO(assay_recipe_from_string(&recipe, "gguf,q8_0", err));
    r.recipe = recipe;
    ASSAY_GO(assay_run_prepare(&r, err));
    ASSAY_GO(work(&r, err));
    ASSAY_GO(save(&r, file, o->dataset, out, err));
    ASSAY_GO(assay_outdir_end(NULL, &r.out, err));
    rmdir(r.out_dir);
    out->seconds = assay_now() - start;
out:
    assay_run_deinit(&r);
    assay_recipe_free(recipe);
    assay_str_free(&dir);
    return s;
}
