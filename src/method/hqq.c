/* hqq.c: half-quadratic quantization (Badri and Shaji 2023; precision/encode_hqq.c has the arithmetic):
 * integers with real zero points that are solved for without any data, at nearly the speed of rounding.
 * Groups of 64 columns and 4 bits are the original's defaults.
 *
 * The solver's early stop watches the whole matrix, so its iterations are passes over blocks of rows, which
 * are read from the mapped checkpoint each time rather than kept in float32; the sums of the blocks are added
 * in order of rows. Nothing depends on the number of threads. */
#include <stdio.h>
#include "base/mem.h"
#include "base/thread.h"
#include "method/methods.h"
#include "num/convert.h"
#include "precision/hqq.h"

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT4;
    if (!(set & ASSAY_OPT_GROUP_SIZE)) c->group_size = 64;
}

static const char *check(const assay_choice *c) {
    if (assay_precision_get_kind(c->precision) != ASSAY_KIND_INT || c->precision == ASSAY_PRECISION_INT7)
        return "precision must be int2, int3, int4, int5, int6 or int8";
    if (c->group_size < 0 || c->group_size > (1 << 20) || c->group_size % 8)
        return "group_size must be 'channel' or a multiple of 8 up to 1048576";
    return NULL;
}

static const char *check_shape(const assay_choice *c, int64_t rows, int64_t cols) {
    int64_t group = c->group_size ? c->group_size : cols;
    int packed = c->precision == ASSAY_PRECISION_INT4   ? 2
                 : c->precision == ASSAY_PRECISION_INT2 ? 4
                                                        : 1; /* groups in one byte's bits */
    if (cols % group) return "the group size does not divide its columns";
    if (rows * (cols / group) % packed)
        return "hqq packs 2 groups of 4 bits or 4 of 2 together, and its groups are not a multiple";
    return NULL;
}

/* What a pass does with a block. */
typedef enum phase { PHASE_START, PHASE_STEP, PHASE_FINISH } phase;

typedef struct job {
    assay_item *item;
    int64_t block_rows;
    float **scratch; /* per thread */
    double *sums;    /* per task */
    phase phase;
    assay_pulse pulse;
} job;

static void run_block(void *ctx, size_t task, int thread) {
    job *j = ctx;
    assay_matrix *m = &j->item->out;
    int64_t row = (int64_t)task * j->block_rows, n = ASSAY_MIN(j->block_rows, m->rows - row);
    float *w = j->scratch[thread];
    if (atomic_load(&j->pulse.stopped)) return;
    assay_item_read(w, j->item, row * m->cols, n * m->cols);
    switch (j->phase) {
    case PHASE_START: assay_hqq_start(m, w, row, n); break;
    case PHASE_STEP: j->sums[task] = assay_hqq_step(m, w, row, n); break;
    case PHASE_FINISH: assay_hqq_finish(m, w, row, n); break;
    }
    assay_pulse_beat(&j->pulse, 1, thread);
}

static assay_status solve(job *j, size_t n_tasks, int n_threads, assay_err *err) {
    assay_hqq_progress p = {0};
    double sum;
    assay_pulse_open(&j->pulse, j->item, n_tasks * (ASSAY_HQQ_ITERATIONS + 2));
    j->phase = PHASE_START;
    assay_parallel(n_threads, n_tasks, run_block, j);
    j->phase = PHASE_STEP;
    do {
        assay_parallel(n_threads, n_tasks, run_block, j);
        sum = 0;
        for (size_t t = 0; t < n_tasks; t++) sum += j->sums[t];
        ASSAY_TRY(assay_pulse_status(&j->pulse, err));
    } while (assay_hqq_goes_on(&p, &j->item->out, sum));
    j->phase = PHASE_FINISH;
    assay_parallel(n_threads, n_tasks, run_block, j);
    snprintf(j->item->chosen, sizeof j->item->chosen, "\"iterations\": %d", p.iteration);
    return assay_pulse_status(&j->pulse, err);
}

static assay_status encode(assay_item *item, int n_threads, assay_err *err) {
    int64_t rows = item->weight->dims[0], cols = item->weight->dims[1];
    job j = {.item = item, .block_rows = assay_block_rows(cols, 1)};
    size_t n_tasks = (size_t)((rows + j.block_rows - 1) / j.block_rows);
    assay_hqq_opts o = {.bits = assay_precision_bits(item->choice->precision),
                        .group_size = item->choice->group_size,
                        .scale_dtype = item->model_dtype};
    bool enough = true;
    assay_status s;
    item->out = (assay_matrix){0};
    ASSAY_TRY(assay_tensor_check_finite(item->weight, 0, rows, err));
    ASSAY_TRY(assay_hqq_new(&item->out, rows, cols, &o, err));
    j.scratch = assay_calloc((size_t)n_threads, sizeof *j.scratch);
    j.sums = assay_calloc(n_tasks, sizeof *j.sums);
    for (int t = 0; j.scratch && t < n_threads; t++) {
        j.scratch[t] = assay_mallocn((size_t)(ASSAY_MIN(j.block_rows, rows) * cols), sizeof(float));
        enough = enough && j.scratch[t];
    }
    s = enough && j.scratch && j.sums ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) s = solve(&j, n_tasks, n_threads, err);
    for (int t = 0; j.scratch && t < n_threads; t++) assay_free(j.scratch[t]);
    assay_free(j.scratch);
    assay_free(j.sums);
    if (s == ASSAY_OK) assay_item_set_activations(item);
    return s;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        ASSAY_TRY(encode(items[i], layer->n_threads, err));
    }
    return ASSAY_OK;
}

const assay_method assay_method_hqq = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_GROUP_SIZE,
    .real_zeros = true,
    .complete = complete,
    .check = check,
    .check_shape = check_shape,
    .quantize = quantize,
};
