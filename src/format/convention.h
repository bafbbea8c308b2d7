/* format/convention.h: what the conventions offer to convention.c, and share. Not for other rooms.
 * `module` is a weight's name without ".weight". */
#ifndef ASSAY_FORMAT_CONVENTION_H
#define ASSAY_FORMAT_CONVENTION_H

#include "base/str.h"
#include "format/format.h"
#include "format/writer.h"

/* What is asked for: names for messages, the shape that is expected (0 = any), how unquantized weights are
 * computed with. */
typedef struct assay_want {
    const assay_checkpoint *checkpoint;
    const json_t *config;
    const char *module;
    int64_t rows, cols;
    assay_dtype dense_act;
} assay_want;

/* The tensor MODULE+suffix, or NULL; ENOTFOUND by the second. */
const assay_tensor *assay_want_find(const assay_want *w, const char *suffix);
assay_status assay_want_get(const assay_tensor **out, const assay_want *w, const char *suffix,
                            assay_err *err);
/* EINPUT unless rows and cols are what is wanted. */
assay_status assay_want_shape(const assay_want *w, int64_t rows, int64_t cols, assay_err *err);
/* EINPUT naming tensor, type and size unless t has that type and number of elements (-1 = any). */
assay_status assay_want_tensor(const assay_tensor *t, assay_dtype dtype, int64_t n, assay_err *err);

/* Whether the tensors that make a quantized matrix in the convention are there, and the matrix. */
bool assay_bnb_has(const assay_want *w);
assay_status assay_bnb_get(assay_matrix *out, const assay_want *w, assay_err *err);
bool assay_ct_has(const assay_want *w);
assay_status assay_ct_get(assay_matrix *out, const assay_want *w, assay_err *err);

/* Adds the tensors of a quantized matrix to the writer (not yet recorded). */
assay_status assay_bnb_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m,
                           assay_dtype model_dtype, assay_err *err);
assay_status assay_ct_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err);
/* assay_ckpt_writer_add of MODULE+suffix. */
assay_status assay_put_part(assay_ckpt_writer *w, const char *module, const char *suffix, assay_dtype dtype,
                            int n_dims, const int64_t *dims, const void *data, assay_err *err);
/* Symmetric codes of 8 bits as signed bytes: owned by the caller, NULL when out of memory. */
int8_t *assay_signed_codes(const uint8_t *codes, int64_t n);

/* compressed-tensors: how a config group stores and computes. */
typedef struct assay_ct_scheme {
    int bits;
    bool symmetric;
    int64_t group_size; /* 0 = whole row */
    bool per_tensor;    /* one scale for all */
    int act_bits;       /* 8 or 16 */
} assay_ct_scheme;
/* The scheme of the config group whose targets match module; ENOTFOUND when none does. */
assay_status assay_ct_scheme_find(assay_ct_scheme *out, const json_t *config, const char *module,
                                  assay_err *err);
/* Whether a target ("Linear", a module's name, "re:pattern" as Python's re.match has it) names the module. */
assay_status assay_ct_match(bool *out, const char *target, const char *module, assay_err *err);

#endif
