/* packed.c: packed codes on their way between a matrix and a file. They are written by pieces that stay in a core's cache, each while the
 * next one is packed:
 *
 *   pack 0 | pack 1    | pack 2    | ...
 *          | write 0   | write 1   | ... */
#include "base/mem.h"
#include "base/str.h"
#include "format/convention.h"
#include "format/writer_impl.h"

enum { PIECE = 1 << 20 };

/* One piece, which may be empty, and where it goes. */
typedef struct errand {
    assay_ckpt_writer *w;
    const char *name;
    const void *data;
    size_t n, offset;
    assay_status status;
    assay_err *err;
} errand;

static void run_errand(void *ctx) {
    errand *e = ctx;
    if (e->n && e->status == ASSAY_OK) e->status = assay_spool_fill(e->w, e->name, e->data, e->n, e->offset, e->err);
}

static assay_status put_pieces(assay_ckpt_writer *w, const char *name, const assay_packing *p, const uint8_t *codes, assay_err *err) {
    int64_t shape[2], lines = assay_packing_piece(p, PIECE);
    assay_packing_shape(shape, p);
    size_t line = (size_t)shape[1] * sizeof(uint32_t);
    lines = ASSAY_MIN(lines, shape[0]);
    uint32_t *room[2] = {assay_mallocn((size_t)lines, line), shape[0] > lines ? assay_mallocn((size_t)lines, line) : NULL};
    errand e = {.w = w, .name = name, .err = err};
    if (!room[0] || (shape[0] > lines && !room[1])) e.status = assay_nomem(err);
    for (int64_t first = 0; first < shape[0] && e.status == ASSAY_OK; first += lines) {
        int64_t n = ASSAY_MIN(lines, shape[0] - first);
        uint32_t *to = room[first / lines % 2];
        assay_pack_lines(to, p, codes, first, n, run_errand, &e);
        e.data = to;
        e.n = (size_t)n * line;
        e.offset = (size_t)first * line;
    }
    run_errand(&e);
    assay_free(room[0]);
    assay_free(room[1]);
    return e.status;
}

static assay_status put_named(assay_ckpt_writer *w, const char *name, const assay_packing *p, const uint8_t *codes, assay_err *err) {
    size_t bytes;
    assay_tensor t = {.name = name, .dtype = ASSAY_DTYPE_I32, .n_dims = 2};
    if (w->gguf) return assay_fail(err, ASSAY_EUSAGE, "%s is a tensor of safetensors, not of GGUF", name);
    assay_packing_shape(t.dims, p);
    ASSAY_TRY(assay_spool_begin(&bytes, w, &t, NULL, -1, err));
    if (assay_ckpt_writer_is_planning(w)) return ASSAY_OK;
    ASSAY_TRY(put_pieces(w, name, p, codes, err));
    return assay_spool_end(w, bytes, err);
}

assay_status assay_put_packed(assay_ckpt_writer *w, const char *module, const char *suffix, const assay_packing *p, const uint8_t *codes,
                              assay_err *err) {
    assay_str name = {0};
    assay_str_put(&name, module);
    assay_str_put(&name, suffix);
    assay_status s = assay_str_status(&name, err);
    if (s == ASSAY_OK) s = put_named(w, name.s, p, codes, err);
    assay_str_free(&name);
    return s;
}
