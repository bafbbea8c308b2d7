/* text/vocab.h: token strings <-> ids, and the merge table of BPE. Built once, then read-only. */
#ifndef ASSAY_TEXT_VOCAB_H
#define ASSAY_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "text/text.h"

#define ASSAY_VOCAB_MAX_ID 0x3FFFFF /* ids above this are taken for a broken file */

/* Strings to ids: open addressing, linear probing, at most half full. Ids to strings: an array. */
typedef struct assay_vocab {
    assay_arena text; /* owns the strings */
    assay_token_text *by_id;
    size_t n_ids, cap_ids; /* highest id + 1 */
    int32_t *slots;        /* index of a key below, or -1; n_slots is a power of two */
    size_t n_slots;
    struct assay_vocab_key {
        const char *s;
        uint32_t n, hash;
        int32_t id;
    } * keys;
    size_t n_keys, cap_keys;
} assay_vocab;

/* Room for n tokens without growing. */
assay_status assay_vocab_reserve(assay_vocab *v, size_t n, assay_err *err);
/* Adds a token; a string already there keeps its first id, though both ids have it. EINPUT for an id out of
 * range. */
assay_status assay_vocab_add(assay_vocab *v, const char *s, size_t n, int64_t id, assay_err *err);
int32_t assay_vocab_find(const assay_vocab *v, const char *s, size_t n); /* -1 when it is not there */
/* out[b] = the id of "<0xHH>" for byte b, or -1. */
assay_status assay_vocab_find_bytes(int32_t out[256], const assay_vocab *v, assay_err *err);
void assay_vocab_free(assay_vocab *v);

/* (left id, right id) -> (rank, id of the pair). */
typedef struct assay_merge {
    uint64_t key; /* left << 32 | right; UINT64_MAX when the slot is empty */
    uint32_t rank;
    int32_t id;
} assay_merge;

typedef struct assay_merges {
    assay_merge *slots;
    size_t n_slots; /* a power of two, or 0 */
} assay_merges;

assay_status assay_merges_reserve(assay_merges *m, size_t n, assay_err *err);
void assay_merges_put(assay_merges *m, int32_t left, int32_t right, uint32_t rank,
                      int32_t id); /* the last one wins */
void assay_merges_free(assay_merges *m);

static inline size_t assay_merge_hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return (size_t)(key >> 32 ^ key >> 13);
}
/* NULL when the pair does not merge. */
static inline const assay_merge *assay_merges_find(const assay_merges *m, int32_t left, int32_t right) {
    if (!m->n_slots) return NULL;
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = assay_merge_hash(key);; i++) {
        const assay_merge *e = &m->slots[i & (m->n_slots - 1)];
        if (e->key == key) return e;
        if (e->key == UINT64_MAX) return NULL;
    }
}

#endif
