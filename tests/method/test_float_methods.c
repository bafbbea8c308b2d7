/* test_float_methods.c: fp8 and round to nearest in 4-bit floats against their encoders (tests/precision
 * holds those against compressed-tensors): blocks and threads leave no trace, activations are as asked, and
 * what cannot be is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "method/item.h"

static const char *const RECIPES[] = {
    "fp8",
    "fp8,scale=tensor",
    "fp8,scale=block",
    "fp8,mse",
    "fp8,fp8_e5m2,scale=block,activations=16bit",
    "fp8,fp8_e5m2",
    "rtn,mxfp4",
    "rtn,nvfp4",
    "rtn,nvfp4,mse",
};
#define EACH_RECIPE(r)                                                                                       \
    for (const char *const *r = RECIPES; r < RECIPES + sizeof RECIPES / sizeof *RECIPES; r++)

static void blocks_and_threads_leave_no_trace(void **state) {
    (void)state;
    EACH_RECIPE(r) {
        item_fixture f;
        assay_matrix whole;
        item_make(&f, *r);
        assay_grid_spec s = assay_choice_grid(&f.choice, ASSAY_DTYPE_BF16);
        assert_int_equal(assay_encode_float(&whole, f.w, ITEM_ROWS, ITEM_COLS, &s, NULL), ASSAY_OK);
        for (int threads = 1; threads <= 4; threads += 3) {
            assert_int_equal(item_encode(&f, 0, threads, NULL), ASSAY_OK);
            expect_equal_matrices(&f.item.out, &whole);
            assert_int_equal(assay_matrix_check(&f.item.out, *r, NULL), ASSAY_OK);
        }
        assay_matrix_deinit(&whole);
        item_free(&f);
    }
}

static void layouts_have_their_numbers_of_scales(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        int64_t n_scales, group, row_block;
        int act_bits;
        int64_t act_group;
    } cases[] = {
        {"fp8", ITEM_ROWS, 0, 0, 8, 0},
        {"fp8,scale=tensor", 1, 0, INT64_MAX, 8, 0},
        {"fp8,scale=block", 3 * 4, 128, 128, 8, 128},
        {"fp8,scale=block,activations=16bit", 3 * 4, 128, 128, 16, 0},
        {"rtn,mxfp4", ITEM_ROWS * 16, 32, 0, 16, 0},
        {"rtn,nvfp4", ITEM_ROWS * 32, 16, 0, 16, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        item_fixture f;
        item_make(&f, cases[i].recipe);
        assert_int_equal(item_encode(&f, 0, 2, NULL), ASSAY_OK);
        assert_int_equal(f.item.out.n_scales, cases[i].n_scales);
        assert_int_equal(f.item.out.group_size, cases[i].group);
        assert_int_equal(f.item.out.row_block, cases[i].row_block);
        assert_int_equal(f.item.out.act_bits, cases[i].act_bits);
        assert_int_equal(f.item.out.act_group, cases[i].act_group);
        assert_true(f.item.out.input_scale == 0);
        item_free(&f);
    }
}

/* A plan's size is the encoded matrix's, to the bit. */
static void sizes_are_known_beforehand(void **state) {
    (void)state;
    EACH_RECIPE(r) {
        item_fixture f;
        double codes, scales, planned_codes, planned_scales;
        item_make(&f, *r);
        assert_int_equal(item_encode(&f, 0, 1, NULL), ASSAY_OK);
        assay_matrix_bits(&f.item.out, &codes, &scales);
        assay_choice_bits(&f.choice, ITEM_ROWS, ITEM_COLS, ASSAY_DTYPE_BF16, &planned_codes, &planned_scales);
        assert_true(planned_codes == codes && planned_scales == scales);
        item_free(&f);
    }
}

/* Finer scales lose less; none loses more than its float's half step, 1/16 of a value in E4M3's normal range.
 */
static void errors_are_in_order(void **state) {
    (void)state;
    static const char *const order[] = {"fp8", "fp8,fp8_e5m2", "rtn,nvfp4", "rtn,mxfp4"};
    double last = 0;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        item_fixture f;
        assay_loss_sums sums;
        item_make(&f, order[i]);
        assert_int_equal(item_encode(&f, 0, 1, NULL), ASSAY_OK);
        assert_int_equal(assay_loss_measure(&sums, &f.item, 1, NULL), ASSAY_OK);
        double e = assay_relative_error(sums.error2, sums.weight2);
        assert_true(e > last);
        if (i == 0) assert_true(e < 0.03);
        last = e;
        item_free(&f);
    }
    assert_true(last < 0.2);
}

static void static_activations_come_from_calibration(void **state) {
    (void)state;
    item_fixture f;
    assay_err err = {0};
    float absmax[ITEM_COLS] = {0};
    absmax[77] = 22.4f;
    assay_inputs in = {.cols = ITEM_COLS, .n_tokens = 10, .absmax = absmax};
    item_make(&f, "fp8,scale=tensor,activations=static");
    assert_int_equal(item_encode(&f, 0, 1, &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "need its calibration inputs"));
    f.item.in = &in;
    assert_int_equal(item_encode(&f, 0, 1, NULL), ASSAY_OK);
    assert_int_equal(f.item.out.act_bits, 8);
    assert_true(f.item.out.input_scale == 22.4f / 448.0f);
    item_free(&f);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    expect_refusal("fp8,int8", "fp8_e4m3 or fp8_e5m2");
    expect_refusal("fp8,scale=block,activations=static", "dynamic or 16bit");
    expect_refusal("fp8,scale=tensor,mse", "mse needs scale channel or block");
    expect_refusal("rtn,fp8_e4m3", "int2 to int8, mxfp4 or nvfp4");
    expect_refusal("rtn,mxfp4,group_size=64", "groups of 32");
    expect_refusal("rtn,nvfp4,symmetric=false", "symmetric");
    item_fixture f;
    assay_err err = {0};
    item_make(&f, "fp8,scale=tensor");
    f.data[ITEM_COLS * 297 + 3] = 0x7fc0;
    assert_int_equal(item_encode(&f, 0, 2, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "NaN or infinity at row 297, column 3"));
    item_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_and_threads_leave_no_trace),
        cmocka_unit_test(layouts_have_their_numbers_of_scales),
        cmocka_unit_test(sizes_are_known_beforehand),
        cmocka_unit_test(errors_are_in_order),
        cmocka_unit_test(static_activations_come_from_calibration),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests_name("float methods", tests, NULL, NULL);
}
