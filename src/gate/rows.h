/* gate/rows.h: private to the room: the items of each dimension and slice, and what is computed from them. */
#ifndef ASSAY_GATE_ROWS_H
#define ASSAY_GATE_ROWS_H

#include <math.h>
#include "gate/gate.h"
#include "stat/paired.h"

/* The items of one row, as indices into both sides' records. */
typedef struct gate_group {
    const char *dimension;
    const char *slice; /* NULL: the dimension's own row */
    size_t *items;     /* borrowed from gate_groups */
    size_t n;
} gate_group;

typedef struct gate_groups {
    gate_group *groups; /* each dimension followed by its slices, in the order of their first items */
    size_t n;
    size_t *items; /* storage of all of them */
} gate_groups;
assay_status gate_groups_make(gate_groups *out, const assay_record *r, size_t n, assay_err *err);
void gate_groups_deinit(gate_groups *g);

typedef struct gate_input {
    const assay_record *base, *cand, *rerun; /* rerun may be NULL; all in the same order of items */
    size_t n;
    const assay_policy *policy;
} gate_input;

/* Comparable or EMISMATCH (mismatch.c). */
assay_status gate_check_sides(const assay_gate_side *base, const assay_gate_side *cand, assay_err *err);

/* Everything of a row but adjusted p values, verdict, waiver and reason (measure.c). *effect holds what
 * items_needed needs. */
typedef struct gate_effect {
    double sd; /* of one item's difference, clusters included: se = sd / sqrt(n_paired) */
    double deff;
} gate_effect;
assay_status gate_measure(assay_gate_row *row, gate_effect *effect, const gate_input *in, const gate_group *g,
                          uint64_t seed, assay_err *err);
/* Length, truncation, invalid answers, errors, agreement (limits.c). */
assay_status gate_limits(assay_gate_row *row, const gate_input *in, const gate_group *g, assay_err *err);
/* The margin that the policy sets for the row, NaN for none; before p values are adjusted, since only judged
 * rows take part (judge.c). */
void gate_set_margin(assay_gate_row *row, const assay_policy *p);
/* Verdict, items needed, waiver and reason from a row whose p values are adjusted (judge.c). */
assay_status gate_judge(assay_gate_row *row, const gate_effect *effect, const assay_policy *p,
                        const char *today, assay_arena *a, assay_err *err);

/* Scored on both sides. */
static inline bool gate_is_paired(const assay_record *b, const assay_record *v) {
    return b->outcome != ASSAY_OUTCOME_ERROR && v->outcome != ASSAY_OUTCOME_ERROR && isfinite(b->score) &&
           isfinite(v->score);
}

#endif
