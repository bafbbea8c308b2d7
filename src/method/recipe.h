/* method/recipe.h: what is to be done with which tensor: method + precision + options, for the model and per
 * group of tensors.
 *
 * As a YAML mapping (in a study's `variants`, or a file of its own):
 *
 *   method: rtn              # methods.def: rtn llm_int8 nf4 fp4 hqq fp8 gptq awq autoround smoothquant gguf none
 *   precision: int4          # precisions.def; also int4g128 for precision and group_size in one word; for gguf a
 *                            # mix (q4_k_m) or ggml's type
 *   group_size: 128          # columns per scale; channel (or 0, -1) = one scale per row
 *   symmetric: false
 *   mse: true                # search the clipping with the least error
 *   double_quant: true       # nf4, fp4: quantize the block scales too
 *   ...                      # options.def has the rest; a method refuses those that do nothing for it
 *   rotate: true             # Hadamard rotations fused into the weights first (rotate.c); of the whole model only
 *   rotate_online: true      # and one of the down projection's input, which the runtime does
 *   rotate_seed: 0
 *   override:                # the last entry that matches a tensor's name wins; what it leaves out is taken
 *                            # from above, or from the method's defaults if it names another method
 *     - {match: 'mlp\.', precision: int8, group_size: channel}
 *   skip: ['layers\.0\.']    # these stay as they are, whatever override says
 *
 * Without an override only the decoder layers' matrices are quantized; an embedding or a head is quantized
 * only when an override's pattern matches its name (by gguf always); norms and biases never. Patterns are PCRE2, searched
 * anywhere in the name ("model.layers.0.mlp.up_proj.weight").
 *
 * As one line (the command line's --recipe): "rtn,precision=int4,group_size=128,mse" and, after semicolons,
 * overrides that begin with match=PATTERN: "rtn,int8;match=mlp\.,precision=int4,group_size=128". A bare word is
 * a method, a precision or an option set to true. Patterns with a comma or a semicolon need the YAML form. */
#ifndef ASSAY_METHOD_RECIPE_H
#define ASSAY_METHOD_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"
#include "base/yaml.h"
#include "method/gguf_mix.h"
#include "model/config.h"
#include "precision/precision.h"

typedef enum assay_method_id {
#define X(NAME, name) ASSAY_METHOD_##NAME,
#include "method/methods.def"
#undef X
    ASSAY_METHOD_COUNT
} assay_method_id;

const char *assay_method_name(assay_method_id m);
bool assay_method_parse(assay_method_id *out, const char *name);

typedef enum assay_scale_layout { ASSAY_SCALE_CHANNEL, ASSAY_SCALE_TENSOR, ASSAY_SCALE_BLOCK } assay_scale_layout;
typedef enum assay_act_format { ASSAY_ACTIVATIONS_16BIT, ASSAY_ACTIVATIONS_DYNAMIC, ASSAY_ACTIVATIONS_STATIC } assay_act_format;
/* Whose files: AUTO is compressed-tensors, bitsandbytes, hqq or GGUF, as precision and method have it. */
typedef enum assay_file_format { ASSAY_FORMAT_AUTO, ASSAY_FORMAT_GPTQ, ASSAY_FORMAT_GPTQ_V2, ASSAY_FORMAT_AWQ } assay_file_format;
typedef enum assay_start { ASSAY_START_RTN, ASSAY_START_GPTQ } assay_start;
typedef enum assay_act_order { ASSAY_ACT_ORDER_NONE, ASSAY_ACT_ORDER_STATIC, ASSAY_ACT_ORDER_GROUP, ASSAY_ACT_ORDER_GAR } assay_act_order;

/* What is done with one matrix. Complete: every field has the value in effect. Fields without a method named are plain options that
 * several methods take; docs/methods.md tells all. */
typedef struct assay_choice {
    assay_method_id method;       /* ASSAY_METHOD_NONE: the tensor stays as it is, the rest is meaningless */
    assay_precision precision;
    int64_t group_size;           /* INT: columns per scale, 0 = whole row; CODEBOOK: elements per block; FLOAT: its own */
    bool asymmetric;              /* INT */
    bool mse;                     /* search the clipping with the least error */
    bool double_quant;            /* nf4, fp4 */
    double threshold;             /* llm_int8 */
    assay_scale_layout scale;     /* fp8: a scale per channel, for the whole tensor, or per 128 x 128 block */
    assay_act_format activations; /* 16 bit, or 8 bit with scales per token, or with a scale from calibration */
    double damp_percent;          /* gptq, also as a start: of the mean diagonal of H */
    assay_act_order act_order;    /* gptq */
    bool true_sequential;         /* gptq: inputs of o, up and down come from the quantized matrices before them in the layer */
    bool awq_scale, awq_clip;     /* AWQ's two searches before the codes are chosen */
    bool duo_scaling;             /* AWQ's second form of scales: activations and weights */
    bool smooth;                  /* SmoothQuant's scales before the codes are chosen */
    double alpha;                 /* smooth: migration strength */
    bool alpha_search;            /* smooth: the best of a grid per norm, instead of alpha */
    assay_start start;            /* autoround: the codes and ranges that it learns from */
    int64_t iters;                /* autoround */
    double lr;                    /* autoround: 0 = by start and iters */
    int64_t batch_size;           /* autoround: sequences per step */
    int64_t seed;                 /* autoround */
    assay_file_format format;     /* integers: GPTQ's or AWQ's files instead of compressed-tensors', with scales in float16 */
    assay_mix mix;                /* gguf: which tensor gets which type; PURE: all have the precision. Named by `precision` */
    bool pure;                    /* gguf: no mix */
} assay_choice;

typedef struct assay_recipe assay_recipe; /* immutable; safe to share between threads */

/* From a mapping. The keys of also_known (NULL, 0: none) may stand beside the recipe's: the caller reads them.
 * Unknown keys are EINPUT with file, line and the nearest known key. */
assay_status assay_recipe_from_yaml(assay_recipe **out, const assay_yaml_doc *d, const assay_yaml *map,
                                    const char *const *also_known, size_t n_also_known, assay_err *err);
/* From a YAML file that holds the mapping. */
assay_status assay_recipe_load(assay_recipe **out, const char *path, assay_err *err);
/* From the one-line form. */
assay_status assay_recipe_from_string(assay_recipe **out, const char *text, assay_err *err);
void assay_recipe_free(assay_recipe *r);

/* Canonical: every option written out, keys sorted when dumped sorted; equal recipes give equal JSON. New
 * reference; NULL when out of memory. */
json_t *assay_recipe_to_json(const assay_recipe *r);
/* SHA-256 of the canonical JSON. */
assay_status assay_recipe_hash(char hex[65], const assay_recipe *r, assay_err *err);
/* Appends a short name: "rtn int4 g128 asym", "nf4 dq", "rtn int8 + 1 override". */
void assay_recipe_describe(assay_str *out, const assay_recipe *r);
void assay_choice_describe(assay_str *out, const assay_choice *c);

/* The base choice in another precision ("int3g64"), with the defaults that its method has for that one. EUSAGE: no precision, or none that
 * the method makes. */
assay_status assay_recipe_reprecise(assay_choice *out, const assay_recipe *r, const char *precision, assay_err *err);

/* The rotation asked for. */
typedef struct assay_rotation {
    bool on, online; /* online: the down projection's input too */
    uint64_t seed;
} assay_rotation;
assay_rotation assay_recipe_rotation(const assay_recipe *r);
/* Does any of its choices need calibration data? *method says which, for the message. */
bool assay_recipe_needs_calibration(const assay_recipe *r, assay_method_id *method);

/* Would any of them use calibration data, if there is some? */
bool assay_recipe_wants_calibration(const assay_recipe *r);

/* The choice for matrices that no override or skip names; borrowed. */
const assay_choice *assay_recipe_base(const assay_recipe *r);

/* What the recipe does with this tensor of the model. */
assay_status assay_recipe_choose(assay_choice *out, const assay_recipe *r, const assay_tensor_spec *spec,
                                 assay_err *err);

/* Are its zero points real numbers (HQQ)? */
bool assay_choice_has_real_zeros(const assay_choice *c);

/* Stored size in bits of a [rows, cols] matrix treated so in a model whose tensors are of model_dtype; nothing is
 * read. code_bits (or the plain elements) and scale_bits (scales, zeros, tables) may be NULL. Returns the sum. */
double assay_choice_bits(const assay_choice *c, int64_t rows, int64_t cols, assay_dtype model_dtype,
                         double *code_bits, double *scale_bits);

#endif
