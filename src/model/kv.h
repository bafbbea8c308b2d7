/* model/kv.h: a paged key/value cache (Kwon et al. 2023, PagedAttention, section 4.1), quantized or not.
 *
 * Positions of a sequence live in pages of ASSAY_KV_PAGE; a page number names the same place in every layer's
 * buffers. Pages are reference-counted, so that sequences with a common prefix share its full pages.
 * Invariant: a page that two sequences hold is never written again, because a fork shares only full pages and
 * copies the last, partial one. Pools start small and double up to their bounds; growing copies pages,
 * numbers stay. Not thread-safe.
 *
 * A quantized cache (backend.h, packing) has two pools. Packed pages are what lasts. Pages in the model's own
 * type
 * ("raw") exist for the page that a sequence is writing, and for those that the forward call in work has
 * completed: assay_seq_advance gives them back. So a sequence costs its packed pages and one raw page, and a
 * query sees the 1 to 64 newest positions, its own among them, unquantized.
 *
 * A page of keys and values of one sequence:    | packed | packed | packed | raw, partial |
 * Forking at a page's edge needs nothing raw; within a page it needs that page raw, which the source has only
 * while it has not gone beyond it (assay_seq_forkable). More than the own page cannot be kept raw for this
 * reason: what a query at the fork would see would depend on where the source stands. */
#ifndef ASSAY_MODEL_KV_H
#define ASSAY_MODEL_KV_H

#include "backend/backend.h"
#include "model/config.h"

/* How keys and values are kept, as a user says it. AUTO: the model's own 16-bit type, or float32. */
typedef enum assay_kv_kind {
#define X(NAME, word, type, pack) ASSAY_KV_KIND_##NAME,
#include "model/kvs.def"
#undef X
    ASSAY_KV_KINDS
} assay_kv_kind;
const char *assay_kv_kind_word(assay_kv_kind k);
bool assay_kv_kind_parse(assay_kv_kind *out, const char *word);
/* "auto, f32, bf16, ...": for messages. */
const char *assay_kv_kind_list(void);

/* The unquantized type of a model computed in mode `act`: float32 when everything is, else the checkpoint's
 * own. */
assay_kv_type assay_kv_own_type(const assay_config *c, assay_act_mode act);

typedef struct assay_kv_opts {
    assay_kv_type type; /* of raw pages */
    assay_kv_pack pack;
    size_t max_bytes; /* bounds keys and values of all layers together, raw pages included */
    size_t raw_pages; /* packing: raw pages at most; 0 = 64. At least ASSAY_KV_LEAST_RAW, and no more than
                         half of max_bytes */
} assay_kv_opts;
#define ASSAY_KV_LEAST_RAW 3

/* kind -> type and pack, for a model whose own type is `own`. */
assay_kv_opts assay_kv_opts_of(assay_kv_kind kind, assay_kv_type own, size_t max_bytes);
/* Bytes of an unquantized page in one layer, keys and values. */
size_t assay_kv_plain_page(const assay_config *c, assay_kv_type type);
/* What a cache opened so comes to, without opening it. EINPUT when not even one page fits. */
typedef struct assay_kv_size {
    size_t page;      /* bytes of one lasting page in all layers */
    size_t raw_page;  /* of one raw page; 0 without packing */
    size_t max_pages; /* lasting pages that the budget holds beside the raw ones */
    size_t max_raw;   /* 0 without packing */
} assay_kv_size;
assay_status assay_kv_measure(assay_kv_size *out, const assay_config *c, const assay_kv_opts *o,
                              assay_err *err);

typedef struct assay_kv assay_kv;

/* All-zero is the empty sequence. */
typedef struct assay_seq {
    int32_t *pages; /* the page table: ASSAY_KV_ENTRY numbers per page (backend.h), -1 = a raw page given
                       back; owned */
    size_t n_pages;
    size_t cap;
    size_t n; /* positions whose keys and values are stored: assay_seq_advance, after the forward pass */
} assay_seq;

/* Without packing. */
assay_status assay_kv_open(assay_kv **out, assay_backend *b, const assay_config *c, assay_kv_type type,
                           size_t max_bytes, assay_err *err);
assay_status assay_kv_open_with(assay_kv **out, assay_backend *b, const assay_config *c,
                                const assay_kv_opts *o, assay_err *err);
void assay_kv_close(assay_kv *kv); /* NULL is fine; sequences must be released before */

assay_kv_type assay_kv_get_type(const assay_kv *kv); /* of raw pages */
assay_kv_pack assay_kv_get_pack(const assay_kv *kv);
const assay_kv_size *assay_kv_get_size(const assay_kv *kv); /* borrowed */
size_t assay_kv_page_size(const assay_kv *kv);              /* bytes of one lasting page in all layers */
size_t assay_kv_max_pages(const assay_kv *kv);              /* what the budget holds */
size_t assay_kv_used_pages(const assay_kv *kv);
size_t assay_kv_free_raw(const assay_kv *kv);   /* raw pages that can be taken; SIZE_MAX without packing */
size_t assay_kv_used_bytes(const assay_kv *kv); /* of pages in use, both kinds */
assay_kv_layer assay_kv_get_layer(const assay_kv *kv, int64_t layer); /* borrowed until the next extend or fork */

/* Makes room for positions [0, n). ENOMEM, with seq as it was, when the budget is used up. */
assay_status assay_seq_extend(assay_kv *kv, assay_seq *seq, size_t n, assay_err *err);
/* Positions [0, n) are stored now: seq->n = n, and raw pages of complete pages are given back. */
void assay_seq_advance(assay_kv *kv, assay_seq *seq, size_t n);
/* The most of the first n <= src->n positions of src that a fork can take: all of them, or with packing
 * perhaps whole pages only. */
size_t assay_seq_forkable(const assay_kv *kv, const assay_seq *src, size_t n);
/* dst (empty) becomes the first n <= src->n positions of src. EINPUT when they are not forkable. */
assay_status assay_seq_fork(assay_kv *kv, assay_seq *dst, const assay_seq *src, size_t n, assay_err *err);
/* Gives the pages back; seq is empty again. */
void assay_seq_release(assay_kv *kv, assay_seq *seq);

#endif
