/* engine.c: continuous batching (Yu et al. 2022, Orca) with chunked prompts (Agrawal et al. 2023, SARATHI)
 * over a paged cache.
 *
 * A slot holds one job in work: the tokens known so far, of which the first seq.n are in the cache. One step
 * is one forward call of
 *   - for each slot in order of admission: its next token if it is being continued, else as much of its
 *     prompt as the step's `chunk` of prompt tokens still allows (so the oldest prompt is finished first).
 * Then the wanted logits go to the client, finished slots are retired at once, and waiting jobs take their
 * places.
 *
 * Shared prefixes: a job is admitted as a fork of the longest computed beginning among slots and kept
 * sequences. When a slot is about to compute a longer one (the choices of one question arrive together), the
 * job waits for it.
 *
 * Long texts: a rotation may be another for texts beyond a length (assay_config_is_long). Sequences of the two kinds share nothing,
 * and a slot that grows from one into the other is begun again: all that is known is fed once more, and counts as its output's time.
 *
 * Memory: a job is admitted only if the pages that all slots may ever need fit the budget, shared ones
 * counted for each; so no slot can run dry, and kept sequences are evicted when their pages are needed. With
 * a quantized cache a step's raw pages are bounded too: a slot touches its partial page and, with r rows, at
 * most r / 64 + 1 others, so 2 pages a slot and the chunk's own suffice. */
#include "runtime/engine.h"
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

enum {
    WORTH_WAITING = 16, /* tokens: a job waits rather than compute this many that another slot is computing */
    LOOK_AHEAD =
        64 /* waiting jobs looked at per step, so that a long queue is not compared in full each time */
};

typedef struct slot {
    size_t job;
    assay_seq seq;
    int32_t *ids; /* [n_ids] known tokens */
    size_t n_ids, cap, pages;
    size_t n_prompt;  /* tokens whose time is the prompt's */
    size_t n_known;   /* tokens fed in pieces: the prompt, or all that were known when the slot was begun again */
    size_t first_row; /* the first position whose logits are wanted */
    size_t n_rows;    /* in this step */
    bool is_long;
    bool finished;
    double seconds_prompt, seconds_output;
} slot;

struct assay_engine {
    assay_model *model;
    assay_kv *kv;
    assay_prefix prefix;
    bool prefix_cache;
    size_t max_batch, chunk;
    slot *slots;           /* [n_slots] in order of admission */
    size_t n_slots, pages; /* pages: the sum of what slots may need */
    size_t n_computed, n_shared;
    /* one step's batch, [max_rows] each */
    int32_t *ids, *pos, *out;
    const int32_t **page_tables;
    bool *is_long;
    size_t *out_slot;
    assay_row *rows;
    size_t n, n_out;
};

/* One call of assay_engine_run. */
typedef struct run {
    const assay_job *jobs;
    size_t n;
    size_t next; /* jobs before it were admitted */
    bool *taken; /* [n] */
    const assay_engine_client *client;
} run;

/* --- open and close --- */

static size_t pages_for(size_t positions) {
    return (positions + ASSAY_KV_PAGE - 1) / ASSAY_KV_PAGE;
}

/* Slots and prompt tokens of a step that a quantized cache's raw pages allow. */
static void fit_raw_pages(assay_engine *e) {
    size_t raw = assay_kv_get_size(e->kv)->max_raw;
    if (assay_kv_get_pack(e->kv) == ASSAY_KV_PACK_NONE) return;
    size_t most = ASSAY_MAX((size_t)1, raw / 4) * ASSAY_KV_PAGE;
    e->chunk = ASSAY_MIN(e->chunk, most);
    e->max_batch = ASSAY_MIN(e->max_batch, (raw - pages_for(e->chunk)) / 2);
}

assay_status assay_engine_open(assay_engine **out, assay_model *model, assay_kv *kv, size_t max_batch,
                               size_t chunk, bool prefix_cache, assay_err *err) {
    assay_status s = ASSAY_OK;
    *out = NULL;
    assay_engine *e = assay_calloc(1, sizeof *e);
    if (!e) return assay_nomem(err);
    *e = (assay_engine){
        .model = model, .kv = kv, .prefix_cache = prefix_cache, .max_batch = max_batch, .chunk = chunk};
    size_t n = assay_model_max_rows(model);
    fit_raw_pages(e);
    e->slots = assay_calloc(max_batch, sizeof *e->slots);
    e->ids = assay_mallocn(n, sizeof *e->ids);
    e->pos = assay_mallocn(n, sizeof *e->pos);
    e->out = assay_mallocn(n, sizeof *e->out);
    e->page_tables = assay_mallocn(n, sizeof *e->page_tables);
    e->is_long = assay_mallocn(n, sizeof *e->is_long);
    e->out_slot = assay_mallocn(n, sizeof *e->out_slot);
    e->rows = assay_mallocn(n, sizeof *e->rows);
    if (!e->slots || !e->ids || !e->pos || !e->out || !e->page_tables || !e->is_long || !e->out_slot || !e->rows) {
        s = assay_nomem(err);
        goto out;
    }
    s = assay_prefix_init(&e->prefix, kv, 2 * max_batch + 32, err);
out:
    if (s == ASSAY_OK)
        *out = e;
    else
        assay_engine_close(e);
    return s;
}

static void drop_slot(assay_engine *e, slot *t) {
    e->pages -= t->pages;
    assay_seq_release(e->kv, &t->seq);
    assay_free(t->ids);
    memset(t, 0, sizeof *t);
}

static void drop_all(assay_engine *e) {
    while (e->n_slots > 0)
        drop_slot(e, &e->slots[--e->n_slots]);
}

void assay_engine_close(assay_engine *e) {
    if (!e) return;
    drop_all(e);
    assay_prefix_deinit(&e->prefix);
    assay_free(e->slots);
    assay_free(e->ids);
    assay_free(e->pos);
    assay_free(e->out);
    assay_free(e->page_tables);
    assay_free(e->is_long);
    assay_free(e->out_slot);
    assay_free(e->rows);
    assay_free(e);
}

void assay_engine_counts(const assay_engine *e, size_t *computed, size_t *shared) {
    *computed = e->n_computed;
    *shared = e->n_shared;
}

/* --- admission --- */

/* What of the first `common` tokens of slot t can be forked from it once they are computed. A slot whose
 * prompt goes beyond the page they end in will have the whole pages alone, when the cache is quantized. */
static size_t coming_length(const assay_engine *e, const slot *t, size_t common) {
    if (t->seq.n >= common) return 0; /* computed: what is there counts */
    bool packs = assay_kv_get_pack(e->kv) != ASSAY_KV_PACK_NONE;
    return packs && t->n_ids / ASSAY_KV_PAGE > common / ASSAY_KV_PAGE ? common - common % ASSAY_KV_PAGE
                                                                      : common;
}

/* The longest computed beginning of a job: its sequence (or NULL) and length. *waits: a slot will soon have a
 * longer one. */
static const assay_seq *find_beginning(assay_engine *e, const assay_job *j, size_t *length, bool *waits) {
    size_t coming = 0;
    bool is_long = assay_config_is_long(assay_model_config(e->model), j->n_ids);
    const assay_seq *best = assay_prefix_find(length, &e->prefix, j->ids, j->first_row, is_long);
    for (size_t i = 0; i < e->n_slots; i++) {
        const slot *t = &e->slots[i];
        if (t->is_long != is_long) continue;
        size_t common = assay_common_prefix(t->ids, t->n_ids, j->ids, j->first_row),
               there = assay_seq_forkable(e->kv, &t->seq, ASSAY_MIN(common, t->seq.n));
        coming = ASSAY_MAX(coming, coming_length(e, t, common));
        if (there <= *length) continue;
        *length = there;
        best = &t->seq;
    }
    *waits = coming >= *length + WORTH_WAITING;
    return best;
}

static assay_status fill_slot(assay_engine *e, const run *r, size_t job, const assay_seq *beginning,
                              size_t length, assay_err *err) {
    const assay_job *j = &r->jobs[job];
    slot *t = &e->slots[e->n_slots++];
    *t = (slot){.job = job,
                .n_prompt = j->n_ids,
                .n_known = j->n_ids,
                .first_row = j->first_row,
                .pages = pages_for(j->max_len),
                .is_long = assay_config_is_long(assay_model_config(e->model), j->n_ids)};
    e->pages += t->pages;
    ASSAY_TRY(assay_grow(&t->ids, &t->cap, j->n_ids + 1, sizeof *t->ids, err));
    memcpy(t->ids, j->ids, j->n_ids * sizeof *t->ids);
    t->n_ids = j->n_ids;
    if (!beginning) return ASSAY_OK;
    e->n_shared += length;
    return assay_seq_fork(e->kv, &t->seq, beginning, length, err);
}

/* Fills free slots from the queue. A job that waits for a prefix lets later ones pass, unless rows must come
 * in order. */
static assay_status admit(assay_engine *e, run *r, assay_err *err) {
    size_t end = ASSAY_MIN(r->n, r->next + LOOK_AHEAD);
    for (size_t i = r->next; i < end && e->n_slots < e->max_batch; i++) {
        if (r->taken[i]) continue;
        size_t length = 0;
        bool waits = false;
        const assay_seq *beginning = NULL;
        if (e->pages + pages_for(r->jobs[i].max_len) > assay_kv_max_pages(e->kv)) break;
        if (e->prefix_cache) {
            assay_prefix_make_room(&e->prefix, 1); /* a fork copies at most one page */
            beginning = find_beginning(e, &r->jobs[i], &length, &waits);
        }
        if (waits && r->client->in_order) break;
        if (waits) continue;
        r->taken[i] = true;
        ASSAY_TRY(fill_slot(e, r, i, beginning, length, err));
    }
    while (r->next < r->n && r->taken[r->next])
        r->next++;
    return ASSAY_OK;
}

/* --- one step --- */

static void put_row(assay_engine *e, size_t i, size_t position) {
    const slot *t = &e->slots[i];
    e->ids[e->n] = t->ids[position];
    e->pos[e->n] = (int32_t)position;
    e->page_tables[e->n] = t->seq.pages;
    e->is_long[e->n] = t->is_long;
    if (position >= t->first_row) {
        e->out[e->n_out] = (int32_t)e->n;
        e->out_slot[e->n_out++] = i;
    }
    e->n++;
}

/* Forgets what was computed of a text that has become a long one. */
static void begin_again(assay_engine *e, slot *t) {
    assay_seq_release(e->kv, &t->seq);
    t->n_prompt = 0;
    t->n_known = t->n_ids;
    t->first_row = t->n_ids - 1;
    t->is_long = true;
}

static assay_status build_batch(assay_engine *e, assay_err *err) {
    size_t room = e->chunk;
    e->n = e->n_out = 0;
    for (size_t i = 0; i < e->n_slots; i++) {
        slot *t = &e->slots[i];
        if (!t->is_long && assay_config_is_long(assay_model_config(e->model), t->n_ids)) begin_again(e, t);
        bool in_pieces = t->seq.n < t->n_known;
        t->n_rows = in_pieces ? ASSAY_MIN(room, t->n_known - t->seq.n) : 1;
        if (in_pieces) room -= t->n_rows;
        if (t->n_rows == 0) continue;
        size_t end = t->seq.n + t->n_rows, more = pages_for(end) - ASSAY_MIN(pages_for(end), t->seq.n_pages);
        if (more) assay_prefix_make_room(&e->prefix, more);
        ASSAY_TRY(assay_seq_extend(e->kv, &t->seq, end, err));
        for (size_t p = t->seq.n; p < end; p++)
            put_row(e, i, p);
    }
    return ASSAY_OK;
}

/* Shows the wanted logits to the client and takes its next tokens. */
static assay_status deliver(assay_engine *e, const run *r, assay_err *err) {
    size_t most = assay_model_logit_rows(e->model), vocab = (size_t)assay_model_config(e->model)->vocab_size;
    for (size_t first = 0; first < e->n_out; first += most) {
        size_t n = ASSAY_MIN(most, e->n_out - first);
        const float *logits = assay_model_logits(e->model, first, n);
        for (size_t i = 0; i < n; i++) {
            size_t row = (size_t)e->out[first + i];
            e->rows[i] = (assay_row){r->jobs[e->slots[e->out_slot[first + i]].job].tag, (size_t)e->pos[row],
                                     logits + i * vocab, -1};
        }
        ASSAY_TRY(r->client->rows(r->client->ctx, e->rows, n, err));
        for (size_t i = 0; i < n; i++) {
            slot *t = &e->slots[e->out_slot[first + i]];
            if (e->rows[i].position + 1 != t->n_ids) continue;
            t->finished = e->rows[i].next < 0;
            if (t->finished) continue;
            ASSAY_TRY(assay_grow(&t->ids, &t->cap, t->n_ids + 1, sizeof *t->ids, err));
            t->ids[t->n_ids++] = e->rows[i].next;
        }
    }
    return ASSAY_OK;
}

/* Tells the client about finished slots, keeps their sequences, closes the gaps. */
static assay_status retire(assay_engine *e, const run *r, assay_err *err) {
    size_t kept = 0;
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < e->n_slots; i++) {
        slot *t = &e->slots[i];
        if (!t->finished || s != ASSAY_OK) {
            e->slots[kept++] = *t;
            continue;
        }
        s = r->client->done(r->client->ctx, r->jobs[t->job].tag, t->seconds_prompt, t->seconds_output, err);
        if (e->prefix_cache) assay_prefix_put(&e->prefix, &t->ids, &t->seq, t->is_long);
        drop_slot(e, t);
    }
    e->n_slots = kept;
    return s;
}

static assay_status step(assay_engine *e, const run *r, assay_err *err) {
    double start = assay_now();
    ASSAY_TRY(build_batch(e, err));
    assay_batch batch = {
        .n = e->n, .ids = e->ids, .pos = e->pos, .pages = e->page_tables, .is_long = e->is_long, .n_out = e->n_out, .out = e->out};
    assay_model_forward(e->model, e->kv, &batch);
    e->n_computed += e->n;
    ASSAY_TRY(deliver(e, r, err));
    double per_row = (assay_now() - start) / (double)e->n;
    for (size_t i = 0; i < e->n_slots; i++) {
        slot *t = &e->slots[i];
        double *seconds = t->seq.n < t->n_prompt ? &t->seconds_prompt : &t->seconds_output;
        *seconds += per_row * (double)t->n_rows;
        assay_seq_advance(e->kv, &t->seq, t->seq.n + t->n_rows);
    }
    return retire(e, r, err);
}

assay_status assay_engine_run(assay_engine *e, const assay_job *jobs, size_t n,
                              const assay_engine_client *client, assay_err *err) {
    assay_status s = ASSAY_OK;
    run r = {.jobs = jobs, .n = n, .client = client};
    r.taken = assay_calloc(n, sizeof *r.taken);
    if (!r.taken) return assay_nomem(err);
    while (r.next < n || e->n_slots > 0) {
        ASSAY_GO(admit(e, &r, err));
        ASSAY_GO(step(e, &r, err));
    }
out:
    drop_all(e);
    assay_free(r.taken);
    return s;
}
