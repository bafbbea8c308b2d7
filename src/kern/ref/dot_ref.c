/* kern/ref/dot_ref.c: the reference for products of the f32 and bf16 classes and for unpacking. */
#include "kern/ref/ref.h"
#include "precision/block.h"

/* --- one dot product in the order of kern.h; w has k elements, x is padded --- */

static float dot_f32(const float *x, const float *w, size_t k) {
    float lane[16] = {0};
    size_t padded = (k + ASSAY_KERN_CHUNK - 1) / ASSAY_KERN_CHUNK * ASSAY_KERN_CHUNK;
    for (size_t c = 0; c < padded; c++) lane[c % 16] = fmaf(x[c], c < k ? w[c] : 0, lane[c % 16]);
    return ref_fold(lane);
}
static float dot_bf16(const uint16_t *x, const uint16_t *w, size_t k) {
    float lane[16] = {0};
    size_t padded = (k + ASSAY_KERN_CHUNK - 1) / ASSAY_KERN_CHUNK * ASSAY_KERN_CHUNK;
    for (size_t c = 0; c < padded; c += 2) {
        float *l = &lane[c / 2 % 16];
        float even = c < k ? assay_bf16_to_f32(w[c]) : 0, odd = c + 1 < k ? assay_bf16_to_f32(w[c + 1]) : 0;
        *l = fmaf(assay_bf16_to_f32(x[c]), even, fmaf(assay_bf16_to_f32(x[c + 1]), odd, *l));
    }
    return ref_fold(lane);
}

static void gemm_f32(float *y, size_t ldy, const float *x, size_t ldx, const float *w, size_t ldw, size_t k,
                     size_t m, size_t n) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) y[i * ldy + j] = dot_f32(x + i * ldx, w + j * ldw, k);
}
static void gemm_bf16(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint16_t *w, size_t ldw,
                      size_t k, size_t m, size_t n) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) y[i * ldy + j] = dot_bf16(x + i * ldx, w + j * ldw, k);
}

/* --- values --- */

static float ref_f8(const assay_rows *w, size_t row, size_t c) {
    size_t in = c % ASSAY_KERN_BLOCK8;
    uint8_t code = ((const uint8_t *)w->data)[row * w->stride + c / ASSAY_KERN_BLOCK8 * ASSAY_KERN_BLOCK8 +
                                              in % 32 * 2 + in / 32];
    return w->form == ASSAY_FORM_E4M3 ? assay_e4m3_to_f32(code) : assay_e5m2_to_f32(code);
}
static float ref_grid(const assay_rows *w, size_t row, size_t c) {
    static const assay_precision TYPES[] = {ASSAY_PRECISION_IQ1_S, ASSAY_PRECISION_IQ1_M, ASSAY_PRECISION_IQ2_XXS,
                                            ASSAY_PRECISION_IQ2_XS, ASSAY_PRECISION_IQ2_S};
    assay_precision p = TYPES[w->form - ASSAY_FORM_IQ1_S];
    const assay_block_info *info = assay_block_get(p);
    const uint8_t *block =
        (const uint8_t *)w->data + row * w->stride + c / ASSAY_BLOCK_MAX * (size_t)info->bytes;
    int8_t q[ASSAY_BLOCK_MAX];
    float scales[ASSAY_BLOCK_MAX_GROUPS];
    assay_block_expand(q, scales, NULL, p, block);
    return (float)q[c % ASSAY_BLOCK_MAX] * scales[c % ASSAY_BLOCK_MAX / (size_t)info->group];
}
static float value(const assay_rows *w, size_t row, size_t c) {
    const uint8_t *p = (const uint8_t *)w->data + row * w->stride;
    float f;
    uint16_t h;
    switch (w->form) {
    case ASSAY_FORM_F32: memcpy(&f, p + 4 * c, 4); return f;
    case ASSAY_FORM_F16: memcpy(&h, p + 2 * c, 2); return assay_f16_to_f32(h);
    case ASSAY_FORM_BF16: memcpy(&h, p + 2 * c, 2); return assay_bf16_to_f32(h);
    default: break;
    }
    if (w->form >= ASSAY_FORM_IQ1_S) return ref_grid(w, row, c);
    size_t g = row * w->n_groups + (w->n_groups == 1 ? 0 : c / w->group);
    if (w->form == ASSAY_FORM_E4M3 || w->form == ASSAY_FORM_E5M2)
        return ref_f8(w, row, c) * (w->scales ? w->scales[g] : 1);
    if (w->form == ASSAY_FORM_Q4) {
        size_t in = c % ASSAY_KERN_BLOCK, word = in % 32, nibble = in / 32;
        unsigned code = p[c / ASSAY_KERN_BLOCK * 64 + 2 * word + nibble / 2] >> (nibble % 2 ? 4 : 0) & 15u;
        if (w->scale_codes) return w->tables->f32[w->scale_codes[g]][code];
        f = w->values[code];
        if (w->zeros) f -= (float)w->zeros[g];
        if (w->real_zeros) f -= w->real_zeros[g];
    } else if (w->form == ASSAY_FORM_S8) {
        f = (float)(int8_t)p[c];
    } else {
        f = (float)p[c] - (w->zeros ? (float)w->zeros[g] : w->real_zeros ? w->real_zeros[g] : w->zero);
    }
    if (w->small_scales) {
        size_t u = row * (w->k / ASSAY_KERN_SUPER) + c / ASSAY_KERN_SUPER;
        f *= w->scale_units[u] * (float)w->small_scales[g];
        return w->small_offsets ? f + w->offset_units[u] * (float)w->small_offsets[g] : f;
    }
    f *= w->scales[g];
    return w->offsets ? f + w->offsets[g] : f;
}
static size_t padded(size_t k) { return (k + ASSAY_KERN_CHUNK - 1) / ASSAY_KERN_CHUNK * ASSAY_KERN_CHUNK; }

static void unpack_f32(float *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < padded(w->k); c++) {
            float v = c < w->k ? value(w, row + j, c) : 0;
            out[j * ld + c] =
                w->round_f16 && w->form >= ASSAY_FORM_Q4 ? assay_f16_to_f32(assay_f32_to_f16(v)) : v;
        }
}
static void unpack_bf16(uint16_t *out, size_t ld, const assay_rows *w, size_t row, size_t n) {
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < padded(w->k); c++)
            out[j * ld + c] = assay_f32_to_bf16(c < w->k ? value(w, row + j, c) : 0);
}

/* --- one-row products: unpacking a chunk at a time into the same order --- */

static void gemv_f32(float *y, const assay_rows *w, size_t row, size_t n, const float *x) {
    for (size_t j = 0; j < n; j++) {
        float lane[16] = {0};
        for (size_t c = 0; c < padded(w->k); c++) {
            float v = c < w->k ? value(w, row + j, c) : 0;
            if (w->round_f16 && w->form >= ASSAY_FORM_Q4) v = assay_f16_to_f32(assay_f32_to_f16(v));
            lane[c % 16] = fmaf(x[c], v, lane[c % 16]);
        }
        y[j] = ref_fold(lane);
    }
}
static void gemv_bf16(float *y, const assay_rows *w, size_t row, size_t n, const uint16_t *x) {
    for (size_t j = 0; j < n; j++) {
        float lane[16] = {0};
        for (size_t c = 0; c < padded(w->k); c += 2) {
            float v[2] = {0, 0};
            for (size_t e = 0; e < 2; e++)
                if (c + e < w->k) v[e] = assay_bf16_to_f32(assay_f32_to_bf16(value(w, row + j, c + e)));
            float *l = &lane[c / 2 % 16];
            *l = fmaf(assay_bf16_to_f32(x[c]), v[0], fmaf(assay_bf16_to_f32(x[c + 1]), v[1], *l));
        }
        y[j] = ref_fold(lane);
    }
}

/* --- the fp8 class --- */

static float dot_scaled(const uint16_t *x, const float *xs, const uint16_t *w, const float *ws, size_t k,
                        size_t group) {
    float total[16] = {0};
    for (size_t g = 0, c = 0; c < k; g++) {
        float lane[16] = {0};
        for (; c < k && c / group == g; c += 2) {
            float *l = &lane[c / 2 % 16];
            *l = fmaf(assay_bf16_to_f32(x[c]), assay_bf16_to_f32(w[c]),
                      fmaf(assay_bf16_to_f32(x[c + 1]), assay_bf16_to_f32(w[c + 1]), *l));
        }
        for (int i = 0; i < 16; i++) total[i] = fmaf(lane[i], xs[g] * ws[g], total[i]);
    }
    return ref_fold(total);
}
static void gemm_scaled(float *y, size_t ldy, const assay_scaled *x, const assay_scaled *w, size_t k,
                        size_t group, size_t m, size_t n) {
    size_t n_groups = k > group ? (k + group - 1) / group : 1;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            y[i * ldy + j] = dot_scaled(x->data + i * x->ld, x->scales + i * n_groups, w->data + j * w->ld,
                                        w->scales + j * n_groups, k, group);
}
static void gemv_scaled(float *y, const assay_rows *w, size_t row, size_t n, const uint16_t *x,
                        const float *xs) {
    for (size_t j = 0; j < n; j++) {
        const float *ws = w->scales + (row + j) * w->n_groups;
        float total[16] = {0};
        for (size_t g = 0, c = 0; g < w->n_groups && c < w->k; g++) {
            float lane[16] = {0};
            for (; c < w->k && (w->n_groups == 1 || c / w->group == g); c += 2) {
                float *l = &lane[c / 2 % 16], odd = c + 1 < w->k ? ref_f8(w, row + j, c + 1) : 0;
                *l = fmaf(assay_bf16_to_f32(x[c]), ref_f8(w, row + j, c),
                          fmaf(assay_bf16_to_f32(x[c + 1]), odd, *l));
            }
            for (int i = 0; i < 16; i++) total[i] = fmaf(lane[i], xs[g] * ws[g], total[i]);
        }
        y[j] = ref_fold(total);
    }
}
static void quant_f8(uint16_t *out, float *scale, const float *x, size_t n, float fixed, assay_form form) {
    bool e4m3 = form == ASSAY_FORM_E4M3;
    float absmax = 0;
    for (size_t c = 0; c < n && !isnan(absmax); c++)
        if (isnan(x[c]) || fabsf(x[c]) > absmax) absmax = fabsf(x[c]);
    *scale = fixed == 0 || isnan(absmax) ? absmax / (e4m3 ? 448.0f : 57344.0f) : fixed;
    for (size_t c = 0; c < n; c++) {
        float v = 0;
        if (isfinite(*scale) && *scale != 0) {
            float most = e4m3 ? 448.0f : 57344.0f;
            v = fminf(fmaxf(x[c] / *scale, -most), most);
            v = e4m3 ? assay_e4m3_to_f32(assay_f32_to_e4m3(v)) : assay_e5m2_to_f32(assay_f32_to_e5m2(v));
        }
        out[c] = assay_f32_to_bf16(v);
    }
}

void assay_kern_set_dot_ref(assay_kern *k) {
    k->gemm_scaled = gemm_scaled;
    k->gemv_scaled[ASSAY_FORM_E4M3] = k->gemv_scaled[ASSAY_FORM_E5M2] = gemv_scaled;
    k->quant_f8 = quant_f8;
    k->gemm_f32 = gemm_f32;
    k->gemm_bf16 = gemm_bf16;
    for (int f = 0; f < ASSAY_FORM_COUNT; f++) {
        k->gemv_f32[f] = gemv_f32;
        k->gemv_bf16[f] = gemv_bf16;
        k->unpack_f32[f] = unpack_f32;
        k->unpack_bf16[f] = unpack_bf16;
    }
}
