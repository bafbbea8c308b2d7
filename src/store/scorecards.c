/* scorecards.c: scorecards by key, by study, and the studies themselves.
 *
 * A scorecard belongs to nobody: it is found by the key of what determines it. A study only links to it
 * (table `uses`), under a name and in a role of its own, so that two studies which agree on everything share
 * the work. */
#include <string.h>
#include "base/str.h"
#include "store/db.h"

static const char *const role_names[] = {"baseline", "variant", "rerun"};

const char *assay_role_name(assay_role r) {
    return (size_t)r < ASSAY_LEN(role_names) ? role_names[r] : "?";
}

void assay_scorecard_deinit(assay_scorecard *c) {
    if (!c) return;
    assay_arena_free(&c->arena);
    memset(c, 0, sizeof *c);
}

/* The columns that read_card expects, with study, name and role from `from`. */
#define CARD_COLUMNS(study, variant, role)                                                                   \
    "SELECT c.id, c.key, " study ", " variant ", " role                                                      \
    ", c.model_path, c.model_hash, c.suite, c.suite_hash, c.template_hash,"                                  \
    " c.n_items, c.manifest, c.state, c.created, c.finished, (SELECT COUNT(*) FROM records r WHERE "         \
    "r.card=c.id) "
#define CARD_ALONE CARD_COLUMNS("NULL", "c.variant", "c.role") "FROM scorecards c "
#define CARD_LINKED                                                                                          \
    CARD_COLUMNS("NULLIF(u.study, '')", "u.variant", "u.role") "FROM uses u JOIN scorecards c ON "           \
                                                               "c.id=u.card "

static assay_status read_card(assay_scorecard *c, sqlite3_stmt *st, assay_err *err) {
    bool failed = false;
    int i = 0;
    memset(c, 0, sizeof *c);
    c->id = sqlite3_column_int64(st, i++);
    c->d.key = db_text(&c->arena, st, i++, &failed);
    c->d.study = db_text(&c->arena, st, i++, &failed);
    c->d.variant = db_text(&c->arena, st, i++, &failed);
    c->d.role = (assay_role)sqlite3_column_int(st, i++);
    c->d.model_path = db_text(&c->arena, st, i++, &failed);
    c->d.model_hash = db_text(&c->arena, st, i++, &failed);
    c->d.suite = db_text(&c->arena, st, i++, &failed);
    c->d.suite_hash = db_text(&c->arena, st, i++, &failed);
    c->d.template_hash = db_text(&c->arena, st, i++, &failed);
    c->d.n_items = sqlite3_column_int64(st, i++);
    c->d.manifest = db_text(&c->arena, st, i++, &failed);
    c->complete = sqlite3_column_int(st, i++) != 0;
    c->created = db_text(&c->arena, st, i++, &failed);
    c->finished = db_text(&c->arena, st, i++, &failed);
    c->n_records = sqlite3_column_int64(st, i++);
    if (!failed) return ASSAY_OK;
    assay_scorecard_deinit(c);
    return assay_nomem(err);
}

static assay_status flush_if_writing(assay_store *s, assay_err *err) {
    return s->read_only ? ASSAY_OK : assay_store_flush(s, err);
}

/* The first row of st as a scorecard; *found tells. st is finalized. */
static assay_status first_card(assay_scorecard *out, bool *found, assay_store *s, sqlite3_stmt *st,
                               assay_err *err) {
    memset(out, 0, sizeof *out);
    assay_status status = db_row(found, s, st, "reading scorecards", err);
    if (status == ASSAY_OK && *found) status = read_card(out, st, err);
    sqlite3_finalize(st);
    return status;
}

assay_status assay_scorecard_get(assay_scorecard *out, assay_store *s, int64_t id, assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool found = false;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(db_prepare(&st, s, CARD_ALONE "WHERE c.id=?1", err));
    sqlite3_bind_int64(st, 1, id);
    ASSAY_TRY(first_card(out, &found, s, st, err));
    return found ? ASSAY_OK
                 : assay_fail(err, ASSAY_ENOTFOUND, "%s: no scorecard %lld", s->path, (long long)id);
}

static assay_status find_by_key(assay_scorecard *out, bool *found, assay_store *s, const char *key,
                                assay_err *err) {
    sqlite3_stmt *st = NULL;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(db_prepare(&st, s, CARD_ALONE "WHERE c.key=?1", err));
    db_bind_str(st, 1, key);
    return first_card(out, found, s, st, err);
}

assay_status assay_scorecard_by_key(assay_scorecard *out, assay_store *s, const char *key, assay_err *err) {
    bool found = false;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(find_by_key(out, &found, s, key, err));
    return found ? ASSAY_OK
                 : assay_fail(err, ASSAY_ENOTFOUND, "%s: no scorecard with key %.16s", s->path, key);
}

/* "a, b, c": the variants that a study has, for a message. */
static void list_variants(assay_str *b, assay_store *s, const char *study) {
    sqlite3_stmt *st = NULL;
    bool row = false;
    if (db_prepare(&st, s, "SELECT DISTINCT variant FROM uses WHERE study=?1 ORDER BY variant LIMIT 12",
                   NULL) != ASSAY_OK)
        return;
    db_bind_str(st, 1, study);
    while (db_row(&row, s, st, "reading scorecards", NULL) == ASSAY_OK && row) {
        if (b->len) assay_str_put(b, ", ");
        assay_str_put(b, (const char *)sqlite3_column_text(st, 0));
    }
    sqlite3_finalize(st);
}

assay_status assay_scorecard_latest(assay_scorecard *out, assay_store *s, const char *study,
                                    const char *variant, assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool found = false;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(
        db_prepare(&st, s, CARD_LINKED "WHERE u.study=?1 AND u.variant=?2 ORDER BY u.id DESC LIMIT 1", err));
    db_bind_str(st, 1, study ? study : "");
    db_bind_str(st, 2, variant);
    ASSAY_TRY(first_card(out, &found, s, st, err));
    if (found) return ASSAY_OK;
    assay_str have = {0};
    list_variants(&have, s, study ? study : "");
    assay_status status = assay_fail(err, ASSAY_ENOTFOUND, "%s: %s%s has no scorecard of %.80s%s%s", s->path,
                                     study ? "study " : "it", study ? study : "", variant,
                                     have.len ? "; there is " : "", assay_str_c(&have));
    assay_str_free(&have);
    return status;
}

assay_status assay_scorecard_named(assay_scorecard *out, assay_store *s, const char *variant, assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool found = false;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(db_prepare(&st, s, CARD_LINKED "WHERE u.variant=?1 AND u.role<>?2 ORDER BY u.id DESC LIMIT 1", err));
    db_bind_str(st, 1, variant);
    sqlite3_bind_int(st, 2, ASSAY_ROLE_RERUN);
    ASSAY_TRY(first_card(out, &found, s, st, err));
    if (found) return ASSAY_OK;
    return assay_fail(err, ASSAY_ENOTFOUND, "no scorecard of '%s' in '%s'; `assay eval` makes one", variant, s->path);
}

assay_status assay_scorecard_in_role(assay_scorecard *out, assay_store *s, const char *study, assay_role role,
                                     assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool found = false;
    memset(out, 0, sizeof *out);
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(
        db_prepare(&st, s, CARD_LINKED "WHERE u.study=?1 AND u.role=?2 ORDER BY u.id DESC LIMIT 1", err));
    db_bind_str(st, 1, study ? study : "");
    sqlite3_bind_int(st, 2, (int)role);
    ASSAY_TRY(first_card(out, &found, s, st, err));
    if (found) return ASSAY_OK;
    return assay_fail(err, ASSAY_ENOTFOUND, "%s: %s%s has no %s scorecard", s->path, study ? "study " : "it",
                      study ? study : "", assay_role_name(role));
}

assay_status assay_scorecard_each(assay_store *s, const char *study, assay_scorecard_fn fn, void *ctx,
                                  assay_err *err) {
    sqlite3_stmt *st = NULL;
    bool row = false;
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(db_prepare(
        &st, s, study ? CARD_LINKED "WHERE u.study=?1 ORDER BY u.id" : CARD_ALONE "ORDER BY c.id", err));
    if (study) db_bind_str(st, 1, study);
    assay_status status;
    while ((status = db_row(&row, s, st, "reading scorecards", err)) == ASSAY_OK && row) {
        assay_scorecard c;
        status = read_card(&c, st, err);
        if (status != ASSAY_OK) break;
        status = fn(ctx, &c, err);
        assay_scorecard_deinit(&c);
        if (status != ASSAY_OK) break;
    }
    sqlite3_finalize(st);
    return status;
}

/* --- begin, manifest, finish --- */

static assay_status check_manifest(const assay_store *s, const char *text, assay_err *err) {
    json_t *j = NULL;
    assay_status status = assay_json_parse(&j, text, strlen(text), "manifest", err);
    json_decref(j);
    return status == ASSAY_OK ? status : assay_err_prefix(err, "%s", s->path);
}

static assay_status insert_card(int64_t *id, assay_store *s, const assay_scorecard_desc *d, assay_err *err) {
    char date[32];
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_CARD_INSERT, err));
    db_bind_str(st, 1, d->key);
    db_bind_str(st, 2, d->variant);
    sqlite3_bind_int(st, 3, (int)d->role);
    db_bind_str(st, 4, d->model_path);
    db_bind_str(st, 5, d->model_hash);
    db_bind_str(st, 6, d->suite);
    db_bind_str(st, 7, d->suite_hash);
    db_bind_str(st, 8, d->template_hash);
    sqlite3_bind_int64(st, 9, d->n_items);
    db_bind_str(st, 10, d->manifest ? d->manifest : "{}");
    db_bind_str(st, 11, assay_date_iso(date, sizeof date));
    ASSAY_TRY(db_run(s, st, "storing a scorecard", err));
    *id = sqlite3_last_insert_rowid(s->db);
    return ASSAY_OK;
}

static assay_status link_card(assay_store *s, int64_t id, const assay_scorecard_desc *d, assay_err *err) {
    char date[32];
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_CARD_LINK, err));
    db_bind_str(st, 1, d->study ? d->study : "");
    db_bind_str(st, 2, d->variant);
    sqlite3_bind_int(st, 3, (int)d->role);
    sqlite3_bind_int64(st, 4, id);
    db_bind_str(st, 5, assay_date_iso(date, sizeof date));
    return db_run(s, st, "storing a scorecard", err);
}

static bool same_str(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static assay_status find_or_insert(int64_t *id, bool *complete, assay_store *s, const assay_scorecard_desc *d,
                                   assay_err *err) {
    assay_scorecard c;
    bool found = false;
    assay_status status = find_by_key(&c, &found, s, d->key, err);
    if (status == ASSAY_OK && found &&
        (c.d.n_items != d->n_items || !same_str(c.d.suite_hash, d->suite_hash)))
        status = assay_fail(err, ASSAY_EINTERNAL, "%s: scorecard key %.16s stands for another suite", s->path,
                            d->key);
    *id = c.id;
    *complete = found && c.complete;
    assay_scorecard_deinit(&c);
    if (status == ASSAY_OK && !found) status = insert_card(id, s, d, err);
    return status == ASSAY_OK ? link_card(s, *id, d, err) : status;
}

static assay_status load_done(assay_id_set *out, assay_store *s, int64_t id, assay_err *err) {
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    bool row = false, failed = false;
    /* BINARY collation is memcmp: the order that assay_id_set_has searches in. */
    assay_status status =
        db_prepare(&st, s, "SELECT item_id FROM records WHERE card=?1 ORDER BY item_id", err);
    if (status == ASSAY_OK) sqlite3_bind_int64(st, 1, id);
    while (status == ASSAY_OK && (status = db_row(&row, s, st, "reading records", err)) == ASSAY_OK && row) {
        status = assay_grow(&out->ids, &cap, out->n + 1, sizeof *out->ids, err);
        if (status != ASSAY_OK) break;
        out->ids[out->n] = (char *)(uintptr_t)db_text(&out->arena, st, 0, &failed);
        if (failed) status = assay_nomem(err);
        else
            out->n++;
    }
    sqlite3_finalize(st);
    if (status != ASSAY_OK) assay_id_set_deinit(out);
    return status;
}

assay_status assay_scorecard_begin(int64_t *id, bool *complete, assay_id_set *done, assay_store *s,
                                   const assay_scorecard_desc *d, assay_err *err) {
    bool is_complete = false;
    *id = 0;
    if (complete) *complete = false;
    if (done) memset(done, 0, sizeof *done);
    if (!d->key || !d->variant)
        return assay_fail(err, ASSAY_EINTERNAL, "%s: a scorecard without key or variant", s->path);
    if (d->manifest) ASSAY_TRY(check_manifest(s, d->manifest, err));
    ASSAY_TRY(db_writable(s, err));
    ASSAY_TRY(db_begin(s, err));
    ASSAY_TRY(db_end(s, find_or_insert(id, &is_complete, s, d, err), err));
    if (complete) *complete = is_complete;
    return done ? load_done(done, s, *id, err) : ASSAY_OK;
}

bool assay_id_set_has(const assay_id_set *s, const char *id) {
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(s->ids[mid], id);
        if (c == 0) return true;
        if (c < 0) lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

void assay_id_set_deinit(assay_id_set *s) {
    if (!s) return;
    assay_free(s->ids);
    assay_arena_free(&s->arena);
    memset(s, 0, sizeof *s);
}

assay_status assay_scorecard_set_manifest(assay_store *s, int64_t id, const char *manifest_json,
                                          assay_err *err) {
    ASSAY_TRY(check_manifest(s, manifest_json, err));
    ASSAY_TRY(db_writable(s, err));
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_CARD_MANIFEST, err));
    sqlite3_bind_int64(st, 1, id);
    db_bind_str(st, 2, manifest_json);
    return db_run(s, st, "storing a manifest", err);
}

static assay_status mark_finished(assay_store *s, int64_t id, assay_err *err) {
    char date[32];
    bool row = false;
    sqlite3_stmt *st = NULL;
    ASSAY_TRY(db_use(&st, s, DB_CARD_COUNTS, err));
    sqlite3_bind_int64(st, 1, id);
    assay_status status = db_row(&row, s, st, "counting records", err);
    int64_t want = row ? sqlite3_column_int64(st, 0) : 0, have = row ? sqlite3_column_int64(st, 1) : 0;
    db_done(st);
    if (status != ASSAY_OK) return status;
    if (!row) return assay_fail(err, ASSAY_ENOTFOUND, "%s: no scorecard %lld", s->path, (long long)id);
    if (want != have)
        return assay_fail(err, ASSAY_EINTERNAL, "%s: scorecard %lld has %lld records of %lld items", s->path,
                          (long long)id, (long long)have, (long long)want);
    ASSAY_TRY(db_use(&st, s, DB_CARD_FINISH, err));
    sqlite3_bind_int64(st, 1, id);
    db_bind_str(st, 2, assay_date_iso(date, sizeof date));
    return db_run(s, st, "finishing a scorecard", err);
}

assay_status assay_scorecard_finish(assay_store *s, int64_t id, assay_err *err) {
    ASSAY_TRY(db_writable(s, err));
    ASSAY_TRY(db_begin(s, err));
    return db_end(s, mark_finished(s, id, err), err);
}

/* --- studies --- */

assay_status assay_study_each(assay_store *s, assay_study_fn fn, void *ctx, assay_err *err) {
    static const char sql[] =
        "SELECT n.study, MAX(n.date), (SELECT COUNT(DISTINCT card) FROM uses u WHERE u.study=n.study),"
        " (SELECT COUNT(*) FROM steps p WHERE p.study=n.study) FROM"
        " (SELECT study, linked AS date FROM uses UNION ALL SELECT study, COALESCE(finished, created) FROM "
        "steps"
        "  UNION ALL SELECT study, created FROM documents) n"
        " WHERE n.study IS NOT NULL AND n.study<>'' GROUP BY n.study ORDER BY 2 DESC, 1";
    sqlite3_stmt *st = NULL;
    bool row = false;
    ASSAY_TRY(flush_if_writing(s, err));
    ASSAY_TRY(db_prepare(&st, s, sql, err));
    assay_status status;
    while ((status = db_row(&row, s, st, "listing studies", err)) == ASSAY_OK && row) {
        assay_study_row r = {.name = (const char *)sqlite3_column_text(st, 0),
                             .last = (const char *)sqlite3_column_text(st, 1),
                             .n_scorecards = sqlite3_column_int64(st, 2),
                             .n_steps = sqlite3_column_int64(st, 3)};
        status = fn(ctx, &r, err);
        if (status != ASSAY_OK) break;
    }
    sqlite3_finalize(st);
    return status;
}
