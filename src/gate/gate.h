/* gate/gate.h: two scorecards and a policy -> a verdict per dimension and slice, and one for the whole.
 *
 * Sign: diff, lower and upper are oriented so that negative means the variant is worse, whatever the metric.
 * For scores they are in score units (0.02 is two points), for perplexity in nats per token (ln of the
 * perplexity ratio, negated), for KL in nats, negated.
 *
 *   pass          lower bound > -margin: with this confidence the loss is smaller than the margin
 *   fail          upper bound < -margin: it is larger; or a harm alarm (Holm-adjusted p <= alarm_alpha) with
 *                 diff < -margin; or a limit is broken (length ratio, truncated, invalid)
 *   inconclusive  neither: items_needed says how many items of this kind would settle it
 *   waived        would not pass, and an unexpired waiver covers it
 *   info          has no margin (perplexity, KL without one): reported, never judged
 *
 * The whole passes when every judged row passes or is waived (an intersection-union test: no adjustment is
 * needed for "all are non-inferior"); it fails when any fails; otherwise it is inconclusive. docs/gate.md has
 * the formulas and a worked example. */
#ifndef ASSAY_GATE_GATE_H
#define ASSAY_GATE_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "gate/policy.h"
#include "store/record.h"
#include "store/store.h"

typedef enum assay_verdict {
    ASSAY_VERDICT_PASS,
    ASSAY_VERDICT_FAIL,
    ASSAY_VERDICT_INCONCLUSIVE,
    ASSAY_VERDICT_WAIVED,
    ASSAY_VERDICT_INFO
} assay_verdict;
const char *assay_verdict_name(assay_verdict v); /* "pass" "fail" "inconclusive" "waived" "info" */

/* gate/metrics.def says which evaluator has which; anything unlisted is an accuracy or a score. */
typedef enum assay_metric {
    ASSAY_METRIC_ACCURACY,   /* every record is right or wrong */
    ASSAY_METRIC_SCORE,      /* a mean of scores, higher is better */
    ASSAY_METRIC_PERPLEXITY, /* score: mean negative log-likelihood per token in nats, weight: tokens */
    ASSAY_METRIC_KL,         /* score: mean KL(baseline || variant) per token in nats, weight: tokens;
                                aux: share of tokens with the baseline's arg max */
    ASSAY_METRIC_COUNT
} assay_metric;
const char *assay_metric_name(assay_metric m); /* "accuracy" "score" "perplexity" "kl" */

typedef struct assay_gate_counts { /* outcomes of one side; they sum to the items of the row */
    size_t ok, truncated, invalid, refused, error;
} assay_gate_counts;

typedef struct assay_gate_limit { /* a limit beside the score: verdict INFO when the policy sets none */
    double value;                 /* of the variant; NaN = does not apply */
    double lower, upper;          /* bounds at the policy's confidence, equal to value for plain rates */
    double limit;                 /* NaN = none */
    assay_verdict verdict;
} assay_gate_limit;

typedef struct assay_gate_row {   /* one dimension, or one slice of it */
    const char *dimension;
    const char *slice;            /* NULL: the dimension's own row */
    assay_metric metric;
    size_t n;                     /* items of the suite in this row */
    size_t n_paired;              /* of which scored on both sides: what everything below is over */
    size_t n_clusters;
    double baseline, variant;     /* means in shown units: accuracy, score, perplexity, KL */
    double diff;                  /* oriented, see above */
    /* each a one-sided bound at `confidence`; together an interval at `level` = 2*confidence - 1 */
    double lower, upper;
    double level;
    const char *interval;         /* "tango" "newcombe" "tango, clustered" "t" "t, clustered" "bca" */
    /* accuracy only; baseline first: right_wrong is a regression */
    size_t right_wrong, wrong_right, both_right, both_wrong;
    double flip_rate;             /* (right_wrong + wrong_right) / n_paired; NaN when not accuracy */
    size_t n_changed;             /* items whose output differs at all */
    /* one-sided for harm: McNemar mid-p (Obuchowski's z with clusters; t for means) */
    double p;
    double p_holm;                /* adjusted over all dimensions and slices */
    double q_bh;                  /* Benjamini-Hochberg, for a "look here" list */
    bool alarm;                   /* p_holm <= alarm_alpha: harm, however small */
    double margin;                /* NaN: none */
    /* smallest loss this n finds with `power` in a one-sided test at 1 - confidence, unadjusted */
    double mde;
    /* when inconclusive: items in this row to settle it; infinite when none would, else NaN */
    double items_needed;
    assay_gate_limit length, truncated, invalid, errors; /* judged on dimensions, shown on slices */
    assay_gate_limit agreement;   /* KL only: share of tokens whose top-1 is not the baseline's; likewise */
    assay_gate_counts base, cand;
    double base_tokens, cand_tokens; /* mean output length in tokens; NaN when nothing is generated */
    double aa_flip_rate;          /* baseline against its rerun; NaN without a rerun */
    size_t aa_flips;
    assay_verdict verdict;
    const assay_waiver *waiver;   /* the one that applies or has expired; else NULL */
    bool waiver_expired;
    const char *reason;           /* one line: what decided */
} assay_gate_row;

typedef struct assay_gate_flip {
    const char *item_id, *dimension, *slice;
    bool to_wrong;                /* right in the baseline, wrong in the variant */
    const char *base_output, *cand_output;
    const char *base_ids, *cand_ids;       /* JSON arrays of token ids, NULL when not kept */
    const char *base_answer, *cand_answer;
    const char *base_detail, *cand_detail;
} assay_gate_flip;

typedef struct assay_gate {
    const char *baseline, *variant;        /* variant names */
    int64_t baseline_id, variant_id, rerun_id; /* scorecards; rerun 0 = none */
    const char *suite, *suite_hash;
    const char *date;
    assay_verdict verdict;                 /* pass, fail or inconclusive */
    const char *reason;                    /* one line */
    assay_gate_row *rows;                  /* each dimension followed by its slices, in the suite's order */
    size_t n_rows;
    size_t n_pass, n_fail, n_inconclusive, n_waived, n_info, n_alarm;
    /* for the whole when inconclusive: factor on the suite's items, rounded up; else NaN */
    double items_needed;
    size_t n_items, n_flips_to_wrong, n_flips_to_right, n_changed;
    size_t aa_flips;                       /* in all; valid when rerun_id != 0 */
    assay_gate_flip *flips;                /* in item order */
    size_t n_flips;
    const assay_policy *policy;            /* borrowed: must outlive this */
    assay_arena arena;                     /* owns the rest */
} assay_gate;
void assay_gate_free(assay_gate *g);

typedef struct assay_gate_opts {
    int64_t rerun_id;             /* a second scorecard of the baseline, for the noise floor; 0 = none */
    const char *today;            /* "2026-11-21", for waivers and the record; NULL = now */
    /* what the sides are called here: one scorecard may be known under several names; NULL = the name it was made under */
    const char *baseline_name, *variant_name;
} assay_gate_opts;

/* Compares two complete scorecards of the store. EMISMATCH names what differs (suite, template, evaluator and
 * version, item, prompt, token ids), on which item, and on how many. EINPUT when a required dimension is
 * missing or a rule or waiver names what is not there. */
assay_status assay_gate_run(assay_gate **out, assay_store *s, int64_t baseline, int64_t variant,
                            const assay_policy *p, const assay_gate_opts *o, assay_err *err);

/* The same on records in memory. */
typedef struct assay_gate_side {
    const assay_scorecard *card;
    const assay_record *records;  /* in item order */
    size_t n;
} assay_gate_side;
assay_status assay_gate_compare(assay_gate **out, const assay_gate_side *baseline,
                                const assay_gate_side *variant,
                                const assay_gate_side *rerun, const assay_policy *p,
                                const assay_gate_opts *o, assay_err *err);

/* The whole as JSON (docs/gate.md has the schema, "assay.verdict/1"); flips included when `flips`. New
 * reference, NULL when out of memory. */
json_t *assay_gate_to_json(const assay_gate *g, bool flips);

#endif
