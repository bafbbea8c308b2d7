/* curve.c: what a bit buys: divergence from the baseline against stored size, which variants are on the lower
 * envelope, and which beat the others.
 *
 *   KL |  a
 *      |  ┃━━━┓   c
 *      |      b━━━━━━━┓
 *      |              d━━━
 *      +-------------------- bits per weight
 *
 * b beats c: not larger, and closer to the baseline. The envelope is a stair: at each size the least divergence
 * that anything so small has; a point on it is beaten by none. Between two steps nothing was measured, so no
 * slope is drawn there.
 *
 * One number per variant, over all tokens: it says how much changes, not what is lost; the gate says that. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "report/show.h"

static bool same_kv(const assay_report_variant *a, const assay_report_variant *b) {
    return !a->kv == !b->kv && (!a->kv || strcmp(a->kv, b->kv) == 0);
}

static bool comes_before(const assay_curve_point *a, const assay_curve_point *b) {
    const assay_report_variant *x = a->variant, *y = b->variant;
    return x->effective_bpw < y->effective_bpw ||
           (x->effective_bpw == y->effective_bpw && x->kl.mean < y->kl.mean);
}

/* In place and stable: points number some dozens. */
static void sort(assay_curve_point *p, size_t n) {
    for (size_t i = 1; i < n; i++) {
        assay_curve_point x = p[i];
        size_t k = i;
        for (; k > 0 && comes_before(&x, &p[k - 1]); k--)
            p[k] = p[k - 1];
        p[k] = x;
    }
}

/* Points come by size, of one size the closest first: so the closest so far beats every later one that is no
 * closer, unless both are the same in size and divergence. */
static void judge(assay_curve *c) {
    const assay_report_variant *best = NULL;
    for (size_t i = 0; i < c->n; i++) {
        assay_curve_point *p = &c->points[i];
        const assay_report_variant *v = p->variant;
        if (p->aside) continue;
        bool equal = best && v->kl.mean == best->kl.mean && v->effective_bpw == best->effective_bpw;
        p->on_envelope = !best || equal || v->kl.mean < best->kl.mean;
        if (p->on_envelope)
            best = v;
        else
            p->beaten_by = best;
    }
}

assay_status assay_curve_make(assay_curve *out, const assay_report *r, assay_err *err) {
    const assay_report_variant *base = assay_show_baseline(r);
    *out = (assay_curve){.points = assay_calloc(r->n_variants + 1, sizeof *out->points)};
    if (!out->points) return assay_nomem(err);
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_variant *v = &r->variants[i];
        if (v == base || !v->kl.n || !isfinite(v->kl.mean) || !(v->effective_bpw > 0)) continue;
        out->points[out->n++] = (assay_curve_point){.variant = v, .aside = !same_kv(v, base)};
        if (!out->unit) out->unit = v->kl.unit;
    }
    sort(out->points, out->n);
    judge(out);
    return ASSAY_OK;
}

void assay_curve_free(assay_curve *c) {
    assay_free(c->points);
    *c = (assay_curve){0};
}

void assay_show_curve(assay_str *out, const assay_curve *c) {
    bool aside = false;
    for (size_t i = 0; i < c->n; i++)
        aside |= c->points[i].aside;
    assay_str_printf(
        out,
        "KL divergence from the baseline in nats per %s, mean, against the stored bits per weight of the "
        "whole checkpoint, embedding and head included; \"quantized\" counts the quantized matrices "
        "alone. On the envelope: no variant that is not larger is closer to the baseline.",
        c->unit ? c->unit : "token");
    if (aside)
        assay_str_put(out,
                      " A variant with another KV cache than the baseline's stands aside: what that saves is "
                      "not in the bits per weight.");
}

/* --- the table --- */

static void envelope_cell(assay_table *t, const assay_curve_point *p, bool ascii) {
    char name[ASSAY_SHOW_NAME];
    if (p->aside)
        assay_table_cell(t, ASSAY_TONE_DIM, "aside, KV %s", p->variant->kv ? p->variant->kv : "unset");
    else if (p->on_envelope)
        assay_table_cell(t, ASSAY_TONE_GOOD, "on envelope");
    else
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", assay_show_name(name, sizeof name, p->beaten_by, ascii));
}

void assay_tables_curve(assay_table *t, const assay_curve *c, bool ascii) {
    static const assay_column columns[] = {
        {.head = "variant", .shrink = true, .least = 16},
        {.head = "bits", .right = true},
        {.head = "KL mean", .right = true},
        {.head = "KL p95", .right = true},
        {.head = "top-1 %", .right = true},
        {.head = "beaten by", .shrink = true, .least = 16},
        {.head = "quantized", .right = true, .optional = true},
        {.head = "recipe", .optional = true},
    };
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (size_t i = 0; i < c->n; i++) {
        const assay_curve_point *p = &c->points[i];
        const assay_report_variant *v = p->variant;
        char a[32], name[ASSAY_SHOW_NAME];
        assay_table_cell(t, p->on_envelope ? ASSAY_TONE_BOLD : ASSAY_TONE_NONE, "%s",
                         assay_show_name(name, sizeof name, v, ascii));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_number(a, sizeof a, 2, v->effective_bpw));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_nats(a, sizeof a, v->kl.mean));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_nats(a, sizeof a, v->kl.p95));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_number(a, sizeof a, 1, v->kl.top1 * 100));
        envelope_cell(t, p, ascii);
        assay_table_cell(t, ASSAY_TONE_DIM, "%s",
                         assay_show_number(a, sizeof a, 2, v->quantized_bpw > 0 ? v->quantized_bpw : NAN));
        assay_table_cell(t, ASSAY_TONE_DIM, v->mixture ? "mixture" : "uniform");
    }
}
