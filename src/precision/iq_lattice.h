/* precision/iq_lattice.h: the nearest points of the IQ types' grids, for their encoders. Not for other
 * rooms.
 *
 * An encoder rounds a vector level by level; only some of the vectors that come out are points of the
 * grid. For each of the others the lattice lists the points at the least, second least ... distance in
 * levels (two distances, three for IQ1 and IQ3_S, one for IQ2_S), nearest first and in the grid's order:
 * candidates of which the encoder takes the one with the least weighted error. */
#ifndef ASSAY_PRECISION_IQ_LATTICE_H
#define ASSAY_PRECISION_IQ_LATTICE_H

#include "base/status.h"
#include "precision/precision.h"

enum { ASSAY_LATTICE_DIMS = 8, ASSAY_LATTICE_LEVELS = 8 }; /* at most */

typedef struct assay_lattice {
    int dims, bits, n_levels;
    int32_t
        *at; /* by packed levels: the point's place, or -1 - k: its list begins at near[k] with its length */
    uint16_t *near;
    uint8_t (*levels)[ASSAY_LATTICE_DIMS]; /* of each point */
} assay_lattice;

/* The lattice of an IQ precision with a grid, made when it is first asked for and kept; thread-safe. *out
 * is NULL for a precision without a grid. */
assay_status assay_lattice_get(const assay_lattice **out, assay_precision p, assay_err *err);
/* The same once it is made; what the row encoders call. */
const assay_lattice *assay_lattice_made(assay_precision p);

/* The place of the point for a group's vector: that of `levels` if they are one, else the candidate with
 * the least sum of weight (scale values[level] - w)^2; levels become the point's, and *on_grid says which
 * it was. */
int assay_lattice_find(uint8_t *levels, bool *on_grid, const assay_lattice *g, const float *w,
                       const float *weight, float scale, const float *values);

#endif
