/* fold_encode.c: rounding to nearest with ranges of one's own: a matrix as its choice's grid has it, columns
 * scaled and ranges bounded on the way, so that a scaling can be tried without a scaled copy of the matrix.
 *
 *   1. lo, hi of each row and group, bounded by the clipping               [rows][n_groups]
 *   2. grids from the ranges; FP8's blocks and tensors: from the widest of their rows
 *   3. codes
 *
 * Every precision whose groups lie within rows: integers and small floats. A row is one thread's in each
 * pass. */
#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "method/fold.h"
#include "num/convert.h"

typedef struct job {
    const assay_item *item;
    const float *col_scale, *clip;
    assay_grid_spec spec;
    int64_t rows, cols, group, n_groups;
    float *lo, *hi;    /* [rows][n_groups] */
    assay_grid *grids; /* per scale */
    float *scratch;    /* [n_threads][cols] */
    assay_matrix *out; /* the item's */
} job;

int64_t assay_item_group(const assay_item *item) {
    assay_grid_spec s = assay_choice_grid(item->choice, item->model_dtype);
    return s.group_size ? s.group_size : item->weight->dims[1];
}

int64_t assay_item_n_groups(const assay_item *item) {
    int64_t group = assay_item_group(item);
    return (item->weight->dims[1] + group - 1) / group;
}

static const float *read_row(const job *j, int64_t r, int thread) {
    float *w = j->scratch + (int64_t)thread * j->cols;
    assay_item_read(w, j->item, r * j->cols, j->cols);
    for (int64_t c = 0; j->col_scale && c < j->cols; c++)
        w[c] *= j->col_scale[c];
    return w;
}

static void range_rows(void *ctx, size_t begin, size_t end, int thread) {
    job *j = ctx;
    for (int64_t r = (int64_t)begin; r < (int64_t)end; r++) {
        const float *w = read_row(j, r, thread);
        for (int64_t g = 0; g < j->n_groups; g++) {
            int64_t first = g * j->group, last = ASSAY_MIN(first + j->group, j->cols),
                    at = r * j->n_groups + g;
            float lo = 0, hi = 0;
            for (int64_t c = first; c < last; c++) {
                lo = w[c] < lo ? w[c] : lo;
                hi = w[c] > hi ? w[c] : hi;
            }
            j->lo[at] = j->clip ? ASSAY_MAX(lo, -j->clip[at]) : lo;
            j->hi[at] = j->clip ? ASSAY_MIN(hi, j->clip[at]) : hi;
        }
    }
}

/* Gives rows that share scales the same range, and every scale its grid. */
static void set_grids(job *j) {
    float absmax = j->item->fused_absmax;
    for (int64_t i = 0; i < j->rows * j->n_groups; i++)
        absmax = ASSAY_MAX(absmax, ASSAY_MAX(-j->lo[i], j->hi[i]));
    j->spec.global_scale = j->out->global_scale = assay_grid_spec_global(&j->spec, absmax);
    for (int64_t r = 0; r < j->rows; r++)
        for (int64_t g = 0; g < j->n_groups; g++) {
            int64_t at = r * j->n_groups + g, k = assay_matrix_scale_index(j->out, r, g * j->group);
            int64_t from = j->spec.row_block > 1 ? r - r % j->spec.row_block : r,
                    home = from * j->n_groups + g;
            if (j->lo[at] < j->lo[home]) j->lo[home] = j->lo[at];
            if (j->hi[at] > j->hi[home]) j->hi[home] = j->hi[at];
            assay_grid_from_range(&j->grids[k], &j->spec, j->lo[home],
                                  j->hi[home]); /* the block's last row has the last word */
        }
    for (int64_t k = 0; k < j->out->n_scales; k++)
        assay_matrix_set_grid(j->out, k, &j->grids[k]);
}

static void round_rows(void *ctx, size_t begin, size_t end, int thread) {
    job *j = ctx;
    for (int64_t r = (int64_t)begin; r < (int64_t)end; r++) {
        const float *w = read_row(j, r, thread);
        for (int64_t g = 0; g < j->n_groups; g++) {
            int64_t first = g * j->group, n = ASSAY_MIN(j->group, j->cols - first);
            const assay_grid *grid = &j->grids[assay_matrix_scale_index(j->out, r, first)];
            assay_grid_round(j->out->codes + r * j->cols + first, NULL, &j->spec, grid, w + first, (size_t)n);
        }
    }
}

assay_status assay_fold_encode(assay_item *item, const float *col_scale, const float *clip, int n_threads,
                               assay_err *err) {
    job j = {.item = item,
             .col_scale = col_scale,
             .clip = clip,
             .spec = assay_choice_grid(item->choice, item->model_dtype),
             .rows = item->weight->dims[0],
             .cols = item->weight->dims[1],
             .group = assay_item_group(item),
             .n_groups = assay_item_n_groups(item),
             .out = &item->out};
    size_t grain = (size_t)assay_block_rows(j.cols, 1), n = (size_t)(j.rows * j.n_groups);
    assay_status s;
    item->out = (assay_matrix){0};
    n_threads = ASSAY_MAX(n_threads, 1);
    ASSAY_GO(assay_tensor_check_finite(item->weight, 0, item->weight->dims[0], err));
    ASSAY_GO(assay_grid_matrix_new(&item->out, &j.spec, j.rows, j.cols, err));
    j.lo = assay_mallocn(n, sizeof *j.lo);
    j.hi = assay_mallocn(n, sizeof *j.hi);
    j.grids = assay_calloc((size_t)item->out.n_scales, sizeof *j.grids);
    j.scratch = assay_mallocn((size_t)n_threads * (size_t)j.cols, sizeof *j.scratch);
    if (!j.lo || !j.hi || !j.grids || !j.scratch) {
        s = assay_nomem(err);
        goto out;
    }
    assay_parallel_range(n_threads, (size_t)j.rows, grain, range_rows, &j);
    set_grids(&j);
    assay_parallel_range(n_threads, (size_t)j.rows, grain, round_rows, &j);
    assay_item_set_activations(item);
out:
    assay_free(j.lo);
    assay_free(j.hi);
    assay_free(j.grids);
    assay_free(j.scratch);
    if (s != ASSAY_OK) assay_matrix_deinit(&item->out);
    return s;
}
