/* format/names.h: a set of names with a number each: open addressing, grows by doubling. Names are
 * borrowed. All-zero is empty. */
#ifndef ASSAY_FORMAT_NAMES_H
#define ASSAY_FORMAT_NAMES_H

#include "base/mem.h"

typedef struct assay_names {
    struct assay_name_slot {
        const char *name;
        size_t value;
    } * slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n;
} assay_names;

/* Adds name; *fresh is false (and the old number stays) when it was there. The number SIZE_MAX says "not
 * there". */
assay_status assay_names_add(assay_names *t, const char *name, size_t value, bool *fresh, assay_err *err);
/* Takes a name out again. */
void assay_names_remove(assay_names *t, const char *name);
/* Its number, or SIZE_MAX. */
size_t assay_names_find(const assay_names *t, const char *name);
void assay_names_free(assay_names *t);

#endif
