/* chart.c: the chart of quality against size: one panel per dimension, with the margin band. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/html.h"

#define W      340.0
#define H      236.0
#define LEFT   40.0
#define RIGHT  14.0
#define TOP    12.0
#define BOTTOM 34.0

typedef struct panel {
    const assay_report *r;
    const assay_gate_row *row; /* of the first gate: names, metric, margin */
    double scale;              /* data to shown units: 100 for points */
    assay_axis x, y;
    double floor; /* what is below is drawn at the bottom with its number */
    assay_canvas canvas;
} panel;

/* How far down the panel goes: three margins; without a margin, twice the second largest loss when the
 * largest is out of all proportion, so that one broken variant does not flatten the others. */
static double lowest_shown(const panel *p, double margin) {
    double worst = 0, second = 0;
    if (margin > 0) return -3 * margin;
    for (size_t i = 0; i < p->r->n_variants; i++) {
        const assay_gate_row *row = assay_show_row(p->r->variants[i].gate, p->row->dimension, NULL);
        if (!row || isnan(row->lower)) continue;
        double d = row->lower * p->scale;
        if (d < worst)
            second = worst, worst = d;
        else
            second = ASSAY_MIN(second, d);
    }
    return second < 0 && worst < 5 * second ? 2 * second : -INFINITY;
}

/* Bits per weight on a logarithmic axis; y from somewhat below the margin to somewhat above zero, however
 * badly a variant fails. */
static void set_axes(panel *p) {
    double lo = INFINITY, hi = 0, worst = 0, best = 0,
           margin = isnan(p->row->margin) ? 0 : p->row->margin * p->scale;
    double limit = lowest_shown(p, margin);
    for (size_t i = 0; i < p->r->n_variants; i++) {
        const assay_report_variant *v = &p->r->variants[i];
        if (!(v->effective_bpw > 0)) continue;
        lo = ASSAY_MIN(lo, v->effective_bpw);
        hi = ASSAY_MAX(hi, v->effective_bpw);
        const assay_gate_row *row = assay_show_row(v->gate, p->row->dimension, NULL);
        if (!row || isnan(row->lower) || isnan(row->upper)) continue;
        if (row->diff * p->scale > limit) worst = ASSAY_MIN(worst, ASSAY_MAX(row->lower * p->scale, limit));
        best = ASSAY_MAX(best, row->upper * p->scale);
    }
    if (margin > 0) {
        best = ASSAY_MIN(best, 2 * margin);
        worst = ASSAY_MIN(worst, -1.6 * margin);
    }
    if (best - worst <= 0) best = worst + 1;
    double pad = (best - worst) * 0.12;
    p->floor = worst - pad;
    p->y = (assay_axis){.lo = worst - 2 * pad, .hi = best + pad, .a = H - BOTTOM, .b = TOP};
    if (!(hi > 0)) lo = 2, hi = 16;
    p->x = (assay_axis){.lo = lo / 1.25, .hi = hi * 1.25, .a = LEFT, .b = W - RIGHT, .log = true};
}

static void put_frame(assay_str *out, panel *p) {
    double ticks[12];
    double right = W - RIGHT, base = H - BOTTOM;
    if (!isnan(p->row->margin)) {
        double m = assay_axis_at(&p->y, -p->row->margin * p->scale), z = assay_axis_at(&p->y, 0);
        assay_str_printf(out,
                         "<rect class=\"band\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/><rect "
                         "class=\"beyond\" x=\"%.1f\" y=\"%.1f\" "
                         "width=\"%.1f\" height=\"%.1f\"/><line class=\"margin\" x1=\"%.1f\" x2=\"%.1f\" "
                         "y1=\"%.1f\" y2=\"%.1f\"/>",
                         LEFT, z, right - LEFT, m - z, LEFT, m, right - LEFT, base - m, LEFT, right, m, m);
    }
    size_t n = assay_axis_ticks(ticks, ASSAY_LEN(ticks), p->floor, p->y.hi, 5);
    for (size_t i = 0; i < n; i++) {
        double y = assay_axis_at(&p->y, ticks[i]);
        assay_str_printf(out,
                         "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                         "class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">",
                         ticks[i] == 0 ? "zero" : "grid", LEFT, right, y, y, LEFT - 6, y + 4);
        assay_str_printf(out, ticks[i] == 0 ? "%g</text>" : "%+g</text>", ticks[i] == 0 ? 0.0 : ticks[i]);
    }
    assay_canvas_bits(out, &p->canvas, &p->x);
}

static bool is_below(const panel *p, const assay_gate_row *row) {
    return row->diff * p->scale < p->floor;
}

static void put_point(assay_str *out, panel *p, const assay_report_variant *v, const assay_gate_row *row) {
    char a[32], lo[32], hi[32];
    bool below = is_below(p, row);
    double x = assay_axis_at(&p->x, v->effective_bpw),
           y = assay_axis_at(&p->y, below ? p->y.lo : row->diff * p->scale);
    bool chosen = p->r->decision.chosen && strcmp(p->r->decision.chosen, v->name) == 0;
    assay_str_printf(out, "<g class=\"%s\"><title>", assay_html_class(row->verdict));
    assay_html_text(out, v->name);
    assay_str_printf(
        out, ": %s %s (%s to %s), %s</title>", assay_show_diff(a, sizeof a, row->metric, row->diff),
        assay_show_unit(row->metric), assay_show_diff(lo, sizeof lo, row->metric, row->lower),
        assay_show_diff(hi, sizeof hi, row->metric, row->upper), assay_verdict_name(row->verdict));
    if (below) {
        assay_str_printf(out, "<path class=\"dot\" d=\"M%.1f %.1fl6 -9h-12z\"/>", x, y - 1);
        assay_canvas_take(&p->canvas, (assay_box){x - 6, y - 10, x + 6, y, ASSAY_BOX_POINT});
    } else {
        double y1 = assay_axis_at(&p->y, row->lower * p->scale),
               y2 = assay_axis_at(&p->y, row->upper * p->scale);
        assay_str_printf(out, "<line class=\"bar\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x,
                         y1, y2);
        if (row->verdict == ASSAY_VERDICT_FAIL)
            assay_str_printf(out, "<path class=\"dot\" d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\"/>", x, y - 5);
        else
            assay_str_printf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>", x, y,
                             chosen ? "5.5" : "4.5");
        assay_canvas_take(&p->canvas, (assay_box){x - 5, y - 5, x + 5, y + 5, ASSAY_BOX_POINT});
        assay_canvas_take(&p->canvas, (assay_box){x - 1, y2, x + 1, y1, ASSAY_BOX_POINT});
    }
    assay_str_put(out, "</g>\n");
}

static void put_point_label(assay_str *out, panel *p, const assay_report_variant *v,
                            const assay_gate_row *row) {
    char label[ASSAY_SHOW_NAME + 32], name[ASSAY_SHOW_NAME], a[32];
    bool below = is_below(p, row),
         chosen = p->r->decision.chosen && strcmp(p->r->decision.chosen, v->name) == 0;
    double x = assay_axis_at(&p->x, v->effective_bpw),
           y = assay_axis_at(&p->y, below ? p->y.lo : row->diff * p->scale);
    assay_show_diff(a, sizeof a, row->metric, row->diff);
    assay_show_name(name, sizeof name, v, false);
    snprintf(label, sizeof label, "%s%s%s", name, below ? " " : "", below ? a : "");
    assay_canvas_label(out, &p->canvas, x, below ? y - 5 : y, label, chosen ? " strong" : "");
}

static void put_panel(assay_str *out, const assay_report *r, const assay_gate_row *row) {
    panel p = {.r = r,
               .row = row,
               .canvas = {.w = W, .h = H, .left = LEFT, .right = RIGHT, .top = TOP, .bottom = BOTTOM},
               .scale = row->metric == ASSAY_METRIC_PERPLEXITY || row->metric == ASSAY_METRIC_KL ? 1 : 100};
    set_axes(&p);
    assay_str_put(out, "<figure><figcaption>");
    assay_html_text(out, row->dimension);
    assay_str_printf(out,
                     "<span class=\"sub\">%s, %s</span></figcaption><svg viewBox=\"0 0 %g %g\" role=\"img\" "
                     "aria-label=\"difference against bits per weight\">\n",
                     assay_metric_name(row->metric), p.scale == 1 ? "nats" : "points", W, H);
    put_frame(out, &p);
    const assay_report_variant *base = assay_show_baseline(r);
    double bx = base->effective_bpw > 0 ? assay_axis_at(&p.x, base->effective_bpw) : 0,
           by = assay_axis_at(&p.y, 0);
    if (base->effective_bpw > 0) {
        assay_str_printf(
            out,
            "<g class=\"v-base\"><rect class=\"dot\" x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\"/></g>",
            bx - 4, by - 4);
        assay_canvas_take(&p.canvas, (assay_box){bx - 5, by - 5, bx + 5, by + 5, ASSAY_BOX_POINT});
    }
    /* all points, then all labels: a label must not lie on any point */
    for (int labels = 0; labels < 2; labels++) {
        for (size_t i = 0; i < r->n_variants; i++) {
            const assay_report_variant *v = &r->variants[i];
            const assay_gate_row *own = assay_show_row(v->gate, row->dimension, NULL);
            if (!own || !(v->effective_bpw > 0) || isnan(own->diff)) continue;
            if (labels)
                put_point_label(out, &p, v, own);
            else
                put_point(out, &p, v, own);
        }
    }
    if (base->effective_bpw > 0) assay_canvas_label(out, &p.canvas, bx, by, base->name, "");
    assay_str_put(out, "</svg></figure>\n");
}

void assay_html_quality(assay_str *out, const assay_report *r) {
    const assay_gate *g = assay_show_first_gate(r);
    if (!g) return;
    assay_str_put(out, "<section id=\"quality\" aria-labelledby=\"quality-h\"><h2 id=\"quality-h\">Quality "
                       "against size</h2>\n"
                       "<p>One panel per dimension, never an average over them. The line through a point is "
                       "its interval; the band below zero is what "
                       "the policy allows to be lost, the hatched ground lies beyond it. A triangle at the "
                       "bottom is off the scale.</p>\n"
                       "<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><defs><pattern "
                       "id=\"hatch\" width=\"6\" height=\"6\" "
                       "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect "
                       "class=\"hatch-ground\" width=\"6\" height=\"6\"/>"
                       "<line class=\"hatch-line\" x1=\"0\" x2=\"0\" y1=\"0\" "
                       "y2=\"6\"/></pattern></defs></svg>\n<div class=\"charts\">\n");
    for (size_t i = 0; i < g->n_rows; i++)
        if (!g->rows[i].slice) put_panel(out, r, &g->rows[i]);
    assay_str_put(out, "</div></section>\n");
}
