/* tile64.c: see tile64.h. One body for the product, compiled per instruction set by function attributes: vectors here are gcc's and
 * clang's generic ones, so there is nothing else to tell apart. */
#include "linalg/tile64.h"

#include <math.h>
#include <string.h>
#include "kern/kern.h"

enum { T = ASSAY_TILE64, PANEL = 8 };

typedef double v2 __attribute__((vector_size(16), aligned(8), may_alias));
typedef double v4 __attribute__((vector_size(32), aligned(8), may_alias));
typedef double v8 __attribute__((vector_size(64), aligned(8), may_alias));

/* ROWS x (NV * LANES) sums in registers, the columns within one panel of b. */
#define PRODUCT(NAME, TARGET, V, LANES, ROWS, NV)                                                                    \
    TARGET static void NAME(double *c, const double *a, const double *b) {                                           \
        for (size_t j = 0; j < T; j += (LANES) * (NV))                                                               \
            for (size_t i = 0; i < T; i += (ROWS)) {                                                                 \
                const double *ap = a + i * T, *bp = b + j / PANEL * PANEL * T + j % PANEL;                           \
                V s[ROWS][NV];                                                                                       \
                UNROLL for (int r = 0; r < (ROWS); r++) UNROLL for (int v = 0; v < (NV); v++) s[r][v] = (V){0};      \
                for (size_t k = 0; k < T; k++) {                                                                     \
                    V w[NV];                                                                                         \
                    UNROLL for (int v = 0; v < (NV); v++) w[v] = *(const V *)(bp + k * PANEL + (LANES) * v);         \
                    UNROLL for (int r = 0; r < (ROWS); r++) {                                                        \
                        double x = ap[(size_t)r * T + k];                                                            \
                        UNROLL for (int v = 0; v < (NV); v++) s[r][v] += x * w[v];                                   \
                    }                                                                                                \
                }                                                                                                    \
                UNROLL for (int r = 0; r < (ROWS); r++) UNROLL for (int v = 0; v < (NV); v++)                        \
                    *(V *)(c + (i + (size_t)r) * T + j + (LANES) * v) -= s[r][v];                                    \
            }                                                                                                        \
    }
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

PRODUCT(product_base, , v2, 2, 4, 2)
#if defined(__x86_64__)
PRODUCT(product_avx2, __attribute__((target("avx2"))), v4, 4, 4, 2)
PRODUCT(product_avx512, __attribute__((target("avx512f"))), v8, 8, 8, 1)
#endif

assay_status assay_tile64_get(assay_tile64_fn *out, assay_err *err) {
    assay_kern kern;
    ASSAY_TRY(assay_kern_init(&kern, NULL, err));
    *out = product_base;
#if defined(__x86_64__)
    if (strcmp(kern.name, "avx512") == 0) *out = product_avx512;
    if (strcmp(kern.name, "avx2") == 0) *out = product_avx2;
#endif
    return ASSAY_OK;
}

void assay_tile64_pack_transposed(double *b, const double *t, double sign) {
    for (size_t j = 0; j < T; j += PANEL)
        for (size_t k = 0; k < T; k++)
            for (size_t v = 0; v < PANEL; v++) b[j * T + k * PANEL + v] = sign * t[(j + v) * T + k];
}

/* y[0..n) -= a * x[0..n) */
static void subtract(double *restrict y, double a, const double *restrict x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) y[i + k] -= a * x[i + k];
    for (; i < n; i++) y[i] -= a * x[i];
}

bool assay_tile64_factor(double *t, const double *floor) {
    double column[T]; /* of R */
    for (size_t k = T; k-- > 0;) {
        double pivot = t[k * T + k];
        if (!(pivot > floor[k])) return false;
        double r = sqrt(pivot);
        for (size_t i = 0; i < k; i++) column[i] = t[i * T + k] /= r;
        t[k * T + k] = r;
        for (size_t i = 0; i < k; i++) subtract(t + i * T + i, column[i], column + i, k - i);
        memset(t + k * T, 0, k * sizeof *t);
    }
    return true;
}

/* Row i of the inverse follows from those below it: inv[i] = (e_i - sum_{k>i} r[i][k] inv[k]) / r[i][i]. */
void assay_tile64_invert(double *inv, const double *r) {
    memset(inv, 0, (size_t)T * T * sizeof *inv);
    for (size_t i = T; i-- > 0;) {
        double *y = inv + i * T;
        y[i] = 1;
        for (size_t k = i + 1; k < T; k++) subtract(y + k, r[i * T + k], inv + k * T + k, T - k);
        for (size_t j = i; j < T; j++) y[j] /= r[i * T + i];
    }
}
