/* tables.c: the tables that terminal and Markdown share. Each fills an assay_table; the caller renders and
 * frees it. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/show.h"

static const char *mark(assay_verdict v, bool ascii) {
    return ascii ? assay_show_symbol_ascii(v) : assay_show_symbol(v);
}

/* --- variants x dimensions --- */

static void matrix_cell(assay_table *t, const assay_gate_row *row, bool ascii) {
    char d[32];
    if (!row) {
        assay_table_cell(t, ASSAY_TONE_DIM, "-");
        return;
    }
    assay_table_cell(t, assay_show_tone(row->verdict), "%s %s",
                     assay_show_diff(d, sizeof d, row->metric, row->diff), mark(row->verdict, ascii));
}

static void baseline_cell(assay_table *t, const assay_gate_row *row) {
    char m[32];
    if (!row)
        assay_table_cell(t, ASSAY_TONE_DIM, "-");
    else
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", assay_show_mean(m, sizeof m, row->metric, row->baseline));
}

size_t assay_tables_dimensions(const assay_report *r) {
    const assay_gate *g = assay_show_first_gate(r);
    size_t n = 0;
    for (size_t i = 0; g && i < g->n_rows; i++)
        n += !g->rows[i].slice;
    return n;
}

static bool has_kv(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].kv) return true;
    return false;
}

static void verdict_cell(assay_table *t, const assay_report *r, const assay_report_variant *v, bool ascii) {
    if (v->problem)
        assay_table_cell(t, ASSAY_TONE_BAD, "no result");
    else if (v->gate)
        assay_table_cell(t, assay_show_tone(v->gate->verdict), "%s %s", mark(v->gate->verdict, ascii),
                         v == assay_show_chosen(r) ? "chosen" : assay_verdict_name(v->gate->verdict));
    else
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", v == assay_show_baseline(r) ? "baseline" : "not compared");
}

/* A heading may be cut, a figure and its verdict never: a column of dimensions is as wide as its cells at
 * least. */
static void keep_cells_whole(const assay_table *t, assay_column *columns, size_t first, size_t n) {
    for (size_t c = first; c < first + n; c++) {
        int least = 6;
        for (size_t i = c; i < t->n_cells; i += t->n_columns)
            if (t->cells[i]) least = ASSAY_MAX(least, assay_utf8_width(t->cells[i], strlen(t->cells[i])));
        columns[c].least = least;
    }
}

/* Baseline first with its means, then each variant's difference and verdict per dimension. */
void assay_tables_matrix(assay_table *t, assay_column *columns, const assay_report *r, size_t first, size_t n,
                         bool ascii) {
    const assay_gate *g = assay_show_first_gate(r);
    const char *dims[ASSAY_MATRIX_DIMENSIONS];
    size_t n_columns = 0, n_dims = 0, at = 0;
    bool kv = has_kv(r);
    columns[n_columns++] = (assay_column){.head = "variant", .shrink = true, .least = 16};
    columns[n_columns++] = (assay_column){.head = "bits", .right = true};
    if (kv) columns[n_columns++] = (assay_column){.head = "KV", .least = 4};
    columns[n_columns++] = (assay_column){.head = "size", .right = true, .optional = true};
    for (size_t i = 0; g && i < g->n_rows && n_dims < ASSAY_MIN(n, ASSAY_LEN(dims)); i++) {
        if (g->rows[i].slice || at++ < first) continue;
        dims[n_dims++] = g->rows[i].dimension;
        columns[n_columns++] = (assay_column){.head = g->rows[i].dimension, .right = true, .shrink = true};
    }
    columns[n_columns++] = (assay_column){.head = "verdict", .shrink = true, .least = 9};
    assay_table_init(t, columns, n_columns);
    for (size_t v = 0; v < r->n_variants; v++) {
        const assay_report_variant *a = &r->variants[v];
        char b[32], s[32], name[ASSAY_SHOW_NAME];
        assay_table_cell(t, a == assay_show_chosen(r) ? ASSAY_TONE_BOLD : ASSAY_TONE_NONE, "%s",
                         assay_show_name(name, sizeof name, a, ascii));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_number(b, sizeof b, 2, a->effective_bpw));
        if (kv) assay_table_cell(t, ASSAY_TONE_NONE, "%.16s", a->kv ? a->kv : "");
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_size(s, sizeof s, a->size_bytes));
        for (size_t d = 0; d < n_dims; d++) {
            if (a == assay_show_baseline(r))
                baseline_cell(t, assay_show_row(g, dims[d], NULL));
            else
                matrix_cell(t, assay_show_row(a->gate, dims[d], NULL), ascii);
        }
        verdict_cell(t, r, a, ascii);
    }
    keep_cells_whole(t, columns, n_columns - 1 - n_dims, n_dims);
}

/* --- one gate --- */

void assay_tables_gate(assay_table *t, const assay_gate *g, bool ascii) {
    static const assay_column columns[] = {
        {.head = "dimension", .shrink = true},
        {.head = "n", .right = true},
        {.head = "base", .right = true},
        {.head = "variant", .right = true},
        {.head = "diff", .right = true},
        {.head = "interval", .right = true},
        {.head = "margin", .right = true},
        {.head = "worse", .right = true, .optional = true},
        {.head = "better", .right = true, .optional = true},
        {.head = "p", .right = true, .optional = true},
        {.head = "MDE", .right = true, .optional = true},
        {.head = "verdict"},
        {.head = "clusters", .right = true, .optional = true},
    };
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        char a[32], b[32];
        assay_tone dim = r->slice ? ASSAY_TONE_NONE : ASSAY_TONE_BOLD;
        if (!r->slice && i) assay_table_rule(t);
        assay_table_cell(t, dim, "%s%s", r->slice ? "  " : "", r->slice ? r->slice : r->dimension);
        assay_table_cell(t, ASSAY_TONE_NONE, "%zu", r->n_paired);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_mean(a, sizeof a, r->metric, r->baseline));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_mean(a, sizeof a, r->metric, r->variant));
        assay_table_cell(t, dim, "%s", assay_show_diff(a, sizeof a, r->metric, r->diff));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s .. %s", assay_show_diff(a, sizeof a, r->metric, r->lower),
                         assay_show_diff(b, sizeof b, r->metric, r->upper));
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", assay_show_diff(a, sizeof a, r->metric, -r->margin));
        if (r->metric == ASSAY_METRIC_ACCURACY) {
            assay_table_cell(t, ASSAY_TONE_NONE, "%zu", r->right_wrong);
            assay_table_cell(t, ASSAY_TONE_NONE, "%zu", r->wrong_right);
        } else {
            assay_table_cell(t, ASSAY_TONE_DIM, "-");
            assay_table_cell(t, ASSAY_TONE_DIM, "-");
        }
        assay_table_cell(t, r->alarm ? ASSAY_TONE_BAD : ASSAY_TONE_NONE, "%s%s",
                         assay_show_p(a, sizeof a, r->p_holm), r->alarm ? "!" : "");
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_mean(a, sizeof a, r->metric, r->mde));
        assay_table_cell(t, assay_show_tone(r->verdict), "%s %s", mark(r->verdict, ascii),
                         assay_verdict_name(r->verdict));
        assay_table_cell(t, ASSAY_TONE_NONE, "%zu", r->n_clusters);
    }
}

static bool limit_matters(const assay_gate_limit *l) {
    return !isnan(l->limit) && !isnan(l->value);
}

bool assay_tables_has_limits(const assay_gate *g) {
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        if (!r->slice && (limit_matters(&r->length) || limit_matters(&r->truncated) ||
                          limit_matters(&r->invalid) || limit_matters(&r->errors)))
            return true;
    }
    return false;
}

static void limit_cell(assay_table *t, const assay_gate_limit *l, double scale, int decimals, bool ascii) {
    char a[32], b[32];
    if (isnan(l->value))
        assay_table_cell(t, ASSAY_TONE_DIM, "-");
    else if (isnan(l->limit))
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", assay_show_number(a, sizeof a, decimals, l->value * scale));
    else
        assay_table_cell(t, assay_show_tone(l->verdict), "%s of %s %s",
                         assay_show_number(a, sizeof a, decimals, l->value * scale),
                         assay_show_number(b, sizeof b, decimals, l->limit * scale), mark(l->verdict, ascii));
}

void assay_tables_limits(assay_table *t, const assay_gate *g, bool ascii) {
    static const assay_column columns[] = {
        {.head = "dimension", .shrink = true},
        {.head = "tokens base", .right = true, .optional = true},
        {.head = "tokens variant", .right = true, .optional = true},
        {.head = "length ratio", .right = true},
        {.head = "truncated %", .right = true},
        {.head = "invalid %", .right = true},
        {.head = "errors %", .right = true},
    };
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (size_t i = 0; i < g->n_rows; i++) {
        const assay_gate_row *r = &g->rows[i];
        char a[32];
        if (r->slice) continue;
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", r->dimension);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_number(a, sizeof a, 1, r->base_tokens));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_number(a, sizeof a, 1, r->cand_tokens));
        limit_cell(t, &r->length, 1, 3, ascii);
        limit_cell(t, &r->truncated, 100, 1, ascii);
        limit_cell(t, &r->invalid, 100, 1, ascii);
        limit_cell(t, &r->errors, 100, 1, ascii);
    }
}

/* Flips against the noise floor, output lengths and KL, per variant. */
void assay_tables_noise(assay_table *t, const assay_report *r, bool ascii) {
    static const assay_column columns[] = {
        {.head = "variant", .shrink = true, .least = 16},
        {.head = "right to wrong", .right = true},
        {.head = "wrong to right", .right = true},
        {.head = "other text", .right = true, .optional = true},
        {.head = "baseline again", .right = true, .optional = true},
        {.head = "KL mean", .right = true},
        {.head = "KL p99", .right = true},
        {.head = "same top token", .right = true, .optional = true},
    };
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (size_t i = 0; i < r->n_variants; i++) {
        const assay_report_variant *v = &r->variants[i];
        char a[32], name[ASSAY_SHOW_NAME];
        if (!v->gate) continue;
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_name(name, sizeof name, v, ascii));
        assay_table_cell(t, ASSAY_TONE_NONE, "%zu", v->gate->n_flips_to_wrong);
        assay_table_cell(t, ASSAY_TONE_NONE, "%zu", v->gate->n_flips_to_right);
        assay_table_cell(t, ASSAY_TONE_NONE, "%zu", v->gate->n_changed);
        if (v->gate->rerun_id)
            assay_table_cell(t, ASSAY_TONE_NONE, "%zu flips", v->gate->aa_flips);
        else
            assay_table_cell(t, ASSAY_TONE_DIM, "not run");
        bool kl = v->kl.n > 0;
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_nats(a, sizeof a, kl ? v->kl.mean : NAN));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_nats(a, sizeof a, kl ? v->kl.p99 : NAN));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s",
                         assay_show_number(a, sizeof a, 1, kl ? v->kl.top1 * 100 : NAN));
    }
}

/* --- plans --- */

void assay_tables_sizes(assay_table *t, const assay_sizes *s) {
    static const assay_column columns[] = {
        {.head = "part"},
        {.head = "stored as"},
        {.head = "parameters", .right = true},
        {.head = "codes", .right = true},
        {.head = "scales", .right = true},
        {.head = "zeros", .right = true},
        {.head = "metadata", .right = true, .optional = true},
        {.head = "together", .right = true},
        {.head = "bits/weight", .right = true},
    };
    char a[32];
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (int i = 0; i <= s->n_lines; i++) {
        bool total = i == s->n_lines;
        assay_size_line sum = {
            .params = s->params, .codes = s->codes, .scales = s->scales, .zeros = s->zeros, .meta = s->meta};
        const assay_size_line *l = total ? &sum : &s->lines[i];
        assay_tone tone = total ? ASSAY_TONE_BOLD : ASSAY_TONE_NONE;
        double all = l->codes + l->scales + l->zeros + l->meta;
        if (total) assay_table_rule(t);
        assay_table_cell(t, tone, "%s", total ? "total" : assay_part_name(l->part));
        assay_table_cell(t, tone, "%s", total ? "" : assay_storage_name(a, sizeof a, &l->storage));
        assay_table_cell(t, tone, "%s", assay_show_count(a, sizeof a, (double)l->params));
        assay_table_cell(t, tone, "%s", assay_show_size(a, sizeof a, l->codes));
        assay_table_cell(t, tone, "%s", l->scales > 0 ? assay_show_size(a, sizeof a, l->scales) : "");
        assay_table_cell(t, tone, "%s", l->zeros > 0 ? assay_show_size(a, sizeof a, l->zeros) : "");
        assay_table_cell(t, tone, "%s", l->meta > 0 ? assay_show_size(a, sizeof a, l->meta) : "");
        assay_table_cell(t, tone, "%s", assay_show_size(a, sizeof a, all));
        assay_table_cell(t, tone, "%s",
                         assay_show_number(a, sizeof a, 3, l->params ? all * 8 / (double)l->params : NAN));
    }
}

void assay_tables_fits(assay_table *t, const assay_plan *p) {
    static const assay_column columns[] = {
        {.head = "device"},
        {.head = "runtime", .optional = true},
        {.head = "fits"},
        {.head = "needs", .right = true},
        {.head = "left", .right = true, .optional = true},
        {.head = "context", .right = true},
        {.head = "sequences", .right = true},
        {.head = "TTFT", .right = true},
        {.head = "TPOT", .right = true},
        {.head = "tokens/s", .right = true},
        {.head = "per M output", .right = true},
        {.head = "price of"},
    };
    size_t n = p->opts.prices ? ASSAY_LEN(columns) : ASSAY_LEN(columns) - 2;
    assay_table_init(t, columns, n);
    for (size_t i = 0; i < p->n_fits; i++) {
        const assay_fit *f = &p->fits[i];
        char a[32];
        bool known = !isnan(f->budget);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", f->device->id);
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", f->runtime->id);
        if (!known)
            assay_table_cell(t, ASSAY_TONE_DIM, "memory unknown");
        else if (f->fits)
            assay_table_cell(t, ASSAY_TONE_GOOD, "on %d", f->n_parallel);
        else
            assay_table_cell(t, ASSAY_TONE_BAD, "no%s", f->n_parallel > 1 ? ", not in parallel" : "");
        assay_table_cell(t, ASSAY_TONE_NONE, "%s",
                         assay_show_size(a, sizeof a, f->weights + f->kv + f->activations + f->overhead));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_size(a, sizeof a, f->left));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s",
                         known ? assay_show_count(a, sizeof a, (double)f->max_context) : "-");
        assay_table_cell(t, ASSAY_TONE_NONE, "%s",
                         known ? assay_show_count(a, sizeof a, (double)f->max_concurrency) : "-");
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_ms(a, sizeof a, f->ttft, false));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s",
                         assay_show_ms(a, sizeof a, f->tpot, f->tpot_bound == ASSAY_BOUND_UNKNOWN));
        assay_table_cell(t, ASSAY_TONE_NONE, "%s",
                         assay_show_number(a, sizeof a, f->output_rate < 10 ? 1 : 0, f->output_rate));
        if (!p->opts.prices) continue;
        if (!f->price || isnan(f->cost_output))
            assay_table_cell(t, ASSAY_TONE_DIM, "-");
        else
            assay_table_cell(t, ASSAY_TONE_NONE, "%.2f %s", f->cost_output, f->price->currency);
        assay_table_cell(t, ASSAY_TONE_DIM, "%s", f->price ? f->price->date : "-");
    }
}

void assay_tables_memory(assay_table *t, const assay_plan *p) {
    static const assay_column columns[] = {
        {.head = "device"},
        {.head = "devices", .right = true},
        {.head = "weights", .right = true},
        {.head = "KV cache", .right = true},
        {.head = "activations", .right = true},
        {.head = "runtime", .right = true},
        {.head = "together", .right = true},
        {.head = "may use", .right = true},
        {.head = "left", .right = true},
    };
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (size_t i = 0; i < p->n_fits; i++) {
        const assay_fit *f = &p->fits[i];
        const double v[] = {f->weights,
                            f->kv,
                            f->activations,
                            f->overhead,
                            f->weights + f->kv + f->activations + f->overhead,
                            f->budget,
                            f->left};
        char a[32];
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", f->device->id);
        assay_table_cell(t, ASSAY_TONE_NONE, "%d", f->n_parallel);
        for (size_t k = 0; k < ASSAY_LEN(v); k++)
            assay_table_cell(t, k == 6 && v[k] < 0 ? ASSAY_TONE_BAD : ASSAY_TONE_NONE, "%s",
                             assay_show_size(a, sizeof a, v[k]));
    }
}

void assay_tables_sources(assay_table *t, const assay_plan *p) {
    static const assay_column columns[] = {{.head = "source"},
                                           {.head = "what", .shrink = true, .least = 24},
                                           {.head = "read"},
                                           {.head = "grade"}};
    size_t n;
    const assay_source *all = assay_sources(&n);
    assay_table_init(t, columns, ASSAY_LEN(columns));
    for (size_t s = 0; s < n; s++) {
        bool used = false;
        for (size_t i = 0; i < p->n_fits && !used; i++) {
            const assay_device *d = p->fits[i].device;
            const char *codes[] = {d->memory.source, d->bandwidth.source, d->f16.source,
                                   d->int8.source,   d->fp8.source,       p->fits[i].runtime->source};
            for (size_t k = 0; k < ASSAY_LEN(codes); k++)
                used |= codes[k] && strcmp(codes[k], all[s].code) == 0;
        }
        if (!used) continue;
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", all[s].code);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", all[s].title);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", all[s].date);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", all[s].grade);
    }
}

/* --- losses --- */

static const assay_column loss_columns[] = {{.head = "matrix", .shrink = true, .least = 24},
                                            {.head = "as"},
                                            {.head = "bits/weight", .right = true},
                                            {.head = "weight error", .right = true},
                                            {.head = "largest", .right = true, .optional = true},
                                            {.head = "output error", .right = true, .optional = true}};

static void percent_cell(assay_table *t, double v) {
    if (isnan(v))
        assay_table_cell(t, ASSAY_TONE_DIM, "-");
    else
        assay_table_cell(t, ASSAY_TONE_NONE, "%.3f %%", 100 * v);
}

/* columns: at least ASSAY_LOSS_COLUMNS, filled with those of which something is known. */
void assay_tables_losses(assay_table *t, assay_column *columns, const assay_report_loss *l, size_t n) {
    bool largest = false, output = false;
    size_t n_columns = 4;
    char a[32];
    for (size_t i = 0; i < n; i++) {
        largest |= !isnan(l[i].max_error);
        output |= !isnan(l[i].output_error);
    }
    memcpy(columns, loss_columns, n_columns * sizeof *columns);
    if (largest) columns[n_columns++] = loss_columns[4];
    if (output) columns[n_columns++] = loss_columns[5];
    assay_table_init(t, columns, n_columns);
    for (size_t i = 0; i < n; i++) {
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", l[i].matrix);
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", l[i].as ? l[i].as : "-");
        assay_table_cell(t, ASSAY_TONE_NONE, "%s", assay_show_number(a, sizeof a, 3, l[i].bits));
        percent_cell(t, l[i].weight_error);
        if (largest && isnan(l[i].max_error))
            assay_table_cell(t, ASSAY_TONE_DIM, "-");
        else if (largest)
            assay_table_cell(t, ASSAY_TONE_NONE, "%.4g", l[i].max_error);
        if (output) percent_cell(t, l[i].output_error);
    }
}
