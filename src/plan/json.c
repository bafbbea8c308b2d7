/* json.c: a plan as JSON, "assay.plan/1": sizes, KV cache, what was assumed, every device, and the source of
 * every figure. Bytes, seconds and operations per second are plain numbers; what is not known is null. */
#include <math.h>
#include "base/mem.h"
#include "plan/plan.h"

/* json_object_set_new takes the reference and fails on NULL: one flag collects all failures. */
static void put(json_t *o, bool *ok, const char *key, json_t *v) {
    if (json_object_set_new(o, key, v) != 0) *ok = false;
}

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *bytes_of(double v) {
    return isfinite(v) ? json_integer((json_int_t)v) : json_null();
}

static json_t *figure(const assay_figure *f, bool *ok) {
    if (isnan(f->value)) return json_null();
    json_t *o = json_object();
    put(o, ok, "value", number(f->value));
    put(o, ok, "source", json_string(f->source));
    return o;
}

static json_t *size_line(const assay_size_line *l, bool *ok) {
    char name[32];
    json_t *o = json_object();
    put(o, ok, "part", json_string(assay_part_name(l->part)));
    put(o, ok, "storage", json_string(assay_storage_name(name, sizeof name, &l->storage)));
    put(o, ok, "tensors", json_integer(l->tensors));
    put(o, ok, "parameters", json_integer(l->params));
    put(o, ok, "codes", bytes_of(l->codes));
    put(o, ok, "scales", bytes_of(l->scales));
    put(o, ok, "zeros", bytes_of(l->zeros));
    put(o, ok, "metadata", bytes_of(l->meta));
    put(o, ok, "bits_per_weight",
        number((l->codes + l->scales + l->zeros + l->meta) * 8.0 / (double)l->params));
    return o;
}

static json_t *sizes(const assay_sizes *z, bool *ok) {
    json_t *o = json_object(), *lines = json_array();
    for (int i = 0; i < z->n_lines; i++)
        if (json_array_append_new(lines, size_line(&z->lines[i], ok)) != 0) *ok = false;
    put(o, ok, "parameters", json_integer(z->params));
    put(o, ok, "lines", lines);
    put(o, ok, "codes", bytes_of(z->codes));
    put(o, ok, "scales", bytes_of(z->scales));
    put(o, ok, "zeros", bytes_of(z->zeros));
    put(o, ok, "metadata", bytes_of(z->meta));
    put(o, ok, "total", bytes_of(z->total));
    put(o, ok, "nominal_parameters", number(z->nominal_params));
    put(o, ok, "raw_bits", json_integer(z->raw_bits));
    put(o, ok, "raw_nominal", bytes_of(z->raw_nominal));
    put(o, ok, "raw_all", bytes_of(z->raw_all));
    put(o, ok, "raw_bits_per_weight", number(z->raw_bpw));
    put(o, ok, "effective_bits_per_weight", number(z->effective_bpw));
    put(o, ok, "decoder_bits_per_weight", number(z->linear_bpw));
    put(o, ok, "checkpoint", z->checkpoint_bytes > 0 ? bytes_of(z->checkpoint_bytes) : json_null());
    return o;
}

static json_t *price_of(const assay_price *p, bool *ok) {
    if (!p) return json_null();
    json_t *o = json_object();
    put(o, ok, "per_hour", number(p->per_hour));
    put(o, ok, "currency", json_string(p->currency));
    put(o, ok, "date", json_string(p->date));
    put(o, ok, "source", json_string(p->source));
    put(o, ok, "region", json_string(p->region));
    put(o, ok, "tier", json_string(p->tier));
    return o;
}

static json_t *fit(const assay_fit *f, bool *ok) {
    const assay_device *d = f->device;
    json_t *o = json_object();
    put(o, ok, "device", json_string(d->id));
    put(o, ok, "name", json_string(d->name));
    put(o, ok, "runtime", json_string(f->runtime->id));
    put(o, ok, "memory", figure(&d->memory, ok));
    put(o, ok, "bandwidth", figure(&d->bandwidth, ok));
    put(o, ok, "f16", figure(&d->f16, ok));
    put(o, ok, "int8", figure(&d->int8, ok));
    put(o, ok, "fp8", figure(&d->fp8, ok));
    put(o, ok, "fits", isnan(f->budget) ? json_null() : json_boolean(f->fits));
    put(o, ok, "devices", json_integer(f->n_parallel));
    put(o, ok, "budget", bytes_of(f->budget));
    put(o, ok, "weights", bytes_of(f->weights));
    put(o, ok, "kv", bytes_of(f->kv));
    put(o, ok, "activations", bytes_of(f->activations));
    put(o, ok, "overhead", bytes_of(f->overhead));
    put(o, ok, "left", bytes_of(f->left));
    put(o, ok, "max_context", isnan(f->budget) ? json_null() : json_integer(f->max_context));
    put(o, ok, "max_concurrency", isnan(f->budget) ? json_null() : json_integer(f->max_concurrency));
    put(o, ok, "ttft_seconds", number(f->ttft));
    put(o, ok, "tpot_seconds", number(f->tpot));
    put(o, ok, "tpot_bound", json_string(assay_bound_name(f->tpot_bound)));
    put(o, ok, "output_tokens_per_second", number(f->output_rate));
    put(o, ok, "cost_per_million_output", number(f->cost_output));
    put(o, ok, "cost_per_million_total", number(f->cost_total));
    put(o, ok, "price", price_of(f->price, ok));
    return o;
}

static json_t *assumptions(const assay_plan *p, bool *ok) {
    const assay_plan_opts *a = &p->opts;
    json_t *o = json_object(), *v = json_object();
    put(v, ok, "context", json_integer(a->serving.context));
    put(v, ok, "concurrency", json_integer(a->serving.concurrency));
    put(v, ok, "prompt", json_integer(a->serving.prompt));
    put(v, ok, "output", json_integer(a->serving.output));
    put(o, ok, "serving", v);
    put(o, ok, "eta_memory", number(a->eta_memory));
    put(o, ok, "eta_compute", number(a->eta_compute));
    put(o, ok, "eta_parallel", number(a->eta_parallel));
    put(o, ok, "launch_seconds_per_layer", number(a->launch_seconds));
    put(o, ok, "utilisation", number(a->utilisation));
    put(o, ok, "memory_utilization", a->memory_utilization > 0 ? number(a->memory_utilization) : json_null());
    return o;
}

static void use_source(json_t *all, bool *ok, const char *code) {
    const assay_source *s = assay_source_find(code);
    if (!s || json_object_get(all, code)) return;
    json_t *o = json_object();
    put(o, ok, "title", json_string(s->title));
    put(o, ok, "url", json_string(s->url));
    put(o, ok, "date", json_string(s->date));
    put(o, ok, "grade", json_string(s->grade));
    put(all, ok, code, o);
}

static json_t *sources(const assay_plan *p, bool *ok) {
    json_t *all = json_object();
    for (size_t i = 0; i < p->n_fits; i++) {
        const assay_device *d = p->fits[i].device;
        const assay_figure *figures[] = {&d->memory, &d->bandwidth, &d->f16, &d->int8, &d->fp8};
        for (size_t k = 0; k < ASSAY_LEN(figures); k++)
            use_source(all, ok, figures[k]->source);
        use_source(all, ok, p->fits[i].runtime->source);
    }
    return all;
}

assay_status assay_plan_to_json(json_t **out, const assay_plan *p, assay_err *err) {
    bool ok = true;
    json_t *o = json_object(), *kv = json_object(), *fits = json_array();
    put(o, &ok, "schema", json_string("assay.plan/1"));
    put(o, &ok, "model", json_string(p->model));
    put(o, &ok, "sizes", sizes(&p->sizes, &ok));
    put(kv, &ok, "storage", json_string(assay_kv_name(p->opts.kv)));
    put(kv, &ok, "bytes_per_token", number(p->kv_per_token));
    put(kv, &ok, "bytes_per_sequence", bytes_of(p->kv_per_sequence));
    put(kv, &ok, "sliding_window",
        p->config->sliding_window ? json_integer(p->config->sliding_window) : json_null());
    put(o, &ok, "kv", kv);
    put(o, &ok, "assumptions", assumptions(p, &ok));
    for (size_t i = 0; i < p->n_fits; i++)
        if (json_array_append_new(fits, fit(&p->fits[i], &ok)) != 0) ok = false;
    put(o, &ok, "devices", fits);
    put(o, &ok, "sources", sources(p, &ok));
    if (!ok) {
        json_decref(o);
        return assay_nomem(err);
    }
    *out = o;
    return ASSAY_OK;
}
