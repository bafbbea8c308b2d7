/* fuse.c: what matrices share because runtimes run them as one: q, k and v; gate and up.
 *
 * vLLM stacks such matrices into one, which has one scale where the precision has one for the whole matrix: NVFP4's global scale, FP8's
 * scale per tensor. Files with differing scales are requantized at load (FP8) or lose range (NVFP4). So the largest magnitude of all of
 * them is what each one's scale is made from. Only matrices that get the same precision count. */
#include "base/mem.h"
#include "method/pipeline.h"
#include "method/rotate.h"

#define PIECE 65536 /* elements read at once */

static bool has_one_scale(const assay_choice *c) {
    return c->method != ASSAY_METHOD_NONE && (c->precision == ASSAY_PRECISION_NVFP4 || c->scale == ASSAY_SCALE_TENSOR);
}

static bool is_fused(const assay_item *a, const assay_item *b) {
    assay_tensor_role input = assay_role_input(a->role);
    return (input == ASSAY_ROLE_Q || input == ASSAY_ROLE_GATE) && input == assay_role_input(b->role) && has_one_scale(a->choice) &&
           a->choice->precision == b->choice->precision && a->choice->scale == b->choice->scale;
}

static assay_status largest(float *out, const assay_item *item, assay_err *err) {
    int64_t n = assay_tensor_n_elements(item->weight);
    float *piece = assay_mallocn(PIECE, sizeof *piece);
    if (!piece) return assay_nomem(err);
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t m = ASSAY_MIN((int64_t)PIECE, n - at);
        assay_item_read(piece, item, at, m);
        *out = ASSAY_MAX(*out, assay_absmax(piece, (size_t)m));
    }
    assay_free(piece);
    return ASSAY_OK;
}

assay_status assay_fuse_items(assay_item *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        items[i].fused_absmax = 0;
        for (size_t k = 0; k < n_items; k++)
            if (is_fused(&items[i], &items[k])) ASSAY_TRY(largest(&items[i].fused_absmax, &items[k], err));
    }
    return ASSAY_OK;
}

/* A step's matrix as it will be quantized: turned, where the run turns. */
static assay_status largest_of_step(float *out, const assay_run *r, const assay_step *step, assay_err *err) {
    const assay_tensor *t = step->tensor;
    assay_item item = {.weight = t, .choice = &step->choice, .role = step->role};
    assay_status s = ASSAY_OK;
    if (r->rotator) {
        ASSAY_GO(assay_item_own(&item, err));
        ASSAY_GO(assay_rotator_apply(r->rotator, item.w, step->role, step->layer, t->dims[0], t->dims[1], r->n_threads, err));
    }
    s = largest(out, &item, err);
out:
    assay_free(item.w);
    return s;
}

assay_status assay_fuse_step(float *absmax, const assay_run *r, const assay_step *step, assay_err *err) {
    assay_item own = {.weight = step->tensor, .choice = &step->choice, .role = step->role};
    *absmax = 0;
    for (size_t i = 0; i < r->steps.n; i++) {
        const assay_step *s = &r->steps.v[i];
        assay_item other = {.weight = s->tensor, .choice = &s->choice, .role = s->role};
        if (s->layer == step->layer && s->tensor->n_dims == 2 && is_fused(&own, &other)) ASSAY_TRY(largest_of_step(absmax, r, s, err));
    }
    return ASSAY_OK;
}
