/* layered.c: one decoder layer from disk to disk, with its calibration inputs.
 *
 *   x_k  (.partial-x-k)  what goes into layer k, as the quantized layers before it give it (or the original ones, when asked)
 *   r_k  (.partial-r-k)  the same from the original layers, where a method wants what comes out of them; also behind the last layer
 *
 *   transforms                 AWQ's and SmoothQuant's scales: the layer computes the same with other weights
 *   stages q,k,v | o | gate,up | down
 *                              inputs are collected with the earlier stages encoded, then the stage's matrices are quantized
 *   x_k+1, r_k+1               written and renamed, then the layer's tensors, then x_k and r_k are removed
 *
 * The order of writing is what makes a kill harmless: a layer whose tensors are whole has left the next one's inputs behind. A layer in
 * work is done again. Everything is a function of the inputs alone, so the bytes are those of an undisturbed run. */
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "method/acts.h"
#include "method/awq.h"
#include "method/excerpt.h"
#include "method/importance.h"
#include "method/layer.h"
#include "method/pipeline.h"
#include "method/rotate.h"
#include "num/convert.h"

/* The stages of a layer, by the role of their input. */
static const assay_tensor_role stages[] = {ASSAY_ROLE_Q, ASSAY_ROLE_KV_B, ASSAY_ROLE_Q_B, ASSAY_ROLE_O, ASSAY_ROLE_GATE, ASSAY_ROLE_DOWN,
                                           ASSAY_ROLE_SHARED_DOWN};
/* Those of experts, after the others and for some experts at a time: as many as EXPERT_BYTES hold what is collected of. */
static const assay_tensor_role expert_stages[] = {ASSAY_ROLE_EXPERT_GATE, ASSAY_ROLE_EXPERT_DOWN};
#define EXPERT_BYTES ((size_t)512 << 20)

typedef struct work {
    assay_run *run;
    const assay_step *steps;
    size_t n_steps;
    assay_layer layer;
    const assay_step **item_steps; /* of layer.items */
    double *seconds;               /* per item */
    assay_acts x, ref, next_ref;   /* next_ref: r_k+1, the outputs that methods aim at */
    double collecting, quantizing; /* seconds, for estimates: the former grow with the tokens */
    double searching;              /* what looks at an excerpt of them: AWQ, samples of wide inputs */
    assay_acts *sums;              /* assay_layered_weigh: where the sums go; NULL else */
    assay_ticker ticker;
} work;

static size_t n_hidden(const assay_run *r) {
    return r->n_tokens * (size_t)r->config.hidden_size;
}

/* --- the beginning --- */

/* Row id of the embedding as the model runs it: of the matrix as encoded, as changed, or as it is. */
static void embed(float *out, const assay_item *e, int64_t id, double scale) {
    int64_t n = e->weight->dims[1];
    if (assay_item_is_encoded(e))
        assay_matrix_decode_rows(out, &e->out, id, 1);
    else
        assay_item_read(out, e, id * n, n);
    for (int64_t i = 0; i < n && scale != 1; i++) out[i] *= (float)scale;
}

static assay_status begin_kind(assay_run *r, const assay_item *e, char kind, assay_err *err) {
    assay_acts a = {0};
    assay_status s;
    size_t hidden = (size_t)r->config.hidden_size;
    if (assay_acts_exist(r->out_dir, kind, 0)) return ASSAY_OK;
    ASSAY_GO(assay_acts_create(&a, r->out_dir, kind, 0, n_hidden(r), err));
    for (size_t t = 0; t < r->n_tokens; t++)
        embed(a.v + t * hidden, e, r->calibration->ids[t], r->config.embedding_scale);
    s = assay_acts_commit(&a, err);
out:
    assay_acts_close(&a);
    return s;
}

assay_status assay_layered_begin(assay_run *r, const assay_item *embedding, assay_err *err) {
    assay_item plain = *embedding; /* shares w, owns nothing */
    plain.out = (assay_matrix){0};
    ASSAY_TRY(begin_kind(r, r->original_inputs ? &plain : embedding, 'x', err));
    return r->keep_reference ? begin_kind(r, &plain, 'r', err) : ASSAY_OK;
}

/* --- the layer's tensors --- */

static assay_status load_vector(work *w, const assay_step *s, assay_err *err) {
    const assay_tensor *t = s->tensor;
    size_t n = (size_t)assay_tensor_n_elements(t);
    float *v = assay_mallocn(n, sizeof *v);
    if (!v) return assay_nomem(err);
    assay_to_f32(v, t->data, t->dtype, n);
    float offset = assay_config_vector_offset(w->layer.config, s->role);
    for (size_t i = 0; i < n && offset != 0; i++) v[i] += offset;
    w->layer.vector[s->role] = v;
    w->layer.vector_n[s->role] = (int64_t)n;
    if (!w->run->rotator) return ASSAY_OK;
    w->layer.vector_changed[s->role] = true;
    return assay_rotator_apply(w->run->rotator, v, s->role, s->layer, (int64_t)n, 1, w->run->n_threads, err);
}

static assay_status load_matrix(work *w, const assay_step *s, assay_err *err) {
    assay_item *item = &w->layer.items[w->layer.n_items];
    w->item_steps[w->layer.n_items++] = s;
    *item = (assay_item){.weight = s->tensor, .choice = &s->choice, .role = s->role, .expert = s->expert,
                          .model_dtype = w->run->steps.model_dtype};
    ASSAY_TRY(assay_run_weights(&item->importance, w->run, s, err));
    if (!w->run->rotator) return ASSAY_OK;
    ASSAY_TRY(assay_item_own(item, err));
    return assay_rotator_apply(w->run->rotator, item->w, s->role, s->layer, s->tensor->dims[0], s->tensor->dims[1], w->run->n_threads,
                               err);
}

static assay_status load(work *w, int layer, assay_err *err) {
    assay_run *r = w->run;
    w->layer = (assay_layer){.config = &r->config,
                             .index = layer,
                             .n_threads = r->n_threads,
                             .lengths = r->lengths,
                             .n_seqs = r->calibration->n_seqs,
                             .n_tokens = r->n_tokens};
    if (!r->bench) ASSAY_TRY(assay_bench_open(&r->bench, &r->config, r->n_threads, err));
    w->layer.bench = r->bench;
    w->layer.ticker = &w->ticker;
    w->layer.items = assay_calloc(w->n_steps, sizeof *w->layer.items);
    w->item_steps = assay_calloc(w->n_steps, sizeof *w->item_steps);
    w->seconds = assay_calloc(w->n_steps, sizeof *w->seconds);
    if (!w->layer.items || !w->item_steps || !w->seconds) return assay_nomem(err);
    for (size_t i = 0; i < w->n_steps; i++) {
        const assay_step *s = &w->steps[i];
        if (s->tensor->n_dims == 1)
            ASSAY_TRY(load_vector(w, s, err));
        else
            ASSAY_TRY(load_matrix(w, s, err));
    }
    return ASSAY_OK;
}

static void unload(work *w) {
    assay_layer_deinit(&w->layer);
    assay_free(w->item_steps);
    assay_free(w->seconds);
    assay_acts_close(&w->x);
    assay_acts_close(&w->ref);
    assay_acts_close(&w->next_ref);
}

/* --- how far it is --- */

/* Where the parts of a layer end, of 1, when there is such a part; roughly as long as they take. */
#define ORIGINAL_ENDS  0.05
#define TRANSFORM_ENDS 0.25
#define LEARNED_ENDS   0.85
#define STAGES_END     0.95

/* The part that ends there begins. */
static assay_status begin_part(work *w, double end, assay_err *err) {
    w->ticker.from = w->ticker.to;
    w->ticker.to = end;
    w->ticker.share = 0;
    return assay_layer_tick(&w->layer, 0, err);
}

/* --- quantizing --- */

static const assay_method *method_of(const assay_item *item) {
    return assay_method_get(item->choice->method);
}

/* Of an experts' stage those of the experts at hand. */
static bool in_stage(const assay_layer *layer, const assay_item *item, assay_tensor_role stage) {
    int e = item->expert - layer->first_expert;
    bool at_hand = !assay_role_is_expert(item->role) || (e >= 0 && e < layer->n_experts);
    return assay_role_input(item->role) == stage && at_hand && item->choice->method != ASSAY_METHOD_NONE;
}

/* What the stage's methods want to know of their inputs; a sample always, to measure what was lost. */
static unsigned stage_needs(const work *w, assay_tensor_role stage) {
    unsigned needs = 0;
    for (size_t i = 0; i < w->layer.n_items; i++) {
        const assay_item *item = &w->layer.items[i];
        if (!in_stage(&w->layer, item, stage)) continue;
        needs |= ASSAY_COLLECT_SAMPLE | (method_of(item)->needs & (ASSAY_COLLECT_GRAM | ASSAY_COLLECT_STATS));
        if (item->choice->activations == ASSAY_ACTIVATIONS_STATIC) needs |= ASSAY_COLLECT_STATS;
        if (assay_role_is_expert(stage) && item->choice->awq_clip) needs |= ASSAY_COLLECT_GRAM;
    }
    return needs;
}

/* Quantizes the items of one method among those that are wanted, and marks them as done. */
static assay_status run_method(work *w, assay_method_id method, const bool *wanted, assay_err *err) {
    assay_item **items = assay_calloc(w->layer.n_items, sizeof *items);
    size_t n = 0;
    if (!items) return assay_nomem(err);
    for (size_t i = 0; i < w->layer.n_items; i++)
        if (wanted[i] && w->layer.items[i].choice->method == method) items[n++] = &w->layer.items[i];
    double begin = assay_now();
    assay_status s = n ? assay_method_get(method)->quantize(&w->layer, items, n, err) : ASSAY_OK;
    for (size_t i = 0; i < n && s == ASSAY_OK; i++) {
        assay_item_touch(&w->layer, items[i]);
        w->seconds[items[i] - w->layer.items] += (assay_now() - begin) / (double)n;
    }
    w->quantizing += assay_now() - begin;
    assay_free(items);
    return s;
}

static assay_status run_methods(work *w, assay_tensor_role stage, bool whole_layer, assay_err *err) {
    bool *wanted = assay_calloc(w->layer.n_items, sizeof *wanted);
    assay_status s = wanted ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < w->layer.n_items; i++) {
        const assay_item *item = &w->layer.items[i];
        bool whole = (method_of(item)->needs & ASSAY_NEED_LAYER) != 0;
        wanted[i] = whole == whole_layer && item->choice->method != ASSAY_METHOD_NONE && (whole_layer || in_stage(&w->layer, item, stage));
    }
    for (int m = 0; s == ASSAY_OK && m < ASSAY_METHOD_COUNT; m++)
        s = run_method(w, (assay_method_id)m, wanted, err);
    assay_free(wanted);
    return s;
}

static assay_status collect(work *w, uint64_t roles, unsigned what, assay_err *err) {
    uint64_t wide = what == ASSAY_COLLECT_SAMPLE ? assay_excerpt_roles(&w->layer, roles) : 0;
    double begin = assay_now();
    assay_status s = roles & ~wide ? assay_layer_collect(&w->layer, roles & ~wide, what, err) : ASSAY_OK;
    w->collecting += assay_now() - begin;
    begin = assay_now();
    if (s == ASSAY_OK && wide) s = assay_excerpt_collect(&w->layer, wide, what, err);
    w->searching += assay_now() - begin;
    return s;
}

/* Channels of a stage's input that were zero for every token. */
static size_t dead_channels(const assay_inputs *in) {
    size_t dead = 0;
    for (int64_t c = 0; c < in->cols; c++) {
        bool fired = false;
        if (in->gram)
            fired = in->gram[c * in->cols + c] != 0;
        else if (in->absmax)
            fired = in->absmax[c] != 0;
        else
            for (size_t k = 0; k < in->n_sample && !fired; k++)
                fired = in->sample[k * (size_t)in->cols + (size_t)c] != 0;
        dead += !fired;
    }
    return dead;
}

static assay_status measure(work *w, assay_loss *losses, assay_tensor_role stage, assay_err *err) {
    for (size_t i = 0; i < w->layer.n_items; i++) {
        if (!in_stage(&w->layer, &w->layer.items[i], stage)) continue;
        ASSAY_TRY(assay_run_measure(w->run, &losses[i], w->item_steps[i], &w->layer.items[i], err));
        losses[i].seconds = w->seconds[i];
    }
    return ASSAY_OK;
}

/* Does some choice of the layer want that? */
static bool any(const work *w, bool (*wants)(const assay_choice *c)) {
    for (size_t i = 0; i < w->layer.n_items; i++)
        if (w->layer.items[i].choice->method != ASSAY_METHOD_NONE && wants(w->layer.items[i].choice)) return true;
    return false;
}
static bool wants_awq(const assay_choice *c) {
    return c->awq_scale || c->awq_clip;
}
static bool wants_smooth(const assay_choice *c) {
    return c->smooth;
}
static bool wants_layer(const assay_choice *c) {
    return (assay_method_get(c->method)->needs & ASSAY_NEED_LAYER) != 0;
}
static bool wants_all_at_once(const assay_choice *c) {
    const assay_method *m = assay_method_get(c->method);
    return ((m->options & ASSAY_OPT_TRUE_SEQUENTIAL) && !c->true_sequential) || (m->wants & ASSAY_WANT_IMPORTANCE);
}

static assay_status transform(work *w, assay_err *err) {
    double begin = assay_now();
    if (!any(w, wants_smooth) && !any(w, wants_awq)) return ASSAY_OK;
    ASSAY_TRY(begin_part(w, TRANSFORM_ENDS, err));
    if (any(w, wants_smooth)) ASSAY_TRY(assay_smooth_prepare(&w->layer, err));
    w->collecting += assay_now() - begin;
    begin = assay_now();
    if (any(w, wants_awq)) ASSAY_TRY(assay_awq_prepare(&w->layer, err));
    w->searching += assay_now() - begin;
    return ASSAY_OK;
}

/* Learns for the layer as a whole. */
static assay_status learn(work *w, assay_err *err) {
    if (!any(w, wants_layer)) return ASSAY_OK;
    ASSAY_TRY(begin_part(w, LEARNED_ENDS, err));
    return run_methods(w, ASSAY_ROLE_COUNT, true, err);
}

/* Static scales of activations come from the largest inputs seen: an expert that saw none takes what the others at hand saw. */
static void lend_ranges(assay_layer *layer) {
    int64_t cols = layer->expert_inputs ? layer->expert_inputs[0].cols : 0;
    for (int64_t c = 0; c < cols && layer->expert_inputs[0].absmax; c++) {
        float most = 0;
        for (int e = 0; e < layer->n_experts; e++) most = ASSAY_MAX(most, layer->expert_inputs[e].absmax[c]);
        for (int e = 0; e < layer->n_experts; e++)
            if (!layer->expert_inputs[e].n_tokens) layer->expert_inputs[e].absmax[c] = most;
    }
}

/* AWQ's clipping of experts, which transforms do not reach: their inputs are collected for some at a time. */
static assay_status clip_experts(assay_layer *layer, assay_tensor_role stage, assay_err *err) {
    for (size_t i = 0; i < layer->n_items; i++) {
        assay_item *item = &layer->items[i];
        if (in_stage(layer, item, stage) && item->choice->awq_clip && item->in->n_tokens) ASSAY_TRY(assay_awq_clip(item, layer->n_threads, err));
    }
    return ASSAY_OK;
}

/* One stage whose inputs are collected now or have been; its part of the layer ends there. */
static assay_status run_stage(work *w, assay_loss *losses, assay_tensor_role stage, bool collected, double end, assay_err *err) {
    unsigned needs = stage_needs(w, stage);
    if (!needs) return ASSAY_OK;
    if (!collected) {
        ASSAY_TRY(begin_part(w, (w->ticker.to + end) / 2, err));
        ASSAY_TRY(collect(w, ASSAY_ROLE_BIT(stage), needs, err));
    }
    if (assay_role_is_expert(stage)) {
        lend_ranges(&w->layer);
        ASSAY_TRY(clip_experts(&w->layer, stage, err));
    }
    ASSAY_TRY(begin_part(w, end, err));
    ASSAY_TRY(run_methods(w, stage, false, err));
    ASSAY_TRY(measure(w, losses, stage, err));
    if (!assay_role_is_expert(stage)) w->run->res->n_dead += dead_channels(&w->layer.inputs[stage]);
    assay_layer_forget(&w->layer, ASSAY_ROLE_BIT(stage));
    return ASSAY_OK;
}

static bool has_experts(const work *w) {
    return w->layer.index >= 0 && (w->run->config.layer[w->layer.index] & ASSAY_LAYER_EXPERTS) != 0;
}

/* The experts, some at a time: each pass over the layer costs its attention anew, each Gram matrix memory. */
static assay_status run_experts(work *w, assay_loss *losses, assay_err *err) {
    const assay_config *c = &w->run->config;
    size_t widest = (size_t)ASSAY_MAX(c->hidden_size, c->expert_size), one = widest * widest * sizeof(float);
    int n = (int)c->n_experts, step = (int)ASSAY_MAX((size_t)1, ASSAY_MIN(EXPERT_BYTES / one, (size_t)n));
    for (int first = 0; first < n; first += step) {
        w->layer.first_expert = first;
        w->layer.n_experts = ASSAY_MIN(step, n - first);
        for (size_t i = 0; i < ASSAY_LEN(expert_stages); i++) {
            int left = (n - first + step - 1) / step * 2 - (int)i;
            ASSAY_TRY(run_stage(w, losses, expert_stages[i], false, w->ticker.to + (STAGES_END - w->ticker.to) / left, err));
        }
    }
    return ASSAY_OK;
}

static assay_status quantize(work *w, assay_loss *losses, assay_err *err) {
    ASSAY_TRY(transform(w, err));
    ASSAY_TRY(assay_fuse_items(w->layer.items, w->layer.n_items, err));
    ASSAY_TRY(learn(w, err));
    bool at_once = any(w, wants_all_at_once);
    unsigned all = 0;
    uint64_t roles = 0;
    size_t left = 0;
    for (size_t i = 0; i < ASSAY_LEN(stages); i++) {
        unsigned needs = stage_needs(w, stages[i]);
        all |= needs;
        roles |= needs ? ASSAY_ROLE_BIT(stages[i]) : 0;
        left += needs != 0;
    }
    if (at_once && all) {
        ASSAY_TRY(begin_part(w, (w->ticker.to + STAGES_END) / 2, err));
        ASSAY_TRY(collect(w, roles, all, err));
    }
    left += has_experts(w);
    for (size_t i = 0; i < ASSAY_LEN(stages); i++) {
        if (!(roles & ASSAY_ROLE_BIT(stages[i]))) continue;
        ASSAY_TRY(run_stage(w, losses, stages[i], at_once, w->ticker.to + (STAGES_END - w->ticker.to) / (double)left, err));
        left--;
    }
    return has_experts(w) ? run_experts(w, losses, err) : ASSAY_OK;
}

/* --- what goes into the next layer --- */

/* Runs the layer, still the original, to y (NULL: not wanted), and lets its inputs say what their columns weigh, when a method wants it
 * and no file says it. */
static assay_status run_original(work *w, float *y, assay_err *err) {
    assay_importance sums;
    if (!w->run->weighs) return y ? assay_layer_output(&w->layer, y, w->layer.x, w->layer.lengths, w->layer.n_seqs, err) : ASSAY_OK;
    assay_status s = assay_importance_measure(&sums, &w->layer, y, err);
    if (s == ASSAY_OK) s = assay_importance_give(&sums, &w->layer, err);
    if (s == ASSAY_OK && w->sums) assay_importance_put(w->sums->v, &sums);
    assay_importance_free(&sums);
    return s;
}

static assay_status write_next(work *w, char kind, const assay_acts *from, bool original, assay_err *err) {
    assay_run *r = w->run;
    assay_acts to = {0};
    assay_status s;
    double begin = assay_now();
    ASSAY_GO(assay_acts_create(&to, r->out_dir, kind, w->layer.index + 1, n_hidden(r), err));
    if (original)
        ASSAY_GO(run_original(w, to.v, err));
    else
        ASSAY_GO(assay_layer_output(&w->layer, to.v, from->v, w->layer.lengths, w->layer.n_seqs, err));
    s = assay_acts_commit(&to, err);
    assay_acts_release(from);
out:
    assay_acts_close(&to);
    w->collecting += assay_now() - begin;
    return s;
}

static bool is_last(const work *w) {
    return w->layer.index + 1 == w->run->config.n_layers;
}

/* From the original layer: before anything in it changes. */
static assay_status write_original(work *w, assay_err *err) {
    assay_run *r = w->run;
    if (r->keep_reference) {
        ASSAY_TRY(write_next(w, 'r', &w->ref, false, err));
        ASSAY_TRY(assay_acts_open(&w->next_ref, r->out_dir, 'r', w->layer.index + 1, n_hidden(r), err));
        w->layer.y_ref = w->next_ref.v;
        w->layer.y_file = &w->next_ref;
    }
    if (r->original_inputs && !is_last(w)) return write_next(w, 'x', &w->x, true, err);
    return r->weighs ? run_original(w, NULL, err) : ASSAY_OK;
}

static assay_status write_quantized(work *w, assay_err *err) {
    return is_last(w) || w->run->original_inputs ? ASSAY_OK : write_next(w, 'x', &w->x, false, err);
}

static assay_status open_inputs(work *w, assay_err *err) {
    assay_run *r = w->run;
    ASSAY_TRY(assay_acts_open(&w->x, r->out_dir, 'x', w->layer.index, n_hidden(r), err));
    w->layer.x = w->x.v;
    w->layer.x_file = &w->x;
    return r->keep_reference ? assay_acts_open(&w->ref, r->out_dir, 'r', w->layer.index, n_hidden(r), err) : ASSAY_OK;
}

/* --- writing --- */

static assay_status put_step(work *w, const assay_step *s, size_t *item, assay_err *err) {
    if (s->tensor->n_dims > 1) return assay_run_put(w->run, s, &w->layer.items[(*item)++], err);
    float offset = assay_config_vector_offset(w->layer.config, s->role), *v = w->layer.vector_changed[s->role] ? w->layer.vector[s->role] : NULL;
    for (int64_t i = 0; v && offset != 0 && i < w->layer.vector_n[s->role]; i++) v[i] -= offset;
    assay_item vector = {.weight = s->tensor, .w = v};
    return assay_run_put(w->run, s, &vector, err);
}

static assay_status put_all(work *w, const assay_loss *losses, assay_err *err) {
    for (size_t i = 0; i < w->layer.n_items; i++)
        if (w->item_steps[i]->choice.method != ASSAY_METHOD_NONE) ASSAY_TRY(assay_run_note(w->run, &losses[i], err));
    for (size_t i = 0, item = 0; i < w->n_steps; i++)
        ASSAY_TRY(put_step(w, &w->steps[i], &item, err));
    for (size_t i = 0; i < w->layer.n_items; i++)
        if (w->item_steps[i]->choice.method != ASSAY_METHOD_NONE) ASSAY_TRY(assay_run_count(w->run, &losses[i], err));
    return ASSAY_OK;
}

static assay_status take_over(work *w, assay_err *err) {
    for (size_t i = 0; i < w->n_steps; i++)
        if (w->steps[i].choice.method != ASSAY_METHOD_NONE) ASSAY_TRY(assay_run_take_over(w->run, &w->steps[i], err));
    return ASSAY_OK;
}

static assay_status work_layer(work *w, int layer, assay_err *err) {
    assay_loss *losses = assay_calloc(w->n_steps, sizeof *losses);
    assay_status s = losses ? ASSAY_OK : assay_nomem(err);
    double begin = assay_now(), bytes = 0;
    for (size_t i = 0; i < w->n_steps; i++)
        bytes += (double)w->steps[i].tensor->n_bytes;
    if (s != ASSAY_OK) goto out;
    w->ticker = (assay_ticker){.progress = w->run->o->progress,
                               .phase = "quantizing",
                               .unit = "bytes",
                               .base = w->run->done_bytes,
                               .size = bytes,
                               .total = (double)w->run->res->input_bytes};
    ASSAY_GO(load(w, layer, err));
    ASSAY_GO(open_inputs(w, err));
    ASSAY_GO(begin_part(w, ORIGINAL_ENDS, err));
    ASSAY_GO(write_original(w, err));
    ASSAY_GO(quantize(w, losses, err));
    ASSAY_GO(begin_part(w, 1, err));
    ASSAY_GO(write_quantized(w, err));
    ASSAY_GO(put_all(w, losses, err));
    assay_acts_remove(w->run->out_dir, 'x', layer);
    assay_acts_remove(w->run->out_dir, 'r', layer);
    if (is_last(w)) assay_acts_remove(w->run->out_dir, 'r', layer + 1);
    w->run->worked_bytes += bytes;
    w->run->worked_seconds += assay_now() - begin;
out:
    assay_free(losses);
    return s;
}

assay_status assay_layered_work(assay_run *r, size_t first, size_t n, int layer, assay_err *err) {
    work w = {.run = r, .steps = &r->steps.v[first], .n_steps = n};
    bool done = true;
    for (size_t i = 0; i < n; i++)
        done = done && assay_run_has(r, &w.steps[i]);
    assay_status s = done ? take_over(&w, err) : work_layer(&w, layer, err);
    unload(&w);
    return s == ASSAY_OK ? assay_run_steps_done(r, w.steps, n, err) : s;
}

/* --- importance alone --- */

assay_status assay_layered_weigh(assay_run *r, size_t first, size_t n, int layer, assay_err *err) {
    work w = {.run = r, .steps = &r->steps.v[first], .n_steps = n};
    assay_acts sums = {0};
    double bytes = 0;
    assay_status s;
    for (size_t i = 0; i < n; i++) bytes += (double)w.steps[i].tensor->n_bytes;
    w.ticker = (assay_ticker){.progress = r->o->progress, .phase = "weighing", .unit = "bytes", .base = r->done_bytes, .size = bytes,
                              .total = (double)r->res->input_bytes, .to = 1};
    if (!assay_acts_exist(r->out_dir, 'i', layer)) {
        ASSAY_GO(load(&w, layer, err));
        ASSAY_GO(open_inputs(&w, err));
        ASSAY_GO(assay_acts_create(&sums, r->out_dir, 'i', layer, assay_importance_n_floats(&w.layer), err));
        w.sums = &sums;
        ASSAY_GO(write_original(&w, err)); /* the next layer's inputs first: they are there when the sums are */
        ASSAY_GO(assay_acts_commit(&sums, err));
        assay_acts_remove(r->out_dir, 'x', layer);
    }
    for (size_t i = 0; i < n; i++) assay_checkpoint_release(r->source, w.steps[i].tensor);
    r->done_bytes += bytes;
    s = assay_progress_report(r->o->progress, "weighing", r->done_bytes, (double)r->res->input_bytes, "bytes", err);
out:
    assay_acts_close(&sums);
    unload(&w);
    return s;
}

/* --- what it would take --- */

#define FEW_TOKENS 512
#define FEW_ITERS  4

/* One trial: the first decoder layer with the first n_seqs sequences, nothing written. */
typedef struct trial {
    size_t n_seqs, n_tokens;
    double collecting, quantizing, searching; /* seconds */
} trial;

/* Hidden states before the first layer in plain memory. */
static assay_status embed_trial(work *w, const trial *t, float **x, assay_err *err) {
    assay_run *r = w->run;
    size_t hidden = (size_t)r->config.hidden_size;
    const assay_step *e = NULL;
    for (size_t i = 0; i < r->steps.n; i++)
        if (r->steps.v[i].role == ASSAY_ROLE_EMBED) e = &r->steps.v[i];
    assay_item item = {.weight = e ? e->tensor : NULL};
    *x = assay_mallocn(t->n_tokens, hidden * sizeof **x);
    if (!*x) return assay_nomem(err);
    for (size_t k = 0; e && k < t->n_tokens; k++)
        assay_item_read(*x + k * hidden, &item, (int64_t)r->calibration->ids[k] * (int64_t)hidden, (int64_t)hidden);
    w->layer.x = *x;
    w->layer.n_seqs = t->n_seqs;
    w->layer.n_tokens = t->n_tokens;
    return ASSAY_OK;
}

/* Methods that iterate do a few iterations in a trial; by how much the rest is more. */
static double shorten(work *w, assay_choice *choices, const trial *t) {
    double factor = 1;
    for (size_t i = 0; i < w->layer.n_items; i++) {
        assay_item *item = &w->layer.items[i];
        choices[i] = *item->choice;
        if (choices[i].iters > FEW_ITERS) {
            double batch = (double)ASSAY_MIN((size_t)choices[i].batch_size, w->run->calibration->n_seqs);
            factor = (double)choices[i].iters / FEW_ITERS * ASSAY_MAX(1.0, batch / (double)t->n_seqs);
            choices[i].iters = FEW_ITERS;
        }
        item->choice = &choices[i];
    }
    return factor;
}

/* The trial of that index of two. */
static assay_status run_trial(assay_run *r, trial *t, int index, const assay_step *steps, size_t n, assay_err *err) {
    work w = {.run = r, .steps = steps, .n_steps = n};
    w.ticker = (assay_ticker){
        .progress = r->o->progress, .phase = "timing the first layer", .unit = "runs", .base = index, .size = 1, .total = 2};
    assay_loss *losses = assay_calloc(n, sizeof *losses);
    assay_choice *choices = assay_calloc(n, sizeof *choices);
    float *x = NULL, *y = NULL;
    assay_status s = losses && choices ? ASSAY_OK : assay_nomem(err);
    if (s != ASSAY_OK) goto out;
    ASSAY_GO(load(&w, 0, err));
    ASSAY_GO(embed_trial(&w, t, &x, err));
    double factor = shorten(&w, choices, t);
    if (!(y = assay_mallocn(t->n_tokens, (size_t)r->config.hidden_size * sizeof *y))) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(run_original(&w, y, err));
    w.layer.y_ref = y;
    ASSAY_GO(quantize(&w, losses, err));
    double begin = assay_now();
    ASSAY_GO(assay_layer_output(&w.layer, y, x, w.layer.lengths, w.layer.n_seqs, err));
    t->collecting = w.collecting + (assay_now() - begin) * (r->keep_reference ? 2 : 1);
    t->quantizing = w.quantizing * factor;
    t->searching = w.searching;
out:
    unload(&w);
    assay_free(losses);
    assay_free(choices);
    assay_free(x);
    assay_free(y);
    return s;
}

/* The first sequences that hold at least so many tokens. */
static trial first_tokens(const assay_run *r, size_t least) {
    trial t = {0};
    while (t.n_seqs < r->calibration->n_seqs && t.n_tokens < least)
        t.n_tokens += (size_t)r->lengths[t.n_seqs++];
    return t;
}

assay_status assay_layered_estimate(assay_quantize_result *out, assay_run *r, assay_err *err) {
    size_t first = 0, n = 0;
    while (first < r->steps.n && r->steps.v[first].layer != 0)
        first++;
    while (first + n < r->steps.n && r->steps.v[first + n].layer == 0)
        n++;
    trial few = first_tokens(r, FEW_TOKENS), more = first_tokens(r, 3 * few.n_tokens);
    uint64_t before = assay_peak_rss();
    ASSAY_TRY(assay_progress_report(r->o->progress, "timing the first layer", 0, 2, "runs", err));
    ASSAY_TRY(run_trial(r, &few, 0, &r->steps.v[first], n, err));
    if (more.n_tokens > few.n_tokens) ASSAY_TRY(run_trial(r, &more, 1, &r->steps.v[first], n, err));
    ASSAY_TRY(assay_progress_report(r->o->progress, "timing the first layer", 2, 2, "runs", err));
    /* A straight line through the two; what does not depend on tokens is its beginning. */
    double slope = 0, fixed = few.collecting, quantizing = ASSAY_MAX(few.quantizing, more.quantizing);
    double searching = ASSAY_MAX(few.searching, more.searching);
    if (more.n_tokens > few.n_tokens) {
        slope = ASSAY_MAX(0.0, (more.collecting - few.collecting) / (double)(more.n_tokens - few.n_tokens));
        fixed = ASSAY_MAX(0.0, few.collecting - slope * (double)few.n_tokens);
    }
    out->seconds += (double)r->config.n_layers * (fixed + slope * (double)r->n_tokens + quantizing + searching);
    out->activation_bytes = n_hidden(r) * sizeof(float) * 2 * (r->keep_reference ? 2 : 1);
    out->memory_bytes = ASSAY_MAX(out->memory_bytes, assay_peak_rss() - before);
    return ASSAY_OK;
}
