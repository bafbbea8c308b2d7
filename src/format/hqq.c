/* hqq.c: the convention of hqq (0.2.8: core/quantize.py, core/bitpack.py, core/utils.py), as HQQLinear.state_dict encodes it for
 * safetensors, which is how transformers saved it. For module X of shape [o, i] in groups of k columns, N = o*i/k groups one below the other:
 *
 *   X.W_q    bits 8, 6, 5  U8 [N, k]            one code a byte
 *            bits 4        U8 [N/2, k]          row r: group r in the high, group r + N/2 in the low nibble
 *            bits 2        U8 [N/4, k]          groups r, r + N/4, ... from the high bits down
 *            bits 3        I32 [ceil(N/10), k]  ten groups a word, at bits 27, 24, ... 0; filled up with zeros
 *   X.scale  [N, 1]
 *   X.zero   [N, 1]                             w = (q - zero) * scale, in the compute dtype
 *
 * and what it is, as tensors: nbits, group_size, axis I32 [], shape I64 [2], packing, compute_dtype, unpack_view_dtype U8 text, the switches
 * U8 []. Those that tell how hqq came to its codes (optimize, round_zero, channel_wise) are written as its own defaults are; they change
 * nothing in reading.
 *
 * Only groups along the rows (axis 1) are read: with axis 0 a scale belongs to weights of many rows. Scales that are quantized themselves
 * were given up by hqq and are refused. */
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"

bool assay_hqq_has(const assay_want *w) {
    return assay_want_find(w, ".W_q") != NULL;
}

/* --- packing --- */

/* How codes of some width lie in words: `per` rows of groups share a word of `bytes`, `bits` apart. */
typedef struct packing {
    int bits, per, step, bytes;
    const char *name, *view;
} packing;

static const packing PACKINGS[] = {
    {8, 1, 8, 1, "8bit_u8", "torch.uint8"},  {6, 1, 8, 1, "8bit_u8", "torch.uint8"},
    {5, 1, 8, 1, "8bit_u8", "torch.uint8"},  {4, 2, 4, 1, "4bit_u8", "torch.uint8"},
    {3, 10, 3, 4, "3bit_32", "torch.int32"}, {2, 4, 2, 1, "2bit_u8", "torch.uint8"},
};

static const packing *find_packing(int64_t bits) {
    for (size_t i = 0; i < ASSAY_LEN(PACKINGS); i++)
        if (PACKINGS[i].bits == bits) return &PACKINGS[i];
    return NULL;
}

/* Rows of words that n groups take; only three bits fill up an incomplete one. */
static int64_t packed_rows(const packing *p, int64_t n) {
    return (n + p->per - 1) / p->per;
}

static void pack(uint8_t *out, const packing *p, const uint8_t *codes, int64_t n, int64_t k) {
    int64_t rows = packed_rows(p, n);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < k; c++) {
            uint32_t word = 0;
            for (int64_t j = 0; j < p->per; j++) {
                int64_t g = j * rows + r;
                word = word << p->step | (g < n ? codes[g * k + c] : 0);
            }
            memcpy(out + (r * k + c) * p->bytes, &word, (size_t)p->bytes);
        }
}

static void unpack(uint8_t *codes, const packing *p, const uint8_t *in, int64_t n, int64_t k) {
    int64_t rows = packed_rows(p, n);
    uint32_t mask = (1u << p->step) - 1;
    for (int64_t g = 0; g < n; g++) {
        int64_t r = g % rows, shift = (p->per - 1 - g / rows) * p->step;
        for (int64_t c = 0; c < k; c++) {
            uint32_t word = 0;
            memcpy(&word, in + (r * k + c) * p->bytes, (size_t)p->bytes);
            codes[g * k + c] = (uint8_t)(word >> shift & mask);
        }
    }
}

/* --- reading --- */

/* A number that is stored as a tensor of one element; `fallback` where it is missing. */
static assay_status read_number(int64_t *out, const assay_want *w, const char *suffix, int64_t fallback,
                                assay_err *err) {
    const assay_tensor *t = assay_want_find(w, suffix);
    int32_t narrow;
    *out = fallback;
    if (!t) return ASSAY_OK;
    if (t->dtype == ASSAY_DTYPE_U8 || t->dtype == ASSAY_DTYPE_BOOL) {
        ASSAY_TRY(assay_want_tensor(t, t->dtype, 1, err));
        *out = *(const uint8_t *)t->data;
        return ASSAY_OK;
    }
    if (t->dtype == ASSAY_DTYPE_I64) {
        ASSAY_TRY(assay_want_tensor(t, t->dtype, 1, err));
        memcpy(out, t->data, 8);
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I32, 1, err));
    memcpy(&narrow, t->data, 4);
    *out = narrow;
    return ASSAY_OK;
}

static assay_status read_meta(assay_matrix *m, const packing **p, const assay_want *w, assay_err *err) {
    const assay_tensor *t;
    int64_t shape[2], bits, group, axis, nested[2];
    ASSAY_TRY(assay_want_get(&t, w, ".shape", err));
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I64, 2, err));
    memcpy(shape, t->data, 16);
    ASSAY_TRY(assay_want_shape(w, shape[0], shape[1], err));
    ASSAY_TRY(read_number(&bits, w, ".nbits", 0, err));
    ASSAY_TRY(read_number(&group, w, ".group_size", shape[1], err));
    ASSAY_TRY(read_number(&axis, w, ".axis", 1, err));
    ASSAY_TRY(read_number(&nested[0], w, ".quant_scale", 0, err));
    ASSAY_TRY(read_number(&nested[1], w, ".quant_zero", 0, err));
    *p = find_packing(bits);
    if (!*p)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s.nbits is %lld: 2, 3, 4, 5, 6 and 8 are supported",
                          w->module, (long long)bits);
    if (axis != 1 || nested[0] || nested[1])
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %s, which is not supported", w->module,
                          axis != 1 ? "groups down the columns (axis 0)"
                                    : "scales that are quantized themselves");
    if (group < 1 || shape[1] % group != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s has groups of %lld, which do not divide its %lld columns", w->module,
                          (long long)group, (long long)shape[1]);
    m->rows = shape[0];
    m->cols = shape[1];
    m->group_size = group;
    m->precision = (assay_precision)(ASSAY_PRECISION_INT2 + (bits - 2));
    return ASSAY_OK;
}

/* The dtype in which HQQLinear computes. */
static void read_compute_dtype(assay_matrix *m, const assay_want *w) {
    static const struct {
        const char *name;
        assay_dtype dtype;
    } NAMES[] = {{"torch.bfloat16", ASSAY_DTYPE_BF16},
                 {"torch.float16", ASSAY_DTYPE_F16},
                 {"torch.float32", ASSAY_DTYPE_F32}};
    const assay_tensor *t = assay_want_find(w, ".compute_dtype");
    m->act_dtype = w->dense_act;
    for (size_t i = 0; t && i < ASSAY_LEN(NAMES); i++)
        if (t->n_bytes == strlen(NAMES[i].name) && memcmp(t->data, NAMES[i].name, t->n_bytes) == 0)
            m->act_dtype = NAMES[i].dtype;
}

assay_status assay_hqq_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *codes, *scale, *zero;
    const packing *p;
    int64_t groups, words;
    *m = (assay_matrix){.act_bits = 16};
    ASSAY_TRY(read_meta(m, &p, w, err));
    ASSAY_TRY(assay_want_get(&codes, w, ".W_q", err));
    ASSAY_TRY(assay_want_get(&scale, w, ".scale", err));
    ASSAY_TRY(assay_want_get(&zero, w, ".zero", err));
    /* The tensor bounds the shape before anything is allocated for it; its type may be another
     * (view_as_float). */
    if (__builtin_mul_overflow(m->rows, m->cols / m->group_size, &groups) || groups > INT64_MAX - 10 ||
        __builtin_mul_overflow(packed_rows(p, groups), m->group_size, &words) || words > INT64_MAX / 4 ||
        (p->per < 10 && groups % p->per != 0) || (uint64_t)words * (uint64_t)p->bytes != codes->n_bytes)
        return assay_fail(err, ASSAY_EINPUT,
                          "tensor %s has %zu bytes, which do not hold %lld x %lld codes of %d bits",
                          codes->name, codes->n_bytes, (long long)m->rows, (long long)m->cols, p->bits);
    m->scale_dtype = assay_scale_dtype(scale);
    ASSAY_TRY(assay_matrix_alloc(m, false, err));
    m->real_zeros = assay_mallocn((size_t)m->n_scales, sizeof *m->real_zeros);
    if (!m->real_zeros) return assay_nomem(err);
    ASSAY_TRY(assay_want_scales(m->scales, scale, m->n_scales, err));
    ASSAY_TRY(assay_want_scales(m->real_zeros, zero, m->n_scales, err));
    if (!w->outline) unpack(m->codes, p, codes->data, m->n_scales, m->group_size);
    read_compute_dtype(m, w);
    return ASSAY_OK;
}

/* --- writing --- */

static assay_status put_codes(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                              const packing *p, int64_t k, assay_err *err) {
    int64_t dims[2] = {packed_rows(p, m->n_scales), k};
    uint8_t *packed = assay_mallocn((size_t)(dims[0] * k), (size_t)p->bytes);
    if (!packed) return assay_nomem(err);
    if (!assay_ckpt_writer_is_planning(w)) pack(packed, p, m->codes, m->n_scales, k);
    assay_status s = assay_put_part(w, module, ".W_q", p->bytes == 4 ? ASSAY_DTYPE_I32 : ASSAY_DTYPE_U8, 2,
                                    dims, packed, err);
    assay_free(packed);
    return s;
}

/* Zero points as real numbers, also where they are whole ones. */
static assay_status put_zeros(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                              const int64_t dims[2], assay_err *err) {
    float *zero = assay_mallocn((size_t)m->n_scales, sizeof *zero);
    if (!zero) return assay_nomem(err);
    for (int64_t i = 0; i < m->n_scales; i++)
        zero[i] = m->real_zeros ? m->real_zeros[i]
                  : m->zeros    ? (float)m->zeros[i]
                                : (float)(1 << (assay_precision_bits(m->precision) - 1));
    assay_status s = assay_put_floats(w, module, ".zero", m->scale_dtype, 2, dims, zero, "zero point", err);
    assay_free(zero);
    return s;
}

static assay_status put_meta(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                             const packing *p, int64_t k, assay_err *err) {
    const struct {
        const char *suffix;
        int32_t value;
    } numbers[] = {{".nbits", p->bits}, {".group_size", (int32_t)k}, {".axis", 1}};
    const struct {
        const char *suffix;
        uint8_t value;
    } switches[] = {{".view_as_float", 0}, {".quant_scale", 0},           {".quant_zero", 0},
                    {".offload_meta", 0},  {".encoded_state_dict", 1},    {".channel_wise", 1},
                    {".optimize", 1},      {".round_zero", p->bits == 4}, {".stores_quant_config", 1}};
    const char *compute = m->scale_dtype == ASSAY_DTYPE_BF16  ? "torch.bfloat16"
                          : m->scale_dtype == ASSAY_DTYPE_F16 ? "torch.float16"
                                                              : "torch.float32";
    const struct {
        const char *suffix, *value;
    } texts[] = {{".packing", p->name}, {".unpack_view_dtype", p->view}, {".compute_dtype", compute}};
    for (size_t i = 0; i < ASSAY_LEN(numbers); i++)
        ASSAY_TRY(assay_put_part(w, module, numbers[i].suffix, ASSAY_DTYPE_I32, 0, &m->rows,
                                 &numbers[i].value, err));
    for (size_t i = 0; i < ASSAY_LEN(switches); i++)
        ASSAY_TRY(assay_put_part(w, module, switches[i].suffix, ASSAY_DTYPE_U8, 0, &m->rows,
                                 &switches[i].value, err));
    for (size_t i = 0; i < ASSAY_LEN(texts); i++)
        ASSAY_TRY(assay_put_part(w, module, texts[i].suffix, ASSAY_DTYPE_U8, 1,
                                 (int64_t[]){(int64_t)strlen(texts[i].value)}, texts[i].value, err));
    return assay_put_part(w, module, ".shape", ASSAY_DTYPE_I64, 1, (int64_t[]){2},
                          (int64_t[]){m->rows, m->cols}, err);
}

assay_status assay_hqq_check(const char *module, const assay_matrix *m, assay_err *err) {
    const packing *p = find_packing(assay_precision_bits(m->precision));
    int64_t k = m->group_size > 0 ? m->group_size : m->cols;
    if (assay_precision_get_kind(m->precision) != ASSAY_KIND_INT || !p || m->g_idx || m->act_bits == 8)
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "%s: hqq holds int2, int3, int4, int5, int6 and int8 with 16-bit activations, not %s%s%s", module,
            assay_precision_name(m->precision), m->g_idx ? " in activation order" : "",
            m->act_bits == 8 ? " with 8-bit activations" : "");
    if (m->cols % k != 0 || k > INT32_MAX || (p->per < 10 && m->n_scales % p->per != 0))
        return assay_fail(
            err, ASSAY_EUNSUPPORTED,
            "%s: hqq packs %d of its %lld groups together, and groups of %lld must divide the %lld columns",
            module, p->per, (long long)m->n_scales, (long long)k, (long long)m->cols);
    return ASSAY_OK;
}

assay_status assay_hqq_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                           assay_dtype model_dtype, assay_err *err) {
    (void)model_dtype;
    const packing *p = find_packing(assay_precision_bits(m->precision));
    int64_t k = m->group_size > 0 ? m->group_size : m->cols, dims[2] = {m->n_scales, 1};
    ASSAY_TRY(assay_hqq_check(module, m, err));
    ASSAY_TRY(put_codes(w, module, m, p, k, err));
    ASSAY_TRY(assay_put_floats(w, module, ".scale", m->scale_dtype, 2, dims, m->scales, "scale", err));
    ASSAY_TRY(put_zeros(w, module, m, dims, err));
    return put_meta(w, module, m, p, k, err);
}
