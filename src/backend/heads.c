/* backend/heads.c: a matrix whose rows are many small ones, a block for each head, times what each head has.
 *
 * Latent attention (DeepSeek-V2: Liu et al. 2024, section 2.1.2) makes keys and values of latents, by a matrix per head each. Multiplied
 * with the queries instead, and with what attention gives, the cache need hold no more than the latents.
 *
 * A task is a head. Its rows are decoded to float32 into the thread's scratch, set upright where they are wanted transposed, and
 * multiplied by the tiled float32 product, which sums an element in one order for any number of rows of x. */
#include <string.h>
#include "backend/internal.h"
#include "base/thread.h"

enum { X_ROWS = 32, W_ROWS = 16 /* rows of x and of w at a time */ };
_Static_assert((X_ROWS + W_ROWS + 2) * ASSAY_KV_MOST_DIM <= ATT_FLOATS && ASSAY_KV_MOST_DIM % ASSAY_KERN_CHUNK == 0,
               "scratch beside the tile");

typedef struct heads_job {
    assay_backend *b;
    const assay_weight *w;
    assay_head_rows rows;
    float *y;
    const float *x;
    assay_span to, from;
    size_t n_rows, n_in, pad, n_out; /* of a head; pad: n_in in whole chunks */
} heads_job;

/* Outputs [first, first + n) of head h as rows of n_in weights. */
static void fill_tile(float *tile, float *aside, const heads_job *j, size_t h, size_t first, size_t n) {
    size_t row = h * j->rows.per_head + j->rows.first, k = j->w->k;
    float *decoded = aside + 2 * ASSAY_KV_MOST_DIM;
    if (!j->rows.transposed) {
        for (size_t o = 0; o < n; o++) backend_decode_row(tile + o * j->pad, aside, j->b, j->w, row + first + o);
        return;
    }
    for (size_t i = 0; i < j->n_in; i += W_ROWS) {
        size_t m = ASSAY_MIN(j->n_in - i, (size_t)W_ROWS);
        for (size_t r = 0; r < m; r++) backend_decode_row(decoded + r * k, aside, j->b, j->w, row + i + r);
        for (size_t o = 0; o < n; o++)
            for (size_t r = 0; r < m; r++) tile[o * j->pad + i + r] = decoded[r * k + first + o];
    }
}

static void head_task(void *ctx, size_t h, int thread) {
    const heads_job *j = ctx;
    float *x = j->b->att + (size_t)thread * (ATT_FLOATS + ATT_TILES), *aside = x + X_ROWS * ASSAY_KV_MOST_DIM,
          *tile = x + ATT_FLOATS;
    size_t most = ATT_TILES / j->pad;
    for (size_t first = 0; first < j->n_out; first += most) {
        size_t n = ASSAY_MIN(most, j->n_out - first);
        fill_tile(tile, aside, j, h, first, n);
        for (size_t row = 0; row < j->n_rows; row += X_ROWS) {
            size_t m = ASSAY_MIN(j->n_rows - row, (size_t)X_ROWS);
            for (size_t r = 0; r < m; r++) {
                memcpy(x + r * j->pad, j->x + (row + r) * j->from.row + j->from.first + h * j->from.block, j->n_in * sizeof *x);
                memset(x + r * j->pad + j->n_in, 0, (j->pad - j->n_in) * sizeof *x);
            }
            j->b->k.gemm_f32(j->y + row * j->to.row + j->to.first + h * j->to.block + first, j->to.row, x, j->pad, tile, j->pad,
                             j->n_in, m, n);
        }
    }
}

void assay_op_linear_heads(assay_backend *b, assay_buf *y, assay_span to, const assay_weight *w, const assay_head_rows *rows,
                           const assay_buf *x, assay_span from, size_t n_rows) {
    heads_job j = {.b = b, .w = w, .rows = *rows, .y = (float *)y->p, .x = (const float *)x->p, .to = to, .from = from, .n_rows = n_rows};
    j.n_in = rows->transposed ? rows->n : w->k;
    j.n_out = rows->transposed ? w->k : rows->n;
    j.pad = backend_up(j.n_in, ASSAY_KERN_CHUNK);
    assay_parallel(rows->n_heads * rows->n * w->k < SERIAL_MACS / 4 ? 1 : b->n_threads, rows->n_heads, head_task, &j);
}
