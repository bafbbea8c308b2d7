/* test_hqq.c: the method against its encoder (tests/precision/test_hqq.c holds that against hqq itself):
 * blocks and threads leave no trace; what it takes and what it refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "method/item.h"
#include "precision/hqq.h"

static void blocks_and_threads_leave_no_trace(void **state) {
    (void)state;
    static const char *const recipes[] = {"hqq", "hqq,int3,group_size=32", "hqq,precision=int2g128",
                                          "hqq,int8,group_size=channel"};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        item_fixture f;
        assay_matrix whole;
        item_make(&f, recipes[i]);
        assay_hqq_opts o = {.bits = assay_precision_bits(f.choice.precision),
                            .group_size = f.choice.group_size,
                            .scale_dtype = ASSAY_DTYPE_BF16};
        assert_int_equal(assay_encode_hqq(&whole, f.w, ITEM_ROWS, ITEM_COLS, &o, NULL), ASSAY_OK);
        for (int threads = 1; threads <= 5; threads += 2) {
            assert_int_equal(item_encode(&f, 0, threads, NULL), ASSAY_OK);
            expect_equal_matrices(&f.item.out, &whole);
            assert_int_equal(assay_matrix_check(&f.item.out, "up_proj", NULL), ASSAY_OK);
            assert_int_equal(f.item.out.act_bits, 16);
            assert_int_equal(f.item.out.act_dtype, ASSAY_DTYPE_BF16);
            assert_non_null(strstr(f.item.chosen, "\"iterations\": "));
        }
        assay_matrix_deinit(&whole);
        item_free(&f);
    }
}

static void defaults_are_the_originals(void **state) {
    (void)state;
    item_fixture f;
    item_make(&f, "hqq");
    assert_int_equal(f.choice.precision, ASSAY_PRECISION_INT4);
    assert_int_equal(f.choice.group_size, 64);
    assert_int_equal(assay_choice_convention(&f.choice), ASSAY_CONVENTION_HQQ);
    item_free(&f);
}

static void what_hqq_cannot_hold_is_refused(void **state) {
    (void)state;
    expect_refusal("hqq,int7", "int2, int3, int4, int5, int6 or int8");
    expect_refusal("hqq,nf4", "int2, int3, int4, int5, int6 or int8");
    expect_refusal("hqq,group_size=60", "multiple of 8");
    expect_refusal("hqq,mse", "does nothing for method hqq");
    item_fixture f;
    item_make(&f, "hqq");
    const assay_method *m = assay_method_get(ASSAY_METHOD_HQQ);
    assert_null(m->check_shape(&f.choice, 4, 128));
    assert_non_null(strstr(m->check_shape(&f.choice, 4, 100), "does not divide"));
    assert_non_null(strstr(m->check_shape(&f.choice, 3, 64), "not a multiple"));
    item_free(&f);
}

static void damage_is_named(void **state) {
    (void)state;
    item_fixture f;
    assay_err err = {0};
    item_make(&f, "hqq");
    f.data[200 * ITEM_COLS + 17] = 0x7f80;
    assert_int_equal(item_encode(&f, 0, 2, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "up_proj.weight': NaN or infinity at row 200, column 17"));
    f.data[200 * ITEM_COLS + 17] = 0;
    for (int n = 0, failed = 1; failed; n++) {
        assay_mem_fail_after(n);
        failed = item_encode(&f, 0, 2, NULL) == ASSAY_ENOMEM;
        assay_mem_fail_after(-1);
        assert_true(n < 20);
    }
    item_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_and_threads_leave_no_trace),
        cmocka_unit_test(defaults_are_the_originals),
        cmocka_unit_test(what_hqq_cannot_hold_is_refused),
        cmocka_unit_test(damage_is_named),
    };
    return cmocka_run_group_tests_name("hqq method", tests, NULL, NULL);
}
