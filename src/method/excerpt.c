/* excerpt.c: some tokens of the calibration. See excerpt.h. */
#include "method/excerpt.h"

#include <string.h>
#include "base/mem.h"

/* Tokens that statistics are taken from, those that a sample alone is, and what is taken of a sequence. */
enum { STATS_TOKENS = 2048, SAMPLE_TOKENS = 2 * ASSAY_SAMPLE_ROWS, LENGTH = 256, NARROW = 2048 };

/* Sequences to take so that min(length, per_seq) of each come to most_tokens, were all like their mean. */
static size_t n_wanted(const assay_layer *layer, size_t most_tokens, size_t per_seq) {
    size_t all = 0;
    for (size_t i = 0; i < layer->n_seqs; i++)
        all += ASSAY_MIN((size_t)layer->lengths[i], per_seq);
    return all <= most_tokens ? layer->n_seqs : (most_tokens * layer->n_seqs + all - 1) / all;
}

assay_status assay_excerpt_open(assay_excerpt *out, const assay_layer *layer, size_t most_tokens,
                                size_t per_seq, assay_err *err) {
    size_t hidden = (size_t)layer->config->hidden_size, wanted = n_wanted(layer, most_tokens, per_seq);
    size_t room = ASSAY_MIN(most_tokens, layer->n_tokens), first = 0;
    *out = (assay_excerpt){.own_x = assay_mallocn(ASSAY_MAX(room, (size_t)1) * hidden, sizeof(float)),
                           .own_lengths = assay_mallocn(wanted + 1, sizeof(int32_t))};
    if (!out->own_x || !out->own_lengths) {
        assay_excerpt_close(out);
        return assay_nomem(err);
    }
    for (size_t i = 0; i < layer->n_seqs; first += (size_t)layer->lengths[i++]) {
        if (i * wanted / layer->n_seqs == (i + 1) * wanted / layer->n_seqs) continue;
        size_t n = ASSAY_MIN(ASSAY_MIN((size_t)layer->lengths[i], per_seq), room - out->n_tokens);
        if (n == 0) break;
        memcpy(out->own_x + out->n_tokens * hidden, layer->x + first * hidden, n * hidden * sizeof(float));
        out->own_lengths[out->n_seqs++] = (int32_t)n;
        out->n_tokens += n;
    }
    out->x = out->own_x;
    out->lengths = out->own_lengths;
    return ASSAY_OK;
}

void assay_excerpt_swap(assay_excerpt *e, assay_layer *layer) {
    assay_excerpt was = {layer->x, layer->lengths, layer->n_seqs, layer->n_tokens, e->own_x, e->own_lengths};
    layer->x = e->x;
    layer->lengths = e->lengths;
    layer->n_seqs = e->n_seqs;
    layer->n_tokens = e->n_tokens;
    *e = was;
}

void assay_excerpt_close(assay_excerpt *e) {
    assay_free(e->own_x);
    assay_free(e->own_lengths);
    *e = (assay_excerpt){0};
}

uint64_t assay_excerpt_roles(assay_layer *layer, uint64_t roles) {
    uint64_t wide = 0;
    for (int r = 0; r < ASSAY_ROLE_COUNT; r++) {
        const assay_item *item = roles & ASSAY_ROLE_BIT(r) ? assay_layer_item(layer, (assay_tensor_role)r) : NULL;
        if (item && !assay_role_is_expert(item->role) && item->weight->dims[1] > NARROW) wide |= ASSAY_ROLE_BIT(r);
    }
    return wide;
}

assay_status assay_excerpt_collect(assay_layer *layer, uint64_t roles, unsigned what, assay_err *err) {
    assay_excerpt e;
    size_t tokens = what == ASSAY_COLLECT_SAMPLE ? SAMPLE_TOKENS : STATS_TOKENS;
    ASSAY_TRY(assay_excerpt_open(&e, layer, tokens, LENGTH * tokens / STATS_TOKENS, err));
    assay_excerpt_swap(&e, layer);
    assay_status s = assay_layer_collect(layer, roles, what, err);
    assay_excerpt_swap(&e, layer);
    assay_excerpt_close(&e);
    return s;
}
