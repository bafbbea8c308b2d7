/* method/mixture.h: a mixture of precisions by budget: which matrix gets how many bits so that the whole loses least.
 *
 *   units        matrices that runtimes fuse go together: q, k, v; gate, up; o and down alone
 *   candidates   the precisions and group sizes that the checkpoint's convention holds, and the model's own 16 bits
 *   sensitivity  of a unit at a candidate: KL(original || original with that unit rounded to it), mean per token of calibration text
 *   assignment   minimises the sum of sensitivities under the budget: exact, by dynamic programming over bits
 *
 * The recipe's own method then quantizes what was assigned. Everything measured is in the explanation: per unit each candidate's
 * divergence and bits, which was taken, and what one bit more or less would change. */
#ifndef ASSAY_METHOD_MIXTURE_H
#define ASSAY_METHOD_MIXTURE_H

#include "method/method.h"
#include "model/layer.h"

typedef enum assay_sensitivity {
    ASSAY_SENSITIVITY_AUTO,  /* kl where it takes less than about ten minutes or the architecture has no backward pass, else fisher */
    ASSAY_SENSITIVITY_KL,    /* the divergence itself, one run of the model per unit and candidate */
    ASSAY_SENSITIVITY_FISHER /* its second-order estimate from gradients of sampled tokens, one backward pass in all */
} assay_sensitivity;
/* "auto", "kl", "fisher". */
const char *assay_sensitivity_name(assay_sensitivity s);
bool assay_sensitivity_parse(assay_sensitivity *out, const char *word);

typedef struct assay_mixture_opts {
    double target_bpw;       /* stored bits per weight over the matrices that are assigned; or */
    uint64_t target_bytes;   /* of all tensors of the checkpoint */
    const char *precisions;  /* "int3g128 int4g128 int8g128 bf16", by blanks or commas; NULL = a default list */
    assay_sensitivity sensitivity;
    size_t max_tokens;       /* of calibration that are looked at; 0 = 2048 */
    int n_threads;           /* 0 = all cores */
    const char *cache;       /* file (assay_mixture_to_json's) that sensitivities are taken from and kept in; NULL = none */
    const assay_progress *progress;
} assay_mixture_opts;

#define ASSAY_MIXTURE_MAX_CANDIDATES 16

/* One unit. */
typedef struct assay_mixture_unit {
    char name[160];   /* of its first matrix */
    char pattern[224]; /* that matches its matrices' names and no others */
    int layer;
    assay_tensor_role input; /* the role of what its matrices multiply (model/layer.h) */
    int n_matrices;
    double elements;
    int chosen;                                     /* candidate */
    double kl[ASSAY_MIXTURE_MAX_CANDIDATES];        /* sensitivity; negative: the candidate cannot hold it */
    double bits[ASSAY_MIXTURE_MAX_CANDIDATES];      /* stored, of all its matrices */
} assay_mixture_unit;

typedef struct assay_mixture {
    assay_choice candidates[ASSAY_MIXTURE_MAX_CANDIDATES]; /* method none: the model's own dtype */
    char labels[ASSAY_MIXTURE_MAX_CANDIDATES][24];         /* "int4g128" */
    size_t n_candidates;
    assay_mixture_unit *units;
    size_t n_units;
    size_t n_tokens;         /* looked at */
    assay_sensitivity sensitivity;
    double budget_bits, used_bits, elements; /* over the units */
    double other_bits;       /* of everything that is not assigned */
    double predicted_kl;     /* sum of the sensitivities taken */
    char key[65];            /* what the sensitivities follow from: model, calibration, candidates */
} assay_mixture;

/* Measures (or reads from the cache) and assigns. base: the recipe whose matrices are assigned anew; what its overrides and skips name
 * stays as they say. EUSAGE: no target, or one that no assignment reaches (says the least and the most possible), or no calibration. */
assay_status assay_mixture_make(assay_mixture *out, const char *model_dir, const assay_recipe *base, const assay_calibration *calibration,
                                const assay_mixture_opts *o, assay_err *err);
void assay_mixture_deinit(assay_mixture *m); /* all-zero is fine */

/* The recipe that it comes to: base with an override per unit. */
assay_status assay_mixture_recipe(assay_recipe **out, const assay_mixture *m, const assay_recipe *base, assay_err *err);
/* {"units": [...], ...}: the explanation. New reference; NULL when out of memory. */
json_t *assay_mixture_to_json(const assay_mixture *m);

/* The assignment alone, for units whose kl and bits are known: fills chosen, used_bits, predicted_kl. *feasible = false when the budget
 * is below the least. */
assay_status assay_mixture_assign(assay_mixture *m, bool *feasible, assay_err *err);

#endif
