/* autoround.c: AutoRound (Cheng et al. 2023, "Optimize Weight Rounding via Signed Gradient Descent"; Intel's auto-round 0.15.1): the
 * roundings and ranges of all matrices of a decoder layer are learned together, so that the layer's output comes near the original one.
 *
 *   start    plain rounding, as the original, or GPTQ's codes and ranges, made stage by stage as that method makes them
 *   inputs   x of a batch of sequences, as the quantized layers before this one give them
 *   target   the original layer's output on what the original layers before it give
 *   step     offsets and range factors move by lr against the signs of their gradients of the squared error, which come through the
 *            layer's own backward pass (train/layer.h) and straight through the rounding (rounding.c); lr falls linearly to 0
 *
 * The original keeps the iterate whose batch had the least error, though batches differ more than iterates do. Here an eighth of the
 * sequences is held out: the start and a few iterates on the way are measured on it, and the best of them stays. (Few sequences: all are
 * learned from and measured on.) With iters 0, and for a matrix outside the layers, it is the start; from plain rounding that is rtn with quotients
 * in float32, where rtn itself divides in the model's type.
 *
 * Products are taken in bf16 unless the model is float32, as the original does: a gradient's sign needs no more.
 *
 * Deterministic given the seed: batches come from the layer's own generator, sequences go in pieces that depend on shapes alone.
 * Memory: per weight 12 bytes (value, gradient, offset; 16 from GPTQ's codes) and two codes, and activations of a piece; inputs and
 * targets stay in their files. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "method/fold.h"
#include "method/methods.h"
#include "method/rounding.h"
#include "train/layer.h"

/* From plain rounding: the original's. GPTQ's codes are near a minimum, so a fifth of the work and shorter steps do. Damped by a
 * whole mean diagonal they still gain on the calibration's kind of text and no longer lose on others. KL of models/demo in groups of
 * 128, 92 windows of 256 tokens to learn from, as a share of auto-round 0.15.1's (200 and 8), on held-out stories, WikiText-2 and
 * TinyStories; CPU seconds:
 *
 *                              int4                   int3
 *   gptq, damp 0.05            .57  1.66  1.71        .75  1.74  2.03     4
 *   gptq, damp 1               .76   .95   .89        .73  1.00  1.04     4
 *   from it, 50 and 4          .64  1.05   .88        .67   .99  1.04    21
 *   from it, 75 and 4          .66   .94   .86        .66   .98  1.04    27    (auto-round: 113)
 *   from it, 50, twice as far  .62  1.02   .90       1.21   .96  1.02    21
 *   rtn, 50 and 4             1.48  1.13  1.01          -                18 */
static const struct {
    int64_t iters, batch_size;
    double damp, rate; /* rate: of the first step times iters */
} defaults[] = {[ASSAY_START_RTN] = {200, 8, 0, 1}, [ASSAY_START_GPTQ] = {75, 4, 1, 0.25}};
#define START_ENDS   0.2 /* of the time, about */
enum { JUDGED_FROM = 64, JUDGED_SHARE = 8 }; /* one sequence in so many is held out where there are enough */
#define PIECE_BYTES (24.0 * (1 << 20)) /* of the tape; a piece is at least one sequence */

typedef struct tuner {
    assay_layer *layer;
    assay_rounding *r; /* [n] matrices that are learned */
    size_t n;
    assay_tape *tape;
    assay_params params;
    assay_grads grads;
    float *owned[ASSAY_ROLE_COUNT]; /* matrices that are not learned, as they are */
    size_t hidden, piece_rows;
    size_t *start;       /* [n_seqs] first row of each sequence */
    float *x, *want, *y; /* a piece: inputs, targets, outputs and then their error */
    int32_t *lengths;    /* of its sequences, [n_seqs] */
} tuner;

/* --- the layer as plain arrays --- */

static assay_status own_matrix(tuner *t, const assay_item *item, assay_err *err) {
    size_t n = (size_t)(item->weight->dims[0] * item->weight->dims[1]);
    float *w = assay_mallocn(n, sizeof *w);
    if (!w) return assay_nomem(err);
    if (item->out.codes)
        assay_matrix_decode_rows(w, &item->out, 0, item->weight->dims[0]);
    else
        assay_item_read(w, item, 0, (int64_t)n);
    t->owned[item->role] = w;
    t->params.w[item->role] = w;
    return ASSAY_OK;
}

static assay_status bind(tuner *t, assay_err *err) {
    for (int role = 0; role < ASSAY_ROLE_COUNT; role++)
        t->params.w[role] = t->layer->vector[role];
    for (size_t i = 0; i < t->n; i++) {
        t->params.w[t->r[i].item->role] = t->r[i].value;
        t->grads.w[t->r[i].item->role] = t->r[i].grad;
    }
    for (size_t i = 0; i < t->layer->n_items; i++)
        if (!t->params.w[t->layer->items[i].role]) ASSAY_TRY(own_matrix(t, &t->layer->items[i], err));
    return ASSAY_OK;
}

/* Tokens of a piece: as many as the tape's memory allows, all sequences counted as the longest one. */
static void measure_sequences(tuner *t) {
    const assay_layer *l = t->layer;
    size_t longest = 1, row = 0;
    for (size_t i = 0; i < l->n_seqs; i++) {
        t->start[i] = row;
        row += (size_t)l->lengths[i];
        longest = ASSAY_MAX(longest, (size_t)l->lengths[i]);
    }
    double per_row = assay_tape_bytes(l->config, 1, 0, 1);
    t->piece_rows = ASSAY_MAX(longest, (size_t)(PIECE_BYTES / per_row));
}

static assay_status tuner_memory(tuner *t, assay_err *err) {
    const assay_layer *l = t->layer;
    t->hidden = (size_t)l->config->hidden_size;
    t->start = assay_mallocn(l->n_seqs, sizeof *t->start);
    t->lengths = assay_mallocn(l->n_seqs, sizeof *t->lengths);
    if (!t->start || !t->lengths) return assay_nomem(err);
    measure_sequences(t);
    size_t floats = ASSAY_MIN(t->piece_rows, l->n_tokens) * t->hidden;
    t->x = assay_mallocn(floats, sizeof *t->x);
    t->want = assay_mallocn(floats, sizeof *t->want);
    t->y = assay_mallocn(floats, sizeof *t->y);
    return t->x && t->want && t->y ? ASSAY_OK : assay_nomem(err);
}

static void tuner_close(tuner *t) {
    for (int i = 0; i < ASSAY_ROLE_COUNT; i++)
        assay_free(t->owned[i]);
    for (size_t i = 0; t->r && i < t->n; i++)
        assay_rounding_close(&t->r[i]);
    assay_tape_close(t->tape);
    void *all[] = {t->r, t->start, t->x, t->want, t->y, t->lengths};
    for (size_t i = 0; i < ASSAY_LEN(all); i++)
        assay_free(all[i]);
}

/* --- sequences in pieces --- */

/* The next sequences of seqs[at, n) that make a piece. Returns its sequences, its rows in *rows. */
static size_t next_piece(const tuner *t, size_t *rows, const size_t *seqs, size_t at, size_t n) {
    size_t count = 0;
    for (*rows = 0; at + count < n; count++) {
        size_t length = (size_t)t->layer->lengths[seqs[at + count]];
        if (count && *rows + length > t->piece_rows) break;
        *rows += length;
        t->lengths[count] = (int32_t)length;
    }
    return count;
}

static void gather(float *out, const tuner *t, const float *from, const size_t *seqs, size_t at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t seq = seqs[at + i], n = (size_t)t->lengths[i] * t->hidden;
        memcpy(out, from + t->start[seq] * t->hidden, n * sizeof *out);
        out += n;
    }
}

/* Turns outputs into their error; returns its squares. */
static double piece_error(const tuner *t, size_t count) {
    float *y = t->y;
    const float *want = t->want;
    double loss = 0;
    for (size_t i = 0; i < count; i++)
        for (int32_t row = 0; row < t->lengths[i]; row++) {
            float sum = 0;
            for (size_t k = 0; k < t->hidden; k++) {
                y[k] -= want[k];
                sum += y[k] * y[k];
            }
            loss += (double)sum;
            y += t->hidden;
            want += t->hidden;
        }
    return loss;
}

/* Squared error of the layer as it is now on n sequences; with backward, gradients too. */
static assay_status run_batch(double *loss, tuner *t, const size_t *seqs, size_t n, bool backward, assay_err *err) {
    *loss = 0;
    for (size_t at = 0, count, rows; at < n; at += count) {
        count = next_piece(t, &rows, seqs, at, n);
        gather(t->want, t, t->layer->y_ref, seqs, at, count);
        gather(t->x, t, t->layer->x, seqs, at, count);
        assay_layer_release(t->layer);
        ASSAY_TRY(assay_tape_forward(t->y, t->tape, t->layer->index, &t->params, t->x, t->lengths, count, err));
        *loss += piece_error(t, count);
        if (backward) ASSAY_TRY(assay_tape_backward(NULL, &t->grads, t->tape, &t->params, t->x, t->y, err));
    }
    return ASSAY_OK;
}

/* --- the search --- */

/* Batches as the original draws them: a shuffled order walked through, shuffled again when less than a batch is left. */
typedef struct sampler {
    assay_rng rng;
    size_t *order; /* [n] to learn from, then those to judge by */
    size_t n, at;
    const size_t *judges;
    size_t n_judges;
} sampler;

static void shuffle(sampler *s) {
    for (size_t i = s->n; i > 1; i--) {
        size_t k = (size_t)assay_rng_below(&s->rng, i), was = s->order[i - 1];
        s->order[i - 1] = s->order[k];
        s->order[k] = was;
    }
    s->at = 0;
}

static const size_t *next_batch(sampler *s, size_t batch) {
    if (s->at + batch > s->n) shuffle(s);
    s->at += batch;
    return s->order + s->at - batch;
}

static float base_rate(const assay_choice *c) {
    if (c->lr > 0) return (float)c->lr;
    bool few = assay_precision_get_kind(c->precision) == ASSAY_KIND_INT && assay_precision_bits(c->precision) <= 3;
    return (float)(defaults[c->start].rate * (c->iters >= 1000 && few ? 2.0 : 1.0) / (double)c->iters);
}

static void each(tuner *t, void (*fn)(assay_rounding *r)) {
    for (size_t i = 0; i < t->n; i++)
        fn(&t->r[i]);
}

typedef struct candidate {
    int64_t iter;
    double loss;
} candidate;

/* Keeps the layer as it is where that is the least so far; iteration 0 begins. */
static void offer(candidate *b, tuner *t, int64_t iter, double loss) {
    if (iter > 0 && !(loss < b->loss)) return;
    *b = (candidate){iter, loss};
    each(t, assay_rounding_keep);
}

static assay_status judge(candidate *b, tuner *t, const sampler *s, int64_t iter, assay_err *err) {
    double loss;
    ASSAY_TRY(run_batch(&loss, t, s->judges, s->n_judges, false, err));
    offer(b, t, iter, loss);
    return ASSAY_OK;
}

/* From half of the iterations on, after each tenth of them. */
static bool is_judged(int64_t iter, int64_t iters) {
    return iter == iters || (iter >= iters / 2 && iter * 10 / iters != (iter - 1) * 10 / iters);
}

static assay_status descend(tuner *t, sampler *s, assay_err *err) {
    const assay_choice *c = t->r[0].item->choice;
    size_t batch = ASSAY_MIN((size_t)ASSAY_MAX(c->batch_size, 1), s->n);
    bool sees_all = batch == s->n && s->judges == s->order; /* then every step measures for nothing where it begins */
    candidate best = {0};
    ASSAY_TRY(judge(&best, t, s, 0, err));
    double loss, base = best.loss;
    each(t, assay_rounding_apply);
    for (int64_t iter = 0; iter < c->iters; iter++) {
        ASSAY_TRY(assay_layer_tick(t->layer, (double)iter / (double)c->iters, err));
        for (size_t i = 0; i < t->n; i++)
            memset(t->r[i].grad, 0, (size_t)(t->r[i].rows * t->r[i].cols) * sizeof(float));
        ASSAY_TRY(run_batch(&loss, t, next_batch(s, batch), batch, true, err));
        if (sees_all && iter > 0) offer(&best, t, iter, loss);
        float fall = 1.0f - (float)iter / (float)c->iters;
        for (size_t i = 0; i < t->n; i++)
            assay_rounding_step(&t->r[i], base_rate(t->r[i].item->choice) * fall);
        if (is_judged(iter + 1, c->iters)) ASSAY_TRY(judge(&best, t, s, iter + 1, err));
    }
    if (best.iter < c->iters) each(t, assay_rounding_swap);
    for (size_t i = 0; i < t->n; i++)
        assay_item_note(t->r[i].item, "\"iteration\": %lld, \"layer_loss_of_start\": %.4f", (long long)best.iter,
                        base > 0 ? best.loss / base : 1.0);
    return ASSAY_OK;
}

static assay_status tune(tuner *t, assay_err *err) {
    size_t n = t->layer->n_seqs;
    sampler s = {.n = n, .n_judges = n, .order = assay_mallocn(n, sizeof *s.order)};
    if (!s.order) return assay_nomem(err);
    for (size_t i = 0; i < n; i++)
        s.order[i] = i;
    assay_rng_init(&s.rng, (uint64_t)t->r[0].item->choice->seed * 1000003u + (uint64_t)t->layer->index);
    shuffle(&s);
    s.judges = s.order;
    if (n >= JUDGED_FROM) {
        s.n_judges = n / JUDGED_SHARE;
        s.n = n - s.n_judges;
        s.judges = s.order + s.n;
    }
    assay_status status = descend(t, &s, err);
    assay_free(s.order);
    return status;
}

/* --- the start --- */

/* The choice with which GPTQ makes it. */
static assay_choice start_choice(const assay_choice *c) {
    assay_choice g = *c;
    g.method = ASSAY_METHOD_GPTQ;
    assay_method_get(g.method)->complete(&g, ASSAY_OPT_PRECISION | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_DAMP_PERCENT);
    return g;
}

/* Encodes the items of one stage by GPTQ, their inputs coming from the stages before it as they are encoded. */
static assay_status start_stage(assay_layer *layer, assay_tensor_role stage, assay_item *const *items, size_t n_items, assay_err *err) {
    assay_item **mine = assay_calloc(n_items, sizeof *mine);
    assay_choice *choices = assay_calloc(n_items, sizeof *choices);
    const assay_choice **own = assay_calloc(n_items, sizeof *own);
    assay_status s = mine && choices && own ? ASSAY_OK : assay_nomem(err);
    size_t n = 0;
    for (size_t i = 0; i < n_items && s == ASSAY_OK; i++) {
        if (assay_role_input(items[i]->role) != stage || items[i]->choice->start != ASSAY_START_GPTQ) continue;
        choices[n] = start_choice(items[i]->choice);
        own[n] = items[i]->choice;
        mine[n++] = items[i];
    }
    if (s != ASSAY_OK || n == 0) goto out;
    ASSAY_GO(assay_layer_collect(layer, ASSAY_ROLE_BIT(stage), ASSAY_COLLECT_GRAM, err));
    for (size_t i = 0; i < n; i++)
        mine[i]->choice = &choices[i];
    s = assay_method_get(ASSAY_METHOD_GPTQ)->quantize(layer, mine, n, err);
    for (size_t i = 0; i < n; i++) {
        mine[i]->choice = own[i];
        assay_item_touch(layer, mine[i]);
    }
out:
    assay_layer_forget(layer, ASSAY_ROLE_BIT(stage));
    assay_free(mine);
    assay_free(choices);
    assay_free(own);
    return s;
}

/* What is told of the work from here on lies between these shares of the method's part [from, to). */
static void tell_part(const assay_layer *layer, double from, double to, double begin, double end) {
    if (!layer->ticker) return;
    layer->ticker->from = from + (to - from) * begin;
    layer->ticker->to = from + (to - from) * end;
    layer->ticker->share = 0;
}

/* Roundings at their start; GPTQ's codes do not outlive this. */
static assay_status start(tuner *t, assay_layer *layer, assay_item *const *items, bool learn, assay_err *err) {
    static const assay_tensor_role stages[] = {ASSAY_ROLE_Q, ASSAY_ROLE_O, ASSAY_ROLE_GATE, ASSAY_ROLE_DOWN};
    double from = layer->ticker ? layer->ticker->from : 0, to = layer->ticker ? layer->ticker->to : 0;
    for (size_t i = 0; layer->index >= 0 && layer->n_seqs > 0 && i < ASSAY_LEN(stages); i++) {
        tell_part(layer, from, to, START_ENDS * (double)i / ASSAY_LEN(stages), START_ENDS * (double)(i + 1) / ASSAY_LEN(stages));
        ASSAY_TRY(start_stage(layer, stages[i], items, t->n, err));
    }
    tell_part(layer, from, to, START_ENDS, 1);
    for (size_t i = 0; i < t->n; i++) {
        ASSAY_TRY(assay_rounding_open(&t->r[i], items[i], learn, layer->n_threads, err));
        if (items[i]->out.codes) ASSAY_TRY(assay_rounding_start_at(&t->r[i], &items[i]->out, err));
        assay_matrix_deinit(&items[i]->out);
        assay_item_touch(layer, items[i]);
    }
    return ASSAY_OK;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    bool learn = layer->index >= 0 && layer->n_seqs > 0 && items[0]->choice->iters > 0;
    tuner t = {.layer = layer, .n = n_items, .r = assay_calloc(n_items, sizeof *t.r)};
    assay_status s = t.r ? start(&t, layer, items, learn, err) : assay_nomem(err);
    if (s == ASSAY_OK && learn) {
        ASSAY_GO(tuner_memory(&t, err));
        ASSAY_GO(bind(&t, err));
        ASSAY_GO(assay_tape_open(&t.tape, layer->config, layer->n_threads, err));
        if (layer->config->dtype != ASSAY_DTYPE_F32) assay_tape_use_bf16(t.tape);
        ASSAY_GO(tune(&t, err));
    }
    for (size_t i = 0; i < n_items && s == ASSAY_OK; i++)
        s = assay_rounding_finish(&t.r[i], err);
out:
    tuner_close(&t);
    return s;
}

/* --- its options --- */

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) c->precision = ASSAY_PRECISION_INT4;
    if (c->precision == ASSAY_PRECISION_MXFP4)
        c->group_size = 32;
    else if (c->precision == ASSAY_PRECISION_NVFP4)
        c->group_size = 16;
    else if (!(set & ASSAY_OPT_GROUP_SIZE))
        c->group_size = assay_precision_get_kind(c->precision) == ASSAY_KIND_CODEBOOK ? 64 : 128;
    if (!(set & ASSAY_OPT_START)) {
        assay_choice g = start_choice(c);
        bool fits = !assay_method_get(ASSAY_METHOD_GPTQ)->check(&g);
        c->start = fits && !((set & ASSAY_OPT_ITERS) && c->iters == 0) ? ASSAY_START_GPTQ : ASSAY_START_RTN;
    }
    if (!(set & ASSAY_OPT_DAMP_PERCENT)) c->damp_percent = defaults[c->start].damp;
    if (!(set & ASSAY_OPT_ITERS)) c->iters = defaults[c->start].iters;
    if (!(set & ASSAY_OPT_BATCH_SIZE)) c->batch_size = defaults[c->start].batch_size;
}

static const char *check(const assay_choice *c) {
    assay_precision_kind kind = assay_precision_get_kind(c->precision);
    bool wide = c->precision == ASSAY_PRECISION_FP8_E4M3 || c->precision == ASSAY_PRECISION_FP8_E5M2;
    if (kind == ASSAY_KIND_DENSE || wide) return "precision must be int2 to int8, nf4, fp4, mxfp4 or nvfp4";
    if (kind != ASSAY_KIND_INT && c->asymmetric) return "only integers can be asymmetric";
    if (kind == ASSAY_KIND_CODEBOOK && c->group_size < 1) return "nf4 and fp4 need a group_size";
    if (c->group_size < 0 || c->group_size > (1 << 20)) return "group_size must be 'channel' or from 1 to 1048576";
    if (c->batch_size < 1) return "batch_size must be at least 1";
    if (c->start == ASSAY_START_RTN) return c->damp_percent > 0 ? "damp_percent is for start: gptq" : NULL;
    assay_choice g = start_choice(c);
    return assay_method_get(ASSAY_METHOD_GPTQ)->check(&g);
}

const assay_method assay_method_autoround = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_FORMAT | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_AWQ_SCALE | ASSAY_OPT_AWQ_CLIP |
               ASSAY_OPT_DUO_SCALING | ASSAY_OPT_START | ASSAY_OPT_DAMP_PERCENT | ASSAY_OPT_ITERS | ASSAY_OPT_LR |
               ASSAY_OPT_BATCH_SIZE | ASSAY_OPT_SEED,
    .needs = ASSAY_NEED_LAYER | ASSAY_NEED_REFERENCE,
    .complete = complete,
    .check = check,
    .check_shape = assay_choice_check_groups,
    .quantize = quantize,
};
