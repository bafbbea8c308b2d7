/* fuzz_gguf.c: any bytes as a GGUF file. Of what is accepted every value and tensor must lie inside the buffer, every element and matrix
 * must be readable (the sanitizers watch), metadata must give a config.json or an error, and what is written from the metadata must be
 * accepted again. Memory: the sum of what the tensors take, never more than a small multiple of the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "format/checkpoint.h"
#include "format/gguf.h"
#include "format/gguf_impl.h"
#include "num/convert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_values(const assay_gguf *g, const uint8_t *data, size_t size) {
    assay_str b = {0};
    assay_gguf *again;
    assay_gguf_put_head(&b, 0, assay_gguf_n_values(g));
    for (size_t i = 0; i < assay_gguf_n_values(g); i++) {
        const assay_gguf_value *v = assay_gguf_value_at(g, i);
        const char *text;
        size_t n;
        int64_t number;
        double real;
        if (v->data < data || v->n_bytes > (size_t)(data + size - v->data)) abort();
        for (uint64_t k = 0; k < v->n && k < 64; k++)
            if (assay_gguf_string(&text, &n, g, v, v->n - 1 - k) && ((const uint8_t *)text < data || n > (size_t)(data + size - (const uint8_t *)text)))
                abort();
        assay_gguf_int(&number, g, v, 0);
        assay_gguf_float(&real, g, v, v->n - 1);
        if (assay_gguf_find(g, v->key) != v) abort();
        assay_gguf_put_value(&b, v);
    }
    if (assay_gguf_parse(&again, (const uint8_t *)b.s, b.len, "again", NULL) != ASSAY_OK) abort();
    assay_gguf_close(again);
    assay_str_free(&b);
}

static void check_tensor(const assay_checkpoint *c, const assay_tensor *t) {
    float v[64];
    int64_t n = assay_tensor_n_elements(t);
    assay_matrix m;
    if (n < 0 || assay_checkpoint_find(c, t->name) != t) abort();
    assay_tensor_read(v, t, n > 64 ? n - 64 : 0, n > 64 ? 64 : n);
    if (n > 1 << 16 || t->n_dims != 2) return;
    if (assay_checkpoint_matrix(&m, c, NULL, t->name, 0, 0, ASSAY_DTYPE_F32, NULL) != ASSAY_OK) return;
    float *row = assay_mallocn((size_t)m.cols, sizeof *row);
    assay_matrix_decode_rows(row, &m, m.rows - 1, 1);
    assay_free(row);
    assay_matrix_deinit(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_checkpoint *c = NULL;
    json_t *config = NULL;
    assay_err err = {0}, config_err = {0};
    char hash[65];
    if (assay_checkpoint_open_gguf_memory(&c, data, size, "fuzz", &err) != ASSAY_OK) {
        if (err.code == ASSAY_OK || !err.message[0] || c) abort();
        return 0;
    }
    const assay_gguf_set *set = assay_checkpoint_gguf(c);
    check_values(set->parts[0], data, size);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) check_tensor(c, assay_checkpoint_get(c, i));
    if (assay_gguf_set_config(&config, set, &config_err) == ASSAY_OK)
        json_decref(config);
    else if (!config_err.message[0])
        abort();
    if (assay_checkpoint_hash(hash, c, NULL) != ASSAY_OK) abort();
    assay_checkpoint_close(c);
    return 0;
}
