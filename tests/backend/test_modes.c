/* The CPU backend on the precisions and modes that came with the methods: 8-bit and 4-bit floats, HQQ's real
 * zero points, activation order by group; 8-bit products with scales per token, per 128 columns and fixed;
 * rotations. Each against its definition, and the same bits whatever the batch, the thread count or the
 * instruction set. */
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
#include "linalg/hadamard.h"
#include "num/convert.h"

/* --- matrices --- */

typedef struct matrix_case {
    assay_precision precision;
    int64_t rows, cols, group, row_block;
    bool real_zeros, ordered; /* HQQ; g_idx */
    float global;
} matrix_case;

#define P(x) ASSAY_PRECISION_##x
static const matrix_case cases[] = {
    {P(FP8_E4M3), 70, 256, 0, 0, false, false, 0},      {P(FP8_E4M3), 37, 300, 0, 37, false, false, 0},
    {P(FP8_E4M3), 150, 400, 128, 128, false, false, 0}, {P(FP8_E5M2), 33, 256, 0, 0, false, false, 0},
    {P(FP8_E5M2), 20, 97, 32, 0, false, false, 0},      {P(FP8_E4M3), 20, 96, 24, 0, false, false, 0},
    {P(MXFP4), 48, 256, 32, 0, false, false, 0},        {P(MXFP4), 21, 100, 32, 0, false, false, 0},
    {P(NVFP4), 48, 256, 16, 0, false, false, 37.25f},   {P(NVFP4), 33, 333, 16, 0, false, false, 1.7f},
    {P(NVFP4), 5, 16, 16, 0, false, false, 0.3f},       {P(INT4), 40, 256, 64, 0, true, false, 0},
    {P(INT4), 33, 300, 128, 0, true, true, 0},          {P(INT3), 33, 256, 64, 0, true, false, 0},
    {P(INT8), 24, 200, 64, 0, true, false, 0},          {P(INT2), 18, 160, 16, 0, true, false, 0},
    {P(INT4), 64, 384, 128, 0, false, true, 0},         {P(INT4), 30, 300, 32, 0, false, true, 0},
    {P(INT8), 30, 320, 64, 0, false, true, 0},          {P(INT3), 30, 200, 128, 0, false, true, 0},
    {P(NVFP4), 1400, 768, 16, 0, false, false, 9.0f}, /* worth threads */
};

static uint8_t number(assay_rng *r, assay_precision p) { /* a code that is one */
    int bits = assay_precision_bits(p);
    for (;;) {
        uint8_t c = (uint8_t)(assay_rng_next(r) & ((1u << bits) - 1));
        if (bits < 8 || assay_precision_get_kind(p) != ASSAY_KIND_FLOAT ||
            (isfinite(assay_precision_table(p)[c])))
            return c;
    }
}

static assay_matrix make_matrix(const matrix_case *c, uint64_t seed) {
    assay_matrix m = {.precision = c->precision,
                      .rows = c->rows,
                      .cols = c->cols,
                      .group_size = c->group,
                      .row_block = c->row_block,
                      .global_scale = c->global,
                      .scale_dtype = c->precision == P(MXFP4)   ? ASSAY_DTYPE_F8_E8M0
                                     : c->precision == P(NVFP4) ? ASSAY_DTYPE_F8_E4M3
                                                                : ASSAY_DTYPE_F32};
    assay_rng r;
    assay_rng_init(&r, seed);
    assert_int_equal(assay_matrix_alloc(&m, false, NULL), ASSAY_OK);
    for (int64_t i = 0; i < c->rows * c->cols; i++)
        m.codes[i] = number(&r, c->precision);
    if (c->real_zeros) m.real_zeros = assay_malloc((size_t)m.n_scales * 4);
    for (int64_t i = 0; i < m.n_scales; i++) {
        double u = 0.5 + assay_rng_double(&r);
        m.scales[i] = c->precision == P(MXFP4)   ? ldexpf(1, (int)(assay_rng_next(&r) % 9) - 6)
                      : c->precision == P(NVFP4) ? assay_e4m3_to_f32((uint8_t)(1 + assay_rng_next(&r) % 126))
                      : assay_precision_get_kind(c->precision) == ASSAY_KIND_FLOAT
                          ? (float)(u / 100)
                          : (float)(u / (1 << assay_precision_bits(c->precision)));
        if (c->real_zeros) m.real_zeros[i] = (float)((1 << (assay_precision_bits(c->precision) - 1)) + 2 * u);
    }
    if (c->ordered) {
        m.g_idx = assay_malloc((size_t)c->cols * sizeof *m.g_idx);
        for (int64_t i = 0; i < c->cols; i++)
            m.g_idx[i] = (int32_t)(i / c->group);
        for (int64_t i = c->cols - 1; i > 0; i--) {
            int64_t j = (int64_t)(assay_rng_next(&r) % (uint64_t)(i + 1));
            int32_t t = m.g_idx[i];
            m.g_idx[i] = m.g_idx[j], m.g_idx[j] = t;
        }
    }
    return m;
}

/* The order in which a matrix's columns are summed: by group, ascending within. */
static void column_order(int64_t *order, const assay_matrix *m) {
    int64_t n = 0;
    for (int64_t g = 0; g < (m->g_idx ? assay_matrix_n_groups(m) : 1); g++)
        for (int64_t c = 0; c < m->cols; c++)
            if (!m->g_idx || m->g_idx[c] == g) order[n++] = c;
}

static void multiply(float *y, assay_backend *b, const assay_weight *w, const float *x, size_t rows, size_t k,
                     size_t n) {
    assay_buf *xb = buf_of(b, x, rows * k), *yb = buf_of(b, NULL, rows * n);
    assay_op_linear(b, yb, w, NULL, xb, rows);
    assay_buf_read(b, y, yb, 0, rows * n * 4);
    assay_buf_free(b, xb), assay_buf_free(b, yb);
}

/* --- heads: blocks of rows, each times its own input --- */

enum { HEADS = 2, HEAD_ROWS = 40 };

/* y [rows][HEADS][outputs] of x [rows][HEADS][inputs + 3], whose elements stand behind three others. */
static void multiply_heads(float *y, assay_backend *b, const assay_weight *w, const assay_head_rows *heads, const float *x, size_t rows,
                           size_t n_in, size_t n_out) {
    size_t wide = n_in + 3;
    assay_buf *xb = buf_of(b, x, rows * HEADS * wide), *yb = buf_of(b, NULL, rows * HEADS * n_out);
    assay_op_linear_heads(b, yb, (assay_span){HEADS * n_out, 0, n_out, 1}, w, heads, xb, (assay_span){HEADS * wide, 3, wide, 1}, rows);
    assay_buf_read(b, y, yb, 0, rows * HEADS * n_out * 4);
    assay_buf_free(b, xb), assay_buf_free(b, yb);
}

static void check_heads(const float *y, const float *x, const float *w, size_t k, const assay_head_rows *heads) {
    size_t n_in = heads->transposed ? heads->n : k, n_out = heads->transposed ? k : heads->n;
    for (size_t row = 0; row < HEAD_ROWS; row += 13)
        for (size_t h = 0; h < HEADS; h++)
            for (size_t o = 0; o < n_out; o++) {
                const float *block = w + (h * heads->per_head + heads->first) * k, *in = x + (row * HEADS + h) * (n_in + 3) + 3;
                double want = 0, size = 0;
                for (size_t i = 0; i < n_in; i++) {
                    double term = (double)in[i] * (double)(heads->transposed ? block[i * k + o] : block[o * k + i]);
                    want += term;
                    size += fabs(term);
                }
                double got = y[(row * HEADS + h) * n_out + o];
                if (!(fabs(got - want) <= 1e-6 * size + 1e-30))
                    fail_msg("row %zu head %zu output %zu: %g, want %g", row, h, o, got, want);
            }
}

/* Exact decoded weights whatever they are stored as and made for; the same bits for one row and for many, on one thread and on more. */
static void test_heads(void **state) {
    (void)state;
    assay_backend *one = open_cpu(1, NULL), *two = open_cpu(2, NULL);
    for (size_t i = 0; i < ASSAY_LEN(cases); i++)
        for (int mode = ASSAY_ACT_F32; mode < ASSAY_ACT_MODES; mode++) {
            assay_matrix m = make_matrix(&cases[i], 5);
            size_t k = (size_t)m.cols, per_head = (size_t)m.rows / HEADS;
            assay_weight *w1 = NULL, *w2 = NULL;
            if (assay_weight_new(&w1, one, &m, (assay_act_mode)mode, NULL) == ASSAY_OK) {
                assert_int_equal(assay_weight_new(&w2, two, &m, (assay_act_mode)mode, NULL), ASSAY_OK);
                float *w = malloc((size_t)m.rows * k * 4);
                assay_matrix_decode_rows(w, &m, 0, m.rows);
                for (int t = 0; t < 2; t++) {
                    const assay_head_rows heads = {HEADS, per_head, 1, per_head - 1, t};
                    size_t n_in = t ? heads.n : k, n_out = t ? k : heads.n, row = HEADS * n_out;
                    assay_rng r;
                    assay_rng_init(&r, 6);
                    float *x = normals(&r, HEAD_ROWS * HEADS * (n_in + 3), 1), *y = malloc(HEAD_ROWS * row * 4), *z = malloc(HEAD_ROWS * row * 4);
                    multiply_heads(y, two, w2, &heads, x, HEAD_ROWS, n_in, n_out);
                    bool dense = mode != ASSAY_ACT_F32 && mode <= ASSAY_ACT_F16; /* may be rounded to the mode */
                    if (!dense) check_heads(y, x, w, k, &heads);
                    for (size_t at = 0; at < HEAD_ROWS; at++)
                        multiply_heads(z + at * row, one, w1, &heads, x + at * HEADS * (n_in + 3), 1, n_in, n_out);
                    assert_memory_equal(y, z, HEAD_ROWS * row * 4);
                    free(x), free(y), free(z);
                }
                free(w);
            }
            assay_weight_free(one, w1), assay_weight_free(two, w2);
            assay_matrix_deinit(&m);
        }
    assay_backend_close(one), assay_backend_close(two);
}

/* Weight-only: exactly the dense matrix of the decoded values, columns in the matrix's order. */
static void test_codes_equal_their_dense_matrix(void **state) {
    (void)state;
    assay_backend *b = open_cpu(2, NULL);
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_matrix m = make_matrix(&cases[i], 3);
        size_t k = (size_t)m.cols, n = (size_t)m.rows, rows = 9;
        float *w = malloc(n * k * 4), *wo = malloc(n * k * 4), *xo = malloc(rows * k * 4),
              *y[2] = {malloc(rows * n * 4), malloc(rows * n * 4)};
        int64_t *order = malloc(k * sizeof *order);
        assay_rng r;
        assay_rng_init(&r, 8);
        float *x = normals(&r, rows * k, 1);
        column_order(order, &m);
        assay_matrix_decode_rows(w, &m, 0, m.rows);
        for (size_t c = 0; c < k; c++) {
            for (size_t o = 0; o < n; o++)
                wo[o * k + c] = w[o * k + (size_t)order[c]];
            for (size_t o = 0; o < rows; o++)
                xo[o * k + c] = x[o * k + (size_t)order[c]];
        }
        assay_matrix dense = {.precision = P(F32), .rows = m.rows, .cols = m.cols, .data = wo};
        for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_F16; mode++)
            for (size_t batch = 1; batch <= rows; batch += rows - 1) {
                for (int t = 0; t < 2; t++) {
                    assay_weight *weight = NULL;
                    assert_int_equal(assay_weight_new(&weight, b, t ? &dense : &m, mode, NULL), ASSAY_OK);
                    multiply(y[t], b, weight, t ? xo : x, batch, k, n);
                    assay_weight_free(b, weight);
                }
                if (memcmp(y[0], y[1], batch * n * 4) != 0)
                    fail_msg("case %zu %s mode %d batch %zu differs from its dense matrix", i,
                             assay_precision_name(m.precision), (int)mode, batch);
            }
        free(w), free(wo), free(x), free(xo), free(y[0]), free(y[1]), free(order);
        assay_matrix_deinit(&m);
    }
    assay_backend_close(b);
}

/* Small codes stay small in memory. */
static void test_bytes(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    static const struct {
        matrix_case c;
        double bits;
    } sizes[] = {{{P(NVFP4), 256, 512, 16, 0, false, false, 2}, 4.5},
                 {{P(MXFP4), 256, 512, 32, 0, false, false, 0}, 4.25},
                 {{P(FP8_E4M3), 256, 512, 0, 0, false, false, 0}, 8.0625},
                 {{P(INT4), 256, 512, 128, 0, true, true, 0}, 4.5}};
    for (size_t i = 0; i < ASSAY_LEN(sizes); i++) {
        assay_matrix m = make_matrix(&sizes[i].c, 1);
        assay_weight *w = NULL;
        assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_BF16, NULL), ASSAY_OK);
        assert_true((double)assay_weight_n_bytes(w) <= sizes[i].bits / 8 * 256 * 512);
        assay_weight_free(b, w);
        assay_matrix_deinit(&m);
    }
    assay_backend_close(b);
}

/* --- 8-bit products --- */

typedef struct mode_case {
    matrix_case c;
    assay_act_mode mode;
    int64_t act_group;
    float input_scale;
    double threshold;
} mode_case;

static const mode_case modes[] = {
    {{P(FP8_E4M3), 70, 256, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 0, 0, 0},        /* channel x token */
    {{P(FP8_E4M3), 37, 300, 0, 37, false, false, 0}, ASSAY_ACT_FP8, 0, 0.02f, 0},   /* tensor x fixed */
    {{P(FP8_E4M3), 150, 400, 128, 128, false, false, 0}, ASSAY_ACT_FP8, 128, 0, 0}, /* blocks */
    {{P(FP8_E4M3), 21, 400, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 128, 0, 0},
    {{P(FP8_E4M3), 21, 400, 96, 0, false, false, 0}, ASSAY_ACT_FP8, 64, 0, 0},
    {{P(FP8_E4M3), 21, 333, 64, 0, false, false, 0}, ASSAY_ACT_FP8, 0, 0, 0},
    {{P(FP8_E5M2), 33, 256, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 0, 0, 0},
    {{P(FP8_E5M2), 9, 45, 0, 9, false, false, 0}, ASSAY_ACT_FP8, 0, 0.001f, 0},
    {{P(FP8_E4M3), 1400, 768, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 0, 0, 0}, /* worth threads */
    {{P(INT8), 50, 256, 0, 0, false, false, 0}, ASSAY_ACT_INT8, 0, 0.011f, 0},
    {{P(INT8), 50, 300, 128, 0, false, false, 0}, ASSAY_ACT_INT8, 0, 0.02f, 2.5},
    {{P(INT4), 40, 256, 64, 0, true, false, 0}, ASSAY_ACT_INT8, 0, 0, 0},
    {{P(INT4), 40, 300, 128, 0, true, true, 0}, ASSAY_ACT_INT8, 0, 0, 2.5},
    {{P(INT8), 40, 320, 64, 0, true, false, 0}, ASSAY_ACT_INT8, 0, 0, 2.5},
};

/* The input as the mode has it, in double; whether entry c stays out of the 8-bit product. */
static void quantized(double *q, bool *apart, const float *x, const mode_case *t) {
    size_t k = (size_t)t->c.cols, g = t->act_group ? (size_t)t->act_group : k;
    bool e4m3 = t->c.precision == P(FP8_E4M3);
    for (size_t c = 0; c < k; c++)
        apart[c] = t->threshold > 0 && fabsf(x[c]) >= (float)t->threshold;
    for (size_t from = 0; from < k; from += g) {
        float absmax = 0, most = t->mode == ASSAY_ACT_INT8 ? 127.0f : e4m3 ? 448.0f : 57344.0f;
        for (size_t c = from; c < k && c < from + g; c++)
            if (!apart[c]) absmax = fmaxf(absmax, fabsf(x[c]));
        float scale = t->input_scale != 0 ? t->input_scale : absmax / most;
        for (size_t c = from; c < k && c < from + g; c++) {
            if (apart[c])
                q[c] = assay_f16_to_f32(assay_f32_to_f16(x[c]));
            else if (t->mode == ASSAY_ACT_INT8)
                q[c] = (t->input_scale != 0 ? fminf(fmaxf(rintf(x[c] / scale), -128), 127)
                                            : rintf(x[c] * (127.0f / absmax))) *
                       (double)scale;
            else if (e4m3)
                q[c] = assay_e4m3_to_f32(assay_f32_to_e4m3(x[c] / scale)) * (double)scale;
            else
                q[c] = assay_e5m2_to_f32(assay_f32_to_e5m2(x[c] / scale)) * (double)scale;
        }
    }
}

#define MAX_ROWS 33
static const size_t batches[] = {1, 2, 5, 7, 33};

static void check_mode(const mode_case *t) {
    assay_matrix m = make_matrix(&t->c, 11);
    size_t k = (size_t)t->c.cols, n = (size_t)t->c.rows;
    assay_rng r;
    assay_rng_init(&r, 5);
    float *x = normals(&r, MAX_ROWS * k, 1), *w = malloc(n * k * 4), *y = malloc(MAX_ROWS * n * 4),
          *first = malloc(MAX_ROWS * n * 4);
    double *q = malloc(k * sizeof *q);
    bool *apart = malloc(k * sizeof *apart);
    static const char *const isas[] = {NULL, "avx512", "avx2", "neon", "ref"};
    m.act_bits = 8, m.act_group = t->act_group, m.input_scale = t->input_scale,
    m.outlier_threshold = t->threshold;
    assay_matrix_decode_rows(w, &m, 0, m.rows);
    for (size_t i = 0; i < ASSAY_LEN(isas); i++)
        for (int threads = 1; threads <= 2; threads++) {
            assay_backend *b = NULL;
            if (assay_backend_open_cpu(&b, &(assay_cpu_opts){threads, isas[i]}, NULL) != ASSAY_OK) continue;
            assay_weight *weight = NULL;
            assert_int_equal(assay_weight_new(&weight, b, &m, ASSAY_ACT_AUTO, NULL), ASSAY_OK);
            assert_int_equal(assay_weight_mode(weight), t->mode);
            for (size_t u = 0; u < (i == 0 ? ASSAY_LEN(batches) : 2); u++)
                for (size_t row = 0; row < MAX_ROWS; row += batches[u]) {
                    size_t rows = ASSAY_MIN(batches[u], MAX_ROWS - row);
                    multiply(y + row * n, b, weight, x + row * k, rows, k, n);
                    if (i == 0 && threads == 1 && u == 0) memcpy(first + row * n, y + row * n, rows * n * 4);
                    if (memcmp(y + row * n, first + row * n, rows * n * 4) != 0)
                        fail_msg("%s: rows from %zu in batches of %zu on %d threads (%s) differ",
                                 assay_precision_name(m.precision), row, batches[u], threads,
                                 assay_backend_describe(b));
                }
            assay_weight_free(b, weight);
            assay_backend_close(b);
        }
    for (size_t i = 0; i < MAX_ROWS; i += 4) {
        quantized(q, apart, x + i * k, t);
        for (size_t o = 0; o<n; o += n> 200 ? 29 : 1) {
            double want = 0, size = 0;
            for (size_t c = 0; c < k; c++) {
                double v = w[o * k + c];
                if (apart[c]) v = assay_f16_to_f32(assay_f32_to_f16((float)v));
                want += q[c] * v, size += fabs(q[c] * v);
            }
            if (m.real_zeros) size *= 3; /* code and zero are summed apart */
            double bound = ((double)k / 16 + 20) * 0x1p-23 * size;
            if (!(fabs(first[i * n + o] - want) <= bound))
                fail_msg("%s: row %zu output %zu is %.9g, want %.9g +- %.2g",
                         assay_precision_name(m.precision), i, o, (double)first[i * n + o], want, bound);
        }
    }
    free(x), free(w), free(y), free(first), free(q), free(apart);
    assay_matrix_deinit(&m);
}
static void test_8_bit_products(void **state) {
    (void)state;
    for (size_t i = 0; i < ASSAY_LEN(modes); i++)
        check_mode(&modes[i]);
}

/* What compressed-tensors 0.20.0 (torch 2.15, fake_quantize on float32) makes of an input: E4M3 with dynamic
 * scales per token, E4M3 at scale 0.0125 (saturating), int8 at 0.05. */
static const float golden[4][16] = {
    {-0x1.39ef5ep-3f, 0x1.7084c8p-1f, -0x1.906482p+0f, 0, 0x1.5465d4p+0f, -0x1.dp+2f, 0x1.9edc6ap+1f,
     -0x1.98c1dcp+1f, -0x1.a75ed6p-4f, 0x1.a36e2ep-14f, 0x1.fcee7cp-2f, -0x1.c7cdfap-2f, 0x1.d388a6p+0f,
     0x1.a27d98p-2f, 0x1.25e152p+0f, 0x1.aa52cp-1f},
    {-0x1.2a4924p-3f, 0x1.6c9248p-1f, -0x1.8db6dcp+0f, 0, 0x1.4b6db6p+0f, -0x1.dp+2f, 0x1.aedb6ep+1f,
     -0x1.8db6dcp+1f, -0x1.aedb6ep-4f, 0x1.8db6dcp-14f, 0x1.f12492p-2f, -0x1.dp-2f, 0x1.dp+0f, 0x1.aedb6ep-2f,
     0x1.2a4924p+0f, 0x1.aedb6ep-1f},
    {-0x1.333334p-3f, 0x1.666666p-1f, -0x1.99999ap+0f, 0, 0x1.4ccccep+0f, -0x1.666666p+2f, 0x1.99999ap+1f,
     -0x1.99999ap+1f, -0x1.99999ap-4f, 0x1.99999ap-14f, 0x1p-1f, -0x1.cccccep-2f, 0x1.cccccep+0f,
     0x1.99999ap-2f, 0x1.19999ap+0f, 0x1.99999ap-1f},
    {-0x1.333334p-3f, 0x1.666666p-1f, -0x1.8ccccep+0f, 0, 0x1.59999ap+0f, -0x1.99999ap+2f, 0x1.ap+1f,
     -0x1.99999ap+1f, -0x1.99999ap-4f, 0, 0x1p-1f, -0x1.cccccep-2f, 0x1.d9999ap+0f, 0x1.99999ap-2f,
     0x1.266666p+0f, 0x1.b33334p-1f}};
static void test_inputs_as_compressed_tensors(void **state) {
    (void)state;
    static const struct {
        assay_precision precision;
        float scale;
    } ways[] = {{P(FP8_E4M3), 0}, {P(FP8_E4M3), 0.0125f}, {P(INT8), 0.05f}};
    assay_backend *b = open_cpu(1, NULL);
    for (size_t i = 0; i < ASSAY_LEN(ways); i++) { /* through the unit matrix */
        assay_matrix m = {.precision = ways[i].precision,
                          .rows = 16,
                          .cols = 16,
                          .act_bits = 8,
                          .input_scale = ways[i].scale};
        assert_int_equal(assay_matrix_alloc(&m, false, NULL), ASSAY_OK);
        for (int j = 0; j < 256; j++)
            m.codes[j] = m.precision == P(INT8) ? (j % 17 == 0 ? 129 : 128) : assay_f32_to_e4m3(j % 17 == 0);
        for (int64_t j = 0; j < m.n_scales; j++)
            m.scales[j] = 1;
        assay_weight *w = NULL;
        float y[16];
        assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_AUTO, NULL), ASSAY_OK);
        multiply(y, b, w, golden[0], 1, 16, 16);
        for (int j = 0; j < 16; j++)
            assert_true(y[j] == golden[i + 1][j]);
        assay_weight_free(b, w);
        assay_matrix_deinit(&m);
    }
    assay_backend_close(b);
}

/* A token that no scale can stand for gives nothing finite, and its neighbours nothing wrong. */
static void test_not_finite(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    for (size_t i = 0; i < ASSAY_LEN(modes); i++) {
        if (modes[i].threshold > 0) continue;
        assay_matrix m = make_matrix(&modes[i].c, 2);
        size_t k = (size_t)m.cols, n = (size_t)m.rows;
        m.act_bits = 8, m.act_group = modes[i].act_group, m.input_scale = modes[i].input_scale;
        float *x = calloc(3 * k, 4), *y = malloc(3 * n * 4);
        for (size_t c = 0; c < k; c++)
            x[c] = x[2 * k + c] = x[k + c] = 1;
        x[k + k / 2] = NAN;
        assay_weight *w = NULL;
        assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_AUTO, NULL), ASSAY_OK);
        multiply(y, b, w, x, 3, k, n);
        for (size_t o = 0; o < n; o++)
            assert_true(isfinite(y[o]) && !isfinite(y[n + o]) && y[o] == y[2 * n + o]);
        assay_weight_free(b, w);
        assay_matrix_deinit(&m);
        free(x), free(y);
    }
    assay_backend_close(b);
}

/* Inputs are prepared once for weights that want the same, and for each that wants another. */
static void test_multi(void **state) {
    (void)state;
    static const mode_case four[] = {
        {{P(INT4), 17, 256, 64, 0, false, true, 0}, ASSAY_ACT_BF16, 0, 0, 0},
        {{P(INT4), 30, 256, 64, 0, false, false, 0}, ASSAY_ACT_BF16, 0, 0, 0},
        {{P(FP8_E4M3), 40, 256, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 0, 0.02f, 0},
        {{P(FP8_E4M3), 9, 256, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 0, 0.03f, 0},
        {{P(FP8_E4M3), 9, 256, 128, 128, false, false, 0}, ASSAY_ACT_FP8, 128, 0, 0},
        {{P(FP8_E4M3), 10, 256, 0, 0, false, false, 0}, ASSAY_ACT_FP8, 128, 0, 0},
        {{P(INT8), 64, 256, 0, 0, false, false, 0}, ASSAY_ACT_INT8, 0, 0.02f, 0},
        {{P(INT8), 64, 256, 0, 0, false, false, 0}, ASSAY_ACT_INT8, 0, 0, 0},
    };
    enum { N = ASSAY_LEN(four), ROWS = 3, K = 256 };
    assay_backend *b = open_cpu(2, NULL);
    assay_weight *w[N];
    assay_buf *y[N];
    assay_rng r;
    assay_rng_init(&r, 8);
    float *x = normals(&r, ROWS * K, 1), together[ROWS * 64], alone[ROWS * 64];
    assay_buf *xb = buf_of(b, x, ROWS * K);
    for (size_t i = 0; i < N; i++) {
        assay_matrix m = make_matrix(&four[i].c, i);
        m.act_group = four[i].act_group, m.input_scale = four[i].input_scale;
        assert_int_equal(assay_weight_new(&w[i], b, &m, four[i].mode, NULL), ASSAY_OK);
        y[i] = buf_of(b, NULL, ROWS * (size_t)m.rows);
        assay_matrix_deinit(&m); /* everything was copied */
    }
    assay_op_linear_multi(b, y, w, NULL, N, xb, ROWS);
    for (size_t i = 0; i < N; i++) {
        size_t n = (size_t)four[i].c.rows;
        assay_buf_read(b, together, y[i], 0, ROWS * n * 4);
        multiply(alone, b, w[i], x, ROWS, K, n);
        assert_memory_equal(together, alone, ROWS * n * 4);
        assay_buf_free(b, y[i]);
        assay_weight_free(b, w[i]);
    }
    assay_buf_free(b, xb);
    free(x);
    assay_backend_close(b);
}

static void test_embed(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    static const int32_t ids[] = {3, 0, 4};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++)
        for (assay_act_mode mode = ASSAY_ACT_F32; mode <= ASSAY_ACT_FP8; mode++) {
            assay_precision_kind kind = assay_precision_get_kind(cases[i].precision);
            bool packed =
                cases[i].group % 32 == 0 || (cases[i].precision == P(NVFP4) && cases[i].group == 16);
            if (mode == ASSAY_ACT_INT8 && kind != ASSAY_KIND_INT) continue;
            if (mode == ASSAY_ACT_FP8 &&
                (assay_precision_bits(cases[i].precision) != 8 || kind != ASSAY_KIND_FLOAT))
                continue;
            if (!packed && mode != ASSAY_ACT_F32 && mode != ASSAY_ACT_INT8)
                continue; /* rounded to the mode, or refused */
            assay_matrix m = make_matrix(&cases[i], 2);
            check_embed(b, &m, mode, ids, ASSAY_LEN(ids));
            assay_matrix_deinit(&m);
        }
    assay_backend_close(b);
}

static void assert_refused(assay_backend *b, const assay_matrix *m, assay_act_mode mode, assay_status status,
                           const char *word) {
    assay_weight *w = NULL;
    assay_err err = {0};
    assert_int_equal(assay_weight_new(&w, b, m, mode, &err), status);
    assert_null(w);
    if (!strstr(err.message, word)) fail_msg("'%s' does not name '%s'", err.message, word);
}

static void test_defaults_and_refusals(void **state) {
    (void)state;
    assay_backend *b = open_cpu(1, NULL);
    assay_weight *w = NULL;
    assay_matrix m = make_matrix(&cases[0], 1);
    m.act_bits = 16, m.act_dtype = ASSAY_DTYPE_F16;
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_AUTO, NULL), ASSAY_OK);
    assert_int_equal(assay_weight_mode(w), ASSAY_ACT_F16);
    assay_weight_free(b, w);
    assert_refused(b, &m, ASSAY_ACT_INT8, ASSAY_EUNSUPPORTED, "fp8_e4m3");
    for (long n = 0; n < 6; n++) { /* a failed allocation leaves nothing behind */
        assay_mem_fail_after(n);
        assay_status s = assay_weight_new(&w, b, &m, ASSAY_ACT_FP8, NULL);
        assay_mem_fail_after(-1);
        assert_true(s == ASSAY_OK || (s == ASSAY_ENOMEM && !w));
        assay_weight_free(b, w);
    }
    m.act_group = 48;
    assert_refused(b, &m, ASSAY_ACT_FP8, ASSAY_EUNSUPPORTED, "48");
    m.act_group = 0;
    m.codes[300] = 0x7f;
    assert_refused(b, &m, ASSAY_ACT_FP8, ASSAY_EINPUT, "row 1 column 44");
    float y[70], x[256] = {0}; /* weight-only, the NaN is one output's */
    x[44] = 1;
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_BF16, NULL), ASSAY_OK);
    multiply(y, b, w, x, 1, 256, 70);
    assert_true(isnan(y[1]) && !isnan(y[0]));
    assay_weight_free(b, w);
    assay_matrix_deinit(&m);

    m = make_matrix(&cases[0], 1); /* scales that the kernels of one row do not take: decoded */
    for (int64_t i = 0; i < m.n_scales; i++)
        m.scales[i] = 300;
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_F32, NULL), ASSAY_OK);
    multiply(y, b, w, x, 1, 256, 70);
    assert_true(y[5] == 300 * assay_e4m3_to_f32(m.codes[5 * 256 + 44]));
    assay_weight_free(b, w);
    assay_matrix_deinit(&m);

    m = make_matrix(&cases[6], 1);
    assert_refused(b, &m, ASSAY_ACT_FP8, ASSAY_EUNSUPPORTED, "mxfp4");
    assay_matrix_deinit(&m);

    m = make_matrix(&cases[16], 1); /* groups of unequal size: decoded, and no INT8 */
    for (int i = 0; i < 200; i++)
        m.g_idx[i] = 1;
    float row[384], one[384] = {0}, out[64];
    one[7] = 1;
    assay_matrix_decode_rows(row, &m, 9, 1);
    assert_int_equal(assay_weight_new(&w, b, &m, ASSAY_ACT_F32, NULL), ASSAY_OK);
    multiply(out, b, w, one, 1, 384, 64);
    assert_true(out[9] == row[7]);
    assay_weight_free(b, w);
    assert_refused(b, &m, ASSAY_ACT_INT8, ASSAY_EUNSUPPORTED, "128");
    m.g_idx[0] = 3;
    assert_refused(b, &m, ASSAY_ACT_F32, ASSAY_EINPUT, "group 3 of 3");
    assay_matrix_deinit(&m);

    uint16_t h[4] = {0};
    m = (assay_matrix){.precision = P(BF16), .rows = 2, .cols = 2, .data = h};
    assert_refused(b, &m, ASSAY_ACT_FP8, ASSAY_EUNSUPPORTED, "bf16");
    assay_backend_close(b);
}

/* Rows times the block-diagonal matrix, whose columns the rotation of unit rows gives; lengths are kept. */
static void test_hadamard(void **state) {
    (void)state;
    static const struct {
        size_t n, block;
    } sizes[] = {{64, 64}, {96, 32}, {24, 12}, {1280, 1280}, {5, 1}, {40, 20}};
    for (size_t s = 0; s < ASSAY_LEN(sizes); s++) {
        size_t n = sizes[s].n, block = sizes[s].block, rows = 17;
        assay_rng r;
        assay_rng_init(&r, 4);
        float *x = normals(&r, rows * n, 1), *y = malloc(rows * n * 4), *h = calloc(block * block, 4),
              *scratch = malloc(block * 4);
        for (size_t i = 0; i < block; i++)
            h[i * block + i] = 1;
        assay_hadamard_rows(h, block, block, block, false, scratch);
        for (int threads = 1; threads <= 2; threads++) {
            assay_backend *b = open_cpu(threads, NULL);
            assay_buf *buf = buf_of(b, x, rows * n), *row = buf_of(b, x + 3 * n, n);
            float *one = malloc(n * 4);
            assay_op_hadamard(b, buf, rows, n, block);
            assay_op_hadamard(b, row, 1, n, block);
            assay_buf_read(b, y, buf, 0, rows * n * 4);
            assay_buf_read(b, one, row, 0, n * 4);
            assert_memory_equal(one, y + 3 * n, n * 4);
            assay_buf_free(b, buf), assay_buf_free(b, row);
            assay_backend_close(b);
            free(one);
        }
        for (size_t i = 0; i < rows; i++) {
            double before = 0, after = 0;
            for (size_t c = 0; c < n; c++) {
                double want = 0;
                const float *xb = x + i * n + c / block * block;
                for (size_t j = 0; j < block; j++)
                    want += (double)xb[j] * h[j * block + c % block];
                assert_true(fabs(y[i * n + c] - want) < 1e-5);
                before += (double)x[i * n + c] * x[i * n + c], after += (double)y[i * n + c] * y[i * n + c];
            }
            assert_true(fabs(before - after) < 1e-5 * before);
        }
        free(x), free(y), free(h), free(scratch);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_codes_equal_their_dense_matrix),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_8_bit_products),
        cmocka_unit_test(test_inputs_as_compressed_tensors),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_multi),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_defaults_and_refusals),
        cmocka_unit_test(test_hadamard),
    };
    return cmocka_run_group_tests_name("cpu backend's precisions and modes", tests, NULL, NULL);
}
