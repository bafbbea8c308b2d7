/* judge.c: from numbers to a verdict with its reason, waivers, and how many items would settle what is open.
 *
 * Why a significant loss alone does not fail. With enough items any quantization loses something measurable;
 * the margin says how much is acceptable. So a row fails when its loss is shown to be larger than the margin
 * (upper bound below), or when harm is significant across the whole family (Holm) and the best estimate of
 * the loss is beyond the margin; a significant but small harm is an alarm, shown, and passes. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "gate/rows.h"
#include "stat/decide.h"
#include "stat/special.h"

#define MOST_ITEMS 1e9 /* more is "no number of items" */

static const char *const verdict_names[] = {"pass", "fail", "inconclusive", "waived", "info"};
static const char *const metric_names[ASSAY_METRIC_COUNT] = {"accuracy", "score", "perplexity", "kl"};

const char *assay_verdict_name(assay_verdict v) {
    return (size_t)v < ASSAY_LEN(verdict_names) ? verdict_names[v] : "?";
}

const char *assay_metric_name(assay_metric m) {
    return (size_t)m < ASSAY_LEN(metric_names) ? metric_names[m] : "?";
}

/* --- margins --- */

static double general_margin(const assay_policy *p, const assay_gate_row *row) {
    switch (row->metric) {
    case ASSAY_METRIC_PERPLEXITY: return p->perplexity_margin;
    case ASSAY_METRIC_KL: return p->kl_margin;
    default: return row->slice ? p->slice_margin : p->margin;
    }
}

/* The most special rule: the slice by name, then the dimension's slices, or the dimension; for perplexity and
 * KL a dimension's rule holds for its slices as well. */
static double row_margin(const assay_policy *p, const assay_gate_row *row) {
    double margin = general_margin(p, row);
    int best = 0;
    for (size_t i = 0; i < p->n_rules; i++) {
        const assay_margin_rule *m = &p->rules[i];
        if (strcmp(m->dimension, row->dimension) != 0) continue;
        int rank = 0;
        if (!m->for_slices) rank = !row->slice || row->metric > ASSAY_METRIC_SCORE ? 1 : 0;
        else if (!m->slice)
            rank = row->slice ? 2 : 0;
        else
            rank = row->slice && strcmp(m->slice, row->slice) == 0 ? 3 : 0;
        if (rank > best) {
            best = rank;
            margin = m->margin;
        }
    }
    return row->metric == ASSAY_METRIC_PERPLEXITY ? log1p(margin) : margin;
}

void gate_set_margin(assay_gate_row *row, const assay_policy *p) {
    row->margin = row_margin(p, row);
}

/* --- reasons --- */

/* A difference as a person reads it: points, a relative change of perplexity, nats. */
static const char *amount(char *buf, size_t n, const assay_gate_row *row, double d) {
    switch (row->metric) {
    case ASSAY_METRIC_PERPLEXITY: snprintf(buf, n, "%.3g %%", 100 * expm1(d)); break;
    case ASSAY_METRIC_KL: snprintf(buf, n, "%.4f nats", d); break;
    default: snprintf(buf, n, "%.2f pt", 100 * d); break;
    }
    return buf;
}

static void write_reason(assay_str *out, const assay_gate_row *row, const assay_policy *p) {
    char a[48], b[48], m[48];
    const char *verb = row->metric > ASSAY_METRIC_SCORE ? "rises by" : "loses"; /* perplexity and KL */
    double level = 100 * p->confidence;
    amount(m, sizeof m, row, row->margin);
    switch (row->verdict) {
    case ASSAY_VERDICT_PASS:
        if (row->lower >= 0) assay_str_printf(out, "no loss (%g %%), margin %s", level, m);
        else
            assay_str_printf(out, "%s at most %s (%g %%), margin %s", verb,
                             amount(a, sizeof a, row, -row->lower), level, m);
        if (row->alarm) assay_str_printf(out, "; a small loss is significant (Holm p %.2g)", row->p_holm);
        break;
    case ASSAY_VERDICT_FAIL:
        if (row->upper < -row->margin)
            assay_str_printf(out, "%s at least %s (%g %%), margin %s", verb,
                             amount(a, sizeof a, row, -row->upper), level, m);
        else
            assay_str_printf(out, "the loss of %s is significant (Holm p %.2g) and beyond the margin of %s",
                             amount(a, sizeof a, row, -row->diff), row->p_holm, m);
        break;
    case ASSAY_VERDICT_INCONCLUSIVE:
        assay_str_printf(out,
                         "the loss is between %s and %s, margin %s: ", amount(a, sizeof a, row, -row->upper),
                         amount(b, sizeof b, row, -row->lower), m);
        if (isfinite(row->items_needed))
            assay_str_printf(out, "%.0f items would settle it, there are %zu", row->items_needed, row->n);
        else
            assay_str_put(out, "it lies on the margin, no number of items would settle it");
        break;
    default: assay_str_put(out, "reported only, the policy sets no margin"); break;
    }
}

/* --- the score's verdict --- */

static double items_needed(const assay_gate_row *row, const gate_effect *e, const assay_policy *p) {
    double alpha = 1 - p->confidence, z = assay_norm_quantile(p->confidence);
    double n = assay_items_noninferior(e->sd, row->diff, row->margin, alpha, p->power);
    /* Without a flip the score interval is still z^2/(n+z^2) wide. */
    if (row->metric == ASSAY_METRIC_ACCURACY && row->margin < 1)
        n = fmax(n, e->deff * z * z * (1 - row->margin) / row->margin);
    n *= (double)row->n / (double)row->n_paired; /* some items will fail again */
    return n < MOST_ITEMS ? fmax(ceil(n), (double)row->n + 1) : INFINITY;
}

static void judge_score(assay_gate_row *row, const gate_effect *e, const assay_policy *p) {
    row->alarm = row->p_holm <= p->alarm_alpha;
    if (isnan(row->margin)) {
        row->verdict = ASSAY_VERDICT_INFO;
        return;
    }
    switch (assay_decide_noninferior(row->lower, row->upper, row->margin)) {
    case ASSAY_NONINFERIOR: row->verdict = ASSAY_VERDICT_PASS; return;
    case ASSAY_INFERIOR: row->verdict = ASSAY_VERDICT_FAIL; return;
    case ASSAY_UNDECIDED: break;
    }
    row->verdict = row->alarm && row->diff < -row->margin ? ASSAY_VERDICT_FAIL : ASSAY_VERDICT_INCONCLUSIVE;
    if (row->verdict == ASSAY_VERDICT_INCONCLUSIVE) row->items_needed = items_needed(row, e, p);
}

/* --- limits and waivers --- */

static assay_verdict worse(assay_verdict a, assay_verdict b) {
    static const int badness[] = {[ASSAY_VERDICT_PASS] = 1,
                                  [ASSAY_VERDICT_FAIL] = 3,
                                  [ASSAY_VERDICT_INCONCLUSIVE] = 2,
                                  [ASSAY_VERDICT_WAIVED] = 1,
                                  [ASSAY_VERDICT_INFO] = 1};
    return badness[b] > badness[a] ? b : a;
}

static void apply_limit(assay_gate_row *row, assay_str *reason, const assay_gate_limit *l, const char *what,
                        double unit, const char *suffix) {
    if (row->slice || (l->verdict != ASSAY_VERDICT_FAIL && l->verdict != ASSAY_VERDICT_INCONCLUSIVE)) return;
    assay_str_printf(reason, "; %s %.3g%s, limit %.3g%s", what, l->value * unit, suffix, l->limit * unit,
                     suffix);
    row->verdict = worse(row->verdict, l->verdict);
}

static bool covers(const assay_waiver *w, const assay_gate_row *row) {
    if (strcmp(w->dimension, row->dimension) != 0) return false;
    return w->slice && row->slice ? strcmp(w->slice, row->slice) == 0 : !w->slice && !row->slice;
}

static void apply_waiver(assay_gate_row *row, assay_str *reason, const assay_policy *p, const char *today) {
    for (size_t i = 0; i < p->n_waivers; i++) {
        const assay_waiver *w = &p->waivers[i];
        if (!covers(w, row)) continue;
        bool expired = w->expires && strncmp(today, w->expires, 10) > 0;
        if (row->waiver && !row->waiver_expired) return;
        row->waiver = w;
        row->waiver_expired = expired;
    }
    if (!row->waiver || (row->verdict != ASSAY_VERDICT_FAIL && row->verdict != ASSAY_VERDICT_INCONCLUSIVE))
        return;
    if (row->waiver_expired) {
        assay_str_printf(reason, "; %s's waiver expired on %s", row->waiver->who, row->waiver->expires);
        return;
    }
    assay_str_printf(reason, "; would be %s, waived by %s: %s", assay_verdict_name(row->verdict),
                     row->waiver->who, row->waiver->why);
    row->verdict = ASSAY_VERDICT_WAIVED;
}

assay_status gate_judge(assay_gate_row *row, const gate_effect *effect, const assay_policy *p,
                        const char *today, assay_arena *a, assay_err *err) {
    assay_str reason = {0};
    if (row->n_paired) {
        judge_score(row, effect, p);
        write_reason(&reason, row, p);
    } else {
        row->verdict = ASSAY_VERDICT_INCONCLUSIVE;
        assay_str_put(&reason, "no item was scored on both sides");
    }
    apply_limit(row, &reason, &row->length, "output length ratio", 1, "");
    apply_limit(row, &reason, &row->truncated, "truncated", 100, " %");
    apply_limit(row, &reason, &row->invalid, "invalid", 100, " %");
    apply_limit(row, &reason, &row->agreement, "other top-1 tokens", 100, " %");
    apply_limit(row, &reason, &row->errors, "items that failed to run", 100, " %");
    apply_waiver(row, &reason, p, today);
    row->reason = assay_arena_strndup(a, assay_str_c(&reason), reason.len);
    assay_status s = assay_str_status(&reason, err);
    assay_str_free(&reason);
    return s != ASSAY_OK ? s : row->reason ? ASSAY_OK : assay_nomem(err);
}
