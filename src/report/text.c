/* text.c: the report for a terminal, and its parts for single commands. Decision first, then the matrix, then
 * what decided. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/show.h"

static const assay_term plain;

static void put_line(assay_str *out, const char *s, const assay_term *t) {
    assay_show_line(out, s, 0, t->ascii);
}

/* Wraps s at spaces; every line begins with `indent` blanks, the first with `lead` in them. */
static void put_wrapped(assay_str *out, const char *lead, int indent, const char *s, const assay_term *t) {
    assay_str one = {0};
    int width = t->width > 0 ? t->width : 100, at = indent;
    if (width > 100) width = 100; /* longer lines of prose are hard to read */
    assay_show_line(&one, s, 0, t->ascii);
    const char *p = assay_str_c(&one);
    assay_str_put(out, lead);
    assay_str_fill(out, ' ', (size_t)ASSAY_MAX(indent - assay_utf8_width(lead, strlen(lead)), 0));
    while (*p) {
        size_t word = strcspn(p, " ");
        int w = assay_utf8_width(p, word);
        if (at > indent && at + 1 + w > width) {
            assay_str_putc(out, '\n');
            assay_str_fill(out, ' ', (size_t)indent);
            at = indent;
        } else if (at > indent) {
            assay_str_putc(out, ' ');
            at++;
        }
        assay_str_putn(out, p, word);
        at += w;
        p += word;
        while (*p == ' ')
            p++;
    }
    assay_str_putc(out, '\n');
    if (one.failed) out->failed = true;
    assay_str_free(&one);
}

static void heading(assay_str *out, const char *s, const assay_term *t) {
    assay_str_putc(out, '\n');
    if (t->colour)
        assay_str_printf(out, "\033[1m%s\033[0m\n", s);
    else
        assay_str_printf(out, "%s\n", s);
}

static assay_status put_table(assay_str *out, assay_table *t, const assay_term *term, assay_err *err) {
    assay_status s = assay_table_text(out, t, term, err);
    assay_table_free(t);
    return s;
}

static void put_word(assay_str *out, const char *word, assay_tone tone, const assay_term *t) {
    static const char *const sgr[] = {"0", "1;32", "1;31", "1;33", "2", "1"};
    if (t->colour)
        assay_str_printf(out, "\033[%sm%s\033[0m", sgr[tone], word);
    else
        assay_str_put(out, word);
}

/* --- gate --- */

static void put_flip(assay_str *out, const assay_gate_flip *f, const assay_term *t) {
    assay_str_put(out, "  ");
    put_line(out, f->item_id, t);
    assay_str_put(out, f->to_wrong ? "  right -> wrong\n" : "  wrong -> right\n");
    int most = (t->width > 0 ? t->width : 100) - 14;
    assay_str_put(out, "    baseline  ");
    assay_show_line(out, f->base_output ? f->base_output : "(nothing)", most, t->ascii);
    assay_str_put(out, "\n    variant   ");
    assay_show_line(out, f->cand_output ? f->cand_output : "(nothing)", most, t->ascii);
    assay_str_putc(out, '\n');
}

/* The rows that did not pass, and why. */
static void put_reasons(assay_str *out, const assay_gate *g, const assay_term *t) {
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        char lead[32];
        if (r->verdict != ASSAY_VERDICT_FAIL && r->verdict != ASSAY_VERDICT_INCONCLUSIVE &&
            r->verdict != ASSAY_VERDICT_WAIVED)
            continue;
        assay_str line = {0};
        assay_str_printf(&line, "%s%s%s: %s", r->dimension, r->slice ? "/" : "", r->slice ? r->slice : "",
                         r->reason ? r->reason : "");
        if (r->waiver)
            assay_str_printf(&line, " (waiver of %s: %s%s%s)", r->waiver->who ? r->waiver->who : "?",
                             r->waiver->why ? r->waiver->why : "", r->waiver->expires ? ", until " : "",
                             r->waiver->expires ? r->waiver->expires : "");
        snprintf(lead, sizeof lead, "  %s",
                 t->ascii ? assay_show_symbol_ascii(r->verdict) : assay_show_symbol(r->verdict));
        put_wrapped(out, lead, 4, assay_str_c(&line), t);
        if (line.failed) out->failed = true;
        assay_str_free(&line);
    }
}

static void put_summary(assay_str *out, const assay_gate *g) {
    assay_str_printf(out, "%zu pass, %zu fail, %zu inconclusive", g->n_pass, g->n_fail, g->n_inconclusive);
    if (g->n_waived) assay_str_printf(out, ", %zu waived", g->n_waived);
    if (g->n_info) assay_str_printf(out, ", %zu not judged", g->n_info);
    if (g->n_alarm) assay_str_printf(out, ", %zu harm alarm%s", g->n_alarm, g->n_alarm == 1 ? "" : "s");
    assay_str_printf(out, ". %zu items: %zu right to wrong, %zu wrong to right, %zu other text", g->n_items,
                     g->n_flips_to_wrong, g->n_flips_to_right, g->n_changed);
    if (g->rerun_id) assay_str_printf(out, "; baseline against itself %zu flips", g->aa_flips);
    assay_str_put(out, ".\n");
}

assay_status assay_report_gate_text(assay_str *out, const assay_gate *g, size_t flips, const assay_term *t,
                                    assay_err *err) {
    assay_table tab;
    if (!t) t = &plain;
    put_line(out, g->variant, t);
    assay_str_put(out, " against ");
    put_line(out, g->baseline, t);
    assay_str_put(out, " on ");
    put_line(out, g->suite, t);
    assay_str_put(out, ": ");
    put_word(out, assay_verdict_name(g->verdict), assay_show_tone(g->verdict), t);
    assay_str_putc(out, '\n');
    if (g->reason) put_wrapped(out, "", 0, g->reason, t);
    assay_str_putc(out, '\n');
    assay_tables_gate(&tab, g, t->ascii);
    ASSAY_TRY(put_table(out, &tab, t, err));
    assay_str_putc(out, '\n');
    put_summary(out, g);
    put_reasons(out, g, t);
    if (assay_tables_has_limits(g)) {
        heading(out, "Limits", t);
        assay_tables_limits(&tab, g, t->ascii);
        ASSAY_TRY(put_table(out, &tab, t, err));
    }
    size_t n = ASSAY_MIN(flips, g->n_flips);
    if (n) heading(out, "Flips", t);
    for (size_t i = 0; i < n; i++)
        put_flip(out, &g->flips[i], t);
    if (n && n < g->n_flips) assay_str_printf(out, "  and %zu more\n", g->n_flips - n);
    return assay_str_status(out, err);
}

/* --- plan --- */

static void put_raw(assay_str *out, const assay_sizes *s) {
    char a[32], b[32], c[32];
    bool billions = s->nominal_params >= 1e9;
    assay_str_printf(out,
                     "raw: %.3g %s parameters at %d bits are %s, all %s of them %s; codes as stored are %.3f "
                     "bits per weight\n",
                     s->nominal_params / (billions ? 1e9 : 1e6), billions ? "billion" : "million",
                     s->raw_bits, assay_show_size(a, sizeof a, s->raw_nominal),
                     assay_show_count(b, sizeof b, (double)s->params),
                     assay_show_size(c, sizeof c, s->raw_all), s->raw_bpw);
}

assay_status assay_report_sizes_text(assay_str *out, const assay_sizes *s, const assay_term *t,
                                     assay_err *err) {
    assay_table tab;
    char a[32];
    if (!t) t = &plain;
    assay_tables_sizes(&tab, s);
    ASSAY_TRY(put_table(out, &tab, t, err));
    put_raw(out, s);
    if (s->checkpoint_bytes > 0)
        assay_str_printf(out, "on disk: %s (computed %+.2f %%)\n",
                         assay_show_size(a, sizeof a, s->checkpoint_bytes),
                         (s->total / s->checkpoint_bytes - 1) * 100);
    return assay_str_status(out, err);
}

static void put_kv(assay_str *out, const assay_plan *p) {
    char a[32], b[32], c[32];
    assay_str_printf(out, "KV cache in %s: %s per token, %s per sequence of %s tokens",
                     assay_kv_name(p->opts.kv), assay_show_size(a, sizeof a, p->kv_per_token),
                     assay_show_size(b, sizeof b, p->kv_per_sequence),
                     assay_show_count(c, sizeof c, (double)p->opts.serving.context));
    if (p->config->sliding_window)
        assay_str_printf(out, " (window of %lld)", (long long)p->config->sliding_window);
    assay_str_putc(out, '\n');
}

assay_status assay_report_plan_text(assay_str *out, const assay_plan *p, bool detail, const assay_term *t,
                                    assay_err *err) {
    assay_table tab;
    assay_str a = {0};
    if (!t) t = &plain;
    put_line(out, p->model, t);
    assay_str_putc(out, '\n');
    heading(out, "Weights", t);
    ASSAY_TRY(assay_report_sizes_text(out, &p->sizes, t, err));
    put_kv(out, p);
    heading(out, "Devices", t);
    assay_show_assumptions(&a, p);
    put_wrapped(out, "", 0, assay_str_c(&a), t);
    if (a.failed) out->failed = true;
    assay_str_free(&a);
    assay_str_putc(out, '\n');
    assay_tables_fits(&tab, p);
    ASSAY_TRY(put_table(out, &tab, t, err));
    if (detail) {
        heading(out, "Memory per device", t);
        assay_tables_memory(&tab, p);
        ASSAY_TRY(put_table(out, &tab, t, err));
        heading(out, "Sources", t);
        assay_tables_sources(&tab, p);
        ASSAY_TRY(put_table(out, &tab, t, err));
    }
    return assay_str_status(out, err);
}

assay_status assay_report_losses_text(assay_str *out, const assay_report_loss *l, size_t n,
                                      const assay_term *t, assay_err *err) {
    assay_table tab;
    assay_column columns[ASSAY_LOSS_COLUMNS];
    if (!t) t = &plain;
    assay_tables_losses(&tab, columns, l, n);
    return put_table(out, &tab, t, err);
}

/* --- the whole report --- */

static void put_decision(assay_str *out, const assay_report *r, const assay_term *t) {
    const assay_report_decision *d = &r->decision;
    put_word(out,
             d->chosen                                  ? "DECISION"
             : d->verdict == ASSAY_VERDICT_INCONCLUSIVE ? "NO DECISION YET"
                                                        : "DECISION",
             assay_show_tone(d->verdict), t);
    assay_str_put(out, "  ");
    put_wrapped(out, "", 0, d->headline ? d->headline : "no decision was recorded", t);
    assay_str caution = {0};
    assay_show_caution(&caution, r);
    if (caution.len) put_wrapped(out, "  !", 4, assay_str_c(&caution), t);
    if (caution.failed) out->failed = true;
    assay_str_free(&caution);
    for (size_t i = 0; i < d->n_reasons; i++)
        put_wrapped(out, "  -", 4, d->reasons[i], t);
    if (d->n_next) assay_str_put(out, "Next\n");
    for (size_t i = 0; i < d->n_next; i++)
        put_wrapped(out, "  -", 4, d->next[i], t);
}

static void put_prose(assay_str *out, assay_str *text, const assay_term *t) {
    if (text->len) put_wrapped(out, "", 0, assay_str_c(text), t);
    if (text->failed) out->failed = true;
    assay_str_free(text);
}

static void put_title(assay_str *out, const assay_report *r, const assay_term *t) {
    const char *const facts[] = {r->title, r->model, r->suite, r->date};
    assay_str line = {0};
    for (size_t i = 0; i < ASSAY_LEN(facts); i++) {
        if (i) assay_str_put(&line, t->ascii ? " - " : " · ");
        if (facts[i]) assay_str_put(&line, facts[i]);
    }
    put_prose(out, &line, t);
}

static void put_why(assay_str *out, const assay_report *r, const assay_term *t) {
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_variant *v = &r->variants[i];
        const char *why = v->problem ? v->problem : v->gate ? v->gate->reason : NULL;
        if (!why) continue;
        assay_str line = {0};
        char name[ASSAY_SHOW_NAME];
        assay_str_printf(&line, "%s: %s", assay_show_name(name, sizeof name, v, t->ascii), why);
        const char *lead = v->gate ? (t->ascii ? assay_show_symbol_ascii(v->gate->verdict)
                                               : assay_show_symbol(v->gate->verdict))
                                   : "!";
        char mark[16];
        snprintf(mark, sizeof mark, "  %s", lead);
        put_wrapped(out, mark, 4, assay_str_c(&line), t);
        if (line.failed) out->failed = true;
        assay_str_free(&line);
    }
}

static assay_status put_plans(assay_str *out, const assay_report *r, const assay_term *t, assay_err *err) {
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_variant *v = &r->variants[i];
        bool wanted = v->plan && v->plan->n_fits &&
                      (r->decision.chosen ? strcmp(r->decision.chosen, v->name) == 0 : v->is_baseline);
        if (!wanted) continue;
        char h[160], name[ASSAY_SHOW_NAME];
        assay_table tab;
        assay_str a = {0};
        snprintf(h, sizeof h, "Deployment of %s", assay_show_name(name, sizeof name, v, t->ascii));
        heading(out, h, t);
        assay_show_assumptions(&a, v->plan);
        put_wrapped(out, "", 0, assay_str_c(&a), t);
        assay_str_free(&a);
        assay_tables_fits(&tab, v->plan);
        ASSAY_TRY(put_table(out, &tab, t, err));
    }
    return ASSAY_OK;
}

/* As many dimensions beside each other as the width holds; the others follow in tables of their own, evenly.
 */
static assay_status put_matrix(assay_str *out, const assay_report *r, const assay_term *t, assay_err *err) {
    assay_table tab;
    assay_column columns[ASSAY_MATRIX_COLUMNS];
    int most = t->width > 0 ? t->width : 100;
    size_t n = assay_tables_dimensions(r), n_tables = 1;
    for (bool fits = false; !fits && n_tables < n; n_tables += !fits) {
        fits = n <= n_tables * ASSAY_MATRIX_DIMENSIONS;
        for (size_t i = 0; i < n_tables && fits; i++) {
            size_t first = i * n / n_tables, end = (i + 1) * n / n_tables;
            assay_tables_matrix(&tab, columns, r, first, end - first, t->ascii);
            fits = tab.failed || assay_table_least(&tab) <= most;
            assay_table_free(&tab);
        }
    }
    for (size_t i = 0; i < n_tables; i++) {
        size_t first = i * n / n_tables, end = (i + 1) * n / n_tables;
        if (i) assay_str_putc(out, '\n');
        assay_tables_matrix(&tab, columns, r, first, end - first, t->ascii);
        ASSAY_TRY(put_table(out, &tab, t, err));
    }
    assay_str legend = {0};
    assay_show_research_legend(&legend, r, t->ascii);
    put_prose(out, &legend, t);
    return ASSAY_OK;
}

static assay_status put_curve(assay_str *out, const assay_report *r, const assay_term *t, assay_err *err) {
    assay_curve c;
    assay_table tab;
    assay_str text = {0};
    ASSAY_TRY(assay_curve_make(&c, r, err));
    assay_status s = ASSAY_OK;
    if (c.n) {
        heading(out, "What a bit buys", t);
        assay_show_curve(&text, &c);
        put_prose(out, &text, t);
        assay_tables_curve(&tab, &c, t->ascii);
        s = put_table(out, &tab, t, err);
    }
    assay_curve_free(&c);
    return s;
}

assay_status assay_report_text(assay_str *out, const assay_report *r, const assay_term *t, assay_err *err) {
    assay_table tab;
    if (!t) t = &plain;
    if (!r->n_variants) return assay_fail(err, ASSAY_EINPUT, "the report has no variants");
    put_title(out, r, t);
    assay_str_putc(out, '\n');
    put_decision(out, r, t);
    heading(out, "Variants", t);
    put_wrapped(out, "", 0,
                "Stored bits per weight, and the difference to the baseline per dimension in points; "
                "perplexity and KL in nats.",
                t);
    ASSAY_TRY(put_matrix(out, r, t, err));
    heading(out, "What decided", t);
    put_why(out, r, t);
    ASSAY_TRY(put_curve(out, r, t, err));
    if (assay_show_first_gate(r)) {
        heading(out, "Flips and divergence", t);
        assay_tables_noise(&tab, r, t->ascii);
        ASSAY_TRY(put_table(out, &tab, t, err));
    }
    ASSAY_TRY(put_plans(out, r, t, err));
    return assay_str_status(out, err);
}
