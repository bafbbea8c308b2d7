/* Runs: what a record holds, going on with what is done, outcomes, stopping, refusing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "eval/eval.h"
#include "eval/fake_runtime.h"

#define ITEM(id, prompt, answer) "{\"id\": \"" id "\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"" prompt "\", \"answer\": \"" answer "\", \"evaluator\": \"exact\"}\n"
#define CHOICE(id) "{\"id\": \"" id "\", \"dimension\": \"k\", \"slice\": \"s\", \"prompt\": \"r?\", \"choices\": [\"x\", \"y\"], \"answer\": \"x\", \"evaluator\": \"choice\"}\n"
#define SUITE "suite: s\nversion: 1\nitems: [i]\nmax_tokens: 4\n"
#define ITEMS ITEM("a", "4+1", "5") ITEM("b", "say 42", "42") CHOICE("c") ITEM("d", "long", "x") ITEM("e", "6*7", "42")

typedef struct log_of {
    char order[256];
    int64_t position[16];
    double score[16];
    assay_outcome outcome[16];
    char hashes[16][200];
    size_t n;
    const char *done;      /* ids that are done, in one string */
    size_t stop_after;     /* the progress says stop then; 0: never */
    size_t reports;
} log_of;

static assay_status take(void *ctx, int64_t position, const assay_record *r, assay_err *err) {
    log_of *l = ctx;
    (void)err;
    strncat(l->order, r->item_id, sizeof l->order - strlen(l->order) - 1);
    l->position[l->n] = position;
    l->score[position] = r->score;
    l->outcome[position] = r->outcome;
    snprintf(l->hashes[position], sizeof l->hashes[position], "%.64s%.64s%.64s", r->item_hash, r->prompt_hash, r->ids_hash);
    l->n++;
    return ASSAY_OK;
}

static bool is_done(void *ctx, const char *id) {
    const log_of *l = ctx;
    return l->done && strstr(l->done, id);
}

static int on_progress(void *ctx, const char *phase, double done, double total, const char *unit) {
    log_of *l = ctx;
    assert_string_equal(phase, "scoring x");
    assert_string_equal(unit, "items");
    assert_true(done <= total && (total == 5 || total == 3));
    return l->stop_after && ++l->reports >= l->stop_after;
}

static const char *answers(const char *prompt) {
    return strstr(prompt, "long") ? "abcdefgh" : strstr(prompt, "4+1") ? " 5" : "42";
}

static assay_status evaluate(log_of *l, fake_runtime *f, const char *yaml, const char *items, int batch, assay_err *err) {
    assay_suite *s = NULL;
    assay_evaluation *e = NULL;
    f->answer = answers;
    assay_progress p = {on_progress, l};
    assay_evaluation_calls c = {.done = is_done, .record = take, .ctx = l, .progress = &p, .phase = "scoring x"};
    if (assay_suite_parse(&s, yaml, strlen(yaml), items, strlen(items), "s", err) != ASSAY_OK) fail_msg("%s", err->message);
    assay_status st = assay_evaluation_new(&e, s, &f->base, &(assay_evaluation_opts){.batch = batch}, err);
    if (st == ASSAY_OK) st = assay_evaluation_run(e, &c, err);
    assay_evaluation_free(e);
    assay_suite_free(s);
    return st;
}

static void every_item_becomes_one_record(void **state) {
    (void)state;
    for (int batch = 1; batch < 7; batch++) {
        log_of l = {.n = 0};
        assay_err err = {0};
        fake_runtime *f = fake_open(false, 512, NULL);
        assert_int_equal(evaluate(&l, f, SUITE, ITEMS, batch, &err), ASSAY_OK);
        assert_int_equal(l.n, 5);
        assert_true(l.score[0] == 1 && l.score[1] == 1 && l.score[3] == 0 && l.score[4] == 1);
        assert_int_equal(l.outcome[3], ASSAY_OUTCOME_TRUNCATED); /* 8 tokens, 4 allowed */
        assert_int_equal(l.outcome[0], ASSAY_OUTCOME_OK);
        assay_runtime_close(&f->base);
    }
}

/* Each record is the same whatever was done before and in whatever batches. */
static void a_run_goes_on_where_it_was(void **state) {
    (void)state;
    log_of whole = {.n = 0}, rest = {.done = "a c e"};
    assay_err err = {0};
    fake_runtime *f = fake_open(false, 512, NULL);
    assert_int_equal(evaluate(&whole, f, SUITE, ITEMS, 3, &err), ASSAY_OK);
    f->n_generated = f->n_scored = 0;
    assert_int_equal(evaluate(&rest, f, SUITE, ITEMS, 2, &err), ASSAY_OK);
    assert_int_equal(rest.n, 2);
    assert_int_equal(f->n_generated, 2);
    assert_int_equal(f->n_scored, 0);
    for (size_t i = 1; i < 4; i += 2) assert_string_equal(whole.hashes[i], rest.hashes[i]);
    assay_runtime_close(&f->base);
}

static void a_stop_comes_after_a_whole_record(void **state) {
    (void)state;
    log_of l = {.stop_after = 2};
    assay_err err = {0};
    fake_runtime *f = fake_open(false, 512, NULL);
    assert_int_equal(evaluate(&l, f, SUITE, ITEMS, 3, &err), ASSAY_EINTR);
    assert_int_equal(l.n, 2);
    assay_runtime_close(&f->base);
}

static void a_failing_runtime_keeps_what_was_finished(void **state) {
    (void)state;
    log_of l = {.n = 0};
    assay_err err = {0};
    fake_runtime *f = fake_open(false, 512, NULL);
    f->fail_after = 3;
    assert_int_equal(evaluate(&l, f, SUITE, ITEMS, 1, &err), ASSAY_EIO);
    assert_true(l.n == 2 || l.n == 3);
    assay_runtime_close(&f->base);
}

/* Also within one batch of scored items: a kill costs what is in work, not the batch. */
static void scored_items_are_records_as_they_finish(void **state) {
    (void)state;
    static const char items[] =
        "{\"id\": \"a\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"x:\", \"answer\": \"y\", \"choices\": [\"y\", \"n\"], \"evaluator\": \"choice\"}\n"
        "{\"id\": \"b\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"z:\", \"answer\": \"y\", \"choices\": [\"y\", \"n\"], \"evaluator\": \"choice\"}\n"
        "{\"id\": \"c\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"w:\", \"answer\": \"y\", \"choices\": [\"y\", \"n\"], \"evaluator\": \"choice\"}\n";
    log_of l = {.n = 0};
    assay_err err = {0};
    fake_runtime *f = fake_open(false, 512, NULL);
    f->fail_after = 5; /* two items and one choice */
    assert_int_equal(evaluate(&l, f, SUITE, items, 10, &err), ASSAY_EIO);
    assert_int_equal(l.n, 2);
    assay_runtime_close(&f->base);
}

static void a_prompt_that_does_not_fit_is_an_error_record(void **state) {
    (void)state;
    log_of l = {.n = 0};
    assay_err err = {0};
    fake_runtime *f = fake_open(false, 5, NULL);
    assert_int_equal(evaluate(&l, f, SUITE, ITEMS, 3, &err), ASSAY_OK);
    assert_int_equal(l.outcome[1], ASSAY_OUTCOME_ERROR); /* "say 42" has six tokens */
    assert_int_equal(l.outcome[0], ASSAY_OUTCOME_OK);
    assay_runtime_close(&f->base);
}

static void what_the_runtime_cannot_do_is_refused(void **state) {
    (void)state;
    static const struct { unsigned caps; const char *yaml, *want; } cases[] = {
        {ASSAY_CAN_GENERATE, SUITE, "evaluator choice needs a runtime that can give log-probabilities of given tokens"},
        {ASSAY_CAN_SCORE, SUITE, "evaluator exact needs a runtime that can generate text"},
        {ASSAY_CAN_GENERATE | ASSAY_CAN_SCORE, SUITE "chat: true\n", "the suite wants a chat template"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        log_of l = {.n = 0};
        assay_err err = {0};
        fake_runtime *f = fake_open(false, 512, NULL);
        f->base.caps = cases[i].caps;
        assert_int_equal(evaluate(&l, f, cases[i].yaml, ITEMS, 3, &err), ASSAY_EUNSUPPORTED);
        if (!strstr(err.message, cases[i].want)) fail_msg("'%s'", err.message);
        assay_runtime_close(&f->base);
    }
}

/* The prompt's hash tells a chat template, a system message and examples from none. */
static void prompts_are_part_of_the_record(void **state) {
    (void)state;
    static const char template[] = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}";
    static const char *const suites[] = {SUITE, SUITE "chat: true\n", SUITE "chat: {system: be brief}\n"};
    log_of l[3] = {{.n = 0}, {.n = 0}, {.n = 0}};
    for (size_t i = 0; i < 3; i++) {
        assay_err err = {0};
        fake_runtime *f = fake_open(false, 512, template);
        assert_int_equal(evaluate(&l[i], f, suites[i], ITEMS, 3, &err), ASSAY_OK);
        assay_runtime_close(&f->base);
    }
    assert_string_not_equal(l[0].hashes[0], l[1].hashes[0]);
    assert_string_not_equal(l[1].hashes[0], l[2].hashes[0]);
    assert_memory_equal(l[0].hashes[0], l[2].hashes[0], 64); /* the item is the same */
}

/* The prompt of one chat item, as its template makes it. */
static const char *prompt_hash_of(log_of *l, const char *template, const char *yaml, const char *items) {
    assay_err err = {0};
    fake_runtime *f = fake_open(false, 512, template);
    assay_suite *s = NULL;
    assay_evaluation *e = NULL;
    assay_evaluation_calls c = {.record = take, .ctx = l};
    l->n = 0;
    assert_int_equal(assay_suite_parse(&s, yaml, strlen(yaml), items, strlen(items), "s", &err), ASSAY_OK);
    assert_int_equal(assay_evaluation_new(&e, s, &f->base, NULL, &err), ASSAY_OK);
    assert_int_equal(assay_evaluation_run(e, &c, &err), ASSAY_OK);
    assay_evaluation_free(e);
    assay_suite_free(s);
    assay_runtime_close(&f->base);
    return l->hashes[0] + 64;
}

static void expect_prompt(const char *template, const char *yaml, const char *items, const char *want) {
    log_of l = {.n = 0};
    char hash[ASSAY_HASH_HEX];
    assay_hash_bytes(hash, want, strlen(want));
    assert_memory_equal(prompt_hash_of(&l, template, yaml, items), hash, 64);
}

/* A suite whose prompts say what day it is asks the same questions tomorrow, so that a study can go on then. */
static void a_template_is_told_the_suites_day(void **state) {
    (void)state;
    static const char template[] = "{{ strftime_now('%d %b %Y') }}: {{ messages[0]['content'] }}";
    static const char item[] = "{\"id\": \"a\", \"dimension\": \"d\", \"slice\": \"s\", \"prompt\": \"hi\", \"answer\": \"42\", \"evaluator\": \"exact\"}";
    expect_prompt(template, "suite: x\nversion: 1\nitems: i\nchat: true\n", item, "26 Jul 2024: hi");
    expect_prompt(template, "suite: x\nversion: 1\nitems: i\nchat: {date: 2026-02-03}\n", item, "03 Feb 2026: hi");
    assay_suite *s;
    assay_err err = {0};
    static const char bad[] = "suite: x\nversion: 1\nitems: i\nchat: {date: today}\n";
    assert_int_equal(assay_suite_parse(&s, bad, strlen(bad), item, strlen(item), "s", &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "s:4: date must be like 2024-07-26, not 'today'"));
}

/* Examples stand between the system message and the question, also when the item brings its own system message. */
static void an_items_own_system_message_comes_first(void **state) {
    (void)state;
    static const char template[] = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}";
    static const char item[] = "{\"id\": \"a\", \"dimension\": \"d\", \"slice\": \"s\", \"answer\": \"42\", \"evaluator\": \"exact\", \"messages\": "
                               "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"Q\"}]}";
    log_of l = {.n = 0};
    assay_err err = {0};
    assay_suite *s = NULL;
    assay_evaluation *e = NULL;
    assay_evaluation_calls c = {.record = take, .ctx = &l};
    fake_runtime *f = fake_open(false, 512, template);
    static const char yaml[] = "suite: x\nversion: 1\nitems: i\nchat: {system: other}\n";
    char hash[ASSAY_HASH_HEX];
    static const char want[] = "<system>S<user>q<assistant>a<user>Q";
    assay_shot shot = {.dimension = "d", .prompt = "q", .answer = "a"};
    assert_int_equal(assay_suite_parse(&s, yaml, strlen(yaml), item, strlen(item), "s", &err), ASSAY_OK);
    assay_suite with_shot = *s; /* from memory one text stands for every file: the example is put in by hand */
    with_shot.shots = &shot;
    with_shot.n_shots = 1;
    with_shot.few_shot = 1;
    assert_int_equal(assay_evaluation_new(&e, &with_shot, &f->base, NULL, &err), ASSAY_OK);
    assert_int_equal(assay_evaluation_run(e, &c, &err), ASSAY_OK);
    assay_hash_bytes(hash, want, strlen(want));
    assert_memory_equal(l.hashes[0] + 64, hash, 64);
    assay_evaluation_free(e);
    assay_suite_free(s);
    assay_runtime_close(&f->base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_becomes_one_record), cmocka_unit_test(a_run_goes_on_where_it_was),
        cmocka_unit_test(a_stop_comes_after_a_whole_record), cmocka_unit_test(a_failing_runtime_keeps_what_was_finished),
        cmocka_unit_test(a_prompt_that_does_not_fit_is_an_error_record), cmocka_unit_test(what_the_runtime_cannot_do_is_refused),
        cmocka_unit_test(prompts_are_part_of_the_record), cmocka_unit_test(scored_items_are_records_as_they_finish),
        cmocka_unit_test(a_template_is_told_the_suites_day), cmocka_unit_test(an_items_own_system_message_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
