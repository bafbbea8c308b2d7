/* quant_config_ct.c: the quantization_config of compressed-tensors (0.20: quantization/quant_config.py,
 * quant_args.py).
 *
 * It has config groups: here one per distinct way of storing. Where only one way occurs its target is
 * "Linear", with the unquantized layers in `ignore`. Where several occur, each group gets the patterns of the
 * kinds of layers that are all stored its way ("re:^model\.layers\.\d+\.mlp\.down_proj$"), and the full names
 * of the rest. Each group says its format; the whole is "mixed-precision" when they differ. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "format/quant_config_impl.h"

static const char *format_of(const assay_quant_entry *e) {
    bool eight = e->act_bits == 8;
    switch (e->precision) {
    case ASSAY_PRECISION_FP8_E4M3:
        return eight ? "float-quantized" : "naive-quantized";
    case ASSAY_PRECISION_NVFP4:
        return "nvfp4-pack-quantized";
    case ASSAY_PRECISION_MXFP4:
        return "mxfp4-pack-quantized";
    default:
        return eight ? "int-quantized" : "pack-quantized";
    }
}

static bool has_string(const json_t *list, const char *s) {
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v) {
        if (strcmp(json_string_value(v), s) == 0) return true;
    }
    return false;
}

static void add_pattern(json_t *list, const char *pattern) {
    assay_str b = {0};
    assay_str_put(&b, "re:");
    assay_str_put(&b, pattern);
    if (!has_string(list, assay_str_c(&b))) json_array_append_new(list, json_string(assay_str_c(&b)));
    assay_str_free(&b);
}

/* The targets of the way in which entry `first` is stored. */
static json_t *list_targets(const assay_quant_entry *e, char **kinds, size_t n, size_t first) {
    json_t *list = json_array();
    for (size_t i = first; i < n; i++) {
        if (!assay_quant_same(&e[i], &e[first])) continue;
        if (!assay_quant_kind_agrees(e, kinds, n, i))
            json_array_append_new(list, assay_quant_module(e[i].weight_name));
        else
            add_pattern(list, kinds[i]);
    }
    return list;
}

static bool is_float(const assay_quant_entry *e) {
    return assay_precision_get_kind(e->precision) == ASSAY_KIND_FLOAT;
}

/* How the weights of an entry share their scales, as quant_config.h has it. */
static const char *strategy_of(const assay_quant_entry *e) {
    if (e->precision == ASSAY_PRECISION_NVFP4) return "tensor_group";
    if (!is_float(e) || e->row_block <= 1) return e->group_size ? "group" : "channel";
    return e->group_size ? "block" : "tensor";
}

static json_t *weights_json(const assay_quant_entry *e) {
    const char *strategy = strategy_of(e);
    bool block = strcmp(strategy, "block") == 0;
    json_t *args = json_pack(
        "{s:i, s:s, s:b, s:o, s:s, s:o, s:b, s:o, s:s, s:{}}", "num_bits", assay_precision_bits(e->precision),
        "type", is_float(e) ? "float" : "int", "symmetric", !e->asymmetric, "group_size",
        e->group_size && !block ? json_integer(e->group_size) : json_null(), "strategy", strategy,
        "block_structure",
        block ? json_pack("[I, I]", (json_int_t)e->row_block, (json_int_t)e->group_size) : json_null(),
        "dynamic", false, "actorder", e->ordered ? json_string("group") : json_null(), "observer",
        e->mse ? "mse" : "minmax", "observer_kwargs");
    if (e->precision == ASSAY_PRECISION_NVFP4)
        json_object_set_new(args, "scale_dtype", json_string("torch.float8_e4m3fn"));
    if (e->precision == ASSAY_PRECISION_MXFP4)
        json_object_set_new(args, "scale_dtype", json_string("torch.uint8"));
    return args;
}

static json_t *inputs_json(const assay_quant_entry *e) {
    if (e->act_bits != 8) return json_null();
    const char *strategy = e->static_input ? "tensor" : e->act_group ? "group" : "token";
    return json_pack("{s:i, s:s, s:b, s:o, s:s, s:n, s:b, s:n, s:o, s:{}}", "num_bits", 8, "type",
                     is_float(e) ? "float" : "int", "symmetric", true, "group_size",
                     e->act_group && !e->static_input ? json_integer(e->act_group) : json_null(), "strategy",
                     strategy, "block_structure", "dynamic", !e->static_input, "actorder", "observer",
                     e->static_input ? json_string("minmax") : json_null(), "observer_kwargs");
}

static json_t *group_json(const assay_quant_entry *e, json_t *targets) {
    return json_pack("{s:o, s:o, s:o, s:n, s:s}", "targets", targets, "weights", weights_json(e),
                     "input_activations", inputs_json(e), "output_activations", "format", format_of(e));
}

/* The targets where all that is quantized is stored in one way. */
static json_t *one_target(const assay_quant_entry *e, size_t n) {
    json_t *list = json_pack("[s]", "Linear");
    for (size_t i = 0; list && i < n; i++)
        if (e[i].is_embedding && !assay_quant_is_dense(&e[i]))
            json_array_append_new(list, assay_quant_module(e[i].weight_name));
    return list;
}

/* True for the first entry stored in its way. */
static bool leads(const assay_quant_entry *e, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (assay_quant_same(&e[k], &e[i])) return false;
    return !assay_quant_is_dense(&e[i]);
}

static json_t *groups_json(const assay_quant_entry *e, char **kinds, size_t n, const char **format) {
    json_t *groups = json_object();
    size_t n_groups = 0, count = 0;
    for (size_t i = 0; i < n; i++)
        n_groups += leads(e, i);
    for (size_t i = 0; i < n; i++) {
        char name[32];
        if (!leads(e, i)) continue;
        json_t *targets = n_groups == 1 ? one_target(e, n) : list_targets(e, kinds, n, i);
        snprintf(name, sizeof name, "group_%zu", count);
        json_object_set_new(groups, name, group_json(&e[i], targets));
        *format = count == 0 || strcmp(*format, format_of(&e[i])) == 0 ? format_of(&e[i]) : "mixed-precision";
        count++;
    }
    return groups;
}

/* What compressed-tensors cannot say of an entry; NULL when it can. */
static const char *cannot_say(const assay_quant_entry *e) {
    if (assay_quant_is_dense(e)) return NULL;
    if (assay_precision_get_kind(e->precision) == ASSAY_KIND_CODEBOOK)
        return "compressed-tensors holds integers and small floats";
    if (e->precision == ASSAY_PRECISION_FP8_E5M2)
        return "compressed-tensors' 8-bit float is e4m3: the convention fp8 holds e5m2";
    if (e->real_zeros) return "compressed-tensors has no real zero points";
    if (e->precision == ASSAY_PRECISION_FP8_E4M3 && e->group_size && e->row_block <= 1)
        return "compressed-tensors has fp8 scales for a tensor, a row or a block";
    if (!is_float(e) && e->act_bits == 8 && e->act_group)
        return "compressed-tensors has no integer activations in groups here";
    if (e->act_bits == 8 && is_float(e) && assay_precision_bits(e->precision) == 4)
        return "four-bit floats have 16-bit activations here";
    return NULL;
}

assay_status assay_quant_build_ct(json_t **out, const assay_quant_entry *e, size_t n,
                                  const assay_quant_extras *x, assay_err *err) {
    char **kinds = NULL;
    const char *format = "dense";
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < n; i++) {
        const char *why = cannot_say(&e[i]);
        if (why)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s: %s", e[i].weight_name,
                              assay_precision_name(e[i].precision), why);
    }
    ASSAY_GO(assay_quant_list_kinds(&kinds, e, n, err));
    json_t *groups = groups_json(e, kinds, n, &format);
    json_t *kv = x->kv_cache_scheme ? json_deep_copy(x->kv_cache_scheme) : json_null();
    *out = json_pack("{s:s, s:s, s:s, s:n, s:o, s:o, s:o}", "quant_method", "compressed-tensors", "format",
                     format, "quantization_status", "compressed", "global_compression_ratio", "ignore",
                     assay_quant_list_dense(e, n), "kv_cache_scheme", kv, "config_groups", groups);
    if (!*out || (x->transform_config &&
                  json_object_set_new(*out, "transform_config", json_deep_copy(x->transform_config)) != 0))
        s = assay_nomem(err);
out:
    assay_quant_free_kinds(kinds, n);
    return s;
}
