/* choice.c: one choice: method, precision and options. The options are rows of options.def; everything here that walks over them is
 * written once for all. A draft is what a mapping gave; it becomes a choice when its method has filled in the rest, so that a default may
 * depend on what was given. */
#include "method/choice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

/* --- methods by name --- */

#define X(NAME, name) extern const assay_method assay_method_##name;
#include "method/methods.def"
#undef X

static const struct {
    const char *name;
    const assay_method *method;
} methods[] = {
#define X(NAME, name) {#name, &assay_method_##name},
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
    static const char *const absent[] = {"spqr", "quip", "aqlm", "exl3", "omniquant"};
    for (size_t i = 0; i < ASSAY_LEN(absent); i++)
        if (!strcmp(absent[i], word)) return true;
    return false;
}

bool assay_is_method_word(const char *word) {
    assay_method_id m;
    return assay_method_parse(&m, word) || is_absent_method(word);
}

static assay_status unknown_method(const char *word, const assay_yaml_doc *doc, const assay_yaml *y, assay_err *err) {
    const char *names[ASSAY_LEN(methods)];
    char list[256] = "";
    for (size_t i = 0, used = 0; i < ASSAY_LEN(methods) && used < sizeof list; i++) {
        names[i] = methods[i].name;
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", names[i]);
    }
    if (is_absent_method(word))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s:%d: method '%s' is not in this build; it has%s", assay_yaml_name(doc),
                          y ? y->line : 1, word, list);
    const char *near = assay_nearest(word, names, ASSAY_LEN(names));
    if (near) return assay_yaml_fail(doc, y, err, "unknown method '%s', did you mean '%s'?", word, near);
    return assay_yaml_fail(doc, y, err, "unknown method '%s', known are%s", word, list);
}

/* --- the table of options --- */

typedef enum option_type { TYPE_OWN, TYPE_BOOL, TYPE_NOT, TYPE_INT, TYPE_REAL, TYPE_WORD } option_type;

/* TYPE_OWN: method, precision, group_size, which have words of their own. */
static const struct {
    const char *key;
    option_type type;
    size_t offset, size; /* of the field in assay_choice */
    double limit;
    const char *words;
} options[ASSAY_OPT_COUNT] = {
    {"method", TYPE_OWN, offsetof(assay_choice, method), sizeof(assay_method_id), 0, ""},
    {"precision", TYPE_OWN, offsetof(assay_choice, precision), sizeof(assay_precision), 0, ""},
    {"group_size", TYPE_OWN, offsetof(assay_choice, group_size), sizeof(int64_t), 0, ""},
#define X(ID, key, TYPE, field, limit, words)                                                                                           \
    {#key, TYPE_##TYPE, offsetof(assay_choice, field), sizeof(((assay_choice *)0)->field), limit, words},
#include "method/options.def"
#undef X
};

const char *assay_option_key(size_t i) {
    return options[i].key;
}

static void *field_of(assay_choice *c, size_t i) {
    return (char *)c + options[i].offset;
}

static const void *field_in(const assay_choice *c, size_t i) {
    return (const char *)c + options[i].offset;
}

/* Word number k of a list of words between spaces, its length in *n; NULL past the end. */
static const char *word_at(const char *words, int k, size_t *n) {
    for (; *words; words += *n + (words[*n] == ' ')) {
        *n = strcspn(words, " ");
        if (k-- == 0) return words;
    }
    return NULL;
}

static assay_status read_word(int *value, size_t i, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    const char *text = NULL;
    size_t n;
    ASSAY_TRY(assay_yaml_get_str(&text, doc, map, options[i].key, err));
    for (int k = 0;; k++) {
        const char *w = word_at(options[i].words, k, &n);
        if (!w)
            return assay_yaml_fail(doc, assay_yaml_find(map, options[i].key), err, "%s must be one of %s, not '%s'", options[i].key,
                                   options[i].words, text ? text : "");
        if (text && strlen(text) == n && !memcmp(text, w, n)) {
            *value = k;
            return ASSAY_OK;
        }
    }
}

static assay_status read_option(assay_draft *d, size_t i, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    const assay_yaml *y = assay_yaml_find(map, options[i].key);
    void *field = field_of(&d->c, i);
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    d->set |= 1u << i;
    switch (options[i].type) {
    case TYPE_BOOL: return assay_yaml_get_bool(field, doc, map, options[i].key, err);
    case TYPE_NOT:
        ASSAY_TRY(assay_yaml_get_bool(field, doc, map, options[i].key, err));
        *(bool *)field = !*(bool *)field;
        return ASSAY_OK;
    case TYPE_INT: return assay_yaml_get_int(field, doc, map, options[i].key, 0, (int64_t)options[i].limit, err);
    case TYPE_REAL: return assay_yaml_get_double(field, doc, map, options[i].key, 0, options[i].limit, err);
    case TYPE_WORD: return read_word(field, i, doc, map, err);
    case TYPE_OWN: break;
    }
    return ASSAY_OK;
}

/* --- method, precision, group size --- */

static bool parse_int(int64_t *out, const char *text) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    *out = v;
    return !errno && *text && !*end;
}

bool assay_draft_precision(assay_draft *d, const char *text) {
    char head[16];
    d->set |= ASSAY_OPT_PRECISION;
    d->c.mix = ASSAY_MIX_PURE;
    bool is_mix = assay_mix_parse(&d->c.mix, text);
    d->names_mix = is_mix && !assay_precision_parse(&d->c.precision, text);
    if (d->names_mix) d->c.precision = assay_mix_type(d->c.mix);
    if (is_mix || assay_precision_parse(&d->c.precision, text)) return true;
    const char *g = strrchr(text, 'g');
    size_t n = g ? (size_t)(g - text) : 0;
    if (!g || n >= sizeof head) return false;
    memcpy(head, text, n);
    head[n] = 0;
    d->set |= ASSAY_OPT_GROUP_SIZE;
    return assay_precision_parse(&d->c.precision, head) && parse_int(&d->c.group_size, g + 1) && d->c.group_size > 0;
}

static bool parse_group_size(assay_draft *d, const char *text) {
    d->set |= ASSAY_OPT_GROUP_SIZE;
    d->c.group_size = 0;
    if (!strcmp(text, "channel")) return true;
    if (!parse_int(&d->c.group_size, text) || d->c.group_size < -1) return false;
    if (d->c.group_size < 0) d->c.group_size = 0;
    return true;
}

static assay_status read_own(assay_draft *d, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    const char *method = NULL, *precision = NULL, *group = NULL;
    ASSAY_TRY(assay_yaml_get_str(&method, doc, map, "method", err));
    ASSAY_TRY(assay_yaml_get_str(&precision, doc, map, "precision", err));
    ASSAY_TRY(assay_yaml_get_str(&group, doc, map, "group_size", err));
    if (method) {
        d->set |= ASSAY_OPT_METHOD;
        if (!assay_method_parse(&d->c.method, method)) return unknown_method(method, doc, assay_yaml_find(map, "method"), err);
    }
    if (precision && !assay_draft_precision(d, precision))
        return assay_yaml_fail(doc, assay_yaml_find(map, "precision"), err, "unknown precision '%s'", precision);
    if (group && !parse_group_size(d, group))
        return assay_yaml_fail(doc, assay_yaml_find(map, "group_size"), err,
                               "group_size must be a number of columns or 'channel', not '%s'", group);
    return ASSAY_OK;
}

/* --- drafts --- */

assay_status assay_draft_read(assay_draft *d, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err) {
    *d = (assay_draft){0};
    ASSAY_TRY(read_own(d, doc, map, err));
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++)
        ASSAY_TRY(read_option(d, i, doc, map, err));
    return ASSAY_OK;
}

assay_draft assay_draft_lay_over(const assay_draft *below, const assay_draft *above) {
    if ((above->set & ASSAY_OPT_METHOD) && above->c.method != below->c.method) return *above;
    assay_draft d = *below;
    d.set |= above->set;
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++)
        if (above->set & (1u << i)) memcpy(field_of(&d.c, i), field_in(&above->c, i), options[i].size);
    if (above->set & ASSAY_OPT_PRECISION) d.c.mix = above->c.mix;
    return d;
}

assay_status assay_draft_complete(assay_choice *out, const assay_draft *d, const assay_yaml_doc *doc, const assay_yaml *map,
                                  assay_err *err) {
    if (!(d->set & ASSAY_OPT_METHOD)) return assay_yaml_fail(doc, map, err, "a recipe needs a method, for example rtn");
    const assay_method *m = assay_method_get(d->c.method);
    for (size_t i = 1; i < ASSAY_OPT_COUNT; i++)
        if ((d->set & (1u << i)) && !(m->options & (1u << i)))
            return assay_yaml_fail(doc, map, err, "%s does nothing for method %s: leave it out", options[i].key,
                                   assay_method_name(d->c.method));
    *out = d->c;
    m->complete(out, d->set);
    const char *wrong = m->check ? m->check(out) : NULL;
    if (!wrong) wrong = assay_choice_check_format(out);
    if (wrong) return assay_yaml_fail(doc, map, err, "method %s: %s", assay_method_name(d->c.method), wrong);
    return ASSAY_OK;
}

bool assay_choice_equal(const assay_choice *a, const assay_choice *b) {
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++)
        if (memcmp(field_in(a, i), field_in(b, i), options[i].size)) return false;
    return a->mix == b->mix;
}

/* --- JSON --- */

static json_t *option_to_json(const assay_choice *c, size_t i) {
    const void *field = field_in(c, i);
    size_t n;
    switch (options[i].type) {
    case TYPE_BOOL: return json_boolean(*(const bool *)field);
    case TYPE_NOT: return json_boolean(!*(const bool *)field);
    case TYPE_INT: return json_integer((json_int_t) * (const int64_t *)field);
    case TYPE_REAL: return json_real(*(const double *)field);
    case TYPE_WORD: {
        const char *w = word_at(options[i].words, *(const int *)field, &n);
        return json_stringn(w ? w : "", w ? n : 0);
    }
    case TYPE_OWN: break;
    }
    return NULL;
}

json_t *assay_choice_to_json(const assay_choice *c) {
    unsigned takes = assay_method_get(c->method)->options;
    json_t *j = json_pack("{s:s}", "method", assay_method_name(c->method));
    int bad = !j;
    if (!bad && c->method != ASSAY_METHOD_NONE)
        bad |= json_object_set_new(j, "precision", json_string(c->mix != ASSAY_MIX_PURE ? assay_mix_name(c->mix) : assay_precision_name(c->precision)));
    if (!bad && (takes & ASSAY_OPT_GROUP_SIZE)) bad |= json_object_set_new(j, "group_size", json_integer(c->group_size));
    for (size_t i = 0; i < ASSAY_OPT_COUNT && !bad; i++)
        if ((takes & (1u << i)) && options[i].type != TYPE_OWN) bad |= json_object_set_new(j, options[i].key, option_to_json(c, i));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

static assay_status option_from_json(assay_choice *c, const json_t *j, size_t i, const char *where, assay_err *err) {
    void *field = field_of(c, i);
    const char *text = NULL, *w;
    bool yes = false;
    size_t n;
    if (!json_object_get(j, options[i].key)) return ASSAY_OK;
    switch (options[i].type) {
    case TYPE_BOOL: return assay_json_get_bool(field, j, options[i].key, where, err);
    case TYPE_NOT:
        ASSAY_TRY(assay_json_get_bool(&yes, j, options[i].key, where, err));
        *(bool *)field = !yes;
        return ASSAY_OK;
    case TYPE_INT: return assay_json_get_int(field, j, options[i].key, where, err);
    case TYPE_REAL: return assay_json_get_double(field, j, options[i].key, where, err);
    case TYPE_WORD:
        ASSAY_TRY(assay_json_get_str(&text, j, options[i].key, where, err));
        for (int k = 0; text && (w = word_at(options[i].words, k, &n)); k++)
            if (strlen(text) == n && !memcmp(text, w, n)) *(int *)field = k;
        return ASSAY_OK;
    case TYPE_OWN: break;
    }
    return ASSAY_OK;
}

assay_status assay_choice_from_json(assay_choice *out, const json_t *j, const char *where, assay_err *err) {
    const char *method = NULL, *precision = NULL;
    *out = (assay_choice){0};
    ASSAY_TRY(assay_json_get_str(&method, j, "method", where, err));
    ASSAY_TRY(assay_json_get_str(&precision, j, "precision", where, err));
    ASSAY_TRY(assay_json_get_int(&out->group_size, j, "group_size", where, err));
    for (size_t i = 0; i < ASSAY_OPT_COUNT; i++)
        ASSAY_TRY(option_from_json(out, j, i, where, err));
    if (!method || !assay_method_parse(&out->method, method)) return assay_fail(err, ASSAY_EINPUT, "%s: unknown method", where);
    if (precision && assay_method_get(out->method)->is_gguf && !out->pure && assay_mix_parse(&out->mix, precision))
        out->precision = assay_mix_type(out->mix);
    else if (precision && !assay_precision_parse(&out->precision, precision))
        return assay_fail(err, ASSAY_EINPUT, "%s: unknown precision", where);
    return ASSAY_OK;
}

/* --- words --- */

static bool is_own_precision(const assay_choice *c) { /* which the method's name says already */
    return !strcmp(assay_method_name(c->method), assay_precision_name(c->precision)) || c->method == ASSAY_METHOD_LLM_INT8;
}

void assay_choice_describe(assay_str *out, const assay_choice *c) {
    unsigned takes = assay_method_get(c->method)->options, says = takes & ~assay_method_get(c->method)->implied;
    assay_precision_kind kind = assay_precision_get_kind(c->precision);
    assay_str_put(out, assay_method_name(c->method));
    if (c->method == ASSAY_METHOD_NONE) return;
    if (c->mix != ASSAY_MIX_PURE)
        assay_str_printf(out, " %s", assay_mix_name(c->mix));
    else if (!is_own_precision(c))
        assay_str_printf(out, " %s", assay_precision_name(c->precision));
    if (kind == ASSAY_KIND_INT && (takes & ASSAY_OPT_GROUP_SIZE) && c->group_size)
        assay_str_printf(out, " g%lld", (long long)c->group_size);
    if (kind == ASSAY_KIND_CODEBOOK && c->group_size != 64) assay_str_printf(out, " b%lld", (long long)c->group_size);
    if (c->asymmetric && kind == ASSAY_KIND_INT) assay_str_put(out, " asym");
    if (c->mse) assay_str_put(out, " mse");
    if (c->double_quant) assay_str_put(out, " dq");
    if ((takes & ASSAY_OPT_THRESHOLD) && c->threshold != 6.0) assay_str_printf(out, " t%g", c->threshold);
    if (c->scale == ASSAY_SCALE_TENSOR) assay_str_put(out, " tensor");
    if (c->scale == ASSAY_SCALE_BLOCK) assay_str_put(out, " block");
    if (c->activations == ASSAY_ACTIVATIONS_STATIC) assay_str_put(out, " static");
    if (c->awq_scale && (says & ASSAY_OPT_AWQ_SCALE)) assay_str_put(out, " awq");
    if (c->smooth && (says & ASSAY_OPT_SMOOTH)) assay_str_put(out, " smooth");
    static const char *const orders[] = {"", " act-order static", " act-order group", " act-order gar"};
    assay_str_put(out, orders[c->act_order]);
}

/* --- what a choice comes to --- */

assay_grid_spec assay_choice_grid(const assay_choice *c, assay_dtype model_dtype) {
    assay_grid_spec s = {.precision = c->precision,
                         .group_size = c->group_size,
                         .asymmetric = c->asymmetric,
                         .mse = c->mse,
                         .rule = ASSAY_SCALE_CT,
                         .scale_dtype = c->format == ASSAY_FORMAT_AUTO ? model_dtype : ASSAY_DTYPE_F16};
    if (assay_precision_get_kind(c->precision) == ASSAY_KIND_CODEBOOK) s.scale_dtype = ASSAY_DTYPE_F32;
    if (c->scale == ASSAY_SCALE_TENSOR) s.row_block = INT64_MAX;
    if (c->scale == ASSAY_SCALE_BLOCK) {
        s.row_block = 128;
        s.group_size = 128;
    }
    return s;
}

assay_convention assay_choice_convention(const assay_choice *c) {
    if (c->method == ASSAY_METHOD_NONE) return ASSAY_CONVENTION_HF;
    if (assay_method_get(c->method)->is_gguf) return ASSAY_CONVENTION_GGUF;
    if (c->method == ASSAY_METHOD_LLM_INT8 || assay_precision_get_kind(c->precision) == ASSAY_KIND_CODEBOOK) return ASSAY_CONVENTION_BNB;
    if (assay_method_get(c->method)->real_zeros) return ASSAY_CONVENTION_HQQ;
    if (c->precision == ASSAY_PRECISION_FP8_E5M2) return ASSAY_CONVENTION_FP8;
    static const assay_convention own[] = {[ASSAY_FORMAT_AUTO] = ASSAY_CONVENTION_CT,
                                           [ASSAY_FORMAT_GPTQ] = ASSAY_CONVENTION_GPTQ,
                                           [ASSAY_FORMAT_GPTQ_V2] = ASSAY_CONVENTION_GPTQ_V2,
                                           [ASSAY_FORMAT_AWQ] = ASSAY_CONVENTION_AWQ};
    return own[c->format];
}

const char *assay_choice_check_format(const assay_choice *c) {
    int bits = assay_precision_bits(c->precision);
    if (c->format == ASSAY_FORMAT_AUTO) return NULL;
    if (assay_precision_get_kind(c->precision) != ASSAY_KIND_INT || c->activations != ASSAY_ACTIVATIONS_16BIT)
        return "formats gptq and awq hold integers with 16-bit activations";
    if (c->format == ASSAY_FORMAT_AWQ && (bits != 4 || c->act_order == ASSAY_ACT_ORDER_GROUP))
        return "format awq holds int4 without activation order by group";
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8) return "format gptq holds int2, int3, int4 and int8";
    if (c->format == ASSAY_FORMAT_GPTQ && c->asymmetric)
        return "format gptq (version 1) has no place for a zero point of 0: take gptq_v2, or symmetric";
    return NULL;
}

const char *assay_choice_check_groups(const assay_choice *c, int64_t rows, int64_t cols) {
    (void)rows;
    return c->group_size && cols % c->group_size ? "the group size does not divide its columns" : NULL;
}

bool assay_choice_has_real_zeros(const assay_choice *c) {
    return assay_method_get(c->method)->real_zeros;
}

/* The static scale of a matrix's input: its largest magnitude over the calibration tokens, on the grid's largest value. */
static float static_scale(const assay_item *item) {
    float top = 0, most = 127.0f;
    for (int64_t k = 0; item->in && item->in->absmax && k < item->in->cols; k++)
        top = ASSAY_MAX(top, item->in->absmax[k]);
    if (item->choice->precision == ASSAY_PRECISION_FP8_E4M3) most = 448.0f;
    if (item->choice->precision == ASSAY_PRECISION_FP8_E5M2) most = 57344.0f;
    return top > 0 ? top / most : 1.0f;
}

void assay_item_set_activations(assay_item *item) {
    const assay_choice *c = item->choice;
    item->out.act_dtype = item->model_dtype;
    item->out.act_bits = c->activations == ASSAY_ACTIVATIONS_16BIT ? 16 : 8;
    item->out.act_group = c->activations == ASSAY_ACTIVATIONS_DYNAMIC && c->scale == ASSAY_SCALE_BLOCK ? 128 : 0;
    item->out.input_scale = c->activations == ASSAY_ACTIVATIONS_STATIC ? static_scale(item) : 0;
}
