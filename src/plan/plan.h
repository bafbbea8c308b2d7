/* plan/plan.h: deployment math: does it fit, how fast, at what cost, from config.json and a recipe alone,
 * without weights.
 *
 * Three questions in the order in which they are asked:
 *   sizes    what the weights take, tensor by tensor as they are stored: codes, scales, zero points, metadata
 *   memory   weights + KV cache + activations + runtime overhead on a device, and what context and
 * concurrency that leaves speed    roofline of prefill (TTFT) and decode (TPOT) at stated efficiencies, and
 * from it the cost per million tokens
 *
 * Everything that is assumed is a field here with its default, and is repeated in the result. Figures that
 * nobody published are unknown (NaN in a result, "unknown" in a rendering), never guessed. Bytes are exact
 * integers held in doubles (< 2^53). Formulas with their sources: docs/plan.md. Text, Markdown and HTML
 * renderings of a plan are in the report room. */
#ifndef ASSAY_PLAN_H
#define ASSAY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "model/config.h"
#include "num/dtype.h"
#include "precision/precision.h"

/* --- how a tensor is stored --- */

typedef struct assay_storage {
    assay_precision precision;
    int64_t group_size; /* INT: columns per scale, 0 = whole row; CODEBOOK: elements per block, 0 = 64; DENSE:
                           ignored */
    bool asymmetric;    /* INT: a zero point of the code's width beside each scale */
    bool real_zeros;    /* INT: a zero point of the scale's type beside each scale (HQQ) */
    int64_t row_block;  /* FP8: rows that share scales, 0 or 1 = each its own; MXFP4 and NVFP4 have their own groups */
    bool double_quant;  /* CODEBOOK: block scales as 8-bit codes in blocks of 256 (QLoRA) */
    assay_dtype scale_dtype; /* INT: F16, BF16 or F32; FP8: the same, 0 = F32; CODEBOOK scales are always F32; 0 (F64) = F16 */
    int act_bits;            /* what it is computed with: 8 (W8A8, LLM.int8()) or 16; 0 = 16 */
    double meta_bytes; /* per matrix, what the format adds besides (shape tensors, quant_state); 16 for INT's
                          shape, the maps for CODEBOOK */
} assay_storage;

/* "bf16", "int8", "int4g128", "int4g128a" (a: asymmetric), "nf4", "nf4dq", "fp4b128" (block), "llm_int8" (per
 * row, F32 scales, 8-bit activations). EINPUT names the word. */
assay_status assay_storage_parse(assay_storage *out, const char *name, assay_err *err);
/* The name that parses to it ("int4g128a"); buf at least 32 bytes. Returns buf. */
char *assay_storage_name(char *buf, size_t n, const assay_storage *s);
/* Bytes of one rows x cols tensor stored so. Any output may be NULL. */
void assay_storage_bytes(double *codes, double *scales, double *zeros, const assay_storage *s, int64_t rows,
                         int64_t cols);

/* Asked for every tensor of the model; *out comes preset to the checkpoint's own dtype, so leaving it is "not
 * quantized". Whoever knows recipes (study, CLI) supplies one. */
typedef assay_status (*assay_storage_fn)(void *ctx, assay_storage *out, const assay_tensor_spec *spec,
                                         assay_err *err);
/* The plain case: ctx is a const assay_storage *, applied to the decoder layers' matrices, everything else as
 * it was. */
assay_status assay_storage_uniform(void *ctx, assay_storage *out, const assay_tensor_spec *spec,
                                   assay_err *err);

/* --- sizes --- */

typedef enum assay_part {
    ASSAY_PART_LINEAR,
    ASSAY_PART_EMBEDDING,
    ASSAY_PART_HEAD,
    ASSAY_PART_VECTORS,
    ASSAY_PART_COUNT
} assay_part;
const char *assay_part_name(assay_part p); /* "decoder matrices", "embedding", "head", "norms and biases" */

typedef struct assay_size_line { /* all tensors of one part stored the same way */
    assay_part part;
    assay_storage storage;
    int64_t tensors, params;
    double codes, scales, zeros, meta; /* bytes */
} assay_size_line;

#define ASSAY_SIZE_LINES 64
typedef struct assay_sizes {
    assay_size_line lines[ASSAY_SIZE_LINES];
    int n_lines;
    int64_t params;                           /* tied matrices counted once */
    double codes, scales, zeros, meta, total; /* bytes */
    double nominal_params;                    /* params cut to two digits, as the model's name has it: 70e9 */
    int raw_bits; /* of a code of the decoder matrices: the bits most of them have */
    double raw_nominal,
        raw_all;    /* bytes: nominal_params, params at raw_bits and nothing else (what calculators count) */
    double raw_bpw; /* codes * 8 / params */
    double effective_bpw; /* total * 8 / params */
    double linear_bpw;    /* decoder matrices alone, with scales and all */
    double
        read_per_token; /* bytes of weights that one decode step reads (all but the embedding's other rows) */
    double macs_per_token;   /* multiply-adds with weights in decoder matrices and head: 2x this are the
                                operations */
    double macs_act8;        /* of which with 8-bit activations */
    double checkpoint_bytes; /* measured size of the files, when the caller gave it; else 0 */
} assay_sizes;

/* fn NULL: everything in the checkpoint's dtype. A config's own quantization_config is the caller's to turn
 * into fn. */
assay_status assay_sizes_compute(assay_sizes *out, const assay_config *c, assay_storage_fn fn, void *ctx,
                                 assay_err *err);

/* --- KV cache --- */

typedef enum assay_kv_format {
#define X(NAME, name, runtime, bits, scale_bytes, block, key_bytes, page_bytes, recent, note) ASSAY_KV_FORMAT_##NAME,
#include "plan/kv.def"
#undef X
    ASSAY_KV_FORMAT_COUNT
} assay_kv_format;
const char *assay_kv_name(assay_kv_format k);
bool assay_kv_parse(assay_kv_format *out, const char *name);
/* How a runtime of that id (NULL: none in particular) keeps what k names: k, or its own layout of the same name. */
assay_kv_format assay_kv_of_runtime(assay_kv_format k, const char *runtime);
/* Bytes that one token takes in one layer, scales included: K and V of all KV heads, or the latent that is both. */
double assay_kv_token_layer_bytes(const assay_config *c, assay_kv_format k);
/* Bytes of one sequence of `context` tokens: full layers hold all of it, sliding layers min(context, window -
 * 1 + chunk), each rounded up to whole blocks of `block` tokens (block 1 and chunk 1: no rounding, one token
 * at a time), and what the format keeps in 16 bits of the newest tokens. */
double assay_kv_sequence_bytes(const assay_config *c, assay_kv_format k, int64_t context, int64_t block,
                               int64_t chunk);

/* --- devices --- */

/* A published figure; NaN when nobody published it. `source` is a code of plan/sources.def. */
typedef struct assay_figure {
    double value;
    const char *source;
} assay_figure;

typedef struct assay_device {
    const char *id;      /* "h100-sxm" */
    const char *name;    /* "NVIDIA H100 SXM5 80 GB" */
    const char *kind;    /* "gpu", "apu", "apple" (unified memory), "cpu"; only "gpu" is used in parallel */
    assay_figure memory; /* bytes: marketed gigabytes as 1e9, which errs by up to 7 % on the safe side */
    assay_figure bandwidth; /* bytes per second */
    assay_figure
        f16; /* dense 16-bit tensor operations per second, float32 accumulation where the source tells */
    assay_figure int8; /* dense, operations per second */
    assay_figure fp8;
} assay_device;
const assay_device *assay_devices(size_t *n); /* the table, in its order */
assay_status assay_device_find(const assay_device **out, const char *id,
                               assay_err *err); /* ENOTFOUND with the nearest id */

typedef struct assay_source {
    const char *code;  /* "nv-h100" */
    const char *title; /* "NVIDIA H100 datasheet" */
    const char *url;
    const char *date;  /* when it was read, or the document's own date */
    const char *grade; /* "primary", "secondary", "derived" */
} assay_source;
const assay_source *assay_sources(size_t *n);
const assay_source *assay_source_find(const char *code); /* NULL when there is none */

/* --- runtimes --- */

typedef struct assay_runtime_profile {
    const char *id;     /* "native", "vllm", "llama.cpp" ... */
    double utilization; /* share of the device's memory that it may use */
    double fixed;       /* bytes: contexts, kernels, graphs */
    int64_t kv_block;   /* tokens per KV block */
    int64_t chunk;      /* tokens per prefill step: rows of the activations */
    int act_bytes;      /* of one activation: 2 or 4 */
    bool full_logits;   /* room for logits of every token of a prefill step, not of the last ones alone */
    bool frees_windows; /* keys and values that a window has left make room */
    const char *source;
} assay_runtime_profile;
const assay_runtime_profile *assay_runtime_profiles(size_t *n);
assay_status assay_runtime_profile_find(const assay_runtime_profile **out, const char *id, assay_err *err);

/* --- prices --- */

typedef struct assay_price {
    const char *device;                 /* id of the device table */
    double per_hour;                    /* per device */
    const char *currency;               /* "USD" */
    const char *date;                   /* "2026-05-20"; never empty */
    const char *source, *region, *tier; /* "" when the file does not say */
    int line;
} assay_price;
typedef struct assay_prices assay_prices;
/* docs/plan.md describes the YAML. A price without date, device or amount, a date that is none: EINPUT with
 * its line. */
assay_status assay_prices_load(assay_prices **out, const char *path, assay_err *err);
assay_status assay_prices_parse(assay_prices **out, const char *text, size_t n, const char *name,
                                assay_err *err);
/* The latest price of a device, or NULL. Borrowed until free. */
const assay_price *assay_prices_find(const assay_prices *p, const char *device);
void assay_prices_free(assay_prices *p);

/* --- the plan --- */

typedef struct assay_serving {
    int64_t context;     /* tokens a sequence may reach; 0 = prompt + output */
    int64_t concurrency; /* sequences at once; 0 = 1 */
    int64_t prompt;      /* tokens of a typical prompt; 0 = 1500 (or what the context allows) */
    int64_t output;      /* tokens of a typical answer; 0 = 300 (or what the context allows) */
} assay_serving;

typedef struct assay_plan_opts {
    assay_serving serving;
    assay_kv_format kv;                 /* 0 = f16 */
    const char *runtime;                /* NULL = "vllm" for GPUs, "native" for CPUs and Apple */
    const assay_device *const *devices; /* NULL = the whole table */
    size_t n_devices;
    const assay_prices *prices; /* NULL = no cost */
    double checkpoint_bytes;    /* > 0: weights as measured instead of computed */
    double eta_memory;          /* share of the bandwidth that decode reaches; 0 = 0.70 */
    double eta_compute;         /* share of the tensor peak that prefill reaches; 0 = 0.50 */
    double eta_parallel;        /* efficiency of tensor parallelism per doubling; 0 = 0.85 */
    double launch_seconds;      /* fixed time per layer and step on a GPU; negative = none; 0 = 10 us */
    double utilisation;         /* share of the paid hours that serve at this rate, for the cost; 0 = 0.5 */
    double memory_utilization;  /* replaces the profile's; 0 = the profile's */
    int max_parallel;           /* most devices in tensor parallel; 0 = 8 */
} assay_plan_opts;

/* UNKNOWN: the compute rate of the device is not known, so the time is that of the bandwidth and a lower
 * bound. */
typedef enum assay_bound { ASSAY_BOUND_UNKNOWN, ASSAY_BOUND_BANDWIDTH, ASSAY_BOUND_COMPUTE } assay_bound;
const char *assay_bound_name(assay_bound b); /* "unknown" "bandwidth" "compute" */

typedef struct assay_fit { /* one device of the plan; bytes are per device */
    const assay_device *device;
    const assay_runtime_profile *runtime;
    bool fits;      /* with n_parallel devices, at the serving block's context and concurrency */
    int n_parallel; /* devices in tensor parallel that it takes; when it does not fit, the most that were
                       tried */
    double budget;  /* memory * utilization; NaN when the device's memory is not known (then fits is false) */
    double weights, kv, activations, overhead; /* kv: all sequences of the serving block */
    double left;                               /* budget - the four; negative when it does not fit */
    int64_t max_context;     /* at the asked concurrency; bounded by max_position_embeddings; 0 = none */
    int64_t max_concurrency; /* at the asked context */
    double ttft, tpot;       /* seconds; NaN when a figure that it needs is unknown or it does not fit */
    assay_bound ttft_bound, tpot_bound;
    double output_rate; /* output tokens per second of all sequences, sustained over prefill and decode */
    double cost_output; /* per million output tokens, prompts included in the price; NaN without a price */
    double cost_total;  /* per million prompt and output tokens together */
    const assay_price *price; /* borrowed from the prices; NULL without */
} assay_fit;

typedef struct assay_plan {
    assay_sizes sizes;
    assay_plan_opts opts;   /* as used: every default filled in; pointers borrowed from the caller */
    double kv_per_token;    /* bytes, all layers, no window */
    double kv_per_sequence; /* bytes at the serving context */
    int64_t max_position_embeddings;
    assay_fit *fits; /* owned; in the order of opts.devices */
    size_t n_fits;
    char model[128];            /* "llama, 32 layers, 8.03 B parameters": for headings */
    const assay_config *config; /* borrowed: must outlive the plan's use by assay_plan_memory_at */
} assay_plan;

/* EINPUT when the serving block contradicts itself or the model (context beyond max_position_embeddings).
 * Deinit in any case. */
assay_status assay_plan_make(assay_plan *out, const assay_config *c, assay_storage_fn fn, void *ctx,
                             const assay_plan_opts *o, assay_err *err);
void assay_plan_deinit(assay_plan *p);
/* Bytes per device that `concurrency` sequences of `context` tokens take on fit f with all else: the memory
 * curve. */
double assay_plan_memory_at(const assay_plan *p, const assay_fit *f, int64_t context, int64_t concurrency);
/* {"schema": "assay.plan/1", sizes, kv, assumptions, devices[], sources{}}: every figure with its source. New
 * reference. */
assay_status assay_plan_to_json(json_t **out, const assay_plan *p, assay_err *err);

#endif
