/* backend/weight.c: repacking an encoded matrix for the kernels.
 *
 *   what                        float modes                              INT8 mode
 *   dense f32 f16 bf16          borrowed where the mode keeps their      not supported
 *                               values, else rounded once to the mode
 *   int2..4, nf4, fp4           Q4: blocks of 128 codes                  int2..4: nibbles, interleaved
 *   int5..8                     Q8: the codes                            bytes, 16 rows interleaved
 *   groups that kernels do not  decoded to dense elements of the mode    as above: any group size
 *   walk (blocks across rows,
 *   odd sizes)
 *
 * Either way the products are those of assay_matrix_decode_rows' values, rounded once to the mode's type
 * (kern.h). */
#include <math.h>
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"

#define SMALL_BYTES ((size_t)1 << 20) /* of a dense weight that may be copied to align it */

static assay_act_mode resolve(const assay_matrix *m, assay_act_mode mode) {
    if (mode != ASSAY_ACT_AUTO) return mode;
    if (m->act_bits == 8) return ASSAY_ACT_INT8;
    return m->act_dtype == ASSAY_DTYPE_BF16 ? ASSAY_ACT_BF16
         : m->act_dtype == ASSAY_DTYPE_F16  ? ASSAY_ACT_F16
                                            : ASSAY_ACT_F32;
}

typedef struct pack_job {
    const assay_matrix *m;
    assay_weight *w;
    uint8_t *out;
    float *rows;    /* [threads][cols] */
    assay_dtype to; /* dense elements */
} pack_job;

/* --- dense --- */

static void pack_dense(void *ctx, size_t row, int thread) {
    pack_job *j = ctx;
    float *f = j->rows + (size_t)thread * (size_t)j->m->cols;
    assay_matrix_decode_rows(f, j->m, (int64_t)row, 1);
    assay_from_f32(j->out + row * j->w->rows.stride, j->to, f, (size_t)j->m->cols);
}

/* Decodes or rounds m to dense elements of the mode. */
static assay_status make_dense(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err) {
    pack_job j = {.m = m, .w = w};
    size_t size;
    j.to = w->mode == ASSAY_ACT_BF16 ? ASSAY_DTYPE_BF16
         : w->mode == ASSAY_ACT_F16  ? ASSAY_DTYPE_F16
                                     : ASSAY_DTYPE_F32;
    w->rows.form = w->mode == ASSAY_ACT_BF16 ? ASSAY_FORM_BF16
                 : w->mode == ASSAY_ACT_F16  ? ASSAY_FORM_F16
                                             : ASSAY_FORM_F32;
    w->rows.stride = backend_up(w->k * assay_dtype_size(j.to), 64);
    if (!assay_mul_size(&size, w->n_out, w->rows.stride) ||
        !(j.out = w->owned[0] = assay_malloc_aligned(size)))
        return assay_nomem(err);
    j.rows = assay_mallocn((size_t)b->n_threads * ASSAY_MAX(w->k, (size_t)1), sizeof *j.rows);
    if (!j.rows) return assay_nomem(err);
    assay_parallel(b->n_threads, w->n_out, pack_dense, &j);
    assay_free(j.rows);
    w->rows.data = j.out;
    w->n_bytes = size;
    return ASSAY_OK;
}

/* Borrows elements whose values the mode keeps, unless a file put them at an address that is no multiple of
 * their size. Small weights that the many-row kernels could read in place are borrowed at multiples of 64
 * only: else every call would copy them into tiles, which a batch of a small model feels and a large one's
 * memory does not allow to avoid. */
static bool borrow_dense(assay_weight *w, const assay_matrix *m) {
    assay_form form = m->precision == ASSAY_PRECISION_F32 ? ASSAY_FORM_F32
                    : m->precision == ASSAY_PRECISION_F16 ? ASSAY_FORM_F16
                                                          : ASSAY_FORM_BF16;
    bool same = w->mode == ASSAY_ACT_F32 || (w->mode == ASSAY_ACT_BF16 && form == ASSAY_FORM_BF16) ||
                (w->mode == ASSAY_ACT_F16 && form == ASSAY_FORM_F16);
    if (!same || (uintptr_t)m->data % (form == ASSAY_FORM_F32 ? 4 : 2) != 0) return false;
    size_t stride = w->k * (form == ASSAY_FORM_F32 ? 4 : 2);
    bool in_place = form == (w->mode == ASSAY_ACT_BF16 ? ASSAY_FORM_BF16 : ASSAY_FORM_F32);
    if (in_place && w->n_out * stride <= SMALL_BYTES && ((uintptr_t)m->data | stride) % 64 != 0) return false;
    w->rows.form = form;
    w->rows.data = m->data;
    w->rows.stride = stride;
    w->n_bytes = w->n_out * w->rows.stride;
    return true;
}

/* --- codes for the float modes --- */

static void pack_q4(void *ctx, size_t row, int thread) {
    pack_job *j = ctx;
    const uint8_t *c = j->m->codes + row * j->w->k;
    uint8_t *out = j->out + row * j->w->rows.stride;
    (void)thread;
    memset(out, 0, j->w->rows.stride);
    for (size_t i = 0; i < j->w->k; i++) {
        size_t in = i % ASSAY_KERN_BLOCK, word = in % 32, nibble = in / 32;
        out[i / ASSAY_KERN_BLOCK * 64 + 2 * word + nibble / 2] |= (uint8_t)((c[i] & 15) << (nibble % 2 * 4));
    }
}
static void pack_q8(void *ctx, size_t row, int thread) {
    pack_job *j = ctx;
    (void)thread;
    memset(j->out + row * j->w->rows.stride, 0, j->w->rows.stride);
    memcpy(j->out + row * j->w->rows.stride, j->m->codes + row * j->w->k, j->w->k);
}

/* Columns per scale, or 0 when groups do not lie within rows. */
static size_t columns_per_group(const assay_matrix *m) {
    size_t k = (size_t)m->cols, g = (size_t)m->group_size;
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_CODEBOOK) return g && k % g == 0 ? g : 0;
    return g == 0 || g > k ? k : g;
}
static bool walkable(assay_form form, size_t group, size_t k) {
    if (group == 0) return false;
    if (group >= k) return true;
    return form == ASSAY_FORM_Q8 ? group % 32 == 0
                                 : group == 32 || group == 64 || group % ASSAY_KERN_BLOCK == 0;
}

static assay_status make_codes(assay_backend *b, assay_weight *w, const assay_matrix *m, size_t group,
                               assay_err *err) {
    pack_job j = {.m = m, .w = w};
    assay_rows *r = &w->rows;
    size_t size, n_scales;
    const float *table = assay_precision_table(m->precision);
    float zero = (float)(1 << (assay_precision_bits(m->precision) - 1));
    r->stride = r->form == ASSAY_FORM_Q4 ? backend_up(w->k, ASSAY_KERN_BLOCK) / 2 : backend_up(w->k, 64);
    r->group = group;
    r->n_groups = w->k ? (w->k + group - 1) / group : 1;
    n_scales = w->n_out * r->n_groups;
    if (!assay_mul_size(&size, w->n_out, r->stride) || !(j.out = w->owned[0] = assay_malloc_aligned(size)))
        return assay_nomem(err);
    if (!(w->owned[1] = assay_malloc_aligned(n_scales * sizeof(float)))) return assay_nomem(err);
    memcpy(w->owned[1], m->scales, n_scales * sizeof(float));
    if (m->zeros) {
        if (!(w->owned[2] = assay_malloc_aligned(n_scales))) return assay_nomem(err);
        memcpy(w->owned[2], m->zeros, n_scales);
    }
    assay_parallel(b->n_threads, w->n_out, r->form == ASSAY_FORM_Q4 ? pack_q4 : pack_q8, &j);
    r->data = j.out;
    r->scales = w->owned[1];
    r->zeros = w->owned[2];
    r->zero = zero;
    for (int i = 0; i < 16; i++) r->values[i] = table ? table[i] : (float)i - (m->zeros ? 0 : zero);
    r->round_f16 = w->mode == ASSAY_ACT_F16;
    w->n_bytes = size + n_scales * (sizeof(float) + (m->zeros ? 1 : 0));
    return ASSAY_OK;
}

/* --- codes for the int8 mode --- */

static void pack_int8(void *ctx, size_t block, int thread) {
    pack_job *j = ctx;
    assay_weight *w = j->w;
    const assay_irows *r = &w->irows;
    size_t block_bytes = r->group_pad * r->n_groups * 16 / (r->bits == 4 ? 2 : 1),
           rows = ASSAY_MIN((size_t)16, w->n_out - 16 * block);
    uint8_t *out = j->out + block * block_bytes, *zeros = w->owned[2];
    float *scales = w->owned[1];
    (void)thread;
    memset(out, 0, block_bytes);
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *c = j->m->codes + (16 * block + i) * w->k;
        for (size_t g = 0; g < r->n_groups; g++) {
            size_t from = (16 * block + i) * r->n_groups + g, to = (block * r->n_groups + g) * 16 + i,
                   n = ASSAY_MIN(r->group, w->k - g * r->group);
            scales[to] = j->m->scales[from];
            if (zeros) zeros[to] = j->m->zeros[from];
            for (size_t x = 0; x < n; x++) {
                size_t at = g * r->group_pad + x;
                uint8_t code = c[g * r->group + x];
                if (r->bits == 8)
                    out[at / 4 * 64 + 4 * i + at % 4] = code;
                else
                    out[at / 8 * 64 + 4 * i + at % 4] |= (uint8_t)((code & 15) << (at % 8 >= 4 ? 4 : 0));
            }
        }
    }
}

static assay_status make_int8(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err) {
    pack_job j = {.m = m, .w = w};
    assay_irows *r = &w->irows;
    size_t blocks = (w->n_out + 15) / 16, size, n_scales;
    if (assay_precision_get_kind(m->precision) != ASSAY_KIND_INT)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "no kernel computes %s with int8 activations, use bf16, f16 or f32 activations",
                          assay_precision_name(m->precision));
    r->bits = assay_precision_bits(m->precision) <= 4 ? 4 : 8;
    r->zero = 1 << (assay_precision_bits(m->precision) - 1);
    r->n_rows = w->n_out;
    r->group = ASSAY_MAX(columns_per_group(m), (size_t)1);
    r->group_pad = backend_up(r->group, 8);
    r->n_groups = w->k ? (w->k + r->group - 1) / r->group : 1;
    if (r->group > 65536)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "int8 activations need groups of at most 65536 columns, this matrix has %zu",
                          r->group);
    if (!assay_mul_size(&size, blocks * (r->bits == 4 ? 8 : 16), r->group_pad * r->n_groups))
        return assay_nomem(err);
    n_scales = blocks * 16 * r->n_groups;
    if (!(j.out = w->owned[0] = assay_malloc_aligned(size))) return assay_nomem(err);
    if (!(w->owned[1] = assay_malloc_aligned(n_scales * sizeof(float)))) return assay_nomem(err);
    memset(w->owned[1], 0, n_scales * sizeof(float));
    if (m->zeros) {
        if (!(w->owned[2] = assay_malloc_aligned(n_scales))) return assay_nomem(err);
        memset(w->owned[2], 0, n_scales);
    }
    assay_parallel(b->n_threads, blocks, pack_int8, &j);
    r->data = j.out;
    r->scales = w->owned[1];
    r->zeros = w->owned[2];
    w->threshold = (float)m->outlier_threshold;
    w->n_bytes = size + n_scales * (sizeof(float) + (m->zeros ? 1 : 0));
    return ASSAY_OK;
}

assay_status assay_weight_new(assay_weight **out, assay_backend *b, const assay_matrix *m,
                              assay_act_mode mode, assay_err *err) {
    assay_status s = ASSAY_OK;
    assay_precision_kind kind = assay_precision_get_kind(m->precision);
    *out = NULL;
    assay_weight *w = assay_calloc(1, sizeof *w);
    if (!w) return assay_nomem(err);
    w->mode = resolve(m, mode);
    w->n_out = (size_t)m->rows;
    w->k = w->rows.k = (size_t)m->cols;
    w->rows.n_groups = 1;
    if (w->mode == ASSAY_ACT_INT8) {
        ASSAY_GO(make_int8(b, w, m, err));
    } else if (kind == ASSAY_KIND_DENSE) {
        if (!borrow_dense(w, m)) ASSAY_GO(make_dense(b, w, m, err));
    } else {
        w->rows.form = kind == ASSAY_KIND_CODEBOOK || assay_precision_bits(m->precision) <= 4 ? ASSAY_FORM_Q4
                                                                                              : ASSAY_FORM_Q8;
        size_t group = columns_per_group(m);
        if (walkable(w->rows.form, group, w->k))
            ASSAY_GO(make_codes(b, w, m, group, err));
        else
            ASSAY_GO(make_dense(b, w, m, err));
    }
    ASSAY_GO(backend_reserve(b, w, err));
    *out = w;
    w = NULL;
out:
    assay_weight_free(b, w);
    return s;
}

void assay_weight_free(assay_backend *b, assay_weight *w) {
    (void)b;
    if (!w) return;
    for (size_t i = 0; i < ASSAY_LEN(w->owned); i++) assay_free_aligned(w->owned[i]);
    assay_free(w);
}

size_t assay_weight_n_bytes(const assay_weight *w) { return w->n_bytes; }
assay_act_mode assay_weight_mode(const assay_weight *w) { return w->mode; }
