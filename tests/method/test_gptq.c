/* test_gptq.c: GPTQ against the textbook: the algorithm as its authors wrote it, in double, with the inverse's Cholesky factor and
 * every column updated at once; against the closed form for two columns; and by what it is for, the error in the norm of H. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "linalg/linalg.h"
#include "method/item.h"

/* --- problems --- */

/* A weight and the second moments of inputs whose channels differ in size and lean on each other. */
typedef struct problem {
    int64_t rows, cols;
    float *w;
    assay_inputs in;
} problem;

static problem problem_new(int64_t rows, int64_t cols, size_t tokens, uint64_t seed) {
    problem p = {.rows = rows, .cols = cols};
    size_t n = (size_t)cols;
    assay_rng r;
    assay_rng_init(&r, seed);
    float *x = assay_calloc(tokens * n, sizeof *x), *size = assay_calloc(n, sizeof *size);
    p.w = assay_calloc((size_t)rows * n, sizeof *p.w);
    p.in = (assay_inputs){.cols = cols, .n_tokens = tokens, .gram = assay_calloc(n * n, sizeof *x)};
    assert_true(x && size && p.w && p.in.gram);
    for (size_t i = 0; i < (size_t)rows * n; i++) p.w[i] = (float)(0.05 * assay_rng_normal(&r));
    for (size_t c = 0; c < n; c++) size[c] = (float)exp(0.7 * assay_rng_normal(&r));
    for (size_t t = 0; t < tokens; t++) {
        double common = assay_rng_normal(&r), before = 0;
        for (size_t c = 0; c < n; c++) {
            before = 0.6 * before + assay_rng_normal(&r);
            x[t * n + c] = size[c] * (float)(before + 0.5 * common);
        }
    }
    assert_int_equal(assay_gram_add(p.in.gram, x, tokens, n, false, 1, NULL), ASSAY_OK);
    assay_free(x);
    assay_free(size);
    return p;
}
static void problem_free(problem *p) {
    assay_free(p->w);
    assay_free(p->in.gram);
}

typedef struct run {
    assay_tensor t;
    assay_choice c;
    assay_item item;
} run;

static assay_status quantize(run *r, const char *recipe, const problem *p, int threads, assay_err *err) {
    *r = (run){.t = {.name = "m", .dtype = ASSAY_DTYPE_F32, .n_dims = 2, .dims = {p->rows, p->cols}, .data = (void *)p->w},
               .c = choice_of(recipe)};
    r->item = (assay_item){.weight = &r->t, .choice = &r->c, .model_dtype = ASSAY_DTYPE_F32, .in = &p->in};
    const assay_method *m = assay_method_get(r->c.method);
    const char *wrong = m->check_shape ? m->check_shape(&r->c, p->rows, p->cols) : NULL;
    if (wrong) fail_msg("%s: %s", recipe, wrong);
    assay_item *items[] = {&r->item};
    assay_layer layer = {.items = &r->item, .n_items = 1, .n_threads = threads};
    return m->quantize(&layer, items, 1, err);
}

static void must_quantize(run *r, const char *recipe, const problem *p) {
    assay_err err = {0};
    if (quantize(r, recipe, p, 2, &err) != ASSAY_OK) fail_msg("%s: %s", recipe, err.message);
    if (assay_matrix_check(&r->item.out, "m", &err) != ASSAY_OK) fail_msg("%s: %s", recipe, err.message);
}

static float *decode(const run *r) {
    const assay_matrix *m = &r->item.out;
    float *v = assay_calloc((size_t)(m->rows * m->cols), sizeof *v);
    assert_non_null(v);
    assay_matrix_decode_rows(v, m, 0, m->rows);
    return v;
}

/* tr(E H E^T) without damping: the squared output error over the calibration tokens. */
static double output_error(const run *r, const problem *p) {
    size_t n = (size_t)p->cols;
    double sum = 0;
    float *v = decode(r);
    for (size_t row = 0; row < (size_t)p->rows; row++)
        for (size_t i = 0; i < n; i++) {
            double e = 0;
            for (size_t j = 0; j < n; j++) e += (double)p->in.gram[i * n + j] * (double)(p->w[row * n + j] - v[row * n + j]);
            sum += e * (double)(p->w[row * n + i] - v[row * n + i]);
        }
    assay_free(v);
    return sum;
}

/* --- the textbook --- */

/* a <- upper U with U^T U = a; a [n][n]. */
static void upper_cholesky(double *a, size_t n) {
    for (size_t k = 0; k < n; k++) {
        double d = a[k * n + k];
        for (size_t i = 0; i < k; i++) d -= a[i * n + k] * a[i * n + k];
        assert_true(d > 0);
        a[k * n + k] = sqrt(d);
        for (size_t j = k + 1; j < n; j++) {
            double s = a[k * n + j];
            for (size_t i = 0; i < k; i++) s -= a[i * n + k] * a[i * n + j];
            a[k * n + j] = s / a[k * n + k];
        }
        for (size_t j = 0; j < k; j++) a[k * n + j] = 0;
    }
}

/* Gauss-Jordan with the diagonal as pivots. */
static void invert(double *a, size_t n) {
    for (size_t k = 0; k < n; k++) {
        double d = 1 / a[k * n + k];
        a[k * n + k] = 1;
        for (size_t j = 0; j < n; j++) a[k * n + j] *= d;
        for (size_t i = 0; i < n; i++) {
            if (i == k) continue;
            double f = a[i * n + k];
            a[i * n + k] = 0;
            for (size_t j = 0; j < n; j++) a[i * n + j] -= f * a[k * n + j];
        }
    }
}

typedef struct textbook {
    size_t rows, cols, group;
    size_t *order;
    double *u; /* of the inverse, in the order of rounding */
    double *w; /* [rows][cols] in the order of rounding */
    uint8_t *codes; /* [rows][cols] in place */
    float *scales;  /* [rows][n_groups] */
} textbook;

static float group_most(const textbook *t, const problem *p, size_t column) {
    float most = 0;
    for (size_t c = column / t->group * t->group, i = 0; i < t->group; i++) most = fmaxf(most, p->in.gram[(c + i) * (t->cols + 1)]);
    return most;
}

static bool goes_first(const textbook *t, const problem *p, const assay_choice *c, size_t a, size_t b) {
    if (c->act_order == ASSAY_ACT_ORDER_NONE) return false;
    if (c->act_order == ASSAY_ACT_ORDER_GAR && a / t->group != b / t->group) return group_most(t, p, a) > group_most(t, p, b);
    return p->in.gram[a * (t->cols + 1)] > p->in.gram[b * (t->cols + 1)];
}

static void textbook_open(textbook *t, const problem *p, const run *r) {
    size_t n = (size_t)p->cols, rows = (size_t)p->rows;
    *t = (textbook){.rows = rows, .cols = n, .group = r->c.group_size ? (size_t)r->c.group_size : n};
    t->order = assay_calloc(n, sizeof *t->order);
    t->u = assay_calloc(n * n, sizeof *t->u);
    t->w = assay_calloc(rows * n, sizeof *t->w);
    t->codes = assay_calloc(rows * n, 1);
    t->scales = assay_calloc(rows * n, sizeof *t->scales);
    assert_true(t->order && t->u && t->w && t->codes && t->scales);
    for (size_t i = 0; i < n; i++) { /* insertion */
        size_t at = i;
        for (; at > 0 && goes_first(t, p, &r->c, i, t->order[at - 1]); at--) t->order[at] = t->order[at - 1];
        t->order[at] = i;
    }
    double mean = 0;
    for (size_t i = 0; i < n; i++) mean += (double)p->in.gram[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            t->u[i * n + j] = (double)p->in.gram[t->order[i] * n + t->order[j]] + (i == j ? r->c.damp_percent * mean : 0);
    invert(t->u, n);
    upper_cholesky(t->u, n);
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < n; i++) t->w[row * n + i] = (double)p->w[row * n + t->order[i]];
}
static void textbook_close(textbook *t) {
    assay_free(t->order);
    assay_free(t->u);
    assay_free(t->w);
    assay_free(t->codes);
    assay_free(t->scales);
}

static void fit(assay_grid *g, const assay_grid_spec *s, const double *w, size_t n) {
    float x[512];
    assert_true(n <= ASSAY_LEN(x));
    for (size_t i = 0; i < n; i++) x[i] = (float)w[i];
    assay_grid_fit(g, s, x, n, NULL);
}

/* One row, column after column. */
static void textbook_row(textbook *t, size_t row, const assay_choice *c, const float *original) {
    size_t n = t->cols, n_groups = n / t->group;
    assay_grid_spec s = assay_choice_grid(c, ASSAY_DTYPE_F32);
    assay_grid grids[512];
    double *w = t->w + row * n;
    for (size_t g = 0; g < n_groups && c->act_order == ASSAY_ACT_ORDER_STATIC; g++)
        assay_grid_fit(&grids[g], &s, original + row * n + g * t->group, t->group, NULL);
    for (size_t i = 0; i < n; i++) {
        size_t column = t->order[i], g = (c->act_order == ASSAY_ACT_ORDER_GROUP ? i : column) / t->group;
        if (i % t->group == 0 && c->act_order != ASSAY_ACT_ORDER_STATIC) fit(&grids[g], &s, w + i, t->group);
        float x = (float)w[i], value;
        assay_grid_round_each(&t->codes[row * n + column], &value, &s, &grids[g].scale, &grids[g].zero, &x, 1);
        t->scales[row * n_groups + g] = grids[g].stored;
        double err = (w[i] - (double)value) / t->u[i * n + i];
        for (size_t j = i + 1; j < n; j++) w[j] -= err * t->u[i * n + j];
    }
}

/* Codes the same, scales to float32's precision. A weight that lies within rounding errors of the middle between two codes may go
 * either way, and takes the rest of its row with it: so many rows may differ. */
static void compare(const char *recipe, int64_t rows, int64_t cols, size_t may_differ) {
    problem p = problem_new(rows, cols, 3 * (size_t)cols, 11);
    run r;
    textbook t;
    size_t n = (size_t)cols, differ = 0;
    must_quantize(&r, recipe, &p);
    textbook_open(&t, &p, &r);
    size_t n_groups = n / t.group;
    for (size_t row = 0; row < t.rows; row++) {
        textbook_row(&t, row, &r.c, p.w);
        if (memcmp(t.codes + row * n, r.item.out.codes + row * n, n) != 0) {
            differ++;
            continue;
        }
        for (size_t g = 0; g < n_groups; g++) {
            float got = r.item.out.scales[row * n_groups + g], want = t.scales[row * n_groups + g];
            if (!(fabsf(got - want) <= 3e-6f * want))
                fail_msg("%s: row %zu group %zu: scale %g, not %g", recipe, row, g, (double)got, (double)want);
        }
    }
    if (differ > may_differ) fail_msg("%s: %zu rows of %zu differ from the textbook's", recipe, differ, t.rows);
    textbook_close(&t);
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

static void textbook_codes(void **state) {
    (void)state;
    compare("gptq,act_order=none,precision=int4,group_size=channel", 70, 96, 0);
    compare("gptq,act_order=none,precision=int4,group_size=32", 70, 96, 0);
    compare("gptq,act_order=none,mse=false,precision=int3,group_size=16,symmetric=false", 40, 320, 1);
    compare("gptq,precision=int4,group_size=32,symmetric=false,act_order=static", 33, 160, 1);
    compare("gptq,precision=int4,group_size=32,act_order=group", 33, 160, 1);
    compare("gptq,precision=int4,group_size=32,act_order=gar", 33, 160, 1);
    compare("gptq,precision=int3,group_size=128,symmetric=false,act_order=gar", 10, 384, 1);
    compare("gptq,precision=int4,group_size=channel,act_order=static,damp_percent=0.1", 20, 300, 1);
    compare("gptq,act_order=none,mse=false,precision=int2,group_size=128", 130, 384, 2); /* more than a tile of rows, blocks that are groups */
    compare("gptq,act_order=none,precision=int4,group_size=192", 10, 384, 1);  /* groups longer than a block */
    compare("gptq,act_order=none,precision=int4,group_size=20", 10, 200, 1);   /* and that no block is a multiple of */
    compare("gptq,act_order=none,precision=int8,group_size=32", 10, 96, 4);
    compare("gptq,act_order=none,precision=int4,group_size=32,mse", 20, 96, 1);
    compare("gptq,act_order=none,precision=nf4", 20, 192, 1);
    compare("gptq,precision=fp4,act_order=static", 20, 192, 1);
    compare("gptq,act_order=none,precision=mxfp4", 20, 96, 1);
    compare("gptq,act_order=none,precision=fp8_e4m3", 20, 96, 2);
}

/* --- what can be said without one --- */

/* H = [a b; b c] and the first column off by d: the second is rounded at w2 - d b / c, d = q1 - w1. */
static void two_columns(void **state) {
    (void)state;
    float gram[] = {4, 3, 3, 6}, w[] = {7.4f, 2.4f};
    problem p = {.rows = 1, .cols = 2, .w = w, .in = {.cols = 2, .n_tokens = 1, .gram = gram}};
    run r;
    must_quantize(&r, "gptq,act_order=none,precision=int4,group_size=channel,damp_percent=0", &p);
    float scale = 7.4f / 7.5f, q1 = 7 * scale; /* the code saturates: 7.5 is past the end */
    float want = rintf((2.4f - (q1 - 7.4f) * 0.5f) / scale);
    assert_int_equal(r.item.out.codes[0], 8 + 7);
    assert_int_equal(r.item.out.codes[1], 8 + (int)want);
    assert_true(want != rintf(2.4f / scale)); /* to nearest it would be another */
    assay_matrix_deinit(&r.item.out);
}

static void same_codes(const char *a, const char *b, const problem *p) {
    run x, y;
    must_quantize(&x, a, p);
    must_quantize(&y, b, p);
    assert_memory_equal(x.item.out.codes, y.item.out.codes, (size_t)(p->rows * p->cols));
    assert_int_equal(x.item.out.n_scales, y.item.out.n_scales);
    assert_memory_equal(x.item.out.scales, y.item.out.scales, (size_t)x.item.out.n_scales * sizeof(float));
    if (x.item.out.zeros) assert_memory_equal(x.item.out.zeros, y.item.out.zeros, (size_t)x.item.out.n_scales);
    assay_matrix_deinit(&x.item.out);
    assay_matrix_deinit(&y.item.out);
}

/* What is meant when nothing is said. */
static void defaults(void **state) {
    (void)state;
    assay_choice c = choice_of("gptq");
    assert_int_equal(c.precision, ASSAY_PRECISION_INT4);
    assert_int_equal(c.group_size, 128);
    assert_int_equal(c.act_order, ASSAY_ACT_ORDER_STATIC);
    assert_true(c.damp_percent == 0.2 && c.true_sequential && !c.asymmetric && !c.mse);
    assert_true(choice_of("gptq,int3").mse && !choice_of("gptq,nf4").mse);
    assert_int_equal(choice_of("gptq,int8").group_size, 0);
    assert_int_equal(choice_of("gptq,nf4").group_size, 64);
    assert_int_equal(choice_of("gptq,nvfp4").group_size, 16);
    assert_int_equal(choice_of("gptq,fp8_e4m3").activations, ASSAY_ACTIVATIONS_DYNAMIC);
}

/* Uncorrelated inputs leave nothing to make up for. */
static void identity_is_rtn(void **state) {
    (void)state;
    problem p = problem_new(140, 256, 10, 3);
    memset(p.in.gram, 0, 256 * 256 * sizeof(float));
    for (size_t i = 0; i < 256; i++) p.in.gram[i * 257] = (float)(i % 7 + 1);
    same_codes("gptq,act_order=none,precision=int4,group_size=64", "rtn,precision=int4,group_size=64", &p);
    same_codes("gptq,act_order=none,precision=int3,group_size=channel,symmetric=false,mse=false",
               "rtn,precision=int3,group_size=channel,symmetric=false", &p);
    same_codes("gptq,precision=int5,group_size=32,act_order=static", "rtn,precision=int5,group_size=32", &p);
    same_codes("gptq,act_order=none,precision=nf4", "nf4", &p);
    same_codes("gptq,precision=nf4,act_order=static", "nf4", &p);
    problem_free(&p);
}

/* No calibration: plain rounding, and the record says so. */
static void without_inputs(void **state) {
    (void)state;
    problem p = problem_new(5, 64, 10, 3);
    assay_free(p.in.gram);
    p.in.gram = NULL;
    same_codes("gptq,act_order=none,precision=int4,group_size=32", "rtn,precision=int4,group_size=32", &p);
    run r;
    must_quantize(&r, "gptq,act_order=none,precision=nvfp4", &p);
    assert_string_equal(r.item.chosen, "\"calibrated\": false");
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

/* Total output error over several problems, as a part of plain rounding's. */
static double against(const char *recipe, const char *plain) {
    double ours = 0, theirs = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        problem p = problem_new(48, 256, 700, seed);
        run a, b;
        must_quantize(&a, recipe, &p);
        must_quantize(&b, plain, &p);
        double x = output_error(&a, &p), y = output_error(&b, &p);
        if (!(x < y)) fail_msg("%s: seed %d: error %g, plain %g", recipe, (int)seed, x, y);
        ours += x;
        theirs += y;
        assay_matrix_deinit(&a.item.out);
        assay_matrix_deinit(&b.item.out);
        problem_free(&p);
    }
    return ours / theirs;
}

static void loses_less(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"gptq,act_order=none,precision=int4,group_size=64", "rtn,precision=int4,group_size=64"},
        {"gptq,act_order=none,precision=int3,group_size=32,symmetric=false", "rtn,precision=int3,group_size=32,symmetric=false"},
        {"gptq,precision=int4,group_size=64,act_order=static", "rtn,precision=int4,group_size=64"},
        {"gptq,precision=int4,group_size=64,act_order=group", "rtn,precision=int4,group_size=64"},
        {"gptq,precision=int4,group_size=64,act_order=gar", "rtn,precision=int4,group_size=64"},
        {"gptq,act_order=none,precision=int2,group_size=64,mse", "rtn,precision=int2,group_size=64,mse"},
        {"gptq,act_order=none,precision=int6,group_size=channel", "rtn,precision=int6,group_size=channel"},
        {"gptq,act_order=none,precision=nf4", "nf4"},
        {"gptq,act_order=none,precision=nf4,double_quant", "nf4,double_quant"},
        {"gptq,act_order=none,precision=fp4", "fp4"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        double part = against(cases[i][0], cases[i][1]);
        if (!(part < 0.75)) fail_msg("%s: %g of plain rounding's error", cases[i][0], part);
    }
}

/* Precisions whose plain encoder is another method's: the loss falls against GPTQ without knowledge of the inputs. */
static void floats_lose_less(void **state) {
    (void)state;
    static const char *const recipes[] = {
        "gptq,act_order=none,precision=mxfp4",
        "gptq,act_order=none,precision=nvfp4",
        "gptq,act_order=none,precision=fp8_e4m3",
        "gptq,act_order=none,precision=fp8_e4m3,scale=tensor",
        "gptq,act_order=none,precision=fp8_e4m3,scale=block",
        "gptq,act_order=none,precision=fp8_e5m2",
        "gptq,precision=nvfp4,act_order=static",
    };
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        problem p = problem_new(150, 256, 700, 9), blind = p;
        blind.in.gram = NULL;
        run a, b;
        must_quantize(&a, recipes[i], &p);
        must_quantize(&b, recipes[i], &blind);
        double part = output_error(&a, &p) / output_error(&b, &p);
        if (!(part < 0.8)) fail_msg("%s: %g of plain rounding's error", recipes[i], part);
        assay_matrix_deinit(&a.item.out);
        assay_matrix_deinit(&b.item.out);
        problem_free(&p);
    }
}

/* The loss in the record is the damped error, summed another way. */
static void loss_is_the_error(void **state) {
    (void)state;
    problem p = problem_new(30, 128, 400, 2);
    run r;
    double damp, loss;
    unsigned dead;
    must_quantize(&r, "gptq,act_order=none,precision=int3,group_size=32,damp_percent=0.001", &p);
    assert_int_equal(sscanf(r.item.chosen, "\"damp_percent\": %lf, \"dead_columns\": %u, \"gptq_loss\": %lf", &damp, &dead, &loss), 3);
    assert_true(damp == 0.001);
    assert_int_equal(dead, 0);
    double e = output_error(&r, &p) / 400;
    assert_true(loss > e && loss < 1.02 * e);
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

static void threads_do_not_show(void **state) {
    (void)state;
    static const char *const recipes[] = {
        "gptq,act_order=none,precision=int4,group_size=32",
        "gptq,precision=int4,group_size=channel,act_order=static",
        "gptq,precision=int3,group_size=64,act_order=group",
        "gptq,act_order=none,precision=nvfp4",
    };
    problem p = problem_new(300, 320, 500, 4);
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        run one;
        assert_int_equal(quantize(&one, recipes[i], &p, 1, NULL), ASSAY_OK);
        for (int threads = 2; threads <= 3; threads++) {
            run more;
            assert_int_equal(quantize(&more, recipes[i], &p, threads, NULL), ASSAY_OK);
            assert_memory_equal(one.item.out.codes, more.item.out.codes, (size_t)(p.rows * p.cols));
            assert_memory_equal(one.item.out.scales, more.item.out.scales, (size_t)one.item.out.n_scales * sizeof(float));
            assert_string_equal(one.item.chosen, more.item.chosen);
            assay_matrix_deinit(&more.item.out);
        }
        assay_matrix_deinit(&one.item.out);
    }
    problem_free(&p);
}

/* q, k and v together, with options of their own: each as if it were alone. */
static void items_share_inputs(void **state) {
    (void)state;
    static const char *const recipes[] = {
        "gptq,act_order=none,precision=int4,group_size=32",
        "gptq,act_order=none,precision=int3,group_size=32",
        "gptq,precision=int4,group_size=32,act_order=static",
        "gptq,act_order=none,precision=int4,group_size=32,damp_percent=0.2",
        "gptq,precision=int4,group_size=32,act_order=gar",
        "gptq,precision=int4,group_size=16,act_order=gar",
    };
    enum { N = ASSAY_LEN(recipes) };
    problem p = problem_new(20, 96, 300, 5);
    run alone[N], r[N];
    assay_item items[N], *all[N];
    for (size_t i = 0; i < N; i++) {
        must_quantize(&alone[i], recipes[i], &p);
        r[i] = alone[i];
        items[i] = alone[i].item;
        items[i].out = (assay_matrix){0};
        items[i].weight = &r[i].t;
        items[i].choice = &r[i].c;
        all[i] = &items[i];
    }
    assay_layer layer = {.items = items, .n_items = N, .n_threads = 2};
    assert_int_equal(assay_method_get(r[0].c.method)->quantize(&layer, all, N, NULL), ASSAY_OK);
    for (size_t i = 0; i < N; i++) {
        assert_memory_equal(items[i].out.codes, alone[i].item.out.codes, 20 * 96);
        assay_matrix_deinit(&items[i].out);
        assay_matrix_deinit(&alone[i].item.out);
    }
    problem_free(&p);
}

/* Channels that never fire: rounded to nearest, and the others as if these did not exist. */
static void dead_columns(void **state) {
    (void)state;
    problem p = problem_new(10, 64, 300, 6);
    for (size_t i = 0; i < 64; i++)
        for (size_t d = 5; d < 64; d += 20) p.in.gram[i * 64 + d] = p.in.gram[d * 64 + i] = 0;
    run r, plain;
    must_quantize(&r, "gptq,act_order=none,precision=int4,group_size=channel", &p);
    must_quantize(&plain, "rtn,precision=int4,group_size=channel", &p);
    assert_non_null(strstr(r.item.chosen, "\"dead_columns\": 3,"));
    size_t same = 0;
    for (size_t row = 0; row < 10; row++)
        for (size_t c = 0; c < 64; c++) {
            bool equal = r.item.out.codes[row * 64 + c] == plain.item.out.codes[row * 64 + c];
            same += equal;
            if (c % 20 == 5) assert_true(equal);
        }
    assert_true(same < 640);
    assert_true(output_error(&r, &p) < output_error(&plain, &p));
    assay_matrix_deinit(&r.item.out);
    assay_matrix_deinit(&plain.item.out);
    /* none fires at all: still a result */
    memset(p.in.gram, 0, 64 * 64 * sizeof(float));
    same_codes("gptq,act_order=none,precision=int4,group_size=32", "rtn,precision=int4,group_size=32", &p);
    problem_free(&p);
}

/* Fewer tokens than columns, no damping asked for: it grows until the factorization holds. */
static void singular(void **state) {
    (void)state;
    problem p = problem_new(10, 96, 20, 7);
    run r, plain;
    double damp;
    must_quantize(&r, "gptq,act_order=none,precision=int4,group_size=32,damp_percent=0", &p);
    must_quantize(&plain, "rtn,precision=int4,group_size=32", &p);
    assert_int_equal(sscanf(r.item.chosen, "\"damp_percent\": %lf", &damp), 1);
    assert_true(damp == 0.01);
    assert_true(output_error(&r, &p) < 0.3 * output_error(&plain, &p));
    assay_matrix_deinit(&r.item.out);
    assay_matrix_deinit(&plain.item.out);
    /* an indefinite H, as no data gives it: more steps */
    double mean = 0;
    for (size_t i = 0; i < 96; i++) mean += (double)p.in.gram[i * 97] / 96;
    p.in.gram[1] = p.in.gram[96] = (float)(sqrt((double)(p.in.gram[0] * p.in.gram[97])) + 0.05 * mean);
    must_quantize(&r, "gptq,act_order=none,precision=int4,group_size=32", &p);
    assert_int_equal(sscanf(r.item.chosen, "\"damp_percent\": %lf", &damp), 1);
    assert_true(damp > 0.035 && damp < 0.3);
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

/* act_order group: every group has its columns, and decoding by g_idx finds the right scales (output_error would be large else). */
static void group_order(void **state) {
    (void)state;
    problem p = problem_new(12, 128, 300, 8);
    run r;
    size_t count[4] = {0};
    must_quantize(&r, "gptq,precision=int4,group_size=32,act_order=group", &p);
    const int32_t *g = r.item.out.g_idx;
    assert_non_null(g);
    for (size_t c = 0; c < 128; c++) count[g[c]]++;
    for (size_t i = 0; i < 4; i++) assert_int_equal(count[i], 32);
    for (size_t a = 0; a < 128; a++) /* a larger moment is never in a later group */
        for (size_t b = 0; b < 128; b++)
            if (p.in.gram[a * 129] > p.in.gram[b * 129]) assert_true(g[a] <= g[b]);
    assay_matrix_deinit(&r.item.out);
    must_quantize(&r, "gptq,precision=int4,group_size=32,act_order=static", &p);
    assert_null(r.item.out.g_idx);
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

static void clipping(void **state) {
    (void)state;
    problem p = problem_new(6, 64, 300, 12);
    float clip[12];
    for (size_t i = 0; i < 12; i++) clip[i] = 0.03f;
    run r;
    must_quantize(&r, "gptq,act_order=none,precision=int4,group_size=32,awq_clip", &p);
    assay_matrix_deinit(&r.item.out);
    r.item.clip = clip;
    assay_layer layer = {.items = &r.item, .n_items = 1, .n_threads = 1};
    assay_item *items[] = {&r.item};
    assert_int_equal(assay_method_get(r.c.method)->quantize(&layer, items, 1, NULL), ASSAY_OK);
    for (int64_t i = 0; i < r.item.out.n_scales; i++) assert_true(r.item.out.scales[i] == 0.03f / 7.5f);
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

static void refusals(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "gptq,precision=bf16",
        "gptq,precision=nf4,symmetric=false",
        "gptq,precision=int4,double_quant",
        "gptq,precision=int4,scale=block",
        "gptq,precision=mxfp4,group_size=64",
        "gptq,precision=int4,activations=dynamic",
        "gptq,precision=nf4,act_order=group",
        "gptq,precision=int4,awq_clip,act_order=group",
    };
    for (size_t i = 0; i < ASSAY_LEN(wrong); i++) {
        assay_recipe *r = NULL;
        assay_err err = {0};
        if (assay_recipe_from_string(&r, wrong[i], &err) == ASSAY_OK) fail_msg("%s was taken", wrong[i]);
    }
    problem p = problem_new(200, 64, 100, 13);
    run r;
    assay_err err = {0};
    p.w[150 * 64 + 7] = NAN;
    assert_int_equal(quantize(&r, "gptq,act_order=none,precision=int4,group_size=32", &p, 2, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "row 150, column 7"));
    assay_matrix_deinit(&r.item.out);
    p.in.gram[65] = INFINITY;
    err = (assay_err){0};
    assert_int_equal(quantize(&r, "gptq,act_order=none,precision=int4,group_size=32", &p, 2, &err), ASSAY_EINPUT);
    assay_matrix_deinit(&r.item.out);
    problem_free(&p);
}

static void out_of_memory(void **state) {
    (void)state;
    problem p = problem_new(20, 64, 100, 14);
    bool done = false;
    for (long n = 0; !done && n < 100; n++) {
        run r = {.t = {.name = "m", .dtype = ASSAY_DTYPE_F32, .n_dims = 2, .dims = {20, 64}, .data = p.w},
                 .c = choice_of("gptq,precision=int4,group_size=32,act_order=static")};
        r.item = (assay_item){.weight = &r.t, .choice = &r.c, .model_dtype = ASSAY_DTYPE_F32, .in = &p.in};
        assay_layer layer = {.items = &r.item, .n_items = 1, .n_threads = 1};
        assay_item *items[] = {&r.item};
        assay_mem_fail_after(n);
        assay_status s = assay_method_get(r.c.method)->quantize(&layer, items, 1, NULL);
        assay_mem_fail_after(-1);
        done = s == ASSAY_OK;
        if (!done) assert_int_equal(s, ASSAY_ENOMEM);
        assay_matrix_deinit(&r.item.out);
    }
    assert_true(done);
    problem_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(textbook_codes),
        cmocka_unit_test(two_columns),
        cmocka_unit_test(defaults),
        cmocka_unit_test(identity_is_rtn),
        cmocka_unit_test(without_inputs),
        cmocka_unit_test(loses_less),
        cmocka_unit_test(floats_lose_less),
        cmocka_unit_test(loss_is_the_error),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(items_share_inputs),
        cmocka_unit_test(dead_columns),
        cmocka_unit_test(singular),
        cmocka_unit_test(group_order),
        cmocka_unit_test(clipping),
        cmocka_unit_test(refusals),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests_name("gptq", tests, NULL, NULL);
}
