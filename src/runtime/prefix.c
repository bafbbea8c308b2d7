/* prefix.c: a small list searched linearly: comparing a prompt with a hundred kept ones costs microseconds, a
 * prompt milliseconds. */
#include "runtime/prefix.h"
#include <string.h>
#include "base/mem.h"

assay_status assay_prefix_init(assay_prefix *p, assay_kv *kv, size_t max_entries, assay_err *err) {
    *p = (assay_prefix){.kv = kv, .max = max_entries};
    p->list = assay_calloc(max_entries + 1, sizeof *p->list);
    return p->list ? ASSAY_OK : assay_nomem(err);
}

static void drop(assay_prefix *p, size_t i) {
    assay_free(p->list[i].ids);
    assay_seq_release(p->kv, &p->list[i].seq);
    p->list[i] = p->list[--p->n];
}

void assay_prefix_deinit(assay_prefix *p) {
    while (p->n > 0)
        drop(p, p->n - 1);
    assay_free(p->list);
    memset(p, 0, sizeof *p);
}

size_t assay_common_prefix(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b) {
    size_t n = ASSAY_MIN(n_a, n_b), i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

const assay_seq *assay_prefix_find(size_t *length, assay_prefix *p, const int32_t *ids, size_t n, bool is_long) {
    assay_prefix_entry *best = NULL;
    *length = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->list[i].is_long != is_long) continue;
        size_t common = assay_common_prefix(p->list[i].ids, p->list[i].seq.n, ids, n);
        common = assay_seq_forkable(p->kv, &p->list[i].seq, common);
        if (common <= *length) continue;
        *length = common;
        best = &p->list[i];
    }
    if (!best) return NULL;
    best->used = ++p->clock;
    return &best->seq;
}

static void evict_oldest(assay_prefix *p) {
    size_t oldest = 0;
    for (size_t i = 1; i < p->n; i++)
        if (p->list[i].used < p->list[oldest].used) oldest = i;
    drop(p, oldest);
}

void assay_prefix_put(assay_prefix *p, int32_t **ids, assay_seq *seq, bool is_long) {
    size_t n = seq->n;
    for (size_t i = p->n; i-- > 0;) {
        assay_prefix_entry *e = &p->list[i];
        if (e->is_long != is_long) continue;
        size_t common = assay_common_prefix(e->ids, e->seq.n, *ids, n);
        if (common == n) { /* nothing new */
            e->used = ++p->clock;
            assay_seq_release(p->kv, seq);
            assay_free(*ids);
            *ids = NULL;
            return;
        }
        if (common == e->seq.n) drop(p, i);
    }
    p->list[p->n++] = (assay_prefix_entry){*ids, *seq, is_long, ++p->clock};
    *ids = NULL;
    memset(seq, 0, sizeof *seq);
    if (p->n > p->max) evict_oldest(p);
}

void assay_prefix_make_room(assay_prefix *p, size_t pages) {
    while (p->n > 0 && (assay_kv_max_pages(p->kv) - assay_kv_used_pages(p->kv) < pages ||
                        assay_kv_free_raw(p->kv) < pages))
        evict_oldest(p);
}
