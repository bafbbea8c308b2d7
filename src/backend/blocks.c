/* backend/blocks.c: weights of ggml's block types (precision/block.h), for the float modes.
 *
 * Whatever a type's bytes are, they mean small signed codes with a scale, and for some a minimum, per group. That is
 * what the kernels' packed forms hold, exactly, so most types are repacked when a weight is made:
 *
 *   codes of at most 16 values     Q4, the values in its table: 4 bits a code; 32 per scale and per minimum of a
 *                                  block, and where it has groups 8 for each of theirs
 *   others                         S8: 8 bits and the same
 *   IQ1, IQ2                       not at all: packed they would take two to three times the memory for whose sake
 *                                  they were chosen. They stay in the file's mapping; kernels have forms of them */
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"
#include "precision/block.h"

typedef struct packing {
    assay_precision precision;
    assay_form form;
    int8_t values[16]; /* Q4: by code; zeros at the end where there are fewer */
} packing;

#define P(NAME) ASSAY_PRECISION_##NAME
#define TO_7    0, 1, 2, 3, 4, 5, 6, 7
#define TO_15   TO_7, 8, 9, 10, 11, 12, 13, 14, 15
#define IQ4     -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define IQ3_XXS 4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62
#define IQ3_S   1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15
static const packing PACKINGS[] = {
    {P(Q4_0), ASSAY_FORM_Q4, {-8, -7, -6, -5, -4, -3, -2, -1, TO_7}},
    {P(Q4_1), ASSAY_FORM_Q4, {TO_15}},
    {P(Q5_0), ASSAY_FORM_S8, {0}},
    {P(Q5_1), ASSAY_FORM_S8, {0}},
    {P(Q8_0), ASSAY_FORM_S8, {0}},
    {P(Q2_K), ASSAY_FORM_Q4, {0, 1, 2, 3}},
    {P(Q3_K), ASSAY_FORM_Q4, {0, 1, 2, 3, -4, -3, -2, -1}},
    {P(Q4_K), ASSAY_FORM_Q4, {TO_15}},
    {P(Q5_K), ASSAY_FORM_S8, {0}},
    {P(Q6_K), ASSAY_FORM_S8, {0}},
    {P(IQ4_NL), ASSAY_FORM_Q4, {IQ4}},
    {P(IQ4_XS), ASSAY_FORM_Q4, {IQ4}},
    {P(IQ3_XXS), ASSAY_FORM_Q4, {IQ3_XXS}},
    {P(IQ3_S), ASSAY_FORM_Q4, {IQ3_S}},
    {P(TQ1_0), ASSAY_FORM_Q4, {0, 1, -1}},
    {P(TQ2_0), ASSAY_FORM_Q4, {0, 1, 2, -1}},
    {P(IQ1_S), ASSAY_FORM_IQ1_S, {0}},
    {P(IQ1_M), ASSAY_FORM_IQ1_M, {0}},
    {P(IQ2_XXS), ASSAY_FORM_IQ2_XXS, {0}},
    {P(IQ2_XS), ASSAY_FORM_IQ2_XS, {0}},
    {P(IQ2_S), ASSAY_FORM_IQ2_S, {0}},
};
#undef P

/* --- repacking --- */

typedef struct job {
    const assay_matrix *m;
    const assay_weight *w;
    uint8_t *out;
    float *scales, *offsets; /* of groups, or of all groups of a block: units; offsets NULL: the type has no minima */
    int8_t *small_scales, *small_offsets; /* what the units multiply; NULL: a block is a group */
    uint8_t code[256];                    /* Q4: by value */
} job;

/* At most ASSAY_BLOCK_MAX columns as blocks of Q4; what fills up the last one is code 0. */
static void put_nibbles(uint8_t *out, const int8_t *q, size_t n, const uint8_t code[256]) {
    uint8_t c[ASSAY_BLOCK_MAX] = {0};
    for (size_t i = 0; i < n; i++) c[i] = code[(uint8_t)q[i]];
    for (size_t at = 0; at < n; at += ASSAY_KERN_BLOCK, out += ASSAY_KERN_BLOCK / 2)
        for (size_t word = 0; word < 32; word++) {
            const uint8_t *p = c + at + word;
            out[2 * word] = (uint8_t)(p[0] | p[32] << 4);
            out[2 * word + 1] = (uint8_t)(p[64] | p[96] << 4);
        }
}

static void put_scales(const job *j, const assay_block_parts *parts, size_t block, size_t n_groups) {
    j->scales[block] = parts->scale;
    if (j->offsets) j->offsets[block] = -parts->min;
    if (j->small_scales) memcpy(j->small_scales + block * n_groups, parts->scales, n_groups);
    if (j->small_offsets) memcpy(j->small_offsets + block * n_groups, parts->mins, n_groups);
}

static void pack_row(void *ctx, size_t row, int thread) {
    const job *j = ctx;
    const assay_rows *r = &j->w->rows;
    const assay_block_info *info = assay_block_get(j->m->precision);
    size_t elements = (size_t)info->elements, at = row * (r->k / elements);
    const uint8_t *block = (const uint8_t *)j->m->data + at * (size_t)info->bytes;
    uint8_t *out = j->out + row * r->stride;
    int8_t q[ASSAY_BLOCK_MAX];
    assay_block_parts parts;
    (void)thread;
    for (size_t c = 0; c < r->k;) {
        size_t n = 0;
        for (; n < ASSAY_BLOCK_MAX && c + n < r->k; n += elements, block += info->bytes) {
            assay_block_take_apart(q + n, &parts, j->m->precision, block);
            put_scales(j, &parts, at++, elements / (size_t)info->group);
        }
        if (r->form == ASSAY_FORM_Q4)
            put_nibbles(out + c / 2, q, n, j->code);
        else
            memcpy(out + c, q, n);
        c += n;
    }
    if (r->form == ASSAY_FORM_S8) memset(out + r->k, 0, r->stride - r->k);
}

/* n small integers and what the kernels may read behind them. */
static assay_status own_small(int8_t **out, assay_weight *w, size_t n, assay_err *err) {
    size_t size;
    if (__builtin_add_overflow(n, (size_t)16, &size)) return assay_nomem(err);
    ASSAY_TRY(backend_own((void **)out, w, size, err));
    memset(*out + n, 0, 16);
    w->n_bytes += n;
    return ASSAY_OK;
}
static assay_status own_floats(float **out, assay_weight *w, size_t n, assay_err *err) {
    size_t size;
    if (!assay_mul_size(&size, n, sizeof **out)) return assay_nomem(err);
    w->n_bytes += size;
    return backend_own((void **)out, w, size, err);
}

static assay_status pack(assay_backend *b, assay_weight *w, const assay_matrix *m, const packing *p, assay_err *err) {
    const assay_block_info *info = assay_block_get(m->precision);
    assay_rows *r = &w->rows;
    job j = {.m = m, .w = w};
    size_t n_blocks, n_groups;
    bool small = info->group < info->elements;
    r->form = p->form;
    r->group = (size_t)info->group;
    r->n_groups = w->k / r->group;
    r->round_f16 = w->mode == ASSAY_ACT_F16;
    r->stride = r->form == ASSAY_FORM_Q4 ? backend_up(w->k, ASSAY_KERN_BLOCK) / 2 : backend_up(w->k, 64);
    for (int i = 15; i >= 0; i--) { /* downwards: zeros at the end are no codes of their own */
        r->values[i] = p->values[i];
        j.code[(uint8_t)p->values[i]] = (uint8_t)i;
    }
    if (!assay_mul_size(&w->n_bytes, w->n_out, r->stride) || !assay_mul_size(&n_groups, w->n_out, r->n_groups) ||
        !assay_mul_size(&n_blocks, w->n_out, w->k / (size_t)info->elements))
        return assay_nomem(err);
    ASSAY_TRY(backend_own((void **)&j.out, w, w->n_bytes, err));
    ASSAY_TRY(own_floats(&j.scales, w, n_blocks, err));
    if (info->has_mins) ASSAY_TRY(own_floats(&j.offsets, w, n_blocks, err));
    if (small) ASSAY_TRY(own_small(&j.small_scales, w, n_groups, err));
    if (small && info->has_mins) ASSAY_TRY(own_small(&j.small_offsets, w, n_groups, err));
    assay_parallel(b->n_threads, w->n_out, pack_row, &j);
    r->data = j.out;
    r->small_scales = j.small_scales;
    r->small_offsets = j.small_offsets;
    *(small ? &r->scale_units : &r->scales) = j.scales;
    *(small ? &r->offset_units : &r->offsets) = j.offsets;
    return ASSAY_OK;
}

/* --- blocks as they are --- */

static assay_status keep(assay_weight *w, const assay_matrix *m, assay_form form, assay_err *err) {
    assay_rows *r = &w->rows;
    r->form = form;
    r->data = m->data;
    r->stride = assay_block_row_bytes(m->precision, m->cols);
    r->points = assay_block_points(m->precision);
    r->round_f16 = w->mode == ASSAY_ACT_F16;
    if (!assay_mul_size(&w->n_bytes, w->n_out, r->stride)) return assay_nomem(err);
    if (m->owns_data) {
        void *copy;
        ASSAY_TRY(backend_own(&copy, w, w->n_bytes, err));
        r->data = memcpy(copy, m->data, w->n_bytes);
    }
    return ASSAY_OK;
}

assay_status backend_take_blocks(assay_backend *b, assay_weight *w, const assay_matrix *m, assay_err *err) {
    if (assay_block_row_bytes(m->precision, m->cols) == 0)
        return assay_fail(err, ASSAY_EINPUT, "rows of %lld are no whole %s blocks", (long long)m->cols,
                          assay_precision_name(m->precision));
    for (size_t i = 0; i < ASSAY_LEN(PACKINGS); i++) {
        const packing *p = &PACKINGS[i];
        if (p->precision != m->precision) continue;
        return p->form >= ASSAY_FORM_IQ1_S ? keep(w, m, p->form, err) : pack(b, w, m, p, err);
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "no kernel computes %s", assay_precision_name(m->precision));
}
