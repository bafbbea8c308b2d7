/* method/outdir.h: a checkpoint's folder in the making: whose it is, what was begun in it, what goes along with the weights. For
 * quantize, merge and convert, which all write a whole checkpoint, can be killed at any moment and go on. */
#ifndef ASSAY_METHOD_OUTDIR_H
#define ASSAY_METHOD_OUTDIR_H

#include <stdbool.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"

typedef struct assay_outdir {
    const char *dir;          /* borrowed */
    char key[ASSAY_HASH_HEX]; /* what the result follows from: program, sources, options */
    int lock;                 /* the key's file, locked; -1 = not open */
} assay_outdir;

/* Makes the folder. EUSAGE when it is the model's own. Begins no work: deinit only closes. */
assay_status assay_outdir_init(assay_outdir *d, const char *dir, const char *model_dir, assay_err *err);
void assay_outdir_deinit(assay_outdir *d); /* all-zero but lock = -1 is fine */
/* With d->key set. *done: the folder holds the finished result of that very key. Else what it holds is removed if `overwrite`, and is
 * EUSAGE if not. */
assay_status assay_outdir_claim(bool *done, const assay_outdir *d, bool overwrite, assay_err *err);
/* ENOSPC unless spool and result of so many bytes fit. */
assay_status assay_outdir_check_space(const assay_outdir *d, double output_bytes, assay_err *err);
/* Locks it for this process (EUSAGE when another works there) and discards a spool that was begun under another key. */
assay_status assay_outdir_begin(assay_outdir *d, assay_err *err);
/* After the commit: nothing but the result stays. *bytes (may be NULL): of its weights. */
assay_status assay_outdir_end(uint64_t *bytes, assay_outdir *d, assay_err *err);

/* Tokenizer, template, generation_config, licence: files that travel unchanged. config.json is the caller's. */
assay_status assay_outdir_copy_sidecars(const assay_outdir *d, const char *model_dir, assay_err *err);
/* After that, for a checkpoint in safetensors: when `model` is a GGUF file and no tokenizer.json lay beside it, the tokenizer of its metadata
 * as Hugging Face's files. One that is not supported is left out: `note` says why, else it is "". */
assay_status assay_outdir_unpack_tokenizer(char note[300], const assay_outdir *d, const char *model, assay_err *err);
/* assay.json, schema assay.checkpoint/1: what j says, with schema, program, build, date and key before it. Takes the reference; NULL is out
 * of memory. */
assay_status assay_outdir_put_manifest(const assay_outdir *d, json_t *j, assay_err *err);
/* The manifest of a folder; NULL when there is none that this program wrote. New reference. */
json_t *assay_outdir_get_manifest(const char *dir);

#endif
