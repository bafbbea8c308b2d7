/* fp8.c: the convention of quant_method "fp8", which vLLM (quantization/fp8.py), SGLang and transformers
 * (integrations/finegrained_fp8.py, 5.23) load by themselves. For module X of shape [o, i]:
 *
 *   X.weight            F8_E4M3 [o, i]
 *   X.weight_scale_inv  F32 [ceil(o/m), ceil(i/n)]  blocks of m x n (weight_block_size, 128 x 128); despite its name it multiplies.
 *                                                   Activations dynamic per token and n columns
 *   X.weight_scale      F32 []                      one for the tensor; vLLM's name (transformers looks for weight_scale_inv here too)
 *   X.input_scale       F32 []                      activation_scheme "static"; transformers: activation_scale
 *
 * Both names are read, and scales as powers of two in one byte (scale_fmt "ue8m0").
 *
 * e5m2: no runtime computes with e5m2 weights, but transformers decodes them, so this is their place: F8_E5M2 with weight_scale_inv of any
 * sharing and "dequantize": true. 16-bit activations are said by the absence of activation_scheme beside "dequantize": true, which makes
 * transformers compute so. */
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"

static bool is_fp8(const assay_tensor *t) {
    return t && (t->dtype == ASSAY_DTYPE_F8_E4M3 || t->dtype == ASSAY_DTYPE_F8_E5M2);
}

static const assay_tensor *find_scale(const assay_want *w) {
    const assay_tensor *t = assay_want_find(w, ".weight_scale_inv");
    return t ? t : assay_want_find(w, ".weight_scale");
}

bool assay_fp8_has(const assay_want *w) {
    return is_fp8(assay_want_find(w, ".weight")) && find_scale(w);
}

/* --- reading --- */

/* weight_block_size; zeros where it is null, 128 x 128 where the scales need one and nothing is said. */
static assay_status read_block_size(int64_t block[2], const json_t *config, assay_err *err) {
    const json_t *size = json_object_get(config, "weight_block_size");
    block[0] = block[1] = 0;
    if (!size || json_is_null(size)) return ASSAY_OK;
    for (size_t i = 0; i < 2; i++)
        block[i] = json_integer_value(json_array_get(size, i));
    if (json_array_size(size) == 2 && block[0] > 0 && block[1] > 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT,
                      "quantization_config: weight_block_size is no pair of natural numbers");
}

/* How the scales are shared, from their shape. */
static assay_status read_sharing(assay_matrix *m, const assay_tensor *scale, const int64_t block[2],
                                 assay_err *err) {
    int64_t rows = scale->n_dims > 0 ? scale->dims[0] : 1, cols = scale->n_dims > 1 ? scale->dims[1] : 1;
    int64_t b[2] = {block[0] ? block[0] : 128, block[1] ? block[1] : 128};
    bool one = assay_tensor_n_elements(scale) == 1;
    if (scale->n_dims == 2 && (block[0] || !one) && rows == (m->rows - 1) / b[0] + 1 &&
        cols == (m->cols - 1) / b[1] + 1) {
        m->row_block = b[0];
        m->group_size = b[1];
    } else if (one) {
        m->row_block = m->rows;
    } else if (scale->n_dims > 2 || rows != m->rows || cols != 1) {
        return assay_fail(
            err, ASSAY_EINPUT,
            "tensor %s is %lld x %lld, which is neither one scale, one a row nor one a block of %lld x %lld",
            scale->name, (long long)rows, (long long)cols, (long long)b[0], (long long)b[1]);
    }
    return ASSAY_OK;
}

static assay_status read_activations(assay_matrix *m, const assay_want *w, assay_err *err) {
    const char *scheme = NULL;
    bool decoded = json_is_true(json_object_get(w->config, "dequantize"));
    ASSAY_TRY(assay_json_get_str(&scheme, w->config, "activation_scheme", "quantization_config", err));
    m->act_dtype = w->dense_act;
    m->act_bits = !scheme && decoded ? 16 : 8;
    if (m->act_bits == 16) return ASSAY_OK;
    if (!scheme || strcmp(scheme, "dynamic") == 0) {
        m->act_group = m->row_block > 1 ? m->group_size : 0;
        return ASSAY_OK;
    }
    if (strcmp(scheme, "static") == 0)
        return assay_want_input_scale(
            &m->input_scale, w, assay_want_find(w, ".input_scale") ? ".input_scale" : ".activation_scale",
            err);
    return assay_fail(err, ASSAY_EINPUT,
                      "quantization_config: activation_scheme '%.40s' is neither dynamic nor static", scheme);
}

assay_status assay_fp8_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *t = assay_want_find(w, ".weight"), *scale = find_scale(w);
    int64_t block[2];
    if (t->n_dims != 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %d dimensions where 2 are expected", t->name,
                          t->n_dims);
    ASSAY_TRY(assay_want_shape(w, t->dims[0], t->dims[1], err));
    ASSAY_TRY(read_block_size(block, w->config, err));
    *m = (assay_matrix){.precision = t->dtype == ASSAY_DTYPE_F8_E4M3 ? ASSAY_PRECISION_FP8_E4M3
                                                                     : ASSAY_PRECISION_FP8_E5M2,
                        .rows = t->dims[0],
                        .cols = t->dims[1],
                        .scale_dtype = assay_scale_dtype(scale)};
    ASSAY_TRY(read_sharing(m, scale, block, err));
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    ASSAY_TRY(assay_want_scales(m->scales, scale, m->n_scales, err));
    ASSAY_TRY(assay_want_fp8_codes(m, w, t, err));
    return read_activations(m, w, err);
}

/* --- writing --- */

assay_status assay_fp8_check(const char *module, const assay_matrix *m, assay_err *err) {
    assay_sharing sharing = assay_matrix_sharing(m);
    bool e5m2 = m->precision == ASSAY_PRECISION_FP8_E5M2;
    if (!e5m2 && m->precision != ASSAY_PRECISION_FP8_E4M3)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: the convention fp8 holds fp8_e4m3 and fp8_e5m2, not %s", module,
                          assay_precision_name(m->precision));
    if (sharing == ASSAY_SHARING_GROUP || sharing == ASSAY_SHARING_ROWS ||
        (sharing == ASSAY_SHARING_CHANNEL && !e5m2))
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "%s: the convention fp8 has one scale for a tensor or a block; use compressed-tensors for rows",
            module);
    if (sharing == ASSAY_SHARING_BLOCK && m->input_scale > 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: the convention fp8 has static activations only with one scale for the tensor",
                          module);
    int64_t group = sharing == ASSAY_SHARING_BLOCK ? m->group_size : 0;
    if (m->act_bits == 8 && m->input_scale == 0 && m->act_group != group)
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "%s: the convention fp8 scales activations as wide as weight blocks, not per %lld columns",
            module, (long long)m->act_group);
    return ASSAY_OK;
}

assay_status assay_fp8_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                           assay_dtype model_dtype, assay_err *err) {
    (void)model_dtype;
    assay_sharing sharing = assay_matrix_sharing(m);
    bool e5m2 = m->precision == ASSAY_PRECISION_FP8_E5M2, one = sharing == ASSAY_SHARING_TENSOR;
    ASSAY_TRY(assay_fp8_check(module, m, err));
    int64_t groups = assay_matrix_n_groups(m), dims[2] = {m->n_scales / groups, groups};
    ASSAY_TRY(assay_put_part(w, module, ".weight", e5m2 ? ASSAY_DTYPE_F8_E5M2 : ASSAY_DTYPE_F8_E4M3, 2,
                             (int64_t[]){m->rows, m->cols}, m->codes, err));
    ASSAY_TRY(assay_put_floats(w, module, one && !e5m2 ? ".weight_scale" : ".weight_scale_inv",
                               ASSAY_DTYPE_F32, one ? 0 : 2, dims, m->scales, "scale", err));
    if (m->act_bits != 8 || m->input_scale == 0) return ASSAY_OK;
    return assay_put_floats(w, module, e5m2 ? ".activation_scale" : ".input_scale", ASSAY_DTYPE_F32, 0, dims,
                            &m->input_scale, "scale", err);
}
