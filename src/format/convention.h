/* format/convention.h: what the conventions offer to convention.c, and share. Not for other rooms.
 * `module` is a weight's name without ".weight". */
#ifndef ASSAY_FORMAT_CONVENTION_H
#define ASSAY_FORMAT_CONVENTION_H

#include "base/str.h"
#include "format/format.h"
#include "format/pack.h"
#include "format/writer.h"
#include "format/writer_plan.h"

/* What is asked for: names for messages, the shape that is expected (0 = any), how unquantized weights are
 * computed with. */
typedef struct assay_want {
    const assay_checkpoint *checkpoint;
    const json_t *config;
    const char *module;
    int64_t rows, cols;
    assay_dtype dense_act;
    bool outline; /* all but the codes: they are allocated and not read */
} assay_want;

/* The tensor MODULE+suffix, or NULL; ENOTFOUND by the second. */
const assay_tensor *assay_want_find(const assay_want *w, const char *suffix);
assay_status assay_want_get(const assay_tensor **out, const assay_want *w, const char *suffix,
                            assay_err *err);
/* EINPUT unless rows and cols are what is wanted. */
assay_status assay_want_shape(const assay_want *w, int64_t rows, int64_t cols, assay_err *err);
/* EINPUT naming tensor, type and size unless t has that type and number of elements (-1 = any). */
assay_status assay_want_tensor(const assay_tensor *t, assay_dtype dtype, int64_t n, assay_err *err);

/* A tensor of n scales of a float type (U8 and F8_E8M0: powers of two, 2^(byte-127)) into out. EINPUT when it
 * has another number of elements, EUNSUPPORTED for another type. */
assay_status assay_want_scales(float *out, const assay_tensor *t, int64_t n, assay_err *err);
/* The type in which scales read from t are kept: that of t where it is F32, F16 or BF16, else F32. */
assay_dtype assay_scale_dtype(const assay_tensor *t);
/* The static scale of a module's input: MODULE+suffix, one positive float. */
assay_status assay_want_input_scale(float *out, const assay_want *w, const char *suffix, assay_err *err);
/* Codes of one byte each: a tensor of FP8 weights as it lies in the file. EINPUT naming row and column of a
 * NaN. */
assay_status assay_want_fp8_codes(assay_matrix *m, const assay_want *w, const assay_tensor *t, assay_err *err);

/* Activation order by group: g_idx from a tensor of group numbers, one a column; left NULL where it says nothing (the columns' own order,
 * or -1). assay_check_order: no group may have more columns than group_size; `name` is what the message is about. */
assay_status assay_want_order(assay_matrix *m, const assay_tensor *t, assay_err *err);
assay_status assay_check_order(const assay_matrix *m, const char *name, assay_err *err);
/* Scales that lie [groups][rows], F32, F16 or BF16 (GPTQ, AWQ). */
assay_status assay_want_scales_across(assay_matrix *m, const assay_tensor *t, assay_err *err);
/* Zero points that are all 2^(b-1) say nothing: symmetric. */
void assay_matrix_drop_plain_zeros(assay_matrix *m);

/* What each convention offers; the table is in convention.c.
 *   has    whether the tensors that make a quantized matrix are there
 *   get    that matrix
 *   check  EUNSUPPORTED naming the module and what stands against it, unless the convention can hold the matrix as it is. Codes are not
 *          looked at, nor scales and zeros when n_scales is 0
 *   put    adds the tensors of a quantized matrix to the writer (not yet recorded) */
#define READS(name)                                \
    bool assay_##name##_has(const assay_want *w);  \
    assay_status assay_##name##_get(assay_matrix *out, const assay_want *w, assay_err *err);
#define WRITES(name)                                                                                    \
    assay_status assay_##name##_check(const char *module, const assay_matrix *m, assay_err *err);       \
    assay_status assay_##name##_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m,    \
                                    assay_dtype model_dtype, assay_err *err);
READS(bnb) READS(ct) READS(fp8) READS(gguf) READS(hqq) READS(gptq) READS(awq)
WRITES(bnb) WRITES(ct) WRITES(fp8) WRITES(gguf) WRITES(hqq) WRITES(gptq) WRITES(gptq_v2) WRITES(awq)
#undef READS
#undef WRITES

/* What GPTQ and AWQ want: integers with whole zero points, 16-bit activations, scales that are float16 values. */
assay_status assay_check_plain_int(const char *module, const assay_matrix *m, const char *convention, assay_err *err);
/* MODULE.scales as [groups][rows] of float16. */
assay_status assay_put_scales_across(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err);
/* assay_ckpt_writer_add of MODULE+suffix. */
assay_status assay_put_part(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype dtype,
                            int n_dims, const int64_t *dims, const void *data, assay_err *err);
/* Codes as the I32 tensor MODULE+suffix. */
assay_status assay_put_packed(assay_ckpt_writer *w, const char *module, const char *suffix, const assay_packing *p, const uint8_t *codes,
                              assay_err *err);
/* n floats as a tensor of type t; U8 for powers of two. EUNSUPPORTED when one of them is no value of that
 * type. `what` names them in the error. */
assay_status assay_put_floats(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype t,
                              int n_dims, const int64_t *dims, const float *values, const char *what,
                              assay_err *err);
/* One positive float (an input's scale) of shape [1] in the type t, or in F32 where t cannot hold it. */
assay_status assay_put_scalar(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype t,
                              float value, assay_err *err);
/* Codes of `bits` as signed bytes, minus 2^(bits-1): owned by the caller, NULL when out of memory. */
int8_t *assay_signed_codes(const uint8_t *codes, int64_t n, int bits);

/* How a FLOAT matrix shares its scales. */
typedef enum assay_sharing {
    ASSAY_SHARING_TENSOR,  /* one for all */
    ASSAY_SHARING_CHANNEL, /* one a row */
    ASSAY_SHARING_GROUP,   /* one for some columns of a row */
    ASSAY_SHARING_BLOCK,   /* one for some columns of some rows */
    ASSAY_SHARING_ROWS     /* one for some whole rows: no convention has that */
} assay_sharing;
assay_sharing assay_matrix_sharing(const assay_matrix *m);

/* compressed-tensors: how a config group stores and computes. */
typedef struct assay_ct_scheme {
    int bits;
    bool is_float;
    bool symmetric;
    int64_t group_size; /* 0 = whole row */
    int64_t block_rows; /* rows that share scales, 0 = each its own */
    bool per_tensor;    /* one scale for all */
    bool tensor_group;  /* scales relative to one of the whole tensor (NVFP4) */
    int act_bits;       /* 8 or 16 */
    int64_t act_group;  /* columns of the input per scale, 0 = the whole token */
    bool static_input;  /* the input's scale is stored */
} assay_ct_scheme;
/* The scheme of the config group whose targets match module; ENOTFOUND when none does. */
assay_status assay_ct_scheme_find(assay_ct_scheme *out, const json_t *config, const char *module,
                                  assay_err *err);
/* The parts of a matrix of a float type (ct_float.c), for ct.c. */
assay_status assay_ct_get_float(assay_matrix *m, const assay_want *w, const assay_ct_scheme *scheme,
                                assay_err *err);
assay_status assay_ct_check_float(const char *module, const assay_matrix *m, assay_err *err);
assay_status assay_ct_put_float(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                                assay_err *err);
/* Whether a target ("Linear", a module's name, "re:pattern" as Python's re.match has it) names the module. */
assay_status assay_ct_match(bool *out, const char *target, const char *module, assay_err *err);

#endif
