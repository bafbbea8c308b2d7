/* base/utf8.h: walking, checking and repairing UTF-8. Code points are int32_t; strings are bytes with a
 * length. */
#ifndef ASSAY_BASE_UTF8_H
#define ASSAY_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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
/* For text that nobody has checked: the code point at s (n >= 1), and the bytes it took; an ill-formed
 * sequence is U+FFFD. */
size_t assay_utf8_read(uint32_t *cp, const char *s, size_t n);

#endif
