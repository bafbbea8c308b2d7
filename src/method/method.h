/* method/method.h: a recipe applied to a checkpoint, from disk to disk.
 *
 * OUT_DIR receives model.safetensors (or shards with an index), config.json with quantization_config added,
 * the generation configuration, tokenizer, chat template and licence files of the source, and of its own:
 *   layers.jsonl   one line per quantized matrix: what it lost (assay_loss)
 *   assay.json     the manifest: recipe, hashes of recipe and source, program version, date, bits per weight
 * Matrices are read, encoded and written one at a time; with calibration a decoder layer at a time, whose inputs
 * lie in a file beside the output. So memory stays bounded by one matrix or layer. A run that was killed goes on where it was: only the matrix or layer in
 * work is redone, and the files come out byte for byte as from an undisturbed run, whatever the number of threads.
 * Only `seconds` and `date` in the two records differ. */
#ifndef ASSAY_METHOD_H
#define ASSAY_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/progress.h"
#include "base/status.h"
#include "format/format.h"
#include "method/recipe.h"

/* What one matrix lost. Relative errors are Frobenius norms: |W - W'| / |W|; 0 when W is all zero and so is
 * W'. */
typedef struct assay_loss {
    char name[160]; /* "model.layers.0.mlp.up_proj.weight" */
    int layer;      /* decoder layer, -1 outside */
    int64_t rows, cols;
    assay_choice choice;
    double weight_norm;  /* |W| */
    double weight_error; /* |W - W'| / |W| */
    double max_error;    /* max |w - w'| */
    double
        output_error; /* |XW^T - XW'^T| / |XW^T| on the calibration inputs X; negative when there were none */
    double bits_per_weight; /* everything stored for the matrix / its elements */
    int expert;     /* whose it is; -1 = no expert's */
    int64_t tokens; /* of an expert's matrix: calibration tokens that its router sent there; -1 = no expert's, or no calibration */
    double seconds;         /* of quantizing it; of a layer done as a whole, each matrix's share */
    char chosen[192];       /* parameters the method chose, the inside of a JSON object; "" = none */
} assay_loss;

/* Calibration sequences (method/calib.h makes them from text). All borrowed. */
typedef struct assay_calibration {
    const int32_t *ids;     /* the sequences one after another */
    const size_t *first;    /* [n_seqs + 1] where each begins; lengths from 1 to the model's context */
    size_t n_seqs;
    const char *hash;       /* of the ids, for the run's identity */
    const json_t *manifest; /* goes into assay.json as "calibration"; NULL = none */
} assay_calibration;

struct assay_quantize_result;

typedef struct assay_quantize_opts {
    int n_threads;                  /* 0 = all cores */
    const assay_progress *progress; /* in bytes of input; NULL = silent */
    bool dry_run;   /* only fill the sizes, memory and time; OUT_DIR is not touched and may be NULL */
    bool overwrite; /* replace what OUT_DIR holds; else another recipe's or model's output there is EUSAGE */
    uint64_t shard_bytes;    /* of an output file; 0 = 5 GB */
    const char *source_hash; /* assay_checkpoint_hash of the source when the caller has it; NULL = computed */
    const assay_calibration *calibration; /* NULL = none: methods that need it are refused, output errors unknown */
    const char *imatrix;  /* file of an importance matrix for method gguf; NULL = none: calibration gives one */
    bool original_inputs; /* calibration inputs of a layer come from the original layers before it, not the quantized ones */
    void (*on_loss)(void *ctx, const assay_loss *loss); /* after each matrix, from the calling thread; also
                                                           for those of a resumed run */
    void *on_loss_ctx;
    /* When every matrix is done and nothing stands under its name yet: losses and sizes of *res are final. */
    void (*before_commit)(void *ctx, const struct assay_quantize_result *res);
    void *before_commit_ctx;
} assay_quantize_opts;

#define ASSAY_N_WORST 10

typedef struct assay_quantize_result {
    bool research;               /* some matrix has fewer than 4 bits a code */
    size_t n_experts;            /* experts of all layers that were quantized by what calibration showed of their inputs; of these */
    size_t n_starved;            /* those that saw fewer tokens than their inputs have channels */
    size_t n_unseen;             /* those that saw none */
    int64_t least_tokens;        /* that a starved one saw, the matrix least_expert for one */
    char least_expert[160];
    size_t n_dead;               /* input channels that calibration never reached, of all matrices' inputs; 0 without */
    assay_convention convention; /* that the output is written in */
    uint64_t input_bytes;        /* of all tensors read */
    uint64_t output_bytes;       /* of the checkpoint's files (a dry run's is predicted, to about 0.1 %) */
    uint64_t memory_bytes;       /* working memory: predicted, without the mapped input */
    uint64_t peak_rss;           /* measured, of the process so far; 0 from a dry run */
    uint64_t activation_bytes;   /* of the files that hidden states lie in meanwhile; 0 without calibration */
    double seconds;              /* predicted by a dry run from a timed sample (the first decoder layer), else measured */
    double bytes_per_second;     /* of input, over the matrices done in this run */
    size_t n_tensors;
    size_t n_matrices;         /* quantized ones */
    size_t n_resumed;          /* of these, taken over from a killed run */
    bool reused;               /* OUT_DIR already held exactly this result */
    double bits_per_weight;    /* of the whole checkpoint: stored bits / elements of the source */
    double bits_per_quantized; /* of the quantized matrices alone */
    double weight_error;       /* of all quantized matrices together, as in assay_loss */
    char source_hash[65];
    char recipe_hash[65];
    assay_loss worst[ASSAY_N_WORST]; /* by weight_error (output_error where it exists), the worst first */
    size_t n_worst;
    char note[300]; /* what the output is without: a tokenizer that no tokenizer.json can be; "" = nothing */
} assay_quantize_result;

/* Quantizes MODEL_DIR by r into OUT_DIR (made when missing). o may be NULL. EUNSUPPORTED: the source is
 * quantized already, or no convention holds what the recipe asks for; EINPUT: NaN or infinity in a weight
 * (tensor, row, column), a group size that does not divide; EUSAGE: OUT_DIR holds something else; ENOSPC;
 * EINTR. After EINTR, ENOSPC or a kill the same call goes on. */
assay_status assay_quantize(assay_quantize_result *out, const char *model_dir, const char *out_dir,
                            const assay_recipe *r, const assay_quantize_opts *o, assay_err *err);

/* What to tell of experts that calibration hardly reached: one line with what to do; false when there is nothing to tell. */
bool assay_quantize_warning(char *text, size_t size, const assay_quantize_result *res);

/* layers.jsonl of an output directory, in the model's order; *losses is owned by the caller (assay_free). */
assay_status assay_losses_load(assay_loss **losses, size_t *n, const char *out_dir, assay_err *err);

#endif
