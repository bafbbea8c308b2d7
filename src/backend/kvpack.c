/* backend/kvpack.c: the packed form of a KV page: choosing codes and scales. Reading it is a kernel
 * (kern/body/att.h).
 *
 * INT8, INT4  asymmetric codes as KIVI has them (Liu et al. 2024, KIVI, section 3.2): the keys of a page per
 *             channel, because a few channels of keys are large at every token; the values per token, in
 * pieces of 64 channels, because attention mixes tokens and an outlier token must not spoil its neighbours.
 * Both are rows of the page as it lies in memory (keys are transposed), so there is one loop. FP8 e4m3 with
 * absmax / 448 of the page's head as float32 scale. compressed-tensors and vLLM have one static scale per
 * tensor from calibration (or 1): theirs costs nothing at all, clips what calibration did not see, and cannot
 * be had without calibration data. Four bytes per 64 tokens and head buy that.
 *
 * Offset and scale are float16, the offset rounded down and the scale up: then the codes reach both ends of
 * the group and rounding the offset costs a little resolution instead of a shift of the whole group. A group
 * that is not finite, or beyond float16, gets a NaN scale, so that the trouble is seen and not averaged away.
 */
#include <math.h>
#include <string.h>
#include "backend/internal.h"
#include "num/convert.h"

#define GROUP    ASSAY_KERN_PACK_GROUP
#define E4M3_MAX 448.0f
#define F16_NAN  0x7e00

assay_kern_pack backend_pack_form(assay_kv_pack pack) {
    return pack == ASSAY_KV_PACK_INT4   ? ASSAY_KERN_KV4
           : pack == ASSAY_KV_PACK_INT8 ? ASSAY_KERN_KV8
                                        : ASSAY_KERN_KVE4M3;
}

size_t backend_packed_head(assay_kv_pack pack, size_t head_dim, bool values) {
    assay_kern_pack f = backend_pack_form(pack);
    return values ? assay_kern_pack_bytes(f, ASSAY_KV_PAGE, head_dim)
                  : assay_kern_pack_bytes(f, head_dim, ASSAY_KV_PAGE);
}

void assay_kv_packed_bytes(size_t *keys, size_t *values, assay_kv_pack pack, int n_kv_heads, int head_dim) {
    *keys = (size_t)n_kv_heads * backend_packed_head(pack, (size_t)head_dim, false);
    *values = (size_t)n_kv_heads * backend_packed_head(pack, (size_t)head_dim, true);
}

/* A neighbour of float16 number h: the next one below (-1) or above (+1). Infinity stays. */
static uint16_t f16_step(uint16_t h, int way) {
    if ((h & 0x7fff) >= 0x7c00) return h;
    if ((h & 0x7fff) == 0) return way < 0 ? 0x8001 : 0x0001;
    bool grows = (h & 0x8000) ? way < 0 : way > 0;
    return (uint16_t)(grows ? h + 1 : h - 1);
}
static uint16_t f16_floor(float x) {
    uint16_t h = assay_f32_to_f16(x);
    return assay_f16_to_f32(h) > x ? f16_step(h, -1) : h;
}
static uint16_t f16_ceil(float x) {
    uint16_t h = assay_f32_to_f16(x);
    return assay_f16_to_f32(h) < x ? f16_step(h, 1) : h;
}

/* Codes, scale and offset of up to GROUP numbers. */
static void encode_group(uint8_t *code, uint16_t *scale, uint16_t *offset, const float *x, size_t n,
                         int levels) {
    float lo = x[0], hi = x[0];
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        lo = x[i] < lo ? x[i] : lo;
        hi = hi < x[i] ? x[i] : hi;
    }
    memset(code, 0, GROUP);
    *offset = finite ? f16_floor(lo) : 0;
    float base = assay_f16_to_f32(*offset);
    *scale = finite ? f16_ceil((hi - base) / (float)levels) : F16_NAN;
    float step = assay_f16_to_f32(*scale);
    if (!isfinite(step) || !isfinite(base)) {
        *scale = F16_NAN;
        *offset = 0;
        return;
    }
    if (step == 0) return;
    for (size_t i = 0; i < n; i++) {
        float q = rintf((x[i] - base) / step);
        code[i] = (uint8_t)(q > (float)levels ? (float)levels : q);
    }
}

static void put_codes(uint8_t *out, const uint8_t *code, size_t n, assay_kern_pack f) {
    if (f == ASSAY_KERN_KV8) {
        memcpy(out, code, backend_up(n, 16));
        return;
    }
    for (size_t c = 0; c < n; c += 32)
        for (size_t i = 0; i < 16; i++)
            out[c / 2 + i] = (uint8_t)(code[c + i] | code[c + 16 + i] << 4);
}

/* A row of the page in its own type, as floats. */
static void read_row(float *x, const uint8_t *page, size_t at, size_t n, assay_kv_type type) {
    static const assay_dtype dtypes[] = {[ASSAY_KV_F32] = ASSAY_DTYPE_F32,
                                         [ASSAY_KV_BF16] = ASSAY_DTYPE_BF16,
                                         [ASSAY_KV_F16] = ASSAY_DTYPE_F16};
    assay_to_f32(x, page + at * assay_dtype_size(dtypes[type]), dtypes[type], n);
}

static void pack_int(uint8_t *tile, const uint8_t *page, size_t rows, size_t cols, size_t ld,
                     assay_kv_type type, assay_kern_pack f) {
    size_t stride = assay_kern_pack_stride(f, cols), groups = assay_kern_pack_groups(rows, cols), g = 0;
    uint8_t code[GROUP], *numbers = tile + rows * stride;
    uint16_t scale, offset;
    float x[GROUP];
    memset(numbers, 0, 4 * groups);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += GROUP, g++) {
            size_t n = ASSAY_MIN(cols - c, (size_t)GROUP);
            read_row(x, page, r * ld + c, n, type);
            encode_group(code, &scale, &offset, x, n, f == ASSAY_KERN_KV4 ? 15 : 255);
            put_codes(tile + r * stride + (f == ASSAY_KERN_KV4 ? c / 2 : c), code, n, f);
            memcpy(numbers + 2 * g, &scale, 2);
            memcpy(numbers + 2 * (groups + g), &offset, 2);
        }
}

static void pack_e4m3(uint8_t *tile, const uint8_t *page, size_t rows, size_t cols, size_t ld,
                      assay_kv_type type) {
    size_t stride = assay_kern_pack_stride(ASSAY_KERN_KVE4M3, cols);
    float x[GROUP], top = 0;
    bool finite = true;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += GROUP) {
            size_t n = ASSAY_MIN(cols - c, (size_t)GROUP);
            read_row(x, page, r * ld + c, n, type);
            for (size_t i = 0; i < n; i++) {
                finite = finite && isfinite(x[i]);
                top = fmaxf(top, fabsf(x[i]));
            }
        }
    float scale = finite ? top / E4M3_MAX : NAN;
    memset(tile, 0, rows * stride);
    memcpy(tile + rows * stride, &scale, sizeof scale);
    if (!(scale > 0)) return; /* zeros, or not finite: the scale says it */
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += GROUP) {
            size_t n = ASSAY_MIN(cols - c, (size_t)GROUP);
            read_row(x, page, r * ld + c, n, type);
            for (size_t i = 0; i < n; i++)
                tile[r * stride + c + i] = assay_f32_to_e4m3(x[i] / scale);
        }
}

static void pack_tile(uint8_t *tile, const uint8_t *page, size_t rows, size_t cols, size_t ld,
                      assay_kv_type type, assay_kern_pack f) {
    if (f == ASSAY_KERN_KVE4M3)
        pack_e4m3(tile, page, rows, cols, ld, type);
    else
        pack_int(tile, page, rows, cols, ld, type, f);
}

void backend_pack_head(uint8_t *packed_k, uint8_t *packed_v, const uint8_t *k, const uint8_t *v,
                       assay_kv_type type, assay_kv_pack pack, size_t head_dim) {
    assay_kern_pack f = backend_pack_form(pack);
    pack_tile(packed_k, k, head_dim, ASSAY_KV_PAGE, ASSAY_KV_PAGE, type, f);
    if (v) pack_tile(packed_v, v, ASSAY_KV_PAGE, head_dim, backend_up(head_dim, 16), type, f);
}
