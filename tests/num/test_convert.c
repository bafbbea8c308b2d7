/* test_convert.c: scalar formats. Narrow formats are checked exhaustively against definitions written with
 * ldexp, the way back by nearest-even search among neighbours, and bulk conversion against the scalar
 * functions at every length and misalignment that its pieces make special. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "num/convert.h"
#include "num/narrow.h"

/* What sign/exponent/fraction mean, for a format with e exponent and m fraction bits. */
static double value_of(unsigned v, int e, int m) {
    int bias = (1 << (e - 1)) - 1;
    unsigned exponent = (v >> m) & ((1u << e) - 1), fraction = v & ((1u << m) - 1);
    double x =
        exponent ? ldexp(1.0 + ldexp(fraction, -m), (int)exponent - bias) : ldexp(fraction, 1 - bias - m);
    return (v >> (e + m)) & 1 ? -x : x;
}

static void narrow_formats_decode_by_definition(void **state) {
    (void)state;
    for (unsigned v = 0; v < 65536; v++) {
        float f = assay_f16_to_f32((uint16_t)v);
        if ((v & 0x7c00) != 0x7c00)
            assert_true((double)f == value_of(v, 5, 10));
        else if (v & 0x3ff)
            assert_true(isnan(f));
        else
            assert_true(isinf(f) && (signbit(f) != 0) == (v >> 15));
        float b = assay_bf16_to_f32((uint16_t)v);
        if ((v & 0x7f80) != 0x7f80) assert_true((double)b == value_of(v, 8, 7));
    }
    for (unsigned v = 0; v < 256; v++) {
        float f = assay_e4m3_to_f32((uint8_t)v);
        if ((v & 0x7f) == 0x7f)
            assert_true(isnan(f));
        else
            assert_true((double)f == value_of(v, 4, 3));
        f = assay_e5m2_to_f32((uint8_t)v);
        if ((v & 0x7c) != 0x7c)
            assert_true((double)f == value_of(v, 5, 2));
        else
            assert_true((v & 3) ? isnan(f) : isinf(f));
    }
    assert_true(signbit(assay_f16_to_f32(0x8000)) && signbit(assay_e4m3_to_f32(0x80)));
}

static void every_finite_value_round_trips(void **state) {
    (void)state;
    for (unsigned v = 0; v < 65536; v++) {
        if (!isnan(assay_f16_to_f32((uint16_t)v)))
            assert_int_equal(assay_f32_to_f16(assay_f16_to_f32((uint16_t)v)), v);
        else
            assert_true(isnan(assay_f16_to_f32(assay_f32_to_f16(assay_f16_to_f32((uint16_t)v)))));
        if (!isnan(assay_bf16_to_f32((uint16_t)v)))
            assert_int_equal(assay_f32_to_bf16(assay_bf16_to_f32((uint16_t)v)), v);
        else
            assert_true(isnan(assay_bf16_to_f32(assay_f32_to_bf16(assay_bf16_to_f32((uint16_t)v)))));
    }
    for (unsigned v = 0; v < 256; v++) {
        if (!isnan(assay_e4m3_to_f32((uint8_t)v)))
            assert_int_equal(assay_f32_to_e4m3(assay_e4m3_to_f32((uint8_t)v)), v);
        if (!isnan(assay_e5m2_to_f32((uint8_t)v)))
            assert_int_equal(assay_f32_to_e5m2(assay_e5m2_to_f32((uint8_t)v)), v);
    }
}

typedef unsigned (*narrow_fn)(float);
static unsigned n_f16(float f) {
    return assay_f32_to_f16(f);
}
static unsigned n_bf16(float f) {
    return assay_f32_to_bf16(f);
}
static unsigned n_e4m3(float f) {
    return assay_f32_to_e4m3(f);
}
static unsigned n_e5m2(float f) {
    return assay_f32_to_e5m2(f);
}

/* Between two neighbouring codes: the middle goes to the even one, one float to either side goes to the
 * nearer. */
static void check_rounding(narrow_fn narrow, int e, int m, unsigned largest) {
    for (unsigned v = 0; v < largest; v++) {
        double lo = value_of(v, e, m), hi = value_of(v + 1, e, m);
        float mid = (float)((lo + hi) / 2);
        if ((double)mid != (lo + hi) / 2) continue; /* below binary32's own subnormals */
        unsigned even = v & 1 ? v + 1 : v, sign = 1u << (e + m);
        assert_int_equal(narrow(mid), even);
        assert_int_equal(narrow(-mid), even | sign);
        assert_int_equal(narrow(nextafterf(mid, 0)), v);
        assert_int_equal(narrow(nextafterf(mid, INFINITY)), v + 1);
    }
}

static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    check_rounding(n_f16, 5, 10, 0x7bff);
    check_rounding(n_bf16, 8, 7, 0x7f7f);
    check_rounding(n_e4m3, 4, 3, 0x7e);
    check_rounding(n_e5m2, 5, 2, 0x7b);
}

static void out_of_range_is_as_documented(void **state) {
    (void)state;
    assert_int_equal(assay_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(assay_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(assay_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(assay_f32_to_f16(1e-30f), 0);
    assert_int_equal(assay_f32_to_bf16(3.4e38f), 0x7f80);
    assert_int_equal(assay_f32_to_e4m3(1e9f), 0x7e);
    assert_int_equal(assay_f32_to_e4m3(-449.0f), 0xfe);
    assert_int_equal(assay_f32_to_e4m3(INFINITY) & 0x7f, 0x7f);
    assert_int_equal(assay_f32_to_e5m2(1e9f), 0x7b);
    assert_int_equal(assay_f32_to_e5m2(-INFINITY), 0xfc);
    assert_true(isnan(assay_e5m2_to_f32(assay_f32_to_e5m2(NAN))));
    assert_true(isnan(assay_e4m3_to_f32(assay_f32_to_e4m3(NAN))));
}

static void bulk_equals_scalar_at_any_length_and_alignment(void **state) {
    (void)state;
    enum { MAX = 200 };
    static const assay_dtype types[] = {ASSAY_DTYPE_F64,  ASSAY_DTYPE_F32,     ASSAY_DTYPE_F16,
                                        ASSAY_DTYPE_BF16, ASSAY_DTYPE_F8_E4M3, ASSAY_DTYPE_F8_E5M2};
    float in[MAX], out[MAX + 1];
    unsigned char buf[MAX * 8 + 8];
    uint32_t x = 1;
    for (int i = 0; i < MAX; i++) {
        x = x * 1664525u + 1013904223u;
        in[i] = ldexpf((float)(int32_t)x, (int)(x >> 26) - 60);
    }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t size = assay_dtype_size(types[t]);
        for (size_t n = 0; n <= MAX; n += n < 70 ? 1 : 13) {
            for (size_t offset = 0; offset < 3; offset++) {
                memset(buf, 0xaa, sizeof buf);
                out[n] = 42.0f;
                assert_true(assay_from_f32(buf + offset, types[t], in, n));
                assert_int_equal(buf[offset + n * size], 0xaa);
                assert_true(assay_to_f32(out, buf + offset, types[t], n));
                assert_true(out[n] == 42.0f);
                for (size_t i = 0; i < n; i++) {
                    float one;
                    unsigned char v[8];
                    assay_from_f32(v, types[t], in + i, 1);
                    assay_to_f32(&one, v, types[t], 1);
                    assert_memory_equal(&one, &out[i], 4);
                }
            }
        }
    }
    assert_false(assay_to_f32(out, buf, ASSAY_DTYPE_I32, 1));
    assert_false(assay_from_f32(buf, ASSAY_DTYPE_U8, in, 1));
}

static void the_first_nonfinite_element_is_found(void **state) {
    (void)state;
    enum { N = 300 };
    static const assay_dtype types[] = {ASSAY_DTYPE_F64,  ASSAY_DTYPE_F32,     ASSAY_DTYPE_F16,
                                        ASSAY_DTYPE_BF16, ASSAY_DTYPE_F8_E4M3, ASSAY_DTYPE_F8_E5M2};
    float in[N];
    unsigned char buf[N * 8];
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        for (int at = -1; at < N; at += 7) {
            for (int i = 0; i < N; i++) in[i] = (float)(i - 100);
            if (at >= 0) in[at] = at & 1 ? NAN : INFINITY;
            if (at >= 0 && at + 5 < N) in[at + 5] = NAN;
            assay_from_f32(buf, types[t], in, N);
            assert_int_equal(assay_find_nonfinite(buf, types[t], N), at);
        }
    }
}

static void names_and_sizes_follow_the_table(void **state) {
    (void)state;
    for (int t = 0; t < ASSAY_DTYPE_COUNT; t++) {
        assay_dtype back = ASSAY_DTYPE_COUNT;
        const char *name = assay_dtype_name((assay_dtype)t);
        assert_true(assay_dtype_parse(&back, name, strlen(name)));
        assert_int_equal(back, t);
        assert_false(assay_dtype_parse(&back, name, strlen(name) - 1) && back == (assay_dtype)t);
        assert_int_equal(assay_dtype_is_float((assay_dtype)t),
                         name[0] == 'F' || name[0] == 'B' ? strcmp(name, "BOOL") != 0 : 0);
    }
    assay_tensor t = {.n_dims = 3, .dims = {1ll << 31, 1ll << 31, 4}};
    assert_int_equal(assay_tensor_n_elements(&t), -1);
    t.n_dims = 0;
    assert_int_equal(assay_tensor_n_elements(&t), 1);
}

/* e2m1 is small enough to be listed; ties go to the even code, as compressed-tensors' fp4_utils.py has them.
 */
static void fp4_rounds_ties_to_even_codes(void **state) {
    (void)state;
    static const float VALUE[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    static const float TIE[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5};
    static const uint8_t TIE_CODE[7] = {0, 2, 2, 4, 4, 6, 6};
    for (uint8_t v = 0; v < 16; v++) {
        float f = assay_widen_e2m1(v);
        assert_true(f == (v & 8 ? -VALUE[v & 7] : VALUE[v & 7]) && (signbit(f) != 0) == v >> 3);
        assert_int_equal(assay_narrow_e2m1(f), v == 8 ? 0 : v); /* -0 has no sign */
    }
    for (int i = 0; i < 7; i++) {
        assert_int_equal(assay_narrow_e2m1(TIE[i]), TIE_CODE[i]);
        assert_int_equal(assay_narrow_e2m1(-TIE[i]), 8 | TIE_CODE[i]);
        assert_int_equal(assay_narrow_e2m1(nextafterf(TIE[i], 0)), i);
        assert_int_equal(assay_narrow_e2m1(nextafterf(TIE[i], 9)), i + 1);
    }
    assert_int_equal(assay_narrow_e2m1(-1e-45f), 8); /* a negative number that vanishes keeps its sign */
    assert_int_equal(assay_narrow_e2m1(1e30f), 7);
    assert_int_equal(assay_narrow_e2m1(-INFINITY), 15);
}

static void powers_of_two_scales_round_trip(void **state) {
    (void)state;
    for (int v = 0; v < 255; v++) {
        float f = assay_e8m0_to_f32((uint8_t)v);
        assert_true((double)f == ldexp(1, v - 127));
        assert_int_equal(assay_narrow_e8m0(f), v);
        assert_int_equal(assay_narrow_e8m0(nextafterf(f, INFINITY)), v); /* the power not above */
    }
    assert_true(isnan(assay_e8m0_to_f32(255)));
    assert_int_equal(assay_narrow_e8m0(INFINITY), 255);
    assert_int_equal(assay_narrow_e8m0(NAN), 255);
    assert_int_equal(assay_narrow_e8m0(0), 0);
    assert_int_equal(assay_narrow_e8m0(-4), 0);
    const uint8_t scales[5] = {127, 0, 254, 255, 130};
    float out[5];
    assert_true(assay_to_f32(out, scales, ASSAY_DTYPE_F8_E8M0, 5) && out[0] == 1 && out[4] == 8);
    assert_int_equal(assay_find_nonfinite(scales, ASSAY_DTYPE_F8_E8M0, 5), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(narrow_formats_decode_by_definition),
        cmocka_unit_test(every_finite_value_round_trips),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(out_of_range_is_as_documented),
        cmocka_unit_test(bulk_equals_scalar_at_any_length_and_alignment),
        cmocka_unit_test(the_first_nonfinite_element_is_found),
        cmocka_unit_test(names_and_sizes_follow_the_table),
        cmocka_unit_test(fp4_rounds_ties_to_even_codes),
        cmocka_unit_test(powers_of_two_scales_round_trip),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
