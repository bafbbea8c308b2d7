/* qconfig.c: what config.json says about the quantization, in the words of the two conventions.
 *
 * bitsandbytes (transformers' BitsAndBytesConfig): one precision for every Linear; those that stay are named
 * in llm_int8_skip_modules, always with lm_head, which transformers would skip by itself only when the list
 * is absent.
 *
 * compressed-tensors: a config group per kind of choice. With one kind the group targets the class Linear and
 * `ignore` names what stays; with several, each group names its modules in full, so that no pattern has to be
 * understood the same way by every reader. */
#include <string.h>
#include "base/mem.h"
#include "method/pipeline.h"

/* "model.layers.0.mlp.up_proj.weight" without ".weight". */
static json_t *module_name(const char *tensor) {
    size_t n = strlen(tensor), tail = strlen(".weight");
    return json_stringn(tensor, n > tail && !strcmp(tensor + n - tail, ".weight") ? n - tail : n);
}

static bool kept(const assay_step *s) {
    return s->choice.method == ASSAY_METHOD_NONE;
}

static bool is_head(const assay_step *s) {
    return !strcmp(s->tensor->name, "lm_head.weight");
}

/* Linear modules that are not quantized: lm_head first, even where it is tied and no tensor of its own. */
static json_t *kept_modules(const assay_steps *p) {
    json_t *list = json_array();
    bool head_quantized = false;
    for (size_t i = 0; i < p->n; i++)
        head_quantized |= is_head(&p->v[i]) && !kept(&p->v[i]);
    if (!head_quantized) json_array_append_new(list, json_string("lm_head"));
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].is_linear && kept(&p->v[i]) && !is_head(&p->v[i]))
            json_array_append_new(list, module_name(p->v[i].tensor->name));
    return list;
}

static const char *torch_dtype(assay_dtype t) {
    return t == ASSAY_DTYPE_F16 ? "float16" : t == ASSAY_DTYPE_F32 ? "float32" : "bfloat16";
}

static json_t *bnb_config(const assay_steps *p) {
    const assay_choice *c = NULL;
    for (size_t i = 0; i < p->n && !c; i++)
        if (!kept(&p->v[i])) c = &p->v[i].choice;
    bool eight = c->method == ASSAY_METHOD_LLM_INT8;
    return json_pack(
        "{s:s, s:b, s:b, s:b, s:b, s:s, s:b, s:s, s:s, s:f, s:b, s:b, s:o}", "quant_method", "bitsandbytes",
        "load_in_8bit", eight, "load_in_4bit", !eight, "_load_in_8bit", eight, "_load_in_4bit", !eight,
        "bnb_4bit_quant_type", c->method == ASSAY_METHOD_NF4 ? "nf4" : "fp4", "bnb_4bit_use_double_quant",
        c->double_quant, "bnb_4bit_compute_dtype", torch_dtype(p->model_dtype), "bnb_4bit_quant_storage",
        "uint8", "llm_int8_threshold", eight ? c->threshold : 6.0, "llm_int8_has_fp16_weight", 0,
        "llm_int8_enable_fp32_cpu_offload", 0, "llm_int8_skip_modules", kept_modules(p));
}

static json_t *ct_weights(const assay_choice *c) {
    json_t *group = c->group_size ? json_integer(c->group_size) : json_null();
    return json_pack("{s:i, s:s, s:b, s:s, s:o, s:n, s:b, s:n, s:s, s:{}}", "num_bits",
                     assay_precision_bits(c->precision), "type", "int", "symmetric", !c->asymmetric,
                     "strategy", c->group_size ? "group" : "channel", "group_size", group, "block_structure",
                     "dynamic", 0, "actorder", "observer", c->mse ? "mse" : "minmax", "observer_kwargs");
}

/* The clipping search is how codes were chosen, not how they are read: it makes no group of its own. */
static bool same_storage(const assay_choice *a, const assay_choice *b) {
    return a->precision == b->precision && a->group_size == b->group_size && a->asymmetric == b->asymmetric;
}

static size_t first_of_kind(const assay_steps *p, size_t i) {
    size_t k = 0;
    while (kept(&p->v[k]) || !same_storage(&p->v[k].choice, &p->v[i].choice))
        k++;
    return k;
}

static json_t *ct_group(const assay_steps *p, size_t first, bool only) {
    json_t *targets = json_array();
    if (only) json_array_append_new(targets, json_string("Linear"));
    for (size_t i = first; i < p->n; i++) {
        if (kept(&p->v[i]) || first_of_kind(p, i) != first) continue;
        if (!only || !p->v[i].is_linear) json_array_append_new(targets, module_name(p->v[i].tensor->name));
    }
    return json_pack("{s:o, s:o, s:n, s:n, s:s}", "targets", targets, "weights",
                     ct_weights(&p->v[first].choice), "input_activations", "output_activations", "format",
                     "pack-quantized");
}

static json_t *ct_config(const assay_steps *p) {
    json_t *groups = json_object();
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += !kept(&p->v[i]) && first_of_kind(p, i) == i;
    size_t made = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (kept(&p->v[i]) || first_of_kind(p, i) != i) continue;
        char name[32];
        snprintf(name, sizeof name, "group_%zu", made++);
        json_object_set_new(groups, name, ct_group(p, i, n == 1));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:n, s:n}", "quant_method", "compressed-tensors", "format",
                     "pack-quantized", "quantization_status", "compressed", "config_groups", groups, "ignore",
                     kept_modules(p), "kv_cache_scheme", "global_compression_ratio");
}

json_t *assay_quantization_config(const assay_steps *p) {
    return p->convention == ASSAY_CONVENTION_BNB ? bnb_config(p) : ct_config(p);
}
