/* fuzz_adapter.c: any bytes as an adapter: four bytes of length, adapter_config.json, then a safetensors file. What is accepted must
 * find its own modules again and merge rows without touching anything outside. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "format/adapter.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const assay_adapter *a, const assay_lora *l) {
    char name[256];
    assay_err err = {0};
    int64_t columns = l->is_embedding || l->transposed ? l->out : l->in;
    if (strlen(l->module) < 200) {
        snprintf(name, sizeof name, "%s.weight", l->module);
        if (assay_adapter_find(a, name) != l) abort();
    }
    if (columns > 4096) return;
    float *w = assay_calloc((size_t)columns, sizeof *w);
    if (assay_lora_merge_rows(w, l, 0, 1, columns, &err) != ASSAY_OK && !err.message[0]) abort();
    assay_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_adapter *a = NULL;
    assay_err err = {0};
    uint32_t n;
    if (size < 4) return 0;
    memcpy(&n, data, 4);
    n = (uint32_t)ASSAY_MIN((size_t)n, size - 4);
    if (assay_adapter_parse(&a, (const char *)data + 4, n, data + 4 + n, size - 4 - n, &err) == ASSAY_OK)
        for (size_t i = 0; i < assay_adapter_n_loras(a); i++) use(a, assay_adapter_lora(a, i));
    else if (!err.message[0])
        abort();
    assay_adapter_close(a);
    return 0;
}
