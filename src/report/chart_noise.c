/* chart_noise.c: what changes at all: flips against the noise floor, divergence from the baseline's
 * distribution, answer length. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/html.h"

/* --- flips, diverging bars in a table --- */

static size_t most_flips(const assay_report *r) {
    size_t most = 1;
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_gate *g = r->variants[i].gate;
        if (g) most = ASSAY_MAX(most, ASSAY_MAX(g->n_flips_to_wrong, g->n_flips_to_right));
        if (g && g->rerun_id) most = ASSAY_MAX(most, g->aa_flips);
    }
    return most;
}

/* Square-root scale, so that five flips remain visible beside two thousand. */
static double bar(size_t n, size_t most) {
    return 50 * sqrt((double)n / (double)most);
}

static void flip_row(assay_str *out, const char *name, const assay_report_variant *v, const char *note,
                     size_t worse, size_t better, size_t most, const char *changed) {
    double w = bar(worse, most), b = bar(better, most);
    assay_str_put(out, "<tr><th scope=\"row\">");
    if (v)
        assay_html_name(out, v);
    else
        assay_html_text(out, name);
    if (note) assay_str_printf(out, "<span class=\"sub\">%s</span>", note);
    assay_str_printf(
        out,
        "</th><td class=\"num\">%zu</td><td class=\"plot\"><svg class=\"flipbar\" aria-hidden=\"true\">"
        "<rect class=\"worse\" x=\"%.2f%%\" y=\"20%%\" width=\"%.2f%%\" height=\"60%%\"/><rect "
        "class=\"better\" x=\"50%%\" y=\"20%%\" width=\"%.2f%%\" height=\"60%%\"/>"
        "<line class=\"zero\" x1=\"50%%\" x2=\"50%%\" y1=\"0\" y2=\"100%%\"/></svg></td><td "
        "class=\"num\">%zu</td><td class=\"num wide\">%s</td></tr>\n",
        worse, 50 - w, w, b, better, changed);
}

static void put_flips(assay_str *out, const assay_report *r) {
    size_t most = most_flips(r);
    const assay_gate *first = assay_show_first_gate(r);
    char buf[32];
    assay_str_put(out, "<div class=\"block\"><h3>Flips</h3><p>Items that changed from right to wrong and "
                       "from wrong to right. "
                       "The baseline against itself is the noise floor. Bars grow with the square root.</p>"
                       "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Flips\"><table "
                       "class=\"flips-table\"><thead><tr><th scope=\"col\">Variant</th>"
                       "<th scope=\"col\" class=\"num\">To wrong</th><th scope=\"col\" "
                       "class=\"plot\"></th><th scope=\"col\" class=\"num\">To right</th>"
                       "<th scope=\"col\" class=\"num wide\">Other text</th></tr></thead><tbody>\n");
    if (first->rerun_id)
        flip_row(out, first->baseline, NULL, "run again (A/A)", first->aa_flips, 0, most, "");
    else {
        assay_str_put(out, "<tr><th scope=\"row\">");
        assay_html_text(out, first->baseline);
        assay_str_put(out, "<span class=\"sub\">run again (A/A)</span></th><td colspan=\"4\" "
                           "class=\"dim\">not run in this study</td></tr>\n");
    }
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_gate *g = r->variants[i].gate;
        if (g)
            flip_row(out, NULL, &r->variants[i], NULL, g->n_flips_to_wrong, g->n_flips_to_right, most,
                     assay_show_count(buf, sizeof buf, (double)g->n_changed));
    }
    assay_str_put(out, "</tbody></table></div></div>\n");
}

/* --- KL percentiles on a logarithmic scale --- */

static bool kl_range(assay_axis *x, const assay_report *r) {
    double lo = INFINITY, hi = 0;
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_kl *k = &r->variants[i].kl;
        if (!k->n) continue;
        const double v[] = {k->mean, k->p50, k->p99, k->max};
        for (size_t j = 0; j < ASSAY_LEN(v); j++) {
            if (v[j] > 0) lo = ASSAY_MIN(lo, v[j]);
            if (isfinite(v[j])) hi = ASSAY_MAX(hi, v[j]);
        }
    }
    if (!(hi > 0)) return false;
    lo = pow(10, floor(log10(lo)));
    hi = pow(10, ceil(log10(hi)));
    *x = (assay_axis){.lo = lo, .hi = hi > lo ? hi : lo * 10, .a = 0, .b = 100, .log = true};
    return true;
}

static double kl_at(const assay_axis *x, double v) {
    return v > 0 ? assay_axis_at(x, v) : 0;
}

static void kl_row(assay_str *out, const assay_report_variant *v, const assay_axis *x) {
    const assay_report_kl *k = &v->kl;
    char a[32], b[32], c[32], d[32];
    assay_str_put(out, "<tr><th scope=\"row\">");
    assay_html_name(out, v);
    assay_str_printf(out,
                     "</th><td class=\"num\">%s</td><td class=\"plot\"><svg class=\"klbar\" role=\"img\" "
                     "aria-label=\"median %s, 90th percentile %s, 99th percentile %s\">",
                     assay_show_nats(a, sizeof a, k->mean), assay_show_nats(b, sizeof b, k->p50),
                     assay_show_nats(c, sizeof c, k->p90), assay_show_nats(d, sizeof d, k->p99));
    for (double e = x->lo; e <= x->hi * 1.01; e *= 10)
        assay_str_printf(out, "<line class=\"grid\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"100%%\"/>",
                         kl_at(x, e), kl_at(x, e));
    assay_str_printf(out, "<line class=\"thin\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"50%%\" y2=\"50%%\"/>",
                     kl_at(x, k->p50), kl_at(x, k->max));
    assay_str_printf(out, "<line class=\"thick\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"50%%\" y2=\"50%%\"/>",
                     kl_at(x, k->p50), kl_at(x, k->p90));
    assay_str_printf(out, "<line class=\"end\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"25%%\" y2=\"75%%\"/>",
                     kl_at(x, k->p99), kl_at(x, k->p99));
    assay_str_printf(out,
                     "<circle class=\"dot\" cx=\"%.2f%%\" cy=\"50%%\" r=\"4\"/></svg></td><td "
                     "class=\"num\">%s</td><td class=\"num wide\">%s</td></tr>\n",
                     kl_at(x, k->mean), d, assay_show_number(a, sizeof a, 1, k->top1 * 100));
}

static void put_kl(assay_str *out, const assay_report *r) {
    assay_axis x;
    const char *unit = NULL;
    if (!kl_range(&x, r)) return;
    for (size_t i = 0; i < r->n_variants && !unit; i++)
        if (r->variants[i].kl.n) unit = r->variants[i].kl.unit;
    assay_str_put(out,
                  "<div class=\"block\"><h3>Divergence from the baseline</h3><p>KL divergence in nats per ");
    assay_html_text(out, unit ? unit : "token");
    assay_str_put(out, ", logarithmic. Dot: mean. Thick line: median to 90th percentile; tick: 99th; thin "
                       "line: to the largest. It measures how much "
                       "changes, not whether it got worse.</p><div class=\"scroll\" tabindex=\"0\" "
                       "role=\"region\" aria-label=\"KL divergence\">"
                       "<table class=\"kl-table\"><thead><tr><th scope=\"col\">Variant</th><th scope=\"col\" "
                       "class=\"num\">Mean</th><th scope=\"col\" class=\"plot\">"
                       "<svg class=\"axis\" aria-hidden=\"true\">");
    double decades = log10(x.hi / x.lo), step = pow(10, ceil(decades / 3));
    for (double e = x.lo; e <= x.hi * 1.01; e *= step)
        assay_str_printf(out, "<text x=\"%.2f%%\" y=\"14\"%s>%g</text>", kl_at(&x, e),
                         e <= x.lo * 1.01   ? " class=\"first\""
                         : e >= x.hi * 0.99 ? " class=\"last\""
                                            : "",
                         e);
    assay_str_put(out, "</svg></th><th scope=\"col\" class=\"num\">p99</th><th scope=\"col\" class=\"num "
                       "wide\">Same top, %</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].kl.n) kl_row(out, &r->variants[i], &x);
    assay_str_put(out, "</tbody></table></div></div>\n");
}

/* --- output length ratio: variants x dimensions --- */

static bool has_lengths(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        for (size_t k = 0; r->variants[i].gate && k < r->variants[i].gate->n_rows; k++)
            if (!isnan(r->variants[i].gate->rows[k].length.value)) return true;
    return false;
}

static bool has_length(const assay_gate_row *row) {
    return !row->slice && !isnan(row->length.value);
}

static void put_lengths(assay_str *out, const assay_report *r) {
    const assay_gate *g = assay_show_first_gate(r);
    char buf[32];
    if (!has_lengths(r)) return;
    assay_str_put(out, "<div class=\"block\"><h3>Answer length</h3><p>Mean tokens per answer, as a ratio to "
                       "the baseline's. Longer answers cost more and "
                       "often mean rambling.</p><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                       "aria-label=\"Answer length\"><table><thead><tr><th scope=\"col\">Variant</th>");
    for (size_t k = 0; k < g->n_rows; k++) {
        if (!has_length(&g->rows[k])) continue;
        assay_str_put(out, "<th scope=\"col\" class=\"num\">");
        assay_html_text(out, g->rows[k].dimension);
        if (!isnan(g->rows[k].length.limit))
            assay_str_printf(out, "<span class=\"sub\">limit %s</span>",
                             assay_show_number(buf, sizeof buf, 2, g->rows[k].length.limit));
        assay_str_put(out, "</th>");
    }
    assay_str_put(out, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_variants; i++) {
        if (!r->variants[i].gate) continue;
        assay_str_put(out, "<tr><th scope=\"row\">");
        assay_html_name(out, &r->variants[i]);
        assay_str_put(out, "</th>");
        for (size_t k = 0; k < g->n_rows; k++) {
            if (!has_length(&g->rows[k])) continue;
            const assay_gate_row *row = assay_show_row(r->variants[i].gate, g->rows[k].dimension, NULL);
            bool bad = row && row->length.verdict == ASSAY_VERDICT_FAIL;
            assay_str_printf(out, "<td class=\"num%s\">%s%s</td>", bad ? " bad" : "",
                             assay_show_number(buf, sizeof buf, 3, row ? row->length.value : NAN),
                             bad ? " ✗" : "");
        }
        assay_str_put(out, "</tr>\n");
    }
    assay_str_put(out, "</tbody></table></div></div>\n");
}

void assay_html_noise(assay_str *out, const assay_report *r) {
    if (!assay_html_has_gates(r)) return;
    assay_str_put(out, "<section id=\"noise\" aria-labelledby=\"noise-h\"><h2 id=\"noise-h\">Flips and "
                       "noise</h2>\n<div class=\"blocks\">\n");
    put_flips(out, r);
    put_kl(out, r);
    put_lengths(out, r);
    assay_str_put(out, "</div></section>\n");
}
