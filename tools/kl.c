/* kl.c: how far a variant's next-token distributions are from its baseline's on held-out text, for tools/interop_methods.py.
 *
 *   kl BASE VARIANT TEXT [--length 512] [--windows N] [--activations f32|auto|bf16|f16|int8] [--threads N]
 *
 * TEXT is read as calibration data is (method/calib.h, with its options behind commas): windows of exactly --length tokens, all of them or
 * N drawn. Every token of a window but the first is predicted from those before it. One JSON line on stdout: mean KL(base || variant) per token
 * in nats with its standard error over windows, the share of tokens whose most likely token agrees, the perplexity of both. One window's
 * distributions of the base are in memory at a time. Log-softmaxes are rounded to float32 before they are compared, as the evaluator
 * kl does it, so that equal logits give exactly 0. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "method/calib.h"
#include "model/sample.h"
#include "runtime/native.h"

static const struct {
    const char *name;
    assay_act_mode mode;
} modes[] = {{"f32", ASSAY_ACT_F32}, {"auto", ASSAY_ACT_AUTO}, {"bf16", ASSAY_ACT_BF16}, {"f16", ASSAY_ACT_F16}, {"int8", ASSAY_ACT_INT8}};

typedef struct options {
    const char *base, *variant, *text;
    size_t length, windows; /* windows 0: all */
    assay_act_mode activations;
    int threads;
} options;

/* One window as it is measured. */
typedef struct window {
    float *lp; /* [length - 1][n_vocab] the base's log-softmaxes */
    float *lq; /* [n_vocab] */
    size_t n_vocab, at, n_same;
    bool is_base;
    double kl;
} window;

typedef struct totals {
    double kl, kl2, nll_base, nll_variant; /* kl, kl2: sums over windows of a window's mean and of its square */
    size_t windows, tokens, same;
} totals;

static assay_status on_logits(void *ctx, size_t req, size_t position, const float *logits, size_t n_vocab, assay_err *err) {
    window *w = ctx;
    float *p = w->lp + (position - 1) * n_vocab;
    (void)req;
    (void)err;
    if (w->is_base) {
        assay_log_softmax(p, logits, n_vocab);
        return ASSAY_OK;
    }
    assay_log_softmax(w->lq, logits, n_vocab);
    w->kl += assay_kl(p, w->lq, n_vocab);
    w->n_same += assay_argmax(p, n_vocab) == assay_argmax(w->lq, n_vocab);
    return ASSAY_OK;
}

static assay_status score(double *nll, window *w, assay_runtime *r, bool is_base, const int32_t *ids, size_t n, assay_err *err) {
    assay_score_req req = {.ids = ids, .n_ids = n, .from = 1};
    assay_score_res res = {0};
    w->is_base = is_base;
    assay_status s = assay_runtime_score(r, &res, &req, 1, on_logits, w, NULL, NULL, err);
    if (s == ASSAY_OK) *nll -= res.sum;
    assay_score_res_deinit(&res);
    return s;
}

static assay_status measure(totals *t, assay_runtime *base, assay_runtime *variant, const assay_calib *c, assay_err *err) {
    window w = {.n_vocab = assay_runtime_n_vocab(base)};
    size_t size;
    assay_status s = ASSAY_OK;
    if (!assay_mul_size(&size, c->length, w.n_vocab)) return assay_nomem(err);
    w.lp = assay_mallocn(size, sizeof *w.lp);
    w.lq = assay_mallocn(w.n_vocab, sizeof *w.lq);
    if (!w.lp || !w.lq) s = assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < c->n_samples; i++) {
        const int32_t *ids = c->ids + c->first[i];
        size_t n = c->first[i + 1] - c->first[i];
        w.kl = 0;
        s = score(&t->nll_base, &w, base, true, ids, n, err);
        if (s == ASSAY_OK) s = score(&t->nll_variant, &w, variant, false, ids, n, err);
        double mean = w.kl / (double)(n - 1);
        t->kl += mean;
        t->kl2 += mean * mean;
        t->windows++;
        t->tokens += n - 1;
    }
    t->same = w.n_same;
    assay_free(w.lp);
    assay_free(w.lq);
    return s;
}

static assay_status print(const options *o, const totals *t, const assay_calib *c, assay_err *err) {
    double n = (double)t->windows, mean = t->kl / n, tokens = (double)t->tokens;
    double variance = n > 1 ? fmax(0, (t->kl2 - n * mean * mean) / (n - 1)) : 0;
    assay_str b = {0};
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "base", o->base, "variant", o->variant, "text", o->text,
                          "text_sha256", c->data_hash, "ids_sha256", c->ids_hash, "windows", (json_int_t)t->windows, "length",
                          (json_int_t)c->length, "tokens", (json_int_t)t->tokens, "kl", mean, "kl_se", sqrt(variance / n), "agreement",
                          (double)t->same / tokens, "ppl_base", exp(t->nll_base / tokens), "ppl_variant", exp(t->nll_variant / tokens));
    assay_status s = j ? assay_json_dump(&b, j, 0, false, err) : assay_nomem(err);
    if (s == ASSAY_OK) puts(assay_str_c(&b));
    json_decref(j);
    assay_str_free(&b);
    return s;
}

static assay_status read_windows(assay_calib *out, const options *o, const assay_runtime *base, assay_err *err) {
    assay_calib_spec spec = {0};
    assay_calib_model m = {.tokenizer = assay_runtime_tokenizer(base),
                           .tmpl = assay_runtime_template(base),
                           .n_vocab = assay_runtime_n_vocab(base),
                           .context = assay_runtime_context(base)};
    assay_status s = assay_calib_spec_from_string(&spec, o->text, err);
    if (s == ASSAY_OK) {
        if (o->length) spec.opts.length = o->length;
        if (!spec.opts.length) spec.opts.length = ASSAY_MIN(m.context, (size_t)512);
        if (o->windows) spec.opts.samples = o->windows;
        if (!spec.opts.samples) spec.opts.samples = ASSAY_CALIB_MAX_SAMPLES;
        s = assay_calib_load(out, spec.data, &spec.opts, &m, err);
    }
    assay_calib_spec_deinit(&spec);
    return s;
}

static assay_status run(const options *o, assay_err *err) {
    assay_runtime *base = NULL, *variant = NULL;
    assay_calib c = {0};
    totals t = {0};
    assay_status s;
    assay_native_opts native = {.activations = ASSAY_ACT_F32, .n_threads = o->threads, .max_batch = 1, .no_prefix_cache = true};
    ASSAY_GO(assay_native_open(&base, o->base, &native, err));
    native.activations = o->activations;
    native.no_tokenizer = true;
    ASSAY_GO(assay_native_open(&variant, o->variant, &native, err));
    if (assay_runtime_n_vocab(base) != assay_runtime_n_vocab(variant))
        ASSAY_GO(assay_fail(err, ASSAY_EMISMATCH, "the vocabularies differ: %zu and %zu tokens", assay_runtime_n_vocab(base),
                            assay_runtime_n_vocab(variant)));
    ASSAY_GO(read_windows(&c, o, base, err));
    ASSAY_GO(measure(&t, base, variant, &c, err));
    s = print(o, &t, &c, err);
out:
    assay_runtime_close(base);
    assay_runtime_close(variant);
    assay_calib_deinit(&c);
    return s;
}

static bool parse_number(size_t *out, const char *text) {
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    *out = (size_t)v;
    return *text >= '0' && *text <= '9' && !*end && v <= ASSAY_CALIB_MAX_LENGTH;
}

static bool parse_mode(assay_act_mode *out, const char *text) {
    for (size_t i = 0; i < ASSAY_LEN(modes); i++)
        if (!strcmp(modes[i].name, text)) {
            *out = modes[i].mode;
            return true;
        }
    return false;
}

static bool parse(options *o, int argc, char **argv) {
    const char **plain[] = {&o->base, &o->variant, &o->text};
    size_t n_plain = 0, threads = 0;
    *o = (options){.activations = ASSAY_ACT_F32};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool ok = true;
        if (strncmp(argv[i], "--", 2) != 0) {
            if (n_plain == ASSAY_LEN(plain)) return false;
            *plain[n_plain++] = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--length")) ok = parse_number(&o->length, value);
        else if (!strcmp(argv[i], "--windows")) ok = parse_number(&o->windows, value);
        else if (!strcmp(argv[i], "--threads")) ok = parse_number(&threads, value);
        else if (!strcmp(argv[i], "--activations")) ok = parse_mode(&o->activations, value);
        else return false;
        if (!ok) return false;
        i++;
    }
    o->threads = (int)threads;
    return n_plain == ASSAY_LEN(plain);
}

int main(int argc, char **argv) {
    options o;
    if (!parse(&o, argc, argv)) {
        fputs("usage: kl BASE VARIANT TEXT [--length 512] [--windows N] [--activations f32|auto|bf16|f16|int8] [--threads N]\n", stderr);
        return 2;
    }
    assay_err err = {0};
    assay_status s = run(&o, &err);
    if (s != ASSAY_OK) fprintf(stderr, "kl: %s\n", err.message);
    return assay_status_exit_code(s);
}
