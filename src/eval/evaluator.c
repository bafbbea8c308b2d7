/* evaluator.c: the table of evaluators, their options, and units of work. */
#include "eval/evaluator.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

static const assay_evaluator *const table[] = {
#define X(name) &assay_evaluator_##name,
#include "eval/evaluators.def"
#undef X
};

const assay_evaluator *const *assay_evaluators(size_t *n) {
    *n = ASSAY_LEN(table);
    return table;
}

const assay_evaluator *assay_evaluator_find(const char *name) {
    for (size_t i = 0; i < ASSAY_LEN(table); i++)
        if (!strcmp(table[i]->name, name)) return table[i];
    return NULL;
}

/* --- options --- */

/* Whether `word` is one of the words of list, which are separated by single spaces; *n gets the first one's length. */
static bool word_in(const char *list, const char *word, size_t *n) {
    *n = strcspn(list, " ");
    size_t want = strlen(word);
    for (const char *p = list; *p;) {
        size_t k = strcspn(p, " ");
        if (k == want && !memcmp(p, word, k)) return true;
        p += k;
        p += *p == ' ';
    }
    return false;
}

static assay_status read_word(json_t **out, const assay_option *o, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err) {
    const char *word = NULL;
    size_t n;
    ASSAY_TRY(assay_yaml_get_str(&word, d, map, o->name, err));
    if (word && !word_in(o->words, word, &n))
        return assay_yaml_fail(d, assay_yaml_find(map, o->name), err, "%s must be one of: %s", o->name, o->words);
    if (!word) word_in(o->words, "", &n);
    *out = word ? json_string(word) : json_stringn(o->words, n);
    return ASSAY_OK;
}

static assay_status read_patterns(json_t **out, const assay_option *o, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err) {
    const assay_yaml *y = assay_yaml_find(map, o->name);
    *out = json_array();
    if (!y || y->kind == ASSAY_YAML_NULL || !*out) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(d, y, ASSAY_YAML_SEQ, o->name, err));
    for (size_t i = 0; i < y->n; i++) {
        ASSAY_TRY(assay_yaml_want(d, y->items[i], ASSAY_YAML_SCALAR, "a pattern", err));
        if (json_array_append_new(*out, json_string(y->items[i]->text)))
            return assay_yaml_fail(d, y->items[i], err, "the pattern is not valid UTF-8");
    }
    return ASSAY_OK;
}

static assay_status read_option(json_t **out, const assay_option *o, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err) {
    int64_t number = o->number;
    bool flag = o->number != 0;
    switch (o->kind) {
    case ASSAY_OPTION_BOOL:
        if (map) ASSAY_TRY(assay_yaml_get_bool(&flag, d, map, o->name, err));
        *out = json_boolean(flag);
        break;
    case ASSAY_OPTION_INT:
        if (map) ASSAY_TRY(assay_yaml_get_int(&number, d, map, o->name, o->lo, o->hi, err));
        *out = json_integer(number);
        break;
    case ASSAY_OPTION_WORD: ASSAY_TRY(read_word(out, o, d, map, err)); break;
    case ASSAY_OPTION_PATTERNS: ASSAY_TRY(read_patterns(out, o, d, map, err)); break;
    }
    return *out ? ASSAY_OK : assay_nomem(err);
}

static assay_status check_unknown(const assay_evaluator *def, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err) {
    const char *known[16];
    size_t n = 0;
    for (; n < def->n_options && n < ASSAY_LEN(known); n++) known[n] = def->options[n].name;
    char what[80];
    snprintf(what, sizeof what, "the options of %s", def->name);
    return assay_yaml_check_unknown(d, map, what, known, n, err);
}

static assay_status hash_use(assay_evaluator_use *u, assay_err *err) {
    assay_str text = {0};
    assay_hasher *h = NULL;
    assay_status s;
    ASSAY_GO(assay_json_dump(&text, u->options, 0, true, err));
    ASSAY_GO(assay_hasher_new(&h, err));
    char version[24];
    snprintf(version, sizeof version, "%d", u->def->version);
    assay_hasher_put_str(h, u->def->name);
    assay_hasher_put_str(h, version);
    assay_hasher_put_str(h, assay_str_c(&text));
    assay_hasher_finish(h, u->hash);
out:
    assay_str_free(&text);
    return s;
}

assay_status assay_evaluator_use_open(assay_evaluator_use *out, const assay_evaluator *def, const assay_yaml_doc *d, const assay_yaml *map,
                                      assay_err *err) {
    assay_status s = ASSAY_OK;
    memset(out, 0, sizeof *out);
    out->def = def;
    if (map && map->kind == ASSAY_YAML_NULL) map = NULL;
    if (map) ASSAY_GO(assay_yaml_want(d, map, ASSAY_YAML_MAP, def->name, err));
    out->options = json_object();
    if (!out->options) ASSAY_GO(assay_nomem(err));
    for (size_t i = 0; i < def->n_options; i++) {
        json_t *v = NULL;
        s = read_option(&v, &def->options[i], d, map, err);
        if (s != ASSAY_OK) json_decref(v);
        else if (json_object_set_new(out->options, def->options[i].name, v)) s = assay_nomem(err);
        if (s != ASSAY_OK) goto out;
    }
    if (map) ASSAY_GO(check_unknown(def, d, map, err));
    if (def->open) {
        s = def->open(&out->state, out->options, err);
        if (s != ASSAY_OK && map) s = assay_err_prefix(err, "%s:%d", assay_yaml_name(d), map->line);
        if (s != ASSAY_OK) goto out;
    }
    s = hash_use(out, err);
out:
    if (s != ASSAY_OK) assay_evaluator_use_close(out);
    return s;
}

void assay_evaluator_use_close(assay_evaluator_use *u) {
    if (!u || !u->def) return;
    if (u->def->close) u->def->close(u->state);
    json_decref(u->options);
    memset(u, 0, sizeof *u);
}

/* --- units --- */

assay_status assay_unit_add(assay_unit *u, const int32_t *ids, size_t n_ids, size_t from, assay_err *err) {
    assay_unit_request *p = assay_reallocn(u->requests, u->n_requests + 1, sizeof *p);
    if (!p) return assay_nomem(err);
    u->requests = p;
    p += u->n_requests;
    *p = (assay_unit_request){.n_ids = n_ids, .from = from};
    p->ids = assay_mallocn(n_ids ? n_ids : 1, sizeof *p->ids);
    if (!p->ids) return assay_nomem(err);
    if (n_ids) memcpy(p->ids, ids, n_ids * sizeof *ids);
    u->n_requests++;
    return ASSAY_OK;
}

assay_status assay_unit_refuse(assay_unit *u, assay_err *err, const char *fmt, ...) {
    if (u->problem) return ASSAY_OK;
    assay_str b = {0};
    va_list ap;
    va_start(ap, fmt);
    assay_str_vprintf(&b, fmt, ap);
    va_end(ap);
    u->problem = assay_str_take(&b);
    return u->problem ? ASSAY_OK : assay_nomem(err);
}

void assay_unit_deinit(assay_unit *u) {
    if (!u) return;
    for (size_t i = 0; i < u->n_requests; i++) assay_free(u->requests[i].ids);
    assay_free(u->requests);
    assay_free(u->problem);
    assay_free(u->id);
    memset(u, 0, sizeof *u);
}
