/* special.c: normal, beta, t and binomial distribution functions in double precision.
 *
 * normal quantile   starting value of Abramowitz & Stegun (1964), 26.2.23 (|error| < 4.5e-4), then Halley's
 *                   iteration on libm's erfc
 * incomplete beta   continued fraction DLMF 8.17.22 by Lentz's method, on the side where it converges quickly
 * t                 through the incomplete beta (DLMF 8.17; Abramowitz & Stegun 26.7.1); its quantile by
 *                   bracketed Newton
 * binomial          the mass through lgamma, the tail through the incomplete beta (DLMF 8.17.5)
 *
 * Relative accuracy is about 1e-13 for arguments that occur here (tests/stat compares with SciPy). */
#include "stat/special.h"

#include <float.h>
#include <math.h>

double assay_norm_cdf(double x) {
    return 0.5 * erfc(-x * M_SQRT1_2);
}

/* For 0 < p <= 1/2. */
static double lower_quantile(double p) {
    double t = sqrt(-2 * log(p));
    double x = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                         (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
    for (int i = 0; i < 4; i++) {
        double density = exp(-0.5 * x * x) / sqrt(2 * M_PI);
        if (density < DBL_MIN) break;
        double e = (assay_norm_cdf(x) - p) / density;
        x -= e / (1 + 0.5 * x * e);
    }
    return x;
}

double assay_norm_quantile(double p) {
    if (!(p >= 0 && p <= 1)) return NAN;
    if (p == 0) return -INFINITY;
    if (p == 1) return INFINITY;
    return p <= 0.5 ? lower_quantile(p) : -lower_quantile(1 - p);
}

/* lgamma without the global signgam. */
static double log_gamma(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

/* The fraction of DLMF 8.17.22; converges fast for x < (a+1)/(a+b+2). */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m < 100000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        const double step[2] = {even, odd};
        double change = 1;
        for (int k = 0; k < 2; k++) {
            d = 1 + step[k] * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + step[k] / c;
            if (fabs(c) < tiny) c = tiny;
            change = c * d;
            h *= change;
        }
        if (fabs(change - 1) < 1e-16) break;
    }
    return h;
}

double assay_beta_inc(double a, double b, double x) {
    if (!(a > 0 && b > 0 && x >= 0 && x <= 1)) return NAN;
    if (x == 0 || x == 1) return x;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double assay_t_cdf(double t, double df) {
    if (!(df > 0) || isnan(t)) return NAN;
    if (isinf(df)) return assay_norm_cdf(t);
    if (isinf(t)) return t > 0;
    double tail = 0.5 * assay_beta_inc(df / 2, 0.5, df / (df + t * t));
    return t > 0 ? 1 - tail : tail;
}

static double t_density(double t, double df) {
    return exp(log_gamma((df + 1) / 2) - log_gamma(df / 2) - 0.5 * log(df * M_PI) -
               (df + 1) / 2 * log1p(t * t / df));
}

/* For p < 1/2: the root is negative. Newton, kept inside a bracket that halves when Newton leaves it. */
static double t_lower_quantile(double p, double df) {
    double hi = 0, lo = -1;
    while (assay_t_cdf(lo, df) > p) {
        hi = lo;
        lo *= 2;
        if (isinf(lo)) return lo;
    }
    double x = 0.5 * (lo + hi);
    for (int i = 0; i < 200; i++) {
        double f = assay_t_cdf(x, df) - p;
        if (f > 0) hi = x;
        else
            lo = x;
        double next = x - f / t_density(x, df);
        if (!(next > lo && next < hi)) next = 0.5 * (lo + hi);
        if (fabs(next - x) <= 4 * DBL_EPSILON * fabs(x)) return next;
        x = next;
    }
    return x;
}

double assay_t_quantile(double p, double df) {
    if (!(p >= 0 && p <= 1) || !(df > 0)) return NAN;
    if (isinf(df)) return assay_norm_quantile(p);
    if (p == 0) return -INFINITY;
    if (p == 1) return INFINITY;
    if (p == 0.5) return 0;
    return p < 0.5 ? t_lower_quantile(p, df) : -t_lower_quantile(1 - p, df);
}

double assay_binom_pmf(double k, double n, double p) {
    if (!(n >= 0 && p >= 0 && p <= 1)) return NAN;
    if (k < 0 || k > n) return 0;
    if (p == 0) return k == 0;
    if (p == 1) return k == n;
    return exp(log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p));
}

double assay_binom_cdf(double k, double n, double p) {
    if (!(n >= 0 && p >= 0 && p <= 1)) return NAN;
    if (k < 0) return 0;
    if (k >= n) return 1;
    return assay_beta_inc(n - k, k + 1, 1 - p);
}
