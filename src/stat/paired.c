/* paired.c: intervals and tests for paired right/wrong outcomes. Formulas are cited in the header. */
#include "stat/paired.h"

#include <math.h>
#include "stat/special.h"

double assay_pairs_n(const assay_pairs *t) {
    return t->both + t->up + t->down + t->neither;
}

double assay_pairs_diff(const assay_pairs *t) {
    return (t->up - t->down) / assay_pairs_n(t);
}

double assay_pairs_var(const assay_pairs *t) {
    double n = assay_pairs_n(t), d = assay_pairs_diff(t);
    return fmax(0, (t->up + t->down) / n - d * d) / (n - 1);
}

void assay_wilson(double *lower, double *upper, double k, double n, double z) {
    if (!(n > 0)) {
        *lower = 0;
        *upper = 1;
        return;
    }
    double p = k / n, z2 = z * z;
    double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    double half = z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    *lower = k <= 0 ? 0 : fmax(0, centre - half);
    *upper = k >= n ? 1 : fmin(1, centre + half);
}

/* Tango's score statistic for the difference delta. The restricted estimate q of P(down) is the larger root
 * of 2n q^2 + B q + C = 0; it is taken in the form that does not cancel. */
static double tango_score(double up, double down, double n, double delta) {
    double num = up - down - n * delta;
    double a = 2 * n, b = -up - down + (2 * n - up + down) * delta, c = -down * delta * (1 - delta);
    double root = sqrt(fmax(0, b * b - 4 * a * c));
    double q = b > 0 ? -2 * c / (b + root) : (root - b) / (2 * a);
    double var = n * (2 * q + delta * (1 - delta));
    if (!(var > 0)) return num > 0 ? INFINITY : num < 0 ? -INFINITY : 0;
    return num / sqrt(var);
}

/* The delta in [lo, hi] where the score, which falls as delta grows, equals z. */
static double tango_solve(double up, double down, double n, double z, double lo, double hi) {
    for (int i = 0; i < 100 && hi - lo > 1e-15; i++) {
        double mid = 0.5 * (lo + hi);
        if (tango_score(up, down, n, mid) > z) lo = mid;
        else
            hi = mid;
    }
    return 0.5 * (lo + hi);
}

static void tango_counts(double *lower, double *upper, double up, double down, double n, double z) {
    if (!(n > 0) || !isfinite(z)) {
        *lower = -1;
        *upper = 1;
        return;
    }
    double d = (up - down) / n;
    *lower = tango_solve(up, down, n, z, -1, d);
    *upper = tango_solve(up, down, n, -z, d, 1);
}

void assay_tango(double *lower, double *upper, const assay_pairs *t, double z) {
    tango_counts(lower, upper, t->up, t->down, assay_pairs_n(t), z);
}

static double newcombe_phi(const assay_pairs *t, double n) {
    double r1 = t->both + t->down, r2 = t->up + t->neither, c1 = t->both + t->up, c2 = t->down + t->neither;
    double margin = r1 * r2 * c1 * c2, x = t->both * t->neither - t->up * t->down;
    if (!(margin > 0)) return 0;
    if (x > 0) x = fmax(0, x - n / 2);
    return x / sqrt(margin);
}

void assay_newcombe10(double *lower, double *upper, const assay_pairs *t, double z) {
    double n = assay_pairs_n(t), lv, uv, lb, ub;
    if (!(n > 0)) {
        *lower = -1;
        *upper = 1;
        return;
    }
    double pv = (t->both + t->up) / n, pb = (t->both + t->down) / n, phi = newcombe_phi(t, n);
    assay_wilson(&lv, &uv, t->both + t->up, n, z);
    assay_wilson(&lb, &ub, t->both + t->down, n, z);
    double dl = pv - lv, du = uv - pv, el = pb - lb, eu = ub - pb, d = pv - pb;
    *lower = fmax(-1, d - sqrt(fmax(0, dl * dl - 2 * phi * dl * eu + eu * eu)));
    *upper = fmin(1, d + sqrt(fmax(0, du * du - 2 * phi * du * el + el * el)));
}

double assay_mcnemar_exact(const assay_pairs *t) {
    return fmin(1, 2 * assay_binom_cdf(fmin(t->up, t->down), t->up + t->down, 0.5));
}

double assay_mcnemar_midp(const assay_pairs *t) {
    double m = t->up + t->down, k = fmin(t->up, t->down);
    return fmin(1, 2 * assay_binom_cdf(k, m, 0.5) - assay_binom_pmf(k, m, 0.5));
}

double assay_mcnemar_harm(const assay_pairs *t) {
    /* P(X >= down) = P(X <= up) by symmetry */
    return assay_binom_cdf(t->up, t->up + t->down, 0.5);
}

double assay_mcnemar_harm_midp(const assay_pairs *t) {
    return assay_mcnemar_harm(t) - 0.5 * assay_binom_pmf(t->up, t->up + t->down, 0.5);
}

/* --- clusters --- */

static assay_cluster_pairs cluster_totals(const assay_cluster_pairs *k, size_t n_clusters, double *squares) {
    assay_cluster_pairs sum = {0};
    *squares = 0;
    for (size_t i = 0; i < n_clusters; i++) {
        sum.n += k[i].n;
        sum.up += k[i].up;
        sum.down += k[i].down;
        *squares += k[i].n * k[i].n;
    }
    return sum;
}

double assay_pairs_design_effect(const assay_cluster_pairs *k, size_t n_clusters) {
    double squares, c = (double)n_clusters;
    assay_cluster_pairs sum = cluster_totals(k, n_clusters, &squares);
    if (!(sum.n > 0) || squares <= sum.n) return 1; /* every item is its own cluster */
    double d = (sum.up - sum.down) / sum.n, f = (sum.up + sum.down) / sum.n,
           independent = (f - d * d) / (sum.n - 1);
    if (n_clusters < 2 || !(independent > 0)) return squares / sum.n;
    double ss = 0;
    for (size_t i = 0; i < n_clusters; i++) {
        double r = k[i].up - k[i].down - d * k[i].n;
        ss += r * r;
    }
    return fmax(1, ss * c / (c - 1) / (sum.n * sum.n) / independent);
}

void assay_tango_clustered(double *lower, double *upper, const assay_cluster_pairs *k, size_t n_clusters,
                           double confidence) {
    double squares, deff = assay_pairs_design_effect(k, n_clusters);
    assay_cluster_pairs sum = cluster_totals(k, n_clusters, &squares);
    double q = n_clusters > 1 ? assay_t_quantile(confidence, (double)n_clusters - 1) : INFINITY;
    tango_counts(lower, upper, sum.up / deff, sum.down / deff, sum.n / deff, q);
}

double assay_obuchowski_harm(const assay_cluster_pairs *k, size_t n_clusters) {
    double sum = 0, ss = 0;
    for (size_t i = 0; i < n_clusters; i++) {
        double d = k[i].up - k[i].down;
        sum += d;
        ss += d * d;
    }
    if (n_clusters < 2 || !(ss > 0)) return 0.5;
    return assay_t_cdf(sum / sqrt(ss), (double)n_clusters - 1);
}
