/* text/steps.h: the stages between a text and the model, and between tokens and text: normalizers,
 * pre-tokenizers, decoders.
 *
 * tokenizer.json nests them in Sequences; here each kind is one flat list. A step is immutable; its kind is a
 * row of steps.def. */
#ifndef ASSAY_TEXT_STEPS_H
#define ASSAY_TEXT_STEPS_H

#include "base/json.h"
#include "base/str.h"
#include "text/charsmap.h"
#include "text/pattern.h"

typedef enum assay_split {
    ASSAY_SPLIT_ISOLATED,
    ASSAY_SPLIT_REMOVED,
    ASSAY_SPLIT_MERGED_WITH_PREVIOUS,
    ASSAY_SPLIT_MERGED_WITH_NEXT,
    ASSAY_SPLIT_CONTIGUOUS
} assay_split;
typedef enum assay_prepend { ASSAY_PREPEND_ALWAYS, ASSAY_PREPEND_FIRST, ASSAY_PREPEND_NEVER } assay_prepend;

typedef struct assay_step assay_step;
struct assay_piece_list;
struct assay_stage;

/* What a kind does; the member that fits the list it stands in is set. */
typedef struct assay_step_ops {
    const char *type; /* as in the JSON */
    assay_status (*parse)(assay_step *step, const json_t *j, const char *where, assay_err *err);
    assay_status (*normalize)(assay_str *out, const assay_step *step, const char *s, size_t n,
                              assay_err *err);
    assay_status (*split)(struct assay_piece_list *pieces, const assay_step *step, assay_err *err);
    const struct assay_stage_ops *decode;
} assay_step_ops;

struct assay_step {
    const assay_step_ops *ops;
    json_t *json; /* as it was read; owned */
    char *text; /* Prepend: what; Replace: the content; Metaspace: the replacement; Strip: the character;
                   BPEDecoder: the suffix. Owned */
    size_t n_text;
    assay_pattern *pattern;                        /* Replace, Split, ByteLevel, Whitespace. Owned */
    char *source;                                  /* Split: the pattern as the file has it. Owned */
    bool literal;                                  /* Split: it is a plain string */
    assay_charsmap map;                            /* Precompiled */
    assay_split behavior;                          /* Split, Punctuation */
    assay_prepend prepend;                         /* Metaspace */
    bool invert;                                   /* Split */
    bool add_prefix_space;                         /* ByteLevel */
    bool individual_digits;                        /* Digits */
    bool split;                                    /* Metaspace */
    bool left, right;                              /* Strip (normalizer) */
    size_t start, stop;                            /* Strip (decoder): characters */
    bool clean, chinese, strip_accents, lowercase; /* BertNormalizer */
};

typedef struct assay_step_list {
    assay_step *v; /* owned */
    size_t n, cap;
} assay_step_list;

typedef enum assay_step_kind {
    ASSAY_STEP_NORMALIZER,
    ASSAY_STEP_PRE_TOKENIZER,
    ASSAY_STEP_DECODER
} assay_step_kind;

/* Appends the steps of j (null gives none). `key` is the JSON key, for messages. EUNSUPPORTED names an
 * unknown type. */
assay_status assay_steps_parse(assay_step_list *list, assay_step_kind kind, const json_t *j, const char *key,
                               const char *where, assay_err *err);
void assay_steps_free(assay_step_list *list);

/* Runs normalizers over s; appends to out. a is scratch. */
assay_status assay_steps_normalize(assay_str *out, const assay_step_list *list, const char *s, size_t n,
                                   assay_err *err);

/* --- pre-tokenization --- */

/* A pre-token: text[begin, end) of the list's text, or an added token. */
typedef struct assay_piece {
    size_t begin, end;
    int32_t id; /* >= 0: an added token, already settled */
    bool first; /* begins where the original text begins */
} assay_piece;

typedef struct assay_piece_list {
    assay_str text;
    assay_piece *v;
    size_t n, cap;
    /* scratch: the next generation of both, swapped in by each step */
    assay_str next_text;
    assay_piece *next;
    size_t n_next, cap_next;
    assay_spans spans, merged;
} assay_piece_list;
void assay_pieces_free(assay_piece_list *p);
assay_status assay_pieces_put(assay_piece_list *p, size_t begin, size_t end, int32_t id, bool first,
                              assay_err *err);
assay_status assay_steps_split(assay_piece_list *p, const assay_step_list *list, assay_err *err);

/* GPT-2's printable alphabet for bytes: code point of a byte, and byte of a code point (-1: not in the
 * alphabet). */
int32_t assay_byte_to_char(unsigned char byte);
int assay_char_to_byte(int32_t cp);

/* Tables, one per kind, ending in a NULL type. */
extern const assay_step_ops assay_normalizers[], assay_pre_tokenizers[], assay_decoders[];

/* Shared parts of the parse functions. */
assay_status assay_step_parse_pattern(assay_step *step, const json_t *j, const char *where, assay_err *err);
assay_status assay_step_parse_text(assay_step *step, const json_t *j, const char *key, const char *standard,
                                   const char *where, assay_err *err);
assay_status assay_step_parse_metaspace(assay_step *step, const json_t *j, const char *where, assay_err *err);
assay_status assay_step_parse_replace(assay_step *step, const json_t *j, const char *where, assay_err *err);
assay_status assay_step_parse_none(assay_step *step, const json_t *j, const char *where, assay_err *err);
/* Appends s with every match of the step's pattern replaced by its text. */
assay_status assay_step_replace(assay_str *out, const assay_step *step, const char *s, size_t n,
                                assay_err *err);

#endif
