/* backend/point.c: norms, sums, gates, rotary positions, picking rows and columns. Work is split over rows or
 * ranges; an element's arithmetic is the kernel's own. */
#include <math.h>
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/hadamard.h"

#define POINT_GRAIN 4096 /* elements that are worth a task */
#define ROPE_MAX ((size_t)1 << 22)

typedef struct point_job {
    assay_backend *b;
    float *y;
    const float *x, *w, *bias;
    size_t n;
    float eps;
    int fn;
    /* rope */
    const int32_t *pos;
    int n_heads, head_dim;
    const assay_turning *rotation;
    float scale;
    /* copies */
    assay_span to, from;
    size_t n_blocks, width;
} point_job;

static int threads_for(const assay_backend *b, size_t elements) {
    return elements < 4 * POINT_GRAIN ? 1 : b->n_threads;
}

static void rmsnorm_rows(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        j->b->k.rmsnorm(j->y + i * j->n, j->x + i * j->n, j->w, j->n, j->eps);
}
void assay_op_rmsnorm(assay_backend *b, assay_buf *y, const assay_buf *x, const assay_buf *weight,
                      size_t n_rows, size_t n, float eps) {
    point_job j = {.b = b,
                   .y = (float *)y->p,
                   .x = (const float *)x->p,
                   .w = (const float *)weight->p,
                   .n = n,
                   .eps = eps};
    assay_parallel_range(threads_for(b, n_rows * n), n_rows, 1, rmsnorm_rows, &j);
}

static void layernorm_rows(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        j->b->k.layernorm(j->y + i * j->n, j->x + i * j->n, j->w, j->bias, j->n, j->eps);
}
void assay_op_layernorm(assay_backend *b, assay_buf *y, const assay_buf *x, const assay_buf *weight,
                        const assay_buf *bias, size_t n_rows, size_t n, float eps) {
    point_job j = {.b = b,
                   .y = (float *)y->p,
                   .x = (const float *)x->p,
                   .w = (const float *)weight->p,
                   .bias = bias ? (const float *)bias->p : NULL,
                   .n = n,
                   .eps = eps};
    assay_parallel_range(threads_for(b, n_rows * n), n_rows, 1, layernorm_rows, &j);
}

static void scale_range(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        j->y[i] *= j->scale;
}
void assay_op_scale(assay_backend *b, assay_buf *x, size_t n, float s) {
    point_job j = {.b = b, .y = (float *)x->p, .scale = s};
    assay_parallel_range(threads_for(b, n), n, POINT_GRAIN, scale_range, &j);
}

static void cap_range(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    (void)thread;
    j->b->k.soft_cap(j->y + begin, end - begin, j->scale);
}
void assay_op_soft_cap(assay_backend *b, assay_buf *x, size_t n, float cap) {
    point_job j = {.b = b, .y = (float *)x->p, .scale = cap};
    assay_parallel_range(threads_for(b, 4 * n), n, POINT_GRAIN / 4, cap_range, &j);
}

void assay_op_clear(assay_backend *b, assay_buf *x, size_t n) {
    (void)b;
    memset(x->p, 0, n * sizeof(float));
}

static void add_range(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    (void)thread;
    j->b->k.add(j->y + begin, j->x + begin, end - begin);
}
void assay_op_add(assay_backend *b, assay_buf *x, const assay_buf *y, size_t n) {
    point_job j = {.b = b, .y = (float *)x->p, .x = (const float *)y->p};
    assay_parallel_range(threads_for(b, n), n, POINT_GRAIN, add_range, &j);
}

static void gate_range(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    (void)thread;
    j->b->k.gate[j->fn](j->y + begin, j->x + begin, j->w ? j->w + begin : NULL, end - begin);
}
void assay_op_gate(assay_backend *b, assay_buf *y, const assay_buf *gate, const assay_buf *up, size_t n,
                   assay_gate_fn fn) {
    static const int fns[] = {[ASSAY_GATE_SILU] = ASSAY_KERN_SILU,
                              [ASSAY_GATE_GELU_TANH] = ASSAY_KERN_GELU_TANH,
                              [ASSAY_GATE_GELU] = ASSAY_KERN_GELU};
    point_job j = {
        .b = b, .y = (float *)y->p, .x = (const float *)gate->p, .w = up ? (const float *)up->p : NULL, .fn = fns[fn]};
    assay_parallel_range(threads_for(b, 4 * n), n, POINT_GRAIN / 4, gate_range, &j);
}

void assay_op_gather_rows(assay_backend *b, assay_buf *dst, const assay_buf *src, const int32_t *rows,
                          size_t n_rows, size_t n) {
    (void)b;
    for (size_t i = 0; i < n_rows; i++)
        memcpy((float *)dst->p + i * n, (const float *)src->p + (size_t)rows[i] * n, n * sizeof(float));
}

static void copy_rows(void *ctx, size_t begin, size_t end, int thread) {
    const point_job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++)
        for (size_t k = 0; k < j->n_blocks; k++) {
            float *to = j->y + r * j->to.row + j->to.first + k * j->to.block;
            const float *from = j->x + r * j->from.row + j->from.first + k * j->from.block;
            if (j->to.step == 1 && j->from.step == 1)
                memcpy(to, from, j->width * sizeof *to);
            else
                for (size_t i = 0; i < j->width; i++)
                    to[i * j->to.step] = from[i * j->from.step];
        }
}
void assay_op_copy(assay_backend *b, assay_buf *dst, assay_span to, const assay_buf *src, assay_span from,
                   size_t n_rows, size_t n_blocks, size_t width) {
    point_job j = {.b = b,
                   .y = (float *)dst->p,
                   .x = (const float *)src->p,
                   .to = to,
                   .from = from,
                   .n_blocks = n_blocks,
                   .width = width};
    assay_parallel_range(threads_for(b, n_rows * n_blocks * width), n_rows, 1, copy_rows, &j);
}

static void scatter_rows(void *ctx, size_t begin, size_t end, int thread) {
    const point_job *j = ctx;
    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *to = j->y + (size_t)j->pos[r] * j->n;
        for (size_t i = 0; i < j->n; i++)
            to[i] += j->w[r] * j->x[r * j->n + i];
    }
}
void assay_op_scatter_add(assay_backend *b, assay_buf *x, const assay_buf *y, const int32_t *rows,
                          const float *weights, size_t n_rows, size_t n) {
    point_job j = {
        .b = b, .y = (float *)x->p, .x = (const float *)y->p, .w = weights, .pos = rows, .n = n};
    assay_parallel_range(threads_for(b, n_rows * n), n_rows, 1, scatter_rows, &j);
}

/* --- Hadamard rotations --- */

/* Block by block, each a row of its own: then the scratch of a thread holds one. */
static void hadamard_rows(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    float *scratch = j->b->att + (size_t)thread * ATT_FLOATS;
    assay_hadamard_rows(j->y + begin * j->n, end - begin, j->n, j->n, false, scratch);
}
void assay_op_hadamard(assay_backend *b, assay_buf *x, size_t n_rows, size_t n, size_t block) {
    point_job j = {.b = b, .y = (float *)x->p, .n = block};
    assay_parallel_range(threads_for(b, n_rows * n), n_rows * (n / block), 1, hadamard_rows, &j);
}

/* --- rotary positions --- */

/* cos then sin of one position: in double from the float product's factors, rounded once. The frequencies of a
 * far position are made in the place of its sines. */
static void rope_angles(float *out, int32_t pos, const assay_turning *r) {
    const float *f = r->inv_freq;
    if (r->near > 0 && pos >= r->near) {
        r->far(out + r->half, r->ctx, pos);
        f = out + r->half;
    }
    for (int i = 0; i < r->half; i++) {
        double angle = (double)pos * (double)f[i];
        out[i] = (float)cos(angle) * r->scale;
        out[r->half + i] = (float)sin(angle) * r->scale;
    }
}

void backend_rope_free(rope_cache *c) {
    assay_free((void *)c->r.inv_freq);
    assay_free(c->table);
    assay_free(c->have);
    *c = (rope_cache){0};
}

static bool rope_is(const rope_cache *c, const assay_turning *r) {
    return c->r.half == r->half && c->r.scale == r->scale && c->r.near == r->near && c->r.tag == r->tag &&
           memcmp(c->r.inv_freq, r->inv_freq, (size_t)r->half * sizeof *r->inv_freq) == 0;
}

/* The cache of a rotation, a free one, or the last one emptied. NULL: no memory. */
static rope_cache *rope_find(assay_backend *b, const assay_turning *r) {
    rope_cache *c = b->rope;
    while (c->r.inv_freq && !rope_is(c, r) && c < b->rope + ROPE_CACHES - 1)
        c++;
    if (c->r.inv_freq && rope_is(c, r)) return c;
    float *f = assay_mallocn((size_t)r->half, sizeof *f);
    if (!f) return NULL;
    backend_rope_free(c);
    c->r = *r;
    c->r.inv_freq = memcpy(f, r->inv_freq, (size_t)r->half * sizeof *f);
    return c;
}

/* A table that holds the rotation's positions up to `last`. NULL when it cannot: angles are then computed as
 * needed. */
static rope_cache *rope_reserve(assay_backend *b, const assay_turning *r, size_t last) {
    if (last >= ROPE_MAX / (size_t)ASSAY_MAX(r->half, 1)) return NULL;
    rope_cache *c = rope_find(b, r);
    if (!c || last < c->n) return c;
    size_t n = backend_up(ASSAY_MAX(last + 1, 2 * c->n), 256);
    float *table = assay_reallocn(c->table, n * 2 * (size_t)r->half, sizeof *table);
    if (!table) return NULL;
    c->table = table;
    uint8_t *have = assay_realloc(c->have, n);
    if (!have) return NULL;
    memset(have + c->n, 0, n - c->n);
    c->have = have;
    c->n = n;
    return c;
}

static void rope_rows(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    int half = j->rotation->half;
    float *aside = j->b->att + (size_t)thread * ATT_FLOATS;
    for (size_t i = begin; i < end; i++) {
        const float *angles = aside;
        if (j->x)
            angles = j->x + (size_t)j->pos[i] * 2 * (size_t)half;
        else
            rope_angles(aside, j->pos[i], j->rotation);
        for (int h = 0; h < j->n_heads; h++) {
            float *x = j->y + (i * (size_t)j->n_heads + (size_t)h) * (size_t)j->head_dim;
            j->b->k.rope(x, x + half, angles, angles + half, (size_t)half);
        }
    }
}
void assay_op_rotate(assay_backend *b, assay_buf *x, const int32_t *pos, size_t first, size_t n_rows, int n_heads,
                     int head_dim, const assay_turning *r) {
    int32_t last = 0;
    pos += first;
    for (size_t i = 0; i < n_rows; i++) last = ASSAY_MAX(last, pos[i]);
    rope_cache *c = rope_reserve(b, r, (size_t)last);
    for (size_t i = 0; c && i < n_rows; i++) {
        size_t p = (size_t)pos[i];
        if (!c->have[p]) rope_angles(c->table + p * 2 * (size_t)r->half, pos[i], r);
        c->have[p] = 1;
    }
    point_job j = {.b = b,
                   .y = (float *)x->p + first * (size_t)n_heads * (size_t)head_dim,
                   .x = c ? c->table : NULL,
                   .pos = pos,
                   .n_heads = n_heads,
                   .head_dim = head_dim,
                   .rotation = r};
    assay_parallel_range(threads_for(b, n_rows * (size_t)(n_heads * head_dim)), n_rows, 1, rope_rows, &j);
}
