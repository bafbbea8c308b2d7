/* cards.h: scorecards made by hand for the gate's tests. Strings belong to the cards' pool. */
#ifndef TESTS_GATE_CARDS_H
#define TESTS_GATE_CARDS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/gate.h"

#define LIT(s) ((char *)(uintptr_t)(s))

typedef struct cards {
    assay_scorecard card[3]; /* baseline, variant, rerun */
    assay_record *records[3];
    assay_gate_side side[3];
    size_t n, cap;
    assay_arena pool;
} cards;

static inline void cards_init(cards *c) {
    static const char *const names[] = {"bf16", "nf4", "bf16-again"};
    memset(c, 0, sizeof *c);
    for (int i = 0; i < 3; i++)
        c->card[i] = (assay_scorecard){.id = i + 1,
                                       .complete = true,
                                       .d = {.key = names[i],
                                             .variant = names[i],
                                             .suite = "demo.yaml",
                                             .suite_hash = "aaaa",
                                             .template_hash = "tttt"}};
}

static inline void cards_free(cards *c) {
    for (int i = 0; i < 3; i++) free(c->records[i]);
    assay_arena_free(&c->pool);
}

/* Adds count items to dimension/slice, whose answers score `base` and `cand` (the rerun as base). */
static inline void cards_add(cards *c, const char *dimension, const char *slice, int count, double base,
                             double cand) {
    if (c->n + (size_t)count > c->cap) {
        c->cap = 2 * (c->n + (size_t)count);
        for (int k = 0; k < 3; k++) c->records[k] = realloc(c->records[k], c->cap * sizeof(assay_record));
    }
    for (int i = 0; i < count; i++) {
        char id[64];
        snprintf(id, sizeof id, "%s-%s-%04zu", dimension, slice ? slice : "x", c->n);
        char *item = assay_arena_strndup(&c->pool, id, strlen(id));
        for (int k = 0; k < 3; k++) {
            double score = k == 1 ? cand : base;
            c->records[k][c->n] = (assay_record){.item_id = item,
                                                 .dimension = LIT(dimension),
                                                 .slice = LIT(slice),
                                                 .evaluator = LIT("exact"),
                                                 .evaluator_version = 1,
                                                 .item_hash = LIT("ih"),
                                                 .prompt_hash = LIT("ph"),
                                                 .ids_hash = LIT("xh"),
                                                 .binary = true,
                                                 .score = score,
                                                 .aux = NAN,
                                                 .weight = 1,
                                                 .output = LIT(score > 0.5 ? "71" : "17"),
                                                 .answer = LIT(score > 0.5 ? "71" : "17"),
                                                 .n_prompt = 10,
                                                 .n_output = 5};
        }
        c->n++;
    }
}

/* A 2x2 table of items: right in both, right -> wrong, wrong -> right, wrong in both. */
static inline void cards_table(cards *c, const char *dimension, const char *slice, int both, int down, int up,
                               int neither) {
    cards_add(c, dimension, slice, both, 1, 1);
    cards_add(c, dimension, slice, down, 1, 0);
    cards_add(c, dimension, slice, up, 0, 1);
    cards_add(c, dimension, slice, neither, 0, 0);
}

static inline void cards_close(cards *c) {
    for (int k = 0; k < 3; k++) {
        c->card[k].d.n_items = c->card[k].n_records = (int64_t)c->n;
        c->side[k] = (assay_gate_side){.card = &c->card[k], .records = c->records[k], .n = c->n};
    }
}

static inline const assay_gate_row *row_of(const assay_gate *g, const char *dimension, const char *slice) {
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        if (!strcmp(r->dimension, dimension) && (slice ? r->slice && !strcmp(r->slice, slice) : !r->slice))
            return r;
    }
    return NULL;
}

#endif
