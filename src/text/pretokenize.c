/* pretokenize.c: the pre-tokenizers of tokenizer.json. Each replaces every piece of the list by the pieces it
 * falls into; some also change the text. Empty pieces vanish, added tokens pass through.
 *
 * `first` says that a piece begins where the original text begins (Metaspace's "first"). The original tracks
 * offsets instead, which differs when a normalizer has put characters before a piece that is then split behind
 * them, or has taken the text's first characters away. */
#include <string.h>
#include "base/mem.h"
#include "text/steps.h"
#include "text/unicode.h"

static const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- lists ---- */

void assay_pieces_free(assay_piece_list *p) {
    assay_str_free(&p->text);
    assay_str_free(&p->next_text);
    assay_free(p->v);
    assay_free(p->next);
    assay_spans_free(&p->spans);
    assay_spans_free(&p->merged);
    memset(p, 0, sizeof *p);
}

assay_status assay_pieces_put(assay_piece_list *p, size_t begin, size_t end, int32_t id, bool first,
                              assay_err *err) {
    if (id < 0 && begin == end) return ASSAY_OK;
    if (p->n == p->cap) ASSAY_TRY(assay_grow(&p->v, &p->cap, p->n + 1, sizeof *p->v, err));
    p->v[p->n++] = (assay_piece){begin, end, id, first};
    return ASSAY_OK;
}

static assay_status next_put(assay_piece_list *p, size_t begin, size_t end, int32_t id, bool first,
                             assay_err *err) {
    if (id < 0 && begin == end) return ASSAY_OK;
    if (p->n_next == p->cap_next)
        ASSAY_TRY(assay_grow(&p->next, &p->cap_next, p->n_next + 1, sizeof *p->next, err));
    p->next[p->n_next++] = (assay_piece){begin, end, id, first};
    return ASSAY_OK;
}

/* The pieces put with next_put become the list; with new_text also the text. */
static assay_status adopt(assay_piece_list *p, bool new_text, assay_err *err) {
    assay_piece *v = p->v;
    size_t cap = p->cap;
    p->v = p->next, p->n = p->n_next, p->cap = p->cap_next;
    p->next = v, p->n_next = 0, p->cap_next = cap;
    if (!new_text) return ASSAY_OK;
    assay_str t = p->text;
    p->text = p->next_text;
    p->next_text = t;
    assay_str_clear(&p->next_text);
    return assay_str_status(&p->text, err);
}

/* ---- splitting by spans ---- */

static assay_status find_chars(assay_spans *out, bool (*is)(int32_t), const char *s, size_t n,
                               assay_err *err) {
    size_t prev = 0;
    out->n = 0;
    for (size_t i = 0, len; i < n; i += len) {
        if (!is(assay_utf8_next(&len, s + i, n - i))) continue;
        if (prev < i) ASSAY_TRY(assay_spans_put(out, prev, i, false, err));
        ASSAY_TRY(assay_spans_put(out, i, i + len, true, err));
        prev = i + len;
    }
    return prev < n ? assay_spans_put(out, prev, n, false, err) : ASSAY_OK;
}

/* Joins neighbouring spans as the behavior says; in the result `match` means "leave out". */
static assay_status merge_spans(assay_spans *out, const assay_spans *in, assay_split behavior,
                                assay_err *err) {
    out->n = 0;
    bool previous = false;
    if (behavior == ASSAY_SPLIT_MERGED_WITH_NEXT) {
        for (size_t k = in->n; k-- > 0;) {
            bool match = in->v[k].match;
            if (match && !previous && out->n)
                out->v[out->n - 1].begin = in->v[k].begin;
            else
                ASSAY_TRY(assay_spans_put(out, in->v[k].begin, in->v[k].end, false, err));
            previous = match;
        }
        for (size_t a = 0, b = out->n; a + 1 < b; a++) {
            assay_span t = out->v[--b];
            out->v[b] = out->v[a];
            out->v[a] = t;
        }
        return ASSAY_OK;
    }
    for (size_t k = 0; k < in->n; k++) {
        bool match = in->v[k].match;
        bool join = behavior == ASSAY_SPLIT_CONTIGUOUS             ? match == previous
                    : behavior == ASSAY_SPLIT_MERGED_WITH_PREVIOUS ? match && !previous
                                                                   : false;
        if (join && out->n)
            out->v[out->n - 1].end = in->v[k].end;
        else
            ASSAY_TRY(assay_spans_put(out, in->v[k].begin, in->v[k].end,
                                      behavior == ASSAY_SPLIT_REMOVED && match, err));
        previous = match;
    }
    return ASSAY_OK;
}

/* Puts piece q, cut along p->spans. */
static assay_status put_cut(assay_piece_list *p, const assay_piece *q, assay_split behavior, assay_err *err) {
    const assay_spans *cut = &p->spans;
    if (behavior != ASSAY_SPLIT_ISOLATED) {
        ASSAY_TRY(merge_spans(&p->merged, &p->spans, behavior, err));
        cut = &p->merged;
    }
    bool removes = behavior == ASSAY_SPLIT_REMOVED;
    for (size_t k = 0; k < cut->n; k++) {
        if (removes && cut->v[k].match) continue;
        ASSAY_TRY(next_put(p, q->begin + cut->v[k].begin, q->begin + cut->v[k].end, -1,
                           q->first && cut->v[k].begin == 0, err));
    }
    return ASSAY_OK;
}

static assay_status split_pattern(assay_piece_list *p, const assay_step *step, assay_err *err) {
    for (size_t i = 0; i < p->n; i++) {
        assay_piece q = p->v[i];
        if (q.id >= 0) {
            ASSAY_TRY(next_put(p, q.begin, q.end, q.id, q.first, err));
            continue;
        }
        ASSAY_TRY(assay_pattern_find(&p->spans, step->pattern, p->text.s + q.begin, q.end - q.begin, err));
        for (size_t k = 0; step->invert && k < p->spans.n; k++)
            p->spans.v[k].match = !p->spans.v[k].match;
        ASSAY_TRY(put_cut(p, &q, step->behavior, err));
    }
    return adopt(p, false, err);
}

static assay_status split_chars(assay_piece_list *p, bool (*is)(int32_t), assay_split behavior,
                                assay_err *err) {
    for (size_t i = 0; i < p->n; i++) {
        assay_piece q = p->v[i];
        if (q.id >= 0) {
            ASSAY_TRY(next_put(p, q.begin, q.end, q.id, q.first, err));
            continue;
        }
        ASSAY_TRY(find_chars(&p->spans, is, p->text.s + q.begin, q.end - q.begin, err));
        ASSAY_TRY(put_cut(p, &q, behavior, err));
    }
    return adopt(p, false, err);
}

static assay_status split_digits(assay_piece_list *p, const assay_step *step, assay_err *err) {
    return split_chars(p, assay_char_is_numeric,
                       step->individual_digits ? ASSAY_SPLIT_ISOLATED : ASSAY_SPLIT_CONTIGUOUS, err);
}
static assay_status split_whitespace(assay_piece_list *p, const assay_step *step, assay_err *err) {
    (void)step;
    return split_chars(p, assay_char_is_space, ASSAY_SPLIT_REMOVED, err);
}
static assay_status split_punctuation(assay_piece_list *p, const assay_step *step, assay_err *err) {
    return split_chars(p, assay_char_is_punct, step->behavior, err);
}

static assay_status split_bert(assay_piece_list *p, const assay_step *step, assay_err *err) {
    (void)step;
    ASSAY_TRY(split_chars(p, assay_char_is_space, ASSAY_SPLIT_REMOVED, err));
    p->n_next = 0;
    return split_chars(p, assay_char_is_punct, ASSAY_SPLIT_ISOLATED, err);
}

/* ---- those that change the text ---- */

/* Bytes to the printable alphabet, piece by piece, into next_text. */
static assay_status map_bytes(assay_piece_list *p, assay_err *err) {
    for (size_t i = 0; i < p->n; i++) {
        assay_piece q = p->v[i];
        size_t begin = p->next_text.len;
        for (size_t k = q.begin; q.id < 0 && k < q.end; k++) {
            unsigned char c = (unsigned char)p->text.s[k];
            if (c > ' ' && c < 0x7F)
                assay_str_putc(&p->next_text, (char)c);
            else
                assay_utf8_put(&p->next_text, assay_byte_to_char(c));
        }
        ASSAY_TRY(next_put(p, begin, p->next_text.len, q.id, q.first, err));
    }
    return adopt(p, true, err);
}

static assay_status prefix_space(assay_piece_list *p, assay_err *err) {
    for (size_t i = 0; i < p->n; i++) {
        assay_piece q = p->v[i];
        size_t begin = p->next_text.len;
        if (q.id < 0 && p->text.s[q.begin] != ' ') assay_str_putc(&p->next_text, ' ');
        if (q.id < 0) assay_str_putn(&p->next_text, p->text.s + q.begin, q.end - q.begin);
        ASSAY_TRY(next_put(p, begin, p->next_text.len, q.id, q.first, err));
    }
    return adopt(p, true, err);
}

static assay_status split_byte_level(assay_piece_list *p, const assay_step *step, assay_err *err) {
    if (step->add_prefix_space) ASSAY_TRY(prefix_space(p, err));
    if (step->pattern) ASSAY_TRY(split_pattern(p, step, err));
    return map_bytes(p, err);
}

static assay_status split_metaspace(assay_piece_list *p, const assay_step *step, assay_err *err) {
    for (size_t i = 0; i < p->n; i++) {
        assay_piece q = p->v[i];
        size_t begin = p->next_text.len;
        if (q.id >= 0) {
            ASSAY_TRY(next_put(p, begin, begin, q.id, q.first, err));
            continue;
        }
        const char *s = p->text.s + q.begin;
        size_t n = q.end - q.begin;
        bool there = s[0] == ' ' || (n >= step->n_text && memcmp(s, step->text, step->n_text) == 0);
        bool wanted =
            step->prepend == ASSAY_PREPEND_ALWAYS || (step->prepend == ASSAY_PREPEND_FIRST && q.first);
        if (wanted && !there) assay_str_putn(&p->next_text, step->text, step->n_text);
        for (size_t k = 0; k < n; k++) {
            if (s[k] == ' ')
                assay_str_putn(&p->next_text, step->text, step->n_text);
            else
                assay_str_putc(&p->next_text, s[k]);
        }
        ASSAY_TRY(next_put(p, begin, p->next_text.len, -1, q.first, err));
    }
    ASSAY_TRY(adopt(p, true, err));
    return step->split ? split_pattern(p, step, err) : ASSAY_OK;
}

assay_status assay_steps_split(assay_piece_list *p, const assay_step_list *list, assay_err *err) {
    for (size_t i = 0; i < list->n; i++) {
        p->n_next = 0;
        assay_str_clear(&p->next_text);
        ASSAY_TRY(list->v[i].ops->split(p, &list->v[i], err));
    }
    return ASSAY_OK;
}

/* ---- reading ---- */

static assay_status parse_behavior(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const char *name = names[0];
    ASSAY_TRY(assay_json_get_str(&name, j, "behavior", where, err));
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            step->behavior = (assay_split)i;
            return ASSAY_OK;
        }
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: behavior '%.40s' is not supported", where, name);
}

static assay_status parse_split(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    ASSAY_TRY(parse_behavior(step, j, where, err));
    ASSAY_TRY(assay_json_get_bool(&step->invert, j, "invert", where, err));
    return assay_step_parse_pattern(step, j, where, err);
}

static assay_status parse_byte_level(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    bool use_regex = true;
    step->add_prefix_space = true;
    ASSAY_TRY(assay_json_get_bool(&step->add_prefix_space, j, "add_prefix_space", where, err));
    ASSAY_TRY(assay_json_get_bool(&use_regex, j, "use_regex", where, err));
    return use_regex
               ? assay_pattern_compile(&step->pattern, GPT2_PATTERN, sizeof GPT2_PATTERN - 1, false, err)
               : ASSAY_OK;
}

static assay_status parse_digits(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    return assay_json_get_bool(&step->individual_digits, j, "individual_digits", where, err);
}

static assay_status parse_whitespace(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    /* Rust's \w, which is not Oniguruma's: Join_Control counts, and only inside a class are the rest the
     * same. */
    static const char words[] = "[\\w\\x{200c}\\x{200d}]+|[^\\w\\s\\x{200c}\\x{200d}]+";
    (void)j, (void)where;
    step->invert = true;
    step->behavior = ASSAY_SPLIT_REMOVED;
    return assay_pattern_compile(&step->pattern, words, sizeof words - 1, false, err);
}

static assay_status parse_punctuation(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    return parse_behavior(step, j, where, err);
}

static assay_status parse_delimiter(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    ASSAY_TRY(assay_step_parse_text(step, j, "delimiter", NULL, where, err));
    step->behavior = ASSAY_SPLIT_REMOVED;
    return assay_pattern_compile(&step->pattern, step->text, step->n_text, true, err);
}

static assay_status parse_metaspace(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    ASSAY_TRY(assay_step_parse_metaspace(step, j, where, err));
    step->behavior = ASSAY_SPLIT_MERGED_WITH_NEXT;
    return assay_pattern_compile(&step->pattern, step->text, step->n_text, true, err);
}

#define NORMALIZER(type, parse, fn)
#define PRE_TOKENIZER(type, parse, fn) {type, parse, NULL, fn, NULL},
#define DECODER(type, parse, stage)
const assay_step_ops assay_pre_tokenizers[] = {
#include "text/steps.def"
    {NULL, NULL, NULL, NULL, NULL}};
