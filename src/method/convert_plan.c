/* convert_plan.c: what becomes of each tensor of a checkpoint, found out from the outlines of its matrices (all but their codes), so that a
 * refusal comes before anything is written and the quantization_config is known. */
#include <string.h>
#include "base/json.h"
#include "method/convert_impl.h"

/* --- the target --- */

static const struct {
    const char *word, *convention;
} SYNONYMS[] = {{"ct", "compressed-tensors"}, {"bitsandbytes", "bnb"}, {"safetensors", "hf"}, {"gptq_v1", "gptq"}};

/* What is rounded to where nothing else is said: the format's usual way. */
static const struct {
    assay_convention convention;
    assay_precision precision;
    int64_t group_size, row_block;
    bool asymmetric;
} USUAL[] = {{ASSAY_CONVENTION_GPTQ, ASSAY_PRECISION_INT4, 128, 0, false},
             {ASSAY_CONVENTION_GPTQ_V2, ASSAY_PRECISION_INT4, 128, 0, false},
             {ASSAY_CONVENTION_AWQ, ASSAY_PRECISION_INT4, 128, 0, true},
             {ASSAY_CONVENTION_CT, ASSAY_PRECISION_INT4, 128, 0, false},
             {ASSAY_CONVENTION_HQQ, ASSAY_PRECISION_INT4, 64, 0, true},
             {ASSAY_CONVENTION_BNB, ASSAY_PRECISION_NF4, 64, 0, false},
             {ASSAY_CONVENTION_FP8, ASSAY_PRECISION_FP8_E4M3, 128, 128, false},
             {ASSAY_CONVENTION_GGUF, ASSAY_PRECISION_Q8_0, 0, 0, false}};

static void shape_spec(assay_grid_spec *s, assay_convention c, int64_t group_size) {
    switch (assay_precision_get_kind(s->precision)) {
    case ASSAY_KIND_INT:
        if (group_size) s->group_size = group_size;
        if (c == ASSAY_CONVENTION_BNB) {
            s->group_size = 0;
            s->rule = ASSAY_SCALE_ABSMAX;
            s->scale_dtype = ASSAY_DTYPE_F32;
        }
        break;
    case ASSAY_KIND_CODEBOOK:
        s->group_size = 64;
        s->asymmetric = false;
        break;
    default:
        s->asymmetric = false;
        if (s->precision == ASSAY_PRECISION_MXFP4 || s->precision == ASSAY_PRECISION_NVFP4)
            s->group_size = s->precision == ASSAY_PRECISION_MXFP4 ? 32 : 16;
        else if (c != ASSAY_CONVENTION_FP8)
            s->group_size = s->row_block = 0;
    }
}

/* What the target takes when a matrix is rounded anew. */
static assay_status choose_spec(convert_run *r, const char *type, assay_err *err) {
    assay_convention c = r->target.convention;
    bool f16 = c == ASSAY_CONVENTION_GPTQ || c == ASSAY_CONVENTION_GPTQ_V2 || c == ASSAY_CONVENTION_AWQ;
    assay_precision p = ASSAY_PRECISION_F32;
    if (type && !assay_precision_parse(&p, type))
        return assay_fail(err, ASSAY_EUSAGE, "'%s' is no precision: int2 ... int8, nf4, fp4, fp8_e4m3, mxfp4, nvfp4, q4_0, q4_k ... are", type);
    if (type && assay_precision_get_kind(p) == ASSAY_KIND_DENSE)
        return assay_fail(err, ASSAY_EUSAGE, "%s is no quantized type: --to hf --dtype %s decodes", type, type);
    for (size_t i = 0; i < ASSAY_LEN(USUAL); i++) {
        if (USUAL[i].convention != c) continue;
        r->spec = (assay_grid_spec){.precision = type ? p : USUAL[i].precision,
                                    .group_size = USUAL[i].group_size,
                                    .row_block = USUAL[i].row_block,
                                    .asymmetric = USUAL[i].asymmetric,
                                    .rule = ASSAY_SCALE_CT,
                                    .scale_dtype = f16 ? ASSAY_DTYPE_F16 : r->target.model_dtype};
        shape_spec(&r->spec, c, r->o->group_size);
    }
    return ASSAY_OK;
}

static bool parse_dtype(assay_dtype *out, const char *name) {
    static const struct {
        const char *word;
        assay_dtype dtype;
    } WORDS[] = {{"f32", ASSAY_DTYPE_F32},      {"f16", ASSAY_DTYPE_F16},      {"bf16", ASSAY_DTYPE_BF16},
                 {"float32", ASSAY_DTYPE_F32}, {"float16", ASSAY_DTYPE_F16}, {"bfloat16", ASSAY_DTYPE_BF16}};
    for (size_t i = 0; name && i < ASSAY_LEN(WORDS); i++) {
        if (strcmp(WORDS[i].word, name) != 0) continue;
        *out = WORDS[i].dtype;
        return true;
    }
    return false;
}

/* What config.json says that the model's dtype is. */
static assay_dtype model_dtype(const json_t *config) {
    static const char *const keys[] = {"dtype", "torch_dtype"};
    assay_dtype t = ASSAY_DTYPE_BF16;
    for (size_t i = 0; i < ASSAY_LEN(keys); i++)
        if (parse_dtype(&t, json_string_value(json_object_get(config, keys[i])))) return t;
    const json_t *text = json_object_get(config, "text_config");
    return text ? model_dtype(text) : t;
}

assay_status convert_target_parse(convert_run *r, assay_err *err) {
    char word[40] = "";
    const char *to = r->o->to ? r->o->to : "", *colon = strchr(to, ':');
    snprintf(word, sizeof word, "%.*s", colon ? (int)ASSAY_MIN(colon - to, 39) : 39, to);
    for (size_t i = 0; i < ASSAY_LEN(SYNONYMS); i++)
        if (strcmp(word, SYNONYMS[i].word) == 0) snprintf(word, sizeof word, "%s", SYNONYMS[i].convention);
    if (!assay_convention_parse(&r->target.convention, word))
        return assay_fail(err, ASSAY_EUSAGE, "'%s' is no target: gptq, gptq_v2, awq, compressed-tensors, gguf, bnb, fp8, hqq and hf are", word);
    r->target.group_size = r->o->group_size;
    r->target.model_dtype = r->dtype = model_dtype(r->config);
    if (r->o->dtype && !parse_dtype(&r->dtype, r->o->dtype))
        return assay_fail(err, ASSAY_EUSAGE, "'%s' is no type to decode to: f32, f16 and bf16 are", r->o->dtype);
    if (r->o->dtype && r->target.convention != ASSAY_CONVENTION_HF)
        return assay_fail(err, ASSAY_EUSAGE, "a dtype belongs to --to hf, which decodes");
    ASSAY_TRY(choose_spec(r, colon ? colon + 1 : NULL, err));
    if (colon && r->target.convention == ASSAY_CONVENTION_GGUF) r->target.block = r->spec.precision;
    return ASSAY_OK;
}

/* --- what is to be done --- */

static assay_status add_step(convert_run *r, convert_action action, const assay_tensor *t, const char *name, assay_err *err) {
    ASSAY_TRY(assay_grow(&r->steps, &r->cap_steps, r->n_steps + 1, sizeof *r->steps, err));
    char *copy = assay_arena_strndup(&r->names, name, strlen(name));
    if (!copy) return assay_nomem(err);
    r->steps[r->n_steps++] = (convert_step){.action = action, .tensor = t, .name = copy};
    return ASSAY_OK;
}

static assay_status get_outline(assay_matrix *m, const convert_run *r, const char *name, assay_err *err) {
    return assay_checkpoint_outline(m, r->source, r->quant, name, r->target.model_dtype, err);
}

/* A linear layer's plain matrix, as far as names tell. */
static bool is_plain_linear(const assay_tensor *t) {
    size_t n = strlen(t->name);
    const char *last = n > 7 ? t->name + n - 7 : "";
    if (t->n_dims != 2 || strcmp(last, ".weight") != 0) return false;
    while (last > t->name && last[-1] != '.') last--;
    return !strstr(last, "embed") && strncmp(last, "wte.", 4) != 0 && strncmp(last, "wpe.", 4) != 0;
}

/* In a decoder layer and no router: what quantizers take. */
static bool is_layers_own(const char *name) {
    if (strstr(name, ".gate.weight") || strstr(name, ".router.")) return false;
    for (const char *p = strchr(name, '.'); p; p = strchr(p + 1, '.')) {
        size_t n = strspn(p + 1, "0123456789");
        if (n && p[1 + n] == '.') return true;
    }
    return false;
}

static assay_status add_plain(convert_run *r, const assay_tensor *t, assay_err *err) {
    bool round = r->round_plain && is_plain_linear(t) && is_layers_own(t->name);
    return add_step(r, round ? CONVERT_ROUND : CONVERT_COPY, t, t->name, err);
}

/* The step of a tensor, which its matrix may have already. */
static assay_status step_of(size_t *step, convert_run *r, json_t *seen, const assay_tensor *t, assay_err *err) {
    char name[600];
    *step = r->n_steps;
    if (!assay_checkpoint_part_of(name, sizeof name - 8, r->source, r->quant, t->name)) return add_plain(r, t, err);
    const json_t *known = json_object_get(seen, name);
    if (known) {
        *step = (size_t)json_integer_value(known);
        return ASSAY_OK;
    }
    if (json_object_set_new(seen, name, json_integer((json_int_t)r->n_steps)) != 0) return assay_nomem(err);
    memcpy(name + strlen(name), ".weight", sizeof ".weight");
    r->n_matrices++;
    return add_step(r, r->target.convention == ASSAY_CONVENTION_HF ? CONVERT_DECODE : CONVERT_CARRY, t, name, err);
}

/* Every tensor of the source, each matrix once; r->parts has the tensors step by step. */
static assay_status list_steps(convert_run *r, assay_err *err) {
    size_t n = assay_checkpoint_n_tensors(r->source), *step = assay_mallocn(n + 1, sizeof *step), at = 0;
    json_t *seen = json_object();
    r->parts = assay_mallocn(n + 1, sizeof *r->parts);
    assay_status s = seen && step && r->parts ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < n; i++) {
        s = step_of(&step[i], r, seen, assay_checkpoint_get(r->source, i), err);
        if (s == ASSAY_OK) r->steps[step[i]].n_parts++;
    }
    for (size_t i = 0; s == ASSAY_OK && i < r->n_steps; i++) {
        r->steps[i].parts = r->parts + at;
        at += r->steps[i].n_parts;
        r->steps[i].n_parts = 0;
    }
    for (size_t i = 0; s == ASSAY_OK && i < n; i++) {
        convert_step *p = &r->steps[step[i]];
        p->parts[p->n_parts++] = assay_checkpoint_get(r->source, i);
    }
    assay_free(step);
    json_decref(seen);
    return s;
}

/* --- does it fit? --- */

static assay_convert_target other_target(const convert_run *r, int c) {
    return (assay_convert_target){.convention = (assay_convention)c, .model_dtype = r->target.model_dtype};
}

/* The conventions that hold every matrix as it is, as words. */
static void put_exact_targets(assay_str *b, const convert_run *r) {
    bool fits[ASSAY_CONVENTION_COUNT];
    for (int c = 0; c < ASSAY_CONVENTION_COUNT; c++) fits[c] = c != ASSAY_CONVENTION_HF && c != (int)r->from;
    for (size_t i = 0; i < r->n_steps; i++) {
        assay_matrix m = {0};
        if (r->steps[i].action != CONVERT_CARRY) continue;
        bool read = get_outline(&m, r, r->steps[i].name, NULL) == ASSAY_OK;
        for (int c = 0; c < ASSAY_CONVENTION_COUNT; c++) {
            assay_convert_target t = other_target(r, c);
            fits[c] = fits[c] && read && assay_convert_check(r->steps[i].name, &m, &t, NULL) == ASSAY_OK;
        }
        assay_matrix_deinit(&m);
    }
    size_t n = 0;
    for (int c = 0; c < ASSAY_CONVENTION_COUNT; c++)
        if (fits[c]) assay_str_printf(b, "%s%s", n++ ? ", " : "", assay_convention_name((assay_convention)c));
    if (!n) assay_str_put(b, "none but its own");
}

static assay_status refuse(const convert_run *r, const assay_err *why, assay_err *err) {
    assay_str list = {0};
    put_exact_targets(&list, r);
    assay_status s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s. Exact targets: %s (or --requantize, which rounds anew, or --to hf, which decodes)",
                                why->message, assay_str_c(&list));
    assay_str_free(&list);
    return s;
}

static assay_status note_mode(convert_run *r, const assay_matrix *m) {
    const char *note = assay_convert_note(m, &r->target);
    if (note && !r->res->note[0]) snprintf(r->res->note, sizeof r->res->note, "%s", note);
    return ASSAY_OK;
}

static assay_status check_step(convert_run *r, convert_step *step, assay_quant_entry *entry, assay_err *err) {
    assay_matrix m;
    assay_err why = {0};
    ASSAY_TRY(get_outline(&m, r, step->name, err));
    assay_status s = assay_convert_check(step->name, &m, &r->target, &why);
    if (s == ASSAY_OK) {
        *entry = assay_convert_entry(step->name, &m, &r->target);
        note_mode(r, &m);
    } else if (s == ASSAY_EUNSUPPORTED && r->o->requantize) {
        step->action = CONVERT_ROUND;
        s = ASSAY_OK;
    } else {
        s = s == ASSAY_EUNSUPPORTED ? refuse(r, &why, err) : assay_fail(err, s, "%s", why.message);
    }
    assay_matrix_deinit(&m);
    return s;
}

assay_quant_entry convert_rounded_entry(const convert_run *r, const char *name) {
    const assay_grid_spec *g = &r->spec;
    bool fp8 = g->precision == ASSAY_PRECISION_FP8_E4M3 || g->precision == ASSAY_PRECISION_FP8_E5M2;
    bool eight = fp8 || (r->target.convention == ASSAY_CONVENTION_BNB && g->precision == ASSAY_PRECISION_INT8);
    return (assay_quant_entry){.weight_name = name,
                               .precision = g->precision,
                               .group_size = g->group_size,
                               .row_block = g->row_block,
                               .asymmetric = g->asymmetric,
                               .act_bits = eight ? 8 : 16,
                               .act_group = fp8 && g->row_block > 1 ? g->group_size : 0,
                               .outlier_threshold = eight && !fp8 ? 6.0 : 0};
}

/* Holds every matrix against the target and builds the quantization_config. */
static assay_status check_steps(convert_run *r, assay_err *err) {
    assay_quant_entry *e = assay_mallocn(r->n_steps + 1, sizeof *e);
    size_t n = 0;
    assay_status s = e ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < r->n_steps; i++) {
        convert_step *step = &r->steps[i];
        if (step->action == CONVERT_CARRY) s = check_step(r, step, &e[n], err);
        if (step->action == CONVERT_ROUND)
            e[n] = convert_rounded_entry(r, step->name);
        else if (step->action == CONVERT_COPY && is_plain_linear(step->tensor))
            e[n] = (assay_quant_entry){.weight_name = step->name, .precision = assay_precision_of_dtype(step->tensor->dtype), .act_bits = 16};
        else if (step->action != CONVERT_CARRY)
            continue;
        n++;
    }
    assay_convention c = r->target.convention;
    if (s == ASSAY_OK && c != ASSAY_CONVENTION_HF && c != ASSAY_CONVENTION_GGUF) {
        assay_quant_extras extras = {.kv_cache_scheme = json_object_get(r->quant, "kv_cache_scheme"),
                                     .transform_config = json_object_get(r->quant, "transform_config")};
        if (json_is_null(extras.kv_cache_scheme)) extras.kv_cache_scheme = NULL;
        if (!json_object_size(extras.transform_config)) extras.transform_config = NULL; /* null, or {} as the original writes it */
        s = assay_quant_config_build_with(&r->new_quant, c, e, n, r->target.model_dtype, &extras, err);
    }
    assay_free(e);
    return s;
}

/* A plain model has no codes to carry over. */
static assay_status check_plain(convert_run *r, assay_err *err) {
    assay_convention c = r->target.convention;
    bool some = false;
    for (size_t i = 0; i < assay_checkpoint_n_tensors(r->source) && !some; i++) {
        char module[600];
        some = assay_checkpoint_part_of(module, sizeof module, r->source, r->quant, assay_checkpoint_get(r->source, i)->name);
    }
    bool plain_target = c == ASSAY_CONVENTION_HF || (c == ASSAY_CONVENTION_GGUF && !r->target.block);
    r->round_plain = !some && !plain_target && r->o->requantize;
    if (some || plain_target || r->round_plain) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED,
                      "nothing in %s is quantized, so there are no codes to carry over: assay quantize chooses them (or --requantize, which "
                      "rounds to nearest)",
                      r->model);
}

assay_status convert_plan(convert_run *r, assay_err *err) {
    ASSAY_TRY(check_plain(r, err));
    ASSAY_TRY(list_steps(r, err));
    return check_steps(r, err);
}
