/* names.c: the set of tensor names behind look-ups in checkpoints and spools (FNV-1a, linear probing, at
 * most half full). */
#include "format/names.h"

#include <string.h>

static uint64_t hash_of(const char *s) {
    uint64_t h = 14695981039346656037u;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 1099511628211u;
    return h ^ h >> 32;
}

static size_t slot_of(const assay_names *t, const char *name) {
    size_t i = (size_t)hash_of(name) & (t->n_slots - 1);
    while (t->slots[i].name && strcmp(t->slots[i].name, name) != 0) i = (i + 1) & (t->n_slots - 1);
    return i;
}

static assay_status grow(assay_names *t, assay_err *err) {
    assay_names wider = {.n_slots = t->n_slots ? t->n_slots * 2 : 64, .n = t->n};
    wider.slots = assay_calloc(wider.n_slots, sizeof *wider.slots);
    if (!wider.slots) return assay_nomem(err);
    for (size_t i = 0; i < t->n_slots; i++)
        if (t->slots[i].name) wider.slots[slot_of(&wider, t->slots[i].name)] = t->slots[i];
    assay_free(t->slots);
    *t = wider;
    return ASSAY_OK;
}

assay_status assay_names_add(assay_names *t, const char *name, size_t value, bool *fresh, assay_err *err) {
    if (2 * (t->n + 1) > t->n_slots) ASSAY_TRY(grow(t, err));
    struct assay_name_slot *slot = &t->slots[slot_of(t, name)];
    *fresh = slot->name == NULL || slot->value == SIZE_MAX;
    if (!*fresh) return ASSAY_OK;
    t->n += slot->name == NULL;
    slot->name = name;
    slot->value = value;
    return ASSAY_OK;
}

void assay_names_remove(assay_names *t, const char *name) {
    struct assay_name_slot *slot = t->n_slots ? &t->slots[slot_of(t, name)] : NULL;
    if (slot && slot->name) slot->value = SIZE_MAX; /* the slot stays taken: probing goes on past it */
}

size_t assay_names_find(const assay_names *t, const char *name) {
    if (!t->n_slots) return SIZE_MAX;
    const struct assay_name_slot *slot = &t->slots[slot_of(t, name)];
    return slot->name ? slot->value : SIZE_MAX;
}

void assay_names_free(assay_names *t) {
    assay_free(t->slots);
    memset(t, 0, sizeof *t);
}
