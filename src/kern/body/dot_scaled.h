/* kern/body/dot_scaled.h: products of the fp8 class and the quantizing of its activations.
 *
 * Both operands are 8-bit floats in bf16, so a pair product is exact. Within a group of columns a lane sums
 * as in the bf16 class; then the lane, times the product of the two scales, joins the lane's total. With one
 * group a row that is a single fma at the end. */
#ifndef ASSAY_KERN_DOT_SCALED_H
#define ASSAY_KERN_DOT_SCALED_H

/* Rows i0.. of x and j0.. of w. `many`, a constant: more than one group, with totals beside the group's sums.
 */
VEC_FN void tile_scaled(float *y, size_t ldy, const assay_scaled *x, size_t i0, const assay_scaled *w,
                        size_t j0, size_t k, size_t group, size_t n_groups, int mr, int nr, bool many) {
    v16 acc[TILE_M][GEMV_N], total[TILE_M][GEMV_N];
    float scale[TILE_M][GEMV_N];
    const uint16_t *xp = x->data + i0 * x->ld, *wp = w->data + j0 * w->ld;
    const float *xs = x->scales + i0 * n_groups, *ws = w->scales + j0 * n_groups;
    VEC_UNROLL for (int i = 0; i < mr; i++) VEC_UNROLL for (int j = 0; j < nr; j++) total[i][j] = v16_zero();
    for (size_t g = 0, c = 0; g < n_groups; g++) {
        size_t end = many ? ASSAY_MIN(k, (g + 1) * group) : k;
        VEC_UNROLL for (int i = 0; i < mr; i++) VEC_UNROLL for (int j = 0; j < nr; j++) {
            scale[i][j] = xs[(size_t)i * n_groups + g] * ws[(size_t)j * n_groups + g];
            acc[i][j] = v16_zero();
        }
        for (; c < end; c += ASSAY_KERN_CHUNK) {
            vb wv[GEMV_N];
            VEC_UNROLL for (int j = 0; j < nr; j++) wv[j] = vb_load(wp + (size_t)j * w->ld + c);
            VEC_UNROLL for (int i = 0; i < mr; i++) {
                vb xv = vb_load(xp + (size_t)i * x->ld + c);
                VEC_UNROLL for (int j = 0; j < nr; j++) acc[i][j] = vb_dot(acc[i][j], xv, wv[j]);
            }
        }
        VEC_UNROLL for (int i = 0; i < mr; i++) VEC_UNROLL for (int j = 0; j < nr; j++) {
            v16 before = many ? total[i][j] : v16_zero();
            total[i][j] = v16_fma(acc[i][j], v16_set1(scale[i][j]), before);
        }
    }
    VEC_UNROLL for (int i = 0; i < mr; i++) {
        if (nr == 4)
            v16_sum4(y + (size_t)i * ldy, total[i][0], total[i][1], total[i][2], total[i][3]);
        else
            VEC_UNROLL for (int j = 0; j < nr; j++) y[(size_t)i * ldy + (size_t)j] = v16_sum(total[i][j]);
    }
}

/* Tiles of `rows` rows, and what is left row by row. */
VEC_FN void rows_scaled(float *y, size_t ldy, const assay_scaled *x, const assay_scaled *w, size_t k,
                        size_t group, size_t n_groups, size_t m, size_t n, int rows, bool many) {
    size_t i = 0;
    for (; i + (size_t)rows <= m; i += (size_t)rows) {
        size_t j = 0;
        for (; j + TILE_N <= n; j += TILE_N)
            tile_scaled(y + i * ldy + j, ldy, x, i, w, j, k, group, n_groups, rows, TILE_N, many);
        for (; j < n; j++)
            tile_scaled(y + i * ldy + j, ldy, x, i, w, j, k, group, n_groups, rows, 1, many);
    }
    for (; i < m; i++) {
        size_t j = 0;
        for (; j + TILE_N <= n; j += TILE_N)
            tile_scaled(y + i * ldy + j, ldy, x, i, w, j, k, group, n_groups, 1, TILE_N, many);
        for (; j < n; j++)
            tile_scaled(y + i * ldy + j, ldy, x, i, w, j, k, group, n_groups, 1, 1, many);
    }
}
static void gemm_scaled(float *y, size_t ldy, const assay_scaled *x, const assay_scaled *w, size_t k,
                        size_t group, size_t m, size_t n) {
    if (k > group)
        rows_scaled(y, ldy, x, w, k, group, (k + group - 1) / group, m, n, SCALED_M, true);
    else
        rows_scaled(y, ldy, x, w, k, group, 1, m, n, TILE_M, false);
}

/* --- one row of x --- */

VEC_FN void f8_rows_scaled(float *y, const assay_rows *w, size_t row, int nr, const vb_f8 *table,
                           const uint16_t *x, const float *xs) {
    v16 acc[GEMV_N], total[GEMV_N];
    size_t left = group_columns(w), g = 0;
    VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = total[r] = v16_zero();
    for (size_t c = 0; c < w->k; c += ASSAY_KERN_BLOCK8) {
        vb v[GEMV_N][2];
        VEC_UNROLL for (int r = 0; r < nr; r++) {
            const uint8_t *p = (const uint8_t *)w->data + (row + (size_t)r) * w->stride + c;
            vb_f8_two(v[r], p, table);
            VEC_PREFETCH(p + (size_t)nr * w->stride);
        }
        VEC_UNROLL for (int q = 0; q < 2; q++) {
            size_t at = c + ASSAY_KERN_CHUNK * (size_t)q;
            if (at >= w->k) break;
            vb xv = vb_load(x + at);
            VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = vb_dot(acc[r], xv, v[r][q]);
            left -= ASSAY_KERN_CHUNK;
            if (left != 0 && at + ASSAY_KERN_CHUNK < w->k) continue;
            VEC_UNROLL for (int r = 0; r < nr; r++) {
                v16 s = v16_set1(xs[g] * w->scales[(row + (size_t)r) * w->n_groups + g]);
                total[r] = v16_fma(acc[r], s, total[r]);
                acc[r] = v16_zero();
            }
            left = w->group;
            g++;
        }
    }
    VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(total[r]);
}
VEC_FN void gemv_scaled(float *y, const assay_rows *w, size_t row, size_t n, assay_form form,
                        const uint16_t *x, const float *xs) {
    vb_f8 table = vb_f8_of(form);
    size_t j = 0;
    for (; j + GEMV_N <= n; j += GEMV_N)
        f8_rows_scaled(y + j, w, row + j, GEMV_N, &table, x, xs);
    for (; j < n; j++)
        f8_rows_scaled(y + j, w, row + j, 1, &table, x, xs);
}
static void gemv_scaled_e4m3(float *y, const assay_rows *w, size_t row, size_t n, const uint16_t *x,
                             const float *xs) {
    gemv_scaled(y, w, row, n, ASSAY_FORM_E4M3, x, xs);
}
static void gemv_scaled_e5m2(float *y, const assay_rows *w, size_t row, size_t n, const uint16_t *x,
                             const float *xs) {
    gemv_scaled(y, w, row, n, ASSAY_FORM_E5M2, x, xs);
}

/* --- activations --- */

/* To the nearest 8-bit float: normal numbers by rounding the bits of their fraction, smaller ones to a
 * multiple of the least by adding and taking away a number whose last place that is. */
VEC_FN v16 round_f8(v16 v, assay_form form) {
    int shift = form == ASSAY_FORM_E4M3 ? 20 : 21;
    v16 most = v16_set1(form == ASSAY_FORM_E4M3 ? 448.0f : 57344.0f),
        normal = v16_set1(form == ASSAY_FORM_E4M3 ? 0x1p-6f : 0x1p-14f),
        large = v16_set1(form == ASSAY_FORM_E4M3 ? 0x1.8p14f : 0x1.8p7f);
    v16i sign = v16i_and(v16_bits(v), v16i_set1((int)0x80000000)),
         u = v16i_and(v16_bits(v), v16i_set1(0x7fffffff));
    v16 a = v16_if_lt(v16_of_bits(u), most, v16_of_bits(u), most);
    u = v16_bits(a);
    v16i up = v16i_add(v16i_set1((1 << (shift - 1)) - 1), v16i_and(v16i_srl(u, shift), v16i_set1(1)));
    v16 r = v16_of_bits(v16i_and(v16i_add(u, up), v16i_set1((int)(~0u << shift))));
    r = v16_if_lt(a, normal, v16_sub(v16_add(a, large), large), r);
    return v16_of_bits(v16i_or(v16_bits(r), sign));
}
VEC_FN v16 load_f8(const float *p, size_t n) {
    if (n >= 16) return v16_load(p);
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v16_load(t);
}
VEC_FN void quant_f8_form(uint16_t *out, float *scale, const float *x, size_t n, float fixed,
                          assay_form form) {
    v16i top = v16i_set1(0), magnitude = v16i_set1(0x7fffffff);
    int32_t lane[16], best = 0;
    float absmax;
    for (size_t c = 0; c < n; c += 16)
        top = v16i_max(top, v16i_and(v16_bits(load_f8(x + c, n - c)), magnitude));
    v16i_store(lane, top); /* bits order as magnitudes, NaN on top */
    for (int i = 0; i < 16; i++)
        best = ASSAY_MAX(best, lane[i]);
    memcpy(&absmax, &best, sizeof absmax);
    *scale = fixed == 0 || isnan(absmax) ? absmax / (form == ASSAY_FORM_E4M3 ? 448.0f : 57344.0f) : fixed;
    memset(out, 0, n * sizeof *out);
    if (!isfinite(*scale) || *scale == 0) return;
    v16 by = v16_set1(*scale);
    for (size_t c = 0; c < n; c += 32) {
        v16 a = round_f8(v16_div(load_f8(x + c, n - c), by), form), b = v16_zero();
        if (n - c > 16) b = round_f8(v16_div(load_f8(x + c + 16, n - c - 16), by), form);
        uint16_t t[32];
        vb_store(t, vb_of_f32(a, b));
        memcpy(out + c, t, ASSAY_MIN(n - c, (size_t)32) * sizeof *t);
    }
}
static void quant_f8(uint16_t *out, float *scale, const float *x, size_t n, float fixed, assay_form form) {
    if (form == ASSAY_FORM_E4M3)
        quant_f8_form(out, scale, x, n, fixed, ASSAY_FORM_E4M3);
    else
        quant_f8_form(out, scale, x, n, fixed, ASSAY_FORM_E5M2);
}

#endif
