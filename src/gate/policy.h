/* gate/policy.h: what may be lost, and how sure one must be. Comes from a YAML mapping, from JSON, or is the
 * default.
 *
 *   policy:
 *     margin: 2 pt                  # largest loss of a dimension, in points of its mean score; pp or 0.02 too
 *     slice_margin: 4 pt            # of a slice
 *     confidence: 0.95              # of each one-sided bound; the interval shown covers 2 * confidence - 1
 *     power: 0.8                    # for the minimum detectable effect and the items needed
 *     alarm_alpha: 0.05             # chance of any false harm alarm (Holm over all dimensions and slices)
 *     interval: auto                # auto | tango | newcombe | t | bootstrap
 *     required: [structured]        # must be in the suite, and cannot be waived
 *     max_output_length_ratio: 1.1  # mean answer length against the baseline's, per dimension
 *     max_truncated_rate: 2 pt      # of the variant's items, per dimension
 *     max_invalid_rate: 2 pt
 *     max_error_rate: 0             # items the runtime failed on
 *     perplexity_margin: 5 %        # largest relative increase; without one reported only
 *     kl_margin: 0.02               # largest mean KL divergence in nats per token; without one reported only
 *     agreement_margin: 5 pt        # largest share of tokens with another top-1; without one reported only
 *     dimensions:
 *       math: {margin: 1 pt, slice_margin: 3 pt, slices: {add3: 6 pt}}
 *       recall: 3 pt
 *     waivers:
 *       - {slice: math/sub2, who: a.person, why: "known, fixed in 2.1", expires: 2026-12-31} */
#ifndef ASSAY_GATE_POLICY_H
#define ASSAY_GATE_POLICY_H

#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/yaml.h"

typedef enum assay_interval_choice {
    /* tango (with clusters: on effective counts) for right/wrong; for means the BCa cluster bootstrap, t below
     * 20 clusters */
    ASSAY_INTERVAL_AUTO,
    ASSAY_INTERVAL_TANGO,
    ASSAY_INTERVAL_NEWCOMBE,
    ASSAY_INTERVAL_T,
    ASSAY_INTERVAL_BOOTSTRAP
} assay_interval_choice;

typedef struct assay_margin_rule { /* a margin that differs from the general one */
    const char *dimension;
    const char *slice;        /* NULL: the dimension itself, or with for_slices all its slices */
    bool for_slices;
    double margin;
} assay_margin_rule;

typedef struct assay_waiver {
    const char *dimension;
    const char *slice;        /* NULL: the dimension's own row */
    const char *who, *why;
    const char *expires;      /* "2026-12-31", the last day it holds; NULL = never */
} assay_waiver;

typedef struct assay_policy {
    double margin, slice_margin;                          /* fractions: 0.02 is two points */
    double confidence, power, alarm_alpha;
    assay_interval_choice interval;
    double max_output_length_ratio;                       /* NaN = not judged; so the next five */
    double max_truncated_rate, max_invalid_rate;
    double perplexity_margin, kl_margin, agreement_margin;
    double max_error_rate;                                /* 0 */
    int bootstrap_replicates;                             /* 2000 */
    uint64_t seed;                                        /* of the bootstrap; 1 */
    const char **required;
    size_t n_required;
    assay_margin_rule *rules;
    size_t n_rules;
    assay_waiver *waivers;
    size_t n_waivers;
    assay_arena arena;                                    /* owns all of the above */
} assay_policy;

/* margin 2 pt, slice_margin 4 pt, confidence 0.95, power 0.8, alarm 0.05, nothing else judged. */
void assay_policy_init(assay_policy *p);
void assay_policy_deinit(assay_policy *p);
/* y is the mapping under `policy:`; NULL gives the default. Unknown keys, wrong types and ranges are EINPUT
 * with file and line. */
assay_status assay_policy_from_yaml(assay_policy *out, const assay_yaml_doc *d, const assay_yaml *y,
                                    assay_err *err);
/* The same keys; numbers are fractions. NULL gives the default. `where` names the document in errors. */
assay_status assay_policy_from_json(assay_policy *out, const json_t *j, const char *where, assay_err *err);
/* Every value, normalised: what a verdict records and a step key hashes. New reference, NULL when out of
 * memory. */
json_t *assay_policy_to_json(const assay_policy *p);

#endif
