/* pulse.c: progress of work on one matrix and the way to stop it. Threads count what they have done; the one that called looks, each time
 * it has done something itself, whether the user wants an end, and the others see its word before their next piece. */
#include "method/methods.h"

static assay_status tell(assay_ticker *t, double share, assay_err *err) {
    if (!t) return ASSAY_OK;
    if (share > t->share) t->share = ASSAY_MIN(share, 1.0);
    double within = ASSAY_MIN(t->from + t->share * (t->to - t->from), t->to); /* the sum can be an ulp more */
    return assay_progress_report(t->progress, t->phase, t->base + t->size * within, t->total, t->unit, err);
}

assay_status assay_layer_tick(const assay_layer *layer, double share, assay_err *err) {
    return tell(layer->ticker, share, err);
}

assay_status assay_item_begin(const assay_layer *layer, assay_item *const *items, size_t i, size_t n_items, assay_err *err) {
    items[i]->ticker = layer->ticker;
    items[i]->from = (double)i / (double)n_items;
    items[i]->to = (double)(i + 1) / (double)n_items;
    return assay_layer_tick(layer, items[i]->from, err);
}

void assay_pulse_open(assay_pulse *p, const assay_item *item, size_t units) {
    *p = (assay_pulse){.item = item, .units = (double)ASSAY_MAX(units, (size_t)1)};
}

bool assay_pulse_beat(assay_pulse *p, size_t units, int thread) {
    const assay_item *item = p->item;
    size_t done = atomic_fetch_add(&p->done, units) + units;
    if (atomic_load(&p->stopped)) return false;
    if (thread || !item->ticker) return true;
    double share = item->from + (item->to - item->from) * ASSAY_MIN((double)done / p->units, 1.0);
    if (tell(item->ticker, share, &p->err) == ASSAY_OK) return true;
    atomic_store(&p->stopped, true);
    return false;
}

assay_status assay_pulse_status(const assay_pulse *p, assay_err *err) {
    return atomic_load(&p->stopped) ? assay_fail(err, ASSAY_EINTR, "%s", p->err.message) : ASSAY_OK;
}
