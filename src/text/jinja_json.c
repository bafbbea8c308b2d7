/* jinja_json.c: tojson as transformers defines it, which is Python's json.dumps: this text is part of
 * prompts, so it has to agree to the byte (base/json.h writes other separators and other numbers). */
#include <math.h>
#include <string.h>
#include "text/jinja_filter.h"
#include "text/unicode.h"

typedef struct writer {
    assay_str b;
    assay_jrun *r;
    bool ascii, sort, pretty;
    const char *indent, *item, *key; /* one level; between items; between key and value */
    size_t n_indent, n_item, n_key;
} writer;

static void put_string(writer *w, const char *s, size_t n) {
    assay_str *b = &w->b;
    assay_str_putc(b, '"');
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp = assay_utf8_next(&len, s + i, n - i);
        if (cp == '"' || cp == '\\')
            assay_str_printf(b, "\\%c", (char)cp);
        else if (cp == '\n')
            assay_str_put(b, "\\n");
        else if (cp == '\r')
            assay_str_put(b, "\\r");
        else if (cp == '\t')
            assay_str_put(b, "\\t");
        else if (cp == '\f')
            assay_str_put(b, "\\f");
        else if (cp == '\b')
            assay_str_put(b, "\\b");
        else if (cp < 0x20 || (w->ascii && cp > 0x7E && cp < 0x10000))
            assay_str_printf(b, "\\u%04x", (unsigned)cp);
        else if (w->ascii && cp >= 0x10000)
            assay_str_printf(b, "\\u%04x\\u%04x", 0xD800u + (((unsigned)cp - 0x10000u) >> 10),
                             0xDC00u + ((unsigned)cp & 0x3FFu));
        else
            assay_str_putn(b, s + i, len);
    }
    assay_str_putc(b, '"');
}

static void put_scalar(assay_str *b, assay_jvalue v) {
    if (v.kind == ASSAY_J_NONE)
        assay_str_put(b, "null");
    else if (v.kind == ASSAY_J_BOOL)
        assay_str_put(b, v.b ? "true" : "false");
    else if (v.kind == ASSAY_J_INT)
        assay_str_printf(b, "%lld", (long long)v.i);
    else if (isnan(v.f))
        assay_str_put(b, "NaN");
    else if (isinf(v.f))
        assay_str_put(b, v.f < 0 ? "-Infinity" : "Infinity");
    else
        assay_jput_float(b, v.f);
}

static void newline(writer *w, size_t level) {
    if (!w->pretty) return;
    assay_str_putc(&w->b, '\n');
    for (size_t i = 0; i < level; i++)
        assay_str_putn(&w->b, w->indent, w->n_indent);
}

static assay_status put(writer *w, assay_jvalue v, size_t level);

static assay_status put_list(writer *w, const assay_jlist *l, size_t level) {
    assay_str_putc(&w->b, '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i) assay_str_putn(&w->b, w->item, w->n_item);
        newline(w, level + 1);
        ASSAY_TRY(put(w, l->v[i], level + 1));
    }
    if (l->n) newline(w, level);
    assay_str_putc(&w->b, ']');
    return ASSAY_OK;
}

static assay_status put_key(writer *w, assay_jvalue k) {
    if (k.kind == ASSAY_J_STRING) {
        put_string(w, k.str.s, k.str.n);
        return ASSAY_OK;
    }
    if (k.kind != ASSAY_J_NONE && !assay_jis_number(k))
        return assay_jfail(w->r, ASSAY_EINPUT, "tojson: a %s cannot be a key", assay_jtype(k));
    assay_str_putc(&w->b, '"');
    put_scalar(&w->b, k);
    assay_str_putc(&w->b, '"');
    return ASSAY_OK;
}

static assay_status put_dict(writer *w, const assay_jdict *d, size_t level) {
    assay_jvalue self = assay_jdict_value((assay_jdict *)(uintptr_t)d), pairs;
    if (w->sort) {
        assay_jvalue yes = assay_jbool(true);
        const assay_jargs args = {.v = &yes, .n = 1}; /* case counts */
        ASSAY_TRY(assay_jcall_builtin(&pairs, w->r, assay_jbuiltin_find(assay_jfilters, "dictsort", 8), self,
                                      &args));
    }
    assay_str_putc(&w->b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) assay_str_putn(&w->b, w->item, w->n_item);
        newline(w, level + 1);
        ASSAY_TRY(put_key(w, w->sort ? pairs.list->v[i].list->v[0] : d->keys[i]));
        assay_str_putn(&w->b, w->key, w->n_key);
        ASSAY_TRY(put(w, w->sort ? pairs.list->v[i].list->v[1] : d->values[i], level + 1));
    }
    if (d->n) newline(w, level);
    assay_str_putc(&w->b, '}');
    return ASSAY_OK;
}

static assay_status put(writer *w, assay_jvalue v, size_t level) {
    if (w->b.len > ASSAY_J_MAX_OUTPUT)
        return assay_jfail(w->r, ASSAY_EINPUT, "a text grows over %u MiB", ASSAY_J_MAX_OUTPUT >> 20);
    ASSAY_TRY(assay_jenter(w->r));
    if (v.kind == ASSAY_J_STRING)
        put_string(w, v.str.s, v.str.n);
    else if (v.kind == ASSAY_J_NONE || assay_jis_number(v))
        put_scalar(&w->b, v);
    else if (assay_jis_list(v))
        ASSAY_TRY(put_list(w, v.list, level));
    else if (v.kind == ASSAY_J_DICT)
        ASSAY_TRY(put_dict(w, v.dict, level));
    else
        return assay_jfail(w->r, ASSAY_EINPUT, "tojson cannot write a value of type %s", assay_jtype(v));
    assay_jleave(w->r);
    return ASSAY_OK;
}

static assay_status set_options(writer *w, assay_jvalue indent, assay_jvalue separators) {
    w->pretty = indent.kind != ASSAY_J_MISSING && indent.kind != ASSAY_J_NONE;
    w->item = w->pretty ? "," : ", ";
    w->key = ": ";
    if (indent.kind == ASSAY_J_STRING) {
        w->indent = indent.str.s;
        w->n_indent = indent.str.n;
    } else if (w->pretty) {
        static const char blanks[] = "                                "; /* 32 */
        int64_t n = indent.kind == ASSAY_J_INT ? indent.i : indent.kind == ASSAY_J_BOOL ? indent.b : -1;
        if (n > 32 || (indent.kind != ASSAY_J_INT && indent.kind != ASSAY_J_BOOL))
            return assay_jfail(w->r, ASSAY_EINPUT, "tojson: indent must be a small number");
        w->indent = blanks;
        w->n_indent = n > 0 ? (size_t)n : 0;
    }
    w->n_item = strlen(w->item);
    w->n_key = 2;
    if (separators.kind == ASSAY_J_MISSING || separators.kind == ASSAY_J_NONE) return ASSAY_OK;
    if (!assay_jis_list(separators) || separators.list->n != 2 ||
        separators.list->v[0].kind != ASSAY_J_STRING || separators.list->v[1].kind != ASSAY_J_STRING)
        return assay_jfail(w->r, ASSAY_EINPUT, "tojson: separators must be two strings");
    w->item = separators.list->v[0].str.s;
    w->n_item = separators.list->v[0].str.n;
    w->key = separators.list->v[1].str.s;
    w->n_key = separators.list->v[1].str.n;
    return ASSAY_OK;
}

assay_status assay_jtojson(assay_jvalue *out, assay_jrun *r, assay_jvalue v, assay_jvalue ensure_ascii,
                           assay_jvalue indent, assay_jvalue separators, assay_jvalue sort_keys) {
    writer w = {.r = r, .ascii = assay_jtruth(ensure_ascii), .sort = assay_jtruth(sort_keys)};
    ASSAY_TRY(set_options(&w, indent, separators));
    assay_status s = put(&w, v, 0);
    if (s == ASSAY_OK) return assay_jstr_take(out, r, &w.b);
    assay_str_free(&w.b);
    return s;
}
