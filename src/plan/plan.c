/* plan.c: memory, speed and cost of one model, stored one way, on each device. docs/plan.md derives every
 * formula.
 *
 *   memory per device = weights + KV(context) * concurrency + activations + overhead  <=  memory * share of
 * the runtime decode step       = max(bytes read / (bandwidth * eta_m), operations / (peak * eta_c)) + launch
 * (roofline) prefill           = max(operations / (peak * eta_c), weights / (bandwidth * eta_m)) + launch
 *
 * On n devices in tensor parallel everything that is a matrix is split n ways, norms and the residual are
 * not, KV heads are split while there are any, and each doubling costs a factor eta_parallel of time. What it
 * does not do: pipeline parallelism, offloading, speculative decoding, queueing (the TTFT is that of an idle
 * server). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "plan/plan.h"

#define DEFAULT_ETA_MEMORY   0.70
#define DEFAULT_ETA_COMPUTE  0.50
#define DEFAULT_ETA_PARALLEL 0.85
#define DEFAULT_LAUNCH       10e-6
#define DEFAULT_UTILISATION  0.5
#define DEFAULT_PROMPT       1500
#define DEFAULT_OUTPUT       300
#define MOST_SEQUENCES       ((int64_t)1 << 20)

const char *assay_bound_name(assay_bound b) {
    return b == ASSAY_BOUND_BANDWIDTH ? "bandwidth" : b == ASSAY_BOUND_COMPUTE ? "compute" : "unknown";
}

/* --- options --- */

static assay_status fill_serving(assay_serving *v, const assay_config *c, assay_err *err) {
    int64_t most = c->max_position_embeddings > 0 ? c->max_position_embeddings : INT64_MAX / 4;
    if (v->context < 0 || v->concurrency < 0 || v->prompt < 0 || v->output < 0)
        return assay_fail(err, ASSAY_EINPUT,
                          "serving: context, concurrency, prompt and output cannot be negative");
    if (!v->concurrency) v->concurrency = 1;
    int64_t room = v->context ? v->context : most;
    if (!v->output) v->output = ASSAY_MAX(ASSAY_MIN(DEFAULT_OUTPUT, (room - v->prompt) / 2), 1);
    if (!v->prompt) v->prompt = ASSAY_MAX(ASSAY_MIN(DEFAULT_PROMPT, room - v->output), 1);
    if (!v->context) v->context = v->prompt + v->output;
    if (v->concurrency > MOST_SEQUENCES)
        return assay_fail(err, ASSAY_EINPUT, "serving: concurrency %lld is beyond %lld",
                          (long long)v->concurrency, (long long)MOST_SEQUENCES);
    if (v->context > most)
        return assay_fail(err, ASSAY_EINPUT, "serving: context %lld is beyond the model's %lld positions",
                          (long long)v->context, (long long)most);
    if (v->prompt > v->context || v->output > v->context - v->prompt)
        return assay_fail(err, ASSAY_EINPUT,
                          "serving: prompt %lld and output %lld do not fit into context %lld",
                          (long long)v->prompt, (long long)v->output, (long long)v->context);
    return ASSAY_OK;
}

static assay_status fill_share(double *v, double fallback, const char *name, assay_err *err) {
    if (*v == 0) *v = fallback;
    if (!(*v > 0 && *v <= 1))
        return assay_fail(err, ASSAY_EINPUT, "plan: %s is %g and must be above 0 and at most 1", name, *v);
    return ASSAY_OK;
}

static assay_status fill_opts(assay_plan_opts *o, const assay_config *c, assay_err *err) {
    ASSAY_TRY(fill_serving(&o->serving, c, err));
    ASSAY_TRY(fill_share(&o->eta_memory, DEFAULT_ETA_MEMORY, "eta_memory", err));
    ASSAY_TRY(fill_share(&o->eta_compute, DEFAULT_ETA_COMPUTE, "eta_compute", err));
    ASSAY_TRY(fill_share(&o->eta_parallel, DEFAULT_ETA_PARALLEL, "eta_parallel", err));
    ASSAY_TRY(fill_share(&o->utilisation, DEFAULT_UTILISATION, "utilisation", err));
    if (o->memory_utilization) ASSAY_TRY(fill_share(&o->memory_utilization, 1, "memory_utilization", err));
    o->launch_seconds = o->launch_seconds == 0 ? DEFAULT_LAUNCH : ASSAY_MAX(o->launch_seconds, 0);
    if (!o->max_parallel) o->max_parallel = 8;
    if (o->max_parallel < 1 || o->max_parallel > 1024)
        return assay_fail(err, ASSAY_EINPUT, "plan: max_parallel is %d and must be 1 to 1024",
                          o->max_parallel);
    if ((unsigned)o->kv >= ASSAY_KV_FORMAT_COUNT)
        return assay_fail(err, ASSAY_EINPUT, "plan: no such KV cache storage");
    return ASSAY_OK;
}

/* --- memory --- */

/* Share of the KV heads that one of n devices holds: heads are split, and repeated once there are more
 * devices than heads. */
static double kv_share(const assay_config *c, int n) {
    int held = ASSAY_MAX(assay_config_kv_shape(c).heads, 1);
    return (double)((held + n - 1) / n) / held;
}

/* Bytes that live at once in a prefill step of T tokens: residual and normalised input, the larger of
 * attention's q, k, v, output and the MLP's gate, up, product, the mask where the runtime keeps one, and
 * float32 logits. The largest layer counts once: layers run one after the other (gguf-parser-go's rule). */
static double activation_bytes(const assay_config *c, const assay_runtime_profile *r, int64_t context,
                               int64_t concurrency, int n) {
    double t = (double)ASSAY_MAX(ASSAY_MIN(r->chunk, context), concurrency);
    double heads = (double)c->head_dim;
    double attention = 2.0 * (double)c->n_heads * heads + 2.0 * (double)c->n_kv_heads * heads;
    double mlp = 3.0 * (double)(c->n_experts ? c->n_active * c->expert_size + c->shared_size : c->intermediate_size);
    double bytes = r->act_bytes * t * (2.0 * (double)c->hidden_size + ASSAY_MAX(attention, mlp) / n);
    double rows = r->full_logits ? t : (double)concurrency;
    if (r->full_logits) bytes += 4.0 * t * (double)context; /* the mask */
    return bytes + 4.0 * rows * (double)c->vocab_size / n;
}

static double weight_bytes(const assay_plan *p, int n) {
    double vectors = 0;
    for (int i = 0; i < p->sizes.n_lines; i++)
        if (p->sizes.lines[i].part == ASSAY_PART_VECTORS) vectors += p->sizes.lines[i].codes;
    double total = p->sizes.checkpoint_bytes > 0 ? p->sizes.checkpoint_bytes : p->sizes.total;
    vectors = ASSAY_MIN(vectors, total);
    return (total - vectors) / n + vectors;
}

static double kv_bytes(const assay_plan *p, const assay_runtime_profile *r, int64_t context,
                       int64_t concurrency, int n) {
    return assay_kv_sequence_bytes(p->config, assay_kv_of_runtime(p->opts.kv, r->id), context, r->kv_block,
                                   r->frees_windows ? r->chunk : context) *
           (double)concurrency * kv_share(p->config, n);
}

double assay_plan_memory_at(const assay_plan *p, const assay_fit *f, int64_t context, int64_t concurrency) {
    int n = f->n_parallel;
    return weight_bytes(p, n) + kv_bytes(p, f->runtime, context, concurrency, n) +
           activation_bytes(p->config, f->runtime, context, concurrency, n) + f->runtime->fixed;
}

/* Largest v in [0, most] for which the memory fits; memory grows with context and with concurrency. */
static int64_t largest(const assay_plan *p, const assay_fit *f, int64_t most, bool of_context) {
    const assay_serving *v = &p->opts.serving;
    int64_t lo = 0, hi = most;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo + 1) / 2;
        double need = of_context ? assay_plan_memory_at(p, f, mid, v->concurrency)
                                 : assay_plan_memory_at(p, f, v->context, mid);
        if (need <= f->budget)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static void fit_memory(assay_fit *f, const assay_plan *p) {
    const assay_plan_opts *o = &p->opts;
    const assay_serving *v = &o->serving;
    double share = o->memory_utilization > 0 ? o->memory_utilization : f->runtime->utilization;
    f->budget = f->device->memory.value * share;
    int most = strcmp(f->device->kind, "gpu") == 0 ? o->max_parallel : 1;
    f->n_parallel = 1;
    for (int n = 1; n <= most && !f->fits; n *= 2) {
        if (p->config->n_heads % n) break; /* runtimes split whole heads */
        f->n_parallel = n;
        f->fits = assay_plan_memory_at(p, f, v->context, v->concurrency) <=
                  f->budget; /* false when the memory is unknown */
        if (isnan(f->budget)) break;
    }
    int n = f->n_parallel;
    f->weights = weight_bytes(p, n);
    f->kv = kv_bytes(p, f->runtime, v->context, v->concurrency, n);
    f->activations = activation_bytes(p->config, f->runtime, v->context, v->concurrency, n);
    f->overhead = f->runtime->fixed;
    f->left = f->budget - f->weights - f->kv - f->activations - f->overhead;
    if (isnan(f->budget)) return;
    int64_t positions = p->max_position_embeddings > 0 ? p->max_position_embeddings : (int64_t)1 << 24;
    f->max_context = largest(p, f, positions, true);
    f->max_concurrency = largest(p, f, MOST_SEQUENCES, false);
}

/* --- speed --- */

/* Seconds for that many multiply-adds at 16 and 8 bits; NaN when a peak that is needed is unknown. */
static double compute_seconds(const assay_device *d, double macs16, double macs8, double eta) {
    double s = 0;
    if (macs16 > 0) s += 2.0 * macs16 / (d->f16.value * eta);
    if (macs8 > 0) s += 2.0 * macs8 / (d->int8.value * eta);
    return s;
}

/* Keys that the queries of tokens [0, t) look at, summed over layers: the causal triangle, cut by windows. */
static double attended(const assay_config *c, double t) {
    double sum = 0;
    for (int64_t layer = 0; layer < c->n_layers; layer++) {
        double w = assay_config_window(c, layer) ? (double)assay_config_window(c, layer) : t;
        sum += t <= w ? t * (t + 1) / 2 : w * (w + 1) / 2 + (t - w) * w;
    }
    return sum;
}

/* The larger of the two, and which it was. An unknown compute time leaves the bandwidth's as a lower bound.
 */
static double roofline(assay_bound *bound, double memory, double compute) {
    if (isnan(compute) || isnan(memory)) {
        *bound = ASSAY_BOUND_UNKNOWN;
        return memory;
    }
    *bound = compute > memory ? ASSAY_BOUND_COMPUTE : ASSAY_BOUND_BANDWIDTH;
    return ASSAY_MAX(compute, memory);
}

static void fit_speed(assay_fit *f, const assay_plan *p) {
    const assay_config *c = p->config;
    const assay_plan_opts *o = &p->opts;
    const assay_device *d = f->device;
    double n = f->n_parallel, batch = (double)o->serving.concurrency, prompt = (double)o->serving.prompt;
    double parallel = pow(o->eta_parallel, log2(n));
    double launch = strcmp(d->kind, "gpu") == 0 ? o->launch_seconds * (double)c->n_layers : 0;
    double per_key = 2.0 * (double)c->n_heads *
                     (double)c->head_dim; /* multiply-adds of a query with one key and its value */
    double macs16 = p->sizes.macs_per_token - p->sizes.macs_act8, macs8 = p->sizes.macs_act8;
    double head = ASSAY_MIN((double)c->hidden_size * (double)c->vocab_size, macs16);
    double read = p->sizes.read_per_token;
    if (p->sizes.checkpoint_bytes > 0 && p->sizes.total > 0)
        read *= p->sizes.checkpoint_bytes / p->sizes.total;
    double bandwidth = d->bandwidth.value * o->eta_memory;

    /* prefill of one prompt on an idle device; logits for its last token only */
    double attention = per_key * attended(c, prompt);
    double compute =
        compute_seconds(d, (macs16 - head) * prompt + head + attention, macs8 * prompt, o->eta_compute) / n;
    f->ttft = roofline(&f->ttft_bound, read / n / bandwidth, compute) / parallel + launch;
    if (f->ttft_bound == ASSAY_BOUND_UNKNOWN) f->ttft = NAN; /* a prompt's bandwidth bound says nothing */

    /* one step of all sequences, halfway through their answers */
    int64_t middle = o->serving.prompt + o->serving.output / 2;
    double kv = kv_bytes(p, f->runtime, middle, o->serving.concurrency, f->n_parallel);
    double keys = (attended(c, (double)middle + 1) - attended(c, (double)middle)) * batch;
    compute = compute_seconds(d, macs16 * batch + per_key * keys, macs8 * batch, o->eta_compute) / n;
    f->tpot = roofline(&f->tpot_bound, (read / n + kv) / bandwidth, compute) / parallel + launch;
    if (!f->fits && !isnan(f->budget)) f->ttft = f->tpot = NAN;
}

/* A request occupies the device for its prefill and for its share of the decode steps it takes part in. */
static void fit_cost(assay_fit *f, const assay_plan *p) {
    const assay_serving *v = &p->opts.serving;
    double out = (double)v->output;
    f->output_rate = out / (f->ttft + out * f->tpot / (double)v->concurrency);
    f->price = assay_prices_find(p->opts.prices, f->device->id);
    f->cost_output = f->cost_total = NAN;
    if (!f->price) return;
    double per_second = f->price->per_hour * f->n_parallel / 3600.0;
    f->cost_output = per_second / (f->output_rate * p->opts.utilisation) * 1e6;
    f->cost_total = f->cost_output * out / (out + (double)v->prompt);
}

/* --- the whole --- */

static assay_status pick_runtime(const assay_runtime_profile **out, const assay_plan_opts *o,
                                 const assay_device *d, assay_err *err) {
    const char *id = o->runtime;
    if (!id)
        id = strcmp(d->kind, "gpu") == 0     ? "vllm"
             : strcmp(d->kind, "apple") == 0 ? "metal"
             : strcmp(d->kind, "apu") == 0   ? "llama.cpp"
                                             : "native";
    return assay_runtime_profile_find(out, id, err);
}

static assay_status make_fits(assay_plan *p, assay_err *err) {
    size_t n;
    const assay_device *table = assay_devices(&n);
    if (p->opts.devices) n = p->opts.n_devices;
    p->fits = assay_calloc(n ? n : 1, sizeof *p->fits);
    if (!p->fits) return assay_nomem(err);
    for (size_t i = 0; i < n; i++) {
        assay_fit *f = &p->fits[i];
        f->device = p->opts.devices ? p->opts.devices[i] : &table[i];
        ASSAY_TRY(pick_runtime(&f->runtime, &p->opts, f->device, err));
        fit_memory(f, p);
        fit_speed(f, p);
        fit_cost(f, p);
        p->n_fits++;
    }
    return ASSAY_OK;
}

assay_status assay_plan_make(assay_plan *out, const assay_config *c, assay_storage_fn fn, void *ctx,
                             const assay_plan_opts *o, assay_err *err) {
    memset(out, 0, sizeof *out);
    out->config = c;
    out->max_position_embeddings = c->max_position_embeddings;
    if (o) out->opts = *o;
    ASSAY_TRY(fill_opts(&out->opts, c, err));
    ASSAY_TRY(assay_sizes_compute(&out->sizes, c, fn, ctx, err));
    out->sizes.checkpoint_bytes = out->opts.checkpoint_bytes;
    assay_kv_format kv = assay_kv_of_runtime(out->opts.kv, out->opts.runtime);
    out->kv_per_token = assay_kv_token_layer_bytes(c, kv) * (double)c->n_layers;
    out->kv_per_sequence = assay_kv_sequence_bytes(c, kv, out->opts.serving.context, 1, 1);
    snprintf(out->model, sizeof out->model, "%s, %lld layers, %.3g B parameters", c->model_type,
             (long long)c->n_layers, (double)out->sizes.params / 1e9);
    return make_fits(out, err);
}

void assay_plan_deinit(assay_plan *p) {
    if (!p) return;
    assay_free(p->fits);
    p->fits = NULL;
    p->n_fits = 0;
}
