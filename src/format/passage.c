/* passage.c: see passage.h. A piece is taken from where it lies when nothing changes, else it is gathered row by row and widened in a buffer
 * that stays in a core's cache; the writer copies it from there. While one piece is worked on the next is being read ahead. */
#include "format/passage.h"

#include <string.h>

#include "base/mem.h"
#include "format/gguf_impl.h"
#include "format/writer_plan.h"
#include "num/convert.h"

enum { PIECE = 1 << 20 };

void assay_passage_init(assay_passage *p, const assay_tensor *t) {
    *p = (assay_passage){.t = *t, .data = t->data, .from = t->dtype};
}

void assay_passage_deinit(assay_passage *p) {
    assay_free(p->rows);
    assay_free(p->owned);
}

void assay_passage_take(assay_passage *p, void *data) {
    assay_free(p->owned);
    assay_free(p->rows);
    p->rows = NULL;
    p->data = p->owned = data;
    p->c = NULL;
}

/* --- rows --- */

static int64_t n_cols(const assay_tensor *t) {
    return t->n_dims > 1 ? t->dims[t->n_dims - 1] : 1;
}

static int64_t n_rows(const assay_tensor *t) {
    int64_t n = t->n_dims == 1 ? t->dims[0] : 1;
    for (int i = 0; i < t->n_dims - 1; i++) n *= t->dims[i];
    return n;
}

static size_t row_bytes(const assay_tensor *t, assay_dtype dtype) {
    assay_gguf_storage s;
    if (!t->block) return (size_t)n_cols(t) * assay_dtype_size(dtype);
    return assay_gguf_block_of(&s, t->block) ? assay_gguf_row_bytes(&s, n_cols(t)) : 0;
}

/* What lies at a place now, for a map that is made anew. */
static int64_t source_of(const assay_passage *p, int64_t row) {
    return p->rows ? p->rows[row] : row;
}

static assay_status map_rows(assay_passage *p, const assay_tensor *ordered, bool inverse, assay_err *err) {
    int64_t n = p->t.dims[0], *rows = assay_mallocn((size_t)n + 1, sizeof *rows);
    if (!rows) return assay_nomem(err);
    for (int64_t r = 0; r < n; r++) {
        int64_t in_order = assay_tensor_file_row(ordered, r);
        if (inverse)
            rows[r] = source_of(p, in_order);
        else
            rows[in_order] = source_of(p, r);
    }
    assay_free(p->rows);
    p->rows = rows;
    return ASSAY_OK;
}

assay_status assay_passage_reorder(assay_passage *p, assay_order order, int64_t n_heads, int64_t unit, assay_err *err) {
    int64_t rows = p->t.dims[0];
    assay_tensor ordered = p->t;
    ordered.order = order;
    ordered.n_heads = n_heads;
    if (n_heads < 1 || rows % n_heads || rows / n_heads % unit)
        return assay_fail(err, ASSAY_EINPUT, "%s: %lld rows are not those of %lld heads", p->t.name, (long long)rows, (long long)n_heads);
    return map_rows(p, &ordered, false, err);
}

assay_status assay_passage_flatten(assay_passage *p, assay_err *err) {
    assay_tensor ordered = p->t;
    p->t.order = ASSAY_ORDER_PLAIN;
    return ordered.order == ASSAY_ORDER_PLAIN ? ASSAY_OK : map_rows(p, &ordered, true, err);
}

assay_status assay_passage_widen(assay_passage *p, float shift, assay_err *err) {
    if (p->t.block || !assay_dtype_is_float(p->t.dtype))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF has this tensor in float32, not quantized", p->t.name);
    p->t.dtype = ASSAY_DTYPE_F32;
    p->shift = shift;
    return ASSAY_OK;
}

/* --- pieces --- */

static assay_status check_rows(const assay_passage *p, const uint8_t *data, int64_t first, int64_t n, assay_err *err) {
    int64_t cols = n_cols(&p->t);
    if (p->is_checked || p->t.block || !assay_dtype_is_float(p->from)) return ASSAY_OK;
    int64_t bad = assay_find_nonfinite(data, p->from, (size_t)(n * cols));
    if (bad < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "tensor '%s': NaN or infinity at row %lld, column %lld: the checkpoint is damaged", p->t.name,
                      p->t.n_dims > 1 ? (long long)source_of(p, first + bad / cols) : 0LL,
                      p->t.n_dims > 1 ? (long long)(bad % cols) : (long long)source_of(p, first + bad));
}

static void let_go(const assay_passage *p, const uint8_t *data, size_t n) {
    assay_tensor piece = {.data = data, .n_bytes = n};
    if (p->c) assay_checkpoint_release(p->c, &piece);
}

static void read_ahead(const assay_passage *p, size_t at, size_t n, size_t whole) {
    assay_tensor next = {.data = p->data + at, .n_bytes = ASSAY_MIN(n, whole - ASSAY_MIN(at, whole))};
    if (p->c && next.n_bytes) assay_checkpoint_prefetch(p->c, &next);
}

assay_status assay_passage_check(assay_passage *p, assay_err *err) {
    if (!p->data) return ASSAY_OK;
    ASSAY_TRY(check_rows(p, p->data, 0, n_rows(&p->t), err));
    p->is_checked = true;
    return ASSAY_OK;
}

/* Rows from `first` on as they are written, in *piece: where they lie, or in a buffer. */
static assay_status make_piece(const uint8_t **piece, const assay_passage *p, uint8_t *wide, uint8_t *gathered, int64_t first, int64_t n,
                               assay_err *err) {
    size_t size = row_bytes(&p->t, p->from), count = (size_t)(n * n_cols(&p->t));
    const uint8_t *lies = p->data + (size_t)first * size;
    if (p->rows) {
        for (int64_t r = 0; r < n; r++) memcpy(gathered + (size_t)r * size, p->data + (size_t)p->rows[first + r] * size, size);
        lies = gathered;
    }
    ASSAY_TRY(check_rows(p, lies, first, n, err));
    *piece = lies;
    if (p->t.dtype == p->from && p->shift == 0) return ASSAY_OK;
    float *v = (float *)(void *)wide;
    assay_to_f32(v, lies, p->from, count);
    for (size_t i = 0; i < count; i++) v[i] += p->shift;
    *piece = wide;
    return ASSAY_OK;
}

/* Writes the data of a tensor whose place the writer has reserved. */
static assay_status write_rows(assay_ckpt_writer *w, const assay_passage *p, uint8_t *wide, uint8_t *gathered, assay_err *err) {
    size_t in = row_bytes(&p->t, p->from), out = row_bytes(&p->t, p->t.dtype);
    int64_t all = n_rows(&p->t), step = (int64_t)ASSAY_MAX(PIECE / ASSAY_MAX(ASSAY_MAX(in, out), 1u), 1u);
    const uint8_t *piece;
    for (int64_t r = 0; r < all; r += step) {
        int64_t n = ASSAY_MIN(step, all - r);
        if (!p->rows) read_ahead(p, (size_t)(r + n) * in, (size_t)step * in, (size_t)all * in);
        ASSAY_TRY(make_piece(&piece, p, wide, gathered, r, n, err));
        ASSAY_TRY(assay_spool_fill(w, p->t.name, piece, (size_t)n * out, (size_t)r * out, err));
        if (!p->rows) let_go(p, p->data + (size_t)r * in, (size_t)n * in);
    }
    if (p->rows) let_go(p, p->data, (size_t)all * in);
    return ASSAY_OK;
}

assay_status assay_passage_write(assay_ckpt_writer *w, const assay_passage *p, const char *to, int64_t part, assay_err *err) {
    size_t bytes;
    ASSAY_TRY(assay_spool_begin(&bytes, w, &p->t, to, part, err));
    if (assay_ckpt_writer_is_planning(w)) return ASSAY_OK;
    size_t room = ASSAY_MAX((size_t)PIECE, row_bytes(&p->t, ASSAY_DTYPE_F32)); /* at least a row */
    uint8_t *buffer = assay_malloc(2 * room);
    assay_status s = buffer ? write_rows(w, p, buffer, buffer + room, err) : assay_nomem(err);
    assay_free(buffer);
    return s == ASSAY_OK ? assay_spool_end(w, bytes, err) : s;
}
