/* backend/blocks.c: weights of ggml's block types (precision/block.h), for the float modes.
 *
 * Whatever a type's bytes are, they mean small signed codes with a scale, and for some a minimum, per group. That is
 * what the kernels' packed forms hold, exactly, so most types are repacked when a weight is made:
 *
 *   codes of at most 16 values     Q4, the values in its table: 4 bits, and 32 per scale and per minimum
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
    float *scales, *offsets; /* offsets NULL: the type has no minima */
    uint8_t code[256];       /* Q4: by value */
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

static void pack_row(void *ctx, size_t row, int thread) {
    const job *j = ctx;
    const assay_rows *r = &j->w->rows;
    const assay_block_info *info = assay_block_get(j->m->precision);
    size_t elements = (size_t)info->elements, n_groups = elements / (size_t)info->group;
    const uint8_t *block =
        (const uint8_t *)j->m->data + row * assay_block_row_bytes(j->m->precision, j->m->cols);
    uint8_t *out = j->out + row * r->stride;
    int8_t q[ASSAY_BLOCK_MAX];
    float mins[ASSAY_BLOCK_MAX_GROUPS];
    (void)thread;
    for (size_t c = 0, g = row * r->n_groups; c < r->k;) {
        size_t n = 0;
        for (; n < ASSAY_BLOCK_MAX && c + n < r->k; n += elements, g += n_groups, block += info->bytes) {
            assay_block_expand(q + n, j->scales + g, mins, j->m->precision, block);
            for (size_t i = 0; j->offsets && i < n_groups; i++) j->offsets[g + i] = -mins[i];
        }
        if (r->form == ASSAY_FORM_Q4)
            put_nibbles(out + c / 2, q, n, j->code);
        else
            memcpy(out + c, q, n);
        c += n;
    }
    if (r->form == ASSAY_FORM_S8) memset(out + r->k, 0, r->stride - r->k);
}

static assay_status pack(assay_backend *b, assay_weight *w, const assay_matrix *m, const packing *p, assay_err *err) {
    const assay_block_info *info = assay_block_get(m->precision);
    assay_rows *r = &w->rows;
    job j = {.m = m, .w = w};
    size_t size, n_scales, scale_bytes;
    r->form = p->form;
    r->group = (size_t)info->group;
    r->n_groups = w->k / r->group;
    r->round_f16 = w->mode == ASSAY_ACT_F16;
    r->stride = r->form == ASSAY_FORM_Q4 ? backend_up(w->k, ASSAY_KERN_BLOCK) / 2 : backend_up(w->k, 64);
    for (int i = 15; i >= 0; i--) { /* downwards: zeros at the end are no codes of their own */
        r->values[i] = p->values[i];
        j.code[(uint8_t)p->values[i]] = (uint8_t)i;
    }
    if (!assay_mul_size(&size, w->n_out, r->stride) || !assay_mul_size(&n_scales, w->n_out, r->n_groups) ||
        !assay_mul_size(&scale_bytes, n_scales, sizeof *j.scales))
        return assay_nomem(err);
    ASSAY_TRY(backend_own((void **)&j.out, w, size, err));
    ASSAY_TRY(backend_own((void **)&j.scales, w, scale_bytes, err));
    if (info->has_mins) ASSAY_TRY(backend_own((void **)&j.offsets, w, scale_bytes, err));
    assay_parallel(b->n_threads, w->n_out, pack_row, &j);
    r->data = j.out;
    r->scales = j.scales;
    r->offsets = j.offsets;
    w->n_bytes = size + scale_bytes * (info->has_mins ? 2 : 1);
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
    for (size_t i = 0; i < ASSAY_LEN(PACKINGS); i++) {
        const packing *p = &PACKINGS[i];
        if (p->precision != m->precision) continue;
        return p->form >= ASSAY_FORM_IQ1_S ? keep(w, m, p->form, err) : pack(b, w, m, p, err);
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "no kernel computes %s", assay_precision_name(m->precision));
}
