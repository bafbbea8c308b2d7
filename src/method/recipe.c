/* recipe.c: reading, completing and applying recipes.
 *
 * A mapping is read into a draft: the options that were given, and which those are. An override's draft is
 * laid over the model's (unless it names another method), and only then completed by its method, so that a
 * default may depend on what was given: "precision: int4" over an int8 recipe without a group size gets
 * int4's. The one-line form is turned into YAML and read by the same code. */
#include "method/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "method/choice.h"
#include "method/pipeline.h"
#include "text/regex.h"

/* A pattern and what is done with the tensors that it matches. */
typedef struct rule {
    char *pattern;
    assay_regex *regex;
    assay_draft draft;
    assay_choice choice;
} rule;

struct assay_recipe {
    assay_draft draft;
    assay_choice base;
    rule *rules; /* overrides, then skips; the last that matches decides */
    size_t n_rules, cap_rules;
    size_t n_overrides;
    assay_rotation rotation;
};

#define MAX_KNOWN 64

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

/* What is chosen for some tensors is a type; mixes are for whole models. */
static void make_pure(assay_draft *d) {
    d->c.mix = ASSAY_MIX_PURE;
    if (!(assay_method_get(d->c.method)->options & ASSAY_OPT_PURE)) return;
    d->c.pure = true;
    d->set |= ASSAY_OPT_PURE;
}

static assay_status read_override(assay_recipe *r, const assay_yaml_doc *doc, const assay_yaml *map,
                                  assay_err *err) {
    const char *known[ASSAY_OPT_COUNT + 1] = {"match"};
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++)
        known[i + 1] = assay_option_key(i);
    ASSAY_TRY(assay_yaml_want(doc, map, ASSAY_YAML_MAP, "an override", err));
    const char *pattern = NULL;
    ASSAY_TRY(assay_yaml_get_str(&pattern, doc, map, "match", err));
    assay_draft above;
    ASSAY_TRY(assay_draft_read(&above, doc, map, err));
    ASSAY_TRY(assay_yaml_check_unknown(doc, map, "override", known, ASSAY_LEN(known), err));
    if (!pattern || !*pattern)
        return assay_yaml_fail(doc, map, err, "an override needs a pattern (match) of tensor names");
    rule *n;
    ASSAY_TRY(add_rule(r, &n, pattern, doc, assay_yaml_find(map, "match"), err));
    n->draft = assay_draft_lay_over(&r->draft, &above);
    if (above.names_mix)
        return assay_yaml_fail(doc, map, err, "%s is a mix for a whole model: an override takes a type, like %s", assay_mix_name(above.c.mix),
                               assay_precision_name(above.c.precision));
    make_pure(&n->draft);
    return assay_draft_complete(&n->choice, &n->draft, doc, map, err);
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

/* Keys of the whole model, besides the options. */
static const char *const own_keys[] = {"override", "skip", "rotate", "rotate_online", "rotate_seed"};

static assay_status read_rotation(assay_rotation *out, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    int64_t seed = 0;
    *out = (assay_rotation){0};
    ASSAY_TRY(assay_yaml_get_bool(&out->on, doc, map, "rotate", err));
    ASSAY_TRY(assay_yaml_get_bool(&out->online, doc, map, "rotate_online", err));
    ASSAY_TRY(assay_yaml_get_int(&seed, doc, map, "rotate_seed", 0, INT64_MAX, err));
    out->seed = (uint64_t)seed;
    if (out->on) return ASSAY_OK;
    const char *stray = out->online ? "rotate_online" : seed ? "rotate_seed" : NULL;
    return stray ? assay_yaml_fail(doc, map, err, "%s does nothing without rotate: true", stray) : ASSAY_OK;
}

assay_status assay_recipe_from_yaml(assay_recipe **out, const assay_yaml_doc *d, const assay_yaml *map,
                                    const char *const *also_known, size_t n_also_known, assay_err *err) {
    *out = NULL;
    const char *known[MAX_KNOWN];
    size_t n = 0;
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++)
        known[n++] = assay_option_key(i);
    for (size_t i = 0; i < ASSAY_LEN(own_keys); i++)
        known[n++] = own_keys[i];
    for (size_t i = 0; i < n_also_known && n < MAX_KNOWN; i++)
        known[n++] = also_known[i];
    ASSAY_TRY(assay_yaml_want(d, map, ASSAY_YAML_MAP, "a recipe", err));
    ASSAY_TRY(assay_yaml_check_unknown(d, map, "recipe", known, n, err));
    assay_recipe *r = assay_calloc(1, sizeof *r);
    if (!r) return assay_nomem(err);
    assay_status s;
    ASSAY_GO(read_rotation(&r->rotation, d, map, err));
    ASSAY_GO(assay_draft_read(&r->draft, d, map, err));
    ASSAY_GO(assay_draft_complete(&r->base, &r->draft, d, map, err));
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

/* What a part of the line has named so far. */
typedef struct named {
    bool method, mix; /* mix: one of llama.cpp's, or its type of blocks */
} named;

/* "Q4_K_M", as the field writes it. */
static bool is_mix_in_capitals(char word[16], const char *text, size_t n) {
    assay_mix ignored;
    if (n >= 16 || !memchr("IQT", text[0], 3)) return false;
    for (size_t i = 0; i < n; i++) word[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
    word[n] = 0;
    return assay_mix_parse(&ignored, word);
}

/* The method, precision, mix or option that a word was probably meant to be, or NULL. */
static const char *nearest_word(const char *word) {
    const char *list[ASSAY_METHOD_COUNT + ASSAY_PRECISION_COUNT + ASSAY_MIX_COUNT + ASSAY_OPT_COUNT];
    size_t n = 0;
    for (int i = 0; i < ASSAY_METHOD_COUNT; i++) list[n++] = assay_method_name((assay_method_id)i);
    for (int i = 0; i < ASSAY_MIX_COUNT; i++) list[n++] = assay_mix_name((assay_mix)i);
    for (int i = 0; i < ASSAY_PRECISION_COUNT; i++) list[n++] = assay_precision_name((assay_precision)i);
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++) list[n++] = assay_option_key(i);
    return assay_nearest(word, list, n);
}

/* A bare word is a method, a precision or an option that is true. nf4 and fp4 are a method's name or, after one, a precision. */
static assay_status put_word(assay_str *b, named *has, const char *word, assay_err *err) {
    assay_draft d = {0};
    bool is_precision = assay_draft_precision(&d, word), is_option = false;
    if (assay_is_method_word(word) && !(has->method && is_precision)) {
        has->method = true;
        assay_str_printf(b, "method: %s", word);
        return ASSAY_OK;
    }
    if (is_precision) {
        has->mix |= assay_precision_get_kind(d.c.precision) == ASSAY_KIND_BLOCK;
        assay_str_printf(b, "precision: %s", word);
        return ASSAY_OK;
    }
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++) is_option |= !strcmp(word, assay_option_key(i));
    for (size_t i = 0; i < ASSAY_LEN(own_keys); i++) is_option |= !strcmp(word, own_keys[i]);
    if (!is_option) {
        const char *near = nearest_word(word);
        return assay_fail(err, ASSAY_EINPUT, "recipe: '%s' is no method, precision or option%s%s%s", word, near ? "; did you mean '" : "",
                          near ? near : "", near ? "'?" : "");
    }
    assay_str_printf(b, "%s: true", word);
    return ASSAY_OK;
}

/* One "key=value" or bare word as YAML "key: value". */
static assay_status put_option(assay_str *b, named *has, const char *text, size_t n, assay_err *err) {
    const char *eq = memchr(text, '=', n);
    size_t key = eq ? (size_t)(eq - text) : n;
    char mix[16];
    if (!eq && is_mix_in_capitals(mix, text, n)) {
        assay_str_printf(b, "precision: %s", mix);
        has->mix = true;
        return ASSAY_OK;
    }
    for (size_t i = 0; i < key; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_", text[i]))
            return assay_fail(err, ASSAY_EINPUT, "recipe: '%.*s' is not key=value or an option's name",
                              (int)n, text);
    if (!key) return assay_fail(err, ASSAY_EINPUT, "recipe: an empty option");
    if (eq) {
        bool list = key == 4 && !memcmp(text, "skip", 4);
        has->method |= key == 6 && !memcmp(text, "method", 6);
        assay_str_putn(b, text, key);
        assay_str_put(b, list ? ": [" : ": ");
        if (list || (key == 5 && !memcmp(text, "match", 5)))
            assay_yaml_put_quoted(b, eq + 1, n - key - 1);
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
    return put_word(b, has, word, err);
}

/* Of the line's first part (is_base) a mix alone says that the method is gguf; the others are laid over it. */
static assay_status put_options(assay_str *b, const char *text, size_t n, bool is_base, assay_err *err) {
    const char *end = text + n;
    named has = {0};
    assay_str_putc(b, '{');
    for (bool first = true;; first = false) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        if (!first) assay_str_put(b, ", ");
        ASSAY_TRY(put_option(b, &has, text, (size_t)((comma ? comma : end) - text), err));
        if (!comma) break;
        text = comma + 1;
    }
    if (is_base && has.mix && !has.method) assay_str_put(b, ", method: gguf");
    return ASSAY_OK;
}

assay_status assay_recipe_from_string(assay_recipe **out, const char *text, assay_err *err) {
    *out = NULL;
    assay_str b = {0};
    assay_yaml_doc *doc = NULL;
    size_t n = strcspn(text, ";");
    assay_status s;
    ASSAY_GO(put_options(&b, text, n, true, err));
    if (text[n]) assay_str_put(&b, ", override: [");
    bool more = text[n] != 0;
    for (const char *p = text + n; *p;) {
        p++;
        n = strcspn(p, ";");
        ASSAY_GO(put_options(&b, p, n, false, err));
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
    if (!bad && r->rotation.on) {
        bad |= json_object_set_new(j, "rotate", json_true());
        bad |= json_object_set_new(j, "rotate_online", json_boolean(r->rotation.online));
        bad |= json_object_set_new(j, "rotate_seed", json_integer((json_int_t)r->rotation.seed));
    }
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

void assay_recipe_describe(assay_str *out, const assay_recipe *r) {
    size_t skips = r->n_rules - r->n_overrides;
    assay_choice_describe(out, &r->base);
    if (r->rotation.on) assay_str_put(out, r->rotation.online ? " rotated online" : " rotated");
    if (r->n_overrides)
        assay_str_printf(out, " + %zu override%s", r->n_overrides, r->n_overrides == 1 ? "" : "s");
    if (skips) assay_str_printf(out, " - %zu skip%s", skips, skips == 1 ? "" : "s");
}

/* --- applying --- */

assay_status assay_recipe_choose(assay_choice *out, const assay_recipe *r, const assay_tensor_spec *spec,
                                 assay_err *err) {
    *out = (assay_choice){.method = ASSAY_METHOD_NONE};
    if (spec->is_vector) return ASSAY_OK;
    bool whole_model = assay_method_get(r->base.method)->is_gguf && (spec->is_embedding || spec->is_head);
    if (spec->is_linear || whole_model) *out = r->base;
    for (size_t i = r->n_rules; i-- > 0;) {
        bool hit = false;
        ASSAY_TRY(assay_regex_search(&hit, r->rules[i].regex, spec->name, strlen(spec->name), err));
        if (!hit) continue;
        *out = r->rules[i].choice;
        return ASSAY_OK;
    }
    return ASSAY_OK;
}

static bool needs_calibration(const assay_choice *c) {
    const assay_method *m = assay_method_get(c->method);
    return m->needs || c->awq_scale || c->awq_clip || c->smooth ||
           c->activations == ASSAY_ACTIVATIONS_STATIC;
}

bool assay_recipe_needs_calibration(const assay_recipe *r, assay_method_id *method) {
    const assay_choice *c = needs_calibration(&r->base) ? &r->base : NULL;
    for (size_t i = 0; i < r->n_overrides && !c; i++)
        if (needs_calibration(&r->rules[i].choice)) c = &r->rules[i].choice;
    if (c && method) *method = c->method;
    return c != NULL;
}

static bool wants(const assay_choice *c) {
    return needs_calibration(c) || assay_method_get(c->method)->wants;
}

bool assay_recipe_wants_calibration(const assay_recipe *r) {
    bool yes = wants(&r->base);
    for (size_t i = 0; i < r->n_overrides; i++) yes = yes || wants(&r->rules[i].choice);
    return yes;
}

const assay_choice *assay_recipe_base(const assay_recipe *r) {
    return &r->base;
}

assay_status assay_recipe_reprecise(assay_choice *out, const assay_recipe *r, const char *precision, assay_err *err) {
    assay_draft d = r->draft;
    d.set &= ~(unsigned)(ASSAY_OPT_PRECISION | ASSAY_OPT_GROUP_SIZE);
    d.c.group_size = 0;
    if (!assay_draft_precision(&d, precision))
        return assay_fail(err, ASSAY_EUSAGE, "'%s' is no precision to mix: say int4g128 or bf16, for example", precision);
    make_pure(&d);
    if (assay_precision_get_kind(d.c.precision) == ASSAY_KIND_DENSE) {
        *out = (assay_choice){.method = ASSAY_METHOD_NONE, .precision = d.c.precision};
        return ASSAY_OK;
    }
    const assay_method *m = assay_method_get(d.c.method);
    *out = d.c;
    m->complete(out, d.set);
    const char *wrong = m->check ? m->check(out) : NULL;
    if (!wrong) wrong = assay_choice_check_format(out);
    return wrong ? assay_fail(err, ASSAY_EUSAGE, "method %s cannot make %s: %s", assay_method_name(d.c.method), precision, wrong) : ASSAY_OK;
}

assay_rotation assay_recipe_rotation(const assay_recipe *r) {
    return r->rotation;
}

double assay_choice_bits(const assay_choice *c, int64_t rows, int64_t cols, assay_dtype model_dtype, double *code_bits,
                         double *scale_bits) {
    double codes = (double)rows * (double)cols * 8.0 * (double)assay_dtype_size(model_dtype), scales = 0;
    assay_precision_kind kind = assay_precision_get_kind(c->precision);
    if (c->method != ASSAY_METHOD_NONE && (kind == ASSAY_KIND_BLOCK || kind == ASSAY_KIND_DENSE)) {
        assay_matrix m = {.precision = c->precision, .rows = rows, .cols = cols};
        assay_matrix_bits(&m, &codes, &scales);
    } else if (c->method != ASSAY_METHOD_NONE) {
        /* A matrix that has a shape and no content: its size is what precision/ says. */
        assay_nested nested = {.block = 256};
        uint8_t zero = 0;
        float real_zero = 0;
        int32_t g = 0;
        assay_grid_spec spec = assay_choice_grid(c, model_dtype);
        assay_matrix m = {.precision = c->precision, .rows = rows, .cols = cols, .group_size = spec.group_size, .row_block = spec.row_block};
        bool table = assay_precision_get_kind(c->precision) == ASSAY_KIND_CODEBOOK;
        int64_t row_block = ASSAY_MIN(ASSAY_MAX(spec.row_block, 1), rows);
        m.n_scales = table ? (rows * cols + c->group_size - 1) / c->group_size
                           : (rows + row_block - 1) / row_block * assay_matrix_n_groups(&m);
        m.scale_dtype = c->method == ASSAY_METHOD_LLM_INT8 ? ASSAY_DTYPE_F32 : assay_grid_stored_dtype(&spec);
        m.global_scale = c->precision == ASSAY_PRECISION_NVFP4 ? 1.0f : 0;
        m.zeros = c->asymmetric ? &zero : NULL;
        m.real_zeros = assay_method_get(c->method)->real_zeros ? &real_zero : NULL;
        m.g_idx = c->act_order == ASSAY_ACT_ORDER_GROUP && c->group_size ? &g : NULL;
        m.global_scale = c->precision == ASSAY_PRECISION_NVFP4 ? 1.0f : 0;
        m.nested = c->double_quant ? &nested : NULL;
        assay_matrix_bits(&m, &codes, &scales);
    }
    if (code_bits) *code_bits = codes;
    if (scale_bits) *scale_bits = scales;
    return codes + scales;
}
