/* stat/paired.h: right/wrong outcomes of the same items under two models, and single proportions.
 *
 *                 variant right   variant wrong
 *   base right         both            down          d = (up - down) / n is the difference variant - baseline
 *   base wrong          up            neither
 *
 * Counts are doubles: whole numbers, or effective counts where clusters make items less than independent.
 * `z` is the quantile of each bound: assay_norm_quantile(0.95) gives two one-sided 95 % bounds, together a 90
 * % interval. */
#ifndef ASSAY_STAT_PAIRED_H
#define ASSAY_STAT_PAIRED_H

#include <stddef.h>

typedef struct assay_pairs {
    double both, up, down, neither;
} assay_pairs;

double assay_pairs_n(const assay_pairs *t);
double assay_pairs_diff(const assay_pairs *t);
/* Variance of d on n - 1: (f - d^2) / (n - 1), f = (up + down) / n. */
double assay_pairs_var(const assay_pairs *t);

/* Score interval of one proportion (Wilson 1927). */
void assay_wilson(double *lower, double *upper, double k, double n, double z);
/* Score interval of d with the restricted maximum likelihood estimate (Tango 1998, Statistics in Medicine
 * 17:891), solved numerically. Never degenerate: no discordant pair gives +-z^2/(n+z^2). n = 0 gives (-1, 1). */
void assay_tango(double *lower, double *upper, const assay_pairs *t, double z);
/* Newcombe 1998 (Statistics in Medicine 17:2635), method 10: square-and-add of Wilson limits with phi,
 * continuity corrected. */
void assay_newcombe10(double *lower, double *upper, const assay_pairs *t, double z);

/* McNemar's test on the discordant pairs, X ~ Bin(up + down, 1/2). Without any, p is 1 (mid-p one-sided:
 * 1/2). */
double assay_mcnemar_exact(const assay_pairs *t); /* two-sided, 2 * P(X <= min), at most 1 */
double assay_mcnemar_midp(const assay_pairs *t);  /* two-sided: exact - P(X = min) (Fagerland et al. 2013) */
double assay_mcnemar_harm(const assay_pairs *t);  /* one-sided, harm: P(X >= down) */
double assay_mcnemar_harm_midp(const assay_pairs *t); /* P(X > down) + P(X = down) / 2 */

/* Clusters of items that are not independent: per cluster its items, ups and downs. */
typedef struct assay_cluster_pairs {
    double n, up, down;
} assay_cluster_pairs;
/* How much larger the variance of d is than for independent items, at least 1 (Rao & Scott 1992). Without a
 * discordant pair nothing can be estimated: sum(n_k^2) / n, the value for clusters whose items all go
 * together. */
double assay_pairs_design_effect(const assay_cluster_pairs *k, size_t n_clusters);
/* Tango's interval on counts divided by the design effect, with t on n_clusters - 1 degrees for z. confidence
 * is one-sided. */
void assay_tango_clustered(double *lower, double *upper, const assay_cluster_pairs *k, size_t n_clusters,
                           double confidence);
/* Clustered McNemar (Obuchowski 1998), T = sum d_k / sqrt(sum d_k^2) against t: one-sided for harm; 1/2
 * without discordant pairs. */
double assay_obuchowski_harm(const assay_cluster_pairs *k, size_t n_clusters);

#endif
