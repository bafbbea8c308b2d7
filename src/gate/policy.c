/* policy.c: reads a policy, with line numbers in every complaint, and writes it normalised. Its numbers are
 * listed in policy.def.
 *
 * JSON is read through the YAML reader, of whose language it is a subset, so that there is one reader with
 * one set of rules. */
#include "gate/policy.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum unit { UNIT_POINTS, UNIT_SHARE, UNIT_NUMBER } unit;

static const char *const interval_names[] = {"auto", "tango", "newcombe", "t", "bootstrap"};

void assay_policy_init(assay_policy *p) {
    memset(p, 0, sizeof *p);
#define X(UNIT, key, value, lo, hi) p->key = value;
#include "gate/policy.def"
#undef X
    p->bootstrap_replicates = 2000;
    p->seed = 1;
}

void assay_policy_deinit(assay_policy *p) {
    if (!p) return;
    assay_free(p->required);
    assay_free(p->rules);
    assay_free(p->waivers);
    assay_arena_free(&p->arena);
    memset(p, 0, sizeof *p);
}

typedef struct reader {
    const assay_yaml_doc *doc;
    assay_policy *p;
    size_t cap_required, cap_rules, cap_waivers;
    assay_err *err;
} reader;

static assay_status copy(const char **out, reader *r, const char *s) {
    *out = assay_arena_strndup(&r->p->arena, s, strlen(s));
    return *out ? ASSAY_OK : assay_nomem(r->err);
}

/* --- numbers with units --- */

/* "2 pt", "2pp", "5 %", "0.02". *suffix is 'p', '%' or 0; false when it is none of these. */
static bool parse_quantity(double *out, char *suffix, const char *t) {
    char *end;
    if (!strspn(t, "+-.0123456789")) return false;
    double v = strtod(t, &end);
    if (end == t || !isfinite(v)) return false;
    while (isspace((unsigned char)*end)) end++;
    *suffix = strcmp(end, "pt") == 0 || strcmp(end, "pp") == 0 ? 'p' : strcmp(end, "%") == 0 ? '%' : 0;
    *out = *suffix ? v / 100 : v;
    return *suffix || !*end;
}

static assay_status read_quantity(double *out, reader *r, const assay_yaml *y, const char *key, unit u,
                                  double lo, double hi) {
    static const char *const want[] = {"points like '2 pt', or a fraction",
                                       "a share like '2 %' or '2 pt', or a fraction", "a number"};
    double v = 0;
    char suffix = 0;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_SCALAR, key, r->err));
    bool ok = parse_quantity(&v, &suffix, y->text) && !(u == UNIT_NUMBER && suffix);
    if (ok && u == UNIT_POINTS && suffix == '%')
        return assay_yaml_fail(r->doc, y, r->err, "%s: '%s' could be relative: write points, like '2 pt'",
                               key, y->text);
    if (!ok) return assay_yaml_fail(r->doc, y, r->err, "%s must be %s, not '%s'", key, want[u], y->text);
    if (!(v >= lo && v <= hi)) {
        const char *hint = u == UNIT_POINTS && v > hi ? ": for points write 'pt' after it" : "";
        return assay_yaml_fail(r->doc, y, r->err, "%s must be from %g to %g, not %g%s", key, lo, hi, v, hint);
    }
    *out = v;
    return ASSAY_OK;
}

static assay_status read_key(double *out, reader *r, const assay_yaml *map, const char *key, unit u,
                             double lo, double hi) {
    const assay_yaml *y = assay_yaml_find(map, key);
    return !y || y->kind == ASSAY_YAML_NULL ? ASSAY_OK : read_quantity(out, r, y, key, u, lo, hi);
}

/* --- dimensions --- */

static assay_status add_rule(reader *r, const char *dimension, const char *slice, bool for_slices,
                             double margin) {
    assay_policy *p = r->p;
    ASSAY_TRY(assay_grow(&p->rules, &r->cap_rules, p->n_rules + 1, sizeof *p->rules, r->err));
    assay_margin_rule *m = &p->rules[p->n_rules];
    *m = (assay_margin_rule){.for_slices = for_slices, .margin = margin};
    ASSAY_TRY(copy(&m->dimension, r, dimension));
    if (slice) ASSAY_TRY(copy(&m->slice, r, slice));
    p->n_rules++;
    return ASSAY_OK;
}

/* A margin in a dimension's own units: points, a relative increase for perplexity, nats for KL. */
static assay_status read_rule(reader *r, const assay_yaml *y, const char *what, const char *dimension,
                              const char *slice, bool for_slices) {
    double margin = 0;
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(read_quantity(&margin, r, y, what, UNIT_POINTS, 1e-9, 1000));
    return add_rule(r, dimension, slice, for_slices, margin);
}

static assay_status read_dimension(reader *r, const assay_yaml *y, const char *name) {
    static const char *const known[] = {"margin", "slice_margin", "slices"};
    if (y->kind == ASSAY_YAML_SCALAR) return read_rule(r, y, name, name, NULL, false);
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, name, r->err));
    ASSAY_TRY(read_rule(r, assay_yaml_find(y, "margin"), "margin", name, NULL, false));
    ASSAY_TRY(read_rule(r, assay_yaml_find(y, "slice_margin"), "slice_margin", name, NULL, true));
    const assay_yaml *slices = assay_yaml_find(y, "slices");
    if (slices && slices->kind != ASSAY_YAML_NULL) {
        ASSAY_TRY(assay_yaml_want(r->doc, slices, ASSAY_YAML_MAP, "slices", r->err));
        for (size_t i = 0; i < slices->n; i++)
            ASSAY_TRY(read_rule(r, slices->items[i], slices->keys[i], name, slices->keys[i], true));
    }
    return assay_yaml_check_unknown(r->doc, y, name, known, ASSAY_LEN(known), r->err);
}

static assay_status read_dimensions(reader *r, const assay_yaml *y) {
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "dimensions", r->err));
    for (size_t i = 0; i < y->n; i++) ASSAY_TRY(read_dimension(r, y->items[i], y->keys[i]));
    return ASSAY_OK;
}

static assay_status read_required(reader *r, const assay_yaml *y) {
    assay_policy *p = r->p;
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_SEQ, "required", r->err));
    for (size_t i = 0; i < y->n; i++) {
        ASSAY_TRY(assay_yaml_want(r->doc, y->items[i], ASSAY_YAML_SCALAR, "a required dimension", r->err));
        ASSAY_TRY(assay_grow(&p->required, &r->cap_required, p->n_required + 1, sizeof *p->required, r->err));
        ASSAY_TRY(copy(&p->required[p->n_required], r, y->items[i]->text));
        p->n_required++;
    }
    return ASSAY_OK;
}

/* --- waivers --- */

static bool is_date(const char *s) {
    static const char form[] = "dddd-dd-dd";
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'd' ? !isdigit((unsigned char)s[i]) : s[i] != '-') return false;
    long month = strtol(s + 5, NULL, 10), day = strtol(s + 8, NULL, 10);
    return !s[10] && month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

static assay_status waiver_target(assay_waiver *w, reader *r, const assay_yaml *y, const char *dimension,
                                  const char *slice) {
    if (!dimension == !slice)
        return assay_yaml_fail(r->doc, y, r->err,
                               "a waiver names either 'slice: DIMENSION/SLICE' or 'dimension: DIMENSION'");
    const char *cut = slice ? strchr(slice, '/') : NULL;
    if (slice && (!cut || cut == slice || !cut[1]))
        return assay_yaml_fail(r->doc, y, r->err, "a waiver's slice is written DIMENSION/SLICE, not '%s'",
                               slice);
    if (!slice) return copy(&w->dimension, r, dimension);
    w->dimension = assay_arena_strndup(&r->p->arena, slice, (size_t)(cut - slice));
    return w->dimension ? copy(&w->slice, r, cut + 1) : assay_nomem(r->err);
}

static assay_status read_waiver(reader *r, const assay_yaml *y) {
    static const char *const known[] = {"slice", "dimension", "who", "why", "expires"};
    const char *slice = NULL, *dimension = NULL, *who = NULL, *why = NULL, *expires = NULL;
    assay_policy *p = r->p;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "a waiver", r->err));
    ASSAY_TRY(assay_yaml_get_str(&slice, r->doc, y, "slice", r->err));
    ASSAY_TRY(assay_yaml_get_str(&dimension, r->doc, y, "dimension", r->err));
    ASSAY_TRY(assay_yaml_get_str(&who, r->doc, y, "who", r->err));
    ASSAY_TRY(assay_yaml_get_str(&why, r->doc, y, "why", r->err));
    ASSAY_TRY(assay_yaml_get_str(&expires, r->doc, y, "expires", r->err));
    ASSAY_TRY(assay_yaml_check_unknown(r->doc, y, "a waiver", known, ASSAY_LEN(known), r->err));
    if (!who || !*who || !why || !*why)
        return assay_yaml_fail(r->doc, y, r->err, "a waiver must say who gave it and why");
    if (expires && !is_date(expires))
        return assay_yaml_fail(r->doc, y, r->err, "expires must be a date like 2026-12-31, not '%s'",
                               expires);
    ASSAY_TRY(assay_grow(&p->waivers, &r->cap_waivers, p->n_waivers + 1, sizeof *p->waivers, r->err));
    assay_waiver *w = &p->waivers[p->n_waivers];
    memset(w, 0, sizeof *w);
    ASSAY_TRY(waiver_target(w, r, y, dimension, slice));
    for (size_t i = 0; i < p->n_required; i++)
        if (strcmp(p->required[i], w->dimension) == 0)
            return assay_yaml_fail(r->doc, y, r->err, "dimension '%s' is required and cannot be waived",
                                   w->dimension);
    ASSAY_TRY(copy(&w->who, r, who));
    ASSAY_TRY(copy(&w->why, r, why));
    if (expires) ASSAY_TRY(copy(&w->expires, r, expires));
    p->n_waivers++;
    return ASSAY_OK;
}

static assay_status read_waivers(reader *r, const assay_yaml *y) {
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_SEQ, "waivers", r->err));
    for (size_t i = 0; i < y->n; i++) ASSAY_TRY(read_waiver(r, y->items[i]));
    return ASSAY_OK;
}

/* --- the whole --- */

static assay_status read_interval(reader *r, const assay_yaml *map) {
    const char *name = NULL;
    ASSAY_TRY(assay_yaml_get_str(&name, r->doc, map, "interval", r->err));
    if (!name) return ASSAY_OK;
    for (size_t i = 0; i < ASSAY_LEN(interval_names); i++) {
        if (strcmp(name, interval_names[i]) == 0) {
            r->p->interval = (assay_interval_choice)i;
            return ASSAY_OK;
        }
    }
    return assay_yaml_fail(r->doc, assay_yaml_find(map, "interval"), r->err,
                           "interval must be auto, tango, newcombe, t or bootstrap, not '%s'", name);
}

static assay_status read_policy(reader *r, const assay_yaml *y) {
    static const char *const known[] = {
#define X(UNIT, key, value, lo, hi) #key,
#include "gate/policy.def"
#undef X
        "interval", "required", "dimensions", "waivers", "bootstrap_replicates", "seed"};
    assay_policy *p = r->p;
    int64_t replicates = p->bootstrap_replicates, seed = (int64_t)p->seed;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "policy", r->err));
#define X(UNIT, key, value, lo, hi) ASSAY_TRY(read_key(&p->key, r, y, #key, UNIT_##UNIT, lo, hi));
#include "gate/policy.def"
#undef X
    ASSAY_TRY(read_interval(r, y));
    ASSAY_TRY(assay_yaml_get_int(&replicates, r->doc, y, "bootstrap_replicates", 100, 1000000, r->err));
    ASSAY_TRY(assay_yaml_get_int(&seed, r->doc, y, "seed", 0, INT64_MAX, r->err));
    p->bootstrap_replicates = (int)replicates;
    p->seed = (uint64_t)seed;
    ASSAY_TRY(read_required(r, assay_yaml_find(y, "required")));
    ASSAY_TRY(read_dimensions(r, assay_yaml_find(y, "dimensions")));
    ASSAY_TRY(read_waivers(r, assay_yaml_find(y, "waivers")));
    return assay_yaml_check_unknown(r->doc, y, "policy", known, ASSAY_LEN(known), r->err);
}

assay_status assay_policy_from_yaml(assay_policy *out, const assay_yaml_doc *d, const assay_yaml *y,
                                    assay_err *err) {
    reader r = {.doc = d, .p = out, .err = err};
    assay_policy_init(out);
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    assay_status s = read_policy(&r, y);
    if (s != ASSAY_OK) assay_policy_deinit(out);
    return s;
}

assay_status assay_policy_from_json(assay_policy *out, const json_t *j, const char *where, assay_err *err) {
    assay_str text = {0};
    assay_yaml_doc *d = NULL;
    assay_policy_init(out);
    if (!j || json_is_null(j)) return ASSAY_OK;
    if (!json_is_object(j)) return assay_fail(err, ASSAY_EINPUT, "%s: a policy must be an object", where);
    assay_status s = assay_json_dump(&text, j, 1, false, err);
    if (s == ASSAY_OK) s = assay_str_status(&text, err);
    if (s == ASSAY_OK) s = assay_yaml_parse(&d, assay_str_c(&text), text.len, where, err);
    if (s == ASSAY_OK) s = assay_policy_from_yaml(out, d, assay_yaml_root(d), err);
    assay_yaml_free(d);
    assay_str_free(&text);
    return s;
}

/* --- writing --- */

static json_t *number_or_null(double v) {
    return isnan(v) ? json_null() : json_real(v);
}

/* The object under key, made when missing. */
static json_t *child(json_t *obj, const char *key) {
    json_t *c = json_object_get(obj, key);
    if (!c && json_object_set_new(obj, key, json_object()) == 0) c = json_object_get(obj, key);
    return c;
}

static int write_rules(json_t *out, const assay_policy *p) {
    int bad = 0;
    for (size_t i = 0; i < p->n_rules; i++) {
        const assay_margin_rule *m = &p->rules[i];
        json_t *d = child(out, m->dimension);
        if (m->slice) bad |= json_object_set_new(child(d, "slices"), m->slice, json_real(m->margin));
        else
            bad |= json_object_set_new(d, m->for_slices ? "slice_margin" : "margin", json_real(m->margin));
    }
    return bad;
}

static int write_waivers(json_t *out, const assay_policy *p) {
    int bad = 0;
    for (size_t i = 0; i < p->n_waivers; i++) {
        const assay_waiver *w = &p->waivers[i];
        json_t *j = json_object();
        if (w->slice) bad |= json_object_set_new(j, "slice", json_sprintf("%s/%s", w->dimension, w->slice));
        else
            bad |= json_object_set_new(j, "dimension", json_string(w->dimension));
        bad |= json_object_set_new(j, "who", json_string(w->who));
        bad |= json_object_set_new(j, "why", json_string(w->why));
        if (w->expires) bad |= json_object_set_new(j, "expires", json_string(w->expires));
        bad |= json_array_append_new(out, j);
    }
    return bad;
}

json_t *assay_policy_to_json(const assay_policy *p) {
    json_t *j = json_object();
    if (!j) return NULL;
    int bad = 0;
#define X(UNIT, key, value, lo, hi) bad |= json_object_set_new(j, #key, number_or_null(p->key));
#include "gate/policy.def"
#undef X
    bad |= json_object_set_new(j, "interval", json_string(interval_names[p->interval]));
    bad |= json_object_set_new(j, "bootstrap_replicates", json_integer(p->bootstrap_replicates));
    bad |= json_object_set_new(j, "seed", json_integer((json_int_t)p->seed));
    json_t *required = json_array();
    for (size_t i = 0; i < p->n_required; i++)
        bad |= json_array_append_new(required, json_string(p->required[i]));
    bad |= json_object_set_new(j, "required", required);
    bad |= write_rules(child(j, "dimensions"), p);
    json_t *waivers = json_array();
    bad |= write_waivers(waivers, p);
    bad |= json_object_set_new(j, "waivers", waivers);
    if (!bad) return j;
    json_decref(j);
    return NULL;
}
