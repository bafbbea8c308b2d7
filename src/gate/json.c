/* json.c: a verdict as JSON, schema "assay.verdict/1" (docs/gate.md). Numbers that do not exist are null;
 * infinite ones too. */
#include <math.h>
#include "gate/gate.h"

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *text(const char *s) {
    return s ? json_string(s) : json_null();
}

static json_t *limit_json(const assay_gate_limit *l) {
    return json_pack("{s:o, s:o, s:o, s:o, s:s}", "value", number(l->value), "lower", number(l->lower),
                     "upper", number(l->upper), "limit", number(l->limit), "verdict",
                     assay_verdict_name(l->verdict));
}

static json_t *counts_json(const assay_gate_counts *c) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "ok", (json_int_t)c->ok, "truncated",
                     (json_int_t)c->truncated, "invalid", (json_int_t)c->invalid, "refused",
                     (json_int_t)c->refused, "error", (json_int_t)c->error);
}

static json_t *waiver_json(const assay_gate_row *r) {
    const assay_waiver *w = r->waiver;
    if (!w) return json_null();
    return json_pack("{s:s, s:s, s:o, s:b}", "who", w->who, "why", w->why, "expires", text(w->expires),
                     "expired", r->waiver_expired);
}

static int put_numbers(json_t *j, const assay_gate_row *r) {
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"baseline", r->baseline},
        {"variant", r->variant},
        {"diff", r->diff},
        {"lower", r->lower},
        {"upper", r->upper},
        {"level", r->level},
        {"margin", r->margin},
        {"p", r->p},
        {"p_holm", r->p_holm},
        {"q_bh", r->q_bh},
        {"mde", r->mde},
        {"items_needed", r->items_needed},
        {"flip_rate", r->flip_rate},
        {"aa_flip_rate", r->aa_flip_rate},
        {"baseline_tokens", r->base_tokens},
        {"variant_tokens", r->cand_tokens},
    };
    const struct {
        const char *key;
        size_t value;
    } counts[] = {
        {"n", r->n},
        {"n_paired", r->n_paired},
        {"clusters", r->n_clusters},
        {"right_to_wrong", r->right_wrong},
        {"wrong_to_right", r->wrong_right},
        {"both_right", r->both_right},
        {"both_wrong", r->both_wrong},
        {"changed", r->n_changed},
        {"aa_flips", r->aa_flips},
    };
    int bad = 0;
    for (size_t i = 0; i < ASSAY_LEN(counts); i++)
        bad |= json_object_set_new(j, counts[i].key, json_integer((json_int_t)counts[i].value));
    for (size_t i = 0; i < ASSAY_LEN(numbers); i++)
        bad |= json_object_set_new(j, numbers[i].key, number(numbers[i].value));
    return bad;
}

static json_t *row_json(const assay_gate_row *r) {
    json_t *j = json_pack("{s:o, s:o, s:s, s:s, s:s}", "dimension", text(r->dimension), "slice",
                          text(r->slice), "metric", assay_metric_name(r->metric), "verdict",
                          assay_verdict_name(r->verdict), "reason", r->reason);
    if (!j) return NULL;
    int bad = put_numbers(j, r);
    bad |= json_object_set_new(j, "interval", text(r->interval));
    bad |= json_object_set_new(j, "alarm", json_boolean(r->alarm));
    bad |= json_object_set_new(j, "baseline_outcomes", counts_json(&r->base));
    bad |= json_object_set_new(j, "variant_outcomes", counts_json(&r->cand));
    bad |= json_object_set_new(j, "output_length_ratio", limit_json(&r->length));
    bad |= json_object_set_new(j, "truncated_rate", limit_json(&r->truncated));
    bad |= json_object_set_new(j, "invalid_rate", limit_json(&r->invalid));
    bad |= json_object_set_new(j, "error_rate", limit_json(&r->errors));
    bad |= json_object_set_new(j, "disagreement_rate", limit_json(&r->agreement));
    bad |= json_object_set_new(j, "waiver", waiver_json(r));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

static json_t *flip_json(const assay_gate_flip *f) {
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "item", text(f->item_id),
                     "dimension", text(f->dimension), "slice", text(f->slice), "direction",
                     f->to_wrong ? "right_to_wrong" : "wrong_to_right", "baseline_output",
                     assay_json_text(f->base_output), "variant_output", assay_json_text(f->cand_output),
                     "baseline_answer", assay_json_text(f->base_answer), "variant_answer",
                     assay_json_text(f->cand_answer), "baseline_detail",
                     assay_json_text(f->base_detail), "variant_detail",
                     assay_json_text(f->cand_detail));
}

static json_t *rows_json(const assay_gate *g) {
    json_t *a = json_array();
    int bad = !a;
    for (size_t i = 0; !bad && i < g->n_rows; i++) bad = json_array_append_new(a, row_json(&g->rows[i]));
    if (!bad) return a;
    json_decref(a);
    return NULL;
}

static json_t *flips_json(const assay_gate *g) {
    json_t *a = json_array();
    int bad = !a;
    for (size_t i = 0; !bad && i < g->n_flips; i++) bad = json_array_append_new(a, flip_json(&g->flips[i]));
    if (!bad) return a;
    json_decref(a);
    return NULL;
}

static json_t *totals_json(const assay_gate *g) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "items",
                     (json_int_t)g->n_items, "pass", (json_int_t)g->n_pass, "fail", (json_int_t)g->n_fail,
                     "inconclusive", (json_int_t)g->n_inconclusive, "waived", (json_int_t)g->n_waived, "info",
                     (json_int_t)g->n_info, "alarms", (json_int_t)g->n_alarm, "right_to_wrong",
                     (json_int_t)g->n_flips_to_wrong, "wrong_to_right", (json_int_t)g->n_flips_to_right,
                     "changed", (json_int_t)g->n_changed, "aa_flips",
                     g->rerun_id ? json_integer((json_int_t)g->aa_flips) : json_null());
}

json_t *assay_gate_to_json(const assay_gate *g, bool flips) {
    json_t *j =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o}", "schema", "assay.verdict/1", "baseline",
                  text(g->baseline), "variant", text(g->variant), "suite", text(g->suite), "suite_hash",
                  text(g->suite_hash), "date", text(g->date), "verdict", assay_verdict_name(g->verdict),
                  "reason", g->reason, "items_needed", number(g->items_needed));
    if (!j) return NULL;
    int bad = json_object_set_new(j, "scorecards",
                                  json_pack("{s:I, s:I, s:o}", "baseline", (json_int_t)g->baseline_id,
                                            "variant", (json_int_t)g->variant_id, "rerun",
                                            g->rerun_id ? json_integer(g->rerun_id) : json_null()));
    bad |= json_object_set_new(j, "totals", totals_json(g));
    bad |= json_object_set_new(j, "policy", assay_policy_to_json(g->policy));
    bad |= json_object_set_new(j, "rows", rows_json(g));
    if (flips) bad |= json_object_set_new(j, "flips", flips_json(g));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}
