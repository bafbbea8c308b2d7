/* measure.c: one row's numbers: means, paired difference with its interval, p value, what it could have
 * found, noise floor.
 *
 * Right/wrong scores are compared as a 2x2 table (stat/paired.h); everything else as a mean of paired
 * differences over clusters, weighted by tokens where the metric is per token (stat/mean.h). Items that a
 * runtime failed on are left out of both sides and counted. A dimension's row pools its items: its mean is
 * over items, so a slice weighs what it has in items. Treating the slices as strata would narrow the interval
 * a little where they differ in difficulty; pooling errs on the careful side and needs no weights to explain. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "gate/rows.h"
#include "stat/decide.h"
#include "stat/mean.h"
#include "stat/special.h"

#define BCA_LEAST_CLUSTERS 20 /* below, the bootstrap's tails rest on too few values */

static const struct {
    const char *evaluator;
    assay_metric metric;
} metric_table[] = {
#define X(evaluator, METRIC) {#evaluator, ASSAY_METRIC_##METRIC},
#include "gate/metrics.def"
#undef X
};

static assay_metric metric_of(const assay_record *r) {
    for (size_t i = 0; r->evaluator && i < ASSAY_LEN(metric_table); i++)
        if (strcmp(r->evaluator, metric_table[i].evaluator) == 0) return metric_table[i].metric;
    return r->binary ? ASSAY_METRIC_ACCURACY : ASSAY_METRIC_SCORE;
}

/* Accuracy when all are; a mean of scores when accuracies and scores mix; anything else must not mix. */
static assay_status group_metric(assay_metric *out, const gate_input *in, const gate_group *g,
                                 assay_err *err) {
    *out = metric_of(&in->base[g->items[0]]);
    for (size_t i = 1; i < g->n; i++) {
        const assay_record *r = &in->base[g->items[i]];
        assay_metric m = metric_of(r);
        if (m == *out) continue;
        if (m > ASSAY_METRIC_SCORE || *out > ASSAY_METRIC_SCORE)
            return assay_fail(err, ASSAY_EINPUT,
                              "dimension %s mixes %s and %s (item %s): give them dimensions of their own",
                              g->dimension, assay_metric_name(*out), assay_metric_name(m), r->item_id);
        *out = ASSAY_METRIC_SCORE;
    }
    return ASSAY_OK;
}

/* --- clusters: per unit of independent items, sums over its paired items --- */

typedef struct unit_sums {
    double *num, *den; /* weighted differences (oriented) and weights */
    assay_cluster_pairs *pairs;
    size_t n;
} unit_sums;

typedef struct ordered { /* an item and what it belongs to */
    const char *cluster; /* NULL: itself */
    size_t item;
} ordered;

static int compare_clusters(const void *a, const void *b) {
    const ordered *x = a, *y = b;
    if (!x->cluster || !y->cluster) {
        if (x->cluster || y->cluster) return x->cluster ? 1 : -1; /* those on their own first */
    } else {
        int c = strcmp(x->cluster, y->cluster);
        if (c) return c;
    }
    return x->item < y->item ? -1 : x->item > y->item;
}

static double oriented(const assay_gate_row *row, double base, double cand) {
    return row->metric == ASSAY_METRIC_PERPLEXITY || row->metric == ASSAY_METRIC_KL ? base - cand
                                                                                    : cand - base;
}

static double item_weight(const assay_gate_row *row, const assay_record *r) {
    return row->metric > ASSAY_METRIC_SCORE && r->weight > 0 ? r->weight : 1;
}

static void unit_sums_free(unit_sums *u) {
    assay_free(u->num);
    assay_free(u->den);
    assay_free(u->pairs);
}

static void add_item(unit_sums *u, const assay_gate_row *row, const assay_record *b, const assay_record *v) {
    size_t k = u->n - 1;
    double w = item_weight(row, b), d = oriented(row, b->score, v->score);
    u->num[k] += w * d;
    u->den[k] += w;
    u->pairs[k].n += 1;
    u->pairs[k].up += d > 0;
    u->pairs[k].down += d < 0;
}

static assay_status sum_units(unit_sums *u, const gate_input *in, const gate_group *g,
                              const assay_gate_row *row, assay_err *err) {
    assay_status s = ASSAY_OK;
    size_t m = 0;
    memset(u, 0, sizeof *u);
    ordered *o = assay_mallocn(g->n, sizeof *o);
    u->num = assay_calloc(g->n, sizeof *u->num);
    u->den = assay_calloc(g->n, sizeof *u->den);
    u->pairs = assay_calloc(g->n, sizeof *u->pairs);
    if (!o || !u->num || !u->den || !u->pairs) {
        s = assay_nomem(err);
        goto out;
    }
    bool clustered = false;
    for (size_t i = 0; i < g->n; i++) {
        size_t at = g->items[i];
        if (!gate_is_paired(&in->base[at], &in->cand[at])) continue;
        o[m++] = (ordered){.cluster = in->base[at].cluster, .item = at};
        clustered = clustered || in->base[at].cluster;
    }
    if (clustered) qsort(o, m, sizeof *o, compare_clusters);
    for (size_t i = 0; i < m; i++) {
        bool joins = i && o[i].cluster && o[i - 1].cluster && strcmp(o[i].cluster, o[i - 1].cluster) == 0;
        if (!joins) u->n++;
        add_item(u, row, &in->base[o[i].item], &in->cand[o[i].item]);
    }
out:
    assay_free(o);
    if (s != ASSAY_OK) unit_sums_free(u);
    return s;
}

/* --- counts and means --- */

static void count_outcome(assay_gate_counts *c, assay_outcome o) {
    switch (o) {
    case ASSAY_OUTCOME_OK: c->ok++; break;
    case ASSAY_OUTCOME_TRUNCATED: c->truncated++; break;
    case ASSAY_OUTCOME_INVALID: c->invalid++; break;
    case ASSAY_OUTCOME_REFUSED: c->refused++; break;
    case ASSAY_OUTCOME_ERROR: c->error++; break;
    }
}

static bool differs(const char *a, const char *b) {
    return a && b ? strcmp(a, b) != 0 : a != b;
}

/* Whether the model said something else: its ids where kept, else the answer taken from it, else the text. */
static bool changed(const assay_record *a, const assay_record *b) {
    if (a->output_ids && b->output_ids) return differs(a->output_ids, b->output_ids);
    if (a->answer && b->answer) return differs(a->answer, b->answer);
    return differs(a->output, b->output);
}

static void count_accuracy(assay_gate_row *row, const assay_record *b, const assay_record *v) {
    bool rb = b->score > 0.5, rv = v->score > 0.5;
    if (rb && rv) row->both_right++;
    else if (rb)
        row->right_wrong++;
    else if (rv)
        row->wrong_right++;
    else
        row->both_wrong++;
}

static void count_items(assay_gate_row *row, const gate_input *in, const gate_group *g) {
    double sum_b = 0, sum_v = 0, weight = 0;
    size_t aa = 0;
    for (size_t i = 0; i < g->n; i++) {
        const assay_record *b = &in->base[g->items[i]], *v = &in->cand[g->items[i]];
        count_outcome(&row->base, b->outcome);
        count_outcome(&row->cand, v->outcome);
        if (!gate_is_paired(b, v)) continue;
        double w = item_weight(row, b);
        row->n_paired++;
        row->n_changed += row->metric <= ASSAY_METRIC_SCORE && changed(b, v);
        sum_b += w * b->score;
        sum_v += w * v->score;
        weight += w;
        if (row->metric == ASSAY_METRIC_ACCURACY) count_accuracy(row, b, v);
        if (!in->rerun || !gate_is_paired(b, &in->rerun[g->items[i]])) continue;
        aa++;
        row->aa_flips += b->score != in->rerun[g->items[i]].score;
    }
    row->aa_flip_rate = aa ? (double)row->aa_flips / (double)aa : NAN;
    if (row->metric == ASSAY_METRIC_ACCURACY && row->n_paired)
        row->flip_rate = (double)(row->right_wrong + row->wrong_right) / (double)row->n_paired;
    bool ppl = row->metric == ASSAY_METRIC_PERPLEXITY;
    row->baseline = weight > 0 ? (ppl ? exp(sum_b / weight) : sum_b / weight) : NAN;
    row->variant = weight > 0 ? (ppl ? exp(sum_v / weight) : sum_v / weight) : NAN;
}

/* --- intervals --- */

/* Per item, so that se = sd / sqrt(n_paired). */
static double sd_per_item(const assay_gate_row *row, const assay_estimate *e) {
    return e->se * sqrt((double)row->n_paired);
}

static void by_t(assay_gate_row *row, const unit_sums *u, double confidence) {
    assay_estimate e = assay_ratio(u->num, u->den, u->n);
    assay_t_interval(&row->lower, &row->upper, &e, confidence);
    row->interval = u->n < row->n_paired ? "t, clustered" : "t";
}

static assay_status by_bootstrap(assay_gate_row *row, const unit_sums *u, const assay_policy *p,
                                 uint64_t seed, assay_err *err) {
    assay_rng rng;
    assay_rng_init(&rng, seed);
    row->interval = "bca";
    return assay_cluster_bootstrap(&row->lower, &row->upper, NULL, u->num, u->den, u->n, p->confidence,
                                   p->bootstrap_replicates, ASSAY_BOOTSTRAP_BCA, &rng, err);
}

static void by_table(assay_gate_row *row, const unit_sums *u, const assay_pairs *t, const assay_policy *p) {
    bool clustered = u->n < row->n_paired;
    if (p->interval == ASSAY_INTERVAL_NEWCOMBE && !clustered) {
        row->interval = "newcombe";
        assay_newcombe10(&row->lower, &row->upper, t, assay_norm_quantile(p->confidence));
    } else if (!clustered) {
        row->interval = "tango";
        assay_tango(&row->lower, &row->upper, t, assay_norm_quantile(p->confidence));
    } else {
        row->interval = "tango, clustered";
        assay_tango_clustered(&row->lower, &row->upper, u->pairs, u->n, p->confidence);
    }
}

static assay_status measure_interval(assay_gate_row *row, const unit_sums *u, const assay_pairs *t,
                                     const assay_policy *p, uint64_t seed, assay_err *err) {
    bool accuracy = row->metric == ASSAY_METRIC_ACCURACY;
    assay_interval_choice c = p->interval;
    bool table = accuracy && c != ASSAY_INTERVAL_T && c != ASSAY_INTERVAL_BOOTSTRAP;
    if (table) {
        by_table(row, u, t, p);
    } else if (c == ASSAY_INTERVAL_T || (c != ASSAY_INTERVAL_BOOTSTRAP && u->n < BCA_LEAST_CLUSTERS)) {
        by_t(row, u, p->confidence);
    } else {
        return by_bootstrap(row, u, p, seed, err);
    }
    return ASSAY_OK;
}

static void measure_accuracy(assay_gate_row *row, gate_effect *effect, const unit_sums *u,
                             const assay_pairs *t, const assay_policy *p) {
    bool clustered = u->n < row->n_paired;
    effect->deff = assay_pairs_design_effect(u->pairs, u->n);
    effect->sd = sqrt(effect->deff * fmax(0, row->flip_rate - row->diff * row->diff));
    row->p = clustered ? assay_obuchowski_harm(u->pairs, u->n) : assay_mcnemar_harm_midp(t);
    row->mde =
        assay_mde_paired(row->flip_rate, (double)row->n_paired / effect->deff, 1 - p->confidence, p->power);
}

static void measure_mean(assay_gate_row *row, gate_effect *effect, const unit_sums *u,
                         const assay_policy *p) {
    assay_estimate e = assay_ratio(u->num, u->den, u->n);
    effect->deff = 1; /* sd holds the clusters already */
    effect->sd = sd_per_item(row, &e);
    /* KL is never negative: its being above 0 is no evidence of harm. */
    row->p = row->metric == ASSAY_METRIC_KL ? NAN : assay_t_harm(&e);
    row->mde = assay_mde(effect->sd, (double)row->n_paired, 1 - p->confidence, p->power);
}

assay_status gate_measure(assay_gate_row *row, gate_effect *effect, const gate_input *in, const gate_group *g,
                          uint64_t seed, assay_err *err) {
    const assay_policy *p = in->policy;
    *row = (assay_gate_row){.dimension = g->dimension,
                            .slice = g->slice,
                            .n = g->n,
                            .level = 2 * p->confidence - 1,
                            .flip_rate = NAN,
                            .baseline = NAN,
                            .variant = NAN,
                            .diff = NAN,
                            .lower = NAN,
                            .upper = NAN,
                            .p = NAN,
                            .p_holm = NAN,
                            .q_bh = NAN,
                            .mde = NAN,
                            .margin = NAN,
                            .items_needed = NAN,
                            .interval = "none"};
    *effect = (gate_effect){.sd = NAN, .deff = 1};
    ASSAY_TRY(group_metric(&row->metric, in, g, err));
    count_items(row, in, g);
    if (!row->n_paired) return ASSAY_OK;
    unit_sums u;
    ASSAY_TRY(sum_units(&u, in, g, row, err));
    assay_pairs t = {.both = (double)row->both_right,
                     .up = (double)row->wrong_right,
                     .down = (double)row->right_wrong,
                     .neither = (double)row->both_wrong};
    row->n_clusters = u.n;
    row->diff = assay_ratio(u.num, u.den, u.n).value;
    assay_status s = measure_interval(row, &u, &t, p, seed, err);
    if (row->metric == ASSAY_METRIC_ACCURACY) measure_accuracy(row, effect, &u, &t, p);
    else
        measure_mean(row, effect, &u, p);
    unit_sums_free(&u);
    return s;
}
