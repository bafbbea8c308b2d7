/* method/gguf_types.h: what a GGUF mix makes of a model, from its configuration alone: for plans and sizes. */
#ifndef ASSAY_METHOD_GGUF_TYPES_H
#define ASSAY_METHOD_GGUF_TYPES_H

#include "method/recipe.h"

typedef struct assay_gguf_types assay_gguf_types;

/* The types that a recipe of method gguf gives the tensors of a model: without an importance matrix, or with one where it cannot do
 * without. NULL in *out for a recipe of another method. Errors as a run's. */
assay_status assay_gguf_types_new(assay_gguf_types **out, const assay_recipe *r, const assay_config *c, assay_err *err);
void assay_gguf_types_free(assay_gguf_types *t); /* NULL is fine */
/* The choice that the recipe has for a tensor becomes the one in effect. t may be NULL. */
void assay_gguf_types_apply(assay_choice *c, const assay_gguf_types *t, const char *name);

#endif
