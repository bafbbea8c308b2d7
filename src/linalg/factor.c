/* factor.c: the feedback matrix of GPTQ and LDLQ from the Gram matrix, by a reverse Cholesky factorization H = R R^T, R upper.
 *
 * The originals form U with H^-1 = U^T U (three factorizations and an inverse). But U = R^-1, and what rounding needs of it,
 * 1 / U_ii and the rows of U scaled by it, is R itself: R_ii, and F = R diag(R)^-1 - I (QuIP, section 4.1). So one factorization does,
 * a third of the work, and nothing ill-conditioned is inverted.
 *
 * Right-looking, in tiles of T x T float64, the upper triangle alone, from the last column of tiles to the first:
 *
 *      . . . x        diagonal tile (k,k) is factored and its R inverted
 *        . . x        R(i,k) = H(i,k) R(k,k)^-T          one task a tile
 *          . x        H(i,j) -= R(i,k) R(j,k)^T, i <= j < k     one task a tile
 *            k
 *
 * n is padded to whole tiles by ones on the diagonal, which change nothing. Memory: the triangle, (n^2/2 + n T/2) * 8 bytes, as much as
 * h itself; a column of tiles packed, n T * 8; a tile per thread. */
#include "linalg/linalg.h"

#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/tile64.h"

enum { T = ASSAY_TILE64, AREA = T * T };

/* A pivot below this part of its diagonal element is noise: float32 sums know H to about 2^-24 of it, and what elimination leaves
 * of an exactly dependent column in float64 is some 2^-50. */
#define PIVOT_FLOOR 0x1p-40

typedef struct factor {
    assay_tile64_fn product;
    float *h;
    size_t n, nt, k;  /* elements, tiles a side, the column of tiles in work */
    double *tiles;    /* (i, j), i <= j: column j's tiles lie together */
    double *floor;    /* [nt * T] */
    double *inverse;  /* packed: -R(k,k)^-T */
    double *packed;   /* [nt] tiles: R(i,k)^T */
    double *scratch;  /* a tile per thread */
} factor;

static double *tile_at(const factor *f, size_t i, size_t j) {
    return f->tiles + (j * (j + 1) / 2 + i) * AREA;
}
/* Row and column of the t-th tile in memory. */
static void tile_of(size_t *i, size_t *j, size_t t) {
    size_t col = 0;
    while (t > col) t -= ++col;
    *i = t;
    *j = col;
}

static void load_tile(void *ctx, size_t task, int thread) {
    (void)thread;
    const factor *f = ctx;
    size_t i, j;
    tile_of(&i, &j, task);
    double *t = tile_at(f, i, j);
    for (size_t r = 0; r < T; r++)
        for (size_t c = 0; c < T; c++) {
            size_t y = i * T + r, x = j * T + c;
            t[r * T + c] = y < f->n && x < f->n ? (double)f->h[y * f->n + x] : (double)(y == x);
        }
    for (size_t r = 0; i == j && r < T; r++) f->floor[i * T + r] = fabs(t[r * T + r]) * PIVOT_FLOOR;
}

static void solve_tile(void *ctx, size_t i, int thread) {
    const factor *f = ctx;
    double *t = tile_at(f, i, f->k), *copy = f->scratch + (size_t)thread * AREA;
    for (size_t e = 0; e < AREA; e++) {
        copy[e] = t[e];
        t[e] = 0;
    }
    f->product(t, copy, f->inverse);
    assay_tile64_pack_transposed(f->packed + i * AREA, t, 1);
}

static void update_tile(void *ctx, size_t task, int thread) {
    (void)thread;
    const factor *f = ctx;
    size_t i, j;
    tile_of(&i, &j, task);
    f->product(tile_at(f, i, j), tile_at(f, i, f->k), f->packed + j * AREA);
}

/* F of one tile into both triangles of h. */
static void store_tile(void *ctx, size_t task, int thread) {
    (void)thread;
    const factor *f = ctx;
    size_t i, j, n = f->n;
    tile_of(&i, &j, task);
    const double *t = tile_at(f, i, j), *d = tile_at(f, j, j);
    size_t rows = ASSAY_MIN((size_t)T, n - i * T), cols = ASSAY_MIN((size_t)T, n - j * T);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++) {
            size_t y = i * T + r, x = j * T + c;
            if (y <= x) f->h[x * n + y] = y == x ? 0 : (float)(t[r * T + c] / d[c * T + c]);
        }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            size_t y = i * T + r, x = j * T + c;
            if (y < x) f->h[y * n + x] = (float)(t[r * T + c] / d[c * T + c]);
        }
}

static assay_status eliminate(bool *definite, factor *f, int n_threads, const assay_linalg_watch *watch, assay_err *err) {
    *definite = true;
    for (f->k = f->nt; f->k-- > 0;) {
        if (watch) ASSAY_TRY(watch->fn(watch->ctx, err));
        double *d = tile_at(f, f->k, f->k);
        if (!(*definite = assay_tile64_factor(d, f->floor + f->k * T))) return ASSAY_OK;
        assay_tile64_invert(f->scratch, d);
        assay_tile64_pack_transposed(f->inverse, f->scratch, -1);
        assay_parallel(n_threads, f->k, solve_tile, f);
        assay_parallel(n_threads, f->k * (f->k + 1) / 2, update_tile, f);
    }
    return ASSAY_OK;
}

static void *new_doubles(size_t n, size_t m) {
    size_t bytes;
    return assay_mul_size(&bytes, n, m) && assay_mul_size(&bytes, bytes, sizeof(double)) ? assay_malloc_aligned(bytes) : NULL;
}

assay_status assay_feedback_factor(float *h, double *diag, size_t n, bool *definite, int n_threads, assay_err *err) {
    return assay_feedback_factor_watched(h, diag, n, definite, n_threads, NULL, err);
}

assay_status assay_feedback_factor_watched(float *h, double *diag, size_t n, bool *definite, int n_threads, const assay_linalg_watch *watch,
                                           assay_err *err) {
    assay_status s = ASSAY_OK;
    factor f = {.h = h, .n = n, .nt = (n + T - 1) / T};
    size_t n_tiles = f.nt * (f.nt + 1) / 2;
    *definite = true;
    if (n == 0) return ASSAY_OK;
    if (n_threads < 1) n_threads = 1;
    ASSAY_TRY(assay_tile64_get(&f.product, err));
    int team = (int)ASSAY_MIN((size_t)n_threads, n_tiles);
    f.tiles = new_doubles(n_tiles, AREA);
    f.packed = new_doubles(f.nt, AREA);
    f.floor = new_doubles(f.nt, T);
    f.inverse = new_doubles(1, AREA);
    f.scratch = new_doubles((size_t)team, AREA);
    if (!f.tiles || !f.packed || !f.floor || !f.inverse || !f.scratch) {
        s = assay_nomem(err);
        goto out;
    }
    assay_parallel(team, n_tiles, load_tile, &f);
    ASSAY_GO(eliminate(definite, &f, team, watch, err));
    if (!*definite) goto out;
    assay_parallel(team, n_tiles, store_tile, &f);
    for (size_t i = 0; i < n; i++) {
        double r = tile_at(&f, i / T, i / T)[i % T * T + i % T];
        diag[i] = r * r;
    }
out:
    assay_free_aligned(f.tiles);
    assay_free_aligned(f.packed);
    assay_free_aligned(f.floor);
    assay_free_aligned(f.inverse);
    assay_free_aligned(f.scratch);
    return s;
}
