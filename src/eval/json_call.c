/* json_call.c: tool calls as JSON, parsed and compared by value.
 *
 * The first JSON value in the output that is a call (an object with a name and arguments, or a list of such) is taken, whatever
 * text or fence stands around it. Three spellings of a call are read as the same thing:
 *     {"name": N, "arguments": {...}}     {"name": N, "parameters": {...}}
 *     {"type": "function", "function": {"name": N, "arguments": "{...}"}}     (arguments as an object or as JSON in a string)
 * Values: the order of keys does not matter, 1 equals 1.0, true is not 1, strings are compared exactly, lists in order. Several
 * calls are compared as a set (equality is an equivalence, so matching them greedily is exact).
 *
 * `detail` names the first difference, in the manner of BFCL's error types: no_call, count_error, name_error:GOT,
 * missing_error:arguments.x, unexpected_error:arguments.x, type_error:arguments.x, value_error:arguments.x. It does not
 * validate against the tool's schema: the reference says what is right. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "eval/evaluator.h"
#include "eval/suite.h"

#define MAX_STARTS 256      /* places in an output where a JSON value is tried */
#define MAX_PATH 200

/* --- reading a call --- */

/* Arguments as an object: as they are, or parsed from a string. New reference or NULL. */
static json_t *read_arguments(const json_t *v) {
    if (json_is_object(v)) return json_incref((json_t *)v);
    if (!json_is_string(v)) return NULL;
    json_t *parsed = json_loadb(json_string_value(v), json_string_length(v), 0, NULL);
    if (json_is_object(parsed)) return parsed;
    json_decref(parsed);
    return NULL;
}

/* {"name", "arguments"} of one call in any spelling. New reference; NULL when v is none. */
static json_t *read_one(const json_t *v) {
    const json_t *function = json_object_get(v, "function");
    if (json_is_object(function)) v = function;
    json_t *name = json_object_get(v, "name"), *given = json_object_get(v, "arguments");
    if (!given) given = json_object_get(v, "parameters");
    json_t *arguments = read_arguments(given);
    if (!json_is_string(name) || !arguments) {
        json_decref(arguments);
        return NULL;
    }
    return json_pack("{s:O, s:o}", "name", name, "arguments", arguments);
}

/* A list of calls from one call or a list. New reference; NULL when v is neither. */
static json_t *read_calls(const json_t *v) {
    json_t *list = json_array();
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    bool ok = list && n;
    for (size_t i = 0; ok && i < n; i++) {
        json_t *call = read_one(json_is_array(v) ? json_array_get(v, i) : v);
        ok = call && !json_array_append_new(list, call);
    }
    if (ok) return list;
    json_decref(list);
    return NULL;
}

/* The first call in text; *broken says that something like one began but did not parse. */
static json_t *find_calls(bool *broken, const char *text) {
    *broken = false;
    size_t n = strlen(text);
    int tries = 0;
    for (const char *p = text; (p = strpbrk(p, "{[")) && tries < MAX_STARTS; tries++) {
        json_t *v = json_loadb(p, n - (size_t)(p - text), JSON_DISABLE_EOF_CHECK, NULL);
        json_t *calls = v ? read_calls(v) : NULL;
        *broken |= !v && *p == '{';
        json_decref(v);
        if (calls) return calls;
        p++;
    }
    return NULL;
}

/* --- comparing --- */

typedef struct difference {
    char text[MAX_PATH + 80]; /* empty: equal */
} difference;

static bool differ(difference *d, const char *kind, const char *path) {
    snprintf(d->text, sizeof d->text, "%s:%.*s", kind, MAX_PATH, path);
    return false;
}

static bool same_number(const json_t *a, const json_t *b) {
    if (json_is_integer(a) && json_is_integer(b)) return json_integer_value(a) == json_integer_value(b);
    return json_number_value(a) == json_number_value(b);
}

static bool same_string(const json_t *a, const json_t *b) {
    size_t n = json_string_length(a);
    return n == json_string_length(b) && !memcmp(json_string_value(a), json_string_value(b), n);
}

static bool same_value(difference *d, const json_t *want, const json_t *got, const char *path);

static bool same_object(difference *d, const json_t *want, const json_t *got, const char *path) {
    const char *key;
    json_t *value;
    char below[MAX_PATH + 8];
    json_object_foreach((json_t *)want, key, value) {
        snprintf(below, sizeof below, "%.100s.%.90s", path, key);
        const json_t *other = json_object_get(got, key);
        if (!other) return differ(d, "missing_error", below);
        if (!same_value(d, value, other, below)) return false;
    }
    json_object_foreach((json_t *)got, key, value) {
        snprintf(below, sizeof below, "%.100s.%.90s", path, key);
        if (!json_object_get(want, key)) return differ(d, "unexpected_error", below);
    }
    return true;
}

static bool same_value(difference *d, const json_t *want, const json_t *got, const char *path) {
    char below[MAX_PATH + 8];
    if (json_is_number(want) && json_is_number(got)) return same_number(want, got) || differ(d, "value_error", path);
    if (json_typeof(want) != json_typeof(got)) {
        bool both_bool = json_is_boolean(want) && json_is_boolean(got);
        return differ(d, both_bool ? "value_error" : "type_error", path);
    }
    if (json_is_object(want)) return same_object(d, want, got, path);
    if (json_is_string(want)) return same_string(want, got) || differ(d, "value_error", path);
    if (!json_is_array(want)) return true;
    if (json_array_size(want) != json_array_size(got)) return differ(d, "value_error", path);
    for (size_t i = 0; i < json_array_size(want); i++) {
        snprintf(below, sizeof below, "%.180s[%zu]", path, i);
        if (!same_value(d, json_array_get(want, i), json_array_get(got, i), below)) return false;
    }
    return true;
}

static bool same_call(difference *d, const json_t *want, const json_t *got) {
    const json_t *name = json_object_get(got, "name");
    if (!same_string(json_object_get(want, "name"), name)) return differ(d, "name_error", json_string_value(name));
    return same_object(d, json_object_get(want, "arguments"), json_object_get(got, "arguments"), "arguments");
}

/* Every wanted call takes the first free one that equals it; *d is about the first that found none (against the first free call). */
static assay_status same_calls(bool *same, difference *d, const json_t *want, const json_t *got, assay_err *err) {
    size_t n = json_array_size(want);
    *same = false;
    if (n != json_array_size(got)) {
        snprintf(d->text, sizeof d->text, "count_error:%zu instead of %zu", json_array_size(got), n);
        return ASSAY_OK;
    }
    bool *taken = assay_calloc(n, sizeof *taken);
    if (!taken) return assay_nomem(err);
    bool all = true;
    for (size_t i = 0; i < n && all; i++) {
        bool found = false, noted = false;
        for (size_t k = 0; k < n && !found; k++) {
            difference here = {{0}};
            if (taken[k]) continue;
            found = taken[k] = same_call(&here, json_array_get(want, i), json_array_get(got, k));
            if (!found && !noted) *d = here;
            noted = true;
        }
        all = found;
    }
    assay_free(taken);
    *same = all;
    return ASSAY_OK;
}

/* --- the evaluator --- */

static assay_status json_call_check(assay_item *item, const void *state, assay_err *err) {
    (void)state;
    if (item->extract) return assay_fail(err, ASSAY_EINPUT, "json_call finds the call itself: it takes no 'extract'");
    if (item->n_answers > 1) return assay_fail(err, ASSAY_EINPUT, "json_call takes one answer: a call, or a list of calls");
    json_t *given = item->reference;
    if (!given) {
        json_error_t e;
        given = json_loads(item->answers[0], JSON_REJECT_DUPLICATES, &e);
        if (!given) return assay_fail(err, ASSAY_EINPUT, "the answer is not JSON: column %d: %s", e.column, e.text);
    }
    item->reference = read_calls(given);
    json_decref(given);
    if (item->reference) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "the answer is not a call: it needs a string 'name' and an object 'arguments'");
}

static assay_status json_call_grade(assay_record *r, const void *state, const assay_item *item, const char *output, assay_err *err) {
    (void)state;
    bool broken, same = false;
    difference d = {{0}};
    assay_str answer = {0};
    assay_status s = ASSAY_OK;
    json_t *calls = find_calls(&broken, output);
    if (!calls) {
        r->outcome = ASSAY_OUTCOME_INVALID;
        snprintf(d.text, sizeof d.text, "%s", broken ? "no_call:the JSON does not parse" : "no_call");
    } else {
        ASSAY_GO(same_calls(&same, &d, item->reference, calls, err));
        const json_t *shown = json_array_size(calls) == 1 ? json_array_get(calls, 0) : calls;
        ASSAY_GO(assay_json_dump(&answer, shown, 0, true, err));
        r->answer = assay_str_take(&answer);
        if (!r->answer) ASSAY_GO(assay_nomem(err));
    }
    r->score = same;
    if (!same && d.text[0]) {
        r->detail = assay_strdup(d.text);
        if (!r->detail) s = assay_nomem(err);
    }
out:
    json_decref(calls);
    assay_str_free(&answer);
    return s;
}

const assay_evaluator assay_evaluator_json_call = {
    .name = "json_call",
    .version = 1,
    .needs = ASSAY_CAN_GENERATE,
    .binary = true,
    .needs_answer = true,
    .check = json_call_check,
    .grade = json_call_grade,
};
