/* feedback.c: see feedback.h. LDLQ of QuIP (Chee et al. 2023), which its section 4.1 shows to be GPTQ (Frantar et al. 2022): with
 * H = R R^T and F = R diag(R)^-1 - I the errors E = W - Q of the columns done so far move column i's target by E F[.,i].
 *
 * A tile of TILE_ROWS rows is one task. Its weights lie row by row in the order of rounding; as columns are done they are replaced
 * by their errors, so that the feedback of all columns done on the next block of columns is one matrix product:
 *
 *        0          begin    end         cols
 *        [ errors   | block | weights      ]      TILE_ROWS rows
 *         E F[0..begin, block]  by assay_gemm; F lies transposed, which is how kern's products want it
 *
 * Within a block, strips of STRIP rows are worked column by column ([column][row]: rounding and feedback run along rows).
 *
 * GPTQ fits a group's parameters to weights that carry the best joint correction of all columns to come, which is not yet E F: there
 * column c's share of it also assumes that the columns between are rounded without error. With u = E F[.,group] it is
 * v = u (I + F[group,group])^-1, a triangular solve (from U = R^-1: the update -D M, M = diag(U)^-1 U = (I + F)^-1). The original takes
 * weights that lag behind within a block of 128 columns when groups are smaller than that; here they never do. */
#include "method/feedback.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "linalg/linalg.h"
#include "num/convert.h"
#include "precision/encode.h"

enum { TILE_ROWS = 128, STRIP = 64, N_STRIPS = TILE_ROWS / STRIP, LANES = 16, BLOCK = 128 };

typedef struct work {
    assay_item *item;
    const assay_feedback *fb;
    assay_grid_spec spec;
    size_t rows, cols, group, n_groups;
    size_t block; /* columns per block: whole groups, or a part of one */
    size_t span;  /* columns whose feedback a block needs: its own, or its group's */
    bool fixed;   /* parameters are in item->out before rounding begins */
    bool by_position; /* groups are runs of positions, not of columns */
    assay_status *status; /* per task */
    assay_err *errs;
    double *loss;
    float *absmax;
    assay_pulse pulse;
} work;

/* A task's memory. */
typedef struct tile {
    const work *k;
    size_t row, n; /* rows [row, row + n) of the matrix */
    float *w;      /* [TILE_ROWS][cols] weights and errors, in the order of rounding */
    float *u;      /* [TILE_ROWS][span] feedback of all blocks before */
    float *scale, *zero; /* [N_STRIPS][n_groups][STRIP] */
    float *t;      /* [span][STRIP] a strip's weights plus feedback */
    float *e;      /* [block][STRIP] its errors */
    float *v;      /* [span][STRIP] its corrections when a group is fitted */
    float *line;   /* [group] a row of a group */
    uint8_t *codes; /* [block][STRIP] */
    double loss;
} tile;

static size_t column_at(const work *k, size_t position) {
    return k->fb->order ? (size_t)k->fb->order[position] : position;
}
/* The group that a position belongs to. */
static size_t group_at(const work *k, size_t position) {
    return (k->by_position ? position : column_at(k, position)) / k->group;
}
static int64_t index_of(const work *k, size_t row, size_t position) {
    return assay_matrix_scale_index(&k->item->out, (int64_t)row, (int64_t)column_at(k, position));
}

/* --- parameters --- */

/* Parameters for n weights, within the clipping of that row and group. w may be changed. */
static void fit_line(assay_grid *g, const work *k, float *w, size_t n, size_t row, size_t group) {
    if (k->item->clip) {
        float most = k->item->clip[row * k->n_groups + group];
        for (size_t i = 0; i < n; i++) w[i] = w[i] > most ? most : w[i] < -most ? -most : w[i];
    }
    assay_grid_fit(g, &k->spec, w, n, NULL);
}

static assay_status read_rows(float *w, const work *k, size_t row, size_t n, assay_err *err) {
    assay_item_read(w, k->item, (int64_t)(row * k->cols), (int64_t)(n * k->cols));
    int64_t at = assay_find_nonfinite(w, ASSAY_DTYPE_F32, n * k->cols);
    if (at < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "tensor '%s': NaN or infinity at row %lld, column %lld: the checkpoint is damaged",
                      k->item->weight->name, (long long)row + at / (int64_t)k->cols, (long long)at % (int64_t)k->cols);
}

/* Rows that a task of the two passes before rounding takes. */
static size_t band_rows(const work *k) {
    return k->spec.row_block > 1 ? ASSAY_MIN((size_t)k->spec.row_block, k->rows) : TILE_ROWS;
}

static void fit_band(void *ctx, size_t task, int thread) {
    work *k = ctx;
    size_t row = task * band_rows(k), n = ASSAY_MIN(band_rows(k), k->rows - row);
    assay_err *err = &k->errs[task];
    if (!assay_pulse_beat(&k->pulse, 0, thread)) return;
    float *w = assay_mallocn(n * k->cols, sizeof *w);
    assay_status s = w ? read_rows(w, k, row, n, err) : assay_nomem(err);
    for (size_t c = 0; c < k->cols && s == ASSAY_OK; c += k->group) {
        size_t m = ASSAY_MIN(k->group, k->cols - c);
        for (size_t r = 0; r < (k->spec.row_block > 1 ? 1 : n); r++) {
            assay_grid g;
            if (k->spec.row_block > 1)
                assay_grid_fit_rows(&g, &k->spec, w + c, (int64_t)n, (int64_t)k->cols, m);
            else
                fit_line(&g, k, w + r * k->cols + c, m, row + r, c / k->group);
            assay_matrix_set_grid(&k->item->out, assay_matrix_scale_index(&k->item->out, (int64_t)(row + r), (int64_t)c), &g);
        }
    }
    assay_free(w);
    k->status[task] = s;
}

static void measure_band(void *ctx, size_t task, int thread) {
    work *k = ctx;
    size_t row = task * band_rows(k), n = ASSAY_MIN(band_rows(k), k->rows - row);
    float *w = assay_mallocn(n * k->cols, sizeof *w);
    assay_status s = w ? read_rows(w, k, row, n, &k->errs[task]) : assay_nomem(&k->errs[task]);
    (void)thread;
    if (s == ASSAY_OK) k->absmax[task] = assay_absmax(w, n * k->cols);
    assay_free(w);
    k->status[task] = s;
}

/* The parameters that stand before rounding begins, by group and row of the tile. */
static void load_fixed(tile *t) {
    const work *k = t->k;
    const assay_matrix *m = &k->item->out;
    float middle = (float)(1 << (assay_precision_bits(k->spec.precision) - 1));
    for (size_t r = 0; r < t->n; r++)
        for (size_t g = 0; g < k->n_groups; g++) {
            int64_t i = assay_matrix_scale_index(m, (int64_t)(t->row + r), (int64_t)(g * k->group));
            size_t at = (r / STRIP * k->n_groups + g) * STRIP + r % STRIP;
            t->scale[at] = m->global_scale != 0 ? m->scales[i] / m->global_scale : m->scales[i];
            t->zero[at] = m->zeros ? (float)m->zeros[i] : middle;
        }
}

/* --- a strip of rows through a block of columns, all [column][row] --- */

/* y[STRIP] += sign * sum_j f[j] x[j][STRIP] */
static void add_feedback(float *restrict y, float sign, const float *restrict f, const float *restrict x, size_t n) {
    for (size_t l = 0; l < STRIP; l += LANES) {
        float a[LANES] = {0};
        for (size_t j = 0; j < n; j++)
            for (size_t i = 0; i < LANES; i++) a[i] += f[j] * x[j * STRIP + l + i];
        for (size_t i = 0; i < LANES; i++) y[l + i] += sign * a[i];
    }
}

/* Fits the group that begins at position `begin + at` to the weights as the errors so far would have them. */
static void fit_group(tile *t, size_t strip, size_t begin, size_t at) {
    const work *k = t->k;
    const float *f = k->fb->f;
    size_t first = begin + at, n = ASSAY_MIN(k->group, k->cols - first), group = group_at(k, first);
    size_t n_rows = ASSAY_MIN((size_t)STRIP, t->n - strip * STRIP);
    for (size_t c = 0; c < n && f && first > 0; c++) {
        float *v = t->v + c * STRIP;
        const float *row = f + (first + c) * k->cols;
        for (size_t r = 0; r < STRIP; r++) v[r] = begin > 0 && r < n_rows ? t->u[(strip * STRIP + r) * k->span + at + c] : 0;
        add_feedback(v, 1, row + begin, t->e, at);
        add_feedback(v, -1, row + first, t->v, c);
    }
    for (size_t r = 0; r < n_rows; r++) {
        const float *w = t->w + (strip * STRIP + r) * k->cols + first;
        assay_grid g;
        for (size_t c = 0; c < n; c++) t->line[c] = w[c] + (f && first > 0 ? t->v[c * STRIP + r] : 0);
        fit_line(&g, k, t->line, n, t->row + strip * STRIP + r, group);
        assay_matrix_set_grid(&k->item->out, index_of(k, t->row + strip * STRIP + r, first), &g);
        size_t place = (strip * k->n_groups + group) * STRIP + r;
        t->scale[place] = g.scale;
        t->zero[place] = g.zero;
    }
}

static void round_column(tile *t, size_t strip, size_t begin, size_t at) {
    const work *k = t->k;
    float *target = t->t + at * STRIP, *error = t->e + at * STRIP, value[STRIP];
    size_t place = (strip * k->n_groups + group_at(k, begin + at)) * STRIP, n_rows = ASSAY_MIN((size_t)STRIP, t->n - strip * STRIP);
    if (k->fb->f) add_feedback(target, 1, k->fb->f + (begin + at) * k->cols + begin, t->e, at);
    assay_grid_round_each(t->codes + at * STRIP, value, &k->spec, t->scale + place, t->zero + place, target, STRIP);
    double sum = 0;
    for (size_t r = 0; r < n_rows; r++) {
        double d = (double)(target[r] - value[r]);
        sum += d * d;
        error[r] = t->w[(strip * STRIP + r) * k->cols + begin + at] - value[r];
    }
    for (size_t r = n_rows; r < STRIP; r++) error[r] = 0;
    if (k->fb->weight) sum *= k->fb->weight[begin + at];
    t->loss += sum;
}

static void round_strip(tile *t, size_t strip, size_t begin, size_t n) {
    const work *k = t->k;
    size_t first = strip * STRIP, n_rows = ASSAY_MIN((size_t)STRIP, t->n - first);
    for (size_t c = 0; c < n; c++)
        for (size_t r = 0; r < STRIP; r++)
            t->t[c * STRIP + r] = r >= n_rows ? 0
                                  : t->w[(first + r) * k->cols + begin + c] +
                                        (k->fb->f && begin > 0 ? t->u[(first + r) * k->span + c] : 0);
    for (size_t c = 0; c < n; c++) {
        if (!k->fixed && (begin + c) % k->group == 0) fit_group(t, strip, begin, c);
        round_column(t, strip, begin, c);
    }
    for (size_t r = 0; r < n_rows; r++) {
        uint8_t *codes = k->item->out.codes + (t->row + first + r) * k->cols;
        for (size_t c = 0; c < n; c++) {
            t->w[(first + r) * k->cols + begin + c] = t->e[c * STRIP + r];
            codes[column_at(k, begin + c)] = t->codes[c * STRIP + r];
        }
    }
}

/* --- a tile of rows --- */

static bool tile_alloc(tile *t) {
    const work *k = t->k;
    size_t n = ASSAY_MIN((size_t)TILE_ROWS, k->rows);
    t->w = assay_malloc_aligned(n * k->cols * sizeof(float));
    t->u = assay_mallocn(n * k->span, sizeof(float));
    t->scale = assay_calloc(2 * N_STRIPS * k->n_groups * STRIP, sizeof(float));
    t->zero = t->scale ? t->scale + N_STRIPS * k->n_groups * STRIP : NULL;
    for (size_t i = 0; t->scale && i < N_STRIPS * k->n_groups * STRIP; i++) t->scale[i] = 1; /* rows past the last are rounded too */
    t->t = assay_mallocn(k->block * STRIP, sizeof(float));
    t->e = assay_mallocn(k->block * STRIP, sizeof(float));
    t->v = assay_mallocn(k->fixed ? 1 : k->group * STRIP, sizeof(float));
    t->line = assay_mallocn(k->group, sizeof(float));
    t->codes = assay_malloc(k->block * STRIP);
    return t->w && t->u && t->scale && t->t && t->e && t->v && t->line && t->codes;
}
static void tile_free(tile *t) {
    assay_free_aligned(t->w);
    assay_free(t->u);
    assay_free(t->scale);
    assay_free(t->t);
    assay_free(t->e);
    assay_free(t->v);
    assay_free(t->line);
    assay_free(t->codes);
}

static assay_status read_tile(tile *t, assay_err *err) {
    const work *k = t->k;
    ASSAY_TRY(read_rows(t->w, k, t->row, t->n, err));
    if (!k->fb->order) return ASSAY_OK;
    float *line = assay_mallocn(k->cols, sizeof *line);
    if (!line) return assay_nomem(err);
    for (size_t r = 0; r < t->n; r++) {
        float *w = t->w + r * k->cols;
        memcpy(line, w, k->cols * sizeof *w);
        for (size_t i = 0; i < k->cols; i++) w[i] = line[k->fb->order[i]];
    }
    assay_free(line);
    return ASSAY_OK;
}

static void round_tile(void *ctx, size_t task, int thread) {
    work *k = ctx;
    tile t = {.k = k, .row = task * TILE_ROWS, .n = ASSAY_MIN((size_t)TILE_ROWS, k->rows - task * TILE_ROWS)};
    assay_err *err = &k->errs[task];
    assay_status s = ASSAY_OK;
    if (!tile_alloc(&t)) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(read_tile(&t, err));
    if (k->fixed) load_fixed(&t);
    for (size_t begin = 0, n = 0; begin < k->cols; begin += n) {
        if (!assay_pulse_beat(&k->pulse, n, thread)) goto out; /* run_pass says so */
        /* a block ends where a group does, or within a long one */
        size_t left = k->group > k->block ? k->group - begin % k->group : k->block;
        n = ASSAY_MIN(ASSAY_MIN(k->block, left), k->cols - begin);
        size_t width = ASSAY_MIN(k->span > k->block && begin % k->group == 0 ? k->span : n, k->cols - begin);
        if (k->fb->f && begin > 0)
            ASSAY_GO(assay_gemm(t.u, k->span, t.w, k->cols, false, k->fb->f + begin * k->cols, k->cols, true, t.n, width, begin, false, 1,
                                err));
        for (size_t strip = 0; strip * STRIP < t.n; strip++) round_strip(&t, strip, begin, n);
    }
    k->loss[task] = t.loss;
out:
    tile_free(&t);
    k->status[task] = s;
}

/* --- the matrix --- */

/* Runs a pass and reports the first failure in order of tasks, whichever thread met one first. */
static assay_status run_pass(work *k, assay_task_fn fn, size_t n_tasks, int n_threads, assay_err *err) {
    memset(k->status, 0, n_tasks * sizeof *k->status);
    assay_parallel(n_threads, n_tasks, fn, k);
    ASSAY_TRY(assay_pulse_status(&k->pulse, err));
    for (size_t i = 0; i < n_tasks; i++)
        if (k->status[i] != ASSAY_OK) return assay_fail(err, k->status[i], "%s", k->errs[i].message);
    return ASSAY_OK;
}

static assay_status set_groups(work *k, assay_err *err) {
    if (!k->by_position) return ASSAY_OK;
    int32_t *g_idx = assay_mallocn(k->cols, sizeof *g_idx);
    if (!g_idx) return assay_nomem(err);
    for (size_t i = 0; i < k->cols; i++) g_idx[column_at(k, i)] = (int32_t)(i / k->group);
    k->item->out.g_idx = g_idx;
    return ASSAY_OK;
}

static assay_status prepare(work *k, int n_threads, assay_err *err) {
    size_t n_bands = (k->rows + band_rows(k) - 1) / band_rows(k);
    if (k->spec.precision == ASSAY_PRECISION_NVFP4) {
        float absmax = k->item->fused_absmax;
        ASSAY_TRY(run_pass(k, measure_band, n_bands, n_threads, err));
        for (size_t i = 0; i < n_bands; i++) absmax = fmaxf(absmax, k->absmax[i]);
        k->spec.global_scale = assay_grid_spec_global(&k->spec, absmax);
    }
    ASSAY_TRY(assay_grid_matrix_new(&k->item->out, &k->spec, (int64_t)k->rows, (int64_t)k->cols, err));
    ASSAY_TRY(set_groups(k, err));
    if (!k->fixed) return ASSAY_OK;
    ASSAY_TRY(run_pass(k, fit_band, n_bands, n_threads, err));
    return k->item->choice->double_quant ? assay_matrix_nest(&k->item->out, err) : ASSAY_OK;
}

assay_status assay_feedback_round(assay_item *item, const assay_feedback *f, double *loss, int n_threads, assay_err *err) {
    const assay_choice *c = item->choice;
    work k = {.item = item, .fb = f, .spec = assay_choice_grid(c, item->model_dtype)};
    k.rows = (size_t)item->weight->dims[0];
    k.cols = (size_t)item->weight->dims[1];
    k.group = k.spec.group_size > 0 ? ASSAY_MIN((size_t)k.spec.group_size, k.cols) : k.cols;
    k.n_groups = (k.cols + k.group - 1) / k.group;
    k.by_position = f->order && c->act_order == ASSAY_ACT_ORDER_GROUP && k.n_groups > 1;
    k.fixed = k.n_groups == 1 || k.spec.row_block > 1 || c->double_quant || (f->order && !f->contiguous && !k.by_position);
    k.block = k.fixed || k.group >= BLOCK ? BLOCK : BLOCK / k.group * k.group;
    k.block = ASSAY_MIN(k.block, k.cols);
    k.span = k.fixed ? k.block : ASSAY_MAX(k.block, k.group);
    size_t n_tasks = (k.rows + TILE_ROWS - 1) / TILE_ROWS, most = k.rows; /* of any pass */
    assay_status s;
    if (k.spec.row_block <= 1 || (size_t)k.spec.row_block >= TILE_ROWS) most = n_tasks;
    k.status = assay_calloc(most, sizeof *k.status);
    k.errs = assay_calloc(most, sizeof *k.errs);
    k.loss = assay_calloc(most, sizeof *k.loss);
    k.absmax = assay_calloc(most, sizeof *k.absmax);
    if (!k.status || !k.errs || !k.loss || !k.absmax) {
        s = assay_nomem(err);
        goto out;
    }
    assay_pulse_open(&k.pulse, item, n_tasks * k.cols);
    ASSAY_GO(prepare(&k, n_threads, err));
    ASSAY_GO(run_pass(&k, round_tile, n_tasks, n_threads, err));
    *loss = 0;
    for (size_t i = 0; i < n_tasks; i++) *loss += k.loss[i];
    assay_item_set_activations(item);
out:
    assay_free(k.status);
    assay_free(k.errs);
    assay_free(k.loss);
    assay_free(k.absmax);
    return s;
}
