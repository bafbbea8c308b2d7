/* test_stat.c: statistics against SciPy and statsmodels (golden.h), against published examples, and against
 * their own properties. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "stat/decide.h"
#include "stat/golden.h"
#include "stat/mean.h"
#include "stat/paired.h"
#include "stat/special.h"

#define EACH(i, table) for (size_t i = 0; i < sizeof(table) / sizeof((table)[0]); i++)

static void close_to(double got, double want, double rel, const char *what) {
    double tol = rel * fmax(fabs(want), 1e-300);
    if (!(fabs(got - want) <= tol)) fail_msg("%s: %.17g, expected %.17g", what, got, want);
}

static void near(double got, double want, double tol, const char *what) {
    if (!(fabs(got - want) <= tol)) fail_msg("%s: %.17g, expected %.17g +- %g", what, got, want, tol);
}

/* --- special functions --- */

static void normal_quantile_matches_scipy(void **state) {
    (void)state;
    EACH(i, golden_norm)
    near(assay_norm_quantile(golden_norm[i][0]), golden_norm[i][1], 1e-13 * fmax(1, fabs(golden_norm[i][1])),
         "ppf");
    for (double p = 0.0005; p < 1; p += 0.0101)
        near(assay_norm_cdf(assay_norm_quantile(p)), p, 1e-15, "cdf(ppf)");
    assert_true(isnan(assay_norm_quantile(-0.1)) && isnan(assay_norm_quantile(1.1)));
    assert_true(isinf(assay_norm_quantile(0)) && isinf(assay_norm_quantile(1)));
}

static void incomplete_beta_matches_scipy(void **state) {
    (void)state;
    EACH(i, golden_beta) {
        const double *g = golden_beta[i];
        /* a tail below 1e-250 has lost digits in the exponent of exp() already */
        close_to(assay_beta_inc(g[0], g[1], g[2]), g[3], g[3] < 1e-250 ? 1e-9 : 5e-11, "betainc");
    }
    assert_true(isnan(assay_beta_inc(0, 1, 0.5)) && isnan(assay_beta_inc(1, 1, 2)));
}

static void student_matches_scipy(void **state) {
    (void)state;
    EACH(i, golden_t) close_to(assay_t_cdf(golden_t[i][0], golden_t[i][1]), golden_t[i][2], 1e-9, "t cdf");
    EACH(i, golden_t_quantile)
    close_to(assay_t_quantile(golden_t_quantile[i][0], golden_t_quantile[i][1]), golden_t_quantile[i][2],
             1e-8, "t ppf");
    near(assay_t_quantile(0.95, INFINITY), assay_norm_quantile(0.95), 0, "t with infinite df");
}

static void binomial_matches_scipy(void **state) {
    (void)state;
    EACH(i, golden_binom) {
        const double *g = golden_binom[i];
        close_to(assay_binom_pmf(g[0], g[1], g[2]), g[3], 1e-9, "pmf");
        close_to(assay_binom_cdf(g[0], g[1], g[2]), g[4], 1e-9, "cdf");
    }
    near(assay_binom_cdf(-1, 5, 0.5), 0, 0, "below");
    near(assay_binom_cdf(0, 0, 0.5), 1, 0, "no trials");
}

/* --- proportions --- */

static void wilson_matches_statsmodels(void **state) {
    (void)state;
    EACH(i, golden_wilson) {
        double lo, hi;
        assay_wilson(&lo, &hi, golden_wilson[i][0], golden_wilson[i][1], assay_norm_quantile(0.95));
        near(lo, golden_wilson[i][2], 1e-12, "lower");
        near(hi, golden_wilson[i][3], 1e-12, "upper");
    }
}

static assay_pairs pairs(double both, double up, double down, double neither) {
    return (assay_pairs){.both = both, .up = up, .down = down, .neither = neither};
}

/* a=36, b=12, c=2, d=0: the worked example; and a restricted likelihood maximised by SciPy */
static void tango_matches_the_worked_example_and_the_likelihood(void **state) {
    (void)state;
    double lo, hi;
    assay_pairs t = pairs(36, 12, 2, 0);
    assay_tango(&lo, &hi, &t, assay_norm_quantile(0.975));
    near(lo, 0.0611, 5e-5, "lower");
    near(hi, 0.3447, 5e-5, "upper");
    EACH(i, golden_tango) {
        const double *g = golden_tango[i];
        t = pairs(g[2] - g[0] - g[1], g[0], g[1], 0);
        assay_tango(&lo, &hi, &t, g[3]);
        near(lo, g[4], 1e-7, "lower");
        near(hi, g[5], 1e-7, "upper");
    }
}

static void tango_stays_useful_without_discordant_pairs(void **state) {
    (void)state;
    double lo, hi, z = assay_norm_quantile(0.975);
    assay_pairs t = pairs(100, 0, 0, 64);
    assay_tango(&lo, &hi, &t, z);
    near(hi, z * z / (164 + z * z), 1e-12, "upper");
    near(lo, -hi, 1e-12, "symmetry");
    near(hi, 0.0229, 5e-5, "2.29 points");
    t = pairs(0, 0, 0, 0);
    assay_tango(&lo, &hi, &t, z);
    near(lo, -1, 0, "no items");
}

static void newcombe_matches_the_worked_example(void **state) {
    (void)state;
    double lo, hi;
    assay_pairs t = pairs(36, 12, 2, 0);
    assay_newcombe10(&lo, &hi, &t, assay_norm_quantile(0.975));
    near(lo, 0.0569, 5e-5, "lower");
    near(hi, 0.3404, 5e-5, "upper");
}

/* Swapping the models mirrors the interval; more items of the same kind narrow it; the bounds hold the
 * estimate. */
static void intervals_have_the_right_shape(void **state) {
    (void)state;
    void (*const methods[])(double *, double *, const assay_pairs *, double) = {assay_tango,
                                                                                assay_newcombe10};
    for (size_t m = 0; m < 2; m++) {
        for (double up = 0; up <= 8; up += 2) {
            for (double down = 0; down <= 8; down += 4) {
                assay_pairs t = pairs(80, up, down, 20), s = pairs(80, down, up, 20),
                            big = pairs(800, 10 * up, 10 * down, 200);
                double lo, hi, slo, shi, blo, bhi;
                methods[m](&lo, &hi, &t, 1.645);
                methods[m](&slo, &shi, &s, 1.645);
                methods[m](&blo, &bhi, &big, 1.645);
                near(lo, -shi, 1e-12, "mirror");
                assert_true(lo <= assay_pairs_diff(&t) && assay_pairs_diff(&t) <= hi);
                assert_true(bhi - blo < hi - lo);
                assert_true(lo >= -1 && hi <= 1);
            }
        }
    }
}

/* How often each one-sided 95 % bound misses the true difference with the gate's 200 items per slice and few
 * flips. The lower bound, which lets a variant pass, holds its 5 %. The upper one exceeds it with about seven
 * flips: the score interval's price for never being degenerate. */
static void tango_covers(void **state) {
    (void)state;
    static const double rates[][2] = {{0.025, 0.010}, {0.045, 0.005}, {0.06, 0.02}}; /* down, up */
    assay_rng rng;
    assay_rng_init(&rng, 11);
    for (size_t k = 0; k < 3; k++) {
        int runs = 10000, low = 0, high = 0;
        double d = rates[k][1] - rates[k][0];
        for (int r = 0; r < runs; r++) {
            assay_pairs t = {0};
            for (int i = 0; i < 200; i++) {
                double u = assay_rng_double(&rng);
                if (u < rates[k][0]) t.down++;
                else if (u < rates[k][0] + rates[k][1])
                    t.up++;
                else
                    t.both++;
            }
            double lo, hi;
            assay_tango(&lo, &hi, &t, 1.6448536269514722);
            low += lo > d;
            high += hi < d;
        }
        print_message(
            "# Tango, n 200, flips %.1f %%, d %.1f points: lower bound misses %.2f %%, upper %.2f %%\n",
            100 * (rates[k][0] + rates[k][1]), 100 * d, 100.0 * low / runs, 100.0 * high / runs);
        assert_true(low < runs * 0.06 && high < runs * 0.09);
    }
}

static void mcnemar_matches_statsmodels(void **state) {
    (void)state;
    EACH(i, golden_mcnemar) {
        const double *g = golden_mcnemar[i];
        assay_pairs t = pairs(500, g[1], g[0], 10);
        close_to(assay_mcnemar_exact(&t), g[2], 1e-9, "exact");
        close_to(assay_mcnemar_midp(&t), g[3], 1e-9, "mid-p");
        close_to(assay_mcnemar_harm(&t), g[4], 1e-9, "harm");
        close_to(assay_mcnemar_harm_midp(&t), g[5], 1e-9, "harm mid-p");
    }
    assay_pairs none = pairs(10, 0, 0, 0);
    near(assay_mcnemar_exact(&none), 1, 0, "no discordant pair");
    near(assay_mcnemar_harm_midp(&none), 0.5, 0, "no discordant pair, one-sided mid-p");
}

/* n = 1319, b = 66, c = 53: paired 0.83 points */
static void paired_error_is_the_published_one(void **state) {
    (void)state;
    assay_pairs t = pairs(923, 53, 66, 277);
    near(sqrt(assay_pairs_var(&t)), 0.0083, 5e-5, "standard error");
}

/* --- clusters --- */

static void singletons_change_nothing(void **state) {
    (void)state;
    assay_cluster_pairs k[200] = {0};
    for (int i = 0; i < 200; i++) k[i] = (assay_cluster_pairs){.n = 1, .up = i < 3, .down = i >= 3 && i < 10};
    near(assay_pairs_design_effect(k, 200), 1, 1e-12, "design effect");
    double lo, hi, tlo, thi;
    assay_pairs t = pairs(190, 3, 7, 0);
    assay_tango_clustered(&lo, &hi, k, 200, 0.95);
    assay_tango(&tlo, &thi, &t, assay_t_quantile(0.95, 199));
    near(lo, tlo, 1e-12, "lower");
    near(hi, thi, 1e-12, "upper");
}

/* Four copies of one item are one item: the interval must be that of 50 items, not of 200. */
static void copies_carry_no_information(void **state) {
    (void)state;
    assay_cluster_pairs k[50] = {0};
    for (int i = 0; i < 50; i++)
        k[i] = (assay_cluster_pairs){.n = 4, .up = i < 2 ? 4 : 0, .down = i >= 2 && i < 7 ? 4 : 0};
    double lo, hi, plo, phi, deff = assay_pairs_design_effect(k, 50);
    near(deff, 4, 0.1, "design effect");
    assay_tango_clustered(&lo, &hi, k, 50, 0.95);
    assay_pairs t = pairs(43, 2, 5, 0);
    assay_tango(&plo, &phi, &t, assay_t_quantile(0.95, 49));
    near(lo, plo, 3e-3, "lower");
    near(hi, phi, 3e-3, "upper");
    for (int i = 0; i < 50; i++) k[i].up = k[i].down = 0;
    near(assay_pairs_design_effect(k, 50), 4, 1e-12, "nothing discordant");
    assay_tango_clustered(&lo, &hi, k, 1, 0.95);
    near(lo, -1, 0, "one cluster says nothing");
}

static void obuchowski_is_t_on_cluster_sums(void **state) {
    (void)state;
    assay_cluster_pairs k[4] = {
        {.n = 3, .down = 2}, {.n = 3, .up = 1}, {.n = 3, .down = 1}, {.n = 3, .down = 3}};
    near(assay_obuchowski_harm(k, 4), assay_t_cdf(-5 / sqrt(15), 3), 1e-15, "p");
    memset(k, 0, sizeof k);
    near(assay_obuchowski_harm(k, 4), 0.5, 0, "nothing discordant");
}

/* With clusters of five that flip together, a nominal 5 % test ignoring them is far off; the clustered ones
 * hold. */
static void clustered_tests_hold_their_level(void **state) {
    (void)state;
    assay_rng rng;
    assay_rng_init(&rng, 5);
    int runs = 4000, naive = 0, clustered = 0, missed = 0;
    for (int r = 0; r < runs; r++) {
        assay_cluster_pairs k[80];
        assay_pairs t = {0};
        for (int c = 0; c < 80; c++) {
            int flip = assay_rng_double(&rng) < 0.1, up = flip && assay_rng_double(&rng) < 0.5;
            k[c] = (assay_cluster_pairs){.n = 5, .up = up ? 5 : 0, .down = flip && !up ? 5 : 0};
            t.up += k[c].up;
            t.down += k[c].down;
            t.both += 5 - k[c].up - k[c].down;
        }
        double lo, hi;
        assay_tango_clustered(&lo, &hi, k, 80, 0.95);
        naive += assay_mcnemar_harm_midp(&t) < 0.05;
        clustered += assay_obuchowski_harm(k, 80) < 0.05;
        missed += hi < 0;
    }
    print_message("# 80 clusters of 5, nothing lost, one-sided 5 %%: McNemar %.1f %%, Obuchowski %.1f %%, "
                  "clustered Tango %.1f %%\n",
                  100.0 * naive / runs, 100.0 * clustered / runs, 100.0 * missed / runs);
    assert_true(naive > runs * 0.12);
    assert_true(clustered < runs * 0.065 && missed < runs * 0.065);
}

/* --- means --- */

enum { N = sizeof golden_x / sizeof golden_x[0] };

static void ones(double *d, size_t n) {
    for (size_t i = 0; i < n; i++) d[i] = 1;
}

static void means_match_scipy(void **state) {
    (void)state;
    double den[N], lo, hi;
    ones(den, N);
    near(assay_mean(golden_x, N), golden_mean, 1e-14, "mean");
    near(assay_sd(golden_x, N), golden_sd, 1e-14, "sd");
    assay_estimate e = assay_ratio(golden_x, den, N);
    assay_t_interval(&lo, &hi, &e, 0.95);
    near(lo, golden_t_interval[0], 1e-11, "lower");
    near(hi, golden_t_interval[1], 1e-11, "upper");
    assert_true(isnan(assay_mean(NULL, 0)));
    e = assay_ratio(golden_x, den, 1);
    assay_t_interval(&lo, &hi, &e, 0.95);
    assert_true(isinf(lo) && isinf(hi));
}

static void clustered_error_matches_statsmodels(void **state) {
    (void)state;
    double num[15] = {0}, den[15] = {0};
    for (size_t i = 0; i < N; i++) {
        num[i / 4] += golden_x[i];
        den[i / 4] += 1;
    }
    assay_estimate e = assay_ratio(num, den, 15);
    near(e.value, golden_mean, 1e-14, "mean");
    close_to(e.se, golden_clustered_se, 1e-11, "clustered standard error");
    near(e.df, 14, 0, "degrees of freedom");
}

static void percentiles_match_numpy(void **state) {
    (void)state;
    static const double at[] = {0, 0.001, 0.05, 0.5, 0.777, 0.99, 1};
    double x[N];
    memcpy(x, golden_x, sizeof x);
    for (size_t i = 1; i < N; i++)
        for (size_t j = i; j > 0 && x[j - 1] > x[j]; j--) {
            double t = x[j];
            x[j] = x[j - 1];
            x[j - 1] = t;
        }
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
        near(assay_percentile(x, N, at[i]), golden_percentiles[i], 1e-13, "percentile");
}

static void bootstrap_matches_scipy_and_repeats(void **state) {
    (void)state;
    double den[N], lo, hi, se, lo2, hi2;
    ones(den, N);
    assay_rng rng;
    assay_rng_init(&rng, 1);
    assert_int_equal(assay_cluster_bootstrap(&lo, &hi, &se, golden_x, den, N, 0.95, 100000,
                                             ASSAY_BOOTSTRAP_PERCENTILE, &rng, NULL),
                     0);
    near(lo, golden_boot_percentile[0], 0.005, "percentile lower");
    near(hi, golden_boot_percentile[1], 0.005, "percentile upper");
    near(se, golden_sd / sqrt(N), 0.003, "standard error");
    assert_int_equal(assay_cluster_bootstrap(&lo, &hi, NULL, golden_x, den, N, 0.95, 100000,
                                             ASSAY_BOOTSTRAP_BCA, &rng, NULL),
                     0);
    near(lo, golden_boot_bca[0], 0.005, "BCa lower");
    near(hi, golden_boot_bca[1], 0.005, "BCa upper");
    assay_rng_init(&rng, 9);
    assay_cluster_bootstrap(&lo, &hi, NULL, golden_x, den, N, 0.95, 500, ASSAY_BOOTSTRAP_BCA, &rng, NULL);
    assay_rng_init(&rng, 9);
    assay_cluster_bootstrap(&lo2, &hi2, NULL, golden_x, den, N, 0.95, 500, ASSAY_BOOTSTRAP_BCA, &rng, NULL);
    assert_true(lo == lo2 && hi == hi2);
    assay_err err = {0};
    assert_int_equal(
        assay_cluster_bootstrap(&lo, &hi, NULL, golden_x, den, N, 0.95, 5, ASSAY_BOOTSTRAP_BCA, &rng, &err),
        ASSAY_EINTERNAL);
    assert_int_equal(
        assay_cluster_bootstrap(&lo, &hi, NULL, golden_x, den, 1, 0.95, 500, ASSAY_BOOTSTRAP_BCA, &rng, NULL),
        0);
    assert_true(isinf(lo) && isinf(hi));
}

/* Differences that are all the same have a bootstrap interval of one point, not NaN. */
static void bootstrap_of_a_constant(void **state) {
    (void)state;
    double num[30] = {0}, den[30], lo, hi;
    ones(den, 30);
    assay_rng rng;
    assay_rng_init(&rng, 1);
    assay_cluster_bootstrap(&lo, &hi, NULL, num, den, 30, 0.95, 500, ASSAY_BOOTSTRAP_BCA, &rng, NULL);
    near(lo, 0, 0, "lower");
    near(hi, 0, 0, "upper");
}

/* --- decisions --- */

static void holm_and_bh_match_statsmodels(void **state) {
    (void)state;
    enum { P = sizeof golden_p / sizeof golden_p[0] };
    double a[P + 1], p[P + 1];
    size_t order[P + 1];
    assay_holm(a, golden_p, P, order);
    for (size_t i = 0; i < P; i++) near(a[i], golden_holm[i], 1e-14, "Holm");
    assay_benjamini_hochberg(a, golden_p, P, order);
    for (size_t i = 0; i < P; i++) near(a[i], golden_bh[i], 1e-14, "BH");
    memcpy(p, golden_p, sizeof golden_p);
    p[P] = NAN;
    assay_holm(a, p, P + 1, order);
    for (size_t i = 0; i < P; i++) near(a[i], golden_holm[i], 1e-14, "Holm beside a NaN");
    assert_true(isnan(a[P]));
}

static void three_outcomes(void **state) {
    (void)state;
    assert_int_equal(assay_decide_noninferior(-0.01, 0.03, 0.02), ASSAY_NONINFERIOR);
    assert_int_equal(assay_decide_noninferior(-0.02, 0.03, 0.02), ASSAY_UNDECIDED);
    assert_int_equal(assay_decide_noninferior(-0.09, -0.03, 0.02), ASSAY_INFERIOR);
    assert_int_equal(assay_decide_noninferior(-0.019, -0.001, 0.02),
                     ASSAY_NONINFERIOR); /* a loss, but within the margin */
    assert_int_equal(assay_decide_noninferior(NAN, NAN, 0.02), ASSAY_UNDECIDED);
}

/* 2.486 sqrt(f/n), one-sided 5 %, power 80 %, in points; and the items for non-inferiority at margin m */
static void sample_sizes_match_the_tables(void **state) {
    (void)state;
    static const double n[] = {164, 500, 1000, 1319, 5000, 10042}, f[] = {0.02, 0.05, 0.10};
    static const double mde[3][6] = {{2.75, 1.57, 1.11, 0.97, 0.50, 0.35},
                                     {4.34, 2.49, 1.76, 1.53, 0.79, 0.55},
                                     {6.14, 3.52, 2.49, 2.17, 1.11, 0.78}};
    static const double m[] = {0.01, 0.02, 0.005},
                        items[3][3] = {{1237, 3092, 6183}, {310, 773, 1546}, {4947, 12366, 24731}};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 6; j++)
            near(100 * assay_mde(sqrt(f[i]), n[j], 0.05, 0.8), mde[i][j], 0.0051, "MDE");
        for (int j = 0; j < 3; j++)
            near(ceil(assay_items_noninferior(sqrt(f[j]), 0, m[i], 0.05, 0.8)), items[i][j], 1, "items");
    }
    near(ceil(assay_items_noninferior(sqrt(2 * 0.75 * 0.25), 0, 0.01, 0.05, 0.8)), 23185, 1, "unpaired");
    near(assay_mde_paired(0.05, 1319, 0.05, 0.8), assay_mde(sqrt(0.05), 1319, 0.05, 0.8), 0, "enough flips");
    assert_true(assay_mde_paired(0, 200, 0.05, 0.8) > 0.03); /* no flips seen is not infinite power */
    assert_true(isinf(assay_items_noninferior(0.2, -0.02, 0.02, 0.05, 0.8)));
}

static void power_and_items_are_inverse(void **state) {
    (void)state;
    for (double d = 0.01; d < 0.06; d += 0.01)
        for (double f = d + 0.005; f < 0.2; f += 0.05)
            near(assay_power_harm(f, d, assay_items_harm(f, d, 0.05, 0.8), 0.05), 0.8, 1e-12, "power");
    assert_true(assay_power_harm(0.06, 0.042, 400, 0.05) > assay_power_harm(0.06, 0.042, 200, 0.05));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_quantile_matches_scipy),
        cmocka_unit_test(incomplete_beta_matches_scipy),
        cmocka_unit_test(student_matches_scipy),
        cmocka_unit_test(binomial_matches_scipy),
        cmocka_unit_test(wilson_matches_statsmodels),
        cmocka_unit_test(tango_matches_the_worked_example_and_the_likelihood),
        cmocka_unit_test(tango_stays_useful_without_discordant_pairs),
        cmocka_unit_test(newcombe_matches_the_worked_example),
        cmocka_unit_test(intervals_have_the_right_shape),
        cmocka_unit_test(tango_covers),
        cmocka_unit_test(mcnemar_matches_statsmodels),
        cmocka_unit_test(paired_error_is_the_published_one),
        cmocka_unit_test(singletons_change_nothing),
        cmocka_unit_test(copies_carry_no_information),
        cmocka_unit_test(obuchowski_is_t_on_cluster_sums),
        cmocka_unit_test(clustered_tests_hold_their_level),
        cmocka_unit_test(means_match_scipy),
        cmocka_unit_test(clustered_error_matches_statsmodels),
        cmocka_unit_test(percentiles_match_numpy),
        cmocka_unit_test(bootstrap_matches_scipy_and_repeats),
        cmocka_unit_test(bootstrap_of_a_constant),
        cmocka_unit_test(holm_and_bh_match_statsmodels),
        cmocka_unit_test(three_outcomes),
        cmocka_unit_test(sample_sizes_match_the_tables),
        cmocka_unit_test(power_and_items_are_inverse),
    };
    return cmocka_run_group_tests_name("stat", tests, NULL, NULL);
}
