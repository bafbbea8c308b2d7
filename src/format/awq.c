/* awq.c: the AWQ convention, version GEMM (AutoAWQ 0.2.9: modules/linear/gemm.py, utils/packing_utils.py). For module X of shape
 * [o, i] in groups of k columns; four bits; everything lies [in][out]:
 *
 *   X.qweight  I32 [i, o/8]     word c of input n has the codes of the outputs 8c .. 8c+7, in nibbles from the low end:
 *                               8c+0, 8c+2, 8c+4, 8c+6, 8c+1, 8c+3, 8c+5, 8c+7
 *   X.qzeros   I32 [i/k, o/8]   zero points in the same order, as they are
 *   X.scales   F16 [i/k, o]     w = (q - zero) * scale
 *
 * Other versions (gemv, gemv_fast, marlin, exllama) lie otherwise and are refused. AutoAWQ computes in float16. */
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"

bool assay_awq_has(const assay_want *w) {
    return assay_want_find(w, ".qweight") != NULL;
}

/* Codes, or zero points as those of so many columns. */
static assay_packing packing_of(const assay_matrix *m, int64_t cols) {
    return (assay_packing){ASSAY_PACKING_TURNED, 4, m->rows, cols};
}

/* --- reading --- */

static assay_status read_scheme(int64_t *group_size, bool *zero_point, const assay_want *w, assay_err *err) {
    const char *version = "gemm";
    int64_t bits = 4;
    *zero_point = true;
    *group_size = 128;
    ASSAY_TRY(assay_json_get_str(&version, w->config, "version", "quantization_config", err));
    ASSAY_TRY(assay_json_get_bool(zero_point, w->config, "zero_point", "quantization_config", err));
    /* AutoAWQ's own file says w_bit and q_group_size. */
    ASSAY_TRY(assay_json_get_int(&bits, w->config, "w_bit", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(&bits, w->config, "bits", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(group_size, w->config, "q_group_size", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(group_size, w->config, "group_size", "quantization_config", err));
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: awq of version '%.40s' is not supported: gemm is", version);
    if (bits != 4) return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: awq has 4 bits, not %lld", (long long)bits);
    return ASSAY_OK;
}

assay_status assay_awq_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *codes, *scales, *zeros = assay_want_find(w, ".qzeros");
    assay_packing packing;
    int64_t group;
    bool zero_point;
    ASSAY_TRY(read_scheme(&group, &zero_point, w, err));
    ASSAY_TRY(assay_want_get(&codes, w, ".qweight", err));
    ASSAY_TRY(assay_want_get(&scales, w, ".scales", err));
    if (!zeros && zero_point) return assay_want_get(&zeros, w, ".qzeros", err);
    ASSAY_TRY(assay_want_tensor(codes, ASSAY_DTYPE_I32, -1, err));
    if (codes->n_dims != 2 || codes->dims[1] > INT32_MAX)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is not a matrix of packed codes", codes->name);
    *m = (assay_matrix){.precision = ASSAY_PRECISION_INT4,
                        .rows = codes->dims[1] * 8,
                        .cols = codes->dims[0],
                        .scale_dtype = assay_scale_dtype(scales),
                        .act_bits = 16,
                        .act_dtype = ASSAY_DTYPE_F16};
    ASSAY_TRY(assay_want_shape(w, m->rows, m->cols, err));
    m->group_size = group > 0 && group <= m->cols ? group : 0;
    if (m->group_size && m->cols % m->group_size != 0)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %lld inputs, which groups of %lld do not divide", codes->name,
                          (long long)m->cols, (long long)group);
    ASSAY_TRY(assay_matrix_alloc(m, zeros != NULL, err));
    ASSAY_TRY(assay_want_scales_across(m, scales, err));
    if (zeros) {
        ASSAY_TRY(assay_want_tensor(zeros, ASSAY_DTYPE_I32, m->n_scales / 8, err));
        packing = packing_of(m, assay_matrix_n_groups(m));
        assay_unpack_lines(m->zeros, &packing, zeros->data);
        assay_matrix_drop_plain_zeros(m);
    }
    packing = packing_of(m, m->cols);
    if (!w->outline) assay_unpack_lines(m->codes, &packing, codes->data);
    return ASSAY_OK;
}

/* --- writing --- */

assay_status assay_awq_check(const char *module, const assay_matrix *m, assay_err *err) {
    int64_t k = m->group_size ? m->group_size : m->cols;
    ASSAY_TRY(assay_check_plain_int(module, m, "awq", err));
    if (m->precision != ASSAY_PRECISION_INT4)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has codes of %d bits: awq has 4", module, assay_precision_bits(m->precision));
    if (m->g_idx) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has an activation order (g_idx): awq has none", module);
    if (m->cols % k != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has groups of %lld: awq wants them to divide the %lld inputs", module, (long long)k,
                          (long long)m->cols);
    if (m->rows % 8 != 0) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %lld outputs: awq packs them by 8", module, (long long)m->rows);
    return ASSAY_OK;
}

static assay_status put_zeros(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    assay_packing packing = packing_of(m, assay_matrix_n_groups(m));
    if (m->zeros || assay_ckpt_writer_is_planning(w)) return assay_put_packed(w, module, ".qzeros", &packing, m->zeros, err);
    uint8_t *middle = assay_malloc((size_t)m->n_scales);
    if (!middle) return assay_nomem(err);
    memset(middle, 8, (size_t)m->n_scales);
    assay_status s = assay_put_packed(w, module, ".qzeros", &packing, middle, err);
    assay_free(middle);
    return s;
}

assay_status assay_awq_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_dtype model_dtype, assay_err *err) {
    assay_packing packing = packing_of(m, m->cols);
    (void)model_dtype;
    ASSAY_TRY(assay_awq_check(module, m, err));
    ASSAY_TRY(assay_put_packed(w, module, ".qweight", &packing, m->codes, err));
    ASSAY_TRY(put_zeros(w, module, m, err));
    return assay_put_scales_across(w, module, m, err);
}
