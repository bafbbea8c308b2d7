/* kv.c: the page pool behind kv.h: one buffer of keys and one of values per layer, a free list, a count per
 * page. */
#include "model/kv.h"
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

#define FIRST_PAGES 32

struct assay_kv {
    assay_backend *backend; /* borrowed */
    assay_kv_type type;
    int64_t n_layers;
    size_t page; /* bytes of keys (or values) of one page in one layer */
    size_t n_pages, max_pages;
    assay_buf **buffers; /* [2 * n_layers]: keys, values of layer 0, of layer 1, ... */
    int32_t *counts;     /* [n_pages] sequences that hold the page */
    int32_t *free_list;  /* [n_free] page numbers, used from the end */
    size_t n_free, cap_counts, cap_free;
    uint8_t *bounce; /* one page, for copies through the host */
};

assay_kv_type assay_kv_get_type(const assay_kv *kv) {
    return kv->type;
}
size_t assay_kv_page_size(const assay_kv *kv) {
    return 2 * (size_t)kv->n_layers * kv->page;
}
size_t assay_kv_max_pages(const assay_kv *kv) {
    return kv->max_pages;
}
size_t assay_kv_used_pages(const assay_kv *kv) {
    return kv->n_pages - kv->n_free;
}
assay_buf *assay_kv_keys(const assay_kv *kv, int64_t layer) {
    return kv->buffers[2 * layer];
}
assay_buf *assay_kv_values(const assay_kv *kv, int64_t layer) {
    return kv->buffers[2 * layer + 1];
}

static void copy_page(assay_kv *kv, assay_buf *dst, size_t to, const assay_buf *src, size_t from) {
    assay_buf_read(kv->backend, kv->bounce, src, from * kv->page, kv->page);
    assay_buf_write(kv->backend, dst, to * kv->page, kv->bounce, kv->page);
}

/* Buffers are replaced one by one: a failure half-way leaves some larger than counted, which is harmless. */
static assay_status grow(assay_kv *kv, assay_err *err) {
    if (kv->n_pages == kv->max_pages) {
        char held[32];
        return assay_fail(err, ASSAY_ENOMEM, "the kv cache's budget of %s (%zu positions) is used up",
                          assay_format_bytes(held, sizeof held,
                                             (double)(kv->max_pages * assay_kv_page_size(kv))),
                          kv->max_pages * ASSAY_KV_PAGE);
    }
    size_t n = ASSAY_MIN(kv->max_pages, kv->n_pages ? 2 * kv->n_pages : FIRST_PAGES);
    ASSAY_TRY(assay_grow(&kv->counts, &kv->cap_counts, n, sizeof *kv->counts, err));
    ASSAY_TRY(assay_grow(&kv->free_list, &kv->cap_free, n, sizeof *kv->free_list, err));
    for (int64_t i = 0; i < 2 * kv->n_layers; i++) {
        assay_buf *larger = NULL;
        ASSAY_TRY(assay_buf_new(&larger, kv->backend, n * kv->page, err));
        for (size_t p = 0; p < kv->n_pages; p++) copy_page(kv, larger, p, kv->buffers[i], p);
        if (kv->buffers[i]) assay_buf_free(kv->backend, kv->buffers[i]);
        kv->buffers[i] = larger;
    }
    for (size_t p = n; p-- > kv->n_pages;) {
        kv->counts[p] = 0;
        kv->free_list[kv->n_free++] = (int32_t)p;
    }
    kv->n_pages = n;
    return ASSAY_OK;
}

assay_status assay_kv_open(assay_kv **out, assay_backend *b, const assay_config *c, assay_kv_type type,
                           size_t max_bytes, assay_err *err) {
    assay_status s = ASSAY_OK;
    *out = NULL;
    assay_kv *kv = assay_calloc(1, sizeof *kv);
    if (!kv) return assay_nomem(err);
    kv->backend = b;
    kv->type = type;
    kv->n_layers = c->n_layers;
    kv->page = assay_kv_page_bytes(type, (int)c->n_kv_heads, (int)c->head_dim);
    kv->max_pages = ASSAY_MIN(max_bytes / assay_kv_page_size(kv), (size_t)INT32_MAX);
    if (kv->max_pages == 0) {
        char given[32], need[32];
        s = assay_fail(err, ASSAY_EINPUT,
                       "a kv cache of %s holds nothing; %d positions of this model take %s",
                       assay_format_bytes(given, sizeof given, (double)max_bytes), ASSAY_KV_PAGE,
                       assay_format_bytes(need, sizeof need, (double)assay_kv_page_size(kv)));
        goto out;
    }
    kv->buffers = assay_calloc(2 * (size_t)c->n_layers, sizeof *kv->buffers);
    kv->bounce = assay_malloc(kv->page);
    s = kv->buffers && kv->bounce ? grow(kv, err) : assay_nomem(err);
out:
    if (s == ASSAY_OK)
        *out = kv;
    else
        assay_kv_close(kv);
    return s;
}

void assay_kv_close(assay_kv *kv) {
    if (!kv) return;
    for (int64_t i = 0; kv->buffers && i < 2 * kv->n_layers; i++)
        if (kv->buffers[i]) assay_buf_free(kv->backend, kv->buffers[i]);
    assay_free(kv->buffers);
    assay_free(kv->counts);
    assay_free(kv->free_list);
    assay_free(kv->bounce);
    assay_free(kv);
}

static assay_status take_page(assay_kv *kv, int32_t *page, assay_err *err) {
    if (kv->n_free == 0) ASSAY_TRY(grow(kv, err));
    *page = kv->free_list[--kv->n_free];
    kv->counts[*page] = 1;
    return ASSAY_OK;
}

static void drop_page(assay_kv *kv, int32_t page) {
    if (--kv->counts[page] == 0) kv->free_list[kv->n_free++] = page;
}

assay_status assay_seq_extend(assay_kv *kv, assay_seq *seq, size_t n, assay_err *err) {
    size_t need = (n + ASSAY_KV_PAGE - 1) / ASSAY_KV_PAGE, had = seq->n_pages;
    if (need <= had) return ASSAY_OK;
    ASSAY_TRY(assay_grow(&seq->pages, &seq->cap, need, sizeof *seq->pages, err));
    while (seq->n_pages < need) {
        assay_status s = take_page(kv, &seq->pages[seq->n_pages], err);
        if (s != ASSAY_OK) {
            while (seq->n_pages > had) drop_page(kv, seq->pages[--seq->n_pages]);
            return s;
        }
        seq->n_pages++;
    }
    return ASSAY_OK;
}

assay_status assay_seq_fork(assay_kv *kv, assay_seq *dst, const assay_seq *src, size_t n, assay_err *err) {
    size_t full = n / ASSAY_KV_PAGE, rest = n % ASSAY_KV_PAGE;
    ASSAY_TRY(assay_grow(&dst->pages, &dst->cap, full + 1, sizeof *dst->pages, err));
    for (size_t p = 0; p < full; p++) {
        dst->pages[p] = src->pages[p];
        kv->counts[src->pages[p]]++;
    }
    dst->n_pages = full;
    if (rest) {
        int32_t page;
        assay_status s = take_page(kv, &page, err);
        if (s != ASSAY_OK) {
            assay_seq_release(kv, dst);
            return s;
        }
        for (int64_t i = 0; i < 2 * kv->n_layers; i++)
            copy_page(kv, kv->buffers[i], (size_t)page, kv->buffers[i], (size_t)src->pages[full]);
        dst->pages[dst->n_pages++] = page;
    }
    dst->n = n;
    return ASSAY_OK;
}

void assay_seq_release(assay_kv *kv, assay_seq *seq) {
    while (seq->n_pages > 0) drop_page(kv, seq->pages[--seq->n_pages]);
    assay_free(seq->pages);
    memset(seq, 0, sizeof *seq);
}
