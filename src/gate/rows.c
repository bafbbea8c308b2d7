/* rows.c: sorts the items into dimensions and slices, in the order in which the suite first names them. */
#include "gate/rows.h"

#include <string.h>

static bool same(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

typedef struct maker {
    gate_group *groups;
    size_t n, cap;
    assay_err *err;
} maker;

static assay_status find_or_add(size_t *out, maker *m, const char *dimension, const char *slice) {
    for (size_t i = 0; i < m->n; i++) {
        if (same(m->groups[i].dimension, dimension) && same(m->groups[i].slice, slice)) {
            *out = i;
            return ASSAY_OK;
        }
    }
    ASSAY_TRY(assay_grow(&m->groups, &m->cap, m->n + 1, sizeof *m->groups, m->err));
    m->groups[m->n] = (gate_group){.dimension = dimension, .slice = slice};
    *out = m->n++;
    return ASSAY_OK;
}

/* Dimensions first, in order, each followed by its slices. */
static void order_groups(gate_group *out, const maker *m) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->groups[i].slice) continue;
        out[n++] = m->groups[i];
        for (size_t k = 0; k < m->n; k++)
            if (m->groups[k].slice && same(m->groups[k].dimension, m->groups[i].dimension))
                out[n++] = m->groups[k];
    }
}

static assay_status collect(gate_groups *out, const assay_record *r, size_t n, assay_err *err) {
    maker m = {.err = err};
    assay_status s = ASSAY_OK;
    size_t at;
    for (size_t i = 0; i < n; i++) {
        if (!r[i].dimension) {
            s = assay_fail(err, ASSAY_EINPUT, "item %s has no dimension", r[i].item_id);
            goto out;
        }
        ASSAY_GO(find_or_add(&at, &m, r[i].dimension, NULL));
        m.groups[at].n++;
        if (!r[i].slice) continue;
        ASSAY_GO(find_or_add(&at, &m, r[i].dimension, r[i].slice));
        m.groups[at].n++;
    }
    out->groups = assay_calloc(m.n ? m.n : 1, sizeof *out->groups);
    if (!out->groups) {
        s = assay_nomem(err);
        goto out;
    }
    order_groups(out->groups, &m);
    out->n = m.n;
out:
    assay_free(m.groups);
    return s;
}

assay_status gate_groups_make(gate_groups *out, const assay_record *r, size_t n, assay_err *err) {
    memset(out, 0, sizeof *out);
    assay_status s = collect(out, r, n, err);
    size_t total = 0;
    for (size_t g = 0; g < out->n; g++) total += out->groups[g].n;
    if (s == ASSAY_OK && !(out->items = assay_mallocn(total ? total : 1, sizeof *out->items)))
        s = assay_nomem(err);
    if (s != ASSAY_OK) {
        gate_groups_deinit(out);
        return s;
    }
    size_t *next = out->items;
    for (size_t g = 0; g < out->n; g++) {
        gate_group *x = &out->groups[g];
        x->items = next;
        next += x->n;
        x->n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t g = 0; g < out->n; g++) {
            gate_group *x = &out->groups[g];
            if (same(x->dimension, r[i].dimension) && (!x->slice || same(x->slice, r[i].slice)))
                x->items[x->n++] = i;
        }
    }
    return ASSAY_OK;
}

void gate_groups_deinit(gate_groups *g) {
    assay_free(g->groups);
    assay_free(g->items);
    memset(g, 0, sizeof *g);
}
