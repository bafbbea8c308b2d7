/* steps.c: the study's cache of finished steps, the losses of quantized matrices, and the documents that
 * record what was decided. */
#include <string.h>
#include "base/str.h"
#include "store/db.h"

void assay_step_deinit(assay_step *st) {
    if (!st) return;
    json_decref(st->result);
    assay_arena_free(&st->arena);
    memset(st, 0, sizeof *st);
}

static assay_status column_json(json_t **out, const assay_store *s, sqlite3_stmt *st, int col,
                                assay_err *err) {
    const char *t = (const char *)sqlite3_column_text(st, col);
    *out = NULL;
    if (!t) return ASSAY_OK;
    assay_status status =
        assay_json_parse(out, t, (size_t)sqlite3_column_bytes(st, col), "stored document", err);
    return status == ASSAY_OK ? status : assay_err_prefix(err, "%s", s->path);
}

/* NULL stays NULL. The text is owned by b. */
static assay_status json_text(const char **out, assay_str *b, const json_t *j, assay_err *err) {
    *out = NULL;
    if (!j) return ASSAY_OK;
    ASSAY_TRY(assay_json_dump(b, j, 0, false, err));
    ASSAY_TRY(assay_str_status(b, err));
    *out = assay_str_c(b);
    return ASSAY_OK;
}

static assay_status read_step(assay_step *out, assay_store *s, sqlite3_stmt *st, assay_err *err) {
    bool failed = false;
    memset(out, 0, sizeof *out);
    out->key = db_text(&out->arena, st, 0, &failed);
    out->study = db_text(&out->arena, st, 1, &failed);
    out->kind = db_text(&out->arena, st, 2, &failed);
    out->name = db_text(&out->arena, st, 3, &failed);
    out->state = (assay_step_state)sqlite3_column_int(st, 4);
    out->message = db_text(&out->arena, st, 6, &failed);
    out->seconds = db_double(st, 7);
    out->created = db_text(&out->arena, st, 8, &failed);
    out->finished = db_text(&out->arena, st, 9, &failed);
    assay_status status = failed ? assay_nomem(err) : column_json(&out->result, s, st, 5, err);
    if (status != ASSAY_OK) assay_step_deinit(out);
    return status;
}

assay_status assay_step_find(assay_step *out, bool *found, assay_store *s, const char *key, assay_err *err) {
    memset(out, 0, sizeof *out);
    *found = false;
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_STEP_FIND, err));
    db_bind_str(st, 1, key);
    assay_status status = db_row(found, s, st, "looking for a step", err);
    if (status == ASSAY_OK && *found) status = read_step(out, s, st, err);
    db_done(st);
    return status;
}

assay_status assay_step_begin(assay_store *s, const char *key, const char *study, const char *kind,
                              const char *name, assay_err *err) {
    char date[32];
    ASSAY_TRY(db_writable(s, err));
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_STEP_BEGIN, err));
    db_bind_str(st, 1, key);
    db_bind_str(st, 2, study);
    db_bind_str(st, 3, kind);
    db_bind_str(st, 4, name);
    db_bind_str(st, 5, assay_date_iso(date, sizeof date));
    return db_run(s, st, "storing a step", err);
}

static assay_status end_step(assay_store *s, const char *key, assay_step_state state, const json_t *result,
                             const char *message, double seconds, assay_err *err) {
    char date[32];
    assay_str text = {0};
    const char *json = NULL;
    assay_status status = db_writable(s, err);
    if (status == ASSAY_OK) status = json_text(&json, &text, result, err);
    sqlite3_stmt *st = NULL;
    if (status == ASSAY_OK) status = db_use(&st, s, DB_STEP_END, err);
    if (status == ASSAY_OK) {
        db_bind_str(st, 1, key);
        sqlite3_bind_int(st, 2, (int)state);
        db_bind_str(st, 3, json);
        db_bind_str(st, 4, message);
        sqlite3_bind_double(st, 5, seconds);
        db_bind_str(st, 6, assay_date_iso(date, sizeof date));
        status = db_run(s, st, "storing a step's result", err);
        if (status == ASSAY_OK && sqlite3_changes(s->db) != 1)
            status = assay_fail(err, ASSAY_EINTERNAL, "%s: step %.16s was never begun", s->path, key);
    }
    assay_str_free(&text);
    return status;
}

assay_status assay_step_finish(assay_store *s, const char *key, const json_t *result, double seconds,
                               assay_err *err) {
    return end_step(s, key, ASSAY_STEP_DONE, result, NULL, seconds, err);
}

assay_status assay_step_fail(assay_store *s, const char *key, const char *message, double seconds,
                             assay_err *err) {
    return end_step(s, key, ASSAY_STEP_FAILED, NULL, message, seconds, err);
}

assay_status assay_step_each(assay_store *s, const char *study, const char *kind, assay_step_fn fn, void *ctx,
                             assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool row = false;
    ASSAY_TRY(db_prepare(
        &st, s, STEP_COLUMNS "WHERE (?1 IS NULL OR study=?1) AND (?2 IS NULL OR kind=?2) ORDER BY id", err));
    db_bind_str(st, 1, study);
    db_bind_str(st, 2, kind);
    assay_status status;
    while ((status = db_row(&row, s, st, "reading steps", err)) == ASSAY_OK && row) {
        assay_step step;
        status = read_step(&step, s, st, err);
        if (status != ASSAY_OK) break;
        status = fn(ctx, &step, err);
        assay_step_deinit(&step);
        if (status != ASSAY_OK) break;
    }
    sqlite3_finalize(st);
    return status;
}

/* --- losses --- */

static assay_status insert_loss(assay_store *s, const char *step_key, const assay_layer_loss *l,
                                assay_err *err) {
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_LOSS_INSERT, err));
    db_bind_str(st, 1, step_key);
    db_bind_str(st, 2, l->tensor);
    sqlite3_bind_int(st, 3, l->layer);
    db_bind_str(st, 4, l->role);
    db_bind_str(st, 5, l->precision);
    db_bind_double(st, 6, l->bits);
    db_bind_str(st, 7, l->method);
    db_bind_double(st, 8, l->weight_error);
    db_bind_double(st, 9, l->output_error);
    db_bind_str(st, 10, l->params ? l->params : "{}");
    db_bind_double(st, 11, l->seconds);
    return db_run(s, st, "storing losses", err);
}

static assay_status replace_losses(assay_store *s, const char *step_key, const assay_layer_loss *l, size_t n,
                                   assay_err *err) {
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_LOSS_DROP, err));
    db_bind_str(st, 1, step_key);
    ASSAY_TRY(db_run(s, st, "storing losses", err));
    for (size_t i = 0; i < n; i++) ASSAY_TRY(insert_loss(s, step_key, &l[i], err));
    return ASSAY_OK;
}

assay_status assay_loss_put(assay_store *s, const char *step_key, const assay_layer_loss *l, size_t n,
                            assay_err *err) {
    ASSAY_TRY(db_writable(s, err));
    ASSAY_TRY(db_begin(s, err));
    return db_end(s, replace_losses(s, step_key, l, n, err), err);
}

assay_status assay_loss_each(assay_store *s, const char *step_key, assay_loss_fn fn, void *ctx,
                             assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool row = false;
    ASSAY_TRY(db_prepare(
        &st, s,
        "SELECT tensor, layer, role, precision, bits, method, weight_error, output_error, params, seconds"
        " FROM losses WHERE step=?1 ORDER BY id",
        err));
    db_bind_str(st, 1, step_key);
    assay_status status;
    while ((status = db_row(&row, s, st, "reading losses", err)) == ASSAY_OK && row) {
        assay_layer_loss l = {.tensor = (const char *)sqlite3_column_text(st, 0),
                              .layer = sqlite3_column_int(st, 1),
                              .role = (const char *)sqlite3_column_text(st, 2),
                              .precision = (const char *)sqlite3_column_text(st, 3),
                              .bits = db_double(st, 4),
                              .method = (const char *)sqlite3_column_text(st, 5),
                              .weight_error = db_double(st, 6),
                              .output_error = db_double(st, 7),
                              .params = (const char *)sqlite3_column_text(st, 8),
                              .seconds = db_double(st, 9)};
        status = fn(ctx, &l, err);
        if (status != ASSAY_OK) break;
    }
    sqlite3_finalize(st);
    return status;
}

/* --- documents --- */

void assay_document_deinit(assay_document *d) {
    if (!d) return;
    json_decref(d->body);
    assay_arena_free(&d->arena);
    memset(d, 0, sizeof *d);
}

static void bind_id(sqlite3_stmt *st, int i, int64_t id) {
    if (id) sqlite3_bind_int64(st, i, id);
    else
        sqlite3_bind_null(st, i);
}

assay_status assay_document_put(int64_t *id, assay_store *s, const assay_document *d, assay_err *err) {
    char date[32];
    assay_str text = {0};
    const char *json = NULL;
    if (!d->body || !d->kind)
        return assay_fail(err, ASSAY_EINTERNAL, "%s: a document without kind or body", s->path);
    assay_status status = db_writable(s, err);
    if (status == ASSAY_OK) status = json_text(&json, &text, d->body, err);
    sqlite3_stmt *st = NULL;
    if (status == ASSAY_OK) status = db_use(&st, s, DB_DOC_INSERT, err);
    if (status == ASSAY_OK) {
        db_bind_str(st, 1, d->kind);
        db_bind_str(st, 2, d->study);
        db_bind_str(st, 3, d->name);
        bind_id(st, 4, d->baseline);
        bind_id(st, 5, d->variant);
        db_bind_str(st, 6, assay_date_iso(date, sizeof date));
        db_bind_str(st, 7, json);
        status = db_run(s, st, "storing a document", err);
        if (status == ASSAY_OK && id) *id = sqlite3_last_insert_rowid(s->db);
    }
    assay_str_free(&text);
    return status;
}

static assay_status read_document(assay_document *out, assay_store *s, sqlite3_stmt *st, assay_err *err) {
    bool failed = false;
    memset(out, 0, sizeof *out);
    out->id = sqlite3_column_int64(st, 0);
    out->kind = db_text(&out->arena, st, 1, &failed);
    out->study = db_text(&out->arena, st, 2, &failed);
    out->name = db_text(&out->arena, st, 3, &failed);
    out->baseline = sqlite3_column_int64(st, 4);
    out->variant = sqlite3_column_int64(st, 5);
    out->created = db_text(&out->arena, st, 6, &failed);
    assay_status status = failed ? assay_nomem(err) : column_json(&out->body, s, st, 7, err);
    if (status != ASSAY_OK) assay_document_deinit(out);
    return status;
}

assay_status assay_document_latest(assay_document *out, bool *found, assay_store *s, const char *kind,
                                   const char *study, const char *name, assay_err *err) {
    memset(out, 0, sizeof *out);
    *found = false;
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_DOC_LATEST, err));
    db_bind_str(st, 1, kind);
    db_bind_str(st, 2, study);
    db_bind_str(st, 3, name);
    assay_status status = db_row(found, s, st, "looking for a document", err);
    if (status == ASSAY_OK && *found) status = read_document(out, s, st, err);
    db_done(st);
    return status;
}
