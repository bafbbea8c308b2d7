/* chart_axis.c: what charts share: axes, ticks, and labels that keep off points, lines and each other.
 *
 * A label tries places on rings around its point, nearest first, in sixteen directions; a place is free when
 * its box touches nothing that was drawn and its leader line runs over no point, label or other leader. When
 * there is none, the label may cross a line, then the leader other leaders and points, as points that lie on
 * each other leave no other way. Greedy: the order of the calls decides who gets the nearest place. */
#include <math.h>
#include "report/html.h"

double assay_axis_at(const assay_axis *x, double v) {
    v = ASSAY_MAX(x->lo, ASSAY_MIN(x->hi, v));
    double t = x->log ? (log(v) - log(x->lo)) / (log(x->hi) - log(x->lo)) : (v - x->lo) / (x->hi - x->lo);
    return x->a + t * (x->b - x->a);
}

size_t assay_axis_ticks(double *out, size_t most, double lo, double hi, int about) {
    static const double nice[] = {1, 2, 2.5, 5, 10};
    if (!(hi > lo) || about < 1) return 0;
    double raw = (hi - lo) / about, unit = pow(10, floor(log10(raw))), step = 10 * unit;
    for (size_t i = 0; i < ASSAY_LEN(nice); i++) {
        if (nice[i] * unit >= raw * 0.999) {
            step = nice[i] * unit;
            break;
        }
    }
    size_t n = 0;
    for (double k = ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9 && n < most; k++)
        out[n++] = k * step + 0.0; /* no minus zero */
    return n;
}

/* --- labels --- */

void assay_canvas_take(assay_canvas *c, assay_box b) {
    if (c->n_taken < ASSAY_LEN(c->taken)) c->taken[c->n_taken++] = b;
}

/* Does b touch anything of a kind up to `most`? */
static bool touches(const assay_canvas *c, const assay_box *b, assay_box_kind most) {
    for (size_t i = 0; i < c->n_taken; i++) {
        const assay_box *t = &c->taken[i];
        if (t->kind <= most && b->x0 < t->x1 && t->x0 < b->x1 && b->y0 < t->y1 && t->y0 < b->y1) return true;
    }
    return false;
}

static bool is_outside(const assay_canvas *c, const assay_box *b) {
    return b->x0 < c->left || b->x1 > c->w || b->y0 < 0 || b->y1 > c->h - c->bottom + 4;
}

#define NEAR 8.0 /* from a point's centre: its own mark is not in the way */
#define STEP 3.0

/* The leader from distance NEAR to `far` in direction t, as small boxes. */
static bool leader_is_free(const assay_canvas *c, double x, double y, double t, double far,
                           assay_box_kind most) {
    for (double d = NEAR; d < far; d += STEP) {
        double px = x + d * cos(t), py = y + d * sin(t);
        assay_box b = {px - 1, py - 1, px + 1, py + 1, ASSAY_BOX_TEXT};
        if (touches(c, &b, most)) return false;
    }
    return true;
}

static void take_leader(assay_canvas *c, double x, double y, double t, double far) {
    for (double d = NEAR; d < far; d += STEP) {
        double px = x + d * cos(t), py = y + d * sin(t);
        assay_canvas_take(c, (assay_box){px - 1, py - 1, px + 1, py + 1, ASSAY_BOX_LEADER});
    }
}

static void put_at(assay_str *out, const char *text, double x, double y, double t, double far, double x0,
                   double w, double mid, const char *class) {
    double ax = x + far * cos(t), ay = y + far * sin(t);
    if (far > 12)
        assay_str_printf(out, "<line class=\"leader\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                         x + 5 * cos(t), y + 5 * sin(t), ax, ay);
    const char *anchor = cos(t) > 0.3 ? "start" : cos(t) < -0.3 ? "end" : "middle";
    assay_str_printf(out, "<text class=\"label%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class,
                     cos(t) > 0.3    ? x0
                     : cos(t) < -0.3 ? x0 + w
                                     : ax,
                     mid + 4, anchor);
    assay_html_text(out, text);
    assay_str_put(out, "</text>");
}

/* label: what the text keeps off; line: what its leader does. */
static bool try_places(assay_str *out, assay_canvas *c, double x, double y, const char *text, double w,
                       const char *class, assay_box_kind label, assay_box_kind line) {
    static const double angle[] = {-1.5708, 0,     3.1416, 1.5708, -0.7, -2.44, 0.7, 2.44,
                                   -0.35,   -2.79, 0.35,   2.79,   -1.1, -2.04, 1.1, 2.04};
    size_t rings = c->rings ? (size_t)c->rings : 5;
    for (size_t i = 0; i < rings * ASSAY_LEN(angle); i++) {
        double far = 11 + 11 * (double)(i / ASSAY_LEN(angle)), t = angle[i % ASSAY_LEN(angle)];
        double ax = x + far * cos(t), ay = y + far * sin(t); /* where the text touches the ring */
        double x0 = cos(t) > 0.3    ? ax - 2
                    : cos(t) < -0.3 ? ax - w + 2
                                    : ax - w / 2,
               mid = ay + (sin(t) > 0.3    ? 3
                           : sin(t) < -0.3 ? -2
                                           : 0);
        assay_box b = {x0 - 1, mid - 6, x0 + w + 1, mid + 6, ASSAY_BOX_TEXT};
        if (is_outside(c, &b) || touches(c, &b, label)) continue;
        if (far > 12 && !leader_is_free(c, x, y, t, far - 4, line)) continue;
        if (far > 12) take_leader(c, x, y, t, far - 4);
        assay_canvas_take(c, b);
        put_at(out, text, x, y, t, far, x0, w, mid, class);
        return true;
    }
    return false;
}

bool assay_canvas_label(assay_str *out, assay_canvas *c, double x, double y, const char *name,
                        const char *class) {
    assay_str cut = {0};
    assay_show_line(&cut, name, 18, false);
    const char *text = assay_str_c(&cut);
    double w = 6.6 * assay_utf8_width(text, cut.len);
    bool done = try_places(out, c, x, y, text, w, class, ASSAY_BOX_LINE, ASSAY_BOX_POINT) ||
                try_places(out, c, x, y, text, w, class, ASSAY_BOX_POINT, ASSAY_BOX_POINT) ||
                try_places(out, c, x, y, text, w, class, ASSAY_BOX_POINT, ASSAY_BOX_TEXT);
    if (cut.failed) out->failed = true;
    assay_str_free(&cut);
    return done;
}

/* --- bits per weight --- */

void assay_canvas_bits(assay_str *out, const assay_canvas *c, const assay_axis *x) {
    static const double bits[] = {1, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32};
    static const double round[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 32};
    bool wide = c->w > 600;
    const double *ticks = wide ? bits : round;
    double last = -100, base = c->h - c->bottom;
    for (size_t i = 0; i < (wide ? ASSAY_LEN(bits) : ASSAY_LEN(round)); i++) {
        if (ticks[i] < x->lo || ticks[i] > x->hi) continue;
        double at = assay_axis_at(x, ticks[i]);
        if (at - last < (wide ? 30 : 18)) continue;
        last = at;
        assay_str_printf(out,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                         "class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>",
                         at, at, base, base + 4, at, base + 17, ticks[i]);
    }
    assay_str_printf(
        out, "<text class=\"axis-name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">bits per weight</text>",
        c->w - c->right, c->h - 3);
}
