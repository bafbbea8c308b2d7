/* jinja_value.c: values as Python has them: truth, equality, order, str() and repr(), and their making from
 * JSON.
 *
 * Integers are 64 bits and overflow is an error; Python's would grow. Strings compare by code point, which in
 * UTF-8 is by byte. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "text/jinja.h"
#include "text/unicode.h"

/* ---- the rendering's resources ---- */

assay_status assay_jfail(assay_jrun *r, assay_status code, const char *fmt, ...) {
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return assay_fail(r->err, code, "chat template line %d: %s", r->line, why);
}

void *assay_jalloc(assay_jrun *r, size_t n, size_t size) {
    size_t bytes;
    if (!assay_mul_size(&bytes, n, size) || bytes > ASSAY_J_MAX_MEMORY - r->used) {
        r->used = ASSAY_J_MAX_MEMORY; /* so that assay_jnomem knows which it was */
        return NULL;
    }
    r->used += bytes;
    return assay_arena_alloc(&r->arena, bytes ? bytes : 1);
}

assay_status assay_jnomem(assay_jrun *r) {
    if (r->used < ASSAY_J_MAX_MEMORY) return assay_nomem(r->err);
    return assay_jfail(r, ASSAY_EINPUT, "the template needs more than %u MiB of memory",
                       ASSAY_J_MAX_MEMORY >> 20);
}

assay_status assay_jstep(assay_jrun *r, size_t bytes) {
    r->steps += 1 + bytes / 64;
    if (r->steps <= ASSAY_J_MAX_STEPS) return ASSAY_OK;
    return assay_jfail(r, ASSAY_EINPUT, "the template takes more than %d steps", ASSAY_J_MAX_STEPS);
}

assay_status assay_jenter(assay_jrun *r) {
    ASSAY_TRY(assay_jstep(r, 0));
    if (r->depth >= ASSAY_J_MAX_DEPTH)
        return assay_jfail(r, ASSAY_EINPUT, "the template nests more than %d deep", ASSAY_J_MAX_DEPTH);
    r->depth++;
    return ASSAY_OK;
}

/* ---- making ---- */

assay_status assay_jundefined(assay_jvalue *out, assay_jrun *r, const char *fmt, ...) {
    char why[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    ASSAY_TRY(assay_jstr_copy(out, r, why, strlen(why)));
    out->kind = ASSAY_J_UNDEFINED;
    return ASSAY_OK;
}

assay_status assay_jstr_copy(assay_jvalue *out, assay_jrun *r, const char *s, size_t n) {
    char *copy = assay_jalloc(r, n, 1);
    if (!copy) return assay_jnomem(r);
    if (n) memcpy(copy, s, n);
    *out = assay_jstr(copy, n);
    return assay_jstep(r, n);
}

assay_status assay_jstr_take(assay_jvalue *out, assay_jrun *r, assay_str *b) {
    assay_status s = b->failed ? assay_nomem(r->err) : assay_jstr_copy(out, r, assay_str_c(b), b->len);
    assay_str_free(b);
    return s;
}

assay_status assay_jlist_new(assay_jlist **out, assay_jrun *r, size_t cap) {
    assay_jlist *l = assay_jalloc(r, 1, sizeof *l);
    assay_jvalue *v = l && cap ? assay_jalloc(r, cap, sizeof *v) : NULL;
    if (!l || (cap && !v)) return assay_jnomem(r);
    *l = (assay_jlist){.cap = cap, .v = v};
    *out = l;
    return ASSAY_OK;
}

/* Doubles an arena array. */
static assay_status enlarge(assay_jvalue **v, assay_jrun *r, size_t n, size_t cap) {
    assay_jvalue *w = assay_jalloc(r, cap, sizeof *w);
    if (!w) return assay_jnomem(r);
    if (n) memcpy(w, *v, n * sizeof *w);
    *v = w;
    return ASSAY_OK;
}

assay_status assay_jlist_put(assay_jlist *l, assay_jrun *r, assay_jvalue v) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        ASSAY_TRY(enlarge(&l->v, r, l->n, cap));
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return assay_jstep(r, 0);
}

assay_status assay_jdict_new(assay_jdict **out, assay_jrun *r, size_t cap) {
    assay_jdict *d = assay_jalloc(r, 1, sizeof *d);
    if (!d) return assay_jnomem(r);
    *out = d;
    if (!cap) return ASSAY_OK;
    ASSAY_TRY(enlarge(&d->keys, r, 0, cap));
    ASSAY_TRY(enlarge(&d->values, r, 0, cap));
    d->cap = cap;
    return ASSAY_OK;
}

assay_status assay_jdict_find(const assay_jvalue **out, assay_jrun *r, const assay_jdict *d,
                              assay_jvalue key) {
    *out = NULL;
    for (size_t i = 0; i < d->n; i++) {
        bool same = false;
        const assay_jvalue *k = &d->keys[i];
        if (k->kind == ASSAY_J_STRING && key.kind == ASSAY_J_STRING)
            same = k->str.n == key.str.n && (key.str.n == 0 || memcmp(k->str.s, key.str.s, key.str.n) == 0);
        else if (k->kind != ASSAY_J_STRING || key.kind != ASSAY_J_STRING)
            ASSAY_TRY(assay_jequal(&same, r, *k, key));
        if (!same) continue;
        *out = &d->values[i];
        return ASSAY_OK;
    }
    return assay_jstep(r, d->n);
}

assay_status assay_jdict_put(assay_jdict *d, assay_jrun *r, assay_jvalue key, assay_jvalue value) {
    const assay_jvalue *there;
    if (key.kind == ASSAY_J_LIST || key.kind == ASSAY_J_DICT)
        return assay_jfail(r, ASSAY_EINPUT, "a %s cannot be a key", assay_jtype(key));
    ASSAY_TRY(assay_jdict_find(&there, r, d, key));
    if (there) {
        d->values[there - d->values] = value;
        return ASSAY_OK;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        ASSAY_TRY(enlarge(&d->keys, r, d->n, cap));
        ASSAY_TRY(enlarge(&d->values, r, d->n, cap));
        d->cap = cap;
    }
    d->keys[d->n] = key;
    d->values[d->n++] = value;
    return ASSAY_OK;
}

assay_status assay_jpair(assay_jvalue *out, assay_jrun *r, assay_jvalue a, assay_jvalue b) {
    assay_jlist *l;
    ASSAY_TRY(assay_jlist_new(&l, r, 2));
    l->v[0] = a;
    l->v[1] = b;
    l->n = 2;
    *out = assay_jtuple_value(l);
    return ASSAY_OK;
}

static assay_status json_members(assay_jvalue *out, assay_jrun *r, const json_t *j) {
    assay_jlist *l;
    assay_jdict *d;
    assay_jvalue v;
    if (json_is_array(j)) {
        ASSAY_TRY(assay_jlist_new(&l, r, json_array_size(j)));
        for (size_t i = 0; i < json_array_size(j); i++) {
            ASSAY_TRY(assay_jfrom_json(&v, r, json_array_get(j, i)));
            ASSAY_TRY(assay_jlist_put(l, r, v));
        }
        *out = assay_jlist_value(l);
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_jdict_new(&d, r, json_object_size(j)));
    json_t *o = (json_t *)(uintptr_t)j; /* jansson's iteration is not const */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        assay_jvalue key;
        ASSAY_TRY(assay_jstr_copy(&key, r, json_object_iter_key(it), json_object_iter_key_len(it)));
        ASSAY_TRY(assay_jfrom_json(&v, r, json_object_iter_value(it)));
        d->keys[d->n] = key; /* keys of an object are unique, and there is room */
        d->values[d->n++] = v;
    }
    *out = assay_jdict_value(d);
    return ASSAY_OK;
}

assay_status assay_jfrom_json(assay_jvalue *out, assay_jrun *r, const json_t *j) {
    if (!j || json_is_null(j))
        *out = assay_jnone();
    else if (json_is_boolean(j))
        *out = assay_jbool(json_is_true(j));
    else if (json_is_integer(j))
        *out = assay_jint(json_integer_value(j));
    else if (json_is_real(j))
        *out = assay_jfloat(json_real_value(j));
    else if (json_is_string(j))
        return assay_jstr_copy(out, r, json_string_value(j), json_string_length(j));
    else {
        ASSAY_TRY(assay_jenter(r));
        ASSAY_TRY(json_members(out, r, j));
        assay_jleave(r);
    }
    return assay_jstep(r, 0);
}

/* ---- comparing ---- */

const char *assay_jtype(assay_jvalue v) {
    static const char *const names[] = {"nothing",   "Undefined",   "NoneType", "bool",    "int",
                                        "float",     "str",         "list",     "tuple",   "dict",
                                        "Namespace", "LoopContext", "Macro",    "function"};
    return names[v.kind];
}

bool assay_jtruth(assay_jvalue v) {
    switch (v.kind) {
    case ASSAY_J_MISSING:
    case ASSAY_J_UNDEFINED:
    case ASSAY_J_NONE:
        return false;
    case ASSAY_J_BOOL:
        return v.b;
    case ASSAY_J_INT:
        return v.i != 0;
    case ASSAY_J_FLOAT:
        return v.f != 0;
    case ASSAY_J_STRING:
        return v.str.n != 0;
    case ASSAY_J_LIST:
    case ASSAY_J_TUPLE:
        return v.list->n != 0;
    case ASSAY_J_DICT:
        return v.dict->n != 0;
    default:
        return true;
    }
}

static double as_double(assay_jvalue v) {
    return v.kind == ASSAY_J_FLOAT ? v.f : v.kind == ASSAY_J_INT ? (double)v.i : (double)v.b;
}
static int64_t as_int(assay_jvalue v) {
    return v.kind == ASSAY_J_INT ? v.i : (int64_t)v.b;
}

static int order_numbers(assay_jvalue a, assay_jvalue b) { /* 2: unordered (NaN) */
    if (a.kind != ASSAY_J_FLOAT && b.kind != ASSAY_J_FLOAT)
        return (as_int(a) > as_int(b)) - (as_int(a) < as_int(b));
    double x = as_double(a), y = as_double(b);
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

static assay_status equal_dicts(bool *out, assay_jrun *r, const assay_jdict *a, const assay_jdict *b) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        const assay_jvalue *v;
        ASSAY_TRY(assay_jdict_find(&v, r, b, a->keys[i]));
        if (!v)
            *out = false;
        else
            ASSAY_TRY(assay_jequal(out, r, a->values[i], *v));
    }
    return ASSAY_OK;
}

assay_status assay_jequal(bool *out, assay_jrun *r, assay_jvalue a, assay_jvalue b) {
    *out = false;
    if (assay_jis_number(a) && assay_jis_number(b)) {
        *out = order_numbers(a, b) == 0;
        return assay_jstep(r, 0);
    }
    if (assay_jis_undefined(a) && assay_jis_undefined(b)) {
        *out = true;
        return ASSAY_OK;
    }
    if (a.kind != b.kind) return assay_jstep(r, 0);
    switch (a.kind) {
    case ASSAY_J_NONE:
        *out = true;
        return ASSAY_OK;
    case ASSAY_J_STRING:
        *out = a.str.n == b.str.n && (a.str.n == 0 || memcmp(a.str.s, b.str.s, a.str.n) == 0);
        return assay_jstep(r, a.str.n);
    case ASSAY_J_LIST:
    case ASSAY_J_TUPLE:
        ASSAY_TRY(assay_jenter(r));
        *out = a.list->n == b.list->n;
        for (size_t i = 0; *out && i < a.list->n; i++)
            ASSAY_TRY(assay_jequal(out, r, a.list->v[i], b.list->v[i]));
        assay_jleave(r);
        return ASSAY_OK;
    case ASSAY_J_DICT:
        ASSAY_TRY(assay_jenter(r));
        ASSAY_TRY(equal_dicts(out, r, a.dict, b.dict));
        assay_jleave(r);
        return ASSAY_OK;
    case ASSAY_J_NAMESPACE:
        *out = a.dict == b.dict;
        return ASSAY_OK;
    case ASSAY_J_LOOP:
        *out = a.loop == b.loop;
        return ASSAY_OK;
    case ASSAY_J_MACRO:
        *out = a.macro == b.macro;
        return ASSAY_OK;
    default:
        return ASSAY_OK;
    }
}

assay_status assay_jcompare(int *out, assay_jrun *r, assay_jvalue a, assay_jvalue b) {
    if (assay_jis_number(a) && assay_jis_number(b)) {
        *out = order_numbers(a, b);
        return assay_jstep(r, 0);
    }
    if (a.kind == ASSAY_J_STRING && b.kind == ASSAY_J_STRING) {
        size_t n = ASSAY_MIN(a.str.n, b.str.n);
        int c = n ? memcmp(a.str.s, b.str.s, n) : 0;
        *out = c ? (c > 0) - (c < 0) : (a.str.n > b.str.n) - (a.str.n < b.str.n);
        return assay_jstep(r, n);
    }
    if (assay_jis_list(a) && a.kind == b.kind) {
        ASSAY_TRY(assay_jenter(r));
        size_t n = ASSAY_MIN(a.list->n, b.list->n), i = 0;
        for (bool same; i < n; i++) {
            ASSAY_TRY(assay_jequal(&same, r, a.list->v[i], b.list->v[i]));
            if (!same) break;
        }
        if (i < n)
            ASSAY_TRY(assay_jcompare(out, r, a.list->v[i], b.list->v[i]));
        else
            *out = (a.list->n > b.list->n) - (a.list->n < b.list->n);
        assay_jleave(r);
        return ASSAY_OK;
    }
    if (a.kind == ASSAY_J_UNDEFINED) return assay_jfail(r, ASSAY_EINPUT, "%.*s", (int)a.str.n, a.str.s);
    if (b.kind == ASSAY_J_UNDEFINED) return assay_jfail(r, ASSAY_EINPUT, "%.*s", (int)b.str.n, b.str.s);
    return assay_jfail(r, ASSAY_EINPUT, "%s and %s have no order", assay_jtype(a), assay_jtype(b));
}

/* ---- str() and repr() ---- */

/* The shortest decimal that reads back as f, laid out as Python does. */
void assay_jput_float(assay_str *b, double f) {
    char buf[40], digits[24];
    if (isnan(f) || isinf(f)) {
        assay_str_put(b, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 0;
    do
        snprintf(buf, sizeof buf, "%.*e", precision, f);
    while (strtod(buf, NULL) != f && ++precision < 17);
    int n = 0, exponent = (int)strtol(strchr(buf, 'e') + 1, NULL, 10);
    for (const char *c = buf; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9') digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (buf[0] == '-') assay_str_putc(b, '-');
    if (exponent < -4 || exponent >= 16) {
        assay_str_putc(b, digits[0]);
        if (n > 1) assay_str_putc(b, '.');
        assay_str_putn(b, digits + 1, (size_t)(n - 1));
        assay_str_printf(b, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        assay_str_put(b, "0.");
        assay_str_fill(b, '0', (size_t)(-exponent - 1));
        assay_str_putn(b, digits, (size_t)n);
    } else {
        int whole = exponent + 1;
        assay_str_putn(b, digits, (size_t)ASSAY_MIN(n, whole));
        if (n < whole) assay_str_fill(b, '0', (size_t)(whole - n));
        assay_str_putc(b, '.');
        if (n > whole)
            assay_str_putn(b, digits + whole, (size_t)(n - whole));
        else
            assay_str_putc(b, '0');
    }
}

static void repr_string(assay_str *b, const char *s, size_t n) {
    bool single = n && memchr(s, '\'', n), twice = n && memchr(s, '"', n);
    char quote = single && !twice ? '"' : '\'';
    assay_str_putc(b, quote);
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        if (cp == quote || cp == '\\')
            assay_str_printf(b, "\\%c", (char)cp);
        else if (cp == '\n')
            assay_str_put(b, "\\n");
        else if (cp == '\r')
            assay_str_put(b, "\\r");
        else if (cp == '\t')
            assay_str_put(b, "\\t");
        else if (assay_char_is_printable(cp))
            assay_str_putn(b, s + i, len);
        else if (cp < 0x100)
            assay_str_printf(b, "\\x%02x", (unsigned)cp);
        else if (cp < 0x10000)
            assay_str_printf(b, "\\u%04x", (unsigned)cp);
        else
            assay_str_printf(b, "\\U%08x", (unsigned)cp);
    }
    assay_str_putc(b, quote);
}

static assay_status repr_list(assay_str *b, assay_jrun *r, const assay_jlist *l, const char *open,
                              const char *close) {
    assay_str_put(b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) assay_str_put(b, ", ");
        ASSAY_TRY(assay_jput_repr(b, r, l->v[i]));
    }
    assay_str_put(b, close);
    return ASSAY_OK;
}

static assay_status repr_dict(assay_str *b, assay_jrun *r, const assay_jdict *d) {
    assay_str_putc(b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) assay_str_put(b, ", ");
        ASSAY_TRY(assay_jput_repr(b, r, d->keys[i]));
        assay_str_put(b, ": ");
        ASSAY_TRY(assay_jput_repr(b, r, d->values[i]));
    }
    assay_str_putc(b, '}');
    return ASSAY_OK;
}

assay_status assay_jput_repr(assay_str *b, assay_jrun *r, assay_jvalue v) {
    if (b->len > ASSAY_J_MAX_OUTPUT)
        return assay_jfail(r, ASSAY_EINPUT, "a text grows over %u MiB", ASSAY_J_MAX_OUTPUT >> 20);
    ASSAY_TRY(assay_jenter(r));
    switch (v.kind) {
    case ASSAY_J_NONE:
        assay_str_put(b, "None");
        break;
    case ASSAY_J_BOOL:
        assay_str_put(b, v.b ? "True" : "False");
        break;
    case ASSAY_J_INT:
        assay_str_printf(b, "%lld", (long long)v.i);
        break;
    case ASSAY_J_FLOAT:
        assay_jput_float(b, v.f);
        break;
    case ASSAY_J_STRING:
        repr_string(b, v.str.s, v.str.n);
        break;
    case ASSAY_J_LIST:
        ASSAY_TRY(repr_list(b, r, v.list, "[", "]"));
        break;
    case ASSAY_J_TUPLE:
        ASSAY_TRY(repr_list(b, r, v.list, "(", v.list->n == 1 ? ",)" : ")"));
        break;
    case ASSAY_J_DICT:
        ASSAY_TRY(repr_dict(b, r, v.dict));
        break;
    case ASSAY_J_MISSING:
    case ASSAY_J_UNDEFINED:
        assay_str_put(b, "Undefined");
        break;
    default:
        return assay_jfail(r, ASSAY_EUNSUPPORTED, "a %s cannot be written out", assay_jtype(v));
    }
    assay_jleave(r);
    return ASSAY_OK;
}

assay_status assay_jput_str(assay_str *b, assay_jrun *r, assay_jvalue v) {
    if (b->len > ASSAY_J_MAX_OUTPUT)
        return assay_jfail(r, ASSAY_EINPUT, "a text grows over %u MiB", ASSAY_J_MAX_OUTPUT >> 20);
    if (v.kind == ASSAY_J_STRING) {
        assay_str_putn(b, v.str.s, v.str.n);
        return assay_jstep(r, v.str.n);
    }
    return assay_jis_undefined(v) ? ASSAY_OK : assay_jput_repr(b, r, v);
}

assay_status assay_jto_str(assay_jvalue *out, assay_jrun *r, assay_jvalue v) {
    *out = v;
    if (v.kind == ASSAY_J_STRING) return ASSAY_OK;
    assay_str b = {0};
    assay_status s = assay_jput_str(&b, r, v);
    if (s == ASSAY_OK) return assay_jstr_take(out, r, &b);
    assay_str_free(&b);
    return s;
}
