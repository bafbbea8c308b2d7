/* layouts.h: small random checkpoints of any architecture, made from a config.json, with inputs that have directions as trained models'
 * have; and what a model computes for some tokens. */
#ifndef TESTS_METHOD_LAYOUTS_H
#define TESTS_METHOD_LAYOUTS_H

#include <math.h>
#include "base/json.h"
#include "method/tiny.h"
#include "model/model.h"

enum { LAYOUT_VOCAB = 96, LAYOUT_SEQS = 8, LAYOUT_LENGTH = 24, LAYOUT_TOKENS = LAYOUT_SEQS * LAYOUT_LENGTH, LAYOUT_LATENT = 12 };

/* What all configurations have in common. */
#define LAYOUT_CONFIG(rest)                                                                                                            \
    "{\"vocab_size\": 96, \"num_hidden_layers\": 2, \"max_position_embeddings\": 64, \"bos_token_id\": 1, \"eos_token_id\": 2, " rest "}"

typedef struct layout_maker {
    assay_ckpt_writer *writer;
    assay_dtype dtype;
    int starved; /* an expert that no token is sent to; -1 = none */
} layout_maker;

static inline bool layout_ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

static inline void layout_seed(assay_rng *rng, const char *name) {
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *name; name++) h = (h ^ (uint8_t)*name) * UINT64_C(1099511628211);
    assay_rng_init(rng, h);
}

/* Embeddings: few directions and a little of everything else, all with the first element large. */
static inline void layout_embedding(float *v, int64_t rows, int64_t cols, assay_rng *rng) {
    float *basis = assay_mallocn((size_t)(LAYOUT_LATENT * cols), sizeof *basis);
    for (int64_t i = 0; i < LAYOUT_LATENT * cols; i++) basis[i] = (float)assay_rng_normal(rng);
    for (int64_t r = 0; r < rows; r++) {
        double z[LAYOUT_LATENT];
        for (int k = 0; k < LAYOUT_LATENT; k++) z[k] = assay_rng_normal(rng) / sqrt(LAYOUT_LATENT);
        for (int64_t c = 0; c < cols; c++) {
            double sum = 0.1 * assay_rng_normal(rng);
            for (int k = 0; k < LAYOUT_LATENT; k++) sum += z[k] * (double)basis[k * cols + c];
            v[r * cols + c] = (float)(c ? sum : 6);
        }
    }
    assay_free(basis);
}

static inline void layout_fill(float *v, const assay_tensor_spec *spec, const layout_maker *m) {
    bool bias = layout_ends(spec->name, "bias"), router = spec->is_router && spec->rows > 1;
    assay_rng rng;
    layout_seed(&rng, spec->name);
    if (spec->is_embedding) {
        layout_embedding(v, spec->rows, spec->cols, &rng);
        return;
    }
    for (int64_t i = 0; i < spec->rows * spec->cols; i++) {
        double x = assay_rng_normal(&rng);
        v[i] = (float)(bias              ? 0.05 * x
                       : spec->is_vector ? exp(0.3 * x)
                                         : x / sqrt((double)spec->cols));
        if (router && i % spec->cols == 0) v[i] = i / spec->cols == m->starved ? -40 : 0.1F; /* the large element chooses */
    }
}

static inline assay_status layout_put(void *ctx, const assay_tensor_spec *spec, assay_err *err) {
    layout_maker *m = ctx;
    size_t n = (size_t)(spec->rows * spec->cols);
    float *v = assay_mallocn(n, sizeof *v);
    void *data = assay_mallocn(n, sizeof *v);
    const int64_t dims[2] = {spec->is_transposed ? spec->cols : spec->rows, spec->is_transposed ? spec->rows : spec->cols};
    layout_fill(v, spec, m);
    assay_from_f32(data, m->dtype, v, n);
    assay_status s = assay_ckpt_writer_put(m->writer, spec->name, m->dtype, spec->is_vector ? 1 : 2, dims, data, err);
    assay_free(v);
    assay_free(data);
    return s;
}

/* The checkpoint of a configuration; the tokenizer is the demo's. */
static inline assay_status layout_make(const char *dir, const char *config, int starved, assay_err *err) {
    layout_maker m = {.starved = starved};
    assay_config c = {0};
    char *text = NULL;
    size_t n;
    assay_status s;
    ASSAY_TRY(tiny_text(dir, "config.json", config, err));
    ASSAY_GO(assay_config_open(&c, dir, err));
    m.dtype = c.dtype;
    ASSAY_GO(assay_ckpt_writer_open(&m.writer, dir, 0, err));
    ASSAY_GO(assay_config_each_tensor(&c, layout_put, &m, err));
    ASSAY_GO(assay_ckpt_writer_commit(m.writer, err));
    ASSAY_GO(assay_read_file(&text, &n, "models/demo/tokenizer.json", 0, err));
    s = tiny_text(dir, "tokenizer.json", text, err);
out:
    assay_free(text);
    assay_config_deinit(&c);
    return s;
}

/* logits [LAYOUT_TOKENS][LAYOUT_VOCAB] of sequences of LAYOUT_LENGTH tokens. */
static inline assay_status layout_logits(float *logits, const char *dir, const int32_t *ids, assay_err *err) {
    assay_cpu_opts cpu = {.n_threads = 1};
    assay_model_opts mo = {.max_rows = LAYOUT_LENGTH};
    assay_backend *b = NULL;
    assay_model *m = NULL;
    assay_kv *kv = NULL;
    assay_status s;
    ASSAY_GO(assay_backend_open_cpu(&b, &cpu, err));
    ASSAY_GO(assay_model_open(&m, b, dir, &mo, err));
    ASSAY_GO(assay_kv_open(&kv, b, assay_model_config(m), assay_model_kv_type(m), 1 << 22, err));
    for (int i = 0; i < LAYOUT_SEQS && s == ASSAY_OK; i++) {
        int32_t pos[LAYOUT_LENGTH];
        const int32_t *pages[LAYOUT_LENGTH];
        assay_seq seq = {0};
        if ((s = assay_seq_extend(kv, &seq, LAYOUT_LENGTH, err)) != ASSAY_OK) break;
        for (int k = 0; k < LAYOUT_LENGTH; k++) {
            pos[k] = k;
            pages[k] = seq.pages;
        }
        assay_batch batch = {
            .n = LAYOUT_LENGTH, .ids = ids + i * LAYOUT_LENGTH, .pos = pos, .pages = pages, .n_out = LAYOUT_LENGTH, .out = pos};
        assay_model_forward(m, kv, &batch);
        for (size_t k = 0, n, most = assay_model_logit_rows(m); k < LAYOUT_LENGTH; k += n) {
            n = ASSAY_MIN(most, (size_t)LAYOUT_LENGTH - k);
            memcpy(logits + ((size_t)i * LAYOUT_LENGTH + k) * LAYOUT_VOCAB, assay_model_logits(m, k, n), n * LAYOUT_VOCAB * sizeof *logits);
        }
        assay_seq_release(kv, &seq);
    }
out:
    assay_kv_close(kv);
    assay_model_close(m);
    if (b) assay_backend_close(b);
    return s;
}

static inline double layout_log_sum(const float *x) {
    double top = -1e30, sum = 0;
    for (int v = 0; v < LAYOUT_VOCAB; v++) top = fmax(top, (double)x[v]);
    for (int v = 0; v < LAYOUT_VOCAB; v++) sum += exp((double)x[v] - top);
    return top + log(sum);
}

/* KL(softmax a || softmax b), mean per token, nats; NaN shows. */
static inline double layout_kl(const float *a, const float *b) {
    double sum = 0;
    for (int t = 0; t < LAYOUT_TOKENS; t++, a += LAYOUT_VOCAB, b += LAYOUT_VOCAB) {
        double la = layout_log_sum(a), lb = layout_log_sum(b);
        for (int v = 0; v < LAYOUT_VOCAB; v++) sum += exp((double)a[v] - la) * (((double)a[v] - la) - ((double)b[v] - lb));
    }
    return sum / LAYOUT_TOKENS;
}

#endif
