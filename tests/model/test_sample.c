/* Choosing tokens: greedy ties, log-sum-exp, and that sampling has the distribution it claims (chi-square
 * with fixed seeds). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "model/sample.h"

static void greedy_takes_the_lowest_id_on_ties(void **state) {
    (void)state;
    float logits[100];
    for (size_t i = 0; i < 100; i++) logits[i] = -1;
    logits[97] = logits[41] = 3;
    assert_int_equal(assay_argmax(logits, 100), 41);
    assert_int_equal(assay_argmax(logits + 41, 1), 0);
    assert_int_equal(assay_argmax(logits, 30), 0);
    for (size_t i = 0; i < 100; i++) logits[i] = NAN;
    assert_int_equal(assay_argmax(logits, 100), -1);
    for (size_t i = 0; i < 100; i++) logits[i] = -INFINITY;
    assert_int_equal(assay_argmax(logits, 100), -1);
}

static void log_sum_exp_is_exact_enough(void **state) {
    (void)state;
    const float equal[] = {2, 2, 2, 2}, large[] = {1000, 1000 + 1, -1000};
    assert_true(fabs(assay_log_sum_exp(equal, 4) - (2 + log(4))) < 1e-14);
    assert_true(fabs(assay_log_sum_exp(large, 3) - (1001 + log1p(exp(-1)))) < 1e-12);
}

static void divergences_are_those_of_the_distributions(void **state) {
    (void)state;
    const float a[] = {0, 1, -2, 1000}, b[] = {0.5f, 1, -2, 1000}, c[] = {0, (float)log(3)}, d[] = {0, 0}, one[] = {0, -INFINITY};
    float p[4], q[4];
    assay_log_softmax(p, a, 4);
    assert_true(p[3] == 0 && p[0] == -1000 && p[1] == -999);
    assert_true(assay_kl(p, p, 4) == 0);
    assay_log_softmax(p, c, 2); /* 1/4, 3/4 against 1/2, 1/2 */
    memcpy(q, d, sizeof d);
    assay_log_softmax(q, q, 2); /* in place */
    assert_true(fabs(assay_kl(p, q, 2) - (0.25 * log(0.5) + 0.75 * log(1.5))) < 1e-7);
    assay_log_softmax(q, one, 2);
    assert_true(isinf(assay_kl(p, q, 2)));                   /* q rules out what p does not */
    assert_true(fabs(assay_kl(q, p, 2) - log(4)) < 1e-7); /* the other way round it costs nothing */
    assay_log_softmax(p, a, 3), assay_log_softmax(q, b, 3);
    assert_true(assay_kl(p, q, 3) > 0 && assay_kl(p, q, 3) != assay_kl(q, p, 3));
}

enum { N = 6, DRAWS = 20000 };
static const float logits6[N] = {1.0f, 3.0f, 2.0f, -1.0f, 2.0f, 0.5f};

/* Draws many tokens and compares their frequencies with p; 20.5 is the 0.1 % point of chi-square with 5
 * degrees of freedom. */
static void check_distribution(const assay_sample_opts *o, const double *p) {
    size_t count[N] = {0};
    assay_sampler s = {0};
    assay_rng rng;
    assay_rng_init(&rng, 7);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id;
        assert_int_equal(assay_sample(&id, &s, logits6, N, o, &rng, NULL), ASSAY_OK);
        assert_in_range(id, 0, N - 1);
        count[id]++;
    }
    double chi2 = 0;
    for (int i = 0; i < N; i++) {
        if (p[i] == 0)
            assert_int_equal(count[i], 0);
        else
            chi2 += pow((double)count[i] - DRAWS * p[i], 2) / (DRAWS * p[i]);
    }
    assert_true(chi2 < 20.5);
    assay_sampler_deinit(&s);
}

static void softmax_of(double *p, double temperature, const int *kept) {
    double total = 0;
    for (int i = 0; i < N; i++) total += p[i] = kept[i] ? exp((double)logits6[i] / temperature) : 0;
    for (int i = 0; i < N; i++) p[i] /= total;
}

static void draws_have_their_distribution(void **state) {
    (void)state;
    double p[N];
    softmax_of(p, 1, (int[]){1, 1, 1, 1, 1, 1});
    check_distribution(&(assay_sample_opts){.temperature = 1, .top_p = 1}, p);
    softmax_of(p, 2.5, (int[]){1, 1, 1, 1, 1, 1});
    check_distribution(&(assay_sample_opts){.temperature = 2.5}, p);
    /* of the two ids with logit 2 the lower one is kept */
    softmax_of(p, 1, (int[]){0, 1, 1, 0, 0, 0});
    check_distribution(&(assay_sample_opts){.temperature = 1, .top_k = 2}, p);
    /* p = .51 .19 .19 .07 .04 .01: 0.85 is reached by the first three */
    softmax_of(p, 1, (int[]){0, 1, 1, 0, 1, 0});
    check_distribution(&(assay_sample_opts){.temperature = 1, .top_p = 0.85}, p);
    /* top-k first, then the nucleus of what is left */
    softmax_of(p, 1, (int[]){0, 1, 1, 0, 0, 0});
    check_distribution(&(assay_sample_opts){.temperature = 1, .top_k = 3, .top_p = 0.7}, p);
    check_distribution(&(assay_sample_opts){.temperature = 1, .top_p = 1e-9}, (double[N]){0, 1, 0, 0, 0, 0});
}

static void greedy_draws_no_number(void **state) {
    (void)state;
    assay_rng a, b;
    assay_sampler s = {0};
    int32_t id;
    assay_rng_init(&a, 3);
    assay_rng_init(&b, 3);
    assert_int_equal(assay_sample(&id, &s, logits6, N, &(assay_sample_opts){0}, &a, NULL), ASSAY_OK);
    assert_int_equal(id, 1);
    assert_true(assay_rng_next(&a) == assay_rng_next(&b));
    assay_rng_next(&b); /* a drawn token takes one number, whatever the options */
    assert_int_equal(assay_sample(&id, &s, logits6, N,
                                  &(assay_sample_opts){.temperature = 1, .top_k = 4, .top_p = 0.5}, &a, NULL),
                     ASSAY_OK);
    assert_true(assay_rng_next(&a) == assay_rng_next(&b));
    assay_sampler_deinit(&s);
}

static void damaged_logits_are_an_error(void **state) {
    (void)state;
    const float bad[] = {NAN, NAN}, infinite[] = {1, INFINITY};
    assay_sampler s = {0};
    assay_rng rng;
    assay_err err = {0};
    int32_t id;
    assay_rng_init(&rng, 1);
    assert_int_equal(assay_sample(&id, &s, bad, 2, &(assay_sample_opts){.temperature = 1}, &rng, &err),
                     ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "not finite"));
    assert_int_equal(assay_sample(&id, &s, infinite, 2, &(assay_sample_opts){0}, &rng, NULL), ASSAY_EINPUT);
    assay_sampler_deinit(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_id_on_ties), cmocka_unit_test(log_sum_exp_is_exact_enough),
        cmocka_unit_test(divergences_are_those_of_the_distributions),
        cmocka_unit_test(draws_have_their_distribution),      cmocka_unit_test(greedy_draws_no_number),
        cmocka_unit_test(damaged_logits_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
