/* decide.c: from bounds and p values to decisions and sample sizes. Formulas are cited in the header. */
#include "stat/decide.h"

#include <math.h>
#include "stat/special.h"

assay_noninferiority assay_decide_noninferior(double lower, double upper, double margin) {
    if (lower > -margin) return ASSAY_NONINFERIOR;
    if (upper < -margin) return ASSAY_INFERIOR;
    return ASSAY_UNDECIDED;
}

/* Indices of p in ascending order, NaN left out; returns how many. Shell sort: no scratch beyond order, n is
 * small. */
static size_t ascending(size_t *order, const double *p, size_t n) {
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(p[i])) order[m++] = i;
    for (size_t gap = m / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < m; i++) {
            size_t x = order[i], j = i;
            for (;
                 j >= gap && (p[order[j - gap]] > p[x] || (p[order[j - gap]] == p[x] && order[j - gap] > x));
                 j -= gap)
                order[j] = order[j - gap];
            order[j] = x;
        }
    }
    return m;
}

void assay_holm(double *adjusted, const double *p, size_t n, size_t *order) {
    size_t m = ascending(order, p, n);
    double least = 0;
    for (size_t i = 0; i < n; i++) adjusted[i] = NAN;
    for (size_t i = 0; i < m; i++) {
        least = fmax(least, fmin(1, (double)(m - i) * p[order[i]]));
        adjusted[order[i]] = least;
    }
}

void assay_benjamini_hochberg(double *adjusted, const double *p, size_t n, size_t *order) {
    size_t m = ascending(order, p, n);
    double most = 1;
    for (size_t i = 0; i < n; i++) adjusted[i] = NAN;
    for (size_t i = m; i-- > 0;) {
        most = fmin(most, p[order[i]] * (double)m / (double)(i + 1));
        adjusted[order[i]] = most;
    }
}

static double z_sum(double alpha, double power) {
    return assay_norm_quantile(1 - alpha) + assay_norm_quantile(power);
}

double assay_mde(double sd, double n, double alpha, double power) {
    return n > 0 ? z_sum(alpha, power) * sd / sqrt(n) : NAN;
}

double assay_mde_paired(double flip_rate, double n, double alpha, double power) {
    double z = z_sum(alpha, power);
    return n > 0 ? fmin(1, fmax(z * sqrt(flip_rate / n), z * z / n)) : NAN;
}

double assay_items_noninferior(double sd, double diff, double margin, double alpha, double power) {
    double z = z_sum(alpha, power), gap = diff + margin;
    return gap != 0 ? z * z * sd * sd / (gap * gap) : INFINITY;
}

double assay_items_harm(double flip_rate, double d, double alpha, double power) {
    double za = assay_norm_quantile(1 - alpha), zb = assay_norm_quantile(power);
    if (d == 0) return INFINITY;
    double root = za * sqrt(flip_rate) + zb * sqrt(fmax(0, flip_rate - d * d));
    return root * root / (d * d);
}

double assay_power_harm(double flip_rate, double d, double n, double alpha) {
    double sd = sqrt(flip_rate - d * d),
           shift = fabs(d) * sqrt(n) - assay_norm_quantile(1 - alpha) * sqrt(flip_rate);
    if (!(sd > 0)) return shift > 0 ? 1 : 0;
    return assay_norm_cdf(shift / sd);
}
