/* loss.c: what a matrix lost, measured on the encoded matrix itself: every element is decoded and compared
 * with the weight.
 *
 *   weight   |W - W'|_F / |W|_F
 *   output   |X (W - W')^T|_F / |X W^T|_F  on calibration inputs X [n, cols], when there are any
 *
 * Sums are kept in double per block of rows and added in the order of blocks, so they do not depend on the
 * number of threads. Blocks are the encoder's own tasks in size, not in effect. X is the sample of calibration
 * inputs: n*rows*cols multiply-adds twice. */
#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "method/methods.h"

typedef struct job {
    const assay_item *item;
    int64_t block_rows;
    float **scratch;       /* per thread: W rows, W' rows, outputs */
    assay_loss_sums *sums; /* per task */
    assay_status *status;  /* per task */
    assay_err *errs;       /* per task */
} job;

/* Outputs y [n_sample][n] of n rows, and their sum of squares. */
static assay_status output2(double *sum, float *y, const assay_inputs *in, const float *w, size_t n, assay_err *err) {
    size_t cols = (size_t)in->cols;
    ASSAY_TRY(assay_gemm(y, n, in->sample, cols, false, w, cols, true, in->n_sample, n, cols, false, 1, err));
    for (size_t i = 0; i < in->n_sample * n; i++)
        *sum += (double)y[i] * (double)y[i];
    return ASSAY_OK;
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

static bool has_sample(const assay_item *item) {
    return item->in && item->in->sample && item->in->n_sample;
}

static void measure_task(void *ctx, size_t task, int thread) {
    job *j = ctx;
    const assay_item *item = j->item;
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    int64_t row = (int64_t)task * j->block_rows, n = ASSAY_MIN(j->block_rows, rows - row);
    int64_t most = ASSAY_MIN(j->block_rows, rows);
    float *w = j->scratch[thread], *d = w + most * cols, *y = d + most * cols;
    assay_loss_sums *sums = &j->sums[task];
    assay_item_read(w, item, row * cols, n * cols);
    assay_matrix_decode_rows(d, &item->out, row, n);
    for (int64_t r = 0; r < n; r++)
        add_weights(sums, w + r * cols, d + r * cols, cols);
    if (!has_sample(item)) return;
    assay_err *err = &j->errs[task];
    j->status[task] = output2(&sums->reference2, y, item->in, w, (size_t)n, err);
    if (j->status[task] == ASSAY_OK) j->status[task] = output2(&sums->output2, y, item->in, d, (size_t)n, err);
}

assay_status assay_loss_measure(assay_loss_sums *out, const assay_item *item, int n_threads, assay_err *err) {
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    /* Outputs: enough rows that reading the sample again for each block does not count. */
    job j = {.item = item, .block_rows = ASSAY_MAX(assay_block_rows(cols, 1), has_sample(item) ? (int64_t)128 : 1)};
    size_t n_tasks = (size_t)((rows + j.block_rows - 1) / j.block_rows);
    size_t most = (size_t)ASSAY_MIN(j.block_rows, rows);
    size_t n = 2 * most * (size_t)cols + (has_sample(item) ? most * item->in->n_sample : 0);
    assay_status s = ASSAY_OK;
    *out = (assay_loss_sums){0};
    j.scratch = assay_calloc((size_t)n_threads, sizeof *j.scratch);
    j.sums = assay_calloc(n_tasks, sizeof *j.sums);
    j.status = assay_calloc(n_tasks, sizeof *j.status);
    j.errs = assay_calloc(n_tasks, sizeof *j.errs);
    if (!j.scratch || !j.sums || !j.status || !j.errs) s = assay_nomem(err);
    for (int t = 0; s == ASSAY_OK && t < n_threads; t++)
        if (!(j.scratch[t] = assay_mallocn(n, sizeof(float)))) s = assay_nomem(err);
    if (s == ASSAY_OK) assay_parallel(n_threads, n_tasks, measure_task, &j);
    for (size_t t = 0; s == ASSAY_OK && t < n_tasks; t++) {
        if ((s = j.status[t]) != ASSAY_OK) assay_fail(err, s, "%s", j.errs[t].message);
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
    assay_free(j.status);
    assay_free(j.errs);
    return s;
}

double assay_relative_error(double error2, double reference2) {
    if (error2 == 0) return 0;
    return reference2 > 0 ? sqrt(error2 / reference2) : INFINITY;
}
