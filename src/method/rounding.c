/* rounding.c: see rounding.h. Cheng et al. 2023 (SignRound), section 3; the gradients are those of auto-round 0.15.1's quantizers
 * (data_type/int.py, mxfp.py, nvfp.py) with rounding taken as the identity:
 *
 *   value = s q,  q = round(w / s + v step)      d value / d v = s step            0 where q is at an end and was cut off
 *                                                d value / d s = q - w / s         q where it was cut off
 *   with a zero point, cut off                   d value / d s = q - lo / s,  d value / d lo = 1
 *
 * Only signs are used, so positive factors are left out. Rows are shared out among threads; a row's arithmetic is its own. */
#include "method/rounding.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"

enum { MAX_TABLE = 16 };
#define MARGIN 0.05f /* of the half gap that a start keeps from the next code */

/* The values that codes stand for, ascending, and what follows from them. */
typedef struct ladder {
    float t[MAX_TABLE];
    float gap[MAX_TABLE]; /* gap[i] lies above t[i] */
    int n;                /* 0: integers, a gap is 1 everywhere */
    float least, most;    /* of a value in units of the scale before it is cut off */
} ladder;

static ladder ladder_of(const assay_grid_spec *s) {
    ladder l = {0};
    const float *table = assay_precision_table(s->precision);
    if (assay_precision_get_kind(s->precision) == ASSAY_KIND_INT) {
        l.least = -0.5f; /* of the unsigned code */
        l.most = (float)(1 << assay_precision_bits(s->precision)) - 0.5f;
        return l;
    }
    for (int i = 0; i < MAX_TABLE; i++) { /* insertion; the two zeros are one */
        int at = l.n;
        while (at > 0 && l.t[at - 1] > table[i]) at--;
        if (at > 0 && l.t[at - 1] == table[i]) continue;
        memmove(l.t + at + 1, l.t + at, (size_t)(l.n - at) * sizeof *l.t);
        l.t[at] = table[i];
        l.n++;
    }
    for (int i = 0; i + 1 < l.n; i++) l.gap[i] = l.t[i + 1] - l.t[i];
    l.least = l.t[0];
    l.most = l.t[l.n - 1];
    return l;
}

/* Distance of the grid's values around x. */
static float gap_at(const ladder *l, float x) {
    float gap = l->n ? l->gap[0] : 1;
    for (int i = 1; i + 1 < l->n; i++) gap = x > l->t[i] ? l->gap[i] : gap;
    return gap;
}

/* --- memory --- */

static size_t n_scales(const assay_rounding *r) {
    return (size_t)(r->rows * r->n_groups);
}
static size_t n_values(const assay_rounding *r) {
    return (size_t)(r->rows * r->cols);
}

void assay_rounding_close(assay_rounding *r) {
    void *all[] = {r->value, r->grad, r->v, r->lo, r->hi, r->low, r->high, r->grid, r->best_grid, r->codes, r->best_codes, r->scratch,
                   r->base,  r->start_grid};
    for (size_t i = 0; i < ASSAY_LEN(all); i++) assay_free(all[i]);
    *r = (assay_rounding){0};
}

static assay_status allocate(assay_rounding *r, bool learn, assay_err *err) {
    size_t values = n_values(r), scales = n_scales(r);
    bool ok = (r->value = assay_mallocn(values, sizeof *r->value)) && (r->codes = assay_malloc(values)) &&
              (r->grid = assay_mallocn(scales, sizeof *r->grid)) &&
              (r->scratch = assay_mallocn((size_t)r->n_threads * 2 * (size_t)r->cols, sizeof *r->scratch));
    if (ok && learn)
        ok = (r->grad = assay_calloc(values, sizeof *r->grad)) && (r->v = assay_calloc(values, sizeof *r->v)) &&
             (r->best_codes = assay_malloc(values)) && (r->best_grid = assay_mallocn(scales, sizeof *r->best_grid)) &&
             (r->lo = assay_mallocn(scales, sizeof *r->lo)) && (r->hi = assay_mallocn(scales, sizeof *r->hi)) &&
             (r->low = assay_mallocn(scales, sizeof *r->low)) && (r->high = assay_mallocn(scales, sizeof *r->high));
    return ok ? ASSAY_OK : assay_nomem(err);
}

/* --- rows --- */

typedef struct job {
    assay_rounding *r;
    const ladder *ladder;
    float lr; /* 0: apply only */
} job;

static int64_t group_size(const assay_rounding *r, int64_t g) {
    return ASSAY_MIN(r->group, r->cols - g * r->group);
}

/* The thread's copy of a row of the weight. */
static float *read_row(const assay_rounding *r, int64_t row, int thread) {
    float *w = r->scratch + (size_t)thread * 2 * (size_t)r->cols;
    assay_item_read(w, r->item, row * r->cols, r->cols);
    return w;
}

/* What is learned from: the start's, or the weight. */
static const float *learned_row(const assay_rounding *r, int64_t row, int thread) {
    return r->base ? r->base + row * r->cols : read_row(r, row, thread);
}

static float round_scale(float s, assay_dtype t) {
    if (t == ASSAY_DTYPE_BF16) return assay_bf16_to_f32(assay_f32_to_bf16(s));
    if (t == ASSAY_DTYPE_F16) return assay_f16_to_f32(assay_f32_to_f16(s));
    return s;
}

static bool is_signed(const assay_rounding *r) {
    return assay_precision_get_kind(r->spec.precision) == ASSAY_KIND_INT && !r->spec.asymmetric;
}

static void group_grid(assay_grid *g, const assay_rounding *r, size_t at) {
    float lo = r->lo[at] * r->low[at], hi = r->hi[at] * r->high[at];
    if (r->start_grid && r->low[at] == 1 && r->high[at] == 1) {
        *g = r->start_grid[at];
        return;
    }
    assay_grid_from_range(g, &r->spec, lo, hi);
    if (!is_signed(r)) return;
    float middle = (float)(1 << (assay_precision_bits(r->spec.precision) - 1));
    float scale = round_scale((-lo > hi ? -lo : -hi) / middle, r->spec.scale_dtype);
    if (scale != 0) g->scale = g->stored = scale; /* else the grid of a group of zeros stays */
}

static void round_row(const assay_rounding *r, const ladder *l, int64_t row, const float *w, float *moved) {
    for (int64_t g = 0; g < r->n_groups; g++) {
        size_t at = (size_t)(row * r->n_groups + g), n = (size_t)group_size(r, g);
        int64_t first = g * r->group;
        const float *v = r->v + row * r->cols + first, *x = w + first;
        group_grid(&r->grid[at], r, at);
        float s = r->grid[at].scale, unit = fabsf(s), inverse = 1.0f / s;
        for (size_t i = 0; i < n; i++) moved[i] = x[i] + v[i] * unit * (l->n ? gap_at(l, x[i] * inverse) : 1.0f);
        assay_grid_round(r->codes + row * r->cols + first, r->value + row * r->cols + first, &r->spec, &r->grid[at], moved, n);
    }
}

static float sign(float x) {
    return (float)((x > 0) - (x < 0));
}

static float clampf(float x, float lo, float hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* Moves the range factors of a group: by_scale and by_low are the gradients of the scale and of the low end alone. */
static void move_range(const assay_rounding *r, size_t at, float by_scale, float by_low, float lr) {
    float lo = r->lo[at], hi = r->hi[at], d_low = 0, d_high = 0;
    if (r->spec.asymmetric) {
        d_low = by_scale * -lo + by_low * lo * (float)((1 << assay_precision_bits(r->spec.precision)) - 1);
        d_high = by_scale * hi;
    } else if (is_signed(r)) { /* the scale is -lo or -hi, whichever is larger in magnitude */
        if (-lo * r->low[at] > hi * r->high[at])
            d_low = by_scale * -lo;
        else
            d_high = by_scale * -hi;
    } else if (-lo * r->low[at] > hi * r->high[at]) {
        d_low = by_scale * -lo;
    } else {
        d_high = by_scale * hi;
    }
    r->low[at] = clampf(r->low[at] - lr * sign(d_low), 0, 1);
    r->high[at] = clampf(r->high[at] - lr * sign(d_high), 0, 1);
}

static void step_row(const assay_rounding *r, const ladder *l, int64_t row, const float *w, float lr) {
    for (int64_t g = 0; g < r->n_groups; g++) {
        size_t at = (size_t)(row * r->n_groups + g), n = (size_t)group_size(r, g), first = (size_t)(row * r->cols + g * r->group);
        const float *x = w + g * r->group, *grad = r->grad + first, *value = r->value + first;
        const assay_grid *grid = &r->grid[at];
        float *v = r->v + first, s = grid->scale, inverse = 1.0f / s, turn = s < 0 ? -1.0f : 1.0f, by_scale = 0, by_low = 0;
        float cut_end = r->spec.asymmetric ? r->lo[at] * r->low[at] * inverse : 0;
        for (size_t i = 0; i < n; i++) {
            float u = x[i] * inverse, q = value[i] * inverse;
            float t = u + turn * v[i] * (l->n ? gap_at(l, u) : 1.0f) + grid->zero;
            bool cut = t < l->least || t > l->most;
            by_scale += grad[i] * (q - (cut ? cut_end : u));
            by_low += cut && r->spec.asymmetric ? grad[i] : 0;
            v[i] = clampf(v[i] - (cut ? 0 : lr * sign(grad[i])), -0.5f, 0.5f);
        }
        move_range(r, at, by_scale, by_low, lr);
    }
}

static void rows_task(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    for (size_t row = begin; row < end; row++) {
        const float *w = learned_row(j->r, (int64_t)row, thread);
        float *moved = j->r->scratch + ((size_t)thread * 2 + 1) * (size_t)j->r->cols;
        if (j->lr > 0) step_row(j->r, j->ladder, (int64_t)row, w, j->lr);
        round_row(j->r, j->ladder, (int64_t)row, w, moved);
    }
}

static void run_rows(assay_rounding *r, assay_range_fn fn, float lr) {
    ladder l = ladder_of(&r->spec);
    job j = {.r = r, .ladder = &l, .lr = lr};
    assay_parallel_range(r->n_threads, (size_t)r->rows, (size_t)assay_block_rows(r->cols, 1), fn, &j);
}

void assay_rounding_apply(assay_rounding *r) {
    run_rows(r, rows_task, 0);
}
void assay_rounding_step(assay_rounding *r, float lr) {
    run_rows(r, rows_task, lr);
}

static void nearest_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    const assay_rounding *r = j->r;
    for (int64_t row = (int64_t)begin; row < (int64_t)end; row++) {
        const float *w = read_row(r, row, thread);
        for (int64_t g = 0; g < r->n_groups; g++) {
            assay_grid *grid = &r->grid[row * r->n_groups + g];
            int64_t first = row * r->cols + g * r->group;
            size_t n = (size_t)group_size(r, g);
            assay_grid_fit(grid, &r->spec, w + g * r->group, n, NULL);
            assay_grid_round(r->codes + first, r->value + first, &r->spec, grid, w + g * r->group, n);
        }
    }
}

static void decode_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    const assay_rounding *r = j->r;
    const float *table = assay_precision_table(r->spec.precision);
    (void)thread;
    for (int64_t row = (int64_t)begin; row < (int64_t)end; row++)
        for (int64_t c = 0; c < r->cols; c++) {
            const assay_grid *g = &r->grid[row * r->n_groups + c / r->group];
            uint8_t code = r->codes[row * r->cols + c];
            r->value[row * r->cols + c] = table ? table[code] * g->scale : ((float)code - g->zero) * g->scale;
        }
}

void assay_rounding_keep(assay_rounding *r) {
    memcpy(r->best_codes, r->codes, n_values(r));
    memcpy(r->best_grid, r->grid, n_scales(r) * sizeof *r->grid);
}

void assay_rounding_swap(assay_rounding *r) {
    uint8_t *codes = r->codes;
    assay_grid *grid = r->grid;
    r->codes = r->best_codes;
    r->grid = r->best_grid;
    r->best_codes = codes;
    r->best_grid = grid;
    run_rows(r, decode_rows, 0);
}

/* --- opening and finishing --- */

/* Extremes per group, within item->clip; the largest magnitude of the matrix. */
static assay_status measure(assay_rounding *r, float *absmax, assay_err *err) {
    *absmax = 0;
    for (int64_t row = 0; row < r->rows; row++) {
        const float *w = read_row(r, row, 0);
        for (int64_t c = 0; c < r->cols; c++) {
            size_t at = (size_t)(row * r->n_groups + c / r->group);
            bool first = c % r->group == 0;
            if (!isfinite(w[c]))
                return assay_fail(err, ASSAY_EINPUT,
                                  "tensor '%s': NaN or infinity at row %lld, column %lld: the checkpoint is damaged",
                                  r->item->weight->name, (long long)row, (long long)c);
            *absmax = fmaxf(*absmax, fabsf(w[c]));
            if (!r->lo) continue;
            r->lo[at] = fminf(first ? 0 : r->lo[at], w[c]);
            r->hi[at] = fmaxf(first ? 0 : r->hi[at], w[c]);
        }
    }
    for (size_t i = 0; r->lo && i < n_scales(r); i++) {
        if (r->item->clip) {
            r->lo[i] = fmaxf(r->lo[i], -r->item->clip[i]);
            r->hi[i] = fminf(r->hi[i], r->item->clip[i]);
        }
        r->low[i] = r->high[i] = 1;
    }
    return ASSAY_OK;
}

assay_status assay_rounding_open(assay_rounding *r, assay_item *item, bool learn, int n_threads, assay_err *err) {
    float absmax;
    *r = (assay_rounding){.item = item, .spec = assay_choice_grid(item->choice, item->model_dtype), .n_threads = n_threads};
    r->rows = item->weight->dims[0];
    r->cols = item->weight->dims[1];
    r->group = r->spec.group_size > 0 ? r->spec.group_size : r->cols;
    r->n_groups = (r->cols + r->group - 1) / r->group;
    ASSAY_TRY(allocate(r, learn, err));
    ASSAY_TRY(measure(r, &absmax, err));
    r->spec.global_scale = assay_grid_spec_global(&r->spec, ASSAY_MAX(absmax, item->fused_absmax));
    run_rows(r, nearest_rows, 0);
    return ASSAY_OK;
}

/* --- another start --- */

/* Half the distance to the value below and above a code's, in units of the scale; beyond the last one there is none. */
static void half_gaps(float *below, float *above, const assay_rounding *r, const ladder *l, uint8_t code) {
    float most = (float)(1 << assay_precision_bits(r->spec.precision)) - 1;
    float value = l->n ? assay_precision_table(r->spec.precision)[code] : 0;
    *below = code == 0 ? INFINITY : 0.5f;
    *above = (float)code == most ? INFINITY : 0.5f;
    for (int i = 0; i < l->n; i++) {
        if (l->t[i] != value) continue;
        *below = i == 0 ? INFINITY : l->gap[i - 1] / 2;
        *above = i == l->n - 1 ? INFINITY : l->gap[i] / 2;
    }
}

static void start_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    const assay_rounding *r = j->r;
    for (int64_t row = (int64_t)begin; row < (int64_t)end; row++) {
        const float *w = read_row(r, row, thread);
        for (int64_t c = 0; c < r->cols; c++) {
            size_t at = (size_t)(row * r->cols + c);
            float s = r->start_grid[row * r->n_groups + c / r->group].scale, below, above;
            half_gaps(&below, &above, r, j->ladder, r->codes[at]);
            r->base[at] = clampf(w[c], r->value[at] - (1 - MARGIN) * below * s, r->value[at] + (1 - MARGIN) * above * s);
        }
    }
}

/* The range that a grid spans. */
static void span_grid(assay_rounding *r, size_t at) {
    const assay_grid *g = &r->grid[at];
    const float *table = assay_precision_table(r->spec.precision);
    float codes = (float)(1 << assay_precision_bits(r->spec.precision)), most = 0;
    for (int i = 0; table && i < MAX_TABLE; i++) most = fmaxf(most, table[i]);
    r->lo[at] = table ? -most * g->scale : -g->zero * g->scale;
    r->hi[at] = table ? most * g->scale : r->spec.asymmetric ? (codes - 1 - g->zero) * g->scale : 0;
    r->low[at] = r->high[at] = 1;
}

assay_status assay_rounding_start_at(assay_rounding *r, const assay_matrix *m, assay_err *err) {
    memcpy(r->codes, m->codes, n_values(r));
    for (size_t at = 0; at < n_scales(r); at++) {
        int64_t i = assay_matrix_scale_index(m, (int64_t)at / r->n_groups, (int64_t)at % r->n_groups * r->group);
        assay_grid *g = &r->grid[at];
        *g = (assay_grid){.stored = m->scales[i], .scale = m->global_scale != 0 ? m->scales[i] / m->global_scale : m->scales[i]};
        if (assay_precision_get_kind(r->spec.precision) == ASSAY_KIND_INT)
            g->zero = m->zeros ? (float)m->zeros[i] : (float)(1 << (assay_precision_bits(r->spec.precision) - 1));
        if (r->lo) span_grid(r, at);
    }
    if (!r->lo) return ASSAY_OK; /* nothing is to be learned */
    r->base = assay_mallocn(n_values(r), sizeof *r->base);
    r->start_grid = assay_mallocn(n_scales(r), sizeof *r->start_grid);
    if (!r->base || !r->start_grid) return assay_nomem(err);
    memcpy(r->start_grid, r->grid, n_scales(r) * sizeof *r->grid);
    run_rows(r, decode_rows, 0);
    run_rows(r, start_rows, 0);
    return ASSAY_OK;
}

assay_status assay_rounding_finish(assay_rounding *r, assay_err *err) {
    assay_item *item = r->item;
    ASSAY_TRY(assay_grid_matrix_new(&item->out, &r->spec, r->rows, r->cols, err));
    memcpy(item->out.codes, r->codes, n_values(r));
    for (int64_t row = 0; row < r->rows; row++)
        for (int64_t g = 0; g < r->n_groups; g++)
            assay_matrix_set_grid(&item->out, assay_matrix_scale_index(&item->out, row, g * r->group), &r->grid[row * r->n_groups + g]);
    assay_item_set_activations(item);
    return ASSAY_OK;
}
