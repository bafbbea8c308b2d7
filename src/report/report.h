/* report/report.h: what a study found, rendered for people and for programs: terminal, Markdown, JSON, one
 * HTML file.
 *
 * Whoever has the results (study, `assay report`) fills an assay_report with borrowed pointers and calls a
 * renderer; nothing is computed here but layout (and which points of a curve are on its envelope), and
 * nothing is read or written: text is appended to an assay_str. Every string is untrusted (model outputs,
 * file names): each renderer escapes for its own medium, and invalid UTF-8 becomes U+FFFD. All-zero fields
 * mean "none" unless said otherwise; numbers that are not known are NaN. */
#ifndef ASSAY_REPORT_H
#define ASSAY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"
#include "gate/gate.h"
#include "plan/plan.h"
#include "store/store.h"

#define ASSAY_REPORT_SCHEMA "assay.report/1"

/* --- terminal --- */

typedef struct assay_term {
    int width;   /* columns; 0 = 100 */
    bool colour; /* SGR colours; words and symbols carry the meaning without them */
    bool ascii;  /* no box drawing, no symbols beyond ASCII */
} assay_term;
/* What file descriptor fd can do: COLUMNS or the window's width, NO_COLOR, TERM=dumb, a locale that is not
 * UTF-8. */
void assay_term_detect(assay_term *t, int fd);

/* --- what is reported --- */

typedef struct assay_report_kl { /* KL(baseline || variant) in nats; n 0 = not measured */
    size_t n;                    /* tokens, or whatever `unit` says the percentiles are over */
    const char *unit;            /* "token", "document" */
    double mean, p50, p90, p95, p99, max;
    double top1; /* share with the same most likely token; NaN = not measured */
} assay_report_kl;

typedef struct assay_report_variant {
    const char *name;              /* "nf4" */
    const char *recipe;            /* one line: "nf4, block 64, double quantization" */
    bool is_baseline;              /* exactly one, first */
    const char *problem;           /* why it has no results ("endpoint refused ..."); NULL = none */
    double size_bytes;             /* of the checkpoint on disk; NaN = not known (an endpoint) */
    double raw_bpw, effective_bpw; /* bits per weight of the whole checkpoint; NaN = not known */
    double quantized_bpw;   /* of the quantized matrices alone, scales and all; not above 0 = not known */
    int code_bits;          /* the fewest of a quantized matrix's codes; 0 = none or not known */
    bool mixture;           /* its matrices are quantized to more than one precision */
    const char *kv;         /* how keys and values were kept: "int8"; NULL = nothing was set */
    const assay_gate *gate; /* against the baseline; NULL for the baseline */
    const assay_plan *plan; /* deployment; NULL = not planned */
    const assay_layer_loss *losses; /* per matrix; n_losses 0 = none */
    size_t n_losses;
    assay_report_kl kl;
    double prefill_rate, decode_rate; /* measured here, tokens per second; NaN = not measured */
    const json_t *manifest;           /* object: how it was made and measured; NULL = none */
} assay_report_variant;
/* Fewer bits per code than every format and runtime of the field is made for: marked wherever it is named. */
#define ASSAY_REPORT_RESEARCH_BITS 4

typedef struct assay_report_decision {
    const char *chosen;         /* variant to ship; NULL = none passes */
    assay_verdict verdict;      /* of the whole study: PASS when chosen, FAIL, INCONCLUSIVE */
    const char *headline;       /* "Ship nf4: 4.13 bits per weight, no dimension loses more than 2 points." */
    const char *const *reasons; /* plain sentences, the most important first */
    size_t n_reasons;
    const char *const *next; /* what to do now ("score 210 more items of code/loop to settle int3") */
    size_t n_next;
} assay_report_decision;

typedef struct assay_report {
    const char *title;   /* the study's name */
    const char *model;   /* path or name */
    const char *suite;   /* file */
    const char *date;    /* ISO 8601; shown as the report's date */
    const char *version; /* of the program; NULL = this one */
    const char *command; /* that made it, so that it can be made again; NULL = none */
    const assay_report_variant *variants;
    size_t n_variants;
    assay_report_decision decision;
    const assay_policy *policy; /* NULL = the first gate's */
    const json_t *manifest;     /* object: the study's: hashes, machine, seeds, dates; NULL = none */
    size_t max_flips;           /* per variant in HTML; 0 = 400. Left-out ones are counted. */
} assay_report;

/* Each appends to out; ENOMEM is the only failure of the text forms (EINPUT: the report has no variants). */
assay_status assay_report_text(assay_str *out, const assay_report *r, const assay_term *t, assay_err *err);
assay_status assay_report_markdown(assay_str *out, const assay_report *r, assay_err *err);
assay_status assay_report_html(assay_str *out, const assay_report *r, assay_err *err);
/* {"schema": "assay.report/1", decision, variants[], policy, manifest}; flips when asked. New reference. */
assay_status assay_report_json(json_t **out, const assay_report *r, bool flips, assay_err *err);

/* --- parts, for single commands --- */

/* `assay gate`: every dimension and slice, the limits, what decided. flips: how many to list (0 = none). */
assay_status assay_report_gate_text(assay_str *out, const assay_gate *g, size_t flips, const assay_term *t,
                                    assay_err *err);
assay_status assay_report_gate_markdown(assay_str *out, const assay_gate *g, assay_err *err);
/* `assay plan`: sizes line by line, KV cache, then one line per device. detail: an account of memory per
 * device as well. */
assay_status assay_report_plan_text(assay_str *out, const assay_plan *p, bool detail, const assay_term *t,
                                    assay_err *err);
assay_status assay_report_plan_markdown(assay_str *out, const assay_plan *p, assay_err *err);
/* The sizes alone (`assay inspect`). */
assay_status assay_report_sizes_text(assay_str *out, const assay_sizes *s, const assay_term *t,
                                     assay_err *err);
/* What each matrix lost (`assay quantize`), in the order given. A column that is known of none is left out.
 */
typedef struct assay_report_loss {
    const char *matrix;  /* "model.layers.3.self_attn.q_proj.weight" */
    const char *as;      /* "gptq int4 g128" */
    double weight_error; /* |W - W'| / |W| */
    double max_error;    /* max |w - w'|; NaN = not known */
    double output_error; /* relative, on calibration inputs; NaN = not known */
    double bits;         /* stored, per weight */
} assay_report_loss;
assay_status assay_report_losses_text(assay_str *out, const assay_report_loss *l, size_t n,
                                      const assay_term *t, assay_err *err);

#endif
