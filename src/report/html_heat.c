/* html_heat.c: what each matrix lost, role by layer, as a heat map that is a table: the number stands in
 * every cell while there is room for it, and always in its title and for screen readers. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/html.h"

#define MOST_ROLES   32
#define SHADES       8  /* in the legend */
#define MOST_NUMBERS 16 /* layers; with more the cells hold colour alone */

/* The output error where calibration gave one, else the weight error. */
static double loss_of(const assay_layer_loss *l) {
    return isnan(l->output_error) ? l->weight_error : l->output_error;
}

typedef struct heat {
    const char *roles[MOST_ROLES];
    size_t n_roles;
    int first, last; /* layers */
    double lo, hi;   /* of the variant shown: what stands out within it is what matters */
    bool on_outputs;
} heat;

static const char *role_of(const assay_layer_loss *l) {
    return l->role && *l->role ? l->role : "other";
}

static size_t role_index(const heat *h, const char *role) {
    for (size_t i = 0; i < h->n_roles; i++)
        if (strcmp(h->roles[i], role) == 0) return i;
    return h->n_roles;
}

/* Roles in the order in which they first occur, and the range of layers, of all variants: their maps have the
 * same shape. */
static void scan(heat *h, const assay_report *r) {
    *h = (heat){.first = 1 << 30, .last = -1};
    for (size_t v = 0; v < r->n_variants; v++) {
        for (size_t i = 0; i < r->variants[v].n_losses; i++) {
            const assay_layer_loss *l = &r->variants[v].losses[i];
            if (role_index(h, role_of(l)) == h->n_roles && h->n_roles < MOST_ROLES)
                h->roles[h->n_roles++] = role_of(l);
            h->first = ASSAY_MIN(h->first, l->layer);
            h->last = ASSAY_MAX(h->last, l->layer);
            if (!isnan(l->output_error)) h->on_outputs = true;
        }
    }
}

static void set_range(heat *h, const assay_report_variant *v) {
    h->lo = INFINITY;
    h->hi = 0;
    for (size_t i = 0; i < v->n_losses; i++) {
        double x = loss_of(&v->losses[i]);
        if (x > 0) h->lo = ASSAY_MIN(h->lo, x), h->hi = ASSAY_MAX(h->hi, x);
    }
}

/* 0 to 100 on a logarithmic scale from the least to the largest loss. */
static int shade(const heat *h, double x) {
    if (!(x > 0) || !(h->hi > h->lo)) return 0;
    double t = (log(x) - log(h->lo)) / (log(h->hi) - log(h->lo));
    return (int)(100 * ASSAY_MAX(0.0, ASSAY_MIN(1.0, t)) + 0.5);
}

/* 0.083, 0.0041, 1.2e-05: two digits that matter. */
static const char *short_number(char *buf, size_t n, double x) {
    if (isnan(x))
        snprintf(buf, n, "–");
    else if (x == 0)
        snprintf(buf, n, "0");
    else if (x < 1e-4)
        snprintf(buf, n, "%.1e", x);
    else
        snprintf(buf, n, "%.*f", x >= 0.1 ? 2 : x >= 0.01 ? 3 : 4, x);
    return buf;
}

static void put_cell(assay_str *out, const heat *h, const assay_layer_loss *l) {
    char a[32], b[32], w[32], o[32];
    if (!l) {
        assay_str_put(out, "<td></td>");
        return;
    }
    int t = shade(h, loss_of(l));
    assay_str_printf(out, "<td class=\"heat%s\" style=\"--t:%d%%\" title=\"", t > 55 ? " hot" : "", t);
    assay_html_text(out, l->tensor);
    assay_str_put(out, ": ");
    assay_html_text(out, l->precision);
    assay_str_printf(
        out, ", %s bits per weight, weight error %s, output error %s\"><span%s>%s</span></td>",
        assay_show_number(b, sizeof b, 3, l->bits), assay_show_number(w, sizeof w, 6, l->weight_error),
        assay_show_number(o, sizeof o, 6, l->output_error),
        h->last - h->first >= MOST_NUMBERS ? " class=\"sr\"" : "", short_number(a, sizeof a, loss_of(l)));
}

static const assay_layer_loss *find_loss(const assay_report_variant *v, int layer, const char *role) {
    for (size_t i = 0; i < v->n_losses; i++)
        if (v->losses[i].layer == layer && strcmp(role_of(&v->losses[i]), role) == 0) return &v->losses[i];
    return NULL;
}

static void put_map(assay_str *out, const heat *h, const assay_report_variant *v) {
    bool many = h->last - h->first >= MOST_NUMBERS;
    assay_str_printf(out,
                     "<div class=\"scroll fit\" tabindex=\"0\" role=\"region\" aria-label=\"Loss per "
                     "matrix\"><table class=\"heatmap%s\"><thead><tr><th scope=\"col\">Layer</th>",
                     many ? " many" : "");
    for (int layer = h->first; layer <= h->last; layer++) {
        if (layer < 0)
            assay_str_put(out, "<th scope=\"col\">other</th>");
        else
            assay_str_printf(out, "<th scope=\"col\">%d</th>", layer);
    }
    assay_str_put(out, "</tr></thead><tbody>\n");
    for (size_t k = 0; k < h->n_roles; k++) {
        assay_str_put(out, "<tr><th scope=\"row\">");
        assay_html_text(out, h->roles[k]);
        assay_str_put(out, "</th>");
        for (int layer = h->first; layer <= h->last; layer++)
            put_cell(out, h, find_loss(v, layer, h->roles[k]));
        assay_str_put(out, "</tr>\n");
    }
    assay_str_put(out, "</tbody></table></div>\n");
}

static void put_legend(assay_str *out, const heat *h) {
    char lo[32], hi[32];
    if (!(h->hi > h->lo)) return;
    assay_str_printf(out, "<div class=\"legend\" aria-hidden=\"true\"><span>%s</span>",
                     short_number(lo, sizeof lo, h->lo));
    for (int s = 0; s < SHADES; s++)
        assay_str_printf(out, "<i class=\"heat\" style=\"--t:%d%%\"></i>", s * 100 / (SHADES - 1));
    assay_str_printf(out, "<span>%s</span></div>\n", short_number(hi, sizeof hi, h->hi));
}

void assay_html_heat(assay_str *out, const assay_report *r) {
    heat h;
    if (!assay_html_has_losses(r)) return;
    scan(&h, r);
    assay_str_printf(out,
                     "<section id=\"losses\" aria-labelledby=\"losses-h\"><h2 id=\"losses-h\">What each "
                     "matrix lost</h2>\n<p>Relative error of %s per matrix. "
                     "Shades are logarithmic, from the least to the largest loss of the variant.</p>\n",
                     h.on_outputs
                         ? "the outputs on the calibration inputs (of the weights where there were none)"
                         : "the weights");
    for (size_t i = 0; i < r->n_variants; i++) {
        assay_html_panel_open(out, r, i);
        if (r->variants[i].n_losses) {
            set_range(&h, &r->variants[i]);
            put_legend(out, &h);
            put_map(out, &h, &r->variants[i]);
        } else
            assay_str_put(out, "<p class=\"empty\">Nothing was quantized here.</p>\n");
        assay_html_panel_close(out);
    }
    assay_str_put(out, "</section>\n");
}
