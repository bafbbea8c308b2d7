/* native.c: the project's own engine behind runtime.h: opening a checkpoint directory, and saying what it is.
 *
 * Scheduling is engine.c's, the arithmetic model/'s and the backend's. Results are a function of the request
 * alone: batch, threads, chunking and prefix cache change only the time. The exception is made explicit: a KV
 * budget below the model's context shortens the context, which the manifest states. */
#include "runtime/native.h"
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "runtime/native_impl.h"

static json_t *native_manifest(const assay_runtime *r);
static void native_close(assay_runtime *r);

static const assay_runtime_ops native_ops = {.score = assay_native_score,
                                             .generate = assay_native_generate,
                                             .manifest = native_manifest,
                                             .close = native_close};

static size_t quarter_of_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages / 4 * (size_t)size : (size_t)1 << 30;
}

static assay_status complete_opts(assay_native_opts *o, const assay_native_opts *given, assay_err *err) {
    *o = given ? *given : (assay_native_opts){0};
    if (o->max_batch < 0 || o->max_batch > 4096 || o->prefill_chunk < 0 || o->prefill_chunk > 1 << 20 ||
        o->n_threads < 0)
        return assay_fail(err, ASSAY_EUSAGE,
                          "threads, batch (at most 4096) and prefill chunk (at most %d) cannot be %d, %d, %d",
                          1 << 20, o->n_threads, o->max_batch, o->prefill_chunk);
    if (o->max_batch == 0) o->max_batch = 32;
    if (o->prefill_chunk == 0) o->prefill_chunk = 512;
    if (o->kv_bytes == 0) o->kv_bytes = quarter_of_memory();
    return ASSAY_OK;
}

static const assay_kv_kind plain[] = {[ASSAY_KV_F32] = ASSAY_KV_KIND_F32,
                                      [ASSAY_KV_BF16] = ASSAY_KV_KIND_BF16,
                                      [ASSAY_KV_F16] = ASSAY_KV_KIND_F16};

/* Room for the step's own pages and for the partial ones of slots and kept sequences (engine.c), as far as a
 * quarter of the budget goes; more than that is better spent on quantized ones. */
static assay_kv_opts kv_opts_of(const assay_native_opts *o, const assay_config *c) {
    assay_kv_opts kv = assay_kv_opts_of(o->kv, assay_kv_own_type(c, o->activations), o->kv_bytes);
    size_t raw = assay_kv_plain_page(c, kv.type) * (size_t)c->n_layers,
           wish = 4 * (size_t)o->max_batch + 32 + (size_t)o->prefill_chunk / ASSAY_KV_PAGE + 2;
    kv.raw_pages = ASSAY_MAX(ASSAY_MIN(wish, o->kv_bytes / 4 / raw), (size_t)ASSAY_KV_LEAST_RAW);
    return kv;
}

/* The longest sequence: the model's, the caller's wish, or what the KV budget holds. */
static assay_status find_context(size_t *out, const assay_native_opts *o, const assay_config *c,
                                 size_t kv_pages, assay_err *err) {
    size_t model = (size_t)c->max_position_embeddings;
    if (o->context > model)
        return assay_fail(err, ASSAY_EUSAGE,
                          "a context of %zu is longer than the model's max_position_embeddings of %zu",
                          o->context, model);
    *out = ASSAY_MIN(o->context ? o->context : model, kv_pages * ASSAY_KV_PAGE);
    return ASSAY_OK;
}

assay_status assay_native_effective(size_t *context, assay_kv_kind *kv, const assay_config *c,
                                    const assay_native_opts *o, assay_err *err) {
    assay_native_opts full;
    assay_kv_size size;
    size_t longest = 0;
    ASSAY_TRY(complete_opts(&full, o, err));
    assay_kv_opts ko = kv_opts_of(&full, c);
    ASSAY_TRY(assay_kv_measure(&size, c, &ko, err));
    ASSAY_TRY(find_context(&longest, &full, c, size.max_pages, err));
    if (context) *context = longest;
    if (kv) *kv = ko.pack ? full.kv : plain[ko.type];
    return ASSAY_OK;
}

static assay_status open_text(assay_native *n, const char *dir, assay_err *err) {
    assay_err none = {0};
    if (n->opts.no_tokenizer) return ASSAY_OK;
    ASSAY_TRY(assay_checkpoint_check_path(dir, err));
    ASSAY_TRY(assay_tokenizer_open(&n->tokenizer, dir, err));
    assay_status s = assay_template_open(&n->tmpl, dir, &none);
    if (s == ASSAY_OK || s == ASSAY_ENOTFOUND) return ASSAY_OK; /* a base model has no template */
    return assay_fail(err, s, "%s", none.message);
}

assay_status assay_native_open(assay_runtime **out, const char *dir, const assay_native_opts *o,
                               assay_err *err) {
    assay_status s;
    *out = NULL;
    assay_native *n = assay_calloc(1, sizeof *n);
    if (!n) return assay_nomem(err);
    n->base.ops = &native_ops;
    n->base.caps = ASSAY_CAN_GENERATE | ASSAY_CAN_SCORE | ASSAY_CAN_LOGITS;
    ASSAY_GO(complete_opts(&n->opts, o, err));
    n->dir = assay_strdup(dir);
    if (!n->dir) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(open_text(n, dir, err));
    size_t max_batch = (size_t)n->opts.max_batch, chunk = (size_t)n->opts.prefill_chunk;
    assay_cpu_opts cpu = {.n_threads = n->opts.n_threads, .isa = n->opts.isa};
    ASSAY_GO(assay_backend_open_cpu(&n->backend, &cpu, err));
    n->n_threads = assay_backend_n_threads(n->backend);
    assay_model_opts mo = {.activations = n->opts.activations, .max_rows = max_batch + chunk, .adapter = n->opts.adapter};
    ASSAY_GO(assay_model_open(&n->model, n->backend, dir, &mo, err));
    const assay_config *c = assay_model_config(n->model);
    assay_kv_opts kv = kv_opts_of(&n->opts, c);
    ASSAY_GO(assay_kv_open_with(&n->kv, n->backend, c, &kv, err));
    ASSAY_GO(assay_native_effective(&n->base.context, &n->kv_kind, c, &n->opts, err));
    ASSAY_GO(assay_engine_open(&n->engine, n->model, n->kv, max_batch, chunk, !n->opts.no_prefix_cache, err));
    n->opts.adapter = NULL; /* was borrowed */
    n->base.n_vocab = (size_t)assay_model_config(n->model)->vocab_size;
    n->base.tokenizer = n->tokenizer;
    n->base.tmpl = n->tmpl;
out:
    if (s == ASSAY_OK)
        *out = &n->base;
    else
        native_close(&n->base);
    return s;
}

static void native_close(assay_runtime *r) {
    assay_native *n = (assay_native *)r;
    assay_engine_close(n->engine);
    assay_kv_close(n->kv);
    assay_model_close(n->model);
    if (n->backend) assay_backend_close(n->backend);
    assay_template_close(n->tmpl);
    assay_tokenizer_close(n->tokenizer);
    assay_free(n->dir);
    assay_free(n);
}

/* --- manifest --- */

/* {"bf16": 0.14, "int4": 0.86}: shares of the matrices' elements. */
static json_t *precision_shares(const assay_weights *w) {
    int64_t total = 0;
    json_t *j = json_object();
    for (int p = 0; p < ASSAY_PRECISION_COUNT; p++)
        total += w->n_elements[p];
    for (int p = 0; p < ASSAY_PRECISION_COUNT; p++)
        if (w->n_elements[p])
            json_object_set_new(j, assay_precision_name((assay_precision)p),
                                json_real((double)w->n_elements[p] / (double)total));
    return j;
}

static json_t *compute_modes(const assay_weights *w) {
    static const char *const names[ASSAY_ACT_MODES] = {"auto", "f32", "bf16", "f16", "int8", "fp8"};
    json_t *j = json_object();
    for (size_t m = 0; m < ASSAY_ACT_MODES; m++)
        if (w->n_mode[m]) json_object_set_new(j, names[m], json_integer((json_int_t)w->n_mode[m]));
    return j;
}

/* Losses stack: how keys and values were kept stands beside what the weights are. The newest positions of a
 * quantized cache, up to `unquantized_positions`, are in `unquantized`. */
static json_t *kv_manifest(const assay_native *n) {
    const assay_kv_size *size = assay_kv_get_size(n->kv);
    bool packs = assay_kv_get_pack(n->kv) != ASSAY_KV_PACK_NONE;
    json_t *j = json_pack("{s:s, s:f, s:I}", "type", assay_kv_kind_word(n->kv_kind), "bytes_per_token",
                          (double)size->page / ASSAY_KV_PAGE, "budget_bytes", (json_int_t)n->opts.kv_bytes);
    if (!packs) return j;
    json_object_set_new(j, "unquantized", json_string(assay_kv_kind_word(plain[assay_kv_get_type(n->kv)])));
    json_object_set_new(j, "unquantized_positions", json_integer(ASSAY_KV_PAGE));
    return j;
}

static json_t *native_manifest(const assay_runtime *r) {
    assay_native *n =
        (assay_native *)(uintptr_t)r; /* the hash is kept once computed; the object itself is never const */
    const assay_config *c = assay_model_config(n->model);
    const assay_weights *w = assay_model_weights(n->model);
    json_t *j = json_object();
    if (!j) return NULL;
    if (!n->hash[0] && assay_checkpoint_hash(n->hash, assay_model_checkpoint(n->model), NULL) != ASSAY_OK)
        n->hash[0] = 0;
    json_object_set_new(j, "runtime", json_string("native"));
    json_object_set_new(j, "version", json_string(ASSAY_VERSION));
    json_object_set_new(j, "build", json_string(ASSAY_BUILD_FLAGS));
    json_object_set_new(j, "model", json_string(n->dir));
    json_object_set_new(j, "checkpoint", n->hash[0] ? json_string(n->hash) : json_null());
    json_object_set_new(j, "tokenizer",
                        n->tokenizer ? json_string(assay_tokenizer_hash(n->tokenizer)) : json_null());
    json_object_set_new(j, "chat_template",
                        n->tmpl ? json_string(assay_template_hash(n->tmpl)) : json_null());
    json_object_set_new(j, "architecture", json_string(c->architecture));
    json_object_set_new(j, "dtype", json_string(assay_dtype_name(c->dtype)));
    json_object_set_new(j, "precisions", precision_shares(w));
    json_object_set_new(j, "weight_bytes", json_integer((json_int_t)(w->bits / 8)));
    json_object_set_new(j, "matrices_by_compute_mode", compute_modes(w));
    if (w->adapter_hash[0])
        json_object_set_new(j, "adapter", json_pack("{s:s, s:i}", "sha256", w->adapter_hash, "matrices", (int)w->n_adapted));
    json_object_set_new(j, "kv", kv_manifest(n));
    json_object_set_new(j, "context", json_integer((json_int_t)n->base.context));
    json_object_set_new(j, "backend", json_string(assay_backend_describe(n->backend)));
    json_object_set_new(j, "threads", json_integer(n->n_threads));
    json_object_set_new(j, "max_batch", json_integer(n->opts.max_batch));
    json_object_set_new(j, "prefill_chunk", json_integer(n->opts.prefill_chunk));
    json_object_set_new(j, "prefix_cache", json_boolean(!n->opts.no_prefix_cache));
    json_object_set_new(j, "unused_tensors", json_string(assay_str_c(&w->unused)));
    return j;
}
