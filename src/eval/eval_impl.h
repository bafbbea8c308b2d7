/* eval/eval_impl.h: what prepare.c makes and run.c runs. */
#ifndef ASSAY_EVAL_IMPL_H
#define ASSAY_EVAL_IMPL_H

#include "eval/eval.h"

struct assay_evaluation {
    const assay_suite *suite;
    assay_runtime *rt;
    assay_eval_env env;
    char *prefix_text;       /* owned; env borrows it */
    int batch;
    assay_unit *units;       /* items in the suite's order, then texts */
    size_t n_units, cap_units;
};

#endif
