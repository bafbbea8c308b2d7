/* floats.c: a matrix in small floats, over blocks of rows. Where one number depends on the whole matrix (FP8
 * with one scale, NVFP4's global scale) a first pass finds its largest magnitude; everything else is a
 * block's own. */
#include "method/floats.h"

#include "base/mem.h"
#include "base/thread.h"

typedef struct state {
    assay_grid_spec spec;
    assay_grid grid; /* one scale for the matrix: this one */
    bool one_scale;
} state;

typedef struct scan {
    const assay_item *item;
    int64_t block_rows;
    float **scratch; /* per thread */
    float *most;     /* per task */
} scan;

static void scan_task(void *ctx, size_t task, int thread) {
    scan *s = ctx;
    int64_t rows = s->item->weight->dims[0], cols = s->item->weight->dims[1];
    int64_t row = (int64_t)task * s->block_rows, n = ASSAY_MIN(s->block_rows, rows - row) * cols;
    assay_item_read(s->scratch[thread], s->item, row * cols, n);
    s->most[task] = assay_absmax(s->scratch[thread], (size_t)n);
}

static assay_status largest(float *out, const assay_item *item, int n_threads, assay_err *err) {
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    scan s = {.item = item, .block_rows = assay_block_rows(cols, 1)};
    size_t n_tasks = (size_t)((rows + s.block_rows - 1) / s.block_rows);
    bool enough = true;
    s.scratch = assay_calloc((size_t)n_threads, sizeof *s.scratch);
    s.most = assay_mallocn(n_tasks, sizeof *s.most);
    for (int t = 0; s.scratch && t < n_threads; t++) {
        s.scratch[t] = assay_mallocn((size_t)(ASSAY_MIN(s.block_rows, rows) * cols), sizeof(float));
        enough = enough && s.scratch[t];
    }
    enough = enough && s.scratch && s.most;
    *out = 0;
    if (enough) assay_parallel(n_threads, n_tasks, scan_task, &s);
    for (size_t t = 0; enough && t < n_tasks; t++) *out = ASSAY_MAX(*out, s.most[t]);
    for (int t = 0; s.scratch && t < n_threads; t++) assay_free(s.scratch[t]);
    assay_free(s.scratch);
    assay_free(s.most);
    return enough ? ASSAY_OK : assay_nomem(err);
}

static assay_status encode(assay_matrix *out, const assay_item *item, const float *w, int64_t rows,
                           int64_t cols, assay_err *err) {
    const state *s = item->state;
    if (!s->one_scale) return assay_encode_float(out, w, rows, cols, &s->spec, err);
    ASSAY_TRY(assay_grid_matrix_new(out, &s->spec, rows, cols, err));
    assay_matrix_set_grid(out, 0, &s->grid);
    assay_grid_spec rounding = s->spec;
    rounding.quotient = rounding.scale_dtype; /* as assay_encode_float has it */
    assay_grid_round(out->codes, NULL, &rounding, &s->grid, w, (size_t)(rows * cols));
    return ASSAY_OK;
}

assay_status assay_floats_encode(assay_item *item, int n_threads, assay_err *err) {
    state s = {.spec = assay_choice_grid(item->choice, item->model_dtype)};
    s.one_scale = item->choice->scale == ASSAY_SCALE_TENSOR;
    if (s.one_scale || s.spec.precision == ASSAY_PRECISION_NVFP4) {
        float most;
        ASSAY_TRY(largest(&most, item, n_threads, err));
        most = ASSAY_MAX(most, item->fused_absmax);
        s.spec.global_scale = assay_grid_spec_global(&s.spec, most);
        assay_grid_from_range(&s.grid, &s.spec, -most, most);
    }
    item->state = &s;
    assay_status status = assay_encode_blocks(
        item, item->choice->scale == ASSAY_SCALE_BLOCK ? s.spec.row_block : 1, encode, n_threads, err);
    item->state = NULL;
    item->out.global_scale = s.spec.global_scale;
    if (status == ASSAY_OK) assay_item_set_activations(item);
    return status;
}
