/* assay/assay.h: the public API. What does not appear in include/assay is not API.
 *
 * Each question that assay answers is one function that takes paths and options and gives an assay_doc: the
 * answer as text for people, as JSON for programs, and as an exit code. Besides that there is a session, for
 * generating text. Nothing here prints or exits.
 *
 * Ownership: what a function gives through its first parameter is the caller's and has a free or close
 * function; strings inside it are borrowed until then. Options are all-zero for their defaults; strings in
 * them are borrowed for the call. `err` may be NULL. Threads: a handle is used by one thread at a time;
 * different handles are independent. */
#ifndef ASSAY_H
#define ASSAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "assay/progress.h"
#include "assay/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- about this build --- */
ASSAY_API const char *assay_version(void);
/* {"version", "build", "cpu", "kernels", ...}; borrowed, valid for ever. */
ASSAY_API const char *assay_build_info_json(void);

/* No call uses more threads from now on, whatever its options say; 0 = no limit. Of the process. */
ASSAY_API void assay_set_threads(int most);

/* --- small helpers that a program around the library needs --- */
/* The word of the list that `word` was probably meant to be, or NULL. */
ASSAY_API const char *assay_suggest(const char *word, const char *const *list, size_t n);
/* "1.5 GiB" and "1 min 05 s" into buf (24 bytes suffice); return buf. */
ASSAY_API char *assay_show_bytes(char *buf, size_t n, double bytes);
ASSAY_API char *assay_show_seconds(char *buf, size_t n, double seconds);

/* --- how text is laid out --- */
typedef struct assay_view {
    int width; /* columns; 0 = 100 */
    bool colour;
    bool ascii; /* no symbols beyond ASCII */
} assay_view;
/* What the terminal behind a file descriptor can show (width, NO_COLOR, TERM, locale). */
ASSAY_API assay_view assay_view_detect(int fd);

/* --- an answer --- */
typedef struct assay_doc assay_doc;
ASSAY_API const char *assay_doc_text(const assay_doc *d); /* never NULL */
ASSAY_API const char *assay_doc_json(const assay_doc *d); /* one object with "schema" */
ASSAY_API int assay_doc_exit_code(const assay_doc *d);    /* 0 yes, 1 no, 6 inconclusive */
ASSAY_API void assay_doc_free(assay_doc *d);              /* NULL is fine */

/* --- inspect: what a checkpoint is --- */
typedef struct assay_inspect_opts {
    bool tensors; /* list every tensor */
    bool hash;    /* compute the checkpoint's hash (reads it all) */
    bool runtimes; /* which runtimes compute with it how, by rules with source and date */
    assay_view view;
} assay_inspect_opts;
ASSAY_API assay_status assay_inspect(assay_doc **out, const char *model, const assay_inspect_opts *o,
                                     assay_err *err);

/* --- quantize: one recipe, one variant, and what each matrix lost --- */
typedef struct assay_quantize_request {
    const char *recipe;      /* one line: "rtn,int4,group_size=128"; or */
    const char *recipe_file; /* a YAML file */
    const char *calibration; /* "FILE" or "FILE,samples=64,length=512"; NULL = none */
    const char *imatrix;     /* method gguf: file of an importance matrix, llama.cpp's; NULL = by calibration, or none */
    double target_bpw;       /* > 0: a mixture of precisions with so many stored bits per weight; or */
    double target_gb;        /* > 0: one whose checkpoint has so many GB (10^9 bytes) */
    const char *fit;         /* a device of the plan's table: the largest checkpoint that it serves; or NULL. With it: */
    int64_t context, concurrency; /* 0 = the plan's defaults */
    const char *kv;               /* KV cache: f16 int8 ...; NULL = f16 */
    const char *mix;         /* precisions to mix: "int3g128 int4g128 int8g128 bf16"; NULL = a list by the target */
    const char *sensitivity; /* auto kl fisher; NULL = auto */
    void (*on_notice)(void *ctx, const char *text); /* one line that should be read before the files appear; NULL = none */
    void *notice_ctx;
    bool original_inputs;    /* calibrate each layer on what the original layers give, not the quantized ones */
    int threads;             /* 0 = all cores */
    bool dry_run;            /* sizes, memory and time only; out may be NULL */
    bool overwrite;
    uint64_t shard_bytes; /* 0 = 5 GB */
    int worst;            /* matrices to list; 0 = 10 */
    const assay_progress *progress;
    assay_view view;
} assay_quantize_request;
ASSAY_API assay_status assay_quantize_model(assay_doc **out, const char *model, const char *out_dir,
                                            const assay_quantize_request *o, assay_err *err);

/* --- imatrix: what the columns of each matrix weigh, for quantizing to GGUF --- */
typedef struct assay_imatrix_request {
    const char *calibration; /* "FILE" or "FILE,samples=64,length=512" */
    int threads;             /* 0 = all cores */
    const assay_progress *progress;
} assay_imatrix_request;
/* Writes FILE, which llama.cpp reads too. A killed call goes on where it was. */
ASSAY_API assay_status assay_imatrix_model(assay_doc **out, const char *model, const char *file, const assay_imatrix_request *o,
                                           assay_err *err);

/* --- convert: another format, the same codes --- */
typedef struct assay_convert_request {
    const char *to;      /* gptq gptq_v2 awq compressed-tensors gguf bnb fp8 hqq hf, with a type where one is meant: "gguf:q4_0" */
    const char *dtype;   /* hf: f32 f16 bf16; NULL = the model's */
    int64_t group_size;  /* integers: cut or join groups to so many columns where that is exact; 0 = as they are */
    bool requantize;     /* matrices that do not fit are decoded and rounded to nearest anew */
    bool overwrite;
    bool dry_run;        /* only say whether it is exact; out_dir may be NULL */
    uint64_t shard_bytes; /* 0 = 5 GB */
    int threads;          /* 0 = all cores */
    void (*on_notice)(void *ctx, const char *text); /* one line that should be read before the files appear; NULL = none */
    void *notice_ctx;
    const assay_progress *progress;
    assay_view view;
} assay_convert_request;
/* EUNSUPPORTED (exit code 4) when a matrix does not fit: the message names it, the reason, and the targets that fit. */
ASSAY_API assay_status assay_convert_model(assay_doc **out, const char *model, const char *out_dir,
                                           const assay_convert_request *o, assay_err *err);

/* --- merge: a LoRA adapter folded into its base --- */
typedef struct assay_merge_request {
    int threads; /* 0 = all cores */
    bool overwrite;
    uint64_t shard_bytes; /* 0 = 5 GB */
    const assay_progress *progress;
} assay_merge_request;
/* adapter: a folder as peft saves it. */
ASSAY_API assay_status assay_merge_adapter(assay_doc **out, const char *model, const char *adapter, const char *out_dir,
                                           const assay_merge_request *o, assay_err *err);

/* --- how a model is run: shared by everything that runs one --- */
typedef struct assay_run_opts {
    int threads;             /* 0 = all cores */
    const char *activations; /* auto f32 bf16 f16 int8; NULL = auto: what the format's home does */
    int batch;               /* sequences at once; 0 = 32 */
    size_t context;          /* 0 = the model's */
    const char *kv;          /* keys and values: auto f32 bf16 f16 int8 fp8 int4; NULL = auto: as the model computes */
    const char *adapter;     /* a folder as peft saves it: added at run time, whatever the base's precision; NULL = none */
} assay_run_opts;

/* --- a session: generating text --- */
typedef struct assay_session assay_session;
ASSAY_API assay_status assay_session_open(assay_session **out, const char *model, const assay_run_opts *o,
                                          assay_err *err);
ASSAY_API void assay_session_close(assay_session *s);
ASSAY_API bool assay_session_has_template(const assay_session *s);
/* Words for people about model and kernels; borrowed. */
ASSAY_API const char *assay_session_describe(const assay_session *s);

typedef struct assay_generate_opts {
    int max_tokens;     /* 0 = until the context is full */
    double temperature; /* 0 = greedy */
    double top_p;       /* 0 or 1 = off */
    int top_k;          /* 0 = off */
    uint64_t seed;
    const char *const *stop; /* stop strings */
    int n_stop;
    bool raw;           /* the prompt as it is: no chat template */
    const char *system; /* system message put before a plain prompt; NULL = none */
    int (*on_text)(void *ctx, const char *text, size_t n); /* text as it comes; non-zero stops */
    void *ctx;
} assay_generate_opts;
typedef struct assay_answer {
    char *text;       /* owned: assay_answer_free */
    const char *stop; /* "eos" "stop" "length" "context" */
    size_t prompt_tokens, output_tokens;
    double prompt_seconds, output_seconds;
} assay_answer;
/* One prompt (a user message when the model has a chat template and raw is not set). */
ASSAY_API assay_status assay_session_ask(assay_answer *out, assay_session *s, const char *prompt,
                                         const assay_generate_opts *o, assay_err *err);
/* A conversation: messages_json is an array of {"role", "content"}; needs a chat template. */
ASSAY_API assay_status assay_session_chat(assay_answer *out, assay_session *s, const char *messages_json,
                                          const assay_generate_opts *o, assay_err *err);
ASSAY_API void assay_answer_free(assay_answer *a);

/* --- compare: two models' answers side by side --- */
typedef struct assay_compare_opts {
    const char *const *prompts;
    size_t n_prompts;
    assay_generate_opts generate;
    assay_run_opts run;
    const assay_progress *progress;
    assay_view view;
} assay_compare_opts;
ASSAY_API assay_status assay_compare(assay_doc **out, const char *model_a, const char *model_b,
                                     const assay_compare_opts *o, assay_err *err);

/* --- eval: a suite on a model; the scorecard is kept in a store --- */
typedef struct assay_eval_opts {
    const char *suite;    /* suite file */
    const char *store;    /* SQLite file; NULL = assay.db */
    const char *name;     /* of the variant in the store; NULL = the model's folder name */
    const char *baseline; /* variant name whose distributions the kl evaluator compares with; NULL = this is
                             the baseline */
    int64_t limit;        /* items per slice; 0 = all */
    assay_run_opts run;
    const assay_progress *progress;
    assay_view view;
} assay_eval_opts;
ASSAY_API assay_status assay_eval(assay_doc **out, const char *model, const assay_eval_opts *o,
                                  assay_err *err);

/* --- gate: two stored scorecards and a policy -> a verdict --- */
typedef struct assay_gate_request {
    const char *store;  /* NULL = assay.db */
    const char *policy; /* YAML file with a `policy` mapping; NULL = the default policy */
    size_t flips;       /* flips to list */
    bool markdown;      /* the text as Markdown */
    assay_view view;
} assay_gate_request;
ASSAY_API assay_status assay_gate_variants(assay_doc **out, const char *baseline, const char *candidate,
                                           const assay_gate_request *o, assay_err *err);

/* --- plan: does it fit, how fast, at what cost --- */
typedef struct assay_plan_request {
    const char *recipe; /* one line, or "none"; NULL = as the checkpoint is */
    const char *recipe_file;
    const char *const *devices; /* ids; NULL = all */
    size_t n_devices;
    const char *runtime; /* vllm llama.cpp native ...; NULL = by device */
    const char *kv;      /* f16 int8 ...; NULL = f16 */
    int64_t context, concurrency, prompt, output;
    const char *prices; /* price file; NULL = no cost */
    bool detail;        /* an account of memory per device */
    bool markdown;
    assay_view view;
} assay_plan_request;
/* model: a directory, or a config.json alone. */
ASSAY_API assay_status assay_plan_model(assay_doc **out, const char *model, const assay_plan_request *o,
                                        assay_err *err);
/* The device table with its sources. */
ASSAY_API assay_status assay_plan_list_devices(assay_doc **out, const assay_view *view, assay_err *err);

/* --- study: the whole way --- */
typedef struct assay_study_opts {
    const char *out_dir; /* NULL = out/NAME beside the working directory */
    int64_t limit;       /* items per slice, replaces the suite's; 0 = as the file says */
    assay_run_opts run;
    bool dry_run; /* list the steps and which are done already */
    const assay_progress *progress;
    assay_view view;
} assay_study_opts;
ASSAY_API assay_status assay_study(assay_doc **out, const char *file, const assay_study_opts *o,
                                   assay_err *err);

/* --- report: render what a store holds --- */
typedef struct assay_report_opts {
    const char *study;                  /* name in the store; NULL = the newest */
    const char *html, *markdown, *json; /* files to write; NULL = not */
    const char *records;                /* folder for every scorecard's records as JSON lines; NULL = not */
    assay_view view;
} assay_report_opts;
ASSAY_API assay_status assay_report_store(assay_doc **out, const char *store, const assay_report_opts *o,
                                          assay_err *err);

/* --- bench: what this machine does with a model, beside what it can do --- */
typedef struct assay_bench_opts {
    int prompt; /* tokens of the prefill; 0 = 512 */
    int output; /* tokens to decode; 0 = 64 */
    int repeat; /* 0 = 3; the best counts */
    assay_run_opts run;
    const assay_progress *progress;
    assay_view view;
} assay_bench_opts;
/* model NULL: the machine's own limits alone. */
ASSAY_API assay_status assay_bench(assay_doc **out, const char *model, const assay_bench_opts *o,
                                   assay_err *err);

#ifdef __cplusplus
}
#endif
#endif
