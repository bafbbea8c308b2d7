/* gguf_matrix.c: the matrices of a GGUF checkpoint.
 *
 *   plain elements, plain order     borrowed from the mapping
 *   blocks, plain order             borrowed, kind BLOCK
 *   rows in another order           a copy with whole rows moved: no code changes
 *   transposed, joined              a copy; blocks cannot be turned and are decoded, to float32
 *   MXFP4, NVFP4                    FLOAT matrices: a code per byte
 *
 *   MXFP4 block of 32    e8m0 | 16 bytes: element j in the low half, j + 16 in the high half
 *   NVFP4 block of 64    4 x e4m3 | 4 x 8 bytes: 16 elements each, j in the low half, j + 8 in the high half;
 *                        X.scale, one float32, multiplies the whole: 1 / global_scale here */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/checkpoint.h"
#include "format/convention.h"
#include "format/gguf_impl.h"
#include "num/convert.h"
#include "precision/block.h"

bool assay_gguf_has(const assay_want *w) {
    return assay_checkpoint_is_gguf(w->checkpoint);
}

/* --- copies --- */

static size_t row_bytes(const assay_tensor *t) {
    assay_gguf_storage s;
    if (!t->block) return (size_t)t->dims[1] * assay_dtype_size(t->dtype);
    return assay_gguf_block_of(&s, t->block) ? assay_gguf_row_bytes(&s, t->dims[1]) : 0;
}

static assay_status alloc_data(void **out, assay_matrix *m, size_t n, assay_err *err) {
    *out = assay_malloc(n);
    if (!*out) return assay_nomem(err);
    m->data = *out;
    m->owns_data = true;
    return ASSAY_OK;
}

/* Rows as they are in the file, in the tensor's order. */
static assay_status copy_rows(assay_matrix *m, const assay_tensor *t, assay_err *err) {
    size_t n = row_bytes(t);
    void *to;
    ASSAY_TRY(alloc_data(&to, m, n * (size_t)m->rows, err));
    for (int64_t r = 0; r < m->rows; r++)
        memcpy((uint8_t *)to + (size_t)r * n, (const uint8_t *)t->data + (size_t)assay_tensor_file_row(t, r) * n, n);
    return ASSAY_OK;
}

/* Unpacks one block of either float type. */
static void unpack_block(uint8_t *codes, float *scales, const uint8_t *block, int n_scales, int size, assay_dtype type) {
    const uint8_t *q = block + n_scales;
    assay_to_f32(scales, block, type, (size_t)n_scales);
    for (int g = 0; g < n_scales; g++, codes += size, q += size / 2)
        for (int j = 0; j < size / 2; j++) {
            codes[j] = q[j] & 15;
            codes[j + size / 2] = q[j] >> 4;
        }
}

static assay_status read_floats(assay_matrix *m, const assay_want *w, const assay_tensor *t, assay_err *err) {
    bool nv = t->block == ASSAY_PRECISION_NVFP4;
    int n_scales = nv ? 4 : 1, size = nv ? 16 : 32;
    size_t n = row_bytes(t), block = (size_t)(n_scales + n_scales * size / 2);
    m->group_size = size;
    m->scale_dtype = nv ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_F8_E8M0;
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    for (int64_t r = 0; r < m->rows && !w->outline; r++) {
        const uint8_t *p = (const uint8_t *)t->data + (size_t)assay_tensor_file_row(t, r) * n;
        for (size_t b = 0; b < n / block; b++, p += block)
            unpack_block(m->codes + (size_t)r * (size_t)m->cols + b * (size_t)(n_scales * size),
                         m->scales + ((size_t)r * (size_t)m->cols / (size_t)size) + b * (size_t)n_scales, p, n_scales, size, m->scale_dtype);
    }
    return ASSAY_OK;
}

/* The scale of the whole, beside an NVFP4 matrix. */
static assay_status read_global(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *t = assay_want_find(w, ".weight_global_scale");
    float scale;
    m->global_scale = 1;
    if (!t) return ASSAY_OK;
    if (assay_tensor_n_elements(t) != 1 || !assay_tensor_read(&scale, t, 0, 1) || !isfinite(scale) || !(scale > 0))
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is no scale of a matrix", t->name);
    m->global_scale = 1 / scale;
    return ASSAY_OK;
}

/* --- decoded --- */

/* Row `row` of the file's matrix [dims[n - 2], dims[n - 1]] of a tensor of plain elements or blocks, as floats. `rows` counts rows of all
 * matrices of the tensor. */
static void decode_row(float *out, const assay_tensor *t, int64_t rows, int64_t cols, int64_t row) {
    assay_matrix m = {.rows = rows, .cols = cols, .data = t->data, .precision = (assay_precision)t->block};
    if (!t->block) m.precision = assay_precision_of_dtype(t->dtype);
    assay_matrix_decode_rows(out, &m, row, 1);
}

static bool is_decodable(const assay_tensor *t) {
    if (t->block) return assay_block_get((assay_precision)t->block) != NULL;
    return t->dtype == ASSAY_DTYPE_F32 || t->dtype == ASSAY_DTYPE_F16 || t->dtype == ASSAY_DTYPE_BF16;
}

/* A transposed matrix: [in, out] of the file's [out, in]. Blocks do not survive it. */
static assay_status turn(assay_matrix *m, const assay_tensor *t, assay_err *err) {
    void *to;
    size_t size = t->block ? 4 : assay_dtype_size(t->dtype);
    if (!is_decodable(t)) return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s: its type cannot be transposed", t->name);
    m->precision = t->block ? ASSAY_PRECISION_F32 : assay_precision_of_dtype(t->dtype);
    ASSAY_TRY(alloc_data(&to, m, size * (size_t)m->rows * (size_t)m->cols, err));
    float *row = assay_mallocn((size_t)m->rows, sizeof *row);
    if (!row) return assay_nomem(err);
    for (int64_t r = 0; r < m->cols; r++) {
        decode_row(row, t, m->cols, m->rows, r);
        for (int64_t c = 0; c < m->rows; c++)
            assay_from_f32((uint8_t *)to + (size_t)(c * m->cols + r) * size, t->block ? ASSAY_DTYPE_F32 : t->dtype, row + c, 1);
    }
    assay_free(row);
    return ASSAY_OK;
}

/* kv_b_proj [heads * (key + value), latent]: of each head the keys' rows, then the values'. The file has the keys transposed,
 * [heads, latent, key], so that they can be multiplied into the queries. */
static assay_status join(assay_matrix *m, const assay_want *w, const assay_tensor *t, assay_err *err) {
    const assay_gguf_joint *j = assay_checkpoint_joint(w->checkpoint, t->name);
    const assay_tensor *k = &j->keys, *v = &j->values;
    int64_t heads = k->dims[0], latent = k->dims[1], key = k->dims[2], value = v->dims[1];
    void *to;
    if (!is_decodable(k) || !is_decodable(v)) return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s: its type cannot be joined", t->name);
    assay_dtype type = !k->block && k->dtype == v->dtype ? k->dtype : ASSAY_DTYPE_F32;
    size_t size = assay_dtype_size(type);
    m->precision = assay_precision_of_dtype(type);
    ASSAY_TRY(alloc_data(&to, m, size * (size_t)m->rows * (size_t)m->cols, err));
    float *row = assay_mallocn((size_t)ASSAY_MAX(key, latent), sizeof *row);
    if (!row) return assay_nomem(err);
    for (int64_t h = 0; h < heads; h++) {
        uint8_t *head = (uint8_t *)to + (size_t)(h * (key + value) * latent) * size;
        for (int64_t r = 0; r < latent; r++) {
            decode_row(row, k, heads * latent, key, h * latent + r);
            for (int64_t c = 0; c < key; c++) assay_from_f32(head + (size_t)(c * latent + r) * size, type, row + c, 1);
        }
        for (int64_t r = 0; r < value; r++) {
            decode_row(row, v, heads * value, latent, h * value + r);
            assay_from_f32(head + (size_t)((key + r) * latent) * size, type, row, (size_t)latent);
        }
    }
    assay_free(row);
    return ASSAY_OK;
}

/* --- reading --- */

/* What it will be, with the file's bytes in the file's order. */
static assay_status outline(assay_matrix *m, const assay_tensor *t) {
    bool decoded = t->order == ASSAY_ORDER_TURNED || t->order == ASSAY_ORDER_JOINED;
    m->precision = t->block && !decoded ? (assay_precision)t->block : assay_precision_of_dtype(t->block ? ASSAY_DTYPE_F32 : t->dtype);
    m->data = t->data;
    return ASSAY_OK;
}

static assay_status read_plain(assay_matrix *m, const assay_tensor *t, assay_err *err) {
    if (!is_decodable(t))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s is of type %s and nothing says how that is to be read", t->name,
                          assay_dtype_name(t->dtype));
    m->precision = t->block ? (assay_precision)t->block : assay_precision_of_dtype(t->dtype);
    if (t->order != ASSAY_ORDER_PLAIN || (!t->block && (uintptr_t)t->data % assay_dtype_size(t->dtype) != 0)) return copy_rows(m, t, err);
    m->data = t->data;
    return ASSAY_OK;
}

assay_status assay_gguf_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *t;
    ASSAY_TRY(assay_want_get(&t, w, ".weight", err));
    if (t->n_dims != 2)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s has %d dimensions where 2 are expected", t->name, t->n_dims);
    *m = (assay_matrix){.rows = t->dims[0], .cols = t->dims[1], .act_bits = 16, .act_dtype = w->dense_act};
    ASSAY_TRY(assay_want_shape(w, m->rows, m->cols, err));
    if (w->outline && t->block != ASSAY_PRECISION_MXFP4 && t->block != ASSAY_PRECISION_NVFP4) return outline(m, t);
    if (t->order == ASSAY_ORDER_JOINED) return join(m, w, t, err);
    if (t->order == ASSAY_ORDER_TURNED) return turn(m, t, err);
    if (t->block != ASSAY_PRECISION_MXFP4 && t->block != ASSAY_PRECISION_NVFP4) return read_plain(m, t, err);
    m->precision = (assay_precision)t->block;
    ASSAY_TRY(read_floats(m, w, t, err));
    return m->precision == ASSAY_PRECISION_NVFP4 ? read_global(m, w, err) : ASSAY_OK;
}
