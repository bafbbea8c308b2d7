/* gate.c: the comparison of two scorecards from end to end.
 *
 *   load -> comparable? -> groups -> measure each row -> adjust p values over the judged rows
 *        -> judge each row -> flips, the whole
 *
 * Holm's family is every judged row, dimensions and slices together, so that alarm_alpha bounds the chance of
 * any false alarm in a comparison. The whole passes only when every row does: an intersection-union test
 * (Berger 1982), which needs no adjustment. */
#include "gate/gate.h"

#include <math.h>
#include <string.h>
#include "base/clock.h"
#include "gate/rows.h"
#include "stat/decide.h"

void assay_gate_free(assay_gate *g) {
    if (!g) return;
    assay_free(g->rows);
    assay_free(g->flips);
    assay_arena_free(&g->arena);
    assay_free(g);
}

static assay_status keep(const char **out, assay_gate *g, const char *s, assay_err *err) {
    *out = s ? assay_arena_strndup(&g->arena, s, strlen(s)) : NULL;
    return s && !*out ? assay_nomem(err) : ASSAY_OK;
}

/* --- the policy must speak of what is there --- */

static bool has_row(const gate_groups *gs, const char *dimension, const char *slice) {
    for (size_t i = 0; i < gs->n; i++) {
        const gate_group *g = &gs->groups[i];
        if (strcmp(g->dimension, dimension) == 0 &&
            (slice ? g->slice && strcmp(g->slice, slice) == 0 : !g->slice))
            return true;
    }
    return false;
}

static assay_status check_policy(const gate_groups *gs, const assay_policy *p, assay_err *err) {
    for (size_t i = 0; i < p->n_required; i++)
        if (!has_row(gs, p->required[i], NULL))
            return assay_fail(err, ASSAY_EINPUT,
                              "policy: dimension '%s' is required, but the suite has no item of it",
                              p->required[i]);
    for (size_t i = 0; i < p->n_rules; i++) {
        const assay_margin_rule *m = &p->rules[i];
        if (!has_row(gs, m->dimension, m->slice))
            return assay_fail(err, ASSAY_EINPUT,
                              "policy: a margin is set for %s%s%s, which the suite does not have",
                              m->dimension, m->slice ? "/" : "", m->slice ? m->slice : "");
    }
    for (size_t i = 0; i < p->n_waivers; i++) {
        const assay_waiver *w = &p->waivers[i];
        if (!has_row(gs, w->dimension, w->slice))
            return assay_fail(err, ASSAY_EINPUT,
                              "policy: a waiver covers %s%s%s, which the suite does not have", w->dimension,
                              w->slice ? "/" : "", w->slice ? w->slice : "");
    }
    return ASSAY_OK;
}

/* --- rows --- */

/* Adjusted p values of the rows that are judged. */
static assay_status adjust(assay_gate *g, assay_err *err) {
    double *p = assay_mallocn(3 * g->n_rows + 1, sizeof *p);
    size_t *order = assay_mallocn(g->n_rows + 1, sizeof *order);
    assay_status s = p && order ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) {
        double *holm = p + g->n_rows, *bh = holm + g->n_rows;
        for (size_t i = 0; i < g->n_rows; i++) p[i] = isnan(g->rows[i].margin) ? NAN : g->rows[i].p;
        assay_holm(holm, p, g->n_rows, order);
        assay_benjamini_hochberg(bh, p, g->n_rows, order);
        for (size_t i = 0; i < g->n_rows; i++) {
            g->rows[i].p_holm = holm[i];
            g->rows[i].q_bh = bh[i];
        }
    }
    assay_free(p);
    assay_free(order);
    return s;
}

static assay_status make_rows(assay_gate *g, const gate_input *in, const gate_groups *gs, assay_err *err) {
    gate_effect *effects = assay_calloc(gs->n + 1, sizeof *effects);
    g->rows = assay_calloc(gs->n + 1, sizeof *g->rows);
    assay_status s = effects && g->rows ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < gs->n; i++) {
        assay_gate_row *row = &g->rows[i];
        s = gate_measure(row, &effects[i], in, &gs->groups[i], in->policy->seed + i, err);
        if (s == ASSAY_OK) s = gate_limits(row, in, &gs->groups[i], err);
        if (s == ASSAY_OK) s = keep(&row->dimension, g, row->dimension, err);
        if (s == ASSAY_OK) s = keep(&row->slice, g, row->slice, err);
        gate_set_margin(row, in->policy);
    }
    if (s == ASSAY_OK) {
        g->n_rows = gs->n;
        s = adjust(g, err);
    }
    for (size_t i = 0; s == ASSAY_OK && i < gs->n; i++)
        s = gate_judge(&g->rows[i], &effects[i], in->policy, g->date, &g->arena, err);
    assay_free(effects);
    return s;
}

/* --- flips --- */

static bool is_flip(const assay_record *b, const assay_record *v) {
    return b->binary && v->binary && gate_is_paired(b, v) && (b->score > 0.5) != (v->score > 0.5);
}

static assay_status copy_flip(assay_gate_flip *f, assay_gate *g, const assay_record *b, const assay_record *v,
                              assay_err *err) {
    f->to_wrong = b->score > 0.5;
    ASSAY_TRY(keep(&f->item_id, g, b->item_id, err));
    ASSAY_TRY(keep(&f->dimension, g, b->dimension, err));
    ASSAY_TRY(keep(&f->slice, g, b->slice, err));
    ASSAY_TRY(keep(&f->base_output, g, b->output, err));
    ASSAY_TRY(keep(&f->cand_output, g, v->output, err));
    ASSAY_TRY(keep(&f->base_ids, g, b->output_ids, err));
    ASSAY_TRY(keep(&f->cand_ids, g, v->output_ids, err));
    ASSAY_TRY(keep(&f->base_answer, g, b->answer, err));
    ASSAY_TRY(keep(&f->cand_answer, g, v->answer, err));
    ASSAY_TRY(keep(&f->base_detail, g, b->detail, err));
    return keep(&f->cand_detail, g, v->detail, err);
}

static assay_status make_flips(assay_gate *g, const gate_input *in, assay_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < in->n; i++) n += is_flip(&in->base[i], &in->cand[i]);
    g->flips = assay_calloc(n ? n : 1, sizeof *g->flips);
    if (!g->flips) return assay_nomem(err);
    for (size_t i = 0; i < in->n; i++) {
        if (!is_flip(&in->base[i], &in->cand[i])) continue;
        assay_gate_flip *f = &g->flips[g->n_flips];
        ASSAY_TRY(copy_flip(f, g, &in->base[i], &in->cand[i], err));
        g->n_flips++;
        if (f->to_wrong) g->n_flips_to_wrong++;
        else
            g->n_flips_to_right++;
    }
    return ASSAY_OK;
}

/* --- the whole --- */

static const assay_gate_row *first_with(const assay_gate *g, assay_verdict v) {
    for (size_t i = 0; i < g->n_rows; i++)
        if (g->rows[i].verdict == v) return &g->rows[i];
    return NULL;
}

static void count_verdicts(assay_gate *g) {
    double factor = 1;
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        size_t *const slots[] = {&g->n_pass, &g->n_fail, &g->n_inconclusive, &g->n_waived, &g->n_info};
        ++*slots[r->verdict];
        g->n_alarm += r->alarm;
        if (!r->slice) {
            g->n_changed += r->n_changed;
            g->aa_flips += r->aa_flips;
        }
        if (r->verdict == ASSAY_VERDICT_INCONCLUSIVE && !isnan(r->items_needed))
            factor = fmax(factor, r->items_needed / (double)r->n);
    }
    bool judged = g->n_pass + g->n_fail + g->n_inconclusive + g->n_waived > 0;
    g->verdict = g->n_fail                      ? ASSAY_VERDICT_FAIL
                 : g->n_inconclusive || !judged ? ASSAY_VERDICT_INCONCLUSIVE
                                                : ASSAY_VERDICT_PASS;
    g->items_needed =
        g->verdict == ASSAY_VERDICT_INCONCLUSIVE && factor > 1 ? ceil(factor * (double)g->n_items) : NAN;
}

static void write_summary(assay_str *out, const assay_gate *g) {
    size_t judged = g->n_pass + g->n_fail + g->n_inconclusive + g->n_waived;
    const assay_gate_row *r = first_with(g, g->verdict);
    if (!judged) {
        assay_str_put(out, "the policy judges nothing that the suite measures");
    } else if (g->verdict == ASSAY_VERDICT_PASS) {
        assay_str_printf(out, "all %zu dimensions and slices are within their margins", judged - g->n_waived);
        if (g->n_waived) assay_str_printf(out, ", %zu waived", g->n_waived);
    } else if (r) {
        assay_str_printf(out, "%s%s%s: %s", r->dimension, r->slice ? "/" : "", r->slice ? r->slice : "",
                         r->reason);
        size_t more = (g->verdict == ASSAY_VERDICT_FAIL ? g->n_fail : g->n_inconclusive) - 1;
        if (more)
            assay_str_printf(out, "; %zu more %s", more,
                             g->verdict == ASSAY_VERDICT_FAIL ? "fail" : "are inconclusive");
    }
}

static assay_status summarize(assay_gate *g, assay_err *err) {
    assay_str b = {0};
    count_verdicts(g);
    write_summary(&b, g);
    assay_status s = assay_str_status(&b, err);
    if (s == ASSAY_OK) s = keep(&g->reason, g, assay_str_c(&b), err);
    assay_str_free(&b);
    return s;
}

static assay_status describe(assay_gate *g, const assay_gate_side *base, const assay_gate_side *cand,
                             const assay_gate_side *rerun, const assay_gate_opts *o, assay_err *err) {
    char now[32];
    g->baseline_id = base->card->id;
    g->variant_id = cand->card->id;
    g->rerun_id = rerun ? rerun->card->id : 0;
    g->n_items = base->n;
    ASSAY_TRY(keep(&g->baseline, g, o && o->baseline_name ? o->baseline_name : base->card->d.variant, err));
    ASSAY_TRY(keep(&g->variant, g, o && o->variant_name ? o->variant_name : cand->card->d.variant, err));
    ASSAY_TRY(keep(&g->suite, g, base->card->d.suite, err));
    ASSAY_TRY(keep(&g->suite_hash, g, base->card->d.suite_hash, err));
    return keep(&g->date, g, o && o->today ? o->today : assay_date_iso(now, sizeof now), err);
}

assay_status assay_gate_compare(assay_gate **out, const assay_gate_side *baseline,
                                const assay_gate_side *variant, const assay_gate_side *rerun,
                                const assay_policy *p, const assay_gate_opts *o, assay_err *err) {
    assay_status s = ASSAY_OK;
    gate_groups gs = {0};
    *out = NULL;
    ASSAY_TRY(gate_check_sides(baseline, variant, err));
    if (rerun) ASSAY_TRY(gate_check_sides(baseline, rerun, err));
    gate_input in = {.base = baseline->records,
                     .cand = variant->records,
                     .rerun = rerun ? rerun->records : NULL,
                     .n = baseline->n,
                     .policy = p};
    assay_gate *g = assay_calloc(1, sizeof *g);
    if (!g) return assay_nomem(err);
    g->policy = p;
    ASSAY_GO(describe(g, baseline, variant, rerun, o, err));
    ASSAY_GO(gate_groups_make(&gs, in.base, in.n, err));
    ASSAY_GO(check_policy(&gs, p, err));
    ASSAY_GO(make_rows(g, &in, &gs, err));
    ASSAY_GO(make_flips(g, &in, err));
    ASSAY_GO(summarize(g, err));
    *out = g;
    g = NULL;
out:
    gate_groups_deinit(&gs);
    assay_gate_free(g);
    return s;
}

/* --- from the store --- */

typedef struct loaded {
    assay_scorecard card;
    assay_record *records;
    assay_gate_side side;
} loaded;

static assay_status load(loaded *l, assay_store *st, int64_t id, assay_err *err) {
    size_t n = 0;
    ASSAY_TRY(assay_scorecard_get(&l->card, st, id, err));
    ASSAY_TRY(assay_record_load(&l->records, &n, st, id, err));
    l->side = (assay_gate_side){.card = &l->card, .records = l->records, .n = n};
    return ASSAY_OK;
}

static void unload(loaded *l) {
    assay_records_free(l->records, l->side.n);
    assay_scorecard_deinit(&l->card);
}

assay_status assay_gate_run(assay_gate **out, assay_store *st, int64_t baseline, int64_t variant,
                            const assay_policy *p, const assay_gate_opts *o, assay_err *err) {
    assay_status s = ASSAY_OK;
    loaded base = {0}, cand = {0}, again = {0};
    int64_t rerun = o ? o->rerun_id : 0;
    *out = NULL;
    ASSAY_GO(load(&base, st, baseline, err));
    ASSAY_GO(load(&cand, st, variant, err));
    if (rerun) ASSAY_GO(load(&again, st, rerun, err));
    s = assay_gate_compare(out, &base.side, &cand.side, rerun ? &again.side : NULL, p, o, err);
out:
    unload(&base);
    unload(&cand);
    unload(&again);
    return s;
}
