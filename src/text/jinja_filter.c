/* jinja_filter.c: the filters of Jinja, as jinja2/filters.py defines them, but for tojson (jinja_json.c).
 *
 * Filters that are generators there (map, select, reject, unique, items, reverse) give lists here: a template
 * cannot tell, except by printing one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "text/jinja.h"
#include "text/jinja_filter.h"
#include "text/unicode.h"

#define FILTER_OF(name)                                                                                      \
    static assay_status name(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,     \
                             const assay_jargs *args)

/* ---- help ---- */

static assay_status call_method(assay_jvalue *out, assay_jrun *r, const char *name, assay_jvalue self,
                                const assay_jvalue *v, size_t n) {
    assay_jvalue copy[3] = {{.kind = ASSAY_J_MISSING}};
    for (size_t i = 0; i < n; i++)
        copy[i] = v[i];
    while (n && copy[n - 1].kind == ASSAY_J_MISSING)
        n--;
    const assay_jargs args = {.v = copy, .n = n};
    ASSAY_TRY(assay_jto_str(&self, r, self));
    return assay_jcall_builtin(out, r, assay_jbuiltin_find(assay_jstring_methods, name, strlen(name)), self,
                               &args);
}

static assay_status undefined_error(assay_jrun *r, assay_jvalue v) {
    return assay_jfail(r, ASSAY_EINPUT, "%.*s", (int)v.str.n, v.str.s ? v.str.s : "");
}

/* item.a.b.0 for an attribute path; a MISSING or none path gives the item. */
static assay_status by_path(assay_jvalue *out, assay_jrun *r, assay_jvalue item, assay_jvalue path,
                            assay_jvalue standard) {
    *out = item;
    if (path.kind == ASSAY_J_MISSING || path.kind == ASSAY_J_NONE) return ASSAY_OK;
    if (path.kind != ASSAY_J_STRING) return assay_jitem(out, r, item, path);
    for (size_t i = 0; i <= path.str.n;) {
        const char *dot = i < path.str.n ? memchr(path.str.s + i, '.', path.str.n - i) : NULL;
        size_t end = dot ? (size_t)(dot - path.str.s) : path.str.n;
        assay_jvalue key = assay_jstr(path.str.s + i, end - i);
        bool digits = end > i && end - i < 10;
        int64_t index = 0;
        for (size_t k = i; k < end && digits; k++) {
            digits = path.str.s[k] >= '0' && path.str.s[k] <= '9';
            index = index * 10 + (path.str.s[k] - '0');
        }
        if (digits) key = assay_jint(index);
        assay_jvalue v = *out;
        ASSAY_TRY(assay_jitem(out, r, v, key));
        if (assay_jis_undefined(*out) && standard.kind != ASSAY_J_MISSING && standard.kind != ASSAY_J_NONE)
            *out = standard;
        i = end + 1;
    }
    return ASSAY_OK;
}

/* What sorting and comparing looks at: the attribute, in lower case unless case counts. */
static assay_status sort_key(assay_jvalue *out, assay_jrun *r, assay_jvalue item, assay_jvalue path,
                             bool case_sensitive) {
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    ASSAY_TRY(by_path(out, r, item, path, missing));
    if (case_sensitive || out->kind != ASSAY_J_STRING) return ASSAY_OK;
    assay_jvalue v = *out;
    return call_method(out, r, "lower", v, NULL, 0);
}

/* ---- strings ---- */

FILTER_OF(filter_string) {
    (void)a, (void)args;
    return assay_jto_str(out, r, self);
}
#define BY_METHOD(name, method, n)                                                                           \
    FILTER_OF(name) {                                                                                        \
        (void)args;                                                                                          \
        return call_method(out, r, method, self, a, n);                                                      \
    }
BY_METHOD(filter_upper, "upper", 0)
BY_METHOD(filter_lower, "lower", 0)
BY_METHOD(filter_capitalize, "capitalize", 0)
BY_METHOD(filter_trim, "strip", 1)

FILTER_OF(filter_replace) {
    assay_jvalue v[3] = {{.kind = ASSAY_J_MISSING}};
    (void)args;
    ASSAY_TRY(assay_jto_str(&v[0], r, a[0]));
    ASSAY_TRY(assay_jto_str(&v[1], r, a[1]));
    v[2] = a[2];
    return call_method(out, r, "replace", self, v, 3);
}

/* Words begin after white space and any of -({[< */
FILTER_OF(filter_title) {
    assay_str b = {0};
    bool begins = true;
    (void)a, (void)args;
    ASSAY_TRY(assay_jto_str(&self, r, self));
    for (size_t i = 0, len; i < self.str.n; i += len) {
        int32_t cp = assay_utf8_next(&len, self.str.s + i, self.str.n - i);
        bool breaks = assay_char_is_space(cp) || (cp && cp < 0x80 && strchr("-({[<", (char)cp));
        if (begins && !breaks)
            assay_char_put_upper(&b, cp);
        else
            assay_char_put_lower(&b, cp);
        begins = breaks;
    }
    return assay_jstr_take(out, r, &b);
}

FILTER_OF(filter_center) {
    int64_t width = a[0].kind == ASSAY_J_INT ? a[0].i : 80, n;
    assay_str b = {0};
    (void)args;
    ASSAY_TRY(assay_jto_str(&self, r, self));
    ASSAY_TRY(assay_jlength(&n, r, self));
    if (width > (int64_t)ASSAY_J_MAX_OUTPUT)
        return assay_jfail(r, ASSAY_EINPUT, "a width of %lld is too large", (long long)width);
    int64_t pad = width > n ? width - n : 0, left = pad / 2 + (pad & width & 1);
    assay_str_fill(&b, ' ', (size_t)left);
    assay_str_putn(&b, self.str.s, self.str.n);
    assay_str_fill(&b, ' ', (size_t)(pad - left));
    return assay_jstr_take(out, r, &b);
}

FILTER_OF(filter_escape) {
    assay_str b = {0};
    (void)a, (void)args;
    ASSAY_TRY(assay_jto_str(&self, r, self));
    for (size_t i = 0; i < self.str.n; i++) {
        static const char from[] = "&<>'\"";
        static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
        const char *hit = self.str.s[i] ? strchr(from, self.str.s[i]) : NULL;
        if (hit)
            assay_str_put(&b, to[hit - from]);
        else
            assay_str_putc(&b, self.str.s[i]);
    }
    return assay_jstr_take(out, r, &b);
}

FILTER_OF(filter_indent) {
    (void)args;
    if (self.kind == ASSAY_J_UNDEFINED) return undefined_error(r, self);
    if (self.kind != ASSAY_J_STRING)
        return assay_jfail(r, ASSAY_EINPUT, "indent wants a string, not %s", assay_jtype(self));
    assay_jvalue lines, by = a[0], full;
    int64_t width = a[0].kind == ASSAY_J_INT ? a[0].i : 4;
    if (width > 4096)
        return assay_jfail(r, ASSAY_EINPUT, "an indentation of %lld is too large", (long long)width);
    if (by.kind != ASSAY_J_STRING)
        ASSAY_TRY(assay_jarithmetic(&by, r, ASSAY_JOP_MUL, assay_jstr(" ", 1), assay_jint(width)));
    ASSAY_TRY(assay_jarithmetic(&full, r, ASSAY_JOP_ADD, self, assay_jstr("\n", 1)));
    ASSAY_TRY(call_method(&lines, r, "splitlines", full, NULL, 0));
    assay_str b = {0};
    bool blank = assay_jtruth(a[2]);
    if (assay_jtruth(a[1])) assay_str_putn(&b, by.str.s, by.str.n);
    for (size_t i = 0; i < lines.list->n && b.len <= ASSAY_J_MAX_OUTPUT; i++) {
        const assay_jvalue *l = &lines.list->v[i];
        if (i) assay_str_putc(&b, '\n');
        if (i && (blank || l->str.n)) assay_str_putn(&b, by.str.s, by.str.n);
        assay_str_putn(&b, l->str.s, l->str.n);
    }
    return assay_jstr_take(out, r, &b);
}

/* printf-like: %s %r %d %i %% with positional arguments. */
FILTER_OF(filter_format) {
    assay_str b = {0};
    assay_status s = ASSAY_OK;
    size_t next = 0;
    (void)a;
    ASSAY_TRY(assay_jto_str(&self, r, self));
    if (args->n_named)
        return assay_jfail(r, ASSAY_EUNSUPPORTED, "format with named arguments is not supported");
    for (size_t i = 0; i < self.str.n && s == ASSAY_OK; i++) {
        char c = self.str.s[i], kind = i + 1 < self.str.n ? self.str.s[i + 1] : 0;
        if (c != '%') {
            assay_str_putc(&b, c);
            continue;
        }
        i++;
        if (kind == '%')
            assay_str_putc(&b, '%');
        else if (!kind || !strchr("srdi", kind))
            s = assay_jfail(r, ASSAY_EUNSUPPORTED, "'%%%c' in a format is not supported", kind ? kind : ' ');
        else if (next >= args->n)
            s = assay_jfail(r, ASSAY_EINPUT, "a format has too few arguments");
        else if (kind == 's')
            s = assay_jput_str(&b, r, args->v[next++]);
        else if (kind == 'r')
            s = assay_jput_repr(&b, r, args->v[next++]);
        else if (!assay_jis_number(args->v[next]))
            s = assay_jfail(r, ASSAY_EINPUT, "'%%%c' wants a number, not %s", kind,
                            assay_jtype(args->v[next]));
        else if (args->v[next].kind == ASSAY_J_FLOAT)
            assay_str_printf(&b, "%.0f", trunc(args->v[next++].f));
        else
            assay_str_printf(
                &b, "%lld",
                (long long)(args->v[next].kind == ASSAY_J_INT ? args->v[next].i : args->v[next].b)),
                next++;
    }
    if (s == ASSAY_OK && next < args->n) s = assay_jfail(r, ASSAY_EINPUT, "a format has too many arguments");
    if (s == ASSAY_OK) return assay_jstr_take(out, r, &b);
    assay_str_free(&b);
    return s;
}

/* ---- numbers ---- */

FILTER_OF(filter_abs) {
    (void)a, (void)args;
    if (!assay_jis_number(self))
        return assay_jfail(r, ASSAY_EINPUT, "abs wants a number, not %s", assay_jtype(self));
    if (self.kind == ASSAY_J_FLOAT)
        *out = assay_jfloat(fabs(self.f));
    else if (self.kind == ASSAY_J_INT && self.i < 0)
        return assay_jarithmetic(out, r, ASSAY_JOP_SUB, assay_jint(0), self);
    else
        *out = assay_jint(self.kind == ASSAY_J_INT ? self.i : self.b);
    return ASSAY_OK;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* A number's text without white space around and single underscores between digits; false when it is none, or too long.
 * hex: "0x" is for the caller to judge, else no number has it. */
static bool number_text(char buf[64], assay_jvalue v, bool hex) {
    size_t b = 0, e = v.str.n, len, k = 0;
    while (b < e && assay_char_is_space(assay_utf8_next(&len, v.str.s + b, e - b)))
        b += len;
    while (e > b && assay_char_is_space(assay_utf8_prev(&len, v.str.s, e)))
        e -= len;
    for (; b < e; b++) {
        char c = v.str.s[b];
        if (c == '_' && k && is_digit(v.str.s[b - 1]) && b + 1 < e && is_digit(v.str.s[b + 1])) continue;
        if (k == 63 || c == '\0' || c == ' ' || c == '\n' || c == '\t' || (!hex && strchr("xXpP", c))) return false;
        buf[k++] = c;
    }
    buf[k] = '\0';
    return k > 0;
}

static bool to_float(double *out, assay_jvalue v) {
    char buf[64], *end;
    if (v.kind == ASSAY_J_FLOAT)
        *out = v.f;
    else if (v.kind == ASSAY_J_INT)
        *out = (double)v.i;
    else if (v.kind == ASSAY_J_BOOL)
        *out = v.b;
    else if (v.kind == ASSAY_J_STRING && number_text(buf, v, false)) {
        *out = strtod(buf, &end);
        return *end == '\0' && end != buf;
    } else
        return false;
    return true;
}

FILTER_OF(filter_float) {
    double f;
    (void)args;
    if (self.kind == ASSAY_J_UNDEFINED) return undefined_error(r, self);
    *out = to_float(&f, self) ? assay_jfloat(f) : a[0].kind == ASSAY_J_MISSING ? assay_jfloat(0) : a[0];
    return ASSAY_OK;
}

FILTER_OF(filter_int) {
    char buf[64], *end;
    double f;
    int base = a[1].kind == ASSAY_J_INT ? (int)a[1].i : 10;
    (void)args;
    if (self.kind == ASSAY_J_UNDEFINED) return undefined_error(r, self);
    if (base < 2 || base > 36)
        return assay_jfail(r, ASSAY_EUNSUPPORTED, "int with base %d is not supported", base);
    *out = a[0].kind == ASSAY_J_MISSING ? assay_jint(0) : a[0];
    if (self.kind == ASSAY_J_INT)
        *out = self;
    else if (self.kind == ASSAY_J_BOOL)
        *out = assay_jint(self.b);
    else if (self.kind == ASSAY_J_STRING && number_text(buf, self, base > 10) && strlen(buf) < 19) {
        long long i = strtoll(buf, &end, base);
        if (*end == '\0') {
            *out = assay_jint(i);
            return ASSAY_OK;
        }
    }
    if (self.kind != ASSAY_J_INT && self.kind != ASSAY_J_BOOL && to_float(&f, self) && isfinite(f)) {
        if (fabs(f) >= 9.2e18) return assay_jfail(r, ASSAY_EINPUT, "an integer overflows");
        *out = assay_jint((int64_t)f);
    }
    return ASSAY_OK;
}

FILTER_OF(filter_round) {
    (void)args;
    int64_t precision = a[0].kind == ASSAY_J_INT ? a[0].i : 0;
    double f;
    if (!assay_jis_number(self) || !to_float(&f, self))
        return assay_jfail(r, ASSAY_EINPUT, "round wants a number, not %s", assay_jtype(self));
    if (precision < -300 || precision > 300)
        return assay_jfail(r, ASSAY_EINPUT, "round to %lld places is out of range", (long long)precision);
    char method = a[1].kind == ASSAY_J_STRING && a[1].str.n ? a[1].str.s[0] : 'c';
    bool ceiling = a[1].kind == ASSAY_J_STRING && a[1].str.n == 4 && memcmp(a[1].str.s, "ceil", 4) == 0;
    if (method == 'f' || ceiling) {
        double scale = pow(10, (double)precision);
        *out = assay_jfloat((ceiling ? ceil(f * scale) : floor(f * scale)) / scale);
        return ASSAY_OK;
    }
    if (self.kind != ASSAY_J_FLOAT && precision >= 0) {
        *out = self;
        return ASSAY_OK;
    }
    if (precision < 0) {
        double scale = pow(10, (double)-precision);
        f = nearbyint(f / scale) * scale;
        *out = self.kind == ASSAY_J_FLOAT ? assay_jfloat(f) : assay_jint((int64_t)f);
        return ASSAY_OK;
    }
    char buf[700]; /* correctly rounded, halves to even, as Python's round */
    snprintf(buf, sizeof buf, "%.*f", (int)precision, f);
    *out = assay_jfloat(strtod(buf, NULL));
    return ASSAY_OK;
}

/* ---- any value ---- */

FILTER_OF(filter_default) {
    (void)r, (void)args;
    bool missing = assay_jis_undefined(self) || (assay_jtruth(a[1]) && !assay_jtruth(self));
    *out = !missing ? self : a[0].kind == ASSAY_J_MISSING ? assay_jstr("", 0) : a[0];
    return ASSAY_OK;
}

FILTER_OF(filter_length) {
    int64_t n;
    (void)a, (void)args;
    ASSAY_TRY(assay_jlength(&n, r, self));
    *out = assay_jint(n);
    return ASSAY_OK;
}

/* ---- sequences ---- */

FILTER_OF(filter_list) {
    assay_jlist *l;
    (void)a, (void)args;
    ASSAY_TRY(assay_jiterate(&l, r, self));
    *out = assay_jlist_value(l);
    return ASSAY_OK;
}

FILTER_OF(filter_items) {
    (void)a;
    if (assay_jis_undefined(self)) return filter_list(out, r, self, a, args);
    if (self.kind != ASSAY_J_DICT)
        return assay_jfail(r, ASSAY_EINPUT, "items wants a mapping, not %s", assay_jtype(self));
    return assay_jcall_builtin(out, r, assay_jbuiltin_find(assay_jdict_methods, "items", 5), self, args);
}

static assay_status end_of(assay_jvalue *out, assay_jrun *r, assay_jvalue self, bool last) {
    assay_jlist *l;
    ASSAY_TRY(assay_jiterate(&l, r, self));
    if (l->n == 0) return assay_jundefined(out, r, "the sequence was empty");
    *out = l->v[last ? l->n - 1 : 0];
    return ASSAY_OK;
}
FILTER_OF(filter_first) {
    (void)a, (void)args;
    return end_of(out, r, self, false);
}
FILTER_OF(filter_last) {
    (void)a, (void)args;
    return end_of(out, r, self, true);
}

FILTER_OF(filter_reverse) {
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    assay_jlist *l;
    (void)a, (void)args;
    if (self.kind != ASSAY_J_STRING) {
        ASSAY_TRY(assay_jiterate(&l, r, self));
        self = assay_jlist_value(l);
    }
    return assay_jslice(out, r, self, missing, missing, assay_jint(-1));
}

FILTER_OF(filter_join) {
    assay_jlist *l;
    assay_jvalue d;
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    assay_str b = {0};
    (void)args;
    ASSAY_TRY(assay_jto_str(&d, r, a[0]));
    ASSAY_TRY(assay_jiterate(&l, r, self));
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < l->n && s == ASSAY_OK; i++) {
        assay_jvalue v;
        if (i) assay_str_putn(&b, d.str.s, d.str.n);
        s = by_path(&v, r, l->v[i], a[1], missing);
        if (s == ASSAY_OK) s = assay_jput_str(&b, r, v);
    }
    if (s == ASSAY_OK) return assay_jstr_take(out, r, &b);
    assay_str_free(&b);
    return s;
}

FILTER_OF(filter_sum) {
    assay_jlist *l;
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    assay_jvalue total = a[1].kind == ASSAY_J_MISSING ? assay_jint(0) : a[1], v;
    (void)args;
    ASSAY_TRY(assay_jiterate(&l, r, self));
    for (size_t i = 0; i < l->n; i++) {
        ASSAY_TRY(by_path(&v, r, l->v[i], a[0], missing));
        assay_jvalue before = total;
        ASSAY_TRY(assay_jarithmetic(&total, r, ASSAY_JOP_ADD, before, v));
    }
    *out = total;
    return ASSAY_OK;
}

static assay_status extreme(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,
                            int sign) {
    assay_jlist *l;
    assay_jvalue best = {.kind = ASSAY_J_MISSING}, key;
    ASSAY_TRY(assay_jiterate(&l, r, self));
    if (l->n == 0) return assay_jundefined(out, r, "the sequence was empty");
    for (size_t i = 0; i < l->n; i++) {
        int c = -sign;
        ASSAY_TRY(sort_key(&key, r, l->v[i], a[1], assay_jtruth(a[0])));
        if (i) ASSAY_TRY(assay_jcompare(&c, r, best, key));
        if (c != -sign) continue;
        best = key;
        *out = l->v[i];
    }
    return ASSAY_OK;
}
FILTER_OF(filter_max) {
    (void)args;
    return extreme(out, r, self, a, 1);
}
FILTER_OF(filter_min) {
    (void)args;
    return extreme(out, r, self, a, -1);
}

FILTER_OF(filter_unique) {
    assay_jlist *l, *seen, *kept;
    (void)args;
    ASSAY_TRY(assay_jiterate(&l, r, self));
    ASSAY_TRY(assay_jlist_new(&seen, r, 0));
    ASSAY_TRY(assay_jlist_new(&kept, r, 0));
    for (size_t i = 0; i < l->n; i++) {
        assay_jvalue key;
        bool known;
        ASSAY_TRY(sort_key(&key, r, l->v[i], a[1], assay_jtruth(a[0])));
        ASSAY_TRY(assay_jcontains(&known, r, assay_jlist_value(seen), key));
        if (known) continue;
        ASSAY_TRY(assay_jlist_put(seen, r, key));
        ASSAY_TRY(assay_jlist_put(kept, r, l->v[i]));
    }
    *out = assay_jlist_value(kept);
    return ASSAY_OK;
}

/* ---- sorting ---- */

/* Merges the sorted halves of items and keys; stable, and with `reverse` too. */
static assay_status merge(assay_jvalue *v, assay_jvalue *keys, assay_jvalue *tv, assay_jvalue *tk, size_t mid,
                          size_t n, bool reverse, assay_jrun *r) {
    size_t i = 0, j = mid, k = 0;
    while (i < mid && j < n) {
        int c;
        ASSAY_TRY(assay_jcompare(&c, r, keys[j], keys[i]));
        bool right = reverse ? c == 1 : c == -1;
        tv[k] = right ? v[j] : v[i];
        tk[k++] = right ? keys[j++] : keys[i++];
    }
    for (; i < mid; i++, k++)
        tv[k] = v[i], tk[k] = keys[i];
    for (; j < n; j++, k++)
        tv[k] = v[j], tk[k] = keys[j];
    memcpy(v, tv, n * sizeof *v);
    memcpy(keys, tk, n * sizeof *keys);
    return ASSAY_OK;
}

static assay_status sort_by_keys(assay_jlist *items, assay_jlist *keys, bool reverse, assay_jrun *r) {
    size_t n = items->n;
    assay_jvalue *t = assay_jalloc(r, n * 2, sizeof *t);
    if (!t) return assay_jnomem(r);
    for (size_t width = 1; width < n; width *= 2)
        for (size_t b = 0; b + width < n; b += 2 * width)
            ASSAY_TRY(
                merge(items->v + b, keys->v + b, t, t + n, width, ASSAY_MIN(2 * width, n - b), reverse, r));
    return ASSAY_OK;
}

static assay_status sorted(assay_jvalue *out, assay_jrun *r, assay_jlist *l, assay_jvalue path,
                           bool case_sensitive, bool reverse) {
    assay_jlist *items, *keys;
    ASSAY_TRY(assay_jlist_new(&items, r, l->n));
    ASSAY_TRY(assay_jlist_new(&keys, r, l->n));
    for (size_t i = 0; i < l->n; i++) {
        assay_jvalue key;
        ASSAY_TRY(sort_key(&key, r, l->v[i], path, case_sensitive));
        ASSAY_TRY(assay_jlist_put(items, r, l->v[i]));
        ASSAY_TRY(assay_jlist_put(keys, r, key));
    }
    ASSAY_TRY(sort_by_keys(items, keys, reverse, r));
    *out = assay_jlist_value(items);
    return ASSAY_OK;
}

FILTER_OF(filter_sort) {
    assay_jlist *l;
    (void)args;
    if (a[2].kind == ASSAY_J_STRING && memchr(a[2].str.s ? a[2].str.s : "", ',', a[2].str.n))
        return assay_jfail(r, ASSAY_EUNSUPPORTED, "sort by several attributes is not supported");
    ASSAY_TRY(assay_jiterate(&l, r, self));
    return sorted(out, r, l, a[2], assay_jtruth(a[1]), assay_jtruth(a[0]));
}

FILTER_OF(filter_dictsort) {
    (void)args;
    if (self.kind != ASSAY_J_DICT)
        return assay_jfail(r, ASSAY_EINPUT, "dictsort wants a mapping, not %s", assay_jtype(self));
    assay_jvalue pairs;
    const assay_jargs none = {0};
    bool by_value = a[1].kind == ASSAY_J_STRING && a[1].str.n == 5 && memcmp(a[1].str.s, "value", 5) == 0;
    ASSAY_TRY(
        assay_jcall_builtin(&pairs, r, assay_jbuiltin_find(assay_jdict_methods, "items", 5), self, &none));
    return sorted(out, r, pairs.list, assay_jint(by_value), assay_jtruth(a[0]), assay_jtruth(a[2]));
}

/* ---- map, select, reject ---- */

static const assay_jvar *named(const assay_jargs *args, const char *name) {
    for (size_t i = 0; i < args->n_named; i++)
        if (args->named[i].n == strlen(name) && memcmp(args->named[i].s, name, args->named[i].n) == 0)
            return &args->named[i];
    return NULL;
}

/* The filter or test that args->v[at] names. */
static assay_status callee(const assay_jbuiltin **out, assay_jrun *r, const assay_jbuiltin *table,
                           const assay_jargs *args, size_t at) {
    assay_jvalue name = args->v[at];
    *out = name.kind == ASSAY_J_STRING ? assay_jbuiltin_find(table, name.str.s, name.str.n) : NULL;
    if (*out && (*out)->fn) return ASSAY_OK;
    return assay_jfail(r, ASSAY_EUNSUPPORTED, "'%.*s' is not a supported filter or test",
                       name.kind == ASSAY_J_STRING ? (int)ASSAY_MIN(name.str.n, (size_t)60) : 1,
                       name.kind == ASSAY_J_STRING ? name.str.s : "?");
}

FILTER_OF(filter_map) {
    assay_jlist *l, *mapped;
    assay_jvalue v;
    const assay_jbuiltin *f = NULL;
    const assay_jvar *attribute = args->n ? NULL : named(args, "attribute"),
                     *standard = named(args, "default");
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    assay_jargs rest = *args;
    (void)a;
    if (!attribute && args->n == 0) return assay_jfail(r, ASSAY_EINPUT, "map wants a filter or an attribute");
    if (!attribute) {
        ASSAY_TRY(callee(&f, r, assay_jfilters, args, 0));
        rest.v++;
        rest.n--;
    }
    ASSAY_TRY(assay_jiterate(&l, r, self));
    ASSAY_TRY(assay_jlist_new(&mapped, r, l->n));
    ASSAY_TRY(assay_jenter(r));
    for (size_t i = 0; i < l->n; i++) {
        if (f)
            ASSAY_TRY(assay_jcall_builtin(&v, r, f, l->v[i], &rest));
        else
            ASSAY_TRY(by_path(&v, r, l->v[i], attribute->value, standard ? standard->value : missing));
        ASSAY_TRY(assay_jlist_put(mapped, r, v));
    }
    assay_jleave(r);
    *out = assay_jlist_value(mapped);
    return ASSAY_OK;
}

static assay_status choose(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jargs *args,
                           bool attribute, bool wanted) {
    assay_jlist *l, *kept;
    const assay_jbuiltin *test = NULL;
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    size_t at = attribute ? 1 : 0;
    assay_jargs rest = *args;
    if (args->n < at) return assay_jfail(r, ASSAY_EINPUT, "selectattr wants the name of an attribute");
    if (args->n > at) {
        ASSAY_TRY(callee(&test, r, assay_jtests, args, at));
        rest.v += at + 1;
        rest.n -= at + 1;
    }
    ASSAY_TRY(assay_jlist_new(&kept, r, 0));
    *out = assay_jlist_value(kept);
    if (!assay_jtruth(self)) return ASSAY_OK;
    ASSAY_TRY(assay_jiterate(&l, r, self));
    for (size_t i = 0; i < l->n; i++) {
        assay_jvalue v, yes;
        ASSAY_TRY(by_path(&v, r, l->v[i], attribute ? args->v[0] : missing, missing));
        yes = v;
        if (test) ASSAY_TRY(assay_jcall_builtin(&yes, r, test, v, &rest));
        if (assay_jtruth(yes) == wanted) ASSAY_TRY(assay_jlist_put(kept, r, l->v[i]));
    }
    return ASSAY_OK;
}
#define CHOICE(name, attribute, wanted)                                                                      \
    FILTER_OF(name) {                                                                                        \
        (void)a;                                                                                             \
        return choose(out, r, self, args, attribute, wanted);                                                \
    }
CHOICE(filter_select, false, true)
CHOICE(filter_reject, false, false)
CHOICE(filter_selectattr, true, true)
CHOICE(filter_rejectattr, true, false)

FILTER_OF(filter_tojson) {
    (void)args;
    return assay_jtojson(out, r, self, a[0], a[1], a[2], a[3]);
}

#define FILTER(name, fn, params, required) {name, fn, params, required},
#define TEST(name, fn, params, required)
#define FUNCTION(name, fn, params, required)
#define STRING_METHOD(name, fn, params, required)
#define DICT_METHOD(name, fn, params, required)
#define LIST_METHOD(name, fn, params, required)
#define LOOP(name, fn, params, required)
const assay_jbuiltin assay_jfilters[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
