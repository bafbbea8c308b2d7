/* autoround.c: AutoRound (Cheng et al. 2023, "Optimize Weight Rounding via Signed Gradient Descent"; Intel's auto-round 0.15.1): the
 * roundings and ranges of all matrices of a decoder layer are learned together, so that the layer's output comes near the original one.
 *
 *   inputs   x of a batch of sequences, as the quantized layers before this one give them
 *   target   the original layer's output on what the original layers before it give
 *   step     offsets and range factors move by lr against the signs of their gradients of the squared error, which come through the
 *            layer's own backward pass (train/layer.h) and straight through the rounding (rounding.c); lr falls linearly from 1 / iters to 0
 *
 * The original keeps the iterate whose batch had the least error, though batches differ more than iterates do. Here an iterate counts
 * with its error relative to what plain rounding loses on the same sequences. The last one, which nearly always is the best, is then
 * measured on all sequences; if it falls short of what the best promised, that one is too, and plain rounding stays where neither beats
 * it: the result is never worse than rtn there. With iters 0, and for a matrix outside the layers, it is rtn.
 *
 * Products are taken in bf16 unless the model is float32, as the original does: a gradient's sign needs no more.
 *
 * Deterministic given the seed: batches come from the layer's own generator, sequences go in pieces that depend on shapes alone.
 * Memory: per weight 12 bytes and two codes (value, gradient, offset), activations of a piece, and the targets of all tokens. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "method/fold.h"
#include "method/methods.h"
#include "method/rounding.h"
#include "train/layer.h"

/* The original's. A quarter of that work (100 and 4) is nearly as good on long held-out windows of the demo model and clearly worse on its
 * short texts (KL 9.5e-4 against 5.9e-4 at int4 g128); half of it (100 and 8) lies between. */
enum { DEFAULT_ITERS = 200, DEFAULT_BATCH = 8 };
#define FALLS_SHORT 1.05 /* of the least relative error of a batch, which is an optimistic estimate */
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
    float *target;       /* [n_tokens][hidden] */
    double *base;        /* [n_seqs] squared error of plain rounding */
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
    t->base = assay_calloc(l->n_seqs, sizeof *t->base);
    t->lengths = assay_mallocn(l->n_seqs, sizeof *t->lengths);
    if (!t->start || !t->base || !t->lengths) return assay_nomem(err);
    measure_sequences(t);
    size_t floats = ASSAY_MIN(t->piece_rows, l->n_tokens) * t->hidden;
    t->x = assay_mallocn(floats, sizeof *t->x);
    t->want = assay_mallocn(floats, sizeof *t->want);
    t->y = assay_mallocn(floats, sizeof *t->y);
    t->target = assay_mallocn(l->n_tokens, t->hidden * sizeof *t->target);
    return t->x && t->want && t->y && t->target ? ASSAY_OK : assay_nomem(err);
}

static void tuner_close(tuner *t) {
    for (int i = 0; i < ASSAY_ROLE_COUNT; i++)
        assay_free(t->owned[i]);
    for (size_t i = 0; t->r && i < t->n; i++)
        assay_rounding_close(&t->r[i]);
    assay_tape_close(t->tape);
    void *all[] = {t->r, t->start, t->target, t->base, t->x, t->want, t->y, t->lengths};
    for (size_t i = 0; i < ASSAY_LEN(all); i++)
        assay_free(all[i]);
}

/* --- sequences in pieces --- */

/* The next sequences of seqs[*at, n) that make a piece; NULL seqs: all in order. Returns its sequences, its rows in *rows. */
static size_t next_piece(const tuner *t, size_t *rows, const size_t *seqs, size_t at, size_t n) {
    size_t count = 0;
    for (*rows = 0; at + count < n; count++) {
        size_t length = (size_t)t->layer->lengths[seqs ? seqs[at + count] : at + count];
        if (count && *rows + length > t->piece_rows) break;
        *rows += length;
        t->lengths[count] = (int32_t)length;
    }
    return count;
}

static void gather(float *out, const tuner *t, const float *from, const size_t *seqs, size_t at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t seq = seqs ? seqs[at + i] : at + i, n = (size_t)t->lengths[i] * t->hidden;
        memcpy(out, from + t->start[seq] * t->hidden, n * sizeof *out);
        out += n;
    }
}

/* Turns outputs into their error; adds each sequence's squares to loss[i]. */
static void piece_error(double *loss, const tuner *t, size_t count) {
    float *y = t->y;
    const float *want = t->want;
    for (size_t i = 0; i < count; i++)
        for (int32_t row = 0; row < t->lengths[i]; row++) {
            float sum = 0;
            for (size_t k = 0; k < t->hidden; k++) {
                y[k] -= want[k];
                sum += y[k] * y[k];
            }
            loss[i] += (double)sum;
            y += t->hidden;
            want += t->hidden;
        }
}

/* Squared errors of the layer as it is now on n sequences (NULL: the first n) into loss[n]; with backward, gradients too. */
static assay_status run_batch(double *loss, tuner *t, const size_t *seqs, size_t n, bool backward, assay_err *err) {
    for (size_t at = 0, count, rows; at < n; at += count) {
        count = next_piece(t, &rows, seqs, at, n);
        gather(t->want, t, t->target, seqs, at, count);
        gather(t->x, t, t->layer->x, seqs, at, count);
        ASSAY_TRY(assay_tape_forward(t->y, t->tape, t->layer->index, &t->params, t->x, t->lengths, count, err));
        for (size_t i = 0; i < count; i++)
            loss[at + i] = 0;
        piece_error(loss + at, t, count);
        if (backward) ASSAY_TRY(assay_tape_backward(NULL, &t->grads, t->tape, &t->params, t->x, t->y, err));
    }
    return ASSAY_OK;
}

static assay_status total_loss(double *total, tuner *t, double *loss, assay_err *err) {
    size_t n = t->layer->n_seqs;
    ASSAY_TRY(run_batch(loss, t, NULL, n, false, err));
    *total = 0;
    for (size_t i = 0; i < n; i++)
        *total += loss[i];
    return ASSAY_OK;
}

/* Outputs of the original layer on the original inputs. */
static assay_status prepare_targets(tuner *t, assay_err *err) {
    const float *x = t->layer->x_ref ? t->layer->x_ref : t->layer->x;
    for (size_t i = 0; i < t->n; i++)
        assay_rounding_restore(&t->r[i]);
    for (size_t at = 0, count, rows; at < t->layer->n_seqs; at += count) {
        count = next_piece(t, &rows, NULL, at, t->layer->n_seqs);
        size_t first = t->start[at] * t->hidden;
        ASSAY_TRY(assay_tape_forward(t->target + first, t->tape, t->layer->index, &t->params, x + first, t->lengths, count, err));
    }
    for (size_t i = 0; i < t->n; i++)
        assay_rounding_nearest(&t->r[i]);
    return ASSAY_OK;
}

/* --- the search --- */

/* Batches as the original draws them: a shuffled order walked through, shuffled again when less than a batch is left. */
typedef struct sampler {
    assay_rng rng;
    size_t *order;
    size_t n, at;
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
    return (float)((c->iters >= 1000 && few ? 2.0 : 1.0) / (double)c->iters);
}

static void each(tuner *t, void (*fn)(assay_rounding *r)) {
    for (size_t i = 0; i < t->n; i++)
        fn(&t->r[i]);
}

/* Error of a batch relative to that of plain rounding on the same sequences. */
static double relative_loss(const tuner *t, const double *loss, const size_t *seqs, size_t n) {
    double sum = 0, base = 0;
    for (size_t i = 0; i < n; i++) {
        sum += loss[i];
        base += t->base[seqs[i]];
    }
    return base > 0 ? sum / base : sum;
}

static assay_status descend(int64_t *best_iter, double *least, tuner *t, sampler *s, double *loss, assay_err *err) {
    const assay_choice *c = t->r[0].item->choice;
    size_t batch = ASSAY_MIN((size_t)ASSAY_MAX(c->batch_size, 1), s->n);
    each(t, assay_rounding_apply);
    for (int64_t iter = 0; iter < c->iters; iter++) {
        const size_t *seqs = next_batch(s, batch);
        for (size_t i = 0; i < t->n; i++)
            memset(t->r[i].grad, 0, (size_t)(t->r[i].rows * t->r[i].cols) * sizeof(float));
        ASSAY_TRY(run_batch(loss, t, seqs, batch, true, err));
        double now = relative_loss(t, loss, seqs, batch);
        if (iter == 0 || now < *least) {
            *least = now;
            *best_iter = iter;
            each(t, assay_rounding_keep);
        }
        float fall = 1.0f - (float)iter / (float)c->iters;
        for (size_t i = 0; i < t->n; i++)
            assay_rounding_step(&t->r[i], base_rate(t->r[i].item->choice) * fall);
    }
    return ASSAY_OK;
}

/* The best on all sequences of: the last iterate (current), the kept one if it promises more, plain rounding. */
static assay_status choose(tuner *t, double base, double promise, int64_t best_iter, double *loss, assay_err *err) {
    int64_t from = t->r[0].item->choice->iters;
    double least, kept;
    ASSAY_TRY(total_loss(&least, t, loss, err));
    if (least > FALLS_SHORT * promise * base) {
        each(t, assay_rounding_swap);
        ASSAY_TRY(total_loss(&kept, t, loss, err));
        if (kept < least) {
            least = kept;
            from = best_iter;
        } else {
            each(t, assay_rounding_swap);
        }
    }
    if (least > base) {
        least = base;
        from = 0;
        each(t, assay_rounding_nearest);
    }
    for (size_t i = 0; i < t->n; i++)
        assay_item_note(t->r[i].item, "\"iteration\": %lld, \"layer_loss_of_rtn\": %.4f", (long long)from,
                 base > 0 ? least / base : 1.0);
    return ASSAY_OK;
}

static assay_status tune(tuner *t, assay_err *err) {
    const assay_layer *l = t->layer;
    sampler s = {.n = l->n_seqs};
    int64_t best_iter = 0;
    double base = 0, promise = 0, *loss = assay_calloc(l->n_seqs, sizeof *loss);
    assay_status st;
    s.order = assay_mallocn(l->n_seqs, sizeof *s.order);
    if (!loss || !s.order) {
        st = assay_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < s.n; i++)
        s.order[i] = i;
    assay_rng_init(&s.rng, (uint64_t)t->r[0].item->choice->seed * 1000003u + (uint64_t)l->index);
    shuffle(&s);
    if ((st = total_loss(&base, t, t->base, err)) != ASSAY_OK) goto out;
    if ((st = descend(&best_iter, &promise, t, &s, loss, err)) != ASSAY_OK) goto out;
    st = choose(t, base, promise, best_iter, loss, err);
out:
    assay_free(loss);
    assay_free(s.order);
    return st;
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    bool learn = layer->index >= 0 && layer->n_seqs > 0 && items[0]->choice->iters > 0;
    tuner t = {.layer = layer, .n = n_items, .r = assay_calloc(n_items, sizeof *t.r)};
    assay_status s = t.r ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; i < n_items && s == ASSAY_OK; i++)
        s = assay_rounding_open(&t.r[i], items[i], learn, layer->n_threads, err);
    if (s == ASSAY_OK && learn) {
        ASSAY_GO(tuner_memory(&t, err));
        ASSAY_GO(bind(&t, err));
        ASSAY_GO(assay_tape_open(&t.tape, layer->config, layer->n_threads, err));
        if (layer->config->dtype != ASSAY_DTYPE_F32) assay_tape_use_bf16(t.tape);
        ASSAY_GO(prepare_targets(&t, err));
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
    if (!(set & ASSAY_OPT_ITERS)) c->iters = DEFAULT_ITERS;
    if (!(set & ASSAY_OPT_BATCH_SIZE)) c->batch_size = DEFAULT_BATCH;
}

static const char *check(const assay_choice *c) {
    assay_precision_kind kind = assay_precision_get_kind(c->precision);
    bool wide = c->precision == ASSAY_PRECISION_FP8_E4M3 || c->precision == ASSAY_PRECISION_FP8_E5M2;
    if (kind == ASSAY_KIND_DENSE || wide) return "precision must be int2 to int8, nf4, fp4, mxfp4 or nvfp4";
    if (kind != ASSAY_KIND_INT && c->asymmetric) return "only integers can be asymmetric";
    if (kind == ASSAY_KIND_CODEBOOK && c->group_size < 1) return "nf4 and fp4 need a group_size";
    if (c->group_size < 0 || c->group_size > (1 << 20)) return "group_size must be 'channel' or from 1 to 1048576";
    if (c->batch_size < 1) return "batch_size must be at least 1";
    return NULL;
}

static const char *check_shape(const assay_choice *c, int64_t rows, int64_t cols) {
    (void)rows;
    return c->group_size && cols % c->group_size ? "the group size does not divide its columns" : NULL;
}

const assay_method assay_method_autoround = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_GROUP_SIZE | ASSAY_OPT_SYMMETRIC | ASSAY_OPT_AWQ_SCALE | ASSAY_OPT_AWQ_CLIP |
               ASSAY_OPT_DUO_SCALING | ASSAY_OPT_ITERS | ASSAY_OPT_LR | ASSAY_OPT_BATCH_SIZE | ASSAY_OPT_SEED,
    .needs = ASSAY_NEED_LAYER | ASSAY_NEED_REFERENCE,
    .complete = complete,
    .check = check,
    .check_shape = check_shape,
    .quantize = quantize,
};
