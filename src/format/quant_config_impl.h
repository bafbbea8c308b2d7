/* format/quant_config_impl.h: what the files that build a quantization_config share. Not for other rooms. */
#ifndef ASSAY_FORMAT_QUANT_CONFIG_IMPL_H
#define ASSAY_FORMAT_QUANT_CONFIG_IMPL_H

#include "format/quant_config.h"

bool assay_quant_is_dense(const assay_quant_entry *e);
/* Whether both are stored and computed alike. */
bool assay_quant_same(const assay_quant_entry *a, const assay_quant_entry *b);
/* Length of a weight's name without ".weight", and that part as a string. */
int assay_quant_module_length(const char *weight_name);
json_t *assay_quant_module(const char *weight_name);
/* Names of the modules that stay as they are. */
json_t *assay_quant_list_dense(const assay_quant_entry *e, size_t n);

/* EUNSUPPORTED unless all that is quantized is stored as `first` is. */
assay_status assay_quant_check_one_way(const char *convention, const assay_quant_entry *e, size_t n,
                                       const assay_quant_entry *first, assay_err *err);

/* Kinds of layers: "model.layers.3.mlp.up_proj" is of the kind "^model\.layers\.\d+\.mlp\.up_proj$". For each entry
 * that pattern; freed with assay_quant_free_kinds. */
assay_status assay_quant_list_kinds(char ***out, const assay_quant_entry *e, size_t n, assay_err *err);
void assay_quant_free_kinds(char **kinds, size_t n);
/* Whether every layer of entry i's kind is stored as it is. */
bool assay_quant_kind_agrees(const assay_quant_entry *e, char **kinds, size_t n, size_t i);

/* One per convention; `first` is the first quantized entry. */
assay_status assay_quant_build_bnb(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_dtype model_dtype, assay_err *err);
assay_status assay_quant_build_fp8(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_err *err);
assay_status assay_quant_build_hqq(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_err *err);
assay_status assay_quant_build_awq(json_t **out, const assay_quant_entry *e, size_t n,
                                   const assay_quant_entry *first, assay_err *err);
assay_status assay_quant_build_gptq(json_t **out, const assay_quant_entry *e, size_t n,
                                    const assay_quant_entry *first, bool v2, assay_err *err);
assay_status assay_quant_build_ct(json_t **out, const assay_quant_entry *e, size_t n,
                                  const assay_quant_extras *x, assay_err *err);

#endif
