/* store/db.h: private to the room: the connection, its prepared statements, and the queue of records not yet
 * committed.
 *
 * Use of a kept statement: db_use(&st, s, DB_NAME, err); db_bind_*(st, ...); db_run(s, st, what, err) or
 * db_row(...); db_done(st). Binding and column reading cannot fail in a way that matters here except for
 * memory, which the following step reports. */
#ifndef ASSAY_STORE_DB_H
#define ASSAY_STORE_DB_H

#include <sqlite3.h>
#include "base/clock.h"
#include "base/mem.h"
#include "store/store.h"

#define STEP_COLUMNS                                                                                         \
    "SELECT key, study, kind, name, state, result, message, seconds, created, finished FROM steps "
#define DOC_COLUMNS "SELECT id, kind, study, name, baseline, variant, created, body FROM documents "

enum db_statement {
#define X(NAME, sql) DB_##NAME,
#include "store/statements.def"
#undef X
    DB_STATEMENTS
};

typedef struct db_pending {
    int64_t card, position;
    assay_record record; /* a copy, owned */
} db_pending;

struct assay_store {
    sqlite3 *db;
    char *path;
    bool read_only;
    sqlite3_stmt *kept[DB_STATEMENTS];
    sqlite3_stmt *insert_record; /* built from record_fields.def */
    db_pending *pending;
    size_t n_pending, cap_pending;
    size_t flush_records;
    double flush_seconds;
    double last_flush; /* assay_now of the last commit of records */
};

/* What SQLite's code rc means for us, with the store's path, what was being done and what to do. */
assay_status db_fail(const assay_store *s, int rc, const char *what, assay_err *err);
assay_status db_use(sqlite3_stmt **out, assay_store *s, enum db_statement which, assay_err *err);
assay_status db_prepare(sqlite3_stmt **out, const assay_store *s, const char *sql, assay_err *err);

void db_bind_str(sqlite3_stmt *st, int i,
                 const char *v); /* NULL is NULL; borrowed until the statement is reset */
void db_bind_double(sqlite3_stmt *st, int i, double v); /* NaN is NULL */

/* Steps a statement that returns no row, and resets it. */
assay_status db_run(assay_store *s, sqlite3_stmt *st, const char *what, assay_err *err);
/* Steps once: *row tells whether there is a row. The caller resets (db_done) or finalizes. */
assay_status db_row(bool *row, const assay_store *s, sqlite3_stmt *st, const char *what, assay_err *err);
void db_done(sqlite3_stmt *st);

const char *db_text(assay_arena *a, sqlite3_stmt *st, int col,
                    bool *failed);           /* copy; NULL for NULL; *failed on no memory */
double db_double(sqlite3_stmt *st, int col); /* NULL is NaN */

/* Every function that writes starts here: EUSAGE when read-only, commits waiting records so that order is
 * kept. */
assay_status db_writable(assay_store *s, assay_err *err);
assay_status db_begin(assay_store *s, assay_err *err);
/* Commits when status is ASSAY_OK, else rolls back and hands status through. */
assay_status db_end(assay_store *s, assay_status status, assay_err *err);

#endif
