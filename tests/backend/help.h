/* tests/backend/help.h: what the tests of the CPU backend share. Include after cmocka.h. */
#ifndef TEST_BACKEND_HELP_H
#define TEST_BACKEND_HELP_H

#include <stdlib.h>
#include "backend/backend.h"
#include "base/rng.h"

static inline assay_backend *open_cpu(int threads, const char *isa) {
    assay_backend *b = NULL;
    assay_err err = {0};
    assay_cpu_opts o = {.n_threads = threads, .isa = isa};
    if (assay_backend_open_cpu(&b, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return b;
}
static inline assay_buf *buf_of(assay_backend *b, const float *x, size_t n) {
    assay_buf *buf = NULL;
    assert_int_equal(assay_buf_new(&buf, b, n * sizeof *x, NULL), ASSAY_OK);
    if (x) assay_buf_write(b, buf, 0, x, n * sizeof *x);
    return buf;
}
static inline float *normals(assay_rng *r, size_t n, double size) {
    float *x = malloc(n * sizeof *x + 1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * assay_rng_normal(r));
    return x;
}

#endif
