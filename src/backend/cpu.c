/* backend/cpu.c: the CPU backend: opening, buffers, scratch. The operations are in linear.c, attention.c and
 * point.c, the repacking of weights in weight.c. */
#include <stdio.h>
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "base/thread.h"

assay_status assay_backend_open_cpu(assay_backend **out, const assay_cpu_opts *o, assay_err *err) {
    static const assay_cpu_opts defaults = {0};
    assay_status s = ASSAY_OK;
    assay_backend *b = NULL;
    *out = NULL;
    if (!o) o = &defaults;
    if (o->n_threads < 0) return assay_fail(err, ASSAY_EUSAGE, "cannot run on %d threads", o->n_threads);
    b = assay_calloc(1, sizeof *b);
    if (!b) return assay_nomem(err);
    ASSAY_GO(assay_kern_init(&b->k, o->isa, err));
    b->n_threads = o->n_threads ? o->n_threads : assay_n_cores();
    size_t size;
    if (!assay_mul_size(&size, (size_t)b->n_threads, (ATT_FLOATS + ATT_TILES) * sizeof(float)) ||
        !(b->att = assay_malloc_aligned(size))) {
        s = assay_nomem(err);
        goto out;
    }
    snprintf(b->describe, sizeof b->describe, "cpu %s%s%s%s, %d thread%s", b->k.name,
             *b->k.extras ? " (" : "", b->k.extras, *b->k.extras ? ")" : "", b->n_threads,
             b->n_threads == 1 ? "" : "s");
    *out = b;
    b = NULL;
out:
    assay_backend_close(b);
    return s;
}

void assay_backend_close(assay_backend *b) {
    if (!b) return;
    assay_free_aligned(b->acts.data);
    assay_free(b->acts.sums);
    assay_free(b->acts.scales);
    assay_free(b->acts.cols);
    assay_free(b->acts.values);
    assay_free_aligned(b->tiles);
    assay_free_aligned(b->att);
    assay_buf_free(b, b->narrow);
    assay_buf_free(b, b->wide);
    for (size_t i = 0; i < ROPE_CACHES; i++)
        backend_rope_free(&b->rope[i]);
    assay_free(b);
}

const char *assay_backend_describe(const assay_backend *b) { return b->describe; }
int assay_backend_n_threads(const assay_backend *b) { return b->n_threads; }

/* calloc and not an aligned allocation: large buffers come zeroed from the system, and a KV cache's pages
 * cost nothing until used. */
assay_status assay_buf_new(assay_buf **out, assay_backend *b, size_t n_bytes, assay_err *err) {
    size_t size;
    (void)b;
    *out = NULL;
    assay_buf *buf = assay_calloc(1, sizeof *buf);
    if (!buf) return assay_nomem(err);
    if (!assay_add_size(&size, n_bytes, 128) || !(buf->block = assay_calloc(1, size))) {
        assay_free(buf);
        return assay_nomem(err);
    }
    buf->p = (uint8_t *)(((uintptr_t)buf->block + 63) & ~(uintptr_t)63);
    buf->n = n_bytes;
    *out = buf;
    return ASSAY_OK;
}

void assay_buf_free(assay_backend *b, assay_buf *buf) {
    (void)b;
    if (!buf) return;
    assay_free(buf->block);
    assay_free(buf);
}

void assay_buf_write(assay_backend *b, assay_buf *buf, size_t offset, const void *src, size_t n) {
    (void)b;
    if (n) memcpy(buf->p + offset, src, n);
}

void assay_buf_read(assay_backend *b, void *dst, const assay_buf *buf, size_t offset, size_t n) {
    (void)b;
    if (n) memcpy(dst, buf->p + offset, n);
}

/* --- scratch --- */

size_t backend_acts_stride(const assay_weight *w) {
    if (w->mode == ASSAY_ACT_INT8) return backend_up(w->irows.n_groups * w->irows.group_pad, 64);
    return backend_up(w->k, ASSAY_KERN_CHUNK) * backend_element(w);
}
size_t backend_acts_rows(size_t stride) {
    size_t rows = stride ? ACTS_BYTES / stride : ACTS_ROWS;
    return ASSAY_MAX((size_t)8, ASSAY_MIN((size_t)ACTS_ROWS, rows));
}

/* Contents are not kept. */
static assay_status grow_aligned(uint8_t **p, size_t *size, size_t need, assay_err *err) {
    if (need <= *size) return ASSAY_OK;
    uint8_t *q = assay_malloc_aligned(need);
    if (!q) return assay_nomem(err);
    assay_free_aligned(*p);
    *p = q;
    *size = need;
    return ASSAY_OK;
}

assay_status backend_reserve(assay_backend *b, const assay_weight *w, assay_err *err) {
    size_t stride = backend_acts_stride(w), rows = backend_acts_rows(stride), need;
    ASSAY_TRY(grow_aligned(&b->acts.data, &b->acts.size, rows * stride, err));
    if (w->mode == ASSAY_ACT_INT8) {
        ASSAY_TRY(
            assay_grow(&b->acts.sums, &b->acts.n_sums, rows * w->irows.n_groups, sizeof *b->acts.sums, err));
        need = w->threshold > 0 ? rows * w->k : 0;
        if (need > b->acts.n_cols) {
            size_t cap = b->acts.n_cols;
            ASSAY_TRY(assay_grow(&b->acts.cols, &cap, need, sizeof *b->acts.cols, err));
            ASSAY_TRY(assay_grow(&b->acts.values, &b->acts.n_cols, need, sizeof *b->acts.values, err));
        }
    }
    if (w->mode == ASSAY_ACT_FP8)
        ASSAY_TRY(assay_grow(&b->acts.scales, &b->acts.n_scales, rows * w->rows.n_groups,
                             sizeof *b->acts.scales, err));
    /* A tile holds at least 12 rows, 4 bytes an element at most (embedding lookups decode to float32 whatever
     * the mode). */
    need = ASSAY_MAX(TILE_BYTES, 12 * backend_up(w->k, ASSAY_KERN_CHUNK) * 4);
    if (need > b->tile_size) {
        size_t size = b->tile_size * (size_t)b->n_threads;
        ASSAY_TRY(grow_aligned(&b->tiles, &size, backend_up(need, 64) * (size_t)b->n_threads, err));
        b->tile_size = backend_up(need, 64);
    }
    return ASSAY_OK;
}
