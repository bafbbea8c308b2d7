/* study/spec.h: a study file as written: parsed and checked, nothing opened but the file itself. docs/studies.md has every key.
 *
 * Errors are EINPUT "FILE:LINE: ..." and name the nearest known key for a misspelled one; what this build cannot do (endpoints)
 * is EUNSUPPORTED with the line. */
#ifndef ASSAY_STUDY_SPEC_H
#define ASSAY_STUDY_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "backend/backend.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "gate/policy.h"
#include "method/calib.h"
#include "method/mixture.h"
#include "model/kv.h"
#include "plan/plan.h"

typedef enum assay_prefer { ASSAY_PREFER_SIZE, ASSAY_PREFER_COST } assay_prefer;

typedef struct assay_variant_spec {
    const char *name;
    assay_recipe *recipe;         /* owned; NULL for the baseline and for `path` */
    const char *path;             /* of a checkpoint that exists (the model's own, when only `kv` or `adapter` is set); NULL: it is made by the recipe */
    assay_act_mode activations;
    assay_kv_kind kv;             /* how keys and values are kept */
    const char *adapter;          /* a LoRA adapter's folder, resolved; NULL = none */
    const char *imatrix;          /* file of an importance matrix for method gguf, resolved; NULL = none */
    bool calibrates;              /* it is made with the study's calibration data */
    double target_bpw;            /* > 0: the recipe is a base, precisions are mixed to so many bits per weight */
    const char *mix;              /* precisions to mix; NULL = by the target */
    assay_sensitivity sensitivity;
    int line;
} assay_variant_spec;

typedef struct assay_study_spec {
    const char *name;
    const char *file;             /* as given */
    const char *model, *suite;    /* relative to the file's folder, resolved */
    assay_variant_spec baseline;  /* path: the model */
    assay_variant_spec *variants;
    size_t n_variants;
    assay_calib_spec calibration; /* data NULL: none */
    bool rerun;                   /* the baseline a second time, in batches of rerun_batch: the noise floor */
    int rerun_batch;
    assay_policy policy;
    assay_serving serving;
    assay_kv_format kv;
    const char *serving_runtime;  /* NULL: by device */
    const assay_device **devices; /* n_devices 0: none are planned for */
    size_t n_devices;
    const char *prices;           /* file; NULL: none */
    assay_prefer prefer;          /* which of the variants that pass is taken */
    bool allow_research;          /* also one with codes of fewer than four bits */
    json_t *source;               /* the file as JSON, for the record; owned */
    assay_arena arena;
} assay_study_spec;

assay_status assay_study_spec_load(assay_study_spec **out, const char *path, assay_err *err);
/* dir: what relative paths are relative to. */
assay_status assay_study_spec_parse(assay_study_spec **out, const char *text, size_t n, const char *name, const char *dir, assay_err *err);
void assay_study_spec_free(assay_study_spec *s);
/* Is the variant made with calibration data? */
bool assay_variant_calibrates(const assay_variant_spec *v);

/* "f32" "bf16"... as in the file: auto f32 bf16 f16 int8. NULL when it is none. */
const char *assay_act_mode_word(assay_act_mode m);
bool assay_act_mode_parse(assay_act_mode *out, const char *word);

#endif
