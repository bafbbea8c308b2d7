/* backend/linear.c: linear layers and embedding lookups.
 *
 * A batch of inputs is rounded or quantized once into scratch, at most ACTS_ROWS rows at a time; then tasks
 * take ranges of outputs. One row multiplies the packed weight as it streams from memory; more rows multiply
 * tiles of it, decoded first where needed. Both sum in the order that kern.h fixes, so neither the number of
 * rows nor the tiling can be seen in a result. */
#include <math.h>
#include <string.h>
#include "backend/internal.h"
#include "base/thread.h"
#include "num/convert.h"

#define PARTS        8 /* weights in one parallel region */
#define CACHED_BYTES ((size_t)2 << 20) /* of weights that a core's second-level cache about holds */
#define ROWS_LEAST   16 /* rows that are worth reading such weights for; four times that, decoding them */

typedef struct part {
    const assay_weight *w;
    float *y;
    const float *bias;
    size_t first_task;
    size_t per_task; /* outputs */
} part;

typedef struct job {
    assay_backend *b;
    const assay_weight *w; /* the first: its mode and layout are all parts' */
    part parts[PARTS];
    int n_parts;
    size_t n_tasks;      /* of one block of rows */
    size_t m_block;      /* rows of a block: m, or less where row blocks are tasks of their own */
    const float *x;      /* [m][k], this chunk */
    const uint8_t *acts; /* prepared rows */
    size_t stride;       /* bytes */
    size_t m;
} job;

/* What a task computes: outputs [from, to) of m rows from `row`. */
typedef struct block {
    const part *p;
    size_t from, to, row, m;
} block;

/* --- inputs --- */

static void find_outliers(job *j, size_t i, const float *x) {
    const assay_weight *w = j->w;
    acts *a = &j->b->acts;
    size_t n = 0;
    for (size_t c = 0; c < w->k; c++) {
        if (!(fabsf(x[c]) >= w->threshold)) continue;
        float v = assay_f16_to_f32(assay_f32_to_f16(x[c]));
        if (isinf(v) && isfinite(x[c])) v = copysignf(65504, v); /* saturate: an outlier may exceed f16 */
        a->cols[i * w->k + n] = (uint32_t)c;
        a->values[i * w->k + n++] = v;
    }
    a->n_outliers[i] = n;
}

/* Quantizes one row to the weight's 8-bit float; a scale for each of the weight's groups. */
static void quantize_fp8(const job *j, size_t i, uint16_t *out, const float *x) {
    const assay_weight *w = j->w;
    float *scales = j->b->acts.scales + i * w->rows.n_groups;
    for (size_t c = 0, g = 0; c < w->k; c += w->act_group) {
        float scale;
        j->b->k.quant_f8(out + c, &scale, x + c, ASSAY_MIN(w->act_group, w->k - c), w->fixed_scale,
                         w->rows.form);
        for (; g < w->rows.n_groups && g * w->rows.group < c + w->act_group; g++) scales[g] = scale;
    }
}

/* Row i of the inputs in the order of the weight's columns, in `aside` where that is another. */
static const float *arranged(const job *j, size_t i, float *aside) {
    const float *x = j->x + i * j->w->k;
    if (!j->w->columns) return x;
    for (size_t c = 0; c < j->w->k; c++) aside[c] = x[j->w->columns[c]];
    return aside;
}

static void prepare_rows(void *ctx, size_t begin, size_t end, int thread) {
    job *j = ctx;
    const assay_weight *w = j->w;
    const assay_kern *k = &j->b->k;
    acts *a = &j->b->acts;
    size_t pad = backend_up(w->k, ASSAY_KERN_CHUNK) - w->k;
    float *aside = (float *)(j->b->tiles + (size_t)thread * j->b->tile_size);
    for (size_t i = begin; i < end; i++) {
        const float *x = arranged(j, i, aside);
        uint8_t *out = a->data + i * j->stride;
        switch (w->mode) {
        case ASSAY_ACT_INT8:
            k->quant_i8((int8_t *)out, a->sums + i * w->irows.n_groups, &a->scale[i], x, w->k, w->irows.group,
                        w->irows.group_pad, w->threshold, w->fixed_scale);
            if (w->threshold > 0) find_outliers(j, i, x);
            break;
        case ASSAY_ACT_FP8:
            quantize_fp8(j, i, (uint16_t *)out, x);
            memset((uint16_t *)out + w->k, 0, pad * 2);
            break;
        case ASSAY_ACT_BF16:
            k->to_bf16((uint16_t *)out, x, w->k);
            memset((uint16_t *)out + w->k, 0, pad * 2);
            break;
        case ASSAY_ACT_F16:
            k->round_f16((float *)out, x, w->k);
            memset((float *)out + w->k, 0, pad * 4);
            break;
        default:
            memcpy(out, x, w->k * 4);
            memset((float *)out + w->k, 0, pad * 4);
            break;
        }
    }
}

static void prepare(job *j) {
    if (j->w->mode == ASSAY_ACT_F32 && j->w->k % ASSAY_KERN_CHUNK == 0 && !j->w->columns) {
        j->acts = (const uint8_t *)j->x; /* good as they are */
        j->stride = j->w->k * 4;
        return;
    }
    j->acts = j->b->acts.data;
    j->stride = backend_acts_stride(j->w);
    assay_parallel_range(j->m * j->w->k < SERIAL_MACS / 8 ? 1 : j->b->n_threads, j->m, 1, prepare_rows, j);
}

/* --- outputs --- */

static void int8_task(const job *j, const block *t) {
    const assay_kern *k = &j->b->k;
    const acts *a = &j->b->acts;
    const assay_weight *weight = t->p->w;
    const assay_irows *w = &weight->irows;
    size_t first = t->from / 16, n = (t->to - t->from + 15) / 16;
    float *y = t->p->y + t->row * weight->n_out;
    assay_iacts x = {.q = (const int8_t *)j->acts + t->row * j->stride,
                     .stride = j->stride,
                     .sums = a->sums + t->row * w->n_groups,
                     .scale = a->scale + t->row};
    k->gemm_i8(y, weight->n_out, w, first, n, &x, t->m);
    if (weight->threshold > 0)
        for (size_t i = 0; i < t->m; i++)
            if (a->n_outliers[t->row + i])
                k->outliers_i8(y + i * weight->n_out, w, first, n, a->values + (t->row + i) * weight->k,
                               a->cols + (t->row + i) * weight->k, a->n_outliers[t->row + i]);
}

static bool aligned(const assay_rows *w) { return ((uintptr_t)w->data | w->stride) % 64 == 0; }

static void fp8_task(const job *j, const block *t, int thread) {
    const assay_kern *k = &j->b->k;
    const assay_rows *w = &t->p->w->rows;
    const uint16_t *x = (const uint16_t *)(j->acts + t->row * j->stride);
    const float *scales = j->b->acts.scales + t->row * w->n_groups;
    size_t n = t->to - t->from, n_out = t->p->w->n_out;
    float *y = t->p->y + t->row * n_out + t->from;
    if (t->m == 1) {
        k->gemv_scaled[w->form](y, w, t->from, n, x, scales);
        return;
    }
    uint16_t *tile = (uint16_t *)(j->b->tiles + (size_t)thread * j->b->tile_size);
    assay_rows codes = *w;
    assay_scaled sx = {x, j->stride / 2, scales},
                 sw = {tile, backend_up(w->k, ASSAY_KERN_CHUNK), w->scales + t->from * w->n_groups};
    codes.scales = NULL; /* their own values */
    k->unpack_bf16[w->form](tile, sw.ld, &codes, t->from, n);
    k->gemm_scaled(y, n_out, &sx, &sw, w->k, w->group, t->m, n);
}

static void bf16_task(const job *j, const block *t, int thread) {
    const assay_kern *k = &j->b->k;
    const assay_rows *w = &t->p->w->rows;
    const uint16_t *x = (const uint16_t *)(j->acts + t->row * j->stride),
                   *rows = (const uint16_t *)((const uint8_t *)w->data + t->from * w->stride);
    size_t n = t->to - t->from, n_out = t->p->w->n_out, ld = w->stride / 2;
    float *y = t->p->y + t->row * n_out + t->from;
    if (t->m == 1) {
        k->gemv_bf16[w->form](y, w, t->from, n, x);
        return;
    }
    if (w->form != ASSAY_FORM_BF16 || (!aligned(w) && t->m >= 8)) {
        uint16_t *tile = (uint16_t *)(j->b->tiles + (size_t)thread * j->b->tile_size);
        ld = backend_up(w->k, ASSAY_KERN_CHUNK);
        k->unpack_bf16[w->form](tile, ld, w, t->from, n);
        rows = tile;
    }
    k->gemm_bf16(y, n_out, x, j->stride / 2, rows, ld, w->k, t->m, n);
}

static void f32_task(const job *j, const block *t, int thread) {
    const assay_kern *k = &j->b->k;
    const assay_rows *w = &t->p->w->rows;
    const float *x = (const float *)(j->acts + t->row * j->stride),
                *rows = (const float *)((const uint8_t *)w->data + t->from * w->stride);
    size_t n = t->to - t->from, n_out = t->p->w->n_out, ld = w->stride / 4;
    float *y = t->p->y + t->row * n_out + t->from;
    if (t->m == 1) {
        k->gemv_f32[w->form](y, w, t->from, n, x);
        return;
    }
    if (w->form != ASSAY_FORM_F32 || (!aligned(w) && t->m >= 8)) {
        float *tile = (float *)(j->b->tiles + (size_t)thread * j->b->tile_size);
        ld = backend_up(w->k, ASSAY_KERN_CHUNK);
        k->unpack_f32[w->form](tile, ld, w, t->from, n);
        rows = tile;
    }
    k->gemm_f32(y, n_out, x, j->stride / 4, rows, ld, w->k, t->m, n);
}

static void run_task(void *ctx, size_t task, int thread) {
    const job *j = ctx;
    int i = j->n_parts - 1;
    size_t column = task % j->n_tasks, row = task / j->n_tasks * j->m_block;
    while (column < j->parts[i].first_task) i--;
    const part *p = &j->parts[i];
    size_t from = (column - p->first_task) * p->per_task, n_out = p->w->n_out;
    block t = {p, from, ASSAY_MIN(from + p->per_task, n_out), row, ASSAY_MIN(j->m_block, j->m - row)};
    if (p->w->mode == ASSAY_ACT_INT8)
        int8_task(j, &t);
    else if (p->w->mode == ASSAY_ACT_FP8)
        fp8_task(j, &t, thread);
    else if (p->w->mode == ASSAY_ACT_BF16)
        bf16_task(j, &t, thread);
    else
        f32_task(j, &t, thread);
    if (!p->bias) return;
    for (size_t r = row; r < row + t.m; r++)
        for (size_t o = from; o < t.to; o++) p->y[r * n_out + o] += p->bias[o];
}

/* Outputs per task: few long ranges for one row, whose weight streams from memory; tiles that stay in the
 * second-level cache for many. */
static size_t outputs_per_task(const job *j, const assay_weight *w) {
    if (j->m == 1) return backend_up(ASSAY_MAX(w->n_out / (size_t)(4 * j->b->n_threads), (size_t)1), 64);
    if (w->mode == ASSAY_ACT_INT8) return TILE_ROWS;
    size_t row = backend_up(w->k, ASSAY_KERN_CHUNK) * backend_element(w),
           fit = row ? TILE_BYTES / row / 12 * 12 : TILE_ROWS;
    return ASSAY_MAX((size_t)12, ASSAY_MIN((size_t)TILE_ROWS, fit));
}

/* Rows per task. All of them while a weight is large, so that it is read and decoded once. A small weight is
 * in every core's cache; then threads take rows, as the operations between the products do, and what a core
 * wrote is read by the same core. */
static size_t rows_per_task(const job *j) {
    size_t n = (size_t)j->b->n_threads, each = (j->m + n - 1) / n, bytes = 0;
    assay_form form = j->w->rows.form;
    bool decoded = j->w->mode != ASSAY_ACT_INT8 && form != ASSAY_FORM_BF16 && form != ASSAY_FORM_F32;
    for (int i = 0; i < j->n_parts; i++) bytes += j->parts[i].w->n_bytes;
    if (bytes > CACHED_BYTES || each < (decoded ? 4 * ROWS_LEAST : ROWS_LEAST)) return j->m;
    return backend_up(each, 8);
}

static void run(job *j) {
    size_t macs = 0;
    j->n_tasks = 0;
    for (int i = 0; i < j->n_parts; i++) {
        part *p = &j->parts[i];
        p->first_task = j->n_tasks;
        p->per_task = outputs_per_task(j, p->w);
        j->n_tasks += (p->w->n_out + p->per_task - 1) / p->per_task;
        macs += j->m * p->w->n_out * p->w->k;
    }
    int n_threads = macs < SERIAL_MACS ? 1 : j->b->n_threads;
    j->m_block = n_threads > 1 ? rows_per_task(j) : j->m;
    assay_parallel(n_threads, j->n_tasks * ((j->m + j->m_block - 1) / j->m_block), run_task, j);
}

/* Whether inputs prepared for a serve b. */
static bool same_inputs(const assay_weight *a, const assay_weight *b) {
    if (a->mode != b->mode || a->k != b->k || a->fixed_scale != b->fixed_scale) return false;
    if (a->columns != b->columns &&
        (!a->columns || !b->columns || memcmp(a->columns, b->columns, a->k * sizeof *a->columns) != 0))
        return false;
    if (a->mode == ASSAY_ACT_FP8)
        return a->rows.form == b->rows.form && a->act_group == b->act_group && a->rows.group == b->rows.group;
    return a->mode != ASSAY_ACT_INT8 ||
           (a->irows.group == b->irows.group && a->irows.n_groups == b->irows.n_groups &&
            a->threshold == b->threshold);
}

void assay_op_linear_multi(assay_backend *b, assay_buf *const *y, assay_weight *const *w,
                           assay_buf *const *bias, int n_w, const assay_buf *x, size_t n_rows) {
    for (int first = 0, end; first < n_w; first = end) {
        for (end = first + 1; end < n_w && end - first < PARTS && same_inputs(w[first], w[end]);) end++;
        size_t rows = backend_acts_rows(backend_acts_stride(w[first])), k = w[first]->k;
        for (size_t row = 0; row < n_rows; row += rows) {
            job j = {.b = b,
                     .w = w[first],
                     .n_parts = end - first,
                     .x = (const float *)x->p + row * k,
                     .m = ASSAY_MIN(rows, n_rows - row)};
            for (int i = first; i < end; i++)
                j.parts[i - first] = (part){.w = w[i],
                                            .y = (float *)y[i]->p + row * w[i]->n_out,
                                            .bias = bias && bias[i] ? (const float *)bias[i]->p : NULL};
            prepare(&j);
            run(&j);
        }
    }
    for (int i = 0; i < n_w; i++) backend_add_lowrank(b, y[i], w[i], x, n_rows);
}

void assay_op_linear(assay_backend *b, assay_buf *y, const assay_weight *w, const assay_buf *bias,
                     const assay_buf *x, size_t n_rows) {
    assay_weight *one = (assay_weight *)w; /* the array's type wants it; nothing is written */
    assay_buf *no = (assay_buf *)bias;
    assay_op_linear_multi(b, &y, &one, &no, 1, x, n_rows);
}

/* --- embedding --- */

static void decode_int8_row(float *out, const assay_weight *w, size_t row) {
    const assay_irows *r = &w->irows;
    const uint8_t *p =
        r->data + row / 16 * (r->group_pad * r->n_groups * 16 / (r->bits == 4 ? 2 : 1)) + row % 16 * 4;
    for (size_t c = 0; c < w->k; c++) {
        size_t g = c / r->group, at = g * r->group_pad + c % r->group,
               s = (row / 16 * r->n_groups + g) * 16 + row % 16;
        int code =
            r->bits == 8 ? p[at / 4 * 64 + at % 4] : p[at / 8 * 64 + at % 4] >> (at % 8 >= 4 ? 4 : 0) & 15;
        float zero = r->real_zeros ? r->real_zeros[s] : (float)(r->zeros ? r->zeros[s] : r->zero);
        out[c] = ((float)code - zero) * r->scales[s];
    }
}
/* FP8's scales may be larger than unpack_f32 takes. */
static void decode_fp8_row(float *out, const assay_backend *b, const assay_weight *w, size_t row) {
    assay_rows codes = w->rows;
    uint16_t *h = (uint16_t *)(out + backend_up(w->k, ASSAY_KERN_CHUNK));
    codes.scales = NULL;
    b->k.unpack_bf16[codes.form](h, backend_up(w->k, ASSAY_KERN_CHUNK), &codes, row, 1);
    for (size_t c = 0; c < w->k; c++)
        out[c] = assay_bf16_to_f32(h[c]) * w->rows.scales[row * codes.n_groups + c / codes.group];
}

void backend_decode_row(float *out, float *aside, const assay_backend *b, const assay_weight *w, size_t row) {
    assay_rows exact = w->rows;
    exact.round_f16 = false;
    if (w->mode == ASSAY_ACT_INT8)
        decode_int8_row(aside, w, row);
    else if (w->mode == ASSAY_ACT_FP8)
        decode_fp8_row(aside, b, w, row);
    else
        b->k.unpack_f32[exact.form](aside, backend_up(w->k, ASSAY_KERN_CHUNK), &exact, row, 1);
    if (w->columns)
        for (size_t c = 0; c < w->k; c++) out[w->columns[c]] = aside[c];
    else
        memcpy(out, aside, w->k * sizeof *out);
}

void assay_op_embed(assay_backend *b, assay_buf *y, const assay_weight *w, const int32_t *ids,
                    size_t n_rows) {
    for (size_t i = 0; i < n_rows; i++)
        backend_decode_row((float *)y->p + i * w->k, (float *)b->tiles, b, w, (size_t)ids[i]);
}
