/* kern/ref/att_ref.c: the reference for attention. */
#include "kern/ref/ref.h"

static float element(const void *p, size_t i, assay_kern_kv type) {
    float f;
    uint16_t h;
    if (type == ASSAY_KERN_KV_F32) {
        memcpy(&f, (const char *)p + 4 * i, 4);
        return f;
    }
    memcpy(&h, (const char *)p + 2 * i, 2);
    return type == ASSAY_KERN_KV_BF16 ? assay_bf16_to_f32(h) : assay_f16_to_f32(h);
}

static void att_query(const assay_att *a, size_t i, const void *k, const void *v, size_t lo, size_t hi,
                      assay_kern_kv type) {
    float s[ASSAY_KERN_PAGE], top = a->max[i], *acc = a->acc + i * a->head_pad, *sum = a->sum + 16 * i;
    for (size_t j = lo; j < hi; j++) {
        s[j] = 0;
        for (size_t d = 0; d < a->head_dim; d++)
            s[j] = fmaf(a->q[i * a->head_pad + d], element(k, d * ASSAY_KERN_PAGE + j, type), s[j]);
        s[j] *= a->scale;
        if (a->soft_cap > 0) s[j] = assay_ref_tanh(s[j] / a->soft_cap) * a->soft_cap;
        if (top < s[j]) top = s[j];
    }
    float decay = assay_ref_exp(a->max[i] - top);
    for (int l = 0; l < 16; l++)
        sum[l] *= decay;
    for (size_t d = 0; d < a->head_pad; d++)
        acc[d] *= decay;
    for (size_t j = lo; j < hi; j++) {
        float p = assay_ref_exp(s[j] - top);
        sum[j % 16] += p;
        for (size_t d = 0; d < a->head_pad; d++)
            acc[d] = fmaf(p, element(v, j * a->head_pad + d, type), acc[d]);
    }
    a->max[i] = top;
}
static void att_page_f32(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                         size_t hi) {
    for (size_t i = first; i < first + n; i++)
        att_query(a, i, k, v, lo, hi, ASSAY_KERN_KV_F32);
}
static void att_page_bf16(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                          size_t hi) {
    for (size_t i = first; i < first + n; i++)
        att_query(a, i, k, v, lo, hi, ASSAY_KERN_KV_BF16);
}
static void att_page_f16(const assay_att *a, size_t first, size_t n, const void *k, const void *v, size_t lo,
                         size_t hi) {
    for (size_t i = first; i < first + n; i++)
        att_query(a, i, k, v, lo, hi, ASSAY_KERN_KV_F16);
}
static void att_finish(float *out, const assay_att *a, size_t i) {
    float sum = ref_fold(a->sum + 16 * i);
    for (size_t d = 0; d < a->head_dim; d++)
        out[d] = a->acc[i * a->head_pad + d] / sum;
}

static void unpack_int(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols,
                       assay_kern_pack f) {
    size_t stride = assay_kern_pack_stride(f, cols), per_row = (cols + 63) / 64,
           groups = assay_kern_pack_groups(rows, cols);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            const uint8_t *row = tile + r * stride, *at = tile + rows * stride + 2 * (r * per_row + c / 64);
            uint16_t scale, offset;
            int code =
                f == ASSAY_KERN_KV8 ? row[c] : (row[c / 32 * 16 + c % 16] >> (c % 32 < 16 ? 0 : 4)) & 15;
            memcpy(&scale, at, 2);
            memcpy(&offset, at + 2 * groups, 2);
            out[r * ld + c] = fmaf((float)code, assay_f16_to_f32(scale), assay_f16_to_f32(offset));
        }
}
static void unpack_kv8(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols) {
    unpack_int(out, ld, tile, rows, cols, ASSAY_KERN_KV8);
}
static void unpack_kv4(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols) {
    unpack_int(out, ld, tile, rows, cols, ASSAY_KERN_KV4);
}
static void unpack_kve4m3(float *out, size_t ld, const uint8_t *tile, size_t rows, size_t cols) {
    size_t stride = assay_kern_pack_stride(ASSAY_KERN_KVE4M3, cols);
    float scale;
    memcpy(&scale, tile + rows * stride, sizeof scale);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[r * ld + c] = assay_e4m3_to_f32(tile[r * stride + c]) * scale;
}

void assay_kern_set_att_ref(assay_kern *k) {
    k->unpack_kv[ASSAY_KERN_KV8] = unpack_kv8;
    k->unpack_kv[ASSAY_KERN_KV4] = unpack_kv4;
    k->unpack_kv[ASSAY_KERN_KVE4M3] = unpack_kve4m3;
    k->att_page[ASSAY_KERN_KV_F32] = att_page_f32;
    k->att_page[ASSAY_KERN_KV_BF16] = att_page_bf16;
    k->att_page[ASSAY_KERN_KV_F16] = att_page_f16;
    k->att_finish = att_finish;
}
