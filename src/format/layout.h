/* format/layout.h: which tensor goes to which place of which file. Not for other rooms. */
#ifndef ASSAY_FORMAT_LAYOUT_H
#define ASSAY_FORMAT_LAYOUT_H

#include "base/json.h"
#include "num/dtype.h"

#define ASSAY_SINGLE_NAME "model.safetensors"
#define ASSAY_INDEX_NAME  "model.safetensors.index.json"

typedef struct assay_spooled {
    assay_tensor tensor; /* data unused */
    uint64_t at;         /* its place in the spool */
    const char *to;      /* GGUF: the file's name for it, else NULL */
    int64_t part;        /* GGUF: which expert of the stack `to`; -1 = no stack */
} assay_spooled;

typedef struct assay_shard {
    char name[160];
    size_t first, n; /* in order */
} assay_shard;

typedef struct assay_layout {
    const assay_spooled **order; /* all tensors, shard by shard */
    size_t n;
    assay_shard *shards; /* at least one */
    size_t n_shards;
    uint64_t align; /* of the tensors' places; 0 = they follow each other */
    bool *joins;    /* [n]: this one follows the one before whatever the alignment; NULL = none does */
} assay_layout;

/* Depends on names, types and sizes alone, not on the order of `tensors`, which are borrowed. */
assay_status assay_layout_init(assay_layout *l, const assay_spooled *tensors, size_t n, uint64_t shard_bytes,
                               assay_err *err);
/* Places in its file of a shard's tensors, after a header of `header` bytes, into at[order]; NULL: not wanted. Returns the file's length. */
uint64_t assay_layout_places(uint64_t *at, const assay_layout *l, size_t shard, uint64_t header);
void assay_layout_free(assay_layout *l);
/* The content of model.safetensors.index.json; new reference, NULL when out of memory. */
json_t *assay_layout_index(const assay_layout *l);

#endif
