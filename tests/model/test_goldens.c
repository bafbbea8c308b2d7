/* Every architecture and what configurations turn on, against what transformers computes (tests/model/golden: transformers 5.23.0,
 * torch 2.15.0, float32; golden.h). */
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
#include "model/golden.h"
#include "model/model.h"
#include "model/sample.h"

enum { MAX = GOLDEN_LONGEST, MOST = 64 };

/* --- a session with one sequence --- */

typedef struct session {
    assay_backend *backend;
    assay_model *model;
    assay_kv *kv;
    assay_seq seq;
    float *logits; /* [MAX][vocab] */
    size_t vocab;
    size_t length; /* of the text that is fed: some rotations are of it */
} session;

static void open_session(session *s, const char *dir, size_t length, int n_threads, assay_act_mode act) {
    assay_err err = {0};
    assay_cpu_opts cpu = {.n_threads = n_threads};
    assay_model_opts mo = {.activations = act, .max_rows = MAX};
    *s = (session){.length = length};
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
    bool is_long[MAX];
    assay_err err = {0};
    size_t first = last ? n - 1 : 0;
    must(assay_seq_extend(s->kv, &s->seq, s->seq.n + n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        pos[i] = (int32_t)(s->seq.n + i);
        out[i] = (int32_t)(first + i);
        pages[i] = s->seq.pages;
        is_long[i] = assay_config_is_long(assay_model_config(s->model), s->length);
    }
    assay_batch b = {.n = n, .ids = ids, .pos = pos, .pages = pages, .is_long = is_long, .n_out = n - first, .out = out};
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

/* The last of n tokens after those that were fed; all of them again when the text becomes a long one. */
static void continue_with(session *s, const int32_t *ids, size_t n) {
    const assay_config *c = assay_model_config(s->model);
    if (assay_config_is_long(c, n) != assay_config_is_long(c, s->length)) assay_seq_release(s->kv, &s->seq);
    s->length = n;
    feed(s, ids + s->seq.n, n - s->seq.n);
}

static void check_golden(golden *g) {
    session s;
    const char *key;
    json_t *row;
    double worst = 0;
    open_session(&s, g->dir, g->n, 1, ASSAY_ACT_F32);
    feed(&s, g->ids, g->n);
    json_object_foreach(json_object_get(g->j, "logits"), key, row) worst =
        fmax(worst, compare_row(s.logits + (size_t)strtol(key, NULL, 10) * s.vocab, row));
    if (!(worst < 1e-4)) fail_msg("%s: logits differ by %g of the largest", g->name, worst);
    print_message("# %s: logits within %.1e of the largest\n", g->name, worst);
    for (size_t i = 0; i < g->n_greedy; i++) {
        int32_t id = assay_argmax(s.logits + (s.seq.n - 1) * s.vocab, s.vocab);
        if (id != g->greedy[i]) fail_msg("%s: greedy token %zu is %d, not %d", g->name, i, (int)id, (int)g->greedy[i]);
        g->ids[g->n + i] = id;
        continue_with(&s, g->ids, g->n + i + 1);
    }
    close_session(&s);
}

/* A row is the same fed at once, in pieces, token by token, with other threads, and when nobody asks for the rows before it. */
static void check_pieces(golden *g) {
    static const size_t sizes[] = {1, 7};
    for (int act = ASSAY_ACT_F32; act <= ASSAY_ACT_BF16; act++) {
        session whole, parts;
        open_session(&whole, g->dir, g->n, 1, (assay_act_mode)act);
        feed(&whole, g->ids, g->n);
        for (size_t z = 0; z < ASSAY_LEN(sizes); z++) {
            open_session(&parts, g->dir, g->n, 2, (assay_act_mode)act);
            for (size_t i = 0; i < g->n; i += sizes[z]) feed(&parts, g->ids + i, ASSAY_MIN(sizes[z], g->n - i));
            if (memcmp(whole.logits, parts.logits, g->n * whole.vocab * sizeof(float)) != 0)
                fail_msg("%s: pieces of %zu give other bits", g->name, sizes[z]);
            close_session(&parts);
        }
        open_session(&parts, g->dir, g->n, 2, (assay_act_mode)act);
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

static size_t list_goldens(char (*names)[64]) {
    DIR *d = opendir("tests/model/golden");
    struct dirent *e;
    size_t n = 0;
    assert_non_null(d);
    while ((e = readdir(d))) {
        size_t len = strlen(e->d_name);
        if (len < 6 || len > 60 || strcmp(e->d_name + len - 5, ".json") != 0) continue;
        assert_in_range(n, 0, MOST - 1);
        snprintf(names[n++], sizeof *names, "%.*s", (int)(len - 5), e->d_name);
    }
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    assert_in_range(n, 25, MOST);
    return n;
}

static void every_architecture_agrees_with_transformers(void **state) {
    static char names[MOST][64];
    size_t n = list_goldens(names);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        golden g;
        golden_open(&g, names[i]);
        golden_checkpoint(g.dir, json_object_get(g.j, "config"), false);
        check_golden(&g);
        check_pieces(&g);
        golden_close(&g);
    }
}

/* The first GPT-2's own files have "h.0.attn", transformers writes "transformer.h.0.attn": the same model. */
static void names_may_lack_the_prefix(void **state) {
    golden g;
    session s;
    (void)state;
    golden_open(&g, "gpt2");
    golden_checkpoint(g.dir, json_object_get(g.j, "config"), true);
    open_session(&s, g.dir, g.n, 1, ASSAY_ACT_F32);
    assert_int_equal(assay_model_weights(s.model)->n_unused, 0);
    assert_non_null(assay_checkpoint_find(assay_model_checkpoint(s.model), "h.0.attn.c_attn.weight"));
    close_session(&s);
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_agrees_with_transformers),
        cmocka_unit_test(names_may_lack_the_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
