/* run.c: a study from its file to its decision: quantize what is missing, score what is missing, gate, plan, decide, report.
 *
 * The order is chosen for what a kill costs and for how early an error is seen: everything that can be wrong with files is checked before
 * any work, every variant is quantized before the first is scored, and results are in the store before the next step begins. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/str.h"
#include "base/thread.h"
#include "format/format.h"
#include "method/calibrate.h"
#include "method/method.h"
#include "method/mixture.h"
#include "study/score.h"
#include "study/study_impl.h"

typedef struct model {           /* one that is scored: the baseline or a variant */
    const assay_variant_spec *spec;
    char *dir;                   /* owned */
    char quantize_key[ASSAY_HASH_HEX]; /* "" when nothing is made */
    char score_key[ASSAY_HASH_HEX];    /* "" while the checkpoint is not known */
    study_identity identity;
    double size_bytes, effective_bpw;
    json_t *recipe;              /* in effect: a mixture's is known once it is made; owned, NULL = none */
    bool made, scored;           /* what the store says at the start */
    char problem[480];           /* why it cannot be had; "" = none */
} model;

typedef struct study_run {
    const assay_study_exec *o;
    assay_study_spec *spec;
    assay_suite *suite;
    assay_store *store;          /* NULL in a dry run without one */
    assay_study_result *res;
    char *db, *variants_dir, *kl_dir;
    char kl_name[ASSAY_HASH_HEX]; /* of the baseline that kl compares with */
    int lock;
    model *models;               /* [1 + n_variants], the baseline first */
    size_t n;
    assay_calibrator calibrator; /* empty when no variant needs one */
    char rerun_key[ASSAY_HASH_HEX];
    bool rerun_scored;
    size_t n_cards_done;         /* for the progress over all scorecards */
} study_run;

/* --- progress over the whole of the scoring --- */

static int on_progress(void *ctx, const char *phase, double done, double total, const char *unit) {
    study_run *r = ctx;
    const assay_progress *p = r->o->progress;
    if (!p || !p->fn) return 0;
    if (strcmp(unit, "items")) return p->fn(p->ctx, phase, done, total, unit);
    size_t cards = r->n + (r->spec->rerun ? 1 : 0); /* each has `total` items */
    return p->fn(p->ctx, phase, (double)r->n_cards_done * total + done, (double)cards * total, unit);
}

/* --- preparation --- */

static const char *out_dir_of(study_run *r, char **owned) {
    if (r->o->out_dir) return r->o->out_dir;
    return *owned = assay_path_join("out", r->spec->name);
}

static assay_status take_lock(study_run *r, assay_err *err) {
    char *path = assay_path_join(r->res->out_dir, ".lock");
    if (!path) return assay_nomem(err);
    assay_status s = ASSAY_OK;
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (r->lock < 0) s = assay_fail_errno(err, errno, "cannot open %s", path);
    else if (flock(r->lock, LOCK_EX | LOCK_NB))
        s = assay_fail(err, ASSAY_EUSAGE, "another run works in '%s': wait for it, or choose another folder with --out", r->res->out_dir);
    assay_free(path);
    return s;
}

static assay_status open_places(study_run *r, assay_err *err) {
    char *owned = NULL;
    const char *out = out_dir_of(r, &owned);
    assay_status s = out ? study_result_new(&r->res, r->spec->name, out, err) : assay_nomem(err);
    if (s == ASSAY_OK) {
        r->db = assay_path_join(out, "assay.db");
        r->variants_dir = assay_path_join(out, "variants");
        if (!r->db || !r->variants_dir) s = assay_nomem(err);
    }
    assay_free(owned);
    if (s != ASSAY_OK) return s;
    if (r->o->dry_run && !assay_path_exists(r->db)) return ASSAY_OK;
    if (r->o->dry_run) return assay_store_open(&r->store, r->db, &(assay_store_opts){.read_only = true}, err);
    ASSAY_TRY(assay_mkdirs(r->res->out_dir, err));
    ASSAY_TRY(take_lock(r, err));
    assay_remove_leftovers(r->res->out_dir); /* of reports that a kill cut off */
    return assay_store_open(&r->store, r->db, NULL, err);
}

/* Options of one model's runtime. */
static assay_native_opts runtime_of(const study_run *r, const model *m) {
    assay_native_opts o = r->o->runtime;
    if (o.activations == ASSAY_ACT_AUTO) o.activations = m->spec->activations;
    if (o.kv == ASSAY_KV_KIND_AUTO) o.kv = m->spec->kv;
    if (!o.adapter) o.adapter = m->spec->adapter;
    return o;
}

static assay_status identify(study_run *r, model *m, const char *checkpoint, assay_err *err) {
    assay_native_opts o = runtime_of(r, m);
    /* What a recipe makes has the model's own text files, copied: its key must not need its folder. */
    ASSAY_TRY(study_identify(&m->identity, m->spec->recipe ? r->spec->model : m->dir, m->dir, checkpoint, &o, err));
    return study_score_key(m->score_key, &m->identity, r->suite->hash, study_suite_has_kl(r->suite) ? &r->models[0].identity : NULL, 0, err);
}

/* Size of a checkpoint that is there, and its bits per weight when it is not quantized. */
static assay_status measure(model *m, assay_err *err) {
    assay_checkpoint *c;
    double elements = 0;
    ASSAY_TRY(assay_checkpoint_open(&c, m->dir, err));
    m->size_bytes = (double)assay_checkpoint_n_bytes(c);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        const assay_tensor *t = assay_checkpoint_get(c, i);
        elements += (double)t->n_bytes / (double)assay_dtype_size(t->dtype);
    }
    m->effective_bpw = 8 * m->size_bytes / elements;
    assay_checkpoint_close(c);
    return ASSAY_OK;
}

static assay_status prepare_baseline(study_run *r, assay_err *err) {
    model *m = &r->models[0];
    m->spec = &r->spec->baseline;
    m->dir = assay_strdup(r->spec->model);
    if (!m->dir) return assay_nomem(err);
    ASSAY_TRY(measure(m, err));
    ASSAY_TRY(identify(r, m, NULL, err));
    m->made = true;
    if (!r->spec->rerun) return ASSAY_OK;
    return study_score_key(r->rerun_key, &m->identity, r->suite->hash, study_suite_has_kl(r->suite) ? &m->identity : NULL, r->spec->rerun_batch, err);
}

/* A quantized checkpoint's identity is in its step's result: its files may be gone once it is scored. */
static assay_status find_made(study_run *r, model *m, assay_err *err) {
    assay_step st = {0};
    bool found = false;
    const char *checkpoint = NULL;
    if (!r->store) return ASSAY_OK;
    ASSAY_TRY(assay_step_find(&st, &found, r->store, m->quantize_key, err));
    if (found && st.state == ASSAY_STEP_DONE && st.result) {
        checkpoint = json_string_value(json_object_get(st.result, "checkpoint"));
        m->size_bytes = json_number_value(json_object_get(st.result, "size_bytes"));
        m->effective_bpw = json_number_value(json_object_get(st.result, "effective_bpw"));
        json_t *recipe = json_object_get(st.result, "recipe"); /* a mixture's */
        if (recipe) {
            json_decref(m->recipe);
            m->recipe = json_incref(recipe);
        }
    }
    assay_status s = checkpoint ? identify(r, m, checkpoint, err) : ASSAY_OK;
    assay_step_deinit(&st);
    return s;
}

static assay_status key_of_making(study_run *r, model *m, assay_err *err) {
    const assay_variant_spec *v = m->spec;
    const char *shown = assay_variant_calibrates(v) ? r->calibrator.sequences.hash : NULL;
    char weights[ASSAY_HASH_HEX];
    assay_str mixture = {0};
    if (v->imatrix) {
        if (assay_hash_file(weights, v->imatrix, err) != ASSAY_OK) return assay_err_prefix(err, "variant %s", v->name);
        shown = weights;
    }
    assay_str_printf(&mixture, "%.17g %d %s", v->target_bpw, (int)v->sensitivity, v->mix ? v->mix : "");
    assay_status s = assay_str_status(&mixture, err);
    if (s == ASSAY_OK)
        s = study_quantize_key(m->quantize_key, r->models[0].identity.checkpoint, v->recipe, shown,
                               v->target_bpw > 0 ? assay_str_c(&mixture) : NULL, err);
    assay_str_free(&mixture);
    return s;
}

static assay_status prepare_variant(study_run *r, model *m, assay_err *err) {
    m->size_bytes = m->effective_bpw = NAN;
    if (m->spec->path) {
        m->dir = assay_strdup(m->spec->path);
        if (!m->dir) return assay_nomem(err);
        m->made = true;
        ASSAY_TRY(measure(m, err));
        m->effective_bpw = 8 * m->size_bytes / (8 * r->models[0].size_bytes / r->models[0].effective_bpw);
        return identify(r, m, NULL, err);
    }
    m->dir = assay_path_join(r->variants_dir, m->spec->name);
    if (!m->dir) return assay_nomem(err);
    if (!(m->recipe = assay_recipe_to_json(m->spec->recipe))) return assay_nomem(err);
    ASSAY_TRY(key_of_making(r, m, err));
    return find_made(r, m, err);
}

static assay_status is_complete(bool *out, study_run *r, const char *key, assay_err *err) {
    assay_scorecard c = {0};
    assay_err why = {0};
    *out = false;
    if (!r->store || !*key) return ASSAY_OK;
    assay_status s = assay_scorecard_by_key(&c, r->store, key, &why);
    if (s == ASSAY_ENOTFOUND) return ASSAY_OK;
    if (s != ASSAY_OK) return assay_fail(err, s, "%s", why.message);
    *out = c.complete;
    assay_scorecard_deinit(&c);
    return ASSAY_OK;
}

static assay_status open_calibration(study_run *r, assay_err *err) {
    bool wanted = false;
    for (size_t i = 0; i < r->spec->n_variants; i++) wanted |= assay_variant_calibrates(&r->spec->variants[i]);
    return wanted ? assay_calibrator_open(&r->calibrator, r->spec->model, &r->spec->calibration, err) : ASSAY_OK;
}

static assay_status prepare(study_run *r, const char *file, assay_err *err) {
    ASSAY_TRY(assay_study_spec_load(&r->spec, file, err));
    ASSAY_TRY(assay_suite_load_limited(&r->suite, r->spec->suite, r->o->limit, err));
    if (r->spec->prices) {
        assay_prices *prices;
        ASSAY_TRY(assay_prices_load(&prices, r->spec->prices, err));
        assay_prices_free(prices);
    }
    ASSAY_TRY(open_places(r, err));
    r->n = 1 + r->spec->n_variants;
    r->models = assay_calloc(r->n, sizeof *r->models);
    if (!r->models) return assay_nomem(err);
    ASSAY_TRY(prepare_baseline(r, err));
    ASSAY_TRY(open_calibration(r, err));
    for (size_t i = 1; i < r->n; i++) {
        r->models[i].spec = &r->spec->variants[i - 1];
        ASSAY_TRY(prepare_variant(r, &r->models[i], err));
    }
    for (size_t i = 0; i < r->n; i++) ASSAY_TRY(is_complete(&r->models[i].scored, r, r->models[i].score_key, err));
    ASSAY_TRY(is_complete(&r->rerun_scored, r, r->rerun_key, err));
    char place[40];
    ASSAY_TRY(study_identity_hash(r->kl_name, &r->models[0].identity, err));
    snprintf(place, sizeof place, "cache/kl-%.16s", r->kl_name);
    r->kl_dir = study_suite_has_kl(r->suite) ? assay_path_join(r->res->out_dir, place) : NULL;
    return ASSAY_OK;
}

/* --- quantizing --- */

typedef struct loss_sink {
    assay_layer_loss *v;
    assay_loss *raw;
    size_t n;
    assay_arena arena;
} loss_sink;

/* "model.layers.0.mlp.up_proj.weight" -> "up_proj" */
static const char *role_of(loss_sink *k, const char *name) {
    const char *dot = strrchr(name, '.');
    const char *end = dot && !strcmp(dot, ".weight") ? dot : name + strlen(name);
    const char *begin = end;
    while (begin > name && begin[-1] != '.') begin--;
    return assay_arena_strndup(&k->arena, begin, (size_t)(end - begin));
}

static assay_status store_losses(study_run *r, const model *m, assay_err *err) {
    loss_sink k = {0};
    assay_status s = assay_losses_load(&k.raw, &k.n, m->dir, err);
    if (s == ASSAY_OK && !(k.v = assay_calloc(k.n + 1, sizeof *k.v))) s = assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < k.n; i++) {
        const assay_loss *l = &k.raw[i];
        k.v[i] = (assay_layer_loss){.tensor = l->name, .layer = l->layer, .role = role_of(&k, l->name),
                                    .precision = assay_precision_name(l->choice.precision), .bits = l->bits_per_weight,
                                    .method = assay_method_name(l->choice.method), .weight_error = l->weight_error,
                                    .output_error = l->output_error >= 0 ? l->output_error : NAN, .seconds = l->seconds};
        if (!k.v[i].role) s = assay_nomem(err);
    }
    if (s == ASSAY_OK) s = assay_loss_put(r->store, m->quantize_key, k.v, k.n, err);
    assay_free(k.v);
    assay_free(k.raw);
    assay_arena_free(&k.arena);
    return s;
}

/* Where a mixture's measures are kept: variants that mix the same candidates share them, whatever their targets. */
static char *measures_path(const study_run *r, const model *m, assay_err *err) {
    char hex[ASSAY_HASH_HEX], name[64];
    const char *list = m->spec->mix ? m->spec->mix : "";
    assay_hash_bytes(hex, list, strlen(list));
    snprintf(name, sizeof name, "cache/mixture-%.16s.json", hex);
    char *dir = assay_path_join(r->res->out_dir, "cache"), *path = assay_path_join(r->res->out_dir, name);
    bool ok = dir && path && assay_mkdirs(dir, err) == ASSAY_OK;
    assay_free(dir);
    if (ok) return path;
    assay_free(path);
    return NULL;
}

/* The recipe that a mixture's measures come to; what was measured and chosen is kept beside the variant. */
static assay_status mix(assay_recipe **recipe, study_run *r, model *m, const assay_progress *progress, assay_err *err) {
    assay_mixture mixture = {0};
    char *path = assay_path_join(m->dir, "mixture.json"), *cache = measures_path(r, m, err);
    assay_mixture_opts o = {.target_bpw = m->spec->target_bpw, .precisions = m->spec->mix, .sensitivity = m->spec->sensitivity,
                            .n_threads = r->o->runtime.n_threads, .cache = cache, .progress = progress};
    json_t *j = NULL;
    assay_status s = path && cache ? assay_mkdirs(m->dir, err) : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_mixture_make(&mixture, r->spec->model, m->spec->recipe, &r->calibrator.sequences, &o, err);
    if (s == ASSAY_OK) s = assay_mixture_recipe(recipe, &mixture, m->spec->recipe, err);
    if (s == ASSAY_OK && !(j = assay_mixture_to_json(&mixture))) s = assay_nomem(err);
    if (s == ASSAY_OK) s = assay_json_save(path, j, 1, err);
    if (s == ASSAY_OK) {
        json_decref(m->recipe);
        if (!(m->recipe = assay_recipe_to_json(*recipe))) s = assay_nomem(err);
    }
    json_decref(j);
    assay_mixture_deinit(&mixture);
    assay_free(path);
    assay_free(cache);
    return s;
}

static assay_status make_checkpoint(assay_quantize_result *q, study_run *r, model *m, assay_err *err) {
    assay_progress progress = {on_progress, r};
    assay_recipe *mixed = NULL;
    assay_quantize_opts o = {.n_threads = r->o->runtime.n_threads, .progress = &progress, .overwrite = true,
                             .source_hash = r->models[0].identity.checkpoint, .imatrix = m->spec->imatrix};
    if (assay_variant_calibrates(m->spec)) o.calibration = &r->calibrator.sequences;
    if (m->spec->target_bpw > 0) ASSAY_TRY(mix(&mixed, r, m, &progress, err));
    assay_status s = assay_quantize(q, r->spec->model, m->dir, mixed ? mixed : m->spec->recipe, &o, err);
    assay_recipe_free(mixed);
    return s;
}

static assay_status make_variant(study_run *r, model *m, assay_err *err) {
    assay_quantize_result q;
    char checkpoint[ASSAY_HASH_HEX];
    ASSAY_TRY(make_checkpoint(&q, r, m, err));
    ASSAY_TRY(study_checkpoint_hash(checkpoint, m->dir, err));
    ASSAY_TRY(store_losses(r, m, err));
    m->size_bytes = (double)q.output_bytes;
    m->effective_bpw = q.bits_per_weight;
    json_t *result = json_pack("{s:s, s:f, s:f, s:I, s:f, s:O}", "checkpoint", checkpoint, "size_bytes", m->size_bytes, "effective_bpw", m->effective_bpw,
                               "matrices", (json_int_t)q.n_matrices, "weight_error", q.weight_error, "recipe", m->recipe);
    assay_status s = result ? assay_step_finish(r->store, m->quantize_key, result, q.seconds, err) : assay_nomem(err);
    json_decref(result);
    return s == ASSAY_OK ? identify(r, m, checkpoint, err) : s;
}

/* A variant whose recipe this model or build cannot follow, whose checkpoint is no good, whose numbers are not finite or whose
 * vocabulary is another is reported as such; the others go on. */
static bool is_its_own_fault(assay_status s) {
    return s == ASSAY_EUNSUPPORTED || s == ASSAY_EINPUT || s == ASSAY_EMISMATCH || s == ASSAY_ENOTFOUND;
}

static assay_status quantize_one(study_run *r, model *m, assay_err *err) {
    assay_err why = {0};
    double begin = assay_now();
    bool have = *m->score_key && (m->scored || assay_path_is_dir(m->dir));
    if (have && !m->scored) { /* scored from what is on disk: is it whole, and still of this recipe? */
        char checkpoint[ASSAY_HASH_HEX];
        have = study_checkpoint_hash(checkpoint, m->dir, NULL) == ASSAY_OK && !strcmp(checkpoint, m->identity.checkpoint);
    }
    if (have) return study_note_step(r->res, "quantize", m->spec->name, m->quantize_key, true, 0, 0, err);
    ASSAY_TRY(assay_step_begin(r->store, m->quantize_key, r->spec->name, "quantize", m->spec->name, err));
    assay_status s = make_variant(r, m, &why);
    if (is_its_own_fault(s)) {
        snprintf(m->problem, sizeof m->problem, "%s", why.message);
        ASSAY_TRY(assay_step_fail(r->store, m->quantize_key, why.message, assay_now() - begin, err));
    } else if (s != ASSAY_OK) {
        assay_fail(err, s, "%s", why.message);
        return assay_err_prefix(err, "variant %s", m->spec->name);
    }
    if (s == ASSAY_OK) ASSAY_TRY(is_complete(&m->scored, r, m->score_key, err));
    return study_note_step(r->res, "quantize", m->spec->name, m->quantize_key, false, assay_now() - begin, 0, err);
}

/* --- scoring --- */

static bool all_scored(const study_run *r) {
    for (size_t i = 1; i < r->n; i++)
        if (!r->models[i].scored && !r->models[i].problem[0]) return false;
    return !r->spec->rerun || r->rerun_scored;
}

/* A finished scorecard becomes one of this study, under this name. */
static assay_status link_card(study_run *r, const char *key, const char *name, assay_role role, assay_err *err) {
    assay_scorecard c = {0};
    int64_t id;
    ASSAY_TRY(assay_scorecard_by_key(&c, r->store, key, err));
    assay_scorecard_desc d = c.d;
    d.study = r->spec->name;
    d.variant = name;
    d.role = role;
    assay_status s = assay_scorecard_begin(&id, NULL, NULL, r->store, &d, err);
    assay_scorecard_deinit(&c);
    return s;
}

static assay_status score_one(study_run *r, model *m, assay_role role, assay_err *err) {
    assay_progress progress = {on_progress, r};
    char phase[96];
    bool rerun = role == ASSAY_ROLE_RERUN, done = rerun ? r->rerun_scored : m->scored;
    const char *key = rerun ? r->rerun_key : m->score_key, *name = m->spec->name;
    double begin = assay_now();
    int64_t id, n_new = 0;
    assay_err why = {0};
    /* The baseline's distributions may have been cleared away while variants still need them. */
    bool refill = role == ASSAY_ROLE_BASELINE && r->kl_dir && !all_scored(r);
    if (done && !refill) {
        ASSAY_TRY(link_card(r, key, name, role, err));
        return study_note_step(r->res, "score", name, key, true, 0, 0, err);
    }
    study_score_job job = {.store = r->store, .suite = r->suite, .dir = m->dir, .runtime = runtime_of(r, m), .kl_dir = r->kl_dir,
                           .kl_name = r->kl_dir ? r->kl_name : NULL, .recipe = m->recipe,
                           .progress = &progress, .phase = phase,
                           .desc = {.key = key, .study = r->spec->name, .variant = name, .role = role, .model_hash = m->identity.checkpoint}};
    if (rerun) { /* everything that must not matter is different */
        job.runtime.max_batch = r->spec->rerun_batch;
        job.runtime.prefill_chunk = 96;
        job.runtime.no_prefix_cache = true;
    }
    snprintf(phase, sizeof phase, "scoring %s%s", name, rerun ? " again" : "");
    assay_status s = study_score_run(&id, &n_new, &job, &why);
    if (is_its_own_fault(s) && role == ASSAY_ROLE_VARIANT) snprintf(m->problem, sizeof m->problem, "%s", why.message);
    else if (s != ASSAY_OK) return assay_fail(err, s, "%s", why.message);
    return study_note_step(r->res, "score", name, key, done, assay_now() - begin, n_new, err);
}

static assay_status score_all(study_run *r, assay_err *err) {
    for (size_t i = 0; i < r->n; i++) {
        model *m = &r->models[i];
        if (!m->problem[0]) ASSAY_TRY(score_one(r, m, i ? ASSAY_ROLE_VARIANT : ASSAY_ROLE_BASELINE, err));
        r->n_cards_done++;
        if (i || !r->spec->rerun) continue;
        ASSAY_TRY(score_one(r, m, ASSAY_ROLE_RERUN, err));
        r->n_cards_done++;
    }
    return ASSAY_OK;
}

/* --- what is kept --- */

static json_t *real_or_null(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *variant_json(const study_run *r, const model *m) {
    assay_str text = {0};
    bool own = m->spec->path && !strcmp(m->spec->path, r->spec->model);
    if (m->spec->target_bpw > 0) assay_str_printf(&text, "mixture of %g bits, ", m->spec->target_bpw);
    if (m->spec->recipe) assay_recipe_describe(&text, m->spec->recipe);
    else assay_str_put(&text, own ? "as it is" : m->spec->path);
    if (m->spec->activations != ASSAY_ACT_AUTO) assay_str_printf(&text, ", %s activations", assay_act_mode_word(m->spec->activations));
    if (m->spec->kv != ASSAY_KV_KIND_AUTO) assay_str_printf(&text, ", %s KV cache", assay_kv_kind_word(m->spec->kv));
    json_t *recipe = m->recipe ? json_incref(m->recipe) : json_null();
    json_t *j = json_pack("{s:s, s:o, s:s, s:o, s:o, s:s, s:s, s:s?, s:b, s:s?}", "name", m->spec->name, "recipe", recipe, "describe", assay_str_c(&text),
                          "size_bytes", real_or_null(m->size_bytes), "effective_bpw", real_or_null(m->effective_bpw), "quantize_key", m->quantize_key,
                          "score_key", m->score_key, "problem", m->problem[0] ? m->problem : NULL, "own", own, "kv",
                          m->spec->kv != ASSAY_KV_KIND_AUTO ? assay_kv_kind_word(m->spec->kv) : NULL);
    assay_str_free(&text);
    return j;
}

/* What all scorecards share. Without dates: the document is written again only when something changed. */
static json_t *study_manifest(const study_run *r) {
    const study_identity *b = &r->models[0].identity;
    char host[128] = "";
    gethostname(host, sizeof host - 1);
    json_t *suite = assay_suite_manifest(r->suite);
    if (!suite) return NULL;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:o}", "program", "assay " ASSAY_VERSION, "build", ASSAY_BUILD_FLAGS, "host", host,
                     "kernels", b->isa, "checkpoint", b->checkpoint, "cores", assay_n_cores(), "text", b->text, "suite", suite);
}

static assay_status make_body(json_t **out, const study_run *r, assay_err *err) {
    json_t *config = NULL, *variants = json_array(), *policy = assay_policy_to_json(&r->spec->policy), *manifest = study_manifest(r);
    char *path = assay_path_join(r->spec->model, "config.json");
    assay_status s = path && variants && policy && manifest ? assay_json_load(&config, path, err) : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < r->n; i++)
        if (json_array_append_new(variants, variant_json(r, &r->models[i]))) s = assay_nomem(err);
    if (s == ASSAY_OK) {
        *out = json_pack("{s:s, s:s, s:s, s:s, s:O, s:O, s:O, s:s, s:s, s:s?, s:s?, s:s?, s:O, s:O}", "schema", STUDY_SCHEMA, "file", r->spec->file, "model",
                         r->spec->model, "suite", r->spec->suite, "source", r->spec->source, "config", config, "policy", policy, "research",
                         r->spec->allow_research ? "allow" : "exclude", "prefer", r->spec->prefer == ASSAY_PREFER_COST ? "cost" : "size", "prices", r->spec->prices, "rerun_key",
                         r->rerun_key[0] ? r->rerun_key : NULL, "command", r->o->command, "variants", variants, "manifest", manifest);
        if (!*out) s = assay_nomem(err);
    }
    json_decref(config);
    json_decref(variants);
    json_decref(policy);
    json_decref(manifest);
    assay_free(path);
    return s;
}

/* Documents are only ever appended: one that says what the latest says already is left out. `volatile_key` (a date) does not count. */
static assay_status put_document(study_run *r, const assay_document *d, const char *volatile_key, assay_err *err) {
    assay_document last = {0};
    bool found = false, same = false;
    ASSAY_TRY(assay_document_latest(&last, &found, r->store, d->kind, d->study, d->name, err));
    if (found && last.body) {
        json_t *a = json_copy(d->body), *b = json_copy(last.body);
        if (a && b && volatile_key) {
            json_object_del(a, volatile_key);
            json_object_del(b, volatile_key);
        }
        same = a && b && json_equal(a, b);
        json_decref(a);
        json_decref(b);
    }
    assay_document_deinit(&last);
    return same ? ASSAY_OK : assay_document_put(NULL, r->store, d, err);
}

static assay_status put_verdicts(study_run *r, assay_err *err) {
    for (size_t i = 1; i < r->n; i++) {
        const assay_gate *g = r->res->gates[i];
        if (!g) continue;
        json_t *body = assay_gate_to_json(g, false);
        if (!body) return assay_nomem(err);
        assay_document d = {.kind = "verdict", .study = r->spec->name, .name = r->models[i].spec->name, .baseline = g->baseline_id,
                            .variant = g->variant_id, .body = body};
        assay_status s = put_document(r, &d, "date", err);
        json_decref(body);
        ASSAY_TRY(s);
        ASSAY_TRY(study_note_step(r->res, "gate", r->models[i].spec->name, NULL, false, 0, 0, err));
    }
    return ASSAY_OK;
}

/* --- report files --- */

typedef assay_status (*renderer)(assay_str *out, const assay_report *r, assay_err *err);

static assay_status render_json(assay_str *out, const assay_report *report, assay_err *err) {
    json_t *j;
    ASSAY_TRY(assay_report_json(&j, report, true, err));
    assay_status s = assay_json_dump(out, j, 1, false, err);
    json_decref(j);
    return s;
}

static assay_status write_reports(study_run *r, assay_err *err) {
    static const struct { const char *name; renderer render; } files[] = {
        {"report.md", assay_report_markdown}, {"report.json", render_json}, {"report.html", assay_report_html}};
    for (size_t i = 0; i < ASSAY_LEN(files); i++) {
        assay_str text = {0};
        char *path = assay_path_join(r->res->out_dir, files[i].name);
        assay_status s = path ? files[i].render(&text, &r->res->report, err) : assay_nomem(err);
        if (s == ASSAY_OK) s = assay_write_file(path, assay_str_c(&text), text.len, err);
        assay_str_free(&text);
        assay_free(r->res->html);
        r->res->html = path;
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}

static assay_status conclude(study_run *r, assay_err *err) {
    json_t *body = NULL;
    ASSAY_TRY(make_body(&body, r, err));
    assay_document d = {.kind = "study", .study = r->spec->name, .body = body};
    assay_status s = put_document(r, &d, "command", err);
    if (s != ASSAY_OK) {
        json_decref(body);
        return s;
    }
    ASSAY_TRY(study_collect(r->res, r->store, body, err));
    ASSAY_TRY(study_decide(r->res, r->o->who, err));
    ASSAY_TRY(put_verdicts(r, err));
    d = (assay_document){.kind = "decision", .study = r->spec->name, .body = r->res->decision};
    ASSAY_TRY(put_document(r, &d, "when", err));
    ASSAY_TRY(study_note_step(r->res, "decide", r->spec->name, NULL, false, 0, 0, err));
    return write_reports(r, err);
}

/* --- the whole --- */

static assay_status list_steps(study_run *r, assay_err *err) {
    for (size_t i = 1; i < r->n; i++)
        if (r->models[i].quantize_key[0])
            ASSAY_TRY(study_note_step(r->res, "quantize", r->models[i].spec->name, r->models[i].quantize_key,
                                      r->models[i].scored || (r->models[i].score_key[0] && assay_path_is_dir(r->models[i].dir)), 0, 0, err));
    for (size_t i = 0; i < r->n; i++) {
        ASSAY_TRY(study_note_step(r->res, "score", r->models[i].spec->name, r->models[i].score_key, r->models[i].scored, 0, 0, err));
        if (i == 0 && r->spec->rerun) ASSAY_TRY(study_note_step(r->res, "score", "baseline again", r->rerun_key, r->rerun_scored, 0, 0, err));
    }
    return ASSAY_OK;
}

static assay_status work(study_run *r, assay_err *err) {
    for (size_t i = 1; i < r->n; i++)
        if (r->models[i].quantize_key[0]) ASSAY_TRY(quantize_one(r, &r->models[i], err));
    ASSAY_TRY(score_all(r, err));
    return conclude(r, err);
}

static void release(study_run *r) {
    for (size_t i = 0; r->models && i < r->n; i++) {
        assay_free(r->models[i].dir);
        json_decref(r->models[i].recipe);
    }
    assay_calibrator_close(&r->calibrator);
    assay_free(r->models);
    assay_store_close(r->store);
    assay_suite_free(r->suite);
    assay_study_spec_free(r->spec);
    assay_free(r->db);
    assay_free(r->variants_dir);
    assay_free(r->kl_dir);
    if (r->lock >= 0) close(r->lock);
}

assay_status assay_study_run(assay_study_result **out, const char *file, const assay_study_exec *o, assay_err *err) {
    static const assay_study_exec defaults;
    study_run r = {.o = o ? o : &defaults, .lock = -1};
    *out = NULL;
    assay_status s = prepare(&r, file, err);
    if (s == ASSAY_OK) s = r.o->dry_run ? list_steps(&r, err) : work(&r, err);
    if (s == ASSAY_OK && r.store && !r.o->dry_run) s = assay_store_flush(r.store, err);
    release(&r);
    if (s == ASSAY_OK) *out = r.res;
    else assay_study_result_free(r.res);
    return s;
}
