/* tests/backend/help.h: what the tests of the CPU backend share. Include after cmocka.h. */
#ifndef TEST_BACKEND_HELP_H
#define TEST_BACKEND_HELP_H

#include <stdlib.h>
#include "backend/backend.h"
#include "base/rng.h"
#include "num/convert.h"

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

/* A weight made of m for mode looks rows ids up as m decodes, bit for bit. */
static inline void check_embed(assay_backend *b, const assay_matrix *m, assay_act_mode mode,
                               const int32_t *ids, size_t n) {
    size_t k = (size_t)m->cols;
    assay_weight *w = NULL;
    float *want = malloc(k * 4), *got = malloc(n * k * 4);
    assay_buf *y = buf_of(b, NULL, n * k);
    assert_int_equal(assay_weight_new(&w, b, m, mode, NULL), ASSAY_OK);
    assay_op_embed(b, y, w, ids, n);
    assay_buf_read(b, got, y, 0, n * k * 4);
    for (size_t r = 0; r < n; r++) {
        assay_matrix_decode_rows(want, m, ids[r], 1);
        assert_memory_equal(got + r * k, want, k * 4);
    }
    assay_buf_free(b, y);
    assay_weight_free(b, w);
    free(want), free(got);
}

/* --- attention of two sequences --- */

typedef struct attention {
    int n_heads, n_kv_heads, head_dim, window;
    float soft_cap;
    size_t n;                /* positions of each sequence */
    const int32_t *pages[2]; /* their page tables */
} attention;

/* n bytes of what an earlier sequence left: NaN, which must not leak from keys that a row may not see. */
static inline assay_buf *junk_of(assay_backend *b, size_t n) {
    assay_buf *buf = NULL;
    uint8_t *junk = malloc(n);
    assert_int_equal(assay_buf_new(&buf, b, n, NULL), ASSAY_OK);
    memset(junk, 0xff, n);
    assay_buf_write(b, buf, 0, junk, n);
    free(junk);
    return buf;
}

/* Both sequences, interleaved, through store and attention, `chunk` tokens of each in a call; y
 * [2][n][heads*dim]. */
static inline void run_attention(float *y, assay_backend *b, const assay_kv_layer *cache, const float *q,
                                 const float *k, const float *v, const attention *a, size_t chunk) {
    size_t qn = (size_t)(a->n_heads * a->head_dim), kn = (size_t)(a->n_kv_heads * a->head_dim);
    const int32_t **pages = malloc(2 * a->n * sizeof *pages);
    int32_t *pos = malloc(2 * a->n * sizeof *pos);
    for (size_t at = 0; at < a->n; at += chunk) {
        size_t n = ASSAY_MIN(chunk, a->n - at);
        assay_buf *qb = buf_of(b, NULL, 2 * n * qn), *kb = buf_of(b, NULL, 2 * n * kn),
                  *vb = buf_of(b, NULL, 2 * n * kn), *yb = buf_of(b, NULL, 2 * n * qn);
        for (size_t i = 0; i < 2 * n; i++) {
            size_t seq = i / n, p = at + i % n, row = seq * a->n + p;
            pages[i] = a->pages[seq];
            pos[i] = (int32_t)p;
            assay_buf_write(b, qb, i * qn * 4, q + row * qn, qn * 4);
            assay_buf_write(b, kb, i * kn * 4, k + row * kn, kn * 4);
            assay_buf_write(b, vb, i * kn * 4, v + row * kn, kn * 4);
        }
        assay_op_kv_store(b, cache, kb, cache->v ? vb : NULL, pages, pos, 2 * n, a->n_kv_heads, a->head_dim);
        assay_op_attention(b, yb, qb, cache, pages, pos, 2 * n, a->n_heads, a->n_kv_heads, a->head_dim, 0.2f,
                           a->window, a->soft_cap);
        for (size_t i = 0; i < 2 * n; i++)
            assay_buf_read(b, y + ((i / n) * a->n + at + i % n) * qn, yb, i * qn * 4, qn * 4);
        assay_buf_free(b, qb), assay_buf_free(b, kb), assay_buf_free(b, vb), assay_buf_free(b, yb);
    }
    free(pages), free(pos);
}

/* x as a cache of type t keeps it. */
static inline float stored(float x, assay_kv_type t) {
    return t == ASSAY_KV_F32    ? x
           : t == ASSAY_KV_BF16 ? assay_bf16_to_f32(assay_f32_to_bf16(x))
                                : assay_f16_to_f32(assay_f32_to_f16(x));
}

#endif
