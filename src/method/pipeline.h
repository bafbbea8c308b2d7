/* method/pipeline.h: what the files of the streaming pipeline share. Inside the room only.
 *
 *   plan.c       config + checkpoint + recipe -> the list of steps, checked; sizes, memory, time
 *   qconfig.c    steps -> the quantization_config of config.json
 *   records.c    layers.jsonl, assay.json, and copying the files that go along
 *   pipeline.c   runs the steps from disk to disk, resumable */
#ifndef ASSAY_METHOD_PIPELINE_H
#define ASSAY_METHOD_PIPELINE_H

#include "base/json.h"
#include "format/format.h"
#include "method/method.h"
#include "method/methods.h"
#include "model/config.h"

/* One tensor of the source on its way to the output. */
typedef struct assay_step {
    const assay_tensor *tensor; /* mapped */
    int layer;                  /* decoder layer, -1 outside */
    bool is_linear;      /* a module that quantizers know as Linear: named in skip lists when it stays */
    assay_choice choice; /* method none: copied */
} assay_step;

typedef struct assay_steps {
    assay_step *v;
    size_t n, cap;
    assay_convention convention;
    assay_dtype model_dtype;
    bool tied; /* the head is the embedding */
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

/* {"method": ..., options}: canonical form of one choice. New reference; NULL when out of memory. */
json_t *assay_choice_to_json(const assay_choice *c);
assay_status assay_choice_from_json(assay_choice *out, const json_t *j, const char *where, assay_err *err);

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
assay_status assay_sidecars_write(const char *out_dir, const char *model_dir, const assay_steps *p,
                                  assay_err *err);
/* assay.json. key: what the result follows from (recipe, source, program). */
assay_status assay_manifest_write(const char *out_dir, const char *model_dir, const assay_recipe *r,
                                  const assay_quantize_result *res, const char *key, assay_err *err);
/* The key in a directory's assay.json, "" when there is none or it is no manifest; with it, the total loss
 * into out. */
void assay_manifest_read(char key[65], assay_quantize_result *out, const char *out_dir);

#endif
