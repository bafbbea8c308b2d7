/* config_layers.c: what config.json says about single layers: which see a window, which have experts, which know positions. */
#include <string.h>
#include "base/mem.h"
#include "model/config_impl.h"

static void set(assay_config *c, int64_t layer, int flag, bool on) {
    c->layer[layer] = (uint8_t)(on ? c->layer[layer] | flag : c->layer[layer] & ~flag);
}

/* --- windows --- */

/* Newer configs list each layer's kind. Where an architecture's windows have a rule that leaves nothing open the list must say what the
 * rule says. */
static assay_status parse_layer_types(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const json_t *types = config_present(j, "layer_types");
    bool fixed = c->arch->window == ASSAY_WINDOW_NONE || c->arch->window == ASSAY_WINDOW_ALL;
    if (!types) return ASSAY_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->n_layers)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'layer_types' is not a list of %lld names", where, (long long)c->n_layers);
    for (int64_t i = 0; i < c->n_layers; i++) {
        const char *t = json_string_value(json_array_get(types, (size_t)i)), *expected = NULL;
        bool slides = t && strcmp(t, "sliding_attention") == 0;
        if (!slides && (!t || strcmp(t, "full_attention") != 0))
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'layer_types' has '%.40s' for layer %lld; known: full_attention, sliding_attention",
                              where, t ? t : "(not a string)", (long long)i);
        if (slides && c->sliding_window == 0) expected = "full_attention";
        if (fixed && !slides && c->sliding_window > 0) expected = "sliding_attention";
        if (expected)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'layer_types' has '%.40s' for layer %lld where the other keys mean '%s'", where, t,
                              (long long)i, expected);
        set(c, i, ASSAY_LAYER_SLIDES, slides);
    }
    return ASSAY_OK;
}

/* Which layers slide when no list says it: all but every `every`-th one (0: all), from `first` on. */
static assay_status window_rule(int64_t *first, int64_t *every, const assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    *first = *every = 0;
    if (a->window == ASSAY_WINDOW_FROM_LAYER) {
        *first = a->default_window_layers;
        return config_want_int(first, j, "max_window_layers", 0, 1 << 20, where, err);
    }
    if (a->window == ASSAY_WINDOW_EVERY) {
        *every = a->default_window_every;
        return config_want_int(every, j, "sliding_window_pattern", 1, 1 << 20, where, err);
    }
    if (a->window == ASSAY_WINDOW_LISTED && !config_present(j, "layer_types"))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'use_sliding_window' without 'layer_types': which layers slide is not said", where);
    return ASSAY_OK;
}

assay_status config_parse_window(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    int64_t first, every;
    bool use = a->window == ASSAY_WINDOW_ALL || a->window == ASSAY_WINDOW_EVERY;
    if (a->window != ASSAY_WINDOW_NONE && !use) ASSAY_TRY(assay_json_get_bool(&use, j, "use_sliding_window", where, err));
    if (use) {
        const json_t *v = json_object_get(j, "sliding_window");
        c->sliding_window = v ? 0 : a->default_window; /* an explicit null means none */
        ASSAY_TRY(config_want_int(&c->sliding_window, j, "sliding_window", 1, 1 << 26, where, err));
        ASSAY_TRY(window_rule(&first, &every, c, j, where, err));
        for (int64_t i = 0; i < c->n_layers && c->sliding_window > 0; i++)
            set(c, i, ASSAY_LAYER_SLIDES, i >= first && (every == 0 || (i + 1) % every != 0));
    }
    return parse_layer_types(c, j, where, err);
}

/* --- positions --- */

/* no_rope_layers: 1 for a layer that turns, 0 for one that does not. */
assay_status config_parse_positions(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    int64_t every = c->arch->rope_every;
    const json_t *list = config_present(j, "no_rope_layers");
    if (every == 0) return ASSAY_OK;
    ASSAY_TRY(config_want_int(&every, j, "no_rope_layer_interval", 1, 1 << 20, where, err));
    if (list && (!json_is_array(list) || json_array_size(list) < (size_t)c->n_layers))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'no_rope_layers' is not a list of %lld numbers", where, (long long)c->n_layers);
    for (int64_t i = 0; i < c->n_layers; i++) {
        const json_t *v = list ? json_array_get(list, (size_t)i) : NULL;
        bool turns = list ? json_is_true(v) || (json_is_integer(v) && json_integer_value(v) != 0) : (i + 1) % every != 0;
        set(c, i, ASSAY_LAYER_NO_ROPE, !turns);
    }
    return ASSAY_OK;
}

/* --- experts --- */

static assay_status parse_counts(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    static const char *const names[] = {"num_experts", "num_local_experts", "n_routed_experts"};
    const char *key = names[0];
    for (size_t i = 0; i < ASSAY_LEN(names); i++)
        if (config_present(j, names[i])) key = names[i];
    ASSAY_TRY(config_need_int(&c->n_experts, j, key, 1, 4096, where, err));
    ASSAY_TRY(config_need_int(&c->n_active, j, "num_experts_per_tok", 1, c->n_experts, where, err));
    c->expert_size = c->intermediate_size;
    if (c->arch->expert_size_key) ASSAY_TRY(config_need_int(&c->expert_size, j, c->arch->expert_size_key, 1, 1 << 20, where, err));
    c->normalize_experts = c->arch->normalize_always;
    if (!c->normalize_experts) ASSAY_TRY(assay_json_get_bool(&c->normalize_experts, j, "norm_topk_prob", where, err));
    c->expert_scale = 1;
    return config_want_double(&c->expert_scale, j, "routed_scaling_factor", 1e-6, 1e6, where, err);
}

static assay_status parse_shared(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    int64_t n = json_object_get(j, "n_shared_experts") ? 0 : c->arch->default_shared;
    if (c->arch->shared == ASSAY_SHARED_SIZE) return config_need_int(&c->shared_size, j, "shared_expert_intermediate_size", 1, 1 << 20, where, err);
    if (c->arch->shared == ASSAY_SHARED_COUNT) ASSAY_TRY(config_want_int(&n, j, "n_shared_experts", 0, 64, where, err));
    c->shared_size = n * c->expert_size;
    return ASSAY_OK;
}

/* topk_method: of all experts, or of the best groups of them. */
static assay_status parse_groups(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const char *method = "greedy";
    ASSAY_TRY(assay_json_get_str(&method, j, "topk_method", where, err));
    if (strcmp(method, "greedy") == 0) return ASSAY_OK;
    if (strcmp(method, "group_limited_greedy") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'topk_method' is '%.40s'; known: greedy, group_limited_greedy", where, method);
    ASSAY_TRY(config_need_int(&c->n_groups, j, "n_group", 1, ASSAY_MIN(c->n_experts, ASSAY_MOST_GROUPS), where, err));
    ASSAY_TRY(config_need_int(&c->n_active_groups, j, "topk_group", 1, c->n_groups, where, err));
    if (c->n_experts % c->n_groups != 0 || c->n_active > c->n_experts / c->n_groups * c->n_active_groups)
        return assay_fail(err, ASSAY_EINPUT, "%s: %lld experts in %lld groups, of which %lld are looked at, do not give %lld", where,
                          (long long)c->n_experts, (long long)c->n_groups, (long long)c->n_active_groups, (long long)c->n_active);
    return ASSAY_OK;
}

/* Is a layer's number in the list? */
static bool lists(const json_t *list, int64_t layer) {
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) if (json_is_integer(v) && json_integer_value(v) == layer) return true;
    return false;
}

assay_status config_parse_experts(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    assay_arch_experts rule = c->arch->experts;
    int64_t first = 0, step = 1;
    if (rule == ASSAY_EXPERTS_NONE) return ASSAY_OK;
    ASSAY_TRY(parse_counts(c, j, where, err));
    ASSAY_TRY(parse_shared(c, j, where, err));
    ASSAY_TRY(parse_groups(c, j, where, err));
    if (rule == ASSAY_EXPERTS_AFTER_FIRST) ASSAY_TRY(config_want_int(&first, j, "first_k_dense_replace", 0, 1 << 20, where, err));
    if (rule == ASSAY_EXPERTS_SPARSE) ASSAY_TRY(config_want_int(&step, j, "decoder_sparse_step", 1, 1 << 20, where, err));
    const json_t *dense = rule == ASSAY_EXPERTS_SPARSE ? config_present(j, "mlp_only_layers") : NULL;
    for (int64_t i = 0; i < c->n_layers; i++)
        set(c, i, ASSAY_LAYER_EXPERTS, i >= first && (i + 1) % step == 0 && !lists(dense, i));
    return ASSAY_OK;
}
