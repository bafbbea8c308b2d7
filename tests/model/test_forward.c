/* The forward pass against the original implementations on tiny random checkpoints
 * (tests/golden/tiny/make.py: transformers 5.23.0), one per peculiarity of an architecture; and damaged
 * checkpoints, each refused with the tensor's name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/model.h"
#include "model/sample.h"

enum { MAX = 128 };

static const char *const goldens[] = {"llama31", "mistral", "qwen2", "qwen3", "llama-bias"};

static char *golden_path(char *out, size_t n, const char *name, const char *file) {
    snprintf(out, n, "tests/golden/tiny/%s%s%s", name, file ? "/" : "", file ? file : "");
    return out;
}

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* A model with one sequence, fed some tokens at a time; logits of all rows. */
typedef struct session {
    assay_backend *backend;
    assay_model *model;
    assay_kv *kv;
    assay_seq seq;
    float *logits; /* [MAX][vocab] */
    size_t vocab;
} session;

static void open_session(session *s, const char *name, assay_act_mode act) {
    char dir[200];
    assay_err err = {0};
    assay_cpu_opts cpu = {.n_threads = 1};
    assay_model_opts mo = {.activations = act, .max_rows = MAX};
    memset(s, 0, sizeof *s);
    must(assay_backend_open_cpu(&s->backend, &cpu, &err), &err);
    must(assay_model_open(&s->model, s->backend, golden_path(dir, sizeof dir, name, NULL), &mo, &err), &err);
    must(assay_kv_open(&s->kv, s->backend, assay_model_config(s->model), assay_model_kv_type(s->model),
                       1 << 22, &err),
         &err);
    s->vocab = (size_t)assay_model_config(s->model)->vocab_size;
    s->logits = assay_mallocn(MAX * s->vocab, sizeof *s->logits);
}

static void close_session(session *s) {
    assay_seq_release(s->kv, &s->seq);
    assay_kv_close(s->kv);
    assay_model_close(s->model);
    assay_backend_close(s->backend);
    assay_free(s->logits);
}

static void feed(session *s, const int32_t *ids, size_t n) {
    int32_t pos[MAX], out[MAX];
    const int32_t *pages[MAX];
    assay_err err = {0};
    must(assay_seq_extend(s->kv, &s->seq, s->seq.n + n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        pos[i] = (int32_t)(s->seq.n + i);
        out[i] = (int32_t)i;
        pages[i] = s->seq.pages;
    }
    assay_batch b = {.n = n, .ids = ids, .pos = pos, .pages = pages, .n_out = n, .out = out};
    assay_model_forward(s->model, s->kv, &b);
    size_t most = assay_model_logit_rows(s->model);
    for (size_t i = 0; i < n; i += most) {
        size_t m = ASSAY_MIN(most, n - i);
        memcpy(s->logits + (s->seq.n + i) * s->vocab, assay_model_logits(s->model, i, m),
               m * s->vocab * sizeof(float));
    }
    s->seq.n += n;
}

static size_t get_ids(int32_t *out, const json_t *list) {
    size_t n = json_array_size(list);
    assert_in_range(n, 1, MAX);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* Largest difference of a row from its golden, relative to the row's largest logit. */
static double compare_row(const float *row, const json_t *golden) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < json_array_size(golden); i++) {
        double g = json_number_value(json_array_get(golden, i));
        worst = fmax(worst, fabs((double)row[i] - g));
        largest = fmax(largest, fabs(g));
    }
    return worst / largest;
}

static void check_golden(const char *name) {
    char path[200];
    assay_err err = {0};
    json_t *g = NULL;
    int32_t ids[MAX], greedy[MAX];
    session s;
    must(assay_json_load(&g, golden_path(path, sizeof path, name, "golden.json"), &err), &err);
    size_t n = get_ids(ids, json_object_get(g, "ids")),
           n_greedy = get_ids(greedy, json_object_get(g, "greedy_ids"));
    open_session(&s, name, ASSAY_ACT_F32);
    feed(&s, ids, n);
    const char *key;
    json_t *row;
    double worst = 0, worst_logprob = 0;
    json_object_foreach(json_object_get(g, "logits"), key, row) worst =
        fmax(worst, compare_row(s.logits + (size_t)strtol(key, NULL, 10) * s.vocab, row));
    if (!(worst < 1e-4)) fail_msg("%s: logits differ by %g of the largest", name, worst);
    for (size_t i = 0; i + 1 < n; i++) {
        const float *l = s.logits + i * s.vocab;
        double lp = (double)l[ids[i + 1]] - assay_log_sum_exp(l, s.vocab);
        worst_logprob = fmax(worst_logprob,
                             fabs(lp - json_number_value(json_array_get(json_object_get(g, "logprobs"), i))));
    }
    if (!(worst_logprob < 2e-4)) fail_msg("%s: log-probabilities differ by %g", name, worst_logprob);
    print_message("# %s: logits within %.1e of the largest, log-probabilities within %.1e\n", name, worst,
                  worst_logprob);
    for (size_t i = 0; i < n_greedy; i++) {
        int32_t id = assay_argmax(s.logits + (s.seq.n - 1) * s.vocab, s.vocab);
        if (id != greedy[i]) fail_msg("%s: greedy token %zu is %d, not %d", name, i, (int)id, (int)greedy[i]);
        feed(&s, &id, 1);
    }
    json_decref(g);
    close_session(&s);
}

static void agrees_with_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(goldens); i++) check_golden(goldens[i]);
}

/* A row is the same whether the prompt is fed at once, in pieces, or token by token; in the home's arithmetic
 * too. */
static void pieces_do_not_matter(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 7, 64};
    for (size_t k = 0; k < ASSAY_LEN(goldens); k++)
        for (int act = ASSAY_ACT_AUTO; act <= ASSAY_ACT_F32; act++) {
            int32_t ids[MAX];
            session whole, parts;
            for (size_t i = 0; i < MAX; i++) ids[i] = (int32_t)(i * 37 % 96);
            open_session(&whole, goldens[k], (assay_act_mode)act);
            feed(&whole, ids, MAX);
            for (size_t z = 0; z < ASSAY_LEN(sizes); z++) {
                open_session(&parts, goldens[k], (assay_act_mode)act);
                for (size_t i = 0; i < MAX; i += sizes[z])
                    feed(&parts, ids + i, ASSAY_MIN(sizes[z], MAX - i));
                assert_memory_equal(whole.logits, parts.logits, MAX * whole.vocab * sizeof(float));
                close_session(&parts);
            }
            close_session(&whole);
        }
}

/* --- damaged checkpoints --- */

typedef enum damage { MISSING, WRONG_SHAPE, NOT_A_NUMBER, INFINITE_NORM, EXTRA } damage;

static void write_damaged(const char *dir, damage what) {
    char path[200], target[200];
    assay_err err = {0};
    assay_checkpoint *c = NULL;
    assay_ckpt_writer *w = NULL;
    char *text = NULL;
    size_t size;
    must(assay_read_file(&text, &size, golden_path(path, sizeof path, "qwen2", "config.json"), 0, &err),
         &err);
    snprintf(target, sizeof target, "%s/config.json", dir);
    must(assay_write_file(target, text, size, &err), &err);
    must(assay_checkpoint_open(&c, golden_path(path, sizeof path, "qwen2", NULL), &err), &err);
    must(assay_ckpt_writer_open(&w, dir, 0, &err), &err);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        const assay_tensor *t = assay_checkpoint_get(c, i);
        uint16_t *copy = assay_malloc(t->n_bytes);
        int64_t dims[2] = {t->dims[0], t->n_dims > 1 ? t->dims[1] : 1};
        memcpy(copy, t->data, t->n_bytes);
        bool up = strcmp(t->name, "model.layers.1.mlp.up_proj.weight") == 0;
        if (what == NOT_A_NUMBER && up) copy[3 * t->dims[1] + 5] = 0x7e00; /* f16 NaN at [3, 5] */
        if (what == INFINITE_NORM && strcmp(t->name, "model.norm.weight") == 0) copy[7] = 0x7c00;
        if (what == WRONG_SHAPE && up) {
            dims[0] /= 2;
            must(assay_ckpt_writer_put(w, t->name, t->dtype, 2, dims, copy, &err), &err);
        } else if (!(what == MISSING && up)) {
            must(assay_ckpt_writer_put(w, t->name, t->dtype, t->n_dims, dims, copy, &err), &err);
        }
        assay_free(copy);
    }
    if (what == EXTRA) {
        const int64_t dims[1] = {4};
        const float data[4] = {0};
        must(assay_ckpt_writer_put(w, "model.layers.0.self_attn.rotary_emb.inv_freq", ASSAY_DTYPE_F32, 1,
                                   dims, data, &err),
             &err);
    }
    must(assay_ckpt_writer_commit(w, &err), &err);
    assay_checkpoint_close(c);
    assay_free(text);
}

static assay_status open_damaged(damage what, assay_err *err, char *unused, size_t n) {
    char dir[] = "/tmp/assay-test-XXXXXX", path[200];
    assay_backend *b = NULL;
    assay_model *m = NULL;
    assert_non_null(mkdtemp(dir));
    write_damaged(dir, what);
    assert_int_equal(assay_backend_open_cpu(&b, &(assay_cpu_opts){.n_threads = 1}, NULL), ASSAY_OK);
    memset(err, 0, sizeof *err);
    assay_status s = assay_model_open(&m, b, dir, NULL, err);
    if (m)
        snprintf(unused, n, "%zu: %s", assay_model_weights(m)->n_unused,
                 assay_str_c(&assay_model_weights(m)->unused));
    assay_model_close(m);
    assay_backend_close(b);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i ? "config.json" : "model.safetensors");
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
    return s;
}

static void damage_is_named(void **state) {
    (void)state;
    static const struct {
        damage what;
        assay_status status;
        const char *says[2];
    } cases[] = {
        {MISSING, ASSAY_ENOTFOUND, {"model.layers.1.mlp.up_proj.weight", ""}},
        {WRONG_SHAPE, ASSAY_EINPUT, {"model.layers.1.mlp.up_proj.weight", "28"}},
        {NOT_A_NUMBER, ASSAY_EINPUT, {"model.layers.1.mlp.up_proj.weight", "[3, 5]"}},
        {INFINITE_NORM, ASSAY_EINPUT, {"model.norm.weight", "element 7"}},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_err err;
        char unused[300] = "";
        assay_status s = open_damaged(cases[i].what, &err, unused, sizeof unused);
        if (s != cases[i].status || !strstr(err.message, cases[i].says[0]) ||
            !strstr(err.message, cases[i].says[1]))
            fail_msg("case %zu gave %d \"%s\"", i, (int)s, err.message);
    }
}

static void extra_tensors_are_listed(void **state) {
    (void)state;
    assay_err err;
    char unused[300] = "";
    if (open_damaged(EXTRA, &err, unused, sizeof unused) != ASSAY_OK) fail_msg("%s", err.message);
    assert_string_equal(unused, "1: model.layers.0.self_attn.rotary_emb.inv_freq");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_transformers),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(extra_tensors_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
