/* test_methods.c: each method on small matrices: values worked out by hand, and that encoding in blocks over
 * threads is encoding. (Bit-identity of the encoders with bitsandbytes and compressed-tensors is
 * tests/precision's.) */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "method/item.h"

typedef struct fixture {
    assay_tensor t;
    assay_choice c;
    assay_item item;
} fixture;

static assay_status run(fixture *f, const char *recipe, const void *data, assay_dtype dtype, int64_t rows,
                        int64_t cols, int threads, assay_err *err) {
    f->t = (assay_tensor){.name = "m", .dtype = dtype, .n_dims = 2, .dims = {rows, cols}, .data = data};
    f->c = choice_of(recipe);
    f->item = (assay_item){.weight = &f->t, .choice = &f->c, .model_dtype = dtype};
    assay_item *items = &f->item;
    assay_layer layer = {.index = -1, .items = &f->item, .n_items = 1, .n_threads = threads};
    return assay_method_get(f->c.method)->quantize(&layer, &items, 1, err);
}

static void check_codes(const char *recipe, const float *w, int64_t rows, int64_t cols, const uint8_t *codes,
                        const float *scales) {
    fixture f;
    assert_int_equal(run(&f, recipe, w, ASSAY_DTYPE_F32, rows, cols, 2, NULL), ASSAY_OK);
    assert_memory_equal(f.item.out.codes, codes, (size_t)(rows * cols));
    for (int64_t i = 0; i < f.item.out.n_scales; i++)
        if (f.item.out.scales[i] != scales[i])
            fail_msg("%s: scale %d is %.9g, not %.9g", recipe, (int)i, (double)f.item.out.scales[i],
                     (double)scales[i]);
    assay_matrix_deinit(&f.item.out);
}

static void rtn_symmetric_by_hand(void **state) {
    (void)state;
    /* absmax 7.5 / 7.5 = 1: codes are the numbers rounded, ties to even, clamped to 7, plus 8. Row two in
     * groups: 3.75/7.5 = 0.5. */
    const float w[] = {7.5f, -7.5f, 0.5f, 1.5f, 3.75f, 1.0f, -1.0f, 0.24f};
    const uint8_t codes[] = {15, 0, 8, 10, 15, 10, 6, 8};
    const float scales[] = {1.0f, 0.5f};
    check_codes("rtn,precision=int4,group_size=4", w, 2, 4, codes, scales);
    check_codes("rtn,precision=int4,group_size=channel", w, 2, 4, codes, scales);
}

static void rtn_asymmetric_by_hand(void **state) {
    (void)state;
    /* min -1, max 2, 2 bits: scale 1, zero 1: codes 0..3. All positive: min is taken as 0. */
    const float w[] = {-1, 0, 1, 2, 0.3f, 3, 1.4f, 2.6f};
    const uint8_t codes[] = {0, 1, 2, 3, 0, 3, 1, 3};
    const float scales[] = {1, 1};
    check_codes("rtn,precision=int2,group_size=4,symmetric=false", w, 2, 4, codes, scales);
}

static void llm_int8_by_hand(void **state) {
    (void)state;
    const float w[] = {127, -127, 63.4f, 0, 0, 0, 0, 0};
    const uint8_t codes[] = {255, 1, 191, 128, 128, 128, 128, 128};
    fixture f;
    assert_int_equal(run(&f, "llm_int8,threshold=5", w, ASSAY_DTYPE_F32, 2, 4, 1, NULL), ASSAY_OK);
    assert_memory_equal(f.item.out.codes, codes, sizeof codes);
    assert_true(f.item.out.scales[0] == 1.0f);
    assert_true(f.item.out.outlier_threshold == 5.0);
    assert_int_equal(f.item.out.act_bits, 8);
    assay_matrix_deinit(&f.item.out);
}

static void nf4_by_hand(void **state) {
    (void)state;
    /* Table values times the block's absmax of 2 come back exactly. */
    float w[64] = {0};
    const float *table = assay_precision_table(ASSAY_PRECISION_NF4);
    for (int i = 0; i < 64; i++)
        w[i] = 2 * table[i % 16];
    fixture f;
    float back[64];
    assert_int_equal(run(&f, "nf4", w, ASSAY_DTYPE_F32, 4, 16, 2, NULL), ASSAY_OK);
    for (int i = 0; i < 64; i++)
        assert_int_equal(f.item.out.codes[i], i % 16);
    assay_matrix_decode_rows(back, &f.item.out, 0, 4);
    assert_memory_equal(back, w, sizeof w);
    assay_matrix_deinit(&f.item.out);
}

static uint16_t *random_bf16(size_t n, uint64_t seed) {
    uint16_t *w = assay_mallocn(n, 2);
    assay_rng r;
    assay_rng_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        w[i] = assay_f32_to_bf16((float)(0.1 * assay_rng_normal(&r)));
    return w;
}

/* What the precision room's encoder gives for the whole matrix at once. */
static void encode_whole(assay_matrix *out, const assay_choice *c, const float *w, int64_t rows,
                         int64_t cols) {
    assay_err err = {0};
    assay_status s;
    if (assay_precision_get_kind(c->precision) == ASSAY_KIND_CODEBOOK) {
        s = assay_encode_codebook(out, w, rows, cols, c->precision, c->group_size, c->double_quant, &err);
    } else {
        bool ct = c->method == ASSAY_METHOD_RTN;
        assay_int_opts o = {.bits = assay_precision_bits(c->precision),
                            .group_size = c->group_size,
                            .asymmetric = c->asymmetric,
                            .rule = ct ? ASSAY_SCALE_CT : ASSAY_SCALE_ABSMAX,
                            .scale_dtype = ct ? ASSAY_DTYPE_BF16 : ASSAY_DTYPE_F32,
                            .mse = c->mse};
        s = assay_encode_int(out, w, rows, cols, &o, &err);
    }
    if (s != ASSAY_OK) fail_msg("%s", err.message);
}

static void blocks_over_threads_are_the_whole(void **state) {
    (void)state;
    static const char *const recipes[] = {"rtn",
                                          "rtn,int4g32",
                                          "rtn,int3g32,symmetric=false",
                                          "rtn,int4g96,mse",
                                          "rtn,int4,group_size=channel,mse",
                                          "llm_int8",
                                          "nf4,double_quant",
                                          "fp4",
                                          "nf4,group_size=128,double_quant"};
    const int64_t rows = 777, cols = 480; /* 6 blocks, the last short; cols is no multiple of 64 or 128 */
    size_t n = (size_t)(rows * cols);
    uint16_t *w = random_bf16(n, 3);
    float *wide = assay_mallocn(n, sizeof *wide);
    assay_to_f32(wide, w, ASSAY_DTYPE_BF16, n);
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++)
        for (int threads = 1; threads <= 3; threads++) {
            fixture f;
            assay_matrix whole;
            assert_int_equal(run(&f, recipes[i], w, ASSAY_DTYPE_BF16, rows, cols, threads, NULL), ASSAY_OK);
            encode_whole(&whole, &f.c, wide, rows, cols);
            const assay_matrix *m = &f.item.out;
            assert_int_equal(m->n_scales, whole.n_scales);
            assert_memory_equal(m->codes, whole.codes, n);
            assert_memory_equal(m->scales, whole.scales, (size_t)whole.n_scales * sizeof(float));
            assert_int_equal(!m->zeros, !whole.zeros);
            if (m->zeros) assert_memory_equal(m->zeros, whole.zeros, (size_t)whole.n_scales);
            assert_int_equal(!m->nested, !whole.nested);
            if (m->nested) assert_memory_equal(m->nested->codes, whole.nested->codes, (size_t)whole.n_scales);
            assert_true(assay_matrix_bits(m, NULL, NULL) == assay_matrix_bits(&whole, NULL, NULL));
            assert_int_equal(assay_matrix_check(m, "m", NULL), ASSAY_OK);
            assay_matrix_deinit(&whole);
            assay_matrix_deinit(&f.item.out);
        }
    assay_free(wide);
    assay_free(w);
}

/* Scales of [rows, cols] by the precision room's encoder, with the clipping search of a whole matrix. */
static void scales_of(float *scales, const float *w, int64_t rows, int64_t cols) {
    assay_matrix m;
    assay_int_opts o = {.bits = 2, .scale_dtype = ASSAY_DTYPE_F32, .mse = true};
    assert_int_equal(assay_encode_int(&m, w, rows, cols, &o, NULL), ASSAY_OK);
    memcpy(scales, m.scales, (size_t)rows * sizeof *scales);
    assay_matrix_deinit(&m);
}

/* The search stops for all groups of a matrix together. A row is looked for that alone would stop early, and
 * beside another would not; then both are made so wide that each is a block of its own. */
static void clipping_looks_at_the_whole_matrix(void **state) {
    (void)state;
    enum { SMALL = 24, TIMES = 2000, WIDE = SMALL * TIMES };
    float small[2 * SMALL], alone, both[2] = {0};
    assay_rng r;
    assay_rng_init(&r, 5);
    for (int i = SMALL; i < 2 * SMALL; i++)
        small[i] = (float)assay_rng_normal(&r);
    int tries = 0;
    for (alone = 0; alone == both[0] && tries < 5000; tries++) {
        for (int i = 0; i < SMALL; i++)
            small[i] = (float)assay_rng_normal(&r);
        scales_of(&alone, small, 1, SMALL);
        scales_of(both, small, 2, SMALL);
    }
    assert_true(alone != both[0]);
    float *w = assay_mallocn(2 * WIDE, sizeof *w), whole[2];
    for (int i = 0; i < 2 * WIDE; i++)
        w[i] = small[i / WIDE * SMALL + i % SMALL];
    scales_of(&alone, w, 1, WIDE);
    scales_of(whole, w, 2, WIDE);
    assert_true(alone != whole[0]);
    assert_int_equal(assay_block_rows(WIDE, 1), 1);
    fixture f;
    assert_int_equal(run(&f, "rtn,int2,group_size=channel,mse", w, ASSAY_DTYPE_F32, 2, WIDE, 2, NULL),
                     ASSAY_OK);
    assert_memory_equal(f.item.out.scales, whole, sizeof whole);
    assay_matrix_deinit(&f.item.out);
    /* And the row alone stops early here too. */
    assert_int_equal(run(&f, "rtn,int2,group_size=channel,mse", w, ASSAY_DTYPE_F32, 1, WIDE, 2, NULL),
                     ASSAY_OK);
    assert_true(f.item.out.scales[0] == alone);
    assay_matrix_deinit(&f.item.out);
    assay_free(w);
}

static void clipping_lowers_the_loss_it_minimises(void **state) {
    (void)state;
    const int64_t rows = 64, cols = 256;
    uint16_t *w = random_bf16((size_t)(rows * cols), 11);
    double sum[2] = {0};
    for (int k = 0; k < 2; k++) {
        fixture f;
        float row[256], back[256];
        assert_int_equal(
            run(&f, k ? "rtn,int3g128,mse" : "rtn,int3g128", w, ASSAY_DTYPE_BF16, rows, cols, 1, NULL),
            ASSAY_OK);
        for (int64_t i = 0; i < rows; i++) {
            assay_to_f32(row, w + i * cols, ASSAY_DTYPE_BF16, (size_t)cols);
            assay_matrix_decode_rows(back, &f.item.out, i, 1);
            for (int c = 0; c < cols; c++)
                sum[k] += pow(fabs((double)(row[c] - back[c])), 2.4);
        }
        assay_matrix_deinit(&f.item.out);
    }
    assert_true(sum[1] < 0.97 * sum[0]);
    assay_free(w);
}

static void loss_equals_one_computed_apart(void **state) {
    (void)state;
    const int64_t rows = 400, cols = 256;
    const size_t n_inputs = 5;
    uint16_t *w = random_bf16((size_t)(rows * cols), 21);
    float *x = assay_mallocn(n_inputs * (size_t)cols, sizeof *x), row[256], back[256];
    assay_rng r;
    assay_rng_init(&r, 22);
    for (size_t i = 0; i < n_inputs * (size_t)cols; i++)
        x[i] = (float)assay_rng_normal(&r);
    fixture f;
    assert_int_equal(run(&f, "rtn,int4g64,symmetric=false", w, ASSAY_DTYPE_BF16, rows, cols, 2, NULL),
                     ASSAY_OK);
    assay_inputs in = {.cols = cols, .sample = x, .n_sample = n_inputs, .n_tokens = n_inputs};
    f.item.in = &in;
    double e2 = 0, w2 = 0, top = 0, y2 = 0, d2 = 0;
    for (int64_t i = 0; i < rows; i++) {
        assay_to_f32(row, w + i * cols, ASSAY_DTYPE_BF16, (size_t)cols);
        assay_matrix_decode_rows(back, &f.item.out, i, 1);
        for (int c = 0; c < cols; c++) {
            double e = (double)row[c] - (double)back[c];
            e2 += e * e;
            w2 += (double)row[c] * (double)row[c];
            top = fmax(top, fabs(e));
        }
        for (size_t k = 0; k < n_inputs; k++) {
            double y = 0, q = 0;
            for (int c = 0; c < cols; c++) {
                y += (double)x[k * (size_t)cols + (size_t)c] * (double)row[c];
                q += (double)x[k * (size_t)cols + (size_t)c] * (double)back[c];
            }
            y2 += y * y;
            d2 += (y - q) * (y - q);
        }
    }
    assay_loss_sums one, three;
    assert_int_equal(assay_loss_measure(&one, &f.item, 1, NULL), ASSAY_OK);
    assert_int_equal(assay_loss_measure(&three, &f.item, 3, NULL), ASSAY_OK);
    assert_memory_equal(&one, &three, sizeof one); /* threads do not show in the last bit */
    assert_float_equal(one.error2 / e2, 1, 1e-6);  /* differences are float32 there */
    assert_float_equal(one.weight2 / w2, 1, 1e-12);
    assert_float_equal(one.max_error / top, 1, 1e-6);
    assert_float_equal(one.output2 / d2, 1, 1e-5);
    assert_float_equal(one.reference2 / y2, 1, 1e-5);
    assert_true(assay_relative_error(0, 0) == 0);
    assert_true(isinf(assay_relative_error(1, 0)));
    assay_matrix_deinit(&f.item.out);
    assay_free(x);
    assay_free(w);
}

static void a_bad_weight_is_named_wherever_it_stands(void **state) {
    (void)state;
    const int64_t rows = 700, cols = 256;
    uint16_t *w = random_bf16((size_t)(rows * cols), 31);
    w[650 * cols + 3] = 0x7f80; /* infinity, in the last block */
    w[300 * cols + 255] = 0x7fc0;
    static const char *const recipes[] = {"rtn", "llm_int8", "nf4,double_quant"};
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++)
        for (int threads = 1; threads <= 2; threads++) {
            fixture f;
            assay_err err = {0};
            assert_int_equal(run(&f, recipes[i], w, ASSAY_DTYPE_BF16, rows, cols, threads, &err),
                             ASSAY_EINPUT);
            assert_string_equal(
                err.message, "tensor 'm': NaN or infinity at row 300, column 255: the checkpoint is damaged");
            assay_matrix_deinit(&f.item.out);
        }
    assay_free(w);
}

static void a_layer_of_several_matrices(void **state) {
    (void)state;
    uint16_t *w = random_bf16(64 * 64, 41);
    assay_tensor t = {.name = "m", .dtype = ASSAY_DTYPE_BF16, .n_dims = 2, .dims = {64, 64}, .data = w};
    assay_choice c = choice_of("rtn,int4g32");
    assay_item items[2] = {{.weight = &t, .choice = &c, .model_dtype = ASSAY_DTYPE_BF16},
                           {.weight = &t, .choice = &c, .model_dtype = ASSAY_DTYPE_BF16}};
    assay_item *both[2] = {&items[0], &items[1]};
    assay_layer layer = {.index = -1, .items = items, .n_items = 2, .n_threads = 1};
    assert_int_equal(assay_method_get(c.method)->quantize(&layer, both, 2, NULL), ASSAY_OK);
    assert_memory_equal(items[0].out.codes, items[1].out.codes, 64 * 64);
    assay_matrix_deinit(&items[0].out);
    assay_matrix_deinit(&items[1].out);
    assay_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rtn_symmetric_by_hand),
        cmocka_unit_test(rtn_asymmetric_by_hand),
        cmocka_unit_test(llm_int8_by_hand),
        cmocka_unit_test(nf4_by_hand),
        cmocka_unit_test(blocks_over_threads_are_the_whole),
        cmocka_unit_test(clipping_looks_at_the_whole_matrix),
        cmocka_unit_test(clipping_lowers_the_loss_it_minimises),
        cmocka_unit_test(loss_equals_one_computed_apart),
        cmocka_unit_test(a_bad_weight_is_named_wherever_it_stands),
        cmocka_unit_test(a_layer_of_several_matrices),
    };
    return cmocka_run_group_tests_name("methods", tests, NULL, NULL);
}
