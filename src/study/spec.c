/* spec.c: study YAML -> assay_study_spec. docs/studies.md documents every key that stands here. */
#include "study/spec.h"

#include <string.h>
#include <sys/stat.h>
#include "base/file.h"
#include "base/str.h"
#include "base/yaml.h"

static const char *const study_keys[] = {"study", "model", "suite", "variants", "baseline", "rerun", "policy", "serving",
                                         "devices", "prices", "prefer", "research", "calibration"};
/* Beside the recipe's own keys. */
static const char *const variant_keys[] = {"name", "path", "activations", "kv", "adapter", "recipe", "endpoint", "target_bpw", "mix", "sensitivity",
                                           "imatrix"};

static const char *const act_words[] = {"auto", "f32", "bf16", "f16", "int8"};

const char *assay_act_mode_word(assay_act_mode m) {
    return (unsigned)m < ASSAY_LEN(act_words) ? act_words[m] : NULL;
}

bool assay_act_mode_parse(assay_act_mode *out, const char *word) {
    for (size_t i = 0; i < ASSAY_LEN(act_words); i++)
        if (!strcmp(act_words[i], word)) {
            *out = (assay_act_mode)i;
            return true;
        }
    return false;
}

typedef struct reader {
    assay_study_spec *spec;
    const assay_yaml_doc *doc;
    const char *dir;
} reader;

static assay_status copy(const char **out, reader *r, const char *text, assay_err *err) {
    *out = assay_arena_strndup(&r->spec->arena, text, strlen(text));
    return *out ? ASSAY_OK : assay_nomem(err);
}

/* "examples/../models/demo" -> "models/demo", where that is the same place: `examples` is a folder and no link to one. */
static void tidy_path(char *path) {
    for (char *up; (up = strstr(path, "/../"));) {
        char *begin = up;
        struct stat st;
        while (begin > path && begin[-1] != '/') begin--;
        *up = 0;
        bool plain = begin < up && strcmp(begin, "..") && strcmp(begin, ".") && lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
        *up = '/';
        if (!plain) return;
        memmove(begin, up + 4, strlen(up + 4) + 1);
    }
}

static assay_status copy_path(const char **out, reader *r, const char *text, assay_err *err) {
    char *path = assay_path_join(r->dir, text);
    if (!path) return assay_nomem(err);
    tidy_path(path);
    assay_status s = copy(out, r, path, err);
    assay_free(path);
    return s;
}

/* Optional text; need names what is missing otherwise. */
static assay_status get_text(const char **out, reader *r, const assay_yaml *map, const char *key, bool need, bool path, assay_err *err) {
    const char *text = NULL;
    ASSAY_TRY(assay_yaml_get_str(&text, r->doc, map, key, err));
    if (need && (!text || !*text)) return assay_yaml_fail(r->doc, map, err, "key '%s' is missing", key);
    *out = NULL;
    if (!text) return ASSAY_OK;
    return path ? copy_path(out, r, text, err) : copy(out, r, text, err);
}

/* Names become folders and rows of tables. */
static assay_status check_name(reader *r, const assay_yaml *y, const char *name, assay_err *err) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (strspn(name, allowed) == strlen(name) && name[0] != '.' && strlen(name) <= 64) return ASSAY_OK;
    return assay_yaml_fail(r->doc, y, err, "'%s' is no name: up to 64 letters, digits, '.', '_' and '-', not beginning with '.'", name);
}

static assay_status get_activations(assay_act_mode *out, reader *r, const assay_yaml *map, assay_err *err) {
    const char *word = NULL;
    ASSAY_TRY(assay_yaml_get_str(&word, r->doc, map, "activations", err));
    if (word && !assay_act_mode_parse(out, word))
        return assay_yaml_fail(r->doc, assay_yaml_find(map, "activations"), err, "activations must be auto, f32, bf16, f16 or int8, not '%s'", word);
    return ASSAY_OK;
}

static assay_status get_kv(assay_kv_kind *out, reader *r, const assay_yaml *map, assay_err *err) {
    const char *word = NULL;
    ASSAY_TRY(assay_yaml_get_str(&word, r->doc, map, "kv", err));
    if (word && !assay_kv_kind_parse(out, word))
        return assay_yaml_fail(r->doc, assay_yaml_find(map, "kv"), err, "kv must be one of %s, not '%s'", assay_kv_kind_list(), word);
    return ASSAY_OK;
}

/* --- variants --- */

/* Only the way it runs is another: the model itself is the checkpoint. */
static bool is_model_itself(const assay_yaml *y) {
    static const char *const own[] = {"name", "activations", "kv", "adapter"};
    bool differs = false;
    for (size_t i = 0; i < y->n; i++) {
        bool known = false;
        for (size_t k = 0; k < ASSAY_LEN(own); k++) known |= !strcmp(y->keys[i], own[k]);
        if (!known) return false;
        differs |= !strcmp(y->keys[i], "kv") || !strcmp(y->keys[i], "adapter");
    }
    return differs;
}

/* recipe: "one line", instead of the recipe's keys in the variant. */
static assay_status read_recipe_line(assay_variant_spec *v, reader *r, const assay_yaml *y, const char *line, assay_err *err) {
    for (size_t i = 0; i < y->n; i++) {
        bool own = false;
        for (size_t k = 0; k < ASSAY_LEN(variant_keys); k++) own |= !strcmp(y->keys[i], variant_keys[k]);
        if (!own) return assay_yaml_fail(r->doc, y->items[i], err, "'%s' belongs into the line of `recipe`, or leave `recipe` out", y->keys[i]);
    }
    assay_status s = assay_recipe_from_string(&v->recipe, line, err);
    return s == ASSAY_OK ? s : assay_err_prefix(err, "%s:%d", assay_yaml_name(r->doc), y->line);
}

static assay_status read_path(assay_variant_spec *v, reader *r, const assay_yaml *y, assay_err *err) {
    static const char *const made[] = {"recipe", "target_bpw", "mix", "sensitivity", "imatrix"};
    ASSAY_TRY(get_text(&v->path, r, y, "path", false, true, err));
    for (size_t i = 0; i < ASSAY_LEN(made); i++)
        if (assay_yaml_find(y, made[i]))
            return assay_yaml_fail(r->doc, y, err, "'%s' is for variants that are made; this one has a path", made[i]);
    for (size_t k = 0; k < ASSAY_LEN(variant_keys); k++) assay_yaml_find(y, variant_keys[k]);
    return assay_yaml_check_unknown(r->doc, y, "a variant with a path (it takes no recipe)", variant_keys, ASSAY_LEN(variant_keys), err);
}

/* target_bpw, mix, sensitivity: the recipe is what a mixture begins with. */
static assay_status read_mixture(assay_variant_spec *v, reader *r, const assay_yaml *y, assay_err *err) {
    const char *word = NULL;
    ASSAY_TRY(assay_yaml_get_double(&v->target_bpw, r->doc, y, "target_bpw", 1, 16, err));
    ASSAY_TRY(get_text(&v->mix, r, y, "mix", false, false, err));
    ASSAY_TRY(assay_yaml_get_str(&word, r->doc, y, "sensitivity", err));
    if ((v->mix || word) && !(v->target_bpw > 0))
        return assay_yaml_fail(r->doc, y, err, "%s does nothing without target_bpw", v->mix ? "mix" : "sensitivity");
    if (word && !assay_sensitivity_parse(&v->sensitivity, word))
        return assay_yaml_fail(r->doc, assay_yaml_find(y, "sensitivity"), err, "sensitivity must be auto, kl or fisher, not '%s'", word);
    return ASSAY_OK;
}

/* imatrix: FILE | calibration | none: where method gguf's importance comes from; absent: from the study's calibration, when it has one. */
static assay_status read_imatrix(assay_variant_spec *v, reader *r, const assay_yaml *y, assay_err *err) {
    const assay_yaml *at = assay_yaml_find(y, "imatrix");
    const char *text = NULL;
    ASSAY_TRY(assay_yaml_get_str(&text, r->doc, y, "imatrix", err));
    if (!at) return ASSAY_OK;
    if (!text || !*text) return assay_yaml_fail(r->doc, at, err, "imatrix must be a file, calibration or none");
    if (assay_recipe_base(v->recipe)->method != ASSAY_METHOD_GGUF)
        return assay_yaml_fail(r->doc, at, err, "imatrix is for method gguf: the others see the calibration data itself");
    v->calibrates = !strcmp(text, "calibration");
    if (v->calibrates && !r->spec->calibration.data)
        return assay_yaml_fail(r->doc, at, err, "imatrix: calibration needs `calibration: {data: FILE}` in the study");
    if (v->calibrates || !strcmp(text, "none")) return ASSAY_OK;
    return copy_path(&v->imatrix, r, text, err);
}

bool assay_variant_calibrates(const assay_variant_spec *v) {
    return v->calibrates;
}

static assay_status read_variant(assay_variant_spec *v, reader *r, const assay_yaml *y, assay_err *err) {
    const char *line = NULL;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "a variant", err));
    v->line = y->line;
    ASSAY_TRY(get_text(&v->name, r, y, "name", true, false, err));
    ASSAY_TRY(check_name(r, y, v->name, err));
    ASSAY_TRY(get_activations(&v->activations, r, y, err));
    ASSAY_TRY(get_kv(&v->kv, r, y, err));
    ASSAY_TRY(get_text(&v->adapter, r, y, "adapter", false, true, err));
    if (is_model_itself(y)) {
        v->path = r->spec->model;
        return ASSAY_OK;
    }
    if (assay_yaml_find(y, "endpoint"))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s:%d: endpoint variants are not in this build", assay_yaml_name(r->doc), y->line);
    ASSAY_TRY(assay_yaml_get_str(&line, r->doc, y, "recipe", err));
    ASSAY_TRY(read_mixture(v, r, y, err));
    if (assay_yaml_find(y, "path")) return read_path(v, r, y, err);
    if (line) ASSAY_TRY(read_recipe_line(v, r, y, line, err));
    else ASSAY_TRY(assay_recipe_from_yaml(&v->recipe, r->doc, y, variant_keys, ASSAY_LEN(variant_keys), err));
    bool needs = v->target_bpw > 0 || assay_recipe_needs_calibration(v->recipe, NULL);
    v->calibrates = r->spec->calibration.data ? needs || assay_recipe_wants_calibration(v->recipe) : needs;
    if (!needs || r->spec->calibration.data) return read_imatrix(v, r, y, err);
    return assay_yaml_fail(r->doc, y, err, "variant '%s' needs calibration data: add `calibration: {data: FILE}` to the study", v->name);
}

static assay_status read_variants(reader *r, const assay_yaml *root, assay_err *err) {
    assay_study_spec *spec = r->spec;
    const assay_yaml *list = assay_yaml_find(root, "variants");
    ASSAY_TRY(assay_yaml_want(r->doc, list ? list : root, ASSAY_YAML_SEQ, "variants", err));
    if (!list->n) return assay_yaml_fail(r->doc, list, err, "the study has no variants");
    spec->variants = assay_arena_alloc(&spec->arena, list->n * sizeof *spec->variants);
    if (!spec->variants) return assay_nomem(err);
    for (size_t i = 0; i < list->n; i++) {
        assay_variant_spec *v = &spec->variants[spec->n_variants++];
        ASSAY_TRY(read_variant(v, r, list->items[i], err));
        bool taken = !strcmp(v->name, spec->baseline.name);
        for (size_t k = 0; k < i; k++) taken |= !strcmp(v->name, spec->variants[k].name);
        if (taken) return assay_yaml_fail(r->doc, list->items[i], err, "the name '%s' is given twice", v->name);
    }
    return ASSAY_OK;
}

/* baseline: {name: bf16, activations: f32, kv: bf16} */
static assay_status read_baseline(reader *r, const assay_yaml *root, assay_err *err) {
    static const char *const keys[] = {"name", "activations", "kv"};
    const assay_yaml *y = assay_yaml_find(root, "baseline");
    assay_variant_spec *b = &r->spec->baseline;
    b->path = r->spec->model;
    if (y && y->kind != ASSAY_YAML_NULL) {
        ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "baseline", err));
        b->line = y->line;
        ASSAY_TRY(get_text(&b->name, r, y, "name", false, false, err));
        ASSAY_TRY(get_activations(&b->activations, r, y, err));
        ASSAY_TRY(get_kv(&b->kv, r, y, err));
        ASSAY_TRY(assay_yaml_check_unknown(r->doc, y, "baseline", keys, ASSAY_LEN(keys), err));
    }
    if (!b->name) ASSAY_TRY(copy(&b->name, r, "baseline", err));
    return check_name(r, y ? y : root, b->name, err);
}

/* rerun: true | false | {batch: 7} */
static assay_status read_rerun(reader *r, const assay_yaml *root, assay_err *err) {
    static const char *const keys[] = {"batch"};
    const assay_yaml *y = assay_yaml_find(root, "rerun");
    int64_t batch = 7;
    r->spec->rerun = true;
    if (y && y->kind == ASSAY_YAML_MAP) {
        ASSAY_TRY(assay_yaml_get_int(&batch, r->doc, y, "batch", 1, 4096, err));
        ASSAY_TRY(assay_yaml_check_unknown(r->doc, y, "rerun", keys, ASSAY_LEN(keys), err));
    } else {
        ASSAY_TRY(assay_yaml_get_bool(&r->spec->rerun, r->doc, root, "rerun", err));
    }
    r->spec->rerun_batch = (int)batch;
    return ASSAY_OK;
}

/* --- deployment --- */

static assay_status read_serving(reader *r, const assay_yaml *root, assay_err *err) {
    static const char *const keys[] = {"context", "concurrency", "prompt", "output", "kv", "runtime"};
    const assay_yaml *y = assay_yaml_find(root, "serving");
    assay_serving *s = &r->spec->serving;
    const char *kv = NULL;
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, "serving", err));
    const struct { const char *key; int64_t *value; } numbers[] = {
        {"context", &s->context}, {"concurrency", &s->concurrency}, {"prompt", &s->prompt}, {"output", &s->output}};
    for (size_t i = 0; i < ASSAY_LEN(numbers); i++)
        ASSAY_TRY(assay_yaml_get_int(numbers[i].value, r->doc, y, numbers[i].key, 1, INT64_C(1) << 40, err));
    ASSAY_TRY(assay_yaml_get_str(&kv, r->doc, y, "kv", err));
    if (kv && !assay_kv_parse(&r->spec->kv, kv)) return assay_yaml_fail(r->doc, assay_yaml_find(y, "kv"), err, "unknown KV storage '%s'", kv);
    ASSAY_TRY(get_text(&r->spec->serving_runtime, r, y, "runtime", false, false, err));
    if (r->spec->serving_runtime) {
        const assay_runtime_profile *p;
        if (assay_runtime_profile_find(&p, r->spec->serving_runtime, err) != ASSAY_OK)
            return assay_err_prefix(err, "%s:%d", assay_yaml_name(r->doc), assay_yaml_find(y, "runtime")->line);
    }
    return assay_yaml_check_unknown(r->doc, y, "serving", keys, ASSAY_LEN(keys), err);
}

static assay_status read_devices(reader *r, const assay_yaml *root, assay_err *err) {
    assay_study_spec *spec = r->spec;
    const assay_yaml *list = assay_yaml_find(root, "devices");
    if (!list || list->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, list, ASSAY_YAML_SEQ, "devices", err));
    spec->devices = assay_arena_alloc(&spec->arena, (list->n ? list->n : 1) * sizeof *spec->devices);
    if (!spec->devices) return assay_nomem(err);
    for (size_t i = 0; i < list->n; i++) {
        const assay_yaml *y = list->items[i];
        ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_SCALAR, "a device", err));
        if (assay_device_find(&spec->devices[i], y->text, err) != ASSAY_OK) {
            assay_err_prefix(err, "%s:%d", assay_yaml_name(r->doc), y->line);
            return ASSAY_EINPUT;
        }
        spec->n_devices++;
    }
    return ASSAY_OK;
}

static assay_status read_prefer(reader *r, const assay_yaml *root, assay_err *err) {
    const char *word = NULL;
    ASSAY_TRY(get_text(&r->spec->prices, r, root, "prices", false, true, err));
    ASSAY_TRY(assay_yaml_get_str(&word, r->doc, root, "prefer", err));
    if (!word || !strcmp(word, "size")) return ASSAY_OK;
    if (strcmp(word, "cost")) return assay_yaml_fail(r->doc, assay_yaml_find(root, "prefer"), err, "prefer must be size or cost, not '%s'", word);
    if (!r->spec->prices || !r->spec->n_devices)
        return assay_yaml_fail(r->doc, assay_yaml_find(root, "prefer"), err, "prefer: cost needs devices and prices");
    r->spec->prefer = ASSAY_PREFER_COST;
    return ASSAY_OK;
}

/* research: exclude | allow */
static assay_status read_research(reader *r, const assay_yaml *root, assay_err *err) {
    const char *word = NULL;
    ASSAY_TRY(assay_yaml_get_str(&word, r->doc, root, "research", err));
    r->spec->allow_research = word && !strcmp(word, "allow");
    if (!word || r->spec->allow_research || !strcmp(word, "exclude")) return ASSAY_OK;
    return assay_yaml_fail(r->doc, assay_yaml_find(root, "research"), err, "research must be exclude or allow, not '%s'", word);
}

/* calibration: {data: FILE, samples, length, ...}: method/calib.h */
static assay_status read_calibration(reader *r, const assay_yaml *root, assay_err *err) {
    assay_calib_spec *c = &r->spec->calibration;
    const assay_yaml *y = assay_yaml_find(root, "calibration");
    const char *path;
    if (!y || y->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_calib_spec_from_yaml(c, r->doc, y, err));
    ASSAY_TRY(copy_path(&path, r, c->data, err));
    char *own = assay_strdup(path);
    if (!own) return assay_nomem(err);
    assay_free(c->data);
    c->data = own;
    return ASSAY_OK;
}

/* --- the whole --- */

static assay_status read_study(reader *r, assay_err *err) {
    assay_study_spec *spec = r->spec;
    const assay_yaml *root = assay_yaml_root(r->doc);
    ASSAY_TRY(assay_yaml_want(r->doc, root, ASSAY_YAML_MAP, "a study", err));
    ASSAY_TRY(assay_yaml_check_unknown(r->doc, root, "a study", study_keys, ASSAY_LEN(study_keys), err));
    ASSAY_TRY(get_text(&spec->name, r, root, "study", true, false, err));
    ASSAY_TRY(check_name(r, root, spec->name, err));
    ASSAY_TRY(get_text(&spec->model, r, root, "model", true, true, err));
    ASSAY_TRY(get_text(&spec->suite, r, root, "suite", true, true, err));
    ASSAY_TRY(read_calibration(r, root, err));
    ASSAY_TRY(read_baseline(r, root, err));
    ASSAY_TRY(read_variants(r, root, err));
    ASSAY_TRY(read_rerun(r, root, err));
    ASSAY_TRY(assay_policy_from_yaml(&spec->policy, r->doc, assay_yaml_find(root, "policy"), err));
    ASSAY_TRY(read_serving(r, root, err));
    ASSAY_TRY(read_devices(r, root, err));
    ASSAY_TRY(read_prefer(r, root, err));
    ASSAY_TRY(read_research(r, root, err));
    spec->source = assay_yaml_to_json(root);
    return spec->source ? ASSAY_OK : assay_nomem(err);
}

static assay_status read_doc(assay_study_spec **out, const assay_yaml_doc *doc, const char *dir, assay_err *err) {
    *out = NULL;
    reader r = {.spec = assay_calloc(1, sizeof *r.spec), .doc = doc, .dir = dir};
    if (!r.spec) return assay_nomem(err);
    assay_policy_init(&r.spec->policy);
    assay_status s = copy(&r.spec->file, &r, assay_yaml_name(doc), err);
    if (s == ASSAY_OK) s = read_study(&r, err);
    if (s == ASSAY_OK) *out = r.spec;
    else assay_study_spec_free(r.spec);
    return s;
}

assay_status assay_study_spec_parse(assay_study_spec **out, const char *text, size_t n, const char *name, const char *dir, assay_err *err) {
    assay_yaml_doc *doc;
    *out = NULL;
    ASSAY_TRY(assay_yaml_parse(&doc, text, n, name, err));
    assay_status s = read_doc(out, doc, dir, err);
    assay_yaml_free(doc);
    return s;
}

assay_status assay_study_spec_load(assay_study_spec **out, const char *path, assay_err *err) {
    assay_yaml_doc *doc;
    *out = NULL;
    ASSAY_TRY(assay_yaml_load(&doc, path, err));
    char *dir = assay_path_dir(path);
    assay_status s = dir ? read_doc(out, doc, dir, err) : assay_nomem(err);
    assay_free(dir);
    assay_yaml_free(doc);
    return s;
}

void assay_study_spec_free(assay_study_spec *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_variants; i++) assay_recipe_free(s->variants[i].recipe);
    assay_calib_spec_deinit(&s->calibration);
    assay_policy_deinit(&s->policy);
    json_decref(s->source);
    assay_arena_free(&s->arena);
    assay_free(s);
}
