/* bench.c: prefill and decode of a model beside the limits of this machine, measured in the same run.
 *
 * Decode reads every weight once a token, so its figure is the bytes read a second as a share of the measured
 * read bandwidth. Prefill of a few hundred tokens is arithmetic, so its figure is operations a second (two
 * per weight and token, attention included) as a share of the measured peak of the instruction that the
 * products use: bf16 or int8 dot products, or float32 multiply-adds. The model is driven below the runtime:
 * no tokenizer, no sampling but the arg max is left out too. The best of several runs counts, because on a
 * shared machine the others measure the neighbours. Ids are pseudo-random: what is said does not matter, only
 * how long it takes. */
#include <math.h>
#include <string.h>
#include "api/doc.h"
#include "api/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "kern/limits.h"
#include "model/model.h"
#include "report/table.h"

typedef struct bench {
    const assay_bench_opts *o;
    int prompt, output, repeat;
    assay_backend *backend;
    assay_model *model;
    assay_kv *kv;
    assay_seq seq;
    int32_t *ids, *pos;
    const int32_t **pages;
    double prefill_seconds, decode_seconds; /* best: of the whole prompt, of one token */
    double weight_bytes;                    /* read per token of decode */
    double macs;                            /* with weights, per token, without the head */
    double head_macs;
    assay_act_mode mode; /* of the decoder matrices */
    assay_kv_kind kv_kind;
    double peak_rss;
} bench;

static void count_weights(bench *b) {
    const assay_weights *w = assay_model_weights(b->model);
    const assay_config *c = assay_model_config(b->model);
    for (int64_t l = 0; l < w->n_layers; l++) {
        for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
            const assay_weight *m = w->blocks[l].matrix[r];
            if (!m) continue;
            b->weight_bytes += (double)assay_weight_n_bytes(m);
            b->mode = assay_weight_mode(m);
        }
        assay_weight *const *experts = w->blocks[l].expert[0];
        for (int64_t e = 0; experts && e < ASSAY_EXPERT_PARTS * c->n_experts; e++)
            b->weight_bytes += (double)assay_weight_n_bytes(experts[e]) * assay_config_active_share(c);
    }
    b->weight_bytes += (double)assay_weight_n_bytes(w->head);
    b->head_macs = (double)c->hidden_size * (double)c->vocab_size;
}

static assay_status add_macs(void *ctx, const assay_tensor_spec *spec, assay_err *err) {
    (void)err;
    bench *b = ctx;
    double met = spec->expert >= 0 ? assay_config_active_share(assay_model_config(b->model)) : 1;
    if (spec->is_linear) b->macs += (double)spec->rows * (double)spec->cols * met;
    return ASSAY_OK;
}

/* Lengths that were not given become what a short context has room for. */
static assay_status choose_lengths(bench *b, const char *dir, assay_err *err) {
    assay_config c;
    ASSAY_TRY(assay_config_open(&c, dir, err));
    int64_t context = c.max_position_embeddings;
    assay_config_deinit(&c);
    if (!b->o->output) b->output = (int)ASSAY_MAX(ASSAY_MIN(64, context / 8), 1);
    if (!b->o->prompt) b->prompt = (int)ASSAY_MAX(ASSAY_MIN(512, context - b->output), 1);
    return ASSAY_OK;
}

static assay_status open_bench(bench *b, const char *dir, assay_err *err) {
    assay_native_opts native;
    ASSAY_TRY(assay_native_opts_of(&native, &b->o->run, err));
    assay_cpu_opts cpu = {.n_threads = native.n_threads};
    ASSAY_TRY(assay_backend_open_cpu(&b->backend, &cpu, err));
    size_t total = (size_t)b->prompt + (size_t)b->output;
    assay_model_opts mo = {.activations = native.activations, .max_rows = (size_t)b->prompt};
    ASSAY_TRY(assay_model_open(&b->model, b->backend, dir, &mo, err));
    const assay_config *c = assay_model_config(b->model);
    if ((int64_t)total > c->max_position_embeddings)
        return assay_fail(
            err, ASSAY_EUSAGE,
            "prompt and output are %zu tokens, the model's context is %lld; use --prompt and --output", total,
            (long long)c->max_position_embeddings);
    assay_kv_opts kv = assay_kv_opts_of(native.kv, assay_model_kv_type(b->model), (size_t)4 << 30);
    kv.raw_pages = (size_t)b->prompt / ASSAY_KV_PAGE + 2;
    ASSAY_TRY(assay_kv_open_with(&b->kv, b->backend, c, &kv, err));
    ASSAY_TRY(assay_native_effective(NULL, &b->kv_kind, c, &native, err));
    b->ids = assay_mallocn(total, sizeof *b->ids);
    b->pos = assay_mallocn(total, sizeof *b->pos);
    b->pages = assay_mallocn(total, sizeof *b->pages);
    if (!b->ids || !b->pos || !b->pages) return assay_nomem(err);
    assay_rng rng;
    assay_rng_init(&rng, 1);
    for (size_t i = 0; i < total; i++) {
        b->ids[i] = (int32_t)assay_rng_below(&rng, (uint64_t)c->vocab_size);
        b->pos[i] = (int32_t)i;
    }
    count_weights(b);
    return assay_config_each_tensor(c, add_macs, b, err);
}

static void close_bench(bench *b) {
    if (b->kv) assay_seq_release(b->kv, &b->seq);
    assay_kv_close(b->kv);
    assay_model_close(b->model);
    assay_backend_close(b->backend);
    assay_free(b->ids);
    assay_free(b->pos);
    assay_free(b->pages);
}

/* Positions [at, at + n), with the logits of the last; at 0 begins anew. */
static assay_status step(double *seconds, bench *b, size_t at, size_t n, assay_err *err) {
    int32_t last = (int32_t)n - 1;
    double t = assay_now();
    if (at == 0) assay_seq_release(b->kv, &b->seq);
    ASSAY_TRY(assay_seq_extend(b->kv, &b->seq, at + n, err));
    for (size_t i = 0; i < n; i++)
        b->pages[i] = b->seq.pages;
    assay_batch batch = {
        .n = n, .ids = b->ids + at, .pos = b->pos + at, .pages = b->pages, .n_out = 1, .out = &last};
    assay_model_forward(b->model, b->kv, &batch);
    assay_model_logits(b->model, 0, 1);
    assay_seq_advance(b->kv, &b->seq, at + n);
    *seconds = assay_now() - t;
    return ASSAY_OK;
}

static assay_status measure(bench *b, assay_err *err) {
    size_t p = (size_t)b->prompt, n = (size_t)b->output;
    b->prefill_seconds = b->decode_seconds = INFINITY;
    double t;
    ASSAY_TRY(step(&t, b, 0, ASSAY_MIN(p, 8), err)); /* pages the weights in */
    for (int r = 0; r < b->repeat; r++) {
        ASSAY_TRY(assay_progress_report(b->o->progress, "measuring", r, b->repeat, "runs", err));
        ASSAY_TRY(step(&t, b, 0, p, err));
        b->prefill_seconds = fmin(b->prefill_seconds, t);
        double sum = 0;
        for (size_t i = 0; i < n; i++, sum += t)
            ASSAY_TRY(step(&t, b, p + i, 1, err));
        b->decode_seconds = fmin(b->decode_seconds, sum / (double)n);
    }
    return ASSAY_OK;
}

/* Multiply-adds of causal attention over a prompt of n tokens: scores and values. */
static double attention_macs(const assay_config *c, double n) {
    return (double)c->n_layers * (double)(c->n_heads * c->head_dim) * n * (n + 1);
}

/* Of a step halfway through the output; a quantized cache's newest page counts as if it were quantized. */
static double kv_bytes_read(const bench *b) {
    return (double)assay_kv_page_size(b->kv) / ASSAY_KV_PAGE * ((double)b->prompt + (double)b->output / 2);
}

static const assay_column limit_columns[] = {{.head = "this machine"}, {.head = "", .right = true}};

static assay_status put_limits(assay_str *text, json_t *j, const assay_limits *l, const char *backend,
                               const assay_term *term, assay_err *err) {
    assay_table t;
    assay_table_init(&t, limit_columns, ASSAY_LEN(limit_columns));
    const struct {
        const char *name, *key, *unit;
        double value;
    } rows[] = {{"memory read", "read_gb_per_second", "GB/s", l->read_gbs},
                {"float32 multiply-add", "f32_gflops", "GFLOP/s", l->f32_gflops},
                {"bf16 dot product", "bf16_gflops", "GFLOP/s", l->bf16_gflops},
                {"int8 dot product", "int8_gops", "GOP/s", l->int8_gops}};
    json_t *limits = json_object();
    assay_status s = limits ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < ASSAY_LEN(rows); i++) {
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", rows[i].name);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%.1f %s", rows[i].value, rows[i].unit);
        s = assay_doc_set(limits, rows[i].key, json_real(rows[i].value), err);
    }
    assay_str_printf(text, "%s\n", backend);
    if (s == ASSAY_OK) s = assay_table_text(text, &t, term, err);
    assay_table_free(&t);
    if (s == ASSAY_OK) s = assay_doc_set(j, "backend", json_string(backend), err);
    if (s != ASSAY_OK) {
        json_decref(limits);
        return s;
    }
    return assay_doc_set(j, "limits", limits, err);
}

static assay_status put_figures(assay_str *text, json_t *j, const bench *b, const assay_limits *l,
                                assay_err *err) {
    static const char *const mode_names[] = {"auto", "f32", "bf16", "f16", "int8"};
    const assay_config *c = assay_model_config(b->model);
    double n = b->prompt, ops = 2 * (b->macs * n + b->head_macs + attention_macs(c, n));
    double peak = b->mode == ASSAY_ACT_INT8   ? l->int8_gops
                  : b->mode == ASSAY_ACT_BF16 ? l->bf16_gflops
                                              : l->f32_gflops;
    double bytes = b->weight_bytes + kv_bytes_read(b), rate = bytes / b->decode_seconds / 1e9,
           arithmetic = ops / b->prefill_seconds / 1e9;
    char size[32], rss[32];
    assay_str_printf(
        text, "decode   %7.2f tokens/s   %.1f GB/s of weights and KV cache = %.0f %% of the memory's\n",
        1 / b->decode_seconds, rate, 100 * rate / l->read_gbs);
    assay_str_printf(text, "prefill  %7.1f tokens/s   %.0f GOP/s = %.0f %% of the %s peak (%d tokens)\n",
                     n / b->prefill_seconds, arithmetic, 100 * arithmetic / peak, mode_names[b->mode],
                     b->prompt);
    assay_str_printf(text, "memory   %s read per token, peak resident %s\n",
                     assay_format_bytes(size, sizeof size, bytes),
                     assay_format_bytes(rss, sizeof rss, b->peak_rss));
    json_t *f = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:i}",
                          "activations", mode_names[b->mode], "kv", assay_kv_kind_word(b->kv_kind),
                          "kv_bytes_per_token", (double)assay_kv_page_size(b->kv) / ASSAY_KV_PAGE,
                          "decode_tokens_per_second", 1 / b->decode_seconds, "decode_bytes_per_token", bytes,
                          "decode_gb_per_second", rate, "decode_share_of_read", rate / l->read_gbs,
                          "prefill_tokens_per_second", n / b->prefill_seconds, "prefill_gops", arithmetic,
                          "prefill_share_of_peak", arithmetic / peak, "peak_rss_bytes", b->peak_rss, "prompt",
                          b->prompt, "output", b->output, "repeat", b->repeat);
    return assay_doc_set(j, "figures", f, err);
}

assay_status assay_bench(assay_doc **out, const char *model, const assay_bench_opts *o, assay_err *err) {
    *out = NULL;
    bench b = {.o = o, .prompt = o->prompt, .output = o->output, .repeat = o->repeat ? o->repeat : 3};
    assay_limits limits;
    assay_str text = {0};
    assay_term term = assay_term_of_view(&o->view);
    char date[32];
    json_t *j =
        json_pack("{s:s, s:s?, s:s, s:s, s:s}", "schema", "assay.bench/1", "model", model, "version",
                  ASSAY_VERSION, "build", ASSAY_BUILD_FLAGS, "date", assay_date_iso(date, sizeof date));
    assay_status s = j ? ASSAY_OK : assay_nomem(err);
    if (s != ASSAY_OK) goto out;
    if (model) {
        ASSAY_GO(choose_lengths(&b, model, err));
        ASSAY_GO(open_bench(&b, model, err));
    } else {
        assay_cpu_opts cpu = {.n_threads = o->run.threads};
        ASSAY_GO(assay_backend_open_cpu(&b.backend, &cpu, err));
    }
    if (model) {
        ASSAY_GO(measure(&b, err));
        assay_str_printf(&text, "%s\n", model);
        b.peak_rss = (double)assay_peak_rss(); /* before the limits take memory of their own */
    }
    ASSAY_GO(assay_limits_measure(&limits, assay_backend_n_threads(b.backend), err));
    ASSAY_GO(put_limits(&text, j, &limits, assay_backend_describe(b.backend), &term, err));
    if (model) ASSAY_GO(put_figures(&text, j, &b, &limits, err));
    s = assay_doc_make(out, &text, j, 0, err);
    j = NULL;
out:
    json_decref(j);
    assay_str_free(&text);
    close_bench(&b);
    return s;
}
