/* ct_config.c: the quantization_config of compressed-tensors: which config group a module belongs to and
 * what it says.
 *
 * As apply_quantization_config has it, a module's own name goes before a pattern, a pattern before a
 * class; of several patterns the first in alphabetical order, of targets written twice the last. What the
 * runtime cannot compute faithfully (asymmetric activations, activations of another kind than the weights) is
 * refused here. */
#include <stdio.h>
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

static bool is_false_or_null(const json_t *j) {
    return is_null(j) || json_is_false(j);
}

static bool str_is(const json_t *obj, const char *key, const char *value) {
    const char *s = json_string_value(json_object_get(obj, key));
    return s && strcmp(s, value) == 0;
}

static assay_status unsupported(const char *module, const char *what, const char *supported, assay_err *err) {
    return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: %s of %s is not supported: %s", what,
                      module, supported);
}

/* "block_structure": [rows, columns] */
static assay_status read_block(assay_ct_scheme *out, const json_t *weights, const char *module,
                               assay_err *err) {
    const json_t *block = json_object_get(weights, "block_structure");
    if (json_array_size(block) != 2)
        return assay_fail(err, ASSAY_EINPUT,
                          "quantization_config: strategy 'block' of %s has no block_structure", module);
    out->block_rows = json_integer_value(json_array_get(block, 0));
    out->group_size = json_integer_value(json_array_get(block, 1));
    if (out->block_rows > 0 && out->group_size > 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "quantization_config: blocks of %lld x %lld for %s are impossible",
                      (long long)out->block_rows, (long long)out->group_size, module);
}

static assay_status read_strategy(assay_ct_scheme *out, const json_t *weights, const char *module,
                                  assay_err *err) {
    const char *strategy = NULL;
    int64_t group = 0;
    ASSAY_TRY(assay_json_get_str(&strategy, weights, "strategy", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(&group, weights, "group_size", "quantization_config", err));
    if (!strategy) strategy = group > 0 ? "group" : group == -1 ? "channel" : "tensor";
    out->per_tensor = strcmp(strategy, "tensor") == 0;
    out->tensor_group = strcmp(strategy, "tensor_group") == 0;
    if (out->per_tensor || strcmp(strategy, "channel") == 0) return ASSAY_OK;
    if (strcmp(strategy, "block") == 0 && out->is_float) return read_block(out, weights, module, err);
    if (strcmp(strategy, "group") != 0 && !out->tensor_group) {
        char what[80];
        snprintf(what, sizeof what, "strategy '%.50s'", strategy);
        return unsupported(module, what,
                           "tensor, channel and group are, for fp8 block, for nvfp4 tensor_group", err);
    }
    if (group < 1)
        return assay_fail(err, ASSAY_EINPUT, "quantization_config: %s has groups of %lld columns", module,
                          (long long)group);
    out->group_size = group;
    return ASSAY_OK;
}

/* The small floats that there are: FP8 by tensor, channel or block; NVFP4 and MXFP4. */
static assay_status check_float(const assay_ct_scheme *s, const char *module, assay_err *err) {
    bool grouped = s->group_size > 0 && s->block_rows == 0;
    bool known = s->bits == 8   ? !grouped
                 : s->bits == 4 ? grouped && s->group_size == (s->tensor_group ? 16 : 32)
                                : false;
    if (known && s->symmetric) return ASSAY_OK;
    char what[80];
    snprintf(what, sizeof what, "the %d-bit float%s%s", s->bits, s->symmetric ? "" : " with zero points",
             grouped ? " in groups" : "");
    return unsupported(module, what, "fp8 by tensor, channel or block, nvfp4 and mxfp4 are", err);
}

/* Eight-bit activations of the weights' own kind, dynamic per token (FP8: or per group of a token) or with
 * one stored scale. Four-bit floats are computed with 16-bit activations whatever is said, as their home does
 * on hardware that has no FP4 units. */
static assay_status read_activations(assay_ct_scheme *out, const json_t *a, const char *module,
                                     assay_err *err) {
    out->act_bits = 16;
    if (is_null(a) || (out->is_float && out->bits == 4)) return ASSAY_OK;
    int64_t bits = 8, group = 0;
    bool symmetric = true, dynamic = json_is_true(json_object_get(a, "dynamic"));
    const char *strategy = "tensor", *type = "int";
    ASSAY_TRY(assay_json_get_int(&bits, a, "num_bits", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(&group, a, "group_size", "quantization_config", err));
    ASSAY_TRY(assay_json_get_bool(&symmetric, a, "symmetric", "quantization_config", err));
    ASSAY_TRY(assay_json_get_str(&strategy, a, "strategy", "quantization_config", err));
    ASSAY_TRY(assay_json_get_str(&type, a, "type", "quantization_config", err));
    bool token = dynamic && strcmp(strategy, "token") == 0;
    bool grouped = dynamic && out->is_float && group > 0 && strcmp(strategy, "group") == 0;
    out->static_input = is_false_or_null(json_object_get(a, "dynamic")) && strcmp(strategy, "tensor") == 0;
    if (bits != 8 || !symmetric || strcmp(type, out->is_float ? "float" : "int") != 0 ||
        !(token || grouped || out->static_input))
        return unsupported(
            module, "the quantization of the activations",
            "symmetric 8-bit ones of the weights' type are, dynamic per token (fp8: or group) or static "
            "per tensor",
            err);
    out->act_bits = 8;
    out->act_group = grouped ? group : 0;
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
    out->is_float = str_is(weights, "type", "float");
    if (!out->is_float && !is_null(json_object_get(weights, "type")) && !str_is(weights, "type", "int"))
        return assay_fail(err, ASSAY_EINPUT,
                          "quantization_config: %s has weights of neither type int nor float", module);
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
    if (out->is_float) ASSAY_TRY(check_float(out, module, err));
    if (!out->is_float && out->tensor_group)
        return unsupported(module, "strategy 'tensor_group'", "it belongs to nvfp4", err);
    return read_activations(out, json_object_get(group, "input_activations"), module, err);
}
