/* study.c: the whole way, one scorecard, and what a store remembers: study/ and report/ joined to the public
 * API. */
#include "study/study.h"
#include "api/doc.h"
#include "api/session.h"
#include "base/file.h"
#include "base/mem.h"
#include "report/table.h"

static const assay_column step_columns[] = {
    {.head = "step"}, {.head = "of"}, {.head = "state"}, {.head = "key", .optional = true}};

static assay_status put_steps(assay_str *text, const assay_study_result *r, const assay_term *term,
                              assay_err *err) {
    size_t n;
    const assay_study_step *st = assay_study_steps(r, &n);
    assay_table t;
    assay_table_init(&t, step_columns, ASSAY_LEN(step_columns));
    for (size_t i = 0; i < n; i++, st++) {
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", st->kind);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", st->name ? st->name : "");
        assay_table_cell(&t, st->was_done ? ASSAY_TONE_DIM : ASSAY_TONE_NONE, "%s",
                         st->was_done ? "done" : "to do");
        assay_table_cell(&t, ASSAY_TONE_DIM, "%.12s", st->key);
    }
    assay_status s = assay_table_text(text, &t, term, err);
    assay_table_free(&t);
    return s;
}

static json_t *json_of_steps(const assay_study_result *r) {
    size_t n;
    const assay_study_step *st = assay_study_steps(r, &n);
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++, st++) {
        json_t *j =
            json_pack("{s:s, s:s?, s:s, s:b, s:f, s:I}", "kind", st->kind, "name", st->name, "key", st->key,
                      "was_done", st->was_done, "seconds", st->seconds, "items", (json_int_t)st->items);
        if (!j || json_array_append_new(list, j)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static assay_status study_doc(assay_doc **out, const assay_study_result *r, bool dry_run,
                              const assay_view *view, assay_err *err) {
    const assay_report *report = assay_study_report(r);
    assay_term term = assay_term_of_view(view);
    assay_str text = {0};
    json_t *j = NULL;
    assay_status s;
    if (report && !dry_run) {
        ASSAY_GO(assay_report_text(&text, report, &term, err));
        ASSAY_GO(assay_report_json(&j, report, false, err));
    } else {
        j = json_pack("{s:s, s:s}", "schema", "assay.study/1", "study", assay_study_name(r));
        if (!j) {
            s = assay_nomem(err);
            goto out;
        }
        ASSAY_GO(put_steps(&text, r, &term, err));
    }
    ASSAY_GO(assay_doc_set(j, "steps", json_of_steps(r), err));
    if (assay_study_out_dir(r)) ASSAY_GO(assay_doc_set(j, "out", json_string(assay_study_out_dir(r)), err));
    if (assay_study_html_path(r)) {
        assay_str_printf(&text, "\nreport: %s\n", assay_study_html_path(r));
        ASSAY_GO(assay_doc_set(j, "html", json_string(assay_study_html_path(r)), err));
    }
    s = assay_doc_make(out, &text, j, dry_run ? 0 : assay_study_exit_code(r), err);
    j = NULL;
out:
    json_decref(j);
    assay_str_free(&text);
    return s;
}

assay_status assay_study(assay_doc **out, const char *file, const assay_study_opts *o, assay_err *err) {
    *out = NULL;
    assay_study_exec exec = {
        .out_dir = o->out_dir, .limit = o->limit, .dry_run = o->dry_run, .progress = o->progress};
    ASSAY_TRY(assay_native_opts_of(&exec.runtime, &o->run, err));
    assay_str command = {0};
    assay_str_printf(&command, "assay study %s", file);
    if (o->out_dir) assay_str_printf(&command, " --out %s", o->out_dir);
    if (o->limit) assay_str_printf(&command, " --limit %lld", (long long)o->limit);
    assay_study_result *r = NULL;
    assay_status s = assay_str_status(&command, err);
    exec.command = assay_str_c(&command);
    if (s == ASSAY_OK) s = assay_study_run(&r, file, &exec, err);
    if (s == ASSAY_OK) s = study_doc(out, r, o->dry_run, &o->view, err);
    assay_study_result_free(r);
    assay_str_free(&command);
    return s;
}

assay_status assay_eval(assay_doc **out, const char *model, const assay_eval_opts *o, assay_err *err) {
    *out = NULL;
    const char *path = o->store ? o->store : "assay.db";
    assay_score_opts opts = {.suite = o->suite,
                             .store = path,
                             .name = o->name,
                             .baseline = o->baseline,
                             .limit = o->limit,
                             .progress = o->progress};
    ASSAY_TRY(assay_native_opts_of(&opts.runtime, &o->run, err));
    assay_term term = assay_term_of_view(&o->view);
    assay_store_opts read = {.read_only = true};
    assay_store *store = NULL;
    assay_str text = {0};
    json_t *j = NULL;
    int64_t id;
    assay_status s;
    ASSAY_GO(assay_study_score(&id, model, &opts, err));
    ASSAY_GO(assay_store_open(&store, path, &read, err));
    ASSAY_GO(assay_study_scorecard_text(&text, store, id, &term, err));
    ASSAY_GO(assay_study_scorecard_json(&j, store, id, err));
    s = assay_doc_make(out, &text, j, 0, err);
out:
    assay_store_close(store);
    assay_str_free(&text);
    return s;
}

/* --- report --- */

typedef assay_status (*renderer)(assay_str *out, const assay_report *r, assay_err *err);

static assay_status render_json(assay_str *out, const assay_report *r, assay_err *err) {
    json_t *j;
    ASSAY_TRY(assay_report_json(&j, r, true, err));
    assay_status s = assay_json_dump(out, j, 2, false, err);
    json_decref(j);
    assay_str_putc(out, '\n');
    return s;
}

static assay_status write_rendering(const char *path, const assay_report *r, renderer render,
                                    assay_err *err) {
    if (!path) return ASSAY_OK;
    assay_str b = {0};
    assay_status s = render(&b, r, err);
    if (s == ASSAY_OK) s = assay_str_status(&b, err);
    if (s == ASSAY_OK) s = assay_write_file(path, assay_str_c(&b), b.len, err);
    assay_str_free(&b);
    return s;
}

typedef struct exporter {
    assay_store *store;
    const char *dir;
    int64_t *ids;
    char **names;
    size_t n, cap_ids, cap_names;
} exporter;

static assay_status note_scorecard(void *ctx, const assay_scorecard *c, assay_err *err) {
    exporter *e = ctx;
    assay_str name = {0};
    ASSAY_TRY(assay_grow(&e->ids, &e->cap_ids, e->n + 1, sizeof *e->ids, err));
    ASSAY_TRY(assay_grow(&e->names, &e->cap_names, e->n + 1, sizeof *e->names, err));
    assay_str_printf(&name, "%lld-%s%s.jsonl", (long long)c->id, c->d.variant,
                     c->d.role == ASSAY_ROLE_RERUN ? "-rerun" : "");
    for (size_t i = 0; i < name.len; i++)
        if (name.s[i] == '/') name.s[i] = '_';
    e->ids[e->n] = c->id;
    e->names[e->n] = assay_str_take(&name);
    if (!e->names[e->n]) return assay_nomem(err);
    e->n++;
    return ASSAY_OK;
}

static assay_status export_records(assay_store *store, const char *study, const char *dir, assay_err *err) {
    exporter e = {.store = store, .dir = dir};
    ASSAY_TRY(assay_mkdirs(dir, err));
    assay_status s = assay_scorecard_each(store, study, note_scorecard, &e, err);
    for (size_t i = 0; s == ASSAY_OK && i < e.n; i++) {
        char *path = assay_path_join(dir, e.names[i]);
        s = path ? assay_record_export(store, e.ids[i], path, err) : assay_nomem(err);
        assay_free(path);
    }
    for (size_t i = 0; i < e.n; i++)
        assay_free(e.names[i]);
    assay_free(e.names);
    assay_free(e.ids);
    return s;
}

assay_status assay_report_store(assay_doc **out, const char *where, const assay_report_opts *o,
                                assay_err *err) {
    *out = NULL;
    assay_study_result *r = NULL;
    assay_store *store = NULL;
    assay_store_opts read = {.read_only = true};
    char *path = assay_path_is_dir(where) ? assay_path_join(where, "assay.db") : assay_strdup(where);
    if (!path) return assay_nomem(err);
    assay_status s;
    ASSAY_GO(assay_study_recall(&r, path, o->study, err));
    const assay_report *report = assay_study_report(r);
    ASSAY_GO(write_rendering(o->html, report, assay_report_html, err));
    ASSAY_GO(write_rendering(o->markdown, report, assay_report_markdown, err));
    ASSAY_GO(write_rendering(o->json, report, render_json, err));
    if (o->records) {
        ASSAY_GO(assay_store_open(&store, path, &read, err));
        ASSAY_GO(export_records(store, assay_study_name(r), o->records, err));
    }
    s = study_doc(out, r, false, &o->view, err);
out:
    assay_study_result_free(r);
    assay_store_close(store);
    assay_free(path);
    return s;
}
