/* kern/body/dot_bf16.h: products of the bf16 class: the same shapes as dot_f32.h on 32 columns a step. */
#ifndef ASSAY_KERN_DOT_BF16_H
#define ASSAY_KERN_DOT_BF16_H

#include "kern/body/dot.h"

VEC_FN void tile_bf16(float *y, size_t ldy, const uint16_t *x, size_t ldx, const char *w, size_t stride,
                      size_t k, int mr, int nr) {
    v16 acc[TILE_M][GEMV_N];
    VEC_UNROLL for (int i = 0; i < mr; i++) VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] = v16_zero();
    size_t c = 0;
    for (; c + ASSAY_KERN_CHUNK <= k; c += ASSAY_KERN_CHUNK) {
        vb wv[GEMV_N];
        VEC_UNROLL for (int j = 0; j < nr; j++) {
            wv[j] = vb_load(w + (size_t)j * stride + 2 * c);
            if (mr == 1) VEC_PREFETCH(w + (size_t)(j + nr) * stride + 2 * c);
        }
        VEC_UNROLL for (int i = 0; i < mr; i++) {
            vb xv = vb_load(x + (size_t)i * ldx + c);
            VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] = vb_dot(acc[i][j], xv, wv[j]);
        }
    }
    if (c < k) {
        uint16_t tail[GEMV_N][ASSAY_KERN_CHUNK];
        memset(tail, 0, sizeof tail);
        for (int j = 0; j < nr; j++) memcpy(tail[j], w + (size_t)j * stride + 2 * c, 2 * (k - c));
        VEC_UNROLL for (int i = 0; i < mr; i++) {
            vb xv = vb_load(x + (size_t)i * ldx + c);
            VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] = vb_dot(acc[i][j], xv, vb_load(tail[j]));
        }
    }
    VEC_UNROLL for (int i = 0; i < mr; i++) {
        if (nr == 4)
            v16_sum4(y + (size_t)i * ldy, acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
        else
            VEC_UNROLL for (int j = 0; j < nr; j++) y[(size_t)i * ldy + (size_t)j] = v16_sum(acc[i][j]);
    }
}

static void gemm_bf16(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint16_t *w, size_t ldw,
                      size_t k, size_t m, size_t n) {
    for (size_t i = 0; i < m; i += TILE_M) {
        size_t mc = ASSAY_MIN((size_t)TILE_M, m - i), j = 0;
        for (; j + TILE_N <= n; j += TILE_N) {
#define CALL(M)                                                                                              \
    tile_bf16(y + i * ldy + j, ldy, x + i * ldx, ldx, (const char *)(w + j * ldw), 2 * ldw, k, M, TILE_N)
            TILE_CASES(CALL)
#undef CALL
        }
        for (; j < n; j++) {
#define CALL(M)                                                                                              \
    tile_bf16(y + i * ldy + j, ldy, x + i * ldx, ldx, (const char *)(w + j * ldw), 2 * ldw, k, M, 1)
            TILE_CASES(CALL)
#undef CALL
        }
    }
}

static void gemv_bf16_bf16(float *y, const assay_rows *w, size_t row, size_t n, const uint16_t *x) {
    const char *p = (const char *)w->data + row * w->stride;
    size_t j = 0;
    for (; j + GEMV_N <= n; j += GEMV_N)
        tile_bf16(y + j, 0, x, 0, p + j * w->stride, w->stride, w->k, 1, GEMV_N);
    for (; j < n; j++) tile_bf16(y + j, 0, x, 0, p + j * w->stride, w->stride, w->k, 1, 1);
}

/* As q4_block_f32. */
VEC_FN vb_table q4_table_bf16(const assay_rows *w, const dot_scales *s, size_t row, size_t g, int scales) {
    if (scales == SCALES_CODED) return vb_table_at(w->tables->bf16[w->scale_codes[row * w->n_groups + g]]);
    return vb_table_of(q4_scaled(w, s, row, g, scales));
}
/* Of groups of 16: the two of a chunk. A row may end with the first; x is zero in the other half then. */
VEC_FN vb_table2 q4_table2_bf16(const assay_rows *w, const dot_scales *s, size_t row, size_t g, int scales) {
    size_t next = ASSAY_MIN(g + 1, w->n_groups - 1);
    if (scales != SCALES_CODED)
        return vb_table2_of(q4_scaled(w, s, row, g, scales), q4_scaled(w, s, row, next, scales));
    const uint8_t *code = w->scale_codes + row * w->n_groups;
    return vb_table2_at(w->tables->bf16[code[g]], w->tables->bf16[code[next]]);
}
VEC_FN void q4_block_bf16(v16 *acc, vb_table *tab, const assay_rows *w, const dot_scales *s, size_t row, size_t b,
                          int nr, int gpb, int scales, size_t blocks, int nq, const uint16_t *x, uint16_t *out,
                          size_t ld) {
    vb_block d[GEMV_N] = {0};
    VEC_UNROLL for (int r = 0; r < nr; r++) {
        const char *p = (const char *)w->data + (row + (size_t)r) * w->stride + 64 * b;
        d[r] = vb_block_load(p);
        VEC_PREFETCH(p + (size_t)nr * w->stride);
        q4_prefetch(w, row + (size_t)(r + nr), b * (size_t)gpb, gpb, scales);
        if (gpb == 1 && b % blocks == 0) tab[r] = q4_table_bf16(w, &s[r], row + (size_t)r, b / blocks, scales);
    }
    VEC_UNROLL for (int q = 0; q < 4; q++) {
        if (q >= nq) break;
        if (gpb == 4 || (gpb == 2 && q % 2 == 0))
            VEC_UNROLL for (int r = 0; r < nr; r++) tab[r] =
                q4_table_bf16(w, &s[r], row + (size_t)r, b * (size_t)gpb + (size_t)(q * gpb / 4), scales);
        size_t c = ASSAY_KERN_BLOCK * b + 32 * (size_t)q;
        vb xv = out ? vb_zero() : vb_load(x + c);
        VEC_UNROLL for (int r = 0; r < nr; r++) {
            size_t g = 8 * b + 2 * (size_t)q;
            vb v = gpb == 8 ? vb_q4_two(d[r], q, q4_table2_bf16(w, &s[r], row + (size_t)r, g, scales))
                            : vb_q4(d[r], q, tab[r]);
            if (out)
                vb_store(out + (size_t)r * ld + c, v);
            else
                acc[r] = vb_dot(acc[r], xv, v);
        }
    }
}
VEC_FN void q4_rows_bf16(float *y, const assay_rows *w, size_t row, int nr, int gpb, int scales,
                         const uint16_t *x, uint16_t *out, size_t ld) {
    v16 acc[GEMV_N];
    vb_table tab[GEMV_N];
    size_t blocks = gpb > 1 ? 1 : w->n_groups == 1 ? SIZE_MAX : w->group / ASSAY_KERN_BLOCK;
    size_t full = w->k / ASSAY_KERN_BLOCK, b = 0;
    VEC_UNROLL for (int r = 0; r < nr; r++) {
        acc[r] = v16_zero();
        tab[r] = vb_table_of(acc[r]);
    }
    dot_scales s[GEMV_N];
    scales_begin(s, w, row, nr);
    for (; b < full; b++) {
        if (gpb >= 4 && w->small_scales && b % 2 == 0) scales_make(s, w, row, nr, b * ASSAY_KERN_BLOCK);
        q4_block_bf16(acc, tab, w, s, row, b, nr, gpb, scales, blocks, 4, x, out, ld);
    }
    size_t left = w->k - full * ASSAY_KERN_BLOCK;
    if (left) q4_block_bf16(acc, tab, w, s, row, b, nr, gpb, scales, blocks, (int)((left + 31) / 32), x, out, ld);
    if (!out) VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(acc[r]);
}

/* As q8_chunk_f32. */
VEC_FN v16 q8_chunk_bf16(v16 acc, const assay_rows *w, const uint8_t *p, int bytes, v16 zero, const v16 scale[2],
                         const uint16_t *x, uint16_t *out) {
    vb v = vb_q8(p, bytes, zero, scale);
    (void)w;
    if (!out) return vb_dot(acc, vb_load(x), v);
    vb_store(out, v);
    return acc;
}
/* `exact`, a constant: the codes' own values, unscaled (`out` alone). */
VEC_FN void f8_rows(float *y, const assay_rows *w, size_t row, int nr, assay_form form, bool exact,
                    const uint16_t *x, uint16_t *out, size_t ld) {
    v16 acc[GEMV_N], scale[GEMV_N];
    vb_f8 table = vb_f8_of(form);
    size_t left = 0, g = 0;
    VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = scale[r] = v16_zero();
    for (size_t c = 0; c < w->k; c += ASSAY_KERN_BLOCK8) {
        vb v[GEMV_N][2];
        const uint8_t *p = (const uint8_t *)w->data + row * w->stride + c;
        if (exact) VEC_UNROLL for (int r = 0; r < nr; r++) vb_f8_two(v[r], p + (size_t)r * w->stride, &table);
        VEC_UNROLL for (int r = 0; r < nr; r++) VEC_PREFETCH(p + (size_t)(r + nr) * w->stride);
        VEC_UNROLL for (int q = 0; q < 2; q++) {
            size_t at = c + ASSAY_KERN_CHUNK * (size_t)q;
            if (at >= w->k) break;
            if (!exact && left == 0) {
                VEC_UNROLL for (int r = 0; r < nr; r++) scale[r] = f8_scale(w, row + (size_t)r, g, form);
                left = group_columns(w);
                g++;
            }
            left -= ASSAY_KERN_CHUNK;
            vb xv = out ? vb_zero() : vb_load(x + at);
            VEC_UNROLL for (int r = 0; r < nr; r++) {
                if (!exact) v[r][q] = vb_f8_scaled(p + (size_t)r * w->stride, q, form, scale[r]);
                if (out)
                    vb_store(out + (size_t)r * ld + at, v[r][q]);
                else
                    acc[r] = vb_dot(acc[r], xv, v[r][q]);
            }
        }
    }
    if (!out) VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(acc[r]);
}
VEC_FN void f8_rows_bf16(float *y, const assay_rows *w, size_t row, int nr, assay_form form,
                         const uint16_t *x, uint16_t *out, size_t ld) {
    if (out && !w->scales)
        f8_rows(y, w, row, nr, form, true, x, out, ld);
    else
        f8_rows(y, w, row, nr, form, false, x, out, ld);
}

#define DOT_CLASS bf16
#define DOT_ELEM uint16_t
#include "kern/body/dot_packed.h"

/* Dense float rows to bf16. */
VEC_FN void unpack_dense_bf16(uint16_t *out, size_t ld, const assay_rows *w, size_t row, size_t n,
                              assay_form form) {
    for (size_t j = 0; j < n; j++) {
        const char *p = (const char *)w->data + (row + j) * w->stride;
        size_t c = 0;
        for (; c + ASSAY_KERN_CHUNK <= w->k; c += ASSAY_KERN_CHUNK)
            vb_store(out + j * ld + c, vb_of_f32(dense_f32(p, form, c), dense_f32(p, form, c + 16)));
        if (c < w->k) {
            float tail[ASSAY_KERN_CHUNK] = {0};
            memcpy(tail, p + c * form_size(form), (w->k - c) * form_size(form));
            vb_store(out + j * ld + c, vb_of_f32(dense_f32((const char *)tail, form, 0),
                                                 dense_f32((const char *)tail, form, 16)));
        }
    }
}
static void unpack_bf16_f32(uint16_t *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    unpack_dense_bf16(out, ld, w, row, n, ASSAY_FORM_F32);
}
static void unpack_bf16_f16(uint16_t *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    unpack_dense_bf16(out, ld, w, row, n, ASSAY_FORM_F16);
}

/* bf16 itself: copied, so that a tile is aligned and padded. */
static void unpack_bf16_bf16(uint16_t *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    for (size_t j = 0; j < n; j++) {
        memcpy(out + j * ld, (const char *)w->data + (row + j) * w->stride, 2 * w->k);
        zero_tail_bf16(out + j * ld, w->k);
    }
}

#include "kern/body/dot_scaled.h"

static inline void set_dot_bf16(assay_kern *k) {
    k->gemm_scaled = gemm_scaled;
    k->gemv_scaled[ASSAY_FORM_E4M3] = gemv_scaled_e4m3;
    k->gemv_scaled[ASSAY_FORM_E5M2] = gemv_scaled_e5m2;
    k->quant_f8 = quant_f8;
    k->gemm_bf16 = gemm_bf16;
    k->gemv_bf16[ASSAY_FORM_BF16] = gemv_bf16_bf16;
    k->gemv_bf16[ASSAY_FORM_Q4] = gemv_bf16_q4;
    k->gemv_bf16[ASSAY_FORM_Q8] = k->gemv_bf16[ASSAY_FORM_S8] = gemv_bf16_q8;
    k->gemv_bf16[ASSAY_FORM_E4M3] = gemv_bf16_e4m3;
    k->gemv_bf16[ASSAY_FORM_E5M2] = gemv_bf16_e5m2;
    set_grid_bf16(k);
    k->unpack_bf16[ASSAY_FORM_F32] = unpack_bf16_f32;
    k->unpack_bf16[ASSAY_FORM_F16] = unpack_bf16_f16;
    k->unpack_bf16[ASSAY_FORM_BF16] = unpack_bf16_bf16;
    k->unpack_bf16[ASSAY_FORM_Q4] = unpack_bf16_q4;
    k->unpack_bf16[ASSAY_FORM_Q8] = k->unpack_bf16[ASSAY_FORM_S8] = unpack_bf16_q8;
    k->unpack_bf16[ASSAY_FORM_E4M3] = unpack_bf16_e4m3;
    k->unpack_bf16[ASSAY_FORM_E5M2] = unpack_bf16_e5m2;
}

#endif
