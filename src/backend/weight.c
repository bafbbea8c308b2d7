/* backend/weight.c: repacking an encoded matrix for the kernels: the choice of a form, and dense elements.
 * weight_codes.c packs codes for the float modes and FP8, weight_int8.c for INT8; blocks.c has ggml's blocks.
 *
 *   what                        float modes                              8-bit modes
 *   dense f32 f16 bf16          borrowed where the mode keeps their      none
 *                               values, else rounded once to the mode
 *   int2..4, nf4, fp4           Q4: blocks of 128 codes                  INT8, int2..4: nibbles, interleaved
 *   int5..8                     Q8: the codes                            INT8: bytes, 16 rows interleaved
 *   mxfp4, nvfp4                Q4 with coded scales                     none
 *   fp8_e4m3, fp8_e5m2          E4M3, E5M2: blocks of 64 codes           FP8: the same
 *   ggml's blocks               Q4 with a table, or S8: signed codes     none
 *     IQ1, IQ2                  borrowed: forms of their own             none
 *   groups that kernels do not  decoded to dense elements of the mode    INT8: any group size;
 *   walk (blocks across rows,                                            FP8: multiples of 32
 *   odd sizes), codes or scales
 *   that they do not hold
 *
 * Either way the products of the float modes are those of assay_matrix_decode_rows' values, rounded once to
 * the mode's type (kern.h).
 *
 * ORDER OF COLUMNS. With activation order by group (g_idx) columns are packed group by group, those of a
 * group in ascending order, and inputs are gathered in that order: sums run over it, as those of a dense
 * matrix whose columns are so arranged. It depends on the matrix alone. */
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"

#define SMALL_BYTES ((size_t)1 << 20) /* of a dense weight that may be copied to align it */

static assay_act_mode resolve(const assay_matrix *m, assay_act_mode mode) {
    if (mode != ASSAY_ACT_AUTO) return mode;
    if (m->act_bits == 8)
        return assay_precision_get_kind(m->precision) == ASSAY_KIND_FLOAT ? ASSAY_ACT_FP8 : ASSAY_ACT_INT8;
    return m->act_dtype == ASSAY_DTYPE_BF16  ? ASSAY_ACT_BF16
           : m->act_dtype == ASSAY_DTYPE_F16 ? ASSAY_ACT_F16
                                             : ASSAY_ACT_F32;
}

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
    j.to = w->mode == ASSAY_ACT_BF16  ? ASSAY_DTYPE_BF16
           : w->mode == ASSAY_ACT_F16 ? ASSAY_DTYPE_F16
                                      : ASSAY_DTYPE_F32;
    w->rows.form = w->mode == ASSAY_ACT_BF16  ? ASSAY_FORM_BF16
                   : w->mode == ASSAY_ACT_F16 ? ASSAY_FORM_F16
                                              : ASSAY_FORM_F32;
    w->rows.stride = backend_up(w->k * assay_dtype_size(j.to), 64);
    if (!assay_mul_size(&size, w->n_out, w->rows.stride)) return assay_nomem(err);
    ASSAY_TRY(backend_own((void **)&j.out, w, size, err));
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
    assay_form form = m->precision == ASSAY_PRECISION_F32   ? ASSAY_FORM_F32
                      : m->precision == ASSAY_PRECISION_F16 ? ASSAY_FORM_F16
                                                            : ASSAY_FORM_BF16;
    bool same = w->mode == ASSAY_ACT_F32 || (w->mode == ASSAY_ACT_BF16 && form == ASSAY_FORM_BF16) ||
                (w->mode == ASSAY_ACT_F16 && form == ASSAY_FORM_F16);
    if (m->owns_data) return false; /* it goes with the matrix */
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

/* --- the order of columns --- */

/* Arranges the columns by group (g_idx). *regular: every group has its columns' number, the last what is
 * left, so that groups lie side by side. */
static assay_status order_columns(assay_weight *w, const assay_matrix *m, bool *regular, assay_err *err) {
    size_t n_groups = (size_t)assay_matrix_n_groups(m), group = backend_group_columns(m), sum = 0;
    assay_status s = ASSAY_OK;
    *regular = true;
    if (!m->g_idx) return ASSAY_OK;
    size_t *at = assay_calloc(n_groups + 1, sizeof *at);
    if (!at) return assay_nomem(err);
    for (size_t c = 0; c < w->k; c++) {
        if (m->g_idx[c] < 0 || (size_t)m->g_idx[c] >= n_groups) {
            s = assay_fail(err, ASSAY_EINPUT, "column %zu belongs to group %d of %zu", c, (int)m->g_idx[c],
                           n_groups);
            goto out;
        }
        at[m->g_idx[c]]++;
    }
    for (size_t g = 0; g < n_groups; g++) {
        size_t n = at[g];
        if (n != ASSAY_MIN(group, w->k - ASSAY_MIN(g * group, w->k))) *regular = false;
        at[g] = sum;
        sum += n;
    }
    if (!*regular) goto out;
    ASSAY_GO(backend_own((void **)&w->columns, w, w->k * sizeof *w->columns, err));
    for (size_t c = 0; c < w->k; c++)
        w->columns[at[m->g_idx[c]]++] = (uint32_t)c;
out:
    assay_free(at);
    return s;
}

/* --- weights --- */

assay_status backend_own(void **out, assay_weight *w, size_t n_bytes, assay_err *err) {
    size_t i = 0;
    while (w->owned[i])
        i++;
    *out = w->owned[i] = assay_malloc_aligned(ASSAY_MAX(n_bytes, (size_t)1));
    return *out ? ASSAY_OK : assay_nomem(err);
}

size_t backend_group_columns(const assay_matrix *m) {
    size_t k = (size_t)m->cols, g = (size_t)m->group_size;
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_CODEBOOK) return g && k % g == 0 ? g : 0;
    return g == 0 || g > k ? k : g;
}

static assay_status fill(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err) {
    bool regular, packed = false, dense = assay_precision_get_kind(m->precision) == ASSAY_KIND_DENSE;
    if (dense || assay_precision_get_kind(m->precision) == ASSAY_KIND_BLOCK) {
        if (w->mode == ASSAY_ACT_INT8 || w->mode == ASSAY_ACT_FP8)
            return assay_fail(
                err, ASSAY_EUNSUPPORTED,
                "no kernel computes %s with 8-bit activations, use bf16, f16 or f32 activations",
                assay_precision_name(m->precision));
        if (!dense) return backend_take_blocks(b, w, m, err);
        return borrow_dense(w, m) ? ASSAY_OK : make_dense(b, w, m, err);
    }
    ASSAY_TRY(order_columns(w, m, &regular, err));
    if (w->mode == ASSAY_ACT_INT8) return backend_pack_int8(b, w, m, regular, err);
    if (w->mode == ASSAY_ACT_FP8) return backend_pack_fp8(b, w, m, err);
    if (regular) ASSAY_TRY(backend_pack_codes(&packed, b, w, m, err));
    if (packed) return ASSAY_OK;
    w->columns = NULL;
    return make_dense(b, w, m, err);
}

assay_status assay_weight_new(assay_weight **out, assay_backend *b, const assay_matrix *m,
                              assay_act_mode mode, assay_err *err) {
    assay_status s = ASSAY_OK;
    *out = NULL;
    assay_weight *w = assay_calloc(1, sizeof *w);
    if (!w) return assay_nomem(err);
    w->mode = resolve(m, mode);
    w->n_out = (size_t)m->rows;
    w->k = w->rows.k = (size_t)m->cols;
    w->rows.n_groups = 1;
    ASSAY_GO(fill(b, w, m, err));
    ASSAY_GO(backend_reserve(b, w, err));
    *out = w;
    w = NULL;
out:
    assay_weight_free(b, w);
    return s;
}

void assay_weight_free(assay_backend *b, assay_weight *w) {
    if (!w) return;
    assay_weight_free(b, w->down);
    assay_weight_free(b, w->up);
    for (size_t i = 0; i < ASSAY_LEN(w->owned); i++)
        assay_free_aligned(w->owned[i]);
    assay_free(w);
}

size_t assay_weight_n_bytes(const assay_weight *w) {
    return w->n_bytes;
}
assay_act_mode assay_weight_mode(const assay_weight *w) {
    return w->mode;
}
