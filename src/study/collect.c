/* collect.c: what a store knows of a study -> the report's data. Gates and plans are computed here, from stored records and the stored
 * configuration; so a report of last year's study needs last year's store and nothing else. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "base/yaml.h"
#include "study/deploy.h"
#include "study/study_impl.h"

static const char *text_of(const json_t *obj, const char *key) {
    return json_string_value(json_object_get(obj, key));
}

static double number_of(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static assay_status bad_body(const assay_study_result *r, const char *what, assay_err *err) {
    return assay_fail(err, ASSAY_EINPUT, "the store's document of study '%s' is damaged: %s", r->name, what);
}

/* --- losses --- */

typedef struct loss_list {
    assay_study_result *r;
    assay_layer_loss *v;
    size_t n, cap;
} loss_list;

static assay_status take_loss(void *ctx, const assay_layer_loss *l, assay_err *err) {
    loss_list *list = ctx;
    ASSAY_TRY(assay_grow(&list->v, &list->cap, list->n + 1, sizeof *list->v, err));
    assay_layer_loss *c = &list->v[list->n];
    *c = *l;
    const char **strings[] = {&c->tensor, &c->role, &c->precision, &c->method, &c->params};
    for (size_t i = 0; i < ASSAY_LEN(strings); i++) {
        const char *from = *strings[i];
        *strings[i] = study_keep(list->r, from);
        if (from && !*strings[i]) return assay_nomem(err);
    }
    list->n++;
    return ASSAY_OK;
}

static assay_status collect_losses(assay_study_result *r, size_t i, assay_store *s, const char *key, assay_err *err) {
    loss_list list = {.r = r};
    if (!key || !*key) return ASSAY_OK;
    assay_status st = assay_loss_each(s, key, take_loss, &list, err);
    r->losses[i] = list.v;
    r->variants[i].losses = list.v;
    r->variants[i].n_losses = list.n;
    return st;
}

/* --- KL, over every token --- */

typedef struct kl_list {
    double *v;
    size_t n, cap;
    double same;
} kl_list;

static assay_status take_kl(void *ctx, int64_t position, const assay_record *rec, assay_err *err) {
    kl_list *list = ctx;
    (void)position;
    if (strcmp(rec->evaluator, "kl") || rec->outcome == ASSAY_OUTCOME_ERROR || !rec->output) return ASSAY_OK;
    json_t *j;
    ASSAY_TRY(assay_json_parse(&j, rec->output, strlen(rec->output), rec->item_id, err));
    const json_t *values = json_object_get(j, "kl");
    assay_status s = assay_grow(&list->v, &list->cap, list->n + json_array_size(values), sizeof *list->v, err);
    for (size_t i = 0; s == ASSAY_OK && i < json_array_size(values); i++) list->v[list->n++] = json_number_value(json_array_get(values, i));
    list->same += number_of(j, "same");
    json_decref(j);
    return s;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation at p (n - 1), as llama.cpp has it. v sorted, n >= 1. */
static double percentile(const double *v, size_t n, double p) {
    double at = p * (double)(n - 1);
    size_t k = (size_t)at;
    return k + 1 < n ? v[k] + (at - (double)k) * (v[k + 1] - v[k]) : v[n - 1];
}

static assay_status collect_kl(assay_report_kl *out, assay_store *s, int64_t card, assay_err *err) {
    kl_list list = {0};
    assay_status st = assay_record_each(s, card, take_kl, &list, err);
    if (st == ASSAY_OK && list.n) {
        double sum = 0;
        qsort(list.v, list.n, sizeof *list.v, compare_doubles);
        for (size_t i = 0; i < list.n; i++) sum += list.v[i];
        *out = (assay_report_kl){.n = list.n, .unit = "token", .mean = sum / (double)list.n, .p50 = percentile(list.v, list.n, 0.5),
                                 .p90 = percentile(list.v, list.n, 0.9), .p95 = percentile(list.v, list.n, 0.95),
                                 .p99 = percentile(list.v, list.n, 0.99), .max = list.v[list.n - 1], .top1 = list.same / (double)list.n};
    }
    assay_free(list.v);
    return st;
}

/* --- plans --- */

/* A recipe from its canonical JSON, which is a YAML mapping too. */
static assay_status recipe_of(assay_recipe **out, const json_t *j, assay_err *err) {
    assay_str text = {0};
    assay_yaml_doc *d = NULL;
    *out = NULL;
    if (!json_is_object(j)) return ASSAY_OK;
    assay_status s = assay_json_dump(&text, j, 1, false, err);
    if (s == ASSAY_OK) s = assay_yaml_parse(&d, assay_str_c(&text), text.len, "recipe", err);
    if (s == ASSAY_OK) s = assay_recipe_from_yaml(out, d, assay_yaml_root(d), NULL, 0, err);
    assay_yaml_free(d);
    assay_str_free(&text);
    return s;
}

/* The serving part of the study as it was written, read again the way the study file is read. */
static assay_status read_deployment(assay_study_result *r, assay_study_spec **spec, assay_err *err) {
    assay_str text = {0};
    assay_status s = assay_json_dump(&text, json_object_get(r->body, "source"), 1, false, err);
    if (s == ASSAY_OK) s = assay_study_spec_parse(spec, assay_str_c(&text), text.len, "the stored study", "", err);
    assay_str_free(&text);
    return s;
}

/* What a variant's matrices are stored as, from the sizes that its recipe comes to. */
static void describe_storage(assay_report_variant *out, const assay_sizes *s) {
    double bytes = 0, params = 0;
    const assay_storage *first = NULL;
    for (int i = 0; i < s->n_lines; i++) {
        const assay_size_line *l = &s->lines[i];
        if (assay_precision_get_kind(l->storage.precision) == ASSAY_KIND_DENSE) continue;
        int bits = assay_precision_bits(l->storage.precision);
        if (!out->code_bits || bits < out->code_bits) out->code_bits = bits;
        if (first && (first->precision != l->storage.precision || first->group_size != l->storage.group_size)) out->mixture = true;
        if (!first) first = &l->storage;
        bytes += l->codes + l->scales + l->zeros + l->meta;
        params += (double)l->params;
    }
    if (params > 0) out->quantized_bpw = 8 * bytes / params;
}

/* The fewest bits of a code among the losses that were stored, where no recipe tells. */
static int least_bits(const assay_report_variant *v) {
    int least = 0;
    for (size_t i = 0; i < v->n_losses; i++) {
        assay_precision p;
        if (!v->losses[i].precision || !assay_precision_parse(&p, v->losses[i].precision)) continue;
        if (assay_precision_get_kind(p) == ASSAY_KIND_DENSE) continue;
        if (!least || assay_precision_bits(p) < least) least = assay_precision_bits(p);
    }
    return least;
}

/* A mixture is one also when it gave all its bits to one precision and left the rest as it was. */
static bool was_mixed(const assay_study_spec *spec, const char *name) {
    for (size_t i = 0; i < spec->n_variants; i++)
        if (!strcmp(spec->variants[i].name, name)) return spec->variants[i].target_bpw > 0;
    return false;
}

static assay_status collect_plans(assay_study_result *r, assay_err *err) {
    assay_study_spec *spec = NULL;
    const json_t *list = json_object_get(r->body, "variants");
    const char *prices = text_of(r->body, "prices");
    ASSAY_TRY(read_deployment(r, &spec, err));
    assay_status s = ASSAY_OK;
    assay_plan_opts o = {.serving = spec->serving, .kv = spec->kv, .runtime = study_keep(r, spec->serving_runtime)};
    r->devices = assay_arena_alloc(&r->arena, (spec->n_devices + 1) * sizeof *r->devices);
    if (!r->devices || (spec->serving_runtime && !o.runtime)) ASSAY_GO(assay_nomem(err));
    if (spec->n_devices) memcpy(r->devices, spec->devices, spec->n_devices * sizeof *r->devices);
    o.devices = r->devices;
    o.n_devices = spec->n_devices;
    if (prices && assay_path_exists(prices)) ASSAY_GO(assay_prices_load(&r->prices, prices, err));
    o.prices = r->prices;
    for (size_t i = 0; i < r->n; i++) {
        const json_t *v = json_array_get(list, i);
        assay_recipe *recipe = NULL;
        ASSAY_GO(recipe_of(&recipe, json_object_get(v, "recipe"), err));
        assay_gguf_types *types = NULL;
        assay_err why = {0};
        assay_status typed = recipe ? assay_gguf_types_new(&types, recipe, &r->config, &why) : ASSAY_OK;
        if (typed == ASSAY_ENOMEM) s = assay_nomem(err);
        assay_recipe_storage storage = {recipe, r->config.dtype, types};
        const char *kv = text_of(v, "kv");
        /* What a foreign checkpoint stores is not planned from its configuration, nor a recipe that GGUF cannot follow: its variant says so. */
        bool known = typed == ASSAY_OK && (recipe || i == 0 || json_is_true(json_object_get(v, "own")));
        bool gguf = recipe && assay_recipe_base(recipe)->method == ASSAY_METHOD_GGUF;
        o.runtime = gguf && !spec->serving_runtime ? "llama.cpp" : spec->serving_runtime ? study_keep(r, spec->serving_runtime) : NULL;
        o.kv = spec->kv;
        if (kv) assay_kv_parse(&o.kv, kv); /* what was scored is what is planned */
        o.checkpoint_bytes = isnan(r->variants[i].size_bytes) ? 0 : r->variants[i].size_bytes;
        if (known && s == ASSAY_OK) s = assay_plan_make(&r->plans[i], &r->config, assay_storage_by_recipe, &storage, &o, err);
        assay_gguf_types_free(types);
        assay_recipe_free(recipe);
        if (s != ASSAY_OK) goto out;
        r->variants[i].mixture = was_mixed(spec, r->variants[i].name);
        r->variants[i].code_bits = least_bits(&r->variants[i]);
        if (!known) continue;
        describe_storage(&r->variants[i], &r->plans[i].sizes);
        r->variants[i].raw_bpw = r->plans[i].sizes.raw_bpw;
        if (spec->n_devices) r->variants[i].plan = &r->plans[i];
    }
out:
    assay_study_spec_free(spec);
    return s;
}

/* --- variants --- */

static assay_status collect_manifest(assay_study_result *r, size_t i, const assay_scorecard *c, assay_err *err) {
    if (!c->d.manifest) return ASSAY_OK;
    ASSAY_TRY(assay_json_parse(&r->manifests[i], c->d.manifest, strlen(c->d.manifest), "manifest", err));
    r->variants[i].manifest = r->manifests[i];
    return ASSAY_OK;
}

/* The scorecard of that key, when it is complete; 0 otherwise. */
static assay_status find_card(int64_t *id, assay_study_result *r, size_t variant, assay_store *s, const char *key, assay_err *err) {
    assay_scorecard c = {0};
    assay_err why = {0};
    *id = 0;
    if (!key || !*key) return ASSAY_OK;
    assay_status st = assay_scorecard_by_key(&c, s, key, &why);
    if (st == ASSAY_ENOTFOUND) return ASSAY_OK;
    if (st != ASSAY_OK) return assay_fail(err, st, "%s", why.message);
    if (c.complete) *id = c.id;
    if (c.complete && variant < r->n) st = collect_manifest(r, variant, &c, err);
    assay_scorecard_deinit(&c);
    return st;
}

static assay_status collect_variant(assay_study_result *r, size_t i, assay_store *s, const json_t *v, assay_err *err) {
    assay_report_variant *out = &r->variants[i];
    *out = (assay_report_variant){.name = study_keep(r, text_of(v, "name")), .recipe = study_keep(r, text_of(v, "describe")),
                                  .is_baseline = i == 0, .problem = study_keep(r, text_of(v, "problem")),
                                  .size_bytes = number_of(v, "size_bytes"), .raw_bpw = NAN, .effective_bpw = number_of(v, "effective_bpw"),
                                  .quantized_bpw = NAN, .kv = study_keep(r, text_of(v, "kv")), .kl.top1 = NAN, .prefill_rate = NAN, .decode_rate = NAN};
    if (!out->name) return bad_body(r, "a variant has no name", err);
    ASSAY_TRY(collect_losses(r, i, s, text_of(v, "quantize_key"), err));
    ASSAY_TRY(find_card(&r->cards[i], r, i, s, text_of(v, "score_key"), err));
    if (!r->cards[i]) {
        if (!out->problem) out->problem = "not scored yet: run the study to its end";
        return ASSAY_OK;
    }
    return i ? collect_kl(&out->kl, s, r->cards[i], err) : ASSAY_OK;
}

static assay_status collect_gates(assay_study_result *r, assay_store *s, assay_err *err) {
    assay_gate_opts o = {.rerun_id = r->rerun, .baseline_name = r->variants[0].name};
    for (size_t i = 1; i < r->n && r->cards[0]; i++) {
        if (!r->cards[i]) continue;
        o.variant_name = r->variants[i].name; /* a renamed variant keeps its scorecard */
        ASSAY_TRY(assay_gate_run(&r->gates[i], s, r->cards[0], r->cards[i], &r->policy, &o, err));
        r->variants[i].gate = r->gates[i];
    }
    return ASSAY_OK;
}

static assay_status allocate(assay_study_result *r, size_t n, assay_err *err) {
    r->variants = assay_arena_alloc(&r->arena, n * sizeof *r->variants);
    r->gates = assay_arena_alloc(&r->arena, n * sizeof *r->gates);
    r->plans = assay_arena_alloc(&r->arena, n * sizeof *r->plans);
    r->losses = assay_arena_alloc(&r->arena, n * sizeof *r->losses);
    r->manifests = assay_arena_alloc(&r->arena, n * sizeof *r->manifests);
    r->cards = assay_arena_alloc(&r->arena, n * sizeof *r->cards);
    if (!r->variants || !r->gates || !r->plans || !r->losses || !r->manifests || !r->cards) return assay_nomem(err);
    r->n = n;
    return ASSAY_OK;
}

assay_status study_collect(assay_study_result *r, assay_store *s, json_t *body, assay_err *err) {
    r->body = body;
    const json_t *list = json_object_get(body, "variants");
    const char *schema = text_of(body, "schema");
    if (!schema || strcmp(schema, STUDY_SCHEMA)) return bad_body(r, "an unknown schema", err);
    if (!json_array_size(list)) return bad_body(r, "no variants", err);
    ASSAY_TRY(allocate(r, json_array_size(list), err));
    ASSAY_TRY(assay_policy_from_json(&r->policy, json_object_get(body, "policy"), "the stored policy", err));
    ASSAY_TRY(assay_config_parse(&r->config, json_object_get(body, "config"), NULL, "the stored config.json", err));
    for (size_t i = 0; i < r->n; i++) ASSAY_TRY(collect_variant(r, i, s, json_array_get(list, i), err));
    ASSAY_TRY(find_card(&r->rerun, r, r->n, s, text_of(body, "rerun_key"), err));
    ASSAY_TRY(collect_gates(r, s, err));
    ASSAY_TRY(collect_plans(r, err));
    r->report = (assay_report){.title = r->name, .model = text_of(body, "model"), .suite = text_of(body, "suite"),
                               .command = text_of(body, "command"), .variants = r->variants, .n_variants = r->n, .policy = &r->policy,
                               .manifest = json_object_get(body, "manifest")};
    r->has_report = true;
    return ASSAY_OK;
}
