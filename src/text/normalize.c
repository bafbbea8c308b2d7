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
        if (!assay_char_is_mark(assay_utf8_next(&len, s + i, n - i))) assay_str_putn(out, s + i, len);
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
