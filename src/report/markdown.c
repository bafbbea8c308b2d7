/* markdown.c: the report for a pull request or a wiki. GitHub's dialect; text from outside is escaped or
 * fenced. */
#include <stdio.h>
#include <string.h>
#include "report/show.h"

static void put_text(assay_str *out, const char *s) {
    if (s) assay_show_markdown(out, s, strlen(s), "\\*_`[]#|~");
}

static void put_list(assay_str *out, const char *const *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        assay_str_put(out, "- ");
        put_text(out, items[i]);
        assay_str_putc(out, '\n');
    }
}

static assay_status put_table(assay_str *out, assay_table *t, assay_err *err) {
    assay_status s = assay_table_markdown(out, t, err);
    assay_table_free(t);
    assay_str_putc(out, '\n');
    return s;
}

static void put_verdict(assay_str *out, assay_verdict v) {
    assay_str_printf(out, "%s **%s**", assay_show_symbol(v), assay_verdict_name(v));
}

static assay_status put_gate(assay_str *out, const assay_gate *g, const char *name, assay_err *err) {
    assay_table t;
    assay_str_put(out, "### ");
    put_text(out, name);
    assay_str_put(out, " against ");
    put_text(out, g->baseline);
    assay_str_put(out, ": ");
    put_verdict(out, g->verdict);
    assay_str_put(out, "\n\n");
    put_text(out, g->reason);
    assay_str_put(out, "\n\n");
    assay_tables_gate(&t, g, false);
    ASSAY_TRY(put_table(out, &t, err));
    if (assay_tables_has_limits(g)) {
        assay_tables_limits(&t, g, false);
        ASSAY_TRY(put_table(out, &t, err));
    }
    return assay_str_status(out, err);
}

assay_status assay_report_gate_markdown(assay_str *out, const assay_gate *g, assay_err *err) {
    return put_gate(out, g, g->variant, err);
}

assay_status assay_report_plan_markdown(assay_str *out, const assay_plan *p, assay_err *err) {
    assay_table t;
    assay_str_put(out, "### ");
    put_text(out, p->model);
    assay_str_put(out, "\n\n");
    assay_tables_sizes(&t, &p->sizes);
    ASSAY_TRY(put_table(out, &t, err));
    assay_show_assumptions(out, p);
    assay_str_put(out, "\n\n");
    assay_tables_fits(&t, p);
    ASSAY_TRY(put_table(out, &t, err));
    assay_tables_memory(&t, p);
    ASSAY_TRY(put_table(out, &t, err));
    assay_tables_sources(&t, p);
    ASSAY_TRY(put_table(out, &t, err));
    return assay_str_status(out, err);
}

static assay_status put_variant(assay_str *out, const assay_report_variant *v, assay_err *err) {
    char name[ASSAY_SHOW_NAME];
    assay_show_name(name, sizeof name, v, false);
    if (v->problem) {
        assay_str_put(out, "### ");
        put_text(out, name);
        assay_str_put(out, ": no result\n\n");
        put_text(out, v->problem);
        assay_str_put(out, "\n\n");
        return ASSAY_OK;
    }
    return v->gate ? put_gate(out, v->gate, name, err) : ASSAY_OK;
}

static void put_prose(assay_str *out, assay_str *text) {
    if (text->len) {
        put_text(out, assay_str_c(text));
        assay_str_put(out, "\n\n");
    }
    if (text->failed) out->failed = true;
    assay_str_free(text);
}

static assay_status put_matrices(assay_str *out, const assay_report *r, assay_err *err) {
    assay_table t;
    assay_column columns[ASSAY_MATRIX_COLUMNS];
    assay_str legend = {0};
    size_t n = assay_tables_dimensions(r), first = 0;
    do {
        assay_tables_matrix(&t, columns, r, first, ASSAY_MATRIX_DIMENSIONS, false);
        ASSAY_TRY(put_table(out, &t, err));
        first += ASSAY_MATRIX_DIMENSIONS;
    } while (first < n);
    assay_show_research_legend(&legend, r, false);
    put_prose(out, &legend);
    return ASSAY_OK;
}

static assay_status put_curve(assay_str *out, const assay_report *r, assay_err *err) {
    assay_curve c;
    assay_table t;
    assay_str text = {0};
    ASSAY_TRY(assay_curve_make(&c, r, err));
    assay_status s = ASSAY_OK;
    if (c.n) {
        assay_str_put(out, "## What a bit buys\n\n");
        assay_show_curve(&text, &c);
        put_prose(out, &text);
        assay_tables_curve(&t, &c, false);
        s = put_table(out, &t, err);
    }
    assay_curve_free(&c);
    return s;
}

assay_status assay_report_markdown(assay_str *out, const assay_report *r, assay_err *err) {
    assay_table t;
    assay_str caution = {0};
    const assay_report_decision *d = &r->decision;
    if (!r->n_variants) return assay_fail(err, ASSAY_EINPUT, "the report has no variants");
    assay_str_put(out, "# ");
    put_text(out, r->title);
    assay_str_put(out, "\n\n> ");
    put_verdict(out, d->verdict);
    assay_str_put(out, " — ");
    put_text(out, d->headline ? d->headline : "no decision was recorded");
    assay_str_put(out, "\n\n");
    assay_show_caution(&caution, r);
    put_prose(out, &caution);
    put_list(out, d->reasons, d->n_reasons);
    if (d->n_next) assay_str_put(out, "\n**Next**\n\n");
    put_list(out, d->next, d->n_next);
    assay_str_put(out, "\nModel ");
    put_text(out, r->model);
    assay_str_put(out, ", suite ");
    put_text(out, r->suite);
    assay_str_put(out, ", ");
    put_text(out, r->date);
    assay_str_put(out, ".\n\n## Variants\n\nStored bits per weight, and the difference to the baseline per "
                       "dimension in points; perplexity and KL in nats.\n\n");
    ASSAY_TRY(put_matrices(out, r, err));
    ASSAY_TRY(put_curve(out, r, err));
    if (assay_show_first_gate(r)) {
        assay_str_put(out, "## Flips and divergence\n\n");
        assay_tables_noise(&t, r, false);
        ASSAY_TRY(put_table(out, &t, err));
        assay_str_put(out, "## Dimensions and slices\n\n");
    }
    for (size_t i = 0; i < r->n_variants; i++)
        ASSAY_TRY(put_variant(out, &r->variants[i], err));
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_variant *v = &r->variants[i];
        if (!v->plan || !d->chosen || strcmp(d->chosen, v->name) != 0) continue;
        assay_str_put(out, "## Deployment\n\n");
        ASSAY_TRY(assay_report_plan_markdown(out, v->plan, err));
    }
    return assay_str_status(out, err);
}
