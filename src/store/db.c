/* db.c: opening a store, its schema, and what every other file of the room does with SQLite.
 *
 * Durability rests on SQLite's: WAL ("Write-Ahead Logging", sqlite.org/wal.html) with synchronous=FULL, so a
 * commit is on the disk when it returns and a process killed at any moment leaves a file that the next
 * opening repairs by itself. Where a file system has no shared memory SQLite keeps its rollback journal,
 * which gives the same promise. A full disk fails one transaction, which is rolled back.
 *
 * The schema's version is user_version; migrations run in one transaction each. application_id guards against
 * being pointed at somebody else's database. */
#include "store/db.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/str.h"
#include "store/schema.h"

#define SCHEMA_VERSION ((int)ASSAY_LEN(store_migrations))

static const char *const kept_sql[DB_STATEMENTS] = {
#define X(NAME, sql) [DB_##NAME] = sql,
#include "store/statements.def"
#undef X
};

static bool out_of_space(const assay_store *s, int rc) {
    if ((rc & 0xff) == SQLITE_FULL) return true;
    return (rc & 0xff) == SQLITE_IOERR && s->db && sqlite3_system_errno(s->db) == ENOSPC;
}

assay_status db_fail(const assay_store *s, int rc, const char *what, assay_err *err) {
    const char *why = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
    if (out_of_space(s, rc))
        return assay_fail(
            err, ASSAY_ENOSPC,
            "%s: no space left while %s: free some and run again, what was stored before is kept", s->path,
            what);
    switch (rc & 0xff) {
    case SQLITE_NOMEM: return assay_nomem(err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return assay_fail(err, ASSAY_EIO, "%s: another process keeps it locked (%s): wait for it or stop it",
                          s->path, what);
    case SQLITE_NOTADB: return assay_fail(err, ASSAY_EINPUT, "%s: not an assay store", s->path);
    case SQLITE_CORRUPT:
        return assay_fail(err, ASSAY_EIO, "%s: damaged (%s while %s): restore a copy", s->path, why, what);
    case SQLITE_READONLY: return assay_fail(err, ASSAY_EIO, "%s: cannot be written (%s)", s->path, what);
    case SQLITE_CONSTRAINT: return assay_fail(err, ASSAY_EINTERNAL, "%s: %s while %s", s->path, why, what);
    default: return assay_fail(err, ASSAY_EIO, "%s: %s while %s", s->path, why, what);
    }
}

assay_status db_prepare(sqlite3_stmt **out, const assay_store *s, const char *sql, assay_err *err) {
    int rc = sqlite3_prepare_v2(s->db, sql, -1, out, NULL);
    return rc == SQLITE_OK ? ASSAY_OK : db_fail(s, rc, "preparing a statement", err);
}

assay_status db_use(sqlite3_stmt **out, assay_store *s, enum db_statement which, assay_err *err) {
    *out = NULL;
    if (!s->kept[which]) {
        int rc =
            sqlite3_prepare_v3(s->db, kept_sql[which], -1, SQLITE_PREPARE_PERSISTENT, &s->kept[which], NULL);
        if (rc != SQLITE_OK) return db_fail(s, rc, "preparing a statement", err);
    }
    *out = s->kept[which];
    return ASSAY_OK;
}

void db_bind_str(sqlite3_stmt *st, int i, const char *v) {
    if (v) sqlite3_bind_text(st, i, v, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(st, i);
}

void db_bind_double(sqlite3_stmt *st, int i, double v) {
    sqlite3_bind_double(st, i, v); /* SQLite turns NaN into NULL */
}

void db_done(sqlite3_stmt *st) {
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
}

assay_status db_row(bool *row, const assay_store *s, sqlite3_stmt *st, const char *what, assay_err *err) {
    int rc = sqlite3_step(st);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) return ASSAY_OK;
    return db_fail(s, rc, what, err);
}

assay_status db_run(assay_store *s, sqlite3_stmt *st, const char *what, assay_err *err) {
    bool row;
    assay_status status = db_row(&row, s, st, what, err);
    db_done(st);
    return status;
}

const char *db_text(assay_arena *a, sqlite3_stmt *st, int col, bool *failed) {
    const char *t = (const char *)sqlite3_column_text(st, col);
    if (!t) {
        if (sqlite3_column_type(st, col) != SQLITE_NULL) *failed = true;
        return NULL;
    }
    char *copy = assay_arena_strndup(a, t, (size_t)sqlite3_column_bytes(st, col));
    if (!copy) *failed = true;
    return copy;
}

double db_double(sqlite3_stmt *st, int col) {
    return sqlite3_column_type(st, col) == SQLITE_NULL ? __builtin_nan("") : sqlite3_column_double(st, col);
}

assay_status db_begin(assay_store *s, assay_err *err) {
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_BEGIN, err));
    return db_run(s, st, "starting a transaction", err);
}

assay_status db_end(assay_store *s, assay_status status, assay_err *err) {
    sqlite3_stmt *st = NULL;
    if (status == ASSAY_OK) status = db_use(&st, s, DB_COMMIT, err);
    if (status == ASSAY_OK) status = db_run(s, st, "committing", err);
    /* After a failure SQLite may have rolled back by itself already. */
    if (!sqlite3_get_autocommit(s->db) && db_use(&st, s, DB_ROLLBACK, NULL) == ASSAY_OK) {
        sqlite3_step(st);
        db_done(st);
    }
    return status;
}

assay_status db_writable(assay_store *s, assay_err *err) {
    if (s->read_only) return assay_fail(err, ASSAY_EUSAGE, "%s: opened for reading only", s->path);
    return assay_store_flush(s, err);
}

/* --- opening --- */

static assay_status exec(assay_store *s, const char *sql, const char *what, assay_err *err) {
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? ASSAY_OK : db_fail(s, rc, what, err);
}

static assay_status pragma_int(int64_t *out, assay_store *s, const char *sql, assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool row = false;
    assay_status status = db_prepare(&st, s, sql, err);
    if (status == ASSAY_OK) status = db_row(&row, s, st, "opening", err);
    *out = status == ASSAY_OK && row ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return status;
}

/* An empty file may become a store, a store may be opened; somebody else's database may not be touched. */
static assay_status check_owner(assay_store *s, assay_err *err) {
    int64_t tables = 0, app = 0;
    ASSAY_TRY(pragma_int(&tables, s, "SELECT COUNT(*) FROM sqlite_master", err));
    ASSAY_TRY(pragma_int(&app, s, "PRAGMA application_id", err));
    if (tables && app != STORE_APPLICATION_ID)
        return assay_fail(err, ASSAY_EINPUT, "%s: a SQLite file, but not an assay store", s->path);
    return ASSAY_OK;
}

static assay_status migrate_one(assay_store *s, int version, assay_err *err) {
    char after[96];
    snprintf(after, sizeof after, "PRAGMA user_version=%d; PRAGMA application_id=%d", version + 1,
             STORE_APPLICATION_ID);
    assay_status status = exec(s, store_migrations[version], "making the tables", err);
    return status == ASSAY_OK ? exec(s, after, "making the tables", err) : status;
}

static assay_status migrate(assay_store *s, assay_err *err) {
    for (;;) {
        int64_t version = 0;
        ASSAY_TRY(
            db_begin(s, err)); /* the version is read inside: two processes may open a new store at once */
        assay_status status = pragma_int(&version, s, "PRAGMA user_version", err);
        if (status == ASSAY_OK && version < SCHEMA_VERSION) status = migrate_one(s, (int)version, err);
        ASSAY_TRY(db_end(s, status, err));
        if (version >= SCHEMA_VERSION) return ASSAY_OK;
    }
}

static assay_status check_version(assay_store *s, assay_err *err) {
    int64_t version = 0, app = 0;
    ASSAY_TRY(pragma_int(&app, s, "PRAGMA application_id", err));
    ASSAY_TRY(pragma_int(&version, s, "PRAGMA user_version", err));
    if (app != STORE_APPLICATION_ID) return assay_fail(err, ASSAY_EINPUT, "%s: not an assay store", s->path);
    if (version > SCHEMA_VERSION)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: schema version %lld, this program knows up to %d: use a newer assay", s->path,
                          (long long)version, SCHEMA_VERSION);
    if (version < SCHEMA_VERSION)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: schema version %lld is old: open it once for writing to bring it to %d",
                          s->path, (long long)version, SCHEMA_VERSION);
    return ASSAY_OK;
}

/* SQLite reads a file in WAL mode only where it may write its index beside it. In a folder that cannot be written, and without a WAL
 * left behind, nobody changes the file: then it is opened as immutable. */
static bool is_immutable(const char *path) {
    assay_str wal = {0};
    assay_str_printf(&wal, "%s-wal", path);
    char *dir = assay_path_dir(path);
    bool yes = dir && access(dir, W_OK) != 0 && !wal.failed && !assay_path_exists(assay_str_c(&wal));
    assay_free(dir);
    assay_str_free(&wal);
    return yes;
}

static int open_immutable(assay_store *s, int flags) {
    assay_str uri = {0};
    assay_str_put(&uri, "file:");
    for (const unsigned char *p = (const unsigned char *)s->path; *p; p++) {
        if (*p == '/') assay_str_putc(&uri, '/');
        else assay_str_printf(&uri, "%%%02X", *p);
    }
    assay_str_put(&uri, "?immutable=1");
    int rc = uri.failed ? SQLITE_NOMEM : sqlite3_open_v2(assay_str_c(&uri), &s->db, flags | SQLITE_OPEN_URI, NULL);
    assay_str_free(&uri);
    return rc;
}

static assay_status open_file(assay_store *s, const assay_store_opts *o, assay_err *err) {
    int flags = SQLITE_OPEN_NOMUTEX | (o->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    int rc = o->read_only && is_immutable(s->path) ? open_immutable(s, flags) : sqlite3_open_v2(s->path, &s->db, flags, NULL);
    if (rc != SQLITE_OK) return db_fail(s, rc, "opening", err);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, o->busy_ms > 0 ? o->busy_ms : 30000);
    ASSAY_TRY(exec(s, "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON",
                   "opening", err));
    if (!o->read_only) {
        ASSAY_TRY(check_owner(s, err));
        ASSAY_TRY(exec(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", "setting the journal", err));
        ASSAY_TRY(migrate(s, err));
    }
    ASSAY_TRY(check_version(s, err));
    if (o->max_pages > 0) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA max_page_count=%lld", (long long)o->max_pages);
        ASSAY_TRY(exec(s, sql, "opening", err));
    }
    return ASSAY_OK;
}

static assay_status make_folder(const char *path, assay_err *err) {
    char *dir = assay_path_dir(path);
    if (!dir) return assay_nomem(err);
    assay_status status = assay_mkdirs(dir, err);
    assay_free(dir);
    return status;
}

assay_status assay_store_open(assay_store **out, const char *path, const assay_store_opts *o,
                              assay_err *err) {
    static const assay_store_opts defaults;
    assay_status s = ASSAY_OK;
    if (!o) o = &defaults;
    *out = NULL;
    if (o->read_only && !assay_path_exists(path))
        return assay_fail(err, ASSAY_ENOTFOUND, "%s: no such store", path);
    if (!o->read_only) ASSAY_TRY(make_folder(path, err));
    assay_store *st = assay_calloc(1, sizeof *st);
    if (!st) return assay_nomem(err);
    st->path = assay_strdup(path);
    if (!st->path) {
        s = assay_nomem(err);
        goto out;
    }
    st->read_only = o->read_only;
    st->flush_records = o->flush_records > 0 ? (size_t)o->flush_records : 64;
    st->flush_seconds = o->flush_seconds > 0 ? o->flush_seconds : 0.5;
    ASSAY_GO(open_file(st, o, err));
    *out = st;
    st = NULL;
out:
    assay_store_close(st);
    return s;
}

void assay_store_close(assay_store *s) {
    if (!s) return;
    if (s->db) (void)assay_store_flush(s, NULL);
    for (size_t i = 0; i < s->n_pending; i++) assay_record_deinit(&s->pending[i].record);
    assay_free(s->pending);
    for (int i = 0; i < DB_STATEMENTS; i++) sqlite3_finalize(s->kept[i]);
    sqlite3_finalize(s->insert_record);
    sqlite3_close(s->db); /* the last connection folds the WAL back into the file */
    assay_free(s->path);
    assay_free(s);
}

/* --- checking --- */

/* Runs sql; its first row, when the first column is not `good`, is a fault. */
static assay_status check_query(assay_store *s, const char *sql, const char *good, const char *what,
                                assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool row = false;
    assay_status status = db_prepare(&st, s, sql, err);
    if (status == ASSAY_OK) status = db_row(&row, s, st, "checking", err);
    if (status == ASSAY_OK && row) {
        const char *t = (const char *)sqlite3_column_text(st, 0);
        if (!t || !good || strcmp(t, good) != 0)
            status = assay_fail(err, ASSAY_EIO, "%s: damaged, %s: %.200s: restore a copy", s->path, what,
                                t ? t : "(null)");
    }
    sqlite3_finalize(st);
    return status;
}

assay_status assay_store_check(assay_store *s, assay_err *err) {
    if (!s->read_only) ASSAY_TRY(assay_store_flush(s, err));
    ASSAY_TRY(check_query(s, "PRAGMA integrity_check(1)", "ok", "integrity", err));
    ASSAY_TRY(check_query(s, "PRAGMA foreign_key_check", NULL, "a row points to nothing in table", err));
    return check_query(s,
                       "SELECT key FROM scorecards c WHERE state=1 AND"
                       " n_items <> (SELECT COUNT(*) FROM records WHERE card=c.id) LIMIT 1",
                       NULL, "a finished scorecard lacks records", err);
}
