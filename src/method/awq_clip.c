/* awq_clip.c: AWQ's second search (Lin et al. 2023, section on clipping; llm-awq's auto_clip.py): how far a
 * group's range is drawn in before it is rounded. Ten ranges, the largest magnitude times 1, 0.95, ... 0.55,
 * are tried for each row and group alone; what counts is the group's part of the output,
 *
 *   |X_g (q - w)|^2 = (q - w)^T (X_g^T X_g) (q - w)
 *
 * X_g being the inputs of its columns. The original sums over 512 tokens each time; the Gram matrix of a
 * group of 128 columns says the same in a quarter of the work, and can hold all tokens where it was
 * collected (of narrow inputs: excerpt.h). Groups wider than the sample take the sample itself. */
#include "method/awq.h"

#include <math.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "method/fold.h"

enum { N_STEPS = 10, ROWS_AT_ONCE = 64, ROWS_PER_TASK = 1024 };
#define STEP 0.05f

typedef struct job {
    assay_item *item;
    assay_grid_spec spec;
    int64_t rows, cols, group, n_groups, n_chunks;
    bool gram;            /* the inputs' form is a Gram matrix, not a sample */
    size_t form_rows;     /* the most of any group */
    float **scratch;      /* per thread */
    double *shrink;       /* per task: sum of the chosen factors */
    assay_status *status; /* per task */
} job;

/* One group of some rows. */
typedef struct patch {
    const job *job;
    int64_t first; /* column */
    size_t n;      /* columns */
    size_t n_form;
    float *form;  /* [n_form][n]: the Gram matrix or the sample of these columns */
    float *w, *d; /* [ROWS_AT_ONCE][n]: weights; what rounding changes */
    float *y;     /* [ROWS_AT_ONCE][n_form] */
    float lo[ROWS_AT_ONCE], hi[ROWS_AT_ONCE]; /* of the weights' rows, 0 among them */
} patch;

/* The inputs of the patch's columns. */
static assay_status fill_form(patch *p, assay_err *err) {
    const assay_inputs *in = p->job->item->in;
    size_t cols = (size_t)in->cols;
    const float *x = in->sample ? in->sample + p->first : NULL;
    if (!p->job->gram) {
        p->n_form = in->n_sample;
        for (size_t t = 0; t < in->n_sample; t++)
            for (size_t c = 0; c < p->n; c++)
                p->form[t * p->n + c] = x[t * cols + c];
        return ASSAY_OK;
    }
    p->n_form = p->n;
    if (!in->gram)
        return assay_gemm(p->form, p->n, x, cols, true, x, cols, false, p->n, p->n, in->n_sample, false, 1,
                          err);
    for (size_t i = 0; i < p->n; i++)
        for (size_t c = 0; c < p->n; c++)
            p->form[i * p->n + c] = in->gram[((size_t)p->first + i) * cols + (size_t)p->first + c];
    return ASSAY_OK;
}

enum { LANES = 8 };

/* In interleaved sums: a fixed order that leaves the processor room. */
static double inner(const float *restrict a, const float *restrict b, size_t n) {
    double lane[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += (double)a[i + k] * (double)b[i + k];
    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
    for (; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void subtract(float *restrict d, const float *restrict w, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            d[i + k] -= w[i + k];
    for (; i < n; i++)
        d[i] -= w[i];
}

/* errors[r] of rows rounded with ranges drawn in to factor * their largest magnitude. */
static assay_status try_factor(double *errors, const patch *p, size_t rows, float factor, assay_err *err) {
    const assay_grid_spec *spec = &p->job->spec;
    for (size_t r = 0; r < rows; r++) {
        const float *w = p->w + r * p->n;
        float *d = p->d + r * p->n, clip = fmaxf(-p->lo[r], p->hi[r]) * factor;
        assay_grid grid;
        assay_grid_from_range(&grid, spec, fmaxf(p->lo[r], -clip), fminf(p->hi[r], clip));
        assay_grid_round(NULL, d, spec, &grid, w, p->n);
        subtract(d, w, p->n);
    }
    ASSAY_TRY(assay_gemm(p->y, p->n_form, p->d, p->n, false, p->form, p->n, true, rows, p->n_form, p->n,
                         false, 1, err));
    for (size_t r = 0; r < rows; r++) {
        const float *y = p->y + r * p->n_form, *d = p->job->gram ? p->d + r * p->n : y;
        errors[r] = inner(y, d, p->n_form);
    }
    return ASSAY_OK;
}

static assay_status search_rows(double *shrink, patch *p, int64_t row, size_t rows, assay_err *err) {
    const job *j = p->job;
    double least[ROWS_AT_ONCE], errors[ROWS_AT_ONCE];
    float factor[ROWS_AT_ONCE];
    for (size_t r = 0; r < rows; r++) {
        float *w = p->w + r * p->n;
        assay_item_read(w, j->item, (row + (int64_t)r) * j->cols + p->first, (int64_t)p->n);
        assay_extremes(&p->lo[r], &p->hi[r], w, p->n);
        p->lo[r] = fminf(p->lo[r], 0);
        p->hi[r] = fmaxf(p->hi[r], 0);
    }
    for (int i = 0; i < N_STEPS; i++) {
        ASSAY_TRY(try_factor(errors, p, rows, 1 - (float)i * STEP, err));
        for (size_t r = 0; r < rows; r++) {
            if (i > 0 && !(errors[r] < least[r])) continue;
            least[r] = errors[r];
            factor[r] = 1 - (float)i * STEP;
        }
    }
    for (size_t r = 0; r < rows; r++) {
        float most = fmaxf(-p->lo[r], p->hi[r]);
        j->item->clip[(row + (int64_t)r) * j->n_groups + p->first / j->group] = most * factor[r];
        *shrink += (double)factor[r];
    }
    return ASSAY_OK;
}

/* Tasks: a group of columns by a chunk of rows. */
static void clip_task(void *ctx, size_t task, int thread) {
    job *j = ctx;
    int64_t g = (int64_t)task / j->n_chunks, row = (int64_t)task % j->n_chunks * ROWS_PER_TASK;
    int64_t end = ASSAY_MIN(row + ROWS_PER_TASK, j->rows), first = g * j->group;
    patch p = {.job = j,
               .first = first,
               .n = (size_t)ASSAY_MIN(j->group, j->cols - first),
               .form = j->scratch[thread]};
    p.w = p.form + j->form_rows * (size_t)j->group;
    p.d = p.w + ROWS_AT_ONCE * j->group;
    p.y = p.d + ROWS_AT_ONCE * j->group;
    assay_status s = fill_form(&p, NULL);
    for (; s == ASSAY_OK && row < end; row += ROWS_AT_ONCE)
        s = search_rows(&j->shrink[task], &p, row, (size_t)ASSAY_MIN(end - row, ROWS_AT_ONCE), NULL);
    j->status[task] = s;
}

/* NVFP4's scales hang on the whole matrix. */
static float absmax_of(const job *j, float *row) {
    float most = j->item->fused_absmax;
    for (int64_t r = 0; r < j->rows; r++) {
        assay_item_read(row, j->item, r * j->cols, j->cols);
        for (int64_t c = 0; c < j->cols; c++)
            most = fmaxf(most, fabsf(row[c]));
    }
    return most;
}

static assay_status set_global(job *j, assay_err *err) {
    if (j->spec.precision != ASSAY_PRECISION_NVFP4) return ASSAY_OK;
    float *row = assay_mallocn((size_t)j->cols, sizeof *row);
    if (!row) return assay_nomem(err);
    j->spec.global_scale = assay_grid_spec_global(&j->spec, absmax_of(j, row));
    assay_free(row);
    return ASSAY_OK;
}

static assay_status run(job *j, int n_threads, assay_err *err) {
    size_t n_tasks = (size_t)(j->n_groups * j->n_chunks);
    size_t n = (j->form_rows + 2 * ROWS_AT_ONCE) * (size_t)j->group + ROWS_AT_ONCE * j->form_rows;
    assay_status s = ASSAY_OK;
    double shrink = 0;
    j->scratch = assay_calloc((size_t)n_threads, sizeof *j->scratch);
    j->shrink = assay_calloc(n_tasks, sizeof *j->shrink);
    j->status = assay_calloc(n_tasks, sizeof *j->status);
    if (!j->scratch || !j->shrink || !j->status) s = assay_nomem(err);
    for (int t = 0; s == ASSAY_OK && t < n_threads; t++)
        if (!(j->scratch[t] = assay_mallocn(n, sizeof(float)))) s = assay_nomem(err);
    if (s == ASSAY_OK) assay_parallel(n_threads, n_tasks, clip_task, j);
    for (size_t t = 0; s == ASSAY_OK && t < n_tasks; t++) {
        if (j->status[t] != ASSAY_OK) s = assay_nomem(err); /* nothing else fails there */
        shrink += j->shrink[t];
    }
    if (s == ASSAY_OK)
        assay_item_note(j->item, "\"awq_clip\": %.3f", shrink / (double)(j->rows * j->n_groups));
    for (int t = 0; j->scratch && t < n_threads; t++)
        assay_free(j->scratch[t]);
    assay_free(j->scratch);
    assay_free(j->shrink);
    assay_free(j->status);
    return s;
}

assay_status assay_awq_clip(assay_item *item, int n_threads, assay_err *err) {
    const assay_inputs *in = item->in;
    job j = {.item = item,
             .spec = assay_choice_grid(item->choice, item->model_dtype),
             .rows = item->weight->dims[0],
             .cols = item->weight->dims[1],
             .group = assay_item_group(item),
             .n_groups = assay_item_n_groups(item)};
    if (j.spec.row_block > 1 || assay_precision_get_kind(j.spec.precision) == ASSAY_KIND_CODEBOOK)
        return ASSAY_OK;
    if (!in || !(in->gram || in->sample))
        return assay_fail(err, ASSAY_EUSAGE, "tensor '%s': its inputs were not collected",
                          item->weight->name);
    j.n_chunks = (j.rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    j.gram = in->gram || (size_t)j.group < in->n_sample;
    j.form_rows = j.gram ? (size_t)j.group : in->n_sample;
    j.spec.mse = false;
    if (!item->clip && !(item->clip = assay_mallocn((size_t)(j.rows * j.n_groups), sizeof *item->clip)))
        return assay_nomem(err);
    ASSAY_TRY(set_global(&j, err));
    return run(&j, ASSAY_MAX(n_threads, 1), err);
}
