/* jinja_access.c: v.name, v[key], v[a:b:c], iteration, length and membership, by the rules of Jinja's
 * environment: "v.name" looks for a method first and then for a key, "v[key]" the other way round; what is
 * not there is undefined, and only touching an undefined value is an error. Methods that would change a value
 * are not there (the sandbox is immutable). */
#include <string.h>
#include "text/jinja.h"
#include "text/unicode.h"

const assay_jbuiltin *assay_jbuiltin_find(const assay_jbuiltin *table, const char *s, size_t n) {
    for (; table->name; table++)
        if (strlen(table->name) == n && memcmp(table->name, s, n) == 0) return table;
    return NULL;
}

static assay_status undefined_error(assay_jrun *r, assay_jvalue v) {
    return assay_jfail(r, ASSAY_EINPUT, "%.*s", (int)v.str.n, v.str.s ? v.str.s : "");
}

/* Python's getattr; *found says whether there was one. */
static assay_status get_attribute(assay_jvalue *out, bool *found, assay_jrun *r, assay_jvalue v,
                                  const char *s, size_t n) {
    const assay_jbuiltin *table = v.kind == ASSAY_J_STRING ? assay_jstring_methods
                                  : v.kind == ASSAY_J_DICT ? assay_jdict_methods
                                  : assay_jis_list(v)      ? assay_jlist_methods
                                  : v.kind == ASSAY_J_LOOP ? assay_jloop_methods
                                                           : NULL;
    *found = false;
    if (v.kind == ASSAY_J_NAMESPACE) {
        const assay_jvalue *there;
        ASSAY_TRY(assay_jdict_find(&there, r, v.dict, assay_jstr(s, n)));
        *found = there != NULL;
        if (there) *out = *there;
        return ASSAY_OK;
    }
    const assay_jbuiltin *b = table ? assay_jbuiltin_find(table, s, n) : NULL;
    if (!b) return ASSAY_OK;
    *found = true;
    if (!b->fn)
        return assay_jfail(r, ASSAY_EUNSUPPORTED, "the method '%s' of a %s is not supported", b->name,
                           assay_jtype(v));
    if (v.kind == ASSAY_J_LOOP && b->required == 0 && b->params) { /* a property of loop, not a method */
        assay_jargs none = {0};
        return b->fn(out, r, v, NULL, &none);
    }
    assay_jbound *bound = assay_jalloc(r, 1, sizeof *bound);
    if (!bound) return assay_jnomem(r);
    *bound = (assay_jbound){b, v};
    *out = (assay_jvalue){.kind = ASSAY_J_FUNCTION, .bound = bound};
    return ASSAY_OK;
}

static assay_status no_such(assay_jvalue *out, assay_jrun *r, assay_jvalue v, const char *s, size_t n) {
    return assay_jundefined(out, r, "'%s' has no attribute '%.*s'", assay_jtype(v),
                            (int)ASSAY_MIN(n, (size_t)80), s);
}

assay_status assay_jattribute(assay_jvalue *out, assay_jrun *r, assay_jvalue v, const char *s, size_t n) {
    if (v.kind == ASSAY_J_UNDEFINED) return undefined_error(r, v);
    bool found;
    ASSAY_TRY(get_attribute(out, &found, r, v, s, n));
    if (found) return ASSAY_OK;
    if (v.kind == ASSAY_J_DICT) {
        const assay_jvalue *there;
        ASSAY_TRY(assay_jdict_find(&there, r, v.dict, assay_jstr(s, n)));
        if (there) {
            *out = *there;
            return ASSAY_OK;
        }
    }
    return no_such(out, r, v, s, n);
}

/* The item at an index of a list or string; false when out of range. */
static assay_status at_index(assay_jvalue *out, bool *found, assay_jrun *r, assay_jvalue v, int64_t i) {
    int64_t n = assay_jis_list(v) ? (int64_t)v.list->n : (int64_t)assay_utf8_count(v.str.s, v.str.n);
    if (i < 0) i += n;
    *found = i >= 0 && i < n;
    if (!*found) return ASSAY_OK;
    if (assay_jis_list(v)) {
        *out = v.list->v[i];
        return ASSAY_OK;
    }
    size_t at = assay_utf8_offset(v.str.s, v.str.n, (size_t)i), len;
    assay_utf8_next(&len, v.str.s + at, v.str.n - at);
    *out = assay_jstr(v.str.s + at, len);
    return assay_jstep(r, v.str.n);
}

assay_status assay_jitem(assay_jvalue *out, assay_jrun *r, assay_jvalue v, assay_jvalue key) {
    bool found = false;
    if (v.kind == ASSAY_J_UNDEFINED) return undefined_error(r, v);
    if (v.kind == ASSAY_J_DICT) {
        const assay_jvalue *there;
        ASSAY_TRY(assay_jdict_find(&there, r, v.dict, key));
        found = there != NULL;
        if (there) *out = *there;
    } else if ((assay_jis_list(v) || v.kind == ASSAY_J_STRING) &&
               (key.kind == ASSAY_J_INT || key.kind == ASSAY_J_BOOL)) {
        ASSAY_TRY(at_index(out, &found, r, v, key.kind == ASSAY_J_INT ? key.i : key.b));
    }
    if (!found && key.kind == ASSAY_J_STRING)
        ASSAY_TRY(get_attribute(out, &found, r, v, key.str.s, key.str.n));
    if (found) return ASSAY_OK;
    if (key.kind == ASSAY_J_STRING) return no_such(out, r, v, key.str.s, key.str.n);
    return assay_jundefined(out, r, "'%s' has no such item", assay_jtype(v));
}

/* ---- slices ---- */

/* A bound, or the default when it is none or missing; clamped as Python does for this direction. */
static assay_status bound_of(int64_t *out, assay_jrun *r, assay_jvalue v, int64_t n, int64_t step,
                             int64_t standard) {
    *out = standard;
    if (v.kind == ASSAY_J_MISSING || v.kind == ASSAY_J_NONE) return ASSAY_OK;
    if (v.kind != ASSAY_J_INT && v.kind != ASSAY_J_BOOL)
        return assay_jfail(r, ASSAY_EINPUT, "a slice's bound must be an integer, not %s", assay_jtype(v));
    int64_t i = v.kind == ASSAY_J_INT ? v.i : v.b;
    int64_t lo = step > 0 ? 0 : -1, hi = step > 0 ? n : n - 1;
    if (i < 0) i = i < -n ? lo : i + n;
    *out = i < lo ? lo : i > hi ? hi : i;
    return ASSAY_OK;
}

assay_status assay_jslice(assay_jvalue *out, assay_jrun *r, assay_jvalue v, assay_jvalue start,
                          assay_jvalue stop, assay_jvalue step) {
    if (v.kind == ASSAY_J_UNDEFINED) return undefined_error(r, v);
    if (!assay_jis_list(v) && v.kind != ASSAY_J_STRING)
        return assay_jundefined(out, r, "'%s' cannot be sliced", assay_jtype(v));
    int64_t by = 1, from, to, n;
    if (step.kind == ASSAY_J_INT)
        by = step.i;
    else if (step.kind != ASSAY_J_MISSING && step.kind != ASSAY_J_NONE)
        return assay_jfail(r, ASSAY_EINPUT, "a slice's step must be an integer");
    if (by == 0) return assay_jfail(r, ASSAY_EINPUT, "a slice's step cannot be zero");
    ASSAY_TRY(assay_jlength(&n, r, v));
    if (by > n + 1) by = n + 1; /* the same slice, and no overflow below */
    if (by < -n - 1) by = -n - 1;
    ASSAY_TRY(bound_of(&from, r, start, n, by, by > 0 ? 0 : n - 1));
    ASSAY_TRY(bound_of(&to, r, stop, n, by, by > 0 ? n : -1));
    if (v.kind == ASSAY_J_STRING && by == 1) {
        size_t a = assay_utf8_offset(v.str.s, v.str.n, (size_t)from),
               b = assay_utf8_offset(v.str.s, v.str.n, (size_t)to);
        *out = assay_jstr(v.str.s + a, b > a ? b - a : 0);
        return assay_jstep(r, v.str.n);
    }
    assay_jlist *all, *l;
    ASSAY_TRY(assay_jiterate(&all, r, v));
    ASSAY_TRY(assay_jlist_new(&l, r, 0));
    for (int64_t i = from; by > 0 ? i < to : i > to; i += by)
        ASSAY_TRY(assay_jlist_put(l, r, all->v[i]));
    *out = v.kind == ASSAY_J_TUPLE ? assay_jtuple_value(l) : assay_jlist_value(l);
    if (v.kind != ASSAY_J_STRING) return ASSAY_OK;
    assay_str b = {0};
    for (size_t i = 0; i < l->n; i++)
        assay_str_putn(&b, l->v[i].str.s, l->v[i].str.n);
    return assay_jstr_take(out, r, &b);
}

/* ---- iteration ---- */

assay_status assay_jiterate(assay_jlist **out, assay_jrun *r, assay_jvalue v) {
    if (assay_jis_list(v)) {
        *out = v.list;
        return ASSAY_OK;
    }
    if (assay_jis_undefined(v)) return assay_jlist_new(out, r, 0);
    if (v.kind == ASSAY_J_DICT) {
        ASSAY_TRY(assay_jlist_new(out, r, v.dict->n));
        for (size_t i = 0; i < v.dict->n; i++)
            ASSAY_TRY(assay_jlist_put(*out, r, v.dict->keys[i]));
        return ASSAY_OK;
    }
    if (v.kind != ASSAY_J_STRING)
        return assay_jfail(r, ASSAY_EINPUT, "a %s cannot be iterated over", assay_jtype(v));
    ASSAY_TRY(assay_jlist_new(out, r, 0));
    for (size_t i = 0, len; i < v.str.n; i += len) {
        assay_utf8_next(&len, v.str.s + i, v.str.n - i);
        ASSAY_TRY(assay_jlist_put(*out, r, assay_jstr(v.str.s + i, len)));
    }
    return ASSAY_OK;
}

assay_status assay_jlength(int64_t *out, assay_jrun *r, assay_jvalue v) {
    if (assay_jis_undefined(v))
        *out = 0;
    else if (assay_jis_list(v))
        *out = (int64_t)v.list->n;
    else if (v.kind == ASSAY_J_DICT)
        *out = (int64_t)v.dict->n;
    else if (v.kind == ASSAY_J_LOOP)
        *out = (int64_t)v.loop->items->n;
    else if (v.kind == ASSAY_J_STRING)
        *out = (int64_t)assay_utf8_count(v.str.s, v.str.n);
    else
        return assay_jfail(r, ASSAY_EINPUT, "a %s has no length", assay_jtype(v));
    return assay_jstep(r, v.kind == ASSAY_J_STRING ? v.str.n : 0);
}

assay_status assay_jcontains(bool *out, assay_jrun *r, assay_jvalue v, assay_jvalue item) {
    *out = false;
    if (v.kind == ASSAY_J_STRING) {
        if (item.kind != ASSAY_J_STRING)
            return assay_jfail(r, ASSAY_EINPUT, "'in <string>' requires a string, not %s", assay_jtype(item));
        *out = item.str.n == 0 || (v.str.n && memmem(v.str.s, v.str.n, item.str.s, item.str.n));
        return assay_jstep(r, v.str.n);
    }
    if (v.kind == ASSAY_J_DICT) {
        const assay_jvalue *there;
        ASSAY_TRY(assay_jdict_find(&there, r, v.dict, item));
        *out = there != NULL;
        return ASSAY_OK;
    }
    if (assay_jis_undefined(v)) return ASSAY_OK;
    if (!assay_jis_list(v))
        return assay_jfail(r, ASSAY_EINPUT, "a %s cannot contain anything", assay_jtype(v));
    for (size_t i = 0; i < v.list->n && !*out; i++)
        ASSAY_TRY(assay_jequal(out, r, v.list->v[i], item));
    return ASSAY_OK;
}
