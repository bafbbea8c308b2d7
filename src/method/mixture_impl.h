/* method/mixture_impl.h: what the files of the mixture share. */
#ifndef ASSAY_METHOD_MIXTURE_IMPL_H
#define ASSAY_METHOD_MIXTURE_IMPL_H

#include "method/methods.h"
#include "method/mixture.h"

/* Fills every unit's kl that is not negative already, and n_tokens. */
assay_status assay_mixture_measure_kl(assay_mixture *m, const char *model_dir, const assay_calibration *cal, const assay_mixture_opts *o,
                                      assay_err *err);
assay_status assay_mixture_measure_fisher(assay_mixture *m, const char *model_dir, const assay_calibration *cal,
                                          const assay_mixture_opts *o, assay_err *err);
/* KL where it takes less than about ten minutes at a cautious speed, or Fisher has no backward pass to go by. */
assay_sensitivity assay_mixture_pick(const assay_mixture *m, const assay_config *config, const assay_mixture_opts *o);

/* A matrix rounded to nearest, with the clipping that loses least, in the precision of c: what a unit is measured at. */
assay_status assay_mixture_round(assay_matrix *out, const assay_tensor *t, const assay_choice *c, assay_dtype model_dtype, int n_threads,
                                 assay_err *err);

/* The first sequences of the calibration with at most max tokens together (one at least, cut to max). */
typedef struct assay_mixture_tokens {
    int32_t *ids;
    int32_t *lengths;
    size_t n_seqs, n;
} assay_mixture_tokens;
assay_status assay_mixture_take_tokens(assay_mixture_tokens *out, const assay_calibration *cal, size_t max, assay_err *err);
void assay_mixture_tokens_deinit(assay_mixture_tokens *t);

#endif
