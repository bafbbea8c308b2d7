/* stat/special.h: the distribution functions that libm lacks. All are pure; arguments outside the domain give
 * NaN. */
#ifndef ASSAY_STAT_SPECIAL_H
#define ASSAY_STAT_SPECIAL_H

double assay_norm_cdf(double x);
double assay_norm_quantile(double p);                /* p in (0,1); 0 and 1 give -inf and inf */
double assay_beta_inc(double a, double b, double x); /* regularised I_x(a,b); a, b > 0, x in [0,1] */
double assay_t_cdf(double t, double df);             /* Student's t, df > 0; df may be infinite */
double assay_t_quantile(double p, double df);
/* X ~ Binomial(n, p). k and n are whole numbers held in doubles. */
double assay_binom_pmf(double k, double n, double p);
double assay_binom_cdf(double k, double n, double p); /* P(X <= k) */

#endif
