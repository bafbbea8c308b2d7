/* method/convert_impl.h: what the files of a conversion share. Inside the room only.
 *
 *   convert_plan.c   the target by its name; which tensor becomes what, and whether it fits
 *   convert.c        from disk to disk */
#ifndef ASSAY_METHOD_CONVERT_IMPL_H
#define ASSAY_METHOD_CONVERT_IMPL_H

#include <stdio.h>
#include "base/mem.h"
#include "base/str.h"
#include "format/gguf.h"
#include "method/convert.h"
#include "method/gguf_head.h"
#include "method/outdir.h"
#include "method/recode.h"

typedef enum convert_action { CONVERT_COPY, CONVERT_CARRY, CONVERT_DECODE, CONVERT_ROUND } convert_action;

typedef struct convert_step {
    convert_action action;
    const assay_tensor *tensor; /* COPY: it; else the first of a matrix's tensors */
    const char *name;           /* of the tensor, or the matrix's with ".weight" */
    const assay_tensor **parts; /* [n_parts] it, or all of the matrix's; in convert_run's */
    size_t n_parts;
} convert_step;

typedef struct convert_loss { /* of a decoded or rounded matrix */
    const char *name;
    assay_recode_loss loss;
} convert_loss;

typedef struct convert_run {
    const char *model;
    const assay_convert_opts *o;
    assay_convert_result *res;
    assay_checkpoint *source;
    json_t *config;         /* config.json's object */
    const json_t *quant;    /* its quantization_config, NULL when there is none */
    json_t *new_quant;
    assay_convention from;
    assay_convert_target target;
    assay_dtype dtype;      /* of what is decoded */
    assay_grid_spec spec;   /* of what is rounded anew; precision F32 when nothing can be */
    bool round_plain;       /* plain matrices of decoder layers are rounded, too */
    convert_step *steps;
    size_t n_steps, cap_steps;
    const assay_tensor **parts; /* of all steps */
    size_t n_matrices;
    assay_arena names;
    convert_loss *losses;
    size_t n_losses, cap_losses;
    FILE *journal;          /* of losses */
    assay_outdir out;
    assay_ckpt_writer *writer;
    int n_threads;
    double synced_at;
} convert_run;

/* --- convert_plan.c --- */
/* Fills target, dtype and spec from the options; needs config and source. */
assay_status convert_target_parse(convert_run *r, assay_err *err);
/* Fills steps and new_quant. EUNSUPPORTED names the first matrix that does not fit, why, and where it would. */
assay_status convert_plan(convert_run *r, assay_err *err);
/* What a matrix becomes that is rounded anew. */
assay_quant_entry convert_rounded_entry(const convert_run *r, const char *name);

#endif
