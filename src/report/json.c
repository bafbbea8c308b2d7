/* json.c: the report for programs, "assay.report/1". Verdicts and plans are in their own rooms' schemas. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "report/show.h"

static void put(json_t *o, bool *ok, const char *key, json_t *v) {
    if (json_object_set_new(o, key, v) != 0) *ok = false;
}

static void append(json_t *a, bool *ok, json_t *v) {
    if (json_array_append_new(a, v) != 0) *ok = false;
}

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

/* Strings may come from outside; ok turns false when memory is out. */
static json_t *string(const char *text, bool *ok) {
    json_t *j = assay_json_text(text);
    if (!j) *ok = false;
    return j;
}

static json_t *strings(const char *const *s, size_t n, bool *ok) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++)
        append(a, ok, string(s[i], ok));
    return a;
}

static json_t *kl(const assay_report_kl *k, bool *ok) {
    if (!k->n) return json_null();
    json_t *o = json_object();
    put(o, ok, "n", json_integer((json_int_t)k->n));
    put(o, ok, "unit", string(k->unit, ok));
    put(o, ok, "mean", number(k->mean));
    put(o, ok, "p50", number(k->p50));
    put(o, ok, "p90", number(k->p90));
    put(o, ok, "p95", number(k->p95));
    put(o, ok, "p99", number(k->p99));
    put(o, ok, "max", number(k->max));
    put(o, ok, "top1", number(k->top1));
    return o;
}

static json_t *loss(const assay_layer_loss *l, bool *ok) {
    json_t *o = json_object();
    put(o, ok, "tensor", string(l->tensor, ok));
    put(o, ok, "layer", json_integer(l->layer));
    put(o, ok, "role", string(l->role, ok));
    put(o, ok, "precision", string(l->precision, ok));
    put(o, ok, "method", string(l->method, ok));
    put(o, ok, "bits", number(l->bits));
    put(o, ok, "weight_error", number(l->weight_error));
    put(o, ok, "output_error", number(l->output_error));
    put(o, ok, "seconds", number(l->seconds));
    return o;
}

static assay_status variant(json_t **out, const assay_report_variant *v, bool flips, bool *ok,
                            assay_err *err) {
    json_t *o = json_object(), *losses = json_array(), *plan = NULL;
    *out = o;
    put(o, ok, "name", string(v->name, ok));
    put(o, ok, "recipe", string(v->recipe, ok));
    put(o, ok, "baseline", json_boolean(v->is_baseline));
    put(o, ok, "problem", string(v->problem, ok));
    put(o, ok, "size_bytes", number(v->size_bytes));
    put(o, ok, "raw_bits_per_weight", number(v->raw_bpw));
    put(o, ok, "bits_per_weight", number(v->effective_bpw));
    put(o, ok, "bits_per_quantized_weight", number(v->quantized_bpw > 0 ? v->quantized_bpw : NAN));
    put(o, ok, "least_code_bits", v->code_bits > 0 ? json_integer(v->code_bits) : json_null());
    put(o, ok, "research", json_boolean(assay_show_research(v)));
    put(o, ok, "mixture", json_boolean(v->mixture));
    put(o, ok, "kv", string(v->kv, ok));
    put(o, ok, "prefill_tokens_per_second", number(v->prefill_rate));
    put(o, ok, "decode_tokens_per_second", number(v->decode_rate));
    put(o, ok, "kl", kl(&v->kl, ok));
    put(o, ok, "verdict", v->gate ? assay_gate_to_json(v->gate, flips) : json_null());
    if (v->plan) ASSAY_TRY(assay_plan_to_json(&plan, v->plan, err));
    put(o, ok, "plan", v->plan ? plan : json_null());
    for (size_t i = 0; i < v->n_losses; i++)
        append(losses, ok, loss(&v->losses[i], ok));
    put(o, ok, "losses", losses);
    put(o, ok, "manifest", v->manifest ? json_deep_copy(v->manifest) : json_null());
    return ASSAY_OK;
}

/* The curve of divergence against size, by size. */
static assay_status curve(json_t **out, const assay_report *r, bool *ok, assay_err *err) {
    assay_curve c;
    ASSAY_TRY(assay_curve_make(&c, r, err));
    *out = json_array();
    for (size_t i = 0; i < c.n; i++) {
        const assay_curve_point *p = &c.points[i];
        json_t *o = json_object();
        put(o, ok, "variant", string(p->variant->name, ok));
        put(o, ok, "bits_per_weight", number(p->variant->effective_bpw));
        put(o, ok, "kl_mean", number(p->variant->kl.mean));
        put(o, ok, "kl_p95", number(p->variant->kl.p95));
        put(o, ok, "top1", number(p->variant->kl.top1));
        put(o, ok, "aside", json_boolean(p->aside));
        put(o, ok, "on_envelope", json_boolean(p->on_envelope));
        put(o, ok, "beaten_by", string(p->beaten_by ? p->beaten_by->name : NULL, ok));
        append(*out, ok, o);
    }
    assay_curve_free(&c);
    return ASSAY_OK;
}

assay_status assay_report_json(json_t **out, const assay_report *r, bool flips, assay_err *err) {
    bool ok = true;
    assay_status s = ASSAY_OK;
    if (!r->n_variants) return assay_fail(err, ASSAY_EINPUT, "the report has no variants");
    json_t *o = json_object(), *d = json_object(), *variants = json_array();
    put(o, &ok, "schema", json_string(ASSAY_REPORT_SCHEMA));
    put(o, &ok, "title", string(r->title, &ok));
    put(o, &ok, "model", string(r->model, &ok));
    put(o, &ok, "suite", string(r->suite, &ok));
    put(o, &ok, "date", string(r->date, &ok));
    put(o, &ok, "version", string(r->version ? r->version : ASSAY_VERSION, &ok));
    put(o, &ok, "command", string(r->command, &ok));
    const assay_report_variant *chosen = assay_show_chosen(r);
    put(d, &ok, "chosen", string(r->decision.chosen, &ok));
    put(d, &ok, "research", json_boolean(chosen && assay_show_research(chosen)));
    put(d, &ok, "verdict", json_string(assay_verdict_name(r->decision.verdict)));
    put(d, &ok, "headline", string(r->decision.headline, &ok));
    put(d, &ok, "reasons", strings(r->decision.reasons, r->decision.n_reasons, &ok));
    put(d, &ok, "next", strings(r->decision.next, r->decision.n_next, &ok));
    put(o, &ok, "decision", d);
    put(o, &ok, "policy", assay_show_policy(r) ? assay_policy_to_json(assay_show_policy(r)) : json_null());
    put(o, &ok, "variants", variants);
    for (size_t i = 0; i < r->n_variants && s == ASSAY_OK; i++) {
        json_t *v = NULL;
        s = variant(&v, &r->variants[i], flips, &ok, err);
        append(variants, &ok, v);
    }
    json_t *points = NULL;
    if (s == ASSAY_OK) s = curve(&points, r, &ok, err);
    if (s == ASSAY_OK) put(o, &ok, "curve", points);
    put(o, &ok, "manifest", r->manifest ? json_deep_copy(r->manifest) : json_null());
    if (s == ASSAY_OK && !ok) s = assay_nomem(err);
    if (s != ASSAY_OK) {
        json_decref(o);
        return s;
    }
    *out = o;
    return ASSAY_OK;
}
