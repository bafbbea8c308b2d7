/* config.c: config.json and generation_config.json of the Hugging Face layout, held against the architecture
 * table.
 *
 * Keys that change the arithmetic and that no row of the table knows how to honour are refused by name rather
 * than ignored: a wrong activation, rope type or partial rotation would still produce plausible text. Keys of
 * training (dropout, initializer) and of caching are ignored. Sizes are bounded here, so that later products
 * cannot overflow 64 bits. */
#include "model/config.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/arch.h"

static const assay_arch architectures[] = {
#define ARCH(ID, class, type, ...) {.class_name = class, .model_type = type, __VA_ARGS__},
#include "model/architectures.def"
#undef ARCH
};

/* --- helpers --- */

/* A required integer of [lo, hi]. */
static assay_status need_int(int64_t *out, const json_t *j, const char *key, int64_t lo, int64_t hi,
                             const char *where, assay_err *err) {
    const json_t *v = json_object_get(j, key);
    if (!v || json_is_null(v)) return assay_fail(err, ASSAY_EINPUT, "%s: missing key '%s'", where, key);
    ASSAY_TRY(assay_json_get_int(out, j, key, where, err));
    if (*out < lo || *out > hi)
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is %lld, outside [%lld, %lld]", where, key,
                          (long long)*out, (long long)lo, (long long)hi);
    return ASSAY_OK;
}

/* An optional one; *out holds the default. */
static assay_status want_int(int64_t *out, const json_t *j, const char *key, int64_t lo, int64_t hi,
                             const char *where, assay_err *err) {
    const json_t *v = json_object_get(j, key);
    return v && !json_is_null(v) ? need_int(out, j, key, lo, hi, where, err) : ASSAY_OK;
}

static assay_status want_double(double *out, const json_t *j, const char *key, double lo, double hi,
                                const char *where, assay_err *err) {
    ASSAY_TRY(assay_json_get_double(out, j, key, where, err));
    if (!(*out >= lo && *out <= hi))
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is %g, outside [%g, %g]", where, key, *out, lo, hi);
    return ASSAY_OK;
}

static const json_t *present(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    return v && !json_is_null(v) ? v : NULL;
}

/* --- parts of config.json --- */

static const char *known_architectures(assay_str *b) {
    for (size_t i = 0; i < ASSAY_LEN(architectures); i++) {
        assay_str_put(b, i ? ", " : "");
        assay_str_put(b, architectures[i].class_name);
    }
    return assay_str_c(b);
}

/* By class name; by model_type where a config has no "architectures" (older fine-tunes). */
static assay_status parse_arch(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const char *type = NULL, *class_name = NULL;
    ASSAY_TRY(assay_json_get_str(&type, j, "model_type", where, err));
    const json_t *list = present(j, "architectures");
    if (list) {
        if (!json_is_array(list) || json_array_size(list) == 0 || !json_is_string(json_array_get(list, 0)))
            return assay_fail(err, ASSAY_EINPUT, "%s: 'architectures' is not a list of strings", where);
        class_name = json_string_value(json_array_get(list, 0));
    }
    if (!class_name && !type)
        return assay_fail(err, ASSAY_EINPUT, "%s: missing key 'architectures' (and 'model_type')", where);
    for (size_t i = 0; i < ASSAY_LEN(architectures) && !c->arch; i++) {
        const assay_arch *a = &architectures[i];
        if (class_name ? strcmp(a->class_name, class_name) == 0 : strcmp(a->model_type, type) == 0)
            c->arch = a;
    }
    if (!c->arch) {
        assay_str b = {0};
        assay_status s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: unknown architecture '%.64s'; known: %s",
                                    where, class_name ? class_name : type, known_architectures(&b));
        assay_str_free(&b);
        return s;
    }
    snprintf(c->architecture, sizeof c->architecture, "%s", c->arch->class_name);
    snprintf(c->model_type, sizeof c->model_type, "%s", type ? type : c->arch->model_type);
    return ASSAY_OK;
}

static assay_status parse_sizes(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    ASSAY_TRY(need_int(&c->hidden_size, j, "hidden_size", 1, 1 << 17, where, err));
    ASSAY_TRY(need_int(&c->intermediate_size, j, "intermediate_size", 1, 1 << 20, where, err));
    ASSAY_TRY(need_int(&c->n_layers, j, "num_hidden_layers", 1, 1024, where, err));
    ASSAY_TRY(need_int(&c->n_heads, j, "num_attention_heads", 1, 1024, where, err));
    ASSAY_TRY(need_int(&c->vocab_size, j, "vocab_size", 1, 1 << 22, where, err));
    ASSAY_TRY(need_int(&c->max_position_embeddings, j, "max_position_embeddings", 1, 1 << 26, where, err));
    c->n_kv_heads = c->n_heads;
    ASSAY_TRY(want_int(&c->n_kv_heads, j, "num_key_value_heads", 1, 1024, where, err));
    if (c->n_heads % c->n_kv_heads != 0)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: 'num_attention_heads' %lld is not a multiple of 'num_key_value_heads' %lld",
                          where, (long long)c->n_heads, (long long)c->n_kv_heads);
    bool has_head_dim = present(j, "head_dim") != NULL;
    if (!has_head_dim && c->arch->default_head_dim == 0 && c->hidden_size % c->n_heads != 0)
        return assay_fail(
            err, ASSAY_EINPUT,
            "%s: 'hidden_size' %lld is not a multiple of 'num_attention_heads' %lld and 'head_dim' is absent",
            where, (long long)c->hidden_size, (long long)c->n_heads);
    c->head_dim = c->arch->default_head_dim ? c->arch->default_head_dim : c->hidden_size / c->n_heads;
    ASSAY_TRY(want_int(&c->head_dim, j, "head_dim", 2, 1024, where, err));
    if (c->head_dim % 2 != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: head size %lld is odd", where, (long long)c->head_dim);
    return ASSAY_OK;
}

static bool wants_bias(assay_arch_bias rule, bool config) {
    return rule == ASSAY_BIAS_ALWAYS || (rule == ASSAY_BIAS_CONFIG && config);
}

static assay_status parse_flags(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    bool attention = false, mlp = false;
    ASSAY_TRY(assay_json_get_bool(&c->tie_word_embeddings, j, "tie_word_embeddings", where, err));
    ASSAY_TRY(assay_json_get_bool(&attention, j, "attention_bias", where, err));
    ASSAY_TRY(assay_json_get_bool(&mlp, j, "mlp_bias", where, err));
    c->attention_bias = wants_bias(c->arch->qkv_bias, attention);
    c->attention_out_bias = wants_bias(c->arch->out_bias, attention);
    c->mlp_bias = wants_bias(c->arch->mlp_bias, mlp);
    c->rms_norm_eps = 1e-6;
    ASSAY_TRY(want_double(&c->rms_norm_eps, j, "rms_norm_eps", 0, 1, where, err));
    const char *act = c->arch->act_name;
    ASSAY_TRY(assay_json_get_str(&act, j, "hidden_act", where, err));
    if (strcmp(act, c->arch->act_name) != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'hidden_act' is '%.40s'; %s is run with '%s' only",
                          where, act, c->architecture, c->arch->act_name);
    double partial = 1;
    ASSAY_TRY(assay_json_get_double(&partial, j, "partial_rotary_factor", where, err));
    if (partial != 1)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'partial_rotary_factor' %g is not supported for %s",
                          where, partial, c->architecture);
    return ASSAY_OK;
}

/* Newer configs also list each layer's kind; it must say what the older keys say: the list is not kept. */
static assay_status check_layer_types(const assay_config *c, const json_t *j, const char *where,
                                      assay_err *err) {
    const json_t *types = present(j, "layer_types");
    if (!types) return ASSAY_OK;
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->n_layers)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'layer_types' is not a list of %lld names", where,
                          (long long)c->n_layers);
    for (int64_t i = 0; i < c->n_layers; i++) {
        const char *t = json_string_value(json_array_get(types, (size_t)i));
        const char *expected = assay_config_window(c, i) ? "sliding_attention" : "full_attention";
        if (!t || strcmp(t, expected) != 0)
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "%s: 'layer_types' has '%.40s' for layer %lld where the other keys mean '%s'",
                              where, t ? t : "(not a string)", (long long)i, expected);
    }
    return ASSAY_OK;
}

static assay_status parse_window(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    bool use = a->window == ASSAY_WINDOW_ALL;
    if (a->window == ASSAY_WINDOW_FROM_LAYER)
        ASSAY_TRY(assay_json_get_bool(&use, j, "use_sliding_window", where, err));
    if (use) {
        const json_t *v = json_object_get(j, "sliding_window");
        c->sliding_window = v ? 0 : a->default_window; /* an explicit null means none */
        ASSAY_TRY(want_int(&c->sliding_window, j, "sliding_window", 1, 1 << 26, where, err));
        c->first_sliding_layer = a->window == ASSAY_WINDOW_FROM_LAYER ? a->default_window_layers : 0;
        if (a->window == ASSAY_WINDOW_FROM_LAYER)
            ASSAY_TRY(want_int(&c->first_sliding_layer, j, "max_window_layers", 0, 1 << 20, where, err));
    }
    return check_layer_types(c, j, where, err);
}

static assay_status parse_llama3(assay_config *c, const json_t *r, const char *where, assay_err *err) {
    static const char *const keys[] = {"low_freq_factor", "high_freq_factor",
                                       "original_max_position_embeddings"};
    for (size_t i = 0; i < ASSAY_LEN(keys); i++)
        if (!present(r, keys[i]))
            return assay_fail(err, ASSAY_EINPUT, "%s: rope type 'llama3' without '%s'", where, keys[i]);
    ASSAY_TRY(want_double(&c->rope_low_freq_factor, r, "low_freq_factor", 1e-3, 1e6, where, err));
    ASSAY_TRY(want_double(&c->rope_high_freq_factor, r, "high_freq_factor", 1e-3, 1e6, where, err));
    ASSAY_TRY(need_int(&c->rope_original_max_position, r, "original_max_position_embeddings", 1, 1 << 26,
                       where, err));
    if (c->rope_high_freq_factor <= c->rope_low_freq_factor)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'high_freq_factor' %g is not above 'low_freq_factor' %g",
                          where, c->rope_high_freq_factor, c->rope_low_freq_factor);
    return ASSAY_OK;
}

/* rope_theta and rope_scaling {type | rope_type, factor, ...}; in transformers 5 both in rope_parameters. */
static assay_status parse_rope(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const char *place = present(j, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *r = present(j, place);
    if (r && !json_is_object(r))
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is not an object", where, place);
    c->rope_theta = 10000;
    ASSAY_TRY(want_double(&c->rope_theta, j, "rope_theta", 1, 1e12, where, err));
    c->rope_kind = ASSAY_ROPE_DEFAULT;
    if (!r) return ASSAY_OK;
    char inner[200];
    snprintf(inner, sizeof inner, "%.150s: %s", where, place);
    ASSAY_TRY(want_double(&c->rope_theta, r, "rope_theta", 1, 1e12, inner, err));
    const char *type = NULL;
    ASSAY_TRY(assay_json_get_str(&type, r, "rope_type", inner, err));
    if (!type) ASSAY_TRY(assay_json_get_str(&type, r, "type", inner, err));
    if (!type)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: no 'rope_type' (one per kind of layer is not supported)", inner);
    if (strcmp(type, "default") == 0) return ASSAY_OK;
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: rope type '%.40s' is not supported; known: default, linear, llama3", inner,
                          type);
    if (!present(r, "factor"))
        return assay_fail(err, ASSAY_EINPUT, "%s: rope type '%s' without 'factor'", inner, type);
    ASSAY_TRY(want_double(&c->rope_factor, r, "factor", 1e-3, 1e6, inner, err));
    c->rope_kind = type[1] == 'i' ? ASSAY_ROPE_LINEAR : ASSAY_ROPE_LLAMA3;
    return c->rope_kind == ASSAY_ROPE_LLAMA3 ? parse_llama3(c, r, inner, err) : ASSAY_OK;
}

static assay_status parse_dtype(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    static const struct {
        const char *name;
        assay_dtype type;
    } known[] = {{"bfloat16", ASSAY_DTYPE_BF16}, {"float16", ASSAY_DTYPE_F16}, {"float32", ASSAY_DTYPE_F32}};
    const char *key = present(j, "dtype") ? "dtype" : "torch_dtype",
               *name = "float32"; /* PyTorch's default */
    ASSAY_TRY(assay_json_get_str(&name, j, key, where, err));
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    for (size_t i = 0; i < ASSAY_LEN(known); i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        c->dtype = known[i].type;
        return ASSAY_OK;
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: '%s' is '%.40s'; known: bfloat16, float16, float32",
                      where, key, name);
}

static assay_status add_eos(assay_config *c, const json_t *v, const char *where, assay_err *err) {
    if (!json_is_integer(v))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'eos_token_id' is neither an integer nor a list of them",
                          where);
    json_int_t id = json_integer_value(v);
    if (id < 0 || id >= c->vocab_size)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'eos_token_id' %lld is outside the vocabulary of %lld",
                          where, (long long)id, (long long)c->vocab_size);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_token_ids[i] == id) return ASSAY_OK;
    if (c->n_eos == (int)ASSAY_LEN(c->eos_token_ids))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: more than %zu end-of-sequence ids", where,
                          ASSAY_LEN(c->eos_token_ids));
    c->eos_token_ids[c->n_eos++] = (int32_t)id;
    return ASSAY_OK;
}

static assay_status parse_special(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    int64_t bos = c->bos_token_id;
    ASSAY_TRY(want_int(&bos, j, "bos_token_id", 0, c->vocab_size - 1, where, err));
    c->bos_token_id = (int32_t)bos;
    const json_t *eos = present(j, "eos_token_id");
    if (!eos) return ASSAY_OK;
    if (!json_is_array(eos)) return add_eos(c, eos, where, err);
    for (size_t i = 0; i < json_array_size(eos); i++)
        ASSAY_TRY(add_eos(c, json_array_get(eos, i), where, err));
    return ASSAY_OK;
}

/* Does one "apply" of a transform concern the input of the down projections alone? */
static bool is_down_input(const json_t *apply) {
    const json_t *targets = json_object_get(apply, "targets");
    const char *target = json_string_value(json_is_array(targets) ? json_array_get(targets, 0) : targets);
    return (!json_is_array(targets) || json_array_size(targets) == 1) && target && !strcmp(target, "re:.*down_proj$") &&
           !json_array_size(json_object_get(apply, "ignore"));
}

static bool is_online(const char *location) {
    return !location || (strcmp(location, "weight_input") && strcmp(location, "weight_output"));
}

/* One group of compressed-tensors' transform_config. What is fused into the weights needs nothing; of what the runtime has to do, the
 * Hadamard matrix on the down projection's input is known here. */
static assay_status parse_transform(assay_config *c, const char *name, const json_t *scheme, const char *where, assay_err *err) {
    const json_t *applies = json_object_get(scheme, "apply"), *apply;
    const char *type = json_string_value(json_object_get(scheme, "type"));
    size_t i;
    json_array_foreach(applies, i, apply) {
        const char *location = json_string_value(json_object_get(apply, "location"));
        int64_t block = (int64_t)json_integer_value(json_object_get(scheme, "head_dim"));
        if (!is_online(location)) continue;
        if (block == 0) block = c->intermediate_size;
        bool known = type && !strcmp(type, "hadamard") && location && !strcmp(location, "input") && is_down_input(apply) &&
                     !json_is_true(json_object_get(scheme, "randomize")) && block > 0 && !(block & (block - 1)) &&
                     c->intermediate_size % block == 0;
        if (!known)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: transform '%s' is none that this runtime applies (hadamard on down_proj's input)",
                              where, name);
        c->down_hadamard = block;
    }
    return ASSAY_OK;
}

static assay_status parse_transforms(assay_config *c, const char *where, assay_err *err) {
    const char *name;
    json_t *scheme;
    json_object_foreach(json_object_get(json_object_get(c->quantization_config, "transform_config"), "config_groups"), name, scheme)
        ASSAY_TRY(parse_transform(c, name, scheme, where, err));
    return ASSAY_OK;
}

static assay_status parse_quantization(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const json_t *q = present(j, "quantization_config");
    if (!q) return ASSAY_OK;
    if (!json_is_object(q))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'quantization_config' is not an object", where);
    c->quantization_config = json_deep_copy(q);
    return c->quantization_config ? parse_transforms(c, where, err) : assay_nomem(err);
}

/* --- public --- */

assay_status assay_config_parse(assay_config *out, const json_t *config, const json_t *generation,
                                const char *where, assay_err *err) {
    assay_status s;
    memset(out, 0, sizeof *out);
    out->bos_token_id = -1;
    if (!json_is_object(config)) return assay_fail(err, ASSAY_EINPUT, "%s: not a JSON object", where);
    ASSAY_GO(parse_arch(out, config, where, err));
    ASSAY_GO(parse_sizes(out, config, where, err));
    ASSAY_GO(parse_flags(out, config, where, err));
    ASSAY_GO(parse_window(out, config, where, err));
    ASSAY_GO(parse_rope(out, config, where, err));
    ASSAY_GO(parse_dtype(out, config, where, err));
    ASSAY_GO(parse_special(out, config, where, err));
    if (generation && !json_is_object(generation)) {
        s = assay_fail(err, ASSAY_EINPUT, "generation_config.json beside %s: not a JSON object", where);
        goto out;
    }
    if (generation) {
        s = parse_special(out, generation, "generation_config.json", err);
        if (s != ASSAY_OK) goto out;
    }
    ASSAY_GO(parse_quantization(out, config, where, err));
out:
    if (s != ASSAY_OK) assay_config_deinit(out);
    return s;
}

assay_status assay_config_open(assay_config *out, const char *dir, assay_err *err) {
    assay_status s;
    json_t *config = NULL, *generation = NULL;
    char *path = NULL, *gen_path = NULL, *parent = NULL;
    memset(out, 0, sizeof *out);
    bool is_dir = assay_path_is_dir(dir);
    path = is_dir ? assay_path_join(dir, "config.json") : assay_strdup(dir);
    parent = is_dir ? assay_strdup(dir) : assay_path_dir(dir);
    gen_path = parent ? assay_path_join(parent, "generation_config.json") : NULL;
    if (!path || !parent || !gen_path) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(assay_json_load(&config, path, err));
    if (assay_path_exists(gen_path)) ASSAY_GO(assay_json_load(&generation, gen_path, err));
    s = assay_config_parse(out, config, generation, path, err);
out:
    json_decref(config);
    json_decref(generation);
    assay_free(path);
    assay_free(gen_path);
    assay_free(parent);
    return s;
}

void assay_config_deinit(assay_config *c) {
    if (!c) return;
    json_decref(c->quantization_config);
    memset(c, 0, sizeof *c);
}

int assay_config_window(const assay_config *c, int64_t layer) {
    return layer >= c->first_sliding_layer ? (int)c->sliding_window : 0;
}
