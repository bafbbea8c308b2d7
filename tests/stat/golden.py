"""Makes golden.h: values of SciPy, statsmodels and independent numerical definitions, to hold src/stat against.

    python golden.py > golden.h        (needs scipy, statsmodels)
"""
import numpy as np, scipy, statsmodels
import statsmodels.api as sm
from scipy import stats, special, optimize
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

print(f"/* golden.h: made by golden.py with SciPy {scipy.__version__}, statsmodels {statsmodels.__version__}, NumPy {np.__version__}. */")


def table(name, rows):
    print(f"static const double {name}[][{len(rows[0])}] = {{")
    for r in rows:
        print("    {" + ", ".join(repr(float(v)) for v in r) + "},")
    print("};")


def vector(name, v):
    print(f"static const double {name}[] = {{" + ", ".join(repr(float(x)) for x in v) + "};")


ps = [1e-300, 1e-20, 1e-9, 1e-4, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.975, 0.999, 1 - 1e-9]
table("golden_norm", [(p, stats.norm.ppf(p)) for p in ps])
table("golden_beta", [(a, b, x, special.betainc(a, b, x)) for a, b in [(0.5, 0.5), (2, 3), (15, 0.5), (300, 200), (5000, 5001), (1, 1e4)]
                      for x in [1e-5, 0.1, 0.5, 0.6, 0.97]])
table("golden_t", [(t, df, stats.t.cdf(t, df)) for df in [1, 2, 4, 19, 399, 1e6] for t in [-40, -3, -0.5, 0.1, 2.5]])
table("golden_t_quantile", [(p, df, stats.t.ppf(p, df)) for df in [1, 2, 3, 15, 399, 1e6] for p in [1e-4, 0.05, 0.4, 0.8, 0.95, 0.999]])
table("golden_binom", [(k, n, p, stats.binom.pmf(k, n, p), stats.binom.cdf(k, n, p))
                       for n in [1, 5, 40, 1000, 12032] for p in [0.5, 0.02] for k in sorted({0, n // 7, n // 2, n})])
table("golden_wilson", [(k, n, *proportion_confint(k, n, alpha=0.1, method="wilson")) for k, n in [(0, 20), (3, 20), (20, 20), (989, 1319)]])


def mc(down, up):
    m, k = down + up, min(down, up)
    two = mcnemar([[0, down], [up, 0]], exact=True).pvalue
    mid = min(1, two - stats.binom.pmf(k, m, 0.5)) if m else 1.0
    harm = stats.binom.sf(down - 1, m, 0.5) if m else 1.0
    return two, mid, harm, harm - 0.5 * stats.binom.pmf(down, m, 0.5)


print("/* down, up, exact, mid-p, one-sided harm, its mid-p. At down == up the two-sided mid-p is 1 - P(X = k), as defined. */")
table("golden_mcnemar", [(d, u, *mc(d, u)) for d, u in [(12, 2), (2, 12), (66, 53), (5, 0), (1, 0), (700, 640)]])


def tango(up, down, n, z):
    """Score interval with the restricted likelihood maximised by SciPy: knows nothing of Tango's closed form for the estimate."""
    def score(delta):
        lo, hi = max(0.0, -delta), (1 - delta) / 2
        nll = lambda q: -(special.xlogy(down, q) + special.xlogy(up, q + delta) + special.xlogy(n - up - down, 1 - 2 * q - delta))
        q = optimize.minimize_scalar(nll, bounds=(lo, hi), method="bounded", options={"xatol": 1e-15}).x
        return (up - down - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))
    d = (up - down) / n
    return (optimize.brentq(lambda x: score(x) - z, -1 + 1e-9, d, xtol=1e-13), optimize.brentq(lambda x: score(x) + z, d, 1 - 1e-9, xtol=1e-13))


z95 = stats.norm.ppf(0.95)
table("golden_tango", [(u, d, n, z, *tango(u, d, n, z)) for u, d, n, z in
                       [(12, 2, 50, stats.norm.ppf(0.975)), (2, 12, 50, z95), (53, 66, 1319, z95), (3, 7, 200, z95), (0, 5, 200, z95), (20, 20, 40, z95)]])

rng = np.random.default_rng(7)
x = np.round(rng.gamma(0.7, 1.0, 60) - 0.8, 3)
c = np.repeat(np.arange(15), 4)
fit = sm.OLS(x, np.ones((60, 1))).fit(cov_type="cluster", cov_kwds={"groups": c})
vector("golden_x", x)
print(f"static const double golden_mean = {float(x.mean())!r}, golden_sd = {float(x.std(ddof=1))!r}, golden_clustered_se = {float(fit.bse[0])!r};")
ci = stats.t.interval(0.9, 59, x.mean(), stats.sem(x))
print(f"static const double golden_t_interval[2] = {{{float(ci[0])!r}, {float(ci[1])!r}}};")
vector("golden_percentiles", np.percentile(x, [0, 0.1, 5, 50, 77.7, 99, 100]))
boot = {m: stats.bootstrap((x,), np.mean, confidence_level=0.9, n_resamples=200000, method=m, rng=np.random.default_rng(1)).confidence_interval
        for m in ("percentile", "BCa")}
for m, b in boot.items():
    print(f"static const double golden_boot_{m.lower()}[2] = {{{float(b.low)!r}, {float(b.high)!r}}}; /* 200,000 resamples */")
p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.03, 0.9, 0.0001]
vector("golden_p", p)
vector("golden_holm", multipletests(p, method="holm")[1])
vector("golden_bh", multipletests(p, method="fdr_bh")[1])
