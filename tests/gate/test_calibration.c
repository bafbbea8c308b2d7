/* test_calibration.c: does the gate keep its promises? Simulated studies, fixed seeds, the demo's shape: 5
 * dimensions, 16 slices, 200 items each.
 *
 * A study draws, per item, whether the baseline is right and whether the variant flips it. Nothing lost:
 * flips go both ways alike. Then one slice loses 4.2 points: with the 5.7 % of flips that go with it, the
 * smallest loss that 200 items find with 80 % power (2.486 sqrt(f/n)). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/rng.h"
#include "gate/cards.h"
#include "stat/decide.h"

#define STUDIES 2000
#define ITEMS 200
#define ROWS 21 /* judged: 5 dimensions and 16 slices */

static const struct {
    const char *dimension, *slice;
    double accuracy, flips; /* of the baseline; share of items that flip, half each way */
} shape[16] = {
    {"math", "add2", 0.99, 0.010},        {"math", "add3", 0.95, 0.040},
    {"math", "sub2", 0.82, 0.080},        {"math", "word", 0.97, 0.020},
    {"code", "assign", 0.80, 0.080},      {"code", "loop", 0.99, 0.010},
    {"code", "branch", 0.97, 0.030},      {"code", "reverse", 0.99, 0.015},
    {"structured", "flat", 1.00, 0.000},  {"structured", "nested", 0.99, 0.010},
    {"structured", "typed", 0.98, 0.020}, {"recall", "4 keys", 0.99, 0.010},
    {"recall", "8 keys", 0.97, 0.030},    {"recall", "24 keys", 0.85, 0.100},
    {"knowledge", "common", 0.99, 0.010}, {"knowledge", "rare", 0.95, 0.050},
};

typedef struct world {
    cards c;
    assay_policy policy;
    assay_rng rng;
} world;

static int build(void **state) {
    world *w = calloc(1, sizeof *w);
    cards_init(&w->c);
    assay_policy_init(&w->policy);
    for (int s = 0; s < 16; s++) cards_add(&w->c, shape[s].dimension, shape[s].slice, ITEMS, 1, 1);
    cards_close(&w->c);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    cards_free(&w->c);
    free(w);
    return 0;
}

/* Flips of slice s: P(right -> wrong), P(wrong -> right), over all items. */
static void draw_slice(world *w, int s, double down, double up) {
    double accuracy = fmin(fmax(shape[s].accuracy, down), 1 - up);
    for (int i = 0; i < ITEMS; i++) {
        size_t at = (size_t)(s * ITEMS + i);
        double u = assay_rng_double(&w->rng); /* [0, down): right -> wrong; up to accuracy: right; then wrong
                                                 -> right; the rest wrong */
        w->c.records[0][at].score = u < accuracy;
        w->c.records[1][at].score = u >= down && u < accuracy + up;
    }
}

static assay_gate *study(world *w, int planted, double down, double up) {
    assay_gate *g = NULL;
    assay_err e = {0};
    for (int s = 0; s < 16; s++) {
        if (s == planted) draw_slice(w, s, down, up);
        else
            draw_slice(w, s, shape[s].flips / 2, shape[s].flips / 2);
    }
    assay_gate_opts o = {.today = "2026-11-21"};
    if (assay_gate_compare(&g, &w->c.side[0], &w->c.side[1], NULL, &w->policy, &o, &e) != ASSAY_OK)
        fail_msg("%s", e.message);
    return g;
}

static double percent(int n) {
    return 100.0 * n / STUDIES;
}

static void baseline_against_itself_raises_no_alarm(void **state) {
    world *w = *state;
    int alarms = 0, fails = 0, unadjusted = 0, passes = 0, row_pass = 0;
    assay_rng_init(&w->rng, 20261121);
    for (int i = 0; i < STUDIES; i++) {
        assay_gate *g = study(w, -1, 0, 0);
        bool any = false;
        for (size_t r = 0; r < g->n_rows; r++) any = any || g->rows[r].p <= 0.05;
        unadjusted += any;
        alarms += g->n_alarm > 0;
        fails += g->n_fail > 0;
        passes += g->verdict == ASSAY_VERDICT_PASS;
        row_pass += (int)g->n_pass;
        assert_int_equal(g->n_rows, ROWS);
        assay_gate_free(g);
    }
    print_message("# %d studies of a baseline against itself, 16 slices of %d items, 0 to 10 %% flips, "
                  "margins 2 and 4 points, seed 20261121:\n",
                  STUDIES, ITEMS);
    print_message("#   false harm alarms (Holm, 5 %%): %.2f %%; false failures: %.2f %%; unadjusted 5 %% "
                  "tests would alarm in %.1f %%\n",
                  percent(alarms), percent(fails), percent(unadjusted));
    print_message(
        "#   rows that pass: %.1f %%; studies that pass as a whole: %.1f %% (the rest ask for more items)\n",
        percent(row_pass) / ROWS, percent(passes));
    assert_true(percent(alarms) <= 5);
    assert_true(percent(fails) <= 5);
    assert_true(percent(unadjusted) > 20); /* the adjustment is needed */
}

static void a_planted_loss_is_found(void **state) {
    world *w = *state;
    const double loss = 0.042, flips = 0.0571, down = (flips + loss) / 2, up = (flips - loss) / 2;
    const int planted = 14; /* knowledge/common */
    int found = 0, alarm = 0, pass = 0, fail = 0, study_pass = 0;
    assay_rng_init(&w->rng, 42);
    for (int i = 0; i < STUDIES; i++) {
        assay_gate *g = study(w, planted, down, up);
        const assay_gate_row *r = row_of(g, shape[planted].dimension, shape[planted].slice);
        found += r->p <= 0.05;
        alarm += r->alarm;
        pass += r->verdict == ASSAY_VERDICT_PASS;
        fail += r->verdict == ASSAY_VERDICT_FAIL;
        study_pass += g->verdict == ASSAY_VERDICT_PASS;
        assay_gate_free(g);
    }
    double power = 100 * assay_power_harm(flips, loss, ITEMS, 0.05),
           holm = 100 * assay_power_harm(flips, loss, ITEMS, 0.05 / ROWS);
    print_message(
        "# a loss of %.1f points planted in one slice of %d items with %.1f %% flips, %d studies, seed 42:\n",
        100 * loss, ITEMS, 100 * flips, STUDIES);
    print_message("#   one-sided 5 %% test of the slice: found in %.1f %%, formula %.1f %%; smallest "
                  "detectable loss at 80 %%: %.2f points\n",
                  percent(found), power, 100 * assay_mde_paired(flips, ITEMS, 0.05, 0.8));
    print_message("#   alarm after Holm over %d rows: %.1f %%, formula at 5 %%/%d: %.1f %%; items for 80 %%: "
                  "%.0f unadjusted, %.0f with Holm\n",
                  ROWS, percent(alarm), ROWS, holm, ceil(assay_items_harm(flips, loss, 0.05, 0.8)),
                  ceil(assay_items_harm(flips, loss, 0.05 / ROWS, 0.8)));
    print_message("#   the slice wrongly passes its margin of 4 points: %.2f %%; fails %.1f %%; inconclusive "
                  "%.1f %%; the study passes: %.2f %%\n",
                  percent(pass), percent(fail), percent(STUDIES - pass - fail), percent(study_pass));
    assert_true(fabs(percent(found) - power) <= 5);
    assert_true(fabs(percent(alarm) - holm) <= 8);
    assert_true(percent(pass) <=
                5.5); /* true loss just beyond the margin: at most 1 - confidence, and simulation error */
    assert_true(study_pass <= pass);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(baseline_against_itself_raises_no_alarm, build, teardown),
        cmocka_unit_test_setup_teardown(a_planted_loss_is_found, build, teardown),
    };
    return cmocka_run_group_tests_name("calibration", tests, NULL, NULL);
}
