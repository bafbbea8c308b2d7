/* eval/suite_impl.h: what suite.c, items.c and language.c share while a suite is being read. */
#ifndef ASSAY_EVAL_SUITE_IMPL_H
#define ASSAY_EVAL_SUITE_IMPL_H

#include "eval/suite.h"

typedef struct assay_suite_reader {
    assay_suite *suite;
    assay_yaml_doc *doc;
    const assay_yaml *evaluators;   /* the options by name; NULL: none */
    char *dir;                      /* files are relative to it */
    const char *memory;             /* stands for every file; NULL: files are read */
    size_t n_memory;
    bool closed_dimensions;         /* the suite lists them: others are errors */
    struct assay_id_table *ids;     /* of items, for duplicates */
} assay_suite_reader;

/* The file's bytes (owned by the caller, NUL-terminated) and the name for messages (owned by the suite). */
assay_status assay_suite_read_file(char **data, size_t *n, const char **name, assay_suite_reader *r, const char *file, assay_err *err);
/* Index of the evaluator of that name, opened with the suite's options when it is new. ENOTFOUND without a message. */
assay_status assay_suite_use(size_t *index, assay_suite_reader *r, const char *name, assay_err *err);
/* Arena copies; NULL text gives NULL. */
assay_status assay_suite_strdup(const char **out, assay_suite *s, const char *text, assay_err *err);
/* EINPUT "unknown evaluator 'x', did you mean 'y'" prefixed by nothing. */
assay_status assay_suite_unknown_evaluator(const char *name, assay_err *err);

assay_status assay_suite_add_dimension(assay_suite_reader *r, const char *name, assay_err *err);
assay_status assay_suite_add_slice(assay_suite_reader *r, assay_slice_list *l, const char *name, assay_err *err);

assay_status assay_suite_read_items(assay_suite_reader *r, const char *file, assay_err *err);
assay_status assay_suite_read_shots(assay_suite_reader *r, const char *file, assay_err *err);
assay_status assay_suite_read_languages(assay_suite_reader *r, const assay_yaml *map, assay_err *err);
void assay_id_table_free(struct assay_id_table *t);

#endif
