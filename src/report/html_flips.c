/* html_flips.c: items whose verdict changed, both outputs side by side, from the first character in which
 * they differ.
 *
 * The first difference is found on characters, never within one; when token ids were kept, the first
 * differing token is named too. The script filters by variant, dimension, direction and words; without it all
 * are listed under their variants. */
#include <stdio.h>
#include <string.h>
#include "report/html.h"

#define DEFAULT_MOST 400
#define MOST_CONTEXT 4000 /* characters shown of one output */

/* Bytes that both begin with, on a character boundary. */
static size_t common_prefix(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b), i = 0;
    while (i < na && i < nb) {
        uint32_t ca, cb;
        size_t la = assay_utf8_read(&ca, a + i, na - i), lb = assay_utf8_read(&cb, b + i, nb - i);
        if (la != lb || memcmp(a + i, b + i, la) != 0) break;
        i += la;
    }
    return i;
}

/* The word in which the difference lies, or the white space there, at least one character. */
static size_t word_length(const char *s) {
    size_t n = strlen(s), w = strcspn(s, " \t\n\r");
    uint32_t c;
    if (!n) return 0;
    return w ? w : assay_utf8_read(&c, s, n);
}

/* At most MOST_CONTEXT bytes, cut between characters. */
static size_t shown_length(const char *s) {
    size_t n = strlen(s), i = 0;
    while (i < n && i < MOST_CONTEXT) {
        uint32_t c;
        i += assay_utf8_read(&c, s + i, n - i);
    }
    return i;
}

static void put_side(assay_str *out, const char *who, const char *text, size_t same, const char *answer,
                     const char *detail, bool right) {
    const char *s = text ? text : "";
    size_t n = strlen(s), mark = same < n ? word_length(s + same) : 0;
    assay_str_printf(out, "<div class=\"side %s\"><p class=\"who\">%s <span class=\"sym\">%s</span></p><pre>",
                     right ? "right" : "wrong", who, right ? "✓ right" : "✗ wrong");
    assay_str_put(out, "<span class=\"same\">");
    assay_html_textn(out, s, same);
    assay_str_put(out, "</span>");
    if (mark) {
        assay_str_put(out, "<mark>");
        if (s[same] == '\n') assay_str_put(out, "↵");
        assay_html_textn(out, s + same, mark);
        assay_str_put(out, "</mark>");
        size_t rest = shown_length(s + same + mark);
        assay_html_textn(out, s + same + mark, rest);
        if (same + mark + rest < n) assay_str_put(out, "<span class=\"dim\"> … cut</span>");
    } else {
        assay_str_printf(out, "<mark class=\"end\">%s</mark>", n ? "⟨end⟩" : "⟨nothing⟩");
    }
    assay_str_put(out, "</pre>");
    if (answer) {
        assay_str_put(out, "<p class=\"answer\">Answer taken: <code>");
        assay_html_text(out, answer);
        assay_str_put(out, "</code></p>");
    }
    if (detail && *detail) {
        assay_str_put(out, "<p class=\"answer dim\">");
        assay_html_text(out, detail);
        assay_str_put(out, "</p>");
    }
    assay_str_put(out, "</div>");
}

/* Index of the first token that differs, from 1; 0 when ids were not kept or are no JSON arrays of integers.
 */
static size_t first_token(const char *base, const char *cand) {
    json_t *a = NULL, *b = NULL;
    size_t at = 0;
    if (base && cand && assay_json_parse(&a, base, strlen(base), "ids", NULL) == ASSAY_OK &&
        assay_json_parse(&b, cand, strlen(cand), "ids", NULL) == ASSAY_OK && json_is_array(a) &&
        json_is_array(b)) {
        size_t na = json_array_size(a), nb = json_array_size(b), i = 0;
        while (i < na && i < nb && json_equal(json_array_get(a, i), json_array_get(b, i)))
            i++;
        if (i < na || i < nb) at = i + 1;
    }
    json_decref(a);
    json_decref(b);
    return at;
}

static void put_flip(assay_str *out, const assay_gate_flip *f, size_t variant) {
    const char *base = f->base_output ? f->base_output : "", *cand = f->cand_output ? f->cand_output : "";
    size_t same = common_prefix(base, cand), token = first_token(f->base_ids, f->cand_ids);
    assay_str_printf(out, "<article class=\"flip\" data-variant=\"%zu\" data-way=\"%s\" data-dimension=\"",
                     variant, f->to_wrong ? "wrong" : "right");
    assay_html_text(out, f->dimension);
    assay_str_put(out, "\"><h4><code>");
    assay_html_text(out, f->item_id);
    assay_str_put(out, "</code> <span class=\"where\">");
    assay_html_text(out, f->dimension);
    if (f->slice) {
        assay_str_put(out, " / ");
        assay_html_text(out, f->slice);
    }
    assay_str_printf(out, "</span> <span class=\"badge %s\">%s</span>", f->to_wrong ? "v-fail" : "v-pass",
                     f->to_wrong ? "right → wrong" : "wrong → right");
    if (token) assay_str_printf(out, " <span class=\"where\">differs at token %zu</span>", token);
    assay_str_put(out, "</h4><div class=\"sides\">");
    put_side(out, "Baseline", base, same, f->base_answer, f->base_detail, f->to_wrong);
    put_side(out, "Variant", cand, same, f->cand_answer, f->cand_detail, !f->to_wrong);
    assay_str_put(out, "</div></article>\n");
}

static void put_filters(assay_str *out, const assay_report *r) {
    const assay_gate *g = assay_show_first_gate(r);
    assay_str_put(out, "<form class=\"filters\" id=\"flip-filters\" hidden><label>Dimension <select "
                       "name=\"dimension\"><option value=\"\">all</option>");
    for (size_t i = 0; i < g->n_rows; i++) {
        if (g->rows[i].slice || g->rows[i].metric != ASSAY_METRIC_ACCURACY) continue;
        assay_str_put(out, "<option>");
        assay_html_text(out, g->rows[i].dimension);
        assay_str_put(out, "</option>");
    }
    assay_str_put(out, "</select></label><label>Direction <select name=\"way\"><option "
                       "value=\"\">both</option><option value=\"wrong\">right to wrong</option>"
                       "<option value=\"right\">wrong to right</option></select></label><label>Contains "
                       "<input type=\"search\" name=\"words\" "
                       "placeholder=\"text or item\" autocomplete=\"off\"></label><output "
                       "aria-live=\"polite\"></output></form>\n");
}

void assay_html_flips(assay_str *out, const assay_report *r) {
    size_t most = r->max_flips ? r->max_flips : DEFAULT_MOST;
    if (!assay_html_has_gates(r)) return;
    assay_str_put(out,
                  "<section id=\"flips\" aria-labelledby=\"flips-h\"><h2 id=\"flips-h\">Side by side</h2>\n"
                  "<p>Every item whose result changed. What both outputs have in common is grey; the first "
                  "word that differs is marked.</p>\n");
    put_filters(out, r);
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_gate *g = r->variants[i].gate;
        if (!g) continue;
        assay_html_panel_open(out, r, i);
        size_t n = ASSAY_MIN(g->n_flips, most);
        if (!n) assay_str_put(out, "<p class=\"empty\">No item changed its result.</p>\n");
        for (size_t k = 0; k < n; k++)
            put_flip(out, &g->flips[k], i);
        if (n) assay_str_put(out, "<button type=\"button\" class=\"more\" hidden>Show more</button>\n");
        if (n < g->n_flips)
            assay_str_printf(
                out,
                "<p class=\"empty\">%zu more flips are in the store; this file shows the first %zu.</p>\n",
                g->n_flips - n, n);
        assay_html_panel_close(out);
    }
    assay_str_put(out, "</section>\n");
}
