/* config.json (and, after a NUL, generation_config.json): whatever the bytes, a config or an error; and of a config that was accepted
 * every tensor has a name and sizes that fit, frequencies are no NaN at any length, and a cache's pages have a size. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "model/arch.h"
#include "model/kv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static assay_status check_tensor(void *ctx, const assay_tensor_spec *t, assay_err *err) {
    size_t *n = ctx;
    (void)err;
    if (!t->name[0] || strlen(t->name) + 1 >= sizeof t->name || t->rows < 1 || t->cols < 1 ||
        t->rows > INT64_MAX / t->cols)
        abort();
    return ++*n < 5000 ? ASSAY_OK : ASSAY_EINTR;
}

static void check_derived(const assay_config *c) {
    static const int64_t lengths[] = {1, 5000, 1 << 26};
    const assay_rope *const ropes[] = {&c->rope, &c->rope_local};
    const assay_kv_opts o = {.type = ASSAY_KV_BF16, .pack = ASSAY_KV_PACK_INT4, .max_bytes = SIZE_MAX / 2};
    const assay_kv_shape shape = assay_config_kv_shape(c);
    assay_kv_size size;
    float inv_freq[1024];
    if (c->rotary_dim > 2048 || shape.heads < 1 || shape.dim < 1 || shape.dim > ASSAY_KV_MOST_DIM) abort();
    for (size_t i = 0; i < 6 && c->rope.kind != ASSAY_ROPE_NONE; i++) {
        assay_rope_frequencies_at(inv_freq, c, ropes[i / 3], lengths[i % 3]);
        for (int64_t k = 0; k < c->rotary_dim / 2; k++)
            if (isnan(inv_freq[k])) abort();
    }
    if (assay_kv_measure(&size, c, &o, NULL) == ASSAY_OK && (!size.page || !size.raw_page)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n_config = nul ? (size_t)(nul - data) : size, n_tensors = 0;
    json_t *config = NULL, *generation = NULL;
    assay_config c;
    if (assay_json_parse(&config, (const char *)data, n_config, "fuzz", NULL) != ASSAY_OK) return 0;
    if (nul &&
        assay_json_parse(&generation, (const char *)nul + 1, size - n_config - 1, "fuzz", NULL) != ASSAY_OK)
        generation = NULL;
    if (assay_config_parse(&c, config, generation, "fuzz", NULL) == ASSAY_OK) {
        assay_config_each_tensor(&c, check_tensor, &n_tensors, NULL);
        check_derived(&c);
        assay_config_deinit(&c);
    }
    json_decref(config);
    json_decref(generation);
    return 0;
}
