/* test_block.c: ggml's block types against ggml's own results (golden/blocks.json, made by
 * golden/make_blocks.py with the versions it names): what bytes mean, which bytes are chosen with
 * importance and without; conversions to and from integers; every refusal. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"
#include "precision/block.h"
#include "precision/golden.h"

enum { FIRST = ASSAY_PRECISION_Q4_0, LARGE_ROWS = 64, LARGE_COLS = 1024, NOISE_BLOCKS = 64 };

static int load_golden(void **state) {
    (void)state;
    return golden_load("tests/precision/golden/blocks.json");
}

/* --- inputs --- */

/* The generators of make_blocks.py. */
static void fill_importance(float *v, size_t n, uint32_t seed) {
    fill_lcg(v, n, seed, 1);
    for (size_t i = 0; i < n; i++) v[i] = v[i] * v[i] + 0.01f;
}

static void fill_noise(uint8_t *out, size_t n, uint32_t x) {
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        out[i] = (uint8_t)(x >> 24);
    }
}

static void *bytes_of(const char *hex, size_t *n) {
    *n = strlen(hex) / 2;
    uint8_t *out = assay_malloc(*n + 1);
    unhex(out, hex);
    return out;
}

static int64_t cols_of_rows(void) {
    return json_integer_value(json_object_get(golden, "cols"));
}

static const char *string_at(const json_t *array, size_t i) {
    return json_string_value(json_array_get(array, i));
}

/* --- expectations --- */

static void expect_hash(const char *what, const json_t *expected, const void *got, size_t n) {
    char digest[ASSAY_HASH_HEX];
    assert_non_null(json_string_value(expected));
    assay_hash_bytes(digest, got, n);
    if (strcmp(digest, json_string_value(expected)) != 0)
        fail_msg("%s: the hash of %zu bytes differs", what, n);
}

/* What a matrix of blocks decodes to, with one bit pattern for NaN. */
static float *decode(const assay_matrix *m) {
    size_t n = (size_t)(m->rows * m->cols);
    float *out = assay_malloc(n * sizeof *out);
    assay_matrix_decode_rows(out, m, 0, m->rows);
    for (size_t i = 0; i < n; i++)
        if (isnan(out[i])) memcpy(&out[i], &(uint32_t){0x7fc00000}, 4);
    return out;
}

static void expect_values(const char *what, const json_t *expected, const assay_matrix *m) {
    float *w = decode(m);
    expect_hash(what, expected, w, (size_t)(m->rows * m->cols) * sizeof *w);
    assay_free(w);
}

static assay_matrix encode(const float *w, int64_t rows, int64_t cols, assay_precision p,
                           const float *importance) {
    assay_matrix m;
    assay_err err = {0};
    if (assay_encode_block(&m, w, rows, cols, p, importance, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_matrix_check(&m, "m", &err), ASSAY_OK);
    return m;
}

typedef void (*type_fn)(assay_precision p, const assay_block_info *b, const json_t *expected);

static void each_type(type_fn fn) {
    assert_int_equal(json_array_size(json_object_get(golden, "types")), ASSAY_PRECISION_COUNT - FIRST);
    for (size_t i = 0; i < json_array_size(json_object_get(golden, "types")); i++) {
        const json_t *t = json_array_get(json_object_get(golden, "types"), i);
        assay_precision p;
        assert_true(assay_precision_parse(&p, json_string_value(json_object_get(t, "name"))));
        fn(p, assay_block_get(p), t);
    }
}

/* --- the table --- */

static void knows_its_types(void **state) {
    (void)state;
    for (int i = FIRST; i < ASSAY_PRECISION_COUNT; i++) {
        assay_precision p = (assay_precision)i, back;
        const assay_block_info *b = assay_block_get(p);
        assert_non_null(b);
        assert_string_equal(b->name, assay_precision_name(p));
        assert_int_equal(assay_precision_get_kind(p), ASSAY_KIND_BLOCK);
        assert_true(assay_block_of_ggml(&back, b->ggml_type));
        assert_int_equal(back, p);
        assert_true(b->elements <= ASSAY_BLOCK_MAX && b->elements / b->group <= ASSAY_BLOCK_MAX_GROUPS);
        assert_int_equal(assay_block_row_bytes(p, 3 * b->elements), 3 * b->bytes);
        assert_int_equal(assay_block_row_bytes(p, 3 * b->elements + 1), 0);
        assert_int_equal(assay_block_row_bytes(p, 0), 0);
    }
    assay_precision p;
    assert_null(assay_block_get(ASSAY_PRECISION_INT4));
    assert_int_equal(assay_block_row_bytes(ASSAY_PRECISION_F16, 32), 0);
    assert_false(assay_block_of_ggml(&p, 1));
}

static void tells_stored_sizes(void **state) {
    (void)state;
    struct {
        assay_precision p;
        double bits;
    } expected[] = {{ASSAY_PRECISION_Q4_0, 4.5},     {ASSAY_PRECISION_Q8_0, 8.5},
                    {ASSAY_PRECISION_Q4_K, 4.5},     {ASSAY_PRECISION_Q6_K, 6.5625},
                    {ASSAY_PRECISION_IQ1_S, 1.5625}, {ASSAY_PRECISION_TQ1_0, 1.6875}};
    for (size_t i = 0; i < ASSAY_LEN(expected); i++) {
        assay_matrix m = {.precision = expected[i].p, .rows = 3, .cols = 512};
        double codes, scales;
        assert_true(assay_matrix_bits(&m, &codes, &scales) == expected[i].bits * 3 * 512);
        assert_true(codes == assay_precision_bits(m.precision) * 3.0 * 512 &&
                    scales == expected[i].bits * 3 * 512 - codes);
    }
}

/* --- what bytes mean --- */

static void check_noise(assay_precision p, const assay_block_info *b, const json_t *expected) {
    size_t n = NOISE_BLOCKS * (size_t)b->bytes;
    uint8_t *bytes = assay_malloc(n);
    fill_noise(bytes, n, 7);
    assay_matrix m = {.precision = p, .rows = NOISE_BLOCKS, .cols = b->elements, .data = bytes};
    expect_values(b->name, json_object_get(expected, "noise_values"), &m);
    assay_free(bytes);
}

static void expands_any_bytes_as_ggml_does(void **state) {
    (void)state;
    each_type(check_noise);
}

/* Every possible byte in every place, at addresses of every alignment, into buffers of exactly the
 * promised size. */
static void check_bounds(assay_precision p, const assay_block_info *b, const json_t *expected) {
    (void)expected;
    int groups = b->elements / b->group;
    int8_t *q = assay_malloc((size_t)b->elements);
    float *scales = assay_malloc((size_t)groups * sizeof *scales),
          *mins = assay_malloc((size_t)groups * sizeof *mins);
    for (int v = 0; v < 256; v++) {
        uint8_t *block = assay_malloc((size_t)b->bytes + (size_t)(v & 7));
        memset(block, v, (size_t)b->bytes + (size_t)(v & 7));
        assay_block_expand(q, scales, b->has_mins ? mins : NULL, p, block + (v & 7));
        for (int i = 0; i < b->elements; i++) assert_true(p == ASSAY_PRECISION_Q8_0 || q[i] >= -127);
        assay_free(block);
    }
    assay_free(q);
    assay_free(scales);
    assay_free(mins);
}

static void expands_within_bounds(void **state) {
    (void)state;
    each_type(check_bounds);
}

/* --- which bytes are chosen --- */

static void expect_row(const char *type, const char *row, const char *hex, const assay_matrix *m) {
    size_t n, bytes = (size_t)assay_block_get(m->precision)->bytes;
    uint8_t *want = bytes_of(hex, &n);
    assert_int_equal(n, assay_block_row_bytes(m->precision, m->cols));
    for (size_t i = 0; i < n; i++)
        if (want[i] != ((const uint8_t *)m->data)[i])
            fail_msg("%s of %s: block %zu byte %zu is %02x, ggml's %02x", type, row, i / bytes, i % bytes,
                     ((const uint8_t *)m->data)[i], want[i]);
    assay_free(want);
}

static void check_rows(assay_precision p, const json_t *expected, const float *importance) {
    const json_t *rows = json_object_get(golden, "rows");
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *hex = string_at(json_object_get(expected, "rows"), r);
        size_t n;
        if (!hex) continue; /* IQ3_S, see below */
        float *w = bytes_of(json_string_value(json_object_get(row, "w")), &n);
        assay_matrix m = encode(w, 1, cols_of_rows(), p, importance);
        expect_row(assay_precision_name(p), name, hex, &m);
        expect_values(name, json_array_get(json_object_get(expected, "values"), r), &m);
        assay_matrix_deinit(&m);
        assay_free(w);
    }
}

static void check_large(assay_precision p, const json_t *expected, const float *importance) {
    float *w = assay_mallocn(LARGE_ROWS * LARGE_COLS, sizeof *w);
    fill_lcg(w, LARGE_ROWS * LARGE_COLS, 9, 0.2f);
    assay_matrix m = encode(w, LARGE_ROWS, LARGE_COLS, p, importance);
    expect_hash(assay_precision_name(p), json_object_get(expected, "large"), m.data,
                LARGE_ROWS * assay_block_row_bytes(p, LARGE_COLS));
    expect_values(assay_precision_name(p), json_object_get(expected, "large_values"), &m);
    assay_matrix_deinit(&m);
    assay_free(w);
}

static void check_plain(assay_precision p, const assay_block_info *b, const json_t *expected) {
    const json_t *plain = json_object_get(expected, "plain");
    assert_int_equal(json_is_null(plain), b->needs_importance);
    if (b->needs_importance) return;
    check_rows(p, plain, NULL);
    check_large(p, plain, NULL);
}

static void check_importance(assay_precision p, const assay_block_info *b, const json_t *expected) {
    (void)b;
    float *v = assay_mallocn(LARGE_COLS, sizeof *v);
    fill_importance(v, (size_t)cols_of_rows(),
                    (uint32_t)json_integer_value(json_object_get(golden, "importance_seed")));
    check_rows(p, json_object_get(expected, "importance"), v);
    fill_importance(v, LARGE_COLS, 6);
    check_large(p, json_object_get(expected, "importance"), v);
    assay_free(v);
}

static void encodes_as_ggml_does(void **state) {
    (void)state;
    each_type(check_plain);
}

static void encodes_with_importance_as_ggml_does(void **state) {
    (void)state;
    each_type(check_importance);
}

/* ggml writes the groups that follow a group of zeros 32 weights too early. Here they stay where they
 * belong: they decode to what they do beside a group of next to nothing, which ggml does not trip over. */
static void keeps_iq3_s_groups_behind_a_gap_in_place(void **state) {
    (void)state;
    float w[512], back[2][512];
    for (int k = 0; k < 2; k++) {
        fill_lcg(w, 512, 3, 1);
        for (int i = 0; i < 512; i++) w[i] = i / 32 % 2 ? w[i] : (float)k * 1e-30f;
        assay_matrix m = encode(w, 1, 512, ASSAY_PRECISION_IQ3_S, NULL);
        assay_matrix_decode_rows(back[k], &m, 0, 1);
        assay_matrix_deinit(&m);
    }
    for (int i = 0; i < 512; i++)
        if (i / 32 % 2)
            assert_true(back[0][i] == back[1][i] && (fabsf(w[i]) < 0.1f || back[0][i] * w[i] > 0));
}

/* --- threads: the grids' neighbours are made by whoever needs them first --- */

typedef struct race {
    float w[512], importance[512];
    assay_matrix m[8];
    assay_status status[8];
} race;

static void encode_one(void *ctx, size_t task, int thread) {
    (void)thread;
    race *r = ctx;
    r->status[task] =
        assay_encode_block(&r->m[task], r->w, 1, 512, ASSAY_PRECISION_IQ2_XS, r->importance, NULL);
}

static void makes_a_lattice_once_among_threads(void **state) {
    (void)state;
    race r = {0};
    fill_lcg(r.w, 512, 4, 1);
    fill_importance(r.importance, 512, 5);
    assay_parallel(4, 8, encode_one, &r);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(r.status[i], ASSAY_OK);
        assert_memory_equal(r.m[i].data, r.m[0].data, assay_block_row_bytes(ASSAY_PRECISION_IQ2_XS, 512));
    }
    for (int i = 0; i < 8; i++) assay_matrix_deinit(&r.m[i]);
}

/* --- refusals --- */

static void expect_refusal(assay_status want, const char *part, const float *w, int64_t cols,
                           assay_precision p, const float *importance) {
    assay_matrix m;
    assay_err err = {0};
    assert_int_equal(assay_encode_block(&m, w, 1, cols, p, importance, &err), want);
    if (!strstr(err.message, part)) fail_msg("'%s' does not say '%s'", err.message, part);
    assert_null(m.data);
}

static void refuses_what_cannot_be_encoded(void **state) {
    (void)state;
    float w[512], v[512];
    fill_lcg(w, 512, 1, 1);
    fill_importance(v, 512, 2);
    expect_refusal(ASSAY_EUSAGE, "rows of 48 are no whole q4_0 blocks of 32", w, 48, ASSAY_PRECISION_Q4_0,
                   NULL);
    expect_refusal(ASSAY_EUSAGE, "rows of 32 are no whole q4_k blocks of 256", w, 32, ASSAY_PRECISION_Q4_K,
                   NULL);
    expect_refusal(ASSAY_EUSAGE, "iq2_xxs needs an importance matrix", w, 256, ASSAY_PRECISION_IQ2_XXS, NULL);
    expect_refusal(ASSAY_EUSAGE, "iq1_m needs an importance matrix", w, 256, ASSAY_PRECISION_IQ1_M, NULL);
    expect_refusal(ASSAY_EUSAGE, "int4 is no block type", w, 256, ASSAY_PRECISION_INT4, NULL);
    v[7] = -1;
    expect_refusal(ASSAY_EINPUT, "importance -1 of column 7", w, 256, ASSAY_PRECISION_Q4_K, v);
    v[7] = NAN;
    expect_refusal(ASSAY_EINPUT, "of column 7", w, 256, ASSAY_PRECISION_Q4_K, v);
    w[300] = INFINITY;
    expect_refusal(ASSAY_EINPUT, "row 0 column 300 is infinite", w, 512, ASSAY_PRECISION_Q6_K, NULL);
    w[300] = -3e8f;
    expect_refusal(ASSAY_EINPUT, "row 0 column 300 is -3e+08, beyond", w, 512, ASSAY_PRECISION_Q6_K, NULL);
    w[300] = 2e7f; /* / 31 is beyond float16 */
    expect_refusal(ASSAY_EINPUT, "the scale of row 0 from column 288 is NaN or infinite", w, 512,
                   ASSAY_PRECISION_Q5_1, NULL);
}

/* Sums that overflow, with every encoder: no undefined behaviour, whatever comes of it. */
static void survives_what_overflows(void **state) {
    (void)state;
    float w[256], v[256];
    fill_lcg(w, 256, 1, 2e8f);
    for (int i = 0; i < 256; i++) v[i] = i % 3 ? 1e38f : 0;
    for (int i = FIRST; i < ASSAY_PRECISION_COUNT; i++) {
        assay_matrix m;
        assay_status s = assay_encode_block(&m, w, 1, 256, (assay_precision)i, v, NULL);
        assert_true(s == ASSAY_OK || s == ASSAY_EINPUT);
        assay_matrix_deinit(&m);
    }
    fill_lcg(w, 256, 1, 1);
    memset(v, 0, sizeof v); /* nothing is important: any codes will do, finite ones */
    for (int i = FIRST; i < ASSAY_PRECISION_COUNT; i++) {
        assay_matrix m = encode(w, 1, 256, (assay_precision)i, v);
        assay_matrix_deinit(&m);
    }
}

static void reports_exhausted_memory(void **state) {
    (void)state;
    float w[256] = {1}, v[256] = {1};
    for (int n = 0; n < 6; n++) {
        assay_matrix m;
        assay_err err = {0};
        assay_mem_fail_after(n);
        assay_status s = assay_encode_block(&m, w, 1, 256, ASSAY_PRECISION_IQ1_S, v, &err);
        assay_mem_fail_after(-1);
        assert_true(s == ASSAY_OK || s == ASSAY_ENOMEM);
        assert_int_equal(s == ASSAY_ENOMEM, n < 5); /* the lattice's four and the blocks */
        assay_matrix_deinit(&m);
    }
}

static void expect_unchecked(const assay_matrix *m, const char *part) {
    assay_err err = {0};
    assert_int_equal(assay_matrix_check(m, "blk.0.ffn_up", &err), ASSAY_EINPUT);
    if (!strstr(err.message, part)) fail_msg("'%s' does not say '%s'", err.message, part);
}

static void checks_matrices(void **state) {
    (void)state;
    float w[1024];
    fill_lcg(w, 1024, 1, 1);
    assay_matrix m = {.precision = ASSAY_PRECISION_Q6_K, .rows = 2, .cols = 512};
    expect_unchecked(&m, "a q6_k matrix without blocks");
    m.cols = 500;
    expect_unchecked(&m, "rows of 500 are no whole q6_k blocks of 256");
    m.rows = 0;
    expect_unchecked(&m, "impossible");
    for (int i = FIRST; i < ASSAY_PRECISION_COUNT; i++) {
        assay_precision p = (assay_precision)i;
        float v[512];
        fill_importance(v, 512, 2);
        m = encode(w, 2, 512, p, v);
        const assay_block_info *b = assay_block_get(p);
        /* All bits of the last block: whatever its scale is made of is NaN. */
        memset((uint8_t *)(uintptr_t)m.data + 2 * assay_block_row_bytes(p, 512) - (size_t)b->bytes, 0xff,
               (size_t)b->bytes);
        char part[80];
        snprintf(part, sizeof part, "the scale of row 1 from column %d is NaN", 512 - b->elements);
        expect_unchecked(&m, part);
        assay_matrix_deinit(&m);
    }
}

/* --- to integers and back --- */

static void expect_equal_values(const assay_matrix *a, const assay_matrix *b) {
    float *x = decode(a), *y = decode(b);
    for (int64_t i = 0; i < a->rows * a->cols; i++)
        if (!(x[i] == y[i])) fail_msg("weight %lld: %.9g and %.9g", (long long)i, (double)x[i], (double)y[i]);
    assay_free(x);
    assay_free(y);
}

static void goes_to_integers_and_back(void **state) {
    (void)state;
    static const assay_precision TYPES[][2] = {{ASSAY_PRECISION_Q4_0, ASSAY_PRECISION_INT4},
                                               {ASSAY_PRECISION_Q5_0, ASSAY_PRECISION_INT5},
                                               {ASSAY_PRECISION_Q8_0, ASSAY_PRECISION_INT8}};
    float w[4 * 96];
    char why[160] = "";
    fill_lcg(w, 4 * 96, 12, 1);
    for (size_t t = 0; t < ASSAY_LEN(TYPES); t++) {
        assay_matrix m = encode(w, 4, 96, TYPES[t][0], NULL), i, back;
        if (!assay_block_to_int(&i, &m, why)) fail_msg("%s", why);
        assert_int_equal(i.precision, TYPES[t][1]);
        assert_int_equal(i.group_size, 32);
        assert_int_equal(i.scale_dtype, ASSAY_DTYPE_F16);
        assert_null(i.zeros);
        assert_int_equal(assay_matrix_check(&i, "i", NULL), ASSAY_OK);
        expect_equal_values(&m, &i);
        if (!assay_block_from_int(&back, &i, TYPES[t][0], why)) fail_msg("%s", why);
        assert_memory_equal(back.data, m.data, 4 * assay_block_row_bytes(m.precision, 96));
        assay_matrix_deinit(&m);
        assay_matrix_deinit(&i);
        assay_matrix_deinit(&back);
    }
}

static assay_matrix encode_int(const float *w, int64_t rows, int64_t cols, int bits, int64_t group,
                               bool asymmetric) {
    assay_int_opts o = {
        .bits = bits, .group_size = group, .asymmetric = asymmetric, .scale_dtype = ASSAY_DTYPE_F16};
    assay_matrix m;
    assay_err err = {0};
    if (assay_encode_int(&m, w, rows, cols, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return m;
}

/* The other way round: an integer matrix of groups of 32 comes back with its own codes, scales and zero
 * points. */
static void takes_integers_and_gives_them_back(void **state) {
    (void)state;
    static const struct {
        assay_precision p;
        int bits;
        bool asymmetric;
    } CASES[] = {{ASSAY_PRECISION_Q4_0, 4, false},
                 {ASSAY_PRECISION_Q5_0, 5, false},
                 {ASSAY_PRECISION_Q8_0, 8, false},
                 {ASSAY_PRECISION_Q4_1, 4, true},
                 {ASSAY_PRECISION_Q5_1, 5, true}};
    float w[4 * 96];
    char why[160] = "";
    fill_lcg(w, 4 * 96, 12, 1);
    for (size_t t = 0; t < ASSAY_LEN(CASES); t++) {
        assay_matrix i = encode_int(w, 4, 96, CASES[t].bits, 32, CASES[t].asymmetric), m, back;
        /* scales of few bits, so that their multiples are float16 as well */
        for (int64_t k = 0; k < i.n_scales; k++) i.scales[k] = (float)(k + 1) * 0x1p-7f;
        if (!assay_block_from_int(&m, &i, CASES[t].p, why)) fail_msg("%s", why);
        assert_int_equal(assay_matrix_check(&m, "m", NULL), ASSAY_OK);
        expect_equal_values(&m, &i);
        if (!assay_block_to_int(&back, &m, why)) fail_msg("%s", why);
        assert_int_equal(back.precision, i.precision);
        assert_memory_equal(back.codes, i.codes, 4 * 96);
        assert_memory_equal(back.scales, i.scales, (size_t)i.n_scales * sizeof *i.scales);
        assert_int_equal(back.zeros != NULL, CASES[t].asymmetric);
        if (i.zeros) assert_memory_equal(back.zeros, i.zeros, (size_t)i.n_scales);
        assay_matrix_deinit(&m);
        assay_matrix_deinit(&i);
        assay_matrix_deinit(&back);
    }
}

/* Wider blocks hold narrower codes, and blocks repeat the scale of a group that spans several. */
static void takes_what_fits_otherwise(void **state) {
    (void)state;
    static const struct {
        assay_precision p;
        int bits;
        int64_t group;
        bool asymmetric;
    } CASES[] = {{ASSAY_PRECISION_Q4_0, 3, 32, false},
                 {ASSAY_PRECISION_Q8_0, 4, 32, true},
                 {ASSAY_PRECISION_Q4_0, 4, 128, false},
                 {ASSAY_PRECISION_Q8_0, 8, 0, false}};
    float w[4 * 256];
    char why[160] = "";
    fill_lcg(w, 4 * 256, 12, 1);
    for (size_t t = 0; t < ASSAY_LEN(CASES); t++) {
        assay_matrix i = encode_int(w, 4, 256, CASES[t].bits, CASES[t].group, CASES[t].asymmetric), m;
        if (!assay_block_from_int(&m, &i, CASES[t].p, why)) fail_msg("%s", why);
        expect_equal_values(&m, &i);
        assay_matrix_deinit(&m);
        assay_matrix_deinit(&i);
    }
}

static void expect_no_block(const assay_matrix *i, assay_precision p, const char *part) {
    assay_matrix m;
    char why[160] = "";
    assert_false(assay_block_from_int(&m, i, p, why));
    if (!strstr(why, part)) fail_msg("'%s' does not say '%s'", why, part);
    assert_null(m.data);
}

static void says_why_integers_do_not_fit(void **state) {
    (void)state;
    float w[4 * 96];
    fill_lcg(w, 4 * 96, 12, 1);
    assay_matrix i = encode_int(w, 4, 96, 4, 16, false);
    expect_no_block(&i, ASSAY_PRECISION_Q4_0, "has a group size of 16, q4_0 has 32");
    expect_no_block(&i, ASSAY_PRECISION_Q4_K, "cannot be q4_k");
    assay_matrix_deinit(&i);

    i = encode_int(w, 4, 96, 4, 32, false);
    i.scales[4] = 0.1f;
    expect_no_block(&i, ASSAY_PRECISION_Q4_0,
                    "has a scale of 0.100000001 in row 1 column 32, q4_0 has float16");
    i.g_idx = assay_calloc(96, sizeof *i.g_idx);
    expect_no_block(&i, ASSAY_PRECISION_Q4_0, "order of activations");
    assay_matrix_deinit(&i);

    i = encode_int(w, 4, 96, 4, 32, true);
    i.zeros[2] = 3;
    i.codes[70] = 12;
    expect_no_block(&i, ASSAY_PRECISION_Q4_0, "beyond q4_0");
    i.scales[0] = 0x1.004p-3f; /* eleven bits */
    i.zeros[0] = 7;
    expect_no_block(&i, ASSAY_PRECISION_Q4_1, "has zero point 7 times scale");
    assay_matrix_deinit(&i);

    i = encode_int(w, 4, 96, 8, 32, false);
    memset(i.codes, 128, 4 * 96);
    i.codes[5] = 255;
    expect_no_block(&i, ASSAY_PRECISION_Q4_0,
                    "has code 255 with zero point 128 in row 0 column 5, beyond q4_0");
    i.cols = 72;
    expect_no_block(&i, ASSAY_PRECISION_Q8_0, "has rows of 72, no multiple of q8_0's 32");
    assay_matrix_deinit(&i);

    i = (assay_matrix){.precision = ASSAY_PRECISION_NF4, .rows = 1, .cols = 32};
    expect_no_block(&i, ASSAY_PRECISION_Q4_0, "is nf4, q4_0 holds integers");
}

static void says_why_blocks_are_no_integers(void **state) {
    (void)state;
    float w[256];
    assay_matrix i, m;
    char why[160];
    fill_lcg(w, 256, 12, 1);
    m = encode(w, 1, 256, ASSAY_PRECISION_Q4_K, NULL);
    assert_false(assay_block_to_int(&i, &m, why));
    assert_non_null(strstr(why, "is q4_k, whose blocks are more than integers"));
    assay_matrix_deinit(&m);

    m = encode(w, 1, 256, ASSAY_PRECISION_Q4_1, NULL);
    assert_false(assay_block_to_int(&i, &m, why));
    assert_non_null(strstr(why, "in row 0 column 0, no multiple of its scale"));
    assert_null(i.codes);
    assay_matrix_deinit(&m);

    m = encode(w, 1, 256, ASSAY_PRECISION_Q8_0, NULL);
    ((uint8_t *)(uintptr_t)m.data)[1] = 0x7c;
    assert_false(assay_block_to_int(&i, &m, why));
    assert_non_null(strstr(why, "NaN or infinite in row 0"));
    assay_mem_fail_after(0);
    assert_false(assay_block_to_int(&i, &m, why));
    assay_mem_fail_after(-1);
    assert_non_null(strstr(why, "out of memory"));
    assay_matrix_deinit(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_exhausted_memory), /* before anything has made a lattice */
        cmocka_unit_test(makes_a_lattice_once_among_threads),
        cmocka_unit_test(knows_its_types),
        cmocka_unit_test(tells_stored_sizes),
        cmocka_unit_test(expands_any_bytes_as_ggml_does),
        cmocka_unit_test(expands_within_bounds),
        cmocka_unit_test(encodes_as_ggml_does),
        cmocka_unit_test(encodes_with_importance_as_ggml_does),
        cmocka_unit_test(keeps_iq3_s_groups_behind_a_gap_in_place),
        cmocka_unit_test(refuses_what_cannot_be_encoded),
        cmocka_unit_test(survives_what_overflows),
        cmocka_unit_test(checks_matrices),
        cmocka_unit_test(goes_to_integers_and_back),
        cmocka_unit_test(takes_integers_and_gives_them_back),
        cmocka_unit_test(takes_what_fits_otherwise),
        cmocka_unit_test(says_why_integers_do_not_fit),
        cmocka_unit_test(says_why_blocks_are_no_integers),
    };
    return cmocka_run_group_tests(tests, load_golden, free_golden);
}
