/* report/html.h: the pieces of the HTML report. Inside the report room only.
 *
 * Everything is static HTML with hand-written SVG: it prints, it can be read without scripts and by a screen
 * reader, and it weighs kilobytes; a chart library would be a dependency larger than the program. The script
 * (web/report.js) only filters, switches the variant shown and the theme. Text from outside goes through
 * assay_html_text and nothing else. */
#ifndef ASSAY_REPORT_HTML_H
#define ASSAY_REPORT_HTML_H

#include "report/show.h"

/* Escaped for element content and quoted attributes; invalid UTF-8 is U+FFFD, control and direction
 * characters are made visible. NULL is nothing. */
void assay_html_text(assay_str *out, const char *s);
void assay_html_textn(assay_str *out, const char *s, size_t n);
/* class="v-pass" and so on. */
const char *assay_html_class(assay_verdict v);
/* <span class="badge v-pass">✓ pass</span> */
void assay_html_badge(assay_str *out, assay_verdict v);
/* An assay_table as <table>, in a box that scrolls by itself; label names it for screen readers (trusted
 * text). Frees t. */
assay_status assay_html_table(assay_str *out, assay_table *t, const char *label, assay_err *err);

/* A block that belongs to one variant: shown when that variant is selected, all of them without script and in
 * print. */
void assay_html_panel_open(assay_str *out, const assay_report *r, size_t variant);
void assay_html_panel_close(assay_str *out);

/* Sections, each a complete <section>; nothing when there is nothing to show. */
void assay_html_decision(assay_str *out, const assay_report *r);
void assay_html_matrix(assay_str *out, const assay_report *r);
void assay_html_quality(assay_str *out, const assay_report *r);
void assay_html_noise(assay_str *out, const assay_report *r);
void assay_html_forest(assay_str *out, const assay_report *r);
void assay_html_flips(assay_str *out, const assay_report *r);
void assay_html_heat(assay_str *out, const assay_report *r);
assay_status assay_html_plan(assay_str *out, const assay_report *r, assay_err *err);
assay_status assay_html_manifest(assay_str *out, const assay_report *r, assay_err *err);

bool assay_html_has_gates(const assay_report *r);
bool assay_html_has_losses(const assay_report *r);
bool assay_html_has_plans(const assay_report *r);

/* --- charts --- */

typedef struct assay_axis {
    double lo, hi; /* data */
    double a, b;   /* where they lie, in SVG units */
    bool log;
} assay_axis;
double assay_axis_at(const assay_axis *x, double v); /* clamped to [lo, hi] */
/* Round steps covering [lo, hi]: writes at most `most` ticks, returns how many. */
size_t assay_axis_ticks(double *out, size_t most, double lo, double hi, int about);

#endif
