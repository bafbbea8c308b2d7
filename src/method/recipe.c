/* recipe.c: reading, completing and applying recipes.
 *
 * A mapping is read into a draft: the options that were given, and which those are. An override's draft is
 * laid over the model's (unless it names another method), and only then completed by its method, so that a
 * default may depend on what was given: "precision: int4" over an int8 recipe without a group size gets
 * int4's. The one-line form is turned into YAML and read by the same code. */
#include "method/recipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "method/methods.h"
#include "method/pipeline.h"
#include "text/regex.h"

typedef struct draft {
    unsigned set; /* ASSAY_OPT_* */
    assay_choice c;
} draft;

/* A pattern and what is done with the tensors that it matches. */
typedef struct rule {
    char *pattern;
    assay_regex *regex;
    draft draft;
    assay_choice choice;
} rule;

struct assay_recipe {
    draft draft;
    assay_choice base;
    rule *rules; /* overrides, then skips; the last that matches decides */
    size_t n_rules, cap_rules;
    size_t n_overrides;
};

/* --- names --- */

#define X(NAME, name, convention) extern const assay_method assay_method_##name;
#include "method/methods.def"
#undef X

static const struct {
    const char *name;
    const assay_method *method;
} methods[] = {
#define X(NAME, name, convention) {#name, &assay_method_##name},
#include "method/methods.def"
#undef X
};

const char *assay_method_name(assay_method_id m) {
    return (size_t)m < ASSAY_LEN(methods) ? methods[m].name : "?";
}

bool assay_method_parse(assay_method_id *out, const char *name) {
    for (size_t i = 0; i < ASSAY_LEN(methods); i++)
        if (!strcmp(methods[i].name, name)) {
            *out = (assay_method_id)i;
            return true;
        }
    return false;
}

const assay_method *assay_method_get(assay_method_id m) {
    return methods[m].method;
}

/* Methods of the field that this build does not have: asked for, they are told apart from typing errors. */
static bool is_absent_method(const char *word) {
    static const char *const absent[] = {"gptq", "awq", "autoround", "smoothquant", "hqq", "fp8", "kquant"};
    for (size_t i = 0; i < ASSAY_LEN(absent); i++)
        if (!strcmp(absent[i], word)) return true;
    return false;
}

static assay_status unknown_method(const char *word, const assay_yaml_doc *doc, const assay_yaml *y,
                                   assay_err *err) {
    const char *names[ASSAY_LEN(methods)];
    char list[256] = "";
    for (size_t i = 0, used = 0; i < ASSAY_LEN(methods) && used < sizeof list; i++) {
        names[i] = methods[i].name;
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", names[i]);
    }
    if (is_absent_method(word))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s:%d: method '%s' is not in this build; it has%s",
                          assay_yaml_name(doc), y ? y->line : 1, word, list);
    const char *near = assay_nearest(word, names, ASSAY_LEN(names));
    if (near) return assay_yaml_fail(doc, y, err, "unknown method '%s', did you mean '%s'?", word, near);
    return assay_yaml_fail(doc, y, err, "unknown method '%s', known are%s", word, list);
}

/* --- options --- */

static const struct {
    const char *key;
    unsigned option;
} options[] = {
    {"method", ASSAY_OPT_METHOD},
    {"precision", ASSAY_OPT_PRECISION},
    {"group_size", ASSAY_OPT_GROUP_SIZE},
    {"symmetric", ASSAY_OPT_SYMMETRIC},
    {"mse", ASSAY_OPT_MSE},
    {"double_quant", ASSAY_OPT_DOUBLE_QUANT},
    {"threshold", ASSAY_OPT_THRESHOLD},
};
#define N_OPTIONS ASSAY_LEN(options)
#define MAX_KNOWN 64

static bool parse_int(int64_t *out, const char *text) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    *out = v;
    return !errno && *text && !*end;
}

/* "int4", or "int4g128" for precision and group size in one word. */
static bool parse_precision(draft *d, const char *text) {
    char head[16];
    const char *g = strchr(text, 'g');
    size_t n = g ? (size_t)(g - text) : strlen(text);
    if (n >= sizeof head) return false;
    memcpy(head, text, n);
    head[n] = 0;
    if (!assay_precision_parse(&d->c.precision, head)) return false;
    d->set |= ASSAY_OPT_PRECISION;
    if (!g) return true;
    d->set |= ASSAY_OPT_GROUP_SIZE;
    return parse_int(&d->c.group_size, g + 1) && d->c.group_size > 0;
}

static bool parse_group_size(draft *d, const char *text) {
    d->set |= ASSAY_OPT_GROUP_SIZE;
    d->c.group_size = 0;
    if (!strcmp(text, "channel")) return true;
    if (!parse_int(&d->c.group_size, text) || d->c.group_size < -1) return false;
    if (d->c.group_size < 0) d->c.group_size = 0;
    return true;
}

static assay_status read_words(draft *d, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    const char *method = NULL, *precision = NULL, *group = NULL;
    ASSAY_TRY(assay_yaml_get_str(&method, doc, map, "method", err));
    ASSAY_TRY(assay_yaml_get_str(&precision, doc, map, "precision", err));
    ASSAY_TRY(assay_yaml_get_str(&group, doc, map, "group_size", err));
    if (method) {
        d->set |= ASSAY_OPT_METHOD;
        if (!assay_method_parse(&d->c.method, method))
            return unknown_method(method, doc, assay_yaml_find(map, "method"), err);
    }
    if (precision && !parse_precision(d, precision))
        return assay_yaml_fail(doc, assay_yaml_find(map, "precision"), err, "unknown precision '%s'",
                               precision);
    if (group && !parse_group_size(d, group))
        return assay_yaml_fail(doc, assay_yaml_find(map, "group_size"), err,
                               "group_size must be a number of columns or 'channel', not '%s'", group);
    return ASSAY_OK;
}

static assay_status read_bool(draft *d, bool *value, unsigned option, const char *key,
                              const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    const assay_yaml *y = assay_yaml_find(map, key);
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    d->set |= option;
    return assay_yaml_get_bool(value, doc, map, key, err);
}

static assay_status read_draft(draft *d, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    *d = (draft){0};
    bool symmetric = true;
    ASSAY_TRY(read_words(d, doc, map, err));
    ASSAY_TRY(read_bool(d, &symmetric, ASSAY_OPT_SYMMETRIC, "symmetric", doc, map, err));
    ASSAY_TRY(read_bool(d, &d->c.mse, ASSAY_OPT_MSE, "mse", doc, map, err));
    ASSAY_TRY(read_bool(d, &d->c.double_quant, ASSAY_OPT_DOUBLE_QUANT, "double_quant", doc, map, err));
    d->c.asymmetric = !symmetric;
    const assay_yaml *y = assay_yaml_find(map, "threshold");
    if (y && y->kind != ASSAY_YAML_NULL) d->set |= ASSAY_OPT_THRESHOLD;
    return assay_yaml_get_double(&d->c.threshold, doc, map, "threshold", 0, 1e6, err);
}

static draft lay_over(const draft *below, const draft *above) {
    if ((above->set & ASSAY_OPT_METHOD) && above->c.method != below->c.method) return *above;
    draft d = *below;
    d.set |= above->set;
    if (above->set & ASSAY_OPT_PRECISION) d.c.precision = above->c.precision;
    if (above->set & ASSAY_OPT_GROUP_SIZE) d.c.group_size = above->c.group_size;
    if (above->set & ASSAY_OPT_SYMMETRIC) d.c.asymmetric = above->c.asymmetric;
    if (above->set & ASSAY_OPT_MSE) d.c.mse = above->c.mse;
    if (above->set & ASSAY_OPT_DOUBLE_QUANT) d.c.double_quant = above->c.double_quant;
    if (above->set & ASSAY_OPT_THRESHOLD) d.c.threshold = above->c.threshold;
    return d;
}

/* The choice that a draft comes to, or what is wrong with it. */
static assay_status complete(assay_choice *out, const draft *d, const assay_yaml_doc *doc,
                             const assay_yaml *map, assay_err *err) {
    if (!(d->set & ASSAY_OPT_METHOD))
        return assay_yaml_fail(doc, map, err, "a recipe needs a method, for example rtn");
    const assay_method *m = assay_method_get(d->c.method);
    for (size_t i = 1; i < N_OPTIONS; i++)
        if ((d->set & options[i].option) && !(m->options & options[i].option))
            return assay_yaml_fail(doc, map, err, "%s does nothing for method %s: leave it out",
                                   options[i].key, assay_method_name(d->c.method));
    *out = d->c;
    m->complete(out, d->set);
    const char *wrong = m->check ? m->check(out) : NULL;
    if (wrong) return assay_yaml_fail(doc, map, err, "method %s: %s", assay_method_name(d->c.method), wrong);
    return ASSAY_OK;
}

/* --- rules --- */

static assay_status add_rule(assay_recipe *r, rule **out, const char *pattern, const assay_yaml_doc *doc,
                             const assay_yaml *y, assay_err *err) {
    ASSAY_TRY(assay_grow(&r->rules, &r->cap_rules, r->n_rules + 1, sizeof *r->rules, err));
    *out = &r->rules[r->n_rules++];
    **out = (rule){0};
    if (!((*out)->pattern = assay_strdup(pattern))) return assay_nomem(err);
    assay_err why = {0};
    if (assay_regex_new(&(*out)->regex, pattern, strlen(pattern), &why) == ASSAY_OK) return ASSAY_OK;
    if (why.code == ASSAY_ENOMEM) return assay_nomem(err);
    return assay_yaml_fail(doc, y, err, "bad pattern '%s': %s", pattern, why.message);
}

static assay_status read_override(assay_recipe *r, const assay_yaml_doc *doc, const assay_yaml *map,
                                  assay_err *err) {
    static const char *const known[] = {"match",     "method", "precision",    "group_size",
                                        "symmetric", "mse",    "double_quant", "threshold"};
    ASSAY_TRY(assay_yaml_want(doc, map, ASSAY_YAML_MAP, "an override", err));
    const char *pattern = NULL;
    ASSAY_TRY(assay_yaml_get_str(&pattern, doc, map, "match", err));
    draft above;
    ASSAY_TRY(read_draft(&above, doc, map, err));
    ASSAY_TRY(assay_yaml_check_unknown(doc, map, "override", known, ASSAY_LEN(known), err));
    if (!pattern || !*pattern)
        return assay_yaml_fail(doc, map, err, "an override needs a pattern (match) of tensor names");
    rule *n;
    ASSAY_TRY(add_rule(r, &n, pattern, doc, assay_yaml_find(map, "match"), err));
    n->draft = lay_over(&r->draft, &above);
    return complete(&n->choice, &n->draft, doc, map, err);
}

static assay_status read_list(assay_recipe *r, const assay_yaml_doc *doc, const assay_yaml *map,
                              const char *key, assay_err *err) {
    const assay_yaml *list = assay_yaml_find(map, key);
    if (!list || list->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(doc, list, ASSAY_YAML_SEQ, key, err));
    for (size_t i = 0; i < list->n; i++) {
        if (!strcmp(key, "override")) {
            ASSAY_TRY(read_override(r, doc, list->items[i], err));
            r->n_overrides++;
            continue;
        }
        ASSAY_TRY(assay_yaml_want(doc, list->items[i], ASSAY_YAML_SCALAR, "a pattern to skip", err));
        rule *n;
        ASSAY_TRY(add_rule(r, &n, list->items[i]->text, doc, list->items[i], err));
        n->choice.method = ASSAY_METHOD_NONE;
    }
    return ASSAY_OK;
}

assay_status assay_recipe_from_yaml(assay_recipe **out, const assay_yaml_doc *d, const assay_yaml *map,
                                    const char *const *also_known, size_t n_also_known, assay_err *err) {
    *out = NULL;
    const char *known[MAX_KNOWN];
    size_t n = 0;
    for (size_t i = 0; i < N_OPTIONS; i++)
        known[n++] = options[i].key;
    known[n++] = "override";
    known[n++] = "skip";
    for (size_t i = 0; i < n_also_known && n < MAX_KNOWN; i++)
        known[n++] = also_known[i];
    ASSAY_TRY(assay_yaml_want(d, map, ASSAY_YAML_MAP, "a recipe", err));
    ASSAY_TRY(assay_yaml_check_unknown(d, map, "recipe", known, n, err));
    assay_recipe *r = assay_calloc(1, sizeof *r);
    if (!r) return assay_nomem(err);
    assay_status s;
    ASSAY_GO(read_draft(&r->draft, d, map, err));
    ASSAY_GO(complete(&r->base, &r->draft, d, map, err));
    ASSAY_GO(read_list(r, d, map, "override", err));
    ASSAY_GO(read_list(r, d, map, "skip", err));
    *out = r;
    return ASSAY_OK;
out:
    assay_recipe_free(r);
    return s;
}

assay_status assay_recipe_load(assay_recipe **out, const char *path, assay_err *err) {
    *out = NULL;
    assay_yaml_doc *doc;
    ASSAY_TRY(assay_yaml_load(&doc, path, err));
    assay_status s = assay_recipe_from_yaml(out, doc, assay_yaml_root(doc), NULL, 0, err);
    assay_yaml_free(doc);
    return s;
}

void assay_recipe_free(assay_recipe *r) {
    if (!r) return;
    for (size_t i = 0; i < r->n_rules; i++) {
        assay_free(r->rules[i].pattern);
        assay_regex_free(r->rules[i].regex);
    }
    assay_free(r->rules);
    assay_free(r);
}

/* --- the one-line form --- */

static void put_quoted(assay_str *b, const char *text, size_t n) {
    assay_str_putc(b, '\'');
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\'') assay_str_putc(b, '\'');
        assay_str_putc(b, text[i]);
    }
    assay_str_putc(b, '\'');
}

/* One "key=value" or bare word as YAML "key: value". */
static assay_status put_option(assay_str *b, const char *text, size_t n, assay_err *err) {
    const char *eq = memchr(text, '=', n);
    size_t key = eq ? (size_t)(eq - text) : n;
    for (size_t i = 0; i < key; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_", text[i]))
            return assay_fail(err, ASSAY_EINPUT, "recipe: '%.*s' is not key=value or an option's name",
                              (int)n, text);
    if (!key) return assay_fail(err, ASSAY_EINPUT, "recipe: an empty option");
    if (eq) {
        bool list = key == 4 && !memcmp(text, "skip", 4);
        assay_str_putn(b, text, key);
        assay_str_put(b, list ? ": [" : ": ");
        if (list || (key == 5 && !memcmp(text, "match", 5)))
            put_quoted(b, eq + 1, n - key - 1);
        else
            for (const char *p = eq + 1; p < text + n; p++) {
                bool plain =
                    strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-", *p) != NULL;
                if (!plain)
                    return assay_fail(err, ASSAY_EINPUT, "recipe: '%.*s': unexpected '%c'", (int)n, text, *p);
                assay_str_putc(b, *p);
            }
        if (list) assay_str_putc(b, ']');
        return ASSAY_OK;
    }
    char word[32];
    snprintf(word, sizeof word, "%.*s", (int)n, text);
    assay_method_id m;
    draft d;
    if (assay_method_parse(&m, word) || is_absent_method(word))
        assay_str_printf(b, "method: %s", word);
    else if (parse_precision(&d, word))
        assay_str_printf(b, "precision: %s", word);
    else
        assay_str_printf(b, "%s: true", word);
    return ASSAY_OK;
}

static assay_status put_options(assay_str *b, const char *text, size_t n, assay_err *err) {
    const char *end = text + n;
    assay_str_putc(b, '{');
    for (bool first = true;; first = false) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        if (!first) assay_str_put(b, ", ");
        ASSAY_TRY(put_option(b, text, (size_t)((comma ? comma : end) - text), err));
        if (!comma) break;
        text = comma + 1;
    }
    return ASSAY_OK;
}

assay_status assay_recipe_from_string(assay_recipe **out, const char *text, assay_err *err) {
    *out = NULL;
    assay_str b = {0};
    assay_yaml_doc *doc = NULL;
    size_t n = strcspn(text, ";");
    assay_status s;
    ASSAY_GO(put_options(&b, text, n, err));
    if (text[n]) assay_str_put(&b, ", override: [");
    bool more = text[n] != 0;
    for (const char *p = text + n; *p;) {
        p++;
        n = strcspn(p, ";");
        ASSAY_GO(put_options(&b, p, n, err));
        assay_str_put(&b, p[n] ? "}, " : "}");
        p += n;
    }
    assay_str_put(&b, more ? "]}" : "}");
    ASSAY_GO(assay_str_status(&b, err));
    ASSAY_GO(assay_yaml_parse(&doc, b.s, b.len, "recipe", err));
    s = assay_recipe_from_yaml(out, doc, assay_yaml_root(doc), NULL, 0, err);
out:
    assay_yaml_free(doc);
    assay_str_free(&b);
    return s;
}

/* --- output --- */

json_t *assay_choice_to_json(const assay_choice *c) {
    unsigned takes = assay_method_get(c->method)->options;
    json_t *j = json_pack("{s:s}", "method", assay_method_name(c->method));
    int bad = !j;
    if (!bad && c->method != ASSAY_METHOD_NONE)
        bad |= json_object_set_new(j, "precision", json_string(assay_precision_name(c->precision)));
    if (!bad && (takes & ASSAY_OPT_GROUP_SIZE))
        bad |= json_object_set_new(j, "group_size", json_integer(c->group_size));
    if (!bad && (takes & ASSAY_OPT_SYMMETRIC))
        bad |= json_object_set_new(j, "symmetric", json_boolean(!c->asymmetric));
    if (!bad && (takes & ASSAY_OPT_MSE)) bad |= json_object_set_new(j, "mse", json_boolean(c->mse));
    if (!bad && (takes & ASSAY_OPT_DOUBLE_QUANT))
        bad |= json_object_set_new(j, "double_quant", json_boolean(c->double_quant));
    if (!bad && (takes & ASSAY_OPT_THRESHOLD))
        bad |= json_object_set_new(j, "threshold", json_real(c->threshold));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

assay_status assay_choice_from_json(assay_choice *out, const json_t *j, const char *where, assay_err *err) {
    const char *method = NULL, *precision = NULL;
    bool symmetric = true;
    *out = (assay_choice){0};
    ASSAY_TRY(assay_json_get_str(&method, j, "method", where, err));
    ASSAY_TRY(assay_json_get_str(&precision, j, "precision", where, err));
    ASSAY_TRY(assay_json_get_int(&out->group_size, j, "group_size", where, err));
    ASSAY_TRY(assay_json_get_bool(&symmetric, j, "symmetric", where, err));
    ASSAY_TRY(assay_json_get_bool(&out->mse, j, "mse", where, err));
    ASSAY_TRY(assay_json_get_bool(&out->double_quant, j, "double_quant", where, err));
    ASSAY_TRY(assay_json_get_double(&out->threshold, j, "threshold", where, err));
    out->asymmetric = !symmetric;
    if (!method || !assay_method_parse(&out->method, method) ||
        (precision && !assay_precision_parse(&out->precision, precision)))
        return assay_fail(err, ASSAY_EINPUT, "%s: unknown method or precision", where);
    return ASSAY_OK;
}

json_t *assay_recipe_to_json(const assay_recipe *r) {
    json_t *j = assay_choice_to_json(&r->base), *override = json_array(), *skip = json_array();
    int bad = !j || !override || !skip;
    for (size_t i = 0; i < r->n_rules && !bad; i++) {
        json_t *pattern = json_string(r->rules[i].pattern);
        if (i >= r->n_overrides) {
            bad = json_array_append_new(skip, pattern);
            continue;
        }
        json_t *o = assay_choice_to_json(&r->rules[i].choice);
        bad = json_object_set_new(o, "match", pattern);
        bad |= json_array_append_new(override, o);
    }
    if (!bad) bad = json_object_set(j, "override", override) | json_object_set(j, "skip", skip);
    json_decref(override);
    json_decref(skip);
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

assay_status assay_recipe_hash(char hex[65], const assay_recipe *r, assay_err *err) {
    assay_str b = {0};
    json_t *j = assay_recipe_to_json(r);
    assay_status s = j ? assay_json_dump(&b, j, 0, true, err) : assay_nomem(err);
    if (s == ASSAY_OK) assay_hash_bytes(hex, b.s, b.len);
    json_decref(j);
    assay_str_free(&b);
    return s;
}

void assay_choice_describe(assay_str *out, const assay_choice *c) {
    const char *method = assay_method_name(c->method);
    unsigned takes = assay_method_get(c->method)->options;
    assay_str_put(out, method);
    if (c->method == ASSAY_METHOD_RTN) assay_str_printf(out, " %s", assay_precision_name(c->precision));
    if ((takes & ASSAY_OPT_SYMMETRIC) && c->group_size)
        assay_str_printf(out, " g%lld", (long long)c->group_size);
    if ((takes & ASSAY_OPT_DOUBLE_QUANT) && c->group_size != 64)
        assay_str_printf(out, " b%lld", (long long)c->group_size);
    if (c->asymmetric) assay_str_put(out, " asym");
    if (c->mse) assay_str_put(out, " mse");
    if (c->double_quant) assay_str_put(out, " dq");
    if ((takes & ASSAY_OPT_THRESHOLD) && c->threshold != 6.0) assay_str_printf(out, " t%g", c->threshold);
}

void assay_recipe_describe(assay_str *out, const assay_recipe *r) {
    size_t skips = r->n_rules - r->n_overrides;
    assay_choice_describe(out, &r->base);
    if (r->n_overrides)
        assay_str_printf(out, " + %zu override%s", r->n_overrides, r->n_overrides == 1 ? "" : "s");
    if (skips) assay_str_printf(out, " - %zu skip%s", skips, skips == 1 ? "" : "s");
}

/* --- applying --- */

assay_status assay_recipe_choose(assay_choice *out, const assay_recipe *r, const assay_tensor_spec *spec,
                                 assay_err *err) {
    *out = (assay_choice){.method = ASSAY_METHOD_NONE};
    if (spec->is_vector) return ASSAY_OK;
    if (spec->is_linear) *out = r->base;
    for (size_t i = r->n_rules; i-- > 0;) {
        bool hit = false;
        ASSAY_TRY(assay_regex_search(&hit, r->rules[i].regex, spec->name, strlen(spec->name), err));
        if (!hit) continue;
        *out = r->rules[i].choice;
        return ASSAY_OK;
    }
    return ASSAY_OK;
}

double assay_choice_bits(const assay_choice *c, int64_t rows, int64_t cols, assay_dtype model_dtype,
                         double *code_bits, double *scale_bits) {
    double codes = (double)rows * (double)cols * 8.0 * (double)assay_dtype_size(model_dtype), scales = 0;
    if (c->method != ASSAY_METHOD_NONE) {
        /* A matrix that has a shape and no content: its size is what precision/ says. */
        assay_nested nested = {.block = 256};
        uint8_t zero = 0;
        assay_matrix m = {.precision = c->precision, .rows = rows, .cols = cols, .group_size = c->group_size};
        bool table = assay_precision_get_kind(c->precision) == ASSAY_KIND_CODEBOOK;
        m.n_scales =
            table ? (rows * cols + c->group_size - 1) / c->group_size : rows * assay_matrix_n_groups(&m);
        m.scale_dtype = c->method == ASSAY_METHOD_RTN ? model_dtype : ASSAY_DTYPE_F32;
        m.zeros = c->asymmetric ? &zero : NULL;
        m.nested = c->double_quant ? &nested : NULL;
        assay_matrix_bits(&m, &codes, &scales);
    }
    if (code_bits) *code_bits = codes;
    if (scale_bits) *scale_bits = scales;
    return codes + scales;
}
