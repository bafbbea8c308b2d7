/* html.c: the one self-contained HTML file: escaping, the frame of the page, generic tables.
 *
 *   head      a Content-Security-Policy that forbids every request and admits one script, by its hash
 *   body      decision, variants, what a bit buys, quality against size, flips; then what belongs to the
 * selected variant; manifest Style and script come from web/ at build time (build/gen/assets.h). */
#include "report/html.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "assets.h"
#include "base/hash.h"

/* --- escaping --- */

static void put_escaped(assay_str *out, uint32_t c) {
    switch (c) {
    case '&':
        assay_str_put(out, "&amp;");
        return;
    case '<':
        assay_str_put(out, "&lt;");
        return;
    case '>':
        assay_str_put(out, "&gt;");
        return;
    case '"':
        assay_str_put(out, "&quot;");
        return;
    case '\'':
        assay_str_put(out, "&#39;");
        return;
    case '\n':
        assay_str_putc(out, '\n');
        return;
    case '\t':
        assay_str_putc(out, '\t');
        return;
    default:
        break;
    }
    bool hidden = c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
                  (c >= 0x2066 && c <= 0x2069) || (c & 0xFFFE) == 0xFFFE;
    if (hidden)
        assay_str_printf(out, "⟨U+%04X⟩", (unsigned)c);
    else
        assay_utf8_put(out, (int32_t)c);
}

void assay_html_textn(assay_str *out, const char *s, size_t n) {
    for (size_t i = 0; s && i < n;) {
        uint32_t c;
        i += assay_utf8_read(&c, s + i, n - i);
        put_escaped(out, c);
    }
}

void assay_html_text(assay_str *out, const char *s) {
    if (s) assay_html_textn(out, s, strlen(s));
}

/* --- small pieces --- */

void assay_html_name(assay_str *out, const assay_report_variant *v) {
    assay_html_text(out, v->name);
    if (assay_show_research(v))
        assay_str_printf(out, " <span class=\"research\" title=\"codes of %d bits\">research</span>",
                         v->code_bits);
}

const char *assay_html_class(assay_verdict v) {
    static const char *const names[] = {"v-pass", "v-fail", "v-open", "v-waived", "v-info"};
    return (unsigned)v < ASSAY_LEN(names) ? names[v] : "v-info";
}

void assay_html_badge(assay_str *out, assay_verdict v) {
    assay_str_printf(out, "<span class=\"badge %s\"><span aria-hidden=\"true\">%s</span> %s</span>",
                     assay_html_class(v), assay_show_symbol(v), assay_verdict_name(v));
}

assay_status assay_html_table(assay_str *out, assay_table *t, const char *label, assay_err *err) {
    static const char *const tones[] = {"", "good", "bad", "open", "dim", "strong"};
    if (t->failed) {
        assay_table_free(t);
        return assay_nomem(err);
    }
    assay_str_printf(out,
                     "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table "
                     "class=\"generic\"><thead><tr>",
                     label);
    for (size_t c = 0; c < t->n_columns; c++) {
        assay_str_put(out, t->columns[c].right ? "<th scope=\"col\" class=\"num\">" : "<th scope=\"col\">");
        assay_html_text(out, t->columns[c].head);
        assay_str_put(out, "</th>");
    }
    assay_str_put(out, "</tr></thead><tbody>\n");
    bool ruled = false;
    for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns) {
        if (!t->cells[i]) {
            ruled = true;
            continue;
        }
        assay_str_put(out, ruled ? "<tr class=\"ruled\">" : "<tr>");
        ruled = false;
        for (size_t c = 0; c < t->n_columns; c++) {
            assay_tone tone = t->tones[i + c];
            const char *tag = c ? "td" : "th";
            assay_str_printf(out, "<%s%s class=\"%s%s%s\">", tag, c ? "" : " scope=\"row\"",
                             t->columns[c].right ? "num" : "", t->columns[c].right && tone ? " " : "",
                             tones[tone]);
            assay_html_text(out, t->cells[i + c]);
            assay_str_printf(out, "</%s>", tag);
        }
        assay_str_put(out, "</tr>\n");
    }
    assay_str_put(out, "</tbody></table></div>\n");
    assay_table_free(t);
    return assay_str_status(out, err);
}

void assay_html_panel_open(assay_str *out, const assay_report *r, size_t variant) {
    const assay_report_variant *v = &r->variants[variant];
    assay_str_printf(out, "<div class=\"panel\" data-variant=\"%zu\"><h3>", variant);
    assay_html_name(out, v);
    if (v->gate) {
        assay_str_putc(out, ' ');
        assay_html_badge(out, v->gate->verdict);
    }
    assay_str_put(out, "</h3>\n");
}

void assay_html_panel_close(assay_str *out) {
    assay_str_put(out, "</div>\n");
}

bool assay_html_has_gates(const assay_report *r) {
    return assay_show_first_gate(r) != NULL;
}

bool assay_html_has_losses(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].n_losses) return true;
    return false;
}

bool assay_html_has_plans(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].plan) return true;
    return false;
}

/* --- the frame --- */

static int hex_value(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* The script's SHA-256 in base64, as Content-Security-Policy wants it. */
static void put_script_hash(assay_str *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char hex[ASSAY_HASH_HEX];
    unsigned char b[33] = {0};
    assay_hash_bytes(hex, asset_report_js, asset_report_js_size);
    for (int i = 0; i < 32; i++)
        b[i] = (unsigned char)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
    for (int i = 0; i < 33; i += 3) {
        unsigned v = (unsigned)b[i] << 16 | (unsigned)b[i + 1] << 8 | b[i + 2];
        assay_str_putc(out, digits[v >> 18]);
        assay_str_putc(out, digits[v >> 12 & 63]);
        assay_str_putc(out, digits[v >> 6 & 63]);
        assay_str_putc(out, i == 30 ? '=' : digits[v & 63]);
    }
}

static void put_head(assay_str *out, const assay_report *r) {
    assay_str_put(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                       "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                       "'unsafe-inline'; script-src 'sha256-");
    put_script_hash(out);
    assay_str_put(out, "'; base-uri 'none'; form-action 'none'\">\n"
                       "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta "
                       "name=\"color-scheme\" content=\"light dark\">\n"
                       "<meta name=\"generator\" content=\"assay\">\n<title>");
    assay_html_text(out, r->title);
    assay_str_put(out, " · assay report</title>\n<style>\n");
    assay_str_putn(out, asset_report_css, asset_report_css_size);
    assay_str_put(out, "</style>\n<script>");
    assay_str_putn(out, asset_report_js, asset_report_js_size);
    assay_str_put(
        out, "</script>\n</head>\n<body>\n<a class=\"skip\" href=\"#decision\">Skip to the decision</a>\n");
}

static void put_fact(assay_str *out, const char *name, const char *value) {
    if (!value || !*value) return;
    assay_str_printf(out, "<div><dt>%s</dt><dd>", name);
    assay_html_text(out, value);
    assay_str_put(out, "</dd></div>");
}

static void put_nav(assay_str *out, const assay_report *r) {
    const struct {
        const char *id, *name;
        bool show;
    } items[] = {
        {"decision", "Decision", true},
        {"variants", "Variants", true},
        {"curve", "What a bit buys", assay_html_has_curve(r)},
        {"quality", "Quality and size", assay_html_has_gates(r)},
        {"noise", "Flips and noise", assay_html_has_gates(r)},
        {"slices", "Slices", assay_html_has_gates(r)},
        {"flips", "Side by side", assay_html_has_gates(r)},
        {"losses", "Losses", assay_html_has_losses(r)},
        {"deployment", "Deployment", assay_html_has_plans(r)},
        {"manifest", "Manifest", true},
    };
    assay_str_put(out, "<nav aria-label=\"Sections\"><ul>");
    for (size_t i = 0; i < ASSAY_LEN(items); i++)
        if (items[i].show)
            assay_str_printf(out, "<li><a href=\"#%s\">%s</a></li>", items[i].id, items[i].name);
    assay_str_put(out, "</ul></nav>\n");
}

static void put_header(assay_str *out, const assay_report *r) {
    assay_str_put(
        out,
        "<header class=\"top\"><div class=\"wrap\"><div class=\"brand\"><span class=\"mark\">assay</span>"
        "<button type=\"button\" id=\"theme\" hidden aria-label=\"Colour theme\">Theme: "
        "automatic</button></div>\n<h1>");
    assay_html_text(out, r->title);
    assay_str_put(out, "</h1>\n<dl class=\"facts\">");
    put_fact(out, "Model", r->model);
    put_fact(out, "Suite", r->suite);
    put_fact(out, "Date", r->date);
    assay_str_put(out, "</dl></div></header>\n<div class=\"wrap\">\n");
    put_nav(out, r);
    assay_str_put(out, "</div>\n<main class=\"wrap\">\n");
}

/* The switch that says whose details are shown; the script makes it work and shows it. */
static void put_switch(assay_str *out, const assay_report *r) {
    size_t chosen = r->n_variants;
    for (size_t i = 0; i < r->n_variants; i++) {
        if (r->decision.chosen && strcmp(r->decision.chosen, r->variants[i].name) == 0) chosen = i;
        if (chosen == r->n_variants && r->variants[i].gate && !r->decision.chosen) chosen = i;
    }
    if (chosen == r->n_variants) chosen = 0;
    assay_str_printf(out,
                     "<div class=\"switch\" id=\"switch\" hidden data-start=\"%zu\"><span "
                     "id=\"switch-label\">Details of</span>"
                     "<div role=\"radiogroup\" aria-labelledby=\"switch-label\">",
                     chosen);
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_variant *v = &r->variants[i];
        assay_str_printf(out,
                         "<button type=\"button\" role=\"radio\" aria-checked=\"false\" tabindex=\"-1\" "
                         "data-variant=\"%zu\">",
                         i);
        if (v->gate)
            assay_str_printf(out, "<span class=\"sym %s\" aria-hidden=\"true\">%s</span> ",
                             assay_html_class(v->gate->verdict), assay_show_symbol(v->gate->verdict));
        char name[ASSAY_SHOW_NAME];
        assay_html_text(out, assay_show_name(name, sizeof name, v, false));
        assay_str_put(out, "</button>");
    }
    assay_str_put(out, "</div></div>\n");
}

static void put_footer(assay_str *out, const assay_report *r) {
    assay_str_put(out, "</main>\n<footer class=\"wrap\"><p>Made by assay ");
    assay_html_text(out, r->version ? r->version : ASSAY_VERSION);
    if (r->date) {
        assay_str_put(out, " on ");
        assay_html_text(out, r->date);
    }
    assay_str_put(out, ". This file is complete in itself: it makes no network request.</p>");
    if (r->command) {
        assay_str_put(out, "<p>Made again by <code>");
        assay_html_text(out, r->command);
        assay_str_put(out, "</code></p>");
    }
    assay_str_put(out, "</footer>\n</body>\n</html>\n");
}

assay_status assay_report_html(assay_str *out, const assay_report *r, assay_err *err) {
    if (!r->n_variants) return assay_fail(err, ASSAY_EINPUT, "the report has no variants");
    put_head(out, r);
    put_header(out, r);
    assay_html_decision(out, r);
    assay_html_matrix(out, r);
    ASSAY_TRY(assay_html_curve(out, r, err));
    assay_html_quality(out, r);
    assay_html_noise(out, r);
    put_switch(out, r);
    assay_html_forest(out, r);
    assay_html_flips(out, r);
    assay_html_heat(out, r);
    ASSAY_TRY(assay_html_plan(out, r, err));
    ASSAY_TRY(assay_html_manifest(out, r, err));
    put_footer(out, r);
    return assay_str_status(out, err);
}
