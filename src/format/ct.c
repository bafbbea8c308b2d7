/* ct.c: the compressed-tensors convention, integers: formats pack-quantized and int-quantized (compressed-tensors 0.20:
 * compressors/pack_quantized, compressors/naive_quantized). Floats are in ct_float.c. For module X of shape [o, i] with g groups a row:
 *
 *   pack-quantized, 2 to 8 bits b, 16-bit activations
 *     X.weight_packed      I32 [o, ceil(i*b/32)]   code q + 2^(b-1), dense, LSB first along the row
 *     X.weight_scale       model's dtype [o, g]
 *     X.weight_shape       I64 [2]
 *     X.weight_zero_point  I32 [ceil(o*b/32), g]   asymmetric only; packed in the same way down the rows
 *     X.weight_g_idx       I32 [i]                 activation order by group: each column's group. Written by versions up to 0.14 and
 *                                                  read by vLLM; later versions refuse it
 *   int-quantized, 2 to 8 bits b, 8-bit activations, dynamic per token or static per tensor
 *     X.weight             I8 [o, i]               q, also where b < 8
 *     X.weight_scale       [o, g]
 *     X.weight_zero_point  I8 [o, g]               asymmetric only
 *     X.input_scale        [1]                     static only
 *
 * What widths and groups a module has stands in the configuration (ct_config.c) and is held against the tensors here. */
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"
#include "num/convert.h"

bool assay_ct_has(const assay_want *w) {
    return assay_want_find(w, ".weight_packed") || assay_want_find(w, ".weight_scale");
}

/* --- reading --- */

static assay_status read_packed_shape(int64_t *rows, int64_t *cols, const assay_want *w, assay_err *err) {
    const assay_tensor *t;
    int64_t shape[2];
    ASSAY_TRY(assay_want_get(&t, w, ".weight_shape", err));
    if (t->dtype == ASSAY_DTYPE_I32 && t->n_bytes == 8) {
        int32_t narrow[2];
        memcpy(narrow, t->data, 8);
        *rows = narrow[0];
        *cols = narrow[1];
    } else {
        ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I64, 2, err));
        memcpy(shape, t->data, 16);
        *rows = shape[0];
        *cols = shape[1];
    }
    return assay_want_shape(w, *rows, *cols, err);
}

static assay_status read_scales(assay_matrix *m, const assay_tensor *t, const assay_ct_scheme *scheme,
                                assay_err *err) {
    int64_t n = scheme->per_tensor ? 1 : m->n_scales;
    if (t->dtype != ASSAY_DTYPE_F32 && t->dtype != ASSAY_DTYPE_F16 && t->dtype != ASSAY_DTYPE_BF16)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "tensor %s is of type %s; scales of integers are F32, F16 or BF16", t->name,
                          assay_dtype_name(t->dtype));
    ASSAY_TRY(assay_want_scales(m->scales, t, n, err));
    for (int64_t i = n; i < m->n_scales; i++)
        m->scales[i] = m->scales[0];
    return ASSAY_OK;
}

static assay_status read_zeros(assay_matrix *m, const assay_want *w, int bits, assay_err *err) {
    const assay_tensor *t;
    size_t groups = (size_t)assay_matrix_n_groups(m), words = assay_packed_words((size_t)m->rows, bits);
    ASSAY_TRY(assay_want_get(&t, w, ".weight_zero_point", err));
    if (t->dtype == ASSAY_DTYPE_I8) { /* int-quantized, and older pack-quantized files */
        ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I8, m->n_scales, err));
        const int8_t *q = t->data;
        for (int64_t i = 0; i < m->n_scales; i++)
            m->zeros[i] = (uint8_t)(q[i] + (1 << (bits - 1)));
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I32, (int64_t)(words * groups), err));
    for (size_t g = 0; g < groups; g++)
        assay_unpack(m->zeros + g, groups, (const uint32_t *)t->data + g, groups, (size_t)m->rows, bits);
    return ASSAY_OK;
}

/* The shape of a packed weight. The tensor bounds it: nothing is allocated for a shape that the words do
 * not hold. */
static assay_status packed_shape(int64_t *rows, int64_t *cols, const assay_want *w, const assay_tensor *t,
                                 int bits, assay_err *err) {
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I32, -1, err));
    ASSAY_TRY(read_packed_shape(rows, cols, w, err));
    if (t->n_dims == 2 && t->dims[0] == *rows && *cols <= INT32_MAX &&
        t->dims[1] == (int64_t)assay_packed_words((size_t)*cols, bits))
        return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "tensor %s does not hold %lld x %lld codes of %d bits", t->name,
                      (long long)*rows, (long long)*cols, bits);
}

static assay_status plain_shape(int64_t *rows, int64_t *cols, const assay_want *w, const assay_tensor *t,
                                assay_err *err) {
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I8, -1, err));
    if (t->n_dims != 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %d dimensions where 2 are expected", t->name,
                          t->n_dims);
    *rows = t->dims[0];
    *cols = t->dims[1];
    return assay_want_shape(w, *rows, *cols, err);
}

assay_status assay_ct_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    assay_ct_scheme scheme;
    const assay_tensor *codes, *scale, *order = assay_want_find(w, ".weight_g_idx");
    int64_t rows = 0, cols = 0;
    bool packed = assay_want_find(w, ".weight_packed") != NULL;
    ASSAY_TRY(assay_ct_scheme_find(&scheme, w->config, w->module, err));
    if (scheme.is_float) return assay_ct_get_float(m, w, &scheme, err);
    ASSAY_TRY(assay_want_get(&scale, w, ".weight_scale", err));
    ASSAY_TRY(assay_want_get(&codes, w, packed ? ".weight_packed" : ".weight", err));
    ASSAY_TRY(packed ? packed_shape(&rows, &cols, w, codes, scheme.bits, err)
                     : plain_shape(&rows, &cols, w, codes, err));
    *m = (assay_matrix){.precision = (assay_precision)(ASSAY_PRECISION_INT2 + scheme.bits - 2),
                        .rows = rows,
                        .cols = cols,
                        .group_size = scheme.group_size,
                        .scale_dtype = scale->dtype,
                        .act_bits = scheme.act_bits,
                        .act_dtype = w->dense_act};
    ASSAY_TRY(assay_matrix_alloc(m, !scheme.symmetric, err));
    ASSAY_TRY(read_scales(m, scale, &scheme, err));
    if (!scheme.symmetric) ASSAY_TRY(read_zeros(m, w, scheme.bits, err));
    if (scheme.static_input) ASSAY_TRY(assay_want_input_scale(&m->input_scale, w, ".input_scale", err));
    if (order) ASSAY_TRY(assay_want_order(m, order, err));
    if (w->outline) return ASSAY_OK;
    if (packed) {
        assay_unpack_lines(m->codes, &(assay_packing){ASSAY_PACKING_ROWS, scheme.bits, m->rows, m->cols}, codes->data);
    } else {
        const int8_t *q = codes->data;
        for (size_t i = 0; i < codes->n_bytes; i++)
            m->codes[i] = (uint8_t)(q[i] + (1 << (scheme.bits - 1)));
    }
    return ASSAY_OK;
}

/* --- writing --- */

static assay_status put_packed_zeros(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                                     int bits, assay_err *err) {
    size_t groups = (size_t)assay_matrix_n_groups(m), words = assay_packed_words((size_t)m->rows, bits);
    uint32_t *packed = assay_calloc(words * groups, sizeof *packed);
    if (!packed) return assay_nomem(err);
    for (size_t g = 0; g < groups && !assay_ckpt_writer_is_planning(w); g++)
        assay_pack(packed + g, groups, m->zeros + g, groups, (size_t)m->rows, bits);
    assay_status s = assay_put_part(w, module, ".weight_zero_point", ASSAY_DTYPE_I32, 2,
                                    (int64_t[]){(int64_t)words, (int64_t)groups}, packed, err);
    assay_free(packed);
    return s;
}

static assay_status put_packed(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                               assay_err *err) {
    int bits = assay_precision_bits(m->precision);
    assay_packing packing = {ASSAY_PACKING_ROWS, bits, m->rows, m->cols};
    ASSAY_TRY(assay_put_packed(w, module, ".weight_packed", &packing, m->codes, err));
    ASSAY_TRY(assay_put_part(w, module, ".weight_shape", ASSAY_DTYPE_I64, 1, (int64_t[]){2},
                             (int64_t[]){m->rows, m->cols}, err));
    return m->zeros ? put_packed_zeros(w, module, m, bits, err) : ASSAY_OK;
}

static assay_status put_bytes(assay_ckpt_writer *w, const char *module, const char *suffix,
                              const uint8_t *codes, int64_t rows, int64_t cols, int bits, assay_err *err) {
    int8_t *q = assay_signed_codes(codes, assay_ckpt_writer_is_planning(w) ? 0 : rows * cols, bits);
    if (!q) return assay_nomem(err);
    assay_status s = assay_put_part(w, module, suffix, ASSAY_DTYPE_I8, 2, (int64_t[]){rows, cols}, q, err);
    assay_free(q);
    return s;
}

/* What cannot be said, by name. */
static assay_status check_int(const char *module, const assay_matrix *m, assay_err *err) {
    const char *what = NULL;
    if (m->real_zeros)
        what = "real zero points";
    else if (m->outlier_threshold > 0)
        what = "outlier columns";
    else if (m->act_bits == 8 && m->act_group > 0)
        what = "integer activations in groups";
    else if (m->act_bits == 8 && m->g_idx)
        what = "activation order together with 8-bit activations";
    if (what)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: compressed-tensors has no %s: writing it so would change what is computed",
                          module, what);
    if (m->group_size > 0 && m->cols % m->group_size != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: compressed-tensors wants groups of %lld to divide the %lld columns", module,
                          (long long)m->group_size, (long long)m->cols);
    if (m->g_idx && m->group_size == 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: an activation order without groups says nothing",
                          module);
    return m->g_idx ? assay_check_order(m, module, err) : ASSAY_OK;
}

static assay_status put_int(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    int bits = assay_precision_bits(m->precision);
    int64_t groups = assay_matrix_n_groups(m);
    ASSAY_TRY(assay_put_floats(w, module, ".weight_scale", m->scale_dtype, 2, (int64_t[]){m->rows, groups},
                               m->scales, "scale", err));
    if (m->g_idx)
        ASSAY_TRY(assay_put_part(w, module, ".weight_g_idx", ASSAY_DTYPE_I32, 1, &m->cols, m->g_idx, err));
    if (m->act_bits != 8) return put_packed(w, module, m, err);
    ASSAY_TRY(put_bytes(w, module, ".weight", m->codes, m->rows, m->cols, bits, err));
    if (m->zeros) ASSAY_TRY(put_bytes(w, module, ".weight_zero_point", m->zeros, m->rows, groups, bits, err));
    if (m->input_scale == 0) return ASSAY_OK;
    return assay_put_scalar(w, module, ".input_scale", m->scale_dtype, m->input_scale, err);
}

assay_status assay_ct_check(const char *module, const assay_matrix *m, assay_err *err) {
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_INT:
        return check_int(module, m, err);
    case ASSAY_KIND_FLOAT:
        return assay_ct_check_float(module, m, err);
    default:
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: compressed-tensors holds integers and small floats, not %s", module,
                          assay_precision_name(m->precision));
    }
}

assay_status assay_ct_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                          assay_dtype model_dtype, assay_err *err) {
    (void)model_dtype;
    ASSAY_TRY(assay_ct_check(module, m, err));
    return assay_precision_get_kind(m->precision) == ASSAY_KIND_INT ? put_int(w, module, m, err)
                                                                    : assay_ct_put_float(w, module, m, err);
}
