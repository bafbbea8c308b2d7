/* linalg/hadamard.h: orthonormal Hadamard matrices of the orders that models have: 2^k, and 2^k * m with m from Paley's constructions
 * (12, 20, 28, 36, 44, 60, 108, 140, 148, 344 ... up to 1024), generated, not tabulated. All of these widths have one: 768, 2560, 3584,
 * 4864, 5632, 8960, 11008 (344 * 32), 13824, 14336, 18944, 28672, 29568 (924 * 32). 92, 116 and 172, which other constructions give, are
 * not among them. */
#ifndef ASSAY_HADAMARD_H
#define ASSAY_HADAMARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Largest order that divides n and has a matrix here: n itself for most models; else rotations are block-diagonal. At least 1. */
size_t assay_hadamard_block(size_t n);
/* x [rows][n] <- x * blockdiag(H_block, ...)^T, that is, each row's blocks b become H b, H orthonormal; block divides n and has a matrix
 * (is a value of assay_hadamard_block). transpose: H^T, which undoes it. In float32, by the fast transform: log2 additions an element
 * for the power of two, m for the rest. A row's result depends on that row alone. scratch: `block` floats, or NULL for powers of two.
 * Single thread. */
void assay_hadamard_rows(float *x, size_t rows, size_t n, size_t block, bool transpose, float *scratch);
/* Random signs +-1 of a seed, n of them: the diagonal of QuaRot's randomized Hadamard. */
void assay_hadamard_signs(float *signs, size_t n, uint64_t seed);

#endif
