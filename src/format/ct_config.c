/* ct_config.c: the quantization_config of compressed-tensors: which config group a module belongs to and
 * what it says.
 *
 * As apply_quantization_config has it, a module's own name goes before a pattern, a pattern before a
 * class; of several patterns the first in alphabetical order, of targets written twice the last. What the
 * runtime cannot compute faithfully (float formats, static or asymmetric activations) is refused here. */
#include <string.h>

#include "format/convention.h"

/* 3 the module's name, 2 a pattern, 1 a class, 0 no match */
static assay_status rank_of(int *rank, const char *target, const char *module, assay_err *err) {
    bool match;
    ASSAY_TRY(assay_ct_match(&match, target, module, err));
    *rank = !match ? 0 : strcmp(target, module) == 0 ? 3 : strncmp(target, "re:", 3) == 0 ? 2 : 1;
    return ASSAY_OK;
}

static assay_status find_group(const json_t **out, const json_t *config, const char *module, assay_err *err) {
    const json_t *groups = json_object_get(config, "config_groups");
    const char *name, *best_target = NULL;
    json_t *group, *target;
    int best = 0, rank;
    size_t i;
    *out = NULL;
    if (!json_is_object(groups))
        return assay_fail(err, ASSAY_EINPUT, "quantization_config has no config_groups");
    json_object_foreach((json_t *)groups, name, group) {
        if (!json_is_object(group) || !json_is_array(json_object_get(group, "targets")))
            return assay_fail(err, ASSAY_EINPUT,
                              "quantization_config: config group %s has no list of targets", name);
        json_array_foreach(json_object_get(group, "targets"), i, target) {
            const char *t = json_string_value(target);
            if (!t)
                return assay_fail(err, ASSAY_EINPUT,
                                  "quantization_config: config group %s has a target that is no string",
                                  name);
            ASSAY_TRY(rank_of(&rank, t, module, err));
            if (rank == 0 || rank < best || (rank == best && strcmp(t, best_target) > 0)) continue;
            best = rank;
            best_target = t;
            *out = group;
        }
    }
    if (*out) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "quantization_config: %s is quantized but no config group names it",
                      module);
}

static bool is_null(const json_t *j) {
    return !j || json_is_null(j);
}

static bool str_is(const json_t *obj, const char *key, const char *value) {
    const char *s = json_string_value(json_object_get(obj, key));
    return s && strcmp(s, value) == 0;
}

static assay_status read_strategy(assay_ct_scheme *out, const json_t *weights, const char *module,
                                  assay_err *err) {
    const char *strategy = NULL;
    int64_t group = 0;
    ASSAY_TRY(assay_json_get_str(&strategy, weights, "strategy", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(&group, weights, "group_size", "quantization_config", err));
    if (!strategy) strategy = group > 0 ? "group" : group == -1 ? "channel" : "tensor";
    out->per_tensor = strcmp(strategy, "tensor") == 0;
    if (out->per_tensor || strcmp(strategy, "channel") == 0) return ASSAY_OK;
    if (strcmp(strategy, "group") != 0)
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "quantization_config: strategy '%s' of %s is not supported: tensor, channel and group are",
            strategy, module);
    if (group < 1)
        return assay_fail(err, ASSAY_EINPUT, "quantization_config: %s has groups of %lld columns", module,
                          (long long)group);
    out->group_size = group;
    return ASSAY_OK;
}

static assay_status read_activations(assay_ct_scheme *out, const json_t *a, const char *module,
                                     assay_err *err) {
    out->act_bits = 16;
    if (is_null(a)) return ASSAY_OK;
    int64_t bits = 8;
    bool symmetric = true;
    ASSAY_TRY(assay_json_get_int(&bits, a, "num_bits", "quantization_config", err));
    ASSAY_TRY(assay_json_get_bool(&symmetric, a, "symmetric", "quantization_config", err));
    if (!str_is(a, "type", "int") || bits != 8 || !symmetric || !str_is(a, "strategy", "token") ||
        !json_is_true(json_object_get(a, "dynamic")))
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "quantization_config: the activations of %s: only dynamic symmetric 8-bit integers per token are supported",
            module);
    out->act_bits = 8;
    return ASSAY_OK;
}

assay_status assay_ct_scheme_find(assay_ct_scheme *out, const json_t *config, const char *module,
                                  assay_err *err) {
    const json_t *group;
    int64_t bits = 8;
    *out = (assay_ct_scheme){.symmetric = true};
    ASSAY_TRY(find_group(&group, config, module, err));
    const json_t *weights = json_object_get(group, "weights");
    if (!json_is_object(weights))
        return assay_fail(err, ASSAY_EINPUT,
                          "quantization_config: %s is quantized but its config group has no weights", module);
    if (!is_null(json_object_get(weights, "type")) && !str_is(weights, "type", "int"))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "quantization_config: %s has weights of a float type: integers are supported",
                          module);
    ASSAY_TRY(assay_json_get_int(&bits, weights, "num_bits", "quantization_config", err));
    ASSAY_TRY(assay_json_get_bool(&out->symmetric, weights, "symmetric", "quantization_config", err));
    if (bits < 2 || bits > 8)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "quantization_config: %s has %lld bits: 2 to 8 are supported", module,
                          (long long)bits);
    if (!is_null(json_object_get(group, "output_activations")))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "quantization_config: %s has quantized outputs, which are not supported", module);
    out->bits = (int)bits;
    ASSAY_TRY(read_strategy(out, weights, module, err));
    return read_activations(out, json_object_get(group, "input_activations"), module, err);
}
