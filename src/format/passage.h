/* format/passage.h: a tensor on its way into a writer, a piece at a time, so that a tensor of any size costs a few MiB of memory. Not for
 * other rooms.
 *
 * A row is the innermost dimension; a tensor of one dimension has rows of one element. Rows may come in another order than they lie in, and
 * floats may be widened to float32 with something added; nothing else changes here. */
#ifndef ASSAY_FORMAT_PASSAGE_H
#define ASSAY_FORMAT_PASSAGE_H

#include "format/checkpoint.h"
#include "format/writer_impl.h"

typedef struct assay_passage {
    assay_tensor t;            /* as it will be: name, type or block, dimensions; data unused */
    const uint8_t *data;       /* as it lies; NULL when the writer is planning */
    assay_dtype from;          /* the type of `data`: t.dtype, or a float while t.dtype is F32 */
    float shift;               /* added to what is widened */
    int64_t *rows;             /* [rows] which row of `data` comes to each place; NULL: as they lie. Owned */
    void *owned;               /* `data`, when nobody else has it */
    const assay_checkpoint *c; /* whose pages are fetched ahead and let go; NULL: of none */
    bool is_checked;           /* NaN and infinity are not looked for */
} assay_passage;

/* What t is, with data borrowed; its order is for the caller to undo. */
void assay_passage_init(assay_passage *p, const assay_tensor *t);
void assay_passage_deinit(assay_passage *p);
/* Takes new data, whole and in order, in place of the old. */
void assay_passage_take(assay_passage *p, void *data);
/* Rows of a plain order to where `order` has them (t's own order stays plain); EINPUT when they are not those of that many heads, each of
 * a multiple of `unit` rows. */
assay_status assay_passage_reorder(assay_passage *p, assay_order order, int64_t n_heads, int64_t unit, assay_err *err);
/* The inverse: rows that lie in t's order to a plain one (PLAIN, PAIRS, PARTS). */
assay_status assay_passage_flatten(assay_passage *p, assay_err *err);
/* Floats become float32 with `shift` added; EUNSUPPORTED for blocks and integers. */
assay_status assay_passage_widen(assay_passage *p, float shift, assay_err *err);
/* Looks for NaN and infinity in all of it now: EINPUT tells the first. For what is taken apart rather than written as it is. */
assay_status assay_passage_check(assay_passage *p, assay_err *err);
/* Adds the tensor to the record that the writer makes; `to` and `part` as in assay_spooled. A planning writer only notes it. */
assay_status assay_passage_write(assay_ckpt_writer *w, const assay_passage *p, const char *to, int64_t part, assay_err *err);

#endif
