/* text/unicode.h: UTF-8 and the character classes that tokenizers and templates ask for, on top of utf8proc
 * (included in unicode.c alone). Code points are int32_t; strings are bytes with a length. */
#ifndef ASSAY_TEXT_UNICODE_H
#define ASSAY_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "base/str.h"
#include "base/utf8.h"

bool assay_char_is_space(int32_t cp);   /* White_Space */
bool assay_char_is_numeric(int32_t cp); /* general categories Nd Nl No */
bool assay_char_is_punct(int32_t cp);   /* P*, and the ASCII symbols */
bool assay_char_is_mark(int32_t cp);    /* M* */
bool assay_char_is_word(int32_t cp);    /* \w: Alphabetic, M*, Nd, Pc, Join_Control */
bool assay_char_is_alpha(int32_t cp);   /* L* */
bool assay_char_is_upper(int32_t cp);
bool assay_char_is_lower(int32_t cp);
bool assay_char_is_printable(int32_t cp); /* as Python's str.isprintable */

/* Appends the text with each character in lower or upper case (full mappings of the unconditional kind). */
void assay_text_put_lower(assay_str *b, const char *s, size_t n);
void assay_text_put_upper(assay_str *b, const char *s, size_t n);
void assay_char_put_upper(assay_str *b, int32_t cp);
void assay_char_put_title(assay_str *b, int32_t cp); /* as a word begins: one letter of a digraph is small */
void assay_char_put_lower(assay_str *b, int32_t cp);

bool assay_char_is_accent(int32_t cp);     /* M* in Unicode 9, which is what StripAccents takes away */
bool assay_char_is_bert_mark(int32_t cp);  /* Mn in Unicode 8, for BertNormalizer */
bool assay_char_is_bert_other(int32_t cp); /* Cc Cf Co there */
/* The length of the first extended grapheme cluster of s (valid UTF-8, n >= 1). */
size_t assay_grapheme_next(const char *s, size_t n);

typedef enum assay_norm_form {
    ASSAY_NORM_NFC,
    ASSAY_NORM_NFD,
    ASSAY_NORM_NFKC,
    ASSAY_NORM_NFKD
} assay_norm_form;
/* Appends the normalization of s (valid UTF-8) by the tables of Unicode 9, which are those of Hugging Face's
 * tokenizers. ENOMEM, or EINPUT from utf8proc. */
assay_status assay_text_normalize(assay_str *b, assay_norm_form form, const char *s, size_t n,
                                  assay_err *err);

#endif
