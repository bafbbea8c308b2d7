/* jinja_function.c: the globals of a chat template (range, dict, namespace, and transformers' raise_exception
 * and strftime_now), the methods of dicts and lists, and the properties of `loop`. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "text/jinja.h"

#define FUNCTION_OF(name)                                                                                    \
    static assay_status name(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,     \
                             const assay_jargs *args)
#define MAX_RANGE 100000 /* as Jinja's sandbox */

/* ---- globals ---- */

FUNCTION_OF(function_raise_exception) {
    (void)out, (void)self, (void)args;
    assay_jvalue text;
    ASSAY_TRY(assay_jto_str(&text, r, a[0]));
    return assay_jfail(r, ASSAY_EINPUT, "%.*s", (int)ASSAY_MIN(text.str.n, (size_t)400), text.str.s);
}

FUNCTION_OF(function_range) {
    (void)self, (void)args;
    int64_t v[3] = {0, 0, 1};
    for (int i = 0; i < 3; i++) {
        if (a[i].kind == ASSAY_J_MISSING) continue;
        if (a[i].kind != ASSAY_J_INT && a[i].kind != ASSAY_J_BOOL)
            return assay_jfail(r, ASSAY_EINPUT, "range wants integers, not %s", assay_jtype(a[i]));
        v[i] = a[i].kind == ASSAY_J_INT ? a[i].i : a[i].b;
    }
    if (a[1].kind == ASSAY_J_MISSING) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0) return assay_jfail(r, ASSAY_EINPUT, "range wants a step that is not zero");
    assay_jlist *l;
    ASSAY_TRY(assay_jlist_new(&l, r, 0));
    for (int64_t i = v[0]; v[2] > 0 ? i < v[1] : i > v[1];) {
        if (l->n == MAX_RANGE) return assay_jfail(r, ASSAY_EINPUT, "range is longer than %d", MAX_RANGE);
        ASSAY_TRY(assay_jlist_put(l, r, assay_jint(i)));
        if (__builtin_add_overflow(i, v[2], &i)) break;
    }
    *out = assay_jlist_value(l);
    return ASSAY_OK;
}

/* dict(mapping or pairs, name=value, ...) */
FUNCTION_OF(function_dict) {
    (void)self, (void)a;
    assay_jdict *d;
    ASSAY_TRY(assay_jdict_new(&d, r, args->n_named));
    if (args->n > 1) return assay_jfail(r, ASSAY_EINPUT, "dict takes one argument");
    if (args->n == 1 && args->v[0].kind == ASSAY_J_DICT) {
        const assay_jdict *from = args->v[0].dict;
        for (size_t i = 0; i < from->n; i++)
            ASSAY_TRY(assay_jdict_put(d, r, from->keys[i], from->values[i]));
    } else if (args->n == 1) {
        assay_jlist *l, *pair;
        ASSAY_TRY(assay_jiterate(&l, r, args->v[0]));
        for (size_t i = 0; i < l->n; i++) {
            ASSAY_TRY(assay_jiterate(&pair, r, l->v[i]));
            if (pair->n != 2) return assay_jfail(r, ASSAY_EINPUT, "dict wants pairs");
            ASSAY_TRY(assay_jdict_put(d, r, pair->v[0], pair->v[1]));
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        ASSAY_TRY(
            assay_jdict_put(d, r, assay_jstr(args->named[i].s, args->named[i].n), args->named[i].value));
    *out = assay_jdict_value(d);
    return ASSAY_OK;
}

FUNCTION_OF(function_namespace) {
    ASSAY_TRY(function_dict(out, r, self, a, args));
    for (size_t i = 0; i < out->dict->n; i++) {
        assay_jvalue k = out->dict->keys[i];
        if (k.kind == ASSAY_J_STRING && k.str.n && k.str.s[0] == '_')
            return assay_jfail(r, ASSAY_EINPUT,
                               "a namespace takes no attribute that begins with an underscore");
    }
    out->kind = ASSAY_J_NAMESPACE;
    return ASSAY_OK;
}

/* The local time; the caller's fixed time or SOURCE_DATE_EPOCH of the environment in UTC, so that prompts can
 * be reproduced. */
/* Python's format as C's: microseconds are none of C's, and a time without a zone has no name for it. */
static bool c_format(char *out, size_t room, const char *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char next = s[i] == '%' && i + 1 < n ? s[i + 1] : 0;
        const char *to = next == 'f' ? "000000" : next == 'Z' || next == 'z' ? "" : NULL;
        size_t len = to ? strlen(to) : next ? 2 : 1;
        if (k + len >= room || s[i] == 0) return false;
        memcpy(out + k, to ? to : s + i, len);
        k += len;
        i += next != 0;
    }
    out[k] = '\0';
    return true;
}

FUNCTION_OF(function_strftime_now) {
    (void)self, (void)args;
    char format[256], text[1024];
    struct tm tm;
    if (a[0].kind != ASSAY_J_STRING || !c_format(format, sizeof format, a[0].str.s, a[0].str.n))
        return assay_jfail(r, ASSAY_EINPUT, "strftime_now wants a short format");
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t t = r->now ? (time_t)*r->now : epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    if (!(r->now || epoch ? gmtime_r(&t, &tm) : localtime_r(&t, &tm)))
        return assay_jfail(r, ASSAY_EINPUT, "the time cannot be told");
    return assay_jstr_copy(out, r, text, strftime(text, sizeof text, format, &tm));
}

/* ---- dicts and lists ---- */

static assay_status entries(assay_jvalue *out, assay_jrun *r, const assay_jdict *d, bool keys, bool values) {
    assay_jlist *l;
    ASSAY_TRY(assay_jlist_new(&l, r, d->n));
    for (size_t i = 0; i < d->n; i++) {
        assay_jvalue v = keys ? d->keys[i] : d->values[i];
        if (keys && values) ASSAY_TRY(assay_jpair(&v, r, d->keys[i], d->values[i]));
        ASSAY_TRY(assay_jlist_put(l, r, v));
    }
    *out = assay_jlist_value(l);
    return ASSAY_OK;
}
FUNCTION_OF(method_items) {
    (void)a, (void)args;
    return entries(out, r, self.dict, true, true);
}
FUNCTION_OF(method_keys) {
    (void)a, (void)args;
    return entries(out, r, self.dict, true, false);
}
FUNCTION_OF(method_values) {
    (void)a, (void)args;
    return entries(out, r, self.dict, false, true);
}
FUNCTION_OF(method_get) {
    const assay_jvalue *there;
    (void)args;
    ASSAY_TRY(assay_jdict_find(&there, r, self.dict, a[0]));
    *out = there ? *there : a[1].kind == ASSAY_J_MISSING ? assay_jnone() : a[1];
    return ASSAY_OK;
}
FUNCTION_OF(method_copy) { /* values are immutable */
    (void)r, (void)a, (void)args;
    *out = self;
    return ASSAY_OK;
}
FUNCTION_OF(method_list_count) {
    int64_t n = 0;
    (void)args;
    for (size_t i = 0; i < self.list->n; i++) {
        bool same;
        ASSAY_TRY(assay_jequal(&same, r, self.list->v[i], a[0]));
        n += same;
    }
    *out = assay_jint(n);
    return ASSAY_OK;
}
FUNCTION_OF(method_list_index) {
    (void)args;
    for (size_t i = 0; i < self.list->n; i++) {
        bool same;
        ASSAY_TRY(assay_jequal(&same, r, self.list->v[i], a[0]));
        if (!same) continue;
        *out = assay_jint((int64_t)i);
        return ASSAY_OK;
    }
    return assay_jfail(r, ASSAY_EINPUT, "index: the value is not in the list");
}

/* ---- loop ---- */

#define LOOP_PROPERTY(name, expr)                                                                            \
    FUNCTION_OF(name) {                                                                                      \
        (void)r, (void)a, (void)args;                                                                        \
        const assay_jloop *l = self.loop;                                                                    \
        *out = expr;                                                                                         \
        return ASSAY_OK;                                                                                     \
    }
LOOP_PROPERTY(loop_index, assay_jint((int64_t)l->index + 1))
LOOP_PROPERTY(loop_index0, assay_jint((int64_t)l->index))
LOOP_PROPERTY(loop_revindex, assay_jint((int64_t)(l->items->n - l->index)))
LOOP_PROPERTY(loop_revindex0, assay_jint((int64_t)(l->items->n - l->index - 1)))
LOOP_PROPERTY(loop_first, assay_jbool(l->index == 0))
LOOP_PROPERTY(loop_last, assay_jbool(l->index + 1 == l->items->n))
LOOP_PROPERTY(loop_length, assay_jint((int64_t)l->items->n))
LOOP_PROPERTY(loop_depth, assay_jint(l->depth + 1))
LOOP_PROPERTY(loop_depth0, assay_jint(l->depth))

FUNCTION_OF(loop_previtem) {
    (void)a, (void)args;
    if (self.loop->index == 0) return assay_jundefined(out, r, "there is no previous item");
    *out = self.loop->items->v[self.loop->index - 1];
    return ASSAY_OK;
}
FUNCTION_OF(loop_nextitem) {
    (void)a, (void)args;
    if (self.loop->index + 1 >= self.loop->items->n) return assay_jundefined(out, r, "there is no next item");
    *out = self.loop->items->v[self.loop->index + 1];
    return ASSAY_OK;
}
FUNCTION_OF(loop_cycle) {
    (void)a;
    if (args->n == 0) return assay_jfail(r, ASSAY_EINPUT, "no items for cycling given");
    *out = args->v[self.loop->index % args->n];
    return ASSAY_OK;
}
FUNCTION_OF(loop_changed) {
    (void)a;
    assay_jlist *l;
    bool same = false;
    ASSAY_TRY(assay_jlist_new(&l, r, args->n));
    for (size_t i = 0; i < args->n; i++)
        ASSAY_TRY(assay_jlist_put(l, r, args->v[i]));
    assay_jvalue now = assay_jtuple_value(l);
    if (self.loop->changed.kind != ASSAY_J_MISSING)
        ASSAY_TRY(assay_jequal(&same, r, self.loop->changed, now));
    self.loop->changed = now;
    *out = assay_jbool(!same);
    return ASSAY_OK;
}

#define FILTER(name, fn, params, required)
#define TEST(name, fn, params, required)
#define STRING_METHOD(name, fn, params, required)
#define ROW(name, fn, params, required) {name, fn, params, required},
#define FUNCTION                        ROW
#define DICT_METHOD(name, fn, params, required)
#define LIST_METHOD(name, fn, params, required)
#define LOOP(name, fn, params, required)
const assay_jbuiltin assay_jfunctions[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
#undef FUNCTION
#undef DICT_METHOD
#define FUNCTION(name, fn, params, required)
#define DICT_METHOD ROW
const assay_jbuiltin assay_jdict_methods[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
#undef DICT_METHOD
#undef LIST_METHOD
#define DICT_METHOD(name, fn, params, required)
#define LIST_METHOD ROW
const assay_jbuiltin assay_jlist_methods[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
#undef LIST_METHOD
#undef LOOP
#define LIST_METHOD(name, fn, params, required)
#define LOOP ROW
const assay_jbuiltin assay_jloop_methods[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
