/* html_verdict.c: decision box, verdict matrix and the forest of dimensions and slices. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/html.h"

/* --- decision --- */

/* The judged row that has least room: its lower bound is nearest to, or furthest beyond, its margin, as a
 * share of the margin. */
static const assay_gate_row *tightest(const assay_gate *g) {
    const assay_gate_row *best = NULL;
    double least = INFINITY;
    for (size_t i = 0; g && i < g->n_rows; i++) {
        const assay_gate_row *row = &g->rows[i];
        if (isnan(row->margin) || row->margin <= 0 || isnan(row->lower)) continue;
        double room = (row->lower + row->margin) / row->margin;
        if (room < least) least = room, best = row;
    }
    return best;
}

static void tile(assay_str *out, const char *name, const char *value, const char *note) {
    assay_str_printf(out, "<div class=\"tile\"><dt>%s</dt><dd>", name);
    assay_html_text(out, value);
    assay_str_put(out, "</dd>");
    if (note && *note) {
        assay_str_put(out, "<dd class=\"note\">");
        assay_html_text(out, note);
        assay_str_put(out, "</dd>");
    }
    assay_str_put(out, "</div>");
}

static void put_tiles(assay_str *out, const assay_report *r, const assay_report_variant *v) {
    const assay_report_variant *base = assay_show_baseline(r);
    char a[64], b[32], c[32], note[160];
    assay_str_put(out, "<dl class=\"tiles\">");
    tile(out, "Ship", v->name, v->recipe);
    if (isfinite(v->effective_bpw)) {
        note[0] = '\0';
        if (isfinite(base->effective_bpw)) snprintf(note, sizeof note, "baseline %.2f", base->effective_bpw);
        tile(out, "Bits per weight", assay_show_number(a, sizeof a, 2, v->effective_bpw), note);
    }
    if (isfinite(v->size_bytes)) {
        note[0] = '\0';
        if (isfinite(base->size_bytes) && base->size_bytes > 0)
            snprintf(note, sizeof note, "%.0f %% of the baseline's %s",
                     v->size_bytes / base->size_bytes * 100, assay_show_size(b, sizeof b, base->size_bytes));
        tile(out, "Size on disk", assay_show_size(a, sizeof a, v->size_bytes), note);
    }
    const assay_gate_row *row = tightest(v->gate);
    if (row) {
        snprintf(a, sizeof a, "%.20s%s%.30s", row->dimension, row->slice ? " / " : "",
                 row->slice ? row->slice : "");
        snprintf(note, sizeof note, "surely no worse than %s %s; allowed %s",
                 assay_show_diff(b, sizeof b, row->metric, row->lower), assay_show_unit(row->metric),
                 assay_show_diff(c, sizeof c, row->metric, -row->margin));
        tile(out, "Closest to its margin", a, note);
    }
    assay_str_put(out, "</dl>");
}

static void put_list(assay_str *out, const char *title, const char *class, const char *const *items,
                     size_t n) {
    if (!n) return;
    assay_str_printf(out, "<div class=\"%s\"><h3>%s</h3><ul>", class, title);
    for (size_t i = 0; i < n; i++) {
        assay_str_put(out, "<li>");
        assay_html_text(out, items[i]);
        assay_str_put(out, "</li>");
    }
    assay_str_put(out, "</ul></div>");
}

void assay_html_decision(assay_str *out, const assay_report *r) {
    const assay_report_decision *d = &r->decision;
    const assay_report_variant *v = assay_show_chosen(r);
    assay_str_printf(out,
                     "<section id=\"decision\" class=\"decision %s\" aria-labelledby=\"decision-h\"><p "
                     "class=\"eyebrow\" id=\"decision-h\">Decision ",
                     assay_html_class(d->verdict));
    assay_html_badge(out, d->verdict);
    assay_str_put(out, "</p>\n<h2>");
    assay_html_text(out, d->headline ? d->headline : "No decision was recorded.");
    assay_str_put(out, "</h2>\n");
    assay_str caution = {0};
    assay_show_caution(&caution, r);
    if (caution.len) {
        assay_str_put(out, "<p class=\"caution\"><span class=\"research\">research</span> ");
        assay_html_text(out, assay_str_c(&caution));
        assay_str_put(out, "</p>\n");
    }
    if (caution.failed) out->failed = true;
    assay_str_free(&caution);
    if (v) put_tiles(out, r, v);
    if (d->n_reasons || d->n_next) {
        assay_str_put(out, "<div class=\"why\">");
        put_list(out, "Why", "reasons", d->reasons, d->n_reasons);
        put_list(out, "Next", "next", d->next, d->n_next);
        assay_str_put(out, "</div>\n");
    }
    assay_str_put(out, "</section>\n");
}

/* --- matrix --- */

static void matrix_cell(assay_str *out, const assay_gate_row *row) {
    char d[32], lo[32], hi[32];
    if (!row) {
        assay_str_put(out, "<td class=\"num dim\">–</td>");
        return;
    }
    assay_str_printf(out, "<td class=\"cell %s\" title=\"", assay_html_class(row->verdict));
    assay_html_text(out, row->reason);
    assay_str_printf(out,
                     "\"><span class=\"d\"><span class=\"sym\" aria-hidden=\"true\">%s</span> %s</span><span "
                     "class=\"ci\">%s to %s</span>"
                     "<span class=\"sr\">%s</span></td>",
                     assay_show_symbol(row->verdict), assay_show_diff(d, sizeof d, row->metric, row->diff),
                     assay_show_diff(lo, sizeof lo, row->metric, row->lower),
                     assay_show_diff(hi, sizeof hi, row->metric, row->upper),
                     assay_verdict_name(row->verdict));
}

static void matrix_head(assay_str *out, const assay_gate *g) {
    char m[32];
    assay_str_put(
        out, "<thead><tr><th scope=\"col\">Variant</th><th scope=\"col\">Verdict</th>"
             "<th scope=\"col\" class=\"num\">Bits per weight<span class=\"sub\">size on disk</span></th>");
    for (size_t i = 0; g && i < g->n_rows; i++) {
        const assay_gate_row *row = &g->rows[i];
        if (row->slice) continue;
        assay_str_put(out, "<th scope=\"col\" class=\"num\">");
        assay_html_text(out, row->dimension);
        assay_str_printf(out, "<span class=\"sub\">n %zu</span><span class=\"sub\">", row->n_paired);
        if (isnan(row->margin))
            assay_str_put(out, "not judged");
        else
            assay_str_printf(out, "margin %s", assay_show_margin(m, sizeof m, row->metric, row->margin));
        assay_str_put(out, "</span></th>");
    }
    assay_str_put(out, "</tr></thead>");
}

static void matrix_verdict(assay_str *out, const assay_report_variant *v, bool base) {
    assay_str_put(out, "<td>");
    if (v->problem) {
        assay_str_put(out, "<span class=\"badge v-fail\">no result</span><span class=\"recipe\">");
        assay_html_text(out, v->problem);
        assay_str_put(out, "</span>");
    } else if (v->gate)
        assay_html_badge(out, v->gate->verdict);
    else
        assay_str_printf(out, "<span class=\"dim\">%s</span>", base ? "baseline" : "not compared");
    assay_str_put(out, "</td>");
}

static void matrix_row(assay_str *out, const assay_report *r, size_t index, const assay_gate *g) {
    const assay_report_variant *v = &r->variants[index];
    bool base = v == assay_show_baseline(r), chosen = v == assay_show_chosen(r);
    char b[32], s[32], m[32];
    assay_str_printf(out, "<tr%s data-pick=\"%zu\"><th scope=\"row\"><span class=\"name\">",
                     chosen ? " class=\"chosen\""
                     : base ? " class=\"base\""
                            : "",
                     index);
    assay_html_name(out, v);
    assay_str_put(out, "</span>");
    if (chosen) assay_str_put(out, "<span class=\"tag\">ship this</span>");
    assay_str_put(out, "<span class=\"recipe\">");
    assay_html_text(out, v->recipe);
    assay_str_put(out, "</span></th>");
    matrix_verdict(out, v, base);
    assay_str_printf(out, "<td class=\"num\">%s<span class=\"sub\">%s</span>",
                     assay_show_number(b, sizeof b, 2, v->effective_bpw),
                     assay_show_size(s, sizeof s, v->size_bytes));
    if (v->kv) {
        assay_str_put(out, "<span class=\"sub\">KV cache ");
        assay_html_text(out, v->kv);
        assay_str_put(out, "</span>");
    }
    assay_str_put(out, "</td>");
    for (size_t i = 0; g && i < g->n_rows; i++) {
        if (g->rows[i].slice) continue;
        if (base)
            assay_str_printf(out, "<td class=\"num\">%s</td>",
                             assay_show_mean(m, sizeof m, g->rows[i].metric, g->rows[i].baseline));
        else
            matrix_cell(out, assay_show_row(v->gate, g->rows[i].dimension, NULL));
    }
    assay_str_put(out, "</tr>\n");
}

#define TALL 12 /* rows from which on the matrix scrolls in its own box under its heading */

void assay_html_matrix(assay_str *out, const assay_report *r) {
    const assay_gate *g = assay_show_first_gate(r);
    const assay_policy *p = assay_show_policy(r);
    assay_str_put(out, "<section id=\"variants\" aria-labelledby=\"variants-h\"><h2 "
                       "id=\"variants-h\">Variants and dimensions</h2>\n<p>");
    if (g) {
        assay_str_put(out, "Each cell is the difference to the baseline with its interval, in points "
                           "(perplexity and KL in nats); negative is worse. "
                           "<b>Pass</b>: surely no worse than the margin. <b>Fail</b>: surely worse than the "
                           "margin, or a limit is broken. "
                           "<b>Inconclusive</b>: too few items to tell.");
        if (p) assay_str_printf(out, " Every bound holds with %.0f %% confidence.", p->confidence * 100);
    }
    if (assay_show_any_research(r))
        assay_str_printf(
            out, " <span class=\"research\">research</span>: codes of fewer than %d bits in some matrices.",
            ASSAY_REPORT_RESEARCH_BITS);
    assay_str_printf(out,
                     "</p>\n<div class=\"scroll%s\" tabindex=\"0\" role=\"region\" aria-label=\"Variants and "
                     "dimensions\"><table class=\"matrix\">",
                     r->n_variants > TALL ? " tall" : "");
    matrix_head(out, g);
    assay_str_put(out, "<tbody>\n");
    for (size_t i = 0; i < r->n_variants; i++)
        matrix_row(out, r, i, g);
    assay_str_put(out, "</tbody></table></div></section>\n");
}

/* --- forest --- */

static bool in_points(const assay_gate_row *r) {
    return r->metric != ASSAY_METRIC_PERPLEXITY && r->metric != ASSAY_METRIC_KL;
}

/* A common scale for all rows of a variant, in points, with the zero line and every margin in view. */
static void forest_range(double *lo, double *hi, const assay_gate *g) {
    *lo = -1;
    *hi = 1;
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        if (!in_points(r) || isnan(r->lower) || isnan(r->upper)) continue;
        *lo = ASSAY_MIN(*lo, r->lower * 100);
        *hi = ASSAY_MAX(*hi, r->upper * 100);
        if (!isnan(r->margin)) *lo = ASSAY_MIN(*lo, -r->margin * 130);
    }
    double pad = (*hi - *lo) * 0.03;
    *lo -= pad;
    *hi += pad;
}

static double share(double v, double lo, double hi) {
    return ASSAY_MAX(0.0, ASSAY_MIN(100.0, (v - lo) / (hi - lo) * 100));
}

static void forest_plot(assay_str *out, const assay_gate_row *r, double lo, double hi) {
    char a[32], b[32], c[32];
    if (!in_points(r) || isnan(r->lower) || isnan(r->upper)) {
        assay_str_printf(out, "<td class=\"plot text\">%s to %s %s</td>",
                         assay_show_diff(a, sizeof a, r->metric, r->lower),
                         assay_show_diff(b, sizeof b, r->metric, r->upper), assay_show_unit(r->metric));
        return;
    }
    double zero = share(0, lo, hi), x1 = share(r->lower * 100, lo, hi), x2 = share(r->upper * 100, lo, hi),
           x = share(r->diff * 100, lo, hi);
    assay_str_printf(out,
                     "<td class=\"plot\"><svg class=\"iv %s\" role=\"img\" aria-label=\"difference %s, "
                     "interval %s to %s points\">",
                     assay_html_class(r->verdict), assay_show_diff(a, sizeof a, r->metric, r->diff),
                     assay_show_diff(b, sizeof b, r->metric, r->lower),
                     assay_show_diff(c, sizeof c, r->metric, r->upper));
    if (!isnan(r->margin)) {
        double m = share(-r->margin * 100, lo, hi);
        assay_str_printf(out,
                         "<rect class=\"beyond\" x=\"0\" y=\"0\" width=\"%.2f%%\" height=\"100%%\"/>"
                         "<line class=\"margin\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"100%%\"/>",
                         m, m, m);
    }
    assay_str_printf(out,
                     "<line class=\"zero\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"100%%\"/>"
                     "<line class=\"bar\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"50%%\" y2=\"50%%\"/><circle "
                     "class=\"dot\" cx=\"%.2f%%\" cy=\"50%%\" r=\"%s\"/>"
                     "</svg></td>",
                     zero, zero, x1, x2, x, r->slice ? "3.5" : "5");
}

static void forest_axis(assay_str *out, double lo, double hi) {
    double ticks[12];
    size_t n = assay_axis_ticks(ticks, ASSAY_LEN(ticks), lo, hi, 5);
    assay_str_put(out, "<svg class=\"axis\" aria-hidden=\"true\">");
    for (size_t i = 0; i < n; i++)
        assay_str_printf(out,
                         ticks[i] == 0 ? "<text x=\"%.2f%%\" y=\"14\">%g</text>"
                                       : "<text x=\"%.2f%%\" y=\"14\">%+g</text>",
                         share(ticks[i], lo, hi), ticks[i]);
    assay_str_put(out, "</svg>");
}

static void forest_row(assay_str *out, const assay_gate_row *r, double lo, double hi) {
    char a[32], b[32];
    assay_str_printf(out, "<tr class=\"%s\"><th scope=\"row\">", r->slice ? "slice" : "dimension");
    assay_html_text(out, r->slice ? r->slice : r->dimension);
    if (!r->slice && r->metric != ASSAY_METRIC_ACCURACY)
        assay_str_printf(out, "<span class=\"sub\">%s</span>", assay_metric_name(r->metric));
    assay_str_printf(
        out,
        "</th><td class=\"num wide\">%zu</td><td class=\"num wide\">%s</td><td class=\"num wide\">%s</td>",
        r->n_paired, assay_show_mean(a, sizeof a, r->metric, r->baseline),
        assay_show_mean(b, sizeof b, r->metric, r->variant));
    forest_plot(out, r, lo, hi);
    assay_str_printf(out, "<td class=\"num\">%s</td>", assay_show_diff(a, sizeof a, r->metric, r->diff));
    if (r->metric == ASSAY_METRIC_ACCURACY)
        assay_str_printf(out, "<td class=\"num wide\">%zu / %zu</td>", r->right_wrong, r->wrong_right);
    else
        assay_str_put(out, "<td class=\"num wide dim\">–</td>");
    assay_str_put(out, "<td class=\"num wide\">");
    assay_html_text(out, assay_show_p(a, sizeof a, r->p_holm)); /* it may be "<0.001" */
    assay_str_printf(out, "%s</td><td class=\"num wide\">%s</td><td>",
                     r->alarm ? " <b class=\"bad\" title=\"harm alarm\">!</b>" : "",
                     assay_show_mean(b, sizeof b, r->metric, r->mde));
    assay_html_badge(out, r->verdict);
    if (r->verdict == ASSAY_VERDICT_INCONCLUSIVE && r->items_needed > 0)
        assay_str_printf(out, "<span class=\"sub\">needs %s items</span>",
                         isinf(r->items_needed) ? "ever more"
                                                : assay_show_count(a, sizeof a, ceil(r->items_needed)));
    if (r->waiver) {
        assay_str_put(out, "<span class=\"sub\">waived by ");
        assay_html_text(out, r->waiver->who);
        assay_str_put(out, ": ");
        assay_html_text(out, r->waiver->why);
        assay_str_put(out, "</span>");
    }
    assay_str_put(out, "</td></tr>\n");
}

void assay_html_forest(assay_str *out, const assay_report *r) {
    if (!assay_html_has_gates(r)) return;
    assay_str_put(
        out,
        "<section id=\"slices\" aria-labelledby=\"slices-h\"><h2 id=\"slices-h\">Dimensions and slices</h2>\n"
        "<p>Point: difference to the baseline. Line: its interval. <span class=\"key-margin\">Shaded</span>: "
        "beyond the margin. "
        "A row passes when its whole line is right of the shade. p is for harm, adjusted over all rows "
        "(Holm); "
        "MDE is the smallest loss that so many items would find.</p>\n");
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_gate *g = r->variants[i].gate;
        double lo, hi;
        if (!g) continue;
        forest_range(&lo, &hi, g);
        assay_html_panel_open(out, r, i);
        if (g->reason) {
            assay_str_put(out, "<p class=\"reason\">");
            assay_html_text(out, g->reason);
            assay_str_put(out, "</p>");
        }
        assay_str_put(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Differences "
                           "per slice\"><table class=\"forest\"><thead><tr>"
                           "<th scope=\"col\">Slice</th><th scope=\"col\" class=\"num wide\">n</th><th "
                           "scope=\"col\" class=\"num wide\">Baseline</th>"
                           "<th scope=\"col\" class=\"num wide\">Variant</th><th scope=\"col\" "
                           "class=\"plot\"><span class=\"sr\">Interval in points</span>");
        forest_axis(out, lo, hi);
        assay_str_put(out, "</th><th scope=\"col\" class=\"num\">Diff.</th><th scope=\"col\" class=\"num "
                           "wide\">Worse / better</th>"
                           "<th scope=\"col\" class=\"num wide\">p</th><th scope=\"col\" class=\"num "
                           "wide\">MDE</th><th scope=\"col\">Verdict</th></tr></thead><tbody>\n");
        for (size_t k = 0; k < g->n_rows; k++)
            forest_row(out, &g->rows[k], lo, hi);
        assay_str_put(out, "</tbody></table></div>\n");
        assay_html_panel_close(out);
    }
    assay_str_put(out, "</section>\n");
}
