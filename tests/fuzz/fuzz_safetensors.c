/* fuzz_safetensors.c: any bytes as a safetensors file. Of what is accepted every tensor must lie inside
 * the buffer, be as long as its shape says and not overlap the one before; what is written from it must be
 * accepted again. */
#include <stdint.h>
#include <stdlib.h>
#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensors(const assay_safetensors *f, const uint8_t *data, size_t size) {
    const uint8_t *at = data + 8;
    for (size_t i = 0; i < f->n; i++) {
        const assay_tensor *t = &f->tensors[i];
        const uint8_t *begin = t->data;
        if (begin < at || begin > data + size || t->n_bytes > (size_t)(data + size - begin)) abort();
        if ((size_t)assay_tensor_n_elements(t) * assay_dtype_size(t->dtype) != t->n_bytes) abort();
        at = begin + t->n_bytes;
    }
}

/* Header and data again in file order. */
static void check_rewriting(const assay_safetensors *f) {
    assay_str b = {0};
    assay_safetensors again;
    const assay_tensor **list = assay_mallocn(f->n + 1, sizeof *list);
    for (size_t i = 0; i < f->n; i++) list[i] = &f->tensors[i];
    if (assay_safetensors_put_header(&b, list, f->n, NULL) != ASSAY_OK) abort();
    for (size_t i = 0; i < f->n; i++) assay_str_putn(&b, list[i]->data, list[i]->n_bytes);
    if (assay_safetensors_parse(&again, (const uint8_t *)b.s, b.len, "again", NULL) != ASSAY_OK ||
        again.n != f->n)
        abort();
    assay_safetensors_free(&again);
    assay_str_free(&b);
    assay_free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_safetensors f;
    assay_err err = {0};
    if (assay_safetensors_parse(&f, data, size, "fuzz", &err) == ASSAY_OK) {
        check_tensors(&f, data, size);
        check_rewriting(&f);
        assay_safetensors_free(&f);
    } else if (err.code == ASSAY_OK || !err.message[0]) {
        abort();
    }
    return 0;
}
