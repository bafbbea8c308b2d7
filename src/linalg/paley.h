/* linalg/paley.h: Hadamard matrices from quadratic residues (Paley 1933), a row at a time. Inside the room only.
 *
 * Over the field of q elements, q an odd prime power, with chi(x) = 0, 1, -1 for zero, squares and the rest, Q[a][b] = chi(a - b):
 *
 *   q = 3 mod 4   order q + 1     H = I + S,  S = | 0  1 |   skew, so H^T = I - S
 *                                                 |-1  Q |
 *   q = 1 mod 4   order 2(q + 1)  H = C x | 1  1 | + I x | 1 -1 |,  C = | 0  1 |   symmetric, so H^T = H
 *                                         | 1 -1 |       |-1 -1 |       | 1  Q |
 *
 * The field's elements are polynomials over the integers mod p, written as numbers in base p. */
#ifndef ASSAY_LINALG_PALEY_H
#define ASSAY_LINALG_PALEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ASSAY_PALEY_MAX 1024 /* largest order */

typedef struct assay_paley {
    size_t order, q, p;          /* q a power of the prime p */
    int8_t chi[ASSAY_PALEY_MAX]; /* [q] */
} assay_paley;

/* Whether there is a matrix of that order here (orders up to ASSAY_PALEY_MAX, multiples of four). */
bool assay_paley_exists(size_t order);
/* false when there is none. */
bool assay_paley_init(assay_paley *out, size_t order);
/* Row i, +1 and -1, of H or of H^T. */
void assay_paley_row(float *signs, const assay_paley *h, size_t i, bool transpose);

#endif
