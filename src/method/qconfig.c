/* qconfig.c: the steps of a run as the entries from which format/quant_config.c builds config.json's
 * quantization_config. */
#include "base/mem.h"
#include "format/quant_config.h"
#include "method/pipeline.h"

static assay_precision dense_precision(assay_dtype t) {
    return t == ASSAY_DTYPE_F32   ? ASSAY_PRECISION_F32
           : t == ASSAY_DTYPE_F16 ? ASSAY_PRECISION_F16
                                  : ASSAY_PRECISION_BF16;
}

static assay_quant_entry entry_of(const assay_step *s, assay_dtype model_dtype) {
    const assay_choice *c = &s->choice;
    bool eight = c->method == ASSAY_METHOD_LLM_INT8;
    if (c->method == ASSAY_METHOD_NONE)
        return (assay_quant_entry){.weight_name = s->tensor->name, .precision = dense_precision(model_dtype)};
    return (assay_quant_entry){.weight_name = s->tensor->name,
                               .precision = c->precision,
                               .group_size = c->group_size,
                               .asymmetric = c->asymmetric,
                               .nested = c->double_quant,
                               .mse = c->mse,
                               .act_bits = eight ? 8 : 16,
                               .outlier_threshold = eight ? c->threshold : 0,
                               .is_embedding = !s->is_linear};
}

assay_status assay_quantization_config(json_t **out, const assay_steps *p, assay_err *err) {
    assay_quant_entry *e = assay_mallocn(p->n, sizeof *e);
    size_t n = 0;
    *out = NULL;
    if (!e) return assay_nomem(err);
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].is_linear || p->v[i].choice.method != ASSAY_METHOD_NONE)
            e[n++] = entry_of(&p->v[i], p->model_dtype);
    assay_status s = assay_quant_config_build(out, p->convention, e, n, p->model_dtype, err);
    assay_free(e);
    return s;
}
