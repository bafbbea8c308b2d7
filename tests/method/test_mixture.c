/* test_mixture.c: mixtures by budget: the assignment against every possibility, sensitivities against each other and against sense. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "method/mixture.h"
#include "method/tiny.h"

/* --- the assignment --- */

/* Least divergence over all assignments within the budget, by trying them all. */
static double brute_force(const assay_mixture *m) {
    double best = INFINITY;
    size_t n = 1;
    for (size_t i = 0; i < m->n_units; i++)
        n *= m->n_candidates;
    for (size_t k = 0; k < n; k++) {
        double kl = 0, bits = 0;
        size_t rest = k;
        bool possible = true;
        for (size_t i = 0; i < m->n_units; i++, rest /= m->n_candidates) {
            const assay_mixture_unit *u = &m->units[i];
            size_t c = rest % m->n_candidates;
            possible = possible && u->kl[c] >= 0;
            kl += u->kl[c];
            bits += u->bits[c];
        }
        if (possible && bits <= m->budget_bits) best = fmin(best, kl);
    }
    return best;
}

static void the_assignment_is_the_best_there_is(void **state) {
    (void)state;
    assay_rng rng;
    assay_rng_init(&rng, 11);
    for (int trial = 0; trial < 200; trial++) {
        assay_mixture_unit units[6];
        memset(units, 0, sizeof units);
        assay_mixture m = {.units = units, .n_units = 2 + (size_t)(trial % 5), .n_candidates = 4};
        double least = 0, most = 0;
        bool feasible;
        for (size_t i = 0; i < m.n_units; i++) {
            double weights = (double)(1 + assay_rng_below(&rng, 9));
            for (size_t c = 0; c < 4; c++) {
                units[i].bits[c] = weights * (double)(2 + 2 * c) * 1000;
                units[i].kl[c] = assay_rng_double(&rng) * pow(0.3, (double)c);
            }
            if (assay_rng_below(&rng, 4) == 0) units[i].kl[assay_rng_below(&rng, 3)] = -1; /* cannot hold it */
            least += units[i].bits[units[i].kl[0] < 0 ? 1 : 0];
            most += units[i].bits[3];
        }
        m.budget_bits = least + (most - least) * assay_rng_double(&rng) * 1.1;
        assert_int_equal(assay_mixture_assign(&m, &feasible, NULL), ASSAY_OK);
        assert_true(feasible);
        assert_true(m.used_bits <= m.budget_bits * (1 + 1e-12));
        double kl = 0, bits = 0, best = brute_force(&m);
        for (size_t i = 0; i < m.n_units; i++) {
            assert_true(units[i].kl[units[i].chosen] >= 0);
            kl += units[i].kl[units[i].chosen];
            bits += units[i].bits[units[i].chosen];
        }
        assert_float_equal(kl, m.predicted_kl, 1e-12);
        assert_float_equal(bits, m.used_bits, 1e-6);
        /* Sizes are rounded up to 1/20000 of the budget: the best may be missed only where it fits by less than that. */
        if (kl > best + 1e-12) {
            double budget = m.budget_bits;
            m.budget_bits *= 1 - 4e-4;
            assert_true(kl <= brute_force(&m) + 1e-12);
            m.budget_bits = budget;
        }
    }
}

static void a_budget_below_the_least_is_not_feasible(void **state) {
    (void)state;
    assay_mixture_unit u = {.bits = {2000, 4000}, .kl = {0.1, 0.01}};
    assay_mixture m = {.units = &u, .n_units = 1, .n_candidates = 2, .budget_bits = 1999};
    bool feasible;
    assert_int_equal(assay_mixture_assign(&m, &feasible, NULL), ASSAY_OK);
    assert_false(feasible);
    m.budget_bits = 2000;
    assert_int_equal(assay_mixture_assign(&m, &feasible, NULL), ASSAY_OK);
    assert_true(feasible && u.chosen == 0);
    m.budget_bits = 1e9;
    assert_int_equal(assay_mixture_assign(&m, &feasible, NULL), ASSAY_OK);
    assert_true(feasible && u.chosen == 1);
}

/* --- on a model --- */

static char *model;
static int32_t ids[512];
static size_t first[17];
static assay_calibration calibration = {.ids = ids, .first = first, .n_seqs = 16, .hash = "random tokens"};

static int make_model(void **state) {
    (void)state;
    assay_err err = {0};
    tiny_tokens(ids, ASSAY_LEN(ids), 5);
    for (size_t i = 0; i < 16; i++)
        first[i + 1] = first[i] + 32;
    model = tiny_dir();
    return model && tiny_make(model, UINT64_MAX, &err) == ASSAY_OK ? 0 : -1;
}

static int remove_model(void **state) {
    (void)state;
    tiny_remove(model);
    assay_free(model);
    return 0;
}

static assay_recipe *recipe(const char *line) {
    assay_recipe *r;
    assay_err err = {0};
    if (assay_recipe_from_string(&r, line, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return r;
}

static void make(assay_mixture *m, const char *line, double bpw, assay_sensitivity how, const char *cache) {
    assay_recipe *r = recipe(line);
    assay_err err = {0};
    assay_mixture_opts o = {
        .target_bpw = bpw, .precisions = "int2g32 int3g32, int4g32 int8g32 bf16", .sensitivity = how, .n_threads = 2, .cache = cache};
    if (assay_mixture_make(m, model, r, &calibration, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assay_recipe_free(r);
}

static void units_are_what_runtimes_fuse_and_more_bits_lose_less(void **state) {
    (void)state;
    assay_mixture m;
    make(&m, "rtn,int4g32", 4.5, ASSAY_SENSITIVITY_KL, NULL);
    assert_int_equal(m.n_units, 4 * TINY_LAYERS); /* q k v, o, gate up, down */
    assert_int_equal(m.n_candidates, 5);
    assert_int_equal(m.n_tokens, 512);
    for (size_t i = 0; i < m.n_units; i++) {
        static const int sizes[] = {3, 1, 2, 1};
        const assay_mixture_unit *u = &m.units[i];
        assert_int_equal(u->n_matrices, sizes[i % 4]);
        assert_true(u->kl[0] > u->kl[1] && u->kl[1] > u->kl[2] && u->kl[2] > u->kl[3]);
        assert_true(u->kl[4] == 0); /* as it is */
        assert_float_equal(u->bits[2] / u->elements, 4.5, 1e-9);
        assert_float_equal(u->bits[4] / u->elements, 16, 1e-9);
    }
    assert_true(m.used_bits <= 4.5 * m.elements);
    double uniform = 0;
    for (size_t i = 0; i < m.n_units; i++)
        uniform += m.units[i].kl[2];
    assert_true(m.predicted_kl <= uniform); /* the uniform recipe of that size was among the possibilities */
    assay_mixture_deinit(&m);
}

/* One backward pass orders units and candidates as their divergences do. */
static void gradients_tell_the_same_as_divergences(void **state) {
    (void)state;
    assay_mixture kl, fisher;
    make(&kl, "rtn,int4g32", 4.5, ASSAY_SENSITIVITY_KL, NULL);
    make(&fisher, "rtn,int4g32", 4.5, ASSAY_SENSITIVITY_FISHER, NULL);
    double sum = 0, x2 = 0, y2 = 0, mx = 0, my = 0;
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < kl.n_units; i++)
            for (size_t c = 1; c < 4; c++) { /* small changes: 3, 4 and 8 bits */
                double x = log(kl.units[i].kl[c]), y = log(fisher.units[i].kl[c]);
                if (!pass) {
                    mx += x;
                    my += y;
                    n++;
                    continue;
                }
                sum += (x - mx / n) * (y - my / n);
                x2 += (x - mx / n) * (x - mx / n);
                y2 += (y - my / n) * (y - my / n);
            }
    assert_true(sum / sqrt(x2 * y2) > 0.95);
    assert_true(fabs(mx - my) / n < log(2.0)); /* and of the right size: within a factor of two on average */
    assay_mixture_deinit(&kl);
    assay_mixture_deinit(&fisher);
}

static void the_recipe_says_what_was_assigned_and_makes_a_checkpoint_of_that_size(void **state) {
    (void)state;
    assay_mixture m;
    assay_recipe *base = recipe("gptq,int4g32,skip=layers.1.self_attn.o_proj"), *mixed;
    assay_quantize_opts o = {.n_threads = 2, .calibration = &calibration};
    assay_quantize_result res;
    assay_err err = {0};
    char *out = tiny_dir();
    make(&m, "gptq,int4g32,skip=layers.1.self_attn.o_proj", 4.0, ASSAY_SENSITIVITY_KL, NULL);
    assert_int_equal(m.n_units, 4 * TINY_LAYERS - 1); /* what is skipped is not assigned */
    assert_int_equal(assay_mixture_recipe(&mixed, &m, base, &err), ASSAY_OK);
    if (assay_quantize(&res, model, out, mixed, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    double quantized = 0, bits = 0;
    for (size_t i = 0; i < m.n_units; i++)
        if (m.candidates[m.units[i].chosen].method != ASSAY_METHOD_NONE) {
            quantized += m.units[i].elements;
            bits += m.units[i].bits[m.units[i].chosen];
        }
    assert_float_equal(res.bits_per_quantized, bits / quantized, 1e-9);
    assay_recipe_free(base);
    assay_recipe_free(mixed);
    assay_mixture_deinit(&m);
    tiny_remove(out);
    assay_free(out);
}

static void what_was_measured_is_not_measured_again(void **state) {
    (void)state;
    char *dir = tiny_dir(), *path = assay_path_join(dir, "mixture.json");
    assay_mixture a, b;
    make(&a, "rtn,int4g32", 4.5, ASSAY_SENSITIVITY_KL, path);
    /* A cache with figures of its own shows that they are taken. */
    json_t *j;
    assert_int_equal(assay_json_load(&j, path, NULL), ASSAY_OK);
    json_array_set_new(json_array_get(json_object_get(j, "kl"), 0), 0, json_real(123.0));
    assert_int_equal(assay_json_save(path, j, 0, NULL), ASSAY_OK);
    json_decref(j);
    make(&b, "rtn,int4g32", 3.0, ASSAY_SENSITIVITY_KL, path);
    assert_true(b.units[0].kl[0] == 123.0);
    assert_true(b.units[1].kl[0] == a.units[1].kl[0]);
    assay_mixture_deinit(&b);
    make(&b, "rtn,int4g32,symmetric=false", 3.5, ASSAY_SENSITIVITY_KL, path); /* other grids, other figures */
    assert_true(b.units[0].kl[0] != 123.0);
    assay_mixture_deinit(&a);
    assay_mixture_deinit(&b);
    tiny_remove(dir);
    assay_free(path);
    assay_free(dir);
}

static void bad_wishes_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *precisions, *message;
        double bpw;
        assay_status code;
    } cases[] = {
        {"rtn,int4g32", "int4g32 int8g32", "the least is 4.5", 3, ASSAY_EUSAGE},
        {"rtn,int4g32", "int4g32 int9", "'int9' is no precision", 5, ASSAY_EUSAGE},
        {"rtn,int4g32", "", "is empty", 5, ASSAY_EUSAGE},
        {"rtn,int4g32", "int4g32 nf4", "method rtn cannot make nf4", 5, ASSAY_EUSAGE},
        {"gptq,int4g32", "int4g32 nf4", "not written by compressed-tensors", 5, ASSAY_EUNSUPPORTED},
        {"rtn,int4g32", "int4g32", "one of them", 0, ASSAY_EUSAGE},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_recipe *r = recipe(cases[i].line);
        assay_mixture m;
        assay_err err = {0};
        assay_mixture_opts o = {.target_bpw = cases[i].bpw, .precisions = cases[i].precisions, .n_threads = 1};
        assert_int_equal(assay_mixture_make(&m, model, r, &calibration, &o, &err), cases[i].code);
        if (!strstr(err.message, cases[i].message)) fail_msg("gave: %s", err.message);
        assay_recipe_free(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_assignment_is_the_best_there_is),
        cmocka_unit_test(a_budget_below_the_least_is_not_feasible),
        cmocka_unit_test(units_are_what_runtimes_fuse_and_more_bits_lose_less),
        cmocka_unit_test(gradients_tell_the_same_as_divergences),
        cmocka_unit_test(the_recipe_says_what_was_assigned_and_makes_a_checkpoint_of_that_size),
        cmocka_unit_test(what_was_measured_is_not_measured_again),
        cmocka_unit_test(bad_wishes_are_refused),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
