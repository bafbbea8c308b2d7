/* items.c: items and few-shot examples, one JSON object per line. docs/suites.md lists the keys.
 *
 * Every message names file and line. Duplicate ids are found with a hash table over all files of the suite. An item beyond the
 * suite's `limit` for its slice is checked like any other and then left out. */
#include "eval/suite.h"

#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "eval/suite_impl.h"

static const char *const item_keys[] = {"id",      "dimension", "slice",   "prompt",  "messages",   "answer",
                                        "choices", "extract",   "cluster", "evaluator", "max_tokens", "meta"};
static const char *const shot_keys[] = {"dimension", "prompt", "answer", "meta"};

/* --- ids --- */

struct assay_id_table {
    const char **slots;   /* open addressing; strings are the suite's */
    size_t n, cap;
};

void assay_id_table_free(struct assay_id_table *t) {
    if (!t) return;
    assay_free(t->slots);
    assay_free(t);
}

static size_t slot_of(const struct assay_id_table *t, const char *id) {
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (const char *p = id; *p; p++) h = (h ^ (unsigned char)*p) * 1099511628211u;
    size_t i = (size_t)(h & (t->cap - 1));
    while (t->slots[i] && strcmp(t->slots[i], id)) i = (i + 1) & (t->cap - 1);
    return i;
}

static assay_status grow_table(struct assay_id_table *t, assay_err *err) {
    struct assay_id_table wider = {.cap = t->cap ? t->cap * 2 : 1024, .n = t->n};
    wider.slots = assay_calloc(wider.cap, sizeof *wider.slots);
    if (!wider.slots) return assay_nomem(err);
    for (size_t i = 0; i < t->cap; i++)
        if (t->slots[i]) wider.slots[slot_of(&wider, t->slots[i])] = t->slots[i];
    assay_free(t->slots);
    *t = wider;
    return ASSAY_OK;
}

static assay_status add_id(assay_suite_reader *r, const char *id, assay_err *err) {
    if (!r->ids && !(r->ids = assay_calloc(1, sizeof *r->ids))) return assay_nomem(err);
    if (2 * (r->ids->n + 1) > r->ids->cap) ASSAY_TRY(grow_table(r->ids, err));
    size_t i = slot_of(r->ids, id);
    if (r->ids->slots[i]) return assay_fail(err, ASSAY_EINPUT, "the id '%s' is taken by an earlier item", id);
    r->ids->slots[i] = id;
    r->ids->n++;
    return ASSAY_OK;
}

/* --- reading keys --- */

static assay_status check_keys(const json_t *obj, const char *const *known, size_t n_known, assay_err *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(obj)) return assay_fail(err, ASSAY_EINPUT, "a line must be a JSON object");
    json_object_foreach((json_t *)obj, key, value) {
        bool ok = false;
        for (size_t i = 0; i < n_known && !ok; i++) ok = !strcmp(known[i], key);
        if (ok) continue;
        const char *near = assay_nearest(key, known, n_known);
        return assay_fail(err, ASSAY_EINPUT, "unknown key '%s'%s%s%s", key, near ? ", did you mean '" : "", near ? near : "",
                          near ? "'?" : "");
    }
    return ASSAY_OK;
}

static assay_status copy_text(const char **out, assay_suite *s, const json_t *v, const char *key, assay_err *err) {
    if (!json_is_string(v)) return assay_fail(err, ASSAY_EINPUT, "key '%s' must be a string", key);
    if (strlen(json_string_value(v)) != json_string_length(v)) return assay_fail(err, ASSAY_EINPUT, "key '%s' has a NUL byte", key);
    return assay_suite_strdup(out, s, json_string_value(v), err);
}

/* need: absent or empty is an error; else absent leaves NULL. */
static assay_status get_text(const char **out, assay_suite *s, const json_t *obj, const char *key, bool need, assay_err *err) {
    const json_t *v = json_object_get(obj, key);
    *out = NULL;
    if (v && !json_is_null(v)) ASSAY_TRY(copy_text(out, s, v, key, err));
    if (need && (!*out || !**out)) return assay_fail(err, ASSAY_EINPUT, "key '%s' is missing", key);
    return ASSAY_OK;
}

/* A string, a number, or a list of these, into arena memory. */
static assay_status get_texts(const char *const **out, size_t *n, assay_suite *s, const json_t *v, const char *key, assay_err *err) {
    size_t count = json_is_array(v) ? json_array_size(v) : 1;
    const char **list = assay_arena_alloc(&s->arena, (count ? count : 1) * sizeof *list);
    if (!list) return assay_nomem(err);
    for (size_t i = 0; i < count; i++) {
        const json_t *x = json_is_array(v) ? json_array_get(v, i) : v;
        assay_str number = {0};
        assay_status st;
        if (json_is_number(x)) {
            st = assay_json_dump(&number, x, 0, false, err);
            if (st == ASSAY_OK) st = assay_suite_strdup(&list[i], s, assay_str_c(&number), err);
        } else {
            st = copy_text(&list[i], s, x, key, err);
        }
        assay_str_free(&number);
        if (st != ASSAY_OK) return st;
    }
    *out = list;
    *n = count;
    return ASSAY_OK;
}

static assay_status get_messages(json_t **out, const json_t *v, assay_err *err) {
    if (!json_is_array(v) || !json_array_size(v)) return assay_fail(err, ASSAY_EINPUT, "key 'messages' must be a list of messages");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *m = json_array_get(v, i);
        if (!json_is_string(json_object_get(m, "role")) || !json_is_string(json_object_get(m, "content")))
            return assay_fail(err, ASSAY_EINPUT, "message %zu needs the strings 'role' and 'content'", i + 1);
    }
    *out = json_incref((json_t *)v);
    return ASSAY_OK;
}

static assay_status get_prompt(assay_item *it, assay_suite *s, const json_t *obj, assay_err *err) {
    const json_t *messages = json_object_get(obj, "messages");
    ASSAY_TRY(get_text(&it->prompt, s, obj, "prompt", false, err));
    if (!messages == !it->prompt) return assay_fail(err, ASSAY_EINPUT, "give one of 'prompt' and 'messages'");
    if (messages && !s->chat) return assay_fail(err, ASSAY_EINPUT, "'messages' need the suite's chat to be on");
    return messages ? get_messages(&it->messages, messages, err) : ASSAY_OK;
}

static assay_status get_answer(assay_item *it, assay_suite *s, const json_t *obj, const assay_evaluator *def, assay_err *err) {
    const json_t *v = json_object_get(obj, "answer");
    if (!v || json_is_null(v)) return def->needs_answer ? assay_fail(err, ASSAY_EINPUT, "key 'answer' is missing") : ASSAY_OK;
    if (json_is_object(v) || (json_is_array(v) && json_is_object(json_array_get(v, 0)))) {
        it->reference = json_incref((json_t *)v);
        return ASSAY_OK;
    }
    ASSAY_TRY(get_texts(&it->answers, &it->n_answers, s, v, "answer", err));
    return it->n_answers ? ASSAY_OK : assay_fail(err, ASSAY_EINPUT, "key 'answer' is an empty list");
}

static assay_status get_choices(assay_item *it, assay_suite *s, const json_t *obj, const assay_evaluator *def, assay_err *err) {
    const json_t *v = json_object_get(obj, "choices");
    if (!v) return def->needs_choices ? assay_fail(err, ASSAY_EINPUT, "key 'choices' is missing, and %s needs it", def->name) : ASSAY_OK;
    if (!json_is_array(v)) return assay_fail(err, ASSAY_EINPUT, "key 'choices' must be a list of strings");
    return get_texts(&it->choices, &it->n_choices, s, v, "choices", err);
}

static assay_status get_extract(assay_item *it, assay_suite *s, const json_t *obj, assay_err *err) {
    ASSAY_TRY(get_text(&it->extract, s, obj, "extract", false, err));
    return it->extract ? assay_regex_new(&it->extract_re, it->extract, strlen(it->extract), err) : ASSAY_OK;
}

/* `meta` is the author's own and changes nothing, so it is no part of the identity. */
static assay_status hash_item(char hex[ASSAY_HASH_HEX], const json_t *obj, assay_err *err) {
    assay_str text = {0};
    json_t *copy = json_copy((json_t *)obj);
    if (!copy) return assay_nomem(err);
    json_object_del(copy, "meta");
    assay_status s = assay_json_dump(&text, copy, 0, true, err);
    if (s == ASSAY_OK) assay_hash_bytes(hex, text.s, text.len);
    json_decref(copy);
    assay_str_free(&text);
    return s;
}

/* --- one item --- */

static assay_status fill_item(assay_item *it, assay_suite_reader *r, const json_t *obj, assay_err *err) {
    assay_suite *s = r->suite;
    const char *evaluator;
    ASSAY_TRY(check_keys(obj, item_keys, ASSAY_LEN(item_keys), err));
    ASSAY_TRY(get_text(&it->id, s, obj, "id", true, err));
    ASSAY_TRY(add_id(r, it->id, err));
    ASSAY_TRY(get_text(&it->dimension, s, obj, "dimension", true, err));
    ASSAY_TRY(get_text(&it->slice, s, obj, "slice", true, err));
    ASSAY_TRY(get_text(&it->cluster, s, obj, "cluster", false, err));
    ASSAY_TRY(get_text(&evaluator, s, obj, "evaluator", true, err));
    ASSAY_TRY(assay_suite_use(&it->evaluator, r, evaluator, err));
    const assay_evaluator_use *u = &s->evaluators[it->evaluator];
    if (u->def->expand) return assay_fail(err, ASSAY_EINPUT, "%s works on running text: name it under `language`", evaluator);
    ASSAY_TRY(get_prompt(it, s, obj, err));
    ASSAY_TRY(get_answer(it, s, obj, u->def, err));
    ASSAY_TRY(get_choices(it, s, obj, u->def, err));
    ASSAY_TRY(get_extract(it, s, obj, err));
    ASSAY_TRY(assay_json_get_int(&it->max_tokens, obj, "max_tokens", "the item", err));
    if (it->max_tokens < 0 || it->max_tokens > 1 << 20) return assay_fail(err, ASSAY_EINPUT, "key 'max_tokens' is out of range");
    if (u->def->check) ASSAY_TRY(u->def->check(it, u->state, err));
    return hash_item(it->hash, obj, err);
}

/* Finds or adds the item's dimension and slice, and says whether the slice is full. */
static assay_status place_item(bool *full, assay_suite_reader *r, const assay_item *it, assay_err *err) {
    assay_suite *s = r->suite;
    size_t d = 0, k = 0;
    while (d < s->n_dimensions && strcmp(s->dimensions[d].dimension, it->dimension)) d++;
    if (d == s->n_dimensions) {
        const assay_evaluator *def = assay_evaluator_find(it->dimension);
        if (r->closed_dimensions) return assay_fail(err, ASSAY_EINPUT, "dimension '%s' is not one that the suite lists", it->dimension);
        if (def && def->expand) return assay_fail(err, ASSAY_EINPUT, "dimension '%s' is reserved for running text", it->dimension);
        ASSAY_TRY(assay_suite_add_dimension(r, it->dimension, err));
    }
    assay_slice_list *l = &s->dimensions[d];
    while (k < l->n_slices && strcmp(l->slices[k], it->slice)) k++;
    if (k == l->n_slices) {
        if (l->closed) return assay_fail(err, ASSAY_EINPUT, "slice '%s' is not one that the suite lists for '%s'", it->slice, it->dimension);
        ASSAY_TRY(assay_suite_add_slice(r, l, it->slice, err));
    }
    *full = s->limit && l->counts[k] >= (size_t)s->limit;
    if (!*full) l->counts[k]++;
    return ASSAY_OK;
}

static void release_item(assay_item *it) {
    json_decref(it->messages);
    json_decref(it->reference);
    assay_regex_free(it->extract_re);
    memset(it, 0, sizeof *it);
}

static assay_status add_item(assay_suite_reader *r, const json_t *obj, assay_err *err) {
    assay_suite *s = r->suite;
    assay_item it = {0};
    bool full = false;
    assay_status st = fill_item(&it, r, obj, err);
    if (st == ASSAY_OK) st = place_item(&full, r, &it, err);
    if (st == ASSAY_OK) st = assay_grow(&s->items, &s->cap_items, s->n_items + 1, sizeof *s->items, err);
    if (st != ASSAY_OK || full) release_item(&it);
    else s->items[s->n_items++] = it;
    return st;
}

static assay_status add_shot(assay_suite_reader *r, const json_t *obj, assay_err *err) {
    assay_suite *s = r->suite;
    assay_shot shot;
    ASSAY_TRY(check_keys(obj, shot_keys, ASSAY_LEN(shot_keys), err));
    ASSAY_TRY(get_text(&shot.dimension, s, obj, "dimension", true, err));
    ASSAY_TRY(get_text(&shot.prompt, s, obj, "prompt", true, err));
    ASSAY_TRY(get_text(&shot.answer, s, obj, "answer", true, err));
    ASSAY_TRY(assay_grow(&s->shots, &s->cap_shots, s->n_shots + 1, sizeof *s->shots, err));
    s->shots[s->n_shots++] = shot;
    return ASSAY_OK;
}

/* --- files --- */

typedef assay_status (*line_fn)(assay_suite_reader *r, const json_t *obj, assay_err *err);

static assay_status read_line(assay_suite_reader *r, const char *text, size_t n, line_fn fn, assay_err *err) {
    json_error_t e;
    json_t *obj = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!obj) return assay_fail(err, ASSAY_EINPUT, "column %d: %s", e.column, e.text);
    assay_status s = fn(r, obj, err);
    json_decref(obj);
    return s;
}

static assay_status read_lines(assay_suite_reader *r, const char *file, line_fn fn, assay_err *err) {
    char *data;
    const char *name;
    size_t n, line = 0, taken = 0;
    ASSAY_TRY(assay_suite_read_file(&data, &n, &name, r, file, err));
    assay_status s = ASSAY_OK;
    for (const char *p = data, *end = data + n; s == ASSAY_OK && p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *stop = nl ? nl : end;
        line++;
        if (strspn(p, " \t\r") < (size_t)(stop - p)) {
            taken++;
            s = read_line(r, p, (size_t)(stop - p), fn, err);
            if (s != ASSAY_OK) s = assay_err_prefix(err, "%s:%zu", name, line);
        }
        p = stop + 1;
    }
    if (s == ASSAY_OK && !taken) s = assay_fail(err, ASSAY_EINPUT, "%s: the file has no lines", name);
    assay_free(data);
    return s;
}

assay_status assay_suite_read_items(assay_suite_reader *r, const char *file, assay_err *err) {
    return read_lines(r, file, add_item, err);
}

assay_status assay_suite_read_shots(assay_suite_reader *r, const char *file, assay_err *err) {
    return read_lines(r, file, add_shot, err);
}
