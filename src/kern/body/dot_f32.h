/* kern/body/dot_f32.h: products of the f32 class: tiles of dot products, one-row products that decode in
 * registers, and unpacking.
 *
 * A tile holds mr x nr sixteen-lane sums in registers and walks k once. Both operands are contiguous along k,
 * so nothing is packed. */
#ifndef ASSAY_KERN_DOT_F32_H
#define ASSAY_KERN_DOT_F32_H

#include "kern/body/dot.h"

/* y[i*ldy + j] for mr rows of x and nr of w; strides in bytes for w, elements for x. form is a constant,
 * dense. */
VEC_FN void tile_f32(float *y, size_t ldy, const float *x, size_t ldx, const char *w, size_t stride, size_t k,
                     int mr, int nr, assay_form form) {
    v16 acc[TILE_M][GEMV_N];
    VEC_UNROLL for (int i = 0; i < mr; i++) VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] = v16_zero();
    size_t c = 0;
    for (; c + ASSAY_KERN_CHUNK <= k; c += ASSAY_KERN_CHUNK) {
        VEC_UNROLL for (size_t h = 0; h < ASSAY_KERN_CHUNK; h += 16) {
            v16 wv[GEMV_N];
            VEC_UNROLL for (int j = 0; j < nr; j++) {
                wv[j] = dense_f32(w + (size_t)j * stride, form, c + h);
                if (mr == 1) VEC_PREFETCH(w + (size_t)(j + nr) * stride + form_size(form) * (c + h));
            }
            VEC_UNROLL for (int i = 0; i < mr; i++) {
                v16 xv = v16_load(x + (size_t)i * ldx + c + h);
                VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] = v16_fma(xv, wv[j], acc[i][j]);
            }
        }
    }
    if (c < k) {
        float tail[GEMV_N][ASSAY_KERN_CHUNK];
        memset(tail, 0, sizeof tail);
        for (int j = 0; j < nr; j++)
            memcpy(tail[j], w + (size_t)j * stride + c * form_size(form), (k - c) * form_size(form));
        VEC_UNROLL for (size_t h = 0; h < ASSAY_KERN_CHUNK; h += 16) VEC_UNROLL for (int i = 0; i < mr; i++) {
            v16 xv = v16_load(x + (size_t)i * ldx + c + h);
            VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] =
                v16_fma(xv, dense_f32((const char *)tail[j], form, h), acc[i][j]);
        }
    }
    VEC_UNROLL for (int i = 0; i < mr; i++) {
        if (nr == 4)
            v16_sum4(y + (size_t)i * ldy, acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
        else
            VEC_UNROLL for (int j = 0; j < nr; j++) y[(size_t)i * ldy + (size_t)j] = v16_sum(acc[i][j]);
    }
}

static void gemm_f32(float *y, size_t ldy, const float *x, size_t ldx, const float *w, size_t ldw, size_t k,
                     size_t m, size_t n) {
    for (size_t i = 0; i < m; i += TILE_M) {
        size_t mc = ASSAY_MIN((size_t)TILE_M, m - i), j = 0;
        for (; j + TILE_N <= n; j += TILE_N) {
#define CALL(M)                                                                                              \
    tile_f32(y + i * ldy + j, ldy, x + i * ldx, ldx, (const char *)(w + j * ldw), 4 * ldw, k, M, TILE_N,     \
             ASSAY_FORM_F32)
            TILE_CASES(CALL)
#undef CALL
        }
        for (; j < n; j++) {
#define CALL(M)                                                                                              \
    tile_f32(y + i * ldy + j, ldy, x + i * ldx, ldx, (const char *)(w + j * ldw), 4 * ldw, k, M, 1,          \
             ASSAY_FORM_F32)
            TILE_CASES(CALL)
#undef CALL
        }
    }
}

/* One row of x against rows of w of a dense form. */
VEC_FN void gemv_dense_f32(float *y, const assay_rows *w, size_t row, size_t n, const float *x,
                           assay_form form) {
    const char *p = (const char *)w->data + row * w->stride;
    size_t j = 0;
    for (; j + GEMV_N <= n; j += GEMV_N)
        tile_f32(y + j, 0, x, 0, p + j * w->stride, w->stride, w->k, 1, GEMV_N, form);
    for (; j < n; j++) tile_f32(y + j, 0, x, 0, p + j * w->stride, w->stride, w->k, 1, 1, form);
}
static void gemv_f32_f32(float *y, const assay_rows *w, size_t row, size_t n, const float *x) {
    gemv_dense_f32(y, w, row, n, x, ASSAY_FORM_F32);
}
static void gemv_f32_f16(float *y, const assay_rows *w, size_t row, size_t n, const float *x) {
    gemv_dense_f32(y, w, row, n, x, ASSAY_FORM_F16);
}
static void gemv_f32_bf16(float *y, const assay_rows *w, size_t row, size_t n, const float *x) {
    gemv_dense_f32(y, w, row, n, x, ASSAY_FORM_BF16);
}

/* --- codes --- */

VEC_FN v16 q4_table_f32(const assay_rows *w, const dot_scales *s, size_t row, size_t g, int scales) {
    v16 t = scales == SCALES_CODED ? v16_load(w->tables->f32[w->scale_codes[row * w->n_groups + g]])
                                   : q4_scaled(w, s, row, g, scales);
    return w->round_f16 ? v16_round_f16(t) : t;
}
VEC_FN v16 q8_f32(const assay_rows *w, const uint8_t *p, int bytes, v16 zero, v16 scale) {
    v16 v = q8_lanes(v16_of_int(q8_load(p, bytes)), bytes, zero, scale);
    return w->round_f16 ? v16_round_f16(v) : v;
}

/* Values of nibble q of the 32 words at p. */
VEC_FN void q4_lookup(v16 out[2], const char *p, int q, v16 first, v16 second) {
    out[0] = v16_lookup(first, v16i_srl(v16i_u16(p), 4 * q));
    out[1] = v16_lookup(second, v16i_srl(v16i_u16(p + 32), 4 * q));
}

/* Block b (nq chunks of it) of nr rows: adds its products to acc, or, when `out` is given, stores its values.
 * gpb, the groups per block, is a constant: 8, 4, 2, or 1 with `blocks` blocks to a group; so is `scales`. */
VEC_FN void q4_block_f32(v16 *acc, v16 *tab, const assay_rows *w, const dot_scales *s, size_t row, size_t b,
                         int nr, int gpb, int scales, size_t blocks, int nq, const float *x, float *out, size_t ld) {
    const char *p = (const char *)w->data + row * w->stride + 64 * b;
    VEC_UNROLL for (int r = 0; r < nr; r++) {
        VEC_PREFETCH(p + (size_t)(r + nr) * w->stride);
        q4_prefetch(w, row + (size_t)(r + nr), b * (size_t)gpb, gpb, scales);
        if (gpb == 1 && b % blocks == 0) tab[r] = q4_table_f32(w, &s[r], row + (size_t)r, b / blocks, scales);
    }
    VEC_UNROLL for (int q = 0; q < 4; q++) {
        if (q >= nq) break;
        if (gpb == 4 || (gpb == 2 && q % 2 == 0))
            VEC_UNROLL for (int r = 0; r < nr; r++) tab[r] =
                q4_table_f32(w, &s[r], row + (size_t)r, b * (size_t)gpb + (size_t)(q * gpb / 4), scales);
        size_t c = ASSAY_KERN_BLOCK * b + 32 * (size_t)q;
        VEC_UNROLL for (int r = 0; r < nr; r++) {
            v16 v[2], t = tab[r], u = t;
            if (gpb == 8) { /* a table for each half; a row may end with the first, x is zero in the other then */
                size_t g = 8 * b + 2 * (size_t)q;
                t = q4_table_f32(w, &s[r], row + (size_t)r, g, scales);
                u = q4_table_f32(w, &s[r], row + (size_t)r, ASSAY_MIN(g + 1, w->n_groups - 1), scales);
            }
            q4_lookup(v, p + (size_t)r * w->stride, q, t, u);
            VEC_UNROLL for (size_t h = 0; h < 32; h += 16) {
                if (out)
                    v16_store(out + (size_t)r * ld + c + h, v[h / 16]);
                else
                    acc[r] = v16_fma(v16_load(x + c + h), v[h / 16], acc[r]);
            }
        }
    }
}
VEC_FN void q4_rows_f32(float *y, const assay_rows *w, size_t row, int nr, int gpb, int scales,
                        const float *x, float *out, size_t ld) {
    v16 acc[GEMV_N], tab[GEMV_N];
    size_t blocks = gpb > 1 ? 1 : w->n_groups == 1 ? SIZE_MAX : w->group / ASSAY_KERN_BLOCK;
    size_t full = w->k / ASSAY_KERN_BLOCK, b = 0;
    dot_scales s[GEMV_N];
    scales_begin(s, w, row, nr);
    VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = tab[r] = v16_zero();
    for (; b < full; b++) {
        if (gpb >= 4 && w->small_scales && b % 2 == 0) scales_make(s, w, row, nr, b * ASSAY_KERN_BLOCK);
        q4_block_f32(acc, tab, w, s, row, b, nr, gpb, scales, blocks, 4, x, out, ld);
    }
    size_t left = w->k - full * ASSAY_KERN_BLOCK;
    if (left) q4_block_f32(acc, tab, w, s, row, b, nr, gpb, scales, blocks, (int)((left + 31) / 32), x, out, ld);
    if (!out) VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(acc[r]);
}

/* 32 codes of one row: added to acc, or stored where `out` is given. scale[1]: of the second half, in groups of
 * 16. */
VEC_FN v16 q8_chunk_f32(v16 acc, const assay_rows *w, const uint8_t *p, int bytes, v16 zero, const v16 scale[2],
                        const float *x, float *out) {
    VEC_UNROLL for (size_t h = 0; h < 2; h++) {
        v16 v = q8_f32(w, p + 16 * h, bytes, zero, scale[bytes == BYTES_SIGNED16 ? h : 0]);
        if (out)
            v16_store(out + 16 * h, v);
        else
            acc = v16_fma(v16_load(x + 16 * h), v, acc);
    }
    return acc;
}
VEC_FN void f8_rows_f32(float *y, const assay_rows *w, size_t row, int nr, assay_form form, const float *x,
                        float *out, size_t ld) {
    v16 acc[GEMV_N], scale[GEMV_N];
    size_t left = 0, g = 0;
    VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = scale[r] = v16_zero();
    for (size_t c = 0; c < w->k; c += ASSAY_KERN_BLOCK8)
        VEC_UNROLL for (size_t q = 0; q < 2; q++) {
            size_t at = c + ASSAY_KERN_CHUNK * q;
            if (at >= w->k) break;
            if (left == 0) {
                VEC_UNROLL for (int r = 0; r < nr; r++) scale[r] = f8_scale(w, row + (size_t)r, g, form);
                left = group_columns(w);
                g++;
            }
            left -= ASSAY_KERN_CHUNK;
            VEC_UNROLL for (size_t h = 0; h < 2; h++) VEC_UNROLL for (int r = 0; r < nr; r++) {
                const uint8_t *p = (const uint8_t *)w->data + (row + (size_t)r) * w->stride + c + 32 * h;
                v16 v = v16_mul(f8_lanes(v16i_u16(p), (int)(8 * q), form), scale[r]);
                if (w->round_f16) v = v16_round_f16(v);
                VEC_PREFETCH(p + (size_t)nr * w->stride);
                if (out)
                    v16_store(out + (size_t)r * ld + at + 16 * h, v);
                else
                    acc[r] = v16_fma(v16_load(x + at + 16 * h), v, acc[r]);
            }
        }
    if (!out) VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(acc[r]);
}

#define DOT_CLASS f32
#define DOT_ELEM float
#include "kern/body/dot_packed.h"

VEC_FN void unpack_dense_f32(float *out, size_t ld, const assay_rows *w, size_t row, size_t n,
                             assay_form form) {
    for (size_t j = 0; j < n; j++) {
        const char *p = (const char *)w->data + (row + j) * w->stride;
        size_t c = 0;
        for (; c + ASSAY_KERN_CHUNK <= w->k; c += ASSAY_KERN_CHUNK) {
            v16_store(out + j * ld + c, dense_f32(p, form, c));
            v16_store(out + j * ld + c + 16, dense_f32(p, form, c + 16));
        }
        if (c < w->k) {
            float tail[ASSAY_KERN_CHUNK] = {0};
            memcpy(tail, p + c * form_size(form), (w->k - c) * form_size(form));
            v16_store(out + j * ld + c, dense_f32((const char *)tail, form, 0));
            v16_store(out + j * ld + c + 16, dense_f32((const char *)tail, form, 16));
        }
    }
}
static void unpack_f32_f32(float *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    unpack_dense_f32(out, ld, w, row, n, ASSAY_FORM_F32);
}
static void unpack_f32_f16(float *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    unpack_dense_f32(out, ld, w, row, n, ASSAY_FORM_F16);
}
static void unpack_f32_bf16(float *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    unpack_dense_f32(out, ld, w, row, n, ASSAY_FORM_BF16);
}

static inline void set_dot_f32(assay_kern *k) {
    k->gemm_f32 = gemm_f32;
    k->gemv_f32[ASSAY_FORM_F32] = gemv_f32_f32;
    k->gemv_f32[ASSAY_FORM_F16] = gemv_f32_f16;
    k->gemv_f32[ASSAY_FORM_BF16] = gemv_f32_bf16;
    k->gemv_f32[ASSAY_FORM_Q4] = gemv_f32_q4;
    k->gemv_f32[ASSAY_FORM_Q8] = k->gemv_f32[ASSAY_FORM_S8] = gemv_f32_q8;
    k->gemv_f32[ASSAY_FORM_E4M3] = gemv_f32_e4m3;
    k->gemv_f32[ASSAY_FORM_E5M2] = gemv_f32_e5m2;
    set_grid_f32(k);
    k->unpack_f32[ASSAY_FORM_F32] = unpack_f32_f32;
    k->unpack_f32[ASSAY_FORM_F16] = unpack_f32_f16;
    k->unpack_f32[ASSAY_FORM_BF16] = unpack_f32_bf16;
    k->unpack_f32[ASSAY_FORM_Q4] = unpack_f32_q4;
    k->unpack_f32[ASSAY_FORM_Q8] = k->unpack_f32[ASSAY_FORM_S8] = unpack_f32_q8;
    k->unpack_f32[ASSAY_FORM_E4M3] = unpack_f32_e4m3;
    k->unpack_f32[ASSAY_FORM_E5M2] = unpack_f32_e5m2;
}

#endif
