/* item.h: the choice of a recipe; one matrix with random bfloat16 weights, encoded by a method as the pipeline does it. */
#ifndef TESTS_METHOD_ITEM_H
#define TESTS_METHOD_ITEM_H

#include "base/mem.h"
#include "base/rng.h"
#include "method/methods.h"
#include "method/recipe.h"
#include "num/convert.h"

/* Several blocks of rows (assay_block_rows), the last one short. */
enum { ITEM_ROWS = 298, ITEM_COLS = 512 };

/* What a recipe chooses for a linear matrix. */
static inline assay_choice choice_of(const char *recipe) {
    assay_recipe *r;
    assay_err err = {0};
    assay_tensor_spec spec = {.name = "m", .is_linear = true};
    assay_choice c;
    if (assay_recipe_from_string(&r, recipe, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_recipe_choose(&c, r, &spec, NULL), ASSAY_OK);
    assay_recipe_free(r);
    return c;
}

typedef struct item_fixture {
    uint16_t *data;
    float *w; /* the same as floats */
    assay_tensor tensor;
    assay_choice choice;
    assay_item item;
} item_fixture;

static inline void item_make(item_fixture *f, const char *recipe) {
    enum { N = ITEM_ROWS * ITEM_COLS };
    assay_rng rng;
    assay_rng_init(&rng, 42);
    f->data = assay_mallocn(N, sizeof *f->data);
    f->w = assay_mallocn(N, sizeof *f->w);
    for (int i = 0; i < N; i++)
        f->data[i] = assay_f32_to_bf16((float)(0.03 * assay_rng_normal(&rng) * (i % 901 ? 1 : 9)));
    assay_to_f32(f->w, f->data, ASSAY_DTYPE_BF16, N);
    f->tensor = (assay_tensor){.name = "model.layers.0.mlp.up_proj.weight",
                               .dtype = ASSAY_DTYPE_BF16,
                               .n_dims = 2,
                               .dims = {ITEM_ROWS, ITEM_COLS},
                               .data = f->data,
                               .n_bytes = N * 2};
    f->choice = choice_of(recipe);
    f->item = (assay_item){
        .weight = &f->tensor, .choice = &f->choice, .role = ASSAY_ROLE_UP, .model_dtype = ASSAY_DTYPE_BF16};
}

static inline assay_status item_encode(item_fixture *f, int layer_index, int n_threads, assay_err *err) {
    assay_item *items = &f->item;
    assay_layer layer = {.index = layer_index, .items = items, .n_items = 1, .n_threads = n_threads};
    assay_matrix_deinit(&f->item.out);
    return assay_method_get(f->choice.method)->quantize(&layer, &items, 1, err);
}

static inline void item_free(item_fixture *f) {
    assay_matrix_deinit(&f->item.out);
    assay_free(f->data);
    assay_free(f->w);
}

/* The recipe is none, and the message says so in these words. */
static inline void expect_refusal(const char *recipe, const char *part) {
    assay_recipe *r = NULL;
    assay_err err = {0};
    assert_int_not_equal(assay_recipe_from_string(&r, recipe, &err), ASSAY_OK);
    if (!strstr(err.message, part)) fail_msg("%s: '%s' does not say '%s'", recipe, err.message, part);
}

/* Codes, scales and zero points of both, bit for bit. */
static inline void expect_equal_matrices(const assay_matrix *a, const assay_matrix *b) {
    assert_int_equal(a->precision, b->precision);
    assert_int_equal(a->n_scales, b->n_scales);
    assert_int_equal(a->scale_dtype, b->scale_dtype);
    assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols));
    assert_memory_equal(a->scales, b->scales, (size_t)a->n_scales * sizeof(float));
    assert_int_equal(!a->real_zeros, !b->real_zeros);
    if (a->real_zeros) assert_memory_equal(a->real_zeros, b->real_zeros, (size_t)a->n_scales * sizeof(float));
    assert_true(a->global_scale == b->global_scale);
}

#endif
