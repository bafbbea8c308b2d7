/* eval/suite.h: a versioned set of items, evaluators and dimensions, read from files. docs/suites.md is the schema.
 *
 * Reading is strict: an unknown key, a duplicate id, an empty suite, a pattern that does not compile, a field that the item's
 * evaluator needs and does not find are EINPUT with file and line. A suite is immutable after loading. */
#ifndef ASSAY_EVAL_SUITE_H
#define ASSAY_EVAL_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "eval/evaluator.h"
#include "text/regex.h"

typedef struct assay_item {
    const char *id, *dimension, *slice;
    const char *cluster;            /* NULL: the item is its own cluster */
    const char *prompt;             /* one of prompt and messages */
    json_t *messages;               /* owned by the suite */
    const char *const *answers;     /* any of them is right; evaluators without a reference: n_answers 0 */
    size_t n_answers;
    json_t *reference;              /* json_call: the parsed answer; owned by the suite */
    const char *extract;            /* pattern; NULL: none */
    assay_regex *extract_re;        /* owned by the suite */
    const char *const *choices;
    size_t n_choices, gold;
    size_t evaluator;               /* index in suite->evaluators */
    int64_t max_tokens;             /* 0: the suite's */
    char hash[ASSAY_HASH_HEX];      /* of its canonical JSON */
} assay_item;

typedef struct assay_shot {         /* a solved example in front of the items of its dimension */
    const char *dimension;
    const char *prompt, *answer;
} assay_shot;

typedef struct assay_language {     /* a text for perplexity and KL */
    const char *name;               /* its key in the suite: the slice of its records */
    const char *file;
    const char *text;               /* after cutting to `limit` documents */
    size_t n;
    size_t *docs;                   /* documents as [begin, end) pairs of offsets: 2 * n_docs */
    size_t n_docs;
    size_t *evaluators;             /* indices in suite->evaluators */
    size_t n_evaluators;
    char hash[ASSAY_HASH_HEX];      /* of text and boundaries */
} assay_language;

typedef struct assay_slice_list {   /* a dimension and its slices, in the order of reports */
    const char *dimension;
    const char **slices;
    size_t *counts;                 /* items of each slice */
    size_t n_slices, cap_slices, cap_counts;
    bool closed;                    /* the suite lists them: others are errors */
} assay_slice_list;

typedef struct assay_suite {
    const char *name, *version, *path;
    assay_evaluator_use *evaluators;  /* every one that an item or a text uses */
    size_t n_evaluators, cap_evaluators;
    bool chat;                        /* prompts go through the model's chat template */
    const char *system;               /* system message; NULL: none */
    const char *date;                 /* "2024-07-26": the day that a chat template sees, whenever it is rendered */
    int64_t now;                      /* its seconds since the epoch */
    const char *delimiter;            /* between context and choice without chat: " " as in lm-eval */
    assay_shot *shots;
    size_t n_shots, cap_shots;
    int64_t few_shot;                 /* examples in front of each item */
    const char *shot_separator;       /* without chat: "\n\n" */
    int64_t limit;                    /* items per slice; 0: all */
    int64_t max_tokens;
    const char **stop;
    size_t n_stop;
    assay_item *items;                /* in the order of the files */
    size_t n_items, cap_items;
    assay_language *languages;
    size_t n_languages;
    assay_slice_list *dimensions;     /* those of the items; texts add theirs when they are evaluated */
    size_t n_dimensions, cap_dimensions;
    char hash[ASSAY_HASH_HEX];        /* of everything above that changes a score or its meaning; paths and layout do not */
    assay_arena arena;
} assay_suite;

/* path: a suite's YAML; the files it names are relative to its folder. Owned by the caller. */
assay_status assay_suite_load(assay_suite **out, const char *path, assay_err *err);
/* `limit`: as the suite's own key (0: leave it as the file says), for a quick look; it changes the suite's hash. */
assay_status assay_suite_load_limited(assay_suite **out, const char *path, int64_t limit, assay_err *err);
/* From memory: `items` (may be NULL) stands for every item file that the YAML names. For tests and fuzzing. */
assay_status assay_suite_parse(assay_suite **out, const char *yaml, size_t n, const char *items, size_t n_items, const char *name, assay_err *err);
void assay_suite_free(assay_suite *s); /* NULL is fine */

/* {"suite", "version", "hash", "items", "evaluators": [{name, version, options}], ...}: for manifests. New reference. */
json_t *assay_suite_manifest(const assay_suite *s);

#endif
