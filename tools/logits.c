/* logits.c: the logits of a checkpoint for given token ids, in binary, for tools/interop_logits.py.
 *
 *   logits MODEL IDS OUT [auto|f32|bf16|f16|int8]
 *
 * IDS: one sequence a line, ids separated by spaces. OUT: for each sequence, for each position from the
 * second on, the distribution that predicts it: n_vocab float32 values. The last argument is the treatment of
 * activations (default auto: that of the format's home). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "runtime/native.h"

static const struct {
    const char *name;
    assay_act_mode mode;
} modes[] = {{"auto", ASSAY_ACT_AUTO},
             {"f32", ASSAY_ACT_F32},
             {"bf16", ASSAY_ACT_BF16},
             {"f16", ASSAY_ACT_F16},
             {"int8", ASSAY_ACT_INT8}};

typedef struct requests {
    assay_score_req *v;
    size_t n, cap;
    int32_t *ids;
    size_t n_ids, cap_ids;
    size_t *first; /* index in ids of each request's first */
    size_t cap_first;
} requests;

static assay_status put_logits(void *ctx, size_t req, size_t position, const float *logits, size_t n_vocab,
                               assay_err *err) {
    (void)req;
    (void)position;
    return assay_writer_put(ctx, logits, n_vocab * sizeof *logits, err);
}

static assay_status parse_line(requests *q, const char *line, assay_err *err) {
    ASSAY_TRY(assay_grow(&q->v, &q->cap, q->n + 1, sizeof *q->v, err));
    ASSAY_TRY(assay_grow(&q->first, &q->cap_first, q->n + 1, sizeof *q->first, err));
    size_t begin = q->n_ids;
    for (;;) {
        char *end;
        long id = strtol(line, &end, 10);
        if (end == line) break;
        ASSAY_TRY(assay_grow(&q->ids, &q->cap_ids, q->n_ids + 1, sizeof *q->ids, err));
        q->ids[q->n_ids++] = (int32_t)id;
        line = end;
    }
    if (q->n_ids - begin < 2) return assay_fail(err, ASSAY_EINPUT, "a sequence needs two ids or more");
    q->first[q->n] = begin;
    q->v[q->n++] = (assay_score_req){.n_ids = q->n_ids - begin, .from = 1};
    return ASSAY_OK;
}

static assay_status parse_ids(requests *q, char *text, assay_err *err) {
    for (char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = 0;
        ASSAY_TRY(parse_line(q, line, err));
    }
    for (size_t i = 0; i < q->n; i++)
        q->v[i].ids = q->ids + q->first[i];
    return ASSAY_OK;
}

static assay_status run(char **argv, assay_act_mode mode, assay_err *err) {
    requests q = {0};
    assay_runtime *r = NULL;
    assay_writer *w = NULL;
    assay_score_res *res = NULL;
    char *text = NULL;
    size_t n;
    assay_native_opts o = {.activations = mode, .no_tokenizer = true};
    assay_status s;
    ASSAY_GO(assay_read_file(&text, &n, argv[2], 0, err));
    ASSAY_GO(parse_ids(&q, text, err));
    ASSAY_GO(assay_native_open(&r, argv[1], &o, err));
    ASSAY_GO(assay_writer_open(&w, argv[3], err));
    res = assay_calloc(q.n + 1, sizeof *res);
    s = res ? assay_runtime_score(r, res, q.v, q.n, put_logits, w, NULL, NULL, err) : assay_nomem(err);
    for (size_t i = 0; res && i < q.n; i++)
        assay_score_res_deinit(&res[i]);
    if (s == ASSAY_OK)
        s = assay_writer_commit(w, err);
    else
        assay_writer_abort(w);
out:
    assay_runtime_close(r);
    assay_free(res);
    assay_free(text);
    assay_free(q.v);
    assay_free(q.ids);
    assay_free(q.first);
    return s;
}

int main(int argc, char **argv) {
    assay_act_mode mode = ASSAY_ACT_AUTO;
    bool known = argc < 5;
    for (size_t i = 0; argc == 5 && i < ASSAY_LEN(modes); i++)
        if (!strcmp(argv[4], modes[i].name)) {
            mode = modes[i].mode;
            known = true;
        }
    if (argc < 4 || argc > 5 || !known) {
        fputs("usage: logits MODEL IDS OUT [auto|f32|bf16|f16|int8]\n", stderr);
        return 2;
    }
    assay_err err = {0};
    assay_status s = run(argv, mode, &err);
    if (s != ASSAY_OK) fprintf(stderr, "logits: %s\n", err.message);
    return assay_status_exit_code(s);
}
