/* loss.c: what a matrix lost, measured on the encoded matrix itself: every element is decoded and compared
 * with the weight.
 *
 *   weight   |W - W'|_F / |W|_F
 *   output   |X (W - W')^T|_F / |X W^T|_F  on calibration inputs X [n, cols], when there are any
 *
 * Sums are kept in double per block of rows and added in the order of blocks, so they do not depend on the
 * number of threads. Blocks are the encoder's own tasks in size, not in effect. The output error costs
 * n*rows*cols multiply-adds twice; callers pass a sample of inputs. */
#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "method/methods.h"

typedef struct job {
    const assay_item *item;
    int64_t block_rows;
    float **scratch;       /* per thread: W rows, then W' rows */
    assay_loss_sums *sums; /* per task */
} job;

/* One row of W and of the difference against every input. */
static void add_outputs(assay_loss_sums *s, const assay_item *item, const float *w, const float *d,
                        int64_t cols) {
    for (size_t k = 0; k < item->n_inputs; k++) {
        const float *x = item->inputs + k * (size_t)cols;
        double y = 0, e = 0;
        for (int64_t c = 0; c < cols; c++) {
            y += (double)x[c] * (double)w[c];
            e += (double)x[c] * (double)d[c];
        }
        s->reference2 += y * y;
        s->output2 += e * e;
    }
}

#define LANES 8

static inline void add_lanes(double *restrict e, double *restrict q, float *restrict top,
                             const float *restrict w, float *restrict d, int n) {
    for (int k = 0; k < n; k++) {
        float diff = w[k] - d[k], mag = fabsf(diff);
        d[k] = diff;
        e[k] += (double)diff * (double)diff;
        q[k] += (double)w[k] * (double)w[k];
        top[k] = mag > top[k] ? mag : top[k];
    }
}

/* Adds one row; d, the decoded row, becomes the difference. Interleaved sums: a fixed order that leaves the
 * processor room. */
static void add_weights(assay_loss_sums *s, const float *w, float *d, int64_t n) {
    double e[LANES] = {0}, q[LANES] = {0};
    float top[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        add_lanes(e, q, top, w + i, d + i, LANES);
    add_lanes(e, q, top, w + i, d + i, (int)(n - i));
    for (int k = 0; k < LANES; k++) {
        s->error2 += e[k];
        s->weight2 += q[k];
        s->max_error = ASSAY_MAX(s->max_error, (double)top[k]);
    }
}

static void measure_task(void *ctx, size_t task, int thread) {
    job *j = ctx;
    int64_t rows = j->item->weight->dims[0], cols = j->item->weight->dims[1];
    int64_t row = (int64_t)task * j->block_rows, n = ASSAY_MIN(j->block_rows, rows - row);
    float *w = j->scratch[thread], *d = w + ASSAY_MIN(j->block_rows, rows) * cols;
    assay_item_read(w, j->item, row * cols, n * cols);
    assay_matrix_decode_rows(d, &j->item->out, row, n);
    for (int64_t r = 0; r < n; r++) {
        add_weights(&j->sums[task], w + r * cols, d + r * cols, cols);
        if (j->item->inputs) add_outputs(&j->sums[task], j->item, w + r * cols, d + r * cols, cols);
    }
}

assay_status assay_loss_measure(assay_loss_sums *out, const assay_item *item, int n_threads, assay_err *err) {
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    job j = {.item = item, .block_rows = assay_block_rows(cols, 1)};
    size_t n_tasks = (size_t)((rows + j.block_rows - 1) / j.block_rows);
    size_t n = (size_t)(ASSAY_MIN(j.block_rows, rows) * cols);
    assay_status s = ASSAY_OK;
    *out = (assay_loss_sums){0};
    j.scratch = assay_calloc((size_t)n_threads, sizeof *j.scratch);
    j.sums = assay_calloc(n_tasks, sizeof *j.sums);
    if (!j.scratch || !j.sums) s = assay_nomem(err);
    for (int t = 0; s == ASSAY_OK && t < n_threads; t++)
        if (!(j.scratch[t] = assay_mallocn(2 * n, sizeof(float)))) s = assay_nomem(err);
    if (s == ASSAY_OK) assay_parallel(n_threads, n_tasks, measure_task, &j);
    for (size_t t = 0; s == ASSAY_OK && t < n_tasks; t++) {
        out->error2 += j.sums[t].error2;
        out->weight2 += j.sums[t].weight2;
        out->output2 += j.sums[t].output2;
        out->reference2 += j.sums[t].reference2;
        out->max_error = ASSAY_MAX(out->max_error, j.sums[t].max_error);
    }
    for (int t = 0; j.scratch && t < n_threads; t++)
        assay_free(j.scratch[t]);
    assay_free(j.scratch);
    assay_free(j.sums);
    return s;
}

double assay_relative_error(double error2, double reference2) {
    if (error2 == 0) return 0;
    return reference2 > 0 ? sqrt(error2 / reference2) : INFINITY;
}
