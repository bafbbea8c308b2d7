/* runtime/prefix.h: sequences kept after their request was done, so that a later prompt with the same
 * beginning need not compute it again. Private to the room. Entries hold pages of the KV pool until they are
 * evicted, the least recently used first. */
#ifndef ASSAY_RUNTIME_PREFIX_H
#define ASSAY_RUNTIME_PREFIX_H

#include <stdint.h>
#include "model/kv.h"

typedef struct assay_prefix_entry {
    int32_t *ids; /* owned; the first seq.n of them are in the cache */
    assay_seq seq;
    bool is_long; /* assay_config_is_long of the text: keys of either kind are of no use to the other */
    uint64_t used; /* larger = later */
} assay_prefix_entry;

typedef struct assay_prefix {
    assay_kv *kv; /* borrowed */
    assay_prefix_entry *list;
    size_t n, max;
    uint64_t clock;
} assay_prefix;

assay_status assay_prefix_init(assay_prefix *p, assay_kv *kv, size_t max_entries, assay_err *err);
void assay_prefix_deinit(assay_prefix *p);

/* Length of the common beginning of a and b. */
size_t assay_common_prefix(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b);
/* The entry of that kind with the longest beginning of ids that can be forked from it, and its length; NULL when there is none.
 * Marks it used. */
const assay_seq *assay_prefix_find(size_t *length, assay_prefix *p, const int32_t *ids, size_t n, bool is_long);
/* Takes ids and seq over (both are empty afterwards). An entry that is a beginning of it makes way; one that
 * contains it stays instead. */
void assay_prefix_put(assay_prefix *p, int32_t **ids, assay_seq *seq, bool is_long);
/* Evicts until `pages` can be taken from the pool (and as many raw ones), or nothing is left. */
void assay_prefix_make_room(assay_prefix *p, size_t pages);

#endif
