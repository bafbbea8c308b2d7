/* kl.c: KL(baseline || variant) and agreement of the most likely token, at every token of every document.
 *
 * The positions are those of perplexity_rolling (windows.h). The baseline's run writes its distributions, one file per document,
 *
 *     KL_DIR/<SHA-256 of the windows' ids>.f32
 *     "ASSAYKL1"  u64 positions  u64 vocabulary  float32 log-probabilities [positions][vocabulary], little-endian
 *
 * and reads them back at once, so that its own records come from the same arithmetic and are exactly 0. A variant's run maps them.
 * KL = sum_v exp(lp[v]) (lp[v] - lq[v]) over the whole vocabulary in double; both log-softmaxes are rounded to float32 first, which
 * is what makes equal logits give exactly 0. (llama.cpp drops terms with lp <= -16 and stores lp in 16 bits.) Size: 4 bytes times
 * positions times vocabulary: for large vocabularies limit the documents.
 *
 * One record per document: score its mean KL in nats per token, weight its tokens, aux its share of tokens with the same arg max (lowest
 * id on ties); `output` has the KL of every token, for percentiles over tokens. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/evaluator.h"
#include "eval/suite.h"
#include "eval/windows.h"

#define MAGIC "ASSAYKL1"
#define HEADER 24

static const assay_option options[] = {
    {.name = "context", .kind = ASSAY_OPTION_INT, .number = 0, .lo = 0, .hi = 1 << 20, .help = "tokens per window; 0: the model's context"},
};

static assay_status kl_open(void **state, const json_t *o, assay_err *err) {
    (void)err;
    *state = json_incref(json_object_get(o, "context"));
    return ASSAY_OK;
}

static void kl_close(void *state) {
    json_decref(state);
}

static assay_status kl_expand(const assay_language *l, const void *state, const assay_eval_env *env, assay_unit_fn fn, void *ctx, assay_err *err) {
    if (!env->kl_dir)
        return assay_fail(err, ASSAY_EUSAGE, "the suite asks for kl, and no baseline is given to compare with");
    return assay_windows_expand(l, env, json_integer_value(state), fn, ctx, err);
}

/* --- files --- */

static char *file_of(const assay_unit *u, const assay_eval_env *env) {
    char name[ASSAY_HASH_HEX + 8];
    snprintf(name, sizeof name, "%s.f32", u->ids_hash);
    return assay_path_join(env->kl_dir, name);
}

/* Whether the file has its whole length: a file that was renamed into place is complete, so the size is all there is to check. */
static bool kl_unfinished(const assay_unit *u, const assay_eval_env *env) {
    if (!env->kl_write || u->problem) return false;
    char *path = file_of(u, env);
    int64_t have = path ? assay_file_size(path) : -1;
    assay_free(path);
    return have != (int64_t)(HEADER + assay_unit_n_scored(u) * env->n_vocab * sizeof(float));
}

static assay_status map_base(assay_map *out, const char *path, size_t positions, size_t n_vocab, assay_err *err) {
    uint64_t head[2] = {positions, n_vocab};
    assay_status s = assay_map_open(out, path, err);
    if (s == ASSAY_ENOTFOUND)
        return assay_err_prefix(err, "the baseline's distributions are missing, evaluate the baseline again");
    if (s != ASSAY_OK) return s;
    size_t want;
    bool fits = assay_mul_size(&want, positions, n_vocab) && assay_mul_size(&want, want, sizeof(float)) && assay_add_size(&want, want, HEADER);
    if (fits && out->size == want && !memcmp(out->data, MAGIC, 8) && !memcmp(out->data + 8, head, sizeof head)) return ASSAY_OK;
    assay_map_close(out);
    return assay_fail(err, ASSAY_EMISMATCH, "%s: not the distributions of %zu positions over %zu tokens: the vocabularies differ or the file "
                      "is damaged", path, positions, n_vocab);
}

/* --- one document --- */

typedef struct kl_seen {
    assay_map base;
    assay_writer *writer;   /* the baseline's run */
    float *lp;              /* [n_vocab] this model's log-softmax */
    double *kl;             /* [positions] */
    size_t positions, at, n_same, n_vocab;
    bool broken;            /* a distribution was not finite */
} kl_seen;

static void kl_see_end(void *seen) {
    kl_seen *k = seen;
    if (!k) return;
    assay_map_close(&k->base);
    assay_writer_abort(k->writer);
    assay_free(k->lp);
    assay_free(k->kl);
    assay_free(k);
}

static assay_status start_writing(kl_seen *k, const char *path, const assay_eval_env *env, assay_err *err) {
    uint64_t head[2] = {k->positions, k->n_vocab};
    ASSAY_TRY(assay_mkdirs(env->kl_dir, err));
    ASSAY_TRY(assay_writer_open(&k->writer, path, err));
    ASSAY_TRY(assay_writer_put(k->writer, MAGIC, 8, err));
    return assay_writer_put(k->writer, head, sizeof head, err);
}

static assay_status kl_see_begin(void **seen, const assay_unit *u, const assay_eval_env *env, assay_err *err) {
    kl_seen *k = assay_calloc(1, sizeof *k);
    char *path = file_of(u, env);
    assay_status s = ASSAY_OK;
    if (!k || !path) ASSAY_GO(assay_nomem(err));
    k->positions = assay_unit_n_scored(u);
    k->n_vocab = env->n_vocab;
    k->lp = assay_mallocn(k->n_vocab, sizeof *k->lp);
    k->kl = assay_calloc(k->positions, sizeof *k->kl);
    if (!k->lp || !k->kl) ASSAY_GO(assay_nomem(err));
    s = env->kl_write ? start_writing(k, path, env, err) : map_base(&k->base, path, k->positions, k->n_vocab, err);
out:
    assay_free(path);
    if (s == ASSAY_OK) *seen = k;
    else kl_see_end(k);
    return s;
}

static bool log_softmax(float *out, const float *logits, size_t n) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)logits[i] > max) max = (double)logits[i];
    for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    double shift = max + log(sum);
    for (size_t i = 0; i < n; i++) out[i] = (float)((double)logits[i] - shift);
    return isfinite(shift);
}

static size_t arg_max(const float *v, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static double divergence(const float *p, const float *q, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] > -INFINITY) sum += exp((double)p[i]) * ((double)p[i] - (double)q[i]);
    return sum;
}

static assay_status kl_see(void *seen, const float *logits, size_t n_vocab, assay_err *err) {
    kl_seen *k = seen;
    if (k->at >= k->positions || n_vocab != k->n_vocab)
        return assay_fail(err, ASSAY_EINTERNAL, "the runtime gave other distributions than were asked for");
    if (!log_softmax(k->lp, logits, n_vocab)) k->broken = true;
    if (k->writer) {
        ASSAY_TRY(assay_writer_put(k->writer, k->lp, n_vocab * sizeof *k->lp, err));
        k->n_same++; /* the baseline against itself */
        k->kl[k->at++] = 0;
        if (k->at < k->positions) return ASSAY_OK;
        assay_writer *w = k->writer;
        k->writer = NULL;
        return assay_writer_commit(w, err);
    }
    const float *base = (const float *)(const void *)(k->base.data + HEADER) + k->at * n_vocab;
    k->kl[k->at++] = divergence(base, k->lp, n_vocab);
    k->n_same += arg_max(base, n_vocab) == arg_max(k->lp, n_vocab);
    return ASSAY_OK;
}

/* --- the record --- */

static assay_status put_detail(assay_record *r, const kl_seen *k, assay_err *err) {
    assay_str out = {0};
    assay_str_put(&out, "{\"kl\":[");
    for (size_t i = 0; i < k->positions; i++) assay_str_printf(&out, "%s%.6g", i ? "," : "", k->kl[i]);
    assay_str_printf(&out, "],\"same\":%zu}", k->n_same);
    r->output = assay_str_take(&out);
    return r->output ? ASSAY_OK : assay_nomem(err);
}

static assay_status kl_judge(assay_record *r, const void *state, const assay_unit *u, const assay_score_res *res, void *seen, assay_err *err) {
    kl_seen *k = seen;
    double sum = 0;
    (void)state;
    (void)u;
    (void)res;
    for (size_t i = 0; i < k->positions; i++) sum += k->kl[i];
    r->weight = (double)k->positions;
    if (k->broken || k->at != k->positions || !isfinite(sum)) {
        r->outcome = ASSAY_OUTCOME_ERROR;
        r->detail = assay_strdup("the model's distribution is not finite");
        return r->detail ? ASSAY_OK : assay_nomem(err);
    }
    r->score = sum / (double)k->positions;
    r->aux = (double)k->n_same / (double)k->positions;
    return put_detail(r, k, err);
}

const assay_evaluator assay_evaluator_kl = {
    .name = "kl",
    .version = 1,
    .needs = ASSAY_CAN_SCORE | ASSAY_CAN_LOGITS,
    .options = options,
    .n_options = ASSAY_LEN(options),
    .open = kl_open,
    .close = kl_close,
    .expand = kl_expand,
    .judge = kl_judge,
    .see_begin = kl_see_begin,
    .see = kl_see,
    .see_end = kl_see_end,
    .unfinished = kl_unfinished,
};
