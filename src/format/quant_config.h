/* format/quant_config.h: the `quantization_config` of config.json that goes with written matrices. */
#ifndef ASSAY_FORMAT_QUANT_CONFIG_H
#define ASSAY_FORMAT_QUANT_CONFIG_H

#include "format/format.h"

/* How one linear layer was written. Give every linear layer of the model, the unquantized ones too
 * (precision f32, f16 or bf16). */
typedef struct assay_quant_entry {
    const char *weight_name; /* "....weight"; borrowed */
    assay_precision precision;
    int64_t group_size; /* INT: columns, 0 = row; CODEBOOK: elements */
    bool asymmetric, nested;
    bool mse; /* INT: scales by a clipping search, which is told as the observer and changes no reading */
    int act_bits;
    double outlier_threshold;
    bool is_embedding; /* no linear layer: a quantized one is named in full, an unquantized one not at all */
} assay_quant_entry;

/* New reference in *out; NULL when nothing is quantized. lm_head is listed as left alone when it is not
 * among the entries, because loaders make a linear layer of it even where it is tied to the embedding.
 * EUNSUPPORTED names what the convention cannot say. model_dtype is the dtype of the unquantized model, in
 * which 4-bit bitsandbytes matrices are computed. */
assay_status assay_quant_config_build(json_t **out, assay_convention c, const assay_quant_entry *entries,
                                      size_t n, assay_dtype model_dtype, assay_err *err);

#endif
