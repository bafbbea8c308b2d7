/* Every architecture and what configurations turn on, against what transformers computes (tests/model/golden: transformers 5.23.0,
 * torch 2.15.0, float32). A golden keeps a config.json, a text and logits; the checkpoint is made here: each element is a function
 * of its tensor's name and its index, as models.py has it, so that a tensor under a wrong name or in a wrong shape shows. */
#include <dirent.h>
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

enum { MAX = 160, MOST = 64 };

static void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* --- the checkpoint --- */

static uint64_t hash_name(const char *name) {
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *name; name++) h = (h ^ (uint8_t)*name) * UINT64_C(1099511628211);
    return h;
}

static double element(uint64_t hash, uint64_t i) {
    uint64_t z = hash + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (double)(z >> 40) / 8388608.0 - 1;
}

static assay_status put_tensor(void *ctx, const assay_tensor_spec *spec, assay_err *err) {
    size_t n = (size_t)(spec->rows * spec->cols), len = strlen(spec->name);
    bool bias = len > 4 && strcmp(spec->name + len - 4, "bias") == 0;
    float *v = assay_mallocn(n, sizeof *v);
    uint64_t hash = hash_name(spec->name);
    for (size_t i = 0; i < n; i++) {
        double u = element(hash, i);
        v[i] = (float)(!spec->is_vector ? u * 0.4 : bias ? u * 0.2 : 1 + 0.25 * u);
    }
    const int64_t dims[2] = {spec->is_transposed ? spec->cols : spec->rows, spec->is_transposed ? spec->rows : spec->cols};
    assay_status s = assay_ckpt_writer_put(ctx, spec->name, ASSAY_DTYPE_F32, spec->is_vector ? 1 : 2, dims, v, err);
    assay_free(v);
    return s;
}

/* bare: names without the prefix, as checkpoints of the base model have them. */
static void write_checkpoint(const char *dir, const json_t *config, bool bare) {
    char path[300];
    assay_err err = {0};
    assay_config c;
    assay_ckpt_writer *w = NULL;
    char *text = json_dumps(config, 0);
    snprintf(path, sizeof path, "%s/config.json", dir);
    must(assay_write_file(path, text, strlen(text), &err), &err);
    free(text);
    must(assay_config_open(&c, dir, &err), &err);
    must(assay_ckpt_writer_open(&w, dir, 0, &err), &err);
    c.bare_names = bare;
    must(assay_config_each_tensor(&c, put_tensor, w, &err), &err);
    must(assay_ckpt_writer_commit(w, &err), &err);
    assay_config_deinit(&c);
}

static void remove_checkpoint(const char *dir) {
    char path[300];
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < ASSAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* --- a session with one sequence --- */

typedef struct session {
    assay_backend *backend;
    assay_model *model;
    assay_kv *kv;
    assay_seq seq;
    float *logits; /* [MAX][vocab] */
    size_t vocab;
} session;

static void open_session(session *s, const char *dir, int n_threads, assay_act_mode act) {
    assay_err err = {0};
    assay_cpu_opts cpu = {.n_threads = n_threads};
    assay_model_opts mo = {.activations = act, .max_rows = MAX};
    memset(s, 0, sizeof *s);
    must(assay_backend_open_cpu(&s->backend, &cpu, &err), &err);
    must(assay_model_open(&s->model, s->backend, dir, &mo, &err), &err);
    must(assay_kv_open(&s->kv, s->backend, assay_model_config(s->model), assay_model_kv_type(s->model), 1 << 22, &err), &err);
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

/* The next n tokens, with logits of all rows, or of the last alone. */
static void feed_some(session *s, const int32_t *ids, size_t n, bool last) {
    int32_t pos[MAX], out[MAX];
    const int32_t *pages[MAX];
    assay_err err = {0};
    size_t first = last ? n - 1 : 0;
    must(assay_seq_extend(s->kv, &s->seq, s->seq.n + n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        pos[i] = (int32_t)(s->seq.n + i);
        out[i] = (int32_t)(first + i);
        pages[i] = s->seq.pages;
    }
    assay_batch b = {.n = n, .ids = ids, .pos = pos, .pages = pages, .n_out = n - first, .out = out};
    assay_model_forward(s->model, s->kv, &b);
    for (size_t i = 0, most = assay_model_logit_rows(s->model); i < b.n_out; i += most) {
        size_t m = ASSAY_MIN(most, b.n_out - i);
        memcpy(s->logits + (s->seq.n + first + i) * s->vocab, assay_model_logits(s->model, i, m), m * s->vocab * sizeof(float));
    }
    s->seq.n += n;
}
static void feed(session *s, const int32_t *ids, size_t n) {
    feed_some(s, ids, n, false);
}

/* --- goldens --- */

typedef struct golden {
    char name[64];
    json_t *j;
    int32_t ids[MAX], greedy[MAX];
    size_t n, n_greedy;
    char dir[64];
} golden;

static size_t get_ids(int32_t *out, const json_t *list) {
    size_t n = json_array_size(list);
    assert_in_range(n, 1, MAX / 2 + 20);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static void open_golden(golden *g, const char *file) {
    char path[200];
    assay_err err = {0};
    memset(g, 0, sizeof *g);
    snprintf(g->name, sizeof g->name, "%.*s", (int)(strlen(file) - 5), file);
    snprintf(path, sizeof path, "tests/model/golden/%s", file);
    must(assay_json_load(&g->j, path, &err), &err);
    g->n = get_ids(g->ids, json_object_get(g->j, "ids"));
    g->n_greedy = get_ids(g->greedy, json_object_get(g->j, "greedy"));
    snprintf(g->dir, sizeof g->dir, "/tmp/assay-golden-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
}

static void close_golden(golden *g) {
    remove_checkpoint(g->dir);
    json_decref(g->j);
}

/* Largest difference of a row from its golden, relative to the row's largest logit. */
static double compare_row(const float *row, const json_t *expected) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < json_array_size(expected); i++) {
        double g = json_number_value(json_array_get(expected, i));
        worst = fmax(worst, fabs((double)row[i] - g));
        largest = fmax(largest, fabs(g));
    }
    return worst / largest;
}

static void check_golden(golden *g) {
    session s;
    const char *key;
    json_t *row;
    double worst = 0;
    open_session(&s, g->dir, 1, ASSAY_ACT_F32);
    feed(&s, g->ids, g->n);
    json_object_foreach(json_object_get(g->j, "logits"), key, row) worst =
        fmax(worst, compare_row(s.logits + (size_t)strtol(key, NULL, 10) * s.vocab, row));
    if (!(worst < 1e-4)) fail_msg("%s: logits differ by %g of the largest", g->name, worst);
    print_message("# %s: logits within %.1e of the largest\n", g->name, worst);
    for (size_t i = 0; i < g->n_greedy; i++) {
        int32_t id = assay_argmax(s.logits + (s.seq.n - 1) * s.vocab, s.vocab);
        if (id != g->greedy[i]) fail_msg("%s: greedy token %zu is %d, not %d", g->name, i, (int)id, (int)g->greedy[i]);
        feed(&s, &id, 1);
    }
    close_session(&s);
}

/* A row is the same fed at once, in pieces, token by token, with other threads, and when nobody asks for the rows before it. */
static void check_pieces(golden *g) {
    static const size_t sizes[] = {1, 7};
    for (int act = ASSAY_ACT_F32; act <= ASSAY_ACT_BF16; act++) {
        session whole, parts;
        open_session(&whole, g->dir, 1, (assay_act_mode)act);
        feed(&whole, g->ids, g->n);
        for (size_t z = 0; z < ASSAY_LEN(sizes); z++) {
            open_session(&parts, g->dir, 2, (assay_act_mode)act);
            for (size_t i = 0; i < g->n; i += sizes[z]) feed(&parts, g->ids + i, ASSAY_MIN(sizes[z], g->n - i));
            if (memcmp(whole.logits, parts.logits, g->n * whole.vocab * sizeof(float)) != 0)
                fail_msg("%s: pieces of %zu give other bits", g->name, sizes[z]);
            close_session(&parts);
        }
        open_session(&parts, g->dir, 2, (assay_act_mode)act);
        feed_some(&parts, g->ids, g->n, true);
        if (memcmp(whole.logits + (g->n - 1) * whole.vocab, parts.logits + (g->n - 1) * whole.vocab, whole.vocab * sizeof(float)) != 0)
            fail_msg("%s: the last row alone has other bits", g->name);
        close_session(&parts);
        close_session(&whole);
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static size_t list_goldens(char (*files)[64]) {
    DIR *d = opendir("tests/model/golden");
    struct dirent *e;
    size_t n = 0;
    assert_non_null(d);
    while ((e = readdir(d))) {
        size_t len = strlen(e->d_name);
        if (len < 6 || len > 60 || strcmp(e->d_name + len - 5, ".json") != 0) continue;
        assert_in_range(n, 0, MOST - 1);
        snprintf(files[n++], sizeof *files, "%.63s", e->d_name);
    }
    closedir(d);
    qsort(files, n, sizeof *files, by_name);
    assert_in_range(n, 24, MOST);
    return n;
}

static void every_architecture_agrees_with_transformers(void **state) {
    static char files[MOST][64];
    size_t n = list_goldens(files);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        golden g;
        open_golden(&g, files[i]);
        write_checkpoint(g.dir, json_object_get(g.j, "config"), false);
        check_golden(&g);
        check_pieces(&g);
        close_golden(&g);
    }
}

/* The first GPT-2's own files have "h.0.attn", transformers writes "transformer.h.0.attn": the same model. */
static void names_may_lack_the_prefix(void **state) {
    golden g;
    session s;
    (void)state;
    open_golden(&g, "gpt2.json");
    write_checkpoint(g.dir, json_object_get(g.j, "config"), true);
    open_session(&s, g.dir, 1, ASSAY_ACT_F32);
    assert_int_equal(assay_model_weights(s.model)->n_unused, 0);
    assert_non_null(assay_checkpoint_find(assay_model_checkpoint(s.model), "h.0.attn.c_attn.weight"));
    close_session(&s);
    close_golden(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_agrees_with_transformers),
        cmocka_unit_test(names_may_lack_the_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
