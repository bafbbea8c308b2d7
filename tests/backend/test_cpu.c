/* The CPU backend: linear layers in every precision and mode against the decoded matrix in double, attention,
 * rope, norm and embedding against their definitions, and above all invariance: a row's bits do not depend on
 * how many rows, threads or pieces it came in. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/backend.h"
#include "backend/help.h"
#include "base/mem.h"
#include "base/rng.h"
#include "num/convert.h"

/* --- matrices --- */

typedef struct matrix_case {
    assay_precision precision;
    int64_t rows, cols, group;
    bool asymmetric;
    double threshold;
} matrix_case;

static const matrix_case cases[] = {
    {ASSAY_PRECISION_F32, 70, 256, 0, false, 0},
    {ASSAY_PRECISION_F32, 5, 99, 0, false, 0},
    {ASSAY_PRECISION_F16, 70, 256, 0, false, 0},
    {ASSAY_PRECISION_BF16, 133, 768, 0, false, 0},
    {ASSAY_PRECISION_BF16, 7, 45, 0, false, 0},
    {ASSAY_PRECISION_INT8, 96, 256, 0, false, 0},
    {ASSAY_PRECISION_INT8, 37, 300, 128, true, 0},
    {ASSAY_PRECISION_INT8, 50, 256, 0, false, 2.0},
    {ASSAY_PRECISION_INT4, 64, 384, 128, false, 0},
    {ASSAY_PRECISION_INT4, 33, 320, 32, true, 0},
    {ASSAY_PRECISION_INT4, 40, 200, 64, true, 2.0},
    {ASSAY_PRECISION_INT4, 20, 130, 48, false, 0},
    {ASSAY_PRECISION_INT3, 33, 256, 128, true, 0},
    {ASSAY_PRECISION_INT2, 33, 256, 64, true, 0},
    {ASSAY_PRECISION_INT5, 21, 160, 32, false, 0},
    {ASSAY_PRECISION_INT6, 21, 161, 0, true, 0},
    {ASSAY_PRECISION_INT7, 21, 160, 40, false, 0},
    {ASSAY_PRECISION_NF4, 48, 256, 64, false, 0},
    {ASSAY_PRECISION_NF4, 31, 100, 64, false, 0},
    {ASSAY_PRECISION_FP4, 48, 256, 128, false, 0},
    {ASSAY_PRECISION_NF4, 1400, 768, 64, false, 0},
    {ASSAY_PRECISION_INT8, 1400, 768, 0, false, 3.0}, /* worth threads */
};

static assay_matrix make_matrix(const matrix_case *c, uint64_t seed) {
    assay_matrix m = {.precision = c->precision,
                      .rows = c->rows,
                      .cols = c->cols,
                      .group_size = c->group,
                      .outlier_threshold = c->threshold};
    size_t n = (size_t)(c->rows * c->cols);
    assay_rng r;
    assay_rng_init(&r, seed);
    if (assay_precision_get_kind(c->precision) == ASSAY_KIND_DENSE) {
        uint8_t *p = assay_malloc(4 * n);
        for (size_t i = 0; i < n; i++) {
            float v = (float)(0.1 * assay_rng_normal(&r));
            uint16_t h = c->precision == ASSAY_PRECISION_F16 ? assay_f32_to_f16(v) : assay_f32_to_bf16(v);
            if (c->precision == ASSAY_PRECISION_F32)
                memcpy(p + 4 * i, &v, 4);
            else
                memcpy(p + 2 * i, &h, 2);
        }
        m.data = p;
        m.owns_data = true;
        return m;
    }
    assert_int_equal(assay_matrix_alloc(&m, c->asymmetric, NULL), ASSAY_OK);
    for (size_t i = 0; i < n; i++)
        m.codes[i] = (uint8_t)(assay_rng_next(&r) & ((1u << assay_precision_bits(c->precision)) - 1));
    for (int64_t i = 0; i < m.n_scales; i++) {
        m.scales[i] = (float)((0.5 + assay_rng_double(&r)) / (1 << assay_precision_bits(c->precision)));
        if (m.zeros)
            m.zeros[i] = (uint8_t)(assay_rng_next(&r) & ((1u << assay_precision_bits(c->precision)) - 1));
    }
    return m;
}

static double rounded(double v, assay_act_mode mode) {
    if (mode == ASSAY_ACT_BF16) return assay_bf16_to_f32(assay_f32_to_bf16((float)v));
    if (mode == ASSAY_ACT_F16) return assay_f16_to_f32(assay_f32_to_f16((float)v));
    return v;
}

/* y of one row and output by its definition, in double; *size receives sum |x w|. */
static double expected(double *size, const float *x, const float *w, size_t k, assay_act_mode mode,
                       double threshold) {
    double sum = 0, absmax = 0;
    *size = 0;
    if (mode == ASSAY_ACT_INT8)
        for (size_t c = 0; c < k; c++)
            if (!(threshold > 0 && fabsf(x[c]) >= (float)threshold)) absmax = fmax(absmax, fabs(x[c]));
    for (size_t c = 0; c < k; c++) {
        double xv, wv;
        if (mode == ASSAY_ACT_INT8 && !(threshold > 0 && fabsf(x[c]) >= (float)threshold)) {
            xv = absmax > 0 ? rintf(x[c] * (127.0f / (float)absmax)) * absmax / 127 : 0;
            wv = w[c];
        } else {
            assay_act_mode m = mode == ASSAY_ACT_INT8 ? ASSAY_ACT_F16 : mode; /* outliers in 16 bits */
            xv = rounded(x[c], m);
            wv = rounded(w[c], m);
        }
        sum += xv * wv;
        *size += fabs(xv * wv);
    }
    return sum;
}

#define MAX_ROWS 33
static const size_t batches[] = {1, 2, 5, 7, 32, 33};

/* One matrix in one mode: right, and the same bits in every batch and on one or two threads. */
static void check_linear(const matrix_case *c, assay_act_mode mode, const char *isa) {
    assay_matrix m = make_matrix(c, 11);
    size_t k = (size_t)c->cols, n = (size_t)c->rows;
    assay_rng r;
    assay_rng_init(&r, 5);
    float *x = normals(&r, MAX_ROWS * k, 1), *bias = normals(&r, n, 1), *w = malloc(n * k * sizeof *w),
          *first = malloc(MAX_ROWS * n * sizeof *first);
    float *y = malloc(MAX_ROWS * n * sizeof *y);
    assay_matrix_decode_rows(w, &m, 0, c->rows);
    for (int threads = 1; threads <= 2; threads++) {
        assay_backend *b = open_cpu(threads, isa);
        assay_weight *weight = NULL;
        assert_int_equal(assay_weight_new(&weight, b, &m, mode, NULL), ASSAY_OK);
        assert_int_equal(assay_weight_mode(weight), mode);
        assert_true(assay_weight_n_bytes(weight) > 0);
        assay_buf *biases = buf_of(b, bias, n);
        for (size_t t = 0; t < ASSAY_LEN(batches); t++)
            for (size_t row = 0; row < MAX_ROWS; row += batches[t]) {
                size_t m_rows = ASSAY_MIN(batches[t], MAX_ROWS - row);
                assay_buf *xb = buf_of(b, x + row * k, m_rows * k), *yb = buf_of(b, NULL, m_rows * n);
                assay_op_linear(b, yb, weight, biases, xb, m_rows);
                assay_buf_read(b, y + row * n, yb, 0, m_rows * n * sizeof *y);
                assay_buf_free(b, xb);
                assay_buf_free(b, yb);
                if (threads == 1 && t == 0) memcpy(first + row * n, y + row * n, m_rows * n * sizeof *y);
                if (memcmp(y + row * n, first + row * n, m_rows * n * sizeof *y) != 0)
                    fail_msg("%s mode %d: rows from %zu in batches of %zu on %d threads differ",
                             assay_precision_name(c->precision), (int)mode, row, batches[t], threads);
            }
        assay_buf_free(b, biases);
        assay_weight_free(b, weight);
        assay_backend_close(b);
    }
    for (size_t i = 0; i < MAX_ROWS; i++)
        for (size_t o = 0; o<n; o += n> 200 ? 29 : 1) {
            double size, want = expected(&size, x + i * k, w + o * k, k, mode, c->threshold) + bias[o];
            double bound = ((double)k / 16 + 16) * 0x1p-23 * (size + fabs(bias[o])) +
                           (mode == ASSAY_ACT_INT8 ? 4 * 0x1p-23 * size : 0);
            if (!(fabs(first[i * n + o] - want) <= bound))
                fail_msg("%s mode %d: row %zu output %zu is %.9g, want %.9g +- %.2g",
                         assay_precision_name(c->precision), (int)mode, i, o, (double)first[i * n + o], want,
                         bound);
        }
    free(x), free(bias), free(w), free(first), free(y);
    assay_matrix_deinit(&m);
}

static void test_linear(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(cases); i++)
        for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_INT8; mode++)
            if (mode != ASSAY_ACT_INT8 || assay_precision_get_kind(cases[i].precision) == ASSAY_KIND_INT)
                check_linear(&cases[i], mode, NULL);
}
static void test_linear_on_the_reference(void **state) {
    (void)state;
    static const size_t some[] = {4, 7, 10, 18};
    for (size_t i = 0; i < ASSAY_LEN(some); i++) check_linear(&cases[some[i]], ASSAY_ACT_BF16, "ref");
    check_linear(&cases[7], ASSAY_ACT_INT8, "ref");
}

/* 4-bit codes compute exactly as the dense matrix of their decoded values does, in each float mode. */
static void test_codes_equal_their_dense_matrix(void **state) {
    (void)state;
    assay_backend *b = open_cpu(2, NULL);
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        if (assay_precision_get_kind(cases[i].precision) == ASSAY_KIND_DENSE) continue;
        assay_matrix m = make_matrix(&cases[i], 3);
        size_t k = (size_t)m.cols, n = (size_t)m.rows, rows = 9;
        float *w = malloc(n * k * sizeof *w), *y[2] = {malloc(rows * n * 4), malloc(rows * n * 4)};
        assay_matrix_decode_rows(w, &m, 0, m.rows);
        assay_matrix dense = {.precision = ASSAY_PRECISION_F32, .rows = m.rows, .cols = m.cols, .data = w};
        assay_rng r;
        assay_rng_init(&r, 8);
        float *x = normals(&r, rows * k, 1);
        assay_buf *xb = buf_of(b, x, rows * k), *yb = buf_of(b, NULL, rows * n);
        for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_F16; mode++)
            for (size_t batch = 1; batch <= rows; batch += rows - 1) {
                for (int t = 0; t < 2; t++) {
                    assay_weight *weight = NULL;
                    assert_int_equal(assay_weight_new(&weight, b, t ? &dense : &m, mode, NULL), ASSAY_OK);
                    assay_op_linear(b, yb, weight, NULL, xb, batch);
                    assay_buf_read(b, y[t], yb, 0, batch * n * 4);
                    assay_weight_free(b, weight);
                }
                assert_memory_equal(y[0], y[1], batch * n * 4);
            }
        assay_buf_free(b, xb);
        assay_buf_free(b, yb);
        free(w), free(x), free(y[0]), free(y[1]);
        assay_matrix_deinit(&m);
    }
    assay_backend_close(b);
}

/* Several weights at once, with one input prepared for all or for each, equal the same one by one. More rows
 * than scratch holds. */
static void test_linear_multi(void **state) {
    (void)state;
    assay_backend *b = open_cpu(2, NULL);
    static const matrix_case three[] = {{ASSAY_PRECISION_INT8, 40, 256, 0, false, 2.5},
                                        {ASSAY_PRECISION_INT4, 17, 256, 64, false, 0},
                                        {ASSAY_PRECISION_INT8, 64, 256, 0, false, 2.5}};
    size_t rows = 300, k = 256;
    assay_rng r;
    assay_rng_init(&r, 8);
    float *x = normals(&r, rows * k, 1);
    for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_INT8; mode++) {
        assay_weight *w[3];
        assay_buf *xb = buf_of(b, x, rows * k), *y[3], *alone;
        for (int i = 0; i < 3; i++) {
            assay_matrix m = make_matrix(&three[i], (uint64_t)i);
            assert_int_equal(assay_weight_new(&w[i], b, &m, mode, NULL), ASSAY_OK);
            y[i] = buf_of(b, NULL, rows * (size_t)three[i].rows);
            assay_matrix_deinit(&m); /* codes were copied */
        }
        assay_op_linear_multi(b, y, w, NULL, 3, xb, rows);
        for (int i = 0; i < 3; i++) {
            size_t n = rows * (size_t)three[i].rows;
            float *p = malloc(n * 4), *q = malloc(n * 4);
            alone = buf_of(b, NULL, n);
            assay_op_linear(b, alone, w[i], NULL, xb, rows);
            assay_buf_read(b, p, y[i], 0, n * 4);
            assay_buf_read(b, q, alone, 0, n * 4);
            assert_memory_equal(p, q, n * 4);
            free(p), free(q);
            assay_buf_free(b, alone);
            assay_buf_free(b, y[i]);
            assay_weight_free(b, w[i]);
        }
        assay_buf_free(b, xb);
    }
    free(x);
    assay_backend_close(b);
}

/* A mapped file may put a matrix anywhere. */
static void test_unaligned_elements(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    for (size_t i = 0; i < 5; i++) {
        assay_matrix m = make_matrix(&cases[i], 6), moved = m;
        size_t n = (size_t)(m.rows * m.cols) * (m.precision == ASSAY_PRECISION_F32 ? 4 : 2), rows = 9,
               out = rows * (size_t)m.rows;
        for (size_t shift = 1; shift < 4; shift++)
            for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_F16; mode++) {
                assay_rng r;
                assay_rng_init(&r, 8);
                uint8_t *p = malloc(n + shift);
                float *x = normals(&r, rows * (size_t)m.cols, 1), *y[2] = {malloc(out * 4), malloc(out * 4)};
                assay_buf *xb = buf_of(b, x, rows * (size_t)m.cols), *yb = buf_of(b, NULL, out);
                moved.data = memcpy(p + shift, m.data, n);
                for (int t = 0; t < 2; t++) {
                    assay_weight *w = NULL;
                    assert_int_equal(assay_weight_new(&w, b, t ? &moved : &m, mode, NULL), ASSAY_OK);
                    assay_op_linear(b, yb, w, NULL, xb, rows);
                    assay_buf_read(b, y[t], yb, 0, out * 4);
                    assay_weight_free(b, w);
                }
                assert_memory_equal(y[0], y[1], out * 4);
                assay_buf_free(b, xb);
                assay_buf_free(b, yb);
                free(p), free(x), free(y[0]), free(y[1]);
            }
        assay_matrix_deinit(&m);
    }
    assay_backend_close(b);
}

static void test_refusals_and_defaults(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    assay_weight *w = NULL;
    assay_err err = {0};
    assay_matrix m = make_matrix(&cases[17], 1); /* nf4 */
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_INT8, &err), ASSAY_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "nf4"));
    assert_null(w);
    m.act_bits = 16, m.act_dtype = ASSAY_DTYPE_BF16;
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_AUTO, NULL), ASSAY_OK);
    assert_int_equal(assay_weight_mode(w), ASSAY_ACT_BF16);
    assay_weight_free(b, w);
    for (long n = 0; n < 6; n++) { /* a failed allocation leaves nothing behind */
        assay_mem_fail_after(n);
        assay_status s = assay_weight_new(&w, b, &m, ASSAY_ACT_BF16, NULL);
        assay_mem_fail_after(-1);
        assert_true(s == ASSAY_OK || (s == ASSAY_ENOMEM && !w));
        assay_weight_free(b, w);
    }
    assay_matrix_deinit(&m);
    m = make_matrix(&cases[5], 1);
    m.act_bits = 8;
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_AUTO, NULL), ASSAY_OK);
    assert_int_equal(assay_weight_mode(w), ASSAY_ACT_INT8);
    assay_weight_free(b, w);
    assay_matrix_deinit(&m);
    assay_weight_free(b, NULL);
    assay_buf_free(b, NULL);
    assert_non_null(strstr(assay_backend_describe(b), "1 thread"));
    assay_backend_close(b);
    assay_backend_close(NULL);
    assert_int_equal(assay_backend_open_cpu(&b, &(assay_cpu_opts){.isa = "mmx"}, &err), ASSAY_EUSAGE);
}

static void test_embed(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    static const int32_t ids[] = {3, 0, 4, 3};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++)
        for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_INT8; mode++) {
            bool dense = assay_precision_get_kind(cases[i].precision) == ASSAY_KIND_DENSE;
            if (mode == ASSAY_ACT_INT8 && assay_precision_get_kind(cases[i].precision) != ASSAY_KIND_INT)
                continue;
            if (mode != ASSAY_ACT_F32 && mode != ASSAY_ACT_INT8 &&
                (dense || cases[i].cols % 32 != 0 || cases[i].group % 32 != 0))
                continue; /* may be rounded to the mode */
            assay_matrix m = make_matrix(&cases[i], 2);
            check_embed(b, &m, mode, ids, ASSAY_LEN(ids));
            assay_matrix_deinit(&m);
        }
    assay_backend_close(b);
}

/* --- attention --- */

typedef struct shape {
    int n_heads, n_kv_heads, head_dim, window;
    float soft_cap;
    assay_kv_type type;
} shape;
#define POSITIONS 150

/* run_attention of both sequences in a cache of its own. v NULL: values are the keys. */
static void run_shape(float *y, const float *q, const float *k, const float *v, const shape *s, size_t chunk,
                      int threads) {
    static const int32_t table[2][3] = {{4, 0, 2}, {1, 5, 3}};
    assay_backend *b = open_cpu(threads, NULL);
    size_t page = assay_kv_page_bytes(s->type, s->n_kv_heads, s->head_dim);
    const attention a = {.n_heads = s->n_heads,
                         .n_kv_heads = s->n_kv_heads,
                         .head_dim = s->head_dim,
                         .window = s->window,
                         .soft_cap = s->soft_cap,
                         .n = POSITIONS,
                         .pages = {table[0], table[1]}};
    const assay_kv_layer cache = {.k = junk_of(b, 6 * page), .v = v ? junk_of(b, 6 * page) : NULL, .type = s->type};
    run_attention(y, b, &cache, q, k, v ? v : k, &a, chunk);
    assay_buf_free(b, cache.k);
    assay_buf_free(b, cache.v);
    assay_backend_close(b);
}

static void check_against_double(const float *y, const float *q, const float *k, const float *v,
                                 const shape *s) {
    size_t dim = (size_t)s->head_dim, qn = (size_t)s->n_heads * dim, kn = (size_t)s->n_kv_heads * dim;
    for (size_t row = 0; row < 2 * POSITIONS; row += 7)
        for (int h = 0; h < s->n_heads; h++) {
            size_t pos = row % POSITIONS, base = row - pos, kvh = (size_t)(h / (s->n_heads / s->n_kv_heads));
            size_t lo = s->window && pos + 1 > (size_t)s->window ? pos + 1 - (size_t)s->window : 0;
            double p[POSITIONS], top = -INFINITY, sum = 0;
            for (size_t j = lo; j <= pos; j++) {
                p[j] = 0;
                for (size_t d = 0; d < dim; d++)
                    p[j] += (double)q[row * qn + (size_t)h * dim + d] *
                            stored(k[(base + j) * kn + kvh * dim + d], s->type);
                p[j] *= 0.2;
                if (s->soft_cap > 0) p[j] = tanh(p[j] / s->soft_cap) * s->soft_cap;
                top = fmax(top, p[j]);
            }
            for (size_t j = lo; j <= pos; j++) sum += p[j] = exp(p[j] - top);
            for (size_t d = 0; d < dim; d++) {
                double want = 0;
                for (size_t j = lo; j <= pos; j++)
                    want += p[j] / sum * stored(v[(base + j) * kn + kvh * dim + d], s->type);
                float got = y[row * qn + (size_t)h * dim + d];
                if (!(fabs(got - want) < 3e-5))
                    fail_msg("row %zu head %d dim %zu: %g, want %g", row, h, d, (double)got, want);
            }
        }
}

static void test_attention(void **state) {
    (void)state;
    static const shape shapes[] = {
        {8, 2, 64, 0, 0, ASSAY_KV_BF16}, {4, 4, 32, 0, 0, ASSAY_KV_F32},    {6, 2, 80, 0, 30, ASSAY_KV_F16},
        {2, 1, 8, 40, 0, ASSAY_KV_F32},  {3, 3, 128, 70, 0, ASSAY_KV_BF16}, {40, 1, 16, 0, 0, ASSAY_KV_F32},
    };
    for (size_t i = 0; i < ASSAY_LEN(shapes); i++) {
        const shape *s = &shapes[i];
        size_t qn = (size_t)(s->n_heads * s->head_dim), kn = (size_t)(s->n_kv_heads * s->head_dim),
               bytes = 2 * POSITIONS * qn * 4;
        assay_rng r;
        assay_rng_init(&r, 21);
        float *q = normals(&r, 2 * POSITIONS * qn, 1), *k = normals(&r, 2 * POSITIONS * kn, 1),
              *v = normals(&r, 2 * POSITIONS * kn, 1);
        float *first = malloc(bytes), *y = malloc(bytes);
        run_shape(first, q, k, v, s, POSITIONS, 1);
        check_against_double(first, q, k, v, s);
        static const struct {
            size_t chunk;
            int threads;
        } ways[] = {{POSITIONS, 2}, {1, 1}, {7, 2}, {64, 1}, {65, 2}};
        for (size_t t = 0; t < ASSAY_LEN(ways); t++) {
            run_shape(y, q, k, v, s, ways[t].chunk, ways[t].threads);
            assert_memory_equal(y, first, bytes);
        }
        /* Values that are the keys give what a copy of them gives. */
        run_shape(first, q, k, k, s, POSITIONS, 1);
        for (size_t t = 0; t < ASSAY_LEN(ways); t++) {
            run_shape(y, q, k, NULL, s, ways[t].chunk, ways[t].threads);
            assert_memory_equal(y, first, bytes);
        }
        free(q), free(k), free(v), free(first), free(y);
    }
}

/* --- pointwise --- */

static void test_rope(void **state) {
    (void)state;
    enum { ROWS = 40, HEADS = 3, DIM = 20, HALF = 8 };
    float inv[HALF], got[ROWS * HEADS * DIM];
    int32_t pos[ROWS];
    assay_backend *b = open_cpu(2, NULL);
    assay_rng r;
    assay_rng_init(&r, 4);
    float *x = normals(&r, ROWS * HEADS * DIM, 1);
    for (int round = 0; round < 2;
         round++) { /* the second with other frequencies: what was cached must not be used */
        for (int i = 0; i < HALF; i++) inv[i] = (float)pow(10000.0 + round, -(double)i / HALF);
        for (int i = 0; i < ROWS; i++) pos[i] = i * 31 + round;
        assay_buf *buf = buf_of(b, x, ROWS * HEADS * DIM);
        assay_op_rope(b, buf, pos, ROWS, HEADS, DIM, HALF, inv, 1.25f);
        assay_buf_read(b, got, buf, 0, sizeof got);
        assay_buf_free(b, buf);
        for (int i = 0; i < ROWS * HEADS; i++)
            for (int d = 0; d < DIM; d++) {
                const float *h = x + i * DIM;
                double want = h[d], a = (double)pos[i / HEADS] * (double)inv[d % HALF];
                if (d < HALF)
                    want = 1.25 * (h[d] * cos(a) - h[d + HALF] * sin(a));
                else if (d < 2 * HALF)
                    want = 1.25 * (h[d] * cos(a) + h[d - HALF] * sin(a));
                assert_true(fabs(got[i * DIM + d] - want) < 2e-6);
            }
    }
    free(x);
    assay_backend_close(b);
}

static void test_rmsnorm_add_gate_gather(void **state) {
    (void)state;
    enum { ROWS = 33, N = 771 };
    assay_backend *b = open_cpu(2, NULL);
    assay_rng r;
    assay_rng_init(&r, 9);
    float *x = normals(&r, ROWS * N, 3), *w = normals(&r, N, 1), *u = normals(&r, ROWS * N, 1),
          *y = malloc(ROWS * N * 4), *one = malloc(N * 4);
    assay_buf *xb = buf_of(b, x, ROWS * N), *wb = buf_of(b, w, N), *ub = buf_of(b, u, ROWS * N),
              *yb = buf_of(b, NULL, ROWS * N);
    assay_op_rmsnorm(b, yb, xb, wb, ROWS, N, 1e-6f);
    assay_buf_read(b, y, yb, 0, ROWS * N * 4);
    for (int i = 0; i < ROWS; i++) {
        double s = 0;
        for (int c = 0; c < N; c++) s += (double)x[i * N + c] * x[i * N + c];
        for (int c = 0; c < N; c++)
            assert_true(fabs(y[i * N + c] - x[i * N + c] / sqrt(s / N + 1e-6) * w[c]) < 1e-5);
        assay_buf *row = buf_of(b, x + i * N, N);
        assay_op_rmsnorm(b, row, row, wb, 1, N, 1e-6f); /* alone and in place: the same bits */
        assay_buf_read(b, one, row, 0, N * 4);
        assert_memory_equal(one, y + i * N, N * 4);
        assay_buf_free(b, row);
    }
    assay_op_gate(b, yb, xb, ub, ROWS * N, ASSAY_GATE_SILU);
    assay_op_add(b, yb, ub, ROWS * N);
    assay_buf_read(b, y, yb, 0, ROWS * N * 4);
    for (int i = 0; i < ROWS * N; i++)
        assert_true(fabs(y[i] - (x[i] / (1 + exp(-(double)x[i])) * u[i] + u[i])) < 1e-5);
    static const int32_t rows[] = {32, 5, 5};
    assay_op_gather_rows(b, yb, xb, rows, 3, N);
    assay_buf_read(b, y, yb, 0, 3 * N * 4);
    for (int i = 0; i < 3; i++) assert_memory_equal(y + i * N, x + rows[i] * N, N * 4);
    free(x), free(w), free(u), free(y), free(one);
    assay_buf_free(b, xb), assay_buf_free(b, wb), assay_buf_free(b, ub), assay_buf_free(b, yb);
    assay_backend_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_on_the_reference),
        cmocka_unit_test(test_codes_equal_their_dense_matrix),
        cmocka_unit_test(test_linear_multi),
        cmocka_unit_test(test_refusals_and_defaults),
        cmocka_unit_test(test_unaligned_elements),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_rmsnorm_add_gate_gather),
    };
    return cmocka_run_group_tests_name("cpu backend", tests, NULL, NULL);
}
