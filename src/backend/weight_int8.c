/* backend/weight_int8.c: codes packed for INT8: sixteen rows interleaved, as kern.h draws them, with scales
 * and zeros in the same order. */
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"

/* Scales and zeros of the rows that fill up the last block are zero. */
static assay_status own_zeroed(void **out, assay_weight *w, size_t n_bytes, assay_err *err) {
    ASSAY_TRY(backend_own(out, w, n_bytes, err));
    memset(*out, 0, n_bytes);
    w->n_bytes += n_bytes;
    return ASSAY_OK;
}

static void pack_int8(void *ctx, size_t block, int thread) {
    pack_job *j = ctx;
    assay_weight *w = j->w;
    const assay_irows *r = &w->irows;
    size_t block_bytes = r->group_pad * r->n_groups * 16 / (r->bits == 4 ? 2 : 1),
           rows = ASSAY_MIN((size_t)16, w->n_out - 16 * block);
    uint8_t *out = j->out + block * block_bytes;
    (void)thread;
    memset(out, 0, block_bytes);
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *c = j->m->codes + (16 * block + i) * w->k;
        for (size_t g = 0; g < r->n_groups; g++) {
            size_t from = (16 * block + i) * r->n_groups + g, to = (block * r->n_groups + g) * 16 + i,
                   n = ASSAY_MIN(r->group, w->k - g * r->group);
            j->scales[to] = j->m->scales[from];
            if (j->zeros) j->zeros[to] = j->m->zeros[from];
            if (j->real_zeros) j->real_zeros[to] = j->m->real_zeros[from];
            for (size_t x = 0; x < n; x++) {
                size_t at = g * r->group_pad + x;
                uint8_t code = c[w->columns ? w->columns[g * r->group + x] : g * r->group + x];
                if (r->bits == 8)
                    out[at / 4 * 64 + 4 * i + at % 4] = code;
                else
                    out[at / 8 * 64 + 4 * i + at % 4] |= (uint8_t)((code & 15) << (at % 8 >= 4 ? 4 : 0));
            }
        }
    }
}

assay_status backend_pack_int8(assay_backend *b, assay_weight *w, const assay_matrix *m, bool regular,
                               assay_err *err) {
    pack_job j = {.m = m, .w = w};
    assay_irows *r = &w->irows;
    size_t blocks = (w->n_out + 15) / 16, size, n_scales;
    if (assay_precision_get_kind(m->precision) != ASSAY_KIND_INT)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "no kernel computes %s with int8 activations, use bf16, f16 or f32 activations",
                          assay_precision_name(m->precision));
    if (!regular || m->act_group > 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          regular ? "int8 activations are scaled per token, not per %lld columns"
                                  : "int8 activations need groups of one size, %lld columns",
                          (long long)(regular ? m->act_group : m->group_size));
    r->bits = assay_precision_bits(m->precision) <= 4 ? 4 : 8;
    r->zero = 1 << (assay_precision_bits(m->precision) - 1);
    r->n_rows = w->n_out;
    r->group = ASSAY_MAX(backend_group_columns(m), (size_t)1);
    r->group_pad = backend_up(r->group, 8);
    r->n_groups = w->k ? (w->k + r->group - 1) / r->group : 1;
    if (r->group > 65536)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "int8 activations need groups of at most 65536 columns, this matrix has %zu",
                          r->group);
    if (!assay_mul_size(&size, blocks * (r->bits == 4 ? 8 : 16), r->group_pad * r->n_groups))
        return assay_nomem(err);
    n_scales = blocks * 16 * r->n_groups;
    ASSAY_TRY(own_zeroed((void **)&j.scales, w, n_scales * sizeof *j.scales, err));
    if (m->zeros) ASSAY_TRY(own_zeroed((void **)&j.zeros, w, n_scales, err));
    if (m->real_zeros) ASSAY_TRY(own_zeroed((void **)&j.real_zeros, w, n_scales * sizeof *j.real_zeros, err));
    ASSAY_TRY(backend_own((void **)&j.out, w, size, err));
    assay_parallel(b->n_threads, blocks, pack_int8, &j);
    r->data = j.out;
    r->scales = j.scales;
    r->zeros = j.zeros;
    r->real_zeros = j.real_zeros;
    w->threshold = (float)m->outlier_threshold;
    w->fixed_scale = m->input_scale;
    w->n_bytes += size;
    return ASSAY_OK;
}
