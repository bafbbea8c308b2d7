/* stat/decide.h: non-inferiority, multiplicity, and how many items a question takes. */
#ifndef ASSAY_STAT_DECIDE_H
#define ASSAY_STAT_DECIDE_H

#include <stddef.h>

typedef enum assay_noninferiority {
    ASSAY_NONINFERIOR, /* lower > -margin */
    ASSAY_INFERIOR,    /* upper < -margin */
    ASSAY_UNDECIDED
} assay_noninferiority;
/* lower and upper are one-sided bounds of the difference (negative = worse). NaN bounds are undecided. */
assay_noninferiority assay_decide_noninferior(double lower, double upper, double margin);

/* Adjusted p values in the input's order; order[n] is scratch. Holm (1979) controls the chance of any false
 * alarm whatever the dependence; Benjamini & Hochberg (1995) the expected share of false ones. NaN stays NaN
 * and is not counted. */
void assay_holm(double *adjusted, const double *p, size_t n, size_t *order);
void assay_benjamini_hochberg(double *adjusted, const double *p, size_t n, size_t *order);

/* sd is of one item's difference: sqrt(f - d^2), or sqrt(f) for rare flips; alpha is one-sided. n may be
 * fractional; round up to use. */
/* Smallest difference found with `power`: (z_alpha + z_power) sd / sqrt(n). */
double assay_mde(double sd, double n, double alpha, double power);
/* For right/wrong outcomes with flip rate f: a loss d cannot come with fewer than d flips, so never below the
 * d whose f is d itself. */
double assay_mde_paired(double flip_rate, double n, double alpha, double power);
/* Items to show non-inferiority when the true difference is `diff` (> -margin), or inferiority when it is
 * below: (z_a + z_b)^2 sd^2 / (diff + margin)^2. Infinite when diff = -margin. */
double assay_items_noninferior(double sd, double diff, double margin, double alpha, double power);
/* Items to find a loss of |d| by McNemar's test (Connor 1987): ((z_a sqrt(f) + z_b sqrt(f - d^2)) / d)^2. */
double assay_items_harm(double flip_rate, double d, double alpha, double power);
/* Power of that test with n items (the same formula, solved for power). */
double assay_power_harm(double flip_rate, double d, double n, double alpha);

#endif
