/* pre.c: the table of pre.def: a name to steps, and steps to a name. */
#include "text/pre.h"

#include <string.h>
#include "base/mem.h"

#define PRE_WHOLE 1u
#define PRE_BOS   2u

typedef enum pre_kind {
    PRE_END,
    PRE_SPLIT,
    PRE_DIGIT,
    PRE_DIGITS,
    PRE_PUNCTUATION,
    PRE_WORDS,
    PRE_BYTES
} pre_kind;

typedef struct pre_step {
    pre_kind kind;
    const char *regex; /* SPLIT */
} pre_step;

#define MAX_STEPS 8
struct assay_pre {
    const char *names;
    unsigned flags;
    pre_step steps[MAX_STEPS]; /* up to PRE_END */
};

#define SPLIT(re)                                                                                            \
    { PRE_SPLIT, re }
#define DIGIT                                                                                                \
    { PRE_DIGIT, NULL }
#define DIGITS                                                                                               \
    { PRE_DIGITS, NULL }
#define PUNCTUATION                                                                                          \
    { PRE_PUNCTUATION, NULL }
#define WORDS                                                                                                \
    { PRE_WORDS, NULL }
#define BYTES                                                                                                \
    { PRE_BYTES, NULL }
#define PRE(names, flags, ...) {names, flags, {__VA_ARGS__}},
static const assay_pre rows[] = {
#include "text/pre.def"
};

static bool has_name(const assay_pre *p, const char *s, size_t n) {
    for (const char *at = p->names; *at;) {
        size_t len = strcspn(at, " ");
        if (len == n && memcmp(at, s, n) == 0) return true;
        at += len + (at[len] == ' ');
    }
    return false;
}

const assay_pre *assay_pre_find(assay_token_text name) {
    const char *s = name.s && name.n ? name.s : "default";
    size_t n = name.s && name.n ? name.n : strlen(s);
    for (size_t i = 0; i < ASSAY_LEN(rows); i++)
        if (has_name(&rows[i], s, n)) return &rows[i];
    return NULL;
}

static bool is_step(const pre_step *want, const assay_step *step) {
    const char *type = step->ops->type;
    switch (want->kind) {
    case PRE_SPLIT:
        return strcmp(type, "Split") == 0 && !step->literal && !step->invert &&
               step->behavior == ASSAY_SPLIT_ISOLATED && strcmp(step->source, want->regex) == 0;
    case PRE_DIGIT:
        return strcmp(type, "Digits") == 0 && step->individual_digits;
    case PRE_DIGITS:
        return strcmp(type, "Digits") == 0 && !step->individual_digits;
    case PRE_PUNCTUATION:
        return strcmp(type, "Punctuation") == 0 && step->behavior == ASSAY_SPLIT_CONTIGUOUS;
    case PRE_WORDS:
        return strcmp(type, "ByteLevel") == 0 && !step->add_prefix_space && step->pattern;
    case PRE_BYTES:
        return strcmp(type, "ByteLevel") == 0 && !step->add_prefix_space && !step->pattern;
    default:
        return false;
    }
}

const assay_pre *assay_pre_recognize(const assay_step_list *steps, bool whole_words) {
    for (size_t i = 0; i < ASSAY_LEN(rows); i++) {
        const assay_pre *p = &rows[i];
        size_t k = 0;
        while (k < steps->n && k < MAX_STEPS && is_step(&p->steps[k], &steps->v[k]))
            k++;
        if (k == steps->n && (k == MAX_STEPS || p->steps[k].kind == PRE_END) &&
            assay_pre_whole_words(p) == whole_words)
            return p;
    }
    return NULL;
}

assay_token_text assay_pre_name(const assay_pre *p) {
    return (assay_token_text){p->names, (uint32_t)strcspn(p->names, " ")};
}
bool assay_pre_whole_words(const assay_pre *p) {
    return p->flags & PRE_WHOLE;
}
bool assay_pre_adds_bos(const assay_pre *p) {
    return p->flags & PRE_BOS;
}

static json_t *step_json(const pre_step *s) {
    switch (s->kind) {
    case PRE_SPLIT:
        return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", s->regex,
                         "behavior", "Isolated", "invert", 0);
    case PRE_DIGIT:
    case PRE_DIGITS:
        return json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", s->kind == PRE_DIGIT);
    case PRE_PUNCTUATION:
        return json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", "Contiguous");
    default:
        return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                         "use_regex", s->kind == PRE_WORDS);
    }
}

assay_status assay_pre_steps(assay_step_list *out, const assay_pre *p, assay_err *err) {
    for (size_t i = 0; i < MAX_STEPS && p->steps[i].kind != PRE_END; i++) {
        json_t *j = step_json(&p->steps[i]);
        if (!j) return assay_nomem(err);
        assay_status s = assay_steps_parse(out, ASSAY_STEP_PRE_TOKENIZER, j, "pre_tokenizer", p->names, err);
        json_decref(j);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}
