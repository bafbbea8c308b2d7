/* quant_config_one.c: the quantization_configs that have one setting for the whole model and a list of
 * modules to skip: bitsandbytes, fp8, awq and hqq.
 *
 * bitsandbytes and fp8 skip what starts with a listed name at a module boundary, so full module names are
 * given. hqq lists linear tags, a module's name without "model", "layers" and numbers ("self_attn.q_proj"),
 * which stand for the same place in all layers. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "format/quant_config_impl.h"

static const char *torch_name(assay_dtype t) {
    return t == ASSAY_DTYPE_BF16 ? "bfloat16" : t == ASSAY_DTYPE_F16 ? "float16" : "float32";
}

assay_status assay_quant_check_one_way(const char *convention, const assay_quant_entry *e, size_t n,
                                       const assay_quant_entry *first, assay_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!assay_quant_is_dense(&e[i]) && !assay_quant_same(&e[i], first))
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "%s stores all layers in one way, but %s is %s and %s is %s or grouped "
                              "otherwise: use compressed-tensors",
                              convention, first->weight_name, assay_precision_name(first->precision),
                              e[i].weight_name, assay_precision_name(e[i].precision));
    return ASSAY_OK;
}

assay_status assay_quant_build_bnb(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_dtype model_dtype, assay_err *err) {
    ASSAY_TRY(assay_quant_check_one_way("bitsandbytes", e, n, first, err));
    bool four = assay_precision_get_kind(first->precision) == ASSAY_KIND_CODEBOOK;
    if (!four && first->precision != ASSAY_PRECISION_INT8)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "bitsandbytes holds nf4, fp4 and int8, not %s",
                          assay_precision_name(first->precision));
    *out = json_pack("{s:s, s:b, s:b, s:b, s:b, s:f, s:o, s:b, s:b, s:s, s:b, s:s, s:s}", "quant_method",
                     "bitsandbytes", "_load_in_4bit", four, "_load_in_8bit", !four, "load_in_4bit", four,
                     "load_in_8bit", !four, "llm_int8_threshold", four ? 6.0 : first->outlier_threshold,
                     "llm_int8_skip_modules", assay_quant_list_dense(e, n),
                     "llm_int8_enable_fp32_cpu_offload", false, "llm_int8_has_fp16_weight", false,
                     "bnb_4bit_quant_type", four ? assay_precision_name(first->precision) : "fp4",
                     "bnb_4bit_use_double_quant", first->nested, "bnb_4bit_compute_dtype",
                     torch_name(four ? model_dtype : ASSAY_DTYPE_F32), "bnb_4bit_quant_storage", "uint8");
    return *out ? ASSAY_OK : assay_nomem(err);
}

assay_status assay_quant_build_fp8(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_err *err) {
    bool e5m2 = first->precision == ASSAY_PRECISION_FP8_E5M2,
         block = first->group_size && first->row_block > 1;
    ASSAY_TRY(assay_quant_check_one_way("fp8", e, n, first, err));
    if (!e5m2 && first->precision != ASSAY_PRECISION_FP8_E4M3)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "the convention fp8 holds fp8_e4m3 and fp8_e5m2, not %s",
                          assay_precision_name(first->precision));
    *out = json_pack("{s:s, s:s, s:o, s:o}", "quant_method", "fp8", "fmt", e5m2 ? "e5m2" : "e4m3",
                     "weight_block_size",
                     block ? json_pack("[I, I]", (json_int_t)first->row_block, (json_int_t)first->group_size)
                           : json_null(),
                     "modules_to_not_convert", assay_quant_list_dense(e, n));
    if (!*out) return assay_nomem(err);
    if (first->act_bits == 8)
        json_object_set_new(*out, "activation_scheme",
                            json_string(first->static_input ? "static" : "dynamic"));
    if (first->act_bits != 8 || e5m2) json_object_set_new(*out, "dequantize", json_true());
    return ASSAY_OK;
}

/* AutoAWQ's transformers_dict. The list has parts of names, so that a full name skips that one module. */
assay_status assay_quant_build_awq(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!assay_quant_is_dense(&e[i]) &&
            (e[i].precision != ASSAY_PRECISION_INT4 || e[i].group_size != first->group_size || e[i].act_bits == 8 ||
             e[i].real_zeros || e[i].ordered || e[i].is_embedding))
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "awq stores all layers with 4 bits in groups of one size, but %s is %s in groups of "
                              "%lld%s: use compressed-tensors",
                              e[i].weight_name, assay_precision_name(e[i].precision), (long long)e[i].group_size,
                              e[i].is_embedding ? " and an embedding" : "");
    *out = json_pack("{s:s, s:b, s:I, s:i, s:s, s:o}", "quant_method", "awq", "zero_point", true, "group_size",
                     (json_int_t)(first->group_size ? first->group_size : -1), "bits", 4, "version", "gemm",
                     "modules_to_not_convert", assay_quant_list_dense(e, n));
    return *out ? ASSAY_OK : assay_nomem(err);
}

/* --- hqq --- */

/* "model.layers.3.mlp.up_proj.weight" -> "mlp.up_proj" */
static void put_tag(assay_str *b, const char *weight_name) {
    const char *p = weight_name, *end = p + assay_quant_module_length(weight_name);
    while (p < end) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        size_t n = (size_t)((dot ? dot : end) - p);
        bool left_out = strspn(p, "0123456789") >= n || (n == 5 && memcmp(p, "model", n) == 0) ||
                        (n == 6 && memcmp(p, "layers", n) == 0);
        if (!left_out) {
            if (b->len) assay_str_putc(b, '.');
            assay_str_putn(b, p, n);
        }
        p += n + 1;
    }
}

/* The tags of unquantized layers. A tag that stands for quantized layers too cannot be said. */
static assay_status list_skipped(json_t **out, const assay_quant_entry *e, size_t n, assay_err *err) {
    json_t *seen = json_object(), *list = json_array();
    bool head = false;
    assay_status s = seen && list ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < n; i++) {
        assay_str tag = {0};
        bool dense = assay_quant_is_dense(&e[i]);
        if (e[i].is_embedding && dense) continue;
        put_tag(&tag, e[i].weight_name);
        const json_t *before = json_object_get(seen, assay_str_c(&tag));
        if (before && json_is_true(before) != dense)
            s = assay_fail(err, ASSAY_EUNSUPPORTED,
                           "hqq treats %s of all layers alike, but %s differs from the others",
                           assay_str_c(&tag), e[i].weight_name);
        else if (!before && (json_object_set_new(seen, assay_str_c(&tag), json_boolean(dense)) != 0 ||
                             (dense && json_array_append_new(list, json_string(assay_str_c(&tag))) != 0)))
            s = assay_nomem(err);
        head = head || strcmp(e[i].weight_name, "lm_head.weight") == 0;
        assay_str_free(&tag);
    }
    if (s == ASSAY_OK && !head) json_array_append_new(list, json_string("lm_head"));
    json_decref(seen);
    if (s == ASSAY_OK)
        *out = list;
    else
        json_decref(list);
    return s;
}

assay_status assay_quant_build_hqq(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_err *err) {
    json_t *skipped = NULL;
    ASSAY_TRY(assay_quant_check_one_way("hqq", e, n, first, err));
    if (assay_precision_get_kind(first->precision) != ASSAY_KIND_INT || first->act_bits == 8 ||
        first->ordered)
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "the convention hqq holds integers with 16-bit activations in the order of columns, not %s",
            assay_precision_name(first->precision));
    ASSAY_TRY(list_skipped(&skipped, e, n, err));
    int bits = assay_precision_bits(first->precision);
    *out =
        json_pack("{s:s, s:{s:{s:i, s:b, s:o, s:b, s:b, s:i, s:b}, s:n, s:n, s:b}, s:o}", "quant_method",
                  "hqq", "quant_config", "weight_quant_params", "nbits", bits, "channel_wise", true,
                  "group_size", first->group_size ? json_integer(first->group_size) : json_null(), "optimize",
                  true, "round_zero", bits == 4, "axis", 1, "view_as_float", false, "scale_quant_params",
                  "zero_quant_params", "offload_meta", false, "skip_modules", skipped);
    return *out ? ASSAY_OK : assay_nomem(err);
}
