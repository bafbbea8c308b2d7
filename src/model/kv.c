/* kv.c: the pages behind kv.h. A pool is a buffer of keys and one of values per layer, a free list, a count
 * per page; a cache has one of lasting pages and, when those are packed, one of raw pages. */
#include "model/kv.h"
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

#define FIRST_PAGES 32
#define DEFAULT_RAW 64
#define NO_PAGE     (-1)

typedef struct pool {
    size_t page[2]; /* bytes of the keys and of the values of one page in one layer; no values where keys are that */
    size_t n_pages, max_pages;
    assay_buf **buffers; /* [2 * n_layers]: keys, values of layer 0, of layer 1, ... */
    int32_t *counts;     /* [n_pages] sequences that hold the page */
    int32_t *free_list;  /* [n_free] page numbers, used from the end */
    size_t n_free, cap_counts, cap_free;
    const char *what; /* for messages */
} pool;

struct assay_kv {
    assay_backend *backend; /* borrowed */
    assay_kv_opts opts;
    assay_kv_size size;
    int64_t n_layers;
    pool pages;      /* lasting: packed when the cache packs */
    pool raw;        /* empty without packing */
    uint8_t *bounce; /* one page of either, for copies through the host */
};

/* --- kinds --- */

static const struct {
    const char *word;
    assay_kv_type type;
    assay_kv_pack pack;
} kinds[ASSAY_KV_KINDS] = {
#define X(NAME, word, type, pack) {word, ASSAY_KV_##type, ASSAY_KV_PACK_##pack},
#include "model/kvs.def"
#undef X
};

const char *assay_kv_kind_word(assay_kv_kind k) {
    return (unsigned)k < ASSAY_KV_KINDS ? kinds[k].word : "?";
}

bool assay_kv_kind_parse(assay_kv_kind *out, const char *word) {
    for (int i = 0; i < ASSAY_KV_KINDS; i++)
        if (strcmp(kinds[i].word, word) == 0) {
            *out = (assay_kv_kind)i;
            return true;
        }
    return false;
}

const char *assay_kv_kind_list(void) {
#define X(NAME, word, type, pack) ", " word
    static const char list[] = ""
#include "model/kvs.def"
        ;
#undef X
    return list + 2;
}

assay_kv_type assay_kv_own_type(const assay_config *c, assay_act_mode act) {
    if (act == ASSAY_ACT_F32 || c->dtype == ASSAY_DTYPE_F32) return ASSAY_KV_F32;
    return c->dtype == ASSAY_DTYPE_F16 ? ASSAY_KV_F16 : ASSAY_KV_BF16;
}

assay_kv_opts assay_kv_opts_of(assay_kv_kind kind, assay_kv_type own, size_t max_bytes) {
    bool takes_own = kind == ASSAY_KV_KIND_AUTO || kinds[kind].pack != ASSAY_KV_PACK_NONE;
    return (assay_kv_opts){
        .type = takes_own ? own : kinds[kind].type, .pack = kinds[kind].pack, .max_bytes = max_bytes};
}

/* --- sizes --- */

static void page_sizes(size_t raw[2], size_t packed[2], const assay_config *c, const assay_kv_opts *o) {
    const assay_kv_shape s = assay_config_kv_shape(c);
    raw[0] = raw[1] = assay_kv_page_bytes(o->type, s.heads, s.dim);
    packed[0] = packed[1] = 0;
    if (o->pack) assay_kv_packed_bytes(&packed[0], &packed[1], o->pack, s.heads, s.dim);
    if (s.shared) raw[1] = packed[1] = 0;
}

size_t assay_kv_plain_page(const assay_config *c, assay_kv_type type) {
    size_t raw[2], packed[2];
    page_sizes(raw, packed, c, &(assay_kv_opts){.type = type});
    return raw[0] + raw[1];
}

assay_status assay_kv_measure(assay_kv_size *out, const assay_config *c, const assay_kv_opts *o,
                              assay_err *err) {
    size_t raw[2], packed[2], layers = (size_t)c->n_layers, least;
    page_sizes(raw, packed, c, o);
    *out = (assay_kv_size){.page = layers * (o->pack ? packed[0] + packed[1] : raw[0] + raw[1])};
    if (o->pack) {
        out->raw_page = layers * (raw[0] + raw[1]);
        out->max_raw =
            ASSAY_MIN(o->raw_pages ? o->raw_pages : (size_t)DEFAULT_RAW, o->max_bytes / 2 / out->raw_page);
        out->max_raw = ASSAY_MIN(ASSAY_MAX(out->max_raw, (size_t)ASSAY_KV_LEAST_RAW), (size_t)INT32_MAX);
    }
    least = out->page + out->max_raw * out->raw_page;
    if (o->max_bytes < least) {
        char given[32], need[32];
        return assay_fail(err, ASSAY_EINPUT,
                          "a kv cache of %s holds nothing; %d positions of this model take %s",
                          assay_format_bytes(given, sizeof given, (double)o->max_bytes), ASSAY_KV_PAGE,
                          assay_format_bytes(need, sizeof need, (double)least));
    }
    out->max_pages = ASSAY_MIN((o->max_bytes - out->max_raw * out->raw_page) / out->page, (size_t)INT32_MAX);
    return ASSAY_OK;
}

assay_kv_type assay_kv_get_type(const assay_kv *kv) {
    return kv->opts.type;
}
assay_kv_pack assay_kv_get_pack(const assay_kv *kv) {
    return kv->opts.pack;
}
const assay_kv_size *assay_kv_get_size(const assay_kv *kv) {
    return &kv->size;
}
size_t assay_kv_page_size(const assay_kv *kv) {
    return kv->size.page;
}
size_t assay_kv_max_pages(const assay_kv *kv) {
    return kv->size.max_pages;
}
static size_t used(const pool *p) {
    return p->n_pages - p->n_free;
}
size_t assay_kv_used_pages(const assay_kv *kv) {
    return used(&kv->pages);
}
size_t assay_kv_free_raw(const assay_kv *kv) {
    return kv->opts.pack ? kv->raw.max_pages - used(&kv->raw) : SIZE_MAX;
}
size_t assay_kv_used_bytes(const assay_kv *kv) {
    return used(&kv->pages) * kv->size.page + used(&kv->raw) * kv->size.raw_page;
}

/* The pool of pages in the model's own type. */
static const pool *plain(const assay_kv *kv) {
    return kv->opts.pack ? &kv->raw : &kv->pages;
}
/* Of one layer; NULL where values are the keys. */
static assay_buf *values_of(const pool *p, int64_t layer) {
    return p->page[1] ? p->buffers[2 * layer + 1] : NULL;
}
assay_kv_layer assay_kv_get_layer(const assay_kv *kv, int64_t layer) {
    const pool *p = plain(kv);
    assay_kv_layer l = {.k = p->buffers[2 * layer],
                        .v = values_of(p, layer),
                        .type = kv->opts.type,
                        .pack = kv->opts.pack};
    if (!l.pack) return l;
    l.packed_k = kv->pages.buffers[2 * layer];
    l.packed_v = values_of(&kv->pages, layer);
    return l;
}

/* --- pools --- */

static void copy_page(assay_kv *kv, const pool *p, int64_t i, assay_buf *dst, size_t to, size_t from) {
    size_t n = p->page[i % 2];
    assay_buf_read(kv->backend, kv->bounce, p->buffers[i], from * n, n);
    assay_buf_write(kv->backend, dst, to * n, kv->bounce, n);
}

/* Buffers are replaced one by one: a failure half-way leaves some larger than counted, which is harmless. */
static assay_status grow(assay_kv *kv, pool *p, assay_err *err) {
    if (p->n_pages == p->max_pages) {
        char held[32];
        return assay_fail(err, ASSAY_ENOMEM, "the kv cache's budget of %s (%zu positions%s) is used up",
                          assay_format_bytes(held, sizeof held,
                                             (double)p->max_pages * (double)(p->page[0] + p->page[1]) *
                                                 (double)kv->n_layers),
                          p->max_pages * ASSAY_KV_PAGE, p->what);
    }
    size_t n = ASSAY_MIN(p->max_pages, p->n_pages ? 2 * p->n_pages : FIRST_PAGES);
    ASSAY_TRY(assay_grow(&p->counts, &p->cap_counts, n, sizeof *p->counts, err));
    ASSAY_TRY(assay_grow(&p->free_list, &p->cap_free, n, sizeof *p->free_list, err));
    for (int64_t i = 0; i < 2 * kv->n_layers; i++) {
        assay_buf *larger = NULL;
        ASSAY_TRY(assay_buf_new(&larger, kv->backend, n * p->page[i % 2], err));
        for (size_t k = 0; k < p->n_pages; k++)
            copy_page(kv, p, i, larger, k, k);
        if (p->buffers[i]) assay_buf_free(kv->backend, p->buffers[i]);
        p->buffers[i] = larger;
    }
    for (size_t k = n; k-- > p->n_pages;) {
        p->counts[k] = 0;
        p->free_list[p->n_free++] = (int32_t)k;
    }
    p->n_pages = n;
    return ASSAY_OK;
}

static assay_status pool_open(assay_kv *kv, pool *p, const size_t page[2], size_t max_pages, const char *what,
                              assay_err *err) {
    *p = (pool){.page = {page[0], page[1]}, .max_pages = max_pages, .what = what};
    p->buffers = assay_calloc(2 * (size_t)kv->n_layers, sizeof *p->buffers);
    return p->buffers ? grow(kv, p, err) : assay_nomem(err);
}

static void pool_close(assay_kv *kv, pool *p) {
    for (int64_t i = 0; p->buffers && i < 2 * kv->n_layers; i++)
        if (p->buffers[i]) assay_buf_free(kv->backend, p->buffers[i]);
    assay_free(p->buffers);
    assay_free(p->counts);
    assay_free(p->free_list);
}

static assay_status take_page(int32_t *page, assay_kv *kv, pool *p, assay_err *err) {
    if (p->n_free == 0) ASSAY_TRY(grow(kv, p, err));
    *page = p->free_list[--p->n_free];
    p->counts[*page] = 1;
    return ASSAY_OK;
}

static void drop_page(pool *p, int32_t page) {
    if (page != NO_PAGE && --p->counts[page] == 0) p->free_list[p->n_free++] = page;
}

assay_status assay_kv_open_with(assay_kv **out, assay_backend *b, const assay_config *c,
                                const assay_kv_opts *o, assay_err *err) {
    assay_status s = ASSAY_OK;
    size_t raw[2], packed[2];
    *out = NULL;
    assay_kv *kv = assay_calloc(1, sizeof *kv);
    if (!kv) return assay_nomem(err);
    kv->backend = b;
    kv->opts = *o;
    kv->n_layers = c->n_layers;
    ASSAY_GO(assay_kv_measure(&kv->size, c, o, err));
    page_sizes(raw, packed, c, o);
    kv->bounce = assay_malloc(ASSAY_MAX(raw[0], ASSAY_MAX(packed[0], packed[1])));
    if (!kv->bounce) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(pool_open(kv, &kv->pages, o->pack ? packed : raw, kv->size.max_pages, "", err));
    if (o->pack) s = pool_open(kv, &kv->raw, raw, kv->size.max_raw, " not quantized yet", err);
out:
    if (s == ASSAY_OK)
        *out = kv;
    else
        assay_kv_close(kv);
    return s;
}

assay_status assay_kv_open(assay_kv **out, assay_backend *b, const assay_config *c, assay_kv_type type,
                           size_t max_bytes, assay_err *err) {
    return assay_kv_open_with(out, b, c, &(assay_kv_opts){.type = type, .max_bytes = max_bytes}, err);
}

void assay_kv_close(assay_kv *kv) {
    if (!kv) return;
    pool_close(kv, &kv->pages);
    pool_close(kv, &kv->raw);
    assay_free(kv->bounce);
    assay_free(kv);
}

/* --- sequences --- */

/* Numbers of the last page of a sequence are dropped, and the page with them. */
static void drop_last(assay_kv *kv, assay_seq *seq) {
    size_t entry = ASSAY_KV_ENTRY(kv->opts.pack);
    int32_t *at = seq->pages + --seq->n_pages * entry;
    drop_page(&kv->pages, at[0]);
    if (kv->opts.pack) drop_page(&kv->raw, at[1]);
}

/* Adds a page to a sequence whose table has room for it. */
static assay_status add_page(assay_kv *kv, assay_seq *seq, assay_err *err) {
    int32_t *at = seq->pages + seq->n_pages * ASSAY_KV_ENTRY(kv->opts.pack);
    ASSAY_TRY(take_page(&at[0], kv, &kv->pages, err));
    if (kv->opts.pack) {
        assay_status s = take_page(&at[1], kv, &kv->raw, err);
        if (s != ASSAY_OK) {
            drop_page(&kv->pages, at[0]);
            return s;
        }
    }
    seq->n_pages++;
    return ASSAY_OK;
}

static assay_status grow_table(assay_kv *kv, assay_seq *seq, size_t pages, assay_err *err) {
    return assay_grow(&seq->pages, &seq->cap, pages * ASSAY_KV_ENTRY(kv->opts.pack), sizeof *seq->pages, err);
}

assay_status assay_seq_extend(assay_kv *kv, assay_seq *seq, size_t n, assay_err *err) {
    size_t need = (n + ASSAY_KV_PAGE - 1) / ASSAY_KV_PAGE, had = seq->n_pages;
    if (need <= had) return ASSAY_OK;
    ASSAY_TRY(grow_table(kv, seq, need, err));
    while (seq->n_pages < need) {
        assay_status s = add_page(kv, seq, err);
        if (s == ASSAY_OK) continue;
        while (seq->n_pages > had)
            drop_last(kv, seq);
        return s;
    }
    return ASSAY_OK;
}

void assay_seq_advance(assay_kv *kv, assay_seq *seq, size_t n) {
    seq->n = n;
    if (!kv->opts.pack) return;
    for (size_t p = ASSAY_MIN(n / ASSAY_KV_PAGE, seq->n_pages);
         p-- > 0 && seq->pages[2 * p + 1] != NO_PAGE;) {
        drop_page(&kv->raw, seq->pages[2 * p + 1]);
        seq->pages[2 * p + 1] = NO_PAGE;
    }
}

size_t assay_seq_forkable(const assay_kv *kv, const assay_seq *src, size_t n) {
    size_t rest = n % ASSAY_KV_PAGE;
    bool gone = kv->opts.pack && rest && src->pages[2 * (n / ASSAY_KV_PAGE) + 1] == NO_PAGE;
    return gone ? n - rest : n;
}

/* The first full pages of src are dst's too. */
static void share_pages(assay_kv *kv, assay_seq *dst, const assay_seq *src, size_t full) {
    size_t entry = ASSAY_KV_ENTRY(kv->opts.pack);
    for (size_t p = 0; p < full; p++) {
        dst->pages[p * entry] = src->pages[p * entry];
        kv->pages.counts[src->pages[p * entry]]++;
        if (kv->opts.pack) dst->pages[p * entry + 1] = NO_PAGE;
    }
    dst->n_pages = full;
}

assay_status assay_seq_fork(assay_kv *kv, assay_seq *dst, const assay_seq *src, size_t n, assay_err *err) {
    size_t full = n / ASSAY_KV_PAGE, last = ASSAY_KV_ENTRY(kv->opts.pack) * (full + 1) - 1;
    if (assay_seq_forkable(kv, src, n) != n)
        return assay_fail(err, ASSAY_EINPUT,
                          "position %zu lies within a page of which only the quantized form is left", n);
    ASSAY_TRY(grow_table(kv, dst, full + 1, err));
    share_pages(kv, dst, src, full);
    if (n % ASSAY_KV_PAGE) {
        const pool *p = plain(kv);
        assay_status s = add_page(kv, dst, err);
        if (s != ASSAY_OK) {
            assay_seq_release(kv, dst);
            return s;
        }
        for (int64_t i = 0; i < 2 * kv->n_layers; i++)
            copy_page(kv, p, i, p->buffers[i], (size_t)dst->pages[last], (size_t)src->pages[last]);
    }
    dst->n = n;
    return ASSAY_OK;
}

void assay_seq_release(assay_kv *kv, assay_seq *seq) {
    while (seq->n_pages > 0)
        drop_last(kv, seq);
    assay_free(seq->pages);
    memset(seq, 0, sizeof *seq);
}
