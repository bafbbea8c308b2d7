/* linalg/hadamard.h: orthonormal Hadamard matrices of the orders that models have: 2^k, and 2^k * m with m from Paley's constructions
 * (12, 20, 28, 36, 44, 60 ...), generated, not tabulated. */
#ifndef ASSAY_HADAMARD_H
#define ASSAY_HADAMARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Largest order that divides n and has a matrix here: n itself for most models; else rotations are block-diagonal. At least 1. */
size_t assay_hadamard_block(size_t n);
/* x [rows][n] <- x * blockdiag(H_block, ...), each H orthonormal; block divides n and has a matrix. transpose: by H^T. In float32,
 * fast (n log n) transform; a row's result depends on that row alone. scratch: n floats, or NULL for powers of two. Single thread. */
void assay_hadamard_rows(float *x, size_t rows, size_t n, size_t block, bool transpose, float *scratch);
/* Random signs +-1 of a seed, n of them: the diagonal of QuaRot's randomized Hadamard. */
void assay_hadamard_signs(float *signs, size_t n, uint64_t seed);

#endif
