/* ct_float.c: the compressed-tensors convention, small floats (compressed-tensors 0.20:
 * compressors/naive_quantized, nvfp4, mxfp4). For module X of shape [o, i]:
 *
 *   float-quantized, naive-quantized (without quantized activations): FP8
 *     X.weight               F8_E4M3 [o, i]
 *     X.weight_scale         [1] a tensor, [o, 1] a channel, [ceil(o/m), ceil(i/n)] a block of m x n
 *     X.input_scale          [1]             static activations only
 *   nvfp4-pack-quantized
 *     X.weight_packed        U8 [o, i/2]     e2m1 codes, the even column in the low nibble
 *     X.weight_scale         F8_E4M3 [o, i/16]
 *     X.weight_global_scale  F32 [1]         w = value * (scale / global)
 *   mxfp4-pack-quantized
 *     X.weight_packed        U8 [o, i/2]
 *     X.weight_scale         U8 [o, i/32]    exponent e of 2^(e-127)
 *
 * QuantizationArgs knows one 8-bit float, e4m3: e5m2 is refused here and has its place in fp8.c. */
#include <math.h>

#include "base/mem.h"
#include "format/convention.h"

/* --- reading --- */

static assay_status read_fp8(assay_matrix *m, const assay_want *w, const assay_ct_scheme *s, assay_err *err) {
    const assay_tensor *t, *scale;
    ASSAY_TRY(assay_want_get(&t, w, ".weight", err));
    ASSAY_TRY(assay_want_get(&scale, w, ".weight_scale", err));
    if (t->n_dims != 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %d dimensions where 2 are expected", t->name,
                          t->n_dims);
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_F8_E4M3, -1, err));
    ASSAY_TRY(assay_want_shape(w, t->dims[0], t->dims[1], err));
    *m = (assay_matrix){.precision = ASSAY_PRECISION_FP8_E4M3,
                        .rows = t->dims[0],
                        .cols = t->dims[1],
                        .group_size = s->group_size,
                        .row_block = s->per_tensor ? t->dims[0] : s->block_rows,
                        .scale_dtype = assay_scale_dtype(scale),
                        .act_bits = s->act_bits,
                        .act_group = s->act_group,
                        .act_dtype = w->dense_act};
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    ASSAY_TRY(assay_want_scales(m->scales, scale, m->n_scales, err));
    ASSAY_TRY(assay_want_fp8_codes(m, w, t, err));
    return s->static_input ? assay_want_input_scale(&m->input_scale, w, ".input_scale", err) : ASSAY_OK;
}

static assay_status read_global(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *t;
    ASSAY_TRY(assay_want_get(&t, w, ".weight_global_scale", err));
    ASSAY_TRY(assay_want_scales(&m->global_scale, t, 1, err));
    if (isfinite(m->global_scale) && m->global_scale > 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "tensor %s holds %g, which is no scale", t->name,
                      (double)m->global_scale);
}

static assay_status read_fp4(assay_matrix *m, const assay_want *w, const assay_ct_scheme *s, assay_err *err) {
    const assay_tensor *t, *scale;
    ASSAY_TRY(assay_want_get(&t, w, ".weight_packed", err));
    ASSAY_TRY(assay_want_get(&scale, w, ".weight_scale", err));
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_U8, -1, err));
    if (t->n_dims != 2 || t->dims[1] > INT64_MAX / 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is not a matrix of packed codes", t->name);
    ASSAY_TRY(assay_want_shape(w, t->dims[0], t->dims[1] * 2, err));
    bool nv = s->tensor_group;
    if (scale->dtype != (nv ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_U8) &&
        (nv || scale->dtype != ASSAY_DTYPE_F8_E8M0))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s is of type %s where the scales of %s are %s",
                          scale->name, assay_dtype_name(scale->dtype), nv ? "nvfp4" : "mxfp4",
                          nv ? "F8_E4M3" : "U8");
    *m = (assay_matrix){.precision = nv ? ASSAY_PRECISION_NVFP4 : ASSAY_PRECISION_MXFP4,
                        .rows = t->dims[0],
                        .cols = t->dims[1] * 2,
                        .group_size = s->group_size,
                        .scale_dtype = nv ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_F8_E8M0,
                        .act_bits = s->act_bits,
                        .act_dtype = w->dense_act};
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    ASSAY_TRY(assay_want_scales(m->scales, scale, m->n_scales, err));
    const uint8_t *p = t->data;
    for (size_t i = 0; i < t->n_bytes && !w->outline; i++) {
        m->codes[2 * i] = p[i] & 15;
        m->codes[2 * i + 1] = p[i] >> 4;
    }
    return nv ? read_global(m, w, err) : ASSAY_OK;
}

assay_status assay_ct_get_float(assay_matrix *m, const assay_want *w, const assay_ct_scheme *scheme,
                                assay_err *err) {
    return scheme->bits == 8 ? read_fp8(m, w, scheme, err) : read_fp4(m, w, scheme, err);
}

/* --- writing --- */

static assay_status check_fp8(const char *module, const assay_matrix *m, assay_err *err) {
    assay_sharing sharing = assay_matrix_sharing(m);
    if (m->precision == ASSAY_PRECISION_FP8_E5M2)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: compressed-tensors' 8-bit float is e4m3: use the convention fp8 for e5m2",
                          module);
    if (sharing == ASSAY_SHARING_GROUP || sharing == ASSAY_SHARING_ROWS)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: compressed-tensors has fp8 scales for a tensor, a row or a block, not for %s",
                          module, sharing == ASSAY_SHARING_ROWS ? "several rows" : "groups of a row");
    return ASSAY_OK;
}

static assay_status check_fp4(const char *module, const assay_matrix *m, assay_err *err) {
    int64_t group = m->precision == ASSAY_PRECISION_NVFP4 ? 16 : 32;
    if (m->group_size != group || m->cols % group != 0 || m->row_block > 1)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: %s has groups of %lld in each row of a multiple of as many columns", module,
                          assay_precision_name(m->precision), (long long)group);
    if (m->act_bits == 8)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: %s with 8-bit activations is not written here",
                          module, assay_precision_name(m->precision));
    return ASSAY_OK;
}

assay_status assay_ct_check_float(const char *module, const assay_matrix *m, assay_err *err) {
    return assay_precision_bits(m->precision) == 8 ? check_fp8(module, m, err) : check_fp4(module, m, err);
}

static assay_status put_fp8(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    bool one = assay_matrix_sharing(m) == ASSAY_SHARING_TENSOR;
    int64_t groups = assay_matrix_n_groups(m), dims[2] = {one ? 1 : m->n_scales / groups, groups};
    ASSAY_TRY(assay_put_part(w, module, ".weight", ASSAY_DTYPE_F8_E4M3, 2, (int64_t[]){m->rows, m->cols},
                             m->codes, err));
    ASSAY_TRY(assay_put_floats(w, module, ".weight_scale", m->scale_dtype, one ? 1 : 2, dims, m->scales, "scale", err));
    if (m->act_bits != 8 || m->input_scale == 0) return ASSAY_OK;
    return assay_put_scalar(w, module, ".input_scale", m->scale_dtype, m->input_scale, err);
}

static assay_status put_fp4(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    bool nv = m->precision == ASSAY_PRECISION_NVFP4;
    size_t n = (size_t)(m->rows * m->cols / 2);
    uint8_t *packed = assay_malloc(n);
    if (!packed) return assay_nomem(err);
    for (size_t i = 0; i < n && !assay_ckpt_writer_is_planning(w); i++)
        packed[i] = (uint8_t)(m->codes[2 * i] | m->codes[2 * i + 1] << 4);
    assay_status s = assay_put_part(w, module, ".weight_packed", ASSAY_DTYPE_U8, 2,
                                    (int64_t[]){m->rows, m->cols / 2}, packed, err);
    assay_free(packed);
    if (s == ASSAY_OK)
        s = assay_put_floats(w, module, ".weight_scale", nv ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_U8, 2,
                             (int64_t[]){m->rows, m->cols / m->group_size}, m->scales, "scale", err);
    if (s != ASSAY_OK || !nv) return s;
    return assay_put_scalar(w, module, ".weight_global_scale", ASSAY_DTYPE_F32,
                            m->global_scale > 0 ? m->global_scale : 1.0f, err);
}

assay_status assay_ct_put_float(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                                assay_err *err) {
    return assay_precision_bits(m->precision) == 8 ? put_fp8(w, module, m, err) : put_fp4(w, module, m, err);
}
