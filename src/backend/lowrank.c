/* backend/lowrank.c: y = W x + B (A x): a low-rank part beside a weight of any form (LoRA: Hu et al. 2021).
 *
 * A and B are weights of their own, dense, so their sums keep the order that all sums keep, and what is added to a row depends on that
 * row alone. Rows go through in pieces of ACTS_ROWS, for which scratch is reserved when the part is added. */
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"

static assay_status reserve(assay_buf **buf, assay_backend *b, size_t floats, assay_err *err) {
    if (*buf && (*buf)->n >= floats * sizeof(float)) return ASSAY_OK;
    assay_buf_free(b, *buf);
    *buf = NULL;
    return assay_buf_new(buf, b, floats * sizeof(float), err);
}

assay_status assay_weight_add_lowrank(assay_backend *b, assay_weight *w, const assay_matrix *down, const assay_matrix *up, assay_err *err) {
    assay_status s = ASSAY_OK;
    if (w->down) return assay_fail(err, ASSAY_EUSAGE, "the weight has a low-rank part already");
    if ((size_t)down->cols != w->k || (size_t)up->rows != w->n_out || down->rows != up->cols)
        return assay_fail(err, ASSAY_EINPUT, "a low-rank part of %lld x %lld and %lld x %lld does not fit a weight of %zu x %zu",
                          (long long)up->rows, (long long)up->cols, (long long)down->rows, (long long)down->cols, w->n_out, w->k);
    ASSAY_GO(assay_weight_new(&w->down, b, down, ASSAY_ACT_AUTO, err));
    ASSAY_GO(assay_weight_new(&w->up, b, up, ASSAY_ACT_AUTO, err));
    ASSAY_GO(reserve(&b->narrow, b, ACTS_ROWS * w->down->n_out, err));
    s = reserve(&b->wide, b, ACTS_ROWS * w->n_out, err);
out:
    if (s != ASSAY_OK) {
        assay_weight_free(b, w->down);
        assay_weight_free(b, w->up);
        w->down = w->up = NULL;
    }
    return s;
}

void backend_add_lowrank(assay_backend *b, assay_buf *y, const assay_weight *w, const assay_buf *x, size_t n_rows) {
    if (!w->down) return;
    for (size_t row = 0; row < n_rows; row += ACTS_ROWS) {
        size_t n = ASSAY_MIN((size_t)ACTS_ROWS, n_rows - row);
        assay_buf from = {.p = x->p + row * w->k * sizeof(float), .n = n * w->k * sizeof(float)},
                  to = {.p = y->p + row * w->n_out * sizeof(float), .n = n * w->n_out * sizeof(float)};
        assay_op_linear(b, b->narrow, w->down, NULL, &from, n);
        assay_op_linear(b, b->wide, w->up, NULL, b->narrow, n);
        assay_op_add(b, &to, b->wide, n * w->n_out);
    }
}
