/* stat/mean.h: means, their standard errors (also clustered), percentiles, and the cluster bootstrap.
 *
 * A weighted mean, a mean over clusters and a ratio of two means are one thing: r = sum(num_k) / sum(den_k)
 * over independent units k. Plain mean of n independent values: num = x, den = 1. Clustered: num = the
 * cluster's sum, den = its count. Weighted: w x and w. */
#ifndef ASSAY_STAT_MEAN_H
#define ASSAY_STAT_MEAN_H

#include <stddef.h>
#include "base/rng.h"
#include "base/status.h"

double assay_mean(const double *x, size_t n); /* NaN when n is 0 */
double assay_sd(const double *x, size_t n);   /* n - 1; NaN below two values */
/* Linear interpolation at p * (n - 1), p in [0,1], of sorted values (NumPy's default, llama.cpp's
 * percentiles). NaN when n is 0. */
double assay_percentile(const double *sorted, size_t n, double p);

typedef struct assay_estimate {
    double value;
    double se; /* standard error; NaN below two units */
    double df; /* units - 1 */
} assay_estimate;
/* Standard error sqrt(C/(C-1) * sum_k (num_k - r den_k)^2) / sum(den): the clustered error of Inspect and of
 * Miller (2024, arXiv 2411.00640) for means, the linearised one (Cochran 1977, section 6.4) for ratios;
 * sd/sqrt(n) when every den is 1. */
assay_estimate assay_ratio(const double *num, const double *den, size_t n_units);
/* value -+ t quantile * se; confidence is of each bound. Infinite when se cannot be estimated. */
void assay_t_interval(double *lower, double *upper, const assay_estimate *e, double confidence);
/* P(T <= value / se): one-sided p for "the true value is below 0". 1/2 when value and se are both 0. */
double assay_t_harm(const assay_estimate *e);

typedef enum assay_bootstrap_kind { ASSAY_BOOTSTRAP_PERCENTILE, ASSAY_BOOTSTRAP_BCA } assay_bootstrap_kind;
/* Resamples units with replacement, `replicates` times (>= 100), and takes the interval with one-sided
 * `confidence` at each end: percentile, or bias-corrected and accelerated (Efron 1987) with the jackknife's
 * acceleration. *se (may be NULL) is the replicates' sd. The result depends on the data and rng alone. Fewer
 * than two units give infinite bounds. */
assay_status assay_cluster_bootstrap(double *lower, double *upper, double *se, const double *num,
                                     const double *den, size_t n_units, double confidence, int replicates,
                                     assay_bootstrap_kind kind, assay_rng *rng, assay_err *err);

#endif
