/* quant_config_gptq.c: the quantization_config of GPTQ (GPTQModel 7.7: quantization/config.py; quantize_config.json is the same object).
 *
 * One width and group size for the model, and `dynamic` for what differs: an object of Python patterns, "+:" with other settings, "-:" for
 * decoder layers' modules that stay as they are; the first pattern that matches counts. Modules outside the decoder layers are left alone
 * anyway, except the head when lm_head is true. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "format/quant_config_impl.h"

static bool is_head(const assay_quant_entry *e) {
    return strcmp(e->weight_name, "lm_head.weight") == 0;
}

/* In a decoder layer: its name has a number for a part. */
static bool in_layer(const assay_quant_entry *e) {
    for (const char *p = strchr(e->weight_name, '.'); p; p = strchr(p + 1, '.')) {
        size_t n = strspn(p + 1, "0123456789");
        if (n && p[1 + n] == '.') return true;
    }
    return false;
}

/* What `dynamic` can say of an entry. */
static bool alike(const assay_quant_entry *a, const assay_quant_entry *b) {
    return a->precision == b->precision && a->group_size == b->group_size;
}

/* "^model\.layers\.3\.mlp\.up_proj$" of one module. */
static void put_name(assay_str *b, const char *weight_name) {
    int n = assay_quant_module_length(weight_name);
    assay_str_putc(b, '^');
    for (int i = 0; i < n; i++) {
        if (!isalnum((unsigned char)weight_name[i]) && weight_name[i] != '_') assay_str_putc(b, '\\');
        assay_str_putc(b, weight_name[i]);
    }
    assay_str_putc(b, '$');
}

static assay_status add_dynamic(json_t *dynamic, const assay_quant_entry *e, char **kinds, size_t n, size_t i, assay_err *err) {
    bool dense = assay_quant_is_dense(&e[i]);
    assay_str b = {0};
    assay_str_put(&b, dense ? "-:" : "+:");
    if (assay_quant_kind_agrees(e, kinds, n, i))
        assay_str_put(&b, kinds[i]);
    else
        put_name(&b, e[i].weight_name);
    json_t *value = dense ? json_object()
                          : json_pack("{s:i, s:I}", "bits", assay_precision_bits(e[i].precision), "group_size",
                                      (json_int_t)(e[i].group_size ? e[i].group_size : -1));
    assay_status s = assay_str_status(&b, err);
    if (s == ASSAY_OK && json_object_set_new(dynamic, b.s, value) != 0) s = assay_nomem(err);
    assay_str_free(&b);
    return s;
}

static assay_status list_dynamic(json_t **out, const assay_quant_entry *e, size_t n, const assay_quant_entry *base, assay_err *err) {
    char **kinds = NULL;
    assay_status s = ASSAY_OK;
    *out = json_object();
    if (!*out) return assay_nomem(err);
    ASSAY_GO(assay_quant_list_kinds(&kinds, e, n, err));
    for (size_t i = 0; i < n; i++) {
        bool stays = assay_quant_is_dense(&e[i]);
        if (stays ? in_layer(&e[i]) : !alike(&e[i], base)) ASSAY_GO(add_dynamic(*out, e, kinds, n, i, err));
    }
out:
    assay_quant_free_kinds(kinds, n);
    return s;
}

/* The way of storing that most matrices have. */
static const assay_quant_entry *most_common(const assay_quant_entry *e, size_t n, const assay_quant_entry *first) {
    const assay_quant_entry *best = first;
    size_t most = 0;
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        if (assay_quant_is_dense(&e[i]) || (most && alike(&e[i], best))) continue;
        for (size_t k = 0; k < n; k++) count += alike(&e[k], &e[i]);
        if (count > most) {
            most = count;
            best = &e[i];
        }
    }
    return best;
}

static assay_status check(const assay_quant_entry *e, assay_err *err) {
    int bits = assay_precision_bits(e->precision);
    if (assay_quant_is_dense(e)) return ASSAY_OK;
    bool held = assay_precision_get_kind(e->precision) == ASSAY_KIND_INT && !e->real_zeros && e->act_bits != 8 &&
                (bits == 2 || bits == 3 || bits == 4 || bits == 8);
    if (held && (in_layer(e) || is_head(e))) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s%s: gptq holds 2, 3, 4 and 8 bit integers with 16-bit activations in decoder layers and the head",
                      e->weight_name, assay_precision_name(e->precision), e->is_embedding ? " and an embedding" : "");
}

assay_status assay_quant_build_gptq(json_t **out, const assay_quant_entry *e, size_t n, const assay_quant_entry *first, bool v2, assay_err *err) {
    json_t *dynamic = NULL;
    bool symmetric = true, ordered = false, head = false;
    const assay_quant_entry *base = most_common(e, n, first);
    for (size_t i = 0; i < n; i++) {
        ASSAY_TRY(check(&e[i], err));
        if (assay_quant_is_dense(&e[i])) continue;
        symmetric = symmetric && !e[i].asymmetric;
        ordered = ordered || e[i].ordered;
        head = head || is_head(&e[i]);
    }
    assay_status s = list_dynamic(&dynamic, e, n, base, err);
    const char *version = v2 ? "gptq_v2" : "gptq";
    if (s == ASSAY_OK) {
        *out = json_pack("{s:s, s:i, s:I, s:b, s:b, s:b, s:s, s:s, s:{s:[s]}}", "quant_method", "gptq", "bits",
                         assay_precision_bits(base->precision), "group_size", (json_int_t)(base->group_size ? base->group_size : -1),
                         "desc_act", ordered, "sym", symmetric, "lm_head", head, "checkpoint_format", version, "pack_dtype", "int32",
                         "meta", "quantizer", "assay:" ASSAY_VERSION);
        if (!*out || (json_object_size(dynamic) && json_object_set(*out, "dynamic", dynamic) != 0)) s = assay_nomem(err);
    }
    json_decref(dynamic);
    return s;
}
