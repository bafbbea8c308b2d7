/* study/deploy.h: how a recipe stores each tensor, in plan/'s terms: the one place where methods meet deployment math. */
#ifndef ASSAY_STUDY_DEPLOY_H
#define ASSAY_STUDY_DEPLOY_H

#include "method/gguf_types.h"
#include "method/recipe.h"
#include "plan/plan.h"

typedef struct assay_recipe_storage {
    const assay_recipe *recipe;   /* NULL: everything as the checkpoint has it */
    assay_dtype dtype;            /* of the checkpoint: what scales are stored in */
    const assay_gguf_types *types; /* of a GGUF mix; NULL: none */
} assay_recipe_storage;

/* An assay_storage_fn; ctx is a const assay_recipe_storage *. */
assay_status assay_storage_by_recipe(void *ctx, assay_storage *out, const assay_tensor_spec *spec, assay_err *err);

#endif
