/* method/pipeline.h: what the files of the streaming pipeline share. Inside the room only.
 *
 *   plan.c       config + checkpoint + recipe -> the list of steps, checked; sizes, memory, time
 *   qconfig.c    steps -> the quantization_config of config.json
 *   records.c    layers.jsonl, assay.json, and copying the files that go along
 *   pipeline.c   runs the steps from disk to disk, resumable
 *   layered.c    decoder layers as wholes, with their calibration inputs */
#ifndef ASSAY_METHOD_PIPELINE_H
#define ASSAY_METHOD_PIPELINE_H

#include <stdio.h>
#include "base/hash.h"
#include "base/json.h"
#include "format/format.h"
#include "format/imatrix.h"
#include "method/method.h"
#include "method/outdir.h"
#include "method/choice.h"
#include "model/config.h"

/* One tensor of the source on its way to the output. */
typedef struct assay_step {
    const assay_tensor *tensor; /* mapped */
    int layer;                  /* decoder layer, -1 outside */
    assay_tensor_role role;     /* ASSAY_ROLE_COUNT: nothing that the architecture knows */
    int expert;          /* -1: of none */
    bool is_linear;      /* a module that quantizers know as Linear: named in skip lists when it stays */
    assay_choice choice; /* method none: copied */
} assay_step;

typedef struct assay_steps {
    assay_step *v;
    size_t n, cap;
    assay_convention convention;
    assay_dtype model_dtype;
    assay_mix mix;      /* of a GGUF file; PURE: none */
    double head_bytes;  /* of what a GGUF file has before its tensors */
    bool has_importance;
    bool tied;          /* the head is the embedding */
    assay_tensor *head; /* of a head that was untied: owned; its elements are the embedding's */
    const assay_config *config; /* borrowed */
    bool rotated, rotated_online; /* online: the runtime rotates the down projections' inputs */
} assay_steps;

/* Every tensor of the checkpoint, decoder layers in order, with what the recipe does to it. Errors as
 * assay_quantize's. The steps borrow from c. */
assay_status assay_steps_plan(assay_steps *out, const assay_config *config, const assay_checkpoint *c,
                              const assay_recipe *r, assay_err *err);
void assay_steps_deinit(assay_steps *p);
/* Fills sizes and memory, and when `timed` seconds, from a sample of each kind of choice. */
assay_status assay_steps_estimate(assay_quantize_result *out, const assay_steps *p, int n_threads, bool timed,
                                  assay_err *err);
/* Bytes that a step's tensor becomes on disk, to within its share of the file's header. */
double assay_step_bytes(const assay_step *s, const assay_steps *p);

/* The quantization_config for config.json: a new reference, NULL when nothing is quantized. */
assay_status assay_quantization_config(json_t **out, const assay_steps *p, assay_err *err);

/* --- records.c --- */

/* Loss records. */
typedef struct assay_losses {
    assay_loss *v;
    size_t n, cap;
} assay_losses;
assay_status assay_losses_put(assay_losses *l, const assay_loss *loss, assay_err *err);
/* The last record of that name, or NULL. */
const assay_loss *assay_losses_find(const assay_losses *l, const char *name);
void assay_losses_deinit(assay_losses *l);
/* Reads a file of records. `partial`: a file that a killed run may have left; absent is empty, and what
 * follows a broken line is left out. */
assay_status assay_losses_read(assay_losses *out, const char *path, bool partial, assay_err *err);
/* Appends one record's line. */
assay_status assay_loss_print(assay_str *out, const assay_loss *loss, assay_err *err);
assay_status assay_losses_save(const char *dir, const assay_losses *l, assay_err *err);

/* config.json with quantization_config, and the files that go along unchanged. */
assay_status assay_sidecars_write(char note[300], const assay_outdir *out, const char *model_dir, const json_t *config, const assay_steps *p,
                                  assay_err *err);
/* assay.json. calibration, imatrix: NULL = none. */
assay_status assay_manifest_write(const assay_outdir *out, const char *model_dir, const assay_recipe *r,
                                  const assay_quantize_result *res, const json_t *calibration, const assay_imatrix_info *imatrix,
                                  assay_err *err);
/* The total loss that a directory's assay.json tells; *out stays when it tells none. */
void assay_manifest_loss(double *out, const char *dir);

/* --- a run --- */

typedef struct assay_run {
    const char *model_dir, *out_dir;
    const assay_recipe *recipe;
    const assay_quantize_opts *o;
    const assay_calibration *calibration; /* NULL = none */
    assay_quantize_result *res;
    assay_config config;
    assay_checkpoint *source;
    assay_steps steps;
    assay_ckpt_writer *writer;
    assay_losses before; /* of a killed run */
    assay_losses losses; /* of this one, in the order of steps */
    FILE *journal;       /* of losses */
    assay_outdir out;    /* its key: recipe, source, program and shard size */
    int n_threads;
    double error2, weight2; /* over all quantized matrices */
    int expert_layer, expert; /* whose loss was recorded last, of experts' */
    double done_bytes, worked_bytes, worked_seconds;
    double synced_at;
    struct assay_layer_bench *bench;
    struct assay_rotator *rotator; /* NULL = no rotation */
    int32_t *lengths;              /* of the calibration sequences */
    size_t n_tokens;               /* of them all */
    json_t *config_json;           /* the output's config.json but for quantization_config; owned */
    struct assay_gguf_head *head;  /* GGUF: its metadata; NULL otherwise. Owned */
    struct assay_imatrix *imatrix; /* from a file; NULL = none. Owned */
    assay_imatrix_info imatrix_info;
    bool weighs;                   /* the layers are to say what their inputs' columns weigh */
    bool original_inputs;          /* layers are calibrated on what the original ones before them give */
    bool keep_reference;           /* some method wants the original layers' hidden states too */
} assay_run;

/* --- fuse.c --- */

/* Fills fused_absmax of a layer's items from their present weights. */
assay_status assay_fuse_items(assay_item *items, size_t n_items, assay_err *err);
/* The same for one step of a run without calibration, from the source's tensors, rotated where the run rotates. */
assay_status assay_fuse_step(float *absmax, const assay_run *r, const assay_step *step, assay_err *err);

/* --- pipeline.c and layered.c --- */

/* Opens model and recipe and plans the steps; checks the calibration. deinit: half-prepared is fine. */
assay_status assay_run_prepare(assay_run *r, assay_err *err);
void assay_run_deinit(assay_run *r);
/* Weights of a step's columns from the importance matrix that was given, owned by the caller; NULL when there is none for it. */
assay_status assay_run_weights(float **out, const assay_run *r, const assay_step *step, assay_err *err);
/* Is the step's result in the spool, with its loss when it is quantized? */
bool assay_run_has(const assay_run *r, const assay_step *step);
/* Takes a finished matrix's loss over from a killed run. */
assay_status assay_run_take_over(assay_run *r, const assay_step *step, assay_err *err);
/* Notes a loss in the journal: before the matrix goes into the spool. */
assay_status assay_run_note(assay_run *r, const assay_loss *l, assay_err *err);
/* Counts it and tells the caller: after. */
assay_status assay_run_count(assay_run *r, const assay_loss *l, assay_err *err);
/* Measures item->out: fills everything of *l but seconds and journals nothing. */
assay_status assay_run_measure(assay_run *r, assay_loss *l, const assay_step *step, const assay_item *item, assay_err *err);
/* Puts the encoded matrix, or the item's own weights, or the tensor as it is, into the spool, if it is not there. */
assay_status assay_run_put(assay_run *r, const assay_step *step, const assay_item *item, assay_err *err);
/* After n steps that were done together: progress, pages let go, now and then a sync. */
assay_status assay_run_steps_done(assay_run *r, const assay_step *steps, size_t n, assay_err *err);

/* The hidden states before layer 0: embedded calibration tokens. encoded: the embedding's matrix when it is quantized, else NULL. */
assay_status assay_layered_begin(assay_run *r, const assay_item *embedding, assay_err *err);
/* Steps [first, first + n) are decoder layer `layer`: quantizes it whole, writes it and the next layer's inputs. */
assay_status assay_layered_work(assay_run *r, size_t first, size_t n, int layer, assay_err *err);
/* Decoder layer `layer` run as it is: the sums of its inputs' squares go to the file of activations 'i' (importance.h), its outputs to the
 * next layer's inputs. Nothing when they are there already. */
assay_status assay_layered_weigh(assay_run *r, size_t first, size_t n, int layer, assay_err *err);
/* What a whole run takes, from working on the first decoder layer with a few tokens: seconds and memory of `out`. */
assay_status assay_layered_estimate(assay_quantize_result *out, assay_run *r, assay_err *err);

#endif
