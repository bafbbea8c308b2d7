/* test_gate.c: verdicts on scorecards made by hand; what is refused, judged, waived and explained. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "gate/cards.h"
#include "stat/paired.h"
#include "stat/special.h"

static assay_gate *compare_with(cards *c, const assay_policy *p, bool rerun, const char *today) {
    assay_gate *g = NULL;
    assay_err e = {0};
    assay_gate_opts o = {.today = today};
    cards_close(c);
    if (assay_gate_compare(&g, &c->side[0], &c->side[1], rerun ? &c->side[2] : NULL, p, &o, &e) != ASSAY_OK)
        fail_msg("%s", e.message);
    return g;
}

static assay_gate *compare(cards *c, const assay_policy *p) {
    return compare_with(c, p, false, "2026-11-21");
}

static void policy(assay_policy *p, const char *yaml) {
    assay_yaml_doc *d = NULL;
    assay_err e = {0};
    if (assay_yaml_parse(&d, yaml, strlen(yaml), "p.yaml", &e) != ASSAY_OK ||
        assay_policy_from_yaml(p, d, assay_yaml_root(d), &e) != ASSAY_OK)
        fail_msg("%s", e.message);
    assay_yaml_free(d);
}

static void near(double got, double want, double tol, const char *what) {
    if (!(fabs(got - want) <= tol)) fail_msg("%s: %.12g, expected %.12g", what, got, want);
}

/* --- the three verdicts --- */

static void a_small_loss_passes(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 190, 4, 3, 3);
    cards_table(&c, "math", "sub2", 195, 0, 0, 5);
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    assert_int_equal(g->verdict, ASSAY_VERDICT_PASS);
    assert_int_equal(g->n_rows, 3);
    const assay_gate_row *r = &g->rows[1];
    assert_string_equal(r->slice, "add2");
    assert_null(g->rows[0].slice); /* the dimension comes first */
    near(r->baseline, 194.0 / 200, 1e-12, "baseline");
    near(r->variant, 193.0 / 200, 1e-12, "variant");
    near(r->diff, -1.0 / 200, 1e-12, "difference");
    double lo, hi;
    assay_pairs t = {.both = 190, .up = 3, .down = 4, .neither = 3};
    assay_tango(&lo, &hi, &t, assay_norm_quantile(0.95));
    near(r->lower, lo, 0, "lower");
    near(r->upper, hi, 0, "upper");
    near(r->p, assay_mcnemar_harm_midp(&t), 0, "p");
    near(r->level, 0.9, 1e-12, "level");
    near(r->flip_rate, 7.0 / 200, 1e-12, "flips");
    assert_true(r->right_wrong == 4 && r->wrong_right == 3 && r->both_right == 190 && r->both_wrong == 3);
    assert_true(r->n == 200 && r->n_paired == 200 && r->n_clusters == 200);
    assert_string_equal(r->interval, "tango");
    assert_non_null(strstr(r->reason, "loses at most"));
    assert_true(isnan(r->items_needed) && isnan(r->aa_flip_rate));
    assert_true(g->n_flips == 7 && g->n_flips_to_wrong == 4 && g->n_flips_to_right == 3);
    assert_true(g->flips[0].to_wrong && !g->flips[6].to_wrong);
    assert_string_equal(g->flips[0].cand_output, "17");
    assay_gate_free(g);
    cards_free(&c);
}

static void a_large_loss_fails(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 150, 45, 2, 3);
    cards_table(&c, "code", "loop", 200, 0, 0, 0);
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    assert_int_equal(g->verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(row_of(g, "math", "add2")->verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(row_of(g, "math", NULL)->verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(row_of(g, "code", NULL)->verdict, ASSAY_VERDICT_PASS);
    assert_true(row_of(g, "math", "add2")->alarm);
    assert_non_null(strstr(g->reason, "math: loses at least"));
    assert_non_null(strstr(g->reason, "1 more fail"));
    assay_gate_free(g);
    cards_free(&c);
}

/* Ten items say nothing about four points; the gate says how many would. */
static void too_few_items_are_inconclusive(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 10, 0, 0, 0);
    assay_policy p;
    policy(&p, "margin: 4 pt\n");
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "math", "add2");
    assert_int_equal(r->verdict, ASSAY_VERDICT_INCONCLUSIVE);
    assert_int_equal(g->verdict, ASSAY_VERDICT_INCONCLUSIVE);
    assert_non_null(strstr(r->reason, "items would settle it, there are 10"));
    double needed = r->items_needed;
    assert_true(needed > 10 && g->items_needed == needed);
    assay_gate_free(g);
    cards_free(&c);
    cards_init(&c); /* and that many do settle it */
    cards_table(&c, "math", "add2", (int)needed, 0, 0, 0);
    g = compare(&c, &p);
    assert_int_equal(g->verdict, ASSAY_VERDICT_PASS);
    assay_gate_free(g);
    cards_free(&c);
    assay_policy_deinit(&p);
}

/* A loss that is certain but smaller than the margin is an alarm, not a failure. */
static void a_certain_small_loss_is_an_alarm_and_passes(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 4940, 50, 10, 0);
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "math", NULL);
    assert_int_equal(r->verdict, ASSAY_VERDICT_PASS);
    assert_true(r->alarm && r->p_holm < 0.001 && g->n_alarm == 2);
    assert_non_null(strstr(r->reason, "a small loss is significant"));
    assay_gate_free(g);
    cards_free(&c);
}

/* Harm that survives Holm with an estimate beyond the margin fails although the upper bound does not clear
 * the margin. */
static void a_certain_loss_beyond_the_margin_fails(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 189, 10, 1, 0);
    assay_policy p;
    policy(&p, "margin: 4 pt\n");
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "math", "add2");
    assert_true(r->upper > -r->margin && r->diff < -r->margin && r->alarm);
    assert_int_equal(r->verdict, ASSAY_VERDICT_FAIL);
    assert_non_null(strstr(r->reason, "is significant (Holm p"));
    assay_gate_free(g);
    cards_free(&c);
    assay_policy_deinit(&p);
}

static void identical_scorecards_pass_without_a_flip(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 150, 0, 0, 50);
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare_with(&c, &p, true, NULL);
    const assay_gate_row *r = row_of(g, "math", NULL);
    assert_int_equal(g->verdict, ASSAY_VERDICT_PASS);
    assert_true(g->n_flips == 0 && r->diff == 0 && r->aa_flips == 0 && r->aa_flip_rate == 0 &&
                g->n_changed == 0);
    near(r->length.value, 1, 0, "length ratio");
    assay_gate_free(g);
    c.records[2][3].score = 0; /* the baseline's own noise */
    g = compare_with(&c, &p, true, NULL);
    assert_true(g->aa_flips == 1 && row_of(g, "math", "add2")->aa_flips == 1);
    assay_gate_free(g);
    cards_free(&c);
}

/* --- clusters and means --- */

/* 40 passages with 5 questions each; flips come in whole passages: the interval must be wider than that of
 * 200 items. */
static void clusters_widen_the_interval(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    for (int i = 0; i < 40; i++) {
        cards_table(&c, "read", "long", i < 36 ? 5 : 0, i == 36 || i == 37 ? 5 : 0, i >= 38 ? 5 : 0, 0);
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        char *cluster = assay_arena_strndup(&c.pool, name, strlen(name));
        for (int k = 0; k < 3; k++)
            for (size_t j = c.n - 5; j < c.n; j++) c.records[k][j].cluster = cluster;
    }
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "read", "long");
    assert_int_equal(r->n_clusters, 40);
    assert_string_equal(r->interval, "tango, clustered");
    double lo, hi;
    assay_pairs t = {.both = 180, .up = 10, .down = 10};
    assay_tango(&lo, &hi, &t, assay_norm_quantile(0.95));
    assert_true(r->lower < 1.8 * lo && r->upper > 1.8 * hi);
    assay_gate_free(g);
    cards_free(&c);
}

static void set_metric(cards *c, size_t from, const char *evaluator, double base, double cand, double weight,
                       double aux) {
    for (int k = 0; k < 3; k++)
        for (size_t i = from; i < c->n; i++) {
            assay_record *r = &c->records[k][i];
            r->evaluator = LIT(evaluator);
            r->binary = false;
            r->score = (k == 1 ? cand : base) + 0.001 * (double)(i % 7) * (k == 1);
            r->weight = weight + (double)(i % 5);
            r->aux = aux;
            r->n_output = 0;
        }
}

static void perplexity_is_reported_or_judged(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_add(&c, "perplexity", "prose", 100, 0, 0);
    set_metric(&c, 0, "perplexity_rolling", 2.0, 2.01, 100, NAN);
    cards_table(&c, "math", "add2", 200, 0, 0, 0);
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "perplexity", NULL);
    assert_int_equal(r->metric, ASSAY_METRIC_PERPLEXITY);
    assert_int_equal(r->verdict, ASSAY_VERDICT_INFO);
    near(r->baseline, exp(2), 1e-9, "baseline perplexity");
    near(r->variant / r->baseline, exp(-r->diff), 1e-12, "ratio");
    assert_true(r->diff < 0 && r->lower < r->diff && r->diff < r->upper);
    assert_string_equal(r->interval, "bca");
    assert_true(isnan(r->p_holm) && !r->alarm && isnan(r->length.value));
    assert_int_equal(g->verdict, ASSAY_VERDICT_PASS);
    assay_gate_free(g);
    policy(&p, "{perplexity_margin: 2 %, interval: t}\n");
    g = compare(&c, &p);
    assert_int_equal(row_of(g, "perplexity", NULL)->verdict, ASSAY_VERDICT_PASS);
    assert_string_equal(row_of(g, "perplexity", "prose")->interval, "t");
    near(row_of(g, "perplexity", "prose")->margin, log(1.02), 1e-12, "margin");
    assay_gate_free(g);
    assay_policy_deinit(&p);
    policy(&p, "{dimensions: {perplexity: 0.005}}\n");
    g = compare(&c, &p);
    assert_int_equal(row_of(g, "perplexity", NULL)->verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(row_of(g, "perplexity", "prose")->verdict, ASSAY_VERDICT_FAIL);
    assert_non_null(strstr(g->reason, "rises by at least"));
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

static void kl_is_a_tripwire(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_add(&c, "kl", "prose", 60, 0, 0);
    set_metric(&c, 0, "kl", 0, 0.01, 50, 0.97);
    assay_policy p;
    policy(&p, "{kl_margin: 0.02, agreement_margin: 2 %}\n");
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "kl", NULL);
    assert_true(isnan(r->p) && !r->alarm); /* KL above 0 is no evidence of harm */
    near(r->variant, 0.013, 0.001, "KL");
    near(r->agreement.value, 0.03, 1e-12, "disagreement");
    assert_int_equal(r->verdict, ASSAY_VERDICT_FAIL); /* the score passes, the agreement does not */
    assert_int_equal(row_of(g, "kl", "prose")->verdict, ASSAY_VERDICT_PASS);
    assert_non_null(strstr(r->reason, "rises by at most"));
    assert_non_null(strstr(r->reason, "other top-1 tokens 3 %, limit 2 %"));
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

/* --- limits --- */

static void limits_are_judged_on_dimensions(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 200, 0, 0, 0);
    for (size_t i = 0; i < 200; i++) c.records[1][i].n_output = 7 + (int64_t)(i % 3);
    for (size_t i = 0; i < 6; i++) c.records[1][i].outcome = ASSAY_OUTCOME_TRUNCATED;
    c.records[1][9].outcome = ASSAY_OUTCOME_INVALID;
    assay_policy p;
    policy(&p, "{max_output_length_ratio: 1.1, max_truncated_rate: 2 %, max_invalid_rate: 2 %}\n");
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "math", NULL);
    assert_int_equal(r->verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(r->length.verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(r->truncated.verdict, ASSAY_VERDICT_FAIL);
    assert_int_equal(r->invalid.verdict, ASSAY_VERDICT_PASS);
    near(r->length.value, 8 / 5.0, 0.01, "length ratio");
    near(r->truncated.value, 0.03, 1e-12, "truncated");
    assert_true(r->cand.truncated == 6 && r->cand.invalid == 1 && r->cand.ok == 193 && r->base.ok == 200);
    assert_non_null(strstr(r->reason, "output length ratio 1.6, limit 1.1"));
    assert_int_equal(row_of(g, "math", "add2")->verdict, ASSAY_VERDICT_PASS);
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

static void failed_items_cannot_hide_a_loss(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 200, 0, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        c.records[1][i].outcome = ASSAY_OUTCOME_ERROR;
        c.records[1][i].score = NAN;
        c.records[1][i].prompt_hash = NULL;
        c.records[1][i].ids_hash = NULL;
    }
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "math", NULL);
    assert_true(r->n == 200 && r->n_paired == 197 && r->cand.error == 3);
    assert_int_equal(r->verdict, ASSAY_VERDICT_INCONCLUSIVE);
    assert_non_null(strstr(r->reason, "items that failed to run 1.5 %, limit 0 %"));
    assert_true(isfinite(r->diff) && isnan(g->items_needed));
    assay_gate_free(g);
    for (size_t i = 0; i < 200; i++) c.records[1][i].outcome = ASSAY_OUTCOME_ERROR;
    g = compare(&c, &p);
    assert_int_equal(g->verdict, ASSAY_VERDICT_INCONCLUSIVE);
    assert_non_null(strstr(row_of(g, "math", "add2")->reason, "no item was scored on both sides"));
    assay_gate_free(g);
    cards_free(&c);
}

/* --- margins and waivers --- */

static void the_most_special_margin_counts(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 100, 0, 0, 0);
    cards_table(&c, "math", "sub2", 100, 0, 0, 0);
    cards_table(&c, "code", "loop", 100, 0, 0, 0);
    assay_policy p;
    policy(&p, "margin: 2 pt\nslice_margin: 4 pt\ndimensions:\n  math: {margin: 1 pt, slice_margin: 3 pt, "
               "slices: {sub2: 6 pt}}\n  code: 5 pp\n");
    assay_gate *g = compare(&c, &p);
    near(row_of(g, "math", NULL)->margin, 0.01, 1e-12, "math");
    near(row_of(g, "math", "add2")->margin, 0.03, 1e-12, "math/add2");
    near(row_of(g, "math", "sub2")->margin, 0.06, 1e-12, "math/sub2");
    near(row_of(g, "code", NULL)->margin, 0.05, 1e-12, "code");
    near(row_of(g, "code", "loop")->margin, 0.04, 1e-12, "code/loop");
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

static void waivers_cover_until_they_expire(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 1500, 0, 0, 0);
    cards_table(&c, "math", "sub2", 20, 5, 0, 0);
    assay_policy p;
    policy(&p, "waivers:\n  - {slice: math/sub2, who: a.person, why: \"known, fixed in 2.1\", expires: "
               "2026-11-21}\n");
    assay_gate *g = compare_with(&c, &p, false, "2026-11-21T08:00:00Z"); /* its last day */
    const assay_gate_row *r = row_of(g, "math", "sub2");
    assert_int_equal(r->verdict, ASSAY_VERDICT_WAIVED);
    assert_string_equal(r->waiver->who, "a.person");
    assert_non_null(strstr(r->reason, "waived by a.person: known, fixed in 2.1"));
    assert_int_equal(g->verdict, ASSAY_VERDICT_PASS);
    assert_int_equal(g->n_waived, 1);
    assay_gate_free(g);
    g = compare_with(&c, &p, false, "2026-11-22");
    r = row_of(g, "math", "sub2");
    assert_int_equal(r->verdict, ASSAY_VERDICT_FAIL);
    assert_true(r->waiver_expired);
    assert_non_null(strstr(r->reason, "a.person's waiver expired on 2026-11-21"));
    assert_int_equal(g->verdict, ASSAY_VERDICT_FAIL);
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

static void policy_must_speak_of_what_is_there(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"required: [structured]", "dimension 'structured' is required"},
        {"dimensions: {mth: 1 pt}", "a margin is set for mth"},
        {"dimensions: {math: {slices: {add9: 1 pt}}}", "a margin is set for math/add9"},
        {"waivers: [{slice: math/add9, who: x, why: y}]", "a waiver covers math/add9"},
    };
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 10, 0, 0, 0);
    cards_close(&c);
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_policy p;
        assay_gate *g;
        assay_err e = {0};
        policy(&p, cases[i][0]);
        assert_int_equal(assay_gate_compare(&g, &c.side[0], &c.side[1], NULL, &p, NULL, &e), ASSAY_EINPUT);
        if (!strstr(e.message, cases[i][1])) fail_msg("%s", e.message);
        assay_policy_deinit(&p);
    }
    cards_free(&c);
}

/* --- refusals --- */

static void refuse(cards *c, const char *expected) {
    assay_gate *g = NULL;
    assay_policy p;
    assay_err e = {0};
    assay_policy_init(&p);
    assert_int_equal(assay_gate_compare(&g, &c->side[0], &c->side[1], NULL, &p, NULL, &e), ASSAY_EMISMATCH);
    assert_null(g);
    if (!strstr(e.message, expected)) fail_msg("'%s' lacks '%s'", e.message, expected);
}

static void what_differs_is_named(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 50, 0, 0, 0);
    cards_close(&c);
    assay_record *v = c.records[1];
    v[7].prompt_hash = v[9].prompt_hash = LIT("ph2");
    refuse(&c, "2 of 50 items differ in the prompt, first math-add2-0007 (ph against ph2)");
    v[8].evaluator_version = 2; /* what weighs more is said first */
    refuse(&c, "1 of 50 items differ in the evaluator's version, first math-add2-0008 (exact 1 against 2)");
    v[8].evaluator_version = 1;
    v[7].prompt_hash = v[9].prompt_hash = LIT("ph");
    v[0].ids_hash = LIT("other");
    refuse(&c, "1 of 50 items differ in the token ids, first math-add2-0000");
    v[0].ids_hash = NULL;
    refuse(&c, "(xh against none)");
    v[0].ids_hash = LIT("xh");
    v[49].item_hash = LIT("changed");
    refuse(&c, "1 of 50 items differ in the item itself, first math-add2-0049");
    v[49].item_hash = LIT("ih");
    v[3].slice = LIT("add3");
    refuse(&c, "dimension, slice or cluster");
    v[3].slice = LIT("add2");
    c.card[1].d.template_hash = "uuuu";
    refuse(&c, "chat template tttt against uuuu");
    c.card[1].d.template_hash = "tttt";
    c.card[0].d.manifest = "{\"kl\": \"one\"}";
    c.card[1].d.manifest = "{\"kl\": \"two\"}";
    refuse(&c, "the kl of one is from baseline one, of the other from two: score nf4 with --baseline bf16");
    c.card[1].d.manifest = "{\"kl\": \"one\"}";
    c.card[1].d.suite_hash = "bbbb";
    refuse(&c, "suite aaaa against bbbb");
    char *id = v[5].item_id;
    v[5].item_id = LIT("stranger");
    refuse(&c, "(their suites differ): 1 items are only in bf16, first math-add2-0005; 1 only in nf4");
    v[5].item_id = id;
    c.card[1].d.suite_hash = "aaaa";
    v[5].item_id = v[6].item_id;
    v[6].item_id = id;
    refuse(&c, "the same items in another order");
    v[6].item_id = v[5].item_id;
    v[5].item_id = id;
    c.side[1].n = 49;
    refuse(&c, "scorecard nf4 is not complete, 49 of 50 items are recorded");
    c.card[1].d.n_items = 49;
    refuse(&c, "1 items are only in bf16, first math-add2-0049");
    c.side[1].n = 50;
    c.card[1].d.n_items = 50;
    c.card[0].complete = false;
    refuse(&c, "scorecard bf16 is not complete");
    cards_free(&c);
}

static void metrics_must_not_mix(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 5, 0, 0, 0);
    cards_add(&c, "math", "prose", 5, 0, 0);
    set_metric(&c, 5, "perplexity_rolling", 2, 2, 1, NAN);
    cards_close(&c);
    assay_gate *g;
    assay_policy p;
    assay_err e = {0};
    assay_policy_init(&p);
    assert_int_equal(assay_gate_compare(&g, &c.side[0], &c.side[1], NULL, &p, NULL, &e), ASSAY_EINPUT);
    assert_non_null(strstr(e.message, "dimension math mixes accuracy and perplexity (item math-prose-0005)"));
    cards_free(&c);
}

/* --- JSON and the store --- */

static void json_has_everything(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 90, 6, 2, 2);
    assay_policy p;
    policy(&p, "waivers: [{slice: math/add2, who: x, why: y}]");
    c.records[1][92].output = LIT("\xff"); /* a model may say anything */
    assay_gate *g = compare(&c, &p);
    json_t *j = assay_gate_to_json(g, true);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "schema")), "assay.verdict/1");
    assert_int_equal(json_array_size(json_object_get(j, "rows")), 2);
    assert_int_equal(json_array_size(json_object_get(j, "flips")), 8);
    const json_t *row = json_array_get(json_object_get(j, "rows"), 1);
    assert_int_equal(json_integer_value(json_object_get(row, "right_to_wrong")), 6);
    assert_string_equal(json_string_value(json_object_get(row, "verdict")), "waived");
    assert_string_equal(json_string_value(json_object_get(json_object_get(row, "waiver"), "who")), "x");
    assert_true(json_is_null(json_object_get(row, "aa_flip_rate")));
    assay_str text = {0};
    assert_int_equal(assay_json_dump(&text, j, 2, false, NULL), ASSAY_OK);
    assay_str_free(&text);
    json_decref(j);
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

static void from_the_store(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 190, 4, 3, 3);
    cards_close(&c);
    char dir[] = "/tmp/assay-gate-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s.db", dir);
    assay_store *s = NULL;
    assay_err e = {0};
    assert_int_equal(assay_store_open(&s, path, NULL, &e), ASSAY_OK);
    int64_t id[2];
    for (int k = 0; k < 2; k++) {
        assert_int_equal(assay_scorecard_begin(&id[k], NULL, NULL, s, &c.card[k].d, &e), ASSAY_OK);
        for (size_t i = 0; i < c.n; i++)
            assert_int_equal(assay_scorecard_put(s, id[k], (int64_t)i, &c.records[k][i], &e), ASSAY_OK);
    }
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = NULL, *direct = compare(&c, &p);
    assert_int_equal(assay_scorecard_finish(s, id[0], &e), ASSAY_OK);
    assert_int_equal(assay_gate_run(&g, s, id[0], id[1], &p, NULL, &e),
                     ASSAY_EMISMATCH); /* the variant is not finished */
    e = (assay_err){0};
    assert_int_equal(assay_scorecard_finish(s, id[1], &e), ASSAY_OK);
    assay_gate_opts o = {.today = "2026-11-21"};
    assert_int_equal(assay_gate_run(&g, s, id[0], id[1], &p, &o, &e), ASSAY_OK);
    json_t *a = assay_gate_to_json(g, true), *b = assay_gate_to_json(direct, true);
    assert_true(json_equal(a, b));
    json_decref(a);
    json_decref(b);
    assay_gate_free(g);
    assay_gate_free(direct);
    e = (assay_err){0};
    assert_int_equal(assay_gate_run(&g, s, id[0], 99, &p, NULL, &e), ASSAY_ENOTFOUND);
    assay_store_close(s);
    remove(path);
    rmdir(dir);
    cards_free(&c);
}

static void out_of_memory_is_reported(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 20, 3, 1, 2);
    cards_add(&c, "kl", "prose", 25, 0, 0);
    set_metric(&c, 26, "kl", 0, 0.01, 50, 0.97);
    cards_close(&c);
    assay_policy p;
    assay_policy_init(&p);
    int failures = 0;
    for (long i = 0; i < 400; i++) {
        assay_gate *g = NULL;
        assay_err e = {0};
        assay_mem_fail_after(i);
        assay_status st = assay_gate_compare(&g, &c.side[0], &c.side[1], &c.side[2], &p, NULL, &e);
        assay_mem_fail_after(-1);
        if (st == ASSAY_OK) {
            assay_gate_free(g);
            break;
        }
        assert_int_equal(st, ASSAY_ENOMEM);
        assert_null(g);
        failures++;
    }
    assert_in_range(failures, 5, 399);
    cards_free(&c);
}

/* The figures of docs/gate.md. */
static void the_worked_example(void **state) {
    (void)state;
    cards c;
    cards_init(&c);
    cards_table(&c, "math", "add2", 192, 3, 2, 3);
    cards_table(&c, "math", "sub2", 158, 14, 4, 24);
    assay_policy p;
    assay_policy_init(&p);
    assay_gate *g = compare(&c, &p);
    const assay_gate_row *r = row_of(g, "math", "sub2");
    near(r->lower, -0.08851, 5e-6, "lower");
    near(r->upper, -0.01635, 5e-6, "upper");
    near(r->p, 0.009605, 5e-7, "p");
    near(r->p_holm, 0.02882, 5e-6, "Holm");
    near(r->mde, 0.05275, 5e-6, "MDE");
    assert_string_equal(r->reason,
                        "the loss of 5.00 pt is significant (Holm p 0.029) and beyond the margin of 4.00 pt");
    assert_string_equal(row_of(g, "math", "add2")->reason, "loses at most 2.83 pt (95 %), margin 4.00 pt");
    assert_int_equal(g->verdict, ASSAY_VERDICT_FAIL);
    assay_gate_free(g);
    policy(&p, "{margin: 6 pt, slice_margin: 8 pt}");
    g = compare(&c, &p);
    assert_string_equal(
        row_of(g, "math", "sub2")->reason,
        "the loss is between 1.63 pt and 8.85 pt, margin 8.00 pt: 602 items would settle it, there are 200");
    assert_int_equal(g->verdict, ASSAY_VERDICT_INCONCLUSIVE);
    near(g->items_needed, 1204, 0, "items for the whole");
    assay_gate_free(g);
    assay_policy_deinit(&p);
    cards_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_loss_passes),
        cmocka_unit_test(a_large_loss_fails),
        cmocka_unit_test(too_few_items_are_inconclusive),
        cmocka_unit_test(a_certain_small_loss_is_an_alarm_and_passes),
        cmocka_unit_test(a_certain_loss_beyond_the_margin_fails),
        cmocka_unit_test(identical_scorecards_pass_without_a_flip),
        cmocka_unit_test(clusters_widen_the_interval),
        cmocka_unit_test(perplexity_is_reported_or_judged),
        cmocka_unit_test(kl_is_a_tripwire),
        cmocka_unit_test(limits_are_judged_on_dimensions),
        cmocka_unit_test(failed_items_cannot_hide_a_loss),
        cmocka_unit_test(the_most_special_margin_counts),
        cmocka_unit_test(waivers_cover_until_they_expire),
        cmocka_unit_test(policy_must_speak_of_what_is_there),
        cmocka_unit_test(what_differs_is_named),
        cmocka_unit_test(metrics_must_not_mix),
        cmocka_unit_test(json_has_everything),
        cmocka_unit_test(the_worked_example),
        cmocka_unit_test(from_the_store),
        cmocka_unit_test(out_of_memory_is_reported),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
