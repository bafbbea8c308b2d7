/* chart_curve.c: the chart of what a bit buys: divergence from the baseline against stored bits per weight.
 *
 * Both axes are logarithmic. The stair is the lower envelope (curve.c). Drawn twice, for a wide page and for
 * a narrow one, where the style shows one of them: text in a scaled drawing would be too small on one or too
 * large on the other. */
#include <math.h>
#include <stdio.h>
#include "report/html.h"

typedef struct plot {
    const assay_report *r;
    const assay_curve *c;
    assay_axis x, y;
    assay_canvas canvas;
} plot;

static double y_of(const plot *p, const assay_report_variant *v) {
    return assay_axis_at(&p->y, v->kl.mean > 0 ? v->kl.mean : p->y.lo);
}

static double x_of(const plot *p, const assay_report_variant *v) {
    return assay_axis_at(&p->x, v->effective_bpw);
}

/* A divergence of nothing has no place on a logarithmic axis: it lies at the bottom, under all others. */
static void set_axes(plot *p) {
    const assay_canvas *k = &p->canvas;
    double lo = INFINITY, hi = 0, low = INFINITY, high = 0;
    for (size_t i = 0; i < p->c->n; i++) {
        const assay_report_variant *v = p->c->points[i].variant;
        lo = ASSAY_MIN(lo, v->effective_bpw);
        hi = ASSAY_MAX(hi, v->effective_bpw);
        if (v->kl.mean > 0) low = ASSAY_MIN(low, v->kl.mean);
        high = ASSAY_MAX(high, v->kl.mean);
    }
    if (!(high > 0)) low = high = 1e-3;
    p->x = (assay_axis){.lo = lo / 1.06, .hi = hi * 1.12, .a = k->left, .b = k->w - k->right, .log = true};
    p->y = (assay_axis){.lo = low / 2.2, .hi = high * 1.8, .a = k->h - k->bottom, .b = k->top, .log = true};
}

/* Powers of ten, with 2 and 5 between them when there are few. */
static void put_frame(assay_str *out, const plot *p) {
    const assay_canvas *k = &p->canvas;
    bool few = log10(p->y.hi / p->y.lo) < 3;
    for (double e = pow(10, floor(log10(p->y.lo))); e <= p->y.hi; e *= 10) {
        const double steps[] = {1, 2, 5};
        for (size_t i = 0; i < (few ? ASSAY_LEN(steps) : 1); i++) {
            double v = e * steps[i];
            if (v < p->y.lo || v > p->y.hi) continue;
            double y = assay_axis_at(&p->y, v);
            assay_str_printf(out,
                             "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                             "class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>",
                             k->left, k->w - k->right, y, y, k->left - 6, y + 4, v);
        }
    }
    assay_canvas_bits(out, k, &p->x);
}

/* From each point of the envelope level to the next one's size, then down to it. */
static void put_envelope(assay_str *out, plot *p) {
    bool begun = false;
    double x = 0, y = 0;
    assay_str_put(out, "<path class=\"envelope\" d=\"");
    for (size_t i = 0; i < p->c->n; i++) {
        const assay_curve_point *q = &p->c->points[i];
        if (!q->on_envelope) continue;
        double px = x_of(p, q->variant), py = y_of(p, q->variant);
        if (!begun)
            assay_str_printf(out, "M%.1f %.1f", px, py);
        else {
            assay_str_printf(out, "H%.1fV%.1f", px, py);
            assay_canvas_take(&p->canvas, (assay_box){x, y - 1, px, y + 1, ASSAY_BOX_LINE});
            assay_canvas_take(&p->canvas, (assay_box){px - 1, y, px + 1, py, ASSAY_BOX_LINE});
        }
        begun = true;
        x = px, y = py;
    }
    double end = p->canvas.w - p->canvas.right;
    if (begun) {
        assay_str_printf(out, "H%.1f", end);
        assay_canvas_take(&p->canvas, (assay_box){x, y - 1, end, y + 1, ASSAY_BOX_LINE});
    }
    assay_str_put(out, "\"/>\n");
}

/* Shape: how its matrices are stored. Filling and cross: the verdict. */
static void put_mark(assay_str *out, const assay_report_variant *v, double x, double y) {
    if (v->mixture)
        assay_str_printf(out, "<path class=\"dot\" d=\"M%.1f %.1fl6 6l-6 6l-6 -6z\"/>", x, y - 6);
    else
        assay_str_printf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>", x, y);
    if (v->gate && v->gate->verdict == ASSAY_VERDICT_FAIL)
        assay_str_printf(out, "<path class=\"cross-out\" d=\"M%.1f %.1fl10 10m0 -10l-10 10\"/>", x - 5,
                         y - 5);
}

static void put_point(assay_str *out, plot *p, const assay_curve_point *q) {
    const assay_report_variant *v = q->variant;
    char a[32], b[32], name[ASSAY_SHOW_NAME];
    double x = x_of(p, v), y = y_of(p, v);
    bool passed = v->gate && v->gate->verdict == ASSAY_VERDICT_PASS;
    assay_str_printf(out, "<g class=\"%s%s%s\"><title>", v->mixture ? "c-mixture" : "c-uniform",
                     passed ? "" : " hollow", q->aside ? " aside" : "");
    assay_html_text(out, assay_show_name(name, sizeof name, v, false));
    assay_str_printf(out, ": %s bits per weight, KL %s", assay_show_number(a, sizeof a, 2, v->effective_bpw),
                     assay_show_nats(b, sizeof b, v->kl.mean));
    if (v->gate) assay_str_printf(out, ", %s", assay_verdict_name(v->gate->verdict));
    if (q->beaten_by) {
        assay_str_put(out, ", beaten by ");
        assay_html_text(out, q->beaten_by->name);
    }
    assay_str_put(out, "</title>");
    put_mark(out, v, x, y);
    assay_canvas_take(&p->canvas, (assay_box){x - 6, y - 6, x + 6, y + 6, ASSAY_BOX_POINT});
    assay_str_put(out, "</g>\n");
}

/* What is on the envelope gets its place first. */
static void put_labels(assay_str *out, plot *p) {
    const assay_report_variant *chosen = assay_show_chosen(p->r);
    for (int rest = 0; rest < 2; rest++) {
        for (size_t i = 0; i < p->c->n; i++) {
            const assay_curve_point *q = &p->c->points[i];
            char name[ASSAY_SHOW_NAME];
            if (q->on_envelope == (rest != 0)) continue;
            assay_canvas_label(out, &p->canvas, x_of(p, q->variant), y_of(p, q->variant),
                               assay_show_name(name, sizeof name, q->variant, false),
                               q->variant == chosen ? " strong" : "");
        }
    }
}

static void put_plot(assay_str *out, const assay_report *r, const assay_curve *c, const char *class, double w,
                     double h) {
    plot p = {.r = r,
              .c = c,
              .canvas = {.w = w, .h = h, .left = 46, .right = 14, .top = 12, .bottom = 34, .rings = 12}};
    set_axes(&p);
    assay_str_printf(
        out,
        "<svg class=\"%s\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"KL divergence against bits per "
        "weight; the table below has the figures\">\n",
        class, w, h);
    put_frame(out, &p);
    put_envelope(out, &p);
    for (size_t i = 0; i < c->n; i++)
        put_point(out, &p, &c->points[i]);
    put_labels(out, &p);
    assay_str_put(out, "</svg>\n");
}

static void put_key(assay_str *out, const char *class, const char *shape, const char *word) {
    assay_str_printf(out,
                     "<span class=\"pair\"><svg class=\"key %s\" viewBox=\"0 0 18 14\">%s</svg>%s</span>",
                     class, shape, word);
}

static void put_legend(assay_str *out, const assay_curve *c) {
    bool aside = false;
    for (size_t i = 0; i < c->n; i++)
        aside |= c->points[i].aside;

    static const char circle[] = "<circle class=\"dot\" cx=\"9\" cy=\"7\" r=\"4.5\"/>";
    static const char diamond[] = "<path class=\"dot\" d=\"M9 1l6 6l-6 6l-6 -6z\"/>";
    assay_str_put(out, "<div class=\"legend\" aria-hidden=\"true\">");
    put_key(out, "c-uniform", circle, "one precision");
    put_key(out, "c-mixture", diamond, "mixture");
    put_key(out, "c-uniform hollow", circle, "not passed");
    put_key(out, "c-uniform hollow",
            "<circle class=\"dot\" cx=\"9\" cy=\"7\" r=\"4.5\"/><path class=\"cross-out\" d=\"M4 2l10 10m0 "
            "-10l-10 10\"/>",
            "failed the gate");
    if (aside) put_key(out, "c-uniform aside", circle, "other KV cache");
    put_key(out, "", "<path class=\"envelope\" d=\"M1 3H9V11H17\"/>", "lower envelope");
    assay_str_put(out, "</div>\n");
}

bool assay_html_has_curve(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (&r->variants[i] != assay_show_baseline(r) && r->variants[i].kl.n &&
            r->variants[i].effective_bpw > 0)
            return true;
    return false;
}

assay_status assay_html_curve(assay_str *out, const assay_report *r, assay_err *err) {
    assay_curve c;
    assay_table t;
    assay_str text = {0};
    ASSAY_TRY(assay_curve_make(&c, r, err));
    assay_status s = ASSAY_OK;
    if (c.n) {
        assay_str_put(
            out,
            "<section id=\"curve\" aria-labelledby=\"curve-h\"><h2 id=\"curve-h\">What a bit buys</h2>\n<p>");
        assay_show_curve(&text, &c);
        assay_html_text(out, assay_str_c(&text));
        assay_str_put(
            out, " One figure over all tokens: what it means for answers stands in the panels below.</p>\n");
        put_legend(out, &c);
        assay_str_put(out, "<figure class=\"curve\">");
        put_plot(out, r, &c, "on-wide", 960, 430);
        put_plot(out, r, &c, "on-narrow", 340, 480);
        assay_str_put(out, "</figure>\n<details open><summary>The figures</summary>");
        assay_tables_curve(&t, &c, false);
        s = assay_html_table(out, &t, "Divergence and size", err);
        assay_str_put(out, "</details></section>\n");
    }
    if (text.failed) out->failed = true;
    assay_str_free(&text);
    assay_curve_free(&c);
    return s;
}
