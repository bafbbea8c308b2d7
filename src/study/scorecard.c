/* scorecard.c: `assay eval`: one model, one suite, one scorecard in a store, and its totals as JSON and as a table. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "gate/gate.h"
#include "report/table.h"
#include "study/score.h"
#include "study/study.h"
#include "study/keys.h"

/* --- running --- */

/* The identity of the baseline whose distributions kl compares with: from the scorecard of that name. */
static assay_status kl_place(char **out, assay_store *store, const assay_score_opts *o, const study_identity *own, char name[ASSAY_HASH_HEX],
                             assay_err *err) {
    assay_scorecard c = {0};
    assay_str path = {0};
    assay_status s = ASSAY_OK;
    *out = NULL;
    if (o->baseline) {
        ASSAY_GO(assay_scorecard_latest(&c, store, o->study, o->baseline, err));
        json_t *m = c.d.manifest ? json_loads(c.d.manifest, 0, NULL) : NULL;
        const char *kl = json_string_value(json_object_get(m, "kl"));
        if (!kl || strlen(kl) >= ASSAY_HASH_HEX) s = assay_fail(err, ASSAY_EINPUT, "scorecard '%s' has no distributions: it was not made as a baseline", o->baseline);
        else snprintf(name, ASSAY_HASH_HEX, "%s", kl);
        json_decref(m);
        if (s != ASSAY_OK) goto out;
    } else {
        ASSAY_GO(study_identity_hash(name, own, err));
    }
    assay_str_printf(&path, "%s.kl-%.16s", o->store, name);
    *out = assay_str_take(&path);
    if (!*out) s = assay_nomem(err);
out:
    assay_scorecard_deinit(&c);
    assay_str_free(&path);
    return s;
}

static void name_variant(char *out, size_t size, const char *model, const assay_native_opts *o) {
    snprintf(out, size, "%.100s", assay_path_base(model));
    size_t n = strlen(out);
    if (o->adapter) snprintf(out + n, size - n, "+%.60s", assay_path_base(o->adapter));
    n = strlen(out);
    if (o->kv) snprintf(out + n, size - n, "-kv-%s", assay_kv_kind_word(o->kv));
}

assay_status assay_study_score(int64_t *id, const char *model, const assay_score_opts *o, assay_err *err) {
    assay_suite *suite = NULL;
    assay_store *store = NULL;
    char *kl_dir = NULL, key[ASSAY_HASH_HEX], kl[ASSAY_HASH_HEX] = "", phase[96];
    study_identity own;
    int64_t n_new;
    const char *name = o->name;
    char own_name[192];
    assay_status s;
    if (!name) { /* an adapter or another cache make another variant of the same folder */
        name_variant(own_name, sizeof own_name, model, &o->runtime);
        name = own_name;
    }
    ASSAY_GO(assay_suite_load_limited(&suite, o->suite, o->limit, err));
    ASSAY_GO(assay_store_open(&store, o->store, NULL, err));
    ASSAY_GO(study_identify(&own, model, model, NULL, &o->runtime, err));
    if (study_suite_has_kl(suite)) ASSAY_GO(kl_place(&kl_dir, store, o, &own, kl, err));
    /* The distributions' name stands for the baseline's whole identity. */
    study_identity base = {.activations = "", .kv = "", .isa = ""};
    memcpy(base.checkpoint, kl, sizeof kl);
    ASSAY_GO(study_score_key(key, &own, suite->hash, kl_dir ? &base : NULL, 0, err));
    snprintf(phase, sizeof phase, "scoring %.60s", name);
    study_score_job job = {.store = store, .suite = suite, .dir = model, .runtime = o->runtime, .kl_dir = kl_dir, .kl_name = kl[0] ? kl : NULL,
                           .progress = o->progress, .phase = phase,
                           .desc = {.key = key, .study = o->study, .variant = name, .model_hash = own.checkpoint,
                                    .role = o->baseline ? ASSAY_ROLE_VARIANT : ASSAY_ROLE_BASELINE}};
    s = study_score_run(id, &n_new, &job, err);
out:
    assay_store_close(store);
    assay_suite_free(suite);
    assay_free(kl_dir);
    return s;
}

/* --- totals --- */

typedef struct total {
    const char *dimension, *slice;   /* slice NULL: the dimension's own */
    const char *evaluator;
    size_t n, outcomes[5];
    double score, aux, weight;       /* weighted sums */
    double nll, words, bytes;        /* perplexity_rolling */
    double tokens_out;
} total;

typedef struct totals {
    total *v;
    size_t n, cap;
    assay_arena arena;
} totals;

static assay_status find_total(total **out, totals *t, const char *dimension, const char *slice, const char *evaluator, assay_err *err) {
    for (size_t i = 0; i < t->n; i++) {
        total *k = &t->v[i];
        if (strcmp(k->dimension, dimension) || !k->slice != !slice || (slice && strcmp(k->slice, slice))) continue;
        *out = k;
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_grow(&t->v, &t->cap, t->n + 1, sizeof *t->v, err));
    total *k = *out = &t->v[t->n];
    *k = (total){.dimension = assay_arena_strndup(&t->arena, dimension, strlen(dimension)),
                 .slice = slice ? assay_arena_strndup(&t->arena, slice, strlen(slice)) : NULL,
                 .evaluator = assay_arena_strndup(&t->arena, evaluator, strlen(evaluator))};
    if (!k->dimension || !k->evaluator || (slice && !k->slice)) return assay_nomem(err);
    t->n++;
    return ASSAY_OK;
}

static void add_text_counts(total *k, const assay_record *r) {
    if (!r->output || strcmp(r->evaluator, "perplexity_rolling")) return;
    json_t *j = json_loads(r->output, 0, NULL);
    k->nll += json_number_value(json_object_get(j, "nll"));
    k->words += json_number_value(json_object_get(j, "words"));
    k->bytes += json_number_value(json_object_get(j, "bytes"));
    json_decref(j);
}

static assay_status add_record(void *ctx, int64_t position, const assay_record *r, assay_err *err) {
    totals *t = ctx;
    const char *const slices[] = {NULL, r->slice};
    (void)position;
    for (size_t i = 0; i < 2; i++) {
        total *k;
        ASSAY_TRY(find_total(&k, t, r->dimension, slices[i], r->evaluator, err));
        k->n++;
        if ((unsigned)r->outcome < ASSAY_LEN(k->outcomes)) k->outcomes[r->outcome]++;
        if (r->outcome == ASSAY_OUTCOME_ERROR) continue;
        k->score += r->weight * r->score;
        k->aux += isnan(r->aux) ? 0 : r->weight * r->aux;
        k->weight += r->weight;
        k->tokens_out += (double)r->n_output;
        add_text_counts(k, r);
    }
    return ASSAY_OK;
}

static double mean(double sum, double weight) {
    return weight > 0 ? sum / weight : NAN;
}

static bool is_perplexity(const total *k) {
    return !strncmp(k->evaluator, "perplexity", 10);
}

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *total_json(const total *k) {
    json_t *outcomes = json_object();
    for (size_t i = 0; i < ASSAY_LEN(k->outcomes); i++)
        json_object_set_new(outcomes, assay_outcome_name((assay_outcome)i), json_integer((json_int_t)k->outcomes[i]));
    bool has_aux = !strcmp(k->evaluator, "choice") || !strcmp(k->evaluator, "kl");
    json_t *j = json_pack("{s:s?, s:s, s:I, s:o, s:o, s:o, s:o}", "slice", k->slice, "evaluator", k->evaluator, "n", (json_int_t)k->n, "score",
                          number(mean(k->score, k->weight)), "aux", has_aux ? number(mean(k->aux, k->weight)) : json_null(), "output_tokens",
                          number(mean(k->tokens_out, (double)k->n)), "outcomes", outcomes);
    if (is_perplexity(k)) json_object_set_new(j, "perplexity", number(exp(mean(k->score, k->weight))));
    if (k->words > 0) {
        json_object_set_new(j, "word_perplexity", number(exp(k->nll / k->words)));
        json_object_set_new(j, "byte_perplexity", number(exp(k->nll / k->bytes)));
        json_object_set_new(j, "bits_per_byte", number(k->nll / k->bytes / log(2)));
    }
    return j;
}

static assay_status load_totals(totals *t, assay_scorecard *c, assay_store *s, int64_t id, assay_err *err) {
    ASSAY_TRY(assay_scorecard_get(c, s, id, err));
    return assay_record_each(s, id, add_record, t, err);
}

static void free_totals(totals *t, assay_scorecard *c) {
    assay_free(t->v);
    assay_arena_free(&t->arena);
    assay_scorecard_deinit(c);
}

static json_t *dimensions_json(const totals *t) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->n; i++) {
        if (t->v[i].slice) continue;
        json_t *d = total_json(&t->v[i]), *slices = json_array();
        for (size_t k = 0; k < t->n; k++)
            if (t->v[k].slice && !strcmp(t->v[k].dimension, t->v[i].dimension)) json_array_append_new(slices, total_json(&t->v[k]));
        json_object_del(d, "slice");
        json_object_set_new(d, "dimension", json_string(t->v[i].dimension));
        json_object_set_new(d, "slices", slices);
        json_array_append_new(list, d);
    }
    return list;
}

assay_status assay_study_scorecard_json(json_t **out, assay_store *store, int64_t id, assay_err *err) {
    totals t = {0};
    assay_scorecard c = {0};
    json_t *manifest = NULL;
    assay_status s = load_totals(&t, &c, store, id, err);
    *out = NULL;
    if (s == ASSAY_OK && c.d.manifest) s = assay_json_parse(&manifest, c.d.manifest, strlen(c.d.manifest), "manifest", err);
    if (s == ASSAY_OK) {
        const json_t *kv = json_object_get(json_object_get(manifest, "runtime"), "kv");
        *out = json_pack("{s:s, s:I, s:s, s:s?, s:s?, s:s?, s:s?, s:b, s:I, s:O?, s:o, s:O?}", "schema", "assay.scorecard/1", "scorecard", (json_int_t)id,
                         "variant", c.d.variant, "model", c.d.model_path, "model_hash", c.d.model_hash, "suite", c.d.suite, "suite_hash",
                         c.d.suite_hash, "complete", c.complete, "items", (json_int_t)c.n_records, "kv", (json_t *)(uintptr_t)kv, "dimensions", dimensions_json(&t), "manifest",
                         manifest);
        if (!*out) s = assay_nomem(err);
    }
    json_decref(manifest);
    free_totals(&t, &c);
    return s;
}

static const assay_column columns[] = {{.head = "dimension"}, {.head = "slice", .shrink = true}, {.head = "n", .right = true},
                                       {.head = "score", .right = true}, {.head = "second", .right = true, .optional = true},
                                       {.head = "truncated", .right = true, .optional = true}, {.head = "invalid", .right = true, .optional = true},
                                       {.head = "errors", .right = true, .optional = true}};

static void put_row(assay_table *t, const total *k) {
    double m = mean(k->score, k->weight), aux = mean(k->aux, k->weight);
    assay_tone tone = k->slice ? ASSAY_TONE_NONE : ASSAY_TONE_BOLD;
    assay_table_cell(t, tone, "%s", k->slice ? "" : k->dimension);
    assay_table_cell(t, tone, "%s", k->slice ? k->slice : "");
    assay_table_cell(t, tone, "%zu", k->n);
    if (is_perplexity(k)) assay_table_cell(t, tone, "%.4f ppl", exp(m));
    else if (!strcmp(k->evaluator, "kl")) assay_table_cell(t, tone, "%.5f nats", m);
    else assay_table_cell(t, tone, "%.1f %%", 100 * m);
    if (!strcmp(k->evaluator, "choice") || !strcmp(k->evaluator, "kl")) assay_table_cell(t, tone, "%.1f %%", 100 * aux);
    else if (k->words > 0) assay_table_cell(t, tone, "%.3f/word", exp(k->nll / k->words));
    else assay_table_cell(t, tone, "%s", "");
    static const assay_outcome shown[] = {ASSAY_OUTCOME_TRUNCATED, ASSAY_OUTCOME_INVALID, ASSAY_OUTCOME_ERROR};
    for (size_t i = 0; i < ASSAY_LEN(shown); i++) {
        size_t n = k->outcomes[shown[i]];
        if (n) assay_table_cell(t, tone, "%zu", n);
        else assay_table_cell(t, ASSAY_TONE_DIM, "%s", "-");
    }
}

/* A quantized KV cache is told beside the name: its losses add to those of the weights. */
static void put_heading(assay_str *out, const assay_scorecard *c, int64_t id) {
    json_t *manifest = c->d.manifest ? json_loads(c->d.manifest, 0, NULL) : NULL, *kv = json_object_get(json_object_get(manifest, "runtime"), "kv");
    assay_str_printf(out, "%s on %s: %lld records, scorecard %lld", c->d.variant, c->d.suite ? c->d.suite : "?", (long long)c->n_records,
                     (long long)id);
    if (json_object_get(kv, "unquantized"))
        assay_str_printf(out, "; KV cache %s, the newest %lld positions at most %s", json_string_value(json_object_get(kv, "type")),
                         (long long)json_integer_value(json_object_get(kv, "unquantized_positions")),
                         json_string_value(json_object_get(kv, "unquantized")));
    assay_str_put(out, "\n\n");
    json_decref(manifest);
}

assay_status assay_study_scorecard_text(assay_str *out, assay_store *store, int64_t id, const assay_term *term, assay_err *err) {
    totals t = {0};
    assay_scorecard c = {0};
    assay_table table;
    assay_table_init(&table, columns, ASSAY_LEN(columns));
    assay_status s = load_totals(&t, &c, store, id, err);
    if (s == ASSAY_OK) {
        put_heading(out, &c, id);
        for (size_t i = 0; i < t.n; i++) {
            if (t.v[i].slice) continue;
            put_row(&table, &t.v[i]);
            for (size_t k = 0; k < t.n; k++)
                if (t.v[k].slice && !strcmp(t.v[k].dimension, t.v[i].dimension)) put_row(&table, &t.v[k]);
        }
        s = assay_table_text(out, &table, term, err);
    }
    assay_table_free(&table);
    free_totals(&t, &c);
    return s;
}
