/* format/traps.h: what can go wrong with a checkpoint that opens without an error. */
#ifndef ASSAY_FORMAT_TRAPS_H
#define ASSAY_FORMAT_TRAPS_H

#include "format/format.h"

typedef enum assay_trap_id {
#define X(NAME, id, text) ASSAY_TRAP_##NAME,
#include "format/traps.def"
#undef X
    ASSAY_TRAP_COUNT
} assay_trap_id;

const char *assay_trap_name(assay_trap_id id); /* "zero-wrap" */
const char *assay_trap_text(assay_trap_id id);

typedef struct assay_trap {
    size_t n;        /* matrices (or places) that have it; 0 = none */
    char where[200]; /* the first */
} assay_trap;

/* Looks for every trap: traps[ASSAY_TRAP_COUNT]. config: config.json's object; folder (NULL: unknown) is where it lies. Reads all but the
 * codes, and a few rows of codes. Matrices that cannot be read are left out: their error is the reader's. */
assay_status assay_traps_find(assay_trap *traps, const assay_checkpoint *c, const json_t *config, const char *folder, assay_err *err);

#endif
