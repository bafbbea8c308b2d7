/* gram.c: H += X^T X.
 *
 * X comes row by row (a token after the other), kern's products want columns: a chunk of DEPTH tokens is transposed once for all columns,
 * then tiles of TILE x TILE of the upper triangle are products of its rows. Each tile is added to H; after the last chunk it is also
 * written to its mirrored place, while it is in the cache. A sum runs over the tokens of a chunk in kern's order and over chunks in
 * theirs, so it depends on the calls' shapes alone. */
#include "linalg/linalg.h"

#include "base/mem.h"
#include "base/thread.h"
#include "kern/kern.h"
#include "linalg/pack.h"

enum { TILE = 256, STRIP = 32, ROW_BYTES = 2048 };

typedef struct gram {
    assay_kern kern;
    float *h;
    const float *x;
    size_t cols, n, ld, n_tiles; /* n tokens in this chunk */
    bool bf16, last;
    void *packed;   /* [cols][ld] */
    float *scratch; /* per thread: TILE*TILE products, or a strip before it is rounded to bf16 */
} gram;

static float *scratch_of(const gram *g, int thread) {
    return g->scratch + (size_t)thread * TILE * TILE;
}

/* Columns [task*STRIP, ...) of the chunk into rows. */
static void pack_strip(void *ctx, size_t task, int thread) {
    const gram *g = ctx;
    size_t c = task * STRIP, n = ASSAY_MIN((size_t)STRIP, g->cols - c);
    if (!g->bf16) {
        assay_pack_columns((float *)g->packed + c * g->ld, g->ld, g->x + c, g->cols, n, g->n);
        return;
    }
    float *strip = scratch_of(g, thread);
    assay_pack_columns(strip, g->ld, g->x + c, g->cols, n, g->n);
    for (size_t i = 0; i < n; i++)
        g->kern.to_bf16((uint16_t *)g->packed + (c + i) * g->ld, strip + i * g->ld, assay_pack_up(g->n));
}

static void add_tile(void *ctx, size_t task, int thread) {
    const gram *g = ctx;
    size_t bi = 0;
    while (task >= g->n_tiles - bi) task -= g->n_tiles - bi++;
    size_t i = bi * TILE, j = (bi + task) * TILE;
    size_t m = ASSAY_MIN((size_t)TILE, g->cols - i), n = ASSAY_MIN((size_t)TILE, g->cols - j);
    float *s = scratch_of(g, thread), *upper = g->h + i * g->cols + j, *lower = g->h + j * g->cols + i;
    if (g->bf16) {
        const uint16_t *p = g->packed;
        g->kern.gemm_bf16(s, n, p + i * g->ld, g->ld, p + j * g->ld, g->ld, g->n, m, n);
    } else {
        const float *p = g->packed;
        g->kern.gemm_f32(s, n, p + i * g->ld, g->ld, p + j * g->ld, g->ld, g->n, m, n);
    }
    for (size_t r = 0; r < m; r++) g->kern.add(upper + r * g->cols, s + r * n, n);
    if (g->last && i != j) assay_transpose(lower, g->cols, upper, g->cols, n, m);
}

assay_status assay_gram_add(float *h, const float *x, size_t n, size_t cols, bool bf16, int n_threads, assay_err *err) {
    if (n == 0 || cols == 0) return ASSAY_OK;
    assay_status s = ASSAY_OK;
    size_t elem = bf16 ? sizeof(uint16_t) : sizeof(float), depth = ROW_BYTES / elem, bytes;
    gram g = {.h = h, .cols = cols, .bf16 = bf16, .ld = assay_pack_ld(ASSAY_MIN(n, depth)), .n_tiles = (cols + TILE - 1) / TILE};
    ASSAY_TRY(assay_kern_init(&g.kern, NULL, err));
    if (n_threads < 1) n_threads = 1;
    size_t n_tasks = g.n_tiles * (g.n_tiles + 1) / 2, n_strips = (cols + STRIP - 1) / STRIP;
    int team = (int)ASSAY_MIN((size_t)n_threads, ASSAY_MAX(n_tasks, n_strips));
    if (assay_mul_size(&bytes, cols, g.ld * elem)) g.packed = assay_malloc_aligned(bytes);
    g.scratch = assay_malloc_aligned((size_t)team * TILE * TILE * sizeof *g.scratch);
    if (!g.packed || !g.scratch) {
        s = assay_nomem(err);
        goto out;
    }
    for (size_t t = 0; t < n; t += depth) {
        g.x = x + t * cols;
        g.n = ASSAY_MIN(depth, n - t);
        g.ld = assay_pack_ld(g.n);
        g.last = t + g.n == n;
        assay_parallel(team, n_strips, pack_strip, &g);
        assay_parallel(team, n_tasks, add_tile, &g);
    }
out:
    assay_free_aligned(g.packed);
    assay_free_aligned(g.scratch);
    return s;
}
