/* text/ids.h: a growing list of token ids. */
#ifndef ASSAY_TEXT_IDS_H
#define ASSAY_TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>
#include "base/mem.h"

typedef struct assay_ids {
    int32_t *v; /* owned */
    size_t n, cap;
} assay_ids;

static inline assay_status assay_ids_put(assay_ids *ids, int32_t id, assay_err *err) {
    if (ids->n == ids->cap) ASSAY_TRY(assay_grow(&ids->v, &ids->cap, ids->n + 1, sizeof *ids->v, err));
    ids->v[ids->n++] = id;
    return ASSAY_OK;
}

#endif
