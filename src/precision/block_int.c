/* block_int.c: between ggml's blocks of 32 and integer matrices without touching a code.
 *
 * Both mean the same numbers where a block's scale is one group's scale:
 *
 *   Q4_0, Q5_0, Q8_0   w = q d          INT: (code - zero) scale, q = code - zero, whatever the zero point
 *   Q4_1, Q5_1         w = code d + m   INT: (code - zero) scale, m = -zero scale, where that is a float16
 *
 * All products are exact in float32 (codes and zero points have at most 8 bits, scales 11), so that equal
 * sums are equal floats. A group that spans several blocks has its scale in each of them. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "num/convert.h"
#include "precision/block_encode.h"
#include "precision/grid.h"

enum { N = 32 };

typedef struct form {
    assay_precision block, integer; /* integer: of the same width */
    bool shifted;
} form;

static const form FORMS[] = {
    {ASSAY_PRECISION_Q4_0, ASSAY_PRECISION_INT4, false}, {ASSAY_PRECISION_Q4_1, ASSAY_PRECISION_INT4, true},
    {ASSAY_PRECISION_Q5_0, ASSAY_PRECISION_INT5, false}, {ASSAY_PRECISION_Q5_1, ASSAY_PRECISION_INT5, true},
    {ASSAY_PRECISION_Q8_0, ASSAY_PRECISION_INT8, false},
};

static const form *find_form(assay_precision block) {
    for (size_t i = 0; i < ASSAY_LEN(FORMS); i++)
        if (FORMS[i].block == block) return &FORMS[i];
    return NULL;
}

static bool refuse(char why[160], const char *fmt, ...) ASSAY_PRINTF(2, 3);

static bool refuse(char why[160], const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, 160, fmt, args);
    va_end(args);
    return false;
}

/* --- to integers --- */

/* The zero point that the block's minimum is, or -1. */
static int zero_of(float scale, float min, int top) {
    if (min == 0) return 0;
    for (int z = 1; z <= top; z++)
        if ((float)z * scale == min) return z;
    return -1;
}

/* Block k of the matrix into group k. */
static bool put_group(assay_matrix *out, const form *f, int64_t k, const uint8_t *block, char why[160]) {
    int bits = assay_precision_bits(f->integer), middle = f->shifted ? 0 : 1 << (bits - 1);
    int8_t q[N];
    float min;
    assay_block_expand(q, &out->scales[k], &min, f->block, block);
    for (int i = 0; i < N; i++) out->codes[k * N + i] = (uint8_t)(q[i] + middle);
    if (!isfinite(out->scales[k]) || (f->shifted && !isfinite(min)))
        return refuse(why, "has a scale that is NaN or infinite in row %lld", (long long)(k * N / out->cols));
    if (!f->shifted) return true;
    int zero = zero_of(out->scales[k], min, (1 << bits) - 1);
    if (zero < 0)
        return refuse(why, "has a minimum of %g in row %lld column %lld, no multiple of its scale %g",
                      (double)-min, (long long)(k * N / out->cols), (long long)(k * N % out->cols),
                      (double)out->scales[k]);
    out->zeros[k] = (uint8_t)zero;
    return true;
}

bool assay_block_to_int(assay_matrix *out, const assay_matrix *m, char why[160]) {
    const form *f = find_form(m->precision);
    *out = (assay_matrix){0};
    if (!f)
        return refuse(why, "is %s, whose blocks are more than integers with a scale per group",
                      assay_precision_name(m->precision));
    *out = (assay_matrix){.precision = f->integer,
                          .rows = m->rows,
                          .cols = m->cols,
                          .group_size = N,
                          .scale_dtype = ASSAY_DTYPE_F16,
                          .act_bits = 16,
                          .act_dtype = m->act_dtype};
    if (assay_matrix_alloc(out, f->shifted, NULL) != ASSAY_OK)
        return refuse(why, "cannot be converted: out of memory");
    const uint8_t *block = m->data;
    size_t bytes = (size_t)assay_block_get(m->precision)->bytes;
    for (int64_t k = 0; k < out->n_scales; k++, block += bytes) {
        if (put_group(out, f, k, block, why)) continue;
        assay_matrix_deinit(out);
        return false;
    }
    return true;
}

/* --- from integers --- */

static bool is_half(float x) {
    return assay_f16_to_f32(assay_f32_to_f16(x)) == x;
}

/* What speaks against the matrix as a whole. */
static bool check_whole(const assay_matrix *m, assay_precision p, const form *f, char why[160]) {
    const char *name = assay_precision_name(p);
    if (!f)
        return refuse(why, "cannot be %s, whose blocks are more than integers with a scale per group", name);
    if (assay_precision_get_kind(m->precision) != ASSAY_KIND_INT)
        return refuse(why, "is %s, %s holds integers", assay_precision_name(m->precision), name);
    if (m->real_zeros) return refuse(why, "has zero points that are real numbers, %s has none", name);
    if (m->g_idx)
        return refuse(why, "has groups in the order of activations, %s has them in the columns' order", name);
    if (m->cols % N != 0)
        return refuse(why, "has rows of %lld, no multiple of %s's %d", (long long)m->cols, name, N);
    if (m->group_size % N != 0)
        return refuse(why, "has a group size of %lld, %s has %d", (long long)m->group_size, name, N);
    return true;
}

/* A group's part of the blocks, the same in each of them. */
typedef struct group {
    uint8_t head[4]; /* scale, and minimum where the form is shifted */
    int zero, shift; /* shift: from the matrix's codes to the block's */
} group;

static bool fit_group(group *out, const form *f, float scale, int zero, int64_t row, int64_t col, char why[160]) {
    const char *name = assay_precision_name(f->block);
    float min = -(float)zero * scale;
    if (!is_half(scale))
        return refuse(why, "has a scale of %.9g in row %lld column %lld, %s has float16", (double)scale, (long long)row, (long long)col, name);
    if (f->shifted && !is_half(min))
        return refuse(why, "has zero point %d times scale %.9g in row %lld column %lld, too long for %s's float16", zero, (double)scale,
                      (long long)row, (long long)col, name);
    assay_store_half(out->head, scale);
    if (f->shifted) assay_store_half(out->head + 2, min);
    out->zero = zero;
    out->shift = f->shifted ? 0 : (1 << (assay_precision_bits(f->block) - 1)) - zero;
    return true;
}

/* A block's codes; false when one of them has no room. */
static bool shift_codes(uint8_t *restrict out, const uint8_t *restrict codes, int shift, int bits) {
    uint16_t all = 0;
    for (int i = 0; i < N; i++) {
        int16_t code = (int16_t)(codes[i] + shift);
        all |= (uint16_t)code;
        out[i] = (uint8_t)code;
    }
    return all >> bits == 0;
}

static bool refuse_code(const uint8_t *codes, const group *g, const form *f, int64_t row, int64_t col, char why[160]) {
    int top = ~((1 << assay_precision_bits(f->block)) - 1), i = 0;
    while (((codes[i] + g->shift) & top) == 0) i++;
    return refuse(why, "has code %d with zero point %d in row %lld column %lld, beyond %s", codes[i], g->zero, (long long)row,
                  (long long)(col + i), assay_precision_name(f->block));
}

static void put_block(uint8_t *out, const form *f, const uint8_t *codes, const group *g) {
    size_t n_head = f->shifted ? 4 : 2;
    memcpy(out, g->head, n_head);
    if (f->block == ASSAY_PRECISION_Q8_0)
        for (int i = 0; i < N; i++) out[n_head + (size_t)i] = (uint8_t)(codes[i] - 128);
    else
        assay_join_codes32(out + n_head, codes, assay_precision_bits(f->block) == 5);
}

/* One row, group by group. */
static bool put_row(uint8_t *out, const assay_matrix *m, int64_t row, const form *f, char why[160]) {
    int64_t n_groups = assay_matrix_n_groups(m), size = m->group_size > 0 ? m->group_size : m->cols;
    int bits = assay_precision_bits(f->block), middle = 1 << (assay_precision_bits(m->precision) - 1);
    size_t bytes = (size_t)assay_block_get(f->block)->bytes;
    uint8_t codes[N];
    for (int64_t k = 0; k < n_groups; k++) {
        int64_t at = row * n_groups + k;
        group g;
        if (!fit_group(&g, f, m->scales[at], m->zeros ? m->zeros[at] : middle, row, k * size, why)) return false;
        for (int64_t c = k * size; c < ASSAY_MIN((k + 1) * size, m->cols); c += N, out += bytes) {
            const uint8_t *from = m->codes + row * m->cols + c;
            if (!shift_codes(codes, from, g.shift, bits)) return refuse_code(from, &g, f, row, c, why);
            put_block(out, f, codes, &g);
        }
    }
    return true;
}

bool assay_block_from_int(assay_matrix *out, const assay_matrix *m, assay_precision p, char why[160]) {
    const form *f = find_form(p);
    *out = (assay_matrix){0};
    if (!check_whole(m, p, f, why)) return false;
    size_t row_bytes = assay_block_row_bytes(p, m->cols);
    uint8_t *blocks = assay_mallocn((size_t)m->rows, row_bytes);
    if (!blocks) return refuse(why, "cannot be converted: out of memory");
    for (int64_t r = 0; r < m->rows; r++) {
        if (put_row(blocks + (size_t)r * row_bytes, m, r, f, why)) continue;
        assay_free(blocks);
        return false;
    }
    *out = (assay_matrix){.precision = p,
                          .rows = m->rows,
                          .cols = m->cols,
                          .data = blocks,
                          .owns_data = true,
                          .act_bits = 16,
                          .act_dtype = m->act_dtype};
    return true;
}
