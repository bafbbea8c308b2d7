/* limits.c: what a mean score cannot show: longer answers, cut ones, unreadable ones, failures of the
 * runtime, other top-1 tokens.
 *
 * The length ratio is that of mean output tokens over the items that both sides answered, with a linearised
 * standard error (Cochran 1977, 6.4): it passes when its upper bound is within the limit and fails when its
 * lower bound is above. The rates are plain shares of the variant's items: they are exact, not estimates of
 * something, and need no interval. */
#include <math.h>
#include "gate/rows.h"
#include "stat/mean.h"

static assay_gate_limit no_limit(void) {
    return (assay_gate_limit){
        .value = NAN, .lower = NAN, .upper = NAN, .limit = NAN, .verdict = ASSAY_VERDICT_INFO};
}

static assay_gate_limit rate_limit(size_t count, size_t n, double limit, assay_verdict when_above) {
    assay_gate_limit l = no_limit();
    l.value = l.lower = l.upper = n ? (double)count / (double)n : 0;
    l.limit = limit;
    if (!isnan(limit)) l.verdict = l.value > limit ? when_above : ASSAY_VERDICT_PASS;
    return l;
}

/* Ratio of means num/den with bounds, judged against a limit from above. Units are items: lengths are far
 * from as clustered as scores. */
static void ratio_limit(assay_gate_limit *l, const double *num, const double *den, size_t n, double limit,
                        double confidence) {
    assay_estimate e = assay_ratio(num, den, n);
    l->value = e.value;
    assay_t_interval(&l->lower, &l->upper, &e, confidence);
    l->limit = limit;
    if (isnan(limit) || isnan(l->value)) return;
    l->verdict = l->upper <= limit  ? ASSAY_VERDICT_PASS
                 : l->lower > limit ? ASSAY_VERDICT_FAIL
                                    : ASSAY_VERDICT_INCONCLUSIVE;
}

static void length_limit(assay_gate_row *row, const gate_input *in, const gate_group *g, double *num,
                         double *den) {
    size_t n = 0;
    double sum_b = 0, sum_v = 0;
    for (size_t i = 0; i < g->n; i++) {
        const assay_record *b = &in->base[g->items[i]], *v = &in->cand[g->items[i]];
        if (!gate_is_paired(b, v)) continue;
        num[n] = (double)v->n_output;
        den[n] = (double)b->n_output;
        sum_v += num[n];
        sum_b += den[n++];
    }
    row->base_tokens = n && sum_b + sum_v > 0 ? sum_b / (double)n : NAN;
    row->cand_tokens = n && sum_b + sum_v > 0 ? sum_v / (double)n : NAN;
    if (sum_b > 0)
        ratio_limit(&row->length, num, den, n, in->policy->max_output_length_ratio, in->policy->confidence);
}

static void agreement_limit(assay_gate_row *row, const gate_input *in, const gate_group *g, double *num,
                            double *den) {
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        const assay_record *b = &in->base[g->items[i]], *v = &in->cand[g->items[i]];
        if (!gate_is_paired(b, v) || isnan(v->aux)) continue;
        den[n] = v->weight > 0 ? v->weight : 1;
        num[n] = den[n] * (1 - v->aux);
        n++;
    }
    if (n) ratio_limit(&row->agreement, num, den, n, in->policy->agreement_margin, in->policy->confidence);
}

assay_status gate_limits(assay_gate_row *row, const gate_input *in, const gate_group *g, assay_err *err) {
    const assay_policy *p = in->policy;
    size_t errors = 0;
    for (size_t i = 0; i < g->n; i++)
        errors += !gate_is_paired(&in->base[g->items[i]], &in->cand[g->items[i]]);
    row->truncated = rate_limit(row->cand.truncated, g->n, p->max_truncated_rate, ASSAY_VERDICT_FAIL);
    row->invalid = rate_limit(row->cand.invalid, g->n, p->max_invalid_rate, ASSAY_VERDICT_FAIL);
    row->errors = rate_limit(errors, g->n, p->max_error_rate, ASSAY_VERDICT_INCONCLUSIVE);
    row->length = row->agreement = no_limit();
    row->base_tokens = row->cand_tokens = NAN;
    double *num = assay_mallocn(g->n, sizeof *num), *den = assay_mallocn(g->n, sizeof *den);
    assay_status s = num && den ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK && row->metric <= ASSAY_METRIC_SCORE) length_limit(row, in, g, num, den);
    if (s == ASSAY_OK && row->metric == ASSAY_METRIC_KL) agreement_limit(row, in, g, num, den);
    assay_free(num);
    assay_free(den);
    return s;
}
