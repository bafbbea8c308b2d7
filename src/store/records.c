/* records.c: records of a scorecard: queued, committed in batches, read back in the suite's order.
 *
 * A record that arrives more than flush_seconds after the last commit is committed at once, together with
 * those that wait; so slow items are safe as soon as they are done, and fast ones share a transaction (and
 * its fsync) until flush_records or flush_seconds. */
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "store/db.h"
#include "store/record_private.h"

static const char record_columns[] =
#define X(TYPE, f) ", " #f
#include "store/record_fields.def"
#undef X
    ;

static assay_status prepare_insert(assay_store *s, assay_err *err) {
    if (s->insert_record) return ASSAY_OK;
    assay_str sql = {0};
    assay_str_printf(&sql, "INSERT INTO records(card, position%s) VALUES(?, ?", record_columns);
#define X(TYPE, f) assay_str_put(&sql, ", ?");
#include "store/record_fields.def"
#undef X
    assay_str_putc(&sql, ')');
    assay_status status = assay_str_status(&sql, err);
    if (status == ASSAY_OK) status = db_prepare(&s->insert_record, s, assay_str_c(&sql), err);
    assay_str_free(&sql);
    return status;
}

static void bind_record(sqlite3_stmt *st, const db_pending *p) {
    const assay_record *r = &p->record;
    int i = 1;
    sqlite3_bind_int64(st, i++, p->card);
    sqlite3_bind_int64(st, i++, p->position);
#define BIND_STR(f) db_bind_str(st, i++, r->f);
#define BIND_I64(f) sqlite3_bind_int64(st, i++, r->f);
#define BIND_INT(f) sqlite3_bind_int64(st, i++, r->f);
#define BIND_F64(f) db_bind_double(st, i++, r->f);
#define BIND_BOOL(f) sqlite3_bind_int(st, i++, r->f);
#define BIND_OUTCOME(f) sqlite3_bind_int(st, i++, (int)r->f);
#define X(TYPE, f) BIND_##TYPE(f)
#include "store/record_fields.def"
#undef X
}

static assay_status insert_pending(assay_store *s, assay_err *err) {
    ASSAY_TRY(prepare_insert(s, err));
    for (size_t i = 0; i < s->n_pending; i++) {
        bind_record(s->insert_record, &s->pending[i]);
        ASSAY_TRY(db_run(s, s->insert_record, "storing records", err));
    }
    return ASSAY_OK;
}

/* On failure the records keep waiting, so that a caller that makes room may flush again. */
assay_status assay_store_flush(assay_store *s, assay_err *err) {
    if (!s->n_pending) return ASSAY_OK;
    ASSAY_TRY(db_begin(s, err));
    ASSAY_TRY(db_end(s, insert_pending(s, err), err));
    for (size_t i = 0; i < s->n_pending; i++) assay_record_deinit(&s->pending[i].record);
    s->n_pending = 0;
    s->last_flush = assay_now();
    return ASSAY_OK;
}

static assay_status is_recorded(bool *out, assay_store *s, int64_t id, const char *item, assay_err *err) {
    *out = false;
    for (size_t i = 0; i < s->n_pending && !*out; i++)
        *out = s->pending[i].card == id && strcmp(s->pending[i].record.item_id, item) == 0;
    if (*out) return ASSAY_OK;
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_RECORD_FIND, err));
    sqlite3_bind_int64(st, 1, id);
    db_bind_str(st, 2, item);
    assay_status status = db_row(out, s, st, "looking for a record", err);
    db_done(st);
    return status;
}

assay_status assay_scorecard_put(assay_store *s, int64_t id, int64_t position, const assay_record *r,
                                 assay_err *err) {
    bool there = false;
    if (s->read_only) return assay_fail(err, ASSAY_EUSAGE, "%s: opened for reading only", s->path);
    if (!r->item_id) return assay_fail(err, ASSAY_EINTERNAL, "%s: a record without an item", s->path);
    ASSAY_TRY(is_recorded(&there, s, id, r->item_id, err));
    if (there)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: item %.80s has a record already: another run scores the same just now, or the suite has its id twice",
                          s->path,
                          r->item_id);
    ASSAY_TRY(assay_grow(&s->pending, &s->cap_pending, s->n_pending + 1, sizeof *s->pending, err));
    db_pending *p = &s->pending[s->n_pending];
    p->card = id;
    p->position = position;
    ASSAY_TRY(record_copy(&p->record, r, err));
    s->n_pending++;
    if (s->n_pending >= s->flush_records || assay_now() - s->last_flush >= s->flush_seconds)
        return assay_store_flush(s, err);
    return ASSAY_OK;
}

/* --- reading --- */

static bool column_str(char **out, sqlite3_stmt *st, int col) {
    const char *t = (const char *)sqlite3_column_text(st, col);
    *out = t ? assay_strndup(t, (size_t)sqlite3_column_bytes(st, col)) : NULL;
    return *out || sqlite3_column_type(st, col) == SQLITE_NULL;
}

static assay_status read_record(assay_record *r, sqlite3_stmt *st, assay_err *err) {
    int i = 1; /* column 0 is the position */
    bool ok = true;
    memset(r, 0, sizeof *r);
#define READ_STR(f) ok = column_str(&r->f, st, i++) && ok;
#define READ_I64(f) r->f = sqlite3_column_int64(st, i++);
#define READ_INT(f) r->f = sqlite3_column_int(st, i++);
#define READ_F64(f) r->f = db_double(st, i++);
#define READ_BOOL(f) r->f = sqlite3_column_int(st, i++) != 0;
#define READ_OUTCOME(f) r->f = (assay_outcome)sqlite3_column_int(st, i++);
#define X(TYPE, f) READ_##TYPE(f)
#include "store/record_fields.def"
#undef X
    if (ok) return ASSAY_OK;
    assay_record_deinit(r);
    return assay_nomem(err);
}

assay_status assay_record_each(assay_store *s, int64_t id, assay_record_fn fn, void *ctx, assay_err *err) {
    assay_str sql = {0};
    sqlite3_stmt *st = NULL;
    bool row = false;
    assay_status status = s->read_only ? ASSAY_OK : assay_store_flush(s, err);
    assay_str_printf(&sql, "SELECT position%s FROM records WHERE card=?1 ORDER BY position", record_columns);
    if (status == ASSAY_OK) status = assay_str_status(&sql, err);
    if (status == ASSAY_OK) status = db_prepare(&st, s, assay_str_c(&sql), err);
    if (status == ASSAY_OK) sqlite3_bind_int64(st, 1, id);
    while (status == ASSAY_OK && (status = db_row(&row, s, st, "reading records", err)) == ASSAY_OK && row) {
        assay_record r;
        status = read_record(&r, st, err);
        if (status != ASSAY_OK) break;
        status = fn(ctx, sqlite3_column_int64(st, 0), &r, err);
        assay_record_deinit(&r);
    }
    sqlite3_finalize(st);
    assay_str_free(&sql);
    return status;
}

typedef struct record_list {
    assay_record *r;
    size_t n, cap;
} record_list;

static assay_status append_record(void *ctx, int64_t position, const assay_record *r, assay_err *err) {
    record_list *l = ctx;
    (void)position;
    ASSAY_TRY(assay_grow(&l->r, &l->cap, l->n + 1, sizeof *l->r, err));
    ASSAY_TRY(record_copy(&l->r[l->n], r, err));
    l->n++;
    return ASSAY_OK;
}

assay_status assay_record_load(assay_record **out, size_t *n, assay_store *s, int64_t id, assay_err *err) {
    record_list l = {0};
    assay_status status = assay_record_each(s, id, append_record, &l, err);
    if (status != ASSAY_OK) {
        assay_records_free(l.r, l.n);
        l.r = NULL;
        l.n = 0;
    }
    *out = l.r;
    *n = l.n;
    return status;
}

void assay_records_free(assay_record *r, size_t n) {
    if (!r) return;
    for (size_t i = 0; i < n; i++) assay_record_deinit(&r[i]);
    assay_free(r);
}

static assay_status export_one(void *ctx, int64_t position, const assay_record *r, assay_err *err) {
    assay_str line = {0};
    (void)position;
    json_t *j = assay_record_to_json(r);
    assay_status status = j ? assay_json_dump(&line, j, 0, false, err) : assay_nomem(err);
    json_decref(j);
    assay_str_putc(&line, '\n');
    if (status == ASSAY_OK) status = assay_str_status(&line, err);
    if (status == ASSAY_OK) status = assay_writer_put(ctx, line.s, line.len, err);
    assay_str_free(&line);
    return status;
}

assay_status assay_record_export(assay_store *s, int64_t id, const char *path, assay_err *err) {
    assay_writer *w = NULL;
    ASSAY_TRY(assay_writer_open(&w, path, err));
    assay_status status = assay_record_each(s, id, export_one, w, err);
    if (status == ASSAY_OK) return assay_writer_commit(w, err);
    assay_writer_abort(w);
    return status;
}

static assay_status drop_errors(int64_t *n, assay_store *s, int64_t id, assay_err *err) {
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_RECORD_DROP_ERRORS, err));
    sqlite3_bind_int64(st, 1, id);
    sqlite3_bind_int(st, 2, ASSAY_OUTCOME_ERROR);
    ASSAY_TRY(db_run(s, st, "removing failed items", err));
    *n = sqlite3_changes(s->db);
    if (!*n) return ASSAY_OK;
    ASSAY_TRY(db_use(&st, s, DB_CARD_REOPEN, err)); /* no longer complete */
    sqlite3_bind_int64(st, 1, id);
    return db_run(s, st, "removing failed items", err);
}

assay_status assay_scorecard_forget_errors(int64_t *n, assay_store *s, int64_t id, assay_err *err) {
    int64_t dropped = 0;
    if (n) *n = 0;
    ASSAY_TRY(db_writable(s, err));
    ASSAY_TRY(db_begin(s, err));
    ASSAY_TRY(db_end(s, drop_errors(&dropped, s, id, err), err));
    if (n) *n = dropped;
    return ASSAY_OK;
}
