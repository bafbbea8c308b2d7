/* base/hash.h: SHA-256 through libcrypto, which is included in hash.c alone. */
#ifndef ASSAY_BASE_HASH_H
#define ASSAY_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

#define ASSAY_HASH_HEX 65 /* 64 hex digits and NUL */

typedef struct assay_hasher assay_hasher;
assay_status assay_hasher_new(assay_hasher **out, assay_err *err);
void assay_hasher_put(assay_hasher *h, const void *p, size_t n);
void assay_hasher_put_str(
    assay_hasher *h, const char *s); /* length-prefixed, so that fields cannot run together; NULL is "" */
void assay_hasher_finish(assay_hasher *h, char hex[ASSAY_HASH_HEX]); /* frees h */
void assay_hasher_free(assay_hasher *h);

void assay_hash_bytes(char hex[ASSAY_HASH_HEX], const void *p, size_t n);
assay_status assay_hash_file(char hex[ASSAY_HASH_HEX], const char *path, assay_err *err);

#endif
