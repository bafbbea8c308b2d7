/* yaml.c: libyaml's event stream into a tree of nodes with line numbers. See yaml.h for why not libcyaml.
 *
 * Limits, so that no file can cost more than a small multiple of its size: 16 MiB of input, 64 levels, no
 * aliases (the "billion laughs" need them), one document. */
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/file.h"
#include "base/mem.h"

#define MAX_BYTES ((size_t)16 << 20)
#define MAX_DEPTH 64

struct assay_yaml_doc {
    assay_arena arena;
    char *name;
    assay_yaml *root;
};

/* --- building --- */

typedef struct builder {
    assay_yaml_doc *doc;
    yaml_parser_t parser;
    assay_err *err;
    int depth;
} builder;

static assay_status fail_at(const builder *b, size_t line0, const char *what) {
    return assay_fail(b->err, ASSAY_EINPUT, "%s:%zu: %s", b->doc->name, line0 + 1, what);
}

static assay_status next_event(builder *b, yaml_event_t *e) {
    if (yaml_parser_parse(&b->parser, e)) return ASSAY_OK;
    if (b->parser.error == YAML_MEMORY_ERROR) return assay_nomem(b->err);
    size_t line = b->parser.error == YAML_READER_ERROR ? b->parser.mark.line : b->parser.problem_mark.line;
    return fail_at(b, line, b->parser.problem ? b->parser.problem : "not YAML");
}

static assay_status new_node(assay_yaml **out, builder *b, const yaml_event_t *e, assay_yaml_kind kind) {
    *out = assay_arena_alloc(&b->doc->arena, sizeof **out);
    if (!*out) return assay_nomem(b->err);
    (*out)->kind = kind;
    (*out)->line = (int)e->start_mark.line + 1;
    return ASSAY_OK;
}

static bool is_null_text(const char *t) {
    return !*t || !strcmp(t, "~") || !strcmp(t, "null") || !strcmp(t, "Null") || !strcmp(t, "NULL");
}

static assay_status build_scalar(assay_yaml **out, builder *b, const yaml_event_t *e) {
    const char *text = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    if (memchr(text, 0, n)) return fail_at(b, e->start_mark.line, "a NUL byte in a string");
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    ASSAY_TRY(new_node(out, b, e, !quoted && is_null_text(text) ? ASSAY_YAML_NULL : ASSAY_YAML_SCALAR));
    (*out)->quoted = quoted;
    (*out)->text = assay_arena_strndup(&b->doc->arena, text, n);
    return (*out)->text ? ASSAY_OK : assay_nomem(b->err);
}

/* Children are gathered in heap vectors while their number is unknown, then moved to the arena. */
typedef struct children {
    const char **keys;
    int *lines;
    assay_yaml **items;
    size_t n, cap_keys, cap_lines, cap_items;
} children;

static void children_free(children *c) {
    assay_free(c->keys);
    assay_free(c->lines);
    assay_free(c->items);
}

static assay_status children_add(children *c, const char *key, int line, assay_yaml *item, assay_err *err) {
    ASSAY_TRY(assay_grow(&c->keys, &c->cap_keys, c->n + 1, sizeof *c->keys, err));
    ASSAY_TRY(assay_grow(&c->lines, &c->cap_lines, c->n + 1, sizeof *c->lines, err));
    ASSAY_TRY(assay_grow(&c->items, &c->cap_items, c->n + 1, sizeof *c->items, err));
    c->keys[c->n] = key;
    c->lines[c->n] = line;
    c->items[c->n++] = item;
    return ASSAY_OK;
}

static assay_status children_move(assay_yaml *y, const children *c, builder *b) {
    assay_arena *a = &b->doc->arena;
    y->n = c->n;
    y->items = assay_arena_alloc(a, c->n * sizeof *y->items);
    if (y->kind == ASSAY_YAML_MAP) {
        y->keys = assay_arena_alloc(a, c->n * sizeof *y->keys);
        y->key_lines = assay_arena_alloc(a, c->n * sizeof *y->key_lines);
        y->used = assay_arena_alloc(a, c->n * sizeof *y->used);
        if (!y->keys || !y->key_lines || !y->used) return assay_nomem(b->err);
    }
    if (!y->items) return assay_nomem(b->err);
    for (size_t i = 0; i < c->n; i++) {
        y->items[i] = c->items[i];
        if (y->kind != ASSAY_YAML_MAP) continue;
        y->keys[i] = c->keys[i];
        y->key_lines[i] = c->lines[i];
    }
    return ASSAY_OK;
}

static int compare_keys(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Sorting keeps the check for duplicate keys from being quadratic in a hostile file. */
static assay_status check_duplicates(const assay_yaml *y, builder *b) {
    if (y->n < 2) return ASSAY_OK;
    const char **sorted = assay_mallocn(y->n, sizeof *sorted);
    if (!sorted) return assay_nomem(b->err);
    memcpy(sorted, y->keys, y->n * sizeof *sorted);
    qsort(sorted, y->n, sizeof *sorted, compare_keys);
    const char *twice = NULL;
    for (size_t i = 1; i < y->n && !twice; i++)
        if (!strcmp(sorted[i - 1], sorted[i])) twice = sorted[i];
    assay_free(sorted);
    if (!twice) return ASSAY_OK;
    int line = y->line;
    for (size_t i = 0; i < y->n; i++)
        if (!strcmp(y->keys[i], twice)) line = y->key_lines[i];
    return assay_fail(b->err, ASSAY_EINPUT, "%s:%d: key '%s' is given twice", b->doc->name, line, twice);
}

static assay_status build(assay_yaml **out, builder *b, const yaml_event_t *e);

static assay_status build_children(children *c, builder *b, bool map) {
    for (;;) {
        yaml_event_t e;
        ASSAY_TRY(next_event(b, &e));
        const char *key = NULL;
        int line = (int)e.start_mark.line + 1;
        assay_status s = ASSAY_OK;
        if (e.type == YAML_SEQUENCE_END_EVENT || e.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&e);
            return ASSAY_OK;
        }
        if (map) {
            if (e.type != YAML_SCALAR_EVENT)
                s = fail_at(b, e.start_mark.line, "a key must be a plain word");
            else {
                key = assay_arena_strndup(&b->doc->arena, (const char *)e.data.scalar.value,
                                          e.data.scalar.length);
                if (!key) s = assay_nomem(b->err);
            }
            yaml_event_delete(&e);
            if (s == ASSAY_OK) s = next_event(b, &e);
            if (s != ASSAY_OK) return s;
        }
        assay_yaml *item = NULL;
        s = build(&item, b, &e);
        yaml_event_delete(&e);
        if (s == ASSAY_OK) s = children_add(c, key, line, item, b->err);
        if (s != ASSAY_OK) return s;
    }
}

static assay_status build(assay_yaml **out, builder *b, const yaml_event_t *e) {
    if (e->type == YAML_SCALAR_EVENT) return build_scalar(out, b, e);
    if (e->type == YAML_ALIAS_EVENT)
        return fail_at(b, e->start_mark.line, "aliases are not accepted: write the value out");
    bool map = e->type == YAML_MAPPING_START_EVENT;
    if (!map && e->type != YAML_SEQUENCE_START_EVENT)
        return fail_at(b, e->start_mark.line, "unexpected YAML");
    if (++b->depth > MAX_DEPTH) return fail_at(b, e->start_mark.line, "nested too deep (64 levels)");
    ASSAY_TRY(new_node(out, b, e, map ? ASSAY_YAML_MAP : ASSAY_YAML_SEQ));
    children c = {0};
    assay_status s = build_children(&c, b, map);
    if (s == ASSAY_OK) s = children_move(*out, &c, b);
    if (s == ASSAY_OK && map) s = check_duplicates(*out, b);
    children_free(&c);
    b->depth--;
    return s;
}

static assay_status build_document(builder *b) {
    for (;;) {
        yaml_event_t e;
        ASSAY_TRY(next_event(b, &e));
        yaml_event_type_t type = e.type;
        assay_status s = ASSAY_OK;
        bool content = type == YAML_SCALAR_EVENT || type == YAML_MAPPING_START_EVENT ||
                       type == YAML_SEQUENCE_START_EVENT || type == YAML_ALIAS_EVENT;
        if (content && b->doc->root)
            s = fail_at(b, e.start_mark.line, "more than one document");
        else if (content)
            s = build(&b->doc->root, b, &e);
        yaml_event_delete(&e);
        if (s != ASSAY_OK) return s;
        if (type == YAML_STREAM_END_EVENT) break;
    }
    if (b->doc->root) return ASSAY_OK;
    return assay_fail(b->err, ASSAY_EINPUT, "%s: the file is empty", b->doc->name);
}

assay_status assay_yaml_parse(assay_yaml_doc **out, const char *text, size_t n, const char *name,
                              assay_err *err) {
    *out = NULL;
    if (n > MAX_BYTES)
        return assay_fail(err, ASSAY_EINPUT, "%s: larger than the 16 MiB that a YAML file may have", name);
    builder b = {.err = err};
    b.doc = assay_calloc(1, sizeof *b.doc);
    if (!b.doc || !(b.doc->name = assay_strdup(name)) || !yaml_parser_initialize(&b.parser)) {
        assay_yaml_free(b.doc);
        return assay_nomem(err);
    }
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, n);
    assay_status s = build_document(&b);
    yaml_parser_delete(&b.parser);
    if (s != ASSAY_OK) {
        assay_yaml_free(b.doc);
        return s;
    }
    *out = b.doc;
    return ASSAY_OK;
}

assay_status assay_yaml_load(assay_yaml_doc **out, const char *path, assay_err *err) {
    *out = NULL;
    char *text;
    size_t n;
    ASSAY_TRY(assay_read_file(&text, &n, path, MAX_BYTES, err));
    assay_status s = assay_yaml_parse(out, text, n, path, err);
    assay_free(text);
    return s;
}

const assay_yaml *assay_yaml_root(const assay_yaml_doc *d) {
    return d->root;
}

const char *assay_yaml_name(const assay_yaml_doc *d) {
    return d->name;
}

void assay_yaml_free(assay_yaml_doc *d) {
    if (!d) return;
    assay_arena_free(&d->arena);
    assay_free(d->name);
    assay_free(d);
}

/* --- reading --- */

const assay_yaml *assay_yaml_find(const assay_yaml *map, const char *key) {
    if (!map || map->kind != ASSAY_YAML_MAP) return NULL;
    for (size_t i = 0; i < map->n; i++)
        if (!strcmp(map->keys[i], key)) {
            map->used[i] = true;
            return map->items[i];
        }
    return NULL;
}

assay_status assay_yaml_fail(const assay_yaml_doc *d, const assay_yaml *y, assay_err *err, const char *fmt,
                             ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return assay_fail(err, ASSAY_EINPUT, "%s:%d: %s", d->name, y ? y->line : 1, text);
}

assay_status assay_yaml_want(const assay_yaml_doc *d, const assay_yaml *y, assay_yaml_kind kind,
                             const char *what, assay_err *err) {
    static const char *const names[] = {"empty", "a single value", "a list", "a mapping"};
    if (y && y->kind == kind) return ASSAY_OK;
    return assay_yaml_fail(d, y, err, "%s must be %s, not %s", what, names[kind],
                           y ? names[y->kind] : "missing");
}

static assay_status find_scalar(const assay_yaml **out, const assay_yaml_doc *d, const assay_yaml *map,
                                const char *key, assay_err *err) {
    const assay_yaml *y = assay_yaml_find(map, key);
    *out = NULL;
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(d, y, ASSAY_YAML_SCALAR, key, err));
    *out = y;
    return ASSAY_OK;
}

assay_status assay_yaml_get_str(const char **out, const assay_yaml_doc *d, const assay_yaml *map,
                                const char *key, assay_err *err) {
    const assay_yaml *y;
    ASSAY_TRY(find_scalar(&y, d, map, key, err));
    if (y) *out = y->text;
    return ASSAY_OK;
}

static bool parse_int(int64_t *out, const char *t) {
    char *end;
    errno = 0;
    long long v = strtoll(t, &end, 10);
    if (errno || *end || end == t) return false;
    *out = v;
    return true;
}

static bool parse_double(double *out, const char *t) {
    char *end;
    if (!strspn(t, "+-.0123456789")) return false; /* not "nan", "inf" or hexadecimal by accident */
    double v = strtod(t, &end);
    if (*end || end == t || !isfinite(v)) return false;
    *out = v;
    return true;
}

assay_status assay_yaml_get_int(int64_t *out, const assay_yaml_doc *d, const assay_yaml *map, const char *key,
                                int64_t lo, int64_t hi, assay_err *err) {
    const assay_yaml *y;
    ASSAY_TRY(find_scalar(&y, d, map, key, err));
    if (!y) return ASSAY_OK;
    int64_t v;
    if (y->quoted || !parse_int(&v, y->text))
        return assay_yaml_fail(d, y, err, "%s must be a whole number, not '%s'", key, y->text);
    if (v < lo || v > hi)
        return assay_yaml_fail(d, y, err, "%s must be from %lld to %lld, not %lld", key, (long long)lo,
                               (long long)hi, (long long)v);
    *out = v;
    return ASSAY_OK;
}

assay_status assay_yaml_get_double(double *out, const assay_yaml_doc *d, const assay_yaml *map,
                                   const char *key, double lo, double hi, assay_err *err) {
    const assay_yaml *y;
    ASSAY_TRY(find_scalar(&y, d, map, key, err));
    if (!y) return ASSAY_OK;
    double v;
    if (y->quoted || !parse_double(&v, y->text))
        return assay_yaml_fail(d, y, err, "%s must be a number, not '%s'", key, y->text);
    if (!(v >= lo && v <= hi))
        return assay_yaml_fail(d, y, err, "%s must be from %g to %g, not %g", key, lo, hi, v);
    *out = v;
    return ASSAY_OK;
}

static int parse_bool(const char *t) {
    if (!strcmp(t, "true") || !strcmp(t, "True") || !strcmp(t, "TRUE")) return 1;
    if (!strcmp(t, "false") || !strcmp(t, "False") || !strcmp(t, "FALSE")) return 0;
    return -1;
}

assay_status assay_yaml_get_bool(bool *out, const assay_yaml_doc *d, const assay_yaml *map, const char *key,
                                 assay_err *err) {
    const assay_yaml *y;
    ASSAY_TRY(find_scalar(&y, d, map, key, err));
    if (!y) return ASSAY_OK;
    int v = y->quoted ? -1 : parse_bool(y->text);
    if (v < 0) return assay_yaml_fail(d, y, err, "%s must be true or false, not '%s'", key, y->text);
    *out = v;
    return ASSAY_OK;
}

assay_status assay_yaml_check_unknown(const assay_yaml_doc *d, const assay_yaml *map, const char *what,
                                      const char *const *known, size_t n_known, assay_err *err) {
    for (size_t i = 0; map && i < map->n && map->kind == ASSAY_YAML_MAP; i++) {
        if (map->used[i]) continue;
        bool listed = false;
        for (size_t k = 0; k < n_known && !listed; k++)
            listed = !strcmp(known[k], map->keys[i]);
        if (listed) continue;
        const char *near = assay_nearest(map->keys[i], known, n_known);
        return assay_fail(err, ASSAY_EINPUT, "%s:%d: unknown key '%s' in %s%s%s%s", d->name,
                          map->key_lines[i], map->keys[i], what, near ? ", did you mean '" : "",
                          near ? near : "", near ? "'?" : "");
    }
    return ASSAY_OK;
}

static json_t *scalar_to_json(const assay_yaml *y) {
    int64_t i;
    double f;
    int b = y->quoted ? -1 : parse_bool(y->text);
    if (b >= 0) return json_boolean(b);
    if (!y->quoted && parse_int(&i, y->text)) return json_integer(i);
    if (!y->quoted && parse_double(&f, y->text)) return json_real(f);
    return json_string(y->text);
}

json_t *assay_yaml_to_json(const assay_yaml *y) {
    if (!y || y->kind == ASSAY_YAML_NULL) return json_null();
    if (y->kind == ASSAY_YAML_SCALAR) return scalar_to_json(y);
    json_t *j = y->kind == ASSAY_YAML_MAP ? json_object() : json_array();
    for (size_t i = 0; j && i < y->n; i++) {
        json_t *item = assay_yaml_to_json(y->items[i]);
        int bad = !item || (y->kind == ASSAY_YAML_MAP ? json_object_set_new(j, y->keys[i], item)
                                                      : json_array_append_new(j, item));
        if (bad) {
            json_decref(j);
            j = NULL;
        }
    }
    return j;
}

void assay_yaml_put_quoted(assay_str *out, const char *text, size_t n) {
    assay_str_putc(out, '\'');
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\'') assay_str_putc(out, '\'');
        assay_str_putc(out, text[i]);
    }
    assay_str_putc(out, '\'');
}
