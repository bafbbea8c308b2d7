/* table.c: fitting a table of text into a width. */
#include "report/table.h"
#include <stdarg.h>
#include <string.h>
#include "report/show.h"

#define MOST_COLUMNS 32
#define GAP          2

void assay_table_init(assay_table *t, const assay_column *columns, size_t n_columns) {
    memset(t, 0, sizeof *t);
    t->columns = columns;
    t->n_columns = ASSAY_MIN(n_columns, MOST_COLUMNS);
}

static void add(assay_table *t, char *cell, assay_tone tone) {
    if (assay_grow(&t->cells, &t->cap_cells, t->n_cells + 1, sizeof *t->cells, NULL) != ASSAY_OK ||
        assay_grow(&t->tones, &t->cap_tones, t->n_cells + 1, sizeof *t->tones, NULL) != ASSAY_OK) {
        t->failed = true;
        return;
    }
    t->cells[t->n_cells] = cell;
    t->tones[t->n_cells++] = tone;
}

void assay_table_cell(assay_table *t, assay_tone tone, const char *fmt, ...) {
    assay_str b = {0};
    va_list ap;
    va_start(ap, fmt);
    assay_str_vprintf(&b, fmt, ap);
    va_end(ap);
    char *copy = assay_arena_strndup(&t->arena, assay_str_c(&b), b.len);
    if (b.failed || !copy) t->failed = true;
    assay_str_free(&b);
    add(t, copy ? copy : NULL, tone);
}

void assay_table_rule(assay_table *t) {
    for (size_t i = 0; i < t->n_columns; i++)
        add(t, NULL, ASSAY_TONE_NONE);
}

void assay_table_free(assay_table *t) {
    assay_free(t->cells);
    assay_free(t->tones);
    assay_arena_free(&t->arena);
    memset(t, 0, sizeof *t);
}

static int text_width(const char *s) {
    return s ? assay_utf8_width(s, strlen(s)) : 0;
}

/* Natural widths, then the widest shrinkable column loses one column at a time. Returns the total. */
static int fit(int *width, const bool *shown, const assay_table *t, int most) {
    int total = -GAP;
    for (size_t c = 0; c < t->n_columns; c++) {
        if (!shown[c]) continue;
        width[c] = text_width(t->columns[c].head);
        for (size_t i = c; i < t->n_cells; i += t->n_columns)
            width[c] = ASSAY_MAX(width[c], text_width(t->cells[i]));
        total += width[c] + GAP;
    }
    while (total > most) {
        size_t widest = t->n_columns;
        for (size_t c = 0; c < t->n_columns; c++) {
            int least = t->columns[c].least ? t->columns[c].least : 8;
            if (shown[c] && t->columns[c].shrink && width[c] > least &&
                (widest == t->n_columns || width[c] > width[widest]))
                widest = c;
        }
        if (widest == t->n_columns) break;
        width[widest]--;
        total--;
    }
    return total;
}

int assay_table_least(const assay_table *t) {
    int width[MOST_COLUMNS];
    bool shown[MOST_COLUMNS];
    for (size_t c = 0; c < t->n_columns; c++)
        shown[c] = !t->columns[c].optional;
    return fit(width, shown, t, 0);
}

static void put_cell(assay_str *out, const char *s, const assay_column *col, int width, assay_tone tone,
                     const assay_term *term, bool last) {
    static const char *const sgr[] = {"", "32", "31", "33", "2", "1"};
    assay_str b = {0};
    assay_show_line(&b, s, width, term->ascii);
    int pad = width - assay_utf8_width(assay_str_c(&b), b.len);
    if (b.failed) out->failed = true;
    if (col->right) assay_str_fill(out, ' ', (size_t)ASSAY_MAX(pad, 0));
    bool colour = term->colour && tone != ASSAY_TONE_NONE && b.len;
    if (colour) assay_str_printf(out, "\033[%sm", sgr[tone]);
    assay_str_put(out, assay_str_c(&b));
    if (colour) assay_str_put(out, "\033[0m");
    if (!col->right && !last) assay_str_fill(out, ' ', (size_t)ASSAY_MAX(pad, 0));
    if (!last) assay_str_fill(out, ' ', GAP);
    assay_str_free(&b);
}

assay_status assay_table_text(assay_str *out, const assay_table *t, const assay_term *term, assay_err *err) {
    int width[MOST_COLUMNS] = {0}, most = term->width > 0 ? term->width : 100;
    bool shown[MOST_COLUMNS];
    if (t->failed) return assay_nomem(err);
    for (size_t c = 0; c < t->n_columns; c++)
        shown[c] = true;
    int total;
    for (;;) {
        total = fit(width, shown, t, most);
        if (total <= most) break;
        size_t drop = t->n_columns;
        for (size_t c = 0; c < t->n_columns; c++)
            if (shown[c] && t->columns[c].optional) drop = c;
        if (drop == t->n_columns) break; /* nothing to leave out: the line is longer than the terminal */
        shown[drop] = false;
    }
    size_t end = 0;
    for (size_t c = 0; c < t->n_columns; c++)
        if (shown[c]) end = c;
    for (size_t c = 0; c < t->n_columns; c++)
        if (shown[c])
            put_cell(out, t->columns[c].head, &t->columns[c], width[c], ASSAY_TONE_BOLD, term, c == end);
    assay_str_putc(out, '\n');
    for (int i = 0; i < total; i++)
        assay_str_put(out, term->ascii ? "-" : "─");
    assay_str_putc(out, '\n');
    for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns) {
        if (!t->cells[i]) {
            for (int k = 0; k < total; k++)
                assay_str_put(out, term->ascii ? "-" : "─");
        } else {
            for (size_t c = 0; c < t->n_columns; c++)
                if (shown[c])
                    put_cell(out, t->cells[i + c], &t->columns[c], width[c], t->tones[i + c], term, c == end);
        }
        assay_str_putc(out, '\n');
    }
    return assay_str_status(out, err);
}

static void put_markdown(assay_str *out, const char *s) {
    size_t n = s ? strlen(s) : 0, i = 0;
    for (; i < n && s[i] == ' '; i++) assay_str_put(out, "&nbsp;"); /* indentation */
    if (n) assay_show_markdown(out, s + i, n - i, "\\|*_`[]~");
}

assay_status assay_table_markdown(assay_str *out, const assay_table *t, assay_err *err) {
    if (t->failed) return assay_nomem(err);
    assay_str_putc(out, '|');
    for (size_t c = 0; c < t->n_columns; c++) {
        assay_str_putc(out, ' ');
        put_markdown(out, t->columns[c].head);
        assay_str_put(out, " |");
    }
    assay_str_put(out, "\n|");
    for (size_t c = 0; c < t->n_columns; c++)
        assay_str_put(out, t->columns[c].right ? "---:|" : "---|");
    assay_str_putc(out, '\n');
    for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns) {
        if (!t->cells[i]) continue;
        assay_str_putc(out, '|');
        for (size_t c = 0; c < t->n_columns; c++) {
            assay_str_putc(out, ' ');
            put_markdown(out, t->cells[i + c]);
            assay_str_put(out, " |");
        }
        assay_str_putc(out, '\n');
    }
    return assay_str_status(out, err);
}
