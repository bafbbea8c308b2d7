/* model/kv.h: a paged key/value cache (Kwon et al. 2023, PagedAttention, section 4.1).
 *
 * Positions of a sequence live in pages of ASSAY_KV_PAGE; a page number names the same place in every layer's
 * buffers. Pages are reference-counted, so that sequences with a common prefix share its full pages.
 * Invariant: a page that two sequences hold is never written again, because a fork shares only full pages and
 * copies the last, partial one. The pool starts small and doubles up to its budget; growing copies pages,
 * numbers stay. Not thread-safe. */
#ifndef ASSAY_MODEL_KV_H
#define ASSAY_MODEL_KV_H

#include "backend/backend.h"
#include "model/config.h"

typedef struct assay_kv assay_kv;

/* All-zero is the empty sequence. */
typedef struct assay_seq {
    int32_t *pages; /* page numbers, position / ASSAY_KV_PAGE indexes them; owned */
    size_t n_pages;
    size_t cap;
    size_t n; /* positions whose keys and values are stored; set by whoever runs the forward pass */
} assay_seq;

/* max_bytes bounds keys and values of all layers together; EINPUT when not even one page fits. */
assay_status assay_kv_open(assay_kv **out, assay_backend *b, const assay_config *c, assay_kv_type type,
                           size_t max_bytes, assay_err *err);
void assay_kv_close(assay_kv *kv); /* NULL is fine; sequences must be released before */

assay_kv_type assay_kv_get_type(const assay_kv *kv);
size_t assay_kv_page_size(const assay_kv *kv); /* bytes of one page in all layers */
size_t assay_kv_max_pages(const assay_kv *kv); /* what the budget holds */
size_t assay_kv_used_pages(const assay_kv *kv);
assay_buf *assay_kv_keys(const assay_kv *kv, int64_t layer); /* borrowed until the next extend or fork */
assay_buf *assay_kv_values(const assay_kv *kv, int64_t layer);

/* Makes room for positions [0, n). ENOMEM, with seq as it was, when the budget is used up. */
assay_status assay_seq_extend(assay_kv *kv, assay_seq *seq, size_t n, assay_err *err);
/* dst (empty) becomes the first n <= src->n positions of src. */
assay_status assay_seq_fork(assay_kv *kv, assay_seq *dst, const assay_seq *src, size_t n, assay_err *err);
/* Gives the pages back; seq is empty again. */
void assay_seq_release(assay_kv *kv, assay_seq *seq);

#endif
