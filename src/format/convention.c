/* convention.c: from a weight's name to its matrix, and back, whatever the convention. Unquantized weights
 * are the same in all of them and handled here; bnb.c, ct.c, gptq.c, awq.c, fp8.c and hqq.c do the rest with what
 * parts.c has. */
#include "format/convention.h"

#include <string.h>

#include "base/mem.h"

typedef struct convention {
    const char *name, *quant_method; /* NULL: the plain one */
    const char *const *parts;        /* suffixes of a quantized matrix's tensors */
    bool (*has)(const assay_want *w);
    assay_status (*get)(assay_matrix *out, const assay_want *w, assay_err *err);
    assay_status (*check)(const char *module, const assay_matrix *m, assay_err *err);
    assay_status (*put)(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                        assay_dtype model_dtype, assay_err *err);
} convention;

static const char *const BNB_PARTS[] = {".weight", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map",
                                        ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4", ".SCB",
                                        ".weight_format", NULL};
static const char *const CT_PARTS[] = {".weight", ".weight_packed", ".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx",
                                       ".weight_global_scale", ".input_scale", ".input_zero_point", ".input_global_scale", NULL};
static const char *const FP8_PARTS[] = {".weight", ".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale", NULL};
static const char *const HQQ_PARTS[] = {".W_q", ".scale", ".zero", ".nbits", ".group_size", ".axis", ".shape", ".packing", ".compute_dtype",
                                        ".unpack_view_dtype", ".view_as_float", ".quant_scale", ".quant_zero", ".offload_meta",
                                        ".encoded_state_dict", ".channel_wise", ".optimize", ".round_zero", ".stores_quant_config", NULL};
static const char *const GGUF_PARTS[] = {".weight", NULL}; /* only where it is of blocks */
static const char *const GPTQ_PARTS[] = {".qweight", ".qzeros", ".scales", ".g_idx", NULL};

/* To add one: its place in format.h's enum, a line here, its file, its quantization_config in quant_config.c,
 * golden checkpoints in tests/format. */
static const convention TABLE[] = {
    [ASSAY_CONVENTION_HF] = {.name = "hf"},
    [ASSAY_CONVENTION_BNB] = {"bnb", "bitsandbytes", BNB_PARTS, assay_bnb_has, assay_bnb_get, assay_bnb_check, assay_bnb_put},
    [ASSAY_CONVENTION_CT] = {"compressed-tensors", "compressed-tensors", CT_PARTS, assay_ct_has, assay_ct_get, assay_ct_check, assay_ct_put},
    [ASSAY_CONVENTION_FP8] = {"fp8", "fp8", FP8_PARTS, assay_fp8_has, assay_fp8_get, assay_fp8_check, assay_fp8_put},
    [ASSAY_CONVENTION_HQQ] = {"hqq", "hqq", HQQ_PARTS, assay_hqq_has, assay_hqq_get, assay_hqq_check, assay_hqq_put},
    [ASSAY_CONVENTION_GPTQ] = {"gptq", "gptq", GPTQ_PARTS, assay_gptq_has, assay_gptq_get, assay_gptq_check, assay_gptq_put},
    [ASSAY_CONVENTION_AWQ] = {"awq", "awq", GPTQ_PARTS, assay_awq_has, assay_awq_get, assay_awq_check, assay_awq_put},
    [ASSAY_CONVENTION_GGUF] = {"gguf", "gguf", GGUF_PARTS, assay_gguf_has, assay_gguf_get, assay_gguf_check, assay_gguf_put},
    /* Told from version 1 by checkpoint_format. */
    [ASSAY_CONVENTION_GPTQ_V2] = {"gptq_v2", "gptq_v2", GPTQ_PARTS, assay_gptq_has, assay_gptq_get, assay_gptq_v2_check, assay_gptq_v2_put},
};

const char *assay_convention_name(assay_convention c) {
    return (size_t)c < ASSAY_LEN(TABLE) && TABLE[c].name ? TABLE[c].name : "?";
}

assay_status assay_convention_detect(assay_convention *out, const json_t *config, assay_err *err) {
    *out = ASSAY_CONVENTION_HF;
    if (!config || json_is_null(config)) return ASSAY_OK;
    if (!json_is_object(config)) return assay_fail(err, ASSAY_EINPUT, "quantization_config is not an object");
    const char *method = json_string_value(json_object_get(config, "quant_method"));
    if (!method) { /* older files name no method */
        if (json_object_get(config, "load_in_4bit") || json_object_get(config, "load_in_8bit"))
            method = "bitsandbytes";
        else if (json_object_get(config, "config_groups"))
            method = "compressed-tensors";
        else
            return assay_fail(err, ASSAY_EINPUT, "quantization_config names no quant_method");
    }
    const char *version = json_string_value(json_object_get(config, "checkpoint_format"));
    if (strcmp(method, "gptq") == 0 && version && strcmp(version, "gptq_v2") == 0) method = version;
    for (size_t i = 0; i < ASSAY_LEN(TABLE); i++) {
        if (!TABLE[i].quant_method || strcmp(method, TABLE[i].quant_method) != 0) continue;
        *out = (assay_convention)i;
        return ASSAY_OK;
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED,
                      "quant_method '%s' is not supported: bitsandbytes, compressed-tensors, gptq, awq, fp8 and hqq are",
                      method);
}

/* Where the file has the elements unaligned, they are copied. */
static assay_status dense_data(assay_matrix *out, const assay_tensor *t, assay_err *err) {
    if ((uintptr_t)t->data % assay_dtype_size(t->dtype) == 0) {
        out->data = t->data;
        return ASSAY_OK;
    }
    void *copy = assay_malloc(t->n_bytes);
    if (!copy) return assay_nomem(err);
    memcpy(copy, t->data, t->n_bytes);
    out->data = copy;
    out->owns_data = true;
    return ASSAY_OK;
}

static assay_status get_dense(assay_matrix *out, const assay_want *w, assay_err *err) {
    const assay_tensor *t;
    ASSAY_TRY(assay_want_get(&t, w, ".weight", err));
    if (t->n_dims != 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %d dimensions where 2 are expected", t->name,
                          t->n_dims);
    out->act_bits = 16;
    out->act_dtype = w->dense_act;
    out->rows = t->dims[0];
    out->cols = t->dims[1];
    switch (t->dtype) {
    case ASSAY_DTYPE_F32:
        out->precision = ASSAY_PRECISION_F32;
        break;
    case ASSAY_DTYPE_F16:
        out->precision = ASSAY_PRECISION_F16;
        break;
    case ASSAY_DTYPE_BF16:
        out->precision = ASSAY_PRECISION_BF16;
        break;
    default:
        return assay_fail(err, assay_dtype_is_float(t->dtype) ? ASSAY_EUNSUPPORTED : ASSAY_EINPUT,
                          "tensor %s is of type %s and nothing says how that is to be read", t->name,
                          assay_dtype_name(t->dtype));
    }
    ASSAY_TRY(assay_want_shape(w, out->rows, out->cols, err));
    return dense_data(out, t, err);
}

/* "x.weight" -> "x"; owned by the caller. */
static assay_status module_of(char **out, const char *weight_name, assay_err *err) {
    static const char suffix[] = ".weight";
    size_t n = strlen(weight_name), k = sizeof suffix - 1;
    if (n <= k || strcmp(weight_name + n - k, suffix) != 0)
        return assay_fail(err, ASSAY_EUSAGE,
                          "%s is not the name of a weight matrix: it does not end in .weight", weight_name);
    *out = assay_strndup(weight_name, n - k);
    return *out ? ASSAY_OK : assay_nomem(err);
}

/* All of a matrix, or all but its codes. */
static assay_status get_matrix(assay_matrix *out, assay_want *w, const char *weight_name, assay_err *err) {
    assay_convention kind;
    char *module = NULL;
    assay_status s;
    memset(out, 0, sizeof *out);
    ASSAY_GO(assay_convention_detect(&kind, w->config, err));
    ASSAY_GO(module_of(&module, weight_name, err));
    w->module = module;
    if (assay_checkpoint_is_gguf(w->checkpoint)) kind = ASSAY_CONVENTION_GGUF; /* whatever a config says */
    const convention *home = &TABLE[kind];
    s = home->has && home->has(w) ? home->get(out, w, err) : get_dense(out, w, err);
    if (s == ASSAY_OK && !w->outline) s = assay_matrix_check(out, weight_name, err);
out:
    assay_free(module);
    if (s != ASSAY_OK) assay_matrix_deinit(out);
    return s;
}

assay_status assay_checkpoint_matrix(assay_matrix *out, const assay_checkpoint *c, const json_t *config,
                                     const char *weight_name, int64_t rows, int64_t cols,
                                     assay_dtype dense_act, assay_err *err) {
    assay_want w = {.checkpoint = c, .config = config, .rows = rows, .cols = cols, .dense_act = dense_act};
    return get_matrix(out, &w, weight_name, err);
}

assay_status assay_checkpoint_outline(assay_matrix *out, const assay_checkpoint *c, const json_t *config,
                                      const char *weight_name, assay_dtype dense_act, assay_err *err) {
    assay_want w = {.checkpoint = c, .config = config, .dense_act = dense_act, .outline = true};
    return get_matrix(out, &w, weight_name, err);
}

bool assay_checkpoint_part_of(char *module, size_t size, const assay_checkpoint *c, const json_t *config, const char *tensor) {
    assay_convention kind;
    size_t n = strlen(tensor);
    if (assay_convention_detect(&kind, config, NULL) != ASSAY_OK) return false;
    if (assay_checkpoint_is_gguf(c)) kind = ASSAY_CONVENTION_GGUF;
    if (!TABLE[kind].parts) return false;
    for (const char *const *part = TABLE[kind].parts; *part; part++) {
        size_t k = strlen(*part);
        if (n <= k || n - k >= size || strcmp(tensor + n - k, *part) != 0) continue;
        memcpy(module, tensor, n - k);
        module[n - k] = 0;
        assay_want w = {.checkpoint = c, .config = config, .module = module};
        if (kind == ASSAY_CONVENTION_GGUF) return assay_checkpoint_find(c, tensor)->block != 0;
        if (TABLE[kind].has(&w)) return true;
    }
    return false;
}

assay_status assay_convention_check(assay_convention c, const char *weight_name, const assay_matrix *m, assay_err *err) {
    char *module = NULL;
    ASSAY_TRY(module_of(&module, weight_name, err));
    assay_status s = ASSAY_OK;
    if ((size_t)c < ASSAY_LEN(TABLE) && TABLE[c].check)
        s = TABLE[c].check(module, m, err);
    else
        s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: a plain checkpoint cannot hold a matrix in %s", module,
                       assay_precision_name(m->precision));
    assay_free(module);
    return s;
}

static assay_status put_dense(assay_ckpt_writer *w, const char *name, const assay_matrix *m, assay_err *err) {
    assay_dtype t = m->precision == ASSAY_PRECISION_F32   ? ASSAY_DTYPE_F32
                    : m->precision == ASSAY_PRECISION_F16 ? ASSAY_DTYPE_F16
                                                          : ASSAY_DTYPE_BF16;
    return assay_ckpt_writer_add(w, name, t, 2, (int64_t[]){m->rows, m->cols}, m->data, err);
}

assay_status assay_ckpt_writer_put_matrix(assay_ckpt_writer *w, assay_convention c, const char *weight_name,
                                          const assay_matrix *m, assay_dtype model_dtype, assay_err *err) {
    char *module = NULL;
    assay_status s;
    ASSAY_GO(module_of(&module, weight_name, err));
    if (!assay_ckpt_writer_is_planning(w)) ASSAY_GO(assay_matrix_check(m, weight_name, err));
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_DENSE)
        s = put_dense(w, weight_name, m, err);
    else if ((size_t)c < ASSAY_LEN(TABLE) && TABLE[c].put)
        s = TABLE[c].put(w, module, m, model_dtype, err);
    else
        s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: a plain checkpoint cannot hold a matrix in %s",
                       weight_name, assay_precision_name(m->precision));
    if (s == ASSAY_OK) s = assay_ckpt_writer_record(w, weight_name, err);
out:
    if (s != ASSAY_OK) assay_ckpt_writer_drop(w);
    assay_free(module);
    return s;
}
