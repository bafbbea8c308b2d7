/* blocks.c: a matrix encoded as blocks of rows over threads.
 *
 * Memory: float32 exists for one block per thread only; the encoded matrix is allocated once. What a block
 * comes to depends on its rows alone, so neither the number of threads nor the size of a block shows in the
 * result.
 *
 *   INT       rows [r0, r0+n)  ->  codes[r0*cols ..], scales and zeros [r0*n_groups ..]
 *   FLOAT     the same         ->  codes[r0*cols ..], scales [r0/row_block*n_groups ..]
 *   CODEBOOK  the same         ->  codes[r0*cols ..], scales [r0*cols/block ..]
 *             r0*cols is a multiple of the block
 *   BLOCK     the same         ->  data[r0*row bytes ..]; DENSE too */
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "method/methods.h"
#include "num/convert.h"
#include "precision/block.h"

/* Large enough that a task's fixed costs vanish, small enough to stay in the second-level cache. */
#define BLOCK_ELEMENTS 65536

int64_t assay_block_rows(int64_t cols, int64_t row_unit) {
    int64_t n = BLOCK_ELEMENTS / ASSAY_MAX(cols, 1) / row_unit * row_unit;
    return ASSAY_MAX(n, row_unit);
}

void assay_item_read(float *out, const assay_item *item, int64_t first, int64_t n) {
    const assay_tensor *t = item->weight;
    if (item->w)
        memcpy(out, item->w + first, (size_t)n * sizeof *out);
    else
        assay_tensor_read(out, t, first, n);
}

typedef struct job {
    assay_item *item;
    assay_block_fn fn;
    int64_t block_rows;
    float **scratch;      /* per thread */
    assay_status *status; /* per task */
    assay_err *errs;      /* per task */
    assay_pulse pulse;
} job;

assay_status assay_tensor_check_finite(const assay_tensor *t, int64_t row, int64_t n, assay_err *err) {
    size_t size = assay_dtype_size(t->dtype);
    int64_t cols = t->dims[1];
    const uint8_t *p = (const uint8_t *)t->data + (size_t)(row * cols) * size;
    int64_t at = assay_find_nonfinite(p, t->dtype, (size_t)(n * cols));
    if (at < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT,
                      "tensor '%s': NaN or infinity at row %lld, column %lld: the checkpoint is damaged",
                      t->name, (long long)(row + at / cols), (long long)(at % cols));
}

/* Bytes of a row of blocks or of plain elements; 0: codes with scales. */
static size_t row_bytes(const assay_matrix *m) {
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_BLOCK: return assay_block_row_bytes(m->precision, m->cols);
    case ASSAY_KIND_DENSE: return (size_t)m->cols * (size_t)assay_precision_bits(m->precision) / 8;
    default: return 0;
    }
}

/* Copies an encoded block to its place in the whole. */
static void place(assay_matrix *whole, const assay_matrix *part, int64_t row) {
    size_t bytes = row_bytes(whole);
    if (bytes) {
        memcpy((uint8_t *)(uintptr_t)whole->data + (size_t)row * bytes, part->data, (size_t)part->rows * bytes);
        return;
    }
    memcpy(whole->codes + row * whole->cols, part->codes, (size_t)(part->rows * part->cols));
    int64_t at = assay_matrix_scale_index(whole, row, 0);
    if (whole->row_block > 1 && row % whole->row_block) return; /* one scale for all blocks of rows: the first brought it */
    memcpy(whole->scales + at, part->scales, (size_t)part->n_scales * sizeof *part->scales);
    if (whole->zeros) memcpy(whole->zeros + at, part->zeros, (size_t)part->n_scales);
}

static void encode_task(void *ctx, size_t task, int thread) {
    job *j = ctx;
    assay_item *item = j->item;
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    int64_t row = (int64_t)task * j->block_rows, n = ASSAY_MIN(j->block_rows, rows - row);
    float *w = j->scratch[thread];
    assay_matrix part = {0};
    if (atomic_load(&j->pulse.stopped)) return;
    assay_err *err = &j->errs[task];
    assay_status s;
    ASSAY_GO(assay_tensor_check_finite(item->weight, row, n, err));
    assay_item_read(w, item, row * cols, n * cols);
    ASSAY_GO(j->fn(&part, item, w, n, cols, err));
    place(&item->out, &part, row);
out:
    assay_matrix_deinit(&part);
    j->status[task] = s;
    assay_pulse_beat(&j->pulse, 1, thread);
}

/* Allocates item->out for a choice: what every block's encoder will give for its rows. */
static assay_status alloc_whole(assay_item *item, assay_err *err) {
    assay_matrix m = {.precision = item->choice->precision, .rows = item->weight->dims[0], .cols = item->weight->dims[1]};
    if (row_bytes(&m)) {
        if (!(m.data = assay_mallocn((size_t)m.rows, row_bytes(&m)))) return assay_nomem(err);
        m.owns_data = true;
        item->out = m;
        return ASSAY_OK;
    }
    assay_grid_spec s = assay_choice_grid(item->choice, item->model_dtype);
    if (item->choice->method == ASSAY_METHOD_LLM_INT8) {
        s.rule = ASSAY_SCALE_ABSMAX;
        s.scale_dtype = ASSAY_DTYPE_F32;
    }
    return assay_grid_matrix_new(&item->out, &s, item->weight->dims[0], item->weight->dims[1], err);
}

assay_status assay_encode_blocks(assay_item *item, int64_t row_unit, assay_block_fn fn, int n_threads,
                                 assay_err *err) {
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    job j = {.item = item, .fn = fn, .block_rows = assay_block_rows(cols, row_unit)};
    size_t n_tasks = (size_t)((rows + j.block_rows - 1) / j.block_rows);
    assay_status s;
    j.scratch = assay_calloc((size_t)n_threads, sizeof *j.scratch);
    j.status = assay_calloc(n_tasks, sizeof *j.status);
    j.errs = assay_calloc(n_tasks, sizeof *j.errs);
    if (!j.scratch || !j.status || !j.errs) {
        s = assay_nomem(err);
        goto out;
    }
    for (int t = 0; t < n_threads; t++) {
        j.scratch[t] = assay_mallocn((size_t)(ASSAY_MIN(j.block_rows, rows) * cols), sizeof(float));
        if (!j.scratch[t]) {
            s = assay_nomem(err);
            goto out;
        }
    }
    ASSAY_GO(alloc_whole(item, err));
    assay_pulse_open(&j.pulse, item, n_tasks);
    assay_parallel(n_threads, n_tasks, encode_task, &j);
    ASSAY_GO(assay_pulse_status(&j.pulse, err));
    /* The first failure in order of rows, whichever thread met one first. */
    for (size_t t = 0; t < n_tasks && s == ASSAY_OK; t++)
        if ((s = j.status[t]) != ASSAY_OK) assay_fail(err, s, "%s", j.errs[t].message);
out:
    for (int t = 0; j.scratch && t < n_threads; t++)
        assay_free(j.scratch[t]);
    assay_free(j.scratch);
    assay_free(j.status);
    assay_free(j.errs);
    return s;
}
