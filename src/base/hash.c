/* hash.c: SHA-256. libcrypto's EVP interface; the algorithm cannot fail once the context exists, so put is
 * void. */
#include "base/hash.h"

#include <openssl/evp.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"

struct assay_hasher {
    EVP_MD_CTX *ctx;
};

assay_status assay_hasher_new(assay_hasher **out, assay_err *err) {
    *out = NULL;
    assay_hasher *h = assay_calloc(1, sizeof *h);
    if (!h) return assay_nomem(err);
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        assay_hasher_free(h);
        return assay_nomem(err);
    }
    *out = h;
    return ASSAY_OK;
}

void assay_hasher_free(assay_hasher *h) {
    if (!h) return;
    EVP_MD_CTX_free(h->ctx);
    assay_free(h);
}

void assay_hasher_put(assay_hasher *h, const void *p, size_t n) {
    EVP_DigestUpdate(h->ctx, p, n);
}

void assay_hasher_put_str(assay_hasher *h, const char *s) {
    if (!s) s = "";
    uint64_t n = strlen(s);
    uint8_t le[8];
    for (int i = 0; i < 8; i++)
        le[i] = (uint8_t)(n >> (8 * i));
    assay_hasher_put(h, le, sizeof le);
    assay_hasher_put(h, s, n);
}

static void to_hex(char hex[ASSAY_HASH_HEX], const uint8_t digest[32]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[64] = 0;
}

void assay_hasher_finish(assay_hasher *h, char hex[ASSAY_HASH_HEX]) {
    uint8_t digest[32] = {0};
    EVP_DigestFinal_ex(h->ctx, digest, NULL);
    to_hex(hex, digest);
    assay_hasher_free(h);
}

void assay_hash_bytes(char hex[ASSAY_HASH_HEX], const void *p, size_t n) {
    uint8_t digest[32] = {0};
    EVP_Digest(p, n, digest, NULL, EVP_sha256(), NULL);
    to_hex(hex, digest);
}

assay_status assay_hash_file(char hex[ASSAY_HASH_HEX], const char *path, assay_err *err) {
    assay_map m;
    ASSAY_TRY(assay_map_open(&m, path, err));
    assay_hasher *h;
    assay_status s = assay_hasher_new(&h, err);
    if (s == ASSAY_OK) {
        const size_t step = (size_t)16 << 20; /* let go of what was hashed: the file may exceed memory */
        for (size_t at = 0; at < m.size; at += step) {
            assay_hasher_put(h, m.data + at, ASSAY_MIN(step, m.size - at));
            assay_map_dontneed(&m, at, step);
        }
        assay_hasher_finish(h, hex);
    }
    assay_map_close(&m);
    return s;
}
