/* linalg/tile64.h: float64 tiles of ASSAY_TILE64 x ASSAY_TILE64, row-major: the pieces of the factorization. Inside the room only.
 *
 * The product multiplies and adds in two roundings (no fma) and each element's sum runs in one order, so every instruction set gives
 * the same bits. On Zen 4 that costs nothing, since products and sums have units of their own: measured 50-53 GFLOP/s on one core with
 * AVX2 or AVX-512, OpenBLAS 0.3.21's dgemm 48-52 on the same tiles, which is why OpenBLAS is not among the dependencies. */
#ifndef ASSAY_LINALG_TILE64_H
#define ASSAY_LINALG_TILE64_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

#define ASSAY_TILE64 256

/* c -= a b, b packed (below). Elementwise c[i][j] -= sum_k a[i][k] b[k][j], k ascending from 0. */
typedef void (*assay_tile64_fn)(double *c, const double *a, const double *b);
/* For this CPU, within ASSAY_CPU. */
assay_status assay_tile64_get(assay_tile64_fn *out, assay_err *err);
/* b <- sign * t^T in panels of eight columns: b[j/8][k][j%8] = sign * t[j][k]. */
void assay_tile64_pack_transposed(double *b, const double *t, double sign);

/* Reverse Cholesky: the upper triangle of t becomes R, upper, with R R^T = t; what is below becomes 0. false when a pivot is not above
 * floor[k] (or is NaN). */
bool assay_tile64_factor(double *t, const double *floor);
/* inv <- the inverse of upper triangular r, below 0. */
void assay_tile64_invert(double *inv, const double *r);

#endif
