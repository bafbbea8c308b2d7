/* gemm.c: products of float32 matrices over kern's tiles of dot products, as they are or rounded to bf16 first.
 *
 *   C  is cut into tiles of TILE_M x TILE_N, one task each
 *   k  is walked in chunks of DEPTH columns, so that the tile's part of both operands (2 x ~0.5 MB) stays in the second-level cache;
 *      chunks are added in order
 *
 * kern wants both operands contiguous along k. An operand that lies so is read where it is; the other kind is transposed into the
 * thread's buffer, once per tile and chunk, which costs about a tenth of the tile's products. For bf16 both are packed, rounded. */
#include "linalg/linalg.h"

#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "kern/kern.h"
#include "linalg/pack.h"

enum { TILE_M = 192, TILE_N = 256, DEPTH = 512, STRIP = 32 };

typedef struct job {
    assay_kern kern;
    float *c;
    const float *a, *b;
    size_t ldc, lda, ldb, m, n, k;
    bool ta, tb, beta, bf16;
    size_t n_tiles_n;
    /* a thread's scratch: A's part, B's part, products to be added, bf16: a strip before it is rounded */
    float *scratch;
    size_t scratch_size, at_b, at_sum, at_strip; /* elements */
} job;

/* dst[rows][ld] <- rows of src along k, rounded to bf16; across: src holds them as columns. */
static void pack_bf16(uint16_t *dst, size_t ld, float *strip, const job *g, const float *src, size_t lds, bool across, size_t rows,
                      size_t k) {
    for (size_t r = 0; r < rows; r += STRIP) {
        size_t n = ASSAY_MIN((size_t)STRIP, rows - r);
        const float *from = strip;
        size_t ldf = ld;
        if (across) {
            assay_pack_columns(strip, ld, src + r, lds, n, k);
        } else if (k % ASSAY_KERN_CHUNK != 0) {
            assay_pack_rows(strip, ld, src + r * lds, lds, n, k);
        } else {
            from = src + r * lds;
            ldf = lds;
        }
        for (size_t i = 0; i < n; i++) g->kern.to_bf16(dst + (r + i) * ld, from + i * ldf, assay_pack_up(k));
    }
}

static void tile_bf16(const job *g, float *c, float *scratch, size_t i, size_t j, size_t m, size_t n) {
    uint16_t *x = (uint16_t *)scratch, *w = (uint16_t *)(scratch + g->at_b);
    float *strip = scratch + g->at_strip, *sum = scratch + g->at_sum;
    for (size_t p = 0; p < g->k; p += DEPTH) {
        size_t k = ASSAY_MIN((size_t)DEPTH, g->k - p), ld = assay_pack_ld(k);
        pack_bf16(x, ld, strip, g, g->ta ? g->a + p * g->lda + i : g->a + i * g->lda + p, g->lda, g->ta, m, k);
        pack_bf16(w, ld, strip, g, g->tb ? g->b + j * g->ldb + p : g->b + p * g->ldb + j, g->ldb, !g->tb, n, k);
        if (p == 0 && !g->beta) {
            g->kern.gemm_bf16(c, g->ldc, x, ld, w, ld, k, m, n);
        } else {
            g->kern.gemm_bf16(sum, n, x, ld, w, ld, k, m, n);
            for (size_t r = 0; r < m; r++) g->kern.add(c + r * g->ldc, sum + r * n, n);
        }
    }
}

static void tile(void *ctx, size_t task, int thread) {
    const job *g = ctx;
    size_t i = task / g->n_tiles_n * TILE_M, j = task % g->n_tiles_n * TILE_N;
    size_t m = ASSAY_MIN((size_t)TILE_M, g->m - i), n = ASSAY_MIN((size_t)TILE_N, g->n - j);
    float *scratch = g->scratch ? g->scratch + (size_t)thread * g->scratch_size : NULL;
    float *c = g->c + i * g->ldc + j;
    if (g->bf16) {
        tile_bf16(g, c, scratch, i, j, m, n);
        return;
    }
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

static assay_status run(job *g, int n_threads, assay_err *err) {
    if (g->m == 0 || g->n == 0 || (g->k == 0 && g->beta)) return ASSAY_OK;
    if (g->k == 0) {
        for (size_t i = 0; i < g->m; i++) memset(g->c + i * g->ldc, 0, g->n * sizeof *g->c);
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_kern_init(&g->kern, NULL, err));
    size_t tm = ASSAY_MIN(g->m, (size_t)TILE_M), tn = ASSAY_MIN(g->n, (size_t)TILE_N);
    size_t tk = assay_pack_ld(ASSAY_MIN(g->k, (size_t)DEPTH)), half = g->bf16 ? 2 : 1; /* elements of scratch per float */
    g->n_tiles_n = (g->n + TILE_N - 1) / TILE_N;
    size_t n_tasks = (g->m + TILE_M - 1) / TILE_M * g->n_tiles_n;
    g->at_b = g->bf16 || g->ta || g->k % ASSAY_KERN_CHUNK != 0 ? tm * tk / half : 0;
    g->at_sum = g->at_b + (g->bf16 || !g->tb ? tn * tk / half : 0);
    g->at_strip = g->at_sum + (g->beta || g->k > DEPTH ? tm * tn : 0);
    g->scratch_size = g->at_strip + (g->bf16 ? STRIP * tk : 0);
    if (n_threads < 1) n_threads = 1;
    size_t team = ASSAY_MIN((size_t)n_threads, n_tasks);
    if (g->scratch_size) {
        g->scratch = assay_malloc_aligned(team * g->scratch_size * sizeof *g->scratch);
        if (!g->scratch) return assay_nomem(err);
    }
    assay_parallel((int)team, n_tasks, tile, g);
    assay_free_aligned(g->scratch);
    return ASSAY_OK;
}

assay_status assay_gemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb, bool tb, size_t m,
                        size_t n, size_t k, bool beta, int n_threads, assay_err *err) {
    job g = {.c = c, .a = a, .b = b, .ldc = ldc, .lda = lda, .ldb = ldb, .m = m, .n = n, .k = k, .ta = ta, .tb = tb, .beta = beta};
    return run(&g, n_threads, err);
}

assay_status assay_gemm_bf16(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb, bool tb, size_t m,
                             size_t n, size_t k, bool beta, int n_threads, assay_err *err) {
    job g = {.c = c, .a = a, .b = b, .ldc = ldc, .lda = lda, .ldb = ldb, .m = m, .n = n, .k = k, .ta = ta, .tb = tb, .beta = beta};
    g.bf16 = true;
    return run(&g, n_threads, err);
}
