/* kern/body/math.h: exp, tanh and the gate functions on sixteen lanes. The same operations in the same order
 * in kern/ref, so that all sets agree bit for bit; libm is not used because its results differ between
 * versions.
 *
 * exp: Cody and Waite's reduction, polynomial of Moshier's Cephes expf (about 1 ulp). Above 88.3762 it is
 * infinity (2^127.5 and more), below -87.33 zero (no subnormal results). tanh: Cephes tanhf. GELU's Gaussian
 * integral: the erfc of Numerical Recipes (W. J. Cody's form by Chebyshev fit, 1.2e-7 relative), with the
 * square's rounding error carried, so that the far tail keeps its digits. */
#ifndef ASSAY_KERN_MATH_H
#define ASSAY_KERN_MATH_H

VEC_FN v16 v16_exp(v16 x) {
    v16 magic = v16_set1(12582912.0f);
    v16 t = v16_fma(x, v16_set1(1.44269504088896341f), magic);
    v16 n = v16_sub(t, magic);
    v16 r = v16_fma(n, v16_set1(-0.693359375f), x);
    r = v16_fma(n, v16_set1(2.12194440e-4f), r);
    v16 p = v16_set1(1.9875691500e-4f);
    p = v16_fma(p, r, v16_set1(1.3981999507e-3f));
    p = v16_fma(p, r, v16_set1(8.3334519073e-3f));
    p = v16_fma(p, r, v16_set1(4.1665795894e-2f));
    p = v16_fma(p, r, v16_set1(1.6666665459e-1f));
    p = v16_fma(p, r, v16_set1(5.0000001201e-1f));
    p = v16_add(v16_fma(p, v16_mul(r, r), r), v16_set1(1.0f));
    p = v16_mul(p, v16_pow2(t));
    p = v16_if_lt(x, v16_set1(-87.33f), v16_zero(), p);
    return v16_if_lt(v16_set1(88.3762f), x, v16_set1(INFINITY), p);
}
VEC_FN v16 v16_abs(v16 x) { return v16_of_bits(v16i_and(v16_bits(x), v16i_set1(0x7fffffff))); }
VEC_FN v16 v16_tanh(v16 x) {
    v16 a = v16_abs(x), z = v16_mul(x, x), one = v16_set1(1.0f);
    v16 p = v16_set1(-5.70498872745e-3f);
    p = v16_fma(p, z, v16_set1(2.06390887954e-2f));
    p = v16_fma(p, z, v16_set1(-5.37397155531e-2f));
    p = v16_fma(p, z, v16_set1(1.33314422036e-1f));
    p = v16_fma(p, z, v16_set1(-3.33332819422e-1f));
    p = v16_fma(v16_mul(p, z), x, x);
    v16 big = v16_sub(one, v16_div(v16_set1(2.0f), v16_add(v16_exp(v16_add(a, a)), one)));
    big = v16_if_lt(x, v16_zero(), v16_sub(v16_zero(), big), big);
    return v16_if_lt(a, v16_set1(0.625f), p, big);
}
VEC_FN v16 v16_silu(v16 g) { return v16_div(g, v16_add(v16_set1(1.0f), v16_exp(v16_sub(v16_zero(), g)))); }
/* g * (1 + tanh(u)) / 2 = g / (1 + exp(-2u)), u = sqrt(2/pi) (g + 0.044715 g^3) */
VEC_FN v16 v16_gelu_tanh(v16 g) {
    v16 u = v16_mul(g, v16_fma(v16_mul(g, g), v16_set1(-0.0713548162726f), v16_set1(-1.5957691216057308f)));
    return v16_div(g, v16_add(v16_set1(1.0f), v16_exp(u)));
}
VEC_FN v16 v16_gelu(v16 g) {
    v16 h = v16_mul(g, g), e = v16_fma(g, g, v16_sub(v16_zero(), h)), half = v16_set1(-0.5f);
    v16 t = v16_div(v16_set1(1.0f), v16_fma(v16_abs(g), v16_set1(0.35355339059327376f), v16_set1(1.0f)));
    v16 p = v16_set1(0.17087277f);
    p = v16_fma(p, t, v16_set1(-0.82215223f));
    p = v16_fma(p, t, v16_set1(1.48851587f));
    p = v16_fma(p, t, v16_set1(-1.13520398f));
    p = v16_fma(p, t, v16_set1(0.27886807f));
    p = v16_fma(p, t, v16_set1(-0.18628806f));
    p = v16_fma(p, t, v16_set1(0.09678418f));
    p = v16_fma(p, t, v16_set1(0.37409196f));
    p = v16_fma(p, t, v16_set1(1.00002368f));
    p = v16_fma(p, t, v16_set1(-1.26551223f));
    v16 c =
        v16_mul(v16_mul(v16_set1(0.5f), t), v16_mul(v16_exp(v16_mul(half, h)), v16_exp(v16_fma(half, e, p))));
    return v16_mul(g, v16_if_lt(g, v16_zero(), c, v16_sub(v16_set1(1.0f), c)));
}

#endif
