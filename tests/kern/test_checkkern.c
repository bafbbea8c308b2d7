/* Every entry of the kernel table, at every level this CPU has, against the reference: sizes 0, one block,
 * tile +- 1, odd counts, primes; buffers end at guard pages. Floats are compared bit for bit, because kern.h
 * fixes the order of every sum; only inputs that make subnormal numbers would be exempt, and there are none
 * here.
 *
 *   test_checkkern --bench     prints GB/s and GFLOP/s of each product beside the machine's own limits
 * instead */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/rng.h"
#include "base/status.h"
#include "kern/kern.h"
#include "kern/limits.h"
#include "num/convert.h"
#include "precision/block.h"

static assay_kern ref_kern;
static assay_rng rng;

/* --- memory whose end is the end of the world --- */

typedef struct guarded {
    void *p; /* n bytes, the last one just before a page that cannot be touched */
    void *map;
    size_t size;
} guarded;

static guarded guard(size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (n + page - 1) / page * page + page;
    guarded g = {.size = size,
                 .map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect((char *)g.map + size - page, page, PROT_NONE), 0);
    g.p = (char *)g.map + size - page - n;
    return g;
}
static void unguard(guarded *g) { munmap(g->map, g->size); }

static float *random_floats(guarded *g, size_t n, size_t ld, size_t rows) {
    float *p = g->p;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < ld; i++) p[r * ld + i] = i < n ? (float)assay_rng_normal(&rng) : 0;
    return p;
}
static uint16_t *random_bf16(guarded *g, size_t n, size_t ld, size_t rows) {
    uint16_t *p = g->p;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < ld; i++)
            p[r * ld + i] = i < n ? assay_f32_to_bf16((float)assay_rng_normal(&rng)) : 0;
    return p;
}

static void assert_same_floats(const float *a, const float *b, size_t n, const char *what, size_t k,
                               size_t m) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s k=%zu m=%zu: element %zu is %a, reference %a", what, k, m, i, (double)a[i],
                     (double)b[i]);
}

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static const size_t widths[] = {0,  1,  2,  15,  16,  17,  31,  32,  33,  63,
                                64, 96, 97, 127, 128, 129, 160, 256, 509, 640};
static const size_t heights[] = {1, 2, 3, 4, 5, 6, 7, 8, 13};

/* --- products --- */

static void check_gemm_f32(const assay_kern *kern) {
    for (size_t a = 0; a < ASSAY_LEN(widths); a++)
        for (size_t b = 0; b < ASSAY_LEN(heights); b++) {
            size_t k = widths[a], m = heights[b], n = heights[(a + b) % ASSAY_LEN(heights)], ldx = up(k, 32);
            guarded gx = guard(m * ldx * 4), gw = guard(n * k * 4), gy = guard(m * n * 4),
                    gr = guard(m * n * 4);
            float *x = random_floats(&gx, k, ldx, m), *w = random_floats(&gw, k, k, n);
            kern->gemm_f32(gy.p, n, x, ldx, w, k, k, m, n);
            ref_kern.gemm_f32(gr.p, n, x, ldx, w, k, k, m, n);
            assert_same_floats(gy.p, gr.p, m * n, "gemm_f32", k, m);
            unguard(&gx), unguard(&gw), unguard(&gy), unguard(&gr);
        }
}
static void check_gemm_bf16(const assay_kern *kern) {
    for (size_t a = 0; a < ASSAY_LEN(widths); a++)
        for (size_t b = 0; b < ASSAY_LEN(heights); b++) {
            size_t k = widths[a], m = heights[b], n = heights[(a + b) % ASSAY_LEN(heights)], ldx = up(k, 32);
            guarded gx = guard(m * ldx * 2), gw = guard(n * k * 2), gy = guard(m * n * 4),
                    gr = guard(m * n * 4);
            uint16_t *x = random_bf16(&gx, k, ldx, m), *w = random_bf16(&gw, k, k, n);
            kern->gemm_bf16(gy.p, n, x, ldx, w, k, k, m, n);
            ref_kern.gemm_bf16(gr.p, n, x, ldx, w, k, k, m, n);
            assert_same_floats(gy.p, gr.p, m * n, "gemm_bf16", k, m);
            unguard(&gx), unguard(&gw), unguard(&gy), unguard(&gr);
        }
}

/* Rows of every form and group size; `w` borrows from the guarded buffers. */
enum { NO_ZEROS, ZEROS, REAL_ZEROS, CODED, OFFSETS, SMALL, SMALL_OFFSETS };
static const struct {
    assay_form form;
    size_t group;
    int zeros;
    bool f16;
} row_cases[] = {
    {ASSAY_FORM_F32, 0, NO_ZEROS, false},   {ASSAY_FORM_F16, 0, NO_ZEROS, false},
    {ASSAY_FORM_BF16, 0, NO_ZEROS, false},  {ASSAY_FORM_Q4, 32, NO_ZEROS, false},
    {ASSAY_FORM_Q4, 64, NO_ZEROS, false},   {ASSAY_FORM_Q4, 64, ZEROS, true},
    {ASSAY_FORM_Q4, 128, NO_ZEROS, true},   {ASSAY_FORM_Q4, 128, ZEROS, false},
    {ASSAY_FORM_Q4, 64, REAL_ZEROS, false}, {ASSAY_FORM_Q4, 128, REAL_ZEROS, true},
    {ASSAY_FORM_Q4, 256, NO_ZEROS, false},  {ASSAY_FORM_Q4, 9999, ZEROS, false},
    {ASSAY_FORM_Q4, 16, CODED, false},      {ASSAY_FORM_Q4, 16, CODED, true},
    {ASSAY_FORM_Q4, 32, CODED, false},      {ASSAY_FORM_Q8, 32, NO_ZEROS, false},
    {ASSAY_FORM_Q8, 96, ZEROS, true},       {ASSAY_FORM_Q8, 128, NO_ZEROS, false},
    {ASSAY_FORM_Q8, 64, REAL_ZEROS, false}, {ASSAY_FORM_Q8, 9999, NO_ZEROS, true},
    {ASSAY_FORM_Q4, 32, OFFSETS, false},    {ASSAY_FORM_Q4, 16, NO_ZEROS, false},
    {ASSAY_FORM_Q4, 16, OFFSETS, true},     {ASSAY_FORM_Q4, 256, OFFSETS, false},
    {ASSAY_FORM_S8, 32, NO_ZEROS, false},   {ASSAY_FORM_S8, 32, OFFSETS, true},
    {ASSAY_FORM_S8, 16, NO_ZEROS, true},    {ASSAY_FORM_S8, 16, NO_ZEROS, false},
    {ASSAY_FORM_Q4, 32, ZEROS, false},      {ASSAY_FORM_Q4, 32, REAL_ZEROS, true},
    {ASSAY_FORM_Q4, 64, OFFSETS, false},    {ASSAY_FORM_Q4, 16, OFFSETS, false},
    {ASSAY_FORM_S8, 9999, OFFSETS, false},  {ASSAY_FORM_S8, 96, NO_ZEROS, false},
    {ASSAY_FORM_E4M3, 9999, NO_ZEROS, false}, {ASSAY_FORM_E4M3, 128, NO_ZEROS, true},
    {ASSAY_FORM_E4M3, 32, NO_ZEROS, false}, {ASSAY_FORM_E5M2, 9999, NO_ZEROS, true},
    {ASSAY_FORM_E5M2, 96, NO_ZEROS, false},
    {ASSAY_FORM_Q4, 16, SMALL, false},      {ASSAY_FORM_Q4, 16, SMALL_OFFSETS, true},
    {ASSAY_FORM_Q4, 32, SMALL, true},       {ASSAY_FORM_Q4, 32, SMALL_OFFSETS, false},
    {ASSAY_FORM_S8, 16, SMALL, false},      {ASSAY_FORM_S8, 32, SMALL_OFFSETS, false},
    {ASSAY_FORM_IQ1_S, 32, NO_ZEROS, false}, {ASSAY_FORM_IQ1_M, 16, NO_ZEROS, true},
    {ASSAY_FORM_IQ2_XXS, 32, NO_ZEROS, true}, {ASSAY_FORM_IQ2_XS, 16, NO_ZEROS, false},
    {ASSAY_FORM_IQ2_S, 16, NO_ZEROS, false},
};
/* ggml's blocks: any bytes, but for scales that are no numbers, because NaN's bits need not agree. */
static assay_rows random_grid(guarded *g, size_t which, size_t k, size_t rows) {
    static const assay_precision types[] = {ASSAY_PRECISION_IQ1_S, ASSAY_PRECISION_IQ1_M, ASSAY_PRECISION_IQ2_XXS,
                                            ASSAY_PRECISION_IQ2_XS, ASSAY_PRECISION_IQ2_S};
    assay_form form = row_cases[which].form;
    assay_precision p = types[form - ASSAY_FORM_IQ1_S];
    size_t stride = assay_block_row_bytes(p, (int64_t)k), block = (size_t)assay_block_get(p)->bytes;
    *g = guard(rows * stride);
    uint8_t *bytes = g->p;
    for (size_t i = 0; i < rows * stride; i++) bytes[i] = (uint8_t)assay_rng_next(&rng);
    for (size_t at = 0; at < rows * stride; at += block) /* the exponent's upper bits */
        bytes[at + (form == ASSAY_FORM_IQ1_M ? 55 : 1)] &= 0xbf;
    return (assay_rows){.form = form, .data = bytes, .k = k, .stride = stride, .points = assay_block_points(p),
                        .round_f16 = row_cases[which].f16};
}
/* 8-bit floats that are numbers. */
static uint8_t random_f8(assay_form form) {
    for (;;) {
        uint8_t c = (uint8_t)assay_rng_next(&rng);
        if ((c & 127) <= (form == ASSAY_FORM_E4M3 ? 126 : 123)) return c;
    }
}
static assay_tables tables;
static void random_tables(void) {
    for (int s = 0; s < 256; s++)
        for (int i = 0; i < 16; i++) {
            tables.f32[s][i] = (float)assay_rng_normal(&rng);
            tables.bf16[s][i] = assay_f32_to_bf16(tables.f32[s][i]);
        }
}
static assay_rows random_rows(guarded g[4], size_t which, size_t k, size_t rows) {
    assay_rows w = {.form = row_cases[which].form,
                    .k = k,
                    .group = row_cases[which].group,
                    .n_groups = 1,
                    .zero = 128,
                    .round_f16 = row_cases[which].f16};
    bool codes = w.form >= ASSAY_FORM_Q4, small = row_cases[which].zeros >= SMALL;
    w.stride = w.form == ASSAY_FORM_F32 ? 4 * k
             : w.form == ASSAY_FORM_Q4  ? up(k, 128) / 2
             : w.form < ASSAY_FORM_E4M3 && codes ? up(k, 32)
             : codes                    ? up(k, 64)
                                        : 2 * k;
    if (codes) w.n_groups = ASSAY_MAX((k + w.group - 1) / w.group, (size_t)1);
    g[0] = guard(rows * w.stride), g[1] = guard(rows * w.n_groups * 4), g[2] = guard(rows * w.n_groups * (small ? 2 : 1) + (small ? 16 : 0));
    g[3] = guard(rows * w.n_groups * 4);
    for (size_t i = 0; codes && i < rows * w.stride; i++)
        ((uint8_t *)g[0].p)[i] =
            w.form >= ASSAY_FORM_E4M3 ? random_f8(w.form) : (uint8_t)assay_rng_next(&rng);
    for (size_t i = 0; !codes && i < rows * k; i++) {
        float v = (float)assay_rng_normal(&rng);
        if (w.form == ASSAY_FORM_F32)
            ((float *)g[0].p)[i] = v;
        else
            ((uint16_t *)g[0].p)[i] = w.form == ASSAY_FORM_F16 ? assay_f32_to_f16(v) : assay_f32_to_bf16(v);
    }
    for (size_t i = 0; i < rows * w.n_groups; i++) {
        ((float *)g[1].p)[i] = (float)(0.01 + 0.05 * assay_rng_double(&rng));
        if (w.form == ASSAY_FORM_S8) /* of either sign, and few bits: products are exact */
            ((float *)g[1].p)[i] = (float)((int)(assay_rng_next(&rng) % 4095) - 2047) * 0x1p-17f;
        ((uint8_t *)g[2].p)[i] = (uint8_t)(assay_rng_next(&rng) % (w.form == ASSAY_FORM_Q4 ? 16 : 256));
        ((float *)g[3].p)[i] = (float)(7 + 3 * assay_rng_normal(&rng));
    }
    w.data = g[0].p;
    if (row_cases[which].zeros == ZEROS) w.zeros = g[2].p;
    if (row_cases[which].zeros == REAL_ZEROS) w.real_zeros = g[3].p;
    if (row_cases[which].zeros == OFFSETS) w.offsets = g[3].p;
    if (row_cases[which].zeros == CODED) {
        random_tables();
        w.scale_codes = g[2].p;
        w.tables = &tables;
    } else if (small) { /* as many units as groups, the first of which are used; few bits, so that products are exact */
        for (size_t i = 0; i < 2 * rows * w.n_groups; i++) ((int8_t *)g[2].p)[i] = (int8_t)assay_rng_next(&rng);
        for (size_t i = 0; i < rows * w.n_groups; i++) ((float *)g[1].p)[i] = (float)((int)(assay_rng_next(&rng) % 255) - 127) * 0x1p-17f;
        w.small_scales = g[2].p;
        w.scale_units = g[1].p;
        if (row_cases[which].zeros == SMALL_OFFSETS) w.small_offsets = w.small_scales + rows * w.n_groups, w.offset_units = g[3].p;
    } else {
        w.scales = g[1].p;
    }
    for (int i = 0; i < 16; i++)
        w.values[i] = w.zeros || w.real_zeros ? (float)i : (float)assay_rng_normal(&rng);
    return w;
}

static void check_rows(const assay_kern *kern) {
    for (size_t c = 0; c < ASSAY_LEN(row_cases); c++)
        for (size_t a = 1; a < ASSAY_LEN(widths); a++) {
            bool grid = row_cases[c].form >= ASSAY_FORM_IQ1_S;
            bool supers = grid || row_cases[c].zeros >= SMALL;
            size_t k = supers ? a * ASSAY_KERN_SUPER : widths[a], n = heights[(a + c) % ASSAY_LEN(heights)], ld = up(k, 32);
            if (supers && a > 4) break;
            guarded g[4] = {0}, gx = guard(ld * 4), gh = guard(ld * 2), gy = guard(n * 4), gr = guard(n * 4),
                          gt = guard(n * ld * 4), gu = guard(n * ld * 4);
            assay_rows w = grid ? random_grid(g, c, k, n + 1) : random_rows(g, c, k, n + 1); /* row 0 is skipped, so that offsets count */
            float *x = random_floats(&gx, k, ld, 1);
            uint16_t *xh = random_bf16(&gh, k, ld, 1);
            kern->gemv_f32[w.form](gy.p, &w, 1, n, x);
            ref_kern.gemv_f32[w.form](gr.p, &w, 1, n, x);
            assert_same_floats(gy.p, gr.p, n, "gemv_f32", k, c);
            kern->unpack_f32[w.form](gt.p, ld, &w, 1, n);
            ref_kern.unpack_f32[w.form](gu.p, ld, &w, 1, n);
            assert_memory_equal(gt.p, gu.p, n * ld * 4);
            kern->gemm_f32(gy.p, n, x, ld, gt.p, ld, k, 1, n); /* a quantized row is its decoded row */
            assert_same_floats(gy.p, gr.p, n, "gemm_f32 of unpacked rows", k, c);
            kern->unpack_bf16[w.form](gt.p, ld, &w, 1, n);
            ref_kern.unpack_bf16[w.form](gu.p, ld, &w, 1, n);
            assert_memory_equal(gt.p, gu.p, n * ld * 2);
            ref_kern.gemv_bf16[w.form](gr.p, &w, 1, n, xh);
            kern->gemm_bf16(gy.p, n, xh, ld, gt.p, ld, k, 1, n);
            assert_same_floats(gy.p, gr.p, n, "gemm_bf16 of unpacked rows", k, c);
            if (w.form >= ASSAY_FORM_BF16) {
                kern->gemv_bf16[w.form](gy.p, &w, 1, n, xh);
                assert_same_floats(gy.p, gr.p, n, "gemv_bf16", k, c);
            }
            for (int i = 0; i < (grid ? 1 : 4); i++) unguard(&g[i]);
            unguard(&gx), unguard(&gh), unguard(&gy), unguard(&gr), unguard(&gt), unguard(&gu);
        }
}

/* The fp8 class: one row and many, one group and several, all bits the same. */
static void check_scaled(const assay_kern *kern) {
    static const size_t groups[] = {9999, 128, 32, 96};
    for (int form = ASSAY_FORM_E4M3; form <= ASSAY_FORM_E5M2; form++)
        for (size_t c = 0; c < ASSAY_LEN(groups); c++)
            for (size_t a = 1; a < ASSAY_LEN(widths); a++) {
                size_t k = widths[a], m = heights[(a + c) % ASSAY_LEN(heights)], n = heights[a % ASSAY_LEN(heights)],
                       ld = up(k, 32), n_groups = (k + groups[c] - 1) / groups[c];
                guarded gw = guard(n * up(k, 64)), gs = guard(n * n_groups * 4), gx = guard(m * ld * 2),
                        gc = guard(m * n_groups * 4), gt = guard(n * ld * 2), gu = guard(n * ld * 2),
                        gy = guard(m * n * 4), gr = guard(m * n * 4);
                for (size_t i = 0; i < n * up(k, 64); i++) ((uint8_t *)gw.p)[i] = random_f8((assay_form)form);
                for (size_t i = 0; i < n * n_groups; i++) ((float *)gs.p)[i] = (float)assay_rng_double(&rng);
                for (size_t i = 0; i < m * n_groups; i++) ((float *)gc.p)[i] = (float)assay_rng_double(&rng);
                for (size_t i = 0; i < m * ld; i++)
                    ((uint16_t *)gx.p)[i] = i % ld < k ? assay_f32_to_bf16(assay_e4m3_to_f32(random_f8(ASSAY_FORM_E4M3))) : 0;
                assay_rows w = {.form = (assay_form)form, .data = gw.p, .stride = up(k, 64), .k = k,
                                .group = groups[c], .n_groups = n_groups};
                kern->unpack_bf16[form](gt.p, ld, &w, 0, n); /* without scales: the codes' own values */
                ref_kern.unpack_bf16[form](gu.p, ld, &w, 0, n);
                assert_memory_equal(gt.p, gu.p, n * ld * 2);
                w.scales = gs.p;
                assay_scaled sx = {gx.p, ld, gc.p}, sw = {gt.p, ld, gs.p};
                kern->gemm_scaled(gy.p, n, &sx, &sw, k, groups[c], m, n);
                ref_kern.gemm_scaled(gr.p, n, &sx, &sw, k, groups[c], m, n);
                assert_same_floats(gy.p, gr.p, m * n, "gemm_scaled", k, m);
                for (size_t i = 0; i < m; i++) {
                    const uint16_t *x = (const uint16_t *)gx.p + i * ld;
                    kern->gemv_scaled[form](gy.p, &w, 0, n, x, (const float *)gc.p + i * n_groups);
                    assert_same_floats(gy.p, (const float *)gr.p + i * n, n, "gemv_scaled", k, m);
                    ref_kern.gemv_scaled[form](gy.p, &w, 0, n, x, (const float *)gc.p + i * n_groups);
                    assert_same_floats(gy.p, (const float *)gr.p + i * n, n, "the reference's gemv_scaled", k, m);
                }
                unguard(&gw), unguard(&gs), unguard(&gx), unguard(&gc), unguard(&gt), unguard(&gu), unguard(&gy),
                    unguard(&gr);
            }
}

/* Inputs of the fp8 class: ties, subnormal codes, saturation, and what no code can stand for. */
static void check_quant_f8(const assay_kern *kern) {
    for (int form = ASSAY_FORM_E4M3; form <= ASSAY_FORM_E5M2; form++) {
        for (size_t a = 0; a < ASSAY_LEN(widths); a++)
            for (int how = 0; how < 5; how++) {
                size_t n = widths[a];
                guarded gx = guard(n * 4), go = guard(n * 2), gr = guard(n * 2);
                float *x = random_floats(&gx, n, n, 1), scale[2], fixed = how == 1 ? 1 : how == 2 ? 0.011f : 0;
                for (size_t i = 0; how == 1 && i < n; i++) { /* scale 1: values half-way between codes too */
                    uint8_t c = random_f8((assay_form)form), up = (uint8_t)(c & 127 ? c - 1 : c);
                    x[i] = form == ASSAY_FORM_E4M3 ? 0.5f * (assay_e4m3_to_f32(c) + assay_e4m3_to_f32(up))
                                                   : 0.5f * (assay_e5m2_to_f32(c) + assay_e5m2_to_f32(up));
                    if (i % 7 == 6) x[i] *= 1e6f;
                }
                for (size_t i = 0; how == 3 && i < n; i++) x[i] *= 1e-37f;
                if (how == 4 && n > 0) x[n / 2] = a % 2 ? NAN : -INFINITY;
                kern->quant_f8(go.p, &scale[0], x, n, fixed, (assay_form)form);
                ref_kern.quant_f8(gr.p, &scale[1], x, n, fixed, (assay_form)form);
                assert_memory_equal(go.p, gr.p, n * 2);
                assert_true(how == 4 && n > 0 ? !isfinite(scale[0]) : scale[0] == scale[1]);
                unguard(&gx), unguard(&go), unguard(&gr);
            }
        float x[2] = {NAN, 1}, scale;
        uint16_t q[2];
        kern->quant_f8(q, &scale, x, 2, 1, (assay_form)form); /* a fixed scale does not hide it */
        assert_true(isnan(scale) && q[1] == 0);
    }
}

static void check_int8(const assay_kern *kern) {
    static const struct {
        size_t group, pad;
        int zeros;
        int bits;
    } cases[] = {
        {9999, 0, NO_ZEROS, 8}, {32, 32, NO_ZEROS, 8}, {33, 40, ZEROS, 8},        {128, 128, ZEROS, 4},
        {64, 64, NO_ZEROS, 4},  {9999, 0, ZEROS, 4},   {64, 64, REAL_ZEROS, 4},   {1, 8, NO_ZEROS, 4},
        {9999, 0, REAL_ZEROS, 8},
    };
    for (size_t c = 0; c < ASSAY_LEN(cases); c++)
        for (size_t a = 1; a < ASSAY_LEN(widths); a++) {
            size_t k = widths[a], m = heights[(a + c) % ASSAY_LEN(heights)] + (a == 10 ? 16 : 0),
                   n = 1 + (a * 37 + c) % 130;
            size_t group = ASSAY_MIN(cases[c].group, k),
                   pad = cases[c].pad ? ASSAY_MIN(cases[c].pad, up(group, 8)) : up(k, 8);
            size_t groups = (k + group - 1) / group, blocks = (n + 15) / 16, stride = groups * pad;
            guarded gw = guard(up(blocks * 16 * stride * (size_t)cases[c].bits / 8, 64)),
                    gs = guard(blocks * groups * 64), gz = guard(blocks * groups * 16),
                    gf = guard(blocks * groups * 64);
            guarded gx = guard(m * k * 4), gq = guard(m * stride), gp = guard(m * stride),
                    gm = guard(m * groups * 4), gn = guard(m * groups * 4);
            guarded ga = guard(m * 4), gb = guard(m * 4), gy = guard(m * n * 4), gr = guard(m * n * 4);
            float *x = random_floats(&gx, k, k, m);
            for (size_t i = 0; i < blocks * 16 * stride * (size_t)cases[c].bits / 8; i++)
                ((uint8_t *)gw.p)[i] = a % 5 == 0 ? 255 : (uint8_t)assay_rng_next(&rng);
            for (size_t i = 0; i < blocks * groups * 16; i++) {
                ((float *)gs.p)[i] = (float)(0.01 + 0.05 * assay_rng_double(&rng));
                ((uint8_t *)gz.p)[i] = (uint8_t)(assay_rng_next(&rng) % (cases[c].bits == 4 ? 16 : 256));
                ((float *)gf.p)[i] = (float)(7 + 3 * assay_rng_normal(&rng));
            }
            float threshold = a % 3 == 0 ? 1.5f : 0, fixed = a % 4 == 1 ? 0.013f : 0;
            for (size_t i = 0; i < m; i++) {
                kern->quant_i8((int8_t *)gq.p + i * stride, (int32_t *)gm.p + i * groups, (float *)ga.p + i,
                               x + i * k, k, group, pad, threshold, fixed);
                ref_kern.quant_i8((int8_t *)gp.p + i * stride, (int32_t *)gn.p + i * groups,
                                  (float *)gb.p + i, x + i * k, k, group, pad, threshold, fixed);
            }
            assert_memory_equal(gq.p, gp.p, m * stride);
            assert_memory_equal(gm.p, gn.p, m * groups * 4);
            assert_memory_equal(ga.p, gb.p, m * 4);
            assay_irows w = {.bits = cases[c].bits,
                             .data = gw.p,
                             .n_rows = n,
                             .group = group,
                             .group_pad = pad,
                             .n_groups = groups,
                             .scales = gs.p,
                             .zeros = cases[c].zeros == ZEROS ? gz.p : NULL,
                             .real_zeros = cases[c].zeros == REAL_ZEROS ? gf.p : NULL,
                             .zero = cases[c].bits == 4 ? 8 : 128};
            assay_iacts acts = {.q = gq.p, .stride = stride, .sums = gm.p, .scale = ga.p};
            kern->gemm_i8(gy.p, n, &w, 0, blocks, &acts, m);
            ref_kern.gemm_i8(gr.p, n, &w, 0, blocks, &acts, m);
            assert_same_floats(gy.p, gr.p, m * n, "gemm_i8", k, m);
            uint32_t cols[3] = {0, (uint32_t)(k / 2), (uint32_t)(k - 1)};
            static const float large[3] = {7, -11.5f, 640};
            kern->outliers_i8(gy.p, &w, 0, blocks, large, cols, 3);
            ref_kern.outliers_i8(gr.p, &w, 0, blocks, large, cols, 3);
            assert_same_floats(gy.p, gr.p, n, "outliers_i8", k, m);
            unguard(&gw), unguard(&gs), unguard(&gz), unguard(&gf), unguard(&gx), unguard(&gq), unguard(&gp), unguard(&gm),
                unguard(&gn);
            unguard(&ga), unguard(&gb), unguard(&gy), unguard(&gr);
        }
}

/* Rows that an int8 code cannot stand for: nothing finite comes out, and nothing is undefined. */
static void check_quant_edges(const assay_kern *kern) {
    float x[40] = {0}, scale;
    int8_t q[40];
    int32_t sum;
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0);
    assert_true(scale == 0 && sum == 0 && q[0] == 0);
    x[17] = 1e-39f;
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0);
    assert_true(isfinite(scale) && q[17] >= 0); /* 127/absmax would overflow */
    x[33] = NAN;
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0);
    assert_true(isnan(scale));
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 6, 0);
    assert_true(isnan(scale));
    x[33] = -INFINITY;
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0);
    assert_true(isinf(scale));
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0.5f); /* a fixed scale saturates */
    assert_true(scale == 0.5f && q[33] == -128);
    x[2] = 1e9f, x[33] = NAN;
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0.5f);
    assert_true(isnan(scale));
    x[33] = 0.75f; /* a tie */
    kern->quant_i8(q, &sum, &scale, x, 40, 40, 40, 0, 0.5f);
    assert_true(scale == 0.5f && q[2] == 127 && q[33] == 2 && sum == 129);
}

/* --- attention --- */

static void check_attention(const assay_kern *kern) {
    static const size_t dims[] = {1, 8, 16, 32, 40, 64, 80, 96, 128};
    static const struct { size_t lo, hi; } ranges[] = {{0, 64}, {0, 1}, {0, 33}, {17, 64}, {5, 6}, {63, 64}};
    for (size_t d = 0; d < ASSAY_LEN(dims); d++)
        for (int type = 0; type < ASSAY_KERN_KVS; type++) {
            size_t n = 13, dim = dims[d], pad = up(dim, 16), es = type == ASSAY_KERN_KV_F32 ? 4 : 2;
            guarded gk = guard(dim * 64 * es), gv = guard(64 * pad * es), gq = guard(n * pad * 4), st[2][3],
                    go[2];
            assay_att a[2];
            for (size_t i = 0; i < 64 * pad; i++) {
                float kv[2] = {(float)assay_rng_normal(&rng), (float)assay_rng_normal(&rng)};
                guarded *to[2] = {&gk, &gv};
                for (int t = 0; t < 2; t++) {
                    if (t == 0 && i >= 64 * dim) continue;
                    if (es == 4)
                        ((float *)to[t]->p)[i] = kv[t];
                    else
                        ((uint16_t *)to[t]->p)[i] =
                            type == ASSAY_KERN_KV_F16 ? assay_f32_to_f16(kv[t]) : assay_f32_to_bf16(kv[t]);
                }
            }
            random_floats(&gq, dim, pad, n);
            for (int t = 0; t < 2; t++) {
                st[t][0] = guard(n * pad * 4), st[t][1] = guard(n * 4), st[t][2] = guard(n * 64),
                go[t] = guard(dim * 4);
                a[t] = (assay_att){.head_dim = dim,
                                   .head_pad = pad,
                                   .scale = 0.3f,
                                   .soft_cap = d % 2 ? 20.0f : 0,
                                   .q = gq.p,
                                   .acc = st[t][0].p,
                                   .max = st[t][1].p,
                                   .sum = st[t][2].p};
                for (size_t i = 0; i < n; i++) a[t].max[i] = -INFINITY;
            }
            for (size_t r = 0; r < ASSAY_LEN(ranges); r++) {
                kern->att_page[type](&a[0], 1, n - 1, gk.p, gv.p, ranges[r].lo, ranges[r].hi);
                ref_kern.att_page[type](&a[1], 1, n - 1, gk.p, gv.p, ranges[r].lo, ranges[r].hi);
            }
            assert_same_floats(a[0].acc, a[1].acc, n * pad, "attention", dim, (size_t)type);
            assert_same_floats(a[0].sum, a[1].sum, n * 16, "attention sums", dim, (size_t)type);
            for (size_t i = 1; i < n; i++) {
                kern->att_finish(go[0].p, &a[0], i);
                ref_kern.att_finish(go[1].p, &a[1], i);
                assert_same_floats(go[0].p, go[1].p, dim, "attention's end", dim, i);
            }
            for (int t = 0; t < 2; t++) {
                for (int i = 0; i < 3; i++) unguard(&st[t][i]);
                unguard(&go[t]);
            }
            unguard(&gk), unguard(&gv), unguard(&gq);
        }
}

/* Tiles of keys [dim][64] and of values [64][dim], of any bytes; every e4m3 code but NaN comes up. */
static void check_unpack_kv(const assay_kern *kern) {
    static const size_t shapes[][2] = {{1, 64}, {8, 64}, {80, 64}, {128, 64}, {64, 1}, {64, 16}, {64, 32}, {64, 40}, {64, 64}, {64, 80},
                                       {64, 96}, {64, 128}, {64, 200}};
    for (size_t c = 0; c < ASSAY_LEN(shapes); c++)
        for (int f = 0; f < ASSAY_KERN_PACKS; f++) {
            size_t rows = shapes[c][0], cols = shapes[c][1], ld = up(cols, 16), n = assay_kern_pack_bytes((assay_kern_pack)f, rows, cols),
                   codes = rows * assay_kern_pack_stride((assay_kern_pack)f, cols);
            guarded gt = guard(n), go[2] = {guard(rows * ld * 4), guard(rows * ld * 4)};
            uint8_t *tile = gt.p;
            for (size_t i = 0; i < codes; i++)
                do tile[i] = (uint8_t)assay_rng_next(&rng);
                while (f == ASSAY_KERN_KVE4M3 && (tile[i] & 0x7f) == 0x7f);
            if (f == ASSAY_KERN_KVE4M3) {
                float scale = (float)assay_rng_normal(&rng);
                memcpy(tile + codes, &scale, 4);
            } else {
                for (size_t i = codes; i < n; i += 2) {
                    uint16_t h = assay_f32_to_f16((float)assay_rng_normal(&rng));
                    memcpy(tile + i, &h, 2);
                }
            }
            kern->unpack_kv[f](go[0].p, ld, tile, rows, cols);
            ref_kern.unpack_kv[f](go[1].p, ld, tile, rows, cols);
            for (size_t r = 0; r < rows; r++)
                assert_same_floats((float *)go[0].p + r * ld, (float *)go[1].p + r * ld, cols, "unpack_kv", cols, (size_t)f);
            unguard(&gt), unguard(&go[0]), unguard(&go[1]);
        }
}

/* --- elementwise --- */

static void check_pointwise(const assay_kern *kern) {
    for (size_t a = 0; a < ASSAY_LEN(widths); a++) {
        size_t n = widths[a];
        guarded g[6];
        float *p[6];
        for (int i = 0; i < 6; i++) {
            g[i] = guard(n * 4);
            p[i] = random_floats(&g[i], n, n, 1);
        }
        for (int f = 0; f < ASSAY_KERN_GATES; f++) {
            for (size_t i = 0; i < n; i++) p[0][i] = (float)(30 * assay_rng_normal(&rng));
            kern->gate[f](p[2], p[0], p[1], n);
            ref_kern.gate[f](p[3], p[0], p[1], n);
            assert_same_floats(p[2], p[3], n, "gate", n, (size_t)f);
            kern->gate[f](p[2], p[0], NULL, n);
            ref_kern.gate[f](p[3], p[0], NULL, n);
            assert_same_floats(p[2], p[3], n, "gate alone", n, (size_t)f);
        }
        if (n > 0) {
            kern->rmsnorm(p[2], p[0], p[1], n, 1e-5f);
            ref_kern.rmsnorm(p[3], p[0], p[1], n, 1e-5f);
            assert_same_floats(p[2], p[3], n, "rmsnorm", n, 1);
            for (int bias = 0; bias < 2; bias++) {
                kern->layernorm(p[2], p[0], p[1], bias ? p[4] : NULL, n, 1e-5f);
                ref_kern.layernorm(p[3], p[0], p[1], bias ? p[4] : NULL, n, 1e-5f);
                assert_same_floats(p[2], p[3], n, "layernorm", n, (size_t)bias);
            }
        }
        memcpy(p[2], p[0], n * 4);
        memcpy(p[3], p[0], n * 4);
        kern->soft_cap(p[2], n, 30.0f);
        ref_kern.soft_cap(p[3], n, 30.0f);
        assert_same_floats(p[2], p[3], n, "soft_cap", n, 0);
        memcpy(p[1], p[0], n * 4);
        memcpy(p[3], p[2], n * 4);
        kern->rope(p[0], p[2], p[4], p[5], n);
        ref_kern.rope(p[1], p[3], p[4], p[5], n);
        assert_same_floats(p[0], p[1], n, "rope", n, 0);
        assert_same_floats(p[2], p[3], n, "rope", n, 1);
        kern->add(p[0], p[4], n);
        ref_kern.add(p[1], p[4], n);
        assert_same_floats(p[0], p[1], n, "add", n, 0);
        if (n > 4) p[0][0] = NAN, p[0][1] = INFINITY, p[0][2] = -65520.0f, p[0][3] = 0x1.fffffep127f;
        kern->round_f16(p[2], p[0], n);
        ref_kern.round_f16(p[3], p[0], n);
        for (size_t i = 0; i < n; i++) assert_true(isnan(p[2][i]) ? isnan(p[3][i]) : p[2][i] == p[3][i]);
        kern->to_bf16((uint16_t *)p[2], p[0], n);
        ref_kern.to_bf16((uint16_t *)p[3], p[0], n);
        assert_memory_equal(p[2], p[3], n * 2);
        for (int i = 0; i < 6; i++) unguard(&g[i]);
    }
}

/* The gates against libm in double. Left of -6 the tails shrink as exp(-x*x/2), which amplifies the rounding
 * of its argument: nothing that a model could notice, and left out here. */
static void check_gate_accuracy(const assay_kern *kern) {
    double worst[ASSAY_KERN_GATES] = {0};
    for (float x = -6; x < 12; x += 0.003f)
        for (int f = 0; f < ASSAY_KERN_GATES; f++) {
            float one = 1, y;
            double d = x, want = f == ASSAY_KERN_SILU ? d / (1 + exp(-d))
                               : f == ASSAY_KERN_GELU_TANH
                                   ? d / (1 + exp(-2 * sqrt(2 / M_PI) * (d + 0.044715 * d * d * d)))
                                   : 0.5 * d * erfc(-d / sqrt(2));
            kern->gate[f](&y, &x, &one, 1);
            if (want == 0) continue;
            worst[f] = fmax(worst[f], fabs(y - want) / fabs(want) / 0x1p-24);
        }
    for (int f = 0; f < ASSAY_KERN_GATES; f++)
        print_message("# gate %d: worst error %.1f half ulp\n", f, worst[f]);
    assert_true(worst[ASSAY_KERN_SILU] < 8); /* in units of half an ulp */
    assert_true(worst[ASSAY_KERN_GELU_TANH] < 40);
    assert_true(worst[ASSAY_KERN_GELU] < 16);
}

/* A dot product against double: within n * eps * sum |x w|. */
static void check_dot_accuracy(const assay_kern *kern) {
    for (size_t a = 1; a < ASSAY_LEN(widths); a++) {
        size_t k = widths[a], ld = up(k, 32);
        guarded gx = guard(ld * 4), gw = guard(ld * 4);
        float *x = random_floats(&gx, k, ld, 1), *w = random_floats(&gw, k, ld, 1), y;
        double sum = 0, size = 0;
        for (size_t i = 0; i < k; i++) sum += (double)x[i] * w[i], size += fabs((double)x[i] * w[i]);
        kern->gemm_f32(&y, 1, x, ld, w, ld, k, 1, 1);
        assert_true(fabs(y - sum) <= ((double)k / 16 + 5) * 0x1p-24 * size);
        unguard(&gx), unguard(&gw);
    }
}

static void at_every_level(void (*check)(const assay_kern *)) {
    static const char *const levels[] = {"ref", "avx2", "avx512", "neon"};
    int n = 0;
    for (size_t i = 0; i < ASSAY_LEN(levels); i++) {
        assay_kern k;
        assay_err err = {0};
        if (assay_kern_init(&k, levels[i], &err) != ASSAY_OK) continue;
        assay_rng_init(&rng, 7);
        check(&k);
        n++;
    }
    assert_true(n >= 2); /* the reference and at least one set */
}
#define LEVEL_TEST(name)                                                                                     \
    static void test_##name(void **state) {                                                                  \
        (void)state;                                                                                         \
        at_every_level(check_##name);                                                                        \
    }
LEVEL_TEST(gemm_f32)
LEVEL_TEST(gemm_bf16)
LEVEL_TEST(rows)
LEVEL_TEST(scaled)
LEVEL_TEST(quant_f8)
LEVEL_TEST(int8)
LEVEL_TEST(quant_edges)
LEVEL_TEST(attention)
LEVEL_TEST(unpack_kv)
LEVEL_TEST(pointwise)
LEVEL_TEST(gate_accuracy)
LEVEL_TEST(dot_accuracy)

static void test_names(void **state) {
    (void)state;
    assay_kern k;
    assay_err err = {0};
    assert_int_equal(assay_kern_init(&k, "sse9", &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "sse9"));
    assert_int_equal(assay_kern_init(&k, "ref", NULL), ASSAY_OK);
    assert_string_equal(k.name, "ref");
}

/* --- bench --- */

static double best_seconds(void (*fn)(void *), void *ctx) {
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double t = assay_now();
        fn(ctx);
        best = fmin(best, assay_now() - t);
    }
    return best;
}
typedef struct bench {
    const assay_kern *k;
    assay_rows w;
    assay_irows iw;
    assay_iacts ia;
    assay_scaled sx, sw;
    float *y;
    const void *x;
    size_t m, n;
    int what;
} bench;
static void run_bench(void *ctx) {
    bench *b = ctx;
    switch (b->what) {
    case 0: b->k->gemv_bf16[b->w.form](b->y, &b->w, 0, b->n, b->x); break;
    case 1: b->k->gemv_f32[b->w.form](b->y, &b->w, 0, b->n, b->x); break;
    case 2: b->k->gemm_i8(b->y, b->n, &b->iw, 0, b->n / 16, &b->ia, b->m); break;
    case 3: b->k->gemm_bf16(b->y, b->n, b->x, b->w.k, b->w.data, b->w.k, b->w.k, b->m, b->n); break;
    case 4: b->k->gemm_f32(b->y, b->n, b->x, b->w.k, b->w.data, b->w.k, b->w.k, b->m, b->n); break;
    case 5: b->k->gemv_scaled[b->w.form](b->y, &b->w, 0, b->n, b->x, b->w.scales); break;
    case 6: b->k->gemm_scaled(b->y, b->n, &b->sx, &b->sw, b->w.k, b->w.group, b->m, b->n); break;
    default: break;
    }
}
static void print_rate(const char *name, bench *b, double bytes, double ops, double gbs, double peak) {
    double t = best_seconds(run_bench, b);
    printf("%-30s %8.2f GB/s %5.1f %%   %8.1f G(FL)OP/s %5.1f %%\n", name, bytes / t * 1e-9,
           bytes / t * 1e-7 / gbs, ops / t * 1e-9, ops / t * 1e-7 / peak);
}
static int run_benches(void) {
    assay_limits l;
    assay_kern k;
    assay_err err = {0};
    if (assay_limits_measure(&l, 1, &err) != ASSAY_OK || assay_kern_init(&k, NULL, &err) != ASSAY_OK)
        return 1;
    printf("%s %s, one thread: read %.1f GB/s, f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f GOP/s\n", k.name,
           k.extras, l.read_gbs, l.f32_gflops, l.bf16_gflops, l.int8_gops);
    size_t kk = 2048, n = 65536;
    uint8_t *data = aligned_alloc(64, n * kk * 4);
    float *scales = aligned_alloc(64, n * 128 * 4), *y = aligned_alloc(64, n * 128 * 4),
          *x = aligned_alloc(64, 512 * kk * 4);
    int32_t *sums = aligned_alloc(64, 512 * 64 * 4);
    if (!data || !scales || !y || !x || !sums) return 1;
    memset(data, 1, n * kk * 4), memset(x, 0, 512 * kk * 4),
        memset(sums, 0, 512 * 64 * 4); /* touched: pages of their own */
    for (size_t i = 0; i < n * 128; i++) scales[i] = 1;
    assay_rng_init(&rng, 1);
    static const struct {
        const char *name;
        int what;
        assay_form form;
        size_t group;
        int zeros;
    } gemv[] = {
        {"gemv bf16 x bf16", 0, ASSAY_FORM_BF16, 0, NO_ZEROS},    {"gemv q4 g64 x bf16", 0, ASSAY_FORM_Q4, 64, NO_ZEROS},
        {"gemv q4 g128 x bf16", 0, ASSAY_FORM_Q4, 128, NO_ZEROS}, {"gemv q4 g32 x bf16", 0, ASSAY_FORM_Q4, 32, NO_ZEROS},
        {"gemv q8 row x bf16", 0, ASSAY_FORM_Q8, 9999, NO_ZEROS}, {"gemv f32 x f32", 1, ASSAY_FORM_F32, 0, NO_ZEROS},
        {"gemv f16 x f32", 1, ASSAY_FORM_F16, 0, NO_ZEROS},       {"gemv q4 g64 x f32", 1, ASSAY_FORM_Q4, 64, NO_ZEROS},
        {"gemv q8 row x f32", 1, ASSAY_FORM_Q8, 9999, NO_ZEROS},
        {"gemv q8 g128 x bf16", 0, ASSAY_FORM_Q8, 128, NO_ZEROS},
        {"gemv q4 g128 real zeros x bf16", 0, ASSAY_FORM_Q4, 128, REAL_ZEROS},
        {"gemv q4 g32 offsets x bf16", 0, ASSAY_FORM_Q4, 32, OFFSETS},
        {"gemv q4 g16 x bf16", 0, ASSAY_FORM_Q4, 16, NO_ZEROS},
        {"gemv q4 g16 offsets x bf16", 0, ASSAY_FORM_Q4, 16, OFFSETS},
        {"gemv s8 g32 x bf16", 0, ASSAY_FORM_S8, 32, NO_ZEROS},
        {"gemv s8 g32 offsets x bf16", 0, ASSAY_FORM_S8, 32, OFFSETS},
        {"gemv s8 g16 x bf16", 0, ASSAY_FORM_S8, 16, NO_ZEROS},
        {"gemv q4 g32 offsets x f32", 1, ASSAY_FORM_Q4, 32, OFFSETS},
        {"gemv s8 g32 x f32", 1, ASSAY_FORM_S8, 32, NO_ZEROS},
        {"gemv s8 g16 x f32", 1, ASSAY_FORM_S8, 16, NO_ZEROS},
        {"gemv mxfp4 x bf16", 0, ASSAY_FORM_Q4, 32, CODED},
        {"gemv nvfp4 x bf16", 0, ASSAY_FORM_Q4, 16, CODED},
        {"gemv mxfp4 x f32", 1, ASSAY_FORM_Q4, 32, CODED},
        {"gemv nvfp4 x f32", 1, ASSAY_FORM_Q4, 16, CODED},
        {"gemv e4m3 row x bf16", 0, ASSAY_FORM_E4M3, 9999, NO_ZEROS},
        {"gemv e4m3 row x f32", 1, ASSAY_FORM_E4M3, 9999, NO_ZEROS},
        {"gemv e4m3 row x fp8", 5, ASSAY_FORM_E4M3, 9999, NO_ZEROS},
        {"gemv e4m3 g128 x fp8", 5, ASSAY_FORM_E4M3, 128, NO_ZEROS},
    };
    uint8_t *codes = (uint8_t *)x;
    random_tables();
    for (size_t i = 0; i < ASSAY_LEN(gemv); i++) {
        bench b = {.k = &k, .what = gemv[i].what, .n = n, .m = 1, .y = y, .x = x};
        b.w = (assay_rows){.form = gemv[i].form,
                           .data = data,
                           .k = kk,
                           .group = gemv[i].group,
                           .n_groups = 1,
                           .scales = scales,
                           .zero = 128};
        if (gemv[i].zeros == REAL_ZEROS) b.w.real_zeros = y;
        if (gemv[i].zeros == OFFSETS) b.w.offsets = y;
        if (gemv[i].zeros == CODED) b.w.scale_codes = codes, b.w.tables = &tables;
        b.w.stride = b.w.form == ASSAY_FORM_F32 ? 4 * kk
                   : b.w.form == ASSAY_FORM_Q4  ? kk / 2
                   : b.w.form >= ASSAY_FORM_Q8  ? kk
                                                : 2 * kk;
        if (b.w.form >= ASSAY_FORM_Q4 && b.w.group < kk) b.w.n_groups = kk / b.w.group;
        double each = gemv[i].zeros == CODED ? 1 : gemv[i].zeros == REAL_ZEROS || gemv[i].zeros == OFFSETS ? 8 : 4,
               bytes = (double)n * ((double)b.w.stride + (b.w.form >= ASSAY_FORM_Q4 ? each * (double)b.w.n_groups : 0));
        print_rate(gemv[i].name, &b, bytes, 2.0 * (double)n * (double)kk, l.read_gbs,
                   gemv[i].what == 1 ? l.f32_gflops : l.bf16_gflops);
    }
    static const struct {
        const char *name;
        int bits;
        size_t group, m, n;
    } gemm8[] = {
        {"gemv i8 row", 8, 2048, 1, 65536},
        {"gemv i8 g128", 8, 128, 1, 65536},
        {"gemv i4 g128 x i8", 4, 128, 1, 65536},
        {"gemm i8 row, 512 rows", 8, 2048, 512, 2048},
        {"gemm i8 g128, 512 rows", 8, 128, 512, 2048},
        {"gemm i4 g128 x i8, 512 rows", 4, 128, 512, 2048},
        {"gemv i4 g64 x i8", 4, 64, 1, 65536},
        {"gemv i4 g32 x i8", 4, 32, 1, 65536},
        {"gemm i4 g64 x i8, 512 rows", 4, 64, 512, 2048},
        {"gemm i4 g32 x i8, 512 rows", 4, 32, 512, 2048},
    };
    for (size_t i = 0; i < ASSAY_LEN(gemm8); i++) {
        bench b = {.k = &k, .what = 2, .n = gemm8[i].n, .m = gemm8[i].m, .y = y};
        size_t groups = kk / gemm8[i].group;
        b.iw = (assay_irows){.bits = gemm8[i].bits,
                             .data = data,
                             .n_rows = b.n,
                             .group_pad = gemm8[i].group,
                             .n_groups = groups,
                             .scales = scales,
                             .zero = 128};
        b.ia = (assay_iacts){.q = (int8_t *)x, .stride = kk, .sums = sums, .scale = scales};
        print_rate(gemm8[i].name, &b, (double)b.n * ((double)kk * gemm8[i].bits / 8 + 4 * (double)groups),
                   2.0 * (double)b.m * (double)b.n * (double)kk, l.read_gbs, l.int8_gops);
    }
    for (int wide = 0; wide < 2; wide++)
        for (int f = 3; f < 5; f++) {
            bench b = {.k = &k, .what = f, .n = wide ? 12 : 48, .m = 512, .y = y, .x = x};
            b.w = (assay_rows){.data = data, .k = wide ? 8192 / (f == 4 ? 4 : 1) : kk};
            if (wide) b.m = 128;
            char name[64];
            snprintf(name, sizeof name, "gemm %s k=%zu, %zu rows", f == 3 ? "bf16" : "f32", b.w.k, b.m);
            print_rate(name, &b, 0, 2.0 * (double)b.m * (double)b.n * (double)b.w.k, l.read_gbs,
                       f == 3 ? l.bf16_gflops : l.f32_gflops);
        }
    static const size_t scaled[] = {9999, 128};
    for (size_t i = 0; i < ASSAY_LEN(scaled); i++) {
        bench b = {.k = &k, .what = 6, .n = 48, .m = 256, .y = y, .w = {.k = kk, .group = scaled[i]}};
        b.sx = (assay_scaled){(const uint16_t *)x, kk, scales}, b.sw = (assay_scaled){(const uint16_t *)data, kk, scales};
        char name[64];
        snprintf(name, sizeof name, "gemm fp8 %s, %zu rows", i ? "g128" : "row", b.m);
        print_rate(name, &b, 0, 2.0 * (double)b.m * (double)b.n * (double)kk, l.read_gbs, l.bf16_gflops);
    }
    free(data), free(scales), free(y), free(x), free(sums);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return run_benches();
    assay_err err = {0};
    if (assay_kern_init(&ref_kern, "ref", &err) != ASSAY_OK) {
        printf("not ok 1 - the reference table: %s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_gemm_f32),
        cmocka_unit_test(test_gemm_bf16),     cmocka_unit_test(test_rows),
        cmocka_unit_test(test_scaled),        cmocka_unit_test(test_quant_f8),
        cmocka_unit_test(test_int8),          cmocka_unit_test(test_quant_edges),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_unpack_kv),     cmocka_unit_test(test_pointwise),
        cmocka_unit_test(test_gate_accuracy), cmocka_unit_test(test_dot_accuracy),
    };
    return cmocka_run_group_tests_name("checkkern", tests, NULL, NULL);
}
