/* backend/blocks.c: weights that stay the blocks of a GGUF file (precision/block.h), read from its mapping and
 * decoded tile by tile before the dense kernels multiply them: no memory, and little time beside the products
 * of many rows. With one row of x the decoding is most of the work. */
#include <string.h>
#include "backend/internal.h"
#include "base/mem.h"
#include "precision/block.h"

enum { PIECE = 4 * ASSAY_BLOCK_MAX }; /* columns decoded at a time on their way to bf16 */

assay_status backend_keep_blocks(assay_weight *w, const assay_matrix *m, assay_err *err) {
    size_t size;
    w->blocks = (assay_matrix){.precision = m->precision, .rows = m->rows, .cols = m->cols, .data = m->data};
    if (!assay_mul_size(&size, w->n_out, assay_block_row_bytes(m->precision, m->cols))) return assay_nomem(err);
    if (m->owns_data) {
        void *copy;
        ASSAY_TRY(backend_own(&copy, w, size, err));
        w->blocks.data = memcpy(copy, m->data, size);
    }
    w->n_bytes = size;
    return ASSAY_OK;
}

/* One row to bf16, in pieces that stay in the first cache. */
static void unpack_bf16(uint16_t *out, const assay_backend *b, const assay_matrix *m, int64_t row) {
    const uint8_t *blocks =
        (const uint8_t *)m->data + (size_t)row * assay_block_row_bytes(m->precision, m->cols);
    float values[PIECE];
    for (int64_t c = 0; c < m->cols; c += PIECE) {
        assay_matrix piece = {.precision = m->precision, .rows = 1, .data = blocks};
        piece.cols = ASSAY_MIN(m->cols - c, (int64_t)PIECE);
        assay_matrix_decode_rows(values, &piece, 0, 1);
        b->k.to_bf16(out + c, values, (size_t)piece.cols);
        blocks += assay_block_row_bytes(m->precision, piece.cols);
    }
}

void backend_unpack_blocks(void *out, const assay_backend *b, const assay_weight *w, size_t row, size_t n) {
    if (w->mode == ASSAY_ACT_BF16) {
        for (size_t i = 0; i < n; i++)
            unpack_bf16((uint16_t *)out + i * w->k, b, &w->blocks, (int64_t)(row + i));
        return;
    }
    assay_matrix_decode_rows(out, &w->blocks, (int64_t)row, (int64_t)n);
    if (w->mode == ASSAY_ACT_F16) b->k.round_f16(out, out, n * w->k);
}
