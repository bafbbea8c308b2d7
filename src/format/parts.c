/* parts.c: the tensors that a quantized matrix consists of, for all conventions: looking them up and holding
 * them against what is expected, scales of every type that some convention stores, and writing them.
 *
 * Scales are float32 in memory and are written only in a type that holds every one of them exactly: F32, F16,
 * BF16, F8_E4M3 (NVFP4), or one byte e of a power of two, 2^(e-127) (MXFP4: OCP's E8M0, stored as U8). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"
#include "num/convert.h"

/* On the stack: a lookup that could fail for memory would be taken for a tensor that is missing. */
const assay_tensor *assay_want_find(const assay_want *w, const char *suffix) {
    char name[512];
    int n = snprintf(name, sizeof name, "%s%s", w->module, suffix);
    return n < (int)sizeof name ? assay_checkpoint_find(w->checkpoint, name) : NULL;
}

assay_status assay_want_get(const assay_tensor **out, const assay_want *w, const char *suffix,
                            assay_err *err) {
    *out = assay_want_find(w, suffix);
    if (*out) return ASSAY_OK;
    return assay_fail(err, ASSAY_ENOTFOUND, "the checkpoint has no tensor %s%s", w->module, suffix);
}

assay_status assay_want_shape(const assay_want *w, int64_t rows, int64_t cols, assay_err *err) {
    if (rows > 0 && cols > 0 && (w->rows == 0 || rows == w->rows) && (w->cols == 0 || cols == w->cols))
        return ASSAY_OK;
    if (w->rows == 0 || w->cols == 0)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s.weight is %lld x %lld", w->module, (long long)rows,
                          (long long)cols);
    return assay_fail(err, ASSAY_EINPUT, "tensor %s.weight is %lld x %lld where %lld x %lld is expected",
                      w->module, (long long)rows, (long long)cols, (long long)w->rows, (long long)w->cols);
}

assay_status assay_want_tensor(const assay_tensor *t, assay_dtype dtype, int64_t n, assay_err *err) {
    if (t->dtype == dtype && (n < 0 || assay_tensor_n_elements(t) == n)) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT,
                      "tensor %s has %lld elements of type %s where %lld of type %s are expected", t->name,
                      (long long)assay_tensor_n_elements(t), assay_dtype_name(t->dtype), (long long)n,
                      assay_dtype_name(dtype));
}

/* --- reading --- */

/* Bytes without a float type of their own are exponents. */
static assay_dtype scale_type(assay_dtype t) {
    return t == ASSAY_DTYPE_U8 ? ASSAY_DTYPE_F8_E8M0 : t;
}

assay_status assay_want_scales(float *out, const assay_tensor *t, int64_t n, assay_err *err) {
    if (assay_tensor_n_elements(t) != n)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %lld scales where the matrix has %lld groups",
                          t->name, (long long)assay_tensor_n_elements(t), (long long)n);
    if (t->dtype == ASSAY_DTYPE_F64 || !assay_to_f32(out, t->data, scale_type(t->dtype), (size_t)n))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s is of type %s, which scales are not here",
                          t->name, assay_dtype_name(t->dtype));
    return ASSAY_OK;
}

assay_dtype assay_scale_dtype(const assay_tensor *t) {
    return t->dtype == ASSAY_DTYPE_F16 || t->dtype == ASSAY_DTYPE_BF16 ? t->dtype : ASSAY_DTYPE_F32;
}

assay_status assay_want_input_scale(float *out, const assay_want *w, const char *suffix, assay_err *err) {
    const assay_tensor *t;
    ASSAY_TRY(assay_want_get(&t, w, suffix, err));
    ASSAY_TRY(assay_want_scales(out, t, 1, err));
    if (isfinite(*out) && *out > 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "tensor %s holds %g, which is no scale", t->name, (double)*out);
}

assay_status assay_want_fp8_codes(assay_matrix *m, const assay_want *w, const assay_tensor *t, assay_err *err) {
    if (w->outline) return ASSAY_OK;
    int64_t at = assay_find_nonfinite(t->data, t->dtype, t->n_bytes);
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s holds NaN or infinity at row %lld, column %lld",
                          t->name, (long long)(at / m->cols), (long long)(at % m->cols));
    memcpy(m->codes, t->data, t->n_bytes);
    return ASSAY_OK;
}

assay_sharing assay_matrix_sharing(const assay_matrix *m) {
    if (m->row_block <= 1) return m->group_size > 0 ? ASSAY_SHARING_GROUP : ASSAY_SHARING_CHANNEL;
    if (m->group_size > 0) return ASSAY_SHARING_BLOCK;
    return m->row_block >= m->rows ? ASSAY_SHARING_TENSOR : ASSAY_SHARING_ROWS;
}

/* --- integers --- */

/* The original sorts the columns by group and cuts, so that only the last group can be short. */
assay_status assay_check_order(const assay_matrix *m, const char *name, assay_err *err) {
    int64_t groups = assay_matrix_n_groups(m), *count = assay_calloc((size_t)groups, sizeof *count);
    assay_status s = ASSAY_OK;
    if (!count) return assay_nomem(err);
    for (int64_t c = 0; c < m->cols && s == ASSAY_OK; c++) {
        int32_t g = m->g_idx[c];
        if (g < 0 || g >= groups)
            s = assay_fail(err, ASSAY_EINPUT, "%s has group %d for column %lld where there are %lld groups",
                           name, (int)g, (long long)c, (long long)groups);
        else if (++count[g] > m->group_size)
            s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s gives group %d more than its %lld columns", name,
                           (int)g, (long long)m->group_size);
    }
    assay_free(count);
    return s;
}

assay_status assay_want_order(assay_matrix *m, const assay_tensor *t, assay_err *err) {
    if (m->group_size == 0) return ASSAY_OK;
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I32, m->cols, err));
    m->g_idx = assay_malloc(t->n_bytes);
    if (!m->g_idx) return assay_nomem(err);
    memcpy(m->g_idx, t->data, t->n_bytes);
    bool trivial = true;
    for (int64_t c = 0; c < m->cols; c++) {
        if (m->g_idx[c] == -1) {
            trivial = true;
            break;
        }
        trivial = trivial && m->g_idx[c] == c / m->group_size;
    }
    if (!trivial) return assay_check_order(m, t->name, err);
    assay_free(m->g_idx);
    m->g_idx = NULL;
    return ASSAY_OK;
}

/* in [rows][cols] to out [cols][rows], by squares: rows that are a power of two apart push each other out of the cache. */
static void transpose(float *out, const float *in, int64_t rows, int64_t cols) {
    enum { SIDE = 16 };
    for (int64_t r0 = 0; r0 < rows; r0 += SIDE)
        for (int64_t c0 = 0; c0 < cols; c0 += SIDE)
            for (int64_t r = r0; r < ASSAY_MIN(r0 + SIDE, rows); r++)
                for (int64_t c = c0; c < ASSAY_MIN(c0 + SIDE, cols); c++) out[c * rows + r] = in[r * cols + c];
}

assay_status assay_want_scales_across(assay_matrix *m, const assay_tensor *t, assay_err *err) {
    if (t->dtype != ASSAY_DTYPE_F32 && t->dtype != ASSAY_DTYPE_F16 && t->dtype != ASSAY_DTYPE_BF16)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s is of type %s; scales of integers are F32, F16 or BF16",
                          t->name, assay_dtype_name(t->dtype));
    float *across = assay_mallocn((size_t)m->n_scales, sizeof *across);
    if (!across) return assay_nomem(err);
    assay_status s = assay_want_scales(across, t, m->n_scales, err);
    if (s == ASSAY_OK) transpose(m->scales, across, assay_matrix_n_groups(m), m->rows);
    assay_free(across);
    return s;
}

void assay_matrix_drop_plain_zeros(assay_matrix *m) {
    uint8_t middle = (uint8_t)(1 << (assay_precision_bits(m->precision) - 1));
    for (int64_t i = 0; i < m->n_scales; i++)
        if (m->zeros[i] != middle) return;
    assay_free(m->zeros);
    m->zeros = NULL;
}

/* --- writing --- */

assay_status assay_put_part(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype dtype,
                            int n_dims, const int64_t *dims, const void *data, assay_err *err) {
    assay_str name = {0};
    assay_str_put(&name, module);
    assay_str_put(&name, suffix);
    assay_status s = assay_str_status(&name, err);
    if (s == ASSAY_OK) s = assay_ckpt_writer_add(w, name.s, dtype, n_dims, dims, data, err);
    assay_str_free(&name);
    return s;
}

/* n floats narrowed to type t; -1, or the index of the first that changes. out NULL: not wanted. */
static int64_t narrow(void *out, assay_dtype t, const float *v, int64_t n) {
    enum { STEP = 256 };
    size_t size = assay_dtype_size(t);
    for (int64_t at = 0; at < n; at += STEP) {
        float back[STEP];
        uint8_t room[STEP * sizeof(double)];
        int64_t k = ASSAY_MIN(STEP, n - at);
        void *to = out ? (uint8_t *)out + (size_t)at * size : room;
        bool same = true;
        if (!assay_from_f32(to, scale_type(t), v + at, (size_t)k)) return at;
        assay_to_f32(back, to, scale_type(t), (size_t)k);
        for (int64_t i = 0; i < k; i++) same &= back[i] == v[at + i];
        if (same) continue;
        for (int64_t i = 0; i < k; i++)
            if (back[i] != v[at + i]) return at + i;
    }
    return -1;
}

assay_status assay_put_floats(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype t,
                              int n_dims, const int64_t *dims, const float *values, const char *what,
                              assay_err *err) {
    int64_t n = 1;
    for (int i = 0; i < n_dims; i++)
        n *= dims[i];
    if (assay_ckpt_writer_is_planning(w)) return assay_put_part(w, module, suffix, t, n_dims, dims, NULL, err);
    void *out = assay_mallocn((size_t)n, assay_dtype_size(t));
    if (!out) return assay_nomem(err);
    int64_t at = narrow(out, t, values, n);
    assay_status s;
    if (at < 0)
        s = assay_put_part(w, module, suffix, t, n_dims, dims, out, err);
    else if (t == ASSAY_DTYPE_U8)
        s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: the %s %.9g (number %lld) is not a power of two", module,
                       what, (double)values[at], (long long)at);
    else
        s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: the %s %.9g (number %lld) is not a value of %s", module,
                       what, (double)values[at], (long long)at, assay_dtype_name(t));
    assay_free(out);
    return s;
}

assay_status assay_put_scalar(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype t,
                              float value, assay_err *err) {
    char room[8];
    if (narrow(room, t, &value, 1) >= 0) t = ASSAY_DTYPE_F32;
    return assay_put_floats(w, module, suffix, t, 1, (int64_t[]){1}, &value, "scale", err);
}

int8_t *assay_signed_codes(const uint8_t *codes, int64_t n, int bits) {
    int8_t *out = assay_malloc((size_t)n), half = (int8_t)(1 << (bits - 1) & 127);
    for (int64_t i = 0; out && i < n; i++)
        out[i] = bits == 8 ? (int8_t)(codes[i] ^ 0x80) : (int8_t)((int8_t)codes[i] - half);
    return out;
}

assay_status assay_check_plain_int(const char *module, const assay_matrix *m, const char *convention, assay_err *err) {
    if (assay_precision_get_kind(m->precision) != ASSAY_KIND_INT)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s: %s holds integers", module, assay_precision_name(m->precision), convention);
    if (m->real_zeros) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has real zero points: %s has whole ones", module, convention);
    if (m->act_bits == 8) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has 8-bit activations: %s has 16-bit ones", module, convention);
    int64_t at = narrow(NULL, ASSAY_DTYPE_F16, m->scales, m->n_scales);
    if (at < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has the scale %.9g, which is no float16: %s stores scales so", module,
                      (double)m->scales[at], convention);
}

assay_status assay_put_scales_across(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    int64_t dims[2] = {assay_matrix_n_groups(m), m->rows};
    if (assay_ckpt_writer_is_planning(w)) return assay_put_part(w, module, ".scales", ASSAY_DTYPE_F16, 2, dims, NULL, err);
    float *across = assay_mallocn((size_t)m->n_scales, sizeof *across);
    if (!across) return assay_nomem(err);
    transpose(across, m->scales, dims[1], dims[0]);
    assay_status s = assay_put_floats(w, module, ".scales", ASSAY_DTYPE_F16, 2, dims, across, "scale", err);
    assay_free(across);
    return s;
}
