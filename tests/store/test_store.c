/* test_store.c: what goes in comes out; nothing is scored twice; a full disk and a kill lose nothing that was
 * committed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "store/store.h"

typedef struct fixture {
    char dir[64], path[128];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/assay-store-XXXXXX");
    if (!mkdtemp(f->dir)) return -1;
    snprintf(f->path, sizeof f->path, "%s/a/store.db", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    char cmd[160];
    snprintf(cmd, sizeof cmd, "rm -rf %s", f->dir);
    int rc = system(cmd);
    free(f);
    return rc;
}

#define OK(expr)                                                                                             \
    do {                                                                                                     \
        assay_err e_ = {0};                                                                                  \
        assay_err *err = &e_;                                                                                \
        if ((expr) != ASSAY_OK) fail_msg("%s: %s", #expr, e_.message);                                       \
    } while (0)

static assay_store *open_store(const fixture *f, const assay_store_opts *o) {
    assay_store *s = NULL;
    OK(assay_store_open(&s, f->path, o, err));
    return s;
}

static assay_scorecard_desc desc(const char *key, int64_t n) {
    return (assay_scorecard_desc){.key = key,
                                  .study = "demo",
                                  .variant = "nf4",
                                  .role = ASSAY_ROLE_VARIANT,
                                  .model_path = "m",
                                  .model_hash = "mh",
                                  .suite = "suite.yaml",
                                  .suite_hash = "sh",
                                  .template_hash = "th",
                                  .n_items = n,
                                  .manifest = "{\"threads\": 2}"};
}

#define LIT(s) ((char *)(uintptr_t)(s)) /* records own their strings; those made here are never freed */

static assay_record record(char *id) {
    return (assay_record){.item_id = id,
                          .dimension = LIT("math"),
                          .slice = LIT("add2"),
                          .evaluator = LIT("exact"),
                          .evaluator_version = 3,
                          .item_hash = LIT("ih"),
                          .prompt_hash = LIT("ph"),
                          .ids_hash = LIT("xh"),
                          .output = LIT("7 \xc3\xa9 \"1\""),
                          .output_ids = LIT("[1,2]"),
                          .answer = LIT("71"),
                          .binary = true,
                          .score = 1,
                          .aux = NAN,
                          .weight = 1,
                          .outcome = ASSAY_OUTCOME_TRUNCATED,
                          .stop = LIT("length"),
                          .n_prompt = 12,
                          .n_output = 3,
                          .seconds = 0.25};
}

static void put(assay_store *s, int64_t card, int64_t position) {
    char id[32];
    snprintf(id, sizeof id, "item-%06d", (int)position);
    assay_record r = record(id);
    OK(assay_scorecard_put(s, card, position, &r, err));
}

static int64_t count_records(assay_store *s, int64_t card) {
    assay_record *r;
    size_t n;
    OK(assay_record_load(&r, &n, s, card, err));
    assay_records_free(r, n);
    return (int64_t)n;
}

/* --- records --- */

static void every_field_comes_back(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    int64_t id;
    bool complete;
    assay_scorecard_desc d = desc("k", 2);
    OK(assay_scorecard_begin(&id, &complete, NULL, s, &d, err));
    assert_false(complete);
    put(s, id, 1); /* out of order: read back in the suite's */
    put(s, id, 0);
    assay_record *r;
    size_t n;
    OK(assay_record_load(&r, &n, s, id, err));
    assert_int_equal(n, 2);
    assert_string_equal(r[0].item_id, "item-000000");
    char item[] = "item-000001";
    assay_record want = record(item);
    assert_string_equal(r[1].output, want.output);
    assert_string_equal(r[1].output_ids, want.output_ids);
    assert_string_equal(r[1].prompt_hash, "ph");
    assert_string_equal(r[1].ids_hash, "xh");
    assert_string_equal(r[1].stop, "length");
    assert_null(r[1].cluster);
    assert_null(r[1].detail);
    assert_true(isnan(r[1].aux));
    assert_true(r[1].binary && r[1].score == 1 && r[1].weight == 1 && r[1].seconds == 0.25);
    assert_int_equal(r[1].evaluator_version, 3);
    assert_int_equal(r[1].outcome, ASSAY_OUTCOME_TRUNCATED);
    assert_true(r[1].n_prompt == 12 && r[1].n_output == 3);
    assay_records_free(r, n);
    assay_store_close(s);
}

static void json_and_back(void **state) {
    (void)state;
    char item[] = "x";
    assay_record r = record(item), q;
    json_t *j = assay_record_to_json(&r);
    OK(assay_record_from_json(&q, j, "record", err));
    json_t *k = assay_record_to_json(&q);
    assert_true(json_equal(j, k));
    assert_true(json_is_null(json_object_get(j, "aux")));
    assert_string_equal(json_string_value(json_object_get(j, "outcome")), "truncated");
    assay_record_deinit(&q);
    json_decref(k);
    assay_err e = {0};
    json_object_set_new(j, "outcome", json_string("lucky"));
    assert_int_equal(assay_record_from_json(&q, j, "line 3", &e), ASSAY_EINPUT);
    assert_string_equal(e.message, "line 3: unknown outcome 'lucky'");
    json_decref(j);
    r.output = (char[]){'a',        (char)0xff, (char)0xe2,
                        (char)0x82, 'b',        0}; /* what a model cut in the middle of a character emits */
    j = assay_record_to_json(&r);
    assert_string_equal(json_string_value(json_object_get(j, "output")),
                        "a\xef\xbf\xbd\xef\xbf\xbd"
                        "b"); /* one for the stray byte, one for the character cut short */
    json_decref(j);
}

static void export_is_one_line_each(void **state) {
    fixture *f = *state;
    char out[160], *text;
    snprintf(out, sizeof out, "%s/r.jsonl", f->dir);
    assay_store *s = open_store(f, NULL);
    int64_t id;
    assay_scorecard_desc d = desc("k", 3);
    OK(assay_scorecard_begin(&id, NULL, NULL, s, &d, err));
    for (int i = 0; i < 3; i++) put(s, id, i);
    OK(assay_record_export(s, id, out, err));
    size_t size, lines = 0;
    OK(assay_read_file(&text, &size, out, 0, err));
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    assert_int_equal(lines, 3);
    assert_non_null(strstr(text, "\"item_id\":\"item-000002\""));
    assay_free(text);
    assay_store_close(s);
}

/* --- open or resume --- */

static void resume_knows_what_is_done(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    int64_t id, again;
    bool complete;
    assay_id_set done;
    assay_scorecard_desc d = desc("k", 4);
    OK(assay_scorecard_begin(&id, &complete, &done, s, &d, err));
    assert_int_equal(done.n, 0);
    put(s, id, 2);
    put(s, id, 0);
    assay_store_close(s); /* commits */
    s = open_store(f, NULL);
    OK(assay_scorecard_begin(&again, &complete, &done, s, &d, err));
    assert_true(again == id && !complete);
    assert_int_equal(done.n, 2);
    assert_true(assay_id_set_has(&done, "item-000000") && assay_id_set_has(&done, "item-000002"));
    assert_false(assay_id_set_has(&done, "item-000001"));
    assay_id_set_deinit(&done);
    assay_err e = {0};
    char item[] = "item-000002";
    assay_record r = record(item);
    assert_int_equal(assay_scorecard_put(s, id, 9, &r, &e), ASSAY_EINPUT); /* scored twice */
    e = (assay_err){0};
    assert_int_equal(assay_scorecard_finish(s, id, &e), ASSAY_EINTERNAL);
    assert_non_null(strstr(e.message, "2 records of 4 items"));
    put(s, id, 1);
    put(s, id, 3);
    OK(assay_scorecard_set_manifest(s, id, "{\"threads\": 1}", err));
    OK(assay_scorecard_finish(s, id, err));
    OK(assay_scorecard_begin(&again, &complete, NULL, s, &d, err));
    assert_true(again == id && complete);
    assay_scorecard c;
    OK(assay_scorecard_get(&c, s, id, err));
    assert_true(c.complete && c.n_records == 4 && c.d.n_items == 4);
    assert_string_equal(c.d.manifest, "{\"threads\": 1}");
    assert_string_equal(c.d.template_hash, "th");
    assert_non_null(c.finished);
    assay_scorecard_deinit(&c);
    OK(assay_store_check(s, err));
    assay_store_close(s);
}

static void failed_items_can_be_tried_again(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    int64_t id, n;
    bool complete;
    assay_scorecard_desc d = desc("k", 2);
    OK(assay_scorecard_begin(&id, NULL, NULL, s, &d, err));
    put(s, id, 0);
    char item[] = "item-000001";
    assay_record r = record(item);
    r.outcome = ASSAY_OUTCOME_ERROR;
    OK(assay_scorecard_put(s, id, 1, &r, err));
    OK(assay_scorecard_finish(s, id, err));
    OK(assay_scorecard_forget_errors(&n, s, id, err));
    assert_int_equal(n, 1);
    OK(assay_scorecard_begin(&id, &complete, NULL, s, &d, err));
    assert_false(complete);
    put(s, id, 1);
    OK(assay_scorecard_finish(s, id, err));
    OK(assay_scorecard_forget_errors(&n, s, id, err));
    assert_int_equal(n, 0);
    OK(assay_scorecard_begin(&id, &complete, NULL, s, &d, err));
    assert_true(complete);
    assay_store_close(s);
}

static assay_status count_cards(void *ctx, const assay_scorecard *c, assay_err *err) {
    (void)err;
    assert_non_null(c->d.variant);
    ++*(int *)ctx;
    return ASSAY_OK;
}

static assay_status first_study(void *ctx, const assay_study_row *r, assay_err *err) {
    (void)err;
    size_t n = strlen(ctx);
    snprintf((char *)ctx + n, 32 - n, "%s %d", r->name, (int)r->n_scorecards);
    return ASSAY_OK;
}

/* One scorecard serves two studies, under two names. */
static void studies_share_scorecards(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    int64_t a, b, c;
    int n = 0;
    assay_scorecard_desc d = desc("k1", 0), other = desc("k2", 0);
    OK(assay_scorecard_begin(&a, NULL, NULL, s, &d, err));
    OK(assay_scorecard_begin(&b, NULL, NULL, s, &other, err)); /* same study and variant, newer recipe */
    d.study = "later";
    d.variant = "four-bit";
    d.role = ASSAY_ROLE_BASELINE;
    OK(assay_scorecard_begin(&c, NULL, NULL, s, &d, err));
    assert_true(a == c && a != b);
    assay_scorecard card;
    OK(assay_scorecard_latest(&card, s, "demo", "nf4", err));
    assert_true(card.id == b);
    assay_scorecard_deinit(&card);
    OK(assay_scorecard_in_role(&card, s, "later", ASSAY_ROLE_BASELINE, err));
    assert_true(card.id == a);
    assert_string_equal(card.d.variant, "four-bit");
    assert_string_equal(card.d.study, "later");
    assay_scorecard_deinit(&card);
    OK(assay_scorecard_by_key(&card, s, "k2", err));
    assert_true(card.id == b);
    assay_scorecard_deinit(&card);
    OK(assay_scorecard_each(s, "demo", count_cards, &n, err));
    assert_int_equal(n, 2);
    n = 0;
    OK(assay_scorecard_each(s, NULL, count_cards, &n, err));
    assert_int_equal(n, 2);
    assay_err e = {0};
    assert_int_equal(assay_scorecard_latest(&card, s, "demo", "int9", &e), ASSAY_ENOTFOUND);
    assert_non_null(strstr(e.message, "there is nf4"));
    char studies[32] = "";
    OK(assay_study_each(s, first_study, studies, err));
    assert_true(!strcmp(studies, "demo 2later 1") || !strcmp(studies, "later 1demo 2"));
    assay_store_close(s);
}

/* --- steps, losses, documents --- */

static assay_status check_step(void *ctx, const assay_step *st, assay_err *err) {
    (void)err;
    assert_int_equal(json_integer_value(json_object_get(st->result, "bytes")), 7);
    ++*(int *)ctx;
    return ASSAY_OK;
}

static void steps_are_found_by_key(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    assay_step st;
    bool found;
    int n = 0;
    OK(assay_step_find(&st, &found, s, "k", err));
    assert_false(found);
    OK(assay_step_begin(s, "k", "demo", "quantize", "nf4", err));
    OK(assay_step_find(&st, &found, s, "k", err));
    assert_true(found && st.state == ASSAY_STEP_RUNNING && !st.result);
    assay_step_deinit(&st);
    OK(assay_step_fail(s, "k", "out of memory", 1.5, err));
    OK(assay_step_find(&st, &found, s, "k", err));
    assert_true(st.state == ASSAY_STEP_FAILED);
    assert_string_equal(st.message, "out of memory");
    assay_step_deinit(&st);
    OK(assay_step_begin(s, "k", "demo", "quantize", "nf4", err));
    json_t *result = json_pack("{s:i}", "bytes", 7);
    OK(assay_step_finish(s, "k", result, 2.5, err));
    json_decref(result);
    OK(assay_step_find(&st, &found, s, "k", err));
    assert_true(st.state == ASSAY_STEP_DONE && st.seconds == 4.0 && !st.message && st.finished);
    assert_string_equal(st.kind, "quantize");
    assay_step_deinit(&st);
    OK(assay_step_each(s, "demo", NULL, check_step, &n, err));
    OK(assay_step_each(s, "demo", "quantize", check_step, &n, err));
    OK(assay_step_each(s, "demo", "eval", check_step, &n, err));
    OK(assay_step_each(s, "other", NULL, check_step, &n, err));
    assert_int_equal(n, 2);
    assay_err e = {0};
    assert_int_equal(assay_step_finish(s, "never", NULL, 0, &e), ASSAY_EINTERNAL);
    assay_store_close(s);
}

static assay_status check_loss(void *ctx, const assay_layer_loss *l, assay_err *err) {
    (void)err;
    int *n = ctx;
    assert_int_equal(l->layer, *n);
    assert_true(l->weight_error == 0.01 * *n && isnan(l->output_error) && l->bits == 4.127);
    assert_string_equal(l->params, *n ? "{}" : "{\"clip\":1}");
    ++*n;
    return ASSAY_OK;
}

static void losses_are_replaced_whole(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    assay_layer_loss l[3];
    for (int i = 0; i < 3; i++)
        l[i] = (assay_layer_loss){.tensor = "t",
                                  .layer = i,
                                  .role = "q_proj",
                                  .precision = "nf4",
                                  .bits = 4.127,
                                  .method = "nf4",
                                  .weight_error = 0.01 * i,
                                  .output_error = NAN,
                                  .params = i ? NULL : "{\"clip\":1}",
                                  .seconds = 0.1};
    OK(assay_loss_put(s, "step", l, 2, err));
    OK(assay_loss_put(s, "step", l, 3, err));
    int n = 0;
    OK(assay_loss_each(s, "step", check_loss, &n, err));
    assert_int_equal(n, 3);
    assay_store_close(s);
}

static void documents_append_and_the_latest_counts(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    assay_document d = {.kind = "verdict", .study = "demo", .name = "nf4"}, got;
    bool found;
    int64_t a, b;
    OK(assay_document_latest(&got, &found, s, "verdict", "demo", "nf4", err));
    assert_false(found);
    d.body = json_pack("{s:s}", "verdict", "fail");
    OK(assay_document_put(&a, s, &d, err));
    json_decref(d.body);
    d.body = json_pack("{s:s}", "verdict", "pass");
    OK(assay_document_put(&b, s, &d, err));
    d.kind = "decision";
    d.name = NULL;
    OK(assay_document_put(NULL, s, &d, err));
    json_decref(d.body);
    OK(assay_document_latest(&got, &found, s, "verdict", "demo", "nf4", err));
    assert_true(found && got.id == b && a != b && got.baseline == 0 && got.created);
    assert_string_equal(json_string_value(json_object_get(got.body, "verdict")), "pass");
    assay_document_deinit(&got);
    OK(assay_document_latest(&got, &found, s, "decision", "demo", NULL, err));
    assert_true(found && !got.name);
    assay_document_deinit(&got);
    OK(assay_document_latest(&got, &found, s, "decision", NULL, NULL, err));
    assert_false(found);
    assay_store_close(s);
}

/* --- files that are no stores --- */

static void other_files_are_refused(void **state) {
    fixture *f = *state;
    assay_store *s;
    assay_err e = {0};
    assay_store_opts ro = {.read_only = true};
    assert_int_equal(assay_store_open(&s, f->path, &ro, &e), ASSAY_ENOTFOUND);
    OK(assay_mkdirs(f->dir, err));
    char path[160];
    snprintf(path, sizeof path, "%s/text.db", f->dir);
    OK(assay_write_file(path,
                        "this is not a database, but long enough to look like one if one only reads the size",
                        80, err));
    e = (assay_err){0};
    assert_int_equal(assay_store_open(&s, path, NULL, &e), ASSAY_EINPUT);
    assert_non_null(strstr(e.message, "not an assay store"));
    s = open_store(f, NULL);
    assay_store_close(s);
    char cmd[400];
    snprintf(cmd, sizeof cmd, "printf '\\1\\2\\3\\4' | dd of=%s bs=1 seek=68 conv=notrunc 2>/dev/null",
             f->path); /* application_id */
    assert_int_equal(system(cmd), 0);
    e = (assay_err){0};
    assert_int_equal(assay_store_open(&s, f->path, NULL, &e), ASSAY_EINPUT);
    assert_non_null(strstr(e.message, "a SQLite file, but not an assay store"));
    snprintf(cmd, sizeof cmd, "printf 'assy' | dd of=%s bs=1 seek=68 conv=notrunc 2>/dev/null", f->path);
    assert_int_equal(system(cmd), 0);
    snprintf(cmd, sizeof cmd, "printf '\\0\\0\\0\\143' | dd of=%s bs=1 seek=60 conv=notrunc 2>/dev/null",
             f->path); /* user_version 99 */
    assert_int_equal(system(cmd), 0);
    e = (assay_err){0};
    assert_int_equal(assay_store_open(&s, f->path, NULL, &e), ASSAY_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "schema version 99"));
}

static void read_only_writes_nothing(void **state) {
    fixture *f = *state;
    assay_store_close(open_store(f, NULL));
    assay_store_opts ro = {.read_only = true};
    assay_store *s = open_store(f, &ro);
    assay_err e = {0};
    assert_int_equal(assay_step_begin(s, "k", "s", "q", "n", &e), ASSAY_EUSAGE);
    OK(assay_store_check(s, err));
    assay_store_close(s);
}

static void two_handles_see_each_other(void **state) {
    fixture *f = *state;
    assay_store *a = open_store(f, NULL), *b = open_store(f, NULL);
    int64_t id;
    assay_scorecard_desc d = desc("k", 1);
    OK(assay_scorecard_begin(&id, NULL, NULL, a, &d, err));
    put(a, id, 0);
    OK(assay_store_flush(a, err));
    assert_int_equal(count_records(b, id), 1);
    OK(assay_step_begin(b, "k", "s", "q", "n", err));
    OK(assay_scorecard_finish(a, id, err));
    assay_store_close(a);
    assay_store_close(b);
}

/* --- a full disk, a kill --- */

static void full_disk_keeps_what_was_committed(void **state) {
    fixture *f = *state;
    assay_store_opts small = {.max_pages = 60, .flush_records = 16, .flush_seconds = 1000};
    assay_store *s = open_store(f, &small);
    int64_t id;
    assay_scorecard_desc d = desc("k", 100000);
    OK(assay_scorecard_begin(&id, NULL, NULL, s, &d, err));
    assay_err e = {0};
    assay_status st = ASSAY_OK;
    int i = 0;
    for (; i < 100000 && st == ASSAY_OK; i++) {
        char item[32];
        snprintf(item, sizeof item, "item-%06d", i);
        assay_record r = record(item);
        st = assay_scorecard_put(s, id, i, &r, &e);
    }
    assert_int_equal(st, ASSAY_ENOSPC);
    assert_non_null(strstr(e.message, "no space left"));
    assert_null(strchr(e.message, '\n'));
    assay_store_close(s);
    s = open_store(f, NULL); /* room again */
    OK(assay_store_check(s, err));
    int64_t n = count_records(s, id);
    print_message("# full after %d records, %d kept\n", i, (int)n);
    assert_true(n > 16 && n >= i - 32 && n % 16 <= 1); /* whole transactions: the first record goes alone */
    put(s, id, n);                                     /* and it goes on */
    OK(assay_store_flush(s, err));
    assert_int_equal(count_records(s, id), n + 1);
    assay_store_close(s);
}

/* When room is made while the store is open, the records that waited are not lost. */
static void flush_can_be_repeated(void **state) {
    fixture *f = *state;
    assay_store_opts small = {.max_pages = 60, .flush_records = 1000000, .flush_seconds = 1000};
    assay_store *s = open_store(f, &small);
    int64_t id;
    assay_scorecard_desc d = desc("k", 3000);
    OK(assay_scorecard_begin(&id, NULL, NULL, s, &d, err));
    for (int i = 0; i < 3000; i++) put(s, id, i);
    assay_err e = {0};
    assert_int_equal(assay_store_flush(s, &e), ASSAY_ENOSPC);
    e = (assay_err){0};
    assert_int_equal(assay_store_flush(s, &e),
                     ASSAY_ENOSPC); /* the same again, not something odd about a transaction */
    assay_store_close(s);
}

/* Writes records until it is killed; the pipe tells how many put calls returned. */
static void write_until_killed(const char *path, int fd, int64_t from) {
    assay_store *s = NULL;
    int64_t id;
    assay_scorecard_desc d = desc("k", 1 << 20);
    assay_store_opts o = {.flush_records = 8, .flush_seconds = 0.01};
    if (assay_store_open(&s, path, &o, NULL) != ASSAY_OK) _exit(3);
    if (assay_scorecard_begin(&id, NULL, NULL, s, &d, NULL) != ASSAY_OK) _exit(4);
    for (int64_t i = from;; i++) {
        char item[32];
        snprintf(item, sizeof item, "item-%06d", (int)i);
        assay_record r = record(item);
        if (assay_scorecard_put(s, id, i, &r, NULL) != ASSAY_OK) _exit(5);
        if (write(fd, "x", 1) != 1) _exit(6);
    }
}

static void sigkill_loses_only_what_waited(void **state) {
    fixture *f = *state;
    int64_t have = 0;
    for (int round = 0; round < 20; round++) {
        int fd[2];
        assert_int_equal(pipe(fd), 0);
        pid_t child = fork();
        if (child == 0) {
            close(fd[0]);
            write_until_killed(f->path, fd[1], have);
        }
        close(fd[1]);
        char buf[4096];
        int64_t acked = 0;
        int target = 3 + round * 17;
        while (acked < target) {
            ssize_t k = read(fd[0], buf, 1);
            assert_true(k == 1); /* the child must not have died by itself */
            acked += k;
        }
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        close(fd[0]);
        assay_store *s = open_store(f, NULL);
        OK(assay_store_check(s, err));
        assay_scorecard c;
        OK(assay_scorecard_by_key(&c, s, "k", err));
        assay_record *r;
        size_t n;
        OK(assay_record_load(&r, &n, s, c.id, err));
        for (size_t i = 0; i < n; i++) { /* a gapless prefix, every record whole */
            char item[32];
            snprintf(item, sizeof item, "item-%06d", (int)i);
            assert_string_equal(r[i].item_id, item);
            assert_string_equal(r[i].stop, "length");
            assert_true(r[i].seconds == 0.25);
        }
        assert_true((int64_t)n > have + acked - 8); /* at most the 8 of an open batch are gone */
        have = (int64_t)n;
        assay_records_free(r, n);
        assay_scorecard_deinit(&c);
        assay_store_close(s);
    }
    print_message("# 20 kills, %d records kept\n", (int)have);
}

static void out_of_memory_is_reported(void **state) {
    fixture *f = *state;
    assay_store *s = open_store(f, NULL);
    int64_t id;
    assay_scorecard_desc d = desc("k", 5);
    OK(assay_scorecard_begin(&id, NULL, NULL, s, &d, err));
    put(s, id, 0);
    OK(assay_store_flush(s, err));
    for (long i = 0; i < 40; i++) {
        assay_record *r = NULL;
        size_t n = 0;
        assay_err e = {0};
        assay_mem_fail_after(i);
        assay_status st = assay_record_load(&r, &n, s, id, &e);
        assay_mem_fail_after(-1);
        if (st == ASSAY_OK) assert_int_equal(n, 1);
        else
            assert_int_equal(st, ASSAY_ENOMEM);
        assay_records_free(r, n);
    }
    assay_store_close(s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(every_field_comes_back),
        T(json_and_back),
        T(export_is_one_line_each),
        T(resume_knows_what_is_done),
        T(failed_items_can_be_tried_again),
        T(studies_share_scorecards),
        T(steps_are_found_by_key),
        T(losses_are_replaced_whole),
        T(documents_append_and_the_latest_counts),
        T(other_files_are_refused),
        T(read_only_writes_nothing),
        T(two_handles_see_each_other),
        T(full_disk_keeps_what_was_committed),
        T(flush_can_be_repeated),
        T(sigkill_loses_only_what_waited),
        T(out_of_memory_is_reported),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
