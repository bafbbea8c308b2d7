/* fake_runtime.h: a runtime without a model, for tests of everything that evaluates. Its probabilities are written down here, so that
 * tests can compute by hand what an evaluator should find.
 *
 *   score     log p(id | previous) = -(1 + (31 previous + 17 id) mod 7) / 4; not normalized, no evaluator may care
 *   logits    `peak` at (previous + shift) mod n_vocab, 0 elsewhere
 *   generate  the answer that `answer` gives for the decoded prompt, token by token; stops at max_tokens
 *
 * The tokenizer is byte-level BPE over printable ASCII with four merges (K+o, " "+K, " K"+o, l+o); <s> is 0 and </s> is 1. */
#ifndef ASSAY_TESTS_FAKE_RUNTIME_H
#define ASSAY_TESTS_FAKE_RUNTIME_H

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "runtime/runtime_impl.h"

typedef struct fake_runtime {
    struct assay_runtime base;
    assay_tokenizer *tokenizer;
    assay_template *tmpl;
    float peak;
    int shift;
    const char *(*answer)(const char *prompt);  /* NULL: "42" */
    size_t n_scored, n_generated, n_batches;    /* requests seen */
    size_t fail_after;                          /* the call after that many requests fails with EIO; 0: never */
} fake_runtime;

static inline double fake_logprob(int32_t previous, int32_t id) {
    return -(double)(1 + (31 * previous + 17 * id) % 7) / 4;
}

static inline assay_status fake_logits(fake_runtime *f, size_t req, const assay_score_req *q, assay_logits_fn fn, void *ctx, assay_err *err) {
    float *row = assay_calloc(f->base.n_vocab, sizeof *row);
    assay_status s = ASSAY_OK;
    for (size_t i = q->from; i < q->n_ids && s == ASSAY_OK; i++) {
        size_t at = ((size_t)q->ids[i - 1] + (size_t)f->shift) % f->base.n_vocab;
        row[at] = f->peak;
        s = fn(ctx, req, i, row, f->base.n_vocab, err);
        row[at] = 0;
    }
    assay_free(row);
    return s;
}

static inline assay_status fake_score(assay_runtime *r, assay_score_res *res, const assay_score_req *req, size_t n, assay_logits_fn fn,
                                      void *fn_ctx, assay_done_fn on_done, void *done_ctx, assay_err *err) {
    fake_runtime *f = (fake_runtime *)r;
    f->n_batches++;
    for (size_t i = 0; i < n; i++) {
        const assay_score_req *q = &req[i];
        if (f->fail_after && f->n_scored + f->n_generated >= f->fail_after) return assay_fail(err, ASSAY_EIO, "the fake broke");
        f->n_scored++;
        res[i].logprobs = assay_calloc(q->n_ids - q->from, sizeof(double));
        for (size_t k = q->from; k < q->n_ids; k++) {
            res[i].logprobs[k - q->from] = fake_logprob(q->ids[k - 1], q->ids[k]);
            res[i].sum += res[i].logprobs[k - q->from];
        }
        if (fn) {
            assay_status s = fake_logits(f, i, q, fn, fn_ctx, err);
            if (s != ASSAY_OK) return s;
        }
        if (on_done) {
            assay_status s = on_done(done_ctx, i, err);
            if (s != ASSAY_OK) return s;
        }
    }
    return ASSAY_OK;
}

static inline assay_status fake_answer(fake_runtime *f, assay_generate_res *res, const assay_generate_req *q, assay_err *err) {
    assay_str prompt = {0}, text = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    assay_status s = assay_tokenizer_decode(&prompt, f->tokenizer, q->ids, q->n_ids, false, err);
    const char *answer = f->answer ? f->answer(assay_str_c(&prompt)) : "42";
    if (s == ASSAY_OK) s = assay_tokenizer_encode(&ids, &n, f->tokenizer, answer, strlen(answer), false, false, err);
    res->stop = n > (size_t)q->max_tokens ? ASSAY_STOP_LENGTH : ASSAY_STOP_EOS;
    if (n > (size_t)q->max_tokens) n = (size_t)q->max_tokens;
    if (s == ASSAY_OK) s = assay_tokenizer_decode(&text, f->tokenizer, ids, n, true, err);
    assay_str_put(&text, "");
    res->ids = ids;
    res->n_ids = n;
    res->text = assay_str_take(&text);
    res->seconds_output = 0.25;
    assay_str_free(&prompt);
    return s;
}

/* Answers come in reverse order, as they may from a runtime that batches. */
static inline assay_status fake_generate(assay_runtime *r, assay_generate_res *res, const assay_generate_req *req, size_t n,
                                         assay_done_fn on_done, void *done_ctx, assay_err *err) {
    fake_runtime *f = (fake_runtime *)r;
    f->n_batches++;
    for (size_t i = n; i-- > 0;) {
        if (f->fail_after && f->n_scored + f->n_generated >= f->fail_after) return assay_fail(err, ASSAY_EIO, "the fake broke");
        f->n_generated++;
        assay_status s = fake_answer(f, &res[i], &req[i], err);
        if (s == ASSAY_OK && on_done) s = on_done(done_ctx, i, err);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}

static inline json_t *fake_manifest(const assay_runtime *r) {
    (void)r;
    return json_pack("{s:s}", "runtime", "fake");
}

static inline void fake_close(assay_runtime *r) {
    fake_runtime *f = (fake_runtime *)r;
    assay_tokenizer_close(f->tokenizer);
    assay_template_close(f->tmpl);
    free(f);
}

static const assay_runtime_ops fake_ops = {fake_score, fake_generate, fake_manifest, fake_close};

static inline void fake_put_token(assay_str *b, const char *token, int id) {
    assay_str_printf(b, "%s\"%s%s\": %d", id ? ", " : "", strpbrk(token, "\"\\") ? "\\" : "", token, id);
}

/* add_bos: the post-processor puts <s> in front. */
static inline char *fake_tokenizer_json(bool add_bos) {
    static const char *const merged[] = {"Ko", "\xc4\xa0K", "\xc4\xa0Ko", "lo"};
    assay_str b = {0};
    int id = 0;
    assay_str_put(&b, "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true}, {\"id\": 1, "
                      "\"content\": \"</s>\", \"special\": true}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                      "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}, \"decoder\": {\"type\": \"ByteLevel\"}, ");
    if (add_bos)
        assay_str_put(&b, "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, "
                          "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", "
                          "\"ids\": [0], \"tokens\": [\"<s>\"]}}}, ");
    assay_str_put(&b, "\"model\": {\"type\": \"BPE\", \"vocab\": {");
    fake_put_token(&b, "<s>", id++);
    fake_put_token(&b, "</s>", id++);
    fake_put_token(&b, "\xc4\xa0", id++); /* space */
    fake_put_token(&b, "\xc4\x8a", id++); /* newline */
    for (char c = 33; c < 127; c++) {
        char one[2] = {c, 0};
        fake_put_token(&b, one, id++);
    }
    for (size_t i = 0; i < 4; i++) fake_put_token(&b, merged[i], id++);
    assay_str_put(&b, "}, \"merges\": [\"K o\", \"\xc4\xa0 K\", \"\xc4\xa0K o\", \"\xc4\xa0 Ko\", \"l o\"]}}");
    return assay_str_take(&b);
}

static inline fake_runtime *fake_open(bool add_bos, size_t context, const char *chat_template) {
    static const char config[] = "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";
    assay_err err = {0};
    fake_runtime *f = calloc(1, sizeof *f);
    char *json = fake_tokenizer_json(add_bos);
    assay_status s = assay_tokenizer_parse(&f->tokenizer, json, strlen(json), config, sizeof config - 1, "fake", &err);
    assay_free(json);
    if (s == ASSAY_OK && chat_template) s = assay_template_parse(&f->tmpl, chat_template, strlen(chat_template), &err);
    if (s != ASSAY_OK) {
        fprintf(stderr, "fake: %s\n", err.message);
        abort();
    }
    f->base = (struct assay_runtime){.ops = &fake_ops, .caps = ASSAY_CAN_GENERATE | ASSAY_CAN_SCORE | ASSAY_CAN_LOGITS, .context = context,
                                     .n_vocab = (size_t)assay_tokenizer_n_vocab(f->tokenizer), .tokenizer = f->tokenizer, .tmpl = f->tmpl};
    f->peak = 3;
    return f;
}

#endif
