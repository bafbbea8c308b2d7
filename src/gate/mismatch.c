/* mismatch.c: refuses to compare what is not comparable, and says what differs, on which item first, and on
 * how many.
 *
 * Two scorecards are comparable when both are complete and, item by item, the same question was asked (item,
 * prompt and token id hashes) and the same code graded it (evaluator and version). Items on which a runtime
 * failed have no hashes to compare and are counted as errors later. A divergence is from somebody: where the
 * manifests say from which baseline (`kl`), it must be one and the same. */
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "gate/rows.h"

static bool same(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static const char *shown(const char *s) {
    return s ? s : "none";
}

static assay_status check_complete(const assay_gate_side *s, assay_err *err) {
    const assay_scorecard *c = s->card;
    if (c->complete && (int64_t)s->n == c->d.n_items) return ASSAY_OK;
    return assay_fail(err, ASSAY_EMISMATCH,
                      "scorecard %s is not complete, %zu of %lld items are recorded: let its run finish",
                      c->d.variant, s->n, (long long)c->d.n_items);
}

/* --- the same set of items --- */

static int compare_ids(const void *a, const void *b) {
    const assay_record *const *x = a, *const *y = b;
    return strcmp((*x)->item_id, (*y)->item_id);
}

static assay_status sorted_by_id(const assay_record ***out, const assay_gate_side *s, assay_err *err) {
    *out = assay_mallocn(s->n, sizeof **out);
    if (!*out) return assay_nomem(err);
    for (size_t i = 0; i < s->n; i++) (*out)[i] = &s->records[i];
    qsort(*out, s->n, sizeof **out, compare_ids);
    return ASSAY_OK;
}

/* How many of a's items b lacks; *first is the first of them in a's order. */
static size_t lacking(const char **first, const assay_gate_side *a, const assay_record **sorted_b,
                      size_t n_b) {
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++) {
        const assay_record *key = &a->records[i];
        if (bsearch(&key, sorted_b, n_b, sizeof *sorted_b, compare_ids)) continue;
        if (!n++) *first = key->item_id;
    }
    return n;
}

static assay_status explain_items(const assay_gate_side *a, const assay_gate_side *b, assay_err *err) {
    const assay_record **sa = NULL, **sb = NULL;
    const char *only_a = NULL, *only_b = NULL,
               *suites = same(a->card->d.suite_hash, b->card->d.suite_hash) ? "" : " (their suites differ)";
    assay_status s = ASSAY_OK;
    ASSAY_GO(sorted_by_id(&sa, a, err));
    ASSAY_GO(sorted_by_id(&sb, b, err));
    size_t na = lacking(&only_a, a, sb, b->n), nb = lacking(&only_b, b, sa, a->n);
    if (na)
        s = assay_fail(err, ASSAY_EMISMATCH,
                       "%s and %s are not comparable%s: %zu items are only in %s, first %s; %zu only in %s",
                       a->card->d.variant, b->card->d.variant, suites, na, a->card->d.variant, only_a, nb,
                       b->card->d.variant);
    else if (nb)
        s = assay_fail(err, ASSAY_EMISMATCH,
                       "%s and %s are not comparable%s: %zu items are only in %s, first %s",
                       a->card->d.variant, b->card->d.variant, suites, nb, b->card->d.variant, only_b);
    else
        s = assay_fail(err, ASSAY_EMISMATCH,
                       "%s and %s are not comparable%s: the same items in another order", a->card->d.variant,
                       b->card->d.variant, suites);
out:
    assay_free(sa);
    assay_free(sb);
    return s;
}

static bool same_items(const assay_gate_side *a, const assay_gate_side *b) {
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->records[i].item_id, b->records[i].item_id) != 0) return false;
    return true;
}

/* --- the same question, graded by the same code --- */

typedef enum aspect {
    ASPECT_ITEM,
    ASPECT_EVALUATOR,
    ASPECT_VERSION,
    ASPECT_PLACE,
    ASPECT_PROMPT,
    ASPECT_IDS,
    ASPECTS
} aspect;
static const char *const aspect_names[ASPECTS] = {
    "the item itself", "the evaluator", "the evaluator's version", "dimension, slice or cluster",
    "the prompt",      "the token ids"};

/* The first aspect in which two records of one item differ, ASPECTS when in none. */
static aspect differing(const assay_record *a, const assay_record *b) {
    bool failed = a->outcome == ASSAY_OUTCOME_ERROR || b->outcome == ASSAY_OUTCOME_ERROR;
    if (!same(a->item_hash, b->item_hash)) return ASPECT_ITEM;
    if (!same(a->evaluator, b->evaluator)) return ASPECT_EVALUATOR;
    if (a->evaluator_version != b->evaluator_version) return ASPECT_VERSION;
    if (!same(a->dimension, b->dimension) || !same(a->slice, b->slice) || !same(a->cluster, b->cluster))
        return ASPECT_PLACE;
    if (!failed && !same(a->prompt_hash, b->prompt_hash)) return ASPECT_PROMPT;
    if (!failed && !same(a->ids_hash, b->ids_hash)) return ASPECT_IDS;
    return ASPECTS;
}

static void describe(assay_str *out, aspect what, const assay_record *a, const assay_record *b) {
    switch (what) {
    case ASPECT_ITEM:
        assay_str_printf(out, "%.12s against %.12s", shown(a->item_hash), shown(b->item_hash));
        break;
    case ASPECT_EVALUATOR:
        assay_str_printf(out, "%s against %s", shown(a->evaluator), shown(b->evaluator));
        break;
    case ASPECT_VERSION:
        assay_str_printf(out, "%s %d against %d", shown(a->evaluator), a->evaluator_version,
                         b->evaluator_version);
        break;
    case ASPECT_PLACE:
        assay_str_printf(out, "%s/%s/%s against %s/%s/%s", shown(a->dimension), shown(a->slice),
                         shown(a->cluster), shown(b->dimension), shown(b->slice), shown(b->cluster));
        break;
    case ASPECT_PROMPT:
        assay_str_printf(out, "%.12s against %.12s", shown(a->prompt_hash), shown(b->prompt_hash));
        break;
    default: assay_str_printf(out, "%.12s against %.12s", shown(a->ids_hash), shown(b->ids_hash)); break;
    }
}

static assay_status check_items(const assay_gate_side *a, const assay_gate_side *b, assay_err *err) {
    size_t count[ASPECTS + 1] = {0}, first[ASPECTS + 1] = {0};
    for (size_t i = 0; i < a->n; i++) {
        aspect what = differing(&a->records[i], &b->records[i]);
        if (!count[what]++) first[what] = i;
    }
    for (aspect what = 0; what < ASPECTS; what++) {
        if (!count[what]) continue;
        size_t i = first[what];
        assay_str how = {0};
        describe(&how, what, &a->records[i], &b->records[i]);
        assay_status s =
            assay_fail(err, ASSAY_EMISMATCH,
                       "%s and %s are not comparable: %zu of %zu items differ in %s, first %s (%s)",
                       a->card->d.variant, b->card->d.variant, count[what], a->n, aspect_names[what],
                       a->records[i].item_id, assay_str_c(&how));
        assay_str_free(&how);
        return s;
    }
    return ASSAY_OK;
}

/* --- divergence from the same baseline --- */

static json_t *manifest_of(const assay_gate_side *s) {
    const char *text = s->card->d.manifest;
    return text ? json_loads(text, 0, NULL) : NULL;
}

static assay_status check_kl(const assay_gate_side *a, const assay_gate_side *b, assay_err *err) {
    json_t *ma = manifest_of(a), *mb = manifest_of(b);
    const char *ka = json_string_value(json_object_get(ma, "kl")),
               *kb = json_string_value(json_object_get(mb, "kl"));
    assay_status s = ASSAY_OK;
    if (ka && kb && strcmp(ka, kb) != 0)
        s = assay_fail(err, ASSAY_EMISMATCH,
                       "%s and %s are not comparable: the kl of one is from baseline %.12s, of the other from "
                       "%.12s: score %s with --baseline %s",
                       a->card->d.variant, b->card->d.variant, ka, kb, b->card->d.variant,
                       a->card->d.variant);
    json_decref(ma);
    json_decref(mb);
    return s;
}

assay_status gate_check_sides(const assay_gate_side *base, const assay_gate_side *cand, assay_err *err) {
    const assay_scorecard_desc *b = &base->card->d, *v = &cand->card->d;
    ASSAY_TRY(check_complete(base, err));
    ASSAY_TRY(check_complete(cand, err));
    if (!same_items(base, cand)) return explain_items(base, cand, err);
    ASSAY_TRY(check_items(base, cand, err));
    if (!same(b->suite_hash, v->suite_hash))
        return assay_fail(
            err, ASSAY_EMISMATCH,
            "%s and %s are not comparable: same items, but suite %.12s against %.12s (its options differ)",
            b->variant, v->variant, shown(b->suite_hash), shown(v->suite_hash));
    if (!same(b->template_hash, v->template_hash))
        return assay_fail(err, ASSAY_EMISMATCH,
                          "%s and %s are not comparable: chat template %.12s against %.12s", b->variant,
                          v->variant, shown(b->template_hash), shown(v->template_hash));
    return check_kl(base, cand, err);
}
