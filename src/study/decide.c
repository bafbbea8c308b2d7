/* decide.c: the verdicts -> which variant to ship, why, and what would settle what is open.
 *
 * The rule is short on purpose: of the variants that pass, the smallest (or the cheapest to serve, `prefer: cost`); of equal ones that
 * with the smaller KV cache; ties go to the one that stands first in the study. Nothing is traded against the gate: a variant that does not pass is never chosen.
 * Nor is one for research (codes of fewer than four bits), unless the study says `research: allow`. */
#include <math.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/str.h"
#include "study/study_impl.h"

#define DECISION_SCHEMA "assay.decision/1"

/* --- choosing --- */

/* Per million tokens on the first device that has a price; infinite when unknown. */
static double cost_of(const assay_report_variant *v) {
    for (size_t i = 0; v->plan && i < v->plan->n_fits; i++)
        if (v->plan->fits[i].fits && isfinite(v->plan->fits[i].cost_total)) return v->plan->fits[i].cost_total;
    return INFINITY;
}

static double burden(const assay_study_result *r, const assay_report_variant *v) {
    const char *prefer = json_string_value(json_object_get(r->body, "prefer"));
    if (prefer && !strcmp(prefer, "cost")) return cost_of(v);
    return isnan(v->size_bytes) ? INFINITY : v->size_bytes;
}

/* Of a token; the largest there is when it is not planned. */
static double kv_bytes(const assay_study_result *r, const assay_report_variant *v) {
    double bytes = r->plans[v - r->variants].kv_per_token;
    return bytes > 0 ? bytes : INFINITY;
}

static bool is_research(const assay_report_variant *v) {
    return v->code_bits > 0 && v->code_bits < ASSAY_REPORT_RESEARCH_BITS;
}

/* Passed by the gate and left out all the same. */
static bool is_withheld(const assay_study_result *r, const assay_report_variant *v) {
    const char *research = json_string_value(json_object_get(r->body, "research"));
    return is_research(v) && !(research && !strcmp(research, "allow"));
}

static const assay_report_variant *choose(const assay_study_result *r) {
    const assay_report_variant *best = NULL;
    for (size_t i = 1; i < r->n; i++) {
        const assay_report_variant *v = &r->variants[i];
        if (!v->gate || v->gate->verdict != ASSAY_VERDICT_PASS || is_withheld(r, v)) continue;
        if (!best || burden(r, v) < burden(r, best) || (burden(r, v) == burden(r, best) && kv_bytes(r, v) < kv_bytes(r, best))) best = v;
    }
    return best;
}

/* --- words --- */

static void put_size(assay_str *b, const assay_study_result *r, const assay_report_variant *v) {
    if (!isnan(v->effective_bpw)) assay_str_printf(b, "%.2f bits per weight", v->effective_bpw);
    double whole = r->variants[0].size_bytes;
    if (!isnan(v->size_bytes) && whole > 0) assay_str_printf(b, ", %.0f %% of the baseline's size", 100 * v->size_bytes / whole);
}

static const assay_gate_row *worst_row(const assay_gate *g) {
    const assay_gate_row *worst = NULL;
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *row = &g->rows[i];
        if (row->verdict == ASSAY_VERDICT_INFO || isnan(row->margin)) continue;
        if (!worst || row->lower + row->margin < worst->lower + worst->margin) worst = row;
    }
    return worst;
}

static void put_row_name(assay_str *b, const assay_gate_row *row) {
    assay_str_printf(b, "%s%s%s", row->dimension, row->slice ? "/" : "", row->slice ? row->slice : "");
}

static size_t count_verdict(const assay_study_result *r, assay_verdict verdict) {
    size_t n = 0;
    for (size_t i = 1; i < r->n; i++) n += r->gates[i] && r->gates[i]->verdict == verdict;
    return n;
}

/* Variants without a gate could not be made or scored: more items would not change that, so they leave nothing open. */
static void put_headline(assay_str *b, const assay_study_result *r, const assay_report_variant *chosen) {
    size_t n_open = count_verdict(r, ASSAY_VERDICT_INCONCLUSIVE), n_fail = count_verdict(r, ASSAY_VERDICT_FAIL),
           n_pass = count_verdict(r, ASSAY_VERDICT_PASS);
    if (chosen) {
        assay_str_printf(b, "ship %s: ", chosen->name);
        put_size(b, r, chosen);
        assay_str_put(b, ", and no dimension or slice loses more than its margin");
    } else if (n_pass) {
        assay_str_printf(b, "ship none: what passes (%zu of %zu) is for research; `research: allow` would let it ship", n_pass, r->n - 1);
    } else if (n_open) {
        assay_str_printf(b, "no variant passes yet: %zu of %zu inconclusive, more items are needed", n_open, r->n - 1);
    } else if (n_fail == r->n - 1) {
        assay_str_printf(b, "ship none: each of the %zu variants loses more than the policy allows", n_fail);
    } else {
        assay_str_printf(b, "ship none: %zu of %zu lose more than the policy allows, %zu could not be made or scored", n_fail, r->n - 1,
                         r->n - 1 - n_fail);
    }
}

/* What stands between a variant and passing. */
static void put_reason(assay_str *b, const assay_report_variant *v) {
    if (!v->gate) {
        assay_str_printf(b, "%s has no verdict: %s", v->name, v->problem ? v->problem : "not scored");
        return;
    }
    assay_str_printf(b, "%s %s", v->name, v->gate->verdict == ASSAY_VERDICT_FAIL ? "fails" : "is inconclusive");
    assay_str_printf(b, ": %s", v->gate->reason);
}

static int append_text(json_t *list, assay_str *b) {
    int bad = b->failed || json_array_append_new(list, json_string(assay_str_c(b)));
    assay_str_clear(b);
    return bad;
}

static json_t *make_reasons(const assay_study_result *r, const assay_report_variant *chosen) {
    json_t *list = json_array();
    assay_str b = {0};
    int bad = !list;
    if (!bad && chosen) {
        const assay_gate_row *row = worst_row(chosen->gate);
        assay_str_printf(&b, "%s passes in %zu of %zu judged dimensions and slices", chosen->name, chosen->gate->n_pass,
                         chosen->gate->n_rows - chosen->gate->n_info);
        if (chosen->gate->n_waived) assay_str_printf(&b, ", %zu waived", chosen->gate->n_waived);
        if (row) {
            assay_str_put(&b, "; nearest to its margin: ");
            put_row_name(&b, row);
            assay_str_printf(&b, " (difference %+.1f pt, at worst %+.1f pt, margin %.1f pt)", 100 * row->diff, 100 * row->lower, 100 * row->margin);
        }
        bad = append_text(list, &b);
    }
    for (size_t i = 1; !bad && i < r->n; i++) {
        const assay_report_variant *v = &r->variants[i];
        bool passes = v->gate && v->gate->verdict == ASSAY_VERDICT_PASS;
        if (passes && is_withheld(r, v) && (!chosen || burden(r, v) < burden(r, chosen))) {
            assay_str_printf(&b, "%s passes but is for research (codes of %d bits): `research: allow` would let it be chosen", v->name, v->code_bits);
            bad = append_text(list, &b);
            continue;
        }
        if (passes || (chosen && v->gate && burden(r, v) > burden(r, chosen))) continue;
        put_reason(&b, v);
        bad = append_text(list, &b);
    }
    if (!bad && r->rerun && r->n > 1 && r->gates[1]) {
        assay_str_printf(&b, "the baseline against itself in other batches: %zu flips in %zu items", r->gates[1]->aa_flips, r->gates[1]->n_items);
        bad = append_text(list, &b);
    }
    assay_str_free(&b);
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

static json_t *make_next(const assay_study_result *r, const assay_report_variant *chosen) {
    json_t *list = json_array();
    assay_str b = {0};
    int bad = !list;
    for (size_t i = 1; !bad && i < r->n; i++) {
        const assay_report_variant *v = &r->variants[i];
        if (!v->gate || v->gate->verdict != ASSAY_VERDICT_INCONCLUSIVE) continue;
        if (chosen && burden(r, v) >= burden(r, chosen)) continue;
        if (isfinite(v->gate->items_needed))
            assay_str_printf(&b, "score about %.0f items instead of %zu to settle %s", v->gate->items_needed, v->gate->n_items, v->name);
        else if (isnan(v->gate->items_needed))
            assay_str_printf(&b, "settle what is open in %s: %s", v->name, v->gate->reason);
        else
            assay_str_printf(&b, "widen a margin or drop %s: no number of items would settle it", v->name);
        bad = append_text(list, &b);
    }
    assay_str_free(&b);
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

/* --- the document --- */

static json_t *variant_json(const assay_study_result *r, size_t i) {
    const assay_report_variant *v = &r->variants[i];
    const json_t *stored = json_array_get(json_object_get(r->body, "variants"), i);
    return json_pack("{s:s, s:s, s:o, s:o, s:O*, s:I, s:s?}", "name", v->name, "verdict", v->gate ? assay_verdict_name(v->gate->verdict) : "none",
                     "size_bytes", isnan(v->size_bytes) ? json_null() : json_real(v->size_bytes), "effective_bpw",
                     isnan(v->effective_bpw) ? json_null() : json_real(v->effective_bpw), "score_key", json_object_get(stored, "score_key"),
                     "scorecard", (json_int_t)r->cards[i], "problem", v->problem);
}

static const char *login_name(char *buf, size_t n) {
    struct passwd entry, *found = NULL;
    if (getpwuid_r(geteuid(), &entry, buf, n, &found) == 0 && found) return found->pw_name;
    return "unknown";
}

static json_t *make_decision(const assay_study_result *r, const assay_report_variant *chosen, const char *who) {
    char date[32], names[1024];
    assay_str headline = {0};
    json_t *variants = json_array(), *reasons = make_reasons(r, chosen), *next = make_next(r, chosen), *policy = assay_policy_to_json(&r->policy);
    assay_verdict verdict = chosen                                         ? ASSAY_VERDICT_PASS
                            : count_verdict(r, ASSAY_VERDICT_INCONCLUSIVE) ? ASSAY_VERDICT_INCONCLUSIVE
                                                                           : ASSAY_VERDICT_FAIL;
    for (size_t i = 1; variants && i < r->n; i++) json_array_append_new(variants, variant_json(r, i));
    put_headline(&headline, r, chosen);
    json_t *j = NULL;
    if (variants && reasons && next && policy && !headline.failed)
        j = json_pack("{s:s, s:s, s:s?, s:s, s:s, s:O, s:O, s:s, s:s, s:O, s:O, s:O?}", "schema", DECISION_SCHEMA, "study", r->name, "chosen",
                      chosen ? chosen->name : NULL, "verdict", assay_verdict_name(verdict), "headline", assay_str_c(&headline), "reasons", reasons,
                      "next", next, "who", who ? who : login_name(names, sizeof names), "when", assay_date_iso(date, sizeof date), "policy", policy,
                      "variants", variants, "manifest", json_object_get(r->body, "manifest"));
    json_decref(variants);
    json_decref(reasons);
    json_decref(next);
    json_decref(policy);
    assay_str_free(&headline);
    return j;
}

assay_status study_decide(assay_study_result *r, const char *who, assay_err *err) {
    r->decision = make_decision(r, choose(r), who);
    return r->decision ? study_use_decision(r, err) : assay_nomem(err);
}

/* --- back from the document --- */

static assay_status get_list(const char *const **out, size_t *n, assay_study_result *r, const char *key, assay_err *err) {
    const json_t *list = json_object_get(r->decision, key);
    const char **v = assay_arena_alloc(&r->arena, (json_array_size(list) + 1) * sizeof *v);
    if (!v) return assay_nomem(err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        v[i] = text ? text : "";
    }
    *out = v;
    *n = json_array_size(list);
    return ASSAY_OK;
}

assay_status study_use_decision(assay_study_result *r, assay_err *err) {
    assay_report_decision *d = &r->report.decision;
    const char *verdict = json_string_value(json_object_get(r->decision, "verdict"));
    d->chosen = json_string_value(json_object_get(r->decision, "chosen"));
    d->headline = json_string_value(json_object_get(r->decision, "headline"));
    d->verdict = ASSAY_VERDICT_INCONCLUSIVE;
    for (assay_verdict v = ASSAY_VERDICT_PASS; v <= ASSAY_VERDICT_INFO; v++)
        if (verdict && !strcmp(verdict, assay_verdict_name(v))) d->verdict = v;
    r->report.date = json_string_value(json_object_get(r->decision, "when"));
    ASSAY_TRY(get_list(&d->reasons, &d->n_reasons, r, "reasons", err));
    return get_list(&d->next, &d->n_next, r, "next", err);
}
