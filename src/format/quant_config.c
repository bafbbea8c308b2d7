/* quant_config.c: the `quantization_config` that makes transformers (and vLLM) load what was written: what
 * all conventions share. quant_config_one.c has those with one setting for the whole model, quant_config_gptq.c
 * GPTQ's with its exceptions, quant_config_ct.c compressed-tensors' config groups. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "format/quant_config_impl.h"

bool assay_quant_is_dense(const assay_quant_entry *e) {
    return assay_precision_get_kind(e->precision) == ASSAY_KIND_DENSE;
}

bool assay_quant_same(const assay_quant_entry *a, const assay_quant_entry *b) {
    return a->precision == b->precision && a->group_size == b->group_size && a->row_block == b->row_block &&
           a->asymmetric == b->asymmetric && a->real_zeros == b->real_zeros && a->ordered == b->ordered &&
           a->nested == b->nested && a->act_bits == b->act_bits && a->act_group == b->act_group &&
           a->static_input == b->static_input && a->outlier_threshold == b->outlier_threshold;
}

int assay_quant_module_length(const char *weight_name) {
    size_t n = strlen(weight_name);
    return (int)(n > 7 && strcmp(weight_name + n - 7, ".weight") == 0 ? n - 7 : n);
}

json_t *assay_quant_module(const char *weight_name) {
    return json_stringn(weight_name, (size_t)assay_quant_module_length(weight_name));
}

/* "model.layers.3.mlp.up_proj" -> "^model\.layers\.\d+\.mlp\.up_proj$" */
static void put_kind(assay_str *b, const char *weight_name) {
    const char *p = weight_name, *end = p + assay_quant_module_length(weight_name);
    assay_str_putc(b, '^');
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

assay_status assay_quant_list_kinds(char ***out, const assay_quant_entry *e, size_t n, assay_err *err) {
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

void assay_quant_free_kinds(char **kinds, size_t n) {
    for (size_t i = 0; kinds && i < n; i++)
        assay_free(kinds[i]);
    assay_free(kinds);
}

bool assay_quant_kind_agrees(const assay_quant_entry *e, char **kinds, size_t n, size_t i) {
    for (size_t k = 0; k < n; k++)
        if (strcmp(kinds[k], kinds[i]) == 0 && !assay_quant_same(&e[k], &e[i])) return false;
    return true;
}

json_t *assay_quant_list_dense(const assay_quant_entry *e, size_t n) {
    json_t *list = json_array();
    bool head = false;
    for (size_t i = 0; i < n; i++) {
        if (assay_quant_is_dense(&e[i]) && !e[i].is_embedding)
            json_array_append_new(list, assay_quant_module(e[i].weight_name));
        if (strcmp(e[i].weight_name, "lm_head.weight") == 0) head = true;
    }
    if (!head) json_array_append_new(list, json_string("lm_head"));
    return list;
}

json_t *assay_quant_kv_scheme(int bits, bool is_float, bool dynamic) {
    return json_pack("{s:i, s:s, s:b, s:n, s:s, s:b, s:s}", "num_bits", bits, "type",
                     is_float ? "float" : "int", "symmetric", true, "group_size", "strategy", "tensor",
                     "dynamic", dynamic, "observer", "minmax");
}

assay_status assay_quant_config_build_with(json_t **out, assay_convention c, const assay_quant_entry *e,
                                           size_t n, assay_dtype model_dtype,
                                           const assay_quant_extras *extras, assay_err *err) {
    static const assay_quant_extras none = {0};
    const assay_quant_extras *x = extras ? extras : &none;
    const assay_quant_entry *first = NULL;
    *out = NULL;
    for (size_t i = 0; i < n && !first; i++)
        if (!assay_quant_is_dense(&e[i])) first = &e[i];
    if (c != ASSAY_CONVENTION_CT && (x->kv_cache_scheme || x->transform_config))
        return assay_fail(
            err, ASSAY_EUNSUPPORTED, "the convention %s cannot say how %s: use compressed-tensors",
            assay_convention_name(c),
            x->transform_config ? "activations are rotated" : "the key and value cache is quantized");
    if (!first && !x->kv_cache_scheme && !x->transform_config) return ASSAY_OK;
    switch (c) {
    case ASSAY_CONVENTION_BNB:
        return assay_quant_build_bnb(out, e, n, first, model_dtype, err);
    case ASSAY_CONVENTION_FP8:
        return assay_quant_build_fp8(out, e, n, first, err);
    case ASSAY_CONVENTION_HQQ:
        return assay_quant_build_hqq(out, e, n, first, err);
    case ASSAY_CONVENTION_GPTQ:
    case ASSAY_CONVENTION_GPTQ_V2:
        return assay_quant_build_gptq(out, e, n, first, c == ASSAY_CONVENTION_GPTQ_V2, err);
    case ASSAY_CONVENTION_AWQ:
        return assay_quant_build_awq(out, e, n, first, err);
    case ASSAY_CONVENTION_CT:
        return assay_quant_build_ct(out, e, n, x, err);
    default:
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s, which a plain checkpoint cannot hold",
                          first->weight_name, assay_precision_name(first->precision));
    }
}

assay_status assay_quant_config_build(json_t **out, assay_convention c, const assay_quant_entry *entries,
                                      size_t n, assay_dtype model_dtype, assay_err *err) {
    return assay_quant_config_build_with(out, c, entries, n, model_dtype, NULL, err);
}
