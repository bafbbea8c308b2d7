/* golden.h: what the tests against golden vectors share: the file, hex, and the generator of golden/lcg.py. */
#ifndef TESTS_PRECISION_GOLDEN_H
#define TESTS_PRECISION_GOLDEN_H

#include <stdlib.h>
#include "base/json.h"

static json_t *golden;

static inline int golden_load(const char *path) {
    assay_err err = {0};
    if (assay_json_load(&golden, path, &err) == ASSAY_OK) return 0;
    print_error("%s\n", err.message);
    return -1;
}

static inline int free_golden(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

static inline void unhex(void *out, const char *hex) {
    for (size_t i = 0; hex[2 * i]; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        ((uint8_t *)out)[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

/* Cubes of uniforms, which have the heavy tails of weights. */
static inline void fill_lcg(float *w, size_t n, uint32_t x, float amplitude) {
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        float v = (float)((int32_t)(x >> 8) - 8388608) * 0x1p-23f;
        w[i] = v * v * v * amplitude;
    }
}

#endif
