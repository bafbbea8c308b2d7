/* report/show.h: how single things are shown, the same in every medium: numbers with their units, verdicts as
 * word and symbol, text that came from outside. Inside the report room only. */
#ifndef ASSAY_REPORT_SHOW_H
#define ASSAY_REPORT_SHOW_H

#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "base/utf8.h"
#include "report/report.h"
#include "report/table.h"

int assay_utf8_width(const char *s, size_t n); /* display columns */
/* Text from outside on one line: control characters become spaces, invalid bytes U+FFFD ('?' in ascii). At
 * most `most` columns, then "…". */
void assay_show_line(assay_str *out, const char *s, int most, bool ascii);

/* Text from outside in Markdown, on one line: what would be markup is escaped, so that it shows what it
 * holds; `marks` are the ASCII characters that are markup there. */
void assay_show_markdown(assay_str *out, const char *s, size_t n, const char *marks);

assay_tone assay_show_tone(assay_verdict v);
const char *assay_show_symbol(assay_verdict v);       /* UTF-8: ✓ ✗ ? ~ · */
const char *assay_show_symbol_ascii(assay_verdict v); /* + x ? ~ . */

/* Each writes into buf (at least 32 bytes) and returns it; what is not known is "-". */
char *assay_show_mean(char *buf, size_t n, assay_metric m,
                      double v); /* 97.5 (percent), 12.34 (perplexity), 0.0123 (KL) */
char *assay_show_diff(char *buf, size_t n, assay_metric m, double v); /* +1.25 (points), -0.0123 (nats) */
char *assay_show_margin(char *buf, size_t n, assay_metric m,
                        double v);                    /* 2.0 pt, 5.0 % (perplexity), 0.0200 */
const char *assay_show_unit(assay_metric m);          /* "pt", "nats" */
char *assay_show_nats(char *buf, size_t n, double v); /* 0.0123, 1.2e-05: two digits that matter */
char *assay_show_p(char *buf, size_t n, double p);    /* 0.012, <0.001 */
char *assay_show_size(char *buf, size_t n, double v); /* 1.50 GiB */
char *assay_show_ms(char *buf, size_t n, double seconds, bool at_least); /* 12.3 ms, 1.42 s, >= 12.3 ms */
char *assay_show_count(char *buf, size_t n, double v);                   /* 131,072 */
char *assay_show_number(char *buf, size_t n, int decimals,
                        double v); /* printf("%.*f"), "-" for NaN, "many" for infinity */

/* A variant's name as tables and charts have it: with the mark of research behind it when it is. */
#define ASSAY_SHOW_NAME 128
char *assay_show_name(char *buf, size_t n, const assay_report_variant *v, bool ascii);
const char *assay_show_mark(bool ascii); /* of research: † or * */
bool assay_show_research(const assay_report_variant *v);
bool assay_show_any_research(const assay_report *r);
/* What the mark means, one line; nothing when no variant of the report carries it. */
void assay_show_research_legend(assay_str *out, const assay_report *r, bool ascii);
/* The chosen variant; NULL when there is none. A sentence of caution when it is research, else nothing. */
const assay_report_variant *assay_show_chosen(const assay_report *r);
void assay_show_caution(assay_str *out, const assay_report *r);

/* The baseline (variants[0] when none is marked) and the first gate of a report; NULL when there is none. */
const assay_report_variant *assay_show_baseline(const assay_report *r);
const assay_gate *assay_show_first_gate(const assay_report *r);
const assay_policy *assay_show_policy(const assay_report *r);
/* The row of a dimension (slice NULL) or slice; NULL when the gate has none. */
const assay_gate_row *assay_show_row(const assay_gate *g, const char *dimension, const char *slice);

/* --- what a bit buys (curve.c) --- */

typedef struct assay_curve_point {
    const assay_report_variant *variant;
    bool aside;       /* keeps keys and values otherwise than the baseline: what that saves
                         is not on this axis, so it neither beats nor is beaten */
    bool on_envelope; /* no other is both as small and as close to the baseline */
    const assay_report_variant
        *beaten_by; /* the closest of those that are not larger; NULL on the envelope */
} assay_curve_point;
typedef struct assay_curve {
    assay_curve_point *points; /* of the variants whose size and divergence are known, by size */
    size_t n;
    const char *unit; /* what the divergence is a mean over: "token" */
} assay_curve;
assay_status assay_curve_make(assay_curve *out, const assay_report *r, assay_err *err);
void assay_curve_free(assay_curve *c); /* all-zero is fine */
/* What the chart and the table below it are, in plain words. */
void assay_show_curve(assay_str *out, const assay_curve *c);

/* Tables that several media share. The caller frees; columns are static. */
/* Dimensions [first, first + n) of the matrix; columns holds ASSAY_MATRIX_COLUMNS. */
void assay_tables_matrix(assay_table *t, assay_column *columns, const assay_report *r, size_t first, size_t n,
                         bool ascii);
#define ASSAY_MATRIX_COLUMNS    32
#define ASSAY_MATRIX_DIMENSIONS (ASSAY_MATRIX_COLUMNS - 5) /* in one table */
size_t assay_tables_dimensions(const assay_report *r);     /* how many there are */
void assay_tables_losses(assay_table *t, assay_column *columns, const assay_report_loss *l, size_t n);
#define ASSAY_LOSS_COLUMNS 6
void assay_tables_curve(assay_table *t, const assay_curve *c, bool ascii);
void assay_tables_gate(assay_table *t, const assay_gate *g, bool ascii);
void assay_tables_limits(assay_table *t, const assay_gate *g, bool ascii);
void assay_tables_sizes(assay_table *t, const assay_sizes *s);
void assay_tables_fits(assay_table *t, const assay_plan *p);
void assay_tables_memory(assay_table *t, const assay_plan *p);
void assay_tables_sources(assay_table *t, const assay_plan *p);
void assay_tables_noise(assay_table *t, const assay_report *r, bool ascii);
bool assay_tables_has_limits(const assay_gate *g);

/* One sentence of assumptions behind a plan's figures. */
void assay_show_assumptions(assay_str *out, const assay_plan *p);

#endif
