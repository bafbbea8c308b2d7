/* config_rope.c: what config.json says about rotary positions: rope_theta and rope_scaling {type | rope_type, factor, ...}; in
 * transformers 5 both in rope_parameters, for Gemma 3 once per kind of layer. The words of each kind are those of transformers'
 * modeling_rope_utils.py; what they mean is rope.c's. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "model/config_impl.h"

/* A table of a config, with what messages call it. */
typedef struct place {
    assay_config *c;
    const json_t *j;   /* the table */
    const json_t *all; /* the whole config.json */
    char where[200];
} place;

static assay_status need(const place *p, const char *type, const char *key, assay_err *err) {
    if (config_present(p->j, key)) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "%s: rope type '%s' without '%s'", p->where, type, key);
}

/* The length that the model was trained at first: Phi-3 has it beside the table. */
static assay_status parse_original(assay_rope *r, const place *p, assay_err *err) {
    const char *key = "original_max_position_embeddings";
    r->original_max_position = p->c->arch->default_original ? p->c->arch->default_original : p->c->max_position_embeddings;
    ASSAY_TRY(config_want_int(&r->original_max_position, p->j, key, 1, 1 << 26, p->where, err));
    return config_want_int(&r->original_max_position, p->all, key, 1, 1 << 26, p->where, err);
}

static assay_status parse_llama3(assay_rope *r, const place *p, assay_err *err) {
    ASSAY_TRY(need(p, "llama3", "low_freq_factor", err));
    ASSAY_TRY(need(p, "llama3", "high_freq_factor", err));
    ASSAY_TRY(need(p, "llama3", "original_max_position_embeddings", err));
    ASSAY_TRY(config_want_double(&r->low_freq_factor, p->j, "low_freq_factor", 1e-3, 1e6, p->where, err));
    ASSAY_TRY(config_want_double(&r->high_freq_factor, p->j, "high_freq_factor", 1e-3, 1e6, p->where, err));
    if (r->high_freq_factor <= r->low_freq_factor)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'high_freq_factor' %g is not above 'low_freq_factor' %g", p->where,
                          r->high_freq_factor, r->low_freq_factor);
    return ASSAY_OK;
}

static double mscale_of(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static assay_status parse_yarn(assay_rope *r, const place *p, assay_err *err) {
    double mscale = 0, all_dim = 0;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->truncate = true;
    ASSAY_TRY(config_want_double(&r->beta_fast, p->j, "beta_fast", 0, 1e6, p->where, err));
    ASSAY_TRY(config_want_double(&r->beta_slow, p->j, "beta_slow", 0, 1e6, p->where, err));
    if (r->beta_fast == 0) r->beta_fast = 32;
    if (r->beta_slow == 0) r->beta_slow = 1;
    ASSAY_TRY(assay_json_get_bool(&r->truncate, p->j, "truncate", p->where, err));
    ASSAY_TRY(config_want_double(&mscale, p->j, "mscale", 0, 1e6, p->where, err));
    ASSAY_TRY(config_want_double(&all_dim, p->j, "mscale_all_dim", 0, 1e6, p->where, err));
    r->scale = mscale > 0 && all_dim > 0 ? mscale_of(r->factor, mscale) / mscale_of(r->factor, all_dim) : mscale_of(r->factor, 1);
    if (all_dim > 0 && p->c->arch->latent) /* DeepSeek sharpens the scores as well */
        p->c->attention_scale *= mscale_of(r->factor, all_dim) * mscale_of(r->factor, all_dim);
    return config_want_double(&r->scale, p->j, "attention_factor", 1e-3, 1e3, p->where, err);
}

static assay_status parse_factors(float *out, const place *p, const char *key, assay_err *err) {
    const json_t *list = config_present(p->j, key);
    size_t half = (size_t)p->c->rotary_dim / 2;
    if (half > ASSAY_ROPE_MOST_FACTORS)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: '%s' for heads of which %lld turn; at most %d", p->where, key,
                          (long long)p->c->rotary_dim, 2 * ASSAY_ROPE_MOST_FACTORS);
    if (!json_is_array(list) || json_array_size(list) != half)
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is not a list of %zu numbers", p->where, key, half);
    for (size_t i = 0; i < half; i++) {
        double v = json_number_value(json_array_get(list, i));
        if (!(v >= 1e-6 && v <= 1e6))
            return assay_fail(err, ASSAY_EINPUT, "%s: '%s' has an element %zu that is no number of [1e-6, 1e6]", p->where, key, i);
        out[i] = (float)v;
    }
    return ASSAY_OK;
}

static assay_status parse_longrope(assay_rope *r, const place *p, assay_err *err) {
    ASSAY_TRY(parse_factors(p->c->rope_factors[0], p, "short_factor", err));
    ASSAY_TRY(parse_factors(p->c->rope_factors[1], p, "long_factor", err));
    r->scale = r->factor <= 1 ? 1 : sqrt(1 + log(r->factor) / log((double)r->original_max_position));
    return config_want_double(&r->scale, p->j, "attention_factor", 1e-3, 1e3, p->where, err);
}

static assay_status parse_kind(assay_rope *r, const place *p, const char *type, assay_err *err) {
    if (!assay_rope_parse(&r->kind, type))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: rope type '%.40s' is not supported; known: %s", p->where, type,
                          assay_rope_words());
    if (r->kind == ASSAY_ROPE_YARN && config_present(p->j, "short_factor")) r->kind = ASSAY_ROPE_LONGROPE; /* early Phi-3 */
    if (r->kind == ASSAY_ROPE_DEFAULT) return ASSAY_OK;
    ASSAY_TRY(parse_original(r, p, err));
    bool derived = r->kind == ASSAY_ROPE_YARN || r->kind == ASSAY_ROPE_LONGROPE;
    if (!derived) ASSAY_TRY(need(p, type, "factor", err));
    r->factor = (double)p->c->max_position_embeddings / (double)r->original_max_position;
    ASSAY_TRY(config_want_double(&r->factor, p->j, "factor", 1e-3, 1e6, p->where, err));
    switch (r->kind) {
    case ASSAY_ROPE_LLAMA3: return parse_llama3(r, p, err);
    case ASSAY_ROPE_YARN: return parse_yarn(r, p, err);
    case ASSAY_ROPE_LONGROPE: return parse_longrope(r, p, err);
    case ASSAY_ROPE_DYNAMIC: r->original_max_position = p->c->max_position_embeddings; break;
    default: break;
    }
    return ASSAY_OK;
}

static assay_status parse_partial(const place *p, assay_err *err) {
    assay_config *c = p->c;
    const char *key = config_key(c, p->all, "partial_rotary_factor");
    double partial = c->arch->default_partial > 0 ? c->arch->default_partial : 1;
    ASSAY_TRY(config_want_double(&partial, p->all, key, 0, 1, p->where, err));
    if (p->j) ASSAY_TRY(config_want_double(&partial, p->j, "partial_rotary_factor", 0, 1, p->where, err));
    if (partial != 1 && c->arch->default_partial == 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'partial_rotary_factor' %g is not supported for %s", p->where, partial,
                          c->architecture);
    if (partial == 1) return ASSAY_OK;
    c->rotary_dim = (int64_t)((double)c->head_dim * partial);
    if (c->rotary_dim < 2 || c->rotary_dim % 2 != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'partial_rotary_factor' %g of a head of %lld is not an even number of two or more",
                          p->where, partial, (long long)c->head_dim);
    return ASSAY_OK;
}

/* One table, NULL when there is none. r->theta holds the default. */
static assay_status parse_table(assay_rope *r, const place *p, assay_err *err) {
    const char *type = NULL;
    r->kind = ASSAY_ROPE_DEFAULT;
    r->scale = 1;
    if (!p->j) return ASSAY_OK;
    if (!json_is_object(p->j)) return assay_fail(err, ASSAY_EINPUT, "%s: not an object", p->where);
    ASSAY_TRY(config_want_double(&r->theta, p->j, "rope_theta", 1, 1e12, p->where, err));
    ASSAY_TRY(assay_json_get_str(&type, p->j, "rope_type", p->where, err));
    if (!type) ASSAY_TRY(assay_json_get_str(&type, p->j, "type", p->where, err));
    if (!type)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: no 'rope_type' (one per kind of layer is not supported for %s)", p->where,
                          p->c->architecture);
    return parse_kind(r, p, type, err);
}

/* Gemma 3: layers that see all and layers that slide, in tables of their own or with one frequency each. */
static assay_status parse_local(assay_config *c, place *p, const char *where, assay_err *err) {
    const json_t *all = config_present(p->j, "full_attention"), *local = config_present(p->j, "sliding_attention");
    place q = *p;
    c->rope_local.theta = c->arch->local_theta;
    ASSAY_TRY(config_want_double(&c->rope_local.theta, p->all, "rope_local_base_freq", 1, 1e12, where, err));
    if (all || local) {
        p->j = all;
        snprintf(p->where, sizeof p->where, "%.120s: rope_parameters: full_attention", where);
        snprintf(q.where, sizeof q.where, "%.120s: rope_parameters: sliding_attention", where);
    }
    q.j = local;
    return parse_table(&c->rope_local, &q, err);
}

assay_status config_parse_rope(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    const char *key = config_present(j, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    place p = {.c = c, .j = config_present(j, key), .all = j};
    if (a->no_rope) return ASSAY_OK;
    if (p.j && !json_is_object(p.j)) return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is not an object", where, key);
    snprintf(p.where, sizeof p.where, p.j ? "%.150s: %s" : "%.150s", where, key);
    c->rope.theta = a->default_theta > 0 ? a->default_theta : 10000;
    ASSAY_TRY(config_want_double(&c->rope.theta, j, config_key(c, j, "rope_theta"), 1, 1e12, where, err));
    ASSAY_TRY(parse_partial(&p, err));
    if (a->local_theta > 0) ASSAY_TRY(parse_local(c, &p, where, err));
    ASSAY_TRY(parse_table(&c->rope, &p, err));
    if (a->local_theta == 0) c->rope_local = c->rope;
    return ASSAY_OK;
}
