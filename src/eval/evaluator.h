/* eval/evaluator.h: what an evaluator supplies. One file per evaluator fills one `assay_evaluator`; evaluators.def lists them.
 *
 * Two shapes. A *text* evaluator grades what the model wrote: `grade`. A *score* evaluator asks for log-probabilities: `plan` writes
 * its requests into a unit (the work of one item), `judge` turns the results into a record; with `logits` it also sees the whole
 * distribution of every scored position. Score evaluators that work on running text rather than on items have `expand`, which cuts
 * a text into units. Nothing here prints or keeps state between units. */
#ifndef ASSAY_EVAL_EVALUATOR_H
#define ASSAY_EVAL_EVALUATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"
#include "base/yaml.h"
#include "runtime/runtime.h"
#include "store/record.h"

struct assay_item;
struct assay_language;
struct assay_suite;

/* --- options --- */

typedef enum assay_option_kind {
    ASSAY_OPTION_BOOL,
    ASSAY_OPTION_INT,
    ASSAY_OPTION_WORD,       /* one of `words`, separated by spaces */
    ASSAY_OPTION_PATTERNS    /* a list of patterns, empty by default */
} assay_option_kind;

typedef struct assay_option {
    const char *name;
    assay_option_kind kind;
    int64_t number, lo, hi;  /* INT: default and range; BOOL: default */
    const char *words;       /* WORD: the first is the default */
    const char *help;        /* one line */
} assay_option;

/* --- the work of one item --- */

typedef struct assay_unit_request {
    int32_t *ids;            /* owned by the unit */
    size_t n_ids;
    size_t from;             /* score: first id scored; text: n_ids */
} assay_unit_request;

typedef struct assay_unit {
    const struct assay_item *item;        /* NULL: running text */
    const struct assay_language *language;
    size_t evaluator;        /* index in suite->evaluators */
    char *id;                /* owned; of the record */
    size_t begin, end;       /* language: bytes of the text that the unit covers */
    assay_unit_request *requests;         /* owned */
    size_t n_requests;
    int64_t max_tokens;      /* text */
    char *problem;           /* owned; why it cannot be run (the record becomes an error); NULL: it can */
    char item_hash[ASSAY_HASH_HEX], prompt_hash[ASSAY_HASH_HEX], ids_hash[ASSAY_HASH_HEX];
} assay_unit;

/* What planning may use. */
typedef struct assay_eval_env {
    const struct assay_suite *suite;
    const assay_tokenizer *tokenizer;
    size_t context;
    int32_t prefix;          /* id that stands before a text: BOS, else EOS, else -1 */
    const char *prefix_text; /* its text; NULL: none */
    bool adds_bos;           /* the tokenizer puts BOS before every text */
    const char *kl_dir;      /* where the baseline's distributions are; NULL: nowhere */
    bool kl_write;           /* this run is the baseline and writes them */
    size_t n_vocab;
} assay_eval_env;

/* Adds an empty request of the unit's own and copies ids into it. */
assay_status assay_unit_add(assay_unit *u, const int32_t *ids, size_t n_ids, size_t from, assay_err *err);
/* Notes why the unit cannot be run. */
assay_status assay_unit_refuse(assay_unit *u, assay_err *err, const char *fmt, ...) ASSAY_PRINTF(3, 4);
void assay_unit_deinit(assay_unit *u);

/* Takes a unit (moved: *u is zeroed) into the run. */
typedef assay_status (*assay_unit_fn)(void *ctx, assay_unit *u, assay_err *err);

/* --- the table --- */

typedef struct assay_evaluator {
    const char *name;
    int version;
    unsigned needs;                   /* ASSAY_CAN_* */
    bool binary;                      /* scores are 0 or 1 */
    bool needs_answer, needs_choices;
    const assay_option *options;
    size_t n_options;
    /* State from options (compiled patterns); NULL when there is none. */
    assay_status (*open)(void **state, const json_t *options, assay_err *err);
    void (*close)(void *state);
    /* Completes and checks an item; the message gets file and line in front. May be NULL. */
    assay_status (*check)(struct assay_item *item, const void *state, assay_err *err);
    /* text: fills score, aux, answer, detail, outcome (OK beforehand). */
    assay_status (*grade)(assay_record *r, const void *state, const struct assay_item *item, const char *output, assay_err *err);
    /* score, on items: ctx_text is the rendered prompt. */
    assay_status (*plan)(assay_unit *u, const void *state, const assay_eval_env *env, const char *context_text, assay_err *err);
    /* score, on running text: gives fn one unit after another, requests included. */
    assay_status (*expand)(const struct assay_language *l, const void *state, const assay_eval_env *env, assay_unit_fn fn, void *ctx,
                           assay_err *err);
    /* score: results of the unit's requests -> score, aux, weight, output, answer. `seen` is what `see` filled. */
    assay_status (*judge)(assay_record *r, const void *state, const assay_unit *u, const assay_score_res *res, void *seen, assay_err *err);
    /* whole distributions: a state per unit, fed in order of request and position. */
    assay_status (*see_begin)(void **seen, const assay_unit *u, const assay_eval_env *env, assay_err *err);
    assay_status (*see)(void *seen, const float *logits, size_t n_vocab, assay_err *err);
    void (*see_end)(void *seen);
    /* Whether something besides the record is still to be made for a unit whose record is there already. May be NULL. */
    bool (*unfinished)(const assay_unit *u, const assay_eval_env *env);
} assay_evaluator;

#define X(name) extern const assay_evaluator assay_evaluator_##name;
#include "eval/evaluators.def"
#undef X

/* The whole table, in its order. */
const assay_evaluator *const *assay_evaluators(size_t *n);
/* NULL when there is none of that name. */
const assay_evaluator *assay_evaluator_find(const char *name);

/* An evaluator with its options, as a suite uses it. */
typedef struct assay_evaluator_use {
    const assay_evaluator *def;
    json_t *options;                  /* every option, defaults filled in; owned */
    void *state;                      /* owned */
    char hash[ASSAY_HASH_HEX];        /* of name, version and options */
} assay_evaluator_use;

/* map: the options' mapping, NULL for the defaults. */
assay_status assay_evaluator_use_open(assay_evaluator_use *out, const assay_evaluator *def, const assay_yaml_doc *d, const assay_yaml *map,
                                      assay_err *err);
void assay_evaluator_use_close(assay_evaluator_use *u);

#endif
