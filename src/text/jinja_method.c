/* jinja_method.c: the methods of Python's str that templates use. Positions are code points; searching is by
 * bytes, which is the same thing for valid UTF-8. Case follows unicode.c (no final sigma). */
#include <string.h>
#include "text/jinja.h"
#include "text/unicode.h"

#define METHOD(name)                                                                                         \
    static assay_status name(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,     \
                             const assay_jargs *args)

static assay_status want_string(assay_jrun *r, assay_jvalue v, const char *what) {
    return v.kind == ASSAY_J_STRING
               ? ASSAY_OK
               : assay_jfail(r, ASSAY_EINPUT, "%s wants a string, not %s", what, assay_jtype(v));
}
/* An optional integer. */
static assay_status integer(int64_t *out, assay_jrun *r, assay_jvalue v, int64_t standard, const char *what) {
    *out = standard;
    if (v.kind == ASSAY_J_MISSING || v.kind == ASSAY_J_NONE) return ASSAY_OK;
    if (v.kind != ASSAY_J_INT && v.kind != ASSAY_J_BOOL)
        return assay_jfail(r, ASSAY_EINPUT, "%s wants an integer, not %s", what, assay_jtype(v));
    *out = v.kind == ASSAY_J_INT ? v.i : v.b;
    return ASSAY_OK;
}
static const char *find_bytes(const char *s, size_t n, const char *sub, size_t n_sub) {
    return n_sub == 0 ? s : n_sub > n ? NULL : memmem(s, n, sub, n_sub);
}

/* ---- stripping ---- */

static bool strips(int32_t cp, assay_jvalue chars) {
    if (chars.kind != ASSAY_J_STRING) return assay_char_is_space(cp) || (cp >= 0x1C && cp <= 0x1F);
    for (size_t i = 0, len; i < chars.str.n; i += len)
        if (assay_utf8_next(&len, chars.str.s + i, chars.str.n - i) == cp) return true;
    return false;
}

static assay_status strip(assay_jvalue *out, assay_jrun *r, assay_jvalue self, assay_jvalue chars, bool left,
                          bool right) {
    if (chars.kind != ASSAY_J_MISSING && chars.kind != ASSAY_J_NONE)
        ASSAY_TRY(want_string(r, chars, "strip"));
    size_t b = 0, e = self.str.n, len;
    while (left && b < e && strips(assay_utf8_next(&len, self.str.s + b, e - b), chars))
        b += len;
    while (right && e > b && strips(assay_utf8_prev(&len, self.str.s, e), chars))
        e -= len;
    *out = assay_jstr(self.str.s ? self.str.s + b : "", e - b);
    return assay_jstep(r, self.str.n);
}
METHOD(method_strip) {
    (void)args;
    return strip(out, r, self, a[0], true, true);
}
METHOD(method_lstrip) {
    (void)args;
    return strip(out, r, self, a[0], true, false);
}
METHOD(method_rstrip) {
    (void)args;
    return strip(out, r, self, a[0], false, true);
}

static bool has_prefix(assay_jvalue s, assay_jvalue p) {
    return s.str.n >= p.str.n && (!p.str.n || memcmp(s.str.s, p.str.s, p.str.n) == 0);
}
static bool has_suffix(assay_jvalue s, assay_jvalue p) {
    return s.str.n >= p.str.n && (!p.str.n || memcmp(s.str.s + s.str.n - p.str.n, p.str.s, p.str.n) == 0);
}
METHOD(method_removeprefix) {
    (void)args;
    ASSAY_TRY(want_string(r, a[0], "removeprefix"));
    *out = has_prefix(self, a[0]) ? assay_jstr(self.str.s + a[0].str.n, self.str.n - a[0].str.n) : self;
    return ASSAY_OK;
}
METHOD(method_removesuffix) {
    (void)args;
    ASSAY_TRY(want_string(r, a[0], "removesuffix"));
    *out = has_suffix(self, a[0]) ? assay_jstr(self.str.s, self.str.n - a[0].str.n) : self;
    return ASSAY_OK;
}

/* A string or a tuple of them. */
static assay_status any_affix(assay_jvalue *out, assay_jrun *r, assay_jvalue self, assay_jvalue affix,
                              bool (*has)(assay_jvalue, assay_jvalue)) {
    bool yes = false;
    if (affix.kind == ASSAY_J_TUPLE) {
        for (size_t i = 0; i < affix.list->n && !yes; i++) {
            ASSAY_TRY(want_string(r, affix.list->v[i], "startswith"));
            yes = has(self, affix.list->v[i]);
        }
    } else {
        ASSAY_TRY(want_string(r, affix, "startswith or endswith"));
        yes = has(self, affix);
    }
    *out = assay_jbool(yes);
    return ASSAY_OK;
}
METHOD(method_startswith) {
    (void)args;
    return any_affix(out, r, self, a[0], has_prefix);
}
METHOD(method_endswith) {
    (void)args;
    return any_affix(out, r, self, a[0], has_suffix);
}

/* ---- splitting and joining ---- */

/* At white space, runs count once and edges not at all. From the right when `right`. */
static assay_status split_space(assay_jlist *l, assay_jrun *r, const char *s, size_t n, int64_t most,
                                bool right) {
    const assay_jvalue space = {.kind = ASSAY_J_MISSING};
    size_t len, b = 0, e = n;
    for (;; most--) {
        while (b < e && strips(assay_utf8_next(&len, s + b, e - b), space))
            b += len;
        while (e > b && (right || most == 0) && strips(assay_utf8_prev(&len, s, e), space))
            e -= len;
        if (b == e) return ASSAY_OK;
        if (most == 0) {
            /* the rest, with only the edge that was walked stripped */
            size_t end = right ? e : n, begin = right ? 0 : b;
            return assay_jlist_put(l, r, assay_jstr(s + begin, end - begin));
        }
        size_t i = right ? e : b;
        if (right) {
            while (i > b && !strips(assay_utf8_prev(&len, s, i), space))
                i -= len;
            ASSAY_TRY(assay_jlist_put(l, r, assay_jstr(s + i, e - i)));
            e = i;
        } else {
            while (i < e && !strips(assay_utf8_next(&len, s + i, e - i), space))
                i += len;
            ASSAY_TRY(assay_jlist_put(l, r, assay_jstr(s + b, i - b)));
            b = i;
        }
    }
}

static const char *find_last(const char *s, size_t n, const char *sub, size_t n_sub) {
    for (size_t i = n >= n_sub ? n - n_sub + 1 : 0; i-- > 0;)
        if (memcmp(s + i, sub, n_sub) == 0) return s + i;
    return NULL;
}

static assay_status split_at(assay_jlist *l, assay_jrun *r, const char *s, size_t n, assay_jvalue sep,
                             int64_t most, bool right) {
    size_t m = sep.str.n;
    for (; most != 0; most--) {
        const char *hit = right ? find_last(s, n, sep.str.s, m) : find_bytes(s, n, sep.str.s, m);
        if (!hit) break;
        size_t at = (size_t)(hit - s);
        if (right) {
            ASSAY_TRY(assay_jlist_put(l, r, assay_jstr(hit + m, n - at - m)));
            n = at;
        } else {
            ASSAY_TRY(assay_jlist_put(l, r, assay_jstr(s, at)));
            s = hit + m;
            n -= at + m;
        }
    }
    return assay_jlist_put(l, r, assay_jstr(s, n));
}

static assay_status split(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,
                          bool right) {
    int64_t most;
    assay_jlist *l;
    const char *s = self.str.s ? self.str.s : "";
    ASSAY_TRY(integer(&most, r, a[1], -1, "maxsplit"));
    ASSAY_TRY(assay_jlist_new(&l, r, 0));
    if (a[0].kind == ASSAY_J_MISSING || a[0].kind == ASSAY_J_NONE) {
        ASSAY_TRY(split_space(l, r, s, self.str.n, most, right));
    } else {
        ASSAY_TRY(want_string(r, a[0], "split"));
        if (a[0].str.n == 0) return assay_jfail(r, ASSAY_EINPUT, "split wants a separator that is not empty");
        ASSAY_TRY(split_at(l, r, s, self.str.n, a[0], most, right));
    }
    for (size_t i = 0; right && i + 1 < l->n - i; i++) {
        assay_jvalue t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
    *out = assay_jlist_value(l);
    return assay_jstep(r, self.str.n);
}
METHOD(method_split) {
    (void)args;
    return split(out, r, self, a, false);
}
METHOD(method_rsplit) {
    (void)args;
    return split(out, r, self, a, true);
}

static bool ends_line(int32_t cp) {
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}
METHOD(method_splitlines) {
    (void)args;
    bool keep = assay_jtruth(a[0]);
    assay_jlist *l;
    ASSAY_TRY(assay_jlist_new(&l, r, 0));
    const char *s = self.str.s;
    size_t n = self.str.n, begin = 0;
    for (size_t i = 0, len; i < n;) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        size_t end = i;
        i += len;
        if (!ends_line(cp)) {
            if (i == n) ASSAY_TRY(assay_jlist_put(l, r, assay_jstr(s + begin, n - begin)));
            continue;
        }
        if (cp == '\r' && i < n && s[i] == '\n') i++;
        ASSAY_TRY(assay_jlist_put(l, r, assay_jstr(s + begin, (keep ? i : end) - begin)));
        begin = i;
    }
    *out = assay_jlist_value(l);
    return ASSAY_OK;
}

static assay_status partition(assay_jvalue *out, assay_jrun *r, assay_jvalue self, assay_jvalue sep,
                              bool right) {
    ASSAY_TRY(want_string(r, sep, "partition"));
    if (sep.str.n == 0) return assay_jfail(r, ASSAY_EINPUT, "partition wants a separator that is not empty");
    const char *s = self.str.s ? self.str.s : "";
    const char *hit = right ? find_last(s, self.str.n, sep.str.s, sep.str.n)
                            : find_bytes(s, self.str.n, sep.str.s, sep.str.n);
    size_t at = hit ? (size_t)(hit - s) : 0;
    assay_jvalue empty = assay_jstr("", 0), part[3] = {right ? empty : self, empty, right ? self : empty};
    if (hit) {
        part[0] = assay_jstr(s, at);
        part[1] = sep;
        part[2] = assay_jstr(hit + sep.str.n, self.str.n - at - sep.str.n);
    }
    assay_jlist *l;
    ASSAY_TRY(assay_jlist_new(&l, r, 3));
    for (int i = 0; i < 3; i++)
        ASSAY_TRY(assay_jlist_put(l, r, part[i]));
    *out = assay_jtuple_value(l);
    return assay_jstep(r, self.str.n);
}
METHOD(method_partition) {
    (void)args;
    return partition(out, r, self, a[0], false);
}
METHOD(method_rpartition) {
    (void)args;
    return partition(out, r, self, a[0], true);
}

METHOD(method_join) {
    assay_jlist *l;
    assay_str b = {0};
    (void)args;
    ASSAY_TRY(assay_jiterate(&l, r, a[0]));
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].kind != ASSAY_J_STRING) {
            assay_str_free(&b);
            return want_string(r, l->v[i], "join");
        }
        if (i) assay_str_putn(&b, self.str.s, self.str.n);
        assay_str_putn(&b, l->v[i].str.s, l->v[i].str.n);
        if (b.len > ASSAY_J_MAX_OUTPUT) break;
    }
    return assay_jstr_take(out, r, &b);
}

/* ---- searching and replacing ---- */

/* The part of self that start and end leave, as code points from the beginning. */
static assay_status window(assay_jvalue *out, int64_t *offset, assay_jrun *r, assay_jvalue self,
                           assay_jvalue start, assay_jvalue end) {
    const assay_jvalue missing = {.kind = ASSAY_J_MISSING};
    int64_t n;
    ASSAY_TRY(integer(offset, r, start, 0, "start"));
    ASSAY_TRY(assay_jlength(&n, r, self));
    if (*offset < 0) *offset = *offset < -n ? 0 : *offset + n;
    if (*offset > n) {
        *offset = -1;
        return ASSAY_OK;
    }
    return assay_jslice(out, r, self, start, end, missing);
}

static assay_status find(int64_t *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a, bool right) {
    assay_jvalue w;
    int64_t offset;
    ASSAY_TRY(want_string(r, a[0], "find"));
    ASSAY_TRY(window(&w, &offset, r, self, a[1], a[2]));
    *out = -1;
    if (offset < 0) return ASSAY_OK;
    const char *s = w.str.s ? w.str.s : "";
    const char *hit = right ? find_last(s, w.str.n, a[0].str.s, a[0].str.n)
                            : find_bytes(s, w.str.n, a[0].str.s, a[0].str.n);
    if (hit) *out = offset + (int64_t)assay_utf8_count(s, (size_t)(hit - s));
    return assay_jstep(r, w.str.n);
}
METHOD(method_find) {
    int64_t at;
    (void)args;
    ASSAY_TRY(find(&at, r, self, a, false));
    *out = assay_jint(at);
    return ASSAY_OK;
}
METHOD(method_rfind) {
    int64_t at;
    (void)args;
    ASSAY_TRY(find(&at, r, self, a, true));
    *out = assay_jint(at);
    return ASSAY_OK;
}
METHOD(method_index) {
    ASSAY_TRY(method_find(out, r, self, a, args));
    return out->i < 0 ? assay_jfail(r, ASSAY_EINPUT, "index: the substring is not there") : ASSAY_OK;
}
METHOD(method_count) {
    int64_t n = 0;
    (void)args;
    ASSAY_TRY(want_string(r, a[0], "count"));
    if (a[0].str.n == 0) {
        ASSAY_TRY(assay_jlength(&n, r, self));
        *out = assay_jint(n + 1);
        return ASSAY_OK;
    }
    const char *s = self.str.s, *end = s + self.str.n, *hit;
    while (s && s < end && (hit = find_bytes(s, (size_t)(end - s), a[0].str.s, a[0].str.n))) {
        n++;
        s = hit + a[0].str.n;
    }
    *out = assay_jint(n);
    return assay_jstep(r, self.str.n);
}

METHOD(method_replace) {
    int64_t most;
    assay_str b = {0};
    (void)args;
    ASSAY_TRY(want_string(r, a[0], "replace"));
    ASSAY_TRY(want_string(r, a[1], "replace"));
    ASSAY_TRY(integer(&most, r, a[2], -1, "replace"));
    const char *s = self.str.s ? self.str.s : "", *end = s + self.str.n;
    bool empty = a[0].str.n == 0;
    while (most != 0 && b.len <= ASSAY_J_MAX_OUTPUT) {
        const char *hit = find_bytes(s, (size_t)(end - s), a[0].str.s, a[0].str.n);
        if (!hit) break;
        assay_str_putn(&b, s, (size_t)(hit - s));
        assay_str_putn(&b, a[1].str.s, a[1].str.n);
        most--;
        s = hit + a[0].str.n;
        if (!empty) continue;
        if (s == end) break; /* between all characters and at both ends */
        size_t len;
        assay_utf8_next(&len, s, (size_t)(end - s));
        assay_str_putn(&b, s, len);
        s += len;
    }
    assay_str_putn(&b, s, (size_t)(end - s));
    return assay_jstr_take(out, r, &b);
}

/* ---- case and padding ---- */

METHOD(method_upper) {
    assay_str b = {0};
    (void)a, (void)args;
    assay_text_put_upper(&b, self.str.s, self.str.n);
    return assay_jstr_take(out, r, &b);
}
METHOD(method_lower) {
    assay_str b = {0};
    (void)a, (void)args;
    assay_text_put_lower(&b, self.str.s, self.str.n);
    return assay_jstr_take(out, r, &b);
}
METHOD(method_capitalize) {
    assay_str b = {0};
    (void)a, (void)args;
    for (size_t i = 0, len; i < self.str.n; i += len) {
        int32_t cp = assay_utf8_next(&len, self.str.s + i, self.str.n - i);
        if (i == 0)
            assay_char_put_title(&b, cp);
        else
            assay_char_put_lower(&b, cp);
    }
    return assay_jstr_take(out, r, &b);
}
METHOD(method_title) { /* a letter after something without case begins a word */
    assay_str b = {0};
    bool inside = false;
    (void)a, (void)args;
    for (size_t i = 0, len; i < self.str.n; i += len) {
        int32_t cp = assay_utf8_next(&len, self.str.s + i, self.str.n - i);
        if (inside)
            assay_char_put_lower(&b, cp);
        else
            assay_char_put_title(&b, cp);
        inside = assay_char_is_upper(cp) || assay_char_is_lower(cp);
    }
    return assay_jstr_take(out, r, &b);
}

static assay_status pad(assay_jvalue *out, assay_jrun *r, assay_jvalue self, assay_jvalue width, char with,
                        bool left) {
    int64_t want, n;
    assay_str b = {0};
    ASSAY_TRY(integer(&want, r, width, 0, "width"));
    ASSAY_TRY(assay_jlength(&n, r, self));
    if (want > (int64_t)ASSAY_J_MAX_OUTPUT)
        return assay_jfail(r, ASSAY_EINPUT, "a width of %lld is too large", (long long)want);
    bool sign = with == '0' && self.str.n && (self.str.s[0] == '-' || self.str.s[0] == '+');
    if (sign) assay_str_putc(&b, self.str.s[0]);
    if (left && want > n) assay_str_fill(&b, with, (size_t)(want - n));
    assay_str_putn(&b, self.str.s + sign, self.str.n - sign);
    if (!left && want > n) assay_str_fill(&b, with, (size_t)(want - n));
    return assay_jstr_take(out, r, &b);
}
METHOD(method_ljust) {
    (void)args;
    return pad(out, r, self, a[0], ' ', false);
}
METHOD(method_rjust) {
    (void)args;
    return pad(out, r, self, a[0], ' ', true);
}
METHOD(method_zfill) {
    (void)args;
    return pad(out, r, self, a[0], '0', true);
}

/* ---- questions ---- */

static bool is_alnum(int32_t cp) {
    return assay_char_is_alpha(cp) || assay_char_is_numeric(cp);
}
static bool is_digit(int32_t cp) {
    return cp < 0x80 ? cp >= '0' && cp <= '9' : assay_char_is_numeric(cp);
}
static bool is_space(int32_t cp) {
    return assay_char_is_space(cp) || (cp >= 0x1C && cp <= 0x1F);
}

static assay_status all_are(assay_jvalue *out, assay_jrun *r, assay_jvalue self, bool (*is)(int32_t)) {
    bool yes = self.str.n > 0;
    for (size_t i = 0, len; yes && i < self.str.n; i += len)
        yes = is(assay_utf8_next(&len, self.str.s + i, self.str.n - i));
    *out = assay_jbool(yes);
    return assay_jstep(r, self.str.n);
}
/* Some character has this case and none the other. */
static assay_status cased(assay_jvalue *out, assay_jrun *r, assay_jvalue self, bool (*is)(int32_t),
                          bool (*other)(int32_t)) {
    bool some = false, wrong = false;
    for (size_t i = 0, len; !wrong && i < self.str.n; i += len) {
        int32_t cp = assay_utf8_next(&len, self.str.s + i, self.str.n - i);
        some |= is(cp);
        wrong = other(cp);
    }
    *out = assay_jbool(some && !wrong);
    return assay_jstep(r, self.str.n);
}
#define QUESTION(name, call)                                                                                 \
    METHOD(name) {                                                                                           \
        (void)a, (void)args;                                                                                 \
        return call;                                                                                         \
    }
QUESTION(method_isalnum, all_are(out, r, self, is_alnum))
QUESTION(method_isalpha, all_are(out, r, self, assay_char_is_alpha))
QUESTION(method_isdigit, all_are(out, r, self, is_digit))
QUESTION(method_isnumeric, all_are(out, r, self, assay_char_is_numeric))
QUESTION(method_isspace, all_are(out, r, self, is_space))
QUESTION(method_isupper, cased(out, r, self, assay_char_is_upper, assay_char_is_lower))
QUESTION(method_islower, cased(out, r, self, assay_char_is_lower, assay_char_is_upper))

/* ---- format: "{}", "{0}", "{name}", "{name.attribute}", "{{" ---- */

/* The value that a replacement field [s, s+n) names. */
static assay_status field_value(assay_jvalue *out, assay_jrun *r, const char *s, size_t n, size_t *next,
                                const assay_jargs *args) {
    size_t len = 0;
    int64_t index = 0;
    bool digits = true;
    for (; len < n && s[len] != '.' && s[len] != '['; len++) {
        digits &= s[len] >= '0' && s[len] <= '9' && len < 6;
        index = digits ? index * 10 + (s[len] - '0') : 0;
    }
    if (len == 0) index = (int64_t)(*next)++;
    if (len == 0 || digits) {
        if (index >= (int64_t)args->n)
            return assay_jfail(r, ASSAY_EINPUT, "format has no argument %lld", (long long)index);
        *out = args->v[index];
    } else {
        size_t k = 0;
        while (k < args->n_named && (args->named[k].n != len || memcmp(args->named[k].s, s, len) != 0))
            k++;
        if (k == args->n_named)
            return assay_jfail(r, ASSAY_EINPUT, "format has no argument '%.*s'",
                               (int)ASSAY_MIN(len, (size_t)60), s);
        *out = args->named[k].value;
    }
    while (len < n && s[len] == '.') {
        size_t begin = ++len;
        while (len < n && s[len] != '.' && s[len] != '[')
            len++;
        ASSAY_TRY(assay_jattribute(out, r, *out, s + begin, len - begin));
    }
    return len == n ? ASSAY_OK : assay_jfail(r, ASSAY_EUNSUPPORTED, "this format field is not supported");
}

METHOD(method_format) {
    assay_str b = {0};
    assay_status st = ASSAY_OK;
    size_t next = 0, n = self.str.n;
    const char *s = self.str.s;
    (void)a;
    for (size_t i = 0; i < n && st == ASSAY_OK; i++) {
        bool twice = i + 1 < n && s[i + 1] == s[i];
        if ((s[i] != '{' && s[i] != '}') || twice) {
            assay_str_putc(&b, s[i]);
            i += twice && (s[i] == '{' || s[i] == '}');
            continue;
        }
        const char *close = s[i] == '{' ? memchr(s + i, '}', n - i) : NULL;
        if (!close) {
            st = assay_jfail(r, ASSAY_EINPUT, "format has a single brace");
            break;
        }
        const char *field = s + i + 1;
        size_t len = (size_t)(close - field);
        assay_jvalue v;
        if (memchr(field, ':', len) || memchr(field, '!', len))
            st = assay_jfail(r, ASSAY_EUNSUPPORTED, "format specifications are not supported");
        else
            st = field_value(&v, r, field, len, &next, args);
        if (st == ASSAY_OK) st = assay_jput_str(&b, r, v);
        i += len + 1;
    }
    if (st == ASSAY_OK) return assay_jstr_take(out, r, &b);
    assay_str_free(&b);
    return st;
}

#define FILTER(name, fn, params, required)
#define TEST(name, fn, params, required)
#define FUNCTION(name, fn, params, required)
#define STRING_METHOD(name, fn, params, required) {name, fn, params, required},
#define DICT_METHOD(name, fn, params, required)
#define LIST_METHOD(name, fn, params, required)
#define LOOP(name, fn, params, required)
const assay_jbuiltin assay_jstring_methods[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
