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
    /* FLOAT: rows that share scales, with group_size: 0 or 1 and no groups a scale per row (channel), more
     * and no groups one for the whole matrix (tensor), more and groups a block of row_block x group_size. */
    int64_t row_block;
    int64_t act_group; /* act_bits 8, dynamic: columns of the input per scale, 0 = the whole token */
    bool static_input; /* act_bits 8: the input's scale is stored with the matrix */
    bool real_zeros;   /* INT: zero points are real numbers (HQQ) */
    bool ordered;      /* INT: activation order by group, the matrix has g_idx */
    bool is_embedding; /* no linear layer: a quantized one is named in full, an unquantized one not at all */
} assay_quant_entry;

/* New reference in *out; NULL when nothing is quantized. lm_head is listed as left alone when it is not
 * among the entries, because loaders make a linear layer of it even where it is tied to the embedding.
 * EUNSUPPORTED names what the convention cannot say. model_dtype is the dtype of the unquantized model, in
 * which 4-bit bitsandbytes matrices are computed. */
assay_status assay_quant_config_build(json_t **out, assay_convention c, const assay_quant_entry *entries,
                                      size_t n, assay_dtype model_dtype, assay_err *err);

/* What stands beside the matrices in a quantization_config, verbatim; borrowed, NULL = none. Only
 * compressed-tensors can say either. */
typedef struct assay_quant_extras {
    const json_t *kv_cache_scheme; /* QuantizationArgs of the key and value cache: assay_quant_kv_scheme */
    const json_t
        *transform_config; /* {"config_groups": {NAME: {"type": "hadamard", "apply": [{"targets", "location",
                              "inverse"}], ...}}}: rotations, of which the runtime applies the online ones */
} assay_quant_extras;
/* assay_quant_config_build with extras (NULL = none). Extras alone make a configuration too. */
assay_status assay_quant_config_build_with(json_t **out, assay_convention c, const assay_quant_entry *entries,
                                           size_t n, assay_dtype model_dtype,
                                           const assay_quant_extras *extras, assay_err *err);
/* QuantizationArgs of a cache of 8-bit floats (e4m3) or of integers, symmetric, one scale per tensor: stored
 * as LAYER.self_attn.k_scale and v_scale unless dynamic. New reference; NULL when out of memory. */
json_t *assay_quant_kv_scheme(int bits, bool is_float, bool dynamic);

#endif
