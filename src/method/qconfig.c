/* qconfig.c: the steps of a run as the entries from which format/quant_config.c builds config.json's
 * quantization_config. */
#include "base/mem.h"
#include "format/quant_config.h"
#include "method/choice.h"
#include "method/pipeline.h"
#include "method/rotate.h"

static assay_quant_entry entry_of(const assay_step *s, assay_dtype model_dtype) {
    const assay_choice *c = &s->choice;
    const assay_method *m = assay_method_get(c->method);
    bool llm_int8 = (m->options & ASSAY_OPT_THRESHOLD) != 0;
    if (c->method == ASSAY_METHOD_NONE)
        return (assay_quant_entry){.weight_name = s->tensor->name, .precision = assay_precision_of_dtype(model_dtype)};
    assay_grid_spec grid = assay_choice_grid(c, model_dtype);
    return (assay_quant_entry){.weight_name = s->tensor->name,
                               .precision = c->precision,
                               .group_size = grid.group_size,
                               .row_block = grid.row_block,
                               .asymmetric = c->asymmetric,
                               .nested = c->double_quant,
                               .mse = c->mse,
                               .act_bits = llm_int8 || c->activations != ASSAY_ACTIVATIONS_16BIT ? 8 : 16,
                               .act_group = c->activations == ASSAY_ACTIVATIONS_DYNAMIC && c->scale == ASSAY_SCALE_BLOCK ? 128 : 0,
                               .static_input = c->activations == ASSAY_ACTIVATIONS_STATIC,
                               .outlier_threshold = llm_int8 ? c->threshold : 0,
                               .real_zeros = m->real_zeros,
                               .ordered = c->act_order == ASSAY_ACT_ORDER_GROUP && c->group_size,
                               .is_embedding = !s->is_linear};
}

assay_status assay_quantization_config(json_t **out, const assay_steps *p, assay_err *err) {
    assay_quant_entry *e = assay_mallocn(p->n, sizeof *e);
    json_t *transform = p->rotated_online ? assay_rotation_transform_config(p->config) : NULL;
    assay_quant_extras extras = {.transform_config = transform};
    size_t n = 0;
    *out = NULL;
    if (!e || (p->rotated_online && !transform)) {
        assay_free(e);
        return assay_nomem(err);
    }
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].is_linear || p->v[i].choice.method != ASSAY_METHOD_NONE)
            e[n++] = entry_of(&p->v[i], p->model_dtype);
    assay_status s = assay_quant_config_build_with(out, p->convention, e, n, p->model_dtype, &extras, err);
    json_decref(transform);
    assay_free(e);
    return s;
}
