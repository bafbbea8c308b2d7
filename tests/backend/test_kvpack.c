/* The quantized KV cache below the model: what packing a page does to its numbers, that attention over packed
 * pages is attention over their decoded values, and that neither chunking nor threads nor neighbours show in
 * a row's result. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/help.h"
#include "backend/internal.h"
#include "base/mem.h"
#include "base/rng.h"
#include "num/convert.h"

enum { PAGE = ASSAY_KV_PAGE };
static const assay_kv_pack packs[] = {ASSAY_KV_PACK_INT8, ASSAY_KV_PACK_FP8, ASSAY_KV_PACK_INT4};
static const char *const names[] = {"none", "int8", "fp8", "int4"};

/* A head's page in float32, its packed tiles, and what they decode to. keys [dim][PAGE], values [PAGE][pad].
 */
typedef struct page {
    size_t dim, pad;
    float *k, *v, *k2, *v2;
    uint8_t *pk, *pv;
} page;

static page page_new(size_t dim) {
    page p = {.dim = dim, .pad = backend_up(dim, 16)};
    p.k = assay_calloc(dim * PAGE, 4), p.k2 = assay_calloc(dim * PAGE, 4);
    p.v = assay_calloc(p.pad * PAGE, 4), p.v2 = assay_calloc(p.pad * PAGE, 4);
    return p;
}
static void page_free(page *p) {
    assay_free(p->k), assay_free(p->k2), assay_free(p->v), assay_free(p->v2), assay_free(p->pk),
        assay_free(p->pv);
}
static void page_pack(page *p, assay_kv_pack pack) {
    assay_backend *b = open_cpu(1, "ref");
    assay_free(p->pk), assay_free(p->pv);
    p->pk = assay_malloc(
        backend_packed_head(pack, p->dim, false)); /* exact: the sanitizer sees a byte too many */
    p->pv = assay_malloc(backend_packed_head(pack, p->dim, true));
    backend_pack_head(p->pk, p->pv, (uint8_t *)p->k, (uint8_t *)p->v, ASSAY_KV_F32, pack, p->dim);
    b->k.unpack_kv[backend_pack_form(pack)](p->k2, PAGE, p->pk, p->dim, PAGE);
    b->k.unpack_kv[backend_pack_form(pack)](p->v2, p->pad, p->pv, PAGE, p->dim);
    assay_backend_close(b);
}
static void fill(page *p, assay_rng *r, double offset, double size) {
    for (size_t d = 0; d < p->dim; d++)
        for (size_t t = 0; t < PAGE; t++) {
            p->k[d * PAGE + t] = (float)(offset * (double)(d % 5) + size * assay_rng_normal(r));
            p->v[t * p->pad + d] = (float)(offset + size * assay_rng_normal(r));
        }
}

/* --- what packing does to numbers --- */

/* Half a step, the step being the range over the levels, widened by what rounding offset and scale to float16
 * may cost. */
static void check_int_group(const float *x, const float *y, size_t n, int levels) {
    double lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++)
        lo = fmin(lo, x[i]), hi = fmax(hi, x[i]);
    double step = (hi - lo + fabs(lo) * 0x1p-10 + 0x1p-24) / levels * (1 + 0x1p-10) + 0x1p-24;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - y[i]) <= 0.5001 * step + 1e-7 * fabs(x[i])))
            fail_msg("%g became %g, step %g", (double)x[i], (double)y[i], step);
}

static void errors_stay_within_half_a_step(void **state) {
    (void)state;
    static const size_t dims[] = {8, 32, 64, 80, 128};
    static const double sizes[] = {1e-3, 1, 300}, offsets[] = {0, 7, -100};
    assay_rng r;
    assay_rng_init(&r, 3);
    for (size_t i = 0; i < ASSAY_LEN(dims); i++)
        for (size_t s = 0; s < ASSAY_LEN(sizes) * ASSAY_LEN(offsets); s++) {
            page p = page_new(dims[i]);
            fill(&p, &r, offsets[s / 3], sizes[s % 3]);
            for (int bits = 4; bits <= 8; bits += 4) {
                page_pack(&p, bits == 4 ? ASSAY_KV_PACK_INT4 : ASSAY_KV_PACK_INT8);
                for (size_t d = 0; d < p.dim; d++)
                    check_int_group(p.k + d * PAGE, p.k2 + d * PAGE, PAGE, (1 << bits) - 1);
                for (size_t t = 0; t < PAGE; t++)
                    for (size_t c = 0; c < p.dim; c += 64)
                        check_int_group(p.v + t * p.pad + c, p.v2 + t * p.pad + c,
                                        ASSAY_MIN(p.dim - c, (size_t)64), (1 << bits) - 1);
            }
            page_free(&p);
        }
}

/* e4m3 has a relative error of 2^-4 at most for normal numbers; below 2^-6 of the scale steps of 2^-9. */
static void fp8_errors_are_relative(void **state) {
    (void)state;
    assay_rng r;
    assay_rng_init(&r, 4);
    page p = page_new(64);
    fill(&p, &r, 0.5, 2);
    p.k[77] = 1e4f; /* one large number costs the small ones range, not relative precision */
    page_pack(&p, ASSAY_KV_PACK_FP8);
    double top = 1e4, scale = top / 448;
    for (size_t i = 0; i < p.dim * PAGE; i++) {
        double e = fabs((double)p.k[i] - p.k2[i]);
        assert_true(e <= fmax(fabs(p.k[i]) * 0x1p-4, scale * 0x1p-10) * 1.0001);
    }
    assert_float_equal(p.k2[77], 1e4f, 1e-2); /* the largest is the largest code */
    page_free(&p);
}

static void constants_and_zeros_are_exact(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(packs); k++) {
        page p = page_new(40);
        page_pack(&p, packs[k]);
        for (size_t i = 0; i < p.dim * PAGE; i++)
            assert_true(p.k2[i] == 0);
        for (size_t d = 0; d < p.dim; d++)
            for (size_t t = 0; t < PAGE; t++)
                p.k[d * PAGE + t] = -1.5f, p.v[t * p.pad + d] = 0.4375f;
        page_pack(&p, packs[k]);
        for (size_t d = 0; d < p.dim; d++)
            for (size_t t = 0; t < PAGE; t++) {
                assert_float_equal(p.k2[d * PAGE + t], -1.5f, packs[k] == ASSAY_KV_PACK_FP8 ? 1e-6 : 0);
                assert_float_equal(p.v2[t * p.pad + d], 0.4375f, packs[k] == ASSAY_KV_PACK_FP8 ? 1e-6 : 0);
            }
        page_free(&p);
    }
}

/* By hand: 0..15 fill the codes of int4; 0..255 those of int8. */
static void codes_by_hand(void **state) {
    (void)state;
    page p = page_new(1);
    for (int t = 0; t < PAGE; t++)
        p.k[t] = (float)(t % 16) * 0.5f - 3;
    page_pack(&p, ASSAY_KV_PACK_INT4);
    for (int t = 0; t < PAGE; t++) {
        assert_true(p.k2[t] == p.k[t]);
        int block = t / 32, high = t % 32 >= 16;
        assert_int_equal(high ? p.pk[block * 16 + t % 16] >> 4 : p.pk[block * 16 + t % 16] & 15, t % 16);
    }
    uint16_t scale, offset;
    memcpy(&scale, p.pk + 32, 2);
    memcpy(&offset, p.pk + 32 + 32, 2);
    assert_true(assay_f16_to_f32(scale) == 0.5f && assay_f16_to_f32(offset) == -3);
    assert_int_equal(backend_packed_head(ASSAY_KV_PACK_INT4, 1, false), 32 + 64);
    page_free(&p);
}

/* What is not finite, or too large for float16, makes its own group NaN and no other. */
static void trouble_is_seen(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e6f, -1e6f};
    assay_rng r;
    assay_rng_init(&r, 5);
    for (size_t i = 0; i < ASSAY_LEN(bad); i++)
        for (size_t k = 0; k < ASSAY_LEN(packs); k++) {
            page p = page_new(32);
            bool fp8 = packs[k] == ASSAY_KV_PACK_FP8;
            fill(&p, &r, 0, 1);
            p.k[3 * PAGE + 9] = bad[i];
            page_pack(&p, packs[k]);
            if (packs[k] == ASSAY_KV_PACK_INT8 &&
                bad[i] == 1e6f) { /* a large range fits 255 steps of float16 */
                assert_true(fabsf(p.k2[3 * PAGE + 9] - 1e6f) < 2e3f);
            } else if (!fp8 && bad[i] == 1e6f) {
                assert_true(isnan(p.k2[3 * PAGE]) || fabsf(p.k2[3 * PAGE + 9] - 1e6f) < 4e4f);
            } else if (!(fp8 && isfinite(bad[i]))) {
                assert_true(isnan(p.k2[3 * PAGE]) && isnan(p.k2[3 * PAGE + 9]));
            }
            if (!fp8) assert_true(isfinite(p.k2[4 * PAGE]) && isfinite(p.v2[0]));
            page_free(&p);
        }
}

static double rms_error(const float *x, const float *y, size_t rows, size_t ld, size_t cols,
                        size_t leave_out) {
    double sum = 0, n = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            if (c == leave_out) continue;
            sum += pow((double)x[r * ld + c] - y[r * ld + c], 2);
            n++;
        }
    return sqrt(sum / n);
}

/* Why keys go per channel: with one channel forty times the others, groups per token lose the others to it.
 * The values' tile holds groups per token, so the same numbers stored as values show what that would cost. */
static void an_outlier_channel_costs_keys_nothing(void **state) {
    (void)state;
    assay_rng r;
    assay_rng_init(&r, 6);
    page p = page_new(64), turned = page_new(64);
    fill(&p, &r, 0, 1);
    for (size_t t = 0; t < PAGE; t++) {
        p.k[5 * PAGE + t] = (float)(40 + assay_rng_normal(&r));
        for (size_t d = 0; d < 64; d++)
            p.v[t * 64 + d] = p.k[d * PAGE + t];
    }
    page_pack(&p, ASSAY_KV_PACK_INT4);
    for (size_t t = 0; t < PAGE; t++) /* the decoded keys per token, to compare alike */
        for (size_t d = 0; d < 64; d++)
            turned.v[t * 64 + d] = p.k2[d * PAGE + t];
    double per_channel = rms_error(p.v, turned.v, PAGE, 64, 64, 5),
           per_token = rms_error(p.v, p.v2, PAGE, 64, 64, 5);
    assert_true(per_channel < 0.15);
    assert_true(per_token > 5 * per_channel);
    page_free(&p), page_free(&turned);
}

/* --- attention --- */

typedef struct shape {
    int n_heads, n_kv_heads, head_dim, window;
    assay_kv_type type;
    assay_kv_pack pack;
} shape;
enum { POSITIONS = 3 * PAGE + 21, TABLE = 4, POOL = 2 * TABLE + 1 };
/* (packed, raw) by page of two sequences, as a cache would hand them out */
static const int32_t table[2][2 * TABLE] = {{4, 0, 0, 3, 2, 8, 7, 1}, {1, 2, 5, 4, 3, 6, 8, 7}};

typedef struct cache {
    assay_backend *b;
    assay_kv_layer layer;
    size_t page, packed_k, packed_v;
} cache;

/* shared: values are the keys. */
static cache cache_open(const shape *s, int threads, const char *isa, bool shared) {
    cache c = {.b = open_cpu(threads, isa), .page = assay_kv_page_bytes(s->type, s->n_kv_heads, s->head_dim)};
    assay_kv_packed_bytes(&c.packed_k, &c.packed_v, s->pack, s->n_kv_heads, s->head_dim);
    c.layer = (assay_kv_layer){.k = junk_of(c.b, POOL * c.page),
                               .v = shared ? NULL : junk_of(c.b, POOL * c.page),
                               .type = s->type,
                               .pack = s->pack,
                               .packed_k = junk_of(c.b, POOL * c.packed_k),
                               .packed_v = shared ? NULL : junk_of(c.b, POOL * c.packed_v)};
    return c;
}
static void cache_close(cache *c) {
    assay_buf_free(c->b, c->layer.k), assay_buf_free(c->b, c->layer.v);
    assay_buf_free(c->b, c->layer.packed_k), assay_buf_free(c->b, c->layer.packed_v);
    assay_backend_close(c->b);
}

static void run(float *y, cache *c, const float *q, const float *k, const float *v, const shape *s,
                size_t chunk) {
    const attention a = {.n_heads = s->n_heads,
                         .n_kv_heads = s->n_kv_heads,
                         .head_dim = s->head_dim,
                         .window = s->window,
                         .n = POSITIONS,
                         .pages = {table[0], table[1]}};
    run_attention(y, c->b, &c->layer, q, k, v, &a, chunk);
}

/* k and v [POSITIONS][kn] of a sequence as its packed pages decode, with the last page as it is. */
static void decode(float *k, float *v, const cache *c, int seq, const shape *s) {
    size_t dim = (size_t)s->head_dim, pad = backend_up(dim, 16), heads = (size_t)s->n_kv_heads,
           kn = heads * dim;
    assay_kern_pack f = backend_pack_form(s->pack);
    float *tk = malloc(dim * PAGE * 4), *tv = malloc(pad * PAGE * 4);
    for (size_t p = 0; p < POSITIONS / PAGE; p++)
        for (size_t h = 0; h < heads; h++) {
            size_t at = (size_t)table[seq][2 * p] * heads + h;
            c->b->k.unpack_kv[f](
                tk, PAGE, c->layer.packed_k->p + at * backend_packed_head(s->pack, dim, false), dim, PAGE);
            if (c->layer.packed_v)
                c->b->k.unpack_kv[f](tv, pad, c->layer.packed_v->p + at * backend_packed_head(s->pack, dim, true),
                                     PAGE, dim);
            for (size_t t = 0; t < PAGE; t++)
                for (size_t d = 0; d < dim; d++) {
                    k[(p * PAGE + t) * kn + h * dim + d] = tk[d * PAGE + t];
                    v[(p * PAGE + t) * kn + h * dim + d] = c->layer.packed_v ? tv[t * pad + d] : tk[d * PAGE + t];
                }
        }
    free(tk), free(tv);
}

/* Row p of an unquantized float32 cache that holds decoded values before p's page and rounded ones in it. */
static void check_row(const float *want_y, const float *q, const float *k, const float *v, const float *k2,
                      const float *v2, size_t p, const shape *s) {
    static const int32_t plain[TABLE] = {0, 1, 2, 3};
    assay_backend *b = open_cpu(1, NULL);
    size_t qn = (size_t)(s->n_heads * s->head_dim), kn = (size_t)(s->n_kv_heads * s->head_dim),
           bytes = assay_kv_page_bytes(ASSAY_KV_F32, s->n_kv_heads, s->head_dim), own = p / PAGE * PAGE;
    assay_kv_layer l = {.k = junk_of(b, TABLE * bytes), .v = junk_of(b, TABLE * bytes), .type = ASSAY_KV_F32};
    float *rk = malloc((p + 1) * kn * 4), *rv = malloc((p + 1) * kn * 4), *y = malloc(qn * 4);
    const int32_t *pages[POSITIONS];
    int32_t pos[POSITIONS];
    for (size_t i = 0; i <= p; i++) {
        pages[i] = plain;
        pos[i] = (int32_t)i;
        for (size_t d = 0; d < kn; d++) {
            rk[i * kn + d] = i < own ? k2[i * kn + d] : stored(k[i * kn + d], s->type);
            rv[i * kn + d] = i < own ? v2[i * kn + d] : stored(v[i * kn + d], s->type);
        }
    }
    assay_buf *kb = buf_of(b, rk, (p + 1) * kn), *vb = buf_of(b, rv, (p + 1) * kn), *qb = buf_of(b, q, qn),
              *yb = buf_of(b, NULL, qn);
    assay_op_kv_store(b, &l, kb, vb, pages, pos, p + 1, s->n_kv_heads, s->head_dim);
    assay_op_attention(b, yb, qb, &l, pages + p, pos + p, 1, s->n_heads, s->n_kv_heads, s->head_dim, 0.2f,
                       s->window, 0);
    assay_buf_read(b, y, yb, 0, qn * 4);
    for (size_t i = 0; i < qn; i++)
        if (memcmp(&y[i], &want_y[i], 4) != 0)
            fail_msg("%s position %zu element %zu: %a, over decoded values %a", names[s->pack], p, i,
                     (double)want_y[i], (double)y[i]);
    assay_buf_free(b, kb), assay_buf_free(b, vb), assay_buf_free(b, qb), assay_buf_free(b, yb);
    assay_buf_free(b, l.k), assay_buf_free(b, l.v);
    free(rk), free(rv), free(y);
    assay_backend_close(b);
}

static const shape shapes[] = {
    {8, 2, 64, 0, ASSAY_KV_BF16, ASSAY_KV_PACK_INT4},  {4, 4, 32, 0, ASSAY_KV_F32, ASSAY_KV_PACK_INT8},
    {6, 2, 80, 0, ASSAY_KV_F16, ASSAY_KV_PACK_INT4},   {2, 1, 8, 100, ASSAY_KV_BF16, ASSAY_KV_PACK_INT8},
    {3, 3, 128, 70, ASSAY_KV_BF16, ASSAY_KV_PACK_FP8}, {12, 1, 16, 0, ASSAY_KV_F32, ASSAY_KV_PACK_FP8},
};

static void attention_over_packed_pages(void **state) {
    (void)state;
    static const size_t rows[] = {0, 63, 64, 65, 100, 127, 128, 191, 192, POSITIONS - 1};
    for (size_t i = 0; i < 2 * ASSAY_LEN(shapes); i++) {
        const shape *s = &shapes[i / 2];
        bool shared = i % 2;
        size_t qn = (size_t)(s->n_heads * s->head_dim), kn = (size_t)(s->n_kv_heads * s->head_dim),
               n = 2 * POSITIONS;
        float *q = malloc(n * qn * 4), *k = malloc(n * kn * 4), *v = malloc(n * kn * 4),
              *y = malloc(n * qn * 4), *other = malloc(n * qn * 4), *k2 = malloc(POSITIONS * kn * 4),
              *v2 = malloc(POSITIONS * kn * 4);
        assay_rng r;
        assay_rng_init(&r, 7 + i);
        for (size_t e = 0; e < n * qn; e++)
            q[e] = (float)assay_rng_normal(&r);
        for (size_t e = 0; e < n * kn; e++)
            k[e] = (float)assay_rng_normal(&r), v[e] = shared ? k[e] : (float)assay_rng_normal(&r);
        cache c = cache_open(s, 1, NULL, shared);
        run(y, &c, q, k, v, s, POSITIONS);
        for (int seq = 0; seq < 2; seq++) {
            size_t base = (size_t)seq * POSITIONS;
            decode(k2, v2, &c, seq, s);
            for (size_t t = 0; t < ASSAY_LEN(rows); t++)
                check_row(y + (base + rows[t]) * qn, q + (base + rows[t]) * qn, k + base * kn, v + base * kn,
                          k2, v2, rows[t], s);
        }
        cache_close(&c);
        /* and the same bits however it was cut, on any number of threads and any instruction set */
        static const struct {
            size_t chunk;
            int threads;
            const char *isa;
        } ways[] = {{POSITIONS, 2, NULL}, {1, 1, NULL},  {7, 2, NULL},
                    {64, 1, NULL},        {65, 2, NULL}, {POSITIONS, 1, "ref"}};
        for (size_t w = 0; w < ASSAY_LEN(ways); w++) {
            c = cache_open(s, ways[w].threads, ways[w].isa, shared);
            run(other, &c, q, k, v, s, ways[w].chunk);
            assert_memory_equal(other, y, n * qn * 4);
            cache_close(&c);
        }
        free(q), free(k), free(v), free(y), free(other), free(k2), free(v2);
    }
}

/* Bytes by hand for heads of 128: codes, then 4 bytes for 64 of them (float16 scale and offset), or 4 for a
 * page of fp8. */
static void sizes(void **state) {
    (void)state;
    size_t k, v;
    assay_kv_packed_bytes(&k, &v, ASSAY_KV_PACK_INT4, 8, 128);
    assert_int_equal(k, 8 * (128 * 32 + 128 * 4));
    assert_int_equal(v, 8 * (64 * 64 + 64 * 2 * 4));
    assay_kv_packed_bytes(&k, &v, ASSAY_KV_PACK_INT8, 1, 64);
    assert_int_equal(k, 64 * 64 + 64 * 4);
    assert_int_equal(v, 64 * 64 + 64 * 4);
    assay_kv_packed_bytes(&k, &v, ASSAY_KV_PACK_FP8, 2, 64);
    assert_int_equal(k, 2 * (64 * 64 + 4));
    assert_int_equal(v, 2 * (64 * 64 + 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_stay_within_half_a_step),
        cmocka_unit_test(fp8_errors_are_relative),
        cmocka_unit_test(constants_and_zeros_are_exact),
        cmocka_unit_test(codes_by_hand),
        cmocka_unit_test(trouble_is_seen),
        cmocka_unit_test(an_outlier_channel_costs_keys_nothing),
        cmocka_unit_test(attention_over_packed_pages),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
