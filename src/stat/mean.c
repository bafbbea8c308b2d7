/* mean.c: means, ratios, percentiles, bootstrap. Formulas are cited in the header. */
#include "stat/mean.h"

#include <math.h>
#include <stdlib.h>
#include "base/mem.h"
#include "stat/special.h"

double assay_mean(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return n ? sum / (double)n : NAN;
}

double assay_sd(const double *x, size_t n) {
    double mean = assay_mean(x, n), ss = 0;
    if (n < 2) return NAN;
    for (size_t i = 0; i < n; i++) ss += (x[i] - mean) * (x[i] - mean);
    return sqrt(ss / (double)(n - 1));
}

double assay_percentile(const double *sorted, size_t n, double p) {
    if (n == 0 || !(p >= 0 && p <= 1)) return NAN;
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

assay_estimate assay_ratio(const double *num, const double *den, size_t n_units) {
    double sn = 0, sd = 0, ss = 0, c = (double)n_units;
    for (size_t i = 0; i < n_units; i++) {
        sn += num[i];
        sd += den[i];
    }
    assay_estimate e = {.value = sd > 0 ? sn / sd : NAN, .se = NAN, .df = c - 1};
    if (n_units < 2) return e;
    for (size_t i = 0; i < n_units; i++) {
        double r = num[i] - e.value * den[i];
        ss += r * r;
    }
    e.se = sqrt(ss * c / (c - 1)) / sd;
    return e;
}

void assay_t_interval(double *lower, double *upper, const assay_estimate *e, double confidence) {
    double half = e->df > 0 && isfinite(e->se) ? assay_t_quantile(confidence, e->df) * e->se : INFINITY;
    *lower = e->value - half;
    *upper = e->value + half;
}

double assay_t_harm(const assay_estimate *e) {
    if (!(e->df > 0) || !isfinite(e->se)) return NAN;
    if (e->se > 0) return assay_t_cdf(e->value / e->se, e->df);
    return e->value < 0 ? 0 : e->value > 0 ? 1 : 0.5;
}

/* --- bootstrap --- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void replicate(double *out, int replicates, const double *num, const double *den, size_t n,
                      assay_rng *rng) {
    for (int b = 0; b < replicates; b++) {
        double sn = 0, sd = 0;
        for (size_t i = 0; i < n; i++) {
            size_t k = (size_t)assay_rng_below(rng, n);
            sn += num[k];
            sd += den[k];
        }
        out[b] = sd > 0 ? sn / sd : 0;
    }
}

/* Skewness of the jackknife values over six: Efron's acceleration. */
static double acceleration(const double *num, const double *den, size_t n) {
    double sn = 0, sd = 0, mean = 0, s2 = 0, s3 = 0;
    for (size_t i = 0; i < n; i++) {
        sn += num[i];
        sd += den[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (!(sd > den[i])) return 0; /* one unit carries all the weight */
        mean += (sn - num[i]) / (sd - den[i]) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double u = mean - (sn - num[i]) / (sd - den[i]);
        s2 += u * u;
        s3 += u * u * u;
    }
    return s2 > 0 ? s3 / (6 * pow(s2, 1.5)) : 0;
}

/* Where in the sorted replicates the bound for tail probability p lies; ties count half. */
static double bca_level(double p, double z0, double a) {
    double z = z0 + assay_norm_quantile(p);
    return assay_norm_cdf(z0 + z / (1 - a * z));
}

static double share_below(const double *sorted, int n, double value) {
    double below = 0;
    for (int i = 0; i < n && sorted[i] <= value; i++) below += sorted[i] < value ? 1 : 0.5;
    return below / n;
}

assay_status assay_cluster_bootstrap(double *lower, double *upper, double *se, const double *num,
                                     const double *den, size_t n_units, double confidence, int replicates,
                                     assay_bootstrap_kind kind, assay_rng *rng, assay_err *err) {
    double from = 1 - confidence, to = confidence;
    *lower = -INFINITY;
    *upper = INFINITY;
    if (se) *se = NAN;
    if (replicates < 100)
        return assay_fail(err, ASSAY_EINTERNAL, "%d bootstrap replicates are too few", replicates);
    if (n_units < 2) return ASSAY_OK;
    double *r = assay_mallocn((size_t)replicates, sizeof *r);
    if (!r) return assay_nomem(err);
    replicate(r, replicates, num, den, n_units, rng);
    qsort(r, (size_t)replicates, sizeof *r, compare_doubles);
    if (kind == ASSAY_BOOTSTRAP_BCA) {
        double share = share_below(r, replicates, assay_ratio(num, den, n_units).value);
        double edge = 0.5 / replicates; /* all on one side: the bias correction must stay finite */
        double z0 = assay_norm_quantile(fmin(fmax(share, edge), 1 - edge)),
               a = acceleration(num, den, n_units);
        from = bca_level(from, z0, a);
        to = bca_level(to, z0, a);
    }
    *lower = assay_percentile(r, (size_t)replicates, from);
    *upper = assay_percentile(r, (size_t)replicates, to);
    if (se) *se = assay_sd(r, (size_t)replicates);
    assay_free(r);
    return ASSAY_OK;
}
