/* report/table.h: tables of text that know the width they may have. One table renders to terminal or
 * Markdown.
 *
 * Cells are copied. Widths count display columns of the common case: one per code point, none for combining
 * marks, two for the East Asian wide blocks. When a terminal table is too wide, its shrinkable columns are
 * cut with an ellipsis, widest first, and if that is not enough columns marked optional are left out, last
 * first. */
#ifndef ASSAY_REPORT_TABLE_H
#define ASSAY_REPORT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "report/report.h"

typedef enum assay_tone {
    ASSAY_TONE_NONE,
    ASSAY_TONE_GOOD,
    ASSAY_TONE_BAD,
    ASSAY_TONE_OPEN,
    ASSAY_TONE_DIM,
    ASSAY_TONE_BOLD
} assay_tone;

typedef struct assay_column {
    const char *head; /* borrowed until the table is freed */
    bool right;       /* numbers */
    bool shrink;      /* may be cut to `least` columns */
    bool optional;    /* may be left out */
    int least;        /* 0 = 8 */
} assay_column;

typedef struct assay_table {
    const assay_column *columns;
    size_t n_columns;
    char **cells; /* rows * n_columns; a row whose first cell is NULL is a rule */
    assay_tone *tones;
    size_t n_cells, cap_cells, cap_tones;
    assay_arena arena;
    bool failed; /* out of memory while adding; render reports it */
} assay_table;

void assay_table_init(assay_table *t, const assay_column *columns, size_t n_columns);
void assay_table_cell(assay_table *t, assay_tone tone, const char *fmt, ...)
    ASSAY_PRINTF(3, 4);                /* row by row, left to right */
void assay_table_rule(assay_table *t); /* a line between rows; only at a row's start */
assay_status assay_table_text(assay_str *out, const assay_table *t, const assay_term *term, assay_err *err);
assay_status assay_table_markdown(assay_str *out, const assay_table *t, assay_err *err);
/* The least width it can be brought to, in columns. */
int assay_table_least(const assay_table *t);
void assay_table_free(assay_table *t);

#endif
