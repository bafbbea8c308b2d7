/* method/excerpt.h: some tokens of the calibration in place of all of them, for what needs a fair impression
 * and no more: AWQ's statistics, the trials of scales, the sample that losses are measured on. Inside the room
 * only. */
#ifndef ASSAY_METHOD_EXCERPT_H
#define ASSAY_METHOD_EXCERPT_H

#include "method/methods.h"

typedef struct assay_excerpt {
    const float *x; /* [n_tokens][hidden] */
    const int32_t *lengths;
    size_t n_seqs, n_tokens;
    float *own_x; /* what close frees */
    int32_t *own_lengths;
} assay_excerpt;

/* The beginnings, of at most per_seq tokens, of sequences spread evenly over the layer's: as many of them as
 * make up most_tokens, or all there are. Copies them. */
assay_status assay_excerpt_open(assay_excerpt *out, const assay_layer *layer, size_t most_tokens,
                                size_t per_seq, assay_err *err);
/* The layer's calibration becomes the excerpt, and the excerpt what the layer's was; a second time puts both
 * back. */
void assay_excerpt_swap(assay_excerpt *e, assay_layer *layer);
void assay_excerpt_close(assay_excerpt *e); /* not while swapped; all-zero is fine */

/* Of these input roles, experts aside, those so wide that a Gram matrix of them is dear and an excerpt is what samples and
 * statistics are taken from; a narrow model's pass over all tokens costs nothing beside the rest. */
uint64_t assay_excerpt_roles(assay_layer *layer, uint64_t roles);
/* As assay_layer_collect, over an excerpt: of 2,048 tokens, or of 1,024 where a sample is all that is
 * wanted. */
assay_status assay_excerpt_collect(assay_layer *layer, uint64_t roles, unsigned what, assay_err *err);

#endif
