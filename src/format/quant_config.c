/* quant_config.c: the `quantization_config` that makes transformers (and vLLM) load what was written.
 *
 * bitsandbytes has one setting for the whole model and a list of modules to skip: a name skips what it
 * starts at a module boundary, so full module names are given. compressed-tensors has config groups: here
 * one per distinct way of storing. Where only one way occurs its target is "Linear", with the unquantized
 * layers in `ignore`. Where several occur, each group gets the patterns of the kinds of layers that are
 * all stored its way ("re:^model\.layers\.\d+\.mlp\.down_proj$"), and the full names of the rest. */
#include "format/quant_config.h"

#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static bool is_dense(const assay_quant_entry *e) {
    return assay_precision_get_kind(e->precision) == ASSAY_KIND_DENSE;
}

static bool same_way(const assay_quant_entry *a, const assay_quant_entry *b) {
    return a->precision == b->precision && a->group_size == b->group_size && a->asymmetric == b->asymmetric &&
           a->nested == b->nested && a->act_bits == b->act_bits &&
           a->outlier_threshold == b->outlier_threshold;
}

static int module_length(const char *weight_name) {
    size_t n = strlen(weight_name);
    return (int)(n > 7 && strcmp(weight_name + n - 7, ".weight") == 0 ? n - 7 : n);
}

static json_t *module_json(const char *weight_name) {
    return json_stringn(weight_name, (size_t)module_length(weight_name));
}

/* Names of the modules that stay as they are. */
static json_t *list_dense(const assay_quant_entry *e, size_t n) {
    json_t *list = json_array();
    bool head = false;
    for (size_t i = 0; i < n; i++) {
        if (is_dense(&e[i]) && !e[i].is_embedding) json_array_append_new(list, module_json(e[i].weight_name));
        if (strcmp(e[i].weight_name, "lm_head.weight") == 0) head = true;
    }
    if (!head) json_array_append_new(list, json_string("lm_head"));
    return list;
}

static const char *torch_name(assay_dtype t) {
    return t == ASSAY_DTYPE_BF16 ? "bfloat16" : t == ASSAY_DTYPE_F16 ? "float16" : "float32";
}

/* --- bitsandbytes --- */

static assay_status build_bnb(json_t **out, const assay_quant_entry *e, size_t n,
                              const assay_quant_entry *first, assay_dtype model_dtype, assay_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!is_dense(&e[i]) && !same_way(&e[i], first))
            return assay_fail(
                err, ASSAY_EUNSUPPORTED,
                "bitsandbytes stores all layers in one way, but %s is %s and %s is %s or grouped otherwise: use compressed-tensors",
                first->weight_name, assay_precision_name(first->precision), e[i].weight_name,
                assay_precision_name(e[i].precision));
    bool four = assay_precision_get_kind(first->precision) == ASSAY_KIND_CODEBOOK;
    if (!four && first->precision != ASSAY_PRECISION_INT8)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "bitsandbytes holds nf4, fp4 and int8, not %s",
                          assay_precision_name(first->precision));
    *out = json_pack("{s:s, s:b, s:b, s:b, s:b, s:f, s:o, s:b, s:b, s:s, s:b, s:s, s:s}", "quant_method",
                     "bitsandbytes", "_load_in_4bit", four, "_load_in_8bit", !four, "load_in_4bit", four,
                     "load_in_8bit", !four, "llm_int8_threshold", four ? 6.0 : first->outlier_threshold,
                     "llm_int8_skip_modules", list_dense(e, n), "llm_int8_enable_fp32_cpu_offload", false,
                     "llm_int8_has_fp16_weight", false, "bnb_4bit_quant_type",
                     four ? assay_precision_name(first->precision) : "fp4", "bnb_4bit_use_double_quant",
                     first->nested, "bnb_4bit_compute_dtype",
                     torch_name(four ? model_dtype : ASSAY_DTYPE_F32), "bnb_4bit_quant_storage", "uint8");
    return *out ? ASSAY_OK : assay_nomem(err);
}

/* --- compressed-tensors --- */

static const char *format_of(const assay_quant_entry *e) {
    return e->act_bits == 8 ? "int-quantized" : "pack-quantized";
}

/* "model.layers.3.mlp.up_proj" -> "re:^model\.layers\.\d+\.mlp\.up_proj$": a kind of layer. */
static void put_kind(assay_str *b, const char *weight_name) {
    const char *p = weight_name, *end = p + module_length(weight_name);
    assay_str_put(b, "re:^");
    while (p < end) {
        size_t digits = strspn(p, "0123456789");
        if (digits) {
            assay_str_put(b, "\\d+");
            p += digits;
        } else {
            if (!isalnum((unsigned char)*p) && *p != '_') assay_str_putc(b, '\\');
            assay_str_putc(b, *p++);
        }
    }
    assay_str_putc(b, '$');
}

/* For each entry the pattern of its kind; owned by the caller. */
static assay_status list_kinds(char ***out, const assay_quant_entry *e, size_t n, assay_err *err) {
    *out = assay_calloc(n + 1, sizeof **out);
    if (!*out) return assay_nomem(err);
    for (size_t i = 0; i < n; i++) {
        assay_str b = {0};
        put_kind(&b, e[i].weight_name);
        (*out)[i] = assay_str_take(&b);
        if (!(*out)[i]) return assay_nomem(err);
    }
    return ASSAY_OK;
}

/* Whether every layer of entry i's kind is stored as it is. */
static bool kind_agrees(const assay_quant_entry *e, char **kinds, size_t n, size_t i) {
    for (size_t k = 0; k < n; k++)
        if (strcmp(kinds[k], kinds[i]) == 0 && !same_way(&e[k], &e[i])) return false;
    return true;
}

static bool has_string(const json_t *list, const char *s) {
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v) {
        if (strcmp(json_string_value(v), s) == 0) return true;
    }
    return false;
}

/* The targets of the way in which entry `first` is stored. */
static json_t *list_targets(const assay_quant_entry *e, char **kinds, size_t n, size_t first) {
    json_t *list = json_array();
    for (size_t i = first; i < n; i++) {
        if (!same_way(&e[i], &e[first])) continue;
        if (!kind_agrees(e, kinds, n, i))
            json_array_append_new(list, module_json(e[i].weight_name));
        else if (!has_string(list, kinds[i]))
            json_array_append_new(list, json_string(kinds[i]));
    }
    return list;
}

static json_t *group_json(const assay_quant_entry *e, json_t *targets) {
    json_t *weights =
        json_pack("{s:i, s:s, s:b, s:o, s:s, s:n, s:b, s:n, s:s, s:{}}", "num_bits",
                  assay_precision_bits(e->precision), "type", "int", "symmetric", !e->asymmetric,
                  "group_size", e->group_size ? json_integer(e->group_size) : json_null(), "strategy",
                  e->group_size ? "group" : "channel", "block_structure", "dynamic", false, "actorder",
                  "observer", e->mse ? "mse" : "minmax", "observer_kwargs");
    json_t *inputs = e->act_bits == 8 ? json_pack("{s:i, s:s, s:b, s:n, s:s, s:n, s:b, s:n, s:n, s:{}}",
                                                  "num_bits", 8, "type", "int", "symmetric", true,
                                                  "group_size", "strategy", "token", "block_structure",
                                                  "dynamic", true, "actorder", "observer", "observer_kwargs")
                                      : json_null();
    return json_pack("{s:o, s:o, s:o, s:n, s:s}", "targets", targets, "weights", weights, "input_activations",
                     inputs, "output_activations", "format", format_of(e));
}

/* The targets where all that is quantized is stored in one way. */
static json_t *one_target(const assay_quant_entry *e, size_t n) {
    json_t *list = json_pack("[s]", "Linear");
    for (size_t i = 0; list && i < n; i++)
        if (e[i].is_embedding && !is_dense(&e[i]))
            json_array_append_new(list, module_json(e[i].weight_name));
    return list;
}

/* True for the first entry stored in its way. */
static bool leads(const assay_quant_entry *e, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (same_way(&e[k], &e[i])) return false;
    return !is_dense(&e[i]);
}

static json_t *groups_json(const assay_quant_entry *e, char **kinds, size_t n, const char **format) {
    json_t *groups = json_object();
    size_t n_groups = 0, count = 0;
    for (size_t i = 0; i < n; i++) n_groups += leads(e, i);
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

static assay_status build_ct(json_t **out, const assay_quant_entry *e, size_t n, assay_err *err) {
    char **kinds = NULL;
    const char *format = "";
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < n; i++)
        if (assay_precision_get_kind(e[i].precision) == ASSAY_KIND_CODEBOOK)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: compressed-tensors holds integers, not %s",
                              e[i].weight_name, assay_precision_name(e[i].precision));
    ASSAY_GO(list_kinds(&kinds, e, n, err));
    json_t *groups = groups_json(e, kinds, n, &format);
    *out = json_pack("{s:s, s:s, s:s, s:n, s:o, s:n, s:o}", "quant_method", "compressed-tensors", "format",
                     format, "quantization_status", "compressed", "global_compression_ratio", "ignore",
                     list_dense(e, n), "kv_cache_scheme", "config_groups", groups);
    if (!*out) s = assay_nomem(err);
out:
    for (size_t i = 0; kinds && i < n; i++) assay_free(kinds[i]);
    assay_free(kinds);
    return s;
}

assay_status assay_quant_config_build(json_t **out, assay_convention c, const assay_quant_entry *e, size_t n,
                                      assay_dtype model_dtype, assay_err *err) {
    const assay_quant_entry *first = NULL;
    *out = NULL;
    for (size_t i = 0; i < n && !first; i++)
        if (!is_dense(&e[i])) first = &e[i];
    if (!first) return ASSAY_OK;
    if (c == ASSAY_CONVENTION_BNB) return build_bnb(out, e, n, first, model_dtype, err);
    if (c == ASSAY_CONVENTION_CT) return build_ct(out, e, n, err);
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s, which a plain checkpoint cannot hold",
                      first->weight_name, assay_precision_name(first->precision));
}
