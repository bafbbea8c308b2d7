/* kern/body/int8.h: products of the int8 class and the quantizing of activations.
 *
 * A lane is an output: sixteen rows of w are interleaved, x is broadcast four bytes at a time, and lanes
 * never have to be folded. The sums within a group are exact, so their order is free; groups are scaled and
 * added in order. w is unsigned (its stored codes), x is signed, and the zero point enters through x's sum
 * over the group. */
#ifndef ASSAY_KERN_INT8_H
#define ASSAY_KERN_INT8_H

#define IGEMV_B 4 /* blocks at once for one row of x: as many chains of sums */

/* One group for mr rows of x and nb blocks: sum[i][b] += scale * (exact sum). The sums of groups lie in
 * memory, so that the registers are free for the inner loop. */
VEC_FN void tile_i8_group(float sum[][IGEMV_B][16], const assay_irows *w, size_t block, size_t g,
                          const assay_iacts *x, size_t m0, int mr, int nb, int bits) {
    size_t step = bits == 4 ? 8 : 4, group_bytes = w->group_pad * 16 / (bits == 4 ? 2 : 1),
           block_bytes = group_bytes * w->n_groups;
    const uint8_t *p = w->data + block * block_bytes + g * group_bytes;
    const int8_t *q = x->q + m0 * x->stride + g * w->group_pad;
    v16i acc[ITILE_M][IGEMV_B], low = v16i_set1(0x0f0f0f0f);
    VEC_UNROLL for (int i = 0; i < mr; i++) VEC_UNROLL for (int b = 0; b < nb; b++) acc[i][b] = v16i_set1(0);
    for (size_t c = 0; c < w->group_pad; c += step, p += 64) {
        v16i raw[IGEMV_B], code[IGEMV_B];
        VEC_UNROLL for (int b = 0; b < nb; b++) {
            raw[b] = v16i_load(p + (size_t)b * block_bytes);
            code[b] = bits == 4 ? v16i_and(raw[b], low) : raw[b];
        }
        VEC_UNROLL for (int i = 0; i < mr; i++) {
            vx xv = vx_bcast4(q + (size_t)i * x->stride + c);
            VEC_UNROLL for (int b = 0; b < nb; b++) acc[i][b] = v16i_dot4(acc[i][b], code[b], xv);
        }
        if (bits == 8) continue;
        VEC_UNROLL for (int b = 0; b < nb; b++) code[b] = v16i_and(v16i_srl(raw[b], 4), low);
        VEC_UNROLL for (int i = 0; i < mr; i++) {
            vx xv = vx_bcast4(q + (size_t)i * x->stride + c + 4);
            VEC_UNROLL for (int b = 0; b < nb; b++) acc[i][b] = v16i_dot4(acc[i][b], code[b], xv);
        }
    }
    VEC_UNROLL for (int b = 0; b < nb; b++) {
        size_t at = ((block + (size_t)b) * w->n_groups + g) * 16;
        v16 scale = v16_load(w->scales + at);
        if (w->real_zeros) {
            v16 zero = v16_sub(v16_zero(), v16_load(w->real_zeros + at));
            VEC_UNROLL for (int i = 0; i < mr; i++) {
                float total = (float)x->sums[(m0 + (size_t)i) * w->n_groups + g];
                v16 s = v16_fma(zero, v16_set1(total), v16_of_int(acc[i][b]));
                v16_store(sum[i][b], v16_fma(s, scale, v16_load(sum[i][b])));
            }
            continue;
        }
        v16i zero = w->zeros ? v16i_u8(w->zeros + at) : v16i_set1(w->zero);
        VEC_UNROLL for (int i = 0; i < mr; i++) {
            v16i s = v16i_mul(zero, v16i_set1(x->sums[(m0 + (size_t)i) * w->n_groups + g]));
            v16_store(sum[i][b], v16_fma(v16_of_int(v16i_sub(acc[i][b], s)), scale, v16_load(sum[i][b])));
        }
    }
}

/* Rows m0.. of x against nb blocks from `block`. */
VEC_FN void tile_i8(float *y, size_t ldy, const assay_irows *w, size_t block, const assay_iacts *x, size_t m0,
                    int mr, int nb, int bits) {
    float sum[ITILE_M][IGEMV_B][16];
    memset(sum, 0, (size_t)mr * sizeof sum[0]);
    for (size_t g = 0; g < w->n_groups; g++) tile_i8_group(sum, w, block, g, x, m0, mr, nb, bits);
    for (int i = 0; i < mr; i++)
        for (int b = 0; b < nb; b++) {
            size_t o = (block + (size_t)b) * 16;
            v16_store(sum[i][b], v16_mul(v16_load(sum[i][b]), v16_set1(x->scale[m0 + (size_t)i])));
            memcpy(y + (m0 + (size_t)i) * ldy + o, sum[i][b],
                   ASSAY_MIN(w->n_rows - o, (size_t)16) * sizeof(float));
        }
}

/* nb blocks for all rows, in tiles of 8, 4, 2, 1 rows (as many as the registers take). */
VEC_FN void rows_i8(float *y, size_t ldy, const assay_irows *w, size_t block, const assay_iacts *x, size_t m,
                    int nb, int bits) {
    size_t i = 0;
    if (ITILE_M >= 8)
        for (; i + 8 <= m; i += 8) tile_i8(y, ldy, w, block, x, i, ITILE_M >= 8 ? 8 : 1, nb, bits);
    if (ITILE_M >= 4)
        for (; i + 4 <= m; i += 4) tile_i8(y, ldy, w, block, x, i, ITILE_M >= 4 ? 4 : 1, nb, bits);
    for (; i + 2 <= m; i += 2) tile_i8(y, ldy, w, block, x, i, 2, nb, bits);
    for (; i < m; i++) tile_i8(y, ldy, w, block, x, i, 1, nb, bits);
}
VEC_FN void gemm_i8_bits(float *y, size_t ldy, const assay_irows *w, size_t block, size_t n_blocks,
                         const assay_iacts *x, size_t m, int bits) {
    size_t end = block + n_blocks;
    if (m == 1)
        for (; block + IGEMV_B <= end; block += IGEMV_B) tile_i8(y, ldy, w, block, x, 0, 1, IGEMV_B, bits);
    for (; block + ITILE_B <= end; block += ITILE_B) rows_i8(y, ldy, w, block, x, m, ITILE_B, bits);
    for (; block < end; block++) rows_i8(y, ldy, w, block, x, m, 1, bits);
}
static void gemm_i8(float *y, size_t ldy, const assay_irows *w, size_t block, size_t n_blocks,
                    const assay_iacts *x, size_t m) {
    if (w->bits == 4)
        gemm_i8_bits(y, ldy, w, block, n_blocks, x, m, 4);
    else
        gemm_i8_bits(y, ldy, w, block, n_blocks, x, m, 8);
}

static void outliers_i8(float *y, const assay_irows *w, size_t block, size_t n_blocks, const float *x,
                        const uint32_t *cols, size_t n) {
    size_t block_bytes = w->group_pad * w->n_groups * 16 / (w->bits == 4 ? 2 : 1);
    for (size_t b = block; b < block + n_blocks; b++) {
        v16 sum = v16_zero();
        for (size_t i = 0; i < n; i++) {
            size_t g = cols[i] / w->group, c = g * w->group_pad + cols[i] % w->group,
                   at = (b * w->n_groups + g) * 16;
            size_t line = w->bits == 4 ? c / 8 : c / 4,
                   shift = w->bits == 4 ? c % 4 * 8 + (c % 8 >= 4 ? 4 : 0) : c % 4 * 8;
            v16i code = v16i_srl(v16i_load(w->data + b * block_bytes + 64 * line), (int)shift);
            code = v16i_and(code, v16i_set1(w->bits == 4 ? 15 : 255));
            v16 zero = w->real_zeros ? v16_load(w->real_zeros + at)
                                     : v16_of_int(w->zeros ? v16i_u8(w->zeros + at) : v16i_set1(w->zero));
            v16 v = v16_round_f16(v16_mul(v16_sub(v16_of_int(code), zero), v16_load(w->scales + at)));
            sum = v16_fma(v16_set1(x[i]), v, sum);
        }
        float t[16];
        size_t left = ASSAY_MIN(w->n_rows - 16 * b, (size_t)16);
        v16_store(t, sum);
        for (size_t j = 0; j < left; j++) y[16 * b + j] += t[j];
    }
}

/* Entries that stay in the product; NaN stays, so that it is seen in absmax. */
VEC_FN v16 kept_i8(v16 v, float threshold) {
    v16 a = v16_of_bits(v16i_and(v16_bits(v), v16i_set1(0x7fffffff)));
    v16 r = v16_if_lt(a, v16_set1(threshold), v, v16_zero());
    return v16_if_nan(v, v, r);
}
VEC_FN v16 load_i8(const float *p, size_t n) {
    if (n >= 16) return v16_load(p);
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v16_load(t);
}
VEC_FN v16 clamp_i8(v16 v) {
    v16 low = v16_set1(-128), high = v16_set1(127);
    v = v16_if_lt(v, low, low, v);
    return v16_if_lt(v, high, v, high);
}
static void quant_i8(int8_t *q, int32_t *sums, float *scale, const float *x, size_t k, size_t group,
                     size_t group_pad, float threshold, float fixed) {
    float limit = threshold > 0 ? threshold : INFINITY, absmax, inv;
    bool all = !(threshold > 0);
    size_t n_groups = (k + group - 1) / group;
    v16i top = v16i_set1(0), magnitude = v16i_set1(0x7fffffff);
    int32_t lane[16], best = 0;
    for (size_t c = 0; c < k; c += 16) {
        v16 v = load_i8(x + c, k - c);
        top = v16i_max(top, v16i_and(v16_bits(all ? v : kept_i8(v, limit)),
                                     magnitude)); /* bits order as magnitudes, NaN on top */
    }
    v16i_store(lane, top);
    for (int i = 0; i < 16; i++) best = ASSAY_MAX(best, lane[i]);
    memcpy(&absmax, &best, sizeof absmax);
    *scale = fixed == 0 || isnan(absmax) ? absmax / 127.0f : fixed;
    memset(q, 0, n_groups * group_pad);
    memset(sums, 0, n_groups * sizeof *sums);
    if (!isfinite(*scale) || absmax == 0) return;
    inv = 127.0f / absmax;
    if (!isfinite(inv)) inv = 0x1.fffffep127f;
    for (size_t g = 0; g < n_groups; g++) {
        const float *xg = x + g * group;
        size_t n = ASSAY_MIN(group, k - g * group);
        v16i s = v16i_set1(0);
        for (size_t c = 0; c < n; c += 16) {
            v16 v = load_i8(xg + c, n - c);
            v = all ? v : kept_i8(v, limit);
            v = fixed == 0 ? v16_mul(v, v16_set1(inv)) : clamp_i8(v16_div(v, v16_set1(fixed)));
            v16i r = v16i_round(v);
            int8_t t[16];
            s = v16i_add(s, r);
            v16i_store_i8(t, r);
            memcpy(q + g * group_pad + c, t, ASSAY_MIN(n - c, 16));
        }
        v16i_store(lane, s);
        for (int i = 0; i < 16; i++) sums[g] += lane[i];
    }
}

static inline void set_int8(assay_kern *k) {
    k->gemm_i8 = gemm_i8;
    k->outliers_i8 = outliers_i8;
    k->quant_i8 = quant_i8;
}

#endif
