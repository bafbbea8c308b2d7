/* gemm.c: products of float32 matrices over kern's tiles of dot products.
 *
 *   C  is cut into tiles of TILE_M x TILE_N, one task each
 *   k  is walked in chunks of DEPTH columns, so that the tile's part of both operands (2 x ~0.5 MB) stays in the second-level cache;
 *      chunks are added in order
 *
 * kern wants both operands contiguous along k. An operand that lies so is read where it is; the other kind is transposed into the
 * thread's buffer, once per tile and chunk, which costs about a tenth of the tile's products. */
#include "linalg/linalg.h"

#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "kern/kern.h"
#include "linalg/pack.h"

enum { TILE_M = 192, TILE_N = 256, DEPTH = 512 };

typedef struct job {
    assay_kern kern;
    float *c;
    const float *a, *b;
    size_t ldc, lda, ldb, m, n, k;
    bool ta, tb, beta;
    size_t n_tiles_n;
    /* a thread's scratch: A's part, B's part, products to be added */
    float *scratch;
    size_t scratch_size, at_b, at_sum; /* elements */
} job;

static void tile(void *ctx, size_t task, int thread) {
    const job *g = ctx;
    size_t i = task / g->n_tiles_n * TILE_M, j = task % g->n_tiles_n * TILE_N;
    size_t m = ASSAY_MIN((size_t)TILE_M, g->m - i), n = ASSAY_MIN((size_t)TILE_N, g->n - j);
    float *scratch = g->scratch ? g->scratch + (size_t)thread * g->scratch_size : NULL;
    float *c = g->c + i * g->ldc + j;
    for (size_t p = 0; p < g->k; p += DEPTH) {
        size_t k = ASSAY_MIN((size_t)DEPTH, g->k - p), ld = assay_pack_ld(k), ldx = g->lda, ldw = g->ldb;
        const float *x = g->a + i * g->lda + p, *w = g->b + j * g->ldb + p;
        if (g->ta || k % ASSAY_KERN_CHUNK != 0) {
            if (g->ta)
                assay_pack_columns(scratch, ld, g->a + p * g->lda + i, g->lda, m, k);
            else
                assay_pack_rows(scratch, ld, x, g->lda, m, k);
            x = scratch;
            ldx = ld;
        }
        if (!g->tb) {
            assay_pack_columns(scratch + g->at_b, ld, g->b + p * g->ldb + j, g->ldb, n, k);
            w = scratch + g->at_b;
            ldw = ld;
        }
        if (p == 0 && !g->beta) {
            g->kern.gemm_f32(c, g->ldc, x, ldx, w, ldw, k, m, n);
        } else {
            float *sum = scratch + g->at_sum;
            g->kern.gemm_f32(sum, n, x, ldx, w, ldw, k, m, n);
            for (size_t r = 0; r < m; r++) g->kern.add(c + r * g->ldc, sum + r * n, n);
        }
    }
}

assay_status assay_gemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb, bool tb, size_t m,
                        size_t n, size_t k, bool beta, int n_threads, assay_err *err) {
    if (m == 0 || n == 0 || (k == 0 && beta)) return ASSAY_OK;
    if (k == 0) {
        for (size_t i = 0; i < m; i++) memset(c + i * ldc, 0, n * sizeof *c);
        return ASSAY_OK;
    }
    job g = {.c = c, .a = a, .b = b, .ldc = ldc, .lda = lda, .ldb = ldb, .m = m, .n = n, .k = k, .ta = ta, .tb = tb, .beta = beta};
    ASSAY_TRY(assay_kern_init(&g.kern, NULL, err));
    size_t tm = ASSAY_MIN(m, (size_t)TILE_M), tn = ASSAY_MIN(n, (size_t)TILE_N), tk = assay_pack_ld(ASSAY_MIN(k, (size_t)DEPTH));
    g.n_tiles_n = (n + TILE_N - 1) / TILE_N;
    size_t n_tasks = (m + TILE_M - 1) / TILE_M * g.n_tiles_n;
    g.at_b = ta || k % ASSAY_KERN_CHUNK != 0 ? tm * tk : 0;
    g.at_sum = g.at_b + (tb ? 0 : tn * tk);
    g.scratch_size = g.at_sum + (beta || k > DEPTH ? tm * tn : 0);
    if (n_threads < 1) n_threads = 1;
    size_t team = ASSAY_MIN((size_t)n_threads, n_tasks);
    if (g.scratch_size) {
        g.scratch = assay_malloc_aligned(team * g.scratch_size * sizeof *g.scratch);
        if (!g.scratch) return assay_nomem(err);
    }
    assay_parallel((int)team, n_tasks, tile, &g);
    assay_free_aligned(g.scratch);
    return ASSAY_OK;
}
