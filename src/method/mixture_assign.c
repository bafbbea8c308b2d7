/* mixture_assign.c: the multiple-choice knapsack behind a mixture: one candidate per unit, bits within the budget, least divergence.
 *
 * Dynamic programming over bits in steps of 1 / STEPS of the budget: best[b] is the least divergence of the units so far in b steps. Sizes
 * are rounded up to steps, so a solution always fits; what the rounding left over is spent afterwards, one unit at a time, where it
 * helps most per bit. Ties go to the smaller candidate. */
#include <math.h>
#include "base/mem.h"
#include "method/mixture.h"

#define STEPS 20000

static bool is_possible(const assay_mixture_unit *u, size_t c) {
    return u->kl[c] >= 0;
}

static double least_bits(const assay_mixture *m, const assay_mixture_unit *u) {
    double least = INFINITY;
    for (size_t c = 0; c < m->n_candidates; c++)
        if (is_possible(u, c)) least = fmin(least, u->bits[c]);
    return least;
}

/* One unit more: best and the candidate that led there. */
static void add_unit(const assay_mixture *m, const assay_mixture_unit *u, const double *before, double *best, uint8_t *choice, double step) {
    for (size_t b = 0; b <= STEPS; b++) {
        best[b] = INFINITY;
        choice[b] = 0;
    }
    for (size_t c = 0; c < m->n_candidates; c++) {
        if (!is_possible(u, c)) continue;
        double need = ceil(u->bits[c] / step - 1e-9);
        if (need > STEPS) continue;
        size_t n = (size_t)need;
        for (size_t b = n; b <= STEPS; b++) {
            double kl = before[b - n] + u->kl[c];
            bool better = kl < best[b] || (kl == best[b] && isfinite(kl) && u->bits[c] < u->bits[choice[b]]);
            if (better) {
                best[b] = kl;
                choice[b] = (uint8_t)c;
            }
        }
    }
}

/* Where the rounding of sizes left room. */
static void spend_rest(assay_mixture *m) {
    for (;;) {
        assay_mixture_unit *unit = NULL;
        int to = 0;
        double best = 0, rest = m->budget_bits - m->used_bits;
        for (size_t i = 0; i < m->n_units; i++)
            for (size_t c = 0; c < m->n_candidates; c++) {
                assay_mixture_unit *u = &m->units[i];
                double more = u->bits[c] - u->bits[u->chosen], gain = u->kl[u->chosen] - u->kl[c];
                if (!is_possible(u, c) || gain <= 0 || more > rest) continue;
                double rate = more > 0 ? gain / more : INFINITY;
                if (rate > best) {
                    best = rate;
                    unit = u;
                    to = (int)c;
                }
            }
        if (!unit) return;
        m->used_bits += unit->bits[to] - unit->bits[unit->chosen];
        m->predicted_kl += unit->kl[to] - unit->kl[unit->chosen];
        unit->chosen = to;
    }
}

assay_status assay_mixture_assign(assay_mixture *m, bool *feasible, assay_err *err) {
    double least = 0, most = 0;
    for (size_t i = 0; i < m->n_units; i++) {
        double top = 0;
        for (size_t c = 0; c < m->n_candidates; c++)
            if (is_possible(&m->units[i], c)) top = fmax(top, m->units[i].bits[c]);
        least += least_bits(m, &m->units[i]);
        most += top;
    }
    *feasible = least <= m->budget_bits * (1 + 1e-12);
    if (!*feasible) return ASSAY_OK;
    double budget = fmin(m->budget_bits, most), step = budget / STEPS;
    double *best = assay_mallocn(2 * (STEPS + 1), sizeof *best);
    uint8_t *choice = assay_mallocn(m->n_units, STEPS + 1);
    assay_status s = best && choice ? ASSAY_OK : assay_nomem(err);
    if (s != ASSAY_OK) goto out;
    double *from = best, *to = best + STEPS + 1;
    for (size_t b = 0; b <= STEPS; b++)
        from[b] = 0;
    for (size_t i = 0; i < m->n_units; i++) {
        add_unit(m, &m->units[i], from, to, choice + i * (STEPS + 1), step);
        double *t = from;
        from = to;
        to = t;
    }
    m->used_bits = m->predicted_kl = 0;
    bool rounded_out = !isfinite(from[STEPS]); /* a budget so near the least that rounding up does not fit */
    size_t b = STEPS;
    for (size_t i = m->n_units; i-- > 0;) {
        assay_mixture_unit *u = &m->units[i];
        u->chosen = rounded_out ? 0 : choice[i * (STEPS + 1) + b];
        for (size_t c = 0; rounded_out && c < m->n_candidates; c++)
            if (is_possible(u, c) && u->bits[c] == least_bits(m, u)) u->chosen = (int)c;
        if (!rounded_out) b -= (size_t)ceil(u->bits[u->chosen] / step - 1e-9);
        m->used_bits += u->bits[u->chosen];
        m->predicted_kl += u->kl[u->chosen];
    }
    spend_rest(m);
out:
    assay_free(best);
    assay_free(choice);
    return s;
}
