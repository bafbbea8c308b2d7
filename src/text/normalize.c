/* normalize.c: the normalizers of tokenizer.json. Each maps a whole text to a whole text. */
#include <string.h>
#include "text/steps.h"
#include "text/unicode.h"

static assay_status parse_prepend(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    return assay_step_parse_text(step, j, "prepend", NULL, where, err);
}

static assay_status parse_strip(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    step->left = step->right = true;
    ASSAY_TRY(assay_json_get_bool(&step->left, j, "strip_left", where, err));
    return assay_json_get_bool(&step->right, j, "strip_right", where, err);
}

static assay_status normalize_prepend(assay_str *out, const assay_step *step, const char *s, size_t n,
                                      assay_err *err) {
    (void)err;
    if (n) assay_str_putn(out, step->text, step->n_text);
    assay_str_putn(out, s, n);
    return ASSAY_OK;
}

#define NORMALIZE_FORM(name, form)                                                                           \
    static assay_status name(assay_str *out, const assay_step *step, const char *s, size_t n,                \
                             assay_err *err) {                                                               \
        (void)step;                                                                                          \
        return assay_text_normalize(out, form, s, n, err);                                                   \
    }
NORMALIZE_FORM(normalize_nfc, ASSAY_NORM_NFC)
NORMALIZE_FORM(normalize_nfd, ASSAY_NORM_NFD)
NORMALIZE_FORM(normalize_nfkc, ASSAY_NORM_NFKC)
NORMALIZE_FORM(normalize_nfkd, ASSAY_NORM_NFKD)

static assay_status normalize_lowercase(assay_str *out, const assay_step *step, const char *s, size_t n,
                                        assay_err *err) {
    (void)step, (void)err;
    assay_text_put_lower(out, s, n);
    return ASSAY_OK;
}

static assay_status normalize_strip(assay_str *out, const assay_step *step, const char *s, size_t n,
                                    assay_err *err) {
    (void)err;
    size_t b = 0, e = n, len;
    while (step->left && b < e && assay_char_is_space(assay_utf8_next(&len, s + b, e - b)))
        b += len;
    while (step->right && e > b && assay_char_is_space(assay_utf8_prev(&len, s, e)))
        e -= len;
    assay_str_putn(out, s + b, e - b);
    return ASSAY_OK;
}

static assay_status normalize_strip_accents(assay_str *out, const assay_step *step, const char *s, size_t n,
                                            assay_err *err) {
    (void)step, (void)err;
    for (size_t i = 0, len; i < n; i += len)
        if (!assay_char_is_accent(assay_utf8_next(&len, s + i, n - i))) assay_str_putn(out, s + i, len);
    return ASSAY_OK;
}

static assay_status normalize_byte_level(assay_str *out, const assay_step *step, const char *s, size_t n,
                                         assay_err *err) {
    (void)step, (void)err;
    for (size_t i = 0; i < n; i++)
        assay_utf8_put(out, assay_byte_to_char((unsigned char)s[i]));
    return ASSAY_OK;
}

/* SentencePiece's nmt rules: controls vanish, separators and marks become spaces. */
static assay_status normalize_nmt(assay_str *out, const assay_step *step, const char *s, size_t n,
                                  assay_err *err) {
    static const struct {
        int32_t lo, hi;
        bool space;
    } rules[] = {{0x09, 0x0A, true},     {0x0C, 0x0D, true},     {0x01, 0x1F, false},
                 {0x7F, 0x7F, false},    {0x8F, 0x8F, false},    {0x9F, 0x9F, false},
                 {0x1680, 0x1680, true}, {0x200B, 0x200F, true}, {0x2028, 0x2029, true},
                 {0x2581, 0x2581, true}, {0xFEFF, 0xFEFF, true}, {0xFFFD, 0xFFFD, true}};
    (void)step, (void)err;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        size_t k = 0;
        while (k < ASSAY_LEN(rules) && (cp < rules[k].lo || cp > rules[k].hi))
            k++;
        if (k == ASSAY_LEN(rules))
            assay_str_putn(out, s + i, len);
        else if (rules[k].space)
            assay_str_putc(out, ' ');
    }
    return ASSAY_OK;
}

static assay_status parse_precompiled(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    const json_t *v = json_object_get(j, "precompiled_charsmap");
    if (!v || json_is_null(v)) return ASSAY_OK;
    if (!json_is_string(v))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'precompiled_charsmap' must be a string", where);
    return assay_charsmap_decode(&step->map, json_string_value(v), json_string_length(v), where, err);
}

static void put_mapped(assay_str *out, const assay_charsmap *map, const char *s, size_t n) {
    const char *to;
    size_t len, n_to;
    if (assay_charsmap_find(&len, &to, &n_to, map, s, n, true))
        assay_str_putn(out, to, n_to);
    else
        assay_str_putn(out, s, n);
}

/* SentencePiece's map as the original applies it, which is not SentencePiece's way: a short grapheme is
 * looked up first, and the shortest rule that it begins with replaces the whole of it; else each of its
 * characters is looked up alone. */
static assay_status normalize_precompiled(assay_str *out, const assay_step *step, const char *s, size_t n,
                                          assay_err *err) {
    (void)err;
    for (size_t i = 0, len, c; i < n; i += len) {
        const char *to;
        size_t used, n_to;
        len = assay_grapheme_next(s + i, n - i);
        if (len < 6 && assay_charsmap_find(&used, &to, &n_to, &step->map, s + i, len, true)) {
            assay_str_putn(out, to, n_to);
            continue;
        }
        for (size_t k = 0; k < len; k += c) {
            assay_utf8_next(&c, s + i + k, len - k);
            put_mapped(out, &step->map, s + i + k, c);
        }
    }
    return ASSAY_OK;
}

/* ---- BERT ---- */

static assay_status parse_bert(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    step->clean = step->chinese = step->lowercase = true;
    ASSAY_TRY(assay_json_get_bool(&step->clean, j, "clean_text", where, err));
    ASSAY_TRY(assay_json_get_bool(&step->chinese, j, "handle_chinese_chars", where, err));
    ASSAY_TRY(assay_json_get_bool(&step->lowercase, j, "lowercase", where, err));
    step->strip_accents = step->lowercase;
    return assay_json_get_bool(&step->strip_accents, j, "strip_accents", where, err);
}

static bool is_chinese(int32_t cp) {
    static const struct {
        int32_t lo, hi;
    } blocks[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                  {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < ASSAY_LEN(blocks); i++)
        if (cp >= blocks[i].lo && cp <= blocks[i].hi) return true;
    return false;
}

/* Controls vanish, white space is ' ', ideographs stand alone. */
static void put_clean(assay_str *out, const assay_step *step, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        bool line = cp == '\t' || cp == '\n' || cp == '\r';
        if (step->clean && (cp == 0 || cp == 0xFFFD || (!line && assay_char_is_bert_other(cp)))) continue;
        if (step->clean && assay_char_is_space(cp)) {
            assay_str_putc(out, ' ');
            continue;
        }
        bool alone = step->chinese && is_chinese(cp);
        if (alone) assay_str_putc(out, ' ');
        assay_str_putn(out, s + i, len);
        if (alone) assay_str_putc(out, ' ');
    }
}

static assay_status normalize_bert(assay_str *out, const assay_step *step, const char *s, size_t n,
                                   assay_err *err) {
    assay_str a = {0}, b = {0};
    put_clean(&a, step, s, n);
    assay_status st = assay_str_status(&a, err);
    if (st == ASSAY_OK && step->strip_accents) {
        st = assay_text_normalize(&b, ASSAY_NORM_NFD, assay_str_c(&a), a.len, err);
        if (st == ASSAY_OK) st = assay_str_status(&b, err);
        assay_str_clear(&a);
        for (size_t i = 0, len; st == ASSAY_OK && i < b.len; i += len)
            if (!assay_char_is_bert_mark(assay_utf8_next(&len, b.s + i, b.len - i)))
                assay_str_putn(&a, b.s + i, len);
    }
    if (st == ASSAY_OK) st = assay_str_status(&a, err);
    if (st == ASSAY_OK && step->lowercase)
        assay_text_put_lower(out, assay_str_c(&a), a.len);
    else if (st == ASSAY_OK)
        assay_str_putn(out, assay_str_c(&a), a.len);
    assay_str_free(&a);
    assay_str_free(&b);
    return st;
}

assay_status assay_steps_normalize(assay_str *out, const assay_step_list *list, const char *s, size_t n,
                                   assay_err *err) {
    if (list->n == 0) {
        assay_str_putn(out, s, n);
        return ASSAY_OK;
    }
    assay_str a = {0}, b = {0};
    assay_status st = ASSAY_OK;
    for (size_t i = 0; i < list->n && st == ASSAY_OK; i++) {
        bool last = i + 1 == list->n;
        assay_str_clear(&b);
        st = list->v[i].ops->normalize(last ? out : &b, &list->v[i], s, n, err);
        if (last) break;
        if (st == ASSAY_OK) st = assay_str_status(&b, err);
        assay_str swap = a;
        a = b;
        b = swap;
        s = assay_str_c(&a);
        n = a.len;
    }
    assay_str_free(&a);
    assay_str_free(&b);
    return st;
}

#define NORMALIZER(type, parse, fn) {type, parse, fn, NULL, NULL},
#define PRE_TOKENIZER(type, parse, fn)
#define DECODER(type, parse, stage)
const assay_step_ops assay_normalizers[] = {
#include "text/steps.def"
    {NULL, NULL, NULL, NULL, NULL}};
