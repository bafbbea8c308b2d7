/* fuzz_quantization_config.c: a quantization_config and a checkpoint that need not fit each other: JSON, a
 * zero byte, a safetensors file. Every matrix that is accepted must pass its own check and decode. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "format/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* "x.weight_packed" names the matrix x.weight, and so do "x.W_q" and "x.qweight". */
static void read_one(const assay_checkpoint *c, const json_t *config, const char *tensor) {
    char name[300];
    const char *suffix = strstr(tensor, ".weight");
    if (!suffix) suffix = strstr(tensor, ".W_q");
    if (!suffix) suffix = strstr(tensor, ".qweight");
    assay_matrix m;
    assay_err err = {0};
    if (!suffix || (size_t)(suffix - tensor) > 280) return;
    snprintf(name, sizeof name, "%.*s.weight", (int)(suffix - tensor), tensor);
    if (assay_checkpoint_matrix(&m, c, config, name, 0, 0, ASSAY_DTYPE_BF16, &err) != ASSAY_OK) {
        if (err.code == ASSAY_OK || !err.message[0]) abort();
        return;
    }
    if (assay_matrix_check(&m, name, NULL) != ASSAY_OK) abort();
    float *row = assay_mallocn((size_t)m.cols, sizeof *row);
    if (row) {
        assay_matrix_decode_rows(row, &m, 0, 1);
        assay_matrix_decode_rows(row, &m, m.rows - 1, 1);
    }
    assay_free(row);
    assay_matrix_deinit(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    assay_checkpoint *c = NULL;
    json_t *config = NULL;
    if (!zero) return 0;
    if (assay_json_parse(&config, (const char *)data, (size_t)(zero - data), "config", NULL) == ASSAY_OK &&
        assay_checkpoint_open_memory(&c, zero + 1, size - (size_t)(zero + 1 - data), "fuzz", NULL) ==
            ASSAY_OK) {
        for (size_t i = 0; i < assay_checkpoint_n_tensors(c) && i < 64; i++)
            read_one(c, config, assay_checkpoint_get(c, i)->name);
    }
    assay_checkpoint_close(c);
    json_decref(config);
    return 0;
}
