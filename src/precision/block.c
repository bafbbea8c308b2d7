/* block.c: ggml's block types as matrices: the table of blocks.def, decoding, checks. What a block's bytes
 * mean is in block_expand.c, how they are chosen in the encoders block_*.c and iq_*.c.
 *
 * A block's own scales are float16 numbers at its head or its tail; whatever else it scales by are small
 * integers, so that a block is finite when they are. IQ1_M alone has its scale in pieces, four bits in
 * each of four words. */
#include <math.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/block_impl.h"

#define NEEDS_IMPORTANCE(P)                                                                                  \
    ((P) == ASSAY_PRECISION_IQ2_XXS || (P) == ASSAY_PRECISION_IQ2_XS || (P) == ASSAY_PRECISION_IQ1_S ||      \
     (P) == ASSAY_PRECISION_IQ1_M)

static const assay_block_info INFO[] = {
#define B(NAME, name, bits, type, elements, bytes, group, mins)                                              \
    {name, type, elements, bytes, group, mins, NEEDS_IMPORTANCE(ASSAY_PRECISION_##NAME)},
#include "precision/blocks.def"
#undef B
};
enum { N_BLOCKS = sizeof INFO / sizeof INFO[0] };

/* blocks.def is included by precisions.def in one piece. */
static const assay_precision FIRST = ASSAY_PRECISION_Q4_0;

const assay_block_info *assay_block_get(assay_precision p) {
    return p >= FIRST && (int)p < (int)FIRST + N_BLOCKS ? &INFO[p - FIRST] : NULL;
}

bool assay_block_of_ggml(assay_precision *out, int ggml_type) {
    for (int i = 0; i < N_BLOCKS; i++) {
        if (INFO[i].ggml_type == ggml_type) {
            *out = (assay_precision)((int)FIRST + i);
            return true;
        }
    }
    return false;
}

size_t assay_block_row_bytes(assay_precision p, int64_t cols) {
    const assay_block_info *b = assay_block_get(p);
    size_t n;
    if (!b || cols < 1 || cols % b->elements != 0) return 0;
    return assay_mul_size(&n, (size_t)(cols / b->elements), (size_t)b->bytes) ? n : 0;
}

void assay_block_decode_row(float *restrict out, const assay_matrix *m, int64_t row) {
    const assay_block_info *b = assay_block_get(m->precision);
    const uint8_t *block =
        (const uint8_t *)m->data + (size_t)row * assay_block_row_bytes(m->precision, m->cols);
    int8_t q[ASSAY_BLOCK_MAX];
    float scales[ASSAY_BLOCK_MAX_GROUPS], mins[ASSAY_BLOCK_MAX_GROUPS];
    for (int64_t c = 0; c < m->cols; c += b->elements, block += b->bytes) {
        assay_block_expand(q, scales, mins, m->precision, block);
        for (int i = 0; i < b->elements; i += b->group) {
            float scale = scales[i / b->group];
            for (int k = i; k < i + b->group; k++) out[c + k] = (float)q[k] * scale;
            if (!b->has_mins) continue;
            float min = mins[i / b->group];
            for (int k = i; k < i + b->group; k++) out[c + k] -= min;
        }
    }
}

double assay_block_bits(const assay_matrix *m) {
    return 8.0 * (double)m->rows * (double)assay_block_row_bytes(m->precision, m->cols);
}

/* Where the float16 numbers of a block begin; -1: nowhere in one piece. */
static int halves_at(assay_precision p, const assay_block_info *b) {
    switch (p) {
    case ASSAY_PRECISION_IQ1_M:
        return -1;
    case ASSAY_PRECISION_Q2_K:
    case ASSAY_PRECISION_Q3_K:
    case ASSAY_PRECISION_Q6_K:
    case ASSAY_PRECISION_TQ1_0:
    case ASSAY_PRECISION_TQ2_0:
        return b->bytes - (b->has_mins ? 4 : 2);
    default:
        return 0;
    }
}

static bool is_finite_half(uint32_t half) {
    return (half & 0x7c00) != 0x7c00;
}

static bool is_finite_block(const uint8_t *block, int at, bool two) {
    if (at < 0) return is_finite_half(assay_iq1_m_scale(block));
    return is_finite_half(assay_load16(block + at)) && (!two || is_finite_half(assay_load16(block + at + 2)));
}

assay_status assay_block_check(const assay_matrix *m, const char *name, assay_err *err) {
    const assay_block_info *b = assay_block_get(m->precision);
    int64_t elements;
    if (m->rows < 1 || m->cols < 1 || __builtin_mul_overflow(m->rows, m->cols, &elements) ||
        elements > INT64_MAX / 4)
        return assay_fail(err, ASSAY_EINPUT, "%s: a %s matrix of %lld x %lld is impossible", name, b->name,
                          (long long)m->rows, (long long)m->cols);
    if (m->cols % b->elements != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: rows of %lld are no whole %s blocks of %d", name,
                          (long long)m->cols, b->name, b->elements);
    if (!m->data) return assay_fail(err, ASSAY_EINPUT, "%s: a %s matrix without blocks", name, b->name);
    int at = halves_at(m->precision, b);
    const uint8_t *block = m->data;
    for (int64_t i = 0; i < elements; i += b->elements, block += b->bytes)
        if (!is_finite_block(block, at, b->has_mins))
            return assay_fail(err, ASSAY_EINPUT,
                              "%s: the scale of row %lld from column %lld is NaN or infinite", name,
                              (long long)(i / m->cols), (long long)(i % m->cols));
    return ASSAY_OK;
}
