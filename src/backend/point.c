/* backend/point.c: norms, sums, gates, rotary positions, picking rows. Work is split over rows or ranges; an
 * element's arithmetic is the kernel's own. */
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
    const float *x, *w;
    size_t n;
    float eps;
    int fn;
    /* rope */
    const int32_t *pos;
    int n_heads, head_dim, half;
    const float *inv_freq;
    float scale;
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
    j->b->k.gate[j->fn](j->y + begin, j->x + begin, j->w + begin, end - begin);
}
void assay_op_gate(assay_backend *b, assay_buf *y, const assay_buf *gate, const assay_buf *up, size_t n,
                   assay_gate_fn fn) {
    static const int fns[] = {[ASSAY_GATE_SILU] = ASSAY_KERN_SILU,
                              [ASSAY_GATE_GELU_TANH] = ASSAY_KERN_GELU_TANH,
                              [ASSAY_GATE_GELU] = ASSAY_KERN_GELU};
    point_job j = {
        .b = b, .y = (float *)y->p, .x = (const float *)gate->p, .w = (const float *)up->p, .fn = fns[fn]};
    assay_parallel_range(threads_for(b, 4 * n), n, POINT_GRAIN / 4, gate_range, &j);
}

void assay_op_gather_rows(assay_backend *b, assay_buf *dst, const assay_buf *src, const int32_t *rows,
                          size_t n_rows, size_t n) {
    (void)b;
    for (size_t i = 0; i < n_rows; i++)
        memcpy((float *)dst->p + i * n, (const float *)src->p + (size_t)rows[i] * n, n * sizeof(float));
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

/* cos then sin of one position: in double from the float product's factors, rounded once. */
static void rope_angles(float *out, int32_t pos, const float *inv_freq, int half, float scale) {
    for (int i = 0; i < half; i++) {
        double angle = (double)pos * (double)inv_freq[i];
        out[i] = (float)cos(angle) * scale;
        out[half + i] = (float)sin(angle) * scale;
    }
}

/* Makes the table hold these frequencies and positions up to `last`. False when it cannot: angles are then
 * computed as needed. */
static bool rope_reserve(rope_cache *c, const float *inv_freq, int half, float scale, size_t last) {
    if (last >= ROPE_MAX / (size_t)ASSAY_MAX(half, 1)) return false;
    if (c->half != half || c->scale != scale ||
        memcmp(c->inv_freq, inv_freq, (size_t)half * sizeof *inv_freq) != 0) {
        float *f = assay_mallocn((size_t)half, sizeof *f);
        if (!f) return false;
        memcpy(f, inv_freq, (size_t)half * sizeof *f);
        assay_free(c->inv_freq);
        assay_free(c->table);
        assay_free(c->have);
        *c = (rope_cache){.inv_freq = f, .half = half, .scale = scale};
    }
    if (last >= c->n) {
        size_t n = backend_up(ASSAY_MAX(last + 1, 2 * c->n), 256);
        float *table = assay_reallocn(c->table, n * 2 * (size_t)half, sizeof *table);
        if (!table) return false;
        c->table = table;
        uint8_t *have = assay_realloc(c->have, n);
        if (!have) return false;
        memset(have + c->n, 0, n - c->n);
        c->have = have;
        c->n = n;
    }
    return true;
}

static void rope_rows(void *ctx, size_t begin, size_t end, int thread) {
    point_job *j = ctx;
    const rope_cache *c = &j->b->rope;
    float *aside = j->b->att + (size_t)thread * ATT_FLOATS;
    for (size_t i = begin; i < end; i++) {
        const float *angles = aside;
        if (j->x)
            angles = c->table + (size_t)j->pos[i] * 2 * (size_t)j->half;
        else
            rope_angles(aside, j->pos[i], j->inv_freq, j->half, j->scale);
        for (int h = 0; h < j->n_heads; h++) {
            float *x = j->y + (i * (size_t)j->n_heads + (size_t)h) * (size_t)j->head_dim;
            j->b->k.rope(x, x + j->half, angles, angles + j->half, (size_t)j->half);
        }
    }
}
void assay_op_rope(assay_backend *b, assay_buf *x, const int32_t *pos, size_t n_rows, int n_heads,
                   int head_dim, int half, const float *inv_freq, float scale) {
    rope_cache *c = &b->rope;
    int32_t last = 0;
    for (size_t i = 0; i < n_rows; i++) last = ASSAY_MAX(last, pos[i]);
    bool cached = rope_reserve(c, inv_freq, half, scale, (size_t)last);
    for (size_t i = 0; cached && i < n_rows; i++) {
        size_t p = (size_t)pos[i];
        if (!c->have[p]) rope_angles(c->table + p * 2 * (size_t)half, pos[i], inv_freq, half, scale);
        c->have[p] = 1;
    }
    point_job j = {.b = b,
                   .y = (float *)x->p,
                   .x = cached ? c->table : NULL,
                   .pos = pos,
                   .n_heads = n_heads,
                   .head_dim = head_dim,
                   .half = half,
                   .inv_freq = inv_freq,
                   .scale = scale};
    assay_parallel_range(threads_for(b, n_rows * (size_t)(n_heads * head_dim)), n_rows, 1, rope_rows, &j);
}
