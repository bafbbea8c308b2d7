/* deploy.c: recipe -> storage of each tensor. */
#include "study/deploy.h"

assay_status assay_storage_by_recipe(void *ctx, assay_storage *out, const assay_tensor_spec *spec, assay_err *err) {
    const assay_recipe_storage *r = ctx;
    assay_choice choice;
    if (!r->recipe) return ASSAY_OK;
    ASSAY_TRY(assay_recipe_choose(&choice, r->recipe, spec, err));
    assay_gguf_types_apply(&choice, r->types, spec->name);
    if (choice.method == ASSAY_METHOD_NONE) return ASSAY_OK;
    bool absmax = choice.method == ASSAY_METHOD_LLM_INT8; /* float32 row scales and 8-bit activations */
    *out = (assay_storage){.precision = choice.precision,
                           .group_size = choice.group_size,
                           .asymmetric = choice.asymmetric,
                           .real_zeros = assay_choice_has_real_zeros(&choice),
                           .row_block = choice.scale == ASSAY_SCALE_TENSOR  ? INT64_MAX
                                        : choice.scale == ASSAY_SCALE_BLOCK ? 128
                                                                            : 0,
                           .double_quant = choice.double_quant,
                           .scale_dtype = absmax ? ASSAY_DTYPE_F32 : r->dtype,
                           .act_bits = absmax || choice.activations != ASSAY_ACTIVATIONS_16BIT ? 8 : 16};
    if (choice.scale == ASSAY_SCALE_BLOCK) out->group_size = 128;
    return ASSAY_OK;
}
