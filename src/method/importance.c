/* importance.c: sums of squares over what goes into the matrices of a decoder layer, collected in one run of the layer. They are added in
 * double in the order of the tokens, whatever the number of threads; llama.cpp adds in float32, so that its sums differ in their last digits. */
#include "method/importance.h"

#include <string.h>
#include "base/mem.h"
#include "format/imatrix.h"

/* Columns and number of inputs of a role; columns 0: the layer has none. */
static void shape_of(int64_t *cols, int64_t *n, const assay_layer *layer, int role) {
    *cols = *n = 0;
    for (size_t i = 0; i < layer->n_items && !*cols; i++)
        if ((int)assay_role_input(layer->items[i].role) == role) *cols = layer->items[i].weight->dims[1];
    if (*cols) *n = assay_role_is_expert((assay_tensor_role)role) ? layer->config->n_experts : 1;
}

typedef struct watcher {
    assay_importance *i;
    const assay_layer *layer;
} watcher;

static assay_status add_rows(void *ctx, assay_tensor_role role, int expert, const float *x, size_t n_rows, size_t cols, assay_err *err) {
    watcher *c = ctx;
    assay_squares *q = &c->i->of[role];
    int64_t at = expert < 0 ? 0 : expert;
    if ((int64_t)cols != q->cols || at >= q->n) return ASSAY_OK;
    double *sums = q->sums + at * q->cols;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t k = 0; k < cols; k++) sums[k] += (double)x[r * cols + k] * (double)x[r * cols + k];
    q->counts[at] += (int64_t)n_rows;
    return assay_layer_tick(c->layer, 0, err);
}

assay_status assay_importance_measure(assay_importance *out, assay_layer *layer, float *y, assay_err *err) {
    watcher c = {out, layer};
    assay_taps taps = {.fn = add_rows, .ctx = &c, .until = ASSAY_ROLE_COUNT};
    *out = (assay_importance){0};
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        assay_squares *q = &out->of[r];
        shape_of(&q->cols, &q->n, layer, r);
        if (!q->cols) continue;
        q->sums = assay_calloc((size_t)(q->n * q->cols), sizeof *q->sums);
        q->counts = assay_calloc((size_t)q->n, sizeof *q->counts);
        if (!q->sums || !q->counts) return assay_nomem(err);
        taps.roles |= ASSAY_ROLE_BIT(r);
    }
    return assay_layer_watch(layer, y, &taps, err);
}

void assay_importance_free(assay_importance *i) {
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        assay_free(i->of[r].sums);
        assay_free(i->of[r].counts);
    }
    *i = (assay_importance){0};
}

static assay_status give_one(assay_item *item, const assay_squares *q, assay_err *err) {
    int64_t at = assay_role_is_expert(item->role) ? item->expert : 0;
    if (at < 0 || at >= q->n) return ASSAY_OK;
    if (!item->importance && !(item->importance = assay_mallocn((size_t)q->cols, sizeof(float)))) return assay_nomem(err);
    for (int64_t c = 0; c < q->cols; c++) item->importance[c] = (float)q->sums[at * q->cols + c];
    assay_imatrix_mean(item->importance, item->importance, (float)q->counts[at], q->cols);
    return ASSAY_OK;
}

assay_status assay_importance_give(const assay_importance *i, assay_layer *layer, assay_err *err) {
    for (size_t k = 0; k < layer->n_items; k++) {
        assay_item *item = &layer->items[k];
        if (assay_method_get(item->choice->method)->wants & ASSAY_WANT_IMPORTANCE)
            ASSAY_TRY(give_one(item, &i->of[assay_role_input(item->role)], err));
    }
    return ASSAY_OK;
}

/* --- on disk --- */

size_t assay_importance_n_floats(const assay_layer *layer) {
    size_t sum = 0;
    int64_t cols, n;
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        shape_of(&cols, &n, layer, r);
        sum += (size_t)(n + n * cols);
    }
    return sum;
}

void assay_importance_put(float *out, const assay_importance *i) {
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        const assay_squares *q = &i->of[r];
        for (int64_t k = 0; k < q->n; k++) *out++ = (float)q->counts[k];
        for (int64_t k = 0; k < q->n * q->cols; k++) *out++ = (float)q->sums[k];
    }
}

assay_importance_view assay_importance_find(const float *row, const assay_layer *layer, assay_tensor_role role) {
    assay_importance_view v = {0};
    for (int r = 0; r <= (int)assay_role_input(role); r++) {
        row += v.n + v.n * v.cols;
        shape_of(&v.cols, &v.n, layer, r);
        v.counts = row;
        v.sums = row + v.n;
    }
    return v;
}
