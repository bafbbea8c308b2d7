/* text/base64.h: base64 (RFC 4648), in which tokenizer.json holds a character map and tiktoken its tokens. */
#ifndef ASSAY_TEXT_BASE64_H
#define ASSAY_TEXT_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

/* Appends the n bytes as base64, with padding. */
void assay_base64_put(assay_str *out, const void *data, size_t n);

#define ASSAY_BASE64_SIZE(n) (((n) + 2) / 3 * 4) /* characters of n bytes */
#define ASSAY_BASE64_ROOM(n) ((n) / 4 * 3 + 3) /* bytes that n characters decode to, at most */
/* Decodes n characters, whose padding may be missing, to out. False: *n_out is the place of a character that is none of base64's, or n when
 * one is missing. */
bool assay_base64_decode(unsigned char *out, size_t *n_out, const char *s, size_t n);

#endif
