/* config.json (and, after a NUL, generation_config.json): whatever the bytes, a config or an error; and every
 * tensor of a config that was accepted has a name and sizes that fit. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "model/arch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static assay_status check_tensor(void *ctx, const assay_tensor_spec *t, assay_err *err) {
    size_t *n = ctx;
    (void)err;
    if (!t->name[0] || strlen(t->name) + 1 >= sizeof t->name || t->rows < 1 || t->cols < 1 ||
        t->rows > INT64_MAX / t->cols)
        abort();
    return ++*n < 5000 ? ASSAY_OK : ASSAY_EINTR;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n_config = nul ? (size_t)(nul - data) : size, n_tensors = 0;
    json_t *config = NULL, *generation = NULL;
    assay_config c;
    float *inv_freq;
    if (assay_json_parse(&config, (const char *)data, n_config, "fuzz", NULL) != ASSAY_OK) return 0;
    if (nul &&
        assay_json_parse(&generation, (const char *)nul + 1, size - n_config - 1, "fuzz", NULL) != ASSAY_OK)
        generation = NULL;
    if (assay_config_parse(&c, config, generation, "fuzz", NULL) == ASSAY_OK) {
        assay_config_each_tensor(&c, check_tensor, &n_tensors, NULL);
        inv_freq = malloc((size_t)c.head_dim / 2 * sizeof *inv_freq);
        if (inv_freq) assay_rope_frequencies(inv_freq, &c);
        free(inv_freq);
        assay_config_deinit(&c);
    }
    json_decref(config);
    json_decref(generation);
    return 0;
}
