/* mixture.c: units and candidates of a mixture, its recipe and its explanation (mixture.h). What is measured is mixture_kl.c's and
 * mixture_fisher.c's, the assignment mixture_assign.c's. */
#include "method/mixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "method/choice.h"
#include "method/mixture_impl.h"
#include "train/layer.h"

/* --- candidates --- */

static const char default_list[] = "int3g128 int4g128 int4g32 int5g128 int6g128 int8g128 bf16";
static const char low_list[] = "int2g128 int2g64 int2g32 int3g128 int3g64 int3g32 int4g128 int4g32 int5g128 int6g128 int8g128 bf16";
#define LOW_BPW 4.0 /* below: two bits and small groups are in the list, and a research matter */

static assay_status add_candidate(assay_mixture *m, const char *word, size_t n, const assay_recipe *base, assay_err *err) {
    char *label = m->labels[m->n_candidates];
    if (m->n_candidates == ASSAY_MIXTURE_MAX_CANDIDATES)
        return assay_fail(err, ASSAY_EUSAGE, "more than %d precisions to mix", ASSAY_MIXTURE_MAX_CANDIDATES);
    if (n >= sizeof m->labels[0]) return assay_fail(err, ASSAY_EUSAGE, "'%.*s' is no precision to mix", (int)n, word);
    memcpy(label, word, n);
    label[n] = 0;
    assay_choice *c = &m->candidates[m->n_candidates];
    ASSAY_TRY(assay_recipe_reprecise(c, base, label, err));
    if (c->method != ASSAY_METHOD_NONE && assay_choice_convention(c) != ASSAY_CONVENTION_CT)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s by %s is not written by compressed-tensors, the convention that holds mixtures", label,
                          assay_method_name(c->method));
    m->n_candidates++;
    return ASSAY_OK;
}

static assay_status make_candidates(assay_mixture *m, const char *list, const assay_recipe *base, assay_err *err) {
    for (const char *p = list + strspn(list, " ,"); *p; p += strspn(p, " ,")) {
        size_t n = strcspn(p, " ,");
        ASSAY_TRY(add_candidate(m, p, n, base, err));
        p += n;
    }
    return m->n_candidates ? ASSAY_OK : assay_fail(err, ASSAY_EUSAGE, "the list of precisions to mix is empty");
}

/* --- units --- */

typedef struct collector {
    assay_mixture *m;
    const assay_recipe *base;
    assay_dtype model_dtype;
    size_t cap;
} collector;

static bool is_assigned(const collector *c, const assay_choice *choice, const assay_tensor_spec *spec) {
    return spec->is_linear && choice->method != ASSAY_METHOD_NONE && assay_choice_equal(choice, assay_recipe_base(c->base));
}

/* The pattern of "model.layers.3.self_attn.q_proj.weight" and kin: names of one unit differ in the last module's name alone. */
static void begin_unit(assay_mixture_unit *u, const assay_tensor_spec *spec) {
    *u = (assay_mixture_unit){.layer = spec->layer};
    snprintf(u->name, sizeof u->name, "%s", spec->name);
}

static void add_pattern(assay_mixture_unit *u, const char *name) {
    size_t at = strlen(u->pattern);
    at += (size_t)snprintf(u->pattern + at, sizeof u->pattern - at, "%s", at ? "|" : "");
    for (; *name && at + 3 < sizeof u->pattern; name++) {
        if (*name == '.') u->pattern[at++] = '\\';
        u->pattern[at++] = *name;
    }
    u->pattern[at] = 0;
}

static void add_to_unit(collector *c, assay_mixture_unit *u, const assay_tensor_spec *spec) {
    assay_mixture *m = c->m;
    u->n_matrices++;
    u->elements += (double)spec->rows * (double)spec->cols;
    add_pattern(u, spec->name);
    for (size_t k = 0; k < m->n_candidates; k++) {
        const assay_choice *choice = &m->candidates[k];
        const assay_method *method = assay_method_get(choice->method);
        bool fits = !method->check_shape || !method->check_shape(choice, spec->rows, spec->cols);
        if (!fits) u->kl[k] = -1;
        u->bits[k] += assay_choice_bits(choice, spec->rows, spec->cols, c->model_dtype, NULL, NULL);
    }
}

static assay_status collect(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    collector *c = ctx;
    assay_mixture *m = c->m;
    assay_choice choice;
    if (spec->is_transposed) /* as the planner of the run does */
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "tensor '%s' lies transposed (GPT-2's Conv1D), which no convention of quantized checkpoints holds", spec->name);
    ASSAY_TRY(assay_recipe_choose(&choice, c->base, spec, err));
    if (!is_assigned(c, &choice, spec)) {
        m->other_bits += assay_choice_bits(&choice, spec->rows, spec->cols, c->model_dtype, NULL, NULL);
        return ASSAY_OK;
    }
    size_t at = m->n_units; /* of the layer's units; latent attention has others between those of one input */
    while (at > 0 && m->units[at - 1].layer == spec->layer && m->units[at - 1].input != assay_role_input(role)) at--;
    if (at > 0 && m->units[at - 1].layer == spec->layer) {
        add_to_unit(c, &m->units[at - 1], spec);
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_grow(&m->units, &c->cap, m->n_units + 1, sizeof *m->units, err));
    begin_unit(&m->units[m->n_units], spec);
    m->units[m->n_units].input = assay_role_input(role);
    add_to_unit(c, &m->units[m->n_units++], spec);
    return ASSAY_OK;
}

static assay_status make_units(assay_mixture *m, const assay_config *config, const assay_recipe *base, assay_err *err) {
    collector c = {.m = m, .base = base, .model_dtype = config->dtype};
    if (config->n_experts)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "mixtures by budget do not measure experts yet: give %s a recipe with overrides",
                          config->architecture);
    ASSAY_TRY(assay_config_each_role(config, collect, &c, err));
    if (!m->n_units) return assay_fail(err, ASSAY_EINPUT, "the recipe leaves no matrix to choose a precision for");
    for (size_t i = 0; i < m->n_units; i++)
        m->elements += m->units[i].elements;
    return ASSAY_OK;
}

/* --- the cache: {"key": ..., "tokens": n, "kl": [[...], ...]}, which the explanation holds too --- */

/* What the measured figures follow from. */
static assay_status make_key(assay_mixture *m, const char *model_dir, const assay_calibration *cal,
                              const assay_mixture_opts *o, assay_err *err) {
    assay_checkpoint *source;
    char hash[ASSAY_HASH_HEX];
    assay_hasher *h;
    ASSAY_TRY(assay_checkpoint_open(&source, model_dir, err));
    assay_status s = assay_checkpoint_hash(hash, source, err);
    assay_checkpoint_close(source);
    ASSAY_TRY(s);
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "assay.mixture/1 " ASSAY_VERSION);
    assay_hasher_put_str(h, hash);
    assay_hasher_put_str(h, cal->hash);
    uint64_t numbers[] = {o->max_tokens, (uint64_t)m->sensitivity, m->n_units, m->candidates[0].asymmetric};
    assay_hasher_put(h, numbers, sizeof numbers);
    for (size_t i = 0; i < m->n_candidates; i++)
        assay_hasher_put_str(h, m->labels[i]);
    for (size_t i = 0; i < m->n_units; i++)
        assay_hasher_put_str(h, m->units[i].name);
    assay_hasher_finish(h, m->key);
    return ASSAY_OK;
}

/* Fills kl from the cache when that holds figures of this key; anything else is no cache. */
static bool read_cache(assay_mixture *m, const char *path) {
    json_t *j = NULL;
    assay_err ignored;
    bool hit = path && assay_json_load(&j, path, &ignored) == ASSAY_OK && json_is_object(j);
    const char *there = hit ? json_string_value(json_object_get(j, "key")) : NULL;
    const json_t *rows = json_object_get(j, "kl");
    hit = there && !strcmp(there, m->key) && json_array_size(rows) == m->n_units;
    for (size_t i = 0; hit && i < m->n_units; i++)
        for (size_t c = 0; hit && c < m->n_candidates; c++) {
            const json_t *v = json_array_get(json_array_get(rows, i), c);
            hit = json_is_number(v);
            if (hit) m->units[i].kl[c] = json_number_value(v);
        }
    m->n_tokens = hit ? (size_t)json_integer_value(json_object_get(j, "tokens")) : m->n_tokens;
    json_decref(j);
    return hit;
}

static json_t *kl_rows(const assay_mixture *m) {
    json_t *rows = json_array();
    for (size_t i = 0; rows && i < m->n_units; i++) {
        json_t *row = json_array();
        for (size_t c = 0; row && c < m->n_candidates; c++)
            json_array_append_new(row, json_real(m->units[i].kl[c]));
        json_array_append_new(rows, row);
    }
    return rows;
}

static assay_status write_cache(const assay_mixture *m, const char *path, assay_err *err) {
    if (!path) return ASSAY_OK;
    json_t *j = json_pack("{s:s, s:I, s:o}", "key", m->key, "tokens", (json_int_t)m->n_tokens, "kl", kl_rows(m));
    assay_status s = j ? assay_json_save(path, j, 0, err) : assay_nomem(err);
    json_decref(j);
    return s;
}

/* --- making --- */

/* Rounding to more bits cannot lose more but for noise: made monotone, so that no noise is bought. */
static void smooth_noise(assay_mixture *m) {
    for (size_t i = 0; i < m->n_units; i++) {
        assay_mixture_unit *u = &m->units[i];
        for (size_t a = 0; a < m->n_candidates; a++)
            for (size_t b = 0; b < m->n_candidates; b++)
                if (u->kl[a] >= 0 && u->kl[b] > u->kl[a] && u->bits[b] > u->bits[a]) u->kl[b] = u->kl[a];
    }
}

static assay_status set_budget(assay_mixture *m, const assay_mixture_opts *o, assay_err *err) {
    if ((o->target_bpw > 0) == (o->target_bytes > 0))
        return assay_fail(err, ASSAY_EUSAGE, "a mixture needs a target: bits per weight or a size, one of them");
    m->budget_bits = o->target_bpw > 0 ? o->target_bpw * m->elements : 8 * (double)o->target_bytes - m->other_bits;
    return ASSAY_OK;
}

static assay_status infeasible(const assay_mixture *m, assay_err *err) {
    double least = 0;
    for (size_t i = 0; i < m->n_units; i++) {
        double bits = INFINITY;
        for (size_t c = 0; c < m->n_candidates; c++)
            if (m->units[i].kl[c] >= 0) bits = fmin(bits, m->units[i].bits[c]);
        least += bits;
    }
    return assay_fail(err, ASSAY_EUSAGE,
                      "no mixture of these precisions is so small: the least is %.3f bits per weight (%.1f MB with what is not quantized)",
                      least / m->elements, (least + m->other_bits) / 8e6);
}

static assay_status check_gradients(const assay_config *config, assay_err *err) {
    assay_err why = {0};
    assay_status s = assay_tape_check(config, &why);
    return s == ASSAY_OK ? s : assay_fail(err, s, "a mixture measured by fisher: %s: measure it by kl", why.message);
}

static const char *list_of(const assay_mixture_opts *o) {
    if (o->precisions) return o->precisions;
    return o->target_bpw > 0 && o->target_bpw < LOW_BPW ? low_list : default_list;
}

assay_status assay_mixture_make(assay_mixture *out, const char *model_dir, const assay_recipe *base, const assay_calibration *calibration,
                                const assay_mixture_opts *o, assay_err *err) {
    assay_config config = {0};
    bool feasible;
    assay_status s;
    *out = (assay_mixture){.sensitivity = o->sensitivity};
    if (!calibration) return assay_fail(err, ASSAY_EUSAGE, "a mixture is chosen by what is lost on calibration data: give some");
    ASSAY_GO(assay_config_open(&config, model_dir, err));
    ASSAY_GO(make_candidates(out, list_of(o), base, err));
    ASSAY_GO(make_units(out, &config, base, err));
    ASSAY_GO(set_budget(out, o, err));
    if (out->sensitivity == ASSAY_SENSITIVITY_AUTO) out->sensitivity = assay_mixture_pick(out, &config, o);
    if (out->sensitivity == ASSAY_SENSITIVITY_FISHER) ASSAY_GO(check_gradients(&config, err));
    ASSAY_GO(make_key(out, model_dir, calibration, o, err));
    if (!read_cache(out, o->cache)) {
        if (out->sensitivity == ASSAY_SENSITIVITY_FISHER)
            ASSAY_GO(assay_mixture_measure_fisher(out, model_dir, calibration, o, err));
        else
            ASSAY_GO(assay_mixture_measure_kl(out, model_dir, calibration, o, err));
        ASSAY_GO(write_cache(out, o->cache, err));
    }
    smooth_noise(out);
    ASSAY_GO(assay_mixture_assign(out, &feasible, err));
    if (!feasible) s = infeasible(out, err);
out:
    assay_config_deinit(&config);
    if (s != ASSAY_OK) assay_mixture_deinit(out);
    return s;
}

void assay_mixture_deinit(assay_mixture *m) {
    assay_free(m->units);
    *m = (assay_mixture){0};
}

/* --- results --- */

assay_status assay_mixture_recipe(assay_recipe **out, const assay_mixture *m, const assay_recipe *base, assay_err *err) {
    json_t *j = assay_recipe_to_json(base), *overrides = json_object_get(j, "override");
    assay_str text = {0};
    assay_yaml_doc *doc = NULL;
    assay_status s = overrides ? ASSAY_OK : assay_nomem(err);
    *out = NULL;
    for (size_t i = 0; i < m->n_units && s == ASSAY_OK; i++) {
        const assay_mixture_unit *u = &m->units[i];
        json_t *one = assay_choice_to_json(&m->candidates[u->chosen]);
        if (!one || json_object_set_new(one, "match", json_string(u->pattern)) || json_array_append_new(overrides, one)) s = assay_nomem(err);
    }
    if (s == ASSAY_OK) s = assay_json_dump(&text, j, 0, false, err);
    if (s == ASSAY_OK) s = assay_yaml_parse(&doc, assay_str_c(&text), text.len, "mixture", err);
    if (s == ASSAY_OK) s = assay_recipe_from_yaml(out, doc, assay_yaml_root(doc), NULL, 0, err);
    assay_yaml_free(doc);
    assay_str_free(&text);
    json_decref(j);
    return s;
}

static const char *const sensitivities[] = {"auto", "kl", "fisher"};

const char *assay_sensitivity_name(assay_sensitivity s) {
    return sensitivities[s];
}

bool assay_sensitivity_parse(assay_sensitivity *out, const char *word) {
    for (size_t i = 0; i < ASSAY_LEN(sensitivities); i++) {
        if (strcmp(sensitivities[i], word) != 0) continue;
        *out = (assay_sensitivity)i;
        return true;
    }
    return false;
}

static json_t *unit_to_json(const assay_mixture *m, const assay_mixture_unit *u) {
    json_t *options = json_object();
    for (size_t c = 0; options && c < m->n_candidates; c++)
        if (u->kl[c] >= 0)
            json_object_set_new(options, m->labels[c],
                                json_pack("{s:f, s:f}", "bits_per_weight", u->bits[c] / u->elements, "kl", u->kl[c]));
    return json_pack("{s:s, s:i, s:i, s:f, s:s, s:f, s:f, s:o}", "unit", u->name, "layer", u->layer, "matrices", u->n_matrices, "weights",
                     u->elements, "chosen", m->labels[u->chosen], "bits_per_weight", u->bits[u->chosen] / u->elements, "kl",
                     u->kl[u->chosen], "options", options);
}

json_t *assay_mixture_to_json(const assay_mixture *m) {
    json_t *units = json_array();
    for (size_t i = 0; units && i < m->n_units; i++)
        json_array_append_new(units, unit_to_json(m, &m->units[i]));
    return json_pack("{s:s, s:s, s:o, s:s, s:I, s:f, s:f, s:f, s:f, s:o}", "schema", "assay.mixture/1", "key", m->key, "kl",
                     kl_rows(m), "sensitivity", assay_sensitivity_name(m->sensitivity), "tokens", (json_int_t)m->n_tokens, "weights", m->elements,
                     "budget_bits_per_weight", m->budget_bits / m->elements, "bits_per_weight", m->used_bits / m->elements, "predicted_kl",
                     m->predicted_kl, "units", units);
}
