/* kern/ref/int8_ref.c: the reference for products of the int8 class and the quantizing of activations. */
#include "kern/ref/ref.h"

static int code(const assay_irows *w, size_t row, size_t g, size_t c) {
    size_t block = row / 16, in = row % 16, at = c + g * w->group_pad;
    if (w->bits == 8) return w->data[block * w->group_pad * w->n_groups * 16 + at / 4 * 64 + in * 4 + at % 4];
    const uint8_t *p = w->data + block * w->group_pad * w->n_groups * 8 + at / 8 * 64 + in * 4;
    return p[at % 4] >> (at % 8 >= 4 ? 4 : 0) & 15;
}

static void gemm_i8(float *y, size_t ldy, const assay_irows *w, size_t block, size_t n_blocks,
                    const assay_iacts *x, size_t m) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = block * 16; j < (block + n_blocks) * 16 && j < w->n_rows; j++) {
            float sum = 0;
            for (size_t g = 0; g < w->n_groups; g++) {
                size_t at = (j / 16 * w->n_groups + g) * 16 + j % 16;
                int zero = w->real_zeros ? 0 : w->zeros ? w->zeros[at] : w->zero;
                int64_t s = 0;
                for (size_t c = 0; c < w->group_pad; c++)
                    s += (int64_t)x->q[i * x->stride + g * w->group_pad + c] * (code(w, j, g, c) - zero);
                float f = (float)(int32_t)s;
                if (w->real_zeros) f = fmaf(-w->real_zeros[at], (float)x->sums[i * w->n_groups + g], f);
                sum = fmaf(f, w->scales[at], sum);
            }
            y[i * ldy + j] = sum * x->scale[i];
        }
}

static void outliers_i8(float *y, const assay_irows *w, size_t block, size_t n_blocks, const float *x,
                        const uint32_t *cols, size_t n) {
    for (size_t j = block * 16; j < (block + n_blocks) * 16 && j < w->n_rows; j++) {
        float sum = 0;
        for (size_t i = 0; i < n; i++) {
            size_t g = cols[i] / w->group, at = (j / 16 * w->n_groups + g) * 16 + j % 16;
            float zero = w->real_zeros ? w->real_zeros[at] : (float)(w->zeros ? w->zeros[at] : w->zero);
            float v = ((float)code(w, j, g, cols[i] % w->group) - zero) * w->scales[at];
            sum = fmaf(x[i], assay_f16_to_f32(assay_f32_to_f16(v)), sum);
        }
        y[j] += sum;
    }
}

static void quant_i8(int8_t *q, int32_t *sums, float *scale, const float *x, size_t k, size_t group,
                     size_t group_pad, float threshold, float fixed) {
    size_t n_groups = (k + group - 1) / group;
    float absmax = 0, inv;
    memset(q, 0, n_groups * group_pad);
    memset(sums, 0, n_groups * sizeof *sums);
    for (size_t c = 0; c < k; c++) {
        if (threshold > 0 && fabsf(x[c]) >= threshold) continue;
        if (isnan(x[c]) || fabsf(x[c]) > absmax) absmax = fabsf(x[c]);
        if (isnan(absmax)) break;
    }
    *scale = fixed == 0 || isnan(absmax) ? absmax / 127.0f : fixed;
    if (!isfinite(*scale) || absmax == 0) return;
    inv = 127.0f / absmax;
    if (!isfinite(inv)) inv = 0x1.fffffep127f; /* absmax is nearly subnormal */
    for (size_t c = 0; c < k; c++) {
        if (threshold > 0 && fabsf(x[c]) >= threshold) continue;
        float r = rintf(fixed == 0 ? x[c] * inv : x[c] / fixed);
        int8_t v = (int8_t)fminf(fmaxf(r, -128), 127);
        q[c / group * group_pad + c % group] = v;
        sums[c / group] += v;
    }
}

void assay_kern_set_int8_ref(assay_kern *k) {
    k->gemm_i8 = gemm_i8;
    k->outliers_i8 = outliers_i8;
    k->quant_i8 = quant_i8;
}
