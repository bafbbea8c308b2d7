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
/* A variant's name, with a tag when it is research. */
void assay_html_name(assay_str *out, const assay_report_variant *v);
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
assay_status assay_html_curve(assay_str *out, const assay_report *r, assay_err *err);
void assay_html_quality(assay_str *out, const assay_report *r);
void assay_html_noise(assay_str *out, const assay_report *r);
void assay_html_forest(assay_str *out, const assay_report *r);
void assay_html_flips(assay_str *out, const assay_report *r);
void assay_html_heat(assay_str *out, const assay_report *r);
assay_status assay_html_plan(assay_str *out, const assay_report *r, assay_err *err);
assay_status assay_html_manifest(assay_str *out, const assay_report *r, assay_err *err);

bool assay_html_has_gates(const assay_report *r);
bool assay_html_has_curve(const assay_report *r);
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

/* Where labels may stand: what was drawn so far is in the way of the next. */
typedef enum assay_box_kind {
    ASSAY_BOX_TEXT,   /* a label: nothing lies on it */
    ASSAY_BOX_LEADER, /* its line; this and the next are crossed by another's line when there is no other way
                       */
    ASSAY_BOX_POINT,  /* no label lies on it */
    ASSAY_BOX_LINE    /* labels keep off it while they can, leader lines cross it */
} assay_box_kind;
typedef struct assay_box {
    double x0, y0, x1, y1;
    assay_box_kind kind;
} assay_box;
typedef struct assay_canvas {
    double w, h, left, right, top, bottom; /* margins around the plotted area */
    int rings; /* how far from its point a label may be put, in steps of 11 units; 0 = 5 */
    assay_box taken[1024];
    size_t n_taken;
} assay_canvas;
void assay_canvas_take(assay_canvas *c, assay_box b);
/* The label of the point at x, y: at the nearest free place, with a leader line when that is not near.
 * Returns false when there is none: nothing is drawn, for none is better than a pile. */
bool assay_canvas_label(assay_str *out, assay_canvas *c, double x, double y, const char *name,
                        const char *class);
/* Ticks of a logarithmic axis of bits per weight along the bottom, with its name. */
void assay_canvas_bits(assay_str *out, const assay_canvas *c, const assay_axis *x);

#endif
