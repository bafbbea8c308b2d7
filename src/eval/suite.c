/* suite.c: a suite's YAML, its identity and its end. Items are read by items.c, running text by language.c. */
#include "eval/suite.h"

#include <string.h>
#include <time.h>
#include "base/file.h"
#include "base/str.h"
#include "base/yaml.h"
#include "eval/suite_impl.h"

static const char *const suite_keys[] = {"suite", "version", "items", "dimensions", "slices", "evaluators", "chat", "few_shot",
                                         "limit", "max_tokens", "stop", "delimiter", "language"};

assay_status assay_suite_strdup(const char **out, assay_suite *s, const char *text, assay_err *err) {
    *out = NULL;
    if (!text) return ASSAY_OK;
    *out = assay_arena_strndup(&s->arena, text, strlen(text));
    return *out ? ASSAY_OK : assay_nomem(err);
}

assay_status assay_suite_read_file(char **data, size_t *n, const char **name, assay_suite_reader *r, const char *file, assay_err *err) {
    *data = NULL;
    if (r->memory) {
        ASSAY_TRY(assay_suite_strdup(name, r->suite, file, err));
        *data = assay_strndup(r->memory, r->n_memory);
        *n = r->n_memory;
        return *data ? ASSAY_OK : assay_nomem(err);
    }
    char *path = assay_path_join(r->dir, file);
    if (!path) return assay_nomem(err);
    assay_status s = assay_suite_strdup(name, r->suite, path, err);
    assay_free(path);
    return s == ASSAY_OK ? assay_read_file(data, n, *name, 0, err) : s;
}

assay_status assay_suite_unknown_evaluator(const char *name, assay_err *err) {
    size_t n;
    const char *names[32];
    const assay_evaluator *const *all = assay_evaluators(&n);
    for (size_t i = 0; i < n && i < ASSAY_LEN(names); i++) names[i] = all[i]->name;
    const char *near = assay_nearest(name, names, ASSAY_MIN(n, ASSAY_LEN(names)));
    return assay_fail(err, ASSAY_EINPUT, "unknown evaluator '%s'%s%s%s", name, near ? ", did you mean '" : "", near ? near : "",
                      near ? "'?" : "");
}

assay_status assay_suite_use(size_t *index, assay_suite_reader *r, const char *name, assay_err *err) {
    assay_suite *s = r->suite;
    for (size_t i = 0; i < s->n_evaluators; i++)
        if (!strcmp(s->evaluators[i].def->name, name)) {
            *index = i;
            return ASSAY_OK;
        }
    const assay_evaluator *def = assay_evaluator_find(name);
    if (!def) return assay_suite_unknown_evaluator(name, err);
    ASSAY_TRY(assay_grow(&s->evaluators, &s->cap_evaluators, s->n_evaluators + 1, sizeof *s->evaluators, err));
    ASSAY_TRY(assay_evaluator_use_open(&s->evaluators[s->n_evaluators], def, r->doc, assay_yaml_find(r->evaluators, name), err));
    *index = s->n_evaluators++;
    return ASSAY_OK;
}

/* Options of evaluators that no item uses are checked all the same: a typing error there is an error. */
static assay_status read_evaluators(assay_suite_reader *r, const assay_yaml *root, assay_err *err) {
    const assay_yaml *map = assay_yaml_find(root, "evaluators");
    if (!map || map->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, map, ASSAY_YAML_MAP, "evaluators", err));
    r->evaluators = map;
    for (size_t i = 0; i < map->n; i++) {
        size_t index;
        bool known = assay_evaluator_find(map->keys[i]);
        assay_status s = assay_suite_use(&index, r, map->keys[i], err);
        if (s != ASSAY_OK) return known ? s : assay_err_prefix(err, "%s:%d", assay_yaml_name(r->doc), map->key_lines[i]);
    }
    return ASSAY_OK;
}

/* A list of strings, or one string alone. fn gets each. */
typedef assay_status (*string_fn)(assay_suite_reader *r, const char *text, assay_err *err);
static assay_status each_string(assay_suite_reader *r, const assay_yaml *y, const char *what, string_fn fn, assay_err *err) {
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    if (y->kind == ASSAY_YAML_SCALAR) return fn(r, y->text, err);
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_SEQ, what, err));
    for (size_t i = 0; i < y->n; i++) {
        ASSAY_TRY(assay_yaml_want(r->doc, y->items[i], ASSAY_YAML_SCALAR, what, err));
        ASSAY_TRY(fn(r, y->items[i]->text, err));
    }
    return ASSAY_OK;
}

assay_status assay_suite_add_dimension(assay_suite_reader *r, const char *name, assay_err *err) {
    assay_suite *s = r->suite;
    ASSAY_TRY(assay_grow(&s->dimensions, &s->cap_dimensions, s->n_dimensions + 1, sizeof *s->dimensions, err));
    assay_slice_list *l = &s->dimensions[s->n_dimensions];
    memset(l, 0, sizeof *l);
    ASSAY_TRY(assay_suite_strdup(&l->dimension, s, name, err));
    s->n_dimensions++;
    return ASSAY_OK;
}

static assay_status list_dimension(assay_suite_reader *r, const char *name, assay_err *err) {
    for (size_t i = 0; i < r->suite->n_dimensions; i++)
        if (!strcmp(r->suite->dimensions[i].dimension, name))
            return assay_fail(err, ASSAY_EINPUT, "%s: dimension '%s' is listed twice", assay_yaml_name(r->doc), name);
    r->closed_dimensions = true;
    return assay_suite_add_dimension(r, name, err);
}

assay_status assay_suite_add_slice(assay_suite_reader *r, assay_slice_list *l, const char *name, assay_err *err) {
    ASSAY_TRY(assay_grow(&l->slices, &l->cap_slices, l->n_slices + 1, sizeof *l->slices, err));
    ASSAY_TRY(assay_grow(&l->counts, &l->cap_counts, l->n_slices + 1, sizeof *l->counts, err));
    ASSAY_TRY(assay_suite_strdup(&l->slices[l->n_slices], r->suite, name, err));
    l->counts[l->n_slices++] = 0;
    return ASSAY_OK;
}

static assay_status read_slices(assay_suite_reader *r, const assay_yaml *map, assay_err *err) {
    if (!map || map->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, map, ASSAY_YAML_MAP, "slices", err));
    for (size_t i = 0; i < map->n; i++) {
        assay_slice_list *l = NULL;
        for (size_t k = 0; k < r->suite->n_dimensions && !l; k++)
            if (!strcmp(r->suite->dimensions[k].dimension, map->keys[i])) l = &r->suite->dimensions[k];
        const assay_yaml *list = map->items[i];
        if (!l)
            return assay_yaml_fail(r->doc, list, err, "slices of '%s', which `dimensions` does not list", map->keys[i]);
        ASSAY_TRY(assay_yaml_want(r->doc, list, ASSAY_YAML_SEQ, "the slices of a dimension", err));
        for (size_t k = 0; k < list->n; k++) {
            ASSAY_TRY(assay_yaml_want(r->doc, list->items[k], ASSAY_YAML_SCALAR, "a slice", err));
            ASSAY_TRY(assay_suite_add_slice(r, l, list->items[k]->text, err));
        }
        l->closed = true;
    }
    return ASSAY_OK;
}

/* Templates that name the day (Llama 3.2, Mistral) would make other prompts tomorrow: the suite fixes it. The default is the day
 * that Llama's own templates fall back on. Kept as given; false when it is no day. */
#define DEFAULT_DATE "2024-07-26"
static bool set_date(assay_suite *s, const char *date) {
    struct tm tm = {0};
    const char *end = strptime(date, "%Y-%m-%d", &tm);
    s->date = date;
    s->now = (int64_t)timegm(&tm);
    return end && !*end;
}

/* chat: true | false | {system: "...", date: 2024-07-26} */
static assay_status read_chat(assay_suite_reader *r, const assay_yaml *root, assay_err *err) {
    static const char *const keys[] = {"system", "date"};
    const assay_yaml *y = assay_yaml_find(root, "chat");
    assay_suite *s = r->suite;
    set_date(s, DEFAULT_DATE);
    if (!y || y->kind != ASSAY_YAML_MAP) return assay_yaml_get_bool(&s->chat, r->doc, root, "chat", err);
    const char *system = NULL, *date = NULL;
    ASSAY_TRY(assay_yaml_get_str(&system, r->doc, y, "system", err));
    ASSAY_TRY(assay_yaml_get_str(&date, r->doc, y, "date", err));
    ASSAY_TRY(assay_yaml_check_unknown(r->doc, y, "chat", keys, ASSAY_LEN(keys), err));
    s->chat = true;
    if (date) {
        ASSAY_TRY(assay_suite_strdup(&date, s, date, err));
        if (!set_date(s, date)) return assay_yaml_fail(r->doc, assay_yaml_find(y, "date"), err, "date must be like %s, not '%.40s'", DEFAULT_DATE, date);
    }
    return assay_suite_strdup(&s->system, s, system, err);
}

/* few_shot: {file: shots.jsonl, count: 5, separator: "\n\n"} */
static assay_status read_few_shot(assay_suite_reader *r, const assay_yaml *root, assay_err *err) {
    static const char *const keys[] = {"file", "count", "separator"};
    const assay_yaml *y = assay_yaml_find(root, "few_shot");
    assay_suite *s = r->suite;
    s->shot_separator = "\n\n";
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "few_shot", err));
    const char *file = NULL, *separator = NULL;
    ASSAY_TRY(assay_yaml_get_str(&file, r->doc, y, "file", err));
    ASSAY_TRY(assay_yaml_get_int(&s->few_shot, r->doc, y, "count", 1, 100, err));
    ASSAY_TRY(assay_yaml_get_str(&separator, r->doc, y, "separator", err));
    ASSAY_TRY(assay_yaml_check_unknown(r->doc, y, "few_shot", keys, ASSAY_LEN(keys), err));
    if (!file || !s->few_shot) return assay_yaml_fail(r->doc, y, err, "few_shot needs file and count");
    if (separator) ASSAY_TRY(assay_suite_strdup(&s->shot_separator, s, separator, err));
    return assay_suite_read_shots(r, file, err);
}

static assay_status add_stop(assay_suite_reader *r, const char *text, assay_err *err) {
    if (!*text) return assay_fail(err, ASSAY_EINPUT, "%s: an empty stop string", assay_yaml_name(r->doc));
    const char **stop = assay_arena_alloc(&r->suite->arena, (r->suite->n_stop + 1) * sizeof *stop);
    if (!stop) return assay_nomem(err);
    if (r->suite->n_stop) memcpy(stop, r->suite->stop, r->suite->n_stop * sizeof *stop);
    r->suite->stop = stop;
    return assay_suite_strdup(&stop[r->suite->n_stop++], r->suite, text, err);
}

static assay_status read_scalars(assay_suite_reader *r, const assay_yaml *root, int64_t limit, assay_err *err) {
    assay_suite *s = r->suite;
    const char *name = NULL, *version = NULL, *delimiter = NULL;
    s->max_tokens = 256;
    ASSAY_TRY(assay_yaml_get_str(&name, r->doc, root, "suite", err));
    ASSAY_TRY(assay_yaml_get_str(&version, r->doc, root, "version", err));
    ASSAY_TRY(assay_yaml_get_str(&delimiter, r->doc, root, "delimiter", err));
    ASSAY_TRY(assay_yaml_get_int(&s->limit, r->doc, root, "limit", 1, INT64_MAX, err));
    ASSAY_TRY(assay_yaml_get_int(&s->max_tokens, r->doc, root, "max_tokens", 1, 1 << 20, err));
    if (!name || !*name) return assay_yaml_fail(r->doc, root, err, "the suite has no name (key 'suite')");
    if (!version || !*version) return assay_yaml_fail(r->doc, root, err, "the suite has no version (key 'version')");
    if (limit > 0) s->limit = limit;
    ASSAY_TRY(assay_suite_strdup(&s->name, s, name, err));
    ASSAY_TRY(assay_suite_strdup(&s->version, s, version, err));
    ASSAY_TRY(assay_suite_strdup(&s->delimiter, s, delimiter ? delimiter : " ", err));
    return each_string(r, assay_yaml_find(root, "stop"), "stop", add_stop, err);
}

/* A listed dimension or slice without items is a misspelling somewhere. */
static assay_status check_listed(const assay_suite_reader *r, assay_err *err) {
    const assay_suite *s = r->suite;
    for (size_t i = 0; i < s->n_dimensions; i++) {
        const assay_slice_list *l = &s->dimensions[i];
        size_t n = 0;
        for (size_t k = 0; k < l->n_slices; k++) {
            n += l->counts[k];
            if (!l->counts[k])
                return assay_fail(err, ASSAY_EINPUT, "%s: slice '%s' of '%s' has no items", s->path, l->slices[k], l->dimension);
        }
        if (!n) return assay_fail(err, ASSAY_EINPUT, "%s: dimension '%s' has no items", s->path, l->dimension);
    }
    return ASSAY_OK;
}

/* --- identity --- */

json_t *assay_suite_manifest(const assay_suite *s) {
    json_t *uses = json_array(), *texts = json_array(), *stop = json_array();
    for (size_t i = 0; i < s->n_evaluators && uses; i++) {
        const assay_evaluator_use *u = &s->evaluators[i];
        json_array_append_new(uses, json_pack("{s:s, s:i, s:O, s:s}", "name", u->def->name, "version", u->def->version, "options",
                                              u->options, "hash", u->hash));
    }
    for (size_t i = 0; i < s->n_languages && texts; i++) {
        const assay_language *l = &s->languages[i];
        json_t *names = json_array();
        for (size_t k = 0; k < l->n_evaluators; k++)
            json_array_append_new(names, json_string(s->evaluators[l->evaluators[k]].def->name));
        json_array_append_new(texts, json_pack("{s:s, s:s, s:I, s:o}", "name", l->name, "hash", l->hash, "documents", (json_int_t)l->n_docs,
                                               "evaluators", names));
    }
    for (size_t i = 0; i < s->n_stop && stop; i++) json_array_append_new(stop, json_string(s->stop[i]));
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:s*, s:s?, s:s, s:I, s:I, s:o, s:o, s:o}", "suite", s->name, "version", s->version, "hash",
                     s->hash, "items", (json_int_t)s->n_items, "limit", (json_int_t)s->limit, "chat", s->chat, "date", s->chat ? s->date : NULL, "system", s->system,
                     "delimiter", s->delimiter, "few_shot", (json_int_t)s->few_shot, "max_tokens", (json_int_t)s->max_tokens, "stop", stop,
                     "evaluators", uses, "language", texts);
}

/* The manifest without hash and limit (its effect is in the items), then every item and every example. */
static assay_status hash_suite(assay_suite *s, assay_err *err) {
    assay_str text = {0};
    assay_hasher *h = NULL;
    assay_status st = ASSAY_OK;
    json_t *m = assay_suite_manifest(s);
    if (!m) return assay_nomem(err);
    json_object_del(m, "hash");
    json_object_del(m, "limit");
    st = assay_json_dump(&text, m, 0, true, err);
    if (st == ASSAY_OK) st = assay_hasher_new(&h, err);
    if (st == ASSAY_OK) {
        assay_hasher_put_str(h, assay_str_c(&text));
        assay_hasher_put_str(h, s->shot_separator);
        for (size_t i = 0; i < s->n_shots; i++) {
            assay_hasher_put_str(h, s->shots[i].dimension);
            assay_hasher_put_str(h, s->shots[i].prompt);
            assay_hasher_put_str(h, s->shots[i].answer);
        }
        for (size_t i = 0; i < s->n_items; i++) assay_hasher_put_str(h, s->items[i].hash);
        assay_hasher_finish(h, s->hash);
    }
    json_decref(m);
    assay_str_free(&text);
    return st;
}

/* --- loading --- */

static assay_status read_suite(assay_suite_reader *r, int64_t limit, assay_err *err) {
    const assay_yaml *root = assay_yaml_root(r->doc);
    ASSAY_TRY(assay_yaml_want(r->doc, root, ASSAY_YAML_MAP, "a suite", err));
    /* Unknown keys come first: a misspelled one is the cause of whatever else is missing. */
    for (size_t i = 0; i < ASSAY_LEN(suite_keys); i++) assay_yaml_find(root, suite_keys[i]);
    ASSAY_TRY(assay_yaml_check_unknown(r->doc, root, "a suite", suite_keys, ASSAY_LEN(suite_keys), err));
    ASSAY_TRY(read_scalars(r, root, limit, err));
    ASSAY_TRY(read_evaluators(r, root, err));
    ASSAY_TRY(read_chat(r, root, err));
    ASSAY_TRY(each_string(r, assay_yaml_find(root, "dimensions"), "dimensions", list_dimension, err));
    ASSAY_TRY(read_slices(r, assay_yaml_find(root, "slices"), err));
    ASSAY_TRY(read_few_shot(r, root, err));
    ASSAY_TRY(each_string(r, assay_yaml_find(root, "items"), "items", assay_suite_read_items, err));
    ASSAY_TRY(assay_suite_read_languages(r, assay_yaml_find(root, "language"), err));
    if (!r->suite->n_items && !r->suite->n_languages)
        return assay_yaml_fail(r->doc, root, err, "the suite is empty: it has neither items nor language");
    ASSAY_TRY(check_listed(r, err));
    return hash_suite(r->suite, err);
}

static assay_status load(assay_suite **out, assay_suite_reader *r, const char *name, int64_t limit, assay_err *err) {
    *out = NULL;
    r->suite = assay_calloc(1, sizeof *r->suite);
    assay_status s = r->suite ? assay_suite_strdup(&r->suite->path, r->suite, name, err) : assay_nomem(err);
    if (s == ASSAY_OK) s = read_suite(r, limit, err);
    assay_id_table_free(r->ids);
    if (s == ASSAY_OK) *out = r->suite;
    else assay_suite_free(r->suite);
    return s;
}

assay_status assay_suite_load_limited(assay_suite **out, const char *path, int64_t limit, assay_err *err) {
    assay_suite_reader r = {0};
    *out = NULL;
    ASSAY_TRY(assay_yaml_load(&r.doc, path, err));
    r.dir = assay_path_dir(path);
    assay_status s = r.dir ? load(out, &r, path, limit, err) : assay_nomem(err);
    assay_free(r.dir);
    assay_yaml_free(r.doc);
    return s;
}

assay_status assay_suite_load(assay_suite **out, const char *path, assay_err *err) {
    return assay_suite_load_limited(out, path, 0, err);
}

assay_status assay_suite_parse(assay_suite **out, const char *yaml, size_t n, const char *items, size_t n_items, const char *name,
                               assay_err *err) {
    assay_suite_reader r = {.memory = items ? items : "", .n_memory = items ? n_items : 0};
    *out = NULL;
    ASSAY_TRY(assay_yaml_parse(&r.doc, yaml, n, name, err));
    assay_status s = load(out, &r, name, 0, err);
    assay_yaml_free(r.doc);
    return s;
}

void assay_suite_free(assay_suite *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_evaluators; i++) assay_evaluator_use_close(&s->evaluators[i]);
    for (size_t i = 0; i < s->n_items; i++) {
        json_decref(s->items[i].messages);
        json_decref(s->items[i].reference);
        assay_regex_free(s->items[i].extract_re);
    }
    for (size_t i = 0; i < s->n_dimensions; i++) {
        assay_free(s->dimensions[i].slices);
        assay_free(s->dimensions[i].counts);
    }
    assay_free(s->evaluators);
    assay_free(s->items);
    assay_free(s->shots);
    assay_free(s->dimensions);
    assay_arena_free(&s->arena);
    assay_free(s);
}
