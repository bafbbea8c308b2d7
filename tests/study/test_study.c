/* Whole studies on the demo model with a few items: what is done is not done again, whatever stopped the run before. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "method/importance_run.h"
#include "study/study.h"

static char dir[64], study_file[96], out_dir[96];

#define SUITE "suite: small\nversion: 1\nitems: [%s/models/demo/items.jsonl]\nchat: true\nlimit: 2\nmax_tokens: 48\n" \
              "language: {prose: {file: %s/models/demo/prose.txt, limit: 3, evaluators: [perplexity_rolling, kl]}}\n"
#define STUDY "study: small\nmodel: %s/models/demo\nsuite: suite.yaml\nbaseline: {name: bf16}\nvariants:\n"
#define INT4 "  - {name: int4, method: rtn, precision: int4, group_size: 64}\n"
#define NF4 "  - {name: nf4, method: nf4}\n"
#define RECORDS (16 * 2 + 2 * 3)

static void put(const char *name, const char *format, const char *more) {
    char path[160], cwd[512], text[4096];
    assay_err err = {0};
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(path, sizeof path, "%s/%s", dir, name);
    size_t n = (size_t)snprintf(text, sizeof text, format, cwd, cwd);
    n += (size_t)snprintf(text + n, sizeof text - n, "%s", more);
    assert_int_equal(assay_write_file(path, text, n, &err), ASSAY_OK);
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/assay-test-study-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(study_file, sizeof study_file, "%s/study.yaml", dir);
    snprintf(out_dir, sizeof out_dir, "%s/out", dir);
    put("suite.yaml", SUITE, "");
    put("study.yaml", STUDY, INT4);
    return 0;
}

static void shell(const char *command) {
    char text[256];
    snprintf(text, sizeof text, "%s %s", command, dir);
    if (system(text)) fail_msg("%s", text);
}

static int teardown(void **state) {
    (void)state;
    shell("rm -rf");
    return 0;
}

static assay_study_result *run(const assay_study_exec *more) {
    assay_study_exec o = more ? *more : (assay_study_exec){0};
    assay_err err = {0};
    assay_study_result *r = NULL;
    o.out_dir = out_dir;
    o.runtime.n_threads = 1;
    if (assay_study_run(&r, study_file, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return r;
}

static const assay_study_step *step(const assay_study_result *r, const char *kind, const char *name) {
    size_t n;
    const assay_study_step *st = assay_study_steps(r, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(st[i].kind, kind) && !strcmp(st[i].name, name)) return &st[i];
    fail_msg("no step %s %s", kind, name);
    return NULL;
}

static int64_t records_made(const assay_study_result *r) {
    size_t n;
    int64_t sum = 0;
    const assay_study_step *st = assay_study_steps(r, &n);
    for (size_t i = 0; i < n; i++) sum += st[i].items;
    return sum;
}

static void a_study_comes_to_its_report(void **state) {
    (void)state;
    assay_study_result *r = run(NULL);
    const assay_report *report = assay_study_report(r);
    assert_int_equal(records_made(r), 3 * RECORDS); /* baseline, rerun, variant */
    assert_int_equal(report->n_variants, 2);
    assert_true(report->variants[0].is_baseline);
    assert_true(report->variants[1].effective_bpw < 8);
    assert_int_equal(report->variants[1].n_losses, 4 * 7);
    assert_int_equal(report->variants[1].gate->aa_flips, 0);
    assert_true(report->variants[1].kl.n > 50 && report->variants[1].kl.mean > 0);
    assert_true(assay_path_exists(assay_study_html_path(r)));
    assay_study_result_free(r);
}

/* What the report marks: how many bits, a mixture or not, what the cache is kept as. */
static void a_report_says_what_its_variants_are(void **state) {
    (void)state;
    put("study.yaml", STUDY, INT4 "  - {name: low, method: rtn, precision: int4, group_size: 64, override: [{match: 'mlp', precision: int3}]}\n"
                                  "  - {name: cached, kv: int8}\n");
    assay_study_result *r = run(NULL);
    const assay_report_variant *v = assay_study_report(r)->variants;
    assert_true(!v[0].code_bits && !v[0].mixture && !v[0].kv && isnan(v[0].quantized_bpw));
    assert_true(v[1].code_bits == 4 && !v[1].mixture && !v[1].kv);
    assert_float_equal(v[1].quantized_bpw, 4 + 16 / 64.0, 0.05);
    assert_true(v[1].quantized_bpw < v[1].effective_bpw); /* the embedding keeps its 16 bits */
    assert_true(v[2].code_bits == 3 && v[2].mixture);
    assert_true(v[2].quantized_bpw > 3 && v[2].quantized_bpw < v[1].quantized_bpw);
    assert_true(!v[3].code_bits && !v[3].mixture);
    assert_string_equal(v[3].kv, "int8");
    assay_study_result_free(r);
}

/* Margins that everything passes: the smallest is for research, so it is not taken unless the study allows it. */
static void research_is_shown_and_not_shipped(void **state) {
    static const char variants[] = INT4 "  - {name: low, method: rtn, precision: int3, group_size: 64}\n"
                                        "policy: {margin: 100 pt, slice_margin: 100 pt, confidence: 0.6, max_output_length_ratio: 100, max_truncated_rate: 100 pt, max_invalid_rate: 100 pt}\n";
    char allowed[sizeof variants + 32];
    (void)state;
    put("study.yaml", STUDY, variants);
    assay_study_result *r = run(NULL);
    assert_string_equal(assay_study_report(r)->decision.chosen, "int4");
    assay_study_result_free(r);
    snprintf(allowed, sizeof allowed, "%sresearch: allow\n", variants);
    put("study.yaml", STUDY, allowed);
    r = run(NULL);
    assert_int_equal(records_made(r), 0); /* another decision, no other work */
    assert_string_equal(assay_study_report(r)->decision.chosen, "low");
    assay_study_result_free(r);
}

static void a_second_run_does_nothing_again(void **state) {
    (void)state;
    assay_study_result_free(run(NULL));
    assay_study_result *r = run(NULL);
    assert_int_equal(records_made(r), 0);
    assert_true(step(r, "quantize", "int4")->was_done && step(r, "score", "int4")->was_done && step(r, "score", "bf16")->was_done);
    assay_study_result_free(r);
}

static void a_new_variant_costs_only_itself_even_without_the_files_of_before(void **state) {
    (void)state;
    assay_study_result_free(run(NULL));
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s/variants %s/cache", out_dir, out_dir);
    assert_int_equal(system(command), 0);
    put("study.yaml", STUDY, INT4 NF4);
    assay_study_result *r = run(NULL);
    assert_int_equal(records_made(r), RECORDS);
    assert_true(step(r, "quantize", "int4")->was_done);
    assert_false(step(r, "quantize", "nf4")->was_done);
    assert_true(assay_study_report(r)->variants[2].kl.n > 50); /* the baseline's distributions were made again */
    assay_study_result_free(r);
}

static void a_renamed_variant_is_the_same_work(void **state) {
    (void)state;
    assay_study_result_free(run(NULL));
    put("study.yaml", STUDY, "  - {name: other, method: rtn, precision: int4, group_size: 64}\n");
    assay_study_result *r = run(NULL);
    assert_int_equal(records_made(r), 0);
    assert_string_equal(assay_study_report(r)->variants[1].name, "other");
    assert_non_null(assay_study_report(r)->variants[1].gate);
    assay_study_result_free(r);
}

static int stop_after(void *ctx, const char *phase, double done, double total, const char *unit) {
    long *left = ctx;
    (void)phase; (void)done; (void)total; (void)unit;
    return (*left)-- <= 0;
}

/* Interrupted everywhere: each run goes on where the last one stopped, and the records are those of one undisturbed run. */
static void an_interrupted_study_goes_on(void **state) {
    (void)state;
    int64_t sum = 0;
    size_t stops = 0;
    for (long budget = 5;; budget += 9) {
        long left = budget;
        assay_progress p = {stop_after, &left};
        assay_study_exec o = {.out_dir = out_dir, .progress = &p, .runtime.n_threads = 1};
        assay_err err = {0};
        assay_study_result *r = NULL;
        assay_status s = assay_study_run(&r, study_file, &o, &err);
        if (s == ASSAY_OK) {
            sum += records_made(r);
            assay_study_result_free(r);
            break;
        }
        assert_int_equal(s, ASSAY_EINTR);
        stops++;
        assert_true(stops < 100);
    }
    assert_true(stops >= 3);
    assert_true(sum < 3 * RECORDS); /* the last run made only what was left */
    assay_err err = {0};
    assay_store *store;
    char db[128];
    snprintf(db, sizeof db, "%s/assay.db", out_dir);
    assert_int_equal(assay_store_open(&store, db, &(assay_store_opts){.read_only = true}, &err), ASSAY_OK);
    assert_int_equal(assay_store_check(store, &err), ASSAY_OK);
    assay_store_close(store);
}

static void a_dry_run_makes_nothing(void **state) {
    (void)state;
    assay_study_result *r = run(&(assay_study_exec){.dry_run = true});
    size_t n;
    assay_study_steps(r, &n);
    assert_int_equal(n, 4); /* quantize, score three times */
    assert_null(assay_study_report(r));
    assert_false(assay_path_exists(out_dir));
    assay_study_result_free(r);
}

static void a_store_recalls_its_study(void **state) {
    (void)state;
    char db[128];
    assay_err err = {0};
    assay_study_result *r = run(NULL), *again = NULL;
    snprintf(db, sizeof db, "%s/assay.db", out_dir);
    if (assay_study_recall(&again, db, NULL, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assay_str a = {0}, b = {0};
    assert_int_equal(assay_report_markdown(&a, assay_study_report(r), &err), ASSAY_OK);
    assert_int_equal(assay_report_markdown(&b, assay_study_report(again), &err), ASSAY_OK);
    assert_string_equal(assay_str_c(&a), assay_str_c(&b));
    assay_str_free(&a);
    assay_str_free(&b);
    assay_study_result_free(again);
    assay_study_result_free(r);
    assert_int_equal(assay_study_recall(&again, db, "nosuch", &err), ASSAY_ENOTFOUND);
}

static void a_recipe_that_cannot_be_followed_is_one_variants_problem(void **state) {
    (void)state;
    put("study.yaml", STUDY, INT4 "  - {name: odd, method: rtn, precision: int4, group_size: 100}\n");
    assay_study_result *r = run(NULL);
    const assay_report *report = assay_study_report(r);
    assert_non_null(report->variants[1].gate);
    assert_null(report->variants[2].gate);
    assert_non_null(strstr(report->variants[2].problem, "100"));
    assay_study_result_free(r);
}

/* An importance matrix of the demo model into DIR/w.gguf. */
static void weigh(void) {
    int32_t ids[48];
    size_t first[3] = {0, 20, 48};
    char path[128];
    for (int i = 0; i < 48; i++) ids[i] = (i * 37 + 5) % 300;
    assay_calibration c = {.ids = ids, .first = first, .n_seqs = 2, .hash = "h"};
    assay_importance_opts o = {.dataset = "numbers", .n_threads = 1};
    assay_importance_result res;
    assay_err err = {0};
    snprintf(path, sizeof path, "%s/w.gguf", dir);
    if (assay_importance_run(&res, "models/demo", path, &c, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

static const char *sha_of_weights(json_t **manifest, const char *variant) {
    char path[200];
    assay_err err = {0};
    snprintf(path, sizeof path, "%s/variants/%s/assay.json", out_dir, variant);
    if (assay_json_load(manifest, path, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return json_string_value(json_object_get(json_object_get(*manifest, "imatrix"), "sha256"));
}

static void an_importance_matrix_from_a_file_is_the_variants_and_in_its_key(void **state) {
    (void)state;
    char path[128], hex[ASSAY_HASH_HEX];
    json_t *a, *b;
    weigh();
    put("study.yaml", STUDY, "  - {name: weighed, method: gguf, precision: q2_k, imatrix: w.gguf}\n  - {name: plain, method: gguf, precision: q2_k, imatrix: none}\n");
    assay_study_result *r = run(NULL);
    snprintf(path, sizeof path, "%s/w.gguf", dir);
    assert_int_equal(assay_hash_file(hex, path, NULL), ASSAY_OK);
    assert_string_equal(sha_of_weights(&a, "weighed"), hex);
    assert_null(sha_of_weights(&b, "plain"));
    assert_string_not_equal(step(r, "quantize", "weighed")->key, step(r, "quantize", "plain")->key);
    const assay_report_variant *v = assay_study_report(r)->variants;
    assert_true(v[1].kl.mean > 0 && v[1].kl.mean != v[2].kl.mean);
    assay_study_result_free(r);
    json_decref(a);
    json_decref(b);
    assert_int_equal(remove(path), 0);
    assay_err err = {0};
    assert_int_equal(assay_study_run(&r, study_file, &(assay_study_exec){.out_dir = out_dir}, &err), ASSAY_ENOTFOUND);
    assert_non_null(strstr(err.message, "variant weighed"));
}

/* Neither a checkpoint that cannot be opened stops the study. */
static void a_checkpoint_that_is_no_good_is_one_variants_problem(void **state) {
    (void)state;
    char command[1024], cwd[512], more[256];
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(command, sizeof command, "cp -rL '%s/models/demo' %s/bad && sed -i 's/\"num_hidden_layers\": 4/\"num_hidden_layers\": 5/' %s/bad/config.json", cwd, dir, dir);
    if (system(command)) fail_msg("%s", command);
    snprintf(more, sizeof more, "  - {name: bad, path: %s/bad}\n" INT4, dir);
    put("study.yaml", STUDY, more);
    assay_study_result *r = run(NULL);
    const assay_report *report = assay_study_report(r);
    assert_null(report->variants[1].gate);
    assert_non_null(strstr(report->variants[1].problem, "layers.4"));
    assert_non_null(report->variants[2].gate);
    assay_study_result_free(r);
}

static void two_runs_do_not_share_a_folder(void **state) {
    (void)state;
    char command[256];
    assay_study_result_free(run(NULL));
    snprintf(command, sizeof command, "flock -n %s/.lock true", out_dir);
    assert_int_equal(system(command), 0); /* released */
    snprintf(command, sizeof command, "exec 9>%s/.lock; flock -n 9 && sleep 3", out_dir);
    FILE *holder = popen(command, "r");
    assert_non_null(holder);
    usleep(500000);
    assay_err err = {0};
    assay_study_result *r = NULL;
    assert_int_equal(assay_study_run(&r, study_file, &(assay_study_exec){.out_dir = out_dir}, &err), ASSAY_EUSAGE);
    assert_non_null(strstr(err.message, "another run works in"));
    pclose(holder);
}

int main(void) {
#define EACH(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        EACH(a_study_comes_to_its_report), EACH(a_report_says_what_its_variants_are), EACH(research_is_shown_and_not_shipped), EACH(a_second_run_does_nothing_again), EACH(a_new_variant_costs_only_itself_even_without_the_files_of_before),
        EACH(a_renamed_variant_is_the_same_work), EACH(an_interrupted_study_goes_on), EACH(a_dry_run_makes_nothing),
        EACH(a_store_recalls_its_study), EACH(a_recipe_that_cannot_be_followed_is_one_variants_problem), EACH(two_runs_do_not_share_a_folder),
        EACH(an_importance_matrix_from_a_file_is_the_variants_and_in_its_key),
        EACH(a_checkpoint_that_is_no_good_is_one_variants_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
