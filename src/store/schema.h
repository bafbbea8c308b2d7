/* store/schema.h: the tables, as a list of migrations. Step i takes a file from user_version i to i+1; a step
 * that was released is never edited. Dates are ISO 8601 text in UTC, states and roles are the numbers of
 * their enums. */
#ifndef ASSAY_STORE_SCHEMA_H
#define ASSAY_STORE_SCHEMA_H

/* "assy": tells a store from any other SQLite file. */
#define STORE_APPLICATION_ID 0x61737379

static const char *const store_migrations[] = {
    "CREATE TABLE scorecards("
    " id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, variant TEXT NOT NULL, role INTEGER NOT NULL,"
    " model_path TEXT, model_hash TEXT, suite TEXT, suite_hash TEXT, template_hash TEXT, n_items INTEGER NOT "
    "NULL,"
    " manifest TEXT NOT NULL, state INTEGER NOT NULL, created TEXT NOT NULL, finished TEXT);"
    /* Two studies may use one scorecard under different names; the largest id is the newest use. */
    "CREATE TABLE uses("
    " id INTEGER PRIMARY KEY, study TEXT NOT NULL, variant TEXT NOT NULL, role INTEGER NOT NULL,"
    " card INTEGER NOT NULL REFERENCES scorecards(id), linked TEXT NOT NULL, UNIQUE(study, variant, role, "
    "card));"
    "CREATE TABLE records("
    " card INTEGER NOT NULL REFERENCES scorecards(id), position INTEGER NOT NULL,"
    " item_id TEXT NOT NULL, dimension TEXT, slice TEXT, cluster TEXT, evaluator TEXT, evaluator_version "
    "INTEGER,"
    " item_hash TEXT, prompt_hash TEXT, ids_hash TEXT, output TEXT, output_ids TEXT, answer TEXT, detail "
    "TEXT,"
    " binary INTEGER, score REAL, aux REAL, weight REAL, outcome INTEGER NOT NULL, stop TEXT,"
    " n_prompt INTEGER, n_output INTEGER, seconds REAL, UNIQUE(card, position), UNIQUE(card, item_id));"
    "CREATE TABLE steps("
    " id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, study TEXT, kind TEXT NOT NULL, name TEXT,"
    " state INTEGER NOT NULL, result TEXT, message TEXT, seconds REAL NOT NULL, created TEXT NOT NULL, "
    "finished TEXT);"
    "CREATE TABLE losses("
    " id INTEGER PRIMARY KEY, step TEXT NOT NULL, tensor TEXT NOT NULL, layer INTEGER NOT NULL, role TEXT, "
    "precision TEXT,"
    " bits REAL, method TEXT, weight_error REAL, output_error REAL, params TEXT NOT NULL, seconds REAL);"
    "CREATE INDEX losses_by_step ON losses(step);"
    "CREATE TABLE documents("
    " id INTEGER PRIMARY KEY, kind TEXT NOT NULL, study TEXT, name TEXT, baseline INTEGER REFERENCES "
    "scorecards(id),"
    " variant INTEGER REFERENCES scorecards(id), created TEXT NOT NULL, body TEXT NOT NULL);"
    "CREATE INDEX documents_by_kind ON documents(kind, study, name);",
};

#endif
