/* base/gguf.h: GGUF v3 as a container: typed metadata and the directory of tensors, nothing of what they mean (format/ knows the
 * tensors, model/ the sizes, text/ the vocabulary). Read from a mapping; names alone are copied. Every size, offset, count and depth
 * is checked against the file before anything is allocated for it, so that a lying file costs no more memory than a small multiple
 * of its size. v2 is read too (it differs in nothing that matters here); v1 and big-endian files are refused by name.
 *
 *   "GGUF" u32 version, u64 n_tensors, u64 n_kv, n_kv x (string key, u32 type, value), n_tensors x (string name, u32 n_dims,
 *   u64 dims[n_dims] innermost first, u32 ggml type, u64 offset), padding to general.alignment (32), tensor data */
#ifndef ASSAY_BASE_GGUF_H
#define ASSAY_BASE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "base/str.h"

typedef enum assay_gguf_type { /* the file's numbers */
    ASSAY_GGUF_U8, ASSAY_GGUF_I8, ASSAY_GGUF_U16, ASSAY_GGUF_I16, ASSAY_GGUF_U32, ASSAY_GGUF_I32, ASSAY_GGUF_F32, ASSAY_GGUF_BOOL,
    ASSAY_GGUF_STRING, ASSAY_GGUF_ARRAY, ASSAY_GGUF_U64, ASSAY_GGUF_I64, ASSAY_GGUF_F64, ASSAY_GGUF_TYPES
} assay_gguf_type;

typedef struct assay_gguf_value {
    const char *key;          /* zero-terminated, valid as long as the file is open */
    assay_gguf_type type;     /* ARRAY: of `element`, which is never ARRAY (nested arrays are refused) */
    assay_gguf_type element;
    uint64_t n;               /* ARRAY: elements, else 1 */
    const uint8_t *data;      /* in the mapping, unaligned; of a string its length's eight bytes first */
    size_t n_bytes;
} assay_gguf_value;

typedef struct assay_gguf_tensor {
    const char *name;
    int n_dims;               /* 1..4 */
    int64_t dims[4];          /* innermost first, as in the file */
    uint32_t ggml_type;
    uint64_t offset;          /* from the file's start */
} assay_gguf_tensor;

typedef struct assay_gguf assay_gguf;

/* Maps one file. EINPUT says where it is wrong. */
assay_status assay_gguf_open(assay_gguf **out, const char *path, assay_err *err);
/* The same from memory, which must outlive it. */
assay_status assay_gguf_parse(assay_gguf **out, const uint8_t *data, size_t n, const char *where, assay_err *err);
void assay_gguf_close(assay_gguf *g);
/* PATH itself when it is a .gguf file; the only .gguf (or the first of a split: NAME-00001-of-0000N.gguf) in a directory that holds no
 * safetensors. ENOTFOUND when there is none, EINPUT naming two of them. *out is owned by the caller. */
assay_status assay_gguf_find_file(char **out, const char *path, assay_err *err);

size_t assay_gguf_n_values(const assay_gguf *g);
const assay_gguf_value *assay_gguf_value_at(const assay_gguf *g, size_t i);
const assay_gguf_value *assay_gguf_find(const assay_gguf *g, const char *key); /* NULL when absent */
size_t assay_gguf_n_tensors(const assay_gguf *g);
const assay_gguf_tensor *assay_gguf_tensor_at(const assay_gguf *g, size_t i);
const uint8_t *assay_gguf_data(const assay_gguf *g, size_t *n); /* the whole file */

/* A scalar, or element i of an array, as what is asked for; false when it is another kind of thing or out of range. Integers of any
 * width and BOOL are ints, F32 and F64 (and ints) are floats. A string is borrowed and not terminated. Strings of an array are found
 * through an index made at the first question: ask from one thread. */
bool assay_gguf_int(int64_t *out, const assay_gguf *g, const assay_gguf_value *v, uint64_t i);
bool assay_gguf_float(double *out, const assay_gguf *g, const assay_gguf_value *v, uint64_t i);
bool assay_gguf_string(const char **out, size_t *n, const assay_gguf *g, const assay_gguf_value *v, uint64_t i);

/* --- writing: the parts of a header, appended to a string; strings of any length are zero-safe --- */
void assay_gguf_put_head(assay_str *out, uint64_t n_tensors, uint64_t n_values);
void assay_gguf_put_int(assay_str *out, const char *key, assay_gguf_type type, int64_t v);
void assay_gguf_put_float(assay_str *out, const char *key, double v); /* F32 */
void assay_gguf_put_string(assay_str *out, const char *key, const char *v, size_t n);
void assay_gguf_put_array(assay_str *out, const char *key, assay_gguf_type element, uint64_t n); /* then n times: */
void assay_gguf_put_element(assay_str *out, assay_gguf_type element, const void *value); /* native value; strings: put_text */
void assay_gguf_put_text(assay_str *out, const char *v, size_t n);
void assay_gguf_put_value(assay_str *out, const assay_gguf_value *v); /* a value of another file, as it is */
void assay_gguf_put_tensor(assay_str *out, const char *name, int n_dims, const int64_t *dims, uint32_t ggml_type, uint64_t offset);

#endif
