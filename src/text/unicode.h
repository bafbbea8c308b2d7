/* text/unicode.h: UTF-8 and the character classes that tokenizers and templates ask for, on top of utf8proc
 * (included in unicode.c alone). Code points are int32_t; strings are bytes with a length. */
#ifndef ASSAY_TEXT_UNICODE_H
#define ASSAY_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "base/str.h"

/* The code point at s (n >= 1 bytes left, valid UTF-8) and its length in bytes. */
int32_t assay_utf8_next(size_t *len, const char *s, size_t n);
/* The code point that ends just before s[at] (at >= 1, valid UTF-8) and its length. */
int32_t assay_utf8_prev(size_t *len, const char *s, size_t at);
/* Appends cp; returns nothing because appending is sticky. cp must be a scalar value. */
void assay_utf8_put(assay_str *b, int32_t cp);
size_t assay_utf8_count(const char *s, size_t n); /* code points in valid UTF-8 */
size_t assay_utf8_offset(const char *s, size_t n,
                         size_t index); /* byte offset of the index-th code point, n when past the end */

/* Length of the longest prefix of s that is valid UTF-8. *bad is the length of the ill-formed sequence that
 * follows (its maximal subpart, which decoders replace by one U+FFFD), 0 when there is none; *cut says that
 * this sequence could still become valid with more bytes. */
size_t assay_utf8_valid(size_t *bad, bool *cut, const char *s, size_t n);
/* Appends s with every ill-formed sequence replaced by U+FFFD. */
void assay_utf8_put_lossy(assay_str *b, const char *s, size_t n);

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
void assay_char_put_lower(assay_str *b, int32_t cp);

typedef enum assay_norm_form {
    ASSAY_NORM_NFC,
    ASSAY_NORM_NFD,
    ASSAY_NORM_NFKC,
    ASSAY_NORM_NFKD
} assay_norm_form;
/* Appends the Unicode normalization of s (valid UTF-8). ENOMEM, or EINPUT from utf8proc. */
assay_status assay_text_normalize(assay_str *b, assay_norm_form form, const char *s, size_t n,
                                  assay_err *err);

#endif
