/* format/convert.h: from one convention to another without touching a code: can a matrix be held as it is, and the matrix as its new home
 * has it. What follows is exact or refused; decoding and encoding again is the caller's affair (method/convert.h). */
#ifndef ASSAY_FORMAT_CONVERT_H
#define ASSAY_FORMAT_CONVERT_H

#include "format/format.h"
#include "format/quant_config.h"

typedef struct assay_convert_target {
    assay_convention convention;
    assay_precision block;   /* GGUF: the block type wanted; 0 (F32): the one that fits */
    int64_t group_size;      /* INT: columns per scale in the result; 0 = as it is (GGUF: its block's) */
    assay_dtype model_dtype; /* of the result's config.json: in which scales are stored where every one of them is a value of it */
} assay_convert_target;

/* Whether the target can hold the matrix with every code and scale as it is: ASSAY_OK, or EUNSUPPORTED naming the matrix and what stands
 * against it. m may be an outline (assay_checkpoint_outline); a few reasons show only in a BLOCK matrix's data, in assay_convert_apply. */
assay_status assay_convert_check(const char *weight_name, const assay_matrix *m, const assay_convert_target *t, assay_err *err);
/* The matrix as the target has it, in place: blocks as integers or integers as blocks, groups cut or joined, the compute mode that the
 * target's home has. Errors as assay_convert_check's, then m is as it was or deinited. */
assay_status assay_convert_apply(const char *weight_name, assay_matrix *m, const assay_convert_target *t, assay_err *err);

/* What assay_convert_apply will make of an outline, with scales and zero points that mean nothing: for planning the writer's files
 * (format/writer_plan.h). Takes over what m owns. */
assay_status assay_convert_sketch(assay_matrix *out, const char *weight_name, assay_matrix *m, const assay_convert_target *t, assay_err *err);

/* What changes in what is computed, though no weight does, when this matrix goes there: "8-bit activations become 16-bit ones"; NULL when
 * nothing. Static text. */
const char *assay_convert_note(const assay_matrix *m, const assay_convert_target *t);

/* How a matrix that fits is told in the target's quantization_config, where it will be what assay_convert_apply makes of it. An outline
 * will do. */
assay_quant_entry assay_convert_entry(const char *weight_name, const assay_matrix *m, const assay_convert_target *t);

/* The targets by name: "gptq", "gptq_v2", "awq", "compressed-tensors", "gguf", "bnb", "fp8", "hqq", "hf". */
bool assay_convention_parse(assay_convention *out, const char *name);

#endif
