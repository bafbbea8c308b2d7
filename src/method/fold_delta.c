/* fold_delta.c: what a scaling loses behind o, down, and gate with up, from the change of the weights alone:
 *
 *   E = Q(W s) / s - W               of some rows, row by row, nothing encoded
 *   o, down     |X E^T|^2            with their inputs X as they are
 *   gate, up    |(p' - p) Wd^T|^2    p = f(X Wg^T) (X Wu^T), p' the same with X E^T added to both products
 *
 * The products X W^T are made once, and since E is small beside W, rounding it to bf16 for X E^T changes the
 * result by less than a thousandth whatever the precision: the error would be lost in the rounding if the
 * whole product were made that way.
 *
 * Rows of a matrix are rounded independently of each other, so a sum over rows is known from some of them,
 * spread evenly: of 1,024 or more, with hundreds of tokens each, to a fraction of what two ratios beside each
 * other differ by, and scalings are compared on the same ones. Gate and up take the same rows, and the rows
 * taken are the columns of down that count.
 *
 * Only for activations in 16 bits and scales that lie within rows (assay_fold_delta_can); everything else goes
 * through the forward pass (fold_trial.c). */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "kern/kern.h"
#include "linalg/linalg.h"
#include "method/fold.h"

/* Rows tried: of o and down; of gate and up; of down behind these. */
enum { ROWS = 1024, NEURONS = 2048, NEXT_ROWS = 1024 };

typedef struct part {
    const assay_item *item;
    assay_grid_spec spec;
    size_t group;
    float *w;    /* [n_rows][cols] */
    float *most; /* NVFP4: [cols] largest magnitudes */
    float *y;    /* [n][n_rows] X E^T */
    float *base; /* gate, up: [n][n_rows] X W^T + bias */
} part;

struct assay_fold_delta {
    const assay_fold *fold;
    assay_kern kern;
    const float *x; /* [n][cols] */
    size_t n, cols, n_rows, n_next, n_parts;
    int n_threads;
    part parts[2];
    float *e;              /* [n_rows][cols] */
    float *inverse;        /* [cols] 1 / s */
    float *scratch;        /* [n_threads][2][cols] */
    float *p;              /* gate, up: [n][n_rows] */
    float *next, *out;     /* gate, up: [n_next][n_rows] of down; [n][n_next] */
    const part *now;       /* what round_rows works on */
    const float *scale;    /* [cols] */
};

bool assay_fold_delta_can(const assay_fold *f) {
    if (f->input == ASSAY_ROLE_Q || (f->input == ASSAY_ROLE_GATE && f->layer->config->down_hadamard)) return false;
    for (size_t i = 0; i < f->n_into; i++) {
        assay_grid_spec s = assay_choice_grid(f->into[i]->choice, f->into[i]->model_dtype);
        assay_precision_kind kind = assay_precision_get_kind(s.precision);
        if (f->into[i]->choice->activations != ASSAY_ACTIVATIONS_16BIT || s.row_block > 1) return false;
        if (kind != ASSAY_KIND_INT && kind != ASSAY_KIND_FLOAT) return false;
    }
    return f->before ? f->n_into == 1 : f->n_into == 2 && assay_layer_item(f->layer, ASSAY_ROLE_DOWN);
}

/* Row of a matrix of `all` that is the i-th of n tried. */
static int64_t tried(size_t i, size_t n, int64_t all) {
    return (int64_t)i * all / (int64_t)n;
}

static assay_status open_part(part *p, const assay_fold_delta *d, const assay_item *item, assay_err *err) {
    int64_t rows = item->weight->dims[0];
    p->item = item;
    p->spec = assay_choice_grid(item->choice, item->model_dtype);
    p->group = (size_t)assay_item_group(item);
    p->w = assay_mallocn(d->n_rows * d->cols, sizeof *p->w);
    p->y = assay_mallocn(d->n * d->n_rows, sizeof *p->y);
    p->most = assay_calloc(d->cols, sizeof *p->most);
    if (!p->w || !p->y || !p->most) return assay_nomem(err);
    for (size_t i = 0; i < d->n_rows; i++) {
        float *w = p->w + i * d->cols;
        assay_item_read(w, item, tried(i, d->n_rows, rows) * (int64_t)d->cols, (int64_t)d->cols);
        for (size_t c = 0; c < d->cols; c++)
            p->most[c] = fmaxf(p->most[c], fabsf(w[c]));
    }
    return ASSAY_OK;
}

/* X W^T + bias of the rows tried. */
static assay_status open_base(part *p, const assay_fold_delta *d, assay_tensor_role bias, assay_err *err) {
    const float *b = d->fold->layer->vector[bias];
    if (!(p->base = assay_mallocn(d->n * d->n_rows, sizeof *p->base))) return assay_nomem(err);
    ASSAY_TRY(assay_gemm(p->base, d->n_rows, d->x, d->cols, false, p->w, d->cols, true, d->n, d->n_rows, d->cols,
                         false, d->n_threads, err));
    for (size_t t = 0; b && t < d->n; t++)
        for (size_t i = 0; i < d->n_rows; i++)
            p->base[t * d->n_rows + i] += b[tried(i, d->n_rows, p->item->weight->dims[0])];
    return ASSAY_OK;
}

/* y = f(gate) up, elementwise. */
static void run_gate(const assay_fold_delta *d, float *y, const float *gate, const float *up) {
    static const assay_kern_gate fns[] = {[ASSAY_GATE_SILU] = ASSAY_KERN_SILU,
                                          [ASSAY_GATE_GELU_TANH] = ASSAY_KERN_GELU_TANH,
                                          [ASSAY_GATE_GELU] = ASSAY_KERN_GELU};
    d->kern.gate[fns[d->fold->layer->config->act]](y, gate, up, d->n * d->n_rows);
}

static assay_status open_next(assay_fold_delta *d, assay_err *err) {
    const assay_item *down = assay_layer_item(d->fold->layer, ASSAY_ROLE_DOWN);
    int64_t rows = down->weight->dims[0], cols = down->weight->dims[1];
    d->n_next = (size_t)ASSAY_MIN(rows, (int64_t)NEXT_ROWS);
    d->next = assay_mallocn(d->n_next * d->n_rows, sizeof *d->next);
    d->out = assay_mallocn(d->n * d->n_next, sizeof *d->out);
    d->p = assay_mallocn(d->n * d->n_rows, sizeof *d->p);
    float *row = assay_mallocn((size_t)cols, sizeof *row);
    assay_status s = d->next && d->out && d->p && row ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < d->n_next; i++) {
        assay_item_read(row, down, tried(i, d->n_next, rows) * cols, cols);
        for (size_t k = 0; k < d->n_rows; k++)
            d->next[i * d->n_rows + k] = row[tried(k, d->n_rows, cols)];
    }
    assay_free(row);
    if (s != ASSAY_OK) return s;
    ASSAY_TRY(open_base(&d->parts[0], d, ASSAY_ROLE_GATE_BIAS, err));
    ASSAY_TRY(open_base(&d->parts[1], d, ASSAY_ROLE_UP_BIAS, err));
    run_gate(d, d->p, d->parts[0].base, d->parts[1].base);
    return ASSAY_OK;
}

assay_status assay_fold_delta_open(assay_fold_delta **out, const assay_fold *f, const float *x, size_t n,
                                   assay_err *err) {
    assay_fold_delta *d = *out = assay_calloc(1, sizeof *d);
    if (!d) return assay_nomem(err);
    ASSAY_TRY(assay_kern_init(&d->kern, NULL, err));
    d->fold = f;
    d->x = x;
    d->n = n;
    d->cols = (size_t)f->cols;
    d->n_parts = f->n_into;
    d->n_threads = ASSAY_MAX(f->layer->n_threads, 1);
    d->n_rows = (size_t)ASSAY_MIN(f->into[0]->weight->dims[0], (int64_t)(f->before ? ROWS : NEURONS));
    d->e = assay_mallocn(d->n_rows * d->cols, sizeof *d->e);
    d->inverse = assay_mallocn(d->cols, sizeof *d->inverse);
    d->scratch = assay_mallocn(2 * (size_t)d->n_threads * d->cols, sizeof *d->scratch);
    if (!d->e || !d->inverse || !d->scratch) return assay_nomem(err);
    for (size_t i = 0; i < d->n_parts; i++)
        ASSAY_TRY(open_part(&d->parts[i], d, f->into[i], err));
    return f->before ? ASSAY_OK : open_next(d, err);
}

/* E of rows [begin, end). */
static void round_rows(void *ctx, size_t begin, size_t end, int thread) {
    const assay_fold_delta *d = ctx;
    const part *p = d->now;
    float *scaled = d->scratch + 2 * (size_t)thread * d->cols, *q = scaled + d->cols;
    for (size_t i = begin; i < end; i++) {
        const float *w = p->w + i * d->cols;
        float *e = d->e + i * d->cols;
        for (size_t c = 0; c < d->cols; c++)
            scaled[c] = w[c] * d->scale[c];
        for (size_t c = 0; c < d->cols; c += p->group) {
            size_t n = ASSAY_MIN(p->group, d->cols - c);
            float lo, hi;
            assay_grid grid;
            assay_extremes(&lo, &hi, scaled + c, n);
            assay_grid_from_range(&grid, &p->spec, lo, hi);
            assay_grid_round(NULL, q + c, &p->spec, &grid, scaled + c, n);
        }
        for (size_t c = 0; c < d->cols; c++)
            e[c] = q[c] * d->inverse[c] - w[c];
    }
}

static assay_status change_of(part *p, assay_fold_delta *d, assay_err *err) {
    float most = p->item->fused_absmax;
    for (size_t c = 0; c < d->cols; c++)
        most = fmaxf(most, p->most[c] * d->scale[c]);
    p->spec.global_scale = assay_grid_spec_global(&p->spec, most);
    d->now = p;
    assay_parallel_range(d->n_threads, d->n_rows, 8, round_rows, d);
    return assay_gemm_bf16(p->y, d->n_rows, d->x, d->cols, false, d->e, d->cols, true, d->n, d->n_rows, d->cols, false,
                           d->n_threads, err);
}

/* What comes out of down, from the changes of gate and up. */
static assay_status behind_next(assay_fold_delta *d, assay_err *err) {
    size_t all = d->n * d->n_rows;
    float *gate = d->parts[0].y, *up = d->parts[1].y;
    d->kern.add(gate, d->parts[0].base, all);
    d->kern.add(up, d->parts[1].base, all);
    run_gate(d, gate, gate, up);
    for (size_t i = 0; i < all; i++)
        gate[i] -= d->p[i];
    return assay_gemm_bf16(d->out, d->n_next, gate, d->n_rows, false, d->next, d->n_rows, true, d->n, d->n_next, d->n_rows,
                           false, d->n_threads, err);
}

assay_status assay_fold_delta_error(double *out, assay_fold_delta *d, const float *col_scale, const double *weight,
                                    assay_err *err) {
    const float *y = d->next ? d->out : d->parts[0].y;
    size_t width = d->next ? d->n_next : d->n_rows;
    d->scale = col_scale;
    for (size_t c = 0; c < d->cols; c++)
        d->inverse[c] = 1 / col_scale[c];
    for (size_t i = 0; i < d->n_parts; i++)
        ASSAY_TRY(change_of(&d->parts[i], d, err));
    if (d->next) ASSAY_TRY(behind_next(d, err));
    *out = 0;
    for (size_t t = 0; t < d->n; t++) {
        double sum = 0;
        for (size_t k = 0; k < width; k++)
            sum += (double)y[t * width + k] * (double)y[t * width + k];
        *out += weight[t] * sum;
    }
    return ASSAY_OK;
}

void assay_fold_delta_close(assay_fold_delta *d) {
    if (!d) return;
    for (size_t i = 0; i < d->n_parts; i++) {
        assay_free(d->parts[i].w);
        assay_free(d->parts[i].most);
        assay_free(d->parts[i].y);
        assay_free(d->parts[i].base);
    }
    assay_free(d->e);
    assay_free(d->inverse);
    assay_free(d->scratch);
    assay_free(d->p);
    assay_free(d->next);
    assay_free(d->out);
    assay_free(d);
}
