/* linalg/linalg.h: dense linear algebra for methods and training: threaded products over kern's kernels, Gram matrices, the
 * factorization that GPTQ needs.
 *
 * DETERMINISM (a must): work is cut into fixed tiles that depend on shapes alone and a tile is computed by one thread in one order, so
 * results are bit-identical for any n_threads; and, since kern's sets agree and the float64 tiles fuse nothing, for any instruction
 * set too (bf16 Gram matrices but for subnormal numbers, see kern.h).
 *
 * Matrices are row-major float32; ld is the distance between rows in elements. Outputs never alias inputs. n_threads below 1 is 1. */
#ifndef ASSAY_LINALG_H
#define ASSAY_LINALG_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

/* C[m][n] = (beta ? C : 0) + op(A) op(B), where op(A) is [m][k] and op(B) is [k][n]; ta: A is stored [k][m]; tb: B is stored [n][k].
 * Accumulation in float32, in chunks of 512 along k. Fastest where both operands lie contiguous along k (!ta, tb): others are
 * transposed on the way. beta adds the finished sum to C. ENOMEM for packing buffers (at most 1.4 MB per thread). */
assay_status assay_gemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb, bool tb, size_t m,
                        size_t n, size_t k, bool beta, int n_threads, assay_err *err);

/* The same of operands rounded to bf16, with exact products and accumulation in float32: at about twice the speed. */
assay_status assay_gemm_bf16(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb, bool tb, size_t m,
                             size_t n, size_t k, bool beta, int n_threads, assay_err *err);

/* H[cols][cols] += X^T X for X [n][cols]; the whole of H is kept symmetric (and must be at the start). bf16: the products are taken of
 * x rounded to bf16 (exact when x is bf16 already), at twice the speed. Scratch: a chunk of X transposed, 2 KB per column. Calls with
 * many rows are cheaper per row: each call touches all of H. */
assay_status assay_gram_add(float *h, const float *x, size_t n, size_t cols, bool bf16, int n_threads, assay_err *err);

/* Feedback matrix of error-compensating rounding (GPTQ: Frantar et al. 2022; shown equal to LDLQ in Chee et al. 2023, QuIP, section
 * 4.1): factors H = R R^T with R upper triangular, in float64, and leaves in `h` F[j][i] = R[j][i] / R[i][i] for j < i in both
 * triangles (h[j][i] = h[i][j]: what column i takes from those before it lies contiguous in row i), zeros on the diagonal; and in
 * diag[i] = R[i][i]^2, which is GPTQ's 1 / U_ii^2. Rounding columns in ascending order, column i is rounded at
 * w_i + sum_{j<i} (w_j - q_j) * F[j][i]: no inverse is ever formed. Only the upper triangle of H is read.
 * *definite = false when a pivot is not above 2^-40 of its diagonal element (or NaN): H is not positive definite, or so nearly singular
 * that the rest is noise; the caller adds damping. h is then unchanged, diag too. Memory: (n^2/2 + 384 n) * 8 bytes, half of a
 * float64 H, plus half a megabyte per thread. ENOMEM. */
assay_status assay_feedback_factor(float *h, double *diag, size_t n, bool *definite, int n_threads, assay_err *err);
/* The same, with fn called from the calling thread n/64 times or more; what it returns but OK ends the work with h and diag unchanged. */
typedef struct assay_linalg_watch {
    assay_status (*fn)(void *ctx, assay_err *err);
    void *ctx;
} assay_linalg_watch;
assay_status assay_feedback_factor_watched(float *h, double *diag, size_t n, bool *definite, int n_threads, const assay_linalg_watch *watch,
                                           assay_err *err);

#endif
